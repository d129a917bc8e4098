//! `[store]`: which database, and where.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[store]` in `postern.toml`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, expecting = "a table")]
pub struct StoreSettings {
    /// `sqlite:PATH`.
    pub url: String,
    /// The keys that seal contents, one to a line, the newest first; `None`: contents are stored as they are.
    pub content_key_file: Option<PathBuf>,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { url: "sqlite:data/postern.db".to_owned(), content_key_file: None }
    }
}

impl StoreSettings {
    /// The file of a SQLite store. The error never repeats the URL: it may hold a password.
    pub fn sqlite_path(&self) -> Result<PathBuf, String> {
        match self.url.split_once(':') {
            Some(("sqlite", "")) => Err("names no file: write sqlite:PATH".to_owned()),
            Some(("sqlite", path)) => Ok(PathBuf::from(path)),
            Some(("postgres" | "postgresql", _)) => {
                Err("PostgreSQL comes in a later version: write sqlite:PATH".to_owned())
            }
            _ => Err("not a store: write sqlite:PATH".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sqlite_is_known_and_a_refusal_never_repeats_the_url() {
        assert_eq!(StoreSettings::default().sqlite_path(), Ok(PathBuf::from("data/postern.db")));
        for url in ["postgres://user:hunter2@host/db", "sqlite:", "data/hunter2.db", "mysql://hunter2", ""] {
            let refused = StoreSettings { url: url.to_owned(), content_key_file: None }.sqlite_path();
            assert!(refused.is_err_and(|detail| !detail.contains("hunter2")), "{url}");
        }
    }
}
