//! What has ended is removed after its time, in the order of acceptance.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use super::SqliteStore;
use super::accept::millis;
use super::attempts::tell_unreadable;
use super::audit;
use super::fault::{Cells, Fault};
use super::scrubbing::{self, Due};
use super::sweep::limit_of;
use super::writer::Writing;
use crate::domain::audit::retention::{contents_purged, messages_purged};
use crate::domain::ids::{MessageId, TenantId};
use crate::store::{Purge, Purged, PurgedPart, RetentionStore, Scrubbed, StoreError};

#[async_trait]
impl RetentionStore for SqliteStore {
    async fn purge(&self, purge: Purge) -> Result<Purged, StoreError> {
        // Found outside the transaction: nobody waits for a look at what stays.
        let found =
            self.read("looking for what was kept long enough", move |connection| ripe(connection, &purge)).await?;
        let Ripe { ids, next } = found;
        if ids.is_empty() {
            return Ok(Purged { count: 0, next });
        }
        let work = move |connection: &Writing<'_>| remove(connection, &purge, &ids);
        let count = self.write("removing what was kept long enough", work).await?;
        Ok(Purged { count, next })
    }

    async fn scrub(&self, pages: usize) -> Result<Scrubbed, StoreError> {
        match self.read("looking for what to scrub", move |connection| scrubbing::look(connection, pages)).await? {
            Due::Nothing => Ok(Scrubbed::All),
            Due::Log => self.write("scrubbing", |connection| Ok(scrubbing::leave_log(connection))).await,
            Due::Pages(look) => self.write("scrubbing", move |connection| scrubbing::clean(connection, &look)).await,
        }
    }
}

/// The ends of a walk: no mail accepted after `ended_before` can have ended before it.
fn ends(purge: &Purge) -> (Vec<u8>, Vec<u8>) {
    let after = purge.after.map_or_else(Vec::new, |after| after.as_bytes().to_vec());
    // A UUID of version 7 begins with its milliseconds.
    let until = u64::try_from(millis(purge.ended_before)).unwrap_or(0).saturating_add(1);
    (after, until.to_be_bytes()[2..].to_vec())
}

/// Mails whose time has come, and where the walk goes on.
struct Ripe {
    ids: Vec<MessageId>,
    next: Option<MessageId>,
}

fn ripe(connection: &Connection, purge: &Purge) -> Result<Ripe, Fault> {
    let contents = r"-- contents_in_order
        SELECT content.message AS id, message.ended_at FROM content CROSS JOIN message ON message.id = content.message
        WHERE content.message > :after AND content.message < :until ORDER BY content.message LIMIT :limit";
    let messages = r"-- messages_in_order
        SELECT id, ended_at FROM message WHERE id > :after AND id < :until ORDER BY id LIMIT :limit";
    let sql = match purge.part {
        PurgedPart::Contents => contents,
        PurgedPart::Messages => messages,
    };
    let (after, until) = ends(purge);
    let mut statement = connection.prepare_cached(sql)?;
    let params = named_params! { ":after": after, ":until": until, ":limit": limit_of(purge.limit) };
    let mut rows = statement.query(params)?;
    let (mut ids, mut looked_at, mut last) = (Vec::new(), 0, None);
    while let Some(row) = rows.next()? {
        looked_at += 1;
        let cells = Cells::new(row, "message");
        let id = cells.message_id("id")?;
        last = Some(id);
        let ended_at: Option<Timestamp> = match cells.time_or_none("ended_at") {
            Ok(ended_at) => ended_at,
            Err(fault) => {
                tell_unreadable(fault)?;
                continue;
            }
        };
        if ended_at.is_some_and(|ended_at| ended_at <= purge.ended_before) {
            ids.push(id);
        }
    }
    Ok(Ripe { ids, next: last.filter(|_| looked_at >= purge.limit) })
}

fn remove(connection: &Writing<'_>, purge: &Purge, ids: &[MessageId]) -> Result<usize, Fault> {
    let mut counts: BTreeMap<TenantId, usize> = BTreeMap::new();
    for id in ids {
        // It may have been retried meanwhile.
        let Some(tenant) = tenant_of_ended(connection, *id, purge.ended_before)? else { continue };
        let removed = match purge.part {
            PurgedPart::Contents => remove_content(connection, *id)?,
            PurgedPart::Messages => remove_message(connection, *id)?,
        };
        *counts.entry(tenant).or_default() += usize::from(removed);
    }
    counts.retain(|_, count| *count > 0);
    for (tenant, count) in &counts {
        let leaf = match purge.part {
            PurgedPart::Contents => contents_purged(purge.at, tenant, *count, purge.ended_before),
            PurgedPart::Messages => messages_purged(purge.at, tenant, *count, purge.ended_before),
        };
        audit::append(connection, &leaf)?;
    }
    Ok(counts.values().sum())
}

/// Whose mail it is, if it had ended then.
fn tenant_of_ended(connection: &Connection, id: MessageId, before: Timestamp) -> Result<Option<TenantId>, Fault> {
    let sql = r"-- tenant_of_ended
        SELECT id, tenant FROM message WHERE id = :id AND ended_at <= :before";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":id": id.as_bytes(), ":before": millis(before) })?;
    rows.next()?.map(|row| Cells::new(row, "message").word("tenant")).transpose()
}

/// Removes a mail's content; whether there was one.
pub(super) fn remove_content(connection: &Connection, id: MessageId) -> Result<bool, Fault> {
    let sql = r"-- remove_content
        DELETE FROM content WHERE message = :id";
    Ok(connection.prepare_cached(sql)?.execute(named_params! { ":id": id.as_bytes() })? > 0)
}

/// Removes by what a mail is found besides its row: its tags and its metadata.
pub(super) fn remove_finders(connection: &Connection, id: MessageId) -> Result<(), Fault> {
    // A text that is not JSON any more has none that could be found.
    let tags = r"-- remove_tags
        DELETE FROM message_tag WHERE (tenant, tag, accepted_at, message) IN
            (SELECT message.tenant, entry.value, message.accepted_at, message.id
            FROM message, json_each(CASE WHEN json_valid(message.tags) THEN message.tags ELSE '[]' END) AS entry
            WHERE message.id = :id)";
    let metadata = r"-- remove_metadata
        DELETE FROM message_metadata WHERE (tenant, key, value, accepted_at, message) IN
            (SELECT message.tenant, entry.key, entry.value, message.accepted_at, message.id
            FROM message, json_each(CASE WHEN json_valid(message.metadata) THEN message.metadata ELSE '{}' END) AS entry
            WHERE message.id = :id)";
    for sql in [tags, metadata] {
        connection.prepare_cached(sql)?.execute(named_params! { ":id": id.as_bytes() })?;
    }
    Ok(())
}

fn remove_message(connection: &Connection, id: MessageId) -> Result<bool, Fault> {
    remove_content(connection, id)?;
    remove_finders(connection, id)?;
    let sql = r"-- remove_message
        DELETE FROM message WHERE id = :id";
    Ok(connection.prepare_cached(sql)?.execute(named_params! { ":id": id.as_bytes() })? > 0)
}
