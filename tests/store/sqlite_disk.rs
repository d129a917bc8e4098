//! A disk that fills up or refuses to be written, in a process of its own: nothing is accepted, nothing dies, and it
//! goes on when the disk does.
//!
//! The child is this very test binary, started through the shell: `ulimit` gives its files a largest size (writes
//! beyond fail with EFBIG, which SQLite reports as an I/O error) and `setpriv` takes root's right to write anything.

use std::cell::Cell;
use std::path::Path;
use std::process::{Command, Output};

use futures_util::future::{join, join_all};
use postern::store::sqlite::Role;
use postern::store::{MessageFilter, Store, StoreError};

use crate::harness::*;
use crate::sqlite::open;

/// Where a child finds its folder.
const FOLDER: &str = "POSTERN_TEST_FOLDER";

/// Runs this test once more, in a process of its own that finds the folder.
fn child(test: &str, folder: &Path, before: &str) -> Output {
    let script = format!("trap '' XFSZ; {before} exec \"$0\" --exact sqlite_disk::{test} --nocapture");
    let binary = std::env::current_exe().unwrap();
    Command::new("sh").arg("-c").arg(script).arg(binary).env(FOLDER, folder).output().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "how a parent tells its child where to work")]
fn folder() -> Option<std::path::PathBuf> {
    std::env::var_os(FOLDER).map(Into::into)
}

fn block_on(child: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(child);
}

fn assert_ran(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn a_full_disk_accepts_nothing_and_recovers_by_itself() {
    if let Some(folder) = folder() {
        return block_on(on_a_full_disk(folder));
    }
    let folder = tempfile::tempdir().unwrap();
    // Blocks of 512 bytes: 1 MiB, a soft limit that the child can lift.
    assert_ran(&child("a_full_disk_accepts_nothing_and_recovers_by_itself", folder.path(), "ulimit -S -f 2048 &&"));
}

async fn on_a_full_disk(folder: std::path::PathBuf) {
    let store = open(&folder.join("store.db"), Role::Gateway).unwrap();
    let (mut accepted, mut refused) = (vec![], vec![]);
    for n in 0..150_u32 {
        let mut message = mail(&format!("user{n}@example.com"));
        message.mime = (0..20_000_u32).map(|i| (i ^ n).wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        let id = message.id;
        match store.accept(message).await {
            Ok(_) => accepted.push(id),
            Err(StoreError::NotPersisted { .. }) => refused.push(id),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(!accepted.is_empty() && refused.len() > 20, "{} accepted, {} refused", accepted.len(), refused.len());
    // A small write may still find room where a mail did not; soon none does.
    let mut small = 0;
    while store.probe(at(1)).await.is_ok() {
        small += 1;
        assert!(small < 1_000, "the disk never filled up");
    }
    assert!(matches!(store.probe(at(1)).await, Err(StoreError::NotPersisted { .. })));
    for id in &refused {
        assert!(store.message(&tenant("demo"), *id).await.unwrap().is_none(), "refused, but kept");
    }
    // The disk has room again.
    let pid = std::process::id().to_string();
    assert!(Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status().unwrap().success());
    store.probe(at(2)).await.unwrap();
    let later = queued(&store, "later@example.com").await;
    let seq = store.leaves(&tenant("demo"), later).await.unwrap().unwrap()[0].seq;
    assert_eq!(seq, accepted.len() as u64, "what was refused left a gap in the log");
    for id in &accepted {
        assert!(store.outgoing(*id).await.unwrap().is_some(), "accepted, but lost");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_refused_by_name_until_it_can() {
    if let Some(folder) = folder() {
        return block_on(with_a_read_only_file(folder));
    }
    let folder = tempfile::tempdir().unwrap();
    // Root may write anything, so root's child is somebody else, with a copy of the binary that anybody can read.
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    if root {
        let copy = folder.path().join("tests");
        std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(folder.path(), everybody).unwrap();
        let test = "sqlite_disk::a_file_that_cannot_be_written_is_refused_by_name_until_it_can";
        let mut somebody = Command::new("setpriv");
        somebody.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(copy);
        let ran = somebody.args(["--exact", test, "--nocapture"]).env(FOLDER, folder.path()).output();
        assert_ran(&ran.unwrap());
    } else {
        assert_ran(&child("a_file_that_cannot_be_written_is_refused_by_name_until_it_can", folder.path(), ""));
    }
}

async fn with_a_read_only_file(folder: std::path::PathBuf) {
    let path = folder.join("mine/store.db");
    let store = open(&path, Role::Gateway).unwrap();
    let id = queued(&store, "ann@example.com").await;
    store.close().await;
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(&path, mode(0o400)).unwrap();
    let Err(StoreError::Open(message)) = open(&path, Role::Gateway) else { panic!("opened") };
    assert!(message.contains("readonly") || message.contains("read-only"), "{message}");
    std::fs::set_permissions(&path, mode(0o600)).unwrap();
    let store = open(&path, Role::Gateway).unwrap();
    assert!(store.outgoing(id).await.unwrap().is_some());
    store.probe(at(1)).await.unwrap();
}

#[tokio::test]
async fn the_log_stays_bounded_while_writing_and_reading_never_pause() {
    const MAILS: u64 = 960;
    const MAIL_BYTES: usize = 256 << 10;
    /// 64 MiB, and on a busy machine some steps in which the readers could not be waited for.
    const LOG_BYTES_MAX: u64 = 96 << 20;
    /// More than there are threads to answer them: one or the other is always in the middle of a list.
    const READERS: usize = 6;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path, Role::Gateway).unwrap();
    let send = |number| {
        let mut message = mail(&format!("a{number}@example.com"));
        // What cannot be compressed.
        message.mime = vec![0; MAIL_BYTES];
        fastrand::Rng::with_seed(number).fill(&mut message.mime);
        accept(&store, message)
    };
    let (ended, demo) = (Cell::new(false), tenant("demo"));
    let read = |_| async {
        while !ended.get() {
            store.messages(&demo, MessageFilter { limit: 200, ..MessageFilter::default() }).await.unwrap();
        }
    };
    let write = async {
        let mut largest = 0;
        for round in 0..MAILS / 8 {
            join_all((round * 8..round * 8 + 8).map(send)).await;
            largest = std::fs::metadata(path.with_extension("db-wal")).unwrap().len().max(largest);
        }
        ended.set(true);
        largest
    };
    let (largest, _) = join(write, join_all((0..READERS).map(read))).await;
    assert!((1 << 20..LOG_BYTES_MAX).contains(&largest), "{largest} bytes of log for {} of mail", MAILS * (256 << 10));
}
