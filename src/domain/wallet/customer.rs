//! The passes of a customer, and what they add up to.
//!
//! A customer is in a wallet when any of their passes is. Events that name a customer but no pass are kept as a pass of
//! their own without a name; they speak of all passes of the customer in that wallet, so the later word counts: a nameless
//! removal ends what named passes said before it, and a named removal ends a nameless install before it.

use jiff::Timestamp;

use super::WalletStatus;
use super::history::{Standing, Standings};
use crate::domain::pass_event::{EventKind, Wallet};

/// Whether a pass has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// Events named it.
    Named,
    /// It stands for the events of a customer that named no pass.
    Nameless,
}

/// One pass of a customer.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    /// Whether it has a name.
    pub naming: Naming,
    /// How it stands.
    pub standings: Standings,
}

/// What a customer's passes add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Projection {
    /// In which wallets they have a pass.
    pub status: WalletStatus,
    /// Since when in Apple Wallet; `None` when not there.
    pub apple_installed_at: Option<Timestamp>,
    /// Since when in Google Wallet; `None` when not there.
    pub google_installed_at: Option<Timestamp>,
    /// When anything of it changed last.
    pub changed_at: Timestamp,
    /// What that was.
    pub last_event: EventKind,
}

impl Projection {
    /// Of one who has been in these wallets since then, and changed last as told.
    #[must_use]
    pub fn of(
        apple_installed_at: Option<Timestamp>,
        google_installed_at: Option<Timestamp>,
        (changed_at, last_event): (Timestamp, EventKind),
    ) -> Self {
        let wallets = Wallet::ALL.into_iter().zip([apple_installed_at, google_installed_at]);
        let status = WalletStatus::in_wallets(wallets.filter_map(|(wallet, since)| since.map(|_| wallet)));
        Self { status, apple_installed_at, google_installed_at, changed_at, last_event }
    }
}

/// What these passes add up to; `None` when nothing was heard of any.
#[must_use]
pub fn projection(passes: &[Pass]) -> Option<Projection> {
    let changes = passes.iter().filter_map(|pass| pass.standings.last_change());
    let returns = Wallet::ALL.into_iter().flat_map(|wallet| returns(passes, wallet));
    let last_change = changes.chain(returns.map(|at| (at, EventKind::Installed))).max()?;
    let [apple, google] = Wallet::ALL.map(|wallet| installed_at(passes, wallet));
    Some(Projection::of(apple, google, last_change))
}

/// Since when a customer has a pass in a wallet.
fn installed_at(passes: &[Pass], wallet: Wallet) -> Option<Timestamp> {
    let of = |naming: Naming| {
        let passes = passes.iter().filter(move |pass| pass.naming == naming);
        passes.filter_map(move |pass| pass.standings.get(wallet))
    };
    let is_there = |standing: &Standing| standing.last == EventKind::Installed;
    let said_removed = said_removed(passes, wallet);
    // A removal that named no pass ends what was heard before it.
    let named = of(Naming::Named).filter(is_there).filter(|pass| said_removed.is_none_or(|at| pass.heard_at > at));
    // What was there all the while, by its own events, is back since it was heard of again.
    let since =
        |pass: Standing| if said_removed.is_some_and(|at| pass.since <= at) { pass.heard_at } else { pass.since };
    let removed_by_name = of(Naming::Named).filter(|pass| !is_there(pass)).map(|pass| pass.heard_at).max();
    let nameless = of(Naming::Nameless).find(is_there);
    let nameless = nameless.filter(|all| removed_by_name.is_none_or(|at| all.heard_at >= at));
    named.map(since).chain(nameless.map(|standing| standing.since)).min()
}

/// When a removal that named no pass was heard of last, unless an install that named none came after it.
fn said_removed(passes: &[Pass], wallet: Wallet) -> Option<Timestamp> {
    let nameless = passes.iter().find(|pass| pass.naming == Naming::Nameless)?;
    let standing = nameless.standings.get(wallet)?;
    (standing.last == EventKind::Uninstalled).then_some(standing.heard_at)
}

/// When named passes were heard of again after a removal that named none, while by their own events they were there.
fn returns(passes: &[Pass], wallet: Wallet) -> impl Iterator<Item = Timestamp> {
    let said_removed = said_removed(passes, wallet);
    let there = passes.iter().filter(move |pass| pass.naming == Naming::Named && pass.standings.is_in(wallet));
    let standings = there.filter_map(move |pass| pass.standings.get(wallet));
    let back = move |pass: &Standing| said_removed.is_some_and(|at| pass.since <= at && pass.heard_at > at);
    standings.filter(back).map(|pass| pass.heard_at)
}
