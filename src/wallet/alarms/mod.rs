//! Watches the ledger of each tenant: installs that stop, removals that jump (`domain::alarm` has the rules).
//!
//! In rounds: the events that came in since the last one are counted by hour, in steps that look at a bounded number of
//! rows; then each tenant is judged. An alarm is a row, so a restart neither forgets nor repeats it; one line in the log
//! says that it was raised, one that it ended, and the tenant's receivers are told of both. Events of backfills are not counted: they tell of another day.
//!
//! What an event turned out to be is known when it is committed, a little after the moment it came in: the last moments are
//! left to the next round, so that none is passed over.

pub mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::{NoContext, Uuid};

use self::settings::AlarmSettings;
use crate::clock::Clock;
use crate::domain::alarm::{Alarm, AlarmKind, Counts, HOURS_KEPT, Judgement, Numbers, Rules as AlarmRules, hour_of};
use crate::domain::ids::{AlarmId, EndpointName, TenantId};
use crate::domain::push::{self, Endpoint};
use crate::domain::rules::Rules;
use crate::domain::tenant::Tenant;
use crate::store::{NewPush, Store, StoreError};

/// How long between two rounds.
pub const ROUND: Duration = Duration::from_secs(10);
/// Events that came in less than so long ago are left to a later round.
pub const SETTLED_AFTER: Duration = Duration::from_secs(15);
/// Events counted in one step: more than any machine takes in within a millisecond.
const STEP: usize = 5_000;
/// Steps of one tenant in a round; a ledger that is counted for the first time takes several rounds.
const STEPS_MAX: usize = 20;
/// Alarms open at once at most: tenants, times kinds.
pub const ALARMS_MAX: usize = 20_000;

/// What watches.
pub struct Watchman {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    rules: AlarmRules,
}

/// What is remembered between two rounds.
#[derive(Default)]
pub struct Memory {
    counts: BTreeMap<TenantId, Counts>,
    failing: bool,
}

/// Whether a tenant's ledger was counted to its end.
#[derive(PartialEq, Eq)]
enum Caught {
    Up,
    NotYet,
}

