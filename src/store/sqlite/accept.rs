//! Acceptance: message, content, tags, idempotency key and leaf in one transaction, or nothing.

use std::borrow::Cow;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, named_params};
use sha2::Sha256;

use super::audit;
use super::brakes;
use super::content::{self, Packed};
use super::facts;
use super::fault::{Cells, Fault};
use super::metadata;
use super::suppressions;
use super::writer::Writing;
use crate::domain::address::EmailAddress;
use crate::domain::audit::brakes::held_by_brake;
use crate::domain::audit::{Actor, accepted, hex};
use crate::domain::ids::{BrakeId, TenantId};
use crate::domain::message::{Acceptance, Entry, Idempotency, NewMessage, Reason, Receipt, Status};
use crate::domain::unless::Unless;

/// A time as stored. What is finer than a millisecond is cut, which makes no deadline later.
pub(super) fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// Keeps a message; `packed` is its content and `secret` the key under which subjects are found.
pub(super) fn accept(
    connection: &Writing<'_>,
    secret: &[u8; 32],
    message: &NewMessage,
    packed: &Packed,
) -> Result<Acceptance, Fault> {
    if let Some(idempotency) = &message.idempotency
        && let Some(answer) = first_answer(connection, secret, &message.tenant, idempotency, message.accepted_at)?
    {
        return Ok(answer);
    }
    if let Some(answer) = facts::known(connection, secret, message)? {
        return Ok(answer);
    }
    let judged = judged(connection, secret, message)?;
    let message = &*judged;
    if let Some(answer) = over_limit(connection, message)? {
        return Ok(answer);
    }
    let stands = stands(connection, message)?;
    let receipt = Receipt {
        id: message.id,
        status: stands.status,
        lane: message.lane,
        // The first answer and its replays are the same to the last digit: as stored.
        deliver_by: Timestamp::from_millisecond(millis(message.deliver_by)).unwrap_or(message.deliver_by),
        message_id: message.message_id.clone(),
    };
    insert_message(connection, message, &stands)?;
    content::insert(connection, message.id, packed)?;
    insert_tags(connection, message)?;
    metadata::insert(connection, message)?;
    if let Some(idempotency) = &message.idempotency {
        insert_idempotency(connection, secret, &message.tenant, idempotency, &receipt)?;
    }
    facts::take(connection, secret, message, &receipt)?;
    let key = subject_key(connection, secret, &message.tenant, &message.recipient.address)?;
    let recipient = hmac(&key, &[message.recipient.address.normalized().as_bytes()]);
    let mime = hmac(&key, &[b"mime|", &message.mime_sha256]);
    audit::append(connection, &accepted(message, &recipient, &mime, packed.mime_bytes))?;
    if stands.status.is_live() {
        suppressions::keep(connection, secret, message, &recipient)?;
    }
    if let Some(brake) = stands.brake {
        audit::append(connection, &held_by_brake(message.accepted_at, &message.tenant, message.id, brake))?;
    }
    Ok(Acceptance::Accepted(receipt))
}

/// The message as it enters: one that is to be sent to somebody who may not be mailed is kept, and not sent.
fn judged<'m>(
    connection: &Writing<'_>,
    secret: &[u8; 32],
    message: &'m NewMessage,
) -> Result<Cow<'m, NewMessage>, Fault> {
    let (tenant, address) = (&message.tenant, &message.recipient.address);
    let journey = message.sent_by.as_ref().map(|sent_by| &sent_by.journey);
    let at = message.accepted_at;
    let reason = match message.entry {
        Entry::Queued | Entry::Held(_) => suppressions::judge(connection, secret, tenant, address, journey, at)?,
        Entry::Suppressed(_) => None,
    };
    Ok(match reason {
        Some(reason) => Cow::Owned(NewMessage { entry: Entry::Suppressed(reason), ..message.clone() }),
        None => Cow::Borrowed(message),
    })
}

/// What an idempotency key that is still remembered was answered.
pub(super) fn first_answer(
    connection: &Connection,
    secret: &[u8; 32],
    tenant: &TenantId,
    idempotency: &Idempotency,
    at: Timestamp,
) -> Result<Option<Acceptance>, Fault> {
    let sql = r"-- first_answer
        SELECT message, fingerprint, status, lane, deliver_by, message_id
        FROM idempotency
        WHERE tenant = :tenant AND key IN (:key, :hidden) AND expires_at > :at";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! {
        ":tenant": tenant.as_str(),
        // As keys were kept before they were hidden; those are forgotten within days.
        ":key": idempotency.key,
        ":hidden": hidden(secret, tenant, &idempotency.key),
        ":at": millis(at),
    })?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let cells = Cells::new(row, "idempotency");
    if cells.plain::<Vec<u8>>("fingerprint")? != idempotency.fingerprint {
        return Ok(Some(Acceptance::IdempotencyMismatch));
    }
    Ok(Some(Acceptance::Replayed(Receipt {
        id: cells.message_id("message")?,
        status: cells.word("status")?,
        lane: cells.word("lane")?,
        deliver_by: cells.time("deliver_by")?,
        message_id: cells.plain("message_id")?,
    })))
}

