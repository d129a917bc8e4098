//! The capture server over real sockets, spoken to byte by byte.

#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::wire::Stream;
use super::{Captured, Credentials, Inbox, InboxSettings, InboxTls};
use crate::clock::ManualClock;

const PATIENCE: Duration = Duration::from_secs(10);

/// A served inbox; dropping it ends the server.
struct Served {
    addr: SocketAddr,
    captured: Captured,
    clock: ManualClock,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

async fn serve(settings: InboxSettings) -> Served {
    let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
    let settings = InboxSettings { smtp: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..settings };
    let inbox = Inbox::bind(settings, Arc::new(clock.clone())).await.unwrap();
    let (addr, captured, stop) = (inbox.smtp_addr(), inbox.captured(), CancellationToken::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(inbox.run(stop.clone()));
    Served { addr, captured, clock, stop, tasks }
}

async fn serve_default() -> Served {
    serve(InboxSettings::default()).await
}

/// A client that says exactly what it is told to say.
struct Client {
    stream: BufReader<Box<dyn Stream>>,
}

impl Client {
    /// Connected and greeted.
    async fn greeted(served: &Served) -> Self {
        let mut client = Self::over(Box::new(TcpStream::connect(served.addr).await.unwrap()));
        assert!(client.reply().await.starts_with("220 "));
        client
    }

    /// Connected, greeted and introduced.
    async fn introduced(served: &Served) -> Self {
        let mut client = Self::greeted(served).await;
        client.ask("EHLO test").await;
        client
    }

    fn over(stream: Box<dyn Stream>) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// One reply, all its lines; empty when the server has closed.
    async fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            timeout(PATIENCE, self.stream.read_line(&mut line)).await.unwrap().unwrap();
            reply.push_str(&line);
            if line.as_bytes().get(3) != Some(&b'-') {
                return reply.trim_end().to_owned();
            }
        }
    }

    async fn ask(&mut self, line: &str) -> String {
        self.write(format!("{line}\r\n")).await;
        self.reply().await
    }

    /// MAIL, RCPT, DATA and the content for one recipient; the reply to the dot.
    async fn send(&mut self, recipient: &str, content: &str) -> String {
        self.ask("MAIL FROM:<a@x.example>").await;
        self.ask(&format!("RCPT TO:<{recipient}>")).await;
        assert!(self.ask("DATA").await.starts_with("354 "));
        self.ask(&format!("{content}\r\n.")).await
    }

    async fn closed(&mut self) -> bool {
        let mut rest = Vec::new();
        timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.unwrap().unwrap();
        rest.is_empty()
    }

