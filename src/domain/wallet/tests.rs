//! Events and passes as they add up, by table and by chance.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]
use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::customer::{Naming, Pass, Projection, projection};
use super::history::{Entry, Standings, change, flapped, standings};
use super::identity::Identifiers;
use super::{CustomerKey, WalletStatus};
use crate::domain::pass_event::Change::{AdditionalDevice, Duplicate, FirstInstall, Reinstall, Removed, Stale};
use crate::domain::pass_event::EventKind::{Installed, Uninstalled};
use crate::domain::pass_event::Wallet::{Apple, Google};
use crate::domain::pass_event::{Change, EventKind, RegistrationCounts, Wallet};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn entry(second: i64, kind: EventKind, wallet: Wallet) -> Entry {
    Entry { at: at(second), kind, wallet, tie: String::new(), counts: RegistrationCounts::default(), since: None }
}

fn counted(second: i64, kind: EventKind, wallet: Wallet, active: u32, total: u32) -> Entry {
    Entry { counts: RegistrationCounts { active: Some(active), total: Some(total) }, ..entry(second, kind, wallet) }
}

fn status(standings: &Standings) -> WalletStatus {
    WalletStatus::in_wallets(Wallet::ALL.into_iter().filter(|wallet| standings.is_in(*wallet)))
}

/// What each of these events is as it comes in, and the status after it.
fn told(events: &[Entry]) -> Vec<(Change, WalletStatus)> {
    let tell = |count: usize| {
        let before = standings(events[..count].iter().collect());
        let after = standings(events[..=count].iter().collect());
        (change(&before, &events[count]), status(&after))
    };
    (0..events.len()).map(tell).collect()
}

#[test]
fn the_four_states_come_and_go_one_wallet_at_a_time() {
    let events = [
        entry(1, Installed, Apple),
        entry(2, Installed, Google),
        entry(3, Uninstalled, Apple),
        entry(4, Uninstalled, Google),
        entry(5, Installed, Apple),
    ];
    let expected = [
        (FirstInstall, WalletStatus::Apple),
        (AdditionalDevice, WalletStatus::Both),
        (Removed, WalletStatus::Google),
        (Removed, WalletStatus::None),
        (Reinstall, WalletStatus::Apple),
    ];
    assert_eq!(told(&events), expected);
}

#[test]
fn what_comes_again_or_late_says_so_and_changes_no_status() {
    let events = [
        entry(10, Installed, Apple),
        entry(11, Installed, Apple),
        entry(20, Uninstalled, Apple),
        entry(21, Uninstalled, Apple),
        entry(15, Installed, Apple),
        entry(20, Installed, Apple),
        entry(30, Installed, Apple),
    ];
    let expected = [
        (FirstInstall, WalletStatus::Apple),
        (Duplicate, WalletStatus::Apple),
        (Removed, WalletStatus::None),
        (Duplicate, WalletStatus::None),
        (Stale, WalletStatus::None),
        (Stale, WalletStatus::None),
        (Reinstall, WalletStatus::Apple),
    ];
    assert_eq!(told(&events), expected);
    let all = standings(events.iter().collect()).apple.unwrap();
    assert_eq!((all.since, all.changed_at), (at(30), at(30)));
}

#[test]
fn a_pass_stays_while_another_device_has_it() {
    let one_wallet = [
        counted(1, Installed, Apple, 1, 1),
        counted(2, Installed, Apple, 2, 2),
        counted(3, Installed, Apple, 2, 2),
        counted(4, Uninstalled, Apple, 1, 2),
        counted(5, Uninstalled, Apple, 0, 2),
    ];
    let expected = [
        (FirstInstall, WalletStatus::Apple),
        (AdditionalDevice, WalletStatus::Apple),
        (Duplicate, WalletStatus::Apple),
        (Removed, WalletStatus::Apple),
        (Removed, WalletStatus::None),
    ];
    assert_eq!(told(&one_wallet), expected);
    // Counts of the pass, or of the wallet: with one device in each it is the same.
    for (second, removal) in [(2, 1), (1, 0)] {
        let both = [
            counted(1, Installed, Apple, 1, 1),
            counted(2, Installed, Google, second, second),
            counted(3, Uninstalled, Apple, removal, second),
        ];
        assert_eq!(told(&both)[2], (Removed, WalletStatus::Google), "{second} {removal}");
    }
}