/// What a recipient who has had enough mails is answered.
///
/// The mails of the rate's last time are counted where they are listed: the one that many places back, if it is still
/// within that time, is in the way. A mail that is kept but not sent is always taken: it bothers nobody, and a refusal
/// would only be tried again. It stands in the same index and so among those counted.
fn over_limit(connection: &Connection, message: &NewMessage) -> Result<Option<Acceptance>, Fault> {
    let limit = match (message.recipient_limit, message.entry) {
        (Some(limit), Entry::Queued | Entry::Held(_)) => limit,
        (None, _) | (Some(_), Entry::Suppressed(_)) => return Ok(None),
    };
    let sql = r"-- over_limit
        SELECT accepted_at FROM message INDEXED BY message_by_recipient
        WHERE tenant = :tenant AND recipient = :recipient AND accepted_at > :since
        ORDER BY accepted_at DESC LIMIT 1 OFFSET :skipped";
    let (now, within) = (millis(message.accepted_at), i64::try_from(limit.per.as_millis()).unwrap_or(i64::MAX));
    let oldest: Option<i64> = connection
        .prepare_cached(sql)?
        .query_row(
            named_params! {
                ":tenant": message.tenant.as_str(),
                ":recipient": message.recipient.address.normalized(),
                ":since": now.saturating_sub(within),
                ":skipped": limit.count.saturating_sub(1),
            },
            |row| row.get(0),
        )
        .optional()?;
    // Nobody is told to wait for longer than the whole time, also when the clock was set back.
    let wait =
        |oldest: i64| u64::try_from(oldest.saturating_add(within).saturating_sub(now).clamp(1, within)).unwrap_or(1);
    Ok(oldest.map(|oldest| Acceptance::RecipientLimited { limit, wait: Duration::from_millis(wait(oldest)) }))
}

/// Where a new message stands.
struct Stands {
    status: Status,
    reason: Option<Reason>,
    /// What holds it.
    brake: Option<BrakeId>,
}

fn stands(connection: &Connection, message: &NewMessage) -> Result<Stands, Fault> {
    let queued = Stands { status: Status::Queued, reason: None, brake: None };
    Ok(match message.entry {
        Entry::Suppressed(reason) => Stands { status: Status::Suppressed, reason: Some(reason), ..queued },
        Entry::Held(brake) if brakes::is_on(connection, brake)? => {
            Stands { status: Status::Held, reason: Some(Reason::Brake), brake: Some(brake) }
        }
        // A brake that was decided about since the door asked; or one that is not kept yet: then the mail is found with
        // all that waits.
        Entry::Queued | Entry::Held(_) => queued,
    })
}

fn insert_message(connection: &Connection, message: &NewMessage, stands: &Stands) -> Result<(), Fault> {
    let sql = r"-- insert_message
        INSERT INTO message (id, tenant, lane, status, reason, due_at, expires_at, deliver_by, accepted_at, ended_at,
            domain, recipient, mailbox, envelope_sender, template, subject, tags, metadata, message_id, fact, api_key,
            brake, unless_wallet, customer, journey, enrollment)
        VALUES (:id, :tenant, :lane, :status, :reason, :due_at, :expires_at, :deliver_by, :accepted_at, :ended_at,
            :domain, :recipient, :mailbox, :envelope_sender, :template, :subject, :tags, :metadata, :message_id, :fact,
            :api_key, :brake, :unless_wallet, :customer, :journey, :enrollment)";
    let waits = stands.status.is_live();
    let api_key = match &message.actor {
        Actor::Key(key) => Some(key.as_bytes()),
        Actor::Gateway | Actor::Command(_) | Actor::Webhook | Actor::Recipient => None,
    };
    let address = &message.recipient.address;
    connection.prepare_cached(sql)?.execute(named_params! {
        ":id": message.id.as_bytes(),
        ":tenant": message.tenant.as_str(),
        ":lane": message.lane.as_str(),
        ":status": stands.status.as_str(),
        ":reason": stands.reason.map(Reason::as_str),
        ":due_at": waits.then(|| millis(message.due_at)),
        ":expires_at": waits.then(|| millis(message.deliver_by)),
        ":deliver_by": millis(message.deliver_by),
        ":accepted_at": millis(message.accepted_at),
        ":ended_at": (!waits).then(|| millis(message.accepted_at)),
        ":domain": address.domain(),
        ":recipient": address.normalized(),
        ":mailbox": message.recipient.to_string(),
        ":envelope_sender": message.envelope_sender.as_str(),
        ":template": message.template,
        ":subject": message.subject,
        ":tags": serde_json::json!(message.tags).to_string(),
        ":metadata": serde_json::json!(message.metadata).to_string(),
        ":message_id": message.message_id,
        ":fact": message.fact.as_ref().map(|fact| &fact.name),
        ":api_key": api_key,
        ":brake": stands.brake.as_ref().map(BrakeId::as_bytes),
        ":unless_wallet": message.unless.as_ref().map(Unless::words),
        ":customer": message.unless.as_ref().and_then(|unless| unless.customer.as_deref()),
        ":journey": message.sent_by.as_ref().map(|sent_by| sent_by.journey.as_str()),
        ":enrollment": message.sent_by.as_ref().map(|sent_by| sent_by.enrollment.as_bytes()),
    })?;
    Ok(())
}

