//! Operators' hands: hold, release, cancel and retry, over HTTP and by command, beside a running gateway.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, House, Inbox, finish, free_port, request, send_many, wait_for, wait_within};

/// Far enough ahead that nothing is tried meanwhile.
const LATER: &str = "2099-01-01T00:00:00Z";

/// Retries much later, so that a retry by hand is told from one of the gateway's own.
const PATIENT: &str = "[delivery]\nretry = [\"1h\"]\n";

/// POSTs a verb with a body; an empty one goes without a type.
fn verb(gateway: &Gateway, id: &str, verb: &str, body: &str) -> Answer {
    verb_by(gateway, &gateway.key, id, verb, body)
}

fn verb_by(gateway: &Gateway, key: &str, id: &str, verb: &str, body: &str) -> Answer {
    let mut headers = vec![("X-API-KEY", key)];
    if !body.is_empty() {
        headers.push(("Content-Type", "application/json"));
    }
    request("POST", &gateway.url(&format!("/v1/emails/{id}/{verb}")), &headers, Some(body.as_bytes()))
}

fn done(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

fn refused(answer: &Answer, status: u16, slug: &str) -> Value {
    let body = answer.json();
    assert_eq!((answer.status, &body["type"]), (status, &json!(format!("/problems/{slug}"))), "{body}");
    body
}

/// A moment so many seconds ahead.
fn ahead(seconds: i64) -> String {
    use postern::clock::{Clock as _, SystemClock};
    (SystemClock.now() + jiff::SignedDuration::from_secs(seconds)).to_string()
}

/// What the messages of a gateway may be delivered until, in a mail that waits for [`LATER`].
fn waiting() -> Value {
    // A year and a day is the most there is.
    json!({"sendAt": ahead(3_600), "deliverBy": ahead(7_200)})
}

fn events(gateway: &Gateway, id: &str) -> Vec<Value> {
    gateway.get(&format!("/v1/emails/{id}/events")).json()["items"].as_array().unwrap().clone()
}

#[test]
fn a_mail_is_held_released_and_cancelled_and_the_audit_says_by_whom_and_why() {
    let gateway = House::new(free_port(), "").serve_keeping();
    let id = gateway.send_as("ann@customer.example", &waiting());
    let before = gateway.message(&id);

    let held = done(&verb(&gateway, &id, "hold", r#"{"because": "wrong price in it"}"#));
    assert_eq!(
        (&held["status"], &held["reason"], &held["nextAttemptAt"]),
        (&json!("held"), &json!("operator"), &Value::Null)
    );
    assert_eq!(held, gateway.message(&id), "the answer is the message as GET shows it");
    let again = refused(&verb(&gateway, &id, "hold", ""), 409, "wrong-state");
    assert_eq!(again["detail"], "it is held: what can be done with it is cancel, release, retry");

    let released = done(&verb(&gateway, &id, "release", ""));
    assert_eq!(released["status"], "queued");
    assert_eq!(released["nextAttemptAt"], before["nextAttemptAt"], "sendAt outlives it");
    refused(&verb(&gateway, &id, "release", "{}"), 409, "wrong-state");

    let cancelled = done(&verb(&gateway, &id, "cancel", "{}"));
    assert_eq!((&cancelled["status"], &cancelled["mayHaveBeenSent"]), (&json!("cancelled"), &json!(false)));
    assert!(cancelled["endedAt"].is_string());
    for over in ["cancel", "hold", "release", "retry"] {
        let body = refused(&verb(&gateway, &id, over, ""), 409, "wrong-state");
        assert_eq!(body["detail"], "it is cancelled: nothing can be done with it any more");
    }
    let events = events(&gateway, &id);
    assert_eq!(gateway.kinds(&id), ["accepted", "held", "released", "cancelled"]);
    assert!(events[1]["actor"].as_str().unwrap().starts_with("key_"), "{}", events[1]);
    assert_eq!((&events[1]["because"], &events[1]["from"]), (&json!("wrong price in it"), &json!("queued")));
    let listed = gateway.get("/v1/emails?reason=operator&domain=Customer.example").json();
    assert_eq!(listed["items"][0]["id"], id.as_str());
    assert_eq!(gateway.get("/v1/emails?domain=other.example").json()["items"], json!([]));
}

#[test]
fn a_verb_is_refused_to_strangers_and_when_it_is_misspelt() {
    let house = House::new(free_port(), "");
    house.write("tenants/other.toml", "name = \"O\"\nfrom = \"o@other.example\"\nrelays = [\"primary\"]\n");
    let (reader, stranger) = (house.key(&["send", "read"]), house.key_of("other", &["manage", "read"]));
    let gateway = house.serve();
    let id = gateway.send_as("ann@customer.example", &waiting());
    let untouched = gateway.message(&id);

    for name in ["cancel", "hold", "release", "retry"] {
        refused(&verb_by(&gateway, &reader, &id, name, ""), 403, "forbidden");
        refused(&verb_by(&gateway, &stranger, &id, name, ""), 404, "not-found");
        refused(&verb(&gateway, "msg_00000000000000000000000000000000", name, ""), 404, "not-found");
        refused(&verb(&gateway, "nothing", name, ""), 404, "not-found");
        refused(&verb(&gateway, &id, name, "{"), 400, "malformed");
        refused(&verb(&gateway, &id, name, "[]"), 400, "malformed");
        let get = gateway.get(&format!("/v1/emails/{id}/{name}"));
        refused(&get, 405, "method-not-allowed");
    }
    refused(&verb(&gateway, &id, "explode", ""), 404, "not-found");
    for (name, body, pointer) in [
        ("retry", json!({"deliver_by": ahead(60)}), "/deliver_by"),
        ("cancel", json!({"deliverBy": ahead(60)}), "/deliverBy"),
        ("retry", json!({"deliverBy": ahead(-60)}), "/deliverBy"),
        ("retry", json!({"deliverBy": LATER}), "/deliverBy"),
        ("retry", json!({"deliverBy": "soon"}), "/deliverBy"),
        ("hold", json!({"reason": "ask ann@customer.example"}), "/reason"),
        ("hold", json!({"reason": "see https://wiki.example"}), "/reason"),
        ("hold", json!({"reason": ""}), "/reason"),
        ("hold", json!({"reason": 7}), "/reason"),
    ] {
        let answer = refused(&verb(&gateway, &id, name, &body.to_string()), 422, "invalid");
        assert_eq!(answer["errors"][0]["pointer"], pointer, "{answer}");
        assert!(!answer.to_string().contains("ann@"), "{answer}");
    }
    let form = [("X-API-KEY", gateway.key.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
    let form = request("POST", &gateway.url(&format!("/v1/emails/{id}/hold")), &form, Some(b"reason=x"));
    refused(&form, 415, "unsupported-media-type");
    assert_eq!(gateway.message(&id), untouched);
}

#[test]
fn an_attempt_past_its_commit_point_is_left_alone() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, "").serve_keeping();
    let id = gateway.send("slow@customer.example");
    wait_for("the commit point", || (gateway.kinds(&id).len() == 2).then_some(()));
    for name in ["cancel", "hold", "release", "retry"] {
        let answer = refused(&verb(&gateway, &id, name, ""), 409, "in-flight");
        assert!(answer["detail"].as_str().unwrap().contains("commit point"), "{answer}");
    }
    gateway.wait_for_status(&id, "relayed");
    assert_eq!(gateway.kinds(&id), ["accepted", "attempt-committed", "relayed"]);
}

#[test]
fn a_retry_is_tried_at_once_and_what_bounced_only_with_a_new_deadline() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, PATIENT).serve_keeping();
    let later = gateway.send_as("ann@customer.example", &waiting());
    let (deferred, bounced) = (gateway.send("450@customer.example"), gateway.send("550@customer.example"));
    gateway.wait_for_status(&deferred, "deferred");
    gateway.wait_for_status(&bounced, "bounced");

    done(&verb(&gateway, &later, "retry", ""));
    wait_within(Duration::from_secs(2), "the mail that was to wait", || (inbox.total() == 1).then_some(()));
    gateway.wait_for_status(&later, "relayed");
    refused(&verb(&gateway, &later, "retry", &json!({"deliverBy": ahead(60)}).to_string()), 409, "wrong-state");

    let retried = done(&verb(&gateway, &deferred, "retry", ""));
    assert_eq!((&retried["status"], &retried["attempts"]), (&json!("queued"), &json!(1)));
    wait_for("a second attempt", || (gateway.message(&deferred)["attempts"] == 2).then_some(()));

    let answer = refused(&verb(&gateway, &bounced, "retry", ""), 409, "wrong-state");
    assert_eq!(answer["detail"], "it is bounced: a new deliverBy is needed to retry it");
    let deliver_by = ahead(600);
    let retried = done(&verb(&gateway, &bounced, "retry", &json!({"deliverBy": deliver_by}).to_string()));
    assert_eq!((&retried["status"], &retried["endedAt"]), (&json!("queued"), &Value::Null));
    assert_eq!(retried["deliverBy"].as_str().unwrap()[..19], deliver_by[..19]);
    wait_for("a second bounce", || (gateway.message(&bounced)["attempts"] == 2).then_some(()));
    assert_eq!(gateway.kinds(&bounced), ["accepted", "bounced", "suppression-added", "retried", "bounced"]);
}

#[test]
fn what_expired_is_sent_when_an_operator_gives_it_a_new_deadline() {
    let relay = free_port();
    let gateway = House::new(relay, "").serve_keeping();
    let id = gateway.send_as("ann@customer.example", &json!({"deliverWithin": "500ms"}));
    gateway.wait_for_status(&id, "expired");
    let inbox = Inbox::start_on(&relay.to_string());
    done(&verb(&gateway, &id, "retry", &json!({"deliverBy": ahead(600), "reason": "the relay was away"}).to_string()));
    let message = gateway.wait_for_status(&id, "relayed");
    assert_eq!((inbox.total(), &message["mayHaveBeenSent"]), (1, &json!(false)));
}

#[test]
fn an_unknown_is_sent_again_on_the_operators_word_and_says_so() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, PATIENT).serve_keeping();
    let id = gateway.send("dropreply@customer.example");
    gateway.wait_for_status(&id, "unknown");
    let held = done(&verb(&gateway, &id, "hold", ""));
    assert_eq!((&held["status"], &held["mayHaveBeenSent"]), (&json!("held"), &json!(true)));
    let queued = done(&verb(&gateway, &id, "release", ""));
    assert_eq!(queued["mayHaveBeenSent"], true);
    wait_for("a second copy", || (inbox.total() == 2).then_some(()));
    wait_for("a second unknown", || (gateway.message(&id)["status"] == "unknown").then_some(()));
    let cancelled = done(&verb(&gateway, &id, "cancel", ""));
    assert_eq!((&cancelled["status"], &cancelled["mayHaveBeenSent"]), (&json!("cancelled"), &json!(true)));
}

