//! The house rules that a compiler does not check: which room may use which, what belongs to one room only, and sizes.
//!
//! Reads `src/**` as text. A room is a file or folder directly under `src`. An arrow is any `crate::room` or
//! `super::…::room` in code, alone or in a group; comments and strings do not count. An arrow that is not in the table
//! below asks the design something: change the design first, then the table.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms by floor, the highest first. A room may use the rooms of every floor below its own.
const FLOORS: [(&str, &[&str]); 5] = [
    ("hall", &["main", "lib", "cli", "config", "app", "lifecycle", "telemetry"]),
    ("doors", &["http", "hatch"]),
    (
        "work",
        &[
            "audit", "intake", "brake", "delivery", "courier", "keys", "steering", "wallet", "contacts", "push",
            "journeys", "sweep", "bounces",
        ],
    ),
    ("tools", &["store", "inbox", "compose", "clock", "templates", "limits", "outgoing", "audit_log"]),
    ("words", &["domain"]),
];

/// Arrows within a floor that are allowed besides. In the hall everybody knows everybody.
const SIDEWAYS: [(&str, &str); 9] = [
    // Every mail passes both, and the brake knows nothing of intake.
    ("intake", "brake"),
    ("delivery", "courier"),
    ("journeys", "intake"),
    ("wallet", "intake"),
    // Tools that are given a clock, and a store that hashes its leaves.
    ("store", "clock"),
    ("inbox", "clock"),
    ("limits", "clock"),
    ("outgoing", "clock"),
    ("store", "audit_log"),
];

/// What only some places may name, and where: paths under `src`, a folder or a file with `.rs`.
const ONLY_IN: [(&str, &[&str]); 20] = [
    ("actix_web", &["http", "app", "cli", "main.rs"]),
    ("actix_rt", &["http", "app", "cli", "main.rs"]),
    ("actix_http", &["http", "app", "cli", "main.rs"]),
    ("rusqlite", &["store"]),
    ("refinery", &["store"]),
    ("lettre", &["courier", "compose", "compose.rs"]),
    // One client for every call that an operator configures, so that its rules hold for all.
    ("reqwest", &["outgoing"]),
    ("std::env", &["config"]),
    ("Timestamp::now", &["clock.rs"]),
    ("Zoned::now", &["clock.rs"]),
    ("SystemTime::now", &["clock.rs"]),
    ("time::sleep", &["clock.rs"]),
    // SQLite calls back on its own thread to wait for another process that writes.
    ("thread::sleep", &["clock.rs", "store/sqlite/open.rs"]),
    ("tokio::spawn", SPAWNERS),
    ("spawn_blocking", SPAWNERS),
    ("JoinSet", SPAWNERS),
    ("TaskTracker", SPAWNERS),
    ("thread::spawn", SPAWNERS),
    ("thread::Builder", SPAWNERS),
    ("LocalSet", SPAWNERS),
];
/// The one place that spawns, the dispatcher's attempts, the database's threads, the capture server's connections, the
/// threads with a large stack that templates are rendered on.
const SPAWNERS: &[&str] = &["lifecycle.rs", "delivery", "store/sqlite", "inbox", "templates"];

/// Names that say nothing.
const EMPTY_NAMES: [&str; 7] = ["utils", "common", "helpers", "types", "models", "services", "manager"];
const LINES_MAX: usize = 450;

/// A source file.
struct Source {
    /// Under `src`, with `/`.
    path: String,
    text: String,
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|(_, rooms)| rooms.contains(&room))
}

