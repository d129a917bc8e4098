//! Opening a session: connect, greeting, STARTTLS, EHLO, AUTH.
//!
//! What comes before encryption is spoken here without lettre, whose read buffer survives its STARTTLS: words slipped in
//! before the handshake would be heard after it as the relay's own. lettre begins on a connection that stays as it is.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::Auth;
use lettre::transport::smtp::extension::ClientId;
use secrecy::{ExposeSecret, SecretString};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::capabilities::Capabilities;
use super::session::{Condition, Session};
use super::settings::{AuthMechanism, RelaySettings, TlsMode};
use super::tls::TlsClient;
use super::wire::{Line, Wire, trouble_of};
use super::{Stage, Trouble, TroubleKind};

/// How many addresses of one relay are tried.
const ADDRESSES_MAX: usize = 8;
/// How long a connection is silent before the system asks whether the relay is still there.
pub(super) const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// How long it waits before it asks again.
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How often it asks before it calls the connection lost.
pub(super) const KEEPALIVE_RETRIES: u32 = 3;

/// Opens a session. `tls` is there unless the relay's mode is `none`.
pub(super) async fn open(settings: &RelaySettings, tls: Option<&TlsClient>) -> Result<Session, Trouble> {
    let stream = within(settings.connect_timeout.0, Stage::Connect, connect(settings)).await?;
    let local = stream.local_addr().map_err(|error| trouble(Stage::Connect, trouble_of(&error)))?.ip();
    let hello = hello_name(settings, local);
    let line = protect(stream, settings, tls, &hello).await?;
    let mut session = say_hello(line, settings, hello).await?;
    if let (Some(username), Some(password)) = (&settings.username, &settings.password) {
        let mechanism = choose(settings.auth, &session.capabilities)?;
        authenticate(&mut session, mechanism, username, password).await?;
        session.auth = Some(mechanism);
    }
    Ok(session)
}

fn trouble(stage: Stage, kind: TroubleKind) -> Trouble {
    Trouble { stage, kind }
}

async fn within<T>(
    limit: Duration,
    stage: Stage,
    what: impl Future<Output = Result<T, TroubleKind>>,
) -> Result<T, Trouble> {
    match timeout(limit, what).await {
        Ok(result) => result.map_err(|kind| trouble(stage, kind)),
        Err(_) => Err(trouble(stage, TroubleKind::TimedOut(limit))),
    }
}

/// Tries the relay's addresses in turn, each for its share of the time, so that a dead one does not hide a live one.
async fn connect(settings: &RelaySettings) -> Result<TcpStream, TroubleKind> {
    let found = lookup_host((settings.host.as_str(), settings.port)).await.map_err(|error| trouble_of(&error))?;
    let addresses: Vec<_> = found.take(ADDRESSES_MAX).collect();
    let share = settings.connect_timeout.0 / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut last = TroubleKind::Closed(std::io::ErrorKind::NotFound);
    for address in addresses {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // SMTP is a dialogue of small packets; each would wait for the other side's delayed acknowledgement of
                // the one before, 40 ms a mail.
                stream.set_nodelay(true).map_err(|error| trouble_of(&error))?;
                keep_alive(&stream).map_err(|error| trouble_of(&error))?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = trouble_of(&error),
            Err(_) => last = TroubleKind::TimedOut(share),
        }
    }
    Err(last)
}

/// Lets the system notice a relay that lost its power or its route. It never says that it is gone, and after a content
/// was sent, silence alone would hold the session for the whole of `data_timeout`.
fn keep_alive(stream: &TcpStream) -> std::io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

fn hello_name(settings: &RelaySettings, local: IpAddr) -> ClientId {
    match (&settings.hello_name, local) {
        (Some(name), _) => ClientId::Domain(name.clone()),
        (None, IpAddr::V4(address)) => ClientId::Ipv4(address),
        (None, IpAddr::V6(address)) => ClientId::Ipv6(address),
    }
}

/// As far as the greeting, encrypted as the settings want it.
async fn protect(
    stream: TcpStream,
    settings: &RelaySettings,
    tls: Option<&TlsClient>,
    hello: &ClientId,
) -> Result<Line, Trouble> {
    let limit = settings.command_timeout.0;
    match (settings.tls, tls) {
        (TlsMode::Implicit, Some(tls)) => {
            let mut line = within(limit, Stage::Tls, tls.handshake(stream)).await?;
            greeting(&mut line, settings).await?;
            Ok(line)
        }
        (TlsMode::Starttls, Some(tls)) => {
            let mut line = Line::plain(stream);
            greeting(&mut line, settings).await?;
            start_tls(&mut line, hello, limit).await?;
            let stream = line.into_plain().map_err(|kind| trouble(Stage::Tls, kind))?;
            within(limit, Stage::Tls, tls.handshake(stream)).await
        }
        (TlsMode::None, _) => {
            let mut line = Line::plain(stream);
            greeting(&mut line, settings).await?;
            Ok(line)
        }
        (TlsMode::Implicit | TlsMode::Starttls, None) => {
            Err(trouble(Stage::Tls, TroubleKind::Tls("no TLS configuration".to_owned())))
        }
    }
}

