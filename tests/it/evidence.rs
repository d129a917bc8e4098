//! What was in doubt is settled by the relay's own log: Debian's Postfix, `kill -9` between its 250 and our writing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::harness::{Gateway, House, Inbox, finish, wait_for};
use crate::postfix_relay::Postfix;

/// Nothing is decided for as long as a look may take, and then soon.
const QUICK: &str = "[delivery]\nretry = [\"3s\"]\n";
/// Mails that are killed at once.
const MAILS: usize = 8;

#[test]
fn after_a_kill_between_the_relays_250_and_our_writing_its_log_resolves_each_unknown_and_none_is_sent_again() {
    let postfix = Postfix::start_open();
    let way = Way::to(postfix.port);
    let log = format!("log_file = \"{}\"\n", postfix.path("mail.log").display());
    let house = House::with_relay(way.address, QUICK, &log);
    let checked = house.json(&["check", "--relay"]);
    assert!(checked["found"].to_string().contains("its log can be looked through"), "{checked}");

    way.keep_answers.store(true, Ordering::SeqCst);
    let mut gateway = house.serve();
    // A lane that sends unknowns once more, and one that holds them.
    let ids: Vec<String> = (0..MAILS)
        .map(|n| {
            let template = if n % 2 == 0 { "receipt" } else { "journey-tips" };
            gateway.send_as(&format!("ann{n}@customer.example"), &json!({ "emailTemplate": template }))
        })
        .collect();
    wait_for("Postfix to have taken all", || (way.kept.load(Ordering::SeqCst) == MAILS).then_some(()));
    gateway.process.signal("KILL");
    gateway.process.wait();

    way.keep_answers.store(false, Ordering::SeqCst);
    let gateway = house.serve_with(gateway.key.clone());
    let log = std::fs::read_to_string(postfix.path("mail.log")).unwrap();
    for id in &ids {
        let message = gateway.wait_for_status(id, "relayed");
        let kinds = gateway.kinds(id);
        assert_eq!(kinds, ["accepted", "attempt-committed", "unknown", "resolved", "relayed"], "{message}");
        let (queue_id, message_id) =
            (message["relayQueueId"].as_str().unwrap(), message["messageId"].as_str().unwrap());
        assert!(log.contains(&format!("{queue_id}: message-id={message_id}")), "{queue_id} {message_id}\n{log}");
        assert_eq!((&message["mayHaveBeenSent"], &message["relay"]), (&json!(true), &json!("primary")), "{message}");
        let resolved = leaf(&gateway, id, "resolved");
        assert_eq!((&resolved["by"], &resolved["outcome"]), (&json!("relay-log"), &json!("relayed")), "{resolved}");
        assert!(!resolved.to_string().contains('@'), "{resolved}");
    }
    assert_eq!(deliveries(&postfix), MAILS, "each once");
    gateway.stop();
    house.verify();
}

#[test]
fn a_mail_whose_end_the_relay_never_got_is_not_taken_for_one_that_it_took() {
    let postfix = Postfix::start_open();
    let way = Way::to(postfix.port);
    let log = format!("log_command = [\"cat\", \"{}\"]\n", postfix.path("mail.log").display());
    let house = House::with_relay(way.address, QUICK, &log);
    way.keep_dots.store(true, Ordering::SeqCst);
    let mut gateway = house.serve();
    // So long that Postfix reads its header before it has the end.
    let id =
        gateway.send_as("ann@customer.example", &json!({ "Body": format!("<p>{}</p>", "Welcome. ".repeat(9_000)) }));
    wait_for("the relay to have all but the end", || (way.kept.load(Ordering::SeqCst) == 1).then_some(()));
    let message_id = gateway.message(&id)["messageId"].as_str().unwrap().to_owned();
    let is_logged = || std::fs::read_to_string(postfix.path("mail.log")).unwrap().contains(&message_id);
    wait_for("the relay to log its Message-ID", || is_logged().then_some(()));
    gateway.process.signal("KILL");
    gateway.process.wait();

    way.keep_dots.store(false, Ordering::SeqCst);
    let gateway = house.serve_with(gateway.key.clone());
    gateway.wait_for_status(&id, "relayed");
    let kinds = gateway.kinds(&id);
    let expected = ["accepted", "attempt-committed", "unknown", "resolved", "attempt-committed", "relayed"];
    assert_eq!(kinds, expected);
    assert_eq!(leaf(&gateway, &id, "resolved")["by"], "policy");
    assert_eq!(deliveries(&postfix), 1);
}