#[test]
fn since_is_the_first_install_of_a_row_and_the_pass_api_knows_better() {
    let mut events = vec![entry(1, Installed, Apple), entry(5, Installed, Apple), entry(9, Installed, Apple)];
    let of = |events: &[Entry]| standings(events.iter().collect()).apple.unwrap();
    assert_eq!((of(&events).since, of(&events).changed_at, of(&events).heard_at), (at(1), at(1), at(9)));
    // A removal that comes late cuts the row.
    events.push(entry(3, Uninstalled, Apple));
    assert_eq!((of(&events).since, of(&events).changed_at), (at(5), at(5)));
    events.push(Entry { since: Some(at(2)), ..entry(100, Installed, Apple) });
    assert_eq!((of(&events).since, of(&events).changed_at), (at(2), at(100)));
    // Asked again it says the same, which is no change.
    events.push(Entry { since: Some(at(2)), ..entry(200, Installed, Apple) });
    assert_eq!((of(&events).since, of(&events).changed_at), (at(2), at(100)));
}

#[test]
fn only_a_quick_reinstall_in_the_same_wallet_flaps() {
    let settle = Duration::from_mins(10);
    let before = standings([entry(1, Installed, Apple), entry(1_000, Uninstalled, Apple)].iter().collect());
    for (event, flaps) in [
        (entry(1_599, Installed, Apple), true),
        (entry(1_600, Installed, Apple), false),
        (entry(1_100, Installed, Google), false),
        (entry(1_100, Uninstalled, Apple), false),
    ] {
        assert_eq!(flapped(&before, &event, settle), flaps, "{event:?}");
    }
}

#[test]
fn the_best_identifier_that_is_there_names_the_customer() {
    let names = ["customerId", "y2.customerId", "email"].map(str::to_owned);
    let of = |pairs: &[(&str, &str)]| {
        let identifiers: BTreeMap<_, _> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        CustomerKey::of(&identifiers, &names).map(|key| (key.by, key.value))
    };
    let key = |by: &str, value: &str| Some((by.to_owned(), value.to_owned()));
    assert_eq!(of(&[("email", "a@b.example"), ("y2.customerId", "7")]), key("y2.customerId", "7"));
    assert_eq!(of(&[("email", "a@b.example"), ("customerId", "")]), key("email", "a@b.example"));
    assert_eq!(of(&[("phone", "1")]), None);
}

fn named(events: &[Entry]) -> Pass {
    Pass { naming: Naming::Named, standings: standings(events.iter().collect()) }
}

fn nameless(events: &[Entry]) -> Pass {
    Pass { naming: Naming::Nameless, ..named(events) }
}

#[test]
fn a_customer_has_what_any_of_their_passes_has() {
    let passes = [
        named(&[entry(1, Installed, Apple), entry(9, Uninstalled, Apple)]),
        named(&[entry(5, Installed, Apple)]),
        named(&[entry(3, Installed, Google)]),
    ];
    let expected = Projection {
        status: WalletStatus::Both,
        apple_installed_at: Some(at(5)),
        google_installed_at: Some(at(3)),
        changed_at: at(9),
        last_event: Uninstalled,
    };
    assert_eq!(projection(&passes), Some(expected));
    assert_eq!(projection(&[]), None);
}

#[test]
fn of_words_with_and_without_a_pass_the_later_counts() {
    for (passes, status) in [
        (vec![nameless(&[entry(1, Installed, Apple)])], WalletStatus::Apple),
        (vec![nameless(&[entry(2, Uninstalled, Apple)]), named(&[entry(1, Installed, Apple)])], WalletStatus::None),
        (vec![nameless(&[entry(2, Uninstalled, Apple)]), named(&[entry(3, Installed, Apple)])], WalletStatus::Apple),
        (vec![nameless(&[entry(2, Uninstalled, Apple)]), named(&[entry(1, Installed, Google)])], WalletStatus::Google),
        (vec![nameless(&[entry(1, Installed, Apple)]), named(&[entry(2, Uninstalled, Apple)])], WalletStatus::None),
        (vec![nameless(&[entry(3, Installed, Apple)]), named(&[entry(2, Uninstalled, Apple)])], WalletStatus::Apple),
    ] {
        assert_eq!(projection(&passes).unwrap().status, status, "{passes:?}");
    }
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let counts = proptest::option::of((0_u32..4, 0_u32..6));
    let kind = prop_oneof![Just(Installed), Just(Uninstalled)];
    let wallet = prop_oneof![Just(Apple), Just(Google)];
    let since = proptest::option::weighted(0.1, 0_i64..40);
    (0_i64..40, kind, wallet, counts, "[a-c]?", since).prop_map(|(second, kind, wallet, counts, tie, since)| Entry {
        counts: RegistrationCounts { active: counts.map(|(active, _)| active), total: counts.map(|(_, total)| total) },
        tie,
        since: since.filter(|_| kind == Installed).map(at),
        ..entry(second, kind, wallet)
    })
}

