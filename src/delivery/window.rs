//! The active window: the messages considered now, a bounded few of an unbounded queue, shared out by lane, tenant and
//! domain.
//!
//! It holds ids, domains and due times, never contents. Each lane has a third of the places, each tenant that has
//! something waiting an equal part of its lane's, and within those the domains that have something due share equally:
//! when a new one appears and there is no room, those that hold more than their part give some back. So 50,000 mails for
//! one domain that does not answer never keep out the rest.
//!
//! # Whose turn it is
//!
//! Tenants of a lane take turns, and within a tenant its domains. A domain that may not go now steps out of the turn
//! until it may (a rate, a back-off) or until another mail for it has ended (its share of sessions), so that nobody is
//! asked again and again in vain. It is asked again after [`PARKED_MAX`] at the latest: whatever else changes, such as
//! the relay that is chosen, is seen then.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::control::Subject;
use super::domains::MayGo;
use super::look::has_passed;
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::lane::{Lane, PerLane};
use crate::domain::message::Candidate;
use crate::domain::shaping::Binding;

/// No domain stands outside the turn for longer without being asked again.
pub(super) const PARKED_MAX: Duration = Duration::from_secs(1);

/// What to ask the store for, and what to give back first.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Domains and how many messages of each.
    pub wants: Vec<(String, usize)>,
    /// Claims that others need the places of.
    pub evicted: Vec<MessageId>,
}

/// The window.
#[derive(Debug)]
pub struct Window {
    places: usize,
    lanes: PerLane<BTreeMap<TenantId, Places>>,
    /// Tenants that have a domain in turn; each stands here exactly once.
    turns: PerLane<VecDeque<TenantId>>,
    /// Domains outside the turn until a moment; first come, first served among those of one moment.
    parked: BinaryHeap<Reverse<Parked>>,
    parked_count: u64,
    /// Domains outside the turn until another mail for them has ended.
    waiting: HashMap<String, Vec<(Lane, TenantId)>>,
}

/// A domain outside the turn.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Parked {
    until: Timestamp,
    number: u64,
    lane: Lane,
    tenant: TenantId,
    domain: String,
}

/// One tenant's places in one lane.
#[derive(Debug, Default)]
struct Places {
    queues: HashMap<String, Queue>,
    /// Domains in turn; each stands here exactly once while it has a queue and is not outside the turn.
    turn: VecDeque<String>,
    /// Whether the tenant stands among those that have their turn.
    is_in_turn: bool,
    held: usize,
}

/// What waits for one domain.
#[derive(Debug, Default)]
struct Queue {
    mails: VecDeque<Candidate>,
    is_outside: bool,
}

impl Window {
    /// A window of `places` for these tenants.
    pub fn new(places: usize, tenants: impl IntoIterator<Item = TenantId>) -> Self {
        let tenants: Vec<TenantId> = tenants.into_iter().collect();
        let places = (places / Lane::ALL.len()).max(1);
        let each = |_| tenants.iter().map(|tenant| (tenant.clone(), Places::default())).collect();
        Self {
            places,
            lanes: PerLane::from_fn(each),
            turns: PerLane::default(),
            parked: BinaryHeap::new(),
            parked_count: 0,
            waiting: HashMap::new(),
        }
    }

    /// The places of one lane.
    pub fn places_of_a_lane(&self) -> usize {
        self.places
    }

    /// How many messages of a lane are held.
    pub fn count(&self, lane: Lane) -> usize {
        self.lanes.get(lane).values().map(|places| places.held).sum()
    }

    /// Where a message stands.
    pub fn place_of(&self, subject: &Subject) -> Binding {
        let places = self.lanes.get(subject.lane).get(&subject.tenant);
        let queue = places.and_then(|places| places.queues.get(&subject.domain));
        let found = queue.and_then(|queue| {
            let position = queue.mails.iter().position(|candidate| candidate.id == subject.id)?;
            Some(Binding::InWindow { position: position + 1, of: queue.mails.len() })
        });
        found.unwrap_or(Binding::NotSeen)
    }

    /// Goes on with these tenants alone; returns what was held for others.
    pub fn keep_tenants(&mut self, tenants: &[TenantId]) -> Vec<MessageId> {
        let mut gone = Vec::new();
        for lane in Lane::ALL {
            let mut old = std::mem::take(self.lanes.get_mut(lane));
            let keep = |tenant: &TenantId| (tenant.clone(), old.remove(tenant).unwrap_or_default());
            *self.lanes.get_mut(lane) = tenants.iter().map(keep).collect();
            let left = old.into_values().flat_map(|places| places.queues.into_values());
            gone.extend(left.flat_map(|queue| queue.mails).map(|candidate| candidate.id));
            let lanes = &self.lanes;
            self.turns.get_mut(lane).retain(|tenant| lanes.get(lane).contains_key(tenant));
        }
        gone
    }

