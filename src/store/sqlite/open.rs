//! From a path to connections: the file and its rights, the locks, the schema, the settings of every connection.
//!
//! Two locks stand beside the database. `<db>.lock` is held by a gateway as long as it lives, so that two gateways
//! never serve one store. `<db>.opening` is held for a moment by whoever opens, so that one migrates at a time. Both are
//! `flock`s: they end with the process that holds them, however it ends, and the files may stay.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::checkpoint::LOG_PAGES_MAX;
use crate::store::StoreError;

/// How long a writer waits for another process that writes.
const BUSY_WAIT: Duration = Duration::from_secs(10);
/// How often it looks meanwhile. SQLite's own waiting grows to 100 ms, which never meets the gap of a busy gateway.
const BUSY_POLL: Duration = Duration::from_millis(1);
/// How long emptying the log waits for those who read from it. Whoever writes waits as long.
const EMPTY_WAIT: Duration = Duration::from_millis(5);
/// What may remain of the log's file after all of it was moved.
const WAL_BYTES_MAX: u32 = 64 << 20;
/// Page cache of the writer, and of each reader, in KiB. SQLite walks all of the writer's at most commits (a page that was
/// moved for a moment had a number beyond the end): a larger one costs more than it saves, what it misses being in the
/// kernel's memory. It must hold what one batch changes.
const WRITER_CACHE_KIB: i32 = 12_288;
const READER_CACHE_KIB: i32 = 8_192;
/// Prepared statements kept by each connection: more than there are.
const STATEMENTS_MAX: usize = 128;

mod migrations {
    refinery::embed_migrations!("src/store/migrations/sqlite");
}

/// What opens a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The gateway: one at a time.
    Gateway,
    /// An operator's command, beside a running gateway or without one.
    Command,
    /// A command's own store, gone when it ends: nothing is synced.
    Scratch,
}

/// Where the database is. Opens connections to it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    path: PathBuf,
}

/// A store that was just opened.
pub(super) struct Opened {
    /// Where.
    pub(super) place: Place,
    /// The writer's connection.
    pub(super) connection: Connection,
    /// The gateway's lock, held while this lives.
    pub(super) lock: Option<File>,
}

/// Makes sure that file and schema are there and takes the locks the role asks for.
pub(super) fn open(path: &Path, role: Role) -> Result<Opened, StoreError> {
    let place = Place { path: create(path).map_err(|error| cannot(path, &error))? };
    let opening = open_beside(&place.path, "opening").map_err(|error| cannot(path, &error))?;
    let lock = match role {
        Role::Gateway => Some(lock(&place.path)?),
        Role::Command | Role::Scratch => None,
    };
    opening.lock().map_err(|error| cannot(path, &error))?;
    let mut connection = place.connect_writer().map_err(|error| cannot(path, &error))?;
    match role {
        Role::Gateway | Role::Command => {}
        Role::Scratch => {
            connection.pragma_update(None, "synchronous", "OFF").map_err(|error| cannot(path, &error))?;
        }
    }
    migrate(&mut connection).map_err(|error| cannot(path, &error))?;
    Ok(Opened { place, connection, lock })
}

fn cannot(path: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Open(format!("{}: {error}", path.display()))
}

/// Creates folder and file, for nobody else to read, and returns the file's one true path.
fn create(path: &Path) -> io::Result<PathBuf> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        // A relative path's last ancestor is empty and exists nowhere: it is where we stand.
        let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let missing: Vec<&Path> = folder.ancestors().take_while(is_missing).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        for made in missing {
            sync_name(made)?;
        }
    }
    if !fs::exists(path)? {
        File::options().create(true).append(true).mode(0o600).open(path)?.sync_all()?;
        sync_name(path)?;
    }
    fs::canonicalize(path)
}

/// A new file or folder is durable when its name is: the folder that holds it is synced.
fn sync_name(path: &Path) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    File::open(path.parent().unwrap_or(&path))?.sync_all()
}

fn open_beside(path: &Path, extension: &str) -> io::Result<File> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".");
    beside.push(extension);
    // Append, not write: what a lock file holds is nobody's business.
    File::options().create(true).append(true).mode(0o600).open(PathBuf::from(beside))
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let lock = open_beside(path, "lock").map_err(|error| cannot(path, &error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.display().to_string())),
        Err(TryLockError::Error(error)) => Err(cannot(path, &error)),
    }
}

/// Brings the schema up to this version; the caller holds the `opening` lock.
fn migrate(connection: &mut Connection) -> Result<(), Box<dyn std::error::Error>> {
    let runner = migrations::migrations::runner();
    let known = runner.get_migrations().iter().map(refinery::Migration::version).max();
    let applied = if connection.table_exists(None, "refinery_schema_history")? {
        runner.get_last_applied_migration(connection)?.map(|last| last.version())
    } else {
        None
    };
    if applied > known {
        return Err("it was written by a newer version of Postern; use that version, or a backup".into());
    }
    if applied < known {
        // A migration that copies rows is checked like any other hand's work.
        connection.pragma_update(None, "ignore_check_constraints", "OFF")?;
        runner.run(connection)?;
        connection.pragma_update(None, "ignore_check_constraints", "ON")?;
    }
    ensure_secret(connection, "subject-secret")?;
    ensure_secret(connection, "key-pepper")?;
    ensure_secret(connection, "unsubscribe-key")?;
    ensure_secret(connection, "return-path-key")
}

fn ensure_secret(connection: &Connection, name: &str) -> Result<(), Box<dyn std::error::Error>> {
    if secret(connection, name).is_ok() {
        return Ok(());
    }
    let mut fresh = [0_u8; 32];
    getrandom::fill(&mut fresh)?;
    let sql = r"-- ensure_secret
        INSERT INTO meta (name, value) VALUES (:name, :value) ON CONFLICT DO NOTHING";
    connection.execute(sql, rusqlite::named_params! { ":name": name, ":value": fresh })?;
    Ok(())
}

