//! Rendered parts in, the bytes of one RFC 5322 message out.
//!
//! ```text
//! text/plain                                     no HTML
//! multipart/alternative( text, html )            HTML, with a text part made from it when none is given
//! multipart/alternative( text, multipart/related( html, inline files ) )
//! multipart/mixed( one of these, attached files )
//! ```
//!
//! Promised: what goes in is what a reader gets back (line ends apart: CRLF, LF and a bare CR are each one line break,
//! and a mail that is a single text ends with one); CRLF line ends only, no line over 998 octets, 7-bit unless a local
//! part needs UTF-8; the same parts give the same bytes. A last pass checks the wire rules, so that a defect here is an
//! error at the door and not a mail that a relay could take for two.

mod body;
mod header;
mod html_scan;
mod html_text;

use std::borrow::Cow;

use jiff::Timestamp;
use memchr::{memchr, memrchr};

use crate::domain::address::Mailbox;
use crate::domain::media_type::MediaType;
use crate::domain::submission::{Attachment, HeaderKind, header_kind};
use body::{Encoding, choose, write_base64, write_text};
use header::{Fields, Words};

/// Longest line on the wire without its CRLF (RFC 5322 section 2.1.1).
const LINE_OCTETS_MAX: usize = 998;
/// Characters of the Message-ID that go into a boundary (which has at most 70, RFC 2046 section 5.1.1).
const BOUNDARY_ID_CHARS: usize = 48;

/// Everything a mail is made of.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    /// From.
    pub from: &'a Mailbox,
    /// Reply-To.
    pub reply_to: Option<&'a Mailbox>,
    /// To.
    pub recipient: &'a Mailbox,
    /// Subject, decoded.
    pub subject: &'a str,
    /// The HTML part.
    pub html: Option<&'a str>,
    /// The text part; made from the HTML when absent.
    pub text: Option<&'a str>,
    /// Further headers, checked by the door.
    pub headers: &'a [(String, String)],
    /// Attached and inline files.
    pub attachments: &'a [Attachment],
    /// Message-ID with angle brackets.
    pub message_id: &'a str,
    /// Date.
    pub date: Timestamp,
}

/// The mail cannot be written down. Holds no content, at most the name of a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the mail cannot be composed: {0}")]
pub struct ComposeError(pub String);

/// Composes one mail: CRLF line ends, no line over 998 octets, 7-bit unless an address needs UTF-8.
pub fn compose(parts: &Parts<'_>) -> Result<Vec<u8>, ComposeError> {
    let mut text = match (parts.text, parts.html) {
        (Some(text), _) => Cow::Borrowed(text),
        (None, Some(html)) => Cow::Owned(html_text::html_to_text(html)),
        (None, None) => Cow::Borrowed(""),
    };
    // A single text ends where the mail ends, which is after a line break; in every encoding alike.
    let is_single = parts.html.is_none() && parts.attachments.is_empty();
    if is_single && !text.is_empty() && !text.ends_with(['\r', '\n']) {
        text.to_mut().push('\n');
    }
    let files: usize = parts.attachments.iter().map(|file| file.content.len()).sum();
    let html_bytes = parts.html.map_or(0, str::len);
    let mut out = Vec::with_capacity(2_048 + text.len() + html_bytes + html_bytes / 2 + files / 2 + files);
    write_header(&mut out, parts)?;
    let boundaries = Boundaries::from_message_id(parts.message_id);
    write_mixed(&mut out, parts, &text, &boundaries)?;
    let utf8 = [Some(parts.from), parts.reply_to, Some(parts.recipient)];
    let utf8 = utf8.into_iter().flatten().any(|mailbox| mailbox.address.needs_smtputf8());
    check_wire(&out, if utf8 { Octets::Utf8 } else { Octets::Ascii })?;
    Ok(out)
}

