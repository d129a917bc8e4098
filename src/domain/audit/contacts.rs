//! The leaves of contacts: that something changed, never what is known of anybody.

use jiff::Timestamp;

use super::{Actor, Happening, Kind, hex};
use crate::domain::contact::{Erased, Origin};
use crate::domain::ids::TenantId;

/// Whom a leaf tells of: HMACs under the key of the person, which is erased with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// Of the normalised address.
    pub address: [u8; 32],
    /// Of the customer's identifier.
    pub customer: [u8; 32],
}

impl Subject {
    fn named_in(&self, happening: Happening) -> Happening {
        happening.with("recipient", hex(&self.address)).with("customer", hex(&self.customer))
    }
}

/// The leaf of a contact that is new or another. `consents` are the names of those granted now, as counted.
#[must_use]
pub fn contact_set(
    at: Timestamp,
    tenant: &TenantId,
    actor: Actor,
    subject: &Subject,
    origin: Origin,
    consents: usize,
) -> Happening {
    let happening = Happening::new(at, Kind::ContactSet, tenant, None, actor);
    subject.named_in(happening).with("origin", origin.as_str()).with("consents", consents)
}

/// The leaf of a contact that is gone, and of what went with it. Without a subject there was no contact.
#[must_use]
pub fn contact_removed(
    at: Timestamp,
    tenant: &TenantId,
    actor: Actor,
    subject: Option<&Subject>,
    erased: Erased,
) -> Happening {
    let happening = Happening::new(at, Kind::ContactRemoved, tenant, None, actor)
        .with("passEvents", erased.pass_events)
        .with("passes", erased.passes);
    match subject {
        Some(subject) => subject.named_in(happening),
        None => happening,
    }
}
