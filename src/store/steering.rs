//! What operators ask of the store: to steer one message or many, and to say what there is.

use std::time::Duration;

use jiff::Timestamp;

use super::MessageFilter;
use crate::domain::audit::Actor;
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::lane::Lane;
use crate::domain::message::{MessageView, Reason, Status};
use crate::domain::verb::{Because, Refused, Verb};

/// An operator's word: what, when, by whom and why.
#[derive(Debug, Clone)]
pub struct Order {
    /// What is to be done.
    pub verb: Verb,
    /// The present moment.
    pub at: Timestamp,
    /// Who says so.
    pub actor: Actor,
    /// Why, in their own words.
    pub because: Option<Because>,
}

/// What became of an order about one message.
#[derive(Debug, Clone, PartialEq)]
pub enum Steered {
    /// Done; the message as it was then.
    Done(Box<MessageView>),
    /// There is no such message of this tenant.
    NoMessage,
    /// Nothing was changed.
    Refused {
        /// Why.
        why: Refused,
        /// The state it is in.
        status: Status,
    },
}

/// An order about many messages, or the next batch of them.
#[derive(Debug, Clone)]
pub struct OrderToMany {
    /// Whose.
    pub tenant: TenantId,
    /// Which: newest first, behind `before`, at most `limit` in one batch.
    pub filter: MessageFilter,
    /// The order.
    pub order: Order,
}

/// What one batch of an order about many messages did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Batch {
    /// Messages with which it was done.
    pub done: u64,
    /// Messages left alone because an attempt is past its commit point.
    pub in_flight: u64,
    /// Messages left alone because of their deadline or their fact, or because they cannot be read.
    pub refused: u64,
    /// The `before` of the next batch; `None` when this was the last.
    pub next: Option<MessageId>,
}

/// The messages of a tenant that stand alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingCount {
    /// Their lane.
    pub lane: Lane,
    /// Their state.
    pub status: Status,
    /// Why, where they are held.
    pub reason: Option<Reason>,
    /// How many there are.
    pub messages: u64,
    /// When the oldest of them was accepted.
    pub oldest_accepted_at: Timestamp,
}

/// How much went on lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Over the last so much time: a minute, or less where more went on than is counted.
    pub over: Duration,
    /// Messages accepted to be sent.
    pub accepted: u64,
    /// Attempts that ended; one that was given back is none.
    pub attempts: u64,
    /// Messages that a relay took.
    pub relayed: u64,
}
