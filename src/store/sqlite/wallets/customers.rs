//! What a customer's passes add up to, brought up to date in the transaction of the event that changed it.

use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use super::aliases::rank;
use super::{NAMELESS, nameless_key};
use crate::domain::ids::TenantId;
use crate::domain::pass_event::{EventKind, Wallet};
use crate::domain::wallet::customer::{Naming, Pass, Projection, projection};
use crate::domain::wallet::{CustomerKey, WalletStatus};
use crate::store::sqlite::accept::millis;
use crate::store::sqlite::fault::{Cells, Fault};
use crate::store::sqlite::sweep::limit_of;
use crate::store::{Pushed, RecordRules};

/// What a change of a customer needs to know of its cause.
pub(super) struct Settling<'s> {
    /// Whose customer.
    pub(super) tenant: &'s TenantId,
    /// What holds for the tenant.
    pub(super) rules: &'s RecordRules,
    /// The leaf of the event.
    pub(super) seq: i64,
    /// When it happened.
    pub(super) at: Timestamp,
    /// When it came in.
    pub(super) now: Timestamp,
}

/// What the table says of a customer.
struct Kept {
    projection: Projection,
    joined: Option<String>,
    pushed: Option<WalletStatus>,
    push_due_at: Option<Timestamp>,
}

/// Adds up the passes of a customer and keeps the result if it is another than before. `went_to`: whose the pass is now
/// that this event took away.
pub(super) fn settle(
    connection: &Connection,
    customer: &CustomerKey,
    settling: &Settling<'_>,
    went_to: Option<&CustomerKey>,
) -> Result<WalletStatus, Fault> {
    let Settling { tenant, rules, at, .. } = settling;
    let added_up = added_up(connection, tenant, customer, rules.passes_max)?;
    let kept = kept(connection, tenant, customer)?;
    let (projection, joined) = match (added_up, &kept) {
        (Some(projection), _) => (projection, None),
        // No pass is left here.
        (None, Some(kept)) => {
            let nothing = Projection {
                status: WalletStatus::None,
                apple_installed_at: None,
                google_installed_at: None,
                changed_at: *at,
                last_event: kept.projection.last_event,
            };
            (nothing, went_to.map(|customer| customer.value.clone()))
        }
        (None, None) => return Ok(WalletStatus::None),
    };
    if kept.as_ref().is_some_and(|kept| kept.projection == projection && kept.joined == joined) {
        return Ok(projection.status);
    }
    let push_due_at = push_due_at(customer, settling, kept.as_ref(), &projection);
    upsert(connection, customer, settling, &projection, joined.as_deref(), push_due_at)?;
    Ok(projection.status)
}

/// When the status is to be pushed. A removal waits until it has settled, and what is back by then is not pushed at all.
fn push_due_at(
    customer: &CustomerKey,
    settling: &Settling<'_>,
    kept: Option<&Kept>,
    projection: &Projection,
) -> Option<Timestamp> {
    let Settling { rules, now, .. } = settling;
    let known = kept.and_then(|kept| kept.pushed).unwrap_or(WalletStatus::None);
    // Nobody outside knows a customer by a pass alone.
    if rules.pushed == Pushed::No || customer.is_by_pass() || projection.status == known {
        return None;
    }
    if let Some(kept) = kept.filter(|kept| kept.projection.status == projection.status) {
        return kept.push_due_at.or(Some(*now));
    }
    // What receivers know of and is gone may be back in a moment: until then they are told nothing else either.
    let removed = Wallet::ALL.into_iter().any(|wallet| known.has(wallet) && !projection.status.has(wallet));
    let settled = projection.changed_at.checked_add(rules.reinstall_settle).unwrap_or(*now);
    Some(if removed { settled.max(*now) } else { *now })
}

/// What the passes of a customer add up to; `None`: there are none. Each number of it is the first or last entry of an index,
/// so however many passes there are, it costs the same; only beside events that named no pass they are looked at one by one.
fn added_up(
    connection: &Connection,
    tenant: &TenantId,
    customer: &CustomerKey,
    passes_max: usize,
) -> Result<Option<Projection>, Fault> {
    let sql = r"-- added_up
        SELECT changed_at, last_event,
            (SELECT apple_since FROM wallet_pass INDEXED BY wallet_pass_apple
                WHERE tenant = :tenant AND customer = :customer AND known_by = :known_by AND apple_since IS NOT NULL
                ORDER BY apple_since LIMIT 1) AS apple_since,
            (SELECT google_since FROM wallet_pass INDEXED BY wallet_pass_google
                WHERE tenant = :tenant AND customer = :customer AND known_by = :known_by AND google_since IS NOT NULL
                ORDER BY google_since LIMIT 1) AS google_since,
            EXISTS (SELECT 1 FROM wallet_pass WHERE tenant = :tenant AND pass_key = :nameless) AS has_nameless
        FROM wallet_pass INDEXED BY wallet_pass_of_customer
        WHERE tenant = :tenant AND customer = :customer AND known_by = :known_by
        ORDER BY changed_at DESC, last_event DESC LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! {
        ":tenant": tenant.as_str(),
        ":customer": customer.value,
        ":known_by": customer.by,
        ":nameless": nameless_key(customer),
    })?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let cells = Cells::new(row, "wallet_pass");
    if cells.plain("has_nameless")? {
        return Ok(projection(&passes(connection, tenant, customer, passes_max)?));
    }
    let (apple, google) = (cells.time_or_none("apple_since")?, cells.time_or_none("google_since")?);
    let (changed_at, last_event) = (cells.time("changed_at")?, cells.word("last_event")?);
    Ok(Some(Projection::of(apple, google, (changed_at, last_event))))
}

