//! Reading one object's fields: names in any case, every problem noted, no value ever repeated.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::tree::{Node, Object};
use crate::domain::submission::FieldError;

/// Problems listed at most in one answer.
const ERRORS_MAX: usize = 100;
/// Keys up to this many characters are shown in an error.
const KEY_SHOWN_CHARS_MAX: usize = 100;
/// What a script engine writes for an object it could not put into a form.
const LOST_OBJECT: &str = "[object Object]";

/// All problems of one body.
#[derive(Debug, Default)]
pub(in crate::http::api) struct Problems(Vec<FieldError>);

impl Problems {
    pub(in crate::http::api) fn add(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        if self.0.len() < ERRORS_MAX {
            self.0.push(FieldError::new(pointer, detail));
        }
    }

    pub(in crate::http::api) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one is known of this very field.
    pub(in crate::http::api) fn know_of(&self, pointer: &str) -> bool {
        self.0.iter().any(|error| error.pointer == pointer)
    }

    pub(in crate::http::api) fn into_result<T>(self, value: Option<T>) -> Result<T, Vec<FieldError>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }
}

/// A value and where it stood.
#[derive(Debug, Clone)]
pub(in crate::http::api) struct Field<'a> {
    pub(in crate::http::api) pointer: String,
    pub(in crate::http::api) node: Cow<'a, Node>,
}

/// The fields of one object by their names in lower case.
pub(in crate::http::api) struct Fields<'a> {
    base: String,
    by_name: BTreeMap<String, Vec<&'a Node>>,
}

impl<'a> Fields<'a> {
    pub(in crate::http::api) fn new(base: impl Into<String>, object: &'a Object) -> Self {
        let mut by_name: BTreeMap<String, Vec<&Node>> = BTreeMap::new();
        for (key, values) in object {
            by_name.entry(key.to_lowercase()).or_default().extend(values);
        }
        Self { base: base.into(), by_name }
    }

    /// The same, for names that may also be written with `_` between their words. They are asked for as `camelCase`.
    pub(in crate::http::api) fn in_any_writing(base: impl Into<String>, object: &'a Object) -> Self {
        let mut by_name: BTreeMap<String, Vec<&Node>> = BTreeMap::new();
        for (key, values) in object {
            by_name.entry(key.to_lowercase().replace('_', "")).or_default().extend(values);
        }
        Self { base: base.into(), by_name }
    }

    /// All values given for `name`, the absent ones left out.
    pub(in crate::http::api) fn given(&self, name: &str) -> Vec<Field<'a>> {
        // Most fields are not given.
        let Some(values) = self.by_name.get(&name.to_ascii_lowercase()) else { return Vec::new() };
        let present = values.iter().filter(|node| !node.is_absent());
        let pointer = self.pointer(name);
        present.map(|node| Field { pointer: pointer.clone(), node: Cow::Borrowed(*node) }).collect()
    }

    /// Where `name` stands, or would.
    pub(in crate::http::api) fn pointer(&self, name: &str) -> String {
        format!("{}/{name}", self.base)
    }

    /// The one value given for `name`.
    pub(in crate::http::api) fn one(&self, name: &str, problems: &mut Problems) -> Option<Field<'a>> {
        only(self.given(name), problems)
    }

    /// A value even when it is an empty text: what may be empty.
    pub(in crate::http::api) fn even_empty(&self, name: &str, problems: &mut Problems) -> Option<Field<'a>> {
        let found = self.one(name, problems);
        let empty =
            self.by_name.get(&name.to_lowercase()).and_then(|values| values.iter().find(|n| ***n != Node::Null));
        found.or_else(|| empty.map(|node| Field { pointer: self.pointer(name), node: Cow::Borrowed(*node) }))
    }

    /// A text.
    pub(in crate::http::api) fn text(&self, name: &str, problems: &mut Problems) -> Option<(String, String)> {
        let field = self.one(name, problems)?;
        let text = text(&field, problems)?;
        Some((field.pointer, text))
    }

    /// A text that ends up in a header or a name: no control characters, not too long.
    pub(in crate::http::api) fn line(&self, name: &str, chars_max: usize, problems: &mut Problems) -> Option<String> {
        let (pointer, text) = self.text(name, problems)?;
        is_line(&pointer, &text, chars_max, problems).then_some(text)
    }

    /// A text that is parsed into something.
    pub(in crate::http::api) fn parsed<T>(
        &self,
        name: &str,
        problems: &mut Problems,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (pointer, text) = self.text(name, problems)?;
        parse(&text).map_err(|detail| problems.add(pointer, detail)).ok()
    }
}

/// One of several equal values; different ones are a problem, since nobody knows which was meant.
pub(in crate::http::api) fn only<'a>(mut given: Vec<Field<'a>>, problems: &mut Problems) -> Option<Field<'a>> {
    let last = given.pop()?;
    if given.iter().any(|other| other.node != last.node) {
        problems.add(last.pointer, "given more than once with different values");
        return None;
    }
    Some(last)
}

