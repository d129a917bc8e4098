//! Misbehaviour by name: what the local part of an address asks the capture server to do wrong.
//!
//! | local part | what happens |
//! |---|---|
//! | `temperror` `permerror` | 451 4.3.0, 550 5.1.1 at RCPT |
//! | `450` `550` `552` … | that code at RCPT; 421 also closes the connection |
//! | `rcpt-450` `data-550` `dot-451` | that code at RCPT, at DATA, after the final dot |
//! | `mail-421` | as a sender: that code at MAIL. As a recipient: at RCPT, for nobody is known before it |
//! | `slow` | the mail is taken, the reply to the dot comes late |
//! | `silent` | RCPT is never answered |
//! | `dropdata` | closes after the dot, without taking the mail |
//! | `dropreply` | takes the mail, closes instead of answering 250 |
//!
//! Any domain will do, any case, and `+tag` is ignored: `450+a@…` and `450+b@…` are two recipients of one kind.

use super::reply::Reply;

/// What goes wrong for one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mischief {
    Refuse { phase: Phase, code: u16 },
    Slow,
    Silent,
    DropData,
    DropReply,
}

/// Where in the transaction a refusal is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Mail,
    Rcpt,
    Data,
    Dot,
}

impl Mischief {
    /// What the name of `address` asks for; `None` for a well-behaved one.
    pub(super) fn of(address: &str) -> Option<Self> {
        let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
        let name = local.split('+').next().unwrap_or_default().to_ascii_lowercase();
        match name.as_str() {
            "temperror" => Some(Self::Refuse { phase: Phase::Rcpt, code: 451 }),
            "permerror" => Some(Self::Refuse { phase: Phase::Rcpt, code: 550 }),
            "slow" => Some(Self::Slow),
            "silent" => Some(Self::Silent),
            "dropdata" => Some(Self::DropData),
            "dropreply" => Some(Self::DropReply),
            name => {
                let (phase, code) = match name.split_once('-') {
                    None => (Phase::Rcpt, name),
                    Some(("mail", code)) => (Phase::Mail, code),
                    Some(("rcpt", code)) => (Phase::Rcpt, code),
                    Some(("data", code)) => (Phase::Data, code),
                    Some(("dot", code)) => (Phase::Dot, code),
                    Some(_) => return None,
                };
                Some(Self::Refuse { phase, code: refusal_code(code)? })
            }
        }
    }

    /// The code to refuse MAIL with when this is the sender's.
    pub(super) fn at_mail(self) -> Option<u16> {
        self.refusal(&[Phase::Mail])
    }

    /// The code to refuse RCPT with when this is the recipient's.
    pub(super) fn at_rcpt(self) -> Option<u16> {
        self.refusal(&[Phase::Mail, Phase::Rcpt])
    }

    /// The code to refuse DATA with.
    pub(super) fn at_data(self) -> Option<u16> {
        self.refusal(&[Phase::Data])
    }

    /// The code to answer the final dot with.
    pub(super) fn at_dot(self) -> Option<u16> {
        self.refusal(&[Phase::Dot])
    }

    /// How the pages call it.
    pub(super) fn label(self) -> String {
        match self {
            Self::Refuse { phase: Phase::Mail, code } => format!("mail-{code}"),
            Self::Refuse { phase: Phase::Rcpt, code } => format!("rcpt-{code}"),
            Self::Refuse { phase: Phase::Data, code } => format!("data-{code}"),
            Self::Refuse { phase: Phase::Dot, code } => format!("dot-{code}"),
            Self::Slow => "slow".to_owned(),
            Self::Silent => "silent".to_owned(),
            Self::DropData => "dropdata".to_owned(),
            Self::DropReply => "dropreply".to_owned(),
        }
    }

    fn refusal(self, phases: &[Phase]) -> Option<u16> {
        match self {
            Self::Refuse { phase, code } if phases.contains(&phase) => Some(code),
            Self::Refuse { .. } | Self::Slow | Self::Silent | Self::DropData | Self::DropReply => None,
        }
    }
}

/// Three digits, 4yz or 5yz.
fn refusal_code(text: &str) -> Option<u16> {
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|code| digits && (400..600).contains(code))
}

