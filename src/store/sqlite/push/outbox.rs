//! What is sent from the outbox, and what becomes of it.

use jiff::Timestamp;
use rusqlite::{Connection, Row, named_params};

use crate::domain::ids::PushId;
use crate::domain::push::Endpoint;
use crate::store::sqlite::accept::millis;
use crate::store::sqlite::attempts::tell_unreadable;
use crate::store::sqlite::fault::{Cells, Fault};
use crate::store::sqlite::sweep::limit_of;
use crate::store::sqlite::writer::Writing;
use crate::store::{DuePush, EndpointLook, EndpointState, PushSettled, Settling};

/// How endpoints stand, in their order.
pub(super) fn look(connection: &Connection, endpoints: &[Endpoint]) -> Result<Vec<EndpointLook>, Fault> {
    let sql = r"-- look_at_endpoint
        SELECT off_at, is_configured,
            (SELECT due_at FROM push INDEXED BY push_due
                WHERE push.tenant = :tenant AND push.endpoint = :endpoint AND state = 'pending'
                ORDER BY due_at, number LIMIT 1) AS due_at
        FROM push_endpoint WHERE tenant = :tenant AND endpoint = :endpoint";
    let mut statement = connection.prepare_cached(sql)?;
    let mut looks = Vec::with_capacity(endpoints.len());
    for Endpoint { tenant, endpoint } in endpoints {
        let mut rows = statement.query(named_params! { ":tenant": tenant.as_str(), ":endpoint": endpoint.as_str() })?;
        let unknown = EndpointLook { state: EndpointState::NotConfigured, due_at: None };
        looks.push(rows.next()?.map_or(Ok(unknown), |row| {
            let cells = Cells::new(row, "push_endpoint");
            Ok::<_, Fault>(EndpointLook { state: state(&cells)?, due_at: cells.time_or_none("due_at")? })
        })?);
    }
    Ok(looks)
}

/// Whether an endpoint may be called.
pub(super) fn state(cells: &Cells<'_>) -> Result<EndpointState, Fault> {
    Ok(match (cells.plain("is_configured")?, cells.time_or_none("off_at")?) {
        (false, _) => EndpointState::NotConfigured,
        (true, Some(_)) => EndpointState::Off,
        (true, None) => EndpointState::On,
    })
}

/// The next due pushes of an endpoint.
pub(super) fn due(
    connection: &Connection,
    endpoint: &Endpoint,
    at: Timestamp,
    limit: usize,
) -> Result<Vec<DuePush>, Fault> {
    let sql = r"-- due_pushes
        SELECT id, attempts, body FROM push INDEXED BY push_due
        WHERE tenant = :tenant AND endpoint = :endpoint AND state = 'pending' AND due_at <= :at
            AND NOT EXISTS (
                SELECT 1 FROM push AS earlier INDEXED BY push_of_subject
                WHERE earlier.tenant = push.tenant AND earlier.endpoint = push.endpoint
                    AND earlier.subject = push.subject AND earlier.number < push.number AND earlier.state = 'pending')
        ORDER BY due_at, number LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! {
        ":tenant": endpoint.tenant.as_str(),
        ":endpoint": endpoint.endpoint.as_str(),
        ":at": millis(at),
        ":limit": limit_of(limit),
    })?;
    let mut pushes = Vec::new();
    while let Some(row) = rows.next()? {
        match read_due(row) {
            Ok(push) => pushes.push(push),
            Err(fault) => tell_unreadable(fault)?,
        }
    }
    Ok(pushes)
}

fn read_due(row: &Row<'_>) -> Result<DuePush, Fault> {
    let cells = Cells::new(row, "push");
    Ok(DuePush { id: push_id(&cells)?, attempts: cells.plain("attempts")?, body: cells.plain("body")? })
}

pub(super) fn push_id(cells: &Cells<'_>) -> Result<PushId, Fault> {
    PushId::from_slice(cells.blob("id")?).ok_or_else(|| cells.corrupt("id"))
}

/// Writes how an attempt ended.
pub(super) fn settle(
    connection: &Writing<'_>,
    id: PushId,
    settling: &Settling,
    at: Timestamp,
) -> Result<PushSettled, Fault> {
    let (due_at, is_dead, failure) = match settling {
        Settling::Delivered => {
            let sql = r"-- push_delivered
                DELETE FROM push WHERE id = :id";
            let deleted = connection.prepare_cached(sql)?.execute(named_params! { ":id": id.as_bytes() })?;
            return Ok(settled(deleted));
        }
        Settling::Again { due_at, failure } => (Some(*due_at), false, Some(failure)),
        Settling::Dead { failure } => (None, true, Some(failure)),
        Settling::EndpointGone => (None, false, None),
    };
    let sql = r"-- push_failed
        UPDATE push SET state = CASE WHEN :dead THEN 'dead' ELSE state END, due_at = coalesce(:due_at, due_at),
            attempts = attempts + (:failure IS NOT NULL), failure = coalesce(:failure, '410'), tried_at = :at
        WHERE id = :id AND state = 'pending'";
    let changed = connection.prepare_cached(sql)?.execute(named_params! {
        ":id": id.as_bytes(),
        ":dead": is_dead,
        ":due_at": due_at.map(millis),
        ":failure": failure,
        ":at": millis(at),
    })?;
    if *settling == Settling::EndpointGone {
        let sql = r"-- endpoint_gone
            UPDATE push_endpoint SET off_at = coalesce(off_at, :at)
            WHERE (tenant, endpoint) = (SELECT tenant, endpoint FROM push WHERE id = :id)";
        connection.prepare_cached(sql)?.execute(named_params! { ":id": id.as_bytes(), ":at": millis(at) })?;
    }
    Ok(settled(changed))
}

