//! One move of an enrollment: its steps, its mail, its leaves and its next moment in one transaction, or nothing of it.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, named_params};

use super::due::is_paused;
use crate::domain::audit::journeys::Way;
use crate::domain::ids::MessageId;
use crate::domain::journey::enrollment::{Ending, Enrollment, Status};
use crate::domain::journey::walk::Outcome;
use crate::domain::message::{Acceptance, NewMessage};
use crate::domain::quantity::Rate;
use crate::store::sqlite::accept::{self, millis};
use crate::store::sqlite::audit;
use crate::store::sqlite::content::Packed;
use crate::store::sqlite::fault::Fault;
use crate::store::sqlite::suppressions;
use crate::store::sqlite::writer::Writing;
use crate::store::{Move, Moved, Next};

/// See [`crate::store::JourneyStore::move_enrollment`]. `packed` is the content of the mail, if there is one.
pub(super) fn go(
    connection: &Writing<'_>,
    secret: &[u8; 32],
    next: &Move,
    packed: Option<&Packed>,
) -> Result<Moved, Fault> {
    let Enrollment { tenant, journey, .. } = &next.enrollment;
    // A pause that was answered holds for what was decided before it, too.
    if !is_current(connection, &next.enrollment)? || is_paused(connection, tenant, journey)? {
        return Ok(Moved::Stale);
    }
    let Some(((message, cap), packed)) = next.mail.as_ref().zip(packed) else {
        pass(connection, next, None, None)?;
        write(connection, next, next.next)?;
        return Ok(Moved::Done(None));
    };
    let (tenant, address) = (&message.tenant, &message.recipient.address);
    if suppressions::judge(connection, secret, tenant, address, Some(&next.enrollment.journey), next.at)?.is_some() {
        write(connection, next, Next::End(Ending::Unsubscribed))?;
        return Ok(Moved::Unsubscribed);
    }
    if let Some(cap) = cap
        && is_capped(connection, message, *cap)?
    {
        pass(connection, next, None, Some(Outcome::Capped))?;
        write(connection, next, next.next)?;
        return Ok(Moved::Capped);
    }
    match accept::accept(connection, secret, message, packed)? {
        Acceptance::Accepted(receipt) => {
            pass(connection, next, Some(receipt.id), None)?;
            write(connection, next, next.next)?;
            Ok(Moved::Done(Some(receipt.id)))
        }
        // What comes later is another mail: nothing of this one was kept.
        Acceptance::RecipientLimited { wait, .. } => {
            let at = next.at.checked_add(wait).unwrap_or(Timestamp::MAX);
            write(connection, next, Next::Step { step: next.enrollment.step, at })?;
            Ok(Moved::Limited(at))
        }
        // It has neither key nor fact.
        Acceptance::Replayed(_)
        | Acceptance::IdempotencyMismatch
        | Acceptance::Deduplicated(_)
        | Acceptance::FactTaken => {
            Err(Fault::Corrupt { table: "enrollment", column: "id", id: next.enrollment.id.to_string() })
        }
    }
}

fn is_current(connection: &Writing<'_>, seen: &Enrollment) -> Result<bool, Fault> {
    let sql = r"-- enrollment_revision
        SELECT revision FROM enrollment WHERE id = :id";
    let mut statement = connection.prepare_cached(sql)?;
    let revision: Option<i64> =
        statement.query_row(named_params! { ":id": seen.id.as_bytes() }, |row| row.get(0)).optional()?;
    Ok(revision == Some(seen.revision))
}

