//! The dispatcher: decides which message is tried next, at which relay, and starts the attempts.
//!
//! One task owns all of it: the window, the desks of the relays, the attempts under way. It wakes when something was
//! accepted, when an attempt ends and at least every [`POLL`]; a wake-up is only a hint, the rows are looked at anew
//! each time. Looking costs: after a look it waits four times as long as the look took, so that looking never takes
//! more than a fifth of a processor.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::attempt::{self, Attempt, End, GiveBack, Ground, Word};
use super::breaker::Gate;
use super::desk::Desk;
use super::window::Window;
use crate::domain::ids::{LeaseToken, MessageId, RelayName, TenantId};
use crate::domain::lane::Lane;
use crate::domain::message::{Candidate, Outcome, Reason, Settlement};
use crate::domain::relay::RelayHealth;
use crate::store::{ClaimRequest, DueDomains, StoreError};

/// The rows are looked at this often even when nobody says that there is something to see.
const POLL: Duration = Duration::from_secs(1);
/// After the store could not read or write, nothing is started for so long.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// Out of so many picks between `standard` and `journey`, the first is `journey`'s: it moves even under a backlog.
const JOURNEY_TURN: u32 = 4;

/// What the dispatcher waits for.
enum Event {
    /// The look found these domains with something due.
    Domains(Vec<Look>, Result<(), StoreError>),
    /// The look brought these messages.
    Claimed(Vec<Candidate>, Result<(), StoreError>),
    /// A relay was greeted.
    Greeted(RelayName, Result<(), String>),
    /// An attempt ended.
    Ended(End),
}

/// One lane and tenant looked at.
struct Look {
    lane: Lane,
    tenant: TenantId,
    domains: Vec<String>,
}

struct InFlight {
    candidate: Candidate,
    relay: RelayName,
    token: LeaseToken,
}

/// How far the present look has come.
enum Looking {
    No,
    Yes { since: Timestamp },
}

/// The state of the dispatcher; see the module's text.
pub struct Dispatcher {
    ground: Arc<Ground>,
    wake: Arc<Notify>,
    window: Window,
    desks: BTreeMap<RelayName, Desk>,
    /// Each tenant's relays in order of preference.
    tenants: Vec<(TenantId, Vec<RelayName>)>,
    tenant_turn: usize,
    journey_turn: u32,
    cursors: HashMap<(Lane, TenantId), String>,
    tasks: JoinSet<Event>,
    in_flight: HashMap<Id, InFlight>,
    looking: Looking,
    look_wanted: bool,
    look_after: Timestamp,
    start_after: Timestamp,
    random: fastrand::Rng,
    health: watch::Sender<Vec<RelayHealth>>,
}

impl Dispatcher {
    /// A dispatcher that has looked at nothing yet.
    pub fn new(
        ground: Arc<Ground>,
        wake: Arc<Notify>,
        window: Window,
        desks: BTreeMap<RelayName, Desk>,
        tenants: Vec<(TenantId, Vec<RelayName>)>,
        random: fastrand::Rng,
        health: watch::Sender<Vec<RelayHealth>>,
    ) -> Self {
        Self {
            ground,
            wake,
            window,
            desks,
            tenants,
            tenant_turn: 0,
            journey_turn: 0,
            cursors: HashMap::new(),
            tasks: JoinSet::new(),
            in_flight: HashMap::new(),
            looking: Looking::No,
            look_wanted: true,
            look_after: Timestamp::MIN,
            start_after: Timestamp::MIN,
            random,
            health,
        }
    }

    /// Runs until `soft` is cancelled and the attempts past their commit point have ended, or `hard` is cancelled.
    pub async fn run(mut self, hard: CancellationToken) {
        let ground = Arc::clone(&self.ground);
        let wake = Arc::clone(&self.wake);
        while !ground.soft.is_cancelled() {
            self.look();
            let next = self.start_attempts();
            tokio::select! {
                biased;
                () = ground.soft.cancelled() => {}
                Some(done) = self.tasks.join_next_with_id() => self.take(done).await,
                () = wake.notified() => self.look_wanted = true,
                () = ground.clock.sleep_until(next) => self.on_tick(),
            }
        }
        tracing::info!(attempts = self.in_flight.len(), "no new attempts; those under way may end");
        loop {
            tokio::select! {
                biased;
                () = hard.cancelled() => break,
                done = self.tasks.join_next_with_id() => match done {
                    Some(done) => self.take(done).await,
                    None => break,
                },
            }
        }
        if !self.in_flight.is_empty() {
            tracing::warn!(attempts = self.in_flight.len(), "cut: these will be unknown at the next start");
        }
        self.tasks.abort_all();
    }

