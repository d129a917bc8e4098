//! Header fields on the wire: folded, encoded where needed, and never a second field.
//!
//! Written by hand since the mail builders at hand accept line breaks in names, panic on control characters, write
//! words longer than a line may be, and take text that looks like an encoded-word for one.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::ComposeError;
use super::body::hex;
use crate::domain::address::Mailbox;
use crate::domain::submission::HEADER_WORD_CHARS_MAX;

/// Where lines are folded when they can be (RFC 5322 section 2.1.1).
const LINE_CHARS_WANTED: usize = 78;
/// A line that holds an encoded-word (RFC 2047 section 2).
const ENCODED_LINE_MAX: usize = 76;
/// An encoded-word (RFC 2047 section 2).
const ENCODED_WORD_MAX: usize = 75;
/// What surrounds the text of an encoded-word: `=?utf-8?q?` and `?=`.
const ENCODED_WORD_FRAME: usize = 12;
/// A word of a subject or name that is longer is encoded, which lets it be folded.
const PLAIN_WORD_MAX: usize = 60;

/// The header section of a message or part under construction.
pub(super) struct Fields<'a> {
    out: &'a mut Vec<u8>,
    /// Octets on the last line.
    column: usize,
}

impl<'a> Fields<'a> {
    pub(super) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, column: 0 }
    }

    /// A field whose value we made ourselves: ASCII, short, nothing to encode.
    pub(super) fn plain(&mut self, name: &str, value: &str) {
        self.begin(name);
        self.put(" ");
        self.put(value);
        self.end();
    }

    /// Free text: Subject and the caller's `X-*` (`long_words`: machines read these, so ASCII is left as it is).
    pub(super) fn text(&mut self, name: &str, value: &str, words: Words) -> Result<(), ComposeError> {
        refuse_control(name, value)?;
        self.begin(name);
        let word_max = match words {
            Words::ForPeople => PLAIN_WORD_MAX,
            Words::ForMachines => HEADER_WORD_CHARS_MAX,
        };
        if can_stand(value) && pieces(value).all(|piece| piece.len() <= word_max) {
            self.folded(value);
        } else {
            self.encoded_words(value);
        }
        self.end();
        Ok(())
    }

    /// A value with a grammar of its own (`List-*`, `References`, …): as given, folded at spaces.
    pub(super) fn structured(&mut self, name: &str, value: &str) -> Result<(), ComposeError> {
        refuse_control(name, value)?;
        let value = value.trim();
        if !value.is_ascii() || pieces(value).any(|piece| piece.len() > HEADER_WORD_CHARS_MAX) {
            return Err(ComposeError(format!(
                "the header {name} must be ASCII in words of at most {HEADER_WORD_CHARS_MAX}"
            )));
        }
        self.begin(name);
        self.folded(value);
        self.end();
        Ok(())
    }

    /// One mailbox: From, To, Reply-To. A non-ASCII local part is written as UTF-8 (RFC 6532 section 3.2).
    pub(super) fn mailbox(&mut self, name: &str, mailbox: &Mailbox) -> Result<(), ComposeError> {
        let address = mailbox.address.as_str();
        refuse_control(name, address)?;
        self.begin(name);
        let shown = mailbox.name.as_deref().unwrap_or_default();
        refuse_control(name, shown)?;
        self.display_name(shown);
        self.break_before(3 + address.len(), LINE_CHARS_WANTED);
        // A quoted local part on its own would be read as a name.
        let bare = shown.is_empty() && !address.starts_with('"');
        self.put(if bare { " " } else { " <" });
        self.put(address);
        self.put(if bare { "" } else { ">" });
        self.end();
        Ok(())
    }

    fn display_name(&mut self, shown: &str) {
        if shown.is_empty() {
        } else if !can_stand(shown) || shown.len() > PLAIN_WORD_MAX {
            // Some readers put a space between two encoded-words of a name: it gets a line of its own when that saves one.
            let width = 1 + ENCODED_WORD_FRAME + encoded_len(shown).octets;
            if width <= ENCODED_LINE_MAX && self.column + width > ENCODED_LINE_MAX {
                self.line_break();
            }
            self.encoded_words(shown);
        } else {
            self.put(" ");
            let is_plain = shown.bytes().all(|b| b.is_ascii_alphanumeric() || b == b' ');
            self.put(&if is_plain { Cow::Borrowed(shown) } else { Cow::Owned(quoted(shown)) });
        }
    }

    /// `name: value; parameter…`, with a file's name by RFC 2231 when it is not plain.
    pub(super) fn disposition(&mut self, value: &str, filename: &str) -> Result<(), ComposeError> {
        refuse_control("Content-Disposition", filename)?;
        self.begin("Content-Disposition");
        self.put(" ");
        self.put(value);
        let plain = |b: u8| b.is_ascii_alphanumeric() || b" -_.,()+@!#$&~^[]{}".contains(&b);
        if can_stand(filename) && filename.len() <= PLAIN_WORD_MAX && filename.bytes().all(plain) {
            self.put(";");
            self.break_before(" filename=\"\"".len() + filename.len(), LINE_CHARS_WANTED);
            self.put(" filename=\"");
            self.put(filename);
            self.put("\"");
        } else {
            self.extended_parameter("filename", filename);
        }
        self.end();
        Ok(())
    }

    /// `name*0*=utf-8''…; name*1*=…` (RFC 2231 sections 3 and 4), one line each; a character is never split.
    fn extended_parameter(&mut self, name: &str, value: &str) {
        let mut encoded = Vec::new();
        let mut segment = String::from("utf-8''");
        for c in value.chars() {
            let escaped = percent_encoded(c);
            // " filename*99*=" and ";" around it.
            if segment.len() + escaped.len() + name.len() + 8 > LINE_CHARS_WANTED {
                encoded.push(std::mem::take(&mut segment));
            }
            segment.push_str(&escaped);
        }
        encoded.push(segment);
        let single = encoded.len() == 1;
        for (index, segment) in encoded.iter().enumerate() {
            self.put(";");
            self.line_break();
            let number = if single { String::new() } else { format!("*{index}") };
            self.put(&format!(" {name}{number}*={segment}"));
        }
    }

    fn begin(&mut self, name: &str) {
        self.column = 0;
        self.put(name);
        self.put(":");
    }

    fn end(&mut self) {
        self.line_break();
    }

    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
        self.column += text.len();
    }

    fn line_break(&mut self) {
        self.out.extend_from_slice(b"\r\n");
        self.column = 0;
    }

    /// Folds when `next`, which begins with a space, would make the line longer than `limit`.
    fn break_before(&mut self, next: usize, limit: usize) {
        if self.column + next > limit {
            self.line_break();
        }
    }

    /// The value behind a space, folded where a single space stands.
    fn folded(&mut self, value: &str) {
        for (index, piece) in pieces(value).enumerate() {
            if index > 0 {
                self.break_before(1 + piece.len(), LINE_CHARS_WANTED);
            }
            // A value that is empty leaves "Name:" without a trailing space.
            if !piece.is_empty() {
                self.put(" ");
                self.put(piece);
            }
        }
    }

    /// The whole value as encoded-words: what is between two of them is not shown, so every space is inside one.
    fn encoded_words(&mut self, value: &str) {
        let by_q = encoded_len(value).by_q;
        let room_max = ENCODED_WORD_MAX - ENCODED_WORD_FRAME;
        let mut rest = value;
        loop {
            let line_room = ENCODED_LINE_MAX.saturating_sub(self.column + 1).min(ENCODED_WORD_MAX);
            let mut room = line_room.saturating_sub(ENCODED_WORD_FRAME);
            // A word of less than a dozen characters is not worth its frame: begin a line.
            if room < 12 {
                self.line_break();
                room = room_max;
            }
            let word = if by_q { write_q(rest, room) } else { write_b(rest, room) };
            self.put(if by_q { " =?utf-8?q?" } else { " =?utf-8?b?" });
            self.put(&word.text);
            self.put("?=");
            rest = &rest[word.taken..];
            if rest.is_empty() {
                return;
            }
            self.line_break();
        }
    }
}

