//! A message: its states, what is kept of it, and what happens to it at the door and at the relay.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::address::{EmailAddress, Mailbox};
use super::audit::Actor;
use super::fact::Fact;
use super::ids::{BrakeId, LeaseToken, MessageId, RelayName, TenantId};
use super::journey::enrollment::SentBy;
use super::lane::Lane;
use super::quantity::Rate;
use super::reply::Reply;
use super::time;
use super::unless::Unless;

pub mod sheet;
mod view;

pub use self::view::MessageView;

/// Where a message stands. There is no "sending": an attempt row says who is on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Waiting for its first attempt.
    Queued,
    /// Waiting for its next attempt after one that failed for now.
    Deferred,
    /// Waiting for an operator.
    Held,
    /// The relay may or may not have taken it.
    Unknown,
    /// The relay answered 250 after the dot.
    Relayed,
    /// Later evidence says it arrived.
    Delivered,
    /// Refused for good.
    Bounced,
    /// Its deadline passed; certainly not sent.
    Expired,
    /// Not to be sent to this recipient.
    Suppressed,
    /// Taken back.
    Cancelled,
}

impl Status {
    /// All states, the live ones first.
    pub const ALL: [Self; 10] = [
        Self::Queued,
        Self::Deferred,
        Self::Held,
        Self::Unknown,
        Self::Relayed,
        Self::Delivered,
        Self::Bounced,
        Self::Expired,
        Self::Suppressed,
        Self::Cancelled,
    ];

    /// The word used in JSON, rows, logs and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Deferred => "deferred",
            Self::Held => "held",
            Self::Unknown => "unknown",
            Self::Relayed => "relayed",
            Self::Delivered => "delivered",
            Self::Bounced => "bounced",
            Self::Expired => "expired",
            Self::Suppressed => "suppressed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether something may still happen to the message without an operator's new word.
    #[must_use]
    pub const fn is_live(self) -> bool {
        match self {
            Self::Queued | Self::Deferred | Self::Held | Self::Unknown => true,
            Self::Relayed | Self::Delivered | Self::Bounced | Self::Expired | Self::Suppressed | Self::Cancelled => {
                false
            }
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|status| status.as_str() == text);
        found.ok_or_else(|| format!("a status is one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// Why a message stands where it stands, when the state alone does not say it. A closed list: no free text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The tenant's `recipients_allowed` does not list the recipient.
    NotAllowed,
    /// The relay refused it, for now or for good: see the reply.
    RelayRefused,
    /// The session was lost or went silent before the commit point.
    ConnectionLost,
    /// The reply to the final dot was lost.
    ReplyLost,
    /// The process ended between the commit point and the reply.
    Interrupted,
    /// A second unknown of the same message, or the lane's policy: an operator decides.
    UnknownHeld,
    /// Sent once more because the lane's policy says so.
    UnknownResent,
    /// The deadline passed.
    DeadlinePassed,
    /// The relay does not offer SMTPUTF8, which the recipient's local part needs.
    Smtputf8Needed,
    /// The relay does not offer 8BITMIME, which the content needs.
    EightBitMimeNeeded,
    /// Larger than the relay's SIZE.
    TooLarge,
    /// The stored content cannot be read back.
    ContentUnreadable,
    /// The tenant, or its relay, is no longer in the configuration.
    NotConfigured,
    /// An attempt ended in a way that is a defect of ours; see the log.
    Fault,
    /// An operator said so: see the audit.
    Operator,
    /// Its stream is out of line and the blast brake is on.
    Brake,
    /// Its customer's wallets stand as its `unless` says.
    WalletStatus,
    /// An event ended the journey that sent it.
    JourneyExited,
    /// The recipient said by a link in a mail that they want no such mails.
    Unsubscribed,
    /// The tenant is not to mail the recipient, as an operator or a file says.
    Suppressed,
    /// The recipient was erased.
    Erased,
    /// The relay took it and could not deliver it: see its report.
    Returned,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 22] = [
        Self::NotAllowed,
        Self::RelayRefused,
        Self::ConnectionLost,
        Self::ReplyLost,
        Self::Interrupted,
        Self::UnknownHeld,
        Self::UnknownResent,
        Self::DeadlinePassed,
        Self::Smtputf8Needed,
        Self::EightBitMimeNeeded,
        Self::TooLarge,
        Self::ContentUnreadable,
        Self::NotConfigured,
        Self::Fault,
        Self::Operator,
        Self::Brake,
        Self::WalletStatus,
        Self::JourneyExited,
        Self::Unsubscribed,
        Self::Suppressed,
        Self::Erased,
        Self::Returned,
    ];

    /// The word used in JSON, rows and leaves.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAllowed => "not-allowed",
            Self::RelayRefused => "relay-refused",
            Self::ConnectionLost => "connection-lost",
            Self::ReplyLost => "reply-lost",
            Self::Interrupted => "interrupted",
            Self::UnknownHeld => "unknown-held",
            Self::UnknownResent => "unknown-resent",
            Self::DeadlinePassed => "deadline-passed",
            Self::Smtputf8Needed => "smtputf8-needed",
            Self::EightBitMimeNeeded => "8bitmime-needed",
            Self::TooLarge => "too-large",
            Self::ContentUnreadable => "content-unreadable",
            Self::NotConfigured => "not-configured",
            Self::Fault => "fault",
            Self::Operator => "operator",
            Self::Brake => "brake",
            Self::WalletStatus => "wallet-status",
            Self::JourneyExited => "journey-exited",
            Self::Unsubscribed => "unsubscribed",
            Self::Suppressed => "suppressed",
            Self::Erased => "erased",
            Self::Returned => "returned",
        }
    }
}

