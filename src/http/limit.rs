//! The limits at the doors: which request counts against which quota, and how a refusal says so.
//!
//! Every door of `/v1`, and `/wallet/installation`, counts against its caller's key, before its body is read; handing in a mail counts against the
//! tenant besides, so that what one key sends in vain does not keep an operator's key from reading. What a quota said is
//! kept with the request: the answer tells it, whatever the answer is. `/livez` and `/readyz` know no limits.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpMessage as _, HttpRequest, web};

use super::AppState;
use super::client;
use super::problem::{Kind, Problem};
use super::ratelimit_fields::{self, Field};
use crate::domain::ids::TenantId;
use crate::domain::key::ApiKey;
use crate::domain::network::Network;
use crate::domain::quantity::Rate;
use crate::domain::suppression::link::UnsubscribeToken;
use crate::intake::Room;
use crate::limits::{Limits, Shortage, Standing};

/// Doors behind which requests are counted.
const LIMITED: &str = "/v1/";
/// The one among them that the platform's sample connector has elsewhere.
const INSTALLATION: &str = "/wallet/installation";
/// The one that is open until a body is there and its signature is not that of anybody.
const WEBHOOKS: &str = "/v1/webhooks/{tenant}";

/// Where recipients unsubscribe, who have no key.
const UNSUBSCRIBE: &str = "/u/{token}";

/// What the doors' limits need.
pub struct DoorLimits {
    /// Who has used up what, and whether there is room.
    pub limits: Arc<Limits>,
    /// Whose word about a client's address is believed.
    pub trusted_proxies: Vec<Network>,
    /// Requests under way.
    pub in_flight: InFlight,
    /// Requests under way at the door of webhooks, which nobody needs a key to reach: they have places of their own, so
    /// that strangers who never end their bodies take none of everybody else's.
    pub webhooks_in_flight: InFlight,
    /// Requests under way where recipients unsubscribe: of their own for the same reason.
    pub unsubscribes_in_flight: InFlight,
}

/// What the quotas said of a request, for its answer.
struct Said(Vec<Field>);

/// Marks a request that was refused because of the address it came from.
struct RefusedUnseen;

/// Whether a request gets no access line: those refused for their address are counted, and the count is told, since there
/// may be very many of them.
pub(super) fn is_counted_only(request: &HttpRequest) -> bool {
    request.extensions().contains::<RefusedUnseen>()
}

/// The headers that tell what the quotas said of a request.
pub(super) fn headers(request: &HttpRequest) -> Vec<(HeaderName, HeaderValue)> {
    request.extensions().get::<Said>().map(|said| ratelimit_fields::headers(&said.0)).unwrap_or_default()
}

/// Counts a request of this key.
pub(super) fn request(app: &AppState, request: &HttpRequest, key: &ApiKey) -> Result<(), Problem> {
    check(request, "per-key", app.doors.limits.request(key), |rate| {
        format!("more than {} with this key", rate.in_words("request"))
    })
}

/// Counts a submission of this tenant.
pub(super) fn submission(app: &AppState, request: &HttpRequest, tenant: &TenantId) -> Result<(), Problem> {
    let standing = app.doors.limits.submission(tenant, app.intake.per_tenant(tenant));
    check(request, "per-tenant", standing, |rate| format!("more than {} of this tenant", rate.in_words("mail")))
}

fn check(
    request: &HttpRequest,
    name: &'static str,
    standing: Option<Standing>,
    says: impl FnOnce(Rate) -> String,
) -> Result<(), Problem> {
    let Some(standing) = standing else { return Ok(()) };
    let Standing { rate, remaining, wait } = standing;
    say(request, Field { name, quota: rate.burst(), window: rate.refill(), remaining, reset: standing.reset() });
    wait.map_or(Ok(()), |wait| Err(Problem::rate_limited(wait, says(rate))))
}

/// Counts that what a link said is taken back. To unsubscribe is never refused, so links change as often as this allows.
pub(super) fn link(app: &AppState, request: &HttpRequest, token: UnsubscribeToken) -> Result<(), Problem> {
    check(request, "per-link", app.doors.limits.link(token), |rate| {
        format!("more than {} by this link", rate.in_words("change"))
    })
}

/// A mail that was not taken because its recipient has had enough of them.
pub(super) fn recipient(request: &HttpRequest, limit: Rate, wait: Duration) -> Problem {
    let Rate { count, per, .. } = limit;
    say(request, Field { name: "per-recipient", quota: count, window: per, remaining: 0, reset: wait });
    Problem::rate_limited(wait, format!("more than {} to this recipient", limit.in_words("mail")))
}

