//! What the door takes, and everything it says about what it does not take.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::domain::fact::{Dedupe, Window};

fn read(body: &Value) -> Result<Submission, ParseError> {
    parse(Media::Json, body.to_string().as_bytes())
}

fn form(body: &str) -> Result<Submission, ParseError> {
    parse(Media::Form, body.as_bytes())
}

fn pointers(result: Result<Submission, ParseError>) -> Vec<String> {
    match result {
        Err(ParseError::Invalid(errors)) => errors.into_iter().map(|error| error.pointer).collect(),
        other => panic!("{other:?}"),
    }
}

/// A submission that is fine but for what `more` adds.
fn with(more: &Value) -> Value {
    let mut body = json!({"recipient": "a@b.example", "Subject": "s", "Body": "<p>b</p>"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn the_same_mail_is_read_however_it_is_written() {
    let wanted = read(&json!({
        "recipient": "Zoë <zoe@b.example>", "emailTemplate": "welcome", "Subject": "é & è", "Body": "<p>x</p>",
        "tags": ["a", "b"], "metadata": {"k.1": "1"}, "headers": {"X-A": "1"}, "data": {"n": "1"},
    }))
    .unwrap();
    let nested = json!({
        "RECIPIENT": "Zoë <zoe@b.example>", "emailtemplate": "welcome", "email": {"subject": "é & è", "BODY": "<p>x</p>"},
        "tags": "[\"a\",\"b\"]", "metadata": "{\"k.1\":1}", "headers": [{"Name": "X-A", "value": "1"}], "data": {"n": 1},
        "cultures": ["fr-FR", "en"], "culture": "fr_FR", "unknown": {"deep": [1]}, "from": null, "replyTo": "",
    });
    assert_eq!(read(&nested).unwrap(), wanted);
    let string = Value::String(nested.to_string());
    assert_eq!(read(&string).unwrap(), wanted);
    assert_eq!(read(&Value::String(string.to_string())).unwrap(), wanted);
    assert_eq!(parse(Media::Json, format!("\u{feff}{nested}").as_bytes()).unwrap(), wanted);
    for body in [
        "recipient=Zo%C3%AB+<zoe@b.example>&emailTemplate=welcome&Subject=%C3%A9+%26+%C3%A8&Body=<p>x</p>&tags=a&tags=b\
         &metadata[k.1]=1&headers[X-A]=1&data[n]=1&cultures=fr-FR&cultures=en&from=&replyTo=null",
        "recipient=Zoë+<zoe@b.example>&EMAILTEMPLATE=welcome&email[Subject]=é+%26+è&email.Body=<p>x</p>&tags[0]=a&tags[1]=b\
         &metadata.k.1=1&headers={\"X-A\":\"1\"}&data={\"n\":1}",
        "recipient=Zoë+<zoe@b.example>&emailTemplate=welcome&email={\"Subject\":\"é+%26+è\",\"Body\":\"<p>x</p>\"}\
         &tags[]=a&tags[]=b&metadata={\"k.1\":\"1\"}&headers[0][name]=X-A&headers[0][value]=1&data.n=1",
    ] {
        assert_eq!(form(body).map_err(|error| format!("{error:?}")), Ok(wanted.clone()), "{body}");
    }
}

#[test]
fn everything_optional_is_read() {
    let submission = read(&with(&json!({
        "text": "plain", "from": "F <f@b.example>", "replyTo": "r@b.example", "lane": "Urgent",
        "deliverBy": "2030-01-31T09:00:00+01:00", "sendAt": "2030-01-30T09:00:00Z",
        "headers": {"references": "<a@b>", "List-Id": "<l.example>", "X-Ü": null, "x-b": " v "},
        "attachments": [
            {"filename": "é.pdf", "contentType": "application/pdf", "content": "AA E=\n"},
            {"FileName": "e", "content": ""},
            {"filename": "l.png", "contentType": "image/png", "content": "AAE", "contentId": "logo@1"},
        ],
        "metadata": {"n": 1.5, "b": true, "z": null}, "data": {"o": {"a": [1, null]}, "l": [], "z": null},
    })))
    .unwrap();
    assert_eq!(submission.html.as_deref(), Some("<p>b</p>"));
    assert_eq!(submission.text.as_deref(), Some("plain"));
    assert_eq!(submission.lane, Some(Lane::Urgent));
    assert_eq!(submission.deadline, Some(Deadline::By("2030-01-31T08:00:00Z".parse().unwrap())));
    let headers: Vec<_> = submission.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(headers, [("List-Id", "<l.example>"), ("references", "<a@b>"), ("x-b", "v")]);
    let files: Vec<_> =
        submission.attachments.iter().map(|file| (file.content_type.as_str(), file.content.as_slice())).collect();
    assert_eq!(
        files,
        [("application/pdf", [0, 1].as_slice()), ("application/octet-stream", &[]), ("image/png", &[0, 1]),]
    );
    assert_eq!(submission.metadata, BTreeMap::from([("b".into(), "true".into()), ("n".into(), "1.5".into())]));
    assert_eq!(submission.data, BTreeMap::from([("l".into(), "[]".into()), ("o".into(), "{\"a\":[1,null]}".into())]));
    let within = read(&with(&json!({"deliverWithin": "15m"}))).unwrap();
    assert_eq!(within.deadline, Some(Deadline::Within(HumanDuration::from_secs(900))));
}

#[test]
fn a_body_without_a_tag_is_text() {
    for (body, is_html) in [
        ("<p>x", true),
        ("<!DOCTYPE html>x", true),
        ("x<br/>", true),
        ("x</b>", true),
        ("<A HREF='x'>", true),
        ("<!-- x -->", true),
        ("a < b > c <3 &amp;", false),
        ("write to <a@b.example> or <https://x.example/>", false),
        ("<", false),
        ("a<b", false),
        ("if a <b or c", false),
    ] {
        let read = read(&json!({"recipient": "a@b.example", "Subject": "s", "Body": body})).unwrap();
        assert_eq!((read.html.is_some(), read.text.is_some()), (is_html, !is_html), "{body}");
    }
}

#[test]
fn everything_wrong_is_said_at_once() {
    let all = read(&json!({
        "recipient": 7, "Subject": "a\r\nBcc: x@y.example", "Body": ["x"], "from": "a@b.example, c@d.example", "replyTo": "x",
        "headers": {"Bcc": "x", "X-A": "a\nb", "x-b": "1", "X-B": "2"}, "lane": "fast", "deliverBy": "2030-01-01T00:00:00",
        "deliverWithin": "soon", "sendAt": "tomorrow", "tags": ["a,b", 1], "metadata": {"k": {}}, "data": "x",
        "attachments": [{}, {"filename": "a\0", "contentType": "message/rfc822", "content": "%%", "contentId": "<x>"}],
        "emailTemplate": "a\u{7}", "cultures": 3, "dedupe": {"fact": "x"}, "unless": {"walletStatus": ["windows"]},
    }));
    let mut found = pointers(all);
    found.sort();
    found.dedup();
    assert_eq!(
        found,
        [
            "/Body",
            "/Subject",
            "/attachments/0/content",
            "/attachments/0/filename",
            "/attachments/1/content",
            "/attachments/1/contentId",
            "/attachments/1/contentType",
            "/attachments/1/filename",
            "/cultures",
            "/data",
            "/dedupe/window",
            "/deliverBy",
            "/deliverWithin",
            "/emailTemplate",
            "/from",
            "/headers/Bcc",
            "/headers/X-A",
            "/headers/x-b",
            "/lane",
            "/metadata/k",
            "/recipient",
            "/replyTo",
            "/sendAt",
            "/tags/0",
            "/tags/1",
            "/unless/walletStatus",
        ]
    );
    assert_eq!(pointers(read(&json!({}))), ["/recipient", "/Subject", "/Body"]);
    assert_eq!(pointers(read(&json!({"recipient": "a@b.example", "email": {"Subject": "s"}}))), ["/Body"]);
    assert_eq!(pointers(form("recipient=a@b.example&Subject=null&Body=<p>")), ["/Subject"]);
}

#[test]
fn one_field_with_two_values_is_refused_and_with_one_value_twice_is_not() {
    let twice =
        br#"{"recipient":"a@b.example","Recipient":"c@b.example","Subject":"s","email":{"subject":"t","Body":"x"}}"#;
    assert_eq!(pointers(parse(Media::Json, twice)), ["/recipient", "/Subject"]);
    let same =
        br#"{"recipient":"a@b.example","recipient":"a@b.example","Subject":"s","email":{"subject":"s","Body":"x"}}"#;
    assert!(parse(Media::Json, same).is_ok());
    assert_eq!(pointers(form("recipient=a@b.example&recipient=b@b.example&Subject=s&Body=b")), ["/recipient"]);
    let headers = json!({"headers": [{"name": "X-A", "value": "1"}, {"name": "x-a", "value": "1"}]});
    assert_eq!(pointers(read(&with(&headers))), ["/headers/1"]);
}

#[test]
fn a_fact_is_read_however_it_is_written() {
    let wanted = Some(Dedupe { fact: "welcome/PASS 1".to_owned(), window: "30d".parse().unwrap() });
    for dedupe in [
        json!({"fact": "welcome/PASS 1", "window": "30d"}),
        json!({"Fact": "welcome/PASS 1", "WINDOW": "30d"}),
        json!("{\"fact\":\"welcome/PASS 1\",\"window\":\"30d\"}"),
    ] {
        assert_eq!(read(&with(&json!({"dedupe": dedupe}))).unwrap().dedupe, wanted, "{dedupe}");
    }
    for more in [
        "dedupe[fact]=welcome/PASS+1&dedupe[window]=30d",
        "Dedupe.Fact=welcome%2FPASS+1&Dedupe.Window=30d",
        "dedupe={\"fact\":\"welcome/PASS+1\",\"window\":\"30d\"}",
    ] {
        let read = form(&format!("recipient=a@b.example&Subject=s&Body=b&{more}")).unwrap();
        assert_eq!(read.dedupe, wanted, "{more}");
    }
    for none in [json!(null), json!("")] {
        assert_eq!(read(&with(&json!({"dedupe": none}))).unwrap().dedupe, None);
    }
    // A submission without a fact is written as before there were any: keys that are bound to one know it again.
    let written = |more: &Value| serde_json::to_string(&read(&with(more)).unwrap()).unwrap();
    assert!(!written(&json!({})).contains("dedupe"));
    assert!(written(&json!({"dedupe": {"fact": "f", "window": "1d"}})).contains("dedupe"));
    let longest = json!({"dedupe": {"fact": "é".repeat(255), "window": "forever"}});
    assert_eq!(read(&with(&longest)).unwrap().dedupe.unwrap().window, Window::Forever);
}

#[test]
fn a_fact_that_is_half_understood_is_refused() {
    let line = "a\nb";
    for (dedupe, wrong) in [
        (json!({}), &["/dedupe/fact", "/dedupe/window"][..]),
        (json!([]), &["/dedupe"]),
        (json!("welcome/PASS1"), &["/dedupe"]),
        (json!(7), &["/dedupe"]),
        (json!({"fact": "", "window": null}), &["/dedupe/fact", "/dedupe/window"]),
        (json!({"fact": line, "window": "0s"}), &["/dedupe/fact", "/dedupe/window"]),
        (json!({"fact": "f".repeat(256), "window": "401d"}), &["/dedupe/fact", "/dedupe/window"]),
        (json!({"fact": 7, "window": {}}), &["/dedupe/fact", "/dedupe/window"]),
        (json!({"fact": "f", "window": "1d", "scope": "all", "a/b~": 1}), &["/dedupe/a~1b~0", "/dedupe/scope"]),
        (json!({"fact": "f", "Fact": "g", "window": "1d"}), &["/dedupe/fact"]),
    ] {
        assert_eq!(pointers(read(&with(&json!({"dedupe": dedupe})))), wrong, "{dedupe}");
    }
    assert_eq!(pointers(form("recipient=a@b.example&Subject=s&Body=b&dedupe=[object+Object]")), ["/dedupe"]);
}

#[test]
fn what_is_wrong_inside_an_object_is_named_by_its_key() {
    for (more, wrong) in [
        (
            json!({"headers": {"Reply/To~": "x", "Pièce jointe": "y"}}),
            vec!["/headers/Pièce jointe", "/headers/Reply~1To~0"],
        ),
        (json!({"headers": {"ann@b.example": "x"}}), vec!["/headers"]),
        (json!({"headers": [{"name": "X-A", "value": "1"}, {"name": "Bcc", "value": "1"}]}), vec!["/headers/1"]),
        (json!({"metadata": {"a/b": []}}), vec!["/metadata/a~1b"]),
        (json!({"metadata": []}), vec!["/metadata"]),
        (json!({"metadata": "[]"}), vec!["/metadata"]),
        (json!({"email": []}), vec!["/email"]),
    ] {
        assert_eq!(pointers(read(&with(&more))), wrong, "{more}");
    }
    // An empty list of headers is one; data is the platform's own, and dropped.
    for more in [json!({"headers": []}), json!({"data": []})] {
        assert!(read(&with(&more)).is_ok(), "{more}");
    }
}

#[test]
fn a_time_beyond_the_calendar_is_far_ahead_and_not_called_unreadable() {
    for text in ["9999-12-31T23:59:59Z", "9999-12-31T00:00:00.5+00:00"] {
        let Err(ParseError::Invalid(errors)) = read(&with(&json!({"deliverBy": text}))) else { panic!("{text}") };
        assert_eq!((errors[0].pointer.as_str(), errors[0].detail.as_str()), ("/deliverBy", "more than a year ahead"));
    }
    for text in ["9999-12-31T23:59:59", "9999-13-31T23:59:59Z", "9999"] {
        let Err(ParseError::Invalid(errors)) = read(&with(&json!({"deliverBy": text}))) else { panic!("{text}") };
        assert!(errors[0].detail.starts_with("not a time"), "{text}");
    }
}

#[test]
fn a_lost_object_is_named_with_its_remedy() {
    for field in ["email", "data", "headers", "attachments", "metadata", "dedupe", "recipient", "Body"] {
        let body = format!("recipient=a@b.example&Subject=s&Body=b&{field}=%5Bobject+Object%5D");
        let Err(ParseError::Invalid(errors)) = form(&body) else { panic!("{field}") };
        let found = errors.iter().any(|error| error.pointer == format!("/{field}"));
        assert!(found, "{field}: {errors:?}");
    }
    let Err(ParseError::Invalid(errors)) = form("recipient=a@b.example&email=[object Object]") else { panic!() };
    assert!(errors[0].detail.contains("JSON.stringify"), "{errors:?}");
}

#[test]
fn limits_hold_and_details_never_repeat_a_value() {
    let long = "secret".repeat(2_000);
    let many: Vec<Value> = (0..60).map(|n| json!(format!("t{n}"))).collect();
    let Err(ParseError::Invalid(errors)) = read(&json!({
        "recipient": long, "Subject": long, "Body": "b", "emailTemplate": long, "tags": many, "from": "secret",
        "metadata": {long.clone(): "v", "v": long}, "headers": {long.clone(): "v", "X-V": long},
        "attachments": [{"filename": long, "content": "secret!"}], "lane": "secret", "sendAt": "secret", "deliverWithin": "secret",
    })) else {
        panic!()
    };
    assert!(errors.len() >= 12, "{errors:?}");
    assert!(errors.iter().all(|e| !e.detail.contains("secret") && !e.pointer.contains("secret")), "{errors:?}");
    assert!(read(&with(&json!({"Subject": "é".repeat(2_000)}))).is_ok());
    assert_eq!(pointers(read(&with(&json!({"Subject": "é".repeat(2_001)})))), ["/Subject"]);
}

#[test]
fn what_cannot_be_read_is_malformed() {
    for body in
        [b"".as_slice(), b"{", b"[]", b"7", b"\"x\"", b"{\"a\":\"\xff\"}", b"nul", b"{\"a\":\"\\ud800\"}", b"null"]
    {
        assert!(matches!(parse(Media::Json, body), Err(ParseError::Malformed(_))), "{body:?}");
    }
    let deep = format!("{{\"data\":{}", "[".repeat(1_000_000));
    assert!(matches!(parse(Media::Json, deep.as_bytes()), Err(ParseError::Malformed(_))));
    let deep_inside = with(&json!({"data": "[".repeat(100_000)}));
    assert_eq!(pointers(read(&deep_inside)), ["/data"]);
    assert!(matches!(parse(Media::Form, b"a=%ff"), Err(ParseError::Malformed(_))));
}

proptest! {
    #[test]
    fn no_body_crashes_the_door(body in proptest::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,200}") {
        for media in [Media::Json, Media::Form] {
            let _ = parse(media, &body);
            let _ = parse(media, text.as_bytes());
        }
    }

    #[test]
    fn no_control_character_passes_in_a_field_of_the_header(control in "[\\x00-\\x1f\\x7f\u{80}-\u{9f}]", field in 0..6_usize) {
        let bad = format!("a{control}b");
        let more = [
            json!({"Subject": bad}), json!({"emailTemplate": bad}), json!({"tags": [bad]}), json!({"headers": {"X-A": bad}}),
            json!({"from": format!("{bad} <a@b.example>")}), json!({"attachments": [{"filename": bad, "content": ""}]}),
        ];
        prop_assert!(read(&with(&more[field])).is_err());
    }
}

#[test]
fn a_condition_is_read_in_every_writing_and_half_of_one_is_refused() {
    let unless =
        |more: Value| read(&with(&more)).map(|submission| submission.unless.map(|it| (it.words(), it.customer)));
    let both = |customer: Option<&str>| Ok(Some(("apple both".to_owned(), customer.map(str::to_owned))));
    let condition = json!({"walletStatus": ["both", "apple"]});
    assert_eq!(unless(json!({"unless": condition})), both(None));
    assert_eq!(unless(json!({"Unless": condition.to_string(), "CustomerID": 17})), both(Some("17")));
    let written = json!({"unless": {"WALLETSTATUS": "[\"Apple\",\"BOTH\"]"}, "customerId": " Ann@B.example "});
    assert_eq!(unless(written), both(Some("ann@b.example")));
    for body in [
        "recipient=a@b.example&Subject=s&Body=b&unless.walletStatus=apple&unless.walletStatus=both&customerId=C-1",
        "recipient=a@b.example&Subject=s&Body=b&unless[walletStatus][]=both&unless[walletStatus][]=apple&customerId=C-1",
        "recipient=a@b.example&Subject=s&Body=b&unless={\"walletStatus\":[\"both\",\"apple\"]}&customerId=C-1",
    ] {
        let read = form(body).unwrap().unless.unwrap();
        assert_eq!((read.words().as_str(), read.customer.as_deref()), ("apple both", Some("C-1")), "{body}");
    }
    assert_eq!(unless(json!({"unless": {"walletStatus": "none"}})), Ok(Some(("none".to_owned(), None))));
    // Without a condition a customerId is a field like any other that is not ours.
    assert_eq!(unless(json!({"customerId": {"lost": 1}})), Ok(None));
    for (more, pointer) in [
        (json!({"unless": {}}), "/unless/walletStatus"),
        (json!({"unless": {"walletStatus": []}}), "/unless/walletStatus"),
        (json!({"unless": {"walletStatus": ["apple", "windows"]}}), "/unless/walletStatus"),
        (json!({"unless": {"walletStatus": ["apple"], "opened": true}}), "/unless/opened"),
        (json!({"unless": "installed"}), "/unless"),
        (json!({"unless": "[object Object]"}), "/unless"),
        (json!({"unless": [condition]}), "/unless"),
        (json!({"unless": condition, "customerId": ["x"]}), "/customerId"),
        (json!({"unless": condition, "customerId": "x".repeat(256)}), "/customerId"),
    ] {
        assert_eq!(pointers(read(&with(&more))), [pointer], "{more}");
    }
}

#[test]
fn a_submission_without_a_condition_is_bound_as_it_was_before_there_were_any() {
    let plain = read(&with(&json!({}))).unwrap();
    let written = |submission: &Submission| serde_json::to_value(submission).unwrap();
    assert!(written(&plain).get("unless").is_none() && written(&plain).get("dedupe").is_none());
    let more = |unless: Value, customer: &str| read(&with(&json!({"unless": unless, "customerId": customer}))).unwrap();
    let one = more(json!({"walletStatus": ["apple", "both"]}), "C-1");
    assert_eq!(written(&one), written(&more(json!({"walletStatus": ["both", "apple", "apple"]}), "C-1")));
    for other in [
        plain,
        more(json!({"walletStatus": ["apple"]}), "C-1"),
        more(json!({"walletStatus": ["apple", "both"]}), "C-2"),
    ] {
        assert_ne!(written(&one), written(&other));
    }
}
