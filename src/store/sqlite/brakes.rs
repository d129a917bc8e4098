//! The blast brake's rows: brakes, what they hold, and what was decided about them.
//!
//! Whether a brake is on is looked at in the transaction that holds a message, so that nothing is held by a brake that
//! another process has just decided about.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use super::SqliteStore;
use super::accept::millis;
use super::attempts::{in_flight, tell_unreadable};
use super::audit;
use super::fault::{Cells, Fault};
use super::steering;
use super::streams::{keep_usual, read_stream, stream_outcomes, teach_usual, usual_of_streams};
use super::sweep::limit_of;
use super::writer::Writing;
use crate::domain::audit::Actor;
use crate::domain::audit::brakes::{brake_decided, brake_engaged, held_by_brake};
use crate::domain::brake::{Brake, Decision, Effect, Excess, NewBrake, Stream};
use crate::domain::ids::{BrakeId, MessageId, TenantId};
use crate::domain::lane::Lane;
use crate::domain::message::{Reason, Status};
use crate::domain::verb::{Because, Verb};
use crate::store::{
    BrakeDecided, BrakeOrder, BrakeStore, CarriedOut, DecidedBrake, HeldOfStream, Order, OutcomesPage, StoreError,
    StreamUsual, WaitingPlace,
};

/// Where messages wait that a brake may hold. What is tried and deferred meanwhile is met further on.
const WAITING: [(Lane, Status); 4] = [
    (Lane::Standard, Status::Queued),
    (Lane::Journey, Status::Queued),
    (Lane::Standard, Status::Deferred),
    (Lane::Journey, Status::Deferred),
];

#[async_trait]
impl BrakeStore for SqliteStore {
    async fn engage_brake(&self, brake: NewBrake) -> Result<(), StoreError> {
        self.write("engaging a brake", move |connection| engage(connection, &brake)).await
    }

    async fn open_brakes(&self, tenant: Option<TenantId>, limit: usize) -> Result<Vec<Brake>, StoreError> {
        self.list("listing brakes", move |connection| open_brakes(connection, tenant.as_ref(), limit)).await
    }

    async fn brake(&self, id: BrakeId) -> Result<Option<Brake>, StoreError> {
        self.list("reading a brake", move |connection| brake(connection, id)).await
    }

    async fn decided_brake(&self, id: BrakeId) -> Result<Option<DecidedBrake>, StoreError> {
        self.read("looking what was decided about a brake", move |connection| decided_brake(connection, id)).await
    }

    async fn hold_stream(
        &self,
        id: BrakeId,
        after: Option<WaitingPlace>,
        at: Timestamp,
        limit: usize,
    ) -> Result<HeldOfStream, StoreError> {
        // Found outside the transaction: nobody waits for a look at a long queue.
        let find = move |connection: &Connection| {
            let Some(stream) = stream_of(connection, id)? else { return Ok(None) };
            Ok(Some((walk(connection, &stream, after, limit)?, stream)))
        };
        let found = self.list("finding what a brake is to hold", find).await?;
        let Some((Walked { ids, next }, stream)) = found else { return Ok(HeldOfStream::default()) };
        if ids.is_empty() {
            return Ok(HeldOfStream { next, ..HeldOfStream::default() });
        }
        for message in &ids {
            // There may be no first attempt now, which would have taken it away.
            self.shelf.take(*message);
        }
        let work = move |connection: &Writing<'_>| hold(connection, id, &stream.tenant, &ids, at);
        let step = self.write("holding messages of a stream", work).await?;
        Ok(HeldOfStream { next, ..step })
    }

    async fn decide_brake(&self, order: BrakeOrder) -> Result<BrakeDecided, StoreError> {
        self.write("deciding about a brake", move |connection| decide(connection, &order)).await
    }

    async fn carry_out_brake(
        &self,
        id: BrakeId,
        after: Option<MessageId>,
        at: Timestamp,
        limit: usize,
    ) -> Result<CarriedOut, StoreError> {
        let work = move |connection: &Writing<'_>| carry_out(connection, id, after, at, limit);
        self.write("carrying out a decision about a brake", work).await
    }

    async fn usual_of_streams(&self, limit: usize) -> Result<Vec<StreamUsual>, StoreError> {
        self.list("reading what is usual for streams", move |connection| usual_of_streams(connection, limit)).await
    }

    async fn keep_usual(&self, streams: Vec<StreamUsual>, forget_before: Timestamp) -> Result<(), StoreError> {
        let work = move |connection: &Writing<'_>| keep_usual(connection, &streams, forget_before);
        self.write("keeping what is usual for streams", work).await
    }

    async fn stream_outcomes(&self, after: Option<u64>, limit: u32) -> Result<OutcomesPage, StoreError> {
        self.read("reading how mails ended", move |connection| stream_outcomes(connection, after, limit)).await
    }
}

