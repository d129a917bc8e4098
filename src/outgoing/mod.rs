//! The one HTTP client for calls that operators configure: pushes, look-ups in a CRM, the Pass API.
//!
//! Systems of the brand are called, and these are mostly internal: private addresses are allowed, until `networks` in
//! `[outgoing]` names those that are.
//!
//! # What is promised
//!
//! * The allow-list is held against the address that is really connected to: of a host name, in our own resolver, after
//!   the look-up and for every connection; of an address in the URL, which no resolver is asked for, before the call. An
//!   IPv4 address within an IPv6 one counts as the IPv4 address.
//! * No redirect is followed (the answer 3xx is the answer), no proxy is taken from the environment, nothing is
//!   decompressed, and nothing is tried twice.
//! * Finding the address, connecting and the handshake have one time limit (`connect_timeout`), the whole call another,
//!   which is the caller's. What is read of an answer is limited while it is read.
//! * An error tells apart what its caller must tell apart, and never shows a path, a query, a header or a body.
//!
//! Retries, breakers and rates are the callers' own affair.

mod resolver;
pub mod settings;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;

pub use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
pub use reqwest::{Method, StatusCode};

use self::resolver::{NotAllowed, Resolver};
use self::settings::OutgoingSettings;
use crate::domain::network::Network;
pub use crate::domain::outgoing_url::OutgoingUrl;

/// What we call ourselves.
const USER_AGENT: &str = concat!("postern/", env!("CARGO_PKG_VERSION"));
/// Idle connections that are kept per host, and for how long: less than servers usually keep theirs.
const IDLE_PER_HOST_MAX: usize = 4;
const IDLE_MAX: Duration = Duration::from_secs(20);

/// Calls URLs. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    networks: Arc<[Network]>,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// GET, POST …
    pub method: Method,
    /// Whom to call.
    pub url: &'a OutgoingUrl,
    /// Header fields; ours are added. Mark a value that is a secret as sensitive.
    pub headers: HeaderMap,
    /// The body; empty for none.
    pub body: Vec<u8>,
    /// How long all of it may take, the answer's body included.
    pub timeout: Duration,
    /// What is done with the answer's body.
    pub answer: AnswerBody,
}

/// What is done with an answer's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerBody {
    /// Nobody wants it: it is not waited for.
    Unwanted,
    /// It is read; more bytes than these are an error.
    UpTo(usize),
}

/// What came back.
#[derive(Clone)]
pub struct Answer {
    /// The status, of whatever class.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its body, when it was wanted.
    pub body: Vec<u8>,
}

/// Why there is no answer. Shown without the URL, header fields or bodies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The address is in none of the networks that may be called. Nothing was sent.
    #[error("the address is in none of the networks of outgoing.networks")]
    NotAllowed,
    /// There is no connection: no such name, nobody listens or not in time, no trusted certificate. Nothing was sent.
    #[error("cannot connect: {0}")]
    CannotConnect(String),
    /// It took longer than it may. Whether the request arrived is not known.
    #[error("no answer in time")]
    TimedOut,
    /// The answer's body is larger than its caller takes.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The connection broke, or what came is not HTTP. Whether the request arrived is not known.
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl Client {
    /// A client under these settings.
    pub fn new(settings: &OutgoingSettings) -> Result<Self, CannotCall> {
        let networks: Arc<[Network]> = settings.networks.clone().into();
        let http = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .tls_backend_preconfigured(tls()?)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .dns_resolver(Resolver::new(Arc::clone(&networks)))
            .connect_timeout(settings.connect_timeout.0)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .pool_idle_timeout(IDLE_MAX)
            .build()
            .map_err(|error| CannotCall(deepest(&error)))?;
        Ok(Self { http, networks })
    }

    /// Sends a request and returns its answer, whatever its status. Cancel safe: a dropped call drops its connection.
    pub async fn call(&self, call: Call<'_>) -> Result<Answer, CallError> {
        if call.url.literal().is_some_and(|address| !resolver::allows(&self.networks, address)) {
            return Err(CallError::NotAllowed);
        }
        let timeout = call.timeout;
        let answered = tokio::time::timeout(timeout, self.exchange(call)).await;
        answered.unwrap_or(Err(CallError::TimedOut))
    }

    async fn exchange(&self, call: Call<'_>) -> Result<Answer, CallError> {
        let Call { method, url, headers, body, timeout: _, answer } = call;
        let mut request = self.http.request(method, url.expose().clone()).headers(headers);
        if !body.is_empty() {
            request = request.body(body);
        }
        let mut response = request.send().await.map_err(|error| what_failed(&error))?;
        let mut body = Vec::new();
        if let AnswerBody::UpTo(bytes_max) = answer {
            while let Some(chunk) = response.chunk().await.map_err(|error| what_failed(&error))? {
                if body.len() + chunk.len() > bytes_max {
                    return Err(CallError::TooLarge(bytes_max));
                }
                body.extend_from_slice(&chunk);
            }
        }
        Ok(Answer { status: response.status(), headers: std::mem::take(response.headers_mut()), body })
    }
}

/// There can be no client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot call anybody: {0}")]
pub struct CannotCall(String);

/// rustls with aws-lc-rs; the system's authorities. A machine without any can still call what is not encrypted.
fn tls() -> Result<ClientConfig, CannotCall> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| CannotCall(error.to_string()))?;
    Ok(match builder.clone().with_platform_verifier() {
        Ok(verified) => verified.with_no_client_auth(),
        Err(error) => {
            tracing::warn!(%error, "this system trusts no certificate authority: no https URL can be called");
            builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
        }
    })
}

fn what_failed(error: &reqwest::Error) -> CallError {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(at) = source {
        if at.is::<NotAllowed>() {
            return CallError::NotAllowed;
        }
        source = at.source();
    }
    match () {
        () if error.is_connect() => CallError::CannotConnect(deepest(error)),
        () if error.is_timeout() => CallError::TimedOut,
        () => CallError::Broken(deepest(error)),
    }
}

/// The innermost error: what the layers above say repeats the URL.
fn deepest(error: &(dyn Error + 'static)) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}
