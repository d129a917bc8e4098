//! The pass hooks, run by the same stand-in for the platform's engine: the documentation's sample as it is, and ours.

use serde_json::{Value, json};

use crate::connector::{BOTH_SCRIPT, PASS_SCRIPT, errors, in_repository, run, stand_in, with};
use crate::harness::{Gateway, House, free_port};

/// The sample of the platform's documentation, to the letter.
pub(crate) const SAMPLE: &str = "tests/it/sample_connector.js";
pub(crate) const INSTALLED: &str = "OnPassInstalled";
pub(crate) const UNINSTALLED: &str = "OnPassUninstalled";
/// All that the engine makes of an answer in which the script can find the status.
const ENGINES: [&str; 5] = ["browser", "pascal", "functions", "throws", "throws-dotnet"];

/// A call of a hook, as the platform makes it for a pass of `customer` that is on `active` devices from then on.
pub(crate) fn call(script: &str, gateway: &Gateway, hook: &str, customer: &str, device: &str, active: u32) -> Value {
    let case = json!({
        "script": in_repository(script), "secret": gateway.key, "hook": hook,
        "given": [
            format!("zqpass-{customer}"), "loyalty", {"customerId": customer, "y2.customerId": "zq-y2"}, device,
            {
                "registrationInformation": {"activeRegistrationCount": active, "totalRegistrationCount": 2},
                "registrationSource": {
                    "tags": ["zqsummer"], "medium": "email", "origin": "https://zq.example/?a=1&b=2", "userAgent": "zq/1",
                },
            },
        ],
    });
    // The sample names its constant otherwise.
    if script == SAMPLE {
        return with(
            case,
            &[("/url", Value::Null), ("/constants", json!({"API_URL": format!("'{}'", gateway.url(""))}))],
        );
    }
    with(case, &[("/url", json!(gateway.url("")))])
}

fn at(case: Value, time: &str) -> Value {
    with(case, &[("/now", json!(time))])
}

/// Runs one call that must go well; the answer it got.
pub(crate) fn made(case: Value) -> Value {
    let outcome = run(&[case]).remove(0);
    assert_eq!(outcome["error"], Value::Null, "{outcome}");
    answers(&outcome).pop().unwrap()
}

/// What was answered to each request of a call.
fn answers(outcome: &Value) -> Vec<Value> {
    let requests = outcome["requests"].as_array().unwrap();
    requests.iter().map(|asked| serde_json::from_str(asked["answer"]["text"].as_str().unwrap()).unwrap()).collect()
}

fn status(gateway: &Gateway, customer: &str) -> Value {
    gateway.get(&format!("/v1/wallets/{customer}")).json()["walletStatus"].clone()
}

fn gateway() -> Gateway {
    House::new(free_port(), "").serve_keeping()
}

#[test]
fn the_documented_sample_and_our_scripts_keep_the_wallet_status_right_in_all_four_states() {
    let gateway = gateway();
    for (script, customer) in [(SAMPLE, "zqC-1"), (PASS_SCRIPT, "zqC-2"), (BOTH_SCRIPT, "zqC-3")] {
        for (hook, device, active, wanted) in [
            (INSTALLED, "apple", 1, "apple"),
            (INSTALLED, "google", 2, "both"),
            (UNINSTALLED, "apple", 1, "google"),
            (UNINSTALLED, "google", 0, "none"),
            (INSTALLED, "google", 1, "google"),
            (INSTALLED, "apple", 2, "both"),
        ] {
            made(call(script, &gateway, hook, customer, device, active));
            assert_eq!(status(&gateway, customer), wanted, "{script}: {hook} {device}");
        }
    }
    gateway.stop();
}

#[test]
fn what_comes_twice_or_late_changes_nothing_and_a_reinstall_is_one() {
    let gateway = gateway();
    let customer = "zqC-1";
    let hook = |hook: &str, time: &str| {
        at(call(PASS_SCRIPT, &gateway, hook, customer, "apple", u32::from(hook == INSTALLED)), time)
    };
    let first = made(hook(INSTALLED, "2026-01-10T10:00:00.000Z"));
    assert_eq!((&first["change"], &first["walletStatus"]), (&json!("first-install"), &json!("apple")));
    let again = made(hook(INSTALLED, "2026-01-10T10:00:00.000Z"));
    assert_eq!((&again["change"], &again["eventId"]), (&json!("duplicate"), &first["eventId"]));

    let removed = made(hook(UNINSTALLED, "2026-01-10T12:00:00.000Z"));
    assert_eq!((&removed["change"], &removed["walletStatus"]), (&json!("removed"), &json!("none")));
    let late = made(hook(INSTALLED, "2026-01-10T11:00:00.000Z"));
    assert_eq!((&late["change"], &late["walletStatus"]), (&json!("stale"), &json!("none")));
    assert_eq!(status(&gateway, customer), "none");

    let back = made(hook(INSTALLED, "2026-01-10T13:00:00.000Z"));
    assert_eq!((&back["change"], &back["walletStatus"]), (&json!("reinstall"), &json!("apple")));
    let shown = gateway.get(&format!("/v1/wallets/{customer}")).json();
    assert_eq!(shown["appleWalletInstalledAt"], "2026-01-10T13:00:00.000Z", "{shown}");
    assert_eq!(shown["passes"].as_array().unwrap().len(), 1, "{shown}");
    gateway.stop();
}

