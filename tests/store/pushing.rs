//! The outbox of pushes: what is fed into it and how often, in which order it is sent, and what becomes of it.

use std::time::Duration;

use jiff::Timestamp;
use postern::domain::audit::Actor;
use postern::domain::ids::PushId;
use postern::domain::pass_event::{EventKind, Wallet};
use postern::domain::push::{Endpoint, Event};
use postern::store::{
    DuePush, EndpointCounts, EndpointState, NewPush, PushSettled, PushState, Pushed, PushesToReplay, RecordRules,
    Settling, Store,
};
use serde_json::Value;

use crate::harness::*;
use crate::wallets::{event, of, rules};

fn endpoint(name: &str) -> Endpoint {
    format!("demo/{name}").parse().unwrap()
}

/// A push to `crm` about `subject`.
fn push(subject: &str) -> NewPush {
    let event = Event { name: "message.relayed", subject: subject.to_owned(), at: at(0), body: subject.to_owned() };
    NewPush { endpoint: endpoint("crm"), event }
}

/// Keeps pushes as if the next leaf made them.
async fn keep(store: &dyn Store, pushes: Vec<NewPush>, now: i64) {
    let from = store.configure_endpoints(vec![endpoint("crm")]).await.unwrap();
    let pushes = pushes.into_iter().map(|push| (u64::MAX, push)).collect();
    store.keep_pushes((from, from + 1), pushes, at(now)).await.unwrap();
}

async fn due(store: &dyn Store, name: &str, now: i64) -> Vec<DuePush> {
    store.due_pushes(&endpoint(name), at(now), 100).await.unwrap()
}

async fn bodies(store: &dyn Store, now: i64) -> Vec<String> {
    due(store, "crm", now).await.into_iter().map(|push| push.body).collect()
}

async fn settle_as(store: &dyn Store, id: PushId, settling: Settling, now: i64) {
    assert_eq!(store.settle_push(id, settling, at(now)).await.unwrap(), PushSettled::Written);
}

fn again(due_at: i64) -> Settling {
    Settling::Again { due_at: at(due_at), failure: "503".to_owned() }
}

fn dead() -> Settling {
    Settling::Dead { failure: "timed-out".to_owned() }
}

async fn counts(store: &dyn Store, name: &str) -> EndpointCounts {
    let all = store.push_endpoints().await.unwrap();
    all.into_iter().find(|counts| counts.endpoint == endpoint(name)).unwrap()
}

