//! The commands as a person or a script meets them: what they say, where, and how they end.

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Gateway, House, Inbox, Process, finish, free_port, postern, request, succeed, wait_within};

/// What a command said on stdout.
fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What a command said on stderr.
fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn run(house: &House, arguments: &[&str]) -> Output {
    finish(&mut house.command(arguments))
}

/// A house whose relay is not there.
fn house() -> House {
    House::new(free_port(), "")
}

/// A key that is wrong in each of several files.
fn spoil(house: &House) {
    house.replace("[log]", "[log]\ncolour = \"red\"");
    house.replace("tls = \"none\"", "tls = \"perhaps\"");
    house.replace("[server]", "[server]\nrequest_body_max = \"many\"");
    house.write(
        "tenants/demo.toml",
        "name = \"Demo\"\nfrom = \"nobody\"\nrelays = [\"elsewhere\"]\nshape = \"round\"\n",
    );
    house.write("tenants/other.toml", "name = \"Other\nfrom = 1");
}

/// Each file with the keys in it that [`spoil`] made wrong.
const SPOILT: [(&str, &str); 7] = [
    ("postern.toml", "log.colour"),
    ("postern.toml", "relays[0].tls"),
    ("postern.toml", "server.request_body_max"),
    ("tenants/demo.toml", "from"),
    ("tenants/demo.toml", "relays"),
    ("tenants/demo.toml", "shape"),
    ("tenants/other.toml", ""),
];

