//! Reports that come back: by a real Postfix and LMTP, by hand, into a folder; and those that nobody should believe.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, DEMO_TENANT, Gateway, House, Inbox, finish, free_port, request, wait_for};
use crate::postfix_relay::Postfix;

const ANN: &str = "ann@customer.example";

/// A tenant to whose mails reports come back.
fn with_return_path(house: &House) {
    let tenant = format!("return_path_domain = \"bounces.demo.example\"\nsoft_bounces_max = 2\n{DEMO_TENANT}");
    house.write("tenants/demo.toml", &tenant);
}

/// A report as Postfix writes it.
fn report(return_path: &str, action: &str, status: &str) -> String {
    format!(
        "From: MAILER-DAEMON@relay.example\r\nTo: {return_path}\r\nSubject: Delivery Status Notification\r\n\
         MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=\"b/1\"\r\n\r\n\
         --b/1\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n\r\n\
         --b/1\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; relay.example\r\n\r\n\
         Final-Recipient: rfc822; {ANN}\r\nAction: {action}\r\nStatus: {status}\r\n\
         Diagnostic-Code: smtp; 550 {status} {ANN} is not here\r\n\r\n--b/1--\r\n"
    )
}

fn hand_in(gateway: &Gateway, key: &str, mail: &str) -> Answer {
    let headers = [("X-API-KEY", key), ("Content-Type", "message/rfc822")];
    request("POST", &gateway.url("/v1/bounces"), &headers, Some(mail.as_bytes()))
}

/// The return path of the mail that the inbox took last.
fn last_return_path(inbox: &Inbox) -> String {
    inbox.messages(1)[0]["envelope"]["sender"].as_str().unwrap().to_owned()
}

fn suppressed(gateway: &Gateway, recipient: &str) -> Value {
    let found = gateway.get(&format!("/v1/suppressions?recipient={recipient}")).json();
    found["items"].as_array().unwrap().first().cloned().unwrap_or_default()
}

#[test]
fn what_a_real_relay_bounces_delays_and_delivers_comes_back_to_its_mail() {
    let lmtp = free_port();
    let postfix = Postfix::start_returning(lmtp);
    let relay = format!("127.0.0.1:{}", postfix.port).parse().unwrap();
    let settings = format!("[bounces]\nlmtp_listen = \"{lmtp}\"\n");
    let house = House::with_relay(relay, &settings, "notify = \"success,failure,delay\"\n");
    with_return_path(&house);
    let checked = house.json(&["check", "--relay"]);
    assert!(checked["found"].to_string().contains("reports as notify says"), "{checked}");
    let gateway = house.serve();

    let (arrives, nobody) = (gateway.send(ANN), gateway.send("nobody@customer.example"));
    let (full, late) = (gateway.send("full@customer.example"), gateway.send("late@customer.example"));
    gateway.wait_for_status(&arrives, "delivered");
    let bounced = gateway.wait_for_status(&nobody, "bounced");
    assert_eq!((&bounced["reason"], &bounced["mayHaveBeenSent"]), (&json!("returned"), &json!(false)));
    assert!(bounced["relayReply"].as_str().unwrap().starts_with("report: failed 5.1.1 ("), "{bounced}");
    assert_eq!(suppressed(&gateway, "nobody@customer.example")["source"], "bounce");
    gateway.wait_for_status(&full, "bounced");
    assert!(suppressed(&gateway, "full@customer.example").is_null(), "a full mailbox may be emptied");
    let again = gateway.send("full@customer.example");
    gateway.wait_for_status(&again, "bounced");
    assert_eq!(suppressed(&gateway, "full@customer.example")["source"], "bounce", "two in a row are enough here");
    wait_for("the delay to be told", || gateway.kinds(&late).contains(&"dsn".to_owned()).then_some(()));
    assert_eq!(gateway.message(&late)["status"], "relayed");
    let why = gateway.get(&format!("/v1/emails/{nobody}/why")).json();
    assert_eq!(why["decisions"][0]["rule"], "report", "{why}");
    let told = gateway.get("/v1/audit?kind=dsn").json().to_string();
    assert!(!told.contains('@') && told.contains("delayed"), "{told}");
    gateway.stop();
    house.verify();
}

