//! `postern suppressions`: who is not mailed: add, remove, list and import, beside a running gateway or without one.

mod export;
mod import;

use anyhow::Context as _;
use clap::Subcommand;
use serde::Serialize;
use serde_json::json;

use self::export::Export;
use super::import::Import;
use super::keys::unknown_tenant;
use super::output::table;
use super::{Context, Done, Failure};
use crate::app::parts;
use crate::config::Config;
use crate::domain::address::Mailbox;
use crate::domain::audit::Actor;
use crate::domain::ids::{JourneyName, TenantId};
use crate::domain::quantity::HumanDuration;
use crate::domain::suppression::{Change, NewSuppression, Source, Suppression, SuppressionScope};
use crate::domain::verb::Because;
use crate::store::sqlite::Role;
use crate::store::{Lift, Store, StoreError, Suppressed, SuppressionFilter};

/// As whom the audit names these commands.
const ACTOR: Actor = Actor::Command("suppressions");
/// Suppressions in a list when nobody says how many, and at most.
const LIMIT_DEFAULT: u16 = 50;
const LIMIT_MAX: i64 = 10_000;

#[derive(clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  postern suppressions add ann@customer.example --tenant demo --scope journeys
  postern suppressions list --tenant demo --recipient ann@customer.example
  postern suppressions remove ann@customer.example --tenant demo
  postern suppressions import unsubscribed.csv --tenant demo --dry-run

Scopes: everything (all mails of the tenant), journeys (those of all its journeys), journey:NAME (those of one)."
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Mail somebody no more; who is suppressed already stays so
    #[command(after_help = "\
Examples:
  postern suppressions add ann@customer.example --tenant demo
  postern suppressions add ann@customer.example --tenant demo --scope journey:welcome
  postern suppressions add ann@customer.example --tenant demo --for 30d")]
    Add {
        /// Who is not to be mailed
        #[arg(value_name = "ADDRESS", required = true)]
        recipients: Vec<Mailbox>,
        /// Whose mails
        #[arg(long, value_name = "T")]
        tenant: TenantId,
        /// Which of them: everything, journeys or journey:NAME
        #[arg(long, value_name = "S", default_value_t = SuppressionScope::Everything)]
        scope: SuppressionScope,
        /// For how long: 30d, 12h …; without it for good
        #[arg(long = "for", value_name = "D", value_parser = length)]
        length: Option<HumanDuration>,
        /// Why, for the list and the audit
        #[arg(long, value_name = "TEXT")]
        because: Option<Because>,
    },
    /// Mail somebody again; what they said themselves by a link goes too
    #[command(after_help = "\
Examples:
  postern suppressions remove ann@customer.example --tenant demo
  postern suppressions remove ann@customer.example --tenant demo --scope journeys --because again")]
    Remove {
        /// Who is to be mailed again
        #[arg(value_name = "ADDRESS", required = true)]
        recipients: Vec<Mailbox>,
        /// Whose mails
        #[arg(long, value_name = "T")]
        tenant: TenantId,
        /// Only the suppression of exactly this scope; without it all of theirs
        #[arg(long, value_name = "S")]
        scope: Option<SuppressionScope>,
        /// Why, for the audit
        #[arg(long, value_name = "TEXT")]
        because: Option<Because>,
    },
    /// Suppressions, newest first
    #[command(after_help = "\
Examples:
  postern suppressions list --tenant demo
  postern suppressions list --tenant demo --recipient ann@customer.example --format json
  postern suppressions list --tenant demo --scope journeys --limit 1000

Of a person who was erased the address is not shown (-): --recipient ADDRESS finds them all the same.")]
    List {
        /// Whose
        #[arg(long, value_name = "T")]
        tenant: TenantId,
        /// Only those of this recipient
        #[arg(long, value_name = "A")]
        recipient: Option<Mailbox>,
        /// Only those of exactly this scope
        #[arg(long, value_name = "S")]
        scope: Option<SuppressionScope>,
        /// How many at most, 1 to 10000
        #[arg(long, value_name = "N", default_value_t = LIMIT_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=LIMIT_MAX))]
        limit: u16,
    },
    /// Add the suppressions of a file; rows that cannot be used are told and keep no other back
    #[command(after_help = "\
Examples:
  postern suppressions import unsubscribed.csv --tenant demo --dry-run
  postern suppressions import unsubscribed.csv --tenant demo --delimiter ';'
  postern suppressions import unsubscribed.ndjson --tenant demo --format json

CSV has a header line (any case, any order): recipient, scope, because, expiresAt. NDJSON has an object a line, as
POST /v1/suppressions takes it. Without a scope a row means everything.
Exit code 1 if any row was refused; the others are kept.")]
    Import(Import),
    /// All suppressions, as import takes them; those of people who were erased have no address, and are counted
    #[command(after_help = "\
Examples:
  postern suppressions export --tenant demo > suppressions.csv
  postern suppressions export --tenant demo --form ndjson --output suppressions.ndjson")]
    Export(Export),
}

