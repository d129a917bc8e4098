//! `/v1/alarms`: what is worth a look now.

use actix_web::{HttpResponse, web};
use serde::Serialize;

use crate::domain::alarm::Alarm;
use crate::domain::key::Scope;
use crate::http::AppState;
use crate::http::auth::Caller;
use crate::http::problem::Problem;

/// Alarms shown at most: one of each kind can be open.
const LISTED_MAX: usize = 100;

// --- GET /v1/alarms ---

#[derive(Serialize)]
struct Listed {
    items: Vec<Alarm>,
}

/// The caller's alarms that are open, oldest first.
pub async fn list(app: web::Data<AppState>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Read)?;
    let items = app.store.open_alarms(Some(caller.tenant().clone()), LISTED_MAX).await?;
    Ok(HttpResponse::Ok().json(Listed { items }))
}
