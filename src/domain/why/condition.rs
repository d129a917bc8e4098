//! What is said of a mail that is sent only while its customer's wallets do not stand in a certain way, and of one whose
//! recipient may not be mailed by now.

use super::{Decision, Force};
use crate::domain::message::Reason;
use crate::domain::unless::Condition;

/// What comes next for a live mail with a condition.
pub(super) fn decision(condition: &Condition) -> Decision {
    let Condition { unless, status } = condition;
    let listed = unless.words().replace(' ', ", ");
    let (now, must) = if unless.ends(*status) {
        ("as it would be now", "Nothing. If it is wanted all the same, cancel it and submit it again without unless.")
    } else {
        ("as it is not now", "Nothing: it is looked at again just before the mail is sent.")
    };
    let text =
        format!("It ends cancelled, unsent, if its customer's walletStatus is then one of {listed}, {now} ({status}).");
    Decision::new("wallet-status", Force::Next, text)
        .number("unless", listed)
        .number("walletStatus", status.as_str())
        .must(must)
}

/// What comes next for a live mail whose recipient is suppressed.
pub(super) fn suppressed(reason: Reason) -> Decision {
    let who = if reason == Reason::Unsubscribed { "has unsubscribed from such mails" } else { "is suppressed" };
    let text = format!("Its recipient {who}: at its next attempt it ends suppressed, unsent.");
    let must = "Nothing, if that is right: postern suppressions list --recipient ADDRESS says who said so and when.";
    Decision::new("suppression", Force::Next, text).number("reason", reason.as_str()).must(must)
}
