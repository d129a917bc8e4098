//! Whether somebody may be mailed: asked at each acceptance and each commit point.

use rusqlite::{Connection, named_params};

use crate::domain::address::EmailAddress;
use crate::domain::ids::{JourneyName, TenantId};
use crate::domain::message::Reason;
use crate::domain::suppression::{self, Source, SuppressionScope};
use crate::store::sqlite::accept::hmac;
use crate::store::sqlite::fault::{Cells, Fault};
use crate::store::sqlite::writer::Writing;

/// Why a mail of this journey, or of none, is not sent to this recipient; `None`: it is. Costs a look-up, and none where
/// the tenant has no suppressions (but for one in each transaction).
pub(in crate::store::sqlite) fn judge(
    connection: &Writing<'_>,
    secret: &[u8; 32],
    tenant: &TenantId,
    address: &EmailAddress,
    journey: Option<&JourneyName>,
) -> Result<Option<Reason>, Fault> {
    judge_normalized(connection, secret, tenant, &address.normalized(), journey)
}

/// The same of an address that is normalised.
pub(in crate::store::sqlite) fn judge_normalized(
    connection: &Writing<'_>,
    secret: &[u8; 32],
    tenant: &TenantId,
    address: &str,
    journey: Option<&JourneyName>,
) -> Result<Option<Reason>, Fault> {
    if !may_suppress(connection, tenant)? {
        return Ok(None);
    }
    stands(connection, tenant, &lookup(secret, tenant, address), journey)
}

/// Whether the tenant may have suppressions; looked up once in a transaction.
fn may_suppress(connection: &Writing<'_>, tenant: &TenantId) -> Result<bool, Fault> {
    if let Some(known) = connection.suppresses.borrow().get(tenant) {
        return Ok(*known);
    }
    let sql = r"-- suppresses_anybody
        SELECT 1 FROM suppression WHERE tenant = :tenant";
    let any = connection.prepare_cached(sql)?.exists(named_params! { ":tenant": tenant.as_str() })?;
    connection.suppresses.borrow_mut().insert(tenant.clone(), any);
    Ok(any)
}

/// The same for those who only ask, beside the writer.
pub(in crate::store::sqlite) fn judged_now(
    connection: &Connection,
    secret: &[u8; 32],
    tenant: &TenantId,
    address: &str,
    journey: Option<&JourneyName>,
) -> Result<Option<Reason>, Fault> {
    stands(connection, tenant, &lookup(secret, tenant, address), journey)
}

/// What stands against a mail to whom this look-up finds.
fn stands(
    connection: &Connection,
    tenant: &TenantId,
    lookup: &[u8; 32],
    journey: Option<&JourneyName>,
) -> Result<Option<Reason>, Fault> {
    let said = said(connection, tenant, lookup)?;
    Ok(suppression::judge(said.iter().map(|said| (&said.scope, said.source)), journey))
}

/// What was said of a recipient.
pub(super) struct Said {
    pub(super) scope: SuppressionScope,
    pub(super) source: Source,
    /// The link by which they said it.
    pub(super) token: Option<Vec<u8>>,
}

/// All that was said of a recipient and stands.
pub(super) fn said(connection: &Connection, tenant: &TenantId, lookup: &[u8]) -> Result<Vec<Said>, Fault> {
    let sql = r"-- suppressions_of_recipient
        SELECT scope, source, token FROM suppression WHERE tenant = :tenant AND lookup = :lookup";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":tenant": tenant.as_str(), ":lookup": lookup })?;
    let mut said = Vec::new();
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "suppression");
        said.push(Said { scope: cells.word("scope")?, source: cells.word("source")?, token: cells.plain("token")? });
    }
    Ok(said)
}

/// How a person is found without their address: as `accept::subject_lookup`.
pub(in crate::store::sqlite) fn lookup(secret: &[u8; 32], tenant: &TenantId, normalized: &str) -> [u8; 32] {
    hmac(secret, &[tenant.as_str().as_bytes(), b"|", normalized.as_bytes()])
}