    fn on_tick(&mut self) {
        self.look_wanted = true;
        let late = self.window.drop_late(self.ground.clock.now());
        self.ground.store.give_back(&late);
    }

    // --- looking ---

    /// Asks the store which domains have something due, unless a look is under way or too soon.
    fn look(&mut self) {
        let now = self.ground.clock.now();
        if !self.look_wanted || matches!(self.looking, Looking::Yes { .. }) || now < self.look_after {
            return;
        }
        self.look_wanted = false;
        self.looking = Looking::Yes { since: now };
        let pages: Vec<DueDomains> = self.pages(now).collect();
        let store = Arc::clone(&self.ground.store);
        self.spawn(async move {
            let mut looks = Vec::new();
            for page in pages {
                let (lane, tenant) = (page.lane, page.tenant.clone());
                match store.due_domains(page).await {
                    Ok(page) => looks.push(Look { lane, tenant, domains: page.domains }),
                    Err(error) => return Event::Domains(looks, Err(error)),
                }
            }
            Event::Domains(looks, Ok(()))
        });
    }

    /// Every lane of every tenant that has a relay to go to now; nothing is claimed for one that has not.
    fn pages(&self, now: Timestamp) -> impl Iterator<Item = DueDomains> {
        let open = self.tenants.iter().filter(move |(_, relays)| self.relay_for(relays, now).is_some());
        open.flat_map(move |(tenant, _)| {
            Lane::ALL.into_iter().map(move |lane| DueDomains {
                lane,
                tenant: tenant.clone(),
                now,
                after: self.cursors.get(&(lane, tenant.clone())).cloned(),
                limit: self.window.share(),
            })
        })
    }

    fn claim(&mut self, looks: Vec<Look>) {
        let now = self.ground.clock.now();
        let mut requests = Vec::new();
        for look in looks {
            let key = (look.lane, look.tenant.clone());
            match look.domains.last() {
                Some(last) if look.domains.len() >= self.window.share() => {
                    self.cursors.insert(key, last.clone());
                }
                // The end of the list: begin again, and at once when this look began in the middle.
                _ => self.look_wanted |= self.cursors.remove(&key).is_some(),
            }
            let plan = self.window.plan(look.lane, &look.tenant, &look.domains);
            self.ground.store.give_back(&plan.evicted);
            if !plan.wants.is_empty() {
                requests.push(ClaimRequest { lane: look.lane, tenant: look.tenant, now, domains: plan.wants });
            }
        }
        let store = Arc::clone(&self.ground.store);
        self.spawn(async move {
            let mut claimed = Vec::new();
            for request in requests {
                match store.claim(request).await {
                    Ok(candidates) => claimed.extend(candidates),
                    Err(error) => return Event::Claimed(claimed, Err(error)),
                }
            }
            Event::Claimed(claimed, Ok(()))
        });
    }

    fn looked(&mut self, result: Result<(), StoreError>) {
        let now = self.ground.clock.now();
        if let Looking::Yes { since } = std::mem::replace(&mut self.looking, Looking::No) {
            let took = Duration::try_from(now.duration_since(since)).unwrap_or_default();
            // Bounded, because a clock that jumped makes a look seem long.
            self.look_after = later(now, (took * 4).min(POLL));
        }
        if let Err(error) = result {
            tracing::warn!(%error, "the queue cannot be read; trying again");
            self.look_wanted = true;
            self.look_after = later(now, STORE_PAUSE);
        }
    }

    // --- starting ---

