//! Reading a relay's log: the end of a file and of the one before it, or what a command prints.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _};
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::courier::settings::RelaySettings;
use crate::domain::evidence::relay_log::Scan;
use crate::domain::ids::RelayName;

/// The log of a relay.
#[derive(Debug, Clone)]
pub struct RelayLog {
    /// Whose it is.
    pub relay: RelayName,
    /// Where it is.
    pub source: LogSource,
    /// So much of its end is read at most.
    pub bytes_max: u64,
    /// And for so long.
    pub timeout: Duration,
    /// Held by who reads the file: a look that was given up may still hang in it.
    reading: Arc<Semaphore>,
}

/// Where a relay's log is.
#[derive(Debug, Clone)]
pub enum LogSource {
    /// In this file; what was there before it was rotated, in the file with `.1` added.
    File(PathBuf),
    /// In what this program prints.
    Command(Vec<String>),
}

/// Why a log cannot be looked through.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be read.
    #[error("log_file cannot be read")]
    File(#[source] io::Error),
    /// It is a folder, a pipe or a device.
    #[error("log_file is no regular file")]
    NoFile,
    /// The command cannot be run.
    #[error("log_command cannot be run")]
    Command(#[source] io::Error),
    /// The command says that it failed.
    #[error("log_command failed: {0}")]
    Failed(ExitStatus),
    /// There was more than `log_bytes_max`.
    #[error("log_command prints more than log_bytes_max: have it print less, with {{since}} or another filter")]
    TooLong,
    /// It took more than `log_timeout`.
    #[error("it takes longer than log_timeout")]
    TooSlow,
}

impl RelayLog {
    /// The log of a relay, if one was named.
    #[must_use]
    pub fn of(relay: &RelaySettings) -> Option<Self> {
        let file = relay.log_file.clone().map(LogSource::File);
        let source = file.or_else(|| relay.log_command.clone().map(LogSource::Command))?;
        let (name, bytes_max, timeout) = (relay.name.clone(), relay.log_bytes_max.0, relay.log_timeout.0);
        Some(Self { relay: name, source, bytes_max, timeout, reading: Arc::new(Semaphore::new(1)) })
    }

    /// The key that names it.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self.source {
            LogSource::File(_) => "log_file",
            LogSource::Command(_) => "log_command",
        }
    }

    /// Reads the log from `since` on, or from further back, into `scan`. What was read before an error counts.
    pub async fn look(&self, scan: &mut Scan, since: Timestamp) -> Result<(), LogError> {
        tokio::time::timeout(self.timeout, self.read(scan, since)).await.map_err(|_| LogError::TooSlow)?
    }

    async fn read(&self, scan: &mut Scan, since: Timestamp) -> Result<(), LogError> {
        match &self.source {
            LogSource::File(path) => {
                let alone = Arc::clone(&self.reading).try_acquire_owned().map_err(|_| LogError::TooSlow)?;
                let (path, bytes_max, mut inside) = (path.clone(), self.bytes_max, std::mem::take(scan));
                let work = move || {
                    let _alone = alone;
                    let read = read_file(&path, bytes_max, &mut inside);
                    (read, inside)
                };
                // A panic of ours is told where it happens; here the log was not read.
                let done = tokio::task::spawn_blocking(work).await;
                let (read, inside) = done.map_err(|error| LogError::File(io::Error::other(error)))?;
                *scan = inside;
                read
            }
            LogSource::Command(command) => run(command, since, self.bytes_max, scan).await,
        }
    }
}

/// Reads the end of a log, and before that the end of its predecessor where there is room.
fn read_file(path: &Path, bytes_max: u64, scan: &mut Scan) -> Result<(), LogError> {
    let (log, length) = open(path)?;
    let mut rotated = path.as_os_str().to_owned();
    rotated.push(".1");
    if length < bytes_max
        && let Ok((before, length_before)) = open(Path::new(&rotated))
    {
        read_end(before, length_before, bytes_max - length, scan).map_err(LogError::File)?;
    }
    read_end(log, length, bytes_max, scan).map_err(LogError::File)
}

fn open(path: &Path) -> Result<(File, u64), LogError> {
    // Asked before it is opened: a pipe would wait for who writes into it.
    if !path.metadata().map_err(LogError::File)?.is_file() {
        return Err(LogError::NoFile);
    }
    let file = File::open(path).map_err(LogError::File)?;
    let length = file.metadata().map_err(LogError::File)?.len();
    Ok((file, length))
}

fn read_end(mut file: File, length: u64, bytes_max: u64, scan: &mut Scan) -> io::Result<()> {
    let begin = length.saturating_sub(bytes_max);
    file.seek(SeekFrom::Start(begin))?;
    let mut lines = BufReader::new(file.take(length - begin));
    let mut line = Vec::new();
    let mut is_whole = begin == 0;
    while lines.read_until(b'\n', &mut line)? > 0 {
        if is_whole {
            scan.read(&line);
        }
        is_whole = true;
        line.clear();
    }
    Ok(())
}

/// Runs a command and reads what it prints.
async fn run(command: &[String], since: Timestamp, bytes_max: u64, scan: &mut Scan) -> Result<(), LogError> {
    let since = since.as_second().to_string();
    let mut words = command.iter().map(|word| word.replace("{since}", &since));
    let mut child = Command::new(words.next().unwrap_or_default())
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(LogError::Command)?;
    let Some(printed) = child.stdout.take() else { return Err(LogError::Command(io::ErrorKind::BrokenPipe.into())) };
    let mut lines = tokio::io::BufReader::new(printed.take(bytes_max));
    let (mut line, mut bytes) = (Vec::new(), 0);
    while lines.read_until(b'\n', &mut line).await.map_err(LogError::Command)? > 0 {
        bytes += u64::try_from(line.len()).unwrap_or(u64::MAX);
        scan.read(&line);
        line.clear();
    }
    if bytes >= bytes_max {
        return Err(LogError::TooLong);
    }
    let status = child.wait().await.map_err(LogError::Command)?;
    if status.success() { Ok(()) } else { Err(LogError::Failed(status)) }
}
