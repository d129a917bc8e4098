//! What goes into the outbox: changes of messages, read from the audit behind a cursor, and statuses of customers that are
//! due. The cursor, or the mark of what was told, moves in the transaction that keeps the pushes.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};
use serde_json::{Map, Value};
use uuid::{NoContext, Uuid};

use crate::domain::ids::{EndpointName, MessageId, PushId, TenantId};
use crate::domain::message::MessageView;
use crate::domain::push::{self, Endpoint, Event, MessageChange};
use crate::domain::wallet::WalletStatus;
use crate::domain::wallet::customer::Projection;
use crate::store::sqlite::accept::millis;
use crate::store::sqlite::attempts::tell_unreadable;
use crate::store::sqlite::audit::next_leaf;
use crate::store::sqlite::fault::{Cells, Fault};
use crate::store::sqlite::messages;
use crate::store::sqlite::sweep::limit_of;
use crate::store::sqlite::wallets::read_projection;
use crate::store::sqlite::writer::Writing;
use crate::store::{MessageChanges, NewPush};

/// Leaves that are looked at for one change: most may be other tenants', or tell receivers nothing.
const LEAVES_PER_CHANGE: usize = 20;
/// An endpoint is told of leaves from this one on, whichever it is.
const ANY_LEAF: i64 = i64::MAX;

/// Notes which endpoints are configured; where the reading of the audit goes on.
pub(super) fn configure(connection: &Writing<'_>, endpoints: &[Endpoint]) -> Result<u64, Fault> {
    let sql = r"-- configured_endpoints
        SELECT tenant, endpoint FROM push_endpoint WHERE is_configured";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut before = BTreeSet::new();
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "push_endpoint");
        before.insert(Endpoint { tenant: cells.word("tenant")?, endpoint: cells.word("endpoint")? });
    }
    let end = next_leaf(connection)?;
    let cursor = cursor(connection)?;
    // While nobody listened nobody read.
    let next = if before.is_empty() { end } else { cursor.unwrap_or(end) };
    set_cursor(connection, next)?;
    let sql = r"-- endpoint_came
        INSERT INTO push_endpoint (tenant, endpoint, is_configured, from_leaf) VALUES (:tenant, :endpoint, 1, :from_leaf)
        ON CONFLICT DO UPDATE SET is_configured = 1, from_leaf = excluded.from_leaf";
    for endpoint in endpoints.iter().filter(|endpoint| !before.contains(endpoint)) {
        let Endpoint { tenant, endpoint } = endpoint;
        let params = named_params! { ":tenant": tenant.as_str(), ":endpoint": endpoint.as_str(), ":from_leaf": end };
        connection.prepare_cached(sql)?.execute(params)?;
    }
    let sql = r"-- endpoint_left
        UPDATE push_endpoint SET is_configured = 0 WHERE tenant = :tenant AND endpoint = :endpoint";
    for endpoint in before.iter().filter(|endpoint| !endpoints.contains(endpoint)) {
        let Endpoint { tenant, endpoint } = endpoint;
        let params = named_params! { ":tenant": tenant.as_str(), ":endpoint": endpoint.as_str() };
        connection.prepare_cached(sql)?.execute(params)?;
    }
    Ok(u64::try_from(next).unwrap_or_default())
}

fn cursor(connection: &Connection) -> Result<Option<i64>, Fault> {
    let sql = r"-- push_cursor
        SELECT next_leaf FROM push_cursor WHERE id = 0";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?)
}

fn set_cursor(connection: &Writing<'_>, next: i64) -> Result<(), Fault> {
    let sql = r"-- set_push_cursor
        INSERT INTO push_cursor (id, next_leaf) VALUES (0, :next)
        ON CONFLICT DO UPDATE SET next_leaf = excluded.next_leaf";
    connection.prepare_cached(sql)?.execute(named_params! { ":next": next })?;
    Ok(())
}

/// A leaf of the audit as it is read here.
struct Leaf {
    seq: i64,
    at: Timestamp,
    kind: String,
    tenant: String,
    message: Option<MessageId>,
    bytes: Vec<u8>,
}

