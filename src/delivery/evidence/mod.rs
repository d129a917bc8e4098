//! Evidence for mails in doubt: what the relays' own logs say, before a lane's policy decides.
//!
//! A mail is in doubt when an attempt was cut after its commit point: we died, or the answer to the final dot was lost.
//! The relay knows. Where a relay's log can be read (`log_file` or `log_command`), it is looked through for the
//! Message-IDs of all that are in doubt, and each mail that the relay has taken ends as `relayed`, with its queue id. What
//! is not found there stays as it is: a log may be late, so nothing is ever said to be absent.
//!
//! ```text
//! unknown ─▶ look through each relay's log ─▶ there: relayed (leaf resolved, by relay-log)
//!                                         └▶ not there, and its time has come: on_unknown (resend-once | hold)
//! held, or waiting to be sent once more ─▶ looked for as well, less often
//! ```
//!
//! No unknown is decided before the log was looked through for it; a log that cannot be read keeps nobody waiting. A mail
//! is looked for in the logs of all relays, whichever it was offered to last.

mod reading;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::reading::RelayLog;
use crate::clock::Clock;
use crate::domain::evidence::Evidence;
use crate::domain::evidence::relay_log::{Scan, Wanted};
use crate::domain::ids::RelayName;
use crate::domain::lane::{PerLane, UnknownPolicy};
use crate::store::{Decided, InDoubt, Store, StoreError};

/// How often there is a look whether anything is in doubt.
const EVERY: Duration = Duration::from_secs(1);
/// Logs are not looked through again before this.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// For what was decided already they are looked through after this.
const LOOK_LATE: Duration = Duration::from_mins(1);
/// Mails looked for at once, and decided at once, at most.
const BATCH: usize = 500;
/// A log is asked for what it says from so long before the oldest mail on.
const CLOCKS_DIFFER: Duration = Duration::from_mins(5);

/// Ends doubts.
pub(super) struct Resolver {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    /// The logs there are.
    pub(super) logs: watch::Receiver<Vec<RelayLog>>,
    /// What is decided where there is no evidence.
    pub(super) policy: watch::Receiver<PerLane<UnknownPolicy>>,
    /// When logs were looked through last.
    pub(super) looked_at: Option<Timestamp>,
    /// Relays whose log could not be looked through last time: that is told once.
    pub(super) failing: BTreeSet<RelayName>,
}

impl Resolver {
    /// Resolves and decides until `soft` is cancelled.
    pub(super) async fn run(mut self, soft: CancellationToken) {
        loop {
            let now = self.clock.now();
            let more = match self.round(now).await {
                Ok(decided) => decided.total() >= BATCH,
                Err(error) => {
                    tracing::warn!(%error, "what is unknown has to wait");
                    false
                }
            };
            let next = if more { now } else { now.checked_add(EVERY).unwrap_or(Timestamp::MAX) };
            tokio::select! {
                () = soft.cancelled() => return,
                () = self.clock.sleep_until(next) => {}
            }
        }
    }

    /// Looks for evidence, where there is any to be had and it is time; then decides what nothing was found for.
    async fn round(&mut self, now: Timestamp) -> Result<Decided, StoreError> {
        let logs = self.logs.borrow().clone();
        if !logs.is_empty() {
            let in_doubt = self.store.in_doubt(BATCH).await?;
            let is_urgent = in_doubt.iter().any(|message| message.decide_at.is_some());
            let wait = if is_urgent { LOOK_AGAIN } else { LOOK_LATE };
            let next = self.looked_at.and_then(|looked_at| looked_at.checked_add(wait).ok());
            if next.is_some_and(|next| next > now) {
                return Ok(Decided::default());
            }
            if !in_doubt.is_empty() {
                self.looked_at = Some(now);
                let resolved = self.look(&logs, &in_doubt, now).await?;
                if resolved > 0 && in_doubt.len() >= BATCH {
                    // Those behind them come next, and were not looked for yet.
                    return Ok(Decided::default());
                }
            }
        }
        let policy = *self.policy.borrow();
        // As of the time before the look: what became unknown meanwhile was not looked for.
        let decided = self.store.decide_unknown(now, policy, BATCH).await?;
        if decided.held > 0 {
            super::tell_held(decided.held);
        }
        Ok(decided)
    }

    /// Looks through each log, and resolves what stands there; how many that were.
    async fn look(&mut self, logs: &[RelayLog], in_doubt: &[InDoubt], now: Timestamp) -> Result<usize, StoreError> {
        let mut resolved_in_all = 0;
        let since = in_doubt.iter().map(|message| message.accepted_at).min().unwrap_or(now);
        let since = since.checked_sub(CLOCKS_DIFFER).unwrap_or(since);
        let looks = logs.iter().map(|log| async move {
            let wanted = in_doubt.iter().map(|message| Wanted {
                id: message.id,
                message_id: message.message_id.clone(),
                known_as: message.known_as.clone(),
            });
            let mut scan = Scan::new(wanted);
            let looked = log.look(&mut scan, since).await;
            (log, scan, looked)
        });
        // Side by side: one that is slow keeps the others waiting no longer than for itself.
        for (log, scan, looked) in join_all(looks).await {
            match looked {
                Ok(()) => drop(self.failing.remove(&log.relay)),
                Err(error) if self.failing.insert(log.relay.clone()) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(relay = %log.relay, error, "the relay's log cannot be looked through");
                }
                Err(_) => {}
            }
            let at = self.clock.now();
            let evidence = |(id, taken)| Evidence { id, relay: log.relay.clone(), taken, at };
            let evidence: Vec<Evidence> = scan.found().map(evidence).collect();
            if !evidence.is_empty() {
                let resolved = self.store.resolve(evidence).await?;
                tracing::info!(relay = %log.relay, messages = resolved, "its log says that it has taken these: relayed");
                resolved_in_all += resolved;
            }
        }
        Ok(resolved_in_all)
    }
}
