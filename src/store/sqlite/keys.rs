//! API keys, the pepper under which their secrets are kept, and the probe of the store's health.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, named_params};

use super::SqliteStore;
use super::accept::millis;
use super::attempts::tell_unreadable;
use super::audit;
use super::fault::{Cells, Fault};
use super::writer::Writing;
use crate::domain::audit::{By, Happening, Kind};
use crate::domain::ids::{KeyId, TenantId};
use crate::domain::key::{ApiKey, Scope};
use crate::store::{KeyStore, StoreError};

#[async_trait]
impl KeyStore for SqliteStore {
    async fn key_pepper(&self) -> Result<[u8; 32], StoreError> {
        self.doors().map(|_| self.key_pepper)
    }

    async fn create_key(&self, key: ApiKey, by: By) -> Result<(), StoreError> {
        self.write("creating a key", move |connection| create(connection, &key, &by)).await
    }

    async fn keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.read("reading keys", keys).await
    }

    async fn revoke_key(&self, id: KeyId, at: Timestamp, by: By) -> Result<bool, StoreError> {
        self.write("revoking a key", move |connection| revoke(connection, id, at, &by)).await
    }
}

/// Keeps a new key.
pub(super) fn create(connection: &Writing<'_>, key: &ApiKey, by: &By) -> Result<(), Fault> {
    let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
    let sql = r"-- create_key
        INSERT INTO api_key (id, tenant, name, scopes, request_limit, mac, created_at, revoked_at)
        VALUES (:id, :tenant, :name, :scopes, :request_limit, :mac, :created_at, :revoked_at)";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":id": key.id.as_bytes(),
        ":tenant": key.tenant.as_str(),
        ":name": key.name,
        ":scopes": scopes.join(" "),
        ":request_limit": key.limit.map(|limit| limit.to_string()),
        ":mac": key.mac,
        ":created_at": millis(key.created_at),
        ":revoked_at": key.revoked_at.map(millis),
    })?;
    // The name is text from outside and stays out of the leaf.
    let mut leaf = Happening::new(key.created_at, Kind::KeyCreated, &key.tenant, None, by.actor.clone())
        .with("keyId", key.id.to_string())
        .with("scopes", scopes)
        .because(by.because.as_ref());
    if let Some(limit) = key.limit {
        leaf = leaf.with("limit", limit.to_string());
    }
    audit::append(connection, &leaf)
}

/// All keys, oldest first.
pub(super) fn keys(connection: &Connection) -> Result<Vec<ApiKey>, Fault> {
    let sql = r"-- keys
        SELECT id, tenant, name, scopes, request_limit, mac, created_at, revoked_at FROM api_key ORDER BY id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        // A key that cannot be read, or that a newer version gave a scope we do not know, opens nothing; others do.
        match key(&Cells::new(row, "api_key")) {
            Ok(key) => keys.push(key),
            Err(fault) => tell_unreadable(fault)?,
        }
    }
    keys.sort_by_key(|key| (key.created_at, key.id));
    Ok(keys)
}

fn key(cells: &Cells<'_>) -> Result<ApiKey, Fault> {
    let scopes: String = cells.plain("scopes")?;
    let scopes: Result<Vec<Scope>, _> = scopes.split_whitespace().map(str::parse).collect();
    Ok(ApiKey {
        id: KeyId::from_slice(&cells.plain::<Vec<u8>>("id")?).ok_or_else(|| cells.corrupt("id"))?,
        tenant: cells.word("tenant")?,
        name: cells.plain("name")?,
        scopes: scopes.map_err(|_| cells.corrupt("scopes"))?,
        limit: cells.word_or_none("request_limit")?,
        mac: cells.plain("mac")?,
        created_at: cells.time("created_at")?,
        revoked_at: cells.time_or_none("revoked_at")?,
    })
}

/// Revokes a key; `false` when there is none.
pub(super) fn revoke(connection: &Writing<'_>, id: KeyId, at: Timestamp, by: &By) -> Result<bool, Fault> {
    let sql = r"-- key_to_revoke
        SELECT id, tenant, revoked_at FROM api_key WHERE id = :id";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement
        .query_row(named_params! { ":id": id.as_bytes() }, |row| {
            let cells = Cells::new(row, "api_key");
            Ok(cells.word::<TenantId>("tenant").and_then(|tenant| Ok((tenant, cells.time_or_none("revoked_at")?))))
        })
        .optional()?;
    let Some(found) = found else { return Ok(false) };
    let (tenant, None) = found? else { return Ok(true) };
    let sql = r"-- revoke_key
        UPDATE api_key SET revoked_at = :at WHERE id = :id AND revoked_at IS NULL";
    connection.prepare_cached(sql)?.execute(named_params! { ":id": id.as_bytes(), ":at": millis(at) })?;
    let leaf = Happening::new(at, Kind::KeyRevoked, &tenant, None, by.actor.clone()).with("keyId", id.to_string());
    audit::append(connection, &leaf.because(by.because.as_ref()))?;
    Ok(true)
}

/// Writes the time of a probe, and something random: SQLite writes nothing where nothing changes.
pub(super) fn probe(connection: &Connection, at: Timestamp) -> Result<(), Fault> {
    let mut value = [0_u8; 16];
    getrandom::fill(&mut value[8..]).map_err(Fault::Random)?;
    value[..8].copy_from_slice(&millis(at).to_be_bytes());
    let sql = r"-- probe
        INSERT INTO meta (name, value) VALUES ('probed-at', :value) ON CONFLICT DO UPDATE SET value = excluded.value";
    connection.prepare_cached(sql)?.execute(named_params! { ":value": value })?;
    Ok(())
}
