//! SQLite alone: the locks, a command beside a gateway, rows and files that somebody broke.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use postern::domain::audit::Actor;
use postern::domain::fact::Fact;
use postern::domain::ids::{KeyId, MessageId};
use postern::domain::key::{ApiKey, Scope};
use postern::domain::lane::UnknownPolicy;
use postern::domain::message::{Acceptance, NewMessage, Reason, Status};
use postern::store::sqlite::{OpenOptions, Role, SqliteStore};
use postern::store::{Decided, KeyStore as _, MessageFilter, Store, StoreError, Swept};
use rusqlite::Connection;

use crate::harness::*;

pub(crate) fn open(path: &Path, role: Role) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(OpenOptions { path: path.to_owned(), role })
}

/// Breaks rows as no code of ours would.
fn break_rows(path: &Path, sql: &str, id: MessageId) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF").unwrap();
    assert_eq!(connection.execute(sql, [id.as_bytes()]).unwrap(), 1);
}

#[tokio::test]
async fn two_gateways_never_serve_one_store_under_whatever_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/store.db");
    let gateway = open(&path, Role::Gateway).unwrap();
    let linked = folder.path().join("linked.db");
    std::os::unix::fs::symlink(&path, &linked).unwrap();
    for name in [path.clone(), linked, folder.path().join("data/../data/store.db")] {
        assert!(matches!(open(&name, Role::Gateway), Err(StoreError::InUse(_))), "{}", name.display());
    }
    gateway.close().await;
    open(&path, Role::Gateway).unwrap();
}

#[tokio::test]
async fn nobody_else_can_read_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/store.db");
    let store = open(&path, Role::Gateway).unwrap();
    queued(&store, "ann@example.com").await;
    for name in ["data/store.db", "data/store.db-wal", "data/store.db.lock", "data"] {
        let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} {mode:o}");
    }
}

#[tokio::test]
async fn a_command_works_beside_a_gateway_and_each_sees_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let gateway = Arc::new(open(&path, Role::Gateway).unwrap());
    let command = open(&path, Role::Command).unwrap();
    let key = ApiKey {
        id: KeyId::from_uuid(uuid::Uuid::now_v7()),
        tenant: tenant("demo"),
        name: "made by a command".to_owned(),
        scopes: vec![Scope::Send],
        limit: None,
        mac: [1; 32],
        created_at: at(0),
        revoked_at: None,
    };
    // Under load: the command meets a gap between two of the gateway's transactions.
    let busy = async {
        for _ in 0..20 {
            futures_util::future::join_all((0..50).map(|_| queued(&*gateway, "ann@example.com"))).await;
        }
    };
    let ((), made) = tokio::join!(busy, command.create_key(key, Actor::Command("keys").into()));
    made.unwrap();
    assert_eq!(gateway.keys().await.unwrap().len(), 1);
    let id = queued(&*gateway, "bob@example.com").await;
    assert_eq!(view(&command, id).await.status, Status::Queued);
    let seq = gateway.leaves(&tenant("demo"), id).await.unwrap().unwrap()[0].seq;
    assert_eq!(seq, 1_001, "a gap or a doubled place in the log");
}

#[tokio::test]
async fn many_who_open_at_once_migrate_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let openers: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || open(&path, Role::Command).map(drop))
        })
        .collect();
    for opener in openers {
        opener.join().unwrap().unwrap();
    }
}

#[test]
fn a_store_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    drop(open(&path, Role::Gateway).unwrap());
    let connection = Connection::open(&path).unwrap();
    let sql = "INSERT INTO refinery_schema_history SELECT 999, 'future', applied_on, checksum FROM refinery_schema_history LIMIT 1";
    connection.execute(sql, []).unwrap();
    drop(connection);
    let Err(StoreError::Open(message)) = open(&path, Role::Gateway) else { panic!("opened") };
    assert!(message.contains("newer version of Postern"), "{message}");
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    std::fs::write(&path, "this is a letter, not a database. ".repeat(200)).unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(open(&path, Role::Gateway), Err(StoreError::Open(_))));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_corrupt_row_is_named_in_views_and_lists() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path, Role::Gateway).unwrap();
    let id = queued(&store, "ann@example.com").await;
    queued(&store, "bob@example.com").await;
    for (column, value) in [("tags", "'{'"), ("reason", "'because'"), ("status", "'lost'"), ("accepted_at", "9e18")] {
        let id = queued(&store, "ann@example.com").await;
        break_rows(
            &path,
            &format!(
                "UPDATE message SET {column} = CAST({value} AS {}) WHERE id = ?1",
                if column == "accepted_at" { "INTEGER" } else { "TEXT" }
            ),
            id,
        );
        let error = store.message(&tenant("demo"), id).await.unwrap_err();
        let StoreError::Corrupt { table: "message", column: named, id: shown } = &error else { panic!("{error:?}") };
        assert_eq!((*named, shown), (column, &id.to_string()));
        let filter = MessageFilter { limit: 9, ..MessageFilter::default() };
        let listed = store.messages(&tenant("demo"), filter).await;
        assert!(matches!(listed, Err(StoreError::Corrupt { table: "message", .. })), "{listed:?}");
    }
    assert_eq!(view(&store, id).await.status, Status::Queued, "others can be read");
}

