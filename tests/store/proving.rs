//! What proves the audit: leaves in their order, tiles and checkpoints kept whole or not at all, lists that end.

use postern::audit_log::tiles::{Edge, edge_of, tile_of};
use postern::audit_log::tree::{Node, leaf_hash};
use postern::domain::audit::Kind;
use postern::domain::message::Outcome;
use postern::domain::reply::Reply;
use postern::store::{LeafFilter, NewCheckpoint, SignedCheckpoint, Store};

use crate::harness::*;

/// Covers all there is, as an auditor would, but signs nothing.
async fn cover(store: &dyn Store) -> NewCheckpoint {
    let standing = store.log_standing().await.unwrap();
    let after = standing.signed.as_ref().map_or(0, |signed| signed.size);
    let mut edge = Edge::new(after, standing.edge).unwrap();
    while edge.size() < standing.leaves {
        for leaf in store.leaves_from(edge.size(), 100).await.unwrap() {
            assert_eq!(leaf.seq, edge.size());
            edge.push(leaf_hash(&leaf.bytes));
        }
    }
    let checkpoint = SignedCheckpoint { size: edge.size(), at: at(9), note: format!("{:?}", edge.root()) };
    NewCheckpoint { after, tiles: edge.grown(), checkpoint }
}

on_every_database! {
    async fn a_tree_grows_on_from_what_was_kept_of_it_whenever_a_checkpoint_is_made(home) {
        let store = &*home.store;
        assert_eq!(store.last_checkpoint().await.unwrap(), None);
        let mut sizes = Vec::new();
        for count in [3, 256, 1, 300] {
            for number in 0..count {
                queued(store, &format!("ann{number}@example.com")).await;
            }
            let new = cover(store).await;
            sizes.push(new.checkpoint.size);
            assert!(store.keep_checkpoint(new.clone()).await.unwrap());
            assert!(!store.keep_checkpoint(new.clone()).await.unwrap(), "it follows one that is no longer the last");
            assert_eq!(store.last_checkpoint().await.unwrap().as_ref(), Some(&new.checkpoint));
        }
        assert_eq!(sizes, [3, 259, 260, 560]);
        let listed = store.checkpoints(3, 2).await.unwrap();
        assert_eq!(listed.iter().map(|one| one.size).collect::<Vec<_>>(), [259, 260]);
        // At once it would have been the same tree.
        let mut whole = Edge::default();
        for seq in [0, 300] {
            for leaf in store.leaves_from(seq, 300).await.unwrap() {
                whole.push(leaf_hash(&leaf.bytes));
            }
        }
        assert_eq!(store.last_checkpoint().await.unwrap().unwrap().note, format!("{:?}", whole.root()));
        let standing = store.log_standing().await.unwrap();
        assert_eq!((standing.leaves, standing.edge.len()), (560, edge_of(560).len()));
        let node = Node { level: 0, number: 300 };
        let tiles = store.tiles(vec![tile_of(node), tile_of(Node { level: 0, number: 70_000 })]).await.unwrap();
        assert_eq!(tiles.len(), 1);
        let leaf = &store.leaves_from(300, 1).await.unwrap()[0];
        assert_eq!(tiles[0].hash(node), Some(leaf_hash(&leaf.bytes)));
    }

    async fn leaves_are_listed_by_kind_tenant_and_time_page_by_page_to_the_end(home) {
        let store = &*home.store;
        for number in 0..5 {
            let id = queued(store, &format!("ann{number}@example.com")).await;
            commit(store, id, 1, 10 + number).await;
            settle(store, id, 1, 20 + number, Outcome::Relayed { reply: Reply::new(250, String::new()) }).await;
        }
        let whose = tenant("demo");
        let list = async |filter: LeafFilter| store.list_leaves(Some(&whose), filter).await.unwrap();
        let all = LeafFilter { limit: 100, ..LeafFilter::default() };
        let found = list(all.clone()).await;
        assert_eq!((found.leaves.len(), found.next), (15, None));
        assert_eq!(list(LeafFilter { kind: Some(Kind::Relayed), ..all.clone() }).await.leaves.len(), 5);
        assert_eq!(list(LeafFilter { since: Some(at(20)), until: Some(at(22)), ..all.clone() }).await.leaves.len(), 3);
        assert_eq!(store.list_leaves(Some(&tenant("other")), all.clone()).await.unwrap().leaves.len(), 0);
        assert_eq!(store.list_leaves(None, all.clone()).await.unwrap().leaves.len(), 15);
        let (mut from, mut pages) = (0, Vec::new());
        loop {
            let page = list(LeafFilter { from, limit: 6, ..LeafFilter::default() }).await;
            pages.push(page.leaves.len());
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
        assert_eq!(pages, [6, 6, 3]);
        store.audit_key_set("a key".to_owned(), at(30)).await.unwrap();
        let logged = store.logged_leaves(14, 10).await.unwrap();
        assert_eq!((logged.len(), logged[1].kind.as_str(), logged[1].tenant.as_str()), (2, "audit-key-set", ""));
        assert!(logged.iter().all(|leaf| leaf.is_kept));
        let messages = store.logged_messages(None, 3).await.unwrap();
        assert_eq!((messages.len(), messages[0].status.as_str(), messages[0].leaves.len()), (3, "relayed", 3));
        assert_eq!(store.logged_messages(Some(messages[2].id), 10).await.unwrap().len(), 2);
    }
}
