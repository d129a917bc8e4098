//! `postern brake`: which streams of mails are out of line, and what you make of them.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::Subcommand;
use tokio::sync::Notify;

use super::output::{complain, table};
use super::queue::confirm;
use super::{Context, Done};
use crate::app::parts;
use crate::brake::{Lever, decided_before};
use crate::domain::audit::Actor;
use crate::domain::brake::{Brake, Cause, Decision, Effect};
use crate::domain::ids::{BrakeId, TenantId};
use crate::domain::verb::Because;
use crate::store::sqlite::Role;
use crate::store::{BrakeDecided, Store};

/// Brakes in a list at most: there are as many as streams that are out of line at once.
const LISTED_MAX: usize = 10_000;

#[derive(clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  postern brake list
  postern brake release brk_01990000000070008000000000000001 --because 'the summer campaign'
  postern brake cancel brk_01990000000070008000000000000001 --because 'a loop in a script' --yes

A running gateway sees the decision within a second. What was interrupted goes on when it is said again."
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Brakes that are on: which stream, since when, why, and what they hold
    #[command(after_help = "\
Examples:
  postern brake list
  postern brake list --tenant demo --format json")]
    List {
        /// Whose
        #[arg(long, value_name = "T")]
        tenant: Option<TenantId>,
    },
    /// It was meant: what is held goes on, and so much is usual from now on
    #[command(after_help = "\
Examples:
  postern brake release brk_01990000000070008000000000000001
  postern brake release brk_01990000000070008000000000000001 --because 'the summer campaign' --yes")]
    Release(Which),
    /// It was not meant: what is held ends unsent; new mails flow and are watched as before
    #[command(after_help = "\
Examples:
  postern brake cancel brk_01990000000070008000000000000001
  postern brake cancel brk_01990000000070008000000000000001 --because 'a loop in a script' --yes")]
    Cancel(Which),
}

#[derive(clap::Args)]
struct Which {
    /// The brake's id
    #[arg(value_name = "ID")]
    id: BrakeId,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Why, for the audit: at most 200 characters, no address, no link
    #[arg(long, value_name = "TEXT")]
    because: Option<Because>,
}

pub(super) async fn run(context: Context, arguments: Arguments) -> Done {
    let config = context.config()?;
    let store = parts::open_store(&config.store, Role::Command)?;
    let done = match arguments.verb {
        Verb::List { tenant } => list(&context, &store, tenant).await,
        Verb::Release(which) => which.run(&context, &store, Decision::Release).await,
        Verb::Cancel(which) => which.run(&context, &store, Decision::Cancel).await,
    };
    store.close().await;
    done
}

async fn list(context: &Context, store: &Arc<dyn Store>, tenant: Option<TenantId>) -> Done {
    let brakes = store.open_brakes(tenant, LISTED_MAX).await.context("reading the brakes")?;
    context.output.answer(&brakes, |brakes| {
        let rows: Vec<_> = brakes.iter().map(row).collect();
        table(["ID", "SINCE", "TENANT", "KEY", "TEMPLATE", "STATUS", "CAUSE", "SEEN", "ALLOWED", "HELD"], &rows)
    })?;
    Ok(())
}

fn row(brake: &Brake) -> [String; 10] {
    let Brake { id, stream, excess, effect, engaged_at, held, .. } = brake;
    [
        id.to_string(),
        format!("{engaged_at:.0}"),
        stream.tenant.to_string(),
        stream.key.to_string(),
        stream.template.clone().unwrap_or_else(|| "-".to_owned()),
        brake.status().as_str().to_owned(),
        excess.cause.as_str().to_owned(),
        excess.seen.to_string(),
        excess.allowed.to_string(),
        match effect {
            Effect::Hold => held.to_string(),
            Effect::Alarm => "-".to_owned(),
        },
    ]
}

impl Which {
    async fn run(self, context: &Context, store: &Arc<dyn Store>, decision: Decision) -> Done {
        let nobody = || anyhow!("there is no brake {}", self.id);
        let brake = store.brake(self.id).await.context("reading the brake")?.ok_or_else(nobody)?;
        if !self.yes && brake.decision.is_none() {
            complain(&question(&brake, decision));
            confirm()?;
        }
        // Nobody waits in this process: the gateway looks for itself.
        let lever = Lever::new(Arc::clone(store), Arc::clone(&context.clock), Arc::new(Notify::new()));
        let pulled = lever.pull((self.id, None), decision, Actor::Command("brake"), self.because.clone()).await;
        let stopped = || format!("{decision} stopped: what is done stays so; say it again to go on");
        match pulled.with_context(stopped)? {
            BrakeDecided::Decided(brake) => context
                .output
                .answer(&brake, |brake| format!("{}  {}\nMails  {}", brake.id, brake.status().as_str(), brake.done))?,
            BrakeDecided::NoBrake => return Err(nobody().into()),
            BrakeDecided::WrongState(brake) => return Err(anyhow!("{}: {}", self.id, decided_before(&brake)).into()),
        }
        Ok(())
    }
}

/// What would happen.
fn question(brake: &Brake, decision: Decision) -> String {
    let Brake { stream, held, .. } = brake;
    let template = stream.template.as_deref().unwrap_or("no template");
    let would = match decision {
        Decision::Release if brake.excess.cause == Cause::SameRecipient => {
            "would go on, and as many near-identical mails to one recipient are in line until the gateway starts again"
        }
        Decision::Release => "would go on, and so much is usual from then on",
        Decision::Cancel => "would end unsent",
    };
    let stream = format!("{}, {}, {template}", stream.tenant, stream.key);
    super::output::printable(&format!("{held} mails of the stream {stream} are held. They {would}."))
}