#[test]
fn check_names_every_problem_in_every_file_in_one_run() {
    let house = house();
    spoil(&house);
    let checked = run(&house, &["check"]);
    assert_eq!(checked.status.code(), Some(2), "{checked:?}");
    let said = stderr(&checked);
    for (file, key) in SPOILT {
        let file = house.config().join(file);
        assert!(
            said.lines().any(|line| line.starts_with(&format!("{}: {key}", file.display()))),
            "{} {key} is not named:\n{said}",
            file.display()
        );
    }
    // The commands that need a configuration refuse it with the same words.
    for arguments in [["serve"].as_slice(), &["keys", "list"]] {
        let refused = run(&house, arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {refused:?}");
        assert!(stderr(&refused).contains("log.colour: unknown key"), "{refused:?}");
        assert_eq!(stdout(&refused), "", "nothing but an answer is on stdout");
    }
}

#[test]
fn check_says_the_same_as_exactly_one_json_object() {
    let house = house();
    spoil(&house);
    let checked = run(&house, &["check", "--format", "json"]);
    assert_eq!(checked.status.code(), Some(2));
    let answer: Value = serde_json::from_slice(&checked.stdout).expect("exactly one JSON value");
    assert_eq!(stdout(&checked).lines().count(), 1);
    assert_eq!(answer["ok"], false);
    let problems = answer["problems"].as_array().unwrap();
    for (file, key) in SPOILT {
        let file = house.config().join(file).display().to_string();
        assert!(
            problems.iter().any(|problem| {
                problem["file"] == file.as_str()
                    && problem["key"].as_str().unwrap().starts_with(key)
                    && !problem["detail"].as_str().unwrap().is_empty()
            }),
            "{file} {key}: {answer}"
        );
    }
}

#[test]
fn check_of_a_good_configuration_is_0_and_makes_the_store() {
    let house = house();
    let checked = run(&house, &["check"]);
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    assert!(stdout(&checked).contains("relays: 1, tenants: 1"), "{checked:?}");
    assert_eq!(stderr(&checked), "");
    assert!(house.path("data/postern.db").is_file());
    let answer = house.json(&["check"]);
    assert_eq!((&answer["ok"], &answer["problems"]), (&json!(true), &json!([])));
}

#[test]
fn check_greets_a_relay_without_sending_and_names_the_one_that_does_not_answer() {
    let inbox = Inbox::start();
    let good = House::new(inbox.smtp, "");
    let checked = run(&good, &["check", "--relay", "--dns"]);
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    assert!(stdout(&checked).contains("relay primary: no TLS, no AUTH"), "{checked:?}");
    assert_eq!(inbox.total(), 0);
    let lonely = run(&house(), &["check", "--relay"]);
    assert_eq!(lonely.status.code(), Some(2), "{lonely:?}");
    assert!(stderr(&lonely).contains("relays.primary.host"), "{lonely:?}");
}

#[test]
fn check_says_when_a_relay_cannot_be_asked_for_reports_and_that_is_no_problem() {
    let inbox = Inbox::start();
    for (relay_extra, is_told) in [("notify = \"failure\"", true), ("", false)] {
        let house = House::with_relay(inbox.smtp, "", relay_extra);
        let checked = run(&house, &["check", "--relay"]);
        assert_eq!(checked.status.code(), Some(0), "{checked:?}");
        assert_eq!(stdout(&checked).contains("does not offer DSN"), is_told, "{checked:?}");
    }
}

#[test]
fn check_names_notify_when_its_words_are_none_of_the_three() {
    for wrong in ["", "never", "failure,failure"] {
        let house = House::with_relay("127.0.0.1:25".parse().unwrap(), "", &format!("notify = \"{wrong}\""));
        let checked = run(&house, &["check", "--format", "json"]);
        assert_eq!(checked.status.code(), Some(2), "{checked:?}");
        let answer: Value = serde_json::from_slice(&checked.stdout).unwrap();
        let keys: Vec<_> = answer["problems"].as_array().unwrap().iter().map(|problem| &problem["key"]).collect();
        assert!(keys.iter().any(|key| key.as_str().unwrap().ends_with(".notify")), "{wrong:?}: {answer}");
    }
}

#[test]
fn check_opens_no_store_that_nobody_meant() {
    let folder = tempfile::tempdir().unwrap();
    let in_folder = |arguments: &[&str]| finish(postern().args(arguments).current_dir(folder.path()));
    let missing = in_folder(&["check"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("config/postern.toml"), "{missing:?}");
    std::fs::create_dir(folder.path().join("config")).unwrap();
    for text in ["[store\n", "[store]\nurl = 7\n", "[store]\nfile = \"x\"\n"] {
        std::fs::write(folder.path().join("config/postern.toml"), text).unwrap();
        assert_eq!(in_folder(&["check"]).status.code(), Some(2), "{text}");
    }
    assert!(!folder.path().join("data").exists(), "a store was made at the default place");
}

#[test]
fn keys_are_made_listed_without_their_secret_and_revoked() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let gateway = house.serve();
    let made = house.json(&[
        "keys", "create", "--tenant", "demo", "--name", "shop", "--scope", "read", "--scope", "send", "--scope", "read",
    ]);
    let (id, secret) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert!(id.starts_with("key_") && secret.starts_with("pst_"), "{made}");
    assert_eq!((&made["tenant"], &made["scopes"]), (&json!("demo"), &json!(["send", "read"])));
    assert_eq!(made.as_object().unwrap().len(), 4, "{made}");

    let list = |gateway: &Gateway| request("GET", &gateway.url("/v1/emails"), &[("X-API-KEY", secret)], None).status;
    wait_within(Duration::from_secs(1), "the running gateway to know the key", || {
        (list(&gateway) == 200).then_some(())
    });
    for listed in [run(&house, &["keys", "list"]), run(&house, &["keys", "list", "--format", "json"])] {
        assert_eq!(listed.status.code(), Some(0));
        assert!(stdout(&listed).contains(id) && stdout(&listed).contains("shop"), "{listed:?}");
        assert!(!stdout(&listed).contains(secret.trim_start_matches("pst_")), "the secret is shown once");
    }
    let revoked = run(&house, &["keys", "revoke", id]);
    assert_eq!(revoked.status.code(), Some(0), "{revoked:?}");
    wait_within(Duration::from_secs(1), "the running gateway to refuse it", || (list(&gateway) == 401).then_some(()));
    let listed = house.json(&["keys", "list"]);
    let of_shop = listed.as_array().unwrap().iter().find(|key| key["id"] == id).unwrap();
    assert!(of_shop["revokedAt"].is_string(), "{of_shop}");

    let nobody = run(&house, &["keys", "revoke", "key_01990000000070008000000000000001"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(stderr(&nobody).contains("there is no key key_01990000000070008000000000000001"), "{nobody:?}");
    for (arguments, word) in [
        (["keys", "create", "--tenant", "nobody", "--name", "n", "--scope", "send"], "there is no tenant nobody"),
        (["keys", "create", "--tenant", "demo", "--name", "n", "--scope", "everything"], "everything"),
    ] {
        let refused = run(&house, &arguments);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(stderr(&refused).contains(word), "{refused:?}");
    }
    gateway.stop();
}

#[test]
fn send_answers_with_a_receipt_and_a_running_gateway_delivers_it_within_two_seconds() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let gateway = house.serve();
    let (html, text) = (house.path("mail.html"), house.path("mail.txt"));
    std::fs::write(&html, "<p>Grüße aus der Datei</p>").unwrap();
    std::fs::write(&text, "Grüße als Text").unwrap();
    let (html, text) = (html.to_str().unwrap(), text.to_str().unwrap());
    let receipt = house.json(&[
        "send",
        "--tenant",
        "demo",
        "--to",
        "Ann <ann@customer.example>",
        "--subject",
        "Grüße",
        "--html",
        html,
        "--text",
        text,
    ]);
    assert_eq!((&receipt["status"], &receipt["lane"]), (&json!("queued"), &json!("standard")), "{receipt}");
    let id = receipt["id"].as_str().unwrap();
    wait_within(Duration::from_secs(2), "the gateway to deliver it", || (inbox.total() == 1).then_some(()));
    let message = gateway.wait_for_status(id, "relayed");
    assert_eq!(message["messageId"], receipt["messageId"]);
    let mail =
        request("GET", &inbox.url(&format!("/messages/{}", message["relayQueueId"].as_str().unwrap())), &[], None);
    let mail = mail.json();
    assert_eq!((&mail["subject"], &mail["to"]), (&json!("Grüße"), &json!("Ann <ann@customer.example>")), "{mail}");
    assert!(mail["html"].as_str().unwrap().contains("Grüße aus der Datei"), "{mail}");
    assert!(mail["text"].as_str().unwrap().contains("Grüße als Text"), "{mail}");

    let for_people = ["send", "--tenant", "demo", "--to", "ben@customer.example", "--subject", "Hello", "--text", text];
    let said = succeed(&mut house.command(&for_people));
    assert!(said.contains("msg_") && said.contains("queued"), "{said}");
    wait_within(Duration::from_secs(2), "the gateway to deliver it", || (inbox.total() == 2).then_some(()));
    gateway.stop();
}

#[test]
fn send_refuses_what_is_wrong_and_keeps_nothing() {
    let house = house();
    let text = house.path("mail.txt");
    std::fs::write(&text, "Hello").unwrap();
    let text = text.to_str().unwrap();
    let send = |tenant, to, subject, file| {
        run(&house, &["send", "--tenant", tenant, "--to", to, "--subject", subject, "--text", file])
    };
    for (refused, word) in [
        (send("nobody", "ann@customer.example", "Hello", text), "nobody"),
        (send("demo", "not an address", "Hello", text), "--to"),
        (send("demo", "ann@customer.example", "Hello\r\nBcc: all@customer.example", text), "--subject"),
        (send("demo", "ann@customer.example", "Hello", "/nowhere/mail.txt"), "/nowhere/mail.txt"),
        (run(&house, &["send", "--tenant", "demo", "--to", "ann@customer.example", "--subject", "Hello"]), "--html"),
    ] {
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(stderr(&refused).contains(word), "{word}: {refused:?}");
        assert_eq!(stdout(&refused), "");
    }
    let gateway = house.serve();
    assert_eq!(gateway.get("/v1/emails").json()["items"], json!([]));
}

#[test]
fn inbox_says_where_it_is_and_ends_well_when_asked() {
    let arguments = ["inbox", "--smtp", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let mut inbox = Process::start_and_listen(postern().args(arguments));
    let smtp = inbox.next_line();
    let page = inbox.next_line();
    let address = smtp.strip_prefix("SMTP ").unwrap().trim();
    let url = page.strip_prefix("Page ").unwrap().trim();
    assert!(std::net::TcpStream::connect(address).is_ok());
    let answer = request("GET", url, &[], None);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/html; charset=utf-8")));
    inbox.signal("INT");
    assert_eq!(inbox.wait().code(), Some(0));
}

#[test]
fn serve_without_relays_or_tenants_says_so() {
    let house = house();
    std::fs::remove_file(house.config().join("tenants/demo.toml")).unwrap();
    house.write("postern.toml", "[server]\nlisten = \"127.0.0.1:0\"\n");
    let refused = run(&house, &["serve"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let said = stderr(&refused);
    assert!(said.contains("[[relays]]") && said.contains("tenants/<id>.toml"), "{said}");
    assert!(!house.path("data").exists());
}

#[test]
fn the_environment_overrides_a_key_and_a_misspelt_variable_is_refused_by_name() {
    let house = house();
    // An address of nobody's: only the override can make this serve.
    house.replace("listen = \"127.0.0.1:0\"", "listen = \"192.0.2.1:1\"");
    let refused = run(&house, &["serve"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(stderr(&refused).contains("192.0.2.1:1"), "{refused:?}");
    let key = house.key(&["read"]);
    let gateway = House::serve_by(house.command(&["serve"]).env("POSTERN__SERVER__LISTEN", "127.0.0.1:0"), key);
    assert_eq!(gateway.get("/readyz").status, 200);
    gateway.stop();
    for variable in ["POSTERN__SERVER__LISTN", "POSTERN__SEVER__LISTEN", "POSTERN__LISTEN"] {
        for command in ["serve", "check"] {
            let refused = finish(house.command(&[command]).env(variable, "127.0.0.1:0"));
            assert_eq!(refused.status.code(), Some(2), "{refused:?}");
            assert!(stderr(&refused).contains(variable), "{variable}: {refused:?}");
        }
    }
    let unfit = finish(house.command(&["check"]).env("POSTERN__SERVER__LISTEN", "everywhere"));
    assert_eq!(unfit.status.code(), Some(2), "{unfit:?}");
    assert!(stderr(&unfit).contains("POSTERN__SERVER__LISTEN"), "{unfit:?}");
}

#[test]
fn the_configuration_as_shipped_makes_its_store_where_one_stands() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let arguments = ["--config", shipped.to_str().unwrap(), "keys", "create", "--tenant", "demo", "--name", "first"];
    succeed(postern().args(arguments).args(["--scope", "send"]).current_dir(folder.path()));
    assert!(folder.path().join("data/postern.db").exists());
}

#[test]
fn the_folder_may_be_named_by_the_environment() {
    let house = house();
    let checked = finish(postern().args(["check", "--format", "json"]).env("POSTERN_CONFIG", house.config()));
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let answer: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert!(answer["found"].to_string().contains("tenants: 1"), "{answer}");
}

#[test]
fn help_and_version_are_on_stdout_and_wrong_usage_on_stderr() {
    let version = finish(postern().arg("--version"));
    assert_eq!(stdout(&version), concat!("postern ", env!("CARGO_PKG_VERSION"), "\n"));
    let commands = ["", "serve", "demo", "check", "keys", "keys create", "keys list", "keys revoke", "send", "inbox"];
    let queue = ["", " list", " show", " why", " summary", " hold", " release", " cancel", " retry"];
    let commands = commands.map(str::to_owned).into_iter().chain(queue.map(|verb| format!("queue{verb}")));
    for command in commands {
        let help = finish(postern().args(command.split_whitespace()).arg("--help"));
        let said = stdout(&help);
        assert_eq!((help.status.code(), stderr(&help).as_str()), (Some(0), ""), "{command}");
        assert!(said.contains("Usage: postern") && said.contains("Examples:"), "{command}: {said}");
        assert!(said.contains("--format") && said.contains("--config"), "{command}: {said}");
    }
    for wrong in [["serv"].as_slice(), &["keys", "create"], &["check", "--relays"], &[]] {
        let refused = finish(postern().args(wrong));
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}");
        assert!(stdout(&refused).is_empty() && stderr(&refused).contains("Usage: postern"), "{refused:?}");
    }
}

#[test]
fn what_a_command_is_used_wrongly_for_is_exit_code_2() {
    let house = house();
    let empty = house.path("empty.txt");
    std::fs::write(&empty, "").unwrap();
    let empty = empty.to_str().unwrap();
    let send = ["send", "--tenant", "demo", "--to", "ann@customer.example"];
    for wrong in [
        vec!["keys", "create", "--tenant", "demo", "--name", "", "--scope", "send"],
        [&send[..], &["--subject", "", "--text", empty]].concat(),
        [&send[..], &["--subject", "S", "--text", empty]].concat(),
    ] {
        let ran = run(&house, &wrong);
        assert_eq!(ran.status.code(), Some(2), "{wrong:?}: {ran:?}");
    }
}
