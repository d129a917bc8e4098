//! The watchman over a real store, by a clock that is wound by hand.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tempfile::TempDir;

use super::settings::AlarmSettings;
use super::*;
use crate::clock::ManualClock;
use crate::domain::audit::Actor;
use crate::domain::ids::EventId;
use crate::domain::pass_event::{EventKind, NewPassEvent, PassEvent, RegistrationCounts, Source, Wallet, Way};
use crate::domain::push::{ALARM_CLOSED, ALARM_OPENED, Outbound};
use crate::store::sqlite::{OpenOptions, Role, SqliteStore};
use crate::store::{Pushed, RecordRules, Settling};

const HOUR: Duration = Duration::from_hours(1);

/// A store and what a watchman remembers of it; its tenant is `demo`.
struct Home {
    folder: TempDir,
    clock: ManualClock,
    store: Arc<dyn Store>,
    memory: Memory,
    tenant: Tenant,
    passes: u32,
}

fn open(folder: &TempDir) -> Arc<dyn Store> {
    let path = folder.path().join("store.db");
    Arc::new(SqliteStore::open(OpenOptions { path, role: Role::Gateway }).unwrap())
}

fn demo() -> TenantId {
    "demo".parse().unwrap()
}

impl Home {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let start: Timestamp = "2026-01-05T00:00:00Z".parse().unwrap();
        let (clock, store) = (ManualClock::at(start), open(&folder));
        Self { folder, clock, store, memory: Memory::default(), tenant: Tenant::plain("demo"), passes: 0 }
    }

    /// Everything ends, and begins again with what is on disk.
    async fn restart(&mut self) {
        self.store.close().await;
        self.store = open(&self.folder);
        self.memory = Memory::default();
    }

    async fn record(&mut self, kind: EventKind, passes: std::ops::Range<u32>, way: Way) {
        let event = |pass: u32| PassEvent {
            kind,
            wallet: Wallet::Apple,
            pass: Some(format!("P{pass}")),
            pass_type: None,
            identifiers: [("customerId".to_owned(), format!("C{pass}"))].into(),
            counts: RegistrationCounts::default(),
            source: Source::default(),
            occurred_at: None,
            since: None,
            key: None,
            way,
        };
        let received_at = self.clock.now();
        let new = |event| NewPassEvent { id: EventId::from_uuid(Uuid::now_v7()), received_at, event };
        let events = passes.map(event).map(new).collect();
        let rules = RecordRules {
            journeys: Vec::new(),
            identifiers: vec!["customerId".to_owned()],
            reinstall_settle: Duration::ZERO,
            history_max: 500,
            passes_max: 1_000,
            time_ahead_max: Duration::ZERO,
            pushed: Pushed::No,
        };
        self.store.record(&demo(), Actor::Gateway, events, rules).await.unwrap();
    }

    async fn install(&mut self, count: u32) {
        let passes = self.passes..self.passes + count;
        self.passes += count;
        self.record(EventKind::Installed, passes, Way::Hook).await;
    }

    /// So many hours in each of which so many passes are installed, and the watchman looks.
    async fn hours(&mut self, hours: u32, installs: u32) {
        for _ in 0..hours {
            self.install(installs).await;
            self.clock.advance(HOUR);
            self.look().await;
        }
    }

    /// One round; the kinds of the alarms that are open after it.
    async fn look(&mut self) -> Vec<AlarmKind> {
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let watchman = Watchman::new(Arc::clone(&self.store), clock, &AlarmSettings::default());
        watchman.round(&[(demo(), self.tenant.clone())].into(), &mut self.memory).await.unwrap();
        self.open().await.into_iter().map(|alarm| alarm.kind).collect()
    }

    async fn open(&self) -> Vec<Alarm> {
        self.store.open_alarms(Some(demo()), ALARMS_MAX).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn installs_that_stop_raise_one_alarm_that_outlives_a_restart_and_ends_with_the_next_install() {
    let mut home = Home::new();
    home.hours(3 * 24, 8).await;
    assert_eq!(home.look().await, [], "an hour without any is no silence");
    home.clock.advance(HOUR);
    assert_eq!(home.look().await, [AlarmKind::Silence]);
    let raised = home.open().await.remove(0);
    assert_eq!((raised.numbers.seen, raised.numbers.usual), (0, 16.0));
    home.restart().await;
    home.clock.advance(HOUR);
    assert_eq!(home.look().await, [AlarmKind::Silence]);
    assert_eq!(home.open().await.remove(0).id, raised.id, "not raised again");
    home.install(1).await;
    home.clock.advance(SETTLED_AFTER * 2);
    assert_eq!(home.look().await, []);
    home.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removals_that_jump_raise_an_alarm_that_ends_when_they_are_in_line_again() {
    let mut home = Home::new();
    home.hours(30, 4).await;
    home.record(EventKind::Uninstalled, 0..19, Way::Hook).await;
    home.clock.advance(SETTLED_AFTER * 2);
    assert_eq!(home.look().await, []);
    // Repeats are none.
    home.record(EventKind::Uninstalled, 0..19, Way::Hook).await;
    home.clock.advance(SETTLED_AFTER * 2);
    assert_eq!(home.look().await, []);
    home.record(EventKind::Uninstalled, 19..20, Way::Hook).await;
    assert_eq!(home.look().await, [], "what has just come in may be followed by what came in before");
    home.clock.advance(SETTLED_AFTER * 2);
    assert_eq!(home.look().await, [AlarmKind::Uninstalls]);
    assert_eq!(home.open().await.remove(0).numbers.seen, 20);
    home.hours(1, 4).await;
    assert_eq!(home.look().await, [AlarmKind::Uninstalls], "the last hour counts still");
    home.hours(1, 4).await;
    assert_eq!(home.look().await, []);
    home.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_backfill_mends_is_no_jump_and_no_sign_of_life() {
    let mut home = Home::new();
    home.hours(3 * 24, 8).await;
    home.record(EventKind::Uninstalled, 0..100, Way::Backfill).await;
    home.record(EventKind::Installed, 1_000..1_100, Way::Backfill).await;
    home.clock.advance(HOUR);
    home.clock.advance(SETTLED_AFTER);
    assert_eq!(home.look().await, [AlarmKind::Silence]);
    home.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_alarms_of_a_tenant_that_left_end() {
    let mut home = Home::new();
    home.hours(3 * 24, 8).await;
    home.clock.advance(2 * HOUR);
    assert_eq!(home.look().await, [AlarmKind::Silence]);
    let clock: Arc<dyn Clock> = Arc::new(home.clock.clone());
    let watchman = Watchman::new(Arc::clone(&home.store), clock, &AlarmSettings::default());
    watchman.round(&BTreeMap::new(), &mut home.memory).await.unwrap();
    assert_eq!(home.open().await, []);
    home.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_are_told_once_that_an_alarm_began_and_once_that_it_ended() {
    let mut home = Home::new();
    let crm = Endpoint { tenant: demo(), endpoint: "crm".parse().unwrap() };
    home.store.configure_endpoints(vec![crm.clone()]).await.unwrap();
    home.tenant.outbound = vec![Outbound {
        name: crm.endpoint.clone(),
        url: "http://127.0.0.1:9/".parse().unwrap(),
        keys: Vec::new(),
        events: vec!["alarm.*".to_owned()],
    }];
    home.hours(3 * 24, 8).await;
    home.clock.advance(HOUR);
    for _ in 0..2 {
        assert_eq!(home.look().await, [AlarmKind::Silence]);
    }
    home.install(1).await;
    home.clock.advance(SETTLED_AFTER * 2);
    for _ in 0..2 {
        assert_eq!(home.look().await, []);
    }
    // One of a subject is due at a time, in their order.
    for name in [ALARM_OPENED, ALARM_CLOSED] {
        let due = home.store.due_pushes(&crm, home.clock.now(), 10).await.unwrap();
        let body: serde_json::Value = serde_json::from_str(&due[0].body).unwrap();
        assert_eq!((due.len(), &body["type"], &body["data"]["kind"]), (1, &name.into(), &"silence".into()));
        home.store.settle_push(due[0].id, Settling::Delivered, home.clock.now()).await.unwrap();
    }
    assert_eq!(home.store.due_pushes(&crm, home.clock.now(), 10).await.unwrap(), []);
    home.store.close().await;
}
