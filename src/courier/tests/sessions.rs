//! How many sessions there are and how long each is used.

use std::sync::Arc;

use futures_util::future::join_all;

use super::fake_relay::*;
use super::*;

fn serving() -> Vec<Step> {
    [welcome(&["PIPELINING"]), vec![Step::Serve]].concat()
}

fn mails(heard: &Heard) -> usize {
    heard.contents.len()
}

#[tokio::test]
async fn a_session_ends_politely_after_its_mails() {
    let relay = FakeRelay::follows(vec![serving(), serving()]).await;
    let courier = courier_to(&relay, json!({"messages_per_session": 2}));
    for _ in 0..3 {
        reply_of(carried(&courier).await);
    }
    courier.close().await;
    let heard = relay.heard().await;
    assert_eq!(heard.iter().map(mails).collect::<Vec<_>>(), [2, 1]);
    assert!(heard.iter().all(|heard| heard.lines.last().map(String::as_str) == Some("QUIT")));
}

#[tokio::test]
async fn the_relays_own_limit_of_mails_counts_too() {
    let one = [welcome(&["LIMITS MAILMAX=1"]), vec![Step::Serve]].concat();
    let relay = FakeRelay::follows(vec![one.clone(), one]).await;
    let courier = courier_to(&relay, json!({}));
    for _ in 0..2 {
        reply_of(carried(&courier).await);
    }
    drop(courier);
    assert_eq!(relay.heard().await.iter().map(mails).collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test]
async fn an_old_or_long_unused_session_is_not_used_again() {
    for key in ["session_age_max", "idle_max"] {
        let relay = FakeRelay::follows(vec![serving(), serving()]).await;
        let courier = courier_to(&relay, json!({key: "0s"}));
        for _ in 0..2 {
            reply_of(carried(&courier).await);
        }
        courier.close().await;
        let heard = relay.heard().await;
        assert_eq!(heard.iter().map(mails).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(heard[0].lines.last().map(String::as_str), Some("QUIT"));
    }
}

#[tokio::test]
async fn never_are_there_more_sockets_than_sessions() {
    // The relay answers three connections only: a fourth would wait in vain and time out.
    let relay = FakeRelay::follows(vec![serving(), serving(), serving()]).await;
    let courier = Arc::new(courier_to(&relay, json!({"sessions": 3})));
    let replies = join_all((0..60).map(|_| carried(&courier))).await;
    assert_eq!(replies.into_iter().map(reply_of).filter(|reply| reply.code == 250).count(), 60);
    assert_eq!(courier.only_pool().idle_count(), 3);
    courier.close().await;
    assert_eq!(relay.heard().await.iter().map(mails).sum::<usize>(), 60);
}

#[tokio::test]
async fn who_finds_no_place_waits_no_longer_than_a_connect_may_take() {
    let relay = FakeRelay::follows(vec![serving()]).await;
    let courier = courier_to(&relay, json!({"sessions": 1, "connect_timeout": "100ms"}));
    let first = offered(&courier).await;
    assert!(matches!(
        not_offered(&courier).await,
        NotOffered::Unreachable(Trouble { stage: Stage::Connect, kind: TroubleKind::TimedOut(_) })
    ));
    drop(first);
    drop(courier);
    relay.heard().await;
}

#[tokio::test]
async fn greeting_opens_a_session_that_the_next_mail_uses() {
    let relay = FakeRelay::follows(vec![serving(), serving()]).await;
    let courier = courier_to(&relay, json!({}));
    courier.greet(&relay_name()).await.unwrap();
    assert_eq!(courier.only_pool().nodelay(), [true]);
    // The second tells how the relay is now, so it does not use the first one's session.
    courier.greet(&relay_name()).await.unwrap();
    reply_of(carried(&courier).await);
    courier.close().await;
    let heard = relay.heard().await;
    assert_eq!(heard[0].lines, ["EHLO [127.0.0.1]", "QUIT"]);
    assert_eq!(mails(&heard[1]), 1);
    assert!(courier.greet(&"other".parse().unwrap()).await.is_err());
}

#[tokio::test]
async fn after_the_end_no_session_is_kept() {
    let relay = FakeRelay::follows(vec![serving()]).await;
    let courier = courier_to(&relay, json!({}));
    let offered = offered(&courier).await;
    courier.close().await;
    reply_of(offered.carry(b"x\r\n".to_vec(), &|| true).await);
    assert_eq!(courier.only_pool().idle_count(), 0);
    assert_eq!(relay.heard().await[0].lines.last().map(String::as_str), Some("QUIT"));
}

#[tokio::test]
async fn a_relay_that_lost_its_power_is_noticed_by_its_silence() {
    let relay = FakeRelay::follows(vec![serving()]).await;
    let session = open::open(&settings(relay.port(), json!({})), None).await.unwrap();
    session.wire.line(|line| {
        let socket = socket2::SockRef::from(line.socket());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), open::KEEPALIVE_AFTER);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), open::KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), open::KEEPALIVE_RETRIES);
    });
    session.quit().await;
    relay.heard().await;
}

#[tokio::test]
async fn new_settings_use_no_old_session_and_mails_under_way_end_on_theirs() {
    let relay = FakeRelay::follows(vec![serving(), serving(), serving()]).await;
    let courier = courier_to(&relay, json!({"sessions": 2, "connect_timeout": "100ms"}));
    let under_way = offered(&courier).await;
    reply_of(carried(&courier).await);
    courier.take_over(vec![settings(relay.port(), json!({"sessions": 1, "connect_timeout": "100ms"}))]).unwrap();
    assert!(matches!(not_offered(&courier).await, NotOffered::Unreachable(_)), "its only place is taken");
    assert_eq!(reply_of(under_way.carry(b"x\r\n".to_vec(), &|| true).await).code, 250);
    let first = offered(&courier).await;
    assert!(matches!(not_offered(&courier).await, NotOffered::Unreachable(_)), "there is one place, not two");
    first.withdraw().await;
    reply_of(carried(&courier).await);
    courier.close().await;
    let heard = relay.heard().await;
    assert_eq!(heard.iter().map(mails).collect::<Vec<_>>(), [1, 1, 1]);
    assert!(heard.iter().all(|heard| heard.lines.last().map(String::as_str) == Some("QUIT")));
}

#[tokio::test]
async fn new_settings_that_cannot_work_change_nothing() {
    let relay = FakeRelay::follows(vec![serving()]).await;
    let courier = courier_to(&relay, json!({}));
    courier.greet(&relay_name()).await.unwrap();
    let wrong = settings(relay.port(), json!({"name": "other", "sessions": 0}));
    assert!(courier.take_over(vec![settings(relay.port(), json!({})), wrong]).is_err());
    reply_of(carried(&courier).await);
    courier.close().await;
    assert_eq!(relay.heard().await.iter().map(mails).collect::<Vec<_>>(), [1], "on the session it had");
}
