//! What state a message's leaves say it is in: the log read again, as a proof against its row.

use serde_json::Value;

use super::Kind;
use crate::domain::message::Status;

/// What is wrong with a leaf that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a leaf is not JSON with a known kind")]
pub struct UnreadableLeaf;

/// The state of a message after these leaves of its own, oldest first; `None`: none of them says one.
pub fn status_after<'l>(leaves: impl IntoIterator<Item = &'l [u8]>) -> Result<Option<Status>, UnreadableLeaf> {
    Ok(last_change(leaves)?.map(|(status, _)| status))
}

/// The state in which a message's leaves leave it, oldest first, and the leaf that says so.
pub fn last_change<'l>(leaves: impl IntoIterator<Item = &'l [u8]>) -> Result<Option<(Status, Value)>, UnreadableLeaf> {
    let mut last = None;
    for leaf in leaves {
        let leaf: Value = serde_json::from_slice(leaf).map_err(|_| UnreadableLeaf)?;
        let kind = leaf["kind"].as_str().and_then(|kind| kind.parse().ok()).ok_or(UnreadableLeaf)?;
        // What came after somebody else had decided only tells what it knew.
        let is_late = leaf["late"] == Value::Bool(true);
        if let Some(status) = becomes(kind).filter(|_| !is_late) {
            last = Some((status, leaf));
        }
    }
    Ok(last)
}

/// The state that a leaf of this kind leaves its message in; `None`: it stays as it was.
const fn becomes(kind: Kind) -> Option<Status> {
    match kind {
        // An unknown that is resolved waits again: what else could become of it has leaves of its own.
        Kind::Accepted | Kind::Released | Kind::Retried | Kind::Resolved => Some(Status::Queued),
        Kind::Suppressed => Some(Status::Suppressed),
        Kind::Deferred => Some(Status::Deferred),
        Kind::Relayed => Some(Status::Relayed),
        Kind::Bounced => Some(Status::Bounced),
        Kind::Delivered => Some(Status::Delivered),
        Kind::Unknown => Some(Status::Unknown),
        Kind::Expired => Some(Status::Expired),
        Kind::Held => Some(Status::Held),
        Kind::Cancelled => Some(Status::Cancelled),
        Kind::AttemptCommitted
        | Kind::KeyCreated
        | Kind::KeyRevoked
        | Kind::BrakeEngaged
        | Kind::BrakeReleased
        | Kind::BrakeCancelled
        | Kind::ConfigChanged
        | Kind::AuditKeySet
        | Kind::PassEvent
        | Kind::ContactSet
        | Kind::ContactRemoved
        | Kind::Enrolled
        | Kind::Stepped
        | Kind::Exited
        | Kind::JourneySet
        | Kind::Unsubscribed
        | Kind::SuppressionAdded
        | Kind::SuppressionRemoved
        | Kind::ContentPurged
        | Kind::MessagesPurged
        | Kind::Erased
        | Kind::Dsn => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    fn after(leaves: &[&str]) -> Result<Option<Status>, UnreadableLeaf> {
        status_after(leaves.iter().map(|leaf| leaf.as_bytes()))
    }

    #[test]
    fn the_last_leaf_that_says_a_state_counts() {
        let accepted = r#"{"kind":"accepted"}"#;
        let committed = r#"{"kind":"attempt-committed"}"#;
        assert_eq!(after(&[accepted, committed]).unwrap(), Some(Status::Queued));
        let unknown = r#"{"kind":"unknown"}"#;
        assert_eq!(after(&[accepted, committed, unknown]).unwrap(), Some(Status::Unknown));
        let late = r#"{"kind":"resolved","late":true,"outcome":"relayed"}"#;
        assert_eq!(after(&[accepted, committed, unknown, late]).unwrap(), Some(Status::Unknown));
        let resent = r#"{"by":"policy","kind":"resolved"}"#;
        assert_eq!(after(&[accepted, committed, unknown, resent]).unwrap(), Some(Status::Queued));
        assert_eq!(after(&[r#"{"kind":"stepped"}"#]).unwrap(), None);
        assert_eq!(after(&[r#"{"kind":"opened"}"#]), Err(UnreadableLeaf));
        assert_eq!(after(&["?"]), Err(UnreadableLeaf));
    }

    #[test]
    fn what_is_said_of_a_mail_after_its_end_does_not_make_it_end_later() {
        let leaves =
            [r#"{"kind":"accepted","seq":0}"#, r#"{"kind":"relayed","seq":1}"#, r#"{"kind":"unsubscribed","seq":2}"#];
        let (status, leaf) = last_change(leaves.iter().map(|leaf| leaf.as_bytes())).unwrap().unwrap();
        assert_eq!((status, &leaf["seq"]), (Status::Relayed, &Value::from(1)));
    }
}
