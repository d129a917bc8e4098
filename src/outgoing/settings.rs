//! `[outgoing]`: what holds for every call to a URL that an operator configured.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::resolver::allows;
use crate::domain::network::Network;
use crate::domain::quantity::HumanDuration;

/// `[outgoing]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, expecting = "a table")]
pub struct OutgoingSettings {
    /// Networks that may be called; empty: all of them.
    pub networks: Vec<Network>,
    /// How long finding the host's address, connecting and the TLS handshake may take together.
    pub connect_timeout: HumanDuration,
}

impl OutgoingSettings {
    /// Whether a URL names an address that may not be called. What a host's name leads to is known only when it is called.
    #[must_use]
    pub fn forbids(&self, literal: Option<IpAddr>) -> bool {
        literal.is_some_and(|address| !allows(&self.networks, address))
    }
}

impl Default for OutgoingSettings {
    fn default() -> Self {
        Self { networks: Vec::new(), connect_timeout: HumanDuration::from_secs(10) }
    }
}
