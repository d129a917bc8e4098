//! The hatch: where a command on this machine asks the running gateway what only its memory knows.
//!
//! A socket beside the database, with the database's own rights: who may read and write the one may ask at the other,
//! and needs no key. One question a connection, a line of JSON each way, asked and answered within seconds. Nothing can
//! be changed through it; what changes something goes through the store.
//!
//! Nobody there means that no gateway runs. A file left behind by one that was killed answers nobody and is replaced by
//! the next: only the one that holds the store's lock opens the hatch.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::delivery::control::Control;
use crate::delivery::reasons::Reasons;
use crate::domain::ids::TenantId;
use crate::domain::rules::Rules;

/// No question is longer.
const QUESTION_BYTES_MAX: u64 = 4 << 10;
/// No answer is longer.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// What one question may take; the next waits for it.
const QUESTION_MAX: Duration = Duration::from_secs(2);
/// How long a command waits for its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// After the system would not let anybody in, it is asked again after this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(500);

/// What a command asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Question {
    /// How delivery stands.
    Overview,
    /// The keys of the configuration that hold for the life of the gateway, and their values.
    Fixed,
    /// The journeys it goes by: each name's content, as JSON.
    Journeys,
    /// Why this message stands where it stands.
    Why {
        /// Whose it is.
        tenant: TenantId,
        /// Its id.
        id: String,
    },
}

/// What there is to tell.
pub struct Known {
    /// Talks to delivery.
    pub control: Control,
    /// Why mails wait.
    pub reasons: Reasons,
    /// The answer to [`Question::Fixed`].
    pub fixed: Value,
    /// What the configuration says now.
    pub rules: watch::Receiver<Arc<Rules>>,
}

/// Who answers.
pub struct Hatch {
    listener: UnixListener,
    path: PathBuf,
}

impl Hatch {
    /// Opens the hatch of this database. Whoever calls holds the store's lock.
    pub fn open(database: &Path) -> io::Result<Self> {
        let path = beside(database)?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::metadata(database)?.permissions())?;
        Ok(Self { listener, path })
    }

    /// Answers one question after the other until `until`, then takes the socket away.
    pub async fn serve(self, known: Known, clock: &dyn Clock, until: CancellationToken) {
        loop {
            let came = tokio::select! {
                biased;
                () = until.cancelled() => break,
                came = self.listener.accept() => came,
            };
            match came {
                Ok((stream, _)) => match timeout(QUESTION_MAX, answer(stream, &known)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "a command went away, or asked what is no question"),
                    Err(_) => tracing::debug!("a command took too long, or delivery did"),
                },
                Err(error) => {
                    tracing::warn!(%error, "no command can ask now");
                    let again = clock.now().checked_add(ACCEPT_AGAIN).unwrap_or(Timestamp::MAX);
                    clock.sleep_until(again).await;
                }
            }
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the socket for commands was gone already");
        }
    }
}

async fn answer(mut stream: UnixStream, Known { control, reasons, fixed, rules }: &Known) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new((&mut stream).take(QUESTION_BYTES_MAX)).read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line)? {
        // It has ended: the gateway stops.
        Question::Overview => json!(control.overview().await.ok()),
        Question::Fixed => fixed.clone(),
        Question::Journeys => {
            let rules = Arc::clone(&rules.borrow());
            json!(rules.journeys.iter().map(|(name, drawn)| (name, &drawn.journey)).collect::<BTreeMap<_, _>>())
        }
        Question::Why { tenant, id } => {
            let id = id.parse().map_err(|wrong| io::Error::new(ErrorKind::InvalidData, wrong))?;
            json!(reasons.why(&tenant, id).await.map_err(io::Error::other)?)
        }
    };
    stream.write_all(format!("{answer}\n").as_bytes()).await?;
    stream.shutdown().await
}

/// Asks the gateway of this database; `None`: none runs.
pub async fn ask(database: &Path, question: &Question) -> io::Result<Option<Value>> {
    let asked = async {
        let mut stream = match UnixStream::connect(beside(database)?).await {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            connected => connected?,
        };
        stream.write_all(format!("{}\n", serde_json::to_string(question)?).as_bytes()).await?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
        Ok(Some(serde_json::from_str(&answer)?))
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

/// The socket's path, whatever links lead to the database.
fn beside(database: &Path) -> io::Result<PathBuf> {
    let mut path: OsString = std::fs::canonicalize(database)?.into();
    path.push(".socket");
    Ok(path.into())
}
