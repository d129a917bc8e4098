//! What is shown of journeys, and what operators say of them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, named_params};

use super::mode;
use crate::domain::audit::journeys::journey_set;
use crate::domain::ids::{EnrollmentId, JourneyName, TenantId};
use crate::domain::journey::Version;
use crate::domain::journey::enrollment::{EnrollmentView, Funnel, Mode, Status, StepCount};
use crate::domain::message::MessageView;
use crate::store::sqlite::accept::millis;
use crate::store::sqlite::attempts::tell_unreadable;
use crate::store::sqlite::audit;
use crate::store::sqlite::fault::{Cells, Fault};
use crate::store::sqlite::messages::of_enrollment;
use crate::store::sqlite::sweep::limit_of;
use crate::store::sqlite::writer::Writing;
use crate::store::{EnrollmentFilter, ModeOrder};

/// What a [`view`] reads.
const SHOWN: &str = "id, journey, version, customer, pass, status, exited_by, step, due_at, entered_at, ended_at";

pub(super) fn drawing(
    connection: &Connection,
    tenant: &TenantId,
    journey: &JourneyName,
    version: &Version,
) -> Result<Option<String>, Fault> {
    let sql = r"-- drawing
        SELECT drawing FROM journey_version WHERE tenant = :tenant AND journey = :journey AND version = :version";
    let params = named_params! {
        ":tenant": tenant.as_str(), ":journey": journey.as_str(), ":version": version.as_str()
    };
    Ok(connection.prepare_cached(sql)?.query_row(params, |row| row.get(0)).optional()?)
}

pub(super) fn set_mode(connection: &Writing<'_>, tenant: &TenantId, order: &ModeOrder) -> Result<bool, Fault> {
    if mode(connection, tenant, &order.journey)? == order.mode {
        return Ok(false);
    }
    let sql = r"-- set_journey_mode
        INSERT INTO journey_mode (tenant, journey, mode, changed_at) VALUES (:tenant, :journey, :mode, :at)
        ON CONFLICT (tenant, journey) DO UPDATE SET mode = excluded.mode, changed_at = excluded.changed_at";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":tenant": tenant.as_str(),
        ":journey": order.journey.as_str(),
        ":mode": order.mode.as_str(),
        ":at": millis(order.at),
    })?;
    let ModeOrder { journey, mode, actor, because, at } = order;
    audit::append(connection, &journey_set(*at, tenant, journey, *mode, actor.clone(), because.as_ref()))?;
    Ok(true)
}

pub(super) fn modes(connection: &Connection, tenant: &TenantId) -> Result<BTreeMap<JourneyName, Mode>, Fault> {
    let sql = r"-- journey_modes
        SELECT journey, mode FROM journey_mode WHERE tenant = :tenant";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":tenant": tenant.as_str() })?;
    let mut modes = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "journey_mode");
        modes.insert(cells.word("journey")?, cells.word("mode")?);
    }
    Ok(modes)
}

pub(super) fn versions(
    connection: &Connection,
    tenant: &TenantId,
) -> Result<Vec<(JourneyName, Version, Timestamp)>, Fault> {
    let sql = r"-- journey_versions
        SELECT journey, version, first_at FROM journey_version WHERE tenant = :tenant ORDER BY journey, first_at";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":tenant": tenant.as_str() })?;
    let mut versions = Vec::new();
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "journey_version");
        versions.push((cells.word("journey")?, cells.word("version")?, cells.time("first_at")?));
    }
    Ok(versions)
}

