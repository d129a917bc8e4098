//! Contacts: said, found, listed and erased.
//!
//! What was known is read in the transaction that changes it, so that two who speak at once cannot lose the time of a
//! consent, and a look-up never overwrites what the brand says meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, named_params};
use serde_json::json;

use super::SqliteStore;
use super::accept::{hmac, millis, subject_key};
use super::attempts::tell_unreadable;
use super::audit;
use super::erasing::{self, Person, Step, Waiting};
use super::fault::{Cells, Fault};
use super::journeys;
use super::sweep::limit_of;
use super::writer::Writing;
use crate::domain::address::EmailAddress;
use crate::domain::audit::Actor;
use crate::domain::audit::contacts::{Subject, contact_removed, contact_set};
use crate::domain::contact::{
    Consent, Contact, Culture, CustomerId, Erased, Erasing, Extent, NewContact, Origin, Set, ZoneName,
};
use crate::domain::ids::TenantId;
use crate::store::{ContactFilter, ContactStore, Erasure, StoreError};

#[async_trait]
impl ContactStore for SqliteStore {
    async fn set_contacts(
        &self,
        tenant: &TenantId,
        actor: Actor,
        contacts: Vec<NewContact>,
    ) -> Result<Vec<Set>, StoreError> {
        let (tenant, secret) = (tenant.clone(), self.subject_secret);
        let work = move |connection: &Writing<'_>| {
            contacts.iter().map(|contact| set(connection, &secret, &tenant, &actor, contact)).collect()
        };
        self.write("keeping contacts", work).await
    }

    async fn contact(&self, tenant: &TenantId, customer: &CustomerId) -> Result<Option<Contact>, StoreError> {
        let (tenant, customer) = (tenant.clone(), customer.clone());
        self.read("reading a contact", move |connection| contact(connection, &tenant, &customer)).await
    }

    async fn contacts(&self, tenant: &TenantId, filter: ContactFilter) -> Result<Vec<Contact>, StoreError> {
        let tenant = tenant.clone();
        self.list("listing contacts", move |connection| contacts(connection, &tenant, &filter)).await
    }

    async fn erase_contact(&self, tenant: &TenantId, erasure: Erasure) -> Result<Erasing, StoreError> {
        match erasure.extent {
            Extent::Copy => {
                let (tenant, secret) = (tenant.clone(), self.subject_secret);
                let work = move |connection: &Writing<'_>| forget_copy(connection, &secret, &tenant, &erasure);
                self.write("forgetting a contact", work).await
            }
            Extent::Person => self.erase_person(tenant, erasure).await,
        }
    }
}

// --- saying ---

fn set(
    connection: &Writing<'_>,
    secret: &[u8; 32],
    tenant: &TenantId,
    actor: &Actor,
    new: &NewContact,
) -> Result<Set, Fault> {
    let known = contact(connection, tenant, &new.customer)?;
    if known.as_ref().is_some_and(|known| new.origin == Origin::Lookup && known.origin != Origin::Lookup) {
        return Ok(Set::Kept);
    }
    let next = next(known.as_ref(), new);
    let same = known.as_ref().is_some_and(|known| {
        let confirmed = Contact { changed_at: known.changed_at, confirmed_at: known.confirmed_at, ..next.clone() };
        confirmed == *known
    });
    let changed_at = if same { known.as_ref().map_or(new.at, |known| known.changed_at) } else { new.at };
    let next = Contact { changed_at, ..next };
    upsert(connection, tenant, &next)?;
    if same {
        return Ok(Set::Unchanged);
    }
    let subject = subject(connection, secret, tenant, &next.customer, &next.email)?;
    let consents = next.consent.values().filter(|consent| consent.granted).count();
    audit::append(connection, &contact_set(new.at, tenant, actor.clone(), &subject, next.origin, consents))?;
    journeys::wake(connection, tenant, next.customer.as_str(), new.at)?;
    Ok(if known.is_some() { Set::Changed } else { Set::Created })
}

/// What is known from now on.
fn next(known: Option<&Contact>, new: &NewContact) -> Contact {
    let before = |name: &str| known.and_then(|known| known.consent.get(name));
    // Times are kept in whole milliseconds: what is compared is as it will be read.
    let kept = |at: Timestamp| Timestamp::from_millisecond(millis(at)).unwrap_or(at);
    let consent = new.consent.iter().map(|(name, given)| {
        let Consent { granted, at, source } = given.clone().settled(before(name), new.at);
        (name.clone(), Consent { granted, at: kept(at), source })
    });
    Contact {
        customer: new.customer.clone(),
        email: new.email.clone(),
        name: new.name.clone(),
        culture: new.culture.clone(),
        timezone: new.timezone.clone(),
        consent: consent.collect(),
        fields: new.fields.clone(),
        origin: new.origin,
        created_at: known.map_or(kept(new.at), |known| known.created_at),
        changed_at: kept(new.at),
        confirmed_at: kept(new.at),
    }
}

