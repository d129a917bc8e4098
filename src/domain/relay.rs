//! How a relay stands, as shown to operators.

use serde::Serialize;

use super::ids::RelayName;

/// The breaker of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Mails flow.
    Closed,
    /// The relay failed us; nothing is tried for a while.
    Open,
    /// The relay greets us again; a first mail is tried.
    HalfOpen,
}

/// What does not pass by itself: an operator must see to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Alarm {
    /// The relay refuses our credentials.
    Authentication,
}

/// How one relay stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayHealth {
    /// Which.
    pub name: RelayName,
    /// Its breaker.
    pub breaker: BreakerState,
    /// The last trouble in words of ours, while the breaker is not closed.
    pub trouble: Option<String>,
    /// What an operator must see to, while the breaker is not closed.
    pub alarm: Option<Alarm>,
}
