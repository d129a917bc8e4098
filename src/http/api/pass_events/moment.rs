//! When an event happened, however its sender writes that.

use jiff::Timestamp;
use jiff::fmt::temporal::Pieces;
use serde_json::Number;

use super::super::lenient::{Field, Fields, Node, Problems, only, text, unfolded};

/// Numbers from here on count milliseconds: as seconds they would lie beyond the year 5000.
const MILLIS_FROM: f64 = 1e11;

/// A time as ISO 8601 with its offset, as seconds or milliseconds since 1970, or as `{seconds, nanos}`.
///
/// One without an offset is none: nobody knows how many hours it is off, and the time of its arrival orders better.
pub(super) fn moment(field: Field<'_>, problems: &mut Problems) -> Option<Timestamp> {
    let pointer = field.pointer.clone();
    let read = match &*field.node {
        Node::Number(number) => epoch(number),
        Node::Text(written) if written.trim_start().starts_with('{') => {
            return unfolded(field, "a time", problems).and_then(|field| moment(field, problems));
        }
        Node::Text(_) => written(text(&field, problems)?.trim()),
        Node::Object(object) => protobuf(&Fields::in_any_writing(&pointer, object), problems),
        Node::Null | Node::Bool(_) | Node::List(_) => Err(NO_TIME),
    };
    read.map_err(|detail| problems.add(pointer, detail)).ok().flatten()
}

const NO_TIME: &str = "not a time: send 2030-01-31T09:00:00Z, or seconds or milliseconds since 1970";

type Read = Result<Option<Timestamp>, &'static str>;

fn written(text: &str) -> Read {
    if let Ok(number) = text.parse::<Number>() {
        return epoch(&number);
    }
    let pieces = Pieces::parse(text).map_err(|_| NO_TIME)?;
    if pieces.offset().is_none() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| NO_TIME)
}

fn epoch(number: &Number) -> Read {
    if let Some(whole) = number.as_i64() {
        #[expect(clippy::cast_precision_loss, reason = "only its size is looked at")]
        let is_millis = (whole as f64).abs() >= MILLIS_FROM;
        let read = if is_millis { Timestamp::from_millisecond(whole) } else { Timestamp::from_second(whole) };
        return read.map(Some).map_err(|_| NO_TIME);
    }
    let number = number.as_f64().filter(|number| number.is_finite()).ok_or(NO_TIME)?;
    if number.abs() >= MILLIS_FROM {
        #[expect(clippy::cast_possible_truncation, reason = "what is finer than a millisecond is dropped")]
        let millis = number as i64;
        return Timestamp::from_millisecond(millis).map(Some).map_err(|_| NO_TIME);
    }
    let since = jiff::SignedDuration::try_from_secs_f64(number).map_err(|_| NO_TIME)?;
    Timestamp::from_duration(since).map(Some).map_err(|_| NO_TIME)
}

/// `{seconds, nanos}`, as protocol buffers write a time.
fn protobuf(fields: &Fields<'_>, problems: &mut Problems) -> Read {
    let mut whole = |name| {
        let field = only(fields.given(name), problems)?;
        match &*field.node {
            Node::Number(number) => number.as_i64(),
            Node::Text(text) => text.trim().parse().ok(),
            Node::Null | Node::Bool(_) | Node::List(_) | Node::Object(_) => None,
        }
    };
    let seconds = whole("seconds").ok_or(NO_TIME)?;
    let nanos = whole("nanos").unwrap_or_default();
    let nanos = i32::try_from(nanos).map_err(|_| NO_TIME)?;
    Timestamp::new(seconds, nanos).map(Some).map_err(|_| NO_TIME)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use std::borrow::Cow;

    fn read(json: &str) -> Result<Option<i64>, String> {
        let node = Node::from_json(json).unwrap();
        let mut problems = Problems::default();
        let read = moment(Field { pointer: "/occurredAt".into(), node: Cow::Owned(node) }, &mut problems);
        let read = read.map(Timestamp::as_millisecond);
        problems.into_result(Some(read)).map_err(|errors| errors[0].pointer.clone())
    }

    #[test]
    fn a_time_is_read_however_it_is_written() {
        for (json, millis) in [
            ("\"2026-01-31T09:00:00Z\"", 1_769_850_000_000),
            ("\" 2026-01-31T09:00:00.1234567Z \"", 1_769_850_000_123),
            ("\"2026-01-31T09:00Z\"", 1_769_850_000_000),
            ("\"2026-01-31t11:00+02:00\"", 1_769_850_000_000),
            ("\"2026-01-31 11:00:00+0200\"", 1_769_850_000_000),
            ("\"2026-01-31T10:00:00+01:00[Europe/Paris]\"", 1_769_850_000_000),
            ("1769850000", 1_769_850_000_000),
            ("1769850000.25", 1_769_850_000_250),
            ("1769850000123", 1_769_850_000_123),
            ("1769850000123.5", 1_769_850_000_123),
            ("1.769850000123e12", 1_769_850_000_123),
            ("\"1769850000\"", 1_769_850_000_000),
            ("\"1769850000123\"", 1_769_850_000_123),
            ("{\"seconds\":1769850000,\"nanos\":123000000}", 1_769_850_000_123),
            ("{\"Seconds\":\"1769850000\"}", 1_769_850_000_000),
            ("\"{\\\"seconds\\\":1769850000,\\\"nanos\\\":0}\"", 1_769_850_000_000),
        ] {
            assert_eq!(read(json), Ok(Some(millis)), "{json}");
        }
    }

    #[test]
    fn a_time_without_an_offset_is_no_time() {
        for json in ["\"2026-01-31T09:00:00\"", "\"2026-01-31T09:00\"", "\"2026-01-31 09:00:00.5\"", "\"2026-01-31\""] {
            assert_eq!(read(json), Ok(None), "{json}");
        }
    }

    #[test]
    fn what_is_no_time_is_said_to_be_none() {
        for json in [
            "\"yesterday\"",
            "true",
            "[1]",
            "{}",
            "{\"nanos\":1}",
            "{\"seconds\":{}}",
            "{\"seconds\":1,\"nanos\":99999999999}",
            "1e300",
            "99999999999999999",
            "-99999999999999999",
            "\"[object Object]\"",
            "\"{\\\"seconds\\\"\"",
        ] {
            assert_eq!(read(json), Err("/occurredAt".to_owned()), "{json}");
        }
    }
}
