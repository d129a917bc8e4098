//! Evidence: what was found out about a mail of which nobody knew whether the relay took it.
//!
//! After a crash, or when the answer to the final dot was lost, a mail is in doubt until something else says what became
//! of it. The relay itself wrote it down: its log names the Message-ID, the same on every attempt, and the queue id under
//! which it took the mail. That log is read line by line ([`relay_log`]); what is found is [`Evidence`], and stands in the
//! audit from then on.

pub mod relay_log;

use jiff::Timestamp;

use super::ids::{MessageId, RelayName};
use super::reply::EnhancedCode;

/// A relay took a mail: what its log says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The mail.
    pub id: MessageId,
    /// The relay whose log it is.
    pub relay: RelayName,
    /// What stands there.
    pub taken: Taken,
    /// When it was read.
    pub at: Timestamp,
}

/// A mail that a relay has, or had, in its queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The relay's queue id.
    pub queue_id: String,
    /// What the relay has done with it since, as far as its log says.
    pub fate: Option<Fate>,
}

/// What a relay did with a mail it had taken, by the last line that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// Its word for it: `sent`, `deferred`, `bounced`, `expired` …
    pub status: String,
    /// The enhanced code of what it heard.
    pub enhanced: Option<EnhancedCode>,
    /// What it heard, in its own words; they may name the recipient.
    pub words: String,
}
