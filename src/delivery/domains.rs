//! How fast each recipient domain may be sent to, over all relays: by configuration and by what it answered.
//!
//! A domain has a bucket where a rate is configured for it. Beside that, replies teach: a request to go slower, or many
//! deferrals in a row without one mail taken, halve the rate at which we were sending; a taken mail raises it again, a
//! little each second, until it is what it was; what nobody asked for in a while is forgotten. A domain that answers 450
//! to everybody so ends at one attempt a second, and takes no sessions from the others.
//!
//! # Memory
//!
//! A domain is remembered only while there is something to remember: a bucket that is not full, a lesson, deferrals in a
//! row. There is room for `delivery.domains_max`. When it is full, those of which only deferrals in a row are known make
//! room: many dead domains keep out nobody. Domains beyond that share one place, so that they are together as slow as a
//! single one would be. That is unfair to them and never too fast for anybody.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::bucket::{Bucket, Limit};
use super::concurrency::is_old;
use super::settings::DeliverySettings;
use crate::domain::lane::{Lane, PerLane};
use crate::domain::quantity::Share;
use crate::domain::rates::DomainRates;
use crate::domain::shaping::{Binding, DomainView, Learned};

/// Deferrals in a row that slow a domain down; fewer may be a few busy mailboxes.
const PUT_OFF_MAX: u32 = 10;
/// No domain is slower than this, per second: somebody must find out that it is well again.
const PER_SECOND_MIN: f64 = 1.0;
/// A success raises the rate once in this.
const RAISE_EVERY: Duration = Duration::from_secs(1);
/// By this part of it, and at least by [`PER_SECOND_MIN`].
const RAISE_BY: f64 = 0.1;
/// A learned rate faster than this limits nobody.
const PER_SECOND_MAX: f64 = 10_000.0;

/// Whether a mail for a domain may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MayGo {
    /// Now.
    Now,
    /// Not before this.
    At(Timestamp),
    /// When another one for this domain has ended.
    AfterAnother,
}

/// A table that is full is looked through once in this for what may go.
const MAKE_ROOM_EVERY: Duration = Duration::from_secs(1);

/// What hurts a domain's standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOff {
    /// One recipient was put off.
    Recipient,
    /// We were asked to go slower.
    Asked,
}

/// All domains of which there is something to know.
#[derive(Debug)]
pub struct Domains {
    rates: DomainRates,
    reserved: PerLane<Share>,
    by_name: HashMap<String, Domain>,
    /// Shared by those for which there is no room.
    rest: Domain,
    max: usize,
    back_off_max: Duration,
    /// No bucket was filled before this: a restart is no reason for a burst.
    since: Timestamp,
    made_room_at: Timestamp,
}

#[derive(Debug, Default)]
struct Domain {
    limit: Option<Limit>,
    learned: Option<Lesson>,
    back_off_until: Option<Timestamp>,
    put_off_in_row: u32,
    put_off_at: Option<Timestamp>,
}

#[derive(Debug)]
struct Lesson {
    per_second: f64,
    /// What it was before.
    was: f64,
    bucket: Bucket,
    since: Timestamp,
    lowered_at: Timestamp,
    changed_at: Timestamp,
}

impl Domains {
    /// No domain has answered anything yet.
    pub fn new(rates: DomainRates, settings: &DeliverySettings, reserved: PerLane<Share>, now: Timestamp) -> Self {
        let (by_name, rest) = (HashMap::new(), Domain::default());
        let (max, back_off_max) = (settings.domains_max, settings.back_off_max.0);
        Self { rates, reserved, by_name, rest, max, back_off_max, since: now, made_room_at: Timestamp::MIN }
    }

