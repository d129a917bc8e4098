//! What only the inside can show: that every statement fits the schema and walks an index, and that a panic stays alone.

#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;

use std::time::Instant;

use tokio::sync::oneshot;

use super::fault::Fault;
use super::writer::Task;
use super::*;
use crate::domain::audit::{Actor, Happening, Kind};
use crate::store::KeyStore as _;

/// Statements that read a whole table, and why they may.
const WHOLE_TABLES: [(&str, &str); 8] = [
    ("recover", "one row for each attempt in flight when a process died"),
    ("configured_endpoints", "endpoints are few"),
    ("push_endpoints", "endpoints are few"),
    ("dead_pushes", "endpoints are few; what each has is found by an index"),
    ("in_doubt_decided", "the index holds mails in doubt alone"),
    ("in_doubt_unknown", "the index holds unknown mails alone"),
    ("in_flight_of_person", "there are as many attempts as sessions"),
    ("keys", "keys are few, and the door keeps them"),
];

fn store(folder: &tempfile::TempDir) -> SqliteStore {
    SqliteStore::open(OpenOptions { path: folder.path().join("store.db"), role: Role::Gateway }).unwrap()
}

/// The query plan of a statement on an empty store, one step after the other.
pub(super) fn plan(sql: &str) -> Result<String, rusqlite::Error> {
    let folder = tempfile::tempdir().unwrap();
    let connection = open::open(&folder.path().join("store.db"), Role::Command).unwrap().connection;
    plan_on(&connection, sql)
}

fn plan_on(connection: &Connection, sql: &str) -> Result<String, rusqlite::Error> {
    let (name, rest) = sql.split_once('\n').unwrap();
    let mut statement = connection.prepare(&format!("{name}\nEXPLAIN QUERY PLAN {rest}"))?;
    let steps: Result<Vec<String>, _> = statement.raw_query().mapped(|row| row.get("detail")).collect();
    Ok(steps?.join("; "))
}

/// Every SQL statement in the sources of this folder: a raw string that begins with `-- name`.
fn statements() -> Vec<String> {
    let sources = [
        include_str!("accept.rs"),
        include_str!("attempts.rs"),
        include_str!("audit.rs"),
        include_str!("bounces.rs"),
        include_str!("brakes.rs"),
        include_str!("content.rs"),
        include_str!("erasing.rs"),
        include_str!("evidence.rs"),
        include_str!("facts.rs"),
        include_str!("keys.rs"),
        include_str!("messages.rs"),
        include_str!("metadata.rs"),
        include_str!("open.rs"),
        include_str!("push/feed.rs"),
        include_str!("push/outbox.rs"),
        include_str!("push/shown.rs"),
        include_str!("retention.rs"),
        include_str!("scrubbing.rs"),
        include_str!("steering.rs"),
        include_str!("streams.rs"),
        include_str!("suppressions/judging.rs"),
        include_str!("suppressions/links.rs"),
        include_str!("suppressions/mod.rs"),
        include_str!("sweep.rs"),
        include_str!("waiting.rs"),
        include_str!("why.rs"),
    ];
    let found = sources.iter().flat_map(|source| source.split("r\"-- ").skip(1));
    found.map(|rest| format!("-- {}", rest.split('"').next().unwrap())).collect()
}

#[test]
fn every_statement_fits_the_schema_and_none_scans_a_table_or_sorts() {
    let folder = tempfile::tempdir().unwrap();
    let connection = open::open(&folder.path().join("store.db"), Role::Command).unwrap().connection;
    let statements = statements();
    assert!(statements.len() > 25, "only {} statements were found", statements.len());
    for sql in statements {
        let name = sql.lines().next().unwrap().trim_start_matches("-- ").to_owned();
        let plan = plan_on(&connection, &sql).unwrap_or_else(|error| panic!("{name}: {error}"));
        if WHOLE_TABLES.iter().any(|(allowed, _)| *allowed == name) {
            continue;
        }
        // A constant row is "scanned" too, and so is a JSON list of one row.
        let steps = plan.split("; ").filter(|step| !step.contains("VIRTUAL TABLE"));
        let plan = steps.collect::<Vec<_>>().join("; ").replace("SCAN CONSTANT ROW", "").replace("SCAN (subquery", "");
        assert!(!plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{name}: {plan}");
    }
}

#[tokio::test]
async fn a_panic_in_one_job_is_answered_and_leaves_the_others_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let make = |name: &'static str| {
        move |connection: &Writing<'_>| {
            connection.execute("INSERT INTO meta (name, value) VALUES (?1, x'00')", [name])?;
            assert!(name != "second", "this job has a defect");
            Ok(())
        }
    };
    let (first, second, third) = tokio::join!(
        store.write("first", make("first")),
        store.write("second", make("second")),
        store.write("third", make("third")),
    );
    first.unwrap();
    third.unwrap();
    assert!(matches!(second, Err(StoreError::NotPersisted { doing: "second", .. })), "{second:?}");
    let names = store.read("names", |connection| {
        let mut statement = connection.prepare("SELECT name FROM meta WHERE value = x'00' ORDER BY name")?;
        let names: Result<Vec<String>, _> = statement.query_map([], |row| row.get(0))?.collect();
        Ok(names?)
    });
    assert_eq!(names.await.unwrap(), ["first", "third"]);
}

#[tokio::test]
async fn a_panic_in_a_question_is_answered_and_the_reader_lives() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    for _ in 0..2 * readers::SERVING_READERS {
        let answer = store.read::<()>("asking", |_| panic!("this question has a defect")).await;
        assert!(matches!(answer, Err(StoreError::Unreadable { doing: "asking", .. })), "{answer:?}");
    }
    assert!(store.keys().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_reader_cannot_write() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let answer = store.read("writing", |connection| Ok(connection.execute("DELETE FROM meta", [])?)).await;
    assert!(matches!(answer, Err(StoreError::Unreadable { .. })), "{answer:?}");
}

