//! Suppressions: asked at each mail (`judging`), added, lifted and listed; and links by which people make them (`links`).

mod judging;
mod links;

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, named_params};

pub(super) use self::judging::{judge, judge_normalized, judged_at, lookup};
pub(super) use self::links::keep;
use super::SqliteStore;
use super::accept::{hmac, millis, subject_key};
use super::attempts::tell_unreadable;
use super::audit;
use super::fault::{Cells, Fault};
use super::sweep::limit_of;
use super::writer::Writing;
use crate::domain::address::EmailAddress;
use crate::domain::audit::Actor;
use crate::domain::audit::suppressions::Which;
use crate::domain::ids::{JourneyName, MessageId, TenantId};
use crate::domain::suppression::link::UnsubscribeToken;
use crate::domain::suppression::{Change, LinkView, NewSuppression, Source, Suppression, SuppressionScope, Wish};
use crate::domain::verb::Because;
use crate::store::{Lift, ListedSuppression, StoreError, Suppressed, SuppressionFilter, SuppressionStore};

#[async_trait]
impl SuppressionStore for SqliteStore {
    async fn suppress(
        &self,
        tenant: &TenantId,
        actor: Actor,
        suppressions: Vec<NewSuppression>,
    ) -> Result<Vec<Suppressed>, StoreError> {
        let (tenant, secret) = (tenant.clone(), self.subject_secret);
        let work = move |connection: &Writing<'_>| {
            suppressions.iter().map(|new| suppress(connection, &secret, &tenant, &actor, new, None)).collect()
        };
        self.write("adding suppressions", work).await
    }

    async fn lift(&self, tenant: &TenantId, actor: Actor, lifts: Vec<Lift>) -> Result<Vec<Suppression>, StoreError> {
        let (tenant, secret) = (tenant.clone(), self.subject_secret);
        let work = move |connection: &Writing<'_>| {
            let mut gone = Vec::new();
            for one in &lifts {
                gone.extend(lift(connection, &secret, &tenant, &actor, one)?);
            }
            Ok(gone)
        };
        self.write("removing suppressions", work).await
    }

    async fn suppressions(
        &self,
        tenant: &TenantId,
        filter: SuppressionFilter,
    ) -> Result<Vec<ListedSuppression>, StoreError> {
        let (tenant, secret) = (tenant.clone(), self.subject_secret);
        let work = move |connection: &Connection| match &filter.recipient {
            None => listed(connection, &tenant, &filter),
            Some(recipient) => {
                let lookup = lookup(&secret, &tenant, &recipient.normalized());
                listed_of(connection, &tenant, &lookup, &filter)
            }
        };
        self.list("listing suppressions", work).await
    }

    fn unsubscribe_token(
        &self,
        tenant: &TenantId,
        journey: Option<&JourneyName>,
        recipient: &EmailAddress,
    ) -> UnsubscribeToken {
        let scope = SuppressionScope::of_link(journey);
        links::token(&self.unsubscribe_key, tenant, &scope, &recipient.normalized())
    }

    async fn link(&self, token: UnsubscribeToken) -> Result<Option<LinkView>, StoreError> {
        self.read("looking for a link", move |connection| links::view(connection, token)).await
    }

    async fn follow_link(
        &self,
        token: UnsubscribeToken,
        wish: Wish,
        at: Timestamp,
    ) -> Result<Option<LinkView>, StoreError> {
        self.write("following a link", move |connection| links::follow(connection, token, wish, at)).await
    }
}

// --- adding ---

