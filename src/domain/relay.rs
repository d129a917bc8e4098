//! A relay's state as delivery reports it and the health door shows it.

use jiff::Timestamp;
use serde::Serialize;

use super::ids::RelayName;

/// Whether a relay is given mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Breaker {
    /// It is.
    Closed,
    /// It is not: it failed too often lately.
    Open,
    /// It is asked again, carefully.
    HalfOpen,
}

/// One relay and its breaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayState {
    /// The relay.
    pub name: RelayName,
    /// Its breaker.
    pub state: Breaker,
    /// Since when the breaker stands so; `None` since the start.
    pub since: Option<Timestamp>,
}