pub(super) fn funnel(connection: &Connection, tenant: &TenantId, journey: &JourneyName) -> Result<Funnel, Fault> {
    let params = named_params! { ":tenant": tenant.as_str(), ":journey": journey.as_str() };
    let sql = r"-- funnel_by_status
        SELECT status, count(*) AS count FROM enrollment INDEXED BY enrollment_by_status
        WHERE tenant = :tenant AND journey = :journey GROUP BY status";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut by_status: BTreeMap<Status, u64> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "enrollment");
        by_status.insert(cells.word("status")?, count(&cells)?);
    }
    let sql = r"-- funnel_by_step
        SELECT version, step, outcome, count FROM journey_step
        WHERE tenant = :tenant AND journey = :journey ORDER BY version, step, outcome";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut steps = Vec::new();
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "journey_step");
        let step: i64 = cells.plain("step")?;
        steps.push(StepCount {
            version: cells.word("version")?,
            step: usize::try_from(step).map_err(|_| cells.corrupt("step"))?,
            outcome: cells.plain("outcome")?,
            count: count(&cells)?,
        });
    }
    Ok(Funnel { entered: by_status.values().sum(), by_status, steps })
}

fn count(cells: &Cells<'_>) -> Result<u64, Fault> {
    u64::try_from(cells.plain::<i64>("count")?).map_err(|_| cells.corrupt("count"))
}

pub(super) fn enrollments(
    connection: &Connection,
    tenant: &TenantId,
    filter: &EnrollmentFilter,
) -> Result<Vec<EnrollmentView>, Fault> {
    // One walk of one index each; a list of a customer is short, whatever its order.
    let walk = match (&filter.customer, filter.status) {
        (Some(_), _) => "INDEXED BY enrollment_of_customer",
        (None, Some(_)) => "INDEXED BY enrollment_by_status",
        (None, None) => "INDEXED BY enrollment_listed",
    };
    let mut conditions = String::from("tenant = :tenant AND journey = :journey AND id < :before");
    if filter.customer.is_some() {
        conditions.push_str(" AND customer = :customer");
    }
    if filter.status.is_some() {
        conditions.push_str(" AND status = :status");
    }
    let sql = format!(
        "-- enrollments
        SELECT {SHOWN} FROM enrollment {walk}
        WHERE {conditions} AND (:customer IS NULL OR TRUE) AND (:status IS NULL OR TRUE) ORDER BY id DESC LIMIT :limit"
    );
    let before = filter.before.as_ref().map_or([u8::MAX; 16], |id| *EnrollmentId::as_bytes(id));
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(named_params! {
        ":tenant": tenant.as_str(),
        ":journey": filter.journey.as_str(),
        ":before": before,
        ":customer": filter.customer,
        ":status": filter.status.map(Status::as_str),
        ":limit": limit_of(filter.limit),
    })?;
    let mut enrollments = Vec::new();
    while let Some(row) = rows.next()? {
        match view(&Cells::new(row, "enrollment")) {
            Ok(enrollment) => enrollments.push(enrollment),
            Err(fault) => tell_unreadable(fault)?,
        }
    }
    Ok(enrollments)
}

/// One enrollment, and the mails it sent.
pub(super) fn one(
    connection: &Connection,
    tenant: &TenantId,
    id: EnrollmentId,
) -> Result<Option<(EnrollmentView, Vec<MessageView>)>, Fault> {
    let sql = format!("-- enrollment\nSELECT {SHOWN} FROM enrollment WHERE id = :id AND tenant = :tenant");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(named_params! { ":id": id.as_bytes(), ":tenant": tenant.as_str() })?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let enrollment = view(&Cells::new(row, "enrollment"))?;
    Ok(Some((enrollment, of_enrollment(connection, tenant, id)?)))
}

fn view(cells: &Cells<'_>) -> Result<EnrollmentView, Fault> {
    let step: i64 = cells.plain("step")?;
    Ok(EnrollmentView {
        id: super::enrollment_id(cells)?,
        journey: cells.word("journey")?,
        version: cells.word("version")?,
        customer_id: cells.plain("customer")?,
        pass_id: cells.plain("pass")?,
        status: cells.word("status")?,
        ended_by: cells.word_or_none("exited_by")?,
        step: usize::try_from(step).map_err(|_| cells.corrupt("step"))?,
        next_at: cells.time_or_none("due_at")?,
        entered_at: cells.time("entered_at")?,
        ended_at: cells.time_or_none("ended_at")?,
    })
}
