//! Reads reports: `multipart/report` (RFC 6522) with a DSN (RFC 3464) or a complaint (ARF, RFC 5965) in it.
//!
//! By lines, and no further than needed: which parts there are, and the fields of the one that a machine is to read.
//! Nothing of it is decoded, as that part never is encoded. Whatever comes in, reading ends, takes time in proportion to
//! its length, and never fails: what cannot be read is no report.

use super::{Action, Delivery, Said};
use crate::domain::reply::{EnhancedCode, REPLY_BYTES_MAX};

/// Recipients looked at in one report, at most. Ours has one; where that is a list there may be more.
const RECIPIENTS_MAX: usize = 100;

/// What a mail says, if it is a report.
#[must_use]
pub fn read(mail: &[u8]) -> Option<Said> {
    let mut lines = mail.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let head = fields(&mut lines);
    let media = value(&head, "content-type")?;
    if !media_type(media).eq_ignore_ascii_case("multipart/report") {
        return None;
    }
    let boundary = format!("--{}", parameter(media, "boundary").filter(|boundary| !boundary.is_empty())?);
    let lines: Vec<&[u8]> = lines.collect();
    let is_boundary = |line: &&[u8]| {
        let rest = line.strip_prefix(boundary.as_bytes());
        rest.is_some_and(|rest| matches!(rest.trim_ascii_end(), b"" | b"--"))
    };
    // What stands before the first boundary is for nobody.
    lines.split(is_boundary).skip(1).find_map(|part| {
        let mut lines = part.iter().copied();
        let head = fields(&mut lines);
        let media = value(&head, "content-type").map(media_type).unwrap_or_default().to_ascii_lowercase();
        match media.as_str() {
            "message/delivery-status" | "message/global-delivery-status" => delivery(lines).map(Said::Delivery),
            "message/feedback-report" => is_complaint(lines).then_some(Said::Complaint),
            _ => None,
        }
    })
}

/// The gravest word on any recipient.
fn delivery<'l>(mut lines: impl Iterator<Item = &'l [u8]>) -> Option<Delivery> {
    let mut gravest: Option<Delivery> = None;
    let mut recipients = 0;
    let mut empty = 0;
    // Groups of fields with an empty line between; the first is about the mail itself.
    while recipients < RECIPIENTS_MAX && empty < RECIPIENTS_MAX {
        let group = fields(&mut lines);
        if group.is_empty() {
            // An empty line too many, or the end: an iterator that has ended goes on ending.
            empty += 1;
            continue;
        }
        let Some(action) = value(&group, "action").and_then(action) else { continue };
        recipients += 1;
        if gravest.as_ref().is_none_or(|gravest| gravest.action < action) {
            let code = value(&group, "status").and_then(EnhancedCode::leading);
            let words = value(&group, "diagnostic-code").map(words).filter(|words| !words.is_empty());
            gravest = Some(Delivery { action, code, words });
        }
    }
    gravest
}

fn action(value: &str) -> Option<Action> {
    // A comment may follow.
    let word = value.split([' ', '\t', '(', ';']).next()?.to_ascii_lowercase();
    match word.as_str() {
        "failed" => Some(Action::Failed),
        "delayed" => Some(Action::Delayed),
        "delivered" => Some(Action::Delivered),
        "relayed" | "expanded" => Some(Action::Relayed),
        _ => None,
    }
}

/// What a diagnostic says, without its type, in one line, and not without end.
fn words(value: &str) -> String {
    let said = value.split_once(';').map_or(value, |(_, said)| said).trim();
    let mut words = said.replace(char::is_control, " ");
    if let Some(end) = (0..=REPLY_BYTES_MAX.min(words.len())).rev().find(|at| words.is_char_boundary(*at)) {
        words.truncate(end);
    }
    words
}

/// Whether it is one that the recipient, or their provider, complains in.
fn is_complaint<'l>(mut lines: impl Iterator<Item = &'l [u8]>) -> bool {
    let fields = fields(&mut lines);
    let kind = value(&fields, "feedback-type").map(|kind| kind.trim().to_ascii_lowercase());
    kind.is_some_and(|kind| matches!(kind.as_str(), "abuse" | "fraud" | "virus" | "other"))
}

/// A name in lower case, and what it says.
type Field = (String, String);

/// The fields up to the next empty line, unfolded (RFC 5322 section 2.2.3). A line that is none is passed over.
fn fields<'l>(lines: &mut impl Iterator<Item = &'l [u8]>) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let text = String::from_utf8_lossy(line);
        if text.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push_str(&text);
            }
        } else if let Some((name, value)) = text.split_once(':') {
            fields.push((name.trim_end().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    fields
}

fn value<'f>(fields: &'f [Field], wanted: &str) -> Option<&'f str> {
    fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}

/// What stands before the first parameter.
fn media_type(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

/// A parameter of a Content-Type (RFC 2045 section 5.1), its quotes taken off.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, behind) = if let Some(quoted) = after.strip_prefix('"') {
            unquoted(quoted)?
        } else {
            let end = after.find([';', ' ', '\t']).unwrap_or(after.len());
            (after[..end].to_owned(), &after[end..])
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = behind.split_once(';')?.1;
    }
}

/// What a quoted text says, and what stands behind it.
fn unquoted(quoted: &str) -> Option<(String, &str)> {
    let (mut value, mut is_escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match (is_escaped, c) {
            (false, '\\') => is_escaped = true,
            (false, '"') => return Some((value, &quoted[at + 1..])),
            _ => {
                value.push(c);
                is_escaped = false;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
