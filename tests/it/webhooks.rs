//! Signed webhooks: who is believed, what a replay is, and what becomes of events that are none of ours.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, House, free_port, request, wait_for};
use crate::pass_events::{
    JSON, SECRET, hex, hook, listening, mac, platform, post, said, tenant, wallet_status, webhook, webhook_as,
};

#[test]
fn a_webhook_is_taken_with_its_signature_in_every_way_it_may_be_written() {
    let house = listening();
    tenant(&house, "demo", &format!("webhook_secret = [\"the next one\", \"{SECRET}\"]"));
    let gateway = house.serve();
    let mut expected = json!("first-install");
    for (number, secret) in [SECRET, "the next one"].iter().enumerate() {
        let body = platform(&format!("e-{number}"), "Pass:Installed", "P1", "apple").to_string();
        let mac = mac(secret, body.as_bytes());
        for signature in [
            hex(&mac),
            hex(&mac).to_uppercase(),
            format!("sha256={}", hex(&mac)),
            STANDARD.encode(&mac),
            URL_SAFE_NO_PAD.encode(&mac),
            format!("SHA256={}", STANDARD.encode(&mac)),
        ] {
            let answer = webhook_as(&gateway, "demo", &signature, body.as_bytes());
            assert_eq!(said(&answer), (202, expected, json!("apple")), "{signature}");
            expected = json!("duplicate");
        }
    }
    let removed = webhook(&gateway, &platform("e-9", "pass.uninstalled", "P1", "Apple_Wallet"));
    assert_eq!(said(&removed).2, "none", "the removal has the last word at the same time");
    gateway.stop();
}

#[test]
fn a_webhook_that_is_not_signed_right_is_refused_and_nothing_is_kept() {
    let house = listening();
    tenant(&house, "other", "webhook_secret = \"another secret\"");
    tenant(&house, "deaf", "");
    let gateway = house.serve();
    let body = platform("e-1", "Pass:Installed", "P1", "apple").to_string();
    let good = hex(&mac(SECRET, body.as_bytes()));
    let mut changed = body.clone().into_bytes();
    changed[20] ^= 1;
    let spaced = format!("{body} ");
    for (tenant, signature, body) in [
        ("demo", good.as_str(), changed.as_slice()),
        ("demo", &good, spaced.as_bytes()),
        ("demo", &good[1..], body.as_bytes()),
        ("demo", "", body.as_bytes()),
        ("demo", "sha256=", body.as_bytes()),
        ("demo", &format!("md5={good}"), body.as_bytes()),
        ("demo", &hex(&mac("another secret", body.as_bytes())), body.as_bytes()),
        ("demo", &hex(&mac("", body.as_bytes())), body.as_bytes()),
        ("other", &good, body.as_bytes()),
    ] {
        let answer = webhook_as(&gateway, tenant, signature, body);
        assert_eq!((answer.status, &answer.json()["type"]), (401, &json!("/problems/unauthorized")), "{signature}");
        assert!(!answer.json().to_string().contains(&good), "the right one is told");
    }
    // An API key is no signature, and the tenant of the path is the one that counts.
    assert_eq!(post(&gateway, "/v1/webhooks/demo", &[JSON], body.as_bytes()).status, 401);
    let twice = [("X-NEOSTORE-SIGNATURE", good.as_str()), ("X-NEOSTORE-SIGNATURE", &good), JSON];
    assert_eq!(request("POST", &gateway.url("/v1/webhooks/demo"), &twice, Some(body.as_bytes())).status, 401);
    let unknown = webhook_as(&gateway, "nobody", &good, body.as_bytes());
    for tenant in ["deaf", "..%2Fdemo", "DEMO", "a%20b"] {
        let answer = webhook_as(&gateway, tenant, &good, body.as_bytes());
        let without_id =
            |answer: &Answer| (answer.status, answer.json()["title"].clone(), answer.json()["detail"].clone());
        assert_eq!(without_id(&answer), without_id(&unknown), "{tenant}");
        assert_eq!(answer.status, 404, "{tenant}");
    }
    assert_eq!(gateway.get("/v1/wallets/C-1").status, 404);
    assert_eq!(gateway.get("/v1/webhooks/unknown").json()["items"], json!([]));
    assert_eq!(said(&webhook_as(&gateway, "demo", &good, body.as_bytes())).0, 202, "as it was it is good");
    gateway.stop();
}

