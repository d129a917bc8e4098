//! `[server]`: where we listen and what a request may cost.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::domain::network::Network;
use crate::domain::quantity::{ByteSize, HumanDuration};

/// The section `[server]` of `postern.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, expecting = "a table")]
pub struct ServerSettings {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// What stands before the path in links.
    pub public_url: String,
    /// The largest request body, before and after decompression.
    pub request_body_max: ByteSize,
    /// A request's head must arrive within this, and its body within this again. A client that does not read an answer
    /// in the making is waited for as long.
    pub request_timeout: HumanDuration,
    /// How long an idle connection is kept open. From the end of an answer to the end of the next request's head it may
    /// take this and `request_timeout`.
    pub keep_alive: HumanDuration,
    /// Connections open at once, in equal parts per worker; more wait to be accepted. When the last is taken, the client
    /// that has kept us waiting longest loses its own.
    pub connections_max: NonZeroU16,
    /// Requests under way at once at the doors of `/v1`, webhooks apart; one more is refused before its body is read.
    pub requests_in_flight_max: NonZeroU16,
    /// Requests under way at once where recipients unsubscribe (`/u/…`); one more is refused before its body is read.
    pub unsubscribes_in_flight_max: NonZeroU16,
    /// Proxies whose `X-Forwarded-For` is believed when a client's address counts.
    pub trusted_proxies: Vec<Network>,
    /// Threads that answer.
    pub workers: NonZeroU16,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            public_url: "http://127.0.0.1:8080".into(),
            request_body_max: ByteSize(5 << 20),
            request_timeout: HumanDuration::from_secs(30),
            keep_alive: HumanDuration::from_secs(75),
            connections_max: NonZeroU16::MIN.saturating_add(999),
            requests_in_flight_max: NonZeroU16::MIN.saturating_add(499),
            unsubscribes_in_flight_max: NonZeroU16::MIN.saturating_add(63),
            trusted_proxies: Vec::new(),
            workers: NonZeroU16::MIN.saturating_add(1),
        }
    }
}
