//! Once a day the gateway reads each tenant's passes by itself, at the tenant's own time of day.
//!
//! Whether that has been done is known from the store, so neither a restart nor a command that did it before makes it
//! happen twice, and a day that was missed while the gateway was down is made up for. A run that ends early is gone on
//! with after [`AGAIN`]; one that the API refused waits for the next day.
//!
//! Each tenant's run goes on by itself, one at a time: an API that is slow or hangs is waited for by its own tenant only,
//! and for `run_max` at most. What they take together is bounded by the tenants: a page of each.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Backfill, Mode, Start, Summary, Trouble, Wish};
use crate::domain::audit::Actor;
use crate::domain::backfill::Repaired;
use crate::domain::ids::TenantId;
use crate::domain::pass_api::Daily;
use crate::domain::rules::Rules;
use crate::domain::tenant::Tenant;
use crate::store::BackfillRun;

/// How often it is looked whose time has come.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A run that ended early is gone on with after this.
const AGAIN: Duration = Duration::from_mins(15);

/// Whether a daily run is due. `since`: when the gateway started; `refused`: when a run was refused for good.
#[must_use]
pub fn is_due(
    daily: &Daily,
    last: Option<&BackfillRun>,
    since: Timestamp,
    refused: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    let moment = daily.last_before(now);
    if refused.is_some_and(|refused| refused >= moment) {
        return false;
    }
    match last {
        // A tenant that was never read is not read at once because it was configured, but when its time comes.
        None => moment >= since,
        Some(last) => last.started_at < moment || last.ended_at.is_none(),
    }
}

/// What the schedule remembers of a tenant.
#[derive(Default)]
struct Memory {
    /// Nothing is tried before.
    not_before: Option<Timestamp>,
    /// When the API refused us.
    refused: Option<Timestamp>,
}

impl Backfill {
    /// Looks for tenants whose time has come until `soft` is cancelled.
    pub async fn run_daily(&self, rules: watch::Receiver<Arc<Rules>>, soft: CancellationToken) {
        let since = self.clock.now();
        let mut memory: BTreeMap<TenantId, Memory> = BTreeMap::new();
        // Who is looked after by one of `looks`; what is remembered of them is there meanwhile.
        let mut busy: BTreeSet<TenantId> = BTreeSet::new();
        let mut looks = FuturesUnordered::new();
        while !soft.is_cancelled() {
            let snapshot = Arc::clone(&rules.borrow());
            memory.retain(|tenant, _| snapshot.tenants.contains_key(tenant));
            for id in snapshot.tenants.keys().filter(|id| !busy.contains(*id)).cloned().collect::<Vec<_>>() {
                let memory = memory.remove(&id).unwrap_or_default();
                busy.insert(id.clone());
                looks.push(self.look_by_itself(Arc::clone(&snapshot), id, since, memory));
            }
            let next = self.clock.now().checked_add(LOOK_EVERY).unwrap_or(Timestamp::MAX);
            let mut sleep = std::pin::pin!(self.clock.sleep_until(next));
            loop {
                tokio::select! {
                    () = soft.cancelled() => return,
                    () = &mut sleep => break,
                    Some((id, remembered)) = looks.next() => {
                        busy.remove(&id);
                        memory.insert(id, remembered);
                    }
                }
            }
        }
    }

    /// A look that takes along what it needs.
    async fn look_by_itself(
        &self,
        rules: Arc<Rules>,
        id: TenantId,
        since: Timestamp,
        mut memory: Memory,
    ) -> (TenantId, Memory) {
        if let Some(tenant) = rules.tenants.get(&id) {
            self.look(tenant, since, &mut memory).await;
        }
        (id, memory)
    }

