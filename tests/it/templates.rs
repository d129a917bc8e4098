//! `postern templates`, and what check, serve and SIGHUP make of a folder of templates.

use std::process::Output;
use std::thread::ScopedJoinHandle;

use serde_json::{Value, json};

use crate::backfill::database;
use crate::harness::{DEMO_TENANT, House, finish, free_port, request, wait_for};

const TAKEN_OVER: &str = "the configuration was read again and holds from now on";
const NOT_TAKEN_OVER: &str = "the configuration was not taken over: nothing has changed";

/// A house with a folder of templates of its own.
fn house() -> House {
    let house = House::new(free_port(), "[templates]\ndir = \"HERE\"\n");
    house.replace("HERE", house.path("config/mails").to_str().unwrap());
    put(&house, "mail/hello/en/subject.hbs", "Hello {{name}}");
    put(&house, "mail/hello/en/body.html.hbs", "<p>{{name}}</p>");
    put(&house, "mail/hello/fr/subject.hbs", "Bonjour {{name}}");
    put(&house, "mail/hello/fr/body.text.hbs", "{{name}}");
    put(&house, "mail/hello/sample.json", "{\"name\": \"Ann\"}");
    house
}

fn put(house: &House, path: &str, text: &str) {
    house.write(&format!("mails/{path}"), text);
}

