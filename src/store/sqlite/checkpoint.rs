//! Moves the write-ahead log into the database beside the writer, so that a commit rarely has to wait for that.
//!
//! A thread of its own moves pages every [`STEP_PAGES`]; in SQLite's passive way it waits for nobody and nobody waits for
//! it. The log begins anew when a commit finds all of it moved and nobody reading from it. Where writing and reading
//! never pause that does not happen by itself: at [`LOG_PAGES_MAX`] the writer moves the rest, which is little, and waits
//! a moment for those who read from the log; whoever begins to read meanwhile reads from the database. So the log stays
//! bounded, unless somebody reads for longer than that: then it grows until they have ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use super::open::{self, Place};

/// Pages in the log after which the next round of the thread begins.
const STEP_PAGES: i32 = 2_000;
/// Pages in the log (64 MiB) at which the writer has it begin anew.
pub(super) const LOG_PAGES_MAX: i32 = 16_000;
/// How long the writer waits for those who read from the log. When that is not enough it tries again after a step.
const READERS_WAIT: Duration = Duration::from_millis(100);

/// What the writer knows of the log.
pub(super) struct Log {
    /// To the thread.
    nudge: SyncSender<()>,
    /// Pages in it after the last commit.
    pages: Arc<AtomicI32>,
    /// At so many it should begin anew.
    full_at: i32,
}

impl Log {
    /// A log whose thread is reached through `nudge`.
    pub(super) fn new(nudge: SyncSender<()>) -> Self {
        Self { nudge, pages: Arc::default(), full_at: LOG_PAGES_MAX }
    }

    /// Has the writer's connection count the pages and nudge the thread.
    pub(super) fn watch(&self, connection: &mut Connection) -> Result<(), rusqlite::Error> {
        let (nudge, counted) = (self.nudge.clone(), Arc::clone(&self.pages));
        let mut moved = 0;
        let hook = move |_: &mut Wal, pages: i32| {
            counted.store(pages, Ordering::Relaxed);
            // Fewer than before: the log began anew.
            moved = if pages < moved { 0 } else { moved };
            if pages - moved >= STEP_PAGES {
                moved = pages;
                // One that is at work already will see these pages, too, or the next nudge comes soon.
                let _ = nudge.try_send(());
            }
            Ok(())
        };
        connection.wal_hook(Some(hook))
    }

    /// Has a full log begin anew with the next commit. Its own failure is none of the commits': the next one tries again.
    pub(super) fn keep_bounded(&mut self, connection: &mut Connection) {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < LOG_PAGES_MAX {
            self.full_at = LOG_PAGES_MAX;
        } else if pages >= self.full_at {
            let restarted = open::waiting_at_most(connection, READERS_WAIT, |connection| {
                connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| Ok((row.get(0)?, row.get(1)?)))
            });
            // No count of pages: the thread is at it, and nobody waited.
            if matches!(restarted, Ok((1, 0..))) {
                self.full_at = pages + STEP_PAGES;
            }
        }
    }
}

/// Moves pages at each nudge, until the last writer's connection is gone.
pub(super) fn run(place: &Place, nudges: &Receiver<()>) {
    let mut connection = None;
    while nudges.recv().is_ok() {
        let known = match connection.take() {
            Some(known) => Ok(known),
            None => place.connect_writer(),
        };
        // A round that fails is made up for by the next, or by the writer.
        connection = known.ok().filter(|known| known.pragma_update(None, "wal_checkpoint", "PASSIVE").is_ok());
    }
}
