//! Reports that come back on a mail: what they say, and what that changes.
//!
//! A relay that took a mail and cannot deliver it sends a report to the mail's return path (a DSN, RFC 3464); a recipient
//! who calls it spam may have their provider send one (ARF, RFC 5965). [`report`] reads them; here is decided, in one
//! function without gaps, what a report changes for a mail in whatever state it is.
//!
//! ```text
//! relayed ── failed ───▶ bounced (reason returned) ── a hard code, too many in a row ─▶ suppression
//!         └─ delivered ▶ delivered
//! in doubt (unknown, held, waiting to be sent once more) ── any report ─▶ the relay has it: bounced, delivered, relayed
//! past its commit point, not settled yet ─▶ come again later
//! everything else ─▶ noted
//! ```

pub mod report;

use super::message::Status;
use super::reply::EnhancedCode;
use super::return_path::ReturnPath;

/// What became of a mail, as a report says (RFC 3464 section 2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Not delivered yet, and still tried.
    Delayed,
    /// Went on to where nothing more will be heard of it, or to several others.
    Relayed,
    /// In a mailbox.
    Delivered,
    /// It will not be delivered. Of several words in one report this one counts.
    Failed,
}

impl Action {
    /// The word in leaves.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delayed => "delayed",
            Self::Relayed => "relayed",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// What a report says of the delivery of one mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// What became of it.
    pub action: Action,
    /// Its enhanced code, when it can be read.
    pub code: Option<EnhancedCode>,
    /// The other side's own words, in one line; they may name the recipient.
    pub words: Option<String>,
}

impl Delivery {
    /// As it is kept with the mail, where else the relay's reply is.
    #[must_use]
    pub fn shown(&self) -> String {
        let code = self.code.map(|code| format!(" {code}")).unwrap_or_default();
        let words = self.words.as_ref().map(|words| format!(" ({words})")).unwrap_or_default();
        format!("report: {}{code}{words}", self.action.as_str())
    }
}

/// What a report says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// How it went with the delivery.
    Delivery(Delivery),
    /// The recipient wants no such mail.
    Complaint,
}

/// A mail that may be a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The return paths it names.
    pub paths: Vec<ReturnPath>,
    /// What it says; `None`: it is no report.
    pub said: Option<Said>,
}

impl Read {
    /// Reads a mail (RFC 5322), whatever is in it.
    #[must_use]
    pub fn of(mail: &[u8]) -> Self {
        Self { paths: ReturnPath::all_in(mail), said: report::read(mail) }
    }
}

/// How it stands with a mail on which a report comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its state.
    pub status: Status,
    /// The relay may have it.
    pub may_have_been_sent: bool,
    /// An attempt is past its commit point and not settled.
    pub in_flight: bool,
    /// The very same was reported before.
    pub is_repeated: bool,
}

/// How a report has a mail end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It came back.
    Bounced,
    /// It arrived.
    Delivered,
    /// The relay has it, as was not known before.
    Relayed,
}

impl End {
    /// The state.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::Bounced => Status::Bounced,
            Self::Delivered => Status::Delivered,
            Self::Relayed => Status::Relayed,
        }
    }
}

/// What a report changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The mail ends so.
    Ends(End),
    /// Nothing but what is known of it.
    Noted,
    /// Nothing: it was said before.
    Known,
    /// Nothing yet: we do not know ourselves whether the relay has it. It is to come again.
    TooEarly,
}

/// What a report of a delivery changes for a mail.
#[must_use]
pub fn effect(standing: Standing, action: Action) -> Effect {
    let Standing { status, may_have_been_sent, in_flight, is_repeated } = standing;
    if in_flight {
        return Effect::TooEarly;
    }
    // Also of a mail that was sent again since: what was said of the first time says nothing of the second.
    if is_repeated {
        return Effect::Known;
    }
    match (status, action) {
        (Status::Relayed, Action::Failed) => Effect::Ends(End::Bounced),
        (Status::Relayed, Action::Delivered) => Effect::Ends(End::Delivered),
        (Status::Queued | Status::Deferred | Status::Held | Status::Unknown, _) if may_have_been_sent => match action {
            Action::Failed => Effect::Ends(End::Bounced),
            Action::Delivered => Effect::Ends(End::Delivered),
            Action::Relayed | Action::Delayed => Effect::Ends(End::Relayed),
        },
        (Status::Delivered, Action::Delivered) => Effect::Known,
        (
            Status::Queued
            | Status::Deferred
            | Status::Held
            | Status::Unknown
            | Status::Relayed
            | Status::Delivered
            | Status::Bounced
            | Status::Expired
            | Status::Suppressed
            | Status::Cancelled,
            _,
        ) => Effect::Noted,
    }
}

