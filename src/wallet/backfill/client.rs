//! Asks the Pass API for one page, as often as it takes: at its pace, with a time limit, and again when it fails.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use jiff::Timestamp;

use super::page::Page;
use super::{Refusal, Trouble};
use crate::clock::Clock;
use crate::domain::paging::{Order, PageFacts};
use crate::domain::pass_api::PassApi;
use crate::domain::quantity::Limit;
use crate::outgoing::{AnswerBody, Call, CallError, Client, HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const TOTAL: HeaderName = HeaderName::from_static("x-pagination-total");
const RETRY_AFTER: HeaderName = HeaderName::from_static("retry-after");
/// The wait after a first failure; it doubles up to the longest.
const WAIT_FIRST: Duration = Duration::from_millis(500);
const WAIT_LONGEST: Duration = Duration::from_secs(30);
/// One wait that the API may ask for (`Retry-After`); when it asks for a longer one the run ends at once instead of
/// sleeping on it, and goes on another time. All waits together are bounded by `pass_api.run_max`.
const ASKED_LONGEST: Duration = Duration::from_mins(5);

/// How many times as many items as were asked for a page may hold: one that ignores the page's size is no page.
const PAGE_FACTOR_MAX: u32 = 10;

/// The Pass API of a tenant, asked by one reading.
pub(super) struct PassClient<'a> {
    api: &'a PassApi,
    http: &'a Client,
    clock: &'a dyn Clock,
    random: fastrand::Rng,
    /// Before this nothing is asked.
    next_at: Timestamp,
    /// Requests made.
    pub(super) requests: u64,
    /// The total as it was told last: a guess for people.
    pub(super) total_told: Option<u64>,
}

/// A page, when it was asked for, and what it was.
pub(super) struct Answered {
    /// What was on it.
    pub(super) page: Page,
    /// Just before the request that was answered.
    pub(super) asked_at: Timestamp,
    /// What paging must know; nothing is said of what is new.
    pub(super) facts: PageFacts,
}

impl<'a> PassClient<'a> {
    pub(super) fn new(api: &'a PassApi, http: &'a Client, clock: &'a dyn Clock) -> Self {
        let (random, next_at) = (fastrand::Rng::new(), Timestamp::MIN);
        Self { api, http, clock, random, next_at, requests: 0, total_told: None }
    }

    /// Asks for a page until it is answered, or `retries` were in vain.
    pub(super) async fn page(&mut self, number: u64) -> Result<Answered, Trouble> {
        let mut failed = 0;
        loop {
            let missed = match self.ask(number).await {
                Ok(answered) => return Ok(answered),
                Err(Failed::ForGood(trouble)) => return Err(trouble),
                Err(Failed::ForNow(missed)) => missed,
            };
            let wait = match missed.wait {
                Some(asked) if asked > ASKED_LONGEST => return Err(Trouble::Unavailable(missed.why)),
                Some(asked) => asked,
                None => self.back_off(failed),
            };
            if failed >= self.api.manners.retries {
                return Err(Trouble::Unavailable(missed.why));
            }
            failed += 1;
            tracing::debug!(why = missed.why, wait = ?wait, "the Pass API did not answer: asked again");
            self.next_at = self.next_at.max(later(self.clock.now(), wait));
        }
    }

    /// Half of it is by chance, so that many readers do not come back together.
    fn back_off(&mut self, failed: u32) -> Duration {
        let whole = WAIT_FIRST.saturating_mul(1 << failed.min(16)).min(WAIT_LONGEST);
        whole.mul_f64(0.5 + self.random.f64() / 2.0)
    }

