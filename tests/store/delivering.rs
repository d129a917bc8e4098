//! Delivery: what is due, who has claimed it, the commit point and how attempts end.

use futures_util::future::join_all;
use postern::domain::lane::Lane;
use postern::domain::message::{Outcome, Reason, Settled, Settlement, Status, Verdict};
use postern::domain::reply::Reply;
use postern::store::{Decided, DueDomains};

use crate::harness::*;

fn page(now: i64, after: Option<&str>, limit: usize) -> DueDomains {
    let (lane, tenant) = (Lane::Standard, tenant("demo"));
    DueDomains { lane, tenant, now: at(now), after: after.map(str::to_owned), limit }
}

fn decided_of(decided: Decided) -> usize {
    decided.resent + decided.held
}

on_every_database! {
    async fn due_domains_come_in_pages_in_alphabetical_order(home) {
        let store = &*home.store;
        for recipient in ["a@c.example", "b@c.example", "a@a.example", "a@b.example"] {
            queued(store, recipient).await;
        }
        let mut later = mail("a@aa.example");
        later.due_at = at(10);
        accept(store, later).await;
        let mut other_lane = mail("a@d.example");
        other_lane.lane = Lane::Urgent;
        accept(store, other_lane).await;
        assert_eq!(store.due_domains(page(0, None, 2)).await.unwrap().domains, ["a.example", "b.example"]);
        assert_eq!(store.due_domains(page(0, Some("b.example"), 2)).await.unwrap().domains, ["c.example"]);
        assert_eq!(store.due_domains(page(10, None, 2)).await.unwrap().domains, ["a.example", "aa.example"]);
        let end = store.due_domains(page(0, Some("c.example"), 2)).await.unwrap();
        assert_eq!((end.domains, end.next), (vec![], None));
        assert_eq!(store.due_domains(page(0, None, 2)).await.unwrap().next.as_deref(), Some("b.example"));
    }

    async fn a_page_of_due_domains_ends_although_thousands_are_not_due_yet(home) {
        let store = &*home.store;
        let messages = (0..2_100).map(|n| {
            let mut message = mail(&format!("a@d{n:04}.example"));
            message.due_at = at(100);
            message
        });
        join_all(messages.map(|message| accept(store, message))).await;
        queued(store, "a@due.example").await;
        let first = store.due_domains(page(0, None, 5)).await.unwrap();
        assert_eq!(first.domains, Vec::<String>::new());
        let next = first.next.unwrap();
        let second = store.due_domains(page(0, Some(&next), 5)).await.unwrap();
        assert_eq!((second.domains, second.next), (vec!["due.example".to_owned()], None));
    }

    async fn tenants_that_wait_come_in_order_and_only_those_of_the_lane(home) {
        let store = &*home.store;
        for name in ["charlie", "alpha", "bravo", "alpha"] {
            let mut message = mail("ann@example.com");
            message.tenant = tenant(name);
            accept(store, message).await;
        }
        let mut urgent = mail("ann@example.com");
        urgent.lane = Lane::Urgent;
        let urgent = accept(store, urgent).await.id;
        let waiting = async |lane, after: Option<&str>, limit| {
            let tenants = store.waiting_tenants(lane, after.map(tenant), limit).await.unwrap();
            tenants.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(waiting(Lane::Standard, None, 2).await, ["alpha", "bravo"]);
        assert_eq!(waiting(Lane::Standard, Some("bravo"), 2).await, ["charlie"]);
        assert_eq!(waiting(Lane::Urgent, None, 9).await, ["demo"]);
        settle(store, urgent, 0, 1, Outcome::Held { reason: Reason::NotConfigured }).await;
        assert!(waiting(Lane::Urgent, None, 9).await.is_empty());
    }

    async fn a_claim_walks_on_behind_hundreds_that_are_claimed_already(home) {
        let store = &*home.store;
        let messages = (0..600).map(|n| mail(&format!("user{n}@example.com")));
        join_all(messages.map(|message| accept(store, message))).await;
        let first = store.claim(claim(1, &[("example.com", 550)])).await.unwrap();
        let second = store.claim(claim(1, &[("example.com", 100)])).await.unwrap();
        assert_eq!((first.len(), second.len()), (550, 50));
        assert!(first.iter().all(|claimed| !ids(&second).contains(&claimed.id)));
    }

    async fn a_claim_takes_the_oldest_due_of_each_domain_and_takes_nothing_twice(home) {
        let store = &*home.store;
        let mut second = mail("b@a.example");
        second.due_at = at(5);
        let first = queued(store, "a@a.example").await;
        let second = accept(store, second).await.id;
        let third = queued(store, "a@b.example").await;
        let claimed = store.claim(claim(9, &[("a.example", 1), ("b.example", 9), ("c.example", 9)])).await.unwrap();
        assert_eq!(ids(&claimed), [first, third]);
        assert_eq!((claimed[0].due_at, claimed[0].deliver_by), (at(0), at(1_000)));
        assert_eq!((claimed[0].domain.as_str(), claimed[0].lane), ("a.example", Lane::Standard));
        let claimed = store.claim(claim(9, &[("a.example", 9), ("b.example", 9)])).await.unwrap();
        assert_eq!(ids(&claimed), [second]);
        assert_eq!(store.due_domains(page(9, None, 9)).await.unwrap().domains.len(), 2, "claimed and unclaimed alike");
        store.give_back(&[third, first, new_id()]);
        let claimed = store.claim(claim(9, &[("a.example", 9), ("b.example", 9)])).await.unwrap();
        assert_eq!(ids(&claimed), [first, third]);
    }

    async fn what_is_not_due_too_late_or_on_an_attempt_is_not_claimed(home) {
        let store = &*home.store;
        let mut early = mail("early@a.example");
        early.due_at = at(100);
        accept(store, early).await;
        let mut late = mail("late@a.example");
        late.deliver_by = at(50);
        accept(store, late).await;
        let on_attempt = queued(store, "busy@a.example").await;
        commit(store, on_attempt, 1, 1).await;
        assert!(store.claim(claim(50, &[("a.example", 9)])).await.unwrap().is_empty());
    }

    async fn the_commit_point_lets_one_attempt_through_and_records_it(home) {
        let store = &*home.store;
        let id = queued(store, "ann@example.com").await;
        assert_eq!(commit(store, id, 1, 1).await, Verdict::Go);
        assert_eq!(commit(store, id, 2, 1).await, Verdict::Stop);
        let shown = view(store, id).await;
        assert!(shown.may_have_been_sent, "an attempt is past its commit point");
        assert_eq!((shown.status, shown.attempts), (Status::Queued, 0));
        let leaves = leaves(store, id).await;
        assert_eq!(kinds(store, id).await, ["accepted", "attempt-committed"]);
        assert_eq!((leaves[1]["attempt"].as_u64(), leaves[1]["relay"].as_str()), (Some(1), Some("primary")));
    }

    async fn the_commit_point_stops_what_may_not_be_sent(home) {
        let store = &*home.store;
        let mut early = mail("early@example.com");
        early.due_at = at(100);
        let early = accept(store, early).await.id;
        assert_eq!(commit(store, early, 1, 99).await, Verdict::Stop);
        assert_eq!(commit(store, new_id(), 1, 1).await, Verdict::Stop);
        let id = queued(store, "ann@example.com").await;
        assert_eq!(commit(store, id, 1, 1_000).await, Verdict::Stop, "its deadline has come");
        settle(store, id, 0, 1, Outcome::Held { reason: Reason::NotConfigured }).await;
        assert_eq!(commit(store, id, 1, 1).await, Verdict::Stop);
        assert_eq!(kinds(store, id).await, ["accepted", "held"]);
    }

    async fn a_relayed_message_has_ended_and_keeps_the_relays_words_out_of_the_leaf(home) {
        let store = &*home.store;
        let id = queued(store, "ann@example.com").await;
        commit(store, id, 1, 1).await;
        assert_eq!(settle(store, id, 1, 2, relayed()).await, Settled::Applied);
        let shown = view(store, id).await;
        assert_eq!((shown.status, shown.reason, shown.attempts), (Status::Relayed, None, 1));
        assert_eq!((shown.ended_at, shown.next_attempt_at), (Some(at(2)), None));
        assert_eq!(shown.relay_reply.as_deref(), Some("250 2.0.0 Ok: queued as 4F2A for ann@example.com"));
        assert_eq!((shown.relay, shown.relay_queue_id.as_deref()), (Some(relay("primary")), Some("4F2A")));
        assert!(!shown.may_have_been_sent, "the answer was definite");
        let leaves = leaves(store, id).await;
        assert_eq!(kinds(store, id).await, ["accepted", "attempt-committed", "relayed"]);
        assert_eq!((leaves[2]["code"].as_u64(), leaves[2]["relayQueueId"].as_str()), (Some(250), Some("4F2A")));
        assert!(!leaves[2].to_string().contains("ann"));
    }

    async fn a_deferred_message_is_due_again_at_its_time_and_has_spent_an_attempt(home) {
        let store = &*home.store;
        let id = queued(store, "ann@example.com").await;
        assert_eq!(settle(store, id, 0, 1, deferred(60)).await, Settled::Applied);
        let shown = view(store, id).await;
        assert_eq!((shown.status, shown.reason), (Status::Deferred, Some(Reason::RelayRefused)));
        assert_eq!((shown.attempts, shown.next_attempt_at), (1, Some(at(60))));
        assert_eq!(shown.relay_reply.as_deref(), Some("450 4.2.1 busy"));
        assert!(store.claim(claim(59, &[("example.com", 9)])).await.unwrap().is_empty());
        assert_eq!(ids(&store.claim(claim(60, &[("example.com", 9)])).await.unwrap()), [id]);
        assert_eq!(commit(store, id, 1, 60).await, Verdict::Go);
        assert_eq!(settle(store, id, 1, 61, relayed()).await, Settled::Applied);
        let leaves = leaves(store, id).await;
        assert_eq!(kinds(store, id).await, ["accepted", "deferred", "attempt-committed", "relayed"]);
        assert_eq!((leaves[2]["attempt"].as_u64(), leaves[3]["attempt"].as_u64()), (Some(2), Some(2)));
    }

    async fn a_message_whose_relay_was_lost_is_due_again_and_has_spent_nothing(home) {
        let store = &*home.store;
        let id = queued(store, "ann@example.com").await;
        assert_eq!(commit(store, id, 1, 5).await, Verdict::Go);
        assert_eq!(settle(store, id, 1, 6, Outcome::Returned { next_at: at(6) }).await, Settled::Applied);
        let shown = view(store, id).await;
        assert_eq!((shown.status, shown.reason), (Status::Deferred, Some(Reason::ConnectionLost)));
        assert_eq!((shown.attempts, shown.may_have_been_sent, shown.next_attempt_at), (0, false, Some(at(6))));
        assert_eq!(ids(&store.claim(claim(6, &[("example.com", 9)])).await.unwrap()), [id]);
        assert_eq!(commit(store, id, 2, 7).await, Verdict::Go);
        assert_eq!(settle(store, id, 2, 8, relayed()).await, Settled::Applied);
        assert_eq!(view(store, id).await.attempts, 1);
        let kinds = kinds(store, id).await;
        assert_eq!(kinds, ["accepted", "attempt-committed", "deferred", "attempt-committed", "relayed"]);
        assert_eq!(leaves(store, id).await[2]["spent"], false);
    }

    async fn a_bounced_message_has_ended(home) {
        let store = &*home.store;
        let id = queued(store, "ann@example.com").await;
        let reply = Some(Reply::new(550, "5.1.1 <ann@example.com> unknown".to_owned()));
        assert_eq!(
            settle(store, id, 0, 3, Outcome::Bounced { reason: Reason::RelayRefused, reply, of_recipient: true }).await,
            Settled::Applied
        );
        let shown = view(store, id).await;
        assert_eq!((shown.status, shown.ended_at, shown.attempts), (Status::Bounced, Some(at(3)), 1));
        assert_eq!(leaves(store, id).await[1]["enhanced"], "5.1.1");
    }

    async fn a_held_message_has_spent_nothing_and_waits(home) {
        let store = &*home.store;
        let id = queued(store, "ann@example.com").await;
        let (at, outcome) = (at(1), Outcome::Held { reason: Reason::NotConfigured });
        let settlement = Settlement { id, token: None, relay: None, at, outcome };
        assert_eq!(store.settle(settlement).await.unwrap(), Settled::Applied);
        let shown = view(store, id).await;
        assert_eq!((shown.status, shown.reason), (Status::Held, Some(Reason::NotConfigured)));
        assert_eq!((shown.attempts, shown.next_attempt_at, shown.ended_at), (0, None, None));
        assert!(store.claim(claim(9, &[("example.com", 9)])).await.unwrap().is_empty());
    }

    async fn an_unknown_may_have_been_sent_for_ever(home) {
        let store = &*home.store;
        let id = with_unknown(store, mail("ann@example.com"), 100).await;
        let shown = view(store, id).await;
        assert_eq!((shown.status, shown.reason), (Status::Unknown, Some(Reason::ReplyLost)));
        assert_eq!((shown.attempts, shown.next_attempt_at), (1, None));
        assert!(shown.may_have_been_sent);
        assert_eq!(commit(store, id, 2, 3).await, Verdict::Stop);
        let policy = per_lane(postern::domain::lane::UnknownPolicy::ResendOnce);
        assert_eq!(decided_of(store.decide_unknown(at(100), policy, 9).await.unwrap()), 1);
        assert_eq!(commit(store, id, 2, 101).await, Verdict::Go);
        settle(store, id, 2, 102, relayed()).await;
        let shown = view(store, id).await;
        assert_eq!((shown.status, shown.attempts), (Status::Relayed, 2));
        assert!(shown.may_have_been_sent, "it may have gone out twice");
    }

    async fn a_stale_settlement_tells_what_it_knew_and_changes_nothing(home) {
        let store = &*home.store;
        let id = queued(store, "ann@example.com").await;
        commit(store, id, 1, 1).await;
        assert_eq!(settle(store, id, 2, 2, deferred(60)).await, Settled::Stale, "not the attempt's token");
        assert_eq!(store.recover(at(3), per_lane(MINUTE)).await.unwrap(), 1);
        let before = view(store, id).await;
        assert_eq!(settle(store, id, 1, 4, relayed()).await, Settled::Stale);
        assert_eq!(view(store, id).await, before);
        let leaves = leaves(store, id).await;
        assert_eq!(kinds(store, id).await, ["accepted", "attempt-committed", "resolved", "unknown", "resolved"]);
        assert_eq!((leaves[4]["outcome"].as_str(), leaves[4]["late"].as_bool()), (Some("relayed"), Some(true)));
        assert_eq!(leaves[4]["relayQueueId"], "4F2A");
    }

    async fn a_settlement_without_a_token_never_touches_an_attempt_or_an_ended_message(home) {
        let store = &*home.store;
        let id = queued(store, "ann@example.com").await;
        commit(store, id, 1, 1).await;
        assert_eq!(settle(store, id, 0, 2, deferred(60)).await, Settled::Stale);
        settle(store, id, 1, 3, relayed()).await;
        assert_eq!(settle(store, id, 0, 4, deferred(60)).await, Settled::Stale);
        assert_eq!(settle(store, new_id(), 0, 4, deferred(60)).await, Settled::Stale);
        assert_eq!(kinds(store, id).await, ["accepted", "attempt-committed", "relayed"]);
    }

    async fn what_a_dead_process_left_past_its_commit_point_becomes_unknown(home) {
        let id = queued(&*home.store, "ann@example.com").await;
        let waiting = queued(&*home.store, "bob@example.com").await;
        home.store.claim(claim(1, &[("example.com", 9)])).await.unwrap();
        commit(&*home.store, id, 1, 1).await;
        home.crash().await;
        let store = &*home.store;
        assert!(view(store, id).await.may_have_been_sent);
        assert_eq!(ids(&store.claim(claim(1, &[("example.com", 9)])).await.unwrap()), [waiting]);
        assert_eq!(store.recover(at(5), per_lane(MINUTE)).await.unwrap(), 1);
        assert_eq!(store.recover(at(6), per_lane(MINUTE)).await.unwrap(), 0);
        let shown = view(store, id).await;
        assert_eq!((shown.status, shown.reason, shown.attempts), (Status::Unknown, Some(Reason::Interrupted), 1));
        assert_eq!((shown.relay, shown.may_have_been_sent), (Some(relay("primary")), true));
        assert_eq!(kinds(store, id).await, ["accepted", "attempt-committed", "unknown"]);
        assert_eq!(commit(store, id, 2, 6).await, Verdict::Stop);
        let policy = per_lane(postern::domain::lane::UnknownPolicy::ResendOnce);
        assert_eq!(store.decide_unknown(at(64), policy, 9).await.unwrap(), Decided::default());
        assert_eq!(decided_of(store.decide_unknown(at(65), policy, 9).await.unwrap()), 1);
    }
}
