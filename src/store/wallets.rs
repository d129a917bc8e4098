//! What the store keeps of pass events: the ledger, and what it adds up to for each pass and customer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;
use crate::domain::audit::Actor;
use crate::domain::ids::{EnrollmentId, EventId, TenantId};
use crate::domain::journey::Drawn;
use crate::domain::pass_event::{Change, EventKind, NewPassEvent, PassEvent, RegistrationCounts, Source, Wallet, Way};
use crate::domain::wallet::customer::Projection;
use crate::domain::wallet::history::Standings;
use crate::domain::wallet::{CustomerKey, WalletStatus};

/// What holds for the events of a tenant.
#[derive(Debug, Clone)]
pub struct RecordRules {
    /// Names of the identifiers that customers are known by, the best first.
    pub identifiers: Vec<String>,
    /// A removal that is followed by an install within this time was none for anybody but the ledger.
    pub reinstall_settle: Duration,
    /// How many events of one pass in one wallet are walked again when one comes late, the latest first.
    pub history_max: usize,
    /// How many passes of one customer are looked at beside events that named no pass, those first that changed last.
    pub passes_max: usize,
    /// A time that lies further ahead of the receive time than this counts as the receive time.
    pub time_ahead_max: Duration,
    /// Whether changes of a customer's status are to be pushed.
    pub pushed: Pushed,
    /// The tenant's journeys.
    pub journeys: Vec<Arc<Drawn>>,
}

/// Whether changes of a customer's status are to be pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The tenant has a receiver.
    Yes,
    /// Nobody would take them.
    No,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its id; of a repeat, the id that the first was given.
    pub id: EventId,
    /// What it turned out to be.
    pub change: Change,
    /// The customer's status now.
    pub status: WalletStatus,
    /// Whether it undid a removal within the settling time: nothing is to follow from it.
    pub flapped: bool,
    /// The journeys that the customer entered with it.
    pub enrollments: Vec<EnrollmentId>,
}

/// A customer's wallets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerWallet {
    /// Who it is.
    pub customer: CustomerKey,
    /// What their passes add up to.
    pub projection: Projection,
    /// Where this stands among all changes of the tenant.
    pub place: ChangePlace,
    /// Where it went on: the customer whose the pass turned out to be.
    pub joined: Option<String>,
}

/// A place among the changes of a tenant's customers: what was changed later stands later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangePlace {
    /// The audit's leaf of the change.
    pub seq: u64,
    /// Of several customers that changed with it, which.
    pub customer: CustomerKey,
}

/// One pass of a customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassView {
    /// Its id; `None`: of events that named no pass.
    pub pass: Option<String>,
    /// Its type.
    pub pass_type: Option<String>,
    /// Its identifiers.
    pub identifiers: BTreeMap<String, String>,
    /// How it stands in each wallet.
    pub standings: Standings,
}

/// One event of the ledger, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Our id of it.
    pub id: EventId,
    /// The pass; `None`: the event named none.
    pub pass: Option<String>,
    /// What happened.
    pub kind: EventKind,
    /// In which wallet.
    pub wallet: Wallet,
    /// When it happened: the sender's word, else when it came in.
    pub at: Timestamp,
    /// When it came in.
    pub received_at: Timestamp,
    /// What it turned out to be.
    pub change: Change,
    /// Whether it undid a removal within the settling time.
    pub flapped: bool,
    /// Which way it came in.
    pub way: Way,
    /// The sender's counts.
    pub counts: RegistrationCounts,
    /// Where the install came from.
    pub source: Source,
}

/// One event of the ledger, as it may be recorded again elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Our id of it.
    pub id: EventId,
    /// When it came in.
    pub received_at: Timestamp,
    /// Whose its pass is now.
    pub customer: CustomerKey,
    /// What it said; its identifiers are the pass's now, since the ledger keeps the latest word on each alone.
    pub event: PassEvent,
}

