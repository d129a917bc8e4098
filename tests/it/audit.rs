//! The log of what happened, proven: to whoever has the public key, and against whoever changed the store.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::harness::{Gateway, House, Inbox, finish, free_port, postern, request, wait_for};
use crate::receiver::{Receiver, TAKES};

/// A house in which mails ended in every way that a relay knows.
fn lived_in() -> (House, Inbox, Vec<String>) {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "[delivery]\nretry = [\"100ms\"]\n[lanes.urgent]\non_unknown = \"hold\"\n");
    let gateway = house.serve();
    let mut ids = Vec::new();
    for (name, status, lane) in [
        ("ann", "relayed", "standard"),
        ("550+bob", "bounced", "standard"),
        ("450+cy", "deferred", "standard"),
        ("dropreply+di", "held", "urgent"),
    ] {
        let id = gateway.send_as(&format!("{name}@customer.example"), &json!({"lane": lane}));
        gateway.wait_for_status(&id, status);
        ids.push(id);
    }
    for number in 0..20 {
        let id = gateway.send(&format!("eve{number}@customer.example"));
        gateway.wait_for_status(&id, "relayed");
        ids.push(id);
    }
    gateway.stop();
    (house, inbox, ids)
}

fn database(house: &House) -> Connection {
    Connection::open(house.path("data/postern.db")).unwrap()
}

fn run(house: &House, arguments: &[&str]) -> Output {
    finish(&mut house.command(arguments))
}

/// What `audit verify` finds.
fn findings(house: &House) -> Vec<String> {
    let said = run(house, &["audit", "verify", "--format", "json"]);
    let verdict: Value = serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
    let findings: Vec<String> = serde_json::from_value(verdict["findings"].clone()).unwrap();
    assert_eq!(said.status.code(), Some(i32::from(!findings.is_empty())), "{said:?}");
    findings
}

/// What is found after this was done to the store, which is as it was afterwards.
fn after(house: &House, tamper: &str) -> Vec<String> {
    let (file, kept) = (house.path("data/postern.db"), house.path("data/kept.db"));
    fs::copy(&file, &kept).unwrap();
    database(house).execute_batch(tamper).unwrap();
    let found = findings(house);
    fs::copy(&kept, &file).unwrap();
    for rest in ["-wal", "-shm"] {
        _ = fs::remove_file(format!("{}{rest}", file.display()));
    }
    found
}

#[test]
fn whatever_is_changed_in_the_store_is_named_and_what_nobody_changed_is_not() {
    let (house, _inbox, ids) = lived_in();
    let verdict = house.verify();
    let leaves = verdict["leaves"].as_u64().unwrap();
    assert_eq!(verdict["covered"], leaves, "the last checkpoint covers all: {verdict}");
    assert!(leaves > 70 && verdict["messages"] == 24, "{verdict}");

    let only = |tamper: &str, words: &str| {
        let found = after(&house, tamper);
        assert_eq!(found, [words], "{tamper}");
    };
    let changed = "SET leaf = CAST(replace(CAST(leaf AS TEXT), '\"at\":\"2', '\"at\":\"1') AS BLOB)";
    only(&format!("UPDATE audit_leaf {changed} WHERE seq = 5"), "leaf 5 is not what was logged");
    only(
        "UPDATE audit_leaf SET kind = 'bounced' WHERE seq = 3",
        "leaf 3 says something else than the columns of its row",
    );
    only("DELETE FROM audit_leaf WHERE seq = 1", "leaf 1 is missing");
    let swapped = "CREATE TEMP TABLE s AS SELECT seq, leaf FROM audit_leaf WHERE seq IN (6, 7);
        UPDATE audit_leaf SET leaf = (SELECT leaf FROM s WHERE s.seq = 13 - audit_leaf.seq) WHERE seq IN (6, 7)";
    let found = after(&house, swapped);
    assert_eq!(found[..2], ["leaf 6 is not what was logged", "leaf 7 is not what was logged"], "{found:?}");
    let status = "UPDATE message SET status = 'relayed' WHERE status = 'bounced'";
    only(status, &format!("{} stands as relayed, and the log says bounced", ids[1]));

    // Who also changes what was kept of it cannot sign.
    let both = format!(
        "UPDATE audit_leaf {changed} WHERE seq = 5;
         UPDATE audit_tile SET hashes = CAST(substr(hashes, 1, 160) || zeroblob(32) || substr(hashes, 193) AS BLOB)
             WHERE level = 0"
    );
    let found = after(&house, &both);
    assert!(found[0].contains("leaf 5 is not what was logged"), "{found:?}");
    assert!(found.iter().any(|one| one.contains("is not that of this log")), "{found:?}");

    // Who cuts the log off, and everything that was signed of it in the store, is told by the folder.
    let cut = format!(
        "DELETE FROM audit_leaf WHERE seq >= {0}; DELETE FROM audit_checkpoint WHERE size > {0};
         UPDATE audit_tile SET hashes = substr(hashes, 1, 32 * {0}) WHERE level = 0",
        leaves - 2
    );
    let found = after(&house, &cut);
    assert!(found.contains(&format!("leaf {} is missing", leaves - 2)), "{found:?}");
    let removed = "PRAGMA foreign_keys = OFF; DELETE FROM message WHERE status = 'bounced'";
    let found = after(&house, removed);
    assert!(!found.is_empty() && found.iter().all(|one| one.contains("is not in the store")), "{found:?}");
    assert_eq!(findings(&house), Vec::<String>::new());
}

