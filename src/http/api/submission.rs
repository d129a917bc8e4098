//! `POST /v1/emails`: what was sent becomes a [`Submission`], or a list of everything that is wrong with it.
//!
//! The platform's script engine is lenient with its own output, so this door is lenient with it: names in any case, flat
//! or inside `email`, JSON or form, JSON text inside either. It is strict where leniency would change a mail: two
//! different values for one field, a lost object, control characters, half-readable files. Unknown fields are ignored.

mod dedupe;
mod files;
mod own;
mod unless;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::fmt::temporal::Pieces;

use super::lenient::{
    self, Field, Fields, Media, Node, Object, ParseError, Problems, below, entries, is_line, is_listed, items, only,
    text, unfolded,
};
use crate::domain::address::Mailbox;
use crate::domain::lane::Lane;
use crate::domain::quantity::HumanDuration;
use crate::domain::submission::{
    Deadline, FieldError, HEADER_VALUE_CHARS_MAX, HEADER_WORD_CHARS_MAX, HEADERS_MAX, HeaderKind,
    METADATA_KEY_CHARS_MAX, METADATA_MAX, METADATA_VALUE_CHARS_MAX, SUBJECT_CHARS_MAX, Submission, TAG_CHARS_MAX,
    TAGS_MAX, TEMPLATE_CHARS_MAX, header_kind,
};

/// Reads a body. No value is repeated in an error.
pub fn parse(media: Media, body: &[u8]) -> Result<Submission, ParseError> {
    match lenient::read(media, body)? {
        Node::Object(object) => submission(&object).map_err(ParseError::Invalid),
        _ => Err(ParseError::Malformed("not a JSON object".into())),
    }
}

fn submission(root: &Object) -> Result<Submission, Vec<FieldError>> {
    let problems = &mut Problems::default();
    let fields = &Fields::new("", root);
    let recipient = mailbox(fields, "recipient", problems);
    if recipient.is_none() && fields.given("recipient").is_empty() {
        problems.add("/recipient", "required");
    }
    let template = fields.line("emailTemplate", TEMPLATE_CHARS_MAX, problems);
    own::are_cultures(fields, problems);
    let unless = unless::unless(fields, problems);
    let data = data(fields, problems);
    let (content, own) = if own::is_wanted(fields) {
        let customer = unless.as_ref().and_then(|unless| unless.customer.clone());
        (Content::default(), Some(own::own(fields, data.as_ref(), customer, problems)))
    } else {
        (content(fields, problems), None)
    };
    let submission = Submission {
        template,
        own,
        from: mailbox(fields, "from", problems),
        reply_to: mailbox(fields, "replyTo", problems),
        headers: headers(fields, problems),
        attachments: files::attachments(fields, problems),
        lane: fields.parsed("lane", problems, |text| text.to_lowercase().parse::<Lane>()),
        deadline: deadline(fields, problems),
        send_at: time(fields, "sendAt", problems),
        dedupe: dedupe::dedupe(fields, problems),
        unless,
        tags: tags(fields, problems),
        metadata: metadata(fields, problems),
        data: data.as_ref().map(as_texts).unwrap_or_default(),
        subject: content.subject,
        html: content.html,
        text: content.text,
        // A submission without a recipient is never handed out: the problem is noted above.
        recipient: match recipient {
            Some(recipient) => recipient,
            None => return std::mem::take(problems).into_result(None),
        },
    };
    std::mem::take(problems).into_result(Some(submission))
}

fn mailbox(fields: &Fields<'_>, name: &str, problems: &mut Problems) -> Option<Mailbox> {
    fields.parsed(name, problems, |text| text.parse::<Mailbox>().map_err(|error| error.to_string()))
}

#[derive(Default)]
struct Content {
    subject: String,
    html: Option<String>,
    text: Option<String>,
}