/// The passes of a customer, those first that changed last.
fn passes(
    connection: &Connection,
    tenant: &TenantId,
    customer: &CustomerKey,
    limit: usize,
) -> Result<Vec<Pass>, Fault> {
    let sql = r"-- passes_of_customer
        SELECT pass_key, standings FROM wallet_pass
        WHERE tenant = :tenant AND customer = :customer AND known_by = :known_by ORDER BY changed_at DESC LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! {
        ":tenant": tenant.as_str(),
        ":customer": customer.value,
        ":known_by": customer.by,
        ":limit": limit_of(limit),
    })?;
    let mut passes = Vec::new();
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "wallet_pass");
        let nameless = cells.plain::<String>("pass_key")?.starts_with(NAMELESS);
        let naming = if nameless { Naming::Nameless } else { Naming::Named };
        passes.push(Pass { naming, standings: cells.json("standings")? });
    }
    Ok(passes)
}

/// The status of a customer; `None` when nothing is known of them.
pub(in crate::store::sqlite) fn status(
    connection: &Connection,
    tenant: &TenantId,
    customer: &CustomerKey,
) -> Result<Option<WalletStatus>, Fault> {
    let sql = r"-- status_of_customer
        SELECT status FROM wallet_customer
        WHERE tenant = :tenant AND customer = :customer AND known_by = :known_by";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! {
        ":tenant": tenant.as_str(),
        ":customer": customer.value,
        ":known_by": customer.by,
    })?;
    rows.next()?.map(|row| Cells::new(row, "wallet_customer").word("status")).transpose()
}

fn kept(connection: &Connection, tenant: &TenantId, customer: &CustomerKey) -> Result<Option<Kept>, Fault> {
    let sql = r"-- kept_customer
        SELECT status, apple_installed_at, google_installed_at, changed_at, last_event, joined, pushed_status, push_due_at
        FROM wallet_customer WHERE tenant = :tenant AND customer = :customer AND known_by = :known_by";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! {
        ":tenant": tenant.as_str(),
        ":customer": customer.value,
        ":known_by": customer.by,
    })?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let cells = Cells::new(row, "wallet_customer");
    Ok(Some(Kept {
        projection: read_projection(&cells)?,
        joined: cells.plain("joined")?,
        pushed: cells.word_or_none("pushed_status")?,
        push_due_at: cells.time_or_none("push_due_at")?,
    }))
}

/// The columns of a projection.
pub(in crate::store::sqlite) fn read_projection(cells: &Cells<'_>) -> Result<Projection, Fault> {
    Ok(Projection {
        status: cells.word("status")?,
        apple_installed_at: cells.time_or_none("apple_installed_at")?,
        google_installed_at: cells.time_or_none("google_installed_at")?,
        changed_at: cells.time("changed_at")?,
        last_event: cells.word::<EventKind>("last_event")?,
    })
}

fn upsert(
    connection: &Connection,
    customer: &CustomerKey,
    settling: &Settling<'_>,
    projection: &Projection,
    joined: Option<&str>,
    push_due_at: Option<Timestamp>,
) -> Result<(), Fault> {
    let sql = r"-- upsert_wallet_customer
        INSERT INTO wallet_customer (tenant, customer, known_by, rank, status, apple_installed_at, google_installed_at,
            changed_at, last_event, changed_seq, joined, pushed_status, push_due_at)
        VALUES (:tenant, :customer, :known_by, :rank, :status, :apple, :google, :changed_at, :last_event, :seq, :joined,
            :pushed, :due)
        ON CONFLICT (tenant, customer, known_by) DO UPDATE SET rank = excluded.rank,
            status = excluded.status, apple_installed_at = excluded.apple_installed_at,
            google_installed_at = excluded.google_installed_at, changed_at = excluded.changed_at,
            last_event = excluded.last_event, changed_seq = excluded.changed_seq, joined = excluded.joined,
            pushed_status = coalesce(excluded.pushed_status, pushed_status), push_due_at = excluded.push_due_at";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":tenant": settling.tenant.as_str(),
        ":customer": customer.value,
        ":known_by": customer.by,
        ":rank": rank(&customer.by, &settling.rules.identifiers),
        ":status": projection.status.as_str(),
        ":apple": projection.apple_installed_at.map(millis),
        ":google": projection.google_installed_at.map(millis),
        ":changed_at": millis(projection.changed_at),
        ":last_event": projection.last_event.as_str(),
        ":seq": settling.seq,
        ":joined": joined,
        // Whoever listens later is told of what changes from then on.
        ":pushed": (settling.rules.pushed == Pushed::No).then_some(projection.status.as_str()),
        ":due": push_due_at.map(millis),
    })?;
    Ok(())
}
