//! API keys at work: making one, and telling whose a presented secret is without asking the database each time.
//!
//! A secret is `pst_`, the 32 hexadecimal digits of the key's id, and 43 characters of base64url over 32 random bytes.
//! The id in it finds the key; the whole text is then compared as HMAC-SHA-256 under the store's pepper, in constant
//! time, so neither the rows nor the answer's timing help to guess one.
//!
//! All keys are held as one snapshot. A snapshot counts from the moment its reading *began*:
//!
//! * younger than [`FRESH`]: used as it is;
//! * younger than [`REVOKED_WITHIN`]: used while somebody else reads the next one;
//! * older: everybody waits for the next one, so that a revocation anywhere is felt within a second;
//! * if it cannot be read: used up to [`UNREADABLE_KEPT`], then the door is closed ([`StoreError`]), since by then a
//!   key may have been revoked without our knowing.
//!
//! A secret with an unknown id may be a key made a moment ago: it asks for a snapshot no older than [`UNKNOWN_FRESH`],
//! which also bounds what a flood of bad keys costs.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use secrecy::SecretString;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;
use uuid::{NoContext, Uuid};

use crate::clock::Clock;
use crate::domain::audit::By;
use crate::domain::ids::{KeyId, TenantId};
use crate::domain::key::{ApiKey, Scope};
use crate::domain::quantity::Limit;
use crate::store::{Store, StoreError};

/// A snapshot younger than this is used without a thought.
pub const FRESH: Duration = Duration::from_millis(500);
/// A snapshot older than this is not used while the store can be read: a revocation is felt within it.
pub const REVOKED_WITHIN: Duration = Duration::from_secs(1);
/// A snapshot older than this is not the last word on an unknown key.
pub const UNKNOWN_FRESH: Duration = Duration::from_millis(25);
/// While the store cannot be read, the last snapshot is used up to this age; then nobody comes in.
pub const UNREADABLE_KEPT: Duration = Duration::from_secs(5);
/// One reading of the keys may take this long.
pub const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// Characters in a key's name.
pub const NAME_CHARS_MAX: usize = 100;

const PREFIX: &str = "pst_";
const ID_DIGITS: usize = 32;
const RANDOM_BYTES: usize = 32;
/// Base64url without padding over [`RANDOM_BYTES`].
const RANDOM_CHARS: usize = 43;

