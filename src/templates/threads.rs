//! The threads that compile and render: with a large stack, behind a queue with an end, and given up when they do not
//! come back.
//!
//! A render that runs past its time looks at that itself and stops (`watch`). Where it cannot (inside the MJML
//! renderer, the CSS inliner, one huge comparison), whoever waits gives its thread up: the mail fails, another thread
//! takes its place, and the lost one ends when its work does. When too many are lost there is no other thread: what waits
//! fails at once instead of waiting for ever.
//!
//! Tenants share nothing that one of them could use up: their mails are taken in turns (`turns`), one tenant's have all
//! threads but one, a part of the places in the queue, and half of the threads that may be lost.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::settings::TemplateSettings;
use super::turns::{Line, Turns};

/// A render has its time on the processor; on the clock it may take so many times as much, and this, before it is given
/// up: other work may want the processors, too.
const PATIENCE: u32 = 3;
const MARGIN: Duration = Duration::from_millis(500);
/// How often who waits looks whether somebody is over their time.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Which part of the places in the queue one tenant may have: a quarter.
const PLACES_SHARE: usize = 4;

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
    /// Of each tenant that ever had something to render.
    places_of: Mutex<BTreeMap<Line, Arc<Semaphore>>>,
    places_share: usize,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    threads_max: usize,
    lost_max: usize,
    lost_share: usize,
    stack: usize,
    limit: Duration,
    wait_max: Duration,
}

struct State {
    turns: Turns<Job>,
    /// The threads that may take work, and what each is at.
    workers: BTreeMap<u64, Option<Running>>,
    next: u64,
    /// Those given up that still run, by whose work they are at.
    lost: BTreeMap<Line, usize>,
    closed: bool,
}

struct Job {
    run: Box<dyn FnOnce() + Send>,
    fail: Fail,
    /// When it is too late to begin it.
    begin_by: Instant,
    limit: Duration,
}

/// Tells who waits that it is in vain.
type Fail = Box<dyn FnOnce(Lost) + Send>;

struct Running {
    line: Line,
    until: Instant,
    fail: Fail,
}

impl State {
    fn lost(&self) -> usize {
        self.lost.values().sum()
    }
}

impl Threads {
    pub(super) fn new(settings: &TemplateSettings) -> Self {
        Self::with(settings, usize::from(settings.threads.get()))
    }

    /// One thread, for work that does not wait for that of the others.
    pub(super) fn one(settings: &TemplateSettings) -> Self {
        Self::with(settings, 1)
    }

    fn with(settings: &TemplateSettings, threads_max: usize) -> Self {
        let lost_max = usize::from(settings.lost_threads_max.get());
        let state = State {
            turns: Turns::new(threads_max.saturating_sub(1).max(1)),
            workers: BTreeMap::new(),
            next: 0,
            lost: BTreeMap::new(),
            closed: false,
        };
        let shared = Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            threads_max,
            lost_max,
            lost_share: lost_max.div_ceil(2),
            stack: settings.stack.as_usize(),
            limit: settings.render_timeout.0.saturating_mul(PATIENCE).saturating_add(MARGIN),
            wait_max: settings.wait_max.0,
        };
        let places = usize::from(settings.queue_max.get());
        Self {
            shared: Arc::new(shared),
            places: Arc::new(Semaphore::new(places)),
            places_of: Mutex::default(),
            places_share: places.div_ceil(PLACES_SHARE),
        }
    }

    /// Runs `work` on one of the threads.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        line: Line,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let begin_by = Instant::now() + self.shared.wait_max;
        let Ok(Ok(places)) = tokio::time::timeout_at(begin_by.into(), self.places(&line)).await else {
            self.shared.tend();
            return Err(Lost::Busy);
        };
        let (answer, mut answered) = oneshot::channel();
        let job = Ordered { line, begin_by, limit: self.shared.limit, places: Some(places) };
        self.shared.submit(work, job, move |done| _ = answer.send(done));
        loop {
            match tokio::time::timeout(LOOK_EVERY, &mut answered).await {
                Ok(done) => return done.unwrap_or(Err(Lost::Stuck)),
                Err(_) => self.shared.tend(),
            }
        }
    }

    /// A place in the queue: one of the tenant's, and one of all.
    async fn places(&self, line: &Line) -> Result<[OwnedSemaphorePermit; 2], tokio::sync::AcquireError> {
        let own = {
            let mut places_of = self.places_of.lock().unwrap_or_else(PoisonError::into_inner);
            let own = places_of.entry(line.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.places_share)));
            Arc::clone(own)
        };
        Ok([own.acquire_owned().await?, Arc::clone(&self.places).acquire_owned().await?])
    }

    /// The same for who is in no runtime, or blocks on purpose; with `limit` in the place of a render's.
    pub(super) fn run_blocking<T: Send + 'static>(
        &self,
        limit: Option<Duration>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let (answer, answered) = mpsc::sync_channel(1);
        let limit = limit.unwrap_or(self.shared.limit);
        // Who loads templates has nobody beside them.
        let job = Ordered { line: None, begin_by: Instant::now() + limit, limit, places: None };
        self.shared.submit(work, job, move |done| _ = answer.send(done));
        loop {
            match answered.recv_timeout(LOOK_EVERY) {
                Ok(done) => return done,
                Err(mpsc::RecvTimeoutError::Timeout) => self.shared.tend(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Lost::Stuck),
            }
        }
    }

    /// Threads given up that still run.
    #[cfg(test)]
    pub(super) fn lost(&self) -> usize {
        self.shared.state().lost()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let waiting: Vec<Job> = {
            let mut state = self.shared.state();
            state.closed = true;
            state.turns.take_all().collect()
        };
        self.shared.work.notify_all();
        for job in waiting {
            (job.fail)(Lost::Busy);
        }
    }
}

