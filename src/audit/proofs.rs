//! Receipts: the leaves of a message with the proofs that they are in the log.

use std::collections::{BTreeMap, BTreeSet};

use super::{AuditError, Auditor};
use crate::audit_log::checkpoint::Checkpoint;
use crate::audit_log::growth::Growth;
use crate::audit_log::proof::{consistency, inclusion};
use crate::audit_log::receipt::{ProvenLeaf, Receipt};
use crate::audit_log::tiles::{Tile, TileId, tile_of};
use crate::audit_log::tree::{Hash, Node};
use crate::domain::ids::{MessageId, TenantId};
use crate::store::{Leaf, SignedCheckpoint};

impl Auditor {
    /// The receipt of a tenant's message, over all that has happened to it until now; `None`: there is no such message.
    pub async fn receipt(&self, tenant: &TenantId, id: MessageId) -> Result<Option<Receipt>, AuditError> {
        let Some(leaves) = self.store.leaves(tenant, id).await? else { return Ok(None) };
        let Some(last) = leaves.last() else { return Ok(None) };
        let checkpoint = match self.store.last_checkpoint().await? {
            Some(checkpoint) if checkpoint.size > last.seq => checkpoint,
            // It covers at least what was read above.
            Some(_) | None => self.checkpoint().await?.ok_or(AuditError::Missing(0))?,
        };
        let leaves = self.prove(&checkpoint, leaves).await?;
        Ok(Some(Receipt { message_id: id.to_string(), checkpoint: checkpoint.note, leaves }))
    }

    /// The proof that the log as it stands now grew from the one of this checkpoint, which is signed by `note`; `None`: it has
    /// fewer leaves than that.
    pub async fn growth(&self, old: &Checkpoint, note: String) -> Result<Option<Growth>, AuditError> {
        let Some(new) = self.checkpoint().await?.filter(|new| new.size >= old.size) else { return Ok(None) };
        let mut needed = BTreeSet::new();
        consistency(old.size, new.size, |node| -> Result<Hash, AuditError> {
            needed.insert(tile_of(node));
            Ok(Hash::default())
        })?;
        let tiles = self.store.tiles(needed.into_iter().collect()).await?;
        let tiles: BTreeMap<TileId, Tile> = tiles.into_iter().map(|tile| (tile.id, tile)).collect();
        let hash = |node: Node| {
            tiles.get(&tile_of(node)).and_then(|tile| tile.hash(node)).ok_or(AuditError::Altered(new.size))
        };
        let proof = consistency(old.size, new.size, hash)?;
        Ok(Some(Growth::new(note, new.note, &proof)))
    }

    /// Leaves with their proofs under a checkpoint that covers them.
    pub async fn prove(&self, checkpoint: &SignedCheckpoint, leaves: Vec<Leaf>) -> Result<Vec<ProvenLeaf>, AuditError> {
        let tiles = self.tiles_for(checkpoint.size, &leaves).await?;
        let hash = |node: Node| {
            tiles.get(&tile_of(node)).and_then(|tile| tile.hash(node)).ok_or(AuditError::Altered(checkpoint.size))
        };
        leaves
            .into_iter()
            .map(|leaf| {
                let proof = inclusion(leaf.seq, checkpoint.size, hash)?;
                let text = String::from_utf8(leaf.bytes).map_err(|_| AuditError::Altered(checkpoint.size))?;
                Ok(ProvenLeaf::new(leaf.seq, text, &proof))
            })
            .collect()
    }

    /// The tiles that hold what the proofs of these leaves are made of.
    async fn tiles_for(&self, size: u64, leaves: &[Leaf]) -> Result<BTreeMap<TileId, Tile>, AuditError> {
        let mut needed = BTreeSet::new();
        for leaf in leaves {
            if leaf.seq >= size {
                return Err(AuditError::Missing(leaf.seq));
            }
            inclusion(leaf.seq, size, |node| -> Result<Hash, AuditError> {
                needed.insert(tile_of(node));
                Ok(Hash::default())
            })?;
        }
        let tiles = self.store.tiles(needed.into_iter().collect()).await?;
        Ok(tiles.into_iter().map(|tile| (tile.id, tile)).collect())
    }
}
