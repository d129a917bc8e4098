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

/// Live messages: those that a deadline can still end, and those that nobody knows of.
pub(super) fn live(connection: &Connection) -> Result<u64, Fault> {
    let sql = r"-- live
        SELECT (SELECT count(*) FROM message INDEXED BY message_expires WHERE expires_at > :ever)
            + (SELECT count(*) FROM message INDEXED BY message_unknown WHERE status = 'unknown' AND due_at > :ever)";
    let count: i64 =
        connection.prepare_cached(sql)?.query_row(named_params! { ":ever": i64::MIN }, |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// What a claim found: candidates, now in the claimed set, and rows that cannot be read.
#[derive(Default)]
pub(super) struct Claimed {
    pub(super) candidates: Vec<Candidate>,
    pub(super) unreadable: Vec<MessageId>,
}

/// Who has claimed what, in memory.
///
/// Rows are read without a lock: whoever gives back must not wait for a disk. A message that was given back while a
/// claim was reading may have been tried since its row was read, so that claim leaves it to the next one.
#[derive(Default)]
pub(super) struct Claims {
    held: HashSet<MessageId>,
    /// Claims that are reading now.
    reading: usize,
    /// Given back since the first of them began.
    given_back: HashSet<MessageId>,
}

impl Claims {
    /// Gives claims back; unknown ones are ignored.
    pub(super) fn give_back(&mut self, ids: &[MessageId]) {
        for id in ids {
            if self.held.remove(id) && self.reading > 0 {
                self.given_back.insert(*id);
            }
        }
    }

    fn take(&mut self, id: MessageId) -> bool {
        !self.given_back.contains(&id) && self.held.insert(id)
    }

    fn end_reading(&mut self) {
        self.reading -= 1;
        if self.reading == 0 {
            self.given_back.clear();
        }
    }
}

/// A claim that is reading. Unless it comes to its end, it gives back what it took, also when it panics: a claim that
/// read for ever would keep all that is given back from every later one.
struct Claiming<'c> {
    claims: &'c Mutex<Claims>,
    found: Claimed,
}

impl<'c> Claiming<'c> {
    fn begin(claims: &'c Mutex<Claims>) -> Self {
        locked(claims).reading += 1;
        Self { claims, found: Claimed::default() }
    }

    /// What was taken stays claimed.
    fn end(mut self) -> Claimed {
        std::mem::take(&mut self.found)
    }
}

impl Drop for Claiming<'_> {
    fn drop(&mut self) {
        let ids: Vec<MessageId> = self.found.candidates.iter().map(|candidate| candidate.id).collect();
        let mut claims = locked(self.claims);
        claims.give_back(&ids);
        claims.end_reading();
    }
}

/// Claims due messages. On a fault nothing stays claimed.
pub(super) fn claim(connection: &Connection, claims: &Mutex<Claims>, request: &ClaimRequest) -> Result<Claimed, Fault> {
    let mut claiming = Claiming::begin(claims);
    for (domain, limit) in &request.domains {
        claim_domain(connection, claims, request, (domain, *limit), &mut claiming.found)?;
    }
    Ok(claiming.end())
}

pub(super) fn locked(claims: &Mutex<Claims>) -> MutexGuard<'_, Claims> {
    claims.lock().unwrap_or_else(PoisonError::into_inner)
}

fn claim_domain(
    connection: &Connection,
    claims: &Mutex<Claims>,
    request: &ClaimRequest,
    (domain, limit): (&str, usize),
    found: &mut Claimed,
) -> Result<(), Fault> {
    let full = found.candidates.len().saturating_add(limit);
    let mut after = (i64::MIN, Vec::new());
    loop {
        let step = due_after(connection, request, domain, &after, found)?;
        let mut claims = locked(claims);
        for candidate in step.candidates {
            if found.candidates.len() >= full {
                return Ok(());
            }
            if claims.take(candidate.id) {
                found.candidates.push(candidate);
            }
        }
        match step.next {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

/// Some due rows of a domain, and where the next ones begin.
struct Step {
    candidates: Vec<Candidate>,
    next: Option<(i64, Vec<u8>)>,
}

/// The next due rows of a domain behind `after`, by time and identifier; those that cannot be read go to `found`.
fn due_after(
    connection: &Connection,
    request: &ClaimRequest,
    domain: &str,
    after: &(i64, Vec<u8>),
    found: &mut Claimed,
) -> Result<Step, Fault> {
    let sql = r"-- claim
        SELECT due_at, id, deliver_by
        FROM message INDEXED BY message_due
        WHERE lane = :lane AND tenant = :tenant AND domain = :domain AND status IN ('queued', 'deferred')
            AND due_at <= :now AND deliver_by > :now AND (due_at, id) > (:after_due_at, :after_id)
            AND NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.message = message.id)
        ORDER BY due_at, id LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! {
        ":lane": request.lane.as_str(),
        ":tenant": request.tenant.as_str(),
        ":domain": domain,
        ":now": millis(request.now),
        ":after_due_at": after.0,
        ":after_id": after.1,
        ":limit": i64::try_from(CLAIM_STEP).unwrap_or(i64::MAX),
    })?;
    let (mut candidates, mut read, mut last) = (Vec::new(), 0, None);
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "message");
        (read, last) = (read + 1, Some((row.get("due_at")?, row.get("id")?)));
        let candidate = || {
            let (id, due_at, deliver_by) = (cells.message_id("id")?, cells.time("due_at")?, cells.time("deliver_by")?);
            let (tenant, lane) = (request.tenant.clone(), request.lane);
            Ok(Candidate { id, tenant, lane, domain: domain.to_owned(), due_at, deliver_by })
        };
        match candidate() {
            Ok(candidate) => candidates.push(candidate),
            Err(fault) => {
                tell_unreadable(fault)?;
                found.unreadable.extend(cells.message_id("id"));
            }
        }
    }
    Ok(Step { candidates, next: last.filter(|_| read == CLAIM_STEP) })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use jiff::Timestamp;

    use super::*;

    fn candidate(number: u128) -> Candidate {
        Candidate {
            id: MessageId::from_uuid(uuid::Uuid::from_u128(number)),
            tenant: "demo".parse().unwrap(),
            lane: Lane::Standard,
            domain: "example.com".to_owned(),
            due_at: Timestamp::UNIX_EPOCH,
            deliver_by: Timestamp::MAX,
        }
    }

    #[test]
    fn what_was_given_back_while_a_claim_was_reading_is_left_to_the_next_one() {
        let (claims, id) = (Mutex::new(Claims::default()), candidate(1).id);
        assert!(locked(&claims).take(id));
        let (first, second) = (Claiming::begin(&claims), Claiming::begin(&claims));
        // Tried and settled since the row was read, for all these claims know.
        locked(&claims).give_back(&[id]);
        assert!(!locked(&claims).take(id));
        first.end();
        assert!(!locked(&claims).take(id), "the second may have read the same row");
        second.end();
        assert!(locked(&claims).take(id));
    }

    #[test]
    fn a_claim_that_does_not_come_to_its_end_keeps_nothing_and_nobody() {
        let (claims, id) = (Mutex::new(Claims::default()), candidate(1).id);
        let mut unfinished = Claiming::begin(&claims);
        assert!(locked(&claims).take(id));
        unfinished.found.candidates.push(candidate(1));
        drop(unfinished);
        assert!(locked(&claims).take(id));
    }
}
