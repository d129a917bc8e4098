//! `[server]`: where the gateway listens and how much it reads.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::domain::quantity::{ByteSize, HumanDuration};

/// `[server]` in `postern.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, expecting = "a table")]
pub struct ServerSettings {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// How the world reaches this server; used in links.
    pub public_url: String,
    /// The largest request body, before and after decompression.
    pub request_body_max: ByteSize,
    /// How long a request may take to arrive.
    pub request_timeout: HumanDuration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            public_url: "http://127.0.0.1:8080".to_owned(),
            request_body_max: ByteSize(5 << 20),
            request_timeout: HumanDuration::from_secs(30),
        }
    }
}
