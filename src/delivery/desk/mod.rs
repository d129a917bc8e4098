//! One relay's desk: who may take a session now, by breaker, rate, lane and domain; and what the relay's answers taught.

mod view;

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::breaker::{Breaker, Gate, Pause};
use super::bucket::{Limit, reserve};
use super::concurrency::Concurrency;
use super::domains::MayGo;
use super::look::has_passed;
use super::losses::Heard;
use super::pace::Counter;
use super::settings::DeliverySettings;
use crate::courier::settings::RelaySettings;
use crate::courier::{Stage, Trouble, TroubleKind};
use crate::domain::ids::RelayName;
use crate::domain::lane::{Lane, LaneRules, PerLane};
use crate::domain::quantity::{Rate, Share};
use crate::domain::relay::{Alarm, BreakerState};

/// What delivery knows of a relay.
#[derive(Debug, Clone)]
pub struct RelayPlan {
    /// Its name.
    pub name: RelayName,
    /// Sessions at once.
    pub sessions: u32,
    /// Attempts at most; `None` is unbounded.
    pub rate: Option<Rate>,
}

/// Rules that hold at every desk.
#[derive(Debug, Clone, Copy)]
pub struct DeskRules {
    /// Share of sessions and of the rate reserved for each lane.
    pub reserved: PerLane<Share>,
    /// Share of a lane's sessions that one domain may take.
    pub domain_share: Share,
    /// Failures in a row that open the breaker.
    pub breaker_failures: u32,
    /// The longest time between two looks at a relay that is down.
    pub breaker_open_max: Duration,
    /// The longest time a relay may ask us to wait.
    pub back_off_max: Duration,
}

/// A relay whose sessions are all in use and that answers none of them for so long does not keep mails waiting that
/// could go elsewhere.
const SILENT_AFTER: Duration = Duration::from_secs(5);

/// When an attempt began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Began {
    /// Counted in openings of the breaker.
    generation: u32,
    /// By the clock.
    pub at: Timestamp,
}

/// Whether an attempt's end says something about the relay as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It does.
    Fresh,
    /// The breaker opened since the attempt began.
    Stale,
}

/// Whether a mail could go elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alternative {
    /// Another relay of its tenant lets mails pass.
    Another,
    /// None does.
    None,
}

/// What a desk says to a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invitation {
    /// There is a session for it.
    Come,
    /// There will be one: wait here.
    Wait,
    /// Not now: ask the next relay.
    TryAnother,
}

/// What is wrong with a relay.
#[derive(Debug, Clone)]
pub struct Failure {
    /// In words of ours.
    pub trouble: String,
    /// What an operator must see to.
    pub alarm: Option<Alarm>,
    /// How much it says of the relay.
    pub evidence: Evidence,
}

/// How much a failure says of the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// It failed.
    Strong,
    /// It took an envelope, and then dropped its connection: over the mail, perhaps.
    Weak,
}

impl From<&Trouble> for Failure {
    fn from(trouble: &Trouble) -> Self {
        // A 4yz to AUTH passes by itself.
        let is_final = match trouble.kind {
            TroubleKind::Refused(code) => code >= 500,
            TroubleKind::NoMechanism => true,
            TroubleKind::TimedOut(_) | TroubleKind::Closed(_) | TroubleKind::Garbled | TroubleKind::Tls(_) => false,
        };
        let refused = trouble.stage == Stage::Auth && is_final;
        Self {
            trouble: trouble.to_string(),
            alarm: refused.then_some(Alarm::Authentication),
            evidence: Evidence::Strong,
        }
    }
}

