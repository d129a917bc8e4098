//! The scripts a brand pastes into its tenant, run by a stand-in for the platform's engine against the built binary.
//!
//! The platform itself was never there: `connector_host.mjs` is what its documentation says of the engine, and several
//! guesses where it says nothing.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Gateway, House, Inbox, free_port, postern, request, succeed};

const SCRIPT: &str = "connector/postern-email.js";
pub const TEMPLATE_SCRIPT: &str = "connector/postern-email-template.js";
pub const PASS_SCRIPT: &str = "connector/postern-pass-events.js";
pub const BOTH_SCRIPT: &str = "connector/postern.js";
/// What the platform renders; nothing of it may be in an error.
const SUBJECT: &str = "Zoë, your code & more: 100 % ✓";
const BODY: &str = "<p>Grüße &amp; Küsse, 50 % + more; your code is <b>zq-314159</b></p>";
/// What an engine may make of an answer, such that the script can tell the status or the body.
const TELLING: [&str; 10] = [
    "browser",
    "pascal",
    "functions",
    "parsed",
    "status-word",
    "body-only",
    "parsed-body-only",
    "throws",
    "throws-with-response",
    "throws-dotnet",
];

pub fn in_repository(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// One call of `SendEmail`, as the platform makes it when somebody registers.
pub fn case(url: &str, key: &str) -> Value {
    json!({
        "script": in_repository(SCRIPT), "url": url, "secret": key, "email": {"Subject": SUBJECT, "Body": BODY},
        "mail": {
            "recipient": "Zqname <zqann@customer.example>", "emailTemplate": "registration",
            "data": {"passId": "P1", "customer": {"name": "zqname"}}, "cultures": ["fr-FR", "en"],
        },
    })
}

pub fn with(mut case: Value, changes: &[(&str, Value)]) -> Value {
    for (pointer, value) in changes {
        match case.pointer_mut(pointer) {
            Some(place) => *place = value.clone(),
            None => case[pointer.trim_start_matches('/')] = value.clone(),
        }
    }
    case
}

/// Runs the calls one after the other in one Node. Whatever goes wrong, no error tells what is nobody's business.
pub fn run(cases: &[Value]) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cases.json");
    std::fs::write(&file, json!(cases).to_string()).unwrap();
    let mut node = Command::new("node");
    node.args(["--no-warnings", "--experimental-vm-modules", &in_repository("tests/it/connector_host.mjs")]).arg(file);
    let outcomes: Vec<Value> = serde_json::from_str(&succeed(&mut node)).unwrap();
    assert_eq!(outcomes.len(), cases.len());
    for (case, outcome) in cases.iter().zip(&outcomes) {
        let said = format!("{} {}", outcome["error"], outcome["whole"]);
        for secret in [case["secret"].as_str().unwrap_or_default().trim(), "zq", "Zq", "Grüße", "code &", "%40", "pst_"]
        {
            assert!(secret.is_empty() || secret == "throws" || !said.contains(secret), "{secret} is in {said}");
        }
    }
    outcomes
}

/// The errors, request ids blanked.
pub fn errors(outcomes: &[Value]) -> Vec<String> {
    let blank = |text: &str| match text.split_once("req_") {
        Some((before, after)) => format!("{before}req_…{}", after.trim_start_matches(|c: char| c.is_alphanumeric())),
        None => text.to_owned(),
    };
    outcomes.iter().map(|outcome| blank(outcome["error"].as_str().unwrap_or("sent"))).collect()
}

fn kept(gateway: &Gateway) -> Vec<Value> {
    gateway.get("/v1/emails?limit=200").json()["items"].as_array().unwrap().clone()
}

/// A gateway that may be forbidden to write (see `disk.rs`), whose tenant keeps `passId`.
fn gateway(inbox: &Inbox) -> (House, Gateway) {
    let house = House::new(inbox.smtp, "");
    let tenant = "from = \"wallet@demo.example\"\nrelays = [\"primary\"]\ndata_kept = [\"passId\"]\n[lanes]\n\
                  \"*challenge*\" = \"urgent\"\n";
    house.write("tenants/demo.toml", tenant);
    let key = house.key(&["send", "read"]);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(postern().get_program());
    command.arg("--config").arg(house.config()).arg("serve");
    let gateway = House::serve_by(&mut command, key);
    (house, gateway)
}

