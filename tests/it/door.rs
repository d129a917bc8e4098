//! The door: what is taken, what is refused, and how it says so.

use std::time::{Duration, Instant};

use postern::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, House, Inbox, free_port, mail, request, wait_within};

/// A gateway whose relay is not there: nothing leaves.
fn gateway() -> Gateway {
    House::new(free_port(), "request_body_max = \"1MiB\"\n").serve_keeping()
}

fn post(gateway: &Gateway, content_type: &str, body: &str) -> Answer {
    let headers = [("X-API-KEY", gateway.key.as_str()), ("Content-Type", content_type)];
    request("POST", &gateway.url("/v1/emails"), &headers, Some(body.as_bytes()))
}

fn assert_problem(answer: &Answer, status: u16, slug: &str) {
    let body = answer.json();
    assert_eq!(answer.status, status, "{body}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    assert_eq!(body["type"], format!("/problems/{slug}"), "{body}");
    assert_eq!(body["status"], status);
    assert!(body["title"].is_string() && body["instance"].as_str().unwrap().starts_with("req_"), "{body}");
}

#[test]
fn json_forms_and_json_in_a_string_are_taken_whatever_the_case_of_the_field_names() {
    let gateway = gateway();
    let flat =
        r#"{"RECIPIENT":"ann@customer.example","subject":"S","BODY":"<p>B</p>","emailtemplate":"challenge-login"}"#;
    let nested = r#"{"recipient":"ann@customer.example","email":{"Subject":"S","Body":"<p>B</p>"},"cultures":["fr-FR","en"],"data":{"a":1}}"#;
    let in_a_string = serde_json::to_string(nested).unwrap();
    let form = "recipient=ann%40customer.example&Subject=S&Body=%3Cp%3EB%3C%2Fp%3E&cultures=";
    let form_nested = "recipient=ann%40customer.example&email=%7B%22Subject%22%3A%22S%22%2C%22Body%22%3A%22B%22%7D";
    let form_brackets = "recipient=ann%40customer.example&email%5BSubject%5D=S&email.Body=B";
    for (content_type, body) in [
        ("application/json", flat),
        ("application/json; charset=utf-8", nested),
        ("application/json", in_a_string.as_str()),
        ("application/x-www-form-urlencoded", form),
        ("application/x-www-form-urlencoded;charset=UTF-8", form_nested),
        ("application/x-www-form-urlencoded", form_brackets),
    ] {
        let answer = post(&gateway, content_type, body);
        assert_eq!(answer.status, 202, "{body}: {}", answer.json());
        let receipt = answer.json();
        let id = receipt["id"].as_str().unwrap();
        assert_eq!(answer.header("location"), Some(format!("/v1/emails/{id}").as_str()));
        assert_eq!(receipt["status"], "queued");
        assert_eq!(receipt["lane"], if body == flat { "urgent" } else { "standard" });
        assert!(receipt["deliverBy"].as_str().unwrap().ends_with('Z'));
        assert!(receipt["messageId"].as_str().unwrap().ends_with("@demo.example>"));
        let message = gateway.message(id);
        assert_eq!((&message["subject"], &message["recipient"]), (&json!("S"), &json!("ann@customer.example")));
    }
}

#[test]
fn everything_wrong_with_a_submission_is_said_at_once() {
    let gateway = gateway();
    let answer = post(
        &gateway,
        "application/json",
        r#"{"recipient":"nobody","Subject":"a\r\nBcc: x@y.example","Body":7,"lane":"fast","deliverBy":"soon"}"#,
    );
    assert_problem(&answer, 422, "invalid");
    let body = answer.json();
    let pointers: Vec<&str> =
        body["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    for pointer in ["/recipient", "/Subject", "/Body", "/lane", "/deliverBy"] {
        assert!(pointers.contains(&pointer), "{pointer} in {pointers:?}");
    }
    assert!(!body.to_string().contains("nobody"), "values are never repeated: {body}");
}

#[test]
fn a_deadline_is_at_most_a_year_ahead_and_says_so() {
    let gateway = gateway();
    for (field, value) in [
        ("deliverBy", "9999-01-01T00:00:00Z"),
        ("deliverBy", "9999-12-31T23:59:59Z"),
        ("deliverWithin", "367d"),
        ("sendAt", "9999-01-01T00:00:00Z"),
    ] {
        let mut body = mail("ann@customer.example");
        body[field] = json!(value);
        let answer = gateway.post(&body);
        assert_problem(&answer, 422, "invalid");
        let errors = json!([{"pointer": format!("/{field}"), "detail": "more than a year ahead"}]);
        assert_eq!(answer.json()["errors"], errors, "{value}");
    }
    let mut body = mail("ann@customer.example");
    body["deliverWithin"] = json!("365d");
    assert_eq!(gateway.post(&body).status, 202);
}

#[test]
fn every_error_is_problem_json() {
    let gateway = gateway();
    let key = gateway.key.as_str();
    let url = |path: &str| gateway.url(path);
    assert_problem(&post(&gateway, "application/json", "{"), 400, "malformed");
    assert_problem(&post(&gateway, "application/json", &"[".repeat(100_000)), 400, "malformed");
    assert_problem(&post(&gateway, "text/plain", "hello"), 415, "unsupported-media-type");
    assert_problem(
        &request("POST", &url("/v1/emails"), &[("Content-Type", "application/json")], Some(b"{}")),
        401,
        "unauthorized",
    );
    assert_problem(
        &request("GET", &url("/v1/emails"), &[("Authorization", "Bearer pst_wrong")], None),
        401,
        "unauthorized",
    );
    assert_problem(&gateway.get("/nowhere"), 404, "not-found");
    assert_problem(&gateway.get("/v1/emails/msg_00000000000000000000000000000000"), 404, "not-found");
    assert_problem(&gateway.get("/v1/emails/..%2f..%2fetc"), 404, "not-found");
    let wrong_method = request("DELETE", &url("/v1/emails"), &[("X-API-KEY", key)], None);
    assert_problem(&wrong_method, 405, "method-not-allowed");
    assert!(wrong_method.header("allow").unwrap().contains("POST"));
    assert_problem(&gateway.get("/v1/emails?colour=red"), 422, "invalid");
    assert_problem(&gateway.get("/v1/emails?limit=many"), 422, "invalid");
    let sender = json!({"recipient": "a@b.example", "Subject": "s", "Body": "b", "from": "x@elsewhere.example"});
    assert_problem(&gateway.post(&sender), 403, "forbidden");
    assert_problem(
        &post(&gateway, "application/json", &format!("{{\"Body\":\"{}\"}}", "x".repeat(2 << 20))),
        413,
        "too-large",
    );
}

#[test]
fn a_body_is_limited_before_and_after_it_is_decompressed() {
    let gateway = gateway();
    let send = |encoding: &str, body: &[u8]| {
        let headers =
            [("X-API-KEY", gateway.key.as_str()), ("Content-Type", "application/json"), ("Content-Encoding", encoding)];
        request("POST", &gateway.url("/v1/emails"), &headers, Some(body))
    };
    let plain = mail("ann@customer.example").to_string();
    assert_eq!(send("gzip", &gzip(plain.as_bytes())).status, 202);
    let bomb = gzip(&vec![b' '; 200 << 20]);
    assert!(bomb.len() < 1 << 20, "the bomb is small: {}", bomb.len());
    assert_problem(&send("gzip", &bomb), 413, "too-large");
    assert_problem(&send("gzip", b"not gzip at all"), 400, "malformed");
    assert_problem(&send("rot13", plain.as_bytes()), 415, "unsupported-media-type");
    assert_eq!(gateway.get("/livez").status, 200);
}

/// Compresses with the system's gzip: another's work than the decoder under test.
fn gzip(plain: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut child = Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(plain).unwrap());
        child.wait_with_output().unwrap().stdout
    })
}

