//! What proves the audit: tiles of its tree, signed checkpoints, and the leaves as their rows tell them.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, named_params};

use super::SqliteStore;
use super::accept::millis;
use super::audit::{self, next_leaf};
use super::fault::{Cells, Fault};
use super::sweep::limit_of;
use super::writer::Writing;
use crate::audit_log::tiles::{Tile, TileId, edge_of};
use crate::domain::audit::audit_key_set;
use crate::domain::ids::{MessageId, TenantId};
use crate::store::{
    AuditStore, Leaf, LeafFilter, LeafPage, LogStanding, LoggedLeaf, LoggedMessage, NewCheckpoint, SignedCheckpoint,
    StoreError,
};

/// Rows that are looked at for one page of a list.
const SCANNED_MAX: usize = 20_000;
/// Leaves are numbered when their transaction is written, a moment after they were timed: how far a later number may have
/// an earlier time.
const DISORDER_MAX_MS: i64 = 60_000;

#[async_trait]
impl AuditStore for SqliteStore {
    async fn log_standing(&self) -> Result<LogStanding, StoreError> {
        self.read("reading how the log stands", standing).await
    }

    async fn leaves_from(&self, from: u64, limit: usize) -> Result<Vec<Leaf>, StoreError> {
        self.read("reading leaves", move |connection| leaves_from(connection, from, limit)).await
    }

    async fn keep_checkpoint(&self, new: NewCheckpoint) -> Result<bool, StoreError> {
        self.write("keeping a checkpoint", move |connection| keep(connection, &new)).await
    }

    async fn audit_key_set(&self, key: String, at: Timestamp) -> Result<(), StoreError> {
        let work = move |connection: &Writing<'_>| audit::append(connection, &audit_key_set(at, &key));
        self.write("noting the audit's key", work).await
    }

