//! What a simulation found, for people and for scripts: mails, days, totals, and what is another than before.

use std::io;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::app::simulation::compare::{Change, Changes};
use crate::app::simulation::{Day, Mail, Run, Trial};
use crate::cli::output::{Output, printable, table};
use crate::domain::journey::Drawn;
use crate::domain::journey::enrollment::{Ending, Status};
use crate::domain::time;

/// How customers are shown whose identifier is an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// `a…@example.com`.
    Masked,
    /// Whole.
    AsTheyAre,
}

/// Everything there is to tell.
pub(super) struct Simulated<'s> {
    pub(super) trial: &'s Trial,
    pub(super) times: (Timestamp, Timestamp),
    pub(super) run: &'s Run,
    /// What it is compared with.
    pub(super) before: Option<&'s Drawn>,
    /// How that went, if it is another.
    pub(super) run_before: Option<&'s Run>,
    pub(super) changes: Option<&'s Changes>,
    pub(super) shown: Shown,
    /// Mails, and changes, listed at most.
    pub(super) limit: usize,
}

/// How many changes there are of each kind.
#[derive(Default)]
struct Tally {
    added: u64,
    removed: u64,
    moved: u64,
}

impl Simulated<'_> {
    /// Writes it, in pieces: it may be long.
    pub(super) fn tell(&self, output: Output) -> io::Result<()> {
        if output.is_for_people() {
            return output.answer(&(), |()| self.text());
        }
        let head = self.head().to_string();
        output.piece(head.strip_suffix('}').unwrap_or(&head), "");
        output.piece(",\"mails\":[", "");
        for (index, mail) in self.run.mails.iter().take(self.limit).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            output.piece(&format!("{comma}{}", self.mail(self.run, mail)), "");
        }
        output.piece("],\"changes\":[", "");
        for (index, change) in self.changed().take(self.limit).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            output.piece(&format!("{comma}{}", self.change(change)), "");
        }
        output.piece("]}\n", "");
        Ok(())
    }

    fn head(&self) -> Value {
        let (run, journey) = (self.run, &self.trial.drawn.journey);
        let days = run.days.iter().map(|(day, Day { entered, sent, capped, suppressed })| {
            json!({ "day": day, "entered": entered, "sent": sent, "capped": capped, "suppressed": suppressed })
        });
        let sum = self.sum();
        let mut head = json!({
            "journey": journey.name,
            "tenant": journey.tenant,
            "version": self.trial.version(),
            "since": time::text(self.times.0),
            "events": run.events,
            "entered": run.funnel.entered,
            "sent": sum.sent,
            "capped": sum.capped,
            "suppressed": sum.suppressed,
            "inQuietHours": run.in_quiet_hours,
            "awaitedContact": run.awaited_contact,
            "limited": run.limited,
            "notMade": run.not_made,
            "skipped": self.outcome("skipped"),
            "byStatus": Status::ALL.map(|status| (status.as_str(), self.of(status)))
                .into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            "steps": run.funnel.steps,
            "days": days.collect::<Vec<_>>(),
            "against": self.before.map(|before| &before.version),
            "difference": Value::Null,
        });
        if self.times.1 != Timestamp::MAX {
            head["until"] = json!(time::text(self.times.1));
        }
        if let Some(changes) = self.changes {
            let Tally { added, removed, moved } = self.tally();
            head["difference"] = json!({ "added": added, "removed": removed, "moved": moved, "same": changes.same });
        }
        head
    }

    fn mail(&self, run: &Run, mail: &Mail) -> Value {
        json!({
            "at": time::text(mail.at),
            "customerId": self.customer(run, mail),
            "enteredAt": time::text(mail.entered_at),
            "step": mail.step,
            "template": run.templates.text(mail.template),
            "outcome": mail.fate.as_str(),
        })
    }

    fn change(&self, change: &Change) -> Value {
        let (word, run, mail, before) = self.parts(change);
        let mut shown = json!({
            "change": word,
            "at": time::text(mail.at),
            "customerId": self.customer(run, mail),
            "template": run.templates.text(mail.template),
        });
        if let Some(before) = before {
            shown["before"] = json!(time::text(before));
        }
        shown
    }

    /// The word for a change, the run its numbers are of, and when the mail was sent before.
    fn parts<'c>(&'c self, change: &'c Change) -> (&'static str, &'c Run, &'c Mail, Option<Timestamp>) {
        match change {
            Change::Added(mail) => ("added", self.run, mail, None),
            Change::Removed(mail) => ("removed", self.run_before.unwrap_or(self.run), mail, None),
            Change::Moved(mail, before) => ("moved", self.run, mail, Some(*before)),
        }
    }

    fn text(&self) -> String {
        let run = self.run;
        let mut parts = Vec::new();
        let mails: Vec<_> = run.mails.iter().take(self.limit).map(|mail| self.row(run, mail)).collect();
        if !mails.is_empty() {
            parts.push(table(["AT", "CUSTOMER", "STEP", "TEMPLATE", "OUTCOME"], &mails));
        }
        parts.extend(more(run.mails.len(), mails.len(), "mails"));
        let days: Vec<_> = run
            .days
            .iter()
            .map(|(day, Day { entered, sent, capped, suppressed })| {
                [day.to_string(), entered.to_string(), sent.to_string(), capped.to_string(), suppressed.to_string()]
            })
            .collect();
        if !days.is_empty() {
            parts.push(table(["DAY", "ENTERED", "SENT", "CAPPED", "SUPPRESSED"], &days));
        }
        parts.push(self.totals());
        parts.push(self.difference());
        parts.join("\n\n")
    }

    fn totals(&self) -> String {
        let (run, sum) = (self.run, self.sum());
        let live: u64 = Status::ALL.into_iter().filter(|status| status.is_live()).map(|status| self.of(status)).sum();
        let mut lines = vec![
            format!("Events           {}", run.events),
            format!("Entered          {}", run.funnel.entered),
            format!("Mails            {} sent, {} capped, {} suppressed", sum.sent, sum.capped, sum.suppressed),
            format!("Passed over      {} steps", self.outcome("skipped")),
            format!("Quiet hours      waited for {} times", run.in_quiet_hours),
            format!(
                "Awaited contact  {}, {} of them in vain",
                run.awaited_contact,
                self.of(Status::Ended(Ending::Unreachable))
            ),
            format!("Left early       {}", self.of(Status::Ended(Ending::Exited))),
        ];
        for (words, count) in [
            ("Held back        {} times: the recipient had as many mails of all kinds as they may", run.limited),
            ("Not made         {} times: look at the log, and at postern templates render", run.not_made),
            ("Still on the way {}", live),
        ] {
            if count > 0 {
                lines.push(words.replace("{}", &count.to_string()));
            }
        }
        lines.join("\n")
    }

    fn difference(&self) -> String {
        let (version, Some(before)) = (self.trial.version(), self.before) else {
            return "Nobody has entered this journey yet: there is nothing to compare with.".to_owned();
        };
        let Some(changes) = self.changes else {
            return format!("Version {version}, the one that runs: nothing would change.");
        };
        let Tally { added, removed, moved } = self.tally();
        let head = format!(
            "Version {version} against {}: {added} mails more, {removed} fewer, {moved} at another time, {} the same",
            before.version, changes.same
        );
        let rows: Vec<_> = self
            .changed()
            .take(self.limit)
            .map(|change| {
                let (word, run, mail, before) = self.parts(change);
                let [at, customer, _, template, _] = self.row(run, mail);
                [word.to_owned(), at, before.map_or_else(|| "-".to_owned(), moment), customer, template]
            })
            .collect();
        if rows.is_empty() {
            return head;
        }
        let listed = table(["CHANGE", "AT", "BEFORE", "CUSTOMER", "TEMPLATE"], &rows);
        let mut parts = vec![head, listed];
        parts.extend(more(changes.changed.len(), rows.len(), "changes"));
        parts.join("\n")
    }

    fn row(&self, run: &Run, mail: &Mail) -> [String; 5] {
        [
            moment(mail.at),
            self.customer(run, mail),
            mail.step.to_string(),
            run.templates.text(mail.template).to_owned(),
            mail.fate.as_str().to_owned(),
        ]
    }

    fn customer(&self, run: &Run, mail: &Mail) -> String {
        let customer = run.customers.text(mail.customer);
        match self.shown {
            Shown::AsTheyAre => printable(customer),
            Shown::Masked => printable(&masked(customer)),
        }
    }

    fn changed(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().flat_map(|changes| &changes.changed)
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for change in self.changed() {
            match change {
                Change::Added(_) => tally.added += 1,
                Change::Removed(_) => tally.removed += 1,
                Change::Moved(..) => tally.moved += 1,
            }
        }
        tally
    }

    fn sum(&self) -> Day {
        self.run.days.values().fold(Day::default(), |sum, day| Day {
            entered: sum.entered + day.entered,
            sent: sum.sent + day.sent,
            capped: sum.capped + day.capped,
            suppressed: sum.suppressed + day.suppressed,
        })
    }

    fn of(&self, status: Status) -> u64 {
        self.run.funnel.by_status.get(&status).copied().unwrap_or_default()
    }

    fn outcome(&self, outcome: &str) -> u64 {
        self.run.funnel.steps.iter().filter(|step| step.outcome == outcome).map(|step| step.count).sum()
    }
}

fn more(all: usize, listed: usize, what: &str) -> Option<String> {
    (all > listed).then(|| format!("{} more {what}: --limit lists them", all - listed))
}

fn moment(at: Timestamp) -> String {
    format!("{at:.0}")
}

/// The first letter and the domain of an address; anything else as it is.
fn masked(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((local, domain)) => {
            let first = local.chars().next().map(String::from).unwrap_or_default();
            format!("{first}\u{2026}@{domain}")
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_masked_and_an_identifier_is_not() {
        for (text, shown) in
            [("ann@b.example", "a\u{2026}@b.example"), ("C-17", "C-17"), ("@b", "\u{2026}@b"), ("", "")]
        {
            assert_eq!(masked(text), shown);
        }
    }
}
