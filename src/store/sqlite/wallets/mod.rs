//! The ledger of pass events, and what it adds up to: rows of events, passes and customers.
//!
//! One event is one step of a transaction ([`record`]): its row, the pass's new standings, the leaf, then what the customer's
//! passes add up to now ([`customers`]). The rules are `domain::wallet`'s; here they are given the rows they need.

mod aliases;
mod customers;
mod erase;
mod reading;
mod record;
mod recorded;
mod trends;

pub(super) use self::customers::{read_projection, status};
pub(super) use reading::read_pass;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::Connection;

pub(super) use self::erase::erase;
use super::SqliteStore;
use super::fault::Fault;
use super::writer::Writing;
use crate::domain::audit::Actor;
use crate::domain::ids::TenantId;
use crate::domain::pass_event::{NewPassEvent, Wallet};
use crate::domain::wallet::{CustomerKey, WalletStatus};
use crate::store::{
    ChangePlace, CustomerWallet, LedgerEntry, PassView, RecordRules, Recorded, RecordedEvent, RecordedQuery,
    StoreError, Trend, TrendQuery, WalletStore,
};

/// What begins the key of a pass that has no name; no pass's id holds it.
const NAMELESS: char = '\u{1}';

#[async_trait]
impl WalletStore for SqliteStore {
    async fn record(
        &self,
        tenant: &TenantId,
        actor: Actor,
        events: Vec<NewPassEvent>,
        rules: RecordRules,
    ) -> Result<Vec<Recorded>, StoreError> {
        let tenant = tenant.clone();
        let work = move |connection: &Writing<'_>| record::record(connection, &tenant, &actor, &events, &rules);
        self.write("recording pass events", work).await
    }

    async fn customer_wallet(
        &self,
        tenant: &TenantId,
        value: String,
    ) -> Result<Option<(CustomerWallet, Vec<PassView>)>, StoreError> {
        let tenant = tenant.clone();
        let work = move |connection: &Connection| reading::customer_wallet(connection, &tenant, &value);
        self.list("reading a customer's wallets", work).await
    }

    async fn wallet_events(
        &self,
        tenant: &TenantId,
        customer: CustomerKey,
        limit: usize,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        let tenant = tenant.clone();
        let work = move |connection: &Connection| reading::events(connection, &tenant, &customer, limit);
        self.list("reading a customer's ledger", work).await
    }

    async fn passes(&self, tenant: &TenantId, passes: Vec<String>) -> Result<Vec<PassView>, StoreError> {
        let tenant = tenant.clone();
        self.list("reading passes", move |connection| reading::passes(connection, &tenant, &passes)).await
    }

    async fn wallets_changed(
        &self,
        tenant: &TenantId,
        after: Option<ChangePlace>,
        limit: usize,
    ) -> Result<Vec<CustomerWallet>, StoreError> {
        let tenant = tenant.clone();
        let work = move |connection: &Connection| reading::changed(connection, &tenant, after.as_ref(), limit);
        self.list("listing changed wallets", work).await
    }

    async fn wallet_trends(&self, tenant: &TenantId, query: TrendQuery) -> Result<Vec<Trend>, StoreError> {
        let tenant = tenant.clone();
        self.list("counting pass events", move |connection| trends::trends(connection, &tenant, &query)).await
    }

    async fn recorded_events(&self, tenant: &TenantId, query: RecordedQuery) -> Result<Vec<RecordedEvent>, StoreError> {
        let tenant = tenant.clone();
        self.list("reading the ledger", move |connection| recorded::events(connection, &tenant, &query)).await
    }

    async fn recorded_before(
        &self,
        tenant: &TenantId,
        customer: CustomerKey,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let tenant = tenant.clone();
        let work = move |connection: &Connection| recorded::before(connection, &tenant, &customer, before, limit);
        self.list("reading a customer's ledger", work).await
    }
}

/// In which wallets whoever has this identifier has a pass: all of them together, when several have it in common. An
/// address is one and the same under every name; another value means who has it as the best identifier alone.
pub(super) fn status_of(connection: &Connection, tenant: &TenantId, value: &str) -> Result<WalletStatus, Fault> {
    let mut meant = aliases::meant(connection, tenant, value)?;
    let best = meant.first().map(|meant| meant.rank).filter(|_| !value.contains('@'));
    meant.retain(|meant| best.is_none_or(|best| meant.rank == best));
    let wallets = meant.iter().flat_map(|meant| Wallet::ALL.into_iter().filter(|wallet| meant.status.has(*wallet)));
    Ok(WalletStatus::in_wallets(wallets))
}

/// The key of the nameless pass of a customer.
pub(super) fn nameless_key(customer: &CustomerKey) -> String {
    format!("{NAMELESS}{}{NAMELESS}{}", customer.by, customer.value)
}

/// The pass's id, unless its key is that of a nameless one.
fn pass_of_key(key: String) -> Option<String> {
    (!key.starts_with(NAMELESS)).then_some(key)
}
