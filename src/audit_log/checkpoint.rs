//! Checkpoints: how large a log is, and its root, as a text that is signed (C2SP tlog-checkpoint).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::note::{NoteError, Signer, Verifier};
use super::tree::Hash;

/// What is wrong with a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It cannot be believed.
    #[error("the checkpoint cannot be believed")]
    Note(#[source] NoteError),
    /// Its text is not that of a checkpoint.
    #[error("the note is not a checkpoint: its lines are an origin, a size and a root")]
    Text,
    /// Another log's.
    #[error("the checkpoint is another log's")]
    Origin,
}

/// How a log stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: the name of the key that signs.
    pub origin: String,
    /// How many leaves it has.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The signed note of how this signer's log stands.
    #[must_use]
    pub fn sign(signer: &Signer, size: u64, root: Hash) -> String {
        let origin = signer.verifier().name().to_owned();
        signer.sign(&Self { origin, size, root }.to_string())
    }

    /// What a note says that this verifier's key has signed.
    pub fn open(note: &str, verifier: &Verifier) -> Result<Self, CheckpointError> {
        let text = verifier.open(note).map_err(CheckpointError::Note)?;
        let checkpoint = Self::read(text).ok_or(CheckpointError::Text)?;
        if checkpoint.origin == verifier.name() { Ok(checkpoint) } else { Err(CheckpointError::Origin) }
    }

    fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let checkpoint = Self {
            origin: origin.to_owned(),
            size: size.parse().ok()?,
            root: STANDARD.decode(root).ok()?.try_into().ok()?,
        };
        // Written as we write it: no leading zeros, no further lines.
        (!origin.is_empty() && checkpoint.to_string() == text).then_some(checkpoint)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, STANDARD.encode(self.root))
    }
}
