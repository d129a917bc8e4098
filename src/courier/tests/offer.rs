//! MAIL and RCPT: what is said, what a reply may look like, and when an envelope is offered once more.

use std::time::Duration;

use super::fake_relay::*;
use super::*;

fn refused(command: RefusedCommand, code: u16, text: &str) -> NotOffered {
    NotOffered::Refused { command, reply: Reply::new(code, text.to_owned()) }
}

#[tokio::test]
async fn a_mail_is_said_command_by_command_where_pipelining_is_not_offered() {
    let script = [
        welcome(&["SIZE 1000"]),
        takes_content(),
        // A yes to the content ends the envelope: no RSET.
        vec![say("250 2.0.0 Ok: queued as 4F2A91C2")],
        vec![hear("MAIL FROM:<from@brand.example> SIZE=100"), say("250 ok"), hear("RCPT"), say("250 ok")],
        vec![hear("RSET"), say("250 ok"), hear("QUIT"), say("221 bye")],
    ];
    let relay = FakeRelay::follows(vec![script.concat()]).await;
    let courier = courier_to(&relay, json!({}));
    assert_eq!(reply_of(carried(&courier).await).queue_id().as_deref(), Some("4F2A91C2"));
    offered(&courier).await.withdraw().await;
    courier.close().await;
    assert_eq!(relay.heard().await[0].contents, [b"Subject: x\r\n\r\nhello\r\n"]);
}

#[tokio::test]
async fn the_envelope_is_said_in_one_go_where_pipelining_is_offered_but_never_data() {
    let script = [
        welcome(&["PIPELINING"]),
        // All is heard before anything is answered.
        vec![
            hear("MAIL"),
            hear("RCPT"),
            say("250 ok\n250 ok"),
            hear("DATA"),
            say("354 go"),
            Step::Content,
            say("250 ok"),
        ],
        vec![hear("MAIL"), hear("RCPT"), say("250 ok"), say("550 5.1.1 nobody")],
        vec![hear("RSET"), hear("MAIL"), hear("RCPT"), say("250 ok\n451 4.7.1 later\n503 no sender")],
        vec![hear("RSET"), hear("MAIL"), hear("RCPT"), say("250 ok\n250 ok\n250 ok")],
    ];
    let relay = FakeRelay::follows(vec![script.concat()]).await;
    let courier = courier_to(&relay, json!({}));
    reply_of(carried(&courier).await);
    assert_eq!(not_offered(&courier).await, refused(RefusedCommand::Rcpt, 550, "5.1.1 nobody"));
    assert_eq!(not_offered(&courier).await, refused(RefusedCommand::Mail, 451, "4.7.1 later"));
    drop(offered(&courier).await);
    assert_eq!(relay.heard().await.len(), 1);
}

#[tokio::test]
async fn mail_says_only_what_the_mail_needs() {
    let everything = ["SIZE 1000", "8BITMIME", "SMTPUTF8"];
    let script = [
        welcome(&everything),
        vec![hear("MAIL FROM:<\"a b\"@brand.example> SIZE=100 BODY=8BITMIME SMTPUTF8"), say("250 ok")],
        vec![hear("RCPT TO:<jürgen@xn--bcher-kva.example>"), say("250 ok")],
    ];
    let relay = FakeRelay::follows(vec![script.concat()]).await;
    let courier = courier_to(&relay, json!({}));
    let odd = Envelope {
        sender: "\"a b\"@brand.example".parse().unwrap(),
        recipient: "jürgen@bücher.example".parse().unwrap(),
        eight_bit: true,
        ..envelope()
    };
    assert!(courier.offer(&relay_name(), &odd).await.is_ok());
    drop(courier);
    relay.heard().await;
}

#[tokio::test]
async fn headers_above_ascii_need_smtputf8_between_ascii_addresses_too() {
    let script = [
        welcome(&["8BITMIME", "SMTPUTF8"]),
        vec![hear("MAIL FROM:<from@brand.example> BODY=8BITMIME SMTPUTF8"), say("250 ok"), hear("RCPT"), say("250 ok")],
    ];
    let relay = FakeRelay::follows(vec![script.concat()]).await;
    let courier = courier_to(&relay, json!({}));
    let envelope = Envelope { eight_bit: true, utf8_headers: true, ..envelope() };
    assert!(courier.offer(&relay_name(), &envelope).await.is_ok());
    drop(courier);
    relay.heard().await;
}

