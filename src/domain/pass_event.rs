//! A pass event: somebody added a pass to a wallet, or removed it, as one of the doors understood it.
//!
//! Events come at least once, in any order, and may have neither an id nor a time. What an event *is* (a first install, a
//! duplicate, …) depends on what was known before: [`Change`] is the ledger's word, never the sender's.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::address::EmailAddress;
use super::ids::EventId;

/// Identifiers at most on one pass.
pub const IDENTIFIERS_MAX: usize = 50;
/// Characters in an identifier's name.
pub const IDENTIFIER_NAME_CHARS_MAX: usize = 100;
/// Characters in an identifier's value, a pass's or an event's id.
pub const ID_CHARS_MAX: usize = 255;
/// Characters in a pass's type, a medium, a tag.
pub const WORD_CHARS_MAX: usize = 100;
/// Tags of a source at most.
pub const SOURCE_TAGS_MAX: usize = 50;
/// Characters of an origin (a URL) and a user agent that are kept; the rest is cut.
pub const SOURCE_CHARS_MAX: usize = 1_000;

/// A wallet, which the platform calls a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wallet {
    /// Apple Wallet.
    Apple,
    /// Google Wallet.
    Google,
}

impl Wallet {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Apple, Self::Google];

    /// The word in rows, JSON and queries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Apple => "apple",
            Self::Google => "google",
        }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Apple => Self::Google,
            Self::Google => Self::Apple,
        }
    }
}

impl fmt::Display for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Wallet {
    type Err = String;

    /// Any of the words that senders use, whatever the case: `apple ios apple_wallet passbook`, `google android
    /// google_wallet`.
    fn from_str(text: &str) -> Result<Self, String> {
        let word: String = text.trim().chars().filter(char::is_ascii_alphanumeric).collect();
        match word.to_ascii_lowercase().as_str() {
            "apple" | "ios" | "applewallet" | "passbook" | "applepass" | "iphone" => Ok(Self::Apple),
            "google" | "android" | "googlewallet" | "googlepay" => Ok(Self::Google),
            _ => Err("must be apple or google".to_owned()),
        }
    }
}

/// What happened to the pass. The order is the one of events at the same time: a removal is the last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// It was added to a wallet.
    Installed,
    /// It was removed from a wallet.
    Uninstalled,
}

impl EventKind {
    /// The word in rows and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Uninstalled => "uninstalled",
        }
    }
}

impl FromStr for EventKind {
    type Err = String;

    /// The word itself; doors that take more ways of saying it translate before.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "installed" => Ok(Self::Installed),
            "uninstalled" => Ok(Self::Uninstalled),
            _ => Err("must be installed or uninstalled".to_owned()),
        }
    }
}

/// How many devices had the pass when the event was made, as far as the sender says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RegistrationCounts {
    /// Devices that have it now.
    pub active: Option<u32>,
    /// Devices that ever had it.
    pub total: Option<u32>,
}

/// Where an install came from, as far as the sender says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Words of the brand's own.
    pub tags: Vec<String>,
    /// `email`, `sms`, …
    pub medium: Option<String>,
    /// The address of the page; may hold campaign parameters, and is nothing for logs.
    pub origin: Option<String>,
    /// The browser.
    pub user_agent: Option<String>,
}

/// Which way an event came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `POST /v1/pass-events`.
    Hook,
    /// `POST /wallet/installation`.
    Installation,
    /// `POST /v1/webhooks/{tenant}`.
    Webhook,
    /// The Pass API, read by `backfill`.
    Backfill,
}

impl Way {
    /// The word in rows and leaves.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hook => "hook",
            Self::Installation => "installation",
            Self::Webhook => "webhook",
            Self::Backfill => "backfill",
        }
    }
}

impl FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Hook, Self::Installation, Self::Webhook, Self::Backfill];
        all.into_iter().find(|way| way.as_str() == text).ok_or_else(|| "not a way in".to_owned())
    }
}