/// Subject, Body and text, flat or inside `email`.
fn content(fields: &Fields<'_>, problems: &mut Problems) -> Content {
    let email = fields.one("email", problems).and_then(|field| unfolded(field, "an object", problems));
    let empty = BTreeMap::new();
    let inner = match email.as_ref().map(|field| &*field.node) {
        Some(Node::Object(object)) => object,
        Some(_) => {
            problems.add("/email", "must be an object with Subject and Body");
            &empty
        }
        None => &empty,
    };
    let inner = Fields::new("/email", inner);
    let mut read = |name: &str| {
        let mut given = inner.given(name);
        given.extend(fields.given(name));
        let was_given = !given.is_empty();
        let field = only(given, problems);
        let value = field.and_then(|field| Some((text(&field, problems)?, field.pointer)));
        (value, was_given)
    };
    let (subject, has_subject) = read("Subject");
    let (body, has_body) = read("Body");
    let (plain, has_plain) = read("text");
    if !has_subject && !has_body && !has_plain {
        let detail = "required, unless emailTemplate names a template of Postern's own";
        problems.add("/Subject", detail);
        problems.add("/Body", detail);
    } else {
        for (given, pointer) in [(has_subject, "/Subject"), (has_body || has_plain, "/Body")] {
            if !given {
                problems.add(pointer, "required");
            }
        }
    }
    let subject = subject.map_or_else(String::new, |(subject, pointer)| {
        is_line(&pointer, &subject, SUBJECT_CHARS_MAX, problems);
        subject
    });
    let plain = plain.map(|(plain, _)| plain);
    match body {
        Some((html, _)) if holds_a_tag(&html) => Content { subject, html: Some(html), text: plain },
        Some((body, pointer)) => {
            if plain.is_some_and(|plain| plain != body) {
                problems.add(pointer, "is plain text (it holds no tag), and text says something else");
            }
            Content { subject, html: None, text: Some(body) }
        }
        None => Content { subject, html: None, text: plain },
    }
}

/// Whether a body is HTML: it holds a tag, a comment or a doctype. `a < b`, `<3` and `<a@b.example>` are text.
fn holds_a_tag(body: &str) -> bool {
    let Some(last_end) = body.rfind('>') else { return false };
    body[..last_end].match_indices('<').any(|(at, _)| {
        let rest = &body[at + 1..];
        if rest.starts_with("!--") || rest.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("!doctype")) {
            return true;
        }
        let name = rest.strip_prefix('/').unwrap_or(rest);
        let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(name.len());
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name[end..].starts_with(['>', '/', ' ', '\t', '\r', '\n', '\x0c'])
            && !name[end..].starts_with("//")
    })
}

