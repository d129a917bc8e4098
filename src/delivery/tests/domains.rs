//! Recipient domains: their rates, and what their answers teach.

use std::time::Duration;

use jiff::Timestamp;

use super::super::domains::{Domains, MayGo, ObservedPace, PutOff};
use super::super::settings::DeliverySettings;
use crate::domain::lane::{Lane, PerLane};
use crate::domain::quantity::Share;
use crate::domain::rates::DomainRates;
use crate::domain::shaping::Binding;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap()
}

fn domains_of(rates: &[(&str, &str)], domains_max: usize) -> Domains {
    let rates = rates.iter().map(|(domain, rate)| ((*domain).to_owned(), rate.parse().unwrap()));
    let rates = DomainRates::try_from(rates.collect::<std::collections::BTreeMap<_, _>>()).unwrap();
    let settings = DeliverySettings { domains_max, ..DeliverySettings::default() };
    let reserved = PerLane { urgent: Share::QUARTER, standard: Share::NONE, journey: Share::NONE };
    Domains::new(rates, &settings, reserved, at(0))
}

/// Sends all it may at one moment.
fn drain(domains: &mut Domains, lane: Lane, domain: &str, now: i64) -> u32 {
    let mut sent = 0;
    while sent < 10_000 && domains.may_go(lane, domain, at(now)) == MayGo::Now {
        domains.take(domain, at(now));
        sent += 1;
    }
    sent
}

/// Three sessions, ten milliseconds a mail: 300 a second.
fn pace(now: i64) -> ObservedPace {
    ObservedPace { under_way: 3, began_at: at(now - 10) }
}

#[test]
fn a_domain_has_its_own_rate_and_each_other_domain_the_rate_of_the_others() {
    let mut domains = domains_of(&[("gmail.com", "20/s"), ("*", "100/s")], 100);
    assert_eq!(drain(&mut domains, Lane::Urgent, "gmail.com", 0), 0, "a start is no reason for a burst");
    assert_eq!(drain(&mut domains, Lane::Urgent, "gmail.com", 10_000), 2);
    assert_eq!(domains.may_go(Lane::Urgent, "gmail.com", at(10_000)), MayGo::At(at(10_050)));
    assert_eq!(drain(&mut domains, Lane::Urgent, "a.example", 10_000), 10);
    assert_eq!(drain(&mut domains, Lane::Urgent, "b.example", 10_000), 10);
    domains.put_back("gmail.com");
    assert_eq!(drain(&mut domains, Lane::Urgent, "gmail.com", 10_000), 1, "what reached nobody does not count");
    let mut free = domains_of(&[("gmail.com", "20/s")], 100);
    assert_eq!(drain(&mut free, Lane::Standard, "a.example", 0), 10_000);
    assert_eq!(free.len(), 0, "nothing is remembered of a domain without a limit");
}

#[test]
fn domains_are_remembered_while_there_is_need_and_those_without_room_share_one_rate() {
    let mut domains = domains_of(&[("*", "100/s")], 3);
    for n in 0..1_000 {
        let sent = drain(&mut domains, Lane::Urgent, &format!("d{n}.example"), 10_000);
        assert_eq!(sent, if n <= 3 { 10 } else { 0 }, "{n}");
        assert!(domains.len() <= 3);
    }
    domains.tidy(at(10_050));
    assert_eq!(domains.len(), 3, "their rates are not whole again");
    domains.tidy(at(10_100));
    assert_eq!(domains.len(), 0);
    assert_eq!(drain(&mut domains, Lane::Urgent, "d999.example", 10_100), 10);
}

#[test]
fn dead_domains_that_fill_the_table_make_room_for_others() {
    let mut domains = domains_of(&[("slow.example", "1/s")], 10);
    domains.back_off("waits.example", Duration::from_secs(90), at(0));
    for n in 0..100 {
        let now = n * 500;
        domains.was_put_off(&format!("d{n}.example"), PutOff::Recipient, pace(now), at(now));
        assert!(domains.len() <= 10);
    }
    domains.was_put_off("a.example", PutOff::Asked, pace(50_000), at(50_000));
    assert_ne!(domains.may_go(Lane::Standard, "waits.example", at(50_000)), MayGo::Now, "it asked for a wait");
    assert_eq!(drain(&mut domains, Lane::Standard, "b.example", 50_000), 10_000, "nobody pays for another");
    assert_eq!(drain(&mut domains, Lane::Urgent, "slow.example", 50_000), 1);
}

#[test]
fn a_domain_that_puts_off_everybody_ends_at_one_mail_a_second() {
    let mut domains = domains_of(&[], 100);
    for n in 0..9 {
        domains.was_put_off("busy.example", PutOff::Recipient, pace(n), at(n));
    }
    assert_eq!(domains.may_go(Lane::Standard, "busy.example", at(9)), MayGo::Now, "a few busy mailboxes");
    let mut sent = 0;
    for now in 10..10_000 {
        if domains.may_go(Lane::Standard, "busy.example", at(now)) == MayGo::Now {
            domains.take("busy.example", at(now));
            domains.was_put_off("busy.example", PutOff::Recipient, pace(now), at(now));
            sent += 1;
        }
    }
    assert!((9..30).contains(&sent), "{sent}");
    let learned = domains.view(at(10_000), 10).0[0].learned_per_second.unwrap();
    assert!((learned.value - 1.0).abs() < 1e-9 && learned.since < at(1_000), "{learned:?}");
    assert_eq!(domains.may_go(Lane::Standard, "other.example", at(10_000)), MayGo::Now);
}

