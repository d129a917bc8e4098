//! Every state and reason says which rule it was, what must change, and until when; no words hold what is private.

#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

use super::*;
use crate::domain::brake::Excess;
use crate::domain::ids::BrakeId;
use crate::domain::lane::{LaneRules, PerLane};
use crate::domain::quantity::{HumanDuration, Share};
use crate::domain::shaping::Binding;
use crate::domain::tenant::{RecipientRule, Tenant};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn rules() -> Rules {
    let tenant = Tenant { relays: vec!["primary".parse().unwrap()], ..Tenant::plain("demo") };
    let lanes = PerLane::from_fn(|lane| LaneRules {
        deliver_within: HumanDuration::from_secs(1_000),
        retry: None,
        reserved: Share::NONE,
        on_unknown: if lane == Lane::Journey { UnknownPolicy::Hold } else { UnknownPolicy::ResendOnce },
    });
    let retry = [30, 120].map(HumanDuration::from_secs).to_vec();
    Rules {
        tenants: [(tenant.id.clone(), tenant)].into(),
        lanes,
        retry,
        journeys: BTreeMap::new(),
        reads_relay_logs: false,
    }
}

/// A mail accepted at 0 s, due at 0 s, to be delivered by 1,000 s.
fn stored(status: Status, reason: Option<Reason>) -> Stored {
    let waits = matches!(status, Status::Queued | Status::Deferred);
    let message = MessageView {
        id: MessageId::from_uuid(uuid::Uuid::from_u128(7)),
        tenant: "demo".parse().unwrap(),
        recipient: "Ann <ann@customer.example>".to_owned(),
        template: None,
        subject: "Secret".to_owned(),
        lane: Lane::Standard,
        status,
        reason,
        may_have_been_sent: status == Status::Unknown,
        attempts: 1,
        next_attempt_at: waits.then_some(at(0)),
        deliver_by: at(1_000),
        accepted_at: at(0),
        ended_at: (!status.is_live()).then_some(at(1)),
        relay: Some("primary".parse().unwrap()),
        relay_reply: Some("450 4.2.0 <ann@customer.example> is busy".to_owned()),
        relay_queue_id: None,
        message_id: "<7@demo.example>".to_owned(),
        tags: Vec::new(),
        metadata: BTreeMap::new(),
        journey: None,
    };
    let domain = "customer.example".to_owned();
    Stored {
        message,
        domain,
        due_at: status.is_live().then_some(at(0)),
        resent: false,
        under_way: None,
        word: None,
        brake: None,
        condition: None,
        suppressed: None,
    }
}

fn asked(stored: &Stored, gateway: Gateway<'_>, now: i64) -> Vec<Decision> {
    decisions(stored, &rules(), gateway, at(now))
}

fn rules_of(decisions: &[Decision]) -> Vec<(&str, Force)> {
    decisions.iter().map(|decision| (decision.rule.as_str(), decision.status)).collect()
}

/// The rule that put a message where it stands.
fn expected(status: Status, reason: Option<Reason>) -> &'static str {
    use Status::*;
    match (status, reason) {
        (Queued | Deferred, _) => "turn",
        (Unknown, _) | (_, Some(Reason::UnknownHeld | Reason::UnknownResent)) => "on-unknown",
        (Held, None | Some(Reason::Operator)) => "hold",
        (Relayed, None | Some(Reason::Operator)) => "relayed",
        (Delivered, None | Some(Reason::Operator)) => "delivered",
        (Bounced, None | Some(Reason::Operator)) | (_, Some(Reason::RelayRefused)) => "relay-reply",
        (Expired, None | Some(Reason::Operator)) | (_, Some(Reason::DeadlinePassed)) => "deadline",
        (Suppressed, None | Some(Reason::Operator)) | (_, Some(Reason::Unsubscribed | Reason::Suppressed)) => {
            "suppression"
        }
        (Cancelled, None | Some(Reason::Operator)) => "cancelled",
        (_, Some(Reason::NotAllowed)) => "recipients-allowed",
        (_, Some(Reason::ConnectionLost)) => "connection",
        (_, Some(Reason::ReplyLost)) => "reply-lost",
        (_, Some(Reason::Interrupted)) => "interrupted",
        (_, Some(Reason::Smtputf8Needed | Reason::EightBitMimeNeeded | Reason::TooLarge)) => "relay-offers",
        (_, Some(Reason::ContentUnreadable)) => "content",
        (_, Some(Reason::NotConfigured)) => "not-configured",
        (_, Some(Reason::Fault)) => "fault",
        (_, Some(Reason::Brake)) => "brake",
        (_, Some(Reason::WalletStatus)) => "wallet-status",
        (_, Some(Reason::JourneyExited)) => "journey-exited",
        (_, Some(Reason::Erased)) => "erased",
        (_, Some(Reason::Returned)) => "report",
    }
}

