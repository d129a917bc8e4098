//! `queue hold`, `release`, `cancel`, `retry` and `resolve`: by ids, or by a filter after a count and a yes.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Notify;

use super::super::output::complain;
use super::super::{Done, Failure};
use super::Queue;
use super::filter::Filter;
use crate::domain::audit::Actor;
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::message::Status;
use crate::domain::quantity::HumanDuration;
use crate::domain::verb::{Because, Refused, Verb};
use crate::steering::{Interrupted, Steering, Tally, Word};
use crate::store::{MessageFilter, Steered};

/// What is read of an answer to a question.
const ANSWER_BYTES_MAX: u64 = 64;

/// Which mails, and why.
#[derive(clap::Args)]
pub(super) struct Which {
    /// Mails by their ids, whosesoever they are
    #[arg(value_name = "ID")]
    ids: Vec<MessageId>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Why, for the audit: at most 200 characters, no address, no link
    #[arg(long, value_name = "TEXT")]
    because: Option<Because>,
    // Behind the others: its heading holds for what follows.
    #[command(flatten)]
    filter: Filter,
    /// Every mail there is
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

#[derive(clap::Args)]
pub(super) struct Retry {
    /// A new deadline, as in 2026-01-31T09:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "deliver_within")]
    deliver_by: Option<Timestamp>,
    /// A new deadline so far ahead: 15m, 2h, 1d
    #[arg(long, value_name = "TIME")]
    deliver_within: Option<HumanDuration>,
    #[command(flatten)]
    which: Which,
}

impl Retry {
    pub(super) fn check(&self) -> Done {
        self.which.check()
    }

    pub(super) async fn run(self, queue: &Queue<'_>) -> Done {
        let now = queue.context.clock.now();
        let within = self.deliver_within.map(|within| now.checked_add(within.0).unwrap_or(Timestamp::MAX));
        let option = if within.is_some() { "--deliver-within" } else { "--deliver-by" };
        let verb = Verb::retry(self.deliver_by.or(within), now)
            .map_err(|error| Failure::Usage(format!("{option}: {}", error.detail)))?;
        self.which.run(queue, verb).await
    }
}

/// What was done; `messages` when ids were given.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    verb: &'static str,
    matched: u64,
    done: u64,
    in_flight: u64,
    refused: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<One>>,
}

/// What became of one message.
#[derive(Serialize)]
struct One {
    id: MessageId,
    outcome: Outcome,
    /// The state it is in.
    status: Option<Status>,
    /// Why it was not done.
    detail: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Done,
    InFlight,
    WrongState,
    NotFound,
    Failed,
}

impl Which {
    /// Exactly one of ids, filter and `--all`.
    pub(super) fn check(&self) -> Done {
        if self.ids.is_empty() && self.filter.is_empty() && !self.all {
            return Err(Failure::Usage("which mails? Give ids, a filter, or --all".to_owned()));
        }
        if !self.ids.is_empty() && !self.filter.asks_only_for_a_tenant() {
            return Err(Failure::Usage("give ids or a filter, not both".to_owned()));
        }
        Ok(())
    }

    pub(super) async fn run(self, queue: &Queue<'_>, verb: Verb) -> Done {
        // Nobody waits in this process: the gateway looks for itself.
        let wake = Arc::new(Notify::new());
        let steering = Steering::new(Arc::clone(&queue.store), Arc::clone(&queue.context.clock), wake);
        if matches!(verb, Verb::Release | Verb::Retry { .. }) {
            for tenant in queue.tenants(self.filter.tenant.as_ref()).await? {
                if !queue.config.tenants.contains_key(&tenant) {
                    complain(&format!("note: {tenant} is not in the configuration: its mails wait until it is"));
                }
            }
        }
        if self.ids.is_empty() {
            self.by_filter(queue, &steering, verb).await
        } else {
            self.by_ids(queue, &steering, verb).await
        }
    }

    fn word(&self) -> Word {
        Word { actor: Actor::Command("queue"), because: self.because.clone() }
    }

    // --- by ids ---

    async fn by_ids(self, queue: &Queue<'_>, steering: &Steering, verb: Verb) -> Done {
        let tenants = queue.tenants(self.filter.tenant.as_ref()).await?;
        let mut messages: Vec<One> = Vec::new();
        for id in &self.ids {
            if messages.iter().any(|known| known.id == *id) {
                continue;
            }
            let one = self.one(steering, &tenants, *id, verb).await;
            let failed = one.outcome == Outcome::Failed;
            messages.push(one);
            if failed {
                break;
            }
        }
        let count = |outcome| messages.iter().filter(|one| one.outcome == outcome).count() as u64;
        let (done, in_flight) = (count(Outcome::Done), count(Outcome::InFlight));
        let (matched, refused) = (messages.len() as u64 - count(Outcome::NotFound), count(Outcome::WrongState));
        let answer = Answer { verb: verb.as_str(), matched, done, in_flight, refused, messages: Some(messages) };
        let messages = answer.messages.as_deref().unwrap_or_default();
        queue.context.output.answer(&answer, |_| {
            let done = messages.iter().filter(|one| one.outcome == Outcome::Done);
            let line = |one: &One| format!("{}  {}", one.id, one.status.map_or("", Status::as_str));
            done.map(line).collect::<Vec<_>>().join("\n")
        })?;
        for one in messages {
            if let Some(detail) = &one.detail {
                complain(&format!("error: {}: {detail}", one.id));
            }
        }
        if messages.iter().all(|one| one.outcome == Outcome::Done) { Ok(()) } else { Err(Failure::Said(1)) }
    }

