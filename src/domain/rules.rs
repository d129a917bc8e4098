//! What the configuration says of mails, as one snapshot that is replaced as a whole: tenants, lanes, retries, journeys.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::ids::{JourneyName, TenantId};
use super::journey::Drawn;
use super::lane::{Lane, LaneRules, PerLane};
use super::quantity::HumanDuration;
use super::tenant::Tenant;

/// Whoever works on a mail takes one snapshot and ends with the one it began with.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// The tenants there are.
    pub tenants: BTreeMap<TenantId, Tenant>,
    /// What holds for each lane.
    pub lanes: PerLane<LaneRules>,
    /// Delays between attempts where a lane has none of its own.
    pub retry: Vec<HumanDuration>,
    /// The journeys there are.
    pub journeys: BTreeMap<JourneyName, Arc<Drawn>>,
    /// Whether a relay's log is looked through for mails in doubt.
    pub reads_relay_logs: bool,
}

impl Rules {
    /// The delays between attempts in a lane.
    #[must_use]
    pub fn retry_of(&self, lane: Lane) -> Vec<Duration> {
        let own = self.lanes.get(lane).retry.as_ref();
        own.unwrap_or(&self.retry).iter().map(|delay| delay.0).collect()
    }
}
