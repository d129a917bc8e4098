//! How the process lives and stops: named tasks, two stop tokens, signals, and the exit code.
//!
//! # What flows
//!
//! The first SIGTERM or SIGINT cancels the *soft* token: doors close, nothing new is begun. What is under way goes on
//! until it is done, or until the grace period ends or a second signal comes: then the *hard* token is cancelled and
//! everything lets go at its next safe point.
//!
//! SIGHUP stops nothing: `serve` reads its configuration again (`app::reload`). Other commands leave it to the system,
//! which ends them.
//!
//! # What is promised
//!
//! * Every task has a name and its end is noticed. A task that panics, or an [`Kind::Essential`] one that ends before
//!   anybody asked for it, is logged by name, stops the process softly, and makes it exit with a failure.
//! * [`Lifecycle::run`] always returns: after the hard stop the remaining tasks get [`HARD_GRACE`], then are named and
//!   left to die with the runtime.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;

/// How long tasks may take to let go after the hard stop.
pub const HARD_GRACE: Duration = Duration::from_secs(5);

/// What a task's end means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It runs until the soft stop; an earlier end is a failure.
    Essential,
    /// It ends when its work is done.
    Passing,
}

/// How the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was asked to stop and all tasks are done.
    Asked,
    /// A task died, or some did not let go.
    Failed,
}

/// The one place that spawns. Clones share everything.
#[derive(Clone)]
pub struct Tasks {
    shared: Arc<Shared>,
}

struct Shared {
    soft: CancellationToken,
    hard: CancellationToken,
    tracker: TaskTracker,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    next: u64,
    names: BTreeMap<u64, &'static str>,
    failed: bool,
}

impl Tasks {
    /// Runs `work` as a task of this name until it ends.
    pub fn spawn<F>(&self, name: &'static str, kind: Kind, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let number = self.shared.begin(name);
        let shared = Arc::clone(&self.shared);
        let watched = async move {
            let end = AssertUnwindSafe(work).catch_unwind().await;
            shared.end(number, name, kind, end.is_err());
        };
        #[expect(clippy::disallowed_methods, reason = "the one place that spawns: named, tracked, its end noticed")]
        let handle = tokio::spawn(self.shared.tracker.track_future(watched));
        // Dropping the handle detaches the task; the tracker and `end` see how it goes.
        drop(handle);
    }

    /// Cancelled at the first stop signal or failure: begin nothing new.
    #[must_use]
    pub fn soft(&self) -> CancellationToken {
        self.shared.soft.clone()
    }

    /// Cancelled at the second signal or when the grace period is over: let go.
    #[must_use]
    pub fn hard(&self) -> CancellationToken {
        self.shared.hard.clone()
    }

    /// Stops the process softly with a failing exit code; `why` is logged.
    pub fn fail(&self, why: &str) {
        tracing::error!(why, "stopping: something the gateway cannot do without has failed");
        self.shared.fail();
    }
}

impl Shared {
    fn begin(&self, name: &'static str) -> u64 {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let number = running.next;
        running.next += 1;
        running.names.insert(number, name);
        number
    }

    fn end(&self, number: u64, name: &'static str, kind: Kind, panicked: bool) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).names.remove(&number);
        if panicked {
            tracing::error!(task.name = name, "stopping: a task panicked");
            self.fail();
        } else if kind == Kind::Essential && !self.soft.is_cancelled() {
            tracing::error!(task.name = name, "stopping: a task ended although nobody asked it to");
            self.fail();
        }
    }

    fn fail(&self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).failed = true;
        self.soft.cancel();
    }

    fn left(&self) -> Vec<&'static str> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).names.values().copied().collect()
    }
}

/// The life of the process.
pub struct Lifecycle {
    tasks: Tasks,
    grace: Duration,
}

impl Lifecycle {
    /// A life in which a soft stop may take `grace`.
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        let shared = Shared {
            soft: CancellationToken::new(),
            hard: CancellationToken::new(),
            tracker: TaskTracker::new(),
            running: Mutex::default(),
        };
        Self { tasks: Tasks { shared: Arc::new(shared) }, grace }
    }

    /// Where tasks are spawned.
    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Waits for a stop and sees it through. Every item of `signals` is one wish to stop.
    pub async fn run(self, clock: &dyn Clock, mut signals: impl Stream<Item = ()> + Unpin) -> Ending {
        let shared = &self.tasks.shared;
        tokio::select! {
            Some(()) = signals.next() => tracing::info!("stopping: no new work; what is under way goes on"),
            () = shared.soft.cancelled() => {}
        }
        shared.soft.cancel();
        shared.tracker.close();
        tokio::select! {
            biased;
            () = shared.tracker.wait() => {}
            Some(()) = signals.next() => tracing::warn!("second signal: cutting off"),
            () = wait(clock, self.grace) => tracing::warn!("the grace period is over: cutting off"),
        }
        shared.hard.cancel();
        tokio::select! {
            biased;
            () = shared.tracker.wait() => {}
            () = wait(clock, HARD_GRACE) => {
                let left = shared.left().join(" ");
                tracing::error!(tasks = left, "these tasks did not let go");
                shared.fail();
            }
        }
        let failed = shared.running.lock().unwrap_or_else(PoisonError::into_inner).failed;
        if failed { Ending::Failed } else { Ending::Asked }
    }
}

