//! `[wallet]`: how pass events are understood.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::domain::quantity::{ByteSize, HumanDuration};

/// `[wallet]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, expecting = "a table")]
pub struct WalletSettings {
    /// A removal that is followed by an install within this time was none for anybody but the ledger: no journey begins,
    /// and nothing is pushed.
    pub reinstall_settle: HumanDuration,
    /// Events of one pass in one wallet that are walked again when one comes late, the latest first.
    pub history_max: usize,
    /// Passes of one customer that are looked at beside events that named no pass, those first that changed last.
    pub passes_max: usize,
    /// A time in an event that lies further ahead of ours than this counts as the time it came in.
    pub time_ahead_max: HumanDuration,
    /// Events in one request of a hook; of a webhook, which may have more, so many are one transaction.
    pub events_max: usize,
    /// The largest body of a webhook, which is read before anybody knows whose it is.
    pub webhook_body_max: ByteSize,
    /// Webhooks under way at once, beside `server.requests_in_flight_max`; one more is refused before its body is read.
    pub webhooks_in_flight_max: NonZeroU16,
    /// Signed events that are no pass events kept of each tenant, to be looked at; the oldest make room.
    pub unknown_max: usize,
    /// How long these may be together.
    pub unknown_bytes_max: ByteSize,
}

impl Default for WalletSettings {
    fn default() -> Self {
        let minute = 60;
        Self {
            reinstall_settle: HumanDuration::from_secs(10 * minute),
            history_max: 500,
            passes_max: 1_000,
            time_ahead_max: HumanDuration::from_secs(5 * minute),
            events_max: 1_000,
            webhook_body_max: ByteSize(1 << 20),
            webhooks_in_flight_max: NonZeroU16::MIN.saturating_add(31),
            unknown_max: 1_000,
            unknown_bytes_max: ByteSize(5 << 20),
        }
    }
}
