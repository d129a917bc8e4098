//! `[journeys]`: how steps are taken.

use serde::{Deserialize, Serialize};

use crate::domain::quantity::HumanDuration;

/// `[journeys]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, expecting = "a table")]
pub struct JourneySettings {
    /// Due enrollments of each journey that are looked at in one round.
    pub batch: usize,
    /// Steps under way at once.
    pub in_flight_max: usize,
    /// When a step that could not be done (its template fails) is tried again; after the last the enrollment ends `failed`.
    pub retry: Vec<HumanDuration>,
}

impl Default for JourneySettings {
    fn default() -> Self {
        let minute = 60;
        let retry = [minute, 10 * minute, 60 * minute, 6 * 60 * minute];
        Self { batch: 500, in_flight_max: 64, retry: retry.map(HumanDuration::from_secs).to_vec() }
    }
}
