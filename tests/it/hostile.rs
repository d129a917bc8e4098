//! Hostile input: a clear 4xx or a faithful mail; never a panic, a second command at the relay, or a lost line.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use mail_parser::MessageParser;
use serde_json::{Value, json};

use crate::harness::{House, Inbox, PATIENCE, mail};

#[test]
fn control_characters_in_a_header_bound_field_are_refused() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, "").serve_keeping();
    for poison in
        ["\r\nBcc: eve@evil.example", "\nX: 1", "\r", "\0", "\r\n\r\nbody", "\r\n.\r\nMAIL FROM:<eve@evil.example>"]
    {
        for (field, value) in [
            ("recipient", json!(format!("ann@customer.example{poison}"))),
            ("recipient", json!(format!("Ann{poison} <ann@customer.example>"))),
            ("Subject", json!(format!("Hello{poison}"))),
            ("emailTemplate", json!(format!("welcome{poison}"))),
            ("from", json!(format!("wallet{poison}@demo.example"))),
            ("replyTo", json!(format!("Brand{poison} <wallet@demo.example>"))),
            ("headers", json!({"X-Note": format!("a{poison}")})),
            ("headers", json!({format!("X-Note{poison}"): "a"})),
            ("headers", json!({"Bcc": "eve@evil.example"})),
            ("headers", json!({"X-A:b": "c"})),
            ("attachments", json!([{"filename": format!("a{poison}.txt"), "content": ""}])),
            (
                "attachments",
                json!([{"filename": "a.txt", "contentType": format!("text/plain{poison}"), "content": ""}]),
            ),
            ("attachments", json!([{"filename": "a.txt", "contentId": format!("a{poison}"), "content": ""}])),
            ("tags", json!([format!("t{poison}")])),
        ] {
            let mut body = mail("ann@customer.example");
            body[field] = value;
            let answer = gateway.post(&body);
            assert_eq!(answer.status, 422, "{body}: {}", answer.json());
            let pointer = answer.json()["errors"][0]["pointer"].as_str().unwrap().to_owned();
            assert!(pointer.starts_with(&format!("/{field}")), "{field}: {pointer}");
        }
    }
    gateway.stop();
    assert_eq!(inbox.total(), 0);
    assert_eq!(inbox.counters()["mailCommands"], 0);
}

#[test]
fn bodies_made_to_smuggle_arrive_as_one_mail_with_every_line() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, "").serve_keeping();
    let second =
        "MAIL FROM:<eve@evil.example>\r\nRCPT TO:<victim@customer.example>\r\nDATA\r\nSubject: no\r\n\r\nno\r\n.\r\n";
    let mut bodies: Vec<String> =
        ["\r\n.\r\n", "\n.\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r\n\0.\r\n", "\r\n.\r", "\n\n.\r\n"]
            .iter()
            .map(|end| format!("before{end}{second}after"))
            .collect();
    bodies.extend([".".into(), "..".into(), ".\r\n.\r\n.".into(), "From here\nFrom there".into(), "x".repeat(100_000)]);
    bodies.push((0..3_000).map(|n| format!(".line {n}")).collect::<Vec<_>>().join("\n"));
    let ids: Vec<String> = bodies
        .iter()
        .enumerate()
        .map(|(n, body)| gateway.send_as(&format!("ann{n}@customer.example"), &json!({"Body": body})))
        .collect();
    for id in &ids {
        gateway.wait_for_status(id, "relayed");
    }
    let captured = inbox.messages(1_000);
    assert_eq!(captured.len(), bodies.len(), "one mail each");
    for (id, body) in ids.iter().zip(&bodies) {
        let message_id = gateway.message(id)["messageId"].clone();
        let found = captured.iter().find(|mail| mail["messageId"] == message_id).unwrap();
        let raw = inbox.raw(found["id"].as_str().unwrap());
        assert_wire_clean(&raw);
        let parsed = MessageParser::default().parse(&raw).unwrap();
        let text = parsed.body_text(0).unwrap();
        assert_eq!(lines(&text), lines(body), "every line as it was sent");
    }
    let counters = inbox.counters();
    assert_eq!(counters["mailCommands"], json!(bodies.len()), "no second command: {counters}");
    assert_eq!(counters["unknownCommands"], 0);
}

/// Line ends of any kind are line ends; a CR alone is one, too.
fn lines(text: &str) -> Vec<String> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.trim_end_matches('\n').split('\n').map(str::to_owned).collect()
}

fn assert_wire_clean(raw: &[u8]) {
    assert!(raw.ends_with(b"\r\n"));
    assert!(raw.is_ascii() && !raw.contains(&0));
    for line in raw.split_inclusive(|byte| *byte == b'\n') {
        assert!(line.ends_with(b"\r\n") && line.len() <= 1_000, "{}", line.len());
        assert!(!line[..line.len() - 2].contains(&b'\r'));
    }
}

