//! DATA and what follows: lost or unknown, and what arrives is what was sent.

use std::io::ErrorKind;
use std::time::Duration;

use proptest::prelude::*;

use super::fake_relay::*;
use super::*;

const BIG_BYTES: usize = 20_000_000;

fn data(kind: TroubleKind) -> Trouble {
    Trouble { stage: Stage::Data, kind }
}

fn big_mail() -> Vec<u8> {
    b"0123456789\r\n".repeat(BIG_BYTES / 12)
}

async fn relay_after_data(last: Vec<Step>) -> FakeRelay {
    let data = vec![hear("DATA"), say("354 go")];
    let envelope = vec![hear("MAIL"), say("250 ok"), hear("RCPT"), say("250 ok")];
    FakeRelay::follows(vec![[welcome(&[]), envelope, data, last].concat()]).await
}

#[tokio::test]
async fn lost_before_the_final_dot_can_be_complete_is_lost() {
    let relay = relay_after_data(vec![Step::Take(1_000), Step::Close]).await;
    let courier = courier_to(&relay, json!({}));
    let carried = offered(&courier).await.carry(big_mail(), &|| true).await;
    assert!(
        matches!(carried, Carried::Lost(Trouble { stage: Stage::Data, kind: TroubleKind::Closed(_) })),
        "{carried:?}"
    );
    assert_eq!(courier.only_pool().idle_count(), 0);
}

#[tokio::test]
async fn a_relay_that_stops_reading_leaves_the_mail_lost_after_the_command_time_out() {
    let relay = relay_after_data(vec![Step::Take(1_000), Step::Stall]).await;
    let courier = courier_to(&relay, json!({"command_timeout": "200ms"}));
    let carried = offered(&courier).await.carry(big_mail(), &|| true).await;
    assert_eq!(carried, Carried::Lost(data(TroubleKind::TimedOut(Duration::from_millis(200)))));
    relay.heard().await;
}

#[tokio::test]
async fn lost_after_the_final_dot_is_unknown() {
    for (last, kind) in [
        (vec![Step::Content, Step::Close], TroubleKind::Closed(ErrorKind::UnexpectedEof)),
        (vec![Step::Content, Step::Stall], TroubleKind::TimedOut(Duration::from_millis(200))),
        (vec![Step::Content, say("what?")], TroubleKind::Garbled),
        (vec![Step::Content, say_raw(b"250 o"), Step::Close], TroubleKind::Closed(ErrorKind::UnexpectedEof)),
        (vec![Step::Content, say("250-ok")], TroubleKind::TimedOut(Duration::from_millis(200))),
    ] {
        let relay = relay_after_data(last).await;
        let courier = courier_to(&relay, json!({"data_timeout": "200ms"}));
        assert_eq!(carried(&courier).await, Carried::Unknown(data(kind)));
        assert_eq!(courier.only_pool().idle_count(), 0);
        relay.heard().await;
    }
}

#[tokio::test]
async fn what_the_relay_never_read_is_unknown_once_the_dot_left_us() {
    let relay = relay_after_data(vec![Step::Stall]).await;
    let courier = courier_to(&relay, json!({"data_timeout": "200ms"}));
    assert!(matches!(carried(&courier).await, Carried::Unknown(_)));
}

#[tokio::test]
async fn any_answer_to_the_final_dot_is_definite() {
    for (raw, code) in [
        (&b"250 re\xe7u\r\n"[..], 250),
        (b"250\r\n", 250),
        (b"250-2.0.0 Ok:\n250 queued as A1\n", 250),
        (b"554 5.7.1 spam\r\n", 554),
        (b"571 5.7.1 no\r\n", 571),
        (b"452 4.3.1 full\r\n", 452),
        (b"354 go on\r\n", 354),
        (b"421 closing\r\n", 421),
    ] {
        let relay = relay_after_data(vec![Step::Content, say_raw(raw)]).await;
        let courier = courier_to(&relay, json!({}));
        assert_eq!(reply_of(carried(&courier).await).code, code);
        assert_eq!(courier.only_pool().idle_count(), usize::from(![354, 421].contains(&code)), "{code}");
    }
}

#[tokio::test]
async fn a_refusal_in_the_middle_of_the_content_is_definite() {
    for then in [Step::Close, Step::Stall] {
        let relay = relay_after_data(vec![Step::Take(1_000), say("552 5.3.4 too big"), then]).await;
        let courier = courier_to(&relay, json!({"command_timeout": "500ms"}));
        assert_eq!(reply_of(offered(&courier).await.carry(big_mail(), &|| true).await).code, 552);
        assert_eq!(courier.only_pool().idle_count(), 0);
        relay.heard().await;
    }
}

