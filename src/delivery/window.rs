//! The active window: the messages considered now, a bounded few of an unbounded queue, shared out by lane, tenant and
//! domain.
//!
//! It holds ids, domains and due times, never contents. Each lane has a third of the places, each tenant that has
//! something waiting an equal part of its lane's, and within those the domains that have something due share equally:
//! when a new one appears and there is no room, those that hold more than their part give some back. So 50,000 mails for
//! one domain that does not answer never keep out the rest.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jiff::Timestamp;

use super::control::Subject;
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::lane::{Lane, PerLane};
use crate::domain::message::Candidate;
use crate::domain::shaping::Binding;

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
}

/// One tenant's places in one lane.
#[derive(Debug, Default)]
struct Places {
    queues: HashMap<String, VecDeque<Candidate>>,
    /// Domains in turn; each stands here exactly once while it has a queue.
    turn: VecDeque<String>,
    held: usize,
}

impl Window {
    /// A window of `places` for these tenants.
    pub fn new(places: usize, tenants: impl IntoIterator<Item = TenantId>) -> Self {
        let tenants: Vec<TenantId> = tenants.into_iter().collect();
        let places = (places / Lane::ALL.len()).max(1);
        let each = |_| tenants.iter().map(|tenant| (tenant.clone(), Places::default())).collect();
        Self { places, lanes: PerLane::from_fn(each) }
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
            let position = queue.iter().position(|candidate| candidate.id == subject.id)?;
            Some(Binding::InWindow { position: position + 1, of: queue.len() })
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
            let left = old.into_values().flat_map(|places| places.queues.into_values()).flatten();
            gone.extend(left.map(|candidate| candidate.id));
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
            let held = places.queues.get(domain).map_or(0, VecDeque::len);
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

    /// Takes in claimed messages, behind those of their domain.
    pub fn add(&mut self, candidates: Vec<Candidate>) {
        for candidate in candidates {
            if let Some(places) = self.places(&candidate) {
                places.push(candidate, VecDeque::push_back);
            }
        }
    }

    /// Takes back a message whose attempt was not spent, before the others of its domain.
    pub fn put_back(&mut self, candidate: Candidate) {
        if let Some(places) = self.places(&candidate) {
            places.push(candidate, VecDeque::push_front);
        }
    }

    /// The next message of this lane and tenant whose domain may go now, domains in turn.
    pub fn next(&mut self, lane: Lane, tenant: &TenantId, may_go: impl Fn(&str) -> bool) -> Option<Candidate> {
        self.lanes.get_mut(lane).get_mut(tenant)?.next(may_go)
    }

    /// Whether a message of this lane and tenant waits whose domain may go now.
    pub fn any(&self, lane: Lane, tenant: &TenantId, may_go: impl Fn(&str) -> bool) -> bool {
        self.lanes.get(lane).get(tenant).is_some_and(|places| places.turn.iter().any(|domain| may_go(domain)))
    }

    /// Removes and returns what passed its deadline among the heads of the queues; the sweep ends those messages.
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

    fn places(&mut self, candidate: &Candidate) -> Option<&mut Places> {
        self.lanes.get_mut(candidate.lane).get_mut(&candidate.tenant)
    }
}

impl Places {
    fn push(&mut self, candidate: Candidate, put: impl FnOnce(&mut VecDeque<Candidate>, Candidate)) {
        if !self.queues.contains_key(&candidate.domain) {
            self.turn.push_back(candidate.domain.clone());
        }
        put(self.queues.entry(candidate.domain.clone()).or_default(), candidate);
        self.held += 1;
    }

    fn next(&mut self, may_go: impl Fn(&str) -> bool) -> Option<Candidate> {
        for _ in 0..self.turn.len() {
            let domain = self.turn.pop_front()?;
            let Some(queue) = self.queues.get_mut(&domain) else { continue };
            if !may_go(&domain) {
                self.turn.push_back(domain);
                continue;
            }
            let candidate = queue.pop_front();
            if queue.is_empty() {
                self.queues.remove(&domain);
            } else {
                self.turn.push_back(domain);
            }
            self.held -= usize::from(candidate.is_some());
            return candidate;
        }
        None
    }