/// What a command answers as JSON, and its exit code and complaints.
fn queue(house: &House, arguments: &[&str]) -> (Value, Option<i32>, String) {
    let ran = finish(house.command(&["queue"]).args(arguments).args(["--format", "json"]));
    let said = String::from_utf8(ran.stderr).unwrap();
    (serde_json::from_slice(&ran.stdout).unwrap_or(Value::Null), ran.status.code(), said)
}

#[test]
fn three_hundred_mails_are_held_released_and_sent_by_commands_beside_the_gateway() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let gateway = house.serve();
    let ids = send_many(&gateway, 300, &waiting(), |n| format!("user{n}@shop.example"));
    let other = gateway.send_as("ann@customer.example", &waiting());
    assert_eq!(ids.len(), 300);

    let (answer, code, said) = queue(&house, &["hold", "--domain", "shop.example"]);
    assert_eq!((answer, code), (Value::Null, Some(2)), "{said}");
    assert!(said.contains("300 mails match: 300 queued.") && said.contains("300 of them would be held"), "{said}");
    assert!(said.contains("--yes"), "{said}");
    assert_eq!(gateway.message(&ids[0])["status"], "queued", "nothing was changed");

    let because = ["--because", "their server is down", "--yes"];
    let (answer, code, said) = queue(&house, &[&["hold", "--domain", "shop.example"], &because[..]].concat());
    let expected = |verb: &str, refused: u64| json!({"verb": verb, "matched": 300 + refused, "done": 300, "inFlight": 0, "refused": refused});
    assert_eq!((answer, code), (expected("hold", 0), Some(0)), "{said}");
    for id in ids.iter().step_by(60) {
        assert_eq!(gateway.message(id)["status"], "held");
        let event = events(&gateway, id).pop().unwrap();
        let facts = (&event["kind"], &event["actor"], &event["because"]);
        assert_eq!(facts, (&json!("held"), &json!("command:queue"), &json!("their server is down")));
    }
    assert_eq!(gateway.message(&other)["status"], "queued");
    // The other one is refused: it is not held.
    let (answer, _, said) = queue(&house, &["release", "--tenant", "demo", "--yes"]);
    assert_eq!(answer, expected("release", 1), "{said}");
    assert_eq!(inbox.total(), 0, "their time has not come");
    let (answer, _, said) = queue(&house, &["retry", "--domain", "shop.example", "--since", "1h", "--yes"]);
    assert_eq!(answer, expected("retry", 0), "{said}");
    wait_within(Duration::from_secs(2), "the gateway to see it", || (inbox.total() > 0).then_some(()));
    wait_for("all of them", || (inbox.total() == 300).then_some(()));
    gateway.stop();
}

