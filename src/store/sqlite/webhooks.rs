//! Events nobody knows: a bounded number of rows of each tenant, the oldest make room.

use async_trait::async_trait;
use rusqlite::{Connection, Row, named_params};

use super::SqliteStore;
use super::accept::millis;
use super::fault::{Cells, Fault};
use super::sweep::limit_of;
use super::writer::Writing;
use crate::domain::ids::{EventId, TenantId};
use crate::store::{
    Bodies, NewUnknown, StoreError, UnknownEvent, UnknownKept, UnknownLimits, UnknownView, WebhookStore,
};

#[async_trait]
impl WebhookStore for SqliteStore {
    async fn keep_unknown(
        &self,
        tenant: &TenantId,
        events: Vec<NewUnknown>,
        limits: UnknownLimits,
    ) -> Result<Vec<UnknownKept>, StoreError> {
        let tenant = tenant.clone();
        let work = move |connection: &Writing<'_>| keep(connection, &tenant, &events, limits);
        self.write("keeping events nobody knows", work).await
    }

    async fn unknown_events(&self, tenant: &TenantId, bodies: Bodies) -> Result<Vec<UnknownView>, StoreError> {
        let tenant = tenant.clone();
        self.list("listing events nobody knows", move |connection| unknown(connection, &tenant, bodies)).await
    }
}

fn keep(
    connection: &Writing<'_>,
    tenant: &TenantId,
    events: &[NewUnknown],
    limits: UnknownLimits,
) -> Result<Vec<UnknownKept>, Fault> {
    let mut kept = Vec::with_capacity(events.len());
    for event in events {
        kept.push(match known(connection, tenant, &event.event.digest)? {
            Some(id) => UnknownKept::Known(id),
            None => insert(connection, tenant, event, limits)?,
        });
    }
    make_room(connection, tenant, limits)?;
    Ok(kept)
}

fn known(connection: &Connection, tenant: &TenantId, digest: &[u8; 32]) -> Result<Option<EventId>, Fault> {
    let sql = r"-- known_unknown
        SELECT id FROM webhook_unknown WHERE tenant = :tenant AND digest = :digest";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":tenant": tenant.as_str(), ":digest": digest })?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let cells = Cells::new(row, "webhook_unknown");
    cells.event_id("id").map(Some)
}

fn insert(
    connection: &Connection,
    tenant: &TenantId,
    NewUnknown { id, received_at, event }: &NewUnknown,
    limits: UnknownLimits,
) -> Result<UnknownKept, Fault> {
    let UnknownEvent { name, keys, digest, body } = event;
    let is_kept = body.len() <= limits.bytes_max;
    let sql = r"-- insert_unknown
        INSERT INTO webhook_unknown (tenant, id, received_at, name, keys, digest, bytes, kept_bytes, body)
        VALUES (:tenant, :id, :received_at, :name, :keys, :digest, :bytes, :kept_bytes, :body)";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":tenant": tenant.as_str(),
        ":id": id.as_bytes(),
        ":received_at": millis(*received_at),
        ":name": name,
        ":keys": serde_json::json!(keys).to_string(),
        ":digest": digest,
        ":bytes": limit_of(body.len()),
        ":kept_bytes": limit_of(if is_kept { body.len() } else { 0 }),
        ":body": is_kept.then_some(body),
    })?;
    Ok(UnknownKept::New(*id))
}

/// Drops the oldest until the rest is within the limits. Looks at an index only, and at no body.
fn make_room(connection: &Connection, tenant: &TenantId, limits: UnknownLimits) -> Result<(), Fault> {
    let tenant_name = tenant.as_str();
    let tenant = named_params! { ":tenant": tenant_name };
    let sql = r"-- count_unknown
        SELECT count(*), coalesce(sum(kept_bytes), 0) FROM webhook_unknown WHERE tenant = :tenant";
    let counted = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
    let (mut events, mut bytes) = connection.prepare_cached(sql)?.query_row(tenant, counted)?;
    let sql = r"-- oldest_unknown
        SELECT id, kept_bytes FROM webhook_unknown WHERE tenant = :tenant ORDER BY id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut oldest = statement.query(tenant)?;
    let mut dropped = Vec::new();
    let (events_max, bytes_max) = (limit_of(limits.events_max), limit_of(limits.bytes_max));
    while events > events_max || bytes > bytes_max {
        let Some(row) = oldest.next()? else { break };
        dropped.push(row.get::<_, Vec<u8>>(0)?);
        (events, bytes) = (events - 1, bytes - row.get::<_, i64>(1)?);
    }
    drop(oldest);
    let sql = r"-- drop_unknown
        DELETE FROM webhook_unknown WHERE id = :id AND tenant = :tenant";
    let mut statement = connection.prepare_cached(sql)?;
    for id in dropped {
        statement.execute(named_params! { ":id": id, ":tenant": tenant_name })?;
    }
    Ok(())
}

fn unknown(connection: &Connection, tenant: &TenantId, bodies: Bodies) -> Result<Vec<UnknownView>, Fault> {
    let sql = r"-- unknown_events
        SELECT id, received_at, name, keys, bytes, CASE WHEN :shown THEN body END AS body
        FROM webhook_unknown WHERE tenant = :tenant ORDER BY id DESC";
    let mut statement = connection.prepare_cached(sql)?;
    let shown = bodies == Bodies::Shown;
    let mut rows = statement.query(named_params! { ":tenant": tenant.as_str(), ":shown": shown })?;
    let mut views = Vec::new();
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "webhook_unknown");
        views.push(UnknownView {
            event_id: cells.event_id("id")?,
            name: cells.plain("name")?,
            received_at: cells.time("received_at")?,
            bytes: cells.plain("bytes")?,
            keys: cells.json("keys")?,
            body: cells.plain("body")?,
        });
    }
    Ok(views)
}
