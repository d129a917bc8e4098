//! How each part is made: one small function per room that the hall needs something from.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use anyhow::Context as _;
use secrecy::SecretString;
use tokio::net::TcpSocket;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{App, room};
use crate::audit::{self, Pusher};
use crate::audit_log::note::Signer;
use crate::bounces::{Bounces, Folder, Lmtp};
use crate::brake::{BRAKES_MAX, Lever};
use crate::clock::Clock;
use crate::config::Config;
use crate::contacts::Contacts;
use crate::courier::settings::RelaySettings;
use crate::courier::{Courier, RelayFacts, SmtpCourier, Trouble};
use crate::delivery::reasons::Reasons;
use crate::delivery::{Control, Delivery, Parts, RelayLog, RelayPlan};
use crate::domain::ids::RelayName;
use crate::domain::rules::Rules;
use crate::hatch::{Hatch, Known};
use crate::http::body::BodyLimits;
use crate::http::health::Health;
use crate::http::limit::{DoorLimits, InFlight};
use crate::http::settings::ServerSettings;
use crate::http::{self, AppState};
use crate::inbox::{Inbox, InboxSettings};
use crate::journeys::desk::Desk;
use crate::keys::Keyring;
use crate::lifecycle::{Kind, Tasks};
use crate::outgoing::Client;
use crate::push::{self, Push};
use crate::steering::Steering;
use crate::store::Store;
use crate::store::settings::StoreSettings;
use crate::store::sqlite::{ContentKeys, OpenOptions, Role, SqliteStore};
use crate::sweep::Sweep;

/// Files open besides the callers' connections: the store's, the relays' sessions, the threads' own.
const FILES_OF_OUR_OWN: u64 = 200;
/// The inbox's pages have nothing to finish when they stop.
const INBOX_PAGES_GRACE: Duration = Duration::from_secs(1);

/// Opens the configured store, creating and migrating it where needed.
pub fn open_store(settings: &StoreSettings, role: Role) -> anyhow::Result<Arc<dyn Store>> {
    let path = settings.sqlite_path().map_err(anyhow::Error::msg)?;
    let keys = match &settings.content_key_file {
        None => ContentKeys::default(),
        Some(file) => {
            let text = std::fs::read_to_string(file).map(SecretString::from);
            let text = text.with_context(|| format!("store.content_key_file: {}", file.display()))?;
            let keys = ContentKeys::read(&text).map_err(anyhow::Error::msg);
            keys.with_context(|| format!("store.content_key_file: {}", file.display()))?
        }
    };
    Ok(Arc::new(SqliteStore::open(OpenOptions { path, role })?.sealing(keys)?))
}

/// The courier to these relays.
pub fn courier(relays: Vec<RelaySettings>) -> anyhow::Result<Arc<SmtpCourier>> {
    Ok(Arc::new(SmtpCourier::new(relays)?))
}

/// The key that signs the audit's checkpoints, made if there is none. Blocks; it belongs to the start.
pub fn signer(config: &Config) -> anyhow::Result<Signer> {
    audit::load_or_make(&config.audit.key_file).map_err(Into::into)
}

/// Makes checkpoints from now on, and sends them where they are to be kept besides.
pub async fn start_auditor(app: &App, tasks: &Tasks) -> anyhow::Result<()> {
    app.auditor.introduce().await.context("noting which key signs the audit")?;
    let (auditor, soft) = (Arc::clone(&app.auditor), tasks.soft());
    tasks.spawn("audit", Kind::Essential, async move { auditor.run(soft).await });
    let client = Client::new(&app.config.outgoing)?;
    let pusher = Pusher::new(Arc::clone(&app.store), Arc::clone(&app.clock), client, app.config.audit.clone());
    if let Some(pusher) = pusher {
        let soft = tasks.soft();
        tasks.spawn("audit.push", Kind::Essential, async move { pusher.run(soft).await });
    }
    Ok(())
}

