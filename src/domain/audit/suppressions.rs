//! The leaves of suppressions: of whom by an HMAC under their own key, as everywhere.

use jiff::Timestamp;

use super::{Actor, Happening, Kind, hex};
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::suppression::{Source, SuppressionScope};
use crate::domain::time;

/// Which suppression a leaf tells of.
#[derive(Debug, Clone, Copy)]
pub struct Which<'w> {
    /// Whose.
    pub tenant: &'w TenantId,
    /// Of whom: the HMAC of the normalised address under the subject's key; `None`: they were erased.
    pub recipient: Option<&'w [u8; 32]>,
    /// What it stops.
    pub scope: &'w SuppressionScope,
    /// Who said so.
    pub source: Source,
}

impl Which<'_> {
    fn leaf(&self, at: Timestamp, kind: Kind, message: Option<MessageId>, actor: Actor) -> Happening {
        let leaf = Happening::new(at, kind, self.tenant, message, actor)
            .with("scope", self.scope.to_string())
            .with("source", self.source.as_str());
        match self.recipient {
            Some(recipient) => leaf.with("recipient", hex(recipient)),
            None => leaf,
        }
    }

    /// The leaf of one that somebody else than the recipient added, in their own words.
    #[must_use]
    pub fn added(
        &self,
        at: Timestamp,
        actor: Actor,
        because: Option<&str>,
        expires_at: Option<Timestamp>,
    ) -> Happening {
        let leaf = with_because(self.leaf(at, Kind::SuppressionAdded, None, actor), because);
        match expires_at {
            Some(expires_at) => leaf.with("expiresAt", time::text(expires_at)),
            None => leaf,
        }
    }

    /// The leaf of one whose time is over.
    #[must_use]
    pub fn expired(&self, at: Timestamp) -> Happening {
        self.leaf(at, Kind::SuppressionRemoved, None, Actor::Gateway).with("reason", "expired")
    }

    /// The leaf of somebody who unsubscribed; `message`: the last mail that carried the link.
    #[must_use]
    pub fn unsubscribed(&self, at: Timestamp, message: Option<MessageId>) -> Happening {
        self.leaf(at, Kind::Unsubscribed, message, Actor::Recipient)
    }

    /// The leaf of one that is no more.
    #[must_use]
    pub fn removed(&self, at: Timestamp, actor: Actor, because: Option<&str>) -> Happening {
        with_because(self.leaf(at, Kind::SuppressionRemoved, None, actor), because)
    }
}

fn with_because(leaf: Happening, because: Option<&str>) -> Happening {
    match because {
        Some(because) => leaf.with("because", because),
        None => leaf,
    }
}
