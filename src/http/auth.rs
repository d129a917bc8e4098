//! Who calls: the API key in `X-API-KEY` or `Authorization: Bearer`, and what it may do.

use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, web};
use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;

use super::AppState;
use super::limit;
use super::problem::{Kind, Problem};
use crate::domain::audit::Actor;
use crate::domain::ids::TenantId;
use crate::domain::key::{ApiKey, Scope};

const X_API_KEY: &str = "x-api-key";

/// A caller with a good key. A handler that takes one is closed to everybody else.
#[derive(Debug, Clone)]
pub struct Caller {
    key: Arc<ApiKey>,
}

impl Caller {
    /// Refuses a key without this scope.
    pub fn require(&self, scope: Scope) -> Result<(), Problem> {
        if self.key.scopes.contains(&scope) {
            return Ok(());
        }
        Err(Problem::saying(Kind::Forbidden, format!("this needs a key with the scope {scope}")))
    }

    /// Whose key it is: all that the caller may see.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.key.tenant
    }

    /// As named in the audit.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::Key(self.key.id)
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        async move {
            let app = request.app_data::<web::Data<AppState>>().ok_or(Problem::new(Kind::Internal))?;
            let key = authenticate(app, &request).await?;
            request.extensions_mut().insert(key.id);
            limit::request(app, &request, &key)?;
            Ok(Self { key })
        }
        .boxed_local()
    }
}

/// The key that the request presents, if it is a good one. Every failure counts against the client's address.
///
/// Over its limit an address is told so before anything is computed or read for it, but for a secret that names a key
/// there is: then it is checked. So nobody who shares an address with an attacker (a proxy's, a brand's NAT) is shut
/// out, after a restart neither, and a guess costs one HMAC, far less than the answer to it.
async fn authenticate(app: &AppState, request: &HttpRequest) -> Result<Arc<ApiKey>, Problem> {
    let failed = |problem: Problem| limit::failure(app, request).err().unwrap_or(problem);
    let secret = presented(request.headers()).map_err(failed)?;
    let names_a_key = app.keys.knows(secret).await?;
    if !names_a_key {
        limit::failure(app, request)?;
    }
    let refused = || unauthorized("the key is not known or was revoked");
    match app.keys.verify(secret).await? {
        Some(key) => Ok(key),
        None if names_a_key => Err(failed(refused())),
        None => Err(refused()),
    }
}

fn unauthorized(detail: &'static str) -> Problem {
    Problem::saying(Kind::Unauthorized, detail)
}

/// The one secret that the headers present, in either of them or the same in both.
fn presented(headers: &HeaderMap) -> Result<&str, Problem> {
    let direct = headers.get_all(X_API_KEY).map(|value| value.to_str().unwrap_or_default().trim());
    let bearer = headers.get_all(AUTHORIZATION).filter_map(|value| bearer(value.to_str().ok()?));
    let mut secrets = direct.chain(bearer);
    let secret = secrets.next().ok_or_else(|| unauthorized("send a key as X-API-KEY or Authorization: Bearer"))?;
    if secrets.any(|other| other != secret) {
        return Err(unauthorized("two different keys were sent"));
    }
    Ok(secret)
}

/// The token of `Bearer …`, whatever the scheme's case; `None` for other schemes.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use crate::domain::ids::KeyId;
    use actix_web::ResponseError as _;
    use actix_web::test::TestRequest;

    fn of(given: &[(&'static str, &'static str)]) -> Result<String, u16> {
        let request = given.iter().fold(TestRequest::get(), |request, header| request.append_header(*header));
        let request = request.to_http_request();
        presented(request.headers()).map(str::to_owned).map_err(|problem| problem.status_code().as_u16())
    }

    #[test]
    fn one_key_in_either_header_or_the_same_in_both_is_taken() {
        for given in [
            &[("X-API-KEY", "a")][..],
            &[("x-api-key", " a ")],
            &[("Authorization", "Bearer a")],
            &[("Authorization", "bearer  a")],
            &[("X-API-KEY", "a"), ("Authorization", "Bearer a")],
            &[("X-API-KEY", "a"), ("Authorization", "Basic Zm9v")],
        ] {
            assert_eq!(of(given).as_deref(), Ok("a"), "{given:?}");
        }
    }

    #[test]
    fn no_key_or_two_different_ones_are_refused() {
        for given in [
            &[][..],
            &[("Authorization", "Basic Zm9v")],
            &[("Authorization", "Bearer")],
            &[("X-API-KEY", "a"), ("Authorization", "Bearer b")],
            &[("X-API-KEY", "a"), ("X-API-KEY", "b")],
        ] {
            assert_eq!(of(given), Err(401), "{given:?}");
        }
    }

    #[test]
    fn a_key_may_do_only_what_its_scopes_say() {
        let key = ApiKey {
            id: KeyId::from_uuid(uuid::Uuid::nil()),
            tenant: "demo".parse().unwrap(),
            name: "till".into(),
            scopes: vec![Scope::Send],
            limit: None,
            mac: [0; 32],
            created_at: jiff::Timestamp::UNIX_EPOCH,
            revoked_at: None,
        };
        let caller = Caller { key: Arc::new(key) };
        assert!(caller.require(Scope::Send).is_ok());
        assert_eq!(caller.require(Scope::Content).unwrap_err().status_code().as_u16(), 403);
    }
}
