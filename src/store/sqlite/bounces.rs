//! Reports on mails: what they change, in one transaction.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use super::SqliteStore;
use super::accept::{hmac, millis};
use super::fault::{Cells, Fault};
use super::writer::Writing;
use super::{audit, suppressions};
use crate::domain::audit::bounces::Reporting;
use crate::domain::audit::{Actor, hex};
use crate::domain::bounce::{self, Action, Delivery, Effect, End, Finding, Said, Standing};
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
        let (tenant, message) = (tenant.clone(), reported.message);
        let secrets = Secrets { subject: self.subject_secret, return_path: self.return_path_key };
        let work = move |connection: &Writing<'_>| report(connection, &secrets, &tenant, &reported);
        let heard = self.write("taking a report", work).await?;
        // A mail whose doubt it ended is not sent once more.
        self.shelf.take(message);
        Ok(heard)
    }
}

/// Reports on one mail that are kept: more no relay has to say. Whoever holds a mail's tag could go on for ever.
const REPORTS_MAX: u32 = 50;
/// Mails to one recipient that are looked at for [`bounced_in_a_row`].
const LOOKED_AT_MAX: u32 = 1_000;

struct Secrets {
    subject: [u8; 32],
    return_path: [u8; 32],
}

/// What a report must know of its mail.
struct Mail {
    status: Status,
    may_have_been_sent: bool,
    in_flight: bool,
    recipient: String,
}

fn mail(connection: &Connection, tenant: &TenantId, id: MessageId) -> Result<Option<Mail>, Fault> {
    let sql = r"-- reported_mail
        SELECT id, status, may_have_been_sent, recipient,
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
    }))
}

fn report(connection: &Writing<'_>, secrets: &Secrets, tenant: &TenantId, reported: &Reported) -> Result<Heard, Fault> {
    let Reported { message, said, actor, at, .. } = reported;
    let Some(mail) = mail(connection, tenant, *message)? else { return Ok(Heard::Found(Finding::UnknownMessage)) };
    let telling = Reporting { at: *at, tenant, message: *message, actor, said };
    let (finding, because) = match said {
        // One word of it is enough, also after an operator has taken back what followed from it.
        Said::Complaint if has_complained(connection, *message)? => return Ok(Heard::Found(Finding::Known)),
        Said::Complaint => {
            audit::append(connection, &telling.came_in(None))?;
            (Finding::Complaint, Some(Source::Complaint))
        }
        Said::Delivery(delivery) => {
            let (standing, effect) = told(connection, (&mail, &secrets.return_path), &telling, delivery)?;
            let is_hard = delivery.action == Action::Failed
                && delivery.code.is_some_and(bounce::is_hard)
                && bounce::tells_of_recipient(standing);
            let most = reported.soft_bounces_max;
            match effect {
                Effect::TooEarly => return Ok(Heard::InFlight),
                Effect::Known => return Ok(Heard::Found(Finding::Known)),
                Effect::Noted => (Finding::Noted, is_hard.then_some(Source::Bounce)),
                Effect::Ends(End::Bounced) => {
                    let is_over = is_hard || bounced_in_a_row(connection, tenant, &mail.recipient, most)?;
                    (Finding::Bounced, is_over.then_some(Source::Bounce))
                }
                Effect::Ends(End::Delivered) => (Finding::Delivered, None),
                Effect::Ends(End::Relayed) => (Finding::Relayed, None),
            }
        }
    };
    if let Some(source) = because {
        let returned = Returned { tenant, message: *message, recipient: &mail.recipient, at: *at };
        suppress(connection, &secrets.subject, &returned, source)?;
    }
    Ok(Heard::Found(finding))
}

