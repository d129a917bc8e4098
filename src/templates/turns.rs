//! Who is next: a line for each tenant, taken in turns, so that one's slow mails keep nobody else's waiting.

use std::collections::{BTreeMap, VecDeque};

use crate::domain::ids::TenantId;

/// Whose work it is; `None`: the house's own (checks, commands).
pub(super) type Line = Option<TenantId>;

/// What waits and what is under way, by line.
pub(super) struct Turns<J> {
    waiting: BTreeMap<Line, VecDeque<J>>,
    /// The lines in which somebody waits, the next one first.
    order: VecDeque<Line>,
    under_way: BTreeMap<Line, usize>,
    /// How many of one line may be under way at once.
    share: usize,
}

impl<J> Turns<J> {
    pub(super) fn new(share: usize) -> Self {
        Self { waiting: BTreeMap::new(), order: VecDeque::new(), under_way: BTreeMap::new(), share }
    }

    pub(super) fn push(&mut self, line: Line, job: J) {
        let waiting = self.waiting.entry(line.clone()).or_default();
        if waiting.is_empty() {
            self.order.push_back(line);
        }
        waiting.push_back(job);
    }

    /// The next job, which is under way from now on; `None`: nobody waits, or those who do have their share.
    pub(super) fn next(&mut self) -> Option<(Line, J)> {
        let at = self.order.iter().position(|line| self.room(line) > 0)?;
        let line = self.order.remove(at)?;
        let waiting = self.waiting.get_mut(&line)?;
        let job = waiting.pop_front()?;
        if waiting.is_empty() {
            self.waiting.remove(&line);
        } else {
            self.order.push_back(line.clone());
        }
        *self.under_way.entry(line.clone()).or_default() += 1;
        Some((line, job))
    }

    /// One of this line is no longer under way.
    pub(super) fn ended(&mut self, line: &Line) {
        if let Some(count) = self.under_way.get_mut(line) {
            *count -= 1;
            if *count == 0 {
                self.under_way.remove(line);
            }
        }
    }

    /// How many could begin now if somebody took them.
    pub(super) fn ready(&self) -> usize {
        self.waiting.iter().map(|(line, waiting)| waiting.len().min(self.room(line))).sum()
    }

    /// Takes away those who wait longest, as long as `is_late` says so, line by line.
    pub(super) fn take_late(&mut self, is_late: impl Fn(&J) -> bool) -> Vec<J> {
        let mut late = Vec::new();
        for waiting in self.waiting.values_mut() {
            while waiting.front().is_some_and(&is_late) {
                late.extend(waiting.pop_front());
            }
        }
        self.forget_empty();
        late
    }

    /// Takes away all who wait in a line.
    pub(super) fn take_line(&mut self, line: &Line) -> impl Iterator<Item = J> + use<J> {
        let taken = self.waiting.remove(line).unwrap_or_default();
        self.forget_empty();
        taken.into_iter()
    }

    /// Takes away all who wait.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = J> + use<J> {
        self.order.clear();
        std::mem::take(&mut self.waiting).into_values().flatten()
    }

    fn room(&self, line: &Line) -> usize {
        self.share.saturating_sub(self.under_way.get(line).copied().unwrap_or(0))
    }

    fn forget_empty(&mut self) {
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        let waiting = &self.waiting;
        self.order.retain(|line| waiting.contains_key(line));
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    fn filled(turns: &mut Turns<u8>, lines: &[(&str, &[u8])]) {
        for (name, jobs) in lines {
            for job in *jobs {
                turns.push(Some(tenant(name)), *job);
            }
        }
    }

    fn taken(turns: &mut Turns<u8>) -> Vec<u8> {
        std::iter::from_fn(|| turns.next()).map(|(_, job)| job).collect()
    }

    #[test]
    fn lines_are_taken_in_turns_and_each_in_its_order() {
        let mut turns = Turns::new(10);
        filled(&mut turns, &[("many", &[1, 2, 3]), ("few", &[4]), ("some", &[5, 6])]);
        assert_eq!(taken(&mut turns), [1, 4, 5, 2, 6, 3]);
    }

    #[test]
    fn a_line_has_no_more_under_way_than_its_share_whoever_waits_in_it() {
        let mut turns = Turns::new(1);
        filled(&mut turns, &[("many", &[1, 2, 3]), ("few", &[9])]);
        assert_eq!((turns.ready(), taken(&mut turns), turns.ready()), (2, vec![1, 9], 0));
        turns.ended(&Some(tenant("few")));
        assert!(taken(&mut turns).is_empty());
        turns.ended(&Some(tenant("many")));
        assert_eq!((turns.ready(), taken(&mut turns)), (1, vec![2]));
    }

    #[test]
    fn who_waited_too_long_is_taken_away_and_nobody_else() {
        let mut turns = Turns::new(1);
        filled(&mut turns, &[("many", &[1, 2, 7]), ("few", &[1]), ("some", &[8])]);
        let mut late = turns.take_late(|job| *job < 5);
        late.sort_unstable();
        assert_eq!((late, turns.take_line(&Some(tenant("some"))).collect()), (vec![1, 1, 2], vec![8]));
        assert_eq!((taken(&mut turns), turns.take_all().count()), (vec![7], 0));
    }
}
