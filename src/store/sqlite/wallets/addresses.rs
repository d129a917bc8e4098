//! Addresses among the identifiers of passes, so that a customer who is known by something else is found by one.

use std::collections::BTreeSet;

use rusqlite::{Connection, named_params};

use crate::domain::ids::TenantId;
use crate::store::sqlite::fault::Fault;

/// Those of these values that are addresses.
pub(super) fn among<'v>(values: impl Iterator<Item = &'v String>) -> BTreeSet<String> {
    values.filter(|value| value.contains('@')).cloned().collect()
}

/// Keeps the addresses of a pass that has others now than before. Most events change none, and cost nothing here.
pub(super) fn keep(
    connection: &Connection,
    tenant: &TenantId,
    pass_key: &str,
    before: &BTreeSet<String>,
    now: &BTreeSet<String>,
) -> Result<(), Fault> {
    let sql = r"-- forget_pass_address
        DELETE FROM pass_address WHERE tenant = :tenant AND address = :address AND pass_key = :pass_key";
    for address in before.difference(now) {
        let params = named_params! { ":tenant": tenant.as_str(), ":address": address, ":pass_key": pass_key };
        connection.prepare_cached(sql)?.execute(params)?;
    }
    let sql = r"-- insert_pass_address
        INSERT INTO pass_address (tenant, address, pass_key) VALUES (:tenant, :address, :pass_key)
        ON CONFLICT DO NOTHING";
    for address in now.difference(before) {
        let params = named_params! { ":tenant": tenant.as_str(), ":address": address, ":pass_key": pass_key };
        connection.prepare_cached(sql)?.execute(params)?;
    }
    Ok(())
}
