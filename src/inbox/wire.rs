//! The bytes of one connection: command lines with a limit, the content up to its exact end, replies sent together.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::reply::Reply;

/// The longest command line, its line end included. Over it the answer is 500.
const LINE_BYTES_MAX: usize = 4096;
const READ_BYTES: usize = 16 * 1024;
/// How long a closed connection waits for the client to close it too.
const LINGER: Duration = Duration::from_secs(1);

/// A TCP or TLS stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One connection. Replies are gathered and go out when there is nothing more to read at once, so that pipelined
/// commands are answered in one packet (RFC 2920 section 3.2).
pub struct Wire {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
    /// How much of `input` is used up.
    read: usize,
    output: Vec<u8>,
    idle_max: Duration,
}

/// One line of the client.
pub enum Line {
    /// Its bytes.
    Text(Vec<u8>),
    /// More than a line may have.
    TooLong,
}

impl Wire {
    /// One over this stream; a client that says or takes nothing for `idle_max` is an error.
    #[must_use]
    pub fn new(stream: Box<dyn Stream>, idle_max: Duration) -> Self {
        Self { stream, input: Vec::new(), read: 0, output: Vec::new(), idle_max }
    }

    /// The stream alone. What the client sent ahead is dropped: nothing sent in the clear may count after STARTTLS.
    pub(super) fn into_stream(self) -> Box<dyn Stream> {
        self.stream
    }

    pub(super) fn say(&mut self, reply: &Reply) {
        self.say_line(&reply.to_string());
    }

