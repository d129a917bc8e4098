//! Reports on mails: what each changes, and what follows for its recipient.

use postern::domain::audit::Actor;
use postern::domain::bounce::{Action, Delivery, Finding, Said};
use postern::domain::contact::{Erasing, Extent};
use postern::domain::ids::MessageId;
use postern::domain::message::{Outcome, Reason, Status};
use postern::domain::reply::{EnhancedCode, Reply};
use postern::domain::suppression::Source;
use postern::store::{Erasure, Heard, Lift, Reported, Store, SuppressionFilter};
use serde_json::Value;

use crate::harness::*;

const ANN: &str = "ann@customer.example";
const IN_A_ROW: u32 = 3;

async fn sent(store: &dyn Store, recipient: &str) -> MessageId {
    let id = queued(store, recipient).await;
    commit(store, id, 1, 1).await;
    settle(store, id, 1, 2, relayed()).await;
    id
}

/// Sent, and its answer lost.
async fn in_doubt(store: &dyn Store, recipient: &str) -> MessageId {
    let id = queued(store, recipient).await;
    commit(store, id, 1, 1).await;
    settle(store, id, 1, 2, Outcome::Unknown { reason: Reason::ReplyLost, decide_at: at(60) }).await;
    id
}

fn delivery(action: Action, code: &str) -> Said {
    let words = Some("what ann@customer.example heard".to_owned());
    Said::Delivery(Delivery { action, code: EnhancedCode::leading(code), words })
}

async fn heard(store: &dyn Store, message: MessageId, said: Said) -> Heard {
    let reported = Reported { message, said, actor: Actor::Gateway, soft_bounces_max: IN_A_ROW, at: at(9) };
    store.report(&tenant("demo"), reported).await.unwrap()
}

async fn report(store: &dyn Store, message: MessageId, action: Action, code: &str) -> Finding {
    match heard(store, message, delivery(action, code)).await {
        Heard::Found(finding) => finding,
        Heard::InFlight => panic!("too early"),
    }
}

async fn sources(store: &dyn Store, recipient: &str) -> Vec<Source> {
    let recipient = Some(recipient.parse().unwrap());
    let filter = SuppressionFilter { recipient, limit: 9, ..SuppressionFilter::default() };
    let listed = store.suppressions(&tenant("demo"), filter).await.unwrap();
    listed.into_iter().map(|one| one.suppression.source).collect()
}

