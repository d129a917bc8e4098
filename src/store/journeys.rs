//! What the store keeps of journeys: who is on the way through which, and what an operator said of them.
//!
//! Who enters and who leaves with a pass event is decided in the transaction that records it ([`WalletStore::record`]). All
//! other changes are made here, each under the condition that nothing has changed since it was decided upon.
//!
//! [`WalletStore::record`]: super::WalletStore::record

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;
use crate::domain::audit::Actor;
use crate::domain::contact::{Contact, CustomerId};
use crate::domain::ids::{EnrollmentId, JourneyName, MessageId, TenantId};
use crate::domain::journey::Version;
use crate::domain::journey::enrollment::{Ending, Enrollment, EnrollmentView, Funnel, Mode, Status};
use crate::domain::journey::walk::Passed;
use crate::domain::message::{MessageView, NewMessage};
use crate::domain::quantity::Rate;
use crate::domain::verb::Because;
use crate::domain::wallet::{CustomerKey, WalletStatus};

/// Which enrollments are asked for: those of these journeys that are due.
#[derive(Debug, Clone)]
pub struct DueQuery {
    /// The journeys; one that an operator paused is passed over.
    pub journeys: Vec<(TenantId, JourneyName)>,
    /// Due at or before this.
    pub now: Timestamp,
    /// How many of each journey at most.
    pub limit: usize,
}

/// An enrollment that is due, and what is known of its customer.
#[derive(Debug, Clone)]
pub struct DueEnrollment {
    /// The enrollment.
    pub enrollment: Enrollment,
    /// The identifiers of its pass, or else of the customer's other passes.
    pub identifiers: BTreeMap<String, String>,
    /// In which wallets the customer has a pass.
    pub wallet_status: WalletStatus,
    /// Who they are.
    pub contact: Option<Contact>,
}

/// What is done with an enrollment, if it still is as it was when that was decided.
#[derive(Debug)]
pub struct Move {
    /// Which.
    pub enrollment: Enrollment,
    /// When it is done.
    pub at: Timestamp,
    /// Steps that are behind it then.
    pub passed: Vec<Passed>,
    /// The mail of one of them, and how many of all journeys the recipient may have.
    pub mail: Option<(Box<NewMessage>, Option<Rate>)>,
    /// How it goes on.
    pub next: Next,
}

/// How an enrollment goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// With this step, at this moment.
    Step {
        /// Which, from 0.
        step: usize,
        /// When.
        at: Timestamp,
    },
    /// With the step it stands at, as soon as there is an address, or not at all.
    AwaitContact {
        /// Until when it waits.
        until: Timestamp,
        /// When the brand's CRM is asked; `None`: it is not.
        seek_at: Option<Timestamp>,
    },
    /// With the same step once more: it could not be done.
    TryAgain {
        /// When.
        at: Timestamp,
    },
    /// Not at all.
    End(Ending),
}

/// What became of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// It is done; with its mail, if it had one.
    Done(Option<MessageId>),
    /// It is done but for the mail, which was one too many for the recipient.
    Capped,
    /// The recipient wants none of it: the enrollment is over.
    Unsubscribed,
    /// The recipient has had as many mails as the tenant's limit allows: nothing is done but that it waits until then.
    Limited(Timestamp),
    /// The enrollment is another by now: nothing is done.
    Stale,
}

/// Somebody whose address is to be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Whose customer.
    pub tenant: TenantId,
    /// Who.
    pub customer: CustomerId,
}

/// What was learned by asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sought {
    /// There is an address, perhaps an old one: go on with it.
    Found,
    /// There is none now: ask again then.
    NotYet(Timestamp),
}

/// Which enrollments a list shows, the latest first. `None` means any.
#[derive(Debug, Clone)]
pub struct EnrollmentFilter {
    /// Of this journey.
    pub journey: JourneyName,
    /// Where it stands.
    pub status: Option<Status>,
    /// Who, as the brand calls them.
    pub customer: Option<String>,
    /// Only those that began before this one (the cursor).
    pub before: Option<EnrollmentId>,
    /// How many at most.
    pub limit: usize,
}