#[tokio::test]
async fn a_mail_the_relay_cannot_take_is_never_mentioned_to_it() {
    let relay = FakeRelay::follows(vec![welcome(&["SIZE 99"])]).await;
    let courier = courier_to(&relay, json!({}));
    for (envelope, unfit) in [
        (Envelope { recipient: "jürgen@x.example".parse().unwrap(), ..envelope() }, Unfit::Smtputf8),
        (Envelope { utf8_headers: true, ..envelope() }, Unfit::Smtputf8),
        (Envelope { eight_bit: true, ..envelope() }, Unfit::EightBitMime),
        (envelope(), Unfit::Size),
    ] {
        assert_eq!(courier.offer(&relay_name(), &envelope).await.err(), Some(NotOffered::Unfit(unfit)));
    }
    drop(courier);
    assert_eq!(relay.heard().await[0].lines, ["EHLO [127.0.0.1]"]);
}

#[tokio::test]
async fn a_definite_answer_is_understood_however_it_is_written() {
    for (raw, code, text) in [
        (&b"550-5.1.1 no\r\n550-\r\n550 5.1.1 one\r\n"[..], 550, "5.1.1 no  5.1.1 one"),
        (b"571 5.7.1 not here\r\n", 571, "5.7.1 not here"),
        (b"550\r\n", 550, ""),
        (b"550 bare\n", 550, "bare"),
        (b"450 re\xe7u\r\n", 450, "re\u{fffd}u"),
        (b"354 what?\r\n", 354, "what?"),
    ] {
        let script = [welcome(&[]), vec![hear("MAIL"), say("250 ok"), hear("RCPT"), say_raw(raw)]];
        let relay = FakeRelay::follows(vec![script.concat()]).await;
        let courier = courier_to(&relay, json!({}));
        let not = not_offered(&courier).await;
        assert_eq!(not, refused(RefusedCommand::Rcpt, code, text), "{}", raw.escape_ascii());
    }
}

#[tokio::test]
async fn a_reply_may_come_in_pieces() {
    let mut script = vec![say("220 relay"), hear("EHLO")];
    script.extend(ehlo_reply(&[]).replace('\n', "\r\n").bytes().map(|byte| say_raw(&[byte])));
    script.extend([say_raw(b"\r"), say_raw(b"\n"), hear("MAIL"), say_raw(b"25"), say_raw(b"0-a\r\n250 "), say("b")]);
    script.extend([hear("RCPT"), say("250 ok")]);
    let relay = FakeRelay::follows(vec![script]).await;
    drop(offered(&courier_to(&relay, json!({}))).await);
    relay.heard().await;
}

#[tokio::test]
async fn what_is_not_smtp_or_nothing_at_all_is_trouble_and_ends_the_session() {
    let long = [b"250 ".as_slice(), &[b'a'; 3_000]].concat();
    let lost = |kind| NotOffered::Lost(Trouble { stage: Stage::Envelope, kind });
    for (last, expected) in [
        (say("hello"), lost(TroubleKind::Garbled)),
        (say("250-a\n550 b"), lost(TroubleKind::Garbled)),
        (Step::Say(long), lost(TroubleKind::Garbled)),
        (Step::Close, lost(TroubleKind::Closed(std::io::ErrorKind::UnexpectedEof))),
        (Step::Stall, lost(TroubleKind::TimedOut(Duration::from_millis(100)))),
    ] {
        let script = [welcome(&[]), vec![hear("MAIL"), last]];
        let relay = FakeRelay::follows(vec![script.concat()]).await;
        let courier = courier_to(&relay, json!({"command_timeout": "100ms"}));
        assert_eq!(not_offered(&courier).await, expected);
        assert_eq!(courier.only_pool().idle_count(), 0);
        relay.heard().await;
    }
}

