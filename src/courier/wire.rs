//! The stream under an SMTP session: plain or TLS, knowing what went over it.
//!
//! lettre speaks through this stream; we listen ourselves. Its reply reader fails on a text that is not UTF-8, on codes
//! like 571 and on a code without text, and each of these would turn a definite answer to the final dot into an unknown
//! one. So a [`Line`] reads replies with [`super::replies`], the session takes them from the [`Wire`], and lettre is
//! told of each in a form it surely understands: one line, its text left out.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::TroubleKind;
use super::replies::{RawReply, Reading, read};

/// Bytes asked of the socket at once.
const CHUNK_BYTES: usize = 4_096;

/// The connection, from which whole replies are read.
pub(super) struct Line {
    transport: Transport,
    /// Bytes received that no reply was made of yet.
    inbound: Vec<u8>,
    /// Bytes that may have left us, before encryption.
    sent: u64,
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Runs one method of whichever stream it is.
macro_rules! with_stream {
    ($transport:expr, $stream:ident => $body:expr) => {
        match $transport {
            Transport::Plain($stream) => $body,
            Transport::Tls($stream) => {
                let $stream = &mut **$stream;
                $body
            }
        }
    };
}

impl Line {
    /// A plain connection.
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self { transport: Transport::Plain(stream), inbound: Vec::new(), sent: 0 }
    }

    /// An encrypted connection.
    pub(super) fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self { transport: Transport::Tls(Box::new(stream)), inbound: Vec::new(), sent: 0 }
    }

    /// The plain stream, to be encrypted; refused when bytes arrived that nobody read. After STARTTLS they would be
    /// somebody's words, spoken in clear and heard as if they were the relay's own (CVE-2011-0411).
    pub(super) fn into_plain(self) -> Result<TcpStream, TroubleKind> {
        match self.transport {
            Transport::Plain(stream) if self.inbound.is_empty() => Ok(stream),
            Transport::Plain(_) | Transport::Tls(_) => Err(TroubleKind::Garbled),
        }
    }

    /// The socket below.
    pub(super) fn socket(&self) -> &TcpStream {
        match &self.transport {
            Transport::Plain(stream) => stream,
            Transport::Tls(stream) => stream.get_ref().0,
        }
    }

    /// The TLS connection, when there is one.
    pub(super) fn encryption(&self) -> Option<&rustls::ClientConnection> {
        match &self.transport {
            Transport::Plain(_) => None,
            Transport::Tls(stream) => Some(stream.get_ref().1),
        }
    }

    /// Writes a command.
    pub(super) async fn say(&mut self, command: &str) -> Result<(), TroubleKind> {
        let written = with_stream!(&mut self.transport, stream => {
            match stream.write_all(command.as_bytes()).await {
                Ok(()) => stream.flush().await,
                Err(error) => Err(error),
            }
        });
        written.map_err(|error| trouble_of(&error))
    }

    /// The next reply.
    pub(super) async fn hear(&mut self) -> Result<RawReply, TroubleKind> {
        poll_fn(|cx| self.poll_hear(cx)).await
    }

    fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<Result<RawReply, TroubleKind>> {
        loop {
            match read(&self.inbound) {
                Reading::Whole(reply, used) => {
                    self.inbound.drain(..used);
                    return Poll::Ready(Ok(reply));
                }
                Reading::Garbled => return Poll::Ready(Err(TroubleKind::Garbled)),
                Reading::Partial => {}
            }
            let mut chunk = [0; CHUNK_BYTES];
            let mut chunk = ReadBuf::new(&mut chunk);
            let received = with_stream!(&mut self.transport, stream => Pin::new(stream).poll_read(cx, &mut chunk));
            if let Err(error) = ready!(received) {
                return Poll::Ready(Err(trouble_of(&error)));
            }
            if chunk.filled().is_empty() {
                return Poll::Ready(Err(TroubleKind::Closed(io::ErrorKind::UnexpectedEof)));
            }
            self.inbound.extend_from_slice(chunk.filled());
        }
    }

    /// Writes, counting what may have left us.
    ///
    /// The count never falls behind what left: a byte leaves only after a `poll_write` took it. A plain stream that
    /// answers with an error took nothing; TLS may have taken and sent all it was given before it failed.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = with_stream!(&mut self.transport, stream => Pin::new(stream).poll_write(cx, bytes));
        self.sent += match (&written, &self.transport) {
            (Poll::Ready(Ok(count)), _) => *count as u64,
            (Poll::Ready(Err(_)), Transport::Tls(_)) => bytes.len() as u64,
            (Poll::Ready(Err(_)), Transport::Plain(_)) | (Poll::Pending, _) => 0,
        };
        written
    }
}