/// The desk of one relay.
pub struct Desk {
    /// Its breaker.
    pub breaker: Breaker,
    /// What was done here.
    pub counter: Counter,
    /// The last trouble, while the breaker is not closed.
    failure: Option<Failure>,
    concurrency: Concurrency,
    /// Until then the relay asked to be left alone.
    back_off_until: Timestamp,
    back_off_max: Duration,
    heard: Heard,
    /// Since when those under way wait for an answer.
    silent_since: Timestamp,
    /// Counts the breaker's openings: an attempt from before one says nothing about the relay after it.
    generation: u32,
    /// Attempts from before the breaker opened that have not ended yet.
    stale: u32,
    sessions: u32,
    name: RelayName,
    reserved: PerLane<u32>,
    domain_max: PerLane<u32>,
    limit: Option<Limit>,
    busy: PerLane<u32>,
    by_domain: HashMap<String, u32>,
    retired: bool,
}

impl From<&RelaySettings> for RelayPlan {
    fn from(relay: &RelaySettings) -> Self {
        Self { name: relay.name.clone(), sessions: relay.sessions, rate: relay.rate }
    }
}

impl DeskRules {
    /// The rules of these settings.
    pub fn new(settings: &DeliverySettings, lanes: &PerLane<LaneRules>) -> Self {
        Self {
            reserved: PerLane::from_fn(|lane| lanes.get(lane).reserved),
            domain_share: settings.domain_share,
            breaker_failures: settings.breaker_failures,
            breaker_open_max: settings.breaker_open_max.0,
            back_off_max: settings.back_off_max.0,
        }
    }
}

impl Desk {
    /// A desk where nobody waits yet. Its rate begins to count at `now`.
    pub fn new(plan: &RelayPlan, rules: &DeskRules, now: Timestamp) -> Self {
        let mut desk = Self {
            breaker: Breaker::new(plan.sessions, rules.breaker_failures, rules.breaker_open_max),
            counter: Counter::default(),
            failure: None,
            concurrency: Concurrency::default(),
            back_off_until: Timestamp::MIN,
            back_off_max: rules.back_off_max,
            heard: Heard { answered_at: Timestamp::MIN, greeted_at: Timestamp::MIN },
            silent_since: now,
            generation: 0,
            stale: 0,
            sessions: 0,
            name: plan.name.clone(),
            reserved: PerLane::default(),
            domain_max: PerLane::default(),
            limit: None,
            busy: PerLane::default(),
            by_domain: HashMap::new(),
            retired: false,
        };
        desk.take_over(plan, rules, now);
        desk
    }

    /// Goes on by these settings. What is under way stays counted; what is known of the relay stays known, but a breaker
    /// that is open looks again at once: what was wrong may be what was changed.
    pub fn take_over(&mut self, plan: &RelayPlan, rules: &DeskRules, now: Timestamp) {
        let reserved = reserve(plan.sessions, &rules.reserved);
        let all_reserved: u32 = Lane::ALL.iter().map(|lane| reserved.get(*lane)).sum();
        self.domain_max = PerLane::from_fn(|lane| {
            let open_to_lane = plan.sessions - (all_reserved - reserved.get(lane));
            rules.domain_share.of_rounded_down(open_to_lane).max(1)
        });
        self.breaker.take_over(plan.sessions, rules.breaker_failures, rules.breaker_open_max, now);
        self.back_off_max = rules.back_off_max;
        self.sessions = plan.sessions;
        self.reserved = reserved;
        let old = self.limit.take();
        self.limit = plan.rate.map(|rate| Limit::renewed(old, rate, &rules.reserved, now));
        self.retired = false;
    }

    /// The relay is no longer in the configuration: nothing is begun here any more.
    pub fn retire(&mut self) {
        self.retired = true;
    }

    /// Whether the relay is gone and nothing is under way there.
    pub fn is_left(&self) -> bool {
        self.retired && self.busy() + self.stale == 0
    }

    /// Whether the relay is gone.
    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// Whether a mail of `lane` could take a session at `now`, its domain aside.
    pub fn has_session(&self, lane: Lane, now: Timestamp) -> bool {
        !self.retired && !self.is_backed_off(now) && self.is_free(lane, now) && self.rate_next_at(lane, now).is_none()
    }

