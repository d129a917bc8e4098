//! Messages as shown to people: one, or a page of many.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, named_params};

use super::accept::millis;
use super::fault::{Cells, Fault};
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::lane::Lane;
use crate::domain::message::{MessageView, Reason, Status};
use crate::store::MessageFilter;

/// What a [`view`] reads.
const COLUMNS: &str = "id, message.tenant, mailbox, template, subject, lane, status, reason, attempts, due_at,
    deliver_by, message.accepted_at, ended_at, relay, relay_reply, relay_queue_id, message_id, tags, metadata,
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
        journey: None,
    })
}

/// One message of a tenant.
pub(super) fn message(connection: &Connection, tenant: &TenantId, id: MessageId) -> Result<Option<MessageView>, Fault> {
    let sql = format!("-- message\nSELECT {COLUMNS} FROM message WHERE id = :id AND tenant = :tenant");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(named_params! { ":id": id.as_bytes(), ":tenant": tenant.as_str() })?;
    rows.next()?.map(|row| view(&Cells::new(row, "message"))).transpose()
}

/// The most selective index that a filter can walk, newest first. The rest of the filter is looked at row by row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Walk {
    Recipient,
    Tag,
    Template,
    /// One lane and one state; a filter that leaves one of them open walks several of these side by side.
    Standing,
    All,
}

/// What a walk is made for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    /// Whole messages.
    Views,
    /// Their places: `id`, `accepted_at` and `status`.
    Places,
    /// How many there are: `status` and `messages`.
    Counts,
}

impl Walk {
    pub(super) fn of(filter: &MessageFilter) -> Self {
        match filter {
            MessageFilter { recipient: Some(_), .. } => Self::Recipient,
            MessageFilter { tag: Some(_), .. } => Self::Tag,
            MessageFilter { template: Some(_), .. } => Self::Template,
            MessageFilter { status: Some(_), .. } | MessageFilter { lane: Some(_), .. } => Self::Standing,
            _ => Self::All,
        }
    }

    /// The lanes and states to walk, each once; `None` is any. Only states that pass `suits` need be walked.
    fn standings(self, filter: &MessageFilter, suits: &dyn Fn(Status) -> bool) -> Vec<(Option<Lane>, Option<Status>)> {
        if !matches!(self, Self::Standing) {
            return vec![(filter.lane, filter.status)];
        }
        let lanes = Lane::ALL.into_iter().filter(|lane| filter.lane.is_none_or(|wanted| wanted == *lane));
        let statuses = |lane| {
            let wanted = Status::ALL.into_iter().filter(|status| filter.status.is_none_or(|wanted| wanted == *status));
            wanted.filter(|status| suits(*status)).map(move |status| (Some(lane), Some(status)))
        };
        lanes.flat_map(statuses).collect()
    }

    /// The statement that walks this index. `+` keeps a column from being asked of another one.
    fn sql(self, asked: Asked) -> String {
        let (from, walked) = match self {
            Self::Recipient => ("message INDEXED BY message_by_recipient", "message.recipient = :recipient"),
            Self::Tag => ("message_tag CROSS JOIN message ON message.id = message_tag.message", "tag = :tag"),
            Self::Template => ("message INDEXED BY message_by_template", "message.template = :template"),
            Self::Standing => {
                ("message INDEXED BY message_by_standing", "message.lane = :lane AND message.status = :status")
            }
            Self::All => ("message INDEXED BY message_listed", "TRUE"),
        };
        let (place, id) = match self {
            Self::Tag => ("message_tag", "message"),
            Self::Recipient | Self::Template | Self::Standing | Self::All => ("message", "id"),
        };
        let (name, columns) = match asked {
            Asked::Views => ("messages", COLUMNS),
            Asked::Places => ("places", "message.id, message.accepted_at, status"),
            Asked::Counts => ("count", "status, count(*) AS messages"),
        };
        let end = match asked {
            Asked::Views | Asked::Places => format!("ORDER BY {place}.accepted_at DESC, {place}.{id} DESC"),
            Asked::Counts => "GROUP BY status".to_owned(),
        };
        format!(
            "-- {name}
            SELECT {columns} FROM {from}
            WHERE {place}.tenant = :tenant AND {walked}
                AND {place}.accepted_at >= :since AND ({place}.accepted_at, {place}.{id}) < (:until, :before)
                AND (:recipient IS NULL OR +message.recipient = :recipient)
                AND (:status IS NULL OR +status = :status)
                AND (:domain IS NULL OR +domain = :domain)
                AND (:reason IS NULL OR +reason = :reason)
                AND (:template IS NULL OR +template = :template)
                AND (:lane IS NULL OR +lane = :lane)
                AND (:tag IS NULL OR EXISTS (SELECT 1 FROM message_tag AS other WHERE other.tenant = message.tenant
                    AND other.tag = :tag AND other.accepted_at = message.accepted_at AND other.message = message.id))
            {end} LIMIT :limit"
        )
    }
}

