//! Asking for those whose address somebody waits for: journeys say in the store whose it is, and learn there what was found.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Contacts, Found};
use crate::domain::contact_lookup::ContactLookup;
use crate::store::{Sought, StoreError, Wanted};

/// Customers that are looked for in one round.
const BATCH: usize = 100;
/// Looked for at once; each brand's CRM has its own limit.
const AT_ONCE: usize = 32;
/// How often we look for whom we were not told of.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// When somebody is asked for again whose brand has no CRM any more.
const LATER: Duration = Duration::from_hours(1);

impl Contacts {
    /// Asks for whoever is wanted, until the soft stop. `found` is notified when somebody was.
    pub async fn seek(&self, found: &Notify, soft: CancellationToken) {
        loop {
            match self.seek_once(found).await {
                Ok(seen) if seen >= BATCH => {}
                Ok(_) => {
                    if !self.pause(&soft).await {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "contacts are not asked for until the store answers");
                    if !self.pause(&soft).await {
                        return;
                    }
                }
            }
            if soft.is_cancelled() {
                return;
            }
        }
    }

    /// Waits for the next look; `false`: it is time to stop.
    async fn pause(&self, soft: &CancellationToken) -> bool {
        let look_at = self.clock.now().checked_add(LOOK_EVERY).unwrap_or(Timestamp::MAX);
        tokio::select! {
            biased;
            () = soft.cancelled() => false,
            () = self.clock.sleep_until(look_at) => true,
        }
    }

    /// Asks once for those who are wanted now; how many they were.
    pub(super) async fn seek_once(&self, found: &Notify) -> Result<usize, StoreError> {
        let wanted = self.store.wanted_contacts(self.clock.now(), BATCH).await?;
        let seen = wanted.len();
        let asked = wanted.into_iter().map(|wanted| self.seek_one(wanted, found));
        let asked: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
        asked.into_iter().collect::<Result<(), StoreError>>()?;
        Ok(seen)
    }

    async fn seek_one(&self, wanted: Wanted, told: &Notify) -> Result<(), StoreError> {
        let learned = self.find(&wanted.tenant, &wanted.customer).await?;
        let now = self.clock.now();
        let later = |wait: Duration| Sought::NotYet(now.checked_add(wait).unwrap_or(Timestamp::MAX));
        let lookup = self.rules.borrow().tenants.get(&wanted.tenant).and_then(|tenant| tenant.contact_lookup.clone());
        let sought = match (learned, lookup) {
            (Found::Contact(_), _) => Sought::Found,
            (Found::Nobody, Some(ContactLookup { not_found_for, .. })) => later(not_found_for),
            (Found::Unavailable, Some(ContactLookup { breaker_open, .. })) => later(breaker_open),
            (Found::Nobody | Found::Unavailable, None) => later(LATER),
        };
        self.store.contact_sought(wanted, sought, now).await?;
        if sought == Sought::Found {
            told.notify_one();
        }
        Ok(())
    }
}
