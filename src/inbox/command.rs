//! Parses one command line of an SMTP client: strict in what it means, lenient in case and blanks.

use serde::Serialize;

use super::reply::Reply;

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Helo(String),
    Ehlo(String),
    Mail { sender: String, parameters: MailParameters },
    Rcpt { recipient: String },
    Data,
    Rset,
    Noop,
    Quit,
    Vrfy,
    Help,
    StartTls,
    Auth { mechanism: String, initial: Option<String> },
    Unknown,
}

/// The parameters that a client gave with MAIL FROM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MailParameters {
    /// `SIZE=` in octets (RFC 1870).
    pub size: Option<u64>,
    /// `BODY=`, in upper case: `7BIT` or `8BITMIME` (RFC 6152).
    pub body: Option<String>,
    /// Whether `SMTPUTF8` was asked for (RFC 6531).
    pub smtputf8: bool,
}

/// Which verb a line starts with, also when the rest of the line is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Mail,
    Rcpt,
    Data,
    Rset,
    Unknown,
    Other,
}

const UNKNOWN: (&str, &str) = ("5.5.2", "Error: command not recognized");

impl Verb {
    /// The verb of a line, for counting.
    pub(super) fn of(line: &[u8]) -> Self {
        let word = line.split(|byte| matches!(byte, b' ' | b'\t')).next().unwrap_or_default();
        match word.to_ascii_uppercase().as_slice() {
            b"MAIL" => Self::Mail,
            b"RCPT" => Self::Rcpt,
            b"DATA" => Self::Data,
            b"RSET" => Self::Rset,
            b"HELO" | b"EHLO" | b"NOOP" | b"QUIT" | b"VRFY" | b"HELP" | b"STARTTLS" | b"AUTH" => Self::Other,
            _ => Self::Unknown,
        }
    }
}

/// Reads one line without its line end; a refusal is the reply to give.
pub(super) fn parse(line: &[u8]) -> Result<Command, Reply> {
    let Ok(line) = std::str::from_utf8(line) else {
        return Err(Reply::new(500, "5.5.2", "Error: bad UTF-8 syntax"));
    };
    let line = line.trim_end_matches([' ', '\t']);
    let (verb, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let rest = rest.trim_start_matches([' ', '\t']);
    match verb.to_ascii_uppercase().as_str() {
        "HELO" => Ok(Command::Helo(name(rest)?)),
        "EHLO" => Ok(Command::Ehlo(name(rest)?)),
        "MAIL" => mail(rest),
        "RCPT" => rcpt(rest),
        "DATA" => bare(rest, Command::Data),
        "RSET" => bare(rest, Command::Rset),
        "QUIT" => bare(rest, Command::Quit),
        "STARTTLS" => bare(rest, Command::StartTls),
        "NOOP" => Ok(Command::Noop),
        "VRFY" => Ok(Command::Vrfy),
        "HELP" => Ok(Command::Help),
        "AUTH" => auth(rest),
        _ => Ok(Command::Unknown),
    }
}

/// The reply to a command that nobody knows.
pub(super) fn unknown() -> Reply {
    Reply::new(500, UNKNOWN.0, UNKNOWN.1)
}

fn bare(rest: &str, command: Command) -> Result<Command, Reply> {
    if rest.is_empty() { Ok(command) } else { Err(Reply::new(501, "5.5.4", "Syntax: no parameters are allowed")) }
}

fn name(rest: &str) -> Result<String, Reply> {
    if rest.is_empty() || rest.contains(|letter: char| letter.is_control() || letter == ' ') {
        return Err(Reply::new(501, "5.5.4", "Syntax: EHLO hostname"));
    }
    Ok(rest.to_owned())
}

fn auth(rest: &str) -> Result<Command, Reply> {
    let mut words = rest.split_ascii_whitespace();
    let (Some(mechanism), initial, None) = (words.next(), words.next(), words.next()) else {
        return Err(Reply::new(501, "5.5.4", "Syntax: AUTH mechanism"));
    };
    Ok(Command::Auth { mechanism: mechanism.to_ascii_uppercase(), initial: initial.map(str::to_owned) })
}

fn mail(rest: &str) -> Result<Command, Reply> {
    let Some(path) = after_keyword(rest, "FROM:") else {
        return Err(Reply::new(501, "5.5.4", "Syntax: MAIL FROM:<address>"));
    };
    let Some((sender, rest)) = bracketed(path) else {
        return Err(Reply::new(501, "5.1.7", "Bad sender address syntax"));
    };
    let mut parameters = MailParameters::default();
    for word in rest.split_ascii_whitespace() {
        let (keyword, value) = word.split_once('=').unwrap_or((word, ""));
        match (keyword.to_ascii_uppercase().as_str(), value) {
            ("SIZE", value) => {
                let size = value.parse().map_err(|_| Reply::new(501, "5.5.4", "Bad message size syntax"))?;
                parameters.size = Some(size);
            }
            ("BODY", value) if value.eq_ignore_ascii_case("7BIT") || value.eq_ignore_ascii_case("8BITMIME") => {
                parameters.body = Some(value.to_ascii_uppercase());
            }
            ("SMTPUTF8", "") => parameters.smtputf8 = true,
            // RFC 4954 section 5: an identity passed on; this server has no use for it.
            ("AUTH", _) => {}
            _ => return Err(Reply::new(555, "5.5.4", "Unsupported option")),
        }
    }
    if !sender.is_empty() && !is_mailbox(sender) {
        return Err(Reply::new(501, "5.1.7", "Bad sender address syntax"));
    }
    if !sender.is_ascii() && !parameters.smtputf8 {
        return Err(Reply::new(553, "5.6.7", "SMTPUTF8 is required for a non-ASCII sender"));
    }
    Ok(Command::Mail { sender: sender.to_owned(), parameters })
}

fn rcpt(rest: &str) -> Result<Command, Reply> {
    let Some(path) = after_keyword(rest, "TO:") else {
        return Err(Reply::new(501, "5.5.4", "Syntax: RCPT TO:<address>"));
    };
    let Some((recipient, rest)) = bracketed(path).filter(|(recipient, _)| is_mailbox(recipient)) else {
        return Err(Reply::new(501, "5.1.3", "Bad recipient address syntax"));
    };
    if !rest.trim().is_empty() {
        return Err(Reply::new(555, "5.5.4", "Unsupported option"));
    }
    Ok(Command::Rcpt { recipient: recipient.to_owned() })
}

fn after_keyword<'a>(rest: &'a str, keyword: &str) -> Option<&'a str> {
    let head = rest.get(..keyword.len())?;
    head.eq_ignore_ascii_case(keyword).then(|| rest[keyword.len()..].trim_start_matches([' ', '\t']))
}

