//! When a tenant's passes are worth a look: installs that stop, removals that jump.
//!
//! Pass events are counted by hours of the clock (UTC). What is **usual** for an hour is the lower median of the same hour
//! of the week in the last four weeks; of a tenant known for less than a week, of the same hour in the last days. A
//! median, so that one campaign or one outage teaches nothing; the lower one, so that a doubt raises no alarm.
//!
//! * *Silence*: since the last install so much time has passed that `silence_expected` installs would have been usual.
//!   If they come by chance, none of 10 expected ones comes once in 22,000 times (e⁻¹⁰). A quiet night adds little,
//!   a quiet noon much: nobody has to say how long is too long. It ends with the next install.
//! * *Uninstalls*: more in one hour than `uninstall_factor` times the usual, and at least `uninstall_min`. It ends when
//!   an hour and the one that runs are in line.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::ids::{AlarmId, TenantId};
use super::time;

/// Hours of a week.
const WEEK: i64 = 168;
/// Hours of a day.
const DAY: i64 = 24;
/// Weeks that are looked back.
const WEEKS: i64 = 4;
/// Hours of which the counts are needed: four weeks before the oldest hour of a silence that is looked at.
pub const HOURS_KEPT: i64 = (WEEKS + 1) * WEEK;
/// A silence is looked at for so many hours: after a week of it everything is said.
const SILENCE_HOURS_MAX: i64 = WEEK;
const HOUR_SECONDS: i64 = 3_600;

/// What is worth a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AlarmKind {
    /// Installs have stopped.
    Silence,
    /// Removals jump.
    Uninstalls,
}

impl AlarmKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Silence, Self::Uninstalls];

    /// The word in rows, JSON and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::Uninstalls => "uninstalls",
        }
    }
}

impl fmt::Display for AlarmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AlarmKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| "not an alarm".to_owned())
    }
}

/// What raises an alarm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// So many installs would have been usual, and none came.
    pub silence_expected: f64,
    /// So many times the usual removals of an hour.
    pub uninstall_factor: f64,
    /// So few removals in an hour are never too many.
    pub uninstall_min: u32,
}

/// What was counted in one hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HourCount {
    /// Passes added to a wallet.
    pub installs: u32,
    /// Passes removed from one.
    pub uninstalls: u32,
}

/// What is known of a tenant's events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// By hour ([`hour_of`]); hours without an event may be missing.
    pub hours: BTreeMap<i64, HourCount>,
    /// The hour of the first event ever counted.
    pub first: Option<i64>,
    /// The last install.
    pub last_install: Option<Timestamp>,
}

/// The number of an hour: whole hours since 1970.
#[must_use]
pub fn hour_of(at: Timestamp) -> i64 {
    at.as_second().div_euclid(HOUR_SECONDS)
}

impl Counts {
    /// Adds what was counted in an hour, and forgets what is too old to matter.
    pub fn add(&mut self, hour: i64, count: HourCount) {
        let entry = self.hours.entry(hour).or_default();
        entry.installs = entry.installs.saturating_add(count.installs);
        entry.uninstalls = entry.uninstalls.saturating_add(count.uninstalls);
        self.first = Some(self.first.map_or(hour, |first| first.min(hour)));
        let newest = self.hours.last_key_value().map_or(hour, |(newest, _)| *newest);
        self.hours = self.hours.split_off(&(newest - HOURS_KEPT));
    }

    fn count(&self, hour: i64) -> HourCount {
        self.hours.get(&hour).copied().unwrap_or_default()
    }

    /// What is usual in an hour; `None` while nothing can be said.
    fn usual(&self, hour: i64, of: impl Fn(HourCount) -> u32) -> Option<u32> {
        let first = self.first?;
        let back = |step: i64, most: i64| (1..=most).map(move |n| hour - n * step).filter(move |hour| *hour >= first);
        let weeks: Vec<i64> = back(WEEK, WEEKS).collect();
        // The hour of the first event itself was not counted from its beginning.
        let hours = if weeks.is_empty() { back(DAY, WEEK / DAY - 1).collect() } else { weeks };
        let mut counts: Vec<u32> = hours.into_iter().map(|hour| of(self.count(hour))).collect();
        counts.sort_unstable();
        counts.get(counts.len().checked_sub(1)? / 2).copied()
    }