#[test]
fn every_state_and_reason_names_its_rule_and_what_must_change() {
    let reasons = Reason::ALL.into_iter().map(Some).chain([None]);
    for (status, reason) in reasons.flat_map(|reason| Status::ALL.map(|status| (status, reason))) {
        let told = asked(&stored(status, reason), Gateway::Running(&[]), 0);
        let first = &told[0];
        let force = if status.is_live() { Force::Binds } else { Force::Ended };
        assert_eq!((first.rule.as_str(), first.status), (expected(status, reason), force), "{status} {reason:?}");
        for Decision { rule, must_change, text, .. } in &told {
            assert!(!must_change.is_empty() && text.ends_with('.'), "{status} {reason:?} {rule}: {text}");
            assert!(!text.contains("..") && !text.contains('@') && !text.contains("Secret"), "{rule}: {text}");
        }
        let deadline = told.iter().any(|decision| decision.rule == "deadline" && decision.until == Some(at(1_000)));
        assert_eq!(deadline, status.is_live(), "{status} {reason:?}");
    }
}

#[test]
fn a_mail_for_later_waits_for_its_time_and_a_limit_comes_next() {
    let later = Stored { due_at: Some(at(60)), ..stored(Status::Queued, None) };
    let shut = Binding::RelayShut { relay: "primary".parse().unwrap(), until: Some(at(2)), trouble: None };
    let live = live::decisions(&[shut, Binding::NotSeen]);
    let told = asked(&later, Gateway::Running(&live), 0);
    assert_eq!(
        rules_of(&told),
        [("send-at", Force::Binds), ("relay-shut", Force::Next), ("deadline", Force::Next)],
        "its place in the queue says nothing yet"
    );
    assert_eq!(told[0].until, Some(at(60)));
}

#[test]
fn a_deferred_mail_tells_the_relays_codes_its_attempts_and_its_next_time() {
    let deferred = Stored { due_at: Some(at(30)), ..stored(Status::Deferred, Some(Reason::RelayRefused)) };
    let told = &asked(&deferred, Gateway::Running(&[]), 0)[0];
    assert_eq!((told.rule.as_str(), told.status, told.until), ("relay-reply", Force::Binds, Some(at(30))));
    let numbers = serde_json::to_value(&told.numbers).unwrap();
    let expected = serde_json::json!({
        "relay": "primary", "code": 450, "enhanced": "4.2.0", "attempts": 1, "delaySeconds": 30
    });
    assert_eq!(numbers, expected);
    assert!(told.text.contains("(relay primary: 450 4.2.0)"), "{}", told.text);
}

#[test]
fn what_binds_a_due_mail_is_what_delivery_says() {
    let due = stored(Status::Queued, None);
    let spent =
        Binding::RelayRateSpent { relay: "primary".parse().unwrap(), rate: "6/m".parse().unwrap(), until: at(10) };
    let told = asked(&due, Gateway::Running(&live::decisions(&[spent])), 0);
    assert_eq!(rules_of(&told), [("relay-rate-spent", Force::Binds), ("deadline", Force::Next)]);
    assert_eq!(told[0].until, Some(at(10)));
    assert!(told[0].numbers.contains_key("rate") && !told[0].numbers.contains_key("until"), "{:?}", told[0].numbers);
}

#[test]
fn a_next_attempt_behind_the_deadline_is_told() {
    let deferred = Stored { due_at: Some(at(1_000)), ..stored(Status::Deferred, Some(Reason::RelayRefused)) };
    let told = asked(&deferred, Gateway::Running(&[]), 0);
    assert_eq!(rules_of(&told), [("relay-reply", Force::Binds), ("deadline", Force::Binds)]);
    assert!(told[1].text.contains("will expire unsent"), "{}", told[1].text);
}

