//! The threads that compile and render: with a large stack, behind a queue with an end, and given up when they do not
//! come back.
//!
//! A render that runs past its time looks at that itself and stops (`watch`). Where it cannot (inside the MJML
//! renderer, the CSS inliner, one huge comparison), whoever waits gives its thread up: the mail fails, another thread
//! takes its place, and the lost one ends when its work does. When too many are lost there is no other thread: what waits
//! fails at once instead of waiting for ever.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::settings::TemplateSettings;

/// A render has its time on the processor; on the clock it may take so many times as much, and this, before it is given
/// up: other work may want the processors, too.
const PATIENCE: u32 = 3;
const MARGIN: Duration = Duration::from_millis(500);

/// Why work was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// Its thread did not come back.
    GivenUp,
    /// It panicked.
    Panicked,
    /// No thread was free for too long.
    Busy,
    /// Too many threads are lost, or none can be made.
    Stuck,
}

/// The threads of one set of templates. They are made when needed, and end with it.
pub(super) struct Threads {
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    threads_max: usize,
    lost_max: usize,
    stack: usize,
    limit: Duration,
    wait_max: Duration,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    /// The threads that may take work, and what each is at.
    workers: BTreeMap<u64, Option<Running>>,
    next: u64,
    lost: usize,
    closed: bool,
}

struct Job {
    run: Box<dyn FnOnce() + Send>,
    fail: Fail,
    since: Instant,
    limit: Duration,
}

/// Tells who waits that it is in vain.
type Fail = Box<dyn FnOnce(Lost) + Send>;

struct Running {
    until: Instant,
    fail: Fail,
}

impl Threads {
    pub(super) fn new(settings: &TemplateSettings) -> Self {
        let shared = Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            threads_max: usize::from(settings.threads.get()),
            lost_max: usize::from(settings.lost_threads_max.get()),
            stack: settings.stack.as_usize(),
            limit: settings.render_timeout.0.saturating_mul(PATIENCE).saturating_add(MARGIN),
            wait_max: settings.wait_max.0,
        };
        let places = Arc::new(Semaphore::new(usize::from(settings.queue_max.get())));
        Self { shared: Arc::new(shared), places }
    }

    /// Runs `work` on one of the threads.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Lost> {
        let place = tokio::time::timeout(self.shared.wait_max, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            self.shared.tend();
            return Err(Lost::Busy);
        };
        let (answer, mut answered) = oneshot::channel();
        self.shared.submit(work, self.shared.limit, Some(place), move |done| _ = answer.send(done));
        loop {
            match tokio::time::timeout(self.shared.limit, &mut answered).await {
                Ok(done) => return done.unwrap_or(Err(Lost::Stuck)),
                Err(_) => self.shared.tend(),
            }
        }
    }

    /// The same for who is in no runtime, or blocks on purpose; with `limit` in the place of a render's.
    pub(super) fn run_blocking<T: Send + 'static>(
        &self,
        limit: Option<Duration>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.shared.submit(work, limit.unwrap_or(self.shared.limit), None, move |done| _ = answer.send(done));
        loop {
            match answered.recv_timeout(self.shared.limit) {
                Ok(done) => return done,
                Err(mpsc::RecvTimeoutError::Timeout) => self.shared.tend(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Lost::Stuck),
            }
        }
    }

    /// Threads given up that still run.
    #[cfg(test)]
    pub(super) fn lost(&self) -> usize {
        self.shared.state().lost
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let queue = {
            let mut state = self.shared.state();
            state.closed = true;
            std::mem::take(&mut state.queue)
        };
        self.shared.work.notify_all();
        queue.into_iter().for_each(|job| (job.fail)(Lost::Busy));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> T + Send + 'static,
        limit: Duration,
        place: Option<OwnedSemaphorePermit>,
        answer: impl FnOnce(Result<T, Lost>) + Send + 'static,
    ) {
        // Whoever comes first answers: the work itself, or who gives it up. The place in the queue goes with the answer.
        let waiting = Arc::new(Mutex::new(Some((answer, place))));
        let take = |waiting: &Mutex<Option<_>>| waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let failing = Arc::clone(&waiting);
        let job = Job {
            run: Box::new(move || {
                let done = catch_unwind(AssertUnwindSafe(work)).map_err(|_| Lost::Panicked);
                if let Some((answer, _place)) = take(&waiting) {
                    answer(done);
                }
            }),
            fail: Box::new(move |why| {
                if let Some((answer, _place)) = take(&failing) {
                    answer(Err(why));
                }
            }),
            since: Instant::now(),
            limit,
        };
        self.state().queue.push_back(job);
        self.tend();
        self.work.notify_one();
    }

    /// Gives up threads that should have come back, and sees that there are threads for what waits.
    fn tend(self: &Arc<Self>) {
        let now = Instant::now();
        let mut failed: Vec<(Fail, Lost)> = Vec::new();
        {
            let mut state = self.state();
            let late = |running: &Option<Running>| running.as_ref().is_some_and(|running| now >= running.until);
            let overdue: Vec<u64> =
                state.workers.iter().filter(|(_, running)| late(running)).map(|(id, _)| *id).collect();
            for id in overdue {
                if let Some(Some(running)) = state.workers.remove(&id) {
                    state.lost += 1;
                    failed.push((running.fail, Lost::GivenUp));
                }
            }
            while state.queue.front().is_some_and(|job| now.duration_since(job.since) > self.wait_max) {
                failed.extend(state.queue.pop_front().map(|job| (job.fail, Lost::Busy)));
            }
            let idle = state.workers.values().filter(|running| running.is_none()).count();
            let wanted = state
                .queue
                .len()
                .saturating_sub(idle)
                .min(self.threads_max - state.workers.len().min(self.threads_max));
            for _ in 0..wanted {
                if state.lost >= self.lost_max || !self.begin(&mut state) {
                    break;
                }
            }
            if state.workers.is_empty() {
                failed.extend(state.queue.drain(..).map(|job| (job.fail, Lost::Stuck)));
            }
        }
        for (fail, why) in failed {
            if why == Lost::GivenUp {
                tracing::error!("a template did not stop when its time was over: its thread was given up");
            }
            fail(why);
        }
    }

    /// Makes one thread.
    fn begin(self: &Arc<Self>, state: &mut State) -> bool {
        let id = state.next;
        let shared = Arc::clone(self);
        let thread = std::thread::Builder::new().name("templates".to_owned()).stack_size(self.stack);
        match thread.spawn(move || shared.work(id)) {
            Ok(_) => {
                state.next += 1;
                state.workers.insert(id, None);
                true
            }
            Err(error) => {
                tracing::error!(%error, "no thread could be made to render templates");
                false
            }
        }
    }

    /// A thread's life.
    fn work(self: &Arc<Self>, id: u64) {
        loop {
            let Some(run) = self.next_job(id) else { return };
            run();
            let mut state = self.state();
            match state.workers.get_mut(&id) {
                Some(running) => *running = None,
                None => {
                    // Given up meanwhile, and replaced where there was something to do.
                    state.lost -= 1;
                    return;
                }
            }
        }
    }

    fn next_job(&self, id: u64) -> Option<Box<dyn FnOnce() + Send>> {
        let mut state = self.state();
        loop {
            if state.closed {
                state.workers.remove(&id);
                return None;
            }
            if let Some(job) = state.queue.pop_front() {
                state.workers.insert(id, Some(Running { until: Instant::now() + job.limit, fail: job.fail }));
                return Some(job.run);
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
