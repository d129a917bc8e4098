//! Rendered parts in, the bytes of one RFC 5322 message out.

use jiff::Timestamp;

use crate::domain::address::Mailbox;
use crate::domain::submission::Attachment;

/// Everything a mail is made of.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    /// From.
    pub from: &'a Mailbox,
    /// Reply-To.
    pub reply_to: Option<&'a Mailbox>,
    /// To.
    pub recipient: &'a Mailbox,
    /// Subject, decoded.
    pub subject: &'a str,
    /// The HTML part.
    pub html: Option<&'a str>,
    /// The text part; made from the HTML when absent.
    pub text: Option<&'a str>,
    /// Further headers, checked by the door.
    pub headers: &'a [(String, String)],
    /// Attached and inline files.
    pub attachments: &'a [Attachment],
    /// Message-ID with angle brackets.
    pub message_id: &'a str,
    /// Date.
    pub date: Timestamp,
}

/// The mail cannot be written down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the mail cannot be composed: {0}")]
pub struct ComposeError(pub String);

/// Composes one mail: CRLF line ends, no line over 998 octets, 7-bit unless an address needs UTF-8.
pub fn compose(parts: &Parts<'_>) -> Result<Vec<u8>, ComposeError> {
    let _ = parts;
    Err(ComposeError("not written yet".into()))
}
