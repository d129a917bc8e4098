//! The window: who has a place in it, and whose turn it is.

use jiff::Timestamp;
use uuid::Uuid;

use super::super::domains::MayGo;
use super::super::window::{PARKED_MAX, Plan, Window};
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::lane::Lane;
use crate::domain::message::Candidate;

fn tenant() -> TenantId {
    "demo".parse().unwrap()
}

fn candidate(number: u128, domain: &str) -> Candidate {
    Candidate {
        id: MessageId::from_uuid(Uuid::from_u128(number)),
        tenant: tenant(),
        lane: Lane::Standard,
        domain: domain.into(),
        due_at: Timestamp::UNIX_EPOCH,
        deliver_by: Timestamp::MAX,
    }
}

fn next(window: &mut Window) -> Option<Candidate> {
    window.next(Lane::Standard, &tenant(), Timestamp::UNIX_EPOCH, |_| MayGo::Now)
}

fn claim(window: &mut Window, due: &[&str], first: u128) -> Plan {
    let due: Vec<String> = due.iter().map(ToString::to_string).collect();
    let plan = window.plan(Lane::Standard, &tenant(), 10, &due);
    let mut number = first;
    for (domain, count) in plan.wants.clone() {
        for _ in 0..count {
            assert!(window.add(vec![candidate(number, &domain)]).is_empty());
            number += 1;
        }
    }
    plan
}

#[test]
fn a_domain_that_fills_the_window_makes_room_for_a_new_one() {
    let mut window = Window::new(30, [tenant()]);
    claim(&mut window, &["blocked.example"], 0);
    assert_eq!(window.len(), 10);
    let plan = claim(&mut window, &["blocked.example", "new.example"], 100);
    assert_eq!(plan.wants, [("new.example".to_owned(), 5)]);
    assert_eq!(plan.evicted.len(), 5);
    assert_eq!(window.len(), 10);
    let later = Timestamp::UNIX_EPOCH.checked_add(PARKED_MAX).unwrap();
    let may_go = |domain: &str| if domain == "blocked.example" { MayGo::At(later) } else { MayGo::Now };
    let got = window.next(Lane::Standard, &tenant(), Timestamp::UNIX_EPOCH, may_go).unwrap();
    assert_eq!(got.domain, "new.example");
}

#[test]
fn domains_take_turns() {
    let mut window = Window::new(30, [tenant()]);
    assert!(window.add((0..4).map(|n| candidate(n, "a.example")).collect()).is_empty());
    assert!(window.add((10..12).map(|n| candidate(n, "b.example")).collect()).is_empty());
    let order: Vec<String> = std::iter::from_fn(|| next(&mut window)).map(|c| c.domain).collect();
    assert_eq!(order, ["a.example", "b.example", "a.example", "b.example", "a.example", "a.example"]);
    assert_eq!(window.len(), 0);
}

#[test]
fn what_is_given_back_goes_first_again() {
    let mut window = Window::new(30, [tenant()]);
    assert!(window.add((0..3).map(|n| candidate(n, "a.example")).collect()).is_empty());
    let first = next(&mut window).unwrap();
    assert_eq!(window.put_back(first.clone()), None);
    assert_eq!(next(&mut window).unwrap(), first);
}

#[test]
fn however_many_domains_there_are_the_window_keeps_its_size() {
    let mut window = Window::new(90, [tenant()]);
    let domains: Vec<String> = (0..100).map(|n| format!("d{n}.example")).collect();
    let refs: Vec<&str> = domains.iter().map(String::as_str).collect();
    for round in 0..5 {
        claim(&mut window, &refs, round * 1_000);
        assert!(window.len() <= 30, "{}", window.len());
        next(&mut window);
    }
}

#[test]
fn what_is_late_leaves_the_window() {
    let mut window = Window::new(30, [tenant()]);
    let late = Candidate { deliver_by: Timestamp::UNIX_EPOCH, ..candidate(1, "a.example") };
    assert!(window.add(vec![late.clone(), candidate(2, "b.example")]).is_empty());
    assert_eq!(window.drop_late(Timestamp::UNIX_EPOCH), [late.id]);
    assert_eq!(window.len(), 1);
    assert_eq!(next(&mut window).unwrap().domain, "b.example");
}

