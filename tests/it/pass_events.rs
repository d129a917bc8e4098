//! Pass events through the doors of hooks: every writing, the sample connector's form, and everybody who should not come in.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::harness::{Answer, Gateway, House, free_port, request};

pub const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub const JSON: (&str, &str) = ("Content-Type", "application/json");
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

fn house() -> House {
    House::new(free_port(), "")
}

/// A tenant's file with more keys before its tables.
pub fn tenant(house: &House, name: &str, keys: &str) {
    let toml = "from = \"Demo Brand <wallet@demo.example>\"\nrelays = [\"primary\"]\n";
    house.write(&format!("tenants/{name}.toml"), &format!("{toml}{keys}\n"));
}

/// A house whose tenant `demo` takes webhooks.
pub fn listening() -> House {
    let house = house();
    tenant(&house, "demo", &format!("webhook_secret = \"{SECRET}\""));
    house
}

pub fn post(gateway: &Gateway, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut all = vec![("X-API-KEY", gateway.key.as_str())];
    all.extend(headers);
    request("POST", &gateway.url(path), &all, Some(body))
}

pub fn hook(gateway: &Gateway, body: &Value) -> Answer {
    post(gateway, "/v1/pass-events", &[JSON], body.to_string().as_bytes())
}

pub fn mac(secret: &str, body: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    mac.finalize().into_bytes().to_vec()
}

pub fn hex(bytes: &[u8]) -> String {
    postern::domain::audit::hex(bytes)
}

/// Posts to a tenant's webhook with this signature and no API key.
pub fn webhook_as(gateway: &Gateway, tenant: &str, signature: &str, body: &[u8]) -> Answer {
    let headers = [("X-NEOSTORE-SIGNATURE", signature), JSON];
    request("POST", &gateway.url(&format!("/v1/webhooks/{tenant}")), &headers, Some(body))
}

pub fn webhook(gateway: &Gateway, body: &Value) -> Answer {
    let body = body.to_string();
    webhook_as(gateway, "demo", &hex(&mac(SECRET, body.as_bytes())), body.as_bytes())
}

pub fn wallet_status(gateway: &Gateway, customer: &str) -> Value {
    gateway.get(&format!("/v1/wallets/{customer}")).json()["walletStatus"].clone()
}

/// What became of one event.
pub fn said(answer: &Answer) -> (u16, Value, Value) {
    let body = answer.json();
    assert_eq!(body["enrollments"], json!([]), "{body}");
    assert!(body["eventId"].as_str().is_some_and(|id| id.starts_with("evt_")), "{body}");
    (answer.status, body["change"].clone(), body["walletStatus"].clone())
}

fn installed(pass: &str, customer: &str) -> Value {
    json!({"event": "installed", "passId": pass, "identifiers": {"customerId": customer}, "device": "apple"})
}

pub fn platform(id: &str, kind: &str, pass: &str, device: &str) -> Value {
    json!({
        "eventId": id, "timestamp": "2026-01-31T09:00:00Z", "tenantId": "brand", "eventType": kind, "operationId": "op",
        "properties": {"passId": pass, "passType": "loyalty", "device": device, "identifiers": {"customerId": "C-1"}},
    })
}

#[test]
fn a_hook_says_what_an_event_was_in_any_writing() {
    let gateway = house().serve_keeping();
    assert_eq!(said(&hook(&gateway, &installed("P1", "C-1"))), (202, json!("first-install"), json!("apple")));
    let form = "event=Pass:Installed&passId=P1&device=google&identifiers[customerId]=C-1&passType=loyalty\
                &additionalInformation={\"registrationSource\":{\"medium\":\"email\"}}";
    let answer = post(&gateway, "/v1/pass-events", &[FORM], form.as_bytes());
    assert_eq!(said(&answer), (202, json!("additional-device"), json!("both")));
    let text = Value::String(json!({"Event": "uninstalled", "PassId": "P1", "Device": "ios"}).to_string());
    assert_eq!(said(&hook(&gateway, &text)), (202, json!("removed"), json!("google")));
    // Without an id and a time the same again is told apart by the state it finds, never by its bytes.
    assert_eq!(said(&hook(&gateway, &text)).1, "duplicate");
    assert_eq!(said(&hook(&gateway, &installed("P1", "C-1"))).1, "reinstall");
    let list = json!([installed("P2", "C-2"), installed("P2", "C-2"), {"type": "uninstalled", "pass_id": "P2", "device": "apple"}]);
    let answer = hook(&gateway, &list);
    let changes: Vec<_> = answer.json().as_array().unwrap().iter().map(|answer| answer["change"].clone()).collect();
    assert_eq!((answer.status, changes), (202, vec![json!("first-install"), json!("duplicate"), json!("removed")]));
    assert_eq!(wallet_status(&gateway, "C-1"), "both");
    assert_eq!(wallet_status(&gateway, "C-2"), "none");
    assert_eq!((hook(&gateway, &json!([])).status, hook(&gateway, &json!([])).json()), (202, json!([])));
    gateway.stop();
}

