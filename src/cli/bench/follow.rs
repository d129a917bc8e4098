//! When the last mail was relayed, learnt so that asking costs the gateway next to nothing.
//!
//! One question at a time, each one step in an index: is any mail still queued? It is asked only once the load is over,
//! and again after a two-hundredth of the time that has passed since the run began: that is how exact the end is known.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::client::Connection;
use crate::clock::Clock;
use crate::domain::message::Status;

/// The end is known to this part of the whole run.
const EXACTNESS: u32 = 200;
/// Questions are no closer and no farther apart.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Mails on a page that is counted: the most there may be.
const PAGE: usize = 200;

/// Asks the gateway about the bench's mails, which are all in one lane.
pub(super) struct Follower<'a> {
    pub(super) connection: Connection,
    pub(super) key: &'a str,
    pub(super) clock: &'a dyn Clock,
}

impl<'a> Follower<'a> {
    pub(super) async fn open(to: SocketAddr, key: &'a str, clock: &'a dyn Clock) -> io::Result<Self> {
        Ok(Self { connection: Connection::open(to).await?, key, clock })
    }

    /// Waits until no mail waits for an attempt any more, and returns when; `None` when that did not come in time.
    pub(super) async fn end(&mut self, began: Instant, until: Instant) -> anyhow::Result<Option<Instant>> {
        loop {
            if !self.is_any_live().await? {
                return Ok(Some(Instant::now()));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            let pause = (began.elapsed() / EXACTNESS).clamp(PAUSE_MIN, PAUSE_MAX);
            self.clock.sleep_until(self.clock.now().checked_add(pause)?).await;
        }
    }

    async fn is_any_live(&mut self) -> anyhow::Result<bool> {
        // Queued first: nearly always the answer. And last: an unknown may have become queued meanwhile.
        for status in [Status::Queued, Status::Unknown, Status::Deferred, Status::Queued] {
            // A gateway too busy to say has mails to deliver.
            if self.page(status, 1, None).await?.is_none_or(|page| !page.items.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How many mails are in any state that is not relayed.
    pub(super) async fn not_relayed(&mut self) -> anyhow::Result<u64> {
        let mut count = 0;
        for status in Status::ALL {
            if matches!(status, Status::Relayed | Status::Delivered) {
                continue;
            }
            let mut cursor = None;
            loop {
                let page = self
                    .page(status, PAGE, cursor.as_deref())
                    .await?
                    .context("the gateway could not count its mails")?;
                count += page.items.len() as u64;
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
        }
        Ok(count)
    }

    /// Mails in this state, newest first; `None` when the gateway was too busy to look.
    async fn page(&mut self, status: Status, limit: usize, cursor: Option<&str>) -> anyhow::Result<Option<Page>> {
        let cursor = cursor.unwrap_or_default();
        let path = format!("/v1/emails?status={status}&lane=standard&limit={limit}&cursor={cursor}");
        let answer = self.connection.get(&path, self.key).await?;
        match answer.status {
            200 => Ok(Some(serde_json::from_slice(answer.body)?)),
            503 => Ok(None),
            other => bail!("asking for mails was answered {other}"),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    items: Vec<Value>,
    next_cursor: Option<String>,
}
