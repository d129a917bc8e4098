//! Audit entries: what happened, as canonical bytes that a later proof can stand on.
//!
//! A leaf never holds an address, a subject, a body or a relay's text. A recipient appears as an HMAC under a key of
//! its own, so that erasing the key erases the person while every leaf keeps its hash. The bytes are JSON with sorted
//! keys and no white space (RFC 8785 for the values we use: text, whole numbers, true and false), so two writers of the same facts write the
//! same bytes.

pub mod bounces;
pub mod brakes;
pub mod contacts;
pub mod journeys;
mod kind;
pub mod replay;
pub mod retention;
pub mod suppressions;

use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer as _};
use serde_json::Value;

pub use self::kind::Kind;
use super::evidence::Evidence;
use super::ids::{KeyId, MessageId, RelayName, TenantId};
use super::lane::Lane;
use super::message::{Entry, NewMessage, Outcome, Reason, Status};
use super::reply::Reply;
use super::time;
use super::verb::{Because, Verb};
use super::wallet::WalletStatus;

/// Most leaves are shorter.
const LEAF_BYTES_LIKELY: usize = 512;

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// The gateway itself.
    Gateway,
    /// A caller with this key.
    Key(KeyId),
    /// An operator's command.
    Command(&'static str),
    /// Whoever signs the platform's webhooks.
    Webhook,
    /// Whoever got a mail, and followed a link in it.
    Recipient,
}

impl Actor {
    /// Who decided about a brake, as its row says.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        match text {
            "gateway" => Some(Self::Gateway),
            "command:brake" => Some(Self::Command("brake")),
            key => key.parse().ok().map(Self::Key),
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway => f.write_str("gateway"),
            Self::Key(id) => write!(f, "{id}"),
            Self::Command(name) => write!(f, "command:{name}"),
            Self::Webhook => f.write_str("webhook"),
            Self::Recipient => f.write_str("recipient"),
        }
    }
}

/// Whose doing something is, and why, in their own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// Who.
    pub actor: Actor,
    /// Why.
    pub because: Option<Because>,
}

impl From<Actor> for By {
    fn from(actor: Actor) -> Self {
        Self { actor, because: None }
    }
}

/// One thing that happened, before it has its place in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Happening {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: Kind,
    /// Whose; `None`: the gateway's own.
    pub tenant: Option<TenantId>,
    /// To which message.
    pub message: Option<MessageId>,
    /// By whom.
    pub actor: Actor,
    facts: Vec<(&'static str, Value)>,
}

impl Happening {
    /// Something that happened, without further facts.
    #[must_use]
    pub fn new(at: Timestamp, kind: Kind, tenant: &TenantId, message: Option<MessageId>, actor: Actor) -> Self {
        Self { at, kind, tenant: Some(tenant.clone()), message, actor, facts: Vec::new() }
    }

    /// Something of the gateway's own that happened, without further facts.
    fn of_gateway(at: Timestamp, kind: Kind) -> Self {
        Self { at, kind, tenant: None, message: None, actor: Actor::Gateway, facts: Vec::new() }
    }

    /// Adds a fact. Facts are words of ours, numbers, hashes and queue ids: never text from outside, but for an
    /// operator's own words ([`Because`]).
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        // The last word on a fact counts.
        self.facts.retain(|(known, _)| *known != name);
        self.facts.push((name, value.into()));
        self
    }

    /// Adds why, if anybody said so.
    #[must_use]
    pub fn because(self, because: Option<&Because>) -> Self {
        match because {
            Some(because) => self.with("because", because.as_str()),
            None => self,
        }
    }

    fn with_reply(self, reply: Option<&Reply>) -> Self {
        let Some(reply) = reply else { return self };
        let happening = self.with("code", reply.code);
        match reply.enhanced {
            Some(enhanced) => happening.with("enhanced", enhanced.to_string()),
            None => happening,
        }
    }

    /// The canonical bytes of this happening at place `seq` of the log.
    #[must_use]
    pub fn canonical(&self, seq: u64) -> Vec<u8> {
        let (at, actor) = (time::text(self.at), self.actor.to_string());
        let message = self.message.map(|message| message.to_string());
        let mut members: Vec<(&str, Member<'_>)> = vec![
            ("seq", Member::Number(seq)),
            ("at", Member::Text(&at)),
            ("kind", Member::Text(self.kind.as_str())),
            ("actor", Member::Text(&actor)),
        ];
        members.extend(self.tenant.as_ref().map(|tenant| ("tenant", Member::Text(tenant.as_str()))));
        members.extend(message.as_deref().map(|message| ("messageId", Member::Text(message))));
        members.extend(self.facts.iter().map(|(name, value)| (*name, Member::Fact(value))));
        members.sort_unstable_by_key(|(name, _)| *name);
        written(&members)
    }
}

