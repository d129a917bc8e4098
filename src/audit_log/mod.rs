//! The log that can be proven: a Merkle tree over the audit's leaves, and signed statements of how it stands.
//!
//! # Who is who
//!
//! * A **leaf** is one audit entry in canonical bytes (`domain::audit`). Its place is its number, from 0.
//! * The **tree** ([`tree`]) is that of RFC 6962 (and RFC 9162, section 2.1) over SHA-256. Its **root** stands for every
//!   leaf and their order.
//! * A **tile** ([`tiles`]) is 256 neighbouring hashes of one level of the tree, as C2SP tlog-tiles cuts it: 32 bytes a
//!   leaf, so that a proof reads a few tiles and no leaves, and one changed leaf can be named among millions.
//! * A **checkpoint** ([`checkpoint`]) says how large the log is and what its root is. Signed, it is a C2SP **note**
//!   ([`note`]): a few lines of text that anybody can keep, and that tools of others read.
//! * A **proof** ([`proof`]) shows that a leaf is in the tree of a checkpoint (*inclusion*), or that one checkpoint's tree is
//!   the beginning of another's (*consistency*, [`growth`]): some hashes, no leaves.
//! * A **receipt** ([`receipt`]) is all that somebody needs who has nothing but the public key: a message's leaves, their
//!   proofs, and the checkpoint.
//!
//! # What is promised
//!
//! Who holds a checkpoint can tell whether a leaf before it was changed, removed, added or moved since it was signed.
//! What was appended after the last checkpoint is not yet covered: checkpoints are made every few seconds.
//!
//! Nothing here reads or writes: all of it is pure, given leaves and hashes. Keeping them is the store's; making
//! checkpoints in time is the room `audit`'s.

pub mod checkpoint;
pub mod growth;
pub mod note;
pub mod proof;
pub mod receipt;
#[cfg(test)]
mod tests;
pub mod tiles;
pub mod tree;
