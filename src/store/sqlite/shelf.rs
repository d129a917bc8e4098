//! Mails just accepted, kept in memory until their first attempt, so that most are never read back from the disk.
//!
//! Economy only: what is not here is read from its rows. A mail is put here before it is written, so that nobody can
//! look for it too early, and leaves with its first attempt; a content never changes in between. When the shelf is full
//! the newer mails go without, since the older ones are sent first; unless it was not empty for long: then what lies there
//! may be going nowhere, and all of it makes room.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::SqliteStore;
use super::content::{Packed, Pair};
use crate::domain::address::EmailAddress;
use crate::domain::ids::MessageId;
use crate::domain::message::{Entry, NewMessage};

/// What all mails on the shelf may take together.
const SHELF_BYTES_MAX: usize = 64 << 20;
/// Up to here they lie there as they are sent; beyond it compressed, so that several times as many find room.
const UNPACKED_BYTES_MAX: usize = 24 << 20;

/// Most addresses take no more.
const EMAIL_BYTES_LIKELY: usize = 64;
/// A shelf that is full and was not empty for so long is emptied.
const SHELF_TIME_MAX: Duration = Duration::from_mins(1);

/// See the module's text.
#[derive(Default)]
pub(super) struct Shelf(Mutex<Mails>);

/// What the first attempt needs.
pub(super) struct Mail {
    /// The return path.
    pub(super) envelope_sender: EmailAddress,
    /// The recipient.
    pub(super) recipient: EmailAddress,
    /// The content.
    pub(super) content: Shape,
}

/// A content, one way or the other.
pub(super) enum Shape {
    /// As it is sent.
    Mime(Vec<u8>),
    /// As it is stored.
    Packed(Packed),
}

impl Shape {
    /// The content as it is sent; `None` when it cannot be had.
    pub(super) fn into_mime(self) -> Option<Vec<u8>> {
        match self {
            Self::Mime(mime) => Some(mime),
            Self::Packed(packed) => packed.unpack().ok(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Mime(mime) => mime.capacity(),
            Self::Packed(packed) => packed.frame.capacity(),
        }
    }
}

#[derive(Default)]
struct Mails {
    by_id: HashMap<MessageId, Mail>,
    bytes: usize,
    /// Since when there is something.
    begun: Option<Instant>,
}

impl Shelf {
    /// Puts a mail there, if there is room. It is taken away again when the returned guard is dropped before
    /// [`Shelved::keep`].
    pub(super) fn put(&self, id: MessageId, mail: Mail) -> Shelved<'_> {
        let mut mails = self.mails();
        let bytes = mail.bytes();
        mails.make_room(bytes);
        if mails.bytes + bytes <= SHELF_BYTES_MAX {
            mails.bytes += bytes;
            mails.begun.get_or_insert_with(Instant::now);
            mails.by_id.insert(id, mail);
        }
        Shelved { shelf: self, id: Some(id) }
    }

    /// Whether there is room for so many bytes as they are.
    fn takes_unpacked(&self, bytes: usize) -> bool {
        self.mails().bytes + bytes <= UNPACKED_BYTES_MAX
    }

    /// Takes a mail from the shelf.
    pub(super) fn take(&self, id: MessageId) -> Option<Mail> {
        let mut mails = self.mails();
        let mail = mails.by_id.remove(&id)?;
        mails.bytes -= mail.bytes();
        if mails.by_id.is_empty() {
            mails.begun = None;
        }
        Some(mail)
    }

    fn mails(&self) -> MutexGuard<'_, Mails> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SqliteStore {
    /// Keeps a mail that may be sent at once in memory.
    pub(super) fn shelve(&self, message: &NewMessage, Pair { mime, packed }: Pair) -> (Option<Shelved<'_>>, Packed) {
        if message.entry != Entry::Queued || message.due_at > message.accepted_at || !packed.is_small() {
            return (None, packed);
        }
        let (envelope_sender, recipient) = (message.envelope_sender.clone(), message.recipient.address.clone());
        let content =
            if self.shelf.takes_unpacked(mime.capacity()) { Shape::Mime(mime) } else { Shape::Packed(packed.clone()) };
        (Some(self.shelf.put(message.id, Mail { envelope_sender, recipient, content })), packed)
    }
}

impl Mail {
    /// About what it takes in memory.
    fn bytes(&self) -> usize {
        size_of::<(MessageId, Self)>() + self.content.bytes() + 2 * EMAIL_BYTES_LIKELY
    }
}

impl Mails {
    fn make_room(&mut self, bytes: usize) {
        let is_full = self.bytes + bytes > SHELF_BYTES_MAX;
        if is_full && self.begun.is_some_and(|begun| begun.elapsed() > SHELF_TIME_MAX) {
            *self = Self::default();
        }
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    fn id(number: u128) -> MessageId {
        MessageId::from_uuid(uuid::Uuid::from_u128(number))
    }

    fn mail(bytes: usize) -> Mail {
        Mail {
            envelope_sender: "wallet@demo.example".parse().unwrap(),
            recipient: "ann@customer.example".parse().unwrap(),
            content: Shape::Mime(vec![0; bytes]),
        }
    }

    #[test]
    fn a_mail_whose_rows_were_not_written_leaves_nothing_behind() {
        let shelf = Shelf::default();
        shelf.put(id(1), mail(9)).keep();
        drop(shelf.put(id(2), mail(9)));
        assert!(shelf.take(id(2)).is_none());
        assert_eq!(shelf.take(id(1)).unwrap().content.into_mime().unwrap().len(), 9);
        let mails = shelf.mails();
        assert!(mails.by_id.is_empty() && mails.bytes == 0 && mails.begun.is_none());
    }

    #[test]
    fn a_full_shelf_keeps_the_older_mails_until_they_have_lain_for_too_long() {
        let shelf = Shelf::default();
        let third = SHELF_BYTES_MAX / 3;
        for number in 0..4 {
            shelf.put(id(number), mail(third)).keep();
        }
        assert!(shelf.mails().bytes <= SHELF_BYTES_MAX);
        assert_eq!([0, 1, 2, 3].map(|number| shelf.take(id(number)).is_some()), [true, true, false, false]);
        for number in 0..3 {
            shelf.put(id(number), mail(third)).keep();
        }
        let long_ago = Instant::now().checked_sub(SHELF_TIME_MAX * 2).unwrap();
        shelf.mails().begun = Some(long_ago);
        shelf.put(id(3), mail(third)).keep();
        assert_eq!([0, 1, 2, 3].map(|number| shelf.take(id(number)).is_some()), [false, false, false, true]);
        assert_eq!(shelf.mails().bytes, 0);
    }
}
