//! How delivery stands, in numbers, as shown to operators: what is limited now, by what, and when it goes on.
//!
//! Everything here is a picture of one moment. Nothing decides by it.

use std::fmt;
use std::iter::Sum;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::ids::{RelayName, TenantId};
use super::lane::{Lane, PerLane};
use super::quantity::Rate;
use super::relay::{Alarm, BreakerState};
use super::time;

/// How delivery stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// When this was so.
    #[serde(serialize_with = "time::write")]
    pub at: Timestamp,
    /// Every relay, by name.
    pub relays: Vec<RelayView>,
    /// Recipient domains that are limited or backed off now; a bounded list.
    pub domains: Vec<DomainView>,
    /// How many more such domains there are.
    pub domains_more: usize,
    /// Every lane.
    pub lanes: PerLane<LaneView>,
    /// What was done per second, over the last minute.
    pub pace: Pace,
    /// Why nothing is started at all, when that is so.
    pub pause: Option<Binding>,
}

/// How one relay stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayView {
    /// Which.
    pub name: RelayName,
    /// Its breaker.
    pub breaker: BreakerState,
    /// The last trouble in words of ours, while the breaker is not closed.
    pub trouble: Option<String>,
    /// What an operator must see to, while the breaker is not closed.
    pub alarm: Option<Alarm>,
    /// Until then the breaker lets nothing pass.
    #[serde(serialize_with = "time::write_or_null")]
    pub shut_until: Option<Timestamp>,
    /// Until then the relay asked to be left alone.
    #[serde(serialize_with = "time::write_or_null")]
    pub back_off_until: Option<Timestamp>,
    /// Its rate, when it has one.
    pub rate: Option<RateView>,
    /// Sessions as configured.
    pub sessions: u32,
    /// Sessions allowed now: fewer while the relay comes back, or where it answered that we are too many.
    pub sessions_allowed: u32,
    /// Sessions each lane uses now.
    pub busy: PerLane<u32>,
    /// How many sessions the relay's replies taught us to use; none while it takes all.
    pub learned_sessions: Option<Learned<u32>>,
    /// What was done there per second, over the last minute.
    pub pace: Pace,
    /// It is no longer in the configuration; what is under way there ends.
    pub retired: bool,
}

/// How a rate stands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RateView {
    /// As configured.
    #[serde(serialize_with = "rate_text")]
    pub setting: Rate,
    /// Attempts that may begin at once.
    pub left: u32,
    /// When the next may begin, if none may now.
    #[serde(serialize_with = "time::write_or_null")]
    pub next_at: Option<Timestamp>,
}

/// What replies taught us.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Learned<T> {
    /// The value now.
    pub value: T,
    /// Since when it is below what is configured.
    #[serde(serialize_with = "time::write")]
    pub since: Timestamp,
}

/// How one recipient domain is limited.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DomainView {
    /// The domain as A-labels.
    pub domain: String,
    /// Its rate, when one is configured for it.
    pub rate: Option<RateView>,
    /// Attempts per second that the replies taught us to make.
    pub learned_per_second: Option<Learned<f64>>,
    /// Until then it asked to be left alone.
    #[serde(serialize_with = "time::write_or_null")]
    pub back_off_until: Option<Timestamp>,
    /// When the next attempt may begin, if none may now.
    #[serde(serialize_with = "time::write_or_null")]
    pub next_at: Option<Timestamp>,
}

/// How one lane stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LaneView {
    /// Messages in the window: considered now.
    pub in_window: usize,
    /// Messages at a relay, or whose outcome is being written.
    pub in_flight: usize,
}

/// What was done per second.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pace {
    /// Attempts begun.
    pub attempts: f64,
    /// Ended relayed.
    pub relayed: f64,
    /// Ended deferred.
    pub deferred: f64,
    /// Ended bounced.
    pub bounced: f64,
    /// Ended unknown.
    pub unknown: f64,
    /// Given back, unspent.
    pub given_back: f64,
}

