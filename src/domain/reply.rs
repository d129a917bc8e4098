//! What a relay answered, and what that means for the message: one total function.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An enhanced status code, `class.subject.detail` (RFC 3463).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String")]
pub struct EnhancedCode {
    /// 2 success, 4 persistent transient failure, 5 permanent failure.
    pub class: u8,
    /// What it is about.
    pub subject: u16,
    /// More exactly.
    pub detail: u16,
}

impl EnhancedCode {
    /// Reads a code from the beginning of a reply's text, `^[245]\.\d{1,3}\.\d{1,3}`, followed by a space or the end.
    #[must_use]
    pub fn leading(text: &str) -> Option<Self> {
        let word = text.split([' ', '\t']).next()?;
        let mut parts = word.split('.');
        let number = |part: Option<&str>| {
            let part = part?;
            let fits = (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            if fits { part.parse::<u16>().ok() } else { None }
        };
        let class = match parts.next()? {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return None,
        };
        let code = Self { class, subject: number(parts.next())?, detail: number(parts.next())? };
        parts.next().is_none().then_some(code)
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl From<EnhancedCode> for String {
    fn from(code: EnhancedCode) -> Self {
        code.to_string()
    }
}

/// Longest reply text kept, in bytes; a relay that says more is cut.
pub const REPLY_BYTES_MAX: usize = 2_000;

/// A relay's whole reply to one command. Its text may name the recipient: it belongs to the message, never to a log or leaf.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// The three-digit code.
    pub code: u16,
    /// The enhanced code at the beginning of the text, when there is one.
    pub enhanced: Option<EnhancedCode>,
    /// The text of all lines, joined by one space.
    pub text: String,
}

impl Reply {
    /// A reply from its code and its lines' texts.
    #[must_use]
    pub fn new(code: u16, mut text: String) -> Self {
        if text.len() > REPLY_BYTES_MAX {
            let end = (0..=REPLY_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
        }
        Self { code, enhanced: EnhancedCode::leading(&text), text }
    }

    /// The relay's own queue id, from texts like `2.0.0 Ok: queued as 4F2…` (Postfix), `Message accepted for delivery`
    /// with a leading id (Sendmail: `2.0.0 x1AB Message accepted…`), or `OK id=1abc-…` (Exim).
    #[must_use]
    pub fn queue_id(&self) -> Option<String> {
        let words: Vec<&str> = self.text.split_whitespace().collect();
        let after = |first: &str, second: &str| {
            words
                .windows(3)
                .find(|w| w[0].eq_ignore_ascii_case(first) && w[1].eq_ignore_ascii_case(second))
                .map(|w| w[2])
        };
        let sendmail = || match words.as_slice() {
            [_, id, message, accepted, ..]
                if message.eq_ignore_ascii_case("message") && accepted.eq_ignore_ascii_case("accepted") =>
            {
                Some(*id)
            }
            _ => None,
        };
        let id = after("queued", "as")
            .or_else(|| words.iter().find_map(|word| word.strip_prefix("id=")))
            .or_else(sendmail)?;
        let id = id.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let plain =
            !id.is_empty() && id.len() <= 128 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        plain.then(|| id.to_owned())
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text may hold the recipient.
        write!(f, "Reply({}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        f.write_str(")")
    }
}

/// What a reply to MAIL, RCPT, DATA or the final dot means for the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Taken; go on.
    Accepted,
    /// Not now: try again later.
    Transient,
    /// Never: the message ends.
    Permanent,
    /// The relay refuses *us* (authentication, TLS wanted): no message's fault, so none is spent or ended.
    RelayRefusesUs,
    /// Neither yes nor no, to the final dot: the relay may have it.
    Unclear,
}

/// What the answer to what was asked means. Total; temporary unless certainly permanent.
///
/// A 5yz is permanent unless its enhanced code says 4.y.z; a 4yz is transient whatever its enhanced code says, since
/// RFC 5321 section 4.2.1 gives the basic code the last word on trying again. Codes that speak of the dialogue rather
/// than of the mail (RFC 5321 500–504, RFC 4954 530–538) never end a message.
///
/// The relay refuses *us* only before it has heard of a recipient, or when it has taken one: the answer to RCPT may
/// always be about that recipient alone (Postfix says `454 4.7.1 Relay access denied` there), and a mail that is given
/// back unspent over its own recipient would be tried for ever and keep the relay's breaker open for all others.
#[must_use]
pub fn meaning(reply: &Reply, asked: Asked) -> Meaning {
    match (reply.code, asked) {
        // Any 2yz is yes, by its first digit (RFC 5321 section 4.2).
        (200..=299, Asked::Mail | Asked::Rcpt | Asked::Dot) | (354, Asked::Data) => Meaning::Accepted,
        (530 | 534 | 535 | 538, Asked::Mail | Asked::Data) => Meaning::RelayRefusesUs,
        (500 | 502 | 503 | 504 | 530 | 534 | 535 | 538, _) => Meaning::Transient,
        (500..=599, _) if reply.enhanced.is_none_or(|enhanced| enhanced.class != 4) => Meaning::Permanent,
        (0..=399 | 600.., Asked::Dot) => Meaning::Unclear,
        // 4yz, 5yz with 4.y.z, and whatever no relay should say here (1yz, 2yz to DATA, 3yz to RCPT, 6yz …).
        _ => Meaning::Transient,
    }
}

/// What the relay was asked, and which reply says yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// MAIL: 2yz.
    Mail,
    /// RCPT: the same.
    Rcpt,
    /// DATA: 354.
    Data,
    /// The final dot: as MAIL.
    Dot,
}

/// A reply that asks us to go slower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowDown {
    /// Whom it is about.
    pub scope: Scope,
    /// How long it asks us to wait, when it says so.
    pub wait: Option<Duration>,
}

