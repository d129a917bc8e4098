//! What a running gateway knows beside the store: the limits of the moment, each as a decision.

use serde_json::Value;

use super::{Decision, Force};
use crate::domain::shaping::Binding;

/// What delivery says binds a mail, for an operator.
#[must_use]
pub fn decisions(bindings: &[Binding]) -> Vec<Decision> {
    bindings.iter().map(decision).collect()
}

fn decision(binding: &Binding) -> Decision {
    // Unwrap safety: a binding holds texts, numbers and times; serialising these cannot fail.
    let mut numbers = match serde_json::to_value(binding) {
        Ok(Value::Object(members)) => members.into_iter().collect(),
        Ok(_) | Err(_) => std::collections::BTreeMap::new(),
    };
    let rule = numbers.remove("rule").and_then(|rule| rule.as_str().map(str::to_owned)).unwrap_or_default();
    numbers.remove("until");
    let decision = Decision::new(&rule, Force::Binds, sentence(&binding.to_string())).until(binding.until());
    Decision { numbers, ..decision }.must(must_change(binding))
}

/// What must change, and what an operator can do about it.
const fn must_change(binding: &Binding) -> &'static str {
    match binding {
        Binding::GatewayStopping => "Start the gateway again.",
        Binding::StoreUnwell { .. } => {
            "The disk: space, rights, speed. Nothing is lost; /readyz says when it can write."
        }
        Binding::OutcomesWaiting { .. } => "The disk must catch up. If it does not: look at its load and its space.",
        Binding::NotConfigured { .. } => "Put the tenant and its relays into the configuration and reload (SIGHUP).",
        Binding::InFlight { .. } => {
            "Nothing: it ends with the relay's answer, or when a time-out of the relay is over."
        }
        Binding::NotSeen | Binding::InWindow { .. } => {
            "Nothing, if this passes. If it does not: queue summary says how many wait, and what limits them."
        }
        Binding::RelayShut { .. } => {
            "The relay must answer: postern check --relay greets it. No attempt is spent meanwhile."
        }
        Binding::RelayBackOff { .. } => "The time must pass; the relay's log says what it has too much of.",
        Binding::RelayRateSpent { .. } => "The time must pass; or raise the relay's rate and reload (SIGHUP).",
        Binding::SessionsBusy { .. } => {
            "A session must come free; if the relay can take more: raise its sessions and reload (SIGHUP)."
        }
        Binding::LearnedSessions { .. } => {
            "The relay must take mails without complaint for a while; or it must allow us more sessions."
        }
        Binding::DomainRateSpent { .. } => {
            "The time must pass; or raise the domain's rate in limits.relay_domains and reload (SIGHUP)."
        }
        Binding::LearnedRate { .. } => "The domain must take mails without complaint for a while.",
        Binding::DomainBackOff { .. } => "The time must pass.",
        Binding::DomainShare { .. } => {
            "One of its sessions must come free; or raise delivery.domain_share and reload (SIGHUP)."
        }
    }
}

/// A phrase as a sentence.
fn sentence(phrase: &str) -> String {
    let mut letters = phrase.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", letters.as_str())
}
