//! `queue list` and `show`: what there is.

use std::cmp::Reverse;

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::super::Done;
use super::super::output::{printable, table};
use super::Queue;
use super::filter::Filter;
use crate::domain::address::Mailbox;
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::message::{MessageView, Reason, Status};
use crate::domain::verb::{Verb, possible};
use crate::store::Leaf;

/// Mails in a list when nobody says how many.
const LIMIT_DEFAULT: u16 = 50;
/// Mails in a list at most.
const LIMIT_MAX: i64 = 10_000;
/// What stands where there is nothing to say.
pub(super) const NOTHING: &str = "-";

// --- list ---

#[derive(clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    filter: Filter,
    /// How many at most, 1 to 10000
    #[arg(long, value_name = "N", default_value_t = LIMIT_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=LIMIT_MAX))]
    limit: u16,
}

impl List {
    pub(super) async fn run(self, queue: &Queue<'_>) -> Done {
        let limit = usize::from(self.limit);
        let filter = self.filter.of_store(queue.context.clock.now(), limit);
        let mut messages = Vec::new();
        for tenant in queue.tenants(self.filter.tenant.as_ref()).await? {
            let page = queue.store.messages(&tenant, filter.clone()).await.context("reading the list")?;
            messages.extend(page.messages);
        }
        messages.sort_by_key(|message| Reverse((message.accepted_at, message.id)));
        messages.truncate(limit);
        queue.context.output.answer(&messages, |messages| {
            let rows: Vec<_> = messages.iter().map(row).collect();
            let headings =
                ["ID", "ACCEPTED", "TENANT", "LANE", "STATUS", "REASON", "RECIPIENT", "NEXT ATTEMPT", "ATTEMPTS"];
            let listed = table(headings, &rows);
            let more = if messages.len() == limit { "\nThere may be more: --limit N shows them." } else { "" };
            format!("{listed}{more}")
        })?;
        Ok(())
    }
}

fn row(message: &MessageView) -> [String; 9] {
    [
        message.id.to_string(),
        seconds(message.accepted_at),
        message.tenant.to_string(),
        message.lane.to_string(),
        message.status.to_string(),
        message.reason.map_or(NOTHING, Reason::as_str).to_owned(),
        address(&message.recipient),
        message.next_attempt_at.map_or_else(|| NOTHING.to_owned(), seconds),
        message.attempts.to_string(),
    ]
}

/// The address alone; names may be long.
fn address(recipient: &str) -> String {
    recipient.parse::<Mailbox>().map_or_else(|_| recipient.to_owned(), |mailbox| mailbox.address.as_str().to_owned())
}

pub(super) fn seconds(at: Timestamp) -> String {
    format!("{at:.0}")
}

// --- show ---

#[derive(clap::Args)]
pub(super) struct Show {
    /// The mail's id
    #[arg(value_name = "ID")]
    id: MessageId,
    /// Whose it is, when you know
    #[arg(long, value_name = "T")]
    tenant: Option<TenantId>,
}

/// A message with everything that happened to it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    message: MessageView,
    events: Vec<Value>,
}

impl Show {
    pub(super) async fn run(self, queue: &Queue<'_>) -> Done {
        for tenant in queue.tenants(self.tenant.as_ref()).await? {
            let Some(message) = queue.store.message(&tenant, self.id).await.context("reading the mail")? else {
                continue;
            };
            let leaves = queue.store.leaves(&tenant, self.id).await.context("reading its events")?;
            let events = leaves.unwrap_or_default().iter().map(event).collect::<Result<_, _>>()?;
            let now = queue.context.clock.now();
            queue.context.output.answer(&Shown { message, events }, |shown| for_people(shown, now))?;
            return Ok(());
        }
        Err(anyhow!("there is no message {}", self.id).into())
    }
}

fn event(leaf: &Leaf) -> anyhow::Result<Value> {
    serde_json::from_slice(&leaf.bytes).with_context(|| format!("event {} cannot be read", leaf.seq))
}

