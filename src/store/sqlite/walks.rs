//! The indexes of messages that a list can walk, newest first, and the statements that walk them.

use super::messages::COLUMNS;
use crate::domain::lane::Lane;
use crate::domain::message::Status;
use crate::store::MessageFilter;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Whole messages.
    Views,
    /// Their places: `id`, `accepted_at` and `status`.
    Places,
    /// How many there are: `status` and `messages`.
    Counts,
}

/// Lane and state of the rows that are wanted; `None` is any.
pub(super) type Standing = (Option<Lane>, Option<Status>);

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

    /// The lanes and states to walk, each once. States that do not pass `suits` need not be walked.
    pub(super) fn standings(self, filter: &MessageFilter, suits: &dyn Fn(Status) -> bool) -> Vec<Standing> {
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
                AND ({place}.accepted_at, {place}.{id}) >= (:since, :from)
                AND ({place}.accepted_at, {place}.{id}) < (:until, :before)"
        )
    }

    /// The statement that finds how far back the next rows on the way reach, in the index alone.
    pub(super) fn reach_sql(self) -> String {
        let (place, id) = self.place();
        format!(
            "-- reach
            SELECT {place}.accepted_at AS accepted_at, {place}.{id} AS id FROM {} WHERE {}
            ORDER BY {place}.accepted_at DESC, {place}.{id} DESC LIMIT 1 OFFSET :limit",
            self.index().0,
            self.on_the_way()
        )
    }

    /// The statement that walks this index. `+` keeps a column from being asked of another one.
    pub(super) fn sql(self, asked: Asked) -> String {
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use crate::store::sqlite::tests::plan;

    #[test]
    fn every_list_walks_its_own_index_newest_first() {
        for (walk, index) in [
            (
                Walk::Recipient,
                "message_by_recipient (tenant=? AND recipient=? AND (accepted_at,id)>(?,?) AND (accepted_at,id)<(?,?)",
            ),
            (
                Walk::Metadata,
                "message_metadata USING PRIMARY KEY (tenant=? AND key=? AND value=? AND (accepted_at,message)>(?,?) AND (accepted_at,message)<(?,?)",
            ),
            (
                Walk::Tag,
                "message_tag USING PRIMARY KEY (tenant=? AND tag=? AND (accepted_at,message)>(?,?) AND (accepted_at,message)<(?,?)",
            ),
            (
                Walk::Template,
                "message_by_template (tenant=? AND template=? AND (accepted_at,id)>(?,?) AND (accepted_at,id)<(?,?)",
            ),
            (
                Walk::Standing,
                "message_by_standing (tenant=? AND lane=? AND status=? AND (accepted_at,id)>(?,?) AND (accepted_at,id)<(?,?)",
            ),
            (
                Walk::QueueId,
                "message_by_queue_id (tenant=? AND relay_queue_id=? AND (accepted_at,id)>(?,?) AND (accepted_at,id)<(?,?)",
            ),
            (
                Walk::Journey,
                "message_by_journey (tenant=? AND journey=? AND (accepted_at,id)>(?,?) AND (accepted_at,id)<(?,?)",
            ),
            (
                Walk::Reason,
                "message_by_reason (tenant=? AND reason=? AND (accepted_at,id)>(?,?) AND (accepted_at,id)<(?,?)",
            ),
            (
                Walk::Domain,
                "message_by_domain (tenant=? AND domain=? AND (accepted_at,id)>(?,?) AND (accepted_at,id)<(?,?)",
            ),
            (Walk::Key, "message_by_key (tenant=? AND api_key=? AND (accepted_at,id)>(?,?) AND (accepted_at,id)<(?,?)"),
        ] {
            for asked in [Asked::Views, Asked::Places, Asked::Counts] {
                let plan = plan(&walk.sql(asked)).unwrap();
                assert!(plan.contains(index), "{walk:?} {asked:?}: {plan}");
                // Counts are grouped by a handful of states.
                let plan = plan.replace("USE TEMP B-TREE FOR GROUP BY", "");
                assert!(!plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{walk:?} {asked:?}: {plan}");
            }
            let reach = plan(&walk.reach_sql()).unwrap();
            assert!(reach.contains(index) && !reach.contains("TEMP B-TREE"), "{walk:?}: {reach}");
            assert!(!index.starts_with("message_by") || reach.contains("COVERING INDEX"), "{walk:?}: {reach}");
        }
    }
}