/// Messages of a tenant, newest first.
pub(super) fn messages(
    connection: &Connection,
    tenant: &TenantId,
    filter: &MessageFilter,
) -> Result<Vec<MessageView>, Fault> {
    let mut page = walk(connection, tenant, filter, (Walk::of(filter), Asked::Views), &|_| true, &view)?;
    page.sort_by_key(|message| std::cmp::Reverse((message.accepted_at, message.id)));
    page.truncate(filter.limit);
    Ok(page)
}

/// How many messages of a tenant there are in each state.
pub(super) fn count(
    connection: &Connection,
    tenant: &TenantId,
    filter: &MessageFilter,
) -> Result<BTreeMap<Status, u64>, Fault> {
    let filter = MessageFilter { limit: Status::ALL.len(), ..filter.clone() };
    let read = |cells: &Cells<'_>| Ok((cells.word::<Status>("status")?, cells.plain::<u32>("messages")?));
    let mut counts = BTreeMap::new();
    for (status, messages) in walk(connection, tenant, &filter, (Walk::of(&filter), Asked::Counts), &|_| true, &read)? {
        *counts.entry(status).or_default() += u64::from(messages);
    }
    Ok(counts)
}

/// What a walk finds, the walks of several standings one after the other, each up to the filter's limit.
pub(super) fn walk<T>(
    connection: &Connection,
    tenant: &TenantId,
    filter: &MessageFilter,
    (walk, asked): (Walk, Asked),
    suits: &dyn Fn(Status) -> bool,
    read: &dyn Fn(&Cells<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let (until, before) = upper_end(connection, tenant, filter)?;
    let mut statement = connection.prepare_cached(&walk.sql(asked))?;
    let mut found = Vec::new();
    for (lane, status) in walk.standings(filter, suits) {
        let mut rows = statement.query(named_params! {
            ":tenant": tenant.as_str(),
            ":since": filter.since.map_or(i64::MIN, millis_up),
            ":until": until,
            ":before": before,
            ":recipient": filter.recipient,
            ":domain": filter.domain,
            ":status": status.map(Status::as_str),
            ":reason": filter.reason.map(Reason::as_str),
            ":template": filter.template,
            ":lane": lane.map(Lane::as_str),
            ":tag": filter.tag,
            ":limit": i64::try_from(filter.limit).unwrap_or(i64::MAX),
        })?;
        while let Some(row) = rows.next()? {
            found.push(read(&Cells::new(row, "message"))?);
        }
    }
    Ok(found)
}

/// The place below which a page begins, as time and identifier: the cursor's or `until`'s, whichever is lower.
fn upper_end(connection: &Connection, tenant: &TenantId, filter: &MessageFilter) -> Result<(i64, Vec<u8>), Fault> {
    let until = (filter.until.map_or(i64::MAX, millis_up), Vec::new());
    let Some(before) = filter.before else { return Ok(until) };
    let sql = r"-- cursor
        SELECT accepted_at FROM message WHERE id = :id AND tenant = :tenant";
    let mut statement = connection.prepare_cached(sql)?;
    let params = named_params! { ":id": before.as_bytes(), ":tenant": tenant.as_str() };
    let accepted_at: Option<i64> = statement.query_row(params, |row| row.get(0)).optional()?;
    // A message that is gone left its time in its identifier (RFC 9562 section 5.7).
    let accepted_at = accepted_at
        .unwrap_or_else(|| before.as_bytes().iter().take(6).fold(0, |millis, byte| (millis << 8) | i64::from(*byte)));
    Ok(until.min((accepted_at, before.as_bytes().to_vec())))
}

/// The first whole millisecond at or after `at`: what was accepted is stored without its fraction.
fn millis_up(at: Timestamp) -> i64 {
    let whole = millis(at);
    if Timestamp::from_millisecond(whole).is_ok_and(|cut| cut < at) { whole + 1 } else { whole }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use crate::store::sqlite::tests::plan;

    #[test]
    fn every_list_walks_its_own_index_newest_first() {
        for (walk, index) in [
            (Walk::Recipient, "message_by_recipient (tenant=? AND recipient=? AND accepted_at>?"),
            (Walk::Tag, "message_tag USING PRIMARY KEY (tenant=? AND tag=? AND accepted_at>?"),
            (Walk::Template, "message_by_template (tenant=? AND template=? AND accepted_at>?"),
            (Walk::Standing, "message_by_standing (tenant=? AND lane=? AND status=? AND accepted_at>?"),
            (Walk::All, "message_listed (tenant=? AND accepted_at>?"),
        ] {
            for asked in [Asked::Views, Asked::Places, Asked::Counts] {
                let plan = plan(&walk.sql(asked)).unwrap();
                assert!(plan.contains(index), "{walk:?} {asked:?}: {plan}");
                // Counts are grouped by a handful of states.
                let plan = plan.replace("USE TEMP B-TREE FOR GROUP BY", "");
                assert!(!plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{walk:?} {asked:?}: {plan}");
            }
        }
    }
}
