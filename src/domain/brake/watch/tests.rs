//! The rules on a hand-wound clock: tables for each cause, properties of learning.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const WINDOW: i64 = 600;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn rules() -> Rules {
    Rules {
        window: Duration::from_mins(10),
        factor: 5.0,
        min_mails: 20,
        limit: None,
        bounce_share: Share::QUARTER,
        bounce_min: 10,
        calm: Duration::from_mins(30),
        forget: Duration::from_hours(7 * 24),
    }
}

fn new() -> Watch {
    Watch::new(Usual::unknown(at(0)), at(0))
}

fn id() -> BrakeId {
    BrakeId::from_uuid(Uuid::from_u128(1))
}

/// Counts so many mails at once; the last word.
fn mails(watch: &mut Watch, count: u32, seconds: i64, rules: &Rules) -> Option<Excess> {
    (0..count).map(|_| watch.mail(at(seconds), rules)).last().flatten()
}

/// One window of so many mails after the other, from `seconds` on.
fn windows(watch: &mut Watch, counts: &[u32], seconds: i64, rules: &Rules) -> Vec<Option<Cause>> {
    let begun = |n: usize| seconds + i64::try_from(n).unwrap() * WINDOW;
    let each = counts.iter().enumerate();
    each.map(|(n, count)| mails(watch, *count, begun(n), rules).map(|excess| excess.cause)).collect()
}

#[test]
fn a_new_stream_may_send_as_many_as_the_floor_and_not_one_more() {
    let mut watch = new();
    assert_eq!(mails(&mut watch, 20, 1, &rules()), None);
    let excess = Excess { cause: Cause::Volume, seen: 21, allowed: 20 };
    assert_eq!(watch.mail(at(2), &rules()), Some(excess));
    assert_eq!(mails(&mut watch, 20, WINDOW, &rules()), None, "another window");
}

#[test]
fn a_busy_stream_may_send_so_many_times_what_is_usual() {
    let mut watch = new();
    // 20, 20 … teach towards 20.
    assert!(windows(&mut watch, &[20; 10], 0, &rules()).iter().all(Option::is_none));
    let excess = mails(&mut watch, 200, 10 * WINDOW, &rules()).unwrap();
    assert!((95..=100).contains(&excess.allowed), "{excess:?}");
}

#[test]
fn a_stream_that_doubles_each_window_is_in_line_and_one_that_jumps_is_not() {
    assert_eq!(windows(&mut new(), &[20, 40, 80, 160, 320], 0, &rules()), [None; 5]);
    assert_eq!(windows(&mut new(), &[20, 40, 320], 0, &rules()), [None, None, Some(Cause::Volume)]);
}

#[test]
fn what_is_sent_once_a_week_is_known_a_week_later_and_forgotten_in_a_year() {
    let (week, rules) = (7 * 86_400, rules());
    let mut watch = new();
    mails(&mut watch, 5_000, 0, &rules);
    watch.engage(id(), Excess { cause: Cause::Volume, seen: 21, allowed: 20 }, Effect::Hold, at(1));
    watch.disengage(Decision::Release, at(60), &rules);
    assert_eq!(mails(&mut watch, 5_000, week, &rules), None);
    assert_eq!(mails(&mut watch, 5_000, 2 * week, &rules), None);
    assert!(mails(&mut watch, 5_000, 54 * week, &rules).is_some());
}

#[test]
fn the_hard_limit_holds_however_usual_more_would_be() {
    let rules = Rules { limit: Some("30/h".parse().unwrap()), ..rules() };
    let usual = Usual { mails: 1_000.0, ..Usual::unknown(at(0)) };
    let mut watch = Watch::new(usual, at(0));
    assert_eq!(mails(&mut watch, 15, 0, &rules), None);
    assert_eq!(mails(&mut watch, 15, WINDOW, &rules), None);
    let excess = Excess { cause: Cause::Limit, seen: 31, allowed: 30 };
    assert_eq!(watch.mail(at(3_599), &rules), Some(excess));
    assert_eq!(watch.mail(at(3_600), &rules), None, "another hour");
}

