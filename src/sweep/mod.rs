//! The sweep: what has ended long enough ago is removed, a few mails at a time, so that the store stops growing.
//!
//! ```text
//! ended ─ retention.content ─▶ its content is gone (410), who and what it was is still known
//!       └ retention.messages ─▶ its row is gone (404); what happened to it stays in the audit, which names nobody
//! ```
//!
//! A pass walks the mails in the order of their acceptance, those first whose time may have come; what is still live is
//! passed over, however old. Each batch is one short transaction, and between two of them mails have the store to
//! themselves. What was removed is told in a leaf for each batch and tenant: how many, and until
//! when they had ended. After it the files are scrubbed of whoever was erased since the last pass.

pub mod settings;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use self::settings::{Keep, RetentionSettings};
use crate::clock::Clock;
use crate::domain::ids::MessageId;
use crate::store::{Purge, PurgedPart, Scrubbed, Store, StoreError};

/// How long between two passes.
const EVERY: Duration = Duration::from_secs(10);
/// How long between two batches: as long as one takes, roughly.
const PAUSE: Duration = Duration::from_millis(10);

/// Pages of the store that are looked through at once, which takes about as long.
const SCRUB_PAGES: usize = 4_096;
/// Times that so many are looked through in one pass. Each erasure begins with the first page anew: where one follows the
/// other for long, what has ended is removed all the same.
const SCRUBS_MAX: usize = 256;
/// How often emptying the log is tried in a row.
const LOG_TRIES: usize = 20;

/// Removes what has ended.
pub struct Sweep {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    settings: RetentionSettings,
}

impl Sweep {
    /// One that keeps things for as long as these settings say.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, settings: RetentionSettings) -> Self {
        Self { store, clock, settings }
    }

    /// Works in passes until `soft` is cancelled.
    pub async fn run(&self, soft: CancellationToken) {
        let mut is_failing = false;
        while !soft.is_cancelled() {
            let done = tokio::select! {
                () = soft.cancelled() => return,
                done = self.pass() => done,
            };
            match &done {
                Ok(purged) if *purged > 0 => tracing::debug!(purged, "what was kept long enough is removed"),
                Err(error) if !is_failing => tracing::warn!(%error, "what was kept long enough cannot be removed"),
                Ok(_) | Err(_) => {}
            }
            is_failing = done.is_err();
            tokio::select! {
                () = soft.cancelled() => {}
                () = self.wait(EVERY) => {}
            }
        }
    }

    /// Goes through all once; how many contents and rows were removed.
    pub async fn pass(&self) -> Result<usize, StoreError> {
        let contents = self.walk(PurgedPart::Contents, self.settings.content).await?;
        let messages = self.walk(PurgedPart::Messages, self.settings.messages).await?;
        if scrub(&*self.store, &*self.clock, SCRUBS_MAX).await? != Scrubbed::All {
            tracing::debug!("what was erased is scrubbed from the files in a later pass");
        }
        Ok(contents + messages)
    }

    async fn walk(&self, part: PurgedPart, keep: Keep) -> Result<usize, StoreError> {
        let Some(length) = keep.length() else { return Ok(0) };
        let mut purged_in_all = 0;
        let mut after: Option<MessageId> = None;
        loop {
            let at = self.clock.now();
            let ended_before = at.checked_sub(length).unwrap_or(Timestamp::MIN);
            let purge = Purge { part, ended_before, after, limit: self.settings.batch, at };
            let purged = self.store.purge(purge).await?;
            purged_in_all += purged.count;
            match purged.next {
                Some(next) => after = Some(next),
                None => return Ok(purged_in_all),
            }
            if purged.count > 0 {
                self.wait(PAUSE).await;
            }
        }
    }

    async fn wait(&self, length: Duration) {
        wait(&*self.clock, length).await;
    }
}

async fn wait(clock: &dyn Clock, length: Duration) {
    clock.sleep_until(clock.now().checked_add(length).unwrap_or(Timestamp::MAX)).await;
}

/// Scrubs the store of what is left in its files of whoever was erased, a few pages at a time, `times` at most. Not
/// [`Scrubbed::All`]: there is more to do, or somebody reads from the log for long; asked again, it goes on.
pub async fn scrub(store: &dyn Store, clock: &dyn Clock, times: usize) -> Result<Scrubbed, StoreError> {
    let mut tries = 0;
    for _ in 0..times {
        match store.scrub(SCRUB_PAGES).await? {
            Scrubbed::All => return Ok(Scrubbed::All),
            Scrubbed::Pages if tries >= LOG_TRIES => return Ok(Scrubbed::Pages),
            Scrubbed::Pages => tries += 1,
            Scrubbed::Partly => {}
        }
        wait(clock, PAUSE).await;
    }
    Ok(Scrubbed::Partly)
}
