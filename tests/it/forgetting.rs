//! Forgetting through the real binary: whoever is erased is found in no file, and what was kept long enough is gone.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Gateway, House, Inbox, finish, mail, request, wait_for};

const ANN: &str = "ann.secret@customer.example";

#[test]
fn whoever_is_erased_beside_a_running_gateway_is_in_no_file_of_the_store_and_the_log_verifies() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let gateway = house.serve();
    let contact = json!({ "email": ANN, "name": "Annabella Secret", "fields": { "city": "Secretville" } });
    assert_eq!(call(&gateway, "PUT", "/v1/contacts/C-4711-secret", &contact).status, 201);
    let event = json!({
        "event": "installed", "passId": "PASS-secret", "device": "apple",
        "identifiers": { "customerId": "C-4711-secret", "email": ANN },
    });
    assert_eq!(call(&gateway, "POST", "/v1/pass-events", &event).status, 202);
    assert_eq!(
        call(&gateway, "POST", "/v1/suppressions", &json!({ "recipient": ANN, "scope": "journeys" })).status,
        201
    );
    let more = json!({ "Subject": "Dear Annabella", "tags": ["secret-tag"], "metadata": { "to": ANN } });
    let sent: Vec<String> = (0..20).map(|_| gateway.send_as(&format!("Annabella <{ANN}>"), &more)).collect();
    let bounced = gateway.send_as(&format!("reject+{ANN}"), &json!({}));
    for id in &sent {
        gateway.wait_for_status(id, "relayed");
    }
    let deadline = gateway.message(&sent[0])["deliverBy"].clone();
    let waiting = gateway.send_as(ANN, &json!({ "sendAt": deadline, "Subject": "Later, Annabella" }));
    let other = gateway.send("bob@customer.example");
    gateway.wait_for_status(&other, "relayed");
    let receipt = gateway.get(&format!("/v1/emails/{}/receipt", sent[0])).body;
    assert!(files_with(&house.path("data"), "annabella") > 0, "it is looked for in the right way");

    let erase = ["contacts", "erase", "C-4711-secret", "--tenant", "demo", "--yes", "--because", "request 17"];
    let gone = house.json(&erase);
    assert_eq!(gone, json!({ "contacts": 1, "messages": 21, "passes": 1, "passEvents": 1 }), "{bounced}");
    let message = gateway.message(&sent[0]);
    assert_eq!(
        (&message["status"], &message["recipient"], &message["subject"]),
        (&json!("relayed"), &json!(""), &json!(""))
    );
    let message = gateway.message(&waiting);
    assert_eq!((&message["status"], &message["reason"]), (&json!("cancelled"), &json!("erased")));
    assert_eq!(gateway.get(&format!("/v1/emails/{}/content", sent[0])).status, 410);
    assert_eq!(gateway.get("/v1/contacts/C-4711-secret").status, 404);
    assert_eq!(gateway.get("/v1/wallets/C-4711-secret").status, 404);
    assert_eq!(gateway.message(&other)["recipient"], "bob@customer.example");
    let told = gateway.get("/v1/audit?kind=erased").json()["items"][0].clone();
    assert_eq!((&told["actor"], &told["because"]), (&json!("command:contacts"), &json!("request 17")), "{told}");
    let wrong = call(&gateway, "DELETE", "/v1/contacts/C-4711-secret", &json!({ "becuase": "x" }));
    assert_eq!((wrong.status, wrong.json()["errors"][0]["pointer"].clone()), (422, json!("/becuase")));
    assert_eq!(call(&gateway, "DELETE", "/v1/contacts/C-4711-secret", &json!({ "because": "x" })).status, 404);
    let twice = finish(&mut house.command(&["contacts", "erase", "C-4711-secret", "--tenant", "demo", "--yes"]));
    assert_eq!(twice.status.code(), Some(1), "nothing is known of them any more");

    // The other mail had her address in its own; that is another person's.
    wait_for("her name to be scrubbed", || (files_with(&house.path("data"), "annabella") == 0).then_some(()));
    let other_contact = format!("/v1/contacts/reject+{ANN}");
    assert_eq!(call(&gateway, "DELETE", &other_contact, &json!({ "because": "request 18" })).status, 204);
    for trace in ["ann.secret", "annabella", "secretville", "4711-secret", "pass-secret", "secret-tag"] {
        wait_for(&format!("{trace} to go from the files"), || {
            (files_with(&house.path("data"), trace) == 0).then_some(())
        });
    }
    let exported = finish(&mut house.command(&["audit", "export"])).stdout;
    assert!(!String::from_utf8(exported).unwrap().to_lowercase().contains("secret"));

    std::fs::write(house.path("receipt.json"), receipt).unwrap();
    let (file, key) = (house.path("receipt.json"), house.path("data/audit.key.pub"));
    let arguments = ["audit", "verify", "--receipt", file.to_str().unwrap(), "--public-key", key.to_str().unwrap()];
    assert!(finish(&mut house.command(&arguments)).status.success(), "a receipt from before still holds");
    house.verify();
    gateway.stop();
    house.verify();
}

