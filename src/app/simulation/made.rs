//! Events made up: customers who add a pass, some of them another, remove it, add it again; the same for the same seed.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::source::Timed;
use crate::domain::contact::{NewContact, Origin};
use crate::domain::pass_event::{EventKind, PassEvent, RegistrationCounts, Source, Wallet, Way};
use crate::domain::wallet::CustomerKey;

/// Of a hundred customers so many have no address, until it comes hours later or never.
const WITHOUT_ADDRESS: u64 = 10;
/// Of a hundred customers met so many have no time zone of their own.
const WITHOUT_ZONE: u64 = 30;
/// What an event is, of a hundred: the rest are first installs.
const OTHER_WALLET: u64 = 20;
const REMOVED: u64 = 10;
const AGAIN: u64 = 5;
/// Customers who may do something more: those that came last.
const REMEMBERED_MAX: usize = 1_000;
const ZONES: [&str; 6] =
    ["Europe/Paris", "Europe/London", "America/New_York", "America/Los_Angeles", "Asia/Tokyo", "Australia/Sydney"];
const CULTURES: [&str; 3] = ["en", "fr", "fr-CA"];
const MEDIA: [&str; 4] = ["email", "sms", "qr", "web"];
const TAGS: [&str; 3] = ["summer", "store", "vip"];

/// Made-up events.
pub struct Made {
    random: fastrand::Rng,
    left: u64,
    at: Timestamp,
    /// The mean time from one to the next.
    step: Duration,
    customers: u64,
    /// Who may do something more, and how their pass stands.
    remembered: Vec<Customer>,
    /// What they are known by.
    identifier: String,
}

#[derive(Clone, Copy)]
struct Customer {
    number: u64,
    wallet: Wallet,
    stands: Stands,
}

/// How a customer's pass stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    InOne,
    InBoth,
    Removed,
}

impl Made {
    /// So many events over this time, of customers who are known by this identifier.
    #[must_use]
    pub fn new(count: u64, seed: u64, (since, until): (Timestamp, Timestamp), identifier: &str) -> Self {
        let whole = Duration::try_from(until.duration_since(since)).unwrap_or_default();
        let nanos = whole.as_nanos() / u128::from(count.max(1));
        Self {
            random: fastrand::Rng::with_seed(seed),
            left: count,
            at: since,
            step: Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)),
            customers: 0,
            remembered: Vec::new(),
            identifier: identifier.to_owned(),
        }
    }

    pub(super) fn next(&mut self) -> Option<Timed> {
        self.left = self.left.checked_sub(1)?;
        // Somewhere in the two steps around, so that the whole takes as long as it should.
        let by = self.step.mul_f64(self.random.f64() * 2.0);
        self.at = self.at.checked_add(by).unwrap_or(self.at);
        let dice = self.random.u64(0..100);
        let wanted: fn(Stands) -> bool = match dice {
            _ if dice < OTHER_WALLET => |stands| stands == Stands::InOne,
            _ if dice < OTHER_WALLET + REMOVED => |stands| stands == Stands::InOne,
            _ if dice < OTHER_WALLET + REMOVED + AGAIN => |stands| stands == Stands::Removed,
            _ => |_| false,
        };
        let known = self.pick(wanted);
        let (customer, kind) = match known {
            Some(index) => {
                let customer = &mut self.remembered[index];
                let was = *customer;
                let (kind, wallet, stands) = match (was.stands, dice < OTHER_WALLET) {
                    (Stands::InOne | Stands::InBoth, true) => {
                        (EventKind::Installed, was.wallet.other(), Stands::InBoth)
                    }
                    (Stands::InOne | Stands::InBoth, false) => (EventKind::Uninstalled, was.wallet, Stands::Removed),
                    (Stands::Removed, _) => (EventKind::Installed, was.wallet, Stands::InOne),
                };
                customer.stands = stands;
                (Customer { wallet, ..was }, kind)
            }
            None => (self.newcomer(), EventKind::Installed),
        };
        let event = self.event(customer, kind);
        let key = CustomerKey { by: self.identifier.clone(), value: name(customer.number) };
        Some(Timed { at: self.at, customer: Some(key), event })
    }

    fn pick(&mut self, wanted: fn(Stands) -> bool) -> Option<usize> {
        // A few tries: whoever is found.
        (0..8).filter(|_| !self.remembered.is_empty()).find_map(|_| {
            let index = self.random.usize(0..self.remembered.len());
            wanted(self.remembered[index].stands).then_some(index)
        })
    }

    fn newcomer(&mut self) -> Customer {
        self.customers += 1;
        let wallet = if self.random.bool() { Wallet::Apple } else { Wallet::Google };
        let customer = Customer { number: self.customers, wallet, stands: Stands::InOne };
        if self.remembered.len() < REMEMBERED_MAX {
            self.remembered.push(customer);
        } else {
            let place = self.random.usize(0..REMEMBERED_MAX);
            self.remembered[place] = customer;
        }
        customer
    }

    fn event(&mut self, customer: Customer, kind: EventKind) -> PassEvent {
        let tag = TAGS.get(self.random.usize(0..2 * TAGS.len()));
        PassEvent {
            kind,
            wallet: customer.wallet,
            pass: Some(format!("pass-{}", customer.number)),
            pass_type: Some("loyalty".to_owned()),
            identifiers: BTreeMap::from([(self.identifier.clone(), name(customer.number))]),
            counts: RegistrationCounts::default(),
            source: Source {
                tags: tag.map(ToString::to_string).into_iter().collect(),
                medium: Some(MEDIA[self.random.usize(0..MEDIA.len())].to_owned()),
                origin: None,
                user_agent: None,
            },
            occurred_at: Some(self.at),
            since: None,
            key: None,
            way: Way::Hook,
        }
    }
}

/// Who a customer is: the same for the same seed and number, whatever came before.
pub(super) fn contact(customer: &CustomerKey, met_at: Timestamp) -> Option<NewContact> {
    let number: u64 = customer.value.rsplit('-').next()?.parse().ok()?;
    let mut random = fastrand::Rng::with_seed(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let late = random.u64(0..100) < WITHOUT_ADDRESS;
    if late && random.bool() {
        return None;
    }
    let wait = if late { Duration::from_secs(random.u64(3_600..3 * 86_400)) } else { Duration::ZERO };
    let zone = (random.u64(0..100) >= WITHOUT_ZONE).then(|| ZONES[random.usize(0..ZONES.len())]);
    Some(NewContact {
        customer: customer.value.parse().ok()?,
        email: format!("{}@customer.invalid", customer.value).parse().ok()?,
        name: None,
        culture: CULTURES[random.usize(0..CULTURES.len())].parse().ok(),
        timezone: zone.and_then(|zone| zone.parse().ok()),
        consent: BTreeMap::new(),
        fields: BTreeMap::new(),
        origin: Origin::Import,
        at: met_at.checked_add(wait).unwrap_or(met_at),
    })
}

fn name(number: u64) -> String {
    format!("customer-{number}")
}
