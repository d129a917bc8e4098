//! The threads that read: a few connections that never write and keep no transaction open between two questions.
//!
//! There are two pools, because people's lists may be slow and delivery may not wait for them: one serves delivery and
//! the door's keys, the other lists, leaves and contents. A question of the second has a time limit, counted from the
//! moment it was asked; what it had found by then is thrown away.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::fault::Fault;
use super::open::Place;
use crate::store::StoreError;

/// How many threads read for delivery and keys.
pub(super) const SERVING_READERS: usize = 3;
/// How many threads read lists, leaves and contents.
pub(super) const LISTING_READERS: usize = 2;
/// How long a list may take, waiting for its turn included.
pub(super) const LIST_TIME_MAX: Duration = Duration::from_secs(2);
/// After how long a list of messages ends where it is and says where it goes on.
pub(super) const LOOK_TIME_MAX: Duration = Duration::from_millis(100);
/// Rows of an index that a list of messages looks at in one go: each may be a page of its own on a cold disk.
pub(super) const LOOK_ROWS: usize = 500;
/// SQLite looks at the clock after so many of its instructions: well under a millisecond.
const LIST_TIME_STEPS: i32 = 10_000;
/// How many questions may wait for each pool; more callers wait for a place.
pub(super) const QUESTIONS_MAX: usize = 256;

/// What asks: it is handed a connection, or why there is none, and says whether the connection may be used again.
type Ask = Box<dyn FnOnce(Result<&Connection, String>) -> Connected + Send>;

/// One caller's question.
pub(super) struct Question {
    /// When it is given up; `None` never.
    pub(super) until: Option<Instant>,
    /// Asks it.
    pub(super) ask: Ask,
}

/// Whether a reader's connection is still good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connected {
    /// It may be used again.
    Good,
    /// It should be opened anew.
    Spoiled,
}

/// A question made of a closure and the way back to its caller; `doing` names it in errors.
pub(super) fn question<T, F>(
    doing: &'static str,
    until: Option<Instant>,
    work: F,
    caller: oneshot::Sender<Result<T, StoreError>>,
) -> Question
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
{
    let ask = Box::new(move |connection: Result<&Connection, String>| {
        let (answer, connected) = match connection {
            Err(detail) => (Err(StoreError::Unreadable { doing, detail }), Connected::Spoiled),
            Ok(connection) => match catch_unwind(AssertUnwindSafe(|| work(connection))) {
                Ok(Ok(found)) => (Ok(found), Connected::Good),
                Ok(Err(fault)) => {
                    let connected = if fault.spoils_connection() { Connected::Spoiled } else { Connected::Good };
                    (Err(fault.unreadable(doing)), connected)
                }
                Err(_panic) => {
                    let detail = "a defect of ours: see the log".to_owned();
                    (Err(StoreError::Unreadable { doing, detail }), Connected::Spoiled)
                }
            },
        };
        // A caller that went away does not want to know.
        let _ = caller.send(answer);
        connected
    });
    Question { until, ask }
}

/// Answers questions until every sender is gone. The queue is shared: whoever is free takes the next one.
pub(super) fn run(place: &Place, questions: &Arc<Mutex<mpsc::Receiver<Question>>>) {
    let mut connection = None;
    loop {
        let next = questions.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(question) = next else { return };
        let opened = match connection.take() {
            Some(opened) => Ok(opened),
            None => place.connect_reader(),
        };
        let opened = opened.and_then(|connection| limited(connection, question.until));
        let opened = opened.map_err(|error| error.to_string());
        let connected = (question.ask)(opened.as_ref().map_err(Clone::clone));
        if connected == Connected::Good {
            connection = opened.ok();
        }
    }
}

/// The connection, to be interrupted at `until`.
fn limited(mut connection: Connection, until: Option<Instant>) -> Result<Connection, rusqlite::Error> {
    match until {
        Some(until) => connection.progress_handler(LIST_TIME_STEPS, Some(move || Instant::now() >= until))?,
        None => connection.progress_handler(LIST_TIME_STEPS, None::<fn() -> bool>)?,
    }
    Ok(connection)
}