    /// Adds a line, or several, to what is said next.
    pub fn say_line(&mut self, line: &str) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    /// Sends what waits.
    pub async fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let write = async {
            self.stream.write_all(&self.output).await?;
            self.stream.flush().await
        };
        timeout(self.idle_max, write).await??;
        self.output.clear();
        Ok(())
    }

    /// The next line without its end; `None` when the client has gone. A bare LF ends a command line here as it does
    /// at most relays: a client that lets one slip into a command is then seen to have sent two.
    pub async fn line(&mut self) -> io::Result<Option<Line>> {
        let mut too_long = false;
        loop {
            if let Some(length) = self.input[self.read..].iter().position(|byte| *byte == b'\n') {
                let line = &self.input[self.read..self.read + length];
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let line = if too_long || length >= LINE_BYTES_MAX { Line::TooLong } else { Line::Text(line.to_vec()) };
                self.read += length + 1;
                return Ok(Some(line));
            }
            if self.input.len() - self.read >= LINE_BYTES_MAX {
                too_long = true;
                self.read = self.input.len();
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// The content after DATA up to its end; `None` when the client went before it.
    pub async fn content(&mut self, bytes_max: usize) -> io::Result<Option<Content>> {
        let mut content = Content::new(bytes_max);
        loop {
            if let Some(used) = content.feed(&self.input[self.read..]) {
                self.read += used;
                return Ok(Some(content));
            }
            self.read = self.input.len();
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// Returns when the client has gone; what it still says is thrown away.
    pub(super) async fn gone(&mut self) {
        let mut waste = [0; 1024];
        while let Ok(1..) = self.stream.read(&mut waste).await {}
    }

    /// Ends the connection so that the client can still read what was said: a socket closed over unread input is
    /// reset, and a reset may overtake the last reply.
    pub async fn close(&mut self) {
        let farewell = async {
            if self.stream.shutdown().await.is_ok() {
                self.gone().await;
            }
        };
        // A client that stays on is cut off; there is nothing more to tell it.
        let _ = timeout(LINGER, farewell).await;
    }

    /// Sends what waits, then reads more; `false` when the client has gone.
    async fn fill(&mut self) -> io::Result<bool> {
        self.flush().await?;
        self.input.drain(..self.read);
        self.read = 0;
        self.input.reserve(READ_BYTES);
        let count = timeout(self.idle_max, self.stream.read_buf(&mut self.input)).await??;
        Ok(count > 0)
    }
}

/// Mail content as it comes in, dots un-stuffed (RFC 5321 section 4.5.2).
///
/// Only `CR LF . CR LF` ends it; any other line end is content and kept byte for byte, so that a test can see what a
/// laxer server would have taken for the end, or for a second command.
pub struct Content {
    bytes: Vec<u8>,
    place: Place,
    bytes_max: usize,
    too_large: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    LineStart,
    Dot,
    DotCr,
    Text,
    Cr,
}

impl Content {
    fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), place: Place::LineStart, bytes_max, too_large: false }
    }

    /// The content, or `None` when it was larger than allowed (the surplus was never kept).
    #[must_use]
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        (!self.too_large).then_some(self.bytes)
    }

    /// Takes the next bytes. When the end is among them, returns how many were used, end included.
    fn feed(&mut self, input: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < input.len() {
            let byte = input[at];
            let (place, kept): (Place, &[u8]) = match (self.place, byte) {
                (Place::LineStart, b'.') => (Place::Dot, b""),
                (Place::Dot, b'\r') => (Place::DotCr, b""),
                (Place::DotCr, b'\n') => return Some(at + 1),
                (Place::DotCr, _) => {
                    // A dot and a lone CR: the dot was stuffing, the CR is content, this byte is looked at again.
                    self.keep(b"\r");
                    self.place = Place::Cr;
                    continue;
                }
                (Place::Cr, b'\n') => (Place::LineStart, b"\n"),
                (_, b'\r') => (Place::Cr, b"\r"),
                (_, _) => {
                    let rest = &input[at..];
                    let length = rest.iter().position(|byte| *byte == b'\r').unwrap_or(rest.len());
                    (Place::Text, &rest[..length])
                }
            };
            self.place = place;
            self.keep(kept);
            at += kept.len().max(1);
        }
        None
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.too_large |= self.bytes.len() + bytes.len() > self.bytes_max;
        if !self.too_large {
            self.bytes.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]

    use super::*;

    /// The content and what is left after its end, fed in pieces of every size.
    fn read(wire: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut answers = Vec::new();
        for size in 1..=wire.len() {
            let mut content = Content::new(1000);
            let mut used = 0;
            let end = wire.chunks(size).find_map(|piece| {
                let end = content.feed(piece);
                used += end.unwrap_or(piece.len());
                end
            });
            answers.push(end.map(|_| (content.into_bytes().unwrap(), wire[used..].to_vec())));
        }
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "the pieces must not matter");
        answers.pop().unwrap()
    }

    #[test]
    fn content_ends_at_the_dot_line_and_dots_are_unstuffed() {
        let table: &[(&[u8], &[u8], &[u8])] = &[
            (b".\r\n", b"", b""),
            (b"a\r\n.\r\nQUIT\r\n", b"a\r\n", b"QUIT\r\n"),
            (b"..\r\n...a\r\nb.\r\n.\r\n", b".\r\n..a\r\nb.\r\n", b""),
            (b".a\r\n.\r\n", b"a\r\n", b""),
            (b"\r\n\r\n.\r\n", b"\r\n\r\n", b""),
            (b"a\r\r\n.\r\n", b"a\r\r\n", b""),
        ];
        for (wire, content, rest) in table {
            assert_eq!(read(wire), Some((content.to_vec(), rest.to_vec())), "{}", String::from_utf8_lossy(wire));
        }
    }

    #[test]
    fn a_bare_line_feed_or_carriage_return_never_ends_the_content() {
        let smuggled: [&[u8]; 6] =
            [b"a\n.\nMAIL", b"a\n.\r\nMAIL", b"a\r\n.\nMAIL", b"a\r\n.\rMAIL", b"a\r.\r\nMAIL", b"a\r.\rMAIL"];
        for wire in smuggled {
            assert_eq!(read(wire), None, "{}", String::from_utf8_lossy(wire));
            let whole = [wire, b"\r\n.\r\n"].concat();
            let (content, rest) = read(&whole).unwrap();
            assert!(content.ends_with(b"MAIL\r\n") && rest.is_empty());
        }
        assert_eq!(read(b"a\n.\r\nb\r\n.\r\n").unwrap().0, b"a\n.\r\nb\r\n");
        assert_eq!(read(b".\r.\r\n.\r\n").unwrap().0, b"\r.\r\n");
    }

    #[test]
    fn content_over_the_limit_is_read_to_its_end_but_not_kept() {
        let mut content = Content::new(3);
        assert_eq!(content.feed(b"abcdef\r\n.\r\nX"), Some(11));
        assert_eq!(content.into_bytes(), None);
    }
}
