//! The operator's verbs: what cancel, hold, release, retry and resolve make of a message, or why they may not.
//!
//! One total function decides ([`becomes`]); doors, work and store only carry its facts and its answer. What may have
//! been sent keeps saying so whatever is done with it, and is never called expired. Attempts spent stay spent.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use super::message::Status;
use super::submission::{AHEAD_MAX, FieldError};

/// Characters in an operator's own words.
pub const BECAUSE_CHARS_MAX: usize = 200;

/// What an operator wants done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// End it unsent.
    Cancel,
    /// Keep it back until it is released.
    Hold,
    /// Let what is held go on, not before the time it had.
    Release,
    /// Try it now.
    Retry {
        /// Its new deadline; what has ended needs one.
        deliver_by: Option<Timestamp>,
    },
    /// The relay has it, as the operator found out: end the doubt.
    Resolve,
}

impl Verb {
    /// A retry; a new deadline lies ahead, and at most [`AHEAD_MAX`].
    pub fn retry(deliver_by: Option<Timestamp>, now: Timestamp) -> Result<Self, FieldError> {
        let latest = now.checked_add(AHEAD_MAX).unwrap_or(Timestamp::MAX);
        let wrong = match deliver_by {
            Some(deliver_by) if deliver_by <= now => "already past",
            Some(deliver_by) if deliver_by > latest => "more than a year ahead",
            Some(_) | None => return Ok(Self::Retry { deliver_by }),
        };
        Err(FieldError::new("/deliverBy", wrong))
    }

    /// The word in URLs and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Retry { .. } => "retry",
            Self::Resolve => "resolve",
        }
    }

    /// Whether there can be a message in this state with which it may be done.
    #[must_use]
    pub fn applies_to(self, status: Status) -> bool {
        target(self, status).is_ok()
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a mail's content is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is.
    Here,
    /// It was kept long enough, or its recipient was erased.
    Gone,
}

/// What the rule must know of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Its state.
    pub status: Status,
    /// Whether an attempt is past its commit point and not settled.
    pub in_flight: bool,
    /// Whether an attempt ended without a definite answer.
    pub may_have_been_sent: bool,
    /// When it is, or was, due: kept while it is held.
    pub due_at: Option<Timestamp>,
    /// Its deadline.
    pub deliver_by: Timestamp,
    /// Whether another message has taken its fact since: one that ends unsent frees it.
    pub fact_taken: bool,
    /// Whether it could still be sent.
    pub content: Kept,
}

/// What the message becomes; what is not named here stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Becomes {
    /// Its state.
    pub status: Status,
    /// When it is due.
    pub due_at: Option<Timestamp>,
    /// Its deadline.
    pub deliver_by: Timestamp,
    /// When its deadline ends it; `None` when no deadline can.
    pub expires_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Whether it goes out although it may have been sent before: a further unknown is then held.
    pub resent: bool,
}

/// Why a verb may not be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// An attempt is past its commit point: only its end changes the message.
    InFlight,
    /// Not in this state.
    WrongState,
    /// Its deadline has passed, or it has ended: only a retry with a new deadline sends it.
    DeadlineNeeded,
    /// It has ended, and another message was accepted for its fact: this one would be a second.
    FactTaken,
    /// Its content was kept long enough and is gone, or its recipient was erased.
    ContentGone,
    /// No attempt of it ended in doubt: no relay can have it.
    NotInDoubt,
}

impl Refused {
    /// What an operator is told, and what is possible instead.
    #[must_use]
    pub fn detail(self, status: Status) -> String {
        let ended = !status.is_live();
        match self {
            Self::InFlight => {
                "an attempt is past its commit point: try again when it has ended (an attempt that a crash left behind \
                 ends when the gateway starts)"
                    .to_owned()
            }
            Self::FactTaken => format!("it is {status}, and another mail was accepted for its fact since"),
            Self::ContentGone => format!("it is {status}, and its content is gone: submit it again where it came from"),
            Self::NotInDoubt => format!("it is {status}, and no attempt of it ended in doubt: no relay can have it"),
            Self::DeadlineNeeded if ended => format!("it is {status}: a new deliverBy is needed to retry it"),
            Self::DeadlineNeeded => "its deadline has passed: retry it with a new deliverBy, or cancel it".to_owned(),
            Self::WrongState => match possible(status) {
                words if words.is_empty() => format!("it is {status}: nothing can be done with it any more"),
                words => format!("it is {status}: what can be done with it is {}", words.join(", ")),
            },
        }
    }
}

