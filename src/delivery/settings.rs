//! `[delivery]`: how mails are tried, and how much of everything at once.

use serde::{Deserialize, Serialize};

use crate::domain::quantity::{HumanDuration, Share};

/// `[delivery]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, expecting = "a table")]
pub struct DeliverySettings {
    /// Delays between attempts; then the last again, ±20 % jitter, until the deadline.
    pub retry: Vec<HumanDuration>,
    /// Messages considered at once, shared out by lane, tenant and domain.
    pub window: usize,
    /// How long attempts past their commit point may take to end when the gateway stops.
    pub shutdown_grace: HumanDuration,
    /// Failures of a relay in a row that open its breaker.
    pub breaker_failures: u32,
    /// The longest time between two looks at a relay whose breaker is open.
    pub breaker_open_max: HumanDuration,
    /// Share of the sessions open to a lane that one recipient domain may take; at least one session.
    pub domain_share: Share,
    /// Recipient domains whose limits and answers are remembered; those beyond share one place.
    pub domains_max: usize,
    /// A relay or domain that asks us to wait is left alone for so long at most.
    pub back_off_max: HumanDuration,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        let minute = 60;
        let hour = 60 * minute;
        Self {
            retry: [30, 2 * minute, 10 * minute, 30 * minute, hour, 2 * hour, 4 * hour]
                .map(HumanDuration::from_secs)
                .into(),
            window: 20_000,
            shutdown_grace: HumanDuration::from_secs(30),
            breaker_failures: 3,
            breaker_open_max: HumanDuration::from_secs(4),
            domain_share: Share::THREE_QUARTERS,
            domains_max: 10_000,
            back_off_max: HumanDuration::from_secs(5 * minute),
        }
    }
}