/// Adds one; `message`: the mail from which it follows.
pub(super) fn suppress(
    connection: &Writing<'_>,
    secret: &[u8; 32],
    tenant: &TenantId,
    actor: &Actor,
    new: &NewSuppression,
    message: Option<MessageId>,
) -> Result<Suppressed, Fault> {
    let NewSuppression { recipient, scope, source, because, expires_at, at } = new;
    let normalized = recipient.normalized();
    let row = Row {
        tenant,
        lookup: &lookup(secret, tenant, &normalized),
        scope,
        source: *source,
        because: because.as_ref().map(Because::as_str),
        address: Some(recipient.as_str()),
        token: None,
        actor,
        expires_at: *expires_at,
        at: *at,
    };
    if row.insert(connection)? {
        let key = subject_key(connection, secret, tenant, recipient)?;
        let hashed = hmac(&key, &[normalized.as_bytes()]);
        let which = Which { tenant, recipient: Some(&hashed), scope, source: *source };
        let mut leaf = which.added(*at, actor.clone(), row.because, *expires_at);
        leaf.message = message;
        audit::append(connection, &leaf)?;
        return Ok(Suppressed { suppression: row.shown(), change: Change::Added });
    }
    let known = known(connection, tenant, row.lookup, scope)?.unwrap_or_else(|| row.shown());
    Ok(Suppressed { suppression: known, change: Change::Known })
}

/// A suppression before it has its number.
struct Row<'r> {
    tenant: &'r TenantId,
    lookup: &'r [u8],
    scope: &'r SuppressionScope,
    source: Source,
    because: Option<&'r str>,
    address: Option<&'r str>,
    token: Option<UnsubscribeToken>,
    actor: &'r Actor,
    expires_at: Option<Timestamp>,
    at: Timestamp,
}

impl Row<'_> {
    /// Whether it is new, or stands longer than what stood: what somebody says for good outlasts what was said for a while.
    fn insert(&self, connection: &Writing<'_>) -> Result<bool, Fault> {
        let sql = r"-- insert_suppression
            INSERT INTO suppression (tenant, lookup, scope, source, because, address, token, actor, added_at, expires_at)
            VALUES (:tenant, :lookup, :scope, :source, :because, :address, :token, :actor, :added_at, :expires_at)
            ON CONFLICT (tenant, lookup, scope) DO UPDATE
            SET source = excluded.source, because = excluded.because, address = coalesce(excluded.address, address),
                token = excluded.token, actor = excluded.actor, added_at = excluded.added_at,
                expires_at = excluded.expires_at
            WHERE suppression.expires_at < coalesce(excluded.expires_at, 9223372036854775807)";
        let inserted = connection.prepare_cached(sql)?.execute(named_params! {
            ":tenant": self.tenant.as_str(),
            ":lookup": self.lookup,
            ":scope": self.scope.to_string(),
            ":source": self.source.as_str(),
            ":because": self.because,
            ":address": self.address,
            ":token": self.token.as_ref().map(UnsubscribeToken::as_bytes),
            ":actor": self.actor.to_string(),
            ":added_at": millis(self.at),
            ":expires_at": self.expires_at.map(millis),
        })?;
        connection.suppresses.borrow_mut().insert(self.tenant.clone(), true);
        Ok(inserted == 1)
    }

    fn shown(&self) -> Suppression {
        Suppression {
            recipient: self.address.map(str::to_owned),
            scope: self.scope.clone(),
            source: self.source,
            because: self.because.map(str::to_owned),
            added_at: as_kept(self.at),
            expires_at: self.expires_at.map(as_kept),
            added_by: self.actor.to_string(),
        }
    }
}

fn as_kept(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(millis(at)).unwrap_or(at)
}

fn known(
    connection: &Connection,
    tenant: &TenantId,
    lookup: &[u8],
    scope: &SuppressionScope,
) -> Result<Option<Suppression>, Fault> {
    let sql = r"-- suppression
        SELECT number, address, scope, source, because, added_at, actor, expires_at FROM suppression
        WHERE tenant = :tenant AND lookup = :lookup AND scope = :scope";
    let mut statement = connection.prepare_cached(sql)?;
    let params = named_params! { ":tenant": tenant.as_str(), ":lookup": lookup, ":scope": scope.to_string() };
    let mut rows = statement.query(params)?;
    let Some(row) = rows.next()? else { return Ok(None) };
    read(&Cells::new(row, "suppression")).map(|listed| Some(listed.suppression))
}

// --- lifting ---