/// Greets a relay (TLS, AUTH) without sending and says in one line what was found.
pub async fn inspect_relay(relay: RelaySettings) -> anyhow::Result<String> {
    let (name, notify) = (relay.name.clone(), relay.notify);
    let courier = SmtpCourier::new(vec![relay])?;
    let facts = inspect(&courier, &name).await.map_err(|trouble| anyhow::anyhow!("{trouble}"))?;
    let tls = facts.tls.map_or_else(|| "no TLS".to_owned(), |tls| format!("{} {}", tls.version, tls.cipher));
    let auth = facts.auth.map_or("no AUTH", |mechanism| mechanism.name());
    let size = facts.capabilities.size.map_or_else(|| "any size".to_owned(), |size| format!("up to {size} bytes"));
    let reports = match (notify, facts.capabilities.dsn) {
        (None, _) => "",
        (Some(_), true) => ", reports as notify says",
        (Some(_), false) => ", no reports on request: it does not offer DSN, notify means nothing",
    };
    Ok(format!("{tls}, {auth}, {size}{reports}"))
}

async fn inspect(courier: &SmtpCourier, relay: &RelayName) -> Result<RelayFacts, Trouble> {
    let facts = courier.inspect(relay).await;
    courier.close().await;
    facts
}

/// Knows again which streams of mails are braked, and watches them; before delivery goes on with what waits.
pub async fn start_brakeman(app: &App, tasks: &Tasks) -> anyhow::Result<()> {
    let soft = tasks.soft();
    let Some(brakeman) = app.brakeman.clone() else {
        // What an earlier run has held is decided about all the same.
        let open = app.store.open_brakes(None, BRAKES_MAX).await.context("looking for brakes that are on")?;
        let open = open.iter().map(|brake| brake.id).collect();
        let lever = Lever::new(Arc::clone(&app.store), Arc::clone(&app.clock), Arc::clone(&app.wake));
        tasks.spawn("brake", Kind::Passing, async move { lever.see_through(open, soft).await });
        return Ok(());
    };
    brakeman.recall().await.context("recalling the blast brake")?;
    tasks.spawn("brake", Kind::Essential, async move { brakeman.run(soft).await });
    Ok(())
}

/// Recovers what a dead process left and begins to deliver.
pub async fn start_delivery(app: &App, tasks: &Tasks) -> anyhow::Result<Delivering> {
    let config = &app.config;
    let relays = config.relays.iter().map(RelayPlan::from);
    let delivery = Delivery::new(Parts {
        store: Arc::clone(&app.store),
        courier: Arc::clone(&app.courier) as Arc<dyn Courier>,
        clock: Arc::clone(&app.clock),
        settings: config.delivery.clone(),
        lanes: config.lanes.clone(),
        domain_rates: config.limits.relay_domains.clone(),
        relays: relays.collect(),
        logs: config.relays.iter().filter_map(RelayLog::of).collect(),
        tenants: config.tenants.clone(),
        wake: Arc::clone(&app.wake),
        random: fastrand::Rng::new(),
    });
    let unknown = delivery.recover().await.context("recovering what the last run left")?;
    if unknown > 0 {
        tracing::warn!(messages = unknown, "the last run died while these were being sent: unknown");
    }
    let control = delivery.control();
    let health = Arc::new(Health::new(Arc::clone(&app.store), Arc::clone(&app.clock), delivery.health()));
    let (soft, hard, delivered) = (tasks.soft(), tasks.hard(), app.delivered.clone());
    tasks.spawn("delivery", Kind::Essential, async move {
        // However it ends.
        let _delivered = delivered.drop_guard();
        delivery.run(soft, hard).await;
    });
    Ok(Delivering { health, control })
}

/// Begins to remove what was kept long enough.
pub fn start_sweep(app: &App, tasks: &Tasks) {
    let sweep = Sweep::new(Arc::clone(&app.store), Arc::clone(&app.clock), app.config.retention.clone());
    let soft = tasks.soft();
    tasks.spawn("sweep", Kind::Essential, async move { sweep.run(soft).await });
}

fn bounces(app: &App) -> Bounces {
    Bounces::new(Arc::clone(&app.store), Arc::clone(&app.clock), app.rules.subscribe())
}

/// Begins to take reports that are delivered, into a folder or by LMTP.
pub async fn start_bounces(app: &App, tasks: &Tasks) -> anyhow::Result<()> {
    let settings = &app.config.bounces;
    if let Some(folder) = Folder::new(bounces(app), Arc::clone(&app.clock), settings.clone()) {
        let soft = tasks.soft();
        tasks.spawn("bounces.folder", Kind::Essential, async move { folder.run(soft).await });
    }
    let lmtp = Lmtp::bind(bounces(app), Arc::clone(&app.clock), settings.clone()).await;
    if let Some(lmtp) = lmtp.context("bounces.lmtp_listen")? {
        let soft = tasks.soft();
        tasks.spawn("bounces.lmtp", Kind::Essential, async move { lmtp.run(soft).await });
    }
    Ok(())
}

