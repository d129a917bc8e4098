//! Signed notes: a text and who stands for it (C2SP signed-note), signed with Ed25519.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

/// The type byte of Ed25519 keys and signatures.
const ED25519_TYPE: u8 = 1;
/// What a signature's line begins with: an em dash and a space.
const DASH: &str = "\u{2014} ";
const PRIVATE: &str = "PRIVATE+KEY+";

/// What is wrong with a key or a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a key's text.
    #[error("this is no key of the form NAME+HASH+BASE64")]
    NoKey,
    /// The name of a key may not be used.
    #[error("a key's name is not empty and has neither white space nor a plus sign")]
    Name,
    /// Not a note's text.
    #[error("this is no signed note")]
    NoNote,
    /// No signature of the key that was asked for.
    #[error("the note is not signed by this key")]
    NotSigned,
    /// A signature that the text does not have.
    #[error("the signature is not that of this text")]
    Forged,
    /// No randomness.
    #[error("no key can be made: the system gives no randomness")]
    NoRandomness,
}

/// Whom to believe: a name and a public key, `NAME+HASH+BASE64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    key: [u8; 32],
}

impl Verifier {
    /// Reads the text form.
    pub fn read(text: &str) -> Result<Self, NoteError> {
        let (name, key) = read_key(text.trim())?;
        let verifier = Self { name: name.to_owned(), key };
        if verifier.to_string() == text.trim() { Ok(verifier) } else { Err(NoteError::NoKey) }
    }

    /// Whose it is.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn hash(&self) -> [u8; 4] {
        let hash = Sha256::new().chain_update(&self.name).chain_update([b'\n', ED25519_TYPE]).chain_update(self.key);
        let hash: [u8; 32] = hash.finalize().into();
        [hash[0], hash[1], hash[2], hash[3]]
    }

    /// The text of a note that this key has signed.
    pub fn open<'n>(&self, note: &'n str) -> Result<&'n str, NoteError> {
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::NoNote)?;
        let text = &note[..=text.len()];
        if text.chars().any(|sign| sign.is_control() && sign != '\n') || !signatures.ends_with('\n') {
            return Err(NoteError::NoNote);
        }
        let mut opened = Err(NoteError::NotSigned);
        for line in signatures.lines() {
            let (name, signature) = line
                .strip_prefix(DASH)
                .and_then(|line| line.split_once(' '))
                .and_then(|(name, signature)| Some((name, STANDARD.decode(signature).ok()?)))
                .ok_or(NoteError::NoNote)?;
            let Some((hash, signature)) = signature.split_first_chunk::<4>() else { return Err(NoteError::NoNote) };
            // Others may have signed it, too.
            if name != self.name || *hash != self.hash() {
                continue;
            }
            let key = UnparsedPublicKey::new(&ED25519, self.key);
            key.verify(text.as_bytes(), signature).map_err(|_| NoteError::Forged)?;
            opened = Ok(text);
        }
        opened
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.hash()), typed(&self.key))
    }
}

/// A key that signs. Its text form is a secret: `PRIVATE+KEY+NAME+HASH+BASE64`.
pub struct Signer {
    verifier: Verifier,
    pair: Ed25519KeyPair,
    seed: SecretString,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

impl Signer {
    /// A new key of this name.
    pub fn generate(name: &str) -> Result<Self, NoteError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|_| NoteError::NoRandomness)?;
        Self::of_seed(name, seed)
    }

    /// Reads the text form.
    pub fn read(text: &SecretString) -> Result<Self, NoteError> {
        let text = text.expose_secret().trim();
        let (name, seed) = read_key(text.strip_prefix(PRIVATE).ok_or(NoteError::NoKey)?)?;
        let signer = Self::of_seed(name, seed)?;
        if signer.text().expose_secret() == text { Ok(signer) } else { Err(NoteError::NoKey) }
    }

    fn of_seed(name: &str, seed: [u8; 32]) -> Result<Self, NoteError> {
        if name.is_empty() || name.contains(|sign: char| sign.is_whitespace() || sign.is_control() || sign == '+') {
            return Err(NoteError::Name);
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| NoteError::NoKey)?;
        let key = pair.public_key().as_ref().try_into().map_err(|_| NoteError::NoKey)?;
        Ok(Self { verifier: Verifier { name: name.to_owned(), key }, pair, seed: typed(&seed).into() })
    }

    /// The text form.
    #[must_use]
    pub fn text(&self) -> SecretString {
        let Verifier { name, .. } = &self.verifier;
        let hash = u32::from_be_bytes(self.verifier.hash());
        format!("{PRIVATE}{name}+{hash:08x}+{}", self.seed.expose_secret()).into()
    }

    /// Who is to be believed when this key signs.
    #[must_use]
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The note of a text; it ends with a line's end.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        let signature = self.pair.sign(text.as_bytes());
        let signature = STANDARD.encode([&self.verifier.hash()[..], signature.as_ref()].concat());
        format!("{text}\n{DASH}{} {signature}\n", self.verifier.name)
    }
}

/// The name and the 32 bytes of `NAME+HASH+BASE64`. Whether the hash is right is told by who writes it again.
fn read_key(text: &str) -> Result<(&str, [u8; 32]), NoteError> {
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(_), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(NoteError::NoKey);
    };
    let key = STANDARD.decode(key).map_err(|_| NoteError::NoKey)?;
    match key.split_first() {
        Some((&ED25519_TYPE, key)) => Ok((name, key.try_into().map_err(|_| NoteError::NoKey)?)),
        _ => Err(NoteError::NoKey),
    }
}

fn typed(key: &[u8; 32]) -> String {
    STANDARD.encode([&[ED25519_TYPE][..], key].concat())
}