#[tokio::test]
async fn a_corrupt_content_or_envelope_is_named_and_never_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path, Role::Gateway).unwrap();
    for (sql, column) in [
        ("UPDATE content SET mime = x'00112233' WHERE message = ?1", "mime"),
        ("UPDATE content SET mime_bytes = 9000000000000000000 WHERE message = ?1", "mime_bytes"),
        ("UPDATE content SET mime_bytes = mime_bytes + 1 WHERE message = ?1", "mime_bytes"),
        ("UPDATE message SET mailbox = 'nobody' WHERE id = ?1", "mailbox"),
        ("UPDATE message SET attempts = -1 WHERE id = ?1", "attempts"),
    ] {
        let id = queued(&store, "ann@example.com").await;
        // What was just accepted comes from memory, once.
        assert!(store.outgoing(id).await.unwrap().is_some());
        break_rows(&path, sql, id);
        let error = store.outgoing(id).await.unwrap_err();
        let StoreError::Corrupt { column: named, id: shown, .. } = &error else { panic!("{error:?}") };
        assert_eq!((*named, shown), (column, &id.to_string()), "{sql}");
    }
}

#[tokio::test]
async fn a_corrupt_row_is_held_and_stops_neither_claims_nor_sweeps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path, Role::Gateway).unwrap();
    let broken = queued(&store, "a@example.com").await;
    let good = queued(&store, "b@example.com").await;
    break_rows(&path, "UPDATE message SET deliver_by = 9000000000000000000 WHERE id = ?1", broken);
    assert_eq!(ids(&store.claim(claim(1, &[("example.com", 9)])).await.unwrap()), [good]);
    break_rows(&path, "UPDATE message SET deliver_by = 1767226600000 WHERE id = ?1", broken);
    let shown = view(&store, broken).await;
    assert_eq!((shown.status, shown.reason), (Status::Held, Some(Reason::ContentUnreadable)));
    assert_eq!(kinds(&store, broken).await, ["accepted", "held"]);

    let nobodys = queued(&store, "c@example.com").await;
    break_rows(&path, "UPDATE message SET tenant = 'Not A Tenant' WHERE id = ?1", nobodys);
    let laneless = with_unknown(&store, mail("d@example.com"), 10).await;
    break_rows(&path, "UPDATE message SET lane = 'scenic' WHERE id = ?1", laneless);
    assert_eq!(store.sweep(at(1_000), 9).await.unwrap(), Swept { expired: 1, held: 0, forgotten: 0 });
    assert_eq!(store.decide_unknown(at(1_000), per_lane(UnknownPolicy::Hold), 9).await.unwrap(), Decided::default());
    assert_eq!(store.sweep(at(1_001), 9).await.unwrap(), Swept::default(), "nothing comes up again and again");
}

#[tokio::test]
async fn a_corrupt_attempt_keeps_its_message_back_and_stops_no_recovery() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path, Role::Gateway).unwrap();
    let (broken, good) = (queued(&store, "a@example.com").await, queued(&store, "b@example.com").await);
    commit(&store, broken, 1, 1).await;
    commit(&store, good, 2, 1).await;
    break_rows(&path, "UPDATE attempt SET relay = 'No Relay' WHERE message = ?1", broken);
    assert_eq!(store.recover(at(2), per_lane(MINUTE)).await.unwrap(), 1);
    assert_eq!(view(&store, good).await.status, Status::Unknown);
    assert!(view(&store, broken).await.may_have_been_sent);
    assert!(store.claim(claim(3, &[("example.com", 9)])).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_content_that_was_purged_is_told_from_a_message_that_never_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path, Role::Gateway).unwrap();
    let id = queued(&store, "ann@example.com").await;
    assert!(store.outgoing(id).await.unwrap().is_some());
    break_rows(&path, "DELETE FROM content WHERE message = ?1", id);
    assert_eq!(store.content(&tenant("demo"), id).await.unwrap(), postern::store::Content::Purged);
    assert!(store.outgoing(id).await.unwrap().is_none());
}

