//! Contents at rest, sealed where the operator gives a key: AES-256-GCM over what is stored, bound to its message.
//!
//! A sealed content is [`MAGIC`], four octets that say by which key (the first of its SHA-256), the nonce, and the sealed
//! octets with their tag. The first key of the file seals; all of them open. To rotate, put a new line on top and restart:
//! contents sealed before stay readable for as long as their key's line is there, and are gone with their retention. A
//! content that was stored before there was a key stays as it is.
//!
//! A store whose oldest or newest content is sealed by a key that is not in the file is not opened: each such mail would be
//! held as unreadable. Those between are not looked at, there may be millions.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use rusqlite::{Connection, OptionalExtension as _};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use sha2::{Digest as _, Sha256};

use super::SqliteStore;
use super::content::Packed;
use crate::domain::audit::hex;
use crate::domain::ids::MessageId;
use crate::store::StoreError;

const MAGIC: [u8; 4] = *b"AES\x01";
const FINGERPRINT_BYTES: usize = 4;
const KEY_BYTES: usize = 32;

type Fingerprint = [u8; FINGERPRINT_BYTES];

/// The keys of contents; without any, contents are stored as they are.
#[derive(Default)]
pub struct ContentKeys(Vec<(Fingerprint, RandomizedNonceKey)>);

impl ContentKeys {
    /// Reads a file of keys: one to a line, 64 hexadecimal digits, the newest first. Errors never repeat one.
    pub fn read(text: &SecretString) -> Result<Self, String> {
        let lines = text.expose_secret().lines().enumerate();
        let lines = lines.map(|(number, line)| (number, line.trim())).filter(|(_, line)| !line.is_empty());
        let keys = lines.map(|(number, line)| {
            let wrong =
                || format!("line {}: a key is 64 hexadecimal digits, as openssl rand -hex 32 makes them", number + 1);
            let bytes = Zeroizing::new(digits(line).ok_or_else(wrong)?);
            let hash: [u8; 32] = Sha256::digest(*bytes).into();
            let mut fingerprint = Fingerprint::default();
            fingerprint.copy_from_slice(&hash[..FINGERPRINT_BYTES]);
            Ok((fingerprint, RandomizedNonceKey::new(&AES_256_GCM, &*bytes).map_err(|_| wrong())?))
        });
        let keys = keys.collect::<Result<Vec<_>, String>>()?;
        if keys.is_empty() { Err("holds no key: openssl rand -hex 32 makes one".to_owned()) } else { Ok(Self(keys)) }
    }

    /// The content as it is stored.
    pub(super) fn seal(&self, id: MessageId, packed: Packed) -> Result<Packed, StoreError> {
        let Some((fingerprint, key)) = self.0.first() else { return Ok(packed) };
        let failed =
            |_| StoreError::NotPersisted { doing: "sealing a content", detail: "the cipher failed".to_owned() };
        let mut sealed = packed.frame;
        let nonce = key.seal_in_place_append_tag(Aad::from(id.as_bytes()), &mut sealed).map_err(failed)?;
        let frame = [&MAGIC[..], fingerprint, nonce.as_ref(), &sealed].concat();
        Ok(Packed { frame, ..packed })
    }

    /// What was stored, as it was before it was sealed; `None`: it is not what was sealed, or its key is not here.
    pub(super) fn open<'f>(&self, id: MessageId, frame: &'f [u8]) -> Option<std::borrow::Cow<'f, [u8]>> {
        let Some(behind) = frame.strip_prefix(&MAGIC) else { return Some(frame.into()) };
        let (fingerprint, behind) = behind.split_first_chunk::<FINGERPRINT_BYTES>()?;
        let (nonce, sealed) = behind.split_first_chunk::<NONCE_LEN>()?;
        let (_, key) = self.0.iter().find(|(known, _)| known == fingerprint)?;
        let mut octets = sealed.to_vec();
        let opened = key.open_in_place(Nonce::from(nonce), Aad::from(id.as_bytes()), &mut octets).ok()?.len();
        octets.truncate(opened);
        Some(octets.into())
    }

    /// Refuses a store whose contents it cannot open, as far as the oldest and the newest tell.
    pub(super) fn check(&self, path: &Path) -> Result<(), StoreError> {
        let cannot = |error: rusqlite::Error| StoreError::Open(format!("{}: {error}", path.display()));
        let connection = Connection::open(path).map_err(cannot)?;
        for order in ["ASC", "DESC"] {
            let sql = format!("-- content_end\nSELECT substr(mime, 1, 8) FROM content ORDER BY rowid {order} LIMIT 1");
            let begin: Option<Vec<u8>> = connection.query_row(&sql, [], |row| row.get(0)).optional().map_err(cannot)?;
            let begin = begin.unwrap_or_default();
            let Some(fingerprint) = begin.strip_prefix(&MAGIC) else { continue };
            if !self.0.iter().any(|(known, _)| known == fingerprint) {
                return Err(StoreError::Open(format!(
                    "contents are sealed with a key that store.content_key_file does not hold (its SHA-256 begins with {})",
                    hex(fingerprint)
                )));
            }
        }
        Ok(())
    }
}

impl SqliteStore {
    /// Seals contents with these keys from now on. A store that they cannot open is refused. Blocks; it belongs to the start.
    pub fn sealing(mut self, keys: ContentKeys) -> Result<Self, StoreError> {
        keys.check(&self.path)?;
        self.content_keys = Arc::new(keys);
        Ok(self)
    }
}

fn digits(line: &str) -> Option<[u8; KEY_BYTES]> {
    let mut bytes = [0; KEY_BYTES];
    if line.len() != 2 * KEY_BYTES || !line.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(line.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    fn id(number: u128) -> MessageId {
        MessageId::from_uuid(uuid::Uuid::from_u128(number))
    }

    fn keys(lines: &[&str]) -> ContentKeys {
        ContentKeys::read(&SecretString::from(lines.join("\n"))).unwrap()
    }

    fn sealed(keys: &ContentKeys) -> Vec<u8> {
        keys.seal(id(1), Packed { frame: b"the content".to_vec(), mime_bytes: 11 }).unwrap().frame
    }

    #[test]
    fn a_sealed_content_is_opened_by_its_key_alone_and_for_its_message_alone() {
        let (old, new) = ("0f".repeat(32), "a1".repeat(32));
        let (before, after) = (keys(&[&old]), keys(&[&new, "", &old]));
        let frame = sealed(&before);
        assert!(memchr::memmem::find(&frame, b"the content").is_none());
        for keys in [&before, &after] {
            assert_eq!(keys.open(id(1), &frame).as_deref(), Some(&b"the content"[..]));
            assert_eq!(keys.open(id(2), &frame), None);
        }
        assert_eq!(before.open(id(1), &sealed(&after)), None, "the newest key seals");
        assert_eq!(ContentKeys::default().open(id(1), &frame), None);
        assert_eq!(before.open(id(1), b"stored before").as_deref(), Some(&b"stored before"[..]));
        for at in MAGIC.len()..frame.len() {
            let mut changed = frame.clone();
            changed[at] ^= 1;
            assert_eq!(before.open(id(1), &changed), None, "octet {at}");
        }
    }

    #[test]
    fn what_is_no_key_is_told_by_its_line_and_never_repeated() {
        for wrong in ["", "\n\n", "hunter2", &"0f".repeat(31), &format!("{}é", "0f".repeat(31)), &"zz".repeat(32)] {
            let told = ContentKeys::read(&SecretString::from(wrong)).err().unwrap();
            assert!(told.contains("openssl rand -hex 32") && !told.contains("hunter2"), "{told}");
        }
    }
}
