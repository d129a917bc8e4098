//! `postern push`: what the tenants' own receivers were not told yet, and what you make of it.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::Subcommand;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::output::table;
use super::queue::When;
use super::{Context, Done, Failure};
use crate::app::parts;
use crate::config::Config;
use crate::domain::ids::{PushId, TenantId};
use crate::domain::push::Endpoint;
use crate::store::sqlite::Role;
use crate::store::{EndpointCounts, EndpointState, PushView, PushesToReplay, Store};

/// Dead letters in a list at most.
const LISTED_MAX: usize = 10_000;

#[derive(clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  postern push list
  postern push list --dead
  postern push show psh_01990000000070008000000000000001
  postern push replay --endpoint demo/crm --since 2d
  postern push enable demo/crm

A running gateway sees what you do within a second. What is replayed has the webhook-id that it had."
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Endpoints: whether they are on, and how much waits, is dead, was dropped; or the dead letters
    #[command(after_help = "\
Examples:
  postern push list --tenant demo
  postern push list --dead --endpoint demo/crm --format json")]
    List {
        /// Whose
        #[arg(long, value_name = "T")]
        tenant: Option<TenantId>,
        /// Of this endpoint
        #[arg(long, value_name = "TENANT/NAME")]
        endpoint: Option<Endpoint>,
        /// The dead letters instead of the endpoints
        #[arg(long)]
        dead: bool,
    },
    /// One push: what is told, and how its last attempt failed
    #[command(after_help = "\
Examples:
  postern push show psh_01990000000070008000000000000001")]
    Show {
        /// Its id, the receiver's webhook-id
        #[arg(value_name = "ID")]
        id: PushId,
    },
    /// Have dead letters sent again: these, or all of an endpoint
    #[command(after_help = "\
Examples:
  postern push replay psh_01990000000070008000000000000001
  postern push replay --endpoint demo/crm
  postern push replay --endpoint demo/crm --since 2026-01-31T09:00:00Z")]
    Replay {
        /// Their ids
        #[arg(value_name = "ID", conflicts_with = "endpoint", required_unless_present = "endpoint")]
        ids: Vec<PushId>,
        /// All of this endpoint
        #[arg(long, value_name = "TENANT/NAME")]
        endpoint: Option<Endpoint>,
        /// Made since then: a time, or a length of time ago
        #[arg(long, value_name = "WHEN", requires = "endpoint")]
        since: Option<When>,
    },
    /// Switch an endpoint on again that answered 410 Gone
    #[command(after_help = "\
Examples:
  postern push enable demo/crm")]
    Enable {
        /// Which
        #[arg(value_name = "TENANT/NAME")]
        endpoint: Endpoint,
    },
}

pub(super) async fn run(context: Context, arguments: Arguments) -> Done {
    let config = context.config()?;
    let store = parts::open_store(&config.store, Role::Command)?;
    let done = match arguments.verb {
        Verb::List { tenant, endpoint, dead: true } => list_dead(&context, &store, tenant, endpoint).await,
        Verb::List { tenant, endpoint, dead: false } => list(&context, &store, tenant, endpoint).await,
        Verb::Show { id } => show(&context, &store, id).await,
        Verb::Replay { ids, endpoint, since } => {
            if let Some(endpoint) = &endpoint {
                known(&config, &store, endpoint).await?;
            }
            let since = since.map_or(Timestamp::UNIX_EPOCH, |when| when.before(context.clock.now()));
            let which = match endpoint {
                Some(endpoint) => PushesToReplay::Of { endpoint, since },
                None => PushesToReplay::Ids(ids),
            };
            replay(&context, &store, which).await
        }
        Verb::Enable { endpoint } => {
            known(&config, &store, &endpoint).await?;
            enable(&context, &store, &endpoint).await
        }
    };
    store.close().await;
    done
}

/// Refuses an endpoint that is in no file and of which nothing is kept.
async fn known(config: &Config, store: &Arc<dyn Store>, endpoint: &Endpoint) -> Done {
    let tenant = config.tenants.get(&endpoint.tenant);
    let is_configured = tenant.is_some_and(|tenant| tenant.outbound.iter().any(|it| it.name == endpoint.endpoint));
    let kept = store.push_endpoints().await.context("looking for the endpoint")?;
    if is_configured || kept.iter().any(|counts| counts.endpoint == *endpoint) {
        return Ok(());
    }
    Err(anyhow!("there is no endpoint {endpoint}").into())
}

