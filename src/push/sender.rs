//! The sender: which push is attempted when, so that no endpoint waits for another.
//!
//! It looks at all endpoints every second, or when something was fed. Of each that has something due it holds the next few
//! pushes; attempts are begun in turns, one for each endpoint, as long as there are places.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Parts;
use super::attempt::{Failure, Outcome, attempt};
use crate::domain::ids::PushId;
use crate::domain::push::{Endpoint, Outbound};
use crate::domain::retry::delay_after;
use crate::domain::rules::Rules;
use crate::store::{DuePush, EndpointLook, EndpointState, Settling, StoreError};

/// How often all endpoints are looked at; what a command does is seen within this.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pushes of one endpoint that are held at most, beside those under way.
const HELD_MAX: usize = 32;
/// So many failures in a row pause an endpoint.
const FAILURES_MAX: u32 = 3;
/// The first pause; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);
/// What the store could not write is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// See the module's text.
pub(super) struct Sender {
    parts: Arc<Parts>,
    fed: Arc<Notify>,
    retry: Arc<[Duration]>,
    standings: BTreeMap<Endpoint, Standing>,
    under_way: FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>,
    look_at: Timestamp,
    /// The endpoint that had the last turn.
    last_turn: Option<Endpoint>,
    store_fails: bool,
}

/// How an endpoint stands.
struct Standing {
    outbound: Arc<Outbound>,
    look: EndpointLook,
    held: VecDeque<DuePush>,
    under_way: BTreeSet<PushId>,
    failures: u32,
    paused_until: Timestamp,
}

/// The end of an attempt.
struct Done {
    endpoint: Endpoint,
    id: PushId,
    outcome: Outcome,
    /// When the answer came, or was given up.
    at: Timestamp,
}

impl Standing {
    fn new(outbound: Outbound) -> Self {
        Self {
            outbound: Arc::new(outbound),
            look: EndpointLook { state: EndpointState::NotConfigured, due_at: None },
            held: VecDeque::new(),
            under_way: BTreeSet::new(),
            failures: 0,
            paused_until: Timestamp::MIN,
        }
    }

    /// Whether another attempt may begin: one that fails again and again is tried with one push.
    fn has_place(&self, now: Timestamp, most: usize) -> bool {
        let most = if self.failures >= FAILURES_MAX { 1 } else { most };
        self.look.state == EndpointState::On && self.paused_until <= now && self.under_way.len() < most
    }
}

impl Sender {
    pub(super) fn new(parts: Parts, fed: Arc<Notify>) -> Self {
        let retry = parts.settings.retry.iter().map(|delay| delay.0).collect();
        Self {
            parts: Arc::new(parts),
            fed,
            retry,
            standings: BTreeMap::new(),
            under_way: FuturesUnordered::new(),
            look_at: Timestamp::MIN,
            last_turn: None,
            store_fails: false,
        }
    }

    pub(super) async fn run(mut self, soft: CancellationToken, hard: CancellationToken) {
        let mut rules = self.parts.rules.clone();
        self.reconfigure(&Arc::clone(&rules.borrow_and_update()));
        while !soft.is_cancelled() {
            // One moment for the whole round: what becomes due in the middle of it ends the sleep at its end.
            let now = self.parts.clock.now();
            let looked = self.look(now).await;
            self.tell_store(&looked);
            self.begin_what_may(now, &hard);
            let wake_at = self.wake_at(now);
            tokio::select! {
                () = soft.cancelled() => {}
                Some(done) = self.under_way.next() => self.end(done),
                () = self.parts.clock.sleep_until(wake_at) => {}
                () = self.fed.notified() => self.look_at = Timestamp::MIN,
                Ok(()) = rules.changed() => self.reconfigure(&Arc::clone(&rules.borrow_and_update())),
            }
        }
        while let Some(done) = self.under_way.next().await {
            self.end(done);
        }
    }