#[test]
fn a_share_of_refused_mails_counts_from_enough_outcomes_on_and_above_the_usual_one() {
    let table: [(f64, u32, u32, bool); 6] = [
        (0.0, 0, 9, false),
        (0.0, 7, 3, true),
        (0.0, 75, 25, false),
        (0.2, 60, 40, false),
        (0.2, 50, 50, true),
        (0.9, 0, 1_000, false),
    ];
    for (refused, relayed, bounced, is_excess) in table {
        let usual = Usual { refused, ..Usual::unknown(at(0)) };
        let heard = Watch::new(usual, at(0)).outcomes(relayed, bounced, at(1), &rules());
        assert_eq!(heard.is_some(), is_excess, "{refused} {relayed} {bounced}: {heard:?}");
    }
    let heard = new().outcomes(50, 50, at(1), &rules());
    assert_eq!(heard, Some(Excess { cause: Cause::BounceShare, seen: 500, allowed: 250 }));
}

#[test]
fn a_release_teaches_what_was_seen_and_a_cancel_does_not() {
    for (decision, again) in [(Decision::Release, None), (Decision::Cancel, Some(Cause::Volume))] {
        let (mut watch, rules) = (new(), rules());
        let excess = mails(&mut watch, 21, 1, &rules).unwrap();
        watch.engage(id(), excess, Effect::Hold, at(1));
        mails(&mut watch, 279, 2, &rules);
        mails(&mut watch, 10, WINDOW, &rules);
        watch.disengage(decision, at(WINDOW + 1), &rules);
        assert_eq!((watch.braked(), watch.round), (None, 1));
        let cause = mails(&mut watch, 1_400, WINDOW + 2, &rules).map(|excess| excess.cause);
        assert_eq!(cause, again, "{decision}: 300 in a window, five times");
    }
}

#[test]
fn a_release_of_refused_mails_teaches_their_share() {
    let (mut watch, rules) = (new(), rules());
    let excess = watch.outcomes(50, 50, at(1), &rules).unwrap();
    watch.engage(id(), excess, Effect::Hold, at(1));
    watch.disengage(Decision::Release, at(2), &rules);
    assert_eq!(watch.outcomes(30, 70, at(3), &rules), None);
}

#[test]
fn a_release_of_near_identical_mails_lets_as_many_go_on_until_it_is_forgotten() {
    let rules = rules();
    for (decision, allowed) in [(Decision::Release, 30), (Decision::Cancel, 3)] {
        let mut watch = new();
        assert_eq!(watch.alike(3, 3, at(1), &rules), None);
        let excess = watch.alike(4, 3, at(1), &rules).unwrap();
        assert_eq!(excess, Excess { cause: Cause::SameRecipient, seen: 4, allowed: 3 });
        watch.engage(id(), excess, Effect::Hold, at(1));
        assert!(watch.alike(6, 3, at(2), &rules).is_some() && watch.alike(5, 3, at(2), &rules).is_some());
        watch.disengage(decision, at(3), &rules);
        assert_eq!(watch.alike(allowed, 3, at(4), &rules), None, "{decision}: six were seen");
        assert_eq!(watch.alike(allowed + 1, 3, at(4), &rules).unwrap().allowed, allowed);
        let forgotten = at(3 + i64::try_from(rules.forget.as_secs()).unwrap());
        assert_eq!(watch.is_idle(at(2 * WINDOW), &rules), decision == Decision::Cancel);
        assert_eq!(watch.alike(4, 3, forgotten, &rules), Some(excess));
        assert!(watch.is_idle(forgotten, &rules));
    }
}

#[test]
fn nothing_is_learned_while_mails_are_held() {
    let (mut watch, rules) = (new(), rules());
    let before = watch.usual();
    let excess = mails(&mut watch, 21, 1, &rules).unwrap();
    watch.engage(id(), excess, Effect::Hold, at(1));
    windows(&mut watch, &[500; 5], WINDOW, &rules);
    assert_eq!(watch.usual(), before);
    let mut watch = new();
    watch.engage(id(), excess, Effect::Alarm, at(1));
    windows(&mut watch, &[500; 5], WINDOW, &rules);
    assert!(watch.usual().mails > 400.0, "an alarm learns on");
}

