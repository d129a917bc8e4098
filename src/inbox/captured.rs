//! What the capture server took and counted: a bounded store in memory, shared by handle.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Notify;

use super::command::{MailParameters, Verb};

/// What is counted per mail beside its content, so that a store of tiny mails is bounded in bytes too.
const MAIL_OVERHEAD_BYTES: usize = 512;

/// One mail as it came over the wire.
#[derive(Debug, Clone)]
pub struct CapturedMail {
    /// The queue id of the reply `250 2.0.0 Ok: queued as …`; unique in this inbox.
    pub queue_id: String,
    /// The envelope sender; empty for a bounce.
    pub sender: String,
    /// The accepted envelope recipients, in the order they came.
    pub recipients: Vec<String>,
    /// What MAIL carried beside the sender.
    pub parameters: MailParameters,
    /// When the final dot had been read.
    pub received_at: Timestamp,
    /// Which session it came over, counted from 1.
    pub session: u64,
    /// Which of its session's mails it is, counted from 1.
    pub ordinal: u32,
    /// What the client called itself in EHLO or HELO.
    pub client_name: String,
    /// Whether the session was encrypted.
    pub encrypted: bool,
    /// The user the session was authenticated as.
    pub authenticated: Option<String>,
    /// What the recipient's name asked the server to do wrong.
    pub mischief: Option<String>,
    /// The content: dots un-stuffed (RFC 5321 section 4.5.2), every other byte as it came.
    pub raw: Vec<u8>,
}

impl CapturedMail {
    fn weight(&self) -> usize {
        let recipients: usize = self.recipients.iter().map(String::len).sum();
        MAIL_OVERHEAD_BYTES + self.raw.len() + self.sender.len() + recipients
    }
}

/// What the server has counted since it was bound. Commands are counted when they are read, refused or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Connections taken.
    pub connections: u64,
    /// Connections turned away with 421 because there were too many.
    pub connections_refused: u64,
    /// Sessions open now.
    pub sessions_open: u64,
    /// The most sessions ever open at once.
    pub sessions_peak: u64,
    /// Sessions that went over to TLS.
    pub tls_sessions: u64,
    /// Successful AUTHs.
    pub authentications: u64,
    /// MAIL commands.
    pub mail_commands: u64,
    /// RCPT commands.
    pub rcpt_commands: u64,
    /// DATA commands.
    pub data_commands: u64,
    /// RSET commands.
    pub rset_commands: u64,
    /// Lines that are no known command, over-long ones among them.
    pub unknown_commands: u64,
    /// Mails taken, those no longer kept among them.
    pub mails_taken: u64,
    /// Mails that left because newer ones needed their place.
    pub mails_evicted: u64,
}

/// A handle on what was captured; clones share it.
#[derive(Clone)]
pub struct Captured {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    messages_max: usize,
    bytes_max: usize,
    certificate_pem: Option<String>,
}

#[derive(Default)]
struct State {
    /// Oldest first.
    mails: VecDeque<Arc<CapturedMail>>,
    by_id: HashMap<String, Arc<CapturedMail>>,
    bytes: usize,
    counters: Counters,
    last_id: u64,
}

impl State {
    fn drop_oldest(&mut self) {
        if let Some(mail) = self.mails.pop_front() {
            self.bytes -= mail.weight();
            self.by_id.remove(&mail.queue_id);
            self.counters.mails_evicted += 1;
        }
    }
}

