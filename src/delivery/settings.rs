//! `[delivery]`: how mails are tried, and how much of everything at once; and the rates of `limits.relay_domains`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::address::domain_to_ascii;
use crate::domain::quantity::{HumanDuration, Rate, Share};

/// `[delivery]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, expecting = "a table")]
pub struct DeliverySettings {
    /// Delays between attempts; then the last again, ±20 % jitter, until the deadline.
    pub retry: Vec<HumanDuration>,
    /// Messages considered at once, shared out by lane, tenant and domain.
    pub window: usize,
    /// How long attempts past their commit point may take to end when the gateway stops.
    pub shutdown_grace: HumanDuration,
    /// Failures of a relay in a row that open its breaker.
    pub breaker_failures: u32,
    /// The longest time between two looks at a relay whose breaker is open.
    pub breaker_open_max: HumanDuration,
    /// Share of the sessions open to a lane that one recipient domain may take; at least one session.
    pub domain_share: Share,
    /// Recipient domains whose limits and answers are remembered; those beyond share one place.
    pub domains_max: usize,
    /// A relay or domain that asks us to wait is left alone for so long at most.
    pub back_off_max: HumanDuration,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        let minute = 60;
        let hour = 60 * minute;
        Self {
            retry: [30, 2 * minute, 10 * minute, 30 * minute, hour, 2 * hour, 4 * hour]
                .map(HumanDuration::from_secs)
                .into(),
            window: 20_000,
            shutdown_grace: HumanDuration::from_secs(30),
            breaker_failures: 3,
            breaker_open_max: HumanDuration::from_secs(4),
            domain_share: Share::THREE_QUARTERS,
            domains_max: 10_000,
            back_off_max: HumanDuration::from_secs(5 * minute),
        }
    }
}

/// `limits.relay_domains`: attempts per recipient domain; `*` is each other domain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Rate>", into = "BTreeMap<String, Rate>")]
pub struct DomainRates {
    named: BTreeMap<String, Rate>,
    others: Option<Rate>,
}

/// The key that means each domain without a rate of its own.
const OTHERS: &str = "*";

impl DomainRates {
    /// The rate of a domain (A-labels), if it has one.
    #[must_use]
    pub fn of(&self, domain: &str) -> Option<Rate> {
        self.named.get(domain).copied().or(self.others)
    }
}

impl TryFrom<BTreeMap<String, Rate>> for DomainRates {
    type Error = String;

    fn try_from(written: BTreeMap<String, Rate>) -> Result<Self, String> {
        let mut rates = Self::default();
        for (name, rate) in written {
            if name == OTHERS {
                rates.others = Some(rate);
                continue;
            }
            let domain = domain_to_ascii(&name).map_err(|_| format!("{name:?} is not a domain, nor \"*\""))?;
            if rates.named.insert(domain, rate).is_some() {
                return Err(format!("{name:?} is written twice"));
            }
        }
        Ok(rates)
    }
}

impl From<DomainRates> for BTreeMap<String, Rate> {
    fn from(rates: DomainRates) -> Self {
        let others = rates.others.map(|rate| (OTHERS.to_owned(), rate));
        rates.named.into_iter().chain(others).collect()
    }
}
