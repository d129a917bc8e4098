//! SIGHUP: the configuration is read again, as a whole or not at all, and no mail is lost or sent twice over it.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use postern::clock::SystemClock;
use postern::inbox::{self, Credentials, InboxSettings};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::harness::{Answer, Gateway, House, Inbox, finish, free_port, mail, request, send_many, wait_for};

const TAKEN_OVER: &str = "the configuration was read again and holds from now on";
const NOT_TAKEN_OVER: &str = "the configuration was not taken over: nothing has changed";
const OTHER_TENANT: &str = "from = \"o@other.example\"\nrelays = [\"primary\"]\n";

/// Has the gateway read its configuration again, and waits until it says that it did.
pub(crate) fn reload(gateway: &Gateway) -> Value {
    gateway.process.signal("HUP");
    gateway.process.wait_for_log(TAKEN_OVER)
}

/// The same for one that is refused; what the first line about it says.
pub(crate) fn refused(gateway: &Gateway) -> Value {
    gateway.process.signal("HUP");
    gateway.process.wait_for_log(NOT_TAKEN_OVER)
}

fn post_as(gateway: &Gateway, key: &str, recipient: &str) -> Answer {
    let headers = [("X-API-KEY", key), ("Content-Type", "application/json")];
    request("POST", &gateway.url("/v1/emails"), &headers, Some(mail(recipient).to_string().as_bytes()))
}

/// The leaves of this kind, oldest first.
pub(crate) fn leaves(house: &House, kind: &str) -> Vec<Value> {
    let store = rusqlite::Connection::open(house.path("data/postern.db")).unwrap();
    let mut statement = store.prepare("SELECT leaf FROM audit_leaf WHERE kind = ?1 ORDER BY seq").unwrap();
    let leaves = statement.query_map([kind], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    leaves.map(|leaf| serde_json::from_slice(&leaf.unwrap()).unwrap()).collect()
}

#[test]
fn a_new_tenant_works_at_once_and_the_audit_says_which_sections_changed() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let gateway = house.serve();
    house.write("tenants/other.toml", OTHER_TENANT);
    let key = house.key_of("other", &["send", "read"]);
    assert_eq!(post_as(&gateway, &key, "ann@customer.example").status, 403, "not before");
    let line = reload(&gateway);
    assert_eq!(line["sections"], "tenants", "{line}");
    let accepted = post_as(&gateway, &key, "ann@customer.example");
    assert_eq!(accepted.status, 202, "{}", accepted.json());
    wait_for("the mail of the new tenant", || (inbox.total() == 1).then_some(()));

    let leaf = wait_for("the leaf", || leaves(&house, "config-changed").pop());
    assert_eq!((&leaf["sections"], &leaf["actor"]), (&json!(["tenants"]), &json!("gateway")));
    assert!(leaf["tenant"].is_null(), "{leaf}");
    gateway.process.signal("HUP");
    gateway.process.wait_for_log("the configuration was read again: it is as it was");
    gateway.stop();
    assert_eq!(leaves(&house, "config-changed").len(), 1, "what is as it was is no change");
}

#[test]
fn a_raised_rate_lets_what_waited_go() {
    let inbox = Inbox::start();
    let house = House::with_relay(inbox.smtp, "", "rate = \"1/h\"");
    let gateway = house.serve();
    let ids = ["ann", "bob", "cid"].map(|name| gateway.send(&format!("{name}@customer.example")));
    house.replace("rate = \"1/h\"", "rate = \"100/s\"");
    assert_eq!(reload(&gateway)["sections"], "relays");
    for id in &ids {
        assert_eq!(gateway.wait_for_status(id, "relayed")["attempts"], 1);
    }
    gateway.stop();
}

#[test]
fn a_raised_limit_of_a_domain_lets_its_mails_go() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "[limits]\nrelay_domains = { \"slow.example\" = \"1/h\" }\n");
    let gateway = house.serve();
    let waiting = gateway.send("ann@slow.example");
    let other = gateway.send("ann@customer.example");
    gateway.wait_for_status(&other, "relayed");
    wait_for("the limit of the domain", || {
        let decisions = gateway.get(&format!("/v1/emails/{waiting}/why")).json()["decisions"].clone();
        let mut rules = decisions.as_array().unwrap().iter().map(|decision| &decision["rule"]);
        rules.any(|rule| rule == "domain-rate-spent").then_some(())
    });
    house.replace("= \"1/h\"", "= \"100/s\"");
    assert_eq!(reload(&gateway)["sections"], "limits");
    gateway.wait_for_status(&waiting, "relayed");
    gateway.stop();
}

