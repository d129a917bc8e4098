//! `/v1/brakes`: the brakes of the blast brake that are on, and what an operator makes of one.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::verbs::{Said, said};
use crate::brake::decided_before;
use crate::domain::brake::{Brake, Decision};
use crate::domain::key::Scope;
use crate::domain::verb::Verb;
use crate::http::AppState;
use crate::http::auth::Caller;
use crate::http::body;
use crate::http::problem::{Kind, Problem};
use crate::store::BrakeDecided;

/// Brakes shown at most: there are as many as streams that are out of line at once.
const LISTED_MAX: usize = 1_000;

type App = web::Data<AppState>;
type Id = web::Path<String>;

// --- GET /v1/brakes ---

#[derive(Serialize)]
struct Listed {
    items: Vec<Brake>,
}

/// The caller's brakes that are on or not carried out to their end, oldest first.
pub async fn list(app: App, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Read)?;
    let items = app.store.open_brakes(Some(caller.tenant().clone()), LISTED_MAX).await?;
    Ok(HttpResponse::Ok().json(Listed { items }))
}

// --- POST /v1/brakes/{id}/release ---

/// Lets what a brake holds go on.
pub async fn release(
    app: App,
    caller: Caller,
    id: Id,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    decide(Decision::Release, (&app, &caller, &id), (&request, payload)).await
}

// --- POST /v1/brakes/{id}/cancel ---

/// Ends what a brake holds unsent.
pub async fn cancel(
    app: App,
    caller: Caller,
    id: Id,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    decide(Decision::Cancel, (&app, &caller, &id), (&request, payload)).await
}

// --- what the two have in common ---

async fn decide(
    decision: Decision,
    (app, caller, id): (&App, &Caller, &Id),
    (request, payload): (&HttpRequest, web::Payload),
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Manage)?;
    let no_brake = || Problem::saying(Kind::NotFound, "there is no such brake");
    let id = id.parse().map_err(|_| no_brake())?;
    let body = body::read_optional_json(request, payload, app.body_limits).await?;
    let verb = match decision {
        Decision::Release => Verb::Release,
        Decision::Cancel => Verb::Cancel,
    };
    let Said { because, wrong, .. } = said(verb, body.as_deref())?;
    if !wrong.is_empty() {
        return Err(Problem::invalid(wrong));
    }
    let tenant = Some(caller.tenant().clone());
    match app.lever.pull((id, tenant), decision, caller.actor(), because).await? {
        BrakeDecided::Decided(brake) => Ok(HttpResponse::Ok().json(brake)),
        BrakeDecided::NoBrake => Err(no_brake()),
        BrakeDecided::WrongState(brake) => Err(Problem::saying(Kind::WrongState, decided_before(&brake))),
    }
}
