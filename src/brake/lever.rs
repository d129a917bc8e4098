//! The operators' lever: a brake is released or cancelled, from the command line or over HTTP.
//!
//! The decision is one short transaction; it is carried out in batches, so that nobody waits long for the store. Whoever
//! is interrupted is continued: by the gateway, which sees the decision within a second, or by the same word again.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::audit::Actor;
use crate::domain::brake::{Brake, Decision};
use crate::domain::ids::{BrakeId, TenantId};
use crate::domain::verb::Because;
use crate::store::{BrakeDecided, BrakeOrder, DecidedBrake, Store, StoreError};

/// Messages in one transaction: some milliseconds.
const BATCH: usize = 200;
/// Where nothing is watched, what is decided elsewhere is seen within this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// See the module's text.
pub struct Lever {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    wake: Arc<Notify>,
}

impl Lever {
    /// A lever on the brakes in `store`; `wake` is notified when something may go at once.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, wake: Arc<Notify>) -> Self {
        Self { store, clock, wake }
    }

    /// Decides about a brake, of this tenant if one is named, and carries it out. The brake is shown as it is then.
    pub async fn pull(
        &self,
        (id, tenant): (BrakeId, Option<TenantId>),
        decision: Decision,
        actor: Actor,
        because: Option<Because>,
    ) -> Result<BrakeDecided, StoreError> {
        let order = BrakeOrder { id, tenant, decision, at: self.clock.now(), actor, because };
        match self.store.decide_brake(order).await? {
            BrakeDecided::Decided(_) => {
                self.carry_out(id).await?;
                Ok(self.store.brake(id).await?.map_or(BrakeDecided::NoBrake, BrakeDecided::Decided))
            }
            refused @ (BrakeDecided::NoBrake | BrakeDecided::WrongState(_)) => Ok(refused),
        }
    }

    /// Carries out, to the end, what is decided about these brakes, now or later: for a gateway that watches nothing, and
    /// so engages no others. Ends when nothing is left to be decided, or with `soft`.
    pub async fn see_through(&self, mut open: Vec<BrakeId>, soft: CancellationToken) {
        while !open.is_empty() && !soft.is_cancelled() {
            let mut left = Vec::new();
            for id in open {
                match self.see(id).await {
                    Ok(true) => {}
                    Ok(false) => left.push(id),
                    Err(error) => {
                        tracing::warn!(brake.id = %id, %error, "a decision about a brake has to wait for the store");
                        left.push(id);
                    }
                }
            }
            open = left;
            let next = self.clock.now().checked_add(LOOK_AGAIN).unwrap_or(Timestamp::MAX);
            tokio::select! {
                () = soft.cancelled() => {}
                () = self.clock.sleep_until(next) => {}
            }
        }
    }

    /// Carries out what was decided about a brake; whether anything was.
    async fn see(&self, id: BrakeId) -> Result<bool, StoreError> {
        let Some(DecidedBrake { carried_out, .. }) = self.store.decided_brake(id).await? else { return Ok(false) };
        if !carried_out {
            self.carry_out(id).await?;
        }
        Ok(true)
    }

    /// Carries out what was decided about a brake, to the end.
    pub async fn carry_out(&self, id: BrakeId) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let step = self.store.carry_out_brake(id, after, self.clock.now(), BATCH).await?;
            if step.done > 0 {
                self.wake.notify_one();
            }
            match step.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }
}

/// Why a decision cannot be taken any more.
#[must_use]
pub fn decided_before(brake: &Brake) -> String {
    format!("it is {}: nothing can be decided about it any more", brake.status().as_str())
}
