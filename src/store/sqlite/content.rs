//! Contents: compressed by the caller's thread before they wait for the writer, read back only where they are needed.
//!
//! As LZ4: at the rates we accept, zstd took a tenth of all our processor time to save a third of the bytes. Contents of
//! stores from before are zstd frames and stay as they are.

use std::io;

use lz4_flex::block;
use rusqlite::{Connection, OptionalExtension, named_params};

use super::fault::{Cells, Fault};
use super::sealing::ContentKeys;
use crate::domain::address::Mailbox;
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::message::Outgoing;
use crate::store::{Content, StoreError};

/// Contents up to this are compressed where the caller runs: well under a millisecond.
const INLINE_BYTES_MAX: usize = 128 << 10;
/// No content is larger; a stored length beyond it is a corrupt row, not an allocation.
const MIME_BYTES_MAX: usize = 256 << 20;
/// What our contents begin with. Behind it: the CRC-32 of the content before compression, its least octet first, and one
/// LZ4 block.
const MAGIC: [u8; 4] = *b"LZ4\x01";
const CRC_BYTES: usize = 4;
const PREFIX_BYTES: usize = MAGIC.len() + CRC_BYTES;

/// A content as stored.
#[derive(Clone)]
pub(super) struct Packed {
    /// See [`MAGIC`].
    pub(super) frame: Vec<u8>,
    /// The length before compression.
    pub(super) mime_bytes: usize,
}

/// A content in both its forms.
pub(super) struct Pair {
    pub(super) mime: Vec<u8>,
    pub(super) packed: Packed,
}

/// Compresses the content of a message; a large one on a thread where it keeps nobody waiting.
pub(super) async fn pack(mime: Vec<u8>) -> Result<Pair, StoreError> {
    let failed = |detail: String| StoreError::NotPersisted { doing: "compressing a message", detail };
    if mime.len() > MIME_BYTES_MAX {
        return Err(failed("it is larger than a content may be".to_owned()));
    }
    let is_small = mime.len() <= INLINE_BYTES_MAX;
    let work = move || compress(&mime).map(|packed| Pair { mime, packed });
    let packed = if is_small {
        work()
    } else {
        tokio::task::spawn_blocking(work).await.map_err(|error| failed(error.to_string()))?
    };
    packed.map_err(|error| failed(error.to_string()))
}

fn compress(mime: &[u8]) -> Result<Packed, block::CompressError> {
    let mut frame = vec![0; PREFIX_BYTES + block::get_maximum_output_size(mime.len())];
    let (prefix, room) = frame.split_at_mut(PREFIX_BYTES);
    prefix[..MAGIC.len()].copy_from_slice(&MAGIC);
    prefix[MAGIC.len()..].copy_from_slice(&crc32fast::hash(mime).to_le_bytes());
    let used = block::compress_into(mime, room)?;
    frame.truncate(PREFIX_BYTES + used);
    // It may wait for long: only with what it needs.
    frame.shrink_to_fit();
    Ok(Packed { frame, mime_bytes: mime.len() })
}

fn decompress(frame: &[u8], mime_bytes: usize) -> io::Result<Vec<u8>> {
    let Some(behind) = frame.strip_prefix(&MAGIC) else { return zstd::bulk::decompress(frame, mime_bytes) };
    let corrupt = |_| io::Error::from(io::ErrorKind::InvalidData);
    let (crc, packed) = behind.split_first_chunk::<CRC_BYTES>().ok_or(io::ErrorKind::InvalidData)?;
    let mut mime = vec![0; mime_bytes];
    let written = block::decompress_into(packed, &mut mime).map_err(corrupt)?;
    mime.truncate(written);
    if crc32fast::hash(&mime) != u32::from_le_bytes(*crc) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(mime)
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
fn unpack(cells: &Cells<'_>, keys: &ContentKeys) -> Result<Vec<u8>, Fault> {
    let frame = keys.open(cells.message_id("id")?, cells.blob("mime")?).ok_or_else(|| cells.corrupt("mime"))?;
    let mime_bytes: i64 = cells.plain("mime_bytes")?;
    let mime_bytes = usize::try_from(mime_bytes).ok().filter(|bytes| *bytes <= MIME_BYTES_MAX);
    let mime_bytes = mime_bytes.ok_or_else(|| cells.corrupt("mime_bytes"))?;
    let mime = decompress(&frame, mime_bytes).map_err(|_| cells.corrupt("mime"))?;
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
pub(super) fn outgoing(connection: &Connection, keys: &ContentKeys, id: MessageId) -> Result<Option<Outgoing>, Fault> {
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
        mime: unpack(&Cells::new(row, "content"), keys)?,
    }))
}

/// The content of a message of a tenant.
pub(super) fn content(
    connection: &Connection,
    keys: &ContentKeys,
    tenant: &TenantId,
    id: MessageId,
) -> Result<Content, Fault> {
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
            Ok(unpack(&Cells::new(row, "content"), keys).map(Content::Present))
        })
        .optional()?;
    found.unwrap_or(Ok(Content::NoMessage))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn contents_of_older_stores_are_read() {
        let mime = b"Subject: old\r\n\r\nfrom before there was LZ4\r\n".repeat(50);
        let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
        compressor.include_checksum(true).unwrap();
        let frame = compressor.compress(&mime).unwrap();
        assert_eq!(Packed { frame, mime_bytes: mime.len() }.unpack().unwrap(), mime);
    }

    #[test]
    fn a_changed_octet_or_a_wrong_length_is_never_taken_for_the_content() {
        let mime = b"Subject: a\r\n\r\nhello hello hello hello hello\r\n".repeat(20);
        let packed = compress(&mime).unwrap();
        for at in 0..packed.frame.len() {
            let mut changed = packed.clone();
            changed.frame[at] ^= 1;
            // Another way to the same content is none the worse.
            assert!(changed.unpack().map_or(true, |read| read == mime), "octet {at}");
        }
        for mime_bytes in [0, mime.len() - 1] {
            assert!(Packed { mime_bytes, ..packed.clone() }.unpack().is_err(), "{mime_bytes}");
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(mime in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..3_000),
            "([a-z]{1,4} ){0,900}".prop_map(String::into_bytes),
        ]) {
            let packed = compress(&mime).unwrap();
            prop_assert_eq!(packed.unpack().unwrap(), mime);
        }
    }
}
