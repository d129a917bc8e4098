//! The blast brake: a stream of mails that suddenly is not what it was raises an alarm, or is held until you decide.
//!
//! # Who is who
//!
//! * A **stream** is what one key of a tenant hands in of one template. `urgent` mails are in none: they are neither
//!   counted nor held.
//! * A **watch** (`domain::brake::watch`) follows one stream and says when it is out of line; **recipients** counts
//!   near-identical mails to one recipient.
//! * A **brake** is a row of the store: from the mail that was one too many until somebody decides.
//! * The **brakeman** owns the watches. Intake asks it about each mail; between that it works in rounds: how mails ended,
//!   what is held, what was decided, what is usual.
//! * The **lever** is what operators pull, in this process or in another.
//!
//! # What flows
//!
//! ```text
//! intake ─▶ judge: count ─▶ in line: queued
//!                      └──▶ out of line: brake (durable, with its leaf) ─▶ this mail and the next ones: held
//! round ─▶ the audit's new leaves ─▶ outcomes of each stream ─▶ out of line: brake
//!      ├─▶ a brake that is on: what its stream has waiting is held, too
//!      ├─▶ a brake that was decided about: off, and carried out to the end
//!      └─▶ each minute, and at the stop: what is usual is kept
//! ```
//!
//! # What is promised
//!
//! * With `hold`, a mail that is handed in when its stream's brake is on is accepted and held (`reason` = `brake`), and so
//!   is what the stream has waiting, but for attempts past their commit point. It stays so until an operator decides,
//!   however often the gateway starts. Other streams flow.
//! * Without `hold` nothing is held: the alarm is a line in the log and a row among the brakes, and ends by itself.
//! * A brake that cannot be written holds nothing: mails flow, and it is written as soon as the store can.
//!
//! # For correctness and for economy
//!
//! The store looks once more, in the transaction that holds a mail, whether the brake is on: so nothing is left behind by
//! a brake that was decided about. What is counted now is in memory only and begins anew at a start; what is usual is
//! kept. Under load the outcomes are a sample.
//!
//! Not here: what may go when (`delivery`), steering single mails (`steering`).

mod lever;
mod recipients;
mod round;
pub mod settings;
mod streams;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use uuid::{NoContext, Uuid};

pub use self::lever::{Lever, decided_before};
use self::recipients::Person;
use self::settings::BrakeSettings;
use self::streams::Streams;
use crate::clock::Clock;
use crate::domain::audit::Actor;
use crate::domain::brake::watch::{Braked, Rules, Watch};
use crate::domain::brake::{Effect, Excess, NewBrake, Stream};
use crate::domain::ids::BrakeId;
use crate::domain::lane::Lane;
use crate::domain::message::{Entry, NewMessage};
use crate::domain::quantity::Rate;
use crate::domain::submission::Submission;
use crate::store::Store;

/// Brakes that are on when the gateway starts, at most: as many as there are streams with a reason.
pub const BRAKES_MAX: usize = 10_000;

/// What watches the streams; see the module's text.
pub struct Brakeman {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    lever: Lever,
    settings: BrakeSettings,
    rules: Rules,
    // Held to count and to look, never across an await.
    streams: Mutex<Streams>,
    /// Begins a round before its time.
    nudge: Notify,
}

/// What the brakeman says to a mail.
#[derive(Debug)]
pub struct Judgement {
    /// How it enters the store.
    pub entry: Entry,
    /// What was counted, if anything was: to be taken back when the mail is not accepted.
    pub counted: Option<Counted>,
}

/// One mail, counted.
#[derive(Debug)]
pub struct Counted {
    stream: Stream,
    person: Person,
}

