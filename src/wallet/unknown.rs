//! Signed events that the ledger knows nothing to do with: kept as they are, a bounded number, for somebody to look at.

use super::{Ledger, Refusal};
use crate::domain::ids::TenantId;
use crate::store::{NewUnknown, UnknownEvent, UnknownKept, UnknownLimits};

impl Ledger {
    /// Keeps them, all or none: on disk when this returns `Ok`, one answer for each.
    pub async fn keep_unknown(
        &self,
        tenant: &TenantId,
        events: Vec<UnknownEvent>,
    ) -> Result<Vec<UnknownKept>, Refusal> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let received_at = self.clock.now();
        let events = events.into_iter().map(|event| NewUnknown { id: self.next_id(), received_at, event }).collect();
        let limits = UnknownLimits {
            events_max: self.settings.unknown_max,
            bytes_max: self.settings.unknown_bytes_max.as_usize(),
        };
        self.store.keep_unknown(tenant, events, limits).await.map_err(Refusal::Store)
    }
}
