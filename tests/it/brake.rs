//! The blast brake: a stream that jumps is held, or raises an alarm, while all others flow; and an operator decides.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, House, Inbox, finish, mail, request, wait_for, wait_within};

/// Five mails in a window are in line, and windows are long.
const HOLD: &str = "[brake]\nhold = true\nwindow = \"1h\"\nmin_mails = 5\nsame_recipient = 3\nbounce_min = 10\n";
/// The same, and nothing is held.
const ALARM: &str = "[brake]\nwindow = \"1h\"\nmin_mails = 5\nsame_recipient = 3\nbounce_min = 10\ncalm = \"1s\"\n";

/// Hands in mails of a template to one recipient each; their ids and the states they were accepted in.
fn send_some(gateway: &Gateway, template: &str, count: usize) -> Vec<(String, String)> {
    let each = (0..count).map(|n| {
        let mut body = mail(&format!("user{n}@customer.example"));
        body["emailTemplate"] = json!(template);
        accepted(&gateway.post(&body))
    });
    each.collect()
}

fn accepted(answer: &Answer) -> (String, String) {
    assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
    let body = answer.json();
    (body["id"].as_str().unwrap().to_owned(), body["status"].as_str().unwrap().to_owned())
}

fn statuses(sent: &[(String, String)]) -> Vec<&str> {
    sent.iter().map(|(_, status)| status.as_str()).collect()
}

/// The brakes that are on, over HTTP.
fn brakes(gateway: &Gateway) -> Vec<Value> {
    gateway.get("/v1/brakes").json()["items"].as_array().unwrap().clone()
}

/// The one brake that is on.
fn the_brake(gateway: &Gateway) -> Value {
    let mut brakes = brakes(gateway);
    assert_eq!(brakes.len(), 1, "{brakes:?}");
    brakes.remove(0)
}

fn decide(gateway: &Gateway, key: &str, id: &str, decision: &str, body: &str) -> Answer {
    let mut headers = vec![("X-API-KEY", key)];
    if !body.is_empty() {
        headers.push(("Content-Type", "application/json"));
    }
    request("POST", &gateway.url(&format!("/v1/brakes/{id}/{decision}")), &headers, Some(body.as_bytes()))
}

/// What `postern brake …` answers as JSON, its exit code and its complaints.
fn brake(house: &House, arguments: &[&str]) -> (Value, Option<i32>, String) {
    let ran = finish(house.command(&["brake"]).args(arguments).args(["--format", "json"]));
    let said = String::from_utf8(ran.stderr).unwrap();
    (serde_json::from_slice(&ran.stdout).unwrap_or(Value::Null), ran.status.code(), said)
}