fn room_of(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or(path);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn is_allowed(from: &str, to: &str) -> bool {
    if from == to {
        return true;
    }
    match (floor_of(from), floor_of(to)) {
        (Some(0), Some(0)) => true,
        (Some(from_floor), Some(to_floor)) => from_floor < to_floor || SIDEWAYS.contains(&(from, to)),
        _ => false,
    }
}

/// Everything wrong with one file.
fn complaints(source: &Source) -> Vec<String> {
    let Source { path, text } = source;
    let mut found = Vec::new();
    let room = room_of(path);
    if floor_of(room).is_none() {
        found.push(format!("{path}: the room {room} is on no floor"));
    }
    let first = text.lines().next().unwrap_or_default();
    if first.strip_prefix("//! ").is_none_or(|sentence| sentence.len() <= 10) {
        found.push(format!("{path}: the first line is not `//! ` and a sentence"));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        found.push(format!("{path}: {lines} lines, more than {LINES_MAX}"));
    }
    for part in path.split('/') {
        if EMPTY_NAMES.contains(&part.strip_suffix(".rs").unwrap_or(part)) {
            found.push(format!("{path}: the name {part} says nothing"));
        }
    }
    let code = without_comments_and_strings(text);
    for to in rooms_used(path, &code) {
        if !is_allowed(room, &to) {
            found.push(format!("{path}: {room} may not use {to}"));
        }
    }
    // Tests beside the code may time out, spawn and look around as they like.
    if is_test_file(path) {
        return found;
    }
    let code = before_tests(&code);
    for (word, places) in ONLY_IN {
        if contains_word(code, word) && !places.iter().any(|place| is_within(path, place)) {
            found.push(format!("{path}: {word} belongs to {}", places.join(", ")));
        }
    }
    found
}

fn is_within(path: &str, place: &str) -> bool {
    path == place || path.strip_prefix(place).is_some_and(|rest| rest.starts_with('/')) || path == format!("{place}.rs")
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// The code before the module `tests` at the end of a file.
fn before_tests(code: &str) -> &str {
    let module = code.find("#[cfg(test)]\nmod tests {");
    module.map_or(code, |at| &code[..at])
}

/// The rooms that a file names through `crate::` or `super::`.
fn rooms_used(path: &str, code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if !is_boundary(code, at) {
            continue;
        }
        first_names(&code[at + "crate::".len()..], &mut rooms);
    }
    // How many `super` lead from this file to the root of the crate; a module inside the file needs one more each.
    let file = path.strip_suffix("/mod.rs").or_else(|| path.strip_suffix(".rs")).unwrap_or(path);
    let depth = file.split('/').count();
    let mut rest = code;
    while let Some(at) = rest.find("super::") {
        let after = rest[at..].trim_start_matches("super::");
        let count = (rest.len() - at - after.len()) / "super::".len();
        if is_boundary(rest, at) && count >= depth {
            let mut named = BTreeSet::new();
            first_names(after, &mut named);
            // From an inner module the same chain stays inside the room: only names that are rooms count.
            rooms.extend(named.into_iter().filter(|name| floor_of(name).is_some()));
        }
        rest = after;
    }
    rooms
}

/// The first name of each path that begins here: one, or those of a `{…}` group.
fn first_names(text: &str, into: &mut BTreeSet<String>) {
    let text = text.trim_start();
    let Some(group) = text.strip_prefix('{') else {
        let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        // Items at the root (macros) are not rooms; `crate::*` would hide an arrow and counts as one.
        into.insert(if text.starts_with('*') { "*".to_owned() } else { name });
        return;
    };
    let mut depth = 0;
    let mut at_start = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                at_start = true;
                continue;
            }
            _ => {}
        }
        if at_start && !c.is_whitespace() {
            first_names(&group[at..], into);
            at_start = false;
        }
    }
}

fn is_boundary(code: &str, at: usize) -> bool {
    !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$' || c == ':')
}

/// Whether a path or word begins with `word` somewhere: `time::sleep` is also found in `time::sleep_until`.
fn contains_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// The code with comments, string and character literals blanked; line breaks stay.
fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_string(rest).filter(|_| is_boundary(&code, code.len())) {
            length
        } else if c == '"' {
            quoted(rest)
        } else if c == '\'' {
            character(rest)
        } else {
            0
        };
        if skipped == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            code.push(' ');
            code.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
            rest = &rest[skipped..];
        }
    }
    code
}

/// The length of a raw string that begins here.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let inside = after[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = inside.find(&close).map_or(text.len(), |end| text.len() - inside.len() + end + close.len());
    Some(end)
}

fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        // The character behind the backslash is skipped: it may be a quote.
        Some((_, '\\')) => text[3.min(text.len())..].find('\'').map_or(0, |end| end + 4),
        Some(_) => chars.next().filter(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn the_house_is_as_it_is_drawn() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let files = sources(&root);
    for file in &files {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
        found.extend(complaints(&Source { path, text: fs::read_to_string(file).unwrap() }));
    }
    assert!(files.len() > 10, "the sources were not found");
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

fn complaints_about(path: &str, code: &str) -> Vec<String> {
    complaints(&Source { path: path.to_owned(), text: format!("//! A file made up for this test.\n{code}\n") })
}

#[test]
fn an_arrow_upwards_or_sideways_is_found_however_it_is_written() {
    for (path, code) in [
        ("domain/ids.rs", "use crate::store::Store;"),
        ("domain/mod.rs", "use crate::store;"),
        ("intake.rs", "use crate::{clock::Clock, http};"),
        ("intake.rs", "use crate::{\n    clock::{Clock, SystemClock},\n    http::api::{self, x},\n};"),
        ("intake.rs", "use crate::{clock::Clock, {http::api}};"),
        ("intake.rs", "use super::http;"),
        ("intake.rs", "fn f() { crate::delivery::wake() }"),
        ("intake.rs", "pub(in crate::http) fn f() {}"),
        ("store/sqlite/open.rs", "use super::super::super::intake::Intake;"),
        ("store/mod.rs", "use super::{domain, intake};"),
        ("courier/mod.rs", "use crate::delivery;"),
        ("http/mod.rs", "use crate::lifecycle::Tasks;"),
        ("http/mod.rs", "use crate::config::Config;"),
        ("clock.rs", "use crate::*;"),
        ("clock.rs", "use crate::attic::Old;"),
        ("clock.rs", "let x = 'a'; let y: &'static str = \"\\\"\"; use crate::http;"),
        ("clock.rs", "let x = '\\''; use crate::http; let y = r#\"\"#;"),
    ] {
        assert_eq!(complaints_about(path, code).len(), 1, "{path}: {code}");
    }
}

#[test]
fn an_arrow_downwards_and_what_only_looks_like_one_is_allowed() {
    for (path, code) in [
        ("intake.rs", "use crate::{clock::Clock, domain, store::{Store, settings}};"),
        ("http/api/emails.rs", "use crate::intake::Intake;\nuse super::super::problem::Problem;"),
        ("delivery/attempt.rs", "use crate::courier::Courier;"),
        ("journeys/mod.rs", "use crate::intake::Intake;"),
        ("app/mod.rs", "use crate::cli::x; use crate::config::Config; use crate::http;"),
        ("clock.rs", "// use crate::http;\n/* crate::http */ const X: &str = \"crate::http\";"),
        ("clock.rs", "const X: &str = r#\"\"crate::http\"#; const Y: char = '\"'; const Z: &str = \"crate::http\";"),
        ("domain/ids.rs", "pub(crate) fn f() {}\nmod tests { use super::super::tenant; }"),
        ("store/mod.rs", "use $crate::http;"),
    ] {
        assert_eq!(complaints_about(path, code), Vec::<String>::new(), "{path}: {code}");
    }
}

#[test]
fn what_belongs_to_one_room_is_found_elsewhere() {
    for (path, code) in [
        ("intake.rs", "use actix_web::web;"),
        ("delivery/mod.rs", "use rusqlite::Connection;"),
        ("intake.rs", "use lettre::Message;"),
        ("cli/mod.rs", "let x = std::env::var(\"X\");"),
        ("intake.rs", "let now = Timestamp::now();"),
        ("delivery/mod.rs", "tokio::time::sleep(x).await;"),
        ("http/mod.rs", "tokio::spawn(x);"),
        ("store/mod.rs", "std::thread::spawn(x);"),
        ("courier/pool.rs", "use tokio::task::JoinSet;"),
        ("app/mod.rs", "tokio::task::spawn_blocking(x);"),
        ("http/mod.rs", "std::thread::Builder::new();"),
    ] {
        assert_eq!(complaints_about(path, code).len(), 1, "{path}: {code}");
    }
    for (path, code) in [
        ("store/sqlite/writer.rs", "std::thread::Builder::new(); use rusqlite::Connection;"),
        ("inbox/mod.rs", "use tokio::task::JoinSet;"),
        ("compose.rs", "use lettre::Message;"),
        ("config/environment.rs", "std::env::vars_os();"),
        ("intake.rs", "#[cfg(test)]\nmod tests { fn f() { tokio::spawn(x); } }"),
        ("inbox/tests.rs", "use lettre::Message;"),
        ("intake.rs", "my_std::env_x();"),
    ] {
        assert_eq!(complaints_about(path, code), Vec::<String>::new(), "{path}: {code}");
    }
}

#[test]
fn a_file_without_a_reason_a_name_or_a_measure_is_found() {
    let without_reason = Source { path: "clock.rs".to_owned(), text: "use x;\n".to_owned() };
    assert_eq!(complaints(&without_reason).len(), 1);
    assert_eq!(complaints_about("attic.rs", "").len(), 1);
    assert_eq!(complaints_about("http/utils.rs", "").len(), 1);
    assert_eq!(complaints_about("store/helpers/mod.rs", "").len(), 1);
    assert_eq!(complaints_about("clock.rs", &"\n".repeat(LINES_MAX)).len(), 1);
}
