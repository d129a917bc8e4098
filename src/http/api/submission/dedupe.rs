//! `dedupe`: the fact a mail states and for how long it is stated once, as an object or its JSON text.

use super::super::lenient::{Fields, Node, Problems, below, unfolded};
use crate::domain::fact::{Dedupe, FACT_CHARS_MAX, Window};

/// Reads `dedupe`. Strict, unlike the rest: half understood, it would change whether a mail is sent.
pub(super) fn dedupe(fields: &Fields<'_>, problems: &mut Problems) -> Option<Dedupe> {
    let field = fields.one("dedupe", problems)?;
    let field = unfolded(field, "an object", problems)?;
    let Node::Object(object) = &*field.node else {
        problems.add(field.pointer, "must be an object with fact and window");
        return None;
    };
    for key in object.keys().filter(|key| !["fact", "window"].contains(&key.to_lowercase().as_str())) {
        problems.add(below(&field.pointer, key), "unknown: there are fact and window");
    }
    let inner = Fields::new(&field.pointer, object);
    for name in ["fact", "window"] {
        if inner.given(name).is_empty() {
            problems.add(format!("{}/{name}", field.pointer), "required");
        }
    }
    let fact = inner.line("fact", FACT_CHARS_MAX, problems);
    let window = inner.parsed("window", problems, str::parse::<Window>);
    Some(Dedupe { fact: fact?, window: window? })
}
