//! The inbox's routes over mails that mean harm, asked through actix's own test service.

#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, http::header};
use jiff::Timestamp;
use serde_json::Value;

use super::configure;
use crate::inbox::{Captured, CapturedMail, MailParameters};

const NASTY: &str = "From: =?utf-8?q?Z=C3=B6e?= <zoe@x.example>\r\nTo: b@y.example\r\n\
    Subject: <script>alert(1)</script> =?utf-8?q?=C3=A9t=C3=A9?=\r\nX-Folded: one\r\n two\r\nMIME-Version: 1.0\r\n\
    Content-Type: multipart/mixed; boundary=o\r\n\r\n\
    --o\r\nContent-Type: multipart/related; boundary=r\r\n\r\n\
    --r\r\nContent-Type: multipart/alternative; boundary=a\r\n\r\n\
    --a\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n</pre><script>alert(2)</script>\r\n\
    --a\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>Hi <img src=\"cid:logo@x\"><script>alert(3)</script></p>\r\n\
    --a--\r\n--r\r\nContent-Type: image/png\r\nContent-ID: <logo@x>\r\nContent-Disposition: inline\r\n\
    Content-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--r--\r\n\
    --o\r\nContent-Type: text/html; name=evil.html\r\nContent-Disposition: attachment; filename=\"ev\\\"il.html\"\r\n\r\n\
    <script>alert(4)</script>\r\n--o--\r\n";

fn keep(captured: &Captured, recipient: &str, raw: &str) -> String {
    let queue_id = captured.next_queue_id(Timestamp::UNIX_EPOCH);
    captured.keep(CapturedMail {
        queue_id: queue_id.clone(),
        sender: "a@x.example".into(),
        recipients: vec![recipient.into()],
        parameters: MailParameters::default(),
        received_at: Timestamp::UNIX_EPOCH,
        session: 1,
        ordinal: 1,
        client_name: "<i>test".into(),
        encrypted: true,
        authenticated: Some("<b>".into()),
        mischief: Some("slow".into()),
        raw: raw.as_bytes().to_vec(),
    });
    queue_id
}

fn captured() -> Captured {
    Captured::new(100, 1 << 20, None)
}

async fn ask(captured: &Captured, request: TestRequest) -> ServiceResponse {
    let captured = captured.clone();
    let app = init_service(App::new().configure(|config| configure(config, captured))).await;
    let answer = call_service(&app, request.to_request()).await;
    if answer.status() != StatusCode::NOT_FOUND || answer.headers().contains_key(header::CONTENT_TYPE) {
        assert_eq!(answer.headers().get(header::X_CONTENT_TYPE_OPTIONS).unwrap(), "nosniff");
        assert_eq!(answer.headers().get(header::REFERRER_POLICY).unwrap(), "no-referrer");
        assert!(policy(&answer).starts_with("default-src 'none'"));
    }
    answer
}

async fn get(captured: &Captured, path: &str) -> ServiceResponse {
    ask(captured, TestRequest::get().uri(path)).await
}

async fn text(answer: ServiceResponse) -> String {
    String::from_utf8(read_body(answer).await.to_vec()).unwrap()
}

async fn json(answer: ServiceResponse) -> Value {
    serde_json::from_str(&text(answer).await).unwrap()
}

fn policy(answer: &ServiceResponse) -> &str {
    answer.headers().get(header::CONTENT_SECURITY_POLICY).unwrap().to_str().unwrap()
}

#[actix_web::test]
async fn the_list_is_newest_first_and_can_be_narrowed() {
    let captured = captured();
    let first = keep(&captured, "b@y.example", NASTY);
    let second = keep(&captured, "c@y.example", "Subject: plain\r\n\r\nhello\r\n");
    let all = json(get(&captured, "/messages").await).await;
    assert_eq!(
        (&all["total"], &all["items"][0]["id"], &all["items"][1]["id"]),
        (&2.into(), &second.into(), &first.clone().into())
    );
    assert_eq!(all["items"][1]["subject"], "<script>alert(1)</script> été");
    assert_eq!(all["items"][1]["receivedAt"], "1970-01-01T00:00:00.000Z");
    let one = json(get(&captured, "/messages?limit=1").await).await;
    assert_eq!((one["total"].as_u64(), one["items"].as_array().unwrap().len()), (Some(2), 1));
    let to = json(get(&captured, "/messages?recipient=B%40y.example").await).await;
    assert_eq!((to["total"].as_u64(), &to["items"][0]["id"]), (Some(1), &first.into()));
}