#[test]
fn contents_and_rows_go_when_their_time_is_over_and_the_log_still_verifies() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "[retention]\ncontent = \"0s\"\nmessages = \"1s\"\n");
    let gateway = house.serve();
    let deadline = gateway.post(&mail("first@customer.example")).json()["deliverBy"].clone();
    let waiting = gateway.send_as("waits@customer.example", &json!({ "sendAt": deadline }));
    let ids: Vec<String> = (0..30).map(|n| gateway.send(&format!("ann{n}@customer.example"))).collect();
    for id in &ids {
        wait_for("its row to go", || (gateway.get(&format!("/v1/emails/{id}")).status == 404).then_some(()));
        assert_eq!(gateway.get(&format!("/v1/emails/{id}/content")).status, 404);
    }
    assert_eq!(gateway.get(&format!("/v1/emails/{waiting}/content")).status, 200, "what waits is kept");
    for kind in ["content-purged", "messages-purged"] {
        let told = gateway.get(&format!("/v1/audit?kind={kind}")).json();
        assert!(told["items"].as_array().is_some_and(|told| !told.is_empty()), "{kind}: {told}");
    }
    house.verify();
    gateway.stop();
    assert!(house.verify()["leaves"].as_u64().unwrap() > 90, "the leaves are all there");

    // What was not purged by rule is missed: a row that somebody else took away.
    let database = rusqlite::Connection::open(house.path("data/postern.db")).unwrap();
    database.execute_batch("DELETE FROM content; DELETE FROM message WHERE recipient LIKE 'waits%'").unwrap();
    drop(database);
    let said = finish(&mut house.command(&["audit", "verify", "--format", "json"]));
    let verdict: Value = serde_json::from_slice(&said.stdout).unwrap();
    let missed = format!("{waiting} is not in the store, and the log says queued");
    assert_eq!(verdict["findings"], json!([missed]), "{verdict}");
}

#[test]
fn contents_are_sealed_at_rest_and_read_with_old_keys_after_a_rotation() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let key_file = house.path("content.keys");
    let (old, new) = ("0f".repeat(32), "a1".repeat(32));
    std::fs::write(&key_file, format!("{old}\n")).unwrap();
    let line = format!("[store]\ncontent_key_file = \"{}\"", key_file.display());
    house.replace("[store]", &line);
    let plain = json!({ "Body": "<p>zqxjk</p>" });
    let gateway = house.serve();
    let sent = gateway.send_as("ann@customer.example", &plain);
    gateway.wait_for_status(&sent, "relayed");
    let soon = gateway.message(&sent)["deliverBy"].clone();
    let waiting = gateway.send_as("bob@customer.example", &json!({ "Body": "<p>zqxjk</p>", "sendAt": soon }));
    assert_eq!(files_with(&house.path("data"), "zqxjk"), 0);
    let shown = |gateway: &Gateway, id: &str| gateway.get(&format!("/v1/emails/{id}/content"));
    assert!(String::from_utf8(shown(&gateway, &sent).body).unwrap().contains("zqxjk"));
    let key = gateway.key.clone();
    gateway.stop();

    std::fs::write(&key_file, format!("{new}\n{old}\n")).unwrap();
    let gateway = house.serve_with(key);
    let later = gateway.send_as("carl@customer.example", &plain);
    for id in [&sent, &waiting, &later] {
        assert!(String::from_utf8(shown(&gateway, id).body).unwrap().contains("zqxjk"), "{id}");
    }
    // From its row, not from memory.
    house.json(&["queue", "retry", &waiting]);
    gateway.wait_for_status(&waiting, "relayed");
    gateway.stop();

    std::fs::write(&key_file, format!("{new}\n")).unwrap();
    let check = finish(&mut house.command(&["check"]));
    assert_eq!(check.status.code(), Some(2), "the first contents cannot be read without the old key");
    let said = String::from_utf8(check.stderr).unwrap();
    assert!(said.contains("store.content_key_file") && !said.contains(&new), "{said}");
    assert!(!finish(&mut house.command(&["serve"])).status.success(), "so nothing is held as unreadable");
}

fn call(gateway: &Gateway, method: &str, path: &str, body: &Value) -> crate::harness::Answer {
    let headers = [("X-API-KEY", gateway.key.as_str()), ("Content-Type", "application/json")];
    request(method, &gateway.url(path), &headers, Some(body.to_string().as_bytes()))
}

/// How many files under a folder hold this text, in whatever case.
fn files_with(folder: &Path, text: &str) -> usize {
    let count = |entry: std::fs::DirEntry| {
        let path = entry.path();
        if path.is_dir() {
            return files_with(&path, text);
        }
        let bytes = std::fs::read(path).unwrap_or_default().to_ascii_lowercase();
        usize::from(memchr::memmem::find(&bytes, text.as_bytes()).is_some())
    };
    std::fs::read_dir(folder).unwrap().flatten().map(count).sum()
}