#[test]
fn a_receipt_is_believed_where_there_is_nothing_but_the_public_key_and_a_forged_one_is_not() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let gateway = house.serve();
    let id = gateway.send("ann@customer.example");
    gateway.wait_for_status(&id, "relayed");
    let receipt = gateway.get(&format!("/v1/emails/{id}/receipt"));
    assert_eq!(receipt.status, 200);
    let kinds = |receipt: &Value| -> Vec<String> {
        let leaves = receipt["leaves"].as_array().unwrap().iter();
        let read = |leaf: &Value| serde_json::from_str::<Value>(leaf["leaf"].as_str().unwrap()).unwrap();
        leaves.map(|leaf| read(leaf)["kind"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(&receipt.json()), ["accepted", "attempt-committed", "relayed"]);
    assert!(!String::from_utf8_lossy(&receipt.body).contains("customer.example"), "nobody is named in it");

    // Somewhere else: no configuration, no store.
    let elsewhere = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &[u8]| -> PathBuf {
        let path = elsewhere.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let key = put("key.pub", &fs::read(house.path("data/audit.key.pub")).unwrap());
    let verify = |receipt: &Path, key: &Path| {
        let mut command = postern();
        command.current_dir(elsewhere.path()).args(["audit", "verify", "--receipt"]).arg(receipt);
        finish(command.arg("--public-key").arg(key))
    };
    let good = put("receipt.json", &receipt.body);
    let said = verify(&good, &key);
    assert!(said.status.success() && String::from_utf8_lossy(&said.stdout).contains("relayed"), "{said:?}");
    let text = String::from_utf8(receipt.body.clone()).unwrap();
    for (from, to) in [("relayed", "bounced"), ("\"seq\":", "\"seq\":1"), (&id[..8], "msg_0000")] {
        let forged = put("forged.json", text.replace(from, to).as_bytes());
        let said = verify(&forged, &key);
        assert_eq!(said.status.code(), Some(1), "{from}: {said:?}");
    }
    let other = House::new(free_port(), "");
    other.serve().stop();
    assert_eq!(verify(&good, &other.path("data/audit.key.pub")).status.code(), Some(1), "another log's key");

    // Whoever kept a checkpoint sees that the log only grew from it.
    let kept = put("kept.txt", &gateway.get("/v1/audit/checkpoint").body);
    gateway.wait_for_status(&gateway.send("bob@customer.example"), "relayed");
    let grown = house.json(&["audit", "consistency", kept.to_str().unwrap()]);
    let verify_growth = |growth: &Value| {
        let file = put("grown.json", growth.to_string().as_bytes());
        let mut command = postern();
        command.current_dir(elsewhere.path()).args(["audit", "verify", "--consistency"]).arg(file);
        finish(command.arg("--public-key").arg(&key).args(["--format", "json"]))
    };
    let said = verify_growth(&grown);
    let told: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert!(said.status.success() && told["old"].as_u64() < told["new"].as_u64(), "{said:?}");
    let mut forged = grown.clone();
    let (old, new) = (forged["old"].clone(), forged["new"].clone());
    (forged["old"], forged["new"]) = (new, old);
    assert_eq!(verify_growth(&forged).status.code(), Some(1), "it did not shrink");
    let mut forged = grown;
    forged["proof"][0] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into();
    assert_eq!(verify_growth(&forged).status.code(), Some(1));

    // The command makes the same, beside the gateway.
    let by_command = house.json(&["audit", "proof", &id, "--tenant", "demo"]);
    assert_eq!(kinds(&by_command), kinds(&receipt.json()));
    assert!(verify(&put("command.json", by_command.to_string().as_bytes()), &key).status.success());
    let public = house.json(&["audit", "public-key"])["publicKey"].as_str().unwrap().to_owned();
    assert_eq!(public, fs::read_to_string(&key).unwrap().trim());
    assert_eq!(gateway.get("/v1/emails/msg_01990000000070008000000000000001/receipt").status, 404);
    gateway.stop();
}

#[test]
fn leaves_are_listed_for_their_tenant_and_the_checkpoint_over_them_is_given_to_whoever_may_read() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "[audit]\ncheckpoint_every = \"1s\"\n");
    let gateway = house.serve();
    let ids: Vec<String> = (0..3).map(|n| gateway.send(&format!("ann{n}@customer.example"))).collect();
    for id in &ids {
        gateway.wait_for_status(id, "relayed");
    }
    let list = |query: &str| gateway.get(&format!("/v1/audit?{query}")).json();
    let relayed = list("kind=relayed");
    let found: Vec<&str> =
        relayed["items"].as_array().unwrap().iter().map(|leaf| leaf["messageId"].as_str().unwrap()).collect();
    assert_eq!((found.len(), &relayed["nextCursor"]), (3, &Value::Null));
    assert!(ids.iter().all(|id| found.contains(&id.as_str())), "{relayed}");
    let (mut cursor, mut seqs) = (String::new(), Vec::new());
    loop {
        let page = list(&format!("limit=2&cursor={cursor}"));
        seqs.extend(page["items"].as_array().unwrap().iter().map(|leaf| leaf["seq"].as_u64().unwrap()));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert!(seqs.len() >= 9 && seqs.is_sorted_by(|one, next| one < next), "{seqs:?}");
    assert_eq!(list("until=2020-01-01T00:00:00Z")["items"], json!([]));
    assert_eq!(list("since=2020-01-01T00:00:00Z")["items"].as_array().unwrap().len(), seqs.len());
    assert_eq!(gateway.get("/v1/audit?kind=opened").status, 422);
    let other = request("GET", &gateway.url("/v1/audit"), &[("X-API-KEY", &house.key(&["send"]))], None);
    assert_eq!(other.status, 403);

    let size = |gateway: &Gateway| {
        let answer = gateway.get("/v1/audit/checkpoint");
        let note = String::from_utf8(answer.body.clone()).unwrap();
        let lines: Vec<&str> = note.lines().collect();
        assert!(answer.header("content-type").unwrap().starts_with("text/plain") && lines[0].starts_with("postern-"));
        lines[1].parse::<u64>().unwrap()
    };
    wait_for("a checkpoint over all of it", || (size(&gateway) > *seqs.last().unwrap()).then_some(()));
    assert_eq!(house.verify()["findings"], json!([]), "beside the running gateway");
    gateway.stop();
    let written = fs::read_to_string(house.path("data/audit/checkpoint")).unwrap();
    assert!(written.starts_with("postern-"), "{written}");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(house.path("data/audit.key")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn an_export_is_verified_without_the_store_whole_or_in_part() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let gateway = house.serve();
    for number in 0..5 {
        gateway.wait_for_status(&gateway.send(&format!("ann{number}@customer.example")), "relayed");
    }
    gateway.stop();
    let key = house.path("data/audit.key.pub");
    let export = |arguments: &[&str]| {
        let said = run(&house, &[&["audit", "export"], arguments].concat());
        assert!(said.status.success(), "{said:?}");
        said.stdout
    };
    let verify = |text: &[u8]| {
        let file = house.path("export.ndjson");
        fs::write(&file, text).unwrap();
        let mut command = postern();
        command.args(["audit", "verify", "--format", "json", "--export"]).arg(&file).arg("--public-key").arg(&key);
        let said = finish(&mut command);
        let verdict: Value = serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
        assert_eq!(said.status.success(), verdict["findings"] == json!([]), "{said:?}");
        verdict
    };
    let whole = export(&[]);
    let part = export(&["--tenant", "demo", "--since", "2020-01-01T00:00:00Z"]);
    assert!(verify(&whole)["leaves"].as_u64() > verify(&part)["leaves"].as_u64(), "the gateway's own are no tenant's");
    let altered = |text: &[u8]| String::from_utf8(text.to_vec()).unwrap().replacen("relayed", "bounced", 1);
    assert!(verify(altered(&part).as_bytes())["findings"][0].as_str().unwrap().contains("is not what was logged"));
    assert_ne!(verify(altered(&whole).as_bytes())["findings"], json!([]));
    let cut: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    assert_ne!(verify(&cut[..cut.len() - 1].concat())["findings"], json!([]), "its last leaf is left out");
    assert_ne!(verify(&[&cut[..3], &cut[4..]].concat().concat())["findings"], json!([]), "one is left out");
}

#[test]
fn the_last_checkpoint_is_sent_to_the_outside_place() {
    let receiver = Receiver::start(|_, _| TAKES);
    let house = House::new(free_port(), "[audit]\ncheckpoint_every = \"1s\"\nHERE\n");
    house.replace("HERE", &format!("push_url = \"http://{}/checkpoints\"", receiver.at));
    let gateway = house.serve();
    let first = wait_for("a checkpoint", || receiver.got().first().map(|got| got.body.clone()));
    assert!(first.starts_with("postern-") && first.contains("\n\n\u{2014} postern-"), "{first}");
    gateway.send("ann@customer.example");
    wait_for("the next one", || receiver.got().iter().any(|got| got.body != first).then_some(()));
    gateway.stop();
}

#[test]
fn a_key_that_is_lost_is_replaced_and_the_log_says_so() {
    let house = House::new(free_port(), "");
    house.serve().stop();
    let first = fs::read(house.path("data/audit.key.pub")).unwrap();
    fs::rename(house.path("data/audit.key.pub"), house.path("first.pub")).unwrap();
    fs::remove_file(house.path("data/audit.key")).unwrap();
    house.serve().stop();
    let (old, new) = (house.path("first.pub"), house.path("data/audit.key.pub"));
    assert_ne!(first, fs::read(&new).unwrap());
    let found = findings(&house);
    assert!(
        !found.is_empty() && found.iter().all(|one| one.contains("signed by no key that is believed")),
        "{found:?}"
    );
    let (old, new) = (old.display().to_string(), new.display().to_string());
    let both = run(&house, &["audit", "verify", "--public-key", &new, "--public-key", &old]);
    assert!(both.status.success(), "{both:?}");
    let told = "SELECT count(*) FROM audit_leaf WHERE kind = 'audit-key-set'";
    assert_eq!(database(&house).query_row(told, [], |row| row.get::<_, u32>(0)).unwrap(), 2);
}
