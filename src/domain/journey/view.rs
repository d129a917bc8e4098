//! A journey as it is shown: the drawing's own words, in JSON as everywhere and in a line for people.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};

use super::hours::{DayTime, QuietHours};
use super::rule::{Condition, When};
use super::{Action, AtDate, EntryRule, Journey, Step, Trigger};
use crate::domain::pass_event::Wallet;
use crate::domain::quantity::HumanDuration;
use crate::domain::wallet::WalletStatus;

/// A drawing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DrawingView {
    /// What begins it.
    pub trigger: Trigger,
    /// How often it takes the same customer.
    pub entry: EntryRule,
    /// What ends it early.
    pub exit_on: BTreeSet<Trigger>,
    /// When its mails do not go out.
    pub quiet_hours: Option<QuietHours>,
    /// How long it waits for an address.
    pub contact_within: HumanDuration,
    /// Whom it takes.
    pub when: WhenView,
    /// What it does.
    pub steps: Vec<StepView>,
}

/// Whom it takes; what is not there asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WhenView {
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pass_type: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Wallet>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    medium: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    origin_contains: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    tags_any: BTreeSet<String>,
}

/// A step: what it does, under which conditions, and how that is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    /// Which, from 0.
    pub step: usize,
    #[serde(flatten)]
    action: ActionView,
    #[serde(rename = "if", skip_serializing_if = "Option::is_none")]
    only_if: Option<ConditionView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unless: Option<ConditionView>,
    /// For people.
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum ActionView {
    Send(String),
    Wait(HumanDuration),
    WaitUntil(UntilView),
    #[serde(serialize_with = "stop")]
    Stop,
}