on_every_database! {
    async fn a_mail_that_came_back_is_bounced_and_its_recipient_is_mailed_no_more(home) {
        let store = &*home.store;
        let (id, other) = (sent(store, ANN).await, queued(store, ANN).await);
        assert_eq!(report(store, id, Action::Failed, "5.1.1").await, Finding::Bounced);
        let mail = view(store, id).await;
        assert_eq!((mail.status, mail.reason), (Status::Bounced, Some(Reason::Returned)));
        assert_eq!(mail.relay_reply.as_deref(), Some("report: failed 5.1.1 (what ann@customer.example heard)"));
        let kinds = kinds(store, id).await;
        assert_eq!(kinds, ["accepted", "attempt-committed", "relayed", "dsn", "bounced", "suppression-added"]);
        let told = Value::from(leaves(store, id).await).to_string();
        assert!(!told.contains('@') && !told.contains("heard") && told.contains("\"enhanced\":\"5.1.1\""), "{told}");
        assert_eq!(sources(store, ANN).await, [Source::Bounce]);
        commit_stops(store, other).await;
        assert_eq!(view(store, other).await.reason, Some(Reason::Suppressed));

        assert_eq!(report(store, id, Action::Failed, "5.1.1").await, Finding::Known);
        let lift = Lift { recipient: ANN.parse().unwrap(), scope: None, because: None, at: at(10) };
        store.lift(&tenant("demo"), Actor::Gateway, vec![lift]).await.unwrap();
        assert_eq!(report(store, id, Action::Failed, "5.1.1").await, Finding::Known);
        assert!(sources(store, ANN).await.is_empty(), "the same report does not undo what an operator said since");
    }

    async fn a_mail_is_delivered_with_evidence_and_a_delay_is_noted_once(home) {
        let store = &*home.store;
        let id = sent(store, ANN).await;
        assert_eq!(report(store, id, Action::Delayed, "4.4.1").await, Finding::Noted);
        assert_eq!(report(store, id, Action::Delayed, "4.4.1").await, Finding::Known);
        assert_eq!(view(store, id).await.status, Status::Relayed);
        assert_eq!(report(store, id, Action::Delivered, "2.0.0").await, Finding::Delivered);
        assert_eq!(view(store, id).await.status, Status::Delivered);
        assert_eq!(kinds(store, id).await[3..], ["dsn", "dsn", "delivered"]);
        assert_eq!(report(store, id, Action::Failed, "5.1.1").await, Finding::Noted, "it is in a mailbox already");
        assert!(sources(store, ANN).await.is_empty());
    }

    async fn any_report_ends_a_doubt_and_one_that_is_too_early_is_to_come_again(home) {
        let store = &*home.store;
        for (action, finding, status) in [
            (Action::Failed, Finding::Bounced, Status::Bounced),
            (Action::Delivered, Finding::Delivered, Status::Delivered),
            (Action::Delayed, Finding::Relayed, Status::Relayed),
        ] {
            let id = in_doubt(store, ANN).await;
            assert_eq!(report(store, id, action, "4.0.0").await, finding);
            assert_eq!(view(store, id).await.status, status);
            let last = kinds(store, id).await.split_off(3);
            assert_eq!(last, ["dsn", "resolved", status.as_str()]);
        }
        let id = queued(store, ANN).await;
        commit(store, id, 1, 1).await;
        assert_eq!(heard(store, id, delivery(Action::Failed, "5.1.1")).await, Heard::InFlight);
        settle(store, id, 1, 2, relayed()).await;
        assert_eq!(report(store, id, Action::Failed, "5.2.2").await, Finding::Bounced);
        let never = queued(store, "bob@customer.example").await;
        assert_eq!(report(store, never, Action::Failed, "5.1.1").await, Finding::Noted, "it was never sent");
        assert_eq!(view(store, never).await.status, Status::Queued);
        assert_eq!(heard(store, new_id(), delivery(Action::Failed, "5.1.1")).await, Heard::Found(Finding::UnknownMessage));
    }

    async fn too_many_in_a_row_that_come_back_end_in_a_suppression_and_one_that_arrives_begins_anew(home) {
        let store = &*home.store;
        for _ in 0..2 {
            let id = sent(store, ANN).await;
            report(store, id, Action::Failed, "5.2.2").await;
        }
        let arrives = sent(store, ANN).await;
        report(store, arrives, Action::Delivered, "2.0.0").await;
        for more in 1..=IN_A_ROW {
            let id = sent(store, ANN).await;
            assert!(sources(store, ANN).await.is_empty());
            report(store, id, Action::Failed, "5.2.2").await;
            assert_eq!(sources(store, ANN).await.len(), usize::from(more == IN_A_ROW));
        }
    }

    async fn who_complains_is_mailed_no_more_and_who_is_refused_while_we_ask_neither(home) {
        let store = &*home.store;
        let id = sent(store, ANN).await;
        assert_eq!(heard(store, id, Said::Complaint).await, Heard::Found(Finding::Complaint));
        assert_eq!((view(store, id).await.status, sources(store, ANN).await), (Status::Relayed, vec![Source::Complaint]));
        let lift = Lift { recipient: ANN.parse().unwrap(), scope: None, because: None, at: at(10) };
        store.lift(&tenant("demo"), Actor::Gateway, vec![lift]).await.unwrap();
        assert_eq!(heard(store, id, Said::Complaint).await, Heard::Found(Finding::Known));
        assert!(sources(store, ANN).await.is_empty(), "an operator has taken it back since");
        for (recipient, reply, suppressed) in [
            ("bob@customer.example", "5.1.1 no such user", true), ("carl@customer.example", "5.7.1 not you", false),
        ] {
            let id = queued(store, recipient).await;
            let reply = Some(Reply::new(550, reply.to_owned()));
            commit(store, id, 1, 1).await;
            settle(store, id, 1, 2, Outcome::Bounced { reason: Reason::RelayRefused, reply }).await;
            assert_eq!(sources(store, recipient).await.contains(&Source::Bounce), suppressed, "{recipient}");
        }
    }

    async fn of_an_erased_person_no_words_are_kept_and_tags_outlive_a_restart(home) {
        let tag = home.store.return_path_tag(&tenant("demo"), MessageId::from_uuid(uuid::Uuid::from_u128(7)));
        let other = home.store.return_path_tag(&tenant("other"), MessageId::from_uuid(uuid::Uuid::from_u128(7)));
        assert!(!tag.is(&other));
        home.crash().await;
        let store = &*home.store;
        assert!(store.return_path_tag(&tenant("demo"), MessageId::from_uuid(uuid::Uuid::from_u128(7))).is(&tag));
        let id = sent(store, ANN).await;
        let (customer, extent) = (ANN.parse().unwrap(), Extent::Person);
        let erasure = Erasure { customer, extent, at: at(5), by: Actor::Gateway.into() };
        assert!(matches!(store.erase_contact(&tenant("demo"), erasure).await.unwrap(), Erasing::Done(_)));
        assert_eq!(report(store, id, Action::Failed, "5.1.1").await, Finding::Bounced);
        let mail = view(store, id).await;
        assert_eq!((mail.status, mail.relay_reply.filter(|reply| reply.contains("heard"))), (Status::Bounced, None));
        assert!(sources(store, ANN).await.is_empty());
    }
}

/// A commit point that stops.
async fn commit_stops(store: &dyn Store, id: MessageId) {
    let commit = postern::store::CommitPoint { id, token: token(2), relay: relay("primary"), at: at(10) };
    assert_eq!(store.commit_point(commit).await.unwrap(), postern::domain::message::Verdict::Stop);
}
