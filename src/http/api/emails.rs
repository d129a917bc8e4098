//! `/v1/emails`: hand in a mail, and follow what became of it.

use std::sync::Arc;

use actix_web::http::header::{CONTENT_DISPOSITION, HeaderMap, LOCATION};
use actix_web::{HttpRequest, HttpResponse, web};
use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;

use super::emails_query::{self, Cursor};
use super::streaming::{self, Pages, STREAMED_AT_ONCE};
use super::submission;
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::key::Scope;
use crate::domain::message::sheet::Form;
use crate::domain::message::{Acceptance, MessageView, Receipt};
use crate::domain::submission::FieldError;
use crate::http::AppState;
use crate::http::auth::Caller;
use crate::http::body;
use crate::http::limit;
use crate::http::problem::{Kind, Problem};
use crate::intake::IDEMPOTENCY_KEY_CHARS_MAX;
use crate::store::{Content, Leaf, MessageFilter, MessagePage, Store, StoreError};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const IDEMPOTENT_REPLAYED: &str = "Idempotent-Replayed";

// --- POST /v1/emails ---

/// Takes one mail: 202 means that it is on disk.
pub async fn submit(
    app: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Send)?;
    if app.health.is_stopping() {
        return Err(Problem::new(Kind::NotPersisted));
    }
    limit::submission(&app, &request, caller.tenant())?;
    let idempotency_key = idempotency_key(request.headers())?;
    let (media, body) = body::read(&request, payload, app.body_limits).await?;
    let submission = submission::parse(media, &body)?;
    let room = limit::room_for_mail(&app);
    let acceptance = app.intake.accept(caller.tenant(), caller.actor(), submission, idempotency_key, room).await?;
    if matches!(&acceptance, Acceptance::Accepted(receipt) if receipt.status.is_live()) {
        app.doors.limits.headroom().accepted();
    }
    accepted(&request, &acceptance)
}

/// The key of the header: up to 255 characters of UTF-8 without control characters. An empty one is none.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let wrong = |detail| Problem::invalid(vec![FieldError::new("/Idempotency-Key", detail)]);
    let mut given = headers.get_all(IDEMPOTENCY_KEY);
    let Some(value) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(wrong("given twice"));
    }
    match std::str::from_utf8(value.as_bytes()) {
        Ok("") => Ok(None),
        Ok(key) if key.chars().count() <= IDEMPOTENCY_KEY_CHARS_MAX && !key.chars().any(char::is_control) => {
            Ok(Some(key.to_owned()))
        }
        Ok(_) | Err(_) => Err(wrong("at most 255 characters of UTF-8, without control characters")),
    }
}

fn accepted(request: &HttpRequest, acceptance: &Acceptance) -> Result<HttpResponse, Problem> {
    let answer = |receipt: &Receipt| {
        let mut answer = HttpResponse::Accepted();
        answer.insert_header((LOCATION, format!("/v1/emails/{}", receipt.id)));
        answer
    };
    match acceptance {
        Acceptance::Accepted(receipt) => Ok(answer(receipt).json(receipt)),
        Acceptance::Replayed(receipt) | Acceptance::Deduplicated(receipt) => {
            Ok(answer(receipt).insert_header((IDEMPOTENT_REPLAYED, "true")).json(receipt))
        }
        Acceptance::RecipientLimited { limit, wait } => Err(limit::recipient(request, *limit, *wait)),
        Acceptance::IdempotencyMismatch => Err(Problem::new(Kind::IdempotencyMismatch)),
        Acceptance::FactTaken => {
            Err(Problem::invalid(vec![FieldError::new("/dedupe/fact", "taken by a mail to another recipient")]))
        }
    }
}

// --- GET /v1/emails ---

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    items: Vec<MessageView>,
    next_cursor: Option<Cursor>,
}

/// The caller's messages, newest first: a page of JSON, or all of them as CSV or NDJSON. A `limit` then says how many in
/// all.
pub async fn list(app: web::Data<AppState>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Read)?;
    let filter = emails_query::parse(request.query_string()).map_err(Problem::invalid)?;
    if let Some(form) = streaming::form(request.headers()) {
        let left = emails_query::names_a_limit(request.query_string()).then_some(filter.limit);
        let (store, tenant) = (Arc::clone(&app.store), caller.tenant().clone());
        return Ok(streaming::stream_of(Mails { store, tenant, filter, left, form }, form, form.head()).await?);
    }
    let MessagePage { messages, next } = app.store.messages(caller.tenant(), filter).await?;
    Ok(HttpResponse::Ok().json(Page { items: messages, next_cursor: next.map(Cursor) }))
}

/// A list without end, as far as it was walked.
struct Mails {
    store: Arc<dyn Store>,
    tenant: TenantId,
    filter: MessageFilter,
    left: Option<usize>,
    form: Form,
}

#[async_trait]
impl Pages for Mails {
    async fn step(&mut self, text: &mut String) -> Result<bool, StoreError> {
        self.filter.limit = self.left.map_or(STREAMED_AT_ONCE, |left| left.min(STREAMED_AT_ONCE));
        let MessagePage { messages, next } = self.store.messages(&self.tenant, self.filter.clone()).await?;
        for message in &messages {
            self.form.write(message, text);
        }
        self.filter.before = next;
        self.left = self.left.map(|left| left - messages.len());
        Ok(next.is_some() && self.left != Some(0))
    }
}

