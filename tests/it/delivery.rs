//! From acceptance to the relay and back, with a relay that misbehaves by the recipient's name.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{House, Inbox, free_port, send_many, wait_for, wait_within};

/// Retries at once, so that a test needs no patience.
const QUICK: &str = "[delivery]\nretry = [\"100ms\"]\n[lanes.urgent]\nretry = [\"100ms\"]\n";

#[test]
fn a_mail_goes_in_over_http_and_out_through_the_relay() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, "").serve_keeping();
    let id = gateway.send("Ann <ann@customer.example>");
    let message = gateway.wait_for_status(&id, "relayed");
    assert_eq!(message["attempts"], 1);
    assert_eq!(message["mayHaveBeenSent"], false);
    assert_eq!(message["relay"], "primary");
    assert_eq!(gateway.kinds(&id), ["accepted", "attempt-committed", "relayed"]);
    let captured = inbox.messages(10);
    assert_eq!(captured.len(), 1);
    assert_eq!(captured[0]["queueId"], message["relayQueueId"]);
    let raw = String::from_utf8(inbox.raw(captured[0]["id"].as_str().unwrap())).unwrap();
    assert!(raw.contains(&format!("Message-ID: {}", message["messageId"].as_str().unwrap())), "{raw}");
    let content = gateway.get(&format!("/v1/emails/{id}/content"));
    assert_eq!(String::from_utf8(content.body).unwrap(), raw, "what the relay got is what is kept");
    gateway.stop();
}

#[test]
fn a_deferred_mail_is_tried_again_when_due_and_a_refused_one_ends() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, QUICK).serve_keeping();
    let deferred = gateway.send("450@customer.example");
    let refused = gateway.send("550@customer.example");
    let bounced = gateway.wait_for_status(&refused, "bounced");
    assert_eq!(bounced["attempts"], 1);
    assert_eq!(bounced["reason"], "relay-refused");
    assert!(bounced["relayReply"].as_str().unwrap().starts_with("550 5."), "{bounced}");
    assert!(bounced["endedAt"].is_string());
    let again = wait_for("a third attempt", || {
        let message = gateway.message(&deferred);
        (message["attempts"].as_u64().unwrap() >= 3).then_some(message)
    });
    assert_eq!(again["status"], "deferred");
    assert!(again["nextAttemptAt"].is_string());
    let events = gateway.get(&format!("/v1/emails/{deferred}/events")).body;
    let events = String::from_utf8(events).unwrap();
    assert!(!events.contains("customer.example"), "no address in a leaf: {events}");
    assert!(events.contains("\"code\":450"), "{events}");
}

#[test]
fn a_refusal_at_data_or_after_the_dot_is_definite() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, QUICK).serve_keeping();
    let at_data = gateway.send("data-550@customer.example");
    let after_dot = gateway.send("dot-451@customer.example");
    assert_eq!(gateway.wait_for_status(&at_data, "bounced")["mayHaveBeenSent"], false);
    assert_eq!(gateway.wait_for_status(&after_dot, "deferred")["mayHaveBeenSent"], false);
    assert_eq!(gateway.kinds(&at_data), ["accepted", "attempt-committed", "bounced"]);
}

#[test]
fn a_lost_reply_is_unknown_then_sent_once_more_and_a_second_one_is_held() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, QUICK).serve_keeping();
    let id = gateway.send("dropreply@customer.example");
    let message = gateway.wait_for_status(&id, "held");
    assert_eq!(message["reason"], "unknown-held");
    assert_eq!(message["mayHaveBeenSent"], true);
    assert_eq!(message["attempts"], 2);
    assert_eq!(
        gateway.kinds(&id),
        ["accepted", "attempt-committed", "unknown", "resolved", "attempt-committed", "unknown", "held"]
    );
    let copies = inbox.messages(10);
    assert_eq!(copies.len(), 2, "each copy the relay saw is an attempt the audit calls unknown");
    let ids: Vec<_> = copies.iter().map(|copy| message_id(&inbox.raw(copy["id"].as_str().unwrap()))).collect();
    assert_eq!(ids[0], ids[1], "the same Message-ID on every attempt");
}

