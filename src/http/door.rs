//! One path and its methods, so that 405 and OPTIONS always know what there is.

use actix_web::dev::{AppService, Handler, HttpServiceFactory};
use actix_web::http::Method;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::{FromRequest, HttpRequest, HttpResponse, Resource, Responder, guard, web};

use super::problem::Problem;

/// A row of the route table.
pub struct Door {
    resource: Resource,
    methods: Vec<&'static str>,
}

impl Door {
    /// The door at `path`.
    #[must_use]
    pub fn at(path: &'static str) -> Self {
        Self { resource: web::resource(path), methods: Vec::new() }
    }

    /// Answers GET, and HEAD with the same headers.
    #[must_use]
    pub fn get<F, Args>(mut self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let guard = guard::Any(guard::Get()).or(guard::Head());
        self.resource = self.resource.route(web::route().guard(guard).to(handler));
        self.methods.extend(["GET", "HEAD"]);
        self
    }

    /// Answers POST.
    #[must_use]
    pub fn post<F, Args>(mut self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.resource = self.resource.route(web::post().to(handler));
        self.methods.push("POST");
        self
    }

    /// Answers PUT.
    #[must_use]
    pub fn put<F, Args>(mut self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.resource = self.resource.route(web::put().to(handler));
        self.methods.push("PUT");
        self
    }

    /// Answers DELETE.
    #[must_use]
    pub fn delete<F, Args>(mut self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.resource = self.resource.route(web::delete().to(handler));
        self.methods.push("DELETE");
        self
    }
}

impl HttpServiceFactory for Door {
    fn register(mut self, config: &mut AppService) {
        self.methods.push("OPTIONS");
        // Unwrap safety: method names are visible ASCII.
        let allow = HeaderValue::from_str(&self.methods.join(", ")).unwrap_or(HeaderValue::from_static(""));
        let other = move |request: HttpRequest| {
            let allow = allow.clone();
            async move {
                match *request.method() {
                    Method::OPTIONS => Ok(HttpResponse::NoContent().insert_header((ALLOW, allow)).finish()),
                    _ => Err(Problem::method_not_allowed(allow)),
                }
            }
        };
        self.resource.default_service(web::to(other)).register(config);
    }
}
