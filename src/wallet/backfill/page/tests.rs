//! What the platform may write of a pass, and what is made of it.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]
use serde_json::json;

use super::*;

fn at(text: &str) -> ApiWallet {
    ApiWallet::Installed(Some(text.parse().unwrap()))
}

fn one(pass: &Value) -> ApiPass {
    Page::read(json!([pass]).to_string().as_bytes()).unwrap().passes.remove(0)
}

#[test]
fn every_way_of_saying_that_a_pass_is_in_a_wallet_is_understood_and_no_other() {
    use ApiWallet::{Absent, Installed, NotUnderstood};
    let day = || at("2026-02-03T04:05:06Z");
    let since_and = |name: &str, removed: Value| json!({"installedAt": "2026-02-03T04:05:06Z", name: removed});
    for (providers, apple, google) in [
        (json!({}), Absent, Absent),
        (json!(null), Absent, Absent),
        (json!({"apple": "2026-02-03T04:05:06Z"}), day(), Absent),
        (json!({"Apple": "2026-02-03T04:05:06", "google": null}), day(), Absent),
        (json!({"APPLE_WALLET": "2026-02-03T05:05:06+01:00", "googleWallet": "2026-02-03T04:05:06Z"}), day(), day()),
        (json!({"ios": true, "android": false}), Installed(None), Absent),
        (json!({"apple": "true", "google": ""}), Installed(None), Absent),
        (json!({"apple": 1_770_091_506, "google": 1_770_091_506_000_i64}), day(), day()),
        (json!({"apple": {"seconds": 1_770_091_506, "nanos": 0}}), day(), Absent),
        (json!({"apple": {"installationDate": "2026-02-03T04:05:06Z"}}), day(), Absent),
        (json!({"apple": {"InstalledAt": null}, "google": {"installed": true}}), Absent, Installed(None)),
        (json!({"apple": {"installed": "2026-02-03T04:05:06Z"}}), day(), Absent),
        (json!({"apple": {"installed": true, "date": "2026-02-03T04:05:06Z"}}), day(), Absent),
        (json!({"apple": {"installed": false, "date": "2026-02-03T04:05:06Z"}}), Absent, Absent),
        (json!({"apple": {"installedAt": "2026-01-01", "uninstalledAt": "2026-02-01"}}), Absent, Absent),
        (json!({"apple": {"installedAt": "2026-01-01", "removedAt": true}}), Absent, Absent),
        (json!({"apple": {"uninstalledAt": "2026-02-01"}}), Absent, Absent),
        (json!({"apple": {"installedAt": null, "uninstalledAt": "2026-02-01"}}), Absent, Absent),
        // No removal, however that is written.
        (json!({"apple": since_and("uninstalledAt", json!("0001-01-01T00:00:00"))}), day(), Absent),
        (json!({"apple": since_and("uninstalledAt", json!(""))}), day(), Absent),
        (
            json!({"apple": since_and("removedAt", json!(false)), "google": since_and("deletedAt", json!(null))}),
            day(),
            day(),
        ),
        // Installed again; the date of the installation, not that of the pass.
        (json!({"apple": since_and("uninstalledAt", json!("2026-01-15"))}), day(), Absent),
        (
            json!({"apple": {"createdAt": "2026-01-01", "installedAt": "2026-02-03T04:05:06Z", "deletedAt": "2026-01-15"}}),
            day(),
            Absent,
        ),
        // Of two removals the later, of which one nobody can read may be one.
        (
            json!({"apple": {"installedAt": "2026-02-01", "removedAt": "2026-01-01", "deletedAt": "2026-03-01"}}),
            Absent,
            Absent,
        ),
        (json!({"apple": {"installedAt": "2026-02-01", "uninstalledAt": "soon"}}), NotUnderstood, Absent),
        (json!({"apple": {"installedAt": "soon", "uninstalledAt": "2026-02-01"}}), NotUnderstood, Absent),
        (json!({"apple": {"installed": true, "uninstalledAt": "2026-02-01"}}), NotUnderstood, Absent),
        (json!({"apple": {"installed": false, "uninstalledAt": "soon"}}), Absent, Absent),
        (json!({"apple": "0001-01-01T00:00:00"}), Absent, Absent),
        (json!({"apple": "soon", "google": []}), NotUnderstood, NotUnderstood),
        (json!({"apple": {"serial": 7}, "google": 0}), NotUnderstood, NotUnderstood),
        (json!({"apple": true, "passbook": false}), NotUnderstood, Absent),
        (json!(["apple"]), NotUnderstood, NotUnderstood),
        (json!("apple"), NotUnderstood, NotUnderstood),
    ] {
        let pass = one(&json!({"id": "P1", "providers": providers}));
        assert_eq!((pass.apple, pass.google), (apple, google), "{providers}");
    }
    assert_eq!(one(&json!({"id": "P1"})).apple, NotUnderstood, "nothing is said");
}

#[test]
fn identifiers_are_kept_as_every_door_keeps_them() {
    let pass = one(&json!({
        "Id": 17, "PassType": "loyalty", "creationDate": "2026-02-03",
        "identifiers": {"y2.customerId": 4711, "email": " Ann@Customer.Example ", "no": null, "deep": {"a": 1}},
        "providers": {},
    }));
    let identifiers: Vec<_> = pass.identifiers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(identifiers, [("email", "ann@customer.example"), ("y2.customerId", "4711")]);
    assert_eq!((pass.id.as_str(), pass.pass_type.as_deref()), ("17", Some("loyalty")));
    assert_eq!(pass.created_at, Some("2026-02-03T00:00:00Z".parse().unwrap()));
}

#[test]
fn what_belongs_to_no_pass_is_counted_and_a_secret_becomes_no_value() {
    let body = json!([
        {"id": "P1", "secret": {"deep": ["hunter2"]}, "providers": {"samsung": true, "other": null}},
        {"secret": "hunter2"},
        {"id": {"a": 1}},
        {"id": 98_765_432_109_876_543_210_987.0},
        null,
    ]);
    let page = Page::read(body.to_string().as_bytes()).unwrap();
    assert_eq!((page.items, page.passes.len(), page.strange), (5, 1, 5));
    assert!(!format!("{page:?}").contains("hunter2"));
    for body in ["", "{}", "{\"items\":[]}", "[{\"id\":1}", "[1]", "<html>", "null"] {
        assert_eq!(Page::read(body.as_bytes()).err(), Some(NotAPage), "{body}");
    }
}
