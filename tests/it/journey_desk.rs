//! Journeys as operators see and steer them: doors, commands, and a drawing that is wrong.

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, House, Inbox, finish, request, succeed, wait_for};
use crate::reload::{leaves, refused, reload};

const WELCOME: &str = r#"
tenant = "demo"
trigger = "pass.first-install"
[[step]]
send = "welcome"
[[step]]
wait = "1s"
[[step]]
send = "tips"
"#;

/// A folder of templates that are a word each: what is rendered is not what is tried here.
pub(crate) fn plain_templates(house: &House, names: &[&str]) {
    for name in names {
        for (file, text) in [("en/subject.hbs", *name), ("en/body.text.hbs", *name), ("sample.json", "{}")] {
            let path = house.path("own").join("mail").join(name).join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }
    let own = house.path("own").display().to_string();
    house.replace("[log]", &format!("[templates]\ndir = {own:?}\n[log]"));
}

/// An event of a customer's pass, with their address on it.
pub(crate) fn event(gateway: &Gateway, kind: &str, customer: &str, device: &str, identifiers: &Value) -> Value {
    let mut all = json!({"customerId": customer});
    all.as_object_mut().unwrap().extend(identifiers.as_object().unwrap().clone());
    let body = json!({"event": kind, "passId": format!("P-{customer}"), "device": device, "identifiers": all});
    let answer = post(gateway, "/v1/pass-events", &body);
    assert_eq!(answer.status, 202, "{}", answer.json());
    answer.json()
}

pub(crate) fn post(gateway: &Gateway, path: &str, body: &Value) -> Answer {
    let headers = [("X-API-KEY", gateway.key.as_str()), ("Content-Type", "application/json")];
    request("POST", &gateway.url(path), &headers, Some(body.to_string().as_bytes()))
}

fn install(gateway: &Gateway, customer: &str) -> usize {
    let email = json!({"email": format!("{customer}@example.com")});
    event(gateway, "installed", customer, "apple", &email)["enrollments"].as_array().unwrap().len()
}

fn status(gateway: &Gateway, status: &str) -> u64 {
    gateway.get("/v1/journeys/welcome").json()["byStatus"][status].as_u64().unwrap()
}

#[test]
fn a_journey_is_paused_resumed_and_drained_by_doors_and_commands_and_the_audit_says_why() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    house
        .write("journeys/welcome.toml", &WELCOME.replace("\"welcome\"", "\"first\"").replace("\"tips\"", "\"second\""));
    plain_templates(&house, &["first", "second"]);
    let gateway = house.serve();
    let paused = post(&gateway, "/v1/journeys/welcome/pause", &json!({"because": "wrong price"}));
    assert_eq!((paused.status, &paused.json()["mode"]), (200, &json!("paused")));
    assert_eq!(install(&gateway, "zq1"), 1, "who is to enter still enters");
    assert_eq!(status(&gateway, "active"), 1);

    let drained = house.json(&["journeys", "drain", "welcome", "--because", "the summer is over"]);
    assert_eq!(drained["mode"], "draining");
    assert_eq!(install(&gateway, "zq2"), 0, "nobody enters");
    wait_for("who is in it goes on", || (status(&gateway, "completed") == 1).then_some(()));
    wait_for("both mails", || (inbox.total() == 2).then_some(()));

    let resumed = house.json(&["journeys", "resume", "welcome"]);
    assert_eq!(resumed["mode"], "running");
    assert_eq!(house.json(&["journeys", "resume", "welcome"])["mode"], "running", "said twice it is done once");
    assert_eq!(install(&gateway, "zq3"), 1);
    wait_for("the third and fourth", || (inbox.total() == 4).then_some(()));
    let said: Vec<_> =
        leaves(&house, "journey-set").into_iter().map(|leaf| (leaf["mode"].clone(), leaf["because"].clone())).collect();
    assert_eq!(
        said,
        [
            (json!("paused"), json!("wrong price")),
            (json!("draining"), json!("the summer is over")),
            (json!("running"), Value::Null)
        ]
    );
    gateway.stop();
}

