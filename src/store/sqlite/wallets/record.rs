//! One pass event after another: into the ledger, then into what it adds up to.

use jiff::Timestamp;
use rusqlite::{Row, named_params};

use super::addresses;
use super::customers::{self, Settling};
use super::nameless_key;
use crate::domain::audit::{Actor, Happening, Kind};
use crate::domain::ids::{EventId, TenantId};
use crate::domain::pass_event::{Change, EventKind, NewPassEvent, RegistrationCounts};
use crate::domain::wallet::history::{Entry, Standings, change, change_of_customer, flapped, standings};
use crate::domain::wallet::identity::Identifiers;
use crate::domain::wallet::{CustomerKey, WalletStatus};
use crate::store::sqlite::accept::millis;
use crate::store::sqlite::audit;
use crate::store::sqlite::fault::{Cells, Fault};
use crate::store::sqlite::sweep::limit_of;
use crate::store::sqlite::writer::Writing;
use crate::store::{RecordRules, Recorded};

/// Records events in their order.
pub(super) fn record(
    connection: &Writing<'_>,
    tenant: &TenantId,
    actor: &Actor,
    events: &[NewPassEvent],
    rules: &RecordRules,
) -> Result<Vec<Recorded>, Fault> {
    let recording = Recording { connection, tenant, actor, rules };
    events.iter().map(|event| recording.one(event)).collect()
}

/// What all events of one call have in common.
struct Recording<'r, 'c> {
    connection: &'r Writing<'c>,
    tenant: &'r TenantId,
    actor: &'r Actor,
    rules: &'r RecordRules,
}

/// What was known of a pass before an event.
struct Known {
    customer: CustomerKey,
    identifiers: Identifiers,
    pass_type: Option<String>,
}

/// An event of a pass's history.
struct Told {
    id: EventId,
    entry: Entry,
}

impl Recording<'_, '_> {
    fn one(&self, new: &NewPassEvent) -> Result<Recorded, Fault> {
        if let Some(key) = &new.event.key
            && let Some((id, pass_key)) = self.first_of(key)?
        {
            return self.repeated(id, self.known(&pass_key)?.as_ref());
        }
        let (key, named) = match (&new.event.pass, CustomerKey::of(&new.event.identifiers, &self.rules.identifiers)) {
            (Some(pass), _) => (pass.clone(), true),
            (None, Some(customer)) => (nameless_key(&customer), false),
            // The ledger's entrance lets no such event in; kept under the event's own id it would do no harm.
            (None, None) => (new.id.to_string(), true),
        };
        let known = self.known(&key)?;
        let history = if known.is_some() { self.history(&key)? } else { Vec::new() };
        let entry = self.entry(new);
        let before = standings(history.iter().map(|told| &told.entry).collect());
        let change = match (&known, named) {
            (Some(known), false) => change_of_customer(&before, self.status(&known.customer)?, &entry),
            (None, false) => {
                let customer = CustomerKey::of(&new.event.identifiers, &self.rules.identifiers);
                let status = customer.map_or(Ok(WalletStatus::None), |customer| self.status(&customer))?;
                change_of_customer(&before, status, &entry)
            }
            (_, true) => change(&before, &entry),
        };
        let same = |told: &&Told| told.entry.wallet == entry.wallet;
        if change == Change::Duplicate && new.event.occurred_at.is_none() && new.event.key.is_none() {
            // By nothing but its state it could not be told from the next, so it is not kept.
            let first = history.iter().filter(same).max_by_key(|told| (told.entry.at, told.entry.kind));
            return self.repeated(first.map_or(new.id, |told| told.id), known.as_ref());
        }
        let flapped = change == Change::Reinstall && flapped(&before, &entry, self.rules.reinstall_settle);
        if !self.insert_event(new, &key, &entry, change, flapped)? {
            let first = history.iter().find(|told| {
                (told.entry.at, told.entry.kind, told.entry.wallet) == (entry.at, entry.kind, entry.wallet)
            });
            return self.repeated(first.map_or(new.id, |told| told.id), known.as_ref());
        }
        let after = standings(history.iter().map(|told| &told.entry).chain([&entry]).collect());
        let status = self.settle(new, &key, &entry, known, &after, change)?;
        Ok(Recorded { id: new.id, change, status, flapped })
    }

