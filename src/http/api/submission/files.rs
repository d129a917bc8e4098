//! The files of a submission: strict base64, names and types that can stand in a header.

use std::collections::BTreeSet;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::super::lenient::{Fields, Node, Problems, items, text, unfolded};
use crate::domain::media_type::MediaType;
use crate::domain::submission::{ATTACHMENTS_MAX, Attachment, FILENAME_CHARS_MAX};

/// What a file without a type is.
const CONTENT_TYPE_DEFAULT: &str = "application/octet-stream";
/// The standard alphabet; padding may be left out, left-over bits may not be set.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `attachments`, as a list or its JSON text.
pub(super) fn attachments(fields: &Fields<'_>, problems: &mut Problems) -> Vec<Attachment> {
    let Some(field) = fields.one("attachments", problems).and_then(|field| unfolded(field, "a list", problems)) else {
        return Vec::new();
    };
    let items = items(&field, problems);
    if items.len() > ATTACHMENTS_MAX {
        problems.add(&field.pointer, format!("more than {ATTACHMENTS_MAX}"));
    }
    let mut ids = BTreeSet::new();
    let mut files = Vec::new();
    for (index, node) in items.into_iter().take(ATTACHMENTS_MAX).enumerate() {
        let base = format!("{}/{index}", field.pointer);
        let node = super::Field { pointer: base.clone(), node: std::borrow::Cow::Borrowed(node) };
        let Some(node) = unfolded(node, "an object", problems) else { continue };
        let Node::Object(object) = &*node.node else {
            problems.add(base, "must be an object");
            continue;
        };
        let Some(file) = attachment(&base, &Fields::new(&base, object), problems) else { continue };
        if let Some(id) = &file.content_id
            && !ids.insert(id.clone())
        {
            problems.add(format!("{base}/contentId"), "another file has it already");
        }
        files.push(file);
    }
    files
}

fn attachment(base: &str, fields: &Fields<'_>, problems: &mut Problems) -> Option<Attachment> {
    if fields.given("filename").is_empty() {
        problems.add(format!("{base}/filename"), "required");
    }
    let filename = fields.line("filename", FILENAME_CHARS_MAX, problems);
    let content_type = fields.parsed("contentType", problems, |text| {
        text.parse::<MediaType>().map(|parsed| parsed.to_string()).map_err(|error| error.to_string())
    });
    let content_id = fields.parsed("contentId", problems, |text| {
        // RFC 5322 section 3.6.4, without the brackets; what can stand in a cid: address as it is.
        let fits = text.len() <= FILENAME_CHARS_MAX
            && text.bytes().all(|b| b.is_ascii_graphic() && !b"<>\"\\(),;:[]%".contains(&b));
        if fits {
            Ok(text.to_owned())
        } else {
            Err("not an identifier: printable ASCII without spaces or brackets".to_owned())
        }
    });
    let content = fields.even_empty("content", problems);
    if content.is_none() && fields.given("content").is_empty() {
        problems.add(format!("{base}/content"), "required");
    }
    let content = content.and_then(|field| {
        let text = text(&field, problems)?;
        decode(&text).map_err(|detail| problems.add(field.pointer, detail)).ok()
    });
    Some(Attachment {
        filename: filename?,
        content_type: content_type.unwrap_or_else(|| CONTENT_TYPE_DEFAULT.to_owned()),
        content: content?,
        content_id,
    })
}

fn decode(text: &str) -> Result<Vec<u8>, &'static str> {
    if text.starts_with("data:") {
        return Err("a data: address: send what follows base64, alone");
    }
    let wrong = "not base64 (standard alphabet)";
    if text.contains([' ', '\t', '\r', '\n']) {
        let dense: String = text.chars().filter(|c| !matches!(c, ' ' | '\t' | '\r' | '\n')).collect();
        return BASE64.decode(dense).map_err(|_| wrong);
    }
    BASE64.decode(text).map_err(|_| wrong)
}
