//! Leaves as they are written.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]
use super::*;

#[test]
fn a_leaf_is_json_with_sorted_members_and_no_white_space() {
    let id = MessageId::from_uuid(uuid::Uuid::from_u128(7));
    let happening =
        Happening::new(Timestamp::UNIX_EPOCH, Kind::Relayed, &"demo".parse().unwrap(), Some(id), Actor::Gateway)
            .with("relayQueueId", "4F\"2\u{e9}\n")
            .with("attempt", 1)
            .with("late", false)
            .with("attempt", 2);
    let leaf = happening.canonical(3);
    let read: std::collections::BTreeMap<String, Value> = serde_json::from_slice(&leaf).unwrap();
    assert_eq!(serde_json::to_vec(&read).unwrap(), leaf, "{}", String::from_utf8_lossy(&leaf));
    assert_eq!(
        read.keys().collect::<Vec<_>>(),
        ["actor", "at", "attempt", "kind", "late", "messageId", "relayQueueId", "seq", "tenant"]
    );
    assert_eq!((&read["attempt"], &read["seq"], &read["late"]), (&2.into(), &3.into(), &false.into()));
}

#[test]
fn a_leaf_of_the_gateways_own_names_no_tenant() {
    let leaf = config_changed(Timestamp::UNIX_EPOCH, &["relays", "tenants"]).canonical(3);
    assert_eq!(
        String::from_utf8(leaf).unwrap(),
        r#"{"actor":"gateway","at":"1970-01-01T00:00:00.000Z","kind":"config-changed","sections":["relays","tenants"],"seq":3}"#
    );
}

#[test]
fn bytes_are_written_as_lower_case_digits() {
    assert_eq!(hex(&[0, 0x9a, 0xff]), "009aff");
}
