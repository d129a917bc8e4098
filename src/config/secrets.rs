//! Secrets in files: `x` may be given as `x_file`, and where several hold at once (rotation) as a list of either.

use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::Deserialize;

use super::Problems;
use super::files::read_secret;
use crate::domain::secret::Secret;

/// One, or a list.
#[derive(Deserialize)]
#[serde(untagged, expecting = "must be text or a list of texts")]
pub(super) enum OneOrMany<T> {
    /// Written alone.
    One(T),
    /// Written as a list.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    pub(super) fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// The secrets that `key` and `key_file` name, in the order written. Problems never hold one.
pub(super) fn secrets(
    key: &str,
    inline: Option<OneOrMany<String>>,
    files: Option<OneOrMany<PathBuf>>,
    file: &str,
    problems: &mut Problems,
) -> Vec<Secret> {
    if inline.is_some() && files.is_some() {
        let name = key.rsplit('.').next().unwrap_or(key);
        problems.add(file, format!("{key}_file"), format!("give {name} or {name}_file, not both"));
    }
    let mut secrets = Vec::new();
    for text in inline.map(OneOrMany::into_vec).unwrap_or_default() {
        if text.is_empty() {
            problems.add(file, key, "must not be empty");
        }
        secrets.push(Secret::from(SecretString::from(text)));
    }
    for path in files.map(OneOrMany::into_vec).unwrap_or_default() {
        match read_secret(Path::new(&path)) {
            Ok(secret) => secrets.push(Secret::from(secret)),
            Err(detail) => problems.add(file, format!("{key}_file"), detail),
        }
    }
    secrets
}
