//! A contact: what is known of a customer besides their passes: the address, how to speak to them, what they agreed to.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::address::EmailAddress;
use super::pass_event::{ID_CHARS_MAX, normalized_identifier};
use super::time;

/// Characters in a name.
pub const NAME_CHARS_MAX: usize = 200;
/// Consents at most.
pub const CONSENTS_MAX: usize = 50;
/// Characters in the name of a consent or a field.
pub const KEY_CHARS_MAX: usize = 100;
/// Characters in what a consent came from.
pub const CONSENT_SOURCE_CHARS_MAX: usize = 200;
/// Fields at most.
pub const FIELDS_MAX: usize = 50;
/// Characters in a field's value.
pub const FIELD_CHARS_MAX: usize = 1_000;
/// Characters in a culture or a time zone, which are shorter all.
const WORD_CHARS_MAX: usize = 64;

/// The time zones of the world, as they were when this was built: the same on every machine.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// What the brand calls a customer: the value of the identifier that their passes carry, in one spelling.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct CustomerId(String);

impl CustomerId {
    /// The identifier, as [`normalized_identifier`] writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CustomerId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = normalized_identifier(text);
        let fits = (1..=ID_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        if fits { Ok(Self(text)) } else { Err(format!("1 to {ID_CHARS_MAX} characters, without control characters")) }
    }
}

/// A language, perhaps with script and region: `fr`, `fr-CA`, `zh-Hant-TW`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Culture(String);

impl Culture {
    /// As BCP 47 writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Culture {
    type Err = String;

    /// Any of `fr-FR fr_FR FR-fr`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "not a culture: write en, fr-CA or zh-Hant-TW".to_owned();
        let mut parts = text.split(['-', '_']);
        let language = parts.next().unwrap_or_default();
        let letters = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphabetic());
        if !(2..=3).contains(&language.len()) || !letters(language) || text.len() > WORD_CHARS_MAX {
            return Err(wrong());
        }
        let mut written = language.to_ascii_lowercase();
        for part in parts {
            if !(2..=8).contains(&part.len()) || !part.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(wrong());
            }
            written.push('-');
            match part.len() {
                2 => written.push_str(&part.to_ascii_uppercase()),
                4 if letters(part) => {
                    written.push_str(&part[..1].to_ascii_uppercase());
                    written.push_str(&part[1..].to_ascii_lowercase());
                }
                _ => written.push_str(&part.to_ascii_lowercase()),
            }
        }
        Ok(Self(written))
    }
}

/// A time zone by its IANA name: `Europe/Paris`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ZoneName(String);

impl ZoneName {
    /// Coordinated Universal Time.
    #[must_use]
    pub fn utc() -> Self {
        Self("UTC".to_owned())
    }

    /// The zone's rules.
    #[must_use]
    pub fn zone(&self) -> TimeZone {
        // A name is only ever made of what is found there.
        ZONES.get(&self.0).unwrap_or(TimeZone::UTC)
    }

    /// As the IANA writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ZoneName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "not a time zone of the IANA: write Europe/Paris".to_owned();
        if text.len() > WORD_CHARS_MAX {
            return Err(wrong());
        }
        let zone = ZONES.get(text).map_err(|_| wrong())?;
        zone.iana_name().map(|name| Self(name.to_owned())).ok_or_else(wrong)
    }
}

/// What a customer agreed to, or did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// Whether they do.
    pub granted: bool,
    /// Since when.
    #[serde(serialize_with = "time::write")]
    pub at: Timestamp,
    /// Where they said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// A consent as given: who gives no time means the moment, or that nothing changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenConsent {
    /// Whether they agree.
    pub granted: bool,
    /// Since when.
    pub at: Option<Timestamp>,
    /// Where they said so.
    pub source: Option<String>,
}

impl GivenConsent {
    /// What is kept: without a time of its own, what was known `before` goes on, if it said the same.
    #[must_use]
    pub fn settled(self, before: Option<&Consent>, now: Timestamp) -> Consent {
        let Self { granted, at, source } = self;
        let same = before.filter(|before| before.granted == granted);
        match at {
            Some(at) => Consent { granted, at, source },
            None => Consent {
                granted,
                at: same.map_or(now, |before| before.at),
                source: source.or_else(|| same.and_then(|before| before.source.clone())),
            },
        }
    }
}

/// Where a contact came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The brand's systems, over HTTP.
    Api,
    /// A file.
    Import,
    /// The brand's CRM was asked: a copy, which goes with its original.
    Lookup,
}

impl Origin {
    /// The word in rows, JSON and leaves.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Import => "import",
            Self::Lookup => "lookup",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Api, Self::Import, Self::Lookup];
        all.into_iter().find(|origin| origin.as_str() == text).ok_or_else(|| "not where contacts come from".to_owned())
    }
}

/// What somebody says of a customer: all of it, so that what is not said is not known any more.
#[derive(Debug, Clone, PartialEq)]
pub struct NewContact {
    /// Whom.
    pub customer: CustomerId,
    /// Their address.
    pub email: EmailAddress,
    /// Their name.
    pub name: Option<String>,
    /// Their language.
    pub culture: Option<Culture>,
    /// Where their clock is.
    pub timezone: Option<ZoneName>,
    /// What they agreed to, by name.
    pub consent: BTreeMap<String, GivenConsent>,
    /// What else the brand wants to find here: text, numbers, true and false by name.
    pub fields: BTreeMap<String, Value>,
    /// Who says so.
    pub origin: Origin,
    /// When it was said.
    pub at: Timestamp,
}

