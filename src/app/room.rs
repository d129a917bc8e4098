//! Whether there is room for more mail: the task that looks, so that no acceptance has to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::clock::Clock;
use crate::lifecycle::{Kind, Tasks};
use crate::limits::{Headroom, Limits, Shortage};
use crate::store::Store;

/// How often we look.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A count that took long is done so much less often: a hundredth of one processor, whatever the queue.
const REST_PER_COUNT: u32 = 100;

/// Looks now at the disk, and from here on again and again at the disk and the queue; tidies the limiters, and tells how
/// many strangers they refused, too.
pub(super) fn watch(store: &Arc<dyn Store>, limits: &Arc<Limits>, clock: &Arc<dyn Clock>, tasks: &Tasks) {
    let (store, limits, clock, soft) = (Arc::clone(store), Arc::clone(limits), Arc::clone(clock), tasks.soft());
    // Before the doors open: a full disk takes no mail, not even in the first second.
    limits.headroom().disk_has(store.disk_free());
    tasks.spawn("limits.room", Kind::Essential, async move {
        let mut told = None;
        let mut count_again = Instant::now();
        loop {
            let room = limits.headroom();
            room.disk_has(store.disk_free());
            if Instant::now() >= count_again {
                let took = count(&*store, room).await;
                count_again = Instant::now() + took.saturating_mul(REST_PER_COUNT);
            }
            told = tell(told, room.shortage());
            limits.tidy();
            let refused = limits.strangers_refused();
            if refused > 0 {
                tracing::warn!(requests = refused, "refused: too many without a valid key from their address");
            }
            tokio::select! {
                () = clock.sleep_until(later(clock.now(), LOOK_EVERY)) => {}
                () = soft.cancelled() => return,
            }
        }
    });
}

/// Counts the live mails; how long that took. When it fails, the last count and what was accepted since still hold.
async fn count(store: &dyn Store, room: &Headroom) -> Duration {
    let (began, counting) = (Instant::now(), room.begin_count());
    match store.live().await {
        Ok(live) => room.counted(&counting, live),
        Err(error) => tracing::warn!(%error, "the live mails could not be counted"),
    }
    began.elapsed()
}

/// Says when there is too little room, and when there is enough again.
fn tell(told: Option<Shortage>, now: Option<Shortage>) -> Option<Shortage> {
    if told != now {
        match now {
            Some(Shortage::Disk) => {
                tracing::error!("the disk has less room than limits.disk_free_min: no mail is taken");
            }
            Some(Shortage::Queue) => tracing::error!("the queue holds limits.queue_max mails: no more are taken"),
            None => tracing::info!("there is room again: mail is taken"),
        }
    }
    now
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}
