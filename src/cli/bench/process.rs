//! The measured gateway and the inbox: this same program as children that never outlive us, and what they used.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines};
use tokio::net::unix::pipe;

use crate::clock::Clock;
use crate::lifecycle::{Kind, Tasks};

use super::super::output::complain;

/// How long a child may take to start.
const START_MAX: Duration = Duration::from_secs(30);
/// How long a child may take to stop before it is killed: the gateway's own grace, and a little.
const STOP_MAX: Duration = Duration::from_secs(40);
/// How often we look whether it has stopped.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A tick of the times in `/proc`: the kernel counts 100 a second for its users on every machine we run on.
const TICK: Duration = Duration::from_millis(10);

/// A child. However we end, it ends: it stops when its standard input closes, and is killed when this is dropped.
pub(super) struct Child {
    process: std::process::Child,
    stdin: Option<ChildStdin>,
}

type LinesOf = Lines<BufReader<pipe::Receiver>>;

fn lines(from: Option<impl Into<OwnedFd>>) -> io::Result<LinesOf> {
    let from = from.ok_or(io::ErrorKind::BrokenPipe)?;
    Ok(BufReader::new(pipe::Receiver::from_owned_fd(from.into())?).lines())
}

impl Child {
    /// Starts `serve` with this configuration and returns where it listens.
    pub(super) async fn gateway(program: &Path, config: &Path, tasks: &Tasks) -> anyhow::Result<(Self, SocketAddr)> {
        let mut command = Command::new(program);
        command.arg("--config").arg(config).args(["serve", "--stop-with-stdin"]).stdout(Stdio::null());
        // Other settings in the environment hold: whoever tries one sees what it changes.
        command.env("POSTERN__LOG__LEVEL", "info").env("POSTERN__LOG__FORMAT", "json");
        command.env("POSTERN__SERVER__LISTEN", "127.0.0.1:0").env_remove("POSTERN__STORE__URL");
        let mut child = Self::start(&mut command)?;
        let mut log = lines(child.process.stderr.take())?;
        let until = tokio::time::Instant::now() + START_MAX;
        let listen = loop {
            let next = tokio::time::timeout_at(until, log.next_line()).await.context("waiting for the gateway")?;
            let Some(line) = next? else { bail!("the gateway did not start") };
            let fields: Value = serde_json::from_str(&line).unwrap_or_default();
            match fields["listen"].as_str().filter(|_| fields["message"] == "serving") {
                Some(listen) => break listen.parse().context("reading the gateway's address")?,
                None => pass_on(&line),
            }
        };
        tasks.spawn("bench.log", Kind::Passing, pass_all_on(log));
        Ok((child, listen))
    }

    /// Starts `inbox` and returns where its SMTP and its pages are.
    pub(super) async fn inbox(program: &Path, tasks: &Tasks) -> anyhow::Result<(Self, SocketAddr, SocketAddr)> {
        let mut command = Command::new(program);
        command.args(["inbox", "--smtp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--format", "json"]);
        command.arg("--stop-with-stdin").stdout(Stdio::piped());
        let mut child = Self::start(&mut command)?;
        tasks.spawn("bench.log", Kind::Passing, pass_all_on(lines(child.process.stderr.take())?));
        let mut said = lines(child.process.stdout.take())?;
        let first = tokio::time::timeout(START_MAX, said.next_line()).await.context("waiting for the inbox")?;
        let Some(line) = first? else { bail!("the inbox did not start") };
        let facts: Value = serde_json::from_str(&line).context("reading the inbox's addresses")?;
        let address = |name: &str| {
            let text = facts[name].as_str().unwrap_or_default();
            text.trim_start_matches("http://").parse().context("reading the inbox's addresses")
        };
        Ok((child, address("smtp")?, address("http")?))
    }

    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let started = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut process = started.context("starting this program once more")?;
        let stdin = process.stdin.take();
        Ok(Self { process, stdin })
    }

    /// What it used so far; `None` where there is no `/proc`.
    pub(super) fn usage(&self) -> Option<Usage> {
        Usage::of(self.process.id())
    }

    /// Asks it to stop and waits for its end.
    pub(super) async fn stop(mut self, clock: &dyn Clock) -> anyhow::Result<()> {
        drop(self.stdin.take());
        let until = Instant::now() + STOP_MAX;
        while Instant::now() < until {
            match self.process.try_wait().context("waiting for a child")? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("a child ended badly: {status}"),
                None => clock.sleep_until(clock.now().checked_add(LOOK_EVERY)?).await,
            }
        }
        bail!("a child did not stop within {STOP_MAX:?} and was killed")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // No harm to one that was waited for: its status is known and nobody is signalled.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// Warnings and worse of a child's log, and what is no log line.
fn pass_on(line: &str) {
    let fields: Value = serde_json::from_str(line).unwrap_or_default();
    if !matches!(fields["level"].as_str(), Some("TRACE" | "DEBUG" | "INFO")) {
        complain(line);
    }
}

async fn pass_all_on(mut lines: Lines<BufReader<impl AsyncRead + Unpin>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        pass_on(&line);
    }
}

/// What a process used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// User and system time of all its threads.
    pub(super) cpu: Duration,
    /// The most memory it ever had resident.
    pub(super) peak_memory_bytes: u64,
}

impl Usage {
    /// What the process of this id used.
    pub(super) fn of(process: u32) -> Option<Self> {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{process}/{name}")).ok();
        Some(Self { cpu: cpu(&read("stat")?)?, peak_memory_bytes: peak_memory(&read("status")?)? })
    }
}

/// `utime` and `stime` of `/proc/PID/stat` (proc(5)), which come 11th and 12th after the name; the name is in brackets
/// and may hold anything.
fn cpu(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(TICK * ticks()?.checked_add(ticks()?)?)
}

/// `VmHWM` of `/proc/PID/status`, which is in KiB whatever it says.
fn peak_memory(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_whatever_the_name_is() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 900 0 0 0 120 34 7 8 20 0 9 0 5 6 7";
        assert_eq!(cpu(stat), Some(Duration::from_millis(1_540)));
        assert_eq!(cpu("42 (a"), None);
        assert_eq!(cpu("42 (a) S 1"), None);
    }

    #[test]
    fn peak_memory_is_read_in_bytes() {
        assert_eq!(peak_memory("VmPeak:\t  9 kB\nVmHWM:\t   1024 kB\nVmRSS:\t 1 kB\n"), Some(1 << 20));
        assert_eq!(peak_memory("VmRSS:\t 1 kB\n"), None);
    }
}
