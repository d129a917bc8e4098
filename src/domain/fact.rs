//! A fact: the tenant's own key for what a mail is about, taken by the first mail that states it.

use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::quantity::HumanDuration;

/// Characters in a fact.
pub const FACT_CHARS_MAX: usize = 255;
/// The longest window that ends: 400 days.
pub const WINDOW_MAX: Duration = Duration::from_hours(400 * 24);

/// What a submission asks: at most one mail for this fact within this window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dedupe {
    /// The fact, 1 to 255 characters without control characters, e.g. `welcome/PASS1`; its scope is the tenant.
    pub fact: String,
    /// For how long the first mail answers for it.
    pub window: Window,
}

/// For how long a fact is taken, counted from the acceptance of the mail that took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Window {
    /// So long; more than nothing, at most [`WINDOW_MAX`].
    Within(HumanDuration),
    /// For good.
    Forever,
}

impl Window {
    /// When the fact of a mail accepted at `accepted_at` is free again; `None`: never.
    #[must_use]
    pub fn ends_at(self, accepted_at: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Within(length) => Some(accepted_at.checked_add(length.0).unwrap_or(Timestamp::MAX)),
            Self::Forever => None,
        }
    }
}

impl FromStr for Window {
    type Err = String;

    /// The error never repeats the text.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("forever") {
            return Ok(Self::Forever);
        }
        let length: HumanDuration =
            text.parse().map_err(|_| "not a window: a length of time such as 12h or 30d, or forever".to_owned())?;
        if length.0.is_zero() || length.0 > WINDOW_MAX {
            return Err("a window is longer than nothing and at most 400d, or forever".to_owned());
        }
        Ok(Self::Within(length))
    }
}

/// A fact on its way into the store, with the message that states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The fact.
    pub name: String,
    /// When it is free again; `None`: never.
    pub expires_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    #[test]
    fn a_window_is_a_length_of_time_or_forever() {
        let within = |seconds| Window::Within(HumanDuration::from_secs(seconds));
        for (text, window) in
            [("1ms", Window::Within(HumanDuration(Duration::from_millis(1)))), ("30d", within(2_592_000))]
        {
            assert_eq!(text.parse(), Ok(window), "{text}");
        }
        assert_eq!("400d".parse(), Ok(Window::Within(HumanDuration(WINDOW_MAX))));
        assert_eq!("Forever".parse(), Ok(Window::Forever));
        for text in ["", "0s", "401d", "30", "never", "-1d", "forever!"] {
            let error = text.parse::<Window>().unwrap_err();
            assert!(text.is_empty() || !error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn a_window_ends_so_long_after_the_acceptance_or_never() {
        let at = Timestamp::UNIX_EPOCH;
        let minute = "1m".parse::<Window>().unwrap();
        assert_eq!(minute.ends_at(at).unwrap().as_second(), 60);
        assert_eq!(Window::Forever.ends_at(at), None);
        assert_eq!(minute.ends_at(Timestamp::MAX), Some(Timestamp::MAX));
    }
}