    async fn tiles(&self, ids: Vec<TileId>) -> Result<Vec<Tile>, StoreError> {
        let work = move |connection: &Connection| {
            let tiles = ids.into_iter().map(|id| tile(connection, id));
            Ok(tiles.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        };
        self.read("reading tiles", work).await
    }

    async fn checkpoints(&self, after: u64, limit: usize) -> Result<Vec<SignedCheckpoint>, StoreError> {
        self.list_until(None, "listing checkpoints", move |connection| checkpoints(connection, after, limit)).await
    }

    async fn last_checkpoint(&self) -> Result<Option<SignedCheckpoint>, StoreError> {
        self.read("reading the last checkpoint", last).await
    }

    async fn list_leaves(&self, tenant: Option<&TenantId>, filter: LeafFilter) -> Result<LeafPage, StoreError> {
        let tenant = tenant.cloned();
        self.list("listing leaves", move |connection| list(connection, tenant.as_ref(), &filter)).await
    }

    async fn logged_leaves(&self, from: u64, limit: usize) -> Result<Vec<LoggedLeaf>, StoreError> {
        self.list_until(None, "reading the log", move |connection| logged(connection, from, limit)).await
    }

    async fn logged_messages(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<LoggedMessage>, StoreError> {
        self.list_until(None, "reading messages", move |connection| messages(connection, after, limit)).await
    }

    async fn logged_of(&self, id: MessageId) -> Result<Vec<Vec<u8>>, StoreError> {
        self.list_until(None, "reading the leaves of a message", move |connection| leaves_of(connection, id)).await
    }
}

/// A place in the log as its column holds it.
fn place(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn standing(connection: &Connection) -> Result<LogStanding, Fault> {
    let signed = last(connection)?;
    let size = signed.as_ref().map_or(0, |signed| signed.size);
    let mut edge = Vec::new();
    for id in edge_of(size) {
        let mut found = tile(connection, id)?.unwrap_or(Tile { id, hashes: Vec::new() });
        // It may have grown since the checkpoint was read.
        found.hashes.truncate(id.width_at(size));
        edge.push(found);
    }
    let leaves = u64::try_from(next_leaf(connection)?).unwrap_or_default();
    Ok(LogStanding { leaves, signed, edge })
}

fn leaves_from(connection: &Connection, from: u64, limit: usize) -> Result<Vec<Leaf>, Fault> {
    let sql = r"-- leaves_from
        SELECT seq, leaf FROM audit_leaf WHERE seq >= :from ORDER BY seq LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":from": place(from), ":limit": limit_of(limit) })?;
    let mut leaves = Vec::new();
    while let Some(row) = rows.next()? {
        let leaf = leaf(&Cells::new(row, "audit_leaf"))?;
        if leaf.seq != from + leaves.len() as u64 {
            break;
        }
        leaves.push(leaf);
    }
    Ok(leaves)
}

fn leaf(cells: &Cells<'_>) -> Result<Leaf, Fault> {
    Ok(Leaf { seq: u64::try_from(cells.plain::<i64>("seq")?).unwrap_or_default(), bytes: cells.plain("leaf")? })
}

/// Keeps a checkpoint, if the one it follows is still the last.
fn keep(connection: &Writing<'_>, new: &NewCheckpoint) -> Result<bool, Fault> {
    let before = last(connection)?.map_or(0, |last| last.size);
    if before != new.after || new.checkpoint.size <= before {
        return Ok(false);
    }
    let sql = r"-- keep_tile
        INSERT INTO audit_tile (level, number, hashes) VALUES (:level, :number, :hashes)
        ON CONFLICT (level, number) DO UPDATE SET hashes = excluded.hashes";
    let mut statement = connection.prepare_cached(sql)?;
    for tile in &new.tiles {
        let TileId { level, number } = tile.id;
        statement.execute(named_params! { ":level": level, ":number": place(number), ":hashes": tile.bytes() })?;
    }
    let sql = r"-- keep_checkpoint
        INSERT INTO audit_checkpoint (size, at, note) VALUES (:size, :at, :note)";
    let SignedCheckpoint { size, at, note } = &new.checkpoint;
    let params = named_params! { ":size": place(*size), ":at": millis(*at), ":note": note };
    connection.prepare_cached(sql)?.execute(params)?;
    Ok(true)
}

fn tile(connection: &Connection, id: TileId) -> Result<Option<Tile>, Fault> {
    let sql = r"-- tile
        SELECT hashes FROM audit_tile WHERE level = :level AND number = :number";
    let mut statement = connection.prepare_cached(sql)?;
    let params = named_params! { ":level": id.level, ":number": place(id.number) };
    let hashes: Option<Vec<u8>> = statement.query_row(params, |row| row.get(0)).optional()?;
    let corrupt = || Fault::Corrupt { table: "audit_tile", column: "hashes", id: id.to_string() };
    hashes.map(|hashes| Tile::read(id, &hashes).ok_or_else(corrupt)).transpose()
}

fn last(connection: &Connection) -> Result<Option<SignedCheckpoint>, Fault> {
    let sql = r"-- last_checkpoint
        SELECT size, at, note FROM audit_checkpoint ORDER BY size DESC LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    rows.next()?.map(|row| checkpoint(&Cells::new(row, "audit_checkpoint"))).transpose()
}

fn checkpoints(connection: &Connection, after: u64, limit: usize) -> Result<Vec<SignedCheckpoint>, Fault> {
    let sql = r"-- checkpoints
        SELECT size, at, note FROM audit_checkpoint WHERE size > :after ORDER BY size LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":after": place(after), ":limit": limit_of(limit) })?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(checkpoint(&Cells::new(row, "audit_checkpoint"))?);
    }
    Ok(found)
}

fn checkpoint(cells: &Cells<'_>) -> Result<SignedCheckpoint, Fault> {
    Ok(SignedCheckpoint {
        size: u64::try_from(cells.plain::<i64>("size")?).unwrap_or_default(),
        at: cells.time("at")?,
        note: cells.plain("note")?,
    })
}

