//! What the capture server says: one reply line with its code, enhanced code and text.

use std::borrow::Cow;
use std::fmt;

/// One SMTP reply of a single line (RFC 5321 section 4.2, RFC 2034).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: u16,
    pub(super) enhanced: &'static str,
    pub(super) text: Cow<'static, str>,
}

impl Reply {
    /// `text` must hold no line break; whatever a client sent is checked for control characters before it gets here.
    pub(super) fn new(code: u16, enhanced: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, enhanced, text: text.into() }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.enhanced.is_empty() {
            write!(formatter, "{} {}", self.code, self.text)
        } else {
            write!(formatter, "{} {} {}", self.code, self.enhanced, self.text)
        }
    }
}
