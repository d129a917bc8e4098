//! One customer is asked for: the call, its repeats, and what the answer says.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::given::Details;
use crate::clock::Clock;
use crate::domain::address::EmailAddress;
use crate::domain::contact::{NAME_CHARS_MAX, line};
use crate::domain::contact_lookup::{ContactLookup, Pointers};
use crate::domain::outgoing_url::OutgoingUrl;
use crate::outgoing::header::ACCEPT;
use crate::outgoing::{AnswerBody, Call, CallError, Client, HeaderMap, HeaderName, HeaderValue, Method};

/// What lies between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// What the CRM says of a customer.
#[derive(Debug)]
pub(super) enum Said {
    /// This.
    Found(Details),
    /// It knows nobody of this identifier, or no address of them.
    Nobody,
}

/// Why nothing was learned. Never holds what was sent or came back.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// There was no answer.
    #[error("{0}")]
    Call(CallError),
    /// It answered something that says nothing of the customer.
    #[error("it answered {0}")]
    Status(u16),
    /// Its answer is not JSON.
    #[error("its answer is not JSON")]
    NotJson,
    /// What stands where the address should be is none.
    #[error("what stands at contact_lookup.email in its answer is no address")]
    NoAddress,
    /// The header cannot be sent.
    #[error("contact_lookup.header cannot be sent")]
    Header,
}

impl Trouble {
    /// Whether the same may go well a moment later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Call(error) => match error {
                CallError::CannotConnect(_) | CallError::TimedOut | CallError::Broken(_) => true,
                CallError::NotAllowed | CallError::TooLarge(_) => false,
            },
            Self::Status(status) => matches!(status, 408 | 429 | 500..=599),
            Self::NotJson | Self::NoAddress | Self::Header => false,
        }
    }

    /// Whether it says something of the CRM as a whole. Else it answered, and only this customer's answer is of no use.
    pub(super) fn is_of_all(&self) -> bool {
        match self {
            Self::Call(CallError::TooLarge(_)) | Self::NotJson | Self::NoAddress => false,
            Self::Call(_) | Self::Status(_) | Self::Header => true,
        }
    }
}

/// Asks, and asks again as often as is allowed while that may help.
pub(super) async fn ask(
    client: &Client,
    clock: &dyn Clock,
    lookup: &ContactLookup,
    url: &OutgoingUrl,
) -> Result<Said, Trouble> {
    let mut tried = 0;
    loop {
        match once(client, lookup, url).await {
            Err(trouble) if trouble.may_pass() && tried < lookup.retries => tried += 1,
            ended => return ended,
        }
        if let Ok(then) = clock.now().checked_add(PAUSE) {
            clock.sleep_until(then).await;
        }
    }
}

async fn once(client: &Client, lookup: &ContactLookup, url: &OutgoingUrl) -> Result<Said, Trouble> {
    let call = Call {
        method: Method::GET,
        url,
        headers: headers(lookup)?,
        body: Vec::new(),
        timeout: lookup.timeout,
        answer: AnswerBody::UpTo(lookup.answer_max),
    };
    let answer = client.call(call).await.map_err(Trouble::Call)?;
    match answer.status.as_u16() {
        200 => {
            let answer = serde_json::from_slice(&answer.body).map_err(|_| Trouble::NotJson)?;
            read(&answer, &lookup.pointers)
        }
        204 | 404 | 410 => Ok(Said::Nobody),
        other => Err(Trouble::Status(other)),
    }
}

fn headers(lookup: &ContactLookup) -> Result<HeaderMap, Trouble> {
    let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
    if let Some((name, secret)) = &lookup.header {
        let name: HeaderName = name.parse().map_err(|_| Trouble::Header)?;
        let mut value: HeaderValue = secret.expose().parse().map_err(|_| Trouble::Header)?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// What stands at the pointers. Who has no address is nobody to us; what is there must be one. Of the rest, what cannot be
/// used is as if it were not there.
fn read(answer: &Value, pointers: &Pointers) -> Result<Said, Trouble> {
    let text = |pointer: &str| answer.pointer(pointer)?.as_str();
    let optional = |pointer: &Option<String>| pointer.as_deref().and_then(text);
    let email = match answer.pointer(&pointers.email) {
        None | Some(Value::Null) => return Ok(Said::Nobody),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(Said::Nobody),
        Some(Value::String(text)) => text.trim().parse::<EmailAddress>().map_err(|_| Trouble::NoAddress)?,
        Some(_) => return Err(Trouble::NoAddress),
    };
    Ok(Said::Found(Details {
        email,
        name: optional(&pointers.name).and_then(|name| line(name, NAME_CHARS_MAX).ok()),
        culture: optional(&pointers.culture).and_then(|culture| culture.parse().ok()),
        timezone: optional(&pointers.timezone).and_then(|zone| zone.parse().ok()),
        consent: BTreeMap::new(),
        fields: BTreeMap::new(),
    }))
}