#[test]
fn a_journey_mail_whose_reply_was_lost_is_held_at_once() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, "[delivery]\nretry = [\"100ms\"]\n").serve_keeping();
    let id = gateway.send_as("dropreply@customer.example", &json!({"lane": "journey"}));
    let message = gateway.wait_for_status(&id, "held");
    assert_eq!(message["attempts"], 1);
    assert_eq!(inbox.total(), 1);
}

#[test]
fn a_relay_that_is_down_spends_no_attempts_and_the_late_are_expired_never_sent() {
    let address = free_port();
    let gateway = House::new(address, "[lanes.urgent]\ndeliver_within = \"3s\"\n").serve_keeping();
    let late = gateway.send_as("code@customer.example", &json!({"lane": "urgent"}));
    let patient: Vec<String> = (0..50).map(|n| gateway.send(&format!("ann{n}@customer.example"))).collect();
    let expired = gateway.wait_for_status(&late, "expired");
    assert_eq!((&expired["attempts"], &expired["mayHaveBeenSent"]), (&json!(0), &json!(false)));
    assert_eq!(gateway.message(&patient[0])["attempts"], 0);
    assert_eq!(gateway.message(&patient[0])["status"], "queued");
    let ready = gateway.get("/readyz");
    assert_eq!(ready.status, 200, "a relay that is down is reported, not fatal");
    assert_eq!(ready.json()["relays"][0]["breaker"], "open");

    let inbox = Inbox::start_on(&address.to_string());
    let back = Instant::now();
    wait_within(Duration::from_secs(5), "the first mail after the relay's return", || {
        (inbox.total() > 0).then_some(())
    });
    for id in &patient {
        assert_eq!(gateway.wait_for_status(id, "relayed")["attempts"], 1);
    }
    assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
    assert_eq!(inbox.total(), 50, "the late one was not sent");
    let peak = inbox.counters()["sessionsPeak"].as_u64().unwrap();
    assert!(peak <= 20, "{peak} sessions at once");
}

#[test]
fn urgent_passes_a_backlog_for_one_blocked_domain_in_under_a_second() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, "[delivery]\nwindow = 200\n").serve_keeping();
    let waiting = send_many(&gateway, 5_000, &json!({}), |n| format!("silent+{n}@blocked.example"));
    assert_eq!(waiting.len(), 5_000);
    wait_for("the blocked domain to hold sessions", || (inbox.counters()["sessionsOpen"].as_u64()? > 3).then_some(()));
    let sent = Instant::now();
    let urgent = gateway.send_as("code@customer.example", &json!({"lane": "urgent"}));
    gateway.wait_for_status(&urgent, "relayed");
    assert!(sent.elapsed() < Duration::from_secs(1), "urgent took {:?}", sent.elapsed());
    let sent = Instant::now();
    let other = gateway.send("ann@customer.example");
    gateway.wait_for_status(&other, "relayed");
    assert!(sent.elapsed() < Duration::from_secs(2), "another domain took {:?}", sent.elapsed());
    gateway.stop();
}

#[test]
fn a_stop_lets_an_attempt_past_its_commit_point_end() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let gateway = house.serve();
    let key = gateway.key.clone();
    let slow = gateway.send("slow@customer.example");
    wait_for("the commit point", || (gateway.kinds(&slow).len() == 2).then_some(()));
    gateway.stop();
    let gateway = house.serve_with(key);
    assert_eq!(gateway.message(&slow)["status"], "relayed");
    assert_eq!(inbox.total(), 1);
}

#[test]
fn two_gateways_never_serve_one_store() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let _first = house.serve();
    let second = house.command(&["serve"]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another gateway"), "{second:?}");
}

fn message_id(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let line = text.lines().find(|line| line.starts_with("Message-ID:")).unwrap();
    line.to_owned()
}

#[test]
fn one_recipient_whom_the_relay_always_puts_off_slows_down_nobody() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, "").serve_keeping();
    // What Postfix answers for a domain it does not relay for, when it is set to be soft about it.
    let put_off: Vec<String> = (0..5).map(|n| gateway.send(&format!("454+{n}@customer.example"))).collect();
    for id in &put_off {
        assert_eq!(gateway.wait_for_status(id, "deferred")["attempts"], 1);
    }
    let sent = Instant::now();
    let urgent = gateway.send_as("code@customer.example", &json!({"lane": "urgent"}));
    gateway.wait_for_status(&urgent, "relayed");
    assert!(sent.elapsed() < Duration::from_secs(1), "urgent took {:?}", sent.elapsed());
}

