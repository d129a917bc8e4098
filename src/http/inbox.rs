//! The capture inbox over HTTP: pages to read mails in, and the same as JSON for scripts and tests.
//!
//! Every mail is foreign matter. Its HTML is served for a sandboxed frame only, under a policy that lets nothing run
//! and nothing load from elsewhere; everything else that came with it is escaped. The pages need no script and link
//! relatively, so that they work wherever they are mounted, as long as that place ends in a slash.

mod page;

use std::sync::Arc;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::domain::time;
use crate::inbox::{Attachment, Captured, CapturedMail, MailParameters};

/// The most mails one list answers with.
const LIST_MAX: usize = 10_000;
const LIST_DEFAULT: usize = 100;

const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; frame-src 'self'; img-src data:; form-action 'self'; \
                           base-uri 'none'; frame-ancestors 'none'";
const MAIL_POLICY: &str = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; base-uri 'none'; \
                           form-action 'none'; frame-ancestors 'self'; sandbox";
const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";

/// Image types that may be shown as what they say they are. SVG is not among them: it can hold script.
const IMAGE_TYPES: [&str; 6] = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp"];

/// Mounts the inbox's routes.
pub fn configure(config: &mut web::ServiceConfig, captured: Captured) {
    config
        .app_data(web::Data::new(captured))
        .route("/", web::get().to(page::list))
        .route("/inbox.css", web::get().to(page::style))
        .route("/messages", web::get().to(list))
        .route("/messages", web::delete().to(clear))
        .route("/messages/{id}", web::get().to(show))
        .route("/messages/{id}/view", web::get().to(page::view))
        .route("/messages/{id}/raw", web::get().to(raw))
        .route("/messages/{id}/html", web::get().to(html))
        .route("/messages/{id}/parts/{part}", web::get().to(part))
        .route("/counters", web::get().to(counters))
        .route("/certificate", web::get().to(certificate));
}

#[derive(Deserialize)]
struct ListQuery {
    limit: Option<usize>,
    /// An exact envelope recipient, whatever the case of its letters.
    recipient: Option<String>,
}

/// What every answer about a mail says of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    id: String,
    queue_id: String,
    from: String,
    to: String,
    subject: String,
    message_id: String,
    #[serde(serialize_with = "time::write")]
    received_at: Timestamp,
    size: usize,
    envelope: Envelope,
    session: u64,
    ordinal: u32,
    client_name: String,
    tls: bool,
    authenticated: Option<String>,
    mischief: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    sender: String,
    recipients: Vec<String>,
    parameters: MailParameters,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    #[serde(flatten)]
    item: Item,
    headers: Vec<Header>,
    text: Option<String>,
    html: Option<String>,
    attachments: Vec<Attachment>,
}

#[derive(Serialize)]
struct Header {
    name: String,
    value: String,
}

impl Item {
    fn of(mail: &CapturedMail) -> Self {
        let summary = mail.summary();
        Self {
            id: mail.queue_id.clone(),
            queue_id: mail.queue_id.clone(),
            from: summary.from,
            to: summary.to,
            subject: summary.subject,
            message_id: summary.message_id,
            received_at: mail.received_at,
            size: mail.raw.len(),
            envelope: Envelope {
                sender: mail.sender.clone(),
                recipients: mail.recipients.clone(),
                parameters: mail.parameters.clone(),
            },
            session: mail.session,
            ordinal: mail.ordinal,
            client_name: mail.client_name.clone(),
            tls: mail.encrypted,
            authenticated: mail.authenticated.clone(),
            mischief: mail.mischief.clone(),
        }
    }
}

async fn list(captured: web::Data<Captured>, query: web::Query<ListQuery>) -> HttpResponse {
    let limit = query.limit.unwrap_or(LIST_DEFAULT).min(LIST_MAX);
    let (mails, total) = match &query.recipient {
        Some(recipient) => {
            let mails = captured.to(recipient);
            let total = mails.len();
            (mails, total)
        }
        None => (captured.list(limit), captured.len()),
    };
    let items: Vec<_> = mails.iter().take(limit).map(|mail| Item::of(mail)).collect();
    answer(StatusCode::OK, DATA_POLICY).json(json!({ "items": items, "total": total }))
}