#[test]
fn an_answer_that_is_lost_is_asked_for_again_and_the_event_counts_once() {
    let gateway = gateway();
    let lost = |answers: usize, customer: &str| {
        with(call(BOTH_SCRIPT, &gateway, INSTALLED, customer, "apple", 1), &[("/lost", json!(answers))])
    };
    let outcomes = run(&[lost(2, "zqC-1"), lost(3, "zqC-2")]);
    let said = "Postern did not answer (installed, apple): the connection was reset. Try again later: an event that \
                comes twice counts once. Check that the platform reaches POSTERN_URL: it answers at /livez.";
    assert_eq!(errors(&outcomes), ["sent", said]);
    for outcome in &outcomes {
        let answers = answers(outcome);
        let changes: Vec<&Value> = answers.iter().map(|answer| &answer["change"]).collect();
        assert_eq!(changes, ["first-install", "duplicate", "duplicate"], "{outcome}");
        assert!(answers.iter().all(|answer| answer["eventId"] == answers[0]["eventId"]), "{outcome}");
    }
    let body = outcomes[0]["requests"][0]["body"].as_str().unwrap();
    for sent in ["passType=loyalty", "activeRegistrationCount", "zqsummer", "y2.customerId", "occurredAt=20"] {
        assert!(body.contains(sent), "{sent} is not in {body}");
    }
    assert!(!body.contains("object"), "nothing is lost: {body}");
    gateway.stop();
}

#[test]
fn whatever_the_engine_makes_of_an_answer_an_event_is_kept_once_and_a_refusal_is_told() {
    let gateway = gateway();
    let plain = call(PASS_SCRIPT, &gateway, INSTALLED, "zqC-1", "apple", 1);
    let shaped = |case: &Value, engine: &str| with(case.clone(), &[("/engine", json!(engine))]);
    let outcomes = run(&ENGINES.map(|engine| shaped(&plain, engine)));
    assert!(outcomes.iter().all(|outcome| outcome["error"].is_null()), "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| outcome["requests"].as_array().unwrap().len() == 1), "{outcomes:?}");

    let wrong = with(plain.clone(), &[("/given/3", json!("zune"))]);
    let outcomes = run(&ENGINES.map(|engine| shaped(&wrong, engine)));
    for (engine, outcome) in ENGINES.iter().zip(&outcomes) {
        let error = outcome["error"].as_str().unwrap();
        let start = "Postern refused the event for good (HTTP 422, installed, zune): ";
        assert!(error.starts_with(start) && error.contains("Trying again does not help."), "{engine}: {error}");
        assert_eq!((&outcome["status"], outcome["requests"].as_array().unwrap().len()), (&json!(422), 1), "{engine}");
    }
    let told = errors(&outcomes)[0].clone();
    assert!(told.contains("/device: "), "{told}");

    // Neither the key's fault nor a proxy's page is taken for Postern's word; what may pass is tried three times.
    let (address, server) = stand_in(3 + 1 + 1);
    let elsewhere = |path: &str| with(plain.clone(), &[("/url", json!(format!("http://{address}/{path}")))]);
    let outcomes = run(&[
        with(plain.clone(), &[("/secret", json!("throws"))]),
        with(plain.clone(), &[("/secret", json!("pst_zqwrong"))]),
        elsewhere("failed"),
        elsewhere("site"),
        elsewhere("challenge"),
    ]);
    server.join().unwrap();
    let something_else = |status: u16| {
        format!(
            "Something else than Postern answered at POSTERN_URL (HTTP {status}, installed, apple). Postern does not \
             have the event; trying again does not help. Check POSTERN_URL: scheme and host, no path, nothing that \
             redirects."
        )
    };
    assert_eq!(
        errors(&outcomes),
        [
            "Nothing was sent to Postern: the secret \"POSTERN-API-KEY\" is missing or empty. Make a key with the \
             scope \"events\" (\"postern keys create\") and store it under that name.",
            "Postern refused the event for good (HTTP 401, installed, apple): No valid API key: the key is not known or \
             was revoked. Check the key in the secret \"POSTERN-API-KEY\". Trying again does not help. Postern's log \
             has it as req_….",
            "Postern, or what stands before it, failed (HTTP 500, installed, apple): Oops. Try again later: an event \
             that comes twice counts once.",
            &something_else(200),
            &something_else(202),
        ]
    );
    let tries: Vec<usize> = outcomes.iter().map(|outcome| outcome["requests"].as_array().unwrap().len()).collect();
    assert_eq!(tries, [0, 1, 3, 1, 1]);
    gateway.stop();
}
