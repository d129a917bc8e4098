//! The capture SMTP server: takes every mail, keeps it in memory, and misbehaves when the recipient's name says so.
//!
//! `demo`, the tests and operators' trials use it as their relay. It promises what a test needs of a relay: strict
//! about where a mail ends, exact about what it was told, bounded in memory, and silent to the world: nothing that
//! comes in ever leaves. What it can do wrong on request is listed in `mischief`; its pages are `http::inbox`.
//!
//! - [`Inbox`] owns the listening socket and the sessions; its caller spawns [`Inbox::run`].
//! - [`Captured`] is the handle on what was taken and counted; it outlives the server.
//! - `session` speaks SMTP over a `wire`, one task a connection, all of them inside `run`.

mod auth;
mod captured;
mod command;
mod mischief;
mod reading;
mod reply;
mod session;
#[cfg(test)]
mod tests;
mod tls;
pub mod wire;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

pub use auth::Credentials;
pub use captured::{Captured, CapturedMail, Counters};
pub use command::MailParameters;
pub use reading::{Attachment, ReadMail, Summary};

use session::Context;
use tls::Identity;

/// How a failing `accept` (no file descriptors left) is spaced out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How the capture server listens and what it bears.
#[derive(Debug, Clone)]
pub struct InboxSettings {
    /// Where SMTP listens; port 0 picks a free one.
    pub smtp: SocketAddr,
    /// Whether and how sessions are encrypted.
    pub tls: InboxTls,
    /// When set, MAIL wants an AUTH with these first. With STARTTLS, AUTH is offered under TLS only.
    pub auth: Option<Credentials>,
    /// The most sessions at once; one more is answered 421.
    pub connections_max: usize,
    /// The most mails kept; the oldest leaves first.
    pub messages_max: usize,
    /// The most memory that kept mails may take.
    pub bytes_max: usize,
    /// The largest mail taken, advertised as SIZE; never more than `bytes_max`.
    pub message_bytes_max: usize,
    /// The most recipients of one mail.
    pub recipients_max: usize,
    /// How long a client may say nothing, or leave a reply unread.
    pub idle_max: Duration,
    /// How late `slow@` is answered, by the clock.
    pub slow: Duration,
    /// How long `silent@` is left without an answer, by the clock, before the connection is closed.
    pub silent_max: Duration,
}

/// Whether and how the capture server encrypts, with a certificate it makes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InboxTls {
    /// Never.
    None,
    /// When the client asks with STARTTLS (RFC 3207).
    StartTls,
    /// From the first byte (RFC 8314).
    Implicit,
}

impl Default for InboxSettings {
    fn default() -> Self {
        Self {
            smtp: SocketAddr::from((Ipv4Addr::LOCALHOST, 2525)),
            tls: InboxTls::None,
            auth: None,
            connections_max: 200,
            messages_max: 10_000,
            bytes_max: 256 << 20,
            message_bytes_max: 50 << 20,
            recipients_max: 100,
            idle_max: Duration::from_mins(5),
            slow: Duration::from_secs(2),
            silent_max: Duration::from_mins(10),
        }
    }
}

/// A bound capture server. It serves while [`Inbox::run`] is polled.
pub struct Inbox {
    listener: TcpListener,
    smtp_addr: SocketAddr,
    context: Arc<Context>,
}

impl Inbox {
    /// Binds the port and, with TLS, makes the certificate.
    pub async fn bind(mut settings: InboxSettings, clock: Arc<dyn Clock>) -> io::Result<Self> {
        settings.message_bytes_max = settings.message_bytes_max.min(settings.bytes_max);
        let identity = match settings.tls {
            InboxTls::None => None,
            InboxTls::StartTls | InboxTls::Implicit => Some(Identity::make()?),
        };
        let listener = TcpListener::bind(settings.smtp).await?;
        let smtp_addr = listener.local_addr()?;
        let (acceptor, certificate_pem) = identity.map(|made| (made.acceptor, made.certificate_pem)).unzip();
        let captured = Captured::new(settings.messages_max, settings.bytes_max, certificate_pem);
        Ok(Self { listener, smtp_addr, context: Arc::new(Context { settings, captured, clock, acceptor }) })
    }

    /// Where SMTP listens, with the real port.
    #[must_use]
    pub fn smtp_addr(&self) -> SocketAddr {
        self.smtp_addr
    }

    /// A handle on what is captured.
    #[must_use]
    pub fn captured(&self) -> Captured {
        self.context.captured.clone()
    }

    /// Serves until `stop`; then every session is cut and the port is free again.
    ///
    /// # Panics
    ///
    /// Passes on the panic of a session, so that whoever watches this task hears of it.
    pub async fn run(self, stop: CancellationToken) {
        let mut sessions = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = sessions.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) if sessions.len() < self.context.settings.connections_max => {
                        sessions.spawn(session::serve(stream, Arc::clone(&self.context)));
                    }
                    Ok((stream, _)) => self.turn_away(&stream),
                    Err(_) => self.pause().await,
                },
            }
        }
        drop(self.listener);
        sessions.shutdown().await;
    }

    fn turn_away(&self, stream: &TcpStream) {
        self.context.captured.count(|counters| counters.connections_refused += 1);
        // Fits the socket's empty send buffer; a client that is not told sees the connection close.
        let _ = stream.try_write(b"421 4.7.0 Error: too many connections\r\n");
    }

    /// `accept` fails at once while there are no file descriptors: do not spin.
    async fn pause(&self) {
        let clock = &self.context.clock;
        // Real time as well, because a manual clock may stand still.
        let until = clock.now().saturating_add(ACCEPT_PAUSE).unwrap_or(jiff::Timestamp::MAX);
        let _ = tokio::time::timeout(ACCEPT_PAUSE, clock.sleep_until(until)).await;
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Inbox").field("smtp_addr", &self.smtp_addr).finish_non_exhaustive()
    }
}
