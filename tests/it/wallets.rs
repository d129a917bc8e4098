//! What pass events add up to, read as a CRM reads it; and `kill -9` in the middle of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, House, PATIENCE, free_port, request, try_request, wait_within};

/// Events of the crash test.
const EVENTS: usize = 20_000;
const EVENTS_OF_A_REQUEST: usize = 10;
const KILLS: usize = 6;
const SENDERS: usize = 4;

fn house() -> House {
    House::new(free_port(), "")
}

fn event(kind: &str, pass: &str, customer: &str, device: &str, at: &str) -> Value {
    json!({"event": kind, "passId": pass, "passType": "loyalty", "identifiers": {"customerId": customer}, "device": device,
           "occurredAt": at})
}

/// Posts an event, or a list of them.
fn post(gateway: &Gateway, events: &Value) -> Answer {
    let headers = [("X-API-KEY", gateway.key.as_str()), ("Content-Type", "application/json")];
    let answer = request("POST", &gateway.url("/v1/pass-events"), &headers, Some(events.to_string().as_bytes()));
    assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
    answer
}

fn get_as(gateway: &Gateway, path: &str, accept: &str) -> Answer {
    request("GET", &gateway.url(path), &[("X-API-KEY", &gateway.key), ("Accept", accept)], None)
}

#[test]
fn a_customer_is_read_with_their_passes_and_their_ledger() {
    let gateway = house().serve_keeping();
    post(&gateway, &event("installed", "P1", "C/1 é", "apple", "2026-03-01T09:00:00Z"));
    post(&gateway, &event("installed", "P2", "C/1 é", "google", "2026-03-02T09:00:00Z"));
    post(&gateway, &event("uninstalled", "P1", "C/1 é", "apple", "2026-03-03T09:00:00Z"));
    let wallet = gateway.get("/v1/wallets/C%2F1%20%C3%A9").json();
    let expected = json!({
        "customerId": "C/1 é", "knownBy": "customerId", "walletStatus": "google",
        "appleWalletInstalledAt": null, "googleWalletInstalledAt": "2026-03-02T09:00:00.000Z",
        "walletLastChangedAt": "2026-03-03T09:00:00.000Z", "walletLastEvent": "uninstalled",
        "passes": wallet["passes"],
    });
    assert_eq!(wallet, expected);
    assert_eq!(wallet["passes"].as_array().unwrap().len(), 2);
    let first = wallet["passes"].as_array().unwrap().iter().find(|pass| pass["passId"] == "P1").unwrap();
    assert_eq!(first["apple"]["installed"], false);
    assert_eq!(first["identifiers"], json!({"customerId": "C/1 é"}));
    let ledger = gateway.get("/v1/wallets/P1/events").json();
    let told: Vec<_> = ledger["items"].as_array().unwrap().iter().map(|event| event["change"].clone()).collect();
    assert_eq!(told, ["removed", "first-install", "first-install"]);
    assert_eq!(gateway.get("/v1/wallets/nobody").status, 404);
    assert_eq!(gateway.get("/v1/wallets/P1/events?limit=2").json()["items"].as_array().unwrap().len(), 2);
    for query in ["limit=0", "limit=1001", "cursor=x", "limit=1&limit=2"] {
        assert_eq!(gateway.get(&format!("/v1/wallets/P1/events?{query}")).status, 422, "{query}");
    }
    let mail = json!({"email": "Ann@Customer.Example"});
    post(
        &gateway,
        &json!({"event": "installed", "passId": "P/Ben@Customer.Example", "identifiers": mail, "device": "apple"}),
    );
    for path in
        ["ann@customer.example", "Ann@Customer.Example", "%20ANN%40customer.example", "P%2FBen@Customer.Example"]
    {
        assert_eq!(gateway.get(&format!("/v1/wallets/{path}")).json()["customerId"], "ann@customer.example", "{path}");
        assert_eq!(gateway.get(&format!("/v1/wallets/{path}/events")).status, 200, "{path}");
    }
    assert!(!gateway.process.log().iter().any(|line| line.contains("C/1")), "a customer's id is in the log");
    gateway.stop();
}

