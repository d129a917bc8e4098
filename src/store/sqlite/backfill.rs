//! Readings of the Pass API: how far each came, and which passes it saw.
//!
//! Which process reads is a lock on a file beside the database: it ends with its process, however that ends.

use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use super::SqliteStore;
use super::accept::millis;
use super::fault::{Cells, Fault};
use super::sweep::limit_of;
use super::wallets::{nameless_key, read_pass};
use super::writer::Writing;
use crate::domain::backfill::Tally;
use crate::domain::ids::TenantId;
use crate::domain::paging::{Order, Place};
use crate::domain::wallet::CustomerKey;
use crate::domain::wallet::history::Standings;
use crate::store::{BackfillRun, BackfillStore, PassView, StoreError, Turn};

/// Behind the keys of all nameless passes; no pass's id begins before it.
const AFTER_NAMELESS: &str = "\u{2}";

#[async_trait]
impl BackfillStore for SqliteStore {
    fn take_turn(&self, tenant: &TenantId) -> Result<Option<Turn>, StoreError> {
        let doing = "taking turns at a backfill";
        let failed = |error: std::io::Error| StoreError::NotPersisted { doing, detail: error.to_string() };
        let mut beside = self.path.as_os_str().to_owned();
        beside.push(format!(".backfill-{tenant}"));
        let lock = File::options().create(true).append(true).mode(0o600).open(PathBuf::from(beside)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Turn::locked(lock))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    async fn last_backfill(&self, tenant: &TenantId) -> Result<Option<BackfillRun>, StoreError> {
        let tenant = tenant.clone();
        self.read("looking for the last backfill", move |connection| last(connection, &tenant)).await
    }

    async fn begin_backfill(&self, tenant: &TenantId, at: Timestamp) -> Result<BackfillRun, StoreError> {
        let tenant = tenant.clone();
        let work = move |connection: &Writing<'_>| {
            let number = last(connection, &tenant)?.map_or(0, |last| last.number) + 1;
            let place = Place { round: 1, page: None, order: Order::Kept };
            let (started_at, tally) = (at, Tally::default());
            let run = BackfillRun { number, started_at, place, read_at: None, ended_at: None, tally };
            keep(connection, &tenant, &run)?;
            Ok(run)
        };
        self.write("beginning a backfill", work).await
    }

    async fn keep_backfill(&self, tenant: &TenantId, run: BackfillRun, seen: Vec<String>) -> Result<(), StoreError> {
        let tenant = tenant.clone();
        let work = move |connection: &Writing<'_>| {
            mark(connection, &tenant, run.number, &seen)?;
            keep(connection, &tenant, &run)
        };
        self.write("keeping a backfill", work).await
    }

    async fn unseen(&self, tenant: &TenantId, run: u64, passes: Vec<String>) -> Result<Vec<String>, StoreError> {
        let tenant = tenant.clone();
        self.read("looking what a backfill has seen", move |connection| unseen(connection, &tenant, run, passes)).await
    }

    async fn ledger_passes(
        &self,
        tenant: &TenantId,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<PassView>, StoreError> {
        let tenant = tenant.clone();
        let work = move |connection: &Connection| ledger_passes(connection, &tenant, after.as_deref(), limit);
        self.list("listing the ledger's passes", work).await
    }

    async fn nameless_passes(
        &self,
        tenant: &TenantId,
        customers: Vec<CustomerKey>,
    ) -> Result<Vec<(CustomerKey, Standings)>, StoreError> {
        let tenant = tenant.clone();
        self.list("reading nameless passes", move |connection| nameless(connection, &tenant, customers)).await
    }

    async fn forget_seen(&self, tenant: &TenantId, limit: usize) -> Result<usize, StoreError> {
        let tenant = tenant.clone();
        self.write("forgetting what a backfill has seen", move |connection| forget(connection, &tenant, limit)).await
    }
}

fn last(connection: &Connection, tenant: &TenantId) -> Result<Option<BackfillRun>, Fault> {
    let sql = r"-- last_backfill
        SELECT number, started_at, round, page, in_order, read_at, ended_at, tally FROM backfill WHERE tenant = :tenant";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":tenant": tenant.as_str() })?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let cells = Cells::new(row, "backfill");
    let page: Option<i64> = cells.plain("page")?;
    let page = page.map(|page| u64::try_from(page).map_err(|_| cells.corrupt("page"))).transpose()?;
    let order = if cells.plain("in_order")? { Order::Kept } else { Order::NotKept };
    let number: i64 = cells.plain("number")?;
    Ok(Some(BackfillRun {
        number: u64::try_from(number).map_err(|_| cells.corrupt("number"))?,
        started_at: cells.time("started_at")?,
        place: Place { round: cells.plain("round")?, page, order },
        read_at: cells.time_or_none("read_at")?,
        ended_at: cells.time_or_none("ended_at")?,
        tally: cells.json("tally")?,
    }))
}

