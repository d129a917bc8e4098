//! The house's clock as governor wants one: it never goes back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::Clock;

/// Counts the time that passes on the house's clock. When that is set back, this one stands still for a moment and goes
/// on: whoever was let in before the change is not shut out until the clock has come that far again.
#[derive(Clone)]
pub(super) struct Steady {
    clock: Arc<dyn Clock>,
    hands: Arc<Mutex<Hands>>,
}

struct Hands {
    seen: Timestamp,
    passed: Duration,
}

impl Steady {
    pub(super) fn new(clock: &Arc<dyn Clock>) -> Self {
        let hands = Hands { seen: clock.now(), passed: Duration::ZERO };
        Self { clock: Arc::clone(clock), hands: Arc::new(Mutex::new(hands)) }
    }
}

impl governor::clock::Clock for Steady {
    type Instant = Duration;

    fn now(&self) -> Duration {
        let mut hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let step = Duration::try_from(now.duration_since(hands.seen)).unwrap_or(Duration::ZERO);
        hands.seen = now;
        hands.passed = hands.passed.saturating_add(step);
        hands.passed
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use async_trait::async_trait;
    use governor::clock::Clock as _;

    struct Told(Mutex<i64>);

    #[async_trait]
    impl Clock for Told {
        fn now(&self) -> Timestamp {
            Timestamp::from_second(*self.0.lock().unwrap()).unwrap()
        }

        async fn sleep_until(&self, _: Timestamp) {}
    }

    #[test]
    fn a_clock_that_is_set_back_stands_still_and_goes_on() {
        let told = Arc::new(Told(Mutex::new(1_000)));
        let steady = Steady::new(&(Arc::clone(&told) as Arc<dyn Clock>));
        for (second, passed) in [(1_000, 0), (1_007, 7), (400, 7), (401, 8), (2_000, 1_607)] {
            *told.0.lock().unwrap() = second;
            assert_eq!(steady.now(), Duration::from_secs(passed), "at {second}");
        }
    }
}