/// What can be done with a message in this state.
#[must_use]
pub fn possible(status: Status) -> Vec<&'static str> {
    let plain = [Verb::Cancel, Verb::Hold, Verb::Release, Verb::Retry { deliver_by: None }];
    let mut words: Vec<_> = plain.into_iter().filter(|verb| verb.applies_to(status)).map(Verb::as_str).collect();
    // What is held may be in doubt, or not.
    if status == Status::Unknown {
        words.push(Verb::Resolve.as_str());
    }
    if target(plain[3], status) == Err(Refused::DeadlineNeeded) {
        words.push("retry with a new deliverBy");
    }
    words
}

/// The state a verb leads to from another: the contract's table.
fn target(verb: Verb, status: Status) -> Result<Status, Refused> {
    match (verb, status) {
        (Verb::Cancel, Status::Queued | Status::Deferred | Status::Held | Status::Unknown) => Ok(Status::Cancelled),
        (Verb::Hold, Status::Queued | Status::Deferred | Status::Unknown) => Ok(Status::Held),
        (Verb::Release, Status::Held)
        | (Verb::Retry { .. }, Status::Queued | Status::Deferred | Status::Held | Status::Unknown)
        | (Verb::Retry { deliver_by: Some(_) }, Status::Bounced | Status::Expired) => Ok(Status::Queued),
        (Verb::Resolve, Status::Held | Status::Unknown) => Ok(Status::Relayed),
        (Verb::Retry { deliver_by: None }, Status::Bounced | Status::Expired) => Err(Refused::DeadlineNeeded),
        (Verb::Hold, Status::Held)
        | (Verb::Release, Status::Queued | Status::Deferred | Status::Unknown)
        | (Verb::Resolve, Status::Queued | Status::Deferred)
        | (Verb::Cancel | Verb::Hold | Verb::Release | Verb::Resolve, Status::Bounced | Status::Expired)
        | (_, Status::Relayed | Status::Delivered | Status::Suppressed | Status::Cancelled) => Err(Refused::WrongState),
    }
}

/// What a message becomes at `at` by an operator's verb, or why it stays as it is.
pub fn becomes(verb: Verb, facts: &Facts, at: Timestamp) -> Result<Becomes, Refused> {
    if facts.in_flight {
        return Err(Refused::InFlight);
    }
    let status = target(verb, facts.status)?;
    if facts.fact_taken && !facts.status.is_live() {
        return Err(Refused::FactTaken);
    }
    let unchanged =
        Becomes { status, due_at: None, deliver_by: facts.deliver_by, expires_at: None, ended_at: None, resent: false };
    let queued = |due_at, deliver_by| {
        if facts.content == Kept::Gone {
            return Err(Refused::ContentGone);
        }
        if deliver_by <= at {
            return Err(Refused::DeadlineNeeded);
        }
        let expires_at = Some(deliver_by);
        Ok(Becomes { due_at: Some(due_at), deliver_by, expires_at, resent: facts.may_have_been_sent, ..unchanged })
    };
    match verb {
        Verb::Resolve if !facts.may_have_been_sent => Err(Refused::NotInDoubt),
        Verb::Cancel | Verb::Resolve => Ok(Becomes { ended_at: Some(at), ..unchanged }),
        Verb::Hold => {
            // What an unknown is due for is its lane's decision, not an attempt.
            let due_at = facts.due_at.filter(|_| facts.status != Status::Unknown);
            let expires_at = (!facts.may_have_been_sent).then_some(facts.deliver_by);
            Ok(Becomes { due_at, expires_at, ..unchanged })
        }
        Verb::Release => queued(facts.due_at.map_or(at, |due_at| due_at.max(at)), facts.deliver_by),
        Verb::Retry { deliver_by } => queued(at, deliver_by.unwrap_or(facts.deliver_by)),
    }
}

/// An operator's own words for what they did. They stand in the audit for ever, so they hold no address and no link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Because(String);

