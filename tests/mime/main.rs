//! What goes into a mail is what two other readers get out of it, for a table of nasty cases and for whatever comes.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

mod cases;

use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail_parser::{HeaderForm, MessageParser, MimeHeaders};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::{Value, json};

use cases::{Case, DATE, MESSAGE_ID, file, mailbox};
use postern::domain::address::Mailbox;

/// Line ends are the one thing that is not kept as it was.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// A mail that is a single text ends with a line break, unless it is empty.
fn plain_wanted(case: &Case) -> Option<String> {
    let mut text = lines(case.text.as_deref()?);
    if case.html.is_none() && case.files.is_empty() && !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    Some(text)
}

fn wanted(case: &Case) -> Value {
    let mailbox = |mailbox: &Mailbox| json!([mailbox.name.as_deref().unwrap_or_default(), mailbox.address.as_str()]);
    let is_inline = |id: &Option<String>| case.html.is_some() && id.is_some();
    let mut structure = Vec::new();
    if case.files.iter().any(|file| !is_inline(&file.content_id)) {
        structure.push("multipart/mixed");
    }
    if case.html.is_some() {
        structure.push("multipart/alternative");
    }
    if case.files.iter().any(|file| is_inline(&file.content_id)) {
        structure.push("multipart/related");
    }
    let files: Vec<Value> = case
        .files
        .iter()
        .map(|file| {
            json!({
                "filename": file.filename,
                "contentType": file.content_type.split(';').next(),
                "contentId": file.content_id.as_ref().map(|id| format!("<{id}>")),
                "disposition": if file.content_id.is_some() { "inline" } else { "attachment" },
                "content": STANDARD.encode(&file.content),
            })
        })
        .collect();
    let mut headers = case.headers.clone();
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("auto-submitted")) {
        headers.push(("Auto-Submitted".into(), "auto-generated".into()));
    }
    json!({
        "subject": case.subject, "from": mailbox(&case.from), "to": mailbox(&case.to),
        "reply-to": case.reply_to.as_ref().map(mailbox), "message-id": MESSAGE_ID, "date": DATE, "headers": headers,
        "structure": structure, "plain": plain_wanted(case), "html": case.html.as_deref().map_or(json!(false), |html| json!(lines(html))),
        "files": files,
    })
}

/// What RFC 5322 and RFC 5321 demand of the bytes.
fn check_wire(case: &Case, mail: &[u8]) {
    let utf8 = [Some(&case.from), Some(&case.to), case.reply_to.as_ref()];
    let utf8 = utf8.into_iter().flatten().any(|mailbox| mailbox.address.needs_smtputf8());
    assert!(utf8 || mail.is_ascii(), "{}", case.name);
    assert!(mail.ends_with(b"\r\n") && !mail.contains(&0), "{}", case.name);
    let text = String::from_utf8(mail.to_vec()).unwrap();
    assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "{}", case.name);
    assert!(text.split("\r\n").all(|line| line.len() <= 998), "{}", case.name);
    let (header, body) = text.split_once("\r\n\r\n").unwrap();
    for line in header.split("\r\n") {
        assert!(!line.trim().is_empty(), "{}: a line of spaces in the header", case.name);
        assert!(
            line.len() <= 78
                || !line.trim().contains(' ')
                || line.split_once(": ").is_some_and(|(_, v)| !v.contains(' '))
                || case.name.starts_with("header"),
            "{}: {line}",
            case.name
        );
    }
    // Nothing here relies on dot-stuffing or on mbox quoting done right.
    assert!(!body.split("\r\n").any(|line| line.starts_with('.') || line.starts_with("From ")), "{}", case.name);
}

/// The second reader.
fn check_with_mail_parser(case: &Case, mail: &[u8]) {
    let name = &case.name;
    let message = MessageParser::default().parse(mail).unwrap();
    assert_eq!(message.subject().unwrap_or_default(), case.subject, "{name}");
    for (found, wanted) in [
        (message.from(), Some(&case.from)),
        (message.to(), Some(&case.to)),
        (message.reply_to(), case.reply_to.as_ref()),
    ] {
        let found = found.and_then(|address| address.first());
        assert_eq!(found.and_then(|found| found.name()), wanted.and_then(|wanted| wanted.name.as_deref()), "{name}");
        assert_eq!(found.and_then(|found| found.address()), wanted.map(|wanted| wanted.address.as_str()), "{name}");
    }
    for (header, value) in case.headers.iter().filter(|(header, _)| header.starts_with("X-")) {
        let found = message.header_as(header.as_str(), HeaderForm::Text);
        let found = found.first().and_then(|found| found.as_text()).unwrap_or_default();
        assert_eq!(found, value, "{name}");
    }
    if let Some(text) = plain_wanted(case) {
        assert_eq!(message.body_text(0).map(|text| lines(&text)), Some(text), "{name}");
    }
    if let Some(html) = &case.html {
        assert_eq!(message.body_html(0).map(|html| lines(&html)), Some(lines(html)), "{name}");
    }
    let found: Vec<_> = message
        .attachments()
        .map(|part| (part.attachment_name().unwrap_or_default(), part.contents(), part.content_id()))
        .collect();
    let wanted: Vec<_> = case
        .files
        .iter()
        .map(|file| (file.filename.as_str(), file.content.as_slice(), file.content_id.as_deref()))
        .collect();
    assert_eq!(found, wanted, "{name}");
}

