//! What a relay said it can do: the lines of its answer to EHLO, whatever their case.

use super::settings::AuthMechanism;

/// What a relay offers (RFC 5321 section 4.1.1.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an extension that a relay offers or does not")]
pub struct Capabilities {
    /// The largest mail in bytes it takes; `None` when it names no limit (RFC 1870).
    pub size: Option<u64>,
    /// Whether it knows the SIZE parameter at all.
    pub size_declared: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// The mechanisms of AUTH (RFC 4954) that we know too.
    pub auth: Vec<AuthMechanism>,
    /// How many mails it takes in one session (LIMITS MAILMAX, RFC 9422).
    pub mails_max: Option<u32>,
}

impl Capabilities {
    /// Reads the lines of the answer to EHLO; the first is the relay's name.
    pub(super) fn read(lines: &[String]) -> Self {
        let mut found = Self::default();
        for line in lines.iter().skip(1) {
            // Some relays still write `AUTH=PLAIN` for clients of the last century.
            let line = line.replacen('=', " ", usize::from(line.len() > 4 && line.as_bytes()[4] == b'='));
            let mut words = line.split_ascii_whitespace();
            let Some(keyword) = words.next() else { continue };
            match keyword.to_ascii_uppercase().as_str() {
                "SIZE" => {
                    found.size_declared = true;
                    found.size = words.next().and_then(|word| word.parse().ok()).filter(|size| *size > 0);
                }
                "8BITMIME" => found.eight_bit_mime = true,
                "SMTPUTF8" => found.smtputf8 = true,
                "PIPELINING" => found.pipelining = true,
                "STARTTLS" => found.starttls = true,
                "DSN" => found.dsn = true,
                "AUTH" => found.auth.extend(words.filter_map(AuthMechanism::named)),
                "LIMITS" => found.mails_max = words.find_map(mails_max).or(found.mails_max),
                _ => {}
            }
        }
        found
    }
}

fn mails_max(word: &str) -> Option<u32> {
    let (name, value) = word.split_once('=')?;
    if name.eq_ignore_ascii_case("MAILMAX") { value.parse().ok().filter(|count| *count > 0) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Capabilities {
        Capabilities::read(&text.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn capabilities_are_read_whatever_their_case() {
        let expected = Capabilities {
            size: Some(35_882_577),
            size_declared: true,
            eight_bit_mime: true,
            smtputf8: true,
            pipelining: true,
            starttls: true,
            dsn: true,
            auth: vec![AuthMechanism::Login, AuthMechanism::Plain, AuthMechanism::Xoauth2],
            mails_max: Some(10),
        };
        let text = "PIPELINING says mx\npipelining\nSize 35882577\n8BitMime\nsmtpUTF8\nStartTLS\nDsn\nauth cram-md5 login Plain XOAUTH2\nLIMITS RCPTMAX=5 MAILMAX=10";
        assert_eq!(read(text), expected);
    }

    #[test]
    fn a_relay_that_offers_nothing_offers_nothing() {
        assert_eq!(read("PIPELINING"), Capabilities::default());
        assert_eq!(read(""), Capabilities::default());
        assert_eq!(read("mx\n\nX-ODD=1\nLIMITS MAILMAX=0\nSIZE 0").size, None);
        assert!(read("mx\nSIZE").size_declared);
        assert_eq!(read("mx\nAUTH=PLAIN LOGIN").auth, [AuthMechanism::Plain, AuthMechanism::Login]);
    }
}
