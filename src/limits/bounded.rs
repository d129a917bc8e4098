//! What a limiter remembers of each caller, and never of more callers than it may.
//!
//! governor's own stores make a place for every key that is asked about, for ever. This one has a last place: who comes
//! later is answered as one who has used up everything, and leaves no trace.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;

/// For each caller the time up to which its quota is used (GCRA's theoretical arrival time).
pub(super) struct Bounded<K> {
    used_until: Mutex<HashMap<K, Nanos>>,
    keys_max: usize,
}

/// What is asked of a caller's quota.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Ask<K> {
    /// One is taken.
    Take(K),
    /// Whether one could be taken. Who is not remembered has used nothing.
    Look(K),
}

/// Later than any moment a quota can be used up to.
const NEVER: Nanos = Nanos::new(u64::MAX);

impl<K> Bounded<K> {
    pub(super) fn new(keys_max: usize) -> Self {
        Self { used_until: Mutex::default(), keys_max }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<K, Nanos>> {
        self.used_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> StateStore for Bounded<K> {
    type Key = Ask<K>;

    fn measure_and_replace<T, F, E>(&self, ask: &Ask<K>, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut known = self.known();
        let key = match ask {
            Ask::Take(key) => key,
            Ask::Look(key) => return measure(known.get(key).copied()).map(|(outcome, _)| outcome),
        };
        if let Some(used_until) = known.get_mut(key) {
            let (outcome, next) = measure(Some(*used_until))?;
            *used_until = next;
            return Ok(outcome);
        }
        if known.len() >= self.keys_max {
            return measure(Some(NEVER)).map(|(outcome, _)| outcome);
        }
        let (outcome, next) = measure(None)?;
        known.insert(key.clone(), next);
        Ok(outcome)
    }
}

impl<K: Hash + Eq + Clone> ShrinkableKeyedStateStore<Ask<K>> for Bounded<K> {
    fn retain_recent(&self, drop_below: Nanos) {
        self.known().retain(|_, used_until| *used_until > drop_below);
    }

    fn shrink_to_fit(&self) {
        self.known().shrink_to_fit();
    }

    fn len(&self) -> usize {
        self.known().len()
    }

    fn is_empty(&self) -> bool {
        self.known().is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    #[test]
    fn a_million_keys_take_no_more_room_than_the_limit_and_give_it_back() {
        let store = Bounded::new(100_000);
        for key in 0..1_000_000_u128 {
            let measured = store.measure_and_replace(&Ask::Take(key), |used| match used {
                None => Ok(((), Nanos::new(1))),
                Some(used) => Err(used),
            });
            assert_eq!(measured, if key < 100_000 { Ok(()) } else { Err(NEVER) });
        }
        assert_eq!(store.len(), 100_000);
        let places = store.known().capacity();
        assert!(places <= 200_000, "{places}");
        store.measure_and_replace(&Ask::Take(7), |_| Ok::<_, ()>(((), Nanos::new(9)))).unwrap();
        store.retain_recent(Nanos::new(1));
        store.shrink_to_fit();
        assert_eq!(store.len(), 1);
        let places = store.known().capacity();
        assert!(places < 100, "{places}");
    }
}
