//! What follows from a pass event for journeys, in its transaction: who leaves, who comes back, who enters.
//!
//! ```text
//! a repeat, something stale            nothing
//! an install that undid a removal      who left with that removal comes back; whom the removal took leaves
//! anything else                        who is to leave on it leaves, their waiting mails with them; then who enters
//! what the Pass API says               who is to leave leaves; nobody enters
//! ```
//!
//! Once is for ever: who entered stands in `journey_entry`, under the pass and under the customer, as they are known at that
//! moment. When a pass turns out to be a customer's, what it has entered stands under them, too.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, named_params};

use super::{cancel_mails, mode, restore_mails};
use crate::domain::audit::journeys::Way;
use crate::domain::ids::{EnrollmentId, EventId, JourneyName, TenantId};
use crate::domain::journey::enrollment::{Ending, Mode, Status};
use crate::domain::journey::rule::Occasion;
use crate::domain::journey::{Drawn, EntryRule, Trigger, Version};
use crate::domain::pass_event::{self, Change, NewPassEvent};
use crate::domain::wallet::customer::Naming;
use crate::domain::wallet::{CustomerKey, WalletStatus};
use crate::store::sqlite::accept::millis;
use crate::store::sqlite::audit;
use crate::store::sqlite::fault::{Cells, Fault};
use crate::store::sqlite::writer::Writing;

/// What stands between the parts of an entry's key; no identifier or pass's id holds it.
const APART: char = '\u{1}';

/// An event, and what it made of the ledger.
pub(in crate::store::sqlite) struct Followed<'f> {
    pub(in crate::store::sqlite) tenant: &'f TenantId,
    pub(in crate::store::sqlite) journeys: &'f [Arc<Drawn>],
    pub(in crate::store::sqlite) new: &'f NewPassEvent,
    pub(in crate::store::sqlite) change: Change,
    /// Whether it undid a removal within the settling time.
    pub(in crate::store::sqlite) flapped: bool,
    pub(in crate::store::sqlite) naming: Naming,
    /// The ledger's key of the pass.
    pub(in crate::store::sqlite) pass_key: &'f str,
    pub(in crate::store::sqlite) pass_type: Option<&'f str>,
    /// Whose the pass was before, if it was known.
    pub(in crate::store::sqlite) before: Option<&'f CustomerKey>,
    /// Whose it is.
    pub(in crate::store::sqlite) customer: &'f CustomerKey,
    /// Whether the pass is in any wallet now.
    pub(in crate::store::sqlite) is_installed: bool,
    /// In which wallets the customer has a pass now.
    pub(in crate::store::sqlite) status: WalletStatus,
    /// How soon a removal may be undone so that it was none.
    pub(in crate::store::sqlite) settle: Duration,
}

/// Does what follows; the enrollments that begin.
pub(in crate::store::sqlite) fn follow(
    connection: &Writing<'_>,
    followed: &Followed<'_>,
) -> Result<Vec<EnrollmentId>, Fault> {
    if let Some(before) = followed.before.filter(|before| *before != followed.customer) {
        followed.rename(connection, before)?;
    }
    super::wake(connection, followed.tenant, &followed.customer.value, followed.now())?;
    if followed.flapped {
        followed.take_back(connection)?;
        return Ok(Vec::new());
    }
    let is_installed = match followed.naming {
        Naming::Named => followed.is_installed,
        Naming::Nameless => followed.status != WalletStatus::None,
    };
    let Some(trigger) = Trigger::of(followed.change, is_installed) else { return Ok(Vec::new()) };
    followed.leave(connection, trigger)?;
    match followed.new.event.way {
        pass_event::Way::Backfill => Ok(Vec::new()),
        pass_event::Way::Hook | pass_event::Way::Installation | pass_event::Way::Webhook => {
            followed.enter(connection, trigger)
        }
    }
}

/// An enrollment that an event may end.
struct Found {
    id: EnrollmentId,
    journey: JourneyName,
    version: Version,
    status: Status,
    begun_by: Trigger,
    exit_on: String,
    exited_at: Option<Timestamp>,
    exited_by: Option<Trigger>,
}

impl Found {
    fn read(cells: &Cells<'_>) -> Result<Self, Fault> {
        Ok(Self {
            id: super::enrollment_id(cells)?,
            journey: cells.word("journey")?,
            version: cells.word("version")?,
            status: cells.word("status")?,
            begun_by: cells.word("begun_by")?,
            exit_on: cells.plain("exit_on")?,
            exited_at: cells.time_or_none("exited_at")?,
            exited_by: cells.word_or_none("exited_by")?,
        })
    }

