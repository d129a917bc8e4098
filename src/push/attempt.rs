//! One attempt: the request as Standard Webhooks writes it, and what the answer means.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;

use crate::domain::push::{Outbound, signatures};
use crate::outgoing::{AnswerBody, Call, CallError, Client, HeaderMap, HeaderName, HeaderValue, Method, header};
use crate::store::DuePush;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// 2xx.
    Taken,
    /// 410: the receiver is gone for good.
    Gone,
    /// Anything else.
    Failed {
        /// Why.
        failure: Failure,
        /// How long the receiver asks us to wait.
        retry_after: Option<Duration>,
    },
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The receiver answered with this status.
    Status(u16),
    /// There was no answer.
    Call(CallError),
}

impl Failure {
    /// The status, or a word of ours: for rows and logs.
    pub(super) fn word(&self) -> String {
        let word = match self {
            Self::Status(status) => return status.to_string(),
            Self::Call(CallError::NotAllowed) => "not-allowed",
            Self::Call(CallError::CannotConnect(_)) => "cannot-connect",
            Self::Call(CallError::TimedOut) => "timed-out",
            // Nobody wants the answer's body, so none can be too large.
            Self::Call(CallError::TooLarge(_) | CallError::Broken(_)) => "connection-broken",
        };
        word.to_owned()
    }

    /// Whether the receiver asked us to come less often.
    pub(super) const fn is_throttling(&self) -> bool {
        matches!(self, Self::Status(429 | 503))
    }
}

/// Tells an endpoint of an event.
pub(super) async fn attempt(
    client: &Client,
    outbound: &Outbound,
    push: DuePush,
    now: Timestamp,
    timeout: Duration,
) -> Outcome {
    let headers = headers(outbound, &push, now);
    let body = push.body.into_bytes();
    let call = Call { method: Method::POST, url: &outbound.url, headers, body, timeout, answer: AnswerBody::Unwanted };
    let answer = match client.call(call).await {
        Ok(answer) => answer,
        Err(error) => return Outcome::Failed { failure: Failure::Call(error), retry_after: None },
    };
    match answer.status.as_u16() {
        200..=299 => Outcome::Taken,
        410 => Outcome::Gone,
        status => {
            let asked = answer.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            let retry_after = asked.and_then(|asked| retry_after(asked, now));
            Outcome::Failed { failure: Failure::Status(status), retry_after }
        }
    }
}

fn headers(outbound: &Outbound, push: &DuePush, now: Timestamp) -> HeaderMap {
    let seconds = now.as_second();
    let all = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (ID, push.id.to_string()),
        (TIMESTAMP, seconds.to_string()),
        (SIGNATURE, signatures(&outbound.keys, push.id, seconds, &push.body)),
    ];
    // Identifiers, digits and base64: all of them can be header values.
    all.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?))).collect()
}

/// RFC 9110, section 10.2.3: seconds, or a date. A date that has passed asks for nothing.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit()) {
        // More than any number of ours is a long time, too.
        return Some(Duration::from_secs(text.parse::<u32>().unwrap_or(u32::MAX).into()));
    }
    let until = rfc2822::parse(text).ok()?.timestamp();
    Duration::try_from(until.duration_since(now)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_says_how_long_to_wait_in_seconds_or_by_a_date() {
        let now: Timestamp = "1994-11-06T08:48:37Z".parse().unwrap_or_default();
        for (text, wait) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("4294967296", Some(u32::MAX.into())),
            ("99999999999999999999999999", Some(u32::MAX.into())),
            (" 120 ", Some(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:47:37 GMT", None),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text, now), wait.map(Duration::from_secs), "{text}");
        }
    }
}
