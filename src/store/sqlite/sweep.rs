//! What time does to messages: unknowns that nobody decided, deadlines, forgotten keys; and rows that cannot be read.

use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use super::SqliteStore;
use super::accept::millis;
use super::attempts::{in_flight, tell_unreadable};
use super::audit;
use super::fault::{Cells, Fault};
use super::writer::Writing;
use super::{facts, suppressions};
use crate::domain::audit::{expired, held, resolved_by_policy};
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::lane::{Lane, PerLane, UnknownPolicy};
use crate::domain::message::{Reason, Status};
use crate::store::{Decided, Store as _, StoreError, Swept};

/// A message whose time has come.
struct Ripe {
    id: MessageId,
    tenant: TenantId,
    lane: Lane,
    deliver_by: Timestamp,
    resent: bool,
    may_have_been_sent: bool,
}

/// Reads all rows before anything is written; one that cannot be read is held and stops nobody.
fn ripe(rows: &mut rusqlite::Rows<'_>) -> Result<(Vec<Ripe>, Vec<Vec<u8>>), Fault> {
    let (mut messages, mut unreadable) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "message");
        let read = || {
            Ok(Ripe {
                id: cells.message_id("id")?,
                tenant: cells.word("tenant")?,
                lane: cells.word("lane")?,
                deliver_by: cells.time("deliver_by")?,
                resent: cells.plain("resent")?,
                may_have_been_sent: cells.plain("may_have_been_sent")?,
            })
        };
        match read() {
            Ok(message) => messages.push(message),
            Err(fault) => {
                tell_unreadable(fault)?;
                unreadable.push(row.get("id")?);
            }
        }
    }
    Ok((messages, unreadable))
}

/// Decides unknowns by their lane's policy.
pub(super) fn decide_unknown(
    connection: &Writing<'_>,
    at: Timestamp,
    policy: PerLane<UnknownPolicy>,
    limit: usize,
) -> Result<Decided, Fault> {
    let sql = r"-- decide_unknown
        SELECT id, tenant, lane, deliver_by, resent, may_have_been_sent
        FROM message INDEXED BY message_unknown
        WHERE status = 'unknown' AND due_at <= :at
        ORDER BY due_at LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let (messages, unreadable) =
        ripe(&mut statement.query(named_params! { ":at": millis(at), ":limit": limit_of(limit) })?)?;
    hold_unreadable(connection, &unreadable, at)?;
    let mut decided = Decided::default();
    for message in &messages {
        let in_time = message.deliver_by > at;
        let reason = match policy.get(message.lane) {
            UnknownPolicy::ResendOnce if in_time && !message.resent => Reason::UnknownResent,
            UnknownPolicy::ResendOnce | UnknownPolicy::Hold if in_time => Reason::UnknownHeld,
            UnknownPolicy::ResendOnce | UnknownPolicy::Hold => Reason::DeadlinePassed,
        };
        let happening = if reason == Reason::UnknownResent {
            resend(connection, message, at)?;
            decided.resent += 1;
            resolved_by_policy(at, &message.tenant, message.id, reason)
        } else {
            end(connection, message.id.as_bytes(), Status::Held, reason, None)?;
            decided.held += 1;
            held(at, &message.tenant, message.id, reason)
        };
        audit::append(connection, &happening)?;
    }
    Ok(decided)
}

fn resend(connection: &Connection, message: &Ripe, at: Timestamp) -> Result<(), Fault> {
    let sql = r"-- resend
        UPDATE message SET status = 'queued', reason = :reason, due_at = :at, expires_at = deliver_by, resent = 1
        WHERE id = :id AND status = 'unknown'";
    let reason = Reason::UnknownResent.as_str();
    let params = named_params! { ":id": message.id.as_bytes(), ":reason": reason, ":at": millis(at) };
    one_row(connection.prepare_cached(sql)?.execute(params)?, message.id.as_bytes())
}

