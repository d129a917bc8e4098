//! What surrounds every request: its id, the access line, and the promise that no error leaves but as a problem.
//!
//! A panic in a handler is caught here and answered with 500; the panic hook has told where it was. What actix answers
//! before there is a request (a head it cannot parse: 400, too large: 431, too late: 408) has an empty body and never
//! comes by here; the connection is closed then.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use actix_web::http::{ConnectionType, Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::Bytes;
use actix_web::{Error, HttpMessage as _, HttpResponse, ResponseError as _};
use futures_util::stream::poll_fn;
use futures_util::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use uuid::{NoContext, Uuid};

use super::connection::{Seat, Visit};
use super::limit;
use super::problem::{Kind, Problem, problem_in};
use crate::clock::Clock;
use crate::domain::ids::{KeyId, RequestId};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the access line will say, known before the request is handled. No path, query, address or body.
struct Line {
    id: RequestId,
    method: &'static str,
    route: Option<String>,
    started: Instant,
}

/// The middleware.
pub(super) async fn frame(
    clock: Arc<dyn Clock>,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let line = Line {
        id: new_id(clock.now()),
        method: method_word(request.method()),
        route: request.match_pattern(),
        started: Instant::now(),
    };
    request.extensions_mut().insert(line.id);
    let (request, visit) = visit(request);
    let under_way = match limit::enter(request.app_data(), request.method(), line.route.as_deref()) {
        Ok(under_way) => under_way,
        Err(problem) => return Ok(watched(finish(&line, request.error_response(problem)), visit)),
    };
    // Unwind safety: after a panic nothing of the request is used again, and what handlers share heals its locks.
    let answered = AssertUnwindSafe(async move { next.call(request).await }).catch_unwind().await;
    drop(under_way);
    match answered {
        Ok(Ok(answer)) => Ok(watched(finish(&line, answer), visit)),
        Ok(Err(error)) => {
            let problem = problem_in(&HttpResponse::from_error(error));
            Err(refuse(&line, problem.unwrap_or(Problem::new(Kind::Internal))))
        }
        Err(_) => {
            tracing::error!(request.id = %line.id, "a handler panicked");
            Err(refuse(&line, Problem::new(Kind::Internal)))
        }
    }
}

/// From here on it is our turn; whether the request has a body that nobody has read to its end is known, too.
///
/// Without a seat there is no connection (a test of handlers).
fn visit(mut request: ServiceRequest) -> (ServiceRequest, Option<Visit>) {
    let Some(seat) = request.conn_data::<Rc<Seat>>().cloned() else { return (request, None) };
    let mut payload = request.take_payload();
    let visit = Visit::begin(&seat, &payload);
    if visit.leaves_body_unread() {
        let body = poll_fn(move |cx| {
            let next = payload.poll_next_unpin(cx);
            if next.is_pending() {
                seat.body_awaited();
            } else {
                seat.flowing();
            }
            if let Poll::Ready(None) = next {
                seat.body_read();
            }
            next
        });
        request.set_payload(Payload::Stream { payload: Box::pin(body) });
    }
    (request, Some(visit))
}

/// An answer that holds its visit until it is sent. One that leaves a body unread says that the connection ends.
fn watched(answer: ServiceResponse<BoxBody>, visit: Option<Visit>) -> ServiceResponse<BoxBody> {
    let Some(visit) = visit else { return answer };
    let mut answer = answer;
    if visit.leaves_body_unread() {
        answer.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    answer.map_body(|_, body| BoxBody::new(Watched { body, _visit: visit }))
}

/// A body, and the visit that ends with it.
struct Watched {
    body: BoxBody,
    _visit: Visit,
}

impl MessageBody for Watched {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

/// An answer on its way out: a problem if it is an error, with our headers, and told in the log.
fn finish(line: &Line, answer: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let key = answer.request().extensions().get::<KeyId>().copied();
    let limits = limit::headers(answer.request());
    let is_counted_only = limit::is_counted_only(answer.request());
    let mut answer = answer;
    if let Some(problem) = problem_in(answer.response()) {
        let problem = problem.of_request(line.id);
        tell_cause(line, &problem);
        answer = answer.into_response(problem.error_response());
    }
    dress(answer.headers_mut(), line.id);
    for (name, value) in limits {
        answer.headers_mut().insert(name, value);
    }
    if !is_counted_only {
        tell(line, answer.status(), key);
    }
    answer
}

/// An error that has no request any more: the server renders the problem itself.
fn refuse(line: &Line, problem: Problem) -> Error {
    let problem = problem.of_request(line.id);
    tell_cause(line, &problem);
    tell(line, problem.status_code(), None);
    problem.into()
}

/// The headers every answer has; a page may have set its own.
pub(super) fn dress(headers: &mut HeaderMap, id: RequestId) {
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(X_REQUEST_ID, id);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

fn tell_cause(line: &Line, problem: &Problem) {
    let Some(cause) = problem.cause() else { return };
    if problem.status_code() == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(request.id = %line.id, error = cause, "a request failed");
    } else {
        tracing::warn!(request.id = %line.id, error = cause, "a request was refused");
    }
}

fn tell(line: &Line, status: StatusCode, key: Option<KeyId>) {
    tracing::info!(
        request.id = %line.id,
        method = line.method,
        route = line.route.as_deref().unwrap_or("none"),
        status = status.as_u16(),
        duration_ms = u64::try_from(line.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        key.id = key.map(tracing::field::display),
        "request answered"
    );
}

/// A method from the caller is any token: only those we know are repeated.
fn method_word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn new_id(now: Timestamp) -> RequestId {
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let nanoseconds = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
    RequestId::from_uuid(Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanoseconds)))
}
