//! One pass event after another: into the ledger, then into what it adds up to.

use hmac::digest::Digest as _;
use jiff::{SignedDuration, Timestamp};
use rusqlite::{Row, named_params};
use sha2::Sha256;

use super::aliases;
use super::customers::{self, Settling};
use super::nameless_key;
use crate::domain::audit::{Actor, Happening, Kind, hex};
use crate::domain::ids::{EventId, TenantId};
use crate::domain::pass_event::{Change, EventKind, NewPassEvent, RegistrationCounts, Wallet};
use crate::domain::wallet::customer::Naming;
use crate::domain::wallet::history::{
    Entry, Standing, Standings, change, change_of_customer, flapped, follow, standings,
};
use crate::domain::wallet::identity::Identifiers;
use crate::domain::wallet::{CustomerKey, WalletStatus};
use crate::store::sqlite::accept::millis;
use crate::store::sqlite::audit;
use crate::store::sqlite::fault::{Cells, Fault};
use crate::store::sqlite::journeys::{self, Followed};
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
#[derive(Default)]
struct Known {
    /// Whose it was; `None`: nothing was known of it.
    customer: Option<CustomerKey>,
    identifiers: Identifiers,
    pass_type: Option<String>,
    standings: Standings,
}

/// The pass that an event is of.
struct Place {
    key: String,
    naming: Naming,
}

impl Recording<'_, '_> {
    fn one(&self, new: &NewPassEvent) -> Result<Recorded, Fault> {
        let Place { key, naming } = self.place(new);
        let known = self.known(&key)?;
        let before = known.standings;
        let entry = self.entry(new, &before);
        let mut identifiers = known.identifiers.clone();
        identifiers.learn(&new.event.identifiers, &self.rules.identifiers, entry.at);
        let customer = identifiers.customer(&self.rules.identifiers, &key);
        let whose = known.customer.as_ref().unwrap_or(&customer);
        let event_key = new.event.key.as_ref().map(|said| event_key(said, &entry, &key));
        if let Some(event_key) = &event_key
            && let Some(id) = self.first_of(event_key)?
        {
            return self.repeated(id, whose);
        }
        let change = match naming {
            Naming::Named => self.change_of_named(&before, whose, &entry)?,
            Naming::Nameless => change_of_customer(&before, self.status(whose)?, &entry),
        };
        // By nothing but what it changes is an event without key and time told from the next.
        let is_untold = new.event.occurred_at.is_none() && event_key.is_none();
        let teaches = !identifiers.says_as(&known.identifiers)
            || new.event.pass_type.as_ref().is_some_and(|said| known.pass_type.as_ref() != Some(said));
        let repeats = change == Change::Duplicate && !teaches;
        if let Some(here) = before.get(entry.wallet).filter(|_| repeats && is_untold) {
            return self.repeated(self.last_of(&key, &entry, here)?.unwrap_or(new.id), whose);
        }
        let flapped = change == Change::Reinstall && flapped(&before, &entry, self.rules.reinstall_settle);
        let is_kept = self.insert_event(new, &key, &entry, event_key.as_deref(), (change, flapped))?;
        if !is_kept && !teaches {
            return self.repeated(self.same_as(&key, &entry)?.unwrap_or(new.id), whose);
        }
        let after = match (is_kept, before.are_before(&entry)) {
            (false, _) => before,
            (true, true) => follow(before, &entry),
            (true, false) => self.walked_again(&key, &before)?,
        };
        let pass = Pass { key: &key, customer: &customer, identifiers: &identifiers, standings: &after };
        let status = self.settle(new, &entry, &known, &pass, change)?;
        let change = if is_kept { change } else { Change::Duplicate };
        let followed = Followed {
            tenant: self.tenant,
            journeys: &self.rules.journeys,
            new,
            change,
            flapped,
            naming,
            pass_key: &key,
            pass_type: new.event.pass_type.as_deref().or(known.pass_type.as_deref()),
            before: known.customer.as_ref(),
            customer: &customer,
            is_installed: Wallet::ALL.into_iter().any(|wallet| after.is_in(wallet)),
            status,
            settle: self.rules.reinstall_settle,
        };
        let enrollments = journeys::follow(self.connection, &followed)?;
        Ok(Recorded { id: new.id, change, status, flapped, enrollments })
    }