pub(super) async fn run(context: Context, arguments: Arguments) -> Done {
    let config = context.config()?;
    let tenant = match &arguments.verb {
        Verb::Add { tenant, .. } | Verb::Remove { tenant, .. } | Verb::List { tenant, .. } => tenant,
        Verb::Import(import) => &import.tenant,
        Verb::Export(export) => &export.tenant,
    };
    if !config.tenants.contains_key(tenant) {
        return Err(unknown_tenant(tenant, &config));
    }
    let store = parts::open_store(&config.store, Role::Command)?;
    let at = context.clock.now();
    let done = match arguments.verb {
        Verb::Add { recipients, tenant, scope, length, because } => {
            let new = |to: Mailbox| NewSuppression {
                recipient: to.address,
                scope: scope.clone(),
                source: Source::Operator,
                because: because.clone(),
                expires_at: length.and_then(|length| at.checked_add(length.0).ok()),
                at,
            };
            match scope.journey() {
                Some(journey) if !has_journey(&config, &*store, &tenant, journey).await? => {
                    Err(Failure::Usage(format!("--scope: the tenant {tenant} has no journey {journey}")))
                }
                Some(_) | None => add(&context, &*store, &tenant, recipients.into_iter().map(new).collect()).await,
            }
        }
        Verb::Remove { recipients, tenant, scope, because } => {
            let lift = |to: Mailbox| Lift { recipient: to.address, scope: scope.clone(), because: because.clone(), at };
            remove(&context, &*store, &tenant, recipients.into_iter().map(lift).collect()).await
        }
        Verb::List { tenant, recipient, scope, limit } => {
            let recipient = recipient.map(|to| to.address);
            let filter = SuppressionFilter { recipient, scope, at: Some(at), before: None, limit: usize::from(limit) };
            list(&context, &*store, &tenant, filter).await
        }
        Verb::Import(file) => import::run(&file, &context, &*store).await,
        Verb::Export(export) => export.run(&*store, at).await,
    };
    store.close().await;
    done
}

/// How long one stands: it ends later than it begins.
fn length(text: &str) -> Result<HumanDuration, String> {
    let length: HumanDuration = text.parse()?;
    if length.0.is_zero() { Err("must be longer than nothing".to_owned()) } else { Ok(length) }
}

/// Whether a tenant has a journey of this name, or had one that somebody entered: one that is misspelt would stop nothing.
async fn has_journey(
    config: &Config,
    store: &dyn Store,
    tenant: &TenantId,
    name: &JourneyName,
) -> Result<bool, StoreError> {
    if config.journeys.get(name).is_some_and(|drawn| drawn.journey.tenant == *tenant) {
        return Ok(true);
    }
    Ok(store.journey_versions(tenant).await?.iter().any(|(entered, ..)| entered == name))
}

/// A suppression, and whether it is new.
#[derive(Serialize)]
struct Added {
    #[serde(flatten)]
    suppression: Suppression,
    change: Change,
}

async fn add(context: &Context, store: &dyn Store, tenant: &TenantId, new: Vec<NewSuppression>) -> Done {
    let added = store.suppress(tenant, ACTOR, new).await.context("adding the suppressions")?;
    let added: Vec<Added> =
        added.into_iter().map(|Suppressed { suppression, change }| Added { suppression, change }).collect();
    context.output.answer(&added, |added| {
        let new = added.iter().filter(|one| one.change == Change::Added).count();
        format!("{new} added, {} stood already.", added.len() - new)
    })?;
    Ok(())
}

async fn remove(context: &Context, store: &dyn Store, tenant: &TenantId, lifts: Vec<Lift>) -> Done {
    let removed = store.lift(tenant, ACTOR, lifts).await.context("removing the suppressions")?;
    let answer = json!({ "removed": removed });
    context.output.answer(&answer, |_| match removed.as_slice() {
        [] => "There was none.".to_owned(),
        removed => {
            let scopes: Vec<String> = removed.iter().map(|one| one.scope.to_string()).collect();
            format!("{} removed: {}.", removed.len(), scopes.join(", "))
        }
    })?;
    Ok(())
}

async fn list(context: &Context, store: &dyn Store, tenant: &TenantId, filter: SuppressionFilter) -> Done {
    let limit = filter.limit;
    let listed = store.suppressions(tenant, filter).await.context("reading the suppressions")?;
    let listed: Vec<Suppression> = listed.into_iter().map(|listed| listed.suppression).collect();
    context.output.answer(&listed, |listed| {
        let rows: Vec<_> = listed.iter().map(row).collect();
        let more = if listed.len() == limit { "\nThere may be more: --limit N shows them." } else { "" };
        format!("{}{more}", table(["RECIPIENT", "SCOPE", "SOURCE", "ADDED", "UNTIL", "BY", "BECAUSE"], &rows))
    })?;
    Ok(())
}

fn row(one: &Suppression) -> [String; 7] {
    let text = |text: Option<&String>| text.map_or("-", String::as_str).to_owned();
    [
        text(one.recipient.as_ref()),
        one.scope.to_string(),
        one.source.to_string(),
        format!("{:.0}", one.added_at),
        one.expires_at.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}")),
        one.added_by.clone(),
        text(one.because.as_ref()),
    ]
}
