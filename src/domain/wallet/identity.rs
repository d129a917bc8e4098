//! Whose a pass is: the latest word on each of its identifiers, and the customer they name.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::CustomerKey;
use crate::domain::pass_event::IDENTIFIERS_MAX;

/// A pass's identifiers, each as it was said last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identifiers(BTreeMap<String, Word>);

/// What was said, and when. Of two words at the same time the greater counts, so that their order does not matter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Word {
    at: i64,
    value: String,
}

impl Identifiers {
    /// Takes note of what an event said at its time. What says nothing takes nothing back. Those that the tenant knows
    /// customers by, `names`, always have a place; the others as long as there is one.
    pub fn learn(&mut self, said: &BTreeMap<String, String>, names: &[String], at: Timestamp) {
        for (name, value) in said.iter().filter(|(_, value)| !value.is_empty()) {
            let word = Word { at: at.as_millisecond(), value: value.clone() };
            if let Some(known) = self.0.get_mut(name) {
                *known = word.max(known.clone());
            } else if self.0.len() < IDENTIFIERS_MAX || names.contains(name) {
                self.0.insert(name.clone(), word);
            }
        }
    }

    /// Who they are to a tenant that knows customers by `names`, the best first; else whom the pass's own id stands for.
    #[must_use]
    pub fn customer(&self, names: &[String], pass: &str) -> CustomerKey {
        let found = names.iter().find_map(|name| self.0.get(name).map(|word| (name, &word.value)));
        let found = found.map(|(name, value)| CustomerKey { value: value.clone(), by: name.clone() });
        found.unwrap_or_else(|| CustomerKey::by_pass(pass))
    }

    /// Whether they say the same, whenever each was said.
    #[must_use]
    pub fn says_as(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }

    /// Their names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &String)> {
        self.0.iter().map(|(name, word)| (name, &word.value))
    }

    /// Their names and values, to be shown.
    #[must_use]
    pub fn into_values(self) -> BTreeMap<String, String> {
        self.0.into_iter().map(|(name, word)| (name, word.value)).collect()
    }
}
