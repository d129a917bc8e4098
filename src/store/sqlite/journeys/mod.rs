//! Journeys: who enters and leaves with a pass event ([`mod@follow`]), who is due ([`due`]), how each goes on ([`step`]), whose
//! address is asked for ([`contacts`]), and what is shown ([`reading`]).
//!
//! An enrollment's row has a revision that grows with each change. Whoever changes it outside the transaction of a pass event
//! says which one they saw, so of two who decide at once one is told that it is too late.

mod contacts;
mod due;
mod entries;
mod erase;
mod follow;
mod reading;
mod step;

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, named_params};

pub(super) use self::contacts::wake;
pub(super) use self::erase::erase;
pub(super) use self::follow::{Followed, follow};
use super::SqliteStore;
use super::accept::millis;
use super::audit;
use super::content;
use super::fault::{Cells, Fault};
use super::writer::Writing;
use crate::domain::audit::journeys::{journey_exited, journey_resumed};
use crate::domain::ids::{EnrollmentId, JourneyName, MessageId, TenantId};
use crate::domain::journey::Version;
use crate::domain::journey::enrollment::{Enrollment, EnrollmentView, Funnel, Mode};
use crate::domain::message::{MessageView, Reason};
use crate::domain::wallet::CustomerKey;
use crate::store::{
    DueEnrollment, DueQuery, EnrollmentFilter, JourneyEntry, JourneyStore, ModeOrder, Move, Moved, Sought, StoreError,
    Wanted,
};

/// What an [`Enrollment`] is read from.
const COLUMNS: &str = "id, tenant, journey, version, customer, known_by, pass_key, pass, occasion, status, step, due_at, \
                       tries, revision, entered_at, contact_by, sought_at";

#[async_trait]
impl JourneyStore for SqliteStore {
    async fn due_enrollments(&self, query: DueQuery) -> Result<Vec<DueEnrollment>, StoreError> {
        self.read("reading due enrollments", move |connection| due::due(connection, &query)).await
    }

    async fn next_enrollment_at(
        &self,
        journeys: Vec<(TenantId, JourneyName)>,
    ) -> Result<Option<Timestamp>, StoreError> {
        self.read("looking for the next enrollment", move |connection| due::next_at(connection, &journeys)).await
    }

    async fn move_enrollment(&self, mut next: Move) -> Result<Moved, StoreError> {
        let secret = self.subject_secret;
        let Some((message, _)) = &mut next.mail else {
            let work = move |connection: &Writing<'_>| step::go(connection, &secret, &next, None);
            return self.write("moving an enrollment", work).await;
        };
        let pair = content::pack(std::mem::take(&mut message.mime)).await?;
        let (shelved, packed) = self.shelve(message, pair);
        let packed = self.content_keys.seal(message.id, packed)?;
        let work = move |connection: &Writing<'_>| step::go(connection, &secret, &next, Some(&packed));
        let moved = self.write("moving an enrollment", work).await?;
        if let (Moved::Done(Some(_)), Some(shelved)) = (&moved, shelved) {
            shelved.keep();
        }
        Ok(moved)
    }

    async fn drawing(
        &self,
        tenant: &TenantId,
        journey: &JourneyName,
        version: &Version,
    ) -> Result<Option<String>, StoreError> {
        let (tenant, journey, version) = (tenant.clone(), journey.clone(), version.clone());
        let work = move |connection: &Connection| reading::drawing(connection, &tenant, &journey, &version);
        self.read("reading a journey's version", work).await
    }

    async fn wanted_contacts(&self, now: Timestamp, limit: usize) -> Result<Vec<Wanted>, StoreError> {
        self.read("looking for wanted contacts", move |connection| contacts::wanted(connection, now, limit)).await
    }

    async fn next_wanted_at(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read("looking for the next wanted contact", contacts::next_at).await
    }

    async fn contact_sought(&self, wanted: Wanted, sought: Sought, at: Timestamp) -> Result<(), StoreError> {
        let work = move |connection: &Writing<'_>| contacts::sought(connection, &wanted, sought, at);
        self.write("noting what was learned of a contact", work).await
    }

    async fn set_journey_mode(&self, tenant: &TenantId, order: ModeOrder) -> Result<bool, StoreError> {
        let tenant = tenant.clone();
        let work = move |connection: &Writing<'_>| reading::set_mode(connection, &tenant, &order);
        self.write("setting a journey's mode", work).await
    }

    async fn journey_modes(&self, tenant: &TenantId) -> Result<BTreeMap<JourneyName, Mode>, StoreError> {
        let tenant = tenant.clone();
        self.list("listing journeys' modes", move |connection| reading::modes(connection, &tenant)).await
    }

    async fn journey_versions(&self, tenant: &TenantId) -> Result<Vec<(JourneyName, Version, Timestamp)>, StoreError> {
        let tenant = tenant.clone();
        self.list("listing journeys' versions", move |connection| reading::versions(connection, &tenant)).await
    }

    async fn funnel(&self, tenant: &TenantId, journey: &JourneyName) -> Result<Funnel, StoreError> {
        let (tenant, journey) = (tenant.clone(), journey.clone());
        self.list("counting a journey", move |connection| reading::funnel(connection, &tenant, &journey)).await
    }

    async fn enrollments(
        &self,
        tenant: &TenantId,
        filter: EnrollmentFilter,
    ) -> Result<Vec<EnrollmentView>, StoreError> {
        let tenant = tenant.clone();
        self.list("listing enrollments", move |connection| reading::enrollments(connection, &tenant, &filter)).await
    }

    async fn enrollment(
        &self,
        tenant: &TenantId,
        id: EnrollmentId,
    ) -> Result<Option<(EnrollmentView, Vec<MessageView>)>, StoreError> {
        let tenant = tenant.clone();
        self.read("reading an enrollment", move |connection| reading::one(connection, &tenant, id)).await
    }