async fn wait(clock: &dyn Clock, length: Duration) {
    clock.sleep_until(clock.now().checked_add(length).unwrap_or(Timestamp::MAX)).await;
}

/// SIGHUP as it comes: every item is one wish that the configuration be read again. Several that come at once are one.
/// From the call on the signal does not end the process any more. Needs a Tokio runtime.
pub fn reload_signals() -> std::io::Result<impl Stream<Item = ()> + Send + Unpin> {
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(stream::poll_fn(move |context| hangup.poll_recv(context)))
}

/// SIGTERM and SIGINT as they come. Needs a Tokio runtime.
pub fn stop_signals() -> std::io::Result<impl Stream<Item = ()> + Unpin> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(stream::poll_fn(move |context| {
        let terminated = terminate.poll_recv(context).is_ready();
        if terminated || interrupt.poll_recv(context).is_ready() { Poll::Ready(Some(())) } else { Poll::Pending }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const GRACE: Duration = Duration::from_secs(30);

    fn clock() -> ManualClock {
        ManualClock::at(Timestamp::UNIX_EPOCH)
    }

    /// As many signals, then silence.
    fn signals(count: usize) -> impl Stream<Item = ()> + Unpin {
        stream::iter(vec![(); count]).chain(stream::pending())
    }

    #[tokio::test]
    async fn the_first_signal_stops_softly_and_waits_for_what_is_under_way() {
        let life = Lifecycle::new(GRACE);
        let (soft, hard) = (life.tasks().soft(), life.tasks().hard());
        life.tasks().spawn("worker", Kind::Essential, async move {
            soft.cancelled().await;
            assert!(!hard.is_cancelled());
        });
        assert_eq!(life.run(&clock(), signals(1)).await, Ending::Asked);
    }

    #[tokio::test]
    async fn the_second_signal_cuts_off() {
        let life = Lifecycle::new(GRACE);
        let hard = life.tasks().hard();
        life.tasks().spawn("stubborn", Kind::Essential, async move { hard.cancelled().await });
        assert_eq!(life.run(&clock(), signals(2)).await, Ending::Asked);
    }

    #[tokio::test]
    async fn the_end_of_the_grace_period_cuts_off() {
        let life = Lifecycle::new(GRACE);
        let (soft, hard) = (life.tasks().soft(), life.tasks().hard());
        life.tasks().spawn("stubborn", Kind::Essential, async move { hard.cancelled().await });
        let clock = clock();
        let winder = clock.clone();
        life.tasks().spawn("winder", Kind::Passing, async move {
            soft.cancelled().await;
            wind_until_stopped(&winder).await;
        });
        let tasks = life.tasks().clone();
        assert_eq!(life.run(&clock, signals(1)).await, Ending::Failed, "the winder never lets go");
        assert_eq!(tasks.shared.left(), ["winder"]);
    }

    async fn wind_until_stopped(clock: &ManualClock) {
        loop {
            clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_task_that_panics_stops_the_process_with_a_failure() {
        let life = Lifecycle::new(GRACE);
        let soft = life.tasks().soft();
        life.tasks().spawn("server", Kind::Essential, async move { soft.cancelled().await });
        life.tasks().spawn("clumsy", Kind::Passing, async { panic!("on purpose") });
        assert_eq!(life.run(&clock(), signals(0)).await, Ending::Failed);
    }

    #[tokio::test]
    async fn an_essential_task_that_ends_early_stops_the_process_with_a_failure() {
        let life = Lifecycle::new(GRACE);
        life.tasks().spawn("sleepy", Kind::Essential, async {});
        assert_eq!(life.run(&clock(), signals(0)).await, Ending::Failed);
    }

    #[tokio::test]
    async fn a_passing_task_may_end_whenever_it_likes() {
        let life = Lifecycle::new(GRACE);
        let (done, finished) = tokio::sync::oneshot::channel();
        life.tasks().spawn("errand", Kind::Passing, async move { _ = done.send(()) });
        assert!(finished.await.is_ok());
        tokio::task::yield_now().await;
        assert!(!life.tasks().soft().is_cancelled());
        assert_eq!(life.run(&clock(), signals(1)).await, Ending::Asked);
    }

    #[tokio::test]
    async fn a_reported_failure_stops_the_process_with_a_failure() {
        let life = Lifecycle::new(GRACE);
        life.tasks().fail("the store is gone");
        assert_eq!(life.run(&clock(), signals(0)).await, Ending::Failed);
    }
}
