//! How long a client may keep us waiting: a stream that knows whose turn it is, and ends when the client takes too long.
//!
//! actix bounds the first head and an idle connection, and nothing else: not the rest of a body that an answer left
//! unread (it drains a chunked one for as long as the client likes), not the head of a second request once its first
//! byte is there, not a client that does not read. So every connection has a [`Seat`]. It is the server's turn from a
//! request's head to the end of its answer ([`Visit`]); else it is the client's, for a time that has a name
//! ([`Patience`]). While a client does not read, we do not read from it either.
//!
//! A worker's seats are counted ([`Crowd`]). When the last one is taken, the client that has kept us waiting longest
//! goes, so that slow clients cannot shut the door on the others.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use actix_web::dev::Payload;
use actix_web::rt::net::TcpStream;
use actix_web::rt::time::{Interval, interval};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// When seats are short, a client may keep its own this long without doing its part.
const PRESSED_WAIT: Duration = Duration::from_millis(250);
/// Bytes of a body taken in one turn of the dispatcher.
const BODY_BYTES_PER_TURN_MAX: usize = 16 << 10;
/// The same where heads are expected: all that it holds are parsed at once, and a parsed head is large and costs time.
const HEAD_BYTES_PER_TURN: usize = 2 << 10;
/// A timer of ours is set anew before each use; this is only what it would do by itself.
const TIMER_PERIOD: Duration = Duration::from_hours(1);

/// How long a client may take for its part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From the end of an answer (or the start) until the next head is whole; the answer must be read within it, too.
    pub head: Duration,
    /// To take a part of an answer that is still being made.
    pub answer: Duration,
    /// To read an answer that left the request's body unread, and to go.
    pub unread_body: Duration,
}

/// The connections of one worker.
#[derive(Debug)]
pub(super) struct Crowd {
    patience: Patience,
    seats_max: usize,
    seats: Cell<usize>,
    /// Numbers of waits, ascending in time.
    next: Cell<u64>,
    /// Those whose client we wait for, the longest first.
    waiting: RefCell<BTreeMap<u64, Rc<Seat>>>,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Ours,
    /// The client's, for at most so long; `number` is its place in [`Crowd::waiting`].
    Theirs {
        number: u64,
        since: Instant,
        at_most: Duration,
        wait: Wait,
    },
    /// It was theirs too long, or the connection is gone.
    Nobodys,
}

/// What the client should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Read what we have made so far, or send more of its body; we are not done.
    Partway,
    /// Send a request, or go.
    Asking,
}

/// One connection, seen from the handlers' side.
#[derive(Debug)]
pub(super) struct Seat {
    crowd: Rc<Crowd>,
    turn: Cell<Turn>,
    /// Whether the body of the request under way is still to come.
    body_unread: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Crowd {
    pub(super) fn new(seats_max: usize, patience: Patience) -> Rc<Self> {
        let waiting = RefCell::default();
        Rc::new(Self { patience, seats_max, seats: Cell::new(0), next: Cell::new(0), waiting })
    }

    fn is_full(&self) -> bool {
        self.seats.get() >= self.seats_max
    }

    /// Sends away the client we have waited for longest, if that is long enough.
    fn make_room(&self, now: Instant) {
        let longest = self.waiting.borrow().first_key_value().map(|(_, seat)| Rc::clone(seat));
        if let Some(seat) = longest.filter(|seat| seat.waited(now).is_some_and(|waited| waited >= PRESSED_WAIT)) {
            seat.set(Turn::Nobodys);
            seat.wake();
        }
    }
}

impl Seat {
    fn take(crowd: &Rc<Crowd>) -> Rc<Self> {
        let seat = Rc::new(Self {
            crowd: Rc::clone(crowd),
            turn: Cell::new(Turn::Ours),
            body_unread: Cell::new(false),
            waker: RefCell::default(),
        });
        crowd.seats.set(crowd.seats.get() + 1);
        if crowd.is_full() {
            crowd.make_room(Instant::now());
        }
        seat.wait_for(Wait::Asking, crowd.patience.head);
        seat
    }

    /// Changes whose turn it is, and the list of those we wait for with it.
    fn set(&self, turn: Turn) {
        if let Turn::Theirs { number, .. } = self.turn.replace(turn) {
            self.crowd.waiting.borrow_mut().remove(&number);
        }
    }

    fn wait_for(self: &Rc<Self>, wait: Wait, at_most: Duration) {
        if self.turn.get() == Turn::Nobodys {
            return;
        }
        let number = self.crowd.next.replace(self.crowd.next.get() + 1);
        self.set(Turn::Theirs { number, since: Instant::now(), at_most, wait });
        self.crowd.waiting.borrow_mut().insert(number, Rc::clone(self));
    }

    /// The client does not read: only news while it is our turn.
    fn stalled(self: &Rc<Self>) {
        if self.turn.get() == Turn::Ours {
            self.wait_for(Wait::Partway, self.crowd.patience.answer);
        }
    }

    /// A handler waits for more of the body. It has its own bound; here the client only counts as one we wait for.
    pub(super) fn body_awaited(self: &Rc<Self>) {
        if self.turn.get() == Turn::Ours {
            self.wait_for(Wait::Partway, self.crowd.patience.head);
        }
    }

    /// The body has been read to its end.
    pub(super) fn body_read(&self) {
        self.body_unread.set(false);
    }

