//! A set that moves while it is read: what stays in it is read, whatever the server says of its total.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// How a server answers a page behind its last one.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Behind {
    Empty,
    LastAgain,
}

/// What a server says of its total.
#[derive(Debug, Clone, Copy)]
enum Told {
    Truth,
    Nothing,
    Pages(u64),
}

/// What happens to the set between two requests.
#[derive(Debug, Clone, Copy)]
enum Move {
    Nothing,
    /// Passes are made.
    Make(u8),
    /// Passes are removed, from this place on.
    Remove(u16, u8),
}

struct Server {
    passes: Vec<u32>,
    next: u32,
    size: usize,
    behind: Behind,
    told: Told,
    requests: usize,
    /// The order it answers in.
    reverse: bool,
    /// Of every so many passes nobody can tell which it is, from this one on.
    nameless_from: Option<u32>,
}

impl Server {
    fn new(count: u32, size: usize) -> Self {
        let passes = (0..count).collect();
        Self {
            passes,
            next: count,
            size,
            behind: Behind::Empty,
            told: Told::Truth,
            requests: 0,
            reverse: false,
            nameless_from: None,
        }
    }

    fn page(&mut self, page: u64) -> Vec<u32> {
        self.requests += 1;
        let mut all = self.passes.clone();
        if self.reverse {
            all.reverse();
        }
        let page = usize::try_from(page).unwrap();
        let chunks: Vec<&[u32]> = all.chunks(self.size).collect();
        match (chunks.get(page), self.behind) {
            (Some(found), _) => found.to_vec(),
            (None, Behind::LastAgain) => chunks.last().map(|last| last.to_vec()).unwrap_or_default(),
            (None, Behind::Empty) => Vec::new(),
        }
    }

    fn move_on(&mut self, by: Move) {
        // Where the last page is repeated, it is known again only while some of it stays.
        let most =
            if self.behind == Behind::LastAgain { u8::try_from(self.size - 1).unwrap_or(u8::MAX) } else { u8::MAX };
        match by {
            Move::Nothing => {}
            Move::Make(count) => {
                for _ in 0..count.min(most) {
                    self.passes.push(self.next);
                    self.next += 1;
                }
            }
            Move::Remove(from, count) => {
                for _ in 0..count.min(most) {
                    if !self.passes.is_empty() {
                        self.passes.remove(usize::from(from) % self.passes.len());
                    }
                }
            }
        }
    }

    fn facts(&self, page: &[u32], new: usize) -> PageFacts {
        let is_named = |pass: &&u32| self.nameless_from.is_none_or(|from| **pass < from);
        let passes = page.iter().filter(is_named).map(|pass| u64::from(*pass)).collect();
        let pages_told = match self.told {
            Told::Truth => Some(self.passes.len().div_ceil(self.size) as u64),
            Told::Nothing => None,
            Told::Pages(pages) => Some(pages),
        };
        let order = if page.is_sorted() { Order::Kept } else { Order::NotKept };
        PageFacts { items: page.len(), passes, pages_told, order, new }
    }
}

/// Reads to the end, the set moving before each request; what was read and how it ended.
fn read(server: &mut Server, mut walk: Walk, moves: &[Move]) -> (BTreeSet<u32>, End) {
    let mut seen = BTreeSet::new();
    for request in 0..10_000 {
        server.move_on(moves.get(request).copied().unwrap_or(Move::Nothing));
        match walk.next() {
            Next::Ended(end) => return (seen, end),
            Next::Look(at) => {
                let page = server.page(at);
                walk.was(&server.facts(&page, 0));
            }
            Next::Read(at) => {
                let page = server.page(at);
                let new = page.iter().filter(|pass| seen.insert(**pass)).count();
                walk.was(&server.facts(&page, new));
            }
        }
    }
    panic!("no end");
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        3 => Just(Move::Nothing),
        2 => (1..30_u8).prop_map(Move::Make),
        3 => (any::<u16>(), 1..30_u8).prop_map(|(from, count)| Move::Remove(from, count)),
    ];
    prop::collection::vec(one, 0..60)
}

fn told() -> impl Strategy<Value = Told> {
    prop_oneof![Just(Told::Truth), Just(Told::Nothing), (0..100_u64).prop_map(Told::Pages), Just(Told::Pages(u64::MAX)),]
}

proptest! {
    #[test]
    fn what_is_there_from_beginning_to_end_is_read(
        count in 0..300_u32, size in 1..25_usize, moves in moves(), told in told(), repeats in any::<bool>(),
    ) {
        let mut server = Server::new(count, size);
        server.told = told;
        server.behind = if repeats { Behind::LastAgain } else { Behind::Empty };
        let (seen, end) = read(&mut server, Walk::new(), &moves);
        let stayed: Vec<u32> = server.passes.iter().copied().filter(|pass| *pass < count).collect();
        let missed: Vec<&u32> = stayed.iter().filter(|pass| !seen.contains(pass)).collect();
        prop_assert!(missed.is_empty(), "missed {missed:?}");
        prop_assert_eq!(end, End::Settled);
    }

    #[test]
    fn items_without_an_id_keep_no_pass_from_being_read_and_the_reading_from_no_end(
        count in 0..300_u32, size in 1..25_usize, moves in moves(), told in told(), from in 0..300_u32,
    ) {
        let mut server = Server::new(count, size);
        (server.told, server.nameless_from) = (told, Some(from));
        let (seen, end) = read(&mut server, Walk::new(), &moves);
        let stayed: Vec<u32> = server.passes.iter().copied().filter(|pass| *pass < count).collect();
        let missed: Vec<&u32> = stayed.iter().filter(|pass| !seen.contains(pass)).collect();
        prop_assert!(missed.is_empty(), "missed {missed:?}");
        prop_assert_eq!(end, End::Settled);
    }

    #[test]
    fn a_set_in_another_order_is_read_until_nothing_new_is_found(count in 0..300_u32, size in 2..25_usize) {
        let mut server = Server::new(count, size);
        server.reverse = true;
        let (seen, end) = read(&mut server, Walk::new(), &[]);
        prop_assert_eq!(seen.len(), usize::try_from(count).unwrap());
        prop_assert_eq!(end, End::Settled);
    }
}