/// A refusal that names the recipient, as Postfix's do.
pub(super) fn recipient_refused(code: u16, recipient: &str) -> Reply {
    let (enhanced, reason) = reason(code);
    Reply::new(code, enhanced, format!("<{recipient}>: Recipient address rejected: {reason}"))
}

/// A refusal of the sender.
pub(super) fn sender_refused(code: u16, sender: &str) -> Reply {
    let (enhanced, reason) = match code {
        550 => ("5.1.8", "Sender refused"),
        code => reason(code),
    };
    Reply::new(code, enhanced, format!("<{sender}>: Sender address rejected: {reason}"))
}

/// A refusal at DATA or after the dot; Postfix names the recipient there too when there is one only.
pub(super) fn mail_refused(code: u16, recipient: &str) -> Reply {
    let (enhanced, reason) = match code {
        550 | 554 => ("5.7.1", "Message content rejected"),
        552 => ("5.3.4", "Message size exceeds fixed limit"),
        code => reason(code),
    };
    Reply::new(code, enhanced, format!("<{recipient}>: Data command rejected: {reason}"))
}

fn reason(code: u16) -> (&'static str, &'static str) {
    match code {
        421 => ("4.3.2", "Service not available, closing transmission channel"),
        450 => ("4.2.0", "Mailbox busy, try again later"),
        451 => ("4.3.0", "Temporary lookup failure"),
        452 => ("4.2.2", "Mailbox full"),
        454 => ("4.7.0", "Temporary authentication failure"),
        550 => ("5.1.1", "User unknown in virtual mailbox table"),
        551 => ("5.1.6", "User has moved"),
        552 => ("5.2.2", "Mailbox full"),
        553 => ("5.1.3", "Mailbox name not allowed"),
        554 => ("5.7.1", "Access denied"),
        400..=499 => ("4.0.0", "Temporary failure"),
        _ => ("5.0.0", "Permanent failure"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ask_for_mischief_in_any_domain_case_and_tag() {
        let refuse = |phase, code| Some(Mischief::Refuse { phase, code });
        let table = [
            ("temperror@a.example", refuse(Phase::Rcpt, 451)),
            ("PermError+17@b.example", refuse(Phase::Rcpt, 550)),
            ("421@x", refuse(Phase::Rcpt, 421)),
            ("552+a+b@x", refuse(Phase::Rcpt, 552)),
            ("rcpt-450@x", refuse(Phase::Rcpt, 450)),
            ("data-550+1@x", refuse(Phase::Data, 550)),
            ("dot-451@x", refuse(Phase::Dot, 451)),
            ("mail-421@x", refuse(Phase::Mail, 421)),
            ("slow+17@x", Some(Mischief::Slow)),
            ("silent@x", Some(Mischief::Silent)),
            ("dropdata@x", Some(Mischief::DropData)),
            ("dropreply@x", Some(Mischief::DropReply)),
        ];
        for (address, mischief) in table {
            assert_eq!(Mischief::of(address), mischief, "{address}");
        }
    }

    #[test]
    fn other_names_are_well_behaved() {
        for address in
            ["ada@x", "250@x", "600@x", "4500@x", "+45@x", "45@x", "dot-x@x", "x-450@x", "slowly@x", "@x", ""]
        {
            assert_eq!(Mischief::of(address), None, "{address}");
        }
    }

    #[test]
    fn a_refusal_names_the_recipient_as_postfix_does() {
        let reply = recipient_refused(550, "permerror@x.example").to_string();
        let wanted =
            "550 5.1.1 <permerror@x.example>: Recipient address rejected: User unknown in virtual mailbox table";
        assert_eq!(reply, wanted);
        assert_eq!(recipient_refused(451, "temperror@x.example").enhanced, "4.3.0");
    }

    #[test]
    fn every_refusal_has_an_enhanced_code_of_its_class() {
        for code in 400..600 {
            let class = if code < 500 { "4." } else { "5." };
            for reply in [recipient_refused(code, "a@b"), sender_refused(code, "a@b"), mail_refused(code, "a@b")] {
                assert!(reply.enhanced.starts_with(class), "{reply}");
            }
        }
    }
}
