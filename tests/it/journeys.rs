//! Journeys through the real binary: an install becomes a welcome, and what follows.
//!
//! Days pass by starting the binary again on a clock that is so much ahead (`ahead.c`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::connector::in_repository;
use crate::connector_pass::{INSTALLED, SAMPLE, UNINSTALLED, call, made};
use crate::harness::{Gateway, House, Inbox, request, succeed, try_request, wait_for, wait_within};

/// Three mails over some days; a removal ends it.
const WELCOME: &str = r#"
tenant = "demo"
trigger = "pass.first-install"
entry = "once-per-customer"
exit_on = ["pass.removed"]
[[step]]
send = "welcome"
[[step]]
wait = "2d"
[[step]]
send = "tips"
unless = { wallet_status = ["both"] }
[[step]]
wait = "1d"
[[step]]
send = "goodbye"
"#;

/// Mails of few words: what counts here is that they are written at all.
fn few_words(house: &House) {
    for mail in ["welcome", "tips", "goodbye"] {
        for culture in ["en", "fr"] {
            let place = house.path("own/mail").join(mail).join(culture);
            std::fs::create_dir_all(&place).unwrap();
            std::fs::write(place.join("subject.hbs"), mail).unwrap();
            std::fs::write(place.join("body.html.hbs"), "<p>{{name}}</p>").unwrap();
        }
    }
    let own = house.path("own").display().to_string();
    house.replace("[log]", &format!("[templates]\ndir = {own:?}\n[log]"));
}

/// How many customers are enrolled while the gateway is killed.
const CUSTOMERS: usize = 5_000;
/// Every so many of them removes the pass after the welcome.
const REMOVES: usize = 5;
/// Events in one request.
const AT_ONCE: usize = 250;
/// How often the gateway is killed at each stage.
const KILLS: u64 = 4;
const STAGE_MAX: Duration = Duration::from_mins(4);

fn house(relay: std::net::SocketAddr) -> House {
    let house = House::new(relay, "");
    house.write("journeys/welcome.toml", WELCOME);
    house
}

fn put_contact(gateway: &Gateway, customer: &str, culture: &str) {
    let body = json!({"email": format!("{customer}@example.com"), "name": "Ann", "culture": culture}).to_string();
    let headers = [("X-API-KEY", gateway.key.as_str()), ("Content-Type", "application/json")];
    let url = gateway.url(&format!("/v1/contacts/{customer}"));
    assert!(request("PUT", &url, &headers, Some(body.as_bytes())).status < 300);
}

fn enrollments(gateway: &Gateway, more: &str) -> Vec<Value> {
    let answer = gateway.get(&format!("/v1/journeys/welcome/enrollments?limit=100{more}"));
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()["items"].as_array().unwrap().clone()
}

/// How many steps went in each way, as `step outcome`.
fn funnel(gateway: &Gateway) -> BTreeMap<String, u64> {
    let shown = gateway.get("/v1/journeys/welcome").json();
    let mut counts = BTreeMap::new();
    for step in shown["steps"].as_array().unwrap_or_else(|| panic!("{shown}")) {
        let key = format!("{} {}", step["step"], step["outcome"].as_str().unwrap());
        *counts.entry(key).or_default() += step["count"].as_u64().unwrap();
    }
    counts
}