/// A member of a leaf.
#[derive(Serialize)]
#[serde(untagged)]
enum Member<'a> {
    Number(u64),
    Text(&'a str),
    Fact(&'a Value),
}

/// A JSON object of these members in their order, without white space.
fn written(members: &[(&str, Member<'_>)]) -> Vec<u8> {
    let mut leaf = Vec::with_capacity(LEAF_BYTES_LIKELY);
    let mut writer = serde_json::Serializer::new(&mut leaf);
    // Texts, numbers and a buffer that grows: nothing here can fail.
    let _ = writer.collect_map(members.iter().map(|(name, value)| (name, value)));
    leaf
}

/// The leaf of an acceptance. `recipient` is the HMAC of the normalised address under the subject's key, `mime` that of the
/// mail's SHA-256, `mime_bytes` its length: without the key nobody can tell whose mail it was, or confirm a guess at what
/// it said.
#[must_use]
pub fn accepted(message: &NewMessage, recipient: &[u8; 32], mime: &[u8; 32], mime_bytes: usize) -> Happening {
    let (kind, reason) = match message.entry {
        // What is held has a leaf of its own for that.
        Entry::Queued | Entry::Held(_) => (Kind::Accepted, None),
        Entry::Suppressed(reason) => (Kind::Suppressed, Some(reason)),
    };
    let happening = Happening::new(message.accepted_at, kind, &message.tenant, Some(message.id), message.actor.clone())
        .with("lane", message.lane.as_str())
        .with("deliverBy", time::text(message.deliver_by))
        .with("recipient", hex(recipient))
        .with("mimeHmac", hex(mime))
        .with("mimeBytes", mime_bytes);
    match reason {
        Some(reason) => happening.with("reason", reason.as_str()),
        None => happening,
    }
}

/// The leaf of a commit point. `attempt` counts from 1.
#[must_use]
pub fn attempt_committed(
    at: Timestamp,
    tenant: &TenantId,
    id: MessageId,
    relay: &RelayName,
    attempt: u32,
) -> Happening {
    Happening::new(at, Kind::AttemptCommitted, tenant, Some(id), Actor::Gateway)
        .with("relay", relay.as_str())
        .with("attempt", attempt)
}

/// The leaf of an attempt's end. `attempt` counts from 1.
#[must_use]
pub fn outcome(
    at: Timestamp,
    tenant: &TenantId,
    id: MessageId,
    relay: Option<&RelayName>,
    attempt: u32,
    outcome: &Outcome,
) -> Happening {
    let leaf = |kind| Happening::new(at, kind, tenant, Some(id), Actor::Gateway).with("attempt", attempt);
    let happening = match outcome {
        Outcome::Relayed { reply } => {
            let happening = leaf(Kind::Relayed).with_reply(Some(reply));
            match reply.queue_id() {
                Some(queue_id) => happening.with("relayQueueId", queue_id),
                None => happening,
            }
        }
        Outcome::Deferred { reason, reply, next_at } => leaf(Kind::Deferred)
            .with("reason", reason.as_str())
            .with("nextAttemptAt", time::text(*next_at))
            .with_reply(reply.as_ref()),
        Outcome::Returned { next_at } => leaf(Kind::Deferred)
            .with("reason", Reason::ConnectionLost.as_str())
            .with("nextAttemptAt", time::text(*next_at))
            .with("spent", false),
        Outcome::Bounced { reason, reply, .. } => {
            leaf(Kind::Bounced).with("reason", reason.as_str()).with_reply(reply.as_ref())
        }
        Outcome::Unknown { reason, .. } => leaf(Kind::Unknown).with("reason", reason.as_str()),
        Outcome::Held { reason } => leaf(Kind::Held).with("reason", reason.as_str()),
        Outcome::Suppressed { reason } => leaf(Kind::Suppressed).with("reason", reason.as_str()),
    };
    match relay {
        Some(relay) => happening.with("relay", relay.as_str()),
        None => happening,
    }
}

/// The leaf of a settlement that came after somebody else had decided: what it knew.
#[must_use]
pub fn late(settled: &Happening) -> Happening {
    let mut happening = settled.clone().with("outcome", settled.kind.as_str());
    happening.kind = Kind::Resolved;
    happening.with("late", true)
}

/// The leaf of an unknown that the lane's policy decided.
#[must_use]
pub fn resolved_by_policy(at: Timestamp, tenant: &TenantId, id: MessageId, reason: Reason) -> Happening {
    Happening::new(at, Kind::Resolved, tenant, Some(id), Actor::Gateway)
        .with("by", "policy")
        .with("reason", reason.as_str())
}

/// The leaf of a doubt that a relay's log ends. What stands there in the relay's own words is no fact of a leaf.
#[must_use]
pub fn resolved_by_evidence(tenant: &TenantId, evidence: &Evidence) -> Happening {
    let Evidence { id, relay, taken, at } = evidence;
    let happening = Happening::new(*at, Kind::Resolved, tenant, Some(*id), Actor::Gateway)
        .with("by", "relay-log")
        .with("outcome", Status::Relayed.as_str())
        .with("relay", relay.as_str())
        .with("relayQueueId", taken.queue_id.as_str());
    let Some(fate) = &taken.fate else { return happening };
    let happening = happening.with("relayStatus", fate.status.as_str());
    match fate.enhanced {
        Some(enhanced) => happening.with("enhanced", enhanced.to_string()),
        None => happening,
    }
}

/// The leaf of a mail that a relay has taken, as its log says: its state from then on.
#[must_use]
pub fn found_relayed(tenant: &TenantId, evidence: &Evidence) -> Happening {
    Happening::new(evidence.at, Kind::Relayed, tenant, Some(evidence.id), Actor::Gateway)
        .with("by", "relay-log")
        .with("relay", evidence.relay.as_str())
        .with("relayQueueId", evidence.taken.queue_id.as_str())
}

/// The leaf of a deadline that passed before any attempt could have been taken.
#[must_use]
pub fn expired(at: Timestamp, tenant: &TenantId, id: MessageId, lane: Lane) -> Happening {
    Happening::new(at, Kind::Expired, tenant, Some(id), Actor::Gateway)
        .with("lane", lane.as_str())
        .with("reason", Reason::DeadlinePassed.as_str())
}

/// The leaf of a message that now waits for an operator.
#[must_use]
pub fn held(at: Timestamp, tenant: &TenantId, id: MessageId, reason: Reason) -> Happening {
    Happening::new(at, Kind::Held, tenant, Some(id), Actor::Gateway).with("reason", reason.as_str())
}

/// The leaf of an operator's verb. `from` is the state it found the message in.
#[must_use]
pub fn steered(
    at: Timestamp,
    tenant: &TenantId,
    id: MessageId,
    actor: Actor,
    verb: Verb,
    from: Status,
    because: Option<&Because>,
) -> Happening {
    let (kind, deliver_by) = match verb {
        Verb::Cancel => (Kind::Cancelled, None),
        Verb::Hold => (Kind::Held, None),
        Verb::Release => (Kind::Released, None),
        Verb::Retry { deliver_by } => (Kind::Retried, deliver_by),
        Verb::Resolve => (Kind::Resolved, None),
    };
    let mut happening = Happening::new(at, kind, tenant, Some(id), actor)
        .with("reason", Reason::Operator.as_str())
        .with("from", from.as_str());
    if let Some(deliver_by) = deliver_by {
        happening = happening.with("deliverBy", time::text(deliver_by));
    }
    if verb == Verb::Resolve {
        happening = happening.with("by", "operator").with("outcome", Status::Relayed.as_str());
    }
    happening.because(because)
}

/// The leaf of a mail that a relay has taken, as an operator found: its state from then on.
#[must_use]
pub fn said_relayed(at: Timestamp, tenant: &TenantId, id: MessageId, actor: Actor) -> Happening {
    Happening::new(at, Kind::Relayed, tenant, Some(id), actor).with("by", "operator")
}

/// The leaf of a message that ends at its commit point because of how its customer's wallets stand.
#[must_use]
pub fn not_wanted(at: Timestamp, tenant: &TenantId, id: MessageId, status: WalletStatus) -> Happening {
    Happening::new(at, Kind::Cancelled, tenant, Some(id), Actor::Gateway)
        .with("reason", Reason::WalletStatus.as_str())
        .with("walletStatus", status.as_str())
}

/// The leaf of a configuration that was read again: which of its sections changed, never their values.
#[must_use]
pub fn config_changed(at: Timestamp, sections: &[&'static str]) -> Happening {
    Happening::of_gateway(at, Kind::ConfigChanged).with("sections", sections)
}

/// The leaf of the key that signs checkpoints from now on, in its public form.
#[must_use]
pub fn audit_key_set(at: Timestamp, key: &str) -> Happening {
    Happening::of_gateway(at, Kind::AuditKeySet).with("key", key)
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

#[cfg(test)]
mod tests;
