//! What scripts, forms and webhooks send, read as it was meant: names in any case, JSON text inside JSON, lost objects.
//!
//! The platform's script engine is lenient with its own output, so the doors it uses are lenient with it. What a door
//! wants of the tree that is read here is its own affair.

mod fields;
mod tree;

pub(super) use self::fields::{
    Field, Fields, Problems, below, entries, is_line, is_listed, is_lost, items, name, only, text, unfolded,
};
pub(super) use self::tree::{Node, Object};
use crate::domain::submission::FieldError;

/// How many times a JSON body may be a string that holds JSON.
const STRINGS_MAX: usize = 2;

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// `application/json`.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
}

/// Why a body is not what its door takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It is not JSON, form or UTF-8 (400). The text never quotes the body.
    #[error("the body cannot be read: {0}")]
    Malformed(String),
    /// Fields are missing, of the wrong type or break rules (422): all of them.
    #[error("the body breaks rules")]
    Invalid(Vec<FieldError>),
}

/// Reads a body.
pub(super) fn read(media: Media, body: &[u8]) -> Result<Node, ParseError> {
    let body = std::str::from_utf8(body).map_err(|_| ParseError::Malformed("not UTF-8".into()))?;
    let body = body.strip_prefix('\u{feff}').unwrap_or(body);
    let root = match media {
        Media::Json => json(body)?,
        Media::Form => Node::from_form(body).map_err(ParseError::Malformed)?,
    };
    Ok(root)
}

/// A body, or the JSON in the string that the body is: what `JSON.stringify` of a string leaves. Any other string is one.
fn json(body: &str) -> Result<Node, ParseError> {
    let mut node = Node::from_json(body)?;
    for _ in 0..STRINGS_MAX {
        let Node::Text(inner) = &node else { break };
        node = match Node::from_json(inner.strip_prefix('\u{feff}').unwrap_or(inner)) {
            Err(ParseError::Malformed(_)) => break,
            read => read?,
        };
    }
    Ok(node)
}
