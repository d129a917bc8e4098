//! Tiles: the tree's hashes as they are kept, and the edge at which it grows.

use std::fmt;

use super::tree::{Hash, Node, empty_root, node_hash};

/// Levels of the tree in one tile, and the hashes in a full one (C2SP tlog-tiles).
const HEIGHT: u8 = 8;
const WIDTH: usize = 1 << HEIGHT;

/// Which tile: hash `i` of it is that of the subtree `number * 256 + i` at the tree's level `level * 8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TileId {
    /// How high it stands: a tile of level 0 holds hashes of leaves.
    pub level: u8,
    /// Which of its level, from 0.
    pub number: u64,
}

impl TileId {
    /// How many hashes this tile has in a tree of `size` leaves.
    #[must_use]
    pub fn width_at(self, size: u64) -> usize {
        let hashes = size.checked_shr(u32::from(self.level) * u32::from(HEIGHT)).unwrap_or(0);
        let before = self.number << HEIGHT;
        usize::try_from(hashes.saturating_sub(before)).unwrap_or(WIDTH).min(WIDTH)
    }
}

impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.level, self.number)
    }
}

/// Up to 256 hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Which it is.
    pub id: TileId,
    /// From left to right.
    pub hashes: Vec<Hash>,
}

impl Tile {
    /// A tile of hashes that stand one behind the other; `None`: these are no whole hashes, or too many.
    #[must_use]
    pub fn read(id: TileId, bytes: &[u8]) -> Option<Self> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        (rest.is_empty() && hashes.len() <= WIDTH).then(|| Self { id, hashes: hashes.to_vec() })
    }

    /// Its hashes, one behind the other.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.hashes.concat()
    }

    /// The hash of a node whose hashes this tile holds; `None`: it does not hold all of them (yet).
    #[must_use]
    pub fn hash(&self, node: Node) -> Option<Hash> {
        let (id, first, count) = held_by(node);
        let hashes = self.hashes.get(first..first + count).filter(|_| id == self.id)?;
        Some(joined(hashes))
    }
}

/// The tile that holds a node's hash, or those it is made of.
#[must_use]
pub fn tile_of(node: Node) -> TileId {
    held_by(node).0
}

/// The tile, the first hash in it, and how many of them make up the node.
fn held_by(node: Node) -> (TileId, usize, usize) {
    let (level, above) = (node.level / HEIGHT, node.level % HEIGHT);
    let first = node.number << above;
    let id = TileId { level, number: first >> HEIGHT };
    // Below the width of a tile.
    (id, usize::try_from(first % (1 << HEIGHT)).unwrap_or_default(), 1 << above)
}

/// The root over hashes of complete subtrees; their number is a power of two.
fn joined(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => empty_root(),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(more.len() / 2);
            node_hash(&joined(left), &joined(right))
        }
    }
}

/// The tiles at the right edge of a tree of `size` leaves, the lowest first: those that grow next. A level whose last
/// tile is full has an empty one there.
#[must_use]
pub fn edge_of(size: u64) -> Vec<TileId> {
    let mut edge = Vec::new();
    let (mut level, mut hashes) = (0, size);
    while hashes > 0 {
        edge.push(TileId { level, number: hashes >> HEIGHT });
        hashes >>= HEIGHT;
        level += 1;
    }
    edge
}

/// The right edge of a tree, where it grows.
#[derive(Debug, Clone, Default)]
pub struct Edge {
    size: u64,
    /// By level, the lowest first; none is full.
    growing: Vec<Tile>,
    /// The full ones since [`Edge::grown`] was asked last.
    full: Vec<Tile>,
}

impl Edge {
    /// The edge of a tree of `size` leaves with the tiles of [`edge_of`], in that order. `None`: they are not that tree's.
    #[must_use]
    pub fn new(size: u64, growing: Vec<Tile>) -> Option<Self> {
        let ids = edge_of(size);
        let is_right = |(id, tile): (&TileId, &Tile)| tile.id == *id && tile.hashes.len() == id.width_at(size);
        let fits = ids.len() == growing.len() && ids.iter().zip(&growing).all(is_right);
        fits.then_some(Self { size, growing, full: Vec::new() })
    }

    /// How many leaves there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut root = None;
        for tile in &self.growing {
            // From right to left, that is, from small subtrees to large ones.
            let mut end = tile.hashes.len();
            while end > 0 {
                let count = 1 << end.trailing_zeros();
                let left = joined(&tile.hashes[end - count..end]);
                root = Some(root.map_or(left, |right| node_hash(&left, &right)));
                end -= count;
            }
        }
        root.unwrap_or_else(empty_root)
    }

    /// Appends a leaf's hash.
    pub fn push(&mut self, leaf: Hash) {
        self.size += 1;
        let mut hash = leaf;
        for level in 0.. {
            if self.growing.len() == level {
                let level = u8::try_from(level).unwrap_or(u8::MAX);
                self.growing.push(Tile { id: TileId { level, number: 0 }, hashes: Vec::with_capacity(WIDTH) });
            }
            let tile = &mut self.growing[level];
            tile.hashes.push(hash);
            if tile.hashes.len() < WIDTH {
                return;
            }
            hash = joined(&tile.hashes);
            let next = TileId { level: tile.id.level, number: tile.id.number + 1 };
            let full = std::mem::replace(tile, Tile { id: next, hashes: Vec::with_capacity(WIDTH) });
            self.full.push(full);
        }
    }

    /// What is to be kept since this was asked last: the tiles that became full, and those at the edge that are not empty.
    pub fn grown(&mut self) -> Vec<Tile> {
        let mut grown = std::mem::take(&mut self.full);
        grown.extend(self.growing.iter().filter(|tile| !tile.hashes.is_empty()).cloned());
        grown
    }
}
