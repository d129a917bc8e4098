//! A bucket of attempts: so many per time, evenly, on a clock of ours.
//!
//! One moment is all its state: when the bucket was, or will have been, empty. It holds one attempt more for each
//! interval since then, up to its depth.
//!
//! # How deep
//!
//! A relay's operator reads a rate of 200/s as 1,000 in any 5 seconds. A bucket that holds a second's worth after every
//! pause lets 1,200 pass. So one that was not given a burst holds a tenth of a second's worth (2 % in 5 seconds), enough
//! for a dispatcher that wakes late; one that was given a burst holds what was given. A bucket begins empty, and is
//! emptied when a relay comes back: a restart is no reason for a burst.
//!
//! At a rate slower than one a second that would cost more than a moment: four an hour would keep the first mail waiting
//! for a quarter of an hour, and a relay that comes and goes would never get one. So such a bucket begins with one in it,
//! and a recovery or a new rate leaves it what it has waited for, up to one and what is kept (see below). In 5 seconds
//! that is never more than the rate and one attempt for each of those.
//!
//! # What is kept
//!
//! Lanes with a reserved share of a relay have the same share of its bucket: others take only what is above it. The
//! share is not lost when nobody uses it, it only stands ready; the rate as a whole flows to whoever has mail. A rate
//! below one a second has no room for that in a bucket of one, so it gets places for what is kept on top.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::lane::{Lane, PerLane};
use crate::domain::quantity::{Rate, Share};
use crate::domain::shaping::RateView;

/// A rate without a burst of its own holds this part of a second's worth.
const DEPTH_OF_A_SECOND: u32 = 10;

/// See the module's text.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// When it was empty, in nanoseconds since the epoch.
    empty_at: i64,
    /// Time for one attempt, in nanoseconds.
    interval: i64,
    depth: u32,
    /// How many of those it holds outlast a new beginning.
    lasting: u32,
}

impl Bucket {
    /// A bucket for `rate` with room for `kept` attempts that wait for somebody, as it begins at `now`.
    pub fn new(rate: Rate, kept: u32, now: Timestamp) -> Self {
        let depth = depth_of(rate);
        let slow = rate.per > Duration::from_secs(1).saturating_mul(rate.count);
        let depth = if slow { depth.saturating_add(kept) } else { depth };
        let interval = interval(rate.count.into(), rate.per);
        let (first, lasting) = if slow { (interval, kept.saturating_add(1)) } else { (0, 0) };
        Self { empty_at: nanos(now).saturating_sub(first), interval, depth, lasting }
    }

    /// A bucket for so many per second, with one in it at `now`.
    pub fn per_second(count: f64, depth: u32, now: Timestamp) -> Self {
        let mut bucket = Self { empty_at: nanos(now), interval: 1, depth, lasting: 0 };
        bucket.set_per_second(count, depth, now);
        // Whoever has something reserved need not wait for a domain that was only just slowed down.
        bucket.put_back();
        bucket
    }

    /// Goes on at so many per second; what it holds stays.
    pub fn set_per_second(&mut self, count: f64, depth: u32, now: Timestamp) {
        let held = i64::from(self.held(now).min(depth));
        self.depth = depth;
        self.interval = interval(count, Duration::from_secs(1));
        self.empty_at = nanos(now).saturating_sub(self.interval.saturating_mul(held));
    }

    /// Nothing is in it at `now`; or at a slow rate what it has waited for, up to one and what is kept.
    pub fn begin_anew(&mut self, now: Timestamp) {
        let earliest = nanos(now).saturating_sub(self.interval.saturating_mul(i64::from(self.lasting)));
        self.empty_at = self.empty_at.clamp(earliest, nanos(now));
    }

    /// How many it holds.
    pub fn held(&self, now: Timestamp) -> u32 {
        let since = nanos(now).saturating_sub(self.empty_at).max(0);
        u32::try_from(since / self.interval).unwrap_or(u32::MAX).min(self.depth)
    }

    /// When one may be taken that leaves `kept` behind; `None` when that is now.
    pub fn next_at(&self, kept: u32, now: Timestamp) -> Option<Timestamp> {
        let wanted = kept.saturating_add(1).min(self.depth);
        if self.held(now) >= wanted {
            return None;
        }
        // A clock that was put back does not make anybody wait for what it showed before.
        let from = self.empty_at.min(nanos(now));
        let at = from.saturating_add(self.interval.saturating_mul(i64::from(wanted)));
        Some(Timestamp::from_nanosecond(i128::from(at)).unwrap_or(Timestamp::MAX))
    }

    /// Takes one; the caller has asked [`Self::next_at`].
    pub fn take(&mut self, now: Timestamp) {
        let full = nanos(now).saturating_sub(self.interval.saturating_mul(i64::from(self.depth)));
        self.empty_at = self.empty_at.clamp(full, nanos(now).max(full)).saturating_add(self.interval);
    }