/// Writes what a report of a delivery changes; how it stood with the mail before.
fn told(
    connection: &Writing<'_>,
    (mail, key): (&Mail, &[u8; 32]),
    telling: &Reporting<'_>,
    delivery: &Delivery,
) -> Result<(Standing, Effect), Fault> {
    let words = delivery.shown();
    // Words may name the recipient: what stands in the audit for ever only tells reports from each other.
    let mark = hex(&hmac(key, &[b"report|", telling.message.as_bytes(), b"|", words.as_bytes()]));
    let (reports, is_repeated) = reports(connection, telling.message, &mark)?;
    let Mail { status, may_have_been_sent, in_flight, .. } = *mail;
    let standing = Standing { status, may_have_been_sent, in_flight, is_repeated };
    let effect = match bounce::effect(standing, delivery.action) {
        Effect::Noted if reports >= REPORTS_MAX => Effect::Known,
        effect => effect,
    };
    match effect {
        Effect::TooEarly | Effect::Known => {}
        Effect::Noted => {
            // What ended a mail stays what is said of it; and of an erased person's no words are kept.
            if status == Status::Relayed && !mail.recipient.is_empty() {
                note(connection, telling.message, &words)?;
            }
            audit::append(connection, &telling.came_in(Some(&mark)))?;
        }
        Effect::Ends(becomes) => {
            let words = Some(words).filter(|_| !mail.recipient.is_empty());
            end(connection, telling, (status, becomes.status()), words.as_deref())?;
            audit::append(connection, &telling.came_in(Some(&mark)))?;
            if status.is_live() {
                audit::append(connection, &telling.resolved())?;
            }
            audit::append(connection, &telling.ended(becomes))?;
        }
    }
    Ok((standing, effect))
}

/// How many reports came in on a mail, and whether this one was among them.
fn reports(connection: &Connection, id: MessageId, mark: &str) -> Result<(u32, bool), Fault> {
    let sql = r"-- reports
        SELECT count(*), total(instr(leaf, :mark) > 0) > 0 FROM audit_leaf WHERE message = :id AND kind = 'dsn'";
    let params = named_params! { ":id": id.as_bytes(), ":mark": mark.as_bytes() };
    Ok(connection.prepare_cached(sql)?.query_row(params, |row| Ok((row.get(0)?, row.get(1)?)))?)
}

fn note(connection: &Connection, id: MessageId, words: &str) -> Result<(), Fault> {
    let sql = r"-- note_report
        UPDATE message SET relay_reply = :words WHERE id = :id";
    connection.prepare_cached(sql)?.execute(named_params! { ":id": id.as_bytes(), ":words": words })?;
    Ok(())
}

/// Ends a mail. One that came back has certainly not gone: sent again, it is in doubt only for what happens then.
fn end(
    connection: &Connection,
    telling: &Reporting<'_>,
    (from, to): (Status, Status),
    words: Option<&str>,
) -> Result<(), Fault> {
    let sql = r"-- end_by_report
        UPDATE message
        SET status = :to, reason = :reason, due_at = NULL, expires_at = NULL, ended_at = :at,
            relay_reply = coalesce(:words, relay_reply),
            may_have_been_sent = may_have_been_sent AND :to <> 'bounced'
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

/// Whether the last so many mails to a recipient that left the relay's hands all came back. What was never taken says
/// nothing of them. Nor do mails count twice: none since whose return they were suppressed, which somebody has taken back.
fn bounced_in_a_row(connection: &Connection, tenant: &TenantId, recipient: &str, most: u32) -> Result<bool, Fault> {
    if most == 0 || recipient.is_empty() {
        return Ok(false);
    }
    let sql = r"-- bounced_in_a_row
        SELECT count(*) FROM
            (SELECT id, status FROM
                (SELECT id, status, reason, accepted_at FROM message INDEXED BY message_by_recipient
                WHERE tenant = :tenant AND recipient = :recipient ORDER BY accepted_at DESC, id DESC LIMIT :looked_at)
            WHERE status IN ('relayed', 'delivered') OR (status = 'bounced' AND reason = 'returned') LIMIT :most)
        WHERE status = 'bounced' AND NOT EXISTS
            (SELECT 1 FROM audit_leaf WHERE audit_leaf.message = id AND kind = 'suppression-added')";
    let params = named_params! {
        ":tenant": tenant.as_str(), ":recipient": recipient, ":looked_at": LOOKED_AT_MAX, ":most": most,
    };
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
