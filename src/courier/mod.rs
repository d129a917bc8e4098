//! The only way to the wire: offers one mail to one relay, waits at the commit point, carries the content.
//!
//! # What flows
//!
//! An attempt asks the courier to [`Courier::offer`] an envelope. The courier takes a session from its pool (or opens
//! one: connect, greeting, EHLO, TLS, AUTH), says MAIL and RCPT, and hands back an [`Offered`] mail: the relay would
//! take it, and nothing was sent yet. The caller now asks the store (the commit point) and then either
//! [`Offered::carry`]s the content or [`Offered::withdraw`]s.
//!
//! # What is promised
//!
//! * [`Carried::Unknown`] is returned exactly when the last byte of the final dot may have left us and no whole reply
//!   came back. Everything lost before is [`Carried::Lost`]; a reply is always definite.
//! * Every wait on the network ends: each command has a time-out, and a socket is dropped, never reused, after any
//!   time-out, garbled reply or cancellation. A dropped `Offered` drops its socket.
//! * Which sessions exist is bounded by the relay's `sessions`; callers wait for nobody: the dispatcher holds permits.
//!
//! What a reply *means* for the message is not decided here but in `domain::reply`.

mod capabilities;
mod content;
mod notify;
mod open;
mod pool;
mod replies;
mod session;
pub mod settings;
mod smtp;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

pub use self::capabilities::Capabilities;
pub use self::notify::Notify;
use self::settings::RelaySettings;
pub use self::smtp::{CourierError, RelayFacts, SmtpCourier, TlsFacts};
use crate::domain::address::EmailAddress;
use crate::domain::ids::{MessageId, RelayName};
use crate::domain::reply::Reply;

/// One envelope: one sender, one recipient.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// The mail, as reports on it name it (ENVID, RFC 3461).
    pub id: MessageId,
    /// The return path.
    pub sender: EmailAddress,
    /// The recipient.
    pub recipient: EmailAddress,
    /// Bytes of the mail before dot-stuffing (SIZE, RFC 1870).
    pub size: u64,
    /// Whether the mail holds bytes above 127 (BODY=8BITMIME, RFC 6152).
    pub eight_bit: bool,
    /// Whether its header section does (RFC 6532), so that SMTPUTF8 is needed whatever the addresses are.
    pub utf8_headers: bool,
}

/// Where the relay, not the mail, failed us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Name look-up or TCP connect.
    Connect,
    /// The greeting or EHLO.
    Greeting,
    /// STARTTLS or the handshake.
    Tls,
    /// AUTH.
    Auth,
    /// MAIL, RCPT or RSET.
    Envelope,
    /// DATA and what follows.
    Data,
}

/// What happened on the way. Holds a code, never a relay's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Where.
    pub stage: Stage,
    /// What.
    pub kind: TroubleKind,
}

/// What kind of trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TroubleKind {
    /// No answer within the time-out.
    TimedOut(Duration),
    /// The connection was refused, reset or closed.
    Closed(std::io::ErrorKind),
    /// The answer was not SMTP.
    Garbled,
    /// The relay answered with this code where it should have welcomed us.
    Refused(u16),
    /// TLS failed, or the relay does not offer it.
    Tls(String),
    /// The relay offers no way to authenticate that we may use.
    NoMechanism,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::Connect => "connect",
            Stage::Greeting => "greeting",
            Stage::Tls => "TLS",
            Stage::Auth => "AUTH",
            Stage::Envelope => "MAIL or RCPT",
            Stage::Data => "DATA",
        };
        match &self.kind {
            TroubleKind::TimedOut(after) => write!(f, "{stage}: no answer within {after:?}"),
            TroubleKind::Closed(kind) => write!(f, "{stage}: connection lost ({kind})"),
            TroubleKind::Garbled => write!(f, "{stage}: the answer was not SMTP"),
            TroubleKind::Refused(code) => write!(f, "{stage}: refused with {code}"),
            TroubleKind::Tls(what) => write!(f, "{stage}: {what}"),
            TroubleKind::NoMechanism => write!(f, "{stage}: no common authentication mechanism"),
        }
    }
}

/// Why an envelope was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotOffered {
    /// No session could be had: connect, greeting, TLS or AUTH. The relay's fault; no attempt is spent.
    Unreachable(Trouble),
    /// A fresh session was lost, went silent or was garbled at MAIL or RCPT.
    Lost(Trouble),
    /// MAIL or RCPT was answered with something else than yes. Definite.
    Refused {
        /// Which of the two.
        command: RefusedCommand,
        /// With what.
        reply: Reply,
    },
    /// This relay cannot take this mail: it lacks what the mail needs. Definite; nothing was said of it to the relay.
    Unfit(Unfit),
}

/// What a relay said no to before it was asked for the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedCommand {
    /// MAIL: nothing was said of the recipient yet.
    Mail,
    /// RCPT: the answer may be about the recipient alone.
    Rcpt,
}

/// What the relay lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// SMTPUTF8 (RFC 6531), which a local part or the header section needs.
    Smtputf8,
    /// 8BITMIME (RFC 6152), which the content needs.
    EightBitMime,
    /// The mail is larger than the relay's SIZE (RFC 1870).
    Size,
}

/// How carrying the content ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried {
    /// The relay answered the final dot, whatever it said. Definite.
    Answered(Reply),
    /// The relay did not answer DATA with 354. Definite; the content was not sent.
    DataRefused(Reply),
    /// The relay wanted the content when it was too late for it: not sent.
    TooLate,
    /// Lost before the final dot can have been complete: certainly not taken.
    Lost(Trouble),
    /// Lost after the final dot may have been complete.
    Unknown(Trouble),
}

/// The way to the relays.
#[async_trait]
pub trait Courier: Send + Sync + 'static {
    /// Opens a session as far as EHLO and AUTH and puts it into the pool: the first thing a half-open breaker tries.
    async fn greet(&self, relay: &RelayName) -> Result<(), Trouble>;

    /// MAIL and RCPT on a session of the relay.
    ///
    /// A pooled session that turns out to be closed or answers MAIL with 421 is dropped and the envelope offered once
    /// more on a new one.
    async fn offer(&self, relay: &RelayName, envelope: &Envelope) -> Result<Box<dyn Offered>, NotOffered>;

    /// Goes on with these relays instead, all or none. Mails under way end on the sessions they have; no session opened
    /// by the old settings carries another mail, and there are never more sockets to a relay than the new settings say.
    fn take_over(&self, relays: Vec<RelaySettings>) -> Result<(), CourierError>;

    /// QUITs idle sessions; called at the end.
    async fn close(&self);
}

/// A mail whose MAIL and RCPT were accepted and whose content was not sent.
#[async_trait]
pub trait Offered: Send {
    /// DATA, the content, the final dot. `mime` has CRLF line ends only. `in_time` is asked once, when the relay wants the
    /// content: after a no the session is dropped and nothing of it sent.
    async fn carry(self: Box<Self>, mime: Vec<u8>, in_time: &(dyn Fn() -> bool + Send + Sync)) -> Carried;

    /// RSET: the relay forgets the envelope; the session goes back to the pool.
    async fn withdraw(self: Box<Self>);
}
