//! The threads that read: a few connections that never write and keep no transaction open between two questions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::fault::Fault;
use super::open::Place;
use crate::store::StoreError;

/// How many reading threads there are.
pub(super) const READERS: usize = 4;
/// How many questions may wait for a reader; more callers wait for a place.
pub(super) const QUESTIONS_MAX: usize = 256;

/// One caller's question. Says whether the connection may be used again.
pub(super) type Question = Box<dyn FnOnce(Result<&Connection, String>) -> Connected + Send>;

/// Whether a reader's connection is still good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connected {
    /// It may be used again.
    Good,
    /// It should be opened anew.
    Spoiled,
}

/// A question made of a closure and the way back to its caller; `doing` names it in errors.
pub(super) fn question<T, F>(doing: &'static str, work: F, caller: oneshot::Sender<Result<T, StoreError>>) -> Question
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
{
    Box::new(move |connection| {
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
    })
}

/// Answers questions until every sender is gone. The queue is shared: whoever is free takes the next one.
pub(super) fn run(place: &Place, questions: &Arc<Mutex<mpsc::Receiver<Question>>>) {
    let mut connection = None;
    loop {
        let next = questions.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(question) = next else { return };
        let opened = match connection.take() {
            Some(opened) => Ok(opened),
            None => place.connect_reader().map_err(|error| error.to_string()),
        };
        let connected = question(opened.as_ref().map_err(Clone::clone));
        if connected == Connected::Good {
            connection = opened.ok();
        }
    }
}