#[tokio::test]
async fn a_relay_that_does_not_welcome_us_is_unreachable() {
    let trouble = |stage, kind| NotOffered::Unreachable(Trouble { stage, kind });
    for (script, expected) in [
        (vec![say("421 busy")], trouble(Stage::Greeting, TroubleKind::Refused(421))),
        (vec![say("554 no")], trouble(Stage::Greeting, TroubleKind::Refused(554))),
        (vec![say("SSH-2.0-x")], trouble(Stage::Greeting, TroubleKind::Garbled)),
        (vec![Step::Stall], trouble(Stage::Greeting, TroubleKind::TimedOut(Duration::from_millis(100)))),
        (vec![say("220 r"), hear("EHLO"), say("502 what?")], trouble(Stage::Greeting, TroubleKind::Refused(502))),
        (
            vec![say("220 r"), hear("EHLO"), say("502 what?"), Step::Stall],
            trouble(Stage::Greeting, TroubleKind::Refused(502)),
        ),
    ] {
        let relay = FakeRelay::follows(vec![script]).await;
        let quick = json!({"greeting_timeout": "100ms", "command_timeout": "100ms"});
        assert_eq!(not_offered(&courier_to(&relay, quick)).await, expected);
        relay.heard().await;
    }
    let relay = FakeRelay::follows(vec![]).await;
    let courier = courier_to(&relay, json!({}));
    relay.heard().await;
    let refused = TroubleKind::Closed(std::io::ErrorKind::ConnectionRefused);
    assert_eq!(not_offered(&courier).await, trouble(Stage::Connect, refused));
}

#[tokio::test]
async fn an_envelope_is_offered_once_more_when_a_used_session_had_ended() {
    let closing = "421 4.4.2 timed out";
    for ended in [
        vec![Step::Close],
        vec![say(closing), Step::Close],
        vec![hear("MAIL"), say(closing), Step::Close],
        vec![hear("MAIL"), Step::Close],
        vec![hear("MAIL"), say("garbage")],
    ] {
        let first = [welcome(&[]), takes_content(), vec![say("250 ok")], ended].concat();
        let second = [welcome(&[]), takes_content(), vec![say("250 second")]].concat();
        let relay = FakeRelay::follows(vec![first, second]).await;
        let courier = courier_to(&relay, json!({}));
        reply_of(carried(&courier).await);
        assert_eq!(reply_of(carried(&courier).await).text, "second");
        drop(courier);
        relay.heard().await;
    }
}

#[tokio::test]
async fn after_a_no_the_envelope_is_reset_and_a_session_that_ended_meanwhile_is_replaced() {
    for ended in [
        vec![hear("RSET"), Step::Close],
        vec![hear("RSET"), say("421 4.4.2 timed out"), Step::Close],
        vec![hear("RSET"), say("503 no")],
        vec![hear("RSET"), say("250 ok"), hear("MAIL"), Step::Close],
    ] {
        let first = [welcome(&[]), takes_content(), vec![say("450 later")], ended].concat();
        let second = [welcome(&[]), takes_content(), vec![say("250 second")]].concat();
        let relay = FakeRelay::follows(vec![first, second]).await;
        let courier = courier_to(&relay, json!({}));
        assert_eq!(reply_of(carried(&courier).await).code, 450);
        assert_eq!(reply_of(carried(&courier).await).text, "second");
        drop(courier);
        relay.heard().await;
    }
}

#[tokio::test]
async fn closing_is_an_answer_on_a_new_session_and_once_rcpt_is_answered() {
    let relay = FakeRelay::follows(vec![[welcome(&[]), vec![hear("MAIL"), say("421 busy")]].concat()]).await;
    let courier = courier_to(&relay, json!({}));
    assert_eq!(not_offered(&courier).await, refused(RefusedCommand::Mail, 421, "busy"));
    assert_eq!(courier.only_pool().idle_count(), 0);
    relay.heard().await;

    let first = vec![hear("MAIL"), hear("RCPT"), say("250 ok\n250 ok"), hear("RSET"), say("250 ok")];
    let again = vec![hear("MAIL"), hear("RCPT"), say("250 ok\n421 busy")];
    let script = [welcome(&["PIPELINING"]), first, again];
    let relay = FakeRelay::follows(vec![script.concat()]).await;
    let courier = courier_to(&relay, json!({}));
    offered(&courier).await.withdraw().await;
    assert_eq!(not_offered(&courier).await, refused(RefusedCommand::Rcpt, 421, "busy"));
    relay.heard().await;
}

