//! What pass events add up to: for one pass, and for the customer it belongs to.
//!
//! Three rules carry everything. What the events of a pass add up to ([`history`]) depends on the set of them and their times,
//! never on the order they came in; whose a pass is ([`identity`]) depends on the latest word on each of its identifiers;
//! and what the passes of a customer add up to ([`customer`]) depends on the passes alone. So a late event, a repeat or a replay of everything ends where it would have ended at once.

pub mod customer;
pub mod history;
pub mod identity;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::pass_event::Wallet;

/// In place of an identifier's name: the value is a pass's id.
pub const BY_PASS: &str = "passId";

/// Who a pass belongs to: the first identifier that the tenant knows customers by, or the pass itself while none is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CustomerKey {
    /// The identifier's value, normalised.
    pub value: String,
    /// The identifier's name; [`BY_PASS`] while the customer is known by a pass's id only.
    pub by: String,
}

impl CustomerKey {
    /// Who these identifiers are, to a tenant that knows customers by `names`, the best first.
    #[must_use]
    pub fn of(identifiers: &BTreeMap<String, String>, names: &[String]) -> Option<Self> {
        let found =
            names.iter().find_map(|name| Some((name, identifiers.get(name).filter(|value| !value.is_empty())?)));
        found.map(|(name, value)| Self { value: value.clone(), by: name.clone() })
    }

    /// A customer of whom only a pass is known.
    #[must_use]
    pub fn by_pass(pass: &str) -> Self {
        Self { value: pass.to_owned(), by: BY_PASS.to_owned() }
    }

    /// Whether there is nothing but a pass's id.
    #[must_use]
    pub fn is_by_pass(&self) -> bool {
        self.by == BY_PASS
    }
}

/// In which wallets a customer has a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WalletStatus {
    /// In none.
    None,
    /// In Apple Wallet only.
    Apple,
    /// In Google Wallet only.
    Google,
    /// In both.
    Both,
}

impl WalletStatus {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Apple, Self::Google, Self::Both];

    /// The status of one who has passes in these wallets.
    #[must_use]
    pub fn in_wallets(wallets: impl IntoIterator<Item = Wallet>) -> Self {
        wallets.into_iter().fold(Self::None, |status, wallet| match (status, wallet) {
            (Self::None | Self::Apple, Wallet::Apple) => Self::Apple,
            (Self::None | Self::Google, Wallet::Google) => Self::Google,
            (Self::Google | Self::Both, Wallet::Apple) | (Self::Apple | Self::Both, Wallet::Google) => Self::Both,
        })
    }

    /// Whether a pass is in this wallet.
    #[must_use]
    pub const fn has(self, wallet: Wallet) -> bool {
        matches!((self, wallet), (Self::Both, _) | (Self::Apple, Wallet::Apple) | (Self::Google, Wallet::Google))
    }

    /// The word in rows, JSON and queries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Apple => "apple",
            Self::Google => "google",
            Self::Both => "both",
        }
    }
}

impl fmt::Display for WalletStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for WalletStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|status| status.as_str() == text);
        found.ok_or_else(|| "must be none, apple, google or both".to_owned())
    }
}