/// Who reads a free text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    ForPeople,
    ForMachines,
}

/// The text of one encoded-word and how many octets of the value it holds.
struct EncodedWord {
    text: String,
    taken: usize,
}

/// How long a value is in the shorter of the two encodings.
struct EncodedLen {
    octets: usize,
    by_q: bool,
}

fn encoded_len(value: &str) -> EncodedLen {
    let escaped = value.bytes().filter(|b| !is_safe(*b)).count();
    let (q, b) = (value.len() + escaped * 2, value.len().div_ceil(3) * 4);
    EncodedLen { octets: q.min(b), by_q: q <= b }
}

/// What stands for itself in every encoded-word (RFC 2047 section 5 (3)), and the space, which becomes `_`.
fn is_safe(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!*+-/ ".contains(&byte)
}

fn write_q(value: &str, room: usize) -> EncodedWord {
    let (mut text, mut taken) = (String::with_capacity(room), 0);
    for c in value.chars() {
        let mut utf8 = [0; 4];
        let bytes = c.encode_utf8(&mut utf8).as_bytes();
        let width: usize = bytes.iter().map(|b| if is_safe(*b) { 1 } else { 3 }).sum();
        if text.len() + width > room {
            break;
        }
        for &byte in bytes {
            match byte {
                b' ' => text.push('_'),
                _ if is_safe(byte) => text.push(char::from(byte)),
                _ => text.extend(['=', char::from(hex(byte >> 4)), char::from(hex(byte))]),
            }
        }
        taken += c.len_utf8();
    }
    EncodedWord { text, taken }
}

fn write_b(value: &str, room: usize) -> EncodedWord {
    let taken = value.floor_char_boundary(room / 4 * 3);
    EncodedWord { text: STANDARD.encode(&value[..taken]), taken }
}

