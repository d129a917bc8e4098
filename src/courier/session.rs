//! One SMTP session: one connection, said one command at a time, each with its own time-out.
//!
//! A session is *sound* as long as every command got a whole reply in turn. After a time-out, a loss, a garbled or an
//! unasked reply, or 421, it is not, and then it is dropped, which closes its socket. Whoever cancels a command has
//! dropped the session with it, since sessions are passed by value.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Quit, Rset};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::capabilities::Capabilities;
use super::content::Content;
use super::notify::{Notify, rcpt_parameters};
use super::replies::RawReply;
use super::settings::{AuthMechanism, RelaySettings};
use super::wire::Wire;
use super::{Carried, Envelope, Stage, Trouble, TroubleKind, Unfit};
use crate::domain::reply::{Asked, Meaning, Reply, meaning};

/// Longest wait for the answer to QUIT: nothing depends on it.
pub(super) const QUIT_TIMEOUT: Duration = Duration::from_secs(1);
/// Service not available, closing (RFC 5321 section 3.8).
pub(super) const CLOSING: u16 = 421;

/// One session, greeted and authenticated.
pub(super) struct Session {
    pub(super) connection: AsyncSmtpConnection,
    pub(super) wire: Wire,
    pub(super) capabilities: Capabilities,
    pub(super) auth: Option<AuthMechanism>,
    /// Which reports are asked for.
    pub(super) notify: Option<Notify>,
    /// Longest wait for the answer to a command.
    pub(super) command_timeout: Duration,
    /// Longest time for the content and, again, for the answer to its dot.
    pub(super) data_timeout: Duration,
    pub(super) opened: Instant,
    pub(super) last_used: Instant,
    /// Mails begun.
    pub(super) mails: u32,
    pub(super) condition: Condition,
}

/// What may be said next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// MAIL.
    Clean,
    /// RSET, then MAIL: the relay may remember a mail.
    Used,
    /// Nothing.
    Broken,
}

/// How MAIL and RCPT were answered.
#[derive(Debug)]
pub(super) enum Answer {
    /// Both accepted.
    Accepted,
    /// MAIL was not.
    MailRefused(Reply),
    /// RCPT was not.
    RcptRefused(Reply),
}

impl Session {
    /// Whether another command may be said.
    pub(super) fn is_sound(&self) -> bool {
        self.condition != Condition::Broken
    }

    /// Whether another mail may go over it.
    pub(super) fn is_fit(&self, settings: &RelaySettings) -> bool {
        let mails_max = self
            .capabilities
            .mails_max
            .map_or(settings.messages_per_session, |relays| relays.min(settings.messages_per_session));
        self.is_sound()
            && self.mails < mails_max
            && self.opened.elapsed() < settings.session_age_max.0
            && self.last_used.elapsed() < settings.idle_max.0
            && self.wire.is_quiet()
    }

    /// Says one command and hears its reply.
    pub(super) async fn command<C: fmt::Display>(&mut self, stage: Stage, command: C) -> Result<RawReply, Trouble> {
        // A reply that is here already belongs to no command of ours: to take it for this one's would shift all that
        // follow by one. A relay may announce its end at any time, though.
        if self.wire.has_unasked() {
            let early = self.wire.take_reply().or_else(|| self.wire.last_words());
            return match early {
                Some(reply) if reply.code == CLOSING => Ok(self.heard(reply)),
                _ => Err(self.broken(stage, TroubleKind::Garbled)),
            };
        }
        let limit = self.command_timeout;
        // Whether lettre liked the reply does not matter: the wire knows whether there is one.
        let said = timeout(limit, self.connection.command(command)).await.map(drop);
        self.reply(stage, said.map_err(|_| limit))
    }

    /// Hears the reply to a command that was said together with an earlier one (RFC 2920).
    async fn next_reply(&mut self, stage: Stage) -> Result<RawReply, Trouble> {
        let limit = self.command_timeout;
        let heard = timeout(limit, self.connection.read_response()).await.map(drop);
        self.reply(stage, heard.map_err(|_| limit))
    }