// --- GET /v1/emails/{id} ---

/// One message.
pub async fn show(app: web::Data<AppState>, caller: Caller, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Read)?;
    let id = message_id(&path)?;
    let message = app.store.message(caller.tenant(), id).await?.ok_or_else(no_message)?;
    Ok(HttpResponse::Ok().json(message))
}

/// What is not a message's id names no message.
pub(super) fn message_id(text: &str) -> Result<MessageId, Problem> {
    text.parse().map_err(|_| no_message())
}

pub(super) fn no_message() -> Problem {
    Problem::saying(Kind::NotFound, "there is no such message")
}

// --- GET /v1/emails/{id}/events ---

#[derive(Serialize)]
struct Events {
    items: Vec<Value>,
}

/// The message's audit leaves, oldest first.
pub async fn events(
    app: web::Data<AppState>,
    caller: Caller,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Read)?;
    let id = message_id(&path)?;
    let leaves = app.store.leaves(caller.tenant(), id).await?.ok_or_else(no_message)?;
    let items = leaves.iter().map(event).collect::<Result<_, _>>()?;
    Ok(HttpResponse::Ok().json(Events { items }))
}

fn event(leaf: &Leaf) -> Result<Value, StoreError> {
    let corrupt = |_| StoreError::Corrupt { table: "audit_leaf", column: "bytes", id: leaf.seq.to_string() };
    serde_json::from_slice(&leaf.bytes).map_err(corrupt)
}

// --- GET /v1/emails/{id}/why ---

/// Each rule that holds the message now, or ended it.
pub async fn why(app: web::Data<AppState>, caller: Caller, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Read)?;
    let id = message_id(&path)?;
    let explanation = app.reasons.why(caller.tenant(), id).await?.ok_or_else(no_message)?;
    Ok(HttpResponse::Ok().json(explanation))
}

// --- GET /v1/emails/{id}/content ---

/// The whole mail as it was, or will be, sent.
pub async fn content(
    app: web::Data<AppState>,
    caller: Caller,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Content)?;
    let id = message_id(&path)?;
    match app.store.content(caller.tenant(), id).await? {
        Content::Present(bytes) => {
            // Never shown in place: it is somebody's HTML.
            let disposition = (CONTENT_DISPOSITION, format!("attachment; filename=\"{id}.eml\""));
            Ok(HttpResponse::Ok().content_type("message/rfc822").insert_header(disposition).body(bytes))
        }
        Content::Purged => Err(Problem::saying(Kind::Gone, "the content is no longer kept")),
        Content::NoMessage => Err(no_message()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use crate::domain::lane::Lane;
    use crate::domain::message::Status;
    use actix_web::ResponseError as _;
    use actix_web::http::header::HeaderValue;
    use actix_web::test::TestRequest;

    fn key_of(values: &[&[u8]]) -> Result<Option<String>, u16> {
        let header = |value: &[u8]| (IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).unwrap());
        let request = values.iter().fold(TestRequest::post(), |request, value| request.append_header(header(value)));
        let request = request.to_http_request();
        idempotency_key(request.headers()).map_err(|problem| problem.status_code().as_u16())
    }

    #[test]
    fn an_idempotency_key_is_at_most_255_characters_of_any_script_given_once() {
        let (longest, longer) = ("é".repeat(255), "k".repeat(256));
        assert_eq!(key_of(&[]), Ok(None));
        assert_eq!(key_of(&[b""]), Ok(None));
        for key in ["\"8e03978e-40d5\"", "Zoë Müller/order 17", "注文-17", &longest] {
            assert_eq!(key_of(&[key.as_bytes()]), Ok(Some(key.to_owned())));
        }
        let control = "a\u{85}b";
        for wrong in
            [&[b"a\tb".as_slice()][..], &[control.as_bytes()], &[b"cl\xe9"], &[longer.as_bytes()], &[b"a", b"a"]]
        {
            assert_eq!(key_of(wrong), Err(422), "{wrong:?}");
        }
    }

    #[test]
    fn a_replay_says_so_and_a_mismatch_is_refused() {
        let receipt = Receipt {
            id: MessageId::from_uuid(uuid::Uuid::from_u128(1)),
            status: Status::Queued,
            lane: Lane::Standard,
            deliver_by: jiff::Timestamp::UNIX_EPOCH,
            message_id: "<1@demo.example>".into(),
        };
        let request = TestRequest::post().to_http_request();
        let first = accepted(&request, &Acceptance::Accepted(receipt.clone())).unwrap();
        assert_eq!(first.status().as_u16(), 202);
        assert_eq!(first.headers().get(LOCATION).unwrap(), "/v1/emails/msg_00000000000000000000000000000001");
        assert!(!first.headers().contains_key(IDEMPOTENT_REPLAYED));
        let again = accepted(&request, &Acceptance::Replayed(receipt)).unwrap();
        assert_eq!(again.headers().get(IDEMPOTENT_REPLAYED).unwrap(), "true");
        let mismatch = accepted(&request, &Acceptance::IdempotencyMismatch).unwrap_err();
        assert_eq!(mismatch.status_code().as_u16(), 422);
    }

    #[test]
    fn what_is_not_an_id_is_not_found() {
        assert_eq!(message_id("msg_1").unwrap_err().status_code().as_u16(), 404);
    }
}
