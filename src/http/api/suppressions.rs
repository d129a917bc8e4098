//! `/v1/suppressions`: who is not mailed, as operators and the brand's systems see it and say it.
//!
//! A door for operators: a field that is not known is refused. What recipients say themselves comes in at `/u/{token}`.

use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::contacts::suppressed::{self, Said};
use crate::domain::address::Mailbox;
use crate::domain::key::Scope;
use crate::domain::submission::FieldError;
use crate::domain::suppression::{Change, Source, Suppression, SuppressionScope};
use crate::http::AppState;
use crate::http::auth::Caller;
use crate::http::body;
use crate::http::problem::{Kind, Problem};
use crate::store::{ListedSuppression, Suppressed, SuppressionFilter};

/// Suppressions on a page when the caller does not say, and at most.
const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 200;
/// Suppressions said in one request at most: they are one transaction.
const SAID_MAX: usize = 500;
/// The first byte of a cursor; another form of cursor will have another.
const CURSOR_VERSION: u8 = 1;

type App = web::Data<AppState>;

// --- GET /v1/suppressions ---

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    items: Vec<Suppression>,
    next_cursor: Option<String>,
}

/// The caller's suppressions, newest first; `recipient` also finds those whose address is erased.
pub async fn list(app: App, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Read)?;
    let mut filter = filter(request.query_string()).map_err(Problem::invalid)?;
    let limit = filter.limit;
    filter.at = Some(app.contacts.now());
    filter.limit = limit + 1; // One more than is shown tells whether there is a next page.
    let mut listed = app.store.suppressions(caller.tenant(), filter).await?;
    let is_last = listed.len() <= limit;
    listed.truncate(limit);
    let next_cursor = if is_last { None } else { listed.last().map(|last| cursor(last.number)) };
    let items = listed.into_iter().map(|ListedSuppression { suppression, .. }| suppression).collect();
    Ok(HttpResponse::Ok().json(Page { items, next_cursor }))
}

fn filter(query: &str) -> Result<SuppressionFilter, Vec<FieldError>> {
    let mut filter = SuppressionFilter { limit: LIMIT_DEFAULT, ..SuppressionFilter::default() };
    let mut wrong = Vec::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let read = match (key.as_ref(), value.as_ref()) {
            ("recipient" | "scope" | "limit" | "cursor", "") => Ok(()),
            ("recipient", address) => address
                .parse::<Mailbox>()
                .map(|to| filter.recipient = Some(to.address))
                .map_err(|error| format!("{error} (a + is written %2B in a query)")),
            ("scope", scope) => scope.parse().map(|scope| filter.scope = Some(scope)),
            ("limit", count) => match count.parse() {
                Ok(count) if (1..=LIMIT_MAX).contains(&count) => {
                    filter.limit = count;
                    Ok(())
                }
                _ => Err(format!("a whole number, 1 to {LIMIT_MAX}")),
            },
            ("cursor", text) => match before(text) {
                Some(number) => {
                    filter.before = Some(number);
                    Ok(())
                }
                None => Err("not a cursor of this list".to_owned()),
            },
            _ => Err("unknown; there are recipient, scope, limit, cursor".to_owned()),
        };
        if let Err(detail) = read {
            wrong.push(FieldError::new(suppressed::pointer(&key), detail));
        }
    }
    if wrong.is_empty() { Ok(filter) } else { Err(wrong) }
}

/// Where a page ended. Opaque to callers.
fn cursor(last: u64) -> String {
    URL_SAFE_NO_PAD.encode([&[CURSOR_VERSION], &last.to_be_bytes()[..]].concat())
}

fn before(cursor: &str) -> Option<u64> {
    match URL_SAFE_NO_PAD.decode(cursor).ok()?.split_first()? {
        (&CURSOR_VERSION, number) => Some(u64::from_be_bytes(number.try_into().ok()?)),
        _ => None,
    }
}

// --- POST /v1/suppressions ---

/// A suppression, and whether it is new.
#[derive(Serialize)]
struct Added {
    #[serde(flatten)]
    suppression: Suppression,
    change: Change,
}

impl From<Suppressed> for Added {
    fn from(Suppressed { suppression, change }: Suppressed) -> Self {
        Self { suppression, change }
    }
}

/// Adds one suppression, or all of a list or none: 201 when any is new, else 200.
pub async fn add(
    app: App,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Manage)?;
    let (shape, said) = said(&app, &request, payload).await?;
    journeys_known(&app, &caller, (shape, &said)).await?;
    let now = app.contacts.now();
    let new = said.into_iter().map(|said| said.into_suppression(Source::Operator, now)).collect();
    let added = app.store.suppress(caller.tenant(), caller.actor(), new).await?;
    let any_new = added.iter().any(|one| one.change == Change::Added);
    let mut answer = if any_new { HttpResponse::Created() } else { HttpResponse::Ok() };
    let mut added: Vec<Added> = added.into_iter().map(Added::from).collect();
    Ok(match (shape, added.pop()) {
        (Shape::One, Some(one)) => answer.json(one),
        (Shape::Many | Shape::One, last) => answer.json(added.into_iter().chain(last).collect::<Vec<_>>()),
    })
}

