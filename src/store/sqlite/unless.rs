//! Mails that end when their customer's wallets stand in a certain way: asked at the commit point, and for those who ask
//! why a mail waits. A mail without such a condition costs nothing here.

use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use super::accept::millis;
use super::audit;
use super::fault::{Cells, Fault};
use super::writer::Writing;
use crate::domain::audit::not_wanted;
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::message::Reason;
use crate::domain::pass_event::Wallet;
use crate::domain::unless::{Condition, Unless};
use crate::domain::wallet::{BY_PASS, WalletStatus};

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

/// In which wallets whoever has this identifier has a pass: all of them together, when several are known by it or, being an
/// address, have it among their identifiers.
fn status_of(connection: &Connection, tenant: &TenantId, value: &str) -> Result<WalletStatus, Fault> {
    let sql = r"-- status_of_value
        SELECT status FROM wallet_customer
        WHERE tenant = :tenant AND customer = :value AND known_by <> :by_pass AND joined IS NULL
        UNION
        SELECT wallet_customer.status FROM pass_address JOIN wallet_pass USING (tenant, pass_key)
        JOIN wallet_customer USING (tenant, customer, known_by)
        WHERE pass_address.tenant = :tenant AND pass_address.address = :value";
    let mut statement = connection.prepare_cached(sql)?;
    let params = named_params! { ":tenant": tenant.as_str(), ":value": value, ":by_pass": BY_PASS };
    let mut rows = statement.query(params)?;
    let mut wallets = Vec::new();
    while let Some(row) = rows.next()? {
        let status: WalletStatus = Cells::new(row, "wallet_customer").word("status")?;
        wallets.extend(Wallet::ALL.into_iter().filter(|wallet| status.has(*wallet)));
    }
    Ok(WalletStatus::in_wallets(wallets))
}

/// Ends a waiting message whose condition holds, with its leaf.
pub(super) fn end(
    connection: &Writing<'_>,
    tenant: &TenantId,
    id: MessageId,
    status: WalletStatus,
    at: Timestamp,
) -> Result<(), Fault> {
    let sql = r"-- end_not_wanted
        UPDATE message
        SET status = 'cancelled', reason = :reason, due_at = NULL, expires_at = NULL, ended_at = :at
        WHERE id = :id AND status IN ('queued', 'deferred')";
    let params = named_params! { ":id": id.as_bytes(), ":reason": Reason::WalletStatus.as_str(), ":at": millis(at) };
    if connection.prepare_cached(sql)?.execute(params)? != 1 {
        return Err(Fault::Corrupt { table: "message", column: "status", id: id.to_string() });
    }
    audit::append(connection, &not_wanted(at, tenant, id, status))
}
