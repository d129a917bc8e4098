//! `/v1/webhooks/{tenant}`: events as the platform itself sends them, signed, and those of them that are none of ours.
//!
//! There is no API key: whoever knows the tenant's `webhook_secret` is the platform. The signature is that of the body's
//! bytes as they came in, before a Content-Encoding is undone, so nothing is unpacked for a stranger. The platform cannot
//! mend what it sends, so everything that is signed and is JSON is answered 202: what is no install or removal, or cannot
//! be understood as one, is kept for somebody to look at.

mod signature;

use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, HttpResponse, web};
use hmac::digest::Digest as _;
use sha2::Sha256;

use self::signature::Signature;
use super::lenient::{self, Node};
use super::pass_events::{Answer, Ignored, Said, answer, event_name, of_webhook, record};
use super::wallets_query;
use crate::domain::audit::Actor;
use crate::domain::ids::TenantId;
use crate::domain::key::Scope;
use crate::domain::pass_event::{Change, PassEvent};
use crate::domain::tenant::Tenant;
use crate::http::AppState;
use crate::http::auth::Caller;
use crate::http::body;
use crate::http::limit;
use crate::http::problem::{Kind, Problem};
use crate::store::{Bodies, UnknownEvent, UnknownKept};

const SIGNATURE: &str = "x-neostore-signature";
/// Members whose names are kept of an event that is none of ours.
const KEYS_MAX: usize = 50;
/// Characters of such a name.
const KEY_CHARS_MAX: usize = 100;

type App = web::Data<AppState>;

// --- POST /v1/webhooks/{tenant} ---

/// Takes the platform's events: 202 means that they are on disk, whatever they are.
pub async fn receive(
    app: App,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let rules = app.rules.borrow().clone();
    // A tenant that takes no webhooks is as unknown as one that is none.
    let tenant = path.parse::<TenantId>().ok().and_then(|id| rules.tenants.get(&id));
    let tenant = tenant.filter(|tenant| !tenant.webhook_secrets.is_empty()).ok_or(Problem::new(Kind::NotFound))?;
    let refuse = |detail| limit::failure(&app, &request).err().unwrap_or(Problem::saying(Kind::Unauthorized, detail));
    let signature = signature(request.headers()).ok_or_else(|| refuse("sign the body: X-NEOSTORE-SIGNATURE"))?;
    limit::may_still_fail(&app, &request)?;
    limit::room_for_events(&app)?;
    let limits = app.body_limits.at_most(app.ledger.settings().webhook_body_max.as_usize());
    // A body that never came is a stranger's until one that is signed comes.
    let raw = body::raw(&request, payload, limits).await;
    let raw = raw.map_err(|problem| limit::failure(&app, &request).err().unwrap_or(problem))?;
    if !signature.signs(raw.as_sent(), &tenant.webhook_secrets) {
        return Err(refuse("the signature is not that of this body"));
    }
    let root = lenient::read(body::form_or_json(&request), &raw.decoded(limits).await?)?;
    let nodes = match &root {
        Node::List(nodes) => &nodes[..],
        one => std::slice::from_ref(one),
    };
    // The platform sends as many as it likes. What is kept before a failure is a repeat when all of it comes again.
    let mut answers = Vec::with_capacity(nodes.len());
    for some in nodes.chunks(app.ledger.settings().events_max.max(1)) {
        answers.extend(keep(&app, tenant, some).await?);
    }
    Ok(answer(&root, &answers))
}

/// The one signature of the headers.
fn signature(headers: &HeaderMap) -> Option<Signature> {
    let mut given = headers.get_all(SIGNATURE);
    let signature = Signature::read(given.next()?.to_str().ok()?)?;
    given.next().is_none().then_some(signature)
}

/// Keeps pass events in the ledger and everything else to be looked at: one answer for each, in their order.
async fn keep(app: &AppState, tenant: &Tenant, nodes: &[Node]) -> Result<Vec<Answer>, Problem> {
    let read: Vec<Option<PassEvent>> = nodes.iter().map(|node| of_webhook(node, tenant)).collect();
    let others = nodes.iter().zip(&read).filter(|(_, event)| event.is_none()).map(|(node, _)| unknown_event(node));
    let others: Vec<UnknownEvent> = others.collect();
    let is_event: Vec<bool> = read.iter().map(Option::is_some).collect();
    let mut events = record(app, &tenant.id, Actor::Webhook, read.into_iter().flatten().collect()).await?.into_iter();
    let kept = app.ledger.keep_unknown(&tenant.id, others).await?;
    let mut kept = kept.into_iter().map(Answer::from);
    let in_order = is_event.into_iter().filter_map(|is_event| if is_event { events.next() } else { kept.next() });
    Ok(in_order.collect())
}

impl From<UnknownKept> for Answer {
    fn from(kept: UnknownKept) -> Self {
        let (event_id, change) = match kept {
            UnknownKept::New(id) => (id, Said::Ignored(Ignored::Ignored)),
            UnknownKept::Known(id) => (id, Said::Change(Change::Duplicate)),
        };
        Self { event_id, change, wallet_status: None, enrollments: Vec::new() }
    }
}

/// An event that is none of ours, as it is kept.
fn unknown_event(node: &Node) -> UnknownEvent {
    let body = node.to_text();
    let (name, keys) = match node {
        Node::Object(object) => {
            (event_name(object), object.keys().filter(|key| is_shown(key)).take(KEYS_MAX).collect())
        }
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) | Node::List(_) => (None, Vec::new()),
    };
    let digest = Sha256::digest(body.as_bytes()).into();
    UnknownEvent { name, keys: keys.into_iter().cloned().collect(), digest, body }
}

/// Whether a member's name is one, and not somebody's address.
fn is_shown(key: &str) -> bool {
    key.chars().count() <= KEY_CHARS_MAX && !key.chars().any(|c| c.is_control() || c == '@')
}

// --- GET /v1/webhooks/unknown ---

/// What came in signed for the caller's tenant and is none of ours, newest first; bodies for those who may see contents.
pub async fn unknown(
    app: App,
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Manage)?;
    if *path != "unknown" {
        return Err(Problem::new(Kind::NotFound));
    }
    wallets_query::nothing(request.query_string()).map_err(Problem::invalid)?;
    let bodies = if caller.require(Scope::Content).is_ok() { Bodies::Shown } else { Bodies::Hidden };
    let items = app.store.unknown_events(caller.tenant(), bodies).await?;
    Ok(HttpResponse::Ok().json(serde_json::json!({ "items": items })))
}
