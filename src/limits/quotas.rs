//! Quotas by caller: one limiter for each rate, made when somebody has that rate.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::{NotUntil, Quota, RateLimiter};

use super::bounded::{Ask, Bounded};
use super::steady::Steady;
use crate::clock::Clock;
use crate::domain::quantity::Rate;

/// A limiter that is full looks through all it remembers at most this often.
const TIDIED_EVERY: Duration = Duration::from_secs(1);

/// What a quota says of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The quota.
    pub rate: Rate,
    /// How many more may come at once.
    pub remaining: u32,
    /// `Some`: this one is refused; after this one may come.
    pub wait: Option<Duration>,
}

impl Standing {
    /// Whether the request may not be served.
    #[must_use]
    pub fn is_refused(self) -> bool {
        self.wait.is_some()
    }

    /// When there is more: one, after a refusal; else all of the burst.
    #[must_use]
    pub fn reset(self) -> Duration {
        let used = self.rate.burst().saturating_sub(self.remaining);
        self.wait.unwrap_or_else(|| self.rate.period().saturating_mul(used))
    }
}

struct Limiter<K: Hash + Eq + Clone> {
    governor: RateLimiter<Ask<K>, Bounded<K>, Steady, StateInformationMiddleware>,
    /// When it was last looked through, on the steady clock.
    tidied: Mutex<Duration>,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    fn tidy(&self, now: Duration) {
        *self.tidied.lock().unwrap_or_else(PoisonError::into_inner) = now;
        self.governor.retain_recent();
        self.governor.shrink_to_fit();
    }

    fn was_tidied_lately(&self, now: Duration) -> bool {
        now.saturating_sub(*self.tidied.lock().unwrap_or_else(PoisonError::into_inner)) < TIDIED_EVERY
    }
}

/// What each of many callers has used.
///
/// There are as many limiters as different rates. Rates come from the configuration and from keys that an operator made,
/// never from a caller.
pub(super) struct Quotas<K: Hash + Eq + Clone> {
    clock: Steady,
    keys_max: usize,
    by_rate: RwLock<HashMap<Rate, Arc<Limiter<K>>>>,
}

impl<K: Hash + Eq + Clone> Quotas<K> {
    pub(super) fn new(clock: &Arc<dyn Clock>, keys_max: usize) -> Self {
        Self { clock: Steady::new(clock), keys_max, by_rate: RwLock::default() }
    }

    /// Takes one out of the caller's quota, if there is one left.
    pub(super) fn take(&self, key: &K, rate: Rate) -> Standing {
        let limiter = self.limiter(rate);
        let ask = Ask::Take(key.clone());
        let mut taken = limiter.governor.check_key(&ask);
        if taken.is_err() && limiter.governor.len() >= self.keys_max {
            let now = self.clock.now();
            if !limiter.was_tidied_lately(now) {
                limiter.tidy(now);
                taken = limiter.governor.check_key(&ask);
            }
        }
        self.standing(rate, taken)
    }

    /// What `take` would say, with nothing taken; a caller who is not remembered has the whole quota.
    pub(super) fn look(&self, key: &K, rate: Rate) -> Standing {
        self.standing(rate, self.limiter(rate).governor.check_key(&Ask::Look(key.clone())))
    }

    fn standing(&self, rate: Rate, taken: Result<StateSnapshot, NotUntil<Duration>>) -> Standing {
        match taken {
            Ok(state) => Standing { rate, remaining: state.remaining_burst_capacity(), wait: None },
            // Whoever is refused for want of a place has no time of its own.
            Err(until) => {
                let wait = until.wait_time_from(self.clock.now()).clamp(Duration::from_nanos(1), rate.period());
                Standing { rate, remaining: 0, wait: Some(wait) }
            }
        }
    }

    fn limiter(&self, rate: Rate) -> Arc<Limiter<K>> {
        if let Some(limiter) = self.by_rate.read().unwrap_or_else(PoisonError::into_inner).get(&rate) {
            return Arc::clone(limiter);
        }
        let mut by_rate = self.by_rate.write().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let burst = NonZeroU32::new(rate.burst()).unwrap_or(NonZeroU32::MIN);
            // A period is at least a nanosecond: governor refuses only none.
            let quota = Quota::with_period(rate.period()).unwrap_or(Quota::per_second(NonZeroU32::MIN));
            let store = Bounded::new(self.keys_max);
            let governor = RateLimiter::new(quota.allow_burst(burst), store, self.clock.clone());
            Arc::new(Limiter { governor, tidied: Mutex::default() })
        };
        Arc::clone(by_rate.entry(rate).or_insert_with(make))
    }

    /// Forgets callers who have their whole quota back, and limiters that nobody is left in.
    pub(super) fn tidy(&self) {
        let now = self.clock.now();
        // Looking through many callers takes a while, in which nobody need wait for a new rate.
        let limiters: Vec<_> = self.by_rate.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for limiter in limiters {
            limiter.tidy(now);
        }
        // One that is being asked just now may be about to remember somebody.
        let is_used = |limiter: &Arc<Limiter<K>>| !limiter.governor.is_empty() || Arc::strong_count(limiter) > 1;
        self.by_rate.write().unwrap_or_else(PoisonError::into_inner).retain(|_, limiter| is_used(limiter));
    }

    /// How many callers are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.by_rate.read().unwrap_or_else(PoisonError::into_inner).values().map(|limiter| limiter.governor.len()).sum()
    }
}
