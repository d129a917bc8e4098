//! `postern backfill`: what the Pass API says becomes what we know, or the difference is shown.

use std::io::{IsTerminal as _, stderr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;

use super::output::{Output, complain, printable};
use super::{Context, Done, Failure};
use crate::app::{self, parts, passes};
use crate::clock::Clock;
use crate::domain::audit::Actor;
use crate::domain::backfill::{Difference, Repaired, Tally};
use crate::domain::ids::TenantId;
use crate::store::Store;
use crate::store::sqlite::Role;
use crate::telemetry::{LogFormat, LogLevel, LogSettings};
use crate::wallet::backfill::{Mode, Start, Summary, Told, Trouble, Wish};

/// Where nobody watches a bar, a line in the log says now and then how far it is.
const LINE_EVERY: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  postern backfill --tenant demo --dry-run               show what is wrong, and change nothing
  postern backfill --tenant demo                         mend it
  postern backfill --tenant demo --restart               from the beginning, whatever was begun
  postern backfill --tenant demo --format json

Where the Pass API is, and its key, stands in the tenant's file under [pass_api]. What was interrupted goes on
where it stood. It works beside a running gateway, which can also do it each day by itself (daily_at).")]
pub(super) struct Arguments {
    /// Whose passes
    #[arg(long, value_name = "T")]
    tenant: TenantId,
    /// Show the difference and change nothing, not even how far a run has come
    #[arg(long)]
    dry_run: bool,
    /// Begin anew, also when an earlier run has not ended
    #[arg(long)]
    restart: bool,
}

/// The logs of this command: a line now and then, unless a bar is shown.
pub(super) fn log_settings() -> LogSettings {
    let level = if stderr().is_terminal() { LogLevel::Warn } else { LogLevel::Info };
    LogSettings { level, format: LogFormat::Auto }
}

pub(super) async fn run(context: Context, arguments: Arguments) -> Done {
    let config = context.config()?;
    let id = &arguments.tenant;
    let file = context.folder.join("tenants").join(format!("{id}.toml")).display().to_string();
    let tenant = config.tenants.get(id).ok_or_else(|| Failure::Usage(format!("there is no tenant {id}: {file}")))?;
    let without = || Failure::Usage(format!("{file} has no [pass_api]: url, tenant and key or key_file are needed"));
    let api = tenant.pass_api.as_ref().ok_or_else(without)?;
    let store = parts::open_store(&config.store, Role::Command)?;
    let rules = watch::Sender::new(Arc::new(config.rules()));
    let ledger = Arc::new(app::ledger(&config, &rules, &context.clock, &store, Arc::default()));
    let backfill = passes::backfill(&config, &ledger, &store, &context.clock)?;
    let scratch = arguments.dry_run.then(Scratch::open).transpose()?;
    let wish = Wish {
        tenant,
        api,
        mode: scratch.as_ref().map_or(Mode::Mend, |scratch| Mode::Tell(Arc::clone(&scratch.store))),
        start: if arguments.restart { Start::Anew } else { Start::GoOn },
        actor: Actor::Command("backfill"),
    };
    let mut progress = Progress::begin(Arc::clone(&context.clock));
    let mut diff = scratch.is_some().then(|| Diff::begin(context.output));
    let ran = backfill
        .run(&wish, &mut |told| match told {
            Told::Page(tally, total) => progress.page(tally, total),
            Told::Difference(difference) => {
                if let Some(diff) = &mut diff {
                    progress.around(|| diff.line(difference));
                }
            }
        })
        .await;
    progress.end();
    store.close().await;
    if let Some(scratch) = scratch {
        scratch.store.close().await;
    }
    let summary = ran.map_err(|trouble| failure(&trouble, &wish.mode))?;
    match diff {
        Some(diff) => diff.end(&summary)?,
        None => context.output.answer(&summary, shown)?,
    }
    Ok(())
}

fn failure(trouble: &Trouble, mode: &Mode) -> Failure {
    let again = match trouble {
        Trouble::Unavailable(_) | Trouble::TooLong | Trouble::Store(_) if matches!(mode, Mode::Mend) => {
            "; what was done stays so: say it again to go on"
        }
        Trouble::ManyMissing { .. } => {
            "; if it is right raise pass_api.missing_max, if not mend the API and begin anew with --restart"
        }
        Trouble::Empty { .. } => "; mend the API and begin anew with --restart",
        _ => "",
    };
    let text = format!("{trouble}{again}");
    Failure::Failed(match std::error::Error::source(trouble) {
        Some(source) => anyhow!("{source}").context(text),
        None => anyhow!(text),
    })
}

/// A store of its own for what a dry run must remember: nothing is changed in the real one.
struct Scratch {
    store: Arc<dyn Store>,
    _folder: tempfile::TempDir,
}

impl Scratch {
    fn open() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let url = format!("sqlite:{}", folder.path().join("scratch.db").display());
        let store =
            parts::open_store(&crate::store::settings::StoreSettings { url, content_key_file: None }, Role::Command)?;
        Ok(Self { store, _folder: folder })
    }
}

