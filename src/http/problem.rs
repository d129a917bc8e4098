//! The only place with status codes: what went wrong, as `application/problem+json` (RFC 9457).
//!
//! Handlers return `Err(Problem)`. The middleware in `frame.rs` gives it the request's id and renders it, and turns
//! every error answer that is not a problem yet (actix's own) into one. A 5xx shows its request id and nothing else.

use std::fmt;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;

use super::api::lenient::ParseError;
use super::frame::dress;
use super::ratelimit_fields::seconds;
use crate::domain::ids::RequestId;
use crate::domain::submission::FieldError;
use crate::intake::Refusal;
use crate::store::StoreError;
use crate::wallet;

/// The media type of every error answer.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// What a caller is asked to wait when the store cannot write.
const STORE_RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");
/// The same when too many others are served.
const BUSY_RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");
/// How one may authenticate (RFC 9110 section 11.6.1).
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"postern\"");

/// What kind of problem: each has a stable `type`, a status and a title.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request, or its body, cannot be read.
    Malformed,
    /// No key, or a bad one.
    Unauthorized,
    /// The key may not do this, or not for this sender.
    Forbidden,
    /// There is no such thing, or it is another tenant's.
    NotFound,
    /// There is, but not by this method.
    MethodNotAllowed,
    /// The request did not arrive in time.
    Timeout,
    /// An attempt is past its commit point: not now.
    InFlight,
    /// Not possible in the state the message is in.
    WrongState,
    /// It was there and has been removed.
    Gone,
    /// The body is larger than `request_body_max`.
    TooLarge,
    /// The body's type or coding is not one we read.
    UnsupportedMediaType,
    /// A field is missing, of the wrong type, or breaks a rule.
    Invalid,
    /// The idempotency key is bound to another submission.
    IdempotencyMismatch,
    /// Over a quota: later.
    RateLimited,
    /// A defect of ours.
    Internal,
    /// The tenant's CRM was asked and gave no answer.
    LookupFailed,
    /// As many requests under way as `server.requests_in_flight_max`.
    Busy,
    /// The store is away; nothing was accepted.
    NotPersisted,
}

impl Kind {
    /// Status, the last part of `type`, and title.
    const fn says(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => (StatusCode::BAD_REQUEST, "malformed", "The request cannot be read"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "No valid API key"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "Not allowed"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is nothing here"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "This method is not offered here")
            }
            Self::Timeout => (StatusCode::REQUEST_TIMEOUT, "timeout", "The request did not arrive in time"),
            Self::InFlight => (StatusCode::CONFLICT, "in-flight", "The mail is being sent"),
            Self::WrongState => (StatusCode::CONFLICT, "wrong-state", "Not possible in this state"),
            Self::Gone => (StatusCode::GONE, "gone", "It has been removed"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The request is too large"),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body's type is not supported")
            }
            Self::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "The request breaks a rule"),
            Self::IdempotencyMismatch => {
                (StatusCode::UNPROCESSABLE_ENTITY, "idempotency-mismatch", "The key was used for another submission")
            }
            Self::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "rate-limited", "Too many requests"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "Too many requests at once; try again"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong here"),
            Self::LookupFailed => {
                (StatusCode::BAD_GATEWAY, "lookup-failed", "The tenant's CRM does not answer; try again")
            }
            Self::NotPersisted => {
                (StatusCode::SERVICE_UNAVAILABLE, "not-persisted", "Nothing could be kept; try again")
            }
        }
    }

    /// The kind that stands for a status an answer already has.
    fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthorized,
            StatusCode::FORBIDDEN => Self::Forbidden,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::REQUEST_TIMEOUT => Self::Timeout,
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            StatusCode::UNPROCESSABLE_ENTITY => Self::Invalid,
            StatusCode::TOO_MANY_REQUESTS => Self::RateLimited,
            StatusCode::SERVICE_UNAVAILABLE => Self::NotPersisted,
            other if other.is_server_error() => Self::Internal,
            _ => Self::Malformed,
        }
    }
}

