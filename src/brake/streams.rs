//! The streams that are watched, and the brakes that are on: a bounded table in memory.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use super::recipients::{Person, Recipients, Shaper};
use super::settings::BrakeSettings;
use crate::domain::brake::watch::{Rules, Usual, Watch};
use crate::domain::brake::{Brake, Decision, Effect, NewBrake, Stream};
use crate::domain::ids::BrakeId;
use crate::domain::submission::Submission;
use crate::store::{HeldOfStream, StreamUsual, WaitingPlace};

/// A table that is full is looked through for idle streams this often at most.
const LOOKED_THROUGH: Duration = Duration::from_secs(10);

/// See the module's text.
pub(super) struct Streams {
    watches: HashMap<Stream, Watch>,
    watches_max: usize,
    /// When the table was full and looked through.
    looked_through_at: Option<Timestamp>,
    recipients: Recipients,
    on: BTreeMap<BrakeId, On>,
}

/// A brake that is on.
#[derive(Debug, Clone)]
pub(super) struct On {
    /// Of this stream.
    pub(super) stream: Stream,
    /// What it does.
    pub(super) effect: Effect,
    /// Since when this process knows of it.
    pub(super) since: Timestamp,
    /// Not yet on disk.
    pub(super) unkept: Option<NewBrake>,
    /// How far the stream's waiting messages are held.
    pub(super) sweep: Sweep,
}

/// A walk over what waits, again and again until nothing is left to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sweep {
    /// To go on, not before this time.
    From {
        /// Not before.
        not_before: Timestamp,
        /// Behind this message.
        place: Option<WaitingPlace>,
        /// What this walk has found.
        found: Found,
    },
    /// Nothing was left.
    Done,
}

/// What a walk has found, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Found {
    /// Nothing of the stream.
    Nothing,
    /// Attempts under way, which may come back.
    UnderWay,
    /// Messages that it held.
    Held,
}

impl Found {
    /// By one step.
    pub(super) fn by(step: &HeldOfStream) -> Self {
        match (step.held, step.in_flight) {
            (0, 0) => Self::Nothing,
            (0, _) => Self::UnderWay,
            (_, _) => Self::Held,
        }
    }
}

impl Streams {
    /// Nothing is watched yet.
    pub(super) fn new(settings: &BrakeSettings, now: Timestamp) -> Self {
        Self {
            watches: HashMap::new(),
            watches_max: settings.streams_max,
            looked_through_at: None,
            recipients: Recipients::new(settings.recipients_max, now),
            on: BTreeMap::new(),
        }
    }

    /// The watch of a stream and the recipients of all. `None`: there are too many streams, and this one is not watched.
    pub(super) fn watch(
        &mut self,
        stream: &Stream,
        now: Timestamp,
        rules: &Rules,
    ) -> Option<(&mut Watch, &mut Recipients)> {
        if !self.watches.contains_key(stream) {
            if !self.has_room(now, rules) {
                return None;
            }
            self.watches.insert(stream.clone(), Watch::new(Usual::unknown(now), now));
        }
        Some((self.watches.get_mut(stream)?, &mut self.recipients))
    }

    /// Room for one more; streams of which nothing is lost make it.
    fn has_room(&mut self, now: Timestamp, rules: &Rules) -> bool {
        if self.watches.len() < self.watches_max {
            return true;
        }
        let lately = |at| Duration::try_from(now.duration_since(at)).is_ok_and(|age| age < LOOKED_THROUGH);
        if self.looked_through_at.is_some_and(lately) {
            return false;
        }
        self.looked_through_at = Some(now);
        self.watches.retain(|_, watch| !watch.is_idle(now, rules));
        let has_room = self.watches.len() < self.watches_max;
        if !has_room {
            tracing::warn!(streams = self.watches.len(), "brake.streams_max is reached: new streams are not watched");
        }
        has_room
    }

    /// What finds a mail's shape, if its recipient has got a mail of the stream before: else it is not needed.
    pub(super) fn met(&self, stream: &Stream, mail: &Submission) -> Option<Shaper> {
        self.recipients.met((stream, self.watches.get(stream)?.round), mail)
    }

    /// A mail was counted and then not accepted.
    pub(super) fn take_back(&mut self, stream: &Stream, person: &Person) {
        if let Some(watch) = self.watches.get_mut(stream) {
            watch.take_back();
        }
        self.recipients.take_back(person);
    }

    /// What is kept of a stream is known again.
    pub(super) fn recall(&mut self, kept: StreamUsual, now: Timestamp) {
        self.watches.insert(kept.stream, Watch::new(kept.usual, now));
    }