async fn greeting(line: &mut Line, settings: &RelaySettings) -> Result<(), Trouble> {
    let reply = within(settings.greeting_timeout.0, Stage::Greeting, line.hear()).await?;
    if reply.code == 220 { Ok(()) } else { Err(trouble(Stage::Greeting, TroubleKind::Refused(reply.code))) }
}

/// EHLO and STARTTLS in clear (RFC 3207). What EHLO answered is forgotten: anybody may have said it.
async fn start_tls(line: &mut Line, hello: &ClientId, limit: Duration) -> Result<(), Trouble> {
    let mut ask = async |stage, command: &str| {
        within(limit, stage, async {
            line.say(command).await?;
            line.hear().await
        })
        .await
    };
    let reply = ask(Stage::Greeting, &format!("EHLO {hello}\r\n")).await?;
    if reply.code != 250 {
        return Err(trouble(Stage::Greeting, TroubleKind::Refused(reply.code)));
    }
    if !Capabilities::read(&reply.lines).starttls {
        return Err(trouble(Stage::Tls, TroubleKind::Tls("the relay does not offer STARTTLS".to_owned())));
    }
    let reply = ask(Stage::Tls, "STARTTLS\r\n").await?;
    if reply.code == 220 { Ok(()) } else { Err(trouble(Stage::Tls, TroubleKind::Refused(reply.code))) }
}

/// EHLO, on a connection that stays as it is.
async fn say_hello(line: Line, settings: &RelaySettings, hello: ClientId) -> Result<Session, Trouble> {
    let limit = settings.command_timeout.0;
    let wire = Wire::greeted(line);
    let connected = timeout(limit, AsyncSmtpConnection::connect_with_transport(Box::new(wire.clone()), &hello)).await;
    // Asked first: lettre says QUIT after a refusal and may have waited for its answer in vain.
    let reply = wire.take_reply();
    let capabilities = match &reply {
        Some(reply) if reply.code == 250 => Capabilities::read(&reply.lines),
        Some(reply) => return Err(trouble(Stage::Greeting, TroubleKind::Refused(reply.code))),
        None => Capabilities::default(),
    };
    match connected {
        Ok(Ok(connection)) => Ok(Session {
            notify: settings.notify,
            connection,
            wire,
            capabilities,
            auth: None,
            command_timeout: limit,
            data_timeout: settings.data_timeout.0,
            opened: Instant::now(),
            last_used: Instant::now(),
            mails: 0,
            condition: Condition::Clean,
        }),
        Ok(Err(_)) => Err(trouble(Stage::Greeting, wire.fault().unwrap_or(TroubleKind::Garbled))),
        Err(_) => Err(trouble(Stage::Greeting, TroubleKind::TimedOut(limit))),
    }
}

/// The mechanism that was configured, or the best that is offered.
fn choose(wanted: Option<AuthMechanism>, can: &Capabilities) -> Result<AuthMechanism, Trouble> {
    let candidates = match wanted {
        Some(mechanism) => vec![mechanism],
        None => vec![AuthMechanism::Plain, AuthMechanism::Login],
    };
    let offered = candidates.into_iter().find(|mechanism| can.auth.contains(mechanism));
    offered.ok_or(Trouble { stage: Stage::Auth, kind: TroubleKind::NoMechanism })
}

/// AUTH (RFC 4954). Settings allow credentials without TLS only where `allow_plaintext` says so.
async fn authenticate(
    session: &mut Session,
    mechanism: AuthMechanism,
    username: &str,
    password: &SecretString,
) -> Result<(), Trouble> {
    const STAGE: Stage = Stage::Auth;
    let credentials = || Credentials::new(username.to_owned(), password.expose_secret().to_owned());
    let garbled = |_| trouble(STAGE, TroubleKind::Garbled);
    let reply = match mechanism {
        AuthMechanism::Plain => {
            let auth = Auth::new(Mechanism::Plain, credentials(), None).map_err(garbled)?;
            session.command(STAGE, auth).await?
        }
        AuthMechanism::Xoauth2 => {
            let auth = Auth::new(Mechanism::Xoauth2, credentials(), None).map_err(garbled)?;
            let mut reply = session.command(STAGE, auth).await?;
            if reply.code == 334 {
                // The challenge says in JSON why not; the refusal itself comes after an empty answer.
                reply = session.command(STAGE, "\r\n").await?;
            }
            reply
        }
        AuthMechanism::Login => {
            // Whatever the prompts say, and they say many things: first the name, then the password.
            let mut reply = session.command(STAGE, "AUTH LOGIN\r\n").await?;
            for answer in [username, password.expose_secret()] {
                if reply.code != 334 {
                    break;
                }
                reply = session.command(STAGE, format!("{}\r\n", BASE64.encode(answer))).await?;
            }
            reply
        }
    };
    if reply.code == 235 { Ok(()) } else { Err(trouble(STAGE, TroubleKind::Refused(reply.code))) }
}