#[test]
fn an_alarm_ends_when_it_was_calm_for_long_enough_and_a_hold_never() {
    let rules = rules();
    let excess = Excess { cause: Cause::Volume, seen: 21, allowed: 20 };
    for (effect, ends) in [(Effect::Alarm, true), (Effect::Hold, false)] {
        let mut watch = new();
        assert!(!watch.is_calm(at(0), &rules), "there is none");
        watch.engage(id(), excess, effect, at(0));
        watch.goes_on(at(100));
        assert!(!watch.is_calm(at(1_899), &rules));
        assert_eq!(watch.is_calm(at(1_900), &rules), ends, "{effect:?}");
    }
}

#[test]
fn a_mail_that_was_not_accepted_does_not_count() {
    let rules = Rules { limit: Some("20/h".parse().unwrap()), ..rules() };
    let mut watch = new();
    for _ in 0..100 {
        assert_eq!(watch.mail(at(1), &rules), None);
        watch.take_back();
    }
}

#[test]
fn a_clock_that_goes_back_begins_a_window_anew() {
    let (mut watch, rules) = (new(), rules());
    assert_eq!(mails(&mut watch, 20, 0, &rules), None);
    assert_eq!(mails(&mut watch, 20, -86_400, &rules), None);
    assert_eq!(mails(&mut watch, 20, -86_000, &rules), None, "20 were usual for a moment: 50 are allowed");
    assert_eq!(mails(&mut watch, 11, -85_900, &rules).map(|excess| excess.seen), Some(51));
}

#[test]
fn only_a_stream_of_which_nothing_is_lost_is_idle() {
    let rules = rules();
    let (small, busy) = (&mut new(), &mut new());
    mails(small, 4, 0, &rules);
    mails(busy, 20, 0, &rules);
    assert!(!small.is_idle(at(WINDOW - 1), &rules), "it is counted now");
    assert!(small.is_idle(at(WINDOW), &rules));
    assert!(!busy.is_idle(at(WINDOW), &rules), "50 are allowed next time");
    small.engage(id(), Excess { cause: Cause::SameRecipient, seen: 3, allowed: 2 }, Effect::Alarm, at(WINDOW));
    assert!(!small.is_idle(at(2 * WINDOW), &rules));
}

#[test]
fn a_template_that_is_an_address_or_a_link_is_not_named() {
    let key = crate::domain::ids::KeyId::from_uuid(Uuid::from_u128(2));
    let stream = |template: &str| crate::domain::brake::Stream {
        tenant: "demo".parse().unwrap(),
        key,
        template: Some(template.into()),
    };
    assert_eq!(stream("welcome 2").template_named(), Some("welcome 2"));
    for hidden in ["ann@customer.example", "https://x.example/?t=1"] {
        assert_eq!(stream(hidden).template_named(), None);
    }
}

proptest! {
    #[test]
    fn what_is_usual_lies_between_nothing_and_the_busiest_window(counts in prop::collection::vec(0_u32..5_000, 1..20)) {
        let (mut watch, rules) = (new(), rules());
        windows(&mut watch, &counts, 0, &rules);
        watch.catch_up(at(WINDOW * 50), &rules);
        let busiest = f64::from(*counts.iter().max().unwrap());
        prop_assert!((0.0..=busiest).contains(&watch.usual().mails));
    }

    #[test]
    fn a_steady_stream_is_never_out_of_line_once_it_is_known(count in 1_u32..2_000, hours in 1_i64..24) {
        let rules = rules();
        let mut watch = Watch::new(Usual { mails: f64::from(count), ..Usual::unknown(at(0)) }, at(0));
        for n in 0..5 {
            prop_assert_eq!(mails(&mut watch, count, n * hours * 3_600, &rules), None);
        }
    }

    #[test]
    fn no_stream_is_out_of_line_up_to_the_floor_whatever_it_did_before(
        counts in prop::collection::vec(0_u32..200, 0..10),
        floor in 1_u32..50,
    ) {
        let rules = Rules { min_mails: floor, ..rules() };
        let mut watch = new();
        windows(&mut watch, &counts, 0, &rules);
        prop_assert_eq!(mails(&mut watch, floor, WINDOW * 20, &rules), None);
    }

    #[test]
    fn more_mails_are_never_more_in_line(first in 0_u32..100, more in 1_u32..400) {
        let rules = rules();
        let tripped = |count| {
            let mut watch = new();
            windows(&mut watch, &[first], 0, &rules);
            mails(&mut watch, count, WINDOW, &rules).is_some()
        };
        prop_assert!(!tripped(more) || tripped(more + 1));
    }
}
