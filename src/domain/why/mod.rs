//! Why a mail stands where it stands: facts in, a list of decisions out.
//!
//! One pure function ([`decisions`]) judges what the store keeps of a mail, what the configuration says, and what a
//! running gateway knows besides (`live`). Its answer is for an operator at three in the morning: each rule that holds
//! the mail or ended it, its numbers, until when, and what must change. What it says in words never holds an address or
//! a relay's own text; those stand with the message.

mod cause;
mod condition;
pub mod live;
mod replies;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::cause::{Cause, cause, with_brake};
use self::replies::{reply_words, with_reply};
use super::address::Mailbox;
use super::brake::BrakedBy;
use super::ids::{MessageId, RelayName, TenantId};
use super::lane::{Lane, UnknownPolicy};
use super::message::{MessageView, Reason, Status};
use super::rules::Rules;
use super::time;
use super::unless::Condition;

/// With so many seconds left, a deadline is worth a thought even before it binds.
const DEADLINE_NEAR: i64 = 300;
const LATER_DEADLINE: &str = "A later deadline: postern queue retry ID --deliver-within 2h. It is tried at once.";

/// What the store keeps of a message, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The message.
    pub message: MessageView,
    /// The recipient's domain as A-labels.
    pub domain: String,
    /// When it is tried, or decided if it is unknown.
    pub due_at: Option<Timestamp>,
    /// Whether it was already sent once more after it was unknown.
    pub resent: bool,
    /// Its attempt past the commit point, if there is one.
    pub under_way: Option<UnderWay>,
    /// The last time somebody steered it.
    pub word: Option<Word>,
    /// The brake that holds it, or has ended it.
    pub brake: Option<BrakedBy>,
    /// When it is no longer wanted, and how that stands.
    pub condition: Option<Condition>,
    /// Of a live one: why its recipient may not be mailed, as things stand.
    pub suppressed: Option<Reason>,
}

/// An attempt past its commit point and not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderWay {
    /// The relay that has, or gets, the mail.
    pub relay: RelayName,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// When it passed the commit point.
    pub committed_at: Timestamp,
}

/// Who steered a message last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// When.
    pub at: Timestamp,
    /// As named in the audit.
    pub actor: String,
    /// In their own words.
    pub because: Option<String>,
}

/// What a decision does to the mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Force {
    /// It keeps the mail where it is now.
    Binds,
    /// It does not yet; it comes next.
    Next,
    /// It ended the mail.
    Ended,
}

/// One rule and what it says of one mail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// The rule's name.
    pub rule: String,
    /// Whether it holds the mail now.
    pub status: Force,
    /// Its numbers, and the names of what they are about.
    pub numbers: BTreeMap<String, Value>,
    /// When the mail is tried, or the rule asked, next; `None`: not by the clock.
    #[serde(serialize_with = "time::write_or_null")]
    pub until: Option<Timestamp>,
    /// What must change.
    pub must_change: String,
    /// All of it in words.
    pub text: String,
}

impl Decision {
    fn new(rule: &str, status: Force, text: impl Into<String>) -> Self {
        let (numbers, must_change) = (BTreeMap::new(), String::new());
        Self { rule: rule.to_owned(), status, numbers, until: None, must_change, text: text.into() }
    }

    fn number(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.numbers.insert(name.to_owned(), value.into());
        self
    }

    fn until(mut self, until: Option<Timestamp>) -> Self {
        self.until = until;
        self
    }

    fn must(mut self, what: impl Into<String>) -> Self {
        self.must_change = what.into();
        self
    }
}

/// What is known beside the store.
#[derive(Debug, Clone, Copy)]
pub enum Gateway<'a> {
    /// A gateway runs, and says that this binds the mail.
    Running(&'a [Decision]),
    /// One runs, and does not answer.
    Silent,
    /// None runs.
    Absent,
}

/// The whole answer about one mail.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The mail.
    pub id: MessageId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its lane.
    pub lane: Lane,
    /// Where it stands.
    pub status: Status,
    /// Why, when the state alone does not say it.
    pub reason: Option<Reason>,
    /// Attempts spent.
    pub attempts: u32,
    /// When it is tried next.
    #[serde(serialize_with = "time::write_or_null")]
    pub next_attempt_at: Option<Timestamp>,
    /// Its deadline.
    #[serde(serialize_with = "time::write")]
    pub deliver_by: Timestamp,
    /// When all this was so.
    #[serde(serialize_with = "time::write")]
    pub at: Timestamp,
    /// Each rule that holds it or ended it, what binds first.
    pub decisions: Vec<Decision>,
}

