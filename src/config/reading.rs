//! A TOML table becomes a `Settings` type, with every mistake in it found in one run.
//!
//! Serde stops at its first error. So an error is recorded with its path, the value there is taken out of the tree, and
//! the tree is read again; a required key that is missing gets a stand-in for the rest of the reading. The number of
//! rounds is bounded. Keys that no field asked for are collected on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::environment::{FILE as ENVIRONMENT, Override};
use super::{PROBLEMS_MAX, Problems};

/// Keys whose values never appear in a problem.
const SECRET_KEYS: [&str; 5] = ["password", "secret", "webhook_secret", "header_value", "key"];

/// Where a table comes from.
pub(super) struct Origin<'a> {
    /// The file.
    pub(super) file: &'a str,
    /// The path of the table in it: empty, or `relays[0]`.
    pub(super) within: &'a str,
    /// Values that came from the environment instead.
    pub(super) overrides: Vec<Override>,
}

/// Reads `table`. `None` when a key that is needed is missing or unusable; the problems say which.
pub(super) fn read<T: DeserializeOwned>(origin: Origin<'_>, table: Table, problems: &mut Problems) -> Option<T> {
    let mut reading = Reading {
        origin,
        tree: Value::Table(table),
        problems,
        unusable: BTreeSet::new(),
        taken_out: BTreeMap::new(),
        complete: true,
    };
    for _ in 0..PROBLEMS_MAX {
        let mut ignored = Vec::new();
        let mut on_ignored = |path: serde_ignored::Path<'_>| ignored.push(ignored_path(&path));
        let deserializer = serde_ignored::Deserializer::new(reading.tree.clone(), &mut on_ignored);
        let result = serde_path_to_error::deserialize::<_, T>(deserializer);
        for path in ignored {
            reading.report(&path, "unknown key");
        }
        match result {
            Ok(value) => return reading.complete.then_some(value),
            Err(error) => {
                let path = error_path(error.path());
                reading.work_around(path, &first_line(&error.into_inner().to_string()));
            }
        }
    }
    None
}

struct Reading<'a, 'p> {
    origin: Origin<'a>,
    tree: Value,
    problems: &'p mut Problems,
    /// Paths whose value was wrong, or that are missing and known to be.
    unusable: BTreeSet<Vec<Step>>,
    /// Original indices that were taken out of a list, so that later ones are still named as in the file.
    taken_out: BTreeMap<Vec<Step>, Vec<usize>>,
    complete: bool,
}

/// What serde says of a key or a word that is none of those there are, in words of ours that do not repeat it.
fn in_our_words(message: &str) -> String {
    if message.starts_with("unknown field `") {
        return "unknown key".to_owned();
    }
    match message.strip_prefix("unknown variant `").and_then(|rest| rest.split_once("`, expected ")) {
        Some((_, words)) => format!("must be {}", words.replace('`', "")),
        None => message.to_owned(),
    }
}

