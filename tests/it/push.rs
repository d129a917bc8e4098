//! Pushes as a brand's receiver sees them: what is told, how it is signed, and what becomes of it when nobody listens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::{Gateway, House, Inbox, finish, request, send_many, wait_for};
use crate::receiver::{Does, Got, Receiver, TAKES};

const TAKEN_OVER: &str = "the configuration was read again and holds from now on";

/// Adds a receiver to the tenant `demo`.
fn add_outbound(house: &House, name: &str, receiver: &Receiver, more: &str) {
    let path = house.config().join("tenants/demo.toml");
    let tenant = std::fs::read_to_string(&path).unwrap();
    let secret = if more.contains("secret") { "" } else { "secret = \"only for trials\"" };
    let url = format!("http://{}/hooks/s3cret?token=s3cret", receiver.at);
    let outbound = format!("[[outbound]]\nname = \"{name}\"\nurl = \"{url}\"\n{secret}\n{more}\n");
    std::fs::write(path, format!("{tenant}\n{outbound}")).unwrap();
}

/// A house with an inbox and one receiver, and delays between attempts.
fn house(inbox: &Inbox, receiver: &Receiver, retry: &str) -> House {
    let house = House::new(inbox.smtp, &format!("[push]\nretry = {retry}\npause_max = \"100ms\"\ntimeout = \"2s\"\n"));
    add_outbound(&house, "crm", receiver, "");
    house
}

fn endpoints(house: &House) -> Value {
    house.json(&["push", "list"])
}

/// Waits until an endpoint's row looks like this.
fn wait_for_endpoint(house: &House, name: &str, looks: impl Fn(&Value) -> bool) -> Value {
    wait_for("the endpoint to stand so", || {
        let all = endpoints(house);
        all.as_array().unwrap().iter().find(|row| row["endpoint"] == name && looks(row)).cloned()
    })
}

fn events(got: &[Got]) -> Vec<String> {
    got.iter().map(Got::event).collect()
}

/// No line of the log holds what only a URL or a body holds.
fn assert_discreet(gateway: &Gateway) {
    let log = gateway.process.log().join("\n");
    for secret in ["s3cret", "ann@", "only for trials"] {
        assert!(!log.contains(secret), "{secret} in:\n{log}");
    }
}

