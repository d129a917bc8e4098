//! `/v1/journeys`: which there are, who is on the way through them, and an operator's word on one.
//!
//! The body of a verb is optional, as where mails are steered: `{"because": "…"}`. A field that is not known is refused.

use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Map, Value};

use super::emails_query::{limit, no_query, pointer};
use crate::domain::ids::{EnrollmentId, JourneyName};
use crate::domain::journey::enrollment::{EnrollmentView, Mode};
use crate::domain::key::Scope;
use crate::domain::message::MessageView;
use crate::domain::pass_event::{ID_CHARS_MAX, normalized_identifier};
use crate::domain::submission::FieldError;
use crate::domain::verb::Because;
use crate::http::AppState;
use crate::http::auth::Caller;
use crate::http::body;
use crate::http::problem::{Kind, Problem};
use crate::journeys::desk::JourneyLine;
use crate::store::EnrollmentFilter;

/// Enrollments on a page when the caller does not say.
const LIMIT_DEFAULT: usize = 50;
/// The first byte of a cursor; another form of cursor will have another.
const CURSOR_VERSION: u8 = 1;
const KEYS: &str = "status, customerId, limit, cursor";

type App = web::Data<AppState>;
type Path = web::Path<String>;

// --- GET /v1/journeys ---

#[derive(Serialize)]
struct Listed {
    items: Vec<JourneyLine>,
}

/// The caller's journeys, in the order of their names: what they are, and how many stand where.
pub async fn list(app: App, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Read)?;
    no_query(&request)?;
    let items = app.journeys.list(caller.tenant()).await?;
    Ok(HttpResponse::Ok().json(Listed { items }))
}

// --- GET /v1/journeys/{name} ---

/// One journey: its drawing, its versions, and how often each step went in which way.
pub async fn show(app: App, caller: Caller, path: Path, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Read)?;
    no_query(&request)?;
    let shown = app.journeys.show(caller.tenant(), &name(&path)?).await?;
    shown.map(|journey| HttpResponse::Ok().json(journey)).ok_or_else(no_journey)
}

// --- GET /v1/journeys/{name}/enrollments ---

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    items: Vec<EnrollmentView>,
    next_cursor: Option<String>,
}

/// Who is on the way through a journey, or was: the latest first.
pub async fn enrollments(app: App, caller: Caller, path: Path, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Read)?;
    let name = name(&path)?;
    let mut filter = filter(&name, request.query_string()).map_err(Problem::invalid)?;
    if !app.journeys.has(caller.tenant(), &name).await? {
        return Err(no_journey());
    }
    let limit = filter.limit;
    filter.limit = limit + 1; // One more than is shown tells whether there is a next page.
    let mut items = app.store.enrollments(caller.tenant(), filter).await?;
    let is_last = items.len() <= limit;
    items.truncate(limit);
    let next_cursor = if is_last { None } else { items.last().map(|last| cursor(last.id)) };
    Ok(HttpResponse::Ok().json(Page { items, next_cursor }))
}

/// Reads the query. A key without a value counts as not given; a key that is unknown or given twice is refused.
fn filter(journey: &JourneyName, query: &str) -> Result<EnrollmentFilter, Vec<FieldError>> {
    let mut filter =
        EnrollmentFilter { journey: journey.clone(), status: None, customer: None, before: None, limit: LIMIT_DEFAULT };
    let (mut seen, mut wrong) = (Vec::new(), Vec::new());
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let known = KEYS.split(", ").any(|known| known == key);
        let read = match (key.as_ref(), value.as_ref()) {
            _ if seen.contains(&key) => Err("given twice".to_owned()),
            (_, "") if known => Ok(()),
            ("status", word) => word.parse().map(|status| filter.status = Some(status)),
            ("customerId", id) if id.chars().count() <= ID_CHARS_MAX => {
                filter.customer = Some(normalized_identifier(id));
                Ok(())
            }
            ("customerId", _) => Err(format!("longer than {ID_CHARS_MAX} characters")),
            ("limit", count) => limit(count).map(|limit| filter.limit = limit),
            ("cursor", text) => {
                behind(text).map(|id| filter.before = Some(id)).ok_or_else(|| "not a cursor of this list".to_owned())
            }
            _ => Err(format!("unknown; there are {KEYS}")),
        };
        if let Err(detail) = read {
            wrong.push(FieldError::new(pointer(&key), detail));
        }
        seen.push(key);
    }
    if wrong.is_empty() { Ok(filter) } else { Err(wrong) }
}

/// Where a page ended. Opaque to callers.
fn cursor(last: EnrollmentId) -> String {
    URL_SAFE_NO_PAD.encode([&[CURSOR_VERSION], last.as_bytes().as_slice()].concat())
}

fn behind(cursor: &str) -> Option<EnrollmentId> {
    match URL_SAFE_NO_PAD.decode(cursor).ok()?.split_first()? {
        (&CURSOR_VERSION, id) => EnrollmentId::from_slice(id),
        _ => None,
    }
}

