//! How many installs and removals there were, by whatever a brand wants to know them by.

use std::fmt::Write as _;

use rusqlite::{Connection, Row, named_params};

use crate::domain::ids::TenantId;
use crate::store::sqlite::accept::millis;
use crate::store::sqlite::fault::{Cells, Fault};
use crate::store::sqlite::sweep::limit_of;
use crate::store::{Dimension, Trend, TrendCounts, TrendQuery};

/// How far an event's time may lie behind the time it came in, as seen from an index of the latter: nothing is received
/// before it happened, but for clocks that differ.
const AHEAD_MILLIS_MAX: i64 = 24 * 60 * 60 * 1_000;

/// Counts of a tenant's events, by the dimensions asked for, in their order.
pub(super) fn trends(connection: &Connection, tenant: &TenantId, query: &TrendQuery) -> Result<Vec<Trend>, Fault> {
    let mut statement = connection.prepare_cached(&sql(&query.by))?;
    let (since, until) = (millis(query.since), millis(query.until));
    let mut rows = statement.query(named_params! {
        ":tenant": tenant.as_str(),
        ":received_since": since.saturating_sub(AHEAD_MILLIS_MAX),
        ":since": since,
        ":until": until,
        ":limit": limit_of(query.limit),
    })?;
    let mut trends = Vec::new();
    while let Some(row) = rows.next()? {
        trends.push(read(row, &query.by)?);
    }
    Ok(trends)
}

/// The statement for these dimensions. Their expressions are fixed texts.
fn sql(by: &[Dimension]) -> String {
    let (mut columns, mut order, mut tags) = (String::new(), String::new(), "");
    for (index, dimension) in by.iter().enumerate() {
        let expression = match dimension {
            // What the Pass API told of happened when it says so.
            Dimension::Day => "date(coalesce(since, at) / 1000, 'unixepoch')",
            Dimension::Device => "wallet",
            Dimension::PassType => "pass_type",
            Dimension::Medium => "medium",
            Dimension::Origin => "origin",
            Dimension::Tag => {
                tags = "LEFT JOIN json_each(pass_event.tags) AS tag";
                "tag.value"
            }
        };
        // Writing into a text cannot fail.
        let _ = write!(columns, "{expression} AS by_{index}, ");
        let _ = write!(order, "{}{}", if index == 0 { "" } else { ", " }, index + 1);
    }
    let (group, order) = if by.is_empty() {
        (String::new(), String::new())
    } else {
        (format!("GROUP BY {order}"), format!("ORDER BY {order}"))
    };
    format!(
        r"-- wallet_trends
        SELECT {columns} count(*) FILTER (WHERE change = 'first-install') AS first_installs,
            count(*) FILTER (WHERE change = 'additional-device') AS additional_devices,
            count(*) FILTER (WHERE change = 'reinstall') AS reinstalls,
            count(*) FILTER (WHERE change = 'removed') AS removals
        FROM pass_event INDEXED BY pass_event_received {tags}
        WHERE tenant = :tenant AND received_at >= :received_since
            AND coalesce(since, at) >= :since AND coalesce(since, at) < :until
            AND change IN ('first-install', 'additional-device', 'reinstall', 'removed')
        {group} {order} LIMIT :limit"
    )
}

fn read(row: &Row<'_>, by: &[Dimension]) -> Result<Trend, Fault> {
    let cells = Cells::new(row, "pass_event");
    let values = by.iter().enumerate().map(|(index, dimension)| {
        // A tag may be anything that is JSON; ours are texts.
        let value = row.get::<_, Option<String>>(index).map_err(|_| cells.corrupt("tags"))?;
        Ok((*dimension, value))
    });
    Ok(Trend {
        values: values.collect::<Result<_, Fault>>()?,
        counts: TrendCounts {
            first_installs: cells.plain("first_installs")?,
            additional_devices: cells.plain("additional_devices")?,
            reinstalls: cells.plain("reinstalls")?,
            removals: cells.plain("removals")?,
        },
    })
}
