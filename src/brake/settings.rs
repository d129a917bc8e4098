//! `[brake]`: when a stream of mails is out of line, and what is done about it.

use serde::{Deserialize, Serialize};

use crate::domain::brake::watch::Rules;
use crate::domain::quantity::{HumanDuration, Rate, Share};

/// `[brake]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, expecting = "a table")]
pub struct BrakeSettings {
    /// Whether streams are watched at all.
    pub enabled: bool,
    /// Whether a stream that is out of line is held until an operator decides; else there is only an alarm.
    pub hold: bool,
    /// What is counted together.
    pub window: HumanDuration,
    /// So many times the usual mails in a window are out of line.
    pub factor: f64,
    /// So many mails in a window are in line for any stream.
    pub min_mails: u32,
    /// A hard limit for every stream, however usual more would be.
    pub limit: Option<Rate>,
    /// Near-identical mails that one recipient may get in a window.
    pub same_recipient: u32,
    /// How far above the usual share of mails refused for good a window may lie.
    pub bounce_share: Share,
    /// Outcomes in a window from which on their share counts.
    pub bounce_min: u32,
    /// An alarm ends when nothing was out of line for so long.
    pub calm: HumanDuration,
    /// What is usual fades by half in this time.
    pub forget: HumanDuration,
    /// Streams watched at once.
    pub streams_max: usize,
    /// Recipients remembered in a window.
    pub recipients_max: usize,
}

impl Default for BrakeSettings {
    fn default() -> Self {
        let minute = 60;
        Self {
            enabled: true,
            hold: false,
            window: HumanDuration::from_secs(10 * minute),
            factor: 5.0,
            min_mails: 1_000,
            limit: None,
            same_recipient: 10,
            bounce_share: Share::QUARTER,
            bounce_min: 100,
            calm: HumanDuration::from_secs(30 * minute),
            forget: HumanDuration::from_secs(7 * 24 * 60 * minute),
            streams_max: 10_000,
            recipients_max: 100_000,
        }
    }
}

impl BrakeSettings {
    /// The rules that these settings say.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules {
            window: self.window.0,
            factor: self.factor,
            min_mails: self.min_mails,
            limit: self.limit,
            bounce_share: self.bounce_share,
            bounce_min: self.bounce_min,
            calm: self.calm.0,
            forget: self.forget.0,
        }
    }
}
