//! Attempts: the commit point, settlement, and what a dead process left behind.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use super::accept::millis;
use super::fault::{Cells, Fault};
use super::writer::Writing;
use super::{audit, bounces, journeys, suppressions, unless};
use crate::domain::audit::journeys::journey_exited;
use crate::domain::audit::{attempt_committed, late, outcome};
use crate::domain::ids::{EnrollmentId, JourneyName, LeaseToken, MessageId, RelayName, TenantId};
use crate::domain::lane::{Lane, PerLane};
use crate::domain::message::{Outcome, Reason, Settled, Settlement, Status, Verdict};
use crate::domain::reply::Reply;
use crate::domain::unless::{Condition, Unless};
use crate::store::CommitPoint;

/// Whether an attempt of the message is past its commit point and not settled.
pub(super) fn in_flight(connection: &Connection, id: MessageId) -> Result<bool, Fault> {
    let sql = r"-- in_flight
        SELECT 1 FROM attempt WHERE message = :id";
    Ok(connection.prepare_cached(sql)?.exists(named_params! { ":id": id.as_bytes() })?)
}

/// What the commit point and a settlement must know of a message.
struct Standing {
    tenant: TenantId,
    lane: Lane,
    status: Status,
    attempts: u32,
    due_at: Option<Timestamp>,
    deliver_by: Timestamp,
    may_have_been_sent: bool,
    /// An attempt of it is past its commit point and not settled.
    in_flight: bool,
    /// When it is no longer wanted, and whose wallets say so.
    unless: Option<(Unless, String)>,
    /// The recipient's normalised address.
    recipient: String,
    /// The journey that sends it.
    journey: Option<JourneyName>,
    /// Whose way through it.
    enrollment: Option<EnrollmentId>,
}

fn standing(connection: &Connection, id: MessageId) -> Result<Option<Standing>, Fault> {
    let sql = r"-- standing
        SELECT id, tenant, lane, status, attempts, due_at, deliver_by, may_have_been_sent, unless_wallet, customer, recipient,
            journey, enrollment, EXISTS (SELECT 1 FROM attempt WHERE attempt.message = message.id) AS in_flight
        FROM message WHERE id = :id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":id": id.as_bytes() })?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let cells = Cells::new(row, "message");
    Ok(Some(Standing {
        tenant: cells.word("tenant")?,
        lane: cells.word("lane")?,
        status: cells.word("status")?,
        attempts: cells.plain("attempts")?,
        due_at: cells.time_or_none("due_at")?,
        deliver_by: cells.time("deliver_by")?,
        may_have_been_sent: cells.plain("may_have_been_sent")?,
        in_flight: cells.plain("in_flight")?,
        unless: unless::kept(&cells)?,
        recipient: cells.plain("recipient")?,
        journey: cells.word_or_none("journey")?,
        enrollment: cells.plain::<Option<Vec<u8>>>("enrollment")?.and_then(|id| EnrollmentId::from_slice(&id)),
    }))
}

impl Standing {
    fn waits(&self) -> bool {
        matches!(self.status, Status::Queued | Status::Deferred)
    }
}

/// The commit point: may this message still be sent?
pub(super) fn commit_point(
    connection: &Writing<'_>,
    secret: &[u8; 32],
    commit: &CommitPoint,
) -> Result<Verdict, Fault> {
    let Some(message) = standing(connection, commit.id)? else { return Ok(Verdict::Stop) };
    let due = message.due_at.is_some_and(|due_at| due_at <= commit.at) && message.deliver_by > commit.at;
    if !message.waits() || !due || message.in_flight {
        return Ok(Verdict::Stop);
    }
    if let Some(Condition { unless, status }) = unless::stands(connection, &message.tenant, message.unless)?
        && unless.ends(status)
    {
        unless::end(connection, &message.tenant, commit.id, status, commit.at)?;
        return Ok(Verdict::Stop);
    }
    if let Some(enrollment) = message.enrollment
        && journeys::has_exited(connection, enrollment)?
    {
        unless::cancel(connection, commit.id, Reason::JourneyExited, commit.at)?;
        audit::append(connection, &journey_exited(commit.at, &message.tenant, commit.id))?;
        return Ok(Verdict::Stop);
    }
    let (tenant, recipient, journey) = (&message.tenant, &message.recipient, message.journey.as_ref());
    if let Some(reason) = suppressions::judge_normalized(connection, secret, tenant, recipient, journey, commit.at)? {
        let outcome = Outcome::Suppressed { reason };
        let suppressed = Settlement { id: commit.id, token: None, relay: None, at: commit.at, outcome };
        settle(connection, secret, &suppressed)?;
        return Ok(Verdict::Stop);
    }
    let number = message.attempts.saturating_add(1);
    let sql = r"-- insert_attempt
        INSERT INTO attempt (message, token, relay, number, committed_at)
        VALUES (:message, :token, :relay, :number, :committed_at)";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":message": commit.id.as_bytes(),
        ":token": commit.token.as_bytes(),
        ":relay": commit.relay.as_str(),
        ":number": number,
        ":committed_at": millis(commit.at),
    })?;
    audit::append(connection, &attempt_committed(commit.at, &message.tenant, commit.id, &commit.relay, number))?;
    Ok(Verdict::Go)
}

