//! Which index a list of messages walks, newest first, and how.

use rusqlite::{Connection, Rows, Statement, ToSql};

use super::fault::{Cells, Fault};
use super::messages::{COLUMNS, millis_up};
use super::sweep::limit_of;
use crate::domain::ids::{KeyId, MessageId, TenantId};
use crate::domain::lane::Lane;
use crate::domain::message::{Reason, Status};
use crate::store::MessageFilter;

/// Rows of one index that are counted at most before a walk is chosen: some ten milliseconds.
pub(super) const COUNTED_MAX: usize = 50_000;
/// And so many times as many when all sides are longer.
const COUNTED_STEP: usize = 4;
/// More than that nobody has.
const COUNTED_AT_ALL_MAX: usize = 1 << 31;
/// An index that a list can walk, newest first. The rest of the filter is looked at row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walk {
    /// The one message that can have this Message-ID.
    MessageId,
    QueueId,
    Recipient,
    Metadata,
    Tag,
    Journey,
    Reason,
    Template,
    Domain,
    Key,
    /// One lane and one state; a filter that leaves one of them open walks several of these side by side.
    Standing,
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

/// Lane and state of the rows that are wanted; `None` is any.
type Standing = (Option<Lane>, Option<Status>);

impl Walk {
    /// The indexes that a filter can walk, the most selective as a rule first.
    pub(super) fn candidates(filter: &MessageFilter) -> Vec<Self> {
        let given = [
            (Self::MessageId, filter.message_id.is_some()),
            (Self::QueueId, filter.relay_queue_id.is_some()),
            (Self::Recipient, filter.recipient.is_some()),
            (Self::Metadata, filter.metadata.is_some()),
            (Self::Tag, filter.tag.is_some()),
            (Self::Journey, filter.journey.is_some()),
            (Self::Reason, filter.reason.is_some()),
            (Self::Template, filter.template.is_some()),
            (Self::Domain, filter.domain.is_some()),
            (Self::Key, filter.key.is_some()),
            (Self::Standing, filter.status.is_some() || filter.lane.is_some()),
        ];
        given.into_iter().filter(|(_, is_given)| *is_given).map(|(walk, _)| walk).collect()
    }

    /// The shortest walk for a list. A rare state of a common template is found among the few of that state, a common
    /// state of a rare template among the few of that template. All sides are counted up to `counted_max`, then further,
    /// until one has ended: that costs a few times the shortest side, index entries only. It may still be long: an index
    /// for every pair would cost every mail.
    pub(super) fn choose(connection: &Connection, list: &List<'_>, mut counted_max: usize) -> Result<Self, Fault> {
        let candidates = Self::candidates(list.filter);
        let &[first, _, ..] = candidates.as_slice() else {
            // All of a tenant: all lanes and states side by side.
            return Ok(candidates.first().copied().unwrap_or(Self::Standing));
        };
        if first == Self::MessageId {
            return Ok(first);
        }
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
            // A tenant's own: who asks for another's finds nothing.
            Self::MessageId => ("message", "message.id = :id AND message.message_id = :message_id"),
            Self::QueueId => ("message INDEXED BY message_by_queue_id", "message.relay_queue_id = :queue_id"),
            Self::Journey => ("message INDEXED BY message_by_journey", "message.journey = :journey"),
            Self::Reason => ("message INDEXED BY message_by_reason", "message.reason = :reason"),
            Self::Template => ("message INDEXED BY message_by_template", "message.template = :template"),
            Self::Domain => ("message INDEXED BY message_by_domain", "message.domain = :domain"),
            Self::Key => ("message INDEXED BY message_by_key", "message.api_key = :api_key"),
            Self::Standing => {
                ("message INDEXED BY message_by_standing", "message.lane = :lane AND message.status = :status")
            }
        }
    }

    /// The table of the index and its column with the message.
    const fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Metadata => ("message_metadata", "message"),
            Self::Tag => ("message_tag", "message"),
            Self::MessageId
            | Self::QueueId
            | Self::Recipient
            | Self::Journey
            | Self::Reason
            | Self::Template
            | Self::Domain
            | Self::Key
            | Self::Standing => ("message", "id"),
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
            Self::MessageId
            | Self::QueueId
            | Self::Recipient
            | Self::Journey
            | Self::Reason
            | Self::Template
            | Self::Domain
            | Self::Key
            | Self::Standing => (self.index().0, ""),
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
                AND (:queue_id IS NULL OR +relay_queue_id = :queue_id)
                AND (:journey IS NULL OR +journey = :journey)
                AND (:api_key IS NULL OR +api_key = :api_key)
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
pub(super) struct List<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) filter: &'a MessageFilter,
    pub(super) until: i64,
    pub(super) before: Vec<u8>,
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
        let message_id = filter.message_id.as_deref();
        let id = message_id.and_then(MessageId::of_header).map(|id| *id.as_bytes());
        let params: [(&str, &dyn ToSql); 19] = [
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
            (":id", &id),
            (":message_id", &message_id),
            (":queue_id", &filter.relay_queue_id),
            (":journey", &filter.journey),
            (":api_key", &filter.key.as_ref().map(KeyId::as_bytes)),
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

    /// What a walk finds, the walks of several standings one after the other in one snapshot, each up to the filter's limit.
    pub(super) fn walk<T>(
        &self,
        connection: &Connection,
        (walk, asked): (Walk, Asked),
        suits: &dyn Fn(Status) -> bool,
        read: &dyn Fn(&Cells<'_>) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        // One snapshot for all of them: a mail that goes from one state to another meanwhile is found once.
        let snapshot = connection.unchecked_transaction()?;
        let mut statement = snapshot.prepare_cached(&walk.sql(asked))?;
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
            (Walk::QueueId, "message_by_queue_id (tenant=? AND relay_queue_id=? AND accepted_at>?"),
            (Walk::Journey, "message_by_journey (tenant=? AND journey=? AND accepted_at>?"),
            (Walk::Reason, "message_by_reason (tenant=? AND reason=? AND accepted_at>?"),
            (Walk::Domain, "message_by_domain (tenant=? AND domain=? AND accepted_at>?"),
            (Walk::Key, "message_by_key (tenant=? AND api_key=? AND accepted_at>?"),
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
        assert_eq!(Walk::choose(&connection, &list, 10).unwrap(), Walk::Standing);
    }
}