/// A contact as kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Contact {
    /// Who it is.
    #[serde(rename = "customerId")]
    pub customer: CustomerId,
    /// Their address.
    pub email: EmailAddress,
    /// Their name.
    pub name: Option<String>,
    /// Their language.
    pub culture: Option<Culture>,
    /// Where their clock is.
    pub timezone: Option<ZoneName>,
    /// What they agreed to, by name.
    pub consent: BTreeMap<String, Consent>,
    /// What else the brand wants to find here.
    pub fields: BTreeMap<String, Value>,
    /// Where it came from.
    pub origin: Origin,
    /// Since when there is a contact of this customer.
    #[serde(serialize_with = "time::write")]
    pub created_at: Timestamp,
    /// When it became another last.
    #[serde(serialize_with = "time::write")]
    pub changed_at: Timestamp,
    /// When it was said last.
    #[serde(serialize_with = "time::write")]
    pub confirmed_at: Timestamp,
}

/// What saying a contact changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    /// There was none of this customer.
    Created,
    /// It is another now.
    Changed,
    /// It was known so.
    Unchanged,
    /// What the brand said itself stands above a look-up.
    Kept,
}

/// What became of an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erasing {
    /// All of it is gone.
    Done(Erased),
    /// A mail to them is past its commit point: ask again when that has ended.
    InFlight,
    /// One of their addresses is that of more than [`SHARED_MAX`] customers: no person's, and nothing was done.
    Shared,
    /// Nothing is known of them.
    Nobody,
}

/// Customers with one address that are taken for one person at most. An address that stands in for many (a shop's own, say)
/// would take all of them along.
pub const SHARED_MAX: usize = 20;

/// What is gone of a person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Contacts.
    pub contacts: usize,
    /// Mails, of which a row is left that names nobody.
    pub messages: usize,
    /// Passes.
    pub passes: usize,
    /// Their events.
    pub pass_events: usize,
}

/// What is erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// A copy of what a look-up found, and nothing else.
    Copy,
    /// Everything that is known of the person: with their addresses, their mails, and the key of their leaves.
    Person,
}

/// A text for people to read, or why not.
pub fn line(text: &str, chars_max: usize) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("must be text without control characters, and not empty".to_owned());
    }
    if text.chars().count() > chars_max {
        return Err(format!("longer than {chars_max} characters"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    #[test]
    fn a_culture_has_one_spelling() {
        for (text, written) in [
            ("en", Some("en")),
            ("FR_fr", Some("fr-FR")),
            ("zh-hant-tw", Some("zh-Hant-TW")),
            ("es-419", Some("es-419")),
            ("ca-ES-VALENCIA", Some("ca-ES-valencia")),
            ("", None),
            ("e", None),
            ("english", None),
            ("fr-", None),
            ("fr FR", None),
            ("fr-\u{e9}\u{e9}", None),
            (&format!("fr{}", "-FR".repeat(40)), None),
        ] {
            assert_eq!(text.parse::<Culture>().ok().as_ref().map(Culture::as_str), written, "{text}");
        }
    }

    #[test]
    fn a_time_zone_is_one_of_the_world_s_and_not_of_this_machine_s() {
        for (text, written) in [
            ("Europe/Paris", Some("Europe/Paris")),
            ("america/new_york", Some("America/New_York")),
            ("UTC", Some("UTC")),
            ("Europe/Atlantis", None),
            ("+02:00", None),
            ("", None),
            ("../../etc/passwd", None),
        ] {
            assert_eq!(text.parse::<ZoneName>().ok().as_ref().map(ZoneName::as_str), written, "{text}");
        }
    }

    #[test]
    fn a_customer_s_identifier_may_hold_anything_but_control_characters() {
        for (text, kept) in [
            (" C-1 ", Some("C-1")),
            ("a/b?c=%2F#d", Some("a/b?c=%2F#d")),
            ("Ann@Customer.Example", Some("ann@customer.example")),
            ("..", Some("..")),
            ("", None),
            (" ", None),
            ("a\nb", None),
            (&"x".repeat(256), None),
        ] {
            assert_eq!(text.parse::<CustomerId>().ok().as_ref().map(CustomerId::as_str), kept, "{text}");
        }
    }

    #[test]
    fn a_consent_without_a_time_keeps_the_time_it_was_given_at() {
        let [first, now] = ["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"].map(|at| at.parse().unwrap());
        let before = Consent { granted: true, at: first, source: Some("till".to_owned()) };
        let given = |granted, at| GivenConsent { granted, at, source: None };
        assert_eq!(given(true, None).settled(Some(&before), now), before);
        assert_eq!(given(false, None).settled(Some(&before), now), Consent { granted: false, at: now, source: None });
        assert_eq!(given(true, None).settled(None, now), Consent { granted: true, at: now, source: None });
        let newer = given(true, Some(now)).settled(Some(&before), now);
        assert_eq!(newer, Consent { granted: true, at: now, source: None });
    }
}
