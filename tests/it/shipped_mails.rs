//! The mails and the page that are shipped, in a real browser: phone and desktop, by day and by night.

use std::path::Path;

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::harness::{Gateway, House, Inbox, request, wait_for};

const MAILS: [&str; 4] = ["goodbye", "pass-link", "tips", "welcome"];
const CULTURES: [&str; 2] = ["en", "fr"];
const WIDTHS: [u64; 2] = [375, 1200];
/// What WCAG 2.2 (1.4.3) asks of text.
const CONTRAST_MIN: f64 = 4.5;

/// What the page of the test finds out about a document in a frame.
const LOOK: &str = r"
const linear = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const numbers = colour => colour.match(/[\d.]+/g).map(Number);
function look(frame) {
  const page = frame.contentDocument, style = element => frame.contentWindow.getComputedStyle(element);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = numbers(style(element).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  let contrast = 99, faint = '', texts = 0;
  const walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode, element = text.parentElement;
    if (!text.data.trim() || !element.getClientRects().length || style(element).visibility === 'hidden') continue;
    const [more, less] = [light(numbers(style(element).color)), light(behind(element))].sort((a, b) => b - a);
    const ratio = (more + 0.05) / (less + 0.05);
    texts += 1;
    if (ratio < contrast) { contrast = ratio; faint = text.data.trim(); }
  }
  const heading = page.querySelector('h1'), asked = frame.contentWindow.performance.getEntriesByType('resource').length;
  const wide = Math.max(...[...page.querySelectorAll('h1, p')].map(e => e.getBoundingClientRect().width));
  return { contrast, faint, texts, wide, asked, over: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    paper: light(behind(page.body)), sheet: light(behind(heading)), lang: page.documentElement.lang, heading: heading.textContent,
    unnamed: page.querySelectorAll('img:not([alt])').length, title: page.title };
}
const found = [];
for (const { name, html } of documents) for (const width of widths) for (const scheme of ['light', 'dark']) {
  const frame = document.createElement('iframe');
  frame.style.cssText = `border:0;height:800px;width:${width}px;color-scheme:${scheme}`;
  found.push(new Promise(done => { frame.onload = () => done({ name, width, scheme, ...look(frame) }); }));
  frame.srcdoc = html;
  document.body.append(frame);
}
Promise.all(found).then(all => { document.body.innerHTML = `<pre>${encodeURIComponent(JSON.stringify(all))}</pre>`; });
";

/// Looks at documents, each at every width and in both schemes, with one start of the browser.
fn look(documents: &[(String, String)]) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let documents: Vec<Value> = documents.iter().map(|(name, html)| json!({"name": name, "html": html})).collect();
    // Inside a script no `<` may begin its end.
    let data = json!(documents).to_string().replace('<', "\\u003c");
    let page = dir.path().join("look.html");
    let script = format!("const documents = {data}, widths = {WIDTHS:?};{LOOK}");
    std::fs::write(&page, format!("<!doctype html><meta charset=utf-8><body><script>{script}</script>")).unwrap();
    let dom = Browser::new().dom(&format!("file://{}", page.display()));
    let said = dom.split_once("<pre>").and_then(|(_, rest)| rest.split_once("</pre>")).map(|(said, _)| said);
    let said = format!("said={}", said.expect("the page has looked at everything"));
    let (_, said) = form_urlencoded::parse(said.as_bytes()).next().unwrap();
    let found: Vec<Value> = serde_json::from_str(&said).unwrap();
    assert_eq!(found.len(), documents.len() * WIDTHS.len() * 2);
    found
}

fn assert_good(found: &Value) {
    let number = |name: &str| found[name].as_f64().unwrap();
    assert!(number("over") <= 0.0, "wider than its window: {found}");
    assert!(number("wide") <= 600.0, "wider than its column: {found}");
    assert!(number("contrast") >= CONTRAST_MIN && number("texts") >= 3.0, "hard to read: {found}");
    assert_eq!((number("asked"), number("unnamed")), (0.0, 0.0), "loads something, or shows it without words: {found}");
    let is_dark = found["scheme"] == "dark";
    for place in ["paper", "sheet"] {
        assert_eq!(number(place) < 0.1, is_dark, "{place} by day or night: {found}");
        assert_eq!(number(place) > 0.8, !is_dark, "{place} by day or night: {found}");
    }
    let name = found["name"].as_str().unwrap();
    let culture = name.split(' ').nth(1).unwrap();
    assert_eq!(found["lang"], culture, "{found}");
    assert!(!found["title"].as_str().unwrap().is_empty(), "{found}");
}

