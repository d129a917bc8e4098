//! The blast brake: what is held and by which brake, what a decision does with it, and what is remembered of streams.

use postern::domain::audit::Actor;
use postern::domain::brake::watch::Usual;
use postern::domain::brake::{Brake, BrakeStatus, Cause, Decision, Effect, Excess, NewBrake, Stream};
use postern::domain::ids::{BrakeId, KeyId, MessageId};
use postern::domain::lane::Lane;
use postern::domain::message::{Entry, NewMessage, Outcome, Reason, Status, Verdict};
use postern::domain::reply::Reply;
use postern::domain::verb::Verb;
use postern::store::{
    BrakeDecided, BrakeOrder, DecidedBrake, MessageFilter, Order, Store, StreamOutcomes, StreamUsual,
};
use uuid::Uuid;

use crate::harness::*;

const KEY: KeyId = KeyId::from_uuid(Uuid::from_u128(7));

fn brake_id(number: u128) -> BrakeId {
    BrakeId::from_uuid(Uuid::from_u128(number))
}

fn stream() -> Stream {
    Stream { tenant: tenant("demo"), key: KEY, template: Some("welcome".to_owned()) }
}

fn new_brake(number: u128) -> NewBrake {
    let excess = Excess { cause: Cause::Volume, seen: 21, allowed: 20 };
    NewBrake { id: brake_id(number), stream: stream(), excess, effect: Effect::Hold, at: at(1) }
}

fn order(number: u128, decision: Decision, now: i64) -> BrakeOrder {
    let because = Some("a trial".parse().unwrap());
    BrakeOrder { id: brake_id(number), tenant: None, decision, at: at(now), actor: Actor::Command("brake"), because }
}

async fn decide(store: &dyn Store, number: u128, decision: Decision, now: i64) -> Brake {
    match store.decide_brake(order(number, decision, now)).await.unwrap() {
        BrakeDecided::Decided(brake) => brake,
        other => panic!("{other:?}"),
    }
}

/// Carries a decision out, so many messages at a time; how many it was done with.
async fn carry_out(store: &dyn Store, number: u128, now: i64, limit: usize) -> u64 {
    let (mut done, mut after) = (0, None);
    loop {
        let step = store.carry_out_brake(brake_id(number), after, at(now), limit).await.unwrap();
        done += step.done;
        match step.next {
            Some(next) => after = Some(next),
            None => return done,
        }
    }
}

/// Holds what waits, so many looked at in a step; how many are held and how many were in flight.
async fn hold(store: &dyn Store, number: u128, limit: usize) -> (u64, u64) {
    let (mut held, mut in_flight, mut after) = (0, 0, None);
    loop {
        let step = store.hold_stream(brake_id(number), after, at(2), limit).await.unwrap();
        held += step.held;
        in_flight += step.in_flight;
        match step.next {
            Some(next) => after = Some(next),
            None => return (held, in_flight),
        }
    }
}

fn braked(recipient: &str, number: u128) -> NewMessage {
    NewMessage { entry: Entry::Held(brake_id(number)), ..mail(recipient) }
}

async fn shown(store: &dyn Store, number: u128) -> Brake {
    store.brake(brake_id(number)).await.unwrap().unwrap()
}

async fn stands(store: &dyn Store, id: MessageId) -> (Status, Option<Reason>) {
    let view = view(store, id).await;
    (view.status, view.reason)
}

