//! Who is due, and what is known of them: read where nobody waits for it, and looked at again when it is acted upon.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use super::{COLUMNS, enrollment, mode};
use crate::domain::contact::CustomerId;
use crate::domain::ids::{JourneyName, TenantId};
use crate::domain::journey::enrollment::{Enrollment, Mode};
use crate::domain::wallet::WalletStatus;
use crate::domain::wallet::identity::Identifiers;
use crate::store::sqlite::accept::millis;
use crate::store::sqlite::attempts::tell_unreadable;
use crate::store::sqlite::contacts::contact;
use crate::store::sqlite::fault::{Cells, Fault};
use crate::store::sqlite::sweep::limit_of;
use crate::store::sqlite::wallets;
use crate::store::{DueEnrollment, DueQuery};

/// Passes of a customer that are looked through for identifiers.
const PASSES_MAX: usize = 20;

/// See [`crate::store::JourneyStore::due_enrollments`].
pub(super) fn due(connection: &Connection, query: &DueQuery) -> Result<Vec<DueEnrollment>, Fault> {
    let sql = format!(
        "-- due_enrollments
        SELECT {COLUMNS} FROM enrollment INDEXED BY enrollment_due
        WHERE tenant = :tenant AND journey = :journey AND due_at <= :now ORDER BY due_at, id LIMIT :limit"
    );
    let mut found = Vec::new();
    for (tenant, journey) in &query.journeys {
        if is_paused(connection, tenant, journey)? {
            continue;
        }
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query(named_params! {
            ":tenant": tenant.as_str(),
            ":journey": journey.as_str(),
            ":now": millis(query.now),
            ":limit": limit_of(query.limit),
        })?;
        while let Some(row) = rows.next()? {
            let read = enrollment(&Cells::new(row, "enrollment"));
            match read.and_then(|enrollment| with_facts(connection, enrollment)) {
                Ok(due) => found.push(due),
                Err(fault) => tell_unreadable(fault)?,
            }
        }
    }
    Ok(found)
}

/// See [`crate::store::JourneyStore::next_enrollment_at`].
pub(super) fn next_at(
    connection: &Connection,
    journeys: &[(TenantId, JourneyName)],
) -> Result<Option<Timestamp>, Fault> {
    let sql = r"-- next_enrollment_at
        SELECT id, due_at FROM enrollment INDEXED BY enrollment_due
        WHERE tenant = :tenant AND journey = :journey AND due_at IS NOT NULL ORDER BY due_at LIMIT 1";
    let mut earliest = None;
    for (tenant, journey) in journeys {
        if is_paused(connection, tenant, journey)? {
            continue;
        }
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(named_params! { ":tenant": tenant.as_str(), ":journey": journey.as_str() })?;
        if let Some(row) = rows.next()? {
            let at = Cells::new(row, "enrollment").time("due_at")?;
            earliest = Some(earliest.map_or(at, |earliest: Timestamp| earliest.min(at)));
        }
    }
    Ok(earliest)
}

pub(super) fn is_paused(connection: &Connection, tenant: &TenantId, journey: &JourneyName) -> Result<bool, Fault> {
    Ok(match mode(connection, tenant, journey)? {
        Mode::Paused => true,
        Mode::Running | Mode::Draining => false,
    })
}

fn with_facts(connection: &Connection, enrollment: Enrollment) -> Result<DueEnrollment, Fault> {
    let Enrollment { tenant, customer, .. } = &enrollment;
    let wallet_status = wallets::status(connection, tenant, customer)?.unwrap_or(WalletStatus::None);
    // Who is known by a pass alone is nobody's contact.
    let id: Option<CustomerId> = customer.value.parse().ok().filter(|_| !customer.is_by_pass());
    let contact = id.map_or(Ok(None), |id| contact(connection, tenant, &id))?;
    let identifiers = identifiers(connection, &enrollment)?;
    Ok(DueEnrollment { enrollment, identifiers, wallet_status, contact })
}

/// The identifiers of the pass; of what it has none, those of the customer's other passes, the latest first.
fn identifiers(connection: &Connection, enrollment: &Enrollment) -> Result<BTreeMap<String, String>, Fault> {
    let sql = r"-- identifiers_of_customer
        SELECT pass_key, identifiers FROM wallet_pass
        WHERE tenant = :tenant AND customer = :customer AND known_by = :known_by ORDER BY changed_at DESC LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! {
        ":tenant": enrollment.tenant.as_str(),
        ":customer": enrollment.customer.value,
        ":known_by": enrollment.customer.by,
        ":limit": limit_of(PASSES_MAX),
    })?;
    let (mut own, mut others) = (BTreeMap::new(), BTreeMap::new());
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "wallet_pass");
        let values = cells.json::<Identifiers>("identifiers")?.into_values();
        if cells.plain::<String>("pass_key")? == enrollment.pass_key {
            own = values;
        } else {
            for (name, value) in values {
                others.entry(name).or_insert(value);
            }
        }
    }
    for (name, value) in others {
        own.entry(name).or_insert(value);
    }
    Ok(own)
}
