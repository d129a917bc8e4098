//! What the store keeps for alarms: pass events counted by hour, how far the ledger was counted, and the alarms raised.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{NewPush, StoreError};
use crate::domain::alarm::{Alarm, Counts, HourCount};
use crate::domain::ids::{AlarmId, TenantId};

/// One step of counting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// What was counted in it, by hour, in the order of hours.
    pub hours: Vec<(i64, HourCount)>,
    /// The last install in it.
    pub last_install: Option<Timestamp>,
    /// Events that were looked at: as many as the limit, and there may be more.
    pub looked_at: usize,
}

/// The part of the store that alarms work with.
#[async_trait]
pub trait AlarmStore: Send + Sync + 'static {
    /// What was counted of a tenant's events, from an hour on.
    async fn event_counts(&self, tenant: &TenantId, since: i64) -> Result<Counts, StoreError>;

    /// Counts a tenant's next events that came in up to `until`, at most `limit`, those of backfills left out; forgets
    /// counts of hours before `forget_before`. Each event is counted once, whatever happens in between.
    async fn count_events(
        &self,
        tenant: &TenantId,
        until: Timestamp,
        limit: usize,
        forget_before: i64,
    ) -> Result<Counted, StoreError>;

    /// Keeps an alarm that is raised, and the pushes that tell of it. One of the same tenant and kind that is open stays as
    /// it is, and nothing is told.
    async fn open_alarm(&self, alarm: Alarm, told: Vec<NewPush>) -> Result<(), StoreError>;

    /// Ends an alarm that is open at the time it says, and keeps the pushes that tell of it.
    async fn close_alarm(&self, id: AlarmId, at: Timestamp, told: Vec<NewPush>) -> Result<(), StoreError>;

    /// Alarms that are open, of a tenant or of all, oldest first, at most `limit`.
    async fn open_alarms(&self, tenant: Option<TenantId>, limit: usize) -> Result<Vec<Alarm>, StoreError>;
}
