//! Why a mail waits: each rule that holds it or ended it, over HTTP and by command, with a gateway and without one.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::harness::{Gateway, House, Inbox, finish, free_port, mail, request, wait_for};

/// Retries much later, so that what waits keeps waiting.
const PATIENT: &str = "[delivery]\nretry = [\"1h\"]\n";

fn why(gateway: &Gateway, id: &str) -> Value {
    let answer = gateway.get(&format!("/v1/emails/{id}/why"));
    assert_eq!(answer.status, 200, "{}", answer.json());
    let told = answer.json();
    let words = told["decisions"].to_string();
    assert!(!words.contains('@'), "no address in a decision: {words}");
    for decision in told["decisions"].as_array().unwrap() {
        assert!(!decision["text"].as_str().unwrap().is_empty() && decision["mustChange"].is_string(), "{decision}");
    }
    told
}

/// Rule and status of the first decision.
fn first(told: &Value) -> (&str, &str) {
    let decision = &told["decisions"][0];
    (decision["rule"].as_str().unwrap(), decision["status"].as_str().unwrap())
}

/// Waits until this rule binds the mail, and returns what it says.
fn bound_by(gateway: &Gateway, id: &str, rule: &str) -> Value {
    wait_for(rule, || {
        let told = why(gateway, id);
        let decisions = told["decisions"].as_array().unwrap();
        decisions.iter().find(|decision| decision["rule"] == rule && decision["status"] == "binds").cloned()
    })
}

fn later() -> Value {
    use postern::clock::{Clock as _, SystemClock};
    let ahead = |hours| (SystemClock.now() + jiff::SignedDuration::from_hours(hours)).to_string();
    json!({"sendAt": ahead(1), "deliverBy": ahead(2)})
}

fn house(relay: SocketAddr) -> House {
    House::new(relay, PATIENT)
}

#[test]
fn a_mail_for_later_and_a_deferred_one_say_until_when_and_what_the_relay_said() {
    let inbox = Inbox::start();
    let house = house(inbox.smtp);
    let gateway = house.serve();
    let queued = gateway.send_as("ann@customer.example", &later());
    let told = why(&gateway, &queued);
    assert_eq!(first(&told), ("send-at", "binds"));
    assert_eq!(told["decisions"][0]["until"], told["nextAttemptAt"]);

    let deferred = gateway.send("450@customer.example");
    let message = gateway.wait_for_status(&deferred, "deferred");
    let told = why(&gateway, &deferred);
    assert_eq!(first(&told), ("relay-reply", "binds"));
    let decision = &told["decisions"][0];
    assert_eq!(decision["until"], message["nextAttemptAt"]);
    assert_eq!((&decision["numbers"]["code"], &decision["numbers"]["attempts"]), (&json!(450), &json!(1)));
    assert_eq!(decision["numbers"]["delaySeconds"], 3_600);
    assert!(told["decisions"].as_array().unwrap().iter().any(|decision| decision["rule"] == "deadline"), "{told}");

    let by_command = house.json(&["queue", "why", &deferred]);
    assert_eq!(by_command["decisions"][0], *decision, "the command asks the gateway");
    let people = String::from_utf8(finish(&mut house.command(&["queue", "why", &deferred])).stdout).unwrap();
    for part in ["deferred (relay-refused)", "BINDS  relay-reply", "450", "To do:", "Until: ", "NEXT   deadline"] {
        assert!(people.contains(part), "{part}:\n{people}");
    }
    assert!(!people.contains('@'), "{people}");
}

#[test]
fn what_is_held_unknown_expired_suppressed_or_relayed_says_so() {
    let inbox = Inbox::start();
    let house = house(inbox.smtp);
    let trial = "from = \"t@trial.example\"\nrelays = [\"primary\"]\nrecipients_allowed = [\"trial.example\"]\n";
    house.write("tenants/trial.toml", trial);
    let trial_key = house.key_of("trial", &["send", "read"]);
    let gateway = house.serve();

    let held = gateway.send_as("ann@customer.example", &later());
    house.json(&["queue", "hold", &held, "--because", "their server is down"]);
    let told = why(&gateway, &held);
    assert_eq!(first(&told), ("hold", "binds"));
    let numbers = &told["decisions"][0]["numbers"];
    assert_eq!((&numbers["by"], &numbers["because"]), (&json!("command:queue"), &json!("their server is down")));
    let must = told["decisions"][0]["mustChange"].as_str().unwrap();
    assert!(must.contains(&format!("postern queue release {held}")), "{must}");

    let unknown = gateway.send("dropreply@customer.example");
    gateway.wait_for_status(&unknown, "unknown");
    let told = why(&gateway, &unknown);
    assert_eq!(first(&told), ("on-unknown", "binds"));
    assert_eq!(told["decisions"][0]["numbers"]["policy"], "resend-once");
    assert!(told["decisions"][0]["until"].is_string(), "{told}");

    let expired = gateway.send_as("450@customer.example", &json!({"deliverWithin": "1s"}));
    gateway.wait_for_status(&expired, "expired");
    assert_eq!(first(&why(&gateway, &expired)), ("deadline", "ended"));

    let relayed = gateway.send("bob@customer.example");
    gateway.wait_for_status(&relayed, "relayed");
    assert_eq!(first(&why(&gateway, &relayed)), ("relayed", "ended"));

    let headers = [("X-API-KEY", trial_key.as_str()), ("Content-Type", "application/json")];
    let body = mail("ann@customer.example").to_string();
    let suppressed = request("POST", &gateway.url("/v1/emails"), &headers, Some(body.as_bytes())).json();
    let suppressed = suppressed["id"].as_str().unwrap();
    let path = gateway.url(&format!("/v1/emails/{suppressed}/why"));
    let told = request("GET", &path, &[("X-API-KEY", &trial_key)], None).json();
    assert_eq!(first(&told), ("recipients-allowed", "ended"));

    assert_eq!(gateway.get(&format!("/v1/emails/{suppressed}/why")).status, 404, "another tenant's");
    let nobody = gateway.get("/v1/emails/msg_00000000000000000000000000000000/why");
    assert_eq!((nobody.status, nobody.json()["type"].clone()), (404, json!("/problems/not-found")));
    let send_only = house.key(&["send"]);
    let forbidden = request("GET", &gateway.url(&format!("/v1/emails/{held}/why")), &[("X-API-KEY", &send_only)], None);
    assert_eq!(forbidden.status, 403);
}