/// The caller's headers, as an object or a list of `{name, value}`; sorted, so that their order makes no difference.
fn headers(fields: &Fields<'_>, problems: &mut Problems) -> Vec<(String, String)> {
    let Some(field) = fields.one("headers", problems).and_then(|f| unfolded(f, "an object", problems)) else {
        return Vec::new();
    };
    let mut pairs: Vec<(String, String, Field<'_>)> = Vec::new();
    if is_listed(&field.node) {
        for (index, item) in items(&field, problems).into_iter().enumerate() {
            let base = format!("{}/{index}", field.pointer);
            let Node::Object(item) = item else {
                problems.add(base, "must be an object with name and value");
                continue;
            };
            let item = Fields::new(&base, item);
            let name = item.text("name", problems).map(|(_, name)| name);
            let value = item.even_empty("value", problems);
            match (name, value) {
                (Some(name), Some(value)) => pairs.push((name, base, value)),
                _ => problems.add(base, "name and value are required"),
            }
        }
    } else {
        for (name, node) in entries(&field, problems) {
            let pointer = below(&field.pointer, name);
            let value = Field { pointer: pointer.clone(), node: std::borrow::Cow::Borrowed(node) };
            pairs.push((name.clone(), pointer, value));
        }
    }
    if pairs.len() > HEADERS_MAX {
        problems.add(&field.pointer, format!("more than {HEADERS_MAX}"));
    }
    let mut seen = BTreeSet::new();
    let mut headers = Vec::new();
    for (name, pointer, value) in pairs.into_iter().take(HEADERS_MAX) {
        if !seen.insert(name.to_lowercase()) {
            problems.add(&pointer, "given more than once");
        }
        headers.extend(header(name, &pointer, &value, problems));
    }
    headers.sort_by_key(|(name, _)| name.to_lowercase());
    headers
}

fn header(name: String, pointer: &str, value: &Field<'_>, problems: &mut Problems) -> Option<(String, String)> {
    if *value.node == Node::Null {
        return None;
    }
    let Some(kind) = header_kind(&name) else {
        problems.add(pointer, "not a header that may be given: X-*, List-*, References, In-Reply-To, Auto-Submitted");
        return None;
    };
    let value = text(value, problems)?;
    if !is_line(pointer, &value, HEADER_VALUE_CHARS_MAX, problems) {
        return None;
    }
    let value = value.trim_matches(' ');
    if kind == HeaderKind::Structured && (!value.is_ascii() || value.is_empty()) {
        problems.add(pointer, "must be ASCII and not empty (percent-encode addresses of pages)");
    }
    if value.is_ascii() && value.split(' ').any(|word| word.len() > HEADER_WORD_CHARS_MAX) {
        problems.add(pointer, format!("more than {HEADER_WORD_CHARS_MAX} characters without a space"));
    }
    Some((name, value.to_owned()))
}

fn time(fields: &Fields<'_>, name: &str, problems: &mut Problems) -> Option<Timestamp> {
    fields.parsed(name, problems, |text| {
        text.parse().map_err(|_| {
            // The last days of the year 9999 are beyond what a moment can be.
            let far = Pieces::parse(text).is_ok_and(|at| at.offset().is_some() && at.date().year() == 9_999);
            let detail =
                if far { "more than a year ahead" } else { "not a time with its offset, as in 2030-01-31T09:00:00Z" };
            detail.to_owned()
        })
    })
}

fn deadline(fields: &Fields<'_>, problems: &mut Problems) -> Option<Deadline> {
    let both = !fields.given("deliverBy").is_empty() && !fields.given("deliverWithin").is_empty();
    if both {
        problems.add("/deliverWithin", "give deliverBy or deliverWithin, not both");
    }
    let by = time(fields, "deliverBy", problems).map(Deadline::By);
    let within = fields.parsed("deliverWithin", problems, |text| {
        text.parse::<HumanDuration>().map_err(|_| "not a length of time, as in 90s, 15m, 2h or 7d".to_owned())
    });
    by.or(within.map(Deadline::Within))
}

fn tags(fields: &Fields<'_>, problems: &mut Problems) -> Vec<String> {
    // `tags=a&tags=b` is how a form writes a list.
    let mut given = fields.given("tags");
    if given.len() == 1 {
        let Some(field) = given.pop() else { return Vec::new() };
        given = match &*field.node {
            Node::Text(text) if !text.trim_start().starts_with('[') => vec![field],
            _ => {
                let Some(field) = unfolded(field, "a list", problems) else { return Vec::new() };
                let list = items(&field, problems).into_iter().cloned().enumerate();
                let item = |(index, node)| Field {
                    pointer: format!("{}/{index}", field.pointer),
                    node: std::borrow::Cow::Owned(node),
                };
                list.map(item).collect()
            }
        };
    }
    if given.len() > TAGS_MAX {
        problems.add("/tags", format!("more than {TAGS_MAX}"));
        given.truncate(TAGS_MAX);
    }
    let mut tags = Vec::new();
    for field in given {
        let Some(tag) = text(&field, problems) else { continue };
        if tag.is_empty() || tag.contains(',') {
            problems.add(&field.pointer, "a tag is not empty and holds no comma: send a list");
        }
        if is_line(&field.pointer, &tag, TAG_CHARS_MAX, problems) && !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    tags
}

fn metadata(fields: &Fields<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let Some(field) = fields.one("metadata", problems).and_then(|f| unfolded(f, "an object", problems)) else {
        return BTreeMap::new();
    };
    let entries = entries(&field, problems);
    if entries.len() > METADATA_MAX {
        problems.add(&field.pointer, format!("more than {METADATA_MAX}"));
    }
    let mut metadata = BTreeMap::new();
    for (key, node) in entries.into_iter().take(METADATA_MAX) {
        let pointer = below(&field.pointer, key);
        match node {
            Node::Null => continue,
            Node::Text(_) | Node::Number(_) | Node::Bool(_) => {}
            Node::List(_) | Node::Object(_) => problems.add(&pointer, "must be text, a number, true or false"),
        }
        if key.is_empty() {
            problems.add(&pointer, "a key is not empty");
        }
        is_line(&pointer, key, METADATA_KEY_CHARS_MAX, problems);
        let value = node.to_text();
        is_line(&pointer, &value, METADATA_VALUE_CHARS_MAX, problems);
        metadata.insert(key.clone(), value);
    }
    metadata
}

/// What the template is given, the platform's or ours: an object.
fn data<'a>(fields: &Fields<'a>, problems: &mut Problems) -> Option<Field<'a>> {
    let field = fields.one("data", problems).and_then(|field| unfolded(field, "an object", problems))?;
    if matches!(&*field.node, Node::List(items) if items.is_empty()) {
        // How some languages write an empty object; a mail is not refused over data that is dropped.
        return None;
    }
    entries(&field, problems);
    Some(field)
}

/// Each value as text, for those that the tenant keeps.
fn as_texts(data: &Field<'_>) -> BTreeMap<String, String> {
    let Node::Object(object) = &*data.node else { return BTreeMap::new() };
    let entries = object.iter().filter_map(|(key, values)| values.last().map(|node| (key, node)));
    entries.filter(|(_, node)| !node.is_absent()).map(|(key, node)| (key.clone(), node.to_text())).collect()
}

#[cfg(test)]
mod tests;