#[test]
fn a_domain_that_may_not_go_is_asked_again_when_it_may_and_not_before() {
    let mut window = Window::new(30, [tenant()]);
    assert!(
        window
            .add(vec![candidate(1, "slow.example"), candidate(2, "slow.example"), candidate(3, "b.example")])
            .is_empty()
    );
    let now = Timestamp::UNIX_EPOCH;
    let at = |millis| Timestamp::from_millisecond(millis).unwrap();
    let asked = std::cell::Cell::new(0);
    let slow = |domain: &str| {
        asked.set(asked.get() + 1);
        if domain == "slow.example" { MayGo::At(at(50)) } else { MayGo::Now }
    };
    assert_eq!(window.next(Lane::Standard, &tenant(), now, slow).unwrap().domain, "b.example");
    assert_eq!(window.in_turn(Lane::Standard), 0, "nobody is left to ask");
    assert_eq!(window.next(Lane::Standard, &tenant(), now, slow), None);
    assert_eq!(asked.get(), 2);
    assert_eq!(window.wake(at(49)), Some(at(50)));
    assert_eq!(window.in_turn(Lane::Standard), 0);
    assert_eq!(window.wake(at(50)), None);
    assert_eq!(next(&mut window).unwrap().domain, "slow.example");
    assert_eq!(window.len(), 1);
}

#[test]
fn a_domain_that_waits_for_another_mail_to_end_comes_back_when_one_has() {
    let mut window = Window::new(30, [tenant()]);
    assert!(window.add((0..2).map(|n| candidate(n, "a.example")).collect()).is_empty());
    let now = Timestamp::UNIX_EPOCH;
    assert_eq!(window.next(Lane::Standard, &tenant(), now, |_| MayGo::AfterAnother), None);
    window.ended("b.example");
    assert_eq!(next(&mut window), None);
    window.ended("a.example");
    assert!(next(&mut window).is_some());
    assert_eq!(window.next(Lane::Standard, &tenant(), now, |_| MayGo::AfterAnother), None);
    window.ask_all_again();
    assert!(next(&mut window).is_some());
    assert_eq!(window.len(), 0);
}

#[test]
fn tenants_take_turns_and_one_mail_waits_for_no_more_than_a_turn() {
    let other: TenantId = "other".parse().unwrap();
    let mut window = Window::new(300, [tenant(), other.clone()]);
    assert!(window.add((0..50).map(|n| candidate(n, &format!("d{n}.example"))).collect()).is_empty());
    window.turn(Lane::Standard).unwrap();
    assert!(window.add(vec![Candidate { tenant: other.clone(), ..candidate(100, "a.example") }]).is_empty());
    let turns: Vec<TenantId> = (0..4).filter_map(|_| window.turn(Lane::Standard)).collect();
    assert_eq!(turns, [tenant(), other.clone(), tenant(), other]);
}

#[test]
fn tenants_that_wait_for_the_same_moment_come_back_in_the_order_they_came() {
    let other: TenantId = "aaa".parse().unwrap();
    let mut window = Window::new(300, [tenant(), other.clone()]);
    assert!(window.add(vec![candidate(1, "a.example")]).is_empty());
    assert!(window.add(vec![Candidate { tenant: other.clone(), ..candidate(2, "a.example") }]).is_empty());
    let (now, at) = (Timestamp::UNIX_EPOCH, Timestamp::from_millisecond(5).unwrap());
    for tenant in [tenant(), other.clone()] {
        assert_eq!(window.next(Lane::Standard, &tenant, now, |_| MayGo::At(at)), None);
    }
    window.wake(at);
    assert_eq!((window.turn(Lane::Standard), window.turn(Lane::Standard)), (Some(tenant()), Some(other)));
}

#[test]
fn what_was_emptied_while_it_was_outside_the_turn_begins_anew() {
    let mut window = Window::new(30, [tenant()]);
    let late = Candidate { deliver_by: Timestamp::UNIX_EPOCH, ..candidate(1, "a.example") };
    assert!(window.add(vec![late]).is_empty());
    let (now, at) = (Timestamp::UNIX_EPOCH, Timestamp::from_millisecond(5).unwrap());
    assert_eq!(window.next(Lane::Standard, &tenant(), now, |_| MayGo::At(at)), None);
    window.drop_late(now);
    assert!(window.add(vec![candidate(2, "a.example")]).is_empty());
    window.wake(at);
    assert!(next(&mut window).is_some());
    assert_eq!(next(&mut window), None);
}

#[test]
fn what_comes_back_for_a_tenant_that_is_gone_is_handed_on() {
    let mut window = Window::new(30, [tenant()]);
    assert!(window.add(vec![candidate(1, "a.example"), candidate(2, "a.example")]).is_empty());
    let first = next(&mut window).unwrap();
    assert_eq!(window.keep_tenants(&[]), [candidate(2, "a.example").id]);
    assert_eq!(window.in_turn(Lane::Standard), 0);
    assert_eq!(window.put_back(first.clone()), Some(first.id));
}