#[test]
fn a_hold_says_who_held_it_and_why() {
    let word = Word { at: at(5), actor: "command:queue".to_owned(), because: Some("their server is down".to_owned()) };
    let held = Stored { word: Some(word), ..stored(Status::Held, Some(Reason::Operator)) };
    let told = &asked(&held, Gateway::Running(&[]), 9)[0];
    assert!(told.text.contains("command:queue") && told.text.contains("their server is down"), "{}", told.text);
    assert_eq!(
        (&told.numbers["by"], &told.numbers["because"]),
        (&"command:queue".into(), &"their server is down".into())
    );
}

#[test]
fn what_a_brake_holds_or_has_ended_names_it_and_its_numbers() {
    let excess = Excess { cause: crate::domain::brake::Cause::BounceShare, seen: 400, allowed: 250 };
    let id: BrakeId = "brk_00000000000000000000000000000007".parse().unwrap();
    for status in [Status::Held, Status::Cancelled] {
        let braked = Stored { brake: Some(BrakedBy { id, excess }), ..stored(status, Some(Reason::Brake)) };
        let told = &asked(&braked, Gateway::Running(&[]), 9)[0];
        let numbers = ["brakeId", "cause", "seen", "allowed"].map(|name| told.numbers[name].to_string());
        assert_eq!(numbers, [format!("\"{id}\"").as_str(), "\"bounce-share\"", "400", "250"]);
        assert!(
            told.text.contains(&format!("{id}: bounce-share, 400 of a thousand, in line are 250")),
            "{}",
            told.text
        );
        assert_eq!(told.must_change.contains(&format!("postern brake release {id}")), status.is_live());
    }
}

#[test]
fn an_unknown_tells_what_its_lane_will_decide() {
    let unknown = stored(Status::Unknown, Some(Reason::ReplyLost));
    let decided = |stored: &Stored| asked(stored, Gateway::Running(&[]), 0)[0].text.clone();
    assert!(decided(&unknown).contains("sent once more"));
    assert!(decided(&Stored { resent: true, ..unknown.clone() }).contains("sent once more already"));
    assert!(decided(&Stored { due_at: Some(at(1_000)), ..unknown.clone() }).contains("its deadline is over"));
    let mut journey = unknown;
    journey.message.lane = Lane::Journey;
    assert!(decided(&journey).contains("it is held for you"));
}

#[test]
fn an_attempt_past_its_commit_point_is_all_that_binds() {
    let relay = "primary".parse().unwrap();
    let under_way = Some(UnderWay { relay, attempt: 2, committed_at: at(0) });
    let sending = Stored { under_way, ..stored(Status::Deferred, Some(Reason::RelayRefused)) };
    assert_eq!(rules_of(&asked(&sending, Gateway::Running(&[]), 7)), [("in-flight", Force::Binds)]);
    let told = asked(&sending, Gateway::Absent, 7);
    assert_eq!(rules_of(&told), [("in-flight", Force::Binds), ("gateway", Force::Binds)]);
    assert!(told[0].must_change.contains("unknown"), "{}", told[0].must_change);
}

#[test]
fn without_a_gateway_that_is_what_binds_whatever_lives() {
    for status in Status::ALL {
        for (gateway, word) in [(Gateway::Absent, "No gateway runs"), (Gateway::Silent, "does not answer")] {
            let told = asked(&stored(status, None), gateway, 0);
            let says = told.iter().any(|decision| decision.rule == "gateway" && decision.text.contains(word));
            assert_eq!(says, status.is_live(), "{status}");
        }
    }
}

#[test]
fn a_tenant_or_recipient_that_the_configuration_no_longer_has_is_told() {
    let due = stored(Status::Queued, None);
    let mut changed = rules();
    let tenant = changed.tenants.values_mut().next().unwrap();
    tenant.recipients_allowed = vec![RecipientRule::Domain("other.example".to_owned())];
    let told = decisions(&due, &changed, Gateway::Running(&[]), at(0));
    assert!(rules_of(&told).contains(&("recipients-allowed", Force::Next)), "{told:?}");
    changed.tenants.clear();
    let told = decisions(&due, &changed, Gateway::Running(&[]), at(0));
    assert_eq!(rules_of(&told), [("not-configured", Force::Binds), ("deadline", Force::Next)]);
}

#[test]
fn what_must_change_is_a_command_that_can_be_copied() {
    let held = stored(Status::Held, Some(Reason::Operator));
    let explanation = Explanation::of(&held, &rules(), Gateway::Running(&[]), at(0));
    let command = format!("postern queue release {}", held.message.id);
    assert!(explanation.decisions[0].must_change.contains(&command), "{:?}", explanation.decisions[0]);
}

