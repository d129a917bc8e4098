//! How many sessions a relay's replies let us use: fewer at once when it says that we are too many, one more from time to
//! time while it does not.
//!
//! Multiplicative decrease, additive increase, as Postfix's feedback on destination concurrency. A reply counts once for
//! all attempts that were under way together: those that began before the last decrease had no chance to heed it. What
//! was learned is forgotten after a while without a complaint.

use std::time::Duration;

use jiff::Timestamp;

use super::look::has_passed;
use crate::domain::shaping::Learned;

/// One session more for each of these in which the relay took something and did not complain.
const RAISE_EVERY: Duration = Duration::from_secs(2);
/// What was learned is forgotten after so long without news.
pub const FORGET_AFTER: Duration = Duration::from_mins(10);

/// See the module's text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Concurrency(Option<Lesson>);

#[derive(Debug, Clone, Copy)]
struct Lesson {
    allowed: u32,
    since: Timestamp,
    lowered_at: Timestamp,
    changed_at: Timestamp,
}

impl Concurrency {
    /// Sessions that may be used, when that is fewer than all.
    pub fn learned(&self, now: Timestamp) -> Option<Learned<u32>> {
        let lesson = self.0.filter(|lesson| !is_old(lesson.changed_at, now))?;
        Some(Learned { value: lesson.allowed, since: lesson.since })
    }

    /// The relay says that we are too many. `used` sessions were in use, of `sessions`; the attempt that heard it began
    /// at `began_at`.
    pub fn lower(&mut self, used: u32, sessions: u32, began_at: Timestamp, now: Timestamp) {
        let before = self.learned(now);
        if self.0.is_some_and(|lesson| before.is_some() && began_at < lesson.lowered_at) {
            return;
        }
        let from = before.map_or(sessions, |learned| learned.value).min(used.max(1));
        let since = before.map_or(now, |learned| learned.since);
        self.0 = Some(Lesson { allowed: (from / 2).max(1), since, lowered_at: now, changed_at: now });
    }

    /// The relay took something.
    pub fn raise(&mut self, sessions: u32, now: Timestamp) {
        let Some(lesson) = &mut self.0 else { return };
        if now.duration_since(lesson.changed_at).unsigned_abs() < RAISE_EVERY {
            return;
        }
        (lesson.allowed, lesson.changed_at) = (lesson.allowed + 1, now);
        if lesson.allowed >= sessions {
            self.0 = None;
        }
    }
}

/// Whether what was last changed then is forgotten by now.
pub fn is_old(changed_at: Timestamp, now: Timestamp) -> bool {
    let forgotten_at = changed_at.checked_add(FORGET_AFTER).unwrap_or(Timestamp::MAX);
    has_passed(forgotten_at, now, FORGET_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn allowed(concurrency: &Concurrency, now: i64) -> Option<u32> {
        concurrency.learned(at(now)).map(|learned| learned.value)
    }

    #[test]
    fn one_complaint_halves_and_those_of_the_same_moment_count_once() {
        let mut concurrency = Concurrency::default();
        assert_eq!(allowed(&concurrency, 0), None);
        concurrency.lower(20, 20, at(0), at(100));
        assert_eq!(allowed(&concurrency, 100), Some(10));
        concurrency.lower(20, 20, at(50), at(101));
        assert_eq!(allowed(&concurrency, 101), Some(10), "it began before the first complaint");
        concurrency.lower(10, 20, at(101), at(150));
        concurrency.lower(4, 20, at(151), at(200));
        assert_eq!(allowed(&concurrency, 200), Some(2), "half of what was used, not of what was allowed");
        for now in [201, 202, 203] {
            concurrency.lower(1, 20, at(now), at(now));
        }
        assert_eq!(allowed(&concurrency, 203), Some(1), "one session is always left");
    }

    #[test]
    fn successes_raise_it_slowly_and_silence_forgets_it() {
        let mut concurrency = Concurrency::default();
        concurrency.lower(4, 4, at(0), at(0));
        for now in 0..2_000 {
            concurrency.raise(4, at(now));
        }
        assert_eq!(allowed(&concurrency, 2_000), Some(2));
        concurrency.raise(4, at(2_000));
        assert_eq!(allowed(&concurrency, 2_000), Some(3));
        assert_eq!(concurrency.learned(at(2_000)).map(|learned| learned.since), Some(at(0)));
        concurrency.raise(4, at(4_000));
        assert_eq!(allowed(&concurrency, 4_000), None, "all sessions again");
        concurrency.lower(4, 4, at(5_000), at(5_000));
        assert_eq!(allowed(&concurrency, 5_000 + 599_999), Some(2));
        assert_eq!(allowed(&concurrency, 5_000 + 600_000), None);
    }
}
