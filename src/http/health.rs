//! `/livez` and `/readyz`: whether the process runs, and whether it can do its work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use actix_web::{HttpResponse, web};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use tokio::sync::{Mutex, watch};

use super::AppState;
use super::problem::not_ready;
use crate::clock::Clock;
use crate::domain::relay::RelayHealth;
use crate::store::Store;

/// The store is probed at most this often, however often we are asked.
const PROBE_KEPT: Duration = Duration::from_secs(1);
/// A probe may take this long; a store that is slower cannot write.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// What the readiness door knows.
pub struct Health {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    stopping: AtomicBool,
    relays: watch::Receiver<Vec<RelayHealth>>,
    last: RwLock<Option<Probed>>,
    // Single flight: whoever holds it asks the store.
    probing: Mutex<()>,
}

#[derive(Debug, Clone, Copy)]
struct Probed {
    at: Timestamp,
    store: StoreState,
}

/// What the last probe said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum StoreState {
    /// It wrote.
    Ok,
    /// It did not, or not in time.
    CannotWrite,
}

impl Health {
    /// Health of this store and these relays.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, relays: watch::Receiver<Vec<RelayHealth>>) -> Self {
        let (stopping, last, probing) = (AtomicBool::new(false), RwLock::new(None), Mutex::new(()));
        Self { store, clock, stopping, relays, last, probing }
    }

    /// From now on we are not ready: the first step of a stop.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether the gateway stops: it takes no more mail.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn lately(&self) -> Option<StoreState> {
        let last = (*self.last.read().unwrap_or_else(PoisonError::into_inner))?;
        let age = Duration::try_from(self.clock.now().duration_since(last.at)).ok()?;
        (age < PROBE_KEPT).then_some(last.store)
    }

    async fn probe(&self) -> StoreState {
        if let Some(store) = self.lately() {
            return store;
        }
        let _probing = self.probing.lock().await;
        if let Some(store) = self.lately() {
            return store;
        }
        let store = match tokio::time::timeout(PROBE_TIMEOUT, self.store.probe(self.clock.now())).await {
            Ok(Ok(())) => StoreState::Ok,
            Ok(Err(_)) | Err(_) => StoreState::CannotWrite,
        };
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = Some(Probed { at: self.clock.now(), store });
        store
    }
}

/// `GET /livez`: the process answers.
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

/// `GET /readyz`: whether to send requests here. A relay that is down is told, but does not make us unready: mails are
/// kept meanwhile. Neither does a queue or a disk that takes no more mail: mails can be looked up, and steered.
pub async fn ready(app: web::Data<AppState>) -> HttpResponse {
    let (store, stopping) = (app.health.probe().await, app.health.is_stopping());
    let relays = app.health.relays.borrow().clone();
    let is_ready = store == StoreState::Ok && !stopping;
    let status = if is_ready { "ready" } else { "not-ready" };
    let room = app.doors.limits.headroom();
    let body = json!({
        "status": status, "store": store, "stopping": stopping, "relays": relays,
        "queue": if room.queue_is_full() { "full" } else { "ok" },
        "disk": if room.disk_is_low() { "low" } else { "ok" },
        "requests": if app.doors.in_flight.is_full() { "full" } else { "ok" },
    });
    if is_ready { HttpResponse::Ok().json(body) } else { not_ready(&body) }
}
