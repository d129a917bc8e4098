//! The leaves of reports: what was reported by words of ours and codes, never what stands in them.

use jiff::Timestamp;

use super::{Actor, Happening, Kind};
use crate::domain::bounce::{End, Said};
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::message::{Reason, Status};

/// A report on a mail, as leaves tell of it.
#[derive(Debug, Clone, Copy)]
pub struct Reporting<'r> {
    /// When it came in.
    pub at: Timestamp,
    /// Whose mail.
    pub tenant: &'r TenantId,
    /// The mail.
    pub message: MessageId,
    /// Who handed it in.
    pub actor: &'r Actor,
    /// What it says.
    pub said: &'r Said,
}

impl Reporting<'_> {
    fn leaf(&self, kind: Kind) -> Happening {
        let leaf = Happening::new(self.at, kind, self.tenant, Some(self.message), self.actor.clone());
        match self.said {
            Said::Complaint => leaf.with("report", "complaint"),
            Said::Delivery(delivery) => {
                let leaf = leaf.with("report", delivery.action.as_str());
                match delivery.code {
                    Some(code) => leaf.with("enhanced", code.to_string()),
                    None => leaf,
                }
            }
        }
    }

    /// The leaf of the report itself; `mark` tells it from others on the same mail, and says nothing else.
    #[must_use]
    pub fn came_in(&self, mark: Option<&str>) -> Happening {
        let leaf = self.leaf(Kind::Dsn);
        match mark {
            Some(mark) => leaf.with("reportHmac", mark),
            None => leaf,
        }
    }

    /// The leaf of a doubt that it ends.
    #[must_use]
    pub fn resolved(&self) -> Happening {
        self.leaf(Kind::Resolved).with("by", "dsn").with("outcome", Status::Relayed.as_str())
    }

    /// The leaf of its mail's end.
    #[must_use]
    pub fn ended(&self, end: End) -> Happening {
        match end {
            End::Bounced => self.leaf(Kind::Bounced).with("reason", Reason::Returned.as_str()),
            End::Delivered => self.leaf(Kind::Delivered),
            End::Relayed => self.leaf(Kind::Relayed),
        }
        .with("by", "dsn")
    }
}