impl Because {
    /// The words.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Because {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if !(1..=BECAUSE_CHARS_MAX).contains(&text.chars().count()) || text.chars().any(char::is_control) {
            return Err(format!("1 to {BECAUSE_CHARS_MAX} characters, without control characters"));
        }
        if text.contains('@') || text.contains("://") {
            return Err("no address and no link (no @, no ://): the audit keeps it for ever".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    /// Retry stands twice: without and with a new deadline.
    fn all_verbs() -> [Verb; 6] {
        let [retry, retry_anew] = [None, Some(at(500))].map(|deliver_by| Verb::Retry { deliver_by });
        [Verb::Cancel, Verb::Hold, Verb::Release, retry, retry_anew, Verb::Resolve]
    }

    fn facts(status: Status) -> Facts {
        let may_have_been_sent = matches!(status, Status::Unknown | Status::Held);
        Facts {
            status,
            in_flight: false,
            may_have_been_sent,
            due_at: Some(at(-5)),
            deliver_by: at(100),
            fact_taken: false,
            content: Kept::Here,
        }
    }

    /// The contract's table (section 3, operator verbs), cell by cell.
    fn contract(verb: Verb, status: Status) -> Result<Status, Refused> {
        use Status::*;
        let (cancel, hold, release, retry, retry_anew) = match status {
            Queued | Deferred | Unknown => (Some(Cancelled), Some(Held), None, Some(Queued), Some(Queued)),
            Held => (Some(Cancelled), None, Some(Queued), Some(Queued), Some(Queued)),
            Relayed | Delivered | Suppressed | Cancelled => (None, None, None, None, None),
            Bounced | Expired => (None, None, None, None, Some(Queued)),
        };
        let cell = match verb {
            Verb::Cancel => cancel,
            Verb::Hold => hold,
            Verb::Release => release,
            Verb::Retry { deliver_by: None } => retry,
            Verb::Retry { deliver_by: Some(_) } => retry_anew,
            Verb::Resolve => matches!(status, Held | Unknown).then_some(Relayed),
        };
        let needs_deadline = matches!(status, Bounced | Expired) && matches!(verb, Verb::Retry { .. });
        cell.ok_or(if needs_deadline { Refused::DeadlineNeeded } else { Refused::WrongState })
    }

    #[test]
    fn every_state_and_verb_and_attempt_is_as_the_contract_says() {
        for status in Status::ALL {
            for verb in all_verbs() {
                let expected = contract(verb, status);
                let became = becomes(verb, &facts(status), at(0));
                assert_eq!(became.map(|becomes| becomes.status), expected, "{verb:?} {status}");
                assert_eq!(verb.applies_to(status), expected.is_ok(), "{verb:?} {status}");
                let in_flight = Facts { in_flight: true, ..facts(status) };
                assert_eq!(becomes(verb, &in_flight, at(0)), Err(Refused::InFlight), "{verb:?} {status}");
            }
        }
    }

    #[test]
    fn whatever_becomes_of_a_message_its_row_makes_sense() {
        for status in Status::ALL {
            for verb in all_verbs() {
                for may_have_been_sent in [false, true] {
                    let facts = Facts { may_have_been_sent, ..facts(status) };
                    let Ok(became) = becomes(verb, &facts, at(0)) else { continue };
                    let queued = became.status == Status::Queued;
                    assert_eq!(became.ended_at.is_some(), !became.status.is_live(), "{verb:?} {status}");
                    assert_eq!(became.resent, queued && may_have_been_sent, "{verb:?} {status}");
                    let can_expire = queued || (became.status == Status::Held && !may_have_been_sent);
                    assert_eq!(became.expires_at, can_expire.then_some(became.deliver_by), "{verb:?} {status}");
                    let anew = verb == Verb::Retry { deliver_by: Some(at(500)) };
                    assert_eq!(became.deliver_by, if anew { at(500) } else { at(100) }, "{verb:?} {status}");
                    assert!(!queued || became.due_at >= Some(at(0)), "{verb:?} {status}");
                }
            }
        }
    }

    #[test]
    fn a_time_to_come_outlives_hold_and_release_and_a_retry_forgets_it() {
        let later = Facts { due_at: Some(at(50)), ..facts(Status::Queued) };
        let held = becomes(Verb::Hold, &later, at(0)).unwrap();
        assert_eq!(held.due_at, Some(at(50)));
        let held = Facts { status: held.status, due_at: held.due_at, ..later };
        assert_eq!(becomes(Verb::Release, &held, at(10)).unwrap().due_at, Some(at(50)));
        assert_eq!(becomes(Verb::Release, &held, at(60)).unwrap().due_at, Some(at(60)));
        assert_eq!(becomes(Verb::Retry { deliver_by: None }, &held, at(10)).unwrap().due_at, Some(at(10)));
        let by_policy = Facts { due_at: None, ..held };
        assert_eq!(becomes(Verb::Release, &by_policy, at(10)).unwrap().due_at, Some(at(10)));
        let unknown = Facts { due_at: Some(at(50)), ..facts(Status::Unknown) };
        assert_eq!(becomes(Verb::Hold, &unknown, at(0)).unwrap().due_at, None, "that was its decision's time");
    }

    #[test]
    fn what_is_past_its_deadline_is_sent_only_with_a_new_one() {
        let late = at(100);
        for status in [Status::Queued, Status::Deferred, Status::Held, Status::Unknown] {
            let facts = facts(status);
            let again = Verb::Retry { deliver_by: None };
            assert_eq!(becomes(again, &facts, late), Err(Refused::DeadlineNeeded), "{status}");
            assert_eq!(becomes(Verb::retry(Some(at(101)), late).unwrap(), &facts, late).unwrap().deliver_by, at(101));
            assert!(becomes(Verb::Cancel, &facts, late).is_ok(), "{status}");
        }
        assert_eq!(becomes(Verb::Release, &facts(Status::Held), late), Err(Refused::DeadlineNeeded));
    }

    #[test]
    fn what_has_no_content_any_more_is_not_sent() {
        let gone = Facts { content: Kept::Gone, ..facts(Status::Bounced) };
        let anew = Verb::Retry { deliver_by: Some(at(500)) };
        assert_eq!(becomes(anew, &gone, at(0)), Err(Refused::ContentGone));
        let held = Facts { content: Kept::Gone, ..facts(Status::Held) };
        assert_eq!(becomes(Verb::Release, &held, at(0)), Err(Refused::ContentGone));
        assert!(becomes(Verb::Cancel, &held, at(0)).is_ok());
    }

    #[test]
    fn only_what_is_in_doubt_can_be_resolved() {
        let held = Facts { may_have_been_sent: false, ..facts(Status::Held) };
        assert_eq!(becomes(Verb::Resolve, &held, at(0)), Err(Refused::NotInDoubt));
        let past = Facts { deliver_by: at(-100), ..facts(Status::Held) };
        assert_eq!(becomes(Verb::Resolve, &past, at(0)).unwrap().ended_at, Some(at(0)), "a deadline is no matter then");
    }

    #[test]
    fn what_has_ended_stays_so_when_another_mail_was_accepted_for_its_fact() {
        for status in Status::ALL {
            for verb in all_verbs() {
                let facts = facts(status);
                let taken = becomes(verb, &Facts { fact_taken: true, ..facts }, at(0));
                let free = becomes(verb, &facts, at(0));
                let again = free.is_ok() && !status.is_live();
                assert_eq!(taken, if again { Err(Refused::FactTaken) } else { free }, "{verb:?} {status}");
            }
        }
    }

    #[test]
    fn a_new_deadline_lies_ahead_and_within_a_year() {
        assert_eq!(Verb::retry(None, at(0)), Ok(Verb::Retry { deliver_by: None }));
        let year = 366 * 86_400;
        assert!(Verb::retry(Some(at(1)), at(0)).is_ok() && Verb::retry(Some(at(year)), at(0)).is_ok());
        for wrong in [at(-1), at(0), at(year + 1), Timestamp::MAX] {
            assert_eq!(Verb::retry(Some(wrong), at(0)).unwrap_err().pointer, "/deliverBy", "{wrong}");
        }
    }

    #[test]
    fn a_refusal_says_the_state_and_what_is_possible() {
        assert_eq!(
            Refused::WrongState.detail(Status::Held),
            "it is held: what can be done with it is cancel, release, retry"
        );
        assert_eq!(Refused::WrongState.detail(Status::Relayed), "it is relayed: nothing can be done with it any more");
        assert!(Refused::WrongState.detail(Status::Bounced).ends_with("is retry with a new deliverBy"));
        assert!(Refused::DeadlineNeeded.detail(Status::Expired).contains("a new deliverBy is needed"));
        assert!(Refused::DeadlineNeeded.detail(Status::Held).contains("a new deliverBy"));
    }

    #[test]
    fn an_operators_words_hold_no_address_and_no_link() {
        assert_eq!(" the shop's mistake ".parse::<Because>().unwrap().as_str(), "the shop's mistake");
        assert!("é".repeat(200).parse::<Because>().is_ok());
        let long = "x".repeat(201);
        for wrong in ["", "  ", "a\nb", "a\u{1b}[1mb", "ask ann@customer.example", "see https://x", &long] {
            assert!(wrong.parse::<Because>().is_err(), "{wrong:?}");
        }
    }
}