/// What a failed read, write or handshake is called.
pub(super) fn trouble_of(error: &io::Error) -> TroubleKind {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => TroubleKind::Tls(tls.to_string()),
        None => TroubleKind::Closed(error.kind()),
    }
}

/// A handle on a [`Line`]: one is lettre's, to speak and be told of replies; one is the session's, to take them.
#[derive(Clone)]
pub(super) struct Wire(Arc<Mutex<Shared>>);

struct Shared {
    line: Line,
    /// Heard, not yet taken by the session.
    replies: VecDeque<RawReply>,
    /// Told to lettre, not yet read by it.
    told: VecDeque<u8>,
    /// Why nothing more will be heard or written.
    fault: Option<TroubleKind>,
}

impl Wire {
    /// A wire over a line whose greeting was heard. lettre wants to read one itself, so it finds one waiting.
    pub(super) fn greeted(line: Line) -> Self {
        let told = VecDeque::from(b"220 relay\r\n".to_vec());
        Self(Arc::new(Mutex::new(Shared { line, replies: VecDeque::new(), told, fault: None })))
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the oldest reply that was heard.
    pub(super) fn take_reply(&self) -> Option<RawReply> {
        self.shared().replies.pop_front()
    }

    /// Why the wire is dead, when it is.
    pub(super) fn fault(&self) -> Option<TroubleKind> {
        self.shared().fault.clone()
    }

    /// Bytes that may have left us since the beginning, before encryption.
    pub(super) fn sent(&self) -> u64 {
        self.shared().line.sent
    }

    /// Looks at the line.
    pub(super) fn line<T>(&self, look: impl FnOnce(&Line) -> T) -> T {
        look(&self.shared().line)
    }

    /// Whether a reply, or a part of one, is here that no command asked for.
    pub(super) fn has_unasked(&self) -> bool {
        let shared = self.shared();
        !shared.replies.is_empty() || !shared.line.inbound.is_empty()
    }

    /// Whether nothing came since the last reply: no bytes, no end. Does not wait.
    pub(super) fn is_quiet(&self) -> bool {
        let mut shared = self.shared();
        let silent = shared.line.poll_hear(&mut Context::from_waker(Waker::noop())).is_pending();
        silent && shared.replies.is_empty() && shared.line.inbound.is_empty() && shared.fault.is_none()
    }

    /// A reply that is here already although the relay listens no more. Does not wait.
    pub(super) fn last_words(&self) -> Option<RawReply> {
        let mut shared = self.shared();
        match shared.line.poll_hear(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(reply)) => Some(reply),
            Poll::Ready(Err(_)) | Poll::Pending => None,
        }
    }

    /// Says QUIT as far as that is possible without waiting, and ends what we send.
    pub(super) fn part(&self) {
        let mut shared = self.shared();
        let cx = &mut Context::from_waker(Waker::noop());
        if shared.fault.is_none() && shared.line.poll_write(cx, b"QUIT\r\n").is_ready() {
            // Whether it worked no longer matters: the socket is closed next.
            let _ = with_stream!(&mut shared.line.transport, stream => Pin::new(stream).poll_shutdown(cx));
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared();
        if shared.fault.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if shared.told.is_empty() {
            match ready!(shared.line.poll_hear(cx)) {
                Ok(reply) => {
                    shared.told.extend(format!("{}50 relay\r\n", reply.code / 100).bytes());
                    shared.replies.push_back(reply);
                }
                Err(fault) => {
                    shared.fault = Some(fault);
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                }
            }
        }
        let count = buffer.remaining().min(shared.told.len());
        for byte in shared.told.drain(..count) {
            buffer.put_slice(&[byte]);
        }
        Poll::Ready(Ok(()))
    }
}

impl Wire {
    /// Remembers the first failure.
    fn noting<T>(shared: &mut Shared, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result {
            shared.fault.get_or_insert_with(|| trouble_of(error));
        }
        result
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut shared = self.shared();
        let written = shared.line.poll_write(cx, bytes);
        Self::noting(&mut shared, written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared();
        let flushed = with_stream!(&mut shared.line.transport, stream => Pin::new(stream).poll_flush(cx));
        Self::noting(&mut shared, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared();
        with_stream!(&mut shared.line.transport, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

impl AsyncTokioStream for Wire {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.line(|line| line.socket().peer_addr())
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}
