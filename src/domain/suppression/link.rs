//! The link by which somebody unsubscribes, and the headers that offer it to their mail program.
//!
//! Its token is all it holds: nobody can tell from it who it is for, when it was made or for what, or make another's.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes of a token: a hash of 256 bits, cut.
const TOKEN_BYTES: usize = 24;
/// What is kept of the last byte. A token then ends in a letter: what makes links of plain text takes `-` and `_` for
/// what follows them.
const LAST_BYTE_KEPT: u8 = 0b1101_1111;

/// What the link of one recipient, for one scope of one tenant, ends with: 32 characters of `A-Z a-z 0-9 - _`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnsubscribeToken([u8; TOKEN_BYTES]);

impl UnsubscribeToken {
    /// A token that no link ends with.
    pub const NOBODYS: Self = Self([0xff; TOKEN_BYTES]);

    /// The token that a keyed hash makes.
    #[must_use]
    pub fn from_mac(mac: &[u8; 32]) -> Self {
        let mut bytes = [0; TOKEN_BYTES];
        bytes.copy_from_slice(&mac[..TOKEN_BYTES]);
        bytes[TOKEN_BYTES - 1] &= LAST_BYTE_KEPT;
        Self(bytes)
    }

    /// The bytes as stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; TOKEN_BYTES] {
        &self.0
    }
}

impl fmt::Display for UnsubscribeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// Whoever holds a token may unsubscribe its owner: it is not for logs.
impl fmt::Debug for UnsubscribeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnsubscribeToken(…)")
    }
}

impl FromStr for UnsubscribeToken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "not a token".to_owned();
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
        bytes.try_into().map(Self).map_err(|_| wrong())
    }
}

/// Where somebody unsubscribes; `public_url` as in `[server]`.
#[must_use]
pub fn unsubscribe_url(public_url: &str, token: &UnsubscribeToken) -> String {
    format!("{}/u/{token}", public_url.trim_end_matches('/'))
}

/// The two headers of a mail that offers to unsubscribe (RFC 2369 section 3.2, RFC 8058 section 3.1).
#[must_use]
pub fn list_headers(public_url: &str, token: &UnsubscribeToken) -> [(&'static str, String); 2] {
    [
        ("List-Unsubscribe", format!("<{}>", unsubscribe_url(public_url, token))),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_reads_back_and_can_stand_in_a_link_in_plain_text(mac: [u8; 32]) {
            let token = UnsubscribeToken::from_mac(&mac);
            let text = token.to_string();
            prop_assert_eq!(text.parse::<UnsubscribeToken>().unwrap(), token);
            prop_assert_eq!(text.len(), 32);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            prop_assert!(text.ends_with(|last: char| last.is_ascii_alphabetic()));
            prop_assert!(token != UnsubscribeToken::NOBODYS);
            let shown = format!("{token:?}");
            prop_assert!(!shown.contains(&text[..8]), "a token is not for logs");
        }

        #[test]
        fn no_text_but_its_own_is_a_token(text in "\\PC{0,40}") {
            if let Ok(token) = text.parse::<UnsubscribeToken>() {
                prop_assert_eq!(token.to_string(), text);
            }
        }
    }

    #[test]
    fn the_headers_are_those_of_rfc_8058() {
        let token = UnsubscribeToken::from_mac(&[0; 32]);
        for url in ["https://mail.brand.example/postern", "https://mail.brand.example/postern/"] {
            let [(list, link), (post, one_click)] = list_headers(url, &token);
            assert_eq!(
                (list, post, one_click.as_str()),
                ("List-Unsubscribe", "List-Unsubscribe-Post", "List-Unsubscribe=One-Click")
            );
            assert_eq!(link, format!("<https://mail.brand.example/postern/u/{}>", "A".repeat(32)));
        }
    }
}