/// How work is to be done.
struct Ordered {
    line: Line,
    begin_by: Instant,
    limit: Duration,
    places: Option<[OwnedSemaphorePermit; 2]>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> T + Send + 'static,
        ordered: Ordered,
        answer: impl FnOnce(Result<T, Lost>) + Send + 'static,
    ) {
        let Ordered { line, begin_by, limit, places } = ordered;
        // Whoever comes first answers: the work itself, or who gives it up. The place in the queue goes with the answer.
        let waiting = Arc::new(Mutex::new(Some((answer, places))));
        let take = |waiting: &Mutex<Option<_>>| waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let failing = Arc::clone(&waiting);
        let job = Job {
            run: Box::new(move || {
                let done = catch_unwind(AssertUnwindSafe(work)).map_err(|_| Lost::Panicked);
                if let Some((answer, _places)) = take(&waiting) {
                    answer(done);
                }
            }),
            fail: Box::new(move |why| {
                if let Some((answer, _places)) = take(&failing) {
                    answer(Err(why));
                }
            }),
            begin_by,
            limit,
        };
        self.state().turns.push(line, job);
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
                    state.turns.ended(&running.line);
                    *state.lost.entry(running.line).or_default() += 1;
                    failed.push((running.fail, Lost::GivenUp));
                }
            }
            let late = state.turns.take_late(|job| now >= job.begin_by);
            failed.extend(late.into_iter().map(|job| (job.fail, Lost::Busy)));
            // The house's own may lose all there are.
            let has_lost = |(line, lost): &(&Line, &usize)| line.is_some() && **lost >= self.lost_share;
            let stuck: Vec<Line> = state.lost.iter().filter(has_lost).map(|(line, _)| line.clone()).collect();
            for line in stuck {
                failed.extend(state.turns.take_line(&line).map(|job| (job.fail, Lost::Stuck)));
            }
            let idle = state.workers.values().filter(|running| running.is_none()).count();
            let wanted = state.turns.ready().saturating_sub(idle);
            for _ in 0..wanted.min(self.threads_max.saturating_sub(state.workers.len())) {
                if state.lost() >= self.lost_max || !self.begin(&mut state) {
                    break;
                }
            }
            if state.workers.is_empty() {
                failed.extend(state.turns.take_all().map(|job| (job.fail, Lost::Stuck)));
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
        while let Some((line, run)) = self.next_job(id) {
            run();
            let mut state = self.state();
            let Some(running) = state.workers.get_mut(&id) else {
                // Given up meanwhile, and replaced where there was something to do.
                if let Some(lost) = state.lost.get_mut(&line) {
                    *lost -= 1;
                }
                state.lost.retain(|_, lost| *lost > 0);
                return;
            };
            *running = None;
            state.turns.ended(&line);
            drop(state);
            // Another of this line may begin, and this thread perhaps takes one of another line.
            self.work.notify_all();
        }
    }

    fn next_job(&self, id: u64) -> Option<(Line, Box<dyn FnOnce() + Send>)> {
        let mut state = self.state();
        loop {
            if state.closed {
                state.workers.remove(&id);
                return None;
            }
            if let Some((line, job)) = state.turns.next() {
                let running = Running { line: line.clone(), until: Instant::now() + job.limit, fail: job.fail };
                state.workers.insert(id, Some(running));
                return Some((line, job.run));
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests;