#[test]
fn an_event_with_an_id_is_kept_once() {
    let gateway = house().serve_keeping();
    let mut event = installed("P1", "C-1");
    event["eventId"] = json!("e-1");
    let first = hook(&gateway, &event);
    assert_eq!(said(&first).1, "first-install");
    hook(&gateway, &json!({"event": "uninstalled", "passId": "P1", "device": "apple"}));
    let again = hook(&gateway, &event);
    assert_eq!((said(&again).1, &again.json()["eventId"]), (json!("duplicate"), &first.json()["eventId"]));
    assert_eq!(wallet_status(&gateway, "C-1"), "none", "a repeat installs nothing");
    gateway.stop();
}

#[test]
fn the_sample_connectors_form_is_taken_as_it_is() {
    let house = house();
    tenant(&house, "other", "identifiers = [\"y2.customerId\", \"email\"]");
    let others = house.key_of("other", &["events", "read"]);
    let gateway = house.serve();
    let send = |body: &str| post(&gateway, "/wallet/installation", &[FORM], body.as_bytes());
    let first = send("customerId=C-1&isInstalled=true&device=apple");
    assert_eq!(said(&first), (202, json!("first-install"), json!("apple")));
    assert_eq!(said(&send("customerId=C-1&isInstalled=True&device=google")).2, "both");
    assert_eq!(said(&send("customerId=C-1&isInstalled=false&device=apple")), (202, json!("removed"), json!("google")));
    let body = json!({"customerId": 17, "isInstalled": true, "device": "apple"}).to_string();
    let answer = post(&gateway, "/wallet/installation", &[JSON], body.as_bytes());
    assert_eq!(said(&answer), (202, json!("first-install"), json!("apple")));
    let body = "customerId=C-1&isInstalled=1&device=apple";
    let answer =
        request("POST", &gateway.url("/wallet/installation"), &[("X-API-KEY", &others), FORM], Some(body.as_bytes()));
    assert_eq!(said(&answer), (202, json!("first-install"), json!("apple")), "another tenant's C-1 is another");
    let theirs = request("GET", &gateway.url("/v1/wallets/C-1"), &[("X-API-KEY", &others)], None).json();
    assert_eq!((&theirs["knownBy"], &theirs["walletStatus"]), (&json!("y2.customerId"), &json!("apple")));
    assert_eq!(wallet_status(&gateway, "C-1"), "google");
    assert_eq!(wallet_status(&gateway, "17"), "apple");
    let nobody = send("customerId=&isInstalled=true&device=apple");
    assert_eq!((nobody.status, &nobody.json()["errors"][0]["pointer"]), (422, &json!("/customerId")));
    gateway.stop();
}

#[test]
fn both_doors_of_hooks_know_keys_scopes_and_limits() {
    let house = House::new(free_port(), "[limits]\nper_key = \"1/h,burst=3\"\ndisk_free_min = \"0B\"\n");
    let sender = house.key(&["send", "read", "manage"]);
    let gateway = house.serve();
    for path in ["/v1/pass-events", "/wallet/installation"] {
        let ask = |key: &str, body: &str| {
            request("POST", &gateway.url(path), &[("X-API-KEY", key), JSON], Some(body.as_bytes()))
        };
        assert_eq!(ask("pst_wrong", "{}").status, 401, "{path}");
        assert_eq!(request("POST", &gateway.url(path), &[JSON], Some(b"{}")).status, 401, "{path}");
        let refused = ask(&sender, "{}");
        assert_eq!((refused.status, refused.json()["type"].as_str()), (403, Some("/problems/forbidden")), "{path}");
        assert!(refused.header("ratelimit").is_some(), "{path}");
        assert_eq!(request("GET", &gateway.url(path), &[], None).status, 405, "{path}");
    }
    let body = json!({"customerId": "C", "event": "installed", "device": "apple", "passId": "P"}).to_string();
    let statuses: Vec<_> = ["/wallet/installation", "/v1/pass-events", "/wallet/installation", "/v1/pass-events"]
        .iter()
        .map(|path| post(&gateway, path, &[JSON], body.as_bytes()))
        .inspect(|answer| assert!(answer.header("ratelimit-policy").is_some(), "{answer:?}"))
        .map(|answer| answer.status)
        .collect();
    assert_eq!(statuses, [202, 202, 202, 429]);
    gateway.stop();
}