#[test]
fn what_is_due_is_tried_in_time_while_a_backlog_drains_steadily() {
    let inbox = Inbox::start();
    let house = House::with_relay(inbox.smtp, "[lanes.urgent]\nretry = [\"1s\"]\n", "sessions = 8\n");
    let gateway = house.serve();
    let backlog = send_many(&gateway, 400, &json!({}), |n| format!("slow+{n}@customer{}.example", n % 20));
    let urgent = gateway.send_as("450@other.example", &json!({"lane": "urgent"}));
    gateway.wait_for_status(&urgent, "deferred");
    let first = Instant::now();
    wait_within(Duration::from_secs(8), "three more attempts while the backlog drains", || {
        (gateway.message(&urgent)["attempts"].as_u64().unwrap() >= 4).then_some(())
    });
    assert!(inbox.total() < backlog.len() as u64, "the backlog was still there after {:?}", first.elapsed());
}

#[test]
fn a_stop_is_told_while_attempts_end_and_no_mail_is_taken_meanwhile() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, "").serve_keeping();
    let slow = gateway.send("slow@customer.example");
    wait_for("the commit point", || (gateway.kinds(&slow).len() == 2).then_some(()));
    gateway.process.signal("TERM");
    let ready = wait_for("readiness to go", || {
        let ready = gateway.get("/readyz");
        (ready.status == 503).then_some(ready)
    });
    assert_eq!(ready.json()["stopping"], true);
    assert_eq!(gateway.post(&crate::harness::mail("ann@customer.example")).status, 503);
    assert_eq!(gateway.message(&slow)["mayHaveBeenSent"], true);
}

#[test]
fn a_stop_does_not_wait_for_a_relay_that_says_nothing() {
    // Accepts connections and never greets.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = House::new(silent.local_addr().unwrap(), "").serve_keeping();
    let id = gateway.send("ann@customer.example");
    let _connection = silent.accept().unwrap();
    assert_eq!(gateway.message(&id)["status"], "queued");
    let asked = Instant::now();
    gateway.stop();
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}

#[test]
fn mails_go_to_the_next_relay_while_the_first_is_down_and_back_when_it_is_well() {
    let first = free_port();
    let second = Inbox::start();
    let house = House::new(first, "");
    let port = second.smtp.port();
    let another = format!("[[relays]]\nname = \"second\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n");
    house.replace("[[relays]]\n", &format!("{another}[[relays]]\n"));
    let demo = house.config().join("tenants/demo.toml");
    let tenant = std::fs::read_to_string(&demo).unwrap();
    std::fs::write(&demo, tenant.replace("[\"primary\"]", "[\"primary\", \"second\"]")).unwrap();
    let gateway = house.serve();
    let id = gateway.send("ann@customer.example");
    let message = gateway.wait_for_status(&id, "relayed");
    assert_eq!((&message["relay"], &message["attempts"]), (&json!("second"), &json!(1)));
    let first = Inbox::start_on(&first.to_string());
    wait_within(Duration::from_secs(10), "mails to go to the first relay again", || {
        let id = gateway.send("ann@customer.example");
        gateway.wait_for_status(&id, "relayed");
        (first.total() > 0).then_some(())
    });
}

#[test]
fn mails_of_a_tenant_that_is_gone_are_held_in_sight() {
    let relay = free_port();
    let house = House::new(relay, "");
    house.write("tenants/other.toml", "name = \"O\"\nfrom = \"o@demo.example\"\nrelays = [\"primary\"]\n");
    let gateway = house.serve();
    let (key, id) = (gateway.key.clone(), gateway.send("ann@customer.example"));
    gateway.stop();
    let demo = house.config().join("tenants/demo.toml");
    let kept = std::fs::read_to_string(&demo).unwrap();
    std::fs::remove_file(&demo).unwrap();
    house.serve_with(key.clone()).stop();
    std::fs::write(&demo, kept).unwrap();
    let gateway = house.serve_with(key);
    let message = gateway.message(&id);
    assert_eq!((&message["status"], &message["reason"]), (&json!("held"), &json!("not-configured")));
}
