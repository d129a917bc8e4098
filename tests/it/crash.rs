//! `kill -9` at random moments under load, with a relay that loses replies.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Gateway, House, Inbox, mail, try_request, wait_for};

/// How often the gateway is killed. Built with `POSTERN_FULL_SIZE=1` in the environment: 200 times.
const KILLS: usize = if option_env!("POSTERN_FULL_SIZE").is_some() { 200 } else { 20 };
const SUBMITTERS: usize = 6;
/// Mails at most in one life, so that the inbox holds every copy of all lives.
const MAILS_PER_LIFE: usize = 8_000 / KILLS;

#[test]
fn twenty_kills_lose_nothing_and_every_second_copy_is_an_attempt_called_unknown() {
    let inbox = Inbox::start();
    // At the end only mails that lose their reply are left; to a breaker that is a relay that fails every time.
    let quick = "[delivery]\nretry = [\"200ms\"]\nbreaker_failures = 1000\n[lanes.urgent]\nretry = [\"200ms\"]\n";
    let house = House::new(inbox.smtp, quick);
    let key = house.key(&["send", "read"]);
    let numbers = AtomicUsize::new(0);
    let mut acknowledged = Vec::new();
    for kill in 0..KILLS {
        let mut gateway = house.serve_with(key.clone());
        let life = Duration::from_millis(60 + pseudo_random(kill) % 500);
        acknowledged.extend(load_until_killed(&mut gateway, life, &numbers));
    }
    assert!(acknowledged.len() > 10 * KILLS, "only {} were acknowledged: no load", acknowledged.len());

    let gateway = house.serve_with(key);
    for id in &acknowledged {
        let ended = |message: &Value| message["status"] == "relayed" || message["reason"] == "unknown-held";
        wait_for("every accepted mail to end", || {
            let message = gateway.message(id);
            assert_eq!(message["id"], id.as_str(), "lost: {message}");
            ended(&message).then_some(())
        });
    }
    let copies = copies_by_message_id(&inbox);
    let mut unknown_in_all = 0;
    for message in all_messages(&gateway) {
        let message_id = message["messageId"].as_str().unwrap();
        let seen = copies.get(message_id).copied().unwrap_or(0);
        let kinds = gateway.kinds(message["id"].as_str().unwrap());
        let unknown = kinds.iter().filter(|kind| *kind == "unknown").count();
        let relayed = usize::from(message["status"] == "relayed");
        unknown_in_all += unknown;
        assert!(seen >= relayed, "called relayed, never seen: {message} {kinds:?}");
        assert!(seen <= relayed + unknown, "seen {seen} times without an unknown to show for it: {message} {kinds:?}");
    }
    assert!(unknown_in_all > 0, "the relay lost replies and the gateway was killed: some must be unknown");
    house.verify();
    eprintln!("{KILLS} kills, {} acknowledged, 0 lost, {unknown_in_all} unknown attempts", acknowledged.len());
}

/// Submits from several threads until the gateway is killed after `life`; returns the acknowledged ids.
fn load_until_killed(gateway: &mut Gateway, life: Duration, numbers: &AtomicUsize) -> Vec<String> {
    let dead = AtomicBool::new(false);
    let last = numbers.load(Ordering::Relaxed) + MAILS_PER_LIFE;
    let (url, key) = (gateway.url("/v1/emails"), gateway.key.clone());
    std::thread::scope(|scope| {
        let submitters: Vec<_> = (0..SUBMITTERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut ids = Vec::new();
                    while !dead.load(Ordering::Relaxed) {
                        let number = numbers.fetch_add(1, Ordering::Relaxed);
                        if number >= last {
                            break;
                        }
                        // One in ten loses its reply at the relay.
                        let name = if number.is_multiple_of(10) { "dropreply" } else { "ann" };
                        let body = mail(&format!("{name}+{number}@customer{}.example", number % 7)).to_string();
                        let headers = [("X-API-KEY", key.as_str()), ("Content-Type", "application/json")];
                        match try_request("POST", &url, &headers, Some(body.as_bytes())) {
                            Ok(answer) if answer.status == 202 => {
                                ids.push(answer.json()["id"].as_str().unwrap().to_owned());
                            }
                            Ok(answer) => panic!("{} {}", answer.status, answer.json()),
                            Err(_) => break,
                        }
                    }
                    ids
                })
            })
            .collect();
        // The moment of death is the point of the test, so it is a time and not a condition.
        let (_keep, never) = std::sync::mpsc::channel::<()>();
        let _ = never.recv_timeout(life);
        gateway.process.signal("KILL");
        dead.store(true, Ordering::Relaxed);
        gateway.process.wait();
        submitters.into_iter().flat_map(|submitter| submitter.join().unwrap()).collect()
    })
}

fn copies_by_message_id(inbox: &Inbox) -> HashMap<String, usize> {
    let mut copies = HashMap::new();
    for captured in inbox.messages(10_000) {
        *copies.entry(captured["messageId"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    copies
}

fn all_messages(gateway: &Gateway) -> Vec<Value> {
    let mut all = Vec::new();
    let mut cursor = json!(null);
    loop {
        let more = cursor.as_str().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let page = gateway.get(&format!("/v1/emails?limit=200{more}")).json();
        all.extend(page["items"].as_array().unwrap().iter().cloned());
        cursor = page["nextCursor"].clone();
        if cursor.is_null() {
            return all;
        }
    }
}

/// The same moments in every run, spread as if by chance.
fn pseudo_random(number: usize) -> u64 {
    (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40
}
