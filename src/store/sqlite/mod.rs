//! The store in one SQLite file: one thread writes, a few read, and two gateways can never share it.
//!
//! # Who is who
//!
//! * The **writer** (`writer`) owns the only connection that writes. Callers hand it jobs through a bounded queue; it
//!   runs whatever waits in one transaction, syncs once and then answers each caller.
//! * The **readers** (`readers`) answer questions from snapshots: what was committed is seen by the next question. One
//!   pool of them serves delivery and keys, another the lists, so that a slow list keeps nobody else waiting.
//! * The **checkpoint** moves the log into the database beside the writer, in steps.
//! * The **place** (`open`) is the file with its locks; both kinds of thread open their connections there, again and
//!   again when the disk failed them.
//! * The **claims** are a set in memory. The gateway's lock makes it the only one; a crash forgets it, and nothing was
//!   done with what was only claimed.
//!
//! # What is promised
//!
//! Durability: WAL with `synchronous=FULL`, and a caller is answered after COMMIT, which has synced the log. The log
//! stays bounded: it is moved into the database every few thousand pages, no reader keeps a snapshot between two
//! questions, and closing empties it. Whoever writes from another process (a command) takes the same short transactions
//! and reads the audit's size inside them.
//! Times are stored as whole milliseconds. SQL stands in the function that runs it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::readers::Question;
use self::shelf::{Mail, Shelf};
use self::waiting::Claims;
use self::writer::{Job, Writer, Writing};
use super::{
    Batch, ClaimRequest, CommitPoint, Content, Decided, DueDomains, DueDomainsPage, Leaf, MessageFilter, MessagePage,
    Order, OrderToMany, Pace, Repeat, StandingCount, Steered, Store, StoreError, Swept,
};
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::lane::{Lane, PerLane, UnknownPolicy};
use crate::domain::message::{
    Acceptance, Candidate, MessageView, NewMessage, Outgoing, Receipt, Settled, Settlement, Status, Verdict,
};
use crate::domain::why::Stored;

mod accept;
mod alarms;
mod attempts;
mod audit;
mod backfill;
mod bounces;
mod brakes;
mod checkpoint;
mod contacts;
mod content;
mod erasing;
mod evidence;
mod facts;
mod fault;
mod journeys;
mod keys;
mod lists;
mod messages;
mod metadata;
mod open;
mod proving;
mod push;
mod readers;
mod retention;
mod scrubbing;
mod sealing;
mod shelf;
mod steering;
mod streams;
mod suppressions;
mod sweep;
#[cfg(test)]
mod tests;
mod unless;
mod waiting;
mod walks;
mod wallets;
mod ways;
mod webhooks;
mod why;
mod writer;

pub use open::Role;
pub use sealing::ContentKeys;

/// Where a store is and who opens it.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// The database file; it and its folder are created when they are not there.
    pub path: PathBuf,
    /// The gateway, or a command beside it.
    pub role: Role,
}

/// A [`Store`] in one SQLite file. Dropping it finishes what is queued, as [`Store::close`] does.
pub struct SqliteStore {
    /// The ways in; gone once the store is closed.
    doors: Mutex<Option<Doors>>,
    /// The threads, until somebody has waited for them.
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Cancelled when the last thread has ended.
    ended: CancellationToken,
    /// Cancelled when a thread has ended that nobody asked to.
    failed: CancellationToken,
    claims: Arc<Mutex<Claims>>,
    shelf: Shelf,
    content_keys: Arc<ContentKeys>,
    path: PathBuf,
    /// How long a list may take; `None`: a command's takes the time it needs.
    list_time_max: Option<Duration>,
    subject_secret: [u8; 32],
    key_pepper: [u8; 32],
    unsubscribe_key: [u8; 32],
    return_path_key: [u8; 32],
}