fn insert_tags(connection: &Connection, message: &NewMessage) -> Result<(), Fault> {
    let sql = r"-- insert_tag
        INSERT INTO message_tag (tenant, tag, accepted_at, message) VALUES (:tenant, :tag, :accepted_at, :message)
        ON CONFLICT DO NOTHING";
    for tag in &message.tags {
        connection.prepare_cached(sql)?.execute(named_params! {
            ":tenant": message.tenant.as_str(),
            ":tag": tag,
            ":accepted_at": millis(message.accepted_at),
            ":message": message.id.as_bytes(),
        })?;
    }
    Ok(())
}

/// Binds a key to an answer.
pub(super) fn insert_idempotency(
    connection: &Connection,
    secret: &[u8; 32],
    tenant: &TenantId,
    idempotency: &Idempotency,
    receipt: &Receipt,
) -> Result<(), Fault> {
    // Replaced is only what has expired: a key still remembered was answered before.
    let sql = r"-- insert_idempotency
        INSERT OR REPLACE INTO idempotency
            (tenant, key, fingerprint, message, status, lane, deliver_by, message_id, expires_at)
        VALUES (:tenant, :key, :fingerprint, :message, :status, :lane, :deliver_by, :message_id, :expires_at)";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":tenant": tenant.as_str(),
        // A caller may have put an address into it.
        ":key": hidden(secret, tenant, &idempotency.key),
        ":fingerprint": idempotency.fingerprint,
        ":message": receipt.id.as_bytes(),
        ":status": receipt.status.as_str(),
        ":lane": receipt.lane.as_str(),
        ":deliver_by": millis(receipt.deliver_by),
        ":message_id": receipt.message_id,
        ":expires_at": millis(idempotency.expires_at),
    })?;
    Ok(())
}

/// How a person is found without their address. A tenant's name holds no `|`, so no two pairs read the same.
pub(super) fn subject_lookup(secret: &[u8; 32], tenant: &TenantId, address: &EmailAddress) -> [u8; 32] {
    hmac(secret, &[tenant.as_str().as_bytes(), b"|", address.normalized().as_bytes()])
}

/// The key under which a person appears in leaves; made when they first do.
pub(super) fn subject_key(
    connection: &Connection,
    secret: &[u8; 32],
    tenant: &TenantId,
    address: &EmailAddress,
) -> Result<[u8; 32], Fault> {
    let lookup = subject_lookup(secret, tenant, address);
    let sql = r"-- subject_key
        SELECT key FROM subject WHERE lookup = :lookup";
    let mut statement = connection.prepare_cached(sql)?;
    let known = statement.query_row(named_params! { ":lookup": lookup }, |row| row.get(0)).optional()?;
    if let Some(key) = known {
        return Ok(key);
    }
    let mut key = [0_u8; 32];
    getrandom::fill(&mut key).map_err(Fault::Random)?;
    let sql = r"-- insert_subject
        INSERT INTO subject (lookup, key) VALUES (:lookup, :key)";
    connection.prepare_cached(sql)?.execute(named_params! { ":lookup": lookup, ":key": key })?;
    Ok(key)
}

/// A tenant's own key (a fact, an idempotency key) so that it is found again and says nothing. No key of a caller's begins
/// with a control character.
pub(super) fn hidden(secret: &[u8; 32], tenant: &TenantId, key: &str) -> String {
    format!("\u{1}{}", hex(&hmac(secret, &[b"key|", tenant.as_str().as_bytes(), b"|", key.as_bytes()])))
}

/// The HMAC-SHA-256 of these parts, one after the other.
pub(super) fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // Unwrap safety: HMAC takes keys of every length; 32 bytes are one.
    #[expect(clippy::expect_used, reason = "proven in the line above")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of 32 bytes");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}