/// Whether a failure that is reported says something of its recipient: the mail was sent and did not arrive.
#[must_use]
pub const fn tells_of_recipient(standing: Standing) -> bool {
    match standing.status {
        Status::Relayed | Status::Bounced => true,
        Status::Delivered => false,
        Status::Queued
        | Status::Deferred
        | Status::Held
        | Status::Unknown
        | Status::Expired
        | Status::Suppressed
        | Status::Cancelled => standing.may_have_been_sent,
    }
}

/// Whether a code says that this recipient cannot be mailed, now or later: no such mailbox or domain, moved without a new
/// address, a domain that takes no mail, a mailbox that is closed (RFC 3463 sections 3.2 and 3.3, RFC 7505).
#[must_use]
pub fn is_hard(code: EnhancedCode) -> bool {
    code.class == 5 && matches!((code.subject, code.detail), (1, 1 | 2 | 3 | 6 | 10) | (2, 1))
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Its mail is bounced.
    Bounced,
    /// Its mail is delivered.
    Delivered,
    /// Its mail was in doubt and is relayed.
    Relayed,
    /// It changes nothing for its mail, and stands in the audit.
    Noted,
    /// It was known.
    Known,
    /// Its recipient complains, and is suppressed.
    Complaint,
    /// It names no return path of ours.
    NoReturnPath,
    /// It says nothing of a delivery: an answer of a person, or of a machine.
    NoReport,
    /// Its mail is kept no more.
    UnknownMessage,
}

impl Finding {
    /// The word in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bounced => "bounced",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
            Self::Noted => "noted",
            Self::Known => "known",
            Self::Complaint => "complaint",
            Self::NoReturnPath => "no-return-path",
            Self::NoReport => "no-report",
            Self::UnknownMessage => "unknown-message",
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    const ACTIONS: [Action; 4] = [Action::Delayed, Action::Relayed, Action::Delivered, Action::Failed];

    fn standing(status: Status) -> Standing {
        Standing { status, may_have_been_sent: false, in_flight: false, is_repeated: false }
    }

    #[test]
    fn a_relayed_mail_is_bounced_or_delivered_and_no_report_ends_what_was_never_sent() {
        assert_eq!(effect(standing(Status::Relayed), Action::Failed), Effect::Ends(End::Bounced));
        assert_eq!(effect(standing(Status::Relayed), Action::Delivered), Effect::Ends(End::Delivered));
        for status in Status::ALL.into_iter().filter(|status| *status != Status::Relayed) {
            for action in ACTIONS {
                let effect = effect(standing(status), action);
                assert!(!matches!(effect, Effect::Ends(_)), "{status} {action:?} {effect:?}");
            }
        }
    }

    #[test]
    fn any_report_ends_a_doubt_and_none_is_believed_while_we_do_not_know_ourselves() {
        for status in Status::ALL.into_iter().filter(|status| status.is_live()) {
            for action in ACTIONS {
                let doubt = Standing { may_have_been_sent: true, ..standing(status) };
                assert!(matches!(effect(doubt, action), Effect::Ends(_)), "{status} {action:?}");
                assert_eq!(effect(Standing { in_flight: true, ..doubt }, action), Effect::TooEarly);
            }
        }
    }

    #[test]
    fn what_was_said_before_is_known() {
        for status in Status::ALL {
            let again = Standing { is_repeated: true, may_have_been_sent: true, ..standing(status) };
            assert_eq!(effect(again, Action::Failed), Effect::Known, "{status}");
        }
        assert_eq!(effect(standing(Status::Bounced), Action::Failed), Effect::Noted, "in other words");
        assert_eq!(effect(standing(Status::Delivered), Action::Delivered), Effect::Known);
        assert_eq!(effect(standing(Status::Delivered), Action::Failed), Effect::Noted);
    }

    #[test]
    fn codes_that_say_nobody_is_there_are_hard_and_no_others() {
        for hard in ["5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"] {
            assert!(is_hard(EnhancedCode::leading(hard).unwrap()), "{hard}");
        }
        for soft in ["4.1.1", "5.1.0", "5.1.8", "5.2.2", "5.7.1", "5.0.0", "2.1.5", "5.4.4", "4.4.7"] {
            assert!(!is_hard(EnhancedCode::leading(soft).unwrap()), "{soft}");
        }
    }
}
