//! `[push]`: how patient we are with receivers, how much they may cost, and how long what they missed is kept.

use serde::{Deserialize, Serialize};

use crate::domain::quantity::HumanDuration;

/// `[push]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, expecting = "a table")]
pub struct PushSettings {
    /// Delays between the attempts of a push; after the last one it is a dead letter.
    pub retry: Vec<HumanDuration>,
    /// How long an attempt may take.
    pub timeout: HumanDuration,
    /// Attempts under way at once, over all endpoints.
    pub in_flight_max: usize,
    /// Attempts under way at once at one endpoint.
    pub in_flight_per_endpoint: usize,
    /// A receiver that asks us to wait (Retry-After) is waited for so long at most.
    pub retry_after_max: HumanDuration,
    /// An endpoint that fails again and again is tried after at most this, with one push, until it answers.
    pub pause_max: HumanDuration,
    /// How long a push is kept that was not delivered: one that waits, and a dead letter.
    pub kept: HumanDuration,
    /// How many of them are kept for one endpoint; of more the oldest are dropped, dead letters first.
    pub kept_max: u64,
}

impl Default for PushSettings {
    fn default() -> Self {
        let (minute, hour, day) = (60, 3_600, 86_400);
        // The standard's own schedule: three days and a little.
        let delays = [5, 5 * minute, 30 * minute, 2 * hour, 5 * hour, 10 * hour, 14 * hour, 20 * hour, 24 * hour];
        Self {
            retry: delays.map(HumanDuration::from_secs).to_vec(),
            timeout: HumanDuration::from_secs(20),
            in_flight_max: 64,
            in_flight_per_endpoint: 4,
            retry_after_max: HumanDuration::from_secs(hour),
            pause_max: HumanDuration::from_secs(minute),
            kept: HumanDuration::from_secs(14 * day),
            kept_max: 100_000,
        }
    }
}
