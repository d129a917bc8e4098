//! A journey tried on events: who would get what and when, with the real parts, a clock of its own, and nothing sent.
//!
//! ```text
//! events (recorded, from a file, made up) ─▶ ledger ─▶ a store that is gone afterwards ─▶ journeys' rounds ─▶ mails, not delivered
//!          └ whoever is met for the first time brings along: their contact, what they do not want, their earlier events, what
//!            they entered before
//! ```
//!
//! The clock is wound to whatever comes next: an event, a contact or a suppression that became known, somebody who is due. All journeys of the
//! tenant are walked, since a cap counts the mails of all; what is told is the one that is tried.
//!
//! # What is assumed
//!
//! * Every mail goes out in the moment in which it is handed in, and no limit but the recipients' own is in its way.
//! * A pass had the identifiers that it has now; a contact is as it is now, and known since it was first said; a suppression
//!   that was lifted never was.
//! * Nobody asks a CRM: who is not known here is not known. Whoever had entered before the first event is in no step.

pub mod compare;
pub mod made;
mod names;
pub mod source;
mod world;

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

pub use self::names::Names;
use self::source::{Meeting, Met, News, Source};
use self::world::World;
use crate::config::Config;
use crate::domain::ids::{JourneyName, TenantId};
use crate::domain::journey::enrollment::Funnel;
use crate::domain::journey::walk::{Outcome, Pause};
use crate::domain::journey::{Drawn, Version};
use crate::domain::rules::Rules;
use crate::journeys::Taken;
use crate::store::{Moved, Next};
use crate::templates::Templates;

/// How long after the last event somebody may still be on the way; who is then is counted as such.
const AFTERWARDS_MAX: Duration = Duration::from_hours(24 * 400);

/// What is tried, and under which configuration.
#[derive(Clone)]
pub struct Trial {
    /// The configuration: tenants, limits, the other journeys.
    pub config: Config,
    /// The drawing.
    pub drawn: Arc<Drawn>,
    /// What mails are rendered from.
    pub templates: Arc<Templates>,
    /// When the clock begins.
    pub begins_at: Timestamp,
}

/// A mail that would have been sent, or would have been but for a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mail {
    /// When.
    pub at: Timestamp,
    /// When the customer entered.
    pub entered_at: Timestamp,
    /// To whom: a number of [`Run::customers`].
    pub customer: u32,
    /// The step that sends it, from 0.
    pub step: u32,
    /// The template: a number of [`Run::templates`].
    pub template: u32,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It is sent.
    Sent,
    /// It would be one too many of all journeys for its recipient.
    Capped,
    /// Its recipient is not mailed.
    Suppressed,
}

impl Fate {
    /// The word in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Capped => "capped",
            Self::Suppressed => "suppressed",
        }
    }
}

/// How one trial went.
#[derive(Debug, Default)]
pub struct Run {
    /// Events that came in.
    pub events: u64,
    /// Mails in the order of their times.
    pub mails: Vec<Mail>,
    /// Customers, as the brand calls them.
    pub customers: Names,
    /// Templates.
    pub templates: Names,
    /// Who stood where in the end, and how each step went.
    pub funnel: Funnel,
    /// What happened on each day of the tenant's calendar.
    pub days: BTreeMap<Date, Day>,
    /// How often somebody waited for the end of quiet hours.
    pub in_quiet_hours: u64,
    /// How often somebody began to wait for an address.
    pub awaited_contact: u64,
    /// How often a mail waited since its recipient had as many of all kinds as they may.
    pub limited: u64,
    /// How often a mail could not be made.
    pub not_made: u64,
}

/// What happened on one day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Day {
    /// Customers who entered.
    pub entered: u64,
    /// Mails sent.
    pub sent: u64,
    /// Mails that were one too many.
    pub capped: u64,
    /// Mails to recipients who are not mailed.
    pub suppressed: u64,
}

/// How far a trial is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Events so far.
    pub events: u64,
    /// Mails so far.
    pub mails: u64,
    /// What its clock shows.
    pub at: Timestamp,
}

impl Trial {
    /// The tenant's.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.drawn.journey.tenant
    }

    /// The same with another drawing in its place.
    #[must_use]
    pub fn with(&self, drawn: Arc<Drawn>) -> Self {
        Self { drawn, ..self.clone() }
    }

    /// Which content is tried.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.drawn.version
    }

    fn rules(&self) -> Rules {
        let mut rules = self.config.rules();
        rules.tenants.retain(|id, _| id == self.tenant());
        for tenant in rules.tenants.values_mut() {
            // Nobody is called from here.
            tenant.contact_lookup = None;
            tenant.outbound.clear();
        }
        rules.journeys.retain(|_, drawn| drawn.journey.tenant == *self.tenant());
        rules.journeys.insert(self.drawn.journey.name.clone(), Arc::clone(&self.drawn));
        rules
    }

    /// Tries it on these events, to the end of whoever entered.
    pub async fn run(&self, source: Source, told: &mut (dyn FnMut(Progress) + Send)) -> anyhow::Result<Run> {
        let world = World::open(self)?;
        let zone = self.config.tenants.get(self.tenant()).map_or(TimeZone::UTC, |tenant| tenant.timezone.zone());
        let mut trying = Trying {
            name: self.drawn.journey.name.clone(),
            tenant: self.tenant().clone(),
            zone,
            meeting: Meeting::new(source),
            arriving: BinaryHeap::new(),
            run: Run::default(),
            world,
        };
        let went = trying.go(told).await;
        trying.world.close().await;
        went.map(|()| trying.run)
    }
}