/// The changes of messages of these tenants among the next leaves.
pub(super) fn message_changes(
    connection: &Connection,
    next: u64,
    tenants: &[TenantId],
    limit: usize,
) -> Result<MessageChanges, Fault> {
    let sql = r"-- leaves_to_push
        SELECT seq, at, kind, tenant, message, leaf FROM audit_leaf WHERE seq >= :next ORDER BY seq LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let from = i64::try_from(next).unwrap_or(i64::MAX);
    let looked_at = limit.saturating_mul(LEAVES_PER_CHANGE);
    let mut rows = statement.query(named_params! { ":next": from, ":limit": limit_of(looked_at) })?;
    let mut page = MessageChanges { changes: Vec::new(), next };
    while page.changes.len() < limit
        && let Some(row) = rows.next()?
    {
        let seq: i64 = row.get("seq")?;
        let number = u64::try_from(seq).unwrap_or_default();
        page.next = number + 1;
        let cells = Cells::new(row, "audit_leaf");
        let read = || {
            Ok(Leaf {
                seq,
                at: cells.time("at")?,
                kind: cells.plain("kind")?,
                tenant: cells.plain("tenant")?,
                message: cells.plain::<Option<Vec<u8>>>("message")?.as_deref().and_then(MessageId::from_slice),
                bytes: cells.plain("leaf")?,
            })
        };
        match read().and_then(|leaf| change(connection, leaf, tenants)) {
            Ok(Some(change)) => page.changes.push((number, change)),
            Ok(None) => {}
            Err(fault) => tell_unreadable(fault)?,
        }
    }
    Ok(page)
}

/// What a leaf tells of a message, if receivers of one of these tenants may want to know.
fn change(connection: &Connection, leaf: Leaf, tenants: &[TenantId]) -> Result<Option<MessageChange>, Fault> {
    let Some(tenant) = tenants.iter().find(|tenant| tenant.as_str() == leaf.tenant) else { return Ok(None) };
    let Some(id) = leaf.message.filter(|_| push::message_event_of(&leaf.kind).is_some()) else { return Ok(None) };
    let found: Option<MessageView> = messages::message(connection, tenant, id)?;
    let Some(message) = found else { return Ok(None) };
    let corrupt = |_| Fault::Corrupt { table: "audit_leaf", column: "leaf", id: leaf.seq.to_string() };
    let facts: Map<String, Value> = serde_json::from_slice(&leaf.bytes).map_err(corrupt)?;
    Ok(Some(MessageChange { at: leaf.at, kind: leaf.kind, leaf: facts, message }))
}

/// Keeps pushes and moves the cursor, if it still stands at `from`; where it stands then.
pub(super) fn keep(
    connection: &Writing<'_>,
    (from, next): (u64, u64),
    pushes: &[(u64, NewPush)],
    at: Timestamp,
) -> Result<u64, Fault> {
    let number = |leaf: u64| i64::try_from(leaf).unwrap_or(i64::MAX);
    let place = cursor(connection)?.unwrap_or_default();
    if place != number(from) {
        return Ok(u64::try_from(place).unwrap_or_default());
    }
    set_cursor(connection, number(next))?;
    for (leaf, NewPush { endpoint, event }) in pushes {
        insert(connection, (&endpoint.tenant, &endpoint.endpoint), event, number(*leaf), at)?;
    }
    Ok(next)
}

/// Keeps pushes of what no leaf tells, in the transaction of what they tell.
pub(in crate::store::sqlite) fn tell(connection: &Writing<'_>, pushes: &[NewPush], at: Timestamp) -> Result<(), Fault> {
    let mut pushes = pushes.iter();
    pushes.try_for_each(|NewPush { endpoint, event }| {
        insert(connection, (&endpoint.tenant, &endpoint.endpoint), event, ANY_LEAF, at)
    })
}

