//! Pass events by hour, and the alarms raised over them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use super::SqliteStore;
use super::accept::millis;
use super::attempts::tell_unreadable;
use super::fault::{Cells, Fault};
use super::push;
use super::sweep::limit_of;
use super::writer::Writing;
use crate::domain::alarm::{Alarm, Counts, HourCount, Numbers, hour_of};
use crate::domain::ids::{AlarmId, TenantId};
use crate::domain::pass_event::{Change, Way};
use crate::store::{AlarmStore, Counted, NewPush, StoreError};

#[async_trait]
impl AlarmStore for SqliteStore {
    async fn event_counts(&self, tenant: &TenantId, since: i64) -> Result<Counts, StoreError> {
        let tenant = tenant.clone();
        self.list("reading counts of pass events", move |connection| event_counts(connection, &tenant, since)).await
    }

    async fn count_events(
        &self,
        tenant: &TenantId,
        until: Timestamp,
        limit: usize,
        forget_before: i64,
    ) -> Result<Counted, StoreError> {
        let tenant = tenant.clone();
        // Read beside the writer: only one gateway counts, so nothing moves between the two.
        let looking = tenant.clone();
        let look = move |connection: &Connection| next_events(connection, &looking, until, limit);
        let found = self.list("looking for pass events to count", look).await?;
        if found.place.is_some() {
            let (found, tenant) = (found.clone(), tenant);
            let work = move |connection: &Writing<'_>| keep_counted(connection, &tenant, &found, forget_before);
            self.write("counting pass events", work).await?;
        }
        let hours = found.hours.into_iter().collect();
        Ok(Counted { hours, last_install: found.last_install, looked_at: found.looked_at })
    }

    async fn open_alarm(&self, alarm: Alarm, told: Vec<NewPush>) -> Result<(), StoreError> {
        self.write("raising an alarm", move |connection| open(connection, &alarm, &told)).await
    }

    async fn close_alarm(&self, id: AlarmId, at: Timestamp, told: Vec<NewPush>) -> Result<(), StoreError> {
        self.write("ending an alarm", move |connection| close(connection, id, at, &told)).await
    }

    async fn open_alarms(&self, tenant: Option<TenantId>, limit: usize) -> Result<Vec<Alarm>, StoreError> {
        self.list("listing alarms", move |connection| open_alarms(connection, tenant.as_ref(), limit)).await
    }
}

// --- counting ---

fn event_counts(connection: &Connection, tenant: &TenantId, since: i64) -> Result<Counts, Fault> {
    let sql = r"-- counted_tenant
        SELECT first_hour, last_install FROM pass_event_counted WHERE tenant = :tenant";
    let mut counts = Counts::default();
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":tenant": tenant.as_str() })?;
    if let Some(row) = rows.next()? {
        let cells = Cells::new(row, "pass_event_counted");
        (counts.first, counts.last_install) = (cells.plain("first_hour")?, cells.time_or_none("last_install")?);
    }
    let sql = r"-- event_counts
        SELECT hour, installs, uninstalls FROM pass_event_hour WHERE tenant = :tenant AND hour >= :since ORDER BY hour";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":tenant": tenant.as_str(), ":since": since })?;
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "pass_event_hour");
        let count = HourCount { installs: cells.plain("installs")?, uninstalls: cells.plain("uninstalls")? };
        counts.hours.insert(cells.plain("hour")?, count);
    }
    Ok(counts)
}

/// What a step of counting found.
#[derive(Clone, Default)]
struct Found {
    hours: BTreeMap<i64, HourCount>,
    last_install: Option<Timestamp>,
    looked_at: usize,
    /// When the last of them came in.
    place: Option<Timestamp>,
}

/// Events that came in at one moment are counted in one step, since a moment is where the next step begins. If there are
/// more of them than a step takes, which no machine takes in, the rest is not counted.
fn next_events(connection: &Connection, tenant: &TenantId, until: Timestamp, limit: usize) -> Result<Found, Fault> {
    let sql = r"-- next_events
        SELECT id, received_at, way, change FROM pass_event INDEXED BY pass_event_received
        WHERE tenant = :tenant AND received_at > :after AND received_at <= :until ORDER BY received_at LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! {
        ":tenant": tenant.as_str(),
        ":after": counted_until(connection, tenant)?,
        ":until": millis(until),
        ":limit": limit_of(limit),
    })?;
    let mut found = Found::default();
    let (mut before, mut moment) = (Found::default(), None);
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "pass_event");
        let at = cells.time("received_at")?;
        if moment.replace(at).is_some_and(|moment| moment != at) {
            before = found.clone();
        }
        found.looked_at += 1;
        found.place = Some(at);
        count(&cells, at, &mut found)?;
    }
    let is_cut = found.looked_at == limit && before.place.is_some();
    Ok(if is_cut { Found { looked_at: limit, ..before } } else { found })
}

fn count(cells: &Cells<'_>, at: Timestamp, found: &mut Found) -> Result<(), Fault> {
    let way: String = cells.plain("way")?;
    if way == Way::Backfill.as_str() {
        return Ok(());
    }
    let count = found.hours.entry(hour_of(at)).or_default();
    match cells.word("change")? {
        Change::FirstInstall | Change::AdditionalDevice | Change::Reinstall => {
            count.installs += 1;
            found.last_install = Some(at);
        }
        Change::Removed => count.uninstalls += 1,
        Change::Duplicate | Change::Stale => {}
    }
    Ok(())
}