fn upsert(connection: &Connection, tenant: &TenantId, contact: &Contact) -> Result<(), Fault> {
    let sql = r"-- set_contact
        INSERT INTO contact (tenant, customer, email, address, name, culture, timezone, consent, fields, origin,
            created_at, changed_at, confirmed_at)
        VALUES (:tenant, :customer, :email, :address, :name, :culture, :timezone, :consent, :fields, :origin,
            :created_at, :changed_at, :confirmed_at)
        ON CONFLICT (tenant, customer) DO UPDATE SET email = excluded.email, address = excluded.address,
            name = excluded.name, culture = excluded.culture, timezone = excluded.timezone,
            consent = excluded.consent, fields = excluded.fields, origin = excluded.origin,
            changed_at = excluded.changed_at, confirmed_at = excluded.confirmed_at";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":tenant": tenant.as_str(),
        ":customer": contact.customer.as_str(),
        ":email": contact.email.as_str(),
        ":address": contact.email.normalized(),
        ":name": contact.name,
        ":culture": contact.culture.as_ref().map(Culture::as_str),
        ":timezone": contact.timezone.as_ref().map(ZoneName::as_str),
        ":consent": json!(contact.consent).to_string(),
        ":fields": json!(contact.fields).to_string(),
        ":origin": contact.origin.as_str(),
        ":created_at": millis(contact.created_at),
        ":changed_at": millis(contact.changed_at),
        ":confirmed_at": millis(contact.confirmed_at),
    })?;
    Ok(())
}

fn subject(
    connection: &Writing<'_>,
    secret: &[u8; 32],
    tenant: &TenantId,
    customer: &CustomerId,
    email: &EmailAddress,
) -> Result<Subject, Fault> {
    let key = subject_key(connection, secret, tenant, email)?;
    Ok(Subject {
        address: hmac(&key, &[email.normalized().as_bytes()]),
        customer: hmac(&key, &[b"customer|", customer.as_str().as_bytes()]),
    })
}

// --- finding ---

pub(super) fn contact(
    connection: &Connection,
    tenant: &TenantId,
    customer: &CustomerId,
) -> Result<Option<Contact>, Fault> {
    let sql = r"-- contact
        SELECT customer, email, name, culture, timezone, consent, fields, origin, created_at, changed_at, confirmed_at
        FROM contact WHERE tenant = :tenant AND customer = :customer";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":tenant": tenant.as_str(), ":customer": customer.as_str() })?;
    let Some(row) = rows.next()? else { return Ok(None) };
    read_contact(&Cells::new(row, "contact")).map(Some)
}

fn contacts(connection: &Connection, tenant: &TenantId, filter: &ContactFilter) -> Result<Vec<Contact>, Fault> {
    let everybody = r"-- contacts
        SELECT customer, email, name, culture, timezone, consent, fields, origin, created_at, changed_at, confirmed_at
        FROM contact WHERE tenant = :tenant AND customer > :after AND :address IS NULL ORDER BY customer LIMIT :limit";
    let with_address = r"-- contacts_by_address
        SELECT customer, email, name, culture, timezone, consent, fields, origin, created_at, changed_at, confirmed_at
        FROM contact INDEXED BY contact_by_address
        WHERE tenant = :tenant AND address = :address AND customer > :after ORDER BY customer LIMIT :limit";
    let sql = if filter.address.is_some() { with_address } else { everybody };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! {
        ":tenant": tenant.as_str(),
        ":address": filter.address,
        ":after": filter.after.as_ref().map_or("", CustomerId::as_str),
        ":limit": limit_of(filter.limit),
    })?;
    let mut contacts = Vec::new();
    while let Some(row) = rows.next()? {
        match read_contact(&Cells::new(row, "contact")) {
            Ok(contact) => contacts.push(contact),
            Err(fault) => tell_unreadable(fault)?,
        }
    }
    Ok(contacts)
}