    /// Goes on by these settings; what replies taught stays, and what was sent counts on where the rates are the same.
    pub fn take_over(&mut self, new: Self) {
        let same_rates = self.rates == new.rates && self.reserved == new.reserved;
        if !same_rates {
            self.rest.limit = None;
            for (name, domain) in &mut self.by_name {
                let (old, rate) = (domain.limit.take(), new.rates.of(name));
                domain.limit = rate.map(|rate| Limit::renewed(old, rate, &new.reserved, new.since));
            }
            (self.rates, self.reserved, self.since) = (new.rates, new.reserved, new.since);
        }
        (self.max, self.back_off_max) = (new.max, new.back_off_max);
    }

    /// Whether a mail of `lane` for `domain` may go.
    pub fn may_go(&self, lane: Lane, domain: &str, now: Timestamp) -> MayGo {
        let rate = self.rates.of(domain);
        if rate.is_none() && self.by_name.is_empty() {
            return MayGo::Now;
        }
        let known = self.by_name.get(domain);
        let known = if known.is_none() && self.is_full() { Some(&self.rest) } else { known };
        let limit = known.and_then(|known| known.limit.as_ref());
        let by_rate = match (limit, rate) {
            (Some(limit), _) => limit.next_at(lane, now),
            (None, Some(rate)) => Limit::new(rate, &self.reserved, self.since).next_at(lane, now),
            (None, None) => None,
        };
        let by_reply = known.and_then(|known| {
            let learned = known.learned.as_ref().and_then(|lesson| lesson.next_at(self.kept_of_learned(lane), now));
            learned.max(known.back_off_until.filter(|until| *until > now))
        });
        by_rate.max(by_reply).map_or(MayGo::Now, MayGo::At)
    }

    /// One mail for it goes.
    pub fn take(&mut self, domain: &str, now: Timestamp) {
        let rate = self.rates.of(domain);
        if rate.is_none() && self.by_name.is_empty() {
            return;
        }
        let (reserved, since) = (self.reserved, self.since);
        let known = if rate.is_some() { Some(self.entry(domain, now)) } else { self.known(domain) };
        let Some(known) = known else { return };
        if let (None, Some(rate)) = (&known.limit, rate) {
            known.limit = Some(Limit::new(rate, &reserved, since));
        }
        if let Some(limit) = &mut known.limit {
            limit.take(now);
        }
        if let Some(lesson) = &mut known.learned {
            lesson.bucket.take(now);
        }
    }

    /// One that went did not reach any relay.
    pub fn put_back(&mut self, domain: &str) {
        let Some(known) = self.known(domain) else { return };
        if let Some(limit) = &mut known.limit {
            limit.put_back();
        }
        if let Some(lesson) = &mut known.learned {
            lesson.bucket.put_back();
        }
    }

    /// A mail for it was taken, or refused for good: it is not put off.
    pub fn went_well(&mut self, domain: &str, now: Timestamp) {
        let Some(known) = self.known(domain) else { return };
        known.put_off_in_row = 0;
        let Some(lesson) = &mut known.learned else { return };
        if now.duration_since(lesson.changed_at).unsigned_abs() < RAISE_EVERY {
            return;
        }
        lesson.set(lesson.per_second + (lesson.per_second * RAISE_BY).max(PER_SECOND_MIN), now);
        if lesson.per_second >= lesson.was {
            known.learned = None;
        }
    }

    /// A mail for it was put off. `pace` is how fast we were sending to it.
    pub fn was_put_off(&mut self, domain: &str, how: PutOff, pace: ObservedPace, now: Timestamp) {
        let known = self.entry(domain, now);
        known.put_off_in_row = known.put_off_in_row.saturating_add(1);
        known.put_off_at = Some(now);
        if how == PutOff::Recipient && known.put_off_in_row < PUT_OFF_MAX {
            return;
        }
        match &mut known.learned {
            // It had no chance to heed the last one.
            Some(lesson) if pace.began_at < lesson.lowered_at => {}
            Some(lesson) => {
                lesson.lowered_at = now;
                lesson.set((lesson.per_second / 2.0).max(PER_SECOND_MIN), now);
            }
            None => known.learned = Some(Lesson::new(pace.per_second(now), now)),
        }
    }

