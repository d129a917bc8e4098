//! What is said of a mail that is sent only while its customer's wallets do not stand in a certain way.

use super::{Decision, Force};
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
