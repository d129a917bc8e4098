//! `/v1/wallets`: who has a pass in which wallet, for a CRM that asks, and how that develops.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::streaming::{self, Pages, STREAMED_AT_ONCE};
use super::wallets_query::{self, ChangesQuery, place_text};
use crate::domain::csv;
use crate::domain::ids::TenantId;
use crate::domain::key::Scope;
use crate::domain::message::sheet::Form;
use crate::domain::pass_event::{EventKind, Wallet, normalized_identifier};
use crate::domain::time;
use crate::domain::wallet::WalletStatus;
use crate::domain::wallet::history::Standing;
use crate::http::AppState;
use crate::http::auth::Caller;
use crate::http::problem::{Kind, Problem};
use crate::store::{ChangePlace, CustomerWallet, LedgerEntry, PassView, Store, StoreError, Trend, TrendCounts};

const CSV_HEAD: &str = "customerId,knownBy,walletStatus,appleWalletInstalledAt,googleWalletInstalledAt,\
                        walletLastChangedAt,walletLastEvent,joined,cursor\r\n";

type App = web::Data<AppState>;

/// A customer's wallets, as shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    /// `None` while only a pass is known.
    customer_id: Option<&'a str>,
    known_by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass_id: Option<&'a str>,
    wallet_status: WalletStatus,
    #[serde(serialize_with = "time::write_or_null")]
    apple_wallet_installed_at: Option<Timestamp>,
    #[serde(serialize_with = "time::write_or_null")]
    google_wallet_installed_at: Option<Timestamp>,
    #[serde(serialize_with = "time::write")]
    wallet_last_changed_at: Timestamp,
    wallet_last_event: EventKind,
    /// Whose the passes are that were here.
    #[serde(skip_serializing_if = "Option::is_none")]
    joined: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    passes: Option<Vec<ShownPass<'a>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownPass<'a> {
    pass_id: Option<&'a str>,
    pass_type: Option<&'a str>,
    identifiers: &'a std::collections::BTreeMap<String, String>,
    apple: Option<ShownStanding>,
    google: Option<ShownStanding>,
}

/// How a pass stands in one wallet.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownStanding {
    installed: bool,
    #[serde(serialize_with = "time::write")]
    since: Timestamp,
    active_registration_count: Option<u32>,
    total_registration_count: Option<u32>,
}

impl From<Standing> for ShownStanding {
    fn from(standing: Standing) -> Self {
        Self {
            installed: standing.last == EventKind::Installed,
            since: standing.since,
            active_registration_count: standing.active,
            total_registration_count: standing.total,
        }
    }
}

impl<'a> Shown<'a> {
    fn of(wallet: &'a CustomerWallet) -> Self {
        let CustomerWallet { customer, projection, joined, .. } = wallet;
        let by_pass = customer.is_by_pass();
        Self {
            customer_id: (!by_pass).then_some(customer.value.as_str()),
            known_by: &customer.by,
            pass_id: by_pass.then_some(customer.value.as_str()),
            wallet_status: projection.status,
            apple_wallet_installed_at: projection.apple_installed_at,
            google_wallet_installed_at: projection.google_installed_at,
            wallet_last_changed_at: projection.changed_at,
            wallet_last_event: projection.last_event,
            joined: joined.as_deref(),
            cursor: None,
            passes: None,
        }
    }

    fn with_cursor(wallet: &'a CustomerWallet) -> Self {
        Self { cursor: Some(place_text(&wallet.place)), ..Self::of(wallet) }
    }
}

impl<'a> ShownPass<'a> {
    fn of(pass: &'a PassView) -> Self {
        let standing = |wallet| pass.standings.get(wallet).map(ShownStanding::from);
        Self {
            pass_id: pass.pass.as_deref(),
            pass_type: pass.pass_type.as_deref(),
            identifiers: &pass.identifiers,
            apple: standing(Wallet::Apple),
            google: standing(Wallet::Google),
        }
    }
}

// --- GET /v1/wallets/{customerId} ---