#[derive(Clone)]
struct Doors {
    jobs: mpsc::Sender<Box<dyn Job>>,
    /// To the readers that serve delivery and keys.
    questions: mpsc::Sender<Question>,
    /// To the readers of lists.
    lists: mpsc::Sender<Question>,
}

impl SqliteStore {
    /// Opens the store, creates and migrates it where needed, and starts its threads. Blocks; it belongs to the start.
    pub fn open(options: OpenOptions) -> Result<Self, StoreError> {
        let OpenOptions { path, role } = options;
        let opened = open::open(&path, role)?;
        let secret = |name| {
            open::secret(&opened.connection, name)
                .map_err(|error| StoreError::Open(format!("{}: {name}: {error}", path.display())))
        };
        let (subject_secret, key_pepper) = (secret("subject-secret")?, secret("key-pepper")?);
        let (unsubscribe_key, return_path_key) = (secret("unsubscribe-key")?, secret("return-path-key")?);
        let (jobs, jobs_inside) = mpsc::channel(writer::JOBS_MAX);
        let (questions, questions_inside) = mpsc::channel(readers::QUESTIONS_MAX);
        let (lists, lists_inside) = mpsc::channel(readers::QUESTIONS_MAX);
        let store = Self {
            doors: Mutex::new(Some(Doors { jobs, questions, lists })),
            threads: Mutex::new(Vec::new()),
            ended: CancellationToken::new(),
            failed: CancellationToken::new(),
            claims: Arc::default(),
            shelf: Shelf::default(),
            content_keys: Arc::default(),
            path,
            list_time_max: match role {
                Role::Gateway => Some(readers::LIST_TIME_MAX),
                Role::Command | Role::Scratch => None,
            },
            subject_secret,
            key_pepper,
            unsubscribe_key,
            return_path_key,
        };
        store.start(opened, role, jobs_inside, [questions_inside, lists_inside])?;
        Ok(store)
    }

    fn start(
        &self,
        opened: open::Opened,
        role: Role,
        jobs: mpsc::Receiver<Box<dyn Job>>,
        [questions, lists]: [mpsc::Receiver<Question>; 2],
    ) -> Result<(), StoreError> {
        let mut others = Vec::new();
        for (name, threads, questions) in
            [("reader", readers::SERVING_READERS, questions), ("lister", readers::LISTING_READERS, lists)]
        {
            let questions = Arc::new(Mutex::new(questions));
            for number in 0..threads {
                let (place, questions) = (opened.place.clone(), Arc::clone(&questions));
                others.push(self.spawn(format!("store-{name}-{number}"), move || readers::run(&place, &questions))?);
            }
        }
        let log = match role {
            Role::Command | Role::Scratch => None,
            Role::Gateway => {
                let (nudge, nudges) = std::sync::mpsc::sync_channel(1);
                let place = opened.place.clone();
                let work = move || checkpoint::run(&place, &nudges);
                others.push(self.spawn("store-checkpoint".to_owned(), work)?);
                Some(checkpoint::Log::new(nudge))
            }
        };
        let writer = Writer::new(opened.place, opened.connection, role, log)
            .map_err(|error| StoreError::Open(error.to_string()))?;
        let (lock, ended) = (opened.lock, self.ended.clone());
        let writer = self.spawn("store-writer".to_owned(), move || {
            let ended = ended.drop_guard();
            writer.run(jobs, others);
            // Only now may another gateway come.
            drop::<Option<File>>(lock);
            drop(ended);
        })?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(writer);
        Ok(())
    }

