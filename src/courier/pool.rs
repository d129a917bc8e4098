//! The sessions of one relay: how many there are, which may be used again, and for how long.
//!
//! # Why there are never more sockets than `sessions`
//!
//! Whoever uses or opens a session holds a place, and there are `sessions` places. A new session is opened only by one
//! who holds a place and no socket, at a moment when no session is idle; so right then there are at most as many sockets
//! as places taken. A session that is put back becomes idle before its place is free, and one that is dropped closes its
//! socket before; neither adds a socket.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures_util::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::open::open;
use super::session::Session;
use super::settings::RelaySettings;
use super::tls::TlsClient;
use super::{Stage, Trouble, TroubleKind};

/// One relay and its sessions.
pub(super) struct RelayPool {
    settings: RelaySettings,
    tls: Option<TlsClient>,
    places: Arc<Semaphore>,
    /// The last used is on top, so that what is not needed grows old below.
    idle: Mutex<Vec<Session>>,
    closed: AtomicBool,
}

/// The right to have one socket open.
pub(super) struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// A session in use. Dropping it closes the socket.
pub(super) struct Leased {
    // Before the place: fields are dropped in order, and the socket must be closed first.
    pub(super) session: Session,
    place: Place,
    pool: Arc<RelayPool>,
}

impl RelayPool {
    pub(super) fn new(settings: RelaySettings, tls: Option<TlsClient>) -> Self {
        let places = Arc::new(Semaphore::new(settings.sessions as usize));
        Self { settings, tls, places, idle: Mutex::new(Vec::new()), closed: AtomicBool::new(false) }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place. The dispatcher holds back what there is no place for, so this waits for stragglers at most.
    pub(super) async fn place(&self) -> Result<Place, Trouble> {
        let limit = self.settings.connect_timeout.0;
        let kind = match timeout(limit, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(permit)) => return Ok(Place(permit)),
            Ok(Err(_)) => TroubleKind::Closed(std::io::ErrorKind::NotConnected),
            Err(_) => TroubleKind::TimedOut(limit),
        };
        Err(Trouble { stage: Stage::Connect, kind })
    }

    /// An idle session that may be used again, or the place back when there is none.
    pub(super) fn reuse(self: &Arc<Self>, place: Place) -> Result<Leased, Place> {
        loop {
            let Some(session) = self.idle().pop() else { return Err(place) };
            if session.is_fit(&self.settings) {
                return Ok(Leased { session, place, pool: Arc::clone(self) });
            }
            // A mail waits for this place, so nobody waits for the answer to QUIT.
            session.part();
        }
    }

    /// A new session. To be called when `reuse` has none, or after `forget_idle`.
    pub(super) async fn open(self: &Arc<Self>, place: Place) -> Result<Leased, Trouble> {
        let session = open(&self.settings, self.tls.as_ref()).await?;
        Ok(Leased { session, place, pool: Arc::clone(self) })
    }

    /// Parts from every idle session.
    pub(super) fn forget_idle(&self) {
        let idle = std::mem::take(&mut *self.idle());
        idle.into_iter().for_each(Session::part);
    }

    /// QUITs every idle session, and keeps none from now on.
    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let idle = std::mem::take(&mut *self.idle());
        join_all(idle.into_iter().map(Session::quit)).await;
    }
}

impl Leased {
    /// Puts a sound session back, for the next mail; drops another one.
    pub(super) fn give_back(mut self) {
        if !self.session.is_sound() {
            return;
        }
        if self.pool.closed.load(Ordering::SeqCst) {
            self.session.part();
            return;
        }
        self.session.last_used = Instant::now();
        self.pool.idle().push(self.session);
        // Only now is the place free.
        drop(self.place);
    }

    /// Ends the session politely.
    pub(super) async fn quit(self) {
        self.session.quit().await;
        drop(self.place);
    }

    /// Closes the socket and keeps the place.
    pub(super) fn into_place(self) -> Place {
        drop(self.session);
        self.place
    }
}

#[cfg(test)]
impl RelayPool {
    pub(super) fn idle_count(&self) -> usize {
        self.idle().len()
    }

    pub(super) fn nodelay(&self) -> Vec<bool> {
        self.idle().iter().map(|session| session.wire.line(|line| line.socket().nodelay().unwrap_or(false))).collect()
    }
}