/// Why a key was not made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// What was asked for breaks a rule.
    #[error("{0}")]
    Invalid(&'static str),
    /// The operating system gave no random bytes.
    #[error("no random bytes to make a key from")]
    NoRandomness,
    /// The store could not be asked, or could not keep it.
    #[error("keeping a key failed")]
    Store(#[source] StoreError),
}

/// A key just made; its secret is shown once and kept nowhere.
#[derive(Debug)]
pub struct NewKey {
    /// As kept.
    pub key: ApiKey,
    /// What the caller presents.
    pub secret: SecretString,
}

/// All keys, as the doors and the operator's commands use them.
pub struct Keyring {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    pepper: [u8; 32],
    // Held only to copy the pointer, never across an await.
    snapshot: RwLock<Arc<Snapshot>>,
    // Single flight: whoever holds it reads the next snapshot.
    reading: Mutex<()>,
}

#[derive(Default)]
struct Snapshot {
    /// When its reading began; `None` before the first.
    began_at: Option<Timestamp>,
    /// When a later reading failed, and how.
    failure: Option<(Timestamp, StoreError)>,
    /// Good keys only.
    keys: Arc<HashMap<KeyId, Arc<ApiKey>>>,
}

impl Snapshot {
    /// `None` when it was never read, or when the clock went back behind it.
    fn age(&self, now: Timestamp) -> Option<Duration> {
        self.began_at.and_then(|at| Duration::try_from(now.duration_since(at)).ok())
    }

    fn is_within(&self, now: Timestamp, age_max: Duration) -> bool {
        self.age(now).is_some_and(|age| age < age_max)
    }

    /// A store that has just failed is not asked again at once: those who waited behind the failure share it.
    fn failed_lately(&self, now: Timestamp) -> Option<&StoreError> {
        let (at, failure) = self.failure.as_ref()?;
        let since = Duration::try_from(now.duration_since(*at)).ok()?;
        (since < FRESH).then_some(failure)
    }

    /// What holds while the store cannot be read.
    fn despite(self: Arc<Self>, failure: StoreError, now: Timestamp) -> Result<Arc<Self>, StoreError> {
        if self.is_within(now, UNREADABLE_KEPT) { Ok(self) } else { Err(failure) }
    }
}

impl Keyring {
    /// The keys of this store.
    pub async fn open(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let pepper = store.key_pepper().await?;
        Ok(Self { store, clock, pepper, snapshot: RwLock::default(), reading: Mutex::new(()) })
    }

    /// Makes a key and keeps it.
    pub async fn create(
        &self,
        tenant: TenantId,
        name: String,
        scopes: Vec<Scope>,
        limit: Option<Limit>,
        by: By,
    ) -> Result<NewKey, KeyError> {
        check(&name, &scopes).map_err(KeyError::Invalid)?;
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(|_| KeyError::NoRandomness)?;
        let now = self.clock.now();
        let id = new_id(now);
        let secret = write_secret(id, random);
        let mac = mac(&self.pepper, &secret);
        let key = ApiKey { id, tenant, name, scopes, limit, mac, created_at: now, revoked_at: None };
        self.store.create_key(key.clone(), by).await.map_err(KeyError::Store)?;
        Ok(NewKey { key, secret: secret.into() })
    }

    /// Whether a secret names a key there is, whatever else stands in it: by the snapshot at hand, with nothing computed.
    pub async fn knows(&self, secret: &str) -> Result<bool, StoreError> {
        let Some(id) = id_of(secret) else { return Ok(false) };
        Ok(self.snapshot_within(FRESH).await?.keys.contains_key(&id))
    }

    /// Whose secret this is; `None` when it is nobody's, or was revoked.
    pub async fn verify(&self, secret: &str) -> Result<Option<Arc<ApiKey>>, StoreError> {
        let Some(id) = id_of(secret) else { return Ok(None) };
        let presented = mac(&self.pepper, secret);
        let mut key = self.snapshot_within(FRESH).await?.keys.get(&id).cloned();
        if key.is_none() {
            key = self.snapshot_within(UNKNOWN_FRESH).await?.keys.get(&id).cloned();
        }
        // Compared with something in any case: an unknown id answers as late as a wrong secret.
        let kept = key.as_ref().map_or([0; 32], |key| key.mac);
        let same = bool::from(presented.ct_eq(&kept));
        Ok(key.filter(|_| same))
    }

    fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let snapshot = Arc::new(snapshot);
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&snapshot);
        snapshot
    }

    async fn snapshot_within(&self, age_max: Duration) -> Result<Arc<Snapshot>, StoreError> {
        let snapshot = self.current();
        if snapshot.is_within(self.clock.now(), age_max) {
            return Ok(snapshot);
        }
        let _reading = match self.reading.try_lock() {
            Ok(reading) => reading,
            Err(_) if age_max == FRESH && snapshot.is_within(self.clock.now(), REVOKED_WITHIN) => return Ok(snapshot),
            Err(_) => self.reading.lock().await,
        };
        let snapshot = self.current(); // Somebody may have read it while we waited.
        let now = self.clock.now();
        if snapshot.is_within(now, age_max) {
            return Ok(snapshot);
        }
        if let Some(failure) = snapshot.failed_lately(now).cloned() {
            return snapshot.despite(failure, now);
        }
        self.read(now, &snapshot).await
    }

    /// Reads the next snapshot; the last one is good for a while when that fails.
    async fn read(&self, began_at: Timestamp, last: &Snapshot) -> Result<Arc<Snapshot>, StoreError> {
        let read = tokio::time::timeout(READ_TIMEOUT, self.store.keys()).await;
        let failure = match read {
            Ok(Ok(keys)) => {
                let good = keys.into_iter().filter(|key| key.revoked_at.is_none());
                let keys = Arc::new(good.map(|key| (key.id, Arc::new(key))).collect());
                return Ok(self.replace(Snapshot { began_at: Some(began_at), failure: None, keys }));
            }
            Ok(Err(failure)) => failure,
            Err(_) => StoreError::Unreadable { doing: "reading the API keys", detail: "no answer in time".into() },
        };
        tracing::warn!(error = %failure, "the API keys cannot be read; the last ones hold for a few seconds");
        let now = self.clock.now();
        let (began_at, keys) = (last.began_at, Arc::clone(&last.keys));
        self.replace(Snapshot { began_at, failure: Some((now, failure.clone())), keys }).despite(failure, now)
    }
}