on_every_database! {
    async fn what_is_accepted_while_its_brake_is_on_is_held_and_says_so(home) {
        let store = &*home.store;
        store.engage_brake(new_brake(1)).await.unwrap();
        store.engage_brake(new_brake(1)).await.unwrap();
        let receipt = accept(store, braked("ann@example.com", 1)).await;
        assert_eq!(receipt.status, Status::Held);
        assert_eq!(stands(store, receipt.id).await, (Status::Held, Some(Reason::Brake)));
        assert_eq!(commit(store, receipt.id, 1, 2).await, Verdict::Stop);
        let leaves = leaves(store, receipt.id).await;
        assert_eq!(kinds(store, receipt.id).await, ["accepted", "held"]);
        assert_eq!((&leaves[1]["actor"], &leaves[1]["reason"]), (&"gateway".into(), &"brake".into()));
        assert_eq!(leaves[1]["brakeId"], brake_id(1).to_string());
        let brake = shown(store, 1).await;
        assert_eq!((brake.status(), brake.held, brake.stream), (BrakeStatus::Engaged, 1, stream()));
    }

    async fn a_brake_that_is_not_on_holds_nothing(home) {
        let store = &*home.store;
        let unknown = accept(store, braked("ann@example.com", 9)).await;
        store.engage_brake(NewBrake { effect: Effect::Alarm, ..new_brake(1) }).await.unwrap();
        let alarm = accept(store, braked("bob@example.com", 1)).await;
        store.engage_brake(new_brake(2)).await.unwrap();
        decide(store, 2, Decision::Cancel, 2).await;
        let decided = accept(store, braked("cid@example.com", 2)).await;
        for receipt in [unknown, alarm, decided] {
            assert_eq!(receipt.status, Status::Queued);
            assert_eq!(kinds(store, receipt.id).await, ["accepted"]);
            assert_eq!(commit(store, receipt.id, 1, 3).await, Verdict::Go);
        }
        assert_eq!(hold(store, 2, 99).await, (0, 0));
    }

    async fn what_a_stream_has_waiting_is_held_and_nothing_else(home) {
        let store = &*home.store;
        let waiting = queued(store, "ann@example.com").await;
        let deferred_one = queued(store, "bob@example.com").await;
        settle(store, deferred_one, 0, 1, deferred(60)).await;
        let journey = accept(store, NewMessage { lane: Lane::Journey, ..mail("cid@example.com") }).await.id;
        let ours = [waiting, deferred_one, journey];
        let urgent = accept(store, NewMessage { lane: Lane::Urgent, ..mail("a@example.com") }).await.id;
        let other_template = accept(store, NewMessage { template: None, ..mail("b@example.com") }).await.id;
        let other_key = Actor::Key(KeyId::from_uuid(Uuid::from_u128(8)));
        let other_key = accept(store, NewMessage { actor: other_key, ..mail("c@example.com") }).await.id;
        let by_command = accept(store, NewMessage { actor: Actor::Command("send"), ..mail("d@example.com") }).await.id;
        accept(store, NewMessage { tenant: tenant("other"), ..mail("e@example.com") }).await;
        let in_flight = queued(store, "f@example.com").await;
        assert_eq!(commit(store, in_flight, 9, 1).await, Verdict::Go);

        store.engage_brake(new_brake(1)).await.unwrap();
        assert_eq!(hold(store, 1, 2).await, (3, 1), "two looked at in a step");
        assert_eq!(hold(store, 1, 99).await, (0, 1), "again");
        for id in ours {
            assert_eq!(stands(store, id).await, (Status::Held, Some(Reason::Brake)));
            let leaf = leaves(store, id).await.pop().unwrap();
            assert_eq!((&leaf["kind"], &leaf["brakeId"]), (&"held".into(), &brake_id(1).to_string().into()));
            assert!(store.outgoing(id).await.unwrap().is_none(), "no relay is asked");
        }
        for id in [urgent, other_template, other_key, by_command, in_flight] {
            assert_eq!(stands(store, id).await, (Status::Queued, None));
        }
        assert_eq!(store.count(&tenant("other"), MessageFilter::default()).await.unwrap(), [(Status::Queued, 1)].into());
        settle(store, in_flight, 9, 2, deferred(60)).await;
        assert_eq!(hold(store, 1, 99).await, (1, 0), "what was under way is met when it comes back");
        assert_eq!(shown(store, 1).await.held, 4);
    }

    async fn a_stream_of_no_template_is_a_stream(home) {
        let store = &*home.store;
        let without = accept(store, NewMessage { template: None, ..mail("ann@example.com") }).await.id;
        queued(store, "bob@example.com").await;
        let none = Stream { template: None, ..stream() };
        store.engage_brake(NewBrake { stream: none.clone(), ..new_brake(1) }).await.unwrap();
        assert_eq!(hold(store, 1, 99).await, (1, 0));
        assert_eq!(stands(store, without).await.0, Status::Held);
        assert_eq!(shown(store, 1).await.stream, none);
    }

    async fn a_release_lets_everything_go_on_at_its_time_and_leaves_what_is_too_late(home) {
        let store = &*home.store;
        store.engage_brake(new_brake(1)).await.unwrap();
        let now = accept(store, braked("ann@example.com", 1)).await.id;
        let later = accept(store, NewMessage { due_at: at(500), ..braked("bob@example.com", 1) }).await.id;
        let late = accept(store, NewMessage { deliver_by: at(9), ..braked("cid@example.com", 1) }).await.id;
        let brake = decide(store, 1, Decision::Release, 10).await;
        assert_eq!((brake.status(), brake.decided_at), (BrakeStatus::Releasing, Some(at(10))));
        assert_eq!((brake.held, shown(store, 1).await.held), (0, 3), "others wait for the store: it does not count");
        assert_eq!(carry_out(store, 1, 10, 2).await, 2);
        let brake = shown(store, 1).await;
        assert_eq!((brake.status(), brake.done, brake.held), (BrakeStatus::Released, 2, 1));
        for (id, due) in [(now, 10), (later, 500)] {
            let view = view(store, id).await;
            assert_eq!((view.status, view.next_attempt_at), (Status::Queued, Some(at(due))));
            assert_eq!(view.reason, Some(Reason::Operator));
            let leaf = leaves(store, id).await.pop().unwrap();
            assert_eq!((&leaf["kind"], &leaf["actor"]), (&"released".into(), &"command:brake".into()));
            assert_eq!((&leaf["from"], &leaf["because"]), (&"held".into(), &"a trial".into()));
        }
        assert_eq!(commit(store, now, 1, 10).await, Verdict::Go);
        let usual = Usual { mails: 21.0, refused: 0.0, at: at(10) };
        assert_eq!(store.usual_of_streams(9).await.unwrap(), [StreamUsual { stream: stream(), usual }]);
        assert_eq!(store.sweep(at(10), 9).await.unwrap().expired, 1);
        assert_eq!(stands(store, late).await.0, Status::Expired);
    }

    async fn a_cancel_ends_what_is_held_and_not_what_an_operator_has_in_hand(home) {
        let store = &*home.store;
        store.engage_brake(new_brake(1)).await.unwrap();
        let held = accept(store, braked("ann@example.com", 1)).await.id;
        let released = accept(store, braked("bob@example.com", 1)).await.id;
        let by_hand = Order { verb: Verb::Release, at: at(2), actor: Actor::Command("queue"), because: None };
        store.steer(&tenant("demo"), released, by_hand.clone()).await.unwrap();
        let held_by_hand = accept(store, braked("cid@example.com", 1)).await.id;
        store.steer(&tenant("demo"), held_by_hand, by_hand.clone()).await.unwrap();
        store.steer(&tenant("demo"), held_by_hand, Order { verb: Verb::Hold, ..by_hand }).await.unwrap();
        assert_eq!(hold(store, 1, 99).await, (0, 0), "an operator's word holds");
        decide(store, 1, Decision::Cancel, 3).await;
        assert_eq!(carry_out(store, 1, 3, 99).await, 1);
        assert_eq!(stands(store, held).await, (Status::Cancelled, Some(Reason::Brake)));
        let leaf = leaves(store, held).await.pop().unwrap();
        assert_eq!((&leaf["kind"], &leaf["reason"]), (&"cancelled".into(), &"brake".into()));
        assert_eq!(stands(store, released).await.0, Status::Queued);
        assert_eq!(stands(store, held_by_hand).await, (Status::Held, Some(Reason::Operator)));
        assert_eq!(shown(store, 1).await.status(), BrakeStatus::Cancelled);
    }

    async fn a_decision_that_was_interrupted_is_carried_out_by_whoever_comes_next(home) {
        home.store.engage_brake(new_brake(1)).await.unwrap();
        for n in 0..25 {
            accept(&*home.store, braked(&format!("user{n}@example.com"), 1)).await;
        }
        decide(&*home.store, 1, Decision::Release, 2).await;
        let step = home.store.carry_out_brake(brake_id(1), None, at(2), 10).await.unwrap();
        assert_eq!((step.done, step.next.is_some()), (10, true));
        home.crash().await;
        let store = &*home.store;
        let open = store.open_brakes(None, 9).await.unwrap();
        assert_eq!((open[0].status(), open[0].done, open[0].held), (BrakeStatus::Releasing, 10, 15));
        let decided = DecidedBrake { decision: Decision::Release, carried_out: false };
        assert_eq!(store.decided_brake(brake_id(1)).await.unwrap(), Some(decided));
        let again = decide(store, 1, Decision::Release, 3).await;
        assert_eq!(again.decided_at, Some(at(2)), "the first word counts");
        let other = store.decide_brake(order(1, Decision::Cancel, 3)).await.unwrap();
        assert!(matches!(other, BrakeDecided::WrongState(_)), "{other:?}");
        // Two at once share it.
        let (one, two) = tokio::join!(carry_out(store, 1, 4, 4), carry_out(store, 1, 4, 4));
        assert_eq!(one + two, 15);
        let brake = shown(store, 1).await;
        assert_eq!((brake.status(), brake.done, brake.held), (BrakeStatus::Released, 25, 0));
        assert_eq!(store.open_brakes(None, 9).await.unwrap(), []);
        let over = store.decide_brake(order(1, Decision::Release, 5)).await.unwrap();
        assert!(matches!(over, BrakeDecided::WrongState(_)), "{over:?}");
    }

    async fn nobody_decides_about_another_tenants_brake_or_sees_it(home) {
        let store = &*home.store;
        store.engage_brake(new_brake(1)).await.unwrap();
        let strange = BrakeOrder { tenant: Some(tenant("other")), ..order(1, Decision::Cancel, 2) };
        assert_eq!(store.decide_brake(strange).await.unwrap(), BrakeDecided::NoBrake);
        assert_eq!(store.decide_brake(order(2, Decision::Cancel, 2)).await.unwrap(), BrakeDecided::NoBrake);
        assert_eq!(store.open_brakes(Some(tenant("other")), 9).await.unwrap(), []);
        let ours = store.open_brakes(Some(tenant("demo")), 9).await.unwrap();
        assert_eq!((ours.len(), ours[0].decision), (1, None));
        assert_eq!(store.decided_brake(brake_id(1)).await.unwrap(), None);
    }

    async fn what_is_usual_is_kept_the_last_learned_first_and_forgotten(home) {
        let usual = |template: Option<&str>, mails, seconds| StreamUsual {
            stream: Stream { template: template.map(str::to_owned), ..stream() },
            usual: Usual { mails, refused: 0.25, at: at(seconds) },
        };
        let store = &*home.store;
        store.keep_usual(vec![usual(None, 7.5, 1), usual(Some("a"), 8.0, 2), usual(Some("b"), 9.0, 3)], at(0)).await.unwrap();
        store.keep_usual(vec![usual(Some("a"), 80.0, 4)], at(2)).await.unwrap();
        home.crash().await;
        let store = &*home.store;
        assert_eq!(store.usual_of_streams(9).await.unwrap(), [usual(Some("a"), 80.0, 4), usual(Some("b"), 9.0, 3)]);
        assert_eq!(store.usual_of_streams(1).await.unwrap(), [usual(Some("a"), 80.0, 4)]);
    }

    async fn how_mails_ended_is_told_by_stream_and_once(home) {
        let store = &*home.store;
        let bounced = || Outcome::Bounced {
            reason: Reason::RelayRefused,
            reply: Some(Reply::new(550, "5.1.1 no such user".to_owned())),
            of_recipient: true,
        };
        let refused_by_us = Outcome::Bounced { reason: Reason::TooLarge, reply: None, of_recipient: true };
        let before = queued(store, "early@example.com").await;
        settle(store, before, 0, 1, bounced()).await;
        let start = store.stream_outcomes(None, 99).await.unwrap();
        assert_eq!(start.streams, []);
        for (recipient, outcome) in [
            ("a@example.com", relayed()),
            ("b@example.com", bounced()),
            ("c@example.com", bounced()),
            ("d@example.com", deferred(60)),
            ("e@example.com", refused_by_us),
        ] {
            let id = queued(store, recipient).await;
            settle(store, id, 0, 2, outcome).await;
        }
        let urgent = accept(store, NewMessage { lane: Lane::Urgent, ..mail("f@example.com") }).await.id;
        settle(store, urgent, 0, 2, bounced()).await;
        let page = store.stream_outcomes(Some(start.next), 99).await.unwrap();
        assert_eq!(page.streams, [StreamOutcomes { stream: stream(), relayed: 1, refused: 2 }]);
        assert_eq!(store.stream_outcomes(Some(page.next), 99).await.unwrap().streams, []);
        // Under load only the last leaves are looked at.
        let sample = store.stream_outcomes(Some(start.next), 1).await.unwrap();
        assert_eq!((sample.streams, sample.next), (vec![], page.next));
    }
}
