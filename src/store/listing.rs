//! What a list of messages is asked for, and how it answers.

use jiff::Timestamp;

use crate::domain::ids::{KeyId, MessageId};
use crate::domain::lane::Lane;
use crate::domain::message::{MessageView, Reason, Status};

/// Which messages a list shows, newest first. `None` and empty mean any.
#[derive(Debug, Clone, Default)]
pub struct MessageFilter {
    /// Normalised recipient address.
    pub recipient: Option<String>,
    /// The recipient's domain as A-labels.
    pub domain: Option<String>,
    /// State.
    pub status: Option<Status>,
    /// Why it stands there.
    pub reason: Option<Reason>,
    /// Template name.
    pub template: Option<String>,
    /// Lane.
    pub lane: Option<Lane>,
    /// The relay's queue id.
    pub relay_queue_id: Option<String>,
    /// The Message-ID header, with its angle brackets.
    pub message_id: Option<String>,
    /// The journey that sent it.
    pub journey: Option<String>,
    /// The key it was handed in with.
    pub key: Option<KeyId>,
    /// One tag.
    pub tag: Option<String>,
    /// One pair of the metadata: key and value.
    pub metadata: Option<(String, String)>,
    /// Accepted at or after.
    pub since: Option<Timestamp>,
    /// Accepted before.
    pub until: Option<Timestamp>,
    /// Only messages older than this one (the cursor).
    pub before: Option<MessageId>,
    /// How many at most.
    pub limit: usize,
}

/// A Message-ID, given with its angle brackets or without (a shell takes them for its own), as a filter wants it.
#[must_use]
pub fn in_angle_brackets(message_id: &str) -> String {
    format!("<{}>", message_id.trim().trim_start_matches('<').trim_end_matches('>'))
}

/// A page of messages.
#[derive(Debug, Clone, Default)]
pub struct MessagePage {
    /// The messages, newest first.
    pub messages: Vec<MessageView>,
    /// What the next page comes after; `None`: there is nothing more. At a gateway a page may hold fewer messages than
    /// were asked for, or none, although there are more: so long it looks for one.
    pub next: Option<MessageId>,
}
