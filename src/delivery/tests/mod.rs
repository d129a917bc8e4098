//! Delivery on a hand-wound clock and a courier that does as it is told; the store is the real one.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

mod desk;
mod domains;
mod relays;
mod settling;
mod shaping;
mod window;

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::control::{Plan, Subject};
use super::*;
use crate::clock::ManualClock;
use crate::courier::settings::RelaySettings;
use crate::courier::{
    Carried, CourierError, Envelope, NotOffered, Offered, RefusedCommand, Stage, Trouble, TroubleKind,
};
use crate::domain::audit::Actor;
use crate::domain::ids::{MessageId, RelayName};
use crate::domain::lane::{Lane, UnknownPolicy};
use crate::domain::message::{Entry, MessageView, NewMessage, Reason, Status};
use crate::domain::quantity::{HumanDuration, Share};
use crate::domain::reply::Reply;
use crate::domain::shaping::Binding;
use crate::store::sqlite::{OpenOptions, Role, SqliteStore};

/// What the relay does with the next mail; at the end of the script it takes everything.
enum Next {
    /// Takes it.
    Take,
    /// Answers this command with this.
    Refuse(RefusedCommand, u16, &'static str),
    /// Takes RCPT after so much time has passed.
    Late(Duration),
    /// Answers DATA after so much time has passed.
    LateData(Duration),
    /// Answers the final dot with this.
    DotSays(u16),
    /// Never answers RCPT.
    Hang,
    /// Cannot be reached.
    Down,
    /// Refuses our credentials.
    NoEntry,
    /// Drops the connection at RCPT.
    LostAtRcpt,
    /// Drops the connection in the content.
    LostInContent,
    /// Drops the connection after the final dot.
    LostAtDot,
    /// A defect of ours in the middle of the content.
    PanicInContent,
    /// A defect of ours before anything was sent.
    PanicInOffer,
}

#[derive(Default)]
struct Told {
    script: VecDeque<Next>,
    offered: usize,
    carried: usize,
    withdrawn: usize,
    greeted: usize,
    /// Relays that cannot be reached.
    down: BTreeSet<&'static str>,
    /// Whether every relay refuses our credentials.
    no_entry: bool,
    /// A recipient over whom the relay drops its connection.
    poison: Option<&'static str>,
    /// Recipients over whose content every relay drops its connection begin like this.
    drops_content: Option<&'static str>,
    /// Relay and recipient of every offer.
    at: Vec<(String, String)>,
}

fn lost(stage: Stage) -> Trouble {
    Trouble { stage, kind: TroubleKind::Closed(std::io::ErrorKind::ConnectionReset) }
}

fn no_entry() -> Trouble {
    Trouble { stage: Stage::Auth, kind: TroubleKind::Refused(535) }
}

#[derive(Clone)]
struct ToldCourier {
    told: Arc<Mutex<Told>>,
    changed: Arc<Notify>,
    clock: ManualClock,
}

impl ToldCourier {
    fn with<T>(&self, look: impl FnOnce(&mut Told) -> T) -> T {
        let looked = look(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_waiters();
        looked
    }
}

#[async_trait]
impl Courier for ToldCourier {
    async fn greet(&self, relay: &RelayName) -> Result<(), Trouble> {
        self.with(|told| {
            told.greeted += 1;
            match () {
                () if told.no_entry => Err(no_entry()),
                () if told.down.contains(relay.as_str()) => Err(lost(Stage::Connect)),
                () => Ok(()),
            }
        })
    }

    async fn offer(&self, relay: &RelayName, envelope: &Envelope) -> Result<Box<dyn Offered>, NotOffered> {
        let next = self.with(|told| {
            told.offered += 1;
            told.at.push((relay.to_string(), envelope.recipient.to_string()));
            match () {
                () if told.no_entry => Next::NoEntry,
                () if told.down.contains(relay.as_str()) => Next::Down,
                () if told.drops_content.is_some_and(|begin| envelope.recipient.as_str().starts_with(begin)) => {
                    Next::LostInContent
                }
                () if told.poison == Some(envelope.recipient.as_str()) => Next::LostAtRcpt,
                () => told.script.pop_front().unwrap_or(Next::Take),
            }
        });
        match &next {
            Next::Take
            | Next::PanicInContent
            | Next::LateData(_)
            | Next::DotSays(_)
            | Next::LostInContent
            | Next::LostAtDot => {}
            Next::NoEntry => return Err(NotOffered::Unreachable(no_entry())),
            Next::LostAtRcpt => return Err(NotOffered::Lost(lost(Stage::Envelope))),
            Next::Refuse(command, code, text) => {
                return Err(NotOffered::Refused { command: *command, reply: Reply::new(*code, (*text).to_owned()) });
            }
            Next::Late(by) => self.clock.advance(*by),
            Next::Hang => std::future::pending().await,
            Next::Down => {
                return Err(NotOffered::Unreachable(lost(Stage::Connect)));
            }
            Next::PanicInOffer => panic!("as told"),
        }
        Ok(Box::new(ToldOffer { courier: self.clone(), next }))
    }