impl Explanation {
    /// Of a mail at `now`.
    #[must_use]
    pub fn of(stored: &Stored, rules: &Rules, gateway: Gateway<'_>, now: Timestamp) -> Self {
        let MessageView { id, ref tenant, lane, status, reason, attempts, next_attempt_at, deliver_by, .. } =
            stored.message;
        let mut decisions = decisions(stored, rules, gateway, now);
        for decision in &mut decisions {
            decision.must_change = decision.must_change.replace(" ID", &format!(" {id}"));
        }
        let tenant = tenant.clone();
        Self { id, tenant, lane, status, reason, attempts, next_attempt_at, deliver_by, at: now, decisions }
    }
}

/// Each rule that holds a mail at `now`, or ended it; what binds comes first.
#[must_use]
pub fn decisions(stored: &Stored, rules: &Rules, gateway: Gateway<'_>, now: Timestamp) -> Vec<Decision> {
    let mut decisions = match stored.message.status {
        Status::Queued | Status::Deferred => waiting(stored, rules, gateway, now),
        Status::Held => vec![held(stored)],
        Status::Unknown => vec![unknown(stored, rules)],
        Status::Relayed
        | Status::Delivered
        | Status::Bounced
        | Status::Expired
        | Status::Suppressed
        | Status::Cancelled => vec![ended(stored)],
    };
    if stored.message.status.is_live() && stored.under_way.is_none() {
        decisions.extend(deadline(stored, now));
        decisions.extend(stored.condition.as_ref().map(condition::decision));
        decisions.extend(stored.suppressed.map(condition::suppressed));
    }
    if stored.message.status.is_live() {
        decisions.extend(no_gateway(gateway));
    }
    for decision in &mut decisions {
        decision.must_change = harmless(std::mem::take(&mut decision.must_change), &stored.message, now);
    }
    decisions.sort_by_key(|decision| decision.status != Force::Binds);
    decisions
}

/// A command an operator copies does this mail no harm: it never brings its deadline forward, and never sends twice what
/// may have been sent without their knowing.
fn harmless(must: String, message: &MessageView, now: Timestamp) -> String {
    let within = format!("retry ID --deliver-within {}", longer_than_left(message, now));
    let must = match (must.contains("--deliver-within"), message.deliver_by <= now) {
        (true, _) => must.replace("retry ID --deliver-within 2h", &within),
        // Without a new one it would be refused.
        (false, true) => must.replace("retry ID", &within).replace("release ID", &within),
        (false, false) => must,
    };
    let sends = must.contains("queue retry") || must.contains("queue release");
    if sends && message.may_have_been_sent && !must.contains("Message-ID") {
        return format!("Look for its Message-ID in the relay's log: if it is there, let it be. Not there: {must}");
    }
    must
}

/// Two hours, or more than what is left until the deadline.
fn longer_than_left(message: &MessageView, now: Timestamp) -> String {
    format!("{}h", (seconds(now, message.deliver_by) / 3_600 + 1).max(2))
}

fn waiting(stored: &Stored, rules: &Rules, gateway: Gateway<'_>, now: Timestamp) -> Vec<Decision> {
    if let Some(under_way) = &stored.under_way {
        return vec![in_flight(under_way, gateway, now)];
    }
    let message = &stored.message;
    let Some(tenant) = rules.tenants.get(&message.tenant) else {
        let text = "Its tenant is not in the configuration: it is not tried, and will be held.";
        let must = "Put the tenant's file back and reload the gateway (SIGHUP), or cancel the mail.";
        return vec![Decision::new("not-configured", Force::Binds, text).must(must)];
    };
    let is_due = stored.due_at.is_some_and(|due_at| due_at <= now);
    let mut decisions = Vec::new();
    if !is_due {
        decisions.push(not_before(stored, rules));
    }
    let allowed = message.recipient.parse::<Mailbox>().is_ok_and(|to| tenant.allows_recipient(&to.address));
    if !allowed {
        let text =
            "The tenant's recipients_allowed does not list the recipient: at its next attempt it ends suppressed.";
        let must = "Add the recipient or its domain to recipients_allowed and reload, if it is to be sent.";
        decisions.push(Decision::new("recipients-allowed", Force::Next, text).must(must));
    }
    match gateway {
        Gateway::Running([]) if is_due => decisions.push(in_turn(stored)),
        Gateway::Running(live) if is_due => decisions.extend_from_slice(live),
        // What would bind it now may be gone when its time comes; its place in the queue says nothing yet.
        Gateway::Running(live) => {
            let later = live.iter().filter(|decision| !matches!(decision.rule.as_str(), "not-seen" | "in-window"));
            decisions.extend(later.map(|decision| Decision { status: Force::Next, ..decision.clone() }));
        }
        Gateway::Silent | Gateway::Absent => {}
    }
    decisions
}

