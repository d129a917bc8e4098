//! Reads a captured mail for people: subject, parts and attachments out of its MIME.

use mail_parser::{Address, HeaderValue, Message, MessageParser, MessagePart, MimeHeaders as _, PartType};
use serde::Serialize;

use super::captured::CapturedMail;

/// What a list shows of a mail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// The decoded From header, `Name <address>`.
    pub from: String,
    /// The decoded To header.
    pub to: String,
    /// The decoded subject.
    pub subject: String,
    /// The Message-ID with its angle brackets; empty when there is none.
    pub message_id: String,
}

/// A mail taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadMail {
    /// What a list shows of it.
    pub summary: Summary,
    /// Name and unfolded value of each header, encoded words left as they came, in order.
    pub headers: Vec<(String, String)>,
    /// The first plain text part.
    pub text: Option<String>,
    /// The first HTML part.
    pub html: Option<String>,
    /// Everything that is not one of the two bodies.
    pub attachments: Vec<Attachment>,
}

/// One attached or inline file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Its number among the mail's parts.
    pub part: usize,
    /// Its file name, when it has one.
    pub filename: Option<String>,
    /// Its media type without parameters, in lower case.
    pub content_type: String,
    /// Its decoded size in octets.
    pub size: usize,
    /// Its Content-ID without angle brackets, when it has one.
    pub content_id: Option<String>,
}

impl CapturedMail {
    /// Reads the header only.
    #[must_use]
    pub fn summary(&self) -> Summary {
        MessageParser::default().parse_headers(&self.raw).map(|message| summary(&message)).unwrap_or_default()
    }

    /// Reads the whole mail.
    #[must_use]
    pub fn read(&self) -> ReadMail {
        let Some(message) = MessageParser::default().parse(&self.raw) else { return ReadMail::default() };
        let part = |number: &u32| message.parts.get(*number as usize);
        let text = message.text_body.iter().filter_map(part).find_map(|part| match &part.body {
            PartType::Text(text) => Some(text.to_string()),
            _ => None,
        });
        let html = message.html_body.iter().filter_map(part).find_map(|part| match &part.body {
            PartType::Html(html) => Some(html.to_string()),
            _ => None,
        });
        let attachments = message.attachments.iter().filter_map(|number| {
            let number = *number as usize;
            message.parts.get(number).map(|part| attachment(number, part))
        });
        ReadMail {
            summary: summary(&message),
            headers: headers(&message),
            text,
            html,
            attachments: attachments.collect(),
        }
    }

    /// The decoded bytes of one part.
    #[must_use]
    pub fn part(&self, number: usize) -> Option<(Attachment, Vec<u8>)> {
        let message = MessageParser::default().parse(&self.raw)?;
        let part = message.parts.get(number)?;
        Some((attachment(number, part), part.contents().to_vec()))
    }
}

impl ReadMail {
    /// The HTML part with each `cid:` of an inline file replaced by `parts/` and its number.
    #[must_use]
    pub fn html_with_parts(&self) -> Option<String> {
        let mut html = self.html.clone()?;
        let mut inline: Vec<_> =
            self.attachments.iter().filter_map(|file| Some((file.content_id.as_ref()?, file.part))).collect();
        // Longer ids first, for one may begin with another.
        inline.sort_by_key(|(content_id, _)| std::cmp::Reverse(content_id.len()));
        for (content_id, part) in inline.into_iter().filter(|(content_id, _)| !content_id.is_empty()) {
            html = html.replace(&format!("cid:{content_id}"), &format!("parts/{part}"));
        }
        Some(html)
    }
}

fn summary(message: &Message<'_>) -> Summary {
    Summary {
        from: message.from().map(addresses).unwrap_or_default(),
        to: message.to().map(addresses).unwrap_or_default(),
        subject: message.subject().unwrap_or_default().to_owned(),
        message_id: message.message_id().map(|id| format!("<{id}>")).unwrap_or_default(),
    }
}

fn addresses(address: &Address<'_>) -> String {
    let written = address.iter().map(|one| match (one.name(), one.address().unwrap_or_default()) {
        (Some(name), address) if !name.is_empty() => format!("{name} <{address}>"),
        (_, address) => address.to_owned(),
    });
    written.collect::<Vec<_>>().join(", ")
}

fn headers(message: &Message<'_>) -> Vec<(String, String)> {
    let raw = message.raw_message();
    let one = |header: &mail_parser::Header<'_>| {
        let value = raw.get(header.offset_start() as usize..header.offset_end() as usize).unwrap_or_default();
        let value = String::from_utf8_lossy(value);
        // Unfolding removes the line ends only (RFC 5322 section 2.2.3).
        (header.name().to_owned(), value.replace("\r\n", "").trim().to_owned())
    };
    message.headers().iter().map(one).collect()
}

fn attachment(number: usize, part: &MessagePart<'_>) -> Attachment {
    let content_type = part.content_type().map_or_else(
        || default_type(&part.body).to_owned(),
        |kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or("octet-stream")).to_ascii_lowercase(),
    );
    Attachment {
        part: number,
        filename: part.attachment_name().map(str::to_owned),
        content_type,
        size: part.contents().len(),
        content_id: content_id(part),
    }
}

fn content_id(part: &MessagePart<'_>) -> Option<String> {
    let from_header = part.headers.iter().find(|header| header.name().eq_ignore_ascii_case("content-id"))?;
    let HeaderValue::Text(text) = from_header.value() else { return None };
    Some(text.trim_matches(['<', '>']).to_owned())
}

fn default_type(body: &PartType<'_>) -> &'static str {
    match body {
        PartType::Text(_) => "text/plain",
        PartType::Html(_) => "text/html",
        PartType::Message(_) => "message/rfc822",
        PartType::Binary(_) | PartType::InlineBinary(_) | PartType::Multipart(_) => "application/octet-stream",
    }
}
