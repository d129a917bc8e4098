//! What kind of thing a leaf tells of.

use std::str::FromStr;

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A message was accepted.
    Accepted,
    /// A message was accepted but will not be sent.
    Suppressed,
    /// An attempt passed its commit point.
    AttemptCommitted,
    /// To be tried again.
    Deferred,
    /// The relay took it.
    Relayed,
    /// Refused for good.
    Bounced,
    /// In a mailbox, as a report says.
    Delivered,
    /// The relay may have taken it.
    Unknown,
    /// An unknown was decided, by evidence or policy; or a late settlement told what it knew.
    Resolved,
    /// The deadline passed.
    Expired,
    /// Waits for an operator.
    Held,
    /// An operator let it go on.
    Released,
    /// An operator ended it unsent.
    Cancelled,
    /// An operator has it tried at once.
    Retried,
    /// A key was made.
    KeyCreated,
    /// A key was revoked.
    KeyRevoked,
    /// A stream of mails is out of line.
    BrakeEngaged,
    /// A brake ended; what it held goes on.
    BrakeReleased,
    /// A brake ended, and with it what it held.
    BrakeCancelled,
    /// The gateway works with another configuration from now on.
    ConfigChanged,
    /// Checkpoints are signed with another key from now on.
    AuditKeySet,
    /// A pass event came in that said something new.
    PassEvent,
    /// What is known of a customer is another from now on.
    ContactSet,
    /// What was known of a customer is erased.
    ContactRemoved,
    /// A customer entered a journey.
    Enrolled,
    /// Steps of a journey are behind somebody.
    Stepped,
    /// Somebody's way through a journey ended before its end.
    Exited,
    /// An operator said whether a journey runs.
    JourneySet,
    /// Somebody said by a link in a mail that they want no such mails.
    Unsubscribed,
    /// Somebody is not mailed any more, as another said.
    SuppressionAdded,
    /// Somebody is mailed again.
    SuppressionRemoved,
    /// Contents were kept long enough.
    ContentPurged,
    /// Rows of mails were kept long enough.
    MessagesPurged,
    /// A person was erased.
    Erased,
    /// A report on a mail came in.
    Dsn,
}

impl Kind {
    /// Each of them.
    pub const ALL: [Self; 35] = [
        Self::Accepted,
        Self::Suppressed,
        Self::AttemptCommitted,
        Self::Deferred,
        Self::Relayed,
        Self::Bounced,
        Self::Delivered,
        Self::Unknown,
        Self::Resolved,
        Self::Expired,
        Self::Held,
        Self::Released,
        Self::Cancelled,
        Self::Retried,
        Self::KeyCreated,
        Self::KeyRevoked,
        Self::BrakeEngaged,
        Self::BrakeReleased,
        Self::BrakeCancelled,
        Self::ConfigChanged,
        Self::AuditKeySet,
        Self::PassEvent,
        Self::ContactSet,
        Self::ContactRemoved,
        Self::Enrolled,
        Self::Stepped,
        Self::Exited,
        Self::JourneySet,
        Self::Unsubscribed,
        Self::SuppressionAdded,
        Self::SuppressionRemoved,
        Self::ContentPurged,
        Self::MessagesPurged,
        Self::Erased,
        Self::Dsn,
    ];

    /// The word in the leaf.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Suppressed => "suppressed",
            Self::AttemptCommitted => "attempt-committed",
            Self::Deferred => "deferred",
            Self::Relayed => "relayed",
            Self::Bounced => "bounced",
            Self::Delivered => "delivered",
            Self::Unknown => "unknown",
            Self::Resolved => "resolved",
            Self::Expired => "expired",
            Self::Held => "held",
            Self::Released => "released",
            Self::Cancelled => "cancelled",
            Self::Retried => "retried",
            Self::KeyCreated => "key-created",
            Self::KeyRevoked => "key-revoked",
            Self::BrakeEngaged => "brake-engaged",
            Self::BrakeReleased => "brake-released",
            Self::BrakeCancelled => "brake-cancelled",
            Self::ConfigChanged => "config-changed",
            Self::AuditKeySet => "audit-key-set",
            Self::PassEvent => "pass-event",
            Self::ContactSet => "contact-set",
            Self::ContactRemoved => "contact-removed",
            Self::Enrolled => "enrolled",
            Self::Stepped => "stepped",
            Self::Exited => "exited",
            Self::JourneySet => "journey-set",
            Self::Unsubscribed => "unsubscribed",
            Self::SuppressionAdded => "suppression-added",
            Self::SuppressionRemoved => "suppression-removed",
            Self::ContentPurged => "content-purged",
            Self::MessagesPurged => "messages-purged",
            Self::Erased => "erased",
            Self::Dsn => "dsn",
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| format!("a kind is one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}