#[test]
fn what_a_hook_sends_wrong_is_named_all_at_once_and_nothing_is_kept() {
    let gateway = house().serve_keeping();
    let list = json!([
        installed("P1", "C-1"),
        {"event": "Pass:Created", "device": "zqdevice", "passId": "zq\u{7}"},
        {"event": "installed", "device": "apple", "identifiers": {"zqname": ["zqvalue"]}, "occurredAt": "zqtime"},
        17,
    ]);
    let answer = hook(&gateway, &list);
    let body = answer.json();
    let pointers: Vec<_> = body["errors"].as_array().unwrap().iter().map(|error| error["pointer"].clone()).collect();
    assert_eq!(answer.status, 422, "{body}");
    assert_eq!(pointers, ["/1/event", "/1/device", "/1/passId", "/2/passId", "/2/occurredAt", "/3"]);
    assert!(!body.to_string().contains("zq"), "{body}");
    assert_eq!(gateway.get("/v1/wallets/C-1").status, 404, "all or none");
    let refused =
        post(&gateway, "/v1/pass-events", &[FORM], b"event=installed&device=apple&identifiers=[object+Object]");
    let body = refused.json();
    assert!(refused.status == 422 && body.to_string().contains("JSON.stringify"), "{body}");
    for (headers, body, status) in [
        (JSON, "{", 400),
        (JSON, "17", 400),
        (JSON, "\"text\"", 400),
        (JSON, "\u{feff}[]", 202),
        (("Content-Type", "text/plain"), "{}", 415),
        (FORM, "a=%ff", 400),
    ] {
        assert_eq!(post(&gateway, "/v1/pass-events", &[headers], body.as_bytes()).status, status, "{body}");
    }
    gateway.stop();
}

#[test]
fn huge_lists_and_deep_trees_are_refused_and_cost_nothing() {
    let house = House::new(free_port(), "[wallet]\nevents_max = 20\n");
    let gateway = house.serve();
    let many: Vec<_> = (0..21).map(|n| installed(&format!("P{n}"), "C-1")).collect();
    let answer = hook(&gateway, &json!(many));
    let detail = &answer.json()["errors"][0]["detail"];
    assert_eq!((answer.status, detail), (422, &json!("more than 20 events")));
    let most = hook(&gateway, &json!(many[..20]));
    assert_eq!((most.status, most.json().as_array().unwrap().len()), (202, 20));
    let nested = |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    for deep in [nested("[", "]"), nested("{\"data\":", "}"), nested("{\"identifiers\":{\"a\":", "}}")] {
        assert_eq!(post(&gateway, "/v1/pass-events", &[JSON], deep.as_bytes()).status, 400);
    }
    let deep = format!("event=installed&identifiers{}=1", "[a]".repeat(1_000));
    assert_eq!(post(&gateway, "/v1/pass-events", &[FORM], deep.as_bytes()).status, 400);
    let wide: Vec<_> = (0..50_000).map(|n| format!("\"k{n}\":{{\"a\":[{n}]}}")).collect();
    let wide = wide.join(",");
    let wide = format!("{{\"event\":\"installed\",\"device\":\"apple\",\"identifiers\":{{{wide}}}}}");
    let answer = post(&gateway, "/v1/pass-events", &[JSON], wide.as_bytes());
    assert_eq!((answer.status, &answer.json()["errors"][0]["pointer"]), (422, &json!("/passId")));
    let huge = format!("[{}]", vec!["{\"\":0}"; 500_000].join(","));
    let answer = post(&gateway, "/v1/pass-events", &[JSON], huge.as_bytes());
    assert_eq!((answer.status, &answer.json()["errors"][0]["detail"]), (422, &json!("more than 200000 values")));
    assert_eq!(hook(&gateway, &installed("P", "C")).status, 202);
    gateway.stop();
}

#[test]
fn no_customer_pass_or_page_of_an_event_is_in_the_log() {
    let house = house();
    tenant(&house, "demo", &format!("webhook_secret = \"{SECRET}\""));
    let mut command = house.command(&["serve"]);
    command.env("POSTERN__LOG__LEVEL", "trace").env("RUST_LOG", "trace");
    let key = house.key(&["events", "read", "manage", "content"]);
    let mut gateway = House::serve_by(&mut command, key);
    let event = json!({
        "event": "installed", "passId": "zqpass", "eventId": "zqevent", "device": "apple", "passType": "zqtype",
        "identifiers": {"customerId": "zqcustomer", "email": "zq@zq.example"},
        "additionalInformation": {"registrationSource": {"origin": "https://zq.example/?zq", "tags": ["zqtag"]}},
    });
    assert_eq!(hook(&gateway, &event).status, 202);
    assert_eq!(hook(&gateway, &json!({"event": "zq", "passId": "zq\u{7}"})).status, 422);
    assert_eq!(
        post(&gateway, "/wallet/installation", &[FORM], b"customerId=zq&isInstalled=true&device=apple").status,
        202
    );
    assert_eq!(webhook(&gateway, &json!({"event": "zqname", "zqkey": "zq"})).status, 202);
    assert_eq!(webhook_as(&gateway, "demo", "zqsignature", b"zq").status, 401);
    assert_eq!(webhook_as(&gateway, "zqtenant", "zqsignature", b"zq").status, 404);
    assert_eq!(gateway.get("/v1/webhooks/unknown").status, 200);
    gateway.process.signal("TERM");
    assert!(gateway.process.wait().success());
    let log = gateway.process.whole_log();
    assert!(log.iter().any(|line| line.contains("/v1/webhooks/{tenant}")), "{log:?}");
    for line in &log {
        assert!(!line.to_lowercase().contains("zq") && !line.contains(&SECRET[..16]), "{line}");
    }
}
