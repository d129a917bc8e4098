//! Why a mail stands where it stands: what the store keeps, what the configuration says and what delivery knows, asked
//! together. The same for the HTTP door, and for commands through the hatch.

use std::sync::Arc;

use tokio::sync::watch;

use super::control::{Control, Subject};
use crate::clock::Clock;
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::message::Status;
use crate::domain::rules::Rules;
use crate::domain::shaping::Binding;
use crate::domain::why::{Explanation, Gateway, Stored, live};
use crate::store::{Store, StoreError};

/// Who can tell.
pub struct Reasons {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    rules: watch::Receiver<Arc<Rules>>,
    control: Control,
}

impl Reasons {
    /// Tells of what is in `store`, under the rules of the moment, as the dispatcher behind `control` sees it.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        rules: watch::Receiver<Arc<Rules>>,
        control: Control,
    ) -> Self {
        Self { store, clock, rules, control }
    }

    /// Each rule that holds a message of a tenant now, or ended it; `None` when there is no such message.
    pub async fn why(&self, tenant: &TenantId, id: MessageId) -> Result<Option<Explanation>, StoreError> {
        let Some(stored) = self.store.stored(tenant, id).await? else { return Ok(None) };
        let bindings = self.bindings(&stored).await;
        let rules = Arc::clone(&self.rules.borrow());
        let live = live::decisions(&bindings);
        Ok(Some(Explanation::of(&stored, &rules, Gateway::Running(&live), self.clock.now())))
    }

    /// What delivery says of a message that waits.
    async fn bindings(&self, stored: &Stored) -> Vec<Binding> {
        let message = &stored.message;
        if !matches!(message.status, Status::Queued | Status::Deferred) {
            return Vec::new();
        }
        let (id, tenant, lane) = (message.id, message.tenant.clone(), message.lane);
        let subject = Subject { id, tenant, lane, domain: stored.domain.clone() };
        // It has ended: the gateway stops.
        self.control.explain(subject).await.unwrap_or_else(|_| vec![Binding::GatewayStopping])
    }
}