#[tokio::test]
async fn a_reply_nobody_asked_for_is_never_taken_for_the_next_commands() {
    let script = [welcome(&[]), vec![hear("MAIL"), say("250 ok\n250 and another")]];
    let relay = FakeRelay::follows(vec![script.concat()]).await;
    let courier = courier_to(&relay, json!({}));
    let garbled = Trouble { stage: Stage::Envelope, kind: TroubleKind::Garbled };
    assert_eq!(not_offered(&courier).await, NotOffered::Lost(garbled));
    assert_eq!(relay.heard().await[0].lines.len(), 2);
}

#[tokio::test]
async fn a_cancelled_offer_closes_its_socket_and_frees_its_place() {
    let silent = [welcome(&[]), vec![hear("MAIL")]].concat();
    let second = [welcome(&[]), takes_content(), vec![say("250 ok")]].concat();
    let relay = FakeRelay::follows(vec![silent, second]).await;
    let courier = courier_to(&relay, json!({"sessions": 1}));
    let (name, envelope) = (relay_name(), envelope());
    let offer = courier.offer(&name, &envelope);
    assert!(tokio::time::timeout(Duration::from_millis(200), offer).await.is_err());
    assert_eq!(courier.only_pool().idle_count(), 0);
    reply_of(carried(&courier).await);
    drop(courier);
    assert_eq!(relay.heard().await[0].lines.len(), 2);
}

#[tokio::test]
async fn reports_are_asked_for_where_the_relay_offers_them_and_the_settings_say_which() {
    let plain = ["MAIL FROM:<from@brand.example>", "RCPT TO:<to@person.example>"].map(str::to_owned);
    let asking = [
        format!("{} RET=HDRS ENVID={}", plain[0], envelope().id),
        format!("{} NOTIFY=FAILURE,DELAY ORCPT=rfc822;to@person.example", plain[1]),
    ];
    for (offers, notify, expected) in [
        (&["DSN"][..], Some("failure,delay"), &asking),
        (&["DSN", "PIPELINING"], Some("failure,delay"), &asking),
        (&["DSN"], None, &plain),
        (&["DSN", "PIPELINING"], None, &plain),
        (&[], Some("failure,delay"), &plain),
        (&["PIPELINING"], Some("failure,delay"), &plain),
    ] {
        let answers = if offers.contains(&"PIPELINING") {
            vec![hear("MAIL"), hear("RCPT"), say("250 ok\n250 ok")]
        } else {
            vec![hear("MAIL"), say("250 ok"), hear("RCPT"), say("250 ok")]
        };
        let relay = FakeRelay::follows(vec![[welcome(offers), answers].concat()]).await;
        let more = notify.map_or_else(|| json!({}), |notify| json!({ "notify": notify }));
        drop(offered(&courier_to(&relay, more)).await);
        // Whole lines: a script looks at their beginnings only, and what is not asked for would stand at the end.
        assert_eq!(relay.heard().await[0].lines[1..], *expected, "{offers:?} {notify:?}");
    }
}

#[tokio::test]
async fn a_recipient_that_needs_smtputf8_is_asked_about_without_orcpt() {
    let script = [welcome(&["DSN", "SMTPUTF8"]), vec![hear("MAIL"), say("250 ok"), hear("RCPT"), say("250 ok")]];
    let relay = FakeRelay::follows(vec![script.concat()]).await;
    let courier = courier_to(&relay, json!({"notify": "failure"}));
    let foreign = Envelope { recipient: "jürgen@person.example".parse().unwrap(), ..envelope() };
    drop(courier.offer(&relay_name(), &foreign).await.unwrap_or_else(|not| panic!("{not:?}")));
    let mail = format!("MAIL FROM:<from@brand.example> SMTPUTF8 RET=HDRS ENVID={}", foreign.id);
    let rcpt = "RCPT TO:<jürgen@person.example> NOTIFY=FAILURE".to_owned();
    assert_eq!(relay.heard().await[0].lines[1..], [mail, rcpt]);
}