pub(in crate::http::api) fn text(field: &Field<'_>, problems: &mut Problems) -> Option<String> {
    match &*field.node {
        Node::Text(lost) if lost == LOST_OBJECT => problems.add(&field.pointer, LOST_DETAIL),
        Node::Text(text) => return Some(text.clone()),
        _ => problems.add(&field.pointer, "must be text"),
    }
    None
}

/// What names something: a text, or a number that is whole and has kept all its digits.
pub(in crate::http::api) fn name(field: &Field<'_>, problems: &mut Problems) -> Option<String> {
    /// Up to here every whole number is one of its own in the engines that write JSON (2^53).
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    let Node::Number(number) = &*field.node else { return text(field, problems).map(|text| text.trim().to_owned()) };
    // One that JSON wrote without a fraction went through such an engine as well.
    match number.as_f64() {
        Some(number) if number.fract() == 0.0 && number.abs() < WHOLE_MAX => Some(format!("{number:.0}")),
        _ => {
            problems.add(&field.pointer, "a number that has lost digits: send text");
            None
        }
    }
}

/// Whether a script lost the value, or part of it.
pub(in crate::http::api) fn is_lost(node: &Node) -> bool {
    matches!(node, Node::Text(text) if text.contains(LOST_OBJECT))
}

const LOST_DETAIL: &str =
    "the script lost the value and sent \"[object Object]\": send JSON.stringify(value), or the whole body as JSON";

/// Whether a text may stand in a header; notes why not.
pub(in crate::http::api) fn is_line(pointer: &str, text: &str, chars_max: usize, problems: &mut Problems) -> bool {
    let controls = text.chars().any(char::is_control);
    if controls {
        problems.add(pointer, "control characters (CR, LF, NUL, …) are not allowed");
    }
    let long = text.chars().count() > chars_max;
    if long {
        problems.add(pointer, format!("longer than {chars_max} characters"));
    }
    !controls && !long
}

/// An object or list that may be written as JSON text.
pub(in crate::http::api) fn unfolded<'a>(field: Field<'a>, wanted: &str, problems: &mut Problems) -> Option<Field<'a>> {
    let Node::Text(text) = &*field.node else { return Some(field) };
    if is_lost(&field.node) {
        problems.add(field.pointer, LOST_DETAIL);
        return None;
    }
    match Node::from_json(text) {
        Ok(node @ (Node::Object(_) | Node::List(_))) => Some(Field { pointer: field.pointer, node: Cow::Owned(node) }),
        Ok(Node::Null) => None,
        Ok(_) | Err(_) => {
            problems.add(field.pointer, format!("must be {wanted}, or its JSON text"));
            None
        }
    }
}

/// The entries of an object, each under its own key.
pub(in crate::http::api) fn entries<'f>(field: &'f Field<'_>, problems: &mut Problems) -> Vec<(&'f String, &'f Node)> {
    let Node::Object(object) = &*field.node else {
        problems.add(&field.pointer, "must be an object");
        return Vec::new();
    };
    if object.values().any(|values| values.windows(2).any(|pair| pair[0] != pair[1])) {
        problems.add(&field.pointer, "holds a key more than once with different values");
    }
    object.iter().filter_map(|(key, values)| values.last().map(|node| (key, node))).collect()
}

/// The items of a list.
pub(in crate::http::api) fn items<'f>(field: &'f Field<'_>, problems: &mut Problems) -> Vec<&'f Node> {
    match &*field.node {
        Node::List(items) => items.iter().collect(),
        Node::Object(object) if is_listed(&field.node) => {
            let mut numbered: Vec<_> = object.iter().collect();
            numbered.sort_by_key(|(key, _)| (key.len(), *key));
            numbered.into_iter().flat_map(|(_, values)| values).collect()
        }
        _ => {
            problems.add(&field.pointer, "must be a list");
            Vec::new()
        }
    }
}

/// Whether a value is a list; what a form wrote as `a[0]`, `a[1]` or `a[]` is one too.
pub(in crate::http::api) fn is_listed(node: &Node) -> bool {
    match node {
        Node::List(_) => true,
        Node::Object(object) => !object.is_empty() && object.keys().all(|key| key.bytes().all(|b| b.is_ascii_digit())),
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) => false,
    }
}

/// A JSON pointer (RFC 6901) to a caller's own key below `base`; to `base` when the key is not fit to be shown: too long,
/// with control characters, or with an address in it.
pub(in crate::http::api) fn below(base: &str, key: &str) -> String {
    let fits = key.chars().count() <= KEY_SHOWN_CHARS_MAX && !key.chars().any(|c| c.is_control() || c == '@');
    if fits { format!("{base}/{}", key.replace('~', "~0").replace('/', "~1")) } else { base.to_owned() }
}