impl Sum for Pace {
    fn sum<I: Iterator<Item = Self>>(paces: I) -> Self {
        paces.fold(Self::default(), |sum, pace| Self {
            attempts: sum.attempts + pace.attempts,
            relayed: sum.relayed + pace.relayed,
            deferred: sum.deferred + pace.deferred,
            bounced: sum.bounced + pace.bounced,
            unknown: sum.unknown + pace.unknown,
            given_back: sum.given_back + pace.given_back,
        })
    }
}

/// One rule or limiter that binds a message now, with its numbers. `Display` says it in a sentence.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "rule", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Binding {
    /// The gateway stops: nothing new is begun.
    GatewayStopping,
    /// The store cannot read or write.
    StoreUnwell {
        /// When it is tried again.
        #[serde(serialize_with = "time::write_or_null")]
        until: Option<Timestamp>,
    },
    /// Too many outcomes wait to be written.
    OutcomesWaiting {
        /// How many do.
        count: usize,
        /// How many may.
        max: usize,
    },
    /// None of the tenant's relays is in the configuration, or the tenant itself is not.
    NotConfigured {
        /// Whose message it is.
        tenant: TenantId,
    },
    /// The message is at a relay, or its outcome is being written.
    InFlight {
        /// At which.
        relay: RelayName,
    },
    /// Delivery has not looked at the message yet, or it is not due.
    NotSeen,
    /// It waits behind others of its lane, tenant and domain.
    InWindow {
        /// Its place among them; 1 is next.
        position: usize,
        /// How many there are.
        of: usize,
    },
    /// The relay's breaker lets nothing pass.
    RelayShut {
        /// Which relay.
        relay: RelayName,
        /// When it is greeted again; none while that is being done.
        #[serde(serialize_with = "time::write_or_null")]
        until: Option<Timestamp>,
        /// The last trouble.
        trouble: Option<String>,
    },
    /// The relay asked to be left alone.
    RelayBackOff {
        /// Which relay.
        relay: RelayName,
        /// Until when.
        #[serde(serialize_with = "time::write")]
        until: Timestamp,
    },
    /// The relay's rate is spent, as far as this lane may spend it.
    RelayRateSpent {
        /// Which relay.
        relay: RelayName,
        /// Its rate.
        #[serde(serialize_with = "rate_text")]
        rate: Rate,
        /// When the next attempt of this lane may begin.
        #[serde(serialize_with = "time::write")]
        until: Timestamp,
    },
    /// All sessions that the lane may use are busy.
    SessionsBusy {
        /// At which relay.
        relay: RelayName,
        /// The lane.
        lane: Lane,
        /// Sessions busy, of all lanes.
        busy: u32,
        /// Sessions allowed now, of which some may be reserved for other lanes.
        allowed: u32,
        /// Sessions as configured.
        sessions: u32,
    },
    /// The relay answered that we are too many: fewer sessions are used for a while.
    LearnedSessions {
        /// Which relay.
        relay: RelayName,
        /// Sessions used at most.
        allowed: u32,
        /// Sessions as configured.
        sessions: u32,
        /// Since when.
        #[serde(serialize_with = "time::write")]
        since: Timestamp,
    },
    /// The domain's configured rate is spent.
    DomainRateSpent {
        /// Which domain.
        domain: String,
        /// Its rate.
        #[serde(serialize_with = "rate_text")]
        rate: Rate,
        /// When the next attempt may begin.
        #[serde(serialize_with = "time::write")]
        until: Timestamp,
    },
    /// The replies for this domain taught us to go slower.
    LearnedRate {
        /// Which domain.
        domain: String,
        /// Attempts per second now.
        per_second: f64,
        /// Since when it is slower.
        #[serde(serialize_with = "time::write")]
        since: Timestamp,
        /// When the next attempt may begin.
        #[serde(serialize_with = "time::write")]
        until: Timestamp,
    },
    /// The domain asked to be left alone.
    DomainBackOff {
        /// Which domain.
        domain: String,
        /// Until when.
        #[serde(serialize_with = "time::write")]
        until: Timestamp,
    },
    /// The domain holds as many sessions as one domain may.
    DomainShare {
        /// At which relay.
        relay: RelayName,
        /// Which domain.
        domain: String,
        /// Sessions it holds.
        busy: u32,
        /// Sessions it may hold.
        max: u32,
    },
}

