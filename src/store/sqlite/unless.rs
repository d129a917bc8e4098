//! Mails that end when their customer's wallets stand in a certain way: asked at the commit point, and for those who ask
//! why a mail waits. A mail without such a condition costs nothing here.

use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use super::accept::millis;
use super::audit;
use super::fault::{Cells, Fault};
use super::wallets::status_of;
use super::writer::Writing;
use crate::domain::audit::not_wanted;
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::message::Reason;
use crate::domain::unless::{Condition, Unless};
use crate::domain::wallet::WalletStatus;

/// The condition that a row of `message` keeps, and whose wallets it asks for. The row has the columns `unless_wallet`,
/// `customer` and `recipient`.
pub(super) fn kept(cells: &Cells<'_>) -> Result<Option<(Unless, String)>, Fault> {
    let Some(words) = cells.plain::<Option<String>>("unless_wallet")? else { return Ok(None) };
    let customer: Option<String> = cells.plain("customer")?;
    let unless = Unless::read(&words, customer.clone()).ok_or_else(|| cells.corrupt("unless_wallet"))?;
    Ok(Some((unless, customer.map_or_else(|| cells.plain("recipient"), Ok)?)))
}

/// How it stands with a condition now.
pub(super) fn stands(
    connection: &Connection,
    tenant: &TenantId,
    kept: Option<(Unless, String)>,
) -> Result<Option<Condition>, Fault> {
    let Some((unless, customer)) = kept else { return Ok(None) };
    let status = status_of(connection, tenant, &customer)?;
    Ok(Some(Condition { unless, status }))
}

/// Ends a waiting message whose condition holds, with its leaf.
pub(super) fn end(
    connection: &Writing<'_>,
    tenant: &TenantId,
    id: MessageId,
    status: WalletStatus,
    at: Timestamp,
) -> Result<(), Fault> {
    cancel(connection, id, Reason::WalletStatus, at)?;
    audit::append(connection, &not_wanted(at, tenant, id, status))
}

/// The row of a waiting message that ends unsent; its leaf is the caller's affair.
pub(super) fn cancel(connection: &Writing<'_>, id: MessageId, reason: Reason, at: Timestamp) -> Result<(), Fault> {
    let sql = r"-- cancel_waiting
        UPDATE message
        SET status = 'cancelled', reason = :reason, due_at = NULL, expires_at = NULL, ended_at = :at
        WHERE id = :id AND status IN ('queued', 'deferred', 'held')";
    let params = named_params! { ":id": id.as_bytes(), ":reason": reason.as_str(), ":at": millis(at) };
    if connection.prepare_cached(sql)?.execute(params)? != 1 {
        return Err(Fault::Corrupt { table: "message", column: "status", id: id.to_string() });
    }
    Ok(())
}
