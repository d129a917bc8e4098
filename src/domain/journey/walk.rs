//! What an enrollment does next: from where it stands to its next mail, its next wait, or its end.
//!
//! A walk passes over what does not hold, sends at most one mail, and stops at the next thing that takes time. It decides
//! by the facts of one moment; whether they still hold when the plan is carried out is checked there.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::enrollment::Ending;
use super::rule::{Condition, Occasion, plain};
use super::{Action, AtDate, Journey, Step};
use crate::domain::contact::{Contact, Culture};
use crate::domain::wallet::WalletStatus;

/// What is known of an enrollment's customer at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'f> {
    /// The moment.
    pub now: Timestamp,
    /// Where the customer's clock is.
    pub zone: &'f TimeZone,
    /// In which wallets they have a pass.
    pub wallet_status: WalletStatus,
    /// What began it.
    pub occasion: &'f Occasion,
    /// The pass's identifiers, by name.
    pub identifiers: &'f BTreeMap<String, String>,
    /// Who they are; `None`: nobody knows.
    pub contact: Option<&'f Contact>,
}

impl Facts<'_> {
    /// What a field of the contact says: one of the brand's own, or else their culture (`fr-CA`, and also `fr`) or time zone.
    pub(super) fn contact_words(&self, field: &str) -> Vec<String> {
        let Some(contact) = self.contact else { return Vec::new() };
        match (contact.fields.get(field), field) {
            (Some(value), _) => vec![plain(value)],
            (None, "culture") => {
                let culture = contact.culture.as_ref().map_or("", Culture::as_str);
                let shorter = culture.match_indices('-').map(|(end, _)| &culture[..end]);
                shorter.chain([culture]).map(str::to_owned).collect()
            }
            (None, "timezone") => contact.timezone.iter().map(|zone| zone.as_str().to_owned()).collect(),
            (None, _) => Vec::new(),
        }
    }

    /// The date in a field of the pass, or else of the contact.
    fn date(&self, field: &str) -> Option<Timestamp> {
        let of_pass = self.identifiers.get(field).map(String::as_str);
        let text = of_pass.or_else(|| self.contact?.fields.get(field)?.as_str())?.trim();
        let here = |date: DateTime| date.to_zoned(self.zone.clone()).ok().map(|zoned| zoned.timestamp());
        // A moment with its offset is that moment; what has none is meant where the customer is.
        let moment = text.parse::<Timestamp>().ok();
        let date_time = || text.parse::<DateTime>().ok().and_then(here);
        moment.or_else(date_time).or_else(|| text.parse::<Date>().ok().and_then(|date| here(date.into())))
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Steps that are behind it then, in their order, the one that sends among them.
    pub passed: Vec<Passed>,
    /// The one that sends, and which template.
    pub send: Option<Send>,
    /// Where it goes on.
    pub then: Then,
}

/// A mail to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// The step.
    pub step: usize,
    /// The template's name.
    pub template: String,
}

/// A step that is behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Which, from 0.
    pub step: usize,
    /// How it went.
    pub outcome: Outcome,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its mail was handed in.
    Sent,
    /// Its condition did not hold.
    Skipped,
    /// It began to wait.
    Waited,
    /// It waits for a date that is not known: it does not wait.
    NoDate,
    /// It ended the journey.
    Stopped,
    /// Its mail was one too many for the recipient.
    Capped,
}

impl Outcome {
    /// The word in leaves and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Skipped => "skipped",
            Self::Waited => "waited",
            Self::NoDate => "no-date",
            Self::Stopped => "stopped",
            Self::Capped => "capped",
        }
    }
}

/// Where an enrollment goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// With this step, at this moment.
    Step {
        /// Which, from 0; as many as there are: it is done then.
        step: usize,
        /// When.
        at: Timestamp,
        /// What for.
        pause: Pause,
    },
    /// Nowhere.
    End(Ending),
}

/// Why an enrollment does not go on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// A step says so.
    Wait,
    /// It is the middle of the night.
    QuietHours,
    /// It does: one mail at a time.
    None,
}

/// What an enrollment that stands at `step` does now.
#[must_use]
pub fn walk(journey: &Journey, mut step: usize, facts: &Facts<'_>) -> Plan {
    let mut passed = Vec::new();
    let mut send = None;
    let then = loop {
        let Some(next) = journey.steps.get(step) else { break Then::End(Ending::Completed) };
        let mut pass = |outcome| passed.push(Passed { step, outcome });
        if !is_taken(next, facts) {
            pass(Outcome::Skipped);
            step += 1;
            continue;
        }
        let until = match &next.action {
            Action::Send { template } => {
                if send.is_some() {
                    break Then::Step { step, at: facts.now, pause: Pause::None };
                }
                if let Some(at) = journey.quiet_hours.and_then(|hours| hours.end(facts.now, facts.zone)) {
                    break Then::Step { step, at, pause: Pause::QuietHours };
                }
                send = Some(Send { step, template: template.clone() });
                pass(Outcome::Sent);
                step += 1;
                continue;
            }
            Action::Stop => {
                pass(Outcome::Stopped);
                break Then::End(Ending::Stopped);
            }
            Action::Wait(length) => facts.now.checked_add(length.0).unwrap_or(Timestamp::MAX),
            Action::WaitUntil(time) => time.next(facts.now, facts.zone),
            Action::WaitForDate(date) => {
                let Some(at) = moment(date, facts) else {
                    pass(Outcome::NoDate);
                    step += 1;
                    continue;
                };
                at
            }
        };
        pass(Outcome::Waited);
        step += 1;
        // What is over already is not waited for.
        if until > facts.now {
            break Then::Step { step, at: until, pause: Pause::Wait };
        }
    };
    Plan { passed, send, then }
}

fn is_taken(step: &Step, facts: &Facts<'_>) -> bool {
    let holds = |condition: &Condition| condition.holds(facts);
    step.only_if.as_ref().is_none_or(holds) && !step.unless.as_ref().is_some_and(holds)
}

/// The moment that a date and what stands with it mean.
fn moment(at: &AtDate, facts: &Facts<'_>) -> Option<Timestamp> {
    let date = facts.date(&at.field)?;
    // Whole days are days of the calendar: the hour stays when the clocks change.
    let days = |length: std::time::Duration| i64::try_from(length.as_secs() / 86_400).unwrap_or(i64::MAX);
    let shifted = |date: Timestamp, length: std::time::Duration, sign: i64| {
        let whole = jiff::Span::new().try_days(sign.checked_mul(days(length))?).ok()?;
        let rest = i64::try_from(length.as_millis() % 86_400_000).ok()?;
        let rest = jiff::Span::new().try_milliseconds(sign * rest).ok()?;
        let zoned = date.to_zoned(facts.zone.clone()).checked_add(whole).ok()?.checked_add(rest).ok()?;
        Some(zoned.timestamp())
    };
    let date = at.before.map_or(Some(date), |length| shifted(date, length.0, -1))?;
    let date = at.after.map_or(Some(date), |length| shifted(date, length.0, 1))?;
    at.at.map_or(Some(date), |time| time.on_day_of(date, facts.zone))
}

#[cfg(test)]
mod tests;