#[test]
fn what_becomes_of_a_mail_is_told_in_order_and_signed_with_each_secret() {
    let (inbox, receiver) = (Inbox::start(), Receiver::start(|_, _| TAKES));
    let house = House::new(inbox.smtp, "");
    // One key as the standard writes it, one as plain text: both sign while they are rotated.
    house.write("new", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    house.write("old", "an older secret");
    let files = ["new", "old"].map(|name| format!("{:?}", house.config().join(name))).join(", ");
    add_outbound(&house, "crm", &receiver, &format!("secret_file = [{files}]"));
    let gateway = house.serve();
    let more = json!({"tags": ["summer"], "metadata": {"order": "17"}});
    let id = gateway.send_as("Ann <ann@customer.example>", &more);
    let got = receiver.wait_for(2);
    assert_eq!(events(&got), ["message.accepted", "message.relayed"]);
    let keys: [&[u8]; 2] =
        [b"1\xf2\x90\xf6\xbf\x06)\x8a\xabO\x08\xd4<?\x08,\xf6H\xa3b\xda-\xa4\xb0", b"an older secret"];
    for push in &got {
        assert_eq!(push.header("webhook-signature"), keys.map(|key| push.signature(key)).join(" "));
        assert_eq!(push.header("content-type"), "application/json");
        assert!(push.header("user-agent").starts_with("postern/"));
        let seconds: u64 = push.header("webhook-timestamp").parse().unwrap();
        assert!(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs().abs_diff(seconds) < 120);
    }
    assert_ne!(got[0].id(), got[1].id());
    let (message, relayed) = (gateway.message(&id), got[1].json());
    let data = &relayed["data"];
    for shown in [
        "id",
        "tenant",
        "status",
        "recipient",
        "template",
        "lane",
        "messageId",
        "tags",
        "metadata",
        "acceptedAt",
        "endedAt",
    ] {
        assert_eq!(data[shown], message[shown], "{shown}");
    }
    assert_eq!(data["code"], 250);
    assert_eq!(relayed["timestamp"], data["endedAt"]);
    assert_eq!(got[0].json()["data"]["status"], "queued", "what it was then, whatever it is now");
    assert_eq!(house.json(&["push", "list"])[0]["dropped"], 0);
    assert_discreet(&gateway);
    gateway.stop();
}

#[test]
fn a_pass_that_is_installed_removed_and_installed_again_is_told_once() {
    let (inbox, receiver) = (Inbox::start(), Receiver::start(|_, _| TAKES));
    let house = house(&inbox, &receiver, "[\"20ms\"]");
    let gateway = house.serve();
    let tell = |event: &str, device: &str| {
        let body = json!({"event": event, "passId": "P-1", "identifiers": {"customerId": "C-1"}, "device": device});
        let headers = [("X-API-KEY", gateway.key.as_str()), ("Content-Type", "application/json")];
        let answer = request("POST", &gateway.url("/v1/pass-events"), &headers, Some(body.to_string().as_bytes()));
        assert_eq!(answer.status, 202, "{}", answer.json());
    };
    tell("installed", "apple");
    assert_eq!(receiver.wait_for(1)[0].json()["data"]["previousWalletStatus"], "none");
    tell("uninstalled", "apple");
    tell("installed", "apple");
    tell("installed", "google");
    let got = receiver.wait_for(2);
    let (last, read) = (got[1].json(), gateway.get("/v1/wallets/C-1").json());
    assert_eq!(events(&got), ["wallet.changed"; 2]);
    assert_eq!(
        (&last["data"]["walletStatus"], &last["data"]["previousWalletStatus"]),
        (&json!("both"), &json!("apple"))
    );
    for shown in [
        "customerId",
        "walletStatus",
        "appleWalletInstalledAt",
        "googleWalletInstalledAt",
        "walletLastChangedAt",
        "walletLastEvent",
    ] {
        assert_eq!(last["data"][shown], read[shown], "{shown}");
    }
    wait_for_endpoint(&house, "crm", |row| row["pending"] == 0);
    assert_eq!(receiver.got().len(), 2);
    gateway.stop();
}

#[test]
fn what_is_not_taken_is_tried_again_under_its_id_and_a_redirect_leads_nowhere() {
    let inbox = Inbox::start();
    let elsewhere = Receiver::start(|_, _| TAKES);
    let location: &str = Box::leak(format!("Location: http://{}/\r\n", elsewhere.at).into_boxed_str());
    let receiver = Receiver::start(move |number, _| match number {
        0 => Does::Answer(307, location),
        1 => Does::Answer(500, ""),
        2 => Does::Answer(503, "Retry-After: 1\r\n"),
        _ => TAKES,
    });
    let house = house(&inbox, &receiver, "[\"20ms\", \"20ms\", \"20ms\", \"20ms\"]");
    let gateway = house.serve();
    let began = Instant::now();
    gateway.send("ann@customer.example");
    let got = receiver.wait_for(5);
    assert_eq!(events(&got), [["message.accepted"; 4].as_slice(), &["message.relayed"]].concat());
    assert!(got[..4].iter().all(|push| push.id() == got[0].id() && push.body == got[0].body));
    assert!(began.elapsed().as_millis() >= 1_000, "Retry-After was not heeded");
    assert!(elsewhere.got().is_empty());
    let failing = gateway.process.wait_for_log("an endpoint fails: its pushes are tried again");
    assert_eq!((&failing["failure"], &failing["endpoint"]), (&json!("307"), &json!("crm")));
    gateway.process.wait_for_log("an endpoint takes pushes again");
    assert_discreet(&gateway);
    gateway.stop();
}

#[test]
fn a_receiver_outside_the_networks_is_not_called() {
    let (inbox, receiver) = (Inbox::start(), Receiver::start(|_, _| TAKES));
    let house = house(&inbox, &receiver, "[\"20ms\"]");
    house.replace("[push]", "[outgoing]\nnetworks = [\"10.0.0.0/8\"]\n[push]");
    let gateway = house.serve();
    let id = gateway.send("ann@customer.example");
    gateway.wait_for_status(&id, "relayed");
    wait_for_endpoint(&house, "crm", |row| row["dead"] == 2);
    let dead = house.json(&["push", "list", "--dead"]);
    assert_eq!((&dead[0]["failure"], &dead[0]["attempts"]), (&json!("not-allowed"), &json!(2)));
    assert!(receiver.got().is_empty());
    assert_discreet(&gateway);
    gateway.stop();
    let checked = finish(&mut house.command(&["check"]));
    let said = String::from_utf8(checked.stderr).unwrap();
    assert_eq!(checked.status.code(), Some(2), "{said}");
    assert!(said.contains("tenants/demo.toml: outbound[0].url: ") && said.contains("outgoing.networks"), "{said}");
}

#[test]
fn an_endpoint_that_nobody_configured_is_none_to_replay_or_to_switch_on() {
    let inbox = Inbox::start();
    let receiver = Receiver::start(|_, _| TAKES);
    let house = house(&inbox, &receiver, "[\"20ms\"]");
    for arguments in [&["push", "replay", "--endpoint", "demo/nope"][..], &["push", "enable", "demo/nope"]] {
        let output = finish(&mut house.command(arguments));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout), (Some(1), Vec::new()), "{said}");
        assert!(said.contains("there is no endpoint demo/nope"), "{said}");
    }
    let said = house.json(&["push", "replay", "--endpoint", "demo/crm"]);
    assert_eq!(said["replayed"], 0, "one that was never told anything: {said}");
}