#[test]
fn a_crm_that_polls_behind_its_cursor_sees_every_change_once() {
    let house = house();
    let stranger = house.key_of("demo", &["send"]);
    let gateway = house.serve();
    let events: Vec<_> = (0..250)
        .map(|n| event("installed", &format!("P{n}"), &format!("C{n:03}"), "apple", "2026-03-01T09:00:00Z"))
        .collect();
    post(&gateway, &json!(events));
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let page = gateway.get(&format!("/v1/wallets?changedSince={cursor}")).json();
        let items = page["items"].as_array().unwrap().clone();
        seen.extend(items.iter().map(|item| item["customerId"].as_str().unwrap().to_owned()));
        cursor = page["nextCursor"].as_str().unwrap().to_owned();
        if page["more"] == false {
            break;
        }
        assert_eq!(items.len(), 100);
    }
    assert_eq!(seen, (0..250).map(|n| format!("C{n:03}")).collect::<Vec<_>>());
    // The cursor of an end is the beginning of what comes next.
    let none = gateway.get(&format!("/v1/wallets?changedSince={cursor}")).json();
    assert_eq!((none["items"].as_array().unwrap().len(), none["nextCursor"].as_str()), (0, Some(cursor.as_str())));
    post(&gateway, &event("uninstalled", "P7", "C007", "apple", "2026-03-02T09:00:00Z"));
    let next = gateway.get(&format!("/v1/wallets?changedSince={cursor}")).json();
    assert_eq!(
        (next["items"][0]["customerId"].as_str(), &next["items"][0]["walletStatus"]),
        (Some("C007"), &json!("none"))
    );
    assert_eq!(next["items"].as_array().unwrap().len(), 1);
    for (query, status) in [("changedSince=nonsense", 422), ("since=2026", 422), ("limit=0", 422)] {
        assert_eq!(gateway.get(&format!("/v1/wallets?{query}")).status, status, "{query}");
    }
    let refused = request("GET", &gateway.url("/v1/wallets"), &[("X-API-KEY", &stranger)], None);
    assert_eq!(refused.status, 403);
    gateway.stop();
}

#[test]
fn all_changes_come_as_csv_or_ndjson_with_a_cursor_in_each_row() {
    let gateway = house().serve_keeping();
    let events: Vec<_> = (0..1_000)
        .map(|n| event("installed", &format!("P{n}"), &format!("C,{n:04}"), "google", "2026-03-01T09:00:00Z"))
        .collect();
    for _ in 0..2 {
        post(&gateway, &json!(events));
    }
    let csv = get_as(&gateway, "/v1/wallets?changedSince=", "text/csv");
    assert_eq!((csv.status, csv.header("Content-Type")), (200, Some("text/csv; charset=utf-8")));
    let text = String::from_utf8(csv.body).unwrap();
    let lines: Vec<_> = text.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 1_001);
    assert!(lines[0].starts_with("customerId,knownBy,walletStatus,appleWalletInstalledAt,"), "{}", lines[0]);
    assert!(lines[7].starts_with("\"C,0006\",customerId,google,,2026-03-01T09:00:00.000Z,"), "{}", lines[7]);
    // The rest behind any row.
    let cursor = lines[900].rsplit(',').next().unwrap();
    let rest = get_as(&gateway, &format!("/v1/wallets?changedSince={cursor}"), "application/x-ndjson");
    assert_eq!(rest.header("Content-Type"), Some("application/x-ndjson"));
    let rows: Vec<Value> =
        String::from_utf8(rest.body).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((rows.len(), &rows[0]["customerId"]), (100, &json!("C,0900")));
    let few = get_as(&gateway, "/v1/wallets?limit=7", "text/csv");
    assert_eq!(String::from_utf8(few.body).unwrap().lines().count(), 8);
    gateway.stop();
}

