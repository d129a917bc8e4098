//! Where the Pass API and the ledger disagree, and the events that mend it. Pure.
//!
//! What the API said holds for the moment before it was asked. Where the ledger knows of something later, the ledger is
//! ahead and nothing is mended; what comes in later about a later moment wins by its time, as everywhere.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use crate::domain::backfill::{Difference, DifferenceKind, Tally};
use crate::domain::pass_api::{ApiPass, ApiWallet};
use crate::domain::pass_event::{EventKind, PassEvent, RegistrationCounts, Source, Wallet, Way};
use crate::store::{PassInWallet, PassView};

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

impl Compared {
    /// Compares passes with what the ledger knows of them. `asked_at`: just before the API was asked.
    pub(super) fn of(passes: &[ApiPass], known: &[PassView], asked_at: Timestamp) -> Self {
        let known: HashMap<&str, &PassView> =
            known.iter().filter_map(|view| view.pass.as_deref().map(|pass| (pass, view))).collect();
        let mut compared = Self::default();
        for pass in passes {
            let before = compared.differences.len();
            match known.get(pass.id.as_str()) {
                Some(view) => compared.known(pass, view, asked_at),
                None => compared.unknown(pass, asked_at),
            }
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
            let heard_since = view.in_wallet.iter().any(|(_, state)| state.since >= read_from);
            let installed: Vec<Wallet> = installed(view).map(|(wallet, _)| wallet).collect();
            if heard_since || installed.is_empty() {
                continue;
            }
            for wallet in &installed {
                let removal = event(id, view.pass_type.clone(), EventKind::Uninstalled, *wallet, read_from);
                compared.events.push(removal);
            }
            compared.tell(id, DifferenceKind::Missing, None);
        }
        compared
    }

    fn unknown(&mut self, pass: &ApiPass, asked_at: Timestamp) {
        for wallet in Wallet::ALL {
            match pass.in_wallet(wallet) {
                ApiWallet::Installed(since) => {
                    self.install(pass, wallet, since, asked_at);
                    self.tell(&pass.id, DifferenceKind::New, Some(wallet));
                }
                // A pass that is in no wallet and that nobody has heard of is nothing to keep.
                ApiWallet::Absent => {}
                ApiWallet::NotUnderstood => self.tell(&pass.id, DifferenceKind::NotUnderstood, Some(wallet)),
            }
        }
    }

    fn known(&mut self, pass: &ApiPass, view: &PassView, asked_at: Timestamp) {
        let mut mended = false;
        for wallet in Wallet::ALL {
            let state = view.in_wallet.iter().find(|(known, _)| *known == wallet).map(|(_, state)| state);
            let is_ahead = state.is_some_and(|state| state.since > asked_at);
            let is_installed = state.is_some_and(|state| state.last == EventKind::Installed);
            match pass.in_wallet(wallet) {
                ApiWallet::NotUnderstood => self.tell(&pass.id, DifferenceKind::NotUnderstood, Some(wallet)),
                ApiWallet::Installed(_) | ApiWallet::Absent if is_ahead => {}
                ApiWallet::Installed(since) if !is_installed => {
                    self.install(pass, wallet, since, asked_at);
                    self.tell(&pass.id, DifferenceKind::Installed, Some(wallet));
                    mended = true;
                }
                ApiWallet::Absent if is_installed => {
                    let mut removal =
                        event(&pass.id, pass.pass_type.clone(), EventKind::Uninstalled, wallet, asked_at);
                    removal.identifiers.clone_from(&pass.identifiers);
                    self.events.push(removal);
                    self.tell(&pass.id, DifferenceKind::Removed, Some(wallet));
                    mended = true;
                }
                ApiWallet::Installed(_) | ApiWallet::Absent => {}
            }
        }
        let differing = differing(&pass.identifiers, &view.identifiers);
        // An event that mends a wallet brings the identifiers along.
        if !mended && !differing.is_empty() {
            self.identify(pass, view, differing, asked_at);
        }
    }

    /// Says again what the ledger knows, with the identifiers it does not. A pass of which no wallet is known has nothing to
    /// say again.
    fn identify(&mut self, pass: &ApiPass, view: &PassView, differing: Vec<String>, asked_at: Timestamp) {
        let Some((wallet, state)) = installed(view).next().or_else(|| view.in_wallet.first().copied()) else { return };
        let mut again = event(&pass.id, pass.pass_type.clone(), state.last, wallet, asked_at.max(state.since));
        again.since = (state.last == EventKind::Installed).then_some(state.since);
        again.identifiers.clone_from(&pass.identifiers);
        self.events.push(again);
        let kind = DifferenceKind::Identifiers;
        self.differences.push(Difference { pass: pass.id.clone(), kind, wallet: None, identifiers: differing });
    }

