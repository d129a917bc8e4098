//! Pass events become a ledger, and the ledger says who has the pass in which wallet.
//!
//! ```text
//! hook, form, webhook, backfill ─▶ PassEvent ─▶ Ledger::record ─▶ store.record: one transaction of
//!     ledger row ─▶ what the pass's events add up to ─▶ what the customer's passes add up to ─▶ leaf
//! ```
//!
//! Events come at least once and in any order. What they add up to depends on the events and their times alone, never on
//! the order they came in (`domain::wallet` has the rules, and a test that shuffles). What one event *was* (a first install,
//! a duplicate, something stale) is said of the order they came in, since that is what may start a journey.
//!
//! Nothing here knows HTTP, and nothing here decides about mails.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use uuid::{ContextV7, Uuid};

use crate::clock::Clock;
use crate::domain::audit::Actor;
use crate::domain::ids::{EventId, TenantId};
use crate::domain::pass_event::{NewPassEvent, PassEvent};
use crate::domain::push::WALLET_CHANGED;
use crate::domain::rules::Rules;
use crate::domain::submission::FieldError;
use crate::domain::wallet::CustomerKey;
use crate::store::{Pushed, RecordRules, Recorded, Store, StoreError};

pub mod alarms;
pub mod backfill;
pub mod settings;
mod unknown;

use self::settings::WalletSettings;

/// What is said of an event that belongs to nobody.
const NOBODY: &str = "names neither a pass nor, by one of the tenant's identifiers, a customer";

/// Why events were not kept. None of them was.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The tenant is not in the configuration.
    #[error("the tenant is not configured")]
    UnknownTenant,
    /// Events name neither a pass nor a customer; all of them, as `/<index>`.
    #[error("events that belong to nobody")]
    Invalid(Vec<FieldError>),
    /// The store could not keep them.
    #[error("keeping pass events failed")]
    Store(#[source] StoreError),
}

/// Where every pass event enters, whichever way it came in.
pub struct Ledger {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    rules: watch::Receiver<Arc<Rules>>,
    settings: WalletSettings,
    /// Notified after every event that journeys may follow from.
    journeys: Arc<Notify>,
    ids: Mutex<ContextV7>,
}

impl Ledger {
    /// A ledger under these rules, of which each event takes those of its moment; `journeys` is notified after events of tenants
    /// that have some.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        rules: watch::Receiver<Arc<Rules>>,
        settings: WalletSettings,
        journeys: Arc<Notify>,
    ) -> Self {
        Self { store, clock, rules, settings, journeys, ids: Mutex::new(ContextV7::new()) }
    }

    /// Keeps events of a tenant in their order, all or none: on disk when this returns `Ok`, one answer for each.
    pub async fn record(
        &self,
        tenant: &TenantId,
        actor: Actor,
        events: Vec<PassEvent>,
    ) -> Result<Vec<Recorded>, Refusal> {
        let snapshot = Arc::clone(&self.rules.borrow());
        let known = snapshot.tenants.get(tenant).ok_or(Refusal::UnknownTenant)?;
        let has_journeys = snapshot.journeys.values().any(|drawn| drawn.journey.tenant == *tenant);
        let rules = RecordRules {
            identifiers: known.identifiers.clone(),
            reinstall_settle: self.settings.reinstall_settle.0,
            history_max: self.settings.history_max,
            passes_max: self.settings.passes_max,
            time_ahead_max: self.settings.time_ahead_max.0,
            journeys: snapshot.journeys.values().filter(|drawn| drawn.journey.tenant == *tenant).cloned().collect(),
            pushed: if known.tells(WALLET_CHANGED) { Pushed::Yes } else { Pushed::No },
        };
        let nobody = |event: &PassEvent| {
            event.pass.is_none() && CustomerKey::of(&event.identifiers, &known.identifiers).is_none()
        };
        let errors = events.iter().enumerate().filter(|(_, event)| nobody(event));
        let errors: Vec<_> = errors.map(|(index, _)| FieldError::new(format!("/{index}"), NOBODY)).collect();
        if !errors.is_empty() {
            return Err(Refusal::Invalid(errors));
        }
        let received_at = self.clock.now();
        let numbered = events.into_iter().map(|event| NewPassEvent { id: self.next_id(), received_at, event });
        let recorded = self.store.record(tenant, actor, numbered.collect(), rules).await.map_err(Refusal::Store)?;
        if has_journeys {
            self.journeys.notify_one();
        }
        Ok(recorded)
    }

    /// How events are understood.
    #[must_use]
    pub fn settings(&self) -> &WalletSettings {
        &self.settings
    }

    /// The present moment, by the clock that events are received by.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn next_id(&self) -> EventId {
        let now = self.clock.now();
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        let nanoseconds = u32::try_from(now.subsec_nanosecond()).unwrap_or_default();
        EventId::from_uuid(Uuid::new_v7(uuid::Timestamp::from_unix(&self.ids, seconds, nanoseconds)))
    }
}