/// One of the store's own random keys.
pub(super) fn secret(connection: &Connection, name: &str) -> Result<[u8; 32], rusqlite::Error> {
    let sql = r"-- secret
        SELECT value FROM meta WHERE name = :name";
    connection.query_row(sql, rusqlite::named_params! { ":name": name }, |row| row.get(0))
}

/// Runs `work` on a writer's connection that waits for others no longer than `longest`.
pub(super) fn waiting_at_most<T>(
    connection: &mut Connection,
    longest: Duration,
    work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
) -> Result<T, rusqlite::Error> {
    wait_for_others(connection, longest)?;
    let done = work(connection);
    wait_for_others(connection, BUSY_WAIT)?;
    done
}

/// Moves all of the log into the database and cuts it to nothing, so that no earlier state is left in it; `false`:
/// somebody reads from it.
pub(super) fn empty_log(connection: &mut Connection) -> bool {
    let emptied = waiting_at_most(connection, EMPTY_WAIT, |connection| {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
    });
    matches!(emptied, Ok(0))
}

fn wait_for_others(connection: &mut Connection, longest: Duration) -> Result<(), rusqlite::Error> {
    let polls_max = longest.as_millis() / BUSY_POLL.as_millis();
    connection.busy_handler(Some(move |polls: i32| {
        #[expect(
            clippy::disallowed_methods,
            reason = "SQLite asks its own thread to wait for another one or a process"
        )]
        std::thread::sleep(BUSY_POLL);
        u128::try_from(polls).is_ok_and(|polls| polls < polls_max)
    }))
}

impl Place {
    /// A connection that writes.
    pub(super) fn connect_writer(&self) -> Result<Connection, rusqlite::Error> {
        let mut connection = self.connect()?;
        // Told before anything is asked of the file: SQLite would make a `-shm` as read-only as the file, and leave it.
        if connection.is_readonly(rusqlite::MAIN_DB)? {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
            return Err(rusqlite::Error::SqliteFailure(code, Some("the file is read-only".to_owned())));
        }
        wait_for_others(&mut connection, BUSY_WAIT)?;
        // For each check of a word against a list SQLite makes a temporary table, at each row: a fifth of the writer's time.
        // What we write are enums; the checks are for people who change rows by hand.
        connection.pragma_update(None, "ignore_check_constraints", "ON")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        // What is removed is overwritten where it stood; the rest of an erased address goes by `scrubbing`.
        connection.pragma_update(None, "secure_delete", "ON")?;
        connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES_MAX)?;
        connection.pragma_update(None, "journal_size_limit", WAL_BYTES_MAX)?;
        connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
        Ok(connection)
    }

    /// A connection that cannot write.
    pub(super) fn connect_reader(&self) -> Result<Connection, rusqlite::Error> {
        let connection = self.connect()?;
        connection.busy_timeout(BUSY_WAIT)?;
        connection.pragma_update(None, "query_only", "ON")?;
        connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
        Ok(connection)
    }

    fn connect(&self) -> Result<Connection, rusqlite::Error> {
        // Without CREATE: a file that was moved away under us is an error, not a fresh and empty store.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        // A plan depends on the statement alone: without this, a statement on a partial index is prepared anew whenever
        // other values are bound, at ten times the cost of running it.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "trusted_schema", "OFF")?;
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    #[test]
    fn a_key_made_before_there_were_limits_of_keys_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let mut old = Connection::open(&path).unwrap();
        migrations::migrations::runner().set_target(refinery::Target::Version(2)).run(&mut old).unwrap();
        let sql = "INSERT INTO api_key (id, tenant, name, scopes, mac, created_at)
            VALUES (randomblob(16), 'demo', 'n', 'send', randomblob(32), 1)";
        old.execute(sql, []).unwrap();
        drop(old);
        let now = open(&path, Role::Command).unwrap().connection;
        let limit: Option<String> = now.query_row("SELECT request_limit FROM api_key", [], |row| row.get(0)).unwrap();
        assert_eq!(limit, None);
    }

    #[test]
    fn messages_kept_before_there_was_metadata_to_search_are_found_by_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let mut old = Connection::open(&path).unwrap();
        migrations::migrations::runner().set_target(refinery::Target::Version(1)).run(&mut old).unwrap();
        let sql = "INSERT INTO message (id, tenant, lane, status, deliver_by, accepted_at, domain, recipient, mailbox,
                envelope_sender, subject, tags, metadata, message_id)
            VALUES (randomblob(16), 'demo', 'standard', 'queued', 9, 7, 'd', 'r', 'm', 'e', 's', '[]', ?1, '<m>')";
        for metadata in [r#"{"order":"17","shop no. 1":"é"}"#, "{}", "not JSON", r#"{"order":{"a":1},"n":1}"#] {
            old.execute(sql, [metadata]).unwrap();
        }
        drop(old);
        let now = open(&path, Role::Command).unwrap().connection;
        let mut pairs = now.prepare("SELECT tenant || key || value || accepted_at FROM message_metadata").unwrap();
        let pairs: Result<Vec<String>, _> = pairs.query_map([], |row| row.get(0)).unwrap().collect();
        assert_eq!(pairs.unwrap(), ["demoorder177", "demoshop no. 1é7"]);
        let facts: i64 =
            now.query_row("SELECT count(*) FROM message WHERE fact IS NULL", [], |row| row.get(0)).unwrap();
        assert_eq!(facts, 4);
    }
}