    /// Starts what may start now; returns when to look again at the latest.
    fn start_attempts(&mut self) -> Timestamp {
        let now = self.ground.clock.now();
        let mut next = later(now, POLL.mul_f64(0.8 + 0.4 * self.random.f64()));
        if self.look_wanted && matches!(self.looking, Looking::No) {
            next = next.min(self.look_after.max(now));
        }
        if now < self.start_after {
            return next.min(self.start_after);
        }
        if self.ground.unsettled.load(Ordering::SeqCst) > 0 {
            return next;
        }
        self.greet_relays(now, &mut next);
        while let Some((lane, tenant, relay)) = self.pick(now) {
            let Some(desk) = self.desks.get_mut(&relay) else { break };
            if let Err(until) = desk.spend_rate(now) {
                next = next.min(until);
                continue;
            }
            let candidate = self.window.next(lane, &tenant, |domain| desk.domain_may_go(lane, domain));
            let Some(candidate) = candidate else { break };
            self.start(candidate, relay, now);
        }
        next
    }

    /// Whose turn it is: `urgent` first; `journey` gets one turn in [`JOURNEY_TURN`] before `standard`; tenants in turn.
    fn pick(&mut self, now: Timestamp) -> Option<(Lane, TenantId, RelayName)> {
        let order = if self.journey_turn == 0 {
            [Lane::Urgent, Lane::Journey, Lane::Standard]
        } else {
            [Lane::Urgent, Lane::Standard, Lane::Journey]
        };
        for lane in order {
            for step in 0..self.tenants.len() {
                let turn = (self.tenant_turn + step) % self.tenants.len();
                let (tenant, relays) = &self.tenants[turn];
                if !self.window.has(lane, tenant) {
                    continue;
                }
                let Some(relay) = self.relay_for(relays, now) else { continue };
                let Some(desk) = self.desks.get(relay) else { continue };
                let a_domain_may_go = |domain: &str| desk.domain_may_go(lane, domain);
                if desk.has_session(lane, now) && self.window.any(lane, tenant, a_domain_may_go) {
                    let picked = (lane, tenant.clone(), relay.clone());
                    self.tenant_turn = turn + 1;
                    self.journey_turn = (self.journey_turn + 1) % JOURNEY_TURN;
                    return Some(picked);
                }
            }
        }
        None
    }

