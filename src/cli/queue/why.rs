//! `queue why`: each rule that holds a mail or ended it, as the running gateway says it, or else as the store does.

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::output::{complain, printable};
use super::super::{Done, Failure};
use super::look::relative;
use super::{Queue, Told};
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::why::{Decision, Explanation, Force, Gateway};
use crate::hatch::Question;

/// No line is longer.
const TEXT_COLUMNS: usize = 100;

#[derive(clap::Args)]
pub(super) struct Why {
    /// The mail's id
    #[arg(value_name = "ID")]
    id: MessageId,
    /// Whose it is, when you know
    #[arg(long, value_name = "T")]
    tenant: Option<TenantId>,
}

impl Why {
    pub(super) async fn run(self, queue: &Queue<'_>) -> Done {
        for tenant in queue.tenants(self.tenant.as_ref()).await? {
            if let Some(explanation) = self.explain(queue, &tenant).await? {
                let now = queue.context.clock.now();
                queue.context.output.answer(&explanation, |explanation| for_people(explanation, now))?;
                return Ok(());
            }
        }
        Err(anyhow!("there is no message {}", self.id).into())
    }

    /// What the gateway says. Without one, or when it says nothing, the command judges what the store keeps.
    async fn explain(&self, queue: &Queue<'_>, tenant: &TenantId) -> Result<Option<Value>, Failure> {
        let Some(stored) = queue.store.stored(tenant, self.id).await.context("reading the mail")? else {
            return Ok(None);
        };
        let question = Question::Why { tenant: tenant.clone(), id: self.id.to_string() };
        let gateway = match queue.ask(&question).await? {
            Told::Answer(answer) => return Ok(Some(answer).filter(|answer| !answer.is_null())),
            Told::NoGateway => Gateway::Absent,
            Told::Silent(error) => {
                complain(&format!("The gateway does not answer ({error}); this is what the store says."));
                Gateway::Silent
            }
        };
        let now = queue.context.clock.now();
        Ok(Some(json!(Explanation::of(&stored, &queue.config.rules(), gateway, now))))
    }
}

fn for_people(explanation: &Value, now: Timestamp) -> String {
    let word = |name: &str| explanation[name].as_str().unwrap_or_default();
    let reason = explanation["reason"].as_str().map_or_else(String::new, |reason| format!(" ({reason})"));
    let first = format!("{}  {}{reason}  {}  {}", word("id"), word("status"), word("tenant"), word("lane"));
    let decisions: Vec<Decision> = serde_json::from_value(explanation["decisions"].clone()).unwrap_or_default();
    let told = decisions.iter().map(|decision| told(decision, now));
    std::iter::once(first).chain(told).collect::<Vec<_>>().join("\n\n")
}

/// One decision in a few lines.
fn told(decision: &Decision, now: Timestamp) -> String {
    let force = match decision.status {
        Force::Binds => "BINDS",
        Force::Next => "NEXT",
        Force::Ended => "ENDED",
    };
    let mut lines = vec![format!("{force:5}  {}", decision.rule)];
    lines.extend(folded(&printable(&decision.text)));
    if let Some(until) = decision.until {
        lines.push(format!("       Until: {}", relative(until, now)));
    }
    lines.extend(folded(&format!("To do: {}", printable(&decision.must_change))));
    lines.join("\n")
}

/// A text in lines that fit a terminal, under the rule's name.
fn folded(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= TEXT_COLUMNS => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(format!("       {word}")),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_folded_between_words() {
        let lines = folded(&"word ".repeat(60));
        assert!(lines.len() > 2 && lines.iter().all(|line| line.len() <= TEXT_COLUMNS && line.starts_with("       ")));
        assert_eq!(lines.iter().map(|line| line.split_whitespace().count()).sum::<usize>(), 60);
    }
}