async fn clear(captured: web::Data<Captured>) -> HttpResponse {
    captured.clear();
    answer(StatusCode::NO_CONTENT, DATA_POLICY).finish()
}

/// JSON; a browser is sent on to the page.
async fn show(captured: web::Data<Captured>, id: web::Path<String>, request: HttpRequest) -> HttpResponse {
    let Some(mail) = captured.get(&id) else { return not_found() };
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("text/html") {
        return answer(StatusCode::SEE_OTHER, DATA_POLICY)
            .insert_header((header::LOCATION, format!("{}/view", mail.queue_id)))
            .insert_header((header::VARY, "Accept"))
            .finish();
    }
    let read = mail.read();
    let headers = read.headers.into_iter().map(|(name, value)| Header { name, value }).collect();
    let details =
        Details { item: Item::of(&mail), headers, text: read.text, html: read.html, attachments: read.attachments };
    answer(StatusCode::OK, DATA_POLICY).insert_header((header::VARY, "Accept")).json(details)
}

async fn raw(captured: web::Data<Captured>, id: web::Path<String>) -> HttpResponse {
    let Some(mail) = captured.get(&id) else { return not_found() };
    answer(StatusCode::OK, DATA_POLICY)
        .content_type("message/rfc822")
        .insert_header((header::CONTENT_DISPOSITION, format!("inline; filename=\"{}.eml\"", mail.queue_id)))
        .body(mail.raw.clone())
}

/// The HTML part as it is, inline images aside; meant for the frame of the page.
async fn html(captured: web::Data<Captured>, id: web::Path<String>) -> HttpResponse {
    let Some(html) = captured.get(&id).and_then(|mail| mail.read().html_with_parts()) else { return not_found() };
    answer(StatusCode::OK, MAIL_POLICY).content_type("text/html; charset=utf-8").body(html)
}

async fn part(captured: web::Data<Captured>, path: web::Path<(String, usize)>) -> HttpResponse {
    let (id, number) = path.into_inner();
    let Some((file, bytes)) = captured.get(&id).and_then(|mail| mail.part(number)) else { return not_found() };
    let mut answer = answer(StatusCode::OK, DATA_POLICY);
    if IMAGE_TYPES.contains(&file.content_type.as_str()) {
        answer.content_type(file.content_type);
    } else {
        let disposition =
            header::ContentDisposition::attachment(file.filename.unwrap_or_else(|| format!("part-{number}")));
        answer.content_type("application/octet-stream").insert_header(disposition);
    }
    answer.body(bytes)
}

async fn counters(captured: web::Data<Captured>) -> HttpResponse {
    answer(StatusCode::OK, DATA_POLICY).json(captured.counters())
}

/// The certificate of the SMTP side, for a client to trust.
async fn certificate(captured: web::Data<Captured>) -> HttpResponse {
    match captured.certificate_pem() {
        Some(pem) => answer(StatusCode::OK, DATA_POLICY).content_type("application/x-pem-file").body(pem.to_owned()),
        None => not_found(),
    }
}

/// An answer that nothing may run in, and that nobody but the one who asked may keep.
fn answer(status: StatusCode, policy: &'static str) -> HttpResponseBuilder {
    let mut answer = HttpResponse::build(status);
    answer
        .insert_header((header::CONTENT_SECURITY_POLICY, policy))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::CACHE_CONTROL, "no-store"));
    answer
}

fn not_found() -> HttpResponse {
    let problem = json!({ "type": "/problems/not-found", "title": "There is no such mail here", "status": 404 });
    answer(StatusCode::NOT_FOUND, DATA_POLICY).content_type("application/problem+json").body(problem.to_string())
}

/// The mails that a page lists: those whose envelope holds `words`.
fn matching(captured: &Captured, words: &str, limit: usize) -> Vec<Arc<CapturedMail>> {
    let words = words.trim().to_lowercase();
    let holds = |text: &String| text.to_lowercase().contains(&words);
    let mut mails = captured.list(if words.is_empty() { limit } else { LIST_MAX });
    mails.retain(|mail| words.is_empty() || holds(&mail.sender) || mail.recipients.iter().any(holds));
    mails.truncate(limit);
    mails
}

#[cfg(test)]
mod tests;
