//! The query of `GET /v1/emails`: filters, page size and cursor, every mistake named at once.

use actix_web::HttpRequest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::domain::address::{Mailbox, domain_to_ascii};
use crate::domain::ids::MessageId;
use crate::domain::submission::{
    FieldError, METADATA_KEY_CHARS_MAX, METADATA_VALUE_CHARS_MAX, TAG_CHARS_MAX, TEMPLATE_CHARS_MAX,
};
use crate::http::problem::Problem;
use crate::store::{MessageFilter, in_angle_brackets};

/// Messages on a page when the caller does not say.
const LIMIT_DEFAULT: usize = 50;
/// Messages on a page at most.
const LIMIT_MAX: usize = 200;
/// Characters of a relay's queue id, and of a Message-ID, that are looked for at most.
const QUEUE_ID_CHARS_MAX: usize = 128;
const MESSAGE_ID_CHARS_MAX: usize = 512;
/// The first byte of a cursor; another form of cursor will have another.
const CURSOR_VERSION: u8 = 1;
const KEYS: &str = "recipient, domain, status, reason, template, lane, tag, metadata.<key>, relayQueueId, messageId, journey, key, \
     since, until, limit, cursor";
/// What stands before the key of a pair.
const METADATA: &str = "metadata.";

/// Where a page ended. Opaque to callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor(pub(super) MessageId);

impl Cursor {
    fn write(self) -> String {
        let mut bytes = vec![CURSOR_VERSION];
        bytes.extend_from_slice(self.0.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn read(text: &str) -> Option<Self> {
        match URL_SAFE_NO_PAD.decode(text).ok()?.split_first()? {
            (&CURSOR_VERSION, id) => MessageId::from_slice(id).map(Self),
            _ => None,
        }
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.write())
    }
}

/// Reads the query. A key without a value counts as not given; a key that is unknown or given twice is refused.
pub(super) fn parse(query: &str) -> Result<MessageFilter, Vec<FieldError>> {
    let mut filter = MessageFilter { limit: LIMIT_DEFAULT, ..MessageFilter::default() };
    let (mut seen, mut wrong) = (Vec::new(), Vec::new());
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let read = if seen.contains(&key) {
            Err("given twice".to_owned())
        } else if value.is_empty() && KEYS.split(", ").any(|known| known == key) {
            Ok(())
        } else {
            read(&mut filter, &key, &value)
        };
        if let Err(detail) = read {
            wrong.push(FieldError::new(pointer(&key), detail));
        }
        seen.push(key);
    }
    if wrong.is_empty() { Ok(filter) } else { Err(wrong) }
}

/// Whether a query says how many.
pub(super) fn names_a_limit(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).any(|(key, value)| key == "limit" && !value.is_empty())
}

/// Refuses every key, for a door that knows none.
pub(super) fn no_query(request: &HttpRequest) -> Result<(), Problem> {
    let keys = form_urlencoded::parse(request.query_string().as_bytes());
    let wrong: Vec<_> = keys.map(|(key, _)| FieldError::new(pointer(&key), "unknown; there are none here")).collect();
    if wrong.is_empty() { Ok(()) } else { Err(Problem::invalid(wrong)) }
}

