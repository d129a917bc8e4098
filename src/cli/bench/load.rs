//! The load: so many connections, each sending its next mail when the last was answered, every answer timed.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::client::Connection;
use super::mail::Mail;

/// What to send.
pub(super) struct Load {
    pub(super) to: SocketAddr,
    pub(super) mail: Mail,
    pub(super) mails: u32,
    pub(super) connections: usize,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Answered {
    /// From the first byte of a request to the last of its 202, in microseconds, in no order.
    pub(super) accepts_micros: Vec<u32>,
    /// What else was answered, or went wrong, and how often.
    pub(super) refusals: BTreeMap<String, u64>,
}

/// A load that is over.
pub(super) struct Sent {
    /// When the first request began.
    pub(super) began: Instant,
    /// How long until the last answer.
    pub(super) took: Duration,
    pub(super) answered: Answered,
}

impl Load {
    /// Opens all connections, then sends everything.
    pub(super) async fn run(self) -> io::Result<Sent> {
        let mut connections = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            connections.push(Connection::open(self.to).await?);
        }
        let next = AtomicU32::new(0);
        let began = Instant::now();
        let mut senders: FuturesUnordered<_> =
            connections.into_iter().map(|connection| self.send(connection, &next)).collect();
        let mut answered = Answered::default();
        while let Some(one) = senders.next().await {
            answered.accepts_micros.extend(one.accepts_micros);
            for (what, count) in one.refusals {
                *answered.refusals.entry(what).or_default() += count;
            }
        }
        drop(senders);
        let took = began.elapsed();
        // Mails that no connection was left for.
        let asked = answered.accepts_micros.len() as u64 + answered.refusals.values().sum::<u64>();
        if let Some(unsent) = u64::from(self.mails).checked_sub(asked).filter(|unsent| *unsent > 0) {
            answered.refusals.insert("no connection".to_owned(), unsent);
        }
        Ok(Sent { began, took, answered })
    }

    /// Sends one mail after the other while there are any; a connection that breaks is opened anew.
    async fn send(&self, mut connection: Connection, next: &AtomicU32) -> Answered {
        let mut mail = self.mail.clone();
        let mut answered = Answered::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.mails {
                return answered;
            }
            let request = mail.numbered(number);
            let began = Instant::now();
            let answer = connection.exchange(request).await;
            let micros = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
            let (what, is_broken) = match answer {
                Ok(answer) if answer.status == 202 => {
                    answered.accepts_micros.push(micros);
                    continue;
                }
                Ok(answer) => (format!("status {}", answer.status), false),
                Err(error) => (error.to_string(), true),
            };
            *answered.refusals.entry(what).or_default() += 1;
            if is_broken {
                match Connection::open(self.to).await {
                    Ok(again) => connection = again,
                    Err(_) => return answered,
                }
            }
        }
    }
}
