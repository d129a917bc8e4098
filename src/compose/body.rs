//! Bodies on the wire: 7bit, quoted-printable or base64, with CRLF line ends and nothing a relay could misread.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Longest line of quoted-printable and base64 (RFC 2045 sections 6.7 and 6.8), and of what is left as it is.
const LINE_OCTETS_MAX: usize = 76;
/// Octets that make one full line of base64.
const BASE64_LINE: usize = LINE_OCTETS_MAX / 4 * 3;

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    SevenBit,
    QuotedPrintable,
    Base64,
}

impl Encoding {
    /// The value of Content-Transfer-Encoding.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::SevenBit => "7bit",
            Self::QuotedPrintable => "quoted-printable",
            Self::Base64 => "base64",
        }
    }
}

/// `text` with CRLF line ends. CRLF, LF and a bare CR (which HTML parsers read as a line break, and RFC 5322 section
/// 2.3 forbids) are one line break each.
pub(super) fn with_crlf(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 16 + 2);
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| matches!(b, b'\r' | b'\n')) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(b"\r\n");
        let width = if rest[at..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[at + width..];
    }
    out.extend_from_slice(rest);
    out
}

/// The best encoding for a text with CRLF line ends.
///
/// A text is left as it is only when no relay or mailbox could want to change it and no boundary can begin in it: ASCII,
/// short lines, no control characters, no trailing spaces, no "From ", no line that begins with a dot or two hyphens.
pub(super) fn choose(text: &[u8]) -> Encoding {
    let high = text.iter().filter(|b| !b.is_ascii()).count();
    // Three octets for one in quoted-printable, four for three in base64: even at a sixth of the text.
    if high * 6 > text.len() {
        return Encoding::Base64;
    }
    let plain_line = |line: &[u8]| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        line.len() <= LINE_OCTETS_MAX
            && line.iter().all(|b| matches!(b, b' '..=b'~' | b'\t'))
            && !line.ends_with(b" ")
            && !line.ends_with(b"\t")
            && ![b"From ".as_slice(), b".", b"--"].iter().any(|start| line.starts_with(start))
    };
    if high == 0 && text.split(|b| *b == b'\n').all(plain_line) {
        Encoding::SevenBit
    } else {
        Encoding::QuotedPrintable
    }
}

/// Appends `text` (CRLF line ends) in `encoding`, without a line break after its last line.
pub(super) fn write_text(out: &mut Vec<u8>, text: &[u8], encoding: Encoding) {
    match encoding {
        Encoding::SevenBit => out.extend_from_slice(text),
        Encoding::QuotedPrintable => write_quoted_printable(out, text),
        Encoding::Base64 => write_base64(out, text),
    }
}

/// Appends `bytes` as base64 in full lines, without a line break after the last.
pub(super) fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut line = [0_u8; LINE_OCTETS_MAX];
    out.reserve(bytes.len() / BASE64_LINE * (LINE_OCTETS_MAX + 2) + LINE_OCTETS_MAX + 2);
    for (index, chunk) in bytes.chunks(BASE64_LINE).enumerate() {
        if index > 0 {
            out.extend_from_slice(b"\r\n");
        }
        // 57 octets are 76 characters: the line always fits.
        let written = STANDARD.encode_slice(chunk, &mut line).unwrap_or_default();
        out.extend_from_slice(&line[..written]);
    }
}

/// Quoted-printable (RFC 2045 section 6.7) with soft line breaks. Besides what must be encoded, a leading dot and the F
/// of a leading "From " are: a relay that forgets dot-stuffing or writes mbox files changes nothing.
fn write_quoted_printable(out: &mut Vec<u8>, text: &[u8]) {
    out.reserve(text.len() + text.len() / 8);
    let mut lines = text.split(|b| *b == b'\n').peekable();
    while let Some(line) = lines.next() {
        let is_last = lines.peek().is_none();
        let line = if is_last { line } else { line.strip_suffix(b"\r").unwrap_or(line) };
        write_quoted_printable_line(out, line);
        if !is_last {
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn write_quoted_printable_line(out: &mut Vec<u8>, line: &[u8]) {
    let mut column = 0;
    let mut index = 0;
    while index < line.len() {
        let rest = &line[index..];
        // The longest run that stands as it is and fits, with room for the "=" of a soft break.
        let room = LINE_OCTETS_MAX - 1 - column;
        let run = rest.iter().take(room).take_while(|b| matches!(b, b' '..=b'<' | b'>'..=b'~' | b'\t')).count();
        let must_encode_first = column == 0 && (rest[0] == b'.' || rest.starts_with(b"From "));
        let run = if must_encode_first { 0 } else { run };
        // White space at the end of the line would be lost (rule 3): it is encoded.
        let run = if run == rest.len() && matches!(rest[run - 1], b' ' | b'\t') { run - 1 } else { run };
        if run > 0 {
            out.extend_from_slice(&rest[..run]);
            (column, index) = (column + run, index + run);
        } else if room >= 3 {
            let byte = rest[0];
            out.extend_from_slice(&[b'=', hex(byte >> 4), hex(byte & 15)]);
            (column, index) = (column + 3, index + 1);
        } else {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
    }
}

/// An upper-case hexadecimal digit.
pub(super) const fn hex(nibble: u8) -> u8 {
    b"0123456789ABCDEF"[(nibble & 15) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str) -> String {
        let mut out = Vec::new();
        write_quoted_printable(&mut out, &with_crlf(text));
        String::from_utf8(out).unwrap_or_default()
    }

    #[test]
    fn every_kind_of_line_end_is_one_line_break() {
        assert_eq!(with_crlf("a\r\nb\nc\rd\n\re\r\r\n\n"), b"a\r\nb\r\nc\r\nd\r\n\r\ne\r\n\r\n\r\n");
    }

    #[test]
    fn what_could_be_misread_on_the_way_is_encoded() {
        for (text, wanted) in [
            ("a=b", "a=3Db"),
            ("é", "=C3=A9"),
            ("a \nb\t", "a=20\r\nb=09"),
            (" ", "=20"),
            (".\n..\na.", "=2E\r\n=2E.\r\na."),
            ("From a\nFrom", "=46rom a\r\nFrom"),
            ("a\0b\x0cc\x7f", "a=00b=0Cc=7F"),
            ("", ""),
            ("\n", "\r\n"),
        ] {
            assert_eq!(encoded(text), wanted, "{text:?}");
        }
        let long = encoded(&"x".repeat(200));
        assert_eq!(long.lines().map(str::len).collect::<Vec<_>>(), [76, 76, 50]);
        let dots = encoded(&".".repeat(200));
        assert!(dots.lines().all(|line| line.starts_with("=2E") && line.len() <= 76), "{dots}");
    }

    #[test]
    fn a_text_is_left_as_it_is_only_when_nothing_could_change_it() {
        for text in ["", "Hello,\r\n\r\nbye\r\n", "a\tb"] {
            assert_eq!(choose(text.as_bytes()), Encoding::SevenBit, "{text:?}");
        }
        for text in ["a \r\nb", ".", "--x", "From x", "a\0", "a\x0c", "\u{e9}aaaaaaaaaaaa", &"x".repeat(77)] {
            assert_eq!(choose(text.as_bytes()), Encoding::QuotedPrintable, "{text:?}");
        }
        assert_eq!(choose("日本語のメール".as_bytes()), Encoding::Base64);
    }
}
