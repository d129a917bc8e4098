//! What the courier promises, against a relay that follows a script.

#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

mod content;
mod fake_relay;
mod offer;
mod protection;
mod sessions;

use serde_json::{Value, json};

use self::fake_relay::FakeRelay;
use super::settings::{AuthMechanism, RelaySettings};
use super::*;

/// A courier to one relay named `r` at this port; `more` adds or replaces keys.
fn courier_to(relay: &FakeRelay, more: Value) -> SmtpCourier {
    SmtpCourier::new(vec![settings(relay.port(), more)]).unwrap()
}

fn settings(port: u16, more: Value) -> RelaySettings {
    let mut all = json!({"name": "r", "host": "127.0.0.1", "port": port, "tls": "none", "command_timeout": "5s", "data_timeout": "5s"});
    let Value::Object(more) = more else { panic!("not an object") };
    all.as_object_mut().unwrap().extend(more);
    serde_json::from_value(all).unwrap()
}

fn relay_name() -> RelayName {
    "r".parse().unwrap()
}

fn envelope() -> Envelope {
    Envelope {
        id: MessageId::from_uuid(uuid::Uuid::from_u128(7)),
        sender: "from@brand.example".parse().unwrap(),
        recipient: "to@person.example".parse().unwrap(),
        size: 100,
        eight_bit: false,
        utf8_headers: false,
    }
}

/// What an offer that should fail failed with.
async fn not_offered(courier: &SmtpCourier) -> NotOffered {
    match courier.offer(&relay_name(), &envelope()).await {
        Ok(_) => panic!("offered"),
        Err(not) => not,
    }
}

async fn offered(courier: &SmtpCourier) -> Box<dyn Offered> {
    courier.offer(&relay_name(), &envelope()).await.unwrap_or_else(|not| panic!("{not:?}"))
}

/// Offers and carries one small mail.
async fn carried(courier: &SmtpCourier) -> Carried {
    offered(courier).await.carry(b"Subject: x\r\n\r\nhello\r\n".to_vec(), &|| true).await
}

fn reply_of(carried: Carried) -> Reply {
    match carried {
        Carried::Answered(reply) => reply,
        other => panic!("{other:?}"),
    }
}
