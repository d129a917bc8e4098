//! A journey as its file writes it: keys and their types. What they mean together is in `drawing`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde_json::Value;

use crate::domain::ids::TenantId;
use crate::domain::journey::hours::{DayTime, QuietHours};
use crate::domain::journey::{EntryRule, Trigger};
use crate::domain::pass_event::Wallet;
use crate::domain::quantity::HumanDuration;
use crate::domain::wallet::WalletStatus;

/// How long an address is waited for when nothing is written: a week.
const CONTACT_WITHIN: HumanDuration = HumanDuration::from_secs(7 * 86_400);

/// `journeys/<name>.toml`.
#[derive(Deserialize)]
#[serde(default, expecting = "a table")]
pub(in crate::config) struct JourneyFile {
    pub(super) tenant: Option<TenantId>,
    pub(super) trigger: Option<Trigger>,
    pub(super) entry: EntryRule,
    pub(super) exit_on: Vec<Trigger>,
    pub(super) quiet_hours: Option<QuietHours>,
    pub(super) contact_within: HumanDuration,
    pub(super) when: WhenFile,
    pub(super) step: Vec<StepFile>,
}

impl Default for JourneyFile {
    fn default() -> Self {
        Self {
            tenant: None,
            trigger: None,
            // Whoever writes nothing welcomes nobody twice.
            entry: EntryRule::OncePerCustomer,
            exit_on: Vec::new(),
            quiet_hours: None,
            contact_within: CONTACT_WITHIN,
            when: WhenFile::default(),
            step: Vec::new(),
        }
    }
}

/// `[when]`.
#[derive(Default, Deserialize)]
#[serde(default, expecting = "a table")]
pub(in crate::config) struct WhenFile {
    pub(super) pass_type: Vec<String>,
    pub(super) device: Device,
    pub(super) medium: Vec<String>,
    pub(super) origin_contains: Vec<String>,
    pub(super) tags_any: Vec<String>,
}

/// A wallet, or any.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Device {
    #[default]
    Any,
    Apple,
    Google,
}

impl Device {
    pub(super) const fn wallet(self) -> Option<Wallet> {
        match self {
            Self::Any => None,
            Self::Apple => Some(Wallet::Apple),
            Self::Google => Some(Wallet::Google),
        }
    }
}

/// `[[step]]`: one of the first four says what it does.
#[derive(Default, Deserialize)]
#[serde(default, expecting = "a table")]
pub(in crate::config) struct StepFile {
    pub(super) send: Option<String>,
    pub(super) wait: Option<HumanDuration>,
    pub(super) wait_until: Option<UntilFile>,
    pub(super) stop: Option<bool>,
    #[serde(rename = "if")]
    pub(super) only_if: Option<ConditionFile>,
    pub(super) unless: Option<ConditionFile>,
}

/// `if` and `unless`.
#[derive(Default, Deserialize)]
#[serde(default, expecting = "a table")]
pub(in crate::config) struct ConditionFile {
    pub(super) wallet_status: Vec<WalletStatus>,
    pub(super) device: Device,
    pub(super) pass_type: Vec<String>,
    pub(super) tags_any: Vec<String>,
    pub(super) medium: Vec<String>,
    pub(super) contact: BTreeMap<String, Vec<Scalar>>,
}

/// `wait_until`: a time of day, or a date.
pub(in crate::config) enum UntilFile {
    Time(DayTime),
    Date(DateFile),
}

/// `wait_until = { … }`.
#[derive(Default, Deserialize)]
#[serde(default, expecting = "a table")]
pub(in crate::config) struct DateFile {
    pub(super) field: Option<String>,
    pub(super) before: Option<HumanDuration>,
    pub(super) after: Option<HumanDuration>,
    pub(super) at: Option<DayTime>,
}

impl<'de> Deserialize<'de> for UntilFile {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TimeOrDate;
        impl<'de> Visitor<'de> for TimeOrDate {
            type Value = UntilFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a time of day, as in \"09:00\", or a table, as in { field = \"validUntil\", before = \"7d\" }",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<UntilFile, E> {
                text.parse().map(UntilFile::Time).map_err(E::custom)
            }

            // Through the map itself, so that a mistake in it is named by its own key.
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<UntilFile, A::Error> {
                DateFile::deserialize(MapAccessDeserializer::new(map)).map(UntilFile::Date)
            }
        }
        deserializer.deserialize_any(TimeOrDate)
    }
}

/// What a contact's field may be: text, a number, true or false.
pub(in crate::config) struct Scalar(pub(super) Value);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyScalar;
        impl Visitor<'_> for AnyScalar {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, a number, true or false")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.into()))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.into()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(number.into()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar(number.into()))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Scalar, E> {
                Ok(Scalar(number.into()))
            }
        }
        deserializer.deserialize_any(AnyScalar)
    }
}