// --- brakes ---

fn engage(connection: &Writing<'_>, brake: &NewBrake) -> Result<(), Fault> {
    let sql = r"-- engage_brake
        INSERT OR IGNORE INTO brake (id, tenant, api_key, template, cause, seen, allowed, holds, engaged_at)
        VALUES (:id, :tenant, :api_key, :template, :cause, :seen, :allowed, :holds, :engaged_at)";
    let NewBrake { id, stream, excess, effect, at } = brake;
    let inserted = connection.prepare_cached(sql)?.execute(named_params! {
        ":id": id.as_bytes(),
        ":tenant": stream.tenant.as_str(),
        ":api_key": stream.key.as_bytes(),
        ":template": stream.template,
        ":cause": excess.cause.as_str(),
        ":seen": excess.seen,
        ":allowed": excess.allowed,
        ":holds": *effect == Effect::Hold,
        ":engaged_at": millis(*at),
    })?;
    if inserted == 1 { audit::append(connection, &brake_engaged(brake)) } else { Ok(()) }
}

/// Whether a brake holds what is handed in now.
pub(super) fn is_on(connection: &Connection, id: BrakeId) -> Result<bool, Fault> {
    let sql = r"-- brake_is_on
        SELECT 1 FROM brake WHERE id = :id AND decision IS NULL AND holds";
    Ok(connection.prepare_cached(sql)?.exists(named_params! { ":id": id.as_bytes() })?)
}

fn open_brakes(connection: &Connection, tenant: Option<&TenantId>, limit: usize) -> Result<Vec<Brake>, Fault> {
    let sql = r"-- open_brakes
        SELECT id, tenant, api_key, template, cause, seen, allowed, holds, engaged_at, decision, decided_at, decided_by,
            because, done, finished_at,
            (SELECT count(*) FROM message INDEXED BY message_braked
                WHERE message.brake = brake.id AND message.status = 'held' AND message.reason = 'brake') AS held
        FROM brake INDEXED BY brake_open
        WHERE finished_at IS NULL AND id > x'' AND (:tenant IS NULL OR tenant = :tenant) ORDER BY id LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let params = named_params! { ":tenant": tenant.map(TenantId::as_str), ":limit": limit_of(limit) };
    let mut rows = statement.query(params)?;
    let mut brakes = Vec::new();
    while let Some(row) = rows.next()? {
        match read_brake(&Cells::new(row, "brake")) {
            Ok(brake) => brakes.push(brake),
            Err(fault) => tell_unreadable(fault)?,
        }
    }
    Ok(brakes)
}

fn brake(connection: &Connection, id: BrakeId) -> Result<Option<Brake>, Fault> {
    let sql = r"-- brake
        SELECT id, tenant, api_key, template, cause, seen, allowed, holds, engaged_at, decision, decided_at, decided_by,
            because, done, finished_at,
            (SELECT count(*) FROM message INDEXED BY message_braked
                WHERE message.brake = brake.id AND message.status = 'held' AND message.reason = 'brake') AS held
        FROM brake WHERE id = :id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":id": id.as_bytes() })?;
    let Some(row) = rows.next()? else { return Ok(None) };
    read_brake(&Cells::new(row, "brake")).map(Some)
}

/// Like [`brake`], without counting what it holds: that may be much.
fn brake_uncounted(connection: &Connection, id: BrakeId) -> Result<Option<Brake>, Fault> {
    let sql = r"-- brake_uncounted
        SELECT id, tenant, api_key, template, cause, seen, allowed, holds, engaged_at, decision, decided_at, decided_by,
            because, done, finished_at, 0 AS held
        FROM brake WHERE id = :id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":id": id.as_bytes() })?;
    let Some(row) = rows.next()? else { return Ok(None) };
    read_brake(&Cells::new(row, "brake")).map(Some)
}

fn read_brake(cells: &Cells<'_>) -> Result<Brake, Fault> {
    let count = |column| cells.plain::<u32>(column).map(u64::from);
    Ok(Brake {
        id: BrakeId::from_slice(cells.blob("id")?).ok_or_else(|| cells.corrupt("id"))?,
        stream: read_stream(cells)?,
        excess: Excess { cause: cells.word("cause")?, seen: cells.plain("seen")?, allowed: cells.plain("allowed")? },
        effect: if cells.plain("holds")? { Effect::Hold } else { Effect::Alarm },
        engaged_at: cells.time("engaged_at")?,
        decision: cells.word_or_none("decision")?,
        decided_at: cells.time_or_none("decided_at")?,
        decided_by: cells.plain("decided_by")?,
        because: cells.plain("because")?,
        held: count("held")?,
        done: count("done")?,
        finished_at: cells.time_or_none("finished_at")?,
    })
}

