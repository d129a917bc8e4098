//! The one thread that writes: whatever waits shares one transaction and one sync, and nobody's failure is another's.
//!
//! Jobs are run twice when they must be. At first all run without savepoints, which cost a quarter of the writer's time;
//! when one fails, or panics, the transaction is undone and all run again, each in a savepoint of its own: the one that
//! fails is rolled back alone and answered with its own error. The others are answered after COMMIT has returned. When
//! the transaction as a whole is lost (disk full, I/O error), every job of it is answered with
//! [`StoreError::NotPersisted`], and after an error that may have left the connection with wrong beliefs it is opened
//! anew: the thread recovers when the disk does.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use rusqlite::Connection;
use rusqlite::hooks::Wal;
use tokio::sync::{mpsc, oneshot};

use super::checkpoint::Log;
use super::fault::{self, Fault};
use super::open::{self, Place, Role};
use super::scrubbing;
use crate::domain::ids::TenantId;
use crate::store::StoreError;

/// How many jobs may wait for the writer; more callers wait for a place.
pub(super) const JOBS_MAX: usize = 1_024;
/// How many jobs share one transaction at most.
const BATCH_MAX: usize = 256;

/// A transaction of the writer: its connection, and what is known for as long as the transaction lasts.
pub(super) struct Writing<'c> {
    connection: &'c Connection,
    /// The number of the next leaf, once one was read or written; nobody else can append meanwhile.
    pub(super) next_leaf: Cell<Option<i64>>,
    /// Whether tenants may have suppressions, of those that were asked for. One that may need not: what a job added may
    /// have been undone.
    pub(super) suppresses: RefCell<BTreeMap<TenantId, bool>>,
    /// Whether the log, which holds earlier states, is to be emptied after it.
    pub(super) empties_log: Cell<bool>,
}

impl Deref for Writing<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

/// Begins a transaction.
fn begin(connection: &Connection) -> Result<Writing<'_>, Lost> {
    execute(connection, "BEGIN IMMEDIATE")?;
    Ok(Writing {
        connection,
        next_leaf: Cell::new(None),
        suppresses: RefCell::default(),
        empties_log: Cell::new(false),
    })
}

