//! The reminder that stops by itself: `unless` on a mail, and what its customer does before it would be sent.

use serde_json::{Value, json};

use crate::harness::{Gateway, House, Inbox, mail, request};

fn post(gateway: &Gateway, path: &str, body: &Value) -> Value {
    let headers = [("X-API-KEY", gateway.key.as_str()), ("Content-Type", "application/json")];
    let answer = request("POST", &gateway.url(path), &headers, Some(body.to_string().as_bytes()));
    assert!((200..300).contains(&answer.status), "{path}: {}", answer.json());
    answer.json()
}

/// One event of the pass of a customer.
fn passes(gateway: &Gateway, event: &str, customer: &str, email: &str) {
    let identifiers = json!({"customerId": customer, "email": email});
    let pass = format!("P-{customer}");
    post(
        gateway,
        "/v1/pass-events",
        &json!({"event": event, "passId": pass, "device": "apple", "identifiers": identifiers}),
    );
}

/// A mail that is not sent to who has the pass.
fn reminder(customer: Option<&str>) -> Value {
    let mut reminder = json!({"unless": {"walletStatus": ["apple", "google", "both"]}});
    if let Some(customer) = customer {
        reminder["customerId"] = json!(customer);
    }
    reminder
}

/// Sends it, and holds it before anything else happens to it.
fn held(gateway: &Gateway, recipient: &str, more: &Value) -> String {
    let mut more = more.clone();
    more["sendAt"] = json!(ahead(3_600));
    let id = gateway.send_as(recipient, &more);
    post(gateway, &format!("/v1/emails/{id}/hold"), &json!({}));
    id
}

/// A time so many seconds ahead.
fn ahead(seconds: i64) -> String {
    let now = postern::clock::Clock::now(&postern::clock::SystemClock);
    (now + jiff::SignedDuration::from_secs(seconds)).to_string()
}

#[test]
fn a_reminder_is_cancelled_once_the_pass_is_installed_and_sent_to_who_has_none() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, "").serve_keeping();
    let stops = held(&gateway, "ann@customer.example", &reminder(Some("C-1")));
    let by_address = held(&gateway, "Bob <BOB@customer.example>", &reminder(None));
    let removed = held(&gateway, "cid@customer.example", &reminder(Some("C-3")));
    let stranger = held(&gateway, "dan@customer.example", &reminder(Some("C-4")));
    let waits = gateway.send_as("ann@customer.example", &{
        let mut waits = reminder(Some("C-1"));
        waits["sendAt"] = json!(ahead(2));
        waits
    });
    let next = gateway.get(&format!("/v1/emails/{stops}/why")).json();
    let rule =
        |why: &Value| why["decisions"].as_array().unwrap().iter().find(|d| d["rule"] == "wallet-status").cloned();
    let before = rule(&next).unwrap_or_else(|| panic!("{next}"));
    assert_eq!((&before["status"], &before["numbers"]["walletStatus"]), (&json!("next"), &json!("none")));
    passes(&gateway, "installed", "C-1", "ann@customer.example");
    passes(&gateway, "installed", "C-2", "bob@customer.example");
    passes(&gateway, "installed", "C-3", "cid@customer.example");
    passes(&gateway, "uninstalled", "C-3", "cid@customer.example");
    let held_now = gateway.get(&format!("/v1/emails/{stops}/why")).json();
    assert_eq!(rule(&held_now).unwrap()["numbers"], json!({"unless": "apple, google, both", "walletStatus": "apple"}));
    for id in [&stops, &by_address, &removed, &stranger] {
        post(&gateway, &format!("/v1/emails/{id}/retry"), &json!({}));
    }
    for id in [&stops, &by_address, &waits] {
        let ended = gateway.wait_for_status(id, "cancelled");
        assert_eq!((&ended["reason"], &ended["mayHaveBeenSent"]), (&json!("wallet-status"), &json!(false)));
        assert_eq!((&ended["attempts"], &ended["nextAttemptAt"]), (&json!(0), &Value::Null), "{ended}");
        assert_eq!(gateway.kinds(id).last().map(String::as_str), Some("cancelled"));
        let why = gateway.get(&format!("/v1/emails/{id}/why")).json();
        assert_eq!(rule(&why).unwrap()["status"], "ended", "{why}");
    }
    gateway.wait_for_status(&removed, "relayed");
    gateway.wait_for_status(&stranger, "relayed");
    let found = gateway.get("/v1/emails?reason=wallet-status").json();
    assert_eq!(found["items"].as_array().unwrap().len(), 3);
    // The sessions that were told to forget a mail carry the next.
    let last = gateway.send("eve@customer.example");
    gateway.wait_for_status(&last, "relayed");
    let to = |mail: &Value| mail["recipients"].to_string();
    let captured = inbox.messages(10);
    assert_eq!(captured.len(), 3, "{captured:?}");
    assert!(!captured.iter().any(|mail| to(mail).contains("ann@") || to(mail).contains("bob@")), "{captured:?}");
    assert_eq!(inbox.total(), 3);
    gateway.stop();
}

#[test]
fn a_cancelled_reminder_frees_its_fact_and_keeps_its_idempotency_key() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, "").serve_keeping();
    passes(&gateway, "installed", "C-1", "ann@customer.example");
    let mut body = mail("ann@customer.example");
    body.as_object_mut().unwrap().extend(reminder(Some("C-1")).as_object().unwrap().clone());
    let key = [("Idempotency-Key", "reminder-1")];
    let first = gateway.post_with(&body, &key);
    let id = first.json()["id"].as_str().unwrap().to_owned();
    gateway.wait_for_status(&id, "cancelled");
    assert_eq!(gateway.post_with(&body, &key).body, first.body);
    body["customerId"] = json!("C-2");
    assert_eq!(gateway.post_with(&body, &key).json()["type"], "/problems/idempotency-mismatch");
    body["customerId"] = json!("C-1");
    body["dedupe"] = json!({"fact": "reminder/C-1", "window": "30d"});
    let stating = || gateway.post(&body).json()["id"].as_str().unwrap().to_owned();
    let ended = stating();
    gateway.wait_for_status(&ended, "cancelled");
    passes(&gateway, "uninstalled", "C-1", "ann@customer.example");
    let sent = stating();
    assert_ne!(sent, ended);
    gateway.wait_for_status(&sent, "relayed");
    assert_eq!((stating(), inbox.total()), (sent, 1));
    gateway.stop();
}
