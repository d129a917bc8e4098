//! At most one mail for one fact: through the door, by the second and by fifty at once, across bounces and crashes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, House, Inbox, free_port, mail, request, wait_for};

fn stating(recipient: &str, fact: &str, window: &str) -> Value {
    let mut body = mail(recipient);
    body["dedupe"] = json!({"fact": fact, "window": window});
    body
}

fn id_of(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{}", answer.json());
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// The answers of as many requests at once as there are bodies.
fn at_once(gateway: &Gateway, bodies: &[Value]) -> Vec<Answer> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = bodies.iter().map(|body| scope.spawn(|| gateway.post(body))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn a_fact_stated_twice_is_one_mail_with_one_answer() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let gateway = house.serve();
    let body = stating("ann@customer.example", "welcome/PASS1", "30d");
    let first = gateway.post(&body);
    let id = id_of(&first);
    gateway.wait_for_status(&id, "relayed");
    let again = gateway.post(&body);
    assert_eq!((again.status, &again.body), (202, &first.body));
    assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), (None, Some("true")));
    assert_eq!(again.header("location"), Some(format!("/v1/emails/{id}").as_str()));
    // In other words, too: the fact decides, not the content; nor a deadline or a sender that are wrong by now.
    let mut other = stating("ANN@customer.example", "welcome/PASS1", "forever");
    other["Subject"] = json!("Another");
    other["deliverBy"] = json!("2020-01-01T00:00:00Z");
    assert_eq!(gateway.post(&other).body, first.body);
    let form = "recipient=ann%40customer.example&Subject=S&Body=B&dedupe%5Bfact%5D=welcome%2FPASS1&dedupe.window=1h";
    let headers = [("X-API-KEY", gateway.key.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(request("POST", &gateway.url("/v1/emails"), &headers, Some(form.as_bytes())).body, first.body);
    assert_eq!((inbox.total(), gateway.kinds(&id).len()), (1, 3));
    assert_eq!(gateway.get("/v1/emails").json()["items"].as_array().unwrap().len(), 1);
    gateway.stop();
}

#[test]
fn fifty_at_once_that_state_one_fact_are_one_mail() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let gateway = house.serve();
    let bodies = vec![stating("ann@customer.example", "welcome/PASS1", "forever"); 50];
    let ids: BTreeSet<String> = at_once(&gateway, &bodies).iter().map(id_of).collect();
    assert_eq!(ids.len(), 1);
    gateway.wait_for_status(ids.first().unwrap(), "relayed");
    assert_eq!(inbox.total(), 1);
    gateway.stop();
}

#[test]
fn another_recipient_under_a_fact_is_refused_without_naming_the_first() {
    let gateway = House::new(free_port(), "").serve_keeping();
    id_of(&gateway.post(&stating("ann@customer.example", "welcome/PASS1", "forever")));
    let other = gateway.post(&stating("bob@customer.example", "welcome/PASS1", "forever"));
    let problem = other.json();
    assert_eq!((other.status, &problem["type"]), (422, &json!("/problems/invalid")), "{problem}");
    assert_eq!(problem["errors"][0]["pointer"], "/dedupe/fact");
    assert!(!problem.to_string().contains("customer.example"), "{problem}");
    id_of(&gateway.post(&stating("bob@customer.example", "welcome/PASS2", "forever")));
}

#[test]
fn a_bounce_frees_the_fact() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let gateway = house.serve();
    let refused = id_of(&gateway.post(&stating("550@customer.example", "welcome/PASS1", "forever")));
    gateway.wait_for_status(&refused, "bounced");
    let sent = id_of(&gateway.post(&stating("ann@customer.example", "welcome/PASS1", "forever")));
    assert_ne!(sent, refused);
    gateway.wait_for_status(&sent, "relayed");
    assert_eq!(id_of(&gateway.post(&stating("ann@customer.example", "welcome/PASS1", "forever"))), sent);
    assert_eq!(inbox.total(), 1);
    gateway.stop();
}

