//! What has ended is removed from the store after its time.

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;
use crate::domain::ids::MessageId;

/// What of a mail is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgedPart {
    /// Its content.
    Contents,
    /// Its row, and whatever is left of it besides its leaves.
    Messages,
}

/// The next mails to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purge {
    /// What to remove.
    pub part: PurgedPart,
    /// Only of mails that had ended then.
    pub ended_before: Timestamp,
    /// Only of mails behind this one, in the order of acceptance.
    pub after: Option<MessageId>,
    /// How many mails to look at.
    pub limit: usize,
    /// The present moment.
    pub at: Timestamp,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purged {
    /// Of how many mails.
    pub count: usize,
    /// Go on behind this one; `None`: there are no more that can have ended by then.
    pub next: Option<MessageId>,
}

/// What of the files is scrubbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scrubbed {
    /// Some pages; there are more.
    Partly,
    /// All pages. The log is still to be emptied, which has to wait for those who read from it.
    Pages,
    /// Everything.
    All,
}

/// The part of the store that forgets.
#[async_trait]
pub trait RetentionStore {
    /// Looks at the next mails and removes what is asked of those that have ended, in one transaction, with a leaf
    /// (`content-purged`, `messages-purged`) for each tenant that says how many.
    async fn purge(&self, purge: Purge) -> Result<Purged, StoreError>;

    /// Scrubs the next `pages` pages of the files, or empties the log after them, if somebody was erased since the last
    /// time: whatever the database leaves of deleted rows in places that nothing uses. Ask again until it is
    /// [`Scrubbed::All`].
    async fn scrub(&self, pages: usize) -> Result<Scrubbed, StoreError>;
}
