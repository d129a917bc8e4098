//! The metadata of messages as rows, so that a message is found by one pair of it.

use rusqlite::{Connection, named_params};

use super::accept::millis;
use super::fault::Fault;
use crate::domain::message::NewMessage;

/// Keeps the pairs of a new message.
pub(super) fn insert(connection: &Connection, message: &NewMessage) -> Result<(), Fault> {
    let sql = r"-- insert_metadata
        INSERT INTO message_metadata (tenant, key, value, accepted_at, message)
        VALUES (:tenant, :key, :value, :accepted_at, :message)";
    for (key, value) in &message.metadata {
        connection.prepare_cached(sql)?.execute(named_params! {
            ":tenant": message.tenant.as_str(),
            ":key": key,
            ":value": value,
            ":accepted_at": millis(message.accepted_at),
            ":message": message.id.as_bytes(),
        })?;
    }
    Ok(())
}
