//! Messages as shown to people: one, or a page of many.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, named_params};

use super::accept::millis;
use super::fault::{Cells, Fault};
use super::lists::{List, Look, Page, Spot};
use super::readers::LOOK_ROWS;
use super::walks::Asked;
use crate::domain::ids::{EnrollmentId, MessageId, TenantId};
use crate::domain::message::{MessageView, Status};
use crate::store::{MessageFilter, MessagePage};

/// What a [`view`] reads.
pub(super) const COLUMNS: &str =
    "id, message.tenant, mailbox, template, subject, lane, status, reason, attempts, due_at,
    deliver_by, message.accepted_at, ended_at, relay, relay_reply, relay_queue_id, message_id, tags, metadata, journey,
    may_have_been_sent OR EXISTS (SELECT 1 FROM attempt WHERE attempt.message = message.id) AS may_have_been_sent";

fn view(cells: &Cells<'_>) -> Result<MessageView, Fault> {
    let status: Status = cells.word("status")?;
    let due_at = cells.time_or_none("due_at")?;
    Ok(MessageView {
        id: cells.message_id("id")?,
        tenant: cells.word("tenant")?,
        recipient: cells.plain("mailbox")?,
        template: cells.plain("template")?,
        subject: cells.plain("subject")?,
        lane: cells.word("lane")?,
        status,
        reason: cells.word_or_none("reason")?,
        may_have_been_sent: cells.plain("may_have_been_sent")?,
        attempts: cells.plain("attempts")?,
        next_attempt_at: due_at.filter(|_| matches!(status, Status::Queued | Status::Deferred)),
        deliver_by: cells.time("deliver_by")?,
        accepted_at: cells.time("accepted_at")?,
        ended_at: cells.time_or_none("ended_at")?,
        relay: cells.word_or_none("relay")?,
        relay_reply: cells.plain("relay_reply")?,
        relay_queue_id: cells.plain("relay_queue_id")?,
        message_id: cells.plain("message_id")?,
        tags: cells.json("tags")?,
        metadata: cells.json("metadata")?,
        journey: cells.plain("journey")?,
    })
}

/// One message of a tenant.
pub(super) fn message(connection: &Connection, tenant: &TenantId, id: MessageId) -> Result<Option<MessageView>, Fault> {
    let sql = format!("-- message\nSELECT {COLUMNS} FROM message WHERE id = :id AND tenant = :tenant");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(named_params! { ":id": id.as_bytes(), ":tenant": tenant.as_str() })?;
    rows.next()?.map(|row| view(&Cells::new(row, "message"))).transpose()
}

/// The messages that an enrollment of a tenant sent, in the order of their acceptance. There are as many as a journey has
/// steps, at most.
pub(super) fn of_enrollment(
    connection: &Connection,
    tenant: &TenantId,
    id: EnrollmentId,
) -> Result<Vec<MessageView>, Fault> {
    let sql = format!(
        "-- messages_of_enrollment
        SELECT {COLUMNS} FROM message INDEXED BY message_of_enrollment
        WHERE enrollment = :id AND message.tenant = :tenant ORDER BY id"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(named_params! { ":id": id.as_bytes(), ":tenant": tenant.as_str() })?;
    let mut messages = Vec::new();
    while let Some(row) = rows.next()? {
        messages.push(view(&Cells::new(row, "message"))?);
    }
    Ok(messages)
}

/// Messages of a tenant, newest first.
pub(super) fn messages(
    connection: &Connection,
    tenant: &TenantId,
    filter: &MessageFilter,
    look: Look,
) -> Result<MessagePage, Fault> {
    let list = List { tenant, filter, suits: &|_| true, high: upper_end(connection, tenant, filter)? };
    let Page { found, next } = list.page(connection, (Asked::Views, look), &view)?;
    Ok(MessagePage { messages: found, next })
}

/// How many messages of a tenant there are in each state.
pub(super) fn count(
    connection: &Connection,
    tenant: &TenantId,
    filter: &MessageFilter,
) -> Result<BTreeMap<Status, u64>, Fault> {
    let list = List { tenant, filter, suits: &|_| true, high: upper_end(connection, tenant, filter)? };
    let mut counts = BTreeMap::new();
    list.counts(connection, LOOK_ROWS, &mut |cells| {
        *counts.entry(cells.word("status")?).or_default() += u64::from(cells.plain::<u32>("messages")?);
        Ok(())
    })?;
    Ok(counts)
}

/// The newest messages of a tenant by place and state: those in a state that passes `suits`, and at worst some others.
pub(super) fn places<T>(
    connection: &Connection,
    (tenant, filter): (&TenantId, &MessageFilter),
    suits: &dyn Fn(Status) -> bool,
    look: Look,
    read: &dyn Fn(&Cells<'_>) -> Result<T, Fault>,
) -> Result<Page<T>, Fault> {
    let list = List { tenant, filter, suits, high: upper_end(connection, tenant, filter)? };
    list.page(connection, (Asked::Places, look), read)
}

/// The spot below which a page begins: the cursor's or `until`'s, whichever is lower.
fn upper_end(connection: &Connection, tenant: &TenantId, filter: &MessageFilter) -> Result<Spot, Fault> {
    let until = (filter.until.map_or(i64::MAX, millis_up), None);
    let Some(before) = filter.before else { return Ok(until) };
    let sql = r"-- cursor
        SELECT accepted_at FROM message WHERE id = :id AND tenant = :tenant";
    let mut statement = connection.prepare_cached(sql)?;
    let params = named_params! { ":id": before.as_bytes(), ":tenant": tenant.as_str() };
    let accepted_at: Option<i64> = statement.query_row(params, |row| row.get(0)).optional()?;
    // A message that is gone left its time in its identifier (RFC 9562 section 5.7).
    let accepted_at = accepted_at
        .unwrap_or_else(|| before.as_bytes().iter().take(6).fold(0, |millis, byte| (millis << 8) | i64::from(*byte)));
    Ok(until.min((accepted_at, Some(before))))
}

/// The first whole millisecond at or after `at`: what was accepted is stored without its fraction.
pub(super) fn millis_up(at: Timestamp) -> i64 {
    let whole = millis(at);
    if Timestamp::from_millisecond(whole).is_ok_and(|cut| cut < at) { whole + 1 } else { whole }
}