fn no_gateway(gateway: Gateway<'_>) -> Option<Decision> {
    let (text, must) = match gateway {
        Gateway::Running(_) => return None,
        Gateway::Silent => (
            "A gateway runs on this store, but does not answer: its limits are not known.",
            "Look at its log and at the load of the machine.",
        ),
        Gateway::Absent => ("No gateway runs on this store: nothing is sent.", "Start it: postern serve."),
    };
    Some(Decision::new("gateway", Force::Binds, text).must(must))
}

/// Nothing holds it back: it is one of those that go next.
fn in_turn(stored: &Stored) -> Decision {
    let lane = stored.message.lane;
    let text = format!("It is due, and no limit holds it back: it waits for its turn in the lane {lane}.");
    Decision::new("turn", Force::Binds, text)
        .number("lane", lane.as_str())
        .must("Nothing, if this passes within seconds. Else look at queue summary: how many wait in this lane.")
}

fn in_flight(under_way: &UnderWay, gateway: Gateway<'_>, now: Timestamp) -> Decision {
    let UnderWay { relay, attempt, committed_at } = under_way;
    let since = seconds(*committed_at, now);
    let (text, must) = match gateway {
        Gateway::Running(_) | Gateway::Silent => (
            format!("Attempt {attempt} is under way at the relay {relay} since {since} s: it waits for the answer."),
            "Nothing: it ends with the relay's answer, or when the relay's data_timeout is over.",
        ),
        Gateway::Absent => (
            format!(
                "Attempt {attempt} at the relay {relay} was under way when the gateway ended: the relay may have it."
            ),
            "Start the gateway: it will be unknown then, and decided by its lane's on_unknown.",
        ),
    };
    Decision::new("in-flight", Force::Binds, text)
        .number("relay", relay.as_str())
        .number("attempt", *attempt)
        .number("seconds", since)
        .must(must)
}

/// It is not due yet: a time to come was asked for, or its last attempt failed.
fn not_before(stored: &Stored, rules: &Rules) -> Decision {
    let message = &stored.message;
    let when = stored.due_at.map_or_else(|| "never, by the clock".to_owned(), time::text);
    if message.status == Status::Queued {
        let text = format!("It is to be sent at {when}, not before.");
        let must = "The time must come; or have it tried now: postern queue retry ID.";
        return Decision::new("send-at", Force::Binds, text).until(stored.due_at).must(must);
    }
    let Cause { rule, what, must_change } = cause(message.status, message.reason);
    let delays = rules.retry_of(message.lane);
    let delay = delays.get(usize::try_from(message.attempts).unwrap_or(usize::MAX).saturating_sub(1)).or(delays.last());
    let attempts = message.attempts;
    let said = reply_words(stored);
    let text = format!("{what}{said}. It is tried again at {when}; attempts so far: {attempts}.");
    let decision = with_reply(Decision::new(rule, Force::Binds, text), stored).number("attempts", attempts);
    // The table's delay; the time itself is spread by a fifth.
    decision.number("delaySeconds", delay.map_or(0, Duration::as_secs)).until(stored.due_at).must(must_change)
}

