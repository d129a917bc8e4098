//! Mails in doubt: which they are, and what ends the doubt.

use postern::domain::evidence::{Evidence, Fate, Taken};
use postern::domain::ids::MessageId;
use postern::domain::lane::UnknownPolicy::{Hold, ResendOnce};
use postern::domain::message::{Settled, Status, Verdict};

use crate::harness::*;

fn evidence(id: MessageId, seconds: i64) -> Evidence {
    let fate = Fate { status: "sent".to_owned(), enhanced: None, words: "delivered to ann@example.com".to_owned() };
    let taken = Taken { queue_id: "4F2A91C2".to_owned(), fate: Some(fate) };
    Evidence { id, relay: "primary".parse().unwrap(), taken, at: at(seconds) }
}

on_every_database! {
    async fn what_may_have_been_sent_is_in_doubt_until_it_ends(home) {
        let store = &*home.store;
        let clear = queued(store, "clear@example.com").await;
        let unknown = with_unknown(store, mail("ann@example.com"), 10).await;
        let held = with_unknown(store, mail("bob@example.com"), 5).await;
        store.decide_unknown(at(5), per_lane(Hold), 9).await.unwrap();
        let again = with_unknown(store, mail("carl@example.com"), 6).await;
        store.decide_unknown(at(6), per_lane(ResendOnce), 9).await.unwrap();

        let found = store.in_doubt(9).await.unwrap();
        let shown: Vec<_> = found.iter().map(|message| (message.id, message.decide_at)).collect();
        assert_eq!(shown, [(unknown, Some(at(10))), (again, None), (held, None)], "{clear:?} is not");
        assert_eq!(found[0].message_id, view(store, unknown).await.message_id);
        assert_eq!(store.in_doubt(2).await.unwrap().len(), 2);

        let all = [unknown, held, again].map(|id| evidence(id, 20));
        assert_eq!(store.resolve(all.to_vec()).await.unwrap(), 3);
        assert!(store.in_doubt(9).await.unwrap().is_empty());
        for id in [unknown, held, again] {
            let message = view(store, id).await;
            assert_eq!((message.status, message.reason, message.ended_at), (Status::Relayed, None, Some(at(20))));
            assert_eq!(message.relay_queue_id.as_deref(), Some("4F2A91C2"));
            assert_eq!(message.relay_reply.as_deref(), Some("log: sent (delivered to ann@example.com)"));
            assert!(message.may_have_been_sent, "never taken back");
            let leaves = leaves(store, id).await;
            let [.., resolved, relayed] = leaves.as_slice() else { panic!("{leaves:?}") };
            assert_eq!((&resolved["kind"], &resolved["by"]), (&"resolved".into(), &"relay-log".into()));
            assert_eq!((&relayed["kind"], &relayed["relayQueueId"]), (&"relayed".into(), &"4F2A91C2".into()));
            assert!(!format!("{resolved}{relayed}").contains("ann@"), "{resolved} {relayed}");
        }
        assert_eq!(commit(store, again, 2, 21).await, Verdict::Stop, "it is not sent once more");
    }

    async fn evidence_changes_nothing_that_is_not_in_doubt_or_on_another_attempt(home) {
        let store = &*home.store;
        let waiting = queued(store, "ann@example.com").await;
        let again = with_unknown(store, mail("carl@example.com"), 6).await;
        store.decide_unknown(at(6), per_lane(ResendOnce), 9).await.unwrap();
        assert_eq!(commit(store, again, 2, 7).await, Verdict::Go);
        let before = [kinds(store, waiting).await, kinds(store, again).await];
        let stranger = MessageId::from_uuid(uuid::Uuid::from_u128(7));
        let all = [waiting, again, stranger].map(|id| evidence(id, 8));
        assert_eq!(store.resolve(all.to_vec()).await.unwrap(), 0);
        assert_eq!([kinds(store, waiting).await, kinds(store, again).await], before);
        assert_eq!(settle(store, again, 2, 9, unknown(20)).await, Settled::Applied);
        assert_eq!(store.resolve(vec![evidence(again, 10)]).await.unwrap(), 1);
    }
}
