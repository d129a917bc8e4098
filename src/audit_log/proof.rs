//! Proofs: that a leaf is in a tree, and that one tree is the beginning of another.

use super::tree::{Hash, Node, node_hash, range_hash, split};

/// The inclusion proof of leaf `index` in the tree of `size` leaves, from the leaf's sibling upwards (RFC 6962, section
/// 2.1.1). `index` is less than `size`. `hash_of` gives the hashes of complete subtrees.
pub fn inclusion<E>(index: u64, size: u64, mut hash_of: impl FnMut(Node) -> Result<Hash, E>) -> Result<Vec<Hash>, E> {
    let (mut start, mut end) = (0, size);
    let mut proof = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            proof.push(range_hash(middle, end, &mut hash_of)?);
            end = middle;
        } else {
            proof.push(range_hash(start, middle, &mut hash_of)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// Whether `proof` shows that a leaf with this hash is leaf `index` of the tree of `size` leaves with this root (RFC 9162,
/// section 2.1.3.2).
#[must_use]
pub fn is_included(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut place, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            hash = node_hash(sibling, &hash);
            // A node without a sibling rises until it has one.
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// The proof that the tree of `old` leaves is the beginning of that of `new` leaves (RFC 6962, section 2.1.2). `old` is not
/// above `new`. From nothing, or to the same, it has no hashes.
pub fn consistency<E>(old: u64, new: u64, mut hash_of: impl FnMut(Node) -> Result<Hash, E>) -> Result<Vec<Hash>, E> {
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let (mut start, mut end) = (0, new);
    let mut proof = Vec::new();
    // Down to the subtree that ends where the old tree did.
    while end != old {
        let middle = start + split(end - start);
        if old <= middle {
            proof.push(range_hash(middle, end, &mut hash_of)?);
            end = middle;
        } else {
            proof.push(range_hash(start, middle, &mut hash_of)?);
            start = middle;
        }
    }
    // Who verifies knows that one already when it is the whole old tree.
    if start != 0 {
        proof.push(range_hash(start, end, &mut hash_of)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Whether `proof` shows that the tree of `old` leaves with that root is the beginning of the one of `new` leaves with that
/// root (RFC 9162, section 2.1.4.2).
#[must_use]
pub fn is_consistent((old, old_root): (u64, &Hash), (new, new_root): (u64, &Hash), proof: &[Hash]) -> bool {
    if old > new {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return proof.is_empty() && *old_root == super::tree::empty_root();
    }
    let mut hashes = proof.iter();
    let first = if old.is_power_of_two() { Some(old_root) } else { hashes.next() };
    let Some(first) = first else { return false };
    let (mut place, mut last) = (old - 1, new - 1);
    while place & 1 == 1 {
        place >>= 1;
        last >>= 1;
    }
    let (mut was, mut is) = (*first, *first);
    for sibling in hashes {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            was = node_hash(sibling, &was);
            is = node_hash(sibling, &is);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            is = node_hash(&is, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && was == *old_root && is == *new_root
}
