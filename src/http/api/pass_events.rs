//! `/v1/pass-events` and `/wallet/installation`: what the platform's hooks say of passes, by a script of the brand's.
//!
//! Both take JSON or a form, one event or a list of them, and answer when they are on disk. `/wallet/installation` is where
//! the platform's documented sample connector posts to with nothing changed but its `API_URL`: a customer, a flag, a device.

mod event;
mod identifiers;
mod moment;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::lenient::{self, Media, Node, Object, ParseError, Problems};
use crate::domain::audit::Actor;
use crate::domain::ids::{EnrollmentId, EventId, TenantId};
use crate::domain::key::Scope;
use crate::domain::pass_event::{Change, PassEvent, Way};
use crate::domain::submission::FieldError;
use crate::domain::tenant::Tenant;
use crate::domain::wallet::WalletStatus;
use crate::http::AppState;
use crate::http::auth::Caller;
use crate::http::body;
use crate::http::limit;
use crate::http::problem::{Kind, Problem};
use crate::store::Recorded;

/// What became of one event.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    pub(super) event_id: EventId,
    pub(super) change: Said,
    /// `null` of what is no pass event.
    pub(super) wallet_status: Option<WalletStatus>,
    /// Journeys that the customer entered with it.
    pub(super) enrollments: Vec<EnrollmentId>,
}

/// What an event was.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub(super) enum Said {
    /// The ledger's word.
    Change(Change),
    /// It is no pass event that we know.
    Ignored(Ignored),
}

/// An event that is none of ours.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Ignored {
    /// It is kept to be looked at, and nothing was done.
    Ignored,
}

impl From<Recorded> for Answer {
    fn from(recorded: Recorded) -> Self {
        let Recorded { id, change, status, enrollments, .. } = recorded;
        Self { event_id: id, change: Said::Change(change), wallet_status: Some(status), enrollments }
    }
}

// --- POST /v1/pass-events ---

/// Takes pass events: 202 means that they are on disk.
pub async fn submit(
    app: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    take(Way::Hook, &app, &caller, (&request, payload)).await
}

// --- POST /wallet/installation ---

/// Takes what the platform's sample connector sends.
pub async fn installation(
    app: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    take(Way::Installation, &app, &caller, (&request, payload)).await
}

// --- what the two have in common, and with the webhooks ---

async fn take(
    way: Way,
    app: &AppState,
    caller: &Caller,
    (request, payload): (&HttpRequest, web::Payload),
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Events)?;
    limit::room_for_events(app)?;
    let (media, body) = body::read(request, payload, app.body_limits).await?;
    let rules = app.rules.borrow().clone();
    let no_tenant = || Problem::saying(Kind::Forbidden, "the key's tenant is not configured");
    let tenant = rules.tenants.get(caller.tenant()).ok_or_else(no_tenant)?;
    let root = lenient::read(media, &body)?;
    let events = read(&root, tenant, way, app.ledger.settings().events_max)?;
    let answers = record(app, &tenant.id, caller.actor(), events).await?;
    Ok(answer(&root, &answers))
}

/// The event of a line of JSON as this door takes it, or everything that is wrong with it.
pub fn from_line(line: &[u8], tenant: &Tenant) -> Result<PassEvent, ParseError> {
    let root = lenient::read(Media::Json, line)?;
    let one = read(&root, tenant, Way::Hook, 1)?.pop();
    one.ok_or_else(|| ParseError::Malformed("not a JSON object".into()))
}

/// All events of a body, or everything that is wrong with them.
fn read(root: &Node, tenant: &Tenant, way: Way, events_max: usize) -> Result<Vec<PassEvent>, ParseError> {
    let mut problems = Problems::default();
    let nodes = each(root, events_max)?;
    let read = nodes.into_iter().map(|(base, node)| event::event(&base, node, tenant, way, &mut problems));
    let events: Vec<Option<PassEvent>> = read.collect();
    problems.into_result(events.into_iter().collect()).map_err(ParseError::Invalid)
}

/// The events of a body, each with the pointer to it.
fn each(root: &Node, events_max: usize) -> Result<Vec<(String, &Node)>, ParseError> {
    match root {
        Node::Object(_) => Ok(vec![(String::new(), root)]),
        Node::List(nodes) if nodes.len() > events_max => {
            Err(ParseError::Invalid(vec![FieldError::new("", format!("more than {events_max} events"))]))
        }
        Node::List(nodes) => Ok(nodes.iter().enumerate().map(|(index, node)| (format!("/{index}"), node)).collect()),
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) => {
            Err(ParseError::Malformed("not a JSON object or a list of them".into()))
        }
    }
}

/// One event of the platform's; `None`: it is none that the ledger takes.
pub(super) fn of_webhook(node: &Node, tenant: &Tenant) -> Option<PassEvent> {
    let mut problems = Problems::default();
    let event = event::event("", node, tenant, Way::Webhook, &mut problems);
    problems.into_result(event).ok()
}

/// What an event calls itself.
pub(super) fn event_name(object: &Object) -> Option<String> {
    event::event_name(object)
}

/// Keeps events: one answer for each when they are on disk.
pub(super) async fn record(
    app: &AppState,
    tenant: &TenantId,
    actor: Actor,
    events: Vec<PassEvent>,
) -> Result<Vec<Answer>, Problem> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let recorded = app.ledger.record(tenant, actor, events).await?;
    Ok(recorded.into_iter().map(Answer::from).collect())
}

/// 202: one answer for one event, a list for a list.
pub(super) fn answer(root: &Node, answers: &[Answer]) -> HttpResponse {
    let mut accepted = HttpResponse::Accepted();
    match (root, answers) {
        (Node::Object(_) | Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_), [answer]) => {
            accepted.json(answer)
        }
        (_, answers) => accepted.json(answers),
    }
}
