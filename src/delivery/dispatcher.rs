//! The dispatcher: decides which message is tried next, at which relay, and starts the attempts.
//!
//! One task owns all of it: the window, the desks of the relays, the attempts under way. It wakes when something was
//! accepted, when an attempt ends, when a limit lets the next mail go and at least every [`POLL`]; a wake-up is only a
//! hint, the rows are looked at anew each time (see `look`). What it learns from an attempt's end stands in `feedback`,
//! what it tells operators in `telling`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use super::attempt::{self, Attempt, Ground};
use super::breaker::Gate;
use super::control::Question;
use super::desk::{Alternative, Desk, Invitation};
use super::domains::{Domains, MayGo};
use super::evidence::RelayLog;
use super::look::{Found, Looks, has_passed};
use super::losses::Losses;
use super::under_way::{Event, InFlight, Stage, is_behind};
use super::window::Window;
use crate::domain::ids::{LeaseToken, RelayName, TenantId};
use crate::domain::lane::{Lane, PerLane, UnknownPolicy};
use crate::domain::message::Candidate;
use crate::domain::relay::RelayHealth;
use crate::store::{ClaimRequest, StoreError};

/// The rows are looked at this often even when nobody says that there is something to see; what a command changes is
/// seen within a second.
const POLL: Duration = Duration::from_millis(500);
/// After the store could not read or write, nothing is started for so long.
pub(super) const STORE_PAUSE: Duration = Duration::from_secs(1);
/// Out of so many picks between `standard` and `journey`, the first is `journey`'s: it moves even under a backlog.
const JOURNEY_TURN: u32 = 4;

/// Mails that were lost before and may be passed over at once.
const PASSED_OVER_MAX: u32 = 16;

/// The state of the dispatcher; see the module's text.
pub struct Dispatcher {
    pub(super) ground: Arc<Ground>,
    pub(super) wake: Arc<Notify>,
    pub(super) window: Window,
    pub(super) desks: BTreeMap<RelayName, Desk>,
    /// Each tenant's relays in order of preference.
    pub(super) tenants: HashMap<TenantId, Vec<RelayName>>,
    pub(super) domains: Domains,
    pub(super) losses: Losses,
    pub(super) journey_turn: u32,
    pub(super) looks: Looks,
    pub(super) tasks: JoinSet<Event>,
    pub(super) in_flight: HashMap<Id, InFlight>,
    pub(super) poll_at: Timestamp,
    pub(super) start_after: Timestamp,
    /// A task of the dispatcher's own panicked: it cannot be trusted to go on.
    pub(super) broken: bool,
    pub(super) random: fastrand::Rng,
    pub(super) health: watch::Sender<Vec<RelayHealth>>,
    pub(super) policy: watch::Sender<PerLane<UnknownPolicy>>,
    pub(super) logs: watch::Sender<Vec<RelayLog>>,
    pub(super) questions: mpsc::Receiver<Question>,
}

/// What a dispatcher begins with.
pub struct House {
    /// What every attempt needs.
    pub ground: Arc<Ground>,
    /// Notified when something was accepted.
    pub wake: Arc<Notify>,
    /// The empty window.
    pub window: Window,
    /// A desk for each relay.
    pub desks: BTreeMap<RelayName, Desk>,
    /// Each tenant's relays in order of preference.
    pub tenants: HashMap<TenantId, Vec<RelayName>>,
    /// What limits the recipients' domains.
    pub domains: Domains,
    /// Spreads retries.
    pub random: fastrand::Rng,
    /// Where the relays' standing is told.
    pub health: watch::Sender<Vec<RelayHealth>>,
    /// Where housekeeping reads what to do with unknowns.
    pub policy: watch::Sender<PerLane<UnknownPolicy>>,
    /// Where evidence is looked for.
    pub logs: watch::Sender<Vec<RelayLog>>,
    /// What operators ask.
    pub questions: mpsc::Receiver<Question>,
}

impl Dispatcher {
    /// A dispatcher that has looked at nothing yet.
    pub fn new(house: House) -> Self {
        let House { ground, wake, window, desks, tenants, domains, random, health, policy, logs, questions } = house;
        Self {
            ground,
            wake,
            window,
            desks,
            tenants,
            domains,
            losses: Losses::default(),
            journey_turn: 0,
            looks: Looks::new(POLL),
            tasks: JoinSet::new(),
            in_flight: HashMap::new(),
            poll_at: Timestamp::MIN,
            start_after: Timestamp::MIN,
            broken: false,
            random,
            health,
            policy,
            logs,
            questions,
        }
    }

