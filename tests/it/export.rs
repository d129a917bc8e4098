//! Looking for mails by what an operator has in hand, and taking all of them along.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{House, Inbox, finish, request, send_many};

/// More than two pages.
const MAILS: usize = 1_200;

#[test]
fn a_mail_is_found_by_whatever_names_it() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, "").serve_keeping();
    let id = gateway.send("ann@customer.example");
    gateway.send("bob@elsewhere.example");
    let message = gateway.wait_for_status(&id, "relayed");
    let keys = gateway.get("/v1/audit?kind=accepted").json();
    let key = keys["items"][0]["actor"].as_str().unwrap().to_owned();
    let (queue_id, message_id) = (message["relayQueueId"].as_str().unwrap(), message["messageId"].as_str().unwrap());
    let bare = message_id.trim_matches(['<', '>']);
    for (query, count) in [
        (format!("relayQueueId={queue_id}"), 1),
        (format!("messageId={bare}"), 1),
        (format!("messageId=%3C{bare}%3E"), 1),
        (format!("messageId={bare}&status=bounced"), 0),
        ("domain=customer.example".to_owned(), 1),
        (format!("key={key}"), 2),
        (format!("key={key}&domain=customer.example"), 1),
        ("journey=welcome".to_owned(), 0),
        (String::new(), 2),
    ] {
        let found = gateway.get(&format!("/v1/emails?{query}")).json();
        assert_eq!(found["items"].as_array().unwrap().len(), count, "{query}: {found}");
    }
    assert_eq!(gateway.get("/v1/emails?key=me").status, 422);
}

#[test]
fn all_mails_are_taken_along_as_lines_and_no_text_becomes_a_formula() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let gateway = house.serve();
    let formula = gateway.send_as("+ann@customer.example", &json!({ "Subject": "=HYPERLINK(1)", "tags": ["@x"] }));
    let many = send_many(&gateway, MAILS, &json!({}), |n| format!("c{n}@customer.example")).len() + 1;

    let listed = |accept: &str, query: &str| {
        let headers = [("X-API-KEY", gateway.key.as_str()), ("Accept", accept)];
        let answer = request("GET", &gateway.url(&format!("/v1/emails{query}")), &headers, None);
        (answer.header("content-type").unwrap().to_owned(), String::from_utf8(answer.body).unwrap())
    };
    let (media, lines) = listed("application/x-ndjson", "");
    let mails: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((media.as_str(), mails.len()), ("application/x-ndjson", many));
    let each: BTreeSet<&str> = mails.iter().map(|mail| mail["id"].as_str().unwrap()).collect();
    assert_eq!(each.len(), many, "each once, while they go from one state to another");
    let newest_first = |two: &[Value]| two[0]["acceptedAt"].as_str() >= two[1]["acceptedAt"].as_str();
    assert!(mails.windows(2).all(newest_first));
    assert_eq!(mails.last().unwrap()["subject"], "=HYPERLINK(1)", "for programs it is exact");
    assert_eq!(listed("application/x-ndjson", "?limit=7").1.lines().count(), 7);
    let (media, lines) = listed("text/csv", "");
    assert_eq!((media.as_str(), lines.lines().count()), ("text/csv; charset=utf-8", many + 1));
    let line = lines.lines().last().unwrap();
    assert!(line.starts_with(&formula) && line.contains(",'+ann@customer.example,"), "{line}");
    assert!(line.contains(",'=HYPERLINK(1),") && line.contains(",'@x,"), "{line}");

    let file = house.path("mails.csv");
    let arguments = ["queue", "export", "--form", "csv", "--output", file.to_str().unwrap()];
    assert!(finish(&mut house.command(&arguments)).status.success());
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), many + 1);
    assert_eq!(finish(&mut house.command(&arguments)).status.code(), Some(2), "nothing that is there is overwritten");
    let said = finish(&mut house.command(&["queue", "export", "--recipient", "+ann@customer.example"]));
    assert_eq!(serde_json::from_slice::<Value>(&said.stdout).unwrap()["id"], formula.as_str());
    gateway.stop();
}
