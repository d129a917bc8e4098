//! How each part is made: one small function per room that the hall needs something from.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::bail;
use secrecy::SecretString;

use super::App;
use crate::clock::Clock;
use crate::courier::Courier;
use crate::courier::settings::RelaySettings;
use crate::domain::audit::Actor;
use crate::domain::ids::{RelayName, TenantId};
use crate::domain::key::{ApiKey, Scope};
use crate::lifecycle::Tasks;
use crate::store::Store;
use crate::store::settings::StoreSettings;

/// Who opens the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opener {
    /// The gateway: one at a time.
    Gateway,
    /// An operator's command, beside a running gateway or without one.
    Command,
}

/// Opens the configured store, creating and migrating it where needed.
pub fn open_store(settings: &StoreSettings, opener: Opener) -> anyhow::Result<Arc<dyn Store>> {
    let _path = settings.sqlite_path().map_err(anyhow::Error::msg)?;
    match opener {
        Opener::Gateway | Opener::Command => bail!("the store is not built in yet"),
    }
}

/// The courier to these relays.
pub fn courier(_relays: Vec<RelaySettings>) -> anyhow::Result<Arc<dyn Courier>> {
    bail!("the courier is not built in yet")
}

/// Greets a relay (TLS, AUTH) without sending and says in one line what was found.
pub async fn inspect_relay(_relays: Vec<RelaySettings>, _relay: &RelayName) -> anyhow::Result<String> {
    std::future::ready(()).await;
    bail!("the courier is not built in yet")
}

/// A key just made; its secret is shown once.
pub struct NewKey {
    /// As kept.
    pub key: ApiKey,
    /// What callers present.
    pub secret: SecretString,
}

/// What a key shall be.
pub struct KeyWanted {
    /// Whose.
    pub tenant: TenantId,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

/// Makes a key and keeps it.
pub async fn create_key(
    _store: &Arc<dyn Store>,
    _clock: &Arc<dyn Clock>,
    _wanted: KeyWanted,
    _actor: Actor,
) -> anyhow::Result<NewKey> {
    std::future::ready(()).await;
    bail!("keys are not built in yet")
}

/// Recovers what a dead process left and begins to deliver.
pub async fn start_delivery(_app: &App, _tasks: &Tasks) -> anyhow::Result<()> {
    std::future::ready(()).await;
    bail!("delivery is not built in yet")
}

/// Opens the HTTP doors and returns their address.
pub async fn start_doors(_app: &App, _tasks: &Tasks) -> anyhow::Result<SocketAddr> {
    std::future::ready(()).await;
    bail!("the HTTP doors are not built in yet")
}

/// Where a capture server listens.
#[derive(Debug, Clone, Copy)]
pub struct InboxAt {
    /// SMTP.
    pub smtp: SocketAddr,
    /// Its pages.
    pub http: SocketAddr,
}

/// Starts the capture server and its pages; port 0 picks a free one. Returns the real addresses.
pub async fn start_inbox(_wanted: InboxAt, _clock: &Arc<dyn Clock>, _tasks: &Tasks) -> anyhow::Result<InboxAt> {
    std::future::ready(()).await;
    bail!("the inbox is not built in yet")
}
