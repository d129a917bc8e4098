//! Looking at the rows: when each lane is looked at again, and what a look asks the store.
//!
//! Lanes are looked at each on their own, so that `urgent` never waits for the questions about a backlog. A look asks
//! which tenants have something waiting, then for each of them which domains have something due. Both lists are walked
//! in bounded pages; where a page ended, the next look goes on.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::ids::TenantId;
use crate::domain::lane::{Lane, PerLane};
use crate::store::{DueDomains, Store, StoreError};

/// A lane rests so many times as long as its last look took: looking takes a tenth of a processor at most, and a mail is
/// seen some milliseconds after it came.
const REST_PER_LOOK: u32 = 9;

/// What one lane's looks remember from one to the next.
#[derive(Debug, Default)]
struct LaneLook {
    wanted: bool,
    began_at: Option<Timestamp>,
    not_before: Option<Timestamp>,
    after_tenant: Option<TenantId>,
    after_domain: HashMap<TenantId, String>,
}

impl LaneLook {
    fn may_begin(&self, now: Timestamp, pause_max: Duration) -> bool {
        let paused = self.not_before.is_some_and(|at| !has_passed(at, now, pause_max));
        self.wanted && self.began_at.is_none() && !paused
    }
}

/// The looks of all lanes.
#[derive(Debug)]
pub struct Looks {
    lanes: PerLane<LaneLook>,
    /// No pause between two looks is longer.
    pause_max: Duration,
}

/// The questions of one look.
#[derive(Debug)]
pub struct Questions {
    /// The lane.
    pub lane: Lane,
    now: Timestamp,
    places: usize,
    tenants: BTreeSet<TenantId>,
    after_tenant: Option<TenantId>,
    after_domain: HashMap<TenantId, String>,
}

/// One tenant's domains with something due.
#[derive(Debug)]
pub struct Seen {
    /// The tenant.
    pub tenant: TenantId,
    /// Some of its domains with something due.
    pub domains: Vec<String>,
    next: Option<String>,
}

/// What a look found.
#[derive(Debug)]
pub struct Found {
    /// By tenant.
    pub seen: Vec<Seen>,
    /// Each tenant's part of the lane's places.
    pub share: usize,
    next_tenant: Option<TenantId>,
}

impl Looks {
    /// Every lane wants a first look.
    pub fn new(pause_max: Duration) -> Self {
        Self { lanes: PerLane::from_fn(|_| LaneLook { wanted: true, ..LaneLook::default() }), pause_max }
    }

    /// There may be something new to see.
    pub fn want(&mut self, lane: Lane) {
        self.lanes.get_mut(lane).wanted = true;
    }

    /// There may be something new to see anywhere.
    pub fn want_all(&mut self) {
        for lane in Lane::ALL {
            self.want(lane);
        }
    }

    /// Whether any lane's look could begin.
    pub fn is_time(&self, now: Timestamp) -> bool {
        Lane::ALL.into_iter().any(|lane| self.lanes.get(lane).may_begin(now, self.pause_max))
    }

    /// The questions of `lane`'s next look, if it is time for one. `tenants` are those that could send now.
    pub fn begin(
        &mut self,
        lane: Lane,
        now: Timestamp,
        places: usize,
        tenants: &BTreeSet<TenantId>,
    ) -> Option<Questions> {
        let pause_max = self.pause_max;
        let look = self.lanes.get_mut(lane);
        if !look.may_begin(now, pause_max) || tenants.is_empty() {
            return None;
        }
        look.wanted = false;
        look.began_at = Some(now);
        let tenants = tenants.clone();
        let (after_tenant, after_domain) = (look.after_tenant.clone(), look.after_domain.clone());
        Some(Questions { lane, now, places, tenants, after_tenant, after_domain })
    }

    /// Where the next look goes on; one that did not reach the end wants another.
    pub fn remember(&mut self, lane: Lane, found: &Found) {
        let look = self.lanes.get_mut(lane);
        let began_in_the_middle = look.after_tenant.is_some() || !look.after_domain.is_empty();
        look.after_tenant.clone_from(&found.next_tenant);
        let next = found.seen.iter().filter_map(|seen| Some((seen.tenant.clone(), seen.next.clone()?)));
        look.after_domain = next.collect();
        look.wanted |= began_in_the_middle || look.after_tenant.is_some() || !look.after_domain.is_empty();
    }

    /// The look has ended. The next waits [`REST_PER_LOOK`] times as long as this one took; or so long as `at_least` says.
    pub fn ended(&mut self, lane: Lane, now: Timestamp, at_least: Duration) {
        let pause_max = self.pause_max;
        let look = self.lanes.get_mut(lane);
        let took = look.began_at.take().and_then(|at| Duration::try_from(now.duration_since(at)).ok());
        let pause = (took.unwrap_or_default() * REST_PER_LOOK).max(at_least).min(pause_max);
        look.not_before = now.checked_add(pause).ok();
    }

    /// When a wanted look may begin; `None` when none waits for time to pass. One that could begin now and did not has
    /// nobody to look for: it waits for a relay, not for the clock.
    pub fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        let wanted = Lane::ALL.into_iter().map(|lane| self.lanes.get(lane)).filter(|look| look.wanted);
        wanted.filter(|look| look.began_at.is_none()).filter_map(|look| look.not_before).filter(|at| *at > now).min()
    }
}

impl Questions {
    /// Asks the store.
    pub async fn ask(self, store: &dyn Store) -> Result<Found, StoreError> {
        let Self { lane, now, places, tenants, after_tenant, mut after_domain } = self;
        let waiting = store.waiting_tenants(lane, after_tenant, places).await?;
        let next_tenant = if waiting.len() >= places { waiting.last().cloned() } else { None };
        let waiting: Vec<TenantId> = waiting.into_iter().filter(|tenant| tenants.contains(tenant)).collect();
        let share = (places / waiting.len().max(1)).max(1);
        let mut seen = Vec::new();
        for tenant in waiting {
            let after = after_domain.remove(&tenant);
            let page = store.due_domains(DueDomains { lane, tenant: tenant.clone(), now, after, limit: share }).await?;
            seen.push(Seen { tenant, domains: page.domains, next: page.next });
        }
        Ok(Found { seen, share, next_tenant })
    }
}

/// Whether `at`, which was at most `longest` ahead when it was set, has passed. A clock that was put back makes such a
/// moment lie further ahead than it can have been meant: it counts as passed, so that nothing stands still over it.
pub fn has_passed(at: Timestamp, now: Timestamp, longest: Duration) -> bool {
    Duration::try_from(at.duration_since(now)).map_or(true, |ahead| ahead.is_zero() || ahead > longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_put_back_keeps_nothing_waiting() {
        let now = Timestamp::UNIX_EPOCH;
        let second = Duration::from_secs(1);
        let ahead = |by: Duration| now.checked_add(by).unwrap_or(now);
        assert!(has_passed(now, now, second));
        assert!(!has_passed(ahead(second), now, second));
        assert!(has_passed(ahead(second * 600), now, second), "put back by ten minutes");
    }
}
