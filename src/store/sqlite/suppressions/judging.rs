//! Whether somebody may be mailed: asked at each acceptance and each commit point.

use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use crate::domain::address::EmailAddress;
use crate::domain::ids::{JourneyName, TenantId};
use crate::domain::message::Reason;
use crate::domain::suppression::{self, Source, SuppressionScope};
use crate::store::sqlite::accept::hmac;
use crate::store::sqlite::fault::{Cells, Fault};
use crate::store::sqlite::writer::Writing;

/// Why a mail of this journey, or of none, is not sent to this recipient at this moment; `None`: it is. Costs a look-up,
/// and none where the tenant has no suppressions (but for one in each transaction).
pub(in crate::store::sqlite) fn judge(
    connection: &Writing<'_>,
    secret: &[u8; 32],
    tenant: &TenantId,
    address: &EmailAddress,
    journey: Option<&JourneyName>,
    at: Timestamp,
) -> Result<Option<Reason>, Fault> {
    judge_normalized(connection, secret, tenant, &address.normalized(), journey, at)
}

/// The same of an address that is normalised.
pub(in crate::store::sqlite) fn judge_normalized(
    connection: &Writing<'_>,
    secret: &[u8; 32],
    tenant: &TenantId,
    address: &str,
    journey: Option<&JourneyName>,
    at: Timestamp,
) -> Result<Option<Reason>, Fault> {
    if !may_suppress(connection, tenant)? {
        return Ok(None);
    }
    stands(connection, tenant, &lookup(secret, tenant, address), journey, at)
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
pub(in crate::store::sqlite) fn judged_at(
    connection: &Connection,
    secret: &[u8; 32],
    tenant: &TenantId,
    address: &str,
    journey: Option<&JourneyName>,
    at: Timestamp,
) -> Result<Option<Reason>, Fault> {
    stands(connection, tenant, &lookup(secret, tenant, address), journey, at)
}

/// What stands at this moment against a mail to whom this look-up finds.
fn stands(
    connection: &Connection,
    tenant: &TenantId,
    lookup: &[u8; 32],
    journey: Option<&JourneyName>,
    at: Timestamp,
) -> Result<Option<Reason>, Fault> {
    let mut said = said(connection, tenant, lookup)?;
    // The sweep comes a little later: what is over stops nothing until then.
    said.retain(|said| said.expires_at.is_none_or(|expires_at| expires_at > at));
    Ok(suppression::judge(said.iter().map(|said| (&said.scope, said.source)), journey))
}

/// What was said of a recipient.
pub(super) struct Said {
    pub(super) scope: SuppressionScope,
    pub(super) source: Source,
    /// The link by which they said it.
    pub(super) token: Option<Vec<u8>>,
    /// Until when it stands; `None`: for good.
    pub(super) expires_at: Option<Timestamp>,
}

/// All that was said of a recipient and is kept.
pub(super) fn said(connection: &Connection, tenant: &TenantId, lookup: &[u8]) -> Result<Vec<Said>, Fault> {
    let sql = r"-- suppressions_of_recipient
        SELECT scope, source, token, expires_at FROM suppression WHERE tenant = :tenant AND lookup = :lookup";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":tenant": tenant.as_str(), ":lookup": lookup })?;
    let mut said = Vec::new();
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "suppression");
        said.push(Said {
            scope: cells.word("scope")?,
            source: cells.word("source")?,
            token: cells.plain("token")?,
            expires_at: cells.time_or_none("expires_at")?,
        });
    }
    Ok(said)
}

/// How a person is found without their address: as `accept::subject_lookup`.
pub(in crate::store::sqlite) fn lookup(secret: &[u8; 32], tenant: &TenantId, normalized: &str) -> [u8; 32] {
    hmac(secret, &[tenant.as_str().as_bytes(), b"|", normalized.as_bytes()])
}