// --- GET /v1/journeys/{name}/enrollments/{id} ---

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    enrollment: EnrollmentView,
    /// The mails it sent, the first first.
    mails: Vec<MessageView>,
}

/// One enrollment, with the mails it sent.
pub async fn enrollment(
    app: App,
    caller: Caller,
    path: web::Path<(String, String)>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Read)?;
    no_query(&request)?;
    let none = || Problem::saying(Kind::NotFound, "there is no such enrollment");
    let (journey, id) = path.into_inner();
    let id = id.parse().map_err(|_| none())?;
    let found = app.store.enrollment(caller.tenant(), id).await?;
    let (enrollment, mails) = found.filter(|(found, _)| found.journey.as_str() == journey).ok_or_else(none)?;
    Ok(HttpResponse::Ok().json(Shown { enrollment, mails }))
}

// --- POST /v1/journeys/{name}/pause ---

/// Takes customers, and nobody goes on.
pub async fn pause(
    app: App,
    caller: Caller,
    path: Path,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    set(Mode::Paused, (&app, &caller, &path), (&request, payload)).await
}

// --- POST /v1/journeys/{name}/resume ---

/// Takes customers, and they go on.
pub async fn resume(
    app: App,
    caller: Caller,
    path: Path,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    set(Mode::Running, (&app, &caller, &path), (&request, payload)).await
}

// --- POST /v1/journeys/{name}/drain ---

/// Takes nobody any more; who is in it goes on to the end.
pub async fn drain(
    app: App,
    caller: Caller,
    path: Path,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    set(Mode::Draining, (&app, &caller, &path), (&request, payload)).await
}

// --- what the three have in common ---

async fn set(
    mode: Mode,
    (app, caller, path): (&App, &Caller, &Path),
    (request, payload): (&HttpRequest, web::Payload),
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Manage)?;
    let name = name(path)?;
    let body = body::read_optional_json(request, payload, app.body_limits).await?;
    let because = because(body.as_deref())?;
    let set = app.journeys.set(caller.tenant(), &name, mode, (caller.actor(), because)).await?;
    set.map(|journey| HttpResponse::Ok().json(journey)).ok_or_else(no_journey)
}

/// Reads a body; no value is repeated in an error.
fn because(body: Option<&[u8]>) -> Result<Option<Because>, Problem> {
    let Some(body) = body else { return Ok(None) };
    let malformed = |_| Problem::saying(Kind::Malformed, "the body is not a JSON object");
    let fields: Map<String, Value> = serde_json::from_slice(body).map_err(malformed)?;
    let (mut because, mut wrong) = (None, Vec::new());
    for (name, value) in &fields {
        let read = match (name.as_str(), value) {
            ("because" | "reason", Value::Null) => Ok(()),
            ("because" | "reason", Value::String(text)) => text.parse().map(|words| because = Some(words)),
            ("because" | "reason", _) => Err("must be text".to_owned()),
            _ => Err("unknown; there is because".to_owned()),
        };
        if let Err(detail) = read {
            wrong.push(FieldError::new(pointer(name), detail));
        }
    }
    if wrong.is_empty() { Ok(because) } else { Err(Problem::invalid(wrong)) }
}

/// What is not a journey's name names no journey.
fn name(path: &Path) -> Result<JourneyName, Problem> {
    path.parse().map_err(|_| no_journey())
}

fn no_journey() -> Problem {
    Problem::saying(Kind::NotFound, "there is no such journey")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use crate::domain::journey::enrollment::Status;

    #[test]
    fn every_mistake_in_a_query_is_named_at_once_and_no_value_repeated() {
        let name = "welcome".parse().unwrap();
        let wrong = filter(&name, "status=zq&customerId=x&customerId=zq&limit=201&cursor=zq&email=zq").unwrap_err();
        let pointers: Vec<_> = wrong.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/status", "/customerId", "/limit", "/cursor", "/email"]);
        assert!(wrong.iter().all(|error| !error.detail.contains("zq")));
        let id = EnrollmentId::from_uuid(uuid::Uuid::from_u128(7));
        let query = format!("status=awaiting-contact&customerId=%20Ann%40B.example&limit=&cursor={}", cursor(id));
        let filter = filter(&name, &query).unwrap();
        assert_eq!((filter.status, filter.before, filter.limit), (Some(Status::AwaitingContact), Some(id), 50));
        assert_eq!(filter.customer.as_deref(), Some("ann@b.example"));
    }

    #[test]
    fn a_body_may_be_missing_and_says_why() {
        assert_eq!(because(None).unwrap(), None);
        assert_eq!(because(Some(br#"{"reason":" wrong price "}"#)).unwrap().unwrap().as_str(), "wrong price");
        for wrong in [&b"[]"[..], br#"{"becuase":"x"}"#, br#"{"reason":"ann@b.example"}"#, br#"{"because":1}"#] {
            assert!(because(Some(wrong)).is_err());
        }
    }
}