// --- holding ---

fn stream_of(connection: &Connection, id: BrakeId) -> Result<Option<Stream>, Fault> {
    let sql = r"-- stream_of
        SELECT id, tenant, api_key, template FROM brake WHERE id = :id AND decision IS NULL AND holds";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":id": id.as_bytes() })?;
    let Some(row) = rows.next()? else { return Ok(None) };
    read_stream(&Cells::new(row, "brake")).map(Some)
}

/// What a step of a walk found.
#[derive(Default)]
struct Walked {
    ids: Vec<MessageId>,
    next: Option<WaitingPlace>,
}

/// The next waiting messages of a stream: of its tenant's, `limit` are looked at.
fn walk(connection: &Connection, stream: &Stream, after: Option<WaitingPlace>, limit: usize) -> Result<Walked, Fault> {
    let sql = r"-- waiting_of_stream
        SELECT id, accepted_at, api_key IS :api_key AND template IS :template AS is_of_stream
        FROM message INDEXED BY message_by_standing
        WHERE tenant = :tenant AND lane = :lane AND status = :status AND (accepted_at, id) > (:accepted_at, :id)
        ORDER BY accepted_at, id LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let mut walked = Walked::default();
    let mut left = limit;
    let begun = after.and_then(|place| WAITING.iter().position(|part| *part == (place.lane, place.status)));
    for (lane, status) in WAITING.into_iter().skip(begun.unwrap_or_default()) {
        let place = after.filter(|place| (place.lane, place.status) == (lane, status));
        let (accepted_at, id) =
            place.map_or((i64::MIN, Vec::new()), |place| (millis(place.accepted_at), place.id.as_bytes().to_vec()));
        let mut rows = statement.query(named_params! {
            ":tenant": stream.tenant.as_str(),
            ":api_key": stream.key.as_bytes(),
            ":template": stream.template,
            ":lane": lane.as_str(),
            ":status": status.as_str(),
            ":accepted_at": accepted_at,
            ":id": id,
            ":limit": limit_of(left),
        })?;
        let (mut looked_at, mut last) = (0, None);
        while let Some(row) = rows.next()? {
            let cells = Cells::new(row, "message");
            looked_at += 1;
            let read = || Ok((cells.message_id("id")?, cells.time("accepted_at")?, cells.plain("is_of_stream")?));
            let (id, accepted_at, is_of_stream): (MessageId, Timestamp, bool) = match read() {
                Ok(read) => read,
                // It keeps nobody else back: delivery holds it, too.
                Err(fault) => {
                    tell_unreadable(fault)?;
                    continue;
                }
            };
            last = Some(WaitingPlace { lane, status, accepted_at, id });
            if is_of_stream {
                walked.ids.push(id);
            }
        }
        left -= looked_at;
        if left == 0 && last.is_some() {
            walked.next = last;
            return Ok(walked);
        }
        // A step of unreadable rows alone ends its part.
        left = left.max(1);
    }
    Ok(walked)
}

/// Like an operator's hold: the time it had is kept for its release, and the deadline goes on, unless it may have been
/// sent. What an operator has released from this brake stays so.
fn hold(
    connection: &Writing<'_>,
    brake: BrakeId,
    tenant: &TenantId,
    ids: &[MessageId],
    at: Timestamp,
) -> Result<HeldOfStream, Fault> {
    let sql = r"-- hold_by_brake
        UPDATE message SET status = 'held', reason = 'brake', brake = :brake,
            expires_at = CASE WHEN may_have_been_sent THEN NULL ELSE expires_at END
        WHERE id = :id AND status IN ('queued', 'deferred') AND brake IS NOT :brake";
    let mut step = HeldOfStream::default();
    if !is_on(connection, brake)? {
        return Ok(step);
    }
    for id in ids {
        if in_flight(connection, *id)? {
            step.in_flight += 1;
            continue;
        }
        let params = named_params! { ":id": id.as_bytes(), ":brake": brake.as_bytes() };
        if connection.prepare_cached(sql)?.execute(params)? == 1 {
            audit::append(connection, &held_by_brake(at, tenant, *id, brake))?;
            step.held += 1;
        }
    }
    Ok(step)
}

// --- deciding ---

