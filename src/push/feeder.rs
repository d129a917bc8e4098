//! The feeder: from the audit and the customers' wallets into the outbox, step by step behind what is committed there.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Parts;
use crate::domain::ids::{EndpointName, TenantId};
use crate::domain::push::{self, Endpoint, MessageChange, WALLET_CHANGED};
use crate::domain::rules::Rules;
use crate::store::{MessageChanges, NewPush, StoreError};

/// How often the audit and the wallets are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// After the store failed.
const AGAIN: Duration = Duration::from_secs(1);
/// Changes in one transaction: one or two milliseconds of the writer, which mails wait for too.
const CHANGES_PER_STEP: usize = 100;
/// Leaves that may be passed over before the cursor is moved without a push.
const PASSED_OVER_MAX: u64 = 10_000;
/// How often too old and too many pushes are looked for.
const DROP_EVERY: Duration = Duration::from_secs(10);
/// Pushes dropped in one transaction at most, for each reason.
const DROPPED_PER_STEP: usize = 500;

/// See the module's text.
pub(super) struct Feeder {
    parts: Parts,
    fed: Arc<Notify>,
    /// The endpoints that the store was told of.
    configured: Option<Vec<Endpoint>>,
    /// The leaf from which on nothing is kept of the audit.
    kept: u64,
    /// The leaf that is read next.
    next: u64,
    drop_at: Timestamp,
}

impl Feeder {
    pub(super) const fn new(parts: Parts, fed: Arc<Notify>) -> Self {
        Self { parts, fed, configured: None, kept: 0, next: 0, drop_at: Timestamp::MIN }
    }

    pub(super) async fn run(mut self, soft: CancellationToken) {
        let mut failing = false;
        while !soft.is_cancelled() {
            let rules = Arc::clone(&self.parts.rules.borrow_and_update());
            let wait = match self.step(&rules).await {
                Ok(More::AtOnce) => continue,
                Ok(More::Later) => Some(LOOK_EVERY),
                Ok(More::Never) => None,
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "pushes have to wait for the store");
                    }
                    failing = true;
                    self.rest(Some(AGAIN), &soft).await;
                    continue;
                }
            };
            failing = false;
            self.rest(wait, &soft).await;
        }
    }

    /// Waits for so long, or for another configuration.
    async fn rest(&mut self, wait: Option<Duration>, soft: &CancellationToken) {
        let until = wait.and_then(|wait| self.parts.clock.now().checked_add(wait).ok()).unwrap_or(Timestamp::MAX);
        tokio::select! {
            () = soft.cancelled() => {}
            () = self.parts.clock.sleep_until(until) => {}
            changed = self.parts.rules.changed() => {
                // Whoever could change it is gone, and the process with it.
                if changed.is_err() {
                    soft.cancelled().await;
                }
            }
        }
    }

    async fn step(&mut self, rules: &Rules) -> Result<More, StoreError> {
        let endpoints = endpoints(rules);
        if self.configured.as_ref() != Some(&endpoints) {
            self.next = self.parts.store.configure_endpoints(endpoints.clone()).await?;
            self.kept = self.next;
            self.configured = Some(endpoints);
        }
        if self.configured.as_ref().is_none_or(Vec::is_empty) {
            return Ok(More::Never);
        }
        let more = [self.feed_messages(rules).await?, self.feed_wallets(rules).await?, self.drop_some().await?];
        Ok(if more.contains(&More::AtOnce) { More::AtOnce } else { More::Later })
    }

    async fn feed_messages(&mut self, rules: &Rules) -> Result<More, StoreError> {
        let tenants =
            rules.tenants.values().filter(|tenant| tenant.outbound.iter().any(push::Outbound::wants_messages));
        let tenants = tenants.map(|tenant| tenant.id.clone()).collect();
        let page = self.parts.store.message_changes(self.next, tenants, CHANGES_PER_STEP).await?;
        let MessageChanges { changes, next } = page;
        if next == self.next {
            return Ok(More::Later);
        }
        let pushes: Vec<_> = changes.iter().flat_map(|(leaf, change)| pushes_of(rules, *leaf, change)).collect();
        if !pushes.is_empty() || next - self.kept > PASSED_OVER_MAX {
            let is_fed = !pushes.is_empty();
            self.kept = self.parts.store.keep_pushes((self.kept, next), pushes, self.parts.clock.now()).await?;
            self.next = self.kept;
            if is_fed {
                self.fed.notify_one();
            }
        } else {
            self.next = next;
        }
        Ok(More::AtOnce)
    }

    async fn feed_wallets(&self, rules: &Rules) -> Result<More, StoreError> {
        let wanting = rules.tenants.values().map(|tenant| {
            let wanting = tenant.outbound.iter().filter(|outbound| outbound.wants(WALLET_CHANGED));
            (tenant.id.clone(), wanting.map(|outbound| outbound.name.clone()).collect())
        });
        let wanting: Vec<(TenantId, Vec<EndpointName>)> =
            wanting.filter(|(_, endpoints): &(_, Vec<_>)| !endpoints.is_empty()).collect();
        if wanting.is_empty() {
            return Ok(More::Later);
        }
        let told = self.parts.store.push_wallets(wanting, self.parts.clock.now(), CHANGES_PER_STEP).await?;
        if told > 0 {
            self.fed.notify_one();
        }
        Ok(if told == CHANGES_PER_STEP { More::AtOnce } else { More::Later })
    }

    async fn drop_some(&mut self) -> Result<More, StoreError> {
        let now = self.parts.clock.now();
        if now < self.drop_at {
            return Ok(More::Later);
        }
        let settings = &self.parts.settings;
        let made_before = now.checked_sub(settings.kept.0).unwrap_or(Timestamp::MIN);
        let endpoints = self.configured.clone().unwrap_or_default();
        let store = &self.parts.store;
        let dropped = store.drop_pushes(endpoints, made_before, settings.kept_max, DROPPED_PER_STEP).await?;
        if dropped > 0 {
            tracing::error!(pushes = dropped, "dropped undelivered: they were older, or more, than push.kept allows");
            return Ok(More::AtOnce);
        }
        self.drop_at = now.checked_add(DROP_EVERY).unwrap_or(Timestamp::MAX);
        Ok(More::Later)
    }
}

/// Whether there is more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum More {
    AtOnce,
    Later,
    /// Not before the configuration is another.
    Never,
}

/// All endpoints of the configuration.
pub(super) fn endpoints(rules: &Rules) -> Vec<Endpoint> {
    let of =
        |tenant: &TenantId, endpoint: &EndpointName| Endpoint { tenant: tenant.clone(), endpoint: endpoint.clone() };
    let tenants = rules.tenants.values();
    tenants.flat_map(|tenant| tenant.outbound.iter().map(|outbound| of(&tenant.id, &outbound.name))).collect()
}

/// The pushes that a change makes, each with the number of its leaf.
fn pushes_of(rules: &Rules, leaf: u64, change: &MessageChange) -> Vec<(u64, NewPush)> {
    let tenant = rules.tenants.get(&change.message.tenant);
    let (Some(tenant), Some(event)) = (tenant, push::message_changed(change)) else { return Vec::new() };
    let wanting = tenant.outbound.iter().filter(|outbound| outbound.wants(event.name));
    let push = |endpoint: &EndpointName| NewPush {
        endpoint: Endpoint { tenant: tenant.id.clone(), endpoint: endpoint.clone() },
        event: event.clone(),
    };
    wanting.map(|outbound| (leaf, push(&outbound.name))).collect()
}
