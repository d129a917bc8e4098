//! Mail addresses: parsed once at the door, trusted everywhere else.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest local part in octets (RFC 5321 section 4.5.3.1.1).
const LOCAL_OCTETS_MAX: usize = 64;
/// Longest address in octets that fits into a path with its brackets (RFC 5321 section 4.5.3.1.3, erratum 1690).
const ADDRESS_OCTETS_MAX: usize = 254;
/// Longest display name in characters; ours, so that a header stays a header.
pub const NAME_CHARS_MAX: usize = 256;

/// Why a text is not an address we can mail. Never holds the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// CR, LF, NUL or another control character.
    #[error("control characters are not allowed")]
    Control,
    /// Not of the form `a@b`.
    #[error("not an address of the form a@b or Name <a@b>")]
    Syntax,
    /// More than one address.
    #[error("exactly one address is allowed")]
    Several,
    /// The local part or the whole is too long.
    #[error("longer than an address may be (64 octets before the @, 254 in all)")]
    Long,
    /// The domain is not a host name that IDNA knows, or an address literal.
    #[error("the domain is not a valid host name")]
    Domain,
    /// The display name is too long.
    #[error("the display name is longer than 256 characters")]
    Name,
}

/// One address: local part as given, domain as lower-case A-labels (RFC 5891).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EmailAddress {
    text: String,
    at: usize,
}

impl EmailAddress {
    /// An address of two parts that are known to be good: a dot-atom and a domain as A-labels, short enough together.
    pub(super) fn of_parts(local: &str, domain: &str) -> Self {
        Self { at: local.len(), text: format!("{local}@{domain}") }
    }

    /// What stands before the `@`, quotes included when it is a quoted string.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.text[..self.at]
    }

    /// The domain as lower-case A-labels.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.text[self.at + 1..]
    }

    /// The whole address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether only a relay with SMTPUTF8 (RFC 6531) can take it.
    #[must_use]
    pub fn needs_smtputf8(&self) -> bool {
        !self.local().is_ascii()
    }

    /// The form under which the same mailbox is recognised again: the whole in lower case.
    #[must_use]
    pub fn normalized(&self) -> String {
        self.text.to_lowercase()
    }
}

impl FromStr for EmailAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.chars().any(char::is_control) {
            return Err(AddressError::Control);
        }
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::Syntax)?;
        if local.len() > LOCAL_OCTETS_MAX {
            return Err(AddressError::Long);
        }
        if !is_local_part(local) {
            return Err(if local.contains('@') { AddressError::Several } else { AddressError::Syntax });
        }
        let domain = domain_to_ascii(domain)?;
        if local.len() + 1 + domain.len() > ADDRESS_OCTETS_MAX {
            return Err(AddressError::Long);
        }
        Ok(Self { at: local.len(), text: format!("{local}@{domain}") })
    }
}

/// A domain as lower-case A-labels; refuses what is not a host name with letters, digits and hyphens.
pub fn domain_to_ascii(domain: &str) -> Result<String, AddressError> {
    let ascii = idna::domain_to_ascii_strict(domain).map_err(|_| AddressError::Domain)?;
    let labels_fit = !ascii.is_empty() && ascii.split('.').all(|label| !label.is_empty() && label.len() <= 63);
    if !labels_fit || ascii.len() > 253 || ascii.bytes().any(|b| !matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
    {
        return Err(AddressError::Domain);
    }
    // A name of digits and dots alone is an IPv4 address somebody forgot to bracket.
    if ascii.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return Err(AddressError::Domain);
    }
    Ok(ascii)
}

/// Dot-atom or quoted string (RFC 5321 section 4.1.2), with UTF-8 as RFC 6531 adds.
fn is_local_part(local: &str) -> bool {
    if let Some(inside) = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        let mut escaped = false;
        for c in inside.chars() {
            match (escaped, c) {
                (false, '\\') => escaped = true,
                (false, '"') => return false,
                _ => escaped = false,
            }
        }
        return !escaped && local.len() >= 2;
    }
    let atom = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || is_utf8_atom(c);
    !local.is_empty() && local.split('.').all(|part| !part.is_empty() && part.chars().all(atom))
}

/// Non-ASCII characters that may stand in a local part: no spaces, no invisible direction marks.
fn is_utf8_atom(c: char) -> bool {
    !c.is_ascii()
        && !c.is_whitespace()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{ffff}')
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for EmailAddress {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<EmailAddress> for String {
    fn from(address: EmailAddress) -> Self {
        address.text
    }
}

/// An address with the name shown beside it: `a@b` or `Name <a@b>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mailbox {
    /// The display name, unquoted; `None` when there is none.
    pub name: Option<String>,
    /// Where the mail goes.
    pub address: EmailAddress,
}

impl FromStr for Mailbox {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim_matches([' ', '\t']);
        if text.chars().any(char::is_control) {
            return Err(AddressError::Control);
        }
        let Some(before) = text.strip_suffix('>') else {
            return Ok(Self { name: None, address: bare(text)? });
        };
        let (name, address) = before.rsplit_once('<').ok_or(AddressError::Syntax)?;
        let name = unquote(name.trim())?;
        if name.chars().count() > NAME_CHARS_MAX {
            return Err(AddressError::Name);
        }
        Ok(Self { name: (!name.is_empty()).then_some(name), address: bare(address.trim())? })
    }
}