    /// The reply that lettre's call brought; `done` is an error when it ran into a limit.
    fn reply(&mut self, stage: Stage, done: Result<(), Duration>) -> Result<RawReply, Trouble> {
        if let Some(reply) = self.wire.take_reply() {
            return Ok(self.heard(reply));
        }
        // The relay may have refused before it heard, or while it did not want to hear, all of what we said.
        if let Some(reply) = self.wire.last_words().filter(|reply| reply.code >= 400) {
            self.condition = Condition::Broken;
            return Ok(reply);
        }
        let kind = match done {
            Ok(()) => self.wire.fault().unwrap_or(TroubleKind::Garbled),
            Err(limit) => TroubleKind::TimedOut(limit),
        };
        Err(self.broken(stage, kind))
    }

    fn heard(&mut self, reply: RawReply) -> RawReply {
        if reply.code == CLOSING {
            self.condition = Condition::Broken;
        }
        reply
    }

    /// A session whose relay answers neither yes nor no is out of step: nothing more is said on it.
    fn suspect(&mut self, code: u16) {
        if !matches!(code, 200..=299 | 400..=599) {
            self.condition = Condition::Broken;
        }
    }

    fn broken(&mut self, stage: Stage, kind: TroubleKind) -> Trouble {
        self.condition = Condition::Broken;
        Trouble { stage, kind }
    }

    /// What the relay lacks to take this mail.
    pub(super) fn unfit(&self, envelope: &Envelope) -> Option<Unfit> {
        let can = &self.capabilities;
        if needs_smtputf8(envelope) && !can.smtputf8 {
            Some(Unfit::Smtputf8)
        } else if envelope.eight_bit && !can.eight_bit_mime {
            Some(Unfit::EightBitMime)
        } else if can.size.is_some_and(|size| envelope.size > size) {
            Some(Unfit::Size)
        } else {
            None
        }
    }

    /// RSET where one is due, MAIL and RCPT; in one go where the relay offers PIPELINING, DATA never among them.
    pub(super) async fn envelope(&mut self, envelope: &Envelope) -> Result<Answer, Trouble> {
        const STAGE: Stage = Stage::Envelope;
        let reset = if self.condition == Condition::Used { "RSET\r\n" } else { "" };
        let notify = self.notify.filter(|_| self.capabilities.dsn);
        let mail = MailCommand { envelope, can: &self.capabilities, wants_reports: notify.is_some() }.to_string();
        let reports = notify.map(|notify| rcpt_parameters(notify, &envelope.recipient)).unwrap_or_default();
        let rcpt = format!("RCPT TO:<{}>{reports}\r\n", envelope.recipient);
        self.mails += 1;
        self.condition = Condition::Used;

        let pipelined = self.capabilities.pipelining;
        let first = if pipelined {
            self.command(STAGE, format!("{reset}{mail}{rcpt}")).await?
        } else if reset.is_empty() {
            self.command(STAGE, &mail).await?
        } else {
            self.command(STAGE, reset).await?
        };
        let mail_reply = if reset.is_empty() {
            first
        } else if first.code != 250 {
            return Err(self.broken(STAGE, TroubleKind::Refused(first.code)));
        } else if pipelined {
            self.next_reply(STAGE).await?
        } else {
            self.command(STAGE, &mail).await?
        };
        self.suspect(mail_reply.code);
        let mail_reply = Reply::from(mail_reply);
        if meaning(&mail_reply, Asked::Mail) != Meaning::Accepted {
            if pipelined && self.is_sound() {
                // RCPT was said already; whatever the relay makes of it, MAIL's answer is the mail's. Should this one
                // be lost, the session is broken and the answer stands.
                drop(self.next_reply(STAGE).await);
            }
            return Ok(Answer::MailRefused(mail_reply));
        }
        let rcpt_reply = if pipelined { self.next_reply(STAGE).await? } else { self.command(STAGE, &rcpt).await? };
        self.suspect(rcpt_reply.code);
        let rcpt_reply = Reply::from(rcpt_reply);
        if meaning(&rcpt_reply, Asked::Rcpt) == Meaning::Accepted {
            Ok(Answer::Accepted)
        } else {
            Ok(Answer::RcptRefused(rcpt_reply))
        }
    }

