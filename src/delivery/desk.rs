//! One relay's desk: who may take a session now, by breaker, rate, lane and domain.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;

use super::breaker::{Breaker, Gate};
use super::look::has_passed;
use super::settings::DeliverySettings;
use crate::courier::settings::RelaySettings;
use crate::domain::ids::RelayName;
use crate::domain::lane::{Lane, LaneRules, PerLane};
use crate::domain::quantity::{Rate, Share};
use crate::domain::relay::{BreakerState, RelayHealth};
use crate::domain::shaping::{Binding, Pace, RateView, RelayView};

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
    /// Share of sessions reserved for each lane.
    pub reserved: PerLane<Share>,
    /// Share of a lane's sessions that one domain may take.
    pub domain_share: Share,
    /// Failures in a row that open the breaker.
    pub breaker_failures: u32,
    /// The longest time between two looks at a relay that is down.
    pub breaker_open_max: Duration,
}

/// The longest time after which a spent rate is asked again.
const RATE_LOOK: Duration = Duration::from_millis(500);

/// When an attempt began, counted in openings of the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation(u32);

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

/// The desk of one relay.
pub struct Desk {
    /// Its breaker.
    pub breaker: Breaker,
    /// The last trouble, while the breaker is not closed.
    trouble: Option<String>,
    /// Until then the rate is spent.
    rate_after: Timestamp,
    /// Counts the breaker's openings: an attempt from before one says nothing about the relay after it.
    generation: u32,
    /// Attempts from before the breaker opened that have not ended yet.
    stale: u32,
    sessions: u32,
    name: RelayName,
    reserved: PerLane<u32>,
    domain_max: PerLane<u32>,
    limiter: Option<DefaultDirectRateLimiter>,
    rate: Option<Rate>,
    clock: DefaultClock,
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
        }
    }
}

impl Desk {
    /// A desk where nobody waits yet.
    pub fn new(plan: &RelayPlan, rules: &DeskRules) -> Self {
        let mut desk = Self {
            breaker: Breaker::new(plan.sessions, rules.breaker_failures, rules.breaker_open_max),
            trouble: None,
            rate_after: Timestamp::MIN,
            generation: 0,
            stale: 0,
            sessions: 0,
            name: plan.name.clone(),
            reserved: PerLane::default(),
            domain_max: PerLane::default(),
            limiter: None,
            rate: None,
            clock: DefaultClock::default(),
            busy: PerLane::default(),
            by_domain: HashMap::new(),
            retired: false,
        };
        desk.take_over(plan, rules);
        desk
    }

