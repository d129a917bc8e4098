//! A media type as a file in a mail may have it: parsed once, written by us, never spliced.

use std::fmt;
use std::str::FromStr;

/// Longest media type with its parameters, in octets.
const OCTETS_MAX: usize = 255;

/// `type/subtype` with parameters. Never `multipart/*` or `message/*`: these would be read as part of our own structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaType {
    /// `type/subtype` as given.
    pub essence: String,
    /// Names and unquoted values, printable ASCII.
    pub parameters: Vec<(String, String)>,
}

/// Why a text is not a media type for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MediaTypeError {
    /// Not `type/subtype`, or parameters that are not `name=value`.
    #[error("not a media type of the form type/subtype, at most 255 characters")]
    Syntax,
    /// `multipart/*` or `message/*`.
    #[error("multipart/* and message/* cannot be attached")]
    Composite,
}

impl FromStr for MediaType {
    type Err = MediaTypeError;

    fn from_str(text: &str) -> Result<Self, MediaTypeError> {
        if text.len() > OCTETS_MAX || !text.bytes().all(|b| matches!(b, b' '..=b'~')) {
            return Err(MediaTypeError::Syntax);
        }
        let (essence, mut rest) = text.split_once(';').unwrap_or((text, ""));
        let essence = essence.trim();
        let (kind, subtype) = essence.split_once('/').ok_or(MediaTypeError::Syntax)?;
        if !is_token(kind) || !is_token(subtype) {
            return Err(MediaTypeError::Syntax);
        }
        if kind.eq_ignore_ascii_case("multipart") || kind.eq_ignore_ascii_case("message") {
            return Err(MediaTypeError::Composite);
        }
        let mut parameters = Vec::new();
        while !rest.trim().is_empty() {
            let (name, after) = rest.split_once('=').ok_or(MediaTypeError::Syntax)?;
            let name = name.trim();
            let (value, after) = parameter_value(after.trim_start()).ok_or(MediaTypeError::Syntax)?;
            if !is_token(name) || name.contains('*') {
                return Err(MediaTypeError::Syntax);
            }
            parameters.push((name.to_owned(), value));
            rest = after;
        }
        Ok(Self { essence: essence.to_owned(), parameters })
    }
}

/// A token or quoted string at the beginning of `text`, and what follows the semicolon after it.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, after) = text.split_once(';').unwrap_or((text, ""));
        let value = value.trim();
        return is_token(value).then(|| (value.to_owned(), after));
    };
    let (mut value, mut characters) = (String::new(), quoted.chars());
    loop {
        match characters.next()? {
            '\\' => value.push(characters.next()?),
            '"' => break,
            other => value.push(other),
        }
    }
    let after = characters.as_str().trim_start();
    if after.is_empty() { Some((value, after)) } else { Some((value, after.strip_prefix(';')?)) }
}

/// Whether `text` is a token (RFC 2045 section 5.1).
#[must_use]
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b))
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.essence)?;
        for (name, value) in &self.parameters {
            write!(f, "; {name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_read_and_written_again() {
        for (text, written) in [
            ("application/pdf", "application/pdf"),
            (" text/csv ; charset=utf-8;header=\"a; \\\"b\"", "text/csv; charset=\"utf-8\"; header=\"a; \\\"b\""),
            ("application/vnd.apple.pkpass", "application/vnd.apple.pkpass"),
            ("text/plain;", "text/plain"),
        ] {
            assert_eq!(text.parse::<MediaType>().map(|parsed| parsed.to_string()), Ok(written.to_owned()), "{text}");
        }
        for wrong in ["", "pdf", "a/", "/b", "a/b/c", "a b/c", "a/b; x", "a/b; x=\"", "a/b\r\nX: y", "a/b; x*=y", "é/b"]
        {
            assert_eq!(wrong.parse::<MediaType>(), Err(MediaTypeError::Syntax), "{wrong}");
        }
        assert_eq!("Message/rfc822".parse::<MediaType>(), Err(MediaTypeError::Composite));
        assert_eq!("multipart/mixed; boundary=x".parse::<MediaType>(), Err(MediaTypeError::Composite));
    }
}
