//! The wiring: from a configuration to a running gateway and back to a closed store.
//!
//! ```text
//! config ─▶ parts (store, courier) ─▶ App::wire ─▶ App::start: delivery, doors, watchers ─▶ … ─▶ App::close
//! ```
//!
//! Nothing about mail is decided here. How each part is made is in [`parts`]; the order of starting and stopping is
//! here: work before doors, so that nothing comes in that cannot go out; the store closes last.

mod journeys;
pub mod parts;
pub mod passes;
pub mod reload;
mod room;
pub mod simulation;
pub mod templates;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::audit::Auditor;
use crate::audit_log::note::Signer;
use crate::brake::Brakeman;
use crate::clock::Clock;
use crate::config::Config;
use crate::courier::{Courier as _, SmtpCourier};
use crate::delivery::Control;
use crate::domain::rules::Rules;
use crate::intake::Intake;
use crate::lifecycle::{Kind, Tasks};
use crate::limits::Limits;
use crate::store::Store;
use crate::telemetry::Chain;
use crate::templates::Templates;
use crate::wallet::Ledger;

/// A gateway, wired.
pub struct App {
    /// What it was told at its start.
    pub config: Config,
    /// Where its time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// The way to the relays.
    pub courier: Arc<SmtpCourier>,
    /// What the configuration says of mails now.
    pub rules: watch::Sender<Arc<Rules>>,
    /// What mails of ours are rendered with now.
    pub templates: watch::Sender<Arc<Templates>>,
    /// What may be asked of the doors.
    pub limits: Arc<Limits>,
    /// Where every mail enters.
    pub intake: Arc<Intake>,
    /// Where every pass event enters.
    pub ledger: Arc<Ledger>,
    /// What watches the streams of mails, unless that is off.
    pub brakeman: Option<Arc<Brakeman>>,
    /// Makes checkpoints of the log, and proofs.
    pub auditor: Arc<Auditor>,
    /// Notified after every acceptance.
    pub wake: Arc<Notify>,
    /// Notified when a step of a journey may be due.
    pub stir: Arc<Notify>,
    /// Cancelled when delivery has ended: nobody needs a relay any more.
    pub delivered: CancellationToken,
}

/// A gateway that runs.
pub struct Started {
    /// Where its doors listen.
    pub listen: SocketAddr,
    /// Talks to its delivery.
    pub control: Control,
}

impl App {
    /// Wires the parts; nothing runs yet.
    #[must_use]
    pub fn wire(
        config: Config,
        clock: Arc<dyn Clock>,
        store: Arc<dyn Store>,
        courier: Arc<SmtpCourier>,
        templates: Arc<Templates>,
        signer: Signer,
    ) -> Self {
        let wake = Arc::new(Notify::new());
        let brakeman = config.brake.enabled.then(|| {
            let (store, clock, wake) = (Arc::clone(&store), Arc::clone(&clock), Arc::clone(&wake));
            Arc::new(Brakeman::new(store, clock, wake, config.brake.clone()))
        });
        let limits = Arc::new(Limits::new(&config.limits, &clock));
        let rules = watch::Sender::new(Arc::new(config.rules()));
        let templates = watch::Sender::new(templates);
        let intake = Arc::new(intake(&rules, &templates, &clock, &store, &wake, brakeman.clone()));
        let stir = Arc::new(Notify::new());
        let ledger = Arc::new(ledger(&config, &rules, &clock, &store, Arc::clone(&stir)));
        let auditor = Auditor::new(Arc::clone(&store), Arc::clone(&clock), signer, config.audit.clone());
        let delivered = CancellationToken::new();
        Self {
            config,
            clock,
            store,
            courier,
            rules,
            templates,
            limits,
            intake,
            ledger,
            brakeman,
            auditor: Arc::new(auditor),
            wake,
            stir,
            delivered,
        }
    }

    /// Starts delivery, then the doors. The store is watched: without it the process stops.
    pub async fn start(&self, tasks: &Tasks) -> anyhow::Result<Started> {
        watch_store(Arc::clone(&self.store), tasks);
        parts::start_auditor(self, tasks).await?;
        parts::start_brakeman(self, tasks).await?;
        passes::start(self, tasks)?;
        let delivering = parts::start_delivery(self, tasks).await?;
        let control = delivering.control.clone();
        parts::start_sweep(self, tasks);
        parts::start_push(self, tasks)?;
        parts::start_bounces(self, tasks).await?;
        // One for all: a brand's CRM has one breaker, whoever asks.
        let contacts = Arc::new(parts::contacts(&self.config, &self.store, &self.clock, self.rules.subscribe())?);
        journeys::start(self, Arc::clone(&contacts), tasks);
        parts::start_hatch(self, &control, tasks);
        let listen = parts::start_doors(self, delivering, contacts, tasks).await?;
        Ok(Started { listen, control })
    }

    /// Ends what outlives the tasks: idle sessions, then the store, whose last checkpoint covers all that happened.
    pub async fn close(self) {
        self.courier.close().await;
        if let Err(error) = self.auditor.checkpoint().await {
            tracing::error!(error = %Chain(&error), "the last checkpoint of the audit could not be made");
        }
        self.store.close().await;
    }
}

/// The intake under rules: for the gateway and for `send`, whose mails are in no stream.
#[must_use]
pub fn intake(
    rules: &watch::Sender<Arc<Rules>>,
    templates: &watch::Sender<Arc<Templates>>,
    clock: &Arc<dyn Clock>,
    store: &Arc<dyn Store>,
    wake: &Arc<Notify>,
    brakeman: Option<Arc<Brakeman>>,
) -> Intake {
    let (rules, templates) = (rules.subscribe(), templates.subscribe());
    Intake::new(Arc::clone(store), Arc::clone(clock), rules, templates, Arc::clone(wake), brakeman)
}

/// The ledger under rules: for the gateway and for commands, beside which a gateway finds by itself what is due.
#[must_use]
pub fn ledger(
    config: &Config,
    rules: &watch::Sender<Arc<Rules>>,
    clock: &Arc<dyn Clock>,
    store: &Arc<dyn Store>,
    stir: Arc<Notify>,
) -> Ledger {
    Ledger::new(Arc::clone(store), Arc::clone(clock), rules.subscribe(), config.wallet.clone(), stir)
}

fn watch_store(store: Arc<dyn Store>, tasks: &Tasks) {
    let soft = tasks.soft();
    tasks.spawn("store.watch", Kind::Essential, async move {
        tokio::select! {
            // Returning before the soft stop is what ends the process.
            () = store.failed() => {}
            () = soft.cancelled() => {}
        }
    });
}
