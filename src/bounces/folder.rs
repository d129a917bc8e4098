//! Reports that are delivered into a folder, a file each.
//!
//! Whoever delivers writes a file elsewhere and renames it into the folder, as every delivery to a Maildir does: what is
//! there is whole. A file is removed once what it says is on disk. One that is to come again, or cannot be read now, stays for
//! the next look; one that is too large, or cannot be removed, stays for whoever looks after the folder, told of once.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::fs;
use tokio_util::sync::CancellationToken;

use super::settings::BounceSettings;
use super::{Bounces, Taken, Whose};
use crate::clock::Clock;
use crate::domain::audit::Actor;
use crate::store::Heard;

/// Files of one look at most; the others come with the next, at once.
const FILES_MAX: usize = 1_000;

/// Reads what is delivered into a folder.
pub struct Folder {
    bounces: Bounces,
    clock: Arc<dyn Clock>,
    path: PathBuf,
    settings: BounceSettings,
    /// Files that are read no more.
    parked: BTreeSet<OsString>,
    /// Files that cannot be read now, as was told.
    told: BTreeSet<OsString>,
    is_failing: bool,
}

impl Folder {
    /// One that looks into the folder that the settings name; `None`: they name none.
    #[must_use]
    pub fn new(bounces: Bounces, clock: Arc<dyn Clock>, settings: BounceSettings) -> Option<Self> {
        let path = settings.folder.clone()?;
        Some(Self { bounces, clock, path, settings, parked: BTreeSet::new(), told: BTreeSet::new(), is_failing: false })
    }

    /// Looks into it until `soft` is cancelled.
    pub async fn run(mut self, soft: CancellationToken) {
        while !soft.is_cancelled() {
            let looked = self.look(&soft).await;
            match &looked {
                Err(error) if !self.is_failing => {
                    tracing::warn!(%error, "bounces.folder cannot be read; reports in it wait");
                }
                Ok(_) | Err(_) => {}
            }
            self.is_failing = looked.is_err();
            if looked.is_ok_and(|more| more) {
                continue;
            }
            let next = self.clock.now().checked_add(self.settings.every.0).unwrap_or(jiff::Timestamp::MAX);
            tokio::select! {
                () = soft.cancelled() => return,
                () = self.clock.sleep_until(next) => {}
            }
        }
    }

    /// Takes what is there; whether there is more that can be taken at once.
    async fn look(&mut self, soft: &CancellationToken) -> io::Result<bool> {
        let mut names = self.names().await?;
        let is_more = names.len() > FILES_MAX;
        names.truncate(FILES_MAX);
        let mut any_removed = false;
        for name in names {
            if soft.is_cancelled() {
                return Ok(false);
            }
            let path = self.path.join(&name);
            match self.take(&path).await {
                Ok(After::Remove) => match fs::remove_file(&path).await {
                    Ok(()) => any_removed = true,
                    // What it says is known, and is known again when the gateway starts anew.
                    Err(error) => self.park(name, &format!("was taken and cannot be removed: {error}")),
                },
                Ok(After::Again) => {}
                Ok(After::Leave(why)) => self.park(name, why),
                // Whoever else has it, it is not here any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.tell(name, &error.to_string()),
            }
        }
        Ok(is_more && any_removed)
    }

    /// The files that are there and not parked, one more than are taken, in the order of their names as far as they go.
    async fn names(&mut self) -> io::Result<Vec<OsString>> {
        let mut entries = fs::read_dir(&self.path).await?;
        let (mut names, mut parked) = (Vec::new(), BTreeSet::new());
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name();
            if self.parked.contains(&name) {
                parked.insert(name);
            } else if !name.as_encoded_bytes().starts_with(b".")
                && entry.file_type().await?.is_file()
                && names.len() <= FILES_MAX
            {
                names.push(name);
            }
        }
        self.parked = parked;
        self.told.retain(|name| names.contains(name));
        names.sort_unstable();
        Ok(names)
    }

    async fn take(&self, path: &Path) -> io::Result<After> {
        if fs::metadata(path).await?.len() > self.settings.report_max.0 {
            return Ok(After::Leave("is larger than bounces.report_max"));
        }
        let mail = fs::read(path).await?;
        Ok(match self.bounces.take(Whose::Anybodys, Actor::Gateway, &mail).await {
            Ok(Taken { heard: Heard::Found(_), .. }) => After::Remove,
            Ok(Taken { heard: Heard::InFlight, .. }) => After::Again,
            Err(error) => {
                tracing::warn!(%error, "a report cannot be kept; it waits in its folder");
                After::Again
            }
        })
    }

    /// Files are not named: whoever delivers may have put an address into a name.
    fn park(&mut self, name: OsString, why: &str) {
        tracing::warn!(why, "a file in bounces.folder stays there");
        self.parked.insert(name);
    }

    fn tell(&mut self, name: OsString, why: &str) {
        if self.told.insert(name) {
            tracing::warn!(why, "a file in bounces.folder cannot be read now; it waits");
        }
    }
}

/// What becomes of a file.
enum After {
    /// It said what it had to say.
    Remove,
    /// It is read again later.
    Again,
    /// It stays, for this reason.
    Leave(&'static str),
}
