//! What the store keeps so that the audit can be proven: the leaves, the tree's hashes over them, and signed checkpoints.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Leaf, StoreError};
use crate::audit_log::tiles::{Tile, TileId};
use crate::domain::audit::Kind;
use crate::domain::ids::{MessageId, TenantId};

/// A checkpoint that was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// How many leaves it covers.
    pub size: u64,
    /// When it was signed.
    pub at: Timestamp,
    /// The signed note.
    pub note: String,
}

/// How the log stands.
#[derive(Debug, Clone)]
pub struct LogStanding {
    /// How many leaves there are.
    pub leaves: u64,
    /// The last checkpoint; `None`: none was made yet.
    pub signed: Option<SignedCheckpoint>,
    /// The tiles at the right edge of the tree of that checkpoint, see [`edge_of`].
    ///
    /// [`edge_of`]: crate::audit_log::tiles::edge_of
    pub edge: Vec<Tile>,
}

/// A checkpoint to be kept, and what the tree has grown by.
#[derive(Debug, Clone)]
pub struct NewCheckpoint {
    /// The size of the checkpoint before it; 0: none.
    pub after: u64,
    /// The tiles that are new or longer since.
    pub tiles: Vec<Tile>,
    /// The checkpoint.
    pub checkpoint: SignedCheckpoint,
}

/// Which leaves of a tenant a list shows, oldest first. `None` means any.
#[derive(Debug, Clone, Default)]
pub struct LeafFilter {
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only those not before this.
    pub since: Option<Timestamp>,
    /// Only those not after this.
    pub until: Option<Timestamp>,
    /// From this place on (the cursor).
    pub from: u64,
    /// How many at most.
    pub limit: usize,
}

/// A page of leaves.
#[derive(Debug, Clone, Default)]
pub struct LeafPage {
    /// The leaves.
    pub leaves: Vec<Leaf>,
    /// Where the next page begins; `None`: there is nothing more now. A page may hold fewer leaves than were asked for
    /// although there are more: so many rows are looked at for one.
    pub next: Option<u64>,
}

/// A leaf as its row tells it, to be held against its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedLeaf {
    /// Its place.
    pub seq: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The word for what happened.
    pub kind: String,
    /// Whose; empty: the gateway's own.
    pub tenant: String,
    /// To which message, if to one.
    pub message: Option<MessageId>,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// Whether the message it is about is in the store; `true` when it is about none.
    pub is_kept: bool,
}

/// A message as its row tells it, with its leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedMessage {
    /// Its id.
    pub id: MessageId,
    /// The word for its state.
    pub status: String,
    /// The bytes of its leaves, oldest first.
    pub leaves: Vec<Vec<u8>>,
}

/// The part of the store by which the audit is proven.
#[async_trait]
pub trait AuditStore: Send + Sync + 'static {
    /// How the log stands.
    async fn log_standing(&self) -> Result<LogStanding, StoreError>;

    /// Leaves from this place on, oldest first. One that is missing ends them.
    async fn leaves_from(&self, from: u64, limit: usize) -> Result<Vec<Leaf>, StoreError>;

    /// Keeps a checkpoint and its tiles. `false`: another was made meanwhile, and nothing was kept.
    async fn keep_checkpoint(&self, new: NewCheckpoint) -> Result<bool, StoreError>;

    /// The tiles with these ids, as far as there are any.
    async fn tiles(&self, ids: Vec<TileId>) -> Result<Vec<Tile>, StoreError>;

    /// Notes, with a leaf, that checkpoints are signed with this key from now on: its public half, as text.
    async fn audit_key_set(&self, key: String, at: Timestamp) -> Result<(), StoreError>;

    /// Checkpoints over more than `after` leaves, the smallest first.
    async fn checkpoints(&self, after: u64, limit: usize) -> Result<Vec<SignedCheckpoint>, StoreError>;

    /// The last checkpoint.
    async fn last_checkpoint(&self) -> Result<Option<SignedCheckpoint>, StoreError>;

    /// Leaves of a tenant; without one, of all and the gateway's own.
    async fn list_leaves(&self, tenant: Option<&TenantId>, filter: LeafFilter) -> Result<LeafPage, StoreError>;

    /// Leaves from this place on as their rows tell them, in the order of their places. Missing ones are passed over.
    async fn logged_leaves(&self, from: u64, limit: usize) -> Result<Vec<LoggedLeaf>, StoreError>;

    /// Messages after this one, in the order of their ids, with their leaves.
    async fn logged_messages(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<LoggedMessage>, StoreError>;

    /// The bytes of the leaves of a message that need not be in the store any more, oldest first.
    async fn logged_of(&self, id: MessageId) -> Result<Vec<Vec<u8>>, StoreError>;
}