/// Begins to tell the tenants' own receivers.
pub fn start_push(app: &App, tasks: &Tasks) -> anyhow::Result<()> {
    let push = Push::new(push::Parts {
        store: Arc::clone(&app.store),
        clock: Arc::clone(&app.clock),
        rules: app.rules.subscribe(),
        client: Client::new(&app.config.outgoing).context("making ready to call receivers")?,
        settings: app.config.push.clone(),
    });
    let (soft, hard) = (tasks.soft(), tasks.hard());
    tasks.spawn("push.feed", Kind::Essential, push.feed(soft.clone()));
    tasks.spawn("push.send", Kind::Essential, push.send(soft, hard));
    Ok(())
}

/// What the doors need to know of delivery.
pub struct Delivering {
    health: Arc<Health>,
    /// Talks to it.
    pub control: Control,
}

/// Lets commands on this machine ask. Without that the gateway works all the same.
pub fn start_hatch(app: &App, control: &Control, tasks: &Tasks) {
    let opened = app.config.store.sqlite_path().map_err(io::Error::other).and_then(|database| Hatch::open(&database));
    let hatch = match opened {
        Ok(hatch) => hatch,
        Err(error) => {
            tracing::warn!(%error, "no socket beside the database: queue why and queue summary know less");
            return;
        }
    };
    let fixed = serde_json::json!(app.config.fixed());
    let known = Known { control: control.clone(), reasons: reasons(app, control), fixed, rules: app.rules.subscribe() };
    let clock = Arc::clone(&app.clock);
    let until = app.delivered.clone();
    tasks.spawn("hatch", Kind::Essential, async move { hatch.serve(known, &*clock, until).await });
}

fn reasons(app: &App, control: &Control) -> Reasons {
    Reasons::new(Arc::clone(&app.store), Arc::clone(&app.clock), app.rules.subscribe(), control.clone())
}

/// Finds contacts, here and in the tenants' CRMs: for the gateway and for commands.
pub fn contacts(
    config: &Config,
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    rules: watch::Receiver<Arc<Rules>>,
) -> anyhow::Result<Contacts> {
    let client = Client::new(&config.outgoing).context("preparing calls to the tenants' systems")?;
    Ok(Contacts::new(Arc::clone(store), Arc::clone(clock), rules, client))
}

/// Where operators see journeys and say what is to become of them: for the gateway and for commands.
#[must_use]
pub fn desk(
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    rules: &watch::Sender<Arc<Rules>>,
    stir: &Arc<Notify>,
) -> Desk {
    Desk::new(Arc::clone(store), Arc::clone(clock), rules.subscribe(), Arc::clone(stir))
}

/// Opens the HTTP doors and returns their address.
pub async fn start_doors(
    app: &App,
    delivering: Delivering,
    contacts: Arc<Contacts>,
    tasks: &Tasks,
) -> anyhow::Result<SocketAddr> {
    let settings = &app.config.server;
    room::watch(&app.store, &app.limits, &app.clock, tasks);
    let Delivering { health, control } = delivering;
    let keys = Keyring::open(Arc::clone(&app.store), Arc::clone(&app.clock)).await.context("opening the key ring")?;
    let state = AppState {
        intake: Arc::clone(&app.intake),
        ledger: Arc::clone(&app.ledger),
        rules: app.rules.subscribe(),
        lever: Arc::new(Lever::new(Arc::clone(&app.store), Arc::clone(&app.clock), Arc::clone(&app.wake))),
        steering: Arc::new(Steering::new(Arc::clone(&app.store), Arc::clone(&app.clock), Arc::clone(&app.wake))),
        reasons: Arc::new(reasons(app, &control)),
        journeys: Arc::new(desk(&app.store, &app.clock, &app.rules, &app.stir)),
        contacts,
        templates: app.templates.subscribe(),
        bounces: bounces(app),
        auditor: Arc::clone(&app.auditor),
        store: Arc::clone(&app.store),
        keys: Arc::new(keys),
        health: Arc::clone(&health),
        body_limits: BodyLimits {
            bytes_max: settings.request_body_max.as_usize(),
            timeout: settings.request_timeout.0,
        },
        doors: DoorLimits {
            limits: Arc::clone(&app.limits),
            trusted_proxies: settings.trusted_proxies.clone(),
            in_flight: InFlight::new(usize::from(settings.requests_in_flight_max.get())),
            webhooks_in_flight: InFlight::new(usize::from(app.config.wallet.webhooks_in_flight_max.get())),
            unsubscribes_in_flight: InFlight::new(usize::from(settings.unsubscribes_in_flight_max.get())),
        },
    };
    warn_of_few_files(settings.connections_max);
    for warning in app.config.warnings() {
        tracing::warn!("{warning}");
    }
    let listener = listen(settings.listen, settings.connections_max)?;
    let address = listener.local_addr()?;
    let grace = app.config.delivery.shutdown_grace.0;
    let server = http::serve(listener, state, Arc::clone(&app.clock), settings, grace).context("starting the doors")?;
    // Until delivery has ended the doors say that we stop, and mails can still be looked up; none is taken.
    run_server(server, tasks, "http", app.delivered.clone(), move || health.stop());
    Ok(address)
}

