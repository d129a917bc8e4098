//! As little of an HTTP/1.1 client as the bench needs: one connection, one request at a time, whole answers. It shares
//! the machine with what it measures, so it must cost next to nothing.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What an answer is expected to take.
const ANSWER_BYTES: usize = 4 << 10;
/// No answer is larger: a page of messages is the largest.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// No question is waited for longer; mails have the time-out of the run.
const QUESTION_TIME_MAX: Duration = Duration::from_secs(30);

/// A keep-alive connection.
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer, until the next request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
}

impl Connection {
    pub(super) async fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(ANSWER_BYTES) })
    }

    /// Writes a whole request and reads its whole answer. After an error the connection is of no more use.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let head = loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if let Some(head) = Head::of(&self.buffer)?
                && self.buffer.len() >= head.bytes + head.body_bytes
            {
                break head;
            }
            if self.buffer.len() > ANSWER_BYTES_MAX {
                return Err(io::Error::new(ErrorKind::InvalidData, "an answer without end"));
            }
        };
        Ok(Answer { status: head.status, body: &self.buffer[head.bytes..head.bytes + head.body_bytes] })
    }

    /// GET `path` with this key.
    pub(super) async fn get(&mut self, path: &str, key: &str) -> io::Result<Answer<'_>> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench.example\r\nX-API-KEY: {key}\r\n\r\n");
        tokio::time::timeout(QUESTION_TIME_MAX, self.exchange(request.as_bytes())).await?
    }
}

/// The first lines of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Its own length, with the empty line.
    bytes: usize,
    body_bytes: usize,
}

impl Head {
    /// `None` while it is not complete.
    fn of(received: &[u8]) -> io::Result<Option<Self>> {
        let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let unreadable = || io::Error::new(ErrorKind::InvalidData, "not an answer with a status and a length");
        let text = std::str::from_utf8(&received[..end]).map_err(|_| unreadable())?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).and_then(|line| line.get(..3));
        let length = lines.filter_map(|line| line.split_once(':'));
        let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, value)| value);
        let status = status.and_then(|status| status.parse().ok()).ok_or_else(unreadable)?;
        let body_bytes = length.last().and_then(|value| value.trim().parse().ok()).ok_or_else(unreadable)?;
        if body_bytes > ANSWER_BYTES_MAX {
            return Err(unreadable());
        }
        Ok(Some(Self { status, bytes: end + 4, body_bytes }))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let whole = b"HTTP/1.1 202 Accepted\r\ncontent-length: 12\r\nlocation: /x\r\n\r\n{\"id\"";
        for cut in 0..whole.len() - 5 {
            assert_eq!(Head::of(&whole[..cut]).unwrap(), None, "{cut}");
        }
        assert_eq!(Head::of(whole).unwrap(), Some(Head { status: 202, bytes: whole.len() - 5, body_bytes: 12 }));
    }

    #[test]
    fn an_answer_without_status_or_length_is_an_error() {
        for wrong in [
            "HTTP/1.1 202 Accepted\r\n\r\n",
            "HTTP/1.1 2\r\nContent-Length: 1\r\n\r\n",
            "SMTP\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        ] {
            assert!(Head::of(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
