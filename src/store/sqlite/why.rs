//! What an operator asks about one mail, as the rows say it, and about the pace of all of them.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, named_params};
use serde::Deserialize;

use super::SqliteStore;
use super::accept::millis;
use super::audit;
use super::fault::{Cells, Fault};
use super::messages::message;
use super::suppressions;
use super::unless;
use super::writer::Writing;
use crate::domain::audit::{Kind, config_changed};
use crate::domain::brake::{BrakedBy, Excess};
use crate::domain::ids::{BrakeId, MessageId, TenantId};
use crate::domain::why::{Stored, UnderWay, Word};
use crate::store::{Pace, StoreError};

/// How far back the pace looks.
const PACE_OVER: Duration = Duration::from_mins(1);
/// Leaves it looks at at most: a fraction of a second. Where there are more, it looks less far back.
const PACE_LEAVES_MAX: i64 = 200_000;

/// Everything the rows know of why a message stands where it stands, as of one moment.
pub(super) fn stored(
    connection: &Connection,
    secret: &[u8; 32],
    tenant: &TenantId,
    id: MessageId,
) -> Result<Option<Stored>, Fault> {
    // Several questions, one snapshot.
    let snapshot = connection.unchecked_transaction()?;
    let Some(message) = message(&snapshot, tenant, id)? else { return Ok(None) };
    let sql = r"-- why
        SELECT id, due_at, resent, domain, unless_wallet, customer, recipient, journey FROM message WHERE id = :id";
    let mut statement = snapshot.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":id": id.as_bytes() })?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let cells = Cells::new(row, "message");
    let unless = unless::kept(&cells)?.filter(|_| message.status.is_live());
    let suppressed = if message.status.is_live() {
        let (recipient, journey) = (cells.plain::<String>("recipient")?, cells.word_or_none("journey")?);
        // As it will be when it is due; of one that is due at no time, as is kept.
        let due_at = cells.time_or_none("due_at")?.unwrap_or(Timestamp::MIN);
        suppressions::judged_at(&snapshot, secret, tenant, &recipient, journey.as_ref(), due_at)?
    } else {
        None
    };
    Ok(Some(Stored {
        suppressed,
        condition: unless::stands(&snapshot, tenant, unless)?,
        message,
        domain: cells.plain("domain")?,
        due_at: cells.time_or_none("due_at")?,
        resent: cells.plain("resent")?,
        under_way: under_way(&snapshot, id)?,
        word: last_word(&snapshot, id)?,
        brake: braked_by(&snapshot, id)?,
    }))
}

/// The brake that holds it, or has ended it.
fn braked_by(connection: &Connection, id: MessageId) -> Result<Option<BrakedBy>, Fault> {
    let sql = r"-- braked_by
        SELECT brake.id, brake.cause, brake.seen, brake.allowed FROM message JOIN brake ON brake.id = message.brake
        WHERE message.id = :id AND message.reason = 'brake'";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":id": id.as_bytes() })?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let cells = Cells::new(row, "brake");
    Ok(Some(BrakedBy {
        id: BrakeId::from_slice(cells.blob("id")?).ok_or_else(|| cells.corrupt("id"))?,
        excess: Excess { cause: cells.word("cause")?, seen: cells.plain("seen")?, allowed: cells.plain("allowed")? },
    }))
}

fn under_way(connection: &Connection, id: MessageId) -> Result<Option<UnderWay>, Fault> {
    let sql = r"-- under_way
        SELECT message, relay, number, committed_at FROM attempt WHERE message = :id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":id": id.as_bytes() })?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let cells = Cells::new(row, "attempt");
    Ok(Some(UnderWay {
        relay: cells.word("relay")?,
        attempt: cells.plain("number")?,
        committed_at: cells.time("committed_at")?,
    }))
}

/// Whose word a leaf tells.
#[derive(Deserialize)]
struct Said {
    actor: String,
    because: Option<String>,
}

/// The last time somebody held, released, retried or ended the message, whoever it was.
fn last_word(connection: &Connection, id: MessageId) -> Result<Option<Word>, Fault> {
    let sql = r"-- last_word
        SELECT message, at, leaf FROM audit_leaf
        WHERE message = :id AND kind IN ('held', 'released', 'retried', 'cancelled')
        ORDER BY seq DESC LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":id": id.as_bytes() })?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let cells = Cells::new(row, "audit_leaf");
    let Said { actor, because } = serde_json::from_slice(cells.blob("leaf")?).map_err(|_| cells.corrupt("leaf"))?;
    Ok(Some(Word { at: cells.time("at")?, actor, because }))
}

/// How much went on in the last minute, counted in the audit: also what other processes did, and what a gateway did
/// before its restart.
pub(super) fn pace(connection: &Connection, now: Timestamp) -> Result<Pace, Fault> {
    let since = now.checked_sub(PACE_OVER).unwrap_or(Timestamp::MIN);
    let mut pace = Pace { over: PACE_OVER, accepted: 0, attempts: 0, relayed: 0 };
    let sql = r"-- last_leaf
        SELECT max(seq) FROM audit_leaf";
    let last: Option<i64> = connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?.flatten();
    let Some(last) = last else { return Ok(pace) };
    let sql = r"-- pace
        SELECT at, kind FROM audit_leaf WHERE seq > :after ORDER BY seq DESC";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":after": last - PACE_LEAVES_MAX })?;
    let (mut walked, mut oldest) = (0, millis(now));
    while let Some(row) = rows.next()? {
        let at: i64 = row.get("at")?;
        if at < millis(since) {
            return Ok(pace);
        }
        (walked, oldest) = (walked + 1, at);
        let kind = row.get_ref("kind")?.as_str().unwrap_or_default();
        pace.accepted += u64::from(kind == Kind::Accepted.as_str());
        pace.relayed += u64::from(kind == Kind::Relayed.as_str());
        // What an attempt past its commit point ended with, or was refused with before it; one that was given back before it
        // has no leaf.
        let ended = [Kind::Relayed, Kind::Deferred, Kind::Bounced, Kind::Unknown];
        pace.attempts += u64::from(ended.iter().any(|ended| ended.as_str() == kind));
    }
    if walked >= PACE_LEAVES_MAX {
        let span = u64::try_from(millis(now) - oldest).unwrap_or_default();
        pace.over = Duration::from_millis(span.max(1));
    }
    Ok(pace)
}

impl SqliteStore {
    /// Notes that the gateway works with another configuration.
    pub(super) async fn note_config(&self, sections: Vec<&'static str>, at: Timestamp) -> Result<(), StoreError> {
        let work = move |connection: &Writing<'_>| audit::append(connection, &config_changed(at, &sections));
        self.write("noting a changed configuration", work).await
    }
}