fn lift(
    connection: &Writing<'_>,
    secret: &[u8; 32],
    tenant: &TenantId,
    actor: &Actor,
    lifted: &Lift,
) -> Result<Vec<Suppression>, Fault> {
    let Lift { recipient, scope, because, at } = lifted;
    let normalized = recipient.normalized();
    let (scope, limit) = (scope.clone(), usize::MAX);
    let filter = SuppressionFilter { scope, limit, at: Some(*at), ..SuppressionFilter::default() };
    let theirs = listed_of(connection, tenant, &lookup(secret, tenant, &normalized), &filter)?;
    let mut gone = Vec::with_capacity(theirs.len());
    for ListedSuppression { number, suppression } in theirs {
        delete(connection, number)?;
        let key = subject_key(connection, secret, tenant, recipient)?;
        let hashed = hmac(&key, &[normalized.as_bytes()]);
        let Suppression { scope, source, .. } = &suppression;
        let which = Which { tenant, recipient: Some(&hashed), scope, source: *source };
        audit::append(connection, &which.removed(*at, actor.clone(), because.as_ref().map(Because::as_str)))?;
        gone.push(suppression);
    }
    Ok(gone)
}

fn delete(connection: &Connection, number: u64) -> Result<(), Fault> {
    let sql = r"-- delete_suppression
        DELETE FROM suppression WHERE number = :number";
    connection.prepare_cached(sql)?.execute(named_params! { ":number": i64::try_from(number).unwrap_or_default() })?;
    Ok(())
}

// --- ending ---

/// Removes what stood for as long as it was to, at most `limit` of it; how much that was.
pub(super) fn expire(connection: &Writing<'_>, secret: &[u8; 32], at: Timestamp, limit: usize) -> Result<usize, Fault> {
    let sql = r"-- expired_suppressions
        SELECT number, tenant, address, scope, source, because, added_at, actor, expires_at
        FROM suppression INDEXED BY suppression_expires
        WHERE expires_at <= :at ORDER BY expires_at LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":at": millis(at), ":limit": limit_of(limit) })?;
    let (mut over, mut unreadable): (Vec<(TenantId, ListedSuppression)>, Vec<i64>) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let cells = Cells::new(row, "suppression");
        match cells.word("tenant").and_then(|tenant| Ok((tenant, read(&cells)?))) {
            Ok(one) => over.push(one),
            Err(fault) => {
                tell_unreadable(fault)?;
                unreadable.push(row.get("number")?);
            }
        }
    }
    for number in &unreadable {
        park(connection, *number)?;
    }
    for (tenant, ListedSuppression { number, suppression }) in &over {
        delete(connection, *number)?;
        // Of somebody who was erased nothing is left by which a leaf could name them.
        let recipient: Option<EmailAddress> = suppression.recipient.as_ref().and_then(|address| address.parse().ok());
        let hashed = match recipient {
            Some(recipient) => {
                let key = subject_key(connection, secret, tenant, &recipient)?;
                Some(hmac(&key, &[recipient.normalized().as_bytes()]))
            }
            None => None,
        };
        let Suppression { scope, source, .. } = suppression;
        let which = Which { tenant, recipient: hashed.as_ref(), scope, source: *source };
        audit::append(connection, &which.expired(at))?;
    }
    Ok(over.len() + unreadable.len())
}

/// Takes one that cannot be read out of the sweep's sight: it stands until somebody has looked, and keeps no other.
fn park(connection: &Connection, number: i64) -> Result<(), Fault> {
    let sql = r"-- park_suppression
        UPDATE suppression SET expires_at = NULL WHERE number = :number";
    connection.prepare_cached(sql)?.execute(named_params! { ":number": number })?;
    Ok(())
}

// --- listing ---