    /// Steers one message of whichever tenant has it.
    async fn one(&self, steering: &Steering, tenants: &[TenantId], id: MessageId, verb: Verb) -> One {
        for tenant in tenants {
            match steering.steer(tenant, id, verb, self.word()).await {
                Ok(Steered::NoMessage) => {}
                Ok(Steered::Done(message)) => {
                    return One { id, outcome: Outcome::Done, status: Some(message.status), detail: None };
                }
                Ok(Steered::Refused { why, status }) => {
                    let outcome = match why {
                        Refused::InFlight => Outcome::InFlight,
                        Refused::WrongState
                        | Refused::DeadlineNeeded
                        | Refused::FactTaken
                        | Refused::ContentGone
                        | Refused::NotInDoubt => Outcome::WrongState,
                    };
                    return One { id, outcome, status: Some(status), detail: Some(in_words(why, status)) };
                }
                Err(error) => {
                    return One { id, outcome: Outcome::Failed, status: None, detail: Some(error.to_string()) };
                }
            }
        }
        One { id, outcome: Outcome::NotFound, status: None, detail: Some("there is no such message".to_owned()) }
    }

    // --- by filter ---

    async fn by_filter(self, queue: &Queue<'_>, steering: &Steering, verb: Verb) -> Done {
        let asked_at = queue.context.clock.now();
        let mut filter = self.filter.of_store(asked_at, 1);
        filter.until = Some(filter.until.map_or(asked_at, |until| until.min(asked_at)));
        let tenants = queue.tenants(self.filter.tenant.as_ref()).await?;
        let counts = count(queue, &tenants, &filter).await?;
        let matched: u64 = counts.values().sum();
        let can: u64 = counts.iter().filter(|(status, _)| verb.applies_to(**status)).map(|(_, count)| count).sum();
        if can > 0 && !self.yes {
            complain(&question(verb, matched, can, &counts));
            confirm()?;
        }
        let tally = if can > 0 { self.each_tenant(steering, &tenants, &filter, verb).await? } else { Tally::default() };
        let Tally { done, in_flight, refused: _ } = tally;
        // Whatever was counted and not done, in whichever way it was passed over.
        let refused = matched.saturating_sub(done + in_flight);
        let answer = Answer { verb: verb.as_str(), matched, done, in_flight, refused, messages: None };
        queue.context.output.answer(&answer, |answer| {
            let Answer { matched, done, in_flight, refused, .. } = answer;
            format!("Matched    {matched}\nDone       {done}\nIn flight  {in_flight}\nRefused    {refused}")
        })?;
        // A script must not take a mail that is on its way for one that was stopped.
        if in_flight > 0 { Err(Failure::Said(1)) } else { Ok(()) }
    }

    async fn each_tenant(
        &self,
        steering: &Steering,
        tenants: &[TenantId],
        filter: &MessageFilter,
        verb: Verb,
    ) -> Result<Tally, Failure> {
        let mut sum = Tally::default();
        for tenant in tenants {
            let steered = steering.steer_matching(tenant, filter.clone(), verb, self.word()).await;
            let (tally, failed) = match steered {
                Ok(tally) => (tally, None),
                Err(Interrupted { tally, source }) => (tally, Some(source)),
            };
            sum.done += tally.done;
            sum.in_flight += tally.in_flight;
            sum.refused += tally.refused;
            if let Some(source) = failed {
                let stopped = format!("{verb} stopped: {} are done and stay so; the others are as they were", sum.done);
                return Err(anyhow::Error::new(source).context(stopped).into());
            }
        }
        Ok(sum)
    }
}

/// A refusal in the command's own words.
fn in_words(why: Refused, status: Status) -> String {
    why.detail(status).replace("a new deliverBy", "--deliver-within or --deliver-by")
}

async fn count(
    queue: &Queue<'_>,
    tenants: &[TenantId],
    filter: &MessageFilter,
) -> Result<BTreeMap<Status, u64>, Failure> {
    let mut counts = BTreeMap::new();
    for tenant in tenants {
        let counted = queue.store.count(tenant, filter.clone()).await.context("counting")?;
        for (status, count) in counted {
            *counts.entry(status).or_default() += count;
        }
    }
    Ok(counts)
}

/// What would happen.
fn question(verb: Verb, matched: u64, can: u64, counts: &BTreeMap<Status, u64>) -> String {
    let parts: Vec<_> = counts.iter().map(|(status, count)| format!("{count} {status}")).collect();
    let would = match verb {
        Verb::Cancel => "would end unsent",
        Verb::Hold => "would be held",
        Verb::Release => "would be released",
        Verb::Retry { .. } => "would be tried at once",
        Verb::Resolve => "would be called relayed, if they may have been sent",
    };
    let others = match matched - can {
        0 => String::new(),
        others => format!(" {others} would stay as they are."),
    };
    format!("{matched} mails match: {}.\n{can} of them {would}.{others}", parts.join(", "))
}

/// Asks at a terminal; elsewhere only `--yes` will do.
pub(in crate::cli) fn confirm() -> Done {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::Usage("nothing was changed: there is nobody to ask; say --yes".to_owned()));
    }
    complain("Type yes to go on:");
    let mut answer = String::new();
    stdin.lock().take(ANSWER_BYTES_MAX).read_line(&mut answer).context("reading the answer")?;
    if answer.trim() == "yes" {
        Ok(())
    } else {
        Err(anyhow::anyhow!("nothing was changed: you did not say yes").into())
    }
}
