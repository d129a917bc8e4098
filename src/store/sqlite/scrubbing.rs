//! Scrubbing: what was erased is found nowhere in the files, also not where SQLite itself would leave it.
//!
//! `secure_delete` overwrites what is deleted where it stands. But rows move: when a tree is balanced, cells go to a
//! neighbouring page and the page they came from is built anew from its end (`rebuildPage` of SQLite's `btree.c`). Between
//! its pointers and its first cell the bytes stay as they were, copies that nothing points to of rows that are deleted
//! later, elsewhere. And the write-ahead log holds earlier states of whole pages.
//!
//! ```text
//! erased ─▶ meta: from page 1 ─▶ 256 pages at a time: unused bytes are zeroed ─▶ meta: the log ─▶ log emptied ─▶ no row
//!              ▲  whoever erases meanwhile: from page 1 again  │                       │ somebody reads: tried again
//!              └───────────────────────────────────────────────┴───────────────────────┘
//! ```
//!
//! What is to be done is a row that is written with what was erased: a process that dies, or a command that ends beside a
//! gateway, leaves it to the next one. Only bytes that no reader looks at are changed, through SQLite's own pager
//! (`sqlite_dbpage`), in transactions like all others.

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

/// Whether there is anything to do.
pub(super) fn is_due(connection: &Connection) -> Result<bool, Fault> {
    Ok(next(connection)?.is_some())
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

/// Looks through the next pages, at most `limit`; after the last of them the log is emptied behind the transaction.
pub(super) fn step(connection: &Writing<'_>, limit: usize) -> Result<Scrubbed, Fault> {
    let Some(from) = next(connection)? else { return Ok(Scrubbed::All) };
    if from == LOG {
        connection.empties_log.set(true);
        return Ok(Scrubbed::Pages);
    }
    let count: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    if count >= PAGES_MAX {
        let too_big = ffi::Error::new(ffi::SQLITE_TOOBIG);
        return Err(rusqlite::Error::SqliteFailure(too_big, Some("too many pages: run VACUUM".to_owned())).into());
    }
    let until = from.saturating_add(i64::try_from(limit).unwrap_or(i64::MAX)).min(count + 1);
    for number in from..until {
        scrub(connection, number)?;
    }
    if until <= count {
        go_on_from(connection, until)?;
        return Ok(Scrubbed::Partly);
    }
    go_on_from(connection, LOG)?;
    connection.empties_log.set(true);
    Ok(Scrubbed::Pages)
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

/// Zeroes what lies between the pointers and the cells of a page of a tree; whether there was anything else. Source:
/// <https://www.sqlite.org/fileformat2.html#b_tree_pages>.
fn zero_unused(page: &mut [u8], is_first: bool) -> bool {
    // The first page begins with the header of the file.
    let head = if is_first { 100 } else { 0 };
    let word = |at: usize| page.get(at..at + 2).map(|bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])));
    let header = match page.get(head) {
        Some(2 | 5) => 12,
        Some(10 | 13) => 8,
        _ => return false,
    };
    let (Some(cells), Some(content)) = (word(head + 3), word(head + 5)) else { return false };
    // Nothing stands for 65,536.
    let content = if content == 0 { 65_536 } else { content };
    let Some(unused) = page.get_mut(head + header + 2 * cells..content) else { return false };
    let is_dirty = unused.iter().any(|byte| *byte != 0);
    unused.fill(0);
    is_dirty
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