    /// Goes on by these settings. What is under way stays counted.
    pub fn take_over(&mut self, plan: &RelayPlan, rules: &DeskRules) {
        let reserved = reserved_sessions(plan.sessions, &rules.reserved);
        let all_reserved: u32 = Lane::ALL.iter().map(|lane| reserved.get(*lane)).sum();
        self.domain_max = PerLane::from_fn(|lane| {
            let open_to_lane = plan.sessions - (all_reserved - reserved.get(lane));
            rules.domain_share.of_rounded_down(open_to_lane).max(1)
        });
        self.breaker.take_over(plan.sessions, rules.breaker_failures, rules.breaker_open_max);
        self.sessions = plan.sessions;
        self.reserved = reserved;
        self.limiter = plan.rate.and_then(limiter);
        self.rate = plan.rate;
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

    /// Whether a mail of `lane` could take a session at `now`, its domain and the rate aside.
    pub fn has_session(&self, lane: Lane, now: Timestamp) -> bool {
        let Gate::Pass(allowed) = self.breaker.gate(now) else { return false };
        let busy = self.busy();
        if !has_passed(self.rate_after, now, RATE_LOOK) || busy + self.stale >= self.sessions {
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

    /// Whether one more mail of `lane` may go to `domain`.
    pub fn domain_may_go(&self, lane: Lane, domain: &str) -> bool {
        self.by_domain.get(domain).is_none_or(|busy| busy < self.domain_max.get(lane))
    }

    /// Takes one attempt from the rate; or closes the desk until there is one, and says until when.
    pub fn spend_rate(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        limiter.check().map_err(|not_yet| {
            let wait = not_yet.wait_time_from(self.clock.now()).min(RATE_LOOK);
            self.rate_after = now.checked_add(wait).unwrap_or(Timestamp::MAX);
            self.rate_after
        })
    }

    /// Attempts under way since the breaker last opened.
    fn busy(&self) -> u32 {
        Lane::ALL.iter().map(|lane| self.busy.get(*lane)).sum()
    }

    /// Whether mails pass at all.
    pub fn is_open(&self, now: Timestamp) -> bool {
        matches!(self.breaker.gate(now), Gate::Pass(_))
    }

    /// Whether a mail of `lane` should come here, when there is another relay it could go to.
    pub fn invites(&self, lane: Lane, now: Timestamp, alternative: Alternative) -> Invitation {
        match (self.breaker.is_trusted(), alternative) {
            (true, _) if self.has_session(lane, now) => Invitation::Come,
            (true, _) => Invitation::Wait,
            // One mail at a time finds out how a relay in doubt is; the others need not wait for that.
            (false, Alternative::Another) if self.busy() > 0 => Invitation::TryAnother,
            (false, _) if self.has_session(lane, now) => Invitation::Come,
            (false, _) => Invitation::TryAnother,
        }
    }

    /// The relay answered as a relay should.
    pub fn succeeded(&mut self, now: Timestamp) {
        let before = self.breaker.state();
        self.breaker.success(now);
        if before != BreakerState::Closed && self.breaker.state() == BreakerState::Closed {
            self.trouble = None;
            tracing::info!(relay = %self.name, "the relay is well again");
        }
    }

    /// The relay failed us. `random` in `0.0..1.0` spreads the waiting.
    pub fn failed(&mut self, now: Timestamp, random: f64, trouble: String) {
        let before = self.breaker.state();
        self.breaker.failure(now, random);
        if before != BreakerState::Open && self.breaker.state() == BreakerState::Open {
            self.generation += 1;
            self.stale += self.busy();
            self.busy = PerLane::default();
        }
        if before == BreakerState::Closed && self.breaker.state() == BreakerState::Open {
            tracing::warn!(relay = %self.name, trouble, "the relay fails: its mails wait");
        }
        self.trouble = (self.breaker.state() != BreakerState::Closed).then_some(trouble);
    }

    /// An attempt begins; the answer is for its [`Desk::end`].
    pub fn begin(&mut self, lane: Lane, domain: &str) -> Generation {
        *self.busy.get_mut(lane) += 1;
        *self.by_domain.entry(domain.to_owned()).or_default() += 1;
        Generation(self.generation)
    }

    /// An attempt ended. Says whether what it learnt is news about the relay as it is now.
    pub fn end(&mut self, lane: Lane, domain: &str, began: Generation) -> Freshness {
        if let Some(busy) = self.by_domain.get_mut(domain) {
            *busy -= 1;
            if *busy == 0 {
                self.by_domain.remove(domain);
            }
        }
        if began.0 == self.generation {
            *self.busy.get_mut(lane) -= 1;
            Freshness::Fresh
        } else {
            self.stale -= 1;
            Freshness::Stale
        }
    }

    /// For operators.
    pub fn health(&self) -> RelayHealth {
        let (name, trouble) = (self.name.clone(), self.trouble.clone());
        RelayHealth { name, breaker: self.breaker.state(), trouble, alarm: None }
    }

    /// For operators, in full.
    pub fn view(&self, now: Timestamp) -> RelayView {
        let gate = self.breaker.gate(now);
        RelayView {
            name: self.name.clone(),
            breaker: self.breaker.state(),
            trouble: self.trouble.clone(),
            alarm: None,
            shut_until: if let Gate::Shut(until) = gate { Some(until) } else { None },
            back_off_until: None,
            rate: self.rate.map(|setting| RateView {
                setting,
                left: 0,
                next_at: (self.rate_after > now).then_some(self.rate_after),
            }),
            sessions: self.sessions,
            sessions_allowed: if let Gate::Pass(allowed) = gate { allowed } else { 0 },
            busy: self.busy,
            learned_sessions: None,
            pace: Pace::default(),
            retired: self.retired,
        }
    }

    /// What here keeps a mail of this lane and domain back.
    pub fn bindings(&self, lane: Lane, domain: &str, now: Timestamp) -> Vec<Binding> {
        let relay = || self.name.clone();
        let allowed = match self.breaker.gate(now) {
            Gate::Pass(allowed) => allowed,
            Gate::Shut(until) => {
                let trouble = self.trouble.clone();
                return vec![Binding::RelayShut { relay: relay(), until: Some(until), trouble }];
            }
            Gate::Greet | Gate::Waiting => {
                let trouble = self.trouble.clone();
                return vec![Binding::RelayShut { relay: relay(), until: None, trouble }];
            }
        };
        let mut bindings = Vec::new();
        if let Some(rate) = self.rate
            && !has_passed(self.rate_after, now, RATE_LOOK)
        {
            bindings.push(Binding::RelayRateSpent { relay: relay(), rate, until: self.rate_after });
        } else if !self.has_session(lane, now) {
            let (busy, sessions) = (self.busy() + self.stale, self.sessions);
            bindings.push(Binding::SessionsBusy { relay: relay(), lane, busy, allowed, sessions });
        }
        if !self.domain_may_go(lane, domain) {
            let busy = self.by_domain.get(domain).copied().unwrap_or_default();
            let max = *self.domain_max.get(lane);
            bindings.push(Binding::DomainShare { relay: relay(), domain: domain.to_owned(), busy, max });
        }
        bindings
    }
}

/// Each lane's share rounded up, but together never more than all sessions but one.
fn reserved_sessions(sessions: u32, shares: &PerLane<Share>) -> PerLane<u32> {
    let mut left = sessions.saturating_sub(1);
    PerLane::from_fn(|lane| {
        let reserved = shares.get(lane).of(sessions).min(left);
        left -= reserved;
        reserved
    })
}

fn limiter(rate: Rate) -> Option<DefaultDirectRateLimiter> {
    let quota = Quota::with_period(rate.per / rate.count)?.allow_burst(NonZeroU32::new(rate.burst)?);
    Some(RateLimiter::direct(quota))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    fn desk(sessions: u32) -> Desk {
        let plan = RelayPlan { name: "primary".parse().unwrap(), sessions, rate: None };
        let reserved = PerLane { urgent: Share::QUARTER, standard: Share::NONE, journey: Share::NONE };
        let rules = DeskRules {
            reserved,
            domain_share: Share::THREE_QUARTERS,
            breaker_failures: 3,
            breaker_open_max: Duration::from_secs(4),
        };
        Desk::new(&plan, &rules)
    }

    fn fill(desk: &mut Desk, lane: Lane) -> usize {
        let mut taken = 0;
        while desk.has_session(lane, Timestamp::UNIX_EPOCH) {
            desk.begin(lane, &format!("d{taken}.example"));
            taken += 1;
        }
        taken
    }

    #[test]
    fn reserved_sessions_are_left_for_their_lane() {
        let mut desk = desk(20);
        assert_eq!(fill(&mut desk, Lane::Standard), 15);
        assert!(!desk.has_session(Lane::Journey, Timestamp::UNIX_EPOCH));
        assert_eq!(fill(&mut desk, Lane::Urgent), 5);
    }

    #[test]
    fn a_lane_with_reserved_sessions_may_take_all_when_nobody_else_wants_them() {
        let mut desk = desk(20);
        assert_eq!(fill(&mut desk, Lane::Urgent), 20);
    }

    #[test]
    fn a_single_session_is_anybodys() {
        let mut desk = desk(1);
        assert_eq!(fill(&mut desk, Lane::Standard), 1);
        assert!(!desk.has_session(Lane::Urgent, Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn one_domain_never_takes_all_sessions_of_a_lane() {
        let mut desk = desk(20);
        let mut taken = 0;
        while desk.has_session(Lane::Standard, Timestamp::UNIX_EPOCH)
            && desk.domain_may_go(Lane::Standard, "slow.example")
        {
            desk.begin(Lane::Standard, "slow.example");
            taken += 1;
        }
        assert_eq!(taken, 11);
        assert!(desk.has_session(Lane::Standard, Timestamp::UNIX_EPOCH));
        assert!(desk.domain_may_go(Lane::Standard, "other.example"));
    }

    #[test]
    fn what_began_before_the_breaker_opened_neither_blocks_nor_judges_the_relay_after_it() {
        let mut desk = desk(4);
        let now = Timestamp::UNIX_EPOCH;
        let old: Vec<_> = (0..3).map(|_| desk.begin(Lane::Standard, "hangs.example")).collect();
        for _ in 0..3 {
            desk.failed(now, 0.0, "connect: no answer".into());
        }
        desk.breaker.greeting();
        desk.breaker.greeted(now);
        assert!(desk.has_session(Lane::Urgent, now), "three attempts hang, and one session is free");
        assert_eq!(desk.end(Lane::Standard, "hangs.example", old[0]), Freshness::Stale);
        let fresh = desk.begin(Lane::Urgent, "other.example");
        assert!(!desk.has_session(Lane::Urgent, now), "half-open risks one mail");
        assert_eq!(desk.end(Lane::Urgent, "other.example", fresh), Freshness::Fresh);
    }

    #[test]
    fn a_relay_in_doubt_is_risked_one_mail_while_another_takes_the_rest() {
        let mut desk = desk(4);
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(desk.invites(Lane::Standard, now, Alternative::Another), Invitation::Come);
        desk.failed(now, 0.0, "connect: no answer".into());
        desk.begin(Lane::Standard, "a.example");
        assert_eq!(desk.invites(Lane::Standard, now, Alternative::Another), Invitation::TryAnother);
        assert_eq!(desk.invites(Lane::Standard, now, Alternative::None), Invitation::Come);
        desk.succeeded(now);
        assert_eq!(desk.invites(Lane::Standard, now, Alternative::Another), Invitation::Come);
    }

    #[test]
    fn the_rate_lets_its_burst_pass_and_then_says_how_long_to_wait() {
        let plan =
            RelayPlan { name: "primary".parse().unwrap(), sessions: 4, rate: Some("60/m,burst=2".parse().unwrap()) };
        let rules = DeskRules {
            reserved: PerLane { urgent: Share::NONE, standard: Share::NONE, journey: Share::NONE },
            domain_share: Share::THREE_QUARTERS,
            breaker_failures: 3,
            breaker_open_max: Duration::from_secs(4),
        };
        let mut desk = Desk::new(&plan, &rules);
        let now = Timestamp::UNIX_EPOCH;
        assert!(desk.spend_rate(now).is_ok() && desk.spend_rate(now).is_ok());
        assert!(desk.has_session(Lane::Standard, now));
        let until = desk.spend_rate(now).unwrap_err();
        let wait = Duration::try_from(until.duration_since(now)).unwrap();
        assert!(wait > Duration::ZERO && wait <= RATE_LOOK, "{wait:?}");
        assert!(!desk.has_session(Lane::Standard, now) && desk.has_session(Lane::Standard, until));
    }
}
