//! A relay's desk: sessions, rate, and what its answers teach.

use std::time::Duration;

use jiff::Timestamp;

use super::super::breaker::Gate;
use super::super::desk::{Alternative, Began, Desk, DeskRules, Evidence, Failure, Freshness, Invitation, RelayPlan};
use super::super::domains::MayGo;
use crate::domain::lane::{Lane, PerLane};
use crate::domain::quantity::Share;
use crate::domain::relay::{Alarm, BreakerState};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn rules() -> DeskRules {
    DeskRules {
        reserved: PerLane { urgent: Share::QUARTER, standard: Share::NONE, journey: Share::NONE },
        domain_share: Share::THREE_QUARTERS,
        breaker_failures: 3,
        breaker_open_max: Duration::from_secs(4),
        back_off_max: Duration::from_mins(5),
    }
}

fn plan(sessions: u32, rate: Option<&str>) -> RelayPlan {
    RelayPlan { name: "primary".parse().unwrap(), sessions, rate: rate.map(|rate| rate.parse().unwrap()) }
}

fn desk(sessions: u32) -> Desk {
    Desk::new(&plan(sessions, None), &rules(), NOW)
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap()
}

fn down() -> Failure {
    Failure { trouble: "connect: no answer".into(), alarm: None, evidence: Evidence::Strong }
}

fn begin(desk: &mut Desk, domain: &str) -> Began {
    desk.begin(Lane::Standard, domain, NOW)
}

fn fill(desk: &mut Desk, lane: Lane) -> usize {
    let mut taken = 0;
    while desk.has_session(lane, NOW) {
        desk.begin(lane, &format!("d{taken}.example"), NOW);
        taken += 1;
    }
    taken
}

#[test]
fn reserved_sessions_are_left_for_their_lane() {
    let mut desk = desk(20);
    assert_eq!(fill(&mut desk, Lane::Standard), 15);
    assert!(!desk.has_session(Lane::Journey, NOW));
    assert_eq!(fill(&mut desk, Lane::Urgent), 5);
}

#[test]
fn a_lane_with_reserved_sessions_may_take_all_when_nobody_else_wants_them() {
    let mut desk = desk(20);
    assert_eq!(fill(&mut desk, Lane::Urgent), 20);
}

#[test]
fn a_single_session_is_anybodys() {
    let mut desk = desk(1);
    assert_eq!(fill(&mut desk, Lane::Standard), 1);
    assert!(!desk.has_session(Lane::Urgent, NOW));
}

#[test]
fn one_domain_never_takes_all_sessions_of_a_lane() {
    let mut desk = desk(20);
    let mut taken = 0;
    while desk.has_session(Lane::Standard, NOW) && desk.domain_may_go(Lane::Standard, "slow.example") == MayGo::Now {
        begin(&mut desk, "slow.example");
        taken += 1;
    }
    assert_eq!(taken, 11);
    assert!(desk.has_session(Lane::Standard, NOW));
    assert_eq!(desk.domain_may_go(Lane::Standard, "slow.example"), MayGo::AfterAnother);
    assert_eq!(desk.domain_may_go(Lane::Standard, "other.example"), MayGo::Now);
}

#[test]
fn what_began_before_the_breaker_opened_neither_blocks_nor_judges_the_relay_after_it() {
    let mut desk = desk(4);
    let now = NOW;
    let old: Vec<_> = (0..3).map(|_| begin(&mut desk, "hangs.example")).collect();
    for _ in 0..3 {
        desk.failed(now, 0.0, down());
    }
    desk.breaker.greeting();
    desk.greeted(now);
    assert!(desk.has_session(Lane::Urgent, now), "three attempts hang, and one session is free");
    assert_eq!(desk.end(Lane::Standard, "hangs.example", old[0]), Freshness::Stale);
    let fresh = desk.begin(Lane::Urgent, "other.example", now);
    assert!(!desk.has_session(Lane::Urgent, now), "half-open risks one mail");
    assert_eq!(desk.end(Lane::Urgent, "other.example", fresh), Freshness::Fresh);
}

#[test]
fn a_relay_in_doubt_is_risked_one_mail_while_another_takes_the_rest() {
    let mut desk = desk(4);
    let now = NOW;
    assert_eq!(desk.invites(Lane::Standard, now, Alternative::Another), Invitation::Come);
    desk.failed(now, 0.0, down());
    begin(&mut desk, "a.example");
    assert_eq!(desk.invites(Lane::Standard, now, Alternative::Another), Invitation::TryAnother);
    assert_eq!(desk.invites(Lane::Standard, now, Alternative::None), Invitation::Come);
    desk.succeeded(now);
    assert_eq!(desk.invites(Lane::Standard, now, Alternative::Another), Invitation::Come);
}

#[test]
fn the_rate_begins_empty_and_lanes_with_a_share_find_theirs_in_it() {
    let mut desk = Desk::new(&plan(100, Some("200/s")), &rules(), NOW);
    assert!(!desk.has_session(Lane::Standard, NOW), "a start is no reason for a burst");
    let later = at(1_000);
    let mut taken = 0;
    while desk.has_session(Lane::Standard, later) {
        desk.begin(Lane::Standard, &format!("d{taken}.example"), later);
        taken += 1;
    }
    assert_eq!(taken, 15, "a tenth of a second's worth, of which a quarter is kept");
    assert_eq!(desk.rate_next_at(Lane::Standard, later), Some(at(1_005)));
    for _ in 0..5 {
        assert!(desk.has_session(Lane::Urgent, later));
        desk.begin(Lane::Urgent, "a.example", later);
    }
    assert!(!desk.has_session(Lane::Urgent, later));
}

