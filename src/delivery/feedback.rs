//! What comes back to the dispatcher, and what it learns from it.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::{Id, JoinError};

use super::attempt::{self, End, GiveBack, Word};
use super::desk::{Began, Desk, Evidence, Failure, Freshness};
use super::dispatcher::{Dispatcher, STORE_PAUSE, later};
use super::domains::{Domains, ObservedPace, PutOff};
use super::losses::Fault;
use super::under_way::{Event, InFlight, Stage};
use crate::courier::{Stage as CourierStage, Trouble, TroubleKind};
use crate::domain::ids::RelayName;
use crate::domain::message::{Candidate, Settlement};
use crate::domain::relay::{Alarm, RelayHealth};
use crate::domain::reply::{Scope, SlowDown};

impl Dispatcher {
    pub(super) fn take(&mut self, done: Result<(Id, Event), JoinError>) {
        match done {
            Ok((_, Event::Found(lane, Ok(found)))) => self.claim(lane, found),
            Ok((_, Event::Found(lane, Err(error)))) => self.looked(lane, Err(error)),
            Ok((_, Event::Claimed(lane, candidates, result))) => {
                let homeless = self.window.add(candidates);
                self.ground.store.give_back(&homeless);
                self.looked(lane, result);
            }
            Ok((_, Event::Greeted(relay, result))) => self.greeted(&relay, result),
            Ok((id, Event::Ended(end))) => {
                if let Some(in_flight) = self.in_flight.remove(&id) {
                    self.ended(in_flight, end);
                }
            }
            Ok((id, Event::Settled)) => {
                if let Some(in_flight) = self.in_flight.remove(&id) {
                    self.ended(in_flight, End::Decided(Word::Nothing, None));
                }
            }
            Err(error) if error.is_cancelled() => {}
            Err(error) => self.panicked(&error),
        }
    }

    fn ended(&mut self, mut in_flight: InFlight, end: End) {
        let now = self.ground.clock.now();
        let freshness = self.leave_place(&mut in_flight, &end, now);
        let id = in_flight.candidate.id;
        match end {
            End::Decided(_, Some(settlement)) => {
                self.losses.forget(id);
                self.settle(in_flight, settlement);
            }
            End::Decided(_, None) => self.settled(&in_flight.candidate),
            End::GivenBack(why) => {
                if matches!(why, GiveBack::StoreUnwell) {
                    self.start_after = later(now, STORE_PAUSE);
                }
                self.put_back(in_flight.candidate);
            }
            End::Lost(lost) => {
                let fault = match (freshness, self.desks.get(&in_flight.relay)) {
                    (Freshness::Fresh, Some(desk)) => self.losses.judge(id, desk.heard(), now),
                    // It failed for others too, or is gone.
                    (Freshness::Stale, _) | (_, None) => Fault::Relays,
                };
                if let Some(settlement) = attempt::settlement_of_lost(id, &in_flight.relay, &lost, fault, now) {
                    self.settle(in_flight, settlement);
                } else {
                    // Behind the others of its domain: it may be lost again.
                    let homeless = self.window.add(vec![in_flight.candidate]);
                    self.ground.store.give_back(&homeless);
                }
            }
            // Its claim is kept, so that it does not come back at once and for ever.
            End::Unreadable => {}
        }
        self.publish();
    }

    fn put_back(&mut self, candidate: Candidate) {
        if let Some(homeless) = self.window.put_back(candidate) {
            self.ground.store.give_back(&[homeless]);
        }
    }

    /// Writes down what became of a message; its session serves the next one meanwhile.
    fn settle(&mut self, in_flight: InFlight, settlement: Settlement) {
        let ground = Arc::clone(&self.ground);
        let id = self.spawn(async move {
            attempt::write_settlement(&ground, settlement).await;
            Event::Settled
        });
        self.in_flight.insert(id, in_flight);
    }

    /// The relay is done with an attempt: its place is free, and the desk and the domain learn from how it ended.
    fn leave_place(&mut self, in_flight: &mut InFlight, end: &End, now: Timestamp) -> Freshness {
        let InFlight { candidate, relay, place, .. } = in_flight;
        let (Some(began), Some(desk)) = (place.take(), self.desks.get_mut(relay)) else { return Freshness::Stale };
        let domain = candidate.domain.as_str();
        let pace = ObservedPace { under_way: desk.under_way(domain), began_at: began.at };
        let freshness = desk.end(candidate.lane, domain, began);
        self.window.ended(domain);
        if !has_reached(end) {
            desk.did_not_reach();
            self.domains.put_back(domain);
        }
        match end {
            End::Decided(_, Some(settlement)) => desk.counter.ended(&settlement.outcome, now),
            End::Decided(_, None) | End::Unreadable => {}
            End::GivenBack(_) | End::Lost(_) => desk.counter.given_back(now),
        }
        if freshness == Freshness::Fresh {
            let random = self.random.f64();
            teach_desk(desk, began, end, now, random);
        }
        if let End::Decided(word, _) = end {
            teach_domain(&mut self.domains, domain, pace, word, now);
        }
        if desk.is_left() {
            self.desks.remove(relay);
        }
        freshness
    }

