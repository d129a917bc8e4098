//! What was kept long enough, and who is erased: what goes, what stays, and what is proven after it.

use std::collections::BTreeMap;

use postern::domain::audit::Actor;
use postern::domain::contact::{Erased, Erasing, Extent};
use postern::domain::fact::Fact;
use postern::domain::ids::MessageId;
use postern::domain::message::{Acceptance, NewMessage, Reason, Status};
use postern::domain::verb::{Refused, Verb};
use postern::store::{Content, Erasure, Order, Purge, PurgedPart, Scrubbed, Steered, Store};
use rusqlite::Connection;
use uuid::Uuid;

use crate::harness::*;

const ANN: &str = "ann.secret@customer.example";
/// More than one batch.
const MANY: usize = 450;

async fn purge(store: &dyn Store, part: PurgedPart, ended_before: i64) -> usize {
    let (mut after, mut count) = (None, 0);
    loop {
        let purge = Purge { part, ended_before: at(ended_before), after, limit: 2, at: at(90) };
        let purged = store.purge(purge).await.unwrap();
        count += purged.count;
        match purged.next {
            Some(next) => after = Some(next),
            None => return count,
        }
    }
}

/// An identifier as it is given at the time at which these mails are accepted.
fn id_then() -> MessageId {
    let seconds = u64::try_from(at(0).as_second()).unwrap();
    MessageId::from_uuid(Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, 0)))
}

async fn waits(store: &dyn Store, recipient: &str) -> MessageId {
    accept(store, NewMessage { id: id_then(), ..mail(recipient) }).await.id
}

async fn ended(store: &dyn Store, recipient: &str, seconds: i64) -> MessageId {
    let id = waits(store, recipient).await;
    commit(store, id, 1, 1).await;
    settle(store, id, 1, seconds, relayed()).await;
    id
}

async fn erase(store: &dyn Store, whom: &str) -> Erasing {
    let customer = whom.parse().unwrap();
    let erasure = Erasure { customer, extent: Extent::Person, at: at(50), by: Actor::Command("contacts").into() };
    store.erase_contact(&tenant("demo"), erasure).await.unwrap()
}

fn retry() -> Order {
    let verb = Verb::Retry { deliver_by: Some(at(900)) };
    Order { verb, at: at(60), actor: Actor::Gateway, because: None }
}

async fn of_kind(store: &dyn Store, kind: &str) -> Vec<serde_json::Value> {
    let leaves = store.leaves_from(0, 10_000).await.unwrap();
    let read = leaves.iter().map(|leaf| serde_json::from_slice::<serde_json::Value>(&leaf.bytes).unwrap());
    read.filter(|leaf| leaf["kind"] == kind).collect()
}

/// A mail to Ann that says who she is wherever it can.
fn telling_mail(fact: Option<&str>) -> NewMessage {
    NewMessage {
        id: id_then(),
        subject: "Hello Annabella".to_owned(),
        tags: vec![format!("for-{ANN}")],
        metadata: BTreeMap::from([("who".to_owned(), ANN.to_owned())]),
        idempotency: Some(idempotency(&format!("to-{ANN}"), 1)),
        fact: fact.map(|name| Fact { name: name.to_owned(), expires_at: None }),
        ..mail(ANN)
    }
}

