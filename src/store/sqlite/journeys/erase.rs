//! Erasing a customer from journeys: their waiting mails, their ways, and that they ever entered.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::named_params;

use super::{cancel_mails, enrollment_id};
use crate::domain::ids::TenantId;
use crate::store::sqlite::fault::{Cells, Fault};
use crate::store::sqlite::writer::Writing;

/// Erases whoever is known by one of these values, under whatever identifier; before their passes go.
pub(in crate::store::sqlite) fn erase(
    connection: &Writing<'_>,
    tenant: &TenantId,
    names: &BTreeSet<String>,
    at: Timestamp,
) -> Result<(), Fault> {
    for value in names {
        let params = named_params! { ":tenant": tenant.as_str(), ":value": value };
        let sql = r"-- enrollments_to_erase
            SELECT id FROM enrollment WHERE tenant = :tenant AND customer = :value";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        while let Some(row) = rows.next()? {
            cancel_mails(connection, tenant, enrollment_id(&Cells::new(row, "enrollment"))?, at)?;
        }
        drop(rows);
        let entries = r"-- erase_entries
            DELETE FROM journey_entry WHERE tenant = :tenant AND who IN
                (SELECT 'c' || char(1) || known_by || char(1) || customer FROM enrollment
                    WHERE tenant = :tenant AND customer = :value
                UNION SELECT 'p' || char(1) || pass_key FROM enrollment
                    WHERE tenant = :tenant AND customer = :value
                UNION SELECT 'p' || char(1) || pass_key FROM wallet_pass
                    WHERE tenant = :tenant AND customer = :value)";
        let enrollments = r"-- erase_enrollments
            DELETE FROM enrollment WHERE tenant = :tenant AND customer = :value";
        connection.prepare_cached(entries)?.execute(params)?;
        connection.prepare_cached(enrollments)?.execute(params)?;
    }
    Ok(())
}
