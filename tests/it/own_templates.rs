//! Mails that our own templates write: handed in by name and data, rendered before they are accepted.

use std::path::Path;

use serde_json::{Value, json};

use crate::connector::{TEMPLATE_SCRIPT, case, errors as script_errors, in_repository, run, with};
use crate::harness::{Answer, Gateway, House, Inbox, finish, free_port, request, succeed};

impl Inbox {
    /// The captured mail as text.
    fn text_of(&self, gateway: &Gateway, id: &str) -> String {
        let queue_id = gateway.wait_for_status(id, "relayed")["relayQueueId"].as_str().unwrap().to_owned();
        let shown = request("GET", &self.url(&format!("/messages/{queue_id}")), &[], None).json();
        shown.to_string()
    }
}

fn accepted(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{}", answer.json());
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// Pointer and detail of each error of a 422.
fn errors(answer: &Answer) -> Vec<(String, String)> {
    assert_eq!(answer.status, 422, "{}", answer.json());
    let part = |error: &Value, name: &str| error[name].as_str().unwrap().to_owned();
    let errors = answer.json()["errors"].as_array().unwrap().clone();
    errors.iter().map(|error| (part(error, "pointer"), part(error, "detail"))).collect()
}

fn subject(gateway: &Gateway, answer: &Answer) -> String {
    gateway.message(&accepted(answer))["subject"].as_str().unwrap().to_owned()
}

/// A template of the brand's own.
fn write(dir: &Path, mail: &str, culture: &str, subject: &str, body: &str) {
    let edition = dir.join("mail").join(mail).join(culture);
    std::fs::create_dir_all(&edition).unwrap();
    std::fs::write(edition.join("subject.hbs"), subject).unwrap();
    std::fs::write(edition.join("body.html.hbs"), body).unwrap();
    std::fs::write(dir.join("mail").join(mail).join("sample.json"), r#"{"code": 1, "brand": {"name": "B"}}"#).unwrap();
}

#[test]
fn a_mail_named_by_its_template_is_written_for_its_recipient_with_html_and_text() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, "").serve_keeping();
    let pass_url = "https://cards.demo.example/p/1?a=1&b=2";
    let answer = gateway.post(&json!({
        "recipient": "Zoé <zoe@customer.example>", "emailTemplate": "pass-link", "culture": "fr_FR",
        "data": {"passUrl": pass_url},
    }));
    let id = accepted(&answer);
    let message = gateway.message(&id);
    assert_eq!(message["subject"], "Zoé, votre carte Demo Brand est prête");
    assert_eq!(message["template"], "pass-link");
    let mail = inbox.text_of(&gateway, &id);
    assert!(mail.contains("Ajouter la carte à mon téléphone"), "{mail}");
    assert!(mail.contains("https://cards.demo.example/p/1?a=1&amp;b=2"), "escaped in HTML: {mail}");
    assert!(
        mail.contains("Ouvrez cette adresse sur votre téléphone") && mail.contains(pass_url),
        "and not in text: {mail}"
    );
    assert!(!mail.contains("désabonner"), "nobody unsubscribes from what they asked for: {mail}");

    // As the script of the platform sends it.
    let body =
        "recipient=ann@customer.example&emailTemplate=welcome&data={\"name\":\"Ann\"}&cultures=[\"fr-FR\",\"en\"]";
    let headers = [("X-API-KEY", gateway.key.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
    let answer = request("POST", &gateway.url("/v1/emails"), &headers, Some(body.as_bytes()));
    assert_eq!(subject(&gateway, &answer), "Ann, votre carte Demo Brand est sur votre téléphone");
}

#[test]
fn the_culture_is_that_of_the_mail_then_of_the_contact_then_of_the_caller_then_of_the_tenant() {
    let gateway = House::new(free_port(), "").serve_keeping();
    for (customer, address, culture) in [
        ("C-1", "chloe@customer.example", Some("fr-CA")),
        ("C-2", "both@customer.example", Some("fr")),
        ("C-3", "both@customer.example", None),
    ] {
        let contact = json!({"email": address, "name": "Known", "culture": culture});
        let headers = [("X-API-KEY", gateway.key.as_str()), ("Content-Type", "application/json")];
        let url = gateway.url(&format!("/v1/contacts/{customer}"));
        assert_eq!(request("PUT", &url, &headers, Some(contact.to_string().as_bytes())).status, 201);
    }
    let english = "your Demo Brand card is on your phone";
    let french = "votre carte Demo Brand est sur votre téléphone";
    let upper = |text: &str| format!("{}{}", text[..1].to_uppercase(), &text[1..]);
    for (more, wanted) in [
        (json!({}), upper(english)),
        (json!({"culture": "FR_fr"}), upper(french)),
        (json!({"cultures": ["fr-FR", "en"]}), upper(french)),
        (json!({"cultures": ["de", "fr-FR"]}), upper(french)),
        (json!({"culture": "de", "cultures": ["it"]}), upper(english)),
        (json!({"culture": "en", "cultures": ["fr"]}), upper(english)),
        (json!({"recipient": "chloe@customer.example", "cultures": ["en"]}), format!("Known, {french}")),
        (json!({"recipient": "Chloé <chloe@customer.example>", "culture": "en-GB"}), format!("Chloé, {english}")),
        (json!({"recipient": "Chloé <chloe@customer.example>", "data": {"name": "Said"}}), format!("Said, {french}")),
        // Two with one address are not told apart, but by their name.
        (json!({"recipient": "both@customer.example"}), upper(english)),
        (json!({"recipient": "both@customer.example", "customerId": "C-2"}), format!("Known, {french}")),
        (json!({"recipient": "both@customer.example", "customerId": "C-3"}), format!("Known, {english}")),
        (json!({"data": {"brand": {"name": "Other"}}}), "Your Other card is on your phone".to_owned()),
    ] {
        let mut body = json!({"recipient": "ann@customer.example", "emailTemplate": "welcome"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(subject(&gateway, &gateway.post(&body)), wanted, "{more}");
    }
}

#[test]
fn what_cannot_be_rendered_is_refused_at_the_door_and_says_why_without_the_data() {
    let house = House::new(free_port(), "");
    let own = house.path("own");
    write(&own, "fragile", "en", "Code {{code}}", "<p>{{number code digits=2}}</p>");
    house.write(
        "postern.toml",
        &(std::fs::read_to_string(house.config().join("postern.toml")).unwrap()
            + &format!("[templates]\ndir = {:?}\n", own.display().to_string())),
    );
    let gateway = house.serve_keeping();
    let refused = |template: &str, data: Value| {
        errors(&gateway.post(&json!({"recipient": "ann@customer.example", "emailTemplate": template, "data": data})))
    };
    let secret = "zqsecret";
    for (template, data, pointer, words) in [
        ("registration", json!({"name": secret}), "/emailTemplate", "no template of this name"),
        ("pass-link", json!({"name": secret}), "/data", "passUrl"),
        ("fragile", json!({"code": secret}), "/data", "number"),
        ("fragile", json!({"code": "1\n2"}), "/data", "line break"),
    ] {
        let found = refused(template, data);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, pointer, "{found:?}");
        assert!(found[0].1.contains(words) && !found[0].1.contains(secret), "{found:?}");
    }
    assert_eq!(gateway.get("/v1/emails").json()["items"], json!([]), "nothing was kept");
    let log = gateway.process.log().join("\n");
    assert!(!log.contains(secret) && !log.contains("ann@"), "{log}");
}

#[test]
fn a_repeat_under_its_key_gets_the_first_answer_though_the_template_is_gone() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let own = house.path("own");
    write(&own, "once", "en", "First {{code}}", "<p>One {{code}}</p>");
    house.write(
        "postern.toml",
        &(std::fs::read_to_string(house.config().join("postern.toml")).unwrap()
            + &format!("[templates]\ndir = {:?}\n", own.display().to_string())),
    );
    let gateway = house.serve();
    let body =
        json!({"recipient": "ann@customer.example", "emailTemplate": "once", "data": {"code": 7}, "cultures": ["en"]});
    let key = [("Idempotency-Key", "k-1")];
    let id = accepted(&gateway.post_with(&body, &key));
    assert_eq!(gateway.message(&id)["subject"], "First 7");
    for (name, other) in
        [("data", json!({"code": 8})), ("cultures", json!(["fr"])), ("emailTemplate", json!("welcome"))]
    {
        let mut body = body.clone();
        body[name] = other;
        let answer = gateway.post_with(&body, &key);
        assert_eq!(
            (answer.status, answer.json()["type"].as_str()),
            (422, Some("/problems/idempotency-mismatch")),
            "{name}"
        );
    }
    let secret = gateway.key.clone();
    gateway.stop();
    std::fs::remove_dir_all(own.join("mail/once")).unwrap();
    let gateway = house.serve_with(secret);
    let again = gateway.post_with(&body, &key);
    assert_eq!((accepted(&again), again.header("Idempotent-Replayed")), (id, Some("true")));
    assert_eq!(errors(&gateway.post(&body))[0].0, "/emailTemplate", "without the key it would be a new mail");
    gateway.stop();
}

#[test]
fn the_script_that_lets_postern_render_sends_data_alone() {
    let gateway = House::new(free_port(), "").serve_keeping();
    let welcome = with(
        case(&gateway.url(""), &gateway.key),
        &[("/script", json!(in_repository(TEMPLATE_SCRIPT))), ("/mail/emailTemplate", json!("welcome"))],
    );
    let needy = with(welcome.clone(), &[("/mail/emailTemplate", json!("pass-link"))]);
    let bare = with(welcome.clone(), &[("/mail/data", Value::Null), ("/mail/cultures", Value::Null)]);
    let outcomes = run(&[welcome, bare, needy]);
    let said = script_errors(&outcomes);
    assert_eq!(said[..2], ["sent", "sent"]);
    assert!(said[2].contains("/data: ") && said[2].contains("the data has no passUrl"), "{}", said[2]);
    let kept = gateway.get("/v1/emails").json();
    let subjects = [0, 1].map(|index| kept["items"][index]["subject"].as_str().unwrap().to_owned());
    assert_eq!(
        subjects,
        ["Zqname, your Demo Brand card is on your phone", "Zqname, votre carte Demo Brand est sur votre téléphone"]
    );
}

#[test]
fn a_command_sends_a_template_with_data_from_a_file() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let gateway = house.serve();
    house.write("data.json", r#"{"passUrl": "https://cards.demo.example/p/1"}"#);
    let file = house.config().join("data.json").display().to_string();
    let send = ["send", "--tenant", "demo", "--to", "Ann <ann@customer.example>", "--template"];
    let sent = house.json(&[&send[..], &["pass-link", "--data", &file, "--culture", "fr"]].concat());
    let id = sent["id"].as_str().unwrap();
    assert_eq!(gateway.message(id)["subject"], "Ann, votre carte Demo Brand est prête");
    let mail = inbox.text_of(&gateway, id);
    assert!(mail.contains("https://cards.demo.example/p/1"), "{mail}");
    for wrong in [&["nothing"][..], &["pass-link"], &["welcome", "--subject", "x"], &["welcome", "--culture", "!"]] {
        let output = finish(&mut house.command(&[&send[..], wrong].concat()));
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    succeed(&mut house.command(&[&send[..], &["welcome"]].concat()));
    gateway.stop();
}