    /// All is written down of this message: it is nobody's any more.
    fn settled(&mut self, candidate: &Candidate) {
        self.ground.store.give_back(&[candidate.id]);
        // The window of this lane may have run low: there may be more to see.
        if !self.window.has(candidate.lane, &candidate.tenant) {
            self.looks.want(candidate.lane);
        }
    }

    fn greeted(&mut self, relay: &RelayName, result: Result<(), Trouble>) {
        let now = self.ground.clock.now();
        let random = self.random.f64();
        if let Some(desk) = self.desks.get_mut(relay) {
            match result {
                Ok(()) => desk.greeted(now),
                Err(trouble) => desk.failed(now, random, Failure::from(&trouble)),
            }
        }
        // What waited for this relay was not claimed meanwhile.
        self.looks.want_all();
        self.publish();
    }

    /// An attempt panicked: a defect of ours. The message is set aside, so that it cannot do so again and again.
    fn panicked(&mut self, error: &JoinError) {
        let attempt = self.in_flight.remove(&error.id()).filter(|in_flight| in_flight.stage == Stage::Attempt);
        let Some(in_flight) = attempt else {
            tracing::error!("a task of the dispatcher panicked");
            self.broken = true;
            return;
        };
        tracing::error!(delivery.id = %in_flight.candidate.id, "an attempt panicked; the message is set aside");
        let (id, relay, token) = (in_flight.candidate.id, in_flight.relay.clone(), in_flight.token);
        let ground = Arc::clone(&self.ground);
        let task = self.spawn(async move {
            attempt::set_aside(&ground, id, &relay, token).await;
            Event::Settled
        });
        self.in_flight.insert(task, InFlight { stage: Stage::SettingAside, ..in_flight });
    }

    pub(super) fn publish(&self) {
        let health: Vec<RelayHealth> = self.desks.values().map(Desk::health).collect();
        self.health.send_if_modified(|old| {
            let changed = *old != health;
            *old = health;
            changed
        });
    }
}

/// Whether an attempt got as far as MAIL: only then it counts against a rate.
fn has_reached(end: &End) -> bool {
    match end {
        End::GivenBack(GiveBack::Unreachable(_)) | End::Decided(Word::Nothing, _) => false,
        End::GivenBack(_) | End::Decided(_, _) | End::Lost(_) | End::Unreadable => true,
    }
}

/// What an attempt's end says of the relay.
fn teach_desk(desk: &mut Desk, began: Began, end: &End, now: Timestamp, random: f64) {
    match end {
        End::Decided(Word::Well, _) => desk.succeeded(now),
        End::Decided(Word::PutOff(asks), _) => {
            desk.succeeded(now);
            if let Some(SlowDown { scope: Scope::Relay, wait }) = asks {
                desk.slow_down(*wait, began, now);
            }
        }
        End::Decided(Word::TurnedAway(wait), _) | End::GivenBack(GiveBack::TurnedAway(wait)) => {
            desk.turned_away(*wait, began, now, random);
        }
        End::GivenBack(GiveBack::Unreachable(Trouble {
            stage: CourierStage::Greeting,
            kind: TroubleKind::Refused(attempt::CLOSING),
        })) => desk.turned_away(None, began, now, random),
        End::GivenBack(GiveBack::RefusesUs(code)) => {
            let (trouble, alarm) = (format!("the relay refuses us: {code}"), Some(Alarm::Authentication));
            desk.failed(now, random, Failure { trouble, alarm, evidence: Evidence::Strong });
        }
        End::GivenBack(GiveBack::Unreachable(trouble)) | End::Decided(Word::Failed(trouble), _) => {
            desk.failed(now, random, Failure::from(trouble));
        }
        End::Lost(lost) => {
            // Past the commit point it had greeted us and taken the envelope.
            let evidence = if lost.token.is_some() { Evidence::Weak } else { Evidence::Strong };
            desk.failed(now, random, Failure { evidence, ..Failure::from(&lost.trouble) });
        }
        End::Decided(Word::Nothing, _)
        | End::Unreadable
        | End::GivenBack(GiveBack::StoreUnwell | GiveBack::Stopping) => {}
    }
}

/// What an answer says of the recipient's domain.
fn teach_domain(domains: &mut Domains, domain: &str, pace: ObservedPace, word: &Word, now: Timestamp) {
    match word {
        Word::Well => domains.went_well(domain, now),
        Word::PutOff(None) => domains.was_put_off(domain, PutOff::Recipient, pace, now),
        Word::PutOff(Some(SlowDown { scope: Scope::Domain, wait })) => {
            domains.was_put_off(domain, PutOff::Asked, pace, now);
            if let Some(wait) = wait {
                domains.back_off(domain, *wait, now);
            }
        }
        // The relay spoke of itself.
        Word::PutOff(Some(SlowDown { scope: Scope::Relay, .. }))
        | Word::TurnedAway(_)
        | Word::Failed(_)
        | Word::Nothing => {}
    }
}
