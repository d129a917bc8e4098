//! One customer's way through one version of a journey: where it stands, and how it may end.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::Serialize;

use super::rule::Occasion;
use super::{Trigger, Version};
use crate::domain::ids::{EnrollmentId, JourneyName, TenantId};
use crate::domain::time;
use crate::domain::wallet::CustomerKey;

/// How a message came to be: the step of a journey that sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentBy {
    /// The journey.
    pub journey: JourneyName,
    /// Whose way through it.
    pub enrollment: EnrollmentId,
}

/// Where an enrollment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It waits for its next step, or is due.
    Active,
    /// Its next step is a mail, and nobody knows the customer's address.
    AwaitingContact,
    /// It is over.
    Ended(Ending),
}

/// How an enrollment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    /// All its steps are behind it.
    Completed,
    /// A step ended it.
    Stopped,
    /// An event ended it.
    Exited,
    /// Nobody knew the customer's address in time.
    Unreachable,
    /// The customer wants none of it.
    Unsubscribed,
    /// A step could not be done, however often it was tried.
    Failed,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Active,
        Self::AwaitingContact,
        Self::Ended(Ending::Completed),
        Self::Ended(Ending::Stopped),
        Self::Ended(Ending::Exited),
        Self::Ended(Ending::Unreachable),
        Self::Ended(Ending::Unsubscribed),
        Self::Ended(Ending::Failed),
    ];

    /// The word in rows, JSON and leaves.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::AwaitingContact => "awaiting-contact",
            Self::Ended(Ending::Completed) => "completed",
            Self::Ended(Ending::Stopped) => "stopped",
            Self::Ended(Ending::Exited) => "exited",
            Self::Ended(Ending::Unreachable) => "unreachable",
            Self::Ended(Ending::Unsubscribed) => "unsubscribed",
            Self::Ended(Ending::Failed) => "failed",
        }
    }

    /// Whether it goes on.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Active | Self::AwaitingContact)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Status {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|status| status.as_str() == text);
        found.ok_or_else(|| format!("must be one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// What an operator has said of a journey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing: it takes customers, and they go on.
    Running,
    /// It takes customers, and nobody goes on: what is due waits.
    Paused,
    /// It takes nobody any more, and who is in it goes on to the end.
    Draining,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Running, Self::Paused, Self::Draining];

    /// The word in rows, JSON and leaves.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Draining => "draining",
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|mode| mode.as_str() == text);
        found.ok_or_else(|| format!("must be one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// An enrollment as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrollment {
    /// Its id.
    pub id: EnrollmentId,
    /// Whose customer.
    pub tenant: TenantId,
    /// Which journey.
    pub journey: JourneyName,
    /// Which content of it.
    pub version: Version,
    /// Who.
    pub customer: CustomerKey,
    /// With which pass, by the ledger's key.
    pub pass_key: String,
    /// Its id; `None`: the event named none.
    pub pass: Option<String>,
    /// What began it.
    pub occasion: Occasion,
    /// Where it stands.
    pub status: Status,
    /// The step it stands at, from 0.
    pub step: usize,
    /// When it goes on; `None`: it does not by itself.
    pub due_at: Option<Timestamp>,
    /// How often the step was tried in vain.
    pub tries: u32,
    /// Grows with each change: whoever changes it says which they saw.
    pub revision: i64,
    /// When it began.
    pub entered_at: Timestamp,
    /// Until when an address is waited for; `None`: none is.
    pub contact_by: Option<Timestamp>,
    /// When the brand's CRM was asked for it last.
    pub sought_at: Option<Timestamp>,
}

/// An enrollment as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrollmentView {
    /// Its id.
    pub id: EnrollmentId,
    /// Which journey.
    pub journey: JourneyName,
    /// Which content of it.
    pub version: Version,
    /// Who, as the brand calls them.
    pub customer_id: String,
    /// With which pass.
    pub pass_id: Option<String>,
    /// Where it stands.
    pub status: Status,
    /// The event that ended it.
    pub ended_by: Option<Trigger>,
    /// The step it stands at, from 0.
    pub step: usize,
    /// When it goes on.
    #[serde(serialize_with = "time::write_or_null")]
    pub next_at: Option<Timestamp>,
    /// When it began.
    #[serde(serialize_with = "time::write")]
    pub entered_at: Timestamp,
    /// When it ended.
    #[serde(serialize_with = "time::write_or_null")]
    pub ended_at: Option<Timestamp>,
}

/// How many of a journey stand where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Funnel {
    /// Who ever entered.
    pub entered: u64,
    /// By where they stand.
    pub by_status: BTreeMap<Status, u64>,
    /// How many have each step behind them, and how it went, by version and step.
    pub steps: Vec<StepCount>,
}

/// How often a step of a version went in one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepCount {
    /// Which content of the journey.
    pub version: Version,
    /// Which step, from 0.
    pub step: usize,
    /// How it went: `sent`, `skipped`, `waited`, `no-date`, `stopped`, `capped`.
    pub outcome: String,
    /// How often.
    pub count: u64,
}
