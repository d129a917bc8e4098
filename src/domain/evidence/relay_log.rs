//! A relay's log, read for what became of mails: Postfix's lines, as syslog or `journalctl` write them.
//!
//! ```text
//! … relay postfix/cleanup[12]: 4F2A91C2: message-id=<abc@demo.example>                    the mail has this queue id
//! … relay postfix/qmgr[9]: 4F2A91C2: from=<…>, size=1042, nrcpt=1 (queue active)           Postfix has taken it
//! … relay postfix/smtp[14]: 4F2A91C2: to=<…>, …, dsn=2.0.0, status=sent (250 2.0.0 Ok)     and sent it on
//! … relay postfix/qmgr[9]: 4F2A91C2: removed                                               the id may be given again
//! ```
//!
//! The first line alone proves nothing: it is written while the header comes in, and a mail whose end never came has it
//! too. The queue manager sees a mail only once it is on the relay's disk, and from then on the relay answers for it. So
//! that line, or one of what was done with the mail, is what counts.

use std::collections::HashMap;

use super::{Fate, Taken};
use crate::domain::ids::MessageId;
use crate::domain::reply::EnhancedCode;

/// Longest of a relay's own words that is kept.
const WORDS_CHARS_MAX: usize = 500;
/// Longer is no queue id of Postfix's.
const QUEUE_ID_BYTES_MAX: usize = 32;

/// A mail that is looked for.
#[derive(Debug)]
pub struct Wanted {
    /// The mail.
    pub id: MessageId,
    /// Its Message-ID with its angle brackets.
    pub message_id: String,
    /// A queue id that says nothing of it any more: it was sent again since.
    pub known_as: Option<String>,
}

/// One reading of a log: mails in, lines in, evidence out.
#[derive(Debug, Default)]
pub struct Scan {
    /// Mails that are looked for, by their Message-ID.
    wanted: HashMap<String, Wanted>,
    /// Those whose queue id was read, by it.
    seen: HashMap<String, MessageId>,
    found: HashMap<MessageId, Taken>,
}

impl Scan {
    /// Looks for these mails.
    pub fn new(wanted: impl IntoIterator<Item = Wanted>) -> Self {
        let wanted = wanted.into_iter().map(|wanted| (wanted.message_id.clone(), wanted));
        Self { wanted: wanted.collect(), ..Self::default() }
    }

    /// Reads one line. Lines come in the log's order; what is no line of Postfix's is passed over.
    pub fn read(&mut self, line: &[u8]) {
        let Some(Line { daemon, queue_id, says }) = Line::of(line) else { return };
        if daemon == "cleanup" {
            if let Some(message_id) = says.strip_prefix("message-id=") {
                match self.wanted.get(message_id.trim_end()) {
                    Some(wanted) if wanted.known_as.as_deref() != Some(queue_id) => {
                        self.seen.insert(queue_id.to_owned(), wanted.id);
                    }
                    // Another mail's from now on, or the same one's as it was sent before.
                    Some(_) | None => drop(self.seen.remove(queue_id)),
                }
            }
            return;
        }
        let Some(id) = self.seen.get(queue_id).copied() else { return };
        if says.trim_end() == "removed" {
            self.seen.remove(queue_id);
        } else if let Some(fate) = fate(says) {
            self.take(id, queue_id).fate = Some(fate);
        } else if matches!(daemon, "qmgr" | "nqmgr") && says.starts_with("from=<") {
            self.take(id, queue_id);
        }
    }

    fn take(&mut self, id: MessageId, queue_id: &str) -> &mut Taken {
        let taken = || Taken { queue_id: queue_id.to_owned(), fate: None };
        let known = self.found.entry(id).or_insert_with(taken);
        if known.queue_id != queue_id {
            // Sent twice, or handed on within the relay: the last counts.
            *known = taken();
        }
        known
    }

    /// The mails that the relay has taken.
    pub fn found(self) -> impl Iterator<Item = (MessageId, Taken)> {
        self.found.into_iter()
    }
}

/// A line that a Postfix program wrote about a mail in its queue.
struct Line<'l> {
    daemon: &'l str,
    queue_id: &'l str,
    says: &'l str,
}