/// How far it is: a bar on a terminal, else a line in the log now and then.
struct Progress {
    clock: Arc<dyn Clock>,
    bar: Option<ProgressBar>,
    line_at: Timestamp,
}

impl Progress {
    fn begin(clock: Arc<dyn Clock>) -> Self {
        let line_at = clock.now().checked_add(LINE_EVERY).unwrap_or(Timestamp::MAX);
        let bar = stderr().is_terminal().then(|| {
            // A template of our own that does not parse would be a plain bar.
            let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} passes, {per_sec}, {eta} {msg}");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { clock, bar, line_at }
    }

    fn page(&mut self, tally: &Tally, total: Option<u64>) {
        if let Some(bar) = &self.bar {
            // The total is the API's word, which is not always true.
            bar.set_length(total.unwrap_or_default().max(tally.read));
            bar.set_position(tally.read);
            return;
        }
        let now = self.clock.now();
        if now >= self.line_at {
            self.line_at = now.checked_add(LINE_EVERY).unwrap_or(Timestamp::MAX);
            tracing::info!(read = tally.read, total_told = total, pages = tally.pages, "reading passes");
        }
    }

    /// Does something to the terminal that the bar would be in the way of.
    fn around(&self, work: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(work),
            None => work(),
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// What a dry run shows, as it is found: it may be much, and is kept nowhere.
struct Diff {
    output: Output,
    lines: u64,
}

impl Diff {
    fn begin(output: Output) -> Self {
        output.piece("{\"differences\":[", "");
        Self { output, lines: 0 }
    }

    fn line(&mut self, difference: &Difference) {
        let comma = if self.lines == 0 { "" } else { "," };
        self.lines += 1;
        // Unwrap safety: texts under names that are texts; serialising these cannot fail.
        let json = serde_json::to_string(difference).unwrap_or_default();
        let Difference { pass, kind, wallet, identifiers } = difference;
        let wallet = wallet.map_or("-", crate::domain::pass_event::Wallet::as_str);
        let line = format!("{:<15} {wallet:<7} {} {}", kind.as_str(), pass, identifiers.join(" "));
        self.output.piece(&format!("{comma}{json}"), &format!("{}\n", printable(line.trim_end())));
    }

    fn end(self, summary: &Summary) -> Result<(), serde_json::Error> {
        let Value::Object(members) = serde_json::to_value(summary)? else { return Ok(()) };
        let members = serde_json::to_string(&members)?;
        self.output.piece(&format!("],{}\n", members.trim_start_matches('{')), &format!("{}\n", shown(summary)));
        if self.lines > 0 {
            complain("a dry run: nothing was changed");
        }
        Ok(())
    }
}

fn shown(summary: &Summary) -> String {
    let Summary { tally, complete, .. } = summary;
    let Repaired { installed, removed, identifiers, new } = &tally.repaired;
    let mut lines = vec![
        format!("Read            {}", tally.read),
        format!("Unchanged       {}", tally.unchanged),
        format!("Repaired        {new} new, {installed} installed, {removed} removed, {identifiers} identifiers"),
        format!("Not understood  {}", tally.not_understood),
        format!("Missing         {}", tally.missing),
        format!("Pages           {} in {} requests, {} s", tally.pages, tally.requests, tally.seconds),
    ];
    if !complete {
        lines.push(
            "Not all may have been read: the API gives its passes in no order. Nothing is called missing.".into(),
        );
    }
    lines.join("\n")
}
