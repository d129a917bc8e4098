//! Hashes of leaves, nodes and roots, as RFC 6962, section 2.1, defines them.

use sha2::{Digest as _, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// A complete subtree: the leaves from `number << level` up to, not including, `(number + 1) << level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// How high it stands: 0 is a leaf.
    pub level: u8,
    /// Which of its level, from 0.
    pub number: u64,
}

/// The hash of a leaf.
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

/// The hash of a node with these children.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of the tree without leaves.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The complete subtrees of which the leaves from `start` to `end` (not included) are made, from left to right, the
/// largest first. `start` is where a subtree of that many leaves may begin: 0, or what [`split`] gives.
pub(super) fn peaks(start: u64, end: u64) -> impl DoubleEndedIterator<Item = Node> {
    let leaves = end - start;
    let levels: Vec<u8> = (0..64).rev().filter(|level| leaves >> level & 1 == 1).collect();
    levels.into_iter().map(move |level| {
        // What larger subtrees stand to the left.
        let before =
            leaves.checked_shr(u32::from(level) + 1).unwrap_or(0).checked_shl(u32::from(level) + 1).unwrap_or(0);
        Node { level, number: (start + before) >> level }
    })
}

/// The hash over the leaves from `start` to `end` (not included), see [`peaks`]; that of nothing is the empty root.
pub(super) fn range_hash<E>(
    start: u64,
    end: u64,
    hash_of: &mut impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Hash, E> {
    let mut whole = None;
    for node in peaks(start, end).rev() {
        let hash = hash_of(node)?;
        whole = Some(match whole {
            None => hash,
            Some(right) => node_hash(&hash, &right),
        });
    }
    Ok(whole.unwrap_or_else(empty_root))
}

/// The root of the tree of `size` leaves. `hash_of` gives the hashes of complete subtrees.
pub fn root<E>(size: u64, mut hash_of: impl FnMut(Node) -> Result<Hash, E>) -> Result<Hash, E> {
    range_hash(0, size, &mut hash_of)
}

/// Where a tree of `leaves` (two or more) is divided: the largest power of two below it.
pub(super) const fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}
