//! Readings of the Pass API and alarms: what is kept of them, and that nothing is counted or seen twice.

use postern::domain::alarm::{Alarm, AlarmKind, HourCount, Numbers, hour_of};
use postern::domain::audit::Actor;
use postern::domain::backfill::{Repaired, Tally};
use postern::domain::ids::{AlarmId, EventId};
use postern::domain::paging::{Order, Place};
use postern::domain::pass_event::{EventKind, NewPassEvent, PassEvent, RegistrationCounts, Source, Wallet, Way};
use postern::domain::wallet::CustomerKey;
use postern::store::{BackfillRun, Counted, Pushed, RecordRules, Store};
use uuid::Uuid;

use crate::harness::*;

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn event(kind: EventKind, pass: Option<&str>, way: Way) -> PassEvent {
    PassEvent {
        kind,
        wallet: Wallet::Apple,
        pass: pass.map(str::to_owned),
        pass_type: None,
        identifiers: [("customerId".to_owned(), "C1".to_owned())].into(),
        counts: RegistrationCounts::default(),
        source: Source::default(),
        occurred_at: None,
        since: None,
        key: None,
        way,
    }
}

/// Records events that come in then.
async fn record(store: &dyn Store, second: i64, events: Vec<PassEvent>) {
    let received_at = at(second);
    let new = |event| NewPassEvent { id: EventId::from_uuid(Uuid::now_v7()), received_at, event };
    let minute = MINUTE;
    let rules = RecordRules {
        journeys: Vec::new(),
        identifiers: texts(&["customerId"]),
        reinstall_settle: minute,
        history_max: 500,
        passes_max: 1_000,
        time_ahead_max: minute,
        pushed: Pushed::No,
    };
    store.record(&tenant("demo"), Actor::Gateway, events.into_iter().map(new).collect(), rules).await.unwrap();
}

