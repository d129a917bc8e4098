//! Very many who wait: what is due is found by an index, however many are not.
//!
//! Built with `POSTERN_FULL_SIZE=1` in the environment it is tried with 1,000,000, and memory and pace are told:
//! `POSTERN_FULL_SIZE=1 cargo nextest run --release --test store many_enrollments --no-capture`.

use std::time::Instant;

use postern::domain::ids::JourneyName;
use postern::domain::journey::walk::{Outcome, Passed};
use postern::store::{DueQuery, Move, Moved, Next};

use crate::harness::*;

const FULL_SIZE: bool = option_env!("POSTERN_FULL_SIZE").is_some();
const WAITING: i64 = if FULL_SIZE { 1_000_000 } else { 20_000 };
/// How many of them are due.
const DUE: i64 = if FULL_SIZE { 50_000 } else { 2_000 };
const BATCH: usize = 500;

/// Rows as the store itself writes them: one customer with one pass and a contact for each enrollment.
const FILL: &str = "
    WITH RECURSIVE n (x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM n WHERE x + 1 < :waiting)
    INSERT INTO enrollment (id, tenant, journey, version, customer, known_by, pass_key, pass, begun_by, occasion, exit_on,
        status, step, due_at, tries, revision, entered_at)
    SELECT CAST(printf('%016d', x) AS BLOB), 'demo', 'hello', '0123456789ab', 'C-' || x, 'customerId', 'P-' || x, 'P-' || x,
        'pass.first-install', '{\"device\":\"apple\"}', 'pass.removed', 'active', 1, :epoch + x * 1000, 0, 0, :epoch FROM n;";
const FILL_PASSES: &str = "
    INSERT INTO wallet_pass (tenant, pass_key, customer, known_by, identifiers, standings, apple_since, changed_at, last_event)
    SELECT tenant, pass_key, customer, known_by, '{\"email\":{\"at\":1,\"value\":\"' || customer || '@example.com\"}}',
        '{\"apple\":null,\"google\":null}', 1, 1, 'installed' FROM enrollment;";

/// Kilobytes of memory that this process holds.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

on_every_database! {
    async fn of_very_many_who_wait_those_who_are_due_are_found_at_once(home) {
        let database = rusqlite::Connection::open(home.folder.path().join("store.db")).unwrap();
        let epoch = at(0).as_millisecond();
        database.execute(FILL, rusqlite::named_params! { ":waiting": WAITING, ":epoch": epoch }).unwrap();
        database.execute(FILL_PASSES, []).unwrap();
        drop(database);
        let (store, journey) = (&*home.store, "hello".parse::<JourneyName>().unwrap());
        let query = || {
            let journeys = vec![(tenant("demo"), journey.clone())];
            DueQuery { journeys, now: at(DUE - 1), limit: BATCH }
        };
        let before = resident();
        let (mut done, mut looking) = (0, std::time::Duration::ZERO);
        let begun = Instant::now();
        loop {
            let look = Instant::now();
            let due = store.due_enrollments(query()).await.unwrap();
            looking += look.elapsed();
            if due.is_empty() {
                break;
            }
            done += due.len();
            let moves = due.into_iter().map(|due| Move {
                passed: vec![Passed { step: 1, outcome: Outcome::Waited }],
                at: at(DUE),
                mail: None,
                next: Next::Step { step: 2, at: at(2 * WAITING) },
                enrollment: due.enrollment,
            });
            let ended = futures_util::future::join_all(moves.map(|next| store.move_enrollment(next))).await;
            assert!(ended.into_iter().all(|end| end.unwrap() == Moved::Done(None)));
        }
        assert_eq!(done, usize::try_from(DUE).unwrap());
        let grown = resident().saturating_sub(before) / 1024;
        #[expect(clippy::cast_precision_loss, reason = "a pace need not be exact")]
        let pace = |took: std::time::Duration| done as f64 / took.as_secs_f64();
        eprintln!(
            "{WAITING} wait, {done} were due: found {:.0}/s, found and moved {:.0}/s, memory grew by {grown} MiB",
            pace(looking),
            pace(begun.elapsed())
        );
        assert!(grown < 200, "memory grew by {grown} MiB");
    }
}
