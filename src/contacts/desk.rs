//! Where the look-ups of one tenant queue: its breaker, its places, and whom its CRM did not know.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::lookup::{self, Said};
use crate::clock::Clock;
use crate::domain::contact::CustomerId;
use crate::domain::contact_lookup::{ContactLookup, Unaskable};
use crate::domain::ids::TenantId;
use crate::outgoing::Client;

/// The desk of one tenant, while its settings are the same.
pub(super) struct Desk {
    tenant: TenantId,
    lookup: ContactLookup,
    places: Semaphore,
    // Held to look and to note, never across an await.
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    /// Customers in a row without an answer.
    failures: u32,
    /// Nobody is asked until then; from then on one customer tries it.
    open_until: Option<Timestamp>,
    /// Whom the CRM did not know, until when that holds.
    unknown: BTreeMap<CustomerId, Timestamp>,
}

/// Whether a customer may be asked for now.
enum Turn {
    Ask,
    /// The CRM said a moment ago that there is none.
    Unknown,
    /// The breaker is open.
    Not,
}

impl Desk {
    pub(super) fn new(tenant: TenantId, lookup: ContactLookup) -> Self {
        let places = Semaphore::new(lookup.concurrent);
        Self { tenant, lookup, places, notes: Mutex::default() }
    }

    pub(super) fn is_for(&self, lookup: &ContactLookup) -> bool {
        self.lookup == *lookup
    }

    /// What the CRM says of a customer; `None`: it is not known now.
    pub(super) async fn ask(&self, client: &Client, clock: &dyn Clock, customer: &CustomerId) -> Option<Said> {
        let url = match self.lookup.url.of(customer) {
            Ok(url) => url,
            // No URL can hold such a name, so the CRM can have nobody of it.
            Err(Unaskable::NoName) => return Some(Said::Nobody),
            Err(Unaskable::TooLong) => {
                tracing::debug!(tenant = %self.tenant, "the CRM cannot be asked for an identifier as long as this one");
                return None;
            }
        };
        // A place before the turn: who waited may find that the breaker has opened meanwhile.
        let place = tokio::time::timeout(self.lookup.timeout, self.places.acquire()).await;
        let Ok(Ok(_place)) = place else { return None };
        match self.notes().turn(customer, clock.now(), &self.lookup) {
            Turn::Ask => {}
            Turn::Unknown => return Some(Said::Nobody),
            Turn::Not => return None,
        }
        match lookup::ask(client, clock, &self.lookup, &url).await {
            Ok(said) => {
                self.notes().answered(customer, &said, clock.now(), &self.lookup);
                Some(said)
            }
            Err(trouble) if !trouble.is_of_all() => {
                self.notes().answered_at_all();
                tracing::warn!(tenant = %self.tenant, %trouble, "the CRM's answer about one customer is of no use");
                None
            }
            Err(trouble) => {
                let failures = self.notes().failed(clock.now(), &self.lookup);
                tracing::warn!(tenant = %self.tenant, %trouble, failures, "the CRM was asked for a contact in vain");
                None
            }
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    fn turn(&mut self, customer: &CustomerId, now: Timestamp, lookup: &ContactLookup) -> Turn {
        if self.unknown.get(customer).is_some_and(|until| now < *until) {
            return Turn::Unknown;
        }
        match self.open_until {
            None => Turn::Ask,
            Some(until) if now < until => Turn::Not,
            Some(_) => {
                // Half open: this one tries it, and all others wait as long as if it had failed already.
                self.open_until = now.checked_add(lookup.breaker_open).ok();
                Turn::Ask
            }
        }
    }

    fn answered_at_all(&mut self) {
        self.failures = 0;
        self.open_until = None;
    }

    fn answered(&mut self, customer: &CustomerId, said: &Said, now: Timestamp, lookup: &ContactLookup) {
        self.answered_at_all();
        self.unknown.remove(customer);
        match said {
            Said::Found(_) => return,
            Said::Nobody => {}
        }
        if self.unknown.len() >= lookup.remembered_max {
            self.unknown.retain(|_, until| now < *until);
        }
        // With no room left it is asked for again: that costs a question, not memory.
        if self.unknown.len() < lookup.remembered_max
            && let Ok(until) = now.checked_add(lookup.not_found_for)
        {
            self.unknown.insert(customer.clone(), until);
        }
    }

    fn failed(&mut self, now: Timestamp, lookup: &ContactLookup) -> u32 {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= lookup.breaker_failures {
            self.open_until = now.checked_add(lookup.breaker_open).ok();
        }
        self.failures
    }
}
