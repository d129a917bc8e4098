//! The handle through which doors and the hall talk to the running dispatcher: ask how it stands, ask what binds a
//! message, give it new settings.
//!
//! The dispatcher is one task that owns its state, so a question is a message to it and the answer comes back. The
//! queue of questions is bounded; who asks more waits. Answers are pictures of one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::settings::DeliverySettings;
use crate::courier::settings::RelaySettings;
use crate::courier::{Courier, CourierError};
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::lane::{Lane, LaneRules, PerLane};
use crate::domain::rates::DomainRates;
use crate::domain::shaping::{Binding, Overview};
use crate::domain::tenant::Tenant;

/// Questions that may wait for the dispatcher.
pub(super) const QUESTIONS_MAX: usize = 64;

/// The handle; clones talk to the same dispatcher.
#[derive(Clone)]
pub struct Control {
    questions: mpsc::Sender<Question>,
    courier: Arc<dyn Courier>,
}

/// What the dispatcher is asked.
pub(super) enum Question {
    /// How it stands.
    Overview(oneshot::Sender<Overview>),
    /// What binds this message.
    Explain(Subject, oneshot::Sender<Vec<Binding>>),
    /// To go on by these settings.
    Reconfigure(Box<Plan>, oneshot::Sender<()>),
}

/// The message an operator asks about.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Which.
    pub id: MessageId,
    /// Whose.
    pub tenant: TenantId,
    /// Its lane.
    pub lane: Lane,
    /// Its recipient's domain as A-labels.
    pub domain: String,
}

/// Everything delivery can be told anew while it runs.
#[derive(Clone)]
pub struct Plan {
    /// `[delivery]`. The window keeps the size it began with.
    pub settings: DeliverySettings,
    /// `[lanes.*]`.
    pub lanes: PerLane<LaneRules>,
    /// `[[relays]]`, secrets read.
    pub relays: Vec<RelaySettings>,
    /// `tenants/*.toml`.
    pub tenants: BTreeMap<TenantId, Tenant>,
    /// `limits.relay_domains`.
    pub domain_rates: DomainRates,
}

/// Why delivery did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It does not run, or has ended.
    #[error("delivery does not run")]
    Ended,
    /// The relays cannot be used as they are configured; nothing was changed.
    #[error("the relays cannot be used as configured")]
    Relays(#[source] CourierError),
}

impl Control {
    pub(super) fn new(courier: Arc<dyn Courier>) -> (Self, mpsc::Receiver<Question>) {
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        (Self { questions, courier }, asked)
    }

    /// How delivery stands.
    pub async fn overview(&self) -> Result<Overview, ControlError> {
        self.ask(Question::Overview).await
    }

    /// Each rule or limiter of delivery that binds this message now. Empty when nothing does: it is next.
    pub async fn explain(&self, subject: Subject) -> Result<Vec<Binding>, ControlError> {
        self.ask(|answer| Question::Explain(subject, answer)).await
    }

    /// Gives the running dispatcher new settings, all or nothing. Attempts under way end as they began; a relay that is
    /// gone gets no new ones; sessions opened by the old settings carry no further mail.
    pub async fn reconfigure(&self, plan: Plan) -> Result<(), ControlError> {
        // First, so that the dispatcher never sends anybody to a relay that the courier does not know.
        self.courier.take_over(plan.relays.clone()).map_err(ControlError::Relays)?;
        self.ask(|answer| Question::Reconfigure(Box::new(plan), answer)).await
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Result<T, ControlError> {
        let (answer, answered) = oneshot::channel();
        self.questions.send(question(answer)).await.map_err(|_| ControlError::Ended)?;
        answered.await.map_err(|_| ControlError::Ended)
    }
}
