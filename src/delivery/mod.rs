//! Delivery: from the rows of the queue to the relay, and back into the rows.
//!
//! # Who is who
//!
//! * The **window** holds the few messages that are considered now, shared out by lane, tenant and domain.
//! * A **desk** stands before each relay and says who may take a session: its **breaker**, its rate (a **bucket**), its
//!   lanes, and the **concurrency** that the relay's answers taught.
//! * The **domains** say how fast each recipient domain may be sent to: by configuration and by what it answered.
//! * The **dispatcher** is one task that owns all of these, starts an **attempt** whenever a message and a session meet,
//!   and learns from how it ended; the next mail may have the session while the outcome is still being written.
//! * An **attempt** offers the envelope, passes the commit point, carries the content and decides what became of it.
//! * **Losses** tell a relay that died from a mail that makes it drop its connection.
//! * **Evidence** for mails in doubt is looked for in the relays' logs; what is unknown without any is decided.
//! * **Housekeeping** ends what passed its deadline.
//! * The **control** is the handle by which others ask the dispatcher how it stands and give it new settings.
//!
//! # What is promised
//!
//! * Nothing is sent whose commit point is not on disk, and nothing whose state at that moment forbids it.
//! * What was not the mail's fault costs it nothing: a relay that is down, a throttle, a store that cannot write, a
//!   shutdown give the attempt back unspent. So does a connection lost before the final dot, unless the relay answers
//!   others well meanwhile.
//! * No relay and no domain sees more than its rate, after a restart and a recovery as well (but for one attempt, at a
//!   rate slower than one a second); no domain, lane or tenant that may not go keeps back another that may.
//! * Mails that make a relay drop its connection keep others waiting for moments, however many they are.
//! * What one relay may have taken is given to no other before the lane's policy says so.
//! * After a crash every attempt that was past its commit point is `unknown`; every other message is where it was.
//! * Memory does not grow with the backlog: the window and the sessions bound it.
//!
//! # For correctness and for economy
//!
//! The commit point and the token make it correct: it would be so with two dispatchers on the same rows. Claims, the
//! window and the wake-ups are economy: they may be forgotten or repeated at any time.
//!
//! Not here: what a reply means (`domain::reply`), how SMTP is spoken (`courier`).

mod attempt;
mod breaker;
mod bucket;
mod concurrency;
pub mod control;
mod desk;
mod dispatcher;
mod domains;
mod evidence;
mod feedback;
mod look;
mod losses;
mod pace;
pub mod reasons;
pub mod settings;
mod telling;
#[cfg(test)]
mod tests;
mod under_way;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use control::Control;
pub use desk::RelayPlan;
pub use evidence::RelayLog;
pub use settings::DeliverySettings;

use self::control::Question;
use self::dispatcher::{Dispatcher, House};
use crate::clock::Clock;
use crate::courier::Courier;
use crate::domain::ids::TenantId;
use crate::domain::lane::{LaneRules, PerLane};
use crate::domain::rates::DomainRates;
use crate::domain::relay::RelayHealth;
use crate::domain::tenant::Tenant;
use crate::store::{Store, StoreError};

/// Deadlines are looked at this often.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// And so many at once at most.
const HOUSEKEEPING_BATCH: usize = 500;

/// What delivery works with.
pub struct Parts {
    /// Where messages are kept.
    pub store: Arc<dyn Store>,
    /// The way to the relays.
    pub courier: Arc<dyn Courier>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// `[delivery]`.
    pub settings: DeliverySettings,
    /// `[lanes.*]`.
    pub lanes: PerLane<LaneRules>,
    /// `limits.relay_domains`.
    pub domain_rates: DomainRates,
    /// The relays there are.
    pub relays: Vec<RelayPlan>,
    /// Their logs, as far as they can be read.
    pub logs: Vec<RelayLog>,
    /// The tenants there are.
    pub tenants: BTreeMap<TenantId, Tenant>,
    /// Notified when something was accepted: a hint.
    pub wake: Arc<Notify>,
    /// Spreads retries.
    pub random: fastrand::Rng,
}

/// Delivery, ready to run.
pub struct Delivery {
    parts: Parts,
    retry: PerLane<Vec<Duration>>,
    health: watch::Sender<Vec<RelayHealth>>,
    control: Control,
    questions: mpsc::Receiver<Question>,
}

/// The delays between attempts of each lane.
fn retry_tables(settings: &DeliverySettings, lanes: &PerLane<LaneRules>) -> PerLane<Vec<Duration>> {
    PerLane::from_fn(|lane| {
        let delays = lanes.get(lane).retry.as_ref().unwrap_or(&settings.retry);
        delays.iter().map(|delay| delay.0).collect()
    })
}