/// Says so when the process may not open as many files as it may have connections.
fn warn_of_few_files(connections_max: NonZeroU16) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if limit.is_some_and(|limit| limit < u64::from(connections_max.get()) + FILES_OF_OUR_OWN) {
        tracing::warn!(limit, connections_max, "the limit of open files (ulimit -n) is low for server.connections_max");
    }
}

/// Listens. The kernel keeps as many connections until we take them as we may have open: fewer would turn a burst away
/// (who is dropped knocks again a second later), more could not be seated in good time.
fn listen(address: SocketAddr, connections_max: NonZeroU16) -> anyhow::Result<TcpListener> {
    let bind = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(connections_max.get().into())?.into_std()
    };
    bind().with_context(|| format!("listening on {address}"))
}

/// Runs a server until the soft stop and `until`, then lets running requests finish until the hard stop. `on_stop` comes
/// first.
fn run_server(
    (handle, server): (ServerHandle, Server),
    tasks: &Tasks,
    name: &'static str,
    until: CancellationToken,
    on_stop: impl FnOnce() + Send + 'static,
) {
    let (soft, hard) = (tasks.soft(), tasks.hard());
    tasks.spawn(name, Kind::Essential, async move {
        let stop = async {
            soft.cancelled().await;
            on_stop();
            let graceful = async {
                until.cancelled().await;
                handle.stop(true).await;
            };
            tokio::select! {
                () = graceful => {}
                () = hard.cancelled() => handle.stop(false).await,
            }
        };
        tokio::pin!(server);
        let ended = tokio::select! {
            // Before the soft stop this is a failure, and returning tells the lifecycle so.
            ended = &mut server => ended,
            () = stop => server.await,
        };
        if let Err(error) = ended {
            tracing::error!(%error, "the HTTP server failed");
        }
    });
}

/// Where a capture server listens.
#[derive(Debug, Clone, Copy)]
pub struct InboxAt {
    /// SMTP.
    pub smtp: SocketAddr,
    /// Its pages.
    pub http: SocketAddr,
}

/// Starts the capture server and its pages; port 0 picks a free one. Returns the real addresses.
///
/// SMTP is served until `until`: the soft stop, or later when a gateway in this process still has attempts to finish.
pub async fn start_inbox(
    wanted: InboxAt,
    clock: &Arc<dyn Clock>,
    tasks: &Tasks,
    until: CancellationToken,
) -> anyhow::Result<InboxAt> {
    let settings = InboxSettings { smtp: wanted.smtp, ..InboxSettings::default() };
    let bound = Inbox::bind(settings, Arc::clone(clock)).await;
    let inbox = bound.with_context(|| format!("listening on {}", wanted.smtp))?;
    let captured = inbox.captured();
    let settings = ServerSettings::default();
    let listener = listen(wanted.http, settings.connections_max)?;
    let at = InboxAt { smtp: inbox.smtp_addr(), http: listener.local_addr()? };
    let table = move |table: &mut actix_web::web::ServiceConfig| http::inbox::configure(table, captured.clone());
    let server = http::serve_table(listener, table, Arc::clone(clock), &settings, INBOX_PAGES_GRACE)?;
    tasks.spawn("inbox.smtp", Kind::Essential, inbox.run(until));
    run_server(server, tasks, "inbox.pages", tasks.soft(), || {});
    Ok(at)
}
