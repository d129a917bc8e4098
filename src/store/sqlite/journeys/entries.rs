//! Who entered which journey, read and noted from outside of events: what a simulation begins with.

use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use crate::domain::ids::{JourneyName, TenantId};
use crate::domain::wallet::CustomerKey;
use crate::store::JourneyEntry;
use crate::store::sqlite::accept::millis;
use crate::store::sqlite::fault::{Cells, Fault};
use crate::store::sqlite::writer::Writing;

/// See [`crate::store::JourneyStore::journey_entries`].
pub(super) fn entries(
    connection: &Connection,
    (tenant, journey): (&TenantId, &JourneyName),
    customer: &CustomerKey,
    before: Timestamp,
) -> Result<Vec<JourneyEntry>, Fault> {
    let sql = r"-- journey_entries
        SELECT who, entered_at FROM journey_entry
        WHERE tenant = :tenant AND journey = :journey AND entered_at < :before AND who IN
            (SELECT 'c' || char(1) || :known_by || char(1) || :customer
            UNION ALL SELECT 'p' || char(1) || pass_key FROM wallet_pass
                WHERE tenant = :tenant AND customer = :customer AND known_by = :known_by)";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! {
        ":tenant": tenant.as_str(),
        ":journey": journey.as_str(),
        ":customer": customer.value,
        ":known_by": customer.by,
        ":before": millis(before),
    })?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "journey_entry");
        found.push(JourneyEntry { who: cells.plain("who")?, entered_at: cells.time("entered_at")? });
    }
    Ok(found)
}

/// See [`crate::store::JourneyStore::note_journey_entries`].
pub(super) fn note(
    connection: &Writing<'_>,
    (tenant, journey): (&TenantId, &JourneyName),
    entries: &[JourneyEntry],
) -> Result<(), Fault> {
    let sql = r"-- note_journey_entry
        INSERT INTO journey_entry (tenant, journey, who, entered_at) VALUES (:tenant, :journey, :who, :at)
        ON CONFLICT DO NOTHING";
    let mut statement = connection.prepare_cached(sql)?;
    for JourneyEntry { who, entered_at } in entries {
        statement.execute(named_params! {
            ":tenant": tenant.as_str(),
            ":journey": journey.as_str(),
            ":who": who,
            ":at": millis(*entered_at),
        })?;
    }
    Ok(())
}
