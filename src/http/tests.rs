//! What leaves the server when something goes wrong: without a store, on doors made for the purpose.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

use super::*;
use crate::clock::SystemClock;
use actix_web::http::{Method, StatusCode};
use actix_web::test::{TestRequest, init_service, read_body, try_call_service};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::Value;

const LIMITS: BodyLimits = BodyLimits { bytes_max: 1000, timeout: Duration::from_millis(50) };

async fn echo(request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, Problem> {
    let (_, body) = body::read(&request, payload, LIMITS).await?;
    Ok(HttpResponse::Ok().body(body))
}

async fn panics() -> HttpResponse {
    panic!("a defect")
}

async fn foreign() -> Result<HttpResponse, Error> {
    Err(actix_web::error::ErrorImATeapot("secret text of ours"))
}

async fn number(path: web::Path<u32>, query: web::Query<Vec<(String, u32)>>) -> String {
    format!("{path} {}", query.len())
}

fn doors(table: &mut ServiceConfig) {
    table
        .service(Door::at("/echo").post(echo).get(health::live))
        .service(Door::at("/panics").get(panics))
        .service(Door::at("/foreign").get(foreign))
        .service(Door::at("/numbers/{n}").get(number));
}

/// What a request's payload is in actix.
type BoxedPayloadStream =
    std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<web::Bytes, actix_web::error::PayloadError>>>>;

struct Seen {
    status: u16,
    headers: actix_web::http::header::HeaderMap,
    body: Value,
}

async fn ask(request: TestRequest) -> Seen {
    let app = init_service(framed(Arc::new(SystemClock), doors)).await;
    let answer = match try_call_service(&app, request.to_request()).await {
        Ok(answer) => answer.map_into_boxed_body(),
        // What the server does with an error that has no request any more.
        Err(error) => ServiceResponse::new(TestRequest::get().to_http_request(), error.error_response()),
    };
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = serde_json::from_slice(&read_body(answer).await).unwrap_or(Value::Null);
    Seen { status, headers, body }
}

#[actix_web::test]
async fn no_error_leaves_but_as_a_problem() {
    let json = ("Content-Type", "application/json");
    for (request, status, slug) in [
        (TestRequest::get().uri("/nowhere"), 404, "not-found"),
        (TestRequest::delete().uri("/echo"), 405, "method-not-allowed"),
        (TestRequest::default().method(Method::TRACE).uri("/echo"), 405, "method-not-allowed"),
        (TestRequest::get().uri("/panics"), 500, "internal"),
        (TestRequest::get().uri("/foreign"), 400, "malformed"),
        (TestRequest::get().uri("/numbers/x"), 404, "not-found"),
        (TestRequest::get().uri("/numbers/1?a=b"), 400, "malformed"),
        (TestRequest::post().uri("/echo"), 415, "unsupported-media-type"),
        (TestRequest::post().uri("/echo").insert_header(json).set_payload(vec![b'a'; 1001]), 413, "too-large"),
        (
            TestRequest::post().uri("/echo").insert_header(json).insert_header(("Content-Length", "1001")),
            413,
            "too-large",
        ),
    ] {
        let seen = ask(request).await;
        assert_eq!((seen.status, &seen.body["type"]), (status, &Value::from(format!("/problems/{slug}"))));
        assert_eq!(seen.body["status"], status);
        assert_eq!(seen.headers.get("content-type").unwrap(), problem::PROBLEM_JSON);
        assert_eq!(seen.headers.get("x-request-id").unwrap(), seen.body["instance"].as_str().unwrap());
        assert_eq!(seen.headers.get("x-content-type-options").unwrap(), "nosniff");
        assert!(!seen.body.to_string().contains("secret") && !seen.body.to_string().contains("defect"));
    }
}

#[actix_web::test]
async fn a_method_that_is_not_offered_names_those_that_are() {
    let seen = ask(TestRequest::put().uri("/echo")).await;
    assert_eq!(seen.headers.get("allow").unwrap(), "POST, GET, HEAD, OPTIONS");
    let seen = ask(TestRequest::default().method(Method::OPTIONS).uri("/echo")).await;
    assert_eq!((seen.status, seen.headers.get("allow").unwrap().to_str().unwrap()), (204, "POST, GET, HEAD, OPTIONS"));
    let seen = ask(TestRequest::default().method(Method::HEAD).uri("/echo")).await;
    assert_eq!(seen.status, 200);
}

#[actix_web::test]
async fn a_body_that_trickles_is_cut_off() {
    let app = init_service(framed(Arc::new(SystemClock), doors)).await;
    let silent: BoxedPayloadStream = Box::pin(futures_util::stream::pending());
    let payload = actix_web::dev::Payload::Stream { payload: silent };
    let request = TestRequest::post().uri("/echo").insert_header(("Content-Type", "application/json")).to_request();
    let (request, _) = request.replace_payload(payload);
    let answer = try_call_service(&app, request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
}

#[actix_web::test]
async fn an_answer_that_is_fine_has_our_headers_too() {
    let body = TestRequest::post().uri("/echo").insert_header(("Content-Type", "text/json")).set_payload("{\"a\":1}");
    let seen = ask(body).await;
    assert_eq!((seen.status, &seen.body["a"]), (200, &Value::from(1)));
    assert!(seen.headers.get("x-request-id").unwrap().to_str().unwrap().starts_with("req_"));
    assert_eq!(seen.headers.get("cache-control").unwrap(), "no-store");
}
