//! Operators' verbs, one message or a batch of them, and the figures operators ask for.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, named_params};

use super::SqliteStore;
use super::accept::millis;
use super::attempts::{in_flight, tell_unreadable};
use super::audit;
use super::fault::{Cells, Fault};
use super::lists::{Look, Page};
use super::messages::{message, places};
use super::writer::Writing;
use crate::domain::audit::{said_relayed, steered};
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::lane::Lane;
use crate::domain::message::{Reason, Status};
use crate::domain::verb::{Becomes, Facts, Kept, Refused, becomes};
use crate::store::{Batch, MessageFilter, Order, OrderToMany, StandingCount, Steered, StoreError};

fn steer(connection: &Writing<'_>, tenant: &TenantId, id: MessageId, order: &Order) -> Result<Steered, Fault> {
    let Some(Found { facts, .. }) = facts(connection, tenant, id, order.at)? else { return Ok(Steered::NoMessage) };
    if let Err(why) = apply(connection, tenant, id, (order, Reason::Operator), &facts)? {
        return Ok(Steered::Refused { why, status: facts.status });
    }
    let view = message(connection, tenant, id)?;
    Ok(view.map_or(Steered::NoMessage, |view| Steered::Done(Box::new(view))))
}

/// What the rule must know, and what a filter may ask for besides.
pub(super) struct Found {
    pub(super) facts: Facts,
    reason: Option<Reason>,
}

pub(super) fn facts(
    connection: &Connection,
    tenant: &TenantId,
    id: MessageId,
    at: Timestamp,
) -> Result<Option<Found>, Fault> {
    let sql = r"-- facts
        SELECT id, status, reason, due_at, deliver_by, may_have_been_sent,
            EXISTS (SELECT 1 FROM dedupe WHERE dedupe.tenant = message.tenant AND dedupe.fact = message.fact
                AND dedupe.message <> message.id
                AND (dedupe.expires_at IS NULL OR dedupe.expires_at > :at)) AS fact_taken,
            EXISTS (SELECT 1 FROM content WHERE content.message = message.id) AS has_content
        FROM message WHERE id = :id AND tenant = :tenant";
    let mut statement = connection.prepare_cached(sql)?;
    let params = named_params! { ":id": id.as_bytes(), ":tenant": tenant.as_str(), ":at": millis(at) };
    let mut rows = statement.query(params)?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let cells = Cells::new(row, "message");
    let facts = Facts {
        status: cells.word("status")?,
        in_flight: in_flight(connection, id)?,
        may_have_been_sent: cells.plain("may_have_been_sent")?,
        due_at: cells.time_or_none("due_at")?,
        deliver_by: cells.time("deliver_by")?,
        fact_taken: cells.plain("fact_taken")?,
        content: if cells.plain("has_content")? { Kept::Here } else { Kept::Gone },
    };
    Ok(Some(Found { facts, reason: cells.word_or_none("reason")? }))
}

/// Writes what a message becomes and for what reason, with its leaf; or says why it stays as it is.
pub(super) fn apply(
    connection: &Writing<'_>,
    tenant: &TenantId,
    id: MessageId,
    (order, reason): (&Order, Reason),
    facts: &Facts,
) -> Result<Result<(), Refused>, Fault> {
    let becomes = match becomes(order.verb, facts, order.at) {
        Ok(becomes) => becomes,
        Err(why) => return Ok(Err(why)),
    };
    let Becomes { status, due_at, deliver_by, expires_at, ended_at, resent } = becomes;
    let sql = r"-- steer
        UPDATE message
        SET status = :status, reason = :reason, due_at = :due_at, deliver_by = :deliver_by, expires_at = :expires_at,
            ended_at = :ended_at, resent = max(resent, :resent)
        WHERE id = :id AND tenant = :tenant AND status = :from";
    let changed = connection.prepare_cached(sql)?.execute(named_params! {
        ":id": id.as_bytes(),
        ":tenant": tenant.as_str(),
        ":from": facts.status.as_str(),
        ":status": status.as_str(),
        ":reason": reason.as_str(),
        ":due_at": due_at.map(millis),
        ":deliver_by": millis(deliver_by),
        ":expires_at": expires_at.map(millis),
        ":ended_at": ended_at.map(millis),
        ":resent": resent,
    })?;
    if changed != 1 {
        return Err(Fault::Corrupt { table: "message", column: "status", id: id.to_string() });
    }
    let Order { verb, at, actor, because } = order;
    let leaf = steered(*at, tenant, id, actor.clone(), *verb, facts.status, because.as_ref());
    audit::append(connection, &leaf.with("reason", reason.as_str()))?;
    if status == Status::Relayed {
        audit::append(connection, &said_relayed(*at, tenant, id, actor.clone()))?;
    }
    Ok(Ok(()))
}

