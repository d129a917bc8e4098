//! Erasing a person: whoever goes by an identifier or an address, in everything that is kept of a tenant.
//!
//! # Who is who
//!
//! A person is a tenant's customer with the addresses known of them, and whoever else has one of these addresses: an
//! address is a person. Known are those of the contact, of the customer's passes, and of the mails that journeys sent them.
//! An address of very many customers is nobody's: then nothing is done.
//!
//! # What goes, and what stays
//!
//! * **Mails**: the live ones are cancelled first; one on an attempt past its commit point refuses the whole erasure, as
//!   nobody can call it back. Then the content goes, and of the row recipient, subject, tags, metadata, the relay's words and
//!   the fact. Its state stays, and its leaves: they are proven with each other, and name nobody.
//! * **Contact, passes, events, enrollments** go, and pushes that wait and webhooks that were kept where they name them.
//! * **The subject's key** goes: from then on nobody can tell whose leaves those were.
//! * **Suppressions, unsubscribe links and facts** stay under keyed hashes: whoever unsubscribed is not mailed again, and
//!   what was sent once is not sent twice.
//!
//! Mails go a batch at a time, each in its own transaction, so that nobody waits for somebody who got very many; the rest
//! goes with the last of them. An erasure that was interrupted is finished by asking for it again.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, named_params};

use super::accept::{hidden, hmac, millis};
use super::audit;
use super::contacts;
use super::fault::{Cells, Fault};
use super::journeys;
use super::retention::{remove_content, remove_finders};
use super::scrubbing;
use super::suppressions;
use super::sweep::limit_of;
use super::wallets;
use super::writer::Writing;
use crate::domain::address::EmailAddress;
use crate::domain::audit::contacts::{cancelled_by_erasure, erased};
use crate::domain::contact::{Erased, SHARED_MAX};
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::message::{Reason, Status};
use crate::store::Erasure;

/// Mails in one transaction.
const BATCH: usize = 200;
/// Passes and contacts of one address that are looked at: a person may have several passes.
const LOOKED_AT_MAX: usize = 1_000;

/// What one transaction came to.
pub(super) enum Step {
    /// A mail is past its commit point: nothing was done in this step.
    InFlight,
    /// So many mails were erased, and there may be more.
    More(Vec<MessageId>),
    /// All is gone; these mails were the last ones.
    Done(Erased, Vec<MessageId>),
    /// Nothing is known of such a person.
    Nobody,
}

/// Identifiers and normalised addresses of one person.
#[derive(Clone)]
pub(super) struct Person {
    customers: BTreeSet<String>,
    addresses: BTreeSet<String>,
}

impl Person {
    /// Whoever is known by this identifier, or this address.
    pub(super) fn known_as(connection: &Connection, tenant: &TenantId, named: &str) -> Result<Self, Fault> {
        let mut person = Self { customers: BTreeSet::from([named.to_owned()]), addresses: BTreeSet::new() };
        person.addresses.extend(normalized(named));
        let of_customer = r"-- addresses_of_customer
        SELECT email AS address FROM contact WHERE tenant = :tenant AND customer = :customer
        UNION ALL SELECT identifier.value ->> 'value' FROM wallet_pass, json_each(wallet_pass.identifiers) AS identifier
            WHERE tenant = :tenant AND customer = :customer
        UNION ALL SELECT recipient FROM enrollment CROSS JOIN message INDEXED BY message_of_enrollment
            ON message.enrollment = enrollment.id
            WHERE enrollment.tenant = :tenant AND enrollment.customer = :customer";
        let mut statement = connection.prepare_cached(of_customer)?;
        let mut rows = statement.query(named_params! { ":tenant": tenant.as_str(), ":customer": named })?;
        while let Some(row) = rows.next()? {
            let found: Option<String> = row.get("address")?;
            person.addresses.extend(found.as_deref().and_then(normalized));
        }
        drop(rows);
        let of_address = r"-- customers_of_address
        SELECT customer FROM contact INDEXED BY contact_by_address WHERE tenant = :tenant AND address = :address
        UNION ALL SELECT customer FROM pass_alias CROSS JOIN wallet_pass
            ON wallet_pass.tenant = pass_alias.tenant AND wallet_pass.pass_key = pass_alias.pass_key
            WHERE pass_alias.tenant = :tenant AND pass_alias.value = :address
        LIMIT :limit";
        let mut statement = connection.prepare_cached(of_address)?;
        for address in &person.addresses {
            let params =
                named_params! { ":tenant": tenant.as_str(), ":address": address, ":limit": limit_of(LOOKED_AT_MAX) };
            let customers = statement.query_map(params, |row| row.get("customer"))?;
            person.customers.extend(customers.collect::<Result<Vec<String>, _>>()?);
        }
        Ok(person)
    }

