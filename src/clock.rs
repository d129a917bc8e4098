//! Time as a parameter: the system's clock in the real process, a hand-wound one in tests.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Notify;

/// Where the time comes from. Everything that reads the time or waits for one is given a clock.
///
/// Network time-outs are not asked here: they guard against silence on a real socket and stay real in every test.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// The present moment (UTC).
    fn now(&self) -> Timestamp;

    /// Returns at `at`, or at once when `at` has passed. Cancel safe.
    async fn sleep_until(&self, at: Timestamp);
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the operating system for the time")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that waits by time")]
    async fn sleep_until(&self, at: Timestamp) {
        let wait = at.duration_since(self.now());
        if let Ok(wait) = std::time::Duration::try_from(wait) {
            tokio::time::sleep(wait).await;
        }
    }
}

/// A clock that stands still until it is wound. Clones share the same hands.
#[derive(Debug, Clone)]
pub struct ManualClock {
    hands: Arc<Hands>,
}

#[derive(Debug)]
struct Hands {
    now: Mutex<Timestamp>,
    moved: Notify,
}

impl ManualClock {
    /// A clock that shows `start`.
    #[must_use]
    pub fn at(start: Timestamp) -> Self {
        Self { hands: Arc::new(Hands { now: Mutex::new(start), moved: Notify::new() }) }
    }

    /// Moves the hands forward and wakes every sleeper whose time has come.
    pub fn advance(&self, by: std::time::Duration) {
        {
            let mut now = self.hands.now.lock().unwrap_or_else(PoisonError::into_inner);
            *now = now.checked_add(by).unwrap_or(Timestamp::MAX);
        }
        self.hands.moved.notify_waiters();
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.hands.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn sleep_until(&self, at: Timestamp) {
        loop {
            // Registered before the look, so that an advance in between is not missed.
            let moved = self.hands.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if self.now() >= at {
                return;
            }
            moved.await;
        }
    }
}
