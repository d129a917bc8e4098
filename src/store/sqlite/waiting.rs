//! What waits to be sent: whose, for which domains, and who has claimed it.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, named_params};

use super::accept::millis;
use super::attempts::tell_unreadable;
use super::fault::{Cells, Fault};
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::lane::Lane;
use crate::domain::message::Candidate;
use crate::store::{ClaimRequest, DueDomains, DueDomainsPage};

/// Domains looked at for one page at most, due or not: a few milliseconds.
const DOMAINS_WALKED_MAX: usize = 2_000;
/// Rows read before the claims are asked which of them are free.
const CLAIM_STEP: usize = 256;

/// Domains with due messages. A loose index scan: one seek for each domain, however many messages wait for it.
pub(super) fn due_domains(connection: &Connection, page: &DueDomains) -> Result<DueDomainsPage, Fault> {
    let sql = r"-- due_domains
        SELECT domain, due_at <= :now AS due
        FROM message INDEXED BY message_due
        WHERE lane = :lane AND tenant = :tenant AND domain > :after AND status IN ('queued', 'deferred')
            AND due_at IS NOT NULL
        ORDER BY domain, due_at LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut domains = Vec::new();
    let mut after = page.after.clone().unwrap_or_default();
    for _ in 0..DOMAINS_WALKED_MAX {
        if domains.len() >= page.limit {
            break;
        }
        let params = named_params! {
            ":now": millis(page.now), ":lane": page.lane.as_str(), ":tenant": page.tenant.as_str(), ":after": after,
        };
        let next = statement.query_row(params, |row| Ok((row.get("domain")?, row.get("due")?))).optional()?;
        let Some((domain, due)) = next else { return Ok(DueDomainsPage { domains, next: None }) };
        after = domain;
        if due {
            domains.push(after.clone());
        }
    }
    Ok(DueDomainsPage { domains, next: Some(after) })
}

/// Tenants with messages that wait in this lane. A loose index scan: one seek for each.
pub(super) fn waiting_tenants(
    connection: &Connection,
    lane: Lane,
    after: Option<&TenantId>,
    limit: usize,
) -> Result<Vec<TenantId>, Fault> {
    let sql = r"-- waiting_tenants
        SELECT id, tenant FROM message INDEXED BY message_due
        WHERE lane = :lane AND tenant > :after AND status IN ('queued', 'deferred')
        ORDER BY tenant LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut after = after.map(|tenant| tenant.as_str().to_owned()).unwrap_or_default();
    let mut tenants = Vec::new();
    while tenants.len() < limit {
        let mut rows = statement.query(named_params! { ":lane": lane.as_str(), ":after": after })?;
        let Some(row) = rows.next()? else { break };
        let cells = Cells::new(row, "message");
        match cells.word("tenant") {
            Ok(tenant) => tenants.push(tenant),
            Err(fault) => tell_unreadable(fault)?,
        }
        after = cells.plain("tenant")?;
    }
    Ok(tenants)
}

/// What a claim found: candidates, now in the claimed set, and rows that cannot be read.
#[derive(Default)]
pub(super) struct Claimed {
    pub(super) candidates: Vec<Candidate>,
    pub(super) unreadable: Vec<MessageId>,
}

/// Claims due messages.
///
/// The set is locked only while identifiers go in or out, never while rows are read: whoever gives back must not wait
/// for a disk. What was read before the lock may be older than a give-back, so a row is read again once its message is
/// claimed and nobody else can be trying it.
pub(super) fn claim(
    connection: &Connection,
    claims: &Mutex<HashSet<MessageId>>,
    request: &ClaimRequest,
) -> Result<Claimed, Fault> {
    let mut found = Claimed::default();
    for (domain, limit) in &request.domains {
        if let Err(fault) = claim_domain(connection, claims, request, (domain, *limit), &mut found) {
            let mut claims = locked(claims);
            for candidate in &found.candidates {
                claims.remove(&candidate.id);
            }
            return Err(fault);
        }
    }
    Ok(found)
}

fn locked(claims: &Mutex<HashSet<MessageId>>) -> MutexGuard<'_, HashSet<MessageId>> {
    claims.lock().unwrap_or_else(PoisonError::into_inner)
}

fn claim_domain(
    connection: &Connection,
    claims: &Mutex<HashSet<MessageId>>,
    request: &ClaimRequest,
    (domain, limit): (&str, usize),
    found: &mut Claimed,
) -> Result<(), Fault> {
    let full = found.candidates.len().saturating_add(limit);
    let mut after = (i64::MIN, Vec::new());
    loop {
        let step = due_after(connection, request, domain, &after)?;
        for (_, id) in &step {
            if found.candidates.len() >= full {
                return Ok(());
            }
            let Some(id) = MessageId::from_slice(id) else { continue };
            if !locked(claims).insert(id) {
                continue;
            }
            let read = still_due(connection, request, domain, id);
            if let Ok(Some(candidate)) = read {
                found.candidates.push(candidate);
                continue;
            }
            locked(claims).remove(&id);
            if let Err(fault) = read {
                tell_unreadable(fault)?;
                found.unreadable.push(id);
            }
        }
        match step.into_iter().nth(CLAIM_STEP - 1) {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}

/// The next due rows of a domain behind `after`, by time and identifier.
fn due_after(
    connection: &Connection,
    request: &ClaimRequest,
    domain: &str,
    after: &(i64, Vec<u8>),
) -> Result<Vec<(i64, Vec<u8>)>, Fault> {
    let sql = r"-- claim
        SELECT due_at, id
        FROM message INDEXED BY message_due
        WHERE lane = :lane AND tenant = :tenant AND domain = :domain AND status IN ('queued', 'deferred')
            AND due_at <= :now AND deliver_by > :now AND (due_at, id) > (:after_due_at, :after_id)
        ORDER BY due_at, id LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let params = named_params! {
        ":lane": request.lane.as_str(),
        ":tenant": request.tenant.as_str(),
        ":domain": domain,
        ":now": millis(request.now),
        ":after_due_at": after.0,
        ":after_id": after.1,
        ":limit": i64::try_from(CLAIM_STEP).unwrap_or(i64::MAX),
    };
    let rows = statement.query_map(params, |row| Ok((row.get("due_at")?, row.get("id")?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The message, if it may still be tried: read anew, now that it is claimed.
fn still_due(
    connection: &Connection,
    request: &ClaimRequest,
    domain: &str,
    id: MessageId,
) -> Result<Option<Candidate>, Fault> {
    let sql = r"-- still_due
        SELECT id, due_at, deliver_by FROM message
        WHERE id = :id AND status IN ('queued', 'deferred') AND due_at <= :now AND deliver_by > :now
            AND NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.message = message.id)";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":id": id.as_bytes(), ":now": millis(request.now) })?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let cells = Cells::new(row, "message");
    let (due_at, deliver_by) = (cells.time("due_at")?, cells.time("deliver_by")?);
    let (tenant, lane) = (request.tenant.clone(), request.lane);
    Ok(Some(Candidate { id, tenant, lane, domain: domain.to_owned(), due_at, deliver_by }))
}