#[test]
fn a_relay_that_is_down_is_what_binds_and_the_summary_shows_its_breaker() {
    let house = House::new(free_port(), "[delivery]\nretry = [\"1h\"]\nbreaker_failures = 1\n");
    let gateway = house.serve();
    let id = gateway.send("ann@customer.example");
    let decision = bound_by(&gateway, &id, "relay-shut");
    assert_eq!(decision["numbers"]["relay"], "primary");
    assert!(decision["mustChange"].as_str().unwrap().contains("postern check --relay"), "{decision}");
    assert_eq!(gateway.message(&id)["attempts"], 0);

    let summary = wait_for("the breaker in the summary", || {
        let summary = house.json(&["queue", "summary"]);
        (summary["delivery"]["relays"][0]["breaker"] == "open").then_some(summary)
    });
    assert_eq!((&summary["gateway"], &summary["standings"][0]["messages"]), (&json!("running"), &json!(1)));
    let standard = &summary["waiting"][1];
    assert_eq!((&standard["lane"], &standard["messages"]), (&json!("standard"), &json!(1)));
    assert!(standard["oldestSeconds"].is_u64() && summary["rates"]["accepted"].as_f64().unwrap() > 0.0, "{summary}");
    let people = String::from_utf8(finish(&mut house.command(&["queue", "summary"])).stdout).unwrap();
    for part in ["The gateway runs.", "RELAY", "primary", "open", "Per second"] {
        assert!(people.contains(part), "{part}:\n{people}");
    }
}

#[test]
fn a_spent_rate_is_what_binds_until_the_next_may_go() {
    let inbox = Inbox::start();
    let house = House::with_relay(inbox.smtp, PATIENT, "rate = \"1/h\"");
    let gateway = house.serve();
    let id = gateway.send("ann@customer.example");
    let decision = bound_by(&gateway, &id, "relay-rate-spent");
    assert!(decision["until"].is_string() && decision["numbers"]["rate"].is_string(), "{decision}");
    assert!(decision["text"].as_str().unwrap().contains("primary"), "{decision}");
}

#[test]
fn where_no_gateway_runs_the_commands_say_so_and_tell_what_the_store_keeps() {
    let house = house(free_port());
    let mut gateway = house.serve();
    let id = gateway.send_as("ann@customer.example", &later());
    gateway.process.signal("KILL");
    gateway.process.wait();
    assert!(house.path("data/postern.db.socket").exists(), "left behind by the kill");
    let told = house.json(&["queue", "why", &id]);
    let rules: Vec<_> = told["decisions"].as_array().unwrap().iter().map(|decision| &decision["rule"]).collect();
    assert_eq!(rules, ["send-at", "gateway", "deadline"]);
    let summary = house.json(&["queue", "summary"]);
    assert_eq!((&summary["gateway"], &summary["delivery"]), (&json!("absent"), &Value::Null));
    let people = String::from_utf8(finish(&mut house.command(&["queue", "summary"])).stdout).unwrap();
    assert!(people.contains("No gateway runs"), "{people}");

    let again = house.serve_with(gateway.key.clone());
    assert_eq!(house.json(&["queue", "summary"])["gateway"], "running", "the next one takes the socket's place");
    again.stop();
    assert!(!house.path("data/postern.db.socket").exists(), "a stop in order takes it away");
    let nobody = finish(&mut house.command(&["queue", "why", "msg_00000000000000000000000000000000"]));
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
}

#[test]
fn a_gateway_that_does_not_answer_is_not_taken_for_none() {
    let house = house(free_port());
    let gateway = house.serve();
    let id = gateway.send_as("ann@customer.example", &later());
    gateway.process.signal("STOP");
    let asked = finish(house.command(&["queue", "why", &id]).args(["--format", "json"]));
    gateway.process.signal("CONT");
    let told: Value = serde_json::from_slice(&asked.stdout).unwrap();
    let decisions = told["decisions"].as_array().unwrap();
    let gateway_says = decisions.iter().find(|decision| decision["rule"] == "gateway").unwrap();
    assert!(gateway_says["text"].as_str().unwrap().contains("does not answer"), "{told}");
    assert_eq!(house.json(&["queue", "summary"])["gateway"], "running", "it goes on");
    gateway.stop();
}

#[test]
fn the_socket_has_the_rights_of_the_database() {
    use std::os::unix::fs::PermissionsExt as _;
    let house = house(free_port());
    let _gateway = house.serve();
    let mode = |name: &str| std::fs::metadata(house.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("data/postern.db"), mode("data/postern.db.socket")), (0o600, 0o600));
}
