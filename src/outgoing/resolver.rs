//! Our own resolver: the system's answer, without the addresses that may not be called.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::domain::network::Network;

/// Every address of a host lies outside the networks that may be called.
#[derive(Debug, thiserror::Error)]
#[error("no address of this host may be called")]
pub(super) struct NotAllowed;

/// Resolves names for the client.
pub(super) struct Resolver {
    networks: Arc<[Network]>,
}

impl Resolver {
    pub(super) const fn new(networks: Arc<[Network]>) -> Self {
        Self { networks }
    }
}

/// Whether an address may be called: no networks mean all.
pub(super) fn allows(networks: &[Network], address: IpAddr) -> bool {
    networks.is_empty() || networks.iter().any(|network| network.contains(address))
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let networks = Arc::clone(&self.networks);
        Box::pin(async move {
            // The port is the URL's: 0 says so.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> =
                found.iter().copied().filter(|address| allows(&networks, address.ip())).collect();
            if allowed.is_empty() && !found.is_empty() {
                return Err(NotAllowed.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