    /// Puts one back that was taken and not used.
    pub fn put_back(&mut self) {
        self.empty_at = self.empty_at.saturating_sub(self.interval);
    }
}

/// A configured rate, as it stands.
#[derive(Debug, Clone)]
pub struct Limit {
    /// As configured.
    pub rate: Rate,
    shares: PerLane<Share>,
    bucket: Bucket,
    kept: PerLane<u32>,
}

impl Limit {
    /// A rate of which each lane has this share, as it begins at `now`.
    pub fn new(rate: Rate, shares: &PerLane<Share>, now: Timestamp) -> Self {
        let one_each = PerLane::from_fn(|lane| u32::from(*shares.get(lane) != Share::NONE));
        let bucket = Bucket::new(rate, Lane::ALL.iter().map(|lane| one_each.get(*lane)).sum(), now);
        let depth = depth_of(rate);
        let kept = if bucket.depth > depth { one_each } else { reserve(depth, shares) };
        Self { rate, shares: *shares, bucket, kept }
    }

    /// The limit by new settings: this one, when they say the same; else one that has waited as long.
    pub fn renewed(old: Option<Self>, rate: Rate, shares: &PerLane<Share>, now: Timestamp) -> Self {
        let fresh = Self::new(rate, shares, now);
        match old {
            Some(old) if old.rate == rate && old.shares == *shares => old,
            Some(old) => {
                let mut bucket = Bucket { empty_at: old.bucket.empty_at, ..fresh.bucket };
                bucket.begin_anew(now);
                Self { bucket, ..fresh }
            }
            None => fresh,
        }
    }

    /// When a mail of `lane` may go; `None` when that is now.
    pub fn next_at(&self, lane: Lane, now: Timestamp) -> Option<Timestamp> {
        let others = Lane::ALL.into_iter().filter(|other| *other != lane);
        self.bucket.next_at(others.map(|other| *self.kept.get(other)).sum(), now)
    }

    /// One goes.
    pub fn take(&mut self, now: Timestamp) {
        self.bucket.take(now);
    }

    /// One that went was not used.
    pub fn put_back(&mut self) {
        self.bucket.put_back();
    }

    /// What it held does not go at once.
    pub fn begin_anew(&mut self, now: Timestamp) {
        self.bucket.begin_anew(now);
    }

    /// Whether there is nothing to remember of it.
    pub fn is_full(&self, now: Timestamp) -> bool {
        self.bucket.held(now) >= self.bucket.depth
    }

    /// For operators.
    pub fn view(&self, now: Timestamp) -> RateView {
        RateView { setting: self.rate, left: self.bucket.held(now), next_at: self.bucket.next_at(0, now) }
    }
}

/// Each lane's share of a whole, rounded up, but together never more than all but one.
pub fn reserve(whole: u32, shares: &PerLane<Share>) -> PerLane<u32> {
    let mut left = whole.saturating_sub(1);
    PerLane::from_fn(|lane| {
        let reserved = shares.get(lane).of(whole).min(left);
        left -= reserved;
        reserved
    })
}

/// How many a bucket of this rate holds.
fn depth_of(rate: Rate) -> u32 {
    rate.burst.unwrap_or_else(|| (rate.second_worth() / DEPTH_OF_A_SECOND).max(1))
}

fn interval(count: f64, per: Duration) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "clamped to what fits")]
    let nanos = (per.as_secs_f64() * 1e9 / count).clamp(1.0, 1e17) as i64;
    nanos
}