impl SqliteStore {
    /// Does a verb with one message.
    pub(super) async fn steer_one(&self, tenant: TenantId, id: MessageId, order: Order) -> Result<Steered, StoreError> {
        let work = move |connection: &Writing<'_>| steer(connection, &tenant, id, &order);
        let steered = self.write("steering a message", work).await?;
        if matches!(&steered, Steered::Done(message) if message.status != Status::Queued) {
            // There may be no first attempt now, which would have taken it away.
            self.shelf.take(id);
        }
        Ok(steered)
    }

    /// Does a verb with the next messages of a filter.
    pub(super) async fn steer_batch(&self, many: OrderToMany) -> Result<Batch, StoreError> {
        // Found outside the transaction: nobody waits for a look at a million rows.
        let look = self.look();
        let find = move |connection: &Connection| Ok((matching(connection, &many, look)?, many));
        let (Page { found, next }, many) = self.list("finding messages to steer", find).await?;
        let ids: Vec<_> = found.into_iter().flatten().collect();
        if ids.is_empty() {
            return Ok(Batch { next, ..Batch::default() });
        }
        for id in &ids {
            // There may be no first attempt now, which would have taken it away; one that comes first reads its rows.
            self.shelf.take(*id);
        }
        let work = move |connection: &Writing<'_>| steer_found(connection, &many, &ids);
        let batch = self.write("steering messages", work).await?;
        Ok(Batch { next, ..batch })
    }
}

/// The next messages of a filter, newest first: those in a state in which the verb can be done, and `None` for others.
fn matching(connection: &Connection, many: &OrderToMany, look: Look) -> Result<Page<Option<MessageId>>, Fault> {
    let OrderToMany { tenant, filter, order } = many;
    let suits = |status| order.verb.applies_to(status);
    let read = |cells: &Cells<'_>| {
        let id = cells.message_id("id")?;
        // A state that cannot be read suits no verb.
        Ok(cells.word::<Status>("status").is_ok_and(suits).then_some(id))
    };
    places(connection, (tenant, filter), &suits, look, &read)
}

/// Does a verb with messages found before this transaction, if they still are what the filter asked for.
fn steer_found(connection: &Writing<'_>, many: &OrderToMany, ids: &[MessageId]) -> Result<Batch, Fault> {
    let OrderToMany { tenant, filter, order } = many;
    let mut batch = Batch::default();
    for id in ids {
        let found = match facts(connection, tenant, *id, order.at) {
            Ok(Some(found)) if still_matches(&found, filter) => found,
            Ok(_) => continue,
            Err(fault) => {
                tell_unreadable(fault)?;
                batch.refused += 1;
                continue;
            }
        };
        match apply(connection, tenant, *id, (order, Reason::Operator), &found.facts)? {
            Ok(()) => batch.done += 1,
            Err(Refused::InFlight) => batch.in_flight += 1,
            Err(
                Refused::DeadlineNeeded
                | Refused::FactTaken
                | Refused::ContentGone
                | Refused::NotInDoubt
                | Refused::WrongState,
            ) => {
                batch.refused += 1;
            }
        }
    }
    Ok(batch)
}