    /// A brake that was on when the last run ended is on again, whatever was decided about it since.
    pub(super) fn recall_brake(&mut self, brake: &Brake, now: Timestamp) {
        let watch = self.watches.entry(brake.stream.clone()).or_insert_with(|| Watch::new(Usual::unknown(now), now));
        watch.engage(brake.id, brake.excess, brake.effect, now);
        let (stream, effect, sweep) = (brake.stream.clone(), brake.effect, Sweep::begun_at(now));
        self.on.insert(brake.id, On { stream, effect, since: now, unkept: None, sweep });
    }

    /// A brake went on and is to be written.
    pub(super) fn engaged(&mut self, new: NewBrake) {
        let (stream, effect, sweep) = (new.stream.clone(), new.effect, Sweep::begun_at(new.at));
        self.on.insert(new.id, On { stream, effect, since: new.at, unkept: Some(new), sweep });
    }

    /// A brake is on disk.
    pub(super) fn kept(&mut self, id: BrakeId) {
        if let Some(on) = self.on.get_mut(&id) {
            on.unkept = None;
        }
    }

    /// The brakes that are on.
    pub(super) fn on(&self) -> Vec<(BrakeId, On)> {
        self.on.iter().map(|(id, on)| (*id, on.clone())).collect()
    }

    /// How far a brake has come with what waits.
    pub(super) fn swept(&mut self, id: BrakeId, sweep: Sweep) {
        if let Some(on) = self.on.get_mut(&id) {
            on.sweep = sweep;
        }
    }

    /// Alarms that may end by themselves.
    pub(super) fn calm(&self, now: Timestamp, rules: &Rules) -> Vec<BrakeId> {
        let is_calm =
            |on: &On| on.unkept.is_none() && self.watches.get(&on.stream).is_none_or(|watch| watch.is_calm(now, rules));
        let alarms = self.on.iter().filter(|(_, on)| on.effect == Effect::Alarm && is_calm(on));
        alarms.map(|(id, _)| *id).collect()
    }

    /// A brake is off.
    pub(super) fn disengage(&mut self, id: BrakeId, decision: Decision, now: Timestamp, rules: &Rules) {
        let Some(on) = self.on.remove(&id) else { return };
        if let Some(watch) = self.watches.get_mut(&on.stream) {
            watch.disengage(decision, now, rules);
        }
    }

    /// What is usual, as far as it is not kept yet.
    pub(super) fn unkept(&mut self, now: Timestamp, rules: &Rules) -> Vec<StreamUsual> {
        let mut unkept = Vec::new();
        for (stream, watch) in &mut self.watches {
            watch.catch_up(now, rules);
            if watch.unkept {
                unkept.push(StreamUsual { stream: stream.clone(), usual: watch.usual() });
            }
        }
        unkept
    }

    /// These are kept now.
    pub(super) fn usual_kept(&mut self, streams: &[StreamUsual]) {
        for kept in streams {
            if let Some(watch) = self.watches.get_mut(&kept.stream)
                && watch.usual() == kept.usual
            {
                watch.unkept = false;
            }
        }
    }
}

impl Sweep {
    /// A first walk.
    pub(super) fn begun_at(now: Timestamp) -> Self {
        Self::From { not_before: now, place: None, found: Found::Nothing }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use crate::domain::ids::KeyId;
    use uuid::Uuid;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn stream(number: usize) -> Stream {
        let key = KeyId::from_uuid(Uuid::from_u128(7));
        Stream { tenant: "demo".parse().unwrap(), key, template: Some(format!("template-{number}")) }
    }

    #[test]
    fn no_more_streams_are_watched_than_is_set_and_idle_ones_make_room() {
        let settings = BrakeSettings { streams_max: 3, min_mails: 5, ..BrakeSettings::default() };
        let (rules, mut streams) = (settings.rules(), Streams::new(&settings, at(0)));
        let mut count = |number: usize, mails: usize, seconds| {
            let counted = (0..mails).filter_map(|_| {
                let (watch, _) = streams.watch(&stream(number), at(seconds), &rules)?;
                Some(watch.mail(at(seconds), &rules))
            });
            counted.count()
        };
        assert_eq!([0, 1, 2].map(|number| count(number, 1, 0)), [1; 3]);
        assert_eq!(count(0, 50, 1), 50);
        assert_eq!(count(3, 1, 1), 0, "all are counted now");
        // Their window is over; the busy one is worth remembering.
        assert_eq!([3, 4, 5].map(|number| count(number, 1, 700)), [1, 1, 0]);
        assert_eq!(count(0, 1, 700), 1);
    }
}
