//! What is said of each state and reason: the rule it names, what happened, and what must change.

use super::{Decision, Force};
use crate::domain::brake::{self, BrakedBy, Excess};
use crate::domain::message::{Reason, Status};

/// What is said of a reason.
pub(super) struct Cause {
    /// The rule's name.
    pub(super) rule: &'static str,
    /// What happened; a sentence without its full stop.
    pub(super) what: &'static str,
    /// What must change.
    pub(super) must_change: &'static str,
}

const LOOK_AT_RELAY: &str =
    "Look for its Message-ID in the relay's log. There: postern queue resolve ID. Not there: postern queue retry ID.";
const RETRY_ANEW: &str = "When the cause is gone: postern queue retry ID --deliver-within 2h.";

impl Cause {
    const fn of(rule: &'static str, what: &'static str, must_change: &'static str) -> Self {
        Self { rule, what, must_change }
    }
}

const NOT_ALLOWED: Cause = Cause::of(
    "recipients-allowed",
    "The tenant's recipients_allowed does not list the recipient",
    "Add the recipient or its domain to recipients_allowed, reload, and submit the mail again.",
);
const SMTPUTF8_NEEDED: Cause = Cause::of(
    "relay-offers",
    "The recipient's address needs SMTPUTF8, which the relay does not offer",
    "Another relay for this tenant, or another address.",
);
const EIGHT_BIT_MIME_NEEDED: Cause = Cause::of(
    "relay-offers",
    "The content needs 8BITMIME, which the relay does not offer",
    "Another relay for this tenant, or a relay that offers it.",
);
const CONTENT_UNREADABLE: Cause = Cause::of(
    "content",
    "What is stored of it cannot be read back",
    "Look at the disk and the log. Cancel it, and submit the mail again where it came from.",
);
const NOT_CONFIGURED: Cause = Cause::of(
    "not-configured",
    "Its tenant was not in the configuration: held",
    "Put the tenant's file back and reload (SIGHUP), then: postern queue release ID.",
);
const BRAKE: Cause = Cause::of(
    "brake",
    "Its stream of mails (tenant, key and template) is out of line, and the brake holds it",
    "Look whether these mails are meant: postern brake list. Then release or cancel the brake, and with it all of them.",
);
const WALLET_STATUS: Cause = Cause::of(
    "wallet-status",
    "Just before it would have been sent its customer's walletStatus was one of those that its unless lists: it was not sent",
    "Nothing. If it is wanted after all, submit it again without unless.",
);
const JOURNEY_EXITED: Cause = Cause::of(
    "journey-exited",
    "An event that its journey lists in exit_on came before it was sent: it was not sent",
    "Nothing: the journey is over for this customer. If the mail is wanted after all, send it by hand.",
);
const UNSUBSCRIBED: Cause = Cause::of(
    "suppression",
    "The recipient has unsubscribed from such mails: it was not sent",
    "Nothing: it is their wish. What was said and when: postern suppressions list --recipient ADDRESS.",
);
const SUPPRESSED: Cause = Cause::of(
    "suppression",
    "The recipient is suppressed: it was not sent",
    "Nothing, if that is right: postern suppressions list --recipient ADDRESS. Else remove it and submit the mail again.",
);
const ERASED: Cause = Cause::of(
    "erased",
    "Its recipient was erased before it was sent, and with them its content",
    "Nothing. If they are to be mailed after all, submit it again.",
);
const RETURNED: Cause = Cause::of(
    "report",
    "The relay took it, and reported since that it could not deliver it",
    "Its words are in relayReply. When the cause is gone: postern suppressions list --recipient ADDRESS, remove what \
     stands there, then postern queue retry ID --deliver-within 2h.",
);
const FAULT: Cause = Cause::of(
    "fault",
    "An attempt ended in a defect of Postern: set aside",
    "Read the log of that time and report it. Then: postern queue retry ID, or cancel it.",
);

