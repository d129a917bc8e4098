//! `unless`: in which states of its customer's wallets a mail is no longer wanted, looked at just before it would be sent.

use std::collections::BTreeSet;

use serde::Serialize;

use super::wallet::WalletStatus;

/// A condition that ends a mail unsent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unless {
    /// In any of these states; one of whom nothing is known is in none.
    pub wallet_status: BTreeSet<WalletStatus>,
    /// Whose wallets: the value of an identifier, normalised; `None`: whoever has the recipient's address among theirs.
    pub customer: Option<String>,
}

impl Unless {
    /// Whether a mail is not to be sent to one in this state.
    #[must_use]
    pub fn ends(&self, status: WalletStatus) -> bool {
        self.wallet_status.contains(&status)
    }

    /// The states as a row keeps them: one space between them.
    #[must_use]
    pub fn words(&self) -> String {
        self.wallet_status.iter().map(|status| status.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// What a row keeps; `None` when that makes no sense.
    #[must_use]
    pub fn read(words: &str, customer: Option<String>) -> Option<Self> {
        let wallet_status = words.split(' ').map(str::parse).collect::<Result<BTreeSet<_>, _>>().ok()?;
        Some(Self { wallet_status, customer })
    }
}

/// A mail's condition, and how it stands with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// What ends it.
    pub unless: Unless,
    /// In which wallets the customer has a pass.
    pub status: WalletStatus,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    #[test]
    fn a_condition_is_read_back_from_its_words_and_ends_what_it_lists() {
        let unless = Unless::read("both apple apple", Some("C-1".into())).unwrap();
        assert_eq!(unless.words(), "apple both");
        assert_eq!(Unless::read(&unless.words(), unless.customer.clone()), Some(unless.clone()));
        let ends = WalletStatus::ALL.map(|status| unless.ends(status));
        assert_eq!(ends, [false, true, false, true]);
        for words in ["", "apple,both", "apple  both", "windows"] {
            assert_eq!(Unless::read(words, None), None, "{words:?}");
        }
    }
}
