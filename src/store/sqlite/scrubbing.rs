//! Scrubbing: what was erased is found nowhere in the files, also not where SQLite itself would leave it.
//!
//! `secure_delete` overwrites what is deleted where it stands. But rows move: when a tree is balanced, cells go to a
//! neighbouring page and the page they came from is built anew from its end (`rebuildPage` of SQLite's `btree.c`). Between
//! its pointers and its first cell the bytes stay as they were, copies that nothing points to of rows that are deleted
//! later, elsewhere. And the write-ahead log holds earlier states of whole pages.
//!
//! ```text
//! erased ─▶ meta: from page 1 ─▶ a reader looks through some pages ─▶ the writer zeroes the unused bytes of those that
//!              ▲                    need it, and notes the next page ─▶ … ─▶ meta: the log ─▶ log emptied ─▶ no row
//!              └── whoever erases meanwhile: from page 1 again                │ somebody reads: tried again
//! ```
//!
//! What is to be done is a row that is written with what was erased: a process that dies, or a command that ends beside a
//! gateway, leaves it to the next one. Only bytes that no reader looks at are changed, through SQLite's own pager
//! (`sqlite_dbpage`), in transactions like all others. Looking is a reader's, so that mails have the writer to themselves:
//! few pages need anything. One that was looked at stays clean, as what is erased is copied nowhere any more.

use std::ops::Range;

use rusqlite::{Connection, OptionalExtension as _, ffi, named_params};

use super::fault::Fault;
use super::writer::Writing;
use crate::store::Scrubbed;

/// The row of `meta` that says where to go on: the number of a page as eight bytes, or [`LOG`].
const NAME: &str = "scrub-from";
/// Instead of a page: all of them are done, the log is next.
const LOG: i64 = 0;
/// Pages are told from overflow pages by their first byte, which in those is the highest of a page's number: below this
/// many (128 GiB) it is none that a page of a tree begins with.
const PAGES_MAX: i64 = 1 << 25;
/// So many pages are changed in one transaction at most.
const DIRTY_MAX: usize = 256;

/// Has all pages looked through, as something was erased in this transaction.
pub(super) fn begin(connection: &Writing<'_>) -> Result<(), Fault> {
    go_on_from(connection, 1)
}

fn go_on_from(connection: &Writing<'_>, page: i64) -> Result<(), Fault> {
    let sql = r"-- scrub_from
        INSERT INTO meta (name, value) VALUES (:name, :value) ON CONFLICT DO UPDATE SET value = excluded.value";
    connection.prepare_cached(sql)?.execute(named_params! { ":name": NAME, ":value": page.to_be_bytes() })?;
    Ok(())
}

fn next(connection: &Connection) -> Result<Option<i64>, Fault> {
    let sql = r"-- scrub_next
        SELECT value FROM meta WHERE name = :name";
    let value: Option<[u8; 8]> = connection
        .prepare_cached(sql)?
        .query_row(named_params! { ":name": NAME }, |row| row.get("value"))
        .optional()?;
    Ok(value.map(i64::from_be_bytes))
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing.
    Nothing,
    /// These pages, and whatever comes after them.
    Pages(Look),
    /// The log.
    Log,
}

/// Pages that a reader looked through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    /// The first of them.
    from: i64,
    /// Those with something in their unused bytes.
    dirty: Vec<i64>,
    /// Where to go on; `None`: these were the last.
    next: Option<i64>,
}

/// Looks through the next pages, at most `limit` and until [`DIRTY_MAX`] need something.
pub(super) fn look(connection: &Connection, limit: usize) -> Result<Due, Fault> {
    // One snapshot: where to look, and what is there.
    let transaction = connection.unchecked_transaction()?;
    let from = match next(&transaction)? {
        None => return Ok(Due::Nothing),
        Some(LOG) => return Ok(Due::Log),
        Some(from) => from,
    };
    let count: i64 = transaction.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    if count >= PAGES_MAX {
        let too_big = ffi::Error::new(ffi::SQLITE_TOOBIG);
        return Err(rusqlite::Error::SqliteFailure(too_big, Some("too many pages: run VACUUM".to_owned())).into());
    }
    let until = from.saturating_add(i64::try_from(limit).unwrap_or(i64::MAX)).min(count + 1);
    let sql = r"-- page_to_look_at
        SELECT data FROM sqlite_dbpage WHERE pgno = :number";
    let mut statement = transaction.prepare_cached(sql)?;
    let (mut dirty, mut number) = (Vec::new(), from);
    while number < until && dirty.len() < DIRTY_MAX {
        let mut rows = statement.query(named_params! { ":number": number })?;
        if let Some(row) = rows.next()?
            && let Ok(page) = row.get_ref("data")?.as_blob()
            && unused(page, number == 1).is_some_and(|unused| page[unused].iter().any(|byte| *byte != 0))
        {
            dirty.push(number);
        }
        number += 1;
    }
    Ok(Due::Pages(Look { from, dirty, next: (number <= count).then_some(number) }))
}