#[test]
fn an_invalid_file_changes_nothing_and_every_problem_is_told_as_check_tells_it() {
    let inbox = Inbox::start();
    let house = House::with_relay(inbox.smtp, "", "rate = \"100/s\"");
    let gateway = house.serve();
    house.write("tenants/other.toml", OTHER_TENANT);
    let key = house.key_of("other", &["send"]);
    house.replace("rate = \"100/s\"", "rate = \"fast\"\nsesions = 3");
    let (one, two) = (refused(&gateway), gateway.process.wait_for_log(NOT_TAKEN_OVER));
    let keys = [&one, &two].map(|line| line["key"].as_str().unwrap().to_owned());
    assert_eq!(BTreeSet::from(keys), BTreeSet::from(["relays[0].rate", "relays[0].sesions"].map(str::to_owned)));
    assert!(one["level"] == "ERROR" && one["file"].as_str().unwrap().ends_with("postern.toml"), "{one}");

    let checked = finish(house.command(&["check"]).args(["--format", "json"]));
    assert_eq!(checked.status.code(), Some(2));
    let checked: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let told = |line: &Value| json!({"file": line["file"], "key": line["key"], "detail": line["detail"]});
    let problems = checked["problems"].as_array().unwrap();
    for line in [&one, &two] {
        assert!(problems.contains(&told(line)), "{line} is not among {problems:?}");
    }

    assert_eq!(post_as(&gateway, &key, "ann@customer.example").status, 403, "the good tenant came with a bad relay");
    let id = gateway.send("ann@customer.example");
    gateway.wait_for_status(&id, "relayed");
    assert!(leaves(&house, "config-changed").is_empty());
    house.replace("rate = \"fast\"\nsesions = 3", "rate = \"50/s\"");
    assert_eq!(reload(&gateway)["sections"], "relays tenants", "put right, all of it holds");
    assert_eq!(post_as(&gateway, &key, "ann@customer.example").status, 202);
    gateway.stop();
}

#[test]
fn a_key_that_needs_a_restart_refuses_the_whole_file() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "workers = 1\n");
    let gateway = house.serve();
    house.write("tenants/other.toml", OTHER_TENANT);
    let key = house.key_of("other", &["send"]);
    house.replace("workers = 1", "workers = 2");
    let line = refused(&gateway);
    assert_eq!(line["key"], "server.workers", "{line}");
    assert!(line["detail"].as_str().unwrap().contains("restart"), "{line}");
    let found = house.json(&["check"])["found"].to_string();
    assert!(found.contains("gateway: server.workers: cannot be changed"), "{found}");
    assert_eq!(post_as(&gateway, &key, "ann@customer.example").status, 403);
    house.replace("workers = 2", "workers = 1");
    let found = house.json(&["check"])["found"].to_string();
    assert!(found.contains("gateway: runs, and could read this folder again"), "{found}");
    reload(&gateway);
    assert_eq!(post_as(&gateway, &key, "ann@customer.example").status, 202);
    gateway.stop();
}

#[test]
fn an_override_from_the_environment_holds_at_a_reload_too() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "workers = 1\n");
    let key = house.key(&["send", "read"]);
    let mut command = house.command(&["serve"]);
    command.env("POSTERN__SERVER__WORKERS", "3").env("POSTERN__LOG__LEVEL", "info");
    let gateway = House::serve_by(&mut command, key);
    house.replace("workers = 1", "workers = 2");
    house.replace("[log]\n", "[log]\nlevel = \"error\"\n");
    house.write("tenants/other.toml", OTHER_TENANT);
    assert_eq!(reload(&gateway)["sections"], "tenants", "the file's other keys are overridden");
    gateway.stop();
}

#[test]
fn the_level_of_the_log_changes_while_it_is_written() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let gateway = house.serve();
    house.replace("[log]\n", "[log]\nlevel = \"debug\"\n");
    assert_eq!(reload(&gateway)["sections"], "log");
    let id = gateway.send("ann@customer.example");
    let line = gateway.process.wait_for_log("relayed");
    assert_eq!((&line["level"], &line["delivery.id"]), (&json!("DEBUG"), &json!(id)));
    gateway.stop();
}