async fn list(context: &Context, store: &Arc<dyn Store>, tenant: Option<TenantId>, endpoint: Option<Endpoint>) -> Done {
    let mut endpoints = store.push_endpoints().await.context("counting the pushes")?;
    endpoints.retain(|counts| is_of(&counts.endpoint, tenant.as_ref(), endpoint.as_ref()));
    context.output.answer(&endpoints, |endpoints| {
        let rows: Vec<_> = endpoints.iter().map(row).collect();
        table(["ENDPOINT", "STATE", "PENDING", "OLDEST", "DEAD", "DROPPED"], &rows)
    })?;
    Ok(())
}

fn is_of(this: &Endpoint, tenant: Option<&TenantId>, endpoint: Option<&Endpoint>) -> bool {
    tenant.is_none_or(|tenant| *tenant == this.tenant) && endpoint.is_none_or(|endpoint| endpoint == this)
}

fn row(counts: &EndpointCounts) -> [String; 6] {
    let state = match counts.state {
        EndpointState::On => "on".to_owned(),
        EndpointState::Off => format!("off since {}", counts.off_at.map_or_else(String::new, |at| format!("{at:.0}"))),
        EndpointState::NotConfigured => "not-configured".to_owned(),
    };
    [
        counts.endpoint.to_string(),
        state,
        counts.pending.to_string(),
        counts.oldest_at.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}")),
        counts.dead.to_string(),
        counts.dropped.to_string(),
    ]
}

async fn list_dead(
    context: &Context,
    store: &Arc<dyn Store>,
    tenant: Option<TenantId>,
    endpoint: Option<Endpoint>,
) -> Done {
    let mut pushes = store.dead_pushes(endpoint, LISTED_MAX).await.context("reading the dead letters")?;
    pushes.retain(|push| is_of(&push.endpoint, tenant.as_ref(), None));
    context.output.answer(&pushes, |pushes| {
        let rows: Vec<_> = pushes.iter().map(dead_row).collect();
        table(["ID", "ENDPOINT", "EVENT", "MADE", "ATTEMPTS", "FAILURE", "TRIED"], &rows)
    })?;
    Ok(())
}

fn dead_row(push: &PushView) -> [String; 7] {
    [
        push.id.to_string(),
        push.endpoint.to_string(),
        push.event.clone(),
        format!("{:.0}", push.made_at),
        push.attempts.to_string(),
        push.failure.clone().unwrap_or_else(|| "-".to_owned()),
        push.tried_at.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}")),
    ]
}

/// A push with what it tells.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    push: PushView,
    payload: Value,
}

async fn show(context: &Context, store: &Arc<dyn Store>, id: PushId) -> Done {
    let found = store.push(id).await.context("reading the push")?;
    let push = found.ok_or_else(|| anyhow!("there is no push {id}: it was taken, or dropped"))?;
    let payload = serde_json::from_str(&push.body).context("reading what it tells")?;
    context.output.answer(&Shown { push, payload }, |shown| {
        let push = &shown.push;
        let state = push.due_at.map_or_else(|| "dead".to_owned(), |due_at| format!("pending, due {due_at:.0}"));
        let [id, endpoint, event, made, attempts, failure, tried] = dead_row(push);
        let lines = [
            format!("{id}  {event}"),
            format!("Endpoint  {endpoint}"),
            format!("State     {state}"),
            format!("Made      {made}"),
            format!("Attempts  {attempts} failed, the last {tried}: {failure}"),
            super::output::printable(&push.body),
        ];
        lines.join("\n")
    })?;
    Ok(())
}

#[derive(Serialize)]
struct Replayed {
    replayed: u64,
}

async fn replay(context: &Context, store: &Arc<dyn Store>, which: PushesToReplay) -> Done {
    let asked_for = match &which {
        PushesToReplay::Ids(ids) => Some(ids.len()),
        PushesToReplay::Of { .. } => None,
    };
    let replayed = store.replay_pushes(which, context.clock.now()).await.context("replaying dead letters")?;
    context.output.answer(&Replayed { replayed }, |_| format!("{replayed} pushes are sent again"))?;
    match asked_for {
        Some(asked_for) if u64::try_from(asked_for).is_ok_and(|asked_for| asked_for > replayed) => {
            Err(Failure::Failed(anyhow!("not all of these are dead letters")))
        }
        _ => Ok(()),
    }
}

#[derive(Serialize)]
struct Enabled<'a> {
    #[serde(flatten)]
    endpoint: &'a Endpoint,
    enabled: bool,
}

async fn enable(context: &Context, store: &Arc<dyn Store>, endpoint: &Endpoint) -> Done {
    if !store.enable_endpoint(endpoint).await.context("switching the endpoint on")? {
        return Err(anyhow!("{endpoint} is not off").into());
    }
    context.output.answer(&Enabled { endpoint, enabled: true }, |_| format!("{endpoint} is on again"))?;
    Ok(())
}
