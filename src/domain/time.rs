//! How a time is written for others: RFC 3339 in UTC with exactly three decimals and `Z`, as the store keeps it.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// The time as text, e.g. `2030-01-31T09:00:00.000Z`: equal times are equal texts.
#[must_use]
pub fn text(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// A time as [`text`] writes it, for `#[serde(serialize_with = …)]`.
pub fn write<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{at:.3}"))
}

/// The same for a time that may not be there.
pub fn write_or_null<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(text).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_three_decimals_whatever_it_is() {
        for (nanoseconds, written) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (100_000_000, "1970-01-01T00:00:00.100Z"),
            (123_999_999, "1970-01-01T00:00:00.123Z"),
            (999_999_999, "1970-01-01T00:00:00.999Z"),
        ] {
            assert_eq!(Timestamp::from_nanosecond(nanoseconds).map(text).ok().as_deref(), Some(written));
        }
    }
}
