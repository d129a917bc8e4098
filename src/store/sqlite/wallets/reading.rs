//! Reading what pass events added up to.

use rusqlite::{Connection, Row, named_params};

use super::aliases::{self, Meant};
use super::customers::read_projection;
use super::pass_of_key;
use super::record::event_id;
use crate::domain::ids::TenantId;
use crate::domain::pass_event::{RegistrationCounts, Source};
use crate::domain::wallet::CustomerKey;
use crate::domain::wallet::identity::Identifiers;
use crate::store::sqlite::fault::{Cells, Fault};
use crate::store::sqlite::sweep::limit_of;
use crate::store::{ChangePlace, CustomerWallet, LedgerEntry, PassView};

/// Passes of one customer that are shown.
const PASSES_SHOWN_MAX: usize = 1_000;

/// A customer by the value of an identifier, or by one of their passes.
pub(super) fn customer_wallet(
    connection: &Connection,
    tenant: &TenantId,
    value: &str,
) -> Result<Option<(CustomerWallet, Vec<PassView>)>, Fault> {
    let meant = aliases::meant(connection, tenant, value)?;
    let found = match meant.first() {
        Some(Meant { customer, .. }) => by_key(connection, tenant, customer)?,
        // Whoever was known by it before; then whose pass it is.
        None => match joined(connection, tenant, value)? {
            Some(found) => Some(found),
            None => owner(connection, tenant, value)?,
        },
    };
    let Some(found) = found else { return Ok(None) };
    let passes = passes_of(connection, tenant, &found.customer)?;
    Ok(Some((found, passes)))
}

fn by_key(connection: &Connection, tenant: &TenantId, customer: &CustomerKey) -> Result<Option<CustomerWallet>, Fault> {
    let sql = r"-- customer_by_key
        SELECT * FROM wallet_customer WHERE tenant = :tenant AND customer = :customer AND known_by = :known_by";
    let params: [(&str, &dyn rusqlite::ToSql); 3] =
        [(":tenant", &tenant.as_str()), (":customer", &customer.value), (":known_by", &customer.by)];
    Ok(customers(connection, sql, &params)?.pop())
}

/// The customer whose the passes are that were here.
fn joined(connection: &Connection, tenant: &TenantId, value: &str) -> Result<Option<CustomerWallet>, Fault> {
    let sql = r"-- customer_joined
        SELECT customer.* FROM wallet_customer AS before JOIN wallet_customer AS customer
            ON customer.tenant = before.tenant AND customer.customer = before.joined AND customer.joined IS NULL
        WHERE before.tenant = :tenant AND before.customer = :value AND before.joined IS NOT NULL
        ORDER BY customer.rank LIMIT 1";
    Ok(customers(connection, sql, &[(":tenant", &tenant.as_str()), (":value", &value)])?.pop())
}

/// Whose a pass is.
fn owner(connection: &Connection, tenant: &TenantId, pass: &str) -> Result<Option<CustomerWallet>, Fault> {
    let sql = r"-- customer_of_pass
        SELECT wallet_customer.* FROM wallet_pass
        JOIN wallet_customer USING (tenant, customer, known_by)
        WHERE wallet_pass.tenant = :tenant AND wallet_pass.pass_key = :pass";
    Ok(customers(connection, sql, &[(":tenant", &tenant.as_str()), (":pass", &pass)])?.pop())
}

/// Customers changed behind a place, in the order of their last changes.
pub(super) fn changed(
    connection: &Connection,
    tenant: &TenantId,
    after: Option<&ChangePlace>,
    limit: usize,
) -> Result<Vec<CustomerWallet>, Fault> {
    let sql = r"-- wallets_changed
        SELECT * FROM wallet_customer INDEXED BY wallet_customer_changed
        WHERE tenant = :tenant AND (changed_seq, customer, known_by) > (:seq, :customer, :known_by)
        ORDER BY changed_seq, customer, known_by LIMIT :limit";
    let seq = after.map_or(-1, |place| i64::try_from(place.seq).unwrap_or(i64::MAX));
    let (customer, known_by) =
        after.map_or(("", ""), |place| (place.customer.value.as_str(), place.customer.by.as_str()));
    let params: [(&str, &dyn rusqlite::ToSql); 5] = [
        (":tenant", &tenant.as_str()),
        (":seq", &seq),
        (":customer", &customer),
        (":known_by", &known_by),
        (":limit", &limit_of(limit)),
    ];
    customers(connection, sql, &params)
}

