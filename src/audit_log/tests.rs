//! The tree against its definition, published vectors and another implementation; notes against published ones.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]
#![expect(clippy::cast_possible_truncation, reason = "these trees are small")]

use std::collections::BTreeMap;
use std::convert::Infallible;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use secrecy::ExposeSecret as _;
use sha2::Sha256;

use super::checkpoint::{Checkpoint, CheckpointError};
use super::note::{NoteError, Signer, Verifier};
use super::proof::{consistency, inclusion, is_consistent, is_included};
use super::receipt::{ProvenLeaf, Receipt, ReceiptError};
use super::tiles::{Edge, Tile, TileId, edge_of, tile_of};
use super::tree::{Hash, Node, empty_root, leaf_hash, node_hash, root};

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn hash(text: &str) -> Hash {
    hex(text).try_into().unwrap()
}

/// The leaves of the vectors that the CT project publishes with its reference implementation.
fn published_leaves() -> Vec<Vec<u8>> {
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
        .map(hex)
        .to_vec()
}

const PUBLISHED_ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

/// Hashes of complete subtrees, straight from the definition.
fn by_definition(leaves: &[Vec<u8>]) -> impl FnMut(Node) -> Result<Hash, Infallible> {
    fn of(leaves: &[Vec<u8>]) -> Hash {
        match leaves {
            [leaf] => leaf_hash(leaf),
            more => {
                let (left, right) = more.split_at(more.len() / 2);
                node_hash(&of(left), &of(right))
            }
        }
    }
    |node| {
        let first = usize::try_from(node.number << node.level).unwrap();
        Ok(of(&leaves[first..first + (1 << node.level)]))
    }
}

/// A tree that grew leaf by leaf, and every tile it ever wanted to be kept.
fn grown(leaves: &[Vec<u8>]) -> (Edge, BTreeMap<TileId, Tile>) {
    let (mut edge, mut kept) = (Edge::default(), BTreeMap::new());
    for leaf in leaves {
        edge.push(leaf_hash(leaf));
        kept.extend(edge.grown().into_iter().map(|tile| (tile.id, tile)));
    }
    (edge, kept)
}

fn numbered(count: u32) -> Vec<Vec<u8>> {
    (0..count).map(|number| number.to_be_bytes().to_vec()).collect()
}

