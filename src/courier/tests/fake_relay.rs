//! A relay that does exactly what its script says, and remembers what it heard.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// No test lasts longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the relay does next.
#[derive(Clone)]
pub(super) enum Step {
    /// Reads a line that must begin with this.
    Hear(&'static str),
    /// Writes this.
    Say(Vec<u8>),
    /// Reads content up to its final dot.
    Content,
    /// Reads so many bytes.
    Take(usize),
    /// Closes the connection.
    Close,
    /// Reads nothing more, but keeps the connection, until the end of the test.
    Stall,
    /// TLS from here on.
    Encrypt(Arc<ServerConfig>),
    /// Accepts mails for as long as there are any.
    Serve,
}

pub(super) fn hear(line: &'static str) -> Step {
    Step::Hear(line)
}

/// A reply, its lines ended by CRLF.
pub(super) fn say(reply: &str) -> Step {
    Step::Say(format!("{}\r\n", reply.replace('\n', "\r\n")).into_bytes())
}

pub(super) fn say_raw(bytes: &[u8]) -> Step {
    Step::Say(bytes.to_vec())
}

/// Greeting and EHLO, offering these extensions.
pub(super) fn welcome(extensions: &[&str]) -> Vec<Step> {
    vec![say("220 relay ready"), hear("EHLO [127.0.0.1]"), say(&ehlo_reply(extensions))]
}

pub(super) fn ehlo_reply(extensions: &[&str]) -> String {
    let mut lines = vec!["250-relay greets you".to_owned()];
    lines.extend(extensions.iter().map(|extension| format!("250-{extension}")));
    lines.push("250 HELP".to_owned());
    lines.join("\n")
}

/// MAIL, RCPT and DATA accepted one by one, and the content taken.
pub(super) fn takes_content() -> Vec<Step> {
    vec![
        hear("MAIL FROM:<from@brand.example>"),
        say("250 ok"),
        hear("RCPT TO:<to@person.example>"),
        say("250 ok"),
        hear("DATA"),
        say("354 go"),
        Step::Content,
    ]
}

/// What one connection brought.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    /// Commands.
    pub(super) lines: Vec<String>,
    /// Contents as they came, dots undone.
    pub(super) contents: Vec<Vec<u8>>,
}

/// A relay, listening.
pub(super) struct FakeRelay {
    port: u16,
    accepting: JoinSet<Vec<Heard>>,
    release: CancellationToken,
}

impl FakeRelay {
    /// One script per connection, in the order in which they come.
    pub(super) async fn follows(scripts: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let release = CancellationToken::new();
        let mut accepting = JoinSet::new();
        let released = release.clone();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            for (number, script) in scripts.into_iter().enumerate() {
                let (stream, _) = listener.accept().await.unwrap();
                let released = released.clone();
                connections.spawn(async move { (number, follow(stream, script, released).await) });
            }
            let mut all = connections.join_all().await;
            all.sort_by_key(|(number, _)| *number);
            all.into_iter().map(|(_, heard)| heard).collect()
        });
        Self { port, accepting, release }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Waits until every script was followed and every connection is closed; what each heard.
    pub(super) async fn heard(mut self) -> Vec<Heard> {
        self.release.cancel();
        timeout(PATIENCE, self.accepting.join_next()).await.unwrap().unwrap().unwrap()
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn follow(stream: TcpStream, script: Vec<Step>, released: CancellationToken) -> Heard {
    stream.set_nodelay(true).unwrap();
    let mut stream: BufReader<Box<dyn Stream>> = BufReader::new(Box::new(stream));
    let mut heard = Heard::default();
    for step in script {
        match step {
            Step::Hear(expected) => {
                let line = read_line(&mut stream).await.unwrap_or_else(|| panic!("end instead of {expected}"));
                assert!(line.starts_with(expected), "{line:?} instead of {expected:?}");
                heard.lines.push(line);
            }
            // The courier may be gone: then there is nobody to tell.
            Step::Say(bytes) => drop(stream.write_all(&bytes).await),
            Step::Content => heard.contents.push(read_content(&mut stream).await),
            Step::Take(count) => {
                stream.read_exact(&mut vec![0; count]).await.unwrap();
            }
            Step::Close => return heard,
            Step::Stall => {
                released.cancelled().await;
                return heard;
            }
            Step::Encrypt(config) => {
                assert!(stream.buffer().is_empty(), "words before the handshake");
                match TlsAcceptor::from(config).accept(stream.into_inner()).await {
                    Ok(encrypted) => stream = BufReader::new(Box::new(encrypted)),
                    Err(_) => return heard,
                }
            }
            Step::Serve => serve(&mut stream, &mut heard).await,
        }
    }
    while let Some(line) = read_line(&mut stream).await {
        heard.lines.push(line);
    }
    heard
}

async fn serve(stream: &mut BufReader<Box<dyn Stream>>, heard: &mut Heard) {
    while let Some(line) = read_line(stream).await {
        let reply: &[u8] = match line.as_str() {
            "DATA" => b"354 go\r\n",
            "QUIT" => b"221 bye\r\n",
            _ => b"250 ok\r\n",
        };
        if stream.write_all(reply).await.is_err() {
            return;
        }
        if line == "DATA" {
            heard.contents.push(read_content(stream).await);
            stream.write_all(b"250 2.0.0 Ok: queued as ABC123\r\n").await.unwrap();
        }
        heard.lines.push(line);
    }
}

/// A line without its end; `None` at the end of the connection, however it came.
async fn read_line(stream: &mut BufReader<Box<dyn Stream>>) -> Option<String> {
    let mut line = String::new();
    match stream.read_line(&mut line).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line.strip_suffix("\r\n").unwrap_or_else(|| panic!("{line:?} has no end")).to_owned()),
    }
}

/// Reads as a relay must (RFC 5321 section 4.5.2); stops at the end of the connection too.
async fn read_content(stream: &mut BufReader<Box<dyn Stream>>) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            if stream.read_until(b'\n', &mut line).await.unwrap_or(0) == 0 {
                return content;
            }
        }
        match line.strip_prefix(b".") {
            Some(b"\r\n") => return content,
            Some(rest) => content.extend_from_slice(rest),
            None => content.extend_from_slice(&line),
        }
    }
}
