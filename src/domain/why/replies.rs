//! What a relay answered, as far as it can be told to everybody: codes, never words.

use super::{Decision, Stored};
use crate::domain::reply::EnhancedCode;

/// What the relay answered: the codes alone, its words may name the recipient.
struct Code {
    code: u16,
    enhanced: Option<EnhancedCode>,
}

fn code(stored: &Stored) -> Option<Code> {
    let (code, text) = stored.message.relay_reply.as_deref()?.split_once(' ')?;
    Some(Code { code: code.parse().ok()?, enhanced: EnhancedCode::leading(text) })
}

pub(super) fn reply_words(stored: &Stored) -> String {
    let relay = stored.message.relay.as_ref().map_or_else(String::new, |relay| format!(" (relay {relay}"));
    let reply = code(stored).map(|Code { code, enhanced }| match enhanced {
        Some(enhanced) => format!("{code} {enhanced}"),
        None => code.to_string(),
    });
    match (relay.as_str(), reply) {
        ("", _) => String::new(),
        (relay, Some(reply)) => format!("{relay}: {reply})"),
        (relay, None) => format!("{relay})"),
    }
}

pub(super) fn with_reply(decision: Decision, stored: &Stored) -> Decision {
    let decision = match &stored.message.relay {
        Some(relay) => decision.number("relay", relay.as_str()),
        None => decision,
    };
    let Some(Code { code, enhanced }) = code(stored) else { return decision };
    let decision = decision.number("code", code);
    match enhanced {
        Some(enhanced) => decision.number("enhanced", enhanced.to_string()),
        None => decision,
    }
}