#[test]
fn a_journey_and_who_is_in_it_are_shown_page_by_page_and_with_their_mails() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    house
        .write("journeys/welcome.toml", &WELCOME.replace("\"welcome\"", "\"first\"").replace("\"tips\"", "\"second\""));
    house.write("tenants/other.toml", "from = \"o@other.example\"\nrelays = [\"primary\"]\n");
    plain_templates(&house, &["first", "second"]);
    let gateway = house.serve();
    for customer in ["zq1", "zq2", "zq3"] {
        install(&gateway, customer);
    }
    event(&gateway, "installed", "zq4", "google", &json!({}));
    wait_for("the end", || (status(&gateway, "completed") == 3).then_some(()));

    let (mut path, mut customers) = ("/v1/journeys/welcome/enrollments?limit=3".to_owned(), Vec::new());
    loop {
        let page = gateway.get(&path).json();
        customers.extend(
            page["items"].as_array().unwrap().iter().map(|item| item["customerId"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        path = format!("/v1/journeys/welcome/enrollments?limit=3&cursor={cursor}");
    }
    assert_eq!(customers, ["zq4", "zq3", "zq2", "zq1"], "newest first");
    let waits = gateway.get("/v1/journeys/welcome/enrollments?status=awaiting-contact").json();
    assert_eq!((waits["items"].as_array().unwrap().len(), &waits["items"][0]["customerId"]), (1, &json!("zq4")));
    let one = gateway.get("/v1/journeys/welcome/enrollments?customerId=zq2").json()["items"][0].clone();
    let shown = gateway.get(&format!("/v1/journeys/welcome/enrollments/{}", one["id"].as_str().unwrap())).json();
    let mails: Vec<_> =
        shown["mails"].as_array().unwrap().iter().map(|mail| mail["template"].as_str().unwrap()).collect();
    assert_eq!((mails, &shown["status"]), (vec!["first", "second"], &json!("completed")));

    let journey = gateway.get("/v1/journeys/welcome").json();
    assert_eq!(
        (&journey["entered"], &journey["drawn"], &journey["trigger"]),
        (&json!(4), &json!(true), &json!("pass.first-install"))
    );
    assert_eq!(journey["drawing"]["steps"][2]["send"], "second");
    let sent: Vec<_> = journey["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| {
            (step["step"].as_u64().unwrap(), step["outcome"].as_str().unwrap(), step["count"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(sent, [(0, "sent", 3), (1, "waited", 3), (2, "sent", 3)]);
    assert_eq!(gateway.get("/v1/journeys?x=1").status, 422);
    let line = gateway.get("/v1/journeys").json()["items"][0].clone();
    assert_eq!((&line["name"], &line["byStatus"]["completed"]), (&json!("welcome"), &json!(3)));
    let text = succeed(&mut house.command(&["journeys", "show", "welcome"]));
    assert!(text.contains("2  send second  (3 sent)"), "{text}");

    let other = house.key_of("other", &["read", "manage"]);
    for (method, key, path, expected) in [
        ("GET", &gateway.key, "/v1/journeys/nobody", 404),
        ("GET", &gateway.key, "/v1/journeys/UP", 404),
        ("GET", &gateway.key, "/v1/journeys/nobody/enrollments", 404),
        ("GET", &gateway.key, "/v1/journeys/welcome/enrollments/enr_1", 404),
        ("GET", &gateway.key, "/v1/journeys/welcome/enrollments?status=zq", 422),
        ("GET", &gateway.key, "/v1/journeys/welcome/pause", 405),
        ("POST", &gateway.key, "/v1/journeys/nobody/pause", 404),
        ("GET", &other, "/v1/journeys/welcome", 404),
        ("POST", &other, "/v1/journeys/welcome/drain", 404),
        ("POST", &house.key(&["read"]), "/v1/journeys/welcome/pause", 403),
        ("GET", &house.key(&["send"]), "/v1/journeys", 403),
    ] {
        let answer = request(method, &gateway.url(path), &[("X-API-KEY", key)], None);
        assert_eq!(answer.status, expected, "{method} {path}: {}", answer.json());
    }
    assert_eq!(gateway.get("/v1/journeys").json()["items"][0]["mode"], "running");
    gateway.stop();
}

#[test]
fn a_journey_whose_file_is_taken_away_is_shown_as_it_was_and_the_audit_names_journeys() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    house
        .write("journeys/welcome.toml", &WELCOME.replace("\"welcome\"", "\"first\"").replace("\"tips\"", "\"second\""));
    plain_templates(&house, &["first", "second"]);
    let gateway = house.serve();
    install(&gateway, "zq1");
    wait_for("the end", || (status(&gateway, "completed") == 1).then_some(()));
    let before = gateway.get("/v1/journeys/welcome").json();
    std::fs::remove_file(house.config().join("journeys/welcome.toml")).unwrap();
    assert_eq!(reload(&gateway)["sections"], "journeys");
    let leaf = wait_for("the leaf", || leaves(&house, "config-changed").pop());
    assert_eq!(leaf["sections"], json!(["journeys"]));
    assert_eq!(install(&gateway, "zq2"), 0);
    let after = gateway.get("/v1/journeys/welcome").json();
    assert_eq!((&before["drawn"], &after["drawn"]), (&json!(true), &json!(false)));
    for same in ["version", "drawing", "byStatus", "steps", "trigger", "versions"] {
        assert_eq!(before[same], after[same], "{same}");
    }
    let listed = house.json(&["journeys", "list"]);
    assert_eq!((&listed[0]["name"], &listed[0]["drawn"]), (&json!("welcome"), &json!(false)));
    let text = succeed(&mut house.command(&["journeys", "show", "welcome"]));
    assert!(text.contains("There is no file of it any more"), "{text}");
    gateway.stop();
}

#[test]
fn a_wrong_drawing_is_named_by_file_line_and_key_and_neither_a_start_nor_a_signal_takes_it() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    house.write("journeys/welcome.toml", WELCOME);
    let gateway = house.serve();
    house.write("journeys/welcome.toml", &WELCOME.replace("send = \"tips\"", "send = \"tip\"\nunles = {}"));
    let line = refused(&gateway);
    assert_eq!((&line["key"], &line["line"]), (&json!("step[2].unles"), &json!(10)), "{line}");
    assert_eq!(install(&gateway, "zq1"), 1, "nothing has changed");
    gateway.stop();

    let file = house.config().join("journeys/welcome.toml").display().to_string();
    house.write("journeys/welcome.toml", &WELCOME.replace("send = \"tips\"", "send = \"tip\""));
    for command in ["check", "serve"] {
        let output = finish(&mut house.command(&[command]));
        assert_eq!(output.status.code(), Some(2), "{command}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            said.contains(&format!("{file}: line 9: step[2].send: there is no template \"tip\"")),
            "{command}: {said}"
        );
    }
    let checked = finish(house.command(&["check"]).args(["--format", "json"]));
    let answer: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let problem = json!({"file": file, "line": 9, "key": "step[2].send", "detail": "there is no template \"tip\""});
    assert_eq!(answer["problems"], json!([problem]));
}
