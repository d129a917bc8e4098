//! The leaves of contacts: that something changed, never what is known of anybody.

use jiff::Timestamp;

use super::{Actor, By, Happening, Kind, hex};
use crate::domain::contact::{Erased, Origin};
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::message::{Reason, Status};

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

/// The leaf of a copy of a contact that is gone.
#[must_use]
pub fn contact_removed(at: Timestamp, tenant: &TenantId, actor: Actor, subject: &Subject) -> Happening {
    subject.named_in(Happening::new(at, Kind::ContactRemoved, tenant, None, actor))
}

/// The leaf of a person who is erased, and of what went with them. `subjects`: how leaves before this one name them; the
/// keys that could tell whose names these are went with them.
#[must_use]
pub fn erased(at: Timestamp, tenant: &TenantId, by: &By, subjects: &[[u8; 32]], gone: Erased) -> Happening {
    let recipients: Vec<String> = subjects.iter().map(|subject| hex(subject)).collect();
    Happening::new(at, Kind::Erased, tenant, None, by.actor.clone())
        .with("contacts", gone.contacts)
        .with("messages", gone.messages)
        .with("passEvents", gone.pass_events)
        .with("passes", gone.passes)
        .with("recipients", recipients)
        .because(by.because.as_ref())
}

/// The leaf of a live mail whose recipient is erased. `from` is the state it was in.
#[must_use]
pub fn cancelled_by_erasure(at: Timestamp, tenant: &TenantId, id: MessageId, actor: Actor, from: Status) -> Happening {
    Happening::new(at, Kind::Cancelled, tenant, Some(id), actor)
        .with("from", from.as_str())
        .with("reason", Reason::Erased.as_str())
}