    /// A repeat of what is known: nothing changes.
    fn repeated(&self, id: EventId, known: Option<&Known>) -> Result<Recorded, Fault> {
        let status = known.map_or(Ok(WalletStatus::None), |known| self.status(&known.customer))?;
        Ok(Recorded { id, change: Change::Duplicate, status, flapped: false })
    }

    /// The leaf, the pass, its customer, and the customer it belonged to before.
    fn settle(
        &self,
        new: &NewPassEvent,
        key: &str,
        entry: &Entry,
        known: Option<Known>,
        after: &Standings,
        change: Change,
    ) -> Result<WalletStatus, Fault> {
        let event = &new.event;
        let leaf = Happening::new(new.received_at, Kind::PassEvent, self.tenant, None, self.actor.clone())
            .with("eventId", new.id.to_string())
            .with("event", event.kind.as_str())
            .with("wallet", event.wallet.as_str())
            .with("change", change.as_str())
            .with("way", event.way.as_str());
        audit::append(self.connection, &leaf)?;
        let seq = self.connection.next_leaf.get().map_or(0, |next| next - 1);
        let (before, mut identifiers, known_type) = match known {
            Some(Known { customer, identifiers, pass_type }) => (Some(customer), identifiers, pass_type),
            None => (None, Identifiers::default(), None),
        };
        let addresses_before = addresses::among(identifiers.values());
        identifiers.learn(&event.identifiers, entry.at);
        let customer = identifiers.customer(&self.rules.identifiers, key);
        // What comes late has the last word only where there is none.
        let (said, kept) = (event.pass_type.as_ref(), known_type.as_ref());
        let pass_type = if change == Change::Stale { kept.or(said) } else { said.or(kept) };
        self.upsert_pass(key, &customer, pass_type, &identifiers, after)?;
        let addresses = addresses::among(identifiers.values());
        addresses::keep(self.connection, self.tenant, key, &addresses_before, &addresses)?;
        let settling = Settling { tenant: self.tenant, rules: self.rules, seq, at: entry.at, now: new.received_at };
        if let Some(before) = before.filter(|before| *before != customer) {
            customers::settle(self.connection, &before, &settling, Some(&customer))?;
        }
        customers::settle(self.connection, &customer, &settling, None)
    }

    fn entry(&self, new: &NewPassEvent) -> Entry {
        let NewPassEvent { id, received_at, event } = new;
        let ahead = received_at.checked_add(self.rules.time_ahead_max).unwrap_or(Timestamp::MAX);
        let said = event.occurred_at.filter(|at| *at <= ahead);
        let tie = match (&event.key, event.occurred_at) {
            (Some(key), _) => key.clone(),
            // Known again by its time.
            (None, Some(_)) => String::new(),
            (None, None) => id.hex(),
        };
        // As the store keeps it: what is finer than a millisecond would be told apart before it is kept, and not after.
        let stored = |at: Timestamp| Timestamp::from_millisecond(millis(at)).unwrap_or(at);
        Entry {
            at: stored(said.unwrap_or(*received_at)),
            kind: event.kind,
            wallet: event.wallet,
            tie,
            counts: event.counts,
            since: event.since.filter(|_| event.kind == EventKind::Installed).map(stored),
        }
    }

    // --- rows ---

    fn first_of(&self, key: &str) -> Result<Option<(EventId, String)>, Fault> {
        let sql = r"-- first_of_event_key
            SELECT id, pass_key FROM pass_event WHERE tenant = :tenant AND event_key = :key";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(named_params! { ":tenant": self.tenant.as_str(), ":key": key })?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some((event_id(row)?, Cells::new(row, "pass_event").plain("pass_key")?)))
    }

    fn known(&self, key: &str) -> Result<Option<Known>, Fault> {
        let sql = r"-- known_pass
            SELECT customer, known_by, identifiers, pass_type FROM wallet_pass
            WHERE tenant = :tenant AND pass_key = :key";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(named_params! { ":tenant": self.tenant.as_str(), ":key": key })?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let cells = Cells::new(row, "wallet_pass");
        Ok(Some(Known {
            customer: CustomerKey { value: cells.plain("customer")?, by: cells.plain("known_by")? },
            identifiers: cells.json("identifiers")?,
            pass_type: cells.plain("pass_type")?,
        }))
    }

