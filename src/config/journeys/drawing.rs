//! What a journey's file means, and what in it cannot be meant: steps that do nothing, that nobody reaches, that never are.

use std::collections::{BTreeMap, BTreeSet};

use super::written::{ConditionFile, DateFile, JourneyFile, StepFile, UntilFile, WhenFile};
use crate::config::Problems;
use crate::domain::ids::{JourneyName, TenantId};
use crate::domain::journey::rule::{Condition, When, plain};
use crate::domain::journey::{Action, AtDate, Journey, STEPS_MAX, Step, Trigger};
use crate::domain::quantity::HumanDuration;

/// One file, being looked through.
pub(super) struct Sheet<'s> {
    pub(super) file: &'s str,
    /// What is wrong with it, what was found when it was read included.
    pub(super) problems: &'s mut Problems,
    /// The tenants there are.
    pub(super) tenants: &'s BTreeSet<TenantId>,
    /// The templates it names, each with its key.
    pub(super) sends: Vec<(String, String)>,
}

impl Sheet<'_> {
    /// The journey, as far as anything can be made of it; the problems say whether it may be used.
    pub(super) fn draw(&mut self, name: Option<JourneyName>, written: JourneyFile) -> Option<Journey> {
        if written.tenant.is_none() {
            self.say_unless_told("tenant", "is missing");
        }
        if let Some(tenant) = written.tenant.as_ref().filter(|tenant| !self.tenants.contains(*tenant)) {
            self.say("tenant", format!("there is no tenant {tenant}"));
        }
        if written.trigger.is_none() {
            let words = Trigger::ALL.map(Trigger::as_str).join(", ");
            self.say_unless_told("trigger", &format!("is missing: write one of {words}"));
        }
        if let Some(trigger) = written.trigger.filter(|trigger| written.exit_on.contains(trigger)) {
            self.say("exit_on", format!("{trigger} begins this journey: it cannot end it, too"));
        }
        let when = self.when(written.when);
        let steps = self.steps(written.step, &when);
        Some(Journey {
            name: name?,
            tenant: written.tenant?,
            trigger: written.trigger?,
            entry: written.entry,
            exit_on: written.exit_on.into_iter().collect(),
            quiet_hours: written.quiet_hours,
            contact_within: written.contact_within,
            when,
            steps,
        })
    }

    fn when(&mut self, written: WhenFile) -> When {
        When {
            pass_type: self.words("when.pass_type", written.pass_type),
            device: written.device.wallet(),
            medium: self.words("when.medium", written.medium),
            origin_contains: self.words("when.origin_contains", written.origin_contains),
            tags_any: self.words("when.tags_any", written.tags_any),
        }
    }

    fn steps(&mut self, written: Vec<StepFile>, when: &When) -> Vec<Step> {
        // One that is no table at all was taken out: the places of the others would be wrong.
        if self.problems.iter().any(|problem| is_place(&problem.key)) {
            return Vec::new();
        }
        if written.is_empty() {
            self.say_unless_told("step", "is missing: write at least one [[step]]");
        } else if written.len() > STEPS_MAX {
            self.say(&format!("step[{STEPS_MAX}]"), format!("there are more than {STEPS_MAX} steps"));
        } else if written.iter().all(|step| step.send.is_none()) && !self.is_told("step") {
            self.say("step", "no step sends anything");
        }
        let mut steps = Vec::new();
        let mut end: Option<usize> = None;
        for (index, step) in written.into_iter().take(STEPS_MAX).enumerate() {
            let key = format!("step[{index}]");
            if let Some(end) = end.filter(|end| end + 1 == index) {
                self.say(&key, format!("is never reached: step[{end}] ends it for everybody"));
            }
            if let Some(step) = self.step(&key, step, when) {
                let ends_all = step.action == Action::Stop && step.only_if.is_none() && step.unless.is_none();
                end = end.or(ends_all.then_some(index));
                steps.push(step);
            }
        }
        steps
    }

    fn step(&mut self, key: &str, written: StepFile, when: &When) -> Option<Step> {
        let mut condition = |name: &str, written: Option<ConditionFile>| {
            written.map(|written| self.condition(&format!("{key}.{name}"), written, when))
        };
        let (only_if, unless) = (condition("if", written.only_if), condition("unless", written.unless));
        if only_if.is_some() && only_if == unless && !self.is_told(key) {
            self.say(key, "is never taken: if and unless ask for the same");
        }
        let mut actions = Vec::new();
        if let Some(template) = written.send {
            self.sends.push((format!("{key}.send"), template.clone()));
            actions.push(("send", Action::Send { template }));
        }
        if let Some(length) = written.wait {
            if length.0.is_zero() {
                self.say(&format!("{key}.wait"), "must be more than 0s");
            }
            actions.push(("wait", Action::Wait(length)));
        }
        match written.wait_until {
            None => {}
            Some(UntilFile::Time(time)) => actions.push(("wait_until", Action::WaitUntil(time))),
            Some(UntilFile::Date(date)) => {
                actions.push(("wait_until", Action::WaitForDate(self.date(&format!("{key}.wait_until"), date))));
            }
        }
        if let Some(stops) = written.stop {
            if !stops {
                self.say(&format!("{key}.stop"), "must be true, or not be there");
            }
            actions.push(("stop", Action::Stop));
        }
        if actions.len() > 1 {
            let names: Vec<_> = actions.iter().map(|(name, _)| *name).collect();
            self.say(key, format!("does more than one thing ({}): write a step for each", names.join(", ")));
        }
        let Some((_, action)) = actions.pop() else {
            self.say_unless_told(key, "does nothing: write send, wait, wait_until or stop");
            return None;
        };
        Some(Step { action, only_if, unless })
    }

    fn date(&mut self, key: &str, written: DateFile) -> AtDate {
        let field = written.field.unwrap_or_default();
        if field.trim().is_empty() {
            self.say_unless_told(
                &format!("{key}.field"),
                "is missing: the pass's identifier, or the contact's field, with a date",
            );
        }
        if written.before.is_some() && written.after.is_some() {
            self.say(key, "write before or after, not both");
        }
        let mut some = |name: &str, length: Option<HumanDuration>| {
            if length.is_some_and(|length| length.0.is_zero()) {
                self.say(&format!("{key}.{name}"), "must be more than 0s, or not be there");
            }
            length
        };
        AtDate { before: some("before", written.before), after: some("after", written.after), field, at: written.at }
    }

    fn condition(&mut self, key: &str, written: ConditionFile, when: &When) -> Condition {
        let within = |name: &str| format!("{key}.{name}");
        let mut contact = BTreeMap::new();
        for (field, values) in written.contact {
            let values: BTreeSet<String> = values.iter().map(|scalar| plain(&scalar.0)).collect();
            if values.is_empty() && !self.is_told(&within("contact")) {
                self.say(&within("contact"), format!("{field}: name at least one value"));
            }
            contact.insert(field, values);
        }
        let condition = Condition {
            wallet_status: written.wallet_status.into_iter().collect(),
            device: written.device.wallet(),
            pass_type: self.words(&within("pass_type"), written.pass_type),
            tags_any: self.words(&within("tags_any"), written.tags_any),
            medium: self.words(&within("medium"), written.medium),
            contact,
        };
        if condition.is_empty() {
            self.say_unless_told(key, "asks for nothing");
        }
        // Who is in it entered as [when] says: of these things only what is in both can ever hold.
        let never = [
            ("device", when.device.zip(condition.device).is_some_and(|(of_all, asked)| of_all != asked)),
            ("pass_type", share_nothing(&when.pass_type, &condition.pass_type)),
            ("medium", share_nothing(&when.medium, &condition.medium)),
        ];
        for (name, never) in never {
            if never {
                self.say(&within(name), format!("never holds: when.{name} lets none of that in"));
            }
        }
        condition
    }

    /// The words of a list, none of which may be empty.
    fn words(&mut self, key: &str, written: Vec<String>) -> BTreeSet<String> {
        if written.iter().any(|word| word.trim().is_empty()) {
            self.say(key, "holds an empty text");
        }
        written.into_iter().collect()
    }

    pub(super) fn say(&mut self, key: &str, detail: impl Into<String>) {
        self.problems.add(self.file, key, detail);
    }

    fn say_unless_told(&mut self, key: &str, detail: &str) {
        if !self.is_told(key) {
            self.say(key, detail);
        }
    }

    /// Whether anything at this key, or within it, is known to be wrong: what follows from that is not told, too.
    fn is_told(&self, key: &str) -> bool {
        let is_within = |problem: &str| {
            problem.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.problems.iter().any(|problem| is_within(&problem.key))
    }
}

/// Whether two lists, of which an empty one asks for nothing, have nothing in common.
fn share_nothing(one: &BTreeSet<String>, other: &BTreeSet<String>) -> bool {
    !one.is_empty() && !other.is_empty() && one.is_disjoint(other)
}

/// `step[3]`, and nothing in it.
fn is_place(key: &str) -> bool {
    key.strip_prefix("step[")
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|index| index.parse::<usize>().is_ok())
}