impl Delivery {
    /// Puts delivery together; nothing runs yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let retry = retry_tables(&parts.settings, &parts.lanes);
        let (health, _) = watch::channel(Vec::new());
        let (control, questions) = Control::new(Arc::clone(&parts.courier));
        Self { parts, retry, health, control, questions }
    }

    /// The handle through which operators ask and new settings come, while delivery runs.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// How the relays stand, kept up to date while delivery runs.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Vec<RelayHealth>> {
        self.health.subscribe()
    }

    /// What a dead process left past its commit point becomes `unknown`, and what waits for tenants that are not in the
    /// configuration is held. Before anything else runs.
    pub async fn recover(&self) -> Result<usize, StoreError> {
        let known: Vec<TenantId> = self.parts.tenants.keys().cloned().collect();
        let held = self.parts.store.hold_unconfigured(&known, self.parts.clock.now()).await?;
        if held > 0 {
            tracing::error!(messages = held, "held: their tenants are not in the configuration");
        }
        let wait = PerLane::from_fn(|lane| self.retry.get(lane).first().copied().unwrap_or(HOUSEKEEPING));
        self.parts.store.recover(self.parts.clock.now(), wait).await
    }

    /// Delivers until `soft` is cancelled, then lets attempts past their commit point end, until `hard` is cancelled.
    pub async fn run(self, soft: CancellationToken, hard: CancellationToken) {
        let Self { parts, retry, health, control: _, questions } = self;
        let rules = desk::DeskRules::new(&parts.settings, &parts.lanes);
        let now = parts.clock.now();
        let desks: BTreeMap<_, _> =
            parts.relays.iter().map(|relay| (relay.name.clone(), desk::Desk::new(relay, &rules, now))).collect();
        health.send_replace(desks.values().map(desk::Desk::health).collect());
        let (policy, decided_by) = watch::channel(PerLane::from_fn(|lane| parts.lanes.get(lane).on_unknown));
        let (logs, looked_through) = watch::channel(parts.logs);
        let dispatcher = Dispatcher::new(House {
            wake: parts.wake,
            window: window::Window::new(parts.settings.window, parts.tenants.keys().cloned()),
            desks,
            tenants: parts.tenants.values().map(|tenant| (tenant.id.clone(), tenant.relays.clone())).collect(),
            domains: domains::Domains::new(parts.domain_rates, &parts.settings, rules.reserved, now),
            random: parts.random,
            health,
            policy,
            logs,
            questions,
            ground: Arc::new(attempt::Ground {
                store: Arc::clone(&parts.store),
                courier: Arc::clone(&parts.courier),
                clock: Arc::clone(&parts.clock),
                tenants: parts.tenants,
                retry,
                back_off_max: rules.back_off_max,
                soft: soft.clone(),
                unsettled: Arc::default(),
            }),
        });
        let resolver = evidence::Resolver {
            store: Arc::clone(&parts.store),
            clock: Arc::clone(&parts.clock),
            logs: looked_through,
            policy: decided_by,
            looked_at: None,
            failing: BTreeSet::new(),
        };
        let resolving = resolver.run(soft.clone());
        let housekeeping = async { tokio::join!(keep_house(parts.store, parts.clock, soft), resolving) };
        let delivered = async {
            let mut dispatcher = pin!(dispatcher.run(hard));
            tokio::select! {
                // Only a broken dispatcher ends before the stop; the end of this task is then the end of the process.
                () = &mut dispatcher => return,
                ((), ()) = housekeeping => {}
            }
            dispatcher.await;
        };
        delivered.await;
        parts.courier.close().await;
    }
}

/// Ends what passed its deadline, until `soft` is cancelled.
async fn keep_house(store: Arc<dyn Store>, clock: Arc<dyn Clock>, soft: CancellationToken) {
    loop {
        let now = clock.now();
        let more = match round(store.as_ref(), now).await {
            Ok(handled) => handled >= HOUSEKEEPING_BATCH,
            Err(error) => {
                tracing::warn!(%error, "housekeeping has to wait");
                false
            }
        };
        let next = if more { now } else { now.checked_add(HOUSEKEEPING).unwrap_or(Timestamp::MAX) };
        tokio::select! {
            () = soft.cancelled() => return,
            () = clock.sleep_until(next) => {}
        }
    }
}

/// One round; returns how many things it did, at most.
async fn round(store: &dyn Store, now: Timestamp) -> Result<usize, StoreError> {
    let swept = store.sweep(now, HOUSEKEEPING_BATCH).await?;
    if swept.held > 0 {
        tell_held(swept.held);
    }
    if swept.expired > 0 {
        tracing::warn!(messages = swept.expired, "expired, not sent");
    }
    Ok((swept.expired + swept.held).max(swept.forgotten))
}

/// The alarm: these may have been sent, nobody knows, and nothing more is done without an operator.
fn tell_held(messages: usize) {
    tracing::error!(messages, "possibly sent: held for an operator");
}