    fn take_over(&self, _relays: Vec<RelaySettings>) -> Result<(), CourierError> {
        Ok(())
    }

    async fn close(&self) {}
}

struct ToldOffer {
    courier: ToldCourier,
    next: Next,
}

#[async_trait]
impl Offered for ToldOffer {
    async fn carry(self: Box<Self>, _mime: Vec<u8>, in_time: &(dyn Fn() -> bool + Send + Sync)) -> Carried {
        assert!(!matches!(self.next, Next::PanicInContent), "as told");
        if let Next::LateData(by) = self.next {
            self.courier.clock.advance(by);
        }
        if !in_time() {
            return Carried::TooLate;
        }
        match self.next {
            Next::LostInContent => return Carried::Lost(lost(Stage::Data)),
            Next::LostAtDot => return Carried::Unknown(lost(Stage::Data)),
            _ => {}
        }
        self.courier.with(|told| told.carried += 1);
        let code = if let Next::DotSays(code) = self.next { code } else { 250 };
        Carried::Answered(Reply::new(code, "2.0.0 Ok: queued as 4F2A".to_owned()))
    }

    async fn withdraw(self: Box<Self>) {
        self.courier.with(|told| told.withdrawn += 1);
    }
}

struct House {
    _dir: TempDir,
    store: Arc<SqliteStore>,
    courier: ToldCourier,
    clock: ManualClock,
    wake: Arc<Notify>,
    soft: CancellationToken,
    control: Control,
    running: JoinHandle<()>,
}

/// How a house differs from the plainest one.
#[derive(Clone)]
struct Built {
    /// Name and rate of the relays, the tenant's order.
    relays: Vec<(&'static str, Option<&'static str>)>,
    domain_rates: DomainRates,
    on_unknown: UnknownPolicy,
    reserved: Share,
}

impl Default for Built {
    fn default() -> Self {
        let (domain_rates, on_unknown) = (DomainRates::default(), UnknownPolicy::Hold);
        Self { relays: vec![("primary", None)], domain_rates, on_unknown, reserved: Share::NONE }
    }
}

impl Built {
    fn lanes(&self) -> PerLane<LaneRules> {
        PerLane::from_fn(|lane| LaneRules {
            deliver_within: HumanDuration::from_secs(600),
            retry: None,
            reserved: if lane == Lane::Urgent { self.reserved } else { Share::NONE },
            on_unknown: self.on_unknown,
        })
    }

    fn tenants(&self) -> BTreeMap<TenantId, Tenant> {
        let relays = || self.relays.iter().map(|(name, _)| name.parse().unwrap()).collect();
        let tenant = |id: &str| Tenant { relays: relays(), ..Tenant::plain(id) };
        ["demo", "other"].map(tenant).into_iter().map(|tenant| (tenant.id.clone(), tenant)).collect()
    }
}

fn subject(id: MessageId, lane: Lane) -> Subject {
    Subject { id, tenant: "demo".parse().unwrap(), lane, domain: "customer.example".into() }
}

fn start_of_time() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

impl House {
    fn with(script: impl IntoIterator<Item = Next>) -> Self {
        Self::built(&Built::default(), script)
    }

    #[expect(clippy::disallowed_methods, reason = "the test's own task, awaited at its end")]
    fn built(built: &Built, script: impl IntoIterator<Item = Next>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("postern.db");
        let store = Arc::new(SqliteStore::open(OpenOptions { path, role: Role::Gateway }).unwrap());
        let clock = ManualClock::at(start_of_time());
        let told = Told { script: script.into_iter().collect(), ..Told::default() };
        let courier =
            ToldCourier { told: Arc::new(Mutex::new(told)), changed: Arc::new(Notify::new()), clock: clock.clone() };
        let (wake, soft) = (Arc::new(Notify::new()), CancellationToken::new());
        let relay = |(name, rate): &(&str, Option<&str>)| RelayPlan {
            name: name.parse().unwrap(),
            sessions: 4,
            rate: rate.map(|rate| rate.parse().unwrap()),
        };
        let delivery = Delivery::new(Parts {
            store: store.clone(),
            courier: Arc::new(courier.clone()),
            clock: Arc::new(clock.clone()),
            settings: DeliverySettings::default(),
            lanes: built.lanes(),
            domain_rates: built.domain_rates.clone(),
            logs: Vec::new(),
            relays: built.relays.iter().map(relay).collect(),
            tenants: built.tenants(),
            wake: wake.clone(),
            random: fastrand::Rng::with_seed(7),
        });
        let control = delivery.control();
        let running = tokio::spawn(delivery.run(soft.clone(), CancellationToken::new()));
        Self { _dir: dir, store, courier, clock, wake, soft, control, running }
    }

    async fn accept(&self) -> MessageId {
        self.accept_for(self.clock.now()).await
    }

    async fn accept_for(&self, due_at: Timestamp) -> MessageId {
        self.accept_as("demo", Lane::Standard, "ann@customer.example", due_at).await
    }