on_every_database! {
    async fn contents_go_when_their_mails_ended_long_enough_ago_and_nothing_that_still_waits(home) {
        let store = &*home.store;
        let mut old = Vec::new();
        for n in 0..5 {
            old.push(ended(store, &format!("c{n}@example.com"), 10).await);
        }
        let (late, waiting) = (ended(store, "late@example.com", 31).await, waits(store, "waits@example.com").await);
        assert_eq!(purge(store, PurgedPart::Contents, 30).await, 5);
        assert_eq!(purge(store, PurgedPart::Contents, 30).await, 0);
        for id in &old {
            assert_eq!(store.content(&tenant("demo"), *id).await.unwrap(), Content::Purged);
            assert_eq!(view(store, *id).await.status, Status::Relayed);
        }
        for id in [late, waiting] {
            assert!(matches!(store.content(&tenant("demo"), id).await.unwrap(), Content::Present(_)));
        }
        let told: u64 = of_kind(store, "content-purged").await.iter().map(|leaf| leaf["count"].as_u64().unwrap()).sum();
        assert_eq!(told, 5);
    }

    async fn a_mail_without_its_content_is_not_sent_again(home) {
        let store = &*home.store;
        let id = waits(store, "ann@example.com").await;
        assert_eq!(store.sweep(at(2_000), 9).await.unwrap().expired, 1);
        assert_eq!(purge(store, PurgedPart::Contents, 3_000).await, 1);
        let refused = store.steer(&tenant("demo"), id, retry()).await.unwrap();
        assert_eq!(refused, Steered::Refused { why: Refused::ContentGone, status: Status::Expired });
    }

    async fn rows_go_with_all_by_which_they_were_found_and_their_leaves_stay(home) {
        let store = &*home.store;
        let id = accept(store, telling_mail(Some("welcome"))).await.id;
        commit(store, id, 1, 1).await;
        settle(store, id, 1, 10, relayed()).await;
        let waiting = waits(store, "waits@example.com").await;
        let before = kinds(store, id).await;
        assert_eq!(purge(store, PurgedPart::Messages, 30).await, 1);
        assert!(store.message(&tenant("demo"), id).await.unwrap().is_none());
        assert_eq!(view(store, waiting).await.status, Status::Queued);
        let connection = Connection::open(home.folder.path().join("store.db")).unwrap();
        for table in ["message_tag", "message_metadata"] {
            let sql = format!("SELECT count(*) FROM {table} WHERE message = ?1");
            let count = connection.query_row(&sql, [id.as_bytes()], |row| row.get::<_, i64>(0));
            assert_eq!(count, Ok(0), "{table}");
        }
        let contents = connection.query_row("SELECT count(*) FROM content", [], |row| row.get::<_, i64>(0));
        assert_eq!(contents, Ok(1), "that of the other");
        let kept = store.leaves_from(0, 100).await.unwrap().len();
        assert_eq!(kept, before.len() + 1 + 1, "its own, the other's, and that of the purge");
        let again = store.accept(NewMessage { id: new_id(), idempotency: None, ..telling_mail(Some("welcome")) }).await;
        assert!(matches!(again, Ok(Acceptance::Deduplicated(first)) if first.id == id), "the fact's answer outlives it");
    }

    async fn who_is_erased_is_in_no_file_of_the_store_and_what_was_sent_once_is_not_sent_twice(home) {
        let store = &*home.store;
        let sent = accept(store, telling_mail(Some(&format!("welcome/{ANN}")))).await.id;
        commit(store, sent, 1, 1).await;
        settle(store, sent, 1, 2, relayed()).await;
        for n in 0..MANY {
            queued(store, if n % 3 == 0 { ANN } else { "bob@customer.example" }).await;
        }
        let waiting = accept(store, NewMessage { idempotency: None, ..telling_mail(None) }).await.id;
        assert!(found(home, ANN) && found(home, "Annabella"), "it is looked for in the right way");

        let theirs = MANY.div_ceil(3) + 2;
        assert_eq!(erase(store, ANN).await, Erasing::Done(Erased { messages: theirs, ..Erased::default() }));
        assert_eq!(erase(store, ANN).await, Erasing::Nobody);
        let mail = view(store, sent).await;
        assert_eq!((mail.status, mail.recipient.as_str(), mail.subject.as_str()), (Status::Relayed, "", ""));
        let mail = view(store, waiting).await;
        assert_eq!((mail.status, mail.reason), (Status::Cancelled, Some(Reason::Erased)));
        assert_eq!(kinds(store, waiting).await, ["accepted", "cancelled"]);
        let told = of_kind(store, "erased").await;
        assert_eq!((told.len(), &told[0]["messages"]), (1, &theirs.into()));
        assert_eq!(told[0]["recipients"][0], leaves(store, sent).await[0]["recipient"], "as leaves name them");
        assert_eq!(view(store, queued(store, "bob@customer.example").await).await.recipient, "bob@customer.example");

        while store.scrub(50).await.unwrap() != Scrubbed::All {}
        for trace in [ANN, "Annabella", "ann.secret"] {
            assert!(!found(home, trace), "{trace}");
        }

        let again = store.accept(NewMessage { id: new_id(), idempotency: None, ..telling_mail(Some(&format!("welcome/{ANN}"))) }).await;
        assert!(matches!(again, Ok(Acceptance::Deduplicated(first)) if first.id == sent), "the fact is still taken");
        let again = store.accept(NewMessage { id: new_id(), ..telling_mail(Some(&format!("welcome/{ANN}"))) }).await;
        assert!(matches!(again, Ok(Acceptance::Replayed(first)) if first.id == sent), "and so is the key");
    }

    async fn copies_that_the_database_left_of_moved_rows_are_scrubbed_after_an_erasure_also_beside_a_reader_and_a_crash(home) {
        for n in 0..MANY {
            queued(&*home.store, if n % 3 == 0 { ANN } else { "bob@customer.example" }).await;
        }
        assert!(leave_copies(home, ANN) > 20);
        assert!(matches!(erase(&*home.store, ANN).await, Erasing::Done(_)));
        assert_eq!(home.store.scrub(20).await.unwrap(), Scrubbed::Partly);
        home.crash().await;
        assert!(found(home, ANN));
        while home.store.scrub(20).await.unwrap() == Scrubbed::Partly {}
        queued(&*home.store, "carl@customer.example").await;

        let reader = Connection::open(home.folder.path().join("store.db")).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM message").unwrap();
        assert!(matches!(erase(&*home.store, "carl@customer.example").await, Erasing::Done(_)));
        while home.store.scrub(200).await.unwrap() == Scrubbed::Partly {}
        assert_eq!(home.store.scrub(200).await.unwrap(), Scrubbed::Pages, "the log is still there for the reader");
        assert!(found(home, "carl@customer.example"));
        drop(reader);
        while home.store.scrub(200).await.unwrap() != Scrubbed::All {}
        assert!(!found(home, ANN) && !found(home, "carl@customer.example"));

        let connection = Connection::open(home.folder.path().join("store.db")).unwrap();
        let told: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(told, "ok");
        let theirs = "SELECT count(*) FROM message WHERE recipient = 'bob@customer.example'";
        let count = connection.query_row(theirs, [], |row| row.get::<_, i64>(0));
        assert_eq!(count, Ok(300), "nobody else's row is touched");
    }

    async fn nobody_is_erased_while_a_mail_to_them_is_past_its_commit_point(home) {
        let store = &*home.store;
        let (first, second) = (queued(store, ANN).await, queued(store, ANN).await);
        commit(store, first, 1, 1).await;
        assert_eq!(erase(store, ANN).await, Erasing::InFlight);
        assert_eq!(view(store, second).await.status, Status::Queued, "nothing was done");
        settle(store, first, 1, 2, relayed()).await;
        assert_eq!(erase(store, ANN).await, Erasing::Done(Erased { messages: 2, ..Erased::default() }));
    }
}

