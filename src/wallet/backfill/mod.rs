//! The Pass API is read from end to end, and the ledger is mended where the two disagree: the Pass API wins.
//!
//! ```text
//! paging says which page ─▶ client asks ─▶ page: passes, without secrets ─▶ those not seen yet in this run
//!     ─▶ compare with the ledger ─▶ Ledger::record (way: backfill, at the moment before the page was asked for)
//!     ─▶ store: seen, and how far we are ─▶ … ─▶ the ledger's passes that were not seen: out of their wallets
//! ```
//!
//! # What is promised
//!
//! * A pass that the API has from the beginning of a run to its end is read, whatever is made or removed meanwhile, as
//!   long as the API gives passes in the order of their creation (and, if it repeats its last page behind the end, as long
//!   as some of that page stays from one request to the next); `domain::paging` has the rules. If it keeps no order, all is
//!   read again until nothing new is found; and if that does not come to an end, nothing is called missing.
//! * What a page says holds for the moment before it was asked for. An event of a later time, before or after it came in,
//!   wins by its time. So a world that moves while it is read stays right.
//! * A run that ends early, by whatever cause, goes on where it stood, or begins anew when it was begun longer ago than
//!   `run_age_max`. None takes longer than `run_max`. One run of a tenant goes on at a time, over all processes.
//! * Memory does not grow with the number of passes. The passes' `secret` becomes no value of ours.
//!
//! Events of a run start no journey.

mod client;
mod compare;
mod page;
pub mod schedule;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use self::client::{Answered, PassClient};
use self::compare::{Compared, Known};
use self::page::Page;
use super::{Ledger, Refusal as LedgerRefusal};
use crate::clock::Clock;
use crate::domain::audit::Actor;
use crate::domain::backfill::{Difference, Tally};
use crate::domain::ids::TenantId;
use crate::domain::paging::{End, Next, Walk};
use crate::domain::pass_api::PassApi;
use crate::domain::pass_event::{PassEvent, Wallet};
use crate::domain::tenant::Tenant;
use crate::domain::wallet::CustomerKey;
use crate::outgoing::Client;
use crate::store::{BackfillRun, PassView, Store, StoreError};

/// Events recorded in one transaction.
const EVENTS_STEP: usize = 500;
/// Passes of the ledger looked at in one step, and marks forgotten.
const LEDGER_STEP: usize = 500;
const FORGET_STEP: usize = 5_000;

/// Why the API took nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 401.
    Key,
    /// 403.
    Scope,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "does not know the key (401)",
            Self::Scope => "lets this key read no passes (403; its scope must be Pass.Read)",
        })
    }
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Another process, or the gateway's own schedule, is at it.
    #[error("another run of this tenant is under way")]
    Busy,
    /// The key is not good for it; with the place where it is written.
    #[error("the Pass API {0}: {1}")]
    Refused(Refusal, String),
    /// Its address is none that may be called.
    #[error("the Pass API's address is in none of the networks of outgoing.networks")]
    NotAllowed,
    /// A page is larger than it may be.
    #[error(
        "a page of the Pass API is larger than {0} bytes: lower pass_api.page_size or raise pass_api.page_bytes_max"
    )]
    TooLarge(usize),
    /// It answered something that asking again does not mend.
    #[error("the Pass API answered with status {0}: is pass_api.url right, and pass_api.tenant?")]
    Status(u16),
    /// It failed as often as it may.
    #[error("the Pass API cannot be read now: {0}")]
    Unavailable(&'static str),
    /// A page holds many more passes than were asked for.
    #[error("a page of the Pass API holds {items} passes although pass_api.page_size asks for {page_size}")]
    TooMany {
        /// Passes on it.
        items: usize,
        /// Passes asked for.
        page_size: u32,
    },
    /// The pages come to no end.
    #[error("the pages of the Pass API come to no end, or hold no passes with an id")]
    Endless,
    /// It took longer than it may.
    #[error("reading the Pass API took longer than pass_api.run_max")]
    TooLong,
    /// The API knows no pass at all; none of ours was touched.
    #[error(
        "the Pass API knows no pass at all although {known} are in a wallet here, which is hard to believe: none was touched"
    )]
    Empty {
        /// Passes that the ledger has in a wallet.
        known: u32,
    },
    /// More passes are missing than can be believed; none was touched.
    #[error(
        "{missing} of the {known} passes in a wallet are missing at the Pass API, which is hard to believe: none was touched"
    )]
    ManyMissing {
        /// Passes that the ledger has in a wallet and the API does not know.
        missing: u32,
        /// Passes that the ledger has in a wallet.
        known: u32,
    },
    /// The store failed.
    #[error("the store failed a backfill")]
    Store(#[from] StoreError),
    /// The ledger took nothing.
    #[error("mending the ledger failed")]
    Ledger(#[source] LedgerRefusal),
}

/// What is to be done with what is found.
#[derive(Clone)]
pub enum Mode {
    /// The ledger is mended.
    Mend,
    /// It is told and nothing else; what must be remembered meanwhile is kept in this store.
    Tell(Arc<dyn Store>),
}

/// Where a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Where the last one stands, if it has not ended.
    GoOn,
    /// At the beginning.
    Anew,
}

