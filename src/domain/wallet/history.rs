//! The events of one pass, and what they add up to in each wallet.
//!
//! Events are put in the order of (time, kind, wallet, id) and walked once. An install puts the pass into its wallet, a
//! removal takes it out, and repeats of either change nothing. Two things need a rule:
//!
//! * **Devices.** A removal may come with the number of registrations that are left. While some are, other devices have
//!   the pass in that wallet, and it stays. The platform does not say whether it counts a wallet's registrations or a
//!   pass's, so one of them is taken for the other wallet's as long as that one has the pass.
//! * **What the Pass API says.** Its word is an install or removal at the time it was asked, and an install brings along
//!   since when it holds.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::WalletStatus;
use crate::domain::pass_event::{Change, EventKind, RegistrationCounts, Wallet};

/// One event of a pass, as its history needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When it happened: the sender's word, or when it came in.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// In which wallet.
    pub wallet: Wallet,
    /// What tells two events of the same time and kind apart: the sender's id of it.
    pub tie: String,
    /// The sender's counts.
    pub counts: RegistrationCounts,
    /// Since when it is installed, if the sender knows better than from `at`.
    pub since: Option<Timestamp>,
}

impl Entry {
    /// What the order of events goes by.
    fn place(&self) -> (Timestamp, EventKind, Wallet, &str) {
        (self.at, self.kind, self.wallet, &self.tie)
    }
}

/// How a pass stands in one wallet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Whether it is there ([`EventKind::Installed`]) or was removed.
    pub last: EventKind,
    /// Since when, as far as is known.
    pub since: Timestamp,
    /// The time of the event that last changed `last` or `since`.
    pub changed_at: Timestamp,
    /// The time of the last event.
    pub heard_at: Timestamp,
    /// What the last event was; a removal from one of several devices leaves the pass installed.
    pub heard: EventKind,
    /// Registrations that are active, as far as was said last.
    pub active: Option<u32>,
    /// The most registrations there ever were, as far as was said.
    pub total: Option<u32>,
}

/// How a pass stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standings {
    /// In Apple Wallet; `None`: nothing was heard.
    pub apple: Option<Standing>,
    /// In Google Wallet.
    pub google: Option<Standing>,
}

impl Standings {
    /// How it stands in a wallet.
    #[must_use]
    pub const fn get(&self, wallet: Wallet) -> Option<Standing> {
        match wallet {
            Wallet::Apple => self.apple,
            Wallet::Google => self.google,
        }
    }

    /// Replaces how it stands in a wallet.
    pub const fn set(&mut self, wallet: Wallet, standing: Standing) {
        match wallet {
            Wallet::Apple => self.apple = Some(standing),
            Wallet::Google => self.google = Some(standing),
        }
    }

    /// Whether it is in a wallet.
    #[must_use]
    pub fn is_in(&self, wallet: Wallet) -> bool {
        self.get(wallet).is_some_and(|standing| standing.last == EventKind::Installed)
    }

    /// When anything about it changed last, and what that was: at the same moment the removal is the last word.
    #[must_use]
    pub fn last_change(&self) -> Option<(Timestamp, EventKind)> {
        let standings = Wallet::ALL.into_iter().filter_map(|wallet| self.get(wallet));
        standings.map(|standing| (standing.changed_at, standing.last)).max()
    }

    /// Since when it is in a wallet.
    #[must_use]
    pub fn installed_since(&self, wallet: Wallet) -> Option<Timestamp> {
        self.get(wallet).filter(|standing| standing.last == EventKind::Installed).map(|standing| standing.since)
    }

    /// Whether an event is later than all that these standings are made of.
    #[must_use]
    pub fn are_before(&self, entry: &Entry) -> bool {
        Wallet::ALL.into_iter().all(|wallet| {
            let place = |standing: Standing| (standing.heard_at, standing.heard, wallet);
            self.get(wallet).is_none_or(|standing| place(standing) < (entry.at, entry.kind, entry.wallet))
        })
    }
}

/// What the events of a pass add up to, whatever the order they are given in.
#[must_use]
pub fn standings(mut entries: Vec<&Entry>) -> Standings {
    entries.sort_by(|one, other| one.place().cmp(&other.place()));
    entries.into_iter().fold(Standings::default(), follow)
}