/// Whether the recipient has had as many mails of all journeys as they may. What was never sent does not count.
fn is_capped(connection: &Writing<'_>, message: &NewMessage, cap: Rate) -> Result<bool, Fault> {
    let sql = r"-- journey_mails_of_recipient
        SELECT count(*) FROM (SELECT 1 FROM message INDEXED BY message_of_journeys
            WHERE tenant = :tenant AND recipient = :recipient AND accepted_at > :since AND journey IS NOT NULL
                AND status NOT IN ('cancelled', 'suppressed', 'expired') LIMIT :cap)";
    let within = i64::try_from(cap.per.as_millis()).unwrap_or(i64::MAX);
    let had: u32 = connection.prepare_cached(sql)?.query_row(
        named_params! {
            ":tenant": message.tenant.as_str(),
            ":recipient": message.recipient.address.normalized(),
            ":since": millis(message.accepted_at).saturating_sub(within),
            ":cap": cap.count,
        },
        |row| row.get(0),
    )?;
    Ok(had >= cap.count)
}

/// The leaves and counts of the steps that are behind it; `instead`: how the one with the mail went, if not as planned.
fn pass(
    connection: &Writing<'_>,
    next: &Move,
    message: Option<MessageId>,
    instead: Option<Outcome>,
) -> Result<(), Fault> {
    let sql = r"-- count_step
        INSERT INTO journey_step (tenant, journey, version, step, outcome, count)
        VALUES (:tenant, :journey, :version, :step, :outcome, 1)
        ON CONFLICT (tenant, journey, version, step, outcome) DO UPDATE SET count = count + 1";
    let enrollment = &next.enrollment;
    let way = way(enrollment);
    for passed in &next.passed {
        let sent = passed.outcome == Outcome::Sent;
        let outcome = instead.filter(|_| sent).unwrap_or(passed.outcome);
        audit::append(connection, &way.stepped(next.at, passed.step, outcome, message.filter(|_| sent)))?;
        connection.prepare_cached(sql)?.execute(named_params! {
            ":tenant": enrollment.tenant.as_str(),
            ":journey": enrollment.journey.as_str(),
            ":version": enrollment.version.as_str(),
            ":step": i64::try_from(passed.step).unwrap_or(i64::MAX),
            ":outcome": outcome.as_str(),
        })?;
    }
    Ok(())
}

/// Where it stands from now on.
fn write(connection: &Writing<'_>, moved: &Move, next: Next) -> Result<(), Fault> {
    let sql = r"-- move_enrollment
        UPDATE enrollment SET status = :status, step = :step, due_at = :due_at, tries = :tries, contact_by = :contact_by,
            seek_at = :seek_at, ended_at = :ended_at, revision = revision + 1
        WHERE id = :id";
    let seen = &moved.enrollment;
    // As the row says it: status, step, when, tries, and until and when an address is asked for.
    let (status, step, due_at, tries, contact) = match next {
        Next::Step { step, at } => (Status::Active, step, Some(at), 0, (None, None)),
        Next::AwaitContact { until, seek_at } => {
            (Status::AwaitingContact, seen.step, Some(until), 0, (Some(until), seek_at))
        }
        Next::TryAgain { at } => (Status::Active, seen.step, Some(at), seen.tries.saturating_add(1), (None, None)),
        Next::End(ending) => (Status::Ended(ending), seen.step, None, seen.tries, (None, None)),
    };
    connection.prepare_cached(sql)?.execute(named_params! {
        ":id": seen.id.as_bytes(),
        ":status": status.as_str(),
        ":step": i64::try_from(step).unwrap_or(i64::MAX),
        ":due_at": due_at.map(millis),
        ":tries": tries,
        ":contact_by": contact.0.map(millis),
        ":seek_at": contact.1.map(millis),
        ":ended_at": (!status.is_live()).then(|| millis(moved.at)),
    })?;
    match next {
        Next::End(_) => audit::append(connection, &way(seen).exited(moved.at, status, None)),
        Next::Step { .. } | Next::AwaitContact { .. } | Next::TryAgain { .. } => Ok(()),
    }
}

fn way(enrollment: &Enrollment) -> Way<'_> {
    let Enrollment { id, tenant, journey, version, .. } = enrollment;
    Way { tenant, id: *id, journey, version }
}
