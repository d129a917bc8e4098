//! The command line: one file per command; arguments in, one readable answer out, an exit code at the end.
//!
//! Standard output carries the answer only: a table for people, or with `--format json` exactly one object or array.
//! Logs and errors go to standard error. Exit codes: 0 done, 1 failed, 2 usage or configuration.

mod audit;
mod backfill;
mod bench;
mod brake;
mod check;
mod contacts;
mod demo;
mod import;
mod inbox;
mod journeys;
mod keys;
mod output;
mod parent;
mod push;
mod queue;
mod send;
mod serve;
mod suppressions;
mod templates;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Environment, Problems};
use crate::telemetry::{self, LogFormat, LogLevel, LogSettings};

use output::{Format, Output};

/// How much delivery's threads yield to all others (nice(2)): to about a third of a share when all want one.
#[cfg(target_os = "linux")]
const DELIVERY_NICE: i32 = 5;
/// What threads that block may take at the very end.
const RUNTIME_GRACE: Duration = Duration::from_secs(2);

/// A private email gateway for brands that use The Wallet Crew.
#[derive(Parser)]
#[command(name = "postern", version, propagate_version = true, arg_required_else_help = true, after_help = EXAMPLES)]
struct Arguments {
    /// The configuration folder
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        help = "The configuration folder [env: POSTERN_CONFIG] [default: config]"
    )]
    config: Option<PathBuf>,
    /// How the answer is written
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  postern demo                                   see it work, with nothing else installed
  postern check --relay                          look at the configuration and greet the relays
  postern keys create --tenant demo --name shop --scope send --scope read
  postern serve                                  run the gateway
  postern queue summary                          how many mails stand where

Exit codes: 0 done, 1 failed, 2 usage or configuration.";

#[derive(Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM or SIGINT
    Serve(serve::Arguments),
    /// Run everything at once in a temporary folder, with a capture inbox as relay
    Demo(demo::Arguments),
    /// Find every problem in the configuration, the store and, if asked, the relays
    Check(check::Arguments),
    /// Make, list and revoke API keys
    Keys(keys::Arguments),
    /// Send one mail through the same door as every other
    Send(send::Arguments),
    /// See what there is and steer it: hold, release, cancel, retry
    Queue(Box<queue::Arguments>),
    /// See which streams of mails are out of line, and decide about them
    Brake(brake::Arguments),
    /// Prove what happened: verify the log, export it, make a receipt of one mail
    Audit(audit::Arguments),
    /// Mend who has the pass by what the Pass API says
    Backfill(backfill::Arguments),
    /// See what the tenants' own receivers were not told yet, and have it sent again
    Push(push::Arguments),
    /// Import, show, list and erase what is known of customers
    Contacts(contacts::Arguments),
    /// Add, remove, list and import who is not to be mailed
    Suppressions(suppressions::Arguments),
    /// See journeys and how far their customers are, try a drawing, pause one and let it go on
    Journeys(journeys::Arguments),
    /// See which mails of your own there are, render one, look at all of them
    Templates(templates::Arguments),
    /// Run the capture SMTP server alone
    Inbox(inbox::Arguments),
    /// Measure this machine with the gateway's real parts in a temporary store
    Bench(bench::Arguments),
}

/// Why a command did not do what it was asked to.
enum Failure {
    /// The configuration is wrong: exit code 2.
    Configuration(Problems),
    /// The command was used wrongly: exit code 2.
    Usage(String),
    /// It did not work: exit code 1.
    Failed(anyhow::Error),
    /// All was said already: exit code 1 or 2.
    Said(u8),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

type Done = Result<(), Failure>;

/// What every command is given.
struct Context {
    environment: Environment,
    folder: PathBuf,
    output: Output,
    clock: Arc<dyn Clock>,
}

impl Context {
    /// The configuration; wrong ones end the command.
    fn config(&self) -> Result<Config, Failure> {
        Config::load(&self.folder, &self.environment).map_err(Failure::Configuration)
    }
}

/// Logs of a command that answers and ends: only what somebody should look at.
const QUIET: LogSettings = LogSettings { level: LogLevel::Warn, format: LogFormat::Auto };

/// Runs the command of this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A reader that went away is no failure of ours.
            _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    // An error means that there is one already.
    _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::Failed(anyhow::Error::new(error).context("starting the runtime"))),
    };
    let done = runtime.block_on(run(arguments));
    runtime.shutdown_timeout(RUNTIME_GRACE);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

