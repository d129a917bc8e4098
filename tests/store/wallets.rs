//! Pass events: what is kept of them, what they add up to, and how it is read.

use std::collections::BTreeMap;
use std::time::Duration;

use postern::domain::audit::Actor;
use postern::domain::ids::EventId;
use postern::domain::pass_event::Change::{AdditionalDevice, Duplicate, FirstInstall, Reinstall, Removed, Stale};
use postern::domain::pass_event::EventKind::{Installed, Uninstalled};
use postern::domain::pass_event::Wallet::{Apple, Google};
use postern::domain::pass_event::{
    Change, EventKind, NewPassEvent, PassEvent, RegistrationCounts, Source, Wallet, Way,
};
use postern::domain::wallet::WalletStatus;
use postern::store::{CustomerWallet, Pushed, RecordRules, Recorded, Store};
use uuid::Uuid;

use crate::harness::*;

pub(crate) fn rules() -> RecordRules {
    RecordRules {
        journeys: Vec::new(),
        identifiers: ["customerId", "email"].map(str::to_owned).to_vec(),
        reinstall_settle: Duration::from_mins(10),
        history_max: 500,
        passes_max: 1_000,
        time_ahead_max: Duration::from_mins(5),
        pushed: Pushed::Yes,
    }
}

/// An event of pass `pass`, known by `customer`, that happened at `second`.
pub(crate) fn event(second: i64, pass: &str, kind: EventKind, wallet: Wallet) -> NewPassEvent {
    NewPassEvent {
        id: EventId::from_uuid(Uuid::now_v7()),
        received_at: at(second),
        event: PassEvent {
            kind,
            wallet,
            pass: Some(pass.to_owned()),
            pass_type: Some("loyalty".to_owned()),
            identifiers: BTreeMap::new(),
            counts: RegistrationCounts::default(),
            source: Source::default(),
            occurred_at: Some(at(second)),
            since: None,
            key: None,
            way: Way::Hook,
        },
    }
}

pub(crate) fn of(customer: &str, mut event: NewPassEvent) -> NewPassEvent {
    event.event.identifiers.insert("customerId".to_owned(), customer.to_owned());
    event
}

/// As the hooks send it: without a time.
fn untimed(mut event: NewPassEvent) -> NewPassEvent {
    event.event.occurred_at = None;
    event
}

fn keyed(key: &str, mut event: NewPassEvent) -> NewPassEvent {
    event.event.key = Some(key.to_owned());
    event
}

/// As the documented sample sends it: neither a time nor a pass.
fn nameless(mut event: NewPassEvent) -> NewPassEvent {
    event.event.pass = None;
    untimed(event)
}

async fn record(store: &dyn Store, events: Vec<NewPassEvent>) -> Vec<(Change, WalletStatus)> {
    let recorded = store.record(&tenant("demo"), Actor::Webhook, events, rules()).await.unwrap();
    recorded.into_iter().map(|Recorded { change, status, .. }| (change, status)).collect()
}

async fn wallet(store: &dyn Store, customer: &str) -> Option<CustomerWallet> {
    let found = store.customer_wallet(&tenant("demo"), customer.to_owned()).await.unwrap();
    found.map(|(wallet, _)| wallet)
}

/// All that was added up for customers of a tenant, without the order in which it came about.
async fn projections(store: &dyn Store, of: &str) -> Vec<String> {
    let all = store.wallets_changed(&tenant(of), None, 10_000).await.unwrap();
    let known = all.iter().filter(|wallet| !wallet.customer.is_by_pass());
    let mut shown: Vec<_> = known.map(|wallet| format!("{:?} {:?}", wallet.customer, wallet.projection)).collect();
    shown.sort();
    shown
}

