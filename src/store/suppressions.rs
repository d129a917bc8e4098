//! What the store keeps of those whom a tenant no longer mails.

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;
use crate::domain::address::EmailAddress;
use crate::domain::audit::Actor;
use crate::domain::ids::{JourneyName, TenantId};
use crate::domain::suppression::link::UnsubscribeToken;
use crate::domain::suppression::{Change, LinkView, NewSuppression, Suppression, SuppressionScope, Wish};
use crate::domain::verb::Because;

/// A suppression after it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppressed {
    /// As it stands.
    pub suppression: Suppression,
    /// What saying it changed.
    pub change: Change,
}

/// Whose suppressions are taken away.
#[derive(Debug, Clone)]
pub struct Lift {
    /// Who is to be mailed again.
    pub recipient: EmailAddress,
    /// Only the one of this scope; `None`: all of theirs.
    pub scope: Option<SuppressionScope>,
    /// Why, in their own words.
    pub because: Option<Because>,
    /// The present moment.
    pub at: Timestamp,
}

/// Which suppressions a list shows, newest first. `None` means any.
#[derive(Debug, Clone, Default)]
pub struct SuppressionFilter {
    /// Of this recipient.
    pub recipient: Option<EmailAddress>,
    /// Of exactly this scope.
    pub scope: Option<SuppressionScope>,
    /// Only those that stand at this moment; without it those too that are over and not yet swept.
    pub at: Option<Timestamp>,
    /// Only those before this one (the cursor).
    pub before: Option<u64>,
    /// How many at most.
    pub limit: usize,
}

/// A suppression in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSuppression {
    /// Its place: a list goes on before it.
    pub number: u64,
    /// The suppression.
    pub suppression: Suppression,
}

/// The part of the store that keeps suppressions, and the links by which people make them.
#[async_trait]
pub trait SuppressionStore: Send + Sync + 'static {
    /// Adds suppressions, each with its leaf if it is new: all of them or none, in their order. One that stands already
    /// stays as it is, whoever said it, unless the new one stands longer: then that takes its place, with a leaf.
    async fn suppress(
        &self,
        tenant: &TenantId,
        actor: Actor,
        suppressions: Vec<NewSuppression>,
    ) -> Result<Vec<Suppressed>, StoreError>;

    /// Takes suppressions of recipients away, each with its leaf: all of them or none; which they were.
    async fn lift(&self, tenant: &TenantId, actor: Actor, lifts: Vec<Lift>) -> Result<Vec<Suppression>, StoreError>;

    /// Suppressions of a tenant. By a recipient those are found too whose address is erased.
    async fn suppressions(
        &self,
        tenant: &TenantId,
        filter: SuppressionFilter,
    ) -> Result<Vec<ListedSuppression>, StoreError>;

    /// The token of the link in a recipient's mails of this journey; without one, of the link for all journeys of the
    /// tenant. The same at any time.
    ///
    /// The link of a journey works as soon as a mail that was sent by it ([`NewMessage::sent_by`]) is accepted, and from
    /// then on for ever.
    ///
    /// [`NewMessage::sent_by`]: crate::domain::message::NewMessage::sent_by
    fn unsubscribe_token(
        &self,
        tenant: &TenantId,
        journey: Option<&JourneyName>,
        recipient: &EmailAddress,
    ) -> UnsubscribeToken;

    /// The link with this token; `None`: no mail carried it.
    async fn link(&self, token: UnsubscribeToken) -> Result<Option<LinkView>, StoreError>;

    /// Does what somebody wants who followed this link, with a leaf if it changed anything; how it stands then.
    async fn follow_link(
        &self,
        token: UnsubscribeToken,
        wish: Wish,
        at: Timestamp,
    ) -> Result<Option<LinkView>, StoreError>;
}