    /// How many messages are held in all.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        Lane::ALL.iter().flat_map(|lane| self.lanes.get(*lane).values()).map(|places| places.held).sum()
    }

    /// Given the domains that have something due: what to claim of each, and which claims must make room. `share` is the
    /// tenant's part of the lane's places.
    ///
    /// A domain that still has half its part is left alone, so that the store is asked rarely and for much.
    pub fn plan(&mut self, lane: Lane, tenant: &TenantId, share: usize, due: &[String]) -> Plan {
        let Some(places) = self.lanes.get_mut(lane).get_mut(tenant) else { return Plan::default() };
        let part = (share / due.len().max(1)).max(1);
        let mut plan = Plan::default();
        let mut room = 0;
        for domain in due {
            let held = places.queues.get(domain).map_or(0, |queue| queue.mails.len());
            if held * 2 <= part {
                plan.wants.push((domain.clone(), part - held));
                room += part - held;
            }
        }
        let needed = (places.held + room).saturating_sub(share);
        if needed > 0 {
            plan.evicted = places.evict(needed, part);
            let mut free = share.saturating_sub(places.held);
            plan.wants.retain_mut(|(_, count)| {
                *count = (*count).min(free);
                free -= *count;
                *count > 0
            });
        }
        plan
    }

    /// Takes in claimed messages, behind those of their domain; returns those of tenants that are gone.
    #[must_use]
    pub fn add(&mut self, candidates: Vec<Candidate>) -> Vec<MessageId> {
        candidates.into_iter().filter_map(|candidate| self.put(candidate, VecDeque::push_back)).collect()
    }

    /// Takes back a message whose attempt was not spent, before the others of its domain; returns it when its tenant is
    /// gone.
    #[must_use]
    pub fn put_back(&mut self, candidate: Candidate) -> Option<MessageId> {
        self.put(candidate, VecDeque::push_front)
    }

    fn put(
        &mut self,
        candidate: Candidate,
        put: impl FnOnce(&mut VecDeque<Candidate>, Candidate),
    ) -> Option<MessageId> {
        let (lane, tenant) = (candidate.lane, candidate.tenant.clone());
        let Some(places) = self.lanes.get_mut(lane).get_mut(&tenant) else { return Some(candidate.id) };
        places.push(candidate, put);
        if places.wants_turn() {
            self.turns.get_mut(lane).push_back(tenant);
        }
        None
    }

    /// How many tenants of a lane have something that may be asked for.
    pub fn in_turn(&self, lane: Lane) -> usize {
        self.turns.get(lane).len()
    }

    /// The tenant whose turn it is; the next time it is another's.
    pub fn turn(&mut self, lane: Lane) -> Option<TenantId> {
        let turns = self.turns.get_mut(lane);
        turns.rotate_left(usize::from(!turns.is_empty()));
        turns.back().cloned()
    }

    /// The next message of this lane and tenant whose domain may go now, domains in turn. Those that may not are asked
    /// no more until they may.
    pub fn next(
        &mut self,
        lane: Lane,
        tenant: &TenantId,
        now: Timestamp,
        may_go: impl Fn(&str) -> MayGo,
    ) -> Option<Candidate> {
        let places = self.lanes.get_mut(lane).get_mut(tenant)?;
        let mut found = None;
        while let Some(domain) = places.turn.pop_front() {
            let Some(queue) = places.queues.get_mut(&domain) else { continue };
            match may_go(&domain) {
                MayGo::Now => {
                    found = places.take(domain);
                    break;
                }
                MayGo::At(until) => {
                    queue.is_outside = true;
                    let until = until.min(now.checked_add(PARKED_MAX).unwrap_or(Timestamp::MAX));
                    let (number, tenant) = (self.parked_count, tenant.clone());
                    self.parked_count += 1;
                    self.parked.push(Reverse(Parked { until, number, lane, tenant, domain }));
                }
                MayGo::AfterAnother => {
                    queue.is_outside = true;
                    self.waiting.entry(domain).or_default().push((lane, tenant.clone()));
                }
            }
        }
        if places.turn.is_empty() {
            places.is_in_turn = false;
            let turns = self.turns.get_mut(lane);
            // It had its turn just now, so it stands last.
            if turns.back() == Some(tenant) {
                turns.pop_back();
            } else {
                turns.retain(|other| other != tenant);
            }
        }
        found
    }

    /// Brings back into the turn what may be asked for again; returns when more may.
    pub fn wake(&mut self, now: Timestamp) -> Option<Timestamp> {
        while let Some(Reverse(first)) = self.parked.peek() {
            if !has_passed(first.until, now, PARKED_MAX) {
                return Some(first.until);
            }
            let Some(Reverse(Parked { lane, tenant, domain, .. })) = self.parked.pop() else { break };
            self.bring_back(lane, tenant, domain);
        }
        None
    }

    /// A mail for this domain has ended: another may go.
    pub fn ended(&mut self, domain: &str) {
        for (lane, tenant) in self.waiting.remove(domain).unwrap_or_default() {
            self.bring_back(lane, tenant, domain.to_owned());
        }
    }

    /// Asks all again that wait for another mail to end: it may be another relay's turn by now.
    pub fn ask_all_again(&mut self) {
        for (domain, waiting) in std::mem::take(&mut self.waiting) {
            for (lane, tenant) in waiting {
                self.bring_back(lane, tenant, domain.clone());
            }
        }
    }

    fn bring_back(&mut self, lane: Lane, tenant: TenantId, domain: String) {
        let Some(places) = self.lanes.get_mut(lane).get_mut(&tenant) else { return };
        // It may have been emptied meanwhile, and filled anew.
        let Some(queue) = places.queues.get_mut(&domain).filter(|queue| queue.is_outside) else { return };
        queue.is_outside = false;
        places.turn.push_back(domain);
        if places.wants_turn() {
            self.turns.get_mut(lane).push_back(tenant);
        }
    }

    /// Removes and returns what passed its deadline; the sweep ends those messages. It walks all that is held: that is
    /// bounded by `delivery.window`, and a mail behind another of its domain may have the earlier deadline.
    pub fn drop_late(&mut self, now: Timestamp) -> Vec<MessageId> {
        let mut late = Vec::new();
        for lane in Lane::ALL {
            for places in self.lanes.get_mut(lane).values_mut() {
                late.extend(places.drop_where(|candidate| candidate.deliver_by <= now));
            }
        }
        late
    }

    /// Whether anything of this lane and tenant waits here.
    pub fn has(&self, lane: Lane, tenant: &TenantId) -> bool {
        self.lanes.get(lane).get(tenant).is_some_and(|places| places.held > 0)
    }
}

