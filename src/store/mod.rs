//! What is kept, durably: messages, their contents, attempts, idempotency keys, API keys and the audit.
//!
//! # Who is who
//!
//! * A **message** is one hot row (state, lane, due, attempts) beside one cold row (content, compressed).
//! * An **attempt** row exists only between a commit point and its settlement. Whoever holds its token may settle.
//!   After a crash the rows that are left say exactly which messages are `unknown`.
//! * A **claim** promises a message to one dispatcher until it is given back. It is not durable: nothing was done yet.
//! * A **leaf** is one audit entry, appended in the transaction of the change it tells of.
//!
//! # What is promised
//!
//! A method that writes returns `Ok` only after its transaction is on disk. One that fails has changed nothing. Writes
//! are single calls here and batches inside: whatever waits when the writer is free shares one transaction and one
//! sync; one that fails is undone alone, and every caller waits for its own result.
//!
//! Every method speaks of an intent ([`Store::accept`], [`Store::commit_point`], [`Store::settle`]), never of rows.
//! One conformance suite (`tests/store`) runs every behaviour on every implementation.

mod alarms;
mod audit;
mod backfill;
mod bounces;
mod brakes;
mod contacts;
mod evidence;
mod journeys;
mod keys;
mod listing;
mod push;
mod retention;
pub mod settings;
pub mod sqlite;
mod steering;
mod suppressions;
mod wallets;
mod webhooks;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::address::EmailAddress;
use crate::domain::ids::{LeaseToken, MessageId, RelayName, TenantId};
use crate::domain::lane::{Lane, PerLane, UnknownPolicy};
use crate::domain::message::{
    Acceptance, Candidate, Idempotency, MessageView, NewMessage, Outgoing, Settled, Settlement, Status, Verdict,
};
use crate::domain::why::Stored;

pub use self::alarms::{AlarmStore, Counted};
pub use self::audit::{
    AuditStore, LeafFilter, LeafPage, LogStanding, LoggedLeaf, LoggedMessage, NewCheckpoint, SignedCheckpoint,
};
pub use self::backfill::{BackfillRun, BackfillStore, Turn};
pub use self::bounces::{BounceStore, Heard, Reported};
pub use self::brakes::{
    BrakeDecided, BrakeOrder, BrakeStore, CarriedOut, DecidedBrake, HeldOfStream, OutcomesPage, StreamOutcomes,
    StreamUsual, WaitingPlace,
};
pub use self::contacts::{ContactFilter, ContactStore, Erasure};
pub use self::evidence::{EvidenceStore, InDoubt};
pub use self::journeys::{
    DueEnrollment, DueQuery, EnrollmentFilter, JourneyEntry, JourneyStore, ModeOrder, Move, Moved, Next, Sought, Wanted,
};
pub use self::keys::KeyStore;
pub use self::listing::{MessageFilter, MessagePage, in_angle_brackets};
pub use self::push::{
    DuePush, EndpointCounts, EndpointLook, EndpointState, MessageChanges, NewPush, PushSettled, PushState, PushStore,
    PushView, PushesToReplay, Settling,
};
pub use self::retention::{Purge, Purged, PurgedPart, RetentionStore, Scrubbed};
pub use self::steering::{Batch, Order, OrderToMany, Pace, StandingCount, Steered};
pub use self::suppressions::{Lift, ListedSuppression, Suppressed, SuppressionFilter, SuppressionStore};
pub use self::wallets::{
    ChangePlace, CustomerWallet, Dimension, LedgerEntry, PassView, Pushed, RecordRules, Recorded, RecordedEvent,
    RecordedQuery, Trend, TrendCounts, TrendQuery, WalletStore,
};
pub use self::webhooks::{Bodies, NewUnknown, UnknownEvent, UnknownKept, UnknownLimits, UnknownView, WebhookStore};