#[test]
fn a_report_handed_in_changes_its_own_mail_and_one_without_its_tag_changes_nothing() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    with_return_path(&house);
    house.write("tenants/other.toml", &DEMO_TENANT.replace("Demo Brand", "Other"));
    let gateway = house.serve();
    let id = gateway.send(ANN);
    gateway.wait_for_status(&id, "relayed");
    let path = last_return_path(&inbox);
    assert!(path.starts_with(&format!("bounce+{}", &id[4..])) && path.ends_with("@bounces.demo.example"), "{path}");

    let outcome = |mail: &str| hand_in(&gateway, &gateway.key, mail).json()["outcome"].clone();
    let good = report(&path, "failed", "5.1.1");
    let forged = good.replace(
        &path,
        &path.replace('@', "@x").replacen(&path[39..40], if &path[39..40] == "0" { "1" } else { "0" }, 1),
    );
    for (mail, expected) in [
        (forged.as_str(), "no-return-path"),
        (&good.replace(&path, "wallet@demo.example"), "no-return-path"),
        (&format!("To: {path}\r\nSubject: out of office\r\n\r\nBack on Monday.\r\n"), "no-report"),
        ("\0\r\n\r\n--", "no-return-path"),
    ] {
        assert_eq!(outcome(mail), expected, "{mail}");
    }
    let others = house.key_of("other", &["events"]);
    assert_eq!(hand_in(&gateway, &others, &good).json()["outcome"], "no-return-path", "it is not the other's mail");
    assert_eq!(gateway.message(&id)["status"], "relayed");
    assert_eq!(gateway.kinds(&id).len(), 3, "nothing was written of any of them");

    let answer = hand_in(&gateway, &gateway.key, &good);
    assert_eq!((answer.status, answer.json()), (202, json!({ "outcome": "bounced", "id": id })));
    assert_eq!(outcome(&good), "known");
    assert_eq!(gateway.message(&id)["status"], "bounced");
    let shown = suppressed(&gateway, ANN);
    assert_eq!(
        (&shown["source"], &shown["scope"], &shown["addedBy"]),
        (&json!("bounce"), &json!("everything"), &json!("gateway"))
    );

    let as_json = [("X-API-KEY", gateway.key.as_str()), ("Content-Type", "application/json")];
    assert_eq!(request("POST", &gateway.url("/v1/bounces"), &as_json, Some(b"{}")).status, 415);
    assert_eq!(hand_in(&gateway, &gateway.key, "").status, 400);
    let sender = house.key(&["send"]);
    assert_eq!(hand_in(&gateway, &sender, &good).status, 403);
    let logged = gateway.process.log().join("\n");
    assert!(!logged.contains("bounce+") && !logged.contains("not here"), "{logged}");
    gateway.stop();
    house.verify();
}

#[test]
fn a_complaint_suppresses_and_what_is_known_is_exported_and_imported_again() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    with_return_path(&house);
    let gateway = house.serve();
    let id = gateway.send(ANN);
    gateway.wait_for_status(&id, "relayed");
    let path = last_return_path(&inbox);
    let complaint = format!(
        "To: abuse@demo.example\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n\
         --b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nVersion: 1\r\n\r\n\
         --b\r\nContent-Type: message/rfc822\r\n\r\nReturn-Path: <{path}>\r\nSubject: x\r\n\r\nx\r\n--b--\r\n"
    );
    assert_eq!(hand_in(&gateway, &gateway.key, &complaint).json()["outcome"], "complaint");
    assert_eq!(suppressed(&gateway, ANN)["source"], "complaint");
    assert_eq!(gateway.message(&id)["status"], "relayed", "it was read");
    house.json(&[
        "suppressions",
        "add",
        "bob@customer.example",
        "--tenant",
        "demo",
        "--for",
        "30d",
        "--scope",
        "journeys",
    ]);
    assert!(suppressed(&gateway, "bob@customer.example")["expiresAt"].is_string());

    let file = house.path("all.csv");
    let export = ["suppressions", "export", "--tenant", "demo", "--output", file.to_str().unwrap()];
    assert!(finish(&mut house.command(&export)).status.success());
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(written.starts_with("recipient,scope,because,expiresAt\r\nbob@customer.example,journeys,,20"), "{written}");
    house.json(&["suppressions", "remove", ANN, "bob@customer.example", "--tenant", "demo"]);
    let counts = house.json(&["suppressions", "import", file.to_str().unwrap(), "--tenant", "demo"]);
    assert_eq!(counts["added"], 2, "{counts}");
    assert!(suppressed(&gateway, "bob@customer.example")["expiresAt"].is_string());
    assert!(!finish(&mut house.command(&export)).status.success(), "nothing that is there is overwritten");
}

