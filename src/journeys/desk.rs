//! What an operator sees of journeys, and says of them: for doors and commands.
//!
//! A journey is one that the configuration draws, or that somebody once entered: a drawing that was taken away is shown as
//! long as there are enrollments that keep it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{Notify, watch};

use crate::clock::Clock;
use crate::domain::audit::Actor;
use crate::domain::ids::{JourneyName, TenantId};
use crate::domain::journey::enrollment::{Funnel, Mode, Status, StepCount};
use crate::domain::journey::view::DrawingView;
use crate::domain::journey::{EntryRule, Journey, Trigger, Version};
use crate::domain::rules::Rules;
use crate::domain::time;
use crate::domain::verb::Because;
use crate::store::{ModeOrder, Store, StoreError};

/// Where operators stand.
pub struct Desk {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    rules: watch::Receiver<Arc<Rules>>,
    wake: Arc<Notify>,
}

/// A journey in a list.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JourneyLine {
    /// Its name.
    pub name: JourneyName,
    /// Whose it is.
    pub tenant: TenantId,
    /// The content that who enters now begins with; of one that is no longer drawn, the last there was.
    pub version: Version,
    /// Whether the configuration draws it: one that is not takes nobody, and nobody in it goes on.
    pub drawn: bool,
    /// What an operator said of it.
    pub mode: Mode,
    /// What begins it; `None`: its drawing cannot be read.
    pub trigger: Option<Trigger>,
    /// How often it takes the same customer.
    pub entry: Option<EntryRule>,
    /// How many stand where.
    #[serde(flatten)]
    pub counts: Counts,
}

/// How many stand where.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Who ever entered.
    pub entered: u64,
    /// By where they stand, every word of it.
    pub by_status: BTreeMap<&'static str, u64>,
}

impl Counts {
    /// How many stand there.
    #[must_use]
    pub fn of(&self, status: Status) -> u64 {
        self.by_status.get(status.as_str()).copied().unwrap_or_default()
    }

    /// How many go on.
    #[must_use]
    pub fn live(&self) -> u64 {
        Status::ALL.into_iter().filter(|status| status.is_live()).map(|status| self.of(status)).sum()
    }
}

/// A journey, all of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JourneyView {
    /// As in a list.
    #[serde(flatten)]
    pub line: JourneyLine,
    /// What is drawn; `None`: it cannot be read.
    pub drawing: Option<DrawingView>,
    /// Its versions that anybody entered, the first first.
    pub versions: Vec<VersionLine>,
    /// How often each step of each version went in which way.
    pub steps: Vec<StepCount>,
}

/// A version that somebody entered.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionLine {
    /// Which.
    pub version: Version,
    /// When somebody entered it first.
    #[serde(serialize_with = "time::write")]
    pub first_entered_at: Timestamp,
}

/// Versions that were entered, by journey, the first first.
type Entered = BTreeMap<JourneyName, Vec<VersionLine>>;

