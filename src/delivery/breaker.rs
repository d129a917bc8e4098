//! One relay's breaker: pure rules for when a relay that failed us may be tried again, and how gently.
//!
//! ```text
//! closed ──failures in a row──▶ open ──time──▶ (greet) ──ok──▶ half-open ──a mail goes through──▶ closed, ramping up
//!                                ▲                │failed            │failed
//!                                └────────────────┴──────────────────┘   (longer each time, up to a bound)
//! ```
//!
//! A mail lost in its content, after the relay took its envelope, is weak evidence: the relay may be dying, or may only
//! dislike this mail. It takes [`WEAK_MAX`] of those in a row to open the breaker or to end half-open, and the pause that
//! follows never grows: mails that make a relay hang up soon make room for others, and a relay that dies is found out by
//! the next connection.

use std::time::Duration;

use jiff::Timestamp;

use super::look::has_passed;
use crate::domain::relay::BreakerState;

/// How long the breaker stays open the first time.
const OPEN_FIRST: Duration = Duration::from_millis(500);
/// In half-open, one more mail may be tried for each of these that pass, so that one mail that hangs blocks nobody.
const HALF_OPEN_STEP: Duration = Duration::from_secs(1);
/// While ramping up, one more session is allowed for each of these that pass, beside the one for each success.
const RAMP_STEP: Duration = Duration::from_millis(100);

/// Mails lost in their content, in a row, that open the breaker: about what is under way at once when a relay dies.
const WEAK_MAX: u32 = 20;

/// How long the breaker stays open when the relay refuses our credentials: that does not pass by itself soon, and every
/// further try may count against us there.
const OPEN_REFUSED: Duration = Duration::from_secs(30);

/// How long a failure keeps the breaker open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pause {
    /// Longer each time; `random` in `0.0..1.0` spreads it.
    Growing {
        /// Where in the spread.
        random: f64,
    },
    /// [`OPEN_FIRST`], and the next one no longer for it; spread by `random` as well. The evidence is weak.
    Short {
        /// Where in the spread.
        random: f64,
    },
    /// [`OPEN_REFUSED`].
    Long,
}

/// What the breaker allows now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// At most this many sessions at once.
    Pass(u32),
    /// The time has come to greet the relay, without a mail.
    Greet,
    /// Nothing before this moment.
    Shut(Timestamp),
    /// A greeting is under way.
    Waiting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32, ramp: Ramp },
    Open { until: Timestamp, longest: Duration },
    Greeting,
    HalfOpen { since: Timestamp },
}

/// How many sessions a closed breaker allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ramp {
    /// All of them.
    Full,
    /// The relay has just come back: one, one more for each success, one more for each step of time.
    Up { since: Timestamp, successes: u32 },
}

/// The breaker of one relay.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    failures_max: u32,
    open_max: Duration,
    open_next: Duration,
    sessions: u32,
    /// Weak evidence in a row.
    weak: u32,
}

impl Breaker {
    /// A closed breaker: nothing is known against the relay.
    #[must_use]
    pub fn new(sessions: u32, failures_max: u32, open_max: Duration) -> Self {
        let state = State::Closed { failures: 0, ramp: Ramp::Full };
        Self { state, failures_max: failures_max.max(1), open_max, open_next: OPEN_FIRST, sessions, weak: 0 }
    }

    /// Goes on by these settings; what is known of the relay stays known, but it may be greeted at once.
    pub fn take_over(&mut self, sessions: u32, failures_max: u32, open_max: Duration, now: Timestamp) {
        (self.sessions, self.failures_max, self.open_max) = (sessions, failures_max.max(1), open_max);
        if let State::Open { until, .. } = &mut self.state {
            *until = now;
        }
    }

    /// What is allowed at `now`.
    #[must_use]
    pub fn gate(&self, now: Timestamp) -> Gate {
        match self.state {
            State::Closed { ramp: Ramp::Full, .. } => Gate::Pass(self.sessions),
            State::Closed { ramp: Ramp::Up { since, successes }, .. } => {
                Gate::Pass(one_more_each(RAMP_STEP, since, now).saturating_add(successes).min(self.sessions))
            }
            State::Open { until, longest } if !has_passed(until, now, longest) => Gate::Shut(until),
            State::Open { .. } => Gate::Greet,
            State::Greeting => Gate::Waiting,
            State::HalfOpen { since } => Gate::Pass(one_more_each(HALF_OPEN_STEP, since, now).min(self.sessions)),
        }
    }

