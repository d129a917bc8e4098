//! Erasing a customer: their passes, the events of these, and what they added up to.

use std::collections::BTreeSet;

use rusqlite::{Connection, named_params};

use crate::domain::contact::Erased;
use crate::domain::ids::TenantId;
use crate::store::sqlite::fault::Fault;

/// Erases whoever is known by one of these values, under whatever identifier, and whoever they were known as before.
pub(in crate::store::sqlite) fn erase(
    connection: &Connection,
    tenant: &TenantId,
    names: &BTreeSet<String>,
) -> Result<Erased, Fault> {
    let events = r"-- erase_pass_events
        DELETE FROM pass_event WHERE tenant = :tenant AND pass_key IN
            (SELECT pass_key FROM wallet_pass WHERE tenant = :tenant AND customer = :value)";
    // The values stand with the pass; an index by pass would cost every event what an erasure needs now and then.
    let aliases = r"-- erase_aliases
        DELETE FROM pass_alias WHERE (tenant, value, pass_key) IN
            (SELECT tenant, identifier.value ->> 'value', pass_key
            FROM wallet_pass, json_each(wallet_pass.identifiers) AS identifier
            WHERE tenant = :tenant AND customer = :value)";
    let passes = r"-- erase_passes
        DELETE FROM wallet_pass WHERE tenant = :tenant AND customer = :value";
    let customers = r"-- erase_wallets
        DELETE FROM wallet_customer WHERE tenant = :tenant AND (customer = :value OR joined = :value)";
    let mut erased = Erased::default();
    for value in names {
        let delete = |sql: &str| {
            let params = named_params! { ":tenant": tenant.as_str(), ":value": value };
            connection.prepare_cached(sql)?.execute(params)
        };
        erased.pass_events += delete(events)?;
        delete(aliases)?;
        erased.passes += delete(passes)?;
        delete(customers)?;
    }
    Ok(erased)
}
