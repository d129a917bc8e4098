//! Keys that hold for the life of a process: what a reload must find as it was.

use std::collections::BTreeMap;

use hmac::digest::Digest as _;
use serde_json::Value;
use sha2::Sha256;

use super::{Config, Problems, files};
use crate::domain::audit::hex;

/// What is said of one that changed.
const NEEDS_RESTART: &str = "cannot be changed while the gateway runs: restart it, or put the old value back";

/// The keys and their values.
pub type Fixed = BTreeMap<String, Value>;

impl Config {
    /// The keys that a running gateway cannot change, and their values: whole sections, and some more.
    #[must_use]
    pub fn fixed(&self) -> Fixed {
        let mut fixed = Fixed::new();
        // Unwrap safety: settings hold texts, numbers and lists of them; serialising these cannot fail.
        let whole = [
            ("server", serde_json::to_value(&self.server)),
            ("brake", serde_json::to_value(&self.brake)),
            ("wallet", serde_json::to_value(&self.wallet)),
            ("alarms", serde_json::to_value(&self.alarms)),
            ("audit", serde_json::to_value(&self.audit)),
            ("journeys", serde_json::to_value(&self.journey)),
            ("push", serde_json::to_value(&self.push)),
            ("retention", serde_json::to_value(&self.retention)),
            ("bounces", serde_json::to_value(&self.bounces)),
            ("outgoing", serde_json::to_value(&self.outgoing)),
        ];
        for (section, values) in whole {
            if let Ok(Value::Object(values)) = values {
                fixed.extend(values.into_iter().map(|(key, value)| (format!("{section}.{key}"), value)));
            }
        }
        // The URL of a database may hold a password.
        let store: [u8; 32] = Sha256::digest(self.store.url.as_bytes()).into();
        let mut add = |key: &str, value: Value| drop(fixed.insert(key.to_owned(), value));
        add("store.url", hex(&store).into());
        add(
            "store.content_key_file",
            self.store.content_key_file.as_ref().map(|file| file.display().to_string()).into(),
        );
        add("delivery.window", self.delivery.window.into());
        add("delivery.shutdown_grace", self.delivery.shutdown_grace.to_string().into());
        add("limits.tracked_max", self.limits.tracked_max.get().into());
        add("log.format", serde_json::to_value(self.log.format).unwrap_or_default());
        fixed
    }

    /// A problem for each key that is another than it was in a running gateway.
    #[must_use]
    pub fn changed_since(&self, running: &Fixed) -> Problems {
        let (mut problems, now) = (Problems::default(), self.fixed());
        let file = files::postern_file(&self.folder);
        for (key, value) in &now {
            if running.get(key) != Some(value) {
                problems.add(&file, key.as_str(), NEEDS_RESTART);
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::quantity::HumanDuration;
    use crate::telemetry::LogFormat;

    #[test]
    fn every_key_that_needs_a_restart_is_named() {
        let running = Config::defaults();
        let mut new = running.clone();
        new.log.level = crate::telemetry::LogLevel::Debug;
        assert!(new.changed_since(&running.fixed()).is_empty());
        new.server.listen.set_port(1);
        new.server.workers = new.server.workers.saturating_add(1);
        new.store.url = "sqlite:elsewhere.db".to_owned();
        new.log.format = LogFormat::Text;
        new.delivery.window += 1;
        new.delivery.shutdown_grace = HumanDuration::from_secs(1);
        let keys: Vec<_> = new.changed_since(&running.fixed()).iter().map(|problem| problem.key.clone()).collect();
        let delivery = ["delivery.shutdown_grace", "delivery.window"];
        let others = ["log.format", "server.listen", "server.workers", "store.url"];
        assert_eq!(keys, [&delivery[..], &others].concat());
    }
}