#[tokio::test]
async fn a_fact_answers_when_its_message_is_no_longer_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path, Role::Gateway).unwrap();
    let fact = Some(Fact { name: "welcome/1".to_owned(), expires_at: None });
    let message = NewMessage { fact, ..mail("ann@example.com") };
    let first = accept(&store, message.clone()).await;
    break_rows(&path, "DELETE FROM message WHERE id = ?1", first.id);
    let again = NewMessage { id: new_id(), ..message.clone() };
    assert_eq!(store.accept(again).await.unwrap(), Acceptance::Deduplicated(first.clone()));
    let other = NewMessage { id: new_id(), recipient: "bob@example.com".parse().unwrap(), ..message };
    assert_eq!(store.accept(other).await.unwrap(), Acceptance::FactTaken);
    break_rows(&path, "UPDATE dedupe SET lane = 'scenic' WHERE message = ?1", first.id);
    let again = NewMessage {
        id: new_id(),
        fact: Some(Fact { name: "welcome/1".to_owned(), expires_at: None }),
        ..mail("ann@example.com")
    };
    let error = store.accept(again).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Corrupt { table: "dedupe", column: "lane", id } if *id == first.id.to_string()),
        "{error}"
    );
}

#[tokio::test]
async fn the_log_file_is_empty_after_a_close() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path, Role::Gateway).unwrap();
    queued(&store, "ann@example.com").await;
    let log = folder.path().join("store.db-wal");
    assert!(std::fs::metadata(&log).unwrap().len() > 0);
    store.close().await;
    assert!(std::fs::metadata(&log).map_or(0, |log| log.len()) == 0);
}

#[tokio::test]
async fn a_message_whose_state_cannot_be_read_stops_no_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path, Role::Gateway).unwrap();
    let broken = queued(&store, "a@example.com").await;
    let good = queued(&store, "b@example.com").await;
    break_rows(&path, "UPDATE message SET status = 'lost' WHERE id = ?1", broken);
    assert_eq!(store.sweep(at(1_000), 9).await.unwrap().expired, 1);
    assert_eq!(view(&store, good).await.status, Status::Expired);
    assert_eq!(kinds(&store, broken).await, ["accepted"]);
    assert_eq!(store.sweep(at(1_001), 9).await.unwrap(), Swept::default(), "it is parked");
}

#[tokio::test]
async fn a_key_that_cannot_be_read_opens_nothing_and_shuts_out_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path, Role::Gateway).unwrap();
    for number in 1..=3_u8 {
        let key = ApiKey {
            id: KeyId::from_uuid(uuid::Uuid::from_u128(u128::from(number))),
            tenant: tenant("demo"),
            name: "a key".to_owned(),
            scopes: vec![Scope::Send],
            limit: None,
            mac: [number; 32],
            created_at: at(0),
            revoked_at: None,
        };
        store.create_key(key, Actor::Command("keys").into()).await.unwrap();
    }
    let connection = Connection::open(&path).unwrap();
    connection.execute("UPDATE api_key SET scopes = 'send levitate' WHERE mac = ?1", [[1_u8; 32]]).unwrap();
    connection.execute("UPDATE api_key SET tenant = 'Not A Tenant' WHERE mac = ?1", [[2_u8; 32]]).unwrap();
    let keys = store.keys().await.unwrap();
    assert_eq!(keys.iter().map(|key| key.mac[0]).collect::<Vec<_>>(), [3]);
}

#[tokio::test]
async fn a_command_that_ends_waits_for_nobody_who_reads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let gateway = open(&path, Role::Gateway).unwrap();
    queued(&gateway, "ann@example.com").await;
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    reader.query_row("SELECT count(*) FROM message", [], |_| Ok(())).unwrap();
    let command = open(&path, Role::Command).unwrap();
    command.probe(at(1)).await.unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(5), command.close()).await.unwrap();
    drop(reader);
}
