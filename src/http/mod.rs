//! How the world asks over HTTP: the route table, and the server around it.
//!
//! Every request passes `frame` (its id, the access line, errors as problems), then its door. A handler authenticates
//! ([`auth::Caller`]), reads ([`body`]), calls work or the store, and answers. Status codes of errors are in
//! [`problem`] only.
//!
//! Each worker is a runtime of its own: whatever outlives a request (the store, delivery) stays on the main one and is
//! reached over channels. A client that goes away cancels its handler; what the store was already asked is done anyway.

pub mod api;
pub mod auth;
pub mod body;
mod client;
mod connection;
mod door;
mod frame;
pub mod health;
pub mod inbox;
pub mod limit;
pub mod problem;
pub mod public;
mod ratelimit_fields;
pub mod settings;

use std::future::ready;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_http::HttpService;
use actix_http::error::DispatchError;
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, Extensions, Server, ServerHandle, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::web::ServiceConfig;
use actix_web::{App, Error, web};
use tokio::sync::watch;

use self::api::{
    alarms, audit, bounces, brakes, contacts, emails, journeys, pass_events, suppressions, verbs, wallets, webhooks,
};
use self::body::BodyLimits;
use self::connection::{Crowd, Patience, Stream};
use self::health::Health;
use self::limit::DoorLimits;
use self::problem::{Kind, Problem};
use crate::audit::Auditor;
use crate::bounces::Bounces;
use crate::brake::Lever;
use crate::clock::Clock;
use crate::contacts::Contacts;
use crate::delivery::reasons::Reasons;
use crate::domain::rules::Rules;
use crate::intake::Intake;
use crate::journeys::desk::Desk;
use crate::keys::Keyring;
use crate::steering::Steering;
use crate::store::Store;
use crate::templates::Templates;
use crate::wallet::Ledger;

pub use self::door::Door;
use self::settings::ServerSettings;

/// A client that was told to go away has this long to go.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Threads of one worker for what must not hold up its requests (decompression).
const BLOCKING_THREADS_MAX: usize = 4;

/// What the handlers are given.
pub struct AppState {
    /// Where mails go in.
    pub intake: Arc<Intake>,
    /// Where pass events go in.
    pub ledger: Arc<Ledger>,
    /// What the configuration says now.
    pub rules: watch::Receiver<Arc<Rules>>,
    /// Where operators decide about brakes.
    pub lever: Arc<Lever>,
    /// Where operators steer.
    pub steering: Arc<Steering>,
    /// Why a mail waits.
    pub reasons: Arc<Reasons>,
    /// Where operators see journeys, and say what is to become of them.
    pub journeys: Arc<Desk>,
    /// Who customers are.
    pub contacts: Arc<Contacts>,
    /// Where reports are taken.
    pub bounces: Bounces,
    /// Makes proofs.
    pub auditor: Arc<Auditor>,
    /// What pages are rendered from now.
    pub templates: watch::Receiver<Arc<Templates>>,
    /// Where everything else is read.
    pub store: Arc<dyn Store>,
    /// Who may come in.
    pub keys: Arc<Keyring>,
    /// How we are.
    pub health: Arc<Health>,
    /// What a request's body may cost.
    pub body_limits: BodyLimits,
    /// What may be asked of the doors.
    pub doors: DoorLimits,
}

