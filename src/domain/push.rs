//! Pushes: events that a brand's own receivers are told of, and how each is written and signed (Standard Webhooks 1.0).
//!
//! A push is one event for one endpoint. Its body is made once and stays the same, byte for byte, on every attempt; so
//! does its id. The timestamp and the signatures belong to the attempt.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::Sha256;

use super::alarm::Alarm;
use super::ids::{EndpointName, MessageId, PushId, TenantId};
use super::message::{MessageView, Status};
use super::outgoing_url::OutgoingUrl;
use super::secret::Secret;
use super::tenant::matches_pattern;
use super::time;
use super::wallet::WalletStatus;
use super::wallet::customer::Projection;

/// What a secret in the standard's own notation begins with; the rest is base64.
const SECRET_PREFIX: &str = "whsec_";
/// Padding or none: people lose it.
const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The event of a customer whose wallets changed.
pub const WALLET_CHANGED: &str = "wallet.changed";
/// The event of an alarm that was raised.
pub const ALARM_OPENED: &str = "alarm.opened";
/// The event of an alarm that ended.
pub const ALARM_CLOSED: &str = "alarm.closed";
/// Changes of a message, by the leaf that tells of each. What stands here never changes its name.
const MESSAGE_EVENTS: [(&str, &str, Status); 11] = [
    ("accepted", "message.accepted", Status::Queued),
    ("suppressed", "message.suppressed", Status::Suppressed),
    ("deferred", "message.deferred", Status::Deferred),
    ("relayed", "message.relayed", Status::Relayed),
    ("bounced", "message.bounced", Status::Bounced),
    ("unknown", "message.unknown", Status::Unknown),
    ("expired", "message.expired", Status::Expired),
    ("held", "message.held", Status::Held),
    ("released", "message.released", Status::Queued),
    ("cancelled", "message.cancelled", Status::Cancelled),
    ("delivered", "message.delivered", Status::Delivered),
];
/// Facts of a leaf that a push repeats, as they are called there.
const FACTS_TOLD: [&str; 7] = ["reason", "attempt", "nextAttemptAt", "relay", "relayQueueId", "code", "enhanced"];

/// A receiver of pushes, as a tenant's `[[outbound]]` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbound {
    /// What it is called: its pushes are kept under this name, whatever its URL is.
    pub name: EndpointName,
    /// Where to.
    pub url: OutgoingUrl,
    /// Keys to sign with: each signs.
    pub keys: Vec<SigningKey>,
    /// Patterns of the events it wants.
    pub events: Vec<String>,
}

impl Outbound {
    /// Whether it wants events of this name.
    #[must_use]
    pub fn wants(&self, event: &str) -> bool {
        self.events.iter().any(|pattern| matches_pattern(pattern, event))
    }

    /// Whether it wants any event of messages.
    #[must_use]
    pub fn wants_messages(&self) -> bool {
        MESSAGE_EVENTS.iter().any(|(_, event, _)| self.wants(event))
    }
}

/// Whether a pattern means any event that there is.
#[must_use]
pub fn is_event_pattern(pattern: &str) -> bool {
    [WALLET_CHANGED, ALARM_OPENED, ALARM_CLOSED].iter().any(|event| matches_pattern(pattern, event))
        || MESSAGE_EVENTS.iter().any(|(_, event, _)| matches_pattern(pattern, event))
}

/// Which endpoint of which tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Endpoint {
    /// The tenant.
    pub tenant: TenantId,
    /// The endpoint's name.
    pub endpoint: EndpointName,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.endpoint)
    }
}

impl std::str::FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (tenant, endpoint) = text.split_once('/').ok_or("write TENANT/NAME")?;
        Ok(Self { tenant: tenant.parse()?, endpoint: endpoint.parse()? })
    }
}

/// A key that signs pushes.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(Secret);

impl SigningKey {
    /// The key in a secret: the bytes behind `whsec_`, or the text itself.
    pub fn new(secret: Secret) -> Result<Self, &'static str> {
        let key = Self(secret);
        match key.bytes() {
            Some(bytes) if !bytes.is_empty() => Ok(key),
            Some(_) => Err("must not be empty"),
            None => Err("what follows whsec_ must be base64"),
        }
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        let text = self.0.expose();
        match text.strip_prefix(SECRET_PREFIX) {
            Some(encoded) => FORGIVING.decode(encoded).ok(),
            None => Some(text.as_bytes().to_vec()),
        }
    }

    /// `v1,<base64>`: HMAC-SHA-256 over id, seconds and body, dots between them.
    fn sign(&self, id: &str, seconds: i64, body: &str) -> String {
        // Unwrap safety: HMAC takes keys of any length, and `new` has seen the bytes.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.bytes().unwrap_or_default()) else {
            return String::new();
        };
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body.as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

/// The header `webhook-signature`: one signature for each key, a space between them.
#[must_use]
pub fn signatures(keys: &[SigningKey], id: PushId, seconds: i64, body: &str) -> String {
    let id = id.to_string();
    keys.iter().map(|key| key.sign(&id, seconds, body)).collect::<Vec<_>>().join(" ")
}

/// An event before it is known who wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name.
    pub name: &'static str,
    /// Of what it tells: pushes about one subject are sent one after the other.
    pub subject: String,
    /// When it happened.
    pub at: Timestamp,
    /// The push's body.
    pub body: String,
}

