//! Journeys on their way: whoever is due takes their next step.
//!
//! # Who is who
//!
//! * A **drawing** says what a journey is (`domain::journey`); who entered it keeps the version they entered.
//! * An **enrollment** stands at a step, with a moment at which it goes on. Pass events begin and end it, in their own
//!   transaction (`store`); nothing here hears of an event.
//! * A **walk** (pure) says what an enrollment does now; a **move** does it.
//!
//! # What flows
//!
//! ```text
//! store: due ─▶ facts ─▶ walk ─▶ nothing to send ──────────────────────────────▶ move (store, one transaction)
//!                          └──▶ a mail ─▶ address? ─▶ template ─▶ intake.hand_in ─▶ move and mail (the same transaction)
//!                                            └─ nobody knows it: the enrollment waits, and `contacts` asks the brand's CRM
//! ```
//!
//! # What is promised
//!
//! * A step and its mail are one transaction, under the condition that the enrollment is as it was when that was decided:
//!   killed at any moment, each step's mail exists once.
//! * A template that fails ends its own mail, after some tries (`[journeys] retry`); nobody else waits for it but those whose
//!   mails are rendered in the same moment.
//! * Who waits costs nothing: rows with a time, found by an index.
//! * Nothing is sent from here: quotas, lanes, deadlines and the audit are those of every mail.
//!
//! A round ([`Journeys::round`]) does once what is due now. The gateway makes rounds until it stops; a simulation makes them
//! on a clock of its own.

pub mod desk;
mod drawings;
mod mail;
pub mod settings;
mod step;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use self::drawings::Drawings;
use self::settings::JourneySettings;
use crate::clock::Clock;
use crate::domain::ids::{JourneyName, TenantId};
use crate::domain::journey::enrollment::Enrollment;
use crate::domain::journey::walk::{Passed, Pause};
use crate::domain::rules::Rules;
use crate::intake::Intake;
use crate::limits::Limits;
use crate::store::{DueQuery, Moved, Next, Store, StoreError};
use crate::templates::Templates;

/// How long nobody looks for what came without a word: what a command did, and what waits for room.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a [`Journeys`] is made of.
pub struct Parts {
    /// Where enrollments are kept.
    pub store: Arc<dyn Store>,
    /// Where their time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where their mails go in.
    pub intake: Arc<Intake>,
    /// What the configuration says.
    pub rules: watch::Receiver<Arc<Rules>>,
    /// What their mails are rendered from.
    pub templates: watch::Receiver<Arc<Templates>>,
    /// Whether there is room for mails.
    pub limits: Arc<Limits>,
    /// How it is done.
    pub settings: JourneySettings,
    /// Where pages for customers are found: the start of links in mails.
    pub public_url: String,
    /// Notified when somebody may be due.
    pub wake: Arc<Notify>,
}

/// The journeys of all tenants.
pub struct Journeys {
    parts: Parts,
    drawings: Drawings,
}

/// What one round did.
#[derive(Debug, Default)]
pub struct Round {
    /// Each enrollment that was due, in the order in which they were done.
    pub taken: Vec<Taken>,
    /// Whether somebody may be due already.
    pub more: bool,
}

/// An enrollment that was due, and what became of it.
#[derive(Debug)]
pub struct Taken {
    /// As it was.
    pub enrollment: Enrollment,
    /// What was to be done.
    pub passed: Vec<Passed>,
    /// Which template was to be sent.
    pub template: Option<String>,
    /// Why it pauses then.
    pub pause: Pause,
    /// How it goes on; `None`: nothing could be decided.
    pub next: Option<Next>,
    /// What became of that; `None`: the mail could not be made.
    pub moved: Option<Moved>,
}

impl Journeys {
    /// Journeys that are made of these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts, drawings: Drawings::default() }
    }

    /// Makes rounds until the soft stop. A step under way is done to its end.
    pub async fn run(self, soft: CancellationToken) {
        loop {
            let more = match self.round().await {
                Ok(round) => round.more,
                Err(error) => {
                    tracing::error!(%error, "journeys stand still until the store answers");
                    false
                }
            };
            let now = self.parts.clock.now();
            let look_at = now.checked_add(LOOK_EVERY).unwrap_or(Timestamp::MAX);
            tokio::select! {
                biased;
                () = soft.cancelled() => return,
                () = std::future::ready(()), if more => {}
                () = self.parts.wake.notified() => {}
                () = self.parts.clock.sleep_until(look_at) => {}
            }
        }
    }

    /// Does once what is due now.
    pub async fn round(&self) -> Result<Round, StoreError> {
        let rules = Arc::clone(&self.parts.rules.borrow());
        let journeys = going(&rules);
        if journeys.is_empty() {
            return Ok(Round::default());
        }
        let (now, limit) = (self.parts.clock.now(), self.parts.settings.batch);
        let due = self.parts.store.due_enrollments(DueQuery { journeys, now, limit }).await?;
        let is_full = due.len() >= limit;
        let steps = due.into_iter().map(|due| self.step(&rules, now, due));
        let taken: Vec<_> = stream::iter(steps).buffer_unordered(self.parts.settings.in_flight_max).collect().await;
        let mut round = Round::default();
        for taken in taken {
            let taken = taken?;
            let goes_on = matches!(taken.next, Some(Next::Step { at, .. }) if at <= now);
            let is_moved = matches!(taken.moved, Some(Moved::Done(_) | Moved::Capped));
            // Never twice in a row without anything done: what cannot be done now waits for the next look.
            round.more |= is_moved && (goes_on || is_full);
            round.taken.push(taken);
        }
        Ok(round)
    }

    /// When somebody is due next, so far as is known.
    pub async fn next_at(&self) -> Result<Option<Timestamp>, StoreError> {
        let journeys = going(&self.parts.rules.borrow());
        self.parts.store.next_enrollment_at(journeys).await
    }
}

/// The journeys whose enrollments go on: those of the configuration. Of others nobody knows whether they are still wanted.
fn going(rules: &Rules) -> Vec<(TenantId, JourneyName)> {
    let known = rules.journeys.values().map(|drawn| &drawn.journey);
    let known = known.filter(|journey| rules.tenants.contains_key(&journey.tenant));
    known.map(|journey| (journey.tenant.clone(), journey.name.clone())).collect()
}
