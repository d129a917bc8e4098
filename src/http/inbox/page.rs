//! The inbox's two pages, rendered from templates that are part of the binary.

use std::sync::LazyLock;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, web};
use handlebars::Handlebars;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{PAGE_POLICY, answer, matching, not_found};
use crate::domain::time;
use crate::inbox::{Captured, CapturedMail};

/// The most mails on the page.
const PAGE_MAX: usize = 200;
const REFRESH_SECONDS: u32 = 3;

const STYLE: &str = include_str!("../../../templates/console/inbox.css");

static TEMPLATES: LazyLock<Handlebars<'static>> = LazyLock::new(|| {
    let mut templates = Handlebars::new();
    let sources = [
        ("frame", include_str!("../../../templates/console/inbox_frame.hbs")),
        ("list", include_str!("../../../templates/console/inbox_list.hbs")),
        ("mail", include_str!("../../../templates/console/inbox_mail.hbs")),
    ];
    for (name, source) in sources {
        #[expect(clippy::expect_used, reason = "proved below")]
        // Unwrap safety: the sources are constants of this binary, and the tests beside this module render each.
        templates.register_template_string(name, source).expect("an embedded page template parses");
    }
    templates
});

#[derive(Deserialize)]
pub(super) struct PageQuery {
    /// Part of a sender's or recipient's address.
    #[serde(default)]
    q: String,
    /// Anything: the page loads itself again every few seconds.
    live: Option<String>,
}

pub(super) async fn list(captured: web::Data<Captured>, query: web::Query<PageQuery>) -> HttpResponse {
    let mails = matching(&captured, &query.q, PAGE_MAX);
    let rows: Vec<Value> = mails.iter().map(|mail| row(mail)).collect();
    let counters = captured.counters();
    render(
        "list",
        &json!({
            "root": "",
            "title": "Inbox",
            "refresh": query.live.as_ref().map(|_| REFRESH_SECONDS),
            "query": query.q,
            "queryEncoded": form_urlencoded::byte_serialize(query.q.as_bytes()).collect::<String>(),
            "mails": rows,
            "shown": rows.len(),
            "kept": captured.len(),
            "taken": counters.mails_taken,
            "sessionsOpen": counters.sessions_open,
        }),
    )
}

pub(super) async fn view(captured: web::Data<Captured>, id: web::Path<String>) -> HttpResponse {
    let Some(mail) = captured.get(&id) else { return not_found() };
    let read = mail.read();
    let headers: Vec<_> = read.headers.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let attachments: Vec<_> = read
        .attachments
        .iter()
        .map(|file| {
            let name = file.filename.clone().unwrap_or_else(|| format!("part {}", file.part));
            json!({ "part": file.part, "name": name, "type": file.content_type, "size": size(file.size) })
        })
        .collect();
    render(
        "mail",
        &json!({
            "root": "../../",
            "title": or_placeholder(&read.summary.subject),
            "mail": row(&mail),
            "recipients": mail.recipients.join(", "),
            "parameters": parameters(&mail),
            "session": mail.session,
            "ordinal": mail.ordinal,
            "clientName": mail.client_name,
            "encrypted": mail.encrypted,
            "authenticated": mail.authenticated,
            "hasHtml": read.html.is_some(),
            "text": read.text,
            "headers": headers,
            "attachments": attachments,
        }),
    )
}

pub(super) async fn style() -> HttpResponse {
    answer(StatusCode::OK, PAGE_POLICY).content_type("text/css; charset=utf-8").body(STYLE)
}

fn row(mail: &CapturedMail) -> Value {
    let summary = mail.summary();
    json!({
        "id": mail.queue_id,
        "from": first_of(&summary.from, &mail.sender),
        "to": first_of(&summary.to, &mail.recipients.join(", ")),
        "sender": first_of(&mail.sender, "<>"),
        "subject": or_placeholder(&summary.subject),
        "time": to_the_second(mail.received_at),
        "timeExact": time::text(mail.received_at),
        "size": size(mail.raw.len()),
        "mischief": mail.mischief,
    })
}

fn first_of<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

fn or_placeholder(subject: &str) -> &str {
    first_of(subject, "(no subject)")
}

fn to_the_second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// In whole bytes, then in tenths of KiB and MiB.
fn size(bytes: usize) -> String {
    let tenths = |unit: usize| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{} KiB", tenths(1024)),
        _ => format!("{} MiB", tenths(0x10_0000)),
    }
}

fn parameters(mail: &CapturedMail) -> String {
    let mut words = Vec::new();
    words.extend(mail.parameters.size.map(|size| format!("SIZE={size}")));
    words.extend(mail.parameters.body.as_ref().map(|body| format!("BODY={body}")));
    words.extend(mail.parameters.smtputf8.then(|| "SMTPUTF8".to_owned()));
    words.join(" ")
}

fn render(name: &str, data: &Value) -> HttpResponse {
    match TEMPLATES.render(name, data) {
        Ok(page) => answer(StatusCode::OK, PAGE_POLICY).content_type(header::ContentType::html()).body(page),
        Err(error) => {
            tracing::error!(page = name, %error, "a page of the inbox could not be rendered");
            answer(StatusCode::INTERNAL_SERVER_ERROR, PAGE_POLICY).finish()
        }
    }
}