/// Writes how an attempt ended.
pub(super) fn settle(connection: &Writing<'_>, secret: &[u8; 32], settlement: &Settlement) -> Result<Settled, Fault> {
    let Some(message) = standing(connection, settlement.id)? else { return Ok(Settled::Stale) };
    let number = message.attempts.saturating_add(1);
    let relay = settlement.relay.as_ref();
    let leaf = |number| outcome(settlement.at, &message.tenant, settlement.id, relay, number, &settlement.outcome);
    match settlement.token {
        Some(token) if delete_attempt(connection, settlement.id, token)? => {}
        None if message.waits() && !message.in_flight => {}
        Some(_) => {
            // Whoever decided instead has spent this attempt.
            audit::append(connection, &late(&leaf(message.attempts.max(1))))?;
            return Ok(Settled::Stale);
        }
        None => return Ok(Settled::Stale),
    }
    write_outcome(connection, &message, settlement)?;
    audit::append(connection, &leaf(number))?;
    if let Outcome::Bounced { reply: Some(reply), of_recipient: true, .. } = &settlement.outcome {
        let (whose, refused) = ((&message.tenant, settlement.id), (message.recipient.as_str(), reply.enhanced));
        bounces::refused(connection, secret, whose, refused, settlement.at)?;
    }
    Ok(Settled::Applied)
}

/// Takes the attempt row away if it still holds this token.
fn delete_attempt(connection: &Connection, id: MessageId, token: LeaseToken) -> Result<bool, Fault> {
    // Not RETURNING: SQLite makes a temporary table for it, at more than all the rest costs.
    let sql = r"-- delete_attempt
        DELETE FROM attempt WHERE message = :message AND token = :token";
    let params = named_params! { ":message": id.as_bytes(), ":token": token.as_bytes() };
    Ok(connection.prepare_cached(sql)?.execute(params)? == 1)
}

/// What an outcome writes into the hot row; the rest of the row is left as it is.
struct After<'a> {
    status: Status,
    reason: Option<Reason>,
    due_at: Option<Timestamp>,
    expires: bool,
    spent: u32,
    reply: Option<&'a Reply>,
}

fn after<'a>(message: &Standing, outcome: &'a Outcome) -> After<'a> {
    let ended = |status, reason, reply| After { status, reason, due_at: None, expires: false, spent: 1, reply };
    match outcome {
        Outcome::Relayed { reply } => ended(Status::Relayed, None, Some(reply)),
        Outcome::Bounced { reason, reply, .. } => ended(Status::Bounced, Some(*reason), reply.as_ref()),
        Outcome::Deferred { reason, reply, next_at } => {
            After { due_at: Some(*next_at), expires: true, ..ended(Status::Deferred, Some(*reason), reply.as_ref()) }
        }
        Outcome::Returned { next_at } => {
            let reason = Some(Reason::ConnectionLost);
            After { due_at: Some(*next_at), expires: true, spent: 0, ..ended(Status::Deferred, reason, None) }
        }
        Outcome::Unknown { reason, decide_at } => {
            After { due_at: Some(*decide_at), ..ended(Status::Unknown, Some(*reason), None) }
        }
        Outcome::Suppressed { reason } => After { spent: 0, ..ended(Status::Suppressed, Some(*reason), None) },
        // What may have been sent is never called expired: an operator ends it.
        Outcome::Held { reason } => {
            After { expires: !message.may_have_been_sent, spent: 0, ..ended(Status::Held, Some(*reason), None) }
        }
    }
}

