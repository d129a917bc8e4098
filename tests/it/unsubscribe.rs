//! Unsubscribing as people and their mail programs do it: from the mail of a journey to the end of that journey.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::harness::{Answer, Gateway, House, Inbox, free_port, request, succeed, wait_for};

const ANN: &str = "ann@customer.example";
/// Behind a proxy that has the server's paths behind another.
const PUBLIC_URL: &str = "https://mail.brand.example/postern";
/// A welcome, and tips a little later.
const WELCOME: &str = r#"
tenant = "demo"
trigger = "pass.first-install"
entry = "once-per-customer"
[[step]]
send = "welcome"
[[step]]
wait = "3s"
[[step]]
send = "tips"
"#;
/// The colour of the page's button.
const BUTTON: [u8; 3] = [0x0f, 0x4c, 0x47];
const PHONE: (u32, u32) = (500, 844);
const DESKTOP: (u32, u32) = (1280, 900);

fn house(inbox: &Inbox, extra: &str) -> House {
    let house = House::new(inbox.smtp, &format!("public_url = \"{PUBLIC_URL}\"\n{extra}"));
    house.write("journeys/welcome.toml", WELCOME);
    house
}

fn installed(gateway: &Gateway, customer: &str, email: &str) {
    let event = json!({"event": "installed", "passId": format!("P-{customer}"), "device": "apple",
        "identifiers": {"customerId": customer, "email": email}});
    let headers = [("X-API-KEY", gateway.key.as_str()), ("Content-Type", "application/json")];
    let answer = request("POST", &gateway.url("/v1/pass-events"), &headers, Some(event.to_string().as_bytes()));
    assert_eq!(answer.status, 202, "{}", answer.json());
}

/// The mails to a recipient, as they came over the wire.
fn mails(inbox: &Inbox, recipient: &str) -> Vec<String> {
    let answer = request("GET", &inbox.url(&format!("/messages?recipient={recipient}")), &[], None).json();
    let ids = answer["items"].as_array().unwrap().iter().map(|mail| mail["id"].as_str().unwrap().to_owned());
    ids.map(|id| String::from_utf8(inbox.raw(&id)).unwrap()).collect()
}