/// A trial under way.
struct Trying {
    name: JourneyName,
    tenant: TenantId,
    zone: TimeZone,
    world: World,
    meeting: Meeting,
    /// What becomes known later, the next first.
    arriving: BinaryHeap<Reverse<Arriving>>,
    run: Run,
}

/// News, and when they come. Those of one moment in any order: each is of somebody else, or of another thing.
struct Arriving(News);

impl PartialEq for Arriving {
    fn eq(&self, other: &Self) -> bool {
        self.0.at() == other.0.at()
    }
}

impl Eq for Arriving {}

impl PartialOrd for Arriving {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Arriving {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.at().cmp(&other.0.at())
    }
}

impl Trying {
    async fn go(&mut self, told: &mut (dyn FnMut(Progress) + Send)) -> anyhow::Result<()> {
        let mut ends_at = Timestamp::MAX;
        loop {
            let event_at = self.meeting.next_at().await?;
            if event_at.is_none() && ends_at == Timestamp::MAX {
                ends_at = self.world.now().checked_add(AFTERWARDS_MAX).unwrap_or(Timestamp::MAX);
            }
            let news_at = self.arriving.peek().map(|Reverse(Arriving(news))| news.at());
            let due_at = self.world.next_due_at().await?;
            let Some(next) = [event_at, news_at, due_at].into_iter().flatten().min().filter(|at| *at <= ends_at) else {
                break;
            };
            self.world.wind_to(next);
            let now = self.world.now();
            // Who is known before something happens is known when it does.
            if news_at.is_some_and(|at| at <= now) {
                self.let_arrive(now).await?;
            }
            if event_at.is_some_and(|at| at <= now) {
                self.take_event(now).await?;
            }
            let is_done = self.take_rounds(now).await?;
            // An event may have ended who was due.
            let stands = !is_done && self.world.next_due_at().await?.is_some_and(|at| at <= now);
            anyhow::ensure!(!stands, "somebody is due and does not go on");
            told(Progress { events: self.run.events, mails: self.run.mails.len() as u64, at: now });
        }
        self.run.funnel = self.world.store.funnel(&self.tenant, &self.name).await?;
        Ok(())
    }

    async fn let_arrive(&mut self, now: Timestamp) -> anyhow::Result<()> {
        while self.arriving.peek().is_some_and(|Reverse(Arriving(news))| news.at() <= now) {
            let Some(Reverse(Arriving(news))) = self.arriving.pop() else { break };
            self.world.learn(&self.tenant, news).await?;
        }
        Ok(())
    }

    async fn take_event(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let Some((event, met)) = self.meeting.take().await? else { return Ok(()) };
        if let Some(Met { news, past, entries }) = met {
            self.world.recall(&self.tenant, past).await?;
            if !entries.is_empty() {
                self.world.store.note_journey_entries(&self.tenant, &self.name, entries).await?;
            }
            for news in news {
                if news.at() <= now {
                    self.world.learn(&self.tenant, news).await?;
                } else {
                    self.arriving.push(Reverse(Arriving(news)));
                }
            }
        }
        self.run.events += 1;
        for id in self.world.record(&self.tenant, event).await? {
            let entered = self.world.store.enrollment(&self.tenant, id).await?;
            if entered.is_some_and(|(enrollment, _)| enrollment.journey == self.name) {
                self.day(now).entered += 1;
            }
        }
        Ok(())
    }

    /// Whether anything was done.
    async fn take_rounds(&mut self, now: Timestamp) -> anyhow::Result<bool> {
        let mut is_done = false;
        loop {
            let round = self.world.journeys.round().await?;
            for taken in round.taken {
                is_done |= taken.moved.is_some();
                self.note(now, &taken).await?;
            }
            if !round.more {
                return Ok(is_done);
            }
        }
    }

    /// What a round did with one enrollment. What was handed in goes out, whichever journey it is of.
    async fn note(&mut self, now: Timestamp, taken: &Taken) -> anyhow::Result<()> {
        let fate = match &taken.moved {
            Some(Moved::Done(Some(id))) => Some(self.world.deliver(*id, now).await?),
            Some(Moved::Capped) => Some(Fate::Capped),
            Some(Moved::Unsubscribed) => Some(Fate::Suppressed),
            Some(Moved::Done(None) | Moved::Limited(_) | Moved::Stale) | None => None,
        };
        if taken.enrollment.journey != self.name {
            return Ok(());
        }
        match (&taken.moved, taken.next) {
            (Some(Moved::Limited(_)), _) => self.run.limited += 1,
            (Some(Moved::Stale) | None, _) => {}
            (_, Some(Next::TryAgain { .. })) => self.run.not_made += 1,
            (_, Some(Next::AwaitContact { .. })) if taken.enrollment.contact_by.is_none() => {
                self.run.awaited_contact += 1;
            }
            _ if taken.pause == Pause::QuietHours => self.run.in_quiet_hours += 1,
            _ => {}
        }
        let sends = taken.passed.iter().find(|passed| passed.outcome == Outcome::Sent);
        let (Some(fate), Some(template)) = (fate, &taken.template) else { return Ok(()) };
        let day = self.day(now);
        match fate {
            Fate::Sent => day.sent += 1,
            Fate::Capped => day.capped += 1,
            Fate::Suppressed => day.suppressed += 1,
        }
        let run = &mut self.run;
        run.mails.push(Mail {
            at: now,
            entered_at: taken.enrollment.entered_at,
            customer: run.customers.number(&taken.enrollment.customer.value),
            step: sends.map_or(0, |passed| u32::try_from(passed.step).unwrap_or(u32::MAX)),
            template: run.templates.number(template),
            fate,
        });
        Ok(())
    }

    fn day(&mut self, now: Timestamp) -> &mut Day {
        self.run.days.entry(now.to_zoned(self.zone.clone()).date()).or_default()
    }
}