    /// DATA, the content, the final dot.
    pub(super) async fn carry(&mut self, content: &Content, in_time: &(dyn Fn() -> bool + Send + Sync)) -> Carried {
        let reply = match self.command(Stage::Data, Data).await {
            Ok(reply) => Reply::from(reply),
            Err(trouble) => return Carried::Lost(trouble),
        };
        if meaning(&reply, Asked::Data) != Meaning::Accepted {
            if reply.code < 400 {
                // Neither yes nor no: who knows what it waits for.
                self.condition = Condition::Broken;
            }
            return Carried::DataRefused(reply);
        }
        if self.wire.has_unasked() {
            return Carried::Lost(self.broken(Stage::Data, TroubleKind::Garbled));
        }
        if !in_time() {
            // There is no way out of DATA but the content or the end of the session.
            self.condition = Condition::Broken;
            return Carried::TooLate;
        }
        let start = self.wire.sent();
        let wire = self.wire.clone();
        let bytes = content.wire().len() as u64;
        let limits = ContentLimits { stall: self.command_timeout, whole: self.data_timeout, bytes };
        let message = async {
            // Whether it worked does not matter here: the wire knows what left, and whether there is a reply.
            if wire.clone().write_all(content.wire()).await.is_ok() && wire.clone().flush().await.is_ok() {
                drop(self.connection.read_response().await);
            }
        };
        let done = limits.run(&wire, message).await;
        // Sound because the count never falls behind what left us, and the last of these bytes ends the final dot.
        let may_be_complete = wire.sent() - start >= bytes;
        match self.reply(Stage::Data, done) {
            Ok(reply) => {
                // With its yes the relay forgets the envelope (RFC 5321 section 4.1.1.4): no RSET before the next.
                if reply.code == 250 && self.is_sound() {
                    self.condition = Condition::Clean;
                }
                self.suspect(reply.code);
                Carried::Answered(reply.into())
            }
            Err(trouble) if may_be_complete => Carried::Unknown(trouble),
            Err(trouble) => Carried::Lost(trouble),
        }
    }

    /// RSET, so that the relay forgets a mail whose content was not sent.
    pub(super) async fn reset(&mut self) {
        match self.command(Stage::Envelope, Rset).await {
            Ok(reply) if reply.code == 250 => self.condition = Condition::Clean,
            _ => self.condition = Condition::Broken,
        }
    }

    /// QUIT, waiting shortly for its answer.
    pub(super) async fn quit(mut self) {
        if self.is_sound() {
            // The socket is closed next, answer or not.
            let _ = timeout(QUIT_TIMEOUT, self.connection.command(Quit)).await;
        }
    }

    /// QUIT without waiting, where a mail would have to wait for it.
    pub(super) fn part(self) {
        if self.is_sound() {
            self.wire.part();
        }
    }
}

fn needs_smtputf8(envelope: &Envelope) -> bool {
    envelope.utf8_headers || envelope.sender.needs_smtputf8() || envelope.recipient.needs_smtputf8()
}

/// MAIL with the parameters this mail needs. Our own, since lettre's addresses know no quoted local part; ours cannot
/// hold a control character.
struct MailCommand<'a> {
    envelope: &'a Envelope,
    can: &'a Capabilities,
    wants_reports: bool,
}

impl fmt::Display for MailCommand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MAIL FROM:<{}>", self.envelope.sender)?;
        if self.can.size_declared {
            write!(f, " SIZE={}", self.envelope.size)?;
        }
        if self.envelope.eight_bit {
            f.write_str(" BODY=8BITMIME")?;
        }
        if needs_smtputf8(self.envelope) {
            f.write_str(" SMTPUTF8")?;
        }
        if self.wants_reports {
            // A report need not carry what we have.
            write!(f, " RET=HDRS ENVID={}", self.envelope.id)?;
        }
        f.write_str("\r\n")
    }
}

/// How long the content may take.
struct ContentLimits {
    /// Without a byte leaving.
    stall: Duration,
    /// Until all bytes left; and, from then, until the answer.
    whole: Duration,
    /// How many there are.
    bytes: u64,
}

impl ContentLimits {
    /// Runs `message`; an error is the limit it ran into.
    async fn run(&self, wire: &Wire, message: impl Future<Output = ()>) -> Result<(), Duration> {
        let start = wire.sent();
        let began = Instant::now();
        let mut message = std::pin::pin!(message);
        loop {
            let before = wire.sent();
            if before - start >= self.bytes {
                return timeout(self.whole, &mut message).await.map_err(|_| self.whole);
            }
            if timeout(self.stall.min(self.whole), &mut message).await.is_ok() {
                return Ok(());
            }
            if wire.sent() == before {
                return Err(self.stall);
            }
            if began.elapsed() >= self.whole && wire.sent() - start < self.bytes {
                return Err(self.whole);
            }
        }
    }
}