#[test]
fn a_stream_that_jumps_is_held_while_others_flow_and_one_command_releases_it() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, HOLD);
    let gateway = house.serve();
    let blast = send_some(&gateway, "newsletter", 12);
    assert_eq!(statuses(&blast), [["queued"; 5].as_slice(), &["held"; 7]].concat());
    let line = gateway.process.wait_for_log("a stream of mails is out of line: it is held until you decide");
    assert_eq!((&line["level"], &line["cause"], &line["seen"]), (&json!("ERROR"), &json!("volume"), &json!(6)));
    assert_eq!((&line["template"], &line["allowed"]), (&json!("newsletter"), &json!(5)));
    assert!(!line.to_string().contains('@'), "{line}");

    let other = send_some(&gateway, "registration", 3);
    let urgent = send_some(&gateway, "login-challenge", 9);
    assert_eq!(statuses(&other), ["queued"; 3]);
    assert_eq!(statuses(&urgent), ["queued"; 9], "urgent mails are not even counted");
    for (id, _) in other.iter().chain(&urgent) {
        gateway.wait_for_status(id, "relayed");
    }
    let (id, _) = &blast[11];
    let held = gateway.message(id);
    assert_eq!((&held["status"], &held["reason"]), (&json!("held"), &json!("brake")));
    assert_eq!(gateway.kinds(id), ["accepted", "held"]);

    let shown = the_brake(&gateway);
    assert_eq!(
        (&shown["status"], &shown["cause"], &shown["holds"]),
        (&json!("engaged"), &json!("volume"), &json!(true))
    );
    assert_eq!((&shown["template"], &shown["tenant"]), (&json!("newsletter"), &json!("demo")));
    assert!(shown["held"].as_u64().unwrap() >= 7 && shown["keyId"].as_str().unwrap().starts_with("key_"), "{shown}");
    let (listed, code, _) = brake(&house, &["list"]);
    assert_eq!((listed[0]["id"].clone(), code), (shown["id"].clone(), Some(0)));

    let brake_id = shown["id"].as_str().unwrap();
    let (answer, code, said) = brake(&house, &["release", brake_id]);
    assert_eq!((answer, code), (Value::Null, Some(2)), "{said}");
    assert!(said.contains("newsletter") && said.contains("would go on") && said.contains("--yes"), "{said}");
    let (answer, code, said) = brake(&house, &["release", brake_id, "--yes", "--because", "the summer campaign"]);
    assert_eq!((&answer["status"], code), (&json!("released"), Some(0)), "{said}");
    assert!(answer["done"].as_u64().unwrap() >= 7, "{answer}");
    for (id, _) in &blast {
        gateway.wait_for_status(id, "relayed");
    }
    assert_eq!(inbox.total(), 24);
    let events = gateway.get(&format!("/v1/emails/{id}/events")).json();
    let released = &events["items"][2];
    assert_eq!((&released["kind"], &released["actor"]), (&json!("released"), &json!("command:brake")));
    assert_eq!(released["because"], "the summer campaign");
    let (_, code, said) = brake(&house, &["release", brake_id, "--yes"]);
    assert!(code == Some(1) && said.contains("it is released"), "{said}");

    // The gateway has seen it, and so much is usual now.
    gateway.process.wait_for_log("a brake is off");
    assert_eq!(statuses(&send_some(&gateway, "newsletter", 30)), ["queued"; 30]);
    gateway.stop();
    house.verify();
}

#[test]
fn what_was_waiting_before_the_brake_went_on_is_held_too_and_one_call_cancels_it_all() {
    let house = House::new(crate::harness::free_port(), HOLD);
    let (reader, gateway) = (house.key(&["read"]), house.serve());
    let blast = send_some(&gateway, "newsletter", 8);
    let other = send_some(&gateway, "registration", 1);
    assert_eq!(statuses(&blast), [["queued"; 5].as_slice(), &["held"; 3]].concat());
    for (id, _) in &blast {
        gateway.wait_for_status(id, "held");
    }
    let shown = the_brake(&gateway);
    let id = shown["id"].as_str().unwrap();
    assert_eq!(shown["held"], 8);

    assert_eq!(decide(&gateway, &reader, id, "cancel", "").status, 403);
    assert_eq!(decide(&gateway, &gateway.key, "brk_00000000000000000000000000000000", "cancel", "").status, 404);
    let wrong = decide(&gateway, &gateway.key, id, "cancel", r#"{"deliverBy": "2030-01-01T00:00:00Z"}"#);
    assert_eq!((wrong.status, &wrong.json()["errors"][0]["pointer"]), (422, &json!("/deliverBy")));
    let done = decide(&gateway, &gateway.key, id, "cancel", r#"{"because": "a loop in a script"}"#);
    assert_eq!(done.status, 200, "{}", done.json());
    let done = done.json();
    assert_eq!((&done["status"], &done["done"], &done["held"]), (&json!("cancelled"), &json!(8), &json!(0)));
    assert_eq!(done["because"], "a loop in a script");
    assert!(done["decidedBy"].as_str().unwrap().starts_with("key_"), "{done}");
    for (id, _) in &blast {
        assert_eq!(gateway.message(id)["status"], "cancelled");
        assert_eq!(gateway.kinds(id).last().unwrap(), "cancelled");
    }
    assert_ne!(gateway.message(&other[0].0)["status"], "cancelled");
    let again = decide(&gateway, &gateway.key, id, "release", "");
    assert_eq!((again.status, &again.json()["type"]), (409, &json!("/problems/wrong-state")));
    assert_eq!(brakes(&gateway), Vec::<Value>::new());

    // New mails flow, and are judged again.
    gateway.process.wait_for_log("a brake is off");
    let next = send_some(&gateway, "newsletter", 6);
    assert_eq!(statuses(&next), [["queued"; 5].as_slice(), &["held"; 1]].concat());
    gateway.stop();
    house.verify();
}

#[test]
fn without_hold_there_is_only_an_alarm_and_it_ends_by_itself() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, ALARM);
    let gateway = house.serve();
    let blast = send_some(&gateway, "newsletter", 12);
    assert_eq!(statuses(&blast), ["queued"; 12]);
    gateway.process.wait_for_log("a stream of mails is out of line");
    for (id, _) in &blast {
        gateway.wait_for_status(id, "relayed");
    }
    wait_for("the end of the alarm", || brakes(&gateway).is_empty().then_some(()));
    let alarms = gateway.process.log().into_iter().filter(|line| line.contains("out of line")).count();
    assert_eq!(alarms, 1, "one line for each time");
    gateway.stop();
    house.verify();
}