#[test]
fn what_did_not_reach_the_relay_does_not_count_against_its_rate() {
    let mut desk = Desk::new(&plan(4, Some("10/s")), &rules(), NOW);
    let began = desk.begin(Lane::Urgent, "a.example", at(100));
    assert!(!desk.has_session(Lane::Urgent, at(100)));
    desk.end(Lane::Urgent, "a.example", began);
    desk.did_not_reach();
    assert!(desk.has_session(Lane::Urgent, at(100)));
}

#[test]
fn a_relay_that_comes_back_begins_with_an_empty_rate() {
    let mut desk = Desk::new(&plan(20, Some("200/s,burst=500")), &rules(), NOW);
    for _ in 0..3 {
        desk.failed(at(60_000), 0.0, down());
    }
    desk.breaker.greeting();
    desk.greeted(at(61_000));
    assert!(!desk.has_session(Lane::Urgent, at(61_000)));
    assert!(desk.has_session(Lane::Urgent, at(61_005)));
    let began = desk.begin(Lane::Urgent, "a.example", at(61_005));
    desk.end(Lane::Urgent, "a.example", began);
    desk.succeeded(at(64_000));
    assert_eq!(desk.breaker.state(), BreakerState::Closed);
    assert!(!desk.has_session(Lane::Urgent, at(64_000)), "nor does its first success fill it");
}

#[test]
fn a_relay_that_turns_some_away_while_it_serves_others_is_used_by_fewer() {
    let mut desk = desk(20);
    let others: Vec<_> = (0..9).map(|n| desk.begin(Lane::Standard, &format!("d{n}.example"), at(n))).collect();
    desk.succeeded(at(20));
    let turned_away = desk.begin(Lane::Standard, "x.example", at(15));
    desk.end(Lane::Standard, "x.example", turned_away);
    desk.turned_away(None, turned_away, at(21), 0.0);
    assert_eq!(desk.breaker.state(), BreakerState::Closed);
    let view = desk.view(at(21));
    assert_eq!((view.sessions_allowed, view.learned_sessions.map(|learned| learned.value)), (5, Some(5)));
    assert!(!desk.has_session(Lane::Standard, at(21)));
    for (n, began) in others.into_iter().enumerate() {
        desk.end(Lane::Standard, &format!("d{n}.example"), began);
    }
    for second in 1..=40 {
        desk.succeeded(at(21 + second * 1_000));
    }
    assert_eq!(desk.view(at(60_000)).learned_sessions, None, "and by all again, slowly");
}

#[test]
fn a_relay_that_turns_everybody_away_is_failing() {
    let mut desk = desk(20);
    for _ in 0..3 {
        let began = begin(&mut desk, "a.example");
        desk.end(Lane::Standard, "a.example", began);
        desk.turned_away(None, began, NOW, 0.0);
    }
    assert_eq!(desk.breaker.state(), BreakerState::Open);
}

#[test]
fn a_relay_that_asks_to_be_left_alone_is_but_not_for_longer_than_is_configured() {
    let mut desk = desk(20);
    let began = begin(&mut desk, "a.example");
    desk.end(Lane::Standard, "a.example", began);
    desk.turned_away(Some(Duration::from_mins(1)), began, NOW, 0.0);
    assert!(!desk.is_open(at(59_999)) && desk.is_open(at(60_000)));
    assert_eq!(desk.view(NOW).back_off_until, Some(at(60_000)));
    desk.turned_away(Some(Duration::from_hours(24)), began, at(60_000), 0.0);
    assert!(!desk.is_open(at(359_999)) && desk.is_open(at(360_000)));
}

#[test]
fn refused_credentials_are_an_alarm_and_keep_the_breaker_open_for_longer() {
    let mut desk = desk(20);
    let refused = Failure {
        trouble: "AUTH: refused with 535".into(),
        alarm: Some(Alarm::Authentication),
        evidence: Evidence::Strong,
    };
    for _ in 0..3 {
        desk.failed(NOW, 0.0, refused.clone());
    }
    let health = desk.health();
    assert_eq!((health.breaker, health.alarm), (BreakerState::Open, Some(Alarm::Authentication)));
    assert_eq!(desk.breaker.gate(at(29_999)), Gate::Shut(at(30_000)));
    desk.take_over(&plan(20, None), &rules(), at(5_000));
    assert_eq!(desk.breaker.gate(at(5_000)), Gate::Greet);
    desk.breaker.greeting();
    desk.greeted(at(5_000));
    desk.succeeded(at(5_000));
    assert_eq!(desk.health().alarm, None);
}

#[test]
fn a_relay_that_says_nothing_to_all_its_sessions_does_not_keep_what_could_go_elsewhere() {
    let mut desk = desk(1);
    begin(&mut desk, "a.example");
    assert_eq!(desk.invites(Lane::Standard, at(4_999), Alternative::Another), Invitation::Wait);
    assert_eq!(desk.invites(Lane::Standard, at(5_000), Alternative::Another), Invitation::TryAnother);
    assert_eq!(desk.invites(Lane::Standard, at(5_000), Alternative::None), Invitation::Wait);
}

#[test]
fn a_relay_that_goes_is_left_when_the_last_mail_there_has_ended_and_one_that_returns_counts_on() {
    let mut desk = desk(1);
    let began = begin(&mut desk, "a.example");
    desk.retire();
    assert!(!desk.is_left() && !desk.is_open(NOW) && !desk.has_session(Lane::Urgent, NOW));
    desk.take_over(&plan(1, None), &rules(), NOW);
    assert!(desk.is_open(NOW) && !desk.has_session(Lane::Urgent, NOW), "its session is in use");
    desk.retire();
    desk.end(Lane::Standard, "a.example", began);
    assert!(desk.is_left());
}