/// An entry, the pass it is of, and the identifiers that came with it.
#[derive(Debug, Clone)]
struct Said {
    /// `None`: it named no pass.
    pass: Option<u8>,
    identifiers: BTreeMap<String, String>,
    entry: Entry,
}

fn names() -> [String; 2] {
    ["customerId", "email"].map(str::to_owned)
}

impl Said {
    /// The pass it is of: by its id, or by whose it is.
    fn pass(&self) -> (Option<u8>, Option<CustomerKey>) {
        (self.pass, CustomerKey::of(&self.identifiers, &names()).filter(|_| self.pass.is_none()))
    }
}

fn any_said() -> impl Strategy<Value = Said> {
    let identifiers = proptest::collection::btree_map("customerId|email", "[xyz]", 0..2);
    let pass = proptest::option::weighted(0.8, 0_u8..3);
    (pass, identifiers, any_entry()).prop_map(|(pass, identifiers, entry)| Said { pass, identifiers, entry })
}

/// Two events of the same place are the same event: the ledger keeps the first. One that belongs to nobody is none.
fn without_doubles(events: Vec<Said>) -> Vec<Said> {
    let place = |said: &Said| {
        let Entry { at, kind, wallet, tie, .. } = &said.entry;
        (said.pass(), *at, *kind, *wallet, tie.clone())
    };
    let kept = events.into_iter().filter(|said| said.pass() != (None, None));
    kept.map(|said| (place(&said), said)).collect::<BTreeMap<_, _>>().into_values().collect()
}

/// What events add up to for every customer, in the steps in which the store takes them.
fn add_up(events: &[Said]) -> BTreeMap<CustomerKey, Option<Projection>> {
    let mut passes: BTreeMap<_, (Identifiers, Vec<&Entry>)> = BTreeMap::new();
    for said in events {
        let (identifiers, entries) = passes.entry(said.pass()).or_default();
        identifiers.learn(&said.identifiers, &names(), said.entry.at);
        entries.push(&said.entry);
    }
    let mut customers: BTreeMap<CustomerKey, Vec<Pass>> = BTreeMap::new();
    for ((pass, _), (identifiers, entries)) in passes {
        let naming = if pass.is_some() { Naming::Named } else { Naming::Nameless };
        let customer = identifiers.customer(&names(), &format!("{pass:?}"));
        customers.entry(customer).or_default().push(Pass { naming, standings: standings(entries) });
    }
    customers.into_iter().map(|(customer, passes)| (customer, projection(&passes))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn in_whatever_order_events_come_they_add_up_to_the_same(
        (events, shuffled) in proptest::collection::vec(any_said(), 0..12)
            .prop_map(without_doubles)
            .prop_flat_map(|events| {
                let doubled = [events.clone(), events.clone()].concat();
                (Just(events), Just(doubled).prop_shuffle())
            }),
    ) {
        prop_assert_eq!(add_up(&shuffled), add_up(&events));
    }
}

proptest! {
    #[test]
    fn the_last_word_on_a_wallet_counts_unless_it_leaves_other_devices(
        entries in proptest::collection::vec(any_entry(), 1..12),
    ) {
        let found = standings(entries.iter().collect());
        for wallet in Wallet::ALL {
            let last = entries.iter().filter(|entry| entry.wallet == wallet).max_by_key(|entry| (entry.at, entry.kind, &entry.tie));
            if let Some(last) = last.filter(|last| last.counts.active.unwrap_or(0) == 0) {
                prop_assert_eq!(found.is_in(wallet), last.kind == Installed);
            }
        }
    }
}
