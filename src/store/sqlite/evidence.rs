//! Mails in doubt, and what ends the doubt.

use async_trait::async_trait;
use rusqlite::{Connection, named_params};

use super::SqliteStore;
use super::accept::millis;
use super::attempts::tell_unreadable;
use super::audit;
use super::fault::{Cells, Fault};
use super::sweep::limit_of;
use super::writer::Writing;
use crate::domain::audit::{found_relayed, resolved_by_evidence};
use crate::domain::evidence::Evidence;
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::message::Status;
use crate::store::{EvidenceStore, InDoubt, StoreError};

fn in_doubt(connection: &Connection, limit: usize) -> Result<Vec<InDoubt>, Fault> {
    // A mail that came back, and was sent again since, is not looked for where no queue id tells its two times apart.
    let unknown = r"-- in_doubt_unknown
        SELECT id, message_id, accepted_at, status, due_at, relay_queue_id FROM message INDEXED BY message_unknown
        WHERE status = 'unknown' AND (relay_queue_id IS NOT NULL OR NOT EXISTS
            (SELECT 1 FROM audit_leaf WHERE audit_leaf.message = message.id AND audit_leaf.kind = 'dsn'))
        ORDER BY due_at LIMIT :limit";
    let decided = r"-- in_doubt_decided
        SELECT id, message_id, accepted_at, status, due_at, relay_queue_id FROM message INDEXED BY message_in_doubt
        WHERE may_have_been_sent = 1 AND status IN ('queued', 'deferred', 'held', 'unknown') AND +status <> 'unknown'
            AND (relay_queue_id IS NOT NULL OR NOT EXISTS
                (SELECT 1 FROM audit_leaf WHERE audit_leaf.message = message.id AND audit_leaf.kind = 'dsn'))
        ORDER BY accepted_at DESC, id DESC LIMIT :limit";
    let mut found = Vec::new();
    for sql in [unknown, decided] {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(named_params! { ":limit": limit_of(limit - found.len()) })?;
        while let Some(row) = rows.next()? {
            let cells = Cells::new(row, "message");
            let read = || {
                let due_at = cells.time_or_none("due_at")?;
                Ok(InDoubt {
                    id: cells.message_id("id")?,
                    message_id: cells.plain("message_id")?,
                    accepted_at: cells.time("accepted_at")?,
                    known_as: cells.plain("relay_queue_id")?,
                    decide_at: due_at
                        .filter(|_| cells.word("status").is_ok_and(|status: Status| status == Status::Unknown)),
                })
            };
            match read() {
                Ok(message) => found.push(message),
                Err(fault) => tell_unreadable(fault)?,
            }
        }
    }
    Ok(found)
}

fn resolve(connection: &Writing<'_>, evidence: &Evidence) -> Result<bool, Fault> {
    let Evidence { id, relay, taken, at } = evidence;
    let sql = r"-- resolve
        UPDATE message
        SET status = 'relayed', reason = NULL, due_at = NULL, expires_at = NULL, ended_at = :at, relay = :relay,
            relay_queue_id = :queue_id, relay_reply = :reply
        WHERE id = :id AND may_have_been_sent = 1 AND status IN ('queued', 'deferred', 'held', 'unknown')
            AND NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.message = message.id)";
    let changed = connection.prepare_cached(sql)?.execute(named_params! {
        ":id": id.as_bytes(),
        ":at": millis(*at),
        ":relay": relay.as_str(),
        ":queue_id": taken.queue_id,
        // What it answered is lost; what it wrote into its log since is told as that.
        ":reply": taken.fate.as_ref().map(|fate| format!("log: {} ({})", fate.status, fate.words)),
    })?;
    if changed == 0 {
        return Ok(false);
    }
    let tenant = tenant_of(connection, *id)?;
    audit::append(connection, &resolved_by_evidence(&tenant, evidence))?;
    audit::append(connection, &found_relayed(&tenant, evidence))?;
    Ok(true)
}

fn tenant_of(connection: &Connection, id: MessageId) -> Result<TenantId, Fault> {
    let sql = r"-- tenant_of_resolved
        SELECT id, tenant FROM message WHERE id = :id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":id": id.as_bytes() })?;
    let gone = || Fault::Corrupt { table: "message", column: "tenant", id: id.to_string() };
    Cells::new(rows.next()?.ok_or_else(gone)?, "message").word("tenant")
}

#[async_trait]
impl EvidenceStore for SqliteStore {
    async fn in_doubt(&self, limit: usize) -> Result<Vec<InDoubt>, StoreError> {
        self.read("looking for mails in doubt", move |connection| in_doubt(connection, limit)).await
    }

    async fn resolve(&self, evidence: Vec<Evidence>) -> Result<usize, StoreError> {
        let ids: Vec<MessageId> = evidence.iter().map(|evidence| evidence.id).collect();
        let work = move |connection: &Writing<'_>| {
            let mut resolved = 0;
            for evidence in &evidence {
                resolved += usize::from(resolve(connection, evidence)?);
            }
            Ok(resolved)
        };
        let resolved = self.write("resolving mails in doubt", work).await?;
        for id in ids {
            self.shelf.take(id);
        }
        Ok(resolved)
    }
}
