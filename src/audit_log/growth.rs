//! Growth: that the log of one checkpoint is the beginning of another's, for somebody who kept the older one.
//!
//! Whoever holds a checkpoint that was signed earlier asks for this: it shows that nothing before it was changed, removed or
//! added since, without a single leaf.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::note::Verifier;
use super::proof::is_consistent;
use super::tree::Hash;

/// Two checkpoints and the consistency proof between them, as their JSON says it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Growth {
    /// The older signed note.
    pub old: String,
    /// The newer one.
    pub new: String,
    /// The proof (RFC 6962, section 2.1.2): hashes in Base64.
    pub proof: Vec<String>,
}

/// Why a growth is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrowthError {
    /// Nobody stands for one of the checkpoints.
    #[error("the {0} checkpoint is not believed")]
    Checkpoint(&'static str, #[source] CheckpointError),
    /// The log of the older one is not the beginning of the newer one's.
    #[error("the log over {old} leaves is not the beginning of the one over {new}: it was changed since it was signed")]
    Changed {
        /// Leaves of the older checkpoint.
        old: u64,
        /// Leaves of the newer one.
        new: u64,
    },
}

impl Growth {
    /// Two checkpoints with their proof.
    #[must_use]
    pub fn new(old: String, new: String, proof: &[Hash]) -> Self {
        Self { old, new, proof: proof.iter().map(|hash| STANDARD.encode(hash)).collect() }
    }

    /// What it shows: the older checkpoint and the newer one.
    pub fn verify(&self, verifiers: &[Verifier]) -> Result<(Checkpoint, Checkpoint), GrowthError> {
        let old = open(&self.old, verifiers).map_err(|error| GrowthError::Checkpoint("older", error))?;
        let new = open(&self.new, verifiers).map_err(|error| GrowthError::Checkpoint("newer", error))?;
        let proof = self.proof.iter().map(|hash| STANDARD.decode(hash).ok()?.try_into().ok());
        let fits = proof
            .collect::<Option<Vec<Hash>>>()
            .is_some_and(|proof| is_consistent((old.size, &old.root), (new.size, &new.root), &proof));
        if fits { Ok((old, new)) } else { Err(GrowthError::Changed { old: old.size, new: new.size }) }
    }
}

/// What a note says, whichever of these keys signed it.
pub fn open(note: &str, verifiers: &[Verifier]) -> Result<Checkpoint, CheckpointError> {
    let mut last = CheckpointError::Origin;
    for verifier in verifiers {
        match Checkpoint::open(note, verifier) {
            Ok(checkpoint) => return Ok(checkpoint),
            Err(error) => last = error,
        }
    }
    Err(last)
}
