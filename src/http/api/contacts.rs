//! `/v1/contacts`: what the brand says of its customers, read back, looked up and erased.
//!
//! A door for operators: a field that is not known is refused. A customer's identifier may hold any character; in the path
//! it is percent-encoded.

use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Map, Value};

use super::verbs;
use crate::contacts::{Found, given};
use crate::domain::address::EmailAddress;
use crate::domain::audit::By;
use crate::domain::contact::{Contact, CustomerId, Erasing, Extent, Origin, SHARED_MAX, Set};
use crate::domain::key::Scope;
use crate::domain::submission::FieldError;
use crate::http::AppState;
use crate::http::auth::Caller;
use crate::http::body;
use crate::http::problem::{Kind, Problem};
use crate::store::{ContactFilter, Erasure};

/// Contacts on a page when the caller does not say, and at most.
const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 200;
/// The first byte of a cursor; another form of cursor will have another.
const CURSOR_VERSION: u8 = 1;

type App = web::Data<AppState>;
type Path = web::Path<String>;

// --- PUT /v1/contacts/{customerId} ---

/// Keeps what is said of a customer, all of it: 201 when there was no contact, else 200.
pub async fn put(
    app: App,
    caller: Caller,
    path: Path,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Manage)?;
    let customer = customer(&path)?;
    let body = body::read_optional_json(&request, payload, app.body_limits).await?.unwrap_or_default();
    let malformed = |_| Problem::saying(Kind::Malformed, "the body is not a JSON object");
    let said: Map<String, Value> = serde_json::from_slice(&body).map_err(malformed)?;
    let now = app.contacts.now();
    let details = given::read(&said, now).map_err(Problem::invalid)?;
    let contact = details.into_contact(customer.clone(), Origin::Api, now);
    let set = app.store.set_contacts(caller.tenant(), caller.actor(), vec![contact]).await?;
    let kept = app.store.contact(caller.tenant(), &customer).await?.ok_or_else(no_contact)?;
    Ok(match set.as_slice() {
        [Set::Created] => HttpResponse::Created().json(kept),
        _ => HttpResponse::Ok().json(kept),
    })
}

// --- GET /v1/contacts/{customerId} ---

/// One contact; with `?lookup=true` the tenant's CRM is asked for one that is not known.
pub async fn show(app: App, caller: Caller, path: Path, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Read)?;
    let customer = customer(&path)?;
    let found = match looking(request.query_string()).map_err(Problem::invalid)? {
        Looking::Here => app.store.contact(caller.tenant(), &customer).await?,
        Looking::Everywhere => match app.contacts.find(caller.tenant(), &customer).await? {
            Found::Contact(contact) => Some(*contact),
            Found::Nobody => None,
            Found::Unavailable => return Err(Problem::new(Kind::LookupFailed)),
        },
    };
    found.map(|contact| HttpResponse::Ok().json(contact)).ok_or_else(no_contact)
}

/// Where a contact is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looking {
    Here,
    Everywhere,
}

fn looking(query: &str) -> Result<Looking, Vec<FieldError>> {
    let (mut looking, mut wrong) = (Looking::Here, Vec::new());
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match (key.as_ref(), value.as_ref()) {
            ("lookup", "true") => looking = Looking::Everywhere,
            ("lookup", "false" | "") => looking = Looking::Here,
            ("lookup", _) => wrong.push(FieldError::new("/lookup", "must be true or false")),
            _ => wrong.push(FieldError::new(pointer(&key), "unknown; there is lookup")),
        }
    }
    if wrong.is_empty() { Ok(looking) } else { Err(wrong) }
}

// --- DELETE /v1/contacts/{customerId} ---

/// Erases the person: contact, passes, mails but for their states, and the key that names them in the audit.
pub async fn delete(
    app: App,
    caller: Caller,
    path: Path,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Manage)?;
    let customer = customer(&path)?;
    let body = body::read_optional_json(&request, payload, app.body_limits).await?;
    let by = By { actor: caller.actor(), because: verbs::because("erase", body.as_deref())? };
    let erasure = Erasure { customer, extent: Extent::Person, at: app.contacts.now(), by };
    match app.store.erase_contact(caller.tenant(), erasure).await? {
        Erasing::Done(_) => Ok(HttpResponse::NoContent().finish()),
        Erasing::InFlight => Err(Problem::saying(Kind::InFlight, "a mail to them is past its commit point: try again")),
        Erasing::Shared => {
            let detail = format!("more than {SHARED_MAX} customers have one of their addresses: it is no person's");
            Err(Problem::saying(Kind::WrongState, detail))
        }
        Erasing::Nobody => Err(Problem::saying(Kind::NotFound, "nothing is known of this customer")),
    }
}