/// What went wrong in the store. Messages never hold addresses or contents.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database cannot write now (disk full, read-only, locked by another for too long). Nothing was changed.
    #[error("the store cannot write: {doing}: {detail}")]
    NotPersisted {
        /// What this was for.
        doing: &'static str,
        /// What the database said.
        detail: String,
    },
    /// The database cannot be read now.
    #[error("the store cannot read: {doing}: {detail}")]
    Unreadable {
        /// What this was for.
        doing: &'static str,
        /// What the database said.
        detail: String,
    },
    /// A stored row does not make sense.
    #[error("corrupt row in {table}, column {column}, id {id}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's identifier as shown elsewhere.
        id: String,
    },
    /// Another gateway serves this store.
    #[error("another gateway serves this store ({0})")]
    InUse(String),
    /// The store cannot be opened or migrated.
    #[error("cannot open the store: {0}")]
    Open(String),
    /// The store's thread has ended; the process is stopping.
    #[error("the store is closed")]
    Closed,
}

/// A submission that may have been answered before, and how to know it again.
#[derive(Debug, Clone)]
pub struct Repeat {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its recipient.
    pub recipient: EmailAddress,
    /// Its idempotency key.
    pub idempotency: Option<Idempotency>,
    /// The fact it states.
    pub fact: Option<String>,
    /// The present moment.
    pub at: Timestamp,
}

/// Which messages may be claimed: the due ones of one lane and tenant, so many of each domain.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// The lane.
    pub lane: Lane,
    /// The tenant.
    pub tenant: TenantId,
    /// Due at or before this, deadline after it.
    pub now: Timestamp,
    /// Recipient domains (A-labels) and how many messages of each at most.
    pub domains: Vec<(String, usize)>,
}

/// A page of the domains that have due messages, in alphabetical order.
#[derive(Debug, Clone)]
pub struct DueDomains {
    /// The lane.
    pub lane: Lane,
    /// The tenant.
    pub tenant: TenantId,
    /// Due at or before this.
    pub now: Timestamp,
    /// Only domains after this one; `None` from the start.
    pub after: Option<String>,
    /// How many at most.
    pub limit: usize,
}

/// Domains that have something due, and where the walk goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueDomainsPage {
    /// The domains; there may be fewer than asked for, or none, although more follow.
    pub domains: Vec<String>,
    /// Go on after this one; `None` when the end was reached.
    pub next: Option<String>,
}

/// One attempt asks whether it may send.
#[derive(Debug, Clone)]
pub struct CommitPoint {
    /// The message.
    pub id: MessageId,
    /// Fresh random token; every later write of the attempt repeats it.
    pub token: LeaseToken,
    /// The relay whose RCPT was accepted.
    pub relay: RelayName,
    /// The present moment.
    pub at: Timestamp,
}

/// A stored audit leaf: its place and its canonical bytes (JSON).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Its place in the log, from 0, without gaps.
    pub seq: u64,
    /// Its canonical bytes.
    pub bytes: Vec<u8>,
}

/// A message's content, when somebody asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The whole mail (RFC 5322).
    Present(Vec<u8>),
    /// It was there and has been removed.
    Purged,
    /// There is no such message of this tenant.
    NoMessage,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Messages that became `expired`.
    pub expired: usize,
    /// Messages past their deadline that may have been sent, now `held`: an operator must look.
    pub held: usize,
    /// Idempotency keys and facts that were forgotten. As many as the limit: there may be more.
    pub forgotten: usize,
}

/// What became of unknowns whose waiting time was over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Decided {
    /// Messages that will be sent once more.
    pub resent: usize,
    /// Messages now `held`: an operator must look.
    pub held: usize,
}

impl Decided {
    /// How many were decided.
    #[must_use]
    pub fn total(self) -> usize {
        self.resent + self.held
    }
}