/// Whether there is room for new mail. What there is too little of is for our log and `/readyz`.
pub(super) fn room_for_mail(app: &AppState) -> Room {
    match app.doors.limits.headroom().shortage() {
        None => Room::Enough,
        Some(Shortage::Queue | Shortage::Disk) => Room::Short,
    }
}

/// Whether there is room for pass events: they need no place in the queue, but the disk.
pub(super) fn room_for_events(app: &AppState) -> Result<(), Problem> {
    let has_room = !app.health.is_stopping() && !app.doors.limits.headroom().disk_is_low();
    if has_room { Ok(()) } else { Err(Problem::new(Kind::NotPersisted)) }
}

fn say(request: &HttpRequest, field: Field) {
    let mut extensions = request.extensions_mut();
    match extensions.get_mut::<Said>() {
        Some(said) => said.0.push(field),
        None => drop(extensions.insert(Said(vec![field]))),
    }
}

/// Counts a failed authentication; an error when there were too many from the client's address.
pub(super) fn failure(app: &AppState, request: &HttpRequest) -> Result<(), Problem> {
    refuse_stranger(request, app.doors.limits.failure(client(app, request)))
}

/// An error when too many failed from the client's address already and places for webhooks are short: asked where a body
/// has to be read before anybody can tell who sent it. While there are places whoever signs comes in, also from an address
/// that he shares with others (a proxy's). Nothing is counted.
pub(super) fn may_still_fail(app: &AppState, request: &HttpRequest) -> Result<(), Problem> {
    if !app.doors.webhooks_in_flight.is_half_full() {
        return Ok(());
    }
    refuse_stranger(request, app.doors.limits.failures_left(client(app, request)))
}

fn client(app: &AppState, request: &HttpRequest) -> IpAddr {
    client::address(request, &app.doors.trusted_proxies)
}

fn refuse_stranger(request: &HttpRequest, standing: Option<Standing>) -> Result<(), Problem> {
    match standing.and_then(|standing| standing.wait) {
        None => Ok(()),
        Some(wait) => {
            request.extensions_mut().insert(RefusedUnseen);
            let detail = "too many requests without a valid key from this address";
            Err(Problem::rate_limited(wait, detail.to_owned()))
        }
    }
}

/// Requests under way at the limited doors, all workers together.
#[derive(Clone)]
pub struct InFlight {
    now: Arc<AtomicUsize>,
    max: usize,
}

/// A request under way; dropped with it.
pub(super) struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl InFlight {
    /// At most so many at once.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { now: Arc::default(), max }
    }

    /// Whether the next one would be refused.
    pub(super) fn is_full(&self) -> bool {
        self.now.load(Ordering::Relaxed) >= self.max
    }

    fn is_half_full(&self) -> bool {
        self.now.load(Ordering::Relaxed) > self.max / 2
    }

    fn enter(&self) -> Option<UnderWay> {
        let under_way = UnderWay(Arc::clone(&self.now));
        // Counted first: of two that come at once for the last place one sees the other.
        let before = self.now.fetch_add(1, Ordering::Relaxed);
        (before < self.max).then_some(under_way)
    }
}

fn is_limited(route: &str) -> bool {
    route.starts_with(LIMITED) || route == INSTALLATION || route == UNSUBSCRIBE
}

/// A request comes in by this route: `None` when it is not counted, an error when there are too many under way.
pub(super) fn enter(
    app: Option<&web::Data<AppState>>,
    method: &Method,
    route: Option<&str>,
) -> Result<Option<UnderWay>, Problem> {
    let (Some(app), Some(route)) = (app, route.filter(|route| is_limited(route))) else { return Ok(None) };
    let places = match route {
        WEBHOOKS if *method == Method::POST => &app.doors.webhooks_in_flight,
        UNSUBSCRIBE => &app.doors.unsubscribes_in_flight,
        _ => &app.doors.in_flight,
    };
    places.enter().map(Some).ok_or(Problem::new(Kind::Busy))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_request_is_answered_or_was_refused() {
        let in_flight = InFlight::new(1);
        let first = in_flight.enter().unwrap();
        assert!(in_flight.is_full());
        for _ in 0..3 {
            assert!(in_flight.clone().enter().is_none());
        }
        drop(first);
        assert!(!in_flight.is_full());
        assert!(in_flight.enter().is_some());
    }
}