/// The main runtime: delivery, and all else that is not a door (each worker of the doors is a runtime of its own).
///
/// Its threads yield a little when the processors are short, and so find more to do when they run. Measured on two full
/// cores, in four pairs of runs: end to end 7 % more mails, at 4 % fewer accepts while delivery catches up.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().thread_name("postern");
    #[cfg(target_os = "linux")]
    builder.on_thread_start(|| {
        // On Linux this is the thread's own. Economy: where it is not allowed all threads are equal.
        let _ = rustix::process::setpriority_process(None, DELIVERY_NICE);
    });
    builder.build()
}

async fn run(arguments: Arguments) -> Done {
    let environment = Environment::of_process();
    let folder = environment.folder(arguments.config);
    let output = Output::new(arguments.format);
    let context = Context { environment, folder, output, clock: Arc::new(SystemClock) };
    match arguments.command {
        // Each of these starts its logs as its configuration says.
        Command::Serve(serve) => return serve::run(context, serve).await,
        Command::Demo(demo) => {
            telemetry::start(LogSettings::default());
            return demo::run(context, demo).await;
        }
        Command::Inbox(inbox) => {
            telemetry::start(LogSettings::default());
            return inbox::run(context, inbox).await;
        }
        Command::Backfill(_) => _ = telemetry::start(backfill::log_settings()),
        Command::Check(_)
        | Command::Keys(_)
        | Command::Send(_)
        | Command::Queue(_)
        | Command::Brake(_)
        | Command::Audit(_)
        | Command::Push(_)
        | Command::Contacts(_)
        | Command::Suppressions(_)
        | Command::Journeys(_)
        | Command::Templates(_)
        | Command::Bench(_) => {
            telemetry::start(QUIET);
        }
    }
    match arguments.command {
        Command::Check(check) => check::run(context, check).await,
        Command::Keys(keys) => keys::run(context, keys).await,
        Command::Send(send) => send::run(context, send).await,
        Command::Queue(queue) => queue::run(context, *queue).await,
        Command::Brake(brake) => brake::run(context, brake).await,
        Command::Audit(audit) => audit::run(context, audit).await,
        Command::Backfill(backfill) => backfill::run(context, backfill).await,
        Command::Push(push) => push::run(context, push).await,
        Command::Contacts(contacts) => contacts::run(context, contacts).await,
        Command::Suppressions(suppressions) => suppressions::run(context, suppressions).await,
        Command::Journeys(journeys) => journeys::run(context, journeys).await,
        Command::Templates(templates) => templates::run(context, templates).await,
        Command::Bench(bench) => bench::run(context, bench).await,
        Command::Serve(_) | Command::Demo(_) | Command::Inbox(_) => Ok(()),
    }
}

fn report(failure: &Failure) -> ExitCode {
    let (text, code) = match failure {
        Failure::Configuration(problems) => (problems.to_string(), 2),
        Failure::Usage(what) => (format!("error: {what}"), 2),
        Failure::Failed(error) => (format!("error: {}", telemetry::Chain(error.as_ref())), 1),
        Failure::Said(code) => return ExitCode::from(*code),
    };
    output::complain(&text);
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent_and_every_command_has_examples() {
        let mut command = Arguments::command();
        command.clone().debug_assert();
        command.build();
        let mut open: Vec<&clap::Command> = command.get_subcommands().collect();
        while let Some(sub) = open.pop() {
            if sub.get_name() == "help" {
                continue;
            }
            let examples = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                examples.contains(&format!("postern {}", sub.get_bin_name().unwrap().replacen("postern ", "", 1))),
                "{}",
                sub.get_name()
            );
            // Longer ones are broken where there is no terminal to ask, and no shell takes them then.
            let runs = |line: &&str| line.starts_with("  postern ");
            assert!(examples.lines().filter(runs).all(|line| line.len() <= 100), "{examples}");
            open.extend(sub.get_subcommands());
        }
    }

    #[test]
    fn global_options_may_stand_on_either_side_of_the_command() {
        for line in [
            ["postern", "--config", "x", "--format", "json", "serve"],
            ["postern", "serve", "--config", "x", "--format", "json"],
        ] {
            let arguments = Arguments::try_parse_from(line).map_err(|error| error.to_string()).unwrap();
            assert!(arguments.format == Format::Json && arguments.config == Some(PathBuf::from("x")));
        }
    }
}