/// One event as a door understood it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassEvent {
    /// What happened.
    pub kind: EventKind,
    /// In which wallet.
    pub wallet: Wallet,
    /// The pass's id (1 to [`ID_CHARS_MAX`] characters, no control characters); `None`: the sender named only a customer.
    pub pass: Option<String>,
    /// The pass's type.
    pub pass_type: Option<String>,
    /// The pass's identifiers by name, values as [`normalized_identifier`] writes them. Names are as the sender wrote them.
    pub identifiers: BTreeMap<String, String>,
    /// The sender's counts.
    pub counts: RegistrationCounts,
    /// Where the install came from.
    pub source: Source,
    /// When it happened, if the sender says so with an offset (or in UTC).
    pub occurred_at: Option<Timestamp>,
    /// For an install: since when it has been there, if the sender knows better than from the event's own time (the Pass
    /// API does, which says on a later day what holds).
    pub since: Option<Timestamp>,
    /// The sender's own id of the event, or another text by which a repeat is known (a body's hash).
    pub key: Option<String>,
    /// Which way it came in.
    pub way: Way,
}

/// An event that has come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPassEvent {
    /// Our own id of it.
    pub id: EventId,
    /// When it came in.
    pub received_at: Timestamp,
    /// What it says.
    pub event: PassEvent,
}

/// What an event turned out to be, given everything known before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// The pass is in a wallet for the first time.
    FirstInstall,
    /// The pass was in a wallet already, and is now in another or on a further device.
    AdditionalDevice,
    /// The pass is back in a wallet it had been removed from.
    Reinstall,
    /// The pass was removed from a wallet (or from one of the devices that have it there).
    Removed,
    /// It says nothing new.
    Duplicate,
    /// Something later is known of that pass and wallet.
    Stale,
}

impl Change {
    /// The word in rows, JSON and leaves.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FirstInstall => "first-install",
            Self::AdditionalDevice => "additional-device",
            Self::Reinstall => "reinstall",
            Self::Removed => "removed",
            Self::Duplicate => "duplicate",
            Self::Stale => "stale",
        }
    }
}

impl FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all =
            [Self::FirstInstall, Self::AdditionalDevice, Self::Reinstall, Self::Removed, Self::Duplicate, Self::Stale];
        all.into_iter().find(|change| change.as_str() == text).ok_or_else(|| "not a change".to_owned())
    }
}

/// An identifier's value as it is kept and compared: without white space around it; an address in lower case with its
/// domain as A-labels.
#[must_use]
pub fn normalized_identifier(value: &str) -> String {
    let value = value.trim();
    let address = value.contains('@').then(|| value.parse::<EmailAddress>().ok()).flatten();
    address.map_or_else(|| value.to_owned(), |address| address.normalized())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_that_senders_use_for_a_wallet_are_understood() {
        for (word, wallet) in [
            ("apple", Some(Wallet::Apple)),
            (" iOS ", Some(Wallet::Apple)),
            ("apple_wallet", Some(Wallet::Apple)),
            ("AppleWallet", Some(Wallet::Apple)),
            ("PassBook", Some(Wallet::Apple)),
            ("google", Some(Wallet::Google)),
            ("Android", Some(Wallet::Google)),
            ("GOOGLE-WALLET", Some(Wallet::Google)),
            ("", None),
            ("samsung", None),
        ] {
            assert_eq!(word.parse::<Wallet>().ok(), wallet, "{word}");
        }
    }

    #[test]
    fn an_address_among_the_identifiers_has_one_spelling() {
        for (value, kept) in [
            (" C-1 ", "C-1"),
            ("Ann@Customer.Example", "ann@customer.example"),
            ("ann@b\u{fc}cher.example", "ann@xn--bcher-kva.example"),
            ("@ann", "@ann"),
            ("", ""),
        ] {
            assert_eq!(normalized_identifier(value), kept);
        }
    }
}
