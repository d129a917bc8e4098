//! What an operator reads: log lines on standard error, error chains, and where a panic happened.
//!
//! Only our own crate speaks below `warn`: a dependency's debug lines may hold addresses or contents, ours may not.
//! No line names a recipient: a message is known by its id.

use std::fmt;
use std::io::IsTerminal as _;
use std::panic::PanicHookInfo;

use serde::{Deserialize, Serialize};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

/// `[log]` in `postern.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, expecting = "a table")]
pub struct LogSettings {
    /// The least important lines that are written.
    pub level: LogLevel,
    /// How a line is written.
    pub format: LogFormat,
}

/// How important a line is at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Somebody must act.
    Error,
    /// Somebody should look.
    Warn,
    /// What happened.
    #[default]
    Info,
    /// Why it happened.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    const fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Changes how much is said while it is being said.
#[derive(Clone)]
pub struct Volume(reload::Handle<Targets, Registry>);

impl Volume {
    /// From now on lines of this level and above are written.
    pub fn set(&self, level: LogLevel) {
        if let Err(error) = self.0.reload(heard(level)) {
            tracing::error!(%error, "the level of the log could not be changed");
        }
    }
}

/// Libraries that read what mails are made of.
const CONTENT_PARSERS: [&str; 7] =
    ["html5ever", "markup5ever", "web_atoms", "selectors", "cssparser", "css_inline", "mrml"];

/// Who is heard, and from which level on.
fn heard(level: LogLevel) -> Targets {
    let level = level.filter();
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        // actix-http says ERROR of every request that is not HTTP: anybody could fill the log.
        .with_target("actix_http", LevelFilter::OFF)
        // What parses HTML and MJML says of each oddity in them where in the parser it was: so could they.
        .with_targets(CONTENT_PARSERS.map(|parser| (parser, LevelFilter::OFF)))
        .with_target(env!("CARGO_CRATE_NAME"), level)
}

/// Begins to write log lines to standard error and notes every panic there. Later calls change nothing.
pub fn start(settings: LogSettings) -> Volume {
    let (ours, volume) = reload::Layer::new(heard(settings.level));
    let registry = tracing_subscriber::registry().with(ours);
    let terminal = std::io::stderr().is_terminal();
    let json = match settings.format {
        LogFormat::Auto => !terminal,
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // An error means that a subscriber is there already, as in a test that starts two commands.
    let started = if json {
        registry.with(layer.json().flatten_event(true).with_current_span(true).with_span_list(false)).try_init()
    } else {
        registry.with(layer.with_ansi(terminal)).try_init()
    };
    if started.is_ok() {
        std::panic::set_hook(Box::new(note_panic));
    }
    Volume(volume)
}

/// A panic's payload may hold what came from outside; its place never does.
fn note_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
    let thread = std::thread::current();
    tracing::error!(panic.location = %place, thread = thread.name().unwrap_or("unnamed"), "panicked");
}

/// An error with everything that caused it, outermost first: `doing this: doing that: what was wrong`.
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("opening the box")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("the lid is stuck")]
    struct Inner;

    #[test]
    fn a_chain_is_one_line_from_the_outside_in() {
        assert_eq!(Chain(&Outer(Inner)).to_string(), "opening the box: the lid is stuck");
        assert_eq!(Chain(&Inner).to_string(), "the lid is stuck");
    }

    #[test]
    fn dependencies_are_never_heard_below_warn() {
        for level in [LogLevel::Info, LogLevel::Debug, LogLevel::Trace] {
            assert_eq!(level.filter().min(LevelFilter::WARN), LevelFilter::WARN);
        }
        assert_eq!(LogLevel::Error.filter().min(LevelFilter::WARN), LevelFilter::ERROR);
    }
}