fn write_header(out: &mut Vec<u8>, parts: &Parts<'_>) -> Result<(), ComposeError> {
    let id = parts.message_id;
    if !id.bytes().all(|b| b.is_ascii_graphic()) || id.len() > LINE_OCTETS_MAX / 2 {
        return Err(ComposeError("the Message-ID is not printable ASCII".into()));
    }
    let mut fields = Fields::new(out);
    fields.mailbox("From", parts.from)?;
    fields.mailbox("To", parts.recipient)?;
    if let Some(reply_to) = parts.reply_to {
        fields.mailbox("Reply-To", reply_to)?;
    }
    fields.text("Subject", parts.subject, Words::ForPeople)?;
    let date = parts.date.to_zoned(jiff::tz::TimeZone::UTC);
    fields.plain("Date", &date.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string());
    fields.plain("Message-ID", id);
    fields.plain("MIME-Version", "1.0");
    // A system wrote this mail: nobody's vacation message should answer it (RFC 3834 section 5).
    if !parts.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("Auto-Submitted")) {
        fields.plain("Auto-Submitted", "auto-generated");
    }
    for (name, value) in parts.headers {
        match header_kind(name) {
            Some(HeaderKind::Text) => fields.text(name, value, Words::ForMachines)?,
            Some(HeaderKind::Structured) => fields.structured(name, value)?,
            None => return Err(ComposeError("a header that callers may not give".into())),
        }
    }
    Ok(())
}

/// The files around the body.
fn write_mixed(out: &mut Vec<u8>, parts: &Parts<'_>, text: &str, boundaries: &Boundaries) -> Result<(), ComposeError> {
    // Without HTML nothing can show an inline file: it is attached.
    let is_inline = |file: &&Attachment| parts.html.is_some() && file.content_id.is_some();
    let (inline, attached): (Vec<_>, Vec<_>) = parts.attachments.iter().partition(is_inline);
    if attached.is_empty() {
        write_body(out, parts.html, text, &inline, boundaries)?;
    } else {
        begin_multipart(out, "multipart/mixed", &boundaries.mixed);
        write_body(out, parts.html, text, &inline, boundaries)?;
        for file in attached {
            next_part(out, &boundaries.mixed);
            write_file(out, file)?;
        }
        end_multipart(out, &boundaries.mixed);
    }
    if !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    Ok(())
}

/// The text, or the text and the HTML with what it shows.
fn write_body(
    out: &mut Vec<u8>,
    html: Option<&str>,
    text: &str,
    inline: &[&Attachment],
    boundaries: &Boundaries,
) -> Result<(), ComposeError> {
    let Some(html) = html else {
        write_text_part(out, "plain", text);
        return Ok(());
    };
    begin_multipart(out, "multipart/alternative", &boundaries.alternative);
    write_text_part(out, "plain", text);
    next_part(out, &boundaries.alternative);
    if inline.is_empty() {
        write_text_part(out, "html", html);
    } else {
        begin_multipart(out, "multipart/related; type=\"text/html\"", &boundaries.related);
        write_text_part(out, "html", html);
        for file in inline {
            next_part(out, &boundaries.related);
            write_file(out, file)?;
        }
        end_multipart(out, &boundaries.related);
    }
    end_multipart(out, &boundaries.alternative);
    Ok(())
}

fn write_text_part(out: &mut Vec<u8>, subtype: &str, text: &str) {
    let encoding = choose(text);
    let mut fields = Fields::new(out);
    fields.plain("Content-Type", &format!("text/{subtype}; charset=utf-8"));
    fields.plain("Content-Transfer-Encoding", encoding.as_str());
    out.extend_from_slice(b"\r\n");
    write_text(out, text, encoding);
}

fn write_file(out: &mut Vec<u8>, file: &Attachment) -> Result<(), ComposeError> {
    let media_type: MediaType =
        file.content_type.parse().map_err(|error| ComposeError(format!("the media type of a file: {error}")))?;
    let mut fields = Fields::new(out);
    fields.structured("Content-Type", &media_type.to_string())?;
    fields.plain("Content-Transfer-Encoding", Encoding::Base64.as_str());
    let disposition = if file.content_id.is_some() { "inline" } else { "attachment" };
    fields.disposition(disposition, &file.filename)?;
    if let Some(id) = &file.content_id {
        fields.structured("Content-ID", &format!("<{id}>"))?;
    }
    out.extend_from_slice(b"\r\n");
    write_base64(out, &file.content);
    Ok(())
}

/// The boundaries of one mail. They hold `=_`, which neither quoted-printable nor base64 can (RFC 2045 section 6.7);
/// and a text that is left as it is has no line that begins with `--`.
struct Boundaries {
    mixed: String,
    alternative: String,
    related: String,
}

