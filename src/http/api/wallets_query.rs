//! The queries of `/v1/wallets`: cursors, page sizes and dimensions, every mistake named at once.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};

use super::emails_query::{pointer, time};
use crate::domain::submission::FieldError;
use crate::domain::wallet::CustomerKey;
use crate::store::{ChangePlace, Dimension, TrendQuery};

/// Customers on a page when the caller does not say.
pub(super) const LIMIT_DEFAULT: usize = 100;
/// Events of one customer when the caller does not say.
const EVENTS_DEFAULT: usize = 200;
/// Customers on a page, rows of trends and events of one customer, at most.
const LIMIT_MAX: usize = 1_000;
/// How far back trends go when the caller does not say.
const TRENDS_SINCE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// The first byte of a cursor; another form of cursor will have another.
const CURSOR_VERSION: u8 = 1;
/// What stands between the parts of a cursor: no identifier's name holds it.
const CURSOR_SEPARATOR: char = '\u{0}';

/// Which changes are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChangesQuery {
    /// Behind this one.
    pub(super) after: Option<ChangePlace>,
    /// How many, if the caller says.
    pub(super) limit: Option<usize>,
}

/// A place as a cursor: opaque to callers.
pub(super) fn place_text(place: &ChangePlace) -> String {
    let ChangePlace { seq, customer } = place;
    let mut bytes = vec![CURSOR_VERSION];
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(format!("{}{CURSOR_SEPARATOR}{}", customer.by, customer.value).as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn place(text: &str) -> Option<ChangePlace> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (&CURSOR_VERSION, rest) = bytes.split_first()? else { return None };
    let (seq, customer) = rest.split_first_chunk::<8>()?;
    let (by, value) = std::str::from_utf8(customer).ok()?.split_once(CURSOR_SEPARATOR)?;
    let customer = CustomerKey { by: by.to_owned(), value: value.to_owned() };
    Some(ChangePlace { seq: u64::from_be_bytes(*seq), customer })
}

/// Reads the query of a list.
pub(super) fn changes(query: &str) -> Result<ChangesQuery, Vec<FieldError>> {
    let mut read = ChangesQuery { after: None, limit: None };
    each(query, &["changedSince", "limit"], |key, value| {
        match key {
            "changedSince" => read.after = Some(place(value).ok_or("not a cursor of this list")?),
            _ => read.limit = Some(limit(value)?),
        }
        Ok(())
    })?;
    Ok(read)
}

/// Reads the query of one customer's events: how many.
pub(super) fn events(query: &str) -> Result<usize, Vec<FieldError>> {
    let mut events_max = EVENTS_DEFAULT;
    each(query, &["limit"], |_, value| {
        events_max = limit(value)?;
        Ok(())
    })?;
    Ok(events_max)
}

/// Reads the query of a list that is always shown whole.
pub(super) fn nothing(query: &str) -> Result<(), Vec<FieldError>> {
    each(query, &[], |_, _| Ok(()))
}

/// Reads the query of trends.
pub(super) fn trends(query: &str, now: Timestamp) -> Result<TrendQuery, Vec<FieldError>> {
    let since = now.checked_sub(TRENDS_SINCE).unwrap_or(Timestamp::MIN);
    // What happens at this very moment counts.
    let until = now.checked_add(SignedDuration::from_mins(5)).unwrap_or(now);
    let mut read = TrendQuery { by: vec![Dimension::Day], since, until, limit: LIMIT_MAX };
    each(query, &["by", "since", "until", "limit"], |key, value| {
        match key {
            "by" => read.by = dimensions(value)?,
            "since" => read.since = time(value)?,
            "until" => read.until = time(value)?,
            _ => read.limit = limit(value)?,
        }
        Ok(())
    })?;
    Ok(read)
}

fn dimensions(value: &str) -> Result<Vec<Dimension>, String> {
    let mut by = Vec::new();
    for word in value.split(',') {
        let found = Dimension::ALL.into_iter().find(|dimension| dimension.as_str() == word.trim());
        match found {
            Some(dimension) if by.contains(&dimension) => return Err("names one twice".to_owned()),
            Some(dimension) => by.push(dimension),
            None => return Err(format!("some of {}", Dimension::ALL.map(Dimension::as_str).join(","))),
        }
    }
    Ok(by)
}

fn limit(value: &str) -> Result<usize, String> {
    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| format!("a whole number, 1 to {LIMIT_MAX}"))
}

/// Reads each pair of a known key. A key without a value counts as not given; one that is unknown or given twice is refused.
fn each(
    query: &str,
    keys: &[&str],
    mut read: impl FnMut(&str, &str) -> Result<(), String>,
) -> Result<(), Vec<FieldError>> {
    let (mut seen, mut wrong) = (Vec::new(), Vec::new());
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let said = if seen.contains(&key) {
            Err("given twice".to_owned())
        } else if !keys.contains(&&*key) {
            Err(if keys.is_empty() { "unknown".to_owned() } else { format!("unknown; there are {}", keys.join(", ")) })
        } else if value.is_empty() {
            Ok(())
        } else {
            read(&key, &value)
        };
        if let Err(detail) = said {
            wrong.push(FieldError::new(pointer(&key), detail));
        }
        seen.push(key);
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_others_do_not() {
        let customer = CustomerKey { by: "y2.customerId".to_owned(), value: "\u{e9}\u{1}7".to_owned() };
        let there = ChangePlace { seq: 1 << 40, customer };
        assert_eq!(place(&place_text(&there)), Some(there));
        for wrong in ["", "AQ", "AQAAAAAAAAAH", "xyz!", &URL_SAFE_NO_PAD.encode([2; 20])] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_empty_cursor_is_the_start_and_every_mistake_is_named() {
        assert_eq!(changes("changedSince=").unwrap(), ChangesQuery { after: None, limit: None });
        assert_eq!(changes("limit=7").unwrap().limit, Some(7));
        let wrong = changes("changedSince=x&limit=0&colour=red&limit=2").unwrap_err();
        let pointers: Vec<_> = wrong.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/changedSince", "/limit", "/colour", "/limit"]);
    }

    #[test]
    fn a_customers_events_are_two_hundred_unless_told_otherwise() {
        assert_eq!([events(""), events("limit="), events("limit=1000")], [Ok(200), Ok(200), Ok(1_000)]);
        for wrong in ["limit=0", "limit=1001", "limit=few", "limit=1&limit=2", "since=2026-01-01T00:00:00Z"] {
            assert!(events(wrong).is_err(), "{wrong}");
        }
        assert!(nothing("").is_ok() && nothing("limit=1").is_err());
    }

    #[test]
    fn trends_are_by_day_of_the_last_thirty_unless_told_otherwise() {
        let now: Timestamp = "2026-03-31T00:00:00Z".parse().unwrap();
        let read = trends("", now).unwrap();
        assert_eq!((read.by, read.since.to_string()), (vec![Dimension::Day], "2026-03-01T00:00:00Z".to_owned()));
        assert_eq!(trends("by=tag,passType", now).unwrap().by, [Dimension::Tag, Dimension::PassType]);
        for wrong in ["by=week", "by=day,day", "since=monday", "per=day"] {
            assert!(trends(wrong, now).is_err(), "{wrong}");
        }
    }
}
