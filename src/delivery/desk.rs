//! One relay's desk: who may take a session now, by breaker, rate, lane and domain.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;

use super::breaker::{Breaker, Gate};
use crate::domain::ids::RelayName;
use crate::domain::lane::{Lane, PerLane};
use crate::domain::quantity::{Rate, Share};
use crate::domain::relay::{BreakerState, RelayHealth};

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

/// The desk of one relay.
pub struct Desk {
    /// Its breaker.
    pub breaker: Breaker,
    /// The last trouble, while the breaker is not closed.
    trouble: Option<String>,
    /// Until then the rate is spent.
    rate_after: Timestamp,
    name: RelayName,
    reserved: PerLane<u32>,
    domain_max: PerLane<u32>,
    limiter: Option<DefaultDirectRateLimiter>,
    clock: DefaultClock,
    busy: PerLane<u32>,
    by_domain: HashMap<String, u32>,
}

impl Desk {
    /// A desk where nobody waits yet.
    pub fn new(plan: &RelayPlan, rules: &DeskRules) -> Self {
        let reserved = reserved_sessions(plan.sessions, &rules.reserved);
        let all_reserved: u32 = Lane::ALL.iter().map(|lane| reserved.get(*lane)).sum();
        let domain_max = PerLane::from_fn(|lane| {
            let open_to_lane = plan.sessions - (all_reserved - reserved.get(lane));
            rules.domain_share.of_rounded_down(open_to_lane).max(1)
        });
        Self {
            breaker: Breaker::new(plan.sessions, rules.breaker_failures, rules.breaker_open_max),
            trouble: None,
            rate_after: Timestamp::MIN,
            name: plan.name.clone(),
            reserved,
            domain_max,
            limiter: plan.rate.and_then(limiter),
            clock: DefaultClock::default(),
            busy: PerLane::default(),
            by_domain: HashMap::new(),
        }
    }

    /// Whether a mail of `lane` could take a session at `now`, its domain and the rate aside.
    pub fn has_session(&self, lane: Lane, now: Timestamp) -> bool {
        let Gate::Pass(allowed) = self.breaker.gate(now) else { return false };
        if now < self.rate_after {
            return false;
        }
        let busy: u32 = Lane::ALL.iter().map(|lane| self.busy.get(*lane)).sum();
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
            let wait = not_yet.wait_time_from(self.clock.now());
            self.rate_after = now.checked_add(wait).unwrap_or(Timestamp::MAX);
            self.rate_after
        })
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
        if before == BreakerState::Closed && self.breaker.state() == BreakerState::Open {
            tracing::warn!(relay = %self.name, trouble, "the relay fails: its mails wait");
        }
        self.trouble = (self.breaker.state() != BreakerState::Closed).then_some(trouble);
    }

    /// An attempt begins.
    pub fn begin(&mut self, lane: Lane, domain: &str) {
        *self.busy.get_mut(lane) += 1;
        *self.by_domain.entry(domain.to_owned()).or_default() += 1;
    }

    /// An attempt ended.
    pub fn end(&mut self, lane: Lane, domain: &str) {
        *self.busy.get_mut(lane) -= 1;
        if let Some(busy) = self.by_domain.get_mut(domain) {
            *busy -= 1;
            if *busy == 0 {
                self.by_domain.remove(domain);
            }
        }
    }

    /// For operators.
    pub fn health(&self) -> RelayHealth {
        RelayHealth { name: self.name.clone(), breaker: self.breaker.state(), trouble: self.trouble.clone() }
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
        assert!(wait > Duration::from_millis(500) && wait <= Duration::from_secs(1), "{wait:?}");
        assert!(!desk.has_session(Lane::Standard, now) && desk.has_session(Lane::Standard, until));
    }
}
