//! Bodies on the wire: 7bit, quoted-printable or base64, with CRLF line ends and nothing a relay could misread.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memchr2;

/// Longest line of quoted-printable and base64 (RFC 2045 sections 6.7 and 6.8), and of what is left as it is.
const LINE_OCTETS_MAX: usize = 76;
/// Octets that make one full line of base64.
const BASE64_LINE: usize = LINE_OCTETS_MAX / 4 * 3;
/// Octets looked at together.
const BLOCK: usize = 16;

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

/// The lines of a text. CRLF, LF and a bare CR (which HTML parsers read as a line break, and RFC 5322 section 2.3
/// forbids) are one line break each; what stands behind the last is a line too, if an empty one.
fn lines(text: &str) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text.as_bytes());
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(at) = memchr2(b'\r', b'\n', text) else { return rest.take() };
        let width = if text[at..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = Some(&text[at + width..]);
        Some(&text[..at])
    })
}

/// Appends every line as `write` writes it, with CRLF between two.
fn write_lines(out: &mut Vec<u8>, text: &str, write: fn(&mut Vec<u8>, &[u8])) {
    for (index, line) in lines(text).enumerate() {
        if index > 0 {
            out.extend_from_slice(b"\r\n");
        }
        write(out, line);
    }
}

/// `text` with CRLF line ends.
fn with_crlf(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 16 + 2);
    write_lines(&mut out, text, Vec::extend_from_slice);
    out
}

/// The best encoding for a text.
///
/// A text is left as it is only when no relay or mailbox could want to change it and no boundary can begin in it: ASCII,
/// short lines, no control characters, no trailing spaces, no "From ", no line that begins with a dot or two hyphens.
pub(super) fn choose(text: &str) -> Encoding {
    // Counted in octets of 255 at most, which the processor does many at a time.
    let high = |part: &[u8]| usize::from(part.iter().map(|b| b >> 7).sum::<u8>());
    let high: usize = text.as_bytes().chunks(usize::from(u8::MAX)).map(high).sum();
    // Three octets for one in quoted-printable, four for three in base64: even at a sixth of the text.
    if high * 6 > text.len() && high * 6 > with_crlf(text).len() {
        return Encoding::Base64;
    }
    let plain_line = |line: &[u8]| {
        line.len() <= LINE_OCTETS_MAX
            && line.iter().all(|b| matches!(b, b' '..=b'~' | b'\t'))
            && !line.ends_with(b" ")
            && !line.ends_with(b"\t")
            && ![b"From ".as_slice(), b".", b"--"].iter().any(|start| line.starts_with(start))
    };
    if high == 0 && lines(text).all(plain_line) { Encoding::SevenBit } else { Encoding::QuotedPrintable }
}

