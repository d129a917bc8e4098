//! `[audit]`: what signs the log, how often, and where what was signed is kept besides.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::outgoing_url::OutgoingUrl;
use crate::domain::quantity::HumanDuration;

/// `[audit]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, expecting = "a table")]
pub struct AuditSettings {
    /// The key that signs checkpoints; made at the first start. Its public half is kept beside it, with `.pub` added.
    pub key_file: PathBuf,
    /// The folder that gets each checkpoint besides the store.
    pub dir: PathBuf,
    /// How long a leaf waits for a checkpoint that covers it.
    pub checkpoint_every: HumanDuration,
    /// So many leaves do not wait so long.
    pub checkpoint_leaves: u64,
    /// Where the last checkpoint is sent besides, with POST; `None`: nowhere.
    #[serde(serialize_with = "as_text")]
    pub push_url: Option<OutgoingUrl>,
    /// How long sending it may take.
    pub push_timeout: HumanDuration,
}

/// As it was written: a reload holds it against what runs. Nobody else is shown settings.
#[expect(clippy::ref_option, reason = "serde hands it like this")]
fn as_text<S: serde::Serializer>(url: &Option<OutgoingUrl>, serializer: S) -> Result<S::Ok, S::Error> {
    url.as_ref().map(|url| url.expose().as_str()).serialize(serializer)
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            key_file: PathBuf::from("data/audit.key"),
            dir: PathBuf::from("data/audit"),
            checkpoint_every: HumanDuration::from_secs(10),
            checkpoint_leaves: 50_000,
            push_url: None,
            push_timeout: HumanDuration::from_secs(10),
        }
    }
}