    async fn accept_as(&self, tenant: &str, lane: Lane, recipient: &str, due_at: Timestamp) -> MessageId {
        let id = MessageId::from_uuid(Uuid::now_v7());
        let now = self.clock.now();
        let message = NewMessage {
            sent_by: None,
            id,
            tenant: tenant.parse().unwrap(),
            actor: Actor::Gateway,
            lane,
            recipient: recipient.parse().unwrap(),
            envelope_sender: "wallet@demo.example".parse().unwrap(),
            template: None,
            subject: "S".into(),
            tags: Vec::new(),
            metadata: BTreeMap::new(),
            message_id: format!("<{}@demo.example>", id.hex()),
            accepted_at: now,
            due_at,
            deliver_by: now.checked_add(Duration::from_mins(10)).unwrap(),
            mime: b"Subject: S\r\n\r\nB\r\n".to_vec(),
            mime_sha256: [0; 32],
            entry: Entry::Queued,
            idempotency: None,
            fact: None,
            unless: None,
            recipient_limit: None,
        };
        self.store.accept(message).await.unwrap();
        self.wake.notify_one();
        id
    }

    async fn message(&self, id: MessageId) -> MessageView {
        self.store.message(&"demo".parse().unwrap(), id).await.unwrap().unwrap()
    }

    /// Waits until the message is as wanted. The clock creeps meanwhile, as time does: a look that saw it jump would
    /// otherwise wait for a moment that never comes.
    async fn until(&self, id: MessageId, wanted: impl Fn(&MessageView) -> bool) -> MessageView {
        let look = async {
            loop {
                let message = self.message(id).await;
                if wanted(&message) {
                    return message;
                }
                self.clock.advance(Duration::from_millis(1));
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), look).await.unwrap()
    }

    async fn until_courier(&self, wanted: impl Fn(&Told) -> bool) {
        let look = async {
            while !self.courier.with(|told| wanted(told)) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), look).await.unwrap();
    }

    async fn stop(self) {
        self.soft.cancel();
        self.running.await.unwrap();
        self.store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_whose_deadline_passes_while_the_relay_thinks_is_withdrawn_and_expired() {
    let stage = House::with([Next::Late(Duration::from_mins(11))]);
    let id = stage.accept().await;
    let message = stage.until(id, |message| message.status == Status::Expired).await;
    assert!(!message.may_have_been_sent);
    stage.until_courier(|told| told.withdrawn == 1).await;
    assert_eq!(stage.courier.with(|told| (told.offered, told.withdrawn, told.carried)), (1, 1, 0));
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deferred_mail_is_tried_again_when_due_and_not_before() {
    let stage = House::with([Next::Refuse(RefusedCommand::Rcpt, 450, "4.2.0 later")]);
    let id = stage.accept().await;
    let deferred = stage.until(id, |message| message.status == Status::Deferred).await;
    let wait = Duration::try_from(deferred.next_attempt_at.unwrap().duration_since(start_of_time())).unwrap();
    assert!((Duration::from_secs(24)..=Duration::from_secs(36)).contains(&wait), "30 s ± 20 %: {wait:?}");
    stage.clock.advance(wait.checked_sub(Duration::from_secs(15)).unwrap());
    let other = stage.accept().await;
    stage.until(other, |message| message.status == Status::Relayed).await;
    assert_eq!(stage.message(id).await.attempts, 1, "the queue was looked at, and it was not due");
    stage.clock.advance(Duration::from_secs(16));
    assert_eq!(stage.until(id, |message| message.status == Status::Relayed).await.attempts, 2);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_waits_for_the_relay_is_given_back_unspent_at_a_stop() {
    let stage = House::with([Next::Hang]);
    let id = stage.accept().await;
    stage.until_courier(|told| told.offered == 1).await;
    stage.soft.cancel();
    let House { running, store, .. } = stage;
    tokio::time::timeout(Duration::from_secs(20), running).await.unwrap().unwrap();
    let message = store.message(&"demo".parse().unwrap(), id).await.unwrap().unwrap();
    assert_eq!((message.status, message.attempts), (Status::Queued, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_panics_sets_its_message_aside_and_the_others_go_on() {
    let stage = House::with([Next::PanicInOffer, Next::PanicInContent]);
    let before = stage.accept().await;
    let held = stage.until(before, |message| message.status == Status::Held).await;
    assert_eq!((held.reason, held.may_have_been_sent), (Some(Reason::Fault), false));
    let within = stage.accept().await;
    let unknown = stage.until(within, |message| message.status == Status::Unknown).await;
    assert_eq!((unknown.reason, unknown.may_have_been_sent), (Some(Reason::Fault), true));
    let other = stage.accept().await;
    stage.until(other, |message| message.status == Status::Relayed).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_wanted_after_the_deadline_is_not_sent() {
    let stage = House::with([Next::LateData(Duration::from_mins(11))]);
    let id = stage.accept().await;
    let message = stage.until(id, |message| message.status == Status::Expired).await;
    assert_eq!((message.may_have_been_sent, stage.courier.with(|told| told.carried)), (false, 0));
    stage.stop().await;
}