    fn install(&mut self, pass: &ApiPass, wallet: Wallet, since: Option<Timestamp>, asked_at: Timestamp) {
        let mut install = event(&pass.id, pass.pass_type.clone(), EventKind::Installed, wallet, asked_at);
        install.identifiers.clone_from(&pass.identifiers);
        // It cannot be there since a time that has not come.
        install.since = since.filter(|since| *since <= asked_at);
        self.events.push(install);
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

fn installed(view: &PassView) -> impl Iterator<Item = (Wallet, PassInWallet)> + '_ {
    view.in_wallet.iter().copied().filter(|(_, state)| state.last == EventKind::Installed)
}

fn event(id: &str, pass_type: Option<String>, kind: EventKind, wallet: Wallet, at: Timestamp) -> PassEvent {
    PassEvent {
        kind,
        wallet,
        pass: Some(id.to_owned()),
        pass_type,
        identifiers: BTreeMap::new(),
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

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn pass(apple: ApiWallet, google: ApiWallet) -> ApiPass {
        let identifiers = [("customerId".to_owned(), "C1".to_owned())].into();
        ApiPass { id: "P1".to_owned(), created_at: None, pass_type: None, identifiers, apple, google }
    }

    fn view(apple: Option<(EventKind, i64)>) -> PassView {
        let state = |(last, since)| (Wallet::Apple, PassInWallet { last, since: at(since), active: None });
        PassView {
            pass: Some("P1".to_owned()),
            pass_type: None,
            identifiers: [("customerId".to_owned(), "C1".to_owned()), ("other".to_owned(), "x".to_owned())].into(),
            in_wallet: apple.map(state).into_iter().collect(),
        }
    }

    /// What a comparison at 100 s comes to: kinds of differences, and events as (kind, wallet, since).
    fn compared(pass: ApiPass, view: Option<PassView>) -> (Vec<DifferenceKind>, Vec<(EventKind, Wallet, Option<i64>)>) {
        let known: Vec<PassView> = view.into_iter().collect();
        let compared = Compared::of(&[pass], &known, at(100));
        let since = |event: &PassEvent| event.since.map(|since| since.as_second() - 1_000_000);
        assert!(compared.events.iter().all(|event| event.occurred_at >= Some(at(100)) && event.way == Way::Backfill));
        (
            compared.differences.iter().map(|difference| difference.kind).collect(),
            compared.events.iter().map(|event| (event.kind, event.wallet, since(event))).collect(),
        )
    }

    #[test]
    fn the_api_is_believed_unless_the_ledger_knows_of_something_later() {
        use ApiWallet::{Absent, Installed as There, NotUnderstood as Strange};
        use DifferenceKind::{Installed, New, NotUnderstood, Removed};
        use EventKind::{Installed as Added, Uninstalled as Gone};
        let (apple, google) = (Wallet::Apple, Wallet::Google);
        for (pass, view, differences, events) in [
            (pass(There(Some(at(5))), Absent), None, vec![New], vec![(Added, apple, Some(5))]),
            (pass(There(None), There(Some(at(6)))), None, vec![New, New], vec![(Added, apple, None), (Added, google, Some(6))]),
            (pass(Absent, Absent), None, vec![], vec![]),
            (pass(Absent, Absent), Some(view(Some((Added, 7)))), vec![Removed], vec![(Gone, apple, None)]),
            (pass(There(Some(at(5))), Absent), Some(view(Some((Gone, 7)))), vec![Installed], vec![(Added, apple, Some(5))]),
            (pass(There(Some(at(5))), Absent), Some(view(None)), vec![Installed], vec![(Added, apple, Some(5))]),
            (pass(There(Some(at(5))), Absent), Some(view(Some((Added, 7)))), vec![], vec![]),
            (pass(Absent, Absent), Some(view(Some((Gone, 7)))), vec![], vec![]),
            // The ledger heard of these after the API was asked.
            (pass(Absent, Absent), Some(view(Some((Added, 101)))), vec![], vec![]),
            (pass(There(None), Absent), Some(view(Some((Gone, 101)))), vec![], vec![]),
            (pass(Strange, Absent), Some(view(Some((Added, 7)))), vec![NotUnderstood], vec![]),
            // A date that has not come.
            (pass(There(Some(at(500))), Absent), None, vec![New], vec![(Added, apple, None)]),
        ] {
            assert_eq!(compared(pass.clone(), view), (differences, events), "{pass:?}");
        }
    }

    #[test]
    fn identifiers_that_are_not_known_come_with_what_is_known_and_move_no_time() {
        let mut api = pass(ApiWallet::Installed(Some(at(5))), ApiWallet::Absent);
        api.identifiers = [("email".to_owned(), "ann@customer.example".to_owned())].into();
        for (view, event) in [
            (view(Some((EventKind::Installed, 7))), (EventKind::Installed, Wallet::Apple, Some(7))),
            (view(Some((EventKind::Installed, 101))), (EventKind::Installed, Wallet::Apple, Some(101))),
        ] {
            assert_eq!(compared(api.clone(), Some(view)), (vec![DifferenceKind::Identifiers], vec![event]));
        }
        api.apple = ApiWallet::Absent;
        let gone = (EventKind::Uninstalled, Wallet::Apple, None);
        let view = view(Some((EventKind::Uninstalled, 7)));
        assert_eq!(compared(api, Some(view)), (vec![DifferenceKind::Identifiers], vec![gone]));
    }

    #[test]
    fn a_pass_that_the_api_does_not_know_leaves_its_wallets_unless_it_was_heard_of_meanwhile() {
        for (state, events) in [
            (Some((EventKind::Installed, 7)), 1),
            (Some((EventKind::Installed, 100)), 0),
            (Some((EventKind::Uninstalled, 7)), 0),
            (None, 0),
        ] {
            let compared = Compared::missing(&[view(state)], at(100));
            assert_eq!((compared.events.len(), compared.differences.len()), (events, events), "{state:?}");
        }
    }
}
