//! Drawings of versions that somebody is still on the way through: read once from the store, then remembered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::ids::{JourneyName, TenantId};
use crate::domain::journey::enrollment::Enrollment;
use crate::domain::journey::{Journey, Version};
use crate::domain::rules::Rules;
use crate::store::{Store, StoreError};

/// Versions remembered at most; beyond that all are forgotten and read again.
const REMEMBERED_MAX: usize = 1_000;

type Place = (TenantId, JourneyName, Version);

/// See the module's text.
#[derive(Default)]
pub(super) struct Drawings {
    // Held to look and to note, never across an await.
    remembered: Mutex<BTreeMap<Place, Arc<Journey>>>,
}

impl Drawings {
    /// The content that an enrollment keeps; `None`: it cannot be read.
    pub(super) async fn of(
        &self,
        rules: &Rules,
        store: &dyn Store,
        enrollment: &Enrollment,
    ) -> Result<Option<Arc<Journey>>, StoreError> {
        let Enrollment { tenant, journey, version, .. } = enrollment;
        let place = (tenant.clone(), journey.clone(), version.clone());
        if let Some(known) = self.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(&place) {
            return Ok(Some(Arc::clone(known)));
        }
        let configured = rules.journeys.get(journey).filter(|drawn| drawn.version == *version);
        let drawing = if let Some(drawn) = configured {
            Some(drawn.journey.clone())
        } else {
            let written = store.drawing(tenant, journey, version).await?;
            written.and_then(|written| serde_json::from_str(&written).ok())
        };
        let Some(drawing) = drawing.map(Arc::new) else { return Ok(None) };
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(place, Arc::clone(&drawing));
        Ok(Some(drawing))
    }
}