impl Brakeman {
    /// A brakeman who knows nothing yet: see [`Brakeman::recall`].
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, wake: Arc<Notify>, settings: BrakeSettings) -> Self {
        let lever = Lever::new(Arc::clone(&store), Arc::clone(&clock), wake);
        let rules = settings.rules();
        let streams = Mutex::new(Streams::new(&settings, clock.now()));
        Self { store, clock, lever, settings, rules, streams, nudge: Notify::new() }
    }

    /// Counts a mail that is about to be accepted and says how it enters. The mail that is one too many waits until its
    /// brake is on disk.
    pub async fn judge(&self, message: &NewMessage, mail: &Submission) -> Judgement {
        let Some(stream) = stream_of(message) else { return Judgement { entry: message.entry, counted: None } };
        let (judgement, new) = self.count(stream, mail, message.recipient_limit);
        if let Some(new) = new {
            self.keep(new).await;
        }
        judgement
    }

    /// A mail was counted and then not accepted.
    pub fn take_back(&self, counted: &Counted) {
        self.streams().take_back(&counted.stream, &counted.person);
    }

    fn count(&self, stream: Stream, mail: &Submission, limit: Option<Rate>) -> (Judgement, Option<NewBrake>) {
        // Not under the lock: a text may be long.
        let shape = self.streams().met(&stream, mail).map(|shaper| shaper.shape(mail));
        let mut streams = self.streams();
        // Under the lock, so that a watch sees time go forward.
        let now = self.clock.now();
        let Some((watch, recipients)) = streams.watch(&stream, now, &self.rules) else {
            return (Judgement { entry: Entry::Queued, counted: None }, None);
        };
        let excess = watch.mail(now, &self.rules);
        let (alike, person) = recipients.count((&stream, watch.round), mail, shape, (now, self.rules.window));
        let alike = watch.alike(alike, self.settings.same_recipient, now, &self.rules);
        // Where the recipient's own limit is no higher, the store refuses the mail that would be one too many.
        let refused =
            |seen: &Excess| limit.is_some_and(|limit| limit.count <= seen.allowed && limit.per >= self.rules.window);
        let excess = excess.or(alike.filter(|alike| !refused(alike)));
        let new = self.note(watch, &stream, excess);
        let entry = watch.braked().map_or(Entry::Queued, |braked| self.entry(braked));
        if let Some(new) = &new {
            streams.engaged(new.clone());
        }
        (Judgement { entry, counted: Some(Counted { stream, person }) }, new)
    }

    /// What a brake does now, as the settings say now.
    fn entry(&self, braked: Braked) -> Entry {
        match braked.effect {
            Effect::Hold if self.settings.hold => Entry::Held(braked.id),
            Effect::Hold | Effect::Alarm => Entry::Queued,
        }
    }

    /// What is out of line engages a brake, or keeps one on.
    fn note(&self, watch: &mut Watch, stream: &Stream, excess: Option<Excess>) -> Option<NewBrake> {
        let excess = excess?;
        let at = self.clock.now();
        if watch.braked().is_some() {
            watch.goes_on(at);
            return None;
        }
        let effect = if self.settings.hold { Effect::Hold } else { Effect::Alarm };
        let seconds = u64::try_from(at.as_second()).unwrap_or(0);
        let nanoseconds = u32::try_from(at.subsec_nanosecond()).unwrap_or(0);
        let id = BrakeId::from_uuid(Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanoseconds)));
        watch.engage(id, excess, effect, at);
        let new = NewBrake { id, stream: stream.clone(), excess, effect, at };
        alarm(&new);
        Some(new)
    }

    /// Writes a brake down. What cannot be written now is written in a later round, and holds nothing until then.
    async fn keep(&self, brake: NewBrake) {
        let id = brake.id;
        match self.store.engage_brake(brake).await {
            Ok(()) => {
                self.streams().kept(id);
                self.nudge.notify_one();
            }
            Err(error) => tracing::warn!(brake.id = %id, %error, "a brake cannot be written: it holds nothing yet"),
        }
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stream of a mail that is to be sent; `None` when it is in none.
fn stream_of(message: &NewMessage) -> Option<Stream> {
    let key = match message.actor {
        Actor::Key(key) => key,
        // What an operator sends by hand, one by one.
        Actor::Gateway | Actor::Command(_) | Actor::Webhook | Actor::Recipient => return None,
    };
    if message.lane == Lane::Urgent || message.entry != Entry::Queued {
        return None;
    }
    Some(Stream { tenant: message.tenant.clone(), key, template: message.template.clone() })
}

/// The one line for each brake. Names and numbers, never an address.
fn alarm(brake: &NewBrake) {
    let NewBrake { id, stream, excess, effect, at: _ } = brake;
    let text = match effect {
        Effect::Hold => "a stream of mails is out of line: it is held until you decide",
        Effect::Alarm => "a stream of mails is out of line",
    };
    tracing::error!(
        brake.id = %id,
        tenant = %stream.tenant,
        key = %stream.key,
        template = stream.template_named(),
        cause = excess.cause.as_str(),
        seen = excess.seen,
        allowed = excess.allowed,
        "{text}"
    );
}
