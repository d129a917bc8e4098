//! A journey: what follows from a pass event, step by step, as the brand drew it.
//!
//! # Who is who
//!
//! * A **journey** is a drawing: what begins it, whom it takes, what ends it early, and its steps.
//! * A **version** is one content of a drawing. Whoever has begun ends with the version they began with.
//! * An **enrollment** is one customer's way through one version.
//! * An **occasion** is the pass event that began it, as far as steps ask for it.
//!
//! Everything here is pure: what is known of a customer comes in as [`walk::Facts`], what is to be done goes out as a
//! [`walk::Plan`]. When and in which transaction that is done is the affair of the rooms `journeys` and `store`.

pub mod enrollment;
pub mod hours;
pub mod rule;
pub mod view;
pub mod walk;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use self::hours::{DayTime, QuietHours};
use self::rule::{Condition, When};
use super::audit::hex;
use super::ids::{JourneyName, TenantId};
use super::pass_event::Change;
use super::quantity::HumanDuration;

/// Steps of a journey at most.
pub const STEPS_MAX: usize = 100;
/// Bytes of a digest that make a version's name: a brand draws no 2^24 versions of one journey.
const VERSION_BYTES: usize = 6;

/// A journey as it is drawn. Serialised it is what a version is known by, so every part is written in one way only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journey {
    /// Its name: that of its file.
    pub name: JourneyName,
    /// Whose it is.
    pub tenant: TenantId,
    /// What begins it.
    pub trigger: Trigger,
    /// How often it takes the same customer.
    pub entry: EntryRule,
    /// What ends it early.
    pub exit_on: BTreeSet<Trigger>,
    /// When its mails do not go out.
    pub quiet_hours: Option<QuietHours>,
    /// How long it waits for the address of a customer who has none.
    pub contact_within: HumanDuration,
    /// Whom it takes.
    pub when: When,
    /// What it does, in this order.
    pub steps: Vec<Step>,
}

impl Journey {
    /// The name of this content: another content has another.
    #[must_use]
    pub fn version(&self) -> Version {
        // Texts, numbers and lists of them: writing these as JSON cannot fail.
        let written = serde_json::to_vec(self).unwrap_or_default();
        Version(hex(&Sha256::digest(&written)[..VERSION_BYTES]))
    }

    /// The templates that it sends.
    pub fn templates(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| match &step.action {
            Action::Send { template } => Some(template.as_str()),
            Action::Wait(_) | Action::WaitUntil(_) | Action::WaitForDate(_) | Action::Stop => None,
        })
    }
}

/// A journey with what is told of its content each time somebody enters it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    /// The journey.
    pub journey: Journey,
    /// The name of its content.
    pub version: Version,
    /// The content, as JSON.
    pub written: String,
}

impl From<Journey> for Drawn {
    fn from(journey: Journey) -> Self {
        // As in `Journey::version`.
        let written = serde_json::to_string(&journey).unwrap_or_default();
        Self { version: journey.version(), written, journey }
    }
}

/// One content of a journey, as 12 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(String);

impl Version {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = text.len() == 2 * VERSION_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if fits { Ok(Self(text.to_owned())) } else { Err("not a version of a journey".to_owned()) }
    }
}

/// What happened to a pass, as journeys hear of it.
///
/// An install that undid a removal a moment before is none (phones remove and add passes by themselves), and what the Pass
/// API says on a later day is none either. A removal is one only when it leaves the pass in no wallet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Trigger {
    /// The pass is in a wallet for the first time.
    #[serde(rename = "pass.first-install")]
    FirstInstall,
    /// It is back.
    #[serde(rename = "pass.reinstall")]
    Reinstall,
    /// It is in another wallet, or on a further device, too.
    #[serde(rename = "pass.additional-device")]
    AdditionalDevice,
    /// It is in no wallet any more.
    #[serde(rename = "pass.removed")]
    Removed,
}

impl Trigger {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::FirstInstall, Self::Reinstall, Self::AdditionalDevice, Self::Removed];

    /// What journeys hear of a change, when the pass is in a wallet after it or not.
    #[must_use]
    pub const fn of(change: Change, is_installed: bool) -> Option<Self> {
        match (change, is_installed) {
            (Change::FirstInstall, _) => Some(Self::FirstInstall),
            (Change::Reinstall, _) => Some(Self::Reinstall),
            (Change::AdditionalDevice, _) => Some(Self::AdditionalDevice),
            (Change::Removed, false) => Some(Self::Removed),
            (Change::Removed, true) | (Change::Duplicate | Change::Stale, _) => None,
        }
    }

    /// The word in definitions, rows and leaves.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FirstInstall => "pass.first-install",
            Self::Reinstall => "pass.reinstall",
            Self::AdditionalDevice => "pass.additional-device",
            Self::Removed => "pass.removed",
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Trigger {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|trigger| trigger.as_str() == text);
        found.ok_or_else(|| format!("must be one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// How often a journey takes the same customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryRule {
    /// Once, whatever passes they have, for ever.
    OncePerCustomer,
    /// Once for each of their passes, for ever.
    OncePerPass,
    /// Whenever it is triggered.
    EveryTime,
    /// Whenever it is triggered and the last time is so long ago.
    Cooldown(HumanDuration),
}

impl fmt::Display for EntryRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OncePerCustomer => f.write_str("once-per-customer"),
            Self::OncePerPass => f.write_str("once-per-pass"),
            Self::EveryTime => f.write_str("every-time"),
            Self::Cooldown(length) => write!(f, "cooldown:{length}"),
        }
    }
}

impl FromStr for EntryRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "once-per-customer" => Ok(Self::OncePerCustomer),
            "once-per-pass" => Ok(Self::OncePerPass),
            "every-time" => Ok(Self::EveryTime),
            _ => match text.strip_prefix("cooldown:").map(str::parse::<HumanDuration>) {
                Some(Ok(length)) if !length.0.is_zero() => Ok(Self::Cooldown(length)),
                Some(Ok(_)) => Err("a cooldown must be more than 0s".to_owned()),
                Some(Err(wrong)) => Err(wrong),
                None => Err("must be once-per-customer, once-per-pass, every-time or cooldown:30d".to_owned()),
            },
        }
    }
}

impl Serialize for EntryRule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EntryRule {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What it does.
    pub action: Action,
    /// Only if this holds; else it is passed over.
    #[serde(rename = "if", default, skip_serializing_if = "Option::is_none")]
    pub only_if: Option<Condition>,
    /// Not if this holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless: Option<Condition>,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Sends one of our templates.
    Send {
        /// Its name: a folder of `templates/mail`.
        template: String,
    },
    /// Waits for so long.
    Wait(HumanDuration),
    /// Waits until it is this time of day where the customer is.
    WaitUntil(DayTime),
    /// Waits until a date of the pass or the contact.
    WaitForDate(AtDate),
    /// Ends the journey here.
    Stop,
}

/// A moment before, on or after a date that is kept with the pass or the contact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtDate {
    /// The name of the pass's identifier, or else of the contact's field, that holds the date.
    pub field: String,
    /// So long before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<HumanDuration>,
    /// So long after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<HumanDuration>,
    /// At this time of day where the customer is; without it at the date's own time, or at midnight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<DayTime>,
}