#[test]
fn roots_are_those_that_are_published() {
    let leaves = published_leaves();
    assert_eq!(empty_root(), hash("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
    for (size, published) in (1..).zip(PUBLISHED_ROOTS) {
        let leaves = &leaves[..size];
        assert_eq!(root(size as u64, by_definition(leaves)), Ok(hash(published)), "{size}");
        assert_eq!(grown(leaves).0.root(), hash(published), "{size}");
    }
}

#[test]
fn proofs_are_those_that_are_published() {
    let leaves = published_leaves();
    let proof = inclusion(5, 8, by_definition(&leaves)).unwrap();
    let published = [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    assert_eq!(proof, published.map(hash));
    let proof = consistency(6, 8, by_definition(&leaves)).unwrap();
    let published = [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    assert_eq!(proof, published.map(hash));
}

#[test]
fn roots_and_proofs_are_those_of_another_implementation() {
    let leaves = numbered(75);
    let mut other = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    let mut roots = vec![empty_root()];
    for leaf in &leaves {
        other.push(leaf.clone());
        roots.push(other.root().as_bytes().as_slice().try_into().unwrap());
    }
    let size = leaves.len();
    assert_eq!(root(size as u64, by_definition(&leaves)).unwrap(), roots[size]);
    for index in 0..size {
        let proof = inclusion(index as u64, size as u64, by_definition(&leaves)).unwrap();
        assert_eq!(proof.concat(), other.prove_inclusion(index).as_bytes(), "{index}");
        assert!(is_included(&leaf_hash(&leaves[index]), index as u64, size as u64, &proof, &roots[size]), "{index}");
    }
    for old in 1..size {
        let proof = consistency(old as u64, size as u64, by_definition(&leaves)).unwrap();
        assert_eq!(proof.concat(), other.prove_consistency(size - old).as_bytes(), "{old}");
        assert!(is_consistent((old as u64, &roots[old]), (size as u64, &roots[size]), &proof), "{old}");
    }
}

#[test]
fn every_proof_of_every_small_tree_holds_and_none_holds_elsewhere() {
    let leaves = numbered(20);
    let roots: Vec<Hash> = (0..=20).map(|size| root(size, by_definition(&leaves)).unwrap()).collect();
    for new in 0..=20 {
        for old in 0..=new {
            let proof = consistency(old, new, by_definition(&leaves)).unwrap();
            let is = |old, new, proof: &[Hash]| {
                is_consistent((old, &roots[old as usize]), (new, &roots[new as usize]), proof)
            };
            assert!(is(old, new, &proof), "{old} {new}");
            let elsewhere = (0..=20).filter(|other| *other != new && is(old, *other, &proof));
            // From nothing everything follows, and the same is the same.
            assert!(old == 0 || old == new || elsewhere.count() == 0, "{old} {new}");
            if let Some((_, shorter)) = proof.split_last() {
                assert!(!is(old, new, shorter) && !is(old, new, &[&proof[..], &[roots[3]]].concat()), "{old} {new}");
            }
        }
        for index in 0..new {
            let proof = inclusion(index, new, by_definition(&leaves)).unwrap();
            let root = roots[new as usize];
            for (place, leaf) in leaves.iter().enumerate() {
                let is = is_included(&leaf_hash(leaf), index, new, &proof, &root);
                assert_eq!(is, place as u64 == index, "{index} {new}");
            }
            assert!(!is_included(&leaf_hash(&leaves[index as usize]), index + 1, new, &proof, &root), "{index} {new}");
            assert!(!is_included(
                &leaf_hash(&leaves[index as usize]),
                index,
                new,
                &[&proof[..], &[root]].concat(),
                &root
            ));
        }
    }
    assert!(!is_included(&roots[1], 0, 0, &[], &roots[0]));
}

#[test]
fn tiles_hold_the_hashes_of_every_node_and_the_tree_grows_on_from_its_edge() {
    let leaves = numbered(66_000);
    let (edge, kept) = grown(&leaves);
    let from_tiles = |node| kept[&tile_of(node)].hash(node).ok_or(node);
    assert_eq!(root(66_000, from_tiles).unwrap(), edge.root());
    for index in [0, 255, 256, 65_535, 65_536, 65_999] {
        let proof = inclusion(index, 66_000, from_tiles).unwrap();
        assert!(is_included(&leaf_hash(&leaves[index as usize]), index, 66_000, &proof, &edge.root()), "{index}");
    }
    for old in [257, 65_536] {
        let (old_edge, _) = grown(&leaves[..old]);
        let proof = consistency(old as u64, 66_000, from_tiles).unwrap();
        assert!(is_consistent((old as u64, &old_edge.root()), (66_000, &edge.root()), &proof), "{old}");
        // Stopped there, read again from what was kept, and gone on.
        let (_, mut kept) = grown(&leaves[..old]);
        let tiles = edge_of(old as u64).into_iter().map(|id| kept.remove(&id).filter(|tile| tile.hashes.len() < 256));
        let tiles: Vec<Tile> = edge_of(old as u64)
            .into_iter()
            .zip(tiles)
            .map(|(id, tile)| Tile::read(id, &tile.map_or_else(Vec::new, |tile| tile.bytes())).unwrap())
            .collect();
        let mut again = Edge::new(old as u64, tiles).unwrap();
        assert_eq!(again.root(), old_edge.root(), "{old}");
        for leaf in &leaves[old..] {
            again.push(leaf_hash(leaf));
        }
        assert_eq!((again.size(), again.root()), (66_000, edge.root()), "{old}");
    }
    assert!(Edge::new(257, Vec::new()).is_none() && Edge::new(0, Vec::new()).is_some());
    assert!(Tile::read(TileId { level: 0, number: 0 }, &[0; 33]).is_none());
}

/// The example of C2SP signed-note, with Go's implementation's keys.
const PUBLISHED_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const PUBLISHED_NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\
    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

#[test]
fn a_published_note_is_opened_and_an_altered_one_is_not() {
    let verifier = Verifier::read(PUBLISHED_KEY).unwrap();
    assert_eq!((verifier.name(), verifier.to_string()), ("PeterNeumann", PUBLISHED_KEY.to_owned()));
    let text = verifier.open(PUBLISHED_NOTE).unwrap();
    assert!(text.starts_with("If you think") && text.ends_with("problem is.\n"), "{text}");
    let altered = |from: &str, to: &str| verifier.open(&PUBLISHED_NOTE.replace(from, to)).unwrap_err();
    assert_eq!(altered("answer", "anser"), NoteError::Forged);
    assert_eq!(altered("ZJkuBS", "ZJkuBT"), NoteError::Forged);
    assert_eq!(altered("\u{2014} PeterNeumann", "\u{2014} Somebody"), NoteError::NotSigned);
    assert_eq!(altered("problem is.", "problem\tis."), NoteError::NoNote);
    assert_eq!(altered("is.\n\n", "is.\n"), NoteError::NoNote);
    assert_eq!(
        Verifier::read("PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"),
        Err(NoteError::NoKey)
    );
}

#[test]
fn a_key_is_read_again_as_it_was_written_and_does_not_show_itself() {
    let signer = Signer::generate("postern.example").unwrap();
    let again = Signer::read(&signer.text()).unwrap();
    assert_eq!(again.verifier(), signer.verifier());
    let secret = signer.text();
    let seed = secret.expose_secret().rsplit('+').next().unwrap();
    assert!(!format!("{signer:?}").contains(seed));
    let note = again.sign("a text\n");
    assert_eq!(signer.verifier().open(&note), Ok("a text\n"));
    for name in ["", "with space", "plus+plus"] {
        assert_eq!(Signer::generate(name).unwrap_err(), NoteError::Name, "{name}");
    }
    let damaged = secret.expose_secret().replace("PRIVATE", "PUBLIC");
    assert_eq!(Signer::read(&damaged.into()).unwrap_err(), NoteError::NoKey);
}

#[test]
fn a_checkpoint_is_opened_as_it_was_signed_and_only_as_such() {
    let signer = Signer::generate("postern.example").unwrap();
    let root = leaf_hash(b"one");
    let note = Checkpoint::sign(&signer, 1, root);
    let read = Checkpoint::open(&note, signer.verifier()).unwrap();
    assert_eq!((read.origin.as_str(), read.size, read.root), ("postern.example", 1, root));
    assert!(note.starts_with(&format!("postern.example\n1\n{}\n\n", STANDARD.encode(root))), "{note}");
    let open = |text: &str| Checkpoint::open(&signer.sign(text), signer.verifier()).unwrap_err();
    assert_eq!(open("postern.example\n01\nAAAA\n"), CheckpointError::Text);
    assert_eq!(open("hello\n"), CheckpointError::Text);
    let text = format!("other.example\n1\n{}\n", STANDARD.encode(root));
    assert_eq!(open(&text), CheckpointError::Origin);
    let other = Signer::generate("postern.example").unwrap();
    let opened = Checkpoint::open(&note, other.verifier());
    assert_eq!(opened, Err(CheckpointError::Note(NoteError::NotSigned)));
}

/// A log of a few leaves, of which 2 and 5 are a message's.
fn receipt(signer: &Signer) -> Receipt {
    let leaves: Vec<Vec<u8>> = (0..8)
        .map(|seq| {
            let message = if seq == 2 || seq == 5 { "msg_1" } else { "msg_2" };
            format!(r#"{{"kind":"accepted","messageId":"{message}","seq":{seq}}}"#).into_bytes()
        })
        .collect();
    let root = root(8, by_definition(&leaves)).unwrap();
    let proven = [2, 5].map(|seq| {
        let proof = inclusion(seq, 8, by_definition(&leaves)).unwrap();
        ProvenLeaf::new(seq, String::from_utf8(leaves[seq as usize].clone()).unwrap(), &proof)
    });
    Receipt { message_id: "msg_1".to_owned(), checkpoint: Checkpoint::sign(signer, 8, root), leaves: proven.to_vec() }
}

#[test]
fn a_receipt_is_believed_with_the_public_key_alone_and_a_forged_one_is_not() {
    let signer = Signer::generate("postern.example").unwrap();
    let honest = receipt(&signer);
    let (checkpoint, leaves) = honest.verify(signer.verifier()).unwrap();
    assert_eq!((checkpoint.size, leaves.len(), &leaves[1]["seq"]), (8, 2, &5.into()));
    let forged = |change: fn(&mut Receipt)| {
        let mut forged = honest.clone();
        change(&mut forged);
        forged.verify(signer.verifier()).unwrap_err()
    };
    let altered = forged(|it| it.leaves[1].leaf = it.leaves[1].leaf.replace("accepted", "bounced"));
    assert_eq!(altered, ReceiptError::NotIncluded(5));
    assert_eq!(forged(|it| it.leaves[1].proof[0].replace_range(..1, "_")), ReceiptError::NotIncluded(5));
    assert_eq!(forged(|it| it.leaves[1].seq = 4), ReceiptError::NotIncluded(4));
    assert_eq!(forged(|it| it.leaves.swap(0, 1)), ReceiptError::OutOfOrder(2));
    assert_eq!(forged(|it| it.leaves[1] = it.leaves[0].clone()), ReceiptError::OutOfOrder(2));
    assert_eq!(forged(|it| it.leaves.clear()), ReceiptError::Empty);
    assert_eq!(forged(|it| it.message_id = "msg_2".to_owned()), ReceiptError::Foreign(2));
    let resized = forged(|it| it.checkpoint = it.checkpoint.replacen("\n8\n", "\n9\n", 1));
    assert_eq!(resized, ReceiptError::Checkpoint(CheckpointError::Note(NoteError::Forged)));
    let other = Signer::generate("postern.example").unwrap();
    assert!(matches!(honest.verify(other.verifier()), Err(ReceiptError::Checkpoint(_))));
}