    async fn into_tls(self, captured: &Captured) -> Self {
        let certificate = CertificateDer::from_pem_slice(captured.certificate_pem().unwrap().as_bytes()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("localhost").unwrap();
        Self::over(Box::new(connector.connect(name, self.stream.into_inner()).await.unwrap()))
    }
}

fn with_auth(tls: InboxTls) -> InboxSettings {
    let auth = Credentials { user: "postern".into(), password: "open sesame".into() };
    InboxSettings { tls, auth: Some(auth), ..InboxSettings::default() }
}

#[tokio::test]
async fn pipelined_commands_and_two_mails_are_taken_in_order() {
    let served = serve_default().await;
    let mut client = Client::introduced(&served).await;
    client.write("MAIL FROM:<a@x.example> SIZE=9 BODY=8BITMIME\r\nRCPT TO:<b@y.example>\r\nDATA\r\n").await;
    let replies = [client.reply().await, client.reply().await, client.reply().await];
    assert_eq!(replies.map(|reply| reply[..3].to_owned()), ["250", "250", "354"]);
    client.write("..one\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<c@y.example>\r\nRCPT TO:<d@y.example>\r\nDATA\r\n").await;
    let queued = client.reply().await;
    for _ in 0..4 {
        client.reply().await;
    }
    client.write("two\r\n.\r\nRSET\r\nQUIT\r\n").await;
    assert!(client.reply().await.starts_with("250 2.0.0 Ok: queued as "));
    assert_eq!(client.reply().await, "250 2.0.0 Ok");
    assert!(client.reply().await.starts_with("221 ") && client.closed().await);

    let mails = served.captured.list(10);
    let [second, first] = mails.as_slice() else { panic!("two mails") };
    assert_eq!(queued, format!("250 2.0.0 Ok: queued as {}", first.queue_id));
    assert_eq!((first.raw.as_slice(), first.sender.as_str(), first.ordinal), (&b".one\r\n"[..], "a@x.example", 1));
    assert_eq!((first.parameters.size, first.parameters.body.as_deref()), (Some(9), Some("8BITMIME")));
    assert_eq!((second.raw.as_slice(), second.sender.as_str(), second.ordinal), (&b"two\r\n"[..], "", 2));
    assert_eq!(second.recipients, ["c@y.example", "d@y.example"]);
    assert_ne!(first.queue_id, second.queue_id);
    let counters = served.captured.counters();
    assert_eq!((counters.mail_commands, counters.rcpt_commands, counters.data_commands), (2, 3, 2));
    assert_eq!((counters.rset_commands, counters.unknown_commands, counters.mails_taken), (1, 0, 2));
}

#[tokio::test]
async fn a_bare_line_end_before_a_dot_does_not_end_the_mail_nor_start_a_command() {
    let served = serve_default().await;
    let mut client = Client::introduced(&served).await;
    let content = "Subject: x\r\n\r\na\n.\nMAIL FROM:<evil@x>\r\nb\n.\r\nRCPT TO:<evil@x>\r\nc\r.\r\nDATA";
    assert!(client.send("b@y.example", content).await.starts_with("250 2.0.0 Ok: queued"));
    assert!(client.ask("NOOP").await.starts_with("250"));
    assert_eq!(served.captured.list(10)[0].raw, format!("{content}\r\n").into_bytes());
    let counters = served.captured.counters();
    assert_eq!((counters.mail_commands, counters.rcpt_commands, counters.unknown_commands), (1, 1, 0));
}

#[tokio::test]
async fn what_ehlo_offers_follows_the_settings() {
    let served = serve_default().await;
    let offered = Client::greeted(&served).await.ask("ehlo test").await;
    for wanted in ["SIZE 52428800", "8BITMIME", "SMTPUTF8", "PIPELINING", "ENHANCEDSTATUSCODES"] {
        assert!(offered.lines().any(|line| &line[4..] == wanted), "{wanted}");
    }
    assert!(!offered.contains("STARTTLS") && !offered.contains("AUTH"));
    let served = serve(with_auth(InboxTls::None)).await;
    assert!(Client::greeted(&served).await.ask("EHLO test").await.contains("AUTH PLAIN LOGIN XOAUTH2"));
}

#[tokio::test]
async fn starttls_encrypts_forgets_what_was_said_and_drops_what_was_injected() {
    let served = serve(with_auth(InboxTls::StartTls)).await;
    let mut client = Client::greeted(&served).await;
    let offered = client.ask("EHLO test").await;
    assert!(offered.contains("STARTTLS") && !offered.contains("AUTH"));
    assert!(client.ask("AUTH PLAIN AAAA").await.starts_with("538 5.7.11"));
    client.write("STARTTLS\r\nNOOP\r\n").await;
    assert!(client.reply().await.starts_with("220 2.0.0"));
    let mut client = client.into_tls(&served.captured).await;
    assert!(client.ask("MAIL FROM:<a@x.example>").await.starts_with("503"), "EHLO is due again");
    let offered = client.ask("EHLO test").await;
    assert!(!offered.contains("STARTTLS") && offered.contains("AUTH"));
    assert!(client.ask("MAIL FROM:<a@x.example>").await.starts_with("530 5.7.0"));
    let plain = STANDARD.encode("\0postern\0open sesame");
    assert!(client.ask(&format!("AUTH PLAIN {plain}")).await.starts_with("235 2.7.0"));
    assert!(client.send("b@y.example", "x").await.starts_with("250"));
    let mail = &served.captured.list(1)[0];
    assert!(mail.encrypted);
    assert_eq!(mail.authenticated.as_deref(), Some("postern"));
    assert_eq!(served.captured.counters().tls_sessions, 1);
}

#[tokio::test]
async fn implicit_tls_greets_under_tls() {
    let served = serve(InboxSettings { tls: InboxTls::Implicit, ..InboxSettings::default() }).await;
    let client = Client::over(Box::new(TcpStream::connect(served.addr).await.unwrap()));
    let mut client = client.into_tls(&served.captured).await;
    assert!(client.reply().await.starts_with("220 "));
    assert!(!client.ask("EHLO test").await.contains("STARTTLS"));
}

#[tokio::test]
async fn every_auth_mechanism_takes_the_right_password_only() {
    let served = serve(with_auth(InboxTls::None)).await;
    let encoded = |text: &str| STANDARD.encode(text);
    let good = encoded("user=postern\x01auth=Bearer open sesame\x01\x01");
    let bad = encoded("user=postern\x01auth=Bearer stale\x01\x01");

    let mut client = Client::introduced(&served).await;
    assert!(client.ask(&format!("AUTH XOAUTH2 {bad}")).await.starts_with("334 "));
    assert!(client.ask("").await.starts_with("535 5.7.8"));
    assert!(client.ask("AUTH CRAM-MD5").await.starts_with("504"));
    assert_eq!(client.ask("AUTH PLAIN").await, "334");
    assert!(client.ask("*").await.starts_with("501 5.7.0"));
    assert!(client.ask(&format!("AUTH PLAIN {}", encoded("\0postern\0wrong"))).await.starts_with("535"));
    assert!(client.ask(&format!("AUTH xoauth2 {good}")).await.starts_with("235"));
    assert!(client.ask(&format!("AUTH XOAUTH2 {good}")).await.starts_with("503"));

    let mut client = Client::introduced(&served).await;
    assert_eq!(client.ask("AUTH LOGIN").await, "334 VXNlcm5hbWU6");
    assert_eq!(client.ask(&encoded("postern")).await, "334 UGFzc3dvcmQ6");
    assert!(client.ask(&encoded("open sesame")).await.starts_with("235"));
    assert_eq!(served.captured.counters().authentications, 2);
}

#[tokio::test]
async fn a_recipient_by_name_is_refused_where_its_name_says() {
    let served = serve_default().await;
    let mut client = Client::introduced(&served).await;
    assert!(client.ask("MAIL FROM:<mail-450@x.example>").await.starts_with("450 4.2.0 <mail-450@x.example>: Sender"));
    client.ask("MAIL FROM:<a@x.example>").await;
    let refused = client.ask("RCPT TO:<permerror+1@x.example>").await;
    assert!(refused.starts_with("550 5.1.1 <permerror+1@x.example>: Recipient address rejected: "), "{refused}");
    assert!(client.ask("RCPT TO:<temperror@x.example>").await.starts_with("451 4.3.0 <temperror@x.example>: "));
    assert!(client.ask("RCPT TO:<552@x.example>").await.starts_with("552 5.2.2 "));
    assert!(client.ask("RCPT TO:<mail-450@x.example>").await.starts_with("450 4.2.0 "));
    assert!(client.ask("DATA").await.starts_with("554 5.5.1"));
    client.ask("RCPT TO:<data-550@x.example>").await;
    assert!(client.ask("DATA").await.starts_with("550 5.7.1 <data-550@x.example>: "));
    assert!(client.send("dot-451@x.example", "x").await.starts_with("451 4.3.0 <dot-451@x.example>: "));
    assert!(client.send("fine@x.example", "x").await.starts_with("250"));
    assert_eq!(served.captured.len(), 1);
}

#[tokio::test]
async fn the_code_421_closes_in_every_phase() {
    let served = serve_default().await;
    for steps in [
        &["MAIL FROM:<mail-421@x>"][..],
        &["MAIL FROM:<a@x>", "RCPT TO:<421@x>"],
        &["MAIL FROM:<a@x>", "RCPT TO:<data-421@x>", "DATA"],
        &["MAIL FROM:<a@x>", "RCPT TO:<dot-421@x>", "DATA", "x\r\n."],
    ] {
        let mut client = Client::introduced(&served).await;
        let mut last = String::new();
        for step in steps {
            last = client.ask(step).await;
        }
        assert!(last.starts_with("421 4.3.2 "), "{last}");
        assert!(client.closed().await);
    }
    assert!(served.captured.is_empty());
}

#[tokio::test]
async fn dropdata_takes_nothing_and_dropreply_takes_the_mail_and_both_close() {
    let served = serve_default().await;
    assert_eq!(Client::introduced(&served).await.send("dropdata@x.example", "x").await, "");
    assert!(served.captured.is_empty());
    assert_eq!(Client::introduced(&served).await.send("dropreply@x.example", "x").await, "");
    assert_eq!(served.captured.list(1)[0].mischief.as_deref(), Some("dropreply"));
}

#[tokio::test]
async fn slow_answers_when_the_clock_says_so() {
    let served = serve_default().await;
    let mut client = Client::introduced(&served).await;
    let clock = served.clock.clone();
    let wind = async {
        served.captured.wait_until(|captured| captured.len() == 1).await;
        clock.advance(Duration::from_secs(2));
    };
    let (reply, ()) = tokio::join!(client.send("slow+1@x.example", "x"), wind);
    assert!(reply.starts_with("250 2.0.0 Ok: queued as "));
}

#[tokio::test]
async fn silent_says_nothing_until_its_time_is_over() {
    let served = serve_default().await;
    let mut client = Client::introduced(&served).await;
    client.write("MAIL FROM:<a@x>\r\nRCPT TO:<silent@x>\r\nNOOP\r\n").await;
    assert!(client.reply().await.starts_with("250 2.1.0"));
    served.captured.wait_until(|captured| captured.counters().rcpt_commands == 1).await;
    // The clock may be wound before the session looks at it: wind again until the connection ends.
    let mut byte = [0];
    let end = loop {
        served.clock.advance(Duration::from_mins(10));
        if let Ok(end) = timeout(Duration::from_millis(20), client.stream.read(&mut byte)).await {
            break end.unwrap();
        }
    };
    assert_eq!(end, 0);

    let mut client = Client::introduced(&served).await;
    client.write("MAIL FROM:<a@x>\r\nRCPT TO:<silent@x>\r\n").await;
    drop(client);
    let all_gone = served.captured.wait_until(|captured| captured.counters().sessions_open == 0);
    timeout(PATIENCE, all_gone).await.unwrap();
}

#[tokio::test]
async fn limits_are_kept_and_said() {
    let settings = InboxSettings { message_bytes_max: 10, recipients_max: 1, ..InboxSettings::default() };
    let served = serve(settings).await;
    let mut client = Client::introduced(&served).await;
    assert!(client.ask(&format!("NOOP {}", "x".repeat(20_000))).await.starts_with("500 5.5.2"));
    assert!(client.ask("MAIL FROM:<a@x> SIZE=11").await.starts_with("552 5.3.4"));
    assert!(client.send("b@x.example", "0123456789").await.starts_with("552 5.3.4"));
    client.ask("MAIL FROM:<a@x>").await;
    client.ask("RCPT TO:<b@x>").await;
    assert!(client.ask("RCPT TO:<c@x>").await.starts_with("452 4.5.3"));
    assert!(client.ask("RSET").await.starts_with("250"));
    assert!(client.ask("RCPT TO:<c@x>").await.starts_with("503"));
    assert!(client.ask("BDAT 3").await.starts_with("500"));
    assert!(client.send("b@x.example", "01234567").await.starts_with("250"));
    assert_eq!(served.captured.counters().unknown_commands, 2);
}

#[tokio::test]
async fn a_connection_too_many_is_turned_away() {
    let served = serve(InboxSettings { connections_max: 1, ..InboxSettings::default() }).await;
    let _first = Client::greeted(&served).await;
    let mut second = Client::over(Box::new(TcpStream::connect(served.addr).await.unwrap()));
    assert!(second.reply().await.starts_with("421 4.7.0"));
    let counters = served.captured.counters();
    assert_eq!((counters.connections, counters.connections_refused, counters.sessions_peak), (1, 1, 1));
}

#[tokio::test]
async fn stopping_cuts_every_session_and_frees_the_port() {
    let mut served = serve_default().await;
    let mut client = Client::introduced(&served).await;
    client.write("MAIL FROM:<a@x>\r\nRCPT TO:<silent@x>\r\n").await;
    client.reply().await;
    served.stop.cancel();
    timeout(PATIENCE, served.tasks.join_next()).await.unwrap().unwrap().unwrap();
    assert!(client.closed().await);
    assert_eq!(served.captured.counters().sessions_open, 0);
    assert!(TcpStream::connect(served.addr).await.is_err());
}