fn held(stored: &Stored) -> Decision {
    let Cause { rule, what, must_change } = cause(stored.message.status, stored.message.reason);
    let by = stored.word.as_ref().map_or_else(String::new, |word| {
        let because = word.because.as_ref().map_or_else(String::new, |because| format!(": “{because}”"));
        format!(", by {} at {}{because}", word.actor, time::text(word.at))
    });
    let mut decision = Decision::new(rule, Force::Binds, format!("{what}{by}.")).must(must_change);
    if let Some(word) = &stored.word {
        decision = decision.number("by", word.actor.as_str());
    }
    if let Some(because) = stored.word.as_ref().and_then(|word| word.because.as_deref()) {
        decision = decision.number("because", because);
    }
    with_brake(decision, stored.brake)
}

fn unknown(stored: &Stored, rules: &Rules) -> Decision {
    let message = &stored.message;
    let Cause { what, must_change, .. } = cause(message.status, message.reason);
    let when = stored.due_at.map_or_else(|| "the next round".to_owned(), time::text);
    let late = stored.due_at.is_some_and(|due_at| due_at >= message.deliver_by);
    let (policy, then) = match rules.lanes.get(message.lane).on_unknown {
        UnknownPolicy::Hold => ("hold", "it is held for you (the lane's on_unknown)"),
        UnknownPolicy::ResendOnce if late => ("resend-once", "it is held for you: its deadline is over then"),
        UnknownPolicy::ResendOnce if stored.resent => {
            ("resend-once", "it is held for you: it was sent once more already")
        }
        UnknownPolicy::ResendOnce => ("resend-once", "it is sent once more (the lane's on_unknown)"),
    };
    let unless = if rules.reads_relay_logs { ", unless the relay's log says before that it was taken" } else { "" };
    let text = format!("{what}: the relay may have it. At {when} {then}{unless}.");
    let decision = Decision::new("on-unknown", Force::Binds, text).number("policy", policy);
    decision.number("attempts", message.attempts).until(stored.due_at).must(must_change)
}

fn ended(stored: &Stored) -> Decision {
    let message = &stored.message;
    let Cause { rule, what, must_change } = cause(message.status, message.reason);
    let by = stored.word.as_ref().filter(|_| message.status == Status::Cancelled);
    let by = by.map_or_else(String::new, |word| format!(", by {}", word.actor));
    let doubt = if message.may_have_been_sent { " It may have gone out nevertheless." } else { "" };
    let said = if message.status == Status::Bounced { reply_words(stored) } else { String::new() };
    let text = format!("{what}{by}{said}.{doubt}");
    let decision = with_reply(Decision::new(rule, Force::Ended, text), stored).number("attempts", message.attempts);
    with_brake(decision.must(must_change), stored.brake)
}

/// The deadline, and whether the next attempt would come too late for it.
fn deadline(stored: &Stored, now: Timestamp) -> Option<Decision> {
    let message = &stored.message;
    let (deliver_by, at) = (message.deliver_by, time::text(message.deliver_by));
    let left = seconds(now, deliver_by);
    let waits = matches!(message.status, Status::Queued | Status::Deferred);
    let is_too_late = waits && stored.due_at.is_some_and(|due_at| due_at >= deliver_by);
    let waits_for_send_at = message.status == Status::Queued && stored.due_at.is_some_and(|due_at| due_at > now);
    let must = match (waits_for_send_at, is_too_late) {
        (true, true) => "A later deadline: cancel it and submit it again. A retry would send it at once.",
        (false, true) => LATER_DEADLINE,
        (false, false) if waits && left <= DEADLINE_NEAR => LATER_DEADLINE,
        // A retry would send what waits for its time or is held.
        (_, false) => "Nothing.",
    };
    let decision = |force, text| {
        Some(Decision::new("deadline", force, text).number("secondsLeft", left).until(Some(deliver_by)).must(must))
    };
    if message.may_have_been_sent {
        // Never called expired: it stays as it is, or is held.
        return decision(
            Force::Next,
            format!("Its deadline is {at}. Past it it is not sent, but stays for you to decide."),
        );
    }
    if is_too_late {
        return decision(
            Force::Binds,
            format!("Its deadline, {at}, comes before its next attempt: it will expire unsent."),
        );
    }
    decision(Force::Next, format!("Its deadline is {at}: past it it ends as expired, unsent."))
}

/// Whole seconds from one moment to another; none when it lies before.
fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.duration_since(from).as_secs().max(0)
}