#[test]
fn a_few_recipients_who_are_put_off_among_others_slow_nobody() {
    let mut domains = domains_of(&[], 100);
    for now in 0..1_000 {
        domains.was_put_off("a.example", PutOff::Recipient, pace(now), at(now));
        if now % 9 == 0 {
            domains.went_well("a.example", at(now));
        }
    }
    assert_eq!(domains.view(at(1_000), 10).0, []);
}

#[test]
fn a_request_to_go_slower_halves_the_rate_once_and_successes_raise_it_until_it_is_forgotten() {
    let mut domains = domains_of(&[], 100);
    let learned = |domains: &Domains, now| domains.view(at(now), 10).0.first().and_then(|view| view.learned_per_second);
    domains.was_put_off("a.example", PutOff::Asked, pace(1_000), at(1_000));
    domains.was_put_off("a.example", PutOff::Asked, pace(1_005), at(1_005));
    let first = learned(&domains, 1_005).unwrap();
    assert!((first.value - 150.0).abs() < 1e-9, "those under way together count once: {first:?}");
    domains.was_put_off("a.example", PutOff::Asked, pace(1_020), at(1_020));
    assert!((learned(&domains, 1_020).unwrap().value - 75.0).abs() < 1e-9);
    let mut raised = 0;
    while learned(&domains, 1_020 + raised * 100).is_some() {
        raised += 1;
        domains.went_well("a.example", at(1_020 + raised * 100));
    }
    assert!((100..200).contains(&raised), "tenths of a second until it was forgotten: {raised}");
    domains.tidy(at(20_000));
    assert_eq!(domains.len(), 0);
}

#[test]
fn urgent_mail_finds_a_place_at_a_domain_that_is_slowed_down() {
    let mut domains = domains_of(&[], 100);
    for n in 0..100 {
        domains.was_put_off("a.example", PutOff::Asked, pace(n * 20), at(n * 20));
    }
    assert_eq!(drain(&mut domains, Lane::Standard, "a.example", 5_000), 1);
    assert_eq!(drain(&mut domains, Lane::Urgent, "a.example", 5_000), 1);
    assert_eq!(drain(&mut domains, Lane::Urgent, "a.example", 5_000), 0);
}

#[test]
fn a_wait_that_a_domain_asks_for_is_kept_but_not_for_longer_than_is_configured() {
    let mut domains = domains_of(&[], 100);
    domains.back_off("a.example", Duration::from_secs(90), at(0));
    assert_eq!(domains.may_go(Lane::Urgent, "a.example", at(0)), MayGo::At(at(90_000)));
    domains.back_off("a.example", Duration::from_secs(10), at(0));
    assert_eq!(domains.may_go(Lane::Urgent, "a.example", at(89_999)), MayGo::At(at(90_000)));
    assert_eq!(domains.may_go(Lane::Urgent, "a.example", at(90_000)), MayGo::Now);
    domains.back_off("a.example", Duration::from_secs(1_000_000), at(100_000));
    assert_eq!(domains.may_go(Lane::Urgent, "a.example", at(100_000)), MayGo::At(at(400_000)));
    domains.tidy(at(50_000));
    assert_eq!(domains.may_go(Lane::Urgent, "a.example", at(50_000)), MayGo::Now, "the clock was put back");
}

#[test]
fn what_was_learned_is_forgotten_after_a_while_without_news() {
    let mut domains = domains_of(&[], 100);
    domains.was_put_off("a.example", PutOff::Asked, pace(0), at(0));
    domains.tidy(at(599_999));
    assert_eq!(domains.len(), 1);
    domains.tidy(at(600_000));
    assert_eq!(domains.len(), 0);
}

#[test]
fn new_settings_keep_what_was_learned_and_take_the_new_rates() {
    let mut domains = domains_of(&[("*", "100/s")], 100);
    drain(&mut domains, Lane::Urgent, "a.example", 10_000);
    domains.back_off("b.example", Duration::from_secs(90), at(10_000));
    domains.take_over(domains_of(&[("a.example", "1000/s")], 100));
    assert_eq!(drain(&mut domains, Lane::Urgent, "a.example", 10_000), 100);
    assert_eq!(domains.may_go(Lane::Urgent, "b.example", at(10_000)), MayGo::At(at(100_000)));
}

#[test]
fn a_new_rate_for_one_domain_gives_another_no_mail_and_takes_no_waiting_from_it() {
    let mut domains = domains_of(&[("slow.example", "4/h")], 100);
    assert_eq!(drain(&mut domains, Lane::Urgent, "slow.example", 0), 1, "a start is no reason to wait");
    domains.take_over(domains_of(&[("slow.example", "4/h"), ("a.example", "1/s")], 100));
    assert_eq!(domains.may_go(Lane::Urgent, "slow.example", at(600_000)), MayGo::At(at(900_000)));
    assert_eq!(domains.may_go(Lane::Urgent, "slow.example", at(900_000)), MayGo::Now);
}

#[test]
fn a_rate_that_has_let_nothing_go_yet_is_told_like_any_other() {
    let domains = domains_of(&[("gmail.com", "1/s")], 100);
    let told = domains.bindings(Lane::Urgent, "gmail.com", at(0));
    assert!(matches!(told.as_slice(), [Binding::DomainRateSpent { .. }]), "{told:?}");
    assert_eq!(domains.may_go(Lane::Urgent, "gmail.com", at(0)), MayGo::At(told[0].until().unwrap()));
    assert!(domains.bindings(Lane::Urgent, "a.example", at(0)).is_empty());
}