/// The store, as work and doors see it.
#[async_trait]
pub trait Store:
    AlarmStore
    + AuditStore
    + BackfillStore
    + BounceStore
    + BrakeStore
    + ContactStore
    + EvidenceStore
    + JourneyStore
    + KeyStore
    + PushStore
    + RetentionStore
    + SuppressionStore
    + WalletStore
    + WebhookStore
    + Send
    + Sync
    + 'static
{
    // --- the door ---

    /// Keeps a composed message, its content, its idempotency key and its leaf, or nothing.
    ///
    /// A known idempotency key of the tenant that has not expired at `accepted_at` answers with the first receipt
    /// ([`Acceptance::Replayed`]) or, bound to another fingerprint, with [`Acceptance::IdempotencyMismatch`]; nothing
    /// is kept then.
    ///
    /// A fact of the tenant that is taken and has not expired at `accepted_at` answers for the same recipient with the
    /// first receipt ([`Acceptance::Deduplicated`]), whatever became of the message or its row, and an idempotency key
    /// that came along is bound to that answer; for another recipient with [`Acceptance::FactTaken`]. Nothing else is
    /// kept then. A first message that ended unsent (bounced, expired, suppressed, cancelled; certainly not sent) has
    /// freed its fact. A message that is accepted to be sent takes its fact.
    ///
    /// A message to be sent whose recipient has had as many as its `recipient_limit` allows is
    /// [`Acceptance::RecipientLimited`], and nothing is kept. Counted are the tenant's messages to the recipient,
    /// whatever became of them.
    ///
    /// A message that a brake is to hold ([`Entry::Held`]) is held only if that brake is on; else it is queued.
    ///
    /// A message to be sent whose recipient may not be mailed ([`SuppressionStore`]) is kept as `suppressed`. One that a
    /// journey sends is kept with the link by which its recipient unsubscribes.
    ///
    /// [`Entry::Held`]: crate::domain::message::Entry::Held
    async fn accept(&self, message: NewMessage) -> Result<Acceptance, StoreError>;

    /// What a submission was answered before, by its idempotency key or its fact, as [`Store::accept`] would answer it.
    /// Keeps nothing, but for a key that is bound to the answer of a fact.
    ///
    /// For economy and for rules that may have changed since; [`Store::accept`] decides between two that come at once.
    async fn replay(&self, repeat: Repeat) -> Result<Option<Acceptance>, StoreError>;

    // --- delivery ---

    /// Domains with messages of this lane and tenant that are due and unclaimed or claimed alike. Looks at a bounded
    /// number of domains, due or not.
    async fn due_domains(&self, page: DueDomains) -> Result<DueDomainsPage, StoreError>;

    /// Tenants with queued or deferred messages in this lane, in alphabetical order behind `after`, at most `limit`.
    async fn waiting_tenants(
        &self,
        lane: Lane,
        after: Option<TenantId>,
        limit: usize,
    ) -> Result<Vec<TenantId>, StoreError>;

    /// Claims due messages (`queued`, `deferred`; without an attempt row) that nobody has claimed, oldest due first
    /// within each domain. An unreadable row is logged, skipped and held (`reason` = `content-unreadable`) if it can be.
    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Candidate>, StoreError>;

    /// Gives claims back: nothing was done with these messages, or all is settled. Unknown ids are ignored.
    fn give_back(&self, ids: &[MessageId]);

    /// The envelope and bytes of a message, for an attempt. `None`: there is no such message, its content is gone, or it
    /// no longer waits (held or cancelled since it was claimed): no relay need be asked then. What another process did
    /// meanwhile may be missed: the commit point decides.
    async fn outgoing(&self, id: MessageId) -> Result<Option<Outgoing>, StoreError>;

    /// The commit point: records the attempt as committing if the message may still be sent, in one short transaction.
    ///
    /// [`Verdict::Go`] only when the message is `queued` or `deferred`, due, before its deadline and without an
    /// attempt row. Its leaf (`attempt-committed`) is appended with it. One whose `unless` holds now ends `cancelled`
    /// (`wallet-status`) instead, with its leaf; one whose recipient may not be mailed by now ends `suppressed`.
    async fn commit_point(&self, commit: CommitPoint) -> Result<Verdict, StoreError>;

    /// Writes how an attempt ended.
    ///
    /// With a token: the attempt row must still hold it; else [`Settled::Stale`], and a `resolved` leaf tells what was
    /// known (on a relayed outcome also the relay's queue id). Without: the message must be `queued` or `deferred` and
    /// have no attempt row; else [`Settled::Stale`] and nothing is written. Spends one attempt, except `Held` and
    /// `Suppressed`. `Unknown` and anything after it keeps `may_have_been_sent`.
    async fn settle(&self, settlement: Settlement) -> Result<Settled, StoreError>;

    /// At start: every attempt row left by a dead process becomes `unknown` (reason `interrupted`), to be decided at
    /// `decide_at` of its lane. Returns how many.
    async fn recover(&self, at: Timestamp, decide_after: PerLane<Duration>) -> Result<usize, StoreError>;

    /// Decides unknowns whose waiting time is over, by their lane's policy, at most `limit` of them.
    ///
    /// `resend-once`, and never resent before, and before the deadline → `queued` (`unknown-resent`), due now.
    /// Otherwise → `held` (`unknown-held`, or `deadline-passed`).
    async fn decide_unknown(
        &self,
        at: Timestamp,
        policy: PerLane<UnknownPolicy>,
        limit: usize,
    ) -> Result<Decided, StoreError>;

    /// Ends messages past their deadline, at most `limit`: `expired`, or `held` when they may have been sent. Skips
    /// messages with an attempt row. Also forgets idempotency keys and facts that have expired, at most `limit`.
    async fn sweep(&self, at: Timestamp, limit: usize) -> Result<Swept, StoreError>;

    /// Holds waiting messages (`queued`, `deferred`; without an attempt row) of tenants that are not among `known`
    /// (`reason` = `not-configured`), each with its leaf; returns how many. They stay held when their tenant comes back:
    /// an operator decides.
    async fn hold_unconfigured(&self, known: &[TenantId], at: Timestamp) -> Result<usize, StoreError>;

    // --- steering ---

    /// Does an operator's verb with a message of a tenant, as `domain::verb` rules, with its leaf.
    async fn steer(&self, tenant: &TenantId, id: MessageId, order: Order) -> Result<Steered, StoreError>;

    /// The same with the next `filter.limit` messages of a filter, newest first, in one short transaction. Those in a
    /// state in which the verb cannot be done are passed over; a row that cannot be read stops nobody.
    async fn steer_matching(&self, many: OrderToMany) -> Result<Batch, StoreError>;

    /// How many messages of a tenant a filter finds, by state; its `limit` does not count.
    async fn count(&self, tenant: &TenantId, filter: MessageFilter) -> Result<BTreeMap<Status, u64>, StoreError>;

    /// Tenants that have messages, configured or not, in alphabetical order.
    async fn tenants(&self) -> Result<Vec<TenantId>, StoreError>;

    /// How many messages of a tenant stand where, lane by lane; what is held also by reason.
    async fn standings(&self, tenant: &TenantId) -> Result<Vec<StandingCount>, StoreError>;

    /// How much went on in the minute before `now`. Looks at a bounded number of leaves.
    async fn pace(&self, now: Timestamp) -> Result<Pace, StoreError>;

    /// Notes in the audit that the gateway works with another configuration: which sections changed.
    async fn config_changed(&self, sections: Vec<&'static str>, at: Timestamp) -> Result<(), StoreError>;

    // --- reading ---

    /// One message of a tenant.
    async fn message(&self, tenant: &TenantId, id: MessageId) -> Result<Option<MessageView>, StoreError>;

    /// What is kept of one message of a tenant that tells why it stands where it stands, as of one moment.
    async fn stored(&self, tenant: &TenantId, id: MessageId) -> Result<Option<Stored>, StoreError>;

    /// Messages of a tenant, newest first. A command's page is as full as it can be; it may take its time.
    async fn messages(&self, tenant: &TenantId, filter: MessageFilter) -> Result<MessagePage, StoreError>;

    /// The leaves of a message of a tenant, oldest first; `None` when there is no such message.
    async fn leaves(&self, tenant: &TenantId, id: MessageId) -> Result<Option<Vec<Leaf>>, StoreError>;

    /// The content of a message of a tenant.
    async fn content(&self, tenant: &TenantId, id: MessageId) -> Result<Content, StoreError>;

    // --- health ---

    /// How many messages are live: queued, deferred, unknown, or held and certainly not sent. Takes its time when there
    /// are many (a second for some millions), so it is asked by a task, not by a caller.
    async fn live(&self) -> Result<u64, StoreError>;

    /// How many bytes may still be written where the store is, as the operating system says; `None` when nobody knows.
    fn disk_free(&self) -> Option<u64>;

    /// Commits something small: `Ok` means the store can write.
    async fn probe(&self, at: Timestamp) -> Result<(), StoreError>;

    /// Returns when the store can no longer serve (its thread died): the process must stop.
    async fn failed(&self);

    /// Finishes what is queued and closes; later calls answer [`StoreError::Closed`].
    async fn close(&self);
}