/// What is said of a message in this state for this reason. A reason that is new must be given its words here.
pub(super) fn cause(status: Status, reason: Option<Reason>) -> Cause {
    match (reason, status.is_live()) {
        (None, _) => of_status(status),
        (Some(Reason::NotAllowed), _) => NOT_ALLOWED,
        (Some(Reason::RelayRefused), true) => Cause::of(
            "relay-reply",
            "The relay refused it for now",
            "Nothing, if the relay takes it next time. Its words are in relayReply; what it asks for is changed there.",
        ),
        (Some(Reason::RelayRefused), false) => Cause::of("relay-reply", "The relay refused it for good", RETRY_ANEW),
        (Some(Reason::ConnectionLost), _) => Cause::of(
            "connection",
            "The session with the relay was lost before it was asked to take the mail",
            "Nothing, if the relay is well: postern check --relay.",
        ),
        (Some(Reason::ReplyLost), _) => {
            Cause::of("reply-lost", "The relay's answer to the end of the mail was lost", LOOK_AT_RELAY)
        }
        (Some(Reason::Interrupted), _) => {
            Cause::of("interrupted", "The gateway ended while the mail was on its way to the relay", LOOK_AT_RELAY)
        }
        (Some(Reason::UnknownHeld), _) => Cause::of(
            "on-unknown",
            "The relay may have it, and it is not sent once more without your word: held",
            LOOK_AT_RELAY,
        ),
        (Some(Reason::UnknownResent), _) => Cause::of(
            "on-unknown",
            "It was unknown, and its lane's on_unknown has it sent once more",
            "Nothing. If the relay took the first one, the recipient gets it twice.",
        ),
        (Some(Reason::DeadlinePassed), true) => Cause::of(
            "deadline",
            "Its deadline passed, but the relay may have it: held instead of expired",
            LOOK_AT_RELAY,
        ),
        (Some(Reason::DeadlinePassed), false) => {
            Cause::of("deadline", "Its deadline passed before a relay took it: it was not sent", RETRY_ANEW)
        }
        (Some(Reason::Smtputf8Needed), _) => SMTPUTF8_NEEDED,
        (Some(Reason::EightBitMimeNeeded), _) => EIGHT_BIT_MIME_NEEDED,
        (Some(Reason::TooLarge), _) => Cause::of(
            "relay-offers",
            "It is larger than the relay takes (SIZE)",
            "A smaller mail, or a relay that takes more.",
        ),
        (Some(Reason::ContentUnreadable), _) => CONTENT_UNREADABLE,
        (Some(Reason::NotConfigured), _) => NOT_CONFIGURED,
        (Some(Reason::Fault), _) => FAULT,
        (Some(Reason::Operator), _) => of_operator(status),
        (Some(Reason::WalletStatus), _) => WALLET_STATUS,
        (Some(Reason::JourneyExited), _) => JOURNEY_EXITED,
        (Some(Reason::Unsubscribed), _) => UNSUBSCRIBED,
        (Some(Reason::Suppressed), _) => SUPPRESSED,
        (Some(Reason::Erased), _) => ERASED,
        (Some(Reason::Returned), _) => RETURNED,
        (Some(Reason::Brake), true) => BRAKE,
        (Some(Reason::Brake), false) => Cause::of(
            "brake",
            "Its stream of mails was out of line and was cancelled",
            "Nothing. If it is wanted after all, submit it again.",
        ),
    }
}

/// Names the brake that holds the message, or has ended it, with its numbers.
pub(super) fn with_brake(mut decision: Decision, brake: Option<BrakedBy>) -> Decision {
    let Some(BrakedBy { id, excess: Excess { cause, seen, allowed } }) = brake else { return decision };
    let of = match cause {
        brake::Cause::BounceShare => "of a thousand",
        brake::Cause::Volume | brake::Cause::Limit | brake::Cause::SameRecipient => "mails",
    };
    let cause = cause.as_str();
    decision.text = format!("{} The brake is {id}: {cause}, {seen} {of}, in line are {allowed}.", decision.text);
    if decision.status == Force::Binds {
        decision.must_change = format!(
            "Look whether these mails are meant: postern brake list. Then all of them: postern brake release {id}, or \
             postern brake cancel {id}."
        );
    }
    decision.number("brakeId", id.to_string()).number("cause", cause).number("seen", seen).number("allowed", allowed)
}

/// Nothing is said but the state.
fn of_status(status: Status) -> Cause {
    match status {
        Status::Queued => Cause::of("turn", "It waits for its first attempt", "Nothing."),
        Status::Deferred => {
            Cause::of("retry", "Its last attempt failed for now", "Nothing, if the next one does well.")
        }
        Status::Held => Cause::of("hold", "It is held", "postern queue release ID, or cancel it."),
        Status::Unknown => Cause::of("on-unknown", "Nobody knows whether the relay took it", LOOK_AT_RELAY),
        Status::Relayed => Cause::of(
            "relayed",
            "The relay took it",
            "Nothing here. What became of it there: its log, for relayQueueId.",
        ),
        Status::Delivered => Cause::of("delivered", "It arrived", "Nothing."),
        Status::Bounced => Cause::of("relay-reply", "It was refused for good", RETRY_ANEW),
        Status::Expired => Cause::of("deadline", "Its deadline passed: it was not sent", RETRY_ANEW),
        Status::Suppressed => {
            Cause::of("suppression", "The recipient may not be mailed", "Submit the mail again when that has changed.")
        }
        Status::Cancelled => {
            Cause::of("cancelled", "It was cancelled", "Nothing. If it is wanted after all, submit it again.")
        }
    }
}

/// An operator's word put it where it is.
fn of_operator(status: Status) -> Cause {
    match status {
        Status::Held => {
            Cause::of("hold", "It is held on an operator's word", "postern queue release ID, or cancel it.")
        }
        Status::Cancelled => Cause::of(
            "cancelled",
            "It was cancelled on an operator's word",
            "Nothing. If it is wanted after all, submit it again.",
        ),
        Status::Queued
        | Status::Deferred
        | Status::Unknown
        | Status::Relayed
        | Status::Delivered
        | Status::Bounced
        | Status::Expired
        | Status::Suppressed => of_status(status),
    }
}
