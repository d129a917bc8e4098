//! A mail's own return path: the address at which reports on this mail come back, and on no other.
//!
//! `bounce+`, the mail's 32 digits, the 20 digits of a tag, `@`, the tenant's `return_path_domain` (VERP). The tag is a
//! keyed hash of tenant and mail: a report that does not come with it was not made from a mail of ours, and changes
//! nothing. Whoever got a mail can read its return path, and so can lie about that one mail, and about no other.

use std::fmt;
use std::str::FromStr;

use super::address::{EmailAddress, domain_to_ascii};
use super::audit::hex;
use super::ids::MessageId;

/// Bytes of a tag: a hash of 256 bits, cut, so that it fits into a local part (64 octets, RFC 5321 section 4.5.3.1.1).
const TAG_BYTES: usize = 10;
/// What stands before the digits, with a `+` between.
const WORD: &str = "bounce";
/// The digits of a mail.
const ID_DIGITS: usize = 32;
const DIGITS: usize = ID_DIGITS + 2 * TAG_BYTES;
/// A domain at most: with what stands before it, it must be an address (254 octets).
const DOMAIN_OCTETS_MAX: usize = 190;
/// Return paths looked at in one report, at most.
const FOUND_MAX: usize = 32;

/// What only we can make of a mail.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag([u8; TAG_BYTES]);

impl Tag {
    /// The tag that a keyed hash makes.
    #[must_use]
    pub fn from_mac(mac: &[u8; 32]) -> Self {
        let mut bytes = [0; TAG_BYTES];
        bytes.copy_from_slice(&mac[..TAG_BYTES]);
        Self(bytes)
    }

    /// Whether it is this one; takes as long for every tag that is not.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).fold(0, |differs, (one, other)| differs | (one ^ other)) == 0
    }
}

/// Whoever holds a tag can lie about its mail: it is not for logs.
impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag(…)")
    }
}

/// Where a tenant's return paths are: a domain as A-labels that leaves room for what stands before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnPathDomain(String);

impl FromStr for ReturnPathDomain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let domain = domain_to_ascii(text).map_err(|_| "not a domain".to_owned())?;
        if domain.len() > DOMAIN_OCTETS_MAX {
            return Err(format!("must have at most {DOMAIN_OCTETS_MAX} characters"));
        }
        Ok(Self(domain))
    }
}

/// A mail's return path, without its domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReturnPath {
    /// The mail.
    pub message: MessageId,
    /// What proves it.
    pub tag: Tag,
}

impl ReturnPath {
    /// The whole address.
    #[must_use]
    pub fn at(&self, domain: &ReturnPathDomain) -> EmailAddress {
        let local = format!("{WORD}+{}{}", self.message.hex(), hex(&self.tag.0));
        EmailAddress::of_parts(&local, &domain.0)
    }

    /// Every return path that a text names, each once, in its order; at most 32. Some programs write addresses in capitals.
    #[must_use]
    pub fn all_in(text: &[u8]) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for plus in memchr::memchr_iter(b'+', text) {
            let before = &text[..plus];
            let begins =
                before.len() >= WORD.len() && before[before.len() - WORD.len()..].eq_ignore_ascii_case(WORD.as_bytes());
            if begins
                && let Some(path) = Self::at_start(&text[plus + 1..])
                && !found.contains(&path)
            {
                found.push(path);
                if found.len() == FOUND_MAX {
                    break;
                }
            }
        }
        found
    }

    fn at_start(text: &[u8]) -> Option<Self> {
        let digits = text.get(..DIGITS)?;
        let mut bytes = [0; ID_DIGITS / 2 + TAG_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
        }
        let (message, tag) = bytes.split_at(ID_DIGITS / 2);
        let path = Self { message: MessageId::from_slice(message)?, tag: Tag(tag.try_into().ok()?) };
        (text.get(DIGITS) == Some(&b'@')).then_some(path)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    fn path(number: u8) -> ReturnPath {
        let message = MessageId::from_slice(&[number; 16]).unwrap();
        ReturnPath { message, tag: Tag::from_mac(&[0xab; 32]) }
    }

    #[test]
    fn a_return_path_reads_back_as_written_also_in_capitals_and_among_other_words() {
        let domain: ReturnPathDomain = "Bounces.Bücher.example".parse().unwrap();
        let address = path(7).at(&domain);
        assert!(address.local().len() <= 64);
        assert_eq!(address.domain(), "bounces.xn--bcher-kva.example");
        let text = format!("To: {address}\r\nX: <{}>, {}", address.as_str().to_uppercase(), path(9).at(&domain));
        assert_eq!(ReturnPath::all_in(text.as_bytes()), [path(7), path(9)]);
    }

    #[test]
    fn what_is_no_return_path_is_passed_over_and_a_flood_of_them_ends() {
        let whole = path(7).at(&"b.example".parse().unwrap()).to_string();
        for wrong in [&whole[1..], &whole[..58], &whole.replace('@', "0@"), &whole.replace("07", "0g"), "+", ""] {
            assert_eq!(ReturnPath::all_in(wrong.as_bytes()), [], "{wrong}");
        }
        let many: String = (0..=255).map(|n| path(n).at(&"b.example".parse().unwrap()).to_string() + "\n").collect();
        assert_eq!(ReturnPath::all_in(many.as_bytes()).len(), FOUND_MAX);
    }

    #[test]
    fn a_domain_leaves_room_for_what_stands_before_it() {
        let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63)].join(".");
        assert!(long.parse::<ReturnPathDomain>().is_err());
        assert!("not a domain".parse::<ReturnPathDomain>().is_err());
        let fits: ReturnPathDomain = long[..DOMAIN_OCTETS_MAX].parse().unwrap();
        assert!(path(1).at(&fits).as_str().len() <= 254);
    }
}