#[test]
fn an_idempotency_key_is_tied_to_the_message() {
    let gateway = gateway();
    let headers = [("Idempotency-Key", "Zoë Müller: order 17")];
    let first = gateway.post_with(&mail("ann@customer.example"), &headers);
    let again = gateway.post_with(&mail("ann@customer.example"), &headers);
    assert_eq!((first.status, again.status), (202, 202));
    assert_eq!(first.body, again.body);
    assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), (None, Some("true")));
    let form = "Body=%3Cp%3EYour+pass+is+ready.%3C%2Fp%3E&Subject=Your+pass&emailTemplate=registration&recipient=ann%40customer.example";
    let key = [
        ("X-API-KEY", gateway.key.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Idempotency-Key", "Zoë Müller: order 17"),
    ];
    let as_form = request("POST", &gateway.url("/v1/emails"), &key, Some(form.as_bytes()));
    assert_eq!(as_form.body, first.body, "the same parsed submission, however it was written");
    assert_problem(&gateway.post_with(&mail("bob@customer.example"), &headers), 422, "idempotency-mismatch");
    assert_problem(
        &gateway.post_with(&mail("a@customer.example"), &[("Idempotency-Key", &"k".repeat(256))]),
        422,
        "invalid",
    );
    let all = gateway.get("/v1/emails").json();
    assert_eq!(all["items"].as_array().unwrap().len(), 1, "{all}");
}