/// One step of a path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl Reading<'_, '_> {
    /// Records the error at `path` and changes the tree so that the next round gets past it.
    fn work_around(&mut self, mut path: Vec<Step>, message: &str) {
        if let Some(field) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
            path.push(Step::Key(field.to_owned()));
            if self.unusable.insert(path.clone()) {
                self.report(&path, "is missing");
            }
            self.complete = false;
            set(&mut self.tree, &path, Value::String("stand-in".to_owned()));
            return;
        }
        if let Some(value) = self.override_at(&path).and_then(|laid| laid.typed.take()) {
            set(&mut self.tree, &path, value);
            return;
        }
        if self.unusable.contains(&path) {
            // A stand-in that did not fit, or a second error at a path already reported.
            let number = Value::Integer(1);
            let fits_next = get(&mut self.tree, &path).is_some_and(|value| *value != number);
            if fits_next && !self.complete {
                set(&mut self.tree, &path, number);
            } else {
                remove(&mut self.tree, &path);
            }
            return;
        }
        let message = &in_our_words(message);
        let named = self.as_in_file(&path);
        let secret = named.iter().any(|step| matches!(step, Step::Key(key) if SECRET_KEYS.contains(&key.as_str())));
        self.report(&named, if secret { "must be text" } else { message });
        remove(&mut self.tree, &path);
        match path.split_last() {
            Some((Step::Index(index), list)) => {
                let original = self.original_index(list, *index);
                self.taken_out.entry(list.to_vec()).or_default().push(original);
            }
            Some((Step::Key(_), _)) => _ = self.unusable.insert(path),
            // The whole table is unusable; an empty one lets the missing keys be named.
            None => self.tree = Value::Table(Table::new()),
        }
    }

    fn report(&mut self, path: &[Step], detail: &str) {
        let mut in_file = true;
        for laid in &self.origin.overrides {
            // At a variable's value, or at a section that only variables made.
            if laid.is_on_the_way(path) && (laid.path.len() <= path.len() || laid.in_file < path.len()) {
                self.problems.add(ENVIRONMENT, laid.variable.as_str(), detail);
                in_file = false;
            }
        }
        if in_file {
            self.problems.add(self.origin.file, key_text(self.origin.within, path), detail);
        }
    }

    fn override_at(&mut self, path: &[Step]) -> Option<&mut Override> {
        self.origin.overrides.iter_mut().find(|laid| laid.path.len() <= path.len() && laid.is_on_the_way(path))
    }

    fn as_in_file(&self, path: &[Step]) -> Vec<Step> {
        let original = |(at, step): (usize, &Step)| match step {
            Step::Index(index) => Step::Index(self.original_index(&path[..at], *index)),
            Step::Key(key) => Step::Key(key.clone()),
        };
        path.iter().enumerate().map(original).collect()
    }

    fn original_index(&self, list: &[Step], index: usize) -> usize {
        let gone = self.taken_out.get(list).map_or(&[][..], Vec::as_slice);
        let left = (0..).filter(|original| !gone.contains(original));
        left.take(index + 1).last().unwrap_or(index)
    }
}

impl Override {
    /// Whether one of the two paths leads through the other.
    fn is_on_the_way(&self, path: &[Step]) -> bool {
        self.path.iter().zip(path).all(|(key, step)| matches!(step, Step::Key(at) if at == key))
    }
}

/// `relays[0].port`; keys that are not bare are quoted as TOML does.
pub(super) fn key_text(within: &str, path: &[Step]) -> String {
    let mut parts = vec![within.to_owned()];
    for step in path {
        match step {
            Step::Index(index) => parts.push(format!("[{index}]")),
            Step::Key(key) if parts.len() == 1 && within.is_empty() => parts.push(Quoted(key).to_string()),
            Step::Key(key) => parts.push(format!(".{}", Quoted(key))),
        }
    }
    parts.concat()
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if !self.0.is_empty() && self.0.bytes().all(bare) { f.write_str(self.0) } else { write!(f, "{:?}", self.0) }
    }
}

fn ignored_path(path: &serde_ignored::Path<'_>) -> Vec<Step> {
    use serde_ignored::Path;
    let (parent, step) = match path {
        Path::Root => return Vec::new(),
        Path::Seq { parent, index } => (parent, Some(Step::Index(*index))),
        Path::Map { parent, key } => (parent, Some(Step::Key(key.clone()))),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => (parent, None),
    };
    let mut steps = ignored_path(parent);
    steps.extend(step);
    steps
}

fn error_path(path: &serde_path_to_error::Path) -> Vec<Step> {
    use serde_path_to_error::Segment;
    let step = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().filter_map(step).collect()
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

fn get<'t>(tree: &'t mut Value, path: &[Step]) -> Option<&'t mut Value> {
    path.iter().try_fold(tree, |at, step| match step {
        Step::Key(key) => at.as_table_mut()?.get_mut(key),
        Step::Index(index) => at.as_array_mut()?.get_mut(*index),
    })
}

fn set(tree: &mut Value, path: &[Step], value: Value) {
    let Some((last, above)) = path.split_last() else { return };
    match (get(tree, above), last) {
        (Some(Value::Table(table)), Step::Key(key)) => _ = table.insert(key.clone(), value),
        (Some(Value::Array(items)), Step::Index(index)) if *index < items.len() => items[*index] = value,
        _ => {}
    }
}

fn remove(tree: &mut Value, path: &[Step]) {
    let Some((last, above)) = path.split_last() else { return };
    match (get(tree, above), last) {
        (Some(Value::Table(table)), Step::Key(key)) => _ = table.remove(key),
        (Some(Value::Array(items)), Step::Index(index)) if *index < items.len() => _ = items.remove(*index),
        _ => {}
    }
}