    /// Whether one of the sessions is free for `lane`.
    fn is_free(&self, lane: Lane, now: Timestamp) -> bool {
        let allowed = self.allowed(now);
        let busy = self.busy();
        if busy + self.stale >= self.sessions {
            return false;
        }
        let kept: u32 = Lane::ALL
            .into_iter()
            .filter(|other| *other != lane)
            .map(|other| self.reserved.get(other).saturating_sub(*self.busy.get(other)))
            .sum();
        // Reservations never close a desk: while the relay ramps up, at least one session is anybody's.
        busy + kept.min(allowed.saturating_sub(1)) < allowed
    }

    /// Sessions allowed now: what the breaker lets pass, and what the relay's answers taught.
    fn allowed(&self, now: Timestamp) -> u32 {
        let Gate::Pass(allowed) = self.breaker.gate(now) else { return 0 };
        self.concurrency.learned(now).map_or(allowed, |learned| allowed.min(learned.value))
    }

    /// When the rate lets a mail of `lane` go; `None` when it does now.
    pub fn rate_next_at(&self, lane: Lane, now: Timestamp) -> Option<Timestamp> {
        self.limit.as_ref()?.next_at(lane, now)
    }

    /// Whether one more mail of `lane` may go to `domain`.
    pub fn domain_may_go(&self, lane: Lane, domain: &str) -> MayGo {
        let has_room = self.by_domain.get(domain).is_none_or(|busy| busy < self.domain_max.get(lane));
        if has_room { MayGo::Now } else { MayGo::AfterAnother }
    }

    /// Attempts for a domain that are under way.
    pub fn under_way(&self, domain: &str) -> u32 {
        self.by_domain.get(domain).copied().unwrap_or_default()
    }

    /// Attempts under way since the breaker last opened.
    fn busy(&self) -> u32 {
        Lane::ALL.iter().map(|lane| self.busy.get(*lane)).sum()
    }

    fn is_backed_off(&self, now: Timestamp) -> bool {
        !has_passed(self.back_off_until, now, self.back_off_max)
    }

    /// Whether mails pass at all.
    pub fn is_open(&self, now: Timestamp) -> bool {
        !self.retired && !self.is_backed_off(now) && matches!(self.breaker.gate(now), Gate::Pass(_))
    }

    /// Whether a mail of `lane` should come here, when there is another relay it could go to.
    pub fn invites(&self, lane: Lane, now: Timestamp, alternative: Alternative) -> Invitation {
        match (self.breaker.is_trusted(), alternative) {
            (true, _) if self.has_session(lane, now) => Invitation::Come,
            (true, Alternative::Another) if self.is_silent(now) => Invitation::TryAnother,
            (true, _) => Invitation::Wait,
            // One mail at a time finds out how a relay in doubt is; the others need not wait for that.
            (false, Alternative::Another) if self.busy() > 0 => Invitation::TryAnother,
            (false, _) if self.has_session(lane, now) => Invitation::Come,
            (false, _) => Invitation::TryAnother,
        }
    }

    fn is_silent(&self, now: Timestamp) -> bool {
        let silent = now.duration_since(self.silent_since);
        self.busy() >= self.allowed(now) && silent.unsigned_abs() >= SILENT_AFTER
    }

    /// When the relay last spoke.
    pub fn heard(&self) -> Heard {
        self.heard
    }

    /// The relay answered as a relay should.
    pub fn succeeded(&mut self, now: Timestamp) {
        (self.heard.answered_at, self.silent_since) = (now, now);
        self.concurrency.raise(self.sessions, now);
        let before = self.breaker.state();
        self.breaker.success(now);
        if before != BreakerState::Closed && self.breaker.state() == BreakerState::Closed {
            self.failure = None;
            self.begin_rate_anew(now);
            tracing::info!(relay = %self.name, "the relay is well again");
        }
    }

    /// The relay greeted us.
    pub fn greeted(&mut self, now: Timestamp) {
        self.heard.greeted_at = now;
        self.breaker.greeted(now);
        self.begin_rate_anew(now);
    }

    /// A relay that comes back is no reason for a burst.
    fn begin_rate_anew(&mut self, now: Timestamp) {
        if let Some(limit) = &mut self.limit {
            limit.begin_anew(now);
        }
    }

