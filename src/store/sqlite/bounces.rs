//! Reports on mails: what they change, in one transaction.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use super::SqliteStore;
use super::accept::{hmac, millis};
use super::fault::{Cells, Fault};
use super::writer::Writing;
use super::{audit, suppressions};
use crate::domain::audit::Actor;
use crate::domain::audit::bounces::Reporting;
use crate::domain::bounce::{self, Delivery, Effect, End, Finding, Said, Standing};
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::message::{Reason, Status};
use crate::domain::reply::EnhancedCode;
use crate::domain::return_path::Tag;
use crate::domain::suppression::{NewSuppression, Source, SuppressionScope};
use crate::store::{BounceStore, Heard, Reported, StoreError};

#[async_trait]
impl BounceStore for SqliteStore {
    fn return_path_tag(&self, tenant: &TenantId, message: MessageId) -> Tag {
        Tag::from_mac(&hmac(&self.return_path_key, &[tenant.as_str().as_bytes(), b"|", message.as_bytes()]))
    }

    async fn report(&self, tenant: &TenantId, reported: Reported) -> Result<Heard, StoreError> {
        let (tenant, secret, message) = (tenant.clone(), self.subject_secret, reported.message);
        let work = move |connection: &Writing<'_>| report(connection, &secret, &tenant, &reported);
        let heard = self.write("taking a report", work).await?;
        // A mail whose doubt it ended is not sent once more.
        self.shelf.take(message);
        Ok(heard)
    }
}

/// What a report must know of its mail.
struct Mail {
    status: Status,
    may_have_been_sent: bool,
    in_flight: bool,
    recipient: String,
    /// What was said of it last.
    last_words: Option<String>,
}

fn mail(connection: &Connection, tenant: &TenantId, id: MessageId) -> Result<Option<Mail>, Fault> {
    let sql = r"-- reported_mail
        SELECT id, status, may_have_been_sent, recipient, relay_reply,
            EXISTS (SELECT 1 FROM attempt WHERE attempt.message = message.id) AS in_flight
        FROM message WHERE id = :id AND tenant = :tenant";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":id": id.as_bytes(), ":tenant": tenant.as_str() })?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let cells = Cells::new(row, "message");
    Ok(Some(Mail {
        status: cells.word("status")?,
        may_have_been_sent: cells.plain("may_have_been_sent")?,
        in_flight: cells.plain("in_flight")?,
        recipient: cells.plain("recipient")?,
        last_words: cells.plain("relay_reply")?,
    }))
}

fn report(connection: &Writing<'_>, secret: &[u8; 32], tenant: &TenantId, reported: &Reported) -> Result<Heard, Fault> {
    let Reported { message, said, actor, at, .. } = reported;
    let Some(mail) = mail(connection, tenant, *message)? else { return Ok(Heard::Found(Finding::UnknownMessage)) };
    let telling = Reporting { at: *at, tenant, message: *message, actor, said };
    let because = match said {
        // One word of it is enough, also after an operator has taken back what followed from it.
        Said::Complaint if has_complained(connection, *message)? => return Ok(Heard::Found(Finding::Known)),
        Said::Complaint => {
            audit::append(connection, &telling.came_in())?;
            Some(Source::Complaint)
        }
        Said::Delivery(delivery) => match told(connection, &mail, &telling, delivery)? {
            Effect::TooEarly => return Ok(Heard::InFlight),
            Effect::Known => return Ok(Heard::Found(Finding::Known)),
            Effect::Noted => return Ok(Heard::Found(Finding::Noted)),
            Effect::Ends(End::Bounced) => {
                let is_hard = delivery.code.is_some_and(bounce::is_hard);
                let most = reported.soft_bounces_max;
                (is_hard || bounced_in_a_row(connection, tenant, &mail.recipient, most)?).then_some(Source::Bounce)
            }
            Effect::Ends(End::Delivered) => return Ok(Heard::Found(Finding::Delivered)),
            Effect::Ends(End::Relayed) => return Ok(Heard::Found(Finding::Relayed)),
        },
    };
    if let Some(source) = because {
        suppress(
            connection,
            secret,
            &Returned { tenant, message: *message, recipient: &mail.recipient, at: *at },
            source,
        )?;
    }
    Ok(Heard::Found(match said {
        Said::Complaint => Finding::Complaint,
        Said::Delivery(_) => Finding::Bounced,
    }))
}