fn customers(
    connection: &Connection,
    sql: &str,
    params: &[(&str, &dyn rusqlite::ToSql)],
) -> Result<Vec<CustomerWallet>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read_customer(row)?);
    }
    Ok(found)
}

fn read_customer(row: &Row<'_>) -> Result<CustomerWallet, Fault> {
    let cells = Cells::new(row, "wallet_customer");
    let customer = CustomerKey { value: cells.plain("customer")?, by: cells.plain("known_by")? };
    Ok(CustomerWallet {
        projection: read_projection(&cells)?,
        place: ChangePlace { seq: seq_of(&cells)?, customer: customer.clone() },
        joined: cells.plain("joined")?,
        customer,
    })
}

fn seq_of(cells: &Cells<'_>) -> Result<u64, Fault> {
    u64::try_from(cells.plain::<i64>("changed_seq")?).map_err(|_| cells.corrupt("changed_seq"))
}

/// The passes of a customer, those first that changed last.
fn passes_of(connection: &Connection, tenant: &TenantId, customer: &CustomerKey) -> Result<Vec<PassView>, Fault> {
    let sql = r"-- passes_shown
        SELECT pass_key, pass_type, identifiers, standings FROM wallet_pass
        WHERE tenant = :tenant AND customer = :customer AND known_by = :known_by ORDER BY changed_at DESC LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! {
        ":tenant": tenant.as_str(),
        ":customer": customer.value,
        ":known_by": customer.by,
        ":limit": limit_of(PASSES_SHOWN_MAX),
    })?;
    let mut passes = Vec::new();
    while let Some(row) = rows.next()? {
        passes.push(read_pass(row)?);
    }
    Ok(passes)
}

/// The events of a customer's passes, the latest first.
pub(super) fn events(
    connection: &Connection,
    tenant: &TenantId,
    customer: &CustomerKey,
    limit: usize,
) -> Result<Vec<LedgerEntry>, Fault> {
    let sql = r"-- events_of_customer
        SELECT event.id, event.pass_key, event.kind, event.wallet, event.at, event.received_at, event.change,
            event.flapped, event.way, event.active, event.total, event.tags, event.medium, event.origin, event.user_agent
        FROM wallet_pass AS pass JOIN pass_event AS event USING (tenant, pass_key)
        WHERE pass.tenant = :tenant AND pass.customer = :customer AND pass.known_by = :known_by
        ORDER BY event.at DESC, event.kind DESC, event.id DESC LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! {
        ":tenant": tenant.as_str(),
        ":customer": customer.value,
        ":known_by": customer.by,
        ":limit": limit_of(limit),
    })?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "pass_event");
        events.push(LedgerEntry {
            id: event_id(row)?,
            pass: pass_of_key(cells.plain("pass_key")?),
            kind: cells.word("kind")?,
            wallet: cells.word("wallet")?,
            at: cells.time("at")?,
            received_at: cells.time("received_at")?,
            change: cells.word("change")?,
            flapped: cells.plain("flapped")?,
            way: cells.word("way")?,
            counts: RegistrationCounts { active: cells.plain("active")?, total: cells.plain("total")? },
            source: Source {
                tags: cells.json("tags")?,
                medium: cells.plain("medium")?,
                origin: cells.plain("origin")?,
                user_agent: cells.plain("user_agent")?,
            },
        });
    }
    Ok(events)
}

/// Those of these passes that are known.
pub(super) fn passes(connection: &Connection, tenant: &TenantId, passes: &[String]) -> Result<Vec<PassView>, Fault> {
    let sql = r"-- passes_by_id
        SELECT pass_key, pass_type, identifiers, standings FROM wallet_pass
        WHERE tenant = :tenant AND pass_key = :pass";
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = Vec::with_capacity(passes.len());
    for pass in passes {
        let mut rows = statement.query(named_params! { ":tenant": tenant.as_str(), ":pass": pass })?;
        if let Some(row) = rows.next()? {
            found.push(read_pass(row)?);
        }
    }
    Ok(found)
}

pub(in crate::store::sqlite) fn read_pass(row: &Row<'_>) -> Result<PassView, Fault> {
    let cells = Cells::new(row, "wallet_pass");
    let identifiers: Identifiers = cells.json("identifiers")?;
    Ok(PassView {
        pass: pass_of_key(cells.plain("pass_key")?),
        pass_type: cells.plain("pass_type")?,
        identifiers: identifiers.into_values(),
        standings: cells.json("standings")?,
    })
}
