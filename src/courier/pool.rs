//! The sessions of one relay: how many there are, which may be used again, and for how long.
//!
//! # Why there are never more sockets than `sessions`
//!
//! Whoever uses or opens a session holds a place, and there are `sessions` places. A new session is opened only by one
//! who holds a place and no socket, at a moment when no session is idle; so right then there are at most as many sockets
//! as places taken. A session that is put back becomes idle before its place is free, and one that is dropped closes its
//! socket before; neither adds a socket.
//!
//! When a relay gets new settings it gets a new pool, so that no session of the old settings is used again. Both count
//! the same places: sessions that end their last mail on the old pool still take theirs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    places: Arc<Places>,
    /// The last used is on top, so that what is not needed grows old below.
    idle: Mutex<Vec<Session>>,
    closed: AtomicBool,
}

/// The places of one relay, however often its settings change.
struct Places {
    free: Arc<Semaphore>,
    /// How many there are.
    count: Mutex<usize>,
    /// How many of those taken are not to be free again.
    surplus: AtomicUsize,
}

/// The right to have one socket open.
pub(super) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    places: Arc<Places>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let one_less = |surplus: usize| surplus.checked_sub(1);
        if self.places.surplus.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
            && let Some(permit) = self.permit.take()
        {
            permit.forget();
        }
    }
}

impl Places {
    /// Makes them `count` from now on.
    fn resize(&self, count: usize) {
        let mut have = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        if count > *have {
            let mut more = count - *have;
            let less = |surplus: usize| Some(surplus.saturating_sub(more));
            if let Ok(surplus) = self.surplus.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
                more -= surplus.min(more);
            }
            self.free.add_permits(more);
        } else {
            let less = *have - count;
            let forgotten = self.free.forget_permits(less);
            self.surplus.fetch_add(less - forgotten, Ordering::SeqCst);
        }
        *have = count;
    }
}

/// A session in use. Dropping it closes the socket.
pub(super) struct Leased {
    // Before the place: fields are dropped in order, and the socket must be closed first.
    pub(super) session: Session,
    place: Place,
    pool: Arc<RelayPool>,
}

impl RelayPool {
    /// A pool without sessions. It takes over the places of the pool it is to replace; see [`Self::fit_places`].
    pub(super) fn new(settings: RelaySettings, tls: Option<TlsClient>, instead_of: Option<&Self>) -> Self {
        let count = settings.sessions as usize;
        let new = || {
            let free = Arc::new(Semaphore::new(count));
            Arc::new(Places { free, count: Mutex::new(count), surplus: AtomicUsize::new(0) })
        };
        let places = instead_of.map_or_else(new, |old| Arc::clone(&old.places));
        Self { settings, tls, places, idle: Mutex::new(Vec::new()), closed: AtomicBool::new(false) }
    }

    /// Makes the places as many as these settings say.
    pub(super) fn fit_places(&self) {
        self.places.resize(self.settings.sessions as usize);
    }

    /// Keeps no session from now on, and parts from the idle ones.
    pub(super) fn retire(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.forget_idle();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place. The dispatcher holds back what there is no place for, so this waits for stragglers at most.
    pub(super) async fn place(&self) -> Result<Place, Trouble> {
        let limit = self.settings.connect_timeout.0;
        let kind = match timeout(limit, Arc::clone(&self.places.free).acquire_owned()).await {
            Ok(Ok(permit)) => return Ok(Place { permit: Some(permit), places: Arc::clone(&self.places) }),
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
