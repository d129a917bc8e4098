//! How a set that moves is read in pages, so that nothing that stays in it is missed.
//!
//! Pages are numbered from 0, of passes in the order of their creation, the oldest first. While they are read passes are
//! made (behind the last one) and removed (anywhere; what stands behind moves towards the first page). Read from the
//! first page to the last, a pass moves over the edge between two pages unseen. So the last page is looked for, and then
//! the pages are read **from the last to the first**: whatever moves moves into pages still to be read, and is read twice at
//! worst. At the end the last pages are read once more, for what was made meanwhile.
//!
//! ```text
//! look for the end ─▶ read down to page 0 ─▶ look for the end ─▶ read down to a page that is all known ─▶ ended
//!                      ▲                                         └ something was new: so again, a few times
//!                      └ not in the order asked for: all is read until a round finds nothing new
//! ```
//!
//! The total that a server tells is a hint where to look first and nothing else. The end is an empty page; or, of a
//! server that answers a page behind its last one with the last one, the first of those that hold the same passes. (In
//! order, two pages that are far apart hold none in common, however the set moves.) Pages on which nothing can be told
//! apart are no repeat of each other; that their number is bounded is what ends a reading of them.

use std::collections::HashSet;

/// Rounds at most: those over a set that is not in the order asked for, and those that look for what was made meanwhile.
pub const ROUNDS_MAX: u32 = 4;
/// No page of a higher number is asked for: a search for the end of a set without one ends here.
pub const PAGES_MAX: u64 = 100_000_000;
/// Looks for the end in one round. A search takes some sixty; one follows whenever so much was removed that the page to
/// read is behind the end.
pub const LOOKS_MAX: u32 = 2_000;
/// Pages read in a row on which there is something, but no pass that could be told from another.
pub const BLANK_PAGES_MAX: u32 = 1_000;

/// Where reading stands: the page read last, on the way down in this round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The round, from 1.
    pub round: u32,
    /// The page that was read last; `None` before the first of the round.
    pub page: Option<u64>,
    /// Whether the pages came in the order asked for so far.
    pub order: Order,
}

/// Whether pages come in the order asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The oldest first.
    Kept,
    /// Not, or nobody can tell.
    NotKept,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Only to find the end: look at this page and do nothing with what is on it.
    Look(u64),
    /// Read this page.
    Read(u64),
    /// All was read.
    Ended(End),
}

/// How reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// What was there all the time was read.
    Settled,
    /// The order was not kept and each round found something new: some may have been missed.
    Unsettled,
    /// The pages come to no end that can be found.
    Endless,
}

/// What a page was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageFacts {
    /// How many were on it.
    pub items: usize,
    /// A number for each of its passes that can be told from others, which is another for another pass.
    pub passes: Vec<u64>,
    /// The total the server told, in pages; a hint.
    pub pages_told: Option<u64>,
    /// Whether its passes stand in the order asked for.
    pub order: Order,
    /// How many of them were not known to this run before. Nothing is known of a page that was only looked at.
    pub new: usize,
}

/// Reading, as one goes along: ask [`Walk::next`], then tell [`Walk::was`].
#[derive(Debug, Clone)]
pub struct Walk {
    round: u32,
    order: Order,
    /// The round has found what no earlier one had.
    found_new: bool,
    /// The passes of the page read before.
    above: Vec<u64>,
    /// Looks in this round, and pages in a row that nothing could be told of.
    looks: u32,
    blank: u32,
    stage: Stage,
}

#[derive(Debug, Clone)]
enum Stage {
    Look(Search),
    Down(u64),
    Ended(End),
}

/// Where the end may be.
#[derive(Debug, Clone, Default)]
struct Search {
    /// Whether the first page was asked for.
    begun: bool,
    /// The highest page known to be before the end, and its passes.
    before: Option<(u64, Vec<u64>)>,
    /// The lowest page known to be behind the last one, or to be the last one, which its server repeats.
    behind: Option<u64>,
    /// The passes of the last page, of a server that repeats it, as they were last seen.
    repeated: Option<Vec<u64>>,
    /// Where the end is, if the server's total is true.
    hint: Option<u64>,
    /// The page before that was asked for.
    hint_tried: bool,
    /// How far the next look goes.
    step: u64,
}

impl Walk {
    /// From the beginning.
    #[must_use]
    pub fn new() -> Self {
        let stage = Stage::Look(Search::default());
        Self { round: 1, order: Order::Kept, found_new: false, above: Vec::new(), looks: 0, blank: 0, stage }
    }

    /// From where an earlier reading was interrupted. What was removed or made since then does no harm, as while reading.
    #[must_use]
    pub fn resumed(place: Place) -> Self {
        // What an interrupted round had found is not known any more.
        let found_new = place.round > 1;
        let mut walk = Self { round: place.round.max(1), order: place.order, found_new, ..Self::new() };
        match place.page {
            Some(0) => walk.end_round(),
            Some(page) => walk.stage = Stage::Down(page - 1),
            None => {}
        }
        walk
    }

    /// What to do next.
    #[must_use]
    pub fn next(&self) -> Next {
        match &self.stage {
            Stage::Look(search) => Next::Look(search.next()),
            Stage::Down(page) => Next::Read(*page),
            Stage::Ended(end) => Next::Ended(*end),
        }
    }

    /// Where to go on when this page was read and nothing after it.
    #[must_use]
    pub fn place_after(&self, page: u64, facts: &PageFacts) -> Place {
        Place { round: self.round, page: Some(page), order: self.order_with(facts) }
    }