#[test]
fn bad_signatures_count_as_failed_authentications_of_their_address() {
    let house = House::new(
        free_port(),
        "request_timeout = \"1s\"\n[limits]\nfailed_auth = \"1/h,burst=3\"\ndisk_free_min = \"0B\"\n",
    );
    tenant(&house, "demo", &format!("webhook_secret = \"{SECRET}\""));
    let gateway = house.serve();
    let wrong = || webhook_as(&gateway, "demo", &"0".repeat(64), b"{}").status;
    assert_eq!([wrong(), wrong()], [401, 401]);
    assert_eq!(first_line(half_a_webhook(&gateway)), "HTTP/1.1 408", "a body that never comes is a failure, too");
    assert_eq!(wrong(), 429);
    assert_eq!(first_line(half_a_webhook(&gateway)), "HTTP/1.1 429");
    let answer = webhook(&gateway, &platform("e-1", "Pass:Installed", "P1", "apple"));
    assert_eq!(answer.status, 202, "whoever signs comes in while there are places");
    assert_eq!(hook(&gateway, &json!([])).status, 202, "whoever has a key comes in");
    gateway.stop();
}

/// A webhook whose body does not go on.
fn half_a_webhook(gateway: &Gateway) -> TcpStream {
    let head = "POST /v1/webhooks/demo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000";
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "{head}\r\nX-NEOSTORE-SIGNATURE: {}\r\n\r\n{{", "0".repeat(64)).unwrap();
    stream
}

/// How the answer begins.
fn first_line(mut stream: TcpStream) -> String {
    let mut start = [0; 12];
    stream.read_exact(&mut start).unwrap();
    String::from_utf8_lossy(&start).into_owned()
}

#[test]
fn strangers_who_never_end_their_webhooks_stop_neither_mails_nor_for_long_webhooks() {
    let server = "requests_in_flight_max = 2\n[wallet]\nwebhooks_in_flight_max = 3\n[limits]\ndisk_free_min = \"0B\"\n";
    let house = House::new(free_port(), server);
    tenant(&house, "demo", &format!("webhook_secret = \"{SECRET}\""));
    let gateway = house.serve();
    let strangers: Vec<_> = (0..10).map(|_| half_a_webhook(&gateway)).collect();
    let installed = |id: &str| webhook(&gateway, &platform(id, "Pass:Installed", "P1", "apple")).status;
    let ids = std::cell::Cell::new(0);
    let next = || {
        ids.set(ids.get() + 1);
        installed(&format!("e-{}", ids.get()))
    };
    wait_for("webhooks to be busy", || (next() == 503).then_some(()));
    for _ in 0..3 {
        gateway.send("ann@customer.example");
        assert_eq!((gateway.get("/v1/webhooks/unknown").status, hook(&gateway, &json!([])).status), (200, 202));
    }
    drop(strangers);
    wait_for("room for webhooks", || (next() == 202).then_some(()));
    gateway.stop();
}

#[test]
fn nothing_that_is_signed_costs_another_event_its_place() {
    let house = House::new(free_port(), "[wallet]\nevents_max = 2\n");
    tenant(&house, "demo", &format!("webhook_secret = \"{SECRET}\""));
    let gateway = house.serve();
    let changes = |answer: &Answer| {
        let body = answer.json();
        let all = body.as_array().unwrap_or_else(|| panic!("{body}")).iter().map(|one| one["change"].clone());
        (answer.status, all.collect::<Vec<_>>())
    };
    let good = |id: &str, pass: &str| platform(id, "Pass:Installed", pass, "apple");
    let blank =
        json!({"eventType": "Pass:Installed", "eventId": "b", "properties": {"passId": "  ", "device": "apple"}});
    let answer = webhook(&gateway, &json!([good("a1", "P1"), blank]));
    assert_eq!(changes(&answer), (202, vec![json!("first-install"), json!("ignored")]));
    assert_eq!(wallet_status(&gateway, "C-1"), "apple");
    // More than one request of a script may hold, and things that are no events at all.
    let many =
        json!([good("a2", "P2"), 5, good("a3", "P3"), good("a4", "P4"), null, "hello", [blank], good("a2", "P2")]);
    let wanted =
        ["first-install", "ignored", "first-install", "first-install", "ignored", "ignored", "ignored", "duplicate"];
    assert_eq!(changes(&webhook(&gateway, &many)), (202, wanted.map(Value::from).to_vec()));
    for body in [json!(true), json!("good day"), json!(6), json!({})] {
        assert_eq!(said(&webhook(&gateway, &body)), (202, json!("ignored"), Value::Null), "{body}");
    }
    assert_eq!(webhook(&gateway, &json!([])).json(), json!([]));
    // What a brand writes beside the identifiers that it asked for is its own affair.
    let mut odd = good("a5", "P5");
    odd["properties"]["identifiers"] = json!({"customerId": "C-5", "tiers": ["gold"], "note": "a\nb", "rate": 1.5});
    odd["timestamp"] = json!("garbage");
    assert_eq!(said(&webhook(&gateway, &odd)).1, "first-install");
    assert_eq!(wallet_status(&gateway, "C-5"), "apple");
    assert_eq!(gateway.get("/v1/webhooks/unknown?limit=5").status, 422);
    gateway.stop();
}

