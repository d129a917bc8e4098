//! Facts: at most one mail for one fact within its window, and what frees it.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use postern::domain::fact::Fact;
use postern::domain::ids::MessageId;
use postern::domain::message::{Acceptance, Entry, NewMessage, Outcome, Reason, Receipt, Status, Verdict};
use postern::store::{Repeat, Store, Swept};

use crate::harness::*;

/// A mail that states the fact `welcome/1`, which is free again at 500 s.
fn stating(recipient: &str) -> NewMessage {
    NewMessage { fact: Some(Fact { name: "welcome/1".to_owned(), expires_at: Some(at(500)) }), ..mail(recipient) }
}

/// The same, handed in later.
fn stating_at(recipient: &str, seconds: i64) -> NewMessage {
    NewMessage { accepted_at: at(seconds), due_at: at(seconds), ..stating(recipient) }
}

fn repeat_of(message: &NewMessage) -> Repeat {
    Repeat {
        tenant: message.tenant.clone(),
        recipient: message.recipient.address.clone(),
        idempotency: message.idempotency.clone(),
        fact: message.fact.as_ref().map(|fact| fact.name.clone()),
        at: message.accepted_at,
    }
}

/// Both ways to ask say that the fact is known by this first answer, and nothing is kept.
async fn assert_known(store: &dyn Store, message: NewMessage, first: &Receipt) {
    let id = message.id;
    let deduplicated = Acceptance::Deduplicated(first.clone());
    assert_eq!(store.replay(repeat_of(&message)).await.unwrap(), Some(deduplicated.clone()));
    assert_eq!(store.accept(message).await.unwrap(), deduplicated);
    assert_eq!(store.message(&tenant("demo"), id).await.unwrap(), None);
}

/// Both ways to ask say that the fact is free; the message takes it.
async fn assert_free(store: &dyn Store, message: NewMessage) -> Receipt {
    assert_eq!(store.replay(repeat_of(&message)).await.unwrap(), None);
    accept(store, message).await
}

async fn bounced(store: &dyn Store, id: MessageId, now: i64) {
    let outcome = Outcome::Bounced { reason: Reason::RelayRefused, reply: None, of_recipient: true };
    settle(store, id, 0, now, outcome).await;
}

