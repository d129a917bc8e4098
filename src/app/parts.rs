//! How each part is made: one small function per room that the hall needs something from.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use actix_web::dev::{Server, ServerHandle};
use anyhow::Context as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::App;
use crate::clock::Clock;
use crate::courier::settings::RelaySettings;
use crate::courier::{Courier, RelayFacts, SmtpCourier};
use crate::delivery::{Delivery, Parts, RelayPlan};
use crate::domain::audit::Actor;
use crate::domain::ids::{RelayName, TenantId};
use crate::domain::key::Scope;
use crate::domain::relay::RelayHealth;
use crate::http::body::BodyLimits;
use crate::http::health::Health;
use crate::http::settings::ServerSettings;
use crate::http::{self, AppState};
use crate::inbox::{Inbox, InboxSettings};
use crate::keys::{Keyring, NewKey};
use crate::lifecycle::{Kind, Tasks};
use crate::store::Store;
use crate::store::settings::StoreSettings;
use crate::store::sqlite::{OpenOptions, Role, SqliteStore};

/// Opens the configured store, creating and migrating it where needed. Blocks; it belongs to the start.
pub fn open_store(settings: &StoreSettings, role: Role) -> anyhow::Result<Arc<dyn Store>> {
    let path = settings.sqlite_path().map_err(anyhow::Error::msg)?;
    Ok(Arc::new(SqliteStore::open(OpenOptions { path, role })?))
}

/// The courier to these relays.
pub fn courier(relays: Vec<RelaySettings>) -> anyhow::Result<Arc<dyn Courier>> {
    Ok(Arc::new(SmtpCourier::new(relays)?))
}

/// Greets a relay (TLS, AUTH) without sending and says in one line what was found.
pub async fn inspect_relay(settings: RelaySettings) -> anyhow::Result<String> {
    let relay: RelayName = settings.name.clone();
    let courier = SmtpCourier::new(vec![settings])?;
    let facts = courier.inspect(&relay).await.map_err(|trouble| anyhow::anyhow!("{trouble}"))?;
    courier.close().await;
    Ok(in_words(&facts))
}

fn in_words(facts: &RelayFacts) -> String {
    let tls = facts.tls.as_ref().map_or_else(|| "no TLS".to_owned(), |tls| format!("{} {}", tls.version, tls.cipher));
    let auth = facts.auth.map_or_else(|| "no AUTH".to_owned(), |auth| format!("AUTH {}", auth.name()));
    let offered = &facts.capabilities;
    let size = offered.size.map(|size| format!("SIZE {size}"));
    let flags = [
        (offered.eight_bit_mime, "8BITMIME"),
        (offered.smtputf8, "SMTPUTF8"),
        (offered.pipelining, "PIPELINING"),
        (offered.starttls, "STARTTLS"),
    ];
    let flags = flags.into_iter().filter(|(offered, _)| *offered).map(|(_, name)| name.to_owned());
    let offers: Vec<_> = size.into_iter().chain(flags).collect();
    format!("greets us; {tls}; {auth}; offers {}", if offers.is_empty() { "nothing".into() } else { offers.join(" ") })
}