/// One wish for a run.
pub struct Wish<'a> {
    /// Whose passes.
    pub tenant: &'a Tenant,
    /// Where they are.
    pub api: &'a PassApi,
    /// What is done.
    pub mode: Mode,
    /// Where it begins.
    pub start: Start,
    /// Who wishes it.
    pub actor: Actor,
}

/// What is told while it goes on.
pub enum Told<'a> {
    /// Something was wrong, or not understood. For the eyes of who asked: it names a pass.
    Difference(&'a Difference),
    /// A page was read; with the number of passes the API says there are.
    Page(&'a Tally, Option<u64>),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Whose passes.
    pub tenant: TenantId,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Whether an earlier run was gone on with.
    pub resumed: bool,
    /// Whether all was read: else the API gave no order, and nothing is called missing.
    pub complete: bool,
    /// What was counted, in the run as a whole.
    #[serde(flatten)]
    pub tally: Tally,
}

/// Reads Pass APIs.
pub struct Backfill {
    ledger: Arc<Ledger>,
    store: Arc<dyn Store>,
    http: Client,
    clock: Arc<dyn Clock>,
}

impl Backfill {
    /// One that mends this ledger, which is kept in this store.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, store: Arc<dyn Store>, http: Client, clock: Arc<dyn Clock>) -> Self {
        Self { ledger, store, http, clock }
    }

    /// Reads a tenant's passes to the end. Cancel safe: what was done stays done, and the next run goes on behind it.
    pub async fn run(&self, wish: &Wish<'_>, told: &mut (dyn FnMut(Told<'_>) + Send)) -> Result<Summary, Trouble> {
        let marks = match &wish.mode {
            Mode::Mend => &self.store,
            Mode::Tell(marks) => marks,
        };
        let _turn = marks.take_turn(&wish.tenant.id)?.ok_or(Trouble::Busy)?;
        let now = self.clock.now();
        let last = marks.last_backfill(&wish.tenant.id).await?.filter(|last| goes_on(last, wish, now));
        let resumed = last.is_some();
        let run = match last {
            Some(last) => last,
            None => marks.begin_backfill(&wish.tenant.id, now).await?,
        };
        let client = PassClient::new(wish.api, &self.http, &*self.clock);
        let mut reading = Reading {
            backfill: self,
            wish,
            marks: &**marks,
            client,
            since: now,
            before: (run.tally.seconds, run.tally.requests),
            run,
            told,
        };
        let until = now.checked_add(wish.api.manners.run_max).unwrap_or(Timestamp::MAX);
        let complete = tokio::select! {
            complete = reading.finish() => complete?,
            () = self.clock.sleep_until(until) => return Err(Trouble::TooLong),
        };
        let Reading { run: BackfillRun { tally, .. }, .. } = reading;
        let dry_run = matches!(wish.mode, Mode::Tell(_));
        Ok(Summary { tenant: wish.tenant.id.clone(), dry_run, resumed, complete, tally })
    }
}

