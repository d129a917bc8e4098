//! `postern serve`: the gateway, from its configuration to a closed store.

use std::sync::Arc;

use anyhow::Context as _;

use super::parent::Parent;
use super::{Context, Done, Failure};
use crate::app::reload::{self, Source};
use crate::app::{App, Started, parts, templates};
use crate::config::Config;
use crate::lifecycle::{Ending, Lifecycle, reload_signals};
use crate::store::sqlite::Role;
use crate::telemetry;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  postern serve
  postern serve --config /etc/postern
  POSTERN__SERVER__LISTEN=0.0.0.0:8080 postern serve

The first SIGTERM or SIGINT stops softly: what is under way is finished within delivery.shutdown_grace.
A second one cuts it off. Nothing accepted is lost either way.
SIGHUP has it read its configuration again, all of it or nothing: kill -HUP PID, systemctl reload. The log says what
changed, or what is wrong. What needs a restart is named in postern.toml.")]
pub(super) struct Arguments {
    #[command(flatten)]
    parent: Parent,
}

pub(super) async fn run(context: Context, arguments: Arguments) -> Done {
    let config = Config::for_serving(&context.folder, &context.environment).map_err(Failure::Configuration)?;
    let templates = templates::for_serving(&config).map_err(Failure::Configuration)?;
    let volume = telemetry::start(config.log);
    // Before anything is begun: a signal that comes early is not lost.
    let wishes = arguments.parent.wishes()?;
    let hangups = reload_signals().context("listening for signals")?;
    let life = Lifecycle::new(config.delivery.shutdown_grace.0);
    let store = parts::open_store(&config.store, Role::Gateway)?;
    let signer = parts::signer(&config)?;
    let courier = parts::courier(config.relays.clone())?;
    let clock = Arc::clone(&context.clock);
    let app = App::wire(config, Arc::clone(&clock), store, courier, templates, signer);
    let started = app.start(life.tasks()).await;
    match &started {
        Ok(Started { listen, control }) => {
            let source = Source { folder: context.folder, environment: context.environment, volume };
            reload::start(&app, control.clone(), source, hangups, life.tasks());
            tracing::info!(%listen, version = env!("CARGO_PKG_VERSION"), "serving");
        }
        // What did start is stopped in order.
        Err(_) => life.tasks().fail("the gateway could not start"),
    }
    let ending = life.run(&*clock, wishes).await;
    app.close().await;
    started?;
    match ending {
        Ending::Asked => {
            tracing::info!("stopped");
            Ok(())
        }
        Ending::Failed => Err(anyhow::anyhow!("stopped because of a failure; see the log").into()),
    }
}