fn check_with_python(folder: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mime/read_back.py");
    let output = Command::new("python3").arg(script).arg(folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

fn write(folder: &Path, case: &Case, mail: &[u8]) {
    std::fs::write(folder.join(format!("{}.eml", case.name)), mail).unwrap();
    std::fs::write(folder.join(format!("{}.json", case.name)), wanted(case).to_string()).unwrap();
}

#[test]
fn two_other_readers_get_back_what_went_in() {
    let folder = tempfile::tempdir().unwrap();
    for case in cases::all() {
        let mail = case.compose().unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert_eq!(case.compose().unwrap(), mail, "{}: the same parts give the same bytes", case.name);
        check_wire(&case, &mail);
        write(folder.path(), &case, &mail);
        check_with_mail_parser(&case, &mail);
    }
    check_with_python(folder.path());
}

#[test]
fn a_million_nested_elements_are_composed() {
    let mut case = Case::new("nested");
    (case.html, case.text) = (Some("<div>".repeat(1_000_000)), None);
    let mail = case.compose().unwrap();
    check_wire(&case, &mail);
}

#[test]
fn what_would_forge_a_header_is_an_error() {
    for control in ['\r', '\n', '\0', '\u{1}', '\u{7f}'] {
        let bad = format!("a{control}b");
        let changes: [&dyn Fn(&mut Case); 6] = [
            &|case| case.subject = bad.clone(),
            &|case| case.to.name = Some(bad.clone()),
            &|case| case.headers = vec![("X-A".into(), bad.clone())],
            &|case| case.headers = vec![(format!("X-{bad}"), "v".into())],
            &|case| case.files = vec![file(&bad, b"", None)],
            &|case| case.files = vec![file("a", b"", Some(&bad))],
        ];
        for change in changes {
            let mut case = Case::new("forged");
            change(&mut case);
            assert!(case.compose().is_err(), "{control:?}");
        }
    }
    for name in ["Bcc", "From", "Subject", "Content-Type", "X", "", "X-A: b", "X A", "X-é"] {
        let mut case = Case::new("forged");
        case.headers = vec![(name.into(), "v".into())];
        assert!(case.compose().is_err(), "{name}");
    }
}

/// Text that is likely to trip an encoder.
fn nasty() -> impl Strategy<Value = String> {
    let unit = prop_oneof![
        "[ -~]{1,12}",
        "\\PC{1,6}",
        Just("=?utf-8?q?a?=".to_owned()),
        Just("  ".to_owned()),
        Just("\"\\".to_owned()),
        Just("é".to_owned()),
        "[a-z]{60,90}",
    ];
    proptest::collection::vec(unit, 0..12).prop_map(|units| units.concat())
}

fn nasty_body() -> impl Strategy<Value = String> {
    let unit = prop_oneof![
        nasty(),
        "[\\x00-\\x7f]{1,5}",
        Just("\r\n.\r\n".to_owned()),
        Just("\r".to_owned()),
        Just(" \n".to_owned()),
        "(\\.|-|From ){1,3}"
    ];
    proptest::collection::vec(unit, 0..20).prop_map(|units| units.concat())
}

fn any_case() -> impl Strategy<Value = Case> {
    let shape = (nasty(), nasty(), nasty_body(), proptest::option::of(nasty_body()), nasty(), any::<Vec<u8>>());
    shape.prop_map(|(subject, name, text, html, filename, content)| {
        let mut case = Case::new("any");
        let name: String = name.trim().chars().take(256).collect();
        case.to = mailbox("ann@bücher.example");
        case.to.name = Some(name.trim().to_owned()).filter(|name| !name.is_empty());
        (case.subject, case.text, case.html) = (subject, Some(text), html);
        let filename: String = filename.chars().take(255).collect();
        case.files = if filename.trim().is_empty() { Vec::new() } else { vec![file(&filename, &content, None)] };
        case
    })
}

proptest! {
    #[test]
    fn whatever_goes_in_comes_out(case in any_case()) {
        let mail = case.compose().unwrap();
        check_wire(&case, &mail);
        check_with_mail_parser(&case, &mail);
    }
}

#[test]
fn whatever_goes_in_python_reads_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for number in 0..200 {
        let mut case = any_case().new_tree(&mut runner).unwrap().current();
        case.name = format!("any-{number:03}");
        write(folder.path(), &case, &case.compose().unwrap());
    }
    check_with_python(folder.path());
}