#[tokio::test]
async fn data_refused_is_definite_and_nothing_is_sent() {
    for code in [451, 554, 421, 250] {
        let envelope = vec![hear("MAIL"), say("250 ok"), hear("RCPT"), say("250 ok"), hear("DATA")];
        let script = [welcome(&[]), envelope, vec![say(&format!("{code} no"))]];
        let relay = FakeRelay::follows(vec![script.concat()]).await;
        let courier = courier_to(&relay, json!({}));
        assert_eq!(carried(&courier).await, Carried::DataRefused(Reply::new(code, "no".into())));
        assert_eq!(courier.only_pool().idle_count(), usize::from([451, 554].contains(&code)));
        drop(courier);
        assert_eq!(relay.heard().await[0].lines.last().map(String::as_str), Some("DATA"));
    }
}

#[tokio::test]
async fn a_session_lost_at_data_leaves_the_mail_lost() {
    let envelope = vec![hear("MAIL"), say("250 ok"), hear("RCPT"), say("250 ok"), hear("DATA"), Step::Close];
    let relay = FakeRelay::follows(vec![[welcome(&[]), envelope].concat()]).await;
    let courier = courier_to(&relay, json!({}));
    assert_eq!(carried(&courier).await, Carried::Lost(data(TroubleKind::Closed(ErrorKind::UnexpectedEof))));
}

#[tokio::test]
async fn an_answer_that_came_before_the_content_is_not_its_answer() {
    let envelope = vec![hear("MAIL"), say("250 ok"), hear("RCPT"), say("250 ok"), hear("DATA")];
    let script = [welcome(&[]), envelope, vec![say("354 go\n250 queued")]];
    let relay = FakeRelay::follows(vec![script.concat()]).await;
    let courier = courier_to(&relay, json!({}));
    assert_eq!(carried(&courier).await, Carried::Lost(data(TroubleKind::Garbled)));
}

#[tokio::test]
async fn a_cancelled_carry_closes_its_socket() {
    let relay = relay_after_data(vec![Step::Content]).await;
    let courier = courier_to(&relay, json!({}));
    let carry = offered(&courier).await.carry(b"x\r\n".to_vec(), &|| true);
    assert!(tokio::time::timeout(Duration::from_millis(200), carry).await.is_err());
    assert_eq!(courier.only_pool().idle_count(), 0);
    relay.heard().await;
}

/// Sends these over one session; what arrived.
async fn arrived(mails: &[Vec<u8>]) -> Heard {
    let relay = FakeRelay::follows(vec![[welcome(&["PIPELINING"]), vec![Step::Serve]].concat()]).await;
    let courier = courier_to(&relay, json!({}));
    for mail in mails {
        assert_eq!(
            reply_of(offered(&courier).await.carry(mail.clone(), &|| true).await).queue_id().as_deref(),
            Some("ABC123")
        );
    }
    drop(courier);
    relay.heard().await.remove(0)
}

#[tokio::test]
async fn what_arrives_is_what_was_sent() {
    let mails = [
        "a\r\n",
        "\r\n",
        ".\r\n",
        "..\r\n",
        "a\r\n.\r\nb\r\n",
        "\r\n.\r\n",
        ".\r\n.\r\n",
        "a\r\n\r\n\r\n",
        ".a\r\n..b\r\n...\r\n",
        "a\r\n.\r\nMAIL FROM:<x@y.example>\r\n",
        "ü\u{0}\r\n",
    ]
    .map(|mail| mail.as_bytes().to_vec());
    assert_eq!(arrived(&mails).await.contents, mails);
}

#[tokio::test]
async fn no_bare_line_end_smuggles_a_second_mail() {
    let smuggled = "RSET\r\nMAIL FROM:<x@y.example>\r\n";
    let mails = ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n"]
        .map(|end| format!("a{end}{smuggled}").into_bytes());
    let heard = arrived(&mails).await;
    assert_eq!(heard.contents, vec![format!("a\r\n.\r\n{smuggled}").into_bytes(); 6]);
    assert!(heard.lines.iter().all(|line| !line.contains("x@y.example")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_mail_arrives_byte_for_byte(mails in proptest::collection::vec(
        proptest::collection::vec(prop_oneof![Just(&b"\r\n"[..]), Just(&b"."[..]), Just(&b"a"[..]), Just(&b"\xff"[..])], 0..30), 1..20,
    )) {
        let mails: Vec<Vec<u8>> = mails.into_iter().map(|parts| [parts.concat(), b"\r\n".to_vec()].concat()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        prop_assert_eq!(runtime.block_on(arrived(&mails)).contents, mails);
    }
}
