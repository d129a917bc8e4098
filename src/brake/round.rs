//! What the brakeman does between two mails: hears outcomes, holds what waits, sees decisions, keeps what is usual.

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::streams::{Found, On, Sweep};
use super::{BRAKES_MAX, Brakeman};
use crate::domain::audit::Actor;
use crate::domain::brake::{Decision, Effect};
use crate::domain::ids::BrakeId;
use crate::store::{BrakeDecided, BrakeOrder, DecidedBrake, StoreError};

/// Rounds; what another process decided is seen within a second.
const ROUND: Duration = Duration::from_millis(500);
/// What is usual is kept this often.
const KEEP: Duration = Duration::from_mins(1);
/// Leaves looked through in a round at most: a millisecond or two.
const LEAVES_MAX: u32 = 1_000;
/// Waiting messages looked at in one step; each brake takes one step in a round.
const WAITING_STEP: usize = 1_000;
/// After a walk that met only attempts under way, the next one waits for so long.
const WALK_AGAIN: Duration = Duration::from_secs(5);
/// A mail that was judged is written within this.
const ACCEPTS_WITHIN: Duration = Duration::from_secs(5);
/// Streams whose usual is kept in one transaction.
const KEEP_STEP: usize = 500;
/// After so many times `forget` nothing is left of what was usual.
const FORGOTTEN_AFTER: u32 = 16;

/// What a round remembers for the next one.
#[derive(Default)]
struct Memory {
    /// Where the audit was read to.
    leaves: Option<u64>,
    /// When what is usual was kept last.
    kept_at: Option<Timestamp>,
    /// Whether the last round failed: told once.
    failing: bool,
}

impl Brakeman {
    /// Knows again what is usual, and which brakes are on. Before the doors open.
    pub async fn recall(&self) -> Result<(), StoreError> {
        let usual = self.store.usual_of_streams(self.settings.streams_max).await?;
        let brakes = self.store.open_brakes(None, BRAKES_MAX).await?;
        let (mut streams, now) = (self.streams(), self.clock.now());
        for kept in usual {
            streams.recall(kept, now);
        }
        for brake in &brakes {
            streams.recall_brake(brake, now);
        }
        if !brakes.is_empty() {
            tracing::warn!(brakes = brakes.len(), "streams of mails were out of line when the last run ended");
        }
        Ok(())
    }

    /// Works in rounds until `soft` is cancelled, then keeps what is usual.
    pub async fn run(&self, soft: CancellationToken) {
        let mut memory = Memory { kept_at: Some(self.clock.now()), ..Memory::default() };
        while !soft.is_cancelled() {
            let done = self.round(&mut memory).await;
            match (&done, memory.failing) {
                (Err(error), false) => tracing::warn!(%error, "the blast brake has to wait for the store"),
                (Ok(()), _) | (Err(_), true) => {}
            }
            memory.failing = done.is_err();
            let next = later(self.clock.now(), ROUND);
            tokio::select! {
                () = soft.cancelled() => {}
                () = self.nudge.notified() => {}
                () = self.clock.sleep_until(next) => {}
            }
        }
        if let Err(error) = self.keep_usual().await {
            tracing::warn!(%error, "what is usual for streams of mails could not be kept");
        }
    }

    async fn round(&self, memory: &mut Memory) -> Result<(), StoreError> {
        let on = self.streams().on();
        for (_, on) in &on {
            if let Some(new) = &on.unkept {
                self.keep(new.clone()).await;
            }
        }
        self.hear(memory).await?;
        for (id, on) in &on {
            self.see(*id).await?;
            self.sweep(*id, on).await?;
        }
        let calm = self.streams().calm(self.clock.now(), &self.rules);
        for id in calm {
            self.end_alarm(id).await?;
        }
        let now = self.clock.now();
        let kept_for = memory.kept_at.and_then(|at| Duration::try_from(now.duration_since(at)).ok());
        if kept_for.is_none_or(|age| age >= KEEP) {
            memory.kept_at = Some(now);
            self.keep_usual().await?;
        }
        Ok(())
    }

    /// How mails ended since the last round.
    async fn hear(&self, memory: &mut Memory) -> Result<(), StoreError> {
        let page = self.store.stream_outcomes(memory.leaves, LEAVES_MAX).await?;
        memory.leaves = Some(page.next);
        let mut engaged = Vec::new();
        for heard in page.streams {
            let mut streams = self.streams();
            let now = self.clock.now();
            let Some((watch, _)) = streams.watch(&heard.stream, now, &self.rules) else { continue };
            let excess = watch.outcomes(heard.relayed, heard.refused, now, &self.rules);
            if let Some(new) = self.note(watch, &heard.stream, excess) {
                streams.engaged(new.clone());
                engaged.push(new);
            }
        }
        for new in engaged {
            self.keep(new).await;
        }
        Ok(())
    }

    /// What was decided about a brake, by whomever.
    async fn see(&self, id: BrakeId) -> Result<(), StoreError> {
        let Some(DecidedBrake { decision, carried_out }) = self.store.decided_brake(id).await? else { return Ok(()) };
        if !carried_out {
            self.lever.carry_out(id).await?;
        }
        self.streams().disengage(id, decision, self.clock.now(), &self.rules);
        tracing::info!(brake.id = %id, decision = decision.as_str(), "a brake is off");
        Ok(())
    }

    /// Holds some of what the stream of a brake has waiting; no brake waits for another's long queue.
    async fn sweep(&self, id: BrakeId, on: &On) -> Result<(), StoreError> {
        let Sweep::From { not_before, place, found } = on.sweep else { return Ok(()) };
        if on.effect != Effect::Hold || !self.settings.hold || self.clock.now() < not_before {
            return Ok(());
        }
        let step = self.store.hold_stream(id, place, self.clock.now(), WAITING_STEP).await?;
        let found = found.max(Found::by(&step));
        let now = self.clock.now();
        // What was judged just before the brake went on may not have been written yet.
        let is_young = now < later(on.since, ACCEPTS_WITHIN);
        let again = |pause| Sweep::From { not_before: later(now, pause), place: None, found: Found::Nothing };
        let sweep = match (step.next, found) {
            (place @ Some(_), _) => {
                // The rest at once, in the next round.
                self.nudge.notify_one();
                Sweep::From { not_before, place, found }
            }
            (None, Found::Held) => again(ROUND),
            (None, _) if is_young => again(ROUND),
            (None, Found::UnderWay) => again(WALK_AGAIN),
            (None, Found::Nothing) => Sweep::Done,
        };
        self.streams().swept(id, sweep);
        Ok(())
    }

    /// The stream of an alarm is in line again.
    async fn end_alarm(&self, id: BrakeId) -> Result<(), StoreError> {
        let order = BrakeOrder {
            id,
            tenant: None,
            decision: Decision::Release,
            at: self.clock.now(),
            actor: Actor::Gateway,
            because: None,
        };
        match self.store.decide_brake(order).await? {
            // The next round would see it, too.
            BrakeDecided::Decided(_) | BrakeDecided::WrongState(_) => self.see(id).await,
            BrakeDecided::NoBrake => Ok(()),
        }
    }

    async fn keep_usual(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let unkept = self.streams().unkept(now, &self.rules);
        let forgotten = self.rules.forget.saturating_mul(FORGOTTEN_AFTER);
        let forget_before = now.checked_sub(forgotten).unwrap_or(Timestamp::MIN);
        for streams in unkept.chunks(KEEP_STEP) {
            self.store.keep_usual(streams.to_vec(), forget_before).await?;
            self.streams().usual_kept(streams);
        }
        Ok(())
    }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