    /// The latest events of a pass, so many as the rules say.
    fn history(&self, key: &str) -> Result<Vec<Told>, Fault> {
        let sql = r"-- history_of_pass
            SELECT id, at, kind, wallet, tie, active, total, since FROM pass_event
            WHERE tenant = :tenant AND pass_key = :key ORDER BY at DESC, kind DESC LIMIT :limit";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(named_params! {
            ":tenant": self.tenant.as_str(),
            ":key": key,
            ":limit": limit_of(self.rules.history_max),
        })?;
        let mut history = Vec::new();
        while let Some(row) = rows.next()? {
            let cells = Cells::new(row, "pass_event");
            let entry = Entry {
                at: cells.time("at")?,
                kind: cells.word("kind")?,
                wallet: cells.word("wallet")?,
                tie: cells.plain("tie")?,
                counts: RegistrationCounts { active: cells.plain("active")?, total: cells.plain("total")? },
                since: cells.time_or_none("since")?,
            };
            history.push(Told { id: event_id(row)?, entry });
        }
        Ok(history)
    }

    fn status(&self, customer: &CustomerKey) -> Result<WalletStatus, Fault> {
        Ok(customers::status(self.connection, self.tenant, customer)?.unwrap_or(WalletStatus::None))
    }

    /// Keeps an event; `false` when the ledger has it already.
    fn insert_event(
        &self,
        new: &NewPassEvent,
        key: &str,
        entry: &Entry,
        change: Change,
        flapped: bool,
    ) -> Result<bool, Fault> {
        let sql = r"-- insert_pass_event
            INSERT INTO pass_event (id, tenant, pass_key, at, kind, wallet, tie, event_key, since, active, total, change,
                flapped, way, received_at, pass_type, tags, medium, origin, user_agent)
            VALUES (:id, :tenant, :pass_key, :at, :kind, :wallet, :tie, :event_key, :since, :active, :total, :change,
                :flapped, :way, :received_at, :pass_type, :tags, :medium, :origin, :user_agent)
            ON CONFLICT DO NOTHING";
        let event = &new.event;
        let inserted = self.connection.prepare_cached(sql)?.execute(named_params! {
            ":id": new.id.as_bytes(),
            ":tenant": self.tenant.as_str(),
            ":pass_key": key,
            ":at": millis(entry.at),
            ":kind": entry.kind.as_str(),
            ":wallet": entry.wallet.as_str(),
            ":tie": entry.tie,
            ":event_key": event.key,
            ":since": entry.since.map(millis),
            ":active": entry.counts.active,
            ":total": entry.counts.total,
            ":change": change.as_str(),
            ":flapped": flapped,
            ":way": event.way.as_str(),
            ":received_at": millis(new.received_at),
            ":pass_type": event.pass_type,
            ":tags": serde_json::json!(event.source.tags).to_string(),
            ":medium": event.source.medium,
            ":origin": event.source.origin,
            ":user_agent": event.source.user_agent,
        })?;
        Ok(inserted == 1)
    }

    fn upsert_pass(
        &self,
        key: &str,
        customer: &CustomerKey,
        pass_type: Option<&String>,
        identifiers: &Identifiers,
        standings: &Standings,
    ) -> Result<(), Fault> {
        let sql = r"-- upsert_wallet_pass
            INSERT INTO wallet_pass
                (tenant, pass_key, customer, known_by, pass_type, identifiers, standings, changed_at)
            VALUES (:tenant, :key, :customer, :known_by, :pass_type, :identifiers, :standings, :changed_at)
            ON CONFLICT (tenant, pass_key) DO UPDATE SET
                customer = excluded.customer, known_by = excluded.known_by, pass_type = excluded.pass_type,
                identifiers = excluded.identifiers, standings = excluded.standings, changed_at = excluded.changed_at";
        self.connection.prepare_cached(sql)?.execute(named_params! {
            ":tenant": self.tenant.as_str(),
            ":key": key,
            ":customer": customer.value,
            ":known_by": customer.by,
            ":pass_type": pass_type,
            ":identifiers": serde_json::json!(identifiers).to_string(),
            ":standings": serde_json::json!(standings).to_string(),
            ":changed_at": standings.changed_at().map(millis),
        })?;
        Ok(())
    }
}

pub(super) fn event_id(row: &Row<'_>) -> Result<EventId, Fault> {
    let cells = Cells::new(row, "pass_event");
    EventId::from_slice(cells.blob("id")?).ok_or_else(|| cells.corrupt("id"))
}
