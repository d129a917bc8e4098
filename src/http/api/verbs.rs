//! `POST /v1/emails/{id}/cancel|hold|release|retry|resolve`: an operator steers one mail.
//!
//! The body is optional: `{"because": "…", "deliverBy": "…"}`, the latter for retry only (`reason` is an older word for
//! `because`, and stays good). Unlike the platform's door
//! this one refuses a field it does not know: an operator who misspelt `deliverBy` must hear of it.

use actix_web::{HttpRequest, HttpResponse, web};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::emails::{message_id, no_message};
use crate::domain::key::Scope;
use crate::domain::message::Status;
use crate::domain::submission::FieldError;
use crate::domain::verb::{Because, Refused, Verb};
use crate::http::AppState;
use crate::http::auth::Caller;
use crate::http::body;
use crate::http::problem::{Kind, Problem};
use crate::steering::Word;
use crate::store::Steered;

type App = web::Data<AppState>;
type Id = web::Path<String>;

// --- POST /v1/emails/{id}/cancel ---

/// Ends a mail unsent.
pub async fn cancel(
    app: App,
    caller: Caller,
    id: Id,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    steer(Verb::Cancel, (&app, &caller, &id), (&request, payload)).await
}

// --- POST /v1/emails/{id}/hold ---

/// Keeps a mail back.
pub async fn hold(
    app: App,
    caller: Caller,
    id: Id,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    steer(Verb::Hold, (&app, &caller, &id), (&request, payload)).await
}

// --- POST /v1/emails/{id}/release ---

/// Lets a held mail go on.
pub async fn release(
    app: App,
    caller: Caller,
    id: Id,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    steer(Verb::Release, (&app, &caller, &id), (&request, payload)).await
}

// --- POST /v1/emails/{id}/retry ---

/// Has a mail tried at once; with `deliverBy` also one that ended unsent.
pub async fn retry(
    app: App,
    caller: Caller,
    id: Id,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    steer(Verb::Retry { deliver_by: None }, (&app, &caller, &id), (&request, payload)).await
}

// --- POST /v1/emails/{id}/resolve ---

/// Ends the doubt about a mail: the relay has it, as the operator found out.
pub async fn resolve(
    app: App,
    caller: Caller,
    id: Id,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    steer(Verb::Resolve, (&app, &caller, &id), (&request, payload)).await
}

// --- what the five have in common ---

async fn steer(
    verb: Verb,
    (app, caller, id): (&App, &Caller, &Id),
    (request, payload): (&HttpRequest, web::Payload),
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Manage)?;
    let id = message_id(id)?;
    let body = body::read_optional_json(request, payload, app.body_limits).await?;
    let mut said = said(verb, body.as_deref())?;
    let verb = match verb {
        Verb::Retry { .. } => app.steering.retry(said.deliver_by).unwrap_or_else(|error| {
            said.wrong.push(error);
            verb
        }),
        Verb::Cancel | Verb::Hold | Verb::Release | Verb::Resolve => verb,
    };
    if !said.wrong.is_empty() {
        return Err(Problem::invalid(said.wrong));
    }
    let word = Word { actor: caller.actor(), because: said.because };
    match app.steering.steer(caller.tenant(), id, verb, word).await? {
        Steered::Done(message) => Ok(HttpResponse::Ok().json(message)),
        Steered::NoMessage => Err(no_message()),
        Steered::Refused { why, status } => Err(refused(why, status)),
    }
}

fn refused(why: Refused, status: Status) -> Problem {
    let kind = match why {
        Refused::InFlight => Kind::InFlight,
        Refused::WrongState
        | Refused::DeadlineNeeded
        | Refused::FactTaken
        | Refused::ContentGone
        | Refused::NotInDoubt => Kind::WrongState,
    };
    Problem::saying(kind, why.detail(status))
}

/// What the body says, and what is wrong with it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Said {
    pub(super) because: Option<Because>,
    deliver_by: Option<Timestamp>,
    pub(super) wrong: Vec<FieldError>,
}

/// Reads a body; no value is repeated in an error.
pub(super) fn said(verb: Verb, body: Option<&[u8]>) -> Result<Said, Problem> {
    match verb {
        Verb::Retry { .. } => read(verb.as_str(), Takes::ADeadline, body),
        Verb::Cancel | Verb::Hold | Verb::Release | Verb::Resolve => read(verb.as_str(), Takes::NoDeadline, body),
    }
}