fn run(house: &House, arguments: &[&str]) -> Output {
    finish(&mut house.command(arguments))
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn check_names_every_problem_of_every_template_and_serve_refuses_them() {
    let house = house();
    let good = run(&house, &["check"]);
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    put(&house, "mail/hello/en/body.html.hbs", "<p>\n{{gone}}</p>");
    put(&house, "mail/odd/en/subject.hbs", "{{#if x}}");
    put(&house, "partials/a.hbs", "\n\n{{> b}}");
    put(&house, "partials/b.hbs", "{{> a}}");
    let expected = [
        "mail/hello/en/body.html.hbs: line 2: with the sample of hello: the data has no gone",
        "mail/odd: has no body in en",
        "mail/odd: has no sample.json",
        "mail/odd/en/subject.hbs: line 1: is not handlebars here",
        "partials/a.hbs: line 3: the partial b calls itself without end",
        "partials/b.hbs: line 1: the partial a calls itself without end",
    ];
    for command in ["check", "serve"] {
        let said = run(&house, &[command]);
        assert_eq!(said.status.code(), Some(2), "{said:?}");
        let folder = house.path("config/mails").display().to_string();
        for words in expected {
            assert!(stderr(&said).contains(&format!("{folder}/{words}")), "{command}: {words}\nin {}", stderr(&said));
        }
    }
}

#[test]
fn mails_are_listed_rendered_and_previewed() {
    let house = house();
    let listed = house.json(&["templates", "list"]);
    let ours: Vec<Value> = listed.as_array().unwrap().iter().filter(|one| one["name"] == "hello").cloned().collect();
    let edition = |culture, engine, text| json!({"name": "hello", "culture": culture, "engine": engine, "text": text, "source": "own"});
    assert_eq!(ours, [edition("en", "html", false), edition("fr", "text", true)]);
    assert!(listed.as_array().unwrap().len() > 2, "the shipped ones are there, too");

    let rendered = house.json(&["templates", "render", "hello", "--culture", "fr_CA"]);
    assert_eq!(rendered, json!({"subject": "Bonjour Ann", "html": null, "text": "Ann", "culture": "fr"}));
    house.write("data.json", "{\"name\": \"<Bob>\"}");
    let data = house.path("config/data.json").display().to_string();
    let rendered = house.json(&["templates", "render", "hello", "--culture", "en", "--data", &data]);
    assert_eq!((&rendered["subject"], &rendered["html"]), (&json!("Hello <Bob>"), &json!("<p>&lt;Bob&gt;</p>")));
    house.write("data.json", "{}");
    let failed = run(&house, &["templates", "render", "hello", "--data", &data]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(stderr(&failed).contains("line 1: the data has no name"), "{}", stderr(&failed));
    assert_eq!(run(&house, &["templates", "render", "nobody"]).status.code(), Some(2));

    let out = house.path("out");
    let preview = |names: &[&str]| {
        let mut arguments = vec!["templates", "preview", "--out", out.to_str().unwrap()];
        arguments.extend(names);
        run(&house, &arguments)
    };
    assert_eq!(preview(&["hello"]).status.code(), Some(0));
    let index = std::fs::read_to_string(out.join("index.html")).unwrap();
    assert!(index.contains("<iframe sandbox") && index.contains("&lt;p&gt;Ann&lt;/p&gt;"), "{index}");
    assert!(std::fs::read_to_string(out.join("hello.en.html")).unwrap().contains("Content-Security-Policy"));
    assert_eq!(preview(&[]).status.code(), Some(0), "its own files are replaced");
    std::fs::remove_file(out.join(".postern-preview")).unwrap();
    let refused = preview(&[]);
    assert_eq!(refused.status.code(), Some(2), "files of others are not");
    assert!(stderr(&refused).contains("give another folder"), "{}", stderr(&refused));
}

#[test]
fn a_running_gateway_takes_templates_over_as_a_whole_or_not_at_all() {
    let house = house();
    let gateway = house.serve();
    let send = |name: &str| {
        gateway.post(&json!({"recipient": "ann@customer.example", "emailTemplate": "hello", "data": {"name": name}}))
    };
    let subject_of = |answer: crate::harness::Answer| {
        gateway.message(answer.json()["id"].as_str().unwrap())["subject"].as_str().unwrap().to_owned()
    };
    assert_eq!(subject_of(send("Ann")), "Hello Ann");
    // One mail that fails while it is rendered is refused alone.
    let broken = gateway.post(&json!({"recipient": "ann@customer.example", "emailTemplate": "hello", "data": {}}));
    assert_eq!(broken.status, 422, "{}", broken.json());
    assert_eq!(subject_of(send("Bob")), "Hello Bob");

    put(&house, "mail/hello/en/subject.hbs", "Good day {{name}}");
    put(&house, "partials/a.hbs", "{{> a}}");
    gateway.process.signal("HUP");
    gateway.process.wait_for_log(NOT_TAKEN_OVER);
    assert_eq!(subject_of(send("Cy")), "Hello Cy");

    put(&house, "partials/a.hbs", "");
    gateway.process.signal("HUP");
    assert_eq!(gateway.process.wait_for_log(TAKEN_OVER)["sections"], "templates");
    assert_eq!(subject_of(send("Di")), "Good day Di");
    let leaf = wait_for("the leaf", || {
        let sql = "SELECT CAST(leaf AS TEXT) FROM audit_leaf WHERE kind = 'config-changed'";
        database(&house).query_row(sql, [], |row| row.get::<_, String>(0)).ok()
    });
    assert!(leaf.contains(r#""sections":["templates"]"#), "{leaf}");
}

#[test]
fn one_tenants_slow_templates_keep_no_other_mail_and_no_page_waiting() {
    let house = house();
    house.replace("[templates]", "[templates]\nrender_timeout = \"1s\"\nwait_max = \"3s\"");
    house.write("tenants/slow.toml", &DEMO_TENANT.replace("demo", "slow"));
    let loops = "{{#each ../list}}{{#each ../../list}}{{#each ../../../list}}{{/each}}{{/each}}{{/each}}";
    put(&house, "mail/slow/en/subject.hbs", &format!("x{{{{#each list}}}}{loops}{{{{/each}}}}"));
    put(&house, "mail/slow/en/body.text.hbs", "x");
    put(&house, "mail/slow/sample.json", "{\"list\": [1]}");
    let gateway = house.serve();
    let slow = house.key_of("slow", &["send"]);
    let list: Vec<u16> = (0..1_000).collect();
    let slow_mail = json!({"recipient": "a@b.example", "emailTemplate": "slow", "data": {"list": list}}).to_string();
    std::thread::scope(|scope| {
        let post = || {
            let headers = [("X-API-KEY", slow.as_str()), ("Content-Type", "application/json")];
            request("POST", &gateway.url("/v1/emails"), &headers, Some(slow_mail.as_bytes())).status
        };
        let many: Vec<_> = (0..24).map(|_| scope.spawn(post)).collect();
        // As soon as one of them has failed they all are there.
        wait_for("the first slow one", || many.iter().any(ScopedJoinHandle::is_finished).then_some(()));
        let good = json!({"recipient": "ann@customer.example", "emailTemplate": "hello", "data": {"name": "Ann"}});
        assert_eq!(gateway.post(&good).status, 202);
        let page = request("GET", &gateway.url(&format!("/u/{}", "A".repeat(32))), &[], None);
        let html = page.header("content-type").is_some_and(|kind| kind.starts_with("text/html"));
        assert!(html, "the page was rendered: {page:?}");
        assert!(many.iter().any(|one| !one.is_finished()), "they were done too early to show anything");
        let answers: Vec<u16> = many.into_iter().map(|one| one.join().unwrap()).collect();
        assert!(answers.iter().all(|status| [422, 503].contains(status)), "{answers:?}");
    });
}

#[test]
fn what_html_parsers_think_of_data_fills_no_log() {
    let house = house();
    put(&house, "mail/raw/en/subject.hbs", "x");
    put(&house, "mail/raw/en/body.html.hbs", "<p>{{{html}}}</p>");
    put(&house, "mail/raw/sample.json", "{\"html\": \"\"}");
    let key = house.key(&["send"]);
    let mut gateway = House::serve_by(house.command(&["serve"]).env("POSTERN__LOG__LEVEL", "trace"), key);
    let html = "<table>x</table><b><p></b>".repeat(1_000);
    let mail = json!({"recipient": "ann@customer.example", "emailTemplate": "raw", "data": {"html": html}});
    assert_eq!(gateway.post(&mail).status, 202);
    gateway.process.signal("TERM");
    assert!(gateway.process.wait().success());
    let log = gateway.process.whole_log();
    let of_others = log.iter().filter(|line| line.contains("html5ever") || line.contains("foster")).count();
    assert_eq!((of_others, log.len() < 200), (0, true), "{} lines", log.len());
}
