//! The outbox of pushes: what is fed into it ([`feed`]), what is sent from it ([`outbox`]), and what operators see of it.

mod feed;
mod outbox;
mod shown;

pub(super) use self::feed::tell;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::Connection;

use super::SqliteStore;
use super::writer::Writing;
use crate::domain::ids::{EndpointName, PushId, TenantId};
use crate::domain::push::Endpoint;
use crate::store::{
    DuePush, EndpointCounts, EndpointLook, MessageChanges, NewPush, PushSettled, PushStore, PushView, PushesToReplay,
    Settling, StoreError,
};

/// Dead letters that one transaction revives: some milliseconds.
const REPLAY_BATCH: usize = 500;

#[async_trait]
impl PushStore for SqliteStore {
    async fn configure_endpoints(&self, endpoints: Vec<Endpoint>) -> Result<u64, StoreError> {
        self.write("noting the endpoints of pushes", move |connection| feed::configure(connection, &endpoints)).await
    }

    async fn message_changes(
        &self,
        next: u64,
        tenants: Vec<TenantId>,
        limit: usize,
    ) -> Result<MessageChanges, StoreError> {
        let work = move |connection: &Connection| feed::message_changes(connection, next, &tenants, limit);
        self.list("following the audit for pushes", work).await
    }

    async fn keep_pushes(
        &self,
        (from, next): (u64, u64),
        pushes: Vec<(u64, NewPush)>,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        let work = move |connection: &Writing<'_>| feed::keep(connection, (from, next), &pushes, at);
        self.write("keeping pushes", work).await
    }

    async fn push_wallets(
        &self,
        wanting: Vec<(TenantId, Vec<EndpointName>)>,
        at: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        // Looked at outside a transaction: nothing is due most of the time.
        if !self.read("looking for wallets to push", move |connection| feed::is_wallet_due(connection, at)).await? {
            return Ok(0);
        }
        let work = move |connection: &Writing<'_>| feed::push_wallets(connection, &wanting, at, limit);
        self.write("keeping pushes of wallets", work).await
    }

    async fn look_at_endpoints(&self, endpoints: Vec<Endpoint>) -> Result<Vec<EndpointLook>, StoreError> {
        self.list("looking at endpoints", move |connection| outbox::look(connection, &endpoints)).await
    }

    async fn due_pushes(&self, endpoint: &Endpoint, at: Timestamp, limit: usize) -> Result<Vec<DuePush>, StoreError> {
        let endpoint = endpoint.clone();
        self.list("reading due pushes", move |connection| outbox::due(connection, &endpoint, at, limit)).await
    }

    async fn settle_push(&self, id: PushId, settling: Settling, at: Timestamp) -> Result<PushSettled, StoreError> {
        self.write("settling a push", move |connection| outbox::settle(connection, id, &settling, at)).await
    }

    async fn drop_pushes(
        &self,
        endpoints: Vec<Endpoint>,
        made_before: Timestamp,
        kept_max: u64,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let find = move |connection: &Connection| {
            let mut found = outbox::too_old(connection, made_before, limit)?;
            for endpoint in &endpoints {
                found.extend(outbox::too_many(connection, endpoint, kept_max, limit)?);
            }
            Ok(found)
        };
        let found = self.list("looking for pushes to drop", find).await?;
        if found.is_empty() {
            return Ok(0);
        }
        self.write("dropping pushes", move |connection| outbox::drop_all(connection, &found)).await
    }

    async fn push_endpoints(&self) -> Result<Vec<EndpointCounts>, StoreError> {
        self.list("counting pushes", shown::endpoints).await
    }

    async fn dead_pushes(&self, endpoint: Option<Endpoint>, limit: usize) -> Result<Vec<PushView>, StoreError> {
        self.list("reading dead letters", move |connection| shown::dead(connection, endpoint.as_ref(), limit)).await
    }

    async fn push(&self, id: PushId) -> Result<Option<PushView>, StoreError> {
        self.list("reading a push", move |connection| shown::push(connection, id)).await
    }

    async fn replay_pushes(&self, which: PushesToReplay, at: Timestamp) -> Result<u64, StoreError> {
        let doing = "replaying dead letters";
        match which {
            PushesToReplay::Ids(ids) => {
                self.write(doing, move |connection| outbox::replay_ids(connection, &ids, at)).await
            }
            PushesToReplay::Of { endpoint, since } => {
                let mut replayed = 0;
                loop {
                    let endpoint = endpoint.clone();
                    let work = move |connection: &Writing<'_>| {
                        outbox::replay_of(connection, &endpoint, since, at, REPLAY_BATCH)
                    };
                    match self.write(doing, work).await? {
                        0 => return Ok(replayed),
                        some => replayed += some,
                    }
                }
            }
        }
    }

    async fn enable_endpoint(&self, endpoint: &Endpoint) -> Result<bool, StoreError> {
        let endpoint = endpoint.clone();
        self.write("switching an endpoint on", move |connection| outbox::enable(connection, &endpoint)).await
    }
}