impl Desk {
    /// A desk; `wake` is notified when somebody may go on.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        rules: watch::Receiver<Arc<Rules>>,
        wake: Arc<Notify>,
    ) -> Self {
        Self { store, clock, rules, wake }
    }

    /// A tenant's journeys in the order of their names.
    pub async fn list(&self, tenant: &TenantId) -> Result<Vec<JourneyLine>, StoreError> {
        let rules = Arc::clone(&self.rules.borrow());
        let (modes, mut entered) = (self.store.journey_modes(tenant).await?, self.entered(tenant).await?);
        for drawn in rules.journeys.values().filter(|drawn| drawn.journey.tenant == *tenant) {
            entered.entry(drawn.journey.name.clone()).or_default();
        }
        let mut lines = Vec::new();
        for (name, versions) in entered {
            let Some(found) = self.found(&rules, tenant, &name, &versions).await? else { continue };
            let funnel = self.store.funnel(tenant, &name).await?;
            let mode = modes.get(&name).copied().unwrap_or(Mode::Running);
            lines.push(found.line(name, tenant, mode, &funnel));
        }
        Ok(lines)
    }

    /// One of a tenant's journeys; `None`: there is none of this name.
    pub async fn show(&self, tenant: &TenantId, name: &JourneyName) -> Result<Option<JourneyView>, StoreError> {
        let rules = Arc::clone(&self.rules.borrow());
        let versions = self.entered(tenant).await?.remove(name).unwrap_or_default();
        let Some(found) = self.found(&rules, tenant, name, &versions).await? else { return Ok(None) };
        let funnel = self.store.funnel(tenant, name).await?;
        let mode = self.store.journey_modes(tenant).await?.get(name).copied().unwrap_or(Mode::Running);
        let drawing = found.journey.as_ref().map(DrawingView::from);
        let line = found.line(name.clone(), tenant, mode, &funnel);
        Ok(Some(JourneyView { line, drawing, versions, steps: funnel.steps }))
    }

    /// Whether a tenant has a journey of this name.
    pub async fn has(&self, tenant: &TenantId, name: &JourneyName) -> Result<bool, StoreError> {
        let is_drawn = |rules: &Rules| rules.journeys.get(name).is_some_and(|drawn| drawn.journey.tenant == *tenant);
        if is_drawn(&self.rules.borrow()) {
            return Ok(true);
        }
        Ok(self.entered(tenant).await?.contains_key(name))
    }

    /// Does what an operator says of a journey, and shows it; `None`: there is none of this name.
    pub async fn set(
        &self,
        tenant: &TenantId,
        name: &JourneyName,
        mode: Mode,
        (actor, because): (Actor, Option<Because>),
    ) -> Result<Option<JourneyView>, StoreError> {
        if !self.has(tenant, name).await? {
            return Ok(None);
        }
        let order = ModeOrder { journey: name.clone(), mode, actor, because, at: self.clock.now() };
        if self.store.set_journey_mode(tenant, order).await? {
            self.wake.notify_one();
        }
        self.show(tenant, name).await
    }

    async fn entered(&self, tenant: &TenantId) -> Result<Entered, StoreError> {
        let mut entered = Entered::new();
        for (name, version, first_entered_at) in self.store.journey_versions(tenant).await? {
            entered.entry(name).or_default().push(VersionLine { version, first_entered_at });
        }
        Ok(entered)
    }

    /// What is drawn under a name, or was last.
    async fn found(
        &self,
        rules: &Rules,
        tenant: &TenantId,
        name: &JourneyName,
        versions: &[VersionLine],
    ) -> Result<Option<Found>, StoreError> {
        let drawn = rules.journeys.get(name).filter(|drawn| drawn.journey.tenant == *tenant);
        if let Some(drawn) = drawn {
            let (version, journey) = (drawn.version.clone(), Some(drawn.journey.clone()));
            return Ok(Some(Found { version, is_drawn: true, journey }));
        }
        let Some(VersionLine { version, .. }) = versions.last() else { return Ok(None) };
        let written = self.store.drawing(tenant, name, version).await?;
        // A version of a later Postern may say what this one does not know.
        let journey = written.and_then(|written| serde_json::from_str(&written).ok());
        Ok(Some(Found { version: version.clone(), is_drawn: false, journey }))
    }
}

/// What is drawn under a name, or was last.
struct Found {
    version: Version,
    is_drawn: bool,
    journey: Option<Journey>,
}

impl Found {
    fn line(&self, name: JourneyName, tenant: &TenantId, mode: Mode, funnel: &Funnel) -> JourneyLine {
        let count = |status| funnel.by_status.get(&status).copied().unwrap_or_default();
        let by_status = Status::ALL.into_iter().map(|status| (status.as_str(), count(status)));
        JourneyLine {
            name,
            tenant: tenant.clone(),
            version: self.version.clone(),
            drawn: self.is_drawn,
            mode,
            trigger: self.journey.as_ref().map(|journey| journey.trigger),
            entry: self.journey.as_ref().map(|journey| journey.entry),
            counts: Counts { entered: funnel.entered, by_status: by_status.collect() },
        }
    }
}