#[test]
fn an_alarm_is_shown_while_it_lasts() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, &ALARM.replace("calm = \"1s\"", "calm = \"1h\""));
    let gateway = house.serve();
    send_some(&gateway, "newsletter", 6);
    let shown = the_brake(&gateway);
    assert_eq!((&shown["holds"], &shown["held"], &shown["status"]), (&json!(false), &json!(0), &json!("engaged")));
    let people = finish(&mut house.command(&["brake", "list"]));
    let said = String::from_utf8(people.stdout).unwrap();
    for part in ["CAUSE", "newsletter", "volume", "engaged"] {
        assert!(said.contains(part), "{part}:\n{said}");
    }
    gateway.stop();
}

#[test]
fn a_brake_that_is_off_does_nothing() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, &HOLD.replace("hold = true", "hold = true\nenabled = false"));
    let gateway = house.serve();
    let blast = send_some(&gateway, "newsletter", 30);
    assert_eq!(statuses(&blast), ["queued"; 30]);
    wait_for("all of them", || (inbox.total() == 30).then_some(()));
    assert_eq!(brakes(&gateway), Vec::<Value>::new());
    assert!(gateway.process.log().iter().all(|line| !line.contains("out of line")));
    gateway.stop();
}

#[test]
fn a_brake_stays_on_through_a_restart_and_what_is_usual_is_known_after_it() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, HOLD);
    let gateway = house.serve();
    let key = gateway.key.clone();
    let before = send_some(&gateway, "newsletter", 7);
    let id = the_brake(&gateway)["id"].as_str().unwrap().to_owned();
    gateway.process.signal("KILL");
    drop(gateway);

    let gateway = house.serve_with(key.clone());
    assert_eq!(the_brake(&gateway)["id"], id.as_str());
    let after = send_some(&gateway, "newsletter", 4);
    assert_eq!(statuses(&after), ["held"; 4]);
    assert_eq!(statuses(&send_some(&gateway, "registration", 1)), ["queued"]);
    let done = decide(&gateway, &gateway.key, &id, "release", "");
    assert_eq!(done.json()["status"], "released", "{}", done.json());
    for (id, _) in before.iter().chain(&after) {
        gateway.wait_for_status(id, "relayed");
    }
    gateway.process.wait_for_log("a brake is off");
    gateway.stop();

    // Six were usual for a moment: thirty are in line after the next start, too.
    let gateway = house.serve_with(key);
    assert_eq!(statuses(&send_some(&gateway, "newsletter", 25)), ["queued"; 25]);
    gateway.stop();
}

#[test]
fn near_identical_mails_to_one_recipient_are_held_and_others_are_not() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, &HOLD.replace("min_mails = 5", "min_mails = 1000"));
    let gateway = house.serve();
    let send = |template: &str, recipient: &str, subject: &str, n: usize| {
        let mut body = mail(recipient);
        body["emailTemplate"] = json!(template);
        body["Subject"] = json!(subject);
        body["Body"] = json!(format!("<p>Order {n}: ready since {n}:0{n}.</p>"));
        accepted(&gateway.post(&body)).1
    };
    for n in 0..6 {
        assert_eq!(
            send("chat", "ann@customer.example", &format!("From {}", ["Al", "Bo", "Cy", "Di", "Ed", "Flo"][n]), n),
            "queued"
        );
        assert_eq!(send("order", &format!("user{n}@customer.example"), "Your order", n), "queued");
        assert_eq!(send("login-challenge", "ann@customer.example", "Your code", n), "queued");
    }
    let to_ann: Vec<_> = (0..5).map(|n| send("order", "Ann <ann@customer.example>", "Your order", n)).collect();
    assert_eq!(to_ann, ["queued", "queued", "queued", "held", "held"]);
    let shown = the_brake(&gateway);
    assert_eq!((&shown["cause"], &shown["template"]), (&json!("same-recipient"), &json!("order")));
    assert_eq!((&shown["seen"], &shown["allowed"]), (&json!(4), &json!(3)));
    gateway.stop();
}

