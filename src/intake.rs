//! Where every mail enters: a submission becomes a composed message and is kept in one transaction.
//!
//! Doors and journeys hand in a [`Submission`]. Intake decides what the tenant's rules say of it (sender, lane,
//! deadline, whether the recipient may be mailed), has a template of our own write it where it names one, composes the
//! mail and asks the store to keep it. When
//! [`Intake::accept`] returns `Ok`, the message is on disk and delivery has been woken. Nothing is sent from here.

mod own;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hmac::digest::Digest;
use jiff::Timestamp;
use sha2::Sha256;
use tokio::sync::{Notify, watch};
use uuid::{ContextV7, Uuid};

use crate::brake::{Brakeman, Judgement};
use crate::clock::Clock;
use crate::compose::{ComposeError, Parts, compose};
use crate::domain::address::{EmailAddress, Mailbox};
use crate::domain::audit::Actor;
use crate::domain::fact::Fact;
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::journey::enrollment::SentBy;
use crate::domain::lane::LaneRules;
use crate::domain::message::{Acceptance, Entry, Idempotency, NewMessage, Reason};
use crate::domain::quantity::Limit;
use crate::domain::return_path::ReturnPath;
use crate::domain::rules::Rules;
use crate::domain::submission::{AHEAD_MAX, Deadline, FieldError, METADATA_MAX, METADATA_VALUE_CHARS_MAX, Submission};
use crate::domain::tenant::Tenant;
use crate::store::{Move, Moved, Repeat, Store, StoreError};
use crate::templates::{RenderError, Templates};

/// How long an idempotency key is remembered.
const IDEMPOTENCY_KEPT: std::time::Duration = std::time::Duration::from_hours(7 * 24);
/// The longest idempotency key, in characters.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;

