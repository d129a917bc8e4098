//! Messages as shown to people: one, or a page of many.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Rows, Statement, ToSql, named_params};

use super::accept::millis;
use super::fault::{Cells, Fault};
use super::sweep::limit_of;
use crate::domain::ids::{EnrollmentId, MessageId, TenantId};
use crate::domain::lane::Lane;
use crate::domain::message::{MessageView, Reason, Status};
use crate::store::MessageFilter;

/// Rows of one index that are counted at most before a walk is chosen: some ten milliseconds.
const COUNTED_MAX: usize = 50_000;
/// And so many times as many when all sides are longer.
const COUNTED_STEP: usize = 4;
/// More than that nobody has.
const COUNTED_AT_ALL_MAX: usize = 1 << 31;
/// What a [`view`] reads.
const COLUMNS: &str = "id, message.tenant, mailbox, template, subject, lane, status, reason, attempts, due_at,
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

/// An index that a list can walk, newest first. The rest of the filter is looked at row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    Recipient,
    Metadata,
    Tag,
    Template,
    /// One lane and one state; a filter that leaves one of them open walks several of these side by side.
    Standing,
    All,
}

/// What a walk is made for.
#[derive(Debug, Clone, Copy)]
enum Asked {
    /// Whole messages.
    Views,
    /// Their places: `id`, `accepted_at` and `status`.
    Places,
    /// How many there are: `status` and `messages`.
    Counts,
}

/// Lane and state of the rows that are wanted; `None` is any.
type Standing = (Option<Lane>, Option<Status>);

impl Walk {
    /// The indexes that a filter can walk, the most selective as a rule first.
    fn candidates(filter: &MessageFilter) -> Vec<Self> {
        let given = [
            (Self::Recipient, filter.recipient.is_some()),
            (Self::Metadata, filter.metadata.is_some()),
            (Self::Tag, filter.tag.is_some()),
            (Self::Template, filter.template.is_some()),
            (Self::Standing, filter.status.is_some() || filter.lane.is_some()),
        ];
        given.into_iter().filter(|(_, is_given)| *is_given).map(|(walk, _)| walk).collect()
    }

    /// The shortest walk for a list. A rare state of a common template is found among the few of that state, a common
    /// state of a rare template among the few of that template. All sides are counted up to `counted_max`, then further,
    /// until one has ended: that costs a few times the shortest side, index entries only. It may still be long: an index
    /// for every pair would cost every mail.
    fn choose(connection: &Connection, list: &List<'_>, mut counted_max: usize) -> Result<Self, Fault> {
        let candidates = Self::candidates(list.filter);
        let &[first, _, ..] = candidates.as_slice() else {
            return Ok(candidates.first().copied().unwrap_or(Self::All));
        };
        loop {
            let (mut chosen, mut shortest) = (first, counted_max);
            for walk in &candidates {
                let length = walk.length(connection, list, shortest)?;
                if length < shortest {
                    (chosen, shortest) = (*walk, length);
                }
            }
            if shortest < counted_max || counted_max >= COUNTED_AT_ALL_MAX {
                return Ok(chosen);
            }
            counted_max = counted_max.saturating_mul(COUNTED_STEP).min(COUNTED_AT_ALL_MAX);
        }
    }

    /// How many rows lie on the way, counted up to `limit`.
    fn length(self, connection: &Connection, list: &List<'_>, limit: usize) -> Result<usize, Fault> {
        let mut statement = connection.prepare_cached(&self.count_sql())?;
        let mut length = 0;
        for standing in self.standings(list.filter, &|_| true) {
            let mut rows = list.rows(&mut statement, standing, limit - length)?;
            let counted: i64 = rows.next()?.map_or(Ok(0), |row| row.get("counted"))?;
            length += usize::try_from(counted).unwrap_or(limit).min(limit - length);
        }
        Ok(length)
    }

    /// The lanes and states to walk, each once. States that do not pass `suits` need not be walked.
    fn standings(self, filter: &MessageFilter, suits: &dyn Fn(Status) -> bool) -> Vec<Standing> {
        if self != Self::Standing {
            return vec![(filter.lane, filter.status)];
        }
        let lanes = Lane::ALL.into_iter().filter(|lane| filter.lane.is_none_or(|wanted| wanted == *lane));
        let statuses = |lane| {
            let wanted = Status::ALL.into_iter().filter(|status| filter.status.is_none_or(|wanted| wanted == *status));
            wanted.filter(|status| suits(*status)).map(move |status| (Some(lane), Some(status)))
        };
        lanes.flat_map(statuses).collect()
    }