#[test]
fn a_fact_is_free_again_when_its_window_is_over() {
    let gateway = House::new(free_port(), "").serve_keeping();
    let body = stating("ann@customer.example", "daily", "1s");
    let first = id_of(&gateway.post(&body));
    let second = wait_for("the window to be over", || {
        let id = id_of(&gateway.post(&body));
        (id != first).then_some(id)
    });
    // Not because it was forgotten altogether: the next window is as good as the first.
    let forever = id_of(&gateway.post(&stating("ann@customer.example", "for good", "forever")));
    assert_eq!(id_of(&gateway.post(&stating("ann@customer.example", "for good", "1s"))), forever);
    assert_eq!(gateway.get("/v1/emails").json()["items"].as_array().unwrap().len(), 3, "{second}");
}

#[test]
fn a_key_is_bound_to_the_answer_of_a_fact() {
    let gateway = House::new(free_port(), "").serve_keeping();
    let body = stating("ann@customer.example", "welcome/PASS1", "30d");
    let first = gateway.post(&body);
    let key = [("Idempotency-Key", "order-17")];
    assert_eq!(gateway.post_with(&body, &key).body, first.body);
    assert_eq!(gateway.post_with(&body, &key).body, first.body);
    let another = gateway.post_with(&stating("ann@customer.example", "welcome/PASS2", "30d"), &key);
    assert_eq!(another.json()["type"], "/problems/idempotency-mismatch");
}

#[test]
fn a_fact_survives_a_kill_in_the_middle() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let key = house.key(&["send", "read"]);
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        let mut gateway = house.serve_with(key.clone());
        let bodies = vec![stating("ann@customer.example", "welcome/PASS1", "forever"); 5];
        ids.extend(at_once(&gateway, &bodies).iter().map(id_of));
        gateway.process.signal("KILL");
        gateway.process.wait();
    }
    assert_eq!(ids.len(), 1);
}

#[test]
fn a_mail_is_found_by_one_pair_of_its_metadata() {
    let gateway = House::new(free_port(), "").serve_keeping();
    let send = |metadata: Value| gateway.send_as("ann@customer.example", &json!({"metadata": metadata}));
    let first = send(json!({"order": "17", "shop no. 1/b": "é +"}));
    let second = send(json!({"order": 17}));
    let third = send(json!({"order": "18"}));
    let found = |query: &str| {
        let list = gateway.get(&format!("/v1/emails?{query}")).json();
        let items = list["items"].as_array().unwrap_or_else(|| panic!("{query}: {list}"));
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(found("metadata.order=17"), [second.clone(), first.clone()]);
    assert_eq!(found("metadata.order=18&lane=standard"), [third]);
    assert_eq!(found("metadata.shop%20no.%201%2Fb=%C3%A9%20%2B"), std::slice::from_ref(&first));
    assert_eq!(found("metadata.Order=17"), Vec::<String>::new());
    let page = gateway.get("/v1/emails?metadata.order=17&limit=1").json();
    let next = format!("metadata.order=17&limit=1&cursor={}", page["nextCursor"].as_str().unwrap());
    assert_eq!(found(&next), [first]);
    let wrong = gateway.get("/v1/emails?metadata.a=1&metadata.b=2");
    assert_eq!((wrong.status, &wrong.json()["errors"][0]["pointer"]), (422, &json!("/metadata.b")));
}

#[test]
fn times_have_three_decimals_everywhere() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let gateway = house.serve();
    let receipt = gateway.post(&mail("ann@customer.example")).json();
    let message = gateway.wait_for_status(receipt["id"].as_str().unwrap(), "relayed");
    let keys = house.json(&["keys", "list"]);
    let inbox_mail = &inbox.messages(1)[0];
    for time in [
        &receipt["deliverBy"],
        &message["deliverBy"],
        &message["acceptedAt"],
        &message["endedAt"],
        &keys[0]["createdAt"],
        &inbox_mail["receivedAt"],
    ] {
        let time = time.as_str().unwrap();
        assert!(time.len() == 24 && time.as_bytes()[19] == b'.' && time.ends_with('Z'), "{time}");
    }
    assert_eq!(message["nextAttemptAt"], Value::Null);
    gateway.stop();
}
