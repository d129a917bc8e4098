//! Where the Pass API and the ledger disagree, and the events that mend it. Pure.
//!
//! What the API said holds for the moment before it was asked. Where the ledger knows of something later, the ledger is
//! ahead and nothing is mended; what comes in later about a later moment wins by its time, as everywhere.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use crate::domain::backfill::{Difference, DifferenceKind, Tally};
use crate::domain::pass_api::{ApiPass, ApiWallet};
use crate::domain::pass_event::{EventKind, PassEvent, RegistrationCounts, Source, Wallet, Way};
use crate::domain::wallet::CustomerKey;
use crate::domain::wallet::history::{Standing, Standings};
use crate::store::PassView;

/// What the ledger knows of the passes on a page.
pub(super) struct Known {
    /// The passes it knows.
    pub(super) passes: Vec<PassView>,
    /// What it heard of their customers in events that named no pass.
    pub(super) nameless: HashMap<CustomerKey, Standings>,
    /// The identifiers that customers are known by.
    pub(super) identifiers: Vec<String>,
}

/// What one page, or one step through the ledger, comes to.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// What mends the ledger.
    pub(super) events: Vec<PassEvent>,
    /// What was wrong, or not understood.
    pub(super) differences: Vec<Difference>,
    /// Passes about which both say the same.
    pub(super) unchanged: u64,
}

/// What holds in one wallet, of a pass and of the nameless one of its customer.
struct Heard {
    named: Option<Standing>,
    nameless: Option<Standing>,
}

impl Heard {
    /// Whether the ledger knows of something later.
    fn is_later_than(&self, asked_at: Timestamp) -> bool {
        self.named.into_iter().chain(self.nameless).any(|standing| standing.heard_at > asked_at)
    }

    /// Whether the ledger says the same: of the pass, and of the customer, as `domain::wallet::customer` adds the two up.
    fn agrees(&self, kind: EventKind) -> bool {
        let of = |standing: Option<Standing>| standing.map_or(EventKind::Uninstalled, |standing| standing.last);
        let named = self.named.filter(|named| self.nameless.is_none_or(|all| named.heard_at > all.heard_at));
        of(self.named) == kind && of(named.or(self.nameless)) == kind
    }
}

impl Compared {
    /// Compares passes with what the ledger knows of them. `asked_at`: just before the API was asked.
    pub(super) fn of(passes: &[ApiPass], known: &Known, asked_at: Timestamp) -> Self {
        let views: HashMap<&str, &PassView> =
            known.passes.iter().filter_map(|view| view.pass.as_deref().map(|pass| (pass, view))).collect();
        let mut compared = Self::default();
        for pass in passes {
            let before = compared.differences.len();
            let customer = CustomerKey::of(&pass.identifiers, &known.identifiers);
            let nameless = customer.and_then(|customer| known.nameless.get(&customer).copied()).unwrap_or_default();
            compared.one(pass, views.get(pass.id.as_str()).copied(), &nameless, asked_at);
            compared.unchanged += u64::from(compared.differences.len() == before);
        }
        compared
    }

    /// Passes of the ledger that the API does not know: out of the wallets they are in, unless something was heard of them
    /// since the reading began. `read_from`: when that was.
    pub(super) fn missing(views: &[PassView], read_from: Timestamp) -> Self {
        let mut compared = Self::default();
        for view in views {
            let Some(id) = &view.pass else { continue };
            let standings = || Wallet::ALL.into_iter().filter_map(|wallet| view.standings.get(wallet));
            let installed: Vec<Wallet> =
                Wallet::ALL.into_iter().filter(|wallet| view.standings.is_in(*wallet)).collect();
            if installed.is_empty() || standings().any(|standing| standing.heard_at >= read_from) {
                continue;
            }
            for wallet in installed {
                let kind = EventKind::Uninstalled;
                compared.events.push(event(id, view.pass_type.clone(), BTreeMap::new(), (kind, wallet), read_from));
            }
            compared.tell(id, DifferenceKind::Missing, None);
        }
        compared
    }