impl FromStr for Reason {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|reason| reason.as_str() == text);
        found.ok_or_else(|| format!("a reason is one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// How a message enters the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// To be sent.
    Queued,
    /// Kept, but not to be sent.
    Suppressed(Reason),
    /// To be held, as long as this brake is on; else to be sent.
    Held(BrakeId),
}

/// A composed message on its way into the store: everything one transaction needs.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// Its identifier, version 7: in the order of acceptance.
    pub id: MessageId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Who handed it in.
    pub actor: Actor,
    /// Its lane.
    pub lane: Lane,
    /// The one recipient.
    pub recipient: Mailbox,
    /// The envelope sender (return path).
    pub envelope_sender: EmailAddress,
    /// The platform's template name.
    pub template: Option<String>,
    /// The subject, decoded.
    pub subject: String,
    /// The caller's tags.
    pub tags: Vec<String>,
    /// The caller's metadata.
    pub metadata: BTreeMap<String, String>,
    /// The Message-ID header's value with its angle brackets, the same on every attempt.
    pub message_id: String,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Before this it is not tried.
    pub due_at: Timestamp,
    /// After this it is not sent.
    pub deliver_by: Timestamp,
    /// The whole mail (RFC 5322): CRLF line ends, no bare CR or LF.
    pub mime: Vec<u8>,
    /// SHA-256 of `mime`.
    pub mime_sha256: [u8; 32],
    /// To be sent, or kept as suppressed.
    pub entry: Entry,
    /// The caller's idempotency key, bound to the parsed submission.
    pub idempotency: Option<Idempotency>,
    /// The fact it is to take, if the caller named one.
    pub fact: Option<Fact>,
    /// When it is no longer wanted, if the caller said so.
    pub unless: Option<Unless>,
    /// The step of a journey that sends it, if one does.
    pub sent_by: Option<SentBy>,
    /// How many mails the tenant may have accepted for this recipient within the rate's time; its burst does not count.
    pub recipient_limit: Option<Rate>,
}

/// An `Idempotency-Key` and what it is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The header's value, 1 to 255 characters; its scope is the tenant.
    pub key: String,
    /// SHA-256 of the parsed submission.
    pub fingerprint: [u8; 32],
    /// When the key is forgotten.
    pub expires_at: Timestamp,
}

/// What `POST /v1/emails` answers; the same for every replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The message.
    pub id: MessageId,
    /// Its state when it was accepted.
    pub status: Status,
    /// Its lane.
    pub lane: Lane,
    /// Its deadline.
    #[serde(serialize_with = "time::write")]
    pub deliver_by: Timestamp,
    /// Its Message-ID header, with angle brackets.
    pub message_id: String,
}

/// What became of an acceptance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    /// Durable now.
    Accepted(Receipt),
    /// The idempotency key was seen with the same submission: the first answer again.
    Replayed(Receipt),
    /// The idempotency key was seen with another submission.
    IdempotencyMismatch,
    /// The fact is taken by a mail to the same recipient: that one's first answer.
    Deduplicated(Receipt),
    /// The fact is taken by a mail to another recipient.
    FactTaken,
    /// The recipient has had as many mails as the limit allows. Nothing was kept.
    RecipientLimited {
        /// The limit.
        limit: Rate,
        /// After this one more is taken, unless others come before.
        wait: Duration,
    },
}

/// A message that may be tried now, as the dispatcher holds it: no content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The message.
    pub id: MessageId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its lane.
    pub lane: Lane,
    /// The recipient's domain as A-labels.
    pub domain: String,
    /// Since when it is due.
    pub due_at: Timestamp,
    /// Its deadline.
    pub deliver_by: Timestamp,
}

/// What an attempt needs: the envelope and the bytes.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The return path.
    pub envelope_sender: EmailAddress,
    /// The recipient.
    pub recipient: EmailAddress,
    /// Attempts spent so far.
    pub attempts: u32,
    /// The whole mail.
    pub mime: Vec<u8>,
}

/// What the store says at the commit point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The attempt is recorded as committing; DATA may begin.
    Go,
    /// The message may not be sent (any more): its state changed, it is on another attempt, or its deadline passed.
    Stop,
}

/// How one attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// 250 after the dot.
    Relayed {
        /// The reply.
        reply: Reply,
    },
    /// Try again at `next_at`.
    Deferred {
        /// Why.
        reason: Reason,
        /// The reply, when there was one.
        reply: Option<Reply>,
        /// When the message is due again.
        next_at: Timestamp,
    },
    /// The relay was lost before it can have taken anything, and not by the mail's doing: due again, and no attempt is
    /// spent.
    Returned {
        /// When the message is due again.
        next_at: Timestamp,
    },
    /// Refused for good.
    Bounced {
        /// Why.
        reason: Reason,
        /// The reply, when the relay was asked.
        reply: Option<Reply>,
        /// Whether it is about this recipient: at MAIL nothing was said of them yet.
        of_recipient: bool,
    },
    /// The final dot may have been taken.
    Unknown {
        /// Why.
        reason: Reason,
        /// When the lane's policy decides, unless evidence comes first.
        decide_at: Timestamp,
    },
    /// No attempt can be made until an operator looks.
    Held {
        /// Why.
        reason: Reason,
    },
    /// The recipient may no longer be mailed.
    Suppressed {
        /// Why.
        reason: Reason,
    },
}

/// The end of an attempt on its way into the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The message.
    pub id: MessageId,
    /// The token of the commit point; `None` when the attempt ended before it.
    pub token: Option<LeaseToken>,
    /// The relay that was asked; `None` when none was.
    pub relay: Option<RelayName>,
    /// When it ended.
    pub at: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
}

/// What became of a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The message's state is what the outcome says.
    Applied,
    /// The attempt was no longer ours: what it knew stands in the audit, the state is untouched.
    Stale,
}