/// Whom a request to go slower is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The relay itself, and so every mail.
    Relay,
    /// The recipient's domain.
    Domain,
}

/// Words by which relays say that we are too much for them, whoever the recipient is.
const RELAY_WORDS: [&str; 7] = [
    "too many connections",
    "too many concurrent",
    "too many sessions",
    "connection rate",
    "sending rate",
    "throttling failure",
    "server busy",
];
/// Words by which they say that it is too much of something.
const WORDS: [&str; 7] = ["too many", "too much", "too fast", "too quickly", "rate limit", "throttl", "rate exceeded"];

/// Whether a reply asks us to go slower. Total.
///
/// A request is a 4yz, since a 5yz ends its mail. 421 is the relay's own word about itself (RFC 5321 section 3.8). x.7.z
/// is policy (RFC 3463 section 3.8), which is how providers throttle: 4.7.0, 4.7.1, 4.7.28. What is said before a
/// recipient is named is about the relay; afterwards it is about the domain, unless the words say otherwise. x.2.z is
/// about one mailbox, and a busy mailbox is no reason to slow anybody else, whatever the words.
#[must_use]
pub fn slow_down(reply: &Reply, asked: Asked) -> Option<SlowDown> {
    if !(400..500).contains(&reply.code) {
        return None;
    }
    let text = reply.text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let subject = reply.enhanced.map(|enhanced| enhanced.subject);
    if subject == Some(2) && reply.code != 421 {
        return None;
    }
    let wait = wait_named(&text);
    let before_recipient = asked == Asked::Mail;
    let scope = if reply.code == 421 || says(&RELAY_WORDS) {
        Scope::Relay
    } else if subject == Some(7) || says(&WORDS) || wait.is_some() {
        if before_recipient { Scope::Relay } else { Scope::Domain }
    } else if before_recipient && matches!(subject, Some(3 | 4)) {
        // The relay's system or network: full, busy, congested.
        Scope::Relay
    } else {
        return None;
    };
    Some(SlowDown { scope, wait })
}

/// The time in "try again in 5 minutes", "retry after 300 seconds", "come back in 00:05:00"; of lower-case text.
fn wait_named(text: &str) -> Option<Duration> {
    let words: Vec<&str> = text.split_whitespace().map(|word| word.trim_matches([',', '.', '(', ')', ';'])).collect();
    let speaks = |word: &&str| matches!(*word, "again" | "retry" | "wait" | "back" | "later" | "delay" | "delayed");
    if !words.iter().any(speaks) {
        return None;
    }
    let named = |at: usize| {
        let before = words.get(at.checked_sub(1)?)?;
        if !matches!(*before, "in" | "after" | "for" | "wait" | "least" | "retry") {
            return None;
        }
        length(words[at], words.get(at + 1).copied().unwrap_or_default())
    };
    (0..words.len()).find_map(named)
}

