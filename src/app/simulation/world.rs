//! The real parts around a store that is gone afterwards, and the clock that they all go by.

use std::num::NonZeroU64;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use super::source::News;
use super::{Fate, Trial};
use crate::app::{self, parts};
use crate::clock::{Clock, ManualClock};
use crate::domain::audit::Actor;
use crate::domain::ids::{EnrollmentId, MessageId, TenantId};
use crate::domain::message::{Outcome, Settled, Settlement};
use crate::domain::pass_event::PassEvent;
use crate::domain::quantity::ByteSize;
use crate::domain::reply::Reply;
use crate::domain::rules::Rules;
use crate::journeys::{Journeys, Parts};
use crate::limits::Limits;
use crate::store::settings::StoreSettings;
use crate::store::sqlite::Role;
use crate::store::{Store, StoreError};
use crate::wallet::{Ledger, Refusal};

/// Who writes in a store that nobody else sees.
const ACTOR: Actor = Actor::Command("journeys");
/// What the relay would have said.
const TAKEN: u16 = 250;

/// See the module's text.
pub(super) struct World {
    pub(super) store: Arc<dyn Store>,
    pub(super) journeys: Journeys,
    clock: ManualClock,
    ledger: Ledger,
    /// A ledger beside which there are no journeys: for what had happened before.
    past: Ledger,
    _folder: tempfile::TempDir,
}

impl World {
    pub(super) fn open(trial: &Trial) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let url = format!("sqlite:{}", folder.path().join("simulation.db").display());
        let store = parts::open_store(&StoreSettings { url, content_key_file: None }, Role::Scratch)?;
        let hands = ManualClock::at(trial.begins_at);
        let clock: Arc<dyn Clock> = Arc::new(hands.clone());
        let rules = trial.rules();
        let none = Rules { journeys: std::collections::BTreeMap::new(), ..rules.clone() };
        let (rules, none) = (watch::Sender::new(Arc::new(rules)), watch::Sender::new(Arc::new(none)));
        let stir = Arc::new(Notify::new());
        let ledger = app::ledger(&trial.config, &rules, &clock, &store, Arc::clone(&stir));
        let past = app::ledger(&trial.config, &none, &clock, &store, Arc::clone(&stir));
        let templates = watch::Sender::new(Arc::clone(&trial.templates));
        let intake = Arc::new(app::intake(&rules, &templates, &clock, &store, &Arc::new(Notify::new()), None));
        // What the gateway's queue and disk have room for is not what is tried.
        let mut limits = trial.config.limits.clone();
        (limits.queue_max, limits.disk_free_min) = (NonZeroU64::MAX, ByteSize(0));
        let journeys = Journeys::new(Parts {
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            intake,
            rules: rules.subscribe(),
            templates: templates.subscribe(),
            limits: Arc::new(Limits::new(&limits, &clock)),
            settings: trial.config.journey.clone(),
            public_url: trial.config.server.public_url.clone(),
            wake: stir,
        });
        Ok(Self { store, journeys, clock: hands, ledger, past, _folder: folder })
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Winds the clock to a moment; it never goes back.
    pub(super) fn wind_to(&self, at: Timestamp) {
        if let Ok(by) = std::time::Duration::try_from(at.duration_since(self.now())) {
            self.clock.advance(by);
        }
    }

    pub(super) async fn next_due_at(&self) -> Result<Option<Timestamp>, StoreError> {
        self.journeys.next_at().await
    }

    /// Takes an event now; who entered with it.
    pub(super) async fn record(&self, tenant: &TenantId, event: PassEvent) -> anyhow::Result<Vec<EnrollmentId>> {
        match self.ledger.record(tenant, ACTOR, vec![event]).await {
            Ok(recorded) => Ok(recorded.into_iter().flat_map(|recorded| recorded.enrollments).collect()),
            // It names nobody, as the door would have said.
            Err(Refusal::Invalid(_)) => Ok(Vec::new()),
            Err(refusal @ (Refusal::UnknownTenant | Refusal::Store(_))) => Err(refusal.into()),
        }
    }

    /// Takes what had happened before: no journey hears of it.
    pub(super) async fn recall(&self, tenant: &TenantId, events: Vec<PassEvent>) -> anyhow::Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        match self.past.record(tenant, ACTOR, events).await {
            Ok(_) | Err(Refusal::Invalid(_)) => Ok(()),
            Err(refusal @ (Refusal::UnknownTenant | Refusal::Store(_))) => Err(refusal.into()),
        }
    }

    pub(super) async fn learn(&self, tenant: &TenantId, news: News) -> Result<(), StoreError> {
        match news {
            News::Contact(contact) => drop(self.store.set_contacts(tenant, ACTOR, vec![*contact]).await?),
            News::Suppression(suppression) => drop(self.store.suppress(tenant, ACTOR, vec![*suppression]).await?),
        }
        Ok(())
    }

    /// What was handed in goes out at once, so that no later event takes it back; unless its recipient is not mailed.
    pub(super) async fn deliver(&self, id: MessageId, now: Timestamp) -> Result<Fate, StoreError> {
        let outcome = Outcome::Relayed { reply: Reply::new(TAKEN, String::new()) };
        let settlement = Settlement { id, token: None, relay: None, at: now, outcome };
        Ok(match self.store.settle(settlement).await? {
            Settled::Applied => Fate::Sent,
            Settled::Stale => Fate::Suppressed,
        })
    }

    pub(super) async fn close(&self) {
        self.store.close().await;
    }
}
