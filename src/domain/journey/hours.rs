//! Times of day where somebody is, on days on which clocks may go forward or back.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, Zoned};
use serde::{Deserialize, Serialize};

/// Minutes in a day.
const DAY_MINUTES: u16 = 24 * 60;

/// A time of day, to the minute: `09:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DayTime {
    /// Minutes since midnight, less than a day's.
    minutes: u16,
}

impl DayTime {
    fn time(self) -> Time {
        let part = |minutes: u16| i8::try_from(minutes).unwrap_or(0);
        Time::constant(part(self.minutes / 60), part(self.minutes % 60), 0, 0)
    }

    /// The next moment, now or later, at which a clock in this zone shows this time.
    ///
    /// A time that the zone skips on a day (clocks go forward) comes when that day's clocks have gone forward by as much as
    /// is missing; of a time that comes twice the first is meant.
    #[must_use]
    pub fn next(self, now: Timestamp, zone: &TimeZone) -> Timestamp {
        let here = now.to_zoned(zone.clone());
        [0, 1, 2].into_iter().find_map(|day| self.on(&here, day).filter(|at| *at >= now)).unwrap_or(now)
    }

    /// The moment of this time on the day so many days after the one on which it is `here`.
    fn on(self, here: &Zoned, days: i32) -> Option<Timestamp> {
        let date = here.date().checked_add(days.days()).ok()?;
        Some(date.to_datetime(self.time()).to_zoned(here.time_zone().clone()).ok()?.timestamp())
    }

    /// The moment of this time on the day of `date` in a zone.
    #[must_use]
    pub fn on_day_of(self, date: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        self.on(&date.to_zoned(zone.clone()), 0)
    }
}

impl fmt::Display for DayTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.minutes / 60, self.minutes % 60)
    }
}

impl FromStr for DayTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "not a time of day: write 09:00, up to 23:59".to_owned();
        let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
        let number = |digits: &str| {
            let plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            if plain { digits.parse::<u16>().ok() } else { None }
        };
        let (hours, minutes) = number(hours).zip(number(minutes)).ok_or_else(wrong)?;
        let total = hours * 60 + minutes;
        if minutes < 60 && total < DAY_MINUTES { Ok(Self { minutes: total }) } else { Err(wrong()) }
    }
}

/// Hours of the day in which no mail of a journey goes out, perhaps over midnight: `21:00-08:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuietHours {
    from: DayTime,
    until: DayTime,
}

impl QuietHours {
    /// The end of the quiet hours that `now` lies in; `None`: it lies in none.
    #[must_use]
    pub fn end(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let here = now.to_zoned(zone.clone());
        // Those that began today or the day before; each ends on the day it begins, or the next.
        let ends_after = i32::from(self.until <= self.from);
        [-1, 0].into_iter().find_map(|day| {
            let (from, until) = (self.from.on(&here, day)?, self.until.on(&here, day + ends_after)?);
            (from <= now && now < until).then_some(until)
        })
    }
}

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.from, self.until)
    }
}

impl FromStr for QuietHours {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, until) = text.split_once('-').ok_or_else(|| "must be as in 21:00-08:00".to_owned())?;
        let (from, until) = (from.trim().parse()?, until.trim().parse()?);
        if from == until { Err("begins when it ends".to_owned()) } else { Ok(Self { from, until }) }
    }
}

/// Serde through text, for the types of this file.
macro_rules! as_text {
    ($($name:ident),+) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
as_text!(DayTime, QuietHours);

#[cfg(test)]
mod tests;
