//! Reports as they are written, as they are mutilated, and mails that are none.

#![expect(clippy::unwrap_used, reason = "a test may stop at once")]
use super::*;

/// As Debian's Postfix writes it.
const POSTFIX: &str = "Return-Path: <>\r\nFrom: MAILER-DAEMON@relay.example (Mail Delivery System)\r\n\
Subject: Undelivered Mail Returned to Sender\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"4F2A16.1764239000/relay.example\"\r\n\
\r\nThis is a MIME-encapsulated message.\r\n\r\n--4F2A16.1764239000/relay.example\r\n\
Content-Description: Notification\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nI'm sorry.\r\n\r\n\
--4F2A16.1764239000/relay.example\r\nContent-Description: Delivery report\r\n\
Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; relay.example\r\nX-Postfix-Queue-ID: 4F2A16\r\n\
Arrival-Date: Fri, 27 Nov 2026 10:00:00 +0000 (UTC)\r\n\r\nFinal-Recipient: rfc822; ann@customer.example\r\n\
Original-Recipient: rfc822;ann@customer.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\
Diagnostic-Code: X-Postfix; unknown user: \"ann\"\r\n\r\n--4F2A16.1764239000/relay.example\r\n\
Content-Description: Undelivered Message\r\nContent-Type: message/rfc822\r\n\r\nSubject: Hello\r\n\r\nHello\r\n\r\n\
--4F2A16.1764239000/relay.example--\r\n";

const COMPLAINT: &str = "Content-Type: multipart/report; boundary=b; report-type=feedback-report\n\n--b\n\
Content-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: Someone/1.0\nVersion: 1\n\n--b--\n";

fn delivered(mail: &str) -> Option<Delivery> {
    match read(mail.as_bytes()) {
        Some(Said::Delivery(delivery)) => Some(delivery),
        Some(Said::Complaint) | None => None,
    }
}

#[test]
fn a_report_of_postfix_says_what_failed_and_why_also_with_bare_line_ends() {
    for mail in [POSTFIX.to_owned(), POSTFIX.replace("\r\n", "\n")] {
        let delivery = delivered(&mail).unwrap();
        assert_eq!((delivery.action, delivery.code), (Action::Failed, EnhancedCode::leading("5.1.1")));
        assert_eq!(delivery.shown(), "report: failed 5.1.1 (unknown user: \"ann\")");
    }
}

#[test]
fn each_action_is_read_and_of_several_recipients_the_gravest_word_counts() {
    for (word, action) in [
        ("failed", Some(Action::Failed)),
        ("Delayed (soon)", Some(Action::Delayed)),
        ("DELIVERED", Some(Action::Delivered)),
        ("relayed", Some(Action::Relayed)),
        ("expanded", Some(Action::Relayed)),
        ("lost", None),
        ("", None),
    ] {
        let mail = POSTFIX.replace("Action: failed", &format!("Action: {word}"));
        assert_eq!(delivered(&mail).map(|delivery| delivery.action), action, "{word}");
    }
    let more = "Action: delivered\r\nStatus: 2.0.0\r\n\r\n\r\nAction: failed\r\nStatus: 5.2.2";
    let several = POSTFIX.replace("Action: failed\r\nStatus: 5.1.1", more);
    let delivery = delivered(&several).unwrap();
    assert_eq!((delivery.action, delivery.code), (Action::Failed, EnhancedCode::leading("5.2.2")));
}

#[test]
fn a_complaint_is_read_and_praise_is_none() {
    assert_eq!(read(COMPLAINT.as_bytes()), Some(Said::Complaint));
    assert_eq!(read(COMPLAINT.replace("abuse", "not-spam").as_bytes()), None);
}

#[test]
fn what_only_quotes_a_report_is_none() {
    let answer = POSTFIX.replace("multipart/report", "multipart/mixed");
    let inside = format!("Content-Type: text/plain\r\n\r\n{POSTFIX}");
    let other = POSTFIX.replace("message/delivery-status", "text/plain");
    for mail in [answer, inside, other, "Subject: out of office\n\nBack on Monday".to_owned(), String::new()] {
        assert_eq!(read(mail.as_bytes()), None, "{mail}");
    }
    // A mail that comes back may hold a report of its own: what is said of it comes first.
    let nested = POSTFIX.replace("Subject: Hello\r\n\r\nHello", &POSTFIX.replace("failed", "delivered"));
    assert_eq!(delivered(&nested).unwrap().action, Action::Failed);
}

#[test]
fn words_without_end_are_cut_and_stay_in_one_line() {
    let long = "ä".repeat(3_000);
    let mail = POSTFIX.replace("unknown user: \"ann\"", &format!("{long}\r\n\u{7}more"));
    let words = delivered(&mail).unwrap().words.unwrap();
    assert!(words.len() <= REPLY_BYTES_MAX && words.starts_with('ä') && !words.contains(char::is_control));
}

#[test]
fn a_thousand_mutilated_reports_are_read_to_their_end() {
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..1_000 {
        let mut mail = if round % 4 == 0 { COMPLAINT } else { POSTFIX }.as_bytes().to_vec();
        for _ in 0..random.usize(1..20) {
            let at = random.usize(..mail.len());
            match random.u8(..5) {
                0 => mail[at] = random.u8(..),
                1 => drop(mail.drain(at..(at + random.usize(1..60)).min(mail.len()))),
                2 => mail.insert(at, *random.choice(b"\r\n\":;=-\\ \0\xff").unwrap()),
                3 => mail.truncate(at.max(1)),
                _ => {
                    let piece = mail[at..(at + random.usize(1..200)).min(mail.len())].to_vec();
                    let to = random.usize(..mail.len());
                    mail.splice(to..to, piece);
                }
            }
            if mail.is_empty() {
                mail.push(b'\n');
            }
        }
        let read = read(&mail);
        if let Some(Said::Delivery(Delivery { words: Some(words), .. })) = read {
            assert!(words.len() <= REPLY_BYTES_MAX && !words.contains(['\r', '\n']));
        }
    }
}
