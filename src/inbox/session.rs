//! One client's conversation with the capture server, from greeting to end.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use jiff::Timestamp;

use super::auth::{Credentials, Verdict};
use super::captured::{Captured, CapturedMail, OpenSession};
use super::command::{self, Command, MailParameters, Verb};
use super::mischief::{self, Mischief};
use super::reply::Reply;
use super::wire::{Line, Wire};
use super::{InboxSettings, InboxTls};
use crate::clock::Clock;

const HOST_NAME: &str = "inbox.postern.localhost";

/// What every session of one inbox shares.
pub(super) struct Context {
    pub(super) settings: InboxSettings,
    pub(super) captured: Captured,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) acceptor: Option<TlsAcceptor>,
}

/// Serves one connection to its end. A client that vanishes is no error here.
pub(super) async fn serve(stream: TcpStream, context: Arc<Context>) {
    let open = context.captured.open_session();
    // Without it every small reply waits for the client's delayed ACK.
    if stream.set_nodelay(true).is_ok()
        && let Err(error) = talk(stream, &open, &context).await
    {
        tracing::debug!(session = open.number, kind = ?error.kind(), "a client of the inbox went away");
    }
}

async fn talk(stream: TcpStream, open: &OpenSession, context: &Context) -> io::Result<()> {
    let mut session = Session {
        wire: Wire::new(Box::new(stream), context.settings.idle_max),
        context,
        number: open.number,
        mails_taken: 0,
        encrypted: false,
        user: None,
        client_name: None,
        transaction: None,
    };
    if context.settings.tls == InboxTls::Implicit {
        session = session.encrypt().await?;
    }
    session.wire.say_line(&format!("220 {HOST_NAME} ESMTP Postern inbox"));
    while let Some(line) = session.wire.line().await? {
        match session.answer(line).await? {
            Next::Line => {}
            Next::Encrypt => session = session.encrypt().await?,
            Next::Close => break,
        }
    }
    session.wire.flush().await?;
    session.wire.close().await;
    Ok(())
}

struct Session<'a> {
    wire: Wire,
    context: &'a Context,
    number: u64,
    mails_taken: u32,
    encrypted: bool,
    user: Option<String>,
    /// What EHLO or HELO said; `None` before.
    client_name: Option<String>,
    transaction: Option<Transaction>,
}

/// From MAIL to the dot.
struct Transaction {
    sender: String,
    parameters: MailParameters,
    recipients: Vec<String>,
}

impl Transaction {
    /// The first recipient that has something up its sleeve, or the first one.
    fn spokesman(&self) -> (&str, Option<Mischief>) {
        let mut recipients = self.recipients.iter().map(|recipient| (recipient.as_str(), Mischief::of(recipient)));
        recipients
            .find(|(_, mischief)| mischief.is_some())
            .unwrap_or((self.recipients.first().map_or("", String::as_str), None))
    }
}

enum Next {
    Line,
    Encrypt,
    Close,
}

