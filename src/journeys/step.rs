//! One enrollment that is due: what is known of it, what it does, and how that is done.

use std::sync::Arc;

use jiff::Timestamp;

use super::mail::{Address, Unmade, address};
use super::{Journeys, Taken};
use crate::domain::contact::Origin;
use crate::domain::journey::Journey;
use crate::domain::journey::enrollment::{Ending, SentBy, Status};
use crate::domain::journey::walk::{Facts, Passed, Pause, Plan, Send, Then, walk};
use crate::domain::rules::Rules;
use crate::domain::tenant::Tenant;
use crate::intake::Refusal;
use crate::limits::Shortage;
use crate::store::{DueEnrollment, Move, Moved, Next, StoreError};

impl Journeys {
    /// Does what an enrollment that is due does now.
    pub(super) async fn step(
        &self,
        rules: &Arc<Rules>,
        now: Timestamp,
        due: DueEnrollment,
    ) -> Result<Taken, StoreError> {
        let nothing = |due: DueEnrollment| Taken {
            enrollment: due.enrollment,
            passed: Vec::new(),
            template: None,
            pause: Pause::None,
            next: None,
            moved: None,
        };
        // The journeys asked for are those of known tenants.
        let Some(tenant) = rules.tenants.get(&due.enrollment.tenant) else { return Ok(nothing(due)) };
        let drawing = self.drawings.of(rules, &*self.parts.store, &due.enrollment).await?;
        let Some(journey) = drawing else {
            tracing::error!(enrollment.id = %due.enrollment.id, "the content of its journey cannot be read");
            let plan = Plan { passed: Vec::new(), send: None, then: Then::End(Ending::Failed) };
            return self.go(now, due, plan).await;
        };
        let plan = plan(tenant, &journey, now, &due);
        let Some(send) = plan.send.clone() else { return self.go(now, due, plan).await };
        match reach(tenant, now, &due) {
            Reach::At(address) => self.send(tenant, now, due, plan, (send, address)).await,
            Reach::Not { seek_at } => self.wait_for_address(now, due, &journey, seek_at).await,
        }
    }

    /// A move without a mail.
    async fn go(&self, now: Timestamp, due: DueEnrollment, plan: Plan) -> Result<Taken, StoreError> {
        let (next, pause) = match plan.then {
            Then::Step { step, at, pause } => (Next::Step { step, at }, pause),
            Then::End(ending) => (Next::End(ending), Pause::None),
        };
        let template = plan.send.map(|send| send.template);
        self.moved(now, due, (plan.passed, template, pause), next).await
    }

    async fn moved(
        &self,
        now: Timestamp,
        due: DueEnrollment,
        (passed, template, pause): (Vec<Passed>, Option<String>, Pause),
        next: Next,
    ) -> Result<Taken, StoreError> {
        let enrollment = due.enrollment;
        let order = Move { enrollment: enrollment.clone(), at: now, passed: passed.clone(), mail: None, next };
        let moved = self.parts.store.move_enrollment(order).await?;
        Ok(Taken { enrollment, passed, template, pause, next: Some(next), moved: Some(moved) })
    }

    /// Its next step is a mail, and nobody knows where to.
    async fn wait_for_address(
        &self,
        now: Timestamp,
        due: DueEnrollment,
        journey: &Journey,
        seek_at: Option<Timestamp>,
    ) -> Result<Taken, StoreError> {
        let since = due.enrollment.contact_by.filter(|_| due.enrollment.status == Status::AwaitingContact);
        let until = since.or_else(|| now.checked_add(journey.contact_within.0).ok()).unwrap_or(Timestamp::MAX);
        let next = if until <= now { Next::End(Ending::Unreachable) } else { Next::AwaitContact { until, seek_at } };
        self.moved(now, due, (Vec::new(), None, Pause::None), next).await
    }

