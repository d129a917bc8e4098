//! Reports that come back on mails, and return paths by which they are known to be ours.

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;
use crate::domain::audit::Actor;
use crate::domain::bounce::{Finding, Said};
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::return_path::Tag;

/// A report on one mail, known to be on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// The mail.
    pub message: MessageId,
    /// What it says.
    pub said: Said,
    /// Who handed it in.
    pub actor: Actor,
    /// So many mails in a row that come back end in a suppression; 0: none does for that alone.
    pub soft_bounces_max: u32,
    /// When.
    pub at: Timestamp,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// This.
    Found(Finding),
    /// Nothing: an attempt of the mail is past its commit point and not settled.
    InFlight,
}

/// What the store keeps of reports.
#[async_trait]
pub trait BounceStore {
    /// The tag of a mail's return path.
    fn return_path_tag(&self, tenant: &TenantId, message: MessageId) -> Tag;

    /// Changes a mail as a report says ([`crate::domain::bounce::effect`]), with its leaves (`dsn`, and `resolved`,
    /// `bounced`, `delivered` or `relayed`), in one transaction. Its recipient is suppressed (`suppression-added`) after a
    /// complaint, a hard code, or too many mails in a row that came back.
    async fn report(&self, tenant: &TenantId, reported: Reported) -> Result<Heard, StoreError>;
}