/// Writes what a report of a delivery changes.
fn told(connection: &Writing<'_>, mail: &Mail, telling: &Reporting<'_>, delivery: &Delivery) -> Result<Effect, Fault> {
    let words = delivery.shown();
    let Mail { status, may_have_been_sent, in_flight, .. } = *mail;
    let is_repeated = mail.last_words.as_deref() == Some(words.as_str());
    let effect = bounce::effect(Standing { status, may_have_been_sent, in_flight, is_repeated }, delivery.action);
    match effect {
        Effect::TooEarly | Effect::Known => {}
        Effect::Noted => {
            // Of an erased person's mail no words are kept, nor of one that a relay is yet to be asked about.
            if !mail.recipient.is_empty() && !status.is_live() {
                note(connection, telling.message, &words)?;
            }
            audit::append(connection, &telling.came_in())?;
        }
        Effect::Ends(becomes) => {
            let words = Some(words).filter(|_| !mail.recipient.is_empty());
            end(connection, telling, (status, becomes.status()), words.as_deref())?;
            audit::append(connection, &telling.came_in())?;
            if status.is_live() {
                audit::append(connection, &telling.resolved())?;
            }
            audit::append(connection, &telling.ended(becomes))?;
        }
    }
    Ok(effect)
}

fn note(connection: &Connection, id: MessageId, words: &str) -> Result<(), Fault> {
    let sql = r"-- note_report
        UPDATE message SET relay_reply = :words WHERE id = :id";
    connection.prepare_cached(sql)?.execute(named_params! { ":id": id.as_bytes(), ":words": words })?;
    Ok(())
}

fn end(
    connection: &Connection,
    telling: &Reporting<'_>,
    (from, to): (Status, Status),
    words: Option<&str>,
) -> Result<(), Fault> {
    let sql = r"-- end_by_report
        UPDATE message
        SET status = :to, reason = :reason, due_at = NULL, expires_at = NULL, ended_at = :at,
            relay_reply = coalesce(:words, relay_reply)
        WHERE id = :id AND status = :from";
    let changed = connection.prepare_cached(sql)?.execute(named_params! {
        ":id": telling.message.as_bytes(),
        ":from": from.as_str(),
        ":to": to.as_str(),
        ":reason": (to == Status::Bounced).then(|| Reason::Returned.as_str()),
        ":at": millis(telling.at),
        ":words": words,
    })?;
    if changed == 1 {
        return Ok(());
    }
    Err(Fault::Corrupt { table: "message", column: "status", id: telling.message.to_string() })
}

/// Whether a complaint about this mail came in before: its leaves say so.
fn has_complained(connection: &Connection, id: MessageId) -> Result<bool, Fault> {
    let sql = r"-- has_complained
        SELECT 1 FROM audit_leaf WHERE message = :id AND kind = 'dsn' AND instr(leaf, :complaint) > 0";
    let params = named_params! { ":id": id.as_bytes(), ":complaint": br#""report":"complaint""# };
    Ok(connection.prepare_cached(sql)?.exists(params)?)
}

/// Whether the last so many mails to a recipient, of those that ended at a relay, all came back.
fn bounced_in_a_row(connection: &Connection, tenant: &TenantId, recipient: &str, most: u32) -> Result<bool, Fault> {
    if most == 0 {
        return Ok(false);
    }
    let sql = r"-- bounced_in_a_row
        SELECT count(*) FROM
            (SELECT status FROM message INDEXED BY message_by_recipient
            WHERE tenant = :tenant AND recipient = :recipient AND status IN ('bounced', 'relayed', 'delivered')
            ORDER BY accepted_at DESC, id DESC LIMIT :most)
        WHERE status = 'bounced'";
    let params = named_params! { ":tenant": tenant.as_str(), ":recipient": recipient, ":most": most };
    let bounced: u32 = connection.prepare_cached(sql)?.query_row(params, |row| row.get(0))?;
    Ok(bounced == most)
}

/// A mail that came back, or that its relay would not take.
struct Returned<'r> {
    tenant: &'r TenantId,
    message: MessageId,
    recipient: &'r str,
    at: Timestamp,
}

/// Suppresses whoever a relay refuses with a hard code while it is asked.
pub(super) fn refused(
    connection: &Writing<'_>,
    secret: &[u8; 32],
    (tenant, message): (&TenantId, MessageId),
    (recipient, code): (&str, Option<EnhancedCode>),
    at: Timestamp,
) -> Result<(), Fault> {
    if code.is_some_and(bounce::is_hard) {
        suppress(connection, secret, &Returned { tenant, message, recipient, at }, Source::Bounce)?;
    }
    Ok(())
}

fn suppress(connection: &Writing<'_>, secret: &[u8; 32], returned: &Returned<'_>, source: Source) -> Result<(), Fault> {
    // Of somebody who is erased nobody is left to be suppressed.
    let Ok(recipient) = returned.recipient.parse() else { return Ok(()) };
    let scope = SuppressionScope::Everything;
    let new = NewSuppression { recipient, scope, source, because: None, expires_at: None, at: returned.at };
    suppressions::suppress(connection, secret, returned.tenant, &Actor::Gateway, &new, Some(returned.message))?;
    Ok(())
}
