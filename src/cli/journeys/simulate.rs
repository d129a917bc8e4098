//! `postern journeys simulate`: a drawing tried on events, and what it changes for those who run it already.

use std::fs::File;
use std::io::{BufRead as _, BufReader, IsTerminal as _, stderr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;

use super::Which;
use super::simulated::{Shown, Simulated};
use crate::app::simulation::compare::compare;
use crate::app::simulation::made::Made;
use crate::app::simulation::source::{Recorded, Source, Timed};
use crate::app::simulation::{Progress, Run, Trial};
use crate::app::templates;
use crate::cli::queue::filter::When;
use crate::cli::{Context, Done, Failure};
use crate::config::{Config, Environment};
use crate::domain::ids::{JourneyName, TenantId};
use crate::domain::journey::{Drawn, Journey};
use crate::domain::tenant::Tenant;
use crate::domain::wallet::CustomerKey;
use crate::hatch::{self, Question};
use crate::http::api::lenient::ParseError;
use crate::http::api::pass_events;
use crate::lifecycle;
use crate::store::Store;

/// Events made up at most.
const MADE_MAX: u64 = 10_000_000;
/// Mails and changes that are listed for people when nobody says how many.
const LISTED: usize = 50;
/// No line of a file of events is longer.
const LINE_BYTES_MAX: usize = 1 << 20;

#[derive(clap::Args)]
pub(super) struct Simulate {
    #[command(flatten)]
    which: Which,
    /// Events since then: a time, or a length of time ago
    #[arg(long, value_name = "WHEN", default_value = "30d")]
    since: When,
    /// Events before then; default: now
    #[arg(long, value_name = "WHEN")]
    until: Option<When>,
    /// Events of this file instead of those recorded: one as POST /v1/pass-events takes it a line, each with occurredAt
    #[arg(long, value_name = "FILE.ndjson", conflicts_with_all = ["since", "until", "generate"])]
    events: Option<PathBuf>,
    /// So many events made up instead of those recorded
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MADE_MAX))]
    generate: Option<u64>,
    /// Makes the same events up again
    #[arg(long, value_name = "S", default_value_t = 1, requires = "generate")]
    seed: u64,
    /// What it is compared with: the drawing in this configuration folder; default: the one that runs
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    /// Mails and changes listed at most; default: 50, in JSON all
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Show customers whose identifier is an address as they are
    #[arg(long)]
    show_addresses: bool,
}

impl Simulate {
    pub(super) async fn run(self, context: &Context, config: &Config, store: &Arc<dyn Store>) -> Done {
        let name = &self.which.name;
        let drawn = config.journeys.get(name).cloned().ok_or_else(|| {
            let file = context.folder.join("journeys").join(format!("{name}.toml"));
            Failure::Usage(format!("there is no journey {name}: {} is not there", file.display()))
        })?;
        let id = drawn.journey.tenant.clone();
        if let Some(tenant) = self.which.tenant.as_ref().filter(|tenant| **tenant != id) {
            return Err(Failure::Usage(format!("the journey {name} is {id}'s, not {tenant}'s")));
        }
        let tenant = config.tenants.get(&id).ok_or_else(|| anyhow!("there is no tenant {id}"))?;
        let before = self.before(context, config, &drawn.journey, store).await?;
        let times = self.times(context.clock.now(), tenant)?;
        let templates = templates::for_serving(config).map_err(Failure::Configuration)?;
        let trial = Trial { config: config.clone(), drawn, templates, begins_at: times.0 };
        let ways = self.ways(store, tenant, times);
        let ran = watched("what is drawn", &trial, ways.open()?).await?;
        let ran_before = match &before {
            Some(before) if before.version != *trial.version() => {
                Some(watched("what runs", &trial.with(Arc::clone(before)), ways.open()?).await?)
            }
            Some(_) | None => None,
        };
        let changes = ran_before.as_ref().map(|before| compare(before, &ran));
        let limit = self.limit.or_else(|| context.output.is_for_people().then_some(LISTED)).unwrap_or(usize::MAX);
        let simulated = Simulated {
            trial: &trial,
            times,
            run: &ran,
            before: before.as_deref(),
            run_before: ran_before.as_ref(),
            changes: changes.as_ref(),
            shown: if self.show_addresses { Shown::AsTheyAre } else { Shown::Masked },
            limit,
        };
        simulated.tell(context.output)?;
        Ok(())
    }

    /// What it is compared with; `None`: nothing runs.
    async fn before(
        &self,
        context: &Context,
        config: &Config,
        journey: &Journey,
        store: &Arc<dyn Store>,
    ) -> Result<Option<Arc<Drawn>>, Failure> {
        if let Some(folder) = &self.against {
            return other_folder(folder, &context.environment, &journey.name).map(Some);
        }
        let database = config.store.sqlite_path().map_err(anyhow::Error::msg)?;
        // What the running gateway goes by; without one, or one that does not say, what was entered last.
        if let Ok(Some(answer)) = hatch::ask(&database, &Question::Journeys).await
            && let Some(found) = answer.get(journey.name.as_str())
            && let Ok(running) = serde_json::from_value::<Journey>(found.clone())
        {
            return Ok(Some(Arc::new(Drawn::from(running))).filter(|running| running.journey.tenant == journey.tenant));
        }
        let versions = store.journey_versions(&journey.tenant).await.context("reading the journey's versions")?;
        let Some((name, version, _)) = versions.into_iter().rfind(|(name, ..)| *name == journey.name) else {
            return Ok(None);
        };
        let written = store.drawing(&journey.tenant, &name, &version).await.context("reading the journey's version")?;
        let drawing = written.and_then(|written| serde_json::from_str::<Journey>(&written).ok());
        Ok(drawing.map(|journey| Arc::new(Drawn::from(journey))))
    }