    /// Whether nothing speaks against the relay: no failure since its last success, no ramp.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.weak == 0 && matches!(self.state, State::Closed { failures: 0, ramp: Ramp::Full })
    }

    /// The caller greets the relay now.
    pub fn greeting(&mut self) {
        self.state = State::Greeting;
    }

    /// The relay greeted us.
    pub fn greeted(&mut self, now: Timestamp) {
        if self.state == State::Greeting {
            self.state = State::HalfOpen { since: now };
            self.weak = 0;
        }
    }

    /// The relay answered as a relay should: it took or refused a mail.
    pub fn success(&mut self, now: Timestamp) {
        self.weak = 0;
        match self.state {
            State::Closed { ramp: Ramp::Up { since, successes }, .. } if successes < self.sessions => {
                self.state = State::Closed { failures: 0, ramp: Ramp::Up { since, successes: successes + 1 } };
            }
            State::Closed { .. } => self.state = State::Closed { failures: 0, ramp: Ramp::Full },
            State::HalfOpen { .. } => {
                self.state = State::Closed { failures: 0, ramp: Ramp::Up { since: now, successes: 0 } };
                self.open_next = OPEN_FIRST;
            }
            // An answer to an attempt that began before the breaker opened: good, but the greeting decides.
            State::Open { .. } | State::Greeting => {}
        }
    }

    /// The relay failed us.
    pub fn failure(&mut self, now: Timestamp, pause: Pause) {
        let is_weak = matches!(pause, Pause::Short { .. });
        self.weak += u32::from(is_weak);
        match self.state {
            State::Closed { .. } | State::HalfOpen { .. } if is_weak && self.weak < WEAK_MAX => {}
            State::Closed { failures, ramp } if !is_weak && failures + 1 < self.failures_max => {
                self.state = State::Closed { failures: failures + 1, ramp };
            }
            State::Closed { .. } | State::Greeting | State::HalfOpen { .. } => {
                let longest = match pause {
                    Pause::Growing { .. } => self.open_next,
                    Pause::Short { .. } => OPEN_FIRST,
                    Pause::Long => OPEN_REFUSED,
                };
                let wait = match pause {
                    Pause::Growing { random } | Pause::Short { random } => {
                        longest.mul_f64(1.0 - 0.2 * random.clamp(0.0, 1.0))
                    }
                    Pause::Long => longest,
                };
                self.state = State::Open { until: now.checked_add(wait).unwrap_or(Timestamp::MAX), longest };
                self.weak = 0;
                if !is_weak {
                    self.open_next = (self.open_next * 2).min(self.open_max);
                }
            }
            // Attempts that were under way when the breaker opened fail late; they say nothing new.
            State::Open { .. } => {}
        }
    }

    /// For operators.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } | State::Greeting => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
}

/// One, and one more for each step that has passed.
fn one_more_each(step: Duration, since: Timestamp, now: Timestamp) -> u32 {
    let waited = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    u32::try_from(waited.as_millis() / step.as_millis()).unwrap_or(u32::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_in_between_does_not_count() {
        let mut breaker = Breaker::new(20, 3, Duration::from_secs(4));
        breaker.failure(at(0), Pause::Growing { random: 0.0 });
        breaker.failure(at(0), Pause::Growing { random: 0.0 });
        breaker.success(at(0));
        breaker.failure(at(0), Pause::Growing { random: 0.0 });
        breaker.failure(at(0), Pause::Growing { random: 0.0 });
        assert_eq!(breaker.state(), BreakerState::Closed);
        breaker.failure(at(0), Pause::Growing { random: 0.0 });
        assert_eq!(breaker.gate(at(0)), Gate::Shut(at(500)));
        assert_eq!(breaker.gate(at(500)), Gate::Greet);
    }

    #[test]
    fn an_open_breaker_greets_before_it_risks_one_mail_and_then_ramps_up() {
        let mut breaker = Breaker::new(20, 1, Duration::from_secs(4));
        breaker.failure(at(0), Pause::Growing { random: 0.0 });
        breaker.greeting();
        assert_eq!(breaker.gate(at(600)), Gate::Waiting);
        breaker.greeted(at(600));
        assert_eq!(breaker.gate(at(600)), Gate::Pass(1));
        assert_eq!(breaker.gate(at(2_600)), Gate::Pass(3), "a mail that hangs blocks nobody");
        breaker.success(at(2_600));
        assert_eq!(breaker.gate(at(2_600)), Gate::Pass(1));
        for _ in 0..5 {
            breaker.success(at(2_600));
        }
        assert_eq!(breaker.gate(at(2_600)), Gate::Pass(6));
        assert_eq!(breaker.gate(at(2_900)), Gate::Pass(9), "mails that hang do not keep the ramp down");
        assert_eq!(breaker.gate(at(9_000)), Gate::Pass(20));
    }

    #[test]
    fn the_waiting_grows_but_never_past_its_bound() {
        let mut breaker = Breaker::new(20, 1, Duration::from_secs(4));
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..6 {
            breaker.failure(at(now), Pause::Growing { random: 0.0 });
            let Gate::Shut(until) = breaker.gate(at(now)) else { unreachable!("just opened") };
            waits.push(until.as_millisecond() - now);
            now = until.as_millisecond();
            breaker.greeting();
        }
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 4_000, 4_000]);
    }

    #[test]
    fn mails_lost_in_their_content_open_it_only_when_they_are_many_and_never_for_longer_than_at_first() {
        let mut breaker = Breaker::new(20, 3, Duration::from_secs(4));
        for opening in 0..5 {
            let now = at(opening * 10_000);
            for _ in 1..WEAK_MAX {
                breaker.failure(now, Pause::Short { random: 0.0 });
                assert!(matches!(breaker.gate(now), Gate::Pass(_)) && !breaker.is_trusted());
            }
            breaker.failure(now, Pause::Short { random: 0.0 });
            assert_eq!(breaker.gate(now), Gate::Shut(at(opening * 10_000 + 500)));
            breaker.greeting();
            breaker.greeted(now);
        }
        breaker.failure(at(60_000), Pause::Growing { random: 0.0 });
        assert_eq!(breaker.gate(at(60_000)), Gate::Shut(at(60_500)), "what is no weak evidence counts as ever");
    }

    #[test]
    fn a_relay_that_refuses_our_credentials_is_not_asked_every_few_seconds() {
        let mut breaker = Breaker::new(20, 1, Duration::from_secs(4));
        breaker.failure(at(0), Pause::Long);
        assert_eq!(breaker.gate(at(0)), Gate::Shut(at(30_000)));
        assert_eq!(breaker.gate(at(29_999)), Gate::Shut(at(30_000)));
        breaker.take_over(20, 1, Duration::from_secs(4), at(29_999));
        assert_eq!(breaker.gate(at(29_999)), Gate::Greet, "new settings are tried at once");
    }
}
