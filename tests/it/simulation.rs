//! `postern journeys simulate` beside the gateway that really did it: the same mails to the same customers at the same times.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::{Gateway, House, Inbox, finish, request, succeed, wait_for};
use crate::journey_desk::{event, plain_templates, post};

const TRIED: &str = r#"
tenant = "demo"
trigger = "pass.first-install"
exit_on = ["pass.removed"]
contact_within = "1h"
[[step]]
send = "first"
[[step]]
wait = "2s"
[[step]]
send = "second"
unless = { wallet_status = ["both"] }
[[step]]
wait = "1s"
[[step]]
send = "third"
if = { contact = { tier = ["gold"] } }
"#;

fn house(relay: std::net::SocketAddr) -> House {
    let house = House::new(relay, "");
    house.write("journeys/tried.toml", TRIED);
    plain_templates(&house, &["first", "second", "third"]);
    house
}

fn put_contact(gateway: &Gateway, customer: &str, tier: &str) {
    let body = json!({"email": format!("{customer}@example.com"), "fields": {"tier": tier}}).to_string();
    let headers = [("X-API-KEY", gateway.key.as_str()), ("Content-Type", "application/json")];
    let answer = request("PUT", &gateway.url(&format!("/v1/contacts/{customer}")), &headers, Some(body.as_bytes()));
    assert!(answer.status < 300, "{}", answer.json());
}

fn simulate(house: &House, more: &[&str]) -> Value {
    house.json(&[&["journeys", "simulate", "tried"], more].concat())
}

/// Customer, template and time of every mail that went out, in no order.
fn really_sent(gateway: &Gateway) -> BTreeSet<(String, String, Timestamp)> {
    let mails = gateway.get("/v1/emails?limit=200").json()["items"].as_array().unwrap().clone();
    let relayed = mails.iter().filter(|mail| mail["status"] == "relayed");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let customer = |mail: &Value| text(&mail["recipient"]).split('@').next().unwrap().to_owned();
    relayed.map(|mail| (customer(mail), text(&mail["template"]), text(&mail["acceptedAt"]).parse().unwrap())).collect()
}

fn simulated(answer: &Value) -> BTreeSet<(String, String, Timestamp)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let sent = answer["mails"].as_array().unwrap().iter().filter(|mail| mail["outcome"] == "sent");
    sent.map(|mail| (text(&mail["customerId"]), text(&mail["template"]), text(&mail["at"]).parse().unwrap())).collect()
}

fn live(gateway: &Gateway) -> u64 {
    gateway.get("/v1/journeys/tried").json()["byStatus"]["active"].as_u64().unwrap()
}

/// Ways of all kinds: to the end, over by a removal, in both wallets, unwanted, with an address that comes late, or never.
fn happen(gateway: &Gateway, inbox: &Inbox) {
    for (customer, tier) in [("zq0", "gold"), ("zq1", "gold"), ("zq2", "none"), ("zq3", "gold"), ("zq4", "none")] {
        put_contact(gateway, customer, tier);
    }
    let unwanted = json!({"recipient": "zq3@example.com", "scope": "journeys"});
    let answer = post(gateway, "/v1/suppressions", &unwanted);
    assert!(answer.status < 300, "{}", answer.json());
    let nothing = json!({});
    for customer in ["zq0", "zq1", "zq2", "zq3", "zq4", "zq5", "zq6"] {
        event(gateway, "installed", customer, "apple", &nothing);
    }
    let first = |customer: &str| {
        let url = inbox.url(&format!("/messages?recipient={customer}@example.com"));
        request("GET", &url, &[], None).json()["total"].as_u64().unwrap_or_default() > 0
            || inbox.messages(50).iter().any(|mail| mail.to_string().contains(&format!("{customer}@example.com")))
    };
    for customer in ["zq1", "zq2"] {
        wait_for("the first mail", || first(customer).then_some(()));
    }
    event(gateway, "uninstalled", "zq1", "apple", &nothing);
    event(gateway, "installed", "zq2", "google", &nothing);
    put_contact(gateway, "zq5", "gold");
    wait_for("everybody's end", || (live(gateway) == 0).then_some(()));
    wait_for("all mails", || (really_sent(gateway).len() == usize::try_from(inbox.total()).unwrap()).then_some(()));
}

