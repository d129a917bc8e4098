//! Where a trial's events come from, one after the other, and what comes along with whoever is met for the first time.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use jiff::Timestamp;

use super::made::{self, Made};
use crate::domain::address::EmailAddress;
use crate::domain::contact::{Contact, CustomerId, GivenConsent, NewContact};
use crate::domain::ids::{EventId, JourneyName, TenantId};
use crate::domain::pass_event::PassEvent;
use crate::domain::suppression::{NewSuppression, Suppression};
use crate::domain::wallet::CustomerKey;
use crate::store::{JourneyEntry, RecordedEvent, RecordedQuery, Store, StoreError, SuppressionFilter};

/// Events read from the store at once.
const AT_ONCE: usize = 1_000;
/// Suppressions of one recipient that come along.
const SUPPRESSIONS_MAX: usize = 1_000;
/// Earlier events of one customer that come along.
const PAST_MAX: usize = 1_000;

/// An event at its moment.
pub struct Timed {
    /// When it comes in.
    pub at: Timestamp,
    /// Who it is of; `None`: nobody, as the ledger would say.
    pub customer: Option<CustomerKey>,
    /// What it says.
    pub event: PassEvent,
}

/// Where events come from.
pub enum Source {
    /// What the gateway recorded.
    Recorded(Recorded),
    /// A file's, in its order, with the contacts that the gateway knows.
    Given {
        /// The events.
        events: Box<dyn Iterator<Item = anyhow::Result<Timed>> + Send>,
        /// Where contacts are read.
        store: Arc<dyn Store>,
        /// Whose customers.
        tenant: TenantId,
    },
    /// Made up.
    Made(Made),
}

/// The real ledger, read in its order.
pub struct Recorded {
    store: Arc<dyn Store>,
    tenant: TenantId,
    journey: JourneyName,
    since: Timestamp,
    until: Timestamp,
    after: Option<(Timestamp, EventId)>,
    read: std::vec::IntoIter<RecordedEvent>,
}

impl Recorded {
    /// The events of a tenant that came in since then and before `until`.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        (tenant, journey): (TenantId, JourneyName),
        since: Timestamp,
        until: Timestamp,
    ) -> Self {
        Self { store, tenant, journey, since, until, after: None, read: Vec::new().into_iter() }
    }

    async fn next(&mut self) -> Result<Option<Timed>, StoreError> {
        if self.read.len() == 0 {
            let Self { since, until, after, .. } = *self;
            let query = RecordedQuery { since, until, after, limit: AT_ONCE };
            let read = self.store.recorded_events(&self.tenant, query).await?;
            self.after = read.last().map(|last| (last.received_at, last.id)).or(self.after);
            self.read = read.into_iter();
        }
        Ok(self.read.next().map(|RecordedEvent { received_at, customer, event, .. }| Timed {
            at: received_at,
            customer: Some(customer),
            event,
        }))
    }
}

/// What becomes known of a customer.
pub(super) enum News {
    /// Who they are.
    Contact(Box<NewContact>),
    /// What they do not want.
    Suppression(Box<NewSuppression>),
}

impl News {
    /// Since when it is known.
    pub(super) fn at(&self) -> Timestamp {
        match self {
            Self::Contact(contact) => contact.at,
            Self::Suppression(suppression) => suppression.at,
        }
    }
}

/// What comes along with a customer.
#[derive(Default)]
pub(super) struct Met {
    /// What is known of them, or will be.
    pub(super) news: Vec<News>,
    /// What had happened to their passes.
    pub(super) past: Vec<PassEvent>,
    /// What they had entered.
    pub(super) entries: Vec<JourneyEntry>,
}

/// A source, and who was met already.
pub(super) struct Meeting {
    source: Source,
    next: Option<Timed>,
    is_over: bool,
    // Of so many customers hardly two have a hash in common; who does brings nothing along.
    met: HashSet<u64>,
    hasher: RandomState,
}

impl Meeting {
    pub(super) fn new(source: Source) -> Self {
        Self { source, next: None, is_over: false, met: HashSet::new(), hasher: RandomState::new() }
    }

