//! The leaves of journeys: who by their enrollment's id, never by a name of theirs.

use jiff::Timestamp;

use super::{Actor, Happening, Kind};
use crate::domain::ids::{EnrollmentId, EventId, JourneyName, MessageId, TenantId};
use crate::domain::journey::enrollment::{Mode, Status};
use crate::domain::journey::walk::Outcome;
use crate::domain::journey::{Trigger, Version};
use crate::domain::message::{self, Reason};
use crate::domain::verb::Because;

/// Which enrollment a leaf tells of.
#[derive(Debug, Clone, Copy)]
pub struct Way<'w> {
    /// Whose customer.
    pub tenant: &'w TenantId,
    /// Its id.
    pub id: EnrollmentId,
    /// Which journey.
    pub journey: &'w JourneyName,
    /// Which content of it.
    pub version: &'w Version,
}

impl Way<'_> {
    fn leaf(&self, at: Timestamp, kind: Kind, message: Option<MessageId>) -> Happening {
        Happening::new(at, kind, self.tenant, message, Actor::Gateway)
            .with("enrollmentId", self.id.to_string())
            .with("journey", self.journey.as_str())
            .with("version", self.version.as_str())
    }

    /// The leaf of somebody who entered.
    #[must_use]
    pub fn enrolled(&self, at: Timestamp, event: EventId, trigger: Trigger) -> Happening {
        self.leaf(at, Kind::Enrolled, None).with("eventId", event.to_string()).with("trigger", trigger.as_str())
    }

    /// The leaf of a step that is behind somebody, with the mail it sent.
    #[must_use]
    pub fn stepped(&self, at: Timestamp, step: usize, outcome: Outcome, message: Option<MessageId>) -> Happening {
        self.leaf(at, Kind::Stepped, message).with("step", step).with("outcome", outcome.as_str())
    }

    /// The leaf of an end; `by`: of the event that made it.
    #[must_use]
    pub fn exited(&self, at: Timestamp, status: Status, by: Option<Trigger>) -> Happening {
        let leaf = self.leaf(at, Kind::Exited, None).with("status", status.as_str());
        match by {
            Some(trigger) => leaf.with("trigger", trigger.as_str()),
            None => leaf,
        }
    }

    /// The leaf of one that goes on although an event had ended it: the pass was back in a moment.
    #[must_use]
    pub fn resumed(&self, at: Timestamp, event: EventId) -> Happening {
        self.leaf(at, Kind::Enrolled, None).with("eventId", event.to_string()).with("resumed", true)
    }
}

/// The leaf of a mail that is not sent since an event ended its journey.
#[must_use]
pub fn journey_exited(at: Timestamp, tenant: &TenantId, id: MessageId) -> Happening {
    Happening::new(at, Kind::Cancelled, tenant, Some(id), Actor::Gateway).with("reason", Reason::JourneyExited.as_str())
}

/// The leaf of a mail that is sent after all: the event that had ended its journey was none.
#[must_use]
pub fn journey_resumed(at: Timestamp, tenant: &TenantId, id: MessageId) -> Happening {
    Happening::new(at, Kind::Released, tenant, Some(id), Actor::Gateway)
        .with("from", message::Status::Cancelled.as_str())
        .with("resumed", true)
}

/// The leaf of an operator's word on a journey.
#[must_use]
pub fn journey_set(
    at: Timestamp,
    tenant: &TenantId,
    journey: &JourneyName,
    mode: Mode,
    actor: Actor,
    because: Option<&Because>,
) -> Happening {
    let leaf = Happening::new(at, Kind::JourneySet, tenant, None, actor)
        .with("journey", journey.as_str())
        .with("mode", mode.as_str());
    match because {
        Some(because) => leaf.with("because", because.as_str()),
        None => leaf,
    }
}
