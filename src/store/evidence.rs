//! Mails in doubt, and what was found out about them.

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;
use crate::domain::evidence::Evidence;
use crate::domain::ids::MessageId;

/// A live mail that may have been sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InDoubt {
    /// The mail.
    pub id: MessageId,
    /// Its Message-ID with its angle brackets.
    pub message_id: String,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// The queue id under which a relay had it before somebody had it sent again.
    pub known_as: Option<String>,
    /// Of an unknown: when its lane's policy decides. `None`: that was done, or somebody else decided.
    pub decide_at: Option<Timestamp>,
}

/// What the store keeps of mails in doubt.
#[async_trait]
pub trait EvidenceStore {
    /// Live mails that may have been sent, at most `limit`: the unknown ones by the time of their decision, then others,
    /// the newest first.
    async fn in_doubt(&self, limit: usize) -> Result<Vec<InDoubt>, StoreError>;

    /// Ends mails in doubt that a relay has taken as `relayed`, each with its leaves (`resolved`, `relayed`), and returns
    /// how many. One that is in doubt no longer, or on another attempt, stays as it is.
    async fn resolve(&self, evidence: Vec<Evidence>) -> Result<usize, StoreError>;
}
