//! The blast brake's rules: what is usual for a stream of mails, and when it is out of line.
//!
//! A **stream** is what one key of a tenant hands in of one template. A [`Watch`] follows one: it counts mails and
//! outcomes in windows, learns from each window what is usual, and says when there is an **excess**:
//!
//! * *volume*: more mails in a window than `factor` times what is usual, and more than `min_mails`: a new or a small
//!   stream may grow up to there unseen;
//! * *limit*: more than the hard limit, however usual that is;
//! * *same recipient*: one recipient got too many mails that are near-identical (the work room counts these). More are in
//!   line after a release: for `forget`, `factor` times what was seen; this is not kept for the next start;
//! * *bounce share*: relays refuse a share for good that lies `bounce_share` above the usual one.
//!
//! What is usual rises half the way to a busier window at once and fades by half in `forget`: a stream that is sent once
//! a week is known a week later. While a brake holds a stream nothing is learned of it, since nobody knows yet whether
//! that was meant; its release teaches what was seen, at once. An alarm that holds nothing learns on.
//!
//! Time comes in with each call and may stand still or go back: a window that lies ahead begins anew.

use std::time::Duration;

use jiff::Timestamp;

use super::{Cause, Decision, Effect, Excess};
use crate::domain::ids::BrakeId;
use crate::domain::quantity::{Rate, Share};

/// How far what is usual rises towards a window that was busier.
const RISE: f64 = 0.5;
/// Shares are told in so many parts.
const PARTS: f64 = 1_000.0;
/// A usual share of refused mails above this is worth keeping.
const SHARE_KEPT: f64 = 0.01;

/// What is in line; see the module's text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// What is counted together.
    pub window: Duration,
    /// So many times what is usual.
    pub factor: f64,
    /// So many mails in a window are never too many.
    pub min_mails: u32,
    /// However usual: never more.
    pub limit: Option<Rate>,
    /// Above the usual share of refused mails.
    pub bounce_share: Share,
    /// Of so many outcomes in a window at least.
    pub bounce_min: u32,
    /// An alarm ends when nothing was out of line for so long.
    pub calm: Duration,
    /// What is usual fades by half in this time.
    pub forget: Duration,
}

/// What is usual for a stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usual {
    /// Mails in a window.
    pub mails: f64,
    /// The share that relays refuse for good.
    pub refused: f64,
    /// When this was so.
    pub at: Timestamp,
}

impl Usual {
    /// Nothing is known yet.
    #[must_use]
    pub fn unknown(at: Timestamp) -> Self {
        Self { mails: 0.0, refused: 0.0, at }
    }

    /// What is left of it at `now`.
    #[must_use]
    pub fn faded(self, now: Timestamp, rules: &Rules) -> Self {
        let Some(age) = elapsed(self.at, now) else { return Self { at: now, ..self } };
        let halves = age.as_secs_f64() / rules.forget.as_secs_f64();
        Self { mails: self.mails * 0.5_f64.powf(halves), at: now, ..self }
    }

    /// What a window of so many mails and outcomes teaches.
    fn taught(mut self, window: &Window, rules: &Rules) -> Self {
        self.mails += (f64::from(window.mails) - self.mails).max(0.0) * RISE;
        if let Some(share) = window.share(rules) {
            self.refused += (share - self.refused) * RISE;
        }
        self
    }

    /// At least as much is usual from now on.
    fn at_least(mut self, mails: f64, refused: f64) -> Self {
        self.mails = self.mails.max(mails);
        self.refused = self.refused.max(refused);
        self
    }

    /// The most mails in a window that are in line.
    #[must_use]
    pub fn allows(&self, rules: &Rules) -> u32 {
        whole(self.mails * rules.factor).max(rules.min_mails)
    }

    /// Whether it says more than the settings alone.
    #[must_use]
    pub fn is_worth_keeping(&self, rules: &Rules) -> bool {
        self.allows(rules) > rules.min_mails || self.refused > SHARE_KEPT
    }
}

impl Excess {
    /// What is usual, if this was meant.
    #[must_use]
    pub fn teaches(self, at: Timestamp) -> Usual {
        match self.cause {
            Cause::Volume | Cause::Limit => Usual { mails: f64::from(self.seen), ..Usual::unknown(at) },
            Cause::SameRecipient => Usual::unknown(at),
            Cause::BounceShare => Usual { refused: f64::from(self.seen) / PARTS, ..Usual::unknown(at) },
        }
    }
}