/// The route table.
pub fn routes(table: &mut ServiceConfig) {
    table
        .service(Door::at("/v1/emails").post(emails::submit).get(emails::list))
        .service(Door::at("/v1/emails/{id}").get(emails::show))
        .service(Door::at("/v1/emails/{id}/events").get(emails::events))
        .service(Door::at("/v1/emails/{id}/why").get(emails::why))
        .service(Door::at("/v1/emails/{id}/content").get(emails::content))
        .service(Door::at("/v1/emails/{id}/receipt").get(audit::receipt))
        .service(Door::at("/v1/audit").get(audit::list))
        .service(Door::at("/v1/audit/checkpoint").get(audit::checkpoint))
        .service(Door::at("/v1/emails/{id}/cancel").post(verbs::cancel))
        .service(Door::at("/v1/emails/{id}/hold").post(verbs::hold))
        .service(Door::at("/v1/emails/{id}/release").post(verbs::release))
        .service(Door::at("/v1/emails/{id}/retry").post(verbs::retry))
        .service(Door::at("/v1/emails/{id}/resolve").post(verbs::resolve))
        .service(Door::at("/v1/alarms").get(alarms::list))
        .service(Door::at("/v1/brakes").get(brakes::list))
        .service(Door::at("/v1/brakes/{id}/release").post(brakes::release))
        .service(Door::at("/v1/brakes/{id}/cancel").post(brakes::cancel))
        .service(Door::at("/v1/pass-events").post(pass_events::submit))
        .service(Door::at("/wallet/installation").post(pass_events::installation))
        .service(Door::at("/v1/webhooks/{tenant}").post(webhooks::receive).get(webhooks::unknown))
        .service(Door::at("/v1/contacts").get(contacts::list))
        .service(Door::at("/v1/contacts/{customerId}").put(contacts::put).get(contacts::show).delete(contacts::delete))
        .service(Door::at("/v1/suppressions").get(suppressions::list).post(suppressions::add))
        .service(Door::at("/v1/suppressions/remove").post(suppressions::remove))
        .service(Door::at("/v1/bounces").post(bounces::submit))
        .service(Door::at("/v1/journeys").get(journeys::list))
        .service(Door::at("/v1/journeys/{name}").get(journeys::show))
        .service(Door::at("/v1/journeys/{name}/enrollments").get(journeys::enrollments))
        .service(Door::at("/v1/journeys/{name}/enrollments/{id}").get(journeys::enrollment))
        .service(Door::at("/v1/journeys/{name}/pause").post(journeys::pause))
        .service(Door::at("/v1/journeys/{name}/resume").post(journeys::resume))
        .service(Door::at("/v1/journeys/{name}/drain").post(journeys::drain))
        .service(Door::at("/v1/wallets").get(wallets::list))
        .service(Door::at("/v1/wallets/trends").get(wallets::trends))
        .service(Door::at("/v1/wallets/{customerId}").get(wallets::show))
        .service(Door::at("/v1/wallets/{customerId}/events").get(wallets::events))
        .service(Door::at("/u/{token}").get(public::show).post(public::act))
        .service(Door::at("/livez").get(health::live))
        .service(Door::at("/readyz").get(health::ready));
}

/// Serves the route table on `listener`. See [`serve_table`].
pub fn serve(
    listener: TcpListener,
    app: AppState,
    clock: Arc<dyn Clock>,
    settings: &ServerSettings,
    shutdown_grace: Duration,
) -> std::io::Result<(ServerHandle, Server)> {
    let app = web::Data::new(app);
    let table = move |table: &mut ServiceConfig| {
        table.app_data(app.clone());
        routes(table);
    };
    serve_table(listener, table, clock, settings, shutdown_grace)
}

/// Serves any table of doors within our frame: the server runs while the future is awaited (on the main runtime), until
/// the handle's `stop`. A graceful stop lets running requests finish for `shutdown_grace`. Signals are not its affair.
pub fn serve_table(
    listener: TcpListener,
    table: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
    clock: Arc<dyn Clock>,
    settings: &ServerSettings,
    shutdown_grace: Duration,
) -> std::io::Result<(ServerHandle, Server)> {
    let workers = usize::from(settings.workers.get());
    let seats_max = usize::from(settings.connections_max.get()).div_ceil(workers);
    let (keep_alive, request_timeout) = (settings.keep_alive.0, settings.request_timeout.0);
    let patience =
        Patience { head: keep_alive + request_timeout, answer: request_timeout, unread_body: DISCONNECT_TIMEOUT };
    let builder = Server::build();
    let stopping = builder.graceful_shutdown_signal();
    // What actix-web's HttpServer does, with our stream between.
    let worker = move || {
        let (clock, table, stopping) = (Arc::clone(&clock), table.clone(), stopping.clone());
        let crowd = Crowd::new(seats_max, patience);
        let app = framed(clock, table).into_factory().map_err(|error: Error| error.error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(keep_alive)
            .client_request_timeout(request_timeout)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .on_connect_ext(|stream: &Stream, data: &mut Extensions| drop(data.insert(stream.seat())))
            .h1(map_config(app, |()| AppConfig::default()));
        let seated = move |io: TcpStream| {
            let peer = io.peer_addr().ok();
            ready(Ok::<_, DispatchError>((Stream::new(io, &crowd), peer)))
        };
        fn_service(seated).and_then(http)
    };
    let server = builder
        .workers(workers)
        .max_concurrent_connections(seats_max)
        .worker_max_blocking_threads(BLOCKING_THREADS_MAX)
        .shutdown_timeout(shutdown_grace.as_secs())
        .disable_signals()
        .listen("http", listener, worker)?
        .run();
    Ok((server.handle(), server))
}

/// A table of doors, a wall around it, and the frame around both.
fn framed(
    clock: Arc<dyn Clock>,
    table: impl FnOnce(&mut ServiceConfig),
) -> App<
    impl ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse<BoxBody>, Error = Error, InitError = ()>,
> {
    App::new()
        .configure(table)
        .default_service(web::to(async || Err::<String, _>(Problem::new(Kind::NotFound))))
        .wrap(from_fn(move |request, next| frame::frame(Arc::clone(&clock), request, next)))
}

#[cfg(test)]
mod tests;
