//! The ways to the threads: into the writer's next transaction, and to the readers.

use std::sync::PoisonError;
use std::time::Instant;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::fault::Fault;
use super::lists::Look;
use super::readers;
use super::writer::{Task, Writing};
use super::{Doors, SqliteStore};
use crate::store::StoreError;

impl SqliteStore {
    pub(super) fn doors(&self) -> Result<Doors, StoreError> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(StoreError::Closed)
    }

    /// Runs `work` in the writer's next transaction, perhaps twice (see `writer`); returns after that is on disk.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl Fn(&Writing<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (caller, answer) = oneshot::channel();
        let task = Box::new(Task::new(doing, work, caller));
        self.doors()?.jobs.send(task).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs `work` on a connection that serves delivery and keys: short work only.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (caller, answer) = oneshot::channel();
        let question = readers::question(doing, None, work, caller);
        self.doors()?.questions.send(question).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs `work` on a connection for lists, within their time limit if they have one.
    pub(super) async fn list<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.list_until(self.list_time_max.map(|longest| Instant::now() + longest), doing, work).await
    }

    /// How far a list of messages is looked for: at a gateway, people wait for it.
    pub(super) fn look(&self) -> Look {
        Look { rows: readers::LOOK_ROWS, time: self.list_time_max.map(|_| readers::LOOK_TIME_MAX) }
    }

    pub(super) async fn list_until<T: Send + 'static>(
        &self,
        until: Option<Instant>,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (caller, answer) = oneshot::channel();
        let question = readers::question(doing, until, work, caller);
        self.doors()?.lists.send(question).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}