/// Zeroes what a reader found; after the last pages the log is emptied behind the transaction.
pub(super) fn clean(connection: &Writing<'_>, look: &Look) -> Result<Scrubbed, Fault> {
    // Somebody erased meanwhile, or another process was faster: what was looked at is not where to go on.
    if next(connection)? != Some(look.from) {
        return Ok(Scrubbed::Partly);
    }
    for number in &look.dirty {
        scrub(connection, *number)?;
    }
    if let Some(next) = look.next {
        go_on_from(connection, next)?;
        return Ok(Scrubbed::Partly);
    }
    go_on_from(connection, LOG)?;
    Ok(leave_log(connection))
}

/// Has the log emptied behind the transaction.
pub(super) fn leave_log(connection: &Writing<'_>) -> Scrubbed {
    connection.empties_log.set(true);
    Scrubbed::Pages
}

/// Nothing is left to be done: the log was emptied. Unless somebody erased meanwhile.
pub(super) fn finish(connection: &Connection) -> Result<(), rusqlite::Error> {
    let sql = r"-- scrub_done
        DELETE FROM meta WHERE name = :name AND value = :log";
    let params = named_params! { ":name": NAME, ":log": LOG.to_be_bytes() };
    connection.prepare_cached(sql)?.execute(params).map(drop)
}

fn scrub(connection: &Connection, number: i64) -> Result<(), Fault> {
    let read = r"-- page_to_scrub
        SELECT data FROM sqlite_dbpage WHERE pgno = :number";
    let write = r"-- scrub_page
        UPDATE sqlite_dbpage SET data = :data WHERE pgno = :number";
    let params = named_params! { ":number": number };
    let page: Option<Vec<u8>> = connection.prepare_cached(read)?.query_row(params, |row| row.get(0)).optional()?;
    let Some(mut page) = page else { return Ok(()) };
    if zero_unused(&mut page, number == 1) {
        connection.prepare_cached(write)?.execute(named_params! { ":number": number, ":data": page })?;
    }
    Ok(())
}

/// Zeroes the unused bytes of a page; whether there was anything in them.
fn zero_unused(page: &mut [u8], is_first: bool) -> bool {
    let Some(unused) = unused(page, is_first) else { return false };
    let unused = &mut page[unused];
    let is_dirty = unused.iter().any(|byte| *byte != 0);
    unused.fill(0);
    is_dirty
}

/// Where between the pointers and the cells of a page of a tree nothing is; `None`: it is no such page. Source:
/// <https://www.sqlite.org/fileformat2.html#b_tree_pages>.
fn unused(page: &[u8], is_first: bool) -> Option<Range<usize>> {
    // The first page begins with the header of the file.
    let head = if is_first { 100 } else { 0 };
    let word = |at: usize| page.get(at..at + 2).map(|bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])));
    let header = match page.get(head)? {
        2 | 5 => 12,
        10 | 13 => 8,
        _ => return None,
    };
    let (cells, content) = (word(head + 3)?, word(head + 5)?);
    // Nothing stands for 65,536.
    let content = if content == 0 { 65_536 } else { content };
    let unused = head + header + 2 * cells..content;
    page.get(unused.clone()).map(|_| unused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_between_pointers_and_cells_is_zeroed() {
        let mut leaf = vec![7; 64];
        leaf[..12].copy_from_slice(&[13, 0, 0, 0, 2, 0, 40, 0, 0, 50, 0, 40]);
        let mut clean = leaf.clone();
        clean[12..40].fill(0);
        assert!(zero_unused(&mut leaf, false));
        assert_eq!(leaf, clean);
        assert!(!zero_unused(&mut leaf, false), "there is nothing more");
    }

    #[test]
    fn what_is_no_page_of_a_tree_or_makes_no_sense_stays_as_it_is() {
        for begin in [&[0, 0, 0, 9, 7, 7, 7, 7][..], &[13, 0, 0, 0, 2, 0, 9, 0], &[13, 0, 0, 255, 255, 0, 40, 0], &[13]]
        {
            let mut page = vec![7; if begin.len() == 1 { 1 } else { 64 }];
            page[..begin.len()].copy_from_slice(begin);
            let before = page.clone();
            assert!(!zero_unused(&mut page, false));
            assert_eq!(page, before);
        }
        assert!(!zero_unused(&mut [], true));
    }
}