/// Writes a state in which no clock looks at the message any more.
fn end(
    connection: &Connection,
    id: &[u8],
    status: Status,
    reason: Reason,
    ended_at: Option<Timestamp>,
) -> Result<(), Fault> {
    let sql = r"-- end_message
        UPDATE message SET status = :status, reason = :reason, due_at = NULL, expires_at = NULL, ended_at = :ended_at
        WHERE id = :id AND status IN ('queued', 'deferred', 'held', 'unknown')";
    let changed = connection.prepare_cached(sql)?.execute(named_params! {
        ":id": id,
        ":status": status.as_str(),
        ":reason": reason.as_str(),
        ":ended_at": ended_at.map(millis),
    })?;
    one_row(changed, id)
}

/// Ends a message, or takes one whose state cannot be read out of every clock's sight: it must stop nobody else.
/// `false`: parked.
fn end_or_park(
    connection: &Connection,
    id: &[u8],
    status: Status,
    reason: Reason,
    ended_at: Option<Timestamp>,
) -> Result<bool, Fault> {
    match end(connection, id, status, reason, ended_at) {
        Ok(()) => Ok(true),
        Err(fault) => {
            tell_unreadable(fault)?;
            park(connection, id)?;
            Ok(false)
        }
    }
}

fn one_row(changed: usize, id: &[u8]) -> Result<(), Fault> {
    if changed == 1 {
        return Ok(());
    }
    let id = MessageId::from_slice(id).map_or_else(|| "unreadable".to_owned(), |id| id.to_string());
    Err(Fault::Corrupt { table: "message", column: "status", id })
}

/// Ends messages past their deadline and forgets idempotency keys, facts and suppressions whose time is over.
pub(super) fn sweep(connection: &Writing<'_>, secret: &[u8; 32], at: Timestamp, limit: usize) -> Result<Swept, Fault> {
    let sql = r"-- sweep
        SELECT id, tenant, lane, deliver_by, resent, may_have_been_sent
        FROM message INDEXED BY message_expires
        WHERE expires_at <= :at AND NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.message = message.id)
        ORDER BY expires_at LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let (messages, unreadable) =
        ripe(&mut statement.query(named_params! { ":at": millis(at), ":limit": limit_of(limit) })?)?;
    hold_unreadable(connection, &unreadable, at)?;
    let mut swept = Swept::default();
    for message in &messages {
        let (id, tenant) = (message.id, &message.tenant);
        if message.may_have_been_sent {
            if end_or_park(connection, id.as_bytes(), Status::Held, Reason::DeadlinePassed, None)? {
                audit::append(connection, &held(at, tenant, id, Reason::DeadlinePassed))?;
                swept.held += 1;
            }
        } else if end_or_park(connection, id.as_bytes(), Status::Expired, Reason::DeadlinePassed, Some(at))? {
            audit::append(connection, &expired(at, tenant, id, message.lane))?;
            swept.expired += 1;
        }
    }
    let sql = r"-- forget_idempotency
        DELETE FROM idempotency WHERE (tenant, key) IN
            (SELECT tenant, key FROM idempotency WHERE expires_at <= :at ORDER BY expires_at LIMIT :limit)";
    let params = named_params! { ":at": millis(at), ":limit": limit_of(limit) };
    swept.forgotten = connection.prepare_cached(sql)?.execute(params)?;
    swept.forgotten += facts::forget(connection, at, limit - swept.forgotten)?;
    swept.forgotten += suppressions::expire(connection, secret, at, limit - swept.forgotten)?;
    Ok(swept)
}

pub(super) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Holds messages whose rows cannot be read, so that they come up no more until somebody has looked.
pub(super) fn hold_unreadable(connection: &Writing<'_>, ids: &[Vec<u8>], at: Timestamp) -> Result<(), Fault> {
    for id in ids {
        let known = MessageId::from_slice(id);
        if let Some(id) = known
            && in_flight(connection, id)?
        {
            continue;
        }
        match (known, tenant_of(connection, id)?) {
            (Some(known), Some(tenant)) => {
                if end_or_park(connection, id, Status::Held, Reason::ContentUnreadable, None)? {
                    audit::append(connection, &held(at, &tenant, known, Reason::ContentUnreadable))?;
                }
            }
            // Not even a leaf can be written: the state stays, and no clock looks at the row.
            (None, _) | (_, None) => park(connection, id)?,
        }
    }
    Ok(())
}