/// One error answer on its way out.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: Kind,
    detail: Option<String>,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
    instance: Option<RequestId>,
    cause: Option<String>,
}

impl Problem {
    /// A problem of this kind, with nothing more to say.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        let headers = match kind {
            Kind::Unauthorized => vec![(WWW_AUTHENTICATE, CHALLENGE)],
            Kind::NotPersisted => vec![(RETRY_AFTER, STORE_RETRY_AFTER)],
            Kind::Busy => vec![(RETRY_AFTER, BUSY_RETRY_AFTER)],
            _ => Vec::new(),
        };
        Self { kind, detail: None, errors: Vec::new(), headers, instance: None, cause: None }
    }

    /// A problem and what the caller can do about it; never holds what the caller sent.
    #[must_use]
    pub fn saying(kind: Kind, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..Self::new(kind) }
    }

    /// Every field that breaks a rule.
    #[must_use]
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        Self { errors, ..Self::new(Kind::Invalid) }
    }

    /// The methods there are, for [`Kind::MethodNotAllowed`].
    #[must_use]
    pub fn method_not_allowed(allow: HeaderValue) -> Self {
        Self { headers: vec![(ALLOW, allow)], ..Self::new(Kind::MethodNotAllowed) }
    }

    /// A caller over a quota: what is too much, and how long to wait.
    #[must_use]
    pub fn rate_limited(wait: Duration, detail: String) -> Self {
        Self { headers: vec![(RETRY_AFTER, seconds(wait).max(1).into())], ..Self::saying(Kind::RateLimited, detail) }
    }

    /// A problem of ours, or of what we stand on: `cause` goes into the log, never into the answer.
    #[must_use]
    pub fn caused(kind: Kind, cause: &(dyn std::error::Error + 'static)) -> Self {
        Self { cause: Some(chain(cause)), ..Self::new(kind) }
    }

    /// What an error answer says that was not made here (actix's own): its status and `Allow` stay.
    fn of_answer(answer: &HttpResponse) -> Self {
        let allow = answer.headers().get(ALLOW).cloned();
        match (Kind::of(answer.status()), allow) {
            (Kind::MethodNotAllowed, Some(allow)) => Self::method_not_allowed(allow),
            (kind, _) => Self::new(kind),
        }
    }

    /// The same for the request `instance`.
    #[must_use]
    pub fn of_request(mut self, instance: RequestId) -> Self {
        self.instance = Some(instance);
        self
    }

    /// What belongs into the log beside the access line: the chain of errors behind this answer.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }
}

/// Marks an error answer that is meant to be what it is.
struct Deliberate;

/// An error answer that is not a problem: a probe reads the readiness as JSON in both cases.
#[must_use]
pub fn not_ready(body: &serde_json::Value) -> HttpResponse {
    let mut answer = HttpResponse::ServiceUnavailable().json(body);
    answer.extensions_mut().insert(Deliberate);
    answer
}

/// Another: a page for people that says that there is nothing here.
#[must_use]
pub fn nothing_here(mut page: HttpResponse) -> HttpResponse {
    page.head_mut().status = Kind::NotFound.says().0;
    page.extensions_mut().insert(Deliberate);
    page
}

/// What an error answer must be replaced with; `None` when it may go out as it is.
#[must_use]
pub fn problem_in(answer: &HttpResponse) -> Option<Problem> {
    let is_error = answer.status().is_client_error() || answer.status().is_server_error();
    if !is_error || answer.extensions().get::<Deliberate>().is_some() {
        return None;
    }
    let made_here = answer.error().and_then(|error| error.as_error::<Problem>()).cloned();
    Some(made_here.unwrap_or_else(|| Problem::of_answer(answer)))
}

