//! `postern queue`: see what there is and steer it, one mail or many, beside a running gateway or without one.
//!
//! By ids a message is found whatever its tenant. By filter the command counts first and asks; it steers only what was
//! accepted before it asked. A running gateway sees the change within a second.

mod export;
pub(in crate::cli) mod filter;
mod look;
mod steer;
mod summary;
mod why;

pub(super) use self::filter::When;

pub(super) use self::steer::confirm;

use std::io;
use std::sync::Arc;

use clap::Subcommand;
use serde_json::Value;

use super::keys::unknown_tenant;
use super::{Context, Done, Failure};
use crate::app::parts;
use crate::config::Config;
use crate::domain::ids::TenantId;
use crate::hatch;
use crate::store::Store;
use crate::store::sqlite::Role;

#[derive(clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  postern queue summary                                       how many mails stand where
  postern queue list --status held                            the newest held mails
  postern queue show msg_01990000000070008000000000000001     everything about one mail
  postern queue why msg_01990000000070008000000000000001      what holds it, and until when
  postern queue release msg_01990000000070008000000000000001 --because 'the shop says it is fine'
  postern queue hold --domain customer.example --because 'their server is down'

A length of time (2h) means so long ago; a time is written 2026-01-31T09:00:00Z."
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// The newest mails that a filter finds
    #[command(after_help = "\
Examples:
  postern queue list --status held
  postern queue list --tenant demo --lane urgent --since 2h --limit 200
  postern queue list --recipient ann@customer.example --format json")]
    List(look::List),
    /// All mails that a filter finds, one to a line, however many
    #[command(after_help = "\
Examples:
  postern queue export --tenant demo --since 30d --form csv --output mails.csv
  postern queue export --status bounced | jq .recipient

In CSV a text that a spreadsheet would take for a formula begins with an apostrophe.")]
    Export(export::Export),
    /// Everything about one mail, and everything that happened to it
    #[command(after_help = "\
Examples:
  postern queue show msg_01990000000070008000000000000001
  postern queue show msg_01990000000070008000000000000001 --format json")]
    Show(look::Show),
    /// Why a mail waits, or ended: each rule, its numbers, what must change, and when it is tried next
    #[command(after_help = "\
Examples:
  postern queue why msg_01990000000070008000000000000001
  postern queue why msg_01990000000070008000000000000001 --format json

Asks the running gateway through the socket beside the database. Where none runs it says so, and tells what the store
keeps.")]
    Why(why::Why),
    /// How many mails stand where, how old the oldest is, and how relays, domains and lanes are
    #[command(after_help = "\
Examples:
  postern queue summary
  postern queue summary --tenant demo --format json

Relays, domains and lanes are as the running gateway tells them through the socket beside the database.")]
    Summary(summary::Summary),
    /// Keep mails back until they are released
    #[command(after_help = "\
Examples:
  postern queue hold msg_01990000000070008000000000000001
  postern queue hold --domain customer.example --because 'their server is down'
  postern queue hold --tenant demo --template newsletter --yes

What is queued, deferred or unknown can be held. Its deadline goes on.")]
    Hold(steer::Which),
    /// Let held mails go on, not before the time they had
    #[command(after_help = "\
Examples:
  postern queue release msg_01990000000070008000000000000001
  postern queue release --reason not-configured --tenant demo
  postern queue release --status held --reason operator --since 2h --yes")]
    Release(steer::Which),
    /// End mails unsent
    #[command(after_help = "\
Examples:
  postern queue cancel msg_01990000000070008000000000000001 --because 'sent by mistake'
  postern queue cancel --tenant demo --tag summer-sale --yes

What was unknown may have been sent, and keeps saying so.")]
    Cancel(steer::Which),
    /// Have mails tried at once; with a new deadline also those that ended unsent
    #[command(after_help = "\
Examples:
  postern queue retry msg_01990000000070008000000000000001
  postern queue retry --status deferred --domain customer.example
  postern queue retry --status bounced --since 1d --deliver-within 6h --because 'wrong relay'

A retry of what is unknown sends it again, on your word: the recipient may get it twice.")]
    Retry(steer::Retry),
    /// End the doubt about mails that may have been sent: the relay has them, as you found out
    #[command(after_help = "\
Examples:
  postern queue resolve msg_01990000000070008000000000000001 --because 'its id is in their log'
  postern queue resolve --status unknown --since 1h --because 'the relay has all of them'

They are relayed from then on, and never sent again. What the relay does not have: postern queue retry.")]
    Resolve(steer::Which),
}

/// A store, and what the commands must know besides.
struct Queue<'a> {
    context: &'a Context,
    config: &'a Config,
    store: Arc<dyn Store>,
}

/// What the gateway beside the command says.
enum Told {
    /// It runs, and answered.
    Answer(Value),
    /// It runs and does not answer, for this reason.
    Silent(io::Error),
    /// None runs.
    NoGateway,
}

impl Queue<'_> {
    /// Asks the running gateway.
    async fn ask(&self, question: &hatch::Question) -> Result<Told, Failure> {
        let database = self.config.store.sqlite_path().map_err(anyhow::Error::msg)?;
        Ok(match hatch::ask(&database, question).await {
            Ok(Some(answer)) => Told::Answer(answer),
            Ok(None) => Told::NoGateway,
            Err(error) => Told::Silent(error),
        })
    }

    /// The tenant asked for, or all that have messages.
    async fn tenants(&self, asked: Option<&TenantId>) -> Result<Vec<TenantId>, Failure> {
        let known = self.store.tenants().await?;
        match asked {
            None => Ok(known),
            Some(tenant) if known.contains(tenant) || self.config.tenants.contains_key(tenant) => {
                Ok(vec![tenant.clone()])
            }
            Some(tenant) => Err(unknown_tenant(tenant, self.config)),
        }
    }
}

pub(super) async fn run(context: Context, arguments: Arguments) -> Done {
    let config = context.config()?;
    arguments.verb.check()?;
    let store = parts::open_store(&config.store, Role::Command)?;
    let queue = Queue { context: &context, config: &config, store: Arc::clone(&store) };
    let done = match arguments.verb {
        Verb::List(list) => list.run(&queue).await,
        Verb::Export(export) => export.run(&queue).await,
        Verb::Show(show) => show.run(&queue).await,
        Verb::Why(why) => why.run(&queue).await,
        Verb::Summary(summary) => summary.run(&queue).await,
        Verb::Hold(which) => which.run(&queue, crate::domain::verb::Verb::Hold).await,
        Verb::Release(which) => which.run(&queue, crate::domain::verb::Verb::Release).await,
        Verb::Cancel(which) => which.run(&queue, crate::domain::verb::Verb::Cancel).await,
        Verb::Retry(retry) => retry.run(&queue).await,
        Verb::Resolve(which) => which.run(&queue, crate::domain::verb::Verb::Resolve).await,
    };
    store.close().await;
    done
}

impl Verb {
    /// Refuses what is used wrongly before a store is opened.
    fn check(&self) -> Done {
        match self {
            Self::List(_) | Self::Export(_) | Self::Show(_) | Self::Why(_) | Self::Summary(_) => Ok(()),
            Self::Hold(which) | Self::Release(which) | Self::Cancel(which) | Self::Resolve(which) => which.check(),
            Self::Retry(retry) => retry.check(),
        }
    }
}