fn goes_on(last: &BackfillRun, wish: &Wish<'_>, now: Timestamp) -> bool {
    let age = now.duration_since(last.started_at).unsigned_abs();
    wish.start == Start::GoOn && last.ended_at.is_none() && age < wish.api.manners.run_age_max
}

/// A run, while it goes on.
struct Reading<'a> {
    backfill: &'a Backfill,
    wish: &'a Wish<'a>,
    /// Where it is kept what was seen.
    marks: &'a dyn Store,
    client: PassClient<'a>,
    run: BackfillRun,
    /// When this process began or went on with it, and the seconds and requests that were spent before.
    since: Timestamp,
    before: (u64, u64),
    told: &'a mut (dyn FnMut(Told<'_>) + Send),
}

impl Reading<'_> {
    /// Whether all was read.
    async fn finish(&mut self) -> Result<bool, Trouble> {
        let complete = self.run.read_at.is_some() || self.read_pages().await? == End::Settled;
        if complete {
            self.believe_missing().await?;
            self.mend_missing().await?;
        }
        self.run.ended_at = Some(self.backfill.clock.now());
        self.keep(Vec::new()).await?;
        while self.marks.forget_seen(&self.wish.tenant.id, FORGET_STEP).await? > 0 {}
        Ok(complete)
    }

    async fn read_pages(&mut self) -> Result<End, Trouble> {
        let mut walk = Walk::resumed(self.run.place);
        loop {
            match walk.next() {
                Next::Look(number) => walk.was(&self.client.page(number).await?.facts),
                Next::Read(number) => {
                    let mut answered = self.client.page(number).await?;
                    let fresh = self.fresh(&mut answered).await?;
                    self.run.place = walk.place_after(number, &answered.facts);
                    self.take(&answered, fresh).await?;
                    walk.was(&answered.facts);
                }
                Next::Ended(End::Endless) => return Err(Trouble::Endless),
                Next::Ended(end) => {
                    if end == End::Settled {
                        self.run.read_at = Some(self.backfill.clock.now());
                        self.keep(Vec::new()).await?;
                    }
                    return Ok(end);
                }
            }
        }
    }

    /// The ids of the passes that this run has not seen before. Only these stay on the page: what is read twice was mended
    /// the first time.
    async fn fresh(&mut self, answered: &mut Answered) -> Result<Vec<String>, Trouble> {
        let mut ids: Vec<String> = answered.page.passes.iter().map(|pass| pass.id.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut fresh = self.marks.unseen(&self.wish.tenant.id, self.run.number, ids).await?;
        fresh.sort_unstable();
        // An id that stands twice on one page counts as it stood last.
        let mut left = fresh.clone();
        answered.page.passes.reverse();
        answered.page.passes.retain(|pass| match left.binary_search(&pass.id) {
            Ok(at) => {
                left.remove(at);
                true
            }
            Err(_) => false,
        });
        answered.facts.new = fresh.len();
        Ok(fresh)
    }

    /// Mends what a page shows, then notes that it was read: in this order, so that nothing is noted that was not done.
    async fn take(&mut self, answered: &Answered, fresh: Vec<String>) -> Result<(), Trouble> {
        let known = self.known(&answered.page, fresh.clone()).await?;
        let compared = Compared::of(&answered.page.passes, &known, answered.asked_at);
        self.mend(compared).await?;
        let tally = &mut self.run.tally;
        tally.pages += 1;
        tally.read += fresh.len() as u64;
        tally.not_understood += answered.page.strange;
        self.keep(fresh).await?;
        (self.told)(Told::Page(&self.run.tally, self.client.total_told));
        Ok(())
    }

    /// What the ledger knows of a page's passes, and of the customers whose they are.
    async fn known(&mut self, page: &Page, fresh: Vec<String>) -> Result<Known, Trouble> {
        let Tenant { id, identifiers, .. } = self.wish.tenant;
        let customers = page.passes.iter().filter_map(|pass| CustomerKey::of(&pass.identifiers, identifiers));
        let customers: BTreeSet<CustomerKey> = customers.collect();
        let nameless = self.backfill.store.nameless_passes(id, customers.into_iter().collect()).await?;
        let passes = self.backfill.store.passes(id, fresh).await?;
        Ok(Known { passes, nameless: nameless.into_iter().collect(), identifiers: identifiers.clone() })
    }

    async fn mend(&mut self, compared: Compared) -> Result<(), Trouble> {
        compared.add_to(&mut self.run.tally);
        for difference in &compared.differences {
            (self.told)(Told::Difference(difference));
        }
        if matches!(self.wish.mode, Mode::Tell(_)) {
            return Ok(());
        }
        let mut events: Vec<PassEvent> = compared.events;
        while !events.is_empty() {
            let rest = events.split_off(events.len().min(EVENTS_STEP));
            let recorded = self.backfill.ledger.record(&self.wish.tenant.id, self.wish.actor.clone(), events).await;
            recorded.map_err(Trouble::Ledger)?;
            events = rest;
        }
        Ok(())
    }

    /// An API that has lost its passes is not believed.
    async fn believe_missing(&mut self) -> Result<(), Trouble> {
        if matches!(self.wish.mode, Mode::Tell(_)) {
            return Ok(());
        }
        let (mut known, mut missing, mut after) = (0_u32, 0_u32, None);
        while let Some(step) = self.ledger_step(after.take()).await? {
            let in_wallet = |view: &&PassView| Wallet::ALL.into_iter().any(|wallet| view.standings.is_in(wallet));
            known = known.saturating_add(counted(step.views.iter().filter(in_wallet).count()));
            missing = missing.saturating_add(counted(step.missing.differences.len()));
            after = Some(step.last);
        }
        if self.run.tally.read == 0 && missing > 0 {
            return Err(Trouble::Empty { known });
        }
        let manners = &self.wish.api.manners;
        let most = f64::from(manners.missing_max) * f64::from(known);
        if missing > manners.missing_believed && f64::from(missing) > most {
            return Err(Trouble::ManyMissing { missing, known });
        }
        Ok(())
    }

    async fn mend_missing(&mut self) -> Result<(), Trouble> {
        let mut after = None;
        while let Some(step) = self.ledger_step(after.take()).await? {
            self.mend(step.missing).await?;
            after = Some(step.last);
        }
        Ok(())
    }

    async fn ledger_step(&mut self, after: Option<String>) -> Result<Option<LedgerStep>, Trouble> {
        let tenant = &self.wish.tenant.id;
        let views = self.backfill.store.ledger_passes(tenant, after, LEDGER_STEP).await?;
        let ids: Vec<String> = views.iter().filter_map(|view| view.pass.clone()).collect();
        let Some(last) = ids.last().cloned() else { return Ok(None) };
        let unseen = self.marks.unseen(tenant, self.run.number, ids).await?;
        let is_unseen = |view: &&PassView| view.pass.as_ref().is_some_and(|pass| unseen.contains(pass));
        let unseen: Vec<PassView> = views.iter().filter(is_unseen).cloned().collect();
        Ok(Some(LedgerStep { missing: Compared::missing(&unseen, self.run.started_at), views, last }))
    }

    async fn keep(&mut self, seen: Vec<String>) -> Result<(), StoreError> {
        let spent = self.backfill.clock.now().duration_since(self.since).as_secs();
        let (seconds, requests) = self.before;
        self.run.tally.seconds = seconds + u64::try_from(spent).unwrap_or_default();
        self.run.tally.requests = requests + self.client.requests;
        self.marks.keep_backfill(&self.wish.tenant.id, self.run.clone(), seen).await
    }
}

/// Some of the ledger's passes, in the order of their ids.
struct LedgerStep {
    views: Vec<PassView>,
    /// What is to be done with those that were not seen.
    missing: Compared,
    /// The id of the last.
    last: String,
}

fn counted(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