// --- GET /v1/contacts ---

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    items: Vec<Contact>,
    next_cursor: Option<String>,
}

/// The caller's contacts, in the order of customers' identifiers.
pub async fn list(app: App, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Read)?;
    let mut filter = filter(request.query_string()).map_err(Problem::invalid)?;
    let limit = filter.limit;
    filter.limit = limit + 1; // One more than is shown tells whether there is a next page.
    let mut items = app.store.contacts(caller.tenant(), filter).await?;
    let is_last = items.len() <= limit;
    items.truncate(limit);
    let next_cursor = if is_last { None } else { items.last().map(|last| cursor(&last.customer)) };
    Ok(HttpResponse::Ok().json(Page { items, next_cursor }))
}

fn filter(query: &str) -> Result<ContactFilter, Vec<FieldError>> {
    let mut filter = ContactFilter { limit: LIMIT_DEFAULT, ..ContactFilter::default() };
    let mut wrong = Vec::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let read = match (key.as_ref(), value.as_ref()) {
            ("email" | "limit" | "cursor", "") => Ok(()),
            ("email", address) => address
                .parse::<EmailAddress>()
                .map(|address| filter.address = Some(address.normalized()))
                .map_err(|error| format!("{error} (a + is written %2B in a query)")),
            ("limit", count) => match count.parse() {
                Ok(count) if (1..=LIMIT_MAX).contains(&count) => {
                    filter.limit = count;
                    Ok(())
                }
                _ => Err(format!("a whole number, 1 to {LIMIT_MAX}")),
            },
            ("cursor", text) => match behind(text) {
                Some(customer) => {
                    filter.after = Some(customer);
                    Ok(())
                }
                None => Err("not a cursor of this list".to_owned()),
            },
            _ => Err("unknown; there are email, limit, cursor".to_owned()),
        };
        if let Err(detail) = read {
            wrong.push(FieldError::new(pointer(&key), detail));
        }
    }
    if wrong.is_empty() { Ok(filter) } else { Err(wrong) }
}

/// Where a page ended. Opaque to callers.
fn cursor(last: &CustomerId) -> String {
    URL_SAFE_NO_PAD.encode([&[CURSOR_VERSION], last.as_str().as_bytes()].concat())
}

fn behind(cursor: &str) -> Option<CustomerId> {
    match URL_SAFE_NO_PAD.decode(cursor).ok()?.split_first()? {
        (&CURSOR_VERSION, customer) => std::str::from_utf8(customer).ok()?.parse().ok(),
        _ => None,
    }
}

// --- what they have in common ---

fn customer(path: &Path) -> Result<CustomerId, Problem> {
    path.parse().map_err(|detail: String| Problem::invalid(vec![FieldError::new("/customerId", detail)]))
}

fn no_contact() -> Problem {
    Problem::saying(Kind::NotFound, "there is no such contact")
}

/// A query's key as a JSON pointer (RFC 6901), at most as long as a key of ours could be.
fn pointer(key: &str) -> String {
    let key: String = key.chars().filter(|c| !c.is_control() && *c != '@').take(32).collect();
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    #[test]
    fn a_list_begins_behind_any_customer() {
        for customer in ["C-1", "a/b?c", "Zo\u{eb} \u{6ce8}"] {
            let customer: CustomerId = customer.parse().unwrap();
            assert_eq!(behind(&cursor(&customer)), Some(customer));
        }
        for wrong in ["AQ", "x", "", &URL_SAFE_NO_PAD.encode([2, 65]), &URL_SAFE_NO_PAD.encode([1, 0xff])] {
            assert_eq!(behind(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_mistake_in_a_query_is_named_at_once() {
        let wrong = filter("email=zq&limit=201&cursor=zq&name=zq&limit=0").unwrap_err();
        let pointers: Vec<_> = wrong.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/email", "/limit", "/cursor", "/name", "/limit"]);
        assert!(wrong.iter().all(|error| !error.detail.contains("zq")));
        assert_eq!(filter("email=Ann%2Bx%40B.example").unwrap().address.as_deref(), Some("ann+x@b.example"));
        assert_eq!(filter("").unwrap().limit, 50);
        assert_eq!(looking("lookup=true"), Ok(Looking::Everywhere));
        assert_eq!(looking("lookup=1&x=").unwrap_err().len(), 2);
    }
}
