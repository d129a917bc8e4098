//! What a relay's failures cost, and where its mails go meanwhile.

use super::*;
use crate::domain::relay::{Alarm, BreakerState};

fn two() -> Built {
    Built { relays: vec![("primary", None), ("second", None)], ..Built::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_cannot_be_reached_costs_no_attempts() {
    let stage = House::with([Next::Down, Next::Down, Next::Down]);
    let id = stage.accept().await;
    stage.until_courier(|told| told.offered == 3).await;
    // Three failures opened the breaker: it looks again after half a second at most.
    stage.clock.advance(Duration::from_secs(1));
    assert_eq!(stage.until(id, |message| message.status == Status::Relayed).await.attempts, 1);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_refuses_us_ends_no_mail() {
    let stage = House::with([Next::Refuse(RefusedCommand::Mail, 530, "5.7.0 Authentication required")]);
    let id = stage.accept().await;
    assert_eq!(stage.until(id, |message| message.status == Status::Relayed).await.attempts, 1);
    stage.stop().await;
}

#[tokio::test]
async fn what_a_relay_says_of_itself_at_rcpt_is_spent_like_any_other_refusal() {
    for (code, text) in
        [(454, "4.7.1 Relay access denied"), (421, "4.7.0 too many"), (530, "5.7.0 Authentication required")]
    {
        let stage = House::with([Next::Refuse(RefusedCommand::Rcpt, code, text)]);
        let id = stage.accept().await;
        let deferred = stage.until(id, |message| message.status == Status::Deferred).await;
        assert_eq!((deferred.attempts, deferred.reason), (1, Some(Reason::RelayRefused)), "{code}");
        stage.stop().await;
    }
}

#[tokio::test]
async fn a_recipient_that_is_always_refused_as_relaying_does_not_stop_the_others() {
    let refuse = || Next::Refuse(RefusedCommand::Rcpt, 454, "4.7.1 Relay access denied");
    let stage = House::with((0..5).map(|_| refuse()));
    for _ in 0..5 {
        let id = stage.accept().await;
        stage.until(id, |message| message.status == Status::Deferred).await;
    }
    let other = stage.accept().await;
    stage.until(other, |message| message.status == Status::Relayed).await;
    // An open breaker greets before it lets a mail pass.
    assert_eq!(stage.courier.with(|told| told.greeted), 0, "no breaker was open");
    stage.stop().await;
}

#[tokio::test]
async fn a_relay_that_closes_at_mail_costs_no_attempts() {
    let closing = || Next::Refuse(RefusedCommand::Mail, 421, "4.3.2 shutting down");
    let stage = House::with([closing(), closing(), closing()]);
    let id = stage.accept().await;
    stage.until_courier(|told| told.offered == 3).await;
    assert_eq!(stage.message(id).await.attempts, 0);
    stage.clock.advance(Duration::from_secs(1));
    assert_eq!(stage.until(id, |message| message.status == Status::Relayed).await.attempts, 1);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_the_dot_that_is_neither_yes_nor_no_is_unknown() {
    let stage = House::with([Next::DotSays(354), Next::DotSays(200)]);
    let unclear = stage.accept().await;
    assert!(stage.until(unclear, |message| message.status == Status::Unknown).await.may_have_been_sent);
    let yes = stage.accept().await;
    stage.until(yes, |message| message.status == Status::Relayed).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_with_the_relay_costs_no_attempt() {
    for (lost, wait) in [(Next::LostAtRcpt, None), (Next::LostInContent, Some(Duration::from_secs(36)))] {
        let stage = House::with([lost]);
        let id = stage.accept().await;
        if let Some(wait) = wait {
            let deferred = stage.until(id, |message| message.status == Status::Deferred).await;
            assert_eq!(deferred.attempts, 0, "it lets others go first");
            stage.clock.advance(wait);
        }
        let message = stage.until(id, |message| message.status == Status::Relayed).await;
        assert_eq!((message.attempts, message.may_have_been_sent), (1, false));
        assert_eq!(stage.courier.with(|told| told.offered), 2);
        stage.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_that_makes_the_relay_drop_its_connection_is_put_off_while_others_go() {
    let stage = House::with([]);
    stage.courier.with(|told| told.poison = Some("poison@customer.example"));
    let poison = stage.accept_as("demo", Lane::Standard, "poison@customer.example", stage.clock.now()).await;
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(stage.accept().await);
        stage.clock.advance(Duration::from_millis(100));
    }
    let put_off = stage.until(poison, |message| message.status == Status::Deferred).await;
    assert_eq!((put_off.attempts, put_off.reason), (1, Some(Reason::ConnectionLost)));
    assert!(put_off.next_attempt_at.unwrap() > stage.clock.now(), "by its lane's table, not at once");
    for id in others {
        assert_eq!(stage.until(id, |message| message.status == Status::Relayed).await.attempts, 1);
    }
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_mails_that_make_every_relay_drop_its_connection_keep_no_others_waiting() {
    let stage = House::built(&two(), []);
    stage.courier.with(|told| told.drops_content = Some("drop"));
    let accept = async |lane, recipient: String| stage.accept_as("demo", lane, &recipient, stage.clock.now()).await;
    let mut bad = Vec::new();
    for n in 0..100 {
        bad.push(accept(Lane::Standard, format!("drop{n}@customer.example")).await);
    }
    let mut others = Vec::new();
    for n in 0..200 {
        let lane = if n % 20 == 0 { Lane::Urgent } else { Lane::Standard };
        others.push(accept(lane, format!("{lane}{n}@customer.example")).await);
    }
    for id in others {
        assert_eq!(stage.until(id, |message| message.status == Status::Relayed).await.attempts, 1);
    }
    let (greeted, at) = stage.courier.with(|told| (told.greeted, told.at.clone()));
    assert!(greeted <= 8, "a hundred of them are worth a handful of pauses of half a second: {greeted}");
    let urgent = |(_, recipient): &(String, String)| recipient.starts_with("urgent");
    let last = at.iter().rposition(urgent).unwrap();
    assert!(last < 160, "urgent mails wait for two or three of those at most: {last}");

    for id in bad {
        let message = stage.until(id, |message| message.status == Status::Deferred).await;
        assert_eq!((message.reason, message.may_have_been_sent), (Some(Reason::ConnectionLost), false));
    }
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mails_move_to_the_second_relay_unspent_and_back_when_the_first_is_well() {
    let stage = House::built(&two(), []);
    stage.courier.with(|told| told.down.insert("primary"));
    for _ in 0..5 {
        let id = stage.accept().await;
        let message = stage.until(id, |message| message.status == Status::Relayed).await;
        assert_eq!((message.attempts, message.relay.unwrap().as_str()), (1, "second"));
    }
    stage.courier.with(|told| told.down.clear());
    stage.clock.advance(Duration::from_secs(5));
    stage.until_courier(|told| told.greeted >= 1).await;
    let look = async {
        loop {
            let id = stage.accept().await;
            let message = stage.until(id, |message| message.status == Status::Relayed).await;
            if message.relay.unwrap().as_str() == "primary" {
                return;
            }
            stage.clock.advance(Duration::from_millis(100));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), look).await.unwrap();
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_first_relay_may_have_taken_is_not_given_to_the_second_as_if_nothing_had_been() {
    let held = House::built(&two(), [Next::LostAtDot]);
    held.courier.with(|told| told.down.insert("second"));
    let id = held.accept().await;
    held.until(id, |message| message.status == Status::Unknown).await;
    held.courier.with(|told| {
        told.down.clear();
        told.down.insert("primary");
    });
    let other = held.accept().await;
    held.until(other, |message| message.status == Status::Relayed).await;
    held.clock.advance(Duration::from_mins(2));
    let message = held.until(id, |message| message.status == Status::Held).await;
    assert_eq!((message.reason, message.may_have_been_sent), (Some(Reason::UnknownHeld), true));
    assert_eq!(held.courier.with(|told| told.at.iter().filter(|(relay, _)| relay == "second").count()), 1);
    held.stop().await;

    let resent = House::built(&Built { on_unknown: UnknownPolicy::ResendOnce, ..two() }, [Next::LostAtDot]);
    let id = resent.accept().await;
    resent.until(id, |message| message.status == Status::Unknown).await;
    resent.clock.advance(Duration::from_mins(2));
    let message = resent.until(id, |message| message.status == Status::Relayed).await;
    assert_eq!((message.attempts, message.may_have_been_sent), (2, true), "once more, by the lane's policy");
    resent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_down_is_told_with_its_trouble_and_to_the_mail_that_waits() {
    let stage = House::with([]);
    stage.courier.with(|told| told.down.insert("primary"));
    let id = stage.accept().await;
    let look = async {
        loop {
            let overview = stage.control.overview().await.unwrap();
            if overview.relays[0].breaker == BreakerState::Open && overview.relays[0].shut_until.is_some() {
                return overview;
            }
            tokio::task::yield_now().await;
        }
    };
    let overview = tokio::time::timeout(Duration::from_secs(20), look).await.unwrap();
    assert!(overview.relays[0].trouble.as_deref().unwrap().starts_with("connect"), "{overview:?}");
    assert_eq!((overview.relays[0].sessions_allowed, overview.lanes.standard.in_window), (0, 1));
    let subject = subject(id, Lane::Standard);
    let bindings = stage.control.explain(subject).await.unwrap();
    let shut = |binding: &Binding| matches!(binding, Binding::RelayShut { trouble: Some(_), .. });
    assert!(bindings.iter().any(shut), "{bindings:?}");
    assert!(bindings.contains(&Binding::InWindow { position: 1, of: 1 }), "{bindings:?}");
    let unseen = stage.accept().await;
    let bindings = stage.control.explain(self::subject(unseen, Lane::Standard)).await.unwrap();
    assert!(matches!(bindings.as_slice(), [Binding::RelayShut { .. }]), "no look could see it: {bindings:?}");
    stage.courier.with(|told| told.down.clear());
    stage.until(id, |message| message.status == Status::Relayed).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_credentials_are_an_alarm_end_no_mail_and_are_not_tried_again_and_again() {
    let stage = House::with([]);
    stage.courier.with(|told| told.no_entry = true);
    let id = stage.accept().await;
    let look = async {
        while stage.control.overview().await.unwrap().relays[0].alarm != Some(Alarm::Authentication) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), look).await.unwrap();
    let told = |told: &mut Told| (told.offered, told.greeted);
    let before = stage.courier.with(told);
    for _ in 0..29 {
        stage.clock.advance(Duration::from_secs(1));
        stage.control.overview().await.unwrap();
    }
    assert_eq!((stage.courier.with(told), before), ((3, 0), (3, 0)));
    assert_eq!(stage.message(id).await.attempts, 0);
    stage.courier.with(|told| told.no_entry = false);
    stage.clock.advance(Duration::from_secs(2));
    assert_eq!(stage.until(id, |message| message.status == Status::Relayed).await.attempts, 1);
    assert_eq!(stage.control.overview().await.unwrap().relays[0].alarm, None);
    stage.stop().await;
}