fn for_people(shown: &Shown, now: Timestamp) -> String {
    let Shown { message, events } = shown;
    let lines = facts(message, now);
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let facts: Vec<_> = lines
        .iter()
        .map(|(name, value)| format!("{name:width$}  {}", printable(value)).trim_end().to_owned())
        .collect();
    let rows: Vec<_> = events.iter().map(event_row).collect();
    format!("{}\n\n{}", facts.join("\n"), table(["AT", "EVENT", "BY", "FACTS"], &rows))
}

/// What is known of a message, the most pressing first; what is not there is left out.
fn facts(message: &MessageView, now: Timestamp) -> Vec<(&'static str, String)> {
    let relative = |at: Timestamp| relative(at, now);
    let reason = message.reason.map_or_else(String::new, |reason| format!(" ({})", reason.as_str()));
    let status = format!("{}{reason}", message.status);
    let doubt = "yes: an attempt is under way, or ended without a clear answer";
    let mut verbs = possible(message.status);
    if message.status == Status::Held && message.may_have_been_sent {
        verbs.push(Verb::Resolve.as_str());
    }
    let metadata: Vec<_> = message.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let optional = [
        ("May have gone out", message.may_have_been_sent.then(|| doubt.to_owned())),
        ("You can", Some(verbs.join(", ")).filter(|verbs| !verbs.is_empty())),
        ("Next attempt", message.next_attempt_at.map(relative)),
        ("Deadline", Some(relative(message.deliver_by))),
        ("Ended", message.ended_at.map(relative)),
        ("Attempts", Some(message.attempts.to_string())),
        ("Relay", message.relay.as_ref().map(ToString::to_string)),
        ("Relay said", message.relay_reply.clone()),
        ("Relay's queue id", message.relay_queue_id.clone()),
        ("Recipient", Some(message.recipient.clone())),
        ("Subject", Some(message.subject.clone())),
        ("Template", message.template.clone()),
        ("Lane", Some(message.lane.to_string())),
        ("Accepted", Some(relative(message.accepted_at))),
        ("Message-ID", Some(message.message_id.clone())),
        ("Tags", (!message.tags.is_empty()).then(|| message.tags.join(", "))),
        ("Metadata", (!metadata.is_empty()).then(|| metadata.join(", "))),
        ("Journey", message.journey.clone()),
    ];
    let mut lines = vec![("Id", message.id.to_string()), ("Tenant", message.tenant.to_string()), ("Status", status)];
    lines.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
    lines
}

/// An event in one line. Hashes say nothing to a person.
fn event_row(event: &Value) -> [String; 4] {
    const SHOWN_BEFORE: [&str; 9] =
        ["seq", "at", "kind", "actor", "tenant", "messageId", "recipient", "mimeHmac", "reportHmac"];
    let word = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let facts = event.as_object().into_iter().flatten().filter(|(name, _)| !SHOWN_BEFORE.contains(&name.as_str()));
    let facts = facts.map(|(name, value)| match value {
        Value::String(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    });
    [word("at"), word("kind"), word("actor"), facts.collect::<Vec<_>>().join("  ")]
}

/// A moment, and how far it is from now.
pub(super) fn relative(at: Timestamp, now: Timestamp) -> String {
    let told = if at > now { format!("in {}", age(now, at)) } else { format!("{} ago", age(at, now)) };
    format!("{}  ({told})", seconds(at))
}

/// The time between two moments in its two largest units.
pub(super) fn age(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    #[test]
    fn an_age_is_told_in_its_two_largest_units() {
        let from = Timestamp::UNIX_EPOCH;
        for (seconds, told) in [(0, "0s"), (59, "59s"), (61, "1m 1s"), (7_260, "2h 1m"), (90_000, "1d 1h")] {
            assert_eq!(age(from, Timestamp::from_second(seconds).unwrap()), told);
        }
        assert_eq!(age(Timestamp::from_second(5).unwrap(), from), "0s", "a clock that went back");
    }

    #[test]
    fn an_event_is_one_line_without_hashes() {
        let event = serde_json::json!({
            "seq": 7, "at": "2026-01-01T00:00:00.000Z", "kind": "held", "actor": "command:queue", "tenant": "demo",
            "messageId": "msg_1", "recipient": "00ff", "because": "a trial", "attempt": 2,
        });
        let row = event_row(&event);
        assert_eq!(row, ["2026-01-01T00:00:00.000Z", "held", "command:queue", "attempt=2  because=a trial"]);
    }
}