/// The values of a header, unfolded.
fn header(mail: &str, name: &str) -> Vec<String> {
    let head = mail.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ");
    let of_line = |line: &str| line.split_once(": ").map(|(key, value)| (key.to_owned(), value.to_owned()));
    head.lines().filter_map(of_line).filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

/// Installs a pass and follows the welcome that comes of it to its token.
fn token(gateway: &Gateway, inbox: &Inbox, customer: &str, email: &str) -> String {
    installed(gateway, customer, email);
    let mail = wait_for("a welcome", || mails(inbox, email).pop());
    let [link] = header(&mail, "List-Unsubscribe").try_into().unwrap();
    let link = link.strip_prefix('<').and_then(|link| link.strip_suffix('>')).unwrap();
    link.strip_prefix(&format!("{PUBLIC_URL}/u/")).unwrap_or_else(|| panic!("{link}")).to_owned()
}

fn page(gateway: &Gateway, method: &str, token: &str, form: Option<&str>) -> Answer {
    let headers = [("Accept-Language", "fr-CA, en;q=0.5"), ("Content-Type", "application/x-www-form-urlencoded")];
    request(method, &gateway.url(&format!("/u/{token}")), &headers, form.map(str::as_bytes))
}

fn html(answer: &Answer) -> String {
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    String::from_utf8(answer.body.clone()).unwrap()
}

/// The scopes of what stands against a recipient.
fn scopes(gateway: &Gateway, recipient: &str) -> Vec<Value> {
    let listed = gateway.get(&format!("/v1/suppressions?recipient={recipient}")).json();
    listed["items"].as_array().unwrap_or_else(|| panic!("{listed}")).iter().map(|one| one["scope"].clone()).collect()
}

/// POST as curl does it; status, headers and body.
fn curl(gateway: &Gateway, token: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("curl");
    succeed(command.args(["-sS", "-i", "--max-time", "20"]).args(arguments).arg(gateway.url(&format!("/u/{token}"))))
}

#[test]
fn one_click_from_a_journeys_mail_ends_the_journey_and_touches_no_other_mail() {
    let inbox = Inbox::start();
    let gateway = house(&inbox, "").serve_keeping();
    let token = token(&gateway, &inbox, "C-1", ANN);
    let mail = mails(&inbox, ANN).pop().unwrap();
    assert_eq!(header(&mail, "List-Unsubscribe-Post"), ["List-Unsubscribe=One-Click"]);
    assert!(mail.lines().all(|line| line.len() <= 998));

    let answer = curl(&gateway, &token, &["-d", "List-Unsubscribe=One-Click"]);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200") && !head.contains("set-cookie") && !head.contains("location:"), "{head}");
    assert!(body.contains("You are unsubscribed"), "{body}");
    assert_eq!(scopes(&gateway, ANN), ["journey:welcome"]);

    // Again, and in the other form that RFC 8058 allows.
    for arguments in [["-d", "List-Unsubscribe=One-Click"], ["-F", "List-Unsubscribe=One-Click"]] {
        assert!(curl(&gateway, &token, &arguments).starts_with("HTTP/1.1 200"));
    }
    assert_eq!(scopes(&gateway, ANN).len(), 1);

    // The tips were to come; what is no journey's comes.
    wait_for("the end of the journey", || {
        let shown = gateway.get("/v1/journeys/welcome/enrollments").json();
        (shown["items"][0]["status"] == "unsubscribed").then_some(())
    });
    let code = gateway.send(ANN);
    gateway.wait_for_status(&code, "relayed");
    assert_eq!(mails(&inbox, ANN).len(), 2, "the welcome and the code");
    let log = gateway.process.log();
    assert!(log.iter().all(|line| !line.contains(&token)), "a token is in the log");
    assert!(log.iter().any(|line| line.contains("/u/{token}")), "the route is");
    gateway.stop();
}

#[test]
fn whoever_looks_at_a_link_changes_nothing_and_a_stranger_learns_nothing() {
    let inbox = Inbox::start();
    let gateway = house(&inbox, "").serve_keeping();
    let token = token(&gateway, &inbox, "C-1", ANN);
    for method in ["GET", "HEAD", "OPTIONS", "GET"] {
        let answer = page(&gateway, method, &token, None);
        assert!((200..300).contains(&answer.status), "{method}: {}", answer.status);
    }
    assert!(scopes(&gateway, ANN).is_empty());
    let answer = page(&gateway, "GET", &token, None);
    for (name, part) in [
        ("content-security-policy", "frame-ancestors 'none'"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-robots-tag", "noindex"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert!(answer.header(name).is_some_and(|value| value.contains(part)), "{name}: {:?}", answer.header(name));
    }
    let asks = html(&answer);
    assert!(
        asks.contains("Se désabonner") && asks.contains("Demo Brand") && asks.contains("method=\"post\""),
        "{asks}"
    );
    assert!(!asks.contains(ANN) && !asks.contains("welcome"), "{asks}");
    assert_eq!(page(&gateway, "DELETE", &token, None).status, 405);

    // A token that is none, one that could be, and one of which a letter is wrong: the same page, whatever is asked.
    let mut other = token.clone();
    other.replace_range(..1, if token.starts_with('A') { "B" } else { "A" });
    let strangers = ["x", &"A".repeat(32), &other, "not.a-token", &"y".repeat(2_000)];
    for form in [None, Some("List-Unsubscribe=One-Click"), Some("undo=1")] {
        let pages = strangers.map(|stranger| {
            let answer = page(&gateway, if form.is_some() { "POST" } else { "GET" }, stranger, form);
            assert_eq!(answer.status, 404, "{stranger}");
            html(&answer)
        });
        assert!(pages[0].contains("plus valable") && !pages[0].contains("<form"), "{}", pages[0]);
        assert!(pages.iter().all(|page| *page == pages[0]));
    }
    let listed = gateway.get("/v1/suppressions").json();
    assert_eq!(listed["items"], json!([]));
    gateway.stop();
}

#[test]
fn the_page_lets_people_choose_how_much_and_change_their_mind() {
    let inbox = Inbox::start();
    let gateway = house(&inbox, "[limits]\nper_link = \"3/h,burst=3\"\ndisk_free_min = \"0B\"\n").serve_keeping();
    let token = token(&gateway, &inbox, "C-1", ANN);
    let post = |form: &str| {
        let answer = page(&gateway, "POST", &token, Some(form));
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    };
    let (status, done) = post("scope=journeys");
    assert!(status == 200 && done.contains("Désabonnement confirmé") && done.contains("changé d’avis"), "{done}");
    assert_eq!(scopes(&gateway, ANN), ["journeys"]);
    assert!(html(&page(&gateway, "GET", &token, None)).contains("Désabonnement confirmé"), "a look shows how it is");
    let (status, asks) = post("undo=1");
    assert!(status == 200 && asks.contains("Se désabonner"), "{asks}");
    assert!(scopes(&gateway, ANN).is_empty());
    let (_, narrow) = post("scope=link");
    assert!(narrow.contains("value=\"journeys\"") && narrow.contains("cette série"), "there is more to stop: {narrow}");

    // Back and forth fills no log; to unsubscribe is never refused.
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(post("undo=1").0);
        assert_eq!(post("").0, 200);
    }
    assert_eq!(statuses, [200, 200, 429, 429]);
    assert_eq!(scopes(&gateway, ANN), ["journey:welcome"]);
    gateway.stop();
}

#[test]
fn who_unsubscribes_while_suppressed_for_a_while_is_heard_and_stays_so() {
    let inbox = Inbox::start();
    let gateway = house(&inbox, "").serve_keeping();
    let token = token(&gateway, &inbox, "C-1", ANN);
    let headers = [("X-API-KEY", gateway.key.as_str()), ("Content-Type", "application/json")];
    let body = json!({"recipient": ANN, "scope": "journeys", "expiresAt": "2999-01-31T12:00:00Z"}).to_string();
    assert_eq!(request("POST", &gateway.url("/v1/suppressions"), &headers, Some(body.as_bytes())).status, 201);
    assert!(html(&page(&gateway, "GET", &token, None)).contains("Se désabonner"), "there is still something to say");
    let done = html(&page(&gateway, "POST", &token, Some("List-Unsubscribe=One-Click")));
    assert!(done.contains("Désabonnement confirmé"), "{done}");
    assert_eq!(scopes(&gateway, ANN), ["journey:welcome", "journeys"]);
    page(&gateway, "POST", &token, Some("scope=journeys"));
    let listed = gateway.get(&format!("/v1/suppressions?recipient={ANN}")).json();
    let lasting = |one: &Value| one["expiresAt"].is_null() && one["source"] == "unsubscribed";
    assert!(listed["items"].as_array().unwrap().iter().all(lasting), "{listed}");
    gateway.stop();
}

#[test]
fn requests_that_never_end_take_nobody_elses_place() {
    let house = House::new(free_port(), "unsubscribes_in_flight_max = 2\nrequests_in_flight_max = 2\n");
    let gateway = house.serve();
    let half = || {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        let head = "POST /u/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf";
        std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        stream
    };
    // Whoever looks may have had the place that one of them came for: then there is another.
    let mut strangers = Vec::new();
    wait_for("the door to be busy", || {
        strangers.push(half());
        (page(&gateway, "GET", "x", None).status == 503).then_some(())
    });
    for _ in 0..3 {
        gateway.send(ANN);
    }
    drop(strangers);
    wait_for("room again", || (page(&gateway, "GET", "x", None).status == 404).then_some(()));
    let long = "x=".to_owned() + &"y".repeat(20_000);
    assert_eq!(page(&gateway, "POST", "x", Some(&long)).status, 413);
    gateway.stop();
}

#[test]
fn the_pages_look_right_on_a_phone_and_on_a_desk() {
    let inbox = Inbox::start();
    let gateway = house(&inbox, "").serve_keeping();
    let token = token(&gateway, &inbox, "C-1", ANN);
    let browser = Browser::new();
    let url = gateway.url(&format!("/u/{token}"));
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("unsubscribe");
    let dom = browser.dom(&url);
    assert!(dom.contains("<h1>Unsubscribe?</h1>") && dom.contains("Demo Brand"), "{dom}");
    assert!(scopes(&gateway, ANN).is_empty(), "a browser changes nothing by looking");
    for (name, window) in [("phone", PHONE), ("desktop", DESKTOP)] {
        let button = browser.shows(&url, window, BUTTON, &pictures.join(format!("ask-{name}.png")));
        assert!(button > 3_000, "{name}: the button is on the picture, {button} pixels of it");
    }
    page(&gateway, "POST", &token, Some("scope=link"));
    for (name, window) in [("phone", PHONE), ("desktop", DESKTOP)] {
        let button = browser.shows(&url, window, BUTTON, &pictures.join(format!("done-{name}.png")));
        assert!(button < 3_000, "{name}: nothing is asked any more");
    }
    assert!(browser.dom(&url).contains("<h1>You are unsubscribed</h1>"));
    browser.shows(&gateway.url("/u/x"), PHONE, BUTTON, &pictures.join("unknown-phone.png"));
    gateway.stop();
}