/// Of what a filter asks for, state and reason are all that changes.
fn still_matches(found: &Found, filter: &MessageFilter) -> bool {
    filter.status.is_none_or(|status| status == found.facts.status)
        && filter.reason.is_none_or(|reason| Some(reason) == found.reason)
}

/// Tenants that have messages. A loose index scan: one seek for each.
pub(super) fn tenants(connection: &Connection) -> Result<Vec<TenantId>, Fault> {
    let sql = r"-- tenants
        SELECT id, tenant FROM message INDEXED BY message_by_standing WHERE tenant > :after ORDER BY tenant LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let (mut after, mut tenants) = (String::new(), Vec::new());
    loop {
        let mut rows = statement.query(named_params! { ":after": after })?;
        let Some(row) = rows.next()? else { return Ok(tenants) };
        let cells = Cells::new(row, "message");
        match cells.word("tenant") {
            Ok(tenant) => tenants.push(tenant),
            Err(fault) => tell_unreadable(fault)?,
        }
        after = cells.plain("tenant")?;
    }
}

/// How many messages of a tenant stand where.
pub(super) fn standings(connection: &Connection, tenant: &TenantId) -> Result<Vec<StandingCount>, Fault> {
    let mut counts = Vec::new();
    for lane in Lane::ALL {
        for status in Status::ALL {
            if status == Status::Held {
                held_by_reason(connection, tenant, lane, &mut counts)?;
            } else {
                counts.extend(standing(connection, tenant, lane, status)?);
            }
        }
    }
    Ok(counts)
}

fn standing(
    connection: &Connection,
    tenant: &TenantId,
    lane: Lane,
    status: Status,
) -> Result<Option<StandingCount>, Fault> {
    let sql = r"-- standing_count
        SELECT count(*) AS messages, min(accepted_at) AS accepted_at FROM message INDEXED BY message_by_standing
        WHERE tenant = :tenant AND lane = :lane AND status = :status";
    let mut statement = connection.prepare_cached(sql)?;
    let params = named_params! { ":tenant": tenant.as_str(), ":lane": lane.as_str(), ":status": status.as_str() };
    let counted = statement
        .query_row(params, |row| {
            let cells = Cells::new(row, "message");
            Ok((row.get::<_, u32>("messages")?, cells.time_or_none("accepted_at")))
        })
        .optional()?;
    let Some((messages, oldest)) = counted else { return Ok(None) };
    let messages = u64::from(messages);
    let count = |oldest_accepted_at| StandingCount { lane, status, reason: None, messages, oldest_accepted_at };
    Ok(oldest?.map(count))
}

fn held_by_reason(
    connection: &Connection,
    tenant: &TenantId,
    lane: Lane,
    counts: &mut Vec<StandingCount>,
) -> Result<(), Fault> {
    let sql = r"-- held_by_reason
        SELECT id, reason, accepted_at FROM message INDEXED BY message_by_standing
        WHERE tenant = :tenant AND lane = :lane AND status = 'held'
        ORDER BY accepted_at, id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":tenant": tenant.as_str(), ":lane": lane.as_str() })?;
    let mut by_reason: BTreeMap<Option<&'static str>, StandingCount> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "message");
        let read = || Ok((cells.word_or_none::<Reason>("reason")?, cells.time("accepted_at")?));
        let (reason, oldest_accepted_at): (Option<Reason>, Timestamp) = match read() {
            Ok(read) => read,
            Err(fault) => {
                tell_unreadable(fault)?;
                continue;
            }
        };
        let first = StandingCount { lane, status: Status::Held, reason, messages: 0, oldest_accepted_at };
        by_reason.entry(reason.map(Reason::as_str)).or_insert(first).messages += 1;
    }
    counts.extend(by_reason.into_values());
    Ok(())
}
