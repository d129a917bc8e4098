//! Which indexes a list of messages walks, newest first, and how far.
//!
//! A filter of one condition walks that condition's index, where every row is wanted. For a filter of several, any of
//! their indexes would do, and none for all of them together: an index for every pair would cost every mail. So the way
//! is cut into windows. For each window, each index is asked how far back its next so many rows reach, and the one that
//! reaches furthest is walked down to there, the rest of the filter looked at row by row. A rare state of a common
//! template is so found among the few of that state; a template that was given up in June is not looked for in July.
//! Two conditions that both hold often but hardly ever together remain a long way: a page ends when its time is over,
//! with what was found and the place where the next one goes on.

use std::time::{Duration, Instant};

use rusqlite::{Connection, Rows, Statement, ToSql};

use super::fault::{Cells, Fault};
use super::messages::millis_up;
use super::sweep::limit_of;
use super::walks::{Asked, Standing, Walk};
use crate::domain::ids::{KeyId, MessageId, TenantId};
use crate::domain::lane::Lane;
use crate::domain::message::{Reason, Status};
use crate::store::MessageFilter;

/// How far a list is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// Rows of one index in a window; a few milliseconds' work.
    pub(super) rows: usize,
    /// After how long a page ends where it is, at the end of a window; `None` only when it is full.
    pub(super) time: Option<Duration>,
}

/// Where a row lies in every index: its time and its identifier. Without one it lies before all of that time.
pub(super) type Spot = (i64, Option<MessageId>);

/// A piece of the way.
struct Window {
    walk: Walk,
    /// Its newest end, which does not belong to it.
    high: Spot,
    /// Its oldest end, which does; `None` is the end of the list.
    low: Option<Spot>,
}

/// What was found, newest first, and where the next page begins; `None`: there is nothing more.
pub(super) struct Page<T> {
    pub(super) found: Vec<T>,
    pub(super) next: Option<MessageId>,
}

/// A list as asked for, and where it begins.
pub(super) struct List<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) filter: &'a MessageFilter,
    /// States that are of use; rows in others may be found all the same.
    pub(super) suits: &'a dyn Fn(Status) -> bool,
    /// The newest end, which does not belong to it.
    pub(super) high: Spot,
}