/// The error and its sources, outermost first.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.says().1)
    }
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<RequestId>,
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    errors: &'a [FieldError],
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.kind.says().0
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let (status, slug, title) = self.kind.says();
        let (detail, errors) =
            if status.is_server_error() { (None, &[][..]) } else { (self.detail.as_deref(), &self.errors[..]) };
        let body = Body {
            r#type: format!("/problems/{slug}"),
            title,
            status: status.as_u16(),
            detail,
            instance: self.instance,
            errors,
        };
        let mut answer = HttpResponse::build(status);
        for header in &self.headers {
            answer.append_header(header.clone());
        }
        // Unwrap safety: text and numbers alone cannot fail to serialise.
        let mut answer = answer.content_type(PROBLEM_JSON).body(serde_json::to_string(&body).unwrap_or_default());
        if let Some(instance) = self.instance {
            dress(answer.headers_mut(), instance);
        }
        answer
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let kind = match error {
            StoreError::NotPersisted { .. } | StoreError::Unreadable { .. } | StoreError::Closed => Kind::NotPersisted,
            StoreError::Corrupt { .. } | StoreError::InUse(_) | StoreError::Open(_) => Kind::Internal,
        };
        Self::caused(kind, &error)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(errors) => Self::invalid(errors),
            Refusal::SenderNotAllowed => {
                let errors = vec![FieldError::new("/from", "not a sender this tenant may use")];
                Self { errors, ..Self::new(Kind::Forbidden) }
            }
            Refusal::UnknownTenant => Self::saying(Kind::Forbidden, "the key's tenant is not configured"),
            Refusal::NoRoom => Self::new(Kind::NotPersisted),
            Refusal::Busy(error) => Self::caused(Kind::Busy, &error),
            Refusal::Compose(error) => Self {
                detail: Some("the mail cannot be written as RFC 5322 asks".into()),
                ..Self::caused(Kind::Invalid, &error)
            },
            Refusal::Store(error) => error.into(),
        }
    }
}

impl From<wallet::Refusal> for Problem {
    fn from(refusal: wallet::Refusal) -> Self {
        match refusal {
            wallet::Refusal::Invalid(errors) => Self::invalid(errors),
            wallet::Refusal::UnknownTenant => Self::saying(Kind::Forbidden, "the key's tenant is not configured"),
            wallet::Refusal::Store(error) => error.into(),
        }
    }
}

impl From<ParseError> for Problem {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::Malformed(detail) => Self::saying(Kind::Malformed, detail),
            ParseError::Invalid(errors) => Self::invalid(errors),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use actix_web::body::MessageBody as _;
    use serde_json::{Value, json};

    fn body(problem: &Problem) -> Value {
        let bytes = problem.error_response().into_body().try_into_bytes().unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn a_problem_says_which_fields_and_which_request() {
        let id = RequestId::from_uuid(uuid::Uuid::from_u128(1));
        let problem = Problem::invalid(vec![FieldError::new("/recipient", "required")]).of_request(id);
        assert_eq!(
            body(&problem),
            json!({"type": "/problems/invalid", "title": "The request breaks a rule", "status": 422,
                   "instance": id.to_string(), "errors": [{"pointer": "/recipient", "detail": "required"}]})
        );
    }

    #[test]
    fn a_5xx_keeps_its_cause_for_the_log() {
        let error = StoreError::Corrupt { table: "message", column: "lane", id: "msg_1".into() };
        let problem = Problem::from(Refusal::Store(error));
        assert_eq!(problem.status_code().as_u16(), 500);
        assert_eq!(problem.cause(), Some("corrupt row in message, column lane, id msg_1"));
        assert!(!body(&problem).to_string().contains("lane"));
    }

    #[test]
    fn a_store_that_is_away_asks_to_come_back() {
        let answer = Problem::from(StoreError::Closed).error_response();
        assert_eq!(answer.status().as_u16(), 503);
        assert_eq!(answer.headers().get(RETRY_AFTER).unwrap(), "5");
        let answer = Problem::new(Kind::Unauthorized).error_response();
        assert!(answer.headers().contains_key(WWW_AUTHENTICATE));
    }

    #[test]
    fn every_error_status_has_a_kind_of_the_same_class() {
        for code in 400..600 {
            let status = StatusCode::from_u16(code).unwrap();
            assert_eq!(Kind::of(status).says().0.is_server_error(), status.is_server_error(), "{code}");
        }
    }
}