    fn one(&mut self, pass: &ApiPass, view: Option<&PassView>, nameless: &Standings, asked_at: Timestamp) {
        let mut mended = false;
        for wallet in Wallet::ALL {
            let named = view.and_then(|view| view.standings.get(wallet));
            let heard = Heard { named, nameless: nameless.get(wallet) };
            let (kind, since) = match pass.in_wallet(wallet) {
                ApiWallet::NotUnderstood => {
                    self.tell(&pass.id, DifferenceKind::NotUnderstood, Some(wallet));
                    continue;
                }
                ApiWallet::Installed(since) => (EventKind::Installed, since),
                // A pass that is in no wallet and that nobody has heard of is nothing to keep.
                ApiWallet::Absent => (EventKind::Uninstalled, None),
            };
            if heard.agrees(kind) || heard.is_later_than(asked_at) {
                continue;
            }
            let mut mending =
                event(&pass.id, pass.pass_type.clone(), pass.identifiers.clone(), (kind, wallet), asked_at);
            // It cannot be there since a time that has not come.
            mending.since = since.filter(|since| *since <= asked_at);
            self.events.push(mending);
            let difference = match (kind, view) {
                (EventKind::Installed, None) => DifferenceKind::New,
                (EventKind::Installed, Some(_)) => DifferenceKind::Installed,
                (EventKind::Uninstalled, _) => DifferenceKind::Removed,
            };
            self.tell(&pass.id, difference, Some(wallet));
            mended = true;
        }
        // An event that mends a wallet brings the identifiers along.
        if let Some(view) = view.filter(|_| !mended) {
            self.identify(pass, view, asked_at);
        }
    }

    /// Says again what the ledger knows, with the identifiers it does not.
    fn identify(&mut self, pass: &ApiPass, view: &PassView, asked_at: Timestamp) {
        let differing = differing(&pass.identifiers, &view.identifiers);
        let known = |wallet| view.standings.get(wallet).map(|standing| (wallet, standing));
        let known = Wallet::ALL.into_iter().filter_map(known);
        // A pass that is known is known in a wallet; one that is there now, if there is one.
        let best = known.max_by_key(|(_, standing)| standing.last == EventKind::Installed);
        let Some((wallet, standing)) =
            best.filter(|(_, standing)| !differing.is_empty() && standing.heard_at <= asked_at)
        else {
            return;
        };
        let said = (standing.last, wallet);
        let mut again = event(&pass.id, pass.pass_type.clone(), pass.identifiers.clone(), said, asked_at);
        again.since = (standing.last == EventKind::Installed).then_some(standing.since);
        self.events.push(again);
        let kind = DifferenceKind::Identifiers;
        self.differences.push(Difference { pass: pass.id.clone(), kind, wallet: None, identifiers: differing });
    }

    fn tell(&mut self, pass: &str, kind: DifferenceKind, wallet: Option<Wallet>) {
        self.differences.push(Difference { pass: pass.to_owned(), kind, wallet, identifiers: Vec::new() });
    }

    /// Adds what this came to.
    pub(super) fn add_to(&self, tally: &mut Tally) {
        tally.unchanged += self.unchanged;
        let mut new = None;
        for Difference { pass, kind, .. } in &self.differences {
            match kind {
                // A pass that is in both wallets is one.
                DifferenceKind::New => {
                    tally.repaired.new += u64::from(new != Some(pass));
                    new = Some(pass);
                }
                DifferenceKind::Installed => tally.repaired.installed += 1,
                DifferenceKind::Removed => tally.repaired.removed += 1,
                DifferenceKind::Identifiers => tally.repaired.identifiers += 1,
                DifferenceKind::Missing => tally.missing += 1,
                DifferenceKind::NotUnderstood => tally.not_understood += 1,
            }
        }
    }
}