    /// From when to when events come in.
    fn times(&self, now: Timestamp, tenant: &Tenant) -> Result<(Timestamp, Timestamp), Failure> {
        if let Some(file) = &self.events {
            let mut events = lines(file, tenant)?;
            let first = events.next().transpose()?.map_or(now, |timed| timed.at);
            // Where it ends is seen when it has.
            return Ok((first, Timestamp::MAX));
        }
        let (since, until) = (self.since.before(now), self.until.map_or(now, |until| until.before(now)));
        if since < until {
            Ok((since, until))
        } else {
            Err(Failure::Usage("--since must be before --until".to_owned()))
        }
    }

    fn ways<'w>(&'w self, store: &'w Arc<dyn Store>, tenant: &'w Tenant, times: (Timestamp, Timestamp)) -> Ways<'w> {
        Ways { arguments: self, store, tenant, times }
    }
}

/// The way to the same events, as often as they are needed.
struct Ways<'w> {
    arguments: &'w Simulate,
    store: &'w Arc<dyn Store>,
    tenant: &'w Tenant,
    times: (Timestamp, Timestamp),
}

impl Ways<'_> {
    fn open(&self) -> Result<Source, Failure> {
        let Self { arguments, store, tenant, times } = self;
        let store = Arc::clone(store);
        if let Some(file) = &arguments.events {
            let events = Box::new(lines(file, tenant)?);
            return Ok(Source::Given { events, store, tenant: tenant.id.clone() });
        }
        if let Some(count) = arguments.generate {
            let identifier = tenant.identifiers.first().map_or("customerId", String::as_str);
            return Ok(Source::Made(Made::new(count, arguments.seed, *times, identifier)));
        }
        let whose: (TenantId, JourneyName) = (tenant.id.clone(), arguments.which.name.clone());
        Ok(Source::Recorded(Recorded::new(store, whose, times.0, times.1)))
    }
}

/// The same journey as another folder draws it.
fn other_folder(folder: &Path, environment: &Environment, name: &JourneyName) -> Result<Arc<Drawn>, Failure> {
    let other = Config::load(folder, environment).map_err(Failure::Configuration)?;
    let missing = || Failure::Usage(format!("there is no journey {name} in {}", folder.display()));
    other.journeys.get(name).cloned().ok_or_else(missing)
}

/// The events of a file, line by line.
fn lines(file: &Path, tenant: &Tenant) -> Result<impl Iterator<Item = anyhow::Result<Timed>> + Send + use<>, Failure> {
    let shown = file.display().to_string();
    let opened = File::open(file).map_err(|error| Failure::Usage(format!("{shown}: {error}")))?;
    let mut reader = BufReader::new(opened);
    let (tenant, mut number) = (tenant.clone(), 0_u64);
    let next = move || loop {
        let mut line = Vec::new();
        number += 1;
        let read = std::io::Read::take(&mut reader, LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line);
        let place = || format!("{shown}: line {number}");
        match read.with_context(place) {
            Ok(0) => return None,
            Ok(_) if line.len() > LINE_BYTES_MAX => {
                return Some(Err(anyhow!("{}: longer than {LINE_BYTES_MAX} bytes", place())));
            }
            Ok(_) if line.trim_ascii().is_empty() => {}
            Ok(_) => return Some(timed(line.trim_ascii(), &tenant).with_context(place)),
            Err(error) => return Some(Err(error)),
        }
    };
    Ok(std::iter::from_fn(next))
}

fn timed(line: &[u8], tenant: &Tenant) -> anyhow::Result<Timed> {
    let event = pass_events::from_line(line, tenant).map_err(|error| match error {
        ParseError::Malformed(what) => anyhow!("{what}"),
        ParseError::Invalid(wrong) => {
            let wrong = wrong.iter().map(|error| format!("{}: {}", error.pointer, error.detail));
            anyhow!("{}", wrong.collect::<Vec<_>>().join("; "))
        }
    })?;
    let at = event.occurred_at.ok_or_else(|| anyhow!("occurredAt is missing: when it comes in is not known"))?;
    Ok(Timed { at, customer: CustomerKey::of(&event.identifiers, &tenant.identifiers), event })
}

/// Runs a trial and says on standard error how far it is.
async fn watched(what: &str, trial: &Trial, source: Source) -> Result<Run, Failure> {
    let bar = stderr().is_terminal().then(|| {
        // A template of our own that does not parse would be a plain spinner.
        let style = ProgressStyle::with_template("{spinner} {prefix}: {pos} events, {per_sec}, {msg}");
        ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
    });
    if let Some(bar) = &bar {
        bar.set_prefix(what.to_owned());
    }
    let mut looked = 0_u64;
    let mut told = |Progress { events, mails, at }: Progress| {
        looked += 1;
        if let Some(bar) = bar.as_ref().filter(|_| looked.is_multiple_of(64)) {
            bar.set_position(events);
            bar.set_message(format!("{mails} mails, {}", at.strftime("%F")));
        }
    };
    // What is copied for it goes with it, however it ends.
    let mut stops = lifecycle::stop_signals().context("listening for signals")?;
    let ran = tokio::select! {
        ran = trial.run(source, &mut told) => ran,
        _ = stops.next() => Err(anyhow!("it was interrupted")),
    };
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    Ok(ran.context("the simulation stopped")?)
}