#[test]
fn a_repeat_is_answered_as_before_when_its_deadline_has_passed_and_when_its_sender_is_no_longer_allowed() {
    let house = House::new(free_port(), "");
    let gateway = house.serve();
    let key = gateway.key.clone();
    let mut body = mail("ann@customer.example");
    body["from"] = json!("wallet@demo.example");
    body["deliverBy"] = json!((SystemClock.now() + Duration::from_secs(2)).to_string());
    let headers = [("Idempotency-Key", "order-17")];
    let first = gateway.post_with(&body, &headers);
    assert_eq!(first.status, 202, "{}", first.json());
    gateway.wait_for_status(first.json()["id"].as_str().unwrap(), "expired");
    assert_problem(&gateway.post(&body), 422, "invalid");
    let repeats = |gateway: &Gateway| {
        let again = gateway.post_with(&body, &headers);
        assert_eq!((again.status, &again.body), (202, &first.body), "{}", again.json());
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
    };
    repeats(&gateway);
    gateway.stop();
    let path = house.config().join("tenants/demo.toml");
    let tenant = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, tenant.replace("demo.example", "brand.example")).unwrap();
    let gateway = house.serve_with(key);
    assert_problem(&gateway.post(&body), 403, "forbidden");
    repeats(&gateway);
    gateway.stop();
}

