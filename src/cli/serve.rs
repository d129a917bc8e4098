//! `postern serve`: the gateway, from its configuration to a closed store.

use std::sync::Arc;

use super::parent::Parent;
use super::{Context, Done, Failure};
use crate::app::App;
use crate::app::parts;
use crate::config::Config;
use crate::lifecycle::{Ending, Lifecycle};
use crate::store::sqlite::Role;
use crate::telemetry;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  postern serve
  postern serve --config /etc/postern
  POSTERN__SERVER__LISTEN=0.0.0.0:8080 postern serve

The first SIGTERM or SIGINT stops softly: what is under way is finished within delivery.shutdown_grace.
A second one cuts it off. Nothing accepted is lost either way.")]
pub(super) struct Arguments {
    #[command(flatten)]
    parent: Parent,
}

pub(super) async fn run(context: Context, arguments: Arguments) -> Done {
    let (config, mut problems) = Config::read(&context.folder, &context.environment);
    problems.append(config.missing_for_serving());
    if !problems.is_empty() {
        return Err(Failure::Configuration(problems));
    }
    telemetry::start(config.log);
    // Before anything is begun: a signal that comes early is not lost.
    let wishes = arguments.parent.wishes()?;
    let life = Lifecycle::new(config.delivery.shutdown_grace.0);
    let store = parts::open_store(&config.store, Role::Gateway)?;
    let courier = parts::courier(config.relays.clone())?;
    let clock = Arc::clone(&context.clock);
    let app = App::wire(config, Arc::clone(&clock), store, courier);
    let started = app.start(life.tasks()).await;
    match &started {
        Ok(listen) => tracing::info!(%listen, version = env!("CARGO_PKG_VERSION"), "serving"),
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