fn advice(stored: &Stored, now: i64) -> String {
    let told = asked(stored, Gateway::Running(&[]), now);
    told.into_iter().find(|decision| decision.rule == "deadline").unwrap().must_change
}

#[test]
fn a_later_deadline_is_advised_only_when_it_is_needed_and_never_an_earlier_one() {
    let mut due = stored(Status::Queued, None);
    due.message.deliver_by = at(172_800);
    assert_eq!(advice(&due, 0), "Nothing.", "two days are left");
    assert_eq!(advice(&Stored { due_at: Some(at(86_400)), ..due.clone() }, 0), "Nothing.", "it waits for its time");
    assert!(advice(&due, 172_700).contains("retry ID --deliver-within 2h."), "the deadline is near");
    let late = Stored { due_at: Some(at(172_800)), ..due };
    let told = advice(&late, 0);
    assert!(told.contains("submit it again") && !told.contains("postern queue retry"), "{told}");
    let mut deferred = late;
    deferred.message.status = Status::Deferred;
    assert!(advice(&deferred, 0).contains("retry ID --deliver-within 49h."), "{}", advice(&deferred, 0));
    for status in [Status::Held, Status::Unknown] {
        assert_eq!(advice(&stored(status, None), 900), "Nothing.", "a retry would send it: {status}");
    }
}

#[test]
fn a_command_that_is_advised_is_not_refused_brings_no_deadline_forward_and_sends_nothing_twice_unawares() {
    let must = |stored: &Stored, now| asked(stored, Gateway::Running(&[]), now)[0].must_change.clone();
    let mut bounced = stored(Status::Bounced, Some(Reason::RelayRefused));
    bounced.message.deliver_by = at(172_800);
    assert!(must(&bounced, 0).contains("retry ID --deliver-within 49h."), "{}", must(&bounced, 0));
    bounced.message.may_have_been_sent = true;
    assert!(must(&bounced, 0).starts_with("Look for its Message-ID"), "{}", must(&bounced, 0));
    let fault = stored(Status::Unknown, Some(Reason::Fault));
    assert!(must(&fault, 0).starts_with("Look for its Message-ID"), "{}", must(&fault, 0));
    let held = stored(Status::Held, Some(Reason::UnknownHeld));
    assert!(must(&held, 0).contains("retry ID."));
    assert!(must(&held, 2_000).contains("retry ID --deliver-within 2h."), "{}", must(&held, 2_000));
}

#[test]
fn a_condition_comes_next_and_says_how_it_stands() {
    use crate::domain::unless::{Condition, Unless};
    use crate::domain::wallet::WalletStatus;
    let unless = Unless::read("apple both", Some("C-1".to_owned())).unwrap();
    let with = |status| Stored {
        condition: Some(Condition { unless: unless.clone(), status }),
        ..stored(Status::Held, Some(Reason::Operator))
    };
    for (status, now, must) in [
        (WalletStatus::None, "as it is not now (none)", "looked at again"),
        (WalletStatus::Both, "as it would be now (both)", "without unless"),
    ] {
        let decisions = decisions(&with(status), &rules(), Gateway::Running(&[]), at(0));
        let said = decisions.iter().find(|decision| decision.rule == "wallet-status").unwrap();
        assert_eq!((said.status, &said.numbers["unless"]), (Force::Next, &"apple, both".into()));
        assert!(said.text.contains(now) && said.must_change.contains(must), "{said:?}");
        assert!(!format!("{said:?}").contains("C-1"), "a customer is named");
    }
}

#[test]
fn a_waiting_mail_whose_recipient_is_suppressed_by_now_says_so() {
    for reason in [Reason::Unsubscribed, Reason::Suppressed] {
        let waiting = Stored { suppressed: Some(reason), ..stored(Status::Queued, None) };
        let told = asked(&waiting, Gateway::Running(&[]), 0);
        let said = told.iter().find(|decision| decision.rule == "suppression").unwrap();
        assert_eq!((said.status, &said.numbers["reason"]), (Force::Next, &reason.as_str().into()));
    }
    let told = asked(&stored(Status::Queued, None), Gateway::Running(&[]), 0);
    assert!(told.iter().all(|decision| decision.rule != "suppression"));
}