    /// Endpoints that are new stand anew, those that left are forgotten; what is under way ends as it began.
    fn reconfigure(&mut self, rules: &Rules) {
        let mut before = std::mem::take(&mut self.standings);
        for tenant in rules.tenants.values() {
            for outbound in &tenant.outbound {
                let endpoint = Endpoint { tenant: tenant.id.clone(), endpoint: outbound.name.clone() };
                let standing = match before.remove(&endpoint) {
                    Some(known) if *known.outbound == *outbound => known,
                    // Another URL or secret may do better at once.
                    Some(known) => Standing {
                        outbound: Arc::new(outbound.clone()),
                        failures: 0,
                        paused_until: Timestamp::MIN,
                        ..known
                    },
                    None => Standing::new(outbound.clone()),
                };
                self.standings.insert(endpoint, standing);
            }
        }
        self.look_at = Timestamp::MIN;
    }

    /// Asks the store how endpoints stand, when it is time, and for pushes where places are free.
    async fn look(&mut self, now: Timestamp) -> Result<(), StoreError> {
        if self.standings.is_empty() {
            return Ok(());
        }
        if self.look_at <= now {
            self.look_at = now.checked_add(LOOK_EVERY).unwrap_or(Timestamp::MAX);
            let looks = self.parts.store.look_at_endpoints(self.standings.keys().cloned().collect()).await?;
            for (standing, look) in self.standings.values_mut().zip(looks) {
                standing.look = look;
                if look.state != EndpointState::On {
                    standing.held.clear();
                }
            }
        }
        let most = self.parts.settings.in_flight_per_endpoint;
        for (endpoint, standing) in &mut self.standings {
            let is_due = standing.look.due_at.is_some_and(|due_at| due_at <= now);
            if !is_due || !standing.held.is_empty() || !standing.has_place(now, most) {
                continue;
            }
            let limit = HELD_MAX + standing.under_way.len();
            let due = self.parts.store.due_pushes(endpoint, now, limit).await?;
            if due.len() < limit {
                // That was all; the next look tells of more.
                standing.look.due_at = None;
            }
            standing.held.extend(due.into_iter().filter(|push| !standing.under_way.contains(&push.id)));
        }
        Ok(())
    }

    fn tell_store(&mut self, looked: &Result<(), StoreError>) {
        if let Err(error) = looked
            && !self.store_fails
        {
            tracing::warn!(%error, "pushes have to wait for the store");
        }
        self.store_fails = looked.is_err();
    }

    /// When something may be done that nobody tells us of.
    fn wake_at(&self, now: Timestamp) -> Timestamp {
        let ends = |standing: &Standing| {
            let pause = Some(standing.paused_until).filter(|_| !standing.held.is_empty());
            [pause, standing.look.due_at].into_iter().flatten().filter(|at| *at > now).min()
        };
        let ends = self.standings.values().filter_map(ends);
        if self.standings.is_empty() { Timestamp::MAX } else { ends.fold(self.look_at, Timestamp::min) }
    }

    /// Begins attempts in turns, as long as there are pushes and places.
    fn begin_what_may(&mut self, now: Timestamp, hard: &CancellationToken) {
        let settings = &self.parts.settings;
        while self.under_way.len() < settings.in_flight_max {
            let may = |(_, standing): &(&Endpoint, &Standing)| {
                !standing.held.is_empty() && standing.has_place(now, settings.in_flight_per_endpoint)
            };
            let later =
                |(endpoint, _): &(&Endpoint, &Standing)| self.last_turn.as_ref().is_none_or(|last| *endpoint > last);
            let next = self.standings.iter().filter(later).find(may).or_else(|| self.standings.iter().find(may));
            let Some(endpoint) = next.map(|(endpoint, _)| endpoint.clone()) else { return };
            if let Some(standing) = self.standings.get_mut(&endpoint)
                && let Some(push) = standing.held.pop_front()
            {
                standing.under_way.insert(push.id);
                let made = Attempt {
                    parts: Arc::clone(&self.parts),
                    retry: Arc::clone(&self.retry),
                    endpoint: endpoint.clone(),
                    outbound: Arc::clone(&standing.outbound),
                };
                self.under_way.push(Box::pin(made.make(push, hard.clone())));
            }
            self.last_turn = Some(endpoint);
        }
    }