    async fn ask(&mut self, number: u64) -> Result<Answered, Failed> {
        self.clock.sleep_until(self.next_at).await;
        let asked_at = self.clock.now();
        self.next_at = match self.api.manners.rate {
            Limit::Unlimited => asked_at,
            Limit::AtMost(rate) => later(asked_at, rate.period()),
        };
        self.requests += 1;
        let manners = &self.api.manners;
        let url = self.api.url.with(
            &["api", &self.api.tenant, "passes"],
            &[
                ("pageIndex", &number.to_string()),
                ("pageSize", &manners.page_size.to_string()),
                ("sortBy[0].field", "creationDate"),
                ("sortBy[0].direction", &manners.direction),
            ],
        );
        let call = Call {
            method: Method::GET,
            url: &url,
            headers: self.headers()?,
            body: Vec::new(),
            timeout: manners.timeout,
            answer: AnswerBody::UpTo(manners.page_bytes_max),
        };
        let answer = self.http.call(call).await.map_err(|error| match error {
            CallError::NotAllowed => Failed::ForGood(Trouble::NotAllowed),
            CallError::TooLarge(bytes) => Failed::ForGood(Trouble::TooLarge(bytes)),
            CallError::CannotConnect(_) => for_now("it cannot be reached"),
            CallError::TimedOut => for_now("it did not answer in time"),
            CallError::Broken(_) => for_now("the connection broke"),
        })?;
        self.judge_status(answer.status, &answer.headers)?;
        // An answer that is cut short and looks whole to HTTP is no list either: it may be whole the next time.
        let page = Page::read(&answer.body).map_err(|_| for_now("its answer is not a list of passes"))?;
        let most = manners.page_size.saturating_mul(PAGE_FACTOR_MAX);
        if page.items > usize::try_from(most).unwrap_or(usize::MAX) {
            return Err(Failed::ForGood(Trouble::TooMany { items: page.items, page_size: manners.page_size }));
        }
        let total = answer.headers.get(TOTAL).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
        self.total_told = total.or(self.total_told);
        let facts = facts(&page, total, manners.page_size);
        Ok(Answered { page, asked_at, facts })
    }

    fn headers(&self) -> Result<HeaderMap, Failed> {
        let unusable = |_| Failed::ForGood(Trouble::Refused(Refusal::Key, self.api.key_written.clone()));
        let mut key = HeaderValue::from_str(self.api.key.expose()).map_err(unusable)?;
        key.set_sensitive(true);
        Ok([(API_KEY, key)].into_iter().collect())
    }

    fn judge_status(&self, status: StatusCode, headers: &HeaderMap) -> Result<(), Failed> {
        let refused = |refusal| Failed::ForGood(Trouble::Refused(refusal, self.api.key_written.clone()));
        match status.as_u16() {
            200..=299 => Ok(()),
            401 => Err(refused(Refusal::Key)),
            403 => Err(refused(Refusal::Scope)),
            408 | 425 | 429 | 500..=599 => {
                let why = if status.as_u16() == 429 { "it asks us to go slower" } else { "it fails" };
                Err(Failed::ForNow(Missed { why, wait: self.wait_asked(headers) }))
            }
            other => Err(Failed::ForGood(Trouble::Status(other))),
        }
    }

    /// What `Retry-After` asks for: seconds, or a date (RFC 9110 section 10.2.3).
    fn wait_asked(&self, headers: &HeaderMap) -> Option<Duration> {
        let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit()) {
            return Some(Duration::from_secs(text.parse::<u32>().unwrap_or(u32::MAX).into()));
        }
        let until = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        Some(Duration::try_from(until.duration_since(self.clock.now())).unwrap_or_default())
    }
}

/// Why a request brought no page.
enum Failed {
    /// Asking again would not help.
    ForGood(Trouble),
    /// It may be better later.
    ForNow(Missed),
}

struct Missed {
    why: &'static str,
    /// What the API asks for.
    wait: Option<Duration>,
}

fn for_now(why: &'static str) -> Failed {
    Failed::ForNow(Missed { why, wait: None })
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn facts(page: &Page, total: Option<u64>, page_size: u32) -> PageFacts {
    let number = |id: &String| {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        hasher.finish()
    };
    // What stands there twice says nothing about the order.
    let mut seen = HashSet::new();
    let once = page.passes.iter().filter(|pass| seen.insert(&pass.id));
    let dates: Option<Vec<Timestamp>> = once.map(|pass| pass.created_at).collect();
    let is_in_order = dates.is_some_and(|dates| dates.is_sorted());
    PageFacts {
        items: page.items,
        passes: page.passes.iter().map(|pass| number(&pass.id)).chain(page.nameless.iter().copied()).collect(),
        pages_told: total.map(|total| total.div_ceil(u64::from(page_size.max(1)))),
        order: if is_in_order { Order::Kept } else { Order::NotKept },
        new: 0,
    }
}