fn event(
    id: &str,
    pass_type: Option<String>,
    identifiers: BTreeMap<String, String>,
    (kind, wallet): (EventKind, Wallet),
    at: Timestamp,
) -> PassEvent {
    PassEvent {
        kind,
        wallet,
        pass: Some(id.to_owned()),
        pass_type,
        identifiers,
        counts: RegistrationCounts::default(),
        source: Source::default(),
        occurred_at: Some(at),
        since: None,
        key: None,
        way: Way::Backfill,
    }
}

/// The names of identifiers that the API has and the ledger has otherwise or not at all.
fn differing(api: &BTreeMap<String, String>, known: &BTreeMap<String, String>) -> Vec<String> {
    api.iter().filter(|(name, value)| known.get(*name) != Some(value)).map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use crate::domain::wallet::history::{Entry, standings};

    const ADDED: EventKind = EventKind::Installed;
    const GONE: EventKind = EventKind::Uninstalled;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    /// What these events in Apple Wallet add up to.
    fn heard(events: &[(EventKind, i64)]) -> Standings {
        let entry = |(kind, second): &(EventKind, i64)| Entry {
            at: at(*second),
            kind: *kind,
            wallet: Wallet::Apple,
            tie: String::new(),
            counts: RegistrationCounts::default(),
            since: None,
        };
        let entries: Vec<Entry> = events.iter().map(entry).collect();
        standings(entries.iter().collect())
    }

    fn pass(apple: ApiWallet, google: ApiWallet) -> ApiPass {
        let identifiers = [("customerId".to_owned(), "C1".to_owned())].into();
        ApiPass { id: "P1".to_owned(), created_at: None, pass_type: None, identifiers, apple, google }
    }

    fn view(standings: Standings) -> PassView {
        let identifiers = [("customerId".to_owned(), "C1".to_owned()), ("other".to_owned(), "x".to_owned())].into();
        PassView { pass: Some("P1".to_owned()), pass_type: None, identifiers, standings }
    }

    /// An event: what, where, since when.
    type Said = (EventKind, Wallet, Option<i64>);

    /// What a comparison at 100 s comes to.
    fn compared(pass: &ApiPass, known: Option<PassView>, nameless: Standings) -> (Vec<DifferenceKind>, Vec<Said>) {
        let customer = CustomerKey { value: "C1".to_owned(), by: "customerId".to_owned() };
        let known = Known {
            passes: known.into_iter().collect(),
            nameless: [(customer, nameless)].into(),
            identifiers: vec!["customerId".to_owned()],
        };
        let compared = Compared::of(std::slice::from_ref(pass), &known, at(100));
        let since = |event: &PassEvent| event.since.map(|since| since.as_second() - 1_000_000);
        assert!(compared.events.iter().all(|event| event.occurred_at == Some(at(100)) && event.way == Way::Backfill));
        (
            compared.differences.iter().map(|difference| difference.kind).collect(),
            compared.events.iter().map(|event| (event.kind, event.wallet, since(event))).collect(),
        )
    }

    #[test]
    fn the_api_is_believed_unless_the_ledger_knows_of_something_later() {
        use ApiWallet::{Absent, Installed as There, NotUnderstood as Strange};
        use DifferenceKind::{Installed, New, NotUnderstood, Removed};
        let (apple, google) = (Wallet::Apple, Wallet::Google);
        let five = || There(Some(at(5)));
        let known = |events: &[(EventKind, i64)]| Some(view(heard(events)));
        for (pass, view, differences, events) in [
            (pass(five(), Absent), None, vec![New], vec![(ADDED, apple, Some(5))]),
            (pass(There(None), five()), None, vec![New, New], vec![(ADDED, apple, None), (ADDED, google, Some(5))]),
            (pass(Absent, Absent), None, vec![], vec![]),
            (pass(Absent, Absent), known(&[(ADDED, 7)]), vec![Removed], vec![(GONE, apple, None)]),
            (pass(five(), Absent), known(&[(ADDED, 3), (GONE, 7)]), vec![Installed], vec![(ADDED, apple, Some(5))]),
            (pass(Absent, five()), known(&[(GONE, 7)]), vec![Installed], vec![(ADDED, google, Some(5))]),
            (pass(five(), Absent), known(&[(ADDED, 7)]), vec![], vec![]),
            (pass(Absent, Absent), known(&[(GONE, 7)]), vec![], vec![]),
            // The ledger heard of these after the API was asked.
            (pass(Absent, Absent), known(&[(ADDED, 101)]), vec![], vec![]),
            (pass(There(None), Absent), known(&[(GONE, 101)]), vec![], vec![]),
            (pass(Strange, Absent), known(&[(ADDED, 7)]), vec![NotUnderstood], vec![]),
            // A date that has not come.
            (pass(There(Some(at(500))), Absent), None, vec![New], vec![(ADDED, apple, None)]),
        ] {
            assert_eq!(compared(&pass, view, Standings::default()), (differences, events), "{pass:?}");
        }
    }

    #[test]
    fn what_was_heard_of_a_customer_without_a_pass_is_mended_by_the_pass() {
        use ApiWallet::{Absent, Installed as There};
        let (absent, there) = (pass(Absent, Absent), pass(There(Some(at(5))), Absent));
        let known = |events: &[(EventKind, i64)]| Some(view(heard(events)));
        for (pass, view, nameless, events) in [
            // The customer is said to have it, and the API knows that this pass is not there.
            (&absent, None, heard(&[(ADDED, 7)]), vec![(GONE, Wallet::Apple, None)]),
            (&absent, known(&[(GONE, 6)]), heard(&[(ADDED, 7)]), vec![(GONE, Wallet::Apple, None)]),
            (&absent, known(&[(GONE, 8)]), heard(&[(ADDED, 7)]), vec![]),
            (&absent, None, heard(&[(ADDED, 101)]), vec![]),
            // The customer is said to have removed it.
            (&there, known(&[(ADDED, 6)]), heard(&[(GONE, 7)]), vec![(ADDED, Wallet::Apple, Some(5))]),
            (&there, known(&[(ADDED, 8)]), heard(&[(GONE, 7)]), vec![]),
            // The pass itself is new.
            (&there, None, heard(&[(ADDED, 7)]), vec![(ADDED, Wallet::Apple, Some(5))]),
        ] {
            assert_eq!(compared(pass, view, nameless).1, events, "{pass:?} {nameless:?}");
        }
    }

    #[test]
    fn identifiers_that_are_not_known_come_with_what_is_known_and_move_no_time() {
        let mut api = pass(ApiWallet::Installed(Some(at(5))), ApiWallet::Absent);
        api.identifiers = [("email".to_owned(), "ann@customer.example".to_owned())].into();
        let nameless = Standings::default();
        let again = (ADDED, Wallet::Apple, Some(7));
        let said = compared(&api, Some(view(heard(&[(ADDED, 7)]))), nameless);
        assert_eq!(said, (vec![DifferenceKind::Identifiers], vec![again]));
        assert_eq!(compared(&api, Some(view(heard(&[(ADDED, 101)]))), nameless), (vec![], vec![]), "next time");
        api.apple = ApiWallet::Absent;
        let again = (GONE, Wallet::Apple, None);
        let said = compared(&api, Some(view(heard(&[(GONE, 7)]))), nameless);
        assert_eq!(said, (vec![DifferenceKind::Identifiers], vec![again]));
    }

    #[test]
    fn a_pass_that_the_api_does_not_know_leaves_its_wallets_unless_it_was_heard_of_meanwhile() {
        for (events, removals) in
            [(vec![(ADDED, 7)], 1), (vec![(ADDED, 7), (ADDED, 100)], 0), (vec![(GONE, 7)], 0), (vec![], 0)]
        {
            let compared = Compared::missing(&[view(heard(&events))], at(100));
            assert_eq!((compared.events.len(), compared.differences.len()), (removals, removals), "{events:?}");
        }
    }
}