#[test]
fn a_held_mail_in_doubt_is_resolved_by_an_operators_word_and_one_that_is_not_in_doubt_is_not() {
    let inbox = Inbox::start();
    let house =
        House::with_relay(inbox.smtp, "[delivery]\nretry = [\"100ms\"]\n", "log_file = \"/nowhere/mail.log\"\n");
    let check = finish(house.command(&["check", "--relay", "--format", "json"]).stdin(Stdio::null()));
    let problems = String::from_utf8(check.stdout).unwrap();
    assert!(problems.contains("relays.primary.log_file") && problems.contains("cannot be read"), "{problems}");

    let gateway = house.serve();
    let held = gateway.send_as("dropreply@customer.example", &json!({ "emailTemplate": "journey-tips" }));
    wait_for("the lane to hold it", || (gateway.message(&held)["reason"] == "unknown-held").then_some(()));
    let unread = "the relay's log cannot be looked through";
    assert_eq!(gateway.process.log().iter().filter(|line| line.contains(unread)).count(), 1, "told once");
    let why = gateway.get(&format!("/v1/emails/{held}/why")).json();
    assert!(why.to_string().contains(&format!("postern queue resolve {held}")), "{why}");

    let resolve = |id: &str| {
        let headers = [("X-API-KEY", gateway.key.as_str()), ("Content-Type", "application/json")];
        let url = gateway.url(&format!("/v1/emails/{id}/resolve"));
        let body = json!({ "because": "it is in the log of mx2" }).to_string();
        crate::harness::request("POST", &url, &headers, Some(body.as_bytes()))
    };
    let answer = resolve(&held);
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("relayed")), "{}", answer.json());
    assert_eq!(resolve(&held).status, 409);
    let resolved = leaf(&gateway, &held, "resolved");
    assert_eq!((&resolved["by"], &resolved["because"]), (&json!("operator"), &json!("it is in the log of mx2")));
    assert!(resolved["actor"].as_str().unwrap().starts_with("key_"), "{resolved}");

    let never_sent = gateway.send_as("ann@customer.example", &json!({ "sendAt": soon(&gateway, &held) }));
    house.json(&["queue", "hold", &never_sent]);
    assert_eq!(resolve(&never_sent).status, 409, "no attempt of it was ever in doubt");

    let other = gateway.send_as("dropreply@customer.example", &json!({ "emailTemplate": "journey-tips" }));
    wait_for("the lane to hold the other", || (gateway.message(&other)["reason"] == "unknown-held").then_some(()));
    let told = house.json(&["queue", "resolve", "--reason", "unknown-held", "--yes"]);
    assert_eq!((&told["matched"], &told["done"]), (&json!(1), &json!(1)), "{told}");
    assert_eq!(gateway.message(&other)["status"], "relayed");
    assert!(leaf(&gateway, &other, "resolved")["actor"] == "command:queue");
    gateway.stop();
    house.verify();
}

/// A time ahead at which nothing is sent in this test: the deadline of another mail.
fn soon(gateway: &Gateway, other: &str) -> Value {
    gateway.message(other)["deliverBy"].clone()
}

/// The last leaf of this kind.
fn leaf(gateway: &Gateway, id: &str, kind: &str) -> Value {
    let events = gateway.get(&format!("/v1/emails/{id}/events")).json();
    let found = events["items"].as_array().unwrap().iter().rev().find(|event| event["kind"] == kind);
    found.unwrap_or_else(|| panic!("no {kind} in {events}")).clone()
}

/// How many mails are in the mailbox, once nothing is on its way there.
fn deliveries(postfix: &Postfix) -> usize {
    wait_for("Postfix's queue to be empty", || {
        let left = |queue: &str| files_under(&postfix.path("queue").join(queue));
        (left("incoming") + left("active") + left("deferred") == 0).then_some(())
    });
    postfix.delivered().len()
}

fn files_under(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let count = |entry: std::fs::DirEntry| {
        if entry.path().is_dir() { files_under(&entry.path()) } else { 1 }
    };
    entries.flatten().map(count).sum()
}

/// The way from the gateway to its relay, on which something can get lost.
struct Way {
    address: SocketAddr,
    /// The answer to the final dot does not get through.
    keep_answers: Arc<AtomicBool>,
    /// The final dot does not get through.
    keep_dots: Arc<AtomicBool>,
    /// How often one of them did not.
    kept: Arc<AtomicUsize>,
}

impl Way {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let way = Self { address, keep_answers: Arc::default(), keep_dots: Arc::default(), kept: Arc::default() };
        let (answers, dots, kept) = (Arc::clone(&way.keep_answers), Arc::clone(&way.keep_dots), Arc::clone(&way.kept));
        thread::spawn(move || {
            for here in listener.incoming().map_while(Result::ok) {
                let there = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let (from_there, to_here) = (there.try_clone().unwrap(), here.try_clone().unwrap());
                let (answers, kept_answers) = (Arc::clone(&answers), Arc::clone(&kept));
                thread::spawn(move || carry_answers(from_there, to_here, &answers, &kept_answers));
                let (dots, kept_dots) = (Arc::clone(&dots), Arc::clone(&kept));
                thread::spawn(move || carry_mail(here, there, &dots, &kept_dots));
            }
        });
        way
    }
}

/// Line by line; what is kept is never carried, and neither is what follows it.
fn carry_answers(from: TcpStream, mut to: TcpStream, keep: &AtomicBool, kept: &AtomicUsize) {
    let mut lines = BufReader::new(from);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let is_end = line.windows(9).any(|part| part == b"queued as");
        if is_end && keep.load(Ordering::SeqCst) {
            kept.fetch_add(1, Ordering::SeqCst);
            // The gateway waits, until it is killed.
            let _ = lines.read_to_end(&mut line);
            return;
        }
        if to.write_all(&line).is_err() {
            return;
        }
        line.clear();
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

fn carry_mail(mut from: TcpStream, mut to: TcpStream, keep: &AtomicBool, kept: &AtomicUsize) {
    const DOT: &[u8] = b".\r\n";
    let mut buffer = vec![0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let part = &buffer[..read];
        if keep.load(Ordering::SeqCst) && (part == DOT || part.ends_with(b"\r\n.\r\n")) {
            let _ = to.write_all(&part[..read - DOT.len()]);
            kept.fetch_add(1, Ordering::SeqCst);
            // The relay waits, until the gateway is killed.
            let _ = from.read(&mut buffer);
            break;
        }
        if to.write_all(part).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}
