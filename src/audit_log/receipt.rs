//! Receipts: what happened to one message, for somebody who has the public key and nothing else of ours.
//!
//! A receipt shows that each of its leaves is in the log of its checkpoint, at its place. It cannot show that there are no
//! others: whoever leaves out the last ones makes a receipt that is true so far. Two receipts of one message, or an export
//! of the log, tell.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::checkpoint::{Checkpoint, CheckpointError};
use super::note::Verifier;
use super::proof::is_included;
use super::tree::{Hash, leaf_hash};

/// A receipt, as its JSON says it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Receipt {
    /// Whose: the message's id as it is shown.
    pub message_id: String,
    /// The signed note over the log that holds the leaves.
    pub checkpoint: String,
    /// The message's leaves, oldest first.
    pub leaves: Vec<ProvenLeaf>,
}

/// A leaf and the proof that it is in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProvenLeaf {
    /// Its place in the log, from 0.
    pub seq: u64,
    /// Its canonical bytes, which are JSON.
    pub leaf: String,
    /// Its inclusion proof, from its sibling upwards: hashes in Base64.
    pub proof: Vec<String>,
}

impl ProvenLeaf {
    /// A leaf with its proof.
    #[must_use]
    pub fn new(seq: u64, leaf: String, proof: &[Hash]) -> Self {
        Self { seq, leaf, proof: proof.iter().map(|hash| STANDARD.encode(hash)).collect() }
    }

    /// Whether it is in the log of this checkpoint, at its place.
    #[must_use]
    pub fn is_in(&self, checkpoint: &Checkpoint) -> bool {
        let proof = self.proof.iter().map(|hash| STANDARD.decode(hash).ok()?.try_into().ok());
        let hash = leaf_hash(self.leaf.as_bytes());
        proof
            .collect::<Option<Vec<Hash>>>()
            .is_some_and(|proof| is_included(&hash, self.seq, checkpoint.size, &proof, &checkpoint.root))
    }
}

/// Why a receipt is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Nobody stands for it.
    #[error("the receipt's checkpoint is not believed")]
    Checkpoint(#[source] CheckpointError),
    /// It says nothing.
    #[error("the receipt has no leaves")]
    Empty,
    /// A leaf is not what was logged there.
    #[error("leaf {0} is not in the log that was signed")]
    NotIncluded(u64),
    /// A leaf of something else, or one that stands elsewhere.
    #[error("leaf {0} is not about this message, or not at this place")]
    Foreign(u64),
    /// Leaves that do not follow one another.
    #[error("leaf {0} does not follow the one before it")]
    OutOfOrder(u64),
}

impl Receipt {
    /// What a receipt shows: the checkpoint, and the leaves as JSON.
    pub fn verify(&self, verifier: &Verifier) -> Result<(Checkpoint, Vec<Value>), ReceiptError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, verifier).map_err(ReceiptError::Checkpoint)?;
        if self.leaves.is_empty() {
            return Err(ReceiptError::Empty);
        }
        let mut leaves = Vec::with_capacity(self.leaves.len());
        let mut last = None;
        for proven in &self.leaves {
            let ProvenLeaf { seq, leaf, .. } = proven;
            if last.is_some_and(|last| last >= *seq) {
                return Err(ReceiptError::OutOfOrder(*seq));
            }
            last = Some(*seq);
            if !proven.is_in(&checkpoint) {
                return Err(ReceiptError::NotIncluded(*seq));
            }
            let read: Value = serde_json::from_str(leaf).map_err(|_| ReceiptError::Foreign(*seq))?;
            let is_ours = read["messageId"].as_str() == Some(&self.message_id) && read["seq"].as_u64() == Some(*seq);
            if !is_ours {
                return Err(ReceiptError::Foreign(*seq));
            }
            leaves.push(read);
        }
        Ok((checkpoint, leaves))
    }
}
