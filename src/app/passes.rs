//! What goes on around the ledger of pass events by itself: the daily reading of the Pass API, and the alarms.

use std::sync::Arc;

use anyhow::Context as _;

use super::App;
use crate::clock::Clock;
use crate::config::Config;
use crate::lifecycle::{Kind, Tasks};
use crate::outgoing::Client;
use crate::store::Store;
use crate::wallet::Ledger;
use crate::wallet::alarms::Watchman;
use crate::wallet::backfill::Backfill;

/// What reads Pass APIs into a ledger, for the gateway and for the command.
pub fn backfill(
    config: &Config,
    ledger: &Arc<Ledger>,
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Backfill> {
    let http = Client::new(&config.outgoing).context("making a client for the Pass API")?;
    Ok(Backfill::new(Arc::clone(ledger), Arc::clone(store), http, Arc::clone(clock)))
}

/// Starts the daily readings and the alarms.
pub fn start(app: &App, tasks: &Tasks) -> anyhow::Result<()> {
    let backfill = backfill(&app.config, &app.ledger, &app.store, &app.clock)?;
    let (rules, soft) = (app.rules.subscribe(), tasks.soft());
    tasks.spawn("backfill", Kind::Essential, async move { backfill.run_daily(rules, soft).await });
    let watchman = Watchman::new(Arc::clone(&app.store), Arc::clone(&app.clock), &app.config.alarms);
    let (rules, soft) = (app.rules.subscribe(), tasks.soft());
    if app.config.alarms.enabled {
        tasks.spawn("alarms", Kind::Essential, async move { watchman.run(rules, soft).await });
    } else {
        // Nobody would ever end what an earlier run has raised.
        tasks.spawn("alarms", Kind::Passing, async move { watchman.leave(rules, soft).await });
    }
    Ok(())
}