impl Session<'_> {
    async fn answer(&mut self, line: Line) -> io::Result<Next> {
        let Line::Text(line) = line else {
            self.context.captured.count_verb(Verb::Unknown);
            return Ok(self.say(500, "5.5.2", "Error: line too long"));
        };
        self.context.captured.count_verb(Verb::of(&line));
        let command = match command::parse(&line) {
            Ok(command) => command,
            Err(refusal) => return Ok(self.reply(&refusal)),
        };
        Ok(match command {
            Command::Ehlo(name) => self.ehlo(name),
            Command::Helo(name) => {
                self.transaction = None;
                self.client_name = Some(name);
                self.say(250, "", HOST_NAME)
            }
            Command::Mail { sender, parameters } => self.mail(sender, parameters),
            Command::Rcpt { recipient } => self.rcpt(recipient).await?,
            Command::Data => self.data().await?,
            Command::Auth { mechanism, initial } => self.auth(&mechanism, initial).await?,
            Command::StartTls => self.start_tls().await?,
            Command::Rset => {
                self.transaction = None;
                self.say(250, "2.0.0", "Ok")
            }
            Command::Noop => self.say(250, "2.0.0", "Ok"),
            Command::Vrfy => self.say(252, "2.0.0", "Cannot verify, but will take the mail"),
            Command::Help => self.say(214, "2.0.0", "This is a capture inbox: nothing leaves it"),
            Command::Quit => {
                self.say(221, "2.0.0", "Bye");
                Next::Close
            }
            Command::Unknown => self.reply(&command::unknown()),
        })
    }

    fn ehlo(&mut self, name: String) -> Next {
        self.transaction = None;
        self.client_name = Some(name);
        let settings = &self.context.settings;
        let mut lines =
            vec![HOST_NAME.to_owned(), "PIPELINING".to_owned(), format!("SIZE {}", settings.message_bytes_max)];
        if self.may_encrypt() {
            lines.push("STARTTLS".to_owned());
        }
        if self.may_authenticate().is_some() {
            lines.push("AUTH PLAIN LOGIN XOAUTH2".to_owned());
        }
        lines.extend(["ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8"].map(str::to_owned));
        let last = lines.len() - 1;
        for (at, line) in lines.iter().enumerate() {
            self.wire.say_line(&format!("250{}{line}", if at == last { ' ' } else { '-' }));
        }
        Next::Line
    }

    fn mail(&mut self, sender: String, parameters: MailParameters) -> Next {
        let settings = &self.context.settings;
        if self.client_name.is_none() {
            return self.say(503, "5.5.1", "Error: send EHLO first");
        }
        if settings.auth.is_some() && self.user.is_none() {
            return self.say(530, "5.7.0", "Authentication required");
        }
        if self.transaction.is_some() {
            return self.say(503, "5.5.1", "Error: nested MAIL command");
        }
        if parameters.size.is_some_and(|size| size > settings.message_bytes_max as u64) {
            return self.say(552, "5.3.4", "Message size exceeds fixed limit");
        }
        if let Some(code) = Mischief::of(&sender).and_then(Mischief::at_mail) {
            return self.refuse(&mischief::sender_refused(code, &sender));
        }
        self.transaction = Some(Transaction { sender, parameters, recipients: Vec::new() });
        self.say(250, "2.1.0", "Ok")
    }

    async fn rcpt(&mut self, recipient: String) -> io::Result<Next> {
        let Some(transaction) = &mut self.transaction else {
            return Ok(self.say(503, "5.5.1", "Error: need MAIL command"));
        };
        if !recipient.is_ascii() && !transaction.parameters.smtputf8 {
            return Ok(self.say(553, "5.6.7", "SMTPUTF8 is required for a non-ASCII recipient"));
        }
        if transaction.recipients.len() >= self.context.settings.recipients_max {
            return Ok(self.say(452, "4.5.3", "Error: too many recipients"));
        }
        match Mischief::of(&recipient) {
            Some(Mischief::Silent) => {
                self.wire.flush().await?;
                self.keep_silent().await;
                Ok(Next::Close)
            }
            asked => {
                if let Some(code) = asked.and_then(Mischief::at_rcpt) {
                    return Ok(self.refuse(&mischief::recipient_refused(code, &recipient)));
                }
                transaction.recipients.push(recipient);
                Ok(self.say(250, "2.1.5", "Ok"))
            }
        }
    }

    async fn data(&mut self) -> io::Result<Next> {
        let Some(transaction) = self.transaction.take() else {
            return Ok(self.say(503, "5.5.1", "Error: need MAIL command"));
        };
        let (recipient, asked) = transaction.spokesman();
        if recipient.is_empty() {
            self.transaction = Some(transaction);
            return Ok(self.say(554, "5.5.1", "Error: no valid recipients"));
        }
        if let Some(code) = asked.and_then(Mischief::at_data) {
            return Ok(self.refuse(&mischief::mail_refused(code, recipient)));
        }
        self.say(354, "", "End data with <CR><LF>.<CR><LF>");
        let Some(content) = self.wire.content(self.context.settings.message_bytes_max).await? else {
            return Ok(Next::Close);
        };
        let Some(raw) = content.into_bytes() else {
            return Ok(self.say(552, "5.3.4", "Error: message file too big"));
        };
        if let Some(code) = asked.and_then(Mischief::at_dot) {
            return Ok(self.refuse(&mischief::mail_refused(code, recipient)));
        }
        if asked == Some(Mischief::DropData) {
            return Ok(Next::Close);
        }
        // Before the mail can be seen, so that whoever sees it may wind the clock.
        let late = self.after(self.context.settings.slow);
        let queue_id = self.take(transaction, asked, raw);
        match asked {
            Some(Mischief::DropReply) => return Ok(Next::Close),
            Some(Mischief::Slow) => self.context.clock.sleep_until(late).await,
            Some(Mischief::Silent | Mischief::DropData | Mischief::Refuse { .. }) | None => {}
        }
        Ok(self.reply(&Reply::new(250, "2.0.0", format!("Ok: queued as {queue_id}"))))
    }

    fn take(&mut self, transaction: Transaction, asked: Option<Mischief>, raw: Vec<u8>) -> String {
        self.mails_taken += 1;
        let received_at = self.context.clock.now();
        let queue_id = self.context.captured.next_queue_id(received_at);
        self.context.captured.keep(CapturedMail {
            queue_id: queue_id.clone(),
            sender: transaction.sender,
            recipients: transaction.recipients,
            parameters: transaction.parameters,
            received_at,
            session: self.number,
            ordinal: self.mails_taken,
            client_name: self.client_name.clone().unwrap_or_default(),
            encrypted: self.encrypted,
            authenticated: self.user.clone(),
            mischief: asked.map(Mischief::label),
            raw,
        });
        queue_id
    }

    /// Waits until the client has gone, or the clock says that this was long enough.
    async fn keep_silent(&mut self) {
        let until = self.after(self.context.settings.silent_max);
        tokio::select! {
            () = self.wire.gone() => {}
            () = self.context.clock.sleep_until(until) => {}
        }
    }

    fn may_encrypt(&self) -> bool {
        self.context.settings.tls == InboxTls::StartTls && !self.encrypted
    }

    async fn start_tls(&mut self) -> io::Result<Next> {
        if !self.may_encrypt() {
            return Ok(self.say(502, "5.5.1", "Error: command not available"));
        }
        self.say(220, "2.0.0", "Ready to start TLS");
        self.wire.flush().await?;
        Ok(Next::Encrypt)
    }

    /// The same session over TLS; what was said before is forgotten (RFC 3207 section 4.2).
    async fn encrypt(self) -> io::Result<Self> {
        let settings = &self.context.settings;
        let Some(acceptor) = &self.context.acceptor else { return Err(io::ErrorKind::Unsupported.into()) };
        let stream = timeout(settings.idle_max, acceptor.accept(self.wire.into_stream())).await??;
        self.context.captured.count(|counters| counters.tls_sessions += 1);
        let wire = Wire::new(Box::new(stream), settings.idle_max);
        Ok(Self { wire, encrypted: true, user: None, client_name: None, transaction: None, ..self })
    }

    /// The credentials to ask for, when this is the place to do so.
    fn may_authenticate(&self) -> Option<&Credentials> {
        self.context.settings.auth.as_ref().filter(|_| !self.may_encrypt())
    }

    async fn auth(&mut self, mechanism: &str, initial: Option<String>) -> io::Result<Next> {
        if self.context.settings.auth.is_some() && self.may_encrypt() {
            return Ok(self.say(538, "5.7.11", "Encryption required for requested authentication mechanism"));
        }
        let Some(credentials) = self.may_authenticate().cloned() else {
            return Ok(self.say(502, "5.5.1", "Error: authentication not enabled"));
        };
        if self.client_name.is_none() || self.user.is_some() || self.transaction.is_some() {
            return Ok(self.say(503, "5.5.1", "Error: bad sequence of commands"));
        }
        let verdict = match mechanism {
            "PLAIN" => self.ask(initial, "").await?.map(|answer| credentials.check_plain(&answer)),
            "XOAUTH2" => self.ask(initial, "").await?.map(|answer| credentials.check_xoauth2(&answer)),
            "LOGIN" => match self.ask(initial, "VXNlcm5hbWU6").await? {
                Some(user) => {
                    let password = self.ask(None, "UGFzc3dvcmQ6").await?;
                    password.map(|password| credentials.check_login(&user, &password))
                }
                None => None,
            },
            _ => return Ok(self.say(504, "5.5.4", "Unrecognized authentication type")),
        };
        match verdict {
            Some(Verdict::Right) => {
                self.user = Some(credentials.user);
                self.context.captured.count(|counters| counters.authentications += 1);
                Ok(self.say(235, "2.7.0", "Authentication successful"))
            }
            Some(Verdict::Wrong) => {
                if mechanism == "XOAUTH2" {
                    // {"status":"400"}: the client acknowledges it with an empty line before the refusal.
                    self.ask(None, "eyJzdGF0dXMiOiI0MDAifQ==").await?;
                }
                Ok(self.say(535, "5.7.8", "Error: authentication failed"))
            }
            Some(Verdict::Malformed) => Ok(self.say(501, "5.5.2", "Cannot decode response")),
            None => Ok(self.say(501, "5.7.0", "Authentication aborted")),
        }
    }

    /// The initial response, or what the client answers to a challenge; `None` when it gives up.
    async fn ask(&mut self, initial: Option<String>, challenge: &str) -> io::Result<Option<String>> {
        if initial.is_some() {
            return Ok(initial);
        }
        self.wire.say_line(&format!("334 {challenge}"));
        match self.wire.line().await? {
            Some(Line::Text(answer)) => Ok(String::from_utf8(answer).ok().filter(|answer| answer != "*")),
            Some(Line::TooLong) => Ok(None),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn after(&self, wait: std::time::Duration) -> Timestamp {
        self.context.clock.now().saturating_add(wait).unwrap_or(Timestamp::MAX)
    }

    fn say(&mut self, code: u16, enhanced: &'static str, text: &'static str) -> Next {
        self.reply(&Reply::new(code, enhanced, text))
    }

    fn reply(&mut self, reply: &Reply) -> Next {
        self.wire.say(reply);
        Next::Line
    }

    /// A refusal; 421 also ends the session (RFC 5321 section 3.8).
    fn refuse(&mut self, reply: &Reply) -> Next {
        self.wire.say(reply);
        if reply.code == 421 { Next::Close } else { Next::Line }
    }
}