fn settled(rows: usize) -> PushSettled {
    if rows == 1 { PushSettled::Written } else { PushSettled::NoPush }
}

/// A push and where its endpoint is counted.
pub(super) struct Doomed {
    number: i64,
    tenant: String,
    endpoint: String,
}

/// Pushes made before a time.
pub(super) fn too_old(connection: &Connection, before: Timestamp, limit: usize) -> Result<Vec<Doomed>, Fault> {
    let sql = r"-- pushes_too_old
        SELECT number, tenant, endpoint FROM push INDEXED BY push_made
        WHERE made_at < :before ORDER BY made_at LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let params = named_params! { ":before": millis(before), ":limit": limit_of(limit) };
    let found = statement.query_map(params, doomed)?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// What an endpoint has beyond its measure: the dead first, then the oldest.
pub(super) fn too_many(
    connection: &Connection,
    endpoint: &Endpoint,
    kept_max: u64,
    limit: usize,
) -> Result<Vec<Doomed>, Fault> {
    let sql = r"-- count_pushes
        SELECT count(*) FROM push INDEXED BY push_kept WHERE tenant = :tenant AND endpoint = :endpoint";
    let params = named_params! { ":tenant": endpoint.tenant.as_str(), ":endpoint": endpoint.endpoint.as_str() };
    let kept: i64 = connection.prepare_cached(sql)?.query_row(params, |row| row.get(0))?;
    let excess = kept.saturating_sub(i64::try_from(kept_max).unwrap_or(i64::MAX)).min(limit_of(limit));
    if excess <= 0 {
        return Ok(Vec::new());
    }
    let sql = r"-- pushes_too_many
        SELECT number, tenant, endpoint FROM push INDEXED BY push_kept
        WHERE tenant = :tenant AND endpoint = :endpoint ORDER BY state, number LIMIT :excess";
    let mut statement = connection.prepare_cached(sql)?;
    let params = named_params! {
        ":tenant": endpoint.tenant.as_str(),
        ":endpoint": endpoint.endpoint.as_str(),
        ":excess": excess,
    };
    let found = statement.query_map(params, doomed)?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn doomed(row: &Row<'_>) -> Result<Doomed, rusqlite::Error> {
    Ok(Doomed { number: row.get("number")?, tenant: row.get("tenant")?, endpoint: row.get("endpoint")? })
}

/// Drops pushes that are still there, and counts them.
pub(super) fn drop_all(connection: &Writing<'_>, doomed: &[Doomed]) -> Result<usize, Fault> {
    let sql = r"-- drop_push
        DELETE FROM push WHERE number = :number AND tenant = :tenant AND endpoint = :endpoint";
    let count = r"-- count_dropped
        UPDATE push_endpoint SET dropped = dropped + 1 WHERE tenant = :tenant AND endpoint = :endpoint";
    let mut dropped = 0;
    for Doomed { number, tenant, endpoint } in doomed {
        let params = named_params! { ":number": number, ":tenant": tenant, ":endpoint": endpoint };
        if connection.prepare_cached(sql)?.execute(params)? == 1 {
            dropped += 1;
            let params = named_params! { ":tenant": tenant, ":endpoint": endpoint };
            connection.prepare_cached(count)?.execute(params)?;
        }
    }
    Ok(dropped)
}

/// Has these dead letters sent again.
pub(super) fn replay_ids(connection: &Writing<'_>, ids: &[PushId], at: Timestamp) -> Result<u64, Fault> {
    let sql = r"-- replay_push
        UPDATE push SET state = 'pending', due_at = :at, attempts = 0 WHERE id = :id AND state = 'dead'";
    let mut replayed = 0;
    for id in ids {
        let changed =
            connection.prepare_cached(sql)?.execute(named_params! { ":id": id.as_bytes(), ":at": millis(at) })?;
        replayed += u64::try_from(changed).unwrap_or_default();
    }
    Ok(replayed)
}

/// Has dead letters of an endpoint sent again, `limit` at most.
pub(super) fn replay_of(
    connection: &Writing<'_>,
    endpoint: &Endpoint,
    since: Timestamp,
    at: Timestamp,
    limit: usize,
) -> Result<u64, Fault> {
    let sql = r"-- replay_pushes
        UPDATE push SET state = 'pending', due_at = :at, attempts = 0 WHERE number IN (
            SELECT number FROM push INDEXED BY push_kept
            WHERE tenant = :tenant AND endpoint = :endpoint AND state = 'dead' AND made_at >= :since
            ORDER BY number LIMIT :limit)";
    let changed = connection.prepare_cached(sql)?.execute(named_params! {
        ":tenant": endpoint.tenant.as_str(),
        ":endpoint": endpoint.endpoint.as_str(),
        ":since": millis(since),
        ":at": millis(at),
        ":limit": limit_of(limit),
    })?;
    Ok(u64::try_from(changed).unwrap_or_default())
}

/// Switches an endpoint on again; whether it was off.
pub(super) fn enable(connection: &Writing<'_>, endpoint: &Endpoint) -> Result<bool, Fault> {
    let sql = r"-- enable_endpoint
        UPDATE push_endpoint SET off_at = NULL
        WHERE tenant = :tenant AND endpoint = :endpoint AND off_at IS NOT NULL";
    let params = named_params! { ":tenant": endpoint.tenant.as_str(), ":endpoint": endpoint.endpoint.as_str() };
    Ok(connection.prepare_cached(sql)?.execute(params)? == 1)
}