#[test]
fn trends_count_what_happened_by_whatever_is_asked() {
    let gateway = house().serve_keeping();
    let from = |kind: &str, n: usize, medium: &str, tags: &[&str]| {
        let mut event =
            event(kind, &format!("P{n}"), &format!("C{n}"), "apple", &format!("2026-03-0{}T23:59:59Z", n % 2 + 1));
        event["additionalInformation"] = json!({"registrationSource": {"tags": tags, "medium": medium}});
        event
    };
    let events: Vec<_> =
        (0..10).map(|n| from("installed", n, if n < 3 { "email" } else { "sms" }, &["summer", "vip"])).collect();
    post(&gateway, &json!(events));
    post(&gateway, &json!(events));
    post(&gateway, &from("uninstalled", 1, "email", &[]));
    post(
        &gateway,
        &json!({"event": "uninstalled", "passId": "P3", "device": "apple", "occurredAt": "2026-03-05T00:00:00Z"}),
    );
    let since = "since=2026-03-01T00:00:00Z&until=2026-04-01T00:00:00Z";
    let by = |by: &str| gateway.get(&format!("/v1/wallets/trends?by={by}&{since}")).json();
    let day = |day: &str, installs: u32, removals: u32| json!({"day": day, "firstInstalls": installs, "additionalDevices": 0, "reinstalls": 0, "removals": removals});
    assert_eq!(by("day")["items"], json!([day("2026-03-01", 5, 0), day("2026-03-02", 5, 1), day("2026-03-05", 0, 1)]));
    let media = by("device,medium");
    let counts: BTreeMap<_, _> = media["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["medium"].as_str().map(str::to_owned), row["firstInstalls"].as_u64().unwrap()))
        .collect();
    assert_eq!(counts, [(None, 0), (Some("email".to_owned()), 3), (Some("sms".to_owned()), 7)].into());
    let tags = by("tag");
    assert_eq!(tags["items"].as_array().unwrap().iter().filter(|row| row["firstInstalls"] == 10).count(), 2, "{tags}");
    assert_eq!(gateway.get("/v1/wallets/trends?by=week").status, 422);
    gateway.stop();
}

#[test]
fn twenty_thousand_events_through_kills_end_where_an_uninterrupted_run_ends() {
    let events = history();
    let undisturbed = house().serve_keeping();
    for chunk in events.chunks(1_000) {
        post(&undisturbed, &json!(chunk));
    }
    let wanted = projections(&undisturbed);
    undisturbed.stop();

    let house = house();
    let key = house.key(&["events", "read"]);
    let next = AtomicUsize::new(0);
    for kill in 0..KILLS {
        let mut gateway = house.serve_with(key.clone());
        send(&gateway, &events, &next, || {
            // Each life is to see its share, and dies in the middle of a request.
            let share = EVENTS / EVENTS_OF_A_REQUEST * (kill + 1) / (KILLS + 1);
            wait_within(PATIENCE, "enough events", || (next.load(Ordering::Relaxed) >= share).then_some(()));
            gateway.process.signal("KILL");
        });
        gateway.process.wait();
    }
    let gateway = house.serve_with(key);
    send(&gateway, &events, &next, || {
        let all = EVENTS / EVENTS_OF_A_REQUEST;
        wait_within(2 * PATIENCE, "all events", || (next.load(Ordering::Relaxed) >= all).then_some(()));
    });
    let found = projections(&gateway);
    assert_eq!(found.len(), wanted.len());
    for (customer, wallet) in &wanted {
        assert_eq!(found.get(customer), Some(wallet), "{customer}");
    }
    gateway.stop();
}

/// Events of 3,000 passes of 1,000 customers, in the order of nothing.
fn history() -> Vec<Value> {
    let mut random = fastrand::Rng::with_seed(20_000);
    (0..EVENTS)
        .map(|number| {
            let pass = random.u32(0..3_000);
            let kind = if random.u8(0..5) < 3 { "installed" } else { "uninstalled" };
            let device = if random.bool() { "apple" } else { "google" };
            let at = format!("2026-02-{:02}T{:02}:{:02}:00Z", random.u8(1..29), random.u8(0..24), random.u8(0..60));
            let mut event = event(kind, &format!("P{pass}"), &format!("C{}", pass % 1_000), device, &at);
            event["eventId"] = json!(format!("E{number}"));
            event
        })
        .collect()
}

/// Sends what is left from several connections, each request again until it is answered or the gateway is gone.
fn send(gateway: &Gateway, events: &[Value], next: &AtomicUsize, meanwhile: impl FnOnce()) {
    let (url, key, gone) = (gateway.url("/v1/pass-events"), gateway.key.clone(), AtomicBool::new(false));
    let requests: Vec<_> = events.chunks(EVENTS_OF_A_REQUEST).collect();
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                scope.spawn(|| {
                    let headers = [("X-API-KEY", key.as_str()), ("Content-Type", "application/json")];
                    let mut unanswered = Vec::new();
                    while !gone.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(request) = requests.get(number) else { break };
                        let body = json!(request).to_string();
                        let Ok(answer) = try_request("POST", &url, &headers, Some(body.as_bytes())) else {
                            // Nobody knows whether it was kept: it is sent again to the next life.
                            unanswered.push(number);
                            break;
                        };
                        assert_eq!(answer.status, 202, "{}", answer.json());
                    }
                    unanswered
                })
            })
            .collect();
        meanwhile();
        gone.store(true, Ordering::Relaxed);
        let unanswered: Vec<usize> = senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();
        // The first of them is where the next life begins; what was kept of the rest comes as a repeat.
        if let Some(first) = unanswered.into_iter().min() {
            next.store(first, Ordering::Relaxed);
        }
    });
}

/// Every customer's wallets but for the order of changes.
fn projections(gateway: &Gateway) -> BTreeMap<String, Value> {
    let answer = get_as(gateway, "/v1/wallets", "application/x-ndjson");
    let text = String::from_utf8(answer.body).unwrap();
    let rows = text.lines().map(|line| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        row.as_object_mut().unwrap().remove("cursor");
        (row["customerId"].as_str().unwrap().to_owned(), row)
    });
    rows.collect()
}
