//! Journeys: who enters and leaves with an event, who is due, and that a move is done whole, once, or not at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use postern::domain::audit::Actor;
use postern::domain::contact::{Erased, Erasing, Extent, NewContact, Origin};
use postern::domain::ids::{EnrollmentId, JourneyName};
use postern::domain::journey::enrollment::{Ending, Mode, SentBy, Status};
use postern::domain::journey::rule::When;
use postern::domain::journey::walk::{Outcome, Passed};
use postern::domain::journey::{Action, Drawn, Journey, Step, Trigger};
use postern::domain::message::{self, NewMessage, Reason, Verdict};
use postern::domain::pass_event::EventKind::{Installed, Uninstalled};
use postern::domain::pass_event::Wallet::{Apple, Google};
use postern::domain::pass_event::{NewPassEvent, Way};
use postern::domain::quantity::{HumanDuration, Rate};
use postern::store::{
    DueEnrollment, DueQuery, EnrollmentFilter, Erasure, ModeOrder, Move, Moved, Next, RecordRules, Sought, Store,
};

use crate::harness::*;
use crate::wallets::{event, of, rules};

fn name(name: &str) -> JourneyName {
    name.parse().unwrap()
}

/// A journey of two mails that a removal ends.
fn drawn(of: &str, trigger: Trigger, entry: &str) -> Journey {
    let send = |template: &str| Action::Send { template: template.to_owned() };
    let step = |action| Step { action, only_if: None, unless: None };
    let exit_on = if trigger == Trigger::Removed { BTreeSet::new() } else { BTreeSet::from([Trigger::Removed]) };
    Journey {
        name: name(of),
        tenant: tenant("demo"),
        trigger,
        entry: entry.parse().unwrap(),
        exit_on,
        quiet_hours: None,
        contact_within: HumanDuration::from_secs(1_000),
        when: When::default(),
        steps: vec![step(send("welcome")), step(Action::Wait(HumanDuration::from_secs(100))), step(send("tips"))],
    }
}

fn with(journeys: &[&Journey]) -> RecordRules {
    let journeys = journeys.iter().map(|journey| Arc::new(Drawn::from((*journey).clone()))).collect();
    RecordRules { journeys, ..rules() }
}

async fn record(store: &dyn Store, journeys: &[&Journey], new: NewPassEvent) -> Vec<EnrollmentId> {
    let recorded = store.record(&tenant("demo"), Actor::Webhook, vec![new], with(journeys)).await.unwrap();
    recorded[0].enrollments.clone()
}

async fn due(store: &dyn Store, journey: &Journey, now: i64) -> Vec<DueEnrollment> {
    let journeys = vec![(tenant("demo"), journey.name.clone())];
    store.due_enrollments(DueQuery { journeys, now: at(now), limit: 100 }).await.unwrap()
}

/// The mail of a step of this enrollment.
fn mail_of(due: &DueEnrollment, recipient: &str, now: i64) -> NewMessage {
    let sent_by = SentBy { journey: due.enrollment.journey.clone(), enrollment: due.enrollment.id };
    NewMessage {
        sent_by: Some(sent_by),
        accepted_at: at(now),
        due_at: at(now),
        deliver_by: at(now + 1_000),
        ..mail(recipient)
    }
}

fn sends(due: &DueEnrollment, message: NewMessage, cap: Option<Rate>, now: i64) -> Move {
    let step = due.enrollment.step;
    Move {
        enrollment: due.enrollment.clone(),
        at: at(now),
        passed: vec![Passed { step, outcome: Outcome::Sent }],
        mail: Some((Box::new(message), cap)),
        next: Next::Step { step: step + 1, at: at(now + 100) },
    }
}

/// Sends the mail of whoever is due alone.
async fn send(store: &dyn Store, journey: &Journey, recipient: &str, now: i64) -> Moved {
    let due = due(store, journey, now).await;
    assert_eq!(due.len(), 1);
    let order = sends(&due[0], mail_of(&due[0], recipient, now), None, now);
    store.move_enrollment(order).await.unwrap()
}