/// The key as a JSON pointer (RFC 6901), at most as long as a key of ours could be.
pub(super) fn pointer(key: &str) -> String {
    let key: String = key.chars().filter(|c| !c.is_control()).take(32).collect();
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn read(filter: &mut MessageFilter, key: &str, value: &str) -> Result<(), String> {
    match key {
        "recipient" => filter.recipient = Some(recipient(value)?),
        "domain" => filter.domain = Some(domain_to_ascii(value).map_err(|error| error.to_string())?),
        "reason" => filter.reason = Some(value.parse()?),
        "status" => filter.status = Some(value.parse()?),
        "template" => filter.template = Some(name(value, TEMPLATE_CHARS_MAX)?),
        "lane" => filter.lane = Some(value.parse()?),
        "tag" => filter.tag = Some(name(value, TAG_CHARS_MAX)?),
        "relayQueueId" => filter.relay_queue_id = Some(name(value, QUEUE_ID_CHARS_MAX)?),
        "messageId" => filter.message_id = Some(message_id_header(value)?),
        "journey" => filter.journey = Some(name(value, TEMPLATE_CHARS_MAX)?),
        "key" => filter.key = Some(value.parse().map_err(|_| "not the id of a key: key_…".to_owned())?),
        "since" => filter.since = Some(time(value)?),
        "until" => filter.until = Some(time(value)?),
        "limit" => filter.limit = limit(value)?,
        "cursor" => filter.before = Some(Cursor::read(value).ok_or("not a cursor of this list")?.0),
        _ => match key.strip_prefix(METADATA) {
            Some(_) if filter.metadata.is_some() => return Err("a list is filtered by one pair of metadata".to_owned()),
            Some(key) => filter.metadata = Some(pair(key, value)?),
            None => return Err(format!("unknown; there are {KEYS}")),
        },
    }
    Ok(())
}

/// A pair of metadata, the key as it was given with the mail.
fn pair(key: &str, value: &str) -> Result<(String, String), String> {
    if key.is_empty() {
        return Err("name the key, as in metadata.order=17".to_owned());
    }
    Ok((name(key, METADATA_KEY_CHARS_MAX)?, name(value, METADATA_VALUE_CHARS_MAX)?))
}

/// A Message-ID, with its angle brackets or without.
fn message_id_header(value: &str) -> Result<String, String> {
    name(value, MESSAGE_ID_CHARS_MAX).map(|value| in_angle_brackets(&value))
}

fn recipient(value: &str) -> Result<String, String> {
    let mailbox: Mailbox = value.parse().map_err(|error| format!("{error} (a + is written %2B in a query)"))?;
    Ok(mailbox.address.normalized())
}

fn name(value: &str, chars_max: usize) -> Result<String, String> {
    if value.chars().count() > chars_max {
        return Err(format!("longer than {chars_max} characters"));
    }
    Ok(value.to_owned())
}

pub(super) fn time(value: &str) -> Result<Timestamp, String> {
    value.parse().map_err(|_| "not a time like 2026-01-31T12:00:00Z (a + is written %2B in a query)".to_owned())
}

pub(super) fn limit(value: &str) -> Result<usize, String> {
    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| format!("a whole number, 1 to {LIMIT_MAX}"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use crate::domain::lane::Lane;
    use crate::domain::message::{Reason, Status};

    #[test]
    fn a_query_becomes_a_filter() {
        let id = MessageId::from_uuid(uuid::Uuid::from_u128(7));
        let query = format!(
            "recipient=Ann%2Bx%40Example.com&domain=B%C3%BCcher.example&reason=relay-refused&status=relayed&template=welcome&lane=urgent&tag=&since=2026-01-01T00:00:00Z\
             &until=2026-02-01T00:00:00%2B01:00&limit=200&cursor={}",
            Cursor(id).write()
        );
        let filter = parse(&query).unwrap();
        assert_eq!(filter.recipient.as_deref(), Some("ann+x@example.com"));
        assert_eq!(filter.domain.as_deref(), Some("xn--bcher-kva.example"));
        assert_eq!(filter.reason, Some(Reason::RelayRefused));
        assert_eq!((filter.status, filter.lane, filter.tag), (Some(Status::Relayed), Some(Lane::Urgent), None));
        assert_eq!((filter.limit, filter.before), (200, Some(id)));
        assert_eq!(filter.until.unwrap().to_string(), "2026-01-31T23:00:00Z");
        assert_eq!(parse("").unwrap().limit, 50);
        let pair = |query| parse(query).unwrap().metadata;
        let given = |key: &str, value: &str| Some((key.to_owned(), value.to_owned()));
        assert_eq!(pair("metadata.order=17"), given("order", "17"));
        assert_eq!(pair("metadata.Order.no%20%2F1=a+b%3D%C3%A9"), given("Order.no /1", "a b=é"));
        assert_eq!(pair("metadata.order="), given("order", ""));
    }

    #[test]
    fn every_mistake_in_a_query_is_named_at_once() {
        let query = "recipient=x&domain=a%20b&reason=because&status=sent&lane=Fast&since=yesterday&limit=201&cursor=AQ&color=red&limit=5&a/b=\
                     &metadata.=1&metadata.a=1&metadata.b=2";
        let wrong = parse(query).unwrap_err();
        let pointers: Vec<_> = wrong.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            [
                "/recipient",
                "/domain",
                "/reason",
                "/status",
                "/lane",
                "/since",
                "/limit",
                "/cursor",
                "/color",
                "/limit",
                "/a~1b",
                "/metadata.",
                "/metadata.b"
            ]
        );
    }

    #[test]
    fn a_cursor_reads_back_and_others_do_not() {
        let cursor = Cursor(MessageId::from_uuid(uuid::Uuid::from_u128(42)));
        assert_eq!(Cursor::read(&cursor.write()), Some(cursor));
        for wrong in ["", "AQ", "msg_1", &URL_SAFE_NO_PAD.encode([2; 17]), &format!("{}A", cursor.write())] {
            assert_eq!(Cursor::read(wrong), None, "{wrong}");
        }
    }
}
