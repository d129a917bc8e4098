//! A submission: what a caller asked us to send, parsed but not yet decided upon.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::address::Mailbox;
use super::contact::{Culture, CustomerId};
use super::fact::Dedupe;
use super::lane::Lane;
use super::quantity::HumanDuration;
use super::unless::Unless;

/// A deadline or `sendAt` lies at most this far ahead, `deliverWithin` is at most so long.
pub const AHEAD_MAX: std::time::Duration = std::time::Duration::from_hours(366 * 24);
/// Subjects up to this many characters.
pub const SUBJECT_CHARS_MAX: usize = 2_000;
/// Tags at most, and characters in one.
pub const TAGS_MAX: usize = 50;
/// Characters in one tag.
pub const TAG_CHARS_MAX: usize = 100;
/// Metadata entries at most.
pub const METADATA_MAX: usize = 50;
/// Characters in a metadata key.
pub const METADATA_KEY_CHARS_MAX: usize = 100;
/// Characters in a metadata value.
pub const METADATA_VALUE_CHARS_MAX: usize = 1_000;
/// Caller's headers at most.
pub const HEADERS_MAX: usize = 50;
/// Characters in one header's value.
pub const HEADER_VALUE_CHARS_MAX: usize = 4_000;
/// Attached files at most.
pub const ATTACHMENTS_MAX: usize = 50;
/// Characters in a template's name.
pub const TEMPLATE_CHARS_MAX: usize = 200;
/// Characters in a file's name.
pub const FILENAME_CHARS_MAX: usize = 255;

/// One mail to one recipient, as asked for. Serialised canonically it is what an idempotency key is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Submission {
    /// The one recipient.
    pub recipient: Mailbox,
    /// The platform's template name, or that of one of our own.
    pub template: Option<String>,
    /// What one of our own templates is to be given, which then writes subject, HTML and text. Left out when absent, as
    /// below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own: Option<OwnTemplate>,
    /// The subject.
    pub subject: String,
    /// The HTML part.
    pub html: Option<String>,
    /// The text part as given; made from the HTML when absent.
    pub text: Option<String>,
    /// Sender other than the tenant's default.
    pub from: Option<Mailbox>,
    /// Where answers go.
    pub reply_to: Option<Mailbox>,
    /// Further headers, names as given.
    pub headers: Vec<(String, String)>,
    /// Attached and inline files.
    pub attachments: Vec<Attachment>,
    /// Lane other than the one the tenant's patterns give.
    pub lane: Option<Lane>,
    /// Deadline other than the lane's.
    pub deadline: Option<Deadline>,
    /// Not before this.
    pub send_at: Option<Timestamp>,
    /// At most one mail for a fact. Left out when absent: keys bound before there were facts still know their submission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedupe: Option<Dedupe>,
    /// When it is no longer wanted. Left out when absent, as above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unless: Option<Unless>,
    /// The caller's tags.
    pub tags: Vec<String>,
    /// The caller's metadata.
    pub metadata: BTreeMap<String, String>,
    /// What the platform sent as the template's data, by key; only keys in the tenant's `data_kept` are kept.
    pub data: BTreeMap<String, String>,
}

/// What a template of our own is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OwnTemplate {
    /// The data, an object.
    pub data: Value,
    /// In what culture the mail is wanted, the best first; empty: nobody said.
    pub culture: Vec<Culture>,
    /// What the caller has besides, the best first. The platform says all of the tenant's here.
    pub cultures: Vec<Culture>,
    /// Who it is for, where that was said.
    pub customer: Option<CustomerId>,
}

/// When a message is too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Deadline {
    /// At this moment.
    By(Timestamp),
    /// So long after it was accepted, or after `sendAt`.
    Within(HumanDuration),
}

/// A file in a mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attachment {
    /// Its name.
    pub filename: String,
    /// Its media type, `type/subtype` with optional parameters.
    pub content_type: String,
    /// Its bytes.
    pub content: Vec<u8>,
    /// Set for a file the HTML shows as `cid:…`, without angle brackets.
    pub content_id: Option<String>,
}

/// What is wrong with one field of a submission. The detail never repeats the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) to the field as documented, e.g. `/recipient`, `/attachments/0/content`.
    pub pointer: String,
    /// What is wrong and what is wanted.
    pub detail: String,
}

impl FieldError {
    /// An error at `pointer`.
    #[must_use]
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// Characters in a header's value between two spaces, where it cannot be folded.
pub const HEADER_WORD_CHARS_MAX: usize = 900;
/// Characters in the name of a caller's header, so that an encoded-word fits on its line.
pub const HEADER_NAME_CHARS_MAX: usize = 50;

/// How a caller's header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderKind {
    /// `X-*`: any text; encoded-words (RFC 2047) where it is needed.
    Text,
    /// `List-*`, `References`, `In-Reply-To`, `Auto-Submitted`: ASCII, written as given and folded at spaces.
    Structured,
}

/// How a header that a caller may give is written; `None` when callers may not give it.
#[must_use]
pub fn header_kind(name: &str) -> Option<HeaderKind> {
    let is_name =
        name.len() <= HEADER_NAME_CHARS_MAX && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let lower = name.to_ascii_lowercase();
    let begins = |prefix: &str| lower.len() > prefix.len() && lower.starts_with(prefix);
    match lower.as_str() {
        _ if !is_name => None,
        "references" | "in-reply-to" | "auto-submitted" => Some(HeaderKind::Structured),
        _ if begins("list-") => Some(HeaderKind::Structured),
        _ if begins("x-") => Some(HeaderKind::Text),
        _ => None,
    }
}
