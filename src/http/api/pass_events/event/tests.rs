//! What the doors understand as a pass event, shape by shape, and everything they say about what they do not.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

mod writings;

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::http::api::lenient::{self, Media, ParseError};

fn tenant(identifiers: &[&str]) -> Tenant {
    let identifiers = identifiers.iter().map(|name| (*name).to_owned()).collect();
    Tenant { identifiers, ..Tenant::plain("demo") }
}

fn demo() -> Tenant {
    tenant(&["customerId", "y2.customerId", "email"])
}

type Read = Result<PassEvent, Vec<(String, String)>>;

fn read_as(way: Way, media: Media, body: &str) -> Read {
    let node = lenient::read(media, body.as_bytes()).unwrap();
    let mut problems = Problems::default();
    let event = event("", &node, &demo(), way, &mut problems);
    let pairs = |errors: Vec<crate::domain::submission::FieldError>| {
        errors.into_iter().map(|error| (error.pointer, error.detail)).collect()
    };
    problems.into_result(event).map_err(pairs)
}

fn read(body: &Value) -> Read {
    read_as(Way::Webhook, Media::Json, &body.to_string())
}

fn hook(body: &Value) -> Read {
    read_as(Way::Hook, Media::Json, &body.to_string())
}

fn pointers(read: Read) -> Vec<String> {
    read.unwrap_err().into_iter().map(|(pointer, _)| pointer).collect()
}

