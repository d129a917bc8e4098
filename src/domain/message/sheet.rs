//! Messages one to a line: for spreadsheets and for programs.

use std::str::FromStr;

use jiff::Timestamp;

use super::{MessageView, Reason};
use crate::domain::csv::{self, shown};
use crate::domain::time;

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// CSV (RFC 4180) with a head; texts from outside are guarded against formulas.
    Csv,
    /// A JSON object to a line, as a message is shown.
    Ndjson,
}

const HEAD: [&str; 21] = [
    "id",
    "tenant",
    "recipient",
    "template",
    "subject",
    "lane",
    "status",
    "reason",
    "mayHaveBeenSent",
    "attempts",
    "nextAttemptAt",
    "deliverBy",
    "acceptedAt",
    "endedAt",
    "relay",
    "relayReply",
    "relayQueueId",
    "messageId",
    "tags",
    "metadata",
    "journey",
];

impl Form {
    /// What stands before the first message.
    #[must_use]
    pub fn head(self) -> String {
        let mut text = String::new();
        if self == Self::Csv {
            csv::line(HEAD, &mut text);
        }
        text
    }

    /// Adds a message.
    pub fn write(self, message: &MessageView, text: &mut String) {
        match self {
            Self::Csv => csv::line(cells(message).iter().map(String::as_str), text),
            Self::Ndjson => {
                // Unwrap safety: texts, numbers and maps of texts; serialising these cannot fail.
                text.push_str(&serde_json::to_string(message).unwrap_or_default());
                text.push('\n');
            }
        }
    }
}

fn cells(message: &MessageView) -> [String; HEAD.len()] {
    let at = |at: Option<Timestamp>| at.map(time::text).unwrap_or_default();
    let text = |text: Option<&str>| text.map(shown).unwrap_or_default();
    [
        message.id.to_string(),
        message.tenant.to_string(),
        shown(&message.recipient),
        text(message.template.as_deref()),
        shown(&message.subject),
        message.lane.to_string(),
        message.status.to_string(),
        message.reason.map_or("", Reason::as_str).to_owned(),
        message.may_have_been_sent.to_string(),
        message.attempts.to_string(),
        at(message.next_attempt_at),
        time::text(message.deliver_by),
        time::text(message.accepted_at),
        at(message.ended_at),
        message.relay.as_ref().map(ToString::to_string).unwrap_or_default(),
        text(message.relay_reply.as_deref()),
        text(message.relay_queue_id.as_deref()),
        shown(&message.message_id),
        shown(&message.tags.join(" ")),
        shown(&serde_json::json!(message.metadata).to_string()),
        text(message.journey.as_deref()),
    ]
}

impl FromStr for Form {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "csv" => Ok(Self::Csv),
            "ndjson" => Ok(Self::Ndjson),
            _ => Err("csv or ndjson"),
        }
    }
}