    /// What an attempt's end means for its endpoint.
    fn end(&mut self, done: Done) {
        let Done { endpoint, id, outcome, at } = done;
        let settings = &self.parts.settings;
        let Some(standing) = self.standings.get_mut(&endpoint) else { return };
        standing.under_way.remove(&id);
        // What waited behind it, about the same, may be due now.
        standing.look.due_at = standing.look.due_at.or(Some(at));
        let (tenant, name) = (&endpoint.tenant, &endpoint.endpoint);
        match outcome {
            Outcome::Taken => {
                if standing.failures > 0 {
                    tracing::info!(%tenant, endpoint = %name, "an endpoint takes pushes again");
                }
                standing.failures = 0;
                standing.paused_until = Timestamp::MIN;
            }
            Outcome::Gone => {
                if standing.look.state == EndpointState::On {
                    tracing::error!(
                        %tenant, endpoint = %name,
                        "an endpoint answered 410 and is off: \"postern push enable\" switches it on again"
                    );
                }
                standing.look.state = EndpointState::Off;
                standing.held.clear();
            }
            Outcome::Failed { failure, retry_after } => {
                if standing.failures == 0 {
                    let failure = failure.word();
                    tracing::warn!(%tenant, endpoint = %name, failure, "an endpoint fails: its pushes are tried again");
                }
                standing.failures = standing.failures.saturating_add(1);
                let asked =
                    retry_after.filter(|_| failure.is_throttling()).map(|asked| asked.min(settings.retry_after_max.0));
                let further = standing
                    .failures
                    .checked_sub(FAILURES_MAX)
                    .map(|further| PAUSE.saturating_mul(2_u32.saturating_pow(further)).min(settings.pause_max.0));
                if let Some(pause) = asked.max(further) {
                    standing.paused_until = at.checked_add(pause).unwrap_or(Timestamp::MAX);
                }
            }
        }
    }
}

/// What an attempt is made with.
struct Attempt {
    parts: Arc<Parts>,
    retry: Arc<[Duration]>,
    endpoint: Endpoint,
    outbound: Arc<Outbound>,
}

impl Attempt {
    /// Makes it and writes how it ended. With `hard` it lets go: the push is still in the outbox, and is sent again.
    async fn make(self, push: DuePush, hard: CancellationToken) -> Done {
        let (id, attempts) = (push.id, push.attempts);
        let Parts { clock, client, settings, .. } = &*self.parts;
        let outcome = tokio::select! {
            outcome = attempt(client, &self.outbound, push, clock.now(), settings.timeout.0) => outcome,
            () = hard.cancelled() => {
                let failure = Failure::Call(crate::outgoing::CallError::TimedOut);
                let outcome = Outcome::Failed { failure, retry_after: None };
                return Done { endpoint: self.endpoint, id, outcome, at: clock.now() };
            }
        };
        let at = clock.now();
        let settling = self.settling(&outcome, attempts, at);
        if let Settling::Dead { failure } = &settling {
            let Endpoint { tenant, endpoint } = &self.endpoint;
            tracing::error!(push.id = %id, %tenant, %endpoint, failure, "a push was given up: it is a dead letter");
        }
        loop {
            match self.parts.store.settle_push(id, settling.clone(), at).await {
                // Closed: the process ends, and the push is sent again after the next start.
                Ok(_) | Err(StoreError::Closed) => break,
                Err(_) => {
                    let again = clock.now().checked_add(AGAIN).unwrap_or(Timestamp::MAX);
                    tokio::select! {
                        () = clock.sleep_until(again) => {}
                        () = hard.cancelled() => break,
                    }
                }
            }
        }
        Done { endpoint: self.endpoint, id, outcome, at }
    }

    /// What becomes of the push. `attempts` have failed before.
    fn settling(&self, outcome: &Outcome, attempts: u32, at: Timestamp) -> Settling {
        let (failure, retry_after) = match outcome {
            Outcome::Taken => return Settling::Delivered,
            Outcome::Gone => return Settling::EndpointGone,
            Outcome::Failed { failure, retry_after } => (failure.word(), *retry_after),
        };
        if usize::try_from(attempts).unwrap_or(usize::MAX) >= self.retry.len() {
            return Settling::Dead { failure };
        }
        let table = delay_after(&self.retry, attempts.saturating_add(1), fastrand::f64());
        let asked = retry_after.unwrap_or_default().min(self.parts.settings.retry_after_max.0);
        let due_at = at.checked_add(table.max(asked)).unwrap_or(Timestamp::MAX);
        Settling::Again { due_at, failure }
    }
}
