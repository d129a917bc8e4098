//! The blast brake in words: a stream of mails, why it is out of line, and the brake that is then on.
//!
//! What is out of line is decided in [`watch`].

pub mod watch;

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::ids::{BrakeId, KeyId, TenantId};
use super::time;

/// What is watched together: never an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stream {
    /// Whose mails.
    pub tenant: TenantId,
    /// Handed in with this key.
    pub key: KeyId,
    /// Of this template.
    pub template: Option<String>,
}

impl Stream {
    /// The template as it may stand in logs and in the audit: names are, addresses and links are not.
    #[must_use]
    pub fn template_named(&self) -> Option<&str> {
        self.template.as_deref().filter(|name| !name.contains('@') && !name.contains("://"))
    }
}

/// Why a stream is out of line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Many more mails than usual.
    Volume,
    /// More mails than the hard limit.
    Limit,
    /// Too many near-identical mails to one recipient.
    SameRecipient,
    /// Relays refuse many more than usual for good.
    BounceShare,
}

impl Cause {
    /// All causes.
    pub const ALL: [Self; 4] = [Self::Volume, Self::Limit, Self::SameRecipient, Self::BounceShare];

    /// The word in JSON, rows, logs and leaves.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Volume => "volume",
            Self::Limit => "limit",
            Self::SameRecipient => "same-recipient",
            Self::BounceShare => "bounce-share",
        }
    }
}

impl FromStr for Cause {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == text).ok_or_else(|| "not a cause".to_owned())
    }
}

/// What is too much, and how much there might have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excess {
    /// Why.
    pub cause: Cause,
    /// Mails; for a bounce share, how many of a thousand.
    pub seen: u32,
    /// The most that would have been in line.
    pub allowed: u32,
}

/// The brake that holds a mail, or has ended it, and why it went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrakedBy {
    /// Its name.
    pub id: BrakeId,
    /// What was too much.
    pub excess: Excess,
}

/// What a brake does to its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Holds its mails until an operator decides.
    Hold,
    /// Raises an alarm, and ends by itself.
    Alarm,
}

/// What an operator makes of a brake that is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// It was meant: what is held goes on, and the new level is usual.
    Release,
    /// It was not: what is held ends unsent. New mails flow, and are judged as before.
    Cancel,
}

impl Decision {
    /// The word in URLs, rows and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Cancel => "cancel",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Decision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Release, Self::Cancel].into_iter().find(|it| it.as_str() == text).ok_or_else(|| "not a decision".into())
    }
}

/// A brake that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBrake {
    /// Its name.
    pub id: BrakeId,
    /// What it brakes.
    pub stream: Stream,
    /// Why.
    pub excess: Excess,
    /// What it does.
    pub effect: Effect,
    /// Since when.
    pub at: Timestamp,
}

/// How a brake stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BrakeStatus {
    /// It is on.
    Engaged,
    /// It is off; what it held goes on, and has not all gone yet.
    Releasing,
    /// It is off; what it held ends, and has not all ended yet.
    Cancelling,
    /// What it held went on.
    Released,
    /// What it held ended.
    Cancelled,
}

impl BrakeStatus {
    /// The word in JSON and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Engaged => "engaged",
            Self::Releasing => "releasing",
            Self::Cancelling => "cancelling",
            Self::Released => "released",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A brake as kept, and as shown to operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brake {
    /// Its name.
    pub id: BrakeId,
    /// What it brakes.
    pub stream: Stream,
    /// Why.
    pub excess: Excess,
    /// What it does.
    pub effect: Effect,
    /// Since when.
    pub engaged_at: Timestamp,
    /// What was decided; `None` while it is on.
    pub decision: Option<Decision>,
    /// When.
    pub decided_at: Option<Timestamp>,
    /// By whom, as in the audit.
    pub decided_by: Option<String>,
    /// Why, in their own words.
    pub because: Option<String>,
    /// Mails that it holds now.
    pub held: u64,
    /// Mails with which the decision was carried out.
    pub done: u64,
    /// When that was all of them.
    pub finished_at: Option<Timestamp>,
}

impl Brake {
    /// How it stands.
    #[must_use]
    pub fn status(&self) -> BrakeStatus {
        match (self.decision, self.finished_at) {
            (None, _) => BrakeStatus::Engaged,
            (Some(Decision::Release), None) => BrakeStatus::Releasing,
            (Some(Decision::Cancel), None) => BrakeStatus::Cancelling,
            (Some(Decision::Release), Some(_)) => BrakeStatus::Released,
            (Some(Decision::Cancel), Some(_)) => BrakeStatus::Cancelled,
        }
    }
}

impl Serialize for Brake {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("tenant", &self.stream.tenant)?;
        map.serialize_entry("keyId", &self.stream.key)?;
        map.serialize_entry("template", &self.stream.template)?;
        map.serialize_entry("status", &self.status())?;
        map.serialize_entry("cause", &self.excess.cause)?;
        map.serialize_entry("seen", &self.excess.seen)?;
        map.serialize_entry("allowed", &self.excess.allowed)?;
        map.serialize_entry("holds", &(self.effect == Effect::Hold))?;
        map.serialize_entry("held", &self.held)?;
        map.serialize_entry("done", &self.done)?;
        map.serialize_entry("engagedAt", &time::text(self.engaged_at))?;
        map.serialize_entry("decidedAt", &self.decided_at.map(time::text))?;
        map.serialize_entry("decidedBy", &self.decided_by)?;
        map.serialize_entry("because", &self.because)?;
        map.end()
    }
}
