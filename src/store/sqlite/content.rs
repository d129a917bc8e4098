//! Contents: compressed by the caller's thread before they wait for the writer, read back only where they are needed.

use std::cell::RefCell;
use std::io;
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, named_params};
use zstd::bulk::{Compressor, Decompressor};

use super::fault::{Cells, Fault};
use crate::domain::address::Mailbox;
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::message::Outgoing;
use crate::store::{Content, StoreError};

/// How hard to compress: mails are text, and further levels cost more than they save.
const LEVEL: i32 = 1;
/// Idle compressors kept: more than callers that compress at the same moment.
const COMPRESSORS_MAX: usize = 16;
/// Contents up to this are compressed where the caller runs: well under a millisecond.
const INLINE_BYTES_MAX: usize = 128 << 10;
/// No content is larger; a stored length beyond it is a corrupt row, not an allocation.
const MIME_BYTES_MAX: usize = 256 << 20;

/// A content as stored.
#[derive(Clone)]
pub(super) struct Packed {
    /// One zstd frame with a checksum.
    pub(super) frame: Vec<u8>,
    /// The length before compression.
    pub(super) mime_bytes: usize,
}

/// Compressors between two uses: one is expensive to make and cheap to use.
#[derive(Default)]
pub(super) struct Press {
    idle: Mutex<Vec<Compressor<'static>>>,
}

impl Press {
    /// Compresses the content of a message; a large one on a thread where it keeps nobody waiting.
    pub(super) async fn pack(&self, mime: Vec<u8>) -> Result<Packed, StoreError> {
        let failed = |detail: String| StoreError::NotPersisted { doing: "compressing a message", detail };
        let mime_bytes = mime.len();
        if mime_bytes > MIME_BYTES_MAX {
            return Err(failed("it is larger than a content may be".to_owned()));
        }
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let compressed = if mime_bytes <= INLINE_BYTES_MAX {
            compress(idle, &mime)
        } else {
            let work = move || compress(idle, &mime);
            tokio::task::spawn_blocking(work).await.map_err(|error| failed(error.to_string()))?
        };
        let (frame, compressor) = compressed.map_err(|error| failed(error.to_string()))?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < COMPRESSORS_MAX {
            idle.push(compressor);
        }
        Ok(Packed { frame, mime_bytes })
    }
}

thread_local! {
    /// One for each thread that reads: expensive to make and cheap to use.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

fn compress(idle: Option<Compressor<'static>>, mime: &[u8]) -> io::Result<(Vec<u8>, Compressor<'static>)> {
    let mut compressor = if let Some(compressor) = idle {
        compressor
    } else {
        let mut fresh = Compressor::new(LEVEL)?;
        fresh.include_checksum(true)?;
        fresh
    };
    Ok((compressor.compress(mime)?, compressor))
}

fn decompress(frame: &[u8], mime_bytes: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|known| {
        let decompressor = match known {
            Some(decompressor) => decompressor,
            None => known.insert(Decompressor::new()?),
        };
        decompressor.decompress(frame, mime_bytes)
    })
}

impl Packed {
    /// The content. Short work for one that was compressed where its caller ran.
    pub(super) fn unpack(&self) -> io::Result<Vec<u8>> {
        decompress(&self.frame, self.mime_bytes)
    }

    /// Whether unpacking keeps nobody waiting.
    pub(super) fn is_small(&self) -> bool {
        self.mime_bytes <= INLINE_BYTES_MAX
    }
}

/// The content in a row with `mime` and `mime_bytes`.
fn unpack(cells: &Cells<'_>) -> Result<Vec<u8>, Fault> {
    let frame = cells.blob("mime")?;
    let mime_bytes: i64 = cells.plain("mime_bytes")?;
    let mime_bytes = usize::try_from(mime_bytes).ok().filter(|bytes| *bytes <= MIME_BYTES_MAX);
    let mime_bytes = mime_bytes.ok_or_else(|| cells.corrupt("mime_bytes"))?;
    let mime = decompress(frame, mime_bytes).map_err(|_| cells.corrupt("mime"))?;
    if mime.len() == mime_bytes { Ok(mime) } else { Err(cells.corrupt("mime_bytes")) }
}

/// Keeps the content of a new message.
pub(super) fn insert(connection: &Connection, id: MessageId, packed: &Packed) -> Result<(), Fault> {
    let sql = r"-- insert_content
        INSERT INTO content (message, mime, mime_bytes) VALUES (:message, :mime, :mime_bytes)";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":message": id.as_bytes(),
        ":mime": packed.frame,
        ":mime_bytes": i64::try_from(packed.mime_bytes).unwrap_or(i64::MAX),
    })?;
    Ok(())
}

/// What an attempt needs.
pub(super) fn outgoing(connection: &Connection, id: MessageId) -> Result<Option<Outgoing>, Fault> {
    let sql = r"-- outgoing
        SELECT message.id, envelope_sender, mailbox, attempts, mime, mime_bytes
        FROM message JOIN content ON content.message = message.id
        WHERE message.id = :id AND status IN ('queued', 'deferred')";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":id": id.as_bytes() })?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let cells = Cells::new(row, "message");
    Ok(Some(Outgoing {
        envelope_sender: cells.word("envelope_sender")?,
        recipient: cells.word::<Mailbox>("mailbox")?.address,
        attempts: cells.plain("attempts")?,
        mime: unpack(&Cells::new(row, "content"))?,
    }))
}

/// The content of a message of a tenant.
pub(super) fn content(connection: &Connection, tenant: &TenantId, id: MessageId) -> Result<Content, Fault> {
    let sql = r"-- content
        SELECT message.id, mime, mime_bytes
        FROM message LEFT JOIN content ON content.message = message.id
        WHERE message.id = :id AND tenant = :tenant";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement
        .query_row(named_params! { ":id": id.as_bytes(), ":tenant": tenant.as_str() }, |row| {
            if row.get_ref("mime")?.as_blob_or_null()?.is_none() {
                return Ok(Ok(Content::Purged));
            }
            Ok(unpack(&Cells::new(row, "content")).map(Content::Present))
        })
        .optional()?;
    found.unwrap_or(Ok(Content::NoMessage))
}