/// Why an operator does something else, as its optional body says.
pub(super) fn because(doing: &str, body: Option<&[u8]>) -> Result<Option<Because>, Problem> {
    let Said { because, wrong, .. } = read(doing, Takes::NoDeadline, body)?;
    if wrong.is_empty() { Ok(because) } else { Err(Problem::invalid(wrong)) }
}

/// Whether a body may hold `deliverBy`.
#[derive(Clone, Copy, PartialEq)]
enum Takes {
    ADeadline,
    NoDeadline,
}

fn read(verb: &str, takes: Takes, body: Option<&[u8]>) -> Result<Said, Problem> {
    let Some(body) = body else { return Ok(Said::default()) };
    let malformed = |_| Problem::saying(Kind::Malformed, "the body is not a JSON object");
    let fields: Map<String, Value> = serde_json::from_slice(body).map_err(malformed)?;
    let takes_deadline = takes == Takes::ADeadline;
    let known = if takes_deadline { "because and deliverBy" } else { "because" };
    let mut said = Said::default();
    for (name, value) in &fields {
        let read = match (name.as_str(), value) {
            ("because" | "reason", Value::Null) => Ok(()),
            ("because" | "reason", Value::String(text)) => text.parse().map(|because| said.because = Some(because)),
            ("deliverBy", Value::Null) if takes_deadline => Ok(()),
            ("deliverBy", Value::String(text)) if takes_deadline => time(text).map(|at| said.deliver_by = Some(at)),
            ("because" | "reason", _) => Err("must be text".to_owned()),
            ("deliverBy", _) if takes_deadline => Err("must be text".to_owned()),
            _ => Err(format!("unknown; {verb} knows {known}")),
        };
        if let Err(detail) = read {
            said.wrong.push(FieldError::new(pointer(name), detail));
        }
    }
    Ok(said)
}

/// A field's name as a JSON pointer (RFC 6901), at most as long as a name of ours could be.
fn pointer(name: &str) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).take(32).collect();
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "not a time with its offset, as in 2030-01-31T09:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use actix_web::ResponseError as _;

    const RETRY: Verb = Verb::Retry { deliver_by: None };

    #[test]
    fn a_body_may_be_missing_or_empty_and_says_why_and_until_when() {
        assert_eq!(said(Verb::Hold, None).unwrap(), Said::default());
        for body in ["{}", r#"{"reason":null,"deliverBy":null}"#] {
            assert_eq!(said(RETRY, Some(body.as_bytes())).unwrap(), Said::default());
        }
        let body = br#"{"because":" wrong price ","deliverBy":"2030-01-31T09:00:00+01:00"}"#;
        let said = said(RETRY, Some(body)).unwrap();
        assert_eq!(said.because.unwrap().as_str(), "wrong price");
        assert_eq!(said.deliver_by.unwrap().to_string(), "2030-01-31T08:00:00Z");
    }

    #[test]
    fn every_wrong_field_is_named_and_no_value_repeated() {
        let body = br#"{"reason":"ask ann@customer.example","deliverBy":"soon","becuase":"x","a/b":1}"#;
        for (verb, pointers) in [
            (RETRY, ["/a~1b", "/becuase", "/deliverBy", "/reason"]),
            (Verb::Hold, ["/a~1b", "/becuase", "/deliverBy", "/reason"]),
        ] {
            let wrong = said(verb, Some(body)).unwrap().wrong;
            assert_eq!(wrong.iter().map(|error| error.pointer.as_str()).collect::<Vec<_>>(), pointers);
            assert!(wrong.iter().all(|error| !error.detail.contains("ann") && !error.detail.contains("soon")));
        }
        assert_eq!(said(RETRY, Some(br#"{"reason":7,"deliverBy":7}"#)).unwrap().wrong.len(), 2);
        for body in ["[]", "7", "{", "\"x\""] {
            assert_eq!(said(RETRY, Some(body.as_bytes())).unwrap_err().status_code().as_u16(), 400, "{body}");
        }
    }

    #[test]
    fn a_refusal_is_a_conflict() {
        for why in [
            Refused::InFlight,
            Refused::WrongState,
            Refused::DeadlineNeeded,
            Refused::FactTaken,
            Refused::ContentGone,
            Refused::NotInDoubt,
        ] {
            assert_eq!(refused(why, Status::Queued).status_code().as_u16(), 409);
        }
    }
}