    /// The relay says that we are too many, or too fast.
    pub fn slow_down(&mut self, wait: Option<Duration>, began: Began, now: Timestamp) {
        self.concurrency.lower(self.busy() + 1, self.sessions, began.at, now);
        if let Some(wait) = wait {
            let until = now.checked_add(wait.min(self.back_off_max)).unwrap_or(Timestamp::MAX);
            self.back_off_until = self.back_off_until.max(until);
            tracing::warn!(relay = %self.name, ?wait, "the relay asks to be left alone for a while");
        }
    }

    /// The relay turned one of us away (421). While it answers others of us we are too many; otherwise it is failing.
    /// `random` in `0.0..1.0` spreads the waiting.
    pub fn turned_away(&mut self, wait: Option<Duration>, began: Began, now: Timestamp, random: f64) {
        let serves_others = self.busy() > 0 && self.heard.answered_at >= began.at;
        if serves_others || wait.is_some() {
            self.slow_down(wait, began, now);
        } else {
            let (trouble, evidence) = ("the relay closes: 421".to_owned(), Evidence::Strong);
            self.failed(now, random, Failure { trouble, alarm: None, evidence });
        }
    }

    /// The relay failed us. `random` in `0.0..1.0` spreads the waiting.
    pub fn failed(&mut self, now: Timestamp, random: f64, failure: Failure) {
        let before = self.breaker.state();
        let pause = match (failure.alarm, failure.evidence) {
            // Trying a wrong password again and again only gets the account locked.
            (Some(Alarm::Authentication), _) => Pause::Long,
            (None, Evidence::Weak) => Pause::Short { random },
            (None, Evidence::Strong) => Pause::Growing { random },
        };
        self.breaker.failure(now, pause);
        let opened = before != BreakerState::Open && self.breaker.state() == BreakerState::Open;
        if opened {
            self.generation += 1;
            self.stale += self.busy();
            self.busy = PerLane::default();
        }
        let trouble = &failure.trouble;
        let is_closed = self.breaker.state() == BreakerState::Closed;
        let was_told = self.failure.as_ref().is_some_and(|before| before.alarm == failure.alarm);
        match failure.alarm {
            Some(Alarm::Authentication) if !is_closed && !was_told => {
                tracing::error!(relay = %self.name, trouble, "the relay refuses our credentials: its mails wait");
            }
            None if opened && before == BreakerState::Closed => {
                tracing::warn!(relay = %self.name, trouble, "the relay fails: its mails wait");
            }
            Some(Alarm::Authentication) | None => {}
        }
        self.failure = (!is_closed).then_some(failure);
    }

    /// An attempt begins; the answer is for its [`Desk::end`].
    pub fn begin(&mut self, lane: Lane, domain: &str, now: Timestamp) -> Began {
        if self.busy() == 0 {
            self.silent_since = now;
        }
        *self.busy.get_mut(lane) += 1;
        match self.by_domain.get_mut(domain) {
            Some(busy) => *busy += 1,
            None => drop(self.by_domain.insert(domain.to_owned(), 1)),
        }
        if let Some(limit) = &mut self.limit {
            limit.take(now);
        }
        self.counter.began(now);
        Began { generation: self.generation, at: now }
    }

    /// What began did not reach the relay: it does not count as an attempt there.
    pub fn did_not_reach(&mut self) {
        if let Some(limit) = &mut self.limit {
            limit.put_back();
        }
    }

    /// An attempt ended. Says whether what it learnt is news about the relay as it is now.
    pub fn end(&mut self, lane: Lane, domain: &str, began: Began) -> Freshness {
        if let Some(busy) = self.by_domain.get_mut(domain) {
            *busy -= 1;
            if *busy == 0 {
                self.by_domain.remove(domain);
            }
        }
        if began.generation == self.generation {
            *self.busy.get_mut(lane) -= 1;
            Freshness::Fresh
        } else {
            self.stale -= 1;
            Freshness::Stale
        }
    }
}