    /// A thread whose end by panic is noticed.
    fn spawn(&self, name: String, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
        let failed = self.failed.clone();
        let work = move || {
            let guard = failed.drop_guard();
            work();
            // An end in order is no failure.
            guard.disarm();
        };
        std::thread::Builder::new().name(name).spawn(work).map_err(|error| StoreError::Open(error.to_string()))
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        drop(self.doors.lock().unwrap_or_else(PoisonError::into_inner).take());
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // A thread that panicked has said so, through `failed` and the panic hook.
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn accept(&self, mut message: NewMessage) -> Result<Acceptance, StoreError> {
        // From here on the mail is only as large as its compressed content, however long the disk keeps it waiting.
        let pair = content::pack(std::mem::take(&mut message.mime)).await?;
        let (shelved, packed) = self.shelve(&message, pair);
        let packed = self.content_keys.seal(message.id, packed)?;
        let secret = self.subject_secret;
        let work = move |connection: &Writing<'_>| accept::accept(connection, &secret, &message, &packed);
        let accepted = self.write("accepting a message", work).await?;
        if let (Acceptance::Accepted(Receipt { status: Status::Queued, .. }), Some(shelved)) = (&accepted, shelved) {
            shelved.keep();
        }
        Ok(accepted)
    }

    async fn replay(&self, repeat: Repeat) -> Result<Option<Acceptance>, StoreError> {
        facts::replay(self, repeat).await
    }

    async fn due_domains(&self, page: DueDomains) -> Result<DueDomainsPage, StoreError> {
        self.read("listing due domains", move |connection| waiting::due_domains(connection, &page)).await
    }

    async fn waiting_tenants(
        &self,
        lane: Lane,
        after: Option<TenantId>,
        limit: usize,
    ) -> Result<Vec<TenantId>, StoreError> {
        let work = move |connection: &Connection| waiting::waiting_tenants(connection, lane, after.as_ref(), limit);
        self.read("listing tenants that wait", work).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Candidate>, StoreError> {
        let (claims, at) = (Arc::clone(&self.claims), request.now);
        let claimed =
            self.read("claiming messages", move |connection| waiting::claim(connection, &claims, &request)).await?;
        if !claimed.unreadable.is_empty() {
            let ids: Vec<Vec<u8>> = claimed.unreadable.iter().map(|id| id.as_bytes().to_vec()).collect();
            let hold = move |connection: &Writing<'_>| sweep::hold_unreadable(connection, &ids, at);
            if let Err(error) = self.write("holding unreadable messages", hold).await {
                // The next claim tries again; those that can be read do not wait for it.
                tracing::error!(%error, "unreadable messages could not be held");
            }
        }
        Ok(claimed.candidates)
    }

    fn give_back(&self, ids: &[MessageId]) {
        waiting::locked(&self.claims).give_back(ids);
    }

    async fn outgoing(&self, id: MessageId) -> Result<Option<Outgoing>, StoreError> {
        if let Some(Mail { envelope_sender, recipient, content }) = self.shelf.take(id)
            && let Some(mime) = content.into_mime()
        {
            return Ok(Some(Outgoing { envelope_sender, recipient, attempts: 0, mime }));
        }
        let keys = Arc::clone(&self.content_keys);
        self.read("reading a message to send", move |connection| content::outgoing(connection, &keys, id)).await
    }

    async fn commit_point(&self, commit: CommitPoint) -> Result<Verdict, StoreError> {
        let secret = self.subject_secret;
        let work = move |connection: &Writing<'_>| attempts::commit_point(connection, &secret, &commit);
        self.write("passing a commit point", work).await
    }

    async fn settle(&self, settlement: Settlement) -> Result<Settled, StoreError> {
        let secret = self.subject_secret;
        let work = move |connection: &Writing<'_>| attempts::settle(connection, &secret, &settlement);
        self.write("settling an attempt", work).await
    }

    async fn recover(&self, at: Timestamp, decide_after: PerLane<Duration>) -> Result<usize, StoreError> {
        let secret = self.subject_secret;
        let work = move |connection: &Writing<'_>| attempts::recover(connection, &secret, at, &decide_after);
        self.write("recovering attempts", work).await
    }

    async fn decide_unknown(
        &self,
        at: Timestamp,
        policy: PerLane<UnknownPolicy>,
        limit: usize,
    ) -> Result<Decided, StoreError> {
        let work = move |connection: &Writing<'_>| sweep::decide_unknown(connection, at, policy, limit);
        self.write("deciding unknowns", work).await
    }

    async fn sweep(&self, at: Timestamp, limit: usize) -> Result<Swept, StoreError> {
        let secret = self.subject_secret;
        let work = move |connection: &Writing<'_>| sweep::sweep(connection, &secret, at, limit);
        self.write("sweeping deadlines", work).await
    }

    async fn hold_unconfigured(&self, known: &[TenantId], at: Timestamp) -> Result<usize, StoreError> {
        sweep::hold_unconfigured(self, known, at).await
    }

    async fn steer(&self, tenant: &TenantId, id: MessageId, order: Order) -> Result<Steered, StoreError> {
        self.steer_one(tenant.clone(), id, order).await
    }

    async fn steer_matching(&self, many: OrderToMany) -> Result<Batch, StoreError> {
        self.steer_batch(many).await
    }

    async fn count(&self, tenant: &TenantId, filter: MessageFilter) -> Result<BTreeMap<Status, u64>, StoreError> {
        let tenant = tenant.clone();
        self.list("counting messages", move |connection| messages::count(connection, &tenant, &filter)).await
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        self.list("listing tenants", steering::tenants).await
    }

    async fn standings(&self, tenant: &TenantId) -> Result<Vec<StandingCount>, StoreError> {
        let tenant = tenant.clone();
        self.list("counting what stands where", move |connection| steering::standings(connection, &tenant)).await
    }

    async fn message(&self, tenant: &TenantId, id: MessageId) -> Result<Option<MessageView>, StoreError> {
        let tenant = tenant.clone();
        self.read("reading a message", move |connection| messages::message(connection, &tenant, id)).await
    }

    async fn messages(&self, tenant: &TenantId, filter: MessageFilter) -> Result<MessagePage, StoreError> {
        let (tenant, look) = (tenant.clone(), self.look());
        self.list("listing messages", move |connection| messages::messages(connection, &tenant, &filter, look)).await
    }

    async fn leaves(&self, tenant: &TenantId, id: MessageId) -> Result<Option<Vec<Leaf>>, StoreError> {
        let tenant = tenant.clone();
        self.list("reading leaves", move |connection| audit::leaves(connection, &tenant, id)).await
    }

    async fn content(&self, tenant: &TenantId, id: MessageId) -> Result<Content, StoreError> {
        let tenant = tenant.clone();
        let keys = Arc::clone(&self.content_keys);
        self.list("reading a content", move |connection| content::content(connection, &keys, &tenant, id)).await
    }

    async fn stored(&self, tenant: &TenantId, id: MessageId) -> Result<Option<Stored>, StoreError> {
        let (tenant, secret) = (tenant.clone(), self.subject_secret);
        let work = move |connection: &Connection| why::stored(connection, &secret, &tenant, id);
        self.read("reading what holds a message", work).await
    }

    async fn pace(&self, now: Timestamp) -> Result<Pace, StoreError> {
        self.list("counting the last minute", move |connection| why::pace(connection, now)).await
    }

    async fn config_changed(&self, sections: Vec<&'static str>, at: Timestamp) -> Result<(), StoreError> {
        self.note_config(sections, at).await
    }

    async fn live(&self) -> Result<u64, StoreError> {
        // Not cut short as a list is: it is one walk of an index, and its asker waits the longer for the next.
        self.list_until(None, "counting live messages", waiting::live).await
    }

    fn disk_free(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.path).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    async fn probe(&self, at: Timestamp) -> Result<(), StoreError> {
        self.write("probing the store", move |connection| keys::probe(connection, at)).await
    }

    async fn failed(&self) {
        self.failed.cancelled().await;
    }

    async fn close(&self) {
        drop(self.doors.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.ended.cancelled().await;
    }
}
