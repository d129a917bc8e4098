//! `[limits]` in `postern.toml`: what of it shapes the way to the relays.

use serde::Deserialize;

use crate::delivery::settings::DomainRates;

/// `[limits]` as written.
#[derive(Default, Deserialize)]
#[serde(default, expecting = "a table")]
pub(super) struct LimitsFile {
    pub(super) relay_domains: DomainRates,
}
