//! What the store keeps for the brands' own receivers: the outbox, and how far the audit and the wallets were told.
//!
//! A push is in the outbox exactly once for each event and endpoint: the place up to which the audit was read, or the mark
//! that a customer's status was told, moves in the transaction that keeps the pushes. It leaves the outbox when its
//! endpoint has taken it. What is sent twice has the same id.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use super::StoreError;
use crate::domain::ids::{EndpointName, PushId, TenantId};
use crate::domain::push::{Endpoint, Event, MessageChange};
use crate::domain::time;

/// An event for an endpoint that wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPush {
    /// For whom.
    pub endpoint: Endpoint,
    /// What.
    pub event: Event,
}

/// A part of the audit, of which only changes of messages of some tenants are shown.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageChanges {
    /// The changes, oldest first, each with its leaf's number.
    pub changes: Vec<(u64, MessageChange)>,
    /// The number of the leaf to go on with.
    pub next: u64,
}

/// What an endpoint has for the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointLook {
    /// Whether it may be called.
    pub state: EndpointState,
    /// When the first of its pushes is due; `None`: there is none.
    pub due_at: Option<Timestamp>,
}

/// Whether an endpoint may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndpointState {
    /// It may.
    On,
    /// It answered 410 Gone; an operator switches it on again.
    Off,
    /// It is not in the configuration of the gateway.
    NotConfigured,
}

/// A push to be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuePush {
    /// The receiver's `webhook-id`.
    pub id: PushId,
    /// Attempts that failed.
    pub attempts: u32,
    /// What is sent.
    pub body: String,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settling {
    /// The endpoint took it: it leaves the outbox.
    Delivered,
    /// To be tried again.
    Again {
        /// When.
        due_at: Timestamp,
        /// How it failed.
        failure: String,
    },
    /// Given up.
    Dead {
        /// How the last attempt failed.
        failure: String,
    },
    /// The endpoint is gone: it is switched off, and the push waits, its attempt unspent.
    EndpointGone,
}

/// What became of the end of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushSettled {
    /// It is written.
    Written,
    /// There is no such push any more.
    NoPush,
}

/// An endpoint and what is kept for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointCounts {
    /// Which.
    #[serde(flatten)]
    pub endpoint: Endpoint,
    /// Whether it may be called.
    pub state: EndpointState,
    /// Since when it is off.
    #[serde(serialize_with = "time::write_or_null")]
    pub off_at: Option<Timestamp>,
    /// Pushes that wait.
    pub pending: u64,
    /// Since when the first of them waits.
    #[serde(serialize_with = "time::write_or_null")]
    pub oldest_at: Option<Timestamp>,
    /// Dead letters.
    pub dead: u64,
    /// Pushes dropped undelivered, for their age or number.
    pub dropped: u64,
}

/// Where a push stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PushState {
    /// To be sent.
    Pending,
    /// Given up, until an operator replays it.
    Dead,
}

/// A push as shown to operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PushView {
    /// The receiver's `webhook-id`.
    pub id: PushId,
    /// For whom.
    #[serde(flatten)]
    pub endpoint: Endpoint,
    /// The event's name.
    pub event: String,
    /// Where it stands.
    pub state: PushState,
    /// When it was made.
    #[serde(serialize_with = "time::write")]
    pub made_at: Timestamp,
    /// When it is tried next; not of a dead one.
    #[serde(serialize_with = "time::write_or_null")]
    pub due_at: Option<Timestamp>,
    /// Attempts that failed.
    pub attempts: u32,
    /// How the last one failed: the status, or a word of ours.
    pub failure: Option<String>,
    /// When that was.
    #[serde(serialize_with = "time::write_or_null")]
    pub tried_at: Option<Timestamp>,
    /// What is sent.
    #[serde(skip)]
    pub body: String,
}

/// Which dead letters are to be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushesToReplay {
    /// These.
    Ids(Vec<PushId>),
    /// All of an endpoint that were made at or after a time.
    Of {
        /// Whose.
        endpoint: Endpoint,
        /// Since when.
        since: Timestamp,
    },
}

/// The part of the store that keeps pushes.
#[async_trait]
pub trait PushStore: Send + Sync + 'static {
    /// Notes which endpoints are in the configuration. One that was not before is told of leaves from the log's present
    /// end on. Returns the number of the leaf to go on with.
    async fn configure_endpoints(&self, endpoints: Vec<Endpoint>) -> Result<u64, StoreError>;

    /// The next changes of messages of these tenants, at most `limit`; of a bounded number of leaves. What cannot be read is
    /// logged and passed over.
    async fn message_changes(
        &self,
        next: u64,
        tenants: Vec<TenantId>,
        limit: usize,
    ) -> Result<MessageChanges, StoreError>;

    /// Keeps the pushes made of a part of the audit, each with the number of its leaf, and moves on to `next`. An endpoint
    /// that is told of later leaves only gets none. Nothing is kept when the place is another than `from`. Returns the place.
    async fn keep_pushes(
        &self,
        (from, next): (u64, u64),
        pushes: Vec<(u64, NewPush)>,
        at: Timestamp,
    ) -> Result<u64, StoreError>;

    /// Makes pushes of customers whose status is due to be told, at most `limit` customers of these tenants, for the
    /// endpoints of each, and marks it told. Returns how many customers.
    async fn push_wallets(
        &self,
        wanting: Vec<(TenantId, Vec<EndpointName>)>,
        at: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError>;

    /// How these endpoints stand, in their order.
    async fn look_at_endpoints(&self, endpoints: Vec<Endpoint>) -> Result<Vec<EndpointLook>, StoreError>;

    /// The next due pushes of an endpoint, those first that are due longest. Behind one that waits none of the same subject.
    async fn due_pushes(&self, endpoint: &Endpoint, at: Timestamp, limit: usize) -> Result<Vec<DuePush>, StoreError>;

    /// Writes how an attempt ended.
    async fn settle_push(&self, id: PushId, settling: Settling, at: Timestamp) -> Result<PushSettled, StoreError>;

    /// Drops, undelivered, what was made before a time or is more than `kept_max` at one of these endpoints, the dead
    /// first, then the oldest; `limit` of each at most. Returns how many.
    async fn drop_pushes(
        &self,
        endpoints: Vec<Endpoint>,
        made_before: Timestamp,
        kept_max: u64,
        limit: usize,
    ) -> Result<usize, StoreError>;

    /// All endpoints of which anything is known, and how much is kept for each.
    async fn push_endpoints(&self) -> Result<Vec<EndpointCounts>, StoreError>;

    /// Dead letters, of one endpoint or all, oldest first.
    async fn dead_pushes(&self, endpoint: Option<Endpoint>, limit: usize) -> Result<Vec<PushView>, StoreError>;

    /// One push.
    async fn push(&self, id: PushId) -> Result<Option<PushView>, StoreError>;

    /// Has dead letters sent again, from the first attempt on. Returns how many.
    async fn replay_pushes(&self, which: PushesToReplay, at: Timestamp) -> Result<u64, StoreError>;

    /// Switches an endpoint on again. `false` when it was not off.
    async fn enable_endpoint(&self, endpoint: &Endpoint) -> Result<bool, StoreError>;
}