/// Why a submission was not accepted. Nothing was kept.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The submission breaks rules; all of them.
    #[error("the submission is not valid")]
    Invalid(Vec<FieldError>),
    /// The sender's domain is not one of the tenant's `from_allowed`.
    #[error("the sender's domain is not allowed for this tenant")]
    SenderNotAllowed,
    /// The tenant is not in the configuration.
    #[error("the tenant is not configured")]
    UnknownTenant,
    /// It is new, and there is no room for new mail.
    #[error("there is no room for new mail")]
    NoRoom,
    /// Its template cannot be rendered now; later perhaps.
    #[error("rendering has to wait")]
    Busy(#[source] RenderError),
    /// The mail could not be written down.
    #[error("composing failed")]
    Compose(#[source] ComposeError),
    /// The store could not keep it.
    #[error("keeping failed")]
    Store(#[source] StoreError),
}

/// Whether new mail may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It may.
    Enough,
    /// The queue or the disk is too full for it. What was accepted before is answered as it was.
    Short,
}

/// The entry to the house, shared by all doors.
pub struct Intake {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    rules: watch::Receiver<Arc<Rules>>,
    templates: watch::Receiver<Arc<Templates>>,
    ids: Mutex<ContextV7>,
    wake: Arc<Notify>,
    brakeman: Option<Arc<Brakeman>>,
}

impl Intake {
    /// An intake under these rules and with these templates, of which each mail takes those of its moment; `wake` is
    /// notified after every accepted message. Without a brakeman no stream is watched.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        rules: watch::Receiver<Arc<Rules>>,
        templates: watch::Receiver<Arc<Templates>>,
        wake: Arc<Notify>,
        brakeman: Option<Arc<Brakeman>>,
    ) -> Self {
        Self { store, clock, rules, templates, ids: Mutex::new(ContextV7::new()), wake, brakeman }
    }

    /// Accepts one submission of `tenant`, if it was accepted before or there is `room`: durable when this returns
    /// [`Acceptance::Accepted`].
    pub async fn accept(
        &self,
        tenant: &TenantId,
        actor: Actor,
        submission: Submission,
        idempotency_key: Option<String>,
        room: Room,
    ) -> Result<Acceptance, Refusal> {
        let rules = Arc::clone(&self.rules.borrow());
        let tenant = rules.tenants.get(tenant).ok_or(Refusal::UnknownTenant)?;
        let now = self.clock.now();
        let idempotency = idempotency_key.map(|key| Idempotency {
            key,
            fingerprint: fingerprint(&submission),
            expires_at: now.checked_add(IDEMPOTENCY_KEPT).unwrap_or(Timestamp::MAX),
        });
        let dedupe = submission.dedupe.as_ref();
        let fact = dedupe.map(|d| Fact { name: d.fact.clone(), expires_at: d.window.ends_at(now) });
        // Asked before any rule: what was accepted once is answered so again, also when its deadline has passed or the
        // tenant's rules have changed since. `Store::accept` asks once more, for two that come at once.
        if idempotency.is_some() || fact.is_some() {
            let repeat = Repeat {
                tenant: tenant.id.clone(),
                recipient: submission.recipient.address.clone(),
                idempotency: idempotency.clone(),
                fact: fact.as_ref().map(|fact| fact.name.clone()),
                at: now,
            };
            if let Some(answer) = self.store.replay(repeat).await.map_err(Refusal::Store)? {
                return Ok(answer);
            }
        }
        match room {
            Room::Enough => {}
            Room::Short => return Err(Refusal::NoRoom),
        }
        let submission = self.written(tenant, submission).await?;
        let message = NewMessage { idempotency, fact, ..self.compose(&rules, tenant, actor, &submission, now)? };
        let accepted = self.keep(message, &submission).await.map_err(Refusal::Store)?;
        if matches!(accepted, Acceptance::Accepted(_)) {
            self.wake.notify_one();
        }
        Ok(accepted)
    }

    /// Hands in the mail of a journey's step: composed under the tenant's rules, kept in one transaction with the `order` that
    /// is made of it. Delivery is woken when this returns that it is done.
    pub async fn hand_in(
        &self,
        tenant: &TenantId,
        submission: Submission,
        sent_by: SentBy,
        order: impl FnOnce(NewMessage) -> Move,
    ) -> Result<Moved, Refusal> {
        let rules = Arc::clone(&self.rules.borrow());
        let tenant = rules.tenants.get(tenant).ok_or(Refusal::UnknownTenant)?;
        let message = self.compose(&rules, tenant, Actor::Gateway, &submission, self.clock.now())?;
        let order = order(NewMessage { sent_by: Some(sent_by), ..message });
        let moved = self.store.move_enrollment(order).await.map_err(Refusal::Store)?;
        if matches!(moved, Moved::Done(Some(_))) {
            self.wake.notify_one();
        }
        Ok(moved)
    }

    /// What all submissions of a tenant together are limited to.
    pub fn per_tenant(&self, tenant: &TenantId) -> Limit {
        self.rules.borrow().tenants.get(tenant).map_or(Limit::Unlimited, |tenant| tenant.per_tenant)
    }

    /// Keeps a message as its stream's brake says.
    async fn keep(&self, message: NewMessage, submission: &Submission) -> Result<Acceptance, StoreError> {
        let Some(brakeman) = &self.brakeman else { return self.store.accept(message).await };
        let Judgement { entry, counted } = brakeman.judge(&message, submission).await;
        let accepted = self.store.accept(NewMessage { entry, ..message }).await;
        match (&accepted, counted) {
            (Ok(Acceptance::Accepted(_)), _) | (_, None) => {}
            (_, Some(counted)) => brakeman.take_back(&counted),
        }
        accepted
    }

    fn compose(
        &self,
        rules: &Rules,
        tenant: &Tenant,
        actor: Actor,
        submission: &Submission,
        now: Timestamp,
    ) -> Result<NewMessage, Refusal> {
        let from = submission.from.as_ref().unwrap_or(&tenant.from);
        if !tenant.allows_sender(&from.address) {
            return Err(Refusal::SenderNotAllowed);
        }
        let lane = submission.lane.unwrap_or_else(|| tenant.lane_of(submission.template.as_deref()));
        let times = times(now, submission, rules.lanes.get(lane)).map_err(Refusal::Invalid)?;
        let id = self.next_id(now);
        let message_id = format!("<{}@{}>", id.hex(), from.address.domain());
        let mime = compose(&Parts {
            from,
            reply_to: submission.reply_to.as_ref(),
            recipient: &submission.recipient,
            subject: &submission.subject,
            html: submission.html.as_deref(),
            text: submission.text.as_deref(),
            headers: &submission.headers,
            attachments: &submission.attachments,
            message_id: &message_id,
            date: now,
        })
        .map_err(Refusal::Compose)?;
        let allowed = tenant.allows_recipient(&submission.recipient.address);
        Ok(NewMessage {
            id,
            tenant: tenant.id.clone(),
            actor,
            lane,
            recipient: submission.recipient.clone(),
            envelope_sender: self.return_path(tenant, id, from),
            template: submission.template.clone(),
            subject: submission.subject.clone(),
            tags: submission.tags.clone(),
            metadata: kept_metadata(tenant, submission),
            message_id,
            accepted_at: now,
            due_at: times.due_at,
            deliver_by: times.deliver_by,
            mime_sha256: Sha256::digest(&mime).into(),
            mime,
            entry: if allowed { Entry::Queued } else { Entry::Suppressed(Reason::NotAllowed) },
            idempotency: None,
            fact: None,
            unless: submission.unless.clone(),
            sent_by: None,
            recipient_limit: tenant.per_recipient.rate(),
        })
    }

    /// Where reports on a mail come back.
    fn return_path(&self, tenant: &Tenant, message: MessageId, from: &Mailbox) -> EmailAddress {
        match &tenant.return_path_domain {
            Some(domain) => ReturnPath { message, tag: self.store.return_path_tag(&tenant.id, message) }.at(domain),
            None => from.address.clone(),
        }
    }

    /// Version 7 with a counter: later acceptances of this process sort later, also within one millisecond.
    fn next_id(&self, now: Timestamp) -> MessageId {
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let nanoseconds = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
        MessageId::from_uuid(Uuid::new_v7(uuid::Timestamp::from_unix(&self.ids, seconds, nanoseconds)))
    }
}