/// Which events are read, in the order of their coming in.
#[derive(Debug, Clone, Copy)]
pub struct RecordedQuery {
    /// Came in at or after.
    pub since: Timestamp,
    /// Came in before.
    pub until: Timestamp,
    /// Only those behind this one.
    pub after: Option<(Timestamp, EventId)>,
    /// How many at most.
    pub limit: usize,
}

/// What installs and removals are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    /// The day they happened on, in UTC.
    Day,
    /// The wallet.
    Device,
    /// The pass's type.
    PassType,
    /// The source's medium.
    Medium,
    /// The source's page.
    Origin,
    /// The source's tags: an event counts under each of them.
    Tag,
}

impl Dimension {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Day, Self::Device, Self::PassType, Self::Medium, Self::Origin, Self::Tag];

    /// The word in queries and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Device => "device",
            Self::PassType => "passType",
            Self::Medium => "medium",
            Self::Origin => "origin",
            Self::Tag => "tag",
        }
    }
}

/// Which events are counted, and by what.
#[derive(Debug, Clone)]
pub struct TrendQuery {
    /// The dimensions, in the order of the answer.
    pub by: Vec<Dimension>,
    /// Happened at or after.
    pub since: Timestamp,
    /// Happened before.
    pub until: Timestamp,
    /// Rows at most.
    pub limit: usize,
}

/// How many there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrendCounts {
    /// First installs of a pass.
    pub first_installs: u32,
    /// Installs beside another wallet or device.
    pub additional_devices: u32,
    /// Installs after a removal.
    pub reinstalls: u32,
    /// Removals.
    pub removals: u32,
}

/// One row of counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trend {
    /// What it is of; `None`: of events that do not say.
    pub values: Vec<(Dimension, Option<String>)>,
    /// How many.
    pub counts: TrendCounts,
}

/// The part of the store that keeps pass events and what they add up to.
#[async_trait]
pub trait WalletStore: Send + Sync + 'static {
    /// Keeps events, what they change, and their leaves: all of them or none, in their order.
    async fn record(
        &self,
        tenant: &TenantId,
        actor: Actor,
        events: Vec<NewPassEvent>,
        rules: RecordRules,
    ) -> Result<Vec<Recorded>, StoreError>;

    /// A customer's wallets and passes, by the value of one of their identifiers; when several customers have it, the one who
    /// has it as the tenant's best identifier. Else whoever was known by it before; else whose pass has it as its id.
    async fn customer_wallet(
        &self,
        tenant: &TenantId,
        value: String,
    ) -> Result<Option<(CustomerWallet, Vec<PassView>)>, StoreError>;

    /// The ledger of a customer: the events of all their passes, the latest first, at most `limit`. `customer` as
    /// [`WalletStore::customer_wallet`] found it.
    async fn wallet_events(
        &self,
        tenant: &TenantId,
        customer: CustomerKey,
        limit: usize,
    ) -> Result<Vec<LedgerEntry>, StoreError>;

    /// Those of these passes that are known.
    async fn passes(&self, tenant: &TenantId, passes: Vec<String>) -> Result<Vec<PassView>, StoreError>;

    /// Customers whose wallets changed behind a place, in the order of their last changes, at most `limit`. Whoever asks
    /// again behind the last one misses nothing.
    async fn wallets_changed(
        &self,
        tenant: &TenantId,
        after: Option<ChangePlace>,
        limit: usize,
    ) -> Result<Vec<CustomerWallet>, StoreError>;

    /// Counts of events that changed something, in the order of the dimensions.
    async fn wallet_trends(&self, tenant: &TenantId, query: TrendQuery) -> Result<Vec<Trend>, StoreError>;

    /// Events of the ledger.
    async fn recorded_events(&self, tenant: &TenantId, query: RecordedQuery) -> Result<Vec<RecordedEvent>, StoreError>;

    /// Events of all passes of a customer that came in before then, in their order; those at most that came in last.
    async fn recorded_before(
        &self,
        tenant: &TenantId,
        customer: CustomerKey,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError>;
}
