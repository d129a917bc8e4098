//! What operators see of the outbox.

use rusqlite::{Connection, Row, ToSql, named_params};

use super::outbox::{push_id, state};
use crate::domain::ids::PushId;
use crate::domain::push::Endpoint;
use crate::store::sqlite::attempts::tell_unreadable;
use crate::store::sqlite::fault::{Cells, Fault};
use crate::store::sqlite::sweep::limit_of;
use crate::store::{EndpointCounts, PushState, PushView};

/// All endpoints, and how much is kept for each.
pub(super) fn endpoints(connection: &Connection) -> Result<Vec<EndpointCounts>, Fault> {
    let sql = r"-- push_endpoints
        SELECT tenant, endpoint, is_configured, off_at, dropped,
            (SELECT count(*) FROM push INDEXED BY push_kept WHERE push.tenant = push_endpoint.tenant
                AND push.endpoint = push_endpoint.endpoint AND state = 'pending') AS pending,
            (SELECT count(*) FROM push INDEXED BY push_kept WHERE push.tenant = push_endpoint.tenant
                AND push.endpoint = push_endpoint.endpoint AND state = 'dead') AS dead,
            (SELECT made_at FROM push INDEXED BY push_kept WHERE push.tenant = push_endpoint.tenant
                AND push.endpoint = push_endpoint.endpoint AND state = 'pending' ORDER BY number LIMIT 1) AS oldest_at
        FROM push_endpoint ORDER BY tenant, endpoint";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut endpoints = Vec::new();
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "push_endpoint");
        let count = |column| cells.plain::<u32>(column).map(u64::from);
        endpoints.push(EndpointCounts {
            endpoint: Endpoint { tenant: cells.word("tenant")?, endpoint: cells.word("endpoint")? },
            state: state(&cells)?,
            off_at: cells.time_or_none("off_at")?,
            pending: count("pending")?,
            oldest_at: cells.time_or_none("oldest_at")?,
            dead: count("dead")?,
            dropped: count("dropped")?,
        });
    }
    Ok(endpoints)
}

/// Dead letters, oldest first.
pub(super) fn dead(connection: &Connection, endpoint: Option<&Endpoint>, limit: usize) -> Result<Vec<PushView>, Fault> {
    let all = r"-- dead_pushes
        SELECT push.* FROM push_endpoint CROSS JOIN push INDEXED BY push_kept
            ON push.tenant = push_endpoint.tenant AND push.endpoint = push_endpoint.endpoint AND state = 'dead'
        ORDER BY push_endpoint.tenant, push_endpoint.endpoint, number LIMIT :limit";
    let of_one = r"-- dead_pushes_of
        SELECT * FROM push INDEXED BY push_kept
        WHERE tenant = :tenant AND endpoint = :endpoint AND state = 'dead' ORDER BY number LIMIT :limit";
    let limit = limit_of(limit);
    match endpoint {
        None => views(connection, all, &[(":limit", &limit)]),
        Some(Endpoint { tenant, endpoint }) => {
            let (tenant, endpoint) = (tenant.as_str(), endpoint.as_str());
            views(connection, of_one, &[(":limit", &limit), (":tenant", &tenant), (":endpoint", &endpoint)])
        }
    }
}

fn views(connection: &Connection, sql: &str, params: &[(&str, &dyn ToSql)]) -> Result<Vec<PushView>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut views = Vec::new();
    while let Some(row) = rows.next()? {
        match view(row) {
            Ok(view) => views.push(view),
            Err(fault) => tell_unreadable(fault)?,
        }
    }
    Ok(views)
}

/// One push.
pub(super) fn push(connection: &Connection, id: PushId) -> Result<Option<PushView>, Fault> {
    let sql = r"-- push
        SELECT * FROM push WHERE id = :id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":id": id.as_bytes() })?;
    rows.next()?.map(view).transpose()
}

fn view(row: &Row<'_>) -> Result<PushView, Fault> {
    let cells = Cells::new(row, "push");
    let state = match cells.plain::<String>("state")?.as_str() {
        "pending" => PushState::Pending,
        "dead" => PushState::Dead,
        _ => return Err(cells.corrupt("state")),
    };
    Ok(PushView {
        id: push_id(&cells)?,
        endpoint: Endpoint { tenant: cells.word("tenant")?, endpoint: cells.word("endpoint")? },
        event: cells.plain("event")?,
        state,
        made_at: cells.time("made_at")?,
        due_at: cells.time_or_none("due_at")?.filter(|_| state == PushState::Pending),
        attempts: cells.plain("attempts")?,
        failure: cells.plain("failure")?,
        tried_at: cells.time_or_none("tried_at")?,
        body: cells.plain("body")?,
    })
}
