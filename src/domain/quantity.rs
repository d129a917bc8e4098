//! Quantities as people write them in a configuration: durations, sizes, rates, shares.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Serde through text, for the types of this file.
macro_rules! as_text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}

/// A length of time written `"90s"`, `"15m"`, `"2h"`, `"7d"` or `"250ms"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HumanDuration(pub Duration);

/// Units of a duration in milliseconds, the largest first.
const DURATION_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// No duration is longer than this: a hundred years.
const DURATION_MS_MAX: u64 = 100 * 365 * 86_400_000;

impl HumanDuration {
    /// So many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl FromStr for HumanDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a duration: write a number and ms, s, m, h or d, as in \"90s\"");
        let (digits, unit) = split_number(text).ok_or_else(wrong)?;
        let factor = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
        let millis = digits.checked_mul(factor).filter(|ms| *ms <= DURATION_MS_MAX);
        millis
            .map(|ms| Self(Duration::from_millis(ms)))
            .ok_or_else(|| format!("{text:?} is longer than a hundred years"))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return f.write_str("0s");
        }
        let whole = DURATION_UNITS.iter().find(|(_, factor)| millis.is_multiple_of(*factor));
        let (unit, factor) = whole.copied().unwrap_or(("ms", 1));
        write!(f, "{}{unit}", millis / factor)
    }
}

as_text!(HumanDuration);

/// A number of bytes written `"5MiB"`, `"64KiB"`, `"1GiB"` or `"512B"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

/// Units of a size in bytes, the largest first.
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl ByteSize {
    /// As a length in memory.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a size: write a number and B, KiB, MiB or GiB, as in \"5MiB\"");
        let (digits, unit) = split_number(text).ok_or_else(wrong)?;
        let factor = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
        digits.checked_mul(factor).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = SIZE_UNITS.iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        let (unit, factor) = whole.copied().unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

as_text!(ByteSize);

/// So many per second, minute, hour, day or several of these: `"100/s"`, `"20/h"`, `"3/7d"`, `"100/s,burst=200"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    /// How many in one `per`.
    pub count: u32,
    /// The length of time they are counted over.
    pub per: Duration,
    /// How many may come at once, when that was written.
    pub burst: Option<u32>,
}

/// Units of the time of a rate in seconds, the largest first.
const RATE_UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
/// No burst takes longer than this to come back.
const REFILL_MAX: Duration = Duration::from_millis(DURATION_MS_MAX);

impl Rate {
    /// The time in which one comes back.
    #[must_use]
    pub fn period(self) -> Duration {
        (self.per / self.count.max(1)).max(Duration::from_nanos(1))
    }

    /// The time in which the whole burst comes back.
    #[must_use]
    pub fn refill(self) -> Duration {
        self.period().saturating_mul(self.burst())
    }

    /// How many may come at once; one second's worth and at least 1, when nothing else was written.
    #[must_use]
    pub fn burst(self) -> u32 {
        self.burst.unwrap_or_else(|| self.second_worth())
    }

    /// One second's worth, at least 1.
    #[must_use]
    pub fn second_worth(self) -> u32 {
        u32::try_from(u64::from(self.count) / self.per.as_secs().max(1)).unwrap_or(u32::MAX).max(1)
    }

    /// What they are counted over, in the largest unit of which it is a whole number.
    fn per_in_units(self) -> (u64, &'static str) {
        let seconds = self.per.as_secs();
        let fits = |(_, length): &&(&str, u64)| seconds.is_multiple_of(*length);
        RATE_UNITS.iter().find(fits).map_or((seconds, "s"), |(unit, length)| (seconds / length, *unit))
    }

    /// As people say it: `20 mails an hour`, when `thing` is a mail.
    #[must_use]
    pub fn in_words(self, thing: &str) -> String {
        let plural = if self.count == 1 { "" } else { "s" };
        let each = match self.per_in_units() {
            (1, "s") => "a second".to_owned(),
            (1, "m") => "a minute".to_owned(),
            (1, "h") => "an hour".to_owned(),
            (1, "d") => "a day".to_owned(),
            (several, unit) => format!("in {several}{unit}"),
        };
        format!("{} {thing}{plural} {each}", self.count)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a rate: write \"100/s\", \"20/h\", \"3/7d\" or \"100/s,burst=200\"");
        let (rate, burst) = match text.split_once(",burst=") {
            Some((rate, burst)) => (rate, Some(burst.parse::<u32>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let (count, unit) = rate.split_once('/').ok_or_else(wrong)?;
        let count = count.parse::<u32>().map_err(|_| wrong())?;
        let (several, unit) = split_number(unit).unwrap_or((1, unit));
        let length = RATE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
        let seconds = several.checked_mul(length).filter(|seconds| *seconds <= REFILL_MAX.as_secs());
        let per = Duration::from_secs(seconds.ok_or_else(|| format!("{text:?} is over more than a hundred years"))?);
        if count == 0 || burst == Some(0) || per.is_zero() {
            return Err(format!("{text:?}: a rate, its burst and its time are at least 1"));
        }
        let rate = Self { count, per, burst };
        if rate.refill() > REFILL_MAX {
            return Err(format!("{text:?}: such a burst takes longer than a hundred years to come back"));
        }
        Ok(rate)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per_in_units() {
            (1, unit) => write!(f, "{}/{unit}", self.count)?,
            (several, unit) => write!(f, "{}/{several}{unit}", self.count)?,
        }
        self.burst.map_or(Ok(()), |burst| write!(f, ",burst={burst}"))
    }
}

as_text!(Rate);

/// A rate that something may not exceed, or `"none"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Limit {
    /// Not limited.
    Unlimited,
    /// At most this.
    AtMost(Rate),
}

impl Limit {
    /// The rate, if there is a limit.
    #[must_use]
    pub const fn rate(self) -> Option<Rate> {
        match self {
            Self::Unlimited => None,
            Self::AtMost(rate) => Some(rate),
        }
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::Unlimited);
        }
        text.parse().map(Self::AtMost).map_err(|wrong: String| format!("{wrong}, or \"none\""))
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("none"),
            Self::AtMost(rate) => rate.fmt(f),
        }
    }
}

