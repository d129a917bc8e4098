//! `POSTERN__SECTION__KEY` in the environment: laid over `postern.toml`, and remembered so that a problem can name it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::{Table, Value};

use super::Problems;

/// What problems with variables name as their file.
pub(super) const FILE: &str = "environment";
/// What every override begins with; the same two characters separate section and key.
const PREFIX: &str = "POSTERN__";
const SEPARATOR: &str = "__";
/// The configuration folder.
const FOLDER_VARIABLE: &str = "POSTERN_CONFIG";
/// The folder when nothing names one.
const FOLDER: &str = "config";

/// The variables that concern us, as found once at the start.
#[derive(Clone, Default)]
pub struct Environment {
    folder: Option<PathBuf>,
    overrides: BTreeMap<String, String>,
    unreadable: Vec<String>,
}

impl Environment {
    /// The process's own.
    #[must_use]
    pub fn of_process() -> Self {
        let mut found = Self::default();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str() else { continue };
            if name == FOLDER_VARIABLE {
                found.folder = Some(PathBuf::from(value));
            } else if name.starts_with(PREFIX) {
                match value.into_string() {
                    Ok(value) => _ = found.overrides.insert(name.to_owned(), value),
                    Err(_) => found.unreadable.push(name.to_owned()),
                }
            }
        }
        found
    }

    /// One with these variables only.
    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let overrides = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { overrides, ..Self::default() }
    }

    /// The file of the running program.
    pub fn program() -> std::io::Result<PathBuf> {
        std::env::current_exe()
    }

    /// The configuration folder: what the command line says, else the environment, else `config`.
    #[must_use]
    pub fn folder(&self, argument: Option<PathBuf>) -> PathBuf {
        argument.or_else(|| self.folder.clone()).unwrap_or_else(|| PathBuf::from(FOLDER))
    }

    /// Lays the overrides over `table` and returns where each went.
    pub(super) fn lay_over(&self, table: &mut Table, problems: &mut Problems) -> Vec<Override> {
        for name in &self.unreadable {
            problems.add(FILE, name.as_str(), "is not UTF-8");
        }
        let mut laid = Vec::new();
        let file = table.clone();
        for (variable, text) in &self.overrides {
            let path: Vec<String> =
                variable[PREFIX.len()..].to_lowercase().split(SEPARATOR).map(str::to_owned).collect();
            match place(table, &path) {
                Ok(slot) => {
                    // Text first: most keys are text. The reader asks for `typed` when text does not fit.
                    *slot = Value::String(text.clone());
                    let in_file = depth(&file, &path);
                    laid.push(Override { path, in_file, variable: variable.clone(), typed: typed(text) });
                }
                Err(detail) => problems.add(FILE, variable.as_str(), detail),
            }
        }
        laid
    }
}

/// A value that came from a variable.
pub(super) struct Override {
    /// Its key as a path.
    pub(super) path: Vec<String>,
    /// How many of its keys, from the first, the file has too.
    pub(super) in_file: usize,
    /// The variable's name.
    pub(super) variable: String,
    /// The text read as a TOML number, boolean or list; taken out when it is tried.
    pub(super) typed: Option<Value>,
}

fn typed(text: &str) -> Option<Value> {
    let value: Value = text.parse().ok()?;
    let other_than_text = matches!(value, Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Array(_));
    other_than_text.then_some(value)
}

/// How far `path` leads into `table`.
fn depth(table: &Table, path: &[String]) -> usize {
    let Some((first, rest)) = path.split_first() else { return 0 };
    match table.get(first) {
        None => 0,
        Some(Value::Table(inner)) => 1 + depth(inner, rest),
        Some(_) => 1,
    }
}

fn place<'a>(table: &'a mut Table, path: &[String]) -> Result<&'a mut Value, &'static str> {
    let (last, sections) = path.split_last().ok_or("names no key")?;
    if path.iter().any(String::is_empty) {
        return Err("names no key: write POSTERN__SECTION__KEY");
    }
    let mut table = table;
    for section in sections {
        let next = table.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
        table = match next {
            Value::Table(inner) => inner,
            Value::Array(_) => return Err("a list of tables cannot be overridden from the environment"),
            _ => return Err("there is a value where the variable names a section"),
        };
    }
    Ok(table.entry(last.clone()).or_insert_with(|| Value::Boolean(false)))
}
