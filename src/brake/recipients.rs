//! Who got how many near-identical mails in this window: hashes only, and a bounded number of them.
//!
//! Two mails of a stream are near-identical when subject and text are the same but for their digits. Most recipients get
//! one mail of a stream in a window, so the text is looked at from a recipient's second mail on: a mail of a campaign
//! costs two looks into a table, and what must be hashed is hashed between them. The hash is keyed by the process at
//! random, kept in memory only, and forgotten with its window.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, Hash as _, Hasher, RandomState};
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::brake::Stream;
use crate::domain::submission::Submission;

/// The recipients of one window.
pub(super) struct Recipients {
    hashing: Shaper,
    /// Mails by recipient, and near-identical mails by recipient and shape.
    counts: HashMap<u64, u32>,
    counts_max: usize,
    begun: Timestamp,
}

impl Recipients {
    /// Nobody got anything yet; at most `counts_max` are remembered.
    pub(super) fn new(counts_max: usize, now: Timestamp) -> Self {
        Self { hashing: Shaper(RandomState::new()), counts: HashMap::new(), counts_max, begun: now }
    }

    /// What finds the mail's shape, if its recipient got one before: worked out without keeping others waiting.
    pub(super) fn met(&self, stream: (&Stream, u32), mail: &Submission) -> Option<Shaper> {
        self.counts.contains_key(&self.hashing.person(stream, mail)).then(|| self.hashing.clone())
    }

    /// Counts a mail; how many near-identical ones its recipient got with it, and what was counted. `round` changes when
    /// the stream's counting begins anew. A `shape` that is not known is found where it is needed.
    pub(super) fn count(
        &mut self,
        stream: (&Stream, u32),
        mail: &Submission,
        shape: Option<u64>,
        (now, window): (Timestamp, Duration),
    ) -> (u32, Person) {
        if Duration::try_from(now.duration_since(self.begun)).map_or(true, |age| age >= window) {
            self.counts.clear();
            self.begun = now;
        }
        let person = self.hashing.person(stream, mail);
        let mails = self.one_more(person, 1);
        let begun = self.begun;
        if mails == 1 {
            return (1, Person { places: [Some(person), None], begun });
        }
        let shape = shape.unwrap_or_else(|| self.hashing.shape(mail));
        let alike = self.hashing.0.hash_one((person, shape));
        // The first one is taken to have been like the second.
        let seen = self.one_more(alike, if mails == 2 { 2 } else { 1 });
        (seen, Person { places: [Some(person), Some(alike)], begun })
    }