    /// How many installs would have been usual since the last one.
    #[must_use]
    pub fn expected_since_last_install(&self, now: Timestamp) -> f64 {
        let Some(last) = self.last_install else { return 0.0 };
        let until = now.as_second();
        let since = last.as_second().max(until - SILENCE_HOURS_MAX * HOUR_SECONDS);
        let mut expected = 0.0;
        for hour in since.div_euclid(HOUR_SECONDS)..=until.div_euclid(HOUR_SECONDS) {
            let (begin, end) = (hour * HOUR_SECONDS, (hour + 1) * HOUR_SECONDS);
            let part = end.min(until) - begin.max(since);
            let usual = self.usual(hour, |count| count.installs).unwrap_or_default();
            expected += f64::from(usual) * seconds(part) / seconds(HOUR_SECONDS);
        }
        expected
    }

    /// The removals of this hour or the last one, whichever is further out of line.
    fn uninstalls(&self, now: Timestamp, rules: &Rules) -> Numbers {
        let this = hour_of(now);
        let numbers = [this, this - 1].map(|hour| {
            let usual = self.usual(hour, |count| count.uninstalls).unwrap_or_default();
            Numbers { seen: self.count(hour).uninstalls, usual: f64::from(usual) }
        });
        let [this, last] = numbers;
        if last.excess(rules) > this.excess(rules) { last } else { this }
    }

    /// What holds of an alarm now.
    #[must_use]
    pub fn judge(&self, kind: AlarmKind, now: Timestamp, rules: &Rules) -> Judgement {
        match kind {
            AlarmKind::Silence => {
                let numbers = Numbers { seen: 0, usual: self.expected_since_last_install(now) };
                if numbers.usual >= rules.silence_expected { Judgement::Raised(numbers) } else { Judgement::InLine }
            }
            AlarmKind::Uninstalls => {
                let numbers = self.uninstalls(now, rules);
                let is_out = numbers.seen >= rules.uninstall_min && numbers.excess(rules) > 0.0;
                if is_out { Judgement::Raised(numbers) } else { Judgement::InLine }
            }
        }
    }
}

/// A length of at most some weeks, as a number to reckon with.
fn seconds(length: i64) -> f64 {
    f64::from(i32::try_from(length).unwrap_or(i32::MAX))
}

/// What there was, and what would have been usual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Numbers {
    /// Installs, or removals in an hour.
    pub seen: u32,
    /// So many would have been usual in that time.
    pub usual: f64,
}

impl Numbers {
    fn excess(self, rules: &Rules) -> f64 {
        f64::from(self.seen) - self.usual * rules.uninstall_factor
    }
}

/// Whether something is worth a look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Judgement {
    /// It is.
    Raised(Numbers),
    /// It is not.
    InLine,
}

/// An alarm, as kept and as shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// Its name.
    pub id: AlarmId,
    /// Whose passes.
    pub tenant: TenantId,
    /// What is worth a look.
    pub kind: AlarmKind,
    /// What there was when it was raised.
    pub numbers: Numbers,
    /// Since when.
    pub opened_at: Timestamp,
    /// When it ended.
    pub closed_at: Option<Timestamp>,
}