fn write_outcome(connection: &Connection, message: &Standing, settlement: &Settlement) -> Result<(), Fault> {
    let after = after(message, &settlement.outcome);
    let sql = r"-- write_outcome
        UPDATE message
        SET status = :status, reason = :reason, due_at = :due_at, expires_at = :expires_at, ended_at = :ended_at,
            attempts = attempts + :spent, may_have_been_sent = max(may_have_been_sent, :unknown),
            relay = coalesce(:relay, relay),
            relay_reply = CASE WHEN :relay IS NULL THEN relay_reply ELSE :reply END,
            relay_queue_id = coalesce(:queue_id, relay_queue_id)
        WHERE id = :id AND status IN ('queued', 'deferred')";
    let changed = connection.prepare_cached(sql)?.execute(named_params! {
        ":id": settlement.id.as_bytes(),
        ":status": after.status.as_str(),
        ":reason": after.reason.map(Reason::as_str),
        ":due_at": after.due_at.map(millis),
        ":expires_at": after.expires.then(|| millis(message.deliver_by)),
        ":ended_at": (!after.status.is_live()).then(|| millis(settlement.at)),
        ":spent": after.spent,
        ":unknown": after.status == Status::Unknown,
        ":relay": settlement.relay.as_ref().map(RelayName::as_str),
        ":reply": after.reply.map(|reply| format!("{} {}", reply.code, reply.text)),
        ":queue_id": after.reply.filter(|_| after.status == Status::Relayed).and_then(Reply::queue_id),
    })?;
    if changed == 1 {
        return Ok(());
    }
    // An attempt row beside a message that is not waiting: somebody wrote around us.
    Err(Fault::Corrupt { table: "message", column: "status", id: settlement.id.to_string() })
}

/// Turns every attempt row of a dead process into an unknown. One that cannot be read stays and keeps its message back.
pub(super) fn recover(
    connection: &Writing<'_>,
    secret: &[u8; 32],
    at: Timestamp,
    decide_after: &PerLane<Duration>,
) -> Result<usize, Fault> {
    let sql = r"-- recover
        SELECT message, token, relay FROM attempt ORDER BY message";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut left = Vec::new();
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "attempt");
        let read = || {
            let token = LeaseToken::from_random(cells.plain("token")?);
            Ok((cells.message_id("message")?, token, cells.word::<RelayName>("relay")?))
        };
        match read() {
            Ok(attempt) => left.push(attempt),
            Err(fault) => tell_unreadable(fault)?,
        }
    }
    let mut recovered = 0;
    for (id, token, relay) in left {
        match recover_one((connection, secret), at, decide_after, (id, token, relay)) {
            Ok(()) => recovered += 1,
            Err(fault) => tell_unreadable(fault)?,
        }
    }
    Ok(recovered)
}

fn recover_one(
    (connection, secret): (&Writing<'_>, &[u8; 32]),
    at: Timestamp,
    decide_after: &PerLane<Duration>,
    (id, token, relay): (MessageId, LeaseToken, RelayName),
) -> Result<(), Fault> {
    let gone = || Fault::Corrupt { table: "attempt", column: "message", id: id.to_string() };
    let message = standing(connection, id)?.filter(Standing::waits).ok_or_else(gone)?;
    let decide_at = at.checked_add(*decide_after.get(message.lane)).unwrap_or(Timestamp::MAX);
    let outcome = Outcome::Unknown { reason: Reason::Interrupted, decide_at };
    settle(connection, secret, &Settlement { id, token: Some(token), relay: Some(relay), at, outcome })?;
    Ok(())
}

/// Logs a corrupt row, by its identifier, so that it stops nobody else; passes other faults on.
pub(super) fn tell_unreadable(fault: Fault) -> Result<(), Fault> {
    match fault {
        Fault::Corrupt { table, column, id } => {
            tracing::error!(table, column, id, "a stored row cannot be read");
            Ok(())
        }
        Fault::Database(_) | Fault::Random(_) => Err(fault),
    }
}
