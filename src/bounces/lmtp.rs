//! Reports that are delivered by LMTP (RFC 2033): by a relay's own delivery, without a script between.
//!
//! As much of it as a relay says when it delivers: LHLO, MAIL, RCPT, DATA, RSET, NOOP, QUIT. After the final dot each
//! recipient is answered: 250 once the report is on disk, or said nothing (whoever sends cannot mend that); 451 where it
//! is to come again. It listens on loopback only, and knows no names: whoever may connect may hand in a report, and a
//! report is believed for its tag alone.

use std::io;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::settings::BounceSettings;
use super::{Bounces, Taken, Whose};
use crate::clock::Clock;
use crate::domain::audit::Actor;
use crate::inbox::wire::{Line, Wire};
use crate::store::Heard;

/// How a failing `accept` (no file descriptors left) is spaced out.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
/// Recipients of one mail at most. A report has one.
const RECIPIENTS_MAX: usize = 100;

const STOPPING: &str = "421 4.3.2 the gateway stops";

/// Takes reports over LMTP.
pub struct Lmtp {
    bounces: Bounces,
    clock: Arc<dyn Clock>,
    listener: TcpListener,
    settings: BounceSettings,
}

impl Lmtp {
    /// One that listens where the settings say; `None`: nowhere.
    pub async fn bind(bounces: Bounces, clock: Arc<dyn Clock>, settings: BounceSettings) -> io::Result<Option<Self>> {
        let Some(address) = settings.lmtp_listen else { return Ok(None) };
        let listener = TcpListener::bind(address).await?;
        Ok(Some(Self { bounces, clock, listener, settings }))
    }

    /// Serves until `soft` is cancelled. A report that is there whole is taken to its end; one that is still coming is
    /// broken off: its client has heard no 250, and comes again.
    pub async fn run(self, soft: CancellationToken) {
        let mut open = FuturesUnordered::new();
        loop {
            let has_room = open.len() < usize::from(self.settings.lmtp_connections_max.get());
            tokio::select! {
                () = soft.cancelled() => break,
                Some(()) = open.next() => {}
                accepted = self.listener.accept(), if has_room => match accepted {
                    Ok((stream, _)) => open.push(self.serve(stream, &soft)),
                    Err(error) => {
                        tracing::warn!(%error, "bounces.lmtp_listen: a connection could not be taken");
                        let next = self.clock.now().checked_add(ACCEPT_PAUSE).unwrap_or(jiff::Timestamp::MAX);
                        self.clock.sleep_until(next).await;
                    }
                },
            }
        }
        while open.next().await.is_some() {}
    }

    /// A client that goes away has heard no 250, and comes again.
    async fn serve(&self, stream: TcpStream, soft: &CancellationToken) {
        let wire = Wire::new(Box::new(stream), self.settings.lmtp_idle_max.0);
        let mut session = Session { lmtp: self, wire, has_sender: false, recipients: 0 };
        if let Err(error) = session.talk(soft).await {
            tracing::debug!(kind = ?error.kind(), "a client that delivers reports went away");
        }
    }
}

struct Session<'l> {
    lmtp: &'l Lmtp,
    wire: Wire,
    /// MAIL was said.
    has_sender: bool,
    /// How often RCPT was said since.
    recipients: usize,
}

impl Session<'_> {
    async fn talk(&mut self, soft: &CancellationToken) -> io::Result<()> {
        self.wire.say_line("220 postern LMTP");
        loop {
            let line = tokio::select! {
                () = soft.cancelled() => {
                    self.wire.say_line(STOPPING);
                    break;
                }
                line = self.wire.line() => line?,
            };
            let Some(line) = line else { return Ok(()) };
            if !self.answer(line, soft).await? {
                break;
            }
        }
        self.wire.flush().await?;
        self.wire.close().await;
        Ok(())
    }

    /// Answers one line; whether another may follow.
    async fn answer(&mut self, line: Line, soft: &CancellationToken) -> io::Result<bool> {
        let Line::Text(line) = line else {
            self.wire.say_line("500 5.5.2 line too long");
            return Ok(true);
        };
        // The words after the verb are for nobody: whose report it is stands in the report.
        let verb = line.split(|byte| matches!(byte, b' ' | b':')).next().unwrap_or_default().to_ascii_uppercase();
        let answer = match verb.as_slice() {
            b"LHLO" => {
                self.forget();
                let size = self.lmtp.settings.report_max.0;
                self.wire.say_line("250-postern\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME");
                self.wire.say_line(&format!("250-SMTPUTF8\r\n250 SIZE {size}"));
                return Ok(true);
            }
            b"MAIL" => {
                self.forget();
                self.has_sender = true;
                "250 2.1.0 Ok"
            }
            b"RCPT" if !self.has_sender => "503 5.5.1 MAIL comes first",
            b"RCPT" if self.recipients >= RECIPIENTS_MAX => "452 4.5.3 too many recipients",
            b"RCPT" => {
                self.recipients += 1;
                "250 2.1.5 Ok"
            }
            b"DATA" if self.recipients == 0 => "503 5.5.1 RCPT comes first",
            b"DATA" => return self.data(soft).await,
            b"RSET" => {
                self.forget();
                "250 2.0.0 Ok"
            }
            b"NOOP" => "250 2.0.0 Ok",
            b"QUIT" => {
                self.wire.say_line("221 2.0.0 Bye");
                return Ok(false);
            }
            _ => "500 5.5.2 not a command of LMTP",
        };
        self.wire.say_line(answer);
        Ok(true)
    }

    fn forget(&mut self) {
        (self.has_sender, self.recipients) = (false, 0);
    }

    async fn data(&mut self, soft: &CancellationToken) -> io::Result<bool> {
        self.wire.say_line("354 End data with <CR><LF>.<CR><LF>");
        let bytes_max = usize::try_from(self.lmtp.settings.report_max.0).unwrap_or(usize::MAX);
        let content = tokio::select! {
            content = self.wire.content(bytes_max) => content?,
            () = soft.cancelled() => {
                self.wire.say_line(STOPPING);
                return Ok(false);
            }
        };
        let Some(content) = content else { return Ok(false) };
        let answer = match content.into_bytes() {
            None => "552 5.3.4 larger than bounces.report_max",
            Some(mail) => match self.lmtp.bounces.take(Whose::Anybodys, Actor::Gateway, &mail).await {
                Ok(Taken { heard: Heard::Found(_), .. }) => "250 2.0.0 Ok",
                Ok(Taken { heard: Heard::InFlight, .. }) => "451 4.3.0 faster than the mail itself: come again",
                Err(error) => {
                    tracing::warn!(%error, "a report cannot be kept; whoever delivers it comes again");
                    "451 4.3.0 cannot be kept now"
                }
            },
        };
        for _ in 0..self.recipients {
            self.wire.say_line(answer);
        }
        self.forget();
        Ok(true)
    }
}
