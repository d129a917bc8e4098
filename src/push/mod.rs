//! Pushes: the brands' own receivers are told of what happens to their mails and their customers' wallets.
//!
//! ```text
//! audit (behind a cursor) ─┐                          one row for each event and endpoint
//! customers' statuses due ─┴▶ feeder ─▶ outbox (store) ─▶ sender ─▶ POST, signed ─▶ 2xx: gone from the outbox
//!                                             ▲               └─▶ else: later, dead letter, or the endpoint is off (410)
//!                                             └── postern push replay, enable
//! ```
//!
//! # Who is who
//!
//! * The **feeder** ([`feeder`]) reads what was committed and keeps pushes of it. Nothing on a mail's way knows of it.
//! * The **sender** ([`sender`]) holds a few due pushes of each endpoint and makes the **attempts** ([`attempt`]).
//! * An **endpoint** is a receiver of a tenant by its name; its URL and secrets are those of the configuration now.
//!
//! # What is promised
//!
//! * An event is in the outbox once for each endpoint that wants it, whatever dies in between. It is sent at least once:
//!   every attempt has the same `webhook-id` and the same body, so that receivers can tell a repeat.
//! * Pushes about one message, or one customer, are sent one after the other, in their order: one that waits for its next
//!   attempt keeps the later ones waiting. Pushes about different ones are begun in their order, and may overtake.
//! * A receiver that is slow or dead costs nobody else anything: it has `in_flight_per_endpoint` attempts at most. One
//!   that fails again and again is tried with one push at a time, and what waits behind spends no attempts.
//! * What is not delivered is kept for `kept`, `kept_max` of each endpoint; what is dropped is counted.
//!
//! Only endpoints in the configuration are told, of what happens from then on. One that left keeps what waits for it.

mod attempt;
mod feeder;
mod sender;
pub mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use self::feeder::Feeder;
use self::sender::Sender;
use self::settings::PushSettings;
use crate::clock::Clock;
use crate::domain::rules::Rules;
use crate::outgoing::Client;
use crate::store::Store;

/// What pushing is made of.
#[derive(Clone)]
pub struct Parts {
    /// Where the outbox is.
    pub store: Arc<dyn Store>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// What the configuration says of tenants now.
    pub rules: watch::Receiver<Arc<Rules>>,
    /// What calls the receivers.
    pub client: Client,
    /// `[push]`.
    pub settings: PushSettings,
}

/// Feeds the outbox and empties it.
pub struct Push {
    parts: Parts,
    /// Notified when something new is in the outbox. A hint: the sender looks every second.
    fed: Arc<Notify>,
}

impl Push {
    /// Nothing runs yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts, fed: Arc::default() }
    }

    /// Feeds the outbox until `soft`.
    pub fn feed(&self, soft: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        Feeder::new(self.parts.clone(), Arc::clone(&self.fed)).run(soft)
    }

    /// Sends what is in the outbox until `soft`; what is under way then may end, until `hard`.
    pub fn send(&self, soft: CancellationToken, hard: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        Sender::new(self.parts.clone(), Arc::clone(&self.fed)).run(soft, hard)
    }
}