fn tenant_of(connection: &Connection, id: &[u8]) -> Result<Option<TenantId>, Fault> {
    let sql = r"-- tenant_of
        SELECT id, tenant FROM message WHERE id = :id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":id": id })?;
    Ok(rows.next()?.and_then(|row| Cells::new(row, "message").word("tenant").ok()))
}

fn park(connection: &Connection, id: &[u8]) -> Result<(), Fault> {
    let sql = r"-- park
        UPDATE message SET due_at = NULL, expires_at = NULL WHERE id = :id";
    connection.prepare_cached(sql)?.execute(named_params! { ":id": id })?;
    Ok(())
}

/// Messages held, or tenants looked at, in one transaction at most.
const HOLD_STEP: usize = 500;

/// Holds what waits for tenants that are not among `known`.
pub(super) async fn hold_unconfigured(
    store: &SqliteStore,
    known: &[TenantId],
    at: Timestamp,
) -> Result<usize, StoreError> {
    let mut held = 0;
    for lane in Lane::ALL {
        let mut after = None;
        loop {
            let tenants = store.waiting_tenants(lane, after, HOLD_STEP).await?;
            for tenant in tenants.iter().filter(|tenant| !known.contains(tenant)) {
                held += hold_all(store, lane, tenant, at).await?;
            }
            match tenants.into_iter().nth(HOLD_STEP - 1) {
                Some(last) => after = Some(last),
                None => break,
            }
        }
    }
    Ok(held)
}

/// Holds all that waits in this lane for a tenant that is not configured, a bounded transaction at a time.
async fn hold_all(store: &SqliteStore, lane: Lane, tenant: &TenantId, at: Timestamp) -> Result<usize, StoreError> {
    let mut held = 0;
    loop {
        let tenant = tenant.clone();
        let work = move |connection: &Writing<'_>| hold_waiting(connection, lane, &tenant, at, HOLD_STEP);
        let step = store.write("holding messages of a tenant that is not configured", work).await?;
        held += step.held;
        if !step.more {
            return Ok(held);
        }
    }
}

/// One step of holding what waits for a tenant.
struct HeldStep {
    held: usize,
    /// Whether there may be more.
    more: bool,
}

/// Holds up to `limit` messages of a tenant that wait in a lane and are on no attempt.
fn hold_waiting(
    connection: &Writing<'_>,
    lane: Lane,
    tenant: &TenantId,
    at: Timestamp,
    limit: usize,
) -> Result<HeldStep, Fault> {
    let sql = r"-- hold_waiting
        SELECT id FROM message INDEXED BY message_due
        WHERE lane = :lane AND tenant = :tenant AND status IN ('queued', 'deferred')
            AND NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.message = message.id)
        LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let params = named_params! { ":lane": lane.as_str(), ":tenant": tenant.as_str(), ":limit": limit_of(limit) };
    let ids = statement.query_map(params, |row| row.get("id"))?.collect::<Result<Vec<Vec<u8>>, _>>()?;
    let mut held_now = 0;
    for id in &ids {
        let Some(known) = MessageId::from_slice(id) else { continue };
        hold(connection, id)?;
        audit::append(connection, &held(at, tenant, known, Reason::NotConfigured))?;
        held_now += 1;
    }
    Ok(HeldStep { held: held_now, more: held_now == limit })
}

/// Like an operator's hold: the time it had is kept for its release, and the deadline goes on, unless it may have been
/// sent.
fn hold(connection: &Writing<'_>, id: &[u8]) -> Result<(), Fault> {
    let sql = r"-- hold
        UPDATE message SET status = 'held', reason = :reason,
            expires_at = CASE WHEN may_have_been_sent THEN NULL ELSE expires_at END
        WHERE id = :id AND status IN ('queued', 'deferred')";
    let params = named_params! { ":id": id, ":reason": Reason::NotConfigured.as_str() };
    one_row(connection.prepare_cached(sql)?.execute(params)?, id)
}