/// One caller's work, from the queue until its answer.
pub(super) trait Job: Send {
    /// Does the work, inside a transaction. What an earlier run did was undone.
    fn run(&mut self, connection: &Writing<'_>) -> Ran;

    /// Tells the caller, after the batch was committed (`Ok`) or lost (`Err`: what the database said).
    fn answer(self: Box<Self>, committed: Result<(), &str>);
}

/// What a job left behind in the transaction.
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
    work: F,
    result: Option<Result<T, Fault>>,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Task<T, F> {
    /// A job that does `work` and answers `caller`; `doing` names it in errors.
    pub(super) fn new(doing: &'static str, work: F, caller: oneshot::Sender<Result<T, StoreError>>) -> Self {
        Self { doing, work, result: None, caller }
    }
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: Fn(&Writing<'_>) -> Result<T, Fault> + Send,
{
    fn run(&mut self, connection: &Writing<'_>) -> Ran {
        // A panic leaves no result behind, whatever an earlier run had.
        self.result = None;
        let result = (self.work)(connection);
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
    /// The log; a command leaves it to the gateway.
    log: Option<Log>,
    writes: bool,
    /// The log is to be emptied after this batch.
    empties_log: bool,
}

impl Writer {
    /// A writer that begins with `connection` and opens further ones at `place`.
    pub(super) fn new(
        place: Place,
        mut connection: Connection,
        role: Role,
        log: Option<Log>,
    ) -> Result<Self, rusqlite::Error> {
        watched(&mut connection, log.as_ref())?;
        Ok(Self { place, role, connection: Some(connection), log, writes: true, empties_log: false })
    }

    /// Runs until every sender is gone, then waits for the other threads and empties the log into the database.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Box<dyn Job>>, others: Vec<JoinHandle<()>>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while jobs.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
            let committed = self.commit(&mut batch);
            self.notice(committed.as_ref().err());
            for job in batch.drain(..) {
                job.answer(committed.as_ref().copied().map_err(String::as_str));
            }
            if let (Some(log), Some(connection)) = (&mut self.log, &mut self.connection) {
                log.keep_bounded(connection);
            }
            self.empty_log();
            // Who is short of processors gets one now, and perhaps hands in more: larger batches cost less for each.
            std::thread::yield_now();
        }
        let mut connection = self.connection.take();
        if let Some(connection) = &mut connection {
            // The hook holds a way to the thread that moves the log, which ends with the last of them.
            let _ = connection.wal_hook(None::<fn(&mut Wal, i32) -> Result<(), rusqlite::Error>>);
        }
        self.log = None;
        for other in others {
            // One that panicked has said so, through `failed` and the panic hook.
            let _ = other.join();
        }
        // A command leaves the log to the gateway, whose writer would have to wait for it.
        if let (Some(connection), Role::Gateway) = (connection, self.role) {
            // Economy, not correctness: the next start reads no log. Without room for it the log simply stays.
            let _ = connection.pragma_update(None, "wal_checkpoint", "TRUNCATE");
        }
    }

    /// Empties the log, if what it holds is to be found nowhere any more. Where that fails, as somebody reads from it, it is
    /// due as before.
    fn empty_log(&mut self) {
        if !std::mem::take(&mut self.empties_log) {
            return;
        }
        let Some(connection) = &mut self.connection else { return };
        if open::empty_log(connection)
            && let Err(error) = scrubbing::finish(connection)
        {
            tracing::warn!(%error, "the store cannot note that it was scrubbed");
        }
    }

    fn connect(&self) -> Result<Connection, rusqlite::Error> {
        let mut connection = self.place.connect_writer()?;
        watched(&mut connection, self.log.as_ref())?;
        Ok(connection)
    }

    fn commit(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), String> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().map_err(|error| error.to_string())?,
        };
        match run_batch(&connection, batch) {
            Ok(Kept { spoiled, empties_log }) => {
                self.connection = (!spoiled).then_some(connection);
                self.empties_log = empties_log;
            }
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

fn watched(connection: &mut Connection, log: Option<&Log>) -> Result<(), rusqlite::Error> {
    log.map_or(Ok(()), |log| log.watch(connection))
}

/// A transaction that is on disk.
struct Kept {
    /// Whether the connection should be opened anew.
    spoiled: bool,
    /// As [`Writing::empties_log`].
    empties_log: bool,
}

/// A transaction of which nothing is kept.
struct Lost {
    /// Whether the connection should be opened anew.
    spoiled: bool,
    /// What the database said first: later errors only tell that the transaction is gone.
    detail: String,
}

/// One transaction of all jobs. Jobs that fail alone are rolled back alone.
fn run_batch(connection: &Connection, batch: &mut [Box<dyn Job>]) -> Result<Kept, Lost> {
    let writing = begin(connection)?;
    let failed = batch.iter_mut().find_map(|job| match run_job(&writing, job.as_mut()) {
        Ran::Done => None,
        Ran::Failed { spoiled, .. } => Some(spoiled),
    });
    let Some(spoiled) = failed else {
        execute(connection, "COMMIT")?;
        return Ok(Kept { spoiled: false, empties_log: writing.empties_log.get() });
    };
    // SQLite ends the whole transaction by itself on some errors.
    let undone = if connection.is_autocommit() { Ok(()) } else { execute(connection, "ROLLBACK") };
    let ran = undone.and_then(|()| run_apart(connection, batch));
    // What the first run learnt of the connection holds, however the second one went.
    match ran {
        Ok(kept) => Ok(Kept { spoiled: spoiled || kept.spoiled, ..kept }),
        Err(lost) => Err(Lost { spoiled: spoiled || lost.spoiled, ..lost }),
    }
}

/// One transaction of all jobs, each in a savepoint.
fn run_apart(connection: &Connection, batch: &mut [Box<dyn Job>]) -> Result<Kept, Lost> {
    let writing = begin(connection)?;
    let mut spoiled = false;
    for job in batch {
        execute(connection, "SAVEPOINT job")?;
        let detail = match run_job(&writing, job.as_mut()) {
            Ran::Done => {
                execute(connection, "RELEASE job")?;
                continue;
            }
            Ran::Failed { spoiled: spoiling, detail } => {
                spoiled |= spoiling;
                detail
            }
        };
        writing.next_leaf.set(None);
        // When the whole transaction is gone this fails, and all jobs are told why.
        let undone = execute(connection, "ROLLBACK TO job").and_then(|()| execute(connection, "RELEASE job"));
        undone.map_err(|after| Lost { spoiled: spoiled || after.spoiled, detail: detail.unwrap_or(after.detail) })?;
    }
    execute(connection, "COMMIT").map_err(|lost| Lost { spoiled: spoiled || lost.spoiled, ..lost })?;
    Ok(Kept { spoiled, empties_log: writing.empties_log.get() })
}

fn run_job(writing: &Writing<'_>, job: &mut dyn Job) -> Ran {
    let ran = catch_unwind(AssertUnwindSafe(|| job.run(writing)));
    ran.unwrap_or(Ran::Failed { spoiled: false, detail: None })
}

fn execute(connection: &Connection, sql: &str) -> Result<(), Lost> {
    let done = connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
    done.map(drop).map_err(|error| Lost { spoiled: fault::spoils_connection(&error), detail: error.to_string() })
}