    fn place(&self, new: &NewPassEvent) -> Place {
        match (&new.event.pass, CustomerKey::of(&new.event.identifiers, &self.rules.identifiers)) {
            (Some(pass), _) => Place { key: pass.clone(), naming: Naming::Named },
            (None, Some(customer)) => Place { key: nameless_key(&customer), naming: Naming::Nameless },
            // The ledger's entrance lets no such event in; kept under the event's own id it would do no harm.
            (None, None) => Place { key: new.id.to_string(), naming: Naming::Named },
        }
    }

    /// What an event of a pass is. One that says nothing new of the pass may say something new of the customer, if words
    /// that named no pass stand between.
    fn change_of_named(&self, before: &Standings, whose: &CustomerKey, entry: &Entry) -> Result<Change, Fault> {
        let said = change(before, entry);
        if said != Change::Duplicate {
            return Ok(said);
        }
        let nameless = self.known(&nameless_key(whose))?;
        let Some(standing) = nameless.standings.get(entry.wallet) else { return Ok(said) };
        let is_in = self.status(whose)?.has(entry.wallet);
        Ok(match (entry.kind, standing.last) {
            (EventKind::Installed, EventKind::Uninstalled) if !is_in => Change::Reinstall,
            (EventKind::Uninstalled, EventKind::Installed) if is_in => Change::Removed,
            (EventKind::Installed | EventKind::Uninstalled, _) => said,
        })
    }

    /// A repeat of what is known: nothing changes.
    fn repeated(&self, id: EventId, whose: &CustomerKey) -> Result<Recorded, Fault> {
        Ok(Recorded {
            id,
            change: Change::Duplicate,
            status: self.status(whose)?,
            flapped: false,
            enrollments: Vec::new(),
        })
    }

    /// The leaf, the pass, its customer, and the customer it belonged to before.
    fn settle(
        &self,
        new: &NewPassEvent,
        entry: &Entry,
        known: &Known,
        pass: &Pass<'_>,
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
        // What comes late has the last word only where there is none.
        let (said, kept) = (event.pass_type.as_ref(), known.pass_type.as_ref());
        let pass_type = if change == Change::Stale { kept.or(said) } else { said.or(kept) };
        self.upsert_pass(pass, entry, pass_type)?;
        let names = &self.rules.identifiers;
        let before = known.customer.as_ref();
        let aliases_before =
            before.map(|customer| aliases::of(&known.identifiers, customer, names)).unwrap_or_default();
        let aliases = aliases::of(pass.identifiers, pass.customer, names);
        aliases::keep(self.connection, self.tenant, pass.key, &aliases_before, &aliases)?;
        let settling = Settling { tenant: self.tenant, rules: self.rules, seq, at: entry.at, now: new.received_at };
        if let Some(before) = before.filter(|before| *before != pass.customer) {
            customers::settle(self.connection, before, &settling, Some(pass.customer))?;
        }
        customers::settle(self.connection, pass.customer, &settling, None)
    }

    fn entry(&self, new: &NewPassEvent, before: &Standings) -> Entry {
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
        let received_at = stored(*received_at);
        // Who says no time speaks of now: after whatever was heard, also from a clock ahead of ours.
        let heard_at =
            before.get(event.wallet).map(|standing| standing.heard_at).filter(|_| event.occurred_at.is_none());
        let now = heard_at
            .filter(|heard_at| *heard_at >= received_at)
            .map_or(received_at, |heard_at| heard_at.checked_add(SignedDuration::from_millis(1)).unwrap_or(heard_at));
        Entry {
            at: said.map_or(now, stored),
            kind: event.kind,
            wallet: event.wallet,
            tie,
            counts: event.counts,
            since: event.since.filter(|_| event.kind == EventKind::Installed).map(stored),
        }
    }