#[test]
fn an_honest_total_costs_a_handful_of_requests_and_none_a_few_more() {
    for (told, most) in [
        (Told::Truth, 1_008),
        (Told::Nothing, 1_050),
        (Told::Pages(0), 1_050),
        (Told::Pages(7), 1_050),
        (Told::Pages(u64::MAX), 1_065),
    ] {
        let mut server = Server::new(100_000, 100);
        server.told = told;
        let (seen, _) = read(&mut server, Walk::new(), &[]);
        assert_eq!(seen.len(), 100_000);
        assert!(server.requests <= most, "{told:?}: {}", server.requests);
    }
}

#[test]
fn a_last_page_without_ids_that_is_repeated_for_ever_ends_the_reading_by_name() {
    let mut server = Server::new(100, 10);
    (server.behind, server.nameless_from) = (Behind::LastAgain, Some(90));
    let (_, end) = read(&mut server, Walk::new(), &[]);
    assert_eq!(end, End::Endless);
    assert!(server.requests < 1_200, "{}", server.requests);
}

#[test]
fn a_search_that_the_set_runs_away_from_ends_by_name() {
    let (mut walk, mut requests, mut pages) = (Walk::new(), 0, 10_000);
    let end = loop {
        requests += 1;
        let there = match walk.next() {
            Next::Ended(end) => break end,
            Next::Look(at) => at < pages,
            // Whatever is to be read has gone just now.
            Next::Read(at) => {
                pages = at;
                false
            }
        };
        let (passes, order) = (vec![requests; usize::from(there)], Order::Kept);
        walk.was(&PageFacts { items: passes.len(), passes, pages_told: None, order, new: 0 });
    };
    assert_eq!(end, End::Endless);
    assert!(requests < u64::from(LOOKS_MAX) * 2, "{requests}");
}

#[test]
fn a_page_into_which_passes_of_the_repeated_one_have_moved_is_not_taken_for_it() {
    use Move::{Make, Nothing, Remove};
    let mut server = Server::new(95, 22);
    (server.told, server.behind) = (Told::Nothing, Behind::LastAgain);
    let moves = [
        Remove(0, 9),
        Nothing,
        Nothing,
        Nothing,
        Make(14),
        Remove(480, 5),
        Nothing,
        Make(11),
        Nothing,
        Remove(0, 4),
        Nothing,
        Remove(0, 11),
        Nothing,
        Make(16),
        Make(1),
        Nothing,
        Remove(52, 9),
        Remove(0, 11),
    ];
    let (seen, end) = read(&mut server, Walk::new(), &moves);
    let missed: Vec<&u32> = server.passes.iter().filter(|pass| **pass < 95 && !seen.contains(pass)).collect();
    assert!(missed.is_empty(), "missed {missed:?}");
    assert_eq!(end, End::Settled);
}

#[test]
fn what_was_made_while_reading_is_read_at_the_end() {
    let mut server = Server::new(100, 10);
    // When the first few pages from the end have been read.
    let mut moves = vec![Move::Nothing; 8];
    moves.push(Move::Make(35));
    let (seen, _) = read(&mut server, Walk::new(), &moves);
    assert_eq!(seen.len(), 135);
}

#[test]
fn reading_goes_on_below_the_page_it_was_interrupted_at() {
    let place = |round, page| Place { round, page, order: Order::Kept };
    assert_eq!(Walk::resumed(place(1, Some(7))).next(), Next::Read(6));
    assert_eq!(Walk::resumed(place(1, Some(0))).next(), Next::Look(0), "the second round");
    assert_eq!(Walk::resumed(place(1, None)).next(), Next::Look(0));
    assert_eq!(Walk::resumed(place(ROUNDS_MAX, Some(0))).next(), Next::Ended(End::Settled));
}

#[test]
fn a_set_that_is_never_the_same_twice_is_called_unsettled() {
    let mut walk = Walk::new();
    for pass in 0..10_000 {
        let items = usize::from(!matches!(walk.next(), Next::Look(1)));
        match walk.next() {
            Next::Ended(end) => {
                assert_eq!(end, End::Unsettled);
                return;
            }
            Next::Look(_) | Next::Read(_) => {
                walk.was(&PageFacts { items, passes: vec![pass], pages_told: None, order: Order::NotKept, new: items });
            }
        }
    }
    panic!("no end");
}