/// How a pass stands after one more event, the latest so far.
#[must_use]
pub fn follow(mut standings: Standings, entry: &Entry) -> Standings {
    let before = standings.get(entry.wallet);
    let stays = entry.kind == EventKind::Uninstalled && others_have_it(&standings, entry);
    let last = if stays { EventKind::Installed } else { entry.kind };
    let flips = before.is_none_or(|standing| standing.last != last);
    let since = match (entry.since.filter(|_| last == EventKind::Installed), before) {
        (Some(since), _) => since,
        (None, Some(standing)) if !flips => standing.since,
        (None, _) => entry.at,
    };
    let changes = flips || before.is_none_or(|standing| standing.since != since);
    standings.set(
        entry.wallet,
        Standing {
            last,
            since,
            changed_at: before.filter(|_| !changes).map_or(entry.at, |standing| standing.changed_at),
            heard_at: entry.at,
            heard: entry.kind,
            active: entry.counts.active.or(before.and_then(|standing| standing.active).filter(|_| !flips)),
            total: entry.counts.total.max(before.and_then(|standing| standing.total)),
        },
    );
    standings
}

/// Whether a removal leaves the pass in its wallet, on other devices.
fn others_have_it(standings: &Standings, removal: &Entry) -> bool {
    let left = removal.counts.active.unwrap_or(0);
    left > u32::from(standings.is_in(removal.wallet.other()))
}

/// What an event is to those who know how the pass stood before it came in.
#[must_use]
pub fn change(before: &Standings, entry: &Entry) -> Change {
    let here = before.get(entry.wallet);
    if here.is_some_and(|standing| (entry.at, entry.kind) < (standing.heard_at, standing.heard)) {
        return Change::Stale;
    }
    match entry.kind {
        EventKind::Installed => install(before, here, entry),
        EventKind::Uninstalled => removal(here, entry),
    }
}

/// The same for an event that named no pass: it speaks of whatever the customer has, whose status before it is `status`.
#[must_use]
pub fn change_of_customer(before: &Standings, status: WalletStatus, entry: &Entry) -> Change {
    let said = change(before, entry);
    match (said, entry.kind, status.has(entry.wallet)) {
        (Change::Stale, ..) => Change::Stale,
        (_, EventKind::Installed, true) => Change::Duplicate,
        (Change::Duplicate, EventKind::Installed, false) => Change::Reinstall,
        (Change::FirstInstall, EventKind::Installed, false) if status != WalletStatus::None => Change::AdditionalDevice,
        (_, EventKind::Uninstalled, true) => Change::Removed,
        (_, EventKind::Installed | EventKind::Uninstalled, false) => said,
    }
}

fn install(before: &Standings, here: Option<Standing>, entry: &Entry) -> Change {
    let there = before.get(entry.wallet.other());
    if let Some(here) = here.filter(|standing| standing.last == EventKind::Installed) {
        return if is_more(&here, entry.counts) { Change::AdditionalDevice } else { Change::Duplicate };
    }
    // Who was removed had been there, also when nobody told of it.
    match (here, there) {
        (None, None) => Change::FirstInstall,
        (None, Some(there)) if there.last == EventKind::Installed => Change::AdditionalDevice,
        (Some(_), _) | (None, Some(_)) => Change::Reinstall,
    }
}

/// Whether there are more devices than were known of.
fn is_more(here: &Standing, counts: RegistrationCounts) -> bool {
    match (counts.total, here.total) {
        (Some(now), Some(known)) => now > known,
        // Who never said how many there are begins with the second.
        (Some(now), None) => now > 1,
        (None, _) => counts.active.is_some_and(|now| now > here.active.unwrap_or(1)),
    }
}

fn removal(here: Option<Standing>, entry: &Entry) -> Change {
    let Some(here) = here else { return Change::Removed };
    let same = here.last == EventKind::Uninstalled
        || here.heard == EventKind::Uninstalled && entry.counts.active.is_some() && here.active == entry.counts.active;
    if same { Change::Duplicate } else { Change::Removed }
}

/// Whether an install undid a removal so soon that nobody need know of either.
#[must_use]
pub fn flapped(before: &Standings, entry: &Entry, settle: Duration) -> bool {
    let removed = before.get(entry.wallet).filter(|standing| standing.last == EventKind::Uninstalled);
    entry.kind == EventKind::Installed
        && removed.is_some_and(|standing| {
            standing.since.checked_add(settle).is_ok_and(|settled| (standing.since..settled).contains(&entry.at))
        })
}
