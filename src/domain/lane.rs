//! Lanes: which mails wait for which others, and what holds for each of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::quantity::{HumanDuration, Share};

/// The lane a message travels in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Codes and challenges: never behind a backlog.
    Urgent,
    /// Everything else that The Wallet Crew renders.
    Standard,
    /// Mails of journeys.
    Journey,
}

impl Lane {
    /// All lanes, the most pressing first.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Standard, Self::Journey];

    /// The word used in JSON, rows, logs and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Standard => "standard",
            Self::Journey => "journey",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Lane {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|lane| lane.as_str() == text)
            .ok_or_else(|| "a lane is urgent, standard or journey".to_owned())
    }
}

/// One value for each lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PerLane<T> {
    /// For `urgent`.
    pub urgent: T,
    /// For `standard`.
    pub standard: T,
    /// For `journey`.
    pub journey: T,
}

impl<T> PerLane<T> {
    /// Builds each lane's value.
    pub fn from_fn(mut make: impl FnMut(Lane) -> T) -> Self {
        Self { urgent: make(Lane::Urgent), standard: make(Lane::Standard), journey: make(Lane::Journey) }
    }

    /// The value of `lane`.
    pub const fn get(&self, lane: Lane) -> &T {
        match lane {
            Lane::Urgent => &self.urgent,
            Lane::Standard => &self.standard,
            Lane::Journey => &self.journey,
        }
    }

    /// The value of `lane`, to change.
    pub const fn get_mut(&mut self, lane: Lane) -> &mut T {
        match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Standard => &mut self.standard,
            Lane::Journey => &mut self.journey,
        }
    }
}

/// What to do with a message whose last attempt may or may not have been taken by the relay, when no evidence says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownPolicy {
    /// Send it once more; a second unknown of the same message is held.
    ResendOnce,
    /// Hold it for an operator.
    Hold,
}

/// `[lanes.<name>]`: what holds for one lane.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LaneRules {
    /// Default deadline, counted from acceptance or `sendAt`.
    pub deliver_within: HumanDuration,
    /// Retry delays; `None` means `delivery.retry`.
    pub retry: Option<Vec<HumanDuration>>,
    /// Share of a relay's sessions that no other lane may take.
    pub reserved: Share,
    /// What to do with an unknown.
    pub on_unknown: UnknownPolicy,
}