fn sample(path: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates").join(path);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Sends a mail of ours and returns its HTML as it arrived.
fn html(inbox: &Inbox, gateway: &Gateway, mail: &str, culture: &str, data: &Value) -> String {
    let body =
        json!({"recipient": "someone@customer.example", "emailTemplate": mail, "culture": culture, "data": data});
    let answer = gateway.post(&body);
    assert_eq!(answer.status, 202, "{mail} {culture}: {}", answer.json());
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let queue_id = gateway.wait_for_status(&id, "relayed")["relayQueueId"].as_str().unwrap().to_owned();
    let shown = request("GET", &inbox.url(&format!("/messages/{queue_id}/html")), &[], None);
    String::from_utf8(shown.body).unwrap()
}

/// The page behind the link of a journey's mail, before and after: in each culture.
fn pages(inbox: &Inbox, gateway: &Gateway) -> Vec<(String, String)> {
    let headers = [("X-API-KEY", gateway.key.as_str()), ("Content-Type", "application/json")];
    let event = json!({
        "event": "installed", "passId": "P1", "passType": "loyalty", "device": "apple",
        "identifiers": {"customerId": "C-1", "email": "ann@customer.example"},
    });
    let answer = request("POST", &gateway.url("/v1/pass-events"), &headers, Some(event.to_string().as_bytes()));
    assert_eq!(answer.status, 202, "{}", answer.json());
    let found = || {
        gateway.get("/v1/emails?recipient=ann@customer.example&status=relayed").json()["items"][0]["relayQueueId"]
            .as_str()
            .map(str::to_owned)
    };
    let queue_id = wait_for("the welcome", found);
    let mail = String::from_utf8(inbox.raw(&queue_id)).unwrap();
    let (_, link) = mail.split_once("\r\nList-Unsubscribe:").expect("a journey's mail says how to leave it");
    let token = link.split_once("/u/").and_then(|(_, rest)| rest.split_once('>')).unwrap().0;
    let url = gateway.url(&format!("/u/{token}"));
    let mut documents = Vec::new();
    for (method, state, body) in [("GET", "ask", None), ("POST", "done", Some(b"scope=link".as_slice()))] {
        for culture in CULTURES {
            let page = request(method, &url, &[("Accept-Language", culture)], body);
            assert_eq!(page.status, 200, "{state} {culture}");
            documents.push((format!("unsubscribe {culture} {state}"), String::from_utf8(page.body).unwrap()));
        }
    }
    documents
}

#[test]
fn every_shipped_mail_and_page_fits_a_phone_and_a_desktop_and_is_readable_by_day_and_by_night() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    house.write(
        "journeys/welcome.toml",
        "tenant = \"demo\"\ntrigger = \"pass.first-install\"\n[[step]]\nsend = \"welcome\"\n",
    );
    let gateway = house.serve_keeping();
    let endless = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft";
    let mut documents = pages(&inbox, &gateway);
    for mail in MAILS {
        let least =
            if mail == "pass-link" { json!({"passUrl": format!("https://x.example/{endless}")}) } else { json!({}) };
        let mut most = sample(&format!("mail/{mail}/sample.json"));
        most["name"] = json!(endless);
        most["brand"]["name"] = json!(endless);
        most["device"] = json!("google");
        for culture in CULTURES {
            for (kind, data) in
                [("sample", &sample(&format!("mail/{mail}/sample.json"))), ("least", &least), ("endless", &most)]
            {
                let html = html(&inbox, &gateway, mail, culture, data);
                let carries_link = html.contains("href=\"https://mail.demo.example/u/sample\"");
                assert_eq!(carries_link, data.get("unsubscribeUrl").is_some(), "{mail} {culture} {kind}");
                assert_eq!(html.contains("Camille"), kind == "sample", "{mail} {culture} {kind}");
                if kind != "least" {
                    documents.push((format!("{mail} {culture} {kind}"), html));
                }
            }
        }
    }
    let found = look(&documents);
    found.iter().for_each(assert_good);
    let of = |name: &str| found.iter().find(|one| one["name"] == name).unwrap()["heading"].as_str().unwrap().to_owned();
    assert_eq!(of("welcome en sample"), "Welcome, Camille");
    assert_eq!(of("unsubscribe fr done"), "Désabonnement confirmé");
}
