//! Rates, turns and answers in the running dispatcher, and what it tells of them.

use super::*;
use crate::store::KeyStore as _;

fn due(stage: &House) -> Timestamp {
    stage.clock.now()
}

/// Lets so much time pass in steps of a millisecond, each seen by the dispatcher.
async fn pass(stage: &House, millis: u32) {
    for _ in 0..millis {
        stage.clock.advance(Duration::from_millis(1));
        // Answered by the dispatcher, and by a thread of the store: both had their turn.
        stage.control.overview().await.unwrap();
        stage.store.keys().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn urgent_finds_its_share_of_a_relay_whose_rate_a_backlog_spends() {
    let built = Built { relays: vec![("primary", Some("20/s"))], reserved: Share::QUARTER, ..Built::default() };
    let stage = House::built(&built, []);
    for n in 0..200 {
        stage.accept_as("demo", Lane::Journey, &format!("j{n}@customer.example"), due(&stage)).await;
    }
    pass(&stage, 1_000).await;
    // A store that is slow on a busy machine makes it fewer, nothing makes it more.
    let journey = stage.courier.with(|told| told.offered);
    assert!((1..=21).contains(&journey), "20 a second, from nothing: {journey}");
    let urgent = stage.accept_as("demo", Lane::Urgent, "code@customer.example", due(&stage)).await;
    stage.until(urgent, |message| message.status == Status::Relayed).await;
    let passed = stage.courier.with(|told| told.at.iter().position(|(_, to)| to.starts_with("code@")).unwrap());
    assert!(passed <= journey + 20, "before the 200 that wait: {passed}");
    let before = stage.courier.with(|told| told.offered);
    let moves = async {
        while stage.courier.with(|told| told.offered) == before {
            pass(&stage, 1).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), moves).await.unwrap();
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_mail_of_a_tenant_passes_the_backlog_of_another_at_a_limited_relay() {
    let stage = House::built(&Built { relays: vec![("primary", Some("20/s"))], ..Built::default() }, []);
    for n in 0..100 {
        stage.accept_as("demo", Lane::Standard, &format!("d{n}@customer{n}.example"), due(&stage)).await;
    }
    pass(&stage, 600).await;
    stage.accept_as("other", Lane::Standard, "one@customer.example", due(&stage)).await;
    let in_window = async || stage.control.overview().await.unwrap().lanes.standard.in_window;
    let offered = || stage.courier.with(|told| told.offered);
    // Its turn begins when the window has seen it.
    while in_window().await + offered() <= 100 {
        pass(&stage, 1).await;
    }
    let before = offered();
    while !stage.courier.with(|told| told.at.iter().any(|(_, to)| to.starts_with("one@"))) {
        pass(&stage, 1).await;
        let others = offered() - before;
        assert!(others <= 3, "no more than a turn: {others} went before it");
    }
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_at_its_rate_keeps_no_other_waiting_and_the_mail_is_told_why_it_waits() {
    let rates = [("slow.example".to_owned(), "1/s".parse().unwrap())];
    let domain_rates = DomainRates::try_from(BTreeMap::from(rates)).unwrap();
    let stage = House::built(&Built { domain_rates, ..Built::default() }, []);
    let mut slow = Vec::new();
    for n in 0..20 {
        slow.push(stage.accept_as("demo", Lane::Standard, &format!("s{n}@slow.example"), due(&stage)).await);
    }
    let other = stage.accept().await;
    let message = stage.until(other, |message| message.status == Status::Relayed).await;
    assert!(message.ended_at.unwrap().duration_since(start_of_time()).as_secs() < 2);
    let last = Subject { domain: "slow.example".into(), ..subject(slow[19], Lane::Standard) };
    let spent = |binding: &Binding| matches!(binding, Binding::DomainRateSpent { .. });
    while !stage.control.explain(last.clone()).await.unwrap().iter().any(spent) {
        pass(&stage, 1).await;
    }
    stage.until(slow[2], |message| message.status == Status::Relayed).await;
    let took = due(&stage).duration_since(start_of_time());
    assert!(took.as_millis() >= 2_900, "the third of one a second: {took}");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_that_is_told_to_come_back_in_a_while_comes_back_no_sooner() {
    let stage = House::with([Next::Refuse(RefusedCommand::Rcpt, 450, "4.7.1 Greylisted, try again in 4 minutes")]);
    let id = stage.accept().await;
    let deferred = stage.until(id, |message| message.status == Status::Deferred).await;
    let wait = deferred.next_attempt_at.unwrap().duration_since(start_of_time());
    assert!((240..=242).contains(&wait.as_secs()), "not after thirty seconds: {wait}");
    let overview = stage.control.overview().await.unwrap();
    assert_eq!(overview.domains.len(), 1);
    assert!(overview.domains[0].back_off_until.is_some() && overview.domains[0].learned_per_second.is_some());
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_settings_are_taken_over_and_what_is_under_way_at_a_relay_that_is_gone_still_ends() {
    let stage = House::with([Next::Hang]);
    let hangs = stage.accept().await;
    stage.until_courier(|told| told.offered == 1).await;
    let built = Built { relays: vec![("second", None)], ..Built::default() };
    let relay = "name = \"second\"\nhost = \"127.0.0.1\"\nport = 25\ntls = \"none\"\n";
    let mut tenants = built.tenants();
    tenants.remove(&"other".parse().unwrap());
    let plan = Plan {
        settings: DeliverySettings::default(),
        lanes: built.lanes(),
        relays: vec![toml::from_str(relay).unwrap()],
        tenants,
        domain_rates: DomainRates::default(),
    };
    stage.control.reconfigure(plan).await.unwrap();
    let overview = stage.control.overview().await.unwrap();
    let told: Vec<_> = overview.relays.iter().map(|relay| (relay.name.as_str(), relay.retired)).collect();
    assert_eq!(told, [("primary", true), ("second", false)]);
    let explained = stage.control.explain(subject(hangs, Lane::Standard)).await.unwrap();
    assert_eq!(explained, [Binding::InFlight { relay: "primary".parse().unwrap() }]);
    let next = stage.accept().await;
    let message = stage.until(next, |message| message.status == Status::Relayed).await;
    assert_eq!(message.relay.unwrap().as_str(), "second");
    stage.stop().await;
}