    /// What a pass's events add up to after one that came late. The latest events of each wallet are walked; what is older
    /// than these counts as `before` has it.
    fn walked_again(&self, key: &str, before: &Standings) -> Result<Standings, Fault> {
        let of_wallets = [self.history(key, Wallet::Apple)?, self.history(key, Wallet::Google)?];
        let mut after = standings(of_wallets.iter().flatten().collect());
        for (wallet, events) in Wallet::ALL.into_iter().zip(&of_wallets) {
            let oldest = events.iter().map(|event| event.at).min().filter(|_| events.len() >= self.rules.history_max);
            if let (Some(oldest), Some(known), Some(found)) = (oldest, before.get(wallet), after.get(wallet))
                && known.last == found.last
                && found.since >= oldest
                && known.since < oldest
            {
                after.set(wallet, Standing { since: known.since, changed_at: known.changed_at, ..found });
            }
        }
        Ok(after)
    }

    // --- rows ---

    fn first_of(&self, event_key: &str) -> Result<Option<EventId>, Fault> {
        let sql = r"-- first_of_event_key
            SELECT id FROM pass_event WHERE tenant = :tenant AND event_key = :key";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(named_params! { ":tenant": self.tenant.as_str(), ":key": event_key })?;
        rows.next()?.map(event_id).transpose()
    }

    /// The event that a pass was heard of by last in a wallet.
    fn last_of(&self, key: &str, entry: &Entry, here: Standing) -> Result<Option<EventId>, Fault> {
        self.same_as(key, &Entry { at: here.heard_at, kind: here.heard, ..entry.clone() })
    }

    /// The event of this time and kind.
    fn same_as(&self, key: &str, entry: &Entry) -> Result<Option<EventId>, Fault> {
        let sql = r"-- same_event
            SELECT id FROM pass_event
            WHERE tenant = :tenant AND pass_key = :key AND at = :at AND kind = :kind AND wallet = :wallet
            ORDER BY tie LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(named_params! {
            ":tenant": self.tenant.as_str(),
            ":key": key,
            ":at": millis(entry.at),
            ":kind": entry.kind.as_str(),
            ":wallet": entry.wallet.as_str(),
        })?;
        rows.next()?.map(event_id).transpose()
    }

    fn known(&self, key: &str) -> Result<Known, Fault> {
        let sql = r"-- known_pass
            SELECT customer, known_by, identifiers, pass_type, standings FROM wallet_pass
            WHERE tenant = :tenant AND pass_key = :key";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(named_params! { ":tenant": self.tenant.as_str(), ":key": key })?;
        let Some(row) = rows.next()? else { return Ok(Known::default()) };
        let cells = Cells::new(row, "wallet_pass");
        Ok(Known {
            customer: Some(CustomerKey { value: cells.plain("customer")?, by: cells.plain("known_by")? }),
            identifiers: cells.json("identifiers")?,
            pass_type: cells.plain("pass_type")?,
            standings: cells.json("standings")?,
        })
    }