#[test]
fn a_webhooks_signature_is_that_of_its_bytes_as_sent_and_its_body_has_a_measure() {
    let house = House::new(free_port(), "[wallet]\nwebhook_body_max = \"4KiB\"\n");
    tenant(&house, "demo", &format!("webhook_secret = \"{SECRET}\""));
    let gateway = house.serve();
    let send = |body: &[u8], signed: &[u8]| {
        let signature = hex(&mac(SECRET, signed));
        let headers = [("X-NEOSTORE-SIGNATURE", signature.as_str()), ("Content-Encoding", "gzip"), JSON];
        request("POST", &gateway.url("/v1/webhooks/demo"), &headers, Some(body))
    };
    let zip = |body: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, body).unwrap();
        encoder.finish().unwrap()
    };
    let plain = platform("e-1", "Pass:Installed", "P1", "apple").to_string();
    let zipped = zip(plain.as_bytes());
    assert_eq!(send(&zipped, plain.as_bytes()).status, 401);
    assert_eq!(said(&send(&zipped, &zipped)), (202, json!("first-install"), json!("apple")));
    let bomb = zip(&vec![b' '; 1 << 20]);
    assert!(bomb.len() < 4 << 10);
    assert_eq!(send(&bomb, &bomb).status, 413);
    let long = json!({"eventType": "Pass:Updated", "x": "x".repeat(5_000)});
    assert_eq!(webhook(&gateway, &long).status, 413);
    gateway.stop();
}

#[test]
fn a_replay_is_a_duplicate_by_its_id_or_its_body() {
    let gateway = listening().serve_keeping();
    let with_id = platform("e-1", "Pass:Installed", "P1", "apple");
    let first = webhook(&gateway, &with_id);
    assert_eq!(said(&first).1, "first-install");
    let mut otherwise = with_id;
    otherwise["operationId"] = json!("another try");
    let again = webhook(&gateway, &otherwise);
    assert_eq!((said(&again).1, &again.json()["eventId"]), (json!("duplicate"), &first.json()["eventId"]));
    let timed =
        json!({"type": "pass.installed", "timestamp": 1_769_850_000, "data": {"passId": "P2", "device": "google"}});
    assert_eq!(said(&webhook(&gateway, &timed)).1, "first-install");
    assert_eq!(said(&webhook(&gateway, &timed)).1, "duplicate");
    let bare = json!({"name": "Pass:Installed", "passId": "P3", "device": "apple"});
    assert_eq!(said(&webhook(&gateway, &bare)).1, "first-install");
    let removed = json!({"name": "Pass:Uninstalled", "passId": "P3", "device": "apple"});
    assert_eq!(said(&webhook(&gateway, &removed)).1, "removed");
    assert_eq!(said(&webhook(&gateway, &bare)), (202, json!("duplicate"), json!("none")), "the platform says it again");
    gateway.stop();
}

