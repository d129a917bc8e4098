//! How a desk stands, for operators.

use jiff::Timestamp;

use super::super::breaker::Gate;
use super::super::domains::MayGo;
use super::Desk;
use crate::domain::lane::Lane;
use crate::domain::relay::RelayHealth;
use crate::domain::shaping::{Binding, RelayView};

impl Desk {
    /// For the readiness door.
    pub fn health(&self) -> RelayHealth {
        RelayHealth {
            name: self.name.clone(),
            breaker: self.breaker.state(),
            trouble: self.trouble(),
            alarm: self.failure.as_ref().and_then(|failure| failure.alarm),
        }
    }

    fn trouble(&self) -> Option<String> {
        self.failure.as_ref().map(|failure| failure.trouble.clone())
    }

    /// For operators, in full.
    pub fn view(&self, now: Timestamp) -> RelayView {
        let RelayHealth { name, breaker, trouble, alarm } = self.health();
        RelayView {
            name,
            breaker,
            trouble,
            alarm,
            shut_until: if let Gate::Shut(until) = self.breaker.gate(now) { Some(until) } else { None },
            back_off_until: self.is_backed_off(now).then_some(self.back_off_until),
            rate: self.limit.as_ref().map(|limit| limit.view(now)),
            sessions: self.sessions,
            sessions_allowed: self.allowed(now),
            busy: self.busy,
            learned_sessions: self.concurrency.learned(now),
            pace: self.counter.pace(now),
            retired: self.retired,
        }
    }

    /// What here keeps a mail of this lane and domain back.
    pub fn bindings(&self, lane: Lane, domain: &str, now: Timestamp) -> Vec<Binding> {
        let relay = || self.name.clone();
        let mut bindings = Vec::new();
        if self.is_backed_off(now) {
            bindings.push(Binding::RelayBackOff { relay: relay(), until: self.back_off_until });
        }
        let shut = |until| Binding::RelayShut { relay: relay(), until, trouble: self.trouble() };
        match self.breaker.gate(now) {
            Gate::Pass(_) => {}
            Gate::Shut(until) => bindings.push(shut(Some(until))),
            Gate::Greet | Gate::Waiting => bindings.push(shut(None)),
        }
        if !bindings.is_empty() {
            return bindings;
        }
        if let (Some(limit), Some(until)) = (&self.limit, self.rate_next_at(lane, now)) {
            bindings.push(Binding::RelayRateSpent { relay: relay(), rate: limit.rate, until });
        }
        if !self.is_free(lane, now) {
            let (busy, allowed, sessions) = (self.busy() + self.stale, self.allowed(now), self.sessions);
            bindings.push(Binding::SessionsBusy { relay: relay(), lane, busy, allowed, sessions });
            let learned = self.concurrency.learned(now);
            bindings.extend(learned.map(|learned| Binding::LearnedSessions {
                relay: relay(),
                allowed: learned.value,
                sessions,
                since: learned.since,
            }));
        }
        if self.domain_may_go(lane, domain) != MayGo::Now {
            let (busy, max) = (self.under_way(domain), *self.domain_max.get(lane));
            bindings.push(Binding::DomainShare { relay: relay(), domain: domain.to_owned(), busy, max });
        }
        bindings
    }
}
