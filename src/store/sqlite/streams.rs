//! Streams: what is usual for each, and how their mails ended.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use super::accept::millis;
use super::attempts::tell_unreadable;
use super::audit::next_leaf;
use super::fault::{Cells, Fault};
use super::sweep::limit_of;
use super::writer::Writing;
use crate::domain::brake::Stream;
use crate::domain::brake::watch::Usual;
use crate::store::{OutcomesPage, StreamOutcomes, StreamUsual};

/// The stream in a row with `tenant`, `api_key` and `template`, of which an empty one stands for none.
pub(super) fn read_stream(cells: &Cells<'_>) -> Result<Stream, Fault> {
    let template: Option<String> = cells.plain("template")?;
    Ok(Stream {
        tenant: cells.word("tenant")?,
        key: cells.key_id("api_key")?,
        template: template.filter(|template| !template.is_empty()),
    })
}

/// What is usual for streams, the last learned first.
pub(super) fn usual_of_streams(connection: &Connection, limit: usize) -> Result<Vec<StreamUsual>, Fault> {
    let sql = r"-- usual_of_streams
        SELECT tenant, api_key, template, mails, refused, learned_at
        FROM stream_usual INDEXED BY stream_usual_learned
        WHERE learned_at > :never ORDER BY learned_at DESC LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":never": i64::MIN, ":limit": limit_of(limit) })?;
    let mut streams = Vec::new();
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "stream_usual");
        let read = || {
            let (mails, refused, at) = (cells.plain("mails")?, cells.plain("refused")?, cells.time("learned_at")?);
            Ok(StreamUsual { stream: read_stream(&cells)?, usual: Usual { mails, refused, at } })
        };
        match read() {
            Ok(stream) => streams.push(stream),
            Err(fault) => tell_unreadable(fault)?,
        }
    }
    Ok(streams)
}

/// Keeps what is usual for these streams and forgets what is old.
pub(super) fn keep_usual(
    connection: &Writing<'_>,
    streams: &[StreamUsual],
    forget_before: Timestamp,
) -> Result<(), Fault> {
    let sql = r"-- forget_usual
        DELETE FROM stream_usual WHERE learned_at < :before";
    connection.prepare_cached(sql)?.execute(named_params! { ":before": millis(forget_before) })?;
    let sql = r"-- keep_usual
        INSERT OR REPLACE INTO stream_usual (tenant, api_key, template, mails, refused, learned_at)
        VALUES (:tenant, :api_key, :template, :mails, :refused, :learned_at)";
    for StreamUsual { stream, usual } in streams {
        connection.prepare_cached(sql)?.execute(named_params! {
            ":tenant": stream.tenant.as_str(),
            ":api_key": stream.key.as_bytes(),
            ":template": stream.template.as_deref().unwrap_or_default(),
            ":mails": usual.mails,
            ":refused": usual.refused,
            ":learned_at": millis(usual.at),
        })?;
    }
    Ok(())
}

/// At least so much is usual for a stream.
pub(super) fn teach_usual(connection: &Writing<'_>, taught: &StreamUsual) -> Result<(), Fault> {
    let sql = r"-- teach_usual
        INSERT INTO stream_usual (tenant, api_key, template, mails, refused, learned_at)
        VALUES (:tenant, :api_key, :template, :mails, :refused, :learned_at)
        ON CONFLICT DO UPDATE SET mails = max(mails, excluded.mails), refused = max(refused, excluded.refused),
            learned_at = max(learned_at, excluded.learned_at)";
    let StreamUsual { stream, usual } = taught;
    connection.prepare_cached(sql)?.execute(named_params! {
        ":tenant": stream.tenant.as_str(),
        ":api_key": stream.key.as_bytes(),
        ":template": stream.template.as_deref().unwrap_or_default(),
        ":mails": usual.mails,
        ":refused": usual.refused,
        ":learned_at": millis(usual.at),
    })?;
    Ok(())
}

/// How mails ended in the leaves behind `after`.
pub(super) fn stream_outcomes(connection: &Connection, after: Option<u64>, limit: u32) -> Result<OutcomesPage, Fault> {
    let sql = r"-- stream_outcomes
        SELECT message.id, message.tenant, message.api_key, message.template, audit_leaf.kind = 'relayed' AS is_relayed
        FROM audit_leaf CROSS JOIN message ON message.id = audit_leaf.message
        WHERE audit_leaf.seq >= :from AND audit_leaf.seq < :next AND audit_leaf.kind IN ('relayed', 'bounced')
            AND (audit_leaf.kind = 'relayed' OR message.reason = 'relay-refused')
            AND message.lane <> 'urgent' AND message.api_key IS NOT NULL";
    let next = next_leaf(connection)?;
    let page = |streams| OutcomesPage { streams, next: u64::try_from(next).unwrap_or_default() };
    let Some(after) = after else { return Ok(page(Vec::new())) };
    let from = i64::try_from(after).unwrap_or(i64::MAX).max(next - i64::from(limit));
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":from": from, ":next": next })?;
    let mut streams: BTreeMap<Stream, (u32, u32)> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "message");
        let (relayed, refused) = match read_stream(&cells) {
            Ok(stream) => streams.entry(stream).or_default(),
            Err(fault) => {
                tell_unreadable(fault)?;
                continue;
            }
        };
        if cells.plain("is_relayed")? {
            *relayed += 1;
        } else {
            *refused += 1;
        }
    }
    let told = |(stream, (relayed, refused))| StreamOutcomes { stream, relayed, refused };
    Ok(page(streams.into_iter().map(told).collect()))
}
