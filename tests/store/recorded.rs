//! The ledger read as events again, and who entered a journey: what a simulation begins with.

use jiff::Timestamp;
use postern::domain::audit::Actor;
use postern::domain::pass_event::EventKind::{Installed, Uninstalled};
use postern::domain::pass_event::NewPassEvent;
use postern::domain::pass_event::Wallet::{Apple, Google};
use postern::domain::wallet::CustomerKey;
use postern::store::{JourneyEntry, RecordedQuery, Store};

use crate::harness::*;
use crate::wallets::{event, of, rules};

fn customer(value: &str) -> CustomerKey {
    CustomerKey { by: "customerId".to_owned(), value: value.to_owned() }
}

async fn record(store: &dyn Store, events: Vec<NewPassEvent>) {
    store.record(&tenant("demo"), Actor::Webhook, events, rules()).await.unwrap();
}

on_every_database! {
    async fn the_ledger_gives_its_events_back_in_their_order_page_by_page(home) {
    let store = &*home.store;
    let said: Vec<NewPassEvent> = (0..7)
        .map(|number| {
            let kind = if number % 3 == 2 { Uninstalled } else { Installed };
            let wallet = if number % 2 == 0 { Apple } else { Google };
            // Two come in at the same moment each time.
            of(&format!("C{}", number / 3), event(100 + number / 2, &format!("P{}", number / 3), kind, wallet))
        })
        .collect();
    for new in &said {
        record(store, vec![new.clone()]).await;
    }
    let mut read = Vec::new();
    let mut query = RecordedQuery { since: at(100), until: at(103), after: None, limit: 2 };
    loop {
        let page = store.recorded_events(&tenant("demo"), query).await.unwrap();
        let Some(last) = page.last() else { break };
        query.after = Some((last.received_at, last.id));
        read.extend(page);
    }
    // Those at 103 came in at `until`.
    assert_eq!(read.len(), 6);
    for (read, said) in read.iter().zip(&said) {
        assert_eq!((read.id, read.received_at), (said.id, said.received_at));
        assert_eq!((read.event.kind, read.event.wallet, &read.event.pass), (said.event.kind, said.event.wallet, &said.event.pass));
        assert_eq!(read.event.identifiers, said.event.identifiers);
        assert_eq!(read.event.occurred_at, Some(said.received_at), "the time it was taken for");
        assert_eq!(read.customer.by, "customerId");
    }
    let before = store.recorded_before(&tenant("demo"), customer("C0"), at(101), 10).await.unwrap();
    assert_eq!(before.iter().map(|event| event.id).collect::<Vec<_>>(), [said[0].id, said[1].id]);
    let last = store.recorded_before(&tenant("demo"), customer("C0"), Timestamp::MAX, 1).await.unwrap();
    assert_eq!(last[0].id, said[2].id, "those that came in last");
    assert!(store.recorded_events(&tenant("other"), query).await.unwrap().is_empty());
    }

    async fn who_entered_a_journey_is_noted_once_and_found_by_customer_and_pass(home) {
    let store = &*home.store;
    record(store, vec![of("C1", event(100, "P1", Installed, Apple))]).await;
    let journey = "welcome".parse().unwrap();
    let entry = |who: &str, seconds| JourneyEntry { who: who.to_owned(), entered_at: at(seconds) };
    let entries = vec![
        entry("c\u{1}customerId\u{1}C1", 10),
        entry("p\u{1}P1", 11),
        entry("p\u{1}P2", 12),
        entry("c\u{1}accountId\u{1}C1", 13),
    ];
    store.note_journey_entries(&tenant("demo"), &journey, entries).await.unwrap();
    store.note_journey_entries(&tenant("demo"), &journey, vec![entry("p\u{1}P1", 99)]).await.unwrap();
    let found = |before| {
        let journey = &journey;
        async move {
            let mut found =
                store.journey_entries(&tenant("demo"), journey, customer("C1"), at(before)).await.unwrap();
            found.sort_by_key(|entry| entry.entered_at);
            found
        }
    };
    assert_eq!(found(100).await, [entry("c\u{1}customerId\u{1}C1", 10), entry("p\u{1}P1", 11)]);
    assert_eq!(found(11).await, [entry("c\u{1}customerId\u{1}C1", 10)]);
    }
}