    /// The index, and what is asked of it beside the tenant and the time.
    const fn index(self) -> (&'static str, &'static str) {
        match self {
            Self::Recipient => ("message INDEXED BY message_by_recipient", "message.recipient = :recipient"),
            Self::Metadata => ("message_metadata", "key = :key AND value = :value"),
            Self::Tag => ("message_tag", "tag = :tag"),
            Self::Template => ("message INDEXED BY message_by_template", "message.template = :template"),
            Self::Standing => {
                ("message INDEXED BY message_by_standing", "message.lane = :lane AND message.status = :status")
            }
            Self::All => ("message INDEXED BY message_listed", "TRUE"),
        }
    }

    /// The table of the index and its column with the message.
    const fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Metadata => ("message_metadata", "message"),
            Self::Tag => ("message_tag", "message"),
            Self::Recipient | Self::Template | Self::Standing | Self::All => ("message", "id"),
        }
    }

    /// What holds for every row on the way.
    fn on_the_way(self) -> String {
        let ((_, walked), (place, id)) = (self.index(), self.place());
        format!(
            "{place}.tenant = :tenant AND {walked}
                AND {place}.accepted_at >= :since AND ({place}.accepted_at, {place}.{id}) < (:until, :before)"
        )
    }

    /// The statement that counts the rows on the way, in the index alone.
    fn count_sql(self) -> String {
        format!(
            "-- count_messages
            SELECT count(*) AS counted FROM (SELECT 1 FROM {} WHERE {} LIMIT :limit)",
            self.index().0,
            self.on_the_way()
        )
    }

    /// The statement that walks this index. `+` keeps a column from being asked of another one.
    fn sql(self, asked: Asked) -> String {
        let (place, id) = self.place();
        let (index, join) = match self {
            Self::Metadata => (self.index().0, "CROSS JOIN message ON message.id = message_metadata.message"),
            Self::Tag => (self.index().0, "CROSS JOIN message ON message.id = message_tag.message"),
            Self::Recipient | Self::Template | Self::Standing | Self::All => (self.index().0, ""),
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
            SELECT {columns} FROM {index} {join}
            WHERE {}
                AND (:recipient IS NULL OR +message.recipient = :recipient)
                AND (:status IS NULL OR +status = :status)
                AND (:domain IS NULL OR +domain = :domain)
                AND (:reason IS NULL OR +reason = :reason)
                AND (:template IS NULL OR +template = :template)
                AND (:lane IS NULL OR +lane = :lane)
                AND (:tag IS NULL OR EXISTS (SELECT 1 FROM message_tag AS other WHERE other.tenant = message.tenant
                    AND other.tag = :tag AND other.accepted_at = message.accepted_at AND other.message = message.id))
                AND (:key IS NULL OR EXISTS (SELECT 1 FROM message_metadata AS pair WHERE pair.tenant = message.tenant
                    AND pair.key = :key AND pair.value = :value
                    AND pair.accepted_at = message.accepted_at AND pair.message = message.id))
            {end} LIMIT :limit",
            self.on_the_way()
        )
    }
}

/// A list as asked for, and where it begins.
struct List<'a> {
    tenant: &'a TenantId,
    filter: &'a MessageFilter,
    until: i64,
    before: Vec<u8>,
}

impl List<'_> {
    /// Runs a statement of a [`Walk`].
    fn rows<'s>(
        &self,
        statement: &'s mut Statement<'_>,
        (lane, status): Standing,
        limit: usize,
    ) -> Result<Rows<'s>, Fault> {
        let filter = self.filter;
        let (key, value) = filter.metadata.as_ref().map(|(key, value)| (key, value)).unzip();
        let params: [(&str, &dyn ToSql); 14] = [
            (":tenant", &self.tenant.as_str()),
            (":since", &filter.since.map_or(i64::MIN, millis_up)),
            (":until", &self.until),
            (":before", &self.before),
            (":recipient", &filter.recipient),
            (":domain", &filter.domain),
            (":status", &status.map(Status::as_str)),
            (":reason", &filter.reason.map(Reason::as_str)),
            (":template", &filter.template),
            (":lane", &lane.map(Lane::as_str)),
            (":tag", &filter.tag),
            (":key", &key),
            (":value", &value),
            (":limit", &limit_of(limit)),
        ];
        for (name, value) in params {
            // A count asks for less than a list.
            if let Some(index) = statement.parameter_index(name)? {
                statement.raw_bind_parameter(index, value)?;
            }
        }
        Ok(statement.raw_query())
    }

    /// What a walk finds, the walks of several standings one after the other, each up to the filter's limit.
    fn walk<T>(
        &self,
        connection: &Connection,
        (walk, asked): (Walk, Asked),
        suits: &dyn Fn(Status) -> bool,
        read: &dyn Fn(&Cells<'_>) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let mut statement = connection.prepare_cached(&walk.sql(asked))?;
        let mut found = Vec::new();
        for standing in walk.standings(self.filter, suits) {
            let mut rows = self.rows(&mut statement, standing, self.filter.limit)?;
            while let Some(row) = rows.next()? {
                found.push(read(&Cells::new(row, "message"))?);
            }
        }
        Ok(found)
    }
}