#[test]
fn an_endpoint_that_is_gone_stays_off_through_a_restart_until_it_is_switched_on() {
    let inbox = Inbox::start();
    let receiver = Receiver::start(|number, _| if number == 0 { Does::Answer(410, "") } else { TAKES });
    let house = house(&inbox, &receiver, "[\"20ms\"]");
    let gateway = house.serve();
    let first = gateway.send("ann@customer.example");
    wait_for_endpoint(&house, "crm", |row| row["state"] == "off" && row["pending"] == 2);
    let key = gateway.key.clone();
    gateway.stop();
    let gateway = house.serve_with(key);
    let second = gateway.send("bob@customer.example");
    wait_for_endpoint(&house, "crm", |row| row["state"] == "off" && row["pending"] == 4 && row["offAt"].is_string());
    assert_eq!(receiver.got().len(), 1);
    house.json(&["push", "enable", "demo/crm"]);
    let got = receiver.wait_for(5);
    assert!(got[1..].iter().any(|push| push.id() == got[0].id()), "the one that was refused comes again");
    for id in [first, second] {
        let told = got[1..].iter().filter(|push| push.json()["data"]["id"] == id.as_str());
        assert_eq!(told.map(Got::event).collect::<Vec<_>>(), ["message.accepted", "message.relayed"]);
    }
    wait_for_endpoint(&house, "crm", |row| row["state"] == "on" && row["pending"] == 0);
    assert_discreet(&gateway);
    gateway.stop();
}

#[test]
fn a_dead_letter_is_shown_and_replayed_beside_the_running_gateway() {
    let inbox = Inbox::start();
    let receiver = Receiver::start(|number, _| if number < 2 { Does::Answer(400, "") } else { TAKES });
    let house = house(&inbox, &receiver, "[\"20ms\"]");
    let gateway = house.serve();
    gateway.send("ann@customer.example");
    let got = receiver.wait_for(3);
    assert_eq!(events(&got), ["message.accepted", "message.accepted", "message.relayed"]);
    let dead = wait_for("a dead letter", || house.json(&["push", "list", "--dead"]).get(0).cloned());
    assert_eq!((&dead["id"], &dead["failure"]), (&json!(got[0].id()), &json!("400")));
    let shown = house.json(&["push", "show", got[0].id()]);
    assert_eq!((&shown["payload"], &shown["state"]), (&got[0].json(), &json!("dead")));
    assert_eq!(house.json(&["push", "replay", "--endpoint", "demo/crm", "--since", "1d"])["replayed"], 1);
    let again = receiver.wait_for(4).pop().unwrap();
    assert_eq!((again.id(), &again.body), (got[0].id(), &got[0].body));
    wait_for_endpoint(&house, "crm", |row| row["dead"] == 0 && row["pending"] == 0);
    let line = gateway.process.wait_for_log("a push was given up: it is a dead letter");
    assert_eq!(line["push.id"], got[0].id());
    assert_discreet(&gateway);
    gateway.stop();
}

