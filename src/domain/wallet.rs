//! A customer's wallets: what the events of all their passes add up to.

use serde::Serialize;

/// Who a pass belongs to: the first identifier that the tenant knows customers by, or the pass itself while none is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CustomerKey {
    /// The identifier's name; [`BY_PASS`] while the customer is known by a pass's id only.
    pub by: String,
    /// Its value, normalised.
    pub value: String,
}

/// In place of an identifier's name: the value is a pass's id.
pub const BY_PASS: &str = "passId";

/// In which wallets a customer has a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
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

impl std::str::FromStr for WalletStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::None, Self::Apple, Self::Google, Self::Both];
        all.into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| "must be none, apple, google or both".into())
    }
}