    /// A mail was counted and then not accepted.
    pub(super) fn take_back(&mut self, person: &Person) {
        if person.begun != self.begun {
            return;
        }
        for place in person.places.iter().flatten() {
            if let Entry::Occupied(mut count) = self.counts.entry(*place) {
                *count.get_mut() = count.get().saturating_sub(1);
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }

    /// Counts one more, beginning with `first`; what there is no room for is always the first.
    fn one_more(&mut self, place: u64, first: u32) -> u32 {
        if let Some(count) = self.counts.get_mut(&place) {
            *count = count.saturating_add(1);
            return *count;
        }
        if self.counts.len() < self.counts_max {
            self.counts.insert(place, first);
        }
        first
    }
}

/// Where a mail was counted.
#[derive(Debug)]
pub(super) struct Person {
    places: [Option<u64>; 2],
    /// In the window that began then.
    begun: Timestamp,
}

/// Hashes with the key of this process.
#[derive(Clone)]
pub(super) struct Shaper(RandomState);

impl Shaper {
    fn person(&self, (stream, round): (&Stream, u32), mail: &Submission) -> u64 {
        self.0.hash_one((stream, round, mail.recipient.address.normalized()))
    }

    /// What a mail looks like: its subject and text, each run of digits as one.
    pub(super) fn shape(&self, mail: &Submission) -> u64 {
        let mut hasher = self.0.build_hasher();
        for text in [Some(&mail.subject), mail.html.as_ref(), mail.text.as_ref()] {
            let text = text.map(String::as_str).unwrap_or_default();
            let mut parts = text.split(|c: char| c.is_ascii_digit());
            parts.next().unwrap_or_default().hash(&mut hasher);
            // Between two digits there is nothing.
            parts.filter(|part| !part.is_empty()).for_each(|part| part.hash(&mut hasher));
            hasher.write_u8(0);
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    const WINDOW: Duration = Duration::from_mins(1);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn stream() -> Stream {
        let key = crate::domain::ids::KeyId::from_uuid(uuid::Uuid::from_u128(7));
        Stream { tenant: "demo".parse().unwrap(), key, template: Some("welcome".into()) }
    }

    fn mail(recipient: &str, subject: &str, html: &str) -> Submission {
        Submission {
            recipient: recipient.parse().unwrap(),
            template: Some("welcome".into()),
            own: None,
            subject: subject.into(),
            html: Some(html.into()),
            text: None,
            from: None,
            reply_to: None,
            headers: Vec::new(),
            attachments: Vec::new(),
            lane: None,
            deadline: None,
            send_at: None,
            dedupe: None,
            unless: None,
            tags: Vec::new(),
            metadata: std::collections::BTreeMap::new(),
            data: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn mails_are_alike_when_they_differ_in_digits_only() {
        let hashing = Shaper(RandomState::new());
        let shape = |subject: &str, html: &str| hashing.shape(&mail("a@b.example", subject, html));
        let one = shape("Order 17", "<p>12.50 EUR, 3 pieces</p>");
        for (subject, html) in [("Order 4711", "<p>9.99 EUR, 12 pieces</p>"), ("Order 1", "<p>1.1 EUR, 1 pieces</p>")] {
            assert_eq!(shape(subject, html), one, "{subject}");
        }
        for (subject, html) in [
            ("Offer 17", "<p>12.50 EUR, 3 pieces</p>"),
            ("Order 17", "<p>12.50 USD, 3 pieces</p>"),
            ("Order 17<p>12", ".50 EUR, 3 pieces</p>"),
        ] {
            assert_ne!(shape(subject, html), one, "{subject}");
        }
    }

    #[test]
    fn each_recipient_stream_round_and_window_is_counted_for_itself() {
        let mut recipients = Recipients::new(100, at(0));
        let (stream, other) = (stream(), Stream { template: None, ..stream() });
        let mut count = |stream: &Stream, round, person: &str, seconds| {
            recipients.count((stream, round), &mail(person, "s", "x"), None, (at(seconds), WINDOW)).0
        };
        assert_eq!([0, 1, 2].map(|seconds| count(&stream, 0, "a@b.example", seconds)), [1, 2, 3]);
        assert_eq!(count(&stream, 0, "a@B.example", 3), 4);
        assert_eq!(count(&stream, 0, "c@b.example", 3), 1);
        assert_eq!(count(&other, 0, "a@b.example", 3), 1);
        assert_eq!(count(&stream, 1, "a@b.example", 3), 1);
        assert_eq!(count(&stream, 0, "a@b.example", 60), 1, "a new window");
        assert_eq!(count(&stream, 0, "a@b.example", 30), 1, "the clock went back");
    }

    #[test]
    fn what_is_taken_back_was_never_counted() {
        let mut recipients = Recipients::new(100, at(0));
        let count = |recipients: &mut Recipients, seconds| {
            recipients.count((&stream(), 0), &mail("a@b.example", "s", "x"), None, (at(seconds), WINDOW))
        };
        for accepted in 0..4 {
            for _ in 0..3 {
                let (seen, refused) = count(&mut recipients, 1);
                assert_eq!(seen, accepted + 1);
                recipients.take_back(&refused);
            }
            assert_eq!(recipients.counts.is_empty(), accepted == 0);
            count(&mut recipients, 1);
        }
        let (_, of_an_old_window) = count(&mut recipients, 59);
        assert_eq!(count(&mut recipients, 60).0, 1);
        recipients.take_back(&of_an_old_window);
        assert_eq!(count(&mut recipients, 61).0, 2);
    }

    #[test]
    fn only_what_is_alike_counts_together() {
        let mut recipients = Recipients::new(100, at(0));
        let subjects = ["One 1", "One 2", "Two", "One 3", "Two"];
        let counts = subjects.map(|subject| {
            let mail = mail("a@b.example", subject, "x");
            let shape = recipients.met((&stream(), 0), &mail).map(|shaper| shaper.shape(&mail));
            recipients.count((&stream(), 0), &mail, shape, (at(1), WINDOW)).0
        });
        assert_eq!(counts, [1, 2, 1, 3, 2]);
    }

    #[test]
    fn however_many_recipients_there_are_they_take_no_more_room_than_is_set() {
        let mut recipients = Recipients::new(1_000, at(0));
        for number in 0..20_000 {
            let person = format!("user{number}@b.example");
            assert_eq!(recipients.count((&stream(), 0), &mail(&person, "s", "x"), None, (at(1), WINDOW)).0, 1);
        }
        assert_eq!(recipients.counts.len(), 1_000);
    }
}
