//! Who a customer is: what is known of them here, and what the brand's CRM says of those who are not known.
//!
//! # Who is who
//!
//! * A **contact** is what the brand said itself (over HTTP, in a file), or a copy of what its CRM said.
//! * A **look-up** asks the CRM of a tenant (`[contact_lookup]`) for one customer.
//! * **Seeking** (`seek`) asks for those whose address journeys wait for.
//! * The **desk** of a tenant (`desk`) is where its look-ups queue: so many at once, none while its breaker is open,
//!   none for customers who were not found a moment ago.
//!
//! # What flows
//!
//! ```text
//! door, file ─▶ given ─▶ store.set_contacts
//! find ─▶ known here, and fresh: that
//!     └─▶ desk ─▶ CRM ─▶ found: kept as a contact (origin lookup), and that
//!                   ├─▶ not found (404, 410): remembered for a while; a copy goes with its original
//!                   └─▶ no answer: what is known here, however old; else nobody can say
//! ```
//!
//! # What is promised
//!
//! What the brand said itself is never overwritten by a look-up, and its CRM is not asked about it. No secret, address or
//! identifier is logged. A CRM that is slow or away costs each customer at most `timeout` for every try, and nothing once
//! the breaker is open.
//!
//! Not here: who may be mailed (`intake`), the passes of a customer (`wallet`).

mod desk;
pub mod given;
mod lookup;
pub mod rows;
mod seek;
pub mod suppressed;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;

use self::desk::Desk;
use self::lookup::Said;
use crate::clock::Clock;
use crate::domain::audit::Actor;
use crate::domain::contact::{Contact, CustomerId, Extent, Origin};
use crate::domain::contact_lookup::ContactLookup;
use crate::domain::ids::TenantId;
use crate::domain::rules::Rules;
use crate::outgoing::Client;
use crate::store::{Erasure, Store, StoreError};

/// What is known of a customer.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// This.
    Contact(Box<Contact>),
    /// Nothing, and whoever could be asked knows nothing either.
    Nobody,
    /// Nothing, and who could be asked does not answer: later perhaps.
    Unavailable,
}

/// Finds contacts.
pub struct Contacts {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    rules: watch::Receiver<Arc<Rules>>,
    client: Client,
    // Held to find a desk, never across an await. As many as there are tenants with a CRM.
    desks: Mutex<BTreeMap<TenantId, Arc<Desk>>>,
}

impl Contacts {
    /// Finds them under these rules, of which each search takes those of its moment.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        rules: watch::Receiver<Arc<Rules>>,
        client: Client,
    ) -> Self {
        Self { store, clock, rules, client, desks: Mutex::default() }
    }

    /// The present moment, as what is said of a customer is dated.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What is known of a customer, here or in the tenant's CRM.
    pub async fn find(&self, tenant: &TenantId, customer: &CustomerId) -> Result<Found, StoreError> {
        let known = self.store.contact(tenant, customer).await?;
        let rules = Arc::clone(&self.rules.borrow());
        let lookup = rules.tenants.get(tenant).and_then(|tenant| tenant.contact_lookup.as_ref());
        let Some(lookup) = lookup else { return Ok(found(known)) };
        let now = self.clock.now();
        if known.as_ref().is_some_and(|known| known.origin != Origin::Lookup || is_fresh(known, lookup, now)) {
            return Ok(found(known));
        }
        let desk = self.desk(tenant, lookup);
        match desk.ask(&self.client, &*self.clock, customer).await {
            Some(Said::Found(details)) => {
                let contact = details.into_contact(customer.clone(), Origin::Lookup, self.clock.now());
                self.store.set_contacts(tenant, Actor::Gateway, vec![contact]).await?;
                // What the brand may have said itself meanwhile stands above it.
                self.store.contact(tenant, customer).await.map(found)
            }
            Some(Said::Nobody) => {
                if known.is_some() {
                    self.forget_copy(tenant, customer).await?;
                }
                Ok(Found::Nobody)
            }
            None => Ok(known.map_or(Found::Unavailable, |known| Found::Contact(Box::new(known)))),
        }
    }

    /// A copy goes with its original.
    async fn forget_copy(&self, tenant: &TenantId, customer: &CustomerId) -> Result<(), StoreError> {
        let (customer, at) = (customer.clone(), self.clock.now());
        let erasure = Erasure { customer, extent: Extent::Copy, at, by: Actor::Gateway.into() };
        self.store.erase_contact(tenant, erasure).await.map(drop)
    }

    /// The tenant's desk; a new one when its CRM is another than before.
    fn desk(&self, tenant: &TenantId, lookup: &ContactLookup) -> Arc<Desk> {
        let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        match desks.get(tenant) {
            Some(desk) if desk.is_for(lookup) => Arc::clone(desk),
            _ => {
                let desk = Arc::new(Desk::new(tenant.clone(), lookup.clone()));
                desks.insert(tenant.clone(), Arc::clone(&desk));
                desk
            }
        }
    }
}

fn found(known: Option<Contact>) -> Found {
    known.map_or(Found::Nobody, |known| Found::Contact(Box::new(known)))
}

fn is_fresh(known: &Contact, lookup: &ContactLookup, now: Timestamp) -> bool {
    known.confirmed_at.checked_add(lookup.cache_for).is_ok_and(|until| now < until)
}