on_every_database! {
    async fn a_reading_is_kept_with_what_it_has_seen_and_the_next_has_seen_nothing(home) {
        let demo = tenant("demo");
        assert_eq!(home.store.last_backfill(&demo).await.unwrap(), None);
        let run = home.store.begin_backfill(&demo, at(1)).await.unwrap();
        assert_eq!((run.number, run.started_at, run.ended_at), (1, at(1), None));
        let stands = BackfillRun {
            place: Place { round: 2, page: Some(7), order: Order::NotKept },
            read_at: Some(at(5)),
            tally: Tally { read: 3, repaired: Repaired { new: 2, ..Repaired::default() }, ..Tally::default() },
            ..run
        };
        home.store.keep_backfill(&demo, stands.clone(), texts(&["P1", "P2"])).await.unwrap();
        home.crash().await;
        assert_eq!(home.store.last_backfill(&demo).await.unwrap(), Some(stands.clone()));
        let asked = || texts(&["P1", "P2", "P3"]);
        assert_eq!(home.store.unseen(&demo, 1, asked()).await.unwrap(), ["P3"]);
        assert_eq!(home.store.unseen(&tenant("other"), 1, asked()).await.unwrap().len(), 3);

        let next = home.store.begin_backfill(&demo, at(9)).await.unwrap();
        assert_eq!((next.number, next.read_at, &next.tally), (2, None, &Tally::default()));
        assert_eq!(home.store.unseen(&demo, 2, asked()).await.unwrap().len(), 3);
        home.store.keep_backfill(&demo, next, texts(&["P2"])).await.unwrap();
        assert_eq!(home.store.unseen(&demo, 2, asked()).await.unwrap(), ["P1", "P3"]);
        assert_eq!(home.store.forget_seen(&demo, 1).await.unwrap(), 1);
        assert_eq!(home.store.forget_seen(&demo, 10).await.unwrap(), 1);
        assert_eq!(home.store.forget_seen(&demo, 10).await.unwrap(), 0);
    }

    async fn one_at_a_time_has_the_turn_to_read_a_tenant(home) {
        let turn = home.store.take_turn(&tenant("demo")).unwrap();
        assert!(turn.is_some() && home.store.take_turn(&tenant("demo")).unwrap().is_none());
        assert!(home.store.take_turn(&tenant("other")).unwrap().is_some());
        drop(turn);
        assert!(home.store.take_turn(&tenant("demo")).unwrap().is_some());
    }

    async fn the_passes_of_the_ledger_are_walked_and_nameless_ones_are_asked_for_by_customer(home) {
        let demo = tenant("demo");
        let installed = |pass| event(EventKind::Installed, pass, Way::Hook);
        record(&*home.store, 1, vec![installed(None), installed(Some("P2")), installed(Some("P1")), installed(Some("P3"))]).await;
        let mut walked = Vec::new();
        loop {
            let step = home.store.ledger_passes(&demo, walked.last().cloned(), 2).await.unwrap();
            if step.is_empty() {
                break;
            }
            walked.extend(step.into_iter().filter_map(|view| view.pass));
        }
        assert_eq!(walked, ["P1", "P2", "P3"]);
        let customer = |value: &str| CustomerKey { value: value.to_owned(), by: "customerId".to_owned() };
        let asked = vec![customer("C1"), customer("C2")];
        let nameless = home.store.nameless_passes(&demo, asked).await.unwrap();
        assert_eq!(nameless.len(), 1);
        assert!(nameless[0].0 == customer("C1") && nameless[0].1.is_in(Wallet::Apple));
        assert!(home.store.ledger_passes(&tenant("other"), None, 9).await.unwrap().is_empty());
    }

    async fn each_event_is_counted_once_in_its_hour_in_steps_that_cut_no_moment(home) {
        let demo = tenant("demo");
        let hook = |kind, pass| event(kind, Some(pass), Way::Hook);
        let (added, gone) = (EventKind::Installed, EventKind::Uninstalled);
        record(&*home.store, 10, vec![hook(added, "P1"), hook(added, "P2")]).await;
        record(&*home.store, 20, vec![hook(added, "P3"), hook(gone, "P1")]).await;
        record(&*home.store, 30, vec![event(added, Some("P4"), Way::Backfill)]).await;
        record(&*home.store, 7_200, vec![hook(gone, "P2")]).await;
        record(&*home.store, 7_300, vec![hook(added, "P5")]).await;
        let first = hour_of(at(0));
        let count = |installs, uninstalls| HourCount { installs, uninstalls };
        let step = home.store.count_events(&demo, at(7_250), 3, first).await.unwrap();
        let expected = Counted { hours: vec![(first, count(2, 0))], last_install: Some(at(10)), looked_at: 3 };
        assert_eq!(step, expected, "the second moment was cut, and is left to the next step");
        home.crash().await;
        let step = home.store.count_events(&demo, at(7_250), 10, first).await.unwrap();
        let hours = vec![(first, count(1, 1)), (first + 2, count(0, 1))];
        assert_eq!(step, Counted { hours, last_install: Some(at(20)), looked_at: 4 });
        let nothing = home.store.count_events(&demo, at(7_250), 10, first).await.unwrap();
        assert_eq!(nothing, Counted::default());
        let counts = home.store.event_counts(&demo, first).await.unwrap();
        assert_eq!((counts.first, counts.last_install), (Some(first), Some(at(20))));
        assert_eq!(counts.hours, [(first, count(3, 1)), (first + 2, count(0, 1))].into());
        home.store.count_events(&demo, at(9_000), 10, first + 1).await.unwrap();
        let counts = home.store.event_counts(&demo, first).await.unwrap();
        assert_eq!(counts.hours, [(first + 2, count(1, 1))].into(), "the first hour is forgotten");
        assert_eq!((counts.first, counts.last_install), (Some(first), Some(at(7_300))));
    }

    async fn one_alarm_of_a_kind_is_open_at_a_time(home) {
        let alarm = |number: u128, name: &str, kind| Alarm {
            id: AlarmId::from_uuid(Uuid::from_u128(number)),
            tenant: tenant(name),
            kind,
            numbers: Numbers { seen: 3, usual: 1.5 },
            opened_at: at(i64::try_from(number).unwrap()),
            closed_at: None,
        };
        let (silence, jump) = (alarm(1, "demo", AlarmKind::Silence), alarm(2, "demo", AlarmKind::Uninstalls));
        let (second, other) = (alarm(3, "demo", AlarmKind::Silence), alarm(4, "other", AlarmKind::Silence));
        for raised in [&silence, &jump, &second, &other] {
            home.store.open_alarm(raised.clone(), Vec::new()).await.unwrap();
        }
        home.crash().await;
        let open = home.store.open_alarms(Some(tenant("demo")), 9).await.unwrap();
        assert_eq!(open, [silence.clone(), jump.clone()]);
        assert_eq!(home.store.open_alarms(None, 9).await.unwrap().len(), 3);
        home.store.close_alarm(silence.id, at(9), Vec::new()).await.unwrap();
        assert_eq!(home.store.open_alarms(Some(tenant("demo")), 9).await.unwrap(), [jump]);
        home.store.open_alarm(second.clone(), Vec::new()).await.unwrap();
        assert!(home.store.open_alarms(None, 9).await.unwrap().contains(&second));
    }
}
