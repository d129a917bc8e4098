//! Reading: one tenant's messages only, newest first, in pages, by every filter.

use postern::domain::audit::Actor;
use postern::domain::ids::{KeyId, MessageId};
use postern::domain::lane::Lane;
use postern::domain::message::{Outcome, Reason, Status};
use postern::store::{Content, MessageFilter, Store};
use uuid::Uuid;

use crate::harness::*;

async fn listed(store: &dyn Store, filter: MessageFilter) -> Vec<MessageId> {
    let limit = if filter.limit == 0 { 100 } else { filter.limit };
    let messages = store.messages(&tenant("demo"), MessageFilter { limit, ..filter }).await.unwrap().messages;
    messages.iter().map(|message| message.id).collect()
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

on_every_database! {
    async fn nobody_reads_another_tenants_message(home) {
        let store = &*home.store;
        let id = queued(store, "ann@example.com").await;
        let other = tenant("other");
        assert_eq!(store.message(&other, id).await.unwrap(), None);
        assert_eq!(store.leaves(&other, id).await.unwrap(), None);
        assert_eq!(store.content(&other, id).await.unwrap(), Content::NoMessage);
        assert!(store.messages(&other, MessageFilter { limit: 9, ..MessageFilter::default() }).await.unwrap().messages.is_empty());
        for filter in [
            MessageFilter { limit: 9, tag: Some("summer".into()), ..MessageFilter::default() },
            MessageFilter { limit: 9, metadata: Some(("order".into(), "17".into())), ..MessageFilter::default() },
        ] {
            assert!(store.messages(&other, filter).await.unwrap().messages.is_empty());
        }
        assert!(store.outgoing(new_id()).await.unwrap().is_none());
    }

    async fn a_list_comes_newest_first_in_pages_that_meet(home) {
        let store = &*home.store;
        let mut expected = vec![];
        for second in 0..7 {
            let mut message = mail("ann@example.com");
            // Two share a moment: their identifiers tell them apart.
            message.accepted_at = at(second / 2);
            expected.push(accept(store, message).await.id);
        }
        expected.reverse();
        assert_eq!(listed(store, MessageFilter::default()).await, expected);
        let (mut seen, mut before) = (vec![], None);
        loop {
            let page = listed(store, MessageFilter { before, limit: 3, ..MessageFilter::default() }).await;
            if page.is_empty() {
                break;
            }
            before = page.last().copied();
            seen.extend(page);
        }
        assert_eq!(seen, expected);
    }

    async fn every_filter_finds_its_own_and_they_add_up(home) {
        let store = &*home.store;
        let plain = queued(store, "ann@example.com").await;
        let mut other = mail("Bob <BOB@example.com>");
        (other.lane, other.template, other.tags) = (Lane::Urgent, Some("code".into()), vec!["winter".into(), "x".into()]);
        other.metadata = [("order".to_owned(), "18".to_owned()), ("shop no. 1".to_owned(), "17".to_owned())].into();
        other.accepted_at = at(10);
        other.actor = Actor::Key(KeyId::from_uuid(Uuid::from_u128(8)));
        let other = accept(store, other).await.id;
        let (header, stranger) = (format!("<{}@demo.example>", other.hex()), format!("<{}@other.example>", other.hex()));
        let mut bare = mail("ann@example.com");
        (bare.template, bare.tags, bare.accepted_at) = (None, vec![], at(20));
        let bare = accept(store, bare).await.id;
        settle(store, bare, 0, 21, Outcome::Bounced { reason: Reason::RelayRefused, reply: None, of_recipient: true }).await;
        let any = MessageFilter::default;
        for (filter, expected) in [
            (MessageFilter { recipient: Some("ann@example.com".into()), ..any() }, vec![bare, plain]),
            (MessageFilter { recipient: Some("bob@example.com".into()), ..any() }, vec![other]),
            (MessageFilter { status: Some(Status::Bounced), ..any() }, vec![bare]),
            (MessageFilter { status: Some(Status::Queued), ..any() }, vec![other, plain]),
            (MessageFilter { template: Some("code".into()), ..any() }, vec![other]),
            (MessageFilter { lane: Some(Lane::Urgent), ..any() }, vec![other]),
            (MessageFilter { lane: Some(Lane::Standard), ..any() }, vec![bare, plain]),
            (MessageFilter { lane: Some(Lane::Standard), limit: 1, ..any() }, vec![bare]),
            (MessageFilter { lane: Some(Lane::Standard), before: Some(bare), ..any() }, vec![plain]),
            (MessageFilter { lane: Some(Lane::Urgent), status: Some(Status::Queued), ..any() }, vec![other]),
            (MessageFilter { tag: Some("x".into()), ..any() }, vec![other]),
            (MessageFilter { tag: Some("summer".into()), ..any() }, vec![plain]),
            (MessageFilter { tag: Some("summer".into()), status: Some(Status::Bounced), ..any() }, vec![]),
            (MessageFilter { recipient: Some("bob@example.com".into()), tag: Some("winter".into()), ..any() }, vec![other]),
            (MessageFilter { recipient: Some("ann@example.com".into()), tag: Some("winter".into()), ..any() }, vec![]),
            (MessageFilter { metadata: Some(pair("order", "17")), ..any() }, vec![bare, plain]),
            (MessageFilter { metadata: Some(pair("order", "17")), limit: 1, ..any() }, vec![bare]),
            (MessageFilter { metadata: Some(pair("order", "17")), before: Some(bare), ..any() }, vec![plain]),
            (MessageFilter { metadata: Some(pair("shop no. 1", "17")), ..any() }, vec![other]),
            (MessageFilter { metadata: Some(pair("Order", "17")), ..any() }, vec![]),
            (MessageFilter { metadata: Some(pair("order", "1")), ..any() }, vec![]),
            (MessageFilter { metadata: Some(pair("order", "17")), status: Some(Status::Bounced), ..any() }, vec![bare]),
            (MessageFilter { metadata: Some(pair("order", "17")), tag: Some("summer".into()), ..any() }, vec![plain]),
            (MessageFilter { metadata: Some(pair("order", "18")), recipient: Some("bob@example.com".into()), ..any() }, vec![other]),
            (MessageFilter { metadata: Some(pair("order", "17")), since: Some(at(1)), ..any() }, vec![bare]),
            (MessageFilter { template: Some("welcome".into()), status: Some(Status::Relayed), ..any() }, vec![]),
            (MessageFilter { template: Some("welcome".into()), lane: Some(Lane::Standard), ..any() }, vec![plain]),
            (MessageFilter { tag: Some("x".into()), template: Some("code".into()), lane: Some(Lane::Urgent), ..any() }, vec![other]),
            (MessageFilter { since: Some(at(10)), ..any() }, vec![bare, other]),
            (MessageFilter { until: Some(at(10)), ..any() }, vec![plain]),
            (MessageFilter { since: Some(at(10)), until: Some(at(20)), ..any() }, vec![other]),
            (MessageFilter { until: Some(at(20)), before: Some(other), ..any() }, vec![plain]),
            (MessageFilter { until: Some(at(5)), before: Some(bare), ..any() }, vec![plain]),
            (MessageFilter { message_id: Some(header.clone()), ..any() }, vec![other]),
            (MessageFilter { message_id: Some(header.clone()), before: Some(bare), ..any() }, vec![other]),
            (MessageFilter { message_id: Some(header.clone()), status: Some(Status::Bounced), ..any() }, vec![]),
            (MessageFilter { message_id: Some(header), tag: Some("x".into()), since: Some(at(11)), ..any() }, vec![]),
            (MessageFilter { message_id: Some(stranger), ..any() }, vec![]),
            (MessageFilter { message_id: Some("<somebody@else.example>".into()), ..any() }, vec![]),
            (MessageFilter { key: Some(KeyId::from_uuid(Uuid::from_u128(7))), ..any() }, vec![bare, plain]),
            (MessageFilter { key: Some(KeyId::from_uuid(Uuid::from_u128(8))), ..any() }, vec![other]),
            (MessageFilter { domain: Some("example.com".into()), ..any() }, vec![bare, other, plain]),
            (MessageFilter { domain: Some("com".into()), ..any() }, vec![]),
            (MessageFilter { reason: Some(Reason::RelayRefused), ..any() }, vec![bare]),
            (MessageFilter { reason: Some(Reason::Operator), ..any() }, vec![]),
            (MessageFilter { relay_queue_id: Some("4F2A".into()), ..any() }, vec![]),
            (MessageFilter { journey: Some("hello".into()), ..any() }, vec![]),
        ] {
            assert_eq!(listed(store, filter.clone()).await, expected, "{filter:?}");
        }
        commit(store, plain, 1, 30).await;
        settle(store, plain, 1, 31, relayed()).await;
        let queue_id = view(store, plain).await.relay_queue_id.unwrap();
        let found = MessageFilter { relay_queue_id: Some(queue_id), ..any() };
        assert_eq!(listed(store, found.clone()).await, [plain]);
        assert!(listed(store, MessageFilter { status: Some(Status::Queued), ..found }).await.is_empty());
    }

    async fn what_was_written_is_there_after_the_store_was_opened_again(home) {
        let id = queued(&*home.store, "ann@example.com").await;
        let (before, pepper) = (view(&*home.store, id).await, home.store.key_pepper().await.unwrap());
        home.crash().await;
        assert_eq!(view(&*home.store, id).await, before);
        assert_eq!(home.store.key_pepper().await.unwrap(), pepper);
        assert_eq!(queued(&*home.store, "bob@example.com").await.to_string().len(), 36);
    }

    async fn a_closed_store_says_so(home) {
        let store = &*home.store;
        store.probe(at(1)).await.unwrap();
        store.close().await;
        store.close().await;
        let closed = |error| matches!(error, postern::store::StoreError::Closed);
        assert!(closed(store.probe(at(2)).await.unwrap_err()));
        assert!(closed(store.keys().await.unwrap_err()));
        assert!(closed(store.accept(mail("ann@example.com")).await.unwrap_err()));
    }
}