#[test]
fn a_crash_loses_no_push_and_makes_none_twice() {
    const MAILS: usize = 40;
    let inbox = Inbox::start();
    // At first some are refused, and some never answered: the gateway dies before it can know.
    let receiver = Receiver::start(|number, _| match number % 3 {
        0 if number < MAILS => Does::Answer(500, ""),
        1 if number < 8 => Does::Hang,
        _ => TAKES,
    });
    let house = house(&inbox, &receiver, "[\"20ms\", \"50ms\", \"100ms\", \"200ms\", \"500ms\", \"1s\", \"1s\"]");
    let mut gateway = house.serve();
    let ids: BTreeSet<String> =
        send_many(&gateway, MAILS, &json!({}), |n| format!("ann{n}@customer.example")).into_iter().collect();
    assert_eq!(ids.len(), MAILS);
    receiver.wait_for(8);
    gateway.process.signal("KILL");
    gateway.process.wait();
    let gateway = house.serve_with(gateway.key.clone());
    wait_for("all mails to be told of", || {
        let relayed = receiver.got().iter().filter(|push| push.event() == "message.relayed").count();
        (relayed >= MAILS).then_some(())
    });
    wait_for_endpoint(&house, "crm", |row| row["pending"] == 0);
    // One id, and one body, for each event of each mail.
    let mut told: BTreeMap<(String, String), BTreeSet<(String, String)>> = BTreeMap::new();
    for push in receiver.got() {
        let message = push.json()["data"]["id"].as_str().unwrap().to_owned();
        told.entry((message, push.event())).or_default().insert((push.id().to_owned(), push.body));
    }
    for id in &ids {
        for event in ["message.accepted", "message.relayed"] {
            assert_eq!(told.get(&(id.clone(), event.to_owned())).map(BTreeSet::len), Some(1), "{id} {event}");
        }
    }
    gateway.stop();
}

#[test]
fn a_receiver_that_hangs_costs_neither_mails_nor_another_receiver_anything() {
    const MAILS: usize = 200;
    let relayed_in = |receivers: &[(&str, &Receiver)]| {
        let inbox = Inbox::start();
        let house = House::new(inbox.smtp, "[push]\nin_flight_max = 8\n");
        for (name, receiver) in receivers {
            add_outbound(&house, name, receiver, "events = [\"message.accepted\"]");
        }
        let gateway = house.serve();
        let began = Instant::now();
        send_many(&gateway, MAILS, &json!({}), |n| format!("ann{n}@customer.example"));
        wait_for("all mails", || (inbox.total() == MAILS as u64).then_some(()));
        let took = began.elapsed();
        if let Some((_, good)) = receivers.iter().find(|(name, _)| *name == "good") {
            good.wait_for(MAILS);
        }
        // The attempts that hang are let go with the second signal.
        gateway.process.signal("TERM");
        gateway.process.signal("TERM");
        took
    };
    let hangs = Receiver::start(|_, _| Does::Hang);
    let good = Receiver::start(|_, _| TAKES);
    let alone = relayed_in(&[]);
    let beside = relayed_in(&[("bad", &hangs), ("good", &good)]);
    eprintln!("{MAILS} mails alone in {alone:?}, beside a receiver that hangs in {beside:?}");
    assert!(beside < alone * 3 + std::time::Duration::from_secs(2), "{alone:?} alone, {beside:?} beside");
    assert_eq!(hangs.got().len(), 4, "its attempts at once");
}

#[test]
fn a_receiver_that_comes_by_reload_is_told_of_what_happens_from_then_on() {
    let (inbox, receiver) = (Inbox::start(), Receiver::start(|_, _| TAKES));
    let house = House::new(inbox.smtp, "");
    let without = std::fs::read_to_string(house.config().join("tenants/demo.toml")).unwrap();
    let gateway = house.serve();
    let early = gateway.send("ann@customer.example");
    gateway.wait_for_status(&early, "relayed");
    add_outbound(&house, "crm", &receiver, "events = [\"message.relayed\"]");
    gateway.process.signal("HUP");
    gateway.process.wait_for_log(TAKEN_OVER);
    wait_for("the endpoint", || endpoints(&house).get(0).cloned());
    let later = gateway.send("bob@customer.example");
    let got = receiver.wait_for(1);
    assert_eq!(
        (got[0].event().as_str(), got[0].json()["data"]["id"].as_str()),
        ("message.relayed", Some(later.as_str()))
    );
    // It leaves again: nothing more is told, and it is listed as what it is.
    house.write("tenants/demo.toml", &without);
    gateway.process.signal("HUP");
    gateway.process.wait_for_log(TAKEN_OVER);
    wait_for_endpoint(&house, "crm", |row| row["state"] == "not-configured");
    let last = gateway.send("cid@customer.example");
    gateway.wait_for_status(&last, "relayed");
    assert_eq!(receiver.got().len(), 1);
    gateway.stop();
}
