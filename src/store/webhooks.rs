//! What the store keeps of signed events that are none of the ledger's: a bounded number of each tenant, to be looked at.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use super::StoreError;
use crate::domain::ids::{EventId, TenantId};
use crate::domain::time;

/// An event that is none of the ledger's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownEvent {
    /// What it calls itself.
    pub name: Option<String>,
    /// The names of its members.
    pub keys: Vec<String>,
    /// SHA-256 of its body: by it a repeat is known.
    pub digest: [u8; 32],
    /// The whole of it, as JSON.
    pub body: String,
}

/// The same, on its way into the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUnknown {
    /// Our own id of it, version 7: in the order of arrival.
    pub id: EventId,
    /// When it came in.
    pub received_at: Timestamp,
    /// The event.
    pub event: UnknownEvent,
}

/// How much is kept for each tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownLimits {
    /// So many events.
    pub events_max: usize,
    /// Bodies of so many bytes together.
    pub bytes_max: usize,
}

/// What became of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownKept {
    /// It is kept under this id.
    New(EventId),
    /// It is there already, under this id.
    Known(EventId),
}

/// Whether bodies are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bodies {
    /// They are.
    Shown,
    /// They are not.
    Hidden,
}

/// One as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnknownView {
    /// Our own id of it.
    pub event_id: EventId,
    /// What it calls itself.
    pub name: Option<String>,
    /// When it came in.
    #[serde(serialize_with = "time::write")]
    pub received_at: Timestamp,
    /// How long its body is.
    pub bytes: u32,
    /// The names of its members.
    pub keys: Vec<String>,
    /// The whole of it; absent when it was not asked for, or was too long to be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// The part of the store that keeps events nobody knows.
#[async_trait]
pub trait WebhookStore: Send + Sync + 'static {
    /// Keeps events of a tenant, all or none, and drops its oldest until what is left is within the limits. One that is
    /// longer than all may be together is kept without its body. One that is there already is not kept again.
    async fn keep_unknown(
        &self,
        tenant: &TenantId,
        events: Vec<NewUnknown>,
        limits: UnknownLimits,
    ) -> Result<Vec<UnknownKept>, StoreError>;

    /// All that are kept of a tenant, newest first.
    async fn unknown_events(&self, tenant: &TenantId, bodies: Bodies) -> Result<Vec<UnknownView>, StoreError>;
}
