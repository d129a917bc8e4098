//! Moves the write-ahead log into the database beside the writer, so that a commit rarely has to wait for that.
//!
//! A thread of its own moves pages every [`STEP_PAGES`]; in SQLite's passive way it waits for nobody and nobody waits for
//! it. The log begins anew when a commit finds all of it moved. Where writing never pauses that does not happen by
//! itself: at [`LOG_PAGES_MAX`] the writer moves the rest, which is little, with its commit. So the log stays bounded.

use std::sync::mpsc::{Receiver, SyncSender};

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use super::open::Place;

/// Pages in the log after which the next round of the thread begins.
const STEP_PAGES: i32 = 2_000;
/// Pages in the log (64 MiB) at which the writer moves what is left.
pub(super) const LOG_PAGES_MAX: i32 = 16_000;

/// Has the writer's connection nudge the thread, and bound the log.
pub(super) fn watch(connection: &mut Connection, nudge: SyncSender<()>) -> Result<(), rusqlite::Error> {
    let mut moved = 0;
    let hook = move |log: &mut Wal, pages: i32| {
        // Fewer than before: the log began anew.
        moved = if pages < moved { 0 } else { moved };
        if pages - moved >= STEP_PAGES {
            moved = pages;
            // One that is at work already will see these pages, too, or the next nudge comes soon.
            let _ = nudge.try_send(());
        }
        if pages >= LOG_PAGES_MAX {
            // The commit itself is done. This fails while the thread is at it, and when the disk does: the next commit
            // tries again, and tells.
            let _ = log.checkpoint();
        }
        Ok(())
    };
    connection.wal_hook(Some(hook))
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