#[actix_web::test]
async fn a_mail_is_shown_taken_apart() {
    let captured = captured();
    let id = keep(&captured, "b@y.example", NASTY);
    let mail = json(get(&captured, &format!("/messages/{id}")).await).await;
    assert_eq!((&mail["queueId"], &mail["from"]), (&id.clone().into(), &"Zöe <zoe@x.example>".into()));
    assert_eq!(mail["envelope"]["recipients"][0], "b@y.example");
    assert_eq!(mail["text"].as_str().unwrap().trim_end(), "</pre><script>alert(2)</script>");
    assert!(mail["html"].as_str().unwrap().contains("cid:logo@x"));
    let folded = mail["headers"].as_array().unwrap().iter().find(|one| one["name"] == "X-Folded").unwrap();
    assert_eq!(folded["value"], "one two");
    let files = mail["attachments"].as_array().unwrap();
    assert_eq!(files.len(), 2);
    assert_eq!(
        (&files[0]["contentType"], &files[0]["contentId"], &files[0]["size"]),
        (&"image/png".into(), &"logo@x".into(), &8.into())
    );
    assert_eq!(files[1]["filename"], "ev\"il.html");
    let raw = get(&captured, &format!("/messages/{id}/raw")).await;
    assert_eq!(raw.headers().get(header::CONTENT_TYPE).unwrap(), "message/rfc822");
    assert_eq!(text(raw).await, NASTY);
}

#[actix_web::test]
async fn nothing_of_a_mail_reaches_a_page_unescaped() {
    let captured = captured();
    let id = keep(&captured, "b@y.example", NASTY);
    for path in [
        "/".to_owned(),
        "/?live=1&q=%22%3E%3Cscript%3E".to_owned(),
        "/?q=b%40y".to_owned(),
        format!("/messages/{id}/view"),
    ] {
        let answer = get(&captured, &path).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(!policy(&answer).contains("unsafe") && !policy(&answer).contains("script-src"));
        let page = text(answer).await;
        for harm in ["<script", "<i>test", "<b>"] {
            assert!(!page.contains(harm), "{path} holds {harm}");
        }
    }
    let page = text(get(&captured, "/").await).await;
    assert!(
        page.contains("&lt;script&gt;alert(1)&lt;/script&gt; été") && page.contains(&format!("messages/{id}/view"))
    );
}

#[actix_web::test]
async fn the_html_part_is_served_sandboxed_with_its_inline_images() {
    let captured = captured();
    let id = keep(&captured, "b@y.example", NASTY);
    let answer = get(&captured, &format!("/messages/{id}/html")).await;
    assert!(policy(&answer).split("; ").any(|rule| rule == "sandbox") && !policy(&answer).contains("script"));
    let html = text(answer).await;
    let part = html.split("src=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert!(part.starts_with("parts/"), "{part}");
    let image = get(&captured, &format!("/messages/{id}/{part}")).await;
    assert_eq!(image.headers().get(header::CONTENT_TYPE).unwrap(), "image/png");
    assert_eq!(read_body(image).await.as_ref(), b"\x89PNG\r\n\x1a\n");
}

#[actix_web::test]
async fn an_attached_page_is_downloaded_and_never_shown() {
    let captured = captured();
    let id = keep(&captured, "b@y.example", NASTY);
    let mail = json(get(&captured, &format!("/messages/{id}")).await).await;
    let file = get(&captured, &format!("/messages/{id}/parts/{}", mail["attachments"][1]["part"])).await;
    assert_eq!(file.headers().get(header::CONTENT_TYPE).unwrap(), "application/octet-stream");
    let disposition = file.headers().get(header::CONTENT_DISPOSITION).unwrap().to_str().unwrap();
    assert!(disposition.starts_with("attachment; filename="), "{disposition}");
}

#[actix_web::test]
async fn a_browser_is_sent_on_to_the_page_and_an_unknown_mail_is_a_problem() {
    let captured = captured();
    let id = keep(&captured, "b@y.example", NASTY);
    let request = TestRequest::get().uri(&format!("/messages/{id}")).insert_header((header::ACCEPT, "text/html,*/*"));
    let answer = ask(&captured, request).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert_eq!(answer.headers().get(header::LOCATION).unwrap(), &format!("{id}/view"));
    for path in ["/messages/nope", "/messages/nope/view", "/messages/nope/raw", "/messages/nope/html", "/certificate"] {
        let answer = get(&captured, path).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.headers().get(header::CONTENT_TYPE).unwrap(), "application/problem+json");
        assert_eq!(json(answer).await["type"], "/problems/not-found");
    }
}

#[actix_web::test]
async fn clearing_forgets_the_mails_and_keeps_the_counters() {
    let captured = captured();
    keep(&captured, "b@y.example", NASTY);
    let answer = ask(&captured, TestRequest::delete().uri("/messages")).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(json(get(&captured, "/messages").await).await["total"], 0);
    assert_eq!(json(get(&captured, "/counters").await).await["mailsTaken"], 1);
    assert!(text(get(&captured, "/").await).await.contains("No mail yet"));
}

#[actix_web::test]
async fn what_is_no_mail_at_all_is_shown_as_it_is() {
    let captured = captured();
    for raw in ["", "\r\n", "no header\r\n", "Subject\r\n\r\n", "Content-Type: multipart/mixed\r\n\r\n--\r\n"] {
        let id = keep(&captured, "b@y.example", raw);
        assert_eq!(get(&captured, &format!("/messages/{id}/view")).await.status(), StatusCode::OK);
        assert_eq!(text(get(&captured, &format!("/messages/{id}/raw")).await).await, raw);
    }
}
