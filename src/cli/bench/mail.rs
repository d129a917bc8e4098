//! The bench's mail: one request, made once, in which only numbers change from mail to mail.

use std::net::SocketAddr;

use serde_json::json;

/// Where a mail's number stands; as many digits.
const NUMBER: &str = "########";
/// Where its domain's number stands.
const DOMAIN: &str = "%%";
/// Recipients are spread over so many domains.
const DOMAINS: usize = 50;
/// More mails would not be told apart.
pub(super) const MAILS_MAX: u32 = 99_999_999;
/// The smallest Body that is still a mail.
pub(super) const BODY_BYTES_MIN: usize = 512;
/// The words are the same in every run.
const SEED: u64 = 0x706f_7374;

const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"fr\"><head><meta charset=\"utf-8\"><title>Votre carte</title></head>\n\
    <body style=\"margin:0;background:#f4f4f4\"><table role=\"presentation\" width=\"600\" align=\"center\">\n\
    <tr><td style=\"padding:24px\"><h1>Bonjour Zoë</h1>\n<p>Votre carte n° ######## est prête — ajoutez-la à votre téléphone.</p>\n";
const TAIL: &str = "</td></tr></table></body></html>\n";
const WORDS: [&str; 40] = [
    "votre",
    "carte",
    "fidélité",
    "avantages",
    "points",
    "boutique",
    "offre",
    "été",
    "prochaine",
    "visite",
    "cadeau",
    "anniversaire",
    "your",
    "pass",
    "wallet",
    "phone",
    "store",
    "welcome",
    "reward",
    "season",
    "members",
    "evening",
    "exclusive",
    "collection",
    "order",
    "ready",
    "thank",
    "you",
    "discover",
    "new",
    "until",
    "Sunday",
    "in",
    "the",
    "and",
    "with",
    "à",
    "où",
    "dès",
    "déjà",
];

/// A request to `/v1/emails`, or `/v1/pass-events`, to be numbered before it is sent.
#[derive(Clone)]
pub(super) struct Mail {
    request: Vec<u8>,
    numbers: Vec<usize>,
    domains: Vec<usize>,
}

impl Mail {
    /// A mail whose Body is `body_bytes` long.
    pub(super) fn new(to: SocketAddr, key: &str, body_bytes: usize) -> Self {
        let submission = json!({
            "recipient": format!("Zoë Client <client.{NUMBER}@shop{DOMAIN}.example>"),
            "emailTemplate": "registration",
            "Subject": format!("Votre carte n° {NUMBER} est prête"),
            "Body": html(body_bytes),
        });
        Self::of("/v1/emails", to, key, &submission.to_string())
    }

    /// The install of another customer's pass.
    pub(super) fn pass_event(to: SocketAddr, key: &str) -> Self {
        let event = json!({
            "event": "installed",
            "eventId": format!("event-{NUMBER}"),
            "occurredAt": format!("2026-01-01T00:{DOMAIN}:00Z"),
            "passId": format!("pass-{NUMBER}"),
            "passType": "loyalty",
            "identifiers": {"customerId": format!("customer-{NUMBER}"), "email": format!("client.{NUMBER}@shop{DOMAIN}.example")},
            "device": "apple",
            "additionalInformation": {
                "registrationInformation": {"activeRegistrationCount": 1, "totalRegistrationCount": 1},
                "registrationSource": {"tags": ["summer"], "medium": "email", "origin": "https://shop.example/card?utm_campaign=summer"},
            },
        });
        Self::of("/v1/pass-events", to, key, &event.to_string())
    }

    fn of(path: &str, to: SocketAddr, key: &str, submission: &str) -> Self {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {to}\r\nX-API-KEY: {key}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{submission}",
            submission.len()
        );
        let places = |of: &str| request.match_indices(of).map(|(at, _)| at).collect();
        Self { numbers: places(NUMBER), domains: places(DOMAIN), request: request.into_bytes() }
    }

    /// The request of mail `number`.
    pub(super) fn numbered(&mut self, number: u32) -> &[u8] {
        let digits = format!("{number:08}");
        for at in &self.numbers {
            self.request[*at..at + NUMBER.len()].copy_from_slice(digits.as_bytes());
        }
        let domain = format!("{:02}", number as usize % DOMAINS);
        for at in &self.domains {
            self.request[*at..at + DOMAIN.len()].copy_from_slice(domain.as_bytes());
        }
        &self.request
    }
}

/// Paragraphs of words, `bytes` long in all.
fn html(bytes: usize) -> String {
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut html = HEAD.to_owned();
    let room = bytes.saturating_sub(TAIL.len());
    loop {
        let words: Vec<&str> = (0..random.usize(12..40)).map(|_| WORDS[random.usize(..WORDS.len())]).collect();
        let link = random.u32(..);
        let paragraph = format!(
            "<p style=\"color:#333\">{}. <a href=\"https://shop.example/o/{link:08x}\">Voir l'offre</a></p>\n",
            words.join(" ")
        );
        if html.len() + paragraph.len() > room {
            break;
        }
        html.push_str(&paragraph);
    }
    // The rest to the byte.
    html.extend(std::iter::repeat_n('\n', room.saturating_sub(html.len())));
    html.push_str(TAIL);
    html
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use serde_json::Value;

    use super::*;

    fn submission(request: &[u8]) -> Value {
        let text = std::str::from_utf8(request).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn the_body_is_as_long_as_asked_and_not_only_ascii() {
        for bytes in [BODY_BYTES_MIN, 513, 10_240, 100_001] {
            let html = html(bytes);
            assert_eq!(html.len(), bytes);
            assert!(!html.is_ascii());
        }
    }

    #[test]
    fn mails_differ_in_recipient_subject_and_body_over_fifty_domains() {
        let mut mail = Mail::new(SocketAddr::from(([127, 0, 0, 1], 8080)), "pst_x", 2_000);
        let first = submission(mail.numbered(7));
        let second = submission(mail.numbered(20_058));
        assert_eq!(first["recipient"], "Zoë Client <client.00000007@shop07.example>");
        assert_eq!(second["recipient"], "Zoë Client <client.00020058@shop08.example>");
        assert_eq!(second["Subject"], "Votre carte n° 00020058 est prête");
        assert!(second["Body"].as_str().unwrap().contains("n° 00020058 est"));
        assert_eq!(second["Body"].as_str().unwrap().len(), 2_000);
    }
}
