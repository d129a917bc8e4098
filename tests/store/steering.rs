//! Steering: one message, many by a filter, and what there is to steer.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use postern::domain::audit::Actor;
use postern::domain::fact::Fact;
use postern::domain::ids::MessageId;
use postern::domain::lane::{Lane, UnknownPolicy};
use postern::domain::message::{Acceptance, NewMessage, Outcome, Reason, Settled, Status, Verdict};
use postern::domain::verb::{Refused, Verb};
use postern::store::{Batch, MessageFilter, Order, OrderToMany, StandingCount, Steered, Store, Swept};

use crate::harness::*;

const RETRY: Verb = Verb::Retry { deliver_by: None };

fn retry_by(seconds: i64) -> Verb {
    Verb::Retry { deliver_by: Some(at(seconds)) }
}

fn order(verb: Verb, now: i64) -> Order {
    Order { verb, at: at(now), actor: Actor::Command("queue"), because: Some("a trial".parse().unwrap()) }
}

async fn steer(store: &dyn Store, id: MessageId, verb: Verb, now: i64) -> Steered {
    store.steer(&tenant("demo"), id, order(verb, now)).await.unwrap()
}

/// Steers a message with which it can be done; the state it is in then.
async fn steered(store: &dyn Store, id: MessageId, verb: Verb, now: i64) -> Status {
    match steer(store, id, verb, now).await {
        Steered::Done(shown) => {
            assert_eq!(*shown, view(store, id).await);
            assert_eq!(shown.reason, Some(Reason::Operator));
            shown.status
        }
        other => panic!("{verb}: {other:?}"),
    }
}

/// Gives an order about many, batch by batch; what it did in all, and in how many batches.
async fn sweep_with(store: &dyn Store, filter: MessageFilter, verb: Verb, now: i64) -> (Batch, usize) {
    let (mut sum, mut batches, mut filter) = (Batch::default(), 0, filter);
    loop {
        let many = OrderToMany { tenant: tenant("demo"), filter: filter.clone(), order: order(verb, now) };
        let batch = store.steer_matching(many).await.unwrap();
        batches += 1;
        sum.done += batch.done;
        sum.in_flight += batch.in_flight;
        sum.refused += batch.refused;
        match batch.next {
            Some(next) => filter.before = Some(next),
            None => return (sum, batches),
        }
    }
}

fn any(limit: usize) -> MessageFilter {
    MessageFilter { limit, ..MessageFilter::default() }
}

async fn claimed(store: &dyn Store, now: i64) -> Vec<MessageId> {
    let candidates = store.claim(claim(now, &[("example.com", 99)])).await.unwrap();
    store.give_back(&ids(&candidates));
    ids(&candidates)
}

/// Some messages, all accepted at once.
async fn accept_all(store: &dyn Store, messages: Vec<NewMessage>) -> Vec<MessageId> {
    join_all(messages.into_iter().map(|message| async { accept(store, message).await.id })).await
}

