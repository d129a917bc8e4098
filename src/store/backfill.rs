//! What the store keeps of a reading of the Pass API: how far it came, what it counted, which passes it saw.

use std::fs::File;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{PassView, StoreError};
use crate::domain::backfill::Tally;
use crate::domain::ids::TenantId;
use crate::domain::paging::Place;
use crate::domain::wallet::CustomerKey;
use crate::domain::wallet::history::Standings;

/// The right to read a tenant's passes: one has it at a time, in whatever process; it ends with this value, and with the
/// process.
#[derive(Debug)]
pub struct Turn {
    _lock: Option<File>,
}

impl Turn {
    /// A turn that lasts as long as a lock on this file.
    #[must_use]
    pub fn locked(file: File) -> Self {
        Self { _lock: Some(file) }
    }
}

/// A reading of a tenant's passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackfillRun {
    /// Its number among the tenant's.
    pub number: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// How far it came.
    pub place: Place,
    /// When all pages had been read.
    pub read_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What it counted.
    pub tally: Tally,
}

/// The part of the store that readings of the Pass API work with.
#[async_trait]
pub trait BackfillStore: Send + Sync + 'static {
    /// The right to read a tenant's passes; `None` while somebody else has it.
    fn take_turn(&self, tenant: &TenantId) -> Result<Option<Turn>, StoreError>;

    /// The last reading of a tenant's passes.
    async fn last_backfill(&self, tenant: &TenantId) -> Result<Option<BackfillRun>, StoreError>;

    /// Begins a new reading; what was seen in earlier ones counts no more.
    async fn begin_backfill(&self, tenant: &TenantId, at: Timestamp) -> Result<BackfillRun, StoreError>;

    /// Notes how a reading stands, and which passes it has seen since it was last noted: both or neither.
    async fn keep_backfill(&self, tenant: &TenantId, run: BackfillRun, seen: Vec<String>) -> Result<(), StoreError>;

    /// Those of these passes that a reading did not see.
    async fn unseen(&self, tenant: &TenantId, run: u64, passes: Vec<String>) -> Result<Vec<String>, StoreError>;

    /// The ledger's passes behind one, in the order of their ids, at most `limit`; those of events that named no pass are
    /// left out.
    async fn ledger_passes(
        &self,
        tenant: &TenantId,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<PassView>, StoreError>;

    /// How the nameless passes of these customers stand, of those that have one.
    async fn nameless_passes(
        &self,
        tenant: &TenantId,
        customers: Vec<CustomerKey>,
    ) -> Result<Vec<(CustomerKey, Standings)>, StoreError>;

    /// Forgets which passes were seen, at most `limit`; how many.
    async fn forget_seen(&self, tenant: &TenantId, limit: usize) -> Result<usize, StoreError>;
}