on_every_database! {
    async fn a_fact_stated_again_gives_the_first_answer_and_keeps_nothing(home) {
        let store = &*home.store;
        let first = accept(store, stating("Ann <ann@example.com>")).await;
        let again = NewMessage { subject: "Another".into(), template: None, deliver_by: at(2), ..stating_at("ANN@example.com", 1) };
        assert_known(store, again, &first).await;
        assert_eq!(kinds(store, first.id).await, ["accepted"]);
        assert_eq!(store.claim(claim(1, &[("example.com", 9)])).await.unwrap().len(), 1);
    }

    async fn another_recipient_under_the_same_fact_is_refused_and_keeps_nothing(home) {
        let store = &*home.store;
        let first = accept(store, stating("ann@example.com")).await;
        let mut other = stating("bob@example.com");
        other.idempotency = Some(idempotency("key", 1));
        assert_eq!(store.replay(repeat_of(&other)).await.unwrap(), Some(Acceptance::FactTaken));
        assert_eq!(store.accept(other.clone()).await.unwrap(), Acceptance::FactTaken);
        assert_eq!(store.message(&tenant("demo"), other.id).await.unwrap(), None);
        // A refusal is not remembered: the key is free for a submission that is accepted.
        let fixed = NewMessage { fact: None, id: new_id(), idempotency: Some(idempotency("key", 2)), ..other };
        accept(store, fixed).await;
        assert_known(store, stating("ann@example.com"), &first).await;
    }

    async fn a_fact_belongs_to_its_tenant_and_to_its_spelling(home) {
        let store = &*home.store;
        accept(store, stating("ann@example.com")).await;
        let neighbour = NewMessage { tenant: tenant("other"), ..stating("bob@example.com") };
        assert_free(store, neighbour).await;
        let spelt = Some(Fact { name: "Welcome/1".to_owned(), expires_at: None });
        assert_free(store, NewMessage { fact: spelt, ..stating("bob@example.com") }).await;
        accept(store, mail("bob@example.com")).await;
    }

    async fn a_first_that_is_alive_or_was_relayed_or_may_have_been_sent_keeps_its_fact(home) {
        let store = &*home.store;
        let first = accept(store, stating("ann@example.com")).await;
        settle(store, first.id, 0, 1, deferred(50)).await;
        assert_known(store, stating_at("ann@example.com", 2), &first).await;
        commit(store, first.id, 1, 50).await;
        assert_known(store, stating_at("ann@example.com", 51), &first).await;
        settle(store, first.id, 1, 52, unknown(60)).await;
        assert_known(store, stating_at("ann@example.com", 53), &first).await;
        // Sent once more, and refused then: the first copy may still have arrived.
        let policy = per_lane(postern::domain::lane::UnknownPolicy::ResendOnce);
        assert_eq!(store.decide_unknown(at(60), policy, 9).await.unwrap().resent, 1);
        bounced(store, first.id, 61).await;
        assert_eq!(view(store, first.id).await.status, Status::Bounced);
        assert_known(store, stating_at("ann@example.com", 62), &first).await;
        let relayed_one = NewMessage { fact: Some(Fact { name: "b".into(), expires_at: None }), ..mail("ann@example.com") };
        let second = accept(store, relayed_one.clone()).await;
        assert_eq!(commit(store, second.id, 2, 1).await, Verdict::Go);
        settle(store, second.id, 2, 2, relayed()).await;
        assert_known(store, NewMessage { id: new_id(), accepted_at: at(3), ..relayed_one }, &second).await;
    }

    async fn a_first_that_ended_unsent_frees_its_fact_for_anybody(home) {
        let store = &*home.store;
        let first = accept(store, stating("ann@example.com")).await;
        bounced(store, first.id, 1).await;
        let second = assert_free(store, stating_at("bob@example.com", 2)).await;
        assert_known(store, stating_at("bob@example.com", 3), &second).await;
        assert_eq!(store.accept(stating_at("ann@example.com", 4)).await.unwrap(), Acceptance::FactTaken);
        let outcome = Outcome::Suppressed { reason: Reason::NotAllowed };
        settle(store, second.id, 0, 5, outcome).await;
        let third = NewMessage { deliver_by: at(10), ..stating_at("ann@example.com", 6) };
        let third = assert_free(store, third).await;
        assert_eq!(store.sweep(at(11), 9).await.unwrap().expired, 1);
        assert_eq!(view(store, third.id).await.status, Status::Expired);
        assert_free(store, stating_at("ann@example.com", 12)).await;
    }

    async fn a_suppressed_mail_does_not_take_its_fact(home) {
        let store = &*home.store;
        let suppressed = NewMessage { entry: Entry::Suppressed(Reason::NotAllowed), ..stating("ann@example.com") };
        accept(store, suppressed.clone()).await;
        let first = assert_free(store, stating("bob@example.com")).await;
        // Nor does it take one over that is taken.
        let again = NewMessage { id: new_id(), ..suppressed };
        assert_eq!(store.accept(again).await.unwrap(), Acceptance::FactTaken);
        assert_known(store, stating("bob@example.com"), &first).await;
    }

    async fn the_window_counts_from_the_first_acceptance(home) {
        let store = &*home.store;
        let first = accept(store, NewMessage { deliver_by: at(9_000), ..stating("ann@example.com") }).await;
        let later = Some(Fact { name: "welcome/1".to_owned(), expires_at: Some(at(5_000)) });
        assert_known(store, NewMessage { fact: later.clone(), ..stating_at("ann@example.com", 499) }, &first).await;
        let second = assert_free(store, NewMessage { fact: later, ..stating_at("ann@example.com", 500) }).await;
        assert_known(store, stating_at("ann@example.com", 4_999), &second).await;
    }

    async fn a_fact_that_expired_is_forgotten_in_batches_and_one_for_ever_is_not(home) {
        let store = &*home.store;
        for number in 0..5 {
            let fact = Some(Fact { name: format!("f{number}"), expires_at: Some(at(10)) });
            accept(store, NewMessage { fact, ..mail("ann@example.com") }).await;
        }
        let keyed = NewMessage { idempotency: Some(idempotency("key", 1)), ..mail("ann@example.com") };
        accept(store, keyed).await;
        let forever = NewMessage { fact: Some(Fact { name: "for good".into(), expires_at: None }), ..mail("ann@example.com") };
        let first = accept(store, forever.clone()).await;
        let forgotten = |swept: Swept| swept.forgotten;
        assert_eq!(forgotten(store.sweep(at(9), 4).await.unwrap()), 0);
        assert_eq!(forgotten(store.sweep(at(10), 4).await.unwrap()), 4);
        assert_eq!(forgotten(store.sweep(at(500), 4).await.unwrap()), 2, "the last fact and the key");
        assert_eq!(forgotten(store.sweep(at(900), 4).await.unwrap()), 0);
        let again = NewMessage { id: new_id(), accepted_at: at(999_999), ..forever };
        assert_known(store, again, &first).await;
    }

    async fn a_key_that_came_with_a_known_fact_is_bound_to_its_answer(home) {
        let store = &*home.store;
        let first = accept(store, stating("ann@example.com")).await;
        let keyed = |key, fingerprint| NewMessage { idempotency: Some(idempotency(key, fingerprint)), ..stating("ann@example.com") };
        let deduplicated = Acceptance::Deduplicated(first.clone());
        assert_eq!(store.accept(keyed("at once", 1)).await.unwrap(), deduplicated);
        assert_eq!(store.replay(repeat_of(&keyed("before", 1))).await.unwrap(), Some(deduplicated));
        // Also when the fact is free meanwhile.
        bounced(store, first.id, 1).await;
        for key in ["at once", "before"] {
            assert_eq!(store.accept(keyed(key, 1)).await.unwrap(), Acceptance::Replayed(first.clone()));
            assert_eq!(store.accept(keyed(key, 2)).await.unwrap(), Acceptance::IdempotencyMismatch);
        }
    }

    async fn fifty_at_once_that_state_one_fact_make_one_message(home) {
        let store = &*home.store;
        let answers = join_all((0..50).map(|number| {
            let idempotency = (number % 2 == 0).then(|| idempotency(&format!("key {number}"), 1));
            store.accept(NewMessage { idempotency, ..stating("ann@example.com") })
        }))
        .await;
        let (mut accepted, mut seen) = (0, BTreeSet::new());
        for answer in answers {
            match answer.unwrap() {
                Acceptance::Accepted(receipt) => {
                    accepted += 1;
                    seen.insert(receipt.id);
                }
                Acceptance::Deduplicated(receipt) => {
                    seen.insert(receipt.id);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((accepted, seen.len()), (1, 1));
        let claimed = store.claim(claim(1, &[("example.com", 99)])).await.unwrap();
        assert_eq!(claimed.len(), 1);
    }

    async fn a_fact_survives_a_crash(home) {
        let first = accept(&*home.store, stating("ann@example.com")).await;
        home.crash().await;
        assert_known(&*home.store, stating_at("ann@example.com", 1), &first).await;
    }
}