#[test]
fn a_command_by_ids_says_in_plain_words_what_it_could_not_do() {
    let house = House::new(free_port(), "");
    let gateway = house.serve();
    let (one, two) = (gateway.send("ann@customer.example"), gateway.send("bob@customer.example"));
    let nobody = "msg_00000000000000000000000000000000";
    let (answer, code, said) = queue(&house, &["hold", &one, &two, &one]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((&answer["matched"], &answer["done"]), (&json!(2), &json!(2)), "{answer}");
    let first = json!({"id": one, "outcome": "done", "status": "held", "detail": null});
    assert_eq!(answer["messages"][0], first);

    let (_, code, _) = queue(&house, &["release", &one, "--tenant", "demo"]);
    assert_eq!(code, Some(0));
    let (answer, code, said) = queue(&house, &["release", &one, &two, nobody]);
    assert_eq!(code, Some(1), "{answer}");
    let outcomes: Vec<_> = answer["messages"].as_array().unwrap().iter().map(|one| &one["outcome"]).collect();
    assert_eq!(outcomes, ["wrong-state", "done", "not-found"], "{answer}");
    assert!(said.contains(&format!("{one}: it is queued: what can be done with it is cancel, hold, retry")), "{said}");
    assert!(said.contains(&format!("{nobody}: there is no such message")), "{said}");
    let people = finish(&mut house.command(&["queue", "cancel", &two]));
    assert_eq!(String::from_utf8_lossy(&people.stdout), format!("{two}  cancelled\n"));
    let people = finish(&mut house.command(&["queue", "cancel", &two]));
    assert_eq!((people.status.code(), people.stdout.len()), (Some(1), 0), "nothing done is not even a line");
}

#[test]
fn a_queue_command_that_is_used_wrongly_changes_nothing() {
    let house = House::new(free_port(), "");
    let gateway = house.serve();
    let id = gateway.send("ann@customer.example");
    for (wrong, word) in [
        (&["cancel"][..], "--all"),
        (&["cancel", "--yes"], "--all"),
        (&["cancel", &id, "--lane", "standard"], "not both"),
        (&["cancel", &id, "--all"], "--all"),
        (&["cancel", "nothing"], "nothing"),
        (&["cancel", "--all", "--tenant", "nobody", "--yes"], "there is no tenant nobody"),
        (&["cancel", "--status", "sent"], "a status is one of"),
        (&["cancel", "--reason", "mood"], "a reason is one of"),
        (&["cancel", "--since", "yesterday"], "how long ago"),
        (&["cancel", &id, "--because", "ask ann@customer.example"], "no address"),
        (&["retry", &id, "--deliver-by", "2001-01-01T00:00:00Z"], "--deliver-by: already past"),
        (&["retry", &id, "--deliver-within", "9999d"], "--deliver-within: more than a year ahead"),
        (&["retry", &id, "--deliver-within", "1h", "--deliver-by", LATER], "cannot be used with"),
        (&["list", "--limit", "0"], "--limit"),
    ] {
        let (answer, code, said) = queue(&house, wrong);
        assert_eq!((answer, code), (Value::Null, Some(2)), "{wrong:?}: {said}");
        assert!(said.contains(word), "{wrong:?}: {said}");
    }
    let (answer, code, _) = queue(&house, &["cancel", "--template", "nothing-of-that-name"]);
    assert_eq!((&answer["matched"], code), (&json!(0), Some(0)), "nothing to ask about");
    assert_eq!(gateway.message(&id)["status"], "queued");
}

#[test]
fn list_show_and_summary_tell_what_there_is() {
    let house = House::new(free_port(), "");
    house.write("tenants/other.toml", "name = \"O\"\nfrom = \"o@other.example\"\nrelays = [\"primary\"]\n");
    let other_key = house.key_of("other", &["send"]);
    let gateway = house.serve();
    let first =
        gateway.send_as("Ann <ann@customer.example>", &json!({"tags": ["summer"], "metadata": {"order": "17"}}));
    let second = gateway.send_as("bob@customer.example", &json!({"lane": "urgent"}));
    let headers = [("X-API-KEY", other_key.as_str()), ("Content-Type", "application/json")];
    let mail = crate::harness::mail("cid@customer.example").to_string();
    let third = request("POST", &gateway.url("/v1/emails"), &headers, Some(mail.as_bytes())).json();
    let third = third["id"].as_str().unwrap();
    queue(&house, &["hold", &first, "--because", "a trial"]);

    let listed = |arguments: &[&str]| {
        let (answer, code, said) = queue(&house, &[&["list"], arguments].concat());
        assert_eq!(code, Some(0), "{said}");
        let listed = answer.as_array().unwrap().iter();
        listed.map(|message| message["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(&[]), [third, &second, &first], "newest first, of every tenant");
    assert_eq!(listed(&["--limit", "2"]), [third, &second]);
    assert_eq!(listed(&["--tenant", "demo"]), [&second, &first].map(String::as_str));
    assert_eq!(listed(&["--reason", "operator"]), [first.as_str()]);
    assert_eq!(listed(&["--tag", "summer"]), [first.as_str()]);
    assert_eq!(listed(&["--metadata", "order=17"]), [first.as_str()]);
    assert_eq!(listed(&["--recipient", "Bob@customer.example"]), [second.as_str()]);
    assert_eq!(listed(&["--until", "1h"]), Vec::<String>::new());

    let (shown, code, _) = queue(&house, &["show", &first]);
    assert_eq!(
        (&shown["status"], &shown["recipient"], code),
        (&json!("held"), &json!("\"Ann\" <ann@customer.example>"), Some(0))
    );
    assert_eq!((&shown["events"][1]["kind"], &shown["events"][1]["because"]), (&json!("held"), &json!("a trial")));
    let people = finish(&mut house.command(&["queue", "show", &first]));
    let said = String::from_utf8(people.stdout).unwrap();
    for part in ["held (operator)", "cancel, release, retry", "because=a trial", "command:queue", "summer"] {
        assert!(said.contains(part), "{part}:\n{said}");
    }
    let (_, code, said) = queue(&house, &["show", "msg_00000000000000000000000000000000"]);
    assert!(code == Some(1) && said.contains("there is no message"), "{said}");

    let (summary, _, _) = queue(&house, &["summary"]);
    let lines: Vec<_> = summary["standings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            assert!(line["oldestAcceptedAt"].is_string() && line["oldestSeconds"].is_u64(), "{line}");
            json!([line["tenant"], line["lane"], line["status"], line["reason"], line["messages"]])
        })
        .collect();
    assert_eq!(
        json!(lines),
        json!([
            ["demo", "urgent", "queued", null, 1],
            ["demo", "standard", "held", "operator", 1],
            ["other", "standard", "queued", null, 1],
        ])
    );
    for arguments in [&["queue", "summary"][..], &["queue", "list"]] {
        let people = String::from_utf8(finish(&mut house.command(arguments)).stdout).unwrap();
        assert!(people.lines().count() >= 4 && people.contains("operator"), "{people}");
    }
}