fn read_contact(cells: &Cells<'_>) -> Result<Contact, Fault> {
    Ok(Contact {
        customer: cells.word("customer")?,
        email: cells.word("email")?,
        name: cells.plain("name")?,
        culture: cells.word_or_none("culture")?,
        timezone: cells.word_or_none("timezone")?,
        consent: cells.json::<BTreeMap<String, Consent>>("consent")?,
        fields: cells.json("fields")?,
        origin: cells.word("origin")?,
        created_at: cells.time("created_at")?,
        changed_at: cells.time("changed_at")?,
        confirmed_at: cells.time("confirmed_at")?,
    })
}

// --- erasing ---

impl SqliteStore {
    async fn erase_person(&self, tenant: &TenantId, erasure: Erasure) -> Result<Erasing, StoreError> {
        let (who, named) = (tenant.clone(), erasure.customer.clone());
        let find = move |connection: &Connection| {
            let person = Person::known_as(connection, &who, named.as_str())?;
            Ok((person.is_in_flight(connection, &who)?, person))
        };
        let (is_in_flight, person) = self.list_until(None, "looking for a person", find).await?;
        if person.is_shared() {
            return Ok(Erasing::Shared);
        }
        if is_in_flight {
            return Ok(Erasing::InFlight);
        }
        // Before, so that an erasure that is interrupted leaves no push behind that names nobody who is found any more; and
        // after, for what was made meanwhile.
        let person = Arc::new(person);
        self.erase_waiting(tenant, Arc::clone(&person)).await?;
        let erasing = self.erase_steps(tenant, erasure, &person).await?;
        self.erase_waiting(tenant, person).await?;
        Ok(erasing)
    }

    async fn erase_waiting(&self, tenant: &TenantId, person: Arc<Person>) -> Result<(), StoreError> {
        let tenant = tenant.clone();
        let find = move |connection: &Connection| Waiting::find(connection, &tenant, &person);
        let waiting = self.list_until(None, "looking for what waits", find).await?;
        self.write("erasing what waits", move |connection: &Writing<'_>| waiting.erase(connection)).await
    }

    async fn erase_steps(
        &self,
        tenant: &TenantId,
        erasure: Erasure,
        person: &Arc<Person>,
    ) -> Result<Erasing, StoreError> {
        let mut messages = 0;
        loop {
            let (tenant, secret, erasure) = (tenant.clone(), self.subject_secret, erasure.clone());
            let known = Arc::clone(person);
            let work = move |connection: &Writing<'_>| {
                erasing::step(connection, &secret, &tenant, (&erasure, &known), messages)
            };
            let (erasing, ids) = match self.write("erasing a person", work).await? {
                Step::InFlight => (Some(Erasing::InFlight), Vec::new()),
                Step::Nobody => (Some(Erasing::Nobody), Vec::new()),
                Step::More(ids) => (None, ids),
                Step::Done(erased, ids) => (Some(Erasing::Done(erased)), ids),
            };
            messages += ids.len();
            for id in ids {
                self.shelf.take(id);
            }
            if let Some(erasing) = erasing {
                return Ok(erasing);
            }
        }
    }
}

/// Removes the contact of a customer that a look-up found.
fn forget_copy(
    connection: &Writing<'_>,
    secret: &[u8; 32],
    tenant: &TenantId,
    erasure: &Erasure,
) -> Result<Erasing, Fault> {
    let Erasure { customer, at, by, .. } = erasure;
    let sql = r"-- address_of_copy
        SELECT email FROM contact WHERE tenant = :tenant AND customer = :customer AND origin = 'lookup'";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":tenant": tenant.as_str(), ":customer": customer.as_str() })?;
    let Some(row) = rows.next()? else { return Ok(Erasing::Nobody) };
    let email: EmailAddress = Cells::new(row, "contact").word("email")?;
    drop(rows);
    let contacts = remove(connection, tenant, customer.as_str())?;
    let subject = subject(connection, secret, tenant, customer, &email)?;
    audit::append(connection, &contact_removed(*at, tenant, by.actor.clone(), &subject))?;
    Ok(Erasing::Done(Erased { contacts, ..Erased::default() }))
}

fn remove(connection: &Connection, tenant: &TenantId, customer: &str) -> Result<usize, Fault> {
    let sql = r"-- erase_contact
        DELETE FROM contact WHERE tenant = :tenant AND customer = :customer";
    let params = named_params! { ":tenant": tenant.as_str(), ":customer": customer };
    Ok(connection.prepare_cached(sql)?.execute(params)?)
}

/// Removes the contacts of these customers; how many there were.
pub(super) fn remove_all(
    connection: &Connection,
    tenant: &TenantId,
    customers: &BTreeSet<String>,
) -> Result<usize, Fault> {
    customers.iter().map(|customer| remove(connection, tenant, customer)).sum()
}