impl Serialize for Alarm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("tenant", &self.tenant)?;
        map.serialize_entry("kind", &self.kind)?;
        map.serialize_entry("seen", &self.numbers.seen)?;
        map.serialize_entry("usual", &self.numbers.usual)?;
        map.serialize_entry("openedAt", &time::text(self.opened_at))?;
        map.serialize_entry("closedAt", &self.closed_at.map(time::text))?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    const RULES: Rules = Rules { silence_expected: 10.0, uninstall_factor: 5.0, uninstall_min: 20 };

    fn at(hours: i64, minutes: i64) -> Timestamp {
        Timestamp::from_second((100_000 + hours) * HOUR_SECONDS + minutes * 60).unwrap()
    }

    /// A tenant with so many installs and removals in each hour of these hours of the day, from hour `from` to `to`.
    fn history(from: i64, to: i64, of_day: std::ops::Range<i64>, count: HourCount) -> Counts {
        let mut counts = Counts::default();
        for hour in from..to {
            let hour = 100_000 + hour;
            if of_day.contains(&hour.rem_euclid(DAY)) {
                counts.add(hour, count);
                counts.last_install = Timestamp::from_second(hour * HOUR_SECONDS + 1_800).ok();
            }
        }
        counts
    }

    fn installs(installs: u32) -> HourCount {
        HourCount { installs, uninstalls: 0 }
    }

    fn uninstalls(uninstalls: u32) -> HourCount {
        HourCount { installs: 1, uninstalls }
    }

    #[test]
    fn installs_that_stop_are_missed_the_sooner_the_more_are_usual() {
        for (per_hour, minutes, raised) in [
            (60, 9, false),
            (60, 11, true),
            (6, 60, false),
            (6, 101, true),
            (1, 9 * 60, false),
            (1, 10 * 60 + 1, true),
            // Too few to miss: nothing in a day is no surprise.
            (0, 24 * 60, false),
        ] {
            let mut counts = history(-5 * WEEK, 0, 0..24, installs(per_hour));
            counts.last_install = Some(at(0, 0));
            let is_raised = counts.judge(AlarmKind::Silence, at(0, minutes), &RULES) != Judgement::InLine;
            assert_eq!(is_raised, raised, "{per_hour} an hour, after {minutes} minutes");
        }
    }

    #[test]
    fn a_night_that_is_always_quiet_is_no_silence_and_a_quiet_morning_is() {
        // Hour 100,000 is 16:00 in UTC.
        let counts = history(-5 * WEEK, 5, 8..21, installs(8));
        let raised = |hours, minutes| counts.judge(AlarmKind::Silence, at(hours, minutes), &RULES) != Judgement::InLine;
        assert!(!raised(15, 59), "before eight in the morning");
        assert!(raised(18, 0), "two hours that have eight each usually");
    }

    #[test]
    fn one_campaign_teaches_nothing_and_a_young_tenant_is_judged_by_its_days() {
        let mut counts = history(-5 * WEEK, 0, 0..24, installs(1));
        counts.add(100_000 - WEEK, installs(5_000));
        assert_eq!(counts.usual(100_000, |count| count.installs), Some(1));
        let mut young = history(-3 * DAY, 0, 0..24, installs(60));
        young.last_install = Some(at(0, 0));
        assert!(young.judge(AlarmKind::Silence, at(0, 30), &RULES) != Judgement::InLine);
        let mut newborn = history(-5, 0, 0..24, installs(60));
        newborn.last_install = Some(at(0, 0));
        assert_eq!(newborn.judge(AlarmKind::Silence, at(5, 0), &RULES), Judgement::InLine);
    }

    #[test]
    fn removals_jump_when_they_are_many_times_the_usual_and_not_a_few() {
        for (usual, seen, raised) in [
            (0, 19, false),
            (0, 20, true),
            (3, 19, false),
            (4, 20, false),
            (4, 21, true),
            (100, 500, false),
            (100, 501, true),
        ] {
            let mut counts = history(-5 * WEEK, 0, 0..24, uninstalls(usual));
            counts.add(100_000, uninstalls(seen));
            let judged = counts.judge(AlarmKind::Uninstalls, at(0, 30), &RULES);
            assert_eq!(judged != Judgement::InLine, raised, "{seen} where {usual} are usual");
            // The last hour still counts in the next one, and no longer.
            assert_eq!(counts.judge(AlarmKind::Uninstalls, at(1, 30), &RULES) != Judgement::InLine, raised);
            assert_eq!(counts.judge(AlarmKind::Uninstalls, at(2, 0), &RULES), Judgement::InLine);
        }
    }

    #[test]
    fn counts_are_kept_for_five_weeks_and_no_longer() {
        let counts = history(-3_000, 0, 0..24, installs(1));
        assert!(i64::try_from(counts.hours.len()).unwrap() <= HOURS_KEPT + 1);
        assert_eq!(counts.first, Some(100_000 - 3_000));
    }
}