    /// Whether a mail to them is past its commit point.
    pub(super) fn is_in_flight(&self, connection: &Connection, tenant: &TenantId) -> Result<bool, Fault> {
        // There are as many attempts as sessions at most.
        let sql = r"-- in_flight_of_person
        SELECT recipient FROM attempt CROSS JOIN message ON message.id = attempt.message WHERE message.tenant = :tenant";
        let mut statement = connection.prepare_cached(sql)?;
        let under_way =
            statement.query_map(named_params! { ":tenant": tenant.as_str() }, |row| row.get("recipient"))?;
        let under_way: Vec<String> = under_way.collect::<Result<_, _>>()?;
        Ok(under_way.iter().any(|recipient| self.addresses.contains(recipient)))
    }

    /// Whether these are too many customers for one person.
    pub(super) fn is_shared(&self) -> bool {
        self.customers.len() > SHARED_MAX
    }

    /// With what was known of them before: a row that said so may be gone by now.
    fn and(mut self, before: &Self) -> Self {
        self.customers.extend(before.customers.iter().cloned());
        self.addresses.extend(before.addresses.iter().cloned());
        self
    }

    /// Everything they go by.
    fn names(&self) -> BTreeSet<String> {
        self.customers.union(&self.addresses).cloned().collect()
    }
}

/// Erases the next mails of a person, and with the last ones all the rest. `known`: what they went by when it began;
/// `before`: how many mails went in earlier steps.
pub(super) fn step(
    connection: &Writing<'_>,
    secret: &[u8; 32],
    tenant: &TenantId,
    (erasure, known): (&Erasure, &Person),
    before: usize,
) -> Result<Step, Fault> {
    let person = Person::known_as(connection, tenant, erasure.customer.as_str())?.and(known);
    if person.is_in_flight(connection, tenant)? {
        return Ok(Step::InFlight);
    }
    let ids = erase_mails(connection, secret, tenant, &person, erasure)?;
    if ids.len() >= BATCH {
        scrubbing::begin(connection)?;
        return Ok(Step::More(ids));
    }
    let names = person.names();
    let forgotten = suppressions::forget(connection, secret, tenant, &names)?;
    journeys::erase(connection, tenant, &names, erasure.at)?;
    let mut gone = wallets::erase(connection, tenant, &names)?;
    gone.messages = before + ids.len();
    gone.contacts = contacts::remove_all(connection, tenant, &person.customers)?;
    let subjects = erase_subjects(connection, secret, tenant, &person.addresses)?;
    if gone == Erased::default() && forgotten == 0 && subjects.is_empty() {
        return Ok(Step::Nobody);
    }
    scrubbing::begin(connection)?;
    audit::append(connection, &erased(erasure.at, tenant, &erasure.by, &subjects, gone))?;
    Ok(Step::Done(gone, ids))
}

fn normalized(text: &str) -> Option<String> {
    text.parse::<EmailAddress>().ok().map(|address| address.normalized())
}

// --- mails ---

/// A mail of theirs.
struct Theirs {
    id: MessageId,
    status: Status,
    fact: Option<String>,
}

fn erase_mails(
    connection: &Writing<'_>,
    secret: &[u8; 32],
    tenant: &TenantId,
    person: &Person,
    erasure: &Erasure,
) -> Result<Vec<MessageId>, Fault> {
    let mut ids = Vec::new();
    for address in &person.addresses {
        for Theirs { id, status, fact } in mails_to(connection, tenant, address, BATCH - ids.len())? {
            if status.is_live() {
                cancel(connection, id, erasure)?;
                let leaf = cancelled_by_erasure(erasure.at, tenant, id, erasure.by.actor.clone(), status);
                audit::append(connection, &leaf)?;
            }
            if let Some(fact) = fact {
                hide_fact(connection, secret, tenant, &fact)?;
            }
            blank(connection, id)?;
            ids.push(id);
        }
    }
    Ok(ids)
}

fn mails_to(connection: &Connection, tenant: &TenantId, address: &str, limit: usize) -> Result<Vec<Theirs>, Fault> {
    let sql = r"-- mails_to_erase
        SELECT id, status, fact FROM message INDEXED BY message_by_recipient
        WHERE tenant = :tenant AND recipient = :recipient LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let params = named_params! { ":tenant": tenant.as_str(), ":recipient": address, ":limit": limit_of(limit) };
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "message");
        found.push(Theirs { id: cells.message_id("id")?, status: cells.word("status")?, fact: cells.plain("fact")? });
    }
    Ok(found)
}

