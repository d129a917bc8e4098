//! The key that signs checkpoints: a file that only its owner reads, made at the first start, and its public half beside it.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use crate::audit_log::note::{NoteError, Signer, Verifier};

/// Why there is no key. Never shows one.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file, or its folder, cannot be read or written.
    #[error("audit.key_file: {}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// It holds something else.
    #[error("audit.key_file: {}: {error}", path.display())]
    NoKey {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        error: NoteError,
    },
}

/// What its name begins with; what follows tells logs apart.
const NAME: &str = "postern-";

/// The key in this file; a new one if there is no such file. Blocks; it belongs to the start.
pub fn load_or_make(path: &Path) -> Result<Signer, KeyFileError> {
    match fs::read_to_string(path) {
        Ok(text) => Signer::read(&SecretString::from(text)).map_err(|error| no_key(path, error)),
        Err(error) if error.kind() == ErrorKind::NotFound => make(path),
        Err(error) => Err(KeyFileError::File { path: path.to_owned(), error }),
    }
}

/// The public half of the key in this file, as its text. Blocks.
pub fn public_of(path: &Path) -> Result<Verifier, KeyFileError> {
    let public = public_path(path);
    let text = fs::read_to_string(&public).map_err(|error| KeyFileError::File { path: public.clone(), error })?;
    Verifier::read(&text).map_err(|error| no_key(&public, error))
}

fn make(path: &Path) -> Result<Signer, KeyFileError> {
    let mut name = [0; 4];
    getrandom::fill(&mut name).map_err(|_| no_key(path, NoteError::NoRandomness))?;
    let name = format!("{NAME}{:08x}", u32::from_be_bytes(name));
    let signer = Signer::generate(&name).map_err(|error| no_key(path, error))?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| KeyFileError::File { path: folder.to_owned(), error })?;
    }
    let public = public_path(path);
    write(&public, 0o644, &signer.verifier().to_string())?;
    write(path, 0o600, signer.text().expose_secret())?;
    Ok(signer)
}

/// Writes a line to a file, whole or not at all.
fn write(path: &Path, mode: u32, text: &str) -> Result<(), KeyFileError> {
    let failed = |error| KeyFileError::File { path: path.to_owned(), error };
    let new = with_suffix(path, ".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new).map_err(failed)?;
    file.write_all(format!("{text}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)
}

fn no_key(path: &Path, error: NoteError) -> KeyFileError {
    KeyFileError::NoKey { path: path.to_owned(), error }
}

fn public_path(path: &Path) -> PathBuf {
    with_suffix(path, ".pub")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
