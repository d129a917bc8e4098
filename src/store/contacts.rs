//! What the store keeps of customers besides their passes.

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;
use crate::domain::audit::{Actor, By};
use crate::domain::contact::{Contact, CustomerId, Erasing, Extent, NewContact, Set};
use crate::domain::ids::TenantId;

/// Who is to be erased.
#[derive(Debug, Clone)]
pub struct Erasure {
    /// Whom.
    pub customer: CustomerId,
    /// How much of them.
    pub extent: Extent,
    /// The present moment.
    pub at: Timestamp,
    /// Who says so, and why.
    pub by: By,
}

/// Which contacts a list shows, in the order of customers' identifiers.
#[derive(Debug, Clone, Default)]
pub struct ContactFilter {
    /// Only those with this normalised address.
    pub address: Option<String>,
    /// Only those behind this one (the cursor).
    pub after: Option<CustomerId>,
    /// How many at most.
    pub limit: usize,
}

/// The part of the store that keeps contacts.
#[async_trait]
pub trait ContactStore: Send + Sync + 'static {
    /// Keeps contacts, each with its leaf if it is new or another: all of them or none, in their order.
    ///
    /// What is said takes the place of what was known, and keeps the times of consents that did not change. What a look-up
    /// found never takes the place of what the brand said itself.
    async fn set_contacts(
        &self,
        tenant: &TenantId,
        actor: Actor,
        contacts: Vec<NewContact>,
    ) -> Result<Vec<Set>, StoreError>;

    /// One contact of a tenant.
    async fn contact(&self, tenant: &TenantId, customer: &CustomerId) -> Result<Option<Contact>, StoreError>;

    /// Contacts of a tenant.
    async fn contacts(&self, tenant: &TenantId, filter: ContactFilter) -> Result<Vec<Contact>, StoreError>;

    /// Erases what is kept of a customer, or of an address that is said as one.
    ///
    /// [`Extent::Person`]: contacts, passes, their events, enrollments, and of mails everything but their states and leaves,
    /// for the customer and everybody with one of their addresses; live mails are cancelled. Nothing is done while a mail to
    /// them is past its commit point, or where an address is that of too many customers. Many mails go in several transactions, the rest with the last of them and one leaf
    /// (`erased`). What is gone is soon found in no file of the store.
    ///
    /// [`Extent::Copy`]: the contact alone, if a look-up found it, with one leaf (`contact-removed`).
    async fn erase_contact(&self, tenant: &TenantId, erasure: Erasure) -> Result<Erasing, StoreError>;
}