fn cancel(connection: &Connection, id: MessageId, erasure: &Erasure) -> Result<(), Fault> {
    let sql = r"-- cancel_to_erase
        UPDATE message SET status = 'cancelled', reason = :reason, due_at = NULL, expires_at = NULL, ended_at = :at
        WHERE id = :id";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":id": id.as_bytes(),
        ":reason": Reason::Erased.as_str(),
        ":at": millis(erasure.at),
    })?;
    Ok(())
}

/// What was sent once for a fact is not sent twice: the fact stays taken, under a name that says nothing.
fn hide_fact(connection: &Connection, secret: &[u8; 32], tenant: &TenantId, fact: &str) -> Result<(), Fault> {
    let sql = r"-- hide_fact
        UPDATE OR REPLACE dedupe SET fact = :hidden WHERE tenant = :tenant AND fact = :fact";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":tenant": tenant.as_str(),
        ":fact": fact,
        ":hidden": hidden(secret, tenant, fact),
    })?;
    Ok(())
}

/// Leaves of a mail only what says nothing about anybody.
fn blank(connection: &Connection, id: MessageId) -> Result<(), Fault> {
    remove_content(connection, id)?;
    remove_finders(connection, id)?;
    let sql = r"-- blank_message
        UPDATE message SET domain = '', recipient = '', mailbox = '', subject = '', tags = '[]', metadata = '{}',
            relay_reply = NULL, fact = NULL, customer = NULL, unless_wallet = NULL, enrollment = NULL
        WHERE id = :id";
    connection.prepare_cached(sql)?.execute(named_params! { ":id": id.as_bytes() })?;
    Ok(())
}

// --- what else there is ---

/// Pushes that were not taken yet, and webhooks that nobody knew, where they name a person.
pub(super) struct Waiting {
    pushes: Vec<i64>,
    webhooks: Vec<i64>,
}

impl Waiting {
    /// Looks through all that waits of a tenant: outside of a transaction, which would keep everybody waiting.
    pub(super) fn find(connection: &Connection, tenant: &TenantId, person: &Person) -> Result<Self, Fault> {
        // An identifier may be short: it counts as a whole text only. An address may stand beside a name.
        let quoted = person.customers.iter().map(|customer| serde_json::json!(customer).to_string());
        let needles: Vec<String> = quoted.chain(person.addresses.iter().cloned()).collect();
        let pushes = r"-- pushes_to_erase
            SELECT number, body FROM push WHERE tenant = :tenant";
        let webhooks = r"-- webhooks_to_erase
            SELECT rowid AS number, body FROM webhook_unknown WHERE tenant = :tenant";
        let find = |sql: &str| {
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(named_params! { ":tenant": tenant.as_str() })?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let body: Option<String> = row.get("body")?;
                let body = body.unwrap_or_default();
                let lower = body.to_lowercase();
                if needles.iter().any(|needle| body.contains(needle) || lower.contains(needle)) {
                    found.push(row.get("number")?);
                }
            }
            Ok::<_, Fault>(found)
        };
        Ok(Self { pushes: find(pushes)?, webhooks: find(webhooks)? })
    }

    /// Removes what was found.
    pub(super) fn erase(&self, connection: &Writing<'_>) -> Result<(), Fault> {
        let push = r"-- erase_push
            DELETE FROM push WHERE number = :number";
        let webhook = r"-- erase_webhook
            DELETE FROM webhook_unknown WHERE rowid = :number";
        for (sql, numbers) in [(push, &self.pushes), (webhook, &self.webhooks)] {
            for number in numbers {
                connection.prepare_cached(sql)?.execute(named_params! { ":number": number })?;
            }
        }
        if self.pushes.is_empty() && self.webhooks.is_empty() {
            return Ok(());
        }
        scrubbing::begin(connection)
    }
}

/// Erases the keys under which leaves name these addresses; their names there, for the last time.
fn erase_subjects(
    connection: &Connection,
    secret: &[u8; 32],
    tenant: &TenantId,
    addresses: &BTreeSet<String>,
) -> Result<Vec<[u8; 32]>, Fault> {
    let find = r"-- subject_to_erase
        SELECT key FROM subject WHERE lookup = :lookup";
    let remove = r"-- erase_subject
        DELETE FROM subject WHERE lookup = :lookup";
    let mut subjects = Vec::new();
    for address in addresses {
        let lookup = suppressions::lookup(secret, tenant, address);
        let params = named_params! { ":lookup": lookup };
        let key: Option<[u8; 32]> = connection.prepare_cached(find)?.query_row(params, |row| row.get(0)).optional()?;
        if let Some(key) = key {
            connection.prepare_cached(remove)?.execute(params)?;
            subjects.push(hmac(&key, &[address.as_bytes()]));
        }
    }
    Ok(subjects)
}
