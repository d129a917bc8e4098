//! Rates by recipient domain, as the configuration writes them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::address::domain_to_ascii;
use super::quantity::Rate;

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