impl Event {
    fn new(name: &'static str, subject: String, at: Timestamp, data: &Value) -> Self {
        let body = json!({ "type": name, "timestamp": time::text(at), "data": data }).to_string();
        Self { name, subject, at, body }
    }
}

/// A leaf of the audit that tells of a message, and the message as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageChange {
    /// When it happened.
    pub at: Timestamp,
    /// The leaf's kind.
    pub kind: String,
    /// The leaf.
    pub leaf: Map<String, Value>,
    /// The message.
    pub message: MessageView,
}

/// What receivers call a leaf of this kind; `None`: they are not told of it.
#[must_use]
pub fn message_event_of(kind: &str) -> Option<&'static str> {
    MESSAGE_EVENTS.iter().find(|(known, ..)| *known == kind).map(|(_, event, _)| *event)
}

/// The event of a change of a message. What it says of the state is what the leaf says: the message may be further by now.
#[must_use]
pub fn message_changed(change: &MessageChange) -> Option<Event> {
    let MessageChange { at, kind, leaf, message } = change;
    let (_, name, status) = MESSAGE_EVENTS.iter().find(|(known, ..)| known == kind)?;
    let mut data = Map::new();
    let mut tell = |key: &str, value: Value| drop(data.insert(key.to_owned(), value));
    tell("id", json!(message.id));
    tell("tenant", json!(message.tenant));
    tell("status", json!(status));
    tell("recipient", json!(message.recipient));
    tell("template", json!(message.template));
    tell("lane", json!(message.lane));
    tell("messageId", json!(message.message_id));
    tell("tags", json!(message.tags));
    tell("metadata", json!(message.metadata));
    tell("acceptedAt", json!(time::text(message.accepted_at)));
    tell("deliverBy", json!(time::text(message.deliver_by)));
    tell("endedAt", if status.is_live() { Value::Null } else { json!(time::text(*at)) });
    tell("mayHaveBeenSent", json!(message.may_have_been_sent));
    tell("reason", Value::Null);
    for fact in FACTS_TOLD {
        if let Some(value) = leaf.get(fact) {
            tell(fact, value.clone());
        }
    }
    Some(Event::new(name, subject_of(message.id), *at, &Value::Object(data)))
}

fn subject_of(message: MessageId) -> String {
    message.to_string()
}

/// The event of a customer whose wallets changed since receivers were last told.
#[must_use]
pub fn wallet_changed(customer: &str, projection: &Projection, previous: WalletStatus, joined: Option<&str>) -> Event {
    let time_or_null = |at: Option<Timestamp>| at.map(time::text);
    let data = json!({
        "customerId": customer,
        "walletStatus": projection.status,
        "appleWalletInstalledAt": time_or_null(projection.apple_installed_at),
        "googleWalletInstalledAt": time_or_null(projection.google_installed_at),
        "walletLastChangedAt": time::text(projection.changed_at),
        "walletLastEvent": projection.last_event.as_str(),
        "previousWalletStatus": previous,
        // Whose the passes are now that were this customer's: they are not gone.
        "joined": joined,
    });
    Event::new(WALLET_CHANGED, format!("customer {customer}"), projection.changed_at, &data)
}

/// The event of an alarm: that it was raised, or, with the time of its end, that it ended.
#[must_use]
pub fn alarm_told(alarm: &Alarm) -> Event {
    let (name, at) = alarm.closed_at.map_or((ALARM_OPENED, alarm.opened_at), |at| (ALARM_CLOSED, at));
    Event::new(name, format!("alarm {}", alarm.id), at, &json!(alarm))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use secrecy::SecretString;

    use super::*;

    fn key(secret: &str) -> Result<SigningKey, &'static str> {
        SigningKey::new(SecretString::from(secret).into())
    }

    #[test]
    fn a_signature_is_the_one_that_the_standard_shows() {
        let body = r#"{"test": 2432232314}"#;
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_base64_behind_its_prefix_or_any_text_and_never_shown() {
        for (secret, fits) in [
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", true),
            ("whsec_AQI", true),
            ("whsec_AQI=", true),
            ("plain text", true),
            ("whsec_", false),
            ("whsec_not base64", false),
            ("", false),
        ] {
            assert_eq!(key(secret).is_ok(), fits, "{secret}");
        }
        assert_eq!(format!("{:?}", key("plain text").unwrap()), "SigningKey(…)");
    }

    #[test]
    fn a_receiver_gets_the_events_that_its_patterns_name() {
        let outbound = |events: &[&str]| Outbound {
            name: "crm".parse().unwrap(),
            url: "https://h.example".parse().unwrap(),
            keys: Vec::new(),
            events: events.iter().map(|event| (*event).to_owned()).collect(),
        };
        for (events, event, wants) in [
            (&["*"][..], "message.relayed", true),
            (&["*"], WALLET_CHANGED, true),
            (&["message.*"], "message.held", true),
            (&["message.*"], WALLET_CHANGED, false),
            (&["message.bounced", "wallet.*"], "message.relayed", false),
            (&["message.bounced", "wallet.*"], WALLET_CHANGED, true),
            (&[], "message.relayed", false),
        ] {
            assert_eq!(outbound(events).wants(event), wants, "{events:?} {event}");
        }
        assert!(outbound(&["*.held"]).wants_messages() && !outbound(&["wallet.*"]).wants_messages());
        for (pattern, known) in
            [("*", true), ("message.held", true), ("alarm.*", true), ("mesage.*", false), ("", false)]
        {
            assert_eq!(is_event_pattern(pattern), known, "{pattern}");
        }
    }
}