as_text!(Limit);

/// A part of a whole, `0.0` to `1.0`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Share(f64);

impl Share {
    /// Nothing.
    pub const NONE: Self = Self(0.0);
    /// A quarter.
    pub const QUARTER: Self = Self(0.25);
    /// Half.
    pub const HALF: Self = Self(0.5);
    /// Three quarters.
    pub const THREE_QUARTERS: Self = Self(0.75);

    /// A share of `part`, which must lie in `0.0..=1.0`.
    pub fn new(part: f64) -> Result<Self, String> {
        if (0.0..=1.0).contains(&part) {
            Ok(Self(part))
        } else {
            Err(format!("{part} is not a share: write 0.0 to 1.0"))
        }
    }

    /// This share of `whole`, rounded up.
    #[must_use]
    pub fn of(self, whole: u32) -> u32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 ≤ share × whole ≤ u32::MAX")]
        let part = (self.0 * f64::from(whole)).ceil() as u32;
        part
    }

    /// This share of `whole`, rounded down.
    #[must_use]
    pub fn of_rounded_down(self, whole: u32) -> u32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 ≤ share × whole ≤ u32::MAX")]
        let part = (self.0 * f64::from(whole)).floor() as u32;
        part
    }
}

impl TryFrom<f64> for Share {
    type Error = String;

    fn try_from(part: f64) -> Result<Self, String> {
        Self::new(part)
    }
}

impl From<Share> for f64 {
    fn from(share: Share) -> Self {
        share.0
    }
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    #[test]
    fn quantities_read_back_as_written() {
        for text in ["90s", "15m", "2h", "7d", "250ms", "36h", "0s"] {
            assert_eq!(text.parse::<HumanDuration>().unwrap().to_string(), text);
        }
        for text in ["5MiB", "1KiB", "3GiB", "17B"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        assert_eq!("60s".parse::<HumanDuration>().unwrap().to_string(), "1m");
        assert_eq!("100/s".parse::<Rate>().unwrap(), Rate { count: 100, per: Duration::from_secs(1), burst: None });
        for (text, burst) in [("100/s", 100), ("20/h", 1), ("100/s,burst=200", 200), ("20/h,burst=1", 1), ("3/7d", 1)] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(
                (rate.to_string().as_str(), rate.burst()),
                (text, burst),
                "a burst is told only when it was written"
            );
        }
        assert_eq!("none".parse::<Limit>().unwrap(), Limit::Unlimited);
        assert_eq!("100/s,burst=200".parse::<Limit>().unwrap().to_string(), "100/s,burst=200");
    }

    #[test]
    fn a_rate_says_how_it_comes_back() {
        let rate: Rate = "200/s,burst=400".parse().unwrap();
        assert_eq!((rate.period(), rate.refill()), (Duration::from_millis(5), Duration::from_secs(2)));
        assert_eq!("20/h".parse::<Rate>().unwrap().in_words("mail"), "20 mails an hour");
        assert_eq!("1/d".parse::<Rate>().unwrap().in_words("mail"), "1 mail a day");
        let week: Rate = "3/7d".parse().unwrap();
        assert_eq!((week.per, week.in_words("mail")), (Duration::from_hours(7 * 24), "3 mails in 7d".to_owned()));
        assert_eq!("5/60m".parse::<Rate>().unwrap().to_string(), "5/h", "equal rates are equal texts");
    }

    #[test]
    fn what_is_not_a_quantity_is_refused_with_an_example() {
        for text in ["", "s", "90", "90 parsecs", "-1s", "99999999999999999999d", "1e3s"] {
            assert!(text.parse::<HumanDuration>().is_err(), "{text}");
        }
        for text in ["", "5", "5MB", "-5MiB", "99999999999999999GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        for text in [
            "",
            "100",
            "100/y",
            "0/s",
            "1/s,burst=0",
            "x/s",
            "1/d,burst=4000000000",
            "1/0d",
            "1/40000d",
            "1/5",
            "1/-1d",
        ] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        assert!(Share::new(1.5).is_err() && Share::new(f64::NAN).is_err());
        assert_eq!(Share::new(0.25).unwrap().of(5), 2);
    }
}