#[test]
fn a_hundred_megabytes_are_refused_early_and_the_gateway_goes_on() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, "").serve_keeping();
    for framing in ["Content-Length: 104857600\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "POST /v1/emails HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-KEY: {}\r\nContent-Type: application/json\r\n{framing}\r\n",
            gateway.key
        );
        stream.write_all(head.as_bytes()).unwrap();
        let chunk = [b"10000\r\n".as_slice(), &vec![b' '; 0x10000], b"\r\n"].concat();
        let mut sent = 0;
        while sent < 100 << 20 {
            // The gateway may close as soon as it has seen enough.
            let Ok(()) = stream.write_all(&chunk) else { break };
            sent += chunk.len();
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(framing.contains("chunked") || answer.starts_with("HTTP/1.1 413"), "{answer}");
    }
    let id = gateway.send("ann@customer.example");
    gateway.wait_for_status(&id, "relayed");
}

#[test]
fn invalid_text_and_deep_json_are_malformed_and_nothing_panics() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, "").serve_keeping();
    let post = |content_type: &str, body: &[u8]| {
        let headers = [("X-API-KEY", gateway.key.as_str()), ("Content-Type", content_type)];
        crate::harness::request("POST", &gateway.url("/v1/emails"), &headers, Some(body)).status
    };
    let json = "application/json";
    let form = "application/x-www-form-urlencoded";
    assert_eq!(post(json, b"{\"recipient\":\"\xff@x.example\"}"), 400);
    assert_eq!(post(form, b"recipient=%FF%FE&Subject=a&Body=b"), 400);
    assert_eq!(post(json, format!("{}1{}", "{\"a\":".repeat(50_000), "}".repeat(50_000)).as_bytes()), 400);
    assert_eq!(post(json, format!("{{\"recipient\":{}1{}}}", "[".repeat(100), "]".repeat(100)).as_bytes()), 422);
    assert_eq!(post(json, b""), 400);
    assert_eq!(post(json, b"null"), 400);
    assert_eq!(post(form, format!("a{}=1", "[b]".repeat(20_000)).as_bytes()) / 100, 4);
    assert_eq!(post(form, "a=1&".repeat(200_000).as_bytes()) / 100, 4);
    let nested = format!("{}x{}", "<div>".repeat(200_000), "</div>".repeat(200_000));
    let id = gateway.send_as("ann@customer.example", &json!({"Body": nested}));
    gateway.wait_for_status(&id, "relayed");
    let log = gateway.process.log().join("\n");
    assert!(!log.contains("panicked"), "{log}");
    assert!(!log.contains("ann@customer.example") && !log.contains("customer.example"), "no address in the log: {log}");
}

#[test]
fn an_address_above_ascii_in_a_header_alone_asks_the_relay_for_smtputf8() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, "").serve_keeping();
    for (field, address, smtputf8) in [
        ("replyTo", "zoë@demo.example", true),
        ("replyTo", "Zoë <zoe@bücher.example>", false),
        ("from", "zoë@demo.example", true),
    ] {
        let id = gateway.send_as("ann@customer.example", &json!({field: address, "Body": "grüße"}));
        let message = gateway.wait_for_status(&id, "relayed");
        let captured = inbox.messages(1);
        assert_eq!(captured[0]["messageId"], message["messageId"]);
        assert_eq!(captured[0]["envelope"]["parameters"]["smtputf8"], json!(smtputf8), "{address}: {}", captured[0]);
    }
}

#[test]
fn odd_addresses_are_mailed_or_refused_never_bent() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, "").serve_keeping();
    for (given, envelope) in [
        ("o'hara+tag=1@customer.example", "o'hara+tag=1@customer.example"),
        ("\"a b\"@customer.example", "\"a b\"@customer.example"),
        ("\"a\\\"b\"@customer.example", "\"a\\\"b\"@customer.example"),
        ("Zoë Bücher <zoe@bücher.example>", "zoe@xn--bcher-kva.example"),
        ("zoë@customer.example", "zoë@customer.example"),
        ("\"Lee, Ann <x>\" <ann@Customer.Example>", "ann@customer.example"),
    ] {
        let id = gateway.send_as(given, &json!({}));
        let message = gateway.wait_for_status(&id, "relayed");
        let captured = inbox.messages(1);
        assert_eq!(captured[0]["messageId"], message["messageId"]);
        assert_eq!(captured[0]["envelope"]["recipients"], json!([envelope]), "{given}");
    }
    for given in [
        "",
        "x",
        "@",
        "a@",
        "a@b@c",
        "a@b.example,c@d.example",
        "a@[127.0.0.1]",
        "a b@c.example",
        "<>",
        "a@b..c",
        "(x)a@b.example",
    ] {
        assert_eq!(gateway.post(&mail(given)).status, 422, "{given}");
    }
    for given in [Value::Null, json!(7), json!(["a@b.example"]), json!({"a": 1}), json!("[object Object]")] {
        let mut body = mail("x@y.example");
        body["recipient"] = given;
        assert_eq!(gateway.post(&body).status, 422, "{body}");
    }
}
