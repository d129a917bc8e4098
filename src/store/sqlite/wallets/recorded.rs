//! Reading the ledger as events that can be recorded again: in a store of its own, by a simulation.

use jiff::Timestamp;
use rusqlite::{Connection, Row, named_params};

use super::pass_of_key;
use super::record::event_id;
use crate::domain::ids::{EventId, TenantId};
use crate::domain::pass_event::{PassEvent, RegistrationCounts, Source};
use crate::domain::wallet::CustomerKey;
use crate::domain::wallet::identity::Identifiers;
use crate::store::sqlite::accept::millis;
use crate::store::sqlite::fault::{Cells, Fault};
use crate::store::sqlite::sweep::limit_of;
use crate::store::{RecordedEvent, RecordedQuery};

/// What a [`recorded`] reads.
const COLUMNS: &str =
    "event.id, event.pass_key, event.kind, event.wallet, event.at, event.since, event.received_at, event.way,
    event.active, event.total, event.pass_type, event.tags, event.medium, event.origin, event.user_agent,
    pass.customer, pass.known_by, pass.identifiers";

/// See [`crate::store::WalletStore::recorded_events`].
pub(super) fn events(
    connection: &Connection,
    tenant: &TenantId,
    query: &RecordedQuery,
) -> Result<Vec<RecordedEvent>, Fault> {
    let sql = format!(
        "-- recorded_events
        SELECT {COLUMNS} FROM pass_event AS event INDEXED BY pass_event_received
        JOIN wallet_pass AS pass USING (tenant, pass_key)
        WHERE event.tenant = :tenant AND event.received_at >= :since AND event.received_at < :until
            AND (event.received_at, event.id) > (:since, :after)
        ORDER BY event.received_at, event.id LIMIT :limit"
    );
    // An empty id stands before every other.
    let (since, after) = match &query.after {
        Some((at, id)) => (*at, EventId::as_bytes(id).as_slice()),
        None => (query.since, &[][..]),
    };
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(named_params! {
        ":tenant": tenant.as_str(),
        ":since": millis(since),
        ":after": after,
        ":until": millis(query.until),
        ":limit": limit_of(query.limit),
    })?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(recorded(row)?);
    }
    Ok(events)
}

/// See [`crate::store::WalletStore::recorded_before`].
pub(super) fn before(
    connection: &Connection,
    tenant: &TenantId,
    customer: &CustomerKey,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<RecordedEvent>, Fault> {
    let sql = format!(
        "-- recorded_before
        SELECT {COLUMNS} FROM wallet_pass AS pass JOIN pass_event AS event USING (tenant, pass_key)
        WHERE pass.tenant = :tenant AND pass.customer = :customer AND pass.known_by = :known_by
            AND event.received_at < :before
        ORDER BY event.received_at DESC, event.id DESC LIMIT :limit"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(named_params! {
        ":tenant": tenant.as_str(),
        ":customer": customer.value,
        ":known_by": customer.by,
        ":before": millis(before),
        ":limit": limit_of(limit),
    })?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(recorded(row)?);
    }
    events.reverse();
    Ok(events)
}

fn recorded(row: &Row<'_>) -> Result<RecordedEvent, Fault> {
    let cells = Cells::new(row, "pass_event");
    Ok(RecordedEvent {
        id: event_id(row)?,
        received_at: cells.time("received_at")?,
        customer: CustomerKey { value: cells.plain("customer")?, by: cells.plain("known_by")? },
        event: PassEvent {
            kind: cells.word("kind")?,
            wallet: cells.word("wallet")?,
            pass: pass_of_key(cells.plain("pass_key")?),
            pass_type: cells.plain("pass_type")?,
            identifiers: cells.json::<Identifiers>("identifiers")?.into_values(),
            counts: RegistrationCounts { active: cells.plain("active")?, total: cells.plain("total")? },
            source: Source {
                tags: cells.json("tags")?,
                medium: cells.plain("medium")?,
                origin: cells.plain("origin")?,
                user_agent: cells.plain("user_agent")?,
            },
            occurred_at: Some(cells.time("at")?),
            since: cells.time_or_none("since")?,
            // Repeats are not in the ledger: nothing need be known again.
            key: None,
            way: cells.word("way")?,
        },
    })
}
