//! What the platform may send, JSON or form, as one tree that keeps what a map would silently lose: the same field twice.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::ParseError;
use crate::domain::submission::FieldError;

/// How deep a form's field name may nest.
const NAME_DEPTH_MAX: usize = 8;
/// Fields at most in one form.
const FORM_FIELDS_MAX: usize = 10_000;
/// Values at most in one JSON text, those that hold others among them: they take far more room than their text.
const NODES_MAX: usize = 200_000;

/// The members of an object, each with every value that was given for it.
pub(in crate::http::api) type Object = BTreeMap<String, Vec<Node>>;

/// One value. An object keeps every value that was given for a key.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::http::api) enum Node {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    Object(Object),
}

impl Node {
    /// Reads JSON; depth is bounded by the parser, the number of values by [`NODES_MAX`] while they are read.
    pub(in crate::http::api) fn from_json(text: &str) -> Result<Self, ParseError> {
        let left = Cell::new(Some(NODES_MAX));
        let mut parser = serde_json::Deserializer::from_str(text);
        let read = Reader(&left).deserialize(&mut parser).and_then(|node| parser.end().map(|()| node));
        read.map_err(|e| match left.get() {
            None => ParseError::Invalid(vec![FieldError::new("", format!("more than {NODES_MAX} values"))]),
            // The position says enough; the parser's words may quote the text.
            Some(_) => ParseError::Malformed(format!("not valid JSON at line {} column {}", e.line(), e.column())),
        })
    }

    /// Reads a form: `a=1`, `a[b]=1`, `a[0]=1`, `a[]=1`, `a.b=1`.
    pub(in crate::http::api) fn from_form(text: &str) -> Result<Self, String> {
        let mut root = BTreeMap::new();
        for (index, field) in text.split('&').filter(|field| !field.is_empty()).enumerate() {
            if index >= FORM_FIELDS_MAX {
                return Err(format!("more than {FORM_FIELDS_MAX} fields"));
            }
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            let (name, value) = (unescape(name)?, unescape(value)?);
            // A form has no null: the script writes the word, or nothing.
            let value = if matches!(value.as_str(), "null" | "undefined") { Self::Null } else { Self::Text(value) };
            insert(&mut root, &path(&name)?, value);
        }
        Ok(Self::Object(root))
    }

    /// Whether nothing was given: null, or an empty text.
    pub(in crate::http::api) fn is_absent(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => text.is_empty(),
            Self::Bool(_) | Self::Number(_) | Self::List(_) | Self::Object(_) => false,
        }
    }

    /// A text as it is, everything else as JSON.
    pub(in crate::http::api) fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            other => serde_json::to_string(other).unwrap_or_default(),
        }
    }
}

/// Decodes `+` and `%XX`, strictly UTF-8. What is no escape stands for itself, as browsers read it.
fn unescape(text: &str) -> Result<String, String> {
    let digit = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let bytes = text.as_bytes();
    let (mut out, mut index) = (Vec::with_capacity(bytes.len()), 0);
    while index < bytes.len() {
        let escape = (digit(bytes.get(index + 1)), digit(bytes.get(index + 2)));
        match (bytes[index], escape) {
            (b'+', _) => out.push(b' '),
            (b'%', (Some(high), Some(low))) => {
                out.push(high << 4 | low);
                index += 2;
            }
            (other, _) => out.push(other),
        }
        index += 1;
    }
    String::from_utf8(out).map_err(|_| "the form is not UTF-8".to_owned())
}

/// `attachments[0][filename]`, `email.Subject`, `data[a.b]`: the names on the way. Names inside brackets keep their dots,
/// and so do the keys of objects whose keys are the caller's own.
fn path(name: &str) -> Result<Vec<String>, String> {
    let (head, mut rest) = name.find(['[', '.']).map_or((name, ""), |at| name.split_at(at));
    let mut names = vec![head.to_owned()];
    let own_keys = ["data", "metadata", "headers"].iter().any(|field| head.eq_ignore_ascii_case(field));
    while !rest.is_empty() {
        if names.len() >= NAME_DEPTH_MAX {
            return Err(format!("a field name nests deeper than {NAME_DEPTH_MAX}"));
        }
        let next;
        (next, rest) = if let Some(after) = rest.strip_prefix('.') {
            let end = if own_keys { after.len() } else { after.find(['[', '.']).unwrap_or(after.len()) };
            after.split_at(end)
        } else {
            let inside = rest.strip_prefix('[').unwrap_or(rest);
            inside.split_once(']').unwrap_or((inside, ""))
        };
        names.push(next.to_owned());
    }
    Ok(names)
}