on_every_database! {
    async fn a_held_message_is_not_sent_until_it_is_released(home) {
        let store = &*home.store;
        let id = queued(store, "ann@example.com").await;
        assert_eq!(steered(store, id, Verb::Hold, 1).await, Status::Held);
        assert!(claimed(store, 2).await.is_empty());
        assert_eq!(view(store, id).await.next_attempt_at, None);
        assert_eq!(commit(store, id, 1, 2).await, Verdict::Stop);
        assert_eq!(steered(store, id, Verb::Release, 3).await, Status::Queued);
        assert_eq!(view(store, id).await.next_attempt_at, Some(at(3)));
        assert_eq!(claimed(store, 3).await, [id]);
        assert_eq!(commit(store, id, 1, 3).await, Verdict::Go);
    }

    async fn every_verb_leaves_a_leaf_with_its_actor_and_the_operators_words(home) {
        let store = &*home.store;
        let id = queued(store, "ann@example.com").await;
        steered(store, id, Verb::Hold, 1).await;
        steered(store, id, Verb::Release, 2).await;
        steered(store, id, retry_by(2_000), 3).await;
        let without = Order { because: None, ..order(Verb::Cancel, 4) };
        assert!(matches!(store.steer(&tenant("demo"), id, without).await.unwrap(), Steered::Done(_)));
        assert_eq!(kinds(store, id).await, ["accepted", "held", "released", "retried", "cancelled"]);
        let leaves = leaves(store, id).await;
        for (leaf, from) in leaves[1..].iter().zip(["queued", "held", "queued", "queued"]) {
            assert_eq!((&leaf["actor"], &leaf["from"]), (&"command:queue".into(), &from.into()), "{leaf}");
            assert_eq!(leaf["reason"], "operator");
        }
        assert_eq!((&leaves[1]["because"], leaves[4].get("because")), (&"a trial".into(), None));
        assert_eq!(leaves[3]["deliverBy"], "2026-01-01T00:33:20.000Z");
        assert_eq!((leaves[1].get("deliverBy"), &leaves[3]["at"]), (None, &"2026-01-01T00:00:03.000Z".into()));
    }

    async fn while_an_attempt_is_past_its_commit_point_every_verb_is_in_flight_and_changes_nothing(home) {
        let store = &*home.store;
        let id = queued(store, "ann@example.com").await;
        commit(store, id, 1, 1).await;
        let before = view(store, id).await;
        for verb in [Verb::Cancel, Verb::Hold, Verb::Release, RETRY, retry_by(2_000)] {
            let refused = Steered::Refused { why: Refused::InFlight, status: Status::Queued };
            assert_eq!(steer(store, id, verb, 2).await, refused, "{verb:?}");
            let (sum, _) = sweep_with(store, any(9), verb, 2).await;
            // A release never applies to what is queued: it is not even asked for.
            let asked = u64::from(verb != Verb::Release);
            assert_eq!(sum, Batch { in_flight: asked, ..Batch::default() }, "{verb:?}");
        }
        assert_eq!(view(store, id).await, before);
        assert_eq!(settle(store, id, 1, 3, deferred(60)).await, Settled::Applied);
        assert_eq!(steered(store, id, Verb::Cancel, 4).await, Status::Cancelled);
        assert_eq!(kinds(store, id).await, ["accepted", "attempt-committed", "deferred", "cancelled"]);
    }

    async fn a_hold_between_claim_and_commit_point_stops_the_attempt(home) {
        let store = &*home.store;
        let id = queued(store, "ann@example.com").await;
        assert_eq!(ids(&store.claim(claim(1, &[("example.com", 9)])).await.unwrap()), [id]);
        assert!(store.outgoing(id).await.unwrap().is_some());
        steered(store, id, Verb::Hold, 1).await;
        assert!(store.outgoing(id).await.unwrap().is_none(), "the relay is not even asked");
        assert_eq!(commit(store, id, 1, 2).await, Verdict::Stop);
        assert_eq!(settle(store, id, 0, 2, deferred(60)).await, Settled::Stale, "a refusal at RCPT comes too late");
        assert_eq!(view(store, id).await.status, Status::Held);
        store.give_back(&[id]);
        steered(store, id, Verb::Release, 3).await;
        assert_eq!(claimed(store, 3).await, [id]);
    }

    async fn what_was_held_since_it_was_claimed_is_offered_to_no_relay(home) {
        let store = &*home.store;
        let (alone, among_many) = (queued(store, "ann@example.com").await, queued(store, "bob@example.com").await);
        assert_eq!(store.claim(claim(1, &[("example.com", 9)])).await.unwrap().len(), 2);
        steered(store, alone, Verb::Hold, 1).await;
        assert_eq!(sweep_with(store, any(9), Verb::Hold, 1).await.0.done, 1);
        for id in [alone, among_many] {
            assert!(store.outgoing(id).await.unwrap().is_none());
        }
    }

    async fn a_time_to_come_outlives_hold_and_release(home) {
        let store = &*home.store;
        let mut later = mail("ann@example.com");
        later.due_at = at(500);
        let id = accept(store, later).await.id;
        steered(store, id, Verb::Hold, 1).await;
        steered(store, id, Verb::Release, 2).await;
        assert_eq!(view(store, id).await.next_attempt_at, Some(at(500)));
        assert!(claimed(store, 499).await.is_empty());
        assert_eq!(steered(store, id, RETRY, 3).await, Status::Queued);
        assert_eq!(claimed(store, 3).await, [id], "retry means now");
    }

    async fn what_was_deferred_is_due_now_and_keeps_its_attempts(home) {
        let store = &*home.store;
        let id = queued(store, "ann@example.com").await;
        settle(store, id, 0, 1, deferred(600)).await;
        assert_eq!(steered(store, id, RETRY, 5).await, Status::Queued);
        let shown = view(store, id).await;
        assert_eq!((shown.attempts, shown.next_attempt_at), (1, Some(at(5))));
        assert_eq!(shown.relay_reply.as_deref(), Some("450 4.2.1 busy"));
    }

    async fn an_unknown_that_is_sent_again_by_hand_is_held_when_it_is_unknown_again(home) {
        for verb in [RETRY, Verb::Release] {
            let store = &*home.store;
            let id = with_unknown(store, mail("ann@example.com"), 100).await;
            if verb == Verb::Release {
                steered(store, id, Verb::Hold, 3).await;
            }
            steered(store, id, verb, 3).await;
            assert_eq!(commit(store, id, 2, 4).await, Verdict::Go);
            settle(store, id, 2, 5, unknown(10)).await;
            store.decide_unknown(at(10), per_lane(UnknownPolicy::ResendOnce), 9).await.unwrap();
            let shown = view(store, id).await;
            assert_eq!((shown.status, shown.reason), (Status::Held, Some(Reason::UnknownHeld)), "{verb}");
            assert!(shown.may_have_been_sent);
        }
    }

    async fn what_may_have_been_sent_says_so_when_it_is_held_or_cancelled_and_never_expires(home) {
        let store = &*home.store;
        let (held, ended) =
            (with_unknown(store, mail("a@example.com"), 10).await, with_unknown(store, mail("b@example.com"), 10).await);
        steered(store, held, Verb::Hold, 3).await;
        assert_eq!(steered(store, ended, Verb::Cancel, 3).await, Status::Cancelled);
        assert_eq!(store.decide_unknown(at(10), per_lane(UnknownPolicy::ResendOnce), 9).await.unwrap().total(), 0);
        assert_eq!(store.sweep(at(5_000), 9).await.unwrap(), Swept::default());
        for id in [held, ended] {
            assert!(view(store, id).await.may_have_been_sent);
        }
        assert_eq!(view(store, ended).await.ended_at, Some(at(3)));
        let refused = Steered::Refused { why: Refused::DeadlineNeeded, status: Status::Held };
        assert_eq!(steer(store, held, Verb::Release, 5_000).await, refused);
        steered(store, held, retry_by(6_000), 5_000).await;
        assert_eq!(store.sweep(at(6_000), 9).await.unwrap(), Swept { held: 1, ..Swept::default() });
    }

    async fn the_deadline_of_what_is_held_goes_on_and_of_what_was_cancelled_does_not(home) {
        let store = &*home.store;
        let (held, ended) = (queued(store, "a@example.com").await, queued(store, "b@example.com").await);
        steered(store, held, Verb::Hold, 1).await;
        steered(store, ended, Verb::Cancel, 1).await;
        assert_eq!(store.sweep(at(1_000), 9).await.unwrap(), Swept { expired: 1, ..Swept::default() });
        assert_eq!(view(store, held).await.status, Status::Expired);
        assert_eq!(view(store, ended).await.status, Status::Cancelled);
    }

    async fn what_ended_unsent_is_sent_again_only_with_a_new_deadline(home) {
        let store = &*home.store;
        let (expired, bounced) = (queued(store, "a@example.com").await, queued(store, "b@example.com").await);
        settle(store, bounced, 0, 1, Outcome::Bounced { reason: Reason::RelayRefused, reply: None, of_recipient: true }).await;
        assert_eq!(store.sweep(at(1_000), 9).await.unwrap().expired, 1);
        for (id, status) in [(expired, Status::Expired), (bounced, Status::Bounced)] {
            let refused = Steered::Refused { why: Refused::DeadlineNeeded, status };
            assert_eq!(steer(store, id, RETRY, 1_500).await, refused);
            assert_eq!(steered(store, id, retry_by(3_000), 1_500).await, Status::Queued);
            let shown = view(store, id).await;
            assert_eq!((shown.deliver_by, shown.ended_at), (at(3_000), None));
            assert_eq!(commit(store, id, 9, 1_501).await, Verdict::Go);
            settle(store, id, 9, 1_502, relayed()).await;
            assert_eq!(view(store, id).await.status, Status::Relayed);
        }
        let again = queued(store, "c@example.com").await;
        steered(store, again, retry_by(4_000), 900).await;
        assert_eq!(claimed(store, 3_999).await, [again], "a new deadline holds for the living, too");
        assert_eq!(store.sweep(at(4_000), 9).await.unwrap().expired, 1);
    }

    async fn a_mail_whose_fact_another_has_taken_since_is_not_sent_again(home) {
        let store = &*home.store;
        let stating = |recipient: &str, seconds| {
            let fact = Some(Fact { name: "welcome/1".into(), expires_at: Some(at(5_000)) });
            NewMessage { fact, accepted_at: at(seconds), ..mail(recipient) }
        };
        let first = accept(store, stating("ann@example.com", 0)).await;
        settle(store, first.id, 0, 1, Outcome::Bounced { reason: Reason::RelayRefused, reply: None, of_recipient: true }).await;
        let second = accept(store, stating("ann@example.com", 2)).await;
        let refused = Steered::Refused { why: Refused::FactTaken, status: Status::Bounced };
        assert_eq!(steer(store, first.id, retry_by(2_000), 3).await, refused);
        assert_eq!(sweep_with(store, any(9), retry_by(2_000), 3).await.0, Batch { done: 1, refused: 1, ..Batch::default() });
        settle(store, second.id, 0, 4, Outcome::Bounced { reason: Reason::RelayRefused, reply: None, of_recipient: true }).await;
        steered(store, second.id, retry_by(2_000), 5).await;
        let third = store.accept(stating("ann@example.com", 6)).await.unwrap();
        assert!(matches!(third, Acceptance::Deduplicated(known) if known.id == second.id), "what lives again is known again");
        steered(store, first.id, retry_by(9_000), 5_000).await;
    }

    async fn nobody_steers_another_tenants_message(home) {
        let store = &*home.store;
        let id = queued(store, "ann@example.com").await;
        let stranger = tenant("other");
        assert_eq!(store.steer(&stranger, id, order(Verb::Cancel, 1)).await.unwrap(), Steered::NoMessage);
        assert_eq!(steer(store, new_id(), Verb::Cancel, 1).await, Steered::NoMessage);
        let many = OrderToMany { tenant: stranger.clone(), filter: any(9), order: order(Verb::Cancel, 1) };
        assert_eq!(store.steer_matching(many).await.unwrap(), Batch::default());
        assert_eq!(store.count(&stranger, any(9)).await.unwrap(), BTreeMap::new());
        assert_eq!(kinds(store, id).await, ["accepted"]);
    }

    async fn many_are_steered_in_batches_each_once(home) {
        let store = &*home.store;
        let messages: Vec<_> = (0..25).map(|n| mail(&format!("user{n}@example.com"))).collect();
        let all = accept_all(store, messages).await;
        let done = |done| Batch { done, ..Batch::default() };
        assert_eq!(sweep_with(store, any(10), Verb::Hold, 1).await, (done(25), 3));
        assert_eq!(sweep_with(store, any(10), Verb::Hold, 1).await, (done(0), 1), "held ones are passed over");
        assert_eq!(sweep_with(store, any(5), Verb::Release, 2).await, (done(25), 5));
        // What it becomes does not bring it up again.
        assert_eq!(sweep_with(store, any(10), RETRY, 3).await, (done(25), 3));
        for id in all {
            assert_eq!(kinds(store, id).await, ["accepted", "held", "released", "retried"]);
        }
    }

    async fn an_order_about_many_finds_what_its_filter_says_and_nothing_else(home) {
        let store = &*home.store;
        let one = queued(store, "ann@example.com").await;
        let mut other = mail("bob@shop.example");
        (other.lane, other.template, other.accepted_at) = (Lane::Urgent, None, at(10));
        other.tags = vec!["winter".into()];
        let two = accept(store, other).await.id;
        for (filter, found) in [
            (MessageFilter { domain: Some("shop.example".into()), ..any(9) }, two),
            (MessageFilter { domain: Some("example.com".into()), ..any(9) }, one),
            (MessageFilter { recipient: Some("bob@shop.example".into()), ..any(9) }, two),
            (MessageFilter { tag: Some("winter".into()), ..any(9) }, two),
            (MessageFilter { template: Some("welcome".into()), ..any(9) }, one),
            (MessageFilter { lane: Some(Lane::Urgent), ..any(9) }, two),
            (MessageFilter { until: Some(at(10)), ..any(9) }, one),
            (MessageFilter { since: Some(at(10)), ..any(9) }, two),
        ] {
            let queued = [(Status::Queued, 1)].into();
            assert_eq!(store.count(&tenant("demo"), filter.clone()).await.unwrap(), queued, "{filter:?}");
            assert_eq!(sweep_with(store, filter.clone(), Verb::Hold, 1).await.0.done, 1, "{filter:?}");
            let listed = store.messages(&tenant("demo"), filter.clone()).await.unwrap().messages;
            assert_eq!(listed.iter().map(|shown| (shown.id, shown.status)).collect::<Vec<_>>(), [(found, Status::Held)]);
            let by_reason = MessageFilter { reason: Some(Reason::Operator), ..filter.clone() };
            assert_eq!(sweep_with(store, by_reason, Verb::Release, 2).await.0.done, 1, "{filter:?}");
        }
        let nothing = MessageFilter { reason: Some(Reason::RelayRefused), ..any(9) };
        assert_eq!(sweep_with(store, nothing, Verb::Hold, 3).await.0, Batch::default());
    }

    async fn an_order_about_many_counts_those_whose_deadline_has_passed_as_refused(home) {
        let store = &*home.store;
        queued(store, "ann@example.com").await;
        let mut longer = mail("bob@example.com");
        longer.deliver_by = at(5_000);
        accept(store, longer).await;
        let (sum, _) = sweep_with(store, any(9), RETRY, 1_000).await;
        assert_eq!(sum, Batch { done: 1, refused: 1, ..Batch::default() });
    }

    async fn the_figures_say_what_stands_where_and_why_it_is_held(home) {
        let store = &*home.store;
        let (early, late) = (queued(store, "a@example.com").await, queued(store, "b@example.com").await);
        let mut later = mail("c@example.com");
        later.accepted_at = at(50);
        accept(store, later).await;
        let mut other = mail("d@example.com");
        (other.tenant, other.lane) = (tenant("other"), Lane::Urgent);
        accept(store, other).await;
        steered(store, early, Verb::Hold, 1).await;
        settle(store, late, 0, 1, Outcome::Held { reason: Reason::NotConfigured }).await;
        assert_eq!(store.tenants().await.unwrap(), [tenant("demo"), tenant("other")]);
        let line = |status, reason, oldest| StandingCount {
            lane: Lane::Standard,
            status,
            reason,
            messages: 1,
            oldest_accepted_at: at(oldest),
        };
        assert_eq!(
            store.standings(&tenant("demo")).await.unwrap(),
            [
                line(Status::Queued, None, 50),
                line(Status::Held, Some(Reason::NotConfigured), 0),
                line(Status::Held, Some(Reason::Operator), 0),
            ]
        );
        assert_eq!(store.standings(&tenant("other")).await.unwrap()[0].lane, Lane::Urgent);
        assert_eq!(store.count(&tenant("demo"), any(1)).await.unwrap(), [(Status::Queued, 1), (Status::Held, 2)].into());
    }
}