#[test]
fn reports_are_taken_from_a_folder_and_what_cannot_be_read_stays_there() {
    let inbox = Inbox::start();
    let folder = tempfile::tempdir().unwrap();
    let settings =
        format!("[bounces]\nfolder = \"{}\"\nevery = \"100ms\"\nreport_max = \"16KiB\"\n", folder.path().display());
    let house = House::new(inbox.smtp, &settings);
    with_return_path(&house);
    let gateway = house.serve();
    let id = gateway.send(ANN);
    gateway.wait_for_status(&id, "relayed");
    let put = |name: &str, content: &[u8]| {
        let outside = tempfile::NamedTempFile::new_in(house.path("")).unwrap();
        std::fs::write(outside.path(), content).unwrap();
        outside.persist(folder.path().join(name)).unwrap();
    };
    put("1.too-large", &vec![b'x'; 20_000]);
    put("2.answer", b"Subject: out of office\r\n\r\nBack on Monday.\r\n");
    put("3.report", report(&last_return_path(&inbox), "failed", "5.1.1").as_bytes());
    gateway.wait_for_status(&id, "bounced");
    wait_for("what was read to go", || {
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        (left == 1 && folder.path().join("1.too-large").exists()).then_some(())
    });
    // Another look, and no other word of the one that stays.
    put("4.answer", b"\r\n");
    wait_for("another look", || (!folder.path().join("4.answer").exists()).then_some(()));
    let told = gateway.process.log().iter().filter(|line| line.contains("stays there")).count();
    assert_eq!(told, 1);
    gateway.stop();
    house.verify();
}

#[test]
fn whoever_speaks_lmtp_is_answered_for_each_recipient_and_nonsense_ends_nothing() {
    let inbox = Inbox::start();
    let lmtp = free_port();
    let settings = format!("[bounces]\nlmtp_listen = \"{lmtp}\"\nlmtp_connections_max = 1\nreport_max = \"16KiB\"\n");
    let house = House::new(inbox.smtp, &settings);
    with_return_path(&house);
    let mut gateway = house.serve();
    let id = gateway.send(ANN);
    gateway.wait_for_status(&id, "relayed");
    let path = last_return_path(&inbox);
    let mut talk = Talk::to(lmtp);
    assert_eq!(talk.hears(), "220");
    assert_eq!(talk.says("LHLO relay.example"), "250");
    for (line, code) in [
        ("RCPT TO:<x@y>", "503"),
        ("DATA", "503"),
        ("HELO x", "500"),
        (&"x".repeat(5_000), "500"),
        ("MAIL FROM:<>", "250"),
        (&format!("RCPT TO:<{path}>"), "250"),
        ("rcpt to:<twice@bounces.demo.example>", "250"),
        ("DATA", "354"),
    ] {
        assert_eq!(talk.says(line), code, "{line}");
    }
    talk.write(&format!("{}\r\n.\r\n", "y".repeat(20_000)));
    assert_eq!((talk.hears(), talk.hears()), ("552".to_owned(), "552".to_owned()), "one answer for each recipient");
    for line in ["MAIL FROM:<>", &format!("RCPT TO:<{path}>")] {
        talk.says(line);
    }
    assert_eq!(talk.says("DATA"), "354");
    talk.write(&format!("{}.\r\n", report(&path, "failed", "5.2.2")));
    assert_eq!(talk.hears(), "250");
    assert_eq!(gateway.message(&id)["status"], "bounced", "on disk before its 250");
    assert_eq!(talk.says("QUIT"), "221");
    // The only place is free again, and whoever is in the middle of a report does not keep the gateway from stopping.
    let mut next = Talk::to(lmtp);
    assert_eq!(next.hears(), "220");
    for (line, code) in
        [("LHLO relay.example", "250"), ("MAIL FROM:<>", "250"), ("RCPT TO:<x@y>", "250"), ("DATA", "354")]
    {
        assert_eq!(next.says(line), code, "{line}");
    }
    next.write("Subject: so far\r\n");
    gateway.process.signal("TERM");
    assert_eq!(next.hears(), "421", "and so it comes again");
    drop(next);
    assert!(gateway.process.wait().success());
    house.verify();
}

#[test]
fn what_cannot_work_is_refused_by_its_key() {
    let house =
        House::new(free_port(), "[bounces]\nlmtp_listen = \"0.0.0.0:2424\"\nreport_max = \"1KiB\"\nevery = \"0s\"\n");
    house.write("tenants/demo.toml", &format!("return_path_domain = \"a b\"\nsoft_bounces_max = 101\n{DEMO_TENANT}"));
    house.replace("port = ", "notify = \"never\"\nport = ");
    let check = finish(&mut house.command(&["check", "--format", "json"]));
    let problems = String::from_utf8(check.stdout).unwrap();
    for key in [
        "bounces.lmtp_listen",
        "bounces.report_max",
        "bounces.every",
        "return_path_domain",
        "soft_bounces_max",
        "notify",
    ] {
        assert!(problems.contains(key), "{key}: {problems}");
    }
}

/// A client of LMTP.
struct Talk(BufReader<TcpStream>);

impl Talk {
    fn to(address: std::net::SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(BufReader::new(stream))
    }

    fn write(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The code of the next answer, however many lines it has.
    fn hears(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the gateway went away");
            if line.as_bytes().get(3) == Some(&b' ') {
                return line[..3].to_owned();
            }
        }
    }

    fn says(&mut self, line: &str) -> String {
        self.write(&format!("{line}\r\n"));
        self.hears()
    }
}
