//! How much may be asked of the house: who has used up a quota, and whether there is room for more mail at all.
//!
//! # Who is who
//!
//! * **Quotas** hold what each key, tenant or stranger has used, as GCRA (governor) counts it: one limiter for each rate,
//!   since a limiter has one quota for all its keys.
//! * A **standing** is what a quota says of one request: let in or not, what is left, and when there is more.
//! * **Headroom** knows whether the queue or the disk is too full to take more mail. A task of the hall tells it.
//!
//! # What is promised
//!
//! * Memory is bounded: no limiter remembers more callers than `limits.tracked_max`. When it is full it forgets those who
//!   have their whole quota back; if it still is, it refuses the callers it does not know (it fails closed).
//! * Keys, tenants and links count only once they are known to be some. The one thing counted that anybody may choose is the client
//!   address of a failed authentication, and of an IPv6 address only its first 64 bits, which is what one customer gets.
//! * A clock that is set back locks nobody out.
//!
//! Not here: how many mails one recipient gets. That is counted in the store, in the transaction that accepts, so that
//! a restart does not forget (`store`, `Acceptance::RecipientLimited`).

mod bounded;
mod headroom;
mod quotas;
pub mod settings;
mod steady;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

pub use self::headroom::{Counting, Headroom, Shortage};
pub use self::quotas::Standing;

use self::quotas::Quotas;
use self::settings::LimitsSettings;
use crate::clock::Clock;
use crate::domain::ids::{KeyId, TenantId};
use crate::domain::key::ApiKey;
use crate::domain::network::Network;
use crate::domain::quantity::Limit;
use crate::domain::suppression::link::UnsubscribeToken;

/// Addresses of IPv6 that share so many leading bits are one client: a customer is given at least as much.
const IPV6_CLIENT_BITS: u8 = 64;
/// All bits of an IPv4 address.
const IPV4_CLIENT_BITS: u8 = 32;

/// All limits at the door.
pub struct Limits {
    rules: RwLock<Rules>,
    keys: Quotas<KeyId>,
    tenants: Quotas<TenantId>,
    strangers: Quotas<IpAddr>,
    links: Quotas<UnsubscribeToken>,
    headroom: Headroom,
    /// Failures refused since somebody asked.
    strangers_refused: AtomicU64,
}

/// What holds until the settings are read again.
#[derive(Clone, Copy)]
struct Rules {
    per_key: Limit,
    failed_auth: Limit,
    per_link: Limit,
}

impl Rules {
    fn of(settings: &LimitsSettings) -> Self {
        Self { per_key: settings.per_key, failed_auth: settings.failed_auth, per_link: settings.per_link }
    }
}

impl Limits {
    /// Nothing is used up yet.
    #[must_use]
    pub fn new(settings: &LimitsSettings, clock: &Arc<dyn Clock>) -> Self {
        let tracked_max = usize::try_from(settings.tracked_max.get()).unwrap_or(usize::MAX);
        Self {
            rules: RwLock::new(Rules::of(settings)),
            keys: Quotas::new(clock, tracked_max),
            tenants: Quotas::new(clock, tracked_max),
            strangers: Quotas::new(clock, tracked_max),
            links: Quotas::new(clock, tracked_max),
            headroom: Headroom::new(settings),
            strangers_refused: AtomicU64::new(0),
        }
    }

    /// Other settings hold from now on, but for `tracked_max`, which needs a restart. Who keeps a rate keeps what is used.
    pub fn change(&self, settings: &LimitsSettings) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Rules::of(settings);
        self.headroom.change(settings);
    }

    fn rules(&self) -> Rules {
        *self.rules.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request with this key; `None` when it is not limited.
    pub fn request(&self, key: &ApiKey) -> Option<Standing> {
        key.limit.unwrap_or(self.rules().per_key).rate().map(|rate| self.keys.take(&key.id, rate))
    }

    /// One submission of this tenant; `None` when it is not limited.
    pub fn submission(&self, tenant: &TenantId, limit: Limit) -> Option<Standing> {
        limit.rate().map(|rate| self.tenants.take(tenant, rate))
    }

    /// One failed authentication from this address; `None` when they are not limited.
    pub fn failure(&self, client: IpAddr) -> Option<Standing> {
        let rate = self.rules().failed_auth.rate()?;
        let standing = self.strangers.take(&stranger(client), rate);
        self.strangers_refused.fetch_add(standing.is_refused().into(), Ordering::Relaxed);
        Some(standing)
    }

    /// What is left to this address of failed authentications, none of them counted; `None` when they are not limited.
    pub fn failures_left(&self, client: IpAddr) -> Option<Standing> {
        let rate = self.rules().failed_auth.rate()?;
        let standing = self.strangers.look(&stranger(client), rate);
        self.strangers_refused.fetch_add(standing.is_refused().into(), Ordering::Relaxed);
        Some(standing)
    }

    /// What was said by this link is taken back once; `None` when that is not limited.
    pub fn link(&self, token: UnsubscribeToken) -> Option<Standing> {
        self.rules().per_link.rate().map(|rate| self.links.take(&token, rate))
    }

    /// How many failed authentications were refused since this was asked last.
    pub fn strangers_refused(&self) -> u64 {
        self.strangers_refused.swap(0, Ordering::Relaxed)
    }

    /// Whether there is room for more mail.
    #[must_use]
    pub fn headroom(&self) -> &Headroom {
        &self.headroom
    }

    /// Forgets callers who have their whole quota back. For economy; whoever is full does it at once.
    pub fn tidy(&self) {
        self.keys.tidy();
        self.tenants.tidy();
        self.strangers.tidy();
        self.links.tidy();
    }
}