on_every_database! {
    async fn the_four_states_are_told_and_kept(home) {
        let store = &*home.store;
        for (event, expected) in [
            (event(1, "P", Installed, Apple), (FirstInstall, WalletStatus::Apple)),
            (event(2, "P", Installed, Google), (AdditionalDevice, WalletStatus::Both)),
            (event(3, "P", Uninstalled, Apple), (Removed, WalletStatus::Google)),
            (event(4, "P", Uninstalled, Google), (Removed, WalletStatus::None)),
            (event(4, "P", Uninstalled, Google), (Duplicate, WalletStatus::None)),
            (event(900, "P", Installed, Apple), (Reinstall, WalletStatus::Apple)),
            (event(800, "P", Uninstalled, Apple), (Stale, WalletStatus::Apple)),
        ] {
            assert_eq!(record(store, vec![of("C1", event)]).await, [expected]);
        }
        let found = wallet(store, "C1").await.unwrap();
        assert_eq!(found.projection.apple_installed_at, Some(at(900)));
        assert_eq!((found.projection.google_installed_at, found.projection.last_event), (None, Installed));
        assert_eq!(found.projection.changed_at, at(900));
        assert_eq!(wallet(store, "C2").await, None);
        let elsewhere = store.customer_wallet(&tenant("other"), "C1".to_owned()).await.unwrap();
        assert_eq!(elsewhere, None);
    }

    async fn hook_events_without_id_and_time_are_told_apart_by_what_they_change(home) {
        let store = &*home.store;
        let told = async |second, kind| record(store, vec![of("C1", untimed(event(second, "P", kind, Apple)))]).await[0];
        assert_eq!(told(1, Installed).await, (FirstInstall, WalletStatus::Apple));
        assert_eq!(told(2, Installed).await, (Duplicate, WalletStatus::Apple));
        assert_eq!(told(3, Uninstalled).await, (Removed, WalletStatus::None));
        assert_eq!(told(4, Uninstalled).await, (Duplicate, WalletStatus::None));
        assert_eq!(told(5, Installed).await, (Reinstall, WalletStatus::Apple));
        // What said nothing new was not kept: the history is as long as what happened.
        let found = wallet(store, "C1").await.unwrap();
        assert_eq!((found.projection.apple_installed_at, found.place.seq), (Some(at(5)), 2));
    }

    async fn events_that_name_no_pass_speak_of_all_the_customer_has(home) {
        let store = &*home.store;
        let told = async |event: NewPassEvent| record(store, vec![of("C1", event)]).await[0];
        assert_eq!(told(nameless(event(1, "", Installed, Apple))).await, (FirstInstall, WalletStatus::Apple));
        assert_eq!(told(nameless(event(2, "", Installed, Apple))).await, (Duplicate, WalletStatus::Apple));
        assert_eq!(told(event(3, "P", Installed, Google)).await.1, WalletStatus::Both);
        assert_eq!(told(nameless(event(4, "", Uninstalled, Google))).await, (Removed, WalletStatus::Apple));
        assert_eq!(told(nameless(event(5, "", Uninstalled, Google))).await, (Duplicate, WalletStatus::Apple));
        assert_eq!(told(event(6, "P", Installed, Google)).await.1, WalletStatus::Both);
        assert_eq!(told(nameless(event(7, "", Uninstalled, Google))).await, (Removed, WalletStatus::Apple));
        assert_eq!(told(nameless(event(8, "", Installed, Google))).await, (Reinstall, WalletStatus::Both));
    }

    async fn a_repeat_by_its_id_gets_the_first_answer_s_id(home) {
        let store = &*home.store;
        let first = keyed("E1", of("C1", event(1, "P", Installed, Apple)));
        let id = first.id;
        record(store, vec![first.clone()]).await;
        record(store, vec![of("C1", event(2, "P", Uninstalled, Apple))]).await;
        // The same id again, at whatever time.
        let again = keyed("E1", of("C1", event(3, "P", Installed, Apple)));
        let told = store.record(&tenant("demo"), Actor::Webhook, vec![again], rules()).await.unwrap();
        assert_eq!((told[0].id, told[0].change, told[0].status), (id, Duplicate, WalletStatus::None));
        // Used for another pass, wallet or kind it is another; so is another tenant's.
        for other in [("Q", Installed, Apple), ("P", Installed, Google), ("Q", Uninstalled, Apple)] {
            let event = keyed("E1", of("C1", event(9, other.0, other.1, other.2)));
            assert_ne!(record(store, vec![event]).await[0].0, Duplicate, "{other:?}");
        }
        let other = store.record(&tenant("other"), Actor::Webhook, vec![first], rules()).await.unwrap();
        assert_eq!(other[0].change, FirstInstall);
    }

    async fn what_is_no_news_of_the_pass_may_still_say_whose_it_is(home) {
        let store = &*home.store;
        record(store, vec![untimed(event(1, "P1", Installed, Apple)), event(1, "P2", Installed, Apple)]).await;
        let told = record(
            store,
            vec![of("C1", untimed(event(2, "P1", Installed, Apple))), of("C2", event(1, "P2", Installed, Apple))],
        )
        .await;
        assert_eq!(told, [(Duplicate, WalletStatus::Apple), (Duplicate, WalletStatus::Apple)]);
        for customer in ["C1", "C2"] {
            assert_eq!(wallet(store, customer).await.unwrap().projection.status, WalletStatus::Apple, "{customer}");
        }
    }

    async fn words_with_and_without_a_pass_follow_each_other_and_each_answer_says_what_holds(home) {
        let store = &*home.store;
        let told = async |event: NewPassEvent| {
            let told = record(store, vec![of("C1", event)]).await[0];
            assert_eq!(wallet(store, "C1").await.unwrap().projection.status, told.1);
            told
        };
        assert_eq!(told(untimed(event(1, "Q1", Installed, Apple))).await.0, FirstInstall);
        assert_eq!(told(nameless(event(2, "", Installed, Apple))).await, (Duplicate, WalletStatus::Apple));
        assert_eq!(told(nameless(event(3, "", Uninstalled, Apple))).await, (Removed, WalletStatus::None));
        assert_eq!(told(untimed(event(4, "Q1", Installed, Apple))).await, (Reinstall, WalletStatus::Apple));
        let projection = wallet(store, "C1").await.unwrap().projection;
        assert_eq!((projection.changed_at, projection.last_event), (at(4), Installed));
        assert_eq!(told(untimed(event(5, "Q1", Uninstalled, Apple))).await, (Removed, WalletStatus::None));
        assert_eq!(told(nameless(event(6, "", Installed, Apple))).await, (Reinstall, WalletStatus::Apple));
        assert_eq!(told(untimed(event(7, "Q1", Uninstalled, Apple))).await, (Removed, WalletStatus::None));
    }

    async fn many_events_of_one_wallet_forget_nothing_of_the_other(home) {
        let store = &*home.store;
        let few = RecordRules { history_max: 5, ..rules() };
        record(store, vec![of("C1", event(1, "P", Installed, Google)), of("C1", event(2, "P", Installed, Apple))]).await;
        let many: Vec<_> = (3..40).map(|second| keyed(&format!("E{second}"), of("C1", event(second, "P", Installed, Apple)))).collect();
        store.record(&tenant("demo"), Actor::Webhook, many, few.clone()).await.unwrap();
        // One that comes late has the latest walked again, and they alone.
        let late = of("C1", event(38, "P", Uninstalled, Google));
        store.record(&tenant("demo"), Actor::Webhook, vec![late], few).await.unwrap();
        let projection = wallet(store, "C1").await.unwrap().projection;
        assert_eq!((projection.status, projection.apple_installed_at), (WalletStatus::Apple, Some(at(2))));
        assert_eq!(projection.changed_at, at(38));
    }

    async fn however_many_passes_a_customer_has_all_of_them_count(home) {
        let store = &*home.store;
        let few = RecordRules { passes_max: 3, ..rules() };
        let record = async |events| store.record(&tenant("demo"), Actor::Webhook, events, few.clone()).await.unwrap();
        record((0..20).map(|n| of("C1", event(n, &format!("P{n}"), Installed, Apple))).collect()).await;
        record((5..20).map(|n| of("C1", event(100 + n, &format!("P{n}"), Uninstalled, Apple))).collect()).await;
        let projection = wallet(store, "C1").await.unwrap().projection;
        assert_eq!((projection.status, projection.apple_installed_at), (WalletStatus::Apple, Some(at(0))));
        assert_eq!((projection.changed_at, projection.last_event), (at(119), Uninstalled));
    }

    async fn a_customer_is_found_by_each_of_their_identifiers_and_by_the_best_first(home) {
        let store = &*home.store;
        let with = |customer: &str, email: &str, event: NewPassEvent| {
            let mut event = of(customer, event);
            event.event.identifiers.insert("email".to_owned(), email.to_owned());
            event
        };
        record(store, vec![with("C1", "ann@example.com", event(1, "P1", Installed, Apple))]).await;
        assert_eq!(wallet(store, "ann@example.com").await.unwrap().customer.value, "C1");
        // An address that is somebody's customerId is that somebody.
        record(store, vec![of("ann@example.com", event(2, "P2", Installed, Google))]).await;
        assert_eq!(wallet(store, "ann@example.com").await.unwrap().projection.status, WalletStatus::Google);
        record(store, vec![with("C1", "ann@other.example", event(3, "P1", Installed, Apple))]).await;
        assert_eq!(wallet(store, "ann@other.example").await.unwrap().customer.value, "C1");
    }

    async fn an_event_without_a_time_comes_after_what_a_fast_clock_said(home) {
        let store = &*home.store;
        let mut ahead = of("C1", event(100, "P", Installed, Apple));
        ahead.event.occurred_at = Some(at(300));
        record(store, vec![ahead]).await;
        let removal = of("C1", untimed(event(110, "P", Uninstalled, Apple)));
        assert_eq!(record(store, vec![removal]).await, [(Removed, WalletStatus::None)]);
    }

    async fn only_a_quick_reinstall_is_marked_as_flapping(home) {
        let store = &*home.store;
        let flapped = async |second, kind| {
            let event = of("C1", event(second, "P", kind, Apple));
            store.record(&tenant("demo"), Actor::Webhook, vec![event], rules()).await.unwrap()[0].flapped
        };
        assert!(!flapped(0, Installed).await);
        assert!(!flapped(1_000, Uninstalled).await);
        assert!(flapped(1_500, Installed).await);
        assert!(!flapped(2_000, Uninstalled).await);
        assert!(!flapped(2_600, Installed).await);
    }

    async fn a_pass_is_joined_to_its_customer_when_an_identifier_arrives(home) {
        let store = &*home.store;
        record(store, vec![event(1, "P1", Installed, Apple), of("C1", event(2, "P2", Installed, Google))]).await;
        assert_eq!(wallet(store, "P1").await.unwrap().projection.status, WalletStatus::Apple);
        assert_eq!(record(store, vec![of("C1", event(3, "P1", Installed, Apple))]).await, [(Duplicate, WalletStatus::Both)]);
        let (found, passes) =
            store.customer_wallet(&tenant("demo"), "C1".to_owned()).await.unwrap().unwrap();
        assert_eq!((found.projection.status, found.projection.apple_installed_at), (WalletStatus::Both, Some(at(1))));
        assert_eq!(passes.len(), 2);
        // Asked by the pass's id, it is the customer that answers; a reader of changes is told where the pass went.
        assert_eq!(wallet(store, "P1").await.unwrap().customer.value, "C1");
        let all = store.wallets_changed(&tenant("demo"), None, 10).await.unwrap();
        let left = all.iter().find(|wallet| wallet.customer.value == "P1").unwrap();
        assert_eq!((left.projection.status, left.joined.as_deref()), (WalletStatus::None, Some("C1")));
        // A word that came late does not change whose it is.
        record(store, vec![of("C0", event(0, "P1", Installed, Apple))]).await;
        assert_eq!(wallet(store, "P1").await.unwrap().customer.value, "C1");
    }

    async fn a_better_identifier_moves_all_that_is_known(home) {
        let store = &*home.store;
        let mut first = event(1, "P1", Installed, Apple);
        first.event.identifiers.insert("email".to_owned(), "ann@example.com".to_owned());
        record(store, vec![first]).await;
        assert_eq!(wallet(store, "ann@example.com").await.unwrap().projection.status, WalletStatus::Apple);
        record(store, vec![of("C1", event(2, "P1", Uninstalled, Apple))]).await;
        assert_eq!(wallet(store, "C1").await.unwrap().projection.status, WalletStatus::None);
        // Who asks by what they were known by before is led on.
        assert_eq!(wallet(store, "ann@example.com").await.unwrap().customer.value, "C1");
    }

    async fn a_time_too_far_ahead_counts_as_the_time_it_came_in(home) {
        let store = &*home.store;
        let mut ahead = of("C1", event(10, "P", Installed, Apple));
        ahead.event.occurred_at = Some(at(10_000));
        record(store, vec![ahead]).await;
        assert_eq!(wallet(store, "C1").await.unwrap().projection.apple_installed_at, Some(at(10)));
        assert_eq!(record(store, vec![of("C1", event(11, "P", Uninstalled, Apple))]).await[0].0, Removed);
    }

    async fn changes_are_read_in_their_order_and_none_is_missed(home) {
        let store = &*home.store;
        for number in 0..7 {
            record(store, vec![of(&format!("C{number}"), event(number, &format!("P{number}"), Installed, Apple))]).await;
        }
        let page = async |after| store.wallets_changed(&tenant("demo"), after, 3).await.unwrap();
        let first = page(None).await;
        // What changes while a reader pages is read again, later.
        record(store, vec![of("C0", event(100, "P0", Uninstalled, Apple))]).await;
        let mut seen: Vec<_> = first.iter().map(|wallet| wallet.customer.value.clone()).collect();
        let mut after = first.last().map(|wallet| wallet.place.clone());
        loop {
            let next = page(after.clone()).await;
            if next.is_empty() {
                break;
            }
            seen.extend(next.iter().map(|wallet| wallet.customer.value.clone()));
            after = next.last().map(|wallet| wallet.place.clone());
        }
        assert_eq!(seen, ["C0", "C1", "C2", "C3", "C4", "C5", "C6", "C0"]);
        // What changed nothing is no change.
        record(store, vec![of("C3", event(200, "P3", Installed, Apple))]).await;
        assert!(page(after).await.is_empty());
    }

    async fn whatever_order_they_come_in_events_add_up_to_the_same(home) {
        let store = &*home.store;
        let mut random = fastrand::Rng::with_seed(7);
        let events: Vec<_> = (0..400)
            .map(|_| {
                let pass = format!("P{}", random.u8(0..12));
                let kind = if random.bool() { Installed } else { Uninstalled };
                let wallet = if random.bool() { Apple } else { Google };
                let event = event(random.i64(0..60), &pass, kind, wallet);
                match random.u8(0..4) {
                    0 => event,
                    customer => of(&format!("C{customer}"), event),
                }
            })
            .collect();
        record(store, events.clone()).await;
        let wanted = projections(store, "demo").await;
        for round in 0..3 {
            let other = tenant(&format!("shuffled-{round}"));
            let mut shuffled = [events.clone(), events.clone()].concat();
            random.shuffle(&mut shuffled);
            for chunk in shuffled.chunks(23) {
                store.record(&other, Actor::Webhook, chunk.to_vec(), rules()).await.unwrap();
            }
            assert_eq!(projections(store, other.as_str()).await, wanted, "round {round}");
        }
    }

    async fn events_survive_a_crash_and_each_that_said_something_has_a_leaf(home) {
        record(&*home.store, vec![of("C1", event(1, "P", Installed, Apple)), of("C1", event(1, "P", Installed, Apple))]).await;
        home.crash().await;
        let store = &*home.store;
        assert_eq!(wallet(store, "C1").await.unwrap().projection.status, WalletStatus::Apple);
        let id = queued(store, "ann@example.com").await;
        assert_eq!(store.leaves(&tenant("demo"), id).await.unwrap().unwrap()[0].seq, 1, "one leaf before it");
    }
}