/// Up to when all was counted.
fn counted_until(connection: &Connection, tenant: &TenantId) -> Result<i64, Fault> {
    let sql = r"-- counted_until
        SELECT received_at FROM pass_event_counted WHERE tenant = :tenant";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":tenant": tenant.as_str() })?;
    let Some(row) = rows.next()? else { return Ok(i64::MIN) };
    Cells::new(row, "pass_event_counted").plain("received_at")
}

fn keep_counted(connection: &Writing<'_>, tenant: &TenantId, found: &Found, forget_before: i64) -> Result<(), Fault> {
    let Some(place) = found.place else { return Ok(()) };
    let sql = r"-- add_counts
        INSERT INTO pass_event_hour (tenant, hour, installs, uninstalls) VALUES (:tenant, :hour, :installs, :uninstalls)
        ON CONFLICT DO UPDATE SET installs = installs + excluded.installs, uninstalls = uninstalls + excluded.uninstalls";
    let mut statement = connection.prepare_cached(sql)?;
    for (hour, count) in &found.hours {
        statement.execute(named_params! {
            ":tenant": tenant.as_str(),
            ":hour": hour,
            ":installs": count.installs,
            ":uninstalls": count.uninstalls,
        })?;
    }
    let first = found.hours.first_key_value().map(|(hour, _)| *hour);
    let sql = r"-- keep_counted
        INSERT INTO pass_event_counted (tenant, received_at, first_hour, last_install)
        VALUES (:tenant, :received_at, :first_hour, :last_install)
        ON CONFLICT DO UPDATE SET received_at = excluded.received_at,
            last_install = coalesce(excluded.last_install, last_install)";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":tenant": tenant.as_str(),
        ":received_at": millis(place),
        ":first_hour": first.unwrap_or_else(|| hour_of(place)),
        ":last_install": found.last_install.map(millis),
    })?;
    let sql = r"-- forget_counts
        DELETE FROM pass_event_hour WHERE tenant = :tenant AND hour < :before";
    let params = named_params! { ":tenant": tenant.as_str(), ":before": forget_before };
    connection.prepare_cached(sql)?.execute(params)?;
    Ok(())
}

// --- alarms ---

fn open(connection: &Writing<'_>, alarm: &Alarm, told: &[NewPush]) -> Result<(), Fault> {
    let sql = r"-- open_alarm
        INSERT OR IGNORE INTO alarm (id, tenant, kind, seen, usual, opened_at)
        VALUES (:id, :tenant, :kind, :seen, :usual, :opened_at)";
    let opened = connection.prepare_cached(sql)?.execute(named_params! {
        ":id": alarm.id.as_bytes(),
        ":tenant": alarm.tenant.as_str(),
        ":kind": alarm.kind.as_str(),
        ":seen": alarm.numbers.seen,
        ":usual": alarm.numbers.usual,
        ":opened_at": millis(alarm.opened_at),
    })?;
    if opened == 1 { push::tell(connection, told, alarm.opened_at) } else { Ok(()) }
}

fn close(connection: &Writing<'_>, id: AlarmId, at: Timestamp, told: &[NewPush]) -> Result<(), Fault> {
    let sql = r"-- close_alarm
        UPDATE alarm SET closed_at = :at WHERE id = :id AND closed_at IS NULL";
    let closed = connection.prepare_cached(sql)?.execute(named_params! { ":id": id.as_bytes(), ":at": millis(at) })?;
    if closed == 1 { push::tell(connection, told, at) } else { Ok(()) }
}

fn open_alarms(connection: &Connection, tenant: Option<&TenantId>, limit: usize) -> Result<Vec<Alarm>, Fault> {
    let sql = r"-- open_alarms
        SELECT id, tenant, kind, seen, usual, opened_at, closed_at FROM alarm INDEXED BY alarm_open
        WHERE closed_at IS NULL AND tenant > '' AND (:tenant IS NULL OR tenant = :tenant)
        ORDER BY opened_at, id LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let params = named_params! { ":tenant": tenant.map(TenantId::as_str), ":limit": limit_of(limit) };
    let mut rows = statement.query(params)?;
    let mut alarms = Vec::new();
    while let Some(row) = rows.next()? {
        match read_alarm(&Cells::new(row, "alarm")) {
            Ok(alarm) => alarms.push(alarm),
            Err(fault) => tell_unreadable(fault)?,
        }
    }
    Ok(alarms)
}

fn read_alarm(cells: &Cells<'_>) -> Result<Alarm, Fault> {
    Ok(Alarm {
        id: AlarmId::from_slice(cells.blob("id")?).ok_or_else(|| cells.corrupt("id"))?,
        tenant: cells.word("tenant")?,
        kind: cells.word("kind")?,
        numbers: Numbers { seen: cells.plain("seen")?, usual: cells.plain("usual")? },
        opened_at: cells.time("opened_at")?,
        closed_at: cells.time_or_none("closed_at")?,
    })
}