/// What is counted now.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Window {
    begun: Timestamp,
    mails: u32,
    relayed: u32,
    refused: u32,
}

impl Window {
    fn begun_at(begun: Timestamp) -> Self {
        Self { begun, mails: 0, relayed: 0, refused: 0 }
    }

    /// The share that was refused, when there are enough outcomes to speak of one.
    fn share(&self, rules: &Rules) -> Option<f64> {
        let outcomes = self.relayed.saturating_add(self.refused);
        let enough = outcomes >= rules.bounce_min.max(1);
        enough.then(|| f64::from(self.refused) / f64::from(outcomes))
    }
}

/// A brake on a stream, as its watch remembers it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Braked {
    /// Which.
    pub id: BrakeId,
    /// What it does.
    pub effect: Effect,
    /// When something was last out of line.
    pub last_at: Timestamp,
    /// The most mails in a window since.
    mails: f64,
    /// The highest share of refused mails since.
    refused: f64,
    /// The most near-identical mails to one recipient since, if that was too many.
    alike: u32,
}

/// One stream, watched.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    usual: Usual,
    window: Window,
    limit_begun: Timestamp,
    limit_mails: u32,
    braked: Option<Braked>,
    /// Near-identical mails to one recipient that were meant, and when that was said.
    alike: Option<(u32, Timestamp)>,
    /// Counts the ends of brakes: what was counted before one counts no more.
    pub round: u32,
    /// What is usual has changed since it was last kept.
    pub unkept: bool,
}

impl Watch {
    /// A stream of which so much is known.
    #[must_use]
    pub fn new(usual: Usual, now: Timestamp) -> Self {
        let window = Window::begun_at(now);
        Self { usual, window, limit_begun: now, limit_mails: 0, braked: None, alike: None, round: 0, unkept: false }
    }

    /// Counts a mail; what is out of line now, if anything is.
    pub fn mail(&mut self, now: Timestamp, rules: &Rules) -> Option<Excess> {
        self.catch_up(now, rules);
        self.window.mails = self.window.mails.saturating_add(1);
        if let Some(limit) = rules.limit {
            if is_over(self.limit_begun, now, limit.per) {
                (self.limit_begun, self.limit_mails) = (now, 0);
            }
            self.limit_mails = self.limit_mails.saturating_add(1);
            if self.limit_mails > limit.count {
                return Some(Excess { cause: Cause::Limit, seen: self.limit_mails, allowed: limit.count });
            }
        }
        let allowed = self.usual.allows(rules);
        let seen = self.window.mails;
        (seen > allowed).then_some(Excess { cause: Cause::Volume, seen, allowed })
    }

    /// A mail was counted and then not accepted.
    pub fn take_back(&mut self) {
        self.window.mails = self.window.mails.saturating_sub(1);
        self.limit_mails = self.limit_mails.saturating_sub(1);
    }

    /// Counts outcomes; what is out of line now, if anything is.
    pub fn outcomes(&mut self, relayed: u32, refused: u32, now: Timestamp, rules: &Rules) -> Option<Excess> {
        self.catch_up(now, rules);
        self.window.relayed = self.window.relayed.saturating_add(relayed);
        self.window.refused = self.window.refused.saturating_add(refused);
        let share = self.window.share(rules)?;
        let allowed = (self.usual.refused + f64::from(rules.bounce_share)).min(1.0);
        let told = Excess { cause: Cause::BounceShare, seen: whole(share * PARTS), allowed: whole(allowed * PARTS) };
        (share > allowed).then_some(told)
    }

    /// The brake on it.
    #[must_use]
    pub fn braked(&self) -> Option<Braked> {
        self.braked
    }

    /// A brake goes on, or was on when the gateway started.
    pub fn engage(&mut self, id: BrakeId, excess: Excess, effect: Effect, now: Timestamp) {
        let Usual { mails, refused, .. } = excess.teaches(now);
        let alike = if excess.cause == Cause::SameRecipient { excess.seen } else { 0 };
        self.braked = Some(Braked { id, effect, last_at: now, mails, refused, alike });
    }

