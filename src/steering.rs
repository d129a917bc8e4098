//! How operators steer mails: the same for the HTTP door and for the commands.
//!
//! A verb is done in one short transaction with its leaf ([`Store::steer`]); many messages are steered in batches, so
//! that a gateway beside a command is never kept waiting for long. What may go now is told to delivery at once; a
//! gateway in another process sees it when it looks next, within a second.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::domain::audit::Actor;
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::submission::FieldError;
use crate::domain::verb::{Because, Verb};
use crate::store::{MessageFilter, Order, OrderToMany, Steered, Store, StoreError};

/// Messages in one transaction: some milliseconds.
const BATCH: usize = 200;

/// What became of an order about many messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages with which it was done.
    pub done: u64,
    /// Messages left alone because an attempt is past its commit point.
    pub in_flight: u64,
    /// Messages left alone because of their deadline or their fact, or because they cannot be read.
    pub refused: u64,
}

/// An order about many messages that ended early; what was done stays done.
#[derive(Debug, thiserror::Error)]
#[error("the store failed when {} were done", .tally.done)]
pub struct Interrupted {
    /// What was done before.
    pub tally: Tally,
    /// What failed.
    #[source]
    pub source: StoreError,
}

/// Who says so, and why.
#[derive(Debug, Clone)]
pub struct Word {
    /// As named in the audit.
    pub actor: Actor,
    /// In their own words.
    pub because: Option<Because>,
}

/// The operators' hands.
pub struct Steering {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    wake: Arc<Notify>,
}

impl Steering {
    /// Steers what is in `store`; `wake` is notified when something may go at once.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, wake: Arc<Notify>) -> Self {
        Self { store, clock, wake }
    }

    /// A retry, with a new deadline or without.
    pub fn retry(&self, deliver_by: Option<Timestamp>) -> Result<Verb, FieldError> {
        Verb::retry(deliver_by, self.clock.now())
    }

    /// Does a verb with one message of a tenant; durable when this returns [`Steered::Done`].
    pub async fn steer(&self, tenant: &TenantId, id: MessageId, verb: Verb, word: Word) -> Result<Steered, StoreError> {
        let steered = self.store.steer(tenant, id, self.order(verb, word)).await?;
        if matches!(steered, Steered::Done(_)) {
            self.tell_delivery(verb);
        }
        Ok(steered)
    }

    /// Does a verb with every message of a tenant that `filter` finds, its limit aside.
    pub async fn steer_matching(
        &self,
        tenant: &TenantId,
        filter: MessageFilter,
        verb: Verb,
        word: Word,
    ) -> Result<Tally, Interrupted> {
        let mut tally = Tally::default();
        let mut filter = MessageFilter { limit: BATCH, ..filter };
        loop {
            let order = self.order(verb, word.clone());
            let many = OrderToMany { tenant: tenant.clone(), filter: filter.clone(), order };
            let batch = self.store.steer_matching(many).await.map_err(|source| Interrupted { tally, source })?;
            tally.done += batch.done;
            tally.in_flight += batch.in_flight;
            tally.refused += batch.refused;
            if batch.done > 0 {
                self.tell_delivery(verb);
            }
            match batch.next {
                Some(next) => filter.before = Some(next),
                None => return Ok(tally),
            }
        }
    }

    fn order(&self, verb: Verb, Word { actor, because }: Word) -> Order {
        Order { verb, at: self.clock.now(), actor, because }
    }

    fn tell_delivery(&self, verb: Verb) {
        match verb {
            Verb::Release | Verb::Retry { .. } => self.wake.notify_one(),
            Verb::Cancel | Verb::Hold | Verb::Resolve => {}
        }
    }
}