    async fn look(&self, tenant: &Tenant, since: Timestamp, memory: &mut Memory) {
        let Some((api, daily)) = tenant.pass_api.as_ref().and_then(|api| Some((api, api.daily.as_ref()?))) else {
            return;
        };
        let (now, id) = (self.clock.now(), &tenant.id);
        if memory.not_before.is_some_and(|not_before| now < not_before) {
            return;
        }
        let due =
            self.store.last_backfill(id).await.map(|last| is_due(daily, last.as_ref(), since, memory.refused, now));
        match due {
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => {
                tracing::warn!(tenant = %id, %error, "whether passes are to be read today cannot be known yet");
                return;
            }
        }
        tracing::info!(tenant = %id, "reading the passes of the Pass API");
        let wish = Wish { tenant, api, mode: Mode::Mend, start: Start::GoOn, actor: Actor::Gateway };
        match self.run(&wish, &mut |_| {}).await {
            Ok(summary) => tell(&summary),
            Err(error) => {
                let now = self.clock.now();
                memory.not_before = now.checked_add(AGAIN).ok();
                memory.refused = is_refusal(&error).then_some(now);
                let cause = error.source().map(tracing::field::display);
                tracing::error!(tenant = %id, %error, cause, "the passes could not all be read");
            }
        }
    }
}

/// Whether somebody has to mend something first.
fn is_refusal(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Refused(..)
        | Trouble::NotAllowed
        | Trouble::TooLarge(_)
        | Trouble::TooMany { .. }
        | Trouble::Endless
        | Trouble::Status(_)
        | Trouble::Empty { .. }
        | Trouble::ManyMissing { .. } => true,
        Trouble::Busy | Trouble::TooLong | Trouble::Unavailable(_) | Trouble::Store(_) | Trouble::Ledger(_) => false,
    }
}

/// The line at the end of a run: numbers only.
pub fn tell(summary: &Summary) {
    let Summary { tenant, dry_run: _, resumed, complete, tally } = summary;
    let Repaired { installed, removed, identifiers, new } = tally.repaired;
    tracing::info!(
        %tenant,
        resumed,
        complete,
        read = tally.read,
        unchanged = tally.unchanged,
        installed,
        removed,
        identifiers,
        new,
        missing = tally.missing,
        not_understood = tally.not_understood,
        pages = tally.pages,
        requests = tally.requests,
        seconds = tally.seconds,
        "the passes of the Pass API were read"
    );
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use jiff::tz::TimeZone;

    use super::*;
    use crate::domain::backfill::Tally;
    use crate::domain::paging::{Order, Place};

    fn at(text: &str) -> Timestamp {
        format!("2026-03-{text}:00Z").parse().unwrap()
    }

    fn run(started: &str, ended: bool) -> BackfillRun {
        BackfillRun {
            number: 1,
            started_at: at(started),
            place: Place { round: 1, page: None, order: Order::Kept },
            read_at: None,
            ended_at: ended.then(|| at(started)),
            tally: Tally::default(),
        }
    }

    #[test]
    fn a_run_is_due_once_a_day_also_after_a_day_was_missed_and_until_it_has_ended() {
        let daily = Daily { at: jiff::civil::time(3, 30, 0, 0), zone: TimeZone::UTC };
        for (last, refused, now, due) in [
            // Started on the 10th at noon, never read.
            (None, None, "10T13:00", false),
            (None, None, "11T03:29", false),
            (None, None, "11T03:30", true),
            (Some(run("11T03:30", true)), None, "11T03:31", false),
            (Some(run("11T03:30", true)), None, "12T03:31", true),
            // Read by hand in the evening: that is not the next day's.
            (Some(run("11T20:00", true)), None, "12T03:00", false),
            (Some(run("11T20:00", true)), None, "12T04:00", true),
            // The gateway was down in the night.
            (Some(run("08T03:30", true)), None, "10T12:01", true),
            // It ended early.
            (Some(run("11T03:30", false)), None, "11T04:00", true),
            // It was refused: not again today.
            (Some(run("11T03:30", false)), Some("11T03:31"), "11T04:00", false),
            (Some(run("11T03:30", false)), Some("11T03:31"), "12T03:30", true),
        ] {
            let is = is_due(&daily, last.as_ref(), at("10T12:00"), refused.map(at), at(now));
            assert_eq!(is, due, "{last:?} {refused:?} {now}");
        }
    }
}
