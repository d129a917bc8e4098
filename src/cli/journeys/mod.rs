//! `postern journeys`: which there are, how far their customers are, and what you make of one.

mod show;
mod simulate;
mod simulated;

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::Subcommand;
use tokio::sync::{Notify, watch};

use super::keys::unknown_tenant;
use super::output::table;
use super::{Context, Done, Failure};
use crate::app::parts;
use crate::config::Config;
use crate::domain::audit::Actor;
use crate::domain::ids::{JourneyName, TenantId};
use crate::domain::journey::enrollment::{Ending, Mode, Status};
use crate::domain::verb::Because;
use crate::journeys::desk::{Desk, JourneyLine};
use crate::store::Store;
use crate::store::sqlite::Role;

#[derive(clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  postern journeys list
  postern journeys show welcome
  postern journeys simulate welcome --since 30d
  postern journeys pause welcome --because 'wrong price in the mail'
  postern journeys resume welcome

What is drawn stands in journeys/<name>.toml; postern check looks through it, and a running gateway reads it again
when it gets SIGHUP. Whoever is on the way ends with the drawing they began with. A running gateway sees what is
said here within a second."
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Journeys, what begins them, and how many customers stand where
    #[command(after_help = "\
Examples:
  postern journeys list
  postern journeys list --tenant demo --format json")]
    List {
        /// Whose
        #[arg(long, value_name = "T")]
        tenant: Option<TenantId>,
    },
    /// One journey: its steps, its versions, and how often each step went in which way
    #[command(after_help = "\
Examples:
  postern journeys show welcome
  postern journeys show welcome --format json")]
    Show(Which),
    /// Who would get what and when, by a drawing and the events of the last weeks; nothing is sent, nothing changes
    #[command(after_help = "\
Examples:
  postern journeys simulate welcome --since 30d
  postern journeys simulate welcome --since 30d --config drafts
  postern journeys simulate welcome --events events.ndjson --format json
  postern journeys simulate welcome --generate 1000 --seed 7 --limit 0

The drawing of the configuration folder is tried, with the real parts, a clock of its own and a store that is gone
afterwards. Events come from the gateway's ledger, with the contacts it knows and what those customers had entered
before. It is compared with the drawing that runs (the gateway's; without one, what was entered last), or with that
of another folder (--against). Mails count as sent when they are handed in; nobody asks a CRM.")]
    Simulate(simulate::Simulate),
    /// Nobody goes on until it is resumed; who is to enter still enters, and waits
    #[command(after_help = "\
Examples:
  postern journeys pause welcome
  postern journeys pause welcome --because 'wrong price in the mail'

Mails that were handed in already go out: hold them with postern queue hold.")]
    Pause(Word),
    /// It takes customers, and they go on: what became due meanwhile at once
    #[command(after_help = "\
Examples:
  postern journeys resume welcome
  postern journeys resume welcome --because 'the price is right now'")]
    Resume(Word),
    /// It takes nobody any more; who is in it goes on to the end
    #[command(after_help = "\
Examples:
  postern journeys drain welcome
  postern journeys drain summer --because 'the summer is over'

A journey whose file is taken away stands still at once instead, with everybody in it.")]
    Drain(Word),
}

#[derive(clap::Args)]
struct Which {
    /// The journey: its file's name without .toml
    #[arg(value_name = "NAME")]
    name: JourneyName,
    /// Whose, where several tenants had one of this name
    #[arg(long, value_name = "T")]
    tenant: Option<TenantId>,
}

#[derive(clap::Args)]
struct Word {
    #[command(flatten)]
    which: Which,
    /// Why, for the audit: at most 200 characters, no address, no link
    #[arg(long, value_name = "TEXT")]
    because: Option<Because>,
}

/// A desk, and what the commands must know besides.
struct Journeys<'a> {
    context: &'a Context,
    config: &'a Config,
    desk: Desk,
}

pub(super) async fn run(context: Context, arguments: Arguments) -> Done {
    let config = context.config()?;
    let store = parts::open_store(&config.store, Role::Command)?;
    let done = steer(&context, &config, &store, arguments.verb).await;
    store.close().await;
    done
}

