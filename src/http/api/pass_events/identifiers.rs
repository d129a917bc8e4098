//! The identifiers of a pass: by name, in an object or flattened into the event, names with dots, values as they compare.
//!
//! Those that the tenant knows customers by are refused when they cannot be one. A pass may have any others besides, of
//! any shape, which a brand uses for what it likes: those that fit are kept, and nobody misses the rest.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::super::lenient::{Field, Fields, Node, Object, Problems, below, is_line, items, name, unfolded};
use crate::domain::pass_event::{ID_CHARS_MAX, IDENTIFIER_NAME_CHARS_MAX, IDENTIFIERS_MAX, normalized_identifier};

/// How a flattened identifier's name begins: `identifier_customerId`, and as a form may write it inside `data`.
const FLATTENED: [&str; 2] = ["identifier_", "identifiers."];

/// What is being read: the identifiers so far, and the names of those that the tenant knows customers by.
pub(super) struct Identifiers<'t> {
    known: &'t [String],
    found: BTreeMap<String, String>,
    others: BTreeMap<String, String>,
}

impl<'t> Identifiers<'t> {
    /// None yet, for a tenant that knows customers by these.
    pub(super) fn new(known: &'t [String]) -> Self {
        Self { known, found: BTreeMap::new(), others: BTreeMap::new() }
    }

    /// Those in an object, or its JSON text.
    pub(super) fn in_object(&mut self, field: Field<'_>, problems: &mut Problems) {
        let Some(field) = unfolded(field, "an object", problems) else { return };
        let Node::Object(object) = &*field.node else {
            if !items(&field, problems).is_empty() {
                problems.add(&field.pointer, "must be an object");
            }
            return;
        };
        for (key, values) in object {
            for value in values {
                self.add(key, &below(&field.pointer, key), value, problems);
            }
        }
    }

    /// Those flattened into an object.
    pub(super) fn flattened(&mut self, base: &str, object: &Object, problems: &mut Problems) {
        for (key, values) in object {
            let Some(rest) = FLATTENED.iter().find_map(|start| without(key, start)) else { continue };
            for value in values {
                self.add(rest, &below(base, key), value, problems);
            }
        }
    }

    /// One. What nests, as a form's `y2.customerId` does, has a name with dots.
    pub(super) fn add(&mut self, key: &str, pointer: &str, node: &Node, problems: &mut Problems) {
        let mut aside = Problems::default();
        if node.is_absent() || key.is_empty() || !is_line(pointer, key, IDENTIFIER_NAME_CHARS_MAX, &mut aside) {
            return;
        }
        if let Node::Object(object) = node {
            for (inner, values) in object {
                for value in values {
                    self.add(&format!("{key}.{inner}"), pointer, value, problems);
                }
            }
            return;
        }
        let known = spelling(key, self.known);
        let problems = if known.is_some() { problems } else { &mut aside };
        let field = Field { pointer: pointer.to_owned(), node: std::borrow::Cow::Borrowed(node) };
        let value = match node {
            Node::Bool(value) => Some(value.to_string()),
            _ => name(&field, problems),
        };
        let Some(value) = value.map(|value| normalized_identifier(&value)).filter(|value| !value.is_empty()) else {
            return;
        };
        if !is_line(pointer, &value, ID_CHARS_MAX, problems) {
            return;
        }
        let found = if known.is_some() { &mut self.found } else { &mut self.others };
        let full = found.len() >= IDENTIFIERS_MAX;
        match found.entry(known.unwrap_or(key).to_owned()) {
            Entry::Occupied(taken) if *taken.get() == value => {}
            Entry::Occupied(_) => problems.add(pointer, "given more than once with different values"),
            Entry::Vacant(_) if full => problems.add(pointer, format!("more than {IDENTIFIERS_MAX} identifiers")),
            Entry::Vacant(free) => _ = free.insert(value),
        }
    }

    /// All of them that there is room for, those of the tenant first.
    pub(super) fn into_map(self) -> BTreeMap<String, String> {
        let room = IDENTIFIERS_MAX - self.found.len();
        let mut all = self.found;
        all.extend(self.others.into_iter().take(room));
        all
    }
}

/// What follows `start`, whatever its case.
fn without<'k>(key: &'k str, start: &str) -> Option<&'k str> {
    key.split_at_checked(start.len()).filter(|(head, _)| head.eq_ignore_ascii_case(start)).map(|(_, rest)| rest)
}

/// A name as the tenant writes it, if it is one of its own but for the case.
fn spelling<'t>(key: &str, known: &'t [String]) -> Option<&'t str> {
    let own = known.iter().find(|own| own.as_str() == key);
    own.or_else(|| known.iter().find(|own| own.to_lowercase() == key.to_lowercase())).map(String::as_str)
}

/// Reads all identifiers that `objects` hold, each with the pointer to it.
pub(super) fn identifiers<'t>(
    objects: &[(&str, &Object)],
    known: &'t [String],
    problems: &mut Problems,
) -> Identifiers<'t> {
    let mut found = Identifiers::new(known);
    for (base, object) in objects {
        for field in Fields::in_any_writing(*base, object).given("identifiers") {
            found.in_object(field, problems);
        }
        found.flattened(base, object, problems);
    }
    found
}
