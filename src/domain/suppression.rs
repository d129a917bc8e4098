//! A suppression: whom a tenant no longer mails, what that stops, and how somebody says so themselves.
//!
//! A mail is judged by the suppressions of its recipient: one of a journey by those of its journey, of all journeys and of
//! everything; every other mail by those of everything alone, so that who has had enough of a brand's journeys still gets
//! the code they ask for.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::address::EmailAddress;
use super::ids::{JourneyName, TenantId};
use super::message::Reason;
use super::time;
use super::verb::Because;

pub mod link;

/// What stands before a journey's name.
const JOURNEY_PREFIX: &str = "journey:";

/// Which mails a suppression stops.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SuppressionScope {
    /// Those of one journey.
    Journey(JourneyName),
    /// Those of all journeys of the tenant.
    Journeys,
    /// All of the tenant.
    Everything,
}

impl SuppressionScope {
    /// What a link in a mail of this journey stops; without one, in a mail that is of the brand's journeys at large.
    #[must_use]
    pub fn of_link(journey: Option<&JourneyName>) -> Self {
        journey.map_or(Self::Journeys, |journey| Self::Journey(journey.clone()))
    }

    /// Whether it stops a mail of this journey, or of none.
    #[must_use]
    pub fn stops(&self, journey: Option<&JourneyName>) -> bool {
        match self {
            Self::Everything => true,
            Self::Journeys => journey.is_some(),
            Self::Journey(name) => journey == Some(name),
        }
    }

    /// Whether nothing is left for `other` to stop.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match other {
            Self::Journey(name) => self.stops(Some(name)),
            Self::Journeys => matches!(self, Self::Journeys | Self::Everything),
            Self::Everything => matches!(self, Self::Everything),
        }
    }

    /// The journey, if it is one's.
    #[must_use]
    pub const fn journey(&self) -> Option<&JourneyName> {
        match self {
            Self::Journey(name) => Some(name),
            Self::Journeys | Self::Everything => None,
        }
    }
}

impl fmt::Display for SuppressionScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journey(name) => write!(f, "{JOURNEY_PREFIX}{name}"),
            Self::Journeys => f.write_str("journeys"),
            Self::Everything => f.write_str("everything"),
        }
    }
}

impl FromStr for SuppressionScope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix(JOURNEY_PREFIX).map(str::parse)) {
            (_, Some(Ok(name))) => Ok(Self::Journey(name)),
            ("journeys", None) => Ok(Self::Journeys),
            ("everything", None) => Ok(Self::Everything),
            _ => Err("a scope is everything, journeys or journey:NAME".to_owned()),
        }
    }
}

impl Serialize for SuppressionScope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Who said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The recipient, by a link in a mail.
    Unsubscribed,
    /// An operator, or a system of the brand's.
    Operator,
    /// A file.
    Import,
    /// A relay, of whom there is nobody.
    Bounce,
    /// The recipient, by complaining to their provider.
    Complaint,
}

impl Source {
    const ALL: [Self; 5] = [Self::Unsubscribed, Self::Operator, Self::Import, Self::Bounce, Self::Complaint];

    /// The word in rows, JSON and leaves.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unsubscribed => "unsubscribed",
            Self::Operator => "operator",
            Self::Import => "import",
            Self::Bounce => "bounce",
            Self::Complaint => "complaint",
        }
    }

    /// Why a mail that it stops is not sent.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Unsubscribed => Reason::Unsubscribed,
            Self::Operator | Self::Import | Self::Bounce | Self::Complaint => Reason::Suppressed,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|source| source.as_str() == text).ok_or_else(|| "not a source".to_owned())
    }
}

/// Why a mail of this journey, or of none, is not sent to a recipient of whom all this was said; `None`: it is. Their own
/// word comes before anybody else's.
#[must_use]
pub fn judge<'s>(
    said: impl IntoIterator<Item = (&'s SuppressionScope, Source)>,
    journey: Option<&JourneyName>,
) -> Option<Reason> {
    let stopping = said.into_iter().filter(|(scope, _)| scope.stops(journey)).map(|(_, source)| source.reason());
    stopping.max_by_key(|reason| *reason == Reason::Unsubscribed)
}