    async fn journey_entries(
        &self,
        tenant: &TenantId,
        journey: &JourneyName,
        customer: CustomerKey,
        before: Timestamp,
    ) -> Result<Vec<JourneyEntry>, StoreError> {
        let (tenant, journey) = (tenant.clone(), journey.clone());
        let work = move |connection: &Connection| entries::entries(connection, (&tenant, &journey), &customer, before);
        self.list("reading who entered a journey", work).await
    }

    async fn note_journey_entries(
        &self,
        tenant: &TenantId,
        journey: &JourneyName,
        entries: Vec<JourneyEntry>,
    ) -> Result<(), StoreError> {
        let (tenant, journey) = (tenant.clone(), journey.clone());
        let work = move |connection: &Writing<'_>| entries::note(connection, (&tenant, &journey), &entries);
        self.write("noting who entered a journey", work).await
    }
}

fn enrollment(cells: &Cells<'_>) -> Result<Enrollment, Fault> {
    let step: i64 = cells.plain("step")?;
    Ok(Enrollment {
        id: enrollment_id(cells)?,
        tenant: cells.word("tenant")?,
        journey: cells.word("journey")?,
        version: cells.word("version")?,
        customer: CustomerKey { value: cells.plain("customer")?, by: cells.plain("known_by")? },
        pass_key: cells.plain("pass_key")?,
        pass: cells.plain("pass")?,
        occasion: cells.json("occasion")?,
        status: cells.word("status")?,
        step: usize::try_from(step).map_err(|_| cells.corrupt("step"))?,
        due_at: cells.time_or_none("due_at")?,
        tries: cells.plain("tries")?,
        revision: cells.plain("revision")?,
        entered_at: cells.time("entered_at")?,
        contact_by: cells.time_or_none("contact_by")?,
        sought_at: cells.time_or_none("sought_at")?,
    })
}

fn enrollment_id(cells: &Cells<'_>) -> Result<EnrollmentId, Fault> {
    EnrollmentId::from_slice(cells.blob("id")?).ok_or_else(|| cells.corrupt("id"))
}

/// What an operator said of a journey.
fn mode(connection: &Connection, tenant: &TenantId, journey: &JourneyName) -> Result<Mode, Fault> {
    let sql = r"-- journey_mode
        SELECT mode FROM journey_mode WHERE tenant = :tenant AND journey = :journey";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":tenant": tenant.as_str(), ":journey": journey.as_str() })?;
    let Some(row) = rows.next()? else { return Ok(Mode::Running) };
    Cells::new(row, "journey_mode").word("mode")
}

/// Ends the mails of an enrollment that still wait, each with its leaf; returns how many. Where an attempt is past its commit
/// point, that attempt has the last word.
fn cancel_mails(connection: &Writing<'_>, tenant: &TenantId, id: EnrollmentId, at: Timestamp) -> Result<usize, Fault> {
    let sql = r"-- mails_of_enrollment
        SELECT id FROM message
        WHERE enrollment = :enrollment AND status IN ('queued', 'deferred', 'held')
            AND NOT may_have_been_sent AND NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.message = message.id)";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":enrollment": id.as_bytes() })?;
    let mut waiting: Vec<MessageId> = Vec::new();
    while let Some(row) = rows.next()? {
        waiting.push(Cells::new(row, "message").message_id("id")?);
    }
    for message in &waiting {
        super::unless::cancel(connection, *message, Reason::JourneyExited, at)?;
        audit::append(connection, &journey_exited(at, tenant, *message))?;
    }
    Ok(waiting.len())
}

/// Queues again what [`cancel_mails`], or a commit point, has ended since `since`, each with its leaf: the event that ended it
/// was none. What an operator or a brake held, and what is too late, stays as it is.
fn restore_mails(
    connection: &Writing<'_>,
    tenant: &TenantId,
    id: EnrollmentId,
    (since, at): (Timestamp, Timestamp),
) -> Result<(), Fault> {
    let sql = r"-- mails_ended_with_enrollment
        SELECT id FROM message
        WHERE enrollment = :enrollment AND status = 'cancelled' AND reason = :reason AND ended_at >= :since
            AND deliver_by > :at
            AND (SELECT kind FROM audit_leaf WHERE audit_leaf.message = message.id
                AND kind IN ('accepted', 'held', 'released', 'retried', 'deferred') ORDER BY seq DESC LIMIT 1) <> 'held'";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! {
        ":enrollment": id.as_bytes(),
        ":reason": Reason::JourneyExited.as_str(),
        ":since": millis(since),
        ":at": millis(at),
    })?;
    let mut ended: Vec<MessageId> = Vec::new();
    while let Some(row) = rows.next()? {
        ended.push(Cells::new(row, "message").message_id("id")?);
    }
    let sql = r"-- restore_mail
        UPDATE message SET status = 'queued', reason = NULL, due_at = :at, expires_at = deliver_by, ended_at = NULL
        WHERE id = :id AND status = 'cancelled'";
    for message in &ended {
        connection.prepare_cached(sql)?.execute(named_params! { ":id": message.as_bytes(), ":at": millis(at) })?;
        audit::append(connection, &journey_resumed(at, tenant, *message))?;
    }
    Ok(())
}

/// Whether an event has ended the enrollment that sent a message.
pub(super) fn has_exited(connection: &Connection, id: EnrollmentId) -> Result<bool, Fault> {
    let sql = r"-- has_exited
        SELECT 1 FROM enrollment WHERE id = :id AND exited_at IS NOT NULL";
    Ok(connection.prepare_cached(sql)?.exists(named_params! { ":id": id.as_bytes() })?)
}