    /// A move with its mail.
    async fn send(
        &self,
        tenant: &Tenant,
        now: Timestamp,
        due: DueEnrollment,
        plan: Plan,
        (send, address): (Send, Address),
    ) -> Result<Taken, StoreError> {
        match self.parts.limits.headroom().shortage() {
            None => {}
            // As at the door, but nobody is told: it stays due.
            Some(Shortage::Queue | Shortage::Disk) => return Ok(not_now(due, send)),
        }
        let (next, pause) = match plan.then {
            Then::Step { step, at, pause } => (Next::Step { step, at }, pause),
            Then::End(ending) => (Next::End(ending), Pause::None),
        };
        let rendered = self.render(tenant, &due, &send, &address).await;
        let submission = match rendered {
            Ok(submission) => submission,
            // That is ours to mend, not the mail's: no try is spent on it.
            Err(Unmade::Template(error)) if error.is_passing() => {
                tracing::warn!(enrollment.id = %due.enrollment.id, template = send.template, %error, "a mail waits to be made");
                return Ok(not_now(due, send));
            }
            Err(error) => {
                tracing::warn!(enrollment.id = %due.enrollment.id, template = send.template, %error, "a mail cannot be made");
                return self.try_again(now, due, send).await;
            }
        };
        let enrollment = due.enrollment.clone();
        let sent_by = SentBy { journey: enrollment.journey.clone(), enrollment: enrollment.id };
        let passed = plan.passed.clone();
        let cap = tenant.journey_mails.rate();
        let order = |message| Move { enrollment, at: now, passed, mail: Some((Box::new(message), cap)), next };
        match self.parts.intake.hand_in(&tenant.id, submission, sent_by, order).await {
            Ok(moved) => {
                if matches!(moved, Moved::Done(Some(_))) {
                    self.parts.limits.headroom().accepted();
                }
                let template = Some(send.template);
                let enrollment = due.enrollment;
                Ok(Taken { enrollment, passed: plan.passed, template, pause, next: Some(next), moved: Some(moved) })
            }
            Err(Refusal::Store(error)) => Err(error),
            Err(refusal) => {
                tracing::warn!(enrollment.id = %due.enrollment.id, template = send.template, %refusal, "a mail is refused");
                self.try_again(now, due, send).await
            }
        }
    }

    /// The mail could not be made: later once more, but not for ever.
    async fn try_again(&self, now: Timestamp, due: DueEnrollment, send: Send) -> Result<Taken, StoreError> {
        let tries = usize::try_from(due.enrollment.tries).unwrap_or(usize::MAX);
        let next = match self.parts.settings.retry.get(tries) {
            Some(wait) => Next::TryAgain { at: now.checked_add(wait.0).unwrap_or(Timestamp::MAX) },
            None => Next::End(Ending::Failed),
        };
        self.moved(now, due, (Vec::new(), Some(send.template), Pause::None), next).await
    }
}

/// It stays due.
fn not_now(due: DueEnrollment, send: Send) -> Taken {
    let (enrollment, template) = (due.enrollment, Some(send.template));
    Taken { enrollment, passed: Vec::new(), template, pause: Pause::None, next: None, moved: None }
}

/// What an enrollment does now, by what is known of its customer.
fn plan(tenant: &Tenant, journey: &Journey, now: Timestamp, due: &DueEnrollment) -> Plan {
    let zone = due.contact.as_ref().and_then(|contact| contact.timezone.as_ref()).unwrap_or(&tenant.timezone);
    let facts = Facts {
        now,
        zone: &zone.zone(),
        wallet_status: due.wallet_status,
        occasion: &due.enrollment.occasion,
        identifiers: &due.identifiers,
        contact: due.contact.as_ref(),
    };
    walk(journey, due.enrollment.step, &facts)
}

/// Whether an enrollment's customer can be mailed.
enum Reach {
    /// There.
    At(Address),
    /// Not yet.
    Not {
        /// When the brand's CRM is asked; `None`: there is none, or it knows nobody by a pass alone.
        seek_at: Option<Timestamp>,
    },
}

fn reach(tenant: &Tenant, now: Timestamp, due: &DueEnrollment) -> Reach {
    let known = address(due);
    let lookup = tenant.contact_lookup.as_ref().filter(|_| !due.enrollment.customer.is_by_pass());
    let Some(lookup) = lookup else { return known.map_or(Reach::Not { seek_at: None }, Reach::At) };
    // A copy of what the CRM said is asked for again when it has grown old; what it then does not answer stays as it is.
    let is_old = due.contact.as_ref().is_some_and(|contact| {
        let until = contact.confirmed_at.checked_add(lookup.cache_for);
        contact.origin == Origin::Lookup && until.is_ok_and(|until| until <= now)
    });
    let again_at = due.enrollment.sought_at.and_then(|at| at.checked_add(lookup.not_found_for).ok());
    match (known, is_old) {
        (Some(address), false) => Reach::At(address),
        (Some(address), true) if again_at.is_some_and(|again_at| again_at > now) => Reach::At(address),
        (Some(_), true) => Reach::Not { seek_at: Some(now) },
        (None, _) => Reach::Not { seek_at: Some(again_at.map_or(now, |again_at| again_at.max(now))) },
    }
}