/// An address on its own; tells a list from a typing error.
fn bare(text: &str) -> Result<EmailAddress, AddressError> {
    let several = |c: char| c == ',' || c == ';';
    match text.parse() {
        Err(AddressError::Syntax | AddressError::Domain) if text.contains(several) && text.matches('@').count() > 1 => {
            Err(AddressError::Several)
        }
        other => other,
    }
}

/// A display name without its quotes; a name that holds an unquoted list or bracket is two addresses in disguise.
fn unquote(name: &str) -> Result<String, AddressError> {
    let Some(inside) = name.strip_prefix('"') else {
        return match name {
            plain if plain.contains(['<', '>', '"']) => Err(AddressError::Syntax),
            list if list.contains('@') && list.contains([',', ';']) => Err(AddressError::Several),
            plain => Ok(plain.to_owned()),
        };
    };
    let inside = inside.strip_suffix('"').ok_or(AddressError::Syntax)?;
    let mut out = String::with_capacity(inside.len());
    let mut characters = inside.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => out.push(characters.next().ok_or(AddressError::Syntax)?),
            '"' => return Err(AddressError::Syntax),
            other => out.push(other),
        }
    }
    Ok(out.trim().to_owned())
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => {
                write!(f, "\"{}\" <{}>", name.replace('\\', "\\\\").replace('"', "\\\""), self.address)
            }
            None => write!(f, "{}", self.address),
        }
    }
}

impl TryFrom<String> for Mailbox {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Mailbox> for String {
    fn from(mailbox: Mailbox) -> Self {
        mailbox.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn odd_addresses_that_are_valid_are_taken() {
        for (text, address) in [
            ("a@b", "a@b"),
            ("Ann@Example.COM", "Ann@example.com"),
            (" Ann <ann@example.com> ", "ann@example.com"),
            ("\"Lee, Ann\" <ann@example.com>", "ann@example.com"),
            ("Zoë <zoë@bücher.example>", "zoë@xn--bcher-kva.example"),
            ("<ann@example.com>", "ann@example.com"),
            ("\"a b\"@example.com", "\"a b\"@example.com"),
            ("\"a@b\"@example.com", "\"a@b\"@example.com"),
            ("o'hara+tag=1@example.com", "o'hara+tag=1@example.com"),
            ("ann@例え.テスト", "ann@xn--r8jz45g.xn--zckzah"),
        ] {
            assert_eq!(text.parse::<Mailbox>().unwrap().address.as_str(), address, "{text}");
        }
    }

    #[test]
    fn what_is_not_one_address_is_refused() {
        for text in [
            "",
            "@",
            "a",
            "a@",
            "@b",
            "a b@c.example",
            "a@b c",
            "a..b@c.example",
            ".a@c.example",
            "a.@c.example",
            "a@-",
            "a@b..c",
            "a@[127.0.0.1]",
            "a@127.0.0.1",
            "a@b.example, c@d.example",
            "a@b.example;c@d.example",
            "A <a@b.example",
            "A a@b.example>",
            "A <a@b.example>, B <b@b.example>",
            "a@b.example\r\nBcc: c@d.example",
            "a\0@b.example",
            "\"a@b.example",
            "\"a\"b\"@c.example",
            "a@b@c.example",
            "a@exa_mple.com",
            "a@b\u{202e}.example",
            "Name\r\nX: 1 <a@b.example>",
            "a@xn--\u{fffd}.example",
            "a@b.example>",
        ] {
            assert!(text.parse::<Mailbox>().is_err(), "{text:?}");
        }
        assert_eq!(format!("{}@b.example", "a".repeat(65)).parse::<Mailbox>(), Err(AddressError::Long));
        assert_eq!("a@b.example,c@d.example".parse::<Mailbox>(), Err(AddressError::Several));
    }

    proptest! {
        #[test]
        fn whatever_parses_is_written_and_read_the_same(text in "\\PC{0,40}(@\\PC{0,30})?") {
            if let Ok(mailbox) = text.parse::<Mailbox>() {
                prop_assert_eq!(mailbox.to_string().parse::<Mailbox>().unwrap(), mailbox);
            }
        }

        #[test]
        fn no_text_with_a_control_character_is_an_address(before in "[a-z]{1,5}", control in "[\\x00-\\x1f\\x7f]", after in "[a-z]{1,5}@x\\.example") {
            let text = format!("{before}{control}{after}");
            let parsed = text.parse::<EmailAddress>();
            prop_assert!(parsed.is_err());
        }
    }
}
