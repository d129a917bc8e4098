//! A mail's content made ready for DATA: CRLF line ends only, and exactly as many bytes as will go over the wire.

/// What lettre is given, and what it will make of it.
///
/// lettre doubles the dot at the beginning of a line and appends CRLF, dot, CRLF. It takes only CRLF for a line end, so a
/// bare LF before a dot would pass unseen and be a line end to some relays: the end of this mail and the beginning of
/// whatever its sender likes (SMTP smuggling). There is no way to make a `Content` with a bare CR or LF.
pub(super) struct Content {
    bytes: Vec<u8>,
    wire_bytes: u64,
}

impl Content {
    /// Content from a mail that should have CRLF line ends only.
    ///
    /// Whoever breaks that promise gets every bare CR or LF made a CRLF, and says so in the log: the mail's author means
    /// a line end, no relay can be led astray by it, and a mail that was accepted is not lost over it.
    pub(super) fn new(mime: Vec<u8>) -> Self {
        let mut bytes = if has_only_crlf(&mime) {
            mime
        } else {
            tracing::error!("a mail was composed with bare CR or LF; its line ends were repaired");
            with_only_crlf(&mime)
        };
        // lettre writes the last line's end itself.
        if bytes.ends_with(b"\r\n") {
            bytes.truncate(bytes.len() - 2);
        }
        let dots = usize::from(bytes.first() == Some(&b'.')) + bytes.windows(3).filter(|w| w == b"\r\n.").count();
        let wire_bytes = (bytes.len() + dots + b"\r\n.\r\n".len()) as u64;
        Self { bytes, wire_bytes }
    }

    /// The content without its last line end.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes go over the wire, the final dot and its line end included.
    pub(super) fn wire_bytes(&self) -> u64 {
        self.wire_bytes
    }
}

fn has_only_crlf(mime: &[u8]) -> bool {
    let mut previous = 0;
    for &byte in mime {
        if (previous == b'\r') != (byte == b'\n') {
            return false;
        }
        previous = byte;
    }
    previous != b'\r'
}

fn with_only_crlf(mime: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(mime.len() + mime.len() / 32);
    let mut previous = 0;
    for &byte in mime {
        match (previous, byte) {
            (b'\r', b'\n') => {}
            (_, b'\r' | b'\n') => out.extend_from_slice(b"\r\n"),
            _ => out.push(byte),
        }
        previous = byte;
    }
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

    proptest! {
        #[test]
        fn no_content_has_a_bare_line_end(mime in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), any::<u8>()], 0..40)) {
            let clean = with_only_crlf(&mime);
            prop_assert!(has_only_crlf(&clean));
            prop_assert_eq!(has_only_crlf(&mime), clean == mime);
            prop_assert!(has_only_crlf(Content::new(mime).bytes()));
        }
    }
}