/// Appends `text` in `encoding`, with CRLF line ends and without one after its last line.
pub(super) fn write_text(out: &mut Vec<u8>, text: &str, encoding: Encoding) {
    match encoding {
        Encoding::SevenBit => write_lines(out, text, Vec::extend_from_slice),
        Encoding::QuotedPrintable => write_lines(out, text, write_quoted_printable_line),
        Encoding::Base64 => write_base64(out, &with_crlf(text)),
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

/// Whether an octet stands for itself in quoted-printable (RFC 2045 section 6.7 rules 2 and 3).
fn stands(octet: u8) -> bool {
    matches!(octet, b' '..=b'<' | b'>'..=b'~' | b'\t')
}

/// How many octets at the beginning stand for themselves.
fn run_that_stands(text: &[u8]) -> usize {
    // A block is looked at whole, without a way out: so the processor can look at all of its octets at once.
    let clean = |block: &&[u8; BLOCK]| block.iter().fold(true, |clean, octet| clean & stands(*octet));
    if text.first().is_none_or(|octet| !stands(*octet)) {
        return 0;
    }
    let run = text.as_chunks().0.iter().take_while(clean).count() * BLOCK;
    run + text[run..].iter().take_while(|octet| stands(**octet)).count()
}

/// One line in quoted-printable (RFC 2045 section 6.7) with soft line breaks. Besides what must be encoded, a leading
/// dot and the F of a leading "From " are: a relay that forgets dot-stuffing or writes mbox files changes nothing.
fn write_quoted_printable_line(out: &mut Vec<u8>, line: &[u8]) {
    let mut rest = line;
    let mut column = 0;
    let mut standing = run_that_stands(rest);
    while let Some(&first) = rest.first() {
        // Room for the "=" of a soft break is kept.
        let room = LINE_OCTETS_MAX - 1 - column;
        let must_encode_first = column == 0 && (first == b'.' || rest.starts_with(b"From "));
        let run = if must_encode_first { 0 } else { standing.min(room) };
        // White space at the end of the line would be lost (rule 3): it is encoded.
        let run = if run == rest.len() && matches!(rest[run - 1], b' ' | b'\t') { run - 1 } else { run };
        let taken = if run > 0 {
            out.extend_from_slice(&rest[..run]);
            column += run;
            run
        } else if room >= 3 {
            out.extend_from_slice(&[b'=', hex(first >> 4), hex(first & 15)]);
            column += 3;
            1
        } else {
            out.extend_from_slice(b"=\r\n");
            column = 0;
            continue;
        };
        rest = &rest[taken..];
        standing = standing.checked_sub(taken).unwrap_or_else(|| run_that_stands(rest));
    }
}

/// An upper-case hexadecimal digit.
pub(super) const fn hex(nibble: u8) -> u8 {
    b"0123456789ABCDEF"[(nibble & 15) as usize]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Text that is likely to trip an encoder.
    fn nasty() -> impl Strategy<Value = String> {
        let units = prop_oneof![
            "[ -~]{1,90}",
            "[\\x00-\\x7f]{1,5}",
            "[ -~\u{e9}\u{65e5}]{1,20}",
            "(\\.|--?|From |=|\t| |\r|\n|\r\n){1,4}",
        ];
        proptest::collection::vec(units, 0..20).prop_map(|units| units.concat())
    }

    fn slowly_with_crlf(text: &str) -> String {
        text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n")
    }

    /// Octet by octet.
    fn slowly_quoted_printable(line: &str) -> String {
        let (mut out, mut column, mut rest) = (String::new(), 0, line.as_bytes());
        while let [octet, after @ ..] = rest {
            let must_encode = !stands(*octet)
                || (column == 0 && (*octet == b'.' || rest.starts_with(b"From ")))
                || (after.is_empty() && b" \t".contains(octet));
            let written = if must_encode { format!("={octet:02X}") } else { char::from(*octet).to_string() };
            if column + written.len() < LINE_OCTETS_MAX {
                column += written.len();
                out.push_str(&written);
                rest = after;
            } else {
                column = 0;
                out.push_str("=\r\n");
            }
        }
        out
    }

    fn slowly_chosen(text: &str) -> Encoding {
        let plain_line = |line: &str| {
            line.len() <= LINE_OCTETS_MAX
                && line.bytes().all(|b| b.is_ascii_graphic() || b == b' ' || b == b'\t')
                && !line.ends_with([' ', '\t'])
                && !["From ", ".", "--"].iter().any(|start| line.starts_with(start))
        };
        if text.bytes().filter(|b| *b >= 128).count() * 6 > text.len() {
            Encoding::Base64
        } else if text.split("\r\n").all(plain_line) {
            Encoding::SevenBit
        } else {
            Encoding::QuotedPrintable
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn whatever_comes_is_written_as_octet_by_octet(text in nasty()) {
            let written = |encoding| {
                let mut out = Vec::new();
                write_text(&mut out, &text, encoding);
                String::from_utf8(out).unwrap_or_default()
            };
            let crlf = slowly_with_crlf(&text);
            prop_assert_eq!(&written(Encoding::SevenBit), &crlf);
            prop_assert_eq!(String::from_utf8(with_crlf(&text)).unwrap_or_default(), crlf.clone());
            prop_assert_eq!(choose(&text), slowly_chosen(&crlf));
            let lines: Vec<String> = crlf.split("\r\n").map(slowly_quoted_printable).collect();
            prop_assert_eq!(written(Encoding::QuotedPrintable), lines.join("\r\n"));
        }
    }

    fn encoded(text: &str) -> String {
        let mut out = Vec::new();
        write_text(&mut out, text, Encoding::QuotedPrintable);
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
            assert_eq!(choose(text), Encoding::SevenBit, "{text:?}");
        }
        for text in ["a \r\nb", ".", "--x", "From x", "a\0", "a\x0c", "\u{e9}aaaaaaaaaaaa", &"x".repeat(77)] {
            assert_eq!(choose(text), Encoding::QuotedPrintable, "{text:?}");
        }
        assert_eq!(choose("日本語のメール"), Encoding::Base64);
    }
}