    /// Runs until the gateway stops softly and the attempts past their commit point have ended, or until `hard` is
    /// cancelled. Returns earlier only when it is broken.
    pub async fn run(mut self, hard: CancellationToken) {
        let ground = Arc::clone(&self.ground);
        let wake = Arc::clone(&self.wake);
        while !ground.soft.is_cancelled() {
            if self.broken {
                return;
            }
            let now = ground.clock.now();
            self.poll(now);
            self.look(now);
            let next = self.start_attempts(now);
            tokio::select! {
                biased;
                () = ground.soft.cancelled() => {}
                Some(done) = self.tasks.join_next_with_id() => self.take(done),
                () = wake.notified() => self.looks.want_all(),
                Some(question) = self.questions.recv() => self.answer(question),
                () = ground.clock.sleep_until(next) => {}
            }
        }
        self.drain(hard).await;
    }

    /// Waits for the attempts under way; looks and greetings are of no use any more.
    async fn drain(mut self, hard: CancellationToken) {
        tracing::info!(attempts = self.in_flight.len(), "no new attempts; those under way may end");
        while !self.in_flight.is_empty() {
            tokio::select! {
                biased;
                () = hard.cancelled() => {
                    tracing::warn!(attempts = self.in_flight.len(), "cut: these will be unknown at the next start");
                    break;
                }
                Some(done) = self.tasks.join_next_with_id() => self.take(done),
                Some(question) = self.questions.recv() => self.answer(question),
            }
        }
        self.tasks.abort_all();
    }

    /// Whatever wakes the dispatcher, and however often: the rows are looked at again when it is time.
    fn poll(&mut self, now: Timestamp) {
        let longest = POLL * 2;
        if !has_passed(self.poll_at, now, longest) {
            return;
        }
        self.poll_at = later(now, POLL.mul_f64(0.8 + 0.4 * self.random.f64()));
        self.looks.want_all();
        let late = self.window.drop_late(now);
        self.ground.store.give_back(&late);
        self.window.ask_all_again();
        self.domains.tidy(now);
        self.losses.tidy(now);
    }

    // --- looking ---

    /// Begins the looks for which it is time.
    fn look(&mut self, now: Timestamp) {
        let places = self.window.places_of_a_lane();
        if !self.looks.is_time(now) {
            return;
        }
        let open = self.tenants.iter().filter(|(_, relays)| relays.iter().any(|relay| self.is_open(relay, now)));
        let tenants: BTreeSet<TenantId> = open.map(|(tenant, _)| tenant.clone()).collect();
        for lane in Lane::ALL {
            if let Some(questions) = self.looks.begin(lane, now, places, &tenants) {
                let store = Arc::clone(&self.ground.store);
                self.spawn(async move { Event::Found(lane, questions.ask(store.as_ref()).await) });
            }
        }
    }

    pub(super) fn is_open(&self, relay: &RelayName, now: Timestamp) -> bool {
        self.desks.get(relay).is_some_and(|desk| desk.is_open(now))
    }

    pub(super) fn claim(&mut self, lane: Lane, found: Found) {
        let now = self.ground.clock.now();
        self.looks.remember(lane, &found);
        let mut requests = Vec::new();
        for seen in found.seen {
            let plan = self.window.plan(lane, &seen.tenant, found.share, &seen.domains);
            self.ground.store.give_back(&plan.evicted);
            if !plan.wants.is_empty() {
                requests.push(ClaimRequest { lane, tenant: seen.tenant, now, domains: plan.wants });
            }
        }
        if requests.is_empty() {
            return self.looked(lane, Ok(()));
        }
        let store = Arc::clone(&self.ground.store);
        self.spawn(async move {
            let mut claimed = Vec::new();
            for request in requests {
                match store.claim(request).await {
                    Ok(candidates) => claimed.extend(candidates),
                    Err(error) => return Event::Claimed(lane, claimed, Err(error)),
                }
            }
            Event::Claimed(lane, claimed, Ok(()))
        });
    }

    pub(super) fn looked(&mut self, lane: Lane, result: Result<(), StoreError>) {
        let now = self.ground.clock.now();
        match result {
            Ok(()) => self.looks.ended(lane, now, Duration::ZERO),
            Err(error) => {
                tracing::warn!(%error, %lane, "the queue cannot be read; trying again");
                self.looks.want(lane);
                self.looks.ended(lane, now, STORE_PAUSE);
            }
        }
    }

    // --- starting ---

    /// Starts what may start now; returns when to come back at the latest.
    fn start_attempts(&mut self, now: Timestamp) -> Timestamp {
        let mut next = self.poll_at.min(self.looks.next_at(now).unwrap_or(self.poll_at)).max(now);
        if !has_passed(self.start_after, now, STORE_PAUSE) {
            return next.min(self.start_after);
        }
        if self.ground.unsettled.load(Ordering::SeqCst) > 0 || is_behind(&self.in_flight) {
            return next;
        }
        self.greet_relays(now, &mut next);
        self.window.wake(now);
        while let Some((candidate, relay)) = self.pick(now) {
            self.start(candidate, relay, now);
        }
        let waits = [self.window.wake(now), self.rate_next_at(now)];
        waits.into_iter().flatten().fold(next, Timestamp::min)
    }

