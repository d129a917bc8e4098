//! The ledger of pass events and what it adds up to.

use async_trait::async_trait;

use super::SqliteStore;
use crate::domain::audit::Actor;
use crate::domain::ids::TenantId;
use crate::domain::pass_event::NewPassEvent;
use crate::store::{ChangePlace, CustomerWallet, PassView, RecordRules, Recorded, StoreError, WalletStore};

#[async_trait]
impl WalletStore for SqliteStore {
    async fn record(
        &self,
        _: &TenantId,
        _: Actor,
        _: Vec<NewPassEvent>,
        _: RecordRules,
    ) -> Result<Vec<Recorded>, StoreError> {
        Err(StoreError::Closed)
    }

    async fn customer_wallet(
        &self,
        _: &TenantId,
        _: String,
        _: Vec<String>,
    ) -> Result<Option<(CustomerWallet, Vec<PassView>)>, StoreError> {
        Err(StoreError::Closed)
    }

    async fn passes(&self, _: &TenantId, _: Vec<String>) -> Result<Vec<PassView>, StoreError> {
        Err(StoreError::Closed)
    }

    async fn wallets_changed(
        &self,
        _: &TenantId,
        _: Option<ChangePlace>,
        _: usize,
    ) -> Result<Vec<CustomerWallet>, StoreError> {
        Err(StoreError::Closed)
    }
}