#[test]
fn a_brand_s_developer_is_told_what_became_of_a_mail_from_sent_to_gateway_down() {
    let inbox = Inbox::start();
    let (house, gateway) = gateway(&inbox);
    let (url, key) = (gateway.url(""), gateway.key.clone());
    sent_as_rendered(&inbox, &gateway);
    refused_in_every_engine(&gateway);
    refused_for_what_the_key_may_not(&gateway, &house.key(&["read"]));

    let limit = |bytes: &str| {
        let pid = gateway.process.id().to_string();
        succeed(Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")]));
    };
    let before = kept(&gateway).len();
    limit("0");
    let outcomes = run(&[case(&url, &key), with(case(&url, &key), &[("/engine", json!("status-only"))])]);
    assert_eq!(
        errors(&outcomes),
        [
            "Postern did not take the mail (HTTP 503, template \"registration\"): Nothing could be kept; try again. \
             Nothing was accepted: try again in 5 s. Postern's log has it as req_….",
            "Postern did not take the mail (HTTP 503, template \"registration\"): it gave no reason. \
             Nothing was accepted: try again later."
        ]
    );
    limit("unlimited");
    assert_eq!(kept(&gateway).len(), before, "nothing was accepted");

    gateway.stop();
    let outcomes = run(&[case(&url, &key)]);
    let [error] = &errors(&outcomes)[..] else { panic!("{outcomes:?}") };
    let refused = "Postern did not answer (template \"registration\"): connect ECONNREFUSED 127.0.0.1:";
    assert!(error.starts_with(refused), "{error}");
    assert!(error.ends_with("Check that the platform reaches POSTERN_URL: it answers at /livez."), "{error}");
    assert_eq!(outcomes[0]["status"], Value::Null);
}

/// Whatever the engine makes of an answer, a mail that was taken is not called anything else, and is sent once.
fn sent_as_rendered(inbox: &Inbox, gateway: &Gateway) {
    let plain = case(&gateway.url(""), &gateway.key);
    let mut cases: Vec<Value> =
        TELLING.iter().map(|engine| with(plain.clone(), &[("/engine", json!(engine))])).collect();
    cases.push(with(plain.clone(), &[("/engine", json!("status-only"))]));
    cases.push(with(plain, &[("/url", json!(gateway.url("/"))), ("/mail/emailTemplate", json!("Challenge-Login"))]));
    cases.push(with(cases[0].clone(), &[("/mail/cultures", Value::Null), ("/mail/data", Value::Null)]));
    cases.push(with(cases[0].clone(), &[("/constants", json!({"DATA_KEPT": "['passId', 'gone']"}))]));
    let outcomes = run(&cases);
    assert!(outcomes.iter().all(|outcome| outcome["error"].is_null() && outcome["returned"].is_null()), "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| outcome["requests"].as_array().unwrap().len() == 1), "{outcomes:?}");
    let asked = &outcomes[0]["requests"][0];
    assert_eq!(asked["options"]["ThrowOnError"], false);
    let body = asked["body"].as_str().unwrap();
    assert!(!body.contains("zqname") && !body.contains("object"), "no personal data, and nothing lost: {body}");

    let messages = kept(gateway);
    assert_eq!(messages.len(), cases.len());
    for message in &messages {
        gateway.wait_for_status(message["id"].as_str().unwrap(), "relayed");
        let lane = if message["template"] == "registration" { "standard" } else { "urgent" };
        assert_eq!((&message["lane"], &message["subject"]), (&json!(lane), &json!(SUBJECT)), "{message}");
    }
    assert!(messages.iter().any(|message| message["lane"] == "urgent"));
    assert_eq!(messages[0]["metadata"], json!({"passId": "P1"}), "what DATA_KEPT names");
    assert_eq!(messages[1]["metadata"], json!({}));
    let captured = inbox.messages(20);
    assert_eq!(captured.len(), cases.len());
    for mail in &captured {
        let mail = request("GET", &inbox.url(&format!("/messages/{}", mail["id"].as_str().unwrap())), &[], None).json();
        assert_eq!((&mail["subject"], mail["html"].as_str().unwrap().trim_end()), (&json!(SUBJECT), BODY), "{mail}");
        assert_eq!(mail["envelope"]["recipients"], json!(["zqann@customer.example"]));
    }
}

fn refused_in_every_engine(gateway: &Gateway) {
    let wrong = with(
        case(&gateway.url(""), &gateway.key),
        &[("/mail/recipient", json!("zqann")), ("/email/Subject", json!("zq two\nzq lines"))],
    );
    let cases: Vec<Value> = TELLING.iter().map(|engine| with(wrong.clone(), &[("/engine", json!(engine))])).collect();
    let outcomes = run(&cases);
    for (engine, (outcome, error)) in TELLING.iter().zip(outcomes.iter().zip(errors(&outcomes))) {
        // An engine that throws for the status, and with nothing else, has swallowed the reason.
        let reason = match *engine {
            "throws" | "throws-dotnet" => "it gave no reason. Trying again does not help.",
            _ => {
                "The request breaks a rule: /recipient: not an address of the form a@b or Name <a@b>; /Subject: \
                 control characters (CR, LF, NUL, …) are not allowed. Trying again does not help. Postern's log has \
                 it as req_…."
            }
        };
        let wanted = format!("Postern refused the mail for good (HTTP 422, template \"registration\"): {reason}");
        assert_eq!((error, &outcome["status"]), (wanted, &json!(422)), "{engine}");
    }
    let outcomes = run(&[
        with(case(&gateway.url(""), &gateway.key), &[("/script", json!(in_repository(TEMPLATE_SCRIPT)))]),
        with(wrong.clone(), &[("/engine", json!("throws-the-request"))]),
        with(wrong.clone(), &[("/engine", json!("unknown"))]),
        with(wrong, &[("/engine", json!("nothing"))]),
        with(case(&gateway.url("/v1/"), &gateway.key), &[]),
    ]);
    let unreadable = "Postern's answer cannot be read (template \"registration\"): the response has no status under \
                      the names this script knows. Postern may have the mail: look there, then add the right name to \
                      readAnswer.";
    let missing = "there is no template of this name: postern templates list shows them";
    assert_eq!(
        errors(&outcomes),
        [
            &format!(
                "Postern refused the mail for good (HTTP 422, template \"registration\"): The request breaks a rule: \
                 /emailTemplate: {missing}. Trying again does not help. Postern's log has it as req_…."
            ),
            "Postern refused the mail for good (HTTP 422, template \"registration\"): it gave no reason. Trying again \
             does not help.",
            unreadable,
            unreadable,
            "Postern refused the mail for good (HTTP 404, template \"registration\"): There is nothing here. \
             POSTERN_URL holds a path: take it away. Trying again does not help. Postern's log has it as req_….",
        ]
    );
}

fn refused_for_what_the_key_may_not(gateway: &Gateway, reader: &str) {
    let plain = case(&gateway.url(""), &gateway.key);
    let outcomes = run(&[
        with(plain.clone(), &[("/secret", json!("pst_zqwrong"))]),
        with(plain.clone(), &[("/secret", json!(reader))]),
        with(plain.clone(), &[("/secret", json!("throws"))]),
        with(plain.clone(), &[("/secret", json!(" "))]),
        with(plain.clone(), &[("/secret", Value::Null)]),
        with(plain.clone(), &[("/url", Value::Null)]),
        with(plain.clone(), &[("/url", json!(""))]),
        with(plain.clone(), &[("/email", Value::Null)]),
        with(plain.clone(), &[("/email/Subject", json!(""))]),
        with(plain, &[("/email", json!({"Subject": SUBJECT}))]),
    ]);
    let no_secret = "Nothing was sent to Postern: the secret \"POSTERN-API-KEY\" is missing or empty. Make a key with \
                     the scope \"send\" (\"postern keys create\") and store it under that name.";
    let no_url = "Nothing was sent to Postern: POSTERN_URL in the script is not set. It is the address of your \
                  Postern, such as https://postern.your-brand.com, without a path.";
    let not_rendered = |missing: &str| {
        format!(
            "Nothing was sent to Postern: buildEmail(\"registration\") returned {missing}. Look at this template in \
             the platform's mail settings."
        )
    };
    let check = "Check the key in the secret \"POSTERN-API-KEY\". Trying again does not help. Postern's log has it as \
                 req_….";
    assert_eq!(
        errors(&outcomes),
        [
            &format!(
                "Postern refused the mail for good (HTTP 401, template \"registration\"): No valid API key: the key is \
                 not known or was revoked. {check}"
            ),
            &format!(
                "Postern refused the mail for good (HTTP 403, template \"registration\"): Not allowed: this needs a \
                 key with the scope send. {check}"
            ),
            no_secret,
            no_secret,
            no_secret,
            no_url,
            no_url,
            &not_rendered("nothing"),
            &not_rendered("no Subject"),
            &not_rendered("no Body"),
        ]
    );
    for outcome in &outcomes[2..] {
        assert_eq!(outcome["requests"], json!([]), "nothing was asked: {outcome}");
    }
}

/// Answers as something before Postern may: by the first part of the path.
fn canned(head: &str) -> String {
    let echo = json!({"type": "/problems/invalid", "title": "No", "status": 422, "detail": BODY, "instance": "req_01"});
    let (status, headers, body) = match head.split('/').nth(1).unwrap() {
        "failed" => ("500 x", "", json!({"type": "/problems/internal", "title": "Oops", "status": 500}).to_string()),
        "proxy" => ("502 x", "", "<html>zq</html>".to_owned()),
        "site" => ("200 OK", "", "<html>zq</html>".to_owned()),
        "challenge" => ("202 Accepted", "", "\n<!doctype html><p>zq</p>".to_owned()),
        "moved" => ("301 x", "Location: https://zq.example/\r\n", String::new()),
        "echo" => ("422 x", "", echo.to_string()),
        other => panic!("{other}"),
    };
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
}

/// Reads one request and answers it.
fn answer(mut stream: TcpStream) {
    let mut taken = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let length = stream.read(&mut chunk).unwrap();
        assert!(length > 0, "the request ends early");
        taken.extend_from_slice(&chunk[..length]);
        let text = String::from_utf8_lossy(&taken).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let wanted = head.split_once("content-length: ").unwrap().1;
        let wanted: usize = wanted.lines().next().unwrap().parse().unwrap();
        if body.len() >= wanted {
            return stream.write_all(canned(head).as_bytes()).unwrap();
        }
    }
}

/// A server for as many requests as there are.
pub fn stand_in(requests: usize) -> (SocketAddr, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer_all = move || listener.incoming().take(requests).for_each(|stream| answer(stream.unwrap()));
    (address, std::thread::spawn(answer_all))
}

#[test]
fn over_quota_and_what_stands_before_postern_are_told_from_a_refusal() {
    let engines = ["browser", "pascal", "status-word", "throws-with-response", "status-only"];
    let others = ["failed", "proxy", "site", "challenge", "moved", "echo"];
    let gateway =
        House::new(free_port(), "[limits]\nper_recipient = \"1/h\"\ndisk_free_min = \"0B\"\n").serve_keeping();
    gateway.send("zqann@customer.example");
    let (address, server) = stand_in(others.len());
    let limited = case(&gateway.url(""), &gateway.key);
    let mut cases: Vec<Value> = engines.iter().map(|e| with(limited.clone(), &[("/engine", json!(e))])).collect();
    cases.extend(others.iter().map(|other| case(&format!("http://{address}/{other}"), "pst_zqkey")));
    let outcomes = run(&cases);
    server.join().unwrap();
    let over_quota = "Postern did not take the mail (HTTP 429, template \"registration\"): Too many requests: more than \
                      1 mail an hour to this recipient. Nothing was accepted: try again in ";
    let said = errors(&outcomes);
    for said in &said[..4] {
        let wait =
            said.strip_prefix(over_quota).and_then(|rest| rest.strip_suffix(" s. Postern's log has it as req_…."));
        let wait: u32 = wait.unwrap_or_else(|| panic!("{said}")).parse().unwrap();
        assert!((3_500..=3_600).contains(&wait), "{said}");
    }
    let elsewhere = |status: u16| {
        format!(
            "Something else than Postern answered at POSTERN_URL (HTTP {status}, template \"registration\"). Postern \
             does not have the mail; trying again does not help. Check POSTERN_URL: scheme and host, no path, nothing \
             that redirects."
        )
    };
    assert_eq!(
        said[4..],
        [
            "Postern did not take the mail (HTTP 429, template \"registration\"): it gave no reason. Nothing was \
             accepted: try again later.",
            "Postern, or what stands before it, failed (HTTP 500, template \"registration\"): Oops. Try again later, \
             but look first whether Postern has the mail: only its answer may be lost.",
            "Postern, or what stands before it, failed (HTTP 502, template \"registration\"): it gave no reason. Try \
             again later, but look first whether Postern has the mail: only its answer may be lost.",
            &elsewhere(200),
            &elsewhere(202),
            &elsewhere(301),
            "Postern refused the mail for good (HTTP 422, template \"registration\"): it gave no reason. Trying again \
             does not help.",
        ]
    );
    let statuses: Vec<&Value> = outcomes.iter().map(|outcome| &outcome["status"]).collect();
    assert_eq!(statuses, [429, 429, 429, 429, 429, 500, 502, 200, 202, 301, 422]);
}

/// What the engine does not have.
const ABSENT: [&str; 16] = [
    "crypto",
    "setTimeout",
    "setInterval",
    "setImmediate",
    "queueMicrotask",
    "URL",
    "URLSearchParams",
    "btoa",
    "atob",
    "TextEncoder",
    "Intl",
    "Proxy",
    "process",
    "require",
    "Buffer",
    "structuredClone",
];

/// What the engine (NiL.JS) parses otherwise than others do, as its source has it: `await a ?? b` is `await (a ?? b)`,
/// `!a?.b` is `(!a)?.b`, `catch` needs a name; and what looks fragile there: regular expressions, templates in templates.
fn readable_by_the_engine(script: &str) {
    let code = script.split_once("*/").unwrap().1;
    for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
        if let Some((before, after)) = line.split_once("await ") {
            assert!(before.trim().is_empty() || before.ends_with("= "), "{line}");
            assert!(!after.contains(['?', '&', '|', '+']), "{line}");
        }
        for word in ["?.", "catch {", ".test(", ".exec(", ".match(", ".replace(", "..."] {
            assert!(!line.contains(word), "{word}: {line}");
        }
        for inner in line.split("${").skip(1) {
            assert!(!inner.split('}').next().unwrap().contains('`'), "{line}");
        }
    }
}