#[test]
fn a_stream_that_relays_refuse_is_held() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, &HOLD.replace("min_mails = 5", "min_mails = 1000"));
    let gateway = house.serve();
    let send = |template: &str, recipient: &str| {
        let mut body = mail(recipient);
        body["emailTemplate"] = json!(template);
        accepted(&gateway.post(&body))
    };
    for n in 0..12 {
        send("good", &format!("user{n}@customer.example"));
        send("login-challenge", &format!("550+{n}@customer.example"));
    }
    let bad: Vec<_> = (0..12).map(|n| send("bought-list", &format!("550+bought{n}@customer.example"))).collect();
    for (id, _) in &bad {
        wait_for("an end", || {
            let status = gateway.message(id)["status"].clone();
            (status == "bounced" || status == "held").then_some(())
        });
    }
    let shown = wait_within(Duration::from_secs(10), "the brake", || brakes(&gateway).pop());
    assert_eq!((&shown["cause"], &shown["template"]), (&json!("bounce-share"), &json!("bought-list")));
    assert_eq!((&shown["seen"], &shown["allowed"]), (&json!(1_000), &json!(250)), "of a thousand");
    wait_for("the next mail to be held", || (send("bought-list", "ann@customer.example").1 == "held").then_some(()));
    assert_eq!(send("good", "ann@customer.example").1, "queued");
    assert_eq!(brakes(&gateway).len(), 1);
    gateway.stop();
}

#[test]
fn the_hard_limit_holds_a_stream() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, &HOLD.replace("min_mails = 5", "min_mails = 1000\nlimit = \"4/h\""));
    let gateway = house.serve();
    let sent = send_some(&gateway, "newsletter", 6);
    assert_eq!(statuses(&sent), [["queued"; 4].as_slice(), &["held"; 2]].concat());
    assert_eq!(the_brake(&gateway)["cause"], "limit");
    gateway.stop();
}

#[test]
fn a_release_that_was_interrupted_is_finished_by_the_gateway() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, HOLD);
    let gateway = house.serve();
    let key = gateway.key.clone();
    let blast = send_some(&gateway, "newsletter", 9);
    let id = the_brake(&gateway)["id"].as_str().unwrap().to_owned();
    gateway.stop();
    // Decided while no gateway runs, and carried out with nothing yet: as if the command had been killed in between.
    let store = rusqlite::Connection::open(house.path("data/postern.db")).unwrap();
    let sql = "UPDATE brake SET decision = 'release', decided_at = 1, decided_by = 'command:brake'";
    assert_eq!(store.execute(sql, []).unwrap(), 1);
    drop(store);
    let gateway = house.serve_with(key);
    for (id, _) in &blast {
        gateway.wait_for_status(id, "relayed");
    }
    wait_for("the end of it", || brakes(&gateway).is_empty().then_some(()));
    assert_eq!(decide(&gateway, &gateway.key, &id, "release", "").status, 409);
    gateway.stop();
}

#[test]
fn a_mail_that_was_refused_is_not_counted_for_its_recipient() {
    let inbox = Inbox::start();
    let settings =
        HOLD.replace("min_mails = 5", "min_mails = 1000").replace("same_recipient = 3", "same_recipient = 5");
    // Below what the brake lets one recipient have, and the same.
    for most in [3, 5] {
        let limits = format!("[limits]\nper_key = \"none\"\nper_recipient = \"{most}/h\"\ndisk_free_min = \"0B\"\n");
        let house = House::new(inbox.smtp, &format!("{settings}{limits}"));
        let gateway = house.serve();
        let answers: Vec<_> = (0..9).map(|_| gateway.post(&mail("ann@customer.example")).status).collect();
        assert_eq!(answers, [vec![202; most], vec![429; 9 - most]].concat());
        assert_eq!(brakes(&gateway), Vec::<Value>::new(), "{most} an hour");
        assert_eq!(accepted(&gateway.post(&mail("bob@customer.example"))).1, "queued");
        gateway.stop();
    }
}

