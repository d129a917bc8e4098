//! Time: unknowns that are decided, deadlines, keys that are forgotten, and tenants that went away.

use futures_util::future::join_all;
use postern::domain::audit::Actor;
use postern::domain::lane::UnknownPolicy::{Hold, ResendOnce};
use postern::domain::message::{Outcome, Reason, Settled, Status, Verdict};
use postern::domain::verb::Verb;
use postern::store::{Decided, Order, Steered, Swept};

use crate::harness::*;

on_every_database! {
    async fn resend_once_sends_one_unknown_once_more_and_holds_the_second(home) {
        let store = &*home.store;
        let id = with_unknown(store, mail("ann@example.com"), 10).await;
        assert_eq!(store.decide_unknown(at(9), per_lane(ResendOnce), 9).await.unwrap(), Decided::default());
        assert_eq!(store.decide_unknown(at(10), per_lane(ResendOnce), 9).await.unwrap(), Decided { resent: 1, held: 0 });
        let shown = view(store, id).await;
        assert_eq!((shown.status, shown.reason), (Status::Queued, Some(Reason::UnknownResent)));
        assert_eq!((shown.next_attempt_at, shown.attempts), (Some(at(10)), 1));
        assert_eq!(commit(store, id, 2, 11).await, Verdict::Go);
        assert_eq!(settle(store, id, 2, 12, unknown(20)).await, Settled::Applied);
        assert_eq!(store.decide_unknown(at(20), per_lane(ResendOnce), 9).await.unwrap(), Decided { resent: 0, held: 1 });
        let shown = view(store, id).await;
        assert_eq!((shown.status, shown.reason), (Status::Held, Some(Reason::UnknownHeld)));
        assert!(shown.may_have_been_sent);
        let leaves = leaves(store, id).await;
        let expected = ["accepted", "attempt-committed", "unknown", "resolved", "attempt-committed", "unknown", "held"];
        assert_eq!(kinds(store, id).await, expected);
        assert_eq!((&leaves[3]["reason"], &leaves[6]["reason"]), (&"unknown-resent".into(), &"unknown-held".into()));
    }

    async fn an_unknown_of_a_lane_that_holds_is_held(home) {
        let store = &*home.store;
        let id = with_unknown(store, mail("ann@example.com"), 10).await;
        assert_eq!(store.decide_unknown(at(10), per_lane(Hold), 9).await.unwrap(), Decided { resent: 0, held: 1 });
        assert_eq!(view(store, id).await.reason, Some(Reason::UnknownHeld));
    }

    async fn an_unknown_past_its_deadline_is_held_and_never_resent_or_expired(home) {
        let store = &*home.store;
        let id = with_unknown(store, mail("ann@example.com"), 10).await;
        assert_eq!(store.sweep(at(2_000), 9).await.unwrap(), Swept::default());
        assert_eq!(store.decide_unknown(at(1_000), per_lane(ResendOnce), 9).await.unwrap(), Decided { resent: 0, held: 1 });
        let shown = view(store, id).await;
        assert_eq!((shown.status, shown.reason), (Status::Held, Some(Reason::DeadlinePassed)));
        assert_eq!(store.sweep(at(2_000), 9).await.unwrap(), Swept::default());
    }

    async fn no_more_unknowns_are_decided_than_asked_for(home) {
        let store = &*home.store;
        for recipient in ["a@example.com", "b@example.com", "c@example.com"] {
            with_unknown(store, mail(recipient), 10).await;
        }
        assert_eq!(store.decide_unknown(at(10), per_lane(Hold), 2).await.unwrap(), Decided { resent: 0, held: 2 });
        assert_eq!(store.decide_unknown(at(10), per_lane(Hold), 2).await.unwrap(), Decided { resent: 0, held: 1 });
    }

    async fn a_message_past_its_deadline_is_expired_if_it_was_certainly_not_sent(home) {
        let store = &*home.store;
        let waiting = queued(store, "queued@example.com").await;
        let again = queued(store, "deferred@example.com").await;
        settle(store, again, 0, 1, deferred(60)).await;
        let held = queued(store, "held@example.com").await;
        settle(store, held, 0, 1, Outcome::Held { reason: Reason::NotConfigured }).await;
        assert_eq!(store.sweep(at(999), 9).await.unwrap(), Swept::default());
        assert_eq!(store.sweep(at(1_000), 9).await.unwrap(), Swept { expired: 3, held: 0, forgotten: 0 });
        for id in [waiting, again, held] {
            let shown = view(store, id).await;
            assert_eq!((shown.status, shown.reason), (Status::Expired, Some(Reason::DeadlinePassed)));
            assert_eq!((shown.ended_at, shown.next_attempt_at), (Some(at(1_000)), None));
            assert_eq!(kinds(store, id).await.last().unwrap(), "expired");
            assert_eq!(commit(store, id, 1, 1_001).await, Verdict::Stop);
        }
    }

    async fn a_message_past_its_deadline_that_may_have_been_sent_is_held_not_expired(home) {
        let store = &*home.store;
        let id = with_unknown(store, mail("ann@example.com"), 10).await;
        store.decide_unknown(at(10), per_lane(ResendOnce), 9).await.unwrap();
        assert_eq!(store.sweep(at(1_000), 9).await.unwrap(), Swept { expired: 0, held: 1, forgotten: 0 });
        let shown = view(store, id).await;
        assert_eq!((shown.status, shown.reason), (Status::Held, Some(Reason::DeadlinePassed)));
        assert_eq!(shown.ended_at, None);
        assert_eq!(kinds(store, id).await.last().unwrap(), "held");
        assert_eq!(store.sweep(at(1_001), 9).await.unwrap(), Swept::default());
    }

    async fn a_sweep_leaves_an_attempt_past_its_commit_point_alone(home) {
        let store = &*home.store;
        let id = queued(store, "ann@example.com").await;
        commit(store, id, 1, 999).await;
        assert_eq!(store.sweep(at(1_000), 9).await.unwrap(), Swept::default());
        assert_eq!(settle(store, id, 1, 1_001, relayed()).await, Settled::Applied);
        assert_eq!(store.sweep(at(1_002), 9).await.unwrap(), Swept::default());
    }

    async fn a_sweep_ends_no_more_than_asked_for_the_oldest_deadline_first(home) {
        let store = &*home.store;
        let late = queued(store, "late@example.com").await;
        let mut earlier = mail("early@example.com");
        earlier.deliver_by = at(500);
        let early = accept(store, earlier).await.id;
        assert_eq!(store.sweep(at(1_000), 1).await.unwrap(), Swept { expired: 1, held: 0, forgotten: 0 });
        assert_eq!(view(store, early).await.status, Status::Expired);
        assert_eq!(view(store, late).await.status, Status::Queued);
    }

    async fn forgotten_keys_are_counted_so_that_more_can_be_forgotten_at_once(home) {
        let store = &*home.store;
        for key in ["one", "two", "three"] {
            let mut message = mail("ann@example.com");
            (message.deliver_by, message.idempotency) = (at(5_000), Some(idempotency(key, 1)));
            accept(store, message).await;
        }
        assert_eq!(store.sweep(at(499), 2).await.unwrap().forgotten, 0);
        assert_eq!(store.sweep(at(500), 2).await.unwrap().forgotten, 2);
        assert_eq!(store.sweep(at(500), 2).await.unwrap().forgotten, 1);
    }

    async fn what_waits_for_a_tenant_that_went_away_is_held_and_nothing_else(home) {
        let store = &*home.store;
        let messages: Vec<_> = (0..1_100).map(|n| mail(&format!("user{n}@example.com"))).collect();
        join_all(messages.iter().map(|message| accept(store, message.clone()))).await;
        let busy = queued(store, "busy@example.com").await;
        commit(store, busy, 1, 1).await;
        let mut kept = mail("ann@example.com");
        kept.tenant = tenant("kept");
        let kept = accept(store, kept).await.id;
        assert_eq!(store.hold_unconfigured(&[tenant("kept")], at(2)).await.unwrap(), 1_100);
        let shown = view(store, messages[0].id).await;
        assert_eq!((shown.status, shown.reason), (Status::Held, Some(Reason::NotConfigured)));
        assert_eq!(kinds(store, messages[1_099].id).await, ["accepted", "held"]);
        assert_eq!(view(store, busy).await.status, Status::Queued);
        assert_eq!(store.message(&tenant("kept"), kept).await.unwrap().unwrap().status, Status::Queued);
        assert_eq!(store.hold_unconfigured(&[tenant("kept")], at(3)).await.unwrap(), 0);
        assert_eq!(store.sweep(at(1_000), 5).await.unwrap().expired, 5, "their deadlines go on");
    }

    async fn a_mail_for_later_whose_tenant_went_away_still_goes_no_sooner_when_it_is_released(home) {
        let store = &*home.store;
        let mut later = mail("ann@example.com");
        later.due_at = at(900);
        let id = accept(store, later).await.id;
        assert_eq!(store.hold_unconfigured(&[], at(1)).await.unwrap(), 1);
        assert_eq!(view(store, id).await.next_attempt_at, None);
        let order = Order { verb: Verb::Release, at: at(2), actor: Actor::Command("queue"), because: None };
        assert!(matches!(store.steer(&tenant("demo"), id, order).await.unwrap(), Steered::Done(_)));
        assert_eq!(view(store, id).await.next_attempt_at, Some(at(900)));
    }
}
