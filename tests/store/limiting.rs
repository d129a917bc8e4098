//! How many mails one recipient gets, and how many mails there are to be sent at all.

use postern::domain::message::{Acceptance, Entry, NewMessage, Outcome, Reason};
use postern::domain::quantity::Rate;
use postern::store::Store;

use crate::harness::*;

/// A mail accepted at `now` seconds, of which its recipient may have two an hour.
fn limited(recipient: &str, now: i64) -> NewMessage {
    NewMessage { accepted_at: at(now), deliver_by: at(100_000), recipient_limit: Some(limit()), ..mail(recipient) }
}

fn limit() -> Rate {
    "2/h".parse().unwrap()
}

async fn is_refused_for(store: &dyn Store, message: NewMessage, seconds: u64) {
    let id = message.id;
    let wait = std::time::Duration::from_secs(seconds);
    let answer = store.accept(message).await.unwrap();
    assert_eq!(answer, Acceptance::RecipientLimited { limit: limit(), wait });
    assert_eq!(store.message(&tenant("demo"), id).await.unwrap(), None);
    assert_eq!(store.leaves(&tenant("demo"), id).await.unwrap(), None);
}

on_every_database! {
    async fn a_recipient_who_had_enough_gets_the_next_when_the_oldest_of_them_is_old_enough(home) {
        let store = &*home.store;
        accept(store, limited("ann@example.com", 0)).await;
        accept(store, limited("Ann <ANN@Example.com>", 100)).await;
        is_refused_for(store, limited("ann@example.com", 100), 3_500).await;
        is_refused_for(store, limited("ann@example.com", 3_599), 1).await;
        accept(store, limited("ann@example.com", 3_600)).await;
        is_refused_for(store, limited("ann@example.com", 3_600), 100).await;
        accept(store, limited("ann@example.com", 3_700)).await;
    }

    async fn only_the_same_recipient_of_the_same_tenant_is_limited_and_only_who_has_a_limit(home) {
        let store = &*home.store;
        for _ in 0..2 {
            accept(store, limited("ann@example.com", 0)).await;
        }
        accept(store, limited("bob@example.com", 1)).await;
        let mut elsewhere = limited("ann@example.com", 1);
        elsewhere.tenant = tenant("other");
        accept(store, elsewhere).await;
        is_refused_for(store, limited("ann@example.com", 1), 3_599).await;
        accept(store, NewMessage { recipient_limit: None, ..limited("ann@example.com", 1) }).await;
    }

    async fn a_crash_forgets_no_mail_of_a_recipient(home) {
        accept(&*home.store, limited("ann@example.com", 0)).await;
        let relayed_since = accept(&*home.store, limited("ann@example.com", 0)).await.id;
        commit(&*home.store, relayed_since, 1, 1).await;
        settle(&*home.store, relayed_since, 1, 2, relayed()).await;
        home.crash().await;
        is_refused_for(&*home.store, limited("ann@example.com", 60), 3_540).await;
    }

    async fn repeats_are_answered_and_what_is_refused_leaves_no_key_and_takes_no_fact(home) {
        let store = &*home.store;
        let mut first = limited("ann@example.com", 0);
        first.idempotency = Some(idempotency("first", 1));
        let receipt = accept(store, first.clone()).await;
        accept(store, limited("ann@example.com", 0)).await;
        let again = NewMessage { id: new_id(), accepted_at: at(1), ..first };
        assert_eq!(store.accept(again).await.unwrap(), Acceptance::Replayed(receipt));
        let mut refused = limited("ann@example.com", 1);
        refused.idempotency = Some(idempotency("second", 2));
        refused.fact = Some(postern::domain::fact::Fact { name: "welcome".to_owned(), expires_at: None });
        is_refused_for(store, refused.clone(), 3_599).await;
        accept(store, NewMessage { id: new_id(), recipient: "bob@example.com".parse().unwrap(), ..refused }).await;
    }

    async fn a_suppressed_mail_is_never_refused_and_is_counted(home) {
        let store = &*home.store;
        for _ in 0..3 {
            let entry = Entry::Suppressed(Reason::NotAllowed);
            accept(store, NewMessage { entry, ..limited("ann@example.com", 0) }).await;
        }
        is_refused_for(store, limited("ann@example.com", 0), 3_600).await;
    }

    async fn of_many_at_once_no_more_than_the_limit_are_taken(home) {
        let store = &*home.store;
        let answers = (0..20).map(|_| store.accept(limited("ann@example.com", 0)));
        let answers = futures_util::future::join_all(answers).await;
        let taken = answers.into_iter().filter(|answer| matches!(answer, Ok(Acceptance::Accepted(_)))).count();
        assert_eq!(taken, 2);
    }

    async fn live_are_those_to_which_something_may_still_happen(home) {
        let store = &*home.store;
        assert_eq!(store.live().await.unwrap(), 0);
        let [queued, deferring, unknowing, holding, relaying] = [1, 2, 3, 4, 5].map(|n| mail(&format!("user{n}@example.com")));
        accept(store, queued).await;
        for (message, number, outcome) in [
            (deferring, 1, deferred(50)),
            (unknowing, 2, unknown(60)),
            (holding, 3, Outcome::Held { reason: Reason::Fault }),
            (relaying, 4, relayed()),
        ] {
            let id = accept(store, message).await.id;
            commit(store, id, number, 1).await;
            settle(store, id, number, 2, outcome).await;
        }
        let entry = Entry::Suppressed(Reason::NotAllowed);
        accept(store, NewMessage { entry, ..mail("sue@example.com") }).await;
        assert_eq!(store.live().await.unwrap(), 4, "queued, deferred, unknown, held");
        assert!(store.disk_free().is_some_and(|free| free > 0));
    }
}
