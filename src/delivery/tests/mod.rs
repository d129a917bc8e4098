//! Delivery on a hand-wound clock and a courier that does as it is told; the store is the real one.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

mod desk;
mod domains;
mod window;

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::under_way::SETTLING_MAX;
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
    async fn greet(&self, _relay: &RelayName) -> Result<(), Trouble> {
        self.with(|told| told.greeted += 1);
        Ok(())
    }

    async fn offer(&self, _relay: &RelayName, _envelope: &Envelope) -> Result<Box<dyn Offered>, NotOffered> {
        let next = self.with(|told| {
            told.offered += 1;
            told.script.pop_front().unwrap_or(Next::Take)
        });
        match &next {
            Next::Take | Next::PanicInContent | Next::LateData(_) | Next::DotSays(_) => {}
            Next::Refuse(command, code, text) => {
                return Err(NotOffered::Refused { command: *command, reply: Reply::new(*code, (*text).to_owned()) });
            }
            Next::Late(by) => self.clock.advance(*by),
            Next::Hang => std::future::pending().await,
            Next::Down => {
                let kind = TroubleKind::Closed(std::io::ErrorKind::ConnectionRefused);
                return Err(NotOffered::Unreachable(Trouble { stage: Stage::Connect, kind }));
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
    running: JoinHandle<()>,
}

fn start_of_time() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn lanes() -> PerLane<LaneRules> {
    PerLane::from_fn(|_| LaneRules {
        deliver_within: HumanDuration::from_secs(600),
        retry: None,
        reserved: Share::NONE,
        on_unknown: UnknownPolicy::Hold,
    })
}

impl House {
    #[expect(clippy::disallowed_methods, reason = "the test's own task, awaited at its end")]
    fn with(script: impl IntoIterator<Item = Next>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("postern.db");
        let store = Arc::new(SqliteStore::open(OpenOptions { path, role: Role::Gateway }).unwrap());
        let clock = ManualClock::at(start_of_time());
        let told = Told { script: script.into_iter().collect(), ..Told::default() };
        let courier =
            ToldCourier { told: Arc::new(Mutex::new(told)), changed: Arc::new(Notify::new()), clock: clock.clone() };
        let (wake, soft) = (Arc::new(Notify::new()), CancellationToken::new());
        let tenant = Tenant {
            id: "demo".parse().unwrap(),
            name: "Demo".into(),
            from: "wallet@demo.example".parse().unwrap(),
            from_allowed: Vec::new(),
            relays: vec!["primary".parse().unwrap()],
            default_culture: "en".into(),
            recipients_allowed: Vec::new(),
            lanes: Vec::new(),
            data_kept: Vec::new(),
        };
        let delivery = Delivery::new(Parts {
            store: store.clone(),
            courier: Arc::new(courier.clone()),
            clock: Arc::new(clock.clone()),
            settings: DeliverySettings::default(),
            lanes: lanes(),
            domain_rates: DomainRates::default(),
            relays: vec![RelayPlan { name: "primary".parse().unwrap(), sessions: 4, rate: None }],
            tenants: [(tenant.id.clone(), tenant)].into(),
            wake: wake.clone(),
            random: fastrand::Rng::with_seed(7),
        });
        let running = tokio::spawn(delivery.run(soft.clone(), CancellationToken::new()));
        Self { _dir: dir, store, courier, clock, wake, soft, running }
    }

    async fn accept(&self) -> MessageId {
        self.accept_for(self.clock.now()).await
    }

    async fn accept_for(&self, due_at: Timestamp) -> MessageId {
        let id = MessageId::from_uuid(Uuid::now_v7());
        let now = self.clock.now();
        let message = NewMessage {
            id,
            tenant: "demo".parse().unwrap(),
            actor: Actor::Gateway,
            lane: Lane::Standard,
            recipient: "ann@customer.example".parse().unwrap(),
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
async fn a_relay_that_cannot_be_reached_costs_no_attempts() {
    let stage = House::with([Next::Down, Next::Down, Next::Down]);
    let id = stage.accept().await;
    stage.until_courier(|told| told.offered == 3).await;
    // Three failures opened the breaker: it looks again after half a second at most.
    stage.clock.advance(Duration::from_secs(1));
    assert_eq!(stage.until(id, |message| message.status == Status::Relayed).await.attempts, 1);
    stage.stop().await;
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

/// A house with so many mails that are due now, all refused at RCPT, while the store's writer is kept busy.
async fn refused_while_the_store_stalls(mails: usize) -> (House, Vec<MessageId>, std::sync::mpsc::Sender<()>) {
    let house = House::with((0..mails).map(|_| Next::Refuse(RefusedCommand::Rcpt, 550, "5.1.1 no")));
    let due_at = house.clock.now().checked_add(Duration::from_secs(10)).unwrap();
    let ids = futures_util::future::join_all((0..mails).map(|_| house.accept_for(due_at))).await;
    let stalled = house.store.stall();
    house.clock.advance(Duration::from_secs(10));
    (house, ids, stalled)
}

impl House {
    /// Lets time pass, in steps, until the courier was offered so many mails or `steps` have passed.
    async fn offered(&self, mails: usize, steps: u32) -> usize {
        for _ in 0..steps {
            if self.courier.with(|told| told.offered >= mails) {
                break;
            }
            self.clock.advance(Duration::from_millis(1));
            // Answered by a thread of the store: what was asked before it had its turn.
            self.store.keys().await.unwrap();
        }
        self.courier.with(|told| told.offered)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_serves_the_next_mail_while_the_last_ones_outcome_is_written() {
    let (house, ids, stalled) = refused_while_the_store_stalls(20).await;
    assert_eq!(house.offered(20, 100_000).await, 20, "of four sessions");
    drop(stalled);
    for id in ids {
        assert_eq!(house.until(id, |message| message.status == Status::Bounced).await.attempts, 1);
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_started_while_too_many_outcomes_wait_to_be_written() {
    let (house, ids, stalled) = refused_while_the_store_stalls(SETTLING_MAX + 100).await;
    house.offered(SETTLING_MAX, 100_000).await;
    // Three sessions are one domain's: what they were offered when the last outcome came.
    let offered = house.offered(ids.len(), 2_000).await;
    assert!((SETTLING_MAX..SETTLING_MAX + 3).contains(&offered), "{offered}");
    drop(stalled);
    for id in ids {
        assert_eq!(house.until(id, |message| message.status == Status::Bounced).await.attempts, 1);
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_refuses_us_ends_no_mail() {
    let stage = House::with([Next::Refuse(RefusedCommand::Mail, 530, "5.7.0 Authentication required")]);
    let id = stage.accept().await;
    assert_eq!(stage.until(id, |message| message.status == Status::Relayed).await.attempts, 1);
    stage.stop().await;
}

#[tokio::test]
async fn what_a_relay_says_of_itself_at_rcpt_is_spent_like_any_other_refusal() {
    for (code, text) in
        [(454, "4.7.1 Relay access denied"), (421, "4.7.0 too many"), (530, "5.7.0 Authentication required")]
    {
        let stage = House::with([Next::Refuse(RefusedCommand::Rcpt, code, text)]);
        let id = stage.accept().await;
        let deferred = stage.until(id, |message| message.status == Status::Deferred).await;
        assert_eq!((deferred.attempts, deferred.reason), (1, Some(Reason::RelayRefused)), "{code}");
        stage.stop().await;
    }
}

#[tokio::test]
async fn a_recipient_that_is_always_refused_as_relaying_does_not_stop_the_others() {
    let refuse = || Next::Refuse(RefusedCommand::Rcpt, 454, "4.7.1 Relay access denied");
    let stage = House::with((0..5).map(|_| refuse()));
    for _ in 0..5 {
        let id = stage.accept().await;
        stage.until(id, |message| message.status == Status::Deferred).await;
    }
    let other = stage.accept().await;
    stage.until(other, |message| message.status == Status::Relayed).await;
    // An open breaker greets before it lets a mail pass.
    assert_eq!(stage.courier.with(|told| told.greeted), 0, "no breaker was open");
    stage.stop().await;
}

#[tokio::test]
async fn a_relay_that_closes_at_mail_costs_no_attempts() {
    let closing = || Next::Refuse(RefusedCommand::Mail, 421, "4.3.2 shutting down");
    let stage = House::with([closing(), closing(), closing()]);
    let id = stage.accept().await;
    stage.until_courier(|told| told.offered == 3).await;
    assert_eq!(stage.message(id).await.attempts, 0);
    stage.clock.advance(Duration::from_secs(1));
    assert_eq!(stage.until(id, |message| message.status == Status::Relayed).await.attempts, 1);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_the_dot_that_is_neither_yes_nor_no_is_unknown() {
    let stage = House::with([Next::DotSays(354), Next::DotSays(200)]);
    let unclear = stage.accept().await;
    assert!(stage.until(unclear, |message| message.status == Status::Unknown).await.may_have_been_sent);
    let yes = stage.accept().await;
    stage.until(yes, |message| message.status == Status::Relayed).await;
    stage.stop().await;
}
