//! `postern bench`: measures this machine with the gateway's real parts: the doors on loopback, a durable store, SMTP.
//!
//! ```text
//! this process: load ─HTTP─▶ child: serve (temporary folder) ─SMTP─▶ child: inbox, or the relay of --relay
//! ```
//!
//! The gateway is a process of its own, so that CPU and memory are its own. Percentiles are of all samples. Every run
//! has a fresh store; children and folder are gone when it ends, however it ends.

mod client;
mod follow;
mod load;
mod mail;
mod place;
mod process;
mod report;
mod trial;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use tempfile::TempDir;

use super::{Context, Done, Failure};
use crate::clock::Clock;
use crate::config::Environment;
use crate::domain::quantity::{ByteSize, HumanDuration};
use crate::lifecycle::{HARD_GRACE, Lifecycle, Tasks, stop_signals};

use mail::{BODY_BYTES_MIN, MAILS_MAX};
use place::Place;
use report::{Figures, Report};

/// What the report calls the inbox we start ourselves.
const OWN_INBOX: &str = "own inbox";
/// Bodies leave room for the rest of a request within `server.request_body_max`.
const BODY_BYTES_MAX: u64 = 4 << 20;
/// With more the gateway could be out of seats (`server.connections_max`, shared by its workers).
const CONNECTIONS_MAX: i64 = 400;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  postern bench
  postern bench --messages 100000 --connections 128 --runs 5 --dir /var/tmp
  postern bench --relay 127.0.0.1:2525 --sessions 20 --format json
  postern bench --accept-only
  postern bench --pass-events --messages 100000

config/ is not read; the gateway's settings are the defaults, without limits. POSTERN__SECTION__KEY in the environment overrides them,
to see what a setting changes. Aim --relay only at a server that throws mails away. Any answer but 202, and any mail that
is not relayed within --timeout, makes it fail once the figures are printed. Build with --release before you measure.")]
pub(super) struct Arguments {
    /// Mails of one run
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAILS_MAX)))]
    messages: u32,
    /// The length of each mail's HTML
    #[arg(long, value_name = "SIZE", default_value = "10KiB")]
    size: ByteSize,
    /// Connections that send, each its next mail when the last was answered
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=CONNECTIONS_MAX))]
    connections: u16,
    /// The relay to deliver to; without it an inbox of our own
    #[arg(long, value_name = "HOST:PORT")]
    relay: Option<RelayAt>,
    /// SMTP sessions to the relay at once
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    sessions: u16,
    /// Where the store's temporary folder is made; without it the system's place for them
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How long one run may take
    #[arg(long, value_name = "TIME", default_value = "10m")]
    timeout: HumanDuration,
    /// Runs, each with a fresh store; the figures are medians
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,
    /// Measure accepting alone: the relay is one that is not there
    #[arg(long, conflicts_with = "relay")]
    accept_only: bool,
    /// Measure the intake of pass events instead: each message is the install of another customer's pass
    #[arg(long, conflicts_with = "relay")]
    pass_events: bool,
}

impl Arguments {
    /// Whether nothing is to leave for a relay.
    fn is_intake_alone(&self) -> bool {
        self.accept_only || self.pass_events
    }
}

/// A relay's host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RelayAt {
    host: String,
    port: u16,
}

impl FromStr for RelayAt {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "write HOST:PORT, or [ADDRESS]:PORT for IPv6";
        let (host, port) = text.rsplit_once(':').ok_or(WRONG)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if bare.unwrap_or(host).is_empty() || (bare.is_none() && host.contains([':', '[', ']'])) {
            return Err(WRONG);
        }
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(WRONG)?;
        Ok(Self { host: bare.unwrap_or(host).to_owned(), port })
    }
}

impl From<SocketAddr> for RelayAt {
    fn from(at: SocketAddr) -> Self {
        Self { host: at.ip().to_string(), port: at.port() }
    }
}

pub(super) async fn run(context: Context, arguments: Arguments) -> Done {
    let size = arguments.size.0;
    if !(BODY_BYTES_MIN as u64..=BODY_BYTES_MAX).contains(&size) {
        let (min, max) = (ByteSize(BODY_BYTES_MIN as u64), ByteSize(BODY_BYTES_MAX));
        return Err(Failure::Usage(format!("--size: {min} to {max}")));
    }
    let mut signals = stop_signals().context("listening for signals")?;
    let life = Lifecycle::new(HARD_GRACE);
    let failed = life.tasks().soft();
    let program = Environment::program().context("finding this program's own file")?;
    let timeout = arguments.timeout;
    let bench = Bench { arguments, program, clock: Arc::clone(&context.clock), tasks: life.tasks().clone() };
    // Whatever ends it first: dropping the measurement ends its children and removes its folder.
    let report = tokio::select! {
        measured = bench.measure() => measured?,
        Some(()) = signals.next() => return Err(anyhow::anyhow!("interrupted").into()),
        () = failed.cancelled() => return Err(anyhow::anyhow!("a task failed; see the log").into()),
    };
    report.warn();
    context.output.answer(&report, Report::for_people)?;
    let (refused, not_relayed) = (report.refused, report.not_relayed);
    if refused + not_relayed > 0 {
        let failure = anyhow::anyhow!("{refused} mails were not accepted, {not_relayed} not relayed within {timeout}");
        return Err(failure.into());
    }
    Ok(())
}

/// What is measured, and with what.
struct Bench {
    arguments: Arguments,
    program: PathBuf,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
}

impl Bench {
    /// All runs.
    async fn measure(&self) -> anyhow::Result<Report> {
        let arguments = &self.arguments;
        let place = Place::of(self.folder()?.path()).context("trying the disk")?;
        let mut runs = Vec::new();
        for _ in 0..arguments.runs {
            runs.push(self.trial().await?);
        }
        let relay = match &arguments.relay {
            Some(at) => format!("{}:{}", at.host, at.port),
            None if arguments.is_intake_alone() => "none".to_owned(),
            None => OWN_INBOX.to_owned(),
        };
        Ok(Report {
            messages: arguments.messages,
            size_bytes: arguments.size.0,
            connections: arguments.connections,
            sessions: arguments.sessions,
            relay,
            file_system: place.file_system,
            disk_sync_millis: f64::from(place.sync_micros) / 1e3,
            cores: std::thread::available_parallelism().ok().map(Into::into),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            medians: Figures::medians(&runs),
            refused: runs.iter().map(|run| run.refused).sum(),
            not_relayed: runs.iter().map(|run| run.not_relayed).sum(),
            runs,
        })
    }

    /// A folder of its own, removed when dropped.
    fn folder(&self) -> anyhow::Result<TempDir> {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("postern-bench-");
        let made = match &self.arguments.dir {
            Some(dir) => builder.tempdir_in(dir),
            None => builder.tempdir(),
        };
        made.context("making a temporary folder")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_a_host_and_a_port() {
        for (text, host, port) in [
            ("127.0.0.1:2525", "127.0.0.1", 2525),
            ("relay.example:25", "relay.example", 25),
            ("[::1]:2525", "::1", 2525),
        ] {
            assert_eq!(text.parse(), Ok(RelayAt { host: host.to_owned(), port }), "{text}");
        }
        for wrong in ["", "relay", "relay:", ":25", "relay:0", "relay:65536", "::1:25", "[::1]", "[]:25", "[a:25"] {
            assert!(wrong.parse::<RelayAt>().is_err(), "{wrong}");
        }
    }
}
