//! What the log never holds: an address, a subject, a body, a link, a key or a password, at any level.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Gateway, House, Inbox, request, wait_for};

/// The most that a log can say.
fn talkative(house: &House, arguments: &[&str]) -> Command {
    let mut command = house.command(arguments);
    command.env("POSTERN__LOG__LEVEL", "trace").env("RUST_LOG", "trace").env("RUST_BACKTRACE", "1");
    command
}

#[test]
fn at_level_trace_no_marker_of_a_mail_and_no_key_is_in_the_log_whatever_becomes_of_the_mail() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "[delivery]\nretry = [\"100ms\"]\n[lanes.urgent]\non_unknown = \"hold\"\n");
    let key = house.key(&["send", "events", "read", "content", "manage"]);
    let other = house.key(&["read"]);
    let mut gateway = House::serve_by(&mut talkative(&house, &["serve"]), key.clone());

    for (name, status, lane) in [
        ("zqaddress", "relayed", "standard"),
        ("550+zqaddress", "bounced", "standard"),
        ("data-550+zqaddress", "bounced", "standard"),
        ("450+zqaddress", "deferred", "standard"),
        ("dot-451+zqaddress", "deferred", "standard"),
        ("dropdata+zqaddress", "held", "urgent"),
        ("dropreply+zqaddress", "held", "urgent"),
    ] {
        let id = send(&gateway, name, lane);
        gateway.wait_for_status(&id, status);
        // Also when it is looked at.
        assert_eq!(gateway.get(&format!("/v1/emails/{id}/content")).status, 200);
        let query = format!("recipient={}@zqdomain.example&tag=zqtag", name.replace('+', "%2B"));
        assert_eq!(gateway.get(&format!("/v1/emails?{query}")).status, 200);
        assert_eq!(gateway.get(&format!("/v1/emails/{id}/zqpath")).status, 404);
    }
    refuse(&gateway, &other);
    // The breaker opens and says why.
    for number in 0..4 {
        send(&gateway, &format!("dropreply+zqaddress{number}"), "urgent");
    }
    gateway.process.wait_for_log("the relay fails: its mails wait");

    gateway.process.signal("TERM");
    assert!(gateway.process.wait().success());
    let log = gateway.process.whole_log();
    assert!(log.len() > 40, "so little was logged that this shows nothing: {log:?}");
    for word in ["bounced", "deferred", "relayed", "unknown", "request answered", "stopped"] {
        assert!(log.iter().any(|line| line.contains(word)), "{word} is not in the log: {log:#?}");
    }
    let secrets = [key.as_str(), &other, "pst_zqwrongkey"].map(|key| key.trim_start_matches("pst_"));
    for line in &log {
        let line = line.to_lowercase();
        assert!(!line.contains("zq"), "a marker is in the log: {line}");
        assert!(!line.contains('@'), "an address is in the log: {line}");
        for secret in secrets {
            assert!(!line.contains(&secret.to_lowercase()), "a key is in the log");
        }
    }
}

fn marked(name: &str, lane: &str) -> Value {
    json!({
        "recipient": format!("Zqname Example <{name}@zqdomain.example>"),
        "emailTemplate": "registration",
        "Subject": "A zqsubject for you",
        "Body": "<p>Some zqbody and <a href=\"https://links.example/zqlink?token=zqtoken\">a link</a></p>",
        "text": "Some zqtext",
        "from": "Zqfrom <wallet@demo.example>",
        "replyTo": "zqreply@demo.example",
        "headers": {"X-Mark": "zqheader"},
        "attachments": [{"filename": "zqfile.txt", "contentType": "text/plain", "content": "enFjb250ZW50"}],
        "lane": lane,
        "tags": ["zqtag"],
        "metadata": {"mark": "zqmetadata"},
    })
}

fn send(gateway: &Gateway, name: &str, lane: &str) -> String {
    let answer = gateway.post_with(&marked(name, lane), &[("Idempotency-Key", &format!("zqidempotency-{name}"))]);
    assert_eq!(answer.status, 202, "{}", answer.json());
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// Submissions that are refused, each for another reason.
fn refuse(gateway: &Gateway, other: &str) {
    let post = |key: &str, content_type: &str, body: &str| {
        let headers = [("X-API-KEY", key), ("Content-Type", content_type)];
        request("POST", &gateway.url("/v1/emails?zqquery=1"), &headers, Some(body.as_bytes())).status
    };
    let good = marked("zqaddress", "standard");
    let mut no_address = good.clone();
    no_address["recipient"] = json!("zqaddress");
    let mut stranger = good.clone();
    stranger["from"] = json!("zqfrom@zqelsewhere.example");
    assert_eq!(post("pst_zqwrongkey", "application/json", &good.to_string()), 401);
    assert_eq!(post(other, "application/json", &good.to_string()), 403);
    assert_eq!(post(&gateway.key, "application/json", &stranger.to_string()), 403);
    assert_eq!(post(&gateway.key, "application/json", &no_address.to_string()), 422);
    assert_eq!(post(&gateway.key, "application/json", "{\"recipient\": \"zqaddress"), 400);
    assert_eq!(post(&gateway.key, "application/zqtype", "zqbody"), 415);
}

#[test]
fn a_password_is_in_no_output_and_no_log_whatever_is_wrong_beside_it() {
    const SECRET: &str = "zq-swordfish";
    let inbox = Inbox::start();
    let house = House::with_relay(
        inbox.smtp,
        "",
        "username = \"postern\"\nallow_plaintext = true\nconnect_timeout = \"5s\"\npassword_file = \"PASSWORD\"\n",
    );
    let file = house.path("password");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    house.replace("\"PASSWORD\"", &format!("\"{}\"", file.display()));
    let said = std::cell::RefCell::new(String::new());
    let run = |arguments: &[&str], code: i32| {
        let output = crate::harness::finish(&mut talkative(&house, arguments));
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        said.borrow_mut().push_str(&text);
    };
    run(&["check"], 0);
    run(&["check", "--format", "json"], 0);
    // The inbox offers no AUTH, so greeting it fails.
    run(&["check", "--relay"], 2);
    run(&["keys", "list"], 0);

    let key = house.key(&["send", "read"]);
    let mut gateway = House::serve_by(&mut talkative(&house, &["serve"]), key);
    gateway.send("ann@customer.example");
    wait_for("the breaker to open", || (gateway.get("/readyz").json()["relays"][0]["breaker"] == "open").then_some(()));
    said.borrow_mut().push_str(&String::from_utf8(gateway.get("/readyz").body).unwrap());
    gateway.process.signal("TERM");
    assert!(gateway.process.wait().success());
    said.borrow_mut().push_str(&gateway.process.whole_log().join("\n"));

    // The same secret in the file itself, beside things that are wrong, and of a wrong type.
    house.replace("password_file = ", "colour = \"red\"\npassword_file = ");
    run(&["check"], 2);
    house.replace("colour = \"red\"\n", &format!("password = \"{SECRET}\"\n"));
    run(&["check"], 2);
    house.replace(&format!("password = \"{SECRET}\"\n"), &format!("password = [\"{SECRET}\"]\n"));
    run(&["serve"], 2);
    house.replace(&format!("password = [\"{SECRET}\"]\n"), &format!("password = \"{SECRET}\n"));
    run(&["serve"], 2);
    run(&["check", "--format", "json"], 2);
    let said = said.into_inner();
    assert!(said.len() > 1_000, "{said}");
    assert!(!said.contains(SECRET), "the password was said: {said}");
}
