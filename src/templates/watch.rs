//! What a render may cost, looked at while it runs: time, and what comes out.
//!
//! Handlebars knows no limit. So every element of a compiled template is preceded by a call of [`TICK`] (see `compile`),
//! which looks at the time, and everything written goes through an output with an end: [`Sheet`] for a part of the mail,
//! [`Watched`] for what a partial is handed as its block, which handlebars would keep in memory without one.
//!
//! A render stays on its thread, so what it is watched by is the thread's.

use std::cell::RefCell;
use std::io;
use std::time::{Duration, Instant};

use handlebars::{
    Context, Handlebars, Helper, HelperDef, HelperResult, Output, RenderContext, RenderErrorReason, Renderable as _,
};

use super::culture::Culture;

/// The helper that looks at the time. No template can write this name.
pub(super) const TICK: &str = " tick";
/// The block helper around what a partial is handed as its block. No template can write this name.
pub(super) const WATCHED: &str = " watched";

/// Why a render was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Time ran out.
    Late,
    /// More came out than may.
    Full,
}

/// What the render on this thread may still cost, and for whom it is.
struct Watch {
    /// On the clock: before that there is nothing to look at.
    until: Instant,
    /// On this thread's processor time, which is what counts: a render that had to wait for others is not slow.
    until_used: Duration,
    output_bytes_max: usize,
    culture: Culture,
    stopped: Option<Stop>,
}

thread_local! {
    static WATCH: RefCell<Option<Watch>> = const { RefCell::new(None) };
}

/// Runs `work` under a watch.
pub(super) fn under<T>(time: Duration, output_bytes_max: usize, culture: Culture, work: impl FnOnce() -> T) -> T {
    let (until, until_used) = (Instant::now() + time, used() + time);
    let watch = Watch { until, until_used, output_bytes_max, culture, stopped: None };
    WATCH.with_borrow_mut(|place| *place = Some(watch));
    let done = work();
    WATCH.with_borrow_mut(Option::take);
    done
}

/// Why the render on this thread was stopped, if it was.
pub(super) fn stopped() -> Option<Stop> {
    WATCH.with_borrow(|watch| watch.as_ref().and_then(|watch| watch.stopped))
}

/// The culture the render on this thread is for.
pub(super) fn culture() -> Culture {
    WATCH.with_borrow(|watch| watch.as_ref().map(|watch| watch.culture.clone())).unwrap_or_default()
}

fn output_bytes_max() -> usize {
    WATCH.with_borrow(|watch| watch.as_ref().map_or(0, |watch| watch.output_bytes_max))
}

fn stop(why: Stop) -> io::Error {
    WATCH.with_borrow_mut(|watch| {
        if let Some(watch) = watch {
            watch.stopped.get_or_insert(why);
        }
    });
    io::Error::other("stopped")
}

/// Fails when time ran out. Without a watch nothing is rendered, so there it is always late.
pub(super) fn look() -> io::Result<()> {
    let is_late = |watch: &Watch| Instant::now() >= watch.until && used() >= watch.until_used;
    let late = WATCH.with_borrow(|watch| watch.as_ref().is_none_or(is_late));
    if late { Err(stop(Stop::Late)) } else { Ok(()) }
}

/// The processor time of this thread.
fn used() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec.try_into().unwrap_or_default(), used.tv_nsec.try_into().unwrap_or_default())
}

/// Where a part of a mail is written.
pub(super) struct Sheet {
    text: String,
    left: usize,
}

impl Sheet {
    /// An empty one, as large as the watch allows.
    pub(super) fn new() -> Self {
        Self { text: String::new(), left: output_bytes_max() }
    }

    /// What was written.
    pub(super) fn into_text(self) -> String {
        self.text
    }
}

impl Output for Sheet {
    fn write(&mut self, text: &str) -> io::Result<()> {
        self.left = self.left.checked_sub(text.len()).ok_or_else(|| stop(Stop::Full))?;
        self.text.push_str(text);
        Ok(())
    }
}

impl io::Write for Sheet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len()).ok_or_else(|| stop(Stop::Full))?;
        look()?;
        self.text.push_str(std::str::from_utf8(bytes).map_err(io::Error::other)?);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Another output, with an end.
struct Capped<'a> {
    out: &'a mut dyn Output,
    left: usize,
}

impl Output for Capped<'_> {
    fn write(&mut self, text: &str) -> io::Result<()> {
        self.left = self.left.checked_sub(text.len()).ok_or_else(|| stop(Stop::Full))?;
        self.out.write(text)
    }
}

/// See [`TICK`].
pub(super) struct Tick;

impl HelperDef for Tick {
    fn call<'reg: 'rc, 'rc>(
        &self,
        _: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
        _: &mut dyn Output,
    ) -> HelperResult {
        look().map_err(|error| RenderErrorReason::IOError(error).into())
    }
}

/// See [`WATCHED`].
pub(super) struct Watched;

impl HelperDef for Watched {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        render: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let Some(template) = helper.template() else { return Ok(()) };
        template.render(registry, context, render, &mut Capped { out, left: output_bytes_max() })
    }
}