#[test]
fn mails_of_a_tenant_that_leaves_are_held_and_stay_so_when_it_comes_back() {
    let house = House::new(free_port(), "");
    house.write("tenants/other.toml", OTHER_TENANT);
    let key = house.key_of("other", &["send", "read", "manage"]);
    let gateway = house.serve();
    let id = post_as(&gateway, &key, "ann@customer.example").json()["id"].as_str().unwrap().to_owned();
    let shown = || house.json(&["queue", "show", &id]);
    std::fs::remove_file(house.config().join("tenants/other.toml")).unwrap();
    reload(&gateway);
    assert_eq!(post_as(&gateway, &key, "ann@customer.example").status, 403);
    let held = wait_for("the hold", || Some(shown()).filter(|message| message["status"] == "held"));
    assert_eq!(held["reason"], "not-configured");
    house.write("tenants/other.toml", OTHER_TENANT);
    reload(&gateway);
    assert_eq!(post_as(&gateway, &key, "bob@customer.example").status, 202);
    assert_eq!(shown()["status"], "held", "an operator decides");
    house.json(&["queue", "release", &id]);
    assert_eq!(shown()["status"], "queued");
    gateway.stop();
}

/// An inbox that wants these credentials, in this process; it ends with its token.
fn guarded_inbox(smtp: SocketAddr, password: &str, until: CancellationToken) -> (SocketAddr, inbox::Captured) {
    let auth = Some(Credentials { user: "postern".to_owned(), password: password.to_owned().into() });
    let settings = InboxSettings { smtp, auth, ..InboxSettings::default() };
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let inbox = inbox::Inbox::bind(settings, Arc::new(SystemClock)).await.unwrap();
            tell.send((inbox.smtp_addr(), inbox.captured())).unwrap();
            inbox.run(until).await;
        });
    });
    told.recv().unwrap()
}

#[test]
fn a_rotated_password_file_is_used_without_a_restart() {
    let until = CancellationToken::new();
    let _ends = until.clone().drop_guard();
    let (smtp, captured) = guarded_inbox(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), "the new one", until);
    let secrets = tempfile::tempdir().unwrap();
    let file = secrets.path().join("password");
    std::fs::write(&file, "the old one\n").unwrap();
    let relay = format!("username = \"postern\"\npassword_file = {file:?}\nallow_plaintext = true");
    let house = House::with_relay(smtp, "[delivery]\nbreaker_failures = 1\nbreaker_open_max = \"500ms\"\n", &relay);
    let gateway = house.serve();
    let id = gateway.send("ann@customer.example");
    gateway.process.wait_for_log("the relay refuses our credentials: its mails wait");
    std::fs::write(&file, "the new one\n").unwrap();
    let line = reload(&gateway);
    assert_eq!(line["sections"], "relays", "the file's name is the same, its content is not");
    assert!(!line.to_string().contains("the new one"));
    let message = gateway.wait_for_status(&id, "relayed");
    assert_eq!(message["attempts"], 1, "no attempt was spent on the wrong password");
    assert_eq!(captured.len(), 1);
    gateway.stop();
}

#[test]
fn under_load_and_many_reloads_every_mail_goes_out_once() {
    const MAILS: usize = 300;
    let inbox = Inbox::start();
    let house = House::with_relay(inbox.smtp, "", "sessions = 4");
    let gateway = house.serve();
    let ids = std::thread::scope(|scope| {
        let sending = scope
            .spawn(|| send_many(&gateway, MAILS, &json!({}), |number| format!("m{number}@d{}.example", number % 7)));
        let mut sessions = 4;
        while !sending.is_finished() {
            let next = if sessions == 4 { 9 } else { 4 };
            house.replace(&format!("sessions = {sessions}"), &format!("sessions = {next}"));
            assert_eq!(reload(&gateway)["sections"], "relays");
            sessions = next;
        }
        sending.join().unwrap()
    });
    assert_eq!(ids.len(), MAILS, "every mail was accepted");
    for id in &ids {
        let message = gateway.wait_for_status(id, "relayed");
        assert_eq!((&message["attempts"], &message["mayHaveBeenSent"]), (&json!(1), &json!(false)), "{message}");
    }
    assert_eq!(usize::try_from(inbox.total()).unwrap(), MAILS);
    gateway.stop();
}
