//! `/v1/audit`: what happened to a tenant's mails and passes, and the proof of it.

use actix_web::http::header::ContentType;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::Value;

use super::emails::{message_id, no_message};
use super::emails_query::{limit, no_query, pointer, time};
use crate::audit::AuditError;
use crate::domain::key::Scope;
use crate::domain::submission::FieldError;
use crate::http::AppState;
use crate::http::auth::Caller;
use crate::http::problem::{Kind, Problem};
use crate::store::{Leaf, LeafFilter, StoreError};

/// Leaves on a page when the caller does not say.
const LIMIT_DEFAULT: usize = 50;
const KEYS: &str = "since, until, kind, limit, cursor";

type App = web::Data<AppState>;

// --- GET /v1/audit ---

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    items: Vec<Value>,
    /// A page may hold few items, or none, although there are more: so many leaves are looked through for one.
    next_cursor: Option<String>,
}

/// The caller's leaves, oldest first.
pub async fn list(app: App, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Read)?;
    let filter = filter(request.query_string()).map_err(Problem::invalid)?;
    let page = app.store.list_leaves(Some(caller.tenant()), filter).await?;
    let items = page.leaves.iter().map(read).collect::<Result<_, _>>()?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: page.next.map(|next| next.to_string()) }))
}

fn read(leaf: &Leaf) -> Result<Value, StoreError> {
    let corrupt = |_| StoreError::Corrupt { table: "audit_leaf", column: "leaf", id: leaf.seq.to_string() };
    serde_json::from_slice(&leaf.bytes).map_err(corrupt)
}

/// Reads the query. A key without a value counts as not given; a key that is unknown or given twice is refused.
fn filter(query: &str) -> Result<LeafFilter, Vec<FieldError>> {
    let mut filter = LeafFilter { limit: LIMIT_DEFAULT, ..LeafFilter::default() };
    let (mut seen, mut wrong) = (Vec::new(), Vec::new());
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let known = KEYS.split(", ").any(|known| known == key);
        let read = match (key.as_ref(), value.as_ref()) {
            _ if seen.contains(&key) => Err("given twice".to_owned()),
            (_, "") if known => Ok(()),
            ("since", at) => time(at).map(|at| filter.since = Some(at)),
            ("until", at) => time(at).map(|at| filter.until = Some(at)),
            ("kind", word) => word.parse().map(|kind| filter.kind = Some(kind)),
            ("limit", count) => limit(count).map(|limit| filter.limit = limit),
            ("cursor", place) => {
                place.parse().map(|from| filter.from = from).map_err(|_| "not a cursor of this list".to_owned())
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

// --- GET /v1/audit/checkpoint ---

/// The last checkpoint: a signed note over all leaves of all tenants until a moment ago, none of which it shows.
pub async fn checkpoint(app: App, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Read)?;
    no_query(&request)?;
    let last = app.store.last_checkpoint().await?;
    let last =
        last.ok_or_else(|| Problem::saying(Kind::NotFound, "there is no checkpoint yet: try again in a moment"))?;
    Ok(HttpResponse::Ok().insert_header(ContentType::plaintext()).body(last.note))
}

// --- GET /v1/emails/{id}/receipt ---

/// What happened to a message, with the proof of it.
pub async fn receipt(
    app: App,
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Read)?;
    no_query(&request)?;
    let id = message_id(&path)?;
    let receipt = app.auditor.receipt(caller.tenant(), id).await?;
    receipt.map(|receipt| HttpResponse::Ok().json(receipt)).ok_or_else(no_message)
}

impl From<AuditError> for Problem {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Store(error) => error.into(),
            AuditError::Altered(_) | AuditError::Missing(_) => Self::caused(Kind::Internal, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use crate::domain::audit;

    #[test]
    fn every_mistake_in_a_query_is_named_at_once() {
        let wrong = filter("since=now&kind=opened&limit=0&cursor=x&kind=relayed&email=zq").unwrap_err();
        let pointers: Vec<_> = wrong.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/since", "/kind", "/limit", "/cursor", "/kind", "/email"]);
        let filter = filter("since=2026-11-26T10:00:00Z&kind=relayed&cursor=7&limit=").unwrap();
        assert_eq!((filter.kind, filter.from, filter.limit), (Some(audit::Kind::Relayed), 7, 50));
        assert_eq!(filter.since.unwrap().to_string(), "2026-11-26T10:00:00Z");
    }
}