#[tokio::test]
async fn lists_that_never_end_are_given_up_and_keep_neither_keys_nor_delivery_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let endless = |connection: &Connection| {
        let sql = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
        Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))?)
    };
    let lists = futures_util::future::join_all((0..16).map(|_| store.list("listing", endless)));
    let others = async {
        tokio::task::yield_now().await;
        let asked = Instant::now();
        store.keys().await.unwrap();
        assert!(store.outgoing(MessageId::from_uuid(uuid::Uuid::now_v7())).await.unwrap().is_none());
        asked.elapsed()
    };
    let (answers, waited) = tokio::join!(lists, others);
    assert!(waited < readers::LIST_TIME_MAX / 2, "{waited:?}");
    for answer in answers {
        let Err(StoreError::Unreadable { detail, .. }) = &answer else { panic!("{answer:?}") };
        assert!(detail.contains("too long"), "{detail}");
    }
    // The limit belongs to a question, not to the connection.
    store.list("listing", |connection| Ok(connection.query_row("SELECT 1", [], |_| Ok(()))?)).await.unwrap();
}

#[tokio::test]
async fn jobs_that_lost_their_transaction_to_a_neighbour_are_told_the_first_error() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let keep = |connection: &Writing<'_>| {
        connection.execute("INSERT INTO meta (name, value) VALUES ('kept', x'00')", [])?;
        Ok(())
    };
    // As SQLite does by itself when the disk fails within a statement.
    let lose = |connection: &Writing<'_>| -> Result<(), Fault> {
        connection.execute_batch("ROLLBACK")?;
        Err(disk_failed())
    };
    let end = store.stall();
    let (neighbour, gone, ()) =
        tokio::join!(store.write("neighbour", keep), store.write("gone", lose), async { drop(end) });
    assert!(gone.unwrap_err().to_string().contains("the disk failed"));
    let error = neighbour.unwrap_err();
    assert!(error.to_string().contains("the disk failed"), "{error}");
    store
        .write("after", |connection| Ok(connection.execute("DELETE FROM meta WHERE name = 'kept'", [])?))
        .await
        .unwrap();
}

/// A fault of the disk, as SQLite tells it.
fn disk_failed() -> Fault {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR);
    rusqlite::Error::SqliteFailure(code, Some("the disk failed".to_owned())).into()
}

impl SqliteStore {
    /// Keeps the writer busy until the answer is dropped. What is written meanwhile shares a transaction.
    ///
    /// # Panics
    ///
    /// When the store is closed or its queue is full.
    pub fn stall(&self) -> std::sync::mpsc::Sender<()> {
        let (end, ended) = std::sync::mpsc::channel();
        let (begin, has_begun) = std::sync::mpsc::channel();
        let work = move |_: &Writing<'_>| {
            // Nobody waits for it a second time.
            let _: Result<(), _> = begin.send(());
            // Ends with the sender.
            let _: Result<(), _> = ended.recv();
            Ok(())
        };
        let stalling: Box<dyn Job> = Box::new(Task::new("stalling", work, oneshot::channel().0));
        assert!(self.doors().unwrap().jobs.try_send(stalling).is_ok(), "there is no place for a job");
        has_begun.recv().unwrap();
        end
    }
}

#[tokio::test]
async fn a_job_that_fails_among_others_leaves_no_gap_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let tenant: TenantId = "demo".parse().unwrap();
    let leaf = |kind| Happening::new(Timestamp::UNIX_EPOCH, kind, &tenant, None, Actor::Gateway);
    let append = |kind, end: fn() -> Result<(), Fault>| {
        let leaf = leaf(kind);
        store.write("appending", move |connection: &Writing<'_>| audit::append(connection, &leaf).and_then(|()| end()))
    };
    let end = store.stall();
    let corrupt = || Err(Fault::Corrupt { table: "message", column: "status", id: "msg".to_owned() });
    let (first, second, third, ()) = tokio::join!(
        append(Kind::KeyCreated, || Ok(())),
        append(Kind::Held, corrupt),
        append(Kind::KeyRevoked, || Ok(())),
        async { drop(end) }
    );
    assert!(first.is_ok() && third.is_ok() && matches!(second, Err(StoreError::Corrupt { .. })), "{second:?}");
    let leaves = store.read("leaves", |connection| {
        let mut statement = connection.prepare("SELECT seq || ' ' || kind FROM audit_leaf ORDER BY seq")?;
        let leaves: Result<Vec<String>, _> = statement.query_map([], |row| row.get(0))?.collect();
        Ok(leaves?)
    });
    assert_eq!(leaves.await.unwrap(), ["0 key-created", "1 key-revoked"]);
}

#[tokio::test]
async fn a_connection_whose_disk_failed_is_opened_anew_also_when_a_second_run_does_well() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let mark = |connection: &Writing<'_>| Ok(connection.execute_batch("CREATE TEMP TABLE mark (x)")?);
    store.write("marking the connection", mark).await.unwrap();
    let failed = AtomicBool::new(false);
    let fail_once =
        move |_: &Writing<'_>| if failed.swap(true, Ordering::SeqCst) { Ok(()) } else { Err(disk_failed()) };
    store.write("failing once", fail_once).await.unwrap();
    let marked = store.write("looking", |connection| Ok(connection.table_exists(Some("temp"), "mark")?));
    assert!(!marked.await.unwrap(), "the connection is still the same");
}
