//! The door: one transaction or nothing, one answer for one idempotency key.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use postern::domain::message::{Acceptance, Entry, Reason, Status};
use postern::store::{Content, Repeat, StoreError};

use crate::harness::*;

on_every_database! {
    async fn an_accepted_message_can_be_read_back_as_it_was_given(home) {
        let store = &*home.store;
        let message = mail("Ann Example <Ann@Example.com>");
        let receipt = accept(store, message.clone()).await;
        assert_eq!((receipt.status, receipt.deliver_by), (Status::Queued, at(1_000)));
        assert_eq!(receipt.message_id, message.message_id);
        let shown = view(store, message.id).await;
        assert_eq!(shown.recipient, message.recipient.to_string());
        assert_eq!((shown.status, shown.reason, shown.attempts), (Status::Queued, None, 0));
        assert_eq!((shown.next_attempt_at, shown.ended_at), (Some(at(0)), None));
        assert_eq!((&shown.subject, &shown.tags), (&message.subject, &message.tags));
        assert_eq!((&shown.metadata, &shown.template), (&message.metadata, &message.template));
        assert!(!shown.may_have_been_sent);
        let content = store.content(&tenant("demo"), message.id).await.unwrap();
        assert_eq!(content, Content::Present(message.mime));
    }

    async fn a_suppressed_message_is_kept_and_never_due(home) {
        let store = &*home.store;
        let mut message = mail("ann@example.com");
        message.entry = Entry::Suppressed(Reason::NotAllowed);
        let receipt = accept(store, message).await;
        assert_eq!(receipt.status, Status::Suppressed);
        let shown = view(store, receipt.id).await;
        assert_eq!((shown.status, shown.reason), (Status::Suppressed, Some(Reason::NotAllowed)));
        assert_eq!((shown.ended_at, shown.next_attempt_at), (Some(at(0)), None));
        assert!(store.claim(claim(1, &[("example.com", 9)])).await.unwrap().is_empty());
        assert_eq!(kinds(store, receipt.id).await, ["suppressed"]);
    }

    async fn an_idempotency_key_gives_the_first_answer_again_whatever_became_of_the_message(home) {
        let store = &*home.store;
        let mut first = mail("ann@example.com");
        first.idempotency = Some(idempotency("key", 1));
        first.deliver_by = "2026-01-01T00:10:00.123456789Z".parse().unwrap();
        let receipt = accept(store, first).await;
        commit(store, receipt.id, 1, 1).await;
        settle(store, receipt.id, 1, 2, relayed()).await;
        let mut again = mail("ann@example.com");
        again.idempotency = Some(idempotency("key", 1));
        let id = again.id;
        assert_eq!(store.accept(again).await.unwrap(), Acceptance::Replayed(receipt));
        assert_eq!(store.message(&tenant("demo"), id).await.unwrap(), None);
    }

    async fn an_idempotency_key_of_another_submission_is_a_mismatch_and_keeps_nothing(home) {
        let store = &*home.store;
        let mut first = mail("ann@example.com");
        first.idempotency = Some(idempotency("key", 1));
        accept(store, first).await;
        let mut other = mail("bob@example.com");
        other.idempotency = Some(idempotency("key", 2));
        let id = other.id;
        assert_eq!(store.accept(other).await.unwrap(), Acceptance::IdempotencyMismatch);
        assert_eq!(store.message(&tenant("demo"), id).await.unwrap(), None);
        assert_eq!(store.leaves(&tenant("demo"), id).await.unwrap(), None);
    }

    async fn an_idempotency_key_belongs_to_its_tenant_and_is_forgotten_in_time(home) {
        let store = &*home.store;
        let mut first = mail("ann@example.com");
        first.idempotency = Some(idempotency("key", 1));
        accept(store, first.clone()).await;
        let mut neighbour = mail("ann@example.com");
        (neighbour.tenant, neighbour.idempotency) = (tenant("other"), Some(idempotency("key", 2)));
        accept(store, neighbour).await;
        let mut later = mail("ann@example.com");
        (later.accepted_at, later.idempotency) = (at(500), Some(idempotency("key", 3)));
        accept(store, later).await;
    }

    async fn a_key_answers_before_anything_is_kept_until_it_is_forgotten(home) {
        let store = &*home.store;
        let mut first = mail("ann@example.com");
        first.idempotency = Some(idempotency("key", 1));
        let receipt = accept(store, first).await;
        for (of, key, fingerprint, now, answer) in [
            ("demo", "key", 1, 1, Some(Acceptance::Replayed(receipt.clone()))),
            ("demo", "key", 1, 499, Some(Acceptance::Replayed(receipt))),
            ("demo", "key", 2, 1, Some(Acceptance::IdempotencyMismatch)),
            ("demo", "key", 1, 500, None),
            ("demo", "Key", 1, 1, None),
            ("other", "key", 1, 1, None),
        ] {
            let repeat = Repeat {
                tenant: tenant(of),
                recipient: "ann@example.com".parse().unwrap(),
                idempotency: Some(idempotency(key, fingerprint)),
                fact: None,
                at: at(now),
            };
            let answered = store.replay(repeat).await.unwrap();
            assert_eq!(answered, answer, "{of} {key} {fingerprint} {now}");
        }
    }

    async fn five_hundred_accepted_at_once_each_get_their_own_answer(home) {
        let store = &*home.store;
        let messages: Vec<_> = (0..500).map(|n| mail(&format!("user{n}@example.com"))).collect();
        let answers = join_all(messages.iter().map(|message| store.accept(message.clone()))).await;
        let mut places = BTreeSet::new();
        for (message, answer) in messages.iter().zip(answers) {
            let Ok(Acceptance::Accepted(receipt)) = answer else { panic!("{answer:?}") };
            assert_eq!((receipt.id, &receipt.message_id), (message.id, &message.message_id));
            let leaves = store.leaves(&message.tenant, message.id).await.unwrap().unwrap();
            places.extend(leaves.iter().map(|leaf| leaf.seq));
        }
        assert_eq!(places, (0..500).collect());
    }

    async fn fifty_at_once_with_one_idempotency_key_make_one_message(home) {
        let store = &*home.store;
        let answers = join_all((0..50).map(|_| {
            let mut message = mail("ann@example.com");
            message.idempotency = Some(idempotency("key", 1));
            store.accept(message)
        }))
        .await;
        let (mut accepted, mut seen) = (0, BTreeSet::new());
        for answer in answers {
            match answer.unwrap() {
                Acceptance::Accepted(receipt) => {
                    accepted += 1;
                    seen.insert(receipt.id);
                }
                Acceptance::Replayed(receipt) => {
                    seen.insert(receipt.id);
                }
                other => panic!("the same submission: {other:?}"),
            }
        }
        assert_eq!((accepted, seen.len()), (1, 1));
    }

    async fn one_that_fails_among_others_changes_nothing_and_harms_nobody(home) {
        let store = &*home.store;
        let taken = accept(store, mail("ann@example.com")).await.id;
        let mut bad = mail("bad@example.com");
        (bad.id, bad.idempotency) = (taken, Some(idempotency("bad", 1)));
        let mut messages: Vec<_> = (0..20).map(|n| mail(&format!("user{n}@example.com"))).collect();
        messages.insert(10, bad.clone());
        let answers = join_all(messages.iter().map(|message| store.accept(message.clone()))).await;
        for (place, answer) in answers.iter().enumerate() {
            assert_eq!(answer.is_ok(), place != 10, "{place}: {answer:?}");
        }
        assert!(matches!(answers[10], Err(StoreError::NotPersisted { .. })));
        let mut seqs = vec![];
        for message in &messages {
            seqs.extend(store.leaves(&message.tenant, message.id).await.unwrap().unwrap().iter().map(|leaf| leaf.seq));
        }
        seqs.sort_unstable();
        assert_eq!(seqs, (0..21).collect::<Vec<_>>(), "a leaf is missing, doubled or left over");
        // Its idempotency key was not kept either.
        bad.id = new_id();
        accept(store, bad).await;
    }

    async fn a_leaf_holds_no_address_and_knows_a_person_again(home) {
        let store = &*home.store;
        let first = queued(store, "Ann Example <ann@example.com>").await;
        let second = queued(store, "ANN@example.com").await;
        let other = queued(store, "bob@example.com").await;
        let mut elsewhere = mail("ann@example.com");
        elsewhere.tenant = tenant("other");
        let neighbour = accept(store, elsewhere).await.id;
        let neighbours = store.leaves(&tenant("other"), neighbour).await.unwrap().unwrap();
        let neighbours: serde_json::Value = serde_json::from_slice(&neighbours[0].bytes).unwrap();
        let (first, second, other) = (leaves(store, first).await, leaves(store, second).await, leaves(store, other).await);
        assert_eq!(first[0]["recipient"], second[0]["recipient"]);
        assert_ne!(first[0]["recipient"], other[0]["recipient"]);
        assert_ne!(first[0]["recipient"], neighbours["recipient"]);
        let text = first[0].to_string().to_lowercase();
        for secret in ["ann", "example.com", "card"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(first[0]["mimeBytes"].as_u64().unwrap() > 10);
    }

    async fn a_large_content_comes_back_whole(home) {
        let store = &*home.store;
        let mut message = mail("ann@example.com");
        message.mime = (0..3_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        accept(store, message.clone()).await;
        let outgoing = store.outgoing(message.id).await.unwrap().unwrap();
        assert!(outgoing.mime == message.mime);
        assert_eq!((outgoing.recipient.as_str(), outgoing.attempts), ("ann@example.com", 0));
        assert_eq!(outgoing.envelope_sender.as_str(), "wallet@demo.example");
    }
}