    /// Whose turn it is: `urgent` first; `journey` gets one turn in [`JOURNEY_TURN`] before `standard`; tenants in turn.
    fn pick(&mut self, now: Timestamp) -> Option<(Candidate, RelayName)> {
        let order = if self.journey_turn == 0 {
            [Lane::Urgent, Lane::Journey, Lane::Standard]
        } else {
            [Lane::Urgent, Lane::Standard, Lane::Journey]
        };
        for lane in order {
            // Asked first, so that nobody is asked while nothing is free.
            if !self.desks.values().any(|desk| desk.has_session(lane, now)) {
                continue;
            }
            for _ in 0..self.window.in_turn(lane) {
                let Some(picked) = self.pick_of_next_tenant(lane, now) else { continue };
                if lane != Lane::Urgent {
                    self.journey_turn = (self.journey_turn + 1) % JOURNEY_TURN;
                }
                return Some(picked);
            }
        }
        None
    }

    /// A mail of the tenant whose turn it is.
    fn pick_of_next_tenant(&mut self, lane: Lane, now: Timestamp) -> Option<(Candidate, RelayName)> {
        let tenant = self.window.turn(lane)?;
        let relay = self.relay_for(lane, self.tenants.get(&tenant)?, now)?.clone();
        let (desk, domains) = (self.desks.get(&relay)?, &self.domains);
        let may_go = |domain: &str| match domains.may_go(lane, domain, now) {
            MayGo::Now => desk.domain_may_go(lane, domain),
            not_now @ (MayGo::At(_) | MayGo::AfterAnother) => not_now,
        };
        let mut candidate = self.window.next(lane, &tenant, now, may_go)?;
        // What may be tried at a relay in doubt is not wasted on what was lost before, while there is anything else.
        for _ in 0..PASSED_OVER_MAX {
            if desk.breaker.is_trusted() || !self.losses.knows(candidate.id) {
                break;
            }
            self.ground.store.give_back(&self.window.add(vec![candidate]));
            candidate = self.window.next(lane, &tenant, now, may_go)?;
        }
        Some((candidate, relay))
    }

    /// The first of a tenant's relays that invites a mail of this lane.
    fn relay_for<'a>(&self, lane: Lane, relays: &'a [RelayName], now: Timestamp) -> Option<&'a RelayName> {
        let mut open = relays.iter().filter(|relay| self.is_open(relay, now)).peekable();
        while let Some(relay) = open.next() {
            let alternative = if open.peek().is_some() { Alternative::Another } else { Alternative::None };
            match self.desks.get(relay)?.invites(lane, now, alternative) {
                Invitation::Come => return Some(relay),
                Invitation::Wait => return None,
                Invitation::TryAnother => {}
            }
        }
        None
    }

    /// When a relay's rate lets the next mail go that waits for nothing else.
    fn rate_next_at(&self, now: Timestamp) -> Option<Timestamp> {
        let lanes = || Lane::ALL.into_iter().filter(|lane| self.window.in_turn(*lane) > 0);
        self.desks.values().flat_map(|desk| lanes().filter_map(|lane| desk.rate_next_at(lane, now))).min()
    }

    fn start(&mut self, candidate: Candidate, relay: RelayName, now: Timestamp) {
        if candidate.deliver_by <= now {
            self.ground.store.give_back(&[candidate.id]);
            return;
        }
        let Some(desk) = self.desks.get_mut(&relay) else { return };
        let began = desk.begin(candidate.lane, &candidate.domain, now);
        self.domains.take(&candidate.domain, now);
        let token = LeaseToken::from_random(uuid::Uuid::new_v4().into_bytes());
        let attempt = Attempt { candidate: candidate.clone(), relay: relay.clone(), token, random: self.random.f64() };
        let ground = Arc::clone(&self.ground);
        let id = self.spawn(async move { Event::Ended(attempt::run(ground, attempt).await) });
        self.in_flight.insert(id, InFlight { candidate, relay, token, place: Some(began), stage: Stage::Attempt });
    }

    fn greet_relays(&mut self, now: Timestamp, next: &mut Timestamp) {
        let mut to_greet = Vec::new();
        for (name, desk) in self.desks.iter_mut().filter(|(_, desk)| !desk.is_retired()) {
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
                let greeted = courier.greet(&name).await;
                Event::Greeted(name, greeted)
            });
        }
    }

    pub(super) fn spawn(&mut self, task: impl Future<Output = Event> + Send + 'static) -> Id {
        self.tasks.spawn(task).id()
    }
}

/// A moment so long after another.
pub(super) fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