fn decide(connection: &Writing<'_>, order: &BrakeOrder) -> Result<BrakeDecided, Fault> {
    let found = brake_uncounted(connection, order.id)?;
    let ours = found.filter(|brake| order.tenant.as_ref().is_none_or(|tenant| *tenant == brake.stream.tenant));
    let Some(found) = ours else { return Ok(BrakeDecided::NoBrake) };
    match found.decision {
        None => {}
        Some(decision) if decision == order.decision && found.finished_at.is_none() => {
            return Ok(BrakeDecided::Decided(found));
        }
        Some(_) => return Ok(BrakeDecided::WrongState(found)),
    }
    let sql = r"-- decide_brake
        UPDATE brake SET decision = :decision, decided_at = :at, decided_by = :actor, because = :because
        WHERE id = :id AND decision IS NULL";
    let BrakeOrder { id, tenant: _, decision, at, actor, because } = order;
    connection.prepare_cached(sql)?.execute(named_params! {
        ":id": id.as_bytes(),
        ":decision": decision.as_str(),
        ":at": millis(*at),
        ":actor": actor.to_string(),
        ":because": because.as_ref().map(Because::as_str),
    })?;
    if *decision == Decision::Release {
        // A gateway that runs knows better, and keeps that; one that starts later must know at least this.
        let usual = found.excess.teaches(*at);
        teach_usual(connection, &StreamUsual { stream: found.stream.clone(), usual })?;
    }
    let leaf = brake_decided(*at, &found.stream.tenant, *id, *decision, actor.clone(), because.as_ref());
    audit::append(connection, &leaf)?;
    Ok(brake_uncounted(connection, *id)?.map_or(BrakeDecided::NoBrake, BrakeDecided::Decided))
}

fn decided_brake(connection: &Connection, id: BrakeId) -> Result<Option<DecidedBrake>, Fault> {
    let sql = r"-- decided_brake
        SELECT id, decision, finished_at IS NOT NULL AS carried_out FROM brake WHERE id = :id AND decision IS NOT NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":id": id.as_bytes() })?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let cells = Cells::new(row, "brake");
    Ok(Some(DecidedBrake { decision: cells.word("decision")?, carried_out: cells.plain("carried_out")? }))
}

/// A decision, as its carrying out needs it.
struct Decided {
    tenant: TenantId,
    order: Order,
    /// Why its messages stand where they stand then. What goes on does so on an operator's word.
    reason: Reason,
}

fn decided(connection: &Connection, id: BrakeId, at: Timestamp) -> Result<Option<Decided>, Fault> {
    let sql = r"-- brake_decision
        SELECT id, tenant, decision, decided_by, because FROM brake WHERE id = :id AND decision IS NOT NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":id": id.as_bytes() })?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let cells = Cells::new(row, "brake");
    let (verb, reason) = match cells.word("decision")? {
        Decision::Release => (Verb::Release, Reason::Operator),
        Decision::Cancel => (Verb::Cancel, Reason::Brake),
    };
    let actor: String = cells.plain("decided_by")?;
    let actor = Actor::read(&actor).ok_or_else(|| cells.corrupt("decided_by"))?;
    let order = Order { verb, at, actor, because: cells.word_or_none("because")? };
    Ok(Some(Decided { tenant: cells.word("tenant")?, order, reason }))
}

fn carry_out(
    connection: &Writing<'_>,
    id: BrakeId,
    after: Option<MessageId>,
    at: Timestamp,
    limit: usize,
) -> Result<CarriedOut, Fault> {
    let Some(Decided { tenant, order, reason }) = decided(connection, id, at)? else {
        return Ok(CarriedOut::default());
    };
    let ids = held_by(connection, id, after, limit)?;
    let mut done = 0_u32;
    for message in &ids {
        match steering::facts(connection, &tenant, *message, at) {
            Ok(Some(found)) => {
                let applied = steering::apply(connection, &tenant, *message, (&order, reason), &found.facts)?;
                done += u32::from(applied.is_ok());
            }
            Ok(None) => {}
            Err(fault) => tell_unreadable(fault)?,
        }
    }
    let next = ids.last().copied().filter(|_| ids.len() == limit);
    let sql = r"-- carry_out_brake
        UPDATE brake SET done = done + :done,
            finished_at = CASE WHEN :more THEN finished_at ELSE coalesce(finished_at, :at) END
        WHERE id = :id";
    let params = named_params! { ":id": id.as_bytes(), ":done": done, ":more": next.is_some(), ":at": millis(at) };
    connection.prepare_cached(sql)?.execute(params)?;
    Ok(CarriedOut { done: u64::from(done), next })
}

/// The next messages that a brake holds.
fn held_by(
    connection: &Connection,
    id: BrakeId,
    after: Option<MessageId>,
    limit: usize,
) -> Result<Vec<MessageId>, Fault> {
    let sql = r"-- held_by_brake
        SELECT id FROM message INDEXED BY message_braked
        WHERE brake = :brake AND status = 'held' AND reason = 'brake' AND id > :after ORDER BY id LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let after = after.map_or_else(Vec::new, |after| after.as_bytes().to_vec());
    let params = named_params! { ":brake": id.as_bytes(), ":after": after, ":limit": limit_of(limit) };
    let mut rows = statement.query(params)?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next()? {
        ids.push(Cells::new(row, "message").message_id("id")?);
    }
    Ok(ids)
}
