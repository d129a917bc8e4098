//! Enrollments that wait for an address: whose is asked for, and what wakes them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use crate::domain::contact::CustomerId;
use crate::domain::ids::TenantId;
use crate::store::sqlite::accept::millis;
use crate::store::sqlite::fault::{Cells, Fault};
use crate::store::sqlite::sweep::limit_of;
use crate::store::sqlite::writer::Writing;
use crate::store::{Sought, Wanted};

/// Something became known of a customer: whoever waits for their address looks again.
pub(in crate::store::sqlite) fn wake(
    connection: &Writing<'_>,
    tenant: &TenantId,
    customer: &str,
    at: Timestamp,
) -> Result<(), Fault> {
    let sql = r"-- wake_enrollments
        UPDATE enrollment INDEXED BY enrollment_of_customer SET due_at = :at, seek_at = NULL, revision = revision + 1
        WHERE tenant = :tenant AND customer = :customer AND status = 'awaiting-contact' AND due_at > :at";
    let params = named_params! { ":tenant": tenant.as_str(), ":customer": customer, ":at": millis(at) };
    connection.prepare_cached(sql)?.execute(params)?;
    Ok(())
}

/// Customers whose address is to be asked for.
pub(super) fn wanted(connection: &Connection, now: Timestamp, limit: usize) -> Result<Vec<Wanted>, Fault> {
    let sql = r"-- wanted_contacts
        SELECT id, tenant, customer FROM enrollment INDEXED BY enrollment_seek
        WHERE seek_at <= :now ORDER BY seek_at LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":now": millis(now), ":limit": limit_of(limit) })?;
    let (mut wanted, mut seen) = (Vec::new(), BTreeSet::new());
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "enrollment");
        let (tenant, customer): (TenantId, CustomerId) = (cells.word("tenant")?, cells.word("customer")?);
        if seen.insert((tenant.clone(), customer.clone())) {
            wanted.push(Wanted { tenant, customer });
        }
    }
    Ok(wanted)
}

/// When the next address is to be asked for.
pub(super) fn next_at(connection: &Connection) -> Result<Option<Timestamp>, Fault> {
    let sql = r"-- next_wanted_at
        SELECT id, seek_at FROM enrollment INDEXED BY enrollment_seek WHERE seek_at IS NOT NULL ORDER BY seek_at LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    rows.next()?.map(|row| Cells::new(row, "enrollment").time("seek_at")).transpose()
}

/// Tells those that wait what was learned.
pub(super) fn sought(connection: &Writing<'_>, wanted: &Wanted, sought: Sought, at: Timestamp) -> Result<(), Fault> {
    let sql = r"-- contact_sought
        UPDATE enrollment INDEXED BY enrollment_of_customer
        SET due_at = CASE WHEN :found THEN :at ELSE due_at END, seek_at = :seek_at, sought_at = :at,
            revision = revision + 1
        WHERE tenant = :tenant AND customer = :customer AND status = 'awaiting-contact'";
    let seek_at = match sought {
        Sought::Found => None,
        Sought::NotYet(again) => Some(again),
    };
    connection.prepare_cached(sql)?.execute(named_params! {
        ":tenant": wanted.tenant.as_str(),
        ":customer": wanted.customer.as_str(),
        ":found": seek_at.is_none(),
        ":at": millis(at),
        ":seek_at": seek_at.map(millis),
    })?;
    Ok(())
}
