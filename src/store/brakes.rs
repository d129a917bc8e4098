//! What the blast brake asks of the store: brakes and what they hold, what is usual for streams, how their mails end.

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;
use crate::domain::audit::Actor;
use crate::domain::brake::watch::Usual;
use crate::domain::brake::{Brake, Decision, NewBrake, Stream};
use crate::domain::ids::{BrakeId, MessageId, TenantId};
use crate::domain::lane::Lane;
use crate::domain::message::Status;
use crate::domain::verb::Because;

/// Where a walk over the waiting messages of a stream's tenant has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingPlace {
    /// In this lane, by the order of lanes.
    pub lane: Lane,
    /// In this state: queued before deferred.
    pub status: Status,
    /// Behind a message that was accepted then,
    pub accepted_at: Timestamp,
    /// and has this identifier.
    pub id: MessageId,
}

/// What one step of holding a stream did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeldOfStream {
    /// Messages that are held now and were not before.
    pub held: u64,
    /// Messages left alone because an attempt is past its commit point.
    pub in_flight: u64,
    /// Where the next step begins; `None` when this was the last.
    pub next: Option<WaitingPlace>,
}

/// A decision about a brake, on its way into the store.
#[derive(Debug, Clone)]
pub struct BrakeOrder {
    /// Which brake.
    pub id: BrakeId,
    /// Whose it must be; `None`: anybody's.
    pub tenant: Option<TenantId>,
    /// What is decided.
    pub decision: Decision,
    /// The present moment.
    pub at: Timestamp,
    /// Who says so.
    pub actor: Actor,
    /// Why, in their own words.
    pub because: Option<Because>,
}

/// What became of a decision. What the brake holds is not counted here: others wait for the store meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrakeDecided {
    /// It holds, now or since an earlier time when it was not carried out to its end.
    Decided(Brake),
    /// There is no such brake of this tenant.
    NoBrake,
    /// It was decided, and carried out, before; or something else was.
    WrongState(Brake),
}

/// A brake that was decided about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecidedBrake {
    /// What was decided.
    pub decision: Decision,
    /// Whether that was done with all messages it held.
    pub carried_out: bool,
}

/// What one step of carrying out a decision did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CarriedOut {
    /// Messages with which it was done.
    pub done: u64,
    /// Where the next step begins; `None` when this was the last.
    pub next: Option<MessageId>,
}

/// What is usual for a stream, as kept.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamUsual {
    /// Which.
    pub stream: Stream,
    /// What is usual.
    pub usual: Usual,
}

/// How attempts of a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOutcomes {
    /// Which.
    pub stream: Stream,
    /// Mails that a relay took.
    pub relayed: u32,
    /// Mails that a relay refused for good.
    pub refused: u32,
}

/// How mails ended since an earlier look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutcomesPage {
    /// By stream; `urgent` mails and those of no key do not count.
    pub streams: Vec<StreamOutcomes>,
    /// Where the next look begins.
    pub next: u64,
}

/// The part of the store that the blast brake works with.
#[async_trait]
pub trait BrakeStore: Send + Sync + 'static {
    /// Keeps a brake that goes on, with its leaf. Keeping one again changes nothing.
    async fn engage_brake(&self, brake: NewBrake) -> Result<(), StoreError>;

    /// Brakes that are on or not carried out to their end, of a tenant or of all, oldest first, at most `limit`.
    async fn open_brakes(&self, tenant: Option<TenantId>, limit: usize) -> Result<Vec<Brake>, StoreError>;

    /// One brake, whatever became of it.
    async fn brake(&self, id: BrakeId) -> Result<Option<Brake>, StoreError>;

    /// What was decided about a brake; `None` while it is on, or when there is none.
    async fn decided_brake(&self, id: BrakeId) -> Result<Option<DecidedBrake>, StoreError>;

    /// Holds the next waiting messages of a brake's stream (`queued`, `deferred`; not `urgent`; without an attempt row),
    /// each with its leaf, as long as the brake is on. A step looks at `limit` waiting messages of the tenant.
    async fn hold_stream(
        &self,
        id: BrakeId,
        after: Option<WaitingPlace>,
        at: Timestamp,
        limit: usize,
    ) -> Result<HeldOfStream, StoreError>;

    /// Decides about a brake that is on, with its leaf. From then on it holds nothing more. The same decision again is
    /// good until the first was carried out to its end.
    async fn decide_brake(&self, order: BrakeOrder) -> Result<BrakeDecided, StoreError>;

    /// Carries a decision out with the next `limit` messages that the brake holds, each with its leaf; the last step
    /// says so in the brake. Whoever does it, and however many: each message is released or cancelled once. One whose
    /// deadline has passed is left to the sweep.
    async fn carry_out_brake(
        &self,
        id: BrakeId,
        after: Option<MessageId>,
        at: Timestamp,
        limit: usize,
    ) -> Result<CarriedOut, StoreError>;

    /// What is usual for streams, the last learned first, at most `limit`.
    async fn usual_of_streams(&self, limit: usize) -> Result<Vec<StreamUsual>, StoreError>;

    /// Keeps what is usual for these streams, and forgets those not learned of since `forget_before`.
    async fn keep_usual(&self, streams: Vec<StreamUsual>, forget_before: Timestamp) -> Result<(), StoreError>;

    /// How mails ended behind a place in the audit, in its last `limit` leaves: under load a sample. Without a place:
    /// nothing, and where to begin.
    async fn stream_outcomes(&self, after: Option<u64>, limit: u32) -> Result<OutcomesPage, StoreError>;
}