/// A length of time: `5` and `minutes`, `300s`, `00:05:00`.
fn length(number: &str, unit: &str) -> Option<Duration> {
    if number.contains(':') {
        let seconds = number
            .split(':')
            .try_fold(0_u64, |seconds, part| seconds.checked_mul(60)?.checked_add(part.parse::<u64>().ok()?));
        return seconds.map(Duration::from_secs);
    }
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    let (digits, attached) = number.split_at(end);
    let count: u64 = digits.parse().ok()?;
    let unit = if attached.is_empty() { unit } else { attached };
    let seconds = match unit {
        "s" | "sec" | "secs" | "second" | "seconds" | "second(s" => 1,
        "m" | "min" | "mins" | "minute" | "minutes" | "minute(s" => 60,
        "h" | "hour" | "hours" | "hour(s" => 3_600,
        _ => return None,
    };
    count.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16, text: &str) -> Reply {
        Reply::new(code, text.to_owned())
    }

    const ASKED: [Asked; 4] = [Asked::Mail, Asked::Rcpt, Asked::Data, Asked::Dot];

    #[test]
    fn every_code_means_something_and_only_certain_refusals_are_permanent() {
        for (code, asked) in (0..=999).flat_map(|code| ASKED.map(|asked| (code, asked))) {
            let meant = meaning(&reply(code, "x"), asked);
            assert_eq!(
                meant == Meaning::Permanent,
                (500..600).contains(&code) && ![500, 502, 503, 504, 530, 534, 535, 538].contains(&code),
                "{code} to {asked:?}"
            );
            let yes = if asked == Asked::Data { 354..=354 } else { 200..=299 };
            assert_eq!(meant == Meaning::Accepted, yes.contains(&code), "{code} to {asked:?}");
            let unclear = asked == Asked::Dot && !matches!(code, 200..=299 | 400..=599);
            assert_eq!(meant == Meaning::Unclear, unclear, "{code} to {asked:?}");
        }
    }

    #[test]
    fn the_relay_refuses_us_only_where_no_recipient_can_be_meant() {
        for (code, asked) in (0..=999).flat_map(|code| ASKED.map(|asked| (code, asked))) {
            let refuses_us = [530, 534, 535, 538].contains(&code) && matches!(asked, Asked::Mail | Asked::Data);
            let meant = meaning(&reply(code, "5.7.0 x"), asked);
            assert_eq!(meant == Meaning::RelayRefusesUs, refuses_us, "{code} to {asked:?}");
        }
        for asked in ASKED {
            assert_eq!(meaning(&reply(454, "4.7.1 Relay access denied"), asked), Meaning::Transient);
            assert_eq!(meaning(&reply(432, "4.7.12 a password transition is needed"), asked), Meaning::Transient);
        }
        assert_eq!(meaning(&reply(530, "5.7.0 Authentication required"), Asked::Rcpt), Meaning::Transient);
    }

    #[test]
    fn the_enhanced_code_softens_but_never_hardens() {
        assert_eq!(meaning(&reply(550, "4.2.2 full"), Asked::Rcpt), Meaning::Transient);
        assert_eq!(meaning(&reply(550, "5.1.1 no"), Asked::Rcpt), Meaning::Permanent);
        assert_eq!(meaning(&reply(450, "5.1.1 soft bounce"), Asked::Rcpt), Meaning::Transient);
        assert_eq!(
            meaning(&reply(530, "5.7.0 Must issue a STARTTLS command first"), Asked::Mail),
            Meaning::RelayRefusesUs
        );
        assert_eq!(meaning(&reply(354, "go"), Asked::Rcpt), Meaning::Transient);
        assert_eq!(meaning(&reply(250, "ok"), Asked::Data), Meaning::Transient);
        assert_eq!(meaning(&reply(354, "go"), Asked::Data), Meaning::Accepted);
    }

    #[test]
    fn the_relays_queue_id_is_found_in_the_usual_texts() {
        for (text, id) in [
            ("2.0.0 Ok: queued as 4F2A91C2", Some("4F2A91C2")),
            ("2.0.0 Ok: queued as 4bXyz1QrstzAbc", Some("4bXyz1QrstzAbc")),
            ("OK id=1rXyZa-0001Ab-2c", Some("1rXyZa-0001Ab-2c")),
            ("2.0.0 x1ABcd12 Message accepted for delivery", Some("x1ABcd12")),
            ("2.6.0 <abc@x> [InternalId=123] Queued mail for delivery", None),
            ("Ok", None),
        ] {
            assert_eq!(reply(250, text).queue_id().as_deref(), id, "{text}");
        }
    }

    #[test]
    fn an_enhanced_code_is_read_only_from_the_beginning() {
        assert_eq!(EnhancedCode::leading("5.1.1 x").map(|c| c.to_string()).as_deref(), Some("5.1.1"));
        for text in ["3.1.1 x", "5.1 x", "5.1.1.1 x", "5.1111.1 x", "x 5.1.1", "5..1 x", ""] {
            assert_eq!(EnhancedCode::leading(text), None, "{text}");
        }
    }

    #[test]
    fn a_reply_asks_to_go_slower_by_its_code_its_class_or_its_words() {
        use Asked::{Data, Dot, Mail, Rcpt};
        let relay = |wait| Some(SlowDown { scope: Scope::Relay, wait });
        let domain = |wait| Some(SlowDown { scope: Scope::Domain, wait });
        let seconds = |count| Some(Duration::from_secs(count));
        for (asked, code, text, meant) in [
            (Mail, 421, "4.3.2 shutting down", relay(None)),
            (Rcpt, 421, "4.7.28 unusual rate of mail", relay(None)),
            (Dot, 421, "4.2.1 whatever its enhanced code", relay(None)),
            (Mail, 421, "Try again in 5 minutes", relay(seconds(300))),
            (Mail, 450, "4.7.1 Error: too much mail from 192.0.2.1", relay(None)),
            (Mail, 451, "4.7.0 Temporary rate limit, please wait 90 seconds", relay(seconds(90))),
            (Mail, 452, "4.3.1 Insufficient system storage", relay(None)),
            (Mail, 451, "4.1.8 Sender's domain not found", None),
            (Mail, 450, "no", None),
            (Rcpt, 450, "4.7.1 Greylisted, come back in 00:05:00", domain(seconds(300))),
            (Rcpt, 450, "4.7.0 x", domain(None)),
            (Dot, 421, "4.7.0 x", relay(None)),
            (Dot, 450, "4.7.28 x", domain(None)),
            (Data, 454, "Throttling failure: Maximum sending rate exceeded.", relay(None)),
            (Rcpt, 451, "Too many connections from you", relay(None)),
            (Rcpt, 452, "4.5.3 Too many recipients", domain(None)),
            (Rcpt, 451, "Try again in 2h", domain(seconds(7_200))),
            (Rcpt, 451, "please retry after 300s", domain(seconds(300))),
            (Rcpt, 451, "Try again later", None),
            (Rcpt, 450, "4.2.0 Mailbox busy, try again in 5 minutes", None),
            (Rcpt, 450, "4.2.1 is receiving mail too quickly", None),
            (Rcpt, 452, "4.2.2 Mailbox full", None),
            (Rcpt, 450, "Mailbox busy", None),
            (Dot, 451, "4.3.0 Error: queue file write error", None),
            (Rcpt, 550, "5.7.1 too many", None),
            (Dot, 250, "2.0.0 Ok, too many", None),
        ] {
            assert_eq!(slow_down(&reply(code, text), asked), meant, "{code} {text}");
        }
        for (code, asked) in (0..=999).flat_map(|code| ASKED.map(|asked| (code, asked))) {
            assert_eq!(slow_down(&reply(code, "too many"), asked).is_some(), (400..500).contains(&code), "{code}");
        }
    }

    #[test]
    fn no_text_makes_a_wait_that_it_does_not_name() {
        for text in ["", "in", "again in", "again in 5", "again in x minutes", "5 minutes", "wait", "in 99:x:1 again"] {
            assert_eq!(wait_named(text), None, "{text}");
        }
        assert_eq!(wait_named("try again in 99999999999999999999 hours"), None);
        assert_eq!(wait_named("again in 18446744073709551615 hours"), None);
    }
}