fn check(name: &str, scopes: &[Scope]) -> Result<(), &'static str> {
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err("a key's name is 1 to 100 characters without control characters");
    }
    if scopes.is_empty() {
        return Err("a key needs at least one scope");
    }
    let repeated = scopes.iter().enumerate().any(|(at, scope)| scopes[..at].contains(scope));
    if repeated { Err("a scope is given twice") } else { Ok(()) }
}

fn new_id(now: Timestamp) -> KeyId {
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let nanoseconds = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
    KeyId::from_uuid(Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanoseconds)))
}

fn write_secret(id: KeyId, random: [u8; RANDOM_BYTES]) -> String {
    format!("{PREFIX}{}{}", id.hex(), URL_SAFE_NO_PAD.encode(random))
}

/// The id that a secret names; `None` when the text does not have a secret's form.
fn id_of(secret: &str) -> Option<KeyId> {
    let (digits, random) = secret.strip_prefix(PREFIX)?.split_at_checked(ID_DIGITS)?;
    let is_random = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if random.len() != RANDOM_CHARS || !random.bytes().all(is_random) {
        return None;
    }
    format!("key_{digits}").parse().ok()
}

fn mac(pepper: &[u8; 32], secret: &str) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "Unwrap safety: HMAC takes a key of any length (RFC 2104)")]
    let mut mac = Hmac::<Sha256>::new_from_slice(pepper).expect("HMAC takes a key of any length");
    mac.update(secret.as_bytes());
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + milliseconds).unwrap()
    }

    #[test]
    fn a_secret_names_its_key() {
        let id = new_id(at(0));
        let secret = write_secret(id, [0xfb; 32]);
        assert_eq!(secret.len(), 4 + 32 + 43);
        assert_eq!(id_of(&secret), Some(id));
    }

    #[test]
    fn what_does_not_have_a_secrets_form_names_no_key() {
        let good = write_secret(new_id(at(0)), [7; 32]);
        let upper = format!("pst_{}{}", good[4..36].to_uppercase().replace('0', "A"), &good[36..]);
        let cut = good[..78].to_owned();
        for wrong in ["", "pst_", "key_", &good[4..], &cut, &format!("{good}A"), &format!("{cut}="), &upper, "pst_ééé"]
        {
            assert_eq!(id_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn another_secret_or_another_pepper_is_another_mac() {
        let (one, two) = (write_secret(new_id(at(0)), [1; 32]), write_secret(new_id(at(0)), [2; 32]));
        assert_eq!(mac(&[9; 32], &one), mac(&[9; 32], &one));
        assert_ne!(mac(&[9; 32], &one), mac(&[9; 32], &two));
        assert_ne!(mac(&[9; 32], &one), mac(&[8; 32], &one));
    }

    #[test]
    fn a_snapshot_ages_and_is_stale_when_the_clock_goes_back() {
        let failure = Some((at(900), StoreError::Closed));
        let snapshot = Arc::new(Snapshot { began_at: Some(at(0)), failure, keys: Arc::default() });
        assert!(snapshot.is_within(at(499), FRESH) && !snapshot.is_within(at(500), FRESH));
        assert!(!snapshot.is_within(at(-1), UNREADABLE_KEPT));
        assert!(!Snapshot::default().is_within(at(0), UNREADABLE_KEPT));
        assert!(snapshot.failed_lately(at(1_000)).is_some() && snapshot.failed_lately(at(1_500)).is_none());
    }

    #[test]
    fn an_unreadable_store_closes_the_door_after_a_while() {
        let snapshot = Arc::new(Snapshot { began_at: Some(at(0)), failure: None, keys: Arc::default() });
        assert!(Arc::clone(&snapshot).despite(StoreError::Closed, at(4_999)).is_ok());
        assert!(snapshot.despite(StoreError::Closed, at(5_000)).is_err());
    }

    #[test]
    fn a_key_needs_a_name_and_scopes() {
        assert_eq!(check("till 4", &[Scope::Send, Scope::Read]), Ok(()));
        for (name, scopes) in [
            ("", &[Scope::Send][..]),
            ("a\nb", &[Scope::Send]),
            ("a", &[]),
            ("a", &[Scope::Send, Scope::Send]),
            (&"a".repeat(101), &[Scope::Send]),
        ] {
            assert!(check(name, scopes).is_err(), "{name:?}");
        }
    }
}