    /// It asked to be left alone for so long; that is honoured up to `delivery.back_off_max`.
    pub fn back_off(&mut self, domain: &str, wait: Duration, now: Timestamp) {
        let wait = wait.min(self.back_off_max);
        let until = now.checked_add(wait).unwrap_or(Timestamp::MAX);
        let known = self.entry(domain, now);
        known.back_off_until = known.back_off_until.max(Some(until));
    }

    /// Forgets what there is no need to remember.
    pub fn tidy(&mut self, now: Timestamp) {
        let max = self.back_off_max;
        self.by_name.retain(|_, domain| domain.tidy(now, max));
        self.rest.tidy(now, max);
    }

    /// Domains that are limited or backed off now, up to `max`, and how many more there are.
    pub fn view(&self, now: Timestamp, max: usize) -> (Vec<DomainView>, usize) {
        let mut views: Vec<DomainView> = Vec::new();
        let mut more = 0;
        for (name, domain) in &self.by_name {
            let next_at = domain.next_at(now);
            if next_at.is_none() && domain.learned.is_none() {
                continue;
            }
            if views.len() >= max {
                more += 1;
                continue;
            }
            views.push(DomainView {
                domain: name.clone(),
                rate: domain.limit.as_ref().map(|limit| limit.view(now)),
                learned_per_second: domain.learned.as_ref().map(Lesson::view),
                back_off_until: domain.back_off_until.filter(|until| *until > now),
                next_at,
            });
        }
        views.sort_by(|one, other| one.domain.cmp(&other.domain));
        (views, more)
    }

    /// What keeps a mail of this lane and domain back.
    pub fn bindings(&self, lane: Lane, domain: &str, now: Timestamp) -> Vec<Binding> {
        let known = self.by_name.get(domain);
        let known = if known.is_none() && self.is_full() { Some(&self.rest) } else { known };
        let name = || domain.to_owned();
        let back_off = known.and_then(|known| known.back_off_until.filter(|until| *until > now));
        let back_off = back_off.map(|until| Binding::DomainBackOff { domain: name(), until });
        let untouched = self.rates.of(domain).map(|rate| Limit::new(rate, &self.reserved, self.since));
        let limit = known.and_then(|known| known.limit.as_ref()).or(untouched.as_ref());
        let rate_spent = limit.and_then(|limit| {
            let until = limit.next_at(lane, now)?;
            Some(Binding::DomainRateSpent { domain: name(), rate: limit.rate, until })
        });
        let learned = known.and_then(|known| known.learned.as_ref()).and_then(|lesson| {
            let until = lesson.next_at(self.kept_of_learned(lane), now)?;
            let (per_second, since) = (lesson.per_second, lesson.since);
            Some(Binding::LearnedRate { domain: name(), per_second, since, until })
        });
        [back_off, rate_spent, learned].into_iter().flatten().collect()
    }

    /// How many domains are remembered.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    fn is_full(&self) -> bool {
        self.by_name.len() >= self.max
    }

    /// Forgets domains of which only deferrals in a row are known, when any are; says whether there is room now. Whoever
    /// goes on deferring is soon counted again; a domain without a place would be as slow as all others without one.
    fn make_room(&mut self, now: Timestamp) -> bool {
        if now.duration_since(self.made_room_at).unsigned_abs() >= MAKE_ROOM_EVERY {
            self.made_room_at = now;
            let max = self.back_off_max;
            self.by_name.retain(|_, domain| domain.limits_somebody(now, max));
        }
        !self.is_full()
    }

    /// Others leave the last place of a learned bucket to lanes that have something reserved.
    fn kept_of_learned(&self, lane: Lane) -> u32 {
        let reserves = |lane: Lane| *self.reserved.get(lane) != Share::NONE;
        u32::from(!reserves(lane) && Lane::ALL.into_iter().any(reserves))
    }

    /// The place of a domain, if it has one of its own or there is no room for one.
    fn known(&mut self, domain: &str) -> Option<&mut Domain> {
        let full = self.is_full();
        match self.by_name.get_mut(domain) {
            Some(known) => Some(known),
            None if full => Some(&mut self.rest),
            None => None,
        }
    }

    /// The place of a domain, made when there is room.
    fn entry(&mut self, domain: &str, now: Timestamp) -> &mut Domain {
        if !self.by_name.contains_key(domain) {
            if self.is_full() && !self.make_room(now) {
                return &mut self.rest;
            }
            self.by_name.insert(domain.to_owned(), Domain { put_off_at: Some(now), ..Domain::default() });
        }
        match self.by_name.get_mut(domain) {
            Some(known) => known,
            None => &mut self.rest,
        }
    }
}

