//! `POST /v1/bounces`: a report on a mail, handed in whole.

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use crate::bounces::{Taken, Whose};
use crate::domain::key::Scope;
use crate::http::AppState;
use crate::http::auth::Caller;
use crate::http::body;
use crate::http::problem::{Kind, Problem};
use crate::store::Heard;

const MEDIA: &str = "message/rfc822";

/// What became of the report.
#[derive(Serialize)]
struct Answer {
    /// A word of [`crate::domain::bounce::Finding`].
    outcome: &'static str,
    /// The mail it is about, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

/// Takes one report (DSN or ARF) on a mail of the caller's. 202 also when it says nothing: whoever hands it in has done
/// their part. 409 `in-flight`: it is to come again.
pub async fn submit(
    app: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Events)?;
    let media = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !media.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(MEDIA) {
        return Err(Problem::saying(Kind::UnsupportedMediaType, "send message/rfc822"));
    }
    let mail = body::raw(&request, payload, app.body_limits).await?.decoded(app.body_limits).await?;
    if mail.is_empty() {
        return Err(Problem::saying(Kind::Malformed, "the body is empty"));
    }
    let Taken { heard, message } = app.bounces.take(Whose::Tenant(caller.tenant()), caller.actor(), &mail).await?;
    match heard {
        Heard::Found(finding) => {
            let id = message.map(|message| message.to_string());
            Ok(HttpResponse::Accepted().json(Answer { outcome: finding.as_str(), id }))
        }
        Heard::InFlight => {
            Err(Problem::saying(Kind::InFlight, "the mail is being sent: hand the report in again in a minute"))
        }
    }
}