fn percent_encoded(c: char) -> String {
    if c.is_ascii_alphanumeric() || "-_.".contains(c) {
        return c.to_string();
    }
    let mut utf8 = [0; 4];
    let bytes = c.encode_utf8(&mut utf8).as_bytes();
    bytes.iter().flat_map(|byte| ['%', char::from(hex(byte >> 4)), char::from(hex(*byte))]).collect()
}

/// A quoted string (RFC 5322 section 3.2.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Whether a text reads back as it is: ASCII, no spaces that folding or trimming could eat, nothing like an encoded-word.
fn can_stand(text: &str) -> bool {
    text.is_ascii() && !text.contains("=?") && !text.contains("  ") && !text.starts_with(' ') && !text.ends_with(' ')
}

/// The words of a value at single spaces; runs of spaces stay inside a word, so no line is ever made of spaces alone.
fn pieces(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = rest?;
        let bytes = text.as_bytes();
        let single = |at: &usize| {
            bytes[*at] == b' ' && *at > 0 && bytes[*at - 1] != b' ' && bytes.get(*at + 1).is_some_and(|b| *b != b' ')
        };
        match (0..bytes.len()).find(single) {
            Some(at) => {
                rest = Some(&text[at + 1..]);
                Some(&text[..at])
            }
            None => rest.take(),
        }
    })
}

/// CR, LF, NUL and all other control characters end or forge a field: never written, whoever let them through.
fn refuse_control(name: &str, value: &str) -> Result<(), ComposeError> {
    if value.chars().any(char::is_control) {
        return Err(ComposeError(format!("a control character in the header {name}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    fn written(write: impl FnOnce(&mut Fields<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Fields::new(&mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_are_folded_and_encoded_only_where_needed() {
        let subject = |value: &str| written(|fields| fields.text("Subject", value, Words::ForPeople).unwrap());
        assert_eq!(subject("Your card"), "Subject: Your card\r\n");
        assert_eq!(subject("Carte prête"), "Subject: =?utf-8?q?Carte_pr=C3=AAte?=\r\n");
        assert_eq!(subject("日本語"), "Subject: =?utf-8?b?5pel5pys6Kqe?=\r\n");
        assert_eq!(subject("=?utf-8?q?a?="), "Subject: =?utf-8?b?PT91dGYtOD9xP2E/PQ==?=\r\n");
        assert_eq!(subject(" a"), "Subject: =?utf-8?q?_a?=\r\n");
        assert_eq!(subject(""), "Subject:\r\n");
        let long = subject(&["word"; 40].join(" "));
        assert!(long.lines().count() > 1 && long.lines().all(|line| line.len() <= 78), "{long}");
        for value in ["é".repeat(500), "日".repeat(500), "x".repeat(500)] {
            assert!(subject(&value).lines().all(|line| line.len() <= 76), "{value}");
        }
    }

    #[test]
    fn machines_get_their_values_as_they_are() {
        let token = "t".repeat(900);
        assert_eq!(
            written(|fields| fields.text("X-Token", &token, Words::ForMachines).unwrap()),
            format!("X-Token: {token}\r\n")
        );
        assert_eq!(
            written(|fields| fields.structured("List-Unsubscribe", "<https://x.example/=?u?q?a?=>").unwrap()),
            "List-Unsubscribe: <https://x.example/=?u?q?a?=>\r\n"
        );
    }

    #[test]
    fn the_headers_of_a_link_are_one_field_each_however_long_its_url_may_be() {
        use crate::domain::suppression::link::{UnsubscribeToken, list_headers};
        for (length, byte) in (10..=400).zip((0..=255_u8).cycle()) {
            let url = format!("https://{}", "x".repeat(length - "https://".len()));
            let [link, post] = list_headers(&url, &UnsubscribeToken::from_mac(&[byte; 32]));
            for (name, value) in [link, post] {
                let field = written(|fields| fields.structured(name, &value).unwrap());
                assert_eq!(
                    field,
                    format!("{name}: {value}\r\n"),
                    "not folded, not encoded: a signature covers it as it is"
                );
                assert!(field.len() <= 998 && field.is_ascii());
            }
        }
    }

    #[test]
    fn a_file_name_is_plain_or_by_rfc_2231() {
        let named = |name: &str| written(|fields| fields.disposition("attachment", name).unwrap());
        assert_eq!(named("a b.pdf"), "Content-Disposition: attachment; filename=\"a b.pdf\"\r\n");
        assert_eq!(named("é\".pdf"), "Content-Disposition: attachment;\r\n filename*=utf-8''%C3%A9%22.pdf\r\n");
        assert!(named(&"日".repeat(255)).lines().all(|line| line.len() <= 78));
    }

    #[test]
    fn no_control_character_is_ever_written() {
        let mut out = Vec::new();
        for control in ['\r', '\n', '\0', '\t', '\u{85}', '\x7f'] {
            let value = format!("a{control}b");
            assert!(Fields::new(&mut out).text("Subject", &value, Words::ForPeople).is_err());
            assert!(Fields::new(&mut out).structured("References", &value).is_err());
            assert!(Fields::new(&mut out).disposition("attachment", &value).is_err());
        }
        assert!(out.is_empty());
    }
}
