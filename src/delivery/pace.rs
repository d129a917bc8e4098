//! What was done lately: counts by the second, over the last minute.

use jiff::Timestamp;

use crate::domain::message::Outcome;
use crate::domain::shaping::Pace;

/// Seconds remembered.
const SECONDS: usize = 60;

/// A clock put back by more seconds than this begins the counting anew.
const BACK_MAX: i64 = 2;

/// What happened in one second.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    attempts: u32,
    relayed: u32,
    deferred: u32,
    bounced: u32,
    unknown: u32,
    given_back: u32,
}

/// Counts of the last minute.
#[derive(Debug, Clone)]
pub struct Counter {
    seconds: [Counts; SECONDS],
    /// The second that is being counted, since the epoch.
    second: i64,
}

impl Default for Counter {
    fn default() -> Self {
        Self { seconds: [Counts::default(); SECONDS], second: i64::MIN }
    }
}

impl Counter {
    /// An attempt began.
    pub fn began(&mut self, now: Timestamp) {
        self.at(now).attempts += 1;
    }

    /// An attempt was given back.
    pub fn given_back(&mut self, now: Timestamp) {
        self.at(now).given_back += 1;
    }

    /// An attempt ended.
    pub fn ended(&mut self, outcome: &Outcome, now: Timestamp) {
        let counts = self.at(now);
        match outcome {
            Outcome::Relayed { .. } => counts.relayed += 1,
            Outcome::Deferred { .. } => counts.deferred += 1,
            Outcome::Bounced { .. } => counts.bounced += 1,
            Outcome::Unknown { .. } => counts.unknown += 1,
            Outcome::Returned { .. } => counts.given_back += 1,
            Outcome::Held { .. } | Outcome::Suppressed { .. } => {}
        }
    }

    /// Per second, over the last minute.
    pub fn pace(&self, now: Timestamp) -> Pace {
        let mut counter = self.clone();
        counter.at(now);
        let sum = |count: fn(&Counts) -> u32| {
            let sum: u32 = counter.seconds.iter().map(count).sum();
            f64::from(sum) / f64::from(u32::try_from(SECONDS).unwrap_or(u32::MAX))
        };
        Pace {
            attempts: sum(|counts| counts.attempts),
            relayed: sum(|counts| counts.relayed),
            deferred: sum(|counts| counts.deferred),
            bounced: sum(|counts| counts.bounced),
            unknown: sum(|counts| counts.unknown),
            given_back: sum(|counts| counts.given_back),
        }
    }

    /// The counts of this second; those of seconds that went by uncounted are cleared.
    fn at(&mut self, now: Timestamp) -> &mut Counts {
        let second = now.as_second();
        let gone = second.saturating_sub(self.second);
        // A clock put back by a little counts on in the second it was in; further back, nobody knows how long that would
        // be, and counting begins anew.
        if gone < -BACK_MAX {
            *self = Self { second, ..Self::default() };
        } else if gone > 0 {
            let steps = usize::try_from(gone).unwrap_or(SECONDS).min(SECONDS);
            for step in 0..steps {
                self.seconds[place(second - i64::try_from(step).unwrap_or_default())] = Counts::default();
            }
            self.second = second;
        }
        &mut self.seconds[place(self.second)]
    }
}

fn place(second: i64) -> usize {
    usize::try_from(second).unwrap_or_default() % SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_minute_is_counted_and_what_is_older_is_forgotten() {
        let mut counter = Counter::default();
        for second in 0..120 {
            for _ in 0..3 {
                counter.began(at(second));
            }
        }
        assert!((counter.pace(at(119)).attempts - 3.0).abs() < 1e-9);
        assert!((counter.pace(at(149)).attempts - 1.5).abs() < 1e-9);
        assert!(counter.pace(at(400)).attempts.abs() < 1e-9);
        counter.given_back(at(399));
        assert!(counter.pace(at(400)).given_back > 0.0, "a clock put back a little loses no count");
        for second in 0..120 {
            counter.began(at(second));
        }
        assert!((counter.pace(at(119)).attempts - 1.0).abs() < 1e-9, "nor does one second take the counts of all");
    }
}
