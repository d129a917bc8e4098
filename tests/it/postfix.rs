//! Debian's Postfix as the relay, with STARTTLS and AUTH: mails arrive, and the queue ids we keep are in its log.

use std::net::SocketAddr;

use crate::harness::{House, wait_for};
use crate::postfix_relay::{Postfix, USER};

#[test]
fn mails_arrive_through_postfix_with_starttls_and_auth_and_queue_ids_match_its_log() {
    const MAILS: usize = 50;
    let postfix = Postfix::start();
    let keys = format!(
        "ca_file = \"{}\"\nusername = \"{USER}\"\npassword_file = \"{}\"\n",
        postfix.path("cert.pem").display(),
        postfix.path("password").display()
    );
    let relay = SocketAddr::from(([127, 0, 0, 1], postfix.port));
    let house = House::with_relay(relay, "", &keys.replace("ca_file", "tls_server_name = \"localhost\"\nca_file"));
    house.use_tls("starttls");

    let checked = house.json(&["check", "--relay"]);
    assert_eq!(checked["problems"], serde_json::json!([]), "{checked}");
    let gateway = house.serve();
    let ids: Vec<String> = (0..MAILS).map(|n| gateway.send(&format!("Ann <ann{n}@customer.example>"))).collect();
    let messages: Vec<_> = ids.iter().map(|id| gateway.wait_for_status(id, "relayed")).collect();
    let delivered = wait_for("Postfix to deliver all", || {
        let files = postfix.delivered();
        (files.len() == MAILS).then_some(files)
    });
    let log = std::fs::read_to_string(postfix.path("mail.log")).unwrap();
    for message in &messages {
        let queue_id = message["relayQueueId"].as_str().unwrap();
        let message_id = message["messageId"].as_str().unwrap();
        assert!(log.contains(&format!("{queue_id}: message-id={message_id}")), "{queue_id} {message_id}\n{log}");
    }
    assert!(log.contains("sasl_username=gateway") && log.contains("sasl_method=PLAIN"), "{log}");
    let one = std::fs::read_to_string(&delivered[0]).unwrap();
    assert!(one.contains("(version=TLSv1.3") || one.contains("using TLSv1.3") || log.contains("starttls=1"), "{one}");
    gateway.stop();
}

#[test]
fn a_wrong_password_opens_the_breaker_and_spends_no_mails_attempts() {
    let postfix = Postfix::start();
    std::fs::write(postfix.path("password"), "wrong\n").unwrap();
    let keys = format!(
        "tls_server_name = \"localhost\"\nca_file = \"{}\"\nusername = \"{USER}\"\npassword_file = \"{}\"\n",
        postfix.path("cert.pem").display(),
        postfix.path("password").display()
    );
    let house = House::with_relay(SocketAddr::from(([127, 0, 0, 1], postfix.port)), "", &keys);
    house.use_tls("starttls");
    let check = house.command(&["check", "--relay"]).output().unwrap();
    assert_eq!(check.status.code(), Some(2), "{}", String::from_utf8_lossy(&check.stdout));
    let gateway = house.serve();
    let id = gateway.send("ann@customer.example");
    wait_for("the breaker to open", || {
        let relays = gateway.get("/readyz").json();
        (relays["relays"][0]["breaker"] == "open").then_some(())
    });
    let message = gateway.message(&id);
    assert_eq!((message["status"].as_str(), message["attempts"].as_u64()), (Some("queued"), Some(0)));
}