    /// Gives back up to `needed` messages of domains that hold more than `part`, the last due first.
    fn evict(&mut self, needed: usize, part: usize) -> Vec<MessageId> {
        let mut evicted = Vec::new();
        for queue in self.queues.values_mut() {
            while queue.len() > part && evicted.len() < needed {
                evicted.extend(queue.pop_back().map(|candidate| candidate.id));
            }
        }
        self.held -= evicted.len();
        evicted
    }

    fn drop_where(&mut self, gone: impl Fn(&Candidate) -> bool) -> Vec<MessageId> {
        let mut dropped = Vec::new();
        self.queues.retain(|_, queue| {
            queue.retain(|candidate| {
                let keep = !gone(candidate);
                if !keep {
                    dropped.push(candidate.id);
                }
                keep
            });
            !queue.is_empty()
        });
        self.turn.retain(|domain| self.queues.contains_key(domain));
        self.held -= dropped.len();
        dropped
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use uuid::Uuid;

    fn tenant() -> TenantId {
        "demo".parse().unwrap()
    }

    fn candidate(number: u128, domain: &str) -> Candidate {
        Candidate {
            id: MessageId::from_uuid(Uuid::from_u128(number)),
            tenant: tenant(),
            lane: Lane::Standard,
            domain: domain.into(),
            due_at: Timestamp::UNIX_EPOCH,
            deliver_by: Timestamp::MAX,
        }
    }

    fn claim(window: &mut Window, due: &[&str], first: u128) -> Plan {
        let due: Vec<String> = due.iter().map(ToString::to_string).collect();
        let plan = window.plan(Lane::Standard, &tenant(), 10, &due);
        let mut number = first;
        for (domain, count) in plan.wants.clone() {
            for _ in 0..count {
                window.add(vec![candidate(number, &domain)]);
                number += 1;
            }
        }
        plan
    }

    #[test]
    fn a_domain_that_fills_the_window_makes_room_for_a_new_one() {
        let mut window = Window::new(30, [tenant()]);
        claim(&mut window, &["blocked.example"], 0);
        assert_eq!(window.len(), 10);
        let plan = claim(&mut window, &["blocked.example", "new.example"], 100);
        assert_eq!(plan.wants, [("new.example".to_owned(), 5)]);
        assert_eq!(plan.evicted.len(), 5);
        assert_eq!(window.len(), 10);
        let got = window.next(Lane::Standard, &tenant(), |domain| domain != "blocked.example").unwrap();
        assert_eq!(got.domain, "new.example");
    }

    #[test]
    fn domains_take_turns() {
        let mut window = Window::new(30, [tenant()]);
        window.add((0..4).map(|n| candidate(n, "a.example")).collect());
        window.add((10..12).map(|n| candidate(n, "b.example")).collect());
        let order: Vec<String> =
            std::iter::from_fn(|| window.next(Lane::Standard, &tenant(), |_| true)).map(|c| c.domain).collect();
        assert_eq!(order, ["a.example", "b.example", "a.example", "b.example", "a.example", "a.example"]);
        assert_eq!(window.len(), 0);
    }

    #[test]
    fn what_is_given_back_goes_first_again() {
        let mut window = Window::new(30, [tenant()]);
        window.add((0..3).map(|n| candidate(n, "a.example")).collect());
        let first = window.next(Lane::Standard, &tenant(), |_| true).unwrap();
        window.put_back(first.clone());
        assert_eq!(window.next(Lane::Standard, &tenant(), |_| true).unwrap(), first);
    }

    #[test]
    fn however_many_domains_there_are_the_window_keeps_its_size() {
        let mut window = Window::new(90, [tenant()]);
        let domains: Vec<String> = (0..100).map(|n| format!("d{n}.example")).collect();
        let refs: Vec<&str> = domains.iter().map(String::as_str).collect();
        for round in 0..5 {
            claim(&mut window, &refs, round * 1_000);
            assert!(window.len() <= 30, "{}", window.len());
            window.next(Lane::Standard, &tenant(), |_| true);
        }
    }

    #[test]
    fn what_is_late_leaves_the_window() {
        let mut window = Window::new(30, [tenant()]);
        let late = Candidate { deliver_by: Timestamp::UNIX_EPOCH, ..candidate(1, "a.example") };
        window.add(vec![late.clone(), candidate(2, "b.example")]);
        assert_eq!(window.drop_late(Timestamp::UNIX_EPOCH), [late.id]);
        assert_eq!(window.len(), 1);
        assert_eq!(window.next(Lane::Standard, &tenant(), |_| true).unwrap().domain, "b.example");
    }
}
