//! A backfill in words: what a reading of the Pass API found, and where it and the ledger disagree.

use serde::{Deserialize, Serialize};

use super::pass_event::Wallet;

/// What a reading counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tally {
    /// Passes, each once.
    pub read: u64,
    /// Of the passes read, those of which the ledger knew the same.
    pub unchanged: u64,
    /// What was wrong in the ledger.
    pub repaired: Repaired,
    /// Things the API said that we do not understand: nothing was made of them.
    pub not_understood: u64,
    /// Passes in the ledger's wallets that the API does not know.
    pub missing: u64,
    /// Pages read.
    pub pages: u64,
    /// Requests made.
    pub requests: u64,
    /// Seconds it took.
    pub seconds: u64,
}

/// What was wrong in the ledger, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Repaired {
    /// Known passes that are in a wallet and were not in the ledger's, each wallet once.
    pub installed: u64,
    /// Known passes that are in a wallet no more, each wallet once.
    pub removed: u64,
    /// Known passes of which only identifiers were wrong or not known.
    pub identifiers: u64,
    /// Passes in a wallet that the ledger did not know.
    pub new: u64,
}

/// One thing in which the API and the ledger disagree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// The pass: for the eyes of who asked, never for a log.
    pub pass: String,
    /// What the API says otherwise.
    pub kind: DifferenceKind,
    /// In which wallet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wallet: Option<Wallet>,
    /// The names of the identifiers that differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub identifiers: Vec<String>,
}

/// What the API says otherwise than the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DifferenceKind {
    /// It is in a wallet; the ledger does not know the pass.
    New,
    /// It is in a wallet.
    Installed,
    /// It is not in a wallet.
    Removed,
    /// Its identifiers are others.
    Identifiers,
    /// It is not there at all.
    Missing,
    /// Something we do not understand.
    NotUnderstood,
}

impl DifferenceKind {
    /// The word in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Installed => "installed",
            Self::Removed => "removed",
            Self::Identifiers => "identifiers",
            Self::Missing => "missing",
            Self::NotUnderstood => "not-understood",
        }
    }
}