/// The least there is, with more.
fn with(more: &Value) -> Value {
    let mut body = json!({"event": "installed", "passId": "P1", "device": "apple"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn an_event_has_many_names_and_two_meanings() {
    for (name, kind) in [
        ("installed", Some(EventKind::Installed)),
        ("Pass:Installed", Some(EventKind::Installed)),
        ("pass.installed", Some(EventKind::Installed)),
        ("PASS.INSTALLED", Some(EventKind::Installed)),
        ("pass_installed", Some(EventKind::Installed)),
        ("PassInstalled", Some(EventKind::Installed)),
        ("OnPassInstalled", Some(EventKind::Installed)),
        (" Pass:Uninstalled ", Some(EventKind::Uninstalled)),
        ("pass.uninstalled", Some(EventKind::Uninstalled)),
        ("Uninstalled", Some(EventKind::Uninstalled)),
        ("Pass:Created", None),
        ("Pass:Updated", None),
        ("Customer:Installed", None),
        ("Redirect:Redirected", None),
        ("installed!", None),
        ("Pass::Installed", None),
    ] {
        for key in ["eventType", "EventType", "event_type", "event", "type", "name", "Name"] {
            let read = read(&json!({key: name, "passId": "P1", "device": "apple"}));
            assert_eq!(read.as_ref().ok().map(|event| event.kind), kind, "{key} {name}");
            if kind.is_none() {
                let place = key.replace("_type", "Type").replace("EventType", "eventType").replace("Name", "name");
                assert_eq!(pointers(read), [format!("/{place}")]);
            }
        }
    }
}

#[test]
fn the_first_of_the_names_of_an_event_counts_and_the_others_may_be_something_else() {
    let event = read(
        &json!({"eventType": "Pass:Installed", "type": "loyalty", "name": "Ann's card", "passId": 7, "device": "apple"}),
    );
    assert_eq!(event.unwrap().pass.as_deref(), Some("7"));
    let inside = json!({"id": "x", "data": {"event": "pass.uninstalled", "passId": "P1", "device": "google"}});
    assert_eq!(read(&inside).unwrap().kind, EventKind::Uninstalled);
    for (names, kind) in [
        (json!({"type": "webhook", "name": "Pass:Installed"}), Some(EventKind::Installed)),
        (json!({"event": {"x": 1}, "type": 7, "name": "pass.uninstalled"}), Some(EventKind::Uninstalled)),
        (json!({"type": "webhook", "data": {"eventType": "Pass:Installed"}}), Some(EventKind::Installed)),
        (json!({"eventType": "webhook", "name": "Ann"}), None),
        // What is an event of the platform is none of the others.
        (json!({"eventType": "Pass:Updated", "name": "installed"}), None),
        (json!({"eventType": "customer.updated", "data": {"event": "installed"}}), None),
    ] {
        let mut body = json!({"passId": "P1", "device": "apple"});
        body.as_object_mut().unwrap().extend(names.as_object().unwrap().clone());
        assert_eq!(read(&body).ok().map(|event| event.kind), kind, "{names}");
    }
}

#[test]
fn parts_that_are_absent_are_absent() {
    for more in [
        json!({}),
        json!({"additionalInformation": null, "identifiers": null, "passType": "", "eventId": null, "occurredAt": null}),
        json!({"additionalInformation": {}, "identifiers": {}, "properties": null}),
        json!({"additionalInformation": {"registrationInformation": null, "registrationSource": {"tags": []}}}),
        json!({"additionalInformation": {"registrationSource": {"tags": null, "medium": ""}}, "identifiers": []}),
        json!({"identifiers": {"customerId": null, "email": "", "accountId": "  "}}),
    ] {
        let event = hook(&with(&more)).unwrap();
        assert_eq!((event.pass_type, event.occurred_at, event.key), (None, None, None), "{more}");
        assert_eq!((event.counts, event.source), (RegistrationCounts::default(), Source::default()), "{more}");
        assert!(event.identifiers.is_empty(), "{more}");
    }
    let form = "event=installed&device=apple&passId=P1&additionalInformation=&identifiers=undefined&passType=null";
    assert!(read_as(Way::Hook, Media::Form, form).is_ok());
}

#[test]
fn everything_that_is_wrong_is_said_at_once_and_no_value_is_repeated() {
    let wrong = json!({
        "event": "hunter2", "device": "hunter2", "passId": ["hunter2"], "passType": {"hunter2": 1},
        "identifiers": {"customerId": ["hunter2"], "email": "hunter2\u{7}"},
        "additionalInformation": {"registrationInformation": {"activeRegistrationCount": "hunter2"}, "registrationSource": 7},
        "occurredAt": "hunter2", "eventId": true,
    });
    let errors = hook(&wrong).unwrap_err();
    let mut found: Vec<&str> = errors.iter().map(|(pointer, _)| pointer.as_str()).collect();
    found.sort_unstable();
    assert_eq!(
        found,
        ["/device", "/event", "/eventId", "/identifiers/customerId", "/identifiers/email", "/occurredAt", "/passId",]
    );
    assert!(!format!("{errors:?}").contains("hunter2"), "{errors:?}");
    assert_eq!(pointers(hook(&json!({}))), ["/event", "/device", "/passId"]);
    let inside = json!({"type": "Pass:Installed", "data": {"identifiers": {"other": "1"}}});
    assert_eq!(pointers(read(&inside)), ["/data/device", "/data/passId"]);
    assert_eq!(pointers(read(&with(&json!({"data": [1]})))), ["/data"]);
    assert_eq!(pointers(read(&json!("[1]"))), [""]);
}

#[test]
fn a_lost_object_is_refused_saying_so() {
    for body in [
        "event=installed&device=apple&passId=P1&identifiers=[object+Object]",
        "event=installed&device=apple&passId=P1&additionalInformation=[object+Object]",
        "event=installed&device=apple&passId=P1&identifiers[customerId]=[object+Object]",
        "event=installed&device=apple&passId=[object+Object]&identifiers[customerId]=C1",
        "event=installed&device=apple&passId=P1&additionalInformation.registrationSource=[object+Object]",
        "event=installed&device=apple&passId=P1&data=[object+Object]",
        "event=installed&device=apple&passId=P1&eventId=[object+Object]",
        "event=[object+Object]&device=apple&passId=P1",
        "event=installed&device=[object+Object]&passId=P1",
    ] {
        let errors = read_as(Way::Hook, Media::Form, body).unwrap_err();
        assert!(
            errors.len() == 1 && errors[0].1.contains("lost") || body.contains("device=[object"),
            "{body}: {errors:?}"
        );
    }
}

#[test]
fn what_only_informs_is_cut_and_what_identifies_is_refused() {
    let long = "x".repeat(3_000);
    let source = json!({
        "tags": vec![long.clone(); 3].iter().enumerate().map(|(n, text)| format!("{n}{text}")).collect::<Vec<_>>(),
        "medium": long, "origin": format!("https://a.example/\r\n{long}"), "userAgent": "é".repeat(3_000),
    });
    let event = hook(&with(&json!({"additionalInformation": {"registrationSource": source}}))).unwrap();
    let chars = |text: &Option<String>| text.as_ref().unwrap().chars().count();
    assert_eq!(event.source.tags.iter().map(|tag| tag.chars().count()).collect::<Vec<_>>(), [WORD_CHARS_MAX; 3]);
    assert_eq!(chars(&event.source.medium), WORD_CHARS_MAX);
    assert_eq!(chars(&event.source.origin), SOURCE_CHARS_MAX);
    assert_eq!(chars(&event.source.user_agent), SOURCE_CHARS_MAX);
    assert!(event.source.origin.unwrap().starts_with("https://a.example/x"));
    let many: Vec<String> = (0..2 * SOURCE_TAGS_MAX).map(|n| n.to_string()).collect();
    let event = hook(&with(&json!({"registrationSource": {"tags": many}}))).unwrap();
    assert_eq!(event.source.tags, many[..SOURCE_TAGS_MAX]);

    let longest = "x".repeat(ID_CHARS_MAX);
    assert!(hook(&with(&json!({"passId": longest, "eventId": longest, "identifiers": {"a": longest}}))).is_ok());
    for (more, pointer) in [
        (json!({"passId": "x".repeat(ID_CHARS_MAX + 1)}), "/passId"),
        (json!({"eventId": "x".repeat(ID_CHARS_MAX + 1)}), "/eventId"),
        (json!({"passId": "  "}), "/passId"),
        (json!({"identifiers": {"email": "x".repeat(ID_CHARS_MAX + 1)}}), "/identifiers/email"),
        (json!({"identifiers": {"CustomerId": "a\nb"}}), "/identifiers/CustomerId"),
        (json!({"passId": "a\u{0}b"}), "/passId"),
        (json!({"passId": 1.5}), "/passId"),
        (json!({"passId": 1e300}), "/passId"),
        (json!({"passId": true}), "/passId"),
        (json!({"passId": 9_007_199_254_740_992_u64}), "/passId"),
        (json!({"passId": -9_007_199_254_740_993_i64}), "/passId"),
        (json!({"passId": u64::MAX}), "/passId"),
        (json!({"identifiers": {"customerId": 9_007_199_254_740_993_u64}}), "/identifiers/customerId"),
        (json!({"identifiers": {"customerId": 12_345_678_901_234_567_890_123_f64}}), "/identifiers/customerId"),
        (json!({"identifiers": {"A": "1", "customerid": "1", "CUSTOMERID": "2"}}), "/identifiers/customerid"),
        (json!({"identifiers": {"customerId": "1"}, "identifier_customerId": "2"}), "/identifier_customerId"),
    ] {
        assert_eq!(pointers(hook(&with(&more))), [pointer], "{more}");
    }
    let largest = hook(&with(&json!({"passId": 9_007_199_254_740_991_u64})));
    assert_eq!(largest.unwrap().pass.as_deref(), Some("9007199254740991"));
}

#[test]
fn what_only_informs_is_left_out_when_it_is_something_else() {
    for more in [
        json!({"additionalInformation": "x"}),
        json!({"additionalInformation": [1]}),
        json!({"registrationSource": 7, "registrationInformation": "{"}),
        json!({"registrationSource": {"medium": ["email"], "tags": {"a": "b"}, "origin": {}, "userAgent": true}}),
        json!({"registrationSource": {"tags": [["x"], null, {"a": 1}, "", 1.5], "medium": 0.5}}),
        json!({"registrationInformation": {"activeRegistrationCount": -1, "totalRegistrationCount": 5_000_000_000_u64}}),
        json!({"registrationInformation": {"activeRegistrationCount": "many", "totalRegistrationCount": [2]}}),
        json!({"passType": {"a": 1}}),
    ] {
        let event = hook(&with(&more)).unwrap();
        let informs = (event.pass_type, event.counts, event.source);
        assert_eq!(informs, (None, RegistrationCounts::default(), Source::default()), "{more}");
    }
    let some = json!({"registrationSource": {"tags": ["a", ["x"], "b", 7], "medium": "sms", "origin": 1.5},
                      "registrationInformation": {"activeRegistrationCount": -1, "totalRegistrationCount": 2}});
    let event = hook(&with(&some)).unwrap();
    assert_eq!((event.source.tags.join(" "), event.source.medium.as_deref()), ("a b 7".to_owned(), Some("sms")));
    assert_eq!((event.counts.active, event.counts.total), (None, Some(2)));
    let long = hook(&with(&json!({"passType": "x".repeat(WORD_CHARS_MAX + 1)}))).unwrap();
    assert_eq!(long.pass_type, Some("x".repeat(WORD_CHARS_MAX)));
}

#[test]
fn identifiers_that_nobody_asked_for_may_be_anything_and_are_kept_when_they_fit() {
    for (more, kept) in [
        (json!({"tiers": ["gold"]}), None),
        (json!({"deep": {"er": [[1]], "obj": {"list": [{}]}}}), None),
        (json!({"note": "a\nb"}), None),
        (json!({"note": "x".repeat(300)}), None),
        (json!({"x".repeat(101): "1", "": "1", "a\u{7}": "1", "ann@hunter2.example": ["1"]}), None),
        (json!({"rate": 1.5, "big": 9_007_199_254_740_993_u64, "huge": 1e300}), None),
        (json!({"tier": "gold", "tiers": [], "x": null}), Some(("tier", "gold"))),
        (json!({"vip": true}), Some(("vip", "true"))),
    ] {
        let mut all = json!({"customerId": "C5"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        for body in [with(&json!({"identifiers": all})), with(&json!({"identifiers": all.to_string()}))] {
            let found = hook(&body).unwrap().identifiers;
            let wanted: BTreeMap<_, _> = [("customerId", "C5")].into_iter().chain(kept).collect();
            assert_eq!(found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<BTreeMap<_, _>>(), wanted);
        }
    }
    // Of very many those count first that a customer is known by.
    let mut many: BTreeMap<String, String> = (0..70).map(|n| (format!("a{n:02}"), n.to_string())).collect();
    many.extend([("y2.customerId".to_owned(), "7".to_owned()), ("zz".to_owned(), "1".to_owned())]);
    let found = hook(&with(&json!({"identifiers": many}))).unwrap().identifiers;
    assert_eq!((found.len(), found["y2.customerId"].as_str()), (50, "7"));
}

#[test]
fn identifiers_have_the_tenants_spelling_and_one_way_of_writing_a_value() {
    let event = hook(&with(&json!({"identifiers": {
        "CUSTOMERID": 7, "Y2.customerid": true, "Other": " x ", "Email": "Ann@B\u{fc}cher.example", "deep": {"er": {"still": 1}},
    }})));
    let wanted = [
        ("Other", "x"),
        ("customerId", "7"),
        ("deep.er.still", "1"),
        ("email", "ann@xn--bcher-kva.example"),
        ("y2.customerId", "true"),
    ];
    let found = event.unwrap().identifiers;
    assert_eq!(found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect::<Vec<_>>(), wanted);
}

#[test]
fn the_sample_connectors_form_is_an_event_of_a_customer() {
    for (body, kind, wallet) in [
        ("customerId=C-1&isInstalled=true&device=apple", EventKind::Installed, Wallet::Apple),
        ("customerId=C-1&isInstalled=True&device=google", EventKind::Installed, Wallet::Google),
        ("CustomerId=C-1&IsInstalled=1&Device=Apple", EventKind::Installed, Wallet::Apple),
        ("customerId=C-1&isInstalled=FALSE&device=apple", EventKind::Uninstalled, Wallet::Apple),
        ("customerId=C-1&isInstalled=0&device=apple", EventKind::Uninstalled, Wallet::Apple),
        ("customerId=C-1&event=Pass:Installed&device=apple", EventKind::Installed, Wallet::Apple),
    ] {
        let event = read_as(Way::Installation, Media::Form, body).unwrap();
        let customer = BTreeMap::from([("customerId".to_owned(), "C-1".to_owned())]);
        assert_eq!((event.kind, event.wallet, event.identifiers), (kind, wallet, customer), "{body}");
        assert_eq!((event.pass, event.key), (None, None), "{body}");
    }
    for json in [
        json!({"customerId": "17", "isInstalled": true, "device": "apple"}),
        json!({"customerId": 17, "isInstalled": 1, "device": "apple", "passType": ""}),
    ] {
        let event = read_as(Way::Installation, Media::Json, &json.to_string()).unwrap();
        assert_eq!(event.identifiers["customerId"], "17", "{json}");
    }
    for (body, wrong) in [
        ("", &["/isInstalled", "/device", "/customerId"][..]),
        ("customerId=&isInstalled=&device=", &["/isInstalled", "/device", "/customerId"]),
        ("customerId=undefined&isInstalled=true&device=apple", &["/customerId"]),
        ("customerId=[object+Object]&isInstalled=true&device=apple", &["/customerId"]),
        ("customerId=C-1&isInstalled=maybe&device=nokia", &["/isInstalled", "/device"]),
        ("customerId=C-1&customerId=C-2&isInstalled=true&device=apple", &["/customerId"]),
    ] {
        assert_eq!(pointers(read_as(Way::Installation, Media::Form, body)), wrong, "{body}");
    }
    // A tenant that calls its customers otherwise: it is what they are known by first.
    let node = lenient::read(Media::Form, b"customerId=C-1&isInstalled=true&device=apple").unwrap();
    let event = event("", &node, &tenant(&["loyalty.id", "email"]), Way::Installation, &mut Problems::default());
    assert_eq!(event.unwrap().identifiers, BTreeMap::from([("loyalty.id".to_owned(), "C-1".to_owned())]));
    // Elsewhere a customerId beside the identifiers may be the platform's own.
    assert_eq!(pointers(hook(&json!({"event": "installed", "device": "apple", "customerId": "C-1"}))), ["/passId"]);
}

#[test]
fn a_repeat_is_known_by_its_id_or_at_the_webhook_by_what_it_says() {
    let key = |read: Read| read.unwrap().key;
    let timed = with(&json!({"occurredAt": "2026-01-31T09:00:00Z"}));
    assert_eq!(key(hook(&with(&json!({"eventId": 17})))).as_deref(), Some("id:17"));
    assert_eq!(key(read(&with(&json!({"eventId": "17"})))).as_deref(), Some("id:17"));
    assert_eq!((key(hook(&timed)), key(hook(&with(&json!({}))))), (None, None), "a hook's are told apart by state");
    let by_time = key(read(&timed)).unwrap();
    assert!(by_time.starts_with("at:"), "{by_time}");
    let otherwise = json!({"Type": "Pass:Installed", "Timestamp": 1_769_850_000, "data": {"pass_id": "P1", "device": "ios", "more": 1}});
    assert_eq!(key(read(&otherwise)).unwrap(), by_time, "the same event, pass, device and time");
    let by_body = key(read(&with(&json!({})))).unwrap();
    assert!(by_body.starts_with("body:"), "{by_body}");
    let spaced = "{ \"device\":\"apple\",\n\"passId\" : \"P1\", \"event\":\"installed\" }";
    assert_eq!(key(read_as(Way::Webhook, Media::Json, spaced)).unwrap(), by_body, "white space and order are nothing");
    let mut keys = vec![by_time, by_body];
    for more in [
        json!({"occurredAt": "2026-01-31T09:00:00Z", "event": "uninstalled"}),
        json!({"occurredAt": "2026-01-31T09:00:00Z", "passId": "P2"}),
        json!({"occurredAt": "2026-01-31T09:00:00Z", "device": "google"}),
        json!({"occurredAt": "2026-01-31T09:00:01Z"}),
        json!({"occurredAt": "2026-01-31T09:00:00Z", "passId": null, "identifiers": {"email": "a@b.example"}}),
        json!({"occurredAt": "2026-01-31T09:00:00Z", "passId": null, "identifiers": {"email": "c@b.example"}}),
        json!({"occurredAt": "2026-01-31T09:00:00"}),
        json!({"passId": "P2"}),
    ] {
        keys.push(key(read(&with(&more))).unwrap());
    }
    let all = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), all);
}

#[test]
fn a_naive_time_is_left_to_the_time_of_arrival() {
    let at = |more: Value| hook(&with(&more)).unwrap().occurred_at;
    assert_eq!(at(json!({"occurredAt": "2026-01-31T09:00:00"})), None);
    assert_eq!(at(json!({"timestamp": "2026-01-31 09:00"})), None);
    assert_eq!(at(json!({"time": {"seconds": 1, "nanos": 0}})), Some(Timestamp::from_second(1).unwrap()));
}

#[test]
fn a_time_that_cannot_be_read_is_none_unless_a_script_can_mend_it() {
    let second = |seconds| Some(Timestamp::from_second(seconds).unwrap());
    for (more, at) in [
        (json!({"timestamp": "garbage"}), None),
        (json!({"date": "tomorrow", "time": "18:30"}), None),
        (json!({"timestamp": "garbage", "time": 5}), second(5)),
        (json!({"timestamp": 7, "time": "18:30"}), second(7)),
    ] {
        assert_eq!(read(&with(&more)).unwrap().occurred_at, at, "{more}");
        assert_eq!(hook(&with(&more)).unwrap().occurred_at, at, "{more}");
    }
    let wrong = with(&json!({"occurredAt": "garbage", "timestamp": 7}));
    assert_eq!(read(&wrong).unwrap().occurred_at, second(7));
    assert_eq!(pointers(hook(&wrong)), ["/occurredAt"]);
    // Nor is the platform's event lost for an id of it that is none.
    let odd = with(&json!({"eventId": {"a": 1}}));
    assert!(read(&odd).unwrap().key.unwrap().starts_with("body:"));
    assert_eq!(pointers(hook(&odd)), ["/eventId"]);
}

#[test]
fn lists_are_read_up_to_their_limit_and_name_what_is_wrong_in_each() {
    let all = |nodes: Value, events_max| {
        let root = Node::from_json(&nodes.to_string()).unwrap();
        super::super::read(&root, &demo(), Way::Hook, events_max)
    };
    assert_eq!(all(json!([]), 2).unwrap(), []);
    assert_eq!(all(json!([with(&json!({})), with(&json!({}))]), 2).unwrap().len(), 2);
    let many = all(json!([1, 2, 3]), 2).unwrap_err();
    assert!(
        matches!(&many, ParseError::Invalid(errors) if errors.len() == 1 && errors[0].pointer.is_empty()),
        "{many:?}"
    );
    let ParseError::Invalid(errors) = all(json!([with(&json!({})), 7, with(&json!({"device": "x"}))]), 9).unwrap_err()
    else {
        panic!("not invalid")
    };
    assert_eq!(errors.iter().map(|error| error.pointer.as_str()).collect::<Vec<_>>(), ["/1", "/2/device"]);
    assert!(matches!(all(json!(7), 9), Err(ParseError::Malformed(_))));
}

proptest! {
    #[test]
    fn nothing_that_is_sent_makes_the_door_fall_over(text in "\\PC*", key in "[a-zA-Z_]{0,5}(\\.[a-zA-Z_]{0,3}){0,5}", number in any::<f64>()) {
        for way in [Way::Hook, Way::Installation, Way::Webhook] {
            let text = form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let _ = read_as(way, Media::Form, &format!("event={text}&{key}={text}&passId={text}&identifiers.{key}={text}"));
            let body = with(&json!({key.as_str(): {"a": text, key.as_str(): [text, number]}, "timestamp": number, "identifiers": {text.as_str(): text}}));
            let _ = read_as(way, Media::Json, &body.to_string());
        }
    }
}