async fn steer(context: &Context, config: &Config, store: &Arc<dyn Store>, verb: Verb) -> Done {
    let rules = watch::Sender::new(Arc::new(config.rules()));
    // Nobody waits in this process: the gateway looks for itself.
    let desk = parts::desk(store, &context.clock, &rules, &Arc::new(Notify::new()));
    let journeys = Journeys { context, config, desk };
    match verb {
        Verb::List { tenant } => journeys.list(tenant.as_ref()).await,
        Verb::Show(which) => journeys.show(&which).await,
        Verb::Simulate(simulate) => simulate.run(context, config, store).await,
        Verb::Pause(word) => journeys.set(word, Mode::Paused).await,
        Verb::Resume(word) => journeys.set(word, Mode::Running).await,
        Verb::Drain(word) => journeys.set(word, Mode::Draining).await,
    }
}

impl Journeys<'_> {
    async fn list(&self, tenant: Option<&TenantId>) -> Done {
        if let Some(tenant) = tenant {
            self.known(tenant)?;
        }
        let mut lines = Vec::new();
        for id in self.config.tenants.keys().filter(|id| tenant.is_none_or(|tenant| tenant == *id)) {
            lines.extend(self.desk.list(id).await.context("reading the journeys")?);
        }
        self.context.output.answer(&lines, |lines| {
            let rows: Vec<_> = lines.iter().map(row).collect();
            table(
                ["JOURNEY", "TENANT", "MODE", "VERSION", "TRIGGER", "ENTRY", "ENTERED", "ON THE WAY", "COMPLETED"],
                &rows,
            )
        })?;
        Ok(())
    }

    async fn show(&self, which: &Which) -> Done {
        let tenant = self.whose(which).await?;
        let found = self.desk.show(&tenant, &which.name).await.context("reading the journey")?;
        let journey = found.ok_or_else(|| nobody(which))?;
        self.context.output.answer(&journey, show::text)?;
        Ok(())
    }

    async fn set(&self, word: Word, mode: Mode) -> Done {
        let Word { which, because } = word;
        let tenant = self.whose(&which).await?;
        let says = (Actor::Command("journeys"), because);
        let set = self.desk.set(&tenant, &which.name, mode, says).await.context("steering the journey")?;
        let journey = set.ok_or_else(|| nobody(&which))?;
        self.context.output.answer(&journey, |journey| {
            let JourneyLine { name, mode, counts, .. } = &journey.line;
            format!("{name}  {}\nOn the way  {}", mode.as_str(), counts.live())
        })?;
        Ok(())
    }

    /// The tenant that has such a journey.
    async fn whose(&self, which: &Which) -> Result<TenantId, Failure> {
        if let Some(tenant) = &which.tenant {
            self.known(tenant)?;
            return Ok(tenant.clone());
        }
        // A file's name is one tenant's; what was there before may have been another's.
        if let Some(drawn) = self.config.journeys.get(&which.name) {
            return Ok(drawn.journey.tenant.clone());
        }
        let mut found = Vec::new();
        for tenant in self.config.tenants.keys() {
            if self.desk.has(tenant, &which.name).await.context("looking for the journey")? {
                found.push(tenant.clone());
            }
        }
        match found.len() {
            0 => Err(nobody(which).into()),
            1 => Ok(found.remove(0)),
            _ => Err(Failure::Usage(format!("several tenants had a journey {}: name one with --tenant", which.name))),
        }
    }

    fn known(&self, tenant: &TenantId) -> Done {
        if self.config.tenants.contains_key(tenant) { Ok(()) } else { Err(unknown_tenant(tenant, self.config)) }
    }
}

fn nobody(which: &Which) -> anyhow::Error {
    anyhow!("there is no journey {}", which.name)
}

fn row(line: &JourneyLine) -> [String; 9] {
    let JourneyLine { name, tenant, version, drawn, mode, trigger, entry, counts } = line;
    [
        name.to_string(),
        tenant.to_string(),
        // What is not drawn any more stands still, whatever was said of it.
        if *drawn { mode.as_str().to_owned() } else { "not drawn".to_owned() },
        version.to_string(),
        trigger.map_or_else(|| "-".to_owned(), |trigger| trigger.to_string()),
        entry.map_or_else(|| "-".to_owned(), |entry| entry.to_string()),
        counts.entered.to_string(),
        counts.live().to_string(),
        counts.of(Status::Ended(Ending::Completed)).to_string(),
    ]
}
