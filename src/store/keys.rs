//! API keys: who may come in.

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;
use crate::domain::audit::By;
use crate::domain::ids::KeyId;
use crate::domain::key::ApiKey;

/// The part of the store that keeps API keys.
#[async_trait]
pub trait KeyStore: Send + Sync + 'static {
    /// The store's own random key, made with the store, under which API secrets are kept as MACs.
    async fn key_pepper(&self) -> Result<[u8; 32], StoreError>;

    /// Keeps a new API key, with its leaf.
    async fn create_key(&self, key: ApiKey, by: By) -> Result<(), StoreError>;

    /// All API keys, oldest first, revoked ones too. One that cannot be read is logged and left out.
    async fn keys(&self) -> Result<Vec<ApiKey>, StoreError>;

    /// Revokes a key, with its leaf. `false` when there is no such key; revoking twice changes nothing.
    async fn revoke_key(&self, id: KeyId, at: Timestamp, by: By) -> Result<bool, StoreError>;
}