    /// Whether we want anything from the client: not its next request before this one is answered.
    fn wants_bytes(&self) -> bool {
        self.turn.get() != Turn::Ours || self.body_unread.get()
    }

    /// The client has done its part for now.
    pub(super) fn flowing(&self) {
        if let Turn::Theirs { wait: Wait::Partway, .. } = self.turn.get() {
            self.set(Turn::Ours);
        }
    }

    fn waited(&self, now: Instant) -> Option<Duration> {
        match self.turn.get() {
            Turn::Theirs { since, .. } => Some(now.saturating_duration_since(since)),
            Turn::Ours | Turn::Nobodys => None,
        }
    }

    /// When to look at the clock again; an error when the connection is over.
    fn next_look(&self, now: Instant) -> io::Result<Option<Instant>> {
        match self.turn.get() {
            Turn::Ours => Ok(None),
            Turn::Nobodys => Err(io::ErrorKind::TimedOut.into()),
            Turn::Theirs { since, at_most, .. } => {
                let waited = now.saturating_duration_since(since);
                if waited >= at_most || (waited >= PRESSED_WAIT && self.crowd.is_full()) {
                    self.set(Turn::Nobodys);
                    return Err(io::ErrorKind::TimedOut.into());
                }
                let until = if waited < PRESSED_WAIT { PRESSED_WAIT.min(at_most) } else { at_most };
                Ok(Some(since + until))
            }
        }
    }

    fn remember(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// A request from its head to the end of its answer: our turn.
#[derive(Debug)]
pub(super) struct Visit {
    seat: Rc<Seat>,
}

impl Visit {
    /// The visit of a request with this body.
    pub(super) fn begin(seat: &Rc<Seat>, payload: &Payload) -> Self {
        if seat.turn.get() != Turn::Nobodys {
            seat.set(Turn::Ours);
        }
        seat.body_unread.set(!matches!(payload, Payload::None));
        Self { seat: Rc::clone(seat) }
    }

    pub(super) fn leaves_body_unread(&self) -> bool {
        self.seat.body_unread.get()
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let patience = self.seat.crowd.patience;
        let at_most = if self.leaves_body_unread() { patience.unread_body } else { patience.head };
        self.seat.wait_for(Wait::Asking, at_most);
    }
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct Stream {
    io: TcpStream,
    seat: Rc<Seat>,
    timer: Interval,
    timer_set: Option<Instant>,
    /// The last write could not be made: the client does not read.
    write_pending: bool,
    /// A read was put off: the client does not read either, or it is not its turn.
    read_put_off: bool,
    /// Bytes read since the dispatcher's last flush, which ends its turn.
    read_ahead: usize,
}

impl Stream {
    pub(super) fn new(io: TcpStream, crowd: &Rc<Crowd>) -> Self {
        let timer = interval(TIMER_PERIOD);
        let seat = Seat::take(crowd);
        Self { io, seat, timer, timer_set: None, write_pending: false, read_put_off: false, read_ahead: 0 }
    }

    pub(super) fn seat(&self) -> Rc<Seat> {
        Rc::clone(&self.seat)
    }

    /// Fails when the client has had its time; else wakes the connection when it will have.
    ///
    /// Writes and flushes ask here, since the dispatcher ends every turn of its own with one of them.
    fn still_patient(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.seat.remember(cx.waker());
        while let Some(until) = self.seat.next_look(Instant::now())? {
            if self.timer_set != Some(until) {
                self.timer.reset_at(until.into());
                self.timer_set = Some(until);
            }
            if self.timer.poll_tick(cx).is_pending() {
                break;
            }
            self.timer_set = None;
        }
        Ok(())
    }

    fn wrote<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.write_pending = written.is_pending();
        if self.write_pending {
            self.seat.stalled();
            self.still_patient(cx)?;
        } else {
            self.seat.flowing();
        }
        written
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.seat.set(Turn::Nobodys);
        self.seat.crowd.seats.set(self.seat.crowd.seats.get().saturating_sub(1));
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let body_unread = this.seat.body_unread.get();
        let per_turn = if body_unread { BODY_BYTES_PER_TURN_MAX } else { HEAD_BYTES_PER_TURN };
        if this.write_pending || this.read_ahead >= per_turn {
            this.read_put_off = true;
            return Poll::Pending;
        }
        if !this.seat.wants_bytes() {
            // Only whether it has gone: a handler whose client goes is cancelled.
            let mut one = [0; 1];
            if ready!(this.io.poll_peek(cx, &mut ReadBuf::new(&mut one))).is_ok_and(|bytes| bytes > 0) {
                this.read_put_off = true;
                return Poll::Pending;
            }
        }
        if body_unread {
            let before = buffer.filled().len();
            let read = Pin::new(&mut this.io).poll_read(cx, buffer);
            this.read_ahead += buffer.filled().len() - before;
            return read;
        }
        let mut bytes = [0; HEAD_BYTES_PER_TURN];
        let room = buffer.remaining().min(HEAD_BYTES_PER_TURN - this.read_ahead);
        let mut part = ReadBuf::new(&mut bytes[..room]);
        ready!(Pin::new(&mut this.io).poll_read(cx, &mut part))?;
        this.read_ahead += part.filled().len();
        buffer.put_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.still_patient(cx)?;
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.wrote(cx, written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.still_patient(cx)?;
        this.read_ahead = 0;
        if this.read_put_off && this.seat.wants_bytes() {
            this.read_put_off = false;
            cx.waker().wake_by_ref();
        }
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