fn listed(
    connection: &Connection,
    tenant: &TenantId,
    filter: &SuppressionFilter,
) -> Result<Vec<ListedSuppression>, Fault> {
    let all = r"-- suppressions
        SELECT number, address, scope, source, because, added_at, actor, expires_at FROM suppression INDEXED BY suppression_listed
        WHERE tenant = :tenant AND number < :before AND :scope IS NULL AND (expires_at IS NULL OR expires_at > :at)
        ORDER BY number DESC LIMIT :limit";
    let of_scope = r"-- suppressions_by_scope
        SELECT number, address, scope, source, because, added_at, actor, expires_at FROM suppression INDEXED BY suppression_by_scope
        WHERE tenant = :tenant AND scope = :scope AND number < :before AND (expires_at IS NULL OR expires_at > :at)
        ORDER BY number DESC LIMIT :limit";
    let sql = if filter.scope.is_some() { of_scope } else { all };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! {
        ":tenant": tenant.as_str(),
        ":scope": filter.scope.as_ref().map(SuppressionScope::to_string),
        ":before": before(filter),
        ":at": filter.at.map_or(i64::MIN, millis),
        ":limit": limit_of(filter.limit),
    })?;
    let mut listed = Vec::new();
    while let Some(row) = rows.next()? {
        match read(&Cells::new(row, "suppression")) {
            Ok(suppression) => listed.push(suppression),
            Err(fault) => tell_unreadable(fault)?,
        }
    }
    Ok(listed)
}

/// Those of one recipient, who has few.
fn listed_of(
    connection: &Connection,
    tenant: &TenantId,
    lookup: &[u8],
    filter: &SuppressionFilter,
) -> Result<Vec<ListedSuppression>, Fault> {
    let sql = r"-- suppressions_by_recipient
        SELECT number, address, scope, source, because, added_at, actor, expires_at FROM suppression
        WHERE tenant = :tenant AND lookup = :lookup AND number < :before";
    let mut statement = connection.prepare_cached(sql)?;
    let params = named_params! { ":tenant": tenant.as_str(), ":lookup": lookup, ":before": before(filter) };
    let mut rows = statement.query(params)?;
    let mut listed = Vec::new();
    while let Some(row) = rows.next()? {
        let one = read(&Cells::new(row, "suppression"))?;
        let is_over = one.suppression.expires_at.zip(filter.at).is_some_and(|(expires_at, at)| expires_at <= at);
        if !is_over && filter.scope.as_ref().is_none_or(|scope| *scope == one.suppression.scope) {
            listed.push(one);
        }
    }
    listed.sort_by_key(|one| std::cmp::Reverse(one.number));
    listed.truncate(filter.limit);
    Ok(listed)
}

fn before(filter: &SuppressionFilter) -> i64 {
    filter.before.map_or(i64::MAX, |number| i64::try_from(number).unwrap_or(i64::MAX))
}

fn read(cells: &Cells<'_>) -> Result<ListedSuppression, Fault> {
    let number: i64 = cells.plain("number")?;
    let suppression = Suppression {
        recipient: cells.plain("address")?,
        scope: cells.word("scope")?,
        source: cells.word("source")?,
        because: cells.plain("because")?,
        added_at: cells.time("added_at")?,
        expires_at: cells.time_or_none("expires_at")?,
        added_by: cells.plain("actor")?,
    };
    Ok(ListedSuppression { number: u64::try_from(number).unwrap_or_default(), suppression })
}

// --- forgetting ---

/// Forgets the addresses of a person who is known by one of these: what was said of them stands, their links work. How
/// many addresses there were.
pub(super) fn forget(
    connection: &Writing<'_>,
    secret: &[u8; 32],
    tenant: &TenantId,
    names: &BTreeSet<String>,
) -> Result<usize, Fault> {
    let mut forgotten = 0;
    for value in names {
        let lookup = lookup(secret, tenant, value);
        let sql = r"-- forget_suppressed_address
            UPDATE suppression SET address = NULL
            WHERE tenant = :tenant AND lookup = :lookup AND address IS NOT NULL";
        let params = named_params! { ":tenant": tenant.as_str(), ":lookup": lookup };
        forgotten += connection.prepare_cached(sql)?.execute(params)?;
        links::forget(connection, tenant, &lookup)?;
    }
    Ok(forgotten)
}
