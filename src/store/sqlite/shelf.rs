//! Mails just accepted, kept in memory until their first attempt, so that most are never read back from the disk.
//!
//! Economy only: what is not here is read from its rows. A mail is put here before it is written, so that nobody can
//! look for it too early, and leaves with its first attempt; a content never changes in between. When the shelf is full
//! the newer mails go without: the older ones are sent first.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::ids::MessageId;
use crate::domain::message::Outgoing;

/// What all mails on the shelf may take together.
const SHELF_BYTES_MAX: usize = 32 << 20;

/// See the module's text.
#[derive(Default)]
pub(super) struct Shelf(Mutex<Mails>);

#[derive(Default)]
struct Mails {
    by_id: HashMap<MessageId, Outgoing>,
    bytes: usize,
}

impl Shelf {
    /// Puts a mail there, if there is room. It is taken away again when the returned guard is dropped before
    /// [`Shelved::keep`].
    pub(super) fn put(&self, id: MessageId, mail: Outgoing) -> Shelved<'_> {
        let mut mails = self.mails();
        if mails.bytes + mail.mime.len() <= SHELF_BYTES_MAX {
            mails.bytes += mail.mime.len();
            mails.by_id.insert(id, mail);
        }
        Shelved { shelf: self, id: Some(id) }
    }

    /// Takes a mail from the shelf.
    pub(super) fn take(&self, id: MessageId) -> Option<Outgoing> {
        let mut mails = self.mails();
        let mail = mails.by_id.remove(&id)?;
        mails.bytes -= mail.mime.len();
        Some(mail)
    }

    fn mails(&self) -> MutexGuard<'_, Mails> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A mail on the shelf whose rows are not written yet.
pub(super) struct Shelved<'s> {
    shelf: &'s Shelf,
    id: Option<MessageId>,
}

impl Shelved<'_> {
    /// The rows are written: the mail stays until its first attempt.
    pub(super) fn keep(mut self) {
        self.id = None;
    }
}

impl Drop for Shelved<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shelf.take(id);
        }
    }
}
