//! What every store promises, run on every database there is; and, beside it, what only SQLite can get wrong.
//!
//! A second database joins by one line in `harness::DATABASES`. A new method of the trait joins by a test here.

#![expect(clippy::unwrap_used, reason = "a test may stop at once")]
#![expect(clippy::print_stderr, reason = "a test tells its figures")]

/// Writes each test once and runs it on every database, on a fresh store each time.
macro_rules! on_every_database {
    ($($(#[$attribute:meta])* async fn $name:ident($home:ident) $body:block)*) => { $(
        $(#[$attribute])*
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            for database in crate::harness::DATABASES {
                let $home = &mut crate::harness::Home::new(database);
                $body
                $home.store.close().await;
            }
        }
    )* };
}

mod accepting;
mod backfilling;
mod bouncing;
mod braking;
mod contacts;
mod deduping;
mod delivering;
mod evidence;
mod forgetting;
mod harness;
mod journeys;
mod keys;
mod limiting;
mod many_enrollments;
mod proving;
mod pushing;
mod reading;
mod recorded;
mod sqlite;
mod sqlite_disk;
mod steering;
mod suppressing;
mod unless;
mod waiting;
mod wallets;
