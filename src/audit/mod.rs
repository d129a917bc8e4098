//! The audit's proofs: checkpoints are made in time, written where others can keep them, and held against the log.
//!
//! # Who is who
//!
//! * The **auditor** ([`Auditor`]) reads the leaves that no checkpoint covers yet, appends their hashes to the tree and
//!   signs how it stands. It is the only one that writes tiles and checkpoints.
//! * The **keeper** ([`keeper`]) puts each checkpoint into a folder and, if one is configured, sends the last to an
//!   outside place: whoever holds one outside can tell when the store was rewritten as a whole.
//! * **Verifying** ([`verify`]) reads everything again and names each place where it does not fit.
//!
//! # What flows
//!
//! ```text
//! every change ─▶ leaf (its own transaction, numbered)          … nothing is hashed or signed there
//!     every few seconds: leaves since the last checkpoint ─▶ tree's edge ─▶ sign ─▶ tiles and checkpoint, one transaction
//!                                                                             └─▶ folder, outside place
//! ```
//!
//! # What is promised
//!
//! * A checkpoint covers what was committed when it was made, and is kept whole or not at all: two processes that make one
//!   at once make one.
//! * The tree grows from the hashes that were kept with the last checkpoint, never from leaves read again: what was changed
//!   below it is not signed a second time. If the kept hashes do not fit the last checkpoint, nothing is signed any more.
//! * Mails never wait for any of this.

mod keeper;
mod key;
mod proofs;
pub mod settings;
pub mod verify;

use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub use self::keeper::{Keeper, Pusher};
pub use self::key::{KeyFileError, load_or_make, public_of};
use self::settings::AuditSettings;
use crate::audit_log::checkpoint::Checkpoint;
use crate::audit_log::note::Signer;
use crate::audit_log::tiles::Edge;
use crate::audit_log::tree::leaf_hash;
use crate::clock::Clock;
use crate::store::{LogStanding, NewCheckpoint, SignedCheckpoint, Store, StoreError};

/// Leaves that are read at once.
const BATCH: usize = 1_000;
/// How long nobody looks whether a checkpoint is due.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// Why there is no checkpoint, or no proof.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuditError {
    /// The store does not answer.
    #[error("the log cannot be read or written")]
    Store(#[source] StoreError),
    /// The tree's hashes are not those that were signed.
    #[error(
        "what is kept of the audit's tree does not fit its last checkpoint (over {0} leaves): run postern audit verify"
    )]
    Altered(u64),
    /// A leaf is missing.
    #[error("leaf {0} of the audit is missing: run postern audit verify")]
    Missing(u64),
}

impl From<StoreError> for AuditError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Makes checkpoints and proofs.
pub struct Auditor {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    signer: Signer,
    keeper: Keeper,
    settings: AuditSettings,
}

impl Auditor {
    /// An auditor that signs with this key.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, signer: Signer, settings: AuditSettings) -> Self {
        let keeper = Keeper::new(settings.dir.clone());
        Self { store, clock, signer, keeper, settings }
    }

    /// The public half of its key, as its text.
    #[must_use]
    pub fn public_key(&self) -> String {
        self.signer.verifier().to_string()
    }

    /// Notes in the log that this key signs from now on, unless the last checkpoint was signed with it.
    pub async fn introduce(&self) -> Result<(), AuditError> {
        let last = self.store.last_checkpoint().await?;
        let is_known = |last: &SignedCheckpoint| Checkpoint::open(&last.note, self.signer.verifier()).is_ok();
        match last {
            Some(last) if is_known(&last) => return Ok(()),
            Some(_) => tracing::error!("audit.key_file holds another key than the one that signed the log until now"),
            None => {}
        }
        Ok(self.store.audit_key_set(self.public_key(), self.clock.now()).await?)
    }

    /// Makes checkpoints when they are due, until the soft stop.
    pub async fn run(&self, soft: CancellationToken) {
        let mut is_failing = false;
        loop {
            let made = self.checkpoint_if_due().await;
            if let Err(error) = &made
                && !is_failing
            {
                tracing::error!(error = error as &dyn std::error::Error, "no checkpoints of the audit can be made");
            }
            if made.is_ok() && is_failing {
                tracing::info!("checkpoints of the audit are made again");
            }
            is_failing = made.is_err();
            let look_at = self.clock.now().checked_add(LOOK_EVERY).unwrap_or(Timestamp::MAX);
            tokio::select! {
                () = soft.cancelled() => return,
                () = self.clock.sleep_until(look_at) => {}
            }
        }
    }

    async fn checkpoint_if_due(&self) -> Result<(), AuditError> {
        let standing = self.store.log_standing().await?;
        let covered = standing.signed.as_ref().map_or(0, |signed| signed.size);
        let waiting = standing.leaves.saturating_sub(covered);
        let due_at =
            standing.signed.as_ref().and_then(|signed| signed.at.checked_add(self.settings.checkpoint_every.0).ok());
        let is_time = due_at.is_none_or(|due_at| due_at <= self.clock.now());
        if waiting >= self.settings.checkpoint_leaves || (waiting > 0 && is_time) {
            self.grow(standing).await?;
        }
        Ok(())
    }

    /// The checkpoint over everything that is in the log now; a new one if there is more than the last covers. `None`: the
    /// log is empty.
    pub async fn checkpoint(&self) -> Result<Option<SignedCheckpoint>, AuditError> {
        loop {
            let standing = self.store.log_standing().await?;
            let is_whole = standing.signed.as_ref().map_or(0, |signed| signed.size) >= standing.leaves;
            if is_whole {
                return Ok(standing.signed);
            }
            // Until all is covered: one checkpoint takes only so many leaves, and another process may be quicker.
            self.grow(standing).await?;
        }
    }

    /// One more checkpoint, over at most `checkpoint_leaves` more.
    async fn grow(&self, standing: LogStanding) -> Result<(), AuditError> {
        let after = standing.signed.as_ref().map_or(0, |signed| signed.size);
        let mut edge = self.edge(&standing)?;
        let until = standing.leaves.min(after.saturating_add(self.settings.checkpoint_leaves));
        while edge.size() < until {
            let limit = usize::try_from(until - edge.size()).unwrap_or(BATCH).min(BATCH);
            let leaves = self.store.leaves_from(edge.size(), limit).await?;
            if leaves.is_empty() {
                return Err(AuditError::Missing(edge.size()));
            }
            for leaf in leaves {
                edge.push(leaf_hash(&leaf.bytes));
            }
        }
        let tiles = edge.grown();
        let (size, at) = (edge.size(), self.clock.now());
        let checkpoint = SignedCheckpoint { size, at, note: Checkpoint::sign(&self.signer, size, edge.root()) };
        let new = NewCheckpoint { after, tiles, checkpoint: checkpoint.clone() };
        if self.store.keep_checkpoint(new).await? {
            self.keeper.keep(&checkpoint).await;
        }
        Ok(())
    }

    /// The edge of the tree as it was signed.
    fn edge(&self, standing: &LogStanding) -> Result<Edge, AuditError> {
        let Some(signed) = &standing.signed else { return Ok(Edge::default()) };
        let altered = || AuditError::Altered(signed.size);
        let edge = Edge::new(signed.size, standing.edge.clone()).ok_or_else(altered)?;
        match Checkpoint::open(&signed.note, self.signer.verifier()) {
            Ok(checkpoint) if checkpoint.size == signed.size && checkpoint.root == edge.root() => Ok(edge),
            Ok(_) => Err(altered()),
            // Signed with a key before this one, as the log says.
            Err(_) => Ok(edge),
        }
    }
}
