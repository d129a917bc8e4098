//! What the dispatcher has begun and waits for: its tasks, and the messages they are about.

use std::collections::HashMap;

use tokio::task::Id;

use super::attempt::End;
use super::desk::Began;
use super::look::Found;
use crate::courier::Trouble;
use crate::domain::ids::{LeaseToken, RelayName};
use crate::domain::lane::Lane;
use crate::domain::message::Candidate;
use crate::store::StoreError;

/// Messages whose outcome is being written, at most. Their sessions are free already, so nothing else bounds them when a
/// relay refuses faster than the disk takes it.
pub const SETTLING_MAX: usize = 1_024;

/// What the dispatcher waits for.
pub enum Event {
    /// A look found these domains with something due.
    Found(Lane, Result<Found, StoreError>),
    /// A look brought these messages.
    Claimed(Lane, Vec<Candidate>, Result<(), StoreError>),
    /// A relay was greeted.
    Greeted(RelayName, Result<(), Trouble>),
    /// An attempt ended.
    Ended(End),
    /// What became of a message is durable.
    Settled,
}

/// A message with which something is done.
pub struct InFlight {
    /// The message.
    pub candidate: Candidate,
    /// The relay that was chosen for it.
    pub relay: RelayName,
    /// The token of its commit point.
    pub token: LeaseToken,
    /// Its place at the relay's desk, until the relay is done with it.
    pub place: Option<Began>,
    /// What is done.
    pub stage: Stage,
}

/// What is done with a message.
#[derive(PartialEq, Eq)]
pub enum Stage {
    /// It is at the relay, or its outcome is being written.
    Attempt,
    /// Its attempt panicked; that is being written.
    SettingAside,
}

/// How many outcomes wait to be written.
pub fn settling(in_flight: &HashMap<Id, InFlight>) -> usize {
    in_flight.values().filter(|message| message.place.is_none()).count()
}

/// Whether so many outcomes wait to be written that nothing more should be started.
pub fn is_behind(in_flight: &HashMap<Id, InFlight>) -> bool {
    in_flight.len() >= SETTLING_MAX && settling(in_flight) >= SETTLING_MAX
}