    /// What the page was that [`Walk::next`] named.
    pub fn was(&mut self, facts: &PageFacts) {
        match &mut self.stage {
            Stage::Ended(_) => {}
            Stage::Look(search) => {
                search.was(search.next(), facts);
                self.looks += 1;
                match search.found() {
                    None if self.looks >= LOOKS_MAX => self.stage = Stage::Ended(End::Endless),
                    None => {}
                    Some(Found::Nothing) => self.end_round(),
                    Some(Found::Last(page)) => self.stage = Stage::Down(page),
                }
            }
            Stage::Down(page) => {
                let page = *page;
                self.order = self.order_with(facts);
                self.found_new |= facts.new > 0;
                let is_blank = facts.items > 0 && facts.passes.is_empty();
                self.blank = if is_blank { self.blank + 1 } else { 0 };
                if self.blank > BLANK_PAGES_MAX {
                    self.stage = Stage::Ended(End::Endless);
                    return;
                }
                if page > 0 && (facts.items == 0 || (!is_blank && self.above == facts.passes)) {
                    // Nothing, or the same again: this is behind the end, which is looked for below.
                    self.above.clear();
                    self.stage = Stage::Look(Search::below(page, facts));
                    return;
                }
                self.above.clone_from(&facts.passes);
                let all_known = self.round > 1 && self.order == Order::Kept && facts.new == 0 && !is_blank;
                if page == 0 || all_known {
                    self.end_round();
                } else {
                    self.stage = Stage::Down(page - 1);
                }
            }
        }
    }

    fn order_with(&self, facts: &PageFacts) -> Order {
        match facts.order {
            Order::Kept => self.order,
            Order::NotKept => Order::NotKept,
        }
    }

    fn end_round(&mut self) {
        if self.round > 1 && !self.found_new {
            self.stage = Stage::Ended(End::Settled);
        } else if self.round >= ROUNDS_MAX {
            // In order, what is still new was made meanwhile.
            let end = if self.order == Order::Kept { End::Settled } else { End::Unsettled };
            self.stage = Stage::Ended(end);
        } else {
            self.round += 1;
            self.looks = 0;
            self.found_new = false;
            self.above.clear();
            self.stage = Stage::Look(Search::default());
        }
    }
}

impl Default for Walk {
    fn default() -> Self {
        Self::new()
    }
}

/// What a search has come to.
enum Found {
    /// There is no pass.
    Nothing,
    /// The last page.
    Last(u64),
}

impl Search {
    /// For an end that is not behind this page.
    fn below(page: u64, facts: &PageFacts) -> Self {
        let repeated = (facts.items > 0).then(|| facts.passes.clone());
        Self { behind: Some(page), repeated, hint_tried: true, ..Self::default() }
    }

    fn next(&self) -> u64 {
        if !self.begun {
            return 0;
        }
        let before = self.before.as_ref().map_or(0, |(page, _)| *page);
        match self.behind {
            None => self.hint.filter(|hint| *hint > before).unwrap_or(before + self.step.max(1)).min(PAGES_MAX),
            Some(behind) => {
                let last = self.hint.filter(|hint| *hint == behind && !self.hint_tried).map(|hint| hint - 1);
                last.filter(|last| *last > before).unwrap_or_else(|| before.midpoint(behind))
            }
        }
    }

    fn was(&mut self, at: u64, facts: &PageFacts) {
        if !self.begun {
            self.begun = true;
            self.hint = facts.pages_told.map(|pages| pages.min(PAGES_MAX)).filter(|pages| *pages > 0);
        }
        self.hint_tried |= self.hint.is_some_and(|hint| at + 1 == hint);
        if facts.items == 0 {
            self.behind = Some(at);
            return;
        }
        // It holds the last of all. One that only shares others with it may be the page before, into which they have moved
        // since: an end that is sought too far costs requests, one that is sought too near passes over what is there.
        let last = self.repeated.as_ref().and_then(|repeated| repeated.last());
        let known = last.is_some_and(|last| facts.passes.contains(last));
        let met_again = self.before.as_ref().filter(|(page, passes)| *page != at && share(passes, &facts.passes));
        if known || at >= PAGES_MAX {
            (self.behind, self.repeated) = (Some(at), Some(facts.passes.clone()));
        } else if let Some((page, _)) = met_again {
            // That page may be a repeat itself: the first of them is looked for from the beginning.
            (self.behind, self.repeated) = (Some(*page), Some(facts.passes.clone()));
            self.before = None;
        } else {
            if self.behind.is_none() && self.hint.is_none_or(|hint| hint <= at) {
                self.step = (self.step * 2).max(1);
            }
            self.before = Some((at, facts.passes.clone()));
        }
    }

    fn found(&self) -> Option<Found> {
        let behind = self.behind?;
        match (&self.before, &self.repeated) {
            (None, None) => Some(Found::Nothing),
            (None, Some(_)) if behind == 0 => Some(Found::Last(0)),
            (Some((before, _)), repeated) if before + 1 >= behind => {
                Some(Found::Last(if repeated.is_some() { behind } else { *before }))
            }
            (None | Some(_), _) => None,
        }
    }
}

/// Whether two pages hold a pass in common.
fn share(one: &[u64], other: &[u64]) -> bool {
    let one: HashSet<u64> = one.iter().copied().collect();
    other.iter().any(|pass| one.contains(pass))
}

#[cfg(test)]
mod tests;