impl Watchman {
    /// One who knows nothing yet.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, settings: &AlarmSettings) -> Self {
        Self { store, clock, rules: settings.rules() }
    }

    /// Works in rounds until `soft` is cancelled.
    pub async fn run(&self, tenants: watch::Receiver<Arc<Rules>>, soft: CancellationToken) {
        let mut memory = Memory::default();
        while !soft.is_cancelled() {
            let known = Arc::clone(&tenants.borrow());
            tokio::select! {
                () = soft.cancelled() => return,
                done = self.round(&known.tenants, &mut memory) => match (&done, memory.failing) {
                    (Err(error), false) => tracing::warn!(%error, "alarms have to wait for the store"),
                    (Ok(()), _) | (Err(_), true) => memory.failing = done.is_err(),
                },
            }
            let next = self.clock.now().checked_add(ROUND).unwrap_or(Timestamp::MAX);
            tokio::select! {
                () = soft.cancelled() => {}
                () = self.clock.sleep_until(next) => {}
            }
        }
    }

    /// Ends all alarms, as nobody watches any more; tried in rounds until the store has taken it or `soft` is cancelled.
    pub async fn leave(&self, tenants: watch::Receiver<Arc<Rules>>, soft: CancellationToken) {
        while !soft.is_cancelled() {
            let known = Arc::clone(&tenants.borrow());
            match self.end_all(&known.tenants).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "alarms that nobody watches any more have to wait for the store"),
            }
            let next = self.clock.now().checked_add(ROUND).unwrap_or(Timestamp::MAX);
            tokio::select! {
                () = soft.cancelled() => {}
                () = self.clock.sleep_until(next) => {}
            }
        }
    }

    async fn end_all(&self, tenants: &BTreeMap<TenantId, Tenant>) -> Result<(), StoreError> {
        for alarm in self.store.open_alarms(None, ALARMS_MAX).await? {
            self.end(&alarm, tenants.get(&alarm.tenant)).await?;
        }
        Ok(())
    }

    /// Counts what came in, and judges each tenant.
    pub async fn round(&self, tenants: &BTreeMap<TenantId, Tenant>, memory: &mut Memory) -> Result<(), StoreError> {
        let open = self.store.open_alarms(None, ALARMS_MAX).await?;
        memory.counts.retain(|id, _| tenants.contains_key(id));
        for (id, tenant) in tenants {
            if self.count(id, memory).await? == Caught::NotYet {
                continue;
            }
            let Some(counts) = memory.counts.get(id) else { continue };
            for kind in AlarmKind::ALL {
                let alarm = open.iter().find(|alarm| alarm.tenant == *id && alarm.kind == kind);
                self.judge(tenant, kind, counts, alarm).await?;
            }
        }
        // Nobody is left whose passes they would be.
        for alarm in open.iter().filter(|alarm| !tenants.contains_key(&alarm.tenant)) {
            self.end(alarm, None).await?;
        }
        Ok(())
    }

    async fn count(&self, tenant: &TenantId, memory: &mut Memory) -> Result<Caught, StoreError> {
        let now = self.clock.now();
        let forget_before = hour_of(now) - HOURS_KEPT;
        if !memory.counts.contains_key(tenant) {
            let counts = self.store.event_counts(tenant, forget_before).await?;
            memory.counts.insert(tenant.clone(), counts);
        }
        let until = now.checked_sub(SETTLED_AFTER).unwrap_or(Timestamp::MIN);
        for _ in 0..STEPS_MAX {
            let counted = self.store.count_events(tenant, until, STEP, forget_before).await;
            // What was written and what is remembered must not come apart.
            let counted = counted.inspect_err(|_| drop(memory.counts.remove(tenant)))?;
            let counts = memory.counts.entry(tenant.clone()).or_default();
            for (hour, count) in counted.hours {
                counts.add(hour, count);
            }
            counts.last_install = counted.last_install.max(counts.last_install);
            if counted.looked_at < STEP {
                return Ok(Caught::Up);
            }
        }
        Ok(Caught::NotYet)
    }

    async fn judge(
        &self,
        tenant: &Tenant,
        kind: AlarmKind,
        counts: &Counts,
        open: Option<&Alarm>,
    ) -> Result<(), StoreError> {
        match (counts.judge(kind, self.clock.now(), &self.rules), open) {
            (Judgement::Raised(numbers), None) => self.raise(tenant, kind, numbers).await,
            (Judgement::InLine, Some(alarm)) => self.end(alarm, Some(tenant)).await,
            (Judgement::Raised(_), Some(_)) | (Judgement::InLine, None) => Ok(()),
        }
    }

    async fn raise(&self, tenant: &Tenant, kind: AlarmKind, numbers: Numbers) -> Result<(), StoreError> {
        let opened_at = self.clock.now();
        let seconds = u64::try_from(opened_at.as_second()).unwrap_or_default();
        let nanoseconds = u32::try_from(opened_at.subsec_nanosecond()).unwrap_or_default();
        let id = AlarmId::from_uuid(Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanoseconds)));
        let Numbers { seen, usual } = numbers;
        let alarm = Alarm { id, tenant: tenant.id.clone(), kind, numbers, opened_at, closed_at: None };
        let told = told(tenant, &alarm);
        self.store.open_alarm(alarm, told).await?;
        let text = match kind {
            AlarmKind::Silence => "no pass was installed for longer than is usual",
            AlarmKind::Uninstalls => "many more passes than usual are removed",
        };
        tracing::error!(alarm.id = %id, tenant = %tenant.id, kind = kind.as_str(), seen, usual, "{text}");
        Ok(())
    }

    /// Ends an alarm; who is no longer configured has nobody to be told.
    async fn end(&self, alarm: &Alarm, tenant: Option<&Tenant>) -> Result<(), StoreError> {
        let at = self.clock.now();
        let ended = Alarm { closed_at: Some(at), ..alarm.clone() };
        let told = tenant.map(|tenant| told(tenant, &ended)).unwrap_or_default();
        self.store.close_alarm(alarm.id, at, told).await?;
        let (id, tenant, kind) = (alarm.id, &alarm.tenant, alarm.kind.as_str());
        tracing::info!(alarm.id = %id, %tenant, kind, "an alarm has ended: what was worth a look is in line again, or no longer watched");
        Ok(())
    }
}

/// The pushes that tell a tenant's receivers of an alarm.
fn told(tenant: &Tenant, alarm: &Alarm) -> Vec<NewPush> {
    let event = push::alarm_told(alarm);
    let wanting = tenant.outbound.iter().filter(|outbound| outbound.wants(event.name));
    let endpoint = |name: &EndpointName| Endpoint { tenant: tenant.id.clone(), endpoint: name.clone() };
    wanting.map(|outbound| NewPush { endpoint: endpoint(&outbound.name), event: event.clone() }).collect()
}

#[cfg(test)]
mod tests;