impl Captured {
    pub(crate) fn new(messages_max: usize, bytes_max: usize, certificate_pem: Option<String>) -> Self {
        let shared = Shared {
            state: Mutex::default(),
            changed: Notify::new(),
            messages_max: messages_max.max(1),
            bytes_max,
            certificate_pem,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The newest mails first, `limit` at most.
    #[must_use]
    pub fn list(&self, limit: usize) -> Vec<Arc<CapturedMail>> {
        self.state().mails.iter().rev().take(limit).cloned().collect()
    }

    /// How many mails are kept now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state().mails.len()
    }

    /// Whether no mail is kept now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The mail with this queue id, while it is kept.
    #[must_use]
    pub fn get(&self, queue_id: &str) -> Option<Arc<CapturedMail>> {
        self.state().by_id.get(queue_id).cloned()
    }

    /// The mails for one recipient (whatever the case of its letters), newest first.
    #[must_use]
    pub fn to(&self, recipient: &str) -> Vec<Arc<CapturedMail>> {
        let wanted = |mail: &&Arc<CapturedMail>| mail.recipients.iter().any(|one| one.eq_ignore_ascii_case(recipient));
        self.state().mails.iter().rev().filter(wanted).cloned().collect()
    }

    /// Forgets every mail; the counters go on.
    pub fn clear(&self) {
        {
            let mut state = self.state();
            state.mails.clear();
            state.by_id.clear();
            state.bytes = 0;
        }
        self.shared.changed.notify_waiters();
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.state().counters
    }

    /// The server's own certificate (PEM), for a client to trust; `None` without TLS.
    #[must_use]
    pub fn certificate_pem(&self) -> Option<&str> {
        self.shared.certificate_pem.as_deref()
    }

    /// Returns when `condition` holds; it is looked at again after every change. Bound it with a time-out.
    pub async fn wait_until(&self, mut condition: impl FnMut(&Self) -> bool) {
        loop {
            // Registered before the look, so that a change in between is not missed.
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if condition(self) {
                return;
            }
            changed.await;
        }
    }

    /// A queue id as Postfix makes them: five hexadecimal digits of the microseconds, then a number.
    pub(crate) fn next_queue_id(&self, now: Timestamp) -> String {
        let mut state = self.state();
        state.last_id += 1;
        format!("{:05X}{:05X}", now.subsec_microsecond(), state.last_id)
    }

    pub(crate) fn keep(&self, mail: CapturedMail) {
        {
            let mut state = self.state();
            let mail = Arc::new(mail);
            state.bytes += mail.weight();
            state.by_id.insert(mail.queue_id.clone(), Arc::clone(&mail));
            state.mails.push_back(mail);
            state.counters.mails_taken += 1;
            while state.mails.len() > self.shared.messages_max
                || (state.bytes > self.shared.bytes_max && state.mails.len() > 1)
            {
                state.drop_oldest();
            }
        }
        self.shared.changed.notify_waiters();
    }

    pub(super) fn count(&self, counted: impl FnOnce(&mut Counters)) {
        counted(&mut self.state().counters);
        self.shared.changed.notify_waiters();
    }

    pub(super) fn count_verb(&self, verb: Verb) {
        self.count(|counters| match verb {
            Verb::Mail => counters.mail_commands += 1,
            Verb::Rcpt => counters.rcpt_commands += 1,
            Verb::Data => counters.data_commands += 1,
            Verb::Rset => counters.rset_commands += 1,
            Verb::Unknown => counters.unknown_commands += 1,
            Verb::Other => {}
        });
    }

    /// Counts a session as open until the answer is dropped.
    pub(super) fn open_session(&self) -> OpenSession {
        let mut number = 0;
        self.count(|counters| {
            counters.connections += 1;
            counters.sessions_open += 1;
            counters.sessions_peak = counters.sessions_peak.max(counters.sessions_open);
            number = counters.connections;
        });
        OpenSession { captured: self.clone(), number }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Captured {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Captured").field("mails", &self.len()).finish_non_exhaustive()
    }
}

/// A session that is counted as open while this lives.
pub(super) struct OpenSession {
    captured: Captured,
    pub(super) number: u64,
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.captured.count(|counters| counters.sessions_open -= 1);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]

    use super::*;

    fn mail(captured: &Captured, bytes: usize) -> String {
        let queue_id = captured.next_queue_id(Timestamp::UNIX_EPOCH);
        captured.keep(CapturedMail {
            queue_id: queue_id.clone(),
            sender: String::new(),
            recipients: vec!["Ada@x.example".into()],
            parameters: MailParameters::default(),
            received_at: Timestamp::UNIX_EPOCH,
            session: 1,
            ordinal: 1,
            client_name: "test".into(),
            encrypted: false,
            authenticated: None,
            mischief: None,
            raw: vec![b'x'; bytes],
        });
        queue_id
    }

    #[test]
    fn the_oldest_leaves_when_there_are_too_many() {
        let captured = Captured::new(2, 1 << 20, None);
        let ids: Vec<_> = (0..3).map(|_| mail(&captured, 10)).collect();
        assert_eq!(
            captured.list(10).iter().map(|mail| mail.queue_id.clone()).collect::<Vec<_>>(),
            [&*ids[2], &*ids[1]]
        );
        assert!(captured.get(&ids[0]).is_none());
        assert_eq!(captured.counters().mails_taken, 3);
        assert_eq!(captured.counters().mails_evicted, 1);
    }

    #[test]
    fn the_oldest_leaves_when_the_bytes_are_too_many() {
        let captured = Captured::new(100, 5_000, None);
        let ids: Vec<_> = (0..3).map(|_| mail(&captured, 1_500)).collect();
        assert_eq!(captured.len(), 2);
        assert!(captured.get(&ids[0]).is_none());
        captured.clear();
        assert!(captured.is_empty() && captured.get(&ids[2]).is_none());
        assert_eq!(captured.counters().mails_taken, 3);
    }

    #[test]
    fn a_recipient_is_found_in_any_case() {
        let captured = Captured::new(10, 1 << 20, None);
        let id = mail(&captured, 1);
        assert_eq!(captured.to("ada@X.example").first().unwrap().queue_id, id);
        assert!(captured.to("da@x.example").is_empty());
    }
}
