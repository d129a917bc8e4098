//! Leaves: appended in the transaction of what they tell, numbered without gaps, whichever process appends.

use rusqlite::{Connection, OptionalExtension, named_params};

use super::accept::millis;
use super::fault::Fault;
use super::writer::Writing;
use crate::domain::audit::Happening;
use crate::domain::ids::{MessageId, TenantId};
use crate::store::Leaf;

/// Appends a leaf. The first number of a transaction is read in it, so a command beside the gateway leaves no gap.
pub(super) fn append(connection: &Writing<'_>, happening: &Happening) -> Result<(), Fault> {
    let seq = match connection.next_leaf.take() {
        Some(next) => next,
        None => next_leaf(connection)?,
    };
    let leaf = happening.canonical(u64::try_from(seq).unwrap_or_default());
    let sql = r"-- append_leaf
        INSERT INTO audit_leaf (seq, at, kind, message, tenant, leaf) VALUES (:seq, :at, :kind, :message, :tenant, :leaf)";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":seq": seq,
        ":at": millis(happening.at),
        ":kind": happening.kind.as_str(),
        ":message": happening.message.as_ref().map(MessageId::as_bytes),
        // What is the gateway's own is no tenant's: the empty name is nobody's.
        ":tenant": happening.tenant.as_ref().map_or("", TenantId::as_str),
        ":leaf": leaf,
    })?;
    connection.next_leaf.set(Some(seq + 1));
    Ok(())
}

/// The number of the leaf that is appended next.
pub(super) fn next_leaf(connection: &Connection) -> Result<i64, Fault> {
    let sql = r"-- next_leaf
        SELECT coalesce(max(seq) + 1, 0) FROM audit_leaf";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// The leaves of a message of a tenant, oldest first.
pub(super) fn leaves(connection: &Connection, tenant: &TenantId, id: MessageId) -> Result<Option<Vec<Leaf>>, Fault> {
    let sql = r"-- leaves_message
        SELECT 1 FROM message WHERE id = :id AND tenant = :tenant";
    let mut statement = connection.prepare_cached(sql)?;
    let params = named_params! { ":id": id.as_bytes(), ":tenant": tenant.as_str() };
    if statement.query_row(params, |_| Ok(())).optional()?.is_none() {
        return Ok(None);
    }
    let sql = r"-- leaves
        SELECT seq, leaf FROM audit_leaf WHERE message = :message ORDER BY seq";
    let mut statement = connection.prepare_cached(sql)?;
    let leaves = statement.query_map(named_params! { ":message": id.as_bytes() }, |row| {
        let seq: i64 = row.get("seq")?;
        Ok(Leaf { seq: u64::try_from(seq).unwrap_or_default(), bytes: row.get("leaf")? })
    })?;
    Ok(Some(leaves.collect::<Result<_, _>>()?))
}
