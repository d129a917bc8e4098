//! `[delivery]`: how messages are considered, retried and let go at the end.

use serde::{Deserialize, Serialize};

use crate::domain::quantity::{HumanDuration, Share};

/// `[delivery]` in `postern.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, expecting = "a table")]
pub struct DeliverySettings {
    /// Delays between attempts; then the last again, until the deadline.
    pub retry: Vec<HumanDuration>,
    /// Messages considered at once, shared out by lane, then by domain.
    pub window: usize,
    /// How long attempts in progress may go on after the first stop signal.
    pub shutdown_grace: HumanDuration,
    /// Failures of a relay in a row after which its breaker opens.
    pub breaker_failures: u32,
    /// The longest an open breaker waits before it tries the relay again.
    pub breaker_open_max: HumanDuration,
    /// The share of a lane's sessions that one recipient domain may hold.
    pub domain_share: Share,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        let retry = [30, 120, 600, 1_800, 3_600, 7_200, 14_400].map(HumanDuration::from_secs).to_vec();
        Self {
            retry,
            window: 20_000,
            shutdown_grace: HumanDuration::from_secs(30),
            breaker_failures: 3,
            breaker_open_max: HumanDuration::from_secs(4),
            domain_share: Share::new(0.75).unwrap_or(Share::NONE),
        }
    }
}