    fn leaves_on(&self, trigger: Trigger) -> bool {
        self.exit_on.split(' ').any(|word| word == trigger.as_str())
    }
}

impl Followed<'_> {
    fn now(&self) -> Timestamp {
        self.new.received_at
    }

    fn way<'w>(&'w self, id: EnrollmentId, journey: &'w JourneyName, version: &'w Version) -> Way<'w> {
        Way { tenant: self.tenant, id, journey, version }
    }

    /// The pass turned out to be somebody else's.
    fn rename(&self, connection: &Writing<'_>, before: &CustomerKey) -> Result<(), Fault> {
        let sql = r"-- rename_enrollments
            UPDATE enrollment SET customer = :customer, known_by = :known_by, revision = revision + 1
            WHERE tenant = :tenant AND pass_key = :pass AND customer = :before AND known_by = :before_by";
        connection.prepare_cached(sql)?.execute(named_params! {
            ":tenant": self.tenant.as_str(),
            ":pass": self.pass_key,
            ":customer": self.customer.value,
            ":known_by": self.customer.by,
            ":before": before.value,
            ":before_by": before.by,
        })?;
        // What the pass has entered its customer has: their next pass is not taken once more.
        let sql = r"-- rename_entries
            INSERT INTO journey_entry (tenant, journey, who, entered_at)
            SELECT tenant, journey, :by_customer, entered_at FROM journey_entry WHERE tenant = :tenant AND who = :by_pass
            ON CONFLICT (tenant, journey, who) DO UPDATE SET entered_at = max(entered_at, excluded.entered_at)";
        let [by_pass, by_customer] = self.keys();
        connection.prepare_cached(sql)?.execute(named_params! {
            ":tenant": self.tenant.as_str(),
            ":by_pass": by_pass,
            ":by_customer": by_customer,
        })?;
        Ok(())
    }

    /// Enrollments of the pass; of all passes of the customer, when the event speaks of all or nothing is left of them.
    fn found(&self, connection: &Writing<'_>) -> Result<Vec<Found>, Fault> {
        let of_pass = r"-- enrollments_of_pass
            SELECT id, journey, version, status, begun_by, exit_on, exited_at, exited_by FROM enrollment
            WHERE tenant = :tenant AND pass_key = :pass AND :customer IS NOT NULL AND :known_by IS NOT NULL";
        let of_customer = r"-- enrollments_of_customer
            SELECT id, journey, version, status, begun_by, exit_on, exited_at, exited_by FROM enrollment
            WHERE tenant = :tenant AND customer = :customer AND known_by = :known_by AND :pass IS NOT NULL";
        let speaks_of_all = match self.naming {
            Naming::Nameless => true,
            Naming::Named => self.status == WalletStatus::None,
        };
        let mut statement = connection.prepare_cached(if speaks_of_all { of_customer } else { of_pass })?;
        let mut rows = statement.query(named_params! {
            ":tenant": self.tenant.as_str(),
            ":pass": self.pass_key,
            ":customer": self.customer.value,
            ":known_by": self.customer.by,
        })?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(Found::read(&Cells::new(row, "enrollment"))?);
        }
        Ok(found)
    }

    /// Ends what is to end on this, and the mails that are still to go out of what has ended already.
    fn leave(&self, connection: &Writing<'_>, trigger: Trigger) -> Result<(), Fault> {
        for one in self.found(connection)? {
            if !one.leaves_on(trigger) || one.exited_at.is_some() {
                continue;
            }
            let cancelled = cancel_mails(connection, self.tenant, one.id, self.now())?;
            if one.status.is_live() || cancelled > 0 {
                self.end(connection, &one, trigger)?;
            }
        }
        Ok(())
    }

    fn end(&self, connection: &Writing<'_>, one: &Found, trigger: Trigger) -> Result<(), Fault> {
        let sql = r"-- exit_enrollment
            UPDATE enrollment SET status = :status, resume_at = due_at, due_at = NULL, seek_at = NULL,
                ended_at = coalesce(ended_at, :at), exited_at = :at, exited_by = :trigger, revision = revision + 1
            WHERE id = :id";
        let status = if one.status.is_live() { Status::Ended(Ending::Exited) } else { one.status };
        connection.prepare_cached(sql)?.execute(named_params! {
            ":id": one.id.as_bytes(),
            ":status": status.as_str(),
            ":at": millis(self.now()),
            ":trigger": trigger.as_str(),
        })?;
        let way = self.way(one.id, &one.journey, &one.version);
        audit::append(connection, &way.exited(self.now(), status, Some(trigger)))
    }

    /// The removal before this was none: who left with it goes on where they were, and whom it took leaves.
    fn take_back(&self, connection: &Writing<'_>) -> Result<(), Fault> {
        let since = self.now().checked_sub(self.settle).unwrap_or(Timestamp::MIN);
        for one in self.found(connection)? {
            let left_at = one.exited_at.filter(|at| *at >= since && one.exited_by == Some(Trigger::Removed));
            if let Some(left_at) = left_at {
                self.resume(connection, &one)?;
                restore_mails(connection, self.tenant, one.id, (left_at, self.now()))?;
            } else if one.status.is_live() && one.begun_by == Trigger::Removed {
                cancel_mails(connection, self.tenant, one.id, self.now())?;
                self.end(connection, &one, Trigger::Reinstall)?;
                self.forget_entry(connection, &one.journey)?;
            }
        }
        Ok(())
    }

    /// Somebody goes on where they were; who had come to the end with a mail still to go out only gets that mail. Who waited
    /// for an address has it looked for at once.
    fn resume(&self, connection: &Writing<'_>, one: &Found) -> Result<(), Fault> {
        let goes_on = r"-- resume_enrollment
            UPDATE enrollment SET status = CASE WHEN contact_by IS NULL THEN 'active' ELSE 'awaiting-contact' END,
                due_at = CASE WHEN contact_by IS NULL THEN max(resume_at, :at) ELSE :at END, resume_at = NULL,
                ended_at = NULL, exited_at = NULL, exited_by = NULL, revision = revision + 1
            WHERE id = :id";
        let was_over = r"-- resume_ended
            UPDATE enrollment SET exited_at = NULL, exited_by = NULL, revision = revision + 1
            WHERE id = :id AND :at IS NOT NULL";
        let sql = if one.status == Status::Ended(Ending::Exited) { goes_on } else { was_over };
        let params = named_params! { ":id": one.id.as_bytes(), ":at": millis(self.now()) };
        connection.prepare_cached(sql)?.execute(params)?;
        let way = self.way(one.id, &one.journey, &one.version);
        audit::append(connection, &way.resumed(self.now(), self.new.id))
    }

    /// Enters the journeys that this begins, each if its rule allows.
    fn enter(&self, connection: &Writing<'_>, trigger: Trigger) -> Result<Vec<EnrollmentId>, Fault> {
        let occasion = Occasion::of(&self.new.event, self.pass_type);
        let mut entered = Vec::new();
        for (index, drawn) in self.journeys.iter().enumerate() {
            let journey = &drawn.journey;
            if journey.trigger != trigger || !journey.when.holds(&occasion) {
                continue;
            }
            match mode(connection, self.tenant, &journey.name)? {
                Mode::Draining => continue,
                // Who comes while it pauses waits with the others.
                Mode::Running | Mode::Paused => {}
            }
            if !self.may_enter(connection, drawn)? {
                continue;
            }
            let id = enrollment_id(self.new.id, index);
            self.keep_version(connection, drawn)?;
            self.insert(connection, id, drawn, &occasion)?;
            let way = self.way(id, &journey.name, &drawn.version);
            audit::append(connection, &way.enrolled(self.now(), self.new.id, trigger))?;
            entered.push(id);
        }
        Ok(entered)
    }

    /// By what an entry is known again: the pass, and the customer.
    fn keys(&self) -> [String; 2] {
        let CustomerKey { value, by } = self.customer;
        [format!("p{APART}{}", self.pass_key), format!("c{APART}{by}{APART}{value}")]
    }

    /// Whether the rule allows it; then the entry is noted.
    fn may_enter(&self, connection: &Writing<'_>, drawn: &Drawn) -> Result<bool, Fault> {
        let [by_pass, by_customer] = self.keys();
        let journey = &drawn.journey;
        let (asked, since) = match journey.entry {
            EntryRule::EveryTime => (Vec::new(), Timestamp::MAX),
            EntryRule::OncePerPass => (vec![&by_pass], Timestamp::MIN),
            EntryRule::OncePerCustomer => (vec![&by_pass, &by_customer], Timestamp::MIN),
            EntryRule::Cooldown(length) => {
                let since = self.now().checked_sub(length.0).unwrap_or(Timestamp::MIN);
                (vec![&by_pass, &by_customer], since)
            }
        };
        let sql = r"-- last_entry
            SELECT entered_at FROM journey_entry WHERE tenant = :tenant AND journey = :journey AND who = :who";
        for who in asked {
            let params = named_params! {
                ":tenant": self.tenant.as_str(), ":journey": journey.name.as_str(), ":who": who
            };
            let last: Option<i64> = connection.prepare_cached(sql)?.query_row(params, |row| row.get(0)).optional()?;
            if last.is_some_and(|last| last > millis(since) || since == Timestamp::MIN) {
                return Ok(false);
            }
        }
        let sql = r"-- note_entry
            INSERT INTO journey_entry (tenant, journey, who, entered_at) VALUES (:tenant, :journey, :who, :at)
            ON CONFLICT (tenant, journey, who) DO UPDATE SET entered_at = excluded.entered_at";
        for who in [by_pass, by_customer] {
            connection.prepare_cached(sql)?.execute(named_params! {
                ":tenant": self.tenant.as_str(),
                ":journey": journey.name.as_str(),
                ":who": who,
                ":at": millis(self.now()),
            })?;
        }
        Ok(true)
    }

    fn forget_entry(&self, connection: &Writing<'_>, journey: &JourneyName) -> Result<(), Fault> {
        let sql = r"-- forget_entry
            DELETE FROM journey_entry WHERE tenant = :tenant AND journey = :journey AND who = :who";
        for who in self.keys() {
            let params = named_params! { ":tenant": self.tenant.as_str(), ":journey": journey.as_str(), ":who": who };
            connection.prepare_cached(sql)?.execute(params)?;
        }
        Ok(())
    }

    fn keep_version(&self, connection: &Writing<'_>, drawn: &Drawn) -> Result<(), Fault> {
        let sql = r"-- keep_version
            INSERT INTO journey_version (tenant, journey, version, drawing, first_at)
            VALUES (:tenant, :journey, :version, :drawing, :at) ON CONFLICT DO NOTHING";
        connection.prepare_cached(sql)?.execute(named_params! {
            ":tenant": self.tenant.as_str(),
            ":journey": drawn.journey.name.as_str(),
            ":version": drawn.version.as_str(),
            ":drawing": drawn.written,
            ":at": millis(self.now()),
        })?;
        Ok(())
    }

    fn insert(
        &self,
        connection: &Writing<'_>,
        id: EnrollmentId,
        drawn: &Drawn,
        occasion: &Occasion,
    ) -> Result<(), Fault> {
        let sql = r"-- insert_enrollment
            INSERT INTO enrollment (id, tenant, journey, version, customer, known_by, pass_key, pass, begun_by, occasion,
                exit_on, status, step, due_at, tries, revision, entered_at)
            VALUES (:id, :tenant, :journey, :version, :customer, :known_by, :pass_key, :pass, :begun_by, :occasion,
                :exit_on, 'active', 0, :due_at, 0, 0, :entered_at)";
        let journey = &drawn.journey;
        // A removal may be undone in a moment, and was none then.
        let begins_at = match journey.trigger {
            Trigger::Removed => self.now().checked_add(self.settle).unwrap_or(self.now()),
            Trigger::FirstInstall | Trigger::Reinstall | Trigger::AdditionalDevice => self.now(),
        };
        let exit_on: Vec<&str> = journey.exit_on.iter().map(|trigger| trigger.as_str()).collect();
        connection.prepare_cached(sql)?.execute(named_params! {
            ":id": id.as_bytes(),
            ":tenant": self.tenant.as_str(),
            ":journey": journey.name.as_str(),
            ":version": drawn.version.as_str(),
            ":customer": self.customer.value,
            ":known_by": self.customer.by,
            ":pass_key": self.pass_key,
            ":pass": self.new.event.pass,
            ":begun_by": journey.trigger.as_str(),
            // Texts and lists of them: writing these as JSON cannot fail.
            ":occasion": serde_json::to_string(occasion).unwrap_or_default(),
            ":exit_on": exit_on.join(" "),
            ":due_at": millis(begins_at),
            ":entered_at": millis(self.now()),
        })?;
        Ok(())
    }
}

/// The id of the enrollment that an event makes in the journey of this index: the event's own, told apart by the index, so
/// that a transaction that runs twice makes the same ones.
fn enrollment_id(event: EventId, index: usize) -> EnrollmentId {
    let mut bytes = *event.as_bytes();
    let index = u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes();
    for (byte, mask) in bytes[14..].iter_mut().zip(index) {
        *byte ^= mask;
    }
    EnrollmentId::from_uuid(uuid::Uuid::from_bytes(bytes))
}
