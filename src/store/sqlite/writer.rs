//! The one thread that writes: whatever waits shares one transaction and one sync, and nobody's failure is another's.
//!
//! Each job runs in a savepoint of its own. A job that fails, or panics, is rolled back alone and answered with its own
//! error; the others are answered after COMMIT has returned. When the transaction as a whole is lost (disk full, I/O
//! error), every job of it is answered with [`StoreError::NotPersisted`], and after an error that may have left the
//! connection with wrong beliefs it is opened anew: the thread recovers when the disk does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::fault::{self, Fault};
use super::open::{Place, Role};
use crate::store::StoreError;

/// How many jobs may wait for the writer; more callers wait for a place.
pub(super) const JOBS_MAX: usize = 1_024;
/// How many jobs share one transaction at most.
const BATCH_MAX: usize = 256;

/// One caller's work, from the queue until its answer.
pub(super) trait Job: Send {
    /// Runs inside the job's savepoint.
    fn run(&mut self, connection: &Connection) -> Ran;

    /// Tells the caller, after the batch was committed (`Ok`) or lost (`Err`: what the database said).
    fn answer(self: Box<Self>, committed: Result<(), &str>);
}

/// What a job left behind in its savepoint.
pub(super) enum Ran {
    /// To be kept.
    Done,
    /// To be rolled back.
    Failed {
        /// Whether the connection should be opened anew.
        spoiled: bool,
        /// What the database said, if it was the database that failed.
        detail: Option<String>,
    },
}

/// A job made of a closure and the way back to its caller.
pub(super) struct Task<T, F> {
    doing: &'static str,
    work: Option<F>,
    result: Option<Result<T, Fault>>,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Task<T, F> {
    /// A job that does `work` and answers `caller`; `doing` names it in errors.
    pub(super) fn new(doing: &'static str, work: F, caller: oneshot::Sender<Result<T, StoreError>>) -> Self {
        Self { doing, work: Some(work), result: None, caller }
    }
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, Fault> + Send,
{
    fn run(&mut self, connection: &Connection) -> Ran {
        let Some(work) = self.work.take() else { return Ran::Failed { spoiled: false, detail: None } };
        let result = work(connection);
        let ran = match &result {
            Ok(_) => Ran::Done,
            Err(fault) => Ran::Failed { spoiled: fault.spoils_connection(), detail: fault.database_said() },
        };
        self.result = Some(result);
        ran
    }

    fn answer(self: Box<Self>, committed: Result<(), &str>) {
        let doing = self.doing;
        let answer = match (committed, self.result) {
            // A job that failed by itself has its own story, whatever became of the others.
            (_, Some(Err(fault))) => Err(fault.not_persisted(doing)),
            (Ok(()), Some(Ok(done))) => Ok(done),
            (Ok(()), None) => {
                Err(StoreError::NotPersisted { doing, detail: "a defect of ours: see the log".to_owned() })
            }
            (Err(detail), _) => Err(StoreError::NotPersisted { doing, detail: detail.to_owned() }),
        };
        // A caller that went away does not want to know.
        let _ = self.caller.send(answer);
    }
}

/// The writer thread's own things.
pub(super) struct Writer {
    place: Place,
    role: Role,
    connection: Option<Connection>,
    writes: bool,
}

impl Writer {
    /// A writer that begins with `connection` and opens further ones at `place`.
    pub(super) fn new(place: Place, connection: Connection, role: Role) -> Self {
        Self { place, role, connection: Some(connection), writes: true }
    }

    /// Runs until every sender is gone, then waits for the readers and empties the log into the database.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Box<dyn Job>>, readers: Vec<JoinHandle<()>>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while jobs.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
            let committed = self.commit(&mut batch);
            self.notice(committed.as_ref().err());
            for job in batch.drain(..) {
                job.answer(committed.as_ref().copied().map_err(String::as_str));
            }
        }
        for reader in readers {
            // One that panicked has said so, through `failed` and the panic hook.
            let _ = reader.join();
        }
        // A command leaves the log to the gateway, whose writer would have to wait for it.
        if let (Some(connection), Role::Gateway) = (self.connection.take(), self.role) {
            // Economy, not correctness: the next start reads no log. Without room for it the log simply stays.
            let _ = connection.pragma_update(None, "wal_checkpoint", "TRUNCATE");
        }
    }

    fn commit(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), String> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.place.connect_writer().map_err(|error| error.to_string())?,
        };
        match run_batch(&connection, batch) {
            Ok(Kept { spoiled }) => self.connection = (!spoiled).then_some(connection),
            Err(Lost { spoiled, detail }) => {
                if !connection.is_autocommit() {
                    // When this fails too, closing the connection undoes the transaction.
                    let _ = connection.execute_batch("ROLLBACK");
                }
                if connection.is_autocommit() && !spoiled {
                    self.connection = Some(connection);
                }
                return Err(detail);
            }
        }
        Ok(())
    }

    /// Logs the first failure of a row of them, and the recovery.
    fn notice(&mut self, failure: Option<&String>) {
        match (self.writes, failure) {
            (true, Some(detail)) => tracing::error!(detail, "the store cannot write"),
            (false, None) => tracing::info!("the store writes again"),
            (true, None) | (false, Some(_)) => {}
        }
        self.writes = failure.is_none();
    }
}

/// A transaction that is on disk.
struct Kept {
    /// Whether the connection should be opened anew.
    spoiled: bool,
}

/// A transaction of which nothing is kept.
struct Lost {
    /// Whether the connection should be opened anew.
    spoiled: bool,
    /// What the database said first: later errors only tell that the transaction is gone.
    detail: String,
}

/// One transaction. Jobs that fail alone are rolled back alone.
fn run_batch(connection: &Connection, batch: &mut [Box<dyn Job>]) -> Result<Kept, Lost> {
    let execute = |sql: &str| {
        let done = connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
        done.map(drop).map_err(|error| Lost { spoiled: fault::spoils_connection(&error), detail: error.to_string() })
    };
    execute("BEGIN IMMEDIATE")?;
    let mut batch_spoiled = false;
    for job in batch {
        execute("SAVEPOINT job")?;
        let ran = catch_unwind(AssertUnwindSafe(|| job.run(connection)));
        let detail = match ran {
            Ok(Ran::Done) => {
                execute("RELEASE job")?;
                continue;
            }
            Ok(Ran::Failed { spoiled, detail }) => {
                batch_spoiled |= spoiled;
                detail
            }
            Err(_panic) => None,
        };
        // SQLite ends the whole transaction by itself on some errors; this then fails, and all jobs are told why.
        execute("ROLLBACK TO job").and_then(|()| execute("RELEASE job")).map_err(|after| Lost {
            spoiled: batch_spoiled || after.spoiled,
            detail: detail.unwrap_or(after.detail),
        })?;
    }
    let spoiled = batch_spoiled;
    execute("COMMIT").map_err(|lost| Lost { spoiled: spoiled || lost.spoiled, ..lost })?;
    Ok(Kept { spoiled })
}