    /// The first of a tenant's relays that lets mails pass.
    fn relay_for<'a>(&self, relays: &'a [RelayName], now: Timestamp) -> Option<&'a RelayName> {
        relays
            .iter()
            .find(|relay| self.desks.get(*relay).is_some_and(|desk| matches!(desk.breaker.gate(now), Gate::Pass(_))))
    }

    fn start(&mut self, candidate: Candidate, relay: RelayName, now: Timestamp) {
        if candidate.deliver_by <= now {
            self.ground.store.give_back(&[candidate.id]);
            return;
        }
        if let Some(desk) = self.desks.get_mut(&relay) {
            desk.begin(candidate.lane, &candidate.domain);
        }
        let token = LeaseToken::from_random(uuid::Uuid::new_v4().into_bytes());
        let attempt = Attempt { candidate: candidate.clone(), relay: relay.clone(), token, random: self.random.f64() };
        let ground = Arc::clone(&self.ground);
        let id = self.spawn(async move { Event::Ended(attempt::run(ground, attempt).await) });
        self.in_flight.insert(id, InFlight { candidate, relay, token });
    }

    fn greet_relays(&mut self, now: Timestamp, next: &mut Timestamp) {
        let mut to_greet = Vec::new();
        for (name, desk) in &mut self.desks {
            match desk.breaker.gate(now) {
                Gate::Greet => {
                    desk.breaker.greeting();
                    to_greet.push(name.clone());
                }
                Gate::Shut(until) => *next = (*next).min(until),
                Gate::Pass(_) | Gate::Waiting => {}
            }
        }
        for name in to_greet {
            let courier = Arc::clone(&self.ground.courier);
            self.spawn(async move {
                let greeted = courier.greet(&name).await.map_err(|trouble| trouble.to_string());
                Event::Greeted(name, greeted)
            });
        }
    }

    fn spawn(&mut self, task: impl Future<Output = Event> + Send + 'static) -> Id {
        self.tasks.spawn(task).id()
    }

    // --- what comes back ---

    async fn take(&mut self, done: Result<(Id, Event), JoinError>) {
        match done {
            Ok((_, Event::Domains(looks, Ok(())))) => self.claim(looks),
            Ok((_, Event::Domains(_, Err(error)))) => self.looked(Err(error)),
            Ok((_, Event::Claimed(candidates, result))) => {
                self.window.add(candidates);
                self.looked(result);
            }
            Ok((_, Event::Greeted(relay, result))) => self.greeted(&relay, result),
            Ok((id, Event::Ended(end))) => {
                if let Some(in_flight) = self.in_flight.remove(&id) {
                    self.ended(in_flight, end);
                }
            }
            Err(error) => self.panicked(&error).await,
        }
    }

    fn ended(&mut self, in_flight: InFlight, end: End) {
        let InFlight { candidate, relay, .. } = in_flight;
        let now = self.ground.clock.now();
        let random = self.random.f64();
        if let Some(desk) = self.desks.get_mut(&relay) {
            desk.end(candidate.lane, &candidate.domain);
            match &end {
                End::Settled(Word::Well) => desk.succeeded(now),
                End::Settled(Word::Failed(trouble)) => desk.failed(now, random, trouble.to_string()),
                End::GivenBack(GiveBack::RelayDown(trouble)) => desk.failed(now, random, trouble.clone()),
                End::Settled(Word::Nothing)
                | End::Unreadable
                | End::GivenBack(GiveBack::StoreUnwell | GiveBack::Stopping) => {}
            }
        }
        match end {
            End::Settled(_) => {
                self.ground.store.give_back(&[candidate.id]);
                // The window of this lane may have run low: there may be more to see.
                self.look_wanted |= !self.window.has(candidate.lane, &candidate.tenant);
            }
            End::GivenBack(why) => {
                if matches!(why, GiveBack::StoreUnwell) {
                    self.start_after = later(now, STORE_PAUSE);
                }
                self.window.put_back(candidate);
            }
            // Its claim is kept, so that it does not come back at once and for ever.
            End::Unreadable => {}
        }
        self.publish();
    }

    fn greeted(&mut self, relay: &RelayName, result: Result<(), String>) {
        let now = self.ground.clock.now();
        let random = self.random.f64();
        if let Some(desk) = self.desks.get_mut(relay) {
            match result {
                Ok(()) => desk.breaker.greeted(now),
                Err(trouble) => desk.failed(now, random, trouble),
            }
        }
        // What waited for this relay was not claimed meanwhile.
        self.look_wanted = true;
        self.publish();
    }

    /// An attempt panicked: a defect of ours. The message is set aside, so that it cannot do so again and again.
    async fn panicked(&mut self, error: &JoinError) {
        let Some(in_flight) = self.in_flight.remove(&error.id()) else {
            // A look or a greeting: nothing is lost, but the dispatcher cannot be trusted to go on.
            tracing::error!("a task of the dispatcher panicked; stopping");
            self.ground.soft.cancel();
            return;
        };
        let InFlight { candidate, relay, token } = in_flight;
        tracing::error!(delivery.id = %candidate.id, "an attempt panicked; the message is set aside");
        if let Some(desk) = self.desks.get_mut(&relay) {
            desk.end(candidate.lane, &candidate.domain);
        }
        set_aside(&self.ground, candidate.id, &relay, token).await;
        self.ground.store.give_back(&[candidate.id]);
    }

    fn publish(&self) {
        let health: Vec<RelayHealth> = self.desks.values().map(Desk::health).collect();
        self.health.send_if_modified(|old| {
            let changed = *old != health;
            *old = health;
            changed
        });
    }
}

/// Past its commit point the message is unknown; before it, held.
async fn set_aside(ground: &Ground, id: MessageId, relay: &RelayName, token: LeaseToken) {
    let at = ground.clock.now();
    let settlement = |token, outcome| Settlement { id, token, relay: Some(relay.clone()), at, outcome };
    let unknown = Outcome::Unknown { reason: Reason::Fault, decide_at: later(at, Duration::from_mins(1)) };
    attempt::write_settlement(ground, settlement(Some(token), unknown)).await;
    attempt::write_settlement(ground, settlement(None, Outcome::Held { reason: Reason::Fault })).await;
}

/// A moment so long after another.
fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