fn list(connection: &Connection, tenant: Option<&TenantId>, filter: &LeafFilter) -> Result<LeafPage, Fault> {
    let LeafFilter { kind, since, until, from, limit } = filter;
    let from = since.map_or(Ok(*from), |since| Ok::<_, Fault>(first_since(connection, since)?.max(*from)))?;
    let sql = r"-- list_leaves
        SELECT seq, at, kind, tenant, leaf FROM audit_leaf WHERE seq >= :from ORDER BY seq LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":from": place(from), ":limit": limit_of(SCANNED_MAX) })?;
    let mut page = LeafPage::default();
    let mut scanned = 0;
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "audit_leaf");
        let (at, found) = (cells.plain::<i64>("at")?, leaf(&cells)?);
        if page.leaves.len() == *limit {
            page.next = Some(found.seq);
            return Ok(page);
        }
        // Beyond the disorder nothing later can be in time.
        if until.is_some_and(|until| at > millis(until).saturating_add(DISORDER_MAX_MS)) {
            return Ok(page);
        }
        scanned += 1;
        if scanned == SCANNED_MAX {
            page.next = Some(found.seq + 1);
        }
        let is_in_time = since.is_none_or(|since| at >= millis(since)) && until.is_none_or(|until| at <= millis(until));
        let is_of_kind = match kind {
            Some(kind) => cells.plain::<String>("kind")? == kind.as_str(),
            None => true,
        };
        let is_of_tenant = match tenant {
            Some(tenant) => cells.plain::<String>("tenant")? == tenant.as_str(),
            None => true,
        };
        if is_in_time && is_of_kind && is_of_tenant {
            page.leaves.push(found);
        }
    }
    Ok(page)
}

/// The place from which on leaves may be as late as `since`: found by halves, since places grow with time.
fn first_since(connection: &Connection, since: Timestamp) -> Result<u64, Fault> {
    let sql = r"-- leaf_time
        SELECT at FROM audit_leaf WHERE seq >= :seq ORDER BY seq LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let wanted = millis(since).saturating_sub(DISORDER_MAX_MS);
    let (mut low, mut high) = (0, next_leaf(connection)?);
    while low < high {
        let middle = low + (high - low) / 2;
        let at: Option<i64> = statement.query_row(named_params! { ":seq": middle }, |row| row.get(0)).optional()?;
        if at.is_some_and(|at| at < wanted) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(u64::try_from(low).unwrap_or_default())
}

fn logged(connection: &Connection, from: u64, limit: usize) -> Result<Vec<LoggedLeaf>, Fault> {
    let sql = r"-- logged_leaves
        SELECT seq, at, kind, tenant, message, leaf,
            message IS NULL OR EXISTS (SELECT 1 FROM message WHERE message.id = audit_leaf.message) AS is_kept
        FROM audit_leaf WHERE seq >= :from ORDER BY seq LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":from": place(from), ":limit": limit_of(limit) })?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "audit_leaf");
        let Leaf { seq, bytes } = leaf(&cells)?;
        found.push(LoggedLeaf {
            seq,
            bytes,
            kind: cells.plain("kind")?,
            tenant: cells.plain("tenant")?,
            message: cells.plain::<Option<Vec<u8>>>("message")?.and_then(|id| MessageId::from_slice(&id)),
            at: cells.plain("at")?,
            is_kept: cells.plain("is_kept")?,
        });
    }
    Ok(found)
}

fn messages(connection: &Connection, after: Option<MessageId>, limit: usize) -> Result<Vec<LoggedMessage>, Fault> {
    // What happens meanwhile is not seen, or seen whole.
    let connection = connection.unchecked_transaction()?;
    let sql = r"-- logged_messages
        SELECT id, status FROM message WHERE id > :after ORDER BY id LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let after = after.map_or_else(Vec::new, |after| after.as_bytes().to_vec());
    let mut rows = statement.query(named_params! { ":after": after, ":limit": limit_of(limit) })?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "message");
        let id = cells.message_id("id")?;
        found.push(LoggedMessage { id, status: cells.plain("status")?, leaves: leaves_of(&connection, id)? });
    }
    Ok(found)
}

fn leaves_of(connection: &Connection, id: MessageId) -> Result<Vec<Vec<u8>>, Fault> {
    let sql = r"-- leaves_of_message
        SELECT leaf FROM audit_leaf WHERE message = :message ORDER BY seq";
    let mut statement = connection.prepare_cached(sql)?;
    let leaves = statement.query_map(named_params! { ":message": id.as_bytes() }, |row| row.get(0))?;
    Ok(leaves.collect::<Result<_, _>>()?)
}