#[test]
fn the_scripts_name_nothing_that_the_engine_lacks_and_what_they_share_is_the_same() {
    let scripts = [SCRIPT, TEMPLATE_SCRIPT, PASS_SCRIPT, BOTH_SCRIPT];
    let scripts = scripts.map(|path| std::fs::read_to_string(in_repository(path)).unwrap());
    for script in &scripts {
        // Without comments and what is between quotes.
        let code = script.split_once("*/").unwrap().1;
        let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for word in code.split(|c: char| !(c.is_alphanumeric() || c == '_')) {
            assert!(!ABSENT.contains(&word), "{word}");
        }
        readable_by_the_engine(script);
        let imports = script.matches("import ").count();
        assert_eq!((imports, script.matches("from 'neo/secrets';").count()), (1, 1));
    }
    // What is the same in several is changed in all: scripts are pasted as one file, so nothing can be imported.
    let part = |script: &str, from: &str, to: &str| {
        let from = script.split_once(from).unwrap_or_else(|| panic!("no {from:?}")).1;
        from.split_once(to).map_or(from, |(part, _)| part).to_owned()
    };
    let [mails, template, passes, both] = &scripts;
    for other in [template, passes, both] {
        assert_eq!(part(other, "// From here on", "\0"), part(mails, "// From here on", "\0"));
    }
    let [mail_part, pass_part] = ["// The mails.\n", "// The pass events.\n"];
    assert_eq!(part(both, mail_part, pass_part), part(mails, mail_part, "export default"));
    assert_eq!(part(both, pass_part, "export default"), part(passes, pass_part, "export default"));

    let dir = tempfile::tempdir().unwrap();
    let probe = dir.path().join("probe.js");
    let seen = ABSENT.map(|name| format!("typeof {name} === 'undefined' || '{name}',")).concat();
    let source = format!(
        "const POSTERN_URL = '';\nexport default function (context) {{ context.register('runtime.scriptable.emailEngine', \
         {{ SendEmail() {{ throw new Error(String([{seen}].filter((name) => name !== true))) }} }}) }}"
    );
    std::fs::write(&probe, source).unwrap();
    assert_eq!(errors(&run(&[with(case("", ""), &[("/script", json!(probe))])])), [""]);
}