on_every_database! {
    async fn an_endpoint_is_told_of_what_happens_from_its_first_day_on_and_of_each_change_once(home) {
        let store = &*home.store;
        queued(store, "early@example.com").await;
        let next = store.configure_endpoints(vec![endpoint("crm")]).await.unwrap();
        let id = queued(store, "ann@example.com").await;
        let page = store.message_changes(next, vec![tenant("demo")], 100).await.unwrap();
        let told: Vec<_> = page.changes.iter().map(|(_, change)| (change.kind.as_str(), change.message.id)).collect();
        assert_eq!(told, [("accepted", id)]);
        assert_eq!(page.changes[0].1.message.recipient, "ann@example.com");

        // Twice from the same place: the second comes too late.
        let leaf = page.changes[0].0;
        for _ in 0..2 {
            store.keep_pushes((next, page.next), vec![(leaf, push("a"))], at(1)).await.unwrap();
        }
        assert_eq!(bodies(store, 1).await, ["a"]);
        home.crash().await;
        let store = &*home.store;
        let goes_on = store.configure_endpoints(vec![endpoint("crm")]).await.unwrap();
        assert_eq!(goes_on, page.next);
        assert_eq!(bodies(store, 1).await, ["a"]);
    }

    async fn an_endpoint_that_comes_later_is_not_told_of_what_another_still_has_to_be_told(home) {
        let store = &*home.store;
        let next = store.configure_endpoints(vec![endpoint("crm")]).await.unwrap();
        queued(store, "ann@example.com").await;
        let leaf = store.message_changes(next, vec![tenant("demo")], 100).await.unwrap().changes[0].0;
        assert_eq!(store.configure_endpoints(vec![endpoint("bi"), endpoint("crm")]).await.unwrap(), next);
        let to_bi = NewPush { endpoint: endpoint("bi"), ..push("b") };
        let pushes = vec![(leaf, to_bi.clone()), (leaf, push("a")), (leaf + 1, to_bi)];
        store.keep_pushes((next, leaf + 2), pushes, at(1)).await.unwrap();
        assert_eq!((due(store, "crm", 1).await.len(), due(store, "bi", 1).await.len()), (1, 1));
    }

    async fn an_endpoint_that_left_keeps_what_waits_and_is_told_nothing_new(home) {
        let store = &*home.store;
        keep(store, vec![push("a")], 1).await;
        let next = store.configure_endpoints(Vec::new()).await.unwrap();
        store.keep_pushes((next, next + 1), vec![(u64::MAX, push("b"))], at(1)).await.unwrap();
        let left = counts(store, "crm").await;
        assert_eq!((left.state, left.pending), (EndpointState::NotConfigured, 1));
        let look = store.look_at_endpoints(vec![endpoint("crm")]).await.unwrap()[0];
        assert_eq!((look.state, look.due_at), (EndpointState::NotConfigured, Some(at(1))));
        store.configure_endpoints(vec![endpoint("crm")]).await.unwrap();
        assert_eq!(counts(store, "crm").await.state, EndpointState::On);
        assert_eq!(bodies(store, 1).await, ["a"]);
    }

    async fn other_tenants_messages_and_leaves_that_tell_nothing_are_passed_over(home) {
        let store = &*home.store;
        let next = store.configure_endpoints(vec![endpoint("crm")]).await.unwrap();
        let mut other = mail("bob@example.com");
        other.tenant = tenant("other");
        accept(store, other).await;
        let id = queued(store, "ann@example.com").await;
        commit(store, id, 1, 1).await;
        settle(store, id, 1, 2, relayed()).await;
        let page = store.message_changes(next, vec![tenant("demo")], 100).await.unwrap();
        let kinds: Vec<_> = page.changes.iter().map(|(_, change)| change.kind.as_str()).collect();
        assert_eq!(kinds, ["accepted", "relayed"]);
        assert_eq!(page.next, next + 4);
        // In steps it is the same.
        let first = store.message_changes(next, vec![tenant("demo")], 1).await.unwrap();
        let second = store.message_changes(first.next, vec![tenant("demo")], 1).await.unwrap();
        assert_eq!([first.changes, second.changes].concat(), page.changes);
    }

    async fn pushes_of_one_subject_go_one_after_the_other_and_others_pass(home) {
        let store = &*home.store;
        keep(store, vec![push("a"), push("a"), push("b")], 1).await;
        assert_eq!(bodies(store, 0).await, Vec::<String>::new());
        let first = due(store, "crm", 1).await;
        assert_eq!(first.iter().map(|push| push.body.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        settle_as(store, first[0].id, again(100), 2).await;
        settle_as(store, first[1].id, Settling::Delivered, 2).await;
        assert_eq!(bodies(store, 99).await, Vec::<String>::new());
        let retried = due(store, "crm", 100).await;
        assert_eq!((retried.len(), retried[0].id, retried[0].attempts), (1, first[0].id, 1));
        settle_as(store, first[0].id, Settling::Delivered, 100).await;
        let last = due(store, "crm", 100).await;
        assert!(last.len() == 1 && last[0].id != first[0].id);
        assert_eq!(store.settle_push(first[0].id, again(1), at(100)).await.unwrap(), PushSettled::NoPush);
    }

    async fn a_dead_letter_keeps_nobody_waiting_and_is_replayed_with_its_id_from_the_start(home) {
        let store = &*home.store;
        keep(store, vec![push("a"), push("a")], 1).await;
        let first = due(store, "crm", 1).await[0].clone();
        settle_as(store, first.id, dead(), 2).await;
        let second = due(store, "crm", 2).await[0].clone();
        assert!(second.id != first.id);
        let letters = store.dead_pushes(Some(endpoint("crm")), 10).await.unwrap();
        assert_eq!(letters, store.dead_pushes(None, 10).await.unwrap());
        assert_eq!((letters.len(), letters[0].id, letters[0].state), (1, first.id, PushState::Dead));
        assert_eq!((letters[0].failure.as_deref(), letters[0].tried_at), (Some("timed-out"), Some(at(2))));
        assert_eq!((counts(store, "crm").await.pending, counts(store, "crm").await.dead), (1, 1));

        let since = |since: Timestamp| PushesToReplay::Of { endpoint: endpoint("crm"), since };
        assert_eq!(store.replay_pushes(since(at(2)), at(3)).await.unwrap(), 0);
        assert_eq!(store.replay_pushes(since(at(1)), at(3)).await.unwrap(), 1);
        settle_as(store, second.id, Settling::Delivered, 3).await;
        let replayed = due(store, "crm", 3).await[0].clone();
        assert_eq!((replayed.id, replayed.attempts), (first.id, 0));
        let ids = PushesToReplay::Ids(vec![first.id]);
        assert_eq!(store.replay_pushes(ids.clone(), at(4)).await.unwrap(), 0, "it is not dead");
        settle_as(store, first.id, dead(), 4).await;
        assert_eq!(store.replay_pushes(ids, at(4)).await.unwrap(), 1);
        assert_eq!(store.push(first.id).await.unwrap().unwrap().due_at, Some(at(4)));
    }

    async fn an_endpoint_that_is_gone_is_off_until_an_operator_switches_it_on(home) {
        let store = &*home.store;
        keep(store, vec![push("a")], 1).await;
        assert!(!store.enable_endpoint(&endpoint("crm")).await.unwrap());
        let id = due(store, "crm", 1).await[0].id;
        settle_as(store, id, Settling::EndpointGone, 2).await;
        home.crash().await;
        let store = &*home.store;
        store.configure_endpoints(vec![endpoint("crm")]).await.unwrap();
        let off = counts(store, "crm").await;
        assert_eq!((off.state, off.off_at, off.pending), (EndpointState::Off, Some(at(2)), 1));
        assert!(store.enable_endpoint(&endpoint("crm")).await.unwrap());
        assert_eq!(counts(store, "crm").await.state, EndpointState::On);
        let waits = due(store, "crm", 2).await[0].clone();
        assert_eq!((waits.id, waits.attempts), (id, 0));
    }

    async fn what_is_too_old_or_too_many_is_dropped_the_dead_first_and_counted(home) {
        let store = &*home.store;
        keep(store, vec![push("a"), push("b"), push("c"), push("d")], 1).await;
        let dead_one = due(store, "crm", 1).await[2].id;
        settle_as(store, dead_one, dead(), 2).await;
        let drop = |before, most| store.drop_pushes(vec![endpoint("crm")], at(before), most, 100);
        assert_eq!(drop(1, 4).await.unwrap(), 0);
        assert_eq!(drop(1, 2).await.unwrap(), 2);
        assert_eq!(bodies(store, 2).await, ["b", "d"]);
        assert_eq!(drop(2, 2).await.unwrap(), 2);
        let left = counts(store, "crm").await;
        assert_eq!((left.pending, left.dead, left.dropped), (0, 0, 4));
    }

    async fn a_customer_is_told_once_and_not_at_all_of_a_removal_that_was_none(home) {
        let store = &*home.store;
        store.configure_endpoints(vec![endpoint("crm")]).await.unwrap();
        let wanting = || vec![(tenant("demo"), vec![endpoint("crm").endpoint])];
        let record = async |second, kind, wallet| {
            let events = vec![of("C-1", event(second, "P-1", kind, wallet))];
            store.record(&tenant("demo"), Actor::Webhook, events, rules()).await.unwrap();
        };
        let told = async |now: i64| {
            while store.push_wallets(wanting(), at(now), 1).await.unwrap() > 0 {}
            let mut told = Vec::new();
            for push in due(store, "crm", now).await {
                told.push(serde_json::from_str::<Value>(&push.body).unwrap());
                settle_as(store, push.id, Settling::Delivered, now).await;
            }
            told
        };
        let settle = i64::try_from(Duration::from_mins(10).as_secs()).unwrap();
        record(10, EventKind::Installed, Wallet::Apple).await;
        let first = told(10).await;
        assert_eq!(first.len(), 1);
        assert_eq!(first[0]["type"], "wallet.changed");
        assert_eq!(first[0]["timestamp"], "2026-01-01T00:00:10.000Z");
        assert_eq!(
            first[0]["data"],
            serde_json::json!({
                "customerId": "C-1", "walletStatus": "apple", "joined": null, "previousWalletStatus": "none",
                "appleWalletInstalledAt": "2026-01-01T00:00:10.000Z", "googleWalletInstalledAt": null,
                "walletLastChangedAt": "2026-01-01T00:00:10.000Z", "walletLastEvent": "installed",
            })
        );
        // Removed and back within the time: nobody is told.
        record(20, EventKind::Uninstalled, Wallet::Apple).await;
        assert_eq!(told(30).await, Vec::<Value>::new());
        record(40, EventKind::Installed, Wallet::Apple).await;
        assert_eq!(told(40 + 2 * settle).await, Vec::<Value>::new());
        // Removed for good: told when it has settled, once.
        record(2_000, EventKind::Uninstalled, Wallet::Apple).await;
        assert_eq!(told(1_999 + settle).await, Vec::<Value>::new());
        let removed = told(2_000 + settle).await;
        assert_eq!(removed.len(), 1);
        let data = &removed[0]["data"];
        assert_eq!((&data["walletStatus"], &data["previousWalletStatus"]), (&"none".into(), &"apple".into()));
        assert_eq!(told(9_000).await, Vec::<Value>::new());
        // Several changes before anybody looked are one.
        record(9_000, EventKind::Installed, Wallet::Apple).await;
        record(9_001, EventKind::Installed, Wallet::Google).await;
        let both = told(9_001).await;
        assert_eq!((both.len(), &both[0]["data"]["walletStatus"]), (1, &"both".into()));
        // What is removed and back meanwhile is not told either when another wallet changes in between.
        record(9_100, EventKind::Uninstalled, Wallet::Apple).await;
        record(9_101, EventKind::Uninstalled, Wallet::Google).await;
        record(9_102, EventKind::Installed, Wallet::Google).await;
        assert_eq!(told(9_102).await, Vec::<Value>::new());
        record(9_103, EventKind::Installed, Wallet::Apple).await;
        assert_eq!(told(9_103 + 2 * settle).await, Vec::<Value>::new());
    }

    async fn a_receiver_that_comes_later_is_told_of_a_removal_of_what_was_there_before(home) {
        let store = &*home.store;
        let record = async |second, kind, pushed| {
            let events = vec![of("C-1", event(second, "P-1", kind, Wallet::Apple))];
            store.record(&tenant("demo"), Actor::Webhook, events, RecordRules { pushed, ..rules() }).await.unwrap();
        };
        record(1, EventKind::Installed, Pushed::No).await;
        store.configure_endpoints(vec![endpoint("crm")]).await.unwrap();
        record(2, EventKind::Uninstalled, Pushed::Yes).await;
        let wanting = vec![(tenant("demo"), vec![endpoint("crm").endpoint])];
        assert_eq!(store.push_wallets(wanting, at(2_000), 10).await.unwrap(), 1);
        let told: Value = serde_json::from_str(&due(store, "crm", 2_000).await[0].body).unwrap();
        assert_eq!((&told["data"]["walletStatus"], &told["data"]["previousWalletStatus"]), (&"none".into(), &"apple".into()));
    }

    async fn where_nobody_wants_to_know_no_wallet_stays_due(home) {
        let store = &*home.store;
        let events = vec![of("C-1", event(1, "P-1", EventKind::Installed, Wallet::Apple))];
        store.record(&tenant("demo"), Actor::Webhook, events, rules()).await.unwrap();
        assert_eq!(store.push_wallets(Vec::new(), at(1), 10).await.unwrap(), 1);
        assert_eq!(store.push_wallets(Vec::new(), at(1), 10).await.unwrap(), 0);
    }
}