impl Boundaries {
    fn from_message_id(id: &str) -> Self {
        let id: String = id.chars().filter(char::is_ascii_alphanumeric).take(BOUNDARY_ID_CHARS).collect();
        let named = |kind: char| format!("=_{kind}_{id}");
        Self { mixed: named('m'), alternative: named('a'), related: named('r') }
    }
}

fn begin_multipart(out: &mut Vec<u8>, media_type: &str, boundary: &str) {
    Fields::new(out).plain("Content-Type", &format!("{media_type};\r\n boundary=\"{boundary}\""));
    out.extend_from_slice(b"\r\n--");
    out.extend_from_slice(boundary.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn next_part(out: &mut Vec<u8>, boundary: &str) {
    out.extend_from_slice(b"\r\n--");
    out.extend_from_slice(boundary.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn end_multipart(out: &mut Vec<u8>, boundary: &str) {
    out.extend_from_slice(b"\r\n--");
    out.extend_from_slice(boundary.as_bytes());
    out.extend_from_slice(b"--\r\n");
}

/// Which octets may stand in the mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Octets {
    Ascii,
    Utf8,
}

/// The last look: what a relay could misread is never handed on.
fn check_wire(mail: &[u8], octets: Octets) -> Result<(), ComposeError> {
    let wrong = |what: &str| Err(ComposeError(format!("defect: {what}")));
    if !mail.ends_with(b"\r\n") {
        return wrong("the mail does not end with a line break");
    }
    if octets == Octets::Ascii && !mail.is_ascii() {
        return wrong("an octet that is not ASCII");
    }
    // A line feed stands behind every carriage return and nowhere else. Without a way out, so that the processor looks
    // at many octets at a time.
    let is_bare = |(before, b): (&u8, &u8)| (*before == b'\r') != (*b == b'\n');
    let bare = mail.iter().zip(&mail[1..]).fold(mail[0] == b'\n', |bare, pair| bare | is_bare(pair));
    if bare || memchr(0, mail).is_some() {
        return wrong("a bare carriage return, a bare line feed or NUL");
    }
    let mut rest = mail;
    while rest.len() > LINE_OCTETS_MAX + 2 {
        let Some(at) = memrchr(b'\n', &rest[..LINE_OCTETS_MAX + 2]) else {
            return wrong("a line over 998 octets");
        };
        rest = &rest[at + 1..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Line by line.
    fn slowly_checked(mail: &[u8], octets: Octets) -> bool {
        let Some(mail) = mail.strip_suffix(b"\r\n") else { return false };
        let Ok(mail) = std::str::from_utf8(mail) else { return false };
        (octets == Octets::Utf8 || mail.is_ascii())
            && mail.split("\r\n").all(|line| line.len() <= LINE_OCTETS_MAX && !line.contains(['\r', '\n', '\0']))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_last_look_is_as_good_as_one_line_by_line(
            units in proptest::collection::vec(
                prop_oneof![
                    20 => (0_usize..1_001).prop_map(|octets| "x".repeat(octets)),
                    20 => Just("\r\n".to_owned()),
                    1 => "[\r\n\0\u{e9}]",
                ],
                0..12,
            )
        ) {
            let mail = format!("{}\r\n", units.concat());
            for octets in [Octets::Ascii, Octets::Utf8] {
                prop_assert_eq!(check_wire(mail.as_bytes(), octets).is_ok(), slowly_checked(mail.as_bytes(), octets));
            }
        }
    }

    #[test]
    fn the_last_look_refuses_what_a_relay_could_misread() {
        assert_eq!(check_wire(b"a\r\n.\r\n", Octets::Ascii), Ok(()));
        assert_eq!(check_wire("é\r\n".as_bytes(), Octets::Utf8), Ok(()));
        for wrong in [b"a".as_slice(), b"a\n", b"a\rb\r\n", b"a\0\r\n", b"\n.\r\n", "é\r\n".as_bytes(), b"a\r\r\n", b""]
        {
            assert!(check_wire(wrong, Octets::Ascii).is_err(), "{wrong:?}");
        }
        let long = |octets: usize| check_wire(format!("a\r\n{}\r\n", "x".repeat(octets)).as_bytes(), Octets::Ascii);
        assert!(long(LINE_OCTETS_MAX).is_ok() && long(LINE_OCTETS_MAX + 1).is_err());
    }
}