impl Binding {
    /// When the rule lets go by itself, where that is known.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::StoreUnwell { until } | Self::RelayShut { until, .. } => *until,
            Self::RelayBackOff { until, .. }
            | Self::RelayRateSpent { until, .. }
            | Self::DomainRateSpent { until, .. }
            | Self::LearnedRate { until, .. }
            | Self::DomainBackOff { until, .. } => Some(*until),
            Self::GatewayStopping
            | Self::OutcomesWaiting { .. }
            | Self::NotConfigured { .. }
            | Self::InFlight { .. }
            | Self::NotSeen
            | Self::InWindow { .. }
            | Self::SessionsBusy { .. }
            | Self::LearnedSessions { .. }
            | Self::DomainShare { .. } => None,
        }
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GatewayStopping => f.write_str("the gateway stops; it is tried after the next start"),
            Self::StoreUnwell { .. } => f.write_str("the store cannot read or write; nothing is begun until it can"),
            Self::OutcomesWaiting { count, max } => {
                write!(f, "{count} outcomes wait to be written, of {max} at most; the disk must catch up")
            }
            Self::NotConfigured { tenant } => write!(f, "no relay of tenant {tenant} is in the configuration"),
            Self::InFlight { relay } => write!(f, "it is at relay {relay} now, or its outcome is being written"),
            Self::NotSeen => f.write_str("delivery does not hold it now: it is not due, or others fill the window"),
            Self::InWindow { position, of } => {
                write!(f, "it is number {position} of {of} of its lane, tenant and domain")
            }
            Self::RelayShut { relay, until, trouble } => {
                let trouble = trouble.as_deref().unwrap_or("it failed");
                write!(f, "relay {relay} is down ({trouble}); ")?;
                match until {
                    Some(until) => write!(f, "it is greeted again at {}", time::text(*until)),
                    None => f.write_str("it is being greeted"),
                }
            }
            Self::RelayBackOff { relay, until } => {
                write!(f, "relay {relay} asked to be left alone until {}", time::text(*until))
            }
            Self::RelayRateSpent { relay, rate, until } => {
                write!(f, "the rate of relay {relay} ({rate}) is spent until {}", time::text(*until))
            }
            Self::SessionsBusy { relay, lane, busy, allowed, sessions } => write!(
                f,
                "relay {relay} has no free session for {lane}: {busy} busy, {allowed} allowed now, {sessions} configured"
            ),
            Self::LearnedSessions { relay, allowed, sessions, since } => write!(
                f,
                "relay {relay} answered that we are too many: {allowed} of {sessions} sessions since {}",
                time::text(*since)
            ),
            Self::DomainRateSpent { domain, rate, until } => {
                write!(f, "the rate of {domain} ({rate}) is spent until {}", time::text(*until))
            }
            Self::LearnedRate { domain, per_second, since, until } => write!(
                f,
                "{domain} puts us off: {per_second:.1} attempts a second since {}, the next at {}",
                time::text(*since),
                time::text(*until)
            ),
            Self::DomainBackOff { domain, until } => {
                write!(f, "{domain} asked to be left alone until {}", time::text(*until))
            }
            Self::DomainShare { relay, domain, busy, max } => {
                write!(f, "{domain} holds {busy} of the {max} sessions of relay {relay} that one domain may")
            }
        }
    }
}

fn rate_text<S: Serializer>(rate: &Rate, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(rate)
}