/// What is to be stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSuppression {
    /// Who is not to be mailed.
    pub recipient: EmailAddress,
    /// What is stopped.
    pub scope: SuppressionScope,
    /// Who says so.
    pub source: Source,
    /// Why, in their own words.
    pub because: Option<Because>,
    /// Until when it stands; `None`: for good.
    pub expires_at: Option<Timestamp>,
    /// When they say it.
    pub at: Timestamp,
}

/// A suppression as kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Suppression {
    /// Whom it is about, as shown; `None`: the address is erased, or never was known. It stands all the same.
    pub recipient: Option<String>,
    /// What it stops.
    pub scope: SuppressionScope,
    /// Who said so.
    pub source: Source,
    /// Why, in their own words.
    pub because: Option<String>,
    /// Since when.
    #[serde(serialize_with = "time::write")]
    pub added_at: Timestamp,
    /// Until when it stands; `None`: for good.
    #[serde(serialize_with = "time::write_or_null")]
    pub expires_at: Option<Timestamp>,
    /// Who added it, as named in the audit.
    pub added_by: String,
}

/// What adding a suppression changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is new, or stands longer than it did.
    Added,
    /// It stood already, and stands as it did.
    Known,
}

/// What somebody wants who follows a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// No more of what the link is for.
    AsLinked,
    /// No more of any journey.
    AllJourneys,
    /// What was said by this link is taken back.
    TakeBack,
}

/// A link, and how it stands with what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkView {
    /// Whose mails.
    pub tenant: TenantId,
    /// What it stops.
    pub scope: SuppressionScope,
    /// What stands for good and stops that: the widest; `None`: nothing does, or for a while only.
    pub stopped: Option<SuppressionScope>,
    /// Whether something stands that was said by this very link, and can be taken back by it.
    pub said_here: bool,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    fn scope(text: &str) -> SuppressionScope {
        text.parse().unwrap()
    }

    #[test]
    fn a_scope_reads_back_as_written() {
        for text in ["everything", "journeys", "journey:welcome", "journey:journeys"] {
            assert_eq!(scope(text).to_string(), text);
        }
        for wrong in ["", "all", "journey", "journey:", "journey:A b", "Everything", "journeys:welcome"] {
            assert!(wrong.parse::<SuppressionScope>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_journey_mail_is_judged_by_three_scopes_and_every_other_by_everything_alone() {
        let welcome: JourneyName = "welcome".parse().unwrap();
        for (text, of_journey, of_none) in [
            ("everything", true, true),
            ("journeys", true, false),
            ("journey:welcome", true, false),
            ("journey:tips", false, false),
        ] {
            assert_eq!(scope(text).stops(Some(&welcome)), of_journey, "{text}");
            assert_eq!(scope(text).stops(None), of_none, "{text}");
        }
    }

    #[test]
    fn a_scope_covers_what_it_would_stop_anyway() {
        let narrow_to_wide = ["journey:welcome", "journeys", "everything"].map(scope);
        for (index, narrow) in narrow_to_wide.iter().enumerate() {
            for (other, wide) in narrow_to_wide.iter().enumerate() {
                assert_eq!(wide.covers(narrow), other >= index, "{wide} covers {narrow}");
            }
        }
        assert!(!scope("journey:tips").covers(&scope("journey:welcome")));
    }

    #[test]
    fn the_recipients_own_word_comes_before_an_operators() {
        let said = |text, source| (scope(text), source);
        let operator = said("everything", Source::Operator);
        let own = said("journeys", Source::Unsubscribed);
        let welcome: JourneyName = "welcome".parse().unwrap();
        for both in [[operator.clone(), own.clone()], [own.clone(), operator.clone()]] {
            let both = || both.iter().map(|(scope, source)| (scope, *source));
            assert_eq!(judge(both(), Some(&welcome)), Some(Reason::Unsubscribed));
            assert_eq!(judge(both(), None), Some(Reason::Suppressed));
        }
        assert_eq!(judge([(&own.0, own.1)], None), None);
        assert_eq!(judge([], Some(&welcome)), None);
    }
}