/// One customer's wallets and passes.
pub async fn show(app: App, caller: Caller, customer: web::Path<String>) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Read)?;
    let (wallet, passes) = find(&app, caller.tenant(), customer.into_inner()).await?;
    let passes = passes.iter().map(ShownPass::of).collect();
    Ok(HttpResponse::Ok().json(Shown { passes: Some(passes), ..Shown::of(&wallet) }))
}

/// A customer, whatever way their identifier may be written.
async fn find(app: &App, tenant: &TenantId, value: String) -> Result<(CustomerWallet, Vec<PassView>), Problem> {
    let normalized = normalized_identifier(&value);
    let is_other = normalized != value;
    let mut found = app.store.customer_wallet(tenant, normalized).await?;
    if found.is_none() && is_other {
        // A pass's own id is kept as it is, even if it looks like an address.
        found = app.store.customer_wallet(tenant, value).await?;
    }
    found.ok_or_else(|| Problem::saying(Kind::NotFound, "no pass event ever named such a customer"))
}

// --- GET /v1/wallets/{customerId}/events ---

#[derive(Serialize)]
struct Ledger {
    items: Vec<Value>,
}

/// The ledger of one customer: what came in of all their passes, and what it turned out to be, the latest first.
pub async fn events(
    app: App,
    caller: Caller,
    customer: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Read)?;
    let limit = wallets_query::events(request.query_string()).map_err(Problem::invalid)?;
    let tenant = caller.tenant();
    let (wallet, _) = find(&app, tenant, customer.into_inner()).await?;
    let entries = app.store.wallet_events(tenant, wallet.customer, limit).await?;
    Ok(HttpResponse::Ok().json(Ledger { items: entries.iter().map(event).collect() }))
}

fn event(entry: &LedgerEntry) -> Value {
    serde_json::json!({
        "eventId": entry.id,
        "passId": entry.pass,
        "event": entry.kind,
        "device": entry.wallet,
        "occurredAt": time::text(entry.at),
        "receivedAt": time::text(entry.received_at),
        "change": entry.change,
        "flapped": entry.flapped,
        "way": entry.way.as_str(),
        "activeRegistrationCount": entry.counts.active,
        "totalRegistrationCount": entry.counts.total,
        "source": entry.source,
    })
}

// --- GET /v1/wallets ---

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    items: Vec<Shown<'a>>,
    /// Where the next reading begins: it is there also when nothing more was found.
    next_cursor: Option<String>,
    more: bool,
}

/// Customers whose wallets changed behind a cursor, in the order of their changes: a page of JSON, or all of them as CSV or
/// NDJSON, where each row tells the cursor behind it.
pub async fn list(app: App, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Read)?;
    let query = wallets_query::changes(request.query_string()).map_err(Problem::invalid)?;
    let Some(form) = streaming::form(request.headers()) else { return page(&app, caller.tenant(), query).await };
    let (store, tenant) = (Arc::clone(&app.store), caller.tenant().clone());
    let walk = Walk { store, tenant, after: query.after, left: query.limit, form };
    let head = if form == Form::Csv { CSV_HEAD.to_owned() } else { String::new() };
    Ok(streaming::stream_of(walk, form, head).await?)
}

async fn page(app: &App, tenant: &TenantId, query: ChangesQuery) -> Result<HttpResponse, Problem> {
    let ChangesQuery { after, limit } = query;
    let limit = limit.unwrap_or(wallets_query::LIMIT_DEFAULT);
    // One more than is shown tells whether there are more.
    let mut wallets = app.store.wallets_changed(tenant, after.clone(), limit + 1).await?;
    let more = wallets.len() > limit;
    wallets.truncate(limit);
    let next = wallets.last().map(|wallet| &wallet.place).or(after.as_ref());
    let next_cursor = next.map(place_text);
    let items = wallets.iter().map(Shown::of).collect();
    Ok(HttpResponse::Ok().json(Page { items, next_cursor, more }))
}

/// Where a list without end stands.
struct Walk {
    store: Arc<dyn Store>,
    tenant: TenantId,
    after: Option<ChangePlace>,
    left: Option<usize>,
    form: Form,
}