impl Places {
    fn push(&mut self, candidate: Candidate, put: impl FnOnce(&mut VecDeque<Candidate>, Candidate)) {
        if !self.queues.contains_key(&candidate.domain) {
            self.turn.push_back(candidate.domain.clone());
        }
        put(&mut self.queues.entry(candidate.domain.clone()).or_default().mails, candidate);
        self.held += 1;
    }

    /// Whether the tenant is to be put among those that have their turn; it stands there from then on.
    fn wants_turn(&mut self) -> bool {
        let wants = !self.is_in_turn && !self.turn.is_empty();
        self.is_in_turn |= wants;
        wants
    }

    /// The first mail of this domain, which has its turn now and goes to the end of it.
    fn take(&mut self, domain: String) -> Option<Candidate> {
        let queue = self.queues.get_mut(&domain)?;
        let candidate = queue.mails.pop_front();
        if queue.mails.is_empty() {
            self.queues.remove(&domain);
        } else {
            self.turn.push_back(domain);
        }
        self.held -= usize::from(candidate.is_some());
        candidate
    }

    /// Gives back up to `needed` messages of domains that hold more than `part`, the last due first.
    fn evict(&mut self, needed: usize, part: usize) -> Vec<MessageId> {
        let mut evicted = Vec::new();
        for queue in self.queues.values_mut() {
            while queue.mails.len() > part && evicted.len() < needed {
                evicted.extend(queue.mails.pop_back().map(|candidate| candidate.id));
            }
        }
        self.held -= evicted.len();
        evicted
    }

    fn drop_where(&mut self, gone: impl Fn(&Candidate) -> bool) -> Vec<MessageId> {
        let mut dropped = Vec::new();
        self.queues.retain(|_, queue| {
            queue.mails.retain(|candidate| {
                let keep = !gone(candidate);
                if !keep {
                    dropped.push(candidate.id);
                }
                keep
            });
            !queue.mails.is_empty()
        });
        self.turn.retain(|domain| self.queues.contains_key(domain));
        self.held -= dropped.len();
        dropped
    }
}