fn nanos(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use proptest::prelude::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    fn bucket(rate: &str, kept: u32) -> Bucket {
        Bucket::new(rate.parse().unwrap(), kept, at(0))
    }

    /// Takes whatever it gives at this moment.
    fn drain(bucket: &mut Bucket, kept: u32, now: Timestamp) -> u32 {
        let mut taken = 0;
        while bucket.next_at(kept, now).is_none() {
            bucket.take(now);
            taken += 1;
        }
        taken
    }

    #[test]
    fn it_begins_empty_and_a_pause_fills_it_to_a_tenth_of_a_second() {
        let mut bucket = bucket("200/s", 0);
        assert_eq!(drain(&mut bucket, 0, at(0)), 0);
        assert_eq!(bucket.next_at(0, at(0)), Some(at(5)));
        assert_eq!(drain(&mut bucket, 0, at(5)), 1);
        assert_eq!(drain(&mut bucket, 0, at(60_000)), 20);
    }

    #[test]
    fn a_burst_that_was_written_is_given() {
        assert_eq!(drain(&mut bucket("200/s,burst=200", 0), 0, at(60_000)), 200, "a second's worth as well");
        let mut bucket = bucket("200/s,burst=500", 0);
        assert_eq!(drain(&mut bucket, 0, at(60_000)), 500);
        bucket.begin_anew(at(60_000));
        assert_eq!(drain(&mut bucket, 0, at(60_000)), 0);
    }

    #[test]
    fn what_is_kept_is_left_for_others_and_the_whole_rate_flows() {
        let mut bucket = bucket("200/s", 5);
        assert_eq!(drain(&mut bucket, 5, at(1_000)), 15);
        assert_eq!(drain(&mut bucket, 0, at(1_000)), 5);
        let mut taken = 0;
        for now in 1_000..3_000 {
            taken += drain(&mut bucket, 5, at(now));
        }
        assert_eq!(taken, 394, "200 a second, but for the five that stand ready again");
        assert_eq!(drain(&mut bucket, 0, at(3_000)), 6);
    }

    #[test]
    fn a_slow_rate_keeps_one_beside_its_only_place() {
        let mut bucket = bucket("60/h", 1);
        assert_eq!(drain(&mut bucket, 1, at(3_600_000)), 1);
        assert_eq!(bucket.next_at(1, at(3_600_000)), Some(at(3_660_000)));
        assert_eq!(drain(&mut bucket, 0, at(3_600_000)), 1, "urgent need not wait for a minute");
    }

    #[test]
    fn a_slow_rate_begins_with_one_and_what_it_waited_for_is_not_taken_away() {
        let rate = |text: &str| text.parse::<Rate>().unwrap();
        let mut slow = bucket("4/h", 0);
        assert_eq!(drain(&mut slow, 0, at(0)), 1, "nobody waits a quarter of an hour for a start");
        for recovery in 1..=900 {
            slow.begin_anew(at(recovery * 1_000));
        }
        assert_eq!(drain(&mut slow, 0, at(900_000)), 1, "a relay that comes and goes gets its rate, and no more");
        let mut divided = bucket("1/m,burst=9", 1);
        for recovery in 1..=600 {
            divided.begin_anew(at(recovery * 1_000));
        }
        assert_eq!(drain(&mut divided, 1, at(600_000)), 1, "so do those who leave one to others");
        assert_eq!(drain(&mut divided, 0, at(600_000)), 1, "and a burst is not saved up");
        let shares = PerLane::from_fn(|_| Share::NONE);
        let mut limit = Limit::new(rate("1/m"), &shares, at(0));
        limit.take(at(0));
        let mut faster = Limit::renewed(Some(limit), rate("2/m"), &shares, at(20_000));
        assert_eq!(faster.next_at(Lane::Urgent, at(20_000)), Some(at(30_000)), "twenty seconds of thirty are over");
        faster.begin_anew(at(3_600_000));
        assert_eq!(faster.view(at(3_600_000)).left, 1, "and never more than one");
        assert_eq!(drain(&mut bucket("1/s", 0), 0, at(0)), 0);
    }

    #[test]
    fn what_was_not_used_is_there_again_and_a_clock_put_back_keeps_nobody_waiting() {
        let mut bucket = bucket("10/s", 0);
        assert_eq!(drain(&mut bucket, 0, at(100)), 1);
        bucket.put_back();
        assert_eq!(drain(&mut bucket, 0, at(100)), 1);
        let next = bucket.next_at(0, at(-3_600_000)).unwrap();
        assert_eq!(next, at(-3_599_900));
        bucket.take(next);
        assert!(bucket.next_at(0, next).unwrap() <= next.checked_add(Duration::from_millis(100)).unwrap());
    }

    #[test]
    fn a_new_rate_keeps_what_there_is() {
        let mut bucket = Bucket::per_second(10.0, 2, at(0));
        assert_eq!(bucket.held(at(1_000)), 2);
        bucket.set_per_second(1.0, 2, at(1_000));
        assert_eq!(bucket.held(at(1_000)), 2);
        assert_eq!(drain(&mut bucket, 0, at(1_000)), 2);
        assert_eq!(bucket.next_at(0, at(1_000)), Some(at(2_000)));
    }

    proptest! {
        #[test]
        fn no_five_seconds_see_more_than_five_percent_over_the_rate(
            rate in 20_u32..5_000,
            steps in proptest::collection::vec((1_i64..400, any::<bool>()), 10..200),
        ) {
            let mut bucket = bucket(&format!("{rate}/s"), 0);
            let mut now = 0;
            let mut taken: Vec<(i64, u32)> = Vec::new();
            for (step, takes) in steps {
                now += step;
                if takes {
                    taken.push((now, drain(&mut bucket, 0, at(now))));
                }
            }
            for (begin, _) in &taken {
                let within = taken.iter().filter(|(at, _)| (*begin..begin + 5_000).contains(at));
                let sum: u32 = within.map(|(_, count)| count).sum();
                prop_assert!(f64::from(sum) <= f64::from(rate) * 5.25, "{sum} of {rate}/s");
            }
        }
    }
}
