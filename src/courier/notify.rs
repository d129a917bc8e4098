//! Which reports a relay is asked for on a mail (DSN, RFC 3461).

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::Deserialize;

use crate::domain::address::EmailAddress;

/// `notify` of a relay: words of `success`, `failure` and `delay`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Notify {
    success: bool,
    failure: bool,
    delay: bool,
}

impl FromStr for Notify {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut notify = Self { success: false, failure: false, delay: false };
        for word in text.split(',').map(str::trim) {
            let wanted = match word {
                "success" => &mut notify.success,
                "failure" => &mut notify.failure,
                "delay" => &mut notify.delay,
                _ => return Err("write success, failure or delay, or several of them: \"failure,delay\"".to_owned()),
            };
            if std::mem::replace(wanted, true) {
                return Err(format!("{word} stands there twice"));
            }
        }
        Ok(notify)
    }
}

impl TryFrom<String> for Notify {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// As after NOTIFY= (RFC 3461 section 4.1).
impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [(self.success, "SUCCESS"), (self.failure, "FAILURE"), (self.delay, "DELAY")];
        let mut wanted = words.into_iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, word)| word);
        f.write_str(wanted.next().unwrap_or_default())?;
        wanted.try_for_each(|word| write!(f, ",{word}"))
    }
}

/// The parameters of RCPT that ask for reports. A local part that is not ASCII goes without ORCPT: it would need a type of
/// its own (RFC 6533), and the report finds its mail without it.
pub(super) fn rcpt_parameters(notify: Notify, recipient: &EmailAddress) -> String {
    let mut parameters = format!(" NOTIFY={notify}");
    if !recipient.needs_smtputf8() {
        parameters.push_str(" ORCPT=rfc822;");
        parameters.push_str(&xtext(recipient.as_str()));
    }
    parameters
}

/// Text as xtext (RFC 3461 section 4).
fn xtext(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut written, byte| {
        if byte.is_ascii_graphic() && !matches!(byte, b'+' | b'=') {
            written.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            let _ = write!(written, "+{byte:02X}");
        }
        written
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    #[test]
    fn words_are_read_in_any_order_and_written_in_one() {
        for (text, written) in [
            ("failure", "FAILURE"),
            ("delay, failure", "FAILURE,DELAY"),
            ("delay,success,failure", "SUCCESS,FAILURE,DELAY"),
        ] {
            assert_eq!(text.parse::<Notify>().unwrap().to_string(), written);
        }
        for wrong in ["", "never", "failure,", "failure,failure", "FAILURE"] {
            assert!(wrong.parse::<Notify>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_recipient_is_written_so_that_it_ends_no_parameter() {
        let failure = "failure".parse().unwrap();
        let parameters = |address: &str| rcpt_parameters(failure, &address.parse().unwrap());
        assert_eq!(parameters("ann+x=1@b.example"), " NOTIFY=FAILURE ORCPT=rfc822;ann+2Bx+3D1@b.example");
        assert_eq!(parameters("\"a b\"@b.example"), " NOTIFY=FAILURE ORCPT=rfc822;\"a+20b\"@b.example");
        assert_eq!(parameters("jürgen@b.example"), " NOTIFY=FAILURE");
    }
}
