//! What another drawing changes: mails that are new, that are gone, and that come at another time.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{Fate, Mail, Run};

/// What became of the mails of one run in another.
#[derive(Debug, Default)]
pub struct Changes {
    /// What is another, in the order of times.
    pub changed: Vec<Change>,
    /// Mails that are the same in both.
    pub same: u64,
}

/// One mail that is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was not sent, and is now.
    Added(Mail),
    /// It was sent, and is not now. The numbers are those of the run before.
    Removed(Mail),
    /// It is sent at another time than then.
    Moved(Mail, Timestamp),
}

impl Change {
    /// When: where it is gone, when it was.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        match self {
            Self::Added(mail) | Self::Removed(mail) | Self::Moved(mail, _) => mail.at,
        }
    }
}

/// By what a mail is known again: to whom, from which entry, which template, and of several of these the how-manieth.
type Key<'r> = (&'r str, Timestamp, &'r str, u32);

/// Compares mails sent `before` with those sent `now`.
#[must_use]
pub fn compare(before: &Run, now: &Run) -> Changes {
    let mut known: HashMap<Key<'_>, Mail> = keyed(before).collect();
    let mut changes = Changes::default();
    for (key, mail) in keyed(now) {
        match known.remove(&key) {
            None => changes.changed.push(Change::Added(mail)),
            Some(then) if then.at == mail.at => changes.same += 1,
            Some(then) => changes.changed.push(Change::Moved(mail, then.at)),
        }
    }
    changes.changed.extend(known.into_values().map(Change::Removed));
    let place = |change: &Change| match change {
        Change::Added(mail) | Change::Moved(mail, _) => (mail.at, now.customers.text(mail.customer), mail.step),
        Change::Removed(mail) => (mail.at, before.customers.text(mail.customer), mail.step),
    };
    changes.changed.sort_by(|one, other| place(one).cmp(&place(other)));
    changes
}

fn keyed(run: &Run) -> impl Iterator<Item = (Key<'_>, Mail)> {
    let mut counts: HashMap<(u32, Timestamp, u32), u32> = HashMap::new();
    run.mails.iter().filter(|mail| mail.fate == Fate::Sent).map(move |mail| {
        let count = counts.entry((mail.customer, mail.entered_at, mail.template)).or_default();
        *count += 1;
        let (customer, template) = (run.customers.text(mail.customer), run.templates.text(mail.template));
        ((customer, mail.entered_at, template, *count), *mail)
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    fn run(mails: &[(i64, &str, &str, Fate)]) -> Run {
        let mut run = Run::default();
        for (at, customer, template, fate) in mails {
            let (customer, template) = (run.customers.number(customer), run.templates.number(template));
            let at = Timestamp::from_second(*at).unwrap();
            run.mails.push(Mail { at, entered_at: Timestamp::UNIX_EPOCH, customer, step: 0, template, fate: *fate });
        }
        run
    }

    #[test]
    fn a_mail_is_the_same_moved_new_or_gone() {
        let before = run(&[
            (1, "ann", "welcome", Fate::Sent),
            (5, "ann", "tips", Fate::Sent),
            (6, "bob", "tips", Fate::Sent),
            (7, "cee", "tips", Fate::Capped),
            (8, "dan", "tips", Fate::Sent),
            (9, "dan", "tips", Fate::Sent),
        ]);
        let now = run(&[
            (4, "bob", "extra", Fate::Sent),
            (1, "ann", "welcome", Fate::Sent),
            (5, "ann", "tips", Fate::Capped),
            (8, "bob", "tips", Fate::Sent),
            (7, "cee", "tips", Fate::Sent),
            (8, "dan", "tips", Fate::Sent),
            (9, "dan", "tips", Fate::Sent),
        ]);
        let Changes { changed, same } = compare(&before, &now);
        let words: Vec<_> = changed
            .iter()
            .map(|change| match change {
                Change::Added(mail) => format!("+ {} {}", now.customers.text(mail.customer), mail.at.as_second()),
                Change::Removed(mail) => format!("- {} {}", before.customers.text(mail.customer), mail.at.as_second()),
                Change::Moved(mail, then) => {
                    format!("~ {} {} {}", now.customers.text(mail.customer), then.as_second(), mail.at.as_second())
                }
            })
            .collect();
        assert_eq!((words, same), (["+ bob 4", "- ann 5", "+ cee 7", "~ bob 6 8"].map(str::to_owned).to_vec(), 3));
    }
}