#[test]
fn signed_events_that_nobody_knows_are_kept_to_be_looked_at() {
    let house = House::new(free_port(), "[wallet]\nunknown_max = 3\n");
    tenant(&house, "demo", &format!("webhook_secret = \"{SECRET}\""));
    tenant(&house, "unknown", &format!("webhook_secret = \"{SECRET}\""));
    let (manager, others) = (house.key(&["manage"]), house.key_of("unknown", &["manage", "content"]));
    let gateway = house.serve();
    let list = |key: &str| request("GET", &gateway.url("/v1/webhooks/unknown"), &[("X-API-KEY", key)], None).json();
    let created = json!({"eventType": "Pass:Created", "properties": {"passId": "P1"}, "ann@zq.example": 1});
    let nobodys =
        json!({"eventType": "Pass:Installed", "properties": {"device": "apple", "identifiers": {"other": "1"}}});
    let all = json!([created, platform("e-1", "Pass:Installed", "P1", "apple"), nobodys]);
    let answer = webhook(&gateway, &all);
    let body = answer.json();
    let changes: Vec<_> = body.as_array().unwrap().iter().map(|answer| answer["change"].clone()).collect();
    assert_eq!((answer.status, changes), (202, vec![json!("ignored"), json!("first-install"), json!("ignored")]));
    assert_eq!(wallet_status(&gateway, "C-1"), "apple");
    let kept = list(&gateway.key);
    let names: Vec<_> = kept["items"].as_array().unwrap().iter().map(|item| item["name"].clone()).collect();
    assert_eq!(names, ["Pass:Installed", "Pass:Created"], "newest first");
    let item = &kept["items"][1];
    assert_eq!((&item["eventId"], &item["keys"]), (&body[0]["eventId"], &json!(["eventType", "properties"])));
    let shown: Value = serde_json::from_str(item["body"].as_str().unwrap()).unwrap();
    assert_eq!((shown, &item["bytes"]), (created.clone(), &json!(item["body"].as_str().unwrap().len())));
    let without = list(&manager);
    assert_eq!((&without["items"][1]["bytes"], &without["items"][1]["body"]), (&item["bytes"], &Value::Null));
    // A repeat is kept once, the oldest make room, and other tenants see nothing of it.
    let again = webhook(&gateway, &created);
    assert_eq!((&again.json()["eventId"], &again.json()["change"]), (&body[0]["eventId"], &json!("duplicate")));
    for name in ["Customer:Updated", "\u{0}garbage"] {
        let answer = webhook(&gateway, &json!({"event": name}));
        assert_eq!(said(&answer), (202, json!("ignored"), Value::Null));
    }
    let names: Vec<_> = list(&manager)["items"].as_array().unwrap().iter().map(|item| item["name"].clone()).collect();
    assert_eq!(names, ["garbage", "Customer:Updated", "Pass:Installed"]);
    assert_eq!(list(&others)["items"], json!([]));
    let reader = house.key(&["read", "content", "events"]);
    let refused = request("GET", &gateway.url("/v1/webhooks/unknown"), &[("X-API-KEY", &reader)], None);
    assert_eq!(refused.status, 403);
    assert_eq!(gateway.get("/v1/webhooks/demo").status, 404);
    // A tenant may be called as the list is.
    let body = created.to_string();
    assert_eq!(webhook_as(&gateway, "unknown", &hex(&mac(SECRET, body.as_bytes())), body.as_bytes()).status, 202);
    assert_eq!(list(&others)["items"].as_array().unwrap().len(), 1);
    let unreadable = webhook_as(&gateway, "demo", &hex(&mac(SECRET, b"{")), b"{");
    assert_eq!((unreadable.status, &unreadable.json()["type"]), (400, &json!("/problems/malformed")));
    gateway.stop();
}

#[test]
fn a_secret_that_changes_holds_from_the_reload_on() {
    let house = listening();
    let gateway = house.serve();
    let body = platform("e-1", "Pass:Installed", "P1", "apple").to_string();
    let send = |secret: &str| webhook_as(&gateway, "demo", &hex(&mac(secret, body.as_bytes())), body.as_bytes()).status;
    assert_eq!((send(SECRET), send("rotated")), (202, 401));
    house.write("rotated", "rotated\n");
    tenant(&house, "demo", &format!("webhook_secret_file = \"{}\"", house.config().join("rotated").display()));
    gateway.process.signal("HUP");
    gateway.process.wait_for_log("the configuration was read again and holds from now on");
    assert_eq!((send(SECRET), send("rotated")), (401, 202));
    gateway.stop();
}