/// Messages of a tenant, newest first.
pub(super) fn messages(
    connection: &Connection,
    tenant: &TenantId,
    filter: &MessageFilter,
) -> Result<Vec<MessageView>, Fault> {
    let (until, before) = upper_end(connection, tenant, filter)?;
    let list = List { tenant, filter, until, before };
    let walk = Walk::choose(connection, &list, COUNTED_MAX)?;
    let mut page = list.walk(connection, (walk, Asked::Views), &|_| true, &view)?;
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
    let (until, before) = upper_end(connection, tenant, &filter)?;
    let list = List { tenant, filter: &filter, until, before };
    let walk = Walk::choose(connection, &list, COUNTED_MAX)?;
    let read = |cells: &Cells<'_>| Ok((cells.word::<Status>("status")?, cells.plain::<u32>("messages")?));
    let mut counts = BTreeMap::new();
    for (status, messages) in list.walk(connection, (walk, Asked::Counts), &|_| true, &read)? {
        *counts.entry(status).or_default() += u64::from(messages);
    }
    Ok(counts)
}

/// The newest messages of a tenant by place and state: those in a state that passes `suits`, and at worst some others.
pub(super) fn places<T>(
    connection: &Connection,
    tenant: &TenantId,
    filter: &MessageFilter,
    suits: &dyn Fn(Status) -> bool,
    read: &dyn Fn(&Cells<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let (until, before) = upper_end(connection, tenant, filter)?;
    let list = List { tenant, filter, until, before };
    // By standings rather than all, so that what has ended, however much, is not even looked at.
    let walk = Walk::candidates(filter).first().copied().unwrap_or(Walk::Standing);
    list.walk(connection, (walk, Asked::Places), suits, read)
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
    use crate::store::sqlite::open::{Role, open};
    use crate::store::sqlite::tests::plan;

    #[test]
    fn every_list_walks_its_own_index_newest_first() {
        for (walk, index) in [
            (Walk::Recipient, "message_by_recipient (tenant=? AND recipient=? AND accepted_at>?"),
            (Walk::Metadata, "message_metadata USING PRIMARY KEY (tenant=? AND key=? AND value=? AND accepted_at>?"),
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
            let count = plan(&walk.count_sql()).unwrap();
            assert!(count.contains(index), "{walk:?}: {count}");
            assert!(!index.starts_with("message_by") || count.contains("COVERING INDEX"), "{walk:?}: {count}");
        }
    }

    #[test]
    fn the_shorter_side_of_a_filter_is_walked() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open(&folder.path().join("store.db"), Role::Command).unwrap().connection;
        // 40 of one template of which 3 bounced, and 2 of another that are queued.
        let sql = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 42)
            INSERT INTO message (id, tenant, lane, status, deliver_by, accepted_at, domain, recipient, mailbox,
                envelope_sender, template, subject, tags, metadata, message_id)
            SELECT randomblob(16), 'demo', 'standard', iif(x < 4, 'bounced', 'queued'), 9, x, 'd', 'r', 'm', 'e',
                iif(x < 41, 'common', 'rare'), 's', '[]', '{}', '<m>' FROM n";
        connection.execute(sql, []).unwrap();
        let tenant: TenantId = "demo".parse().unwrap();
        let chosen = |template: &str, status, counted_max| {
            let filter =
                MessageFilter { template: Some(template.into()), status: Some(status), ..MessageFilter::default() };
            let list = List { tenant: &tenant, filter: &filter, until: i64::MAX, before: Vec::new() };
            Walk::choose(&connection, &list, counted_max).unwrap()
        };
        assert_eq!(chosen("common", Status::Bounced, 10), Walk::Standing);
        assert_eq!(chosen("rare", Status::Queued, 10), Walk::Template);
        assert_eq!(chosen("rare", Status::Relayed, 10), Walk::Standing);
        // Both are longer than was counted at first.
        assert_eq!(chosen("common", Status::Queued, 10), Walk::Standing);
        let all = MessageFilter::default();
        let list = List { tenant: &tenant, filter: &all, until: i64::MAX, before: Vec::new() };
        assert_eq!(Walk::choose(&connection, &list, 10).unwrap(), Walk::All);
    }
}