fn sent(moved: &Moved) -> postern::domain::ids::MessageId {
    match moved {
        Moved::Done(Some(id)) => *id,
        other => panic!("nothing was sent: {other:?}"),
    }
}

async fn statuses(store: &dyn Store, journey: &Journey) -> Vec<Status> {
    let filter =
        EnrollmentFilter { journey: journey.name.clone(), status: None, customer: None, before: None, limit: 100 };
    let found = store.enrollments(&tenant("demo"), filter).await.unwrap();
    found.into_iter().map(|enrollment| enrollment.status).collect()
}

fn contact(customer: &str, email: &str, origin: Origin, second: i64) -> NewContact {
    NewContact {
        customer: customer.parse().unwrap(),
        email: email.parse().unwrap(),
        name: None,
        culture: None,
        timezone: None,
        consent: [].into(),
        fields: [].into(),
        origin,
        at: at(second),
    }
}

const EXITED: Status = Status::Ended(Ending::Exited);

on_every_database! {
    async fn three_hundred_installs_of_one_pass_enter_once_with_a_time_with_an_id_or_with_neither(home) {
        let (store, journey) = (&*home.store, &drawn("hello", Trigger::FirstInstall, "once-per-customer"));
        let mut entered = 0;
        for number in 0..100_i64 {
            let mut keyed = of("C-1", event(number, "P-1", Installed, Apple));
            keyed.event.key = Some(format!("event {number}"));
            let mut untimed = of("C-1", event(number, "P-1", Installed, Apple));
            untimed.event.occurred_at = None;
            for new in [of("C-1", event(1, "P-1", Installed, Apple)), keyed, untimed] {
                entered += record(store, &[journey], new).await.len();
            }
        }
        assert_eq!(entered, 1);
        assert_eq!(due(store, journey, 200).await.len(), 1);
    }

    async fn once_for_a_customer_holds_for_all_their_passes_and_for_a_pass_that_turns_out_to_be_theirs(home) {
        let (store, journey) = (&*home.store, &drawn("hello", Trigger::FirstInstall, "once-per-customer"));
        assert_eq!(record(store, &[journey], event(1, "P-1", Installed, Apple)).await.len(), 1, "nobody knows whose");
        record(store, &[journey], of("C-1", event(2, "P-1", Installed, Apple))).await;
        let known = due(store, journey, 5).await;
        assert_eq!(known[0].enrollment.customer.value, "C-1", "whose it is now");
        assert_eq!(record(store, &[journey], of("C-1", event(3, "P-2", Installed, Apple))).await.len(), 0, "entered as P-1");
        assert_eq!(record(store, &[journey], of("C-1", event(4, "P-3", Installed, Google))).await.len(), 0);
        assert_eq!(record(store, &[journey], of("C-2", event(5, "P-4", Installed, Google))).await.len(), 1);
    }

    async fn each_entry_rule_takes_whom_it_says(home) {
        let store = &*home.store;
        let once = &drawn("once", Trigger::FirstInstall, "once-per-pass");
        let again = &drawn("again", Trigger::Reinstall, "every-time");
        let cool = &drawn("cool", Trigger::Reinstall, "cooldown:1h");
        let all = [once, again, cool];
        let hour = 3_600;
        let mut entered = Vec::new();
        for (second, pass, kind) in [
            (0, "P-1", Installed),
            (0, "P-2", Installed),
            (hour, "P-1", Uninstalled),
            (2 * hour, "P-1", Installed),
            (2 * hour + 900, "P-1", Uninstalled),
            (2 * hour + 1_800, "P-1", Installed),
            (4 * hour, "P-1", Uninstalled),
            (5 * hour, "P-1", Installed),
        ] {
            record(store, &all, of("C-1", event(second, pass, kind, Apple))).await;
            let mut counts = Vec::new();
            for journey in all {
                counts.push(statuses(store, journey).await.len());
            }
            entered.push(counts);
        }
        let expected = [[1, 0, 0], [2, 0, 0], [2, 0, 0], [2, 1, 1], [2, 1, 1], [2, 2, 1], [2, 2, 1], [2, 3, 2]];
        assert_eq!(entered, expected.map(Vec::from));
    }

    async fn only_those_whom_it_asks_for_enter_and_nobody_by_what_the_pass_api_says(home) {
        let store = &*home.store;
        let asks = When {
            pass_type: ["loyalty".to_owned()].into(),
            tags_any: ["summer".to_owned(), "beach".to_owned()].into(),
            origin_contains: ["utm_campaign=sun".to_owned()].into(),
            ..When::default()
        };
        let journey = &Journey { when: asks, ..drawn("hello", Trigger::FirstInstall, "once-per-pass") };
        let from = |pass: &str, tags: &[&str], origin: &str| {
            let mut new = of("C-1", event(1, pass, Installed, Apple));
            new.event.source.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
            new.event.source.origin = Some(origin.to_owned());
            new
        };
        let page = "https://demo.example/?utm_campaign=sunny";
        assert_eq!(record(store, &[journey], from("P-1", &["beach"], page)).await.len(), 1);
        assert_eq!(record(store, &[journey], from("P-2", &["winter"], page)).await.len(), 0);
        assert_eq!(record(store, &[journey], from("P-3", &["summer"], "https://demo.example/")).await.len(), 0);
        let mut read = from("P-4", &["summer"], page);
        read.event.way = Way::Backfill;
        assert_eq!(record(store, &[journey], read).await.len(), 0);
    }

    async fn a_removal_ends_the_way_and_the_mail_that_still_waits_but_not_the_one_under_way(home) {
        let (store, journey) = (&*home.store, &drawn("hello", Trigger::FirstInstall, "once-per-pass"));
        for (pass, recipient) in [("P-1", "ann@example.com"), ("P-2", "bob@example.com")] {
            record(store, &[journey], of(recipient, event(1, pass, Installed, Apple))).await;
            let id = sent(&send(store, journey, recipient, 2).await);
            if pass == "P-2" {
                assert_eq!(commit(store, id, 1, 3).await, Verdict::Go);
            }
            record(store, &[journey], of(recipient, event(4, pass, Uninstalled, Apple))).await;
            let view = view(store, id).await;
            if pass == "P-1" {
                assert_eq!((view.status, view.reason), (message::Status::Cancelled, Some(Reason::JourneyExited)));
            } else {
                assert_eq!((view.status, view.reason), (message::Status::Queued, None), "it is under way");
            }
            assert_eq!(view.journey.as_deref(), Some("hello"));
        }
        assert_eq!(statuses(store, journey).await, [EXITED, EXITED]);
        assert!(due(store, journey, 1_000).await.is_empty());
    }

    async fn a_mail_whose_journey_has_ended_is_stopped_at_its_commit_point_too(home) {
        let (store, journey) = (&*home.store, &drawn("hello", Trigger::FirstInstall, "once-per-pass"));
        record(store, &[journey], of("C-1", event(1, "P-1", Installed, Apple))).await;
        let due = due(store, journey, 2).await;
        record(store, &[journey], of("C-1", event(3, "P-1", Uninstalled, Apple))).await;
        // As one that was unknown at that moment and is sent once more.
        let id = accept(store, mail_of(&due[0], "ann@example.com", 4)).await.id;
        assert_eq!(commit(store, id, 1, 5).await, Verdict::Stop);
        let view = view(store, id).await;
        assert_eq!((view.status, view.reason), (message::Status::Cancelled, Some(Reason::JourneyExited)));
    }

    async fn a_pass_that_is_back_in_a_moment_goes_on_where_it_was_and_nobody_says_goodbye(home) {
        let store = &*home.store;
        let hello = &drawn("hello", Trigger::FirstInstall, "once-per-customer");
        let bye = &drawn("bye", Trigger::Removed, "once-per-customer");
        let both = [hello, bye];
        record(store, &both, of("C-1", event(0, "P-1", Installed, Apple))).await;
        sent(&send(store, hello, "ann@example.com", 1).await);
        assert_eq!(record(store, &both, of("C-1", event(10, "P-1", Uninstalled, Apple))).await.len(), 1);
        assert!(due(store, bye, 11).await.is_empty(), "it may be back in a moment");
        record(store, &both, of("C-1", event(60, "P-1", Installed, Apple))).await;
        assert_eq!(statuses(store, hello).await, [Status::Active]);
        assert_eq!(statuses(store, bye).await, [EXITED]);
        assert!(due(store, hello, 100).await.is_empty() && !due(store, hello, 101).await.is_empty(), "at its old time");
        // Gone for good: the goodbye that was taken back does not count.
        assert_eq!(record(store, &both, of("C-1", event(5_000, "P-1", Uninstalled, Apple))).await.len(), 1);
        assert_eq!(due(store, bye, 5_600).await.len(), 1);
        assert_eq!(statuses(store, hello).await, [EXITED]);
        assert_eq!(record(store, &both, of("C-1", event(9_000, "P-1", Installed, Apple))).await.len(), 0);
        assert_eq!(statuses(store, hello).await, [EXITED], "too late to go on, and welcomed once already");
    }

    async fn a_mail_that_a_removal_stopped_goes_out_when_the_pass_is_back_in_a_moment(home) {
        let store = &*home.store;
        let one_mail = Journey { steps: drawn("hello", Trigger::FirstInstall, "once-per-pass").steps[..1].to_vec(), ..drawn("hello", Trigger::FirstInstall, "once-per-pass") };
        for (number, journey) in [one_mail, drawn("longer", Trigger::FirstInstall, "once-per-pass")].iter().enumerate() {
            let pass = format!("P-{number}");
            record(store, &[journey], of(&pass, event(1, &pass, Installed, Apple))).await;
            let seen = due(store, journey, 2).await;
            let mut order = sends(&seen[0], mail_of(&seen[0], "ann@example.com", 2), None, 2);
            if journey.steps.len() == 1 {
                order.next = Next::End(Ending::Completed);
            }
            let before = order.next;
            let id = sent(&store.move_enrollment(order).await.unwrap());
            record(store, &[journey], of(&pass, event(10, &pass, Uninstalled, Apple))).await;
            assert_eq!(view(store, id).await.status, message::Status::Cancelled);
            record(store, &[journey], of(&pass, event(20, &pass, Installed, Apple))).await;
            let back = view(store, id).await;
            assert_eq!((back.status, back.reason), (message::Status::Queued, None), "{}", journey.name);
            let kinds = kinds(store, id).await;
            assert_eq!(kinds[kinds.len() - 2..], ["cancelled", "released"]);
            assert_eq!(commit(store, id, 1, 30).await, Verdict::Go, "{}", journey.name);
            let stands = if before == Next::End(Ending::Completed) { Status::Ended(Ending::Completed) } else { Status::Active };
            assert_eq!(statuses(store, journey).await, [stands]);
        }
        // Its time is over meanwhile: it stays as it is.
        let late = &drawn("late", Trigger::FirstInstall, "once-per-pass");
        record(store, &[late], of("C-9", event(1, "P-9", Installed, Apple))).await;
        let seen = due(store, late, 2).await;
        let short = NewMessage { deliver_by: at(15), ..mail_of(&seen[0], "ann@example.com", 2) };
        let id = sent(&store.move_enrollment(sends(&seen[0], short, None, 2)).await.unwrap());
        record(store, &[late], of("C-9", event(10, "P-9", Uninstalled, Apple))).await;
        record(store, &[late], of("C-9", event(20, "P-9", Installed, Apple))).await;
        assert_eq!(view(store, id).await.status, message::Status::Cancelled);
    }

    async fn who_waits_for_an_address_waits_on_when_the_pass_is_back_in_a_moment(home) {
        let (store, journey) = (&*home.store, &drawn("hello", Trigger::FirstInstall, "once-per-pass"));
        record(store, &[journey], of("C-1", event(1, "P-1", Installed, Apple))).await;
        let seen = due(store, journey, 2).await;
        let next = Next::AwaitContact { until: at(5_000), seek_at: Some(at(2)) };
        let order = Move { enrollment: seen[0].enrollment.clone(), at: at(2), passed: vec![], mail: None, next };
        store.move_enrollment(order).await.unwrap();
        record(store, &[journey], of("C-1", event(10, "P-1", Uninstalled, Apple))).await;
        record(store, &[journey], of("C-1", event(20, "P-1", Installed, Apple))).await;
        assert_eq!(statuses(store, journey).await, [Status::AwaitingContact]);
        let seen = due(store, journey, 20).await;
        assert_eq!((seen.len(), seen[0].enrollment.contact_by), (1, Some(at(5_000))), "it looks again at once");
    }

    async fn a_removal_from_one_of_two_wallets_is_none_for_journeys(home) {
        let (store, journey) = (&*home.store, &drawn("hello", Trigger::FirstInstall, "once-per-pass"));
        record(store, &[journey], of("C-1", event(1, "P-1", Installed, Apple))).await;
        record(store, &[journey], of("C-1", event(2, "P-1", Installed, Google))).await;
        record(store, &[journey], of("C-1", event(3, "P-1", Uninstalled, Apple))).await;
        assert_eq!(statuses(store, journey).await, [Status::Active]);
        record(store, &[journey], of("C-1", event(4, "P-1", Uninstalled, Google))).await;
        assert_eq!(statuses(store, journey).await, [EXITED]);
    }

    async fn of_two_who_decide_at_once_one_is_told_that_it_is_too_late(home) {
        let (store, journey) = (&*home.store, &drawn("hello", Trigger::FirstInstall, "once-per-pass"));
        record(store, &[journey], of("C-1", event(1, "P-1", Installed, Apple))).await;
        let seen = due(store, journey, 2).await;
        let order = || sends(&seen[0], mail_of(&seen[0], "ann@example.com", 2), None, 2);
        sent(&store.move_enrollment(order()).await.unwrap());
        assert_eq!(store.move_enrollment(order()).await.unwrap(), Moved::Stale);
        let funnel = store.funnel(&tenant("demo"), &journey.name).await.unwrap();
        let steps: Vec<_> = funnel.steps.iter().map(|step| (step.step, step.outcome.as_str(), step.count)).collect();
        assert_eq!((funnel.entered, steps), (1, vec![(0, "sent", 1)]));
        let mails = store.count(&tenant("demo"), postern::store::MessageFilter::default()).await.unwrap();
        assert_eq!(mails.values().sum::<u64>(), 1);
    }

    async fn one_mail_too_many_is_passed_over_and_one_too_soon_waits(home) {
        let store = &*home.store;
        let [one, two] = ["one", "two"].map(|name| drawn(name, Trigger::FirstInstall, "once-per-pass"));
        record(store, &[&one, &two], of("C-1", event(1, "P-1", Installed, Apple))).await;
        sent(&send(store, &one, "ann@example.com", 2).await);
        let seen = due(store, &two, 2).await;
        let day: Rate = "1/d".parse().unwrap();
        let limited = NewMessage { recipient_limit: Some(day), ..mail_of(&seen[0], "ann@example.com", 2) };
        let moved = store.move_enrollment(sends(&seen[0], limited, None, 2)).await.unwrap();
        assert_eq!(moved, Moved::Limited(at(2 + 86_400)), "unspent: it is tried again then");
        let seen = due(store, &two, 100_000).await;
        assert_eq!(seen[0].enrollment.step, 0);
        let capped = sends(&seen[0], mail_of(&seen[0], "ann@example.com", 3), Some(day), 3);
        assert_eq!(store.move_enrollment(capped).await.unwrap(), Moved::Capped);
        let funnel = store.funnel(&tenant("demo"), &two.name).await.unwrap();
        assert_eq!((funnel.steps[0].outcome.as_str(), funnel.steps.len()), ("capped", 1));
        assert!(due(store, &two, 102).await.is_empty() && due(store, &two, 103).await[0].enrollment.step == 1);
    }

    async fn who_waits_for_an_address_goes_on_when_it_comes_whichever_way(home) {
        let (store, journey) = (&*home.store, &drawn("hello", Trigger::FirstInstall, "once-per-pass"));
        let waits = async |now: i64| {
            let seen = due(store, journey, now).await;
            let next = Next::AwaitContact { until: at(5_000), seek_at: Some(at(now)) };
            let order = Move { enrollment: seen[0].enrollment.clone(), at: at(now), passed: vec![], mail: None, next };
            store.move_enrollment(order).await.unwrap();
            assert_eq!(statuses(store, journey).await[0], Status::AwaitingContact);
            assert!(due(store, journey, 4_999).await.is_empty());
        };
        record(store, &[journey], of("C-1", event(1, "P-1", Installed, Apple))).await;
        waits(2).await;
        let known = contact("C-1", "ann@example.com", Origin::Api, 3);
        store.set_contacts(&tenant("demo"), Actor::Gateway, vec![known]).await.unwrap();
        assert_eq!(due(store, journey, 3).await[0].contact.as_ref().unwrap().email.as_str(), "ann@example.com");
        waits(4).await;
        let mut teaches = of("C-1", event(5, "P-1", Installed, Apple));
        teaches.event.identifiers.insert("email".to_owned(), "ann@example.org".to_owned());
        record(store, &[journey], teaches).await;
        let seen = due(store, journey, 5).await;
        assert_eq!(seen[0].identifiers.get("email").map(String::as_str), Some("ann@example.org"));
        waits(6).await;
        let wanted = store.wanted_contacts(at(6), 10).await.unwrap();
        assert_eq!(wanted.len(), 1);
        store.contact_sought(wanted[0].clone(), Sought::NotYet(at(20)), at(7)).await.unwrap();
        assert_eq!(store.wanted_contacts(at(19), 10).await.unwrap(), []);
        assert_eq!(store.next_wanted_at().await.unwrap(), Some(at(20)));
        store.contact_sought(wanted[0].clone(), Sought::Found, at(21)).await.unwrap();
        assert_eq!(due(store, journey, 21).await.len(), 1);
        assert_eq!(store.next_wanted_at().await.unwrap(), None);
    }

    async fn a_paused_journey_stands_still_and_a_draining_one_takes_nobody(home) {
        let (store, journey) = (&*home.store, &drawn("hello", Trigger::FirstInstall, "once-per-pass"));
        let set = async |mode: Mode| {
            let (journey, actor) = (journey.name.clone(), Actor::Command("journeys"));
            let order = ModeOrder { journey, mode, actor, because: None, at: at(1) };
            store.set_journey_mode(&tenant("demo"), order).await.unwrap()
        };
        record(store, &[journey], of("C-0", event(0, "P-0", Installed, Apple))).await;
        let seen = due(store, journey, 1).await;
        assert!(!set(Mode::Running).await && set(Mode::Paused).await && !set(Mode::Paused).await);
        let late = sends(&seen[0], mail_of(&seen[0], "ann@example.com", 1), None, 1);
        assert_eq!(store.move_enrollment(late).await.unwrap(), Moved::Stale, "it was decided before the pause");
        assert_eq!(record(store, &[journey], of("C-1", event(1, "P-1", Installed, Apple))).await.len(), 1);
        assert!(due(store, journey, 10).await.is_empty());
        let all = vec![(tenant("demo"), journey.name.clone())];
        assert_eq!(store.next_enrollment_at(all.clone()).await.unwrap(), None);
        assert!(set(Mode::Draining).await);
        assert_eq!(store.next_enrollment_at(all).await.unwrap(), Some(at(0)));
        assert_eq!(due(store, journey, 10).await.len(), 2);
        assert_eq!(record(store, &[journey], of("C-2", event(2, "P-2", Installed, Apple))).await.len(), 0);
        assert!(set(Mode::Running).await);
        assert_eq!(record(store, &[journey], of("C-3", event(3, "P-3", Installed, Apple))).await.len(), 1);
    }

    async fn who_has_begun_keeps_the_version_they_began_with(home) {
        let (store, first) = (&*home.store, drawn("hello", Trigger::FirstInstall, "once-per-pass"));
        let second = Journey { steps: first.steps[..1].to_vec(), ..first.clone() };
        record(store, &[&first], of("C-1", event(1, "P-1", Installed, Apple))).await;
        record(store, &[&second], of("C-2", event(2, "P-2", Installed, Apple))).await;
        let versions: Vec<_> = due(store, &first, 5).await.into_iter().map(|due| due.enrollment.version).collect();
        assert_eq!(versions, [first.version(), second.version()]);
        for journey in [&first, &second] {
            let drawing = store.drawing(&tenant("demo"), &journey.name, &journey.version()).await.unwrap().unwrap();
            assert_eq!(serde_json::from_str::<Journey>(&drawing).unwrap(), *journey);
        }
        assert_eq!(store.journey_versions(&tenant("demo")).await.unwrap().len(), 2);
    }

    async fn erasing_a_customer_takes_their_ways_their_entries_and_their_waiting_mails(home) {
        let (store, journey) = (&*home.store, &drawn("hello", Trigger::FirstInstall, "once-per-customer"));
        record(store, &[journey], of("C-1", event(1, "P-1", Installed, Apple))).await;
        let id = sent(&send(store, journey, "ann@example.com", 2).await);
        let customer = "C-1".parse().unwrap();
        let erasure = Erasure { customer, extent: Extent::Person, at: at(3), by: Actor::Command("contacts").into() };
        let erased = store.erase_contact(&tenant("demo"), erasure).await.unwrap();
        assert!(matches!(erased, Erasing::Done(Erased { messages: 1, .. })), "{erased:?}");
        let mail = view(store, id).await;
        assert_eq!((mail.status, mail.reason, mail.recipient.as_str()), (message::Status::Cancelled, Some(Reason::Erased), ""));
        assert!(statuses(store, journey).await.is_empty());
        let anew = record(store, &[journey], of("C-1", event(9, "P-1", Installed, Apple))).await;
        assert_eq!(anew.len(), 1, "a stranger is welcome");
    }

    async fn a_list_of_enrollments_goes_page_by_page_whatever_it_is_filtered_by(home) {
        let (store, journey) = (&*home.store, &drawn("hello", Trigger::FirstInstall, "once-per-pass"));
        for number in 0..5 {
            record(store, &[journey], of(&format!("C-{}", number % 2), event(number, &format!("P-{number}"), Installed, Apple)))
                .await;
        }
        let page = async |status: Option<Status>, customer: Option<&str>, before: Option<EnrollmentId>| {
            let (journey, customer) = (journey.name.clone(), customer.map(str::to_owned));
            let filter = EnrollmentFilter { journey, status, customer, before, limit: 2 };
            store.enrollments(&tenant("demo"), filter).await.unwrap()
        };
        for (status, customer, pages) in [
            (None, None, vec![2, 2, 1, 0]),
            (Some(Status::Active), None, vec![2, 2, 1, 0]),
            (Some(EXITED), None, vec![0, 0, 0, 0]),
            (None, Some("C-0"), vec![2, 1, 0, 0]),
            (Some(Status::Active), Some("C-1"), vec![2, 0, 0, 0]),
        ] {
            let (mut before, mut found, mut ids) = (None, Vec::new(), Vec::new());
            for _ in 0..pages.len() {
                let items = page(status, customer, before).await;
                found.push(items.len());
                before = items.last().map(|item| item.id).or(before);
                ids.extend(items.into_iter().map(|item| item.id));
            }
            assert_eq!(found, pages, "{status:?} {customer:?}");
            assert!(ids.is_sorted_by(|one, next| one > next), "the latest first");
        }
    }
}