/// Splits `<path> rest`; a `>` inside a quoted local part does not end the path.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('<')?;
    let mut quoted = false;
    let mut escaped = false;
    for (at, letter) in inner.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => {
                let rest = &inner[at + 1..];
                let separate = rest.is_empty() || rest.starts_with([' ', '\t']);
                return separate.then_some((&inner[..at], rest));
            }
            _ => {}
        }
    }
    None
}

/// Local part, `@`, domain; no blanks outside quotes, no control characters anywhere, lengths of RFC 5321 section 4.5.3.
fn is_mailbox(address: &str) -> bool {
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    !local.is_empty()
        && !domain.is_empty()
        && address.len() <= 320
        && !address.contains(char::is_control)
        && !domain.contains([' ', '<', '>', '"'])
        && (quoted || !local.contains([' ', '<', '>', '"', '@', ',']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_in_any_case() {
        let mail = parse(b"mAiL fRoM:<A@b.example> size=12 body=8bitmime SmtpUtf8");
        let parameters = MailParameters { size: Some(12), body: Some("8BITMIME".into()), smtputf8: true };
        assert_eq!(mail, Ok(Command::Mail { sender: "A@b.example".into(), parameters }));
        assert_eq!(parse(b"rcpt to: <c@d.example>"), Ok(Command::Rcpt { recipient: "c@d.example".into() }));
        assert_eq!(parse(b"data  "), Ok(Command::Data));
        assert_eq!(parse(b"ehlo x"), Ok(Command::Ehlo("x".into())));
    }

    #[test]
    fn an_empty_sender_is_a_bounce() {
        let parameters = MailParameters::default();
        assert_eq!(parse(b"MAIL FROM:<>"), Ok(Command::Mail { sender: String::new(), parameters }));
    }

    #[test]
    fn a_quoted_local_part_may_hold_an_angle_bracket() {
        assert_eq!(
            parse(br#"RCPT TO:<"a > b"@d.example>"#),
            Ok(Command::Rcpt { recipient: r#""a > b"@d.example"#.into() })
        );
    }

    #[test]
    fn bad_paths_and_parameters_are_refused_with_their_code() {
        let refused: &[(&[u8], u16)] = &[
            (b"MAIL TO:<a@b>", 501),
            (b"MAIL FROM:a@b", 501),
            (b"MAIL FROM:<a@b>SIZE=1", 501),
            (b"MAIL FROM:<a@b> SIZE=x", 501),
            (b"MAIL FROM:<a@b> BODY=BINARYMIME", 555),
            (b"MAIL FROM:<a@b> RET=FULL", 555),
            ("MAIL FROM:<é@b>".as_bytes(), 553),
            (b"RCPT TO:<>", 501),
            (b"RCPT TO:<a>", 501),
            (b"RCPT TO:<a b@c>", 501),
            (b"RCPT TO:<a\r@c>", 501),
            (b"RCPT TO:<a@c> NOTIFY=NEVER", 555),
            (b"RCPT", 501),
            (b"DATA now", 501),
            (b"EHLO", 501),
            (b"NOOP \xff", 500),
        ];
        for (line, code) in refused {
            let reply = parse(line).map_err(|reply| reply.code);
            assert_eq!(reply, Err(*code), "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn an_unknown_verb_is_unknown_and_counted_so() {
        assert_eq!(parse(b"X-EVIL"), Ok(Command::Unknown));
        assert_eq!(Verb::of(b"X-EVIL"), Verb::Unknown);
        assert_eq!(Verb::of(b"mail nonsense"), Verb::Mail);
    }
}