impl<'l> Line<'l> {
    /// Of `… postfix/smtp[14]: 4F2A91C2: to=<…>`: the program's last name, the queue id, and the rest.
    fn of(line: &'l [u8]) -> Option<Self> {
        // Postfix writes nothing that is not printable ASCII; syslog may.
        let line = str::from_utf8(line).ok()?;
        let (before, after) = line.split_once("]: ")?;
        let (program, process) = before.rsplit_once('[')?;
        let (_, daemon) = program.rsplit(' ').next()?.rsplit_once('/')?;
        let (queue_id, says) = after.split_once(": ")?;
        let is_number = !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit());
        let is_id = (1..=QUEUE_ID_BYTES_MAX).contains(&queue_id.len())
            && queue_id.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && queue_id != "NOQUEUE";
        (is_number && is_id).then_some(Self { daemon, queue_id, says })
    }
}

/// Of `to=<…>, relay=…, delay=…, dsn=2.0.0, status=sent (250 2.0.0 Ok)`: what was done.
fn fate(says: &str) -> Option<Fate> {
    if !says.starts_with("to=<") {
        return None;
    }
    let (before, after) = says.split_once(", status=")?;
    let (status, words) = after.trim_end().split_once(' ').unwrap_or((after.trim_end(), ""));
    let is_word = !status.is_empty() && status.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
    let (_, dsn) = before.rsplit_once(", dsn=").unwrap_or_default();
    let words = words.strip_prefix('(').and_then(|words| words.strip_suffix(')')).unwrap_or(words);
    is_word.then(|| Fate {
        status: status.to_owned(),
        enhanced: EnhancedCode::leading(dsn),
        words: words.chars().take(WORDS_CHARS_MAX).collect(),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    const WANTED: &str = "<abc@demo.example>";

    fn id() -> MessageId {
        MessageId::from_uuid(Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0001))
    }

    fn wanted(known_as: Option<&str>) -> Wanted {
        Wanted { id: id(), message_id: WANTED.to_owned(), known_as: known_as.map(str::to_owned) }
    }

    fn read(lines: &str) -> Option<Taken> {
        let mut scan = Scan::new([wanted(None)]);
        lines.lines().for_each(|line| scan.read(line.trim_start().as_bytes()));
        scan.found().next().map(|(_, taken)| taken)
    }

    #[test]
    fn a_mail_that_the_queue_manager_has_seen_was_taken() {
        let taken = read(
            "Nov 26 17:00:00 relay postfix/smtpd[11]: 4F2A91C2: client=localhost[127.0.0.1]
             Nov 26 17:00:00 relay postfix/cleanup[12]: 4F2A91C2: message-id=<abc@demo.example>
             Nov 26 17:00:00 relay postfix/qmgr[9]: 4F2A91C2: from=<wallet@demo.example>, size=1042, nrcpt=1 (queue active)",
        );
        assert_eq!(taken, Some(Taken { queue_id: "4F2A91C2".to_owned(), fate: None }));
    }

    #[test]
    fn what_the_relay_did_with_it_is_read_too_and_the_last_word_counts() {
        let taken = read(
            "2026-11-26T17:00:00.1+01:00 relay postfix-out/cleanup[12]: 4bXyz1QrstzAbc: message-id=<abc@demo.example>
             2026-11-26T17:00:00.1+01:00 relay postfix-out/qmgr[9]: 4bXyz1QrstzAbc: from=<>, size=1, nrcpt=1 (queue active)
             2026-11-26T17:00:01.1+01:00 relay postfix-out/smtp[9]: 4bXyz1QrstzAbc: to=<ann@customer.example>, relay=mx[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=4.2.2, status=deferred (host mx said: 452 4.2.2 full (in reply to RCPT TO command))
             2026-11-26T17:09:01.1+01:00 relay postfix-out/smtp[9]: 4bXyz1QrstzAbc: to=<ann@customer.example>, relay=mx[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 99)
             2026-11-26T17:09:01.2+01:00 relay postfix-out/qmgr[9]: 4bXyz1QrstzAbc: removed",
        );
        let fate = taken.unwrap().fate.unwrap();
        assert_eq!((fate.status.as_str(), fate.words.as_str()), ("sent", "250 2.0.0 Ok: queued as 99"));
        assert_eq!(fate.enhanced.unwrap().to_string(), "2.0.0");
    }

    #[test]
    fn what_the_relay_had_before_it_was_sent_again_says_nothing_of_it() {
        let first = "x relay postfix/cleanup[12]: 4F: message-id=<abc@demo.example>
            x relay postfix/qmgr[9]: 4F: from=<a@b>, size=1, nrcpt=1 (queue active)";
        let second = first.replace("4F:", "5F:");
        let late = "x relay postfix/smtp[9]: 4F: to=<c@d>, dsn=2.0.0, status=sent (250 Ok)";
        for (lines, found) in [(first.to_owned(), None), (format!("{first}\n{second}\n{late}"), Some("5F".to_owned()))]
        {
            let mut scan = Scan::new([wanted(Some("4F"))]);
            lines.lines().for_each(|line| scan.read(line.trim_start().as_bytes()));
            assert_eq!(scan.found().next().map(|(_, taken)| taken.queue_id), found);
        }
    }

    #[test]
    fn a_mail_whose_end_never_came_or_was_refused_was_not_taken() {
        for lines in [
            "x relay postfix/cleanup[12]: 4F: message-id=<abc@demo.example>",
            "x relay postfix/cleanup[12]: 4F: message-id=<abc@demo.example>
             x relay postfix/cleanup[12]: 4F: reject: header Subject: x from localhost; from=<a@b> to=<c@d>: 5.7.1 no",
            "x relay postfix/cleanup[12]: 4F: message-id=<abc@demo.example>
             x relay postfix/cleanup[12]: 4F: milter-reject: END-OF-MESSAGE from localhost: 5.7.1 no; from=<a@b> to=<c@d>",
            // Another mail's, whatever it says.
            "x relay postfix/cleanup[12]: 4F: message-id=<other@demo.example>
             x relay postfix/qmgr[9]: 4F: from=<a@b>, size=1, nrcpt=1 (queue active)",
            "x relay postfix/cleanup[12]: 4F: message-id=<abc@demo.example>
             x relay postfix/qmgr[9]: 5F: from=<a@b>, size=1, nrcpt=1 (queue active)",
            "x relay postfix/cleanup[12]: 4F: resent-message-id=<abc@demo.example>
             x relay postfix/qmgr[9]: 4F: from=<a@b>, size=1, nrcpt=1 (queue active)",
            // The id was given to another since.
            "x relay postfix/cleanup[12]: 4F: message-id=<abc@demo.example>
             x relay postfix/cleanup[12]: 4F: message-id=<other@demo.example>
             x relay postfix/qmgr[9]: 4F: from=<a@b>, size=1, nrcpt=1 (queue active)",
            "x relay postfix/cleanup[12]: 4F: message-id=<abc@demo.example>
             x relay postfix/qmgr[9]: 4F: removed
             x relay postfix/qmgr[9]: 4F: from=<a@b>, size=1, nrcpt=1 (queue active)",
            // No program of Postfix's said so.
            "x relay cleanup[12]: 4F: message-id=<abc@demo.example>
             x relay qmgr[9]: 4F: from=<a@b>, size=1, nrcpt=1 (queue active)",
            "x relay postfix/cleanup[x]: 4F: message-id=<abc@demo.example>
             x relay postfix/qmgr[9]: 4F: from=<a@b>, size=1, nrcpt=1 (queue active)",
        ] {
            assert_eq!(read(lines), None, "{lines}");
        }
    }

    proptest! {
        #[test]
        fn no_line_can_break_the_reading(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..8)) {
            let mut scan = Scan::new([wanted(None)]);
            for line in &lines {
                scan.read(line);
            }
            prop_assert_eq!(scan.found().count(), 0);
        }

        #[test]
        fn nor_one_that_looks_like_postfix(tail in "[ -~]{0,60}", id in "[A-Za-z0-9]{0,40}") {
            let mut scan = Scan::new([wanted(None)]);
            scan.read(format!("x relay postfix/cleanup[12]: {id}: message-id={WANTED}").as_bytes());
            scan.read(format!("x relay postfix/smtp[12]: {id}: to=<{tail}").as_bytes());
            scan.read(format!("x relay postfix/smtp[12]: {id}: to=<a@b>, status={tail}").as_bytes());
            prop_assert!(scan.found().count() <= 1);
        }
    }
}
