//! Whom a journey takes, and when a step is taken: what is asked of an occasion and of a customer.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::walk::Facts;
use crate::domain::pass_event::{PassEvent, Wallet};
use crate::domain::wallet::WalletStatus;

/// The pass event that began an enrollment, as far as steps and templates ask for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Occasion {
    /// In which wallet.
    pub device: Wallet,
    /// The pass's type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass_type: Option<String>,
    /// The source's tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The source's medium.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<String>,
    /// The source's page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

impl Occasion {
    /// What an event says, of a pass that is of this type as far as is known.
    #[must_use]
    pub fn of(event: &PassEvent, pass_type: Option<&str>) -> Self {
        Self {
            device: event.wallet,
            pass_type: pass_type.map(str::to_owned),
            tags: event.source.tags.clone(),
            medium: event.source.medium.clone(),
            origin: event.source.origin.clone(),
        }
    }
}

/// Whom a journey takes: everything that is asked for must hold; an empty list asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct When {
    /// The pass is of one of these types.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub pass_type: BTreeSet<String>,
    /// In this wallet; `None`: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<Wallet>,
    /// By one of these media.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub medium: BTreeSet<String>,
    /// From a page whose address holds one of these.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub origin_contains: BTreeSet<String>,
    /// With one of these tags.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags_any: BTreeSet<String>,
}

impl When {
    /// Whether a journey takes who comes on this occasion.
    #[must_use]
    pub fn holds(&self, occasion: &Occasion) -> bool {
        let origin = occasion.origin.as_deref().unwrap_or_default();
        one_of(&self.pass_type, occasion.pass_type.as_deref())
            && self.device.is_none_or(|device| device == occasion.device)
            && one_of(&self.medium, occasion.medium.as_deref())
            && (self.origin_contains.is_empty() || self.origin_contains.iter().any(|part| origin.contains(part)))
            && any_of(&self.tags_any, &occasion.tags)
    }
}

/// What a step asks for: all of it must hold; an empty list asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// The customer's wallets stand in one of these ways now.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub wallet_status: BTreeSet<WalletStatus>,
    /// The pass was added in this wallet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<Wallet>,
    /// The pass is of one of these types.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub pass_type: BTreeSet<String>,
    /// It was added with one of these tags.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags_any: BTreeSet<String>,
    /// It was added by one of these media.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub medium: BTreeSet<String>,
    /// Each of these fields of the contact has one of these values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub contact: BTreeMap<String, BTreeSet<String>>,
}

impl Condition {
    /// Whether it asks for nothing at all, which is a mistake in a drawing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it holds.
    #[must_use]
    pub fn holds(&self, facts: &Facts<'_>) -> bool {
        let occasion = facts.occasion;
        (self.wallet_status.is_empty() || self.wallet_status.contains(&facts.wallet_status))
            && self.device.is_none_or(|device| device == occasion.device)
            && one_of(&self.pass_type, occasion.pass_type.as_deref())
            && any_of(&self.tags_any, &occasion.tags)
            && one_of(&self.medium, occasion.medium.as_deref())
            && self
                .contact
                .iter()
                .all(|(field, values)| facts.contact_words(field).iter().any(|word| values.contains(word)))
    }
}

/// A field's value as a drawing writes it: `gold`, `3`, `true`.
#[must_use]
pub fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn one_of(allowed: &BTreeSet<String>, value: Option<&str>) -> bool {
    allowed.is_empty() || value.is_some_and(|value| allowed.contains(value))
}

fn any_of(allowed: &BTreeSet<String>, values: &[String]) -> bool {
    allowed.is_empty() || values.iter().any(|value| allowed.contains(value))
}
