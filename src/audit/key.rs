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

/// The key in this file; a new one if there is no such file. Its public half is written beside it when it is not there.
/// Blocks; it belongs to the start.
pub fn load_or_make(path: &Path) -> Result<Signer, KeyFileError> {
    let signer = match load(path)? {
        Some(signer) => signer,
        None => make(path)?,
    };
    let (public, text) = (public_path(path), signer.verifier().to_string());
    if fs::read_to_string(&public).is_ok_and(|written| written.trim() == text) {
        return Ok(signer);
    }
    let new = write_new(&public, 0o644, &text)?;
    fs::rename(new, &public).map_err(|error| KeyFileError::File { path: public, error })?;
    Ok(signer)
}

fn load(path: &Path) -> Result<Option<Signer>, KeyFileError> {
    match fs::read_to_string(path) {
        Ok(text) => Signer::read(&SecretString::from(text)).map(Some).map_err(|error| no_key(path, error)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(KeyFileError::File { path: path.to_owned(), error }),
    }
}

/// The public half of the key in this file, as its text. Blocks.
pub fn public_of(path: &Path) -> Result<Verifier, KeyFileError> {
    let public = public_path(path);
    let text = fs::read_to_string(&public).map_err(|error| KeyFileError::File { path: public.clone(), error })?;
    Verifier::read(&text).map_err(|error| no_key(&public, error))
}

/// Makes a key; of two who do at once one wins, and both have its key.
fn make(path: &Path) -> Result<Signer, KeyFileError> {
    let failed = |error| KeyFileError::File { path: path.to_owned(), error };
    let mut name = [0; 4];
    getrandom::fill(&mut name).map_err(|_| no_key(path, NoteError::NoRandomness))?;
    let name = format!("{NAME}{:08x}", u32::from_be_bytes(name));
    let signer = Signer::generate(&name).map_err(|error| no_key(path, error))?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let new = write_new(path, 0o600, signer.text().expose_secret())?;
    let linked = fs::hard_link(&new, path);
    fs::remove_file(&new).map_err(failed)?;
    match linked {
        Ok(()) => Ok(signer),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => load(path)?.ok_or_else(|| failed(error)),
        Err(error) => Err(failed(error)),
    }
}

/// Writes a line to a file beside this one, for it to be put in its place whole; its path.
fn write_new(path: &Path, mode: u32, text: &str) -> Result<PathBuf, KeyFileError> {
    let new = with_suffix(path, &format!(".{}.new", std::process::id()));
    let failed = |error| KeyFileError::File { path: new.clone(), error };
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new).map_err(failed)?;
    file.write_all(format!("{text}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(new)
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_with_its_public_half_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/audit.key");
        let made = load_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(public_of(&path).unwrap(), *made.verifier());
        fs::remove_file(public_path(&path)).unwrap();
        assert_eq!(load_or_make(&path).unwrap().verifier(), made.verifier());
        assert_eq!(public_of(&path).unwrap(), *made.verifier());
        let names = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(names, 2, "nothing else is left");
    }

    #[test]
    fn of_many_who_make_the_key_at_once_all_have_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = &folder.path().join("audit.key");
        let won = make(path).unwrap();
        assert_eq!(make(path).unwrap().verifier(), won.verifier());
    }

    #[test]
    fn a_file_that_holds_no_key_is_named_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.key");
        fs::write(&path, "PRIVATE+KEY+zqsecret").unwrap();
        let error = load_or_make(&path).unwrap_err().to_string();
        assert!(
            error.contains("audit.key_file") && error.contains("audit.key:") && !error.contains("zqsecret"),
            "{error}"
        );
        assert!(public_of(&path).unwrap_err().to_string().contains("audit.key.pub"));
    }
}