impl List<'_> {
    /// The indexes that can be walked: by standings also when states are of no use, so that what has ended, however much,
    /// is not looked at. All of a tenant are its lanes and states side by side.
    fn candidates(&self) -> Vec<Walk> {
        let mut candidates = Walk::candidates(self.filter);
        let is_choosy = Status::ALL.into_iter().any(|status| !(self.suits)(status));
        if candidates.is_empty() || (is_choosy && !candidates.contains(&Walk::Standing)) {
            candidates.push(Walk::Standing);
        }
        candidates
    }

    /// Runs a statement of a [`Walk`] for a window.
    fn rows<'s>(
        &self,
        statement: &'s mut Statement<'_>,
        ((high, before), low): (Spot, Option<Spot>),
        (lane, status): Standing,
        limit: usize,
    ) -> Result<Rows<'s>, Fault> {
        let filter = self.filter;
        let (key, value) = filter.metadata.as_ref().map(|(key, value)| (key, value)).unzip();
        let message_id = filter.message_id.as_deref();
        let id = message_id.and_then(MessageId::of_header).map(|id| *id.as_bytes());
        let (since, from) = low.unwrap_or_else(|| (filter.since.map_or(i64::MIN, millis_up), None));
        let params: [(&str, &dyn ToSql); 20] = [
            (":tenant", &self.tenant.as_str()),
            (":since", &since),
            (":from", &bytes_of(from.as_ref())),
            (":until", &high),
            (":before", &bytes_of(before.as_ref())),
            (":recipient", &filter.recipient),
            (":domain", &filter.domain),
            (":status", &status.map(Status::as_str)),
            (":reason", &filter.reason.map(Reason::as_str)),
            (":template", &filter.template),
            (":lane", &lane.map(Lane::as_str)),
            (":id", &id),
            (":message_id", &message_id),
            (":queue_id", &filter.relay_queue_id),
            (":journey", &filter.journey),
            (":api_key", &filter.key.as_ref().map(KeyId::as_bytes)),
            (":tag", &filter.tag),
            (":key", &key),
            (":value", &value),
            (":limit", &limit_of(limit)),
        ];
        for (name, value) in params {
            // Where a window ends is asked with less than what is in it.
            if let Some(index) = statement.parameter_index(name)? {
                statement.raw_bind_parameter(index, value)?;
            }
        }
        Ok(statement.raw_query())
    }

    /// The next window below `high`: of all indexes the one whose next `rows` rows reach back furthest. One that ends
    /// before is walked to its end.
    fn window(&self, connection: &Connection, high: Spot, rows: usize) -> Result<Window, Fault> {
        let candidates = self.candidates();
        let to_the_end = |walk| Window { walk, high, low: None };
        if let &[walk] = candidates.as_slice() {
            return Ok(to_the_end(walk));
        }
        let mut furthest = to_the_end(Walk::Standing);
        for walk in candidates {
            let Some(reach) = self.reach(connection, walk, high, rows)? else { return Ok(to_the_end(walk)) };
            if furthest.low.is_none_or(|low| reach < low) {
                furthest = Window { walk, high, low: Some(reach) };
            }
        }
        Ok(furthest)
    }

    /// Where the `rows`th row below `high` lies; of several standings, which share the rows, where the first gets to its
    /// share. `None` when there are fewer.
    fn reach(&self, connection: &Connection, walk: Walk, high: Spot, rows: usize) -> Result<Option<Spot>, Fault> {
        let mut statement = connection.prepare_cached(&walk.reach_sql())?;
        let standings = walk.standings(self.filter, self.suits);
        let share = rows / standings.len().max(1);
        let mut reach = None;
        for standing in standings {
            let mut rows = self.rows(&mut statement, (high, None), standing, share.saturating_sub(1))?;
            if let Some(row) = rows.next()? {
                reach = reach.max(Some(spot(&Cells::new(row, "message"))?));
            }
        }
        Ok(reach)
    }

    /// Hands every row of a window to `take`, of each standing `limit` at most, newest first.
    fn walk(
        &self,
        connection: &Connection,
        (window, asked): (&Window, Asked),
        limit: usize,
        take: &mut dyn FnMut(&Cells<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut statement = connection.prepare_cached(&window.walk.sql(asked))?;
        for standing in window.walk.standings(self.filter, self.suits) {
            let mut rows = self.rows(&mut statement, (window.high, window.low), standing, limit)?;
            while let Some(row) = rows.next()? {
                take(&Cells::new(row, "message"))?;
            }
        }
        Ok(())
    }

    /// The next of the list, up to the filter's limit, all in one snapshot: a mail that goes from one state to another
    /// meanwhile is found once.
    pub(super) fn page<T>(
        &self,
        connection: &Connection,
        (asked, look): (Asked, Look),
        read: &dyn Fn(&Cells<'_>) -> Result<T, Fault>,
    ) -> Result<Page<T>, Fault> {
        let snapshot = connection.unchecked_transaction()?;
        let (limit, begun) = (self.filter.limit, Instant::now());
        let (mut found, mut high) = (Vec::new(), self.high);
        let next = loop {
            let window = self.window(&snapshot, high, look.rows)?;
            // One more than is wanted tells whether there is a next page.
            let wanted = limit.saturating_add(1) - found.len();
            self.walk(&snapshot, (&window, asked), wanted, &mut |cells| {
                found.push((spot(cells)?, read(cells)?));
                Ok(())
            })?;
            if found.len() > limit {
                found.sort_by_key(|(spot, _)| std::cmp::Reverse(*spot));
                found.truncate(limit);
                break found.last().and_then(|((_, id), _)| *id);
            }
            let Some(low) = window.low else { break None };
            if look.time.is_some_and(|time| begun.elapsed() >= time) {
                break low.1;
            }
            high = low;
        };
        found.sort_by_key(|(spot, _)| std::cmp::Reverse(*spot));
        Ok(Page { found: found.into_iter().map(|(_, read)| read).collect(), next })
    }

    /// Hands all counts of the list to `take`, window by window, in one snapshot.
    pub(super) fn counts(
        &self,
        connection: &Connection,
        rows: usize,
        take: &mut dyn FnMut(&Cells<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let snapshot = connection.unchecked_transaction()?;
        let mut high = Some(self.high);
        while let Some(below) = high {
            let window = self.window(&snapshot, below, rows)?;
            self.walk(&snapshot, (&window, Asked::Counts), Status::ALL.len(), take)?;
            high = window.low;
        }
        Ok(())
    }
}

fn bytes_of(id: Option<&MessageId>) -> &[u8] {
    id.map_or(&[], |id| id.as_bytes())
}

fn spot(cells: &Cells<'_>) -> Result<Spot, Fault> {
    Ok((cells.plain("accepted_at")?, Some(cells.message_id("id")?)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use crate::store::sqlite::open::{Role, open};

    /// A store with 3,000 messages of one tenant: which of them has what is told by its place.
    fn store() -> (tempfile::TempDir, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let connection = open(&folder.path().join("store.db"), Role::Command).unwrap().connection;
        // Pairs share a moment. "old" ends where "new" begins; both are long. "even" and "odd" never meet.
        let sql = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 3000)
            INSERT INTO message (id, tenant, lane, status, deliver_by, accepted_at, domain, recipient, mailbox,
                envelope_sender, template, subject, tags, metadata, message_id)
            SELECT CAST(printf('%016d', x) AS BLOB), 'demo', iif(x % 3, 'standard', 'journey'),
                iif(x % 100, iif(x % 2, 'relayed', 'queued'), 'bounced'), 9, x / 2, iif(x % 2, 'odd', 'even'),
                'r' || (x % 7), 'm', 'e', iif(x <= 1500, 'old', 'new'), 's', '[]', '{}', '<m>' FROM n";
        connection.execute(sql, []).unwrap();
        let sql = "INSERT INTO message_tag (tenant, tag, accepted_at, message)
            SELECT tenant, iif(domain = 'odd', 'even', 'odd'), accepted_at, id FROM message";
        connection.execute(sql, []).unwrap();
        (folder, connection)
    }

    fn filters() -> Vec<MessageFilter> {
        let any = MessageFilter::default;
        let (old, new) = (Some("old".to_owned()), Some("new".to_owned()));
        let (odd, even) = (Some("odd".to_owned()), Some("even".to_owned()));
        vec![
            any(),
            MessageFilter { template: old.clone(), ..any() },
            MessageFilter { template: old.clone(), domain: odd.clone(), ..any() },
            MessageFilter { template: new.clone(), status: Some(Status::Bounced), ..any() },
            MessageFilter { template: new, lane: Some(Lane::Journey), ..any() },
            MessageFilter { domain: odd.clone(), tag: odd.clone(), ..any() },
            MessageFilter { domain: odd.clone(), tag: even, lane: Some(Lane::Standard), ..any() },
            MessageFilter { domain: odd.clone(), status: Some(Status::Queued), ..any() },
            MessageFilter { recipient: Some("r3".into()), template: old, tag: odd, ..any() },
            MessageFilter { recipient: Some("nobody".into()), status: Some(Status::Queued), ..any() },
        ]
    }

    fn list<'a>(tenant: &'a TenantId, filter: &'a MessageFilter, suits: &'a dyn Fn(Status) -> bool) -> List<'a> {
        List { tenant, filter, suits, high: (i64::MAX, None) }
    }

    /// What an unprejudiced look finds: all rows, one by one.
    fn expected(connection: &Connection, filter: &MessageFilter) -> Vec<MessageId> {
        let sql = "SELECT id FROM message WHERE (?1 IS NULL OR template = ?1) AND (?2 IS NULL OR domain = ?2)
            AND (?3 IS NULL OR status = ?3) AND (?4 IS NULL OR lane = ?4) AND (?5 IS NULL OR recipient = ?5)
            AND (?6 IS NULL OR EXISTS (SELECT 1 FROM message_tag WHERE tag = ?6 AND message = id))
            ORDER BY accepted_at DESC, id DESC";
        let mut statement = connection.prepare(sql).unwrap();
        let params = rusqlite::params![
            filter.template,
            filter.domain,
            filter.status.map(Status::as_str),
            filter.lane.map(Lane::as_str),
            filter.recipient,
            filter.tag
        ];
        let ids = statement.query_map(params, |row| row.get::<_, [u8; 16]>(0)).unwrap();
        ids.map(|id| MessageId::from_uuid(uuid::Uuid::from_bytes(id.unwrap()))).collect()
    }

    #[test]
    fn pages_that_end_in_time_find_every_message_once_and_in_order() {
        let (_folder, connection) = store();
        let tenant: TenantId = "demo".parse().unwrap();
        for filter in filters() {
            let wanted = expected(&connection, &filter);
            for (limit, rows) in [(1000, 7), (10, 50), (9999, 9999)] {
                let (mut seen, mut pages) = (Vec::new(), 0);
                let filter = MessageFilter { limit, ..filter.clone() };
                let mut list = list(&tenant, &filter, &|_| true);
                loop {
                    let look = Look { rows, time: Some(Duration::ZERO) };
                    let page = list.page(&connection, (Asked::Places, look), &spot).unwrap();
                    assert!(page.found.len() <= limit);
                    seen.extend(page.found.iter().filter_map(|(_, id)| *id));
                    pages += 1;
                    let Some(next) = page.next else { break };
                    let at = connection.query_row(
                        "SELECT accepted_at FROM message WHERE id = ?1",
                        [next.as_bytes()],
                        |row| row.get(0),
                    );
                    list.high = (at.unwrap(), Some(next));
                }
                assert_eq!(seen, wanted, "{limit} {rows} {filter:?}");
                assert!(pages <= 1 + 3000, "{pages}");
                let mut counted = 0;
                list.high = (i64::MAX, None);
                let mut take = |cells: &Cells<'_>| {
                    counted += cells.plain::<u32>("messages")?;
                    Ok(())
                };
                list.counts(&connection, rows, &mut take).unwrap();
                assert_eq!(usize::try_from(counted).unwrap(), wanted.len(), "{rows} {filter:?}");
            }
        }
    }

    #[test]
    fn what_hardly_meets_is_given_up_in_time_and_what_lies_apart_is_passed_in_one_leap() {
        let (_folder, connection) = store();
        let tenant: TenantId = "demo".parse().unwrap();
        let any = || MessageFilter { limit: 10, ..MessageFilter::default() };
        let windows = |filter: &MessageFilter| {
            let (list, mut high, mut walks) = (list(&tenant, filter, &|_| true), Some((i64::MAX, None)), Vec::new());
            while let Some(below) = high {
                let window = list.window(&connection, below, 100).unwrap();
                walks.push(window.walk);
                high = window.low;
            }
            walks
        };
        // 1,500 of each, and no mail has both.
        let never = MessageFilter { domain: Some("odd".into()), tag: Some("odd".into()), ..any() };
        assert_eq!(windows(&never).len(), 16);
        let look = Look { rows: 100, time: Some(Duration::ZERO) };
        let page = list(&tenant, &never, &|_| true).page(&connection, (Asked::Places, look), &spot).unwrap();
        assert!(page.found.is_empty() && page.next.is_some(), "it goes on from there");
        // 30 of this state, whatever the template.
        let rare = MessageFilter { template: Some("new".into()), status: Some(Status::Bounced), ..any() };
        assert_eq!(windows(&rare), [Walk::Standing]);
        // The old ones are not looked for among the new ones, 1,500 mails long.
        let apart = MessageFilter { template: Some("old".into()), domain: Some("odd".into()), ..any() };
        assert_eq!(windows(&apart)[0], Walk::Template);
        // A verb that suits few states looks at these alone, however many have ended.
        let suits = |status| status == Status::Bounced;
        let filter = MessageFilter { template: Some("new".into()), ..any() };
        assert_eq!(
            list(&tenant, &filter, &suits).window(&connection, (i64::MAX, None), 100).unwrap().walk,
            Walk::Standing
        );
    }
}