/// What a key shall be.
pub struct KeyWanted {
    /// Whose.
    pub tenant: TenantId,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

/// Makes a key and keeps it.
pub async fn create_key(
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    wanted: KeyWanted,
    actor: Actor,
) -> anyhow::Result<NewKey> {
    let keys = Keyring::open(Arc::clone(store), Arc::clone(clock)).await?;
    Ok(keys.create(wanted.tenant, wanted.name, wanted.scopes, actor).await?)
}

/// Recovers what a dead process left and begins to deliver. Returns how the relays stand, from then on.
pub async fn start_delivery(app: &App, tasks: &Tasks) -> anyhow::Result<watch::Receiver<Vec<RelayHealth>>> {
    let plan =
        |relay: &RelaySettings| RelayPlan { name: relay.name.clone(), sessions: relay.sessions, rate: relay.rate };
    let delivery = Delivery::new(Parts {
        store: Arc::clone(&app.store),
        courier: Arc::clone(&app.courier),
        clock: Arc::clone(&app.clock),
        settings: app.config.delivery.clone(),
        lanes: app.config.lanes.clone(),
        relays: app.config.relays.iter().map(plan).collect(),
        tenants: app.config.tenants.clone(),
        wake: Arc::clone(&app.wake),
        random: fastrand::Rng::new(),
    });
    let unknown = delivery.recover().await.context("recovering what the last process left")?;
    if unknown > 0 {
        tracing::warn!(messages = unknown, "attempts of a process that died: their outcome is unknown");
    }
    let relays = delivery.health();
    let (soft, hard, delivered) = (tasks.soft(), tasks.hard(), app.delivered.clone());
    tasks.spawn("delivery", Kind::Essential, async move {
        // However it ends.
        let _delivered = delivered.drop_guard();
        delivery.run(soft, hard).await;
    });
    Ok(relays)
}

/// Opens the HTTP doors and returns their address.
pub async fn start_doors(
    app: &App,
    relays: watch::Receiver<Vec<RelayHealth>>,
    tasks: &Tasks,
) -> anyhow::Result<SocketAddr> {
    let settings = &app.config.server;
    let (listener, address) = bind(settings.listen)?;
    let keys = Keyring::open(Arc::clone(&app.store), Arc::clone(&app.clock)).await.context("opening the keys")?;
    let health = Arc::new(Health::new(Arc::clone(&app.store), Arc::clone(&app.clock), relays));
    let state = AppState {
        intake: Arc::clone(&app.intake),
        store: Arc::clone(&app.store),
        keys: Arc::new(keys),
        health: Arc::clone(&health),
        body_limits: BodyLimits {
            bytes_max: settings.request_body_max.as_usize(),
            timeout: settings.request_timeout.0,
        },
    };
    let grace = app.config.delivery.shutdown_grace.0;
    let (handle, server) = http::serve(listener, state, Arc::clone(&app.clock), settings, grace)?;
    let not_ready = move || health.stop();
    tasks.spawn("http", Kind::Essential, serving(handle, server, not_ready, tasks.soft(), tasks.hard()));
    Ok(address)
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
    let (listener, http) = bind(wanted.http)?;
    let settings = InboxSettings { smtp: wanted.smtp, ..InboxSettings::default() };
    let inbox =
        Inbox::bind(settings, Arc::clone(clock)).await.with_context(|| format!("listening on {}", wanted.smtp))?;
    let (smtp, captured) = (inbox.smtp_addr(), inbox.captured());
    tasks.spawn("inbox", Kind::Essential, inbox.run(until));
    let settings = ServerSettings::default();
    let table = move |table: &mut actix_web::web::ServiceConfig| http::inbox::configure(table, captured.clone());
    let (handle, server) =
        http::serve_table(listener, table, Arc::clone(clock), &settings, std::time::Duration::from_secs(1))?;
    tasks.spawn("inbox.http", Kind::Essential, serving(handle, server, || {}, tasks.soft(), tasks.hard()));
    Ok(InboxAt { smtp, http })
}

fn bind(wanted: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(wanted).with_context(|| format!("listening on {wanted}"))?;
    let address = listener.local_addr().context("asking for the port")?;
    Ok((listener, address))
}

/// Runs a server until the soft stop; then `not_ready`, no new connections, and running requests until the hard stop.
async fn serving(
    handle: ServerHandle,
    server: Server,
    not_ready: impl FnOnce() + Send,
    soft: CancellationToken,
    hard: CancellationToken,
) {
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => {
            if let Err(error) = ended {
                tracing::error!(%error, "the HTTP server failed");
            }
            return;
        }
        () = soft.cancelled() => not_ready(),
    }
    let gracefully = handle.stop(true);
    tokio::select! {
        biased;
        _ = async { tokio::join!(gracefully, &mut server) } => return,
        () = hard.cancelled() => {}
    }
    _ = tokio::join!(handle.stop(false), server);
}