/// How fast we were sending to a domain when it answered, by Little's law.
#[derive(Debug, Clone, Copy)]
pub struct ObservedPace {
    /// Attempts for it that were under way.
    pub under_way: u32,
    /// When the one that was answered began.
    pub began_at: Timestamp,
}

impl ObservedPace {
    fn per_second(self, now: Timestamp) -> f64 {
        let took = now.duration_since(self.began_at).as_secs_f64().max(0.001);
        (f64::from(self.under_way.max(1)) / took).clamp(PER_SECOND_MIN, PER_SECOND_MAX)
    }
}

impl Lesson {
    fn new(was: f64, now: Timestamp) -> Self {
        let per_second = (was / 2.0).max(PER_SECOND_MIN);
        let bucket = Bucket::per_second(per_second, depth(per_second), now);
        Self { per_second, was, bucket, since: now, lowered_at: now, changed_at: now }
    }

    fn set(&mut self, per_second: f64, now: Timestamp) {
        (self.per_second, self.changed_at) = (per_second, now);
        self.bucket.set_per_second(per_second, depth(per_second), now);
    }

    fn next_at(&self, kept: u32, now: Timestamp) -> Option<Timestamp> {
        self.bucket.next_at(kept, now)
    }

    fn view(&self) -> Learned<f64> {
        Learned { value: self.per_second, since: self.since }
    }
}

impl Domain {
    /// When the next attempt may begin, if none may now; lanes that may take what others must leave aside.
    fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        let by_rate = self.limit.as_ref().and_then(|limit| limit.view(now).next_at);
        let learned = self.learned.as_ref().and_then(|lesson| lesson.next_at(0, now));
        by_rate.max(learned).max(self.back_off_until.filter(|until| *until > now))
    }

    /// Forgets what is old; says whether anything is left to remember.
    fn tidy(&mut self, now: Timestamp, back_off_max: Duration) -> bool {
        // A clock that was put back keeps nobody waiting longer than was honoured.
        self.back_off_until = self.back_off_until.filter(|until| !super::look::has_passed(*until, now, back_off_max));
        if self.learned.as_ref().is_some_and(|lesson| is_old(lesson.changed_at, now)) {
            self.learned = None;
        }
        let in_row = self.put_off_in_row > 0 && self.put_off_at.is_some_and(|at| !is_old(at, now));
        self.limits_somebody(now, back_off_max) || in_row
    }

    /// Whether more is known of it than deferrals in a row.
    fn limits_somebody(&self, now: Timestamp, back_off_max: Duration) -> bool {
        let rate_is_spent = self.limit.as_ref().is_some_and(|limit| !limit.is_full(now));
        let backed_off = self.back_off_until.is_some_and(|until| !super::look::has_passed(until, now, back_off_max));
        rate_is_spent || self.learned.is_some() || backed_off
    }
}

/// A tenth of a second's worth, and one for whoever has something reserved.
fn depth(per_second: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 < per_second <= 10,000")]
    let tenth = (per_second / 10.0) as u32;
    tenth.max(1) + 1
}