struct Times {
    due_at: Timestamp,
    deliver_by: Timestamp,
}

fn times(now: Timestamp, submission: &Submission, rules: &LaneRules) -> Result<Times, Vec<FieldError>> {
    let due_at = submission.send_at.unwrap_or(now).max(now);
    let latest = now.checked_add(AHEAD_MAX).unwrap_or(Timestamp::MAX);
    let (pointer, deliver_by) = match submission.deadline {
        Some(Deadline::By(at)) => ("/deliverBy", at),
        Some(Deadline::Within(within)) => ("/deliverWithin", due_at.checked_add(within.0).unwrap_or(Timestamp::MAX)),
        None => ("/deliverBy", due_at.checked_add(rules.deliver_within.0).unwrap_or(Timestamp::MAX)),
    };
    let mut wrong = Vec::new();
    if due_at > latest {
        wrong.push(FieldError::new("/sendAt", "more than a year ahead"));
    }
    let deadline_is_far = match submission.deadline {
        Some(Deadline::By(at)) => at > latest,
        Some(Deadline::Within(within)) => within.0 > AHEAD_MAX,
        None => false,
    };
    if deadline_is_far {
        wrong.push(FieldError::new(pointer, "more than a year ahead"));
    } else if deliver_by <= now {
        wrong.push(FieldError::new(pointer, "already past"));
    } else if due_at >= deliver_by {
        wrong.push(FieldError::new("/sendAt", "not before the deadline"));
    }
    if wrong.is_empty() { Ok(Times { due_at, deliver_by }) } else { Err(wrong) }
}

/// The caller's metadata and, of the platform's data, the keys that the tenant keeps.
///
/// Data is the platform's and not checked at the door, so what does not fit metadata's limits is not kept: a mail is not
/// refused over it.
fn kept_metadata(tenant: &Tenant, submission: &Submission) -> BTreeMap<String, String> {
    let mut metadata = submission.metadata.clone();
    for (key, value) in submission.data.iter().filter(|(key, _)| tenant.data_kept.contains(key)) {
        let fits = value.chars().count() <= METADATA_VALUE_CHARS_MAX && !value.contains('\0');
        if fits && metadata.len() < METADATA_MAX {
            metadata.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    metadata
}

/// SHA-256 over the parsed submission: how it was written (JSON or form, field order, case) makes no difference.
fn fingerprint(submission: &Submission) -> [u8; 32] {
    // Unwrap safety: a Submission holds only text, numbers and maps with text keys; serialising these cannot fail.
    let canonical = serde_json::to_vec(submission).unwrap_or_default();
    Sha256::digest(&canonical).into()
}
