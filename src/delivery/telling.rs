//! What the dispatcher answers to operators, and how it takes new settings over; see `control`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::attempt::Ground;
use super::control::{Plan, Question, Subject};
use super::desk::{Desk, DeskRules, RelayPlan};
use super::dispatcher::{Dispatcher, STORE_PAUSE};
use super::domains::Domains;
use super::evidence::RelayLog;
use super::look::has_passed;
use super::under_way::{SETTLING_MAX, is_behind, settling};
use crate::domain::ids::TenantId;
use crate::domain::lane::PerLane;
use crate::domain::shaping::{Binding, LaneView, Overview};

/// Limited domains told at most; the others are counted.
const DOMAINS_TOLD: usize = 100;

impl Dispatcher {
    /// Answers one question. Who asked may have gone away meanwhile: then nobody hears it.
    pub(super) fn answer(&mut self, question: Question) {
        match question {
            Question::Overview(answer) => {
                let _ = answer.send(self.overview());
            }
            Question::Explain(subject, answer) => {
                let _ = answer.send(self.explain(&subject));
            }
            Question::Reconfigure(plan, answer) => {
                self.reconfigure(*plan);
                let _ = answer.send(());
            }
        }
    }

    fn overview(&self) -> Overview {
        let now = self.ground.clock.now();
        let mut in_flight = PerLane::<usize>::default();
        for message in self.in_flight.values() {
            *in_flight.get_mut(message.candidate.lane) += 1;
        }
        let (domains, domains_more) = self.domains.view(now, DOMAINS_TOLD);
        Overview {
            at: now,
            relays: self.desks.values().map(|desk| desk.view(now)).collect(),
            domains,
            domains_more,
            lanes: PerLane::from_fn(|lane| LaneView {
                in_window: self.window.count(lane),
                in_flight: *in_flight.get(lane),
            }),
            pace: self.desks.values().map(|desk| desk.counter.pace(now)).sum(),
            pause: self.pause(now),
        }
    }

    /// Why nothing is started at all, when that is so.
    fn pause(&self, now: Timestamp) -> Option<Binding> {
        if self.ground.soft.is_cancelled() {
            Some(Binding::GatewayStopping)
        } else if !has_passed(self.start_after, now, STORE_PAUSE) {
            Some(Binding::StoreUnwell { until: Some(self.start_after) })
        } else if self.ground.unsettled.load(Ordering::SeqCst) > 0 {
            Some(Binding::StoreUnwell { until: None })
        } else if is_behind(&self.in_flight) {
            Some(Binding::OutcomesWaiting { count: settling(&self.in_flight), max: SETTLING_MAX })
        } else {
            None
        }
    }

    fn explain(&self, subject: &Subject) -> Vec<Binding> {
        let now = self.ground.clock.now();
        if let Some(message) = self.in_flight.values().find(|message| message.candidate.id == subject.id) {
            return vec![Binding::InFlight { relay: message.relay.clone() }];
        }
        let mut bindings: Vec<Binding> = self.pause(now).into_iter().collect();
        bindings.extend(self.relay_bindings(subject, now));
        bindings.extend(self.domains.bindings(subject.lane, &subject.domain, now));
        let place = self.window.place_of(subject);
        // What could go nowhere is not looked for: that it is not seen is no cause of its own.
        let relays = self.tenants.get(&subject.tenant).into_iter().flatten();
        if place != Binding::NotSeen || relays.into_iter().any(|relay| self.is_open(relay, now)) {
            bindings.push(place);
        }
        bindings
    }

    /// What binds at the relays the message could go to: those of every relay in turn, until one would take it.
    fn relay_bindings(&self, subject: &Subject, now: Timestamp) -> Vec<Binding> {
        let relays = self.tenants.get(&subject.tenant).into_iter().flatten();
        let desks: Vec<&Desk> = relays.filter_map(|relay| self.desks.get(relay)).collect();
        if desks.is_empty() {
            return vec![Binding::NotConfigured { tenant: subject.tenant.clone() }];
        }
        let mut bindings = Vec::new();
        for desk in desks {
            bindings.extend(desk.bindings(subject.lane, &subject.domain, now));
            if desk.is_open(now) {
                break;
            }
        }
        bindings
    }

    fn reconfigure(&mut self, plan: Plan) {
        let now = self.ground.clock.now();
        let rules = DeskRules::new(&plan.settings, &plan.lanes);
        let relays: Vec<RelayPlan> = plan.relays.iter().map(RelayPlan::from).collect();
        for desk in self.desks.values_mut() {
            desk.retire();
        }
        for relay in &relays {
            match self.desks.get_mut(&relay.name) {
                Some(desk) => desk.take_over(relay, &rules, now),
                None => drop(self.desks.insert(relay.name.clone(), Desk::new(relay, &rules, now))),
            }
        }
        self.desks.retain(|_, desk| !desk.is_left());
        let tenants: Vec<TenantId> = plan.tenants.keys().cloned().collect();
        self.tenants = plan.tenants.values().map(|tenant| (tenant.id.clone(), tenant.relays.clone())).collect();
        self.domains.take_over(Domains::new(plan.domain_rates, &plan.settings, rules.reserved, now));
        let gone = self.window.keep_tenants(&tenants);
        self.ground.store.give_back(&gone);
        self.logs.send_replace(plan.relays.iter().filter_map(RelayLog::of).collect());
        self.policy.send_replace(PerLane::from_fn(|lane| plan.lanes.get(lane).on_unknown));
        self.ground = Arc::new(Ground {
            store: Arc::clone(&self.ground.store),
            courier: Arc::clone(&self.ground.courier),
            clock: Arc::clone(&self.ground.clock),
            retry: super::retry_tables(&plan.settings, &plan.lanes),
            back_off_max: rules.back_off_max,
            tenants: plan.tenants,
            soft: self.ground.soft.clone(),
            unsettled: Arc::clone(&self.ground.unsettled),
        });
        self.looks.want_all();
        self.publish();
        tracing::info!(relays = relays.len(), tenants = self.tenants.len(), "delivery goes on by new settings");
    }
}
