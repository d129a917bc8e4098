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

/// What these passes add up to; `None` when nothing was heard of any.
#[must_use]
pub fn projection(passes: &[Pass]) -> Option<Projection> {
    let standings =
        passes.iter().flat_map(|pass| Wallet::ALL.into_iter().filter_map(|wallet| pass.standings.get(wallet)));
    // At the same moment the removal is the last word, as among events.
    let (changed_at, last_event) = standings.map(|standing| (standing.changed_at, standing.last)).max()?;
    let [apple_installed_at, google_installed_at] = Wallet::ALL.map(|wallet| installed_at(passes, wallet));
    let wallets = Wallet::ALL.into_iter().zip([apple_installed_at, google_installed_at]);
    let status = WalletStatus::in_wallets(wallets.filter_map(|(wallet, since)| since.map(|_| wallet)));
    Some(Projection { status, apple_installed_at, google_installed_at, changed_at, last_event })
}

/// Since when a customer has a pass in a wallet.
fn installed_at(passes: &[Pass], wallet: Wallet) -> Option<Timestamp> {
    let of = |naming: Naming| {
        let passes = passes.iter().filter(move |pass| pass.naming == naming);
        passes.filter_map(move |pass| pass.standings.get(wallet))
    };
    let is_there = |standing: &Standing| standing.last == EventKind::Installed;
    let nameless = of(Naming::Nameless).next();
    let said_removed = nameless.filter(|standing| !is_there(standing)).map(|standing| standing.heard_at);
    // A removal that named no pass ends what was heard before it.
    let named = of(Naming::Named).filter(is_there).filter(|pass| said_removed.is_none_or(|at| pass.heard_at > at));
    let removed_by_name = of(Naming::Named).filter(|pass| !is_there(pass)).map(|pass| pass.heard_at).max();
    let nameless = nameless.filter(is_there).filter(|all| removed_by_name.is_none_or(|at| all.heard_at >= at));
    named.chain(nameless).map(|standing| standing.since).min()
}
