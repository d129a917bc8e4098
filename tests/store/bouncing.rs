//! Reports on mails: what each changes, and what follows for its recipient.

use postern::domain::audit::Actor;
use postern::domain::bounce::{Action, Delivery, Finding, Said};
use postern::domain::contact::{Erasing, Extent};
use postern::domain::ids::MessageId;
use postern::domain::message::{Outcome, Reason, Status};
use postern::domain::reply::{EnhancedCode, Reply};
use postern::domain::suppression::Source;
use postern::domain::verb::Verb;
use postern::store::{Erasure, Heard, Lift, Order, Reported, Steered, Store, SuppressionFilter};
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
        for (recipient, reply, of_recipient, suppressed) in [
            ("bob@customer.example", "5.1.1 no such user", true, true),
            ("carl@customer.example", "5.7.1 not you", true, false),
            ("dora@customer.example", "5.1.2 whoever sends this", false, false),
        ] {
            let id = queued(store, recipient).await;
            let reply = Some(Reply::new(550, reply.to_owned()));
            commit(store, id, 1, 1).await;
            settle(store, id, 1, 2, Outcome::Bounced { reason: Reason::RelayRefused, reply, of_recipient }).await;
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

on_every_database! {
    async fn what_was_said_of_the_first_time_ends_no_doubt_about_the_second(home) {
        let store = &*home.store;
        let again = Verb::Retry { deliver_by: Some(at(9_000)) };
        // Relayed or in doubt, it came back; an operator has it sent again, and that answer is lost.
        for first in [sent(store, ANN).await, in_doubt(store, "bob@customer.example").await] {
            assert_eq!(report(store, first, Action::Failed, "5.2.2").await, Finding::Bounced);
            assert!(!view(store, first).await.may_have_been_sent, "it came back");
            assert!(matches!(store.steer(&tenant("demo"), first, order(again, 20)).await.unwrap(), Steered::Done(_)));
            assert!(!store.in_doubt(9).await.unwrap().iter().any(|message| message.id == first), "nor is it in doubt");
            commit(store, first, 2, 21).await;
            settle(store, first, 2, 22, Outcome::Unknown { reason: Reason::ReplyLost, decide_at: at(60) }).await;
            assert_eq!(report(store, first, Action::Failed, "5.2.2").await, Finding::Known);
            assert_eq!(view(store, first).await.status, Status::Unknown);
            let doubt = store.in_doubt(9).await.unwrap().into_iter().find(|message| message.id == first);
            // The log names the first time, too: by its queue id that is told apart, or it is not looked for.
            assert!(doubt.is_none_or(|doubt| doubt.known_as.is_some()));
            assert_eq!(report(store, first, Action::Failed, "5.4.4").await, Finding::Bounced, "this is another one");
        }
    }

    async fn a_hard_code_suppresses_also_when_its_mail_had_ended_and_the_first_words_of_an_end_stay(home) {
        let store = &*home.store;
        let id = sent(store, ANN).await;
        assert_eq!(report(store, id, Action::Failed, "5.2.2").await, Finding::Bounced);
        assert!(sources(store, ANN).await.is_empty());
        assert_eq!(report(store, id, Action::Delayed, "4.4.1").await, Finding::Noted);
        assert_eq!(report(store, id, Action::Failed, "5.1.1").await, Finding::Noted);
        assert_eq!(sources(store, ANN).await, [Source::Bounce]);
        let reply = view(store, id).await.relay_reply.unwrap();
        assert!(reply.starts_with("report: failed 5.2.2"), "{reply}");
        let cancelled = in_doubt(store, "bob@customer.example").await;
        store.steer(&tenant("demo"), cancelled, order(Verb::Cancel, 3)).await.unwrap();
        assert_eq!(report(store, cancelled, Action::Failed, "5.1.1").await, Finding::Noted);
        assert_eq!(sources(store, "bob@customer.example").await, [Source::Bounce]);
    }

    async fn whoever_holds_a_tag_cannot_fill_the_audit(home) {
        let store = &*home.store;
        let id = sent(store, ANN).await;
        for number in 0..60 {
            let found = report(store, id, Action::Delayed, &format!("4.4.{number}")).await;
            assert_eq!(found, if number < 50 { Finding::Noted } else { Finding::Known }, "{number}");
        }
        assert_eq!(report(store, id, Action::Delayed, "4.4.3").await, Finding::Known, "though it was not the last");
        assert_eq!(report(store, id, Action::Failed, "5.2.2").await, Finding::Bounced, "what ends it is heard");
    }

    async fn what_the_relay_never_took_and_what_was_taken_back_do_not_count_in_a_row(home) {
        let store = &*home.store;
        for _ in 0..IN_A_ROW {
            let id = queued(store, ANN).await;
            commit(store, id, 1, 1).await;
            let reply = Some(Reply::new(550, "5.7.1 relaying denied".to_owned()));
            let refused = Outcome::Bounced { reason: Reason::RelayRefused, reply, of_recipient: true };
            settle(store, id, 1, 2, refused).await;
        }
        for round in 0..2 {
            for number in 1..=IN_A_ROW {
                let id = sent(store, ANN).await;
                report(store, id, Action::Failed, "5.2.2").await;
                let expected = usize::from(number == IN_A_ROW);
                assert_eq!(sources(store, ANN).await.len(), expected, "round {round}, number {number}");
            }
            let lift = Lift { recipient: ANN.parse().unwrap(), scope: None, because: None, at: at(10) };
            store.lift(&tenant("demo"), Actor::Gateway, vec![lift]).await.unwrap();
        }
    }
}

fn order(verb: Verb, now: i64) -> Order {
    Order { verb, at: at(now), actor: Actor::Gateway, because: None }
}

/// A commit point that stops.
async fn commit_stops(store: &dyn Store, id: MessageId) {
    let commit = postern::store::CommitPoint { id, token: token(2), relay: relay("primary"), at: at(10) };
    assert_eq!(store.commit_point(commit).await.unwrap(), postern::domain::message::Verdict::Stop);
}
