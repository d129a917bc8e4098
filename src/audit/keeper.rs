//! Checkpoints outside the store: a folder, and a place elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use tokio::fs::{self, OpenOptions};
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use super::settings::AuditSettings;
use crate::clock::Clock;
use crate::domain::outgoing_url::OutgoingUrl;
use crate::domain::time;
use crate::outgoing::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use crate::outgoing::{AnswerBody, Call, Client, Method};
use crate::store::{SignedCheckpoint, Store};

/// The file that holds the last checkpoint, as its note.
const LAST: &str = "checkpoint";
/// What files end with that hold one day's checkpoints, a JSON object a line.
const DAY_SUFFIX: &str = ".ndjson";

/// A line of a day's file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// When it was signed.
    pub at: String,
    /// How many leaves it covers.
    pub size: u64,
    /// The signed note.
    pub note: String,
}

/// Puts checkpoints into a folder.
pub struct Keeper {
    folder: PathBuf,
}

impl Keeper {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Keeps a checkpoint. One that cannot be kept here is in the store all the same: that is told, and stops nobody.
    pub(super) async fn keep(&self, checkpoint: &SignedCheckpoint) {
        if let Err(error) = self.write(checkpoint).await {
            let folder = self.folder.display();
            tracing::error!(%error, %folder, "a checkpoint of the audit could not be written to audit.dir");
        }
    }

    async fn write(&self, SignedCheckpoint { size, at, note }: &SignedCheckpoint) -> std::io::Result<()> {
        fs::create_dir_all(&self.folder).await?;
        let day = at.to_zoned(TimeZone::UTC).date();
        let line = Line { at: time::text(*at), size: *size, note: note.clone() };
        let mut line = serde_json::to_vec(&line)?;
        line.push(b'\n');
        let days = self.folder.join(format!("{day}{DAY_SUFFIX}"));
        let mut file = OpenOptions::new().create(true).append(true).open(days).await?;
        file.write_all(&line).await?;
        file.sync_data().await?;
        let new = self.folder.join("checkpoint.new");
        fs::write(&new, note).await?;
        fs::rename(&new, self.folder.join(LAST)).await
    }
}

/// The checkpoints in a folder, as they were written. Blocks. Lines that are none are given as `Err` with their place.
pub fn kept_in(folder: &Path) -> std::io::Result<Vec<Result<Line, String>>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "ndjson"));
    files.sort();
    for path in files {
        for (number, line) in (1..).zip(std::fs::read_to_string(&path)?.lines()) {
            let place = || format!("{}:{number}", path.display());
            found.push(serde_json::from_str(line).map_err(|_| place()));
        }
    }
    Ok(found)
}

/// Sends the last checkpoint to a place outside.
pub struct Pusher {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    client: Client,
    url: OutgoingUrl,
    settings: AuditSettings,
}

impl Pusher {
    /// A pusher, if there is a place to push to.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, client: Client, settings: AuditSettings) -> Option<Self> {
        let url = settings.push_url.clone()?;
        Some(Self { store, clock, client, url, settings })
    }

    /// Sends each checkpoint that is the last when it looks, until the soft stop. What fails is tried again with the next
    /// look: only the last one counts, it covers all before it.
    pub async fn run(&self, soft: CancellationToken) {
        let mut pushed = 0;
        loop {
            match self.push(pushed).await {
                Ok(size) => pushed = size,
                Err(error) => tracing::warn!(error, "a checkpoint of the audit could not be sent to audit.push_url"),
            }
            let look_at = self.clock.now().checked_add(self.settings.checkpoint_every.0).unwrap_or(Timestamp::MAX);
            tokio::select! {
                () = soft.cancelled() => return,
                () = self.clock.sleep_until(look_at) => {}
            }
        }
    }

    async fn push(&self, pushed: u64) -> Result<u64, String> {
        let last = self.store.last_checkpoint().await.map_err(|error| error.to_string())?;
        let Some(last) = last.filter(|last| last.size > pushed) else { return Ok(pushed) };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        let call = Call {
            method: Method::POST,
            url: &self.url,
            headers,
            body: last.note.into_bytes(),
            timeout: self.settings.push_timeout.0,
            answer: AnswerBody::Unwanted,
        };
        let answer = self.client.call(call).await.map_err(|error| error.to_string())?;
        if answer.status.is_success() { Ok(last.size) } else { Err(format!("it answered {}", answer.status.as_u16())) }
    }
}
