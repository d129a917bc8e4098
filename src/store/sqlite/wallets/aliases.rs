//! Identifiers by which a customer is found besides the one they are known by: others of the tenant's, and addresses.

use std::collections::BTreeMap;

use rusqlite::{Connection, named_params};

use crate::domain::ids::TenantId;
use crate::domain::wallet::identity::Identifiers;
use crate::domain::wallet::{BY_PASS, CustomerKey, WalletStatus};
use crate::store::sqlite::fault::{Cells, Fault};

/// How good an identifier is that is none of the tenant's: worse than any of them.
pub(super) const RANK_WORST: i64 = 1_000;
/// Rows looked at for one value: so many passes may have an address in common and still be told apart.
const FOUND_MAX: i64 = 200;

/// How good an identifier of this name is: its place among the tenant's.
pub(super) fn rank(name: &str, names: &[String]) -> i64 {
    names.iter().position(|known| known == name).and_then(|place| i64::try_from(place).ok()).unwrap_or(RANK_WORST)
}

/// The aliases of a pass, each with its rank.
pub(super) fn of(identifiers: &Identifiers, customer: &CustomerKey, names: &[String]) -> BTreeMap<String, i64> {
    let mut aliases = BTreeMap::new();
    for (name, value) in identifiers.iter().filter(|(name, _)| **name != customer.by) {
        let rank = rank(name, names);
        if rank < RANK_WORST || value.contains('@') {
            let best: &mut i64 = aliases.entry(value.clone()).or_insert(rank);
            *best = rank.min(*best);
        }
    }
    aliases
}

/// Keeps the aliases of a pass that has others now than before. Most events change none, and cost nothing here.
pub(super) fn keep(
    connection: &Connection,
    tenant: &TenantId,
    pass_key: &str,
    before: &BTreeMap<String, i64>,
    now: &BTreeMap<String, i64>,
) -> Result<(), Fault> {
    let sql = r"-- forget_pass_alias
        DELETE FROM pass_alias WHERE tenant = :tenant AND value = :value AND pass_key = :pass_key";
    for value in before.keys().filter(|value| !now.contains_key(*value)) {
        let params = named_params! { ":tenant": tenant.as_str(), ":value": value, ":pass_key": pass_key };
        connection.prepare_cached(sql)?.execute(params)?;
    }
    let sql = r"-- keep_pass_alias
        INSERT INTO pass_alias (tenant, value, pass_key, rank) VALUES (:tenant, :value, :pass_key, :rank)
        ON CONFLICT DO UPDATE SET rank = excluded.rank";
    for (value, rank) in now.iter().filter(|(value, rank)| before.get(*value) != Some(rank)) {
        connection.prepare_cached(sql)?.execute(named_params! {
            ":tenant": tenant.as_str(),
            ":value": value,
            ":pass_key": pass_key,
            ":rank": rank,
        })?;
    }
    Ok(())
}

/// A customer whom a value may mean, and how good the identifier is that has it.
pub(super) struct Meant {
    pub(super) rank: i64,
    pub(super) customer: CustomerKey,
    pub(super) status: WalletStatus,
}

/// The customers whom a value may mean, by the best identifier first.
pub(super) fn meant(connection: &Connection, tenant: &TenantId, value: &str) -> Result<Vec<Meant>, Fault> {
    let sql = r"-- customers_meant
        SELECT rank, customer, known_by, status FROM wallet_customer
        WHERE tenant = :tenant AND customer = :value AND known_by <> :by_pass AND joined IS NULL
        UNION ALL
        SELECT pass_alias.rank, customer, known_by, wallet_customer.status
        FROM pass_alias JOIN wallet_pass USING (tenant, pass_key)
        JOIN wallet_customer USING (tenant, customer, known_by)
        WHERE pass_alias.tenant = :tenant AND pass_alias.value = :value
        LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! {
        ":tenant": tenant.as_str(),
        ":value": value,
        ":by_pass": BY_PASS,
        ":limit": FOUND_MAX,
    })?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "wallet_customer");
        let customer = CustomerKey { value: cells.plain("customer")?, by: cells.plain("known_by")? };
        found.push(Meant { rank: cells.plain("rank")?, customer, status: cells.word("status")? });
    }
    found.sort_by_key(|meant| meant.rank);
    Ok(found)
}
