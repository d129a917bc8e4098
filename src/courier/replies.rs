//! Reads one reply from the bytes of a relay: strict in structure, lenient in text, bounded in both.

use crate::domain::reply::Reply;

/// Longest line of a reply in bytes, line end included; RFC 5321 section 4.5.3.1.5 asks for 512 only.
pub(super) const LINE_BYTES_MAX: usize = 2_048;
/// Longest whole reply in bytes.
pub(super) const REPLY_BYTES_MAX: usize = 64 * 1024;

/// A whole reply, line by line (EHLO's lines each mean something).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawReply {
    /// 200 to 599.
    pub(super) code: u16,
    /// The text of each line. What is not UTF-8 or is a control character was replaced.
    pub(super) lines: Vec<String>,
}

impl From<RawReply> for Reply {
    fn from(raw: RawReply) -> Self {
        Self::new(raw.code, raw.lines.join(" "))
    }
}

/// What some bytes begin with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// A reply, and how many bytes it took.
    Whole(RawReply, usize),
    /// The beginning of a reply.
    Partial,
    /// Something else.
    Garbled,
}

/// Reads the reply at the beginning of `bytes`.
///
/// All lines carry the same code (RFC 5321 section 4.2.1). A line may end with a bare LF and may consist of its code
/// alone: neither leaves a doubt about what the relay decided, and to doubt it after the final dot would be dear.
pub(super) fn read(bytes: &[u8]) -> Reading {
    let mut code = None;
    let mut lines = Vec::new();
    let mut at = 0;
    while let Some(length) = bytes[at..].iter().position(|b| *b == b'\n') {
        if length >= LINE_BYTES_MAX || at + length >= REPLY_BYTES_MAX {
            return Reading::Garbled;
        }
        let line = &bytes[at..at + length];
        let Some(line) = Line::read(line.strip_suffix(b"\r").unwrap_or(line)) else { return Reading::Garbled };
        if code.is_some_and(|code| code != line.code) {
            return Reading::Garbled;
        }
        code = Some(line.code);
        lines.push(line.text);
        at += length + 1;
        if line.last {
            return Reading::Whole(RawReply { code: line.code, lines }, at);
        }
    }
    if bytes.len() - at >= LINE_BYTES_MAX || bytes.len() >= REPLY_BYTES_MAX {
        return Reading::Garbled;
    }
    Reading::Partial
}

/// One line of a reply.
struct Line {
    code: u16,
    last: bool,
    text: String,
}

impl Line {
    fn read(line: &[u8]) -> Option<Self> {
        let digits = line.get(..3)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        if !(200..600).contains(&code) {
            return None;
        }
        let last = match line.get(3) {
            None | Some(b' ') => true,
            Some(b'-') => false,
            Some(_) => return None,
        };
        let text = String::from_utf8_lossy(line.get(4..).unwrap_or_default());
        let text = text.chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }).collect();
        Some(Self { code, last, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(code: u16, lines: &[&str], used: usize) -> Reading {
        Reading::Whole(RawReply { code, lines: lines.iter().map(|&line| line.to_owned()).collect() }, used)
    }

    #[test]
    fn replies_are_read_as_relays_write_them() {
        for (bytes, expected) in [
            (&b"250 ok\r\n"[..], whole(250, &["ok"], 8)),
            (b"250 ok\r\n354 next\r\n", whole(250, &["ok"], 8)),
            (b"250-one\r\n250-\r\n250 three\r\n", whole(250, &["one", "", "three"], 26)),
            (b"250\r\n", whole(250, &[""], 5)),
            (b"250 bare\n", whole(250, &["bare"], 9)),
            (b"571 5.7.1 second digit above five\r\n", whole(571, &["5.7.1 second digit above five"], 35)),
            (b"250 re\xe7u\r\n", whole(250, &["re\u{fffd}u"], 10)),
            (b"250 a\0b\x1bc\r\n", whole(250, &["a?b?c"], 11)),
            (b"", Reading::Partial),
            (b"25", Reading::Partial),
            (b"250-more\r\n", Reading::Partial),
            (b"250 ok\r", Reading::Partial),
        ] {
            assert_eq!(read(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_not_a_reply_is_garbled() {
        let long = [b"250 ".as_slice(), &[b'a'; LINE_BYTES_MAX], b"\r\n"].concat();
        let long_without_end = [b'2'; LINE_BYTES_MAX];
        let endless = b"250-and more\r\n".repeat(REPLY_BYTES_MAX / 10);
        for bytes in [
            &b"\r\n"[..],
            b"hello\r\n",
            b"25 ok\r\n",
            b"2500 ok\r\n",
            b"250_ok\r\n",
            b"150 no\r\n",
            b"650 no\r\n",
            b"250-one\r\n550 two\r\n",
            b"HTTP/1.1 400 Bad Request\r\n",
            &long,
            &long_without_end,
            &endless,
        ] {
            assert_eq!(read(bytes), Reading::Garbled, "{}", bytes[..bytes.len().min(40)].escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_and_more_bytes_never_change_a_whole_reply(
            bytes in proptest::collection::vec(prop_oneof![Just(b'2'), Just(b'5'), Just(b'0'), Just(b'-'), Just(b' '), Just(b'\r'), Just(b'\n'), any::<u8>()], 0..60),
            cut in 0_usize..60,
        ) {
            let early = read(&bytes[..cut.min(bytes.len())]);
            if early != Reading::Partial {
                prop_assert_eq!(read(&bytes), early);
            }
        }
    }
}