/// Leaves copies of a text in the pages of the database, where SQLite does when it builds a page anew: between its pointers
/// and its cells. In how many.
fn leave_copies(home: &Home, text: &str) -> usize {
    let connection = Connection::open(home.folder.path().join("store.db")).unwrap();
    let mut pages = connection.prepare("SELECT pgno, data FROM sqlite_dbpage WHERE pgno > 1").unwrap();
    let pages = pages.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))).unwrap();
    let mut left = 0;
    for (number, mut page) in pages.collect::<Result<Vec<_>, _>>().unwrap() {
        let word = |at: usize| usize::from(u16::from_be_bytes([page[at], page[at + 1]]));
        let (from, until) = (12 + 2 * word(3), word(5));
        if matches!(page[0], 2 | 5 | 10 | 13) && until > from + text.len() {
            page[from..from + text.len()].copy_from_slice(text.as_bytes());
            left += connection.execute("UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1", (number, page)).unwrap();
        }
    }
    left
}

/// Whether a text stands in any file of the store.
fn found(home: &Home, text: &str) -> bool {
    let files = std::fs::read_dir(home.folder.path()).unwrap();
    files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .any(|bytes| memchr::memmem::find(&bytes.to_ascii_lowercase(), text.to_ascii_lowercase().as_bytes()).is_some())
}
