//! Walks: each by its words, and all of them by what may never happen.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::domain::journey::{Drawn, STEPS_MAX};
use crate::domain::pass_event::Wallet;
use crate::domain::quantity::HumanDuration;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A journey of these steps, as a version keeps them.
fn journey(quiet_hours: &str, steps: &str) -> Journey {
    let quiet = if quiet_hours.is_empty() { "null".to_owned() } else { format!("{quiet_hours:?}") };
    let text = format!(
        r#"{{"name":"j","tenant":"demo","trigger":"pass.first-install","entry":"every-time","exit_on":[],
            "quiet_hours":{quiet},"contact_within":"7d","when":{{}},"steps":{steps}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn occasion() -> Occasion {
    Occasion {
        device: Wallet::Apple,
        pass_type: Some("loyalty".into()),
        tags: vec!["a".into()],
        medium: None,
        origin: None,
    }
}

/// What a walk does, in words.
fn told(plan: &Plan) -> String {
    let passed: Vec<_> =
        plan.passed.iter().map(|passed| format!("{} {}", passed.step, passed.outcome.as_str())).collect();
    let send = plan.send.as_ref().map_or_else(String::new, |send| format!("; send {} {}", send.step, send.template));
    let then = match plan.then {
        Then::Step { step, at, pause: Pause::None } => format!("{step} at {at}"),
        Then::Step { step, at, pause: Pause::Wait } => format!("{step} waits until {at}"),
        Then::Step { step, at, pause: Pause::QuietHours } => format!("{step} is quiet until {at}"),
        Then::End(ending) => format!("{ending:?}"),
    };
    format!("{}{send}; {then}", passed.join(", "))
}

#[test]
fn a_walk_goes_to_its_next_mail_wait_or_end() {
    let steps = r#"[{"action":{"send":{"template":"a"}},"unless":{"wallet_status":["both"]}},
        {"action":{"send":{"template":"b"}},"if":{"tags_any":["b"]}},
        {"action":{"wait":"1h"}},{"action":{"wait_until":"09:00"}},
        {"action":{"wait_for_date":{"field":"validUntil","before":"1d","at":"10:00"}}},
        {"action":{"send":{"template":"c"}}},{"action":{"send":{"template":"d"}}},
        {"action":"stop","if":{"device":"apple"}},{"action":{"send":{"template":"e"}}}]"#;
    let (plain, quiet) = (journey("", steps), journey("21:00-08:00", steps));
    let known = BTreeMap::from([("validUntil".to_owned(), "2026-05-03".to_owned())]);
    let nothing = BTreeMap::new();
    for (journey, step, now, status, identifiers, does) in [
        (
            &plain,
            0,
            "2026-05-01T08:30:00Z",
            "none",
            &known,
            "0 sent, 1 skipped, 2 waited; send 0 a; 3 waits until 2026-05-01T09:30:00Z",
        ),
        (
            &plain,
            0,
            "2026-05-01T08:30:00Z",
            "both",
            &known,
            "0 skipped, 1 skipped, 2 waited; 3 waits until 2026-05-01T09:30:00Z",
        ),
        (&quiet, 0, "2026-05-01T22:30:00Z", "none", &known, "; 0 is quiet until 2026-05-02T08:00:00Z"),
        // What sends nothing is not quiet.
        (
            &quiet,
            0,
            "2026-05-01T22:30:00Z",
            "both",
            &known,
            "0 skipped, 1 skipped, 2 waited; 3 waits until 2026-05-01T23:30:00Z",
        ),
        (&plain, 3, "2026-05-01T09:00:00Z", "none", &known, "3 waited, 4 waited; 5 waits until 2026-05-02T10:00:00Z"),
        // A date that is over is not waited for, nor one that nobody knows.
        (&plain, 4, "2026-05-09T00:00:00Z", "none", &known, "4 waited, 5 sent; send 5 c; 6 at 2026-05-09T00:00:00Z"),
        (&plain, 4, "2026-05-01T00:00:00Z", "none", &nothing, "4 no-date, 5 sent; send 5 c; 6 at 2026-05-01T00:00:00Z"),
        (&plain, 6, "2026-05-01T00:00:00Z", "none", &known, "6 sent, 7 stopped; send 6 d; Stopped"),
        (&plain, 8, "2026-05-01T00:00:00Z", "none", &known, "8 sent; send 8 e; Completed"),
        (&plain, 9, "2026-05-01T00:00:00Z", "none", &known, "; Completed"),
    ] {
        let wallet_status: WalletStatus = serde_json::from_value(status.into()).unwrap();
        let facts = Facts {
            now: at(now),
            zone: &TimeZone::UTC,
            wallet_status,
            occasion: &occasion(),
            identifiers,
            contact: None,
        };
        assert_eq!(told(&walk(journey, step, &facts)), does, "step {step} at {now}, {status}");
    }
}

#[test]
fn days_before_and_after_a_date_are_days_of_the_calendar_where_the_customer_is() {
    for (place, date, shift, moment) in [
        // Paris goes forward on 29 March: a day before the 30th is an hour shorter.
        ("Europe/Paris", "2026-03-30", r#""before":"1d""#, "2026-03-28T23:00:00Z"),
        ("Europe/Paris", "2026-03-30", r#""before":"24h","at":"09:00""#, "2026-03-29T07:00:00Z"),
        ("Europe/Paris", "2026-10-24", r#""after":"2d","at":"09:00""#, "2026-10-26T08:00:00Z"),
        ("America/New_York", "2026-03-09T12:00:00", r#""before":"2d""#, "2026-03-07T17:00:00Z"),
        ("America/New_York", "2026-10-31T12:00:00Z", r#""after":"1d12h""#, ""),
        ("America/New_York", "2026-10-31", r#""after":"36h""#, "2026-11-01T16:00:00Z"),
        ("UTC", "2026-05-01T22:00:00+02:00", r#""after":"30m""#, "2026-05-01T20:30:00Z"),
        ("UTC", " 2026-05-01 ", "", "2026-05-01T00:00:00Z"),
        ("UTC", "the first of May", "", ""),
    ] {
        let comma = if shift.is_empty() { "" } else { "," };
        let Ok(date_step) = serde_json::from_str::<AtDate>(&format!(r#"{{"field":"validUntil"{comma}{shift}}}"#))
        else {
            assert!(moment.is_empty(), "{shift}");
            continue;
        };
        let zone = TimeZone::get(place).unwrap();
        let facts = Facts {
            now: at("2026-01-01T00:00:00Z"),
            zone: &zone,
            wallet_status: WalletStatus::None,
            occasion: &occasion(),
            identifiers: &BTreeMap::from([("validUntil".to_owned(), date.to_owned())]),
            contact: None,
        };
        let found = super::moment(&date_step, &facts);
        assert_eq!(found, (!moment.is_empty()).then(|| at(moment)), "{place} {date} {shift}");
    }
}

fn condition() -> impl Strategy<Value = Option<Condition>> {
    let of_device = prop::option::of(prop::sample::select(&Wallet::ALL[..]));
    let status = prop::sample::subsequence(WalletStatus::ALL.to_vec(), 0..=3);
    let tags = prop::sample::subsequence(vec!["a".to_owned(), "b".to_owned()], 0..=2);
    prop::option::of((of_device, status, tags).prop_map(|(device, wallet_status, tags_any)| Condition {
        device,
        wallet_status: BTreeSet::from_iter(wallet_status),
        tags_any: BTreeSet::from_iter(tags_any),
        ..Condition::default()
    }))
}

fn action() -> impl Strategy<Value = Action> {
    let minutes = |count: u64| HumanDuration::from_secs(60 * count);
    prop_oneof![
        3 => "[a-c]".prop_map(|template| Action::Send { template }),
        2 => (1..5_000_u64).prop_map(move |count| Action::Wait(minutes(count))),
        2 => (0..24_u8, 0..60_u8).prop_map(|(hour, minute)| {
            Action::WaitUntil(format!("{hour:02}:{minute:02}").parse().unwrap())
        }),
        1 => prop::sample::select(vec!["validUntil", "nothing"]).prop_map(|field| {
            Action::WaitForDate(AtDate { field: field.to_owned(), before: None, after: None, at: None })
        }),
        1 => Just(Action::Stop),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (action(), condition(), condition());
    prop::collection::vec(step.prop_map(|(action, only_if, unless)| Step { action, only_if, unless }), 1..20)
}

proptest! {
    /// Walked to its end by a clock that jumps to each next moment, whatever the customer's wallets do meanwhile.
    #[test]
    fn every_walk_ends_takes_each_step_once_in_order_and_sends_one_mail_at_a_time(
        steps in steps(),
        place in prop::sample::select(vec!["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe"]),
        begins in 1_750_000_000_i64..1_800_000_000,
        is_quiet in any::<bool>(),
        statuses in prop::collection::vec(prop::sample::select(WalletStatus::ALL.to_vec()), 1..4),
    ) {
        let journey = Journey { steps, ..journey(if is_quiet { "21:00-08:00" } else { "" }, "[]") };
        let (zone, occasion) = (TimeZone::get(place).unwrap(), occasion());
        let identifiers = BTreeMap::from([("validUntil".to_owned(), "2026-03-29T02:30:00".to_owned())]);
        let (mut step, mut now, mut passed, mut sent) = (0, Timestamp::from_second(begins).unwrap(), Vec::new(), Vec::new());
        let mut statuses = statuses.iter().copied().cycle();
        // Each step is waited for at most twice: by its own word, and since it is night.
        let walks_max = 2 * STEPS_MAX + 1;
        let mut ending = None;
        for _ in 0..walks_max {
            let facts = Facts {
                now,
                zone: &zone,
                wallet_status: statuses.next().unwrap(),
                occasion: &occasion,
                identifiers: &identifiers,
                contact: None,
            };
            let plan = walk(&journey, step, &facts);
            let sends = plan.passed.iter().filter(|passed| passed.outcome == Outcome::Sent).count();
            prop_assert_eq!(sends, usize::from(plan.send.is_some()));
            if let Some(send) = &plan.send {
                prop_assert!(journey.quiet_hours.is_none_or(|hours| hours.end(now, &zone).is_none()), "sent at night");
                sent.push(send.step);
            }
            passed.extend(plan.passed.iter().map(|passed| passed.step));
            match plan.then {
                Then::End(end) => { ending = Some(end); break; }
                Then::Step { step: next, at, pause } => {
                    prop_assert!(at >= now);
                    // Where it stands still something is waited for.
                    prop_assert!(next > step || (at > now && pause == Pause::QuietHours), "{next} {step}");
                    (step, now) = (next, at);
                }
            }
        }
        prop_assert!(ending.is_some(), "it does not end");
        prop_assert_eq!(&passed, &(0..passed.len()).collect::<Vec<_>>(), "each once, in order");
        prop_assert!(sent.windows(2).all(|pair| pair[0] < pair[1]), "nothing is sent twice");
        match ending {
            Some(Ending::Completed) => prop_assert_eq!(passed.len(), journey.steps.len()),
            other => prop_assert_eq!(other, Some(Ending::Stopped)),
        }
    }

    #[test]
    fn what_is_drawn_reads_back_as_the_same_version(steps in steps()) {
        let drawn = Drawn::from(Journey { steps, ..journey("21:00-08:00", "[]") });
        let read: Journey = serde_json::from_str(&drawn.written).unwrap();
        prop_assert_eq!(read.version(), drawn.version.clone());
        prop_assert_eq!(&read, &drawn.journey);
    }
}