/// By what an address is known: of IPv6, its network.
fn stranger(client: IpAddr) -> IpAddr {
    let bits = if client.to_canonical().is_ipv4() { IPV4_CLIENT_BITS } else { IPV6_CLIENT_BITS };
    Network::around(client, bits).address()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use crate::clock::ManualClock;
    use jiff::Timestamp;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::num::NonZeroU32;
    use std::time::Duration;

    fn limits(tracked_max: u32) -> (Limits, ManualClock) {
        let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
        let tracked_max = NonZeroU32::new(tracked_max).unwrap();
        let settings = LimitsSettings {
            failed_auth: "1/s,burst=2".parse().unwrap(),
            per_key: "10/s".parse().unwrap(),
            tracked_max,
            ..LimitsSettings::default()
        };
        (Limits::new(&settings, &(Arc::new(clock.clone()) as Arc<dyn Clock>)), clock)
    }

    fn key(number: u128, limit: Option<Limit>) -> ApiKey {
        ApiKey {
            id: KeyId::from_uuid(uuid::Uuid::from_u128(number)),
            tenant: "demo".parse().unwrap(),
            name: "till".into(),
            scopes: Vec::new(),
            limit,
            mac: [0; 32],
            created_at: Timestamp::UNIX_EPOCH,
            revoked_at: None,
        }
    }

    #[test]
    fn a_million_addresses_are_never_more_than_may_be_remembered_and_the_known_are_still_told_apart() {
        let (limits, clock) = limits(10_000);
        for number in 0..1_000_000_u32 {
            let client = IpAddr::V4(Ipv4Addr::from(number));
            // The last that have room use up what they have.
            let refused = limits.failure(client).unwrap().is_refused();
            assert_eq!(refused, number >= 10_000, "{number}: what is not known is refused");
        }
        assert_eq!(limits.strangers.remembered(), 10_000);
        let known = IpAddr::V4(Ipv4Addr::from(7));
        assert!(!limits.failure(known).unwrap().is_refused(), "its second");
        assert!(limits.failure(known).unwrap().is_refused());
        clock.advance(Duration::from_secs(10));
        assert!(!limits.failure(IpAddr::V4(Ipv4Addr::from(999_999))).unwrap().is_refused(), "there is room again");
        limits.tidy();
        assert_eq!(limits.strangers.remembered(), 1);
    }

    #[test]
    fn looking_at_what_is_left_takes_nothing_and_shuts_out_nobody_who_is_unknown() {
        let (limits, _clock) = limits(1);
        let (known, other) = (IpAddr::V4(Ipv4Addr::from(7)), IpAddr::V4(Ipv4Addr::from(8)));
        for _ in 0..5 {
            assert!(!limits.failures_left(known).unwrap().is_refused());
        }
        assert!(!limits.failure(known).unwrap().is_refused() && !limits.failure(known).unwrap().is_refused());
        assert!(limits.failures_left(known).unwrap().is_refused());
        assert!(!limits.failures_left(other).unwrap().is_refused(), "there is no place for it, and it failed nothing");
    }

    #[test]
    fn addresses_of_ipv6_are_counted_by_their_first_64_bits_and_ipv4_within_it_as_ipv4() {
        let (limits, _clock) = limits(100);
        let mine = |low: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 0, low));
        assert!(!limits.failure(mine(1)).unwrap().is_refused());
        assert!(!limits.failure(mine(2)).unwrap().is_refused());
        assert!(limits.failure(mine(3)).unwrap().is_refused(), "the same customer");
        let other = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 3, 0, 0, 0, 1));
        assert!(!limits.failure(other).unwrap().is_refused());
        let (plain, mapped) = ("203.0.113.9".parse().unwrap(), "::ffff:203.0.113.9".parse().unwrap());
        assert!(!limits.failure(plain).unwrap().is_refused() && !limits.failure(mapped).unwrap().is_refused());
        assert!(limits.failure(plain).unwrap().is_refused());
        assert_eq!([limits.strangers_refused(), limits.strangers_refused()], [2, 0]);
    }

    #[test]
    fn other_settings_hold_at_once_and_what_was_used_at_the_same_rate_stays_used() {
        let (limits, _clock) = limits(100);
        let (common, own) = (key(1, None), key(2, Some("1/s".parse().unwrap())));
        assert!(!limits.request(&own).unwrap().is_refused());
        let per_key = "3/s".parse().unwrap();
        limits.change(&LimitsSettings { per_key, failed_auth: Limit::Unlimited, ..LimitsSettings::default() });
        assert_eq!(limits.request(&common).unwrap().remaining, 2);
        assert!(limits.request(&own).unwrap().is_refused());
        assert_eq!(limits.failure("203.0.113.9".parse().unwrap()), None);
    }

    #[test]
    fn a_key_with_a_limit_of_its_own_has_that_and_leaves_the_others_theirs() {
        let (limits, clock) = limits(100);
        let own = key(1, Some("1/s".parse().unwrap()));
        let free = key(2, Some(Limit::Unlimited));
        let common = key(3, None);
        assert!(!limits.request(&own).unwrap().is_refused());
        let refused = limits.request(&own).unwrap();
        assert_eq!((refused.wait, refused.remaining), (Some(Duration::from_secs(1)), 0));
        assert_eq!(limits.request(&free), None);
        for left in (0..10).rev() {
            assert_eq!(limits.request(&common).unwrap().remaining, left);
        }
        assert_eq!(limits.request(&common).unwrap().wait, Some(Duration::from_millis(100)));
        clock.advance(Duration::from_millis(100));
        assert!(!limits.request(&common).unwrap().is_refused());
        assert!(limits.request(&own).unwrap().is_refused());
    }
}