fn mails_to(inbox: &Inbox, customer: &str) -> Vec<Value> {
    let url = inbox.url(&format!("/messages?limit=100&recipient={customer}@example.com"));
    request("GET", &url, &[], None).json()["items"].as_array().unwrap().clone()
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn an_install_through_the_sample_connector_is_welcomed_within_a_second_in_the_customer_s_language() {
    let inbox = Inbox::start();
    let gateway = house(inbox.smtp).serve_keeping();
    for (customer, culture, words) in [("zqfr", "fr-CA", "votre carte"), ("zqen", "en", "your Demo Brand card")] {
        put_contact(&gateway, customer, culture);
        let answer = made(call(SAMPLE, &gateway, INSTALLED, customer, "apple", 1));
        let enrolled = answer["enrollments"][0].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        let mail = wait_for("the welcome", || mails_to(&inbox, customer).pop());
        let subject = mail["subject"].as_str().unwrap();
        assert!(subject.contains(words), "{subject}");
        let entered = enrollments(&gateway, &format!("&customerId={customer}"));
        assert_eq!(entered[0]["id"], enrolled.as_str(), "{entered:?}");
        let took = time(&mail["receivedAt"]).duration_since(time(&entered[0]["enteredAt"]));
        assert!(took.as_millis() < 1_000, "{took:?}");
        // Removed, and back: nobody is welcomed twice, and the tips that were to follow do not.
        made(call(SAMPLE, &gateway, UNINSTALLED, customer, "apple", 0));
        wait_for("the end", || (enrollments(&gateway, "")[0]["status"] == "exited").then_some(()));
    }
    assert_eq!(inbox.total(), 2);
    gateway.stop();
}

#[test]
fn three_hundred_installs_at_once_are_one_welcome_and_the_mail_tells_of_its_journey() {
    let inbox = Inbox::start();
    let gateway = house(inbox.smtp).serve_keeping();
    put_contact(&gateway, "zq", "en");
    let (url, key) = (&gateway.url("/v1/pass-events"), gateway.key.as_str());
    let entered: usize = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..10)
            .map(|thread| {
                scope.spawn(move || {
                    let mut entered = 0;
                    for number in 0..30 {
                        let mut event = json!({"event": "installed", "passId": "P-zq", "device": "apple",
                            "identifiers": {"customerId": "zq"}});
                        if number % 3 == 0 {
                            event["eventId"] = json!(format!("{thread}-{number}"));
                        }
                        let headers = [("X-API-KEY", key), ("Content-Type", "application/json")];
                        let answer = request("POST", url, &headers, Some(event.to_string().as_bytes()));
                        assert_eq!(answer.status, 202);
                        entered += answer.json()["enrollments"].as_array().unwrap().len();
                    }
                    entered
                })
            })
            .collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).sum()
    });
    assert_eq!(entered, 1);
    let mail = wait_for("the welcome", || {
        gateway.get("/v1/emails?limit=10").json()["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|mail| mail["status"] == "relayed")
            .cloned()
    });
    assert_eq!(
        (&mail["journey"], &mail["lane"], &mail["template"]),
        (&json!("welcome"), &json!("journey"), &json!("welcome"))
    );
    assert!(gateway.kinds(mail["id"].as_str().unwrap()).contains(&"stepped".to_owned()));
    assert_eq!((inbox.total(), enrollments(&gateway, "").len()), (1, 1));
    gateway.stop();
}