fn keep(connection: &Writing<'_>, tenant: &TenantId, run: &BackfillRun) -> Result<(), Fault> {
    let sql = r"-- keep_backfill
        INSERT OR REPLACE INTO backfill (tenant, number, started_at, round, page, in_order, read_at, ended_at, tally)
        VALUES (:tenant, :number, :started_at, :round, :page, :in_order, :read_at, :ended_at, :tally)";
    // Unwrap safety: numbers under names that are texts; serialising these cannot fail.
    let tally = serde_json::to_string(&run.tally).unwrap_or_default();
    connection.prepare_cached(sql)?.execute(named_params! {
        ":tenant": tenant.as_str(),
        ":number": number(run.number),
        ":started_at": millis(run.started_at),
        ":round": run.place.round,
        ":page": run.place.page.map(number),
        ":in_order": run.place.order == Order::Kept,
        ":read_at": run.read_at.map(millis),
        ":ended_at": run.ended_at.map(millis),
        ":tally": tally,
    })?;
    Ok(())
}

fn mark(connection: &Writing<'_>, tenant: &TenantId, run: u64, seen: &[String]) -> Result<(), Fault> {
    let sql = r"-- mark_seen
        INSERT OR REPLACE INTO backfill_seen (tenant, pass, number) VALUES (:tenant, :pass, :number)";
    let mut statement = connection.prepare_cached(sql)?;
    for pass in seen {
        statement.execute(named_params! { ":tenant": tenant.as_str(), ":pass": pass, ":number": number(run) })?;
    }
    Ok(())
}

fn unseen(connection: &Connection, tenant: &TenantId, run: u64, passes: Vec<String>) -> Result<Vec<String>, Fault> {
    let sql = r"-- is_seen
        SELECT 1 FROM backfill_seen WHERE tenant = :tenant AND pass = :pass AND number = :number";
    let mut statement = connection.prepare_cached(sql)?;
    let mut unseen = Vec::new();
    for pass in passes {
        let params = named_params! { ":tenant": tenant.as_str(), ":pass": pass, ":number": number(run) };
        if !statement.exists(params)? {
            unseen.push(pass);
        }
    }
    Ok(unseen)
}

fn ledger_passes(
    connection: &Connection,
    tenant: &TenantId,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<PassView>, Fault> {
    let sql = r"-- ledger_passes
        SELECT pass_key, pass_type, identifiers, standings FROM wallet_pass
        WHERE tenant = :tenant AND pass_key > :after ORDER BY pass_key LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let after = after.unwrap_or(AFTER_NAMELESS);
    let params = named_params! { ":tenant": tenant.as_str(), ":after": after, ":limit": limit_of(limit) };
    let mut rows = statement.query(params)?;
    let mut passes = Vec::new();
    while let Some(row) = rows.next()? {
        passes.push(read_pass(row)?);
    }
    Ok(passes)
}

fn nameless(
    connection: &Connection,
    tenant: &TenantId,
    customers: Vec<CustomerKey>,
) -> Result<Vec<(CustomerKey, Standings)>, Fault> {
    let sql = r"-- nameless_passes
        SELECT pass_key, pass_type, identifiers, standings FROM wallet_pass
        WHERE tenant = :tenant AND pass_key = :key";
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = Vec::new();
    for customer in customers {
        let key = nameless_key(&customer);
        let mut rows = statement.query(named_params! { ":tenant": tenant.as_str(), ":key": key })?;
        if let Some(row) = rows.next()? {
            found.push((customer, read_pass(row)?.standings));
        }
    }
    Ok(found)
}

fn forget(connection: &Writing<'_>, tenant: &TenantId, limit: usize) -> Result<usize, Fault> {
    let sql = r"-- forget_seen
        DELETE FROM backfill_seen WHERE tenant = :tenant AND pass IN (
            SELECT pass FROM backfill_seen WHERE tenant = :tenant ORDER BY pass LIMIT :limit)";
    let params = named_params! { ":tenant": tenant.as_str(), ":limit": limit_of(limit) };
    Ok(connection.prepare_cached(sql)?.execute(params)?)
}

/// A number of ours as SQLite keeps it.
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