#[test]
fn fifty_requests_with_one_idempotency_key_make_one_message() {
    let gateway = gateway();
    let bodies: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..50)
            .map(|_| {
                scope.spawn(|| {
                    let answer = gateway.post_with(&mail("ann@customer.example"), &[("Idempotency-Key", "one")]);
                    assert_eq!(answer.status, 202);
                    answer.body
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(gateway.get("/v1/emails").json()["items"].as_array().unwrap().len(), 1);
}

#[test]
fn a_revoked_key_is_refused_within_a_second() {
    let house = House::new(free_port(), "");
    let gateway = house.serve();
    let made = house.json(&["keys", "create", "--tenant", "demo", "--name", "short", "--scope", "read"]);
    let read = || request("GET", &gateway.url("/v1/emails"), &[("X-API-KEY", made["key"].as_str().unwrap())], None);
    wait_within(Duration::from_secs(1), "the new key to be known", || (read().status == 200).then_some(()));
    house.json(&["keys", "revoke", made["id"].as_str().unwrap()]);
    let revoked = Instant::now();
    wait_within(Duration::from_secs(1), "the revoked key to be refused", || (read().status == 401).then_some(()));
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    let listed = house.json(&["keys", "list"]);
    assert!(!listed.to_string().contains(made["key"].as_str().unwrap()), "a secret is shown once");
}

#[test]
fn a_key_opens_only_its_own_doors_and_its_own_tenant() {
    let house = House::new(free_port(), "");
    house.write("tenants/other.toml", "name = \"Other\"\nfrom = \"o@other.example\"\nfrom_allowed = [\"other.example\"]\nrelays = [\"primary\"]\ndefault_culture = \"en\"\n");
    let gateway = house.serve();
    let id = gateway.send("ann@customer.example");
    let other = house.key_of("other", &["read", "content"]);
    let sender = house.key(&["send"]);
    for path in ["", "/events", "/content"] {
        let answer = request("GET", &gateway.url(&format!("/v1/emails/{id}{path}")), &[("X-API-KEY", &other)], None);
        assert_problem(&answer, 404, "not-found");
    }
    let list = request("GET", &gateway.url("/v1/emails"), &[("X-API-KEY", &other)], None);
    assert_eq!(list.json()["items"], json!([]));
    assert_problem(&request("GET", &gateway.url("/v1/emails"), &[("X-API-KEY", &sender)], None), 403, "forbidden");
    let body = mail("ann@customer.example").to_string();
    let headers = [("X-API-KEY", other.as_str()), ("Content-Type", "application/json")];
    assert_problem(&request("POST", &gateway.url("/v1/emails"), &headers, Some(body.as_bytes())), 403, "forbidden");
}

#[test]
fn lists_filter_and_page_newest_first() {
    let gateway = gateway();
    let ids: Vec<String> = (0..25)
        .map(|n| {
            gateway.send_as(
                &format!("ann{}@customer.example", n % 5),
                &json!({"tags": [format!("t{}", n % 2)], "emailTemplate": format!("template-{}", n % 3)}),
            )
        })
        .collect();
    let collect = |query: &str| {
        let mut found = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = gateway.get(&format!("/v1/emails?limit=7{query}{cursor}")).json();
            found.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()));
            match &page["nextCursor"] {
                Value::String(next) => cursor = format!("&cursor={next}"),
                _ => return found,
            }
        }
    };
    let newest_first = |keep: &dyn Fn(usize) -> bool| {
        ids.iter().enumerate().rev().filter(|(n, _)| keep(*n)).map(|(_, id)| id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(collect(""), newest_first(&|_| true));
    assert_eq!(collect("&recipient=ANN3@customer.example"), newest_first(&|n| n % 5 == 3));
    assert_eq!(collect("&tag=t1"), newest_first(&|n| n % 2 == 1));
    assert_eq!(collect("&template=template-2&tag=t0"), newest_first(&|n| n % 3 == 2 && n % 2 == 0));
    assert_eq!(collect("&status=relayed"), Vec::<String>::new());
    assert_eq!(collect("&lane=standard&status=queued").len(), 25);
    assert_eq!(collect("&since=2100-01-01T00:00:00Z"), Vec::<String>::new());
}

#[test]
fn a_staging_tenant_mails_only_whom_it_may() {
    let house = House::new(free_port(), "");
    house.write("tenants/staging.toml", "name = \"S\"\nfrom = \"s@demo.example\"\nfrom_allowed = [\"demo.example\"]\nrelays = [\"primary\"]\ndefault_culture = \"en\"\nrecipients_allowed = [\"brand.example\", \"boss@customer.example\"]\n");
    let gateway = house.serve();
    let key = house.key_of("staging", &["send", "read"]);
    for (recipient, status) in
        [("ann@customer.example", "suppressed"), ("Boss@customer.example", "queued"), ("x@brand.example", "queued")]
    {
        let headers = [("X-API-KEY", key.as_str()), ("Content-Type", "application/json")];
        let answer =
            request("POST", &gateway.url("/v1/emails"), &headers, Some(mail(recipient).to_string().as_bytes()));
        assert_eq!((answer.status, &answer.json()["status"]), (202, &json!(status)), "{recipient}");
    }
}

#[test]
fn a_mail_that_waits_is_suppressed_when_its_recipient_is_no_longer_allowed() {
    let relay = free_port();
    let house = House::new(relay, "");
    let gateway = house.serve();
    let key = gateway.key.clone();
    let id = gateway.send("ann@customer.example");
    gateway.stop();
    let path = house.config().join("tenants/demo.toml");
    let tenant = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("recipients_allowed = [\"brand.example\"]\n{tenant}")).unwrap();
    let inbox = Inbox::start_on(&relay.to_string());
    let gateway = house.serve_with(key);
    let message = gateway.wait_for_status(&id, "suppressed");
    assert_eq!((&message["reason"], &message["attempts"]), (&json!("not-allowed"), &json!(0)));
    assert_eq!((gateway.kinds(&id), inbox.total()), (vec!["accepted".into(), "suppressed".into()], 0));
}
