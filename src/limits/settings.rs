//! `[limits]`: how much one caller, one tenant, one recipient and the whole house may be asked for.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::quantity::{ByteSize, Limit, Rate};
use crate::domain::rates::DomainRates;

/// The section `[limits]` of `postern.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, expecting = "a table")]
pub struct LimitsSettings {
    /// Requests of one API key that has no limit of its own.
    pub per_key: Limit,
    /// Submissions of one tenant, all its keys together. A tenant's file may say otherwise.
    pub per_tenant: Limit,
    /// Mails accepted for one recipient of one tenant within the rate's time. A tenant's file may say otherwise.
    pub per_recipient: Limit,
    /// Failed authentications from one client address.
    pub failed_auth: Limit,
    /// How often what was said by one unsubscribe link may be taken back by it.
    pub per_link: Limit,
    /// Callers that each of these limits remembers at once; one more waits until another is forgotten.
    pub tracked_max: NonZeroU32,
    /// Live mails: above this no more are taken.
    pub queue_max: NonZeroU64,
    /// Room left on the store's disk: below this no more mails are taken.
    pub disk_free_min: ByteSize,
    /// Attempts per recipient domain, over all relays. Delivery's affair; here because it is written here.
    pub relay_domains: DomainRates,
}

impl Default for LimitsSettings {
    fn default() -> Self {
        let (second, hour) = (Duration::from_secs(1), Duration::from_hours(1));
        Self {
            per_key: Limit::AtMost(Rate { count: 200, per: second, burst: Some(400) }),
            per_tenant: Limit::Unlimited,
            per_recipient: Limit::AtMost(Rate { count: 20, per: hour, burst: None }),
            failed_auth: Limit::AtMost(Rate { count: 10, per: second, burst: Some(50) }),
            per_link: Limit::AtMost(Rate { count: 10, per: hour, burst: Some(10) }),
            tracked_max: NonZeroU32::MIN.saturating_add(99_999),
            queue_max: NonZeroU64::MIN.saturating_add(4_999_999),
            disk_free_min: ByteSize(256 << 20),
            relay_domains: DomainRates::default(),
        }
    }
}