fn insert(object: &mut Object, names: &[String], value: Node) {
    let [name, below @ ..] = names else { return };
    let values = object.entry(name.clone()).or_default();
    if below.is_empty() {
        values.push(value);
        return;
    }
    let at = values.iter().position(|node| matches!(node, Node::Object(_)));
    let at = at.unwrap_or_else(|| {
        values.push(Node::Object(BTreeMap::new()));
        values.len() - 1
    });
    if let Some(Node::Object(inner)) = values.get_mut(at) {
        insert(inner, below, value);
    }
}

/// Reads a value and those in it, and counts them: how many more there may be, `None` after one too many.
#[derive(Clone, Copy)]
struct Reader<'c>(&'c Cell<Option<usize>>);

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.0.set(self.0.get().and_then(|left| left.checked_sub(1)));
        if self.0.get().is_none() {
            return Err(de::Error::custom("too many values"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        serde_json::Number::from_f64(value).map(Node::Number).ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut object = Object::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self)?;
            match object.entry(key) {
                // Nearly every key has one value, and a list that grows begins with four.
                Entry::Vacant(free) => drop(free.insert(vec![value])),
                Entry::Occupied(taken) => taken.into_mut().push(value),
            }
        }
        Ok(Node::Object(object))
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(value) => value.serialize(serializer),
            Self::Text(value) => serializer.serialize_str(value),
            Self::List(items) => serializer.collect_seq(items),
            Self::Object(object) => {
                let mut map = serializer.serialize_map(Some(object.len()))?;
                for (key, values) in object {
                    map.serialize_entry(key, values.last().unwrap_or(&Self::Null))?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    #[test]
    fn a_form_says_the_same_as_json_however_it_nests() {
        let json = r#"{"email":{"Subject":"é &"},"data":{"a.b":"1"},"attachments":{"0":{"filename":"f"}}}"#;
        let json = Node::from_json(json).unwrap();
        for form in [
            "email[Subject]=%C3%A9+%26&data[a.b]=1&attachments[0][filename]=f",
            "email.Subject=é+%26&data.a.b=1&attachments.0.filename=f",
        ] {
            assert_eq!(Node::from_form(form).unwrap(), json, "{form}");
        }
        assert_eq!(Node::from_form("a=%zz%2").unwrap(), Node::from_json(r#"{"a":"%zz%2"}"#).unwrap());
    }

    #[test]
    fn what_cannot_be_read_is_refused_and_nothing_overflows() {
        assert!(Node::from_form("a=%ff").is_err());
        assert!(Node::from_form(&format!("a{}=1", "[b]".repeat(100))).is_err());
        assert!(Node::from_form(&"a=1&".repeat(10_001)).is_err());
        for deep in ["[".repeat(1_000_000), "{\"a\":".repeat(1_000_000)] {
            assert!(Node::from_json(&deep).is_err());
        }
        let cut = ParseError::Malformed("not valid JSON at line 1 column 8".to_owned());
        assert_eq!(Node::from_json("{\"secret").unwrap_err(), cut);
        assert!(matches!(Node::from_json("1 2"), Err(ParseError::Malformed(_))));
    }

    #[test]
    fn values_are_counted_while_they_are_read_and_one_too_many_ends_the_reading() {
        // A list, and in it objects of one value.
        let of = |objects: usize| format!("[{}]", vec!["{\"\":0}"; objects].join(","));
        assert!(Node::from_json(&of((NODES_MAX - 1) / 2)).is_ok());
        for text in [of(NODES_MAX / 2 + 1), "[0,".repeat(10) + &of(NODES_MAX), of(NODES_MAX).replace(']', "")] {
            let many = ParseError::Invalid(vec![FieldError::new("", "more than 200000 values")]);
            assert_eq!(Node::from_json(&text).unwrap_err(), many, "before its end is looked at");
        }
    }
}
