//! `[bounces]`: how reports come in, besides `POST /v1/bounces`.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::quantity::{ByteSize, HumanDuration};

/// `[bounces]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, expecting = "a table")]
pub struct BounceSettings {
    /// A folder into which reports are delivered, a file each: a Maildir's `new`, for one. What was read is removed.
    pub folder: Option<PathBuf>,
    /// How often it is looked into.
    pub every: HumanDuration,
    /// Where reports are delivered by LMTP (RFC 2033), on loopback.
    pub lmtp_listen: Option<SocketAddr>,
    /// Connections at once; one more waits.
    pub lmtp_connections_max: NonZeroU16,
    /// A connection on which nothing is said for so long is closed.
    pub lmtp_idle_max: HumanDuration,
    /// The largest report taken in these two ways.
    pub report_max: ByteSize,
}

impl Default for BounceSettings {
    fn default() -> Self {
        Self {
            folder: None,
            every: HumanDuration::from_secs(10),
            lmtp_listen: None,
            lmtp_connections_max: NonZeroU16::MIN.saturating_add(15),
            lmtp_idle_max: HumanDuration::from_secs(60),
            report_max: ByteSize(1 << 20),
        }
    }
}
