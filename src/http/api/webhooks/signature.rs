//! The platform's signature: HMAC-SHA256 over the body as it came in, under a secret that both sides know.
//!
//! How the platform writes it down is not documented, so every usual way is read. That costs nothing: whatever the way, it
//! is the same 32 bytes, and they are compared in constant time with those of every secret.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq as _};

use crate::domain::secret::Secret;

/// Padding may be left out, and bits left over may be set: they are not part of the 32 bytes.
const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: [GeneralPurpose; 2] = [GeneralPurpose::new(&STANDARD, CONFIG), GeneralPurpose::new(&URL_SAFE, CONFIG)];
/// Before the signature, if anything is.
const PREFIX: &str = "sha256=";
/// Hexadecimal digits of a signature.
const HEX_DIGITS: usize = 64;

/// A signature as sent, not yet compared with anything.
pub(super) struct Signature([u8; 32]);

impl Signature {
    /// Reads hexadecimal digits in any case, base64 or base64url with or without padding, after `sha256=` or alone.
    pub(super) fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        let prefix = text.get(..PREFIX.len()).filter(|start| start.eq_ignore_ascii_case(PREFIX));
        let text = prefix.map_or(text, |prefix| &text[prefix.len()..]).trim();
        let bytes = if text.len() == HEX_DIGITS {
            hex(text.as_bytes())
        } else {
            BASE64.iter().find_map(|engine| engine.decode(text).ok())
        };
        bytes?.try_into().ok().map(Self)
    }

    /// Whether it is that of `body` under any of the secrets. All of them are tried, whichever it is.
    pub(super) fn signs(&self, body: &[u8], secrets: &[Secret]) -> bool {
        let mut signs = Choice::from(0);
        for secret in secrets {
            #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
            let mut mac =
                Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes a key of any length");
            mac.update(body);
            signs |= mac.finalize().into_bytes().as_slice().ct_eq(&self.0);
        }
        signs.into()
    }
}

fn hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    digits.chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use secrecy::SecretString;

    fn secrets(texts: &[&str]) -> Vec<Secret> {
        texts.iter().map(|text| Secret::from(SecretString::from(*text))).collect()
    }

    /// RFC 4231, test case 2.
    const KEY: &str = "Jefe";
    const BODY: &[u8] = b"what do ya want for nothing?";
    const HEX: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

    fn bytes() -> Vec<u8> {
        hex(HEX.as_bytes()).unwrap()
    }

    #[test]
    fn a_signature_is_read_in_every_usual_way() {
        let base64 = BASE64.map(|engine| engine.encode(bytes()));
        for text in [
            HEX.to_owned(),
            HEX.to_uppercase(),
            format!("sha256={HEX}"),
            format!("SHA256={}", HEX.to_uppercase()),
            format!(" sha256= {HEX} "),
            base64[0].clone(),
            base64[1].clone(),
            base64[0].trim_end_matches('=').to_owned(),
            base64[1].trim_end_matches('=').to_owned(),
            format!("sha256={}", base64[1]),
        ] {
            let signature = Signature::read(&text).unwrap_or_else(|| panic!("{text}"));
            assert!(signature.signs(BODY, &secrets(&[KEY])), "{text}");
            for others in [&[][..], &["other"], &["Jefe "], &["other", ""]] {
                assert!(!signature.signs(BODY, &secrets(others)), "{text} {others:?}");
            }
            for rotating in [["other", KEY], [KEY, "other"]] {
                assert!(signature.signs(BODY, &secrets(&rotating)), "{text}");
            }
            assert!(!signature.signs(b"what do ya want for nothing!", &secrets(&[KEY])), "{text}");
        }
    }

    #[test]
    fn what_is_no_signature_is_none() {
        let long = "A".repeat(44);
        for text in ["", "sha256=", "md5=5bdc", &HEX[1..], &format!("{HEX}00"), &"g".repeat(64), "é", &long, "sha256é"]
        {
            assert!(Signature::read(text).is_none(), "{text}");
        }
    }
}
