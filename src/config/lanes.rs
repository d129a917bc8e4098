//! `[lanes.<name>]` in `postern.toml` over what holds for each lane by default.

use serde::Deserialize;

use crate::domain::lane::{Lane, LaneRules, PerLane, UnknownPolicy};
use crate::domain::quantity::{HumanDuration, Share};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// What holds for a lane when nothing is configured.
pub(super) fn default_rules(lane: Lane) -> LaneRules {
    let seconds = HumanDuration::from_secs;
    match lane {
        Lane::Urgent => LaneRules {
            deliver_within: seconds(15 * MINUTE),
            retry: Some([5, 15, 30, 60, 120].map(seconds).to_vec()),
            reserved: Share::new(0.25).unwrap_or(Share::NONE),
            on_unknown: UnknownPolicy::ResendOnce,
        },
        Lane::Standard => LaneRules {
            deliver_within: seconds(48 * HOUR),
            retry: None,
            reserved: Share::NONE,
            on_unknown: UnknownPolicy::ResendOnce,
        },
        Lane::Journey => LaneRules {
            deliver_within: seconds(24 * HOUR),
            retry: None,
            reserved: Share::NONE,
            on_unknown: UnknownPolicy::Hold,
        },
    }
}

/// `[lanes]` as written.
#[derive(Default, Deserialize)]
#[serde(default, expecting = "a table")]
pub(super) struct LanesFile {
    urgent: LaneFile,
    standard: LaneFile,
    journey: LaneFile,
}

/// One lane as written.
#[derive(Default, Deserialize)]
#[serde(default, expecting = "a table")]
pub(super) struct LaneFile {
    deliver_within: Option<HumanDuration>,
    retry: Option<Vec<HumanDuration>>,
    reserved: Option<Share>,
    on_unknown: Option<UnknownPolicy>,
}

impl LanesFile {
    /// The rules of all lanes: as written, else by default.
    pub(super) fn into_rules(self) -> PerLane<LaneRules> {
        let mut written = PerLane { urgent: self.urgent, standard: self.standard, journey: self.journey };
        PerLane::from_fn(|lane| {
            let written = std::mem::take(written.get_mut(lane));
            let default = default_rules(lane);
            LaneRules {
                deliver_within: written.deliver_within.unwrap_or(default.deliver_within),
                retry: written.retry.or(default.retry),
                reserved: written.reserved.unwrap_or(default.reserved),
                on_unknown: written.on_unknown.unwrap_or(default.on_unknown),
            }
        })
    }
}