#[async_trait]
impl Pages for Walk {
    async fn step(&mut self, text: &mut String) -> Result<bool, StoreError> {
        let limit = self.left.map_or(STREAMED_AT_ONCE, |left| left.min(STREAMED_AT_ONCE));
        let wallets = self.store.wallets_changed(&self.tenant, self.after.take(), limit).await?;
        for wallet in &wallets {
            let shown = Shown::with_cursor(wallet);
            match self.form {
                Form::Csv => csv_line(&shown, text),
                Form::Ndjson => {
                    text.push_str(&serde_json::to_string(&shown).unwrap_or_default());
                    text.push('\n');
                }
            }
        }
        self.after = wallets.last().map(|wallet| wallet.place.clone());
        self.left = self.left.map(|left| left - wallets.len());
        Ok(wallets.len() == limit && self.left != Some(0))
    }
}

/// One line of CSV (RFC 4180). Values are exact: this is for programs, and a customer's id is a key there.
fn csv_line(shown: &Shown<'_>, text: &mut String) {
    let at = |at: Option<Timestamp>| at.map(time::text).unwrap_or_default();
    let cells = [
        shown.customer_id.or(shown.pass_id).unwrap_or_default().to_owned(),
        shown.known_by.to_owned(),
        shown.wallet_status.to_string(),
        at(shown.apple_wallet_installed_at),
        at(shown.google_wallet_installed_at),
        time::text(shown.wallet_last_changed_at),
        shown.wallet_last_event.as_str().to_owned(),
        shown.joined.unwrap_or_default().to_owned(),
        shown.cursor.clone().unwrap_or_default(),
    ];
    csv::line(cells.iter().map(String::as_str), text);
}

// --- GET /v1/wallets/trends ---

#[derive(Serialize)]
struct Trends {
    items: Vec<Value>,
    #[serde(serialize_with = "time::write")]
    since: Timestamp,
    #[serde(serialize_with = "time::write")]
    until: Timestamp,
    /// Whether rows were left out.
    truncated: bool,
}

/// How many installs and removals there were.
pub async fn trends(app: App, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Read)?;
    let mut query = wallets_query::trends(request.query_string(), app.ledger.now()).map_err(Problem::invalid)?;
    let (since, until, limit) = (query.since, query.until, query.limit);
    query.limit = limit + 1;
    let mut rows = app.store.wallet_trends(caller.tenant(), query).await?;
    let truncated = rows.len() > limit;
    rows.truncate(limit);
    Ok(HttpResponse::Ok().json(Trends { items: rows.iter().map(trend).collect(), since, until, truncated }))
}

fn trend(row: &Trend) -> Value {
    let values =
        row.values.iter().map(|(dimension, value)| (dimension.as_str().to_owned(), Value::from(value.clone())));
    let TrendCounts { first_installs, additional_devices, reinstalls, removals } = row.counts;
    let counts = [
        ("firstInstalls", first_installs),
        ("additionalDevices", additional_devices),
        ("reinstalls", reinstalls),
        ("removals", removals),
    ];
    let counts = counts.map(|(name, count)| (name.to_owned(), Value::from(count)));
    Value::Object(values.chain(counts).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use crate::domain::wallet::CustomerKey;
    use crate::domain::wallet::customer::Projection;

    #[test]
    fn a_line_of_csv_quotes_what_would_break_it() {
        let customer = CustomerKey { by: "customerId".to_owned(), value: "a,\"b\"\r\nc".to_owned() };
        let wallet = CustomerWallet {
            projection: Projection {
                status: WalletStatus::Apple,
                apple_installed_at: Some(Timestamp::UNIX_EPOCH),
                google_installed_at: None,
                changed_at: Timestamp::UNIX_EPOCH,
                last_event: EventKind::Installed,
            },
            place: ChangePlace { seq: 7, customer: customer.clone() },
            joined: None,
            customer,
        };
        let mut line = String::new();
        csv_line(&Shown::of(&wallet), &mut line);
        let time = "1970-01-01T00:00:00.000Z";
        assert_eq!(line, format!("\"a,\"\"b\"\"\r\nc\",customerId,apple,{time},,{time},installed,,\r\n"));
        assert_eq!(line.strip_suffix("\r\n").unwrap().matches(',').count(), CSV_HEAD.matches(',').count() + 1);
    }
}
