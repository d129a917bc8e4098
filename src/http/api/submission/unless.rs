//! `unless` and `customerId`: when a mail is no longer wanted, as an object or its JSON text.

use std::collections::BTreeSet;

use super::super::lenient::{Fields, Node, Problems, below, is_line, items, name, text, unfolded};
use super::Field;
use crate::domain::pass_event::{ID_CHARS_MAX, normalized_identifier};
use crate::domain::unless::Unless;
use crate::domain::wallet::WalletStatus;

/// Reads `unless` and, with it, `customerId`. Strict, unlike the rest: half understood, it would change whether a mail is
/// sent.
pub(super) fn unless(fields: &Fields<'_>, problems: &mut Problems) -> Option<Unless> {
    let field = fields.one("unless", problems)?;
    let field = unfolded(field, "an object", problems)?;
    let Node::Object(object) = &*field.node else {
        problems.add(field.pointer, "must be an object with walletStatus");
        return None;
    };
    for key in object.keys().filter(|key| !key.eq_ignore_ascii_case("walletStatus")) {
        problems.add(below(&field.pointer, key), "unknown: there is walletStatus");
    }
    let inner = Fields::new(&field.pointer, object);
    let wallet_status = states(&inner, problems);
    Some(Unless { wallet_status, customer: customer(fields, problems) })
}

/// Who the mail is for, as the brand calls them.
pub(super) fn customer(fields: &Fields<'_>, problems: &mut Problems) -> Option<String> {
    let field = fields.one("customerId", problems)?;
    let customer = normalized_identifier(&name(&field, problems)?);
    let fits = is_line(&field.pointer, &customer, ID_CHARS_MAX, problems);
    (fits && !customer.is_empty()).then_some(customer)
}

/// A list, its JSON text, one word, or a form's `unless.walletStatus=apple&unless.walletStatus=both`.
fn states(inner: &Fields<'_>, problems: &mut Problems) -> BTreeSet<WalletStatus> {
    let (mut states, mut named) = (BTreeSet::new(), 0);
    for field in inner.given("walletStatus") {
        let is_one = matches!(&*field.node, Node::Text(text) if !text.trim_start().starts_with('['));
        let field = if is_one { Some(field) } else { unfolded(field, "a list", problems) };
        let Some(field) = field else { continue };
        let nodes = if is_one { vec![&*field.node] } else { items(&field, problems) };
        named += nodes.len();
        for node in nodes {
            let item = Field { pointer: field.pointer.clone(), node: std::borrow::Cow::Borrowed(node) };
            match text(&item, problems).map(|word| word.trim().to_lowercase().parse()) {
                Some(Ok(state)) => _ = states.insert(state),
                Some(Err(detail)) => problems.add(item.pointer, detail),
                None => {}
            }
        }
    }
    if named == 0 {
        problems.add(inner.pointer("walletStatus"), "required: a list of none, apple, google, both");
    }
    states
}