    /// When the next event comes in; `None`: there is none.
    pub(super) async fn next_at(&mut self) -> anyhow::Result<Option<Timestamp>> {
        if self.next.is_none() && !self.is_over {
            self.next = match &mut self.source {
                Source::Recorded(recorded) => recorded.next().await?,
                Source::Given { events, .. } => events.next().transpose()?,
                Source::Made(made) => made.next(),
            };
            self.is_over = self.next.is_none();
        }
        Ok(self.next.as_ref().map(|timed| timed.at))
    }

    /// The next event, and what comes along with it.
    pub(super) async fn take(&mut self) -> anyhow::Result<Option<(PassEvent, Option<Met>)>> {
        self.next_at().await?;
        let Some(Timed { customer, event, at }) = self.next.take() else { return Ok(None) };
        let Some(customer) = customer else { return Ok(Some((event, None))) };
        if !self.met.insert(self.hasher.hash_one((&customer.by, &customer.value))) {
            return Ok(Some((event, None)));
        }
        let met = match &self.source {
            Source::Recorded(recorded) => {
                let Recorded { store, tenant, journey, since, .. } = recorded;
                let past = store.recorded_before(tenant, customer.clone(), *since, PAST_MAX).await?;
                Met {
                    news: news(&**store, tenant, &customer, &event).await?,
                    past: past.into_iter().map(|recorded| recorded.event).collect(),
                    entries: store.journey_entries(tenant, journey, customer, *since).await?,
                }
            }
            Source::Given { store, tenant, .. } => {
                Met { news: news(&**store, tenant, &customer, &event).await?, ..Met::default() }
            }
            Source::Made(_) => {
                let contact = made::contact(&customer, at).map(|contact| News::Contact(Box::new(contact)));
                Met { news: contact.into_iter().collect(), ..Met::default() }
            }
        };
        Ok(Some((event, Some(met))))
    }
}

/// What the gateway knows of a customer: their contact, and what is not to be sent to their address, which may be the pass's.
async fn news(
    store: &dyn Store,
    tenant: &TenantId,
    customer: &CustomerKey,
    event: &PassEvent,
) -> Result<Vec<News>, StoreError> {
    // Who is known by a pass alone is nobody's contact.
    let id: Option<CustomerId> = customer.value.parse().ok().filter(|_| !customer.is_by_pass());
    let contact = match id {
        Some(id) => store.contact(tenant, &id).await?,
        None => None,
    };
    let of_pass = || event.identifiers.get("email")?.parse::<EmailAddress>().ok();
    let address = contact.as_ref().map(|contact| contact.email.clone()).or_else(of_pass);
    let mut news: Vec<News> = contact.map(|contact| News::Contact(Box::new(again(contact)))).into_iter().collect();
    let Some(recipient) = address else { return Ok(news) };
    let (of, limit) = (Some(recipient.clone()), SUPPRESSIONS_MAX);
    let filter = SuppressionFilter { recipient: of, limit, ..SuppressionFilter::default() };
    let stands = store.suppressions(tenant, filter).await?;
    news.extend(stands.into_iter().map(|listed| {
        let Suppression { scope, source, added_at, expires_at, .. } = listed.suppression;
        let recipient = recipient.clone();
        let at = added_at;
        News::Suppression(Box::new(NewSuppression { recipient, scope, source, because: None, expires_at, at }))
    }));
    Ok(news)
}

/// A contact as it was first said, with what is known now.
fn again(contact: Contact) -> NewContact {
    let consent = contact.consent.into_iter().map(|(name, consent)| {
        let given = GivenConsent { granted: consent.granted, at: Some(consent.at), source: consent.source };
        (name, given)
    });
    NewContact {
        customer: contact.customer,
        email: contact.email,
        name: contact.name,
        culture: contact.culture,
        timezone: contact.timezone,
        consent: consent.collect(),
        fields: contact.fields,
        origin: contact.origin,
        at: contact.created_at,
    }
}
