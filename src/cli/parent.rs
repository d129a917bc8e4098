//! A process that another one of ours started ends with it, however that one ends: its standard input is a pipe whose
//! other end only the parent holds, and the kernel closes that with the parent.

use std::io;
use std::os::fd::AsFd as _;

use anyhow::Context as _;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::net::unix::pipe;

use crate::lifecycle::stop_signals;

/// What `serve` and `inbox` take besides, for those who start them.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Parent {
    /// Stop when standard input, a pipe, is closed at its other end
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

impl Parent {
    /// Every wish to stop: the signals and, if asked for, the end of standard input. Needs a Tokio runtime.
    pub(super) fn wishes(self) -> anyhow::Result<impl Stream<Item = ()> + Unpin> {
        let signals = stop_signals().context("listening for signals")?;
        let closed = if self.stop_with_stdin { Some(stdin().context("listening to standard input")?) } else { None };
        let closed = stream::iter(closed).then(end_of).boxed();
        Ok(stream::select(signals, closed))
    }
}

fn stdin() -> io::Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)
}

/// Returns at the end of the pipe; what is said through it is no matter.
async fn end_of(pipe: pipe::Receiver) {
    let mut said = [0; 64];
    loop {
        let readable = pipe.readable().await;
        match readable.and_then(|()| pipe.try_read(&mut said)) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return,
        }
    }
}