    /// What a recipient got too many of, if so many near-identical mails are more than `at_most` and than is known to be
    /// meant.
    pub fn alike(&mut self, seen: u32, at_most: u32, now: Timestamp, rules: &Rules) -> Option<Excess> {
        let meant = self.meant_alike(now, rules).map_or(0, |meant| whole(f64::from(meant) * rules.factor));
        let allowed = at_most.max(meant);
        if seen <= allowed {
            return None;
        }
        if let Some(braked) = &mut self.braked {
            braked.alike = braked.alike.max(seen);
        }
        Some(Excess { cause: Cause::SameRecipient, seen, allowed })
    }

    fn meant_alike(&self, now: Timestamp, rules: &Rules) -> Option<u32> {
        self.alike.filter(|(_, at)| !is_over(*at, now, rules.forget)).map(|(meant, _)| meant)
    }

    /// It is out of line still.
    pub fn goes_on(&mut self, now: Timestamp) {
        if let Some(braked) = &mut self.braked {
            braked.last_at = now;
        }
    }

    /// Whether an alarm may end by itself. What holds mails waits for an operator.
    #[must_use]
    pub fn is_calm(&self, now: Timestamp, rules: &Rules) -> bool {
        self.braked.is_some_and(|braked| braked.effect == Effect::Alarm && is_over(braked.last_at, now, rules.calm))
    }

    /// The brake is off; counting begins anew. A release teaches what was seen.
    pub fn disengage(&mut self, decision: Decision, now: Timestamp, rules: &Rules) {
        self.note_peak(rules);
        let Some(braked) = self.braked.take() else { return };
        match decision {
            Decision::Release => {
                self.usual = self.usual.faded(now, rules).at_least(braked.mails, braked.refused);
                if braked.alike > 0 {
                    self.alike = Some((braked.alike.max(self.meant_alike(now, rules).unwrap_or_default()), now));
                }
                self.unkept = true;
            }
            Decision::Cancel => {}
        }
        self.window = Window::begun_at(now);
        (self.limit_begun, self.limit_mails) = (now, 0);
        self.round = self.round.wrapping_add(1);
    }

    /// What is usual for it.
    #[must_use]
    pub fn usual(&self) -> Usual {
        self.usual
    }

    /// Whether nothing is lost when it is forgotten.
    #[must_use]
    pub fn is_idle(&self, now: Timestamp, rules: &Rules) -> bool {
        let limit_is_over = rules.limit.is_none_or(|limit| is_over(self.limit_begun, now, limit.per));
        let is_quiet = is_over(self.window.begun, now, rules.window) && limit_is_over;
        let knows_more = self.meant_alike(now, rules).is_some();
        is_quiet && self.braked.is_none() && !knows_more && !self.learned(now, rules).is_worth_keeping(rules)
    }

    /// Ends a window that is over.
    pub fn catch_up(&mut self, now: Timestamp, rules: &Rules) {
        if !is_over(self.window.begun, now, rules.window) {
            return;
        }
        self.note_peak(rules);
        if self.braked.is_none_or(|braked| braked.effect == Effect::Alarm) {
            let before = self.usual;
            self.usual = self.learned(now, rules);
            self.unkept |= before.is_worth_keeping(rules) || self.usual.is_worth_keeping(rules);
        }
        self.window = Window::begun_at(now);
    }

    /// What is usual now, this window included. It was so at the window's end, and fades from then on.
    fn learned(&self, now: Timestamp, rules: &Rules) -> Usual {
        let end = self.window.begun.checked_add(rules.window).unwrap_or(now).min(now);
        self.usual.faded(end, rules).taught(&self.window, rules).faded(now, rules)
    }

    fn note_peak(&mut self, rules: &Rules) {
        let Some(braked) = &mut self.braked else { return };
        braked.mails = braked.mails.max(f64::from(self.window.mails));
        braked.refused = braked.refused.max(self.window.share(rules).unwrap_or_default());
    }
}

/// How long ago; `None` when it lies ahead.
fn elapsed(since: Timestamp, now: Timestamp) -> Option<Duration> {
    Duration::try_from(now.duration_since(since)).ok()
}

/// Whether so much time has passed; a beginning that lies ahead is over, too.
fn is_over(since: Timestamp, now: Timestamp, length: Duration) -> bool {
    elapsed(since, now).is_none_or(|age| age >= length)
}

/// Rounded down, within what a count can be.
fn whole(amount: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what a u32 can be")]
    let whole = amount.clamp(0.0, f64::from(u32::MAX)) as u32;
    whole
}

#[cfg(test)]
mod tests;