on_every_database! {
    async fn what_holds_a_message_is_told_with_its_attempt_its_time_and_the_last_word(home) {
        let store = &*home.store;
        let id = queued(store, "Ann@Customer.example").await;
        let stored = store.stored(&tenant("demo"), id).await.unwrap().unwrap();
        assert_eq!(stored.message, view(store, id).await);
        assert_eq!((stored.domain.as_str(), stored.due_at, stored.resent), ("customer.example", Some(at(0)), false));
        assert!(stored.under_way.is_none() && stored.word.is_none(), "{stored:?}");

        steered(store, id, Verb::Hold, 5).await;
        let word = store.stored(&tenant("demo"), id).await.unwrap().unwrap().word.unwrap();
        assert_eq!((word.at, word.actor.as_str()), (at(5), "command:queue"));
        assert_eq!(word.because.as_deref(), Some("a trial"));
        steered(store, id, Verb::Release, 6).await;
        let word = store.stored(&tenant("demo"), id).await.unwrap().unwrap().word.unwrap();
        assert_eq!(word.at, at(6), "the last one counts");

        assert_eq!(commit(store, id, 1, 7).await, Verdict::Go);
        let under_way = store.stored(&tenant("demo"), id).await.unwrap().unwrap().under_way.unwrap();
        assert_eq!((under_way.relay, under_way.attempt, under_way.committed_at), (relay("primary"), 1, at(7)));

        assert_eq!(store.stored(&tenant("other"), id).await.unwrap(), None, "another tenant's");
        assert_eq!(store.stored(&tenant("demo"), new_id()).await.unwrap(), None);
    }

    async fn the_pace_counts_what_happened_in_the_last_minute_and_not_what_was_before(home) {
        let store = &*home.store;
        let pace = store.pace(at(0)).await.unwrap();
        assert_eq!((pace.over.as_secs(), pace.accepted, pace.attempts, pace.relayed), (60, 0, 0, 0), "an empty log");
        let old = accept(store, mail("old@customer.example")).await.id;
        for number in 0..3 {
            let mut fresh = mail(&format!("m{number}@customer.example"));
            fresh.accepted_at = at(100);
            accept(store, fresh).await;
        }
        assert_eq!(commit(store, old, 1, 101).await, Verdict::Go);
        settle(store, old, 1, 102, relayed()).await;
        let pace = store.pace(at(120)).await.unwrap();
        assert_eq!((pace.accepted, pace.attempts, pace.relayed), (3, 1, 1));
        let pace = store.pace(at(161)).await.unwrap();
        assert_eq!((pace.accepted, pace.attempts, pace.relayed), (0, 1, 1), "a minute is a minute");
    }

    async fn a_changed_configuration_is_a_leaf_of_nobodys(home) {
        let store = &*home.store;
        let id = queued(store, "ann@customer.example").await;
        store.config_changed(vec!["relays", "tenants"], at(3)).await.unwrap();
        store.config_changed(vec!["log"], at(4)).await.unwrap();
        // The log goes on behind them, for those to whom it belongs.
        steered(store, id, Verb::Hold, 5).await;
        let leaves = store.leaves(&tenant("demo"), id).await.unwrap().unwrap();
        assert_eq!(leaves.iter().map(|leaf| leaf.seq).collect::<Vec<_>>(), [0, 3]);
    }
}
