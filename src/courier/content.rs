//! A mail's content as it goes over the wire after DATA: CRLF line ends only, dots doubled, the final dot at its end.

use memchr::{memchr_iter, memchr2_iter, memmem};

/// The bytes said after a 354.
///
/// Written by us rather than by lettre, which looks at every byte, and would take a bare LF before a dot for no line
/// end although some relays do: the end of this mail and the beginning of whatever its sender likes (SMTP smuggling).
/// There is no way to make a `Content` with a bare CR or LF.
pub(super) struct Content {
    wire: Vec<u8>,
}

impl Content {
    /// Content from a mail that should have CRLF line ends only.
    ///
    /// Whoever breaks that promise gets every bare CR or LF made a CRLF, and says so in the log: the mail's author means
    /// a line end, no relay can be led astray by it, and a mail that was accepted is not lost over it.
    pub(super) fn new(mime: Vec<u8>) -> Self {
        let mut mime = if has_only_crlf(&mime) {
            mime
        } else {
            tracing::error!("a mail was composed with bare CR or LF; its line ends were repaired");
            with_only_crlf(&mime)
        };
        // A last line without an end gets one (RFC 5321 section 4.1.1.4).
        if !mime.is_empty() && !mime.ends_with(b"\r\n") {
            mime.extend_from_slice(b"\r\n");
        }
        let mut wire = with_dots_doubled(mime);
        wire.extend_from_slice(b".\r\n");
        Self { wire }
    }

    /// All bytes that go over the wire, the final dot and its line end included.
    pub(super) fn wire(&self) -> &[u8] {
        &self.wire
    }
}

/// Doubles the dot at the beginning of a line (RFC 5321 section 4.5.2). Most mails have none and are left as they are.
fn with_dots_doubled(mime: Vec<u8>) -> Vec<u8> {
    let dot = memmem::Finder::new(b"\r\n.");
    let mut out = Vec::new();
    let mut from = 0;
    if mime.first() == Some(&b'.') {
        out.push(b'.');
    }
    for at in dot.find_iter(&mime) {
        out.extend_from_slice(&mime[from..at + 3]);
        out.push(b'.');
        from = at + 3;
    }
    if out.is_empty() {
        return mime;
    }
    out.extend_from_slice(&mime[from..]);
    out
}

fn has_only_crlf(mime: &[u8]) -> bool {
    // Every LF is behind a CR, and there are as many of one as of the other: so every CR is before an LF.
    let mut breaks = 0;
    for at in memchr_iter(b'\n', mime) {
        if at == 0 || mime[at - 1] != b'\r' {
            return false;
        }
        breaks += 1;
    }
    memchr_iter(b'\r', mime).count() == breaks
}

fn with_only_crlf(mime: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(mime.len() + mime.len() / 32);
    let mut from = 0;
    for at in memchr2_iter(b'\r', b'\n', mime) {
        // The LF of a CRLF that was written already.
        if at < from {
            continue;
        }
        out.extend_from_slice(&mime[from..at]);
        out.extend_from_slice(b"\r\n");
        from = at + if mime[at..].starts_with(b"\r\n") { 2 } else { 1 };
    }
    out.extend_from_slice(&mime[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bare_line_ends_are_made_whole_and_whole_ones_left_alone() {
        for (mime, clean) in [
            ("", ""),
            ("a\r\nb\r\n", "a\r\nb\r\n"),
            ("a\nb\n", "a\r\nb\r\n"),
            ("a\rb\r", "a\r\nb\r\n"),
            ("a\r\r\nb", "a\r\n\r\nb"),
            ("a\n\r\n", "a\r\n\r\n"),
            ("a\r\n.\n", "a\r\n.\r\n"),
            ("\n.\r", "\r\n.\r\n"),
        ] {
            assert_eq!(with_only_crlf(mime.as_bytes()), clean.as_bytes(), "{mime:?}");
            assert_eq!(has_only_crlf(mime.as_bytes()), mime == clean, "{mime:?}");
        }
    }

    #[test]
    fn only_a_dot_that_begins_a_line_is_doubled_and_the_last_stands_alone() {
        for (mime, wire) in [
            ("", ".\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            (".", "..\r\n.\r\n"),
            ("a.b\r\n.c\r\n..\r\n", "a.b\r\n..c\r\n...\r\n.\r\n"),
            (".\r\n.\r\n", "..\r\n..\r\n.\r\n"),
        ] {
            assert_eq!(Content::new(mime.into()).wire(), wire.as_bytes(), "{mime:?}");
        }
    }

    proptest! {
        #[test]
        fn no_content_has_a_bare_line_end(mime in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), any::<u8>()], 0..40)) {
            let clean = with_only_crlf(&mime);
            prop_assert!(has_only_crlf(&clean));
            prop_assert_eq!(has_only_crlf(&mime), clean == mime);
            prop_assert!(has_only_crlf(Content::new(mime).wire()));
        }
    }
}