#[test]
fn a_decision_is_carried_out_to_its_end_also_when_nothing_is_watched() {
    for decided_while_running in [false, true] {
        let inbox = Inbox::start();
        let house = House::new(inbox.smtp, HOLD);
        let gateway = house.serve();
        let key = gateway.key.clone();
        let blast = send_some(&gateway, "newsletter", 9);
        gateway.stop();
        house.replace("hold = true", "hold = true\nenabled = false");
        // As if the command had been killed in between.
        let decide = || {
            let store = rusqlite::Connection::open(house.path("data/postern.db")).unwrap();
            let sql = "UPDATE brake SET decision = 'release', decided_at = 1, decided_by = 'command:brake'";
            assert_eq!(store.execute(sql, []).unwrap(), 1);
        };
        if !decided_while_running {
            decide();
        }
        let gateway = house.serve_with(key);
        if decided_while_running {
            assert_eq!(gateway.message(&blast[8].0)["status"], "held", "nobody has decided");
            decide();
        }
        for (id, _) in &blast {
            gateway.wait_for_status(id, "relayed");
        }
        wait_for("the end of it", || brakes(&gateway).is_empty().then_some(()));
        gateway.stop();
    }
}

#[test]
fn a_mail_that_a_brake_holds_or_has_ended_says_which_and_why() {
    let house = House::new(crate::harness::free_port(), HOLD);
    let gateway = house.serve();
    let (id, status) = send_some(&gateway, "newsletter", 6).pop().unwrap();
    assert_eq!(status, "held");
    let shown = the_brake(&gateway);
    let brake_id = shown["id"].as_str().unwrap();
    let held = gateway.get(&format!("/v1/emails/{id}/events")).json()["items"][1].clone();
    assert_eq!((&held["kind"], &held["brakeId"]), (&json!("held"), &shown["id"]));
    let why = || gateway.get(&format!("/v1/emails/{id}/why")).json()["decisions"][0].clone();
    let told = why();
    let numbers = json!({"by": "gateway", "brakeId": brake_id, "cause": "volume", "seen": 6, "allowed": 5});
    assert_eq!((&told["rule"], &told["status"], &told["numbers"]), (&json!("brake"), &json!("binds"), &numbers));
    assert!(told["text"].as_str().unwrap().contains(brake_id), "{told}");
    let must = told["mustChange"].as_str().unwrap();
    assert!(must.contains(&format!("postern brake release {brake_id}")) && !must.contains(&id), "{must}");

    assert_eq!(decide(&gateway, &gateway.key, brake_id, "cancel", "").status, 200);
    let told = why();
    assert_eq!((&told["rule"], &told["status"]), (&json!("brake"), &json!("ended")));
    assert_eq!((&told["numbers"]["brakeId"], &told["numbers"]["seen"]), (&shown["id"], &json!(6)));
    let found = house.json(&["queue", "list", "--status", "cancelled", "--reason", "brake"]);
    assert!(found.to_string().contains(&id), "{found}");
    gateway.stop();
}

#[test]
fn a_release_of_near_identical_mails_lets_as_many_go_on() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, &HOLD.replace("min_mails = 5", "min_mails = 1000"));
    let gateway = house.serve();
    let send = |count: usize| -> Vec<_> {
        (0..count).map(|_| accepted(&gateway.post(&mail("ann@customer.example"))).1).collect()
    };
    assert_eq!(send(4), [["queued"; 3].as_slice(), &["held"; 1]].concat());
    let shown = the_brake(&gateway);
    let (_, code, said) = brake(&house, &["release", shown["id"].as_str().unwrap()]);
    assert!(code == Some(2) && said.contains("near-identical") && said.contains("starts again"), "{said}");
    let (_, code, said) = brake(&house, &["release", shown["id"].as_str().unwrap(), "--yes"]);
    assert_eq!(code, Some(0), "{said}");
    gateway.process.wait_for_log("a brake is off");
    // Four were seen, and so five times four are in line.
    assert_eq!(send(21), [["queued"; 20].as_slice(), &["held"; 1]].concat());
    assert_eq!(the_brake(&gateway)["allowed"], 20);
    gateway.stop();
}