/// A journey that is misspelt would stop nothing.
async fn journeys_known(app: &App, caller: &Caller, (shape, said): (Shape, &[Said])) -> Result<(), Problem> {
    let mut wrong = Vec::new();
    for (index, one) in said.iter().enumerate() {
        if let Some(journey) = one.scope.as_ref().and_then(SuppressionScope::journey)
            && !app.journeys.has(caller.tenant(), journey).await?
        {
            wrong.push(FieldError::new(shape.pointer(index, "scope"), "there is no such journey"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Problem::invalid(wrong)) }
}

// --- POST /v1/suppressions/remove ---

#[derive(Serialize)]
struct Removed {
    removed: Vec<Suppression>,
}

/// Takes the suppressions of recipients away: those of one scope, or all of theirs. Who has none is no error.
pub async fn remove(
    app: App,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Manage)?;
    let (shape, said) = said(&app, &request, payload).await?;
    ends_at_once(shape, &said).map_err(Problem::invalid)?;
    let now = app.contacts.now();
    let lifts = said.into_iter().map(|said| said.into_lift(now)).collect();
    let removed = app.store.lift(caller.tenant(), caller.actor(), lifts).await?;
    Ok(HttpResponse::Ok().json(Removed { removed }))
}

/// What is taken away is not taken away until some time.
fn ends_at_once(shape: Shape, said: &[Said]) -> Result<(), Vec<FieldError>> {
    let later = said.iter().enumerate().filter(|(_, one)| one.expires_at.is_some());
    let wrong: Vec<FieldError> = later
        .map(|(index, _)| FieldError::new(shape.pointer(index, "expiresAt"), "means nothing where one is taken away"))
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

// --- what they have in common ---

/// Whether one was said, or a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    One,
    Many,
}

impl Shape {
    /// A field of the one, or of one of the list.
    fn pointer(self, index: usize, field: &str) -> String {
        match self {
            Self::One => format!("/{field}"),
            Self::Many => format!("/{index}/{field}"),
        }
    }
}

async fn said(app: &App, request: &HttpRequest, payload: web::Payload) -> Result<(Shape, Vec<Said>), Problem> {
    let body = body::read_optional_json(request, payload, app.body_limits).await?.unwrap_or_default();
    let now = app.contacts.now();
    let malformed = || Problem::saying(Kind::Malformed, "the body is not a JSON object or a list of them");
    let read = match serde_json::from_slice(&body).map_err(|_| malformed())? {
        Value::Object(one) => return Ok((Shape::One, vec![suppressed::read(&one, now).map_err(Problem::invalid)?])),
        Value::Array(many) => read_many(many, now),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return Err(malformed()),
    };
    read.map(|many| (Shape::Many, many)).map_err(Problem::invalid)
}

/// All of a list, or everything that is wrong with it.
fn read_many(many: Vec<Value>, now: Timestamp) -> Result<Vec<Said>, Vec<FieldError>> {
    if !(1..=SAID_MAX).contains(&many.len()) {
        return Err(vec![FieldError::new("", format!("1 to {SAID_MAX} of them"))]);
    }
    let (mut read, mut wrong) = (Vec::with_capacity(many.len()), Vec::new());
    for (index, one) in many.into_iter().enumerate() {
        let fields: Option<Map<String, Value>> = match one {
            Value::Object(fields) => Some(fields),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => None,
        };
        match fields
            .ok_or_else(|| vec![FieldError::new("", "must be an object")])
            .and_then(|one| suppressed::read(&one, now))
        {
            Ok(said) => read.push(said),
            Err(errors) => {
                let of_this = |error: FieldError| FieldError::new(format!("/{index}{}", error.pointer), error.detail);
                wrong.extend(errors.into_iter().map(of_this));
            }
        }
    }
    if wrong.is_empty() { Ok(read) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use serde_json::json;

    #[test]
    fn every_mistake_in_a_query_is_named_at_once() {
        let wrong = filter("recipient=zq&scope=zq&limit=201&cursor=zq&name=zq").unwrap_err();
        let pointers: Vec<_> = wrong.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/recipient", "/scope", "/limit", "/cursor", "/name"]);
        assert!(wrong.iter().all(|error| !error.detail.contains("zq")));
        let all = filter("recipient=Ann%2Bx%40B.example&scope=journey:welcome&limit=7&cursor=").unwrap();
        assert_eq!(all.recipient.unwrap().as_str(), "Ann+x@b.example");
        assert_eq!((all.scope.unwrap().to_string().as_str(), all.limit, all.before), ("journey:welcome", 7, None));
        assert_eq!(before(&cursor(77)), Some(77));
    }

    #[test]
    fn a_list_is_taken_as_a_whole_or_its_mistakes_are_told_by_their_places() {
        let many = vec![json!({ "recipient": "a@b.example" }), json!({ "recipient": "zq", "x": 1 }), json!(7)];
        let wrong = read_many(many, Timestamp::UNIX_EPOCH).unwrap_err();
        let pointers: Vec<_> = wrong.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/1/x", "/1/recipient", "/2"]);
        let one = json!({ "recipient": "a@b.example" });
        assert_eq!(read_many(vec![one.clone(); SAID_MAX], Timestamp::UNIX_EPOCH).unwrap().len(), SAID_MAX);
        assert!(
            read_many(vec![one; SAID_MAX + 1], Timestamp::UNIX_EPOCH).is_err()
                && read_many(Vec::new(), Timestamp::UNIX_EPOCH).is_err()
        );
    }
}