#[test]
fn a_simulation_of_what_was_recorded_says_what_really_happened_and_what_another_drawing_would_change() {
    let inbox = Inbox::start();
    let house = house(inbox.smtp);
    let gateway = house.serve();
    happen(&gateway, &inbox);
    let tried = simulate(&house, &["--since", "1h"]);
    let (real, told) = (really_sent(&gateway), simulated(&tried));
    let names = |mails: &BTreeSet<(String, String, Timestamp)>| {
        mails.iter().map(|(customer, template, _)| format!("{customer} {template}")).collect::<Vec<_>>()
    };
    assert_eq!(names(&told), names(&real), "{tried}");
    assert_eq!(names(&told).len(), 10, "{tried}");
    for ((customer, template, told), (.., real)) in told.iter().zip(&real) {
        let apart = real.duration_since(*told).as_millis();
        assert!((-50..1_500).contains(&apart), "{customer} {template}: {apart} ms");
    }
    // Who waits for an address in the gateway waits to the end in a simulation.
    let shown = gateway.get("/v1/journeys/tried").json();
    for (status, told, real) in
        [("completed", 4, 4), ("exited", 1, 1), ("unreachable", 1, 0), ("awaiting-contact", 0, 1), ("active", 0, 0)]
    {
        assert_eq!((&tried["byStatus"][status], &shown["byStatus"][status]), (&json!(told), &json!(real)), "{status}");
    }
    assert_eq!(tried["byStatus"]["unsubscribed"], shown["byStatus"]["unsubscribed"]);
    assert_eq!((&tried["entered"], &tried["steps"]), (&shown["entered"], &shown["steps"]));
    assert_eq!((&tried["events"], &tried["awaitedContact"]), (&json!(9), &json!(2)));
    assert_eq!((&tried["against"], &tried["difference"]), (&tried["version"], &Value::Null), "it is what runs");
    assert_eq!((tried["days"][0]["sent"].as_u64(), tried["sent"].as_u64()), (Some(10), Some(10)));

    // Drawn otherwise, and not yet taken over by the gateway.
    let other = TRIED.replace("wait = \"2s\"", "wait = \"5s\"").replace("if = { contact = { tier = [\"gold\"] } }", "");
    house.write("journeys/tried.toml", &other);
    let tried = simulate(&house, &["--since", "1h"]);
    assert_eq!(tried["difference"], json!({"added": 2, "removed": 0, "moved": 5, "same": 5 }), "{tried}");
    let changes: BTreeSet<String> = tried["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            format!(
                "{} {} {}",
                change["change"].as_str().unwrap(),
                change["customerId"].as_str().unwrap(),
                change["template"].as_str().unwrap()
            )
        })
        .collect();
    assert!(changes.contains("added zq4 third") && changes.contains("moved zq0 second"), "{changes:?}");
    // Only what was recorded since then.
    assert_eq!(simulate(&house, &["--since", "0s", "--until", "2999-01-01T00:00:00Z"])["events"], 0);
    // Nothing was sent, and nothing is kept.
    assert_eq!((inbox.total(), &gateway.get("/v1/journeys/tried").json()["entered"]), (10, &json!(7)));
    gateway.stop();
}

#[test]
fn who_had_entered_before_is_not_welcomed_again_and_a_pass_that_was_there_is_no_first_install() {
    let inbox = Inbox::start();
    let house = house(inbox.smtp);
    let gateway = house.serve();
    let email = |customer: &str| json!({"email": format!("{customer}@example.com")});
    event(&gateway, "installed", "zq0", "apple", &email("zq0"));
    event(&gateway, "installed", "zq1", "apple", &email("zq1"));
    wait_for("everybody's end", || (live(&gateway) == 0).then_some(()));
    let before = gateway.get("/v1/journeys/tried/enrollments?limit=1").json()["items"][0]["endedAt"].clone();
    // Another pass of one who entered; the pass of another in another wallet; somebody new.
    let second =
        json!({"event": "installed", "passId": "P-second", "device": "apple", "identifiers": {"customerId": "zq0"}});
    assert_eq!(post(&gateway, "/v1/pass-events", &second).status, 202);
    event(&gateway, "installed", "zq1", "google", &email("zq1"));
    event(&gateway, "installed", "zq2", "apple", &email("zq2"));
    wait_for("everybody's end", || (live(&gateway) == 0).then_some(()));
    let tried = simulate(&house, &["--since", before.as_str().unwrap()]);
    assert_eq!((&tried["events"], &tried["entered"]), (&json!(3), &json!(1)), "{tried}");
    assert!(simulated(&tried).iter().all(|(customer, ..)| customer == "zq2"), "{tried}");
    gateway.stop();
}

#[test]
fn made_up_events_are_the_same_for_the_same_seed_and_a_file_of_events_is_read_line_by_line() {
    let inbox = Inbox::start();
    let house = house(inbox.smtp);
    let made = |seed: &str| {
        let times = ["--since", "2026-03-01T00:00:00Z", "--until", "2026-04-01T00:00:00Z"];
        simulate(&house, &[&["--generate", "60", "--seed", seed], &times[..]].concat())
    };
    let one = made("7");
    assert_eq!(one, made("7"));
    assert_ne!(one["mails"], made("8")["mails"]);
    assert_eq!((&one["events"], one["entered"].as_u64().unwrap() > 20), (&json!(60), true), "{one}");

    let line = |event: &str, customer: &str, at: &str| {
        json!({"event": event, "passId": format!("P-{customer}"), "device": "apple", "occurredAt": at,
            "identifiers": {"email": format!("{customer}@example.com")}})
        .to_string()
    };
    let lines = [
        line("installed", "zqann", "2026-03-01T10:00:00Z"),
        String::new(),
        line("installed", "zqbob", "2026-03-01T10:00:01Z"),
        line("uninstalled", "zqbob", "2026-03-01T10:00:02Z"),
    ];
    let file = house.path("events.ndjson");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let file = file.display().to_string();
    let tried = simulate(&house, &["--events", &file]);
    let mails: Vec<_> = tried["mails"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mail| {
            format!(
                "{} {} {}",
                mail["at"].as_str().unwrap(),
                mail["customerId"].as_str().unwrap(),
                mail["template"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        mails,
        [
            "2026-03-01T10:00:00.000Z z\u{2026}@example.com first",
            "2026-03-01T10:00:01.000Z z\u{2026}@example.com first",
            "2026-03-01T10:00:02.000Z z\u{2026}@example.com second",
        ]
    );
    let text = succeed(&mut house.command(&["journeys", "simulate", "tried", "--events", &file, "--show-addresses"]));
    assert!(text.contains("zqann@example.com") && text.contains("Left early       1"), "{text}");

    std::fs::write(&file, format!("{}\n{{\"event\": \"installed\"}}\n", lines[0])).unwrap();
    let output = finish(&mut house.command(&["journeys", "simulate", "tried", "--events", &file]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("events.ndjson: line 2"), "{said}");
    let output = finish(&mut house.command(&["journeys", "simulate", "nobody"]));
    assert_eq!(output.status.code(), Some(2));
}