/// That somebody entered a journey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JourneyEntry {
    /// Who: a customer or a pass, as the store writes them.
    pub who: String,
    /// When they did last.
    pub entered_at: Timestamp,
}

/// What an operator says of a journey.
#[derive(Debug, Clone)]
pub struct ModeOrder {
    /// Which.
    pub journey: JourneyName,
    /// What.
    pub mode: Mode,
    /// Who says so.
    pub actor: Actor,
    /// Why.
    pub because: Option<Because>,
    /// When.
    pub at: Timestamp,
}

/// The part of the store that keeps journeys.
#[async_trait]
pub trait JourneyStore: Send + Sync + 'static {
    /// Enrollments that are due, with what is known of their customers: of each journey those first that have been due
    /// longest. An unreadable row is logged and passed over.
    async fn due_enrollments(&self, query: DueQuery) -> Result<Vec<DueEnrollment>, StoreError>;

    /// When the next of these journeys' enrollments is due, paused ones aside.
    async fn next_enrollment_at(&self, journeys: Vec<(TenantId, JourneyName)>)
    -> Result<Option<Timestamp>, StoreError>;

    /// Does a move, with its leaves, its counts and its mail in one transaction, or nothing of it.
    async fn move_enrollment(&self, next: Move) -> Result<Moved, StoreError>;

    /// The content of a version: JSON of [`Journey`](crate::domain::journey::Journey).
    async fn drawing(
        &self,
        tenant: &TenantId,
        journey: &JourneyName,
        version: &Version,
    ) -> Result<Option<String>, StoreError>;

    /// Customers whose address is to be asked for now, those first that wait longest, each once.
    async fn wanted_contacts(&self, now: Timestamp, limit: usize) -> Result<Vec<Wanted>, StoreError>;

    /// When the next customer's address is to be asked for.
    async fn next_wanted_at(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Tells the enrollments of a customer that wait for an address what was learned.
    async fn contact_sought(&self, wanted: Wanted, sought: Sought, at: Timestamp) -> Result<(), StoreError>;

    /// Does what an operator says, with its leaf; `false`: it was so already.
    async fn set_journey_mode(&self, tenant: &TenantId, order: ModeOrder) -> Result<bool, StoreError>;

    /// What operators said of a tenant's journeys; of those without a word of theirs nothing.
    async fn journey_modes(&self, tenant: &TenantId) -> Result<BTreeMap<JourneyName, Mode>, StoreError>;

    /// The versions of a tenant's journeys that anybody ever entered: name, version, and when it was entered first.
    async fn journey_versions(&self, tenant: &TenantId) -> Result<Vec<(JourneyName, Version, Timestamp)>, StoreError>;

    /// How many of a journey stand where.
    async fn funnel(&self, tenant: &TenantId, journey: &JourneyName) -> Result<Funnel, StoreError>;

    /// Enrollments of a tenant.
    async fn enrollments(&self, tenant: &TenantId, filter: EnrollmentFilter)
    -> Result<Vec<EnrollmentView>, StoreError>;

    /// One enrollment of a tenant, with the mails it sent, the first first.
    async fn enrollment(
        &self,
        tenant: &TenantId,
        id: EnrollmentId,
    ) -> Result<Option<(EnrollmentView, Vec<MessageView>)>, StoreError>;

    /// Who of a customer and their passes entered a journey before then, for rules that take them once.
    async fn journey_entries(
        &self,
        tenant: &TenantId,
        journey: &JourneyName,
        customer: CustomerKey,
        before: Timestamp,
    ) -> Result<Vec<JourneyEntry>, StoreError>;

    /// Notes that they entered, without an enrollment; what is known already stays.
    async fn note_journey_entries(
        &self,
        tenant: &TenantId,
        journey: &JourneyName,
        entries: Vec<JourneyEntry>,
    ) -> Result<(), StoreError>;
}
