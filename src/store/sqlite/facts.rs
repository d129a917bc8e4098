//! Facts: which message took one, what it was answered, and when the fact is free again.
//!
//! Whether a fact is free is decided in the writer's transaction ([`known`], then [`take`]), so of two that come at once
//! one takes it. The look beforehand ([`replay`]) is for economy and for rules that may have changed since.

use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use super::SqliteStore;
use super::accept::{first_answer, hidden, insert_idempotency, millis, subject_lookup};
use super::fault::{Cells, Fault};
use super::sweep::limit_of;
use super::writer::Writing;
use crate::domain::ids::TenantId;
use crate::domain::message::{Acceptance, Entry, Idempotency, NewMessage, Receipt};
use crate::store::{Repeat, StoreError};

/// What a repeated submission was answered. Only a key that came with a known fact is written down.
pub(super) async fn replay(store: &SqliteStore, repeat: Repeat) -> Result<Option<Acceptance>, StoreError> {
    let (secret, asked) = (store.subject_secret, repeat.clone());
    let look = move |connection: &Connection| answered_before(connection, &secret, &asked);
    let answer = store.read("looking for an earlier answer", look).await?;
    if repeat.idempotency.is_none() || !matches!(answer, Some(Acceptance::Deduplicated(_))) {
        return Ok(answer);
    }
    let bind_and_look = move |connection: &Writing<'_>| {
        let answer = answered_before(connection, &secret, &repeat)?;
        bind(connection, &secret, &repeat.tenant, repeat.idempotency.as_ref(), answer.as_ref())?;
        Ok(answer)
    };
    store.write("binding a key to an earlier answer", bind_and_look).await
}

fn answered_before(connection: &Connection, secret: &[u8; 32], repeat: &Repeat) -> Result<Option<Acceptance>, Fault> {
    if let Some(idempotency) = &repeat.idempotency
        && let Some(answer) = first_answer(connection, secret, &repeat.tenant, idempotency, repeat.at)?
    {
        return Ok(Some(answer));
    }
    let Some(fact) = &repeat.fact else { return Ok(None) };
    let subject = subject_lookup(secret, &repeat.tenant, &repeat.recipient);
    answer(connection, secret, &repeat.tenant, fact, &subject, repeat.at)
}

/// What a new message is answered when its fact is taken; its idempotency key is bound to that.
pub(super) fn known(
    connection: &Connection,
    secret: &[u8; 32],
    message: &NewMessage,
) -> Result<Option<Acceptance>, Fault> {
    let Some(fact) = &message.fact else { return Ok(None) };
    let subject = subject_lookup(secret, &message.tenant, &message.recipient.address);
    let answer = answer(connection, secret, &message.tenant, &fact.name, &subject, message.accepted_at)?;
    bind(connection, secret, &message.tenant, message.idempotency.as_ref(), answer.as_ref())?;
    Ok(answer)
}

/// A key remembers what a 202 said, whoever said it first.
fn bind(
    connection: &Connection,
    secret: &[u8; 32],
    tenant: &TenantId,
    idempotency: Option<&Idempotency>,
    answer: Option<&Acceptance>,
) -> Result<(), Fault> {
    if let (Some(idempotency), Some(Acceptance::Deduplicated(receipt))) = (idempotency, answer) {
        insert_idempotency(connection, secret, tenant, idempotency, receipt)?;
    }
    Ok(())
}

/// What a fact that is taken at `at` answers. A message that certainly was not sent, and will not be, has freed its fact.
fn answer(
    connection: &Connection,
    secret: &[u8; 32],
    tenant: &TenantId,
    fact: &str,
    subject: &[u8; 32],
    at: Timestamp,
) -> Result<Option<Acceptance>, Fault> {
    // `IS NOT TRUE`: without its message a fact is taken as before.
    let sql = r"-- fact_answer
        SELECT dedupe.message, dedupe.recipient, dedupe.status, dedupe.lane, dedupe.deliver_by, dedupe.message_id
        FROM dedupe LEFT JOIN message ON message.id = dedupe.message
        WHERE dedupe.tenant = :tenant AND dedupe.fact IN (:fact, :hidden) AND (dedupe.expires_at IS NULL OR dedupe.expires_at > :at)
            AND (message.status IN ('bounced', 'expired', 'suppressed', 'cancelled') AND NOT message.may_have_been_sent
                AND NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.message = message.id)) IS NOT TRUE";
    let mut statement = connection.prepare_cached(sql)?;
    // Hidden: of a recipient who was erased.
    let hidden = hidden(secret, tenant, fact);
    let params = named_params! { ":tenant": tenant.as_str(), ":fact": fact, ":hidden": hidden, ":at": millis(at) };
    let mut rows = statement.query(params)?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let cells = Cells::new(row, "dedupe");
    if cells.plain::<[u8; 32]>("recipient")? != *subject {
        return Ok(Some(Acceptance::FactTaken));
    }
    Ok(Some(Acceptance::Deduplicated(Receipt {
        id: cells.message_id("message")?,
        status: cells.word("status")?,
        lane: cells.word("lane")?,
        deliver_by: cells.time("deliver_by")?,
        message_id: cells.plain("message_id")?,
    })))
}

/// A new message that is to be sent takes its fact, over one that has expired or was freed.
pub(super) fn take(
    connection: &Connection,
    secret: &[u8; 32],
    message: &NewMessage,
    receipt: &Receipt,
) -> Result<(), Fault> {
    let fact = match (&message.fact, message.entry) {
        (Some(fact), Entry::Queued | Entry::Held(_)) => fact,
        (None, _) | (Some(_), Entry::Suppressed(_)) => return Ok(()),
    };
    let sql = r"-- take_fact
        INSERT OR REPLACE INTO dedupe
            (tenant, fact, recipient, message, status, lane, deliver_by, message_id, expires_at)
        VALUES (:tenant, :fact, :recipient, :message, :status, :lane, :deliver_by, :message_id, :expires_at)";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":tenant": message.tenant.as_str(),
        ":fact": fact.name,
        ":recipient": subject_lookup(secret, &message.tenant, &message.recipient.address),
        ":message": receipt.id.as_bytes(),
        ":status": receipt.status.as_str(),
        ":lane": receipt.lane.as_str(),
        ":deliver_by": millis(receipt.deliver_by),
        ":message_id": receipt.message_id,
        ":expires_at": fact.expires_at.map(millis),
    })?;
    Ok(())
}

/// Forgets facts that have expired, at most `limit`; returns how many.
pub(super) fn forget(connection: &Connection, at: Timestamp, limit: usize) -> Result<usize, Fault> {
    let sql = r"-- forget_facts
        DELETE FROM dedupe WHERE (tenant, fact) IN
            (SELECT tenant, fact FROM dedupe WHERE expires_at <= :at ORDER BY expires_at LIMIT :limit)";
    let params = named_params! { ":at": millis(at), ":limit": limit_of(limit) };
    Ok(connection.prepare_cached(sql)?.execute(params)?)
}