    /// The latest events of a pass in a wallet, so many as the rules say.
    fn history(&self, key: &str, wallet: Wallet) -> Result<Vec<Entry>, Fault> {
        let sql = r"-- history_of_pass
            SELECT id, at, kind, wallet, tie, active, total, since FROM pass_event
            WHERE tenant = :tenant AND pass_key = :key AND wallet = :wallet ORDER BY at DESC, kind DESC LIMIT :limit";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(named_params! {
            ":tenant": self.tenant.as_str(),
            ":key": key,
            ":wallet": wallet.as_str(),
            ":limit": limit_of(self.rules.history_max),
        })?;
        let mut history = Vec::new();
        while let Some(row) = rows.next()? {
            let cells = Cells::new(row, "pass_event");
            history.push(Entry {
                at: cells.time("at")?,
                kind: cells.word("kind")?,
                wallet: cells.word("wallet")?,
                tie: cells.plain("tie")?,
                counts: RegistrationCounts { active: cells.plain("active")?, total: cells.plain("total")? },
                since: cells.time_or_none("since")?,
            });
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
        event_key: Option<&str>,
        (change, flapped): (Change, bool),
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
            ":event_key": event_key,
            ":since": entry.since.map(millis),
            ":active": entry.counts.active,
            ":total": entry.counts.total,
            ":change": change.as_str(),
            ":flapped": flapped,
            ":way": event.way.as_str(),
            ":received_at": millis(new.received_at),
            ":pass_type": event.pass_type,
            ":tags": serde_json::to_string(&event.source.tags).unwrap_or_default(),
            ":medium": event.source.medium,
            ":origin": event.source.origin,
            ":user_agent": event.source.user_agent,
        })?;
        Ok(inserted == 1)
    }

    fn upsert_pass(&self, pass: &Pass<'_>, entry: &Entry, pass_type: Option<&String>) -> Result<(), Fault> {
        let sql = r"-- upsert_wallet_pass
            INSERT INTO wallet_pass (tenant, pass_key, customer, known_by, pass_type, identifiers, standings, apple_since,
                google_since, changed_at, last_event)
            VALUES (:tenant, :key, :customer, :known_by, :pass_type, :identifiers, :standings, :apple_since,
                :google_since, :changed_at, :last_event)
            ON CONFLICT (tenant, pass_key) DO UPDATE SET
                customer = excluded.customer, known_by = excluded.known_by, pass_type = excluded.pass_type,
                identifiers = excluded.identifiers, standings = excluded.standings, apple_since = excluded.apple_since,
                google_since = excluded.google_since, changed_at = excluded.changed_at, last_event = excluded.last_event";
        // Texts, numbers and lists of them: writing these as JSON cannot fail.
        let json = |written: Result<String, serde_json::Error>| written.unwrap_or_default();
        let (changed_at, last_event) = pass.standings.last_change().unwrap_or((entry.at, entry.kind));
        self.connection.prepare_cached(sql)?.execute(named_params! {
            ":tenant": self.tenant.as_str(),
            ":key": pass.key,
            ":customer": pass.customer.value,
            ":known_by": pass.customer.by,
            ":pass_type": pass_type,
            ":identifiers": json(serde_json::to_string(pass.identifiers)),
            ":standings": json(serde_json::to_string(pass.standings)),
            ":apple_since": pass.standings.installed_since(Wallet::Apple).map(millis),
            ":google_since": pass.standings.installed_since(Wallet::Google).map(millis),
            ":changed_at": millis(changed_at),
            ":last_event": last_event.as_str(),
        })?;
        Ok(())
    }
}

/// A pass as an event leaves it.
struct Pass<'p> {
    key: &'p str,
    customer: &'p CustomerKey,
    identifiers: &'p Identifiers,
    standings: &'p Standings,
}

/// By what a repeat of an event is known: the sender's key, and what it is of. Nobody says what a sender's id is unique
/// among, so one that is used for another pass, wallet or kind is another.
fn event_key(said: &str, entry: &Entry, pass_key: &str) -> String {
    let parts = [said, entry.kind.as_str(), entry.wallet.as_str(), pass_key];
    let digest = parts.into_iter().fold(Sha256::new(), |digest, part| {
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        digest.chain_update(length.to_be_bytes()).chain_update(part)
    });
    hex(&digest.finalize()[..16])
}

pub(super) fn event_id(row: &Row<'_>) -> Result<EventId, Fault> {
    let cells = Cells::new(row, "pass_event");
    EventId::from_slice(cells.blob("id")?).ok_or_else(|| cells.corrupt("id"))
}
