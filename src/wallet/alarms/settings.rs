//! `[alarms]`: when a tenant's passes are worth a look.

use serde::{Deserialize, Serialize};

use crate::domain::alarm::Rules;

/// `[alarms]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, expecting = "a table")]
pub struct AlarmSettings {
    /// Whether anything is watched.
    pub enabled: bool,
    /// Installs that would have been usual since the last one.
    pub silence_expected: f64,
    /// Times the usual removals of an hour.
    pub uninstall_factor: f64,
    /// Removals in an hour that are never too many.
    pub uninstall_min: u32,
}

impl Default for AlarmSettings {
    fn default() -> Self {
        Self { enabled: true, silence_expected: 10.0, uninstall_factor: 5.0, uninstall_min: 20 }
    }
}

impl AlarmSettings {
    /// As rules.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules {
            silence_expected: self.silence_expected,
            uninstall_factor: self.uninstall_factor,
            uninstall_min: self.uninstall_min,
        }
    }
}