fn stop<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(true)
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum UntilView {
    Time(DayTime),
    Date(AtDate),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConditionView {
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    wallet_status: BTreeSet<WalletStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Wallet>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pass_type: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    tags_any: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    medium: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    contact: BTreeMap<String, BTreeSet<String>>,
}

impl From<&Journey> for DrawingView {
    fn from(journey: &Journey) -> Self {
        Self {
            trigger: journey.trigger,
            entry: journey.entry,
            exit_on: journey.exit_on.clone(),
            quiet_hours: journey.quiet_hours,
            contact_within: journey.contact_within,
            when: WhenView::from(&journey.when),
            steps: journey.steps.iter().enumerate().map(|(step, drawn)| StepView::of(step, drawn)).collect(),
        }
    }
}

impl From<&When> for WhenView {
    fn from(when: &When) -> Self {
        Self {
            pass_type: when.pass_type.clone(),
            device: when.device,
            medium: when.medium.clone(),
            origin_contains: when.origin_contains.clone(),
            tags_any: when.tags_any.clone(),
        }
    }
}

impl From<&Condition> for ConditionView {
    fn from(condition: &Condition) -> Self {
        Self {
            wallet_status: condition.wallet_status.clone(),
            device: condition.device,
            pass_type: condition.pass_type.clone(),
            tags_any: condition.tags_any.clone(),
            medium: condition.medium.clone(),
            contact: condition.contact.clone(),
        }
    }
}

impl StepView {
    fn of(step: usize, drawn: &Step) -> Self {
        let action = match &drawn.action {
            Action::Send { template } => ActionView::Send(template.clone()),
            Action::Wait(length) => ActionView::Wait(*length),
            Action::WaitUntil(time) => ActionView::WaitUntil(UntilView::Time(*time)),
            Action::WaitForDate(date) => ActionView::WaitUntil(UntilView::Date(date.clone())),
            Action::Stop => ActionView::Stop,
        };
        let mut text = action.text();
        for (word, condition) in [("if", &drawn.only_if), ("unless", &drawn.unless)] {
            if let Some(condition) = condition {
                text.extend([" ", word, " ", &in_words(condition)]);
            }
        }
        let view = |condition: &Option<Condition>| condition.as_ref().map(ConditionView::from);
        Self { step, action, only_if: view(&drawn.only_if), unless: view(&drawn.unless), text }
    }
}

impl ActionView {
    fn text(&self) -> String {
        match self {
            Self::Send(template) => format!("send {template}"),
            Self::Wait(length) => format!("wait {length}"),
            Self::WaitUntil(UntilView::Time(time)) => format!("wait until {time}"),
            Self::WaitUntil(UntilView::Date(AtDate { field, before, after, at })) => {
                let before = before.map_or_else(String::new, |length| format!("{length} before "));
                let after = after.map_or_else(String::new, |length| format!("{length} after "));
                let at = at.map_or_else(String::new, |time| format!(" at {time}"));
                format!("wait until {before}{after}{field}{at}")
            }
            Self::Stop => "stop".to_owned(),
        }
    }
}

/// What a condition asks, as its file says it.
fn in_words(condition: &Condition) -> String {
    fn any<T: AsRef<str>>(name: &str, words: impl IntoIterator<Item = T>) -> Option<String> {
        let words: Vec<String> = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        (!words.is_empty()).then(|| format!("{name} is {}", words.join(" or ")))
    }
    let Condition { wallet_status, device, pass_type, tags_any, medium, contact } = condition;
    let mut parts: Vec<String> = [
        any("walletStatus", wallet_status.iter().map(|status| status.as_str())),
        any("device", device.map(Wallet::as_str)),
        any("passType", pass_type),
        any("a tag", tags_any),
        any("medium", medium),
    ]
    .into_iter()
    .flatten()
    .collect();
    parts.extend(contact.iter().filter_map(|(field, values)| any(field, values)));
    parts.join(" and ")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    #[test]
    fn a_drawing_is_shown_in_the_words_of_its_file() {
        let text = r#"{"name":"j","tenant":"demo","trigger":"pass.first-install","entry":"cooldown:30d",
            "exit_on":["pass.removed"],"quiet_hours":"21:00-08:00","contact_within":"7d",
            "when":{"pass_type":["loyalty"],"origin_contains":["utm=x"]},
            "steps":[{"action":{"send":{"template":"welcome"}}},{"action":{"wait":"3d"}},{"action":{"wait_until":"09:00"}},
                {"action":{"wait_for_date":{"field":"validUntil","before":"7d","at":"09:00"}}},
                {"action":"stop","if":{"wallet_status":["apple","both"],"contact":{"tier":["gold"]}},"unless":{"device":"google"}}]}"#;
        let journey: Journey = serde_json::from_str(text).unwrap();
        let view = DrawingView::from(&journey);
        let texts: Vec<_> = view.steps.iter().map(|step| step.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "send welcome",
                "wait 3d",
                "wait until 09:00",
                "wait until 7d before validUntil at 09:00",
                "stop if walletStatus is apple or both and tier is gold unless device is google"
            ]
        );
        let mut shown = serde_json::to_value(&view).unwrap();
        for step in shown["steps"].as_array_mut().unwrap() {
            step.as_object_mut().unwrap().remove("text");
        }
        assert_eq!(
            shown,
            serde_json::json!({
                "trigger": "pass.first-install", "entry": "cooldown:30d", "exitOn": ["pass.removed"],
                "quietHours": "21:00-08:00", "contactWithin": "7d",
                "when": { "passType": ["loyalty"], "originContains": ["utm=x"] },
                "steps": [
                    { "step": 0, "send": "welcome" }, { "step": 1, "wait": "3d" }, { "step": 2, "waitUntil": "09:00" },
                    { "step": 3, "waitUntil": { "field": "validUntil", "before": "7d", "at": "09:00" } },
                    { "step": 4, "stop": true, "if": { "walletStatus": ["apple", "both"], "contact": { "tier": ["gold"] } },
                        "unless": { "device": "google" } },
                ],
            })
        );
    }
}
