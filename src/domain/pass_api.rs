//! A tenant's Pass API: where it is, how it may be asked, and what it says of a pass.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use super::outgoing_url::OutgoingUrl;
use super::pass_event::Wallet;
use super::quantity::{Limit, Share};
use super::secret::Secret;

/// How a tenant's Pass API is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassApi {
    /// Its base: what stands before `/api/…`.
    pub url: OutgoingUrl,
    /// The platform's name of the tenant.
    pub tenant: String,
    /// The API key; its scope is `Pass.Read`.
    pub key: Secret,
    /// Where the key is written, for whoever has to mend it: a file and a key of it.
    pub key_written: String,
    /// How the API is to be asked.
    pub manners: Manners,
    /// When passes are read each day; `None`: only by command.
    pub daily: Option<Daily>,
}

/// How an API is to be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Manners {
    /// Passes in one page.
    pub page_size: u32,
    /// Bytes of one page at most.
    pub page_bytes_max: usize,
    /// The word for the order of creation, the oldest first.
    pub direction: String,
    /// Requests.
    pub rate: Limit,
    /// How long one request may take.
    pub timeout: Duration,
    /// How often a request that failed is made again.
    pub retries: u32,
    /// Of the passes in our ledger's wallets at most this share may be missing at the API to be believed.
    pub missing_max: Share,
    /// So few may be missing whatever share they are, as long as the API knows any pass.
    pub missing_believed: u32,
    /// A run that takes longer ends early, and can be gone on with.
    pub run_max: Duration,
    /// A run that has not ended so long after it was begun is not gone on with: the next one begins anew.
    pub run_age_max: Duration,
}

// A share is a number that is one.
impl Eq for Manners {}

/// A time of day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daily {
    /// On the clock,
    pub at: Time,
    /// of this zone.
    pub zone: TimeZone,
}

impl Daily {
    /// The last such moment that is not after `now`. One that a change of the clocks leaves out is moved by as much.
    #[must_use]
    pub fn last_before(&self, now: Timestamp) -> Timestamp {
        let today = now.to_zoned(self.zone.clone()).date();
        let on = |date: jiff::civil::Date| {
            let zoned = date.to_datetime(self.at).to_zoned(self.zone.clone());
            zoned.map(|zoned| zoned.timestamp()).ok().filter(|at| *at <= now)
        };
        let yesterday = today.checked_sub(1.day()).ok();
        on(today).or_else(|| yesterday.and_then(on)).unwrap_or(Timestamp::MIN)
    }
}

/// What the API says of a pass. Its `secret` is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiPass {
    /// The pass's id.
    pub id: String,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// Its type.
    pub pass_type: Option<String>,
    /// Its identifiers, normalised.
    pub identifiers: BTreeMap<String, String>,
    /// Apple Wallet.
    pub apple: ApiWallet,
    /// Google Wallet.
    pub google: ApiWallet,
}

impl ApiPass {
    /// What is said of one wallet.
    #[must_use]
    pub fn in_wallet(&self, wallet: Wallet) -> ApiWallet {
        match wallet {
            Wallet::Apple => self.apple,
            Wallet::Google => self.google,
        }
    }
}

/// What the API says of a pass in one wallet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiWallet {
    /// It is there; since then, if that is said.
    Installed(Option<Timestamp>),
    /// It is not there.
    Absent,
    /// Something we do not understand: nothing is made of it.
    NotUnderstood,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    #[test]
    fn the_daily_moment_is_one_of_the_clock_on_the_wall() {
        for (zone, now, last) in [
            ("UTC", "2026-03-01T03:29:59Z", "2026-02-28T03:30:00Z"),
            ("UTC", "2026-03-01T03:30:00Z", "2026-03-01T03:30:00Z"),
            ("Europe/Paris", "2026-07-01T01:30:00Z", "2026-07-01T01:30:00Z"),
            ("Europe/Paris", "2026-01-01T02:29:00Z", "2025-12-31T02:30:00Z"),
            ("America/New_York", "2026-07-01T00:00:00Z", "2026-06-30T07:30:00Z"),
        ] {
            let daily = Daily { at: jiff::civil::time(3, 30, 0, 0), zone: TimeZone::get(zone).unwrap() };
            let (now, last): (Timestamp, Timestamp) = (now.parse().unwrap(), last.parse().unwrap());
            assert_eq!(daily.last_before(now), last, "{zone} {now}");
        }
    }

    #[test]
    fn a_moment_that_the_clocks_leave_out_is_moved() {
        let daily = Daily { at: jiff::civil::time(2, 30, 0, 0), zone: TimeZone::get("Europe/Paris").unwrap() };
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(daily.last_before(at("2026-03-29T12:00:00Z")), at("2026-03-29T01:30:00Z"));
    }
}