#[test]
fn another_drawing_and_another_template_hold_from_a_signal_on_and_who_has_begun_keeps_their_drawing() {
    let inbox = Inbox::start();
    let house = house(inbox.smtp);
    house.write("journeys/welcome.toml", &WELCOME.replace("wait = \"2d\"", "wait = \"1s\""));
    let own = house.path("own");
    let write = |name: &str, text: &str| {
        let path = own.join("mail/welcome/en").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("subject.hbs", "First words");
    house.replace("[log]", &format!("[templates]\ndir = {:?}\n[log]", own.display().to_string()));
    let gateway = house.serve();
    put_contact(&gateway, "zqone", "en");
    put_contact(&gateway, "zqtwo", "en");
    made(call(SAMPLE, &gateway, INSTALLED, "zqone", "apple", 1));
    let first = wait_for("the welcome", || mails_to(&inbox, "zqone").pop());
    assert_eq!(first["subject"], "First words");
    write("subject.hbs", "Second words");
    let (head, _) = WELCOME.split_once("[[step]]\nwait").unwrap();
    house.write("journeys/welcome.toml", head);
    gateway.process.signal("HUP");
    gateway.process.wait_for_log("the configuration was read again and holds from now on");
    made(call(SAMPLE, &gateway, INSTALLED, "zqtwo", "apple", 1));
    let second = wait_for("the welcome", || mails_to(&inbox, "zqtwo").pop());
    assert_eq!(second["subject"], "Second words");
    wait_for("the tips of who began before", || (mails_to(&inbox, "zqone").len() == 2).then_some(()));
    let versions: Vec<_> = enrollments(&gateway, "").into_iter().map(|one| one["version"].clone()).collect();
    assert!(versions.len() == 2 && versions[0] != versions[1], "{versions:?}");
    let done = enrollments(&gateway, "&customerId=zqtwo");
    assert_eq!(done[0]["status"], "completed", "one step is all there is");
    gateway.stop();
}

// --- killed again and again ---

/// What gives a process another clock, built for this house.
fn clockwork(house: &House) -> PathBuf {
    let library = house.path("ahead.so");
    let source = in_repository("tests/it/ahead.c");
    succeed(Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(source));
    library
}

/// `serve` on a clock that is so many hours ahead.
fn ahead(house: &House, hours: u64) -> Command {
    let mut command = house.command(&["serve"]);
    command.env("LD_PRELOAD", house.path("ahead.so")).env("POSTERN_TEST_AHEAD", (hours * 3_600).to_string());
    command
}

/// Starts and kills the gateway some times, on a clock so much ahead, while `work` is done, then lets it come to its end.
fn survive(
    house: &House,
    key: &str,
    hours: u64,
    seed: u64,
    mut work: impl FnMut(&Gateway),
    is_done: impl Fn(&Gateway) -> bool,
) {
    for kill in 0..KILLS {
        let mut gateway = House::serve_by(&mut ahead(house, hours), key.to_owned());
        let life = Duration::from_millis(100 + (seed * 977 + kill * 7_919) % 900);
        std::thread::scope(|scope| {
            let process = gateway.process.id().to_string();
            scope.spawn(move || {
                // The moment of death is the point of the test, so it is a time and not a condition.
                let (_keep, never) = std::sync::mpsc::channel::<()>();
                let _ = never.recv_timeout(life);
                succeed(Command::new("kill").args(["-KILL", &process]));
            });
            work(&gateway);
        });
        gateway.process.wait();
    }
    let gateway = House::serve_by(&mut ahead(house, hours), key.to_owned());
    work(&gateway);
    wait_within(STAGE_MAX, "all to be where they belong", || is_done(&gateway).then_some(()));
    gateway.stop();
}

/// Posts events of these customers, as far as that is possible; a caller repeats what was not answered.
fn tell(gateway: &Gateway, event: &str, customers: &[usize], told: &mut usize) {
    while *told < customers.len() {
        let next = &customers[*told..customers.len().min(*told + AT_ONCE)];
        let events: Vec<_> = next
            .iter()
            .map(|number| {
                json!({"event": event, "passId": format!("P-{number}"), "device": "apple",
                    "identifiers": {"customerId": format!("zq{number}")}, "eventId": format!("{event} {number}")})
            })
            .collect();
        let headers = [("X-API-KEY", gateway.key.as_str()), ("Content-Type", "application/json")];
        let body = Value::from(events).to_string();
        match try_request("POST", &gateway.url("/v1/pass-events"), &headers, Some(body.as_bytes())) {
            Ok(answer) if answer.status == 202 => *told += next.len(),
            Ok(answer) => panic!("{}: {}", answer.status, answer.json()),
            Err(_) => return,
        }
    }
}

#[test]
fn five_thousand_ways_end_where_they_would_have_ended_however_often_the_gateway_is_killed() {
    let inbox = Inbox::start();
    let house = house(inbox.smtp);
    clockwork(&house);
    few_words(&house);
    let key = house.key(&["send", "events", "read", "content", "manage"]);
    let mut rows = String::from("customerId,email,name,culture\n");
    for number in 0..CUSTOMERS {
        let culture = if number % 2 == 0 { "en" } else { "fr" };
        writeln!(rows, "zq{number},zq{number}@example.com,Ann {number},{culture}").unwrap();
    }
    house.write("contacts.csv", &rows);
    let file = house.config().join("contacts.csv");
    succeed(&mut house.command(&["contacts", "import", "--tenant", "demo", file.to_str().unwrap()]));
    std::fs::remove_file(&file).unwrap();
    let all: Vec<usize> = (0..CUSTOMERS).collect();
    let removed: Vec<usize> = all.iter().copied().filter(|number| number % REMOVES == 0).collect();
    let (everybody, left) = (CUSTOMERS as u64, (CUSTOMERS - removed.len()) as u64);
    let reached = |gateway: &Gateway, step: &str, count: u64| funnel(gateway).get(step).copied().unwrap_or(0) >= count;

    let mut told = 0;
    survive(
        &house,
        &key,
        0,
        1,
        |gateway| tell(gateway, "installed", &all, &mut told),
        |gateway| reached(gateway, "0 sent", everybody) && settled(gateway),
    );
    let mut told = 0;
    survive(
        &house,
        &key,
        1,
        2,
        |gateway| tell(gateway, "uninstalled", &removed, &mut told),
        |gateway| gateway.get("/v1/journeys/welcome").json()["byStatus"]["exited"] == removed.len() as u64,
    );
    survive(&house, &key, 49, 3, |_| (), |gateway| reached(gateway, "2 sent", left) && settled(gateway));
    survive(&house, &key, 75, 4, |_| (), |gateway| reached(gateway, "4 sent", left) && settled(gateway));

    let gateway = House::serve_by(&mut ahead(&house, 76), key);
    let shown = gateway.get("/v1/journeys/welcome").json();
    let stand = shown["byStatus"].as_object().unwrap().iter().filter(|(_, count)| **count != 0);
    let stand: BTreeMap<_, _> = stand.map(|(status, count)| (status.as_str(), count.as_u64().unwrap())).collect();
    assert_eq!(stand, [("completed", left), ("exited", everybody - left)].into(), "{shown}");
    let wanted =
        [("0 sent", everybody), ("1 waited", everybody), ("2 sent", left), ("3 waited", left), ("4 sent", left)];
    assert_eq!(funnel(&gateway), wanted.map(|(step, count)| (step.to_owned(), count)).into());
    gateway.stop();
    each_mail_exists_once(&house, everybody, left);
    house.verify();
}

/// Whether no mail is on its way any more; what is unknown waits for an operator.
fn settled(gateway: &Gateway) -> bool {
    ["queued", "deferred", "unknown"].iter().all(|status| {
        let answer = gateway.get(&format!("/v1/emails?limit=1&status={status}")).json();
        answer["items"].as_array().is_some_and(Vec::is_empty)
    })
}

fn each_mail_exists_once(house: &House, everybody: u64, left: u64) {
    let database = rusqlite::Connection::open(house.path("data/postern.db")).unwrap();
    let count = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let twice = "SELECT count(*) FROM (SELECT 1 FROM message GROUP BY enrollment, template HAVING count(*) > 1)";
    assert_eq!(count(twice), 0);
    let all = i64::try_from(everybody + 2 * left).unwrap();
    assert_eq!(count("SELECT count(*) FROM message"), all);
    let odd = "SELECT count(*) FROM message WHERE status NOT IN ('relayed', 'held')";
    assert_eq!(count(odd), 0, "only what may have been sent waits for an operator");
    let held = count("SELECT count(*) FROM message WHERE status = 'held'");
    eprintln!("{all} mails, each once; {held} held: the gateway was killed while the relay took them");
}
