//! When to try again: a table of delays with jitter.

use std::time::Duration;

/// How far a delay may stray from the table, as a fraction: ±20 %.
const JITTER: f64 = 0.2;

/// The delay before the attempt that follows `attempts` spent ones.
///
/// `table` holds the delays in order; past its end the last one is repeated. `random` is uniform in `0.0..1.0` and
/// spreads the delay by ±20 %, so that what failed together does not come back together.
#[must_use]
pub fn delay_after(table: &[Duration], attempts: u32, random: f64) -> Duration {
    let index = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX).min(table.len().saturating_sub(1));
    let base = table.get(index).copied().unwrap_or(Duration::from_mins(1));
    base.mul_f64(1.0 - JITTER + 2.0 * JITTER * random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_delay_is_repeated_and_jitter_stays_within_a_fifth() {
        let table = [Duration::from_secs(10), Duration::from_secs(100)];
        assert_eq!(delay_after(&table, 1, 0.5), Duration::from_secs(10));
        assert_eq!(delay_after(&table, 2, 0.5), Duration::from_secs(100));
        assert_eq!(delay_after(&table, 99, 0.0), Duration::from_secs(80));
        assert_eq!(delay_after(&table, 99, 1.0), Duration::from_mins(2));
        assert_eq!(delay_after(&[], 1, 0.5), Duration::from_mins(1));
    }
}
