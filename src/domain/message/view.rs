//! A message as it is shown: all that its tenant may know of it but the content.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::{Reason, Status};
use crate::domain::ids::{MessageId, RelayName, TenantId};
use crate::domain::lane::Lane;
use crate::domain::time;

/// A message as shown to its tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageView {
    /// The message.
    pub id: MessageId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The recipient as given.
    pub recipient: String,
    /// The platform's template name.
    pub template: Option<String>,
    /// The subject.
    pub subject: String,
    /// Its lane.
    pub lane: Lane,
    /// Its state.
    pub status: Status,
    /// Why, when the state alone does not say it.
    pub reason: Option<Reason>,
    /// Whether an attempt is, or was, past its commit point without a definite answer.
    pub may_have_been_sent: bool,
    /// Attempts spent.
    pub attempts: u32,
    /// When it is tried next.
    #[serde(serialize_with = "time::write_or_null")]
    pub next_attempt_at: Option<Timestamp>,
    /// Its deadline.
    #[serde(serialize_with = "time::write")]
    pub deliver_by: Timestamp,
    /// When it was accepted.
    #[serde(serialize_with = "time::write")]
    pub accepted_at: Timestamp,
    /// When it ended.
    #[serde(serialize_with = "time::write_or_null")]
    pub ended_at: Option<Timestamp>,
    /// The relay asked last.
    pub relay: Option<RelayName>,
    /// What it answered: code and text.
    pub relay_reply: Option<String>,
    /// The relay's own queue id.
    pub relay_queue_id: Option<String>,
    /// Its Message-ID header.
    pub message_id: String,
    /// The caller's tags.
    pub tags: Vec<String>,
    /// The caller's metadata.
    pub metadata: BTreeMap<String, String>,
    /// The journey that sent it.
    pub journey: Option<String>,
}
