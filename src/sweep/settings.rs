//! `[retention]`: how long what has ended is kept.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::quantity::HumanDuration;

const DAY: u64 = 86_400;

/// `[retention]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, expecting = "a table")]
pub struct RetentionSettings {
    /// A mail's content, after the mail has ended.
    pub content: Keep,
    /// A mail's row, with its recipient and subject, after the mail has ended.
    pub messages: Keep,
    /// Leaves of the audit. They name nobody; only "forever" for now.
    pub audit: Keep,
    /// Mails in one transaction.
    pub batch: usize,
}

impl Default for RetentionSettings {
    fn default() -> Self {
        Self {
            content: Keep::For(HumanDuration::from_secs(7 * DAY)),
            messages: Keep::For(HumanDuration::from_secs(400 * DAY)),
            audit: Keep::Forever,
            batch: 200,
        }
    }
}

/// How long something is kept: `"7d"`, or `"forever"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Keep {
    /// So long.
    For(HumanDuration),
    /// For good.
    Forever,
}

impl Keep {
    /// For how long, if it ends.
    #[must_use]
    pub const fn length(self) -> Option<Duration> {
        match self {
            Self::For(length) => Some(length.0),
            Self::Forever => None,
        }
    }
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "forever" {
            return Ok(Self::Forever);
        }
        text.parse().map(Self::For).map_err(|error: String| format!("{error}, or \"forever\""))
    }
}

impl TryFrom<String> for Keep {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(length) => length.fmt(f),
            Self::Forever => f.write_str("forever"),
        }
    }
}

impl From<Keep> for String {
    fn from(keep: Keep) -> Self {
        keep.to_string()
    }
}