/// Keeps a push for an endpoint that is configured and told of this leaf.
fn insert(
    connection: &Writing<'_>,
    (tenant, endpoint): (&TenantId, &EndpointName),
    event: &Event,
    leaf: i64,
    at: Timestamp,
) -> Result<(), Fault> {
    let sql = r"-- keep_push
        INSERT INTO push (id, tenant, endpoint, event, subject, state, due_at, made_at, body)
        SELECT :id, tenant, endpoint, :event, :subject, 'pending', :at, :at, :body FROM push_endpoint
        WHERE tenant = :tenant AND endpoint = :endpoint AND is_configured AND from_leaf <= :leaf";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":id": new_id(at).as_bytes(),
        ":event": event.name,
        ":subject": event.subject,
        ":at": millis(at),
        ":body": event.body,
        ":tenant": tenant.as_str(),
        ":endpoint": endpoint.as_str(),
        ":leaf": leaf,
    })?;
    Ok(())
}

fn new_id(at: Timestamp) -> PushId {
    let seconds = u64::try_from(at.as_second()).unwrap_or_default();
    let nanoseconds = u32::try_from(at.subsec_nanosecond()).unwrap_or_default();
    PushId::from_uuid(Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanoseconds)))
}

/// Whether a customer's status is due to be told.
pub(super) fn is_wallet_due(connection: &Connection, at: Timestamp) -> Result<bool, Fault> {
    let sql = r"-- is_wallet_due
        SELECT 1 FROM wallet_customer INDEXED BY wallet_customer_push_due WHERE push_due_at <= :at";
    Ok(connection.prepare_cached(sql)?.exists(named_params! { ":at": millis(at) })?)
}

/// A customer whose status is due to be told.
struct DueWallet {
    tenant: String,
    customer: String,
    known_by: String,
    /// Whose their passes are now.
    joined: Option<String>,
    /// How they stand now, and what was told last, if that is something else.
    change: Option<(Projection, WalletStatus)>,
}

fn due_wallet(row: &Row<'_>) -> Result<DueWallet, Fault> {
    let cells = Cells::new(row, "wallet_customer");
    let read = || {
        // A customer of whom nothing was ever told has, for receivers, no pass.
        let previous = cells.word_or_none("pushed_status")?.unwrap_or(WalletStatus::None);
        let projection = read_projection(&cells)?;
        Ok((projection.status != previous).then_some((projection, previous)))
    };
    Ok(DueWallet {
        tenant: row.get("tenant")?,
        customer: row.get("customer")?,
        known_by: row.get("known_by")?,
        joined: row.get("joined")?,
        // A row that cannot be read is passed over, and keeps no other waiting.
        change: read().or_else(|fault| tell_unreadable(fault).map(|()| None))?,
    })
}

/// Tells the endpoints of each tenant how its customers stand now. Where nobody wants to know, nothing stays due.
pub(super) fn push_wallets(
    connection: &Writing<'_>,
    wanting: &[(TenantId, Vec<EndpointName>)],
    at: Timestamp,
    limit: usize,
) -> Result<usize, Fault> {
    let sql = r"-- wallets_to_push
        SELECT tenant, customer, known_by, status, apple_installed_at, google_installed_at, changed_at, last_event,
            pushed_status, joined
        FROM wallet_customer INDEXED BY wallet_customer_push_due
        WHERE push_due_at <= :at ORDER BY push_due_at LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":at": millis(at), ":limit": limit_of(limit) })?;
    // Read to the end before the rows that the walk leads through are changed.
    let mut due = Vec::new();
    while let Some(row) = rows.next()? {
        due.push(due_wallet(row)?);
    }
    drop(rows);
    let sql = r"-- wallet_pushed
        UPDATE wallet_customer SET push_due_at = NULL, pushed_status = status
        WHERE tenant = :tenant AND customer = :customer AND known_by = :known_by";
    let told = due.len();
    for DueWallet { tenant, customer, known_by, joined, change } in due {
        let receivers = wanting.iter().find(|(wanting, _)| wanting.as_str() == tenant);
        if let (Some((tenant, endpoints)), Some((projection, previous))) = (receivers, change) {
            let event = push::wallet_changed(&customer, &projection, previous, joined.as_deref());
            for endpoint in endpoints {
                insert(connection, (tenant, endpoint), &event, ANY_LEAF, at)?;
            }
        }
        connection.prepare_cached(sql)?.execute(named_params! {
            ":tenant": tenant,
            ":customer": customer,
            ":known_by": known_by,
        })?;
    }
    Ok(told)
}
