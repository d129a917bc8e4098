//! The sender on a hand-wound clock; the store and the receiver are real.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::clock::ManualClock;
use crate::domain::ids::PushId;
use crate::domain::lane::{LaneRules, PerLane, UnknownPolicy};
use crate::domain::push::{Endpoint, Event, Outbound, SigningKey};
use crate::domain::quantity::{HumanDuration, Share};
use crate::domain::tenant::Tenant;
use crate::outgoing::settings::OutgoingSettings;
use crate::store::sqlite::{OpenOptions, Role, SqliteStore};
use crate::store::{EndpointCounts, NewPush, PushState, PushStore as _, PushView};

/// Real time that nothing here takes.
const LIMIT: Duration = Duration::from_secs(20);
const REFUSED: &str = "500 No\r\n";

/// The store, a sender, and one receiver that answers as it is told: status and further header lines.
struct House {
    _dir: TempDir,
    store: Arc<SqliteStore>,
    clock: ManualClock,
    soft: CancellationToken,
    sending: JoinHandle<()>,
    receiving: JoinHandle<()>,
    bodies: Arc<Mutex<Vec<String>>>,
}

fn endpoint() -> Endpoint {
    "demo/crm".parse().unwrap()
}

fn start_of_time() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn rules(at: SocketAddr) -> Rules {
    let outbound = Outbound {
        name: endpoint().endpoint,
        url: format!("http://{at}/").parse().unwrap(),
        keys: vec![SigningKey::new(SecretString::from("a secret").into()).unwrap()],
        events: vec!["*".to_owned()],
    };
    let tenant = Tenant { outbound: vec![outbound], ..Tenant::plain(endpoint().tenant.as_str()) };
    let lane = |_| LaneRules {
        deliver_within: HumanDuration::from_secs(600),
        retry: None,
        reserved: Share::NONE,
        on_unknown: UnknownPolicy::Hold,
    };
    let tenants = BTreeMap::from([(tenant.id.clone(), tenant)]);
    Rules {
        tenants,
        lanes: PerLane::from_fn(lane),
        retry: Vec::new(),
        journeys: BTreeMap::new(),
        reads_relay_logs: false,
    }
}

/// What a receiver answers to the nth request, counted from 0, with this body.
type How = dyn Fn(usize, &str) -> &'static str + Send + Sync;

/// A receiver that answers what `how` says.
#[expect(clippy::disallowed_methods, reason = "a listener of the test's own")]
fn receive(listener: TcpListener, bodies: Arc<Mutex<Vec<String>>>, how: Arc<How>) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A connection that says nothing keeps no other waiting.
            tokio::spawn(answer(stream, Arc::clone(&bodies), Arc::clone(&how)));
        }
    })
}

async fn answer(mut stream: TcpStream, bodies: Arc<Mutex<Vec<String>>>, how: Arc<How>) {
    let mut asked = Vec::new();
    // Bodies of these tests end with a semicolon, and no header field has one.
    while !asked.ends_with(b";") {
        let Ok(byte) = stream.read_u8().await else { return };
        asked.push(byte);
    }
    let body = String::from_utf8(asked).unwrap().split("\r\n\r\n").nth(1).unwrap().to_owned();
    let number = {
        let mut bodies = bodies.lock().unwrap_or_else(PoisonError::into_inner);
        bodies.push(body.clone());
        bodies.len() - 1
    };
    let answer = how(number, &body);
    let answer = format!("HTTP/1.1 {answer}Content-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.unwrap();
}

impl House {
    /// A receiver that answers the nth request with this, and these pushes in the outbox: subjects and bodies.
    #[expect(clippy::disallowed_methods, reason = "the test's own task, awaited at its end")]
    async fn with(pushes: &[(&str, &str)], how: impl Fn(usize, &str) -> &'static str + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("postern.db");
        let store = Arc::new(SqliteStore::open(OpenOptions { path, role: Role::Gateway }).unwrap());
        let clock = ManualClock::at(start_of_time());
        let next = store.configure_endpoints(vec![endpoint()]).await.unwrap();
        let new = |(subject, body): &(&str, &str)| {
            let (subject, body) = ((*subject).to_owned(), (*body).to_owned());
            (
                u64::MAX,
                NewPush {
                    endpoint: endpoint(),
                    event: Event { name: "wallet.changed", subject, at: clock.now(), body },
                },
            )
        };
        store.keep_pushes((next, next + 1), pushes.iter().map(new).collect(), clock.now()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (_rules, watched) = watch::channel(Arc::new(rules(listener.local_addr().unwrap())));
        let bodies = Arc::default();
        let receiving = receive(listener, Arc::clone(&bodies), Arc::new(how));
        let push = Push::new(Parts {
            store: store.clone(),
            clock: Arc::new(clock.clone()),
            rules: watched,
            client: Client::new(&OutgoingSettings::default()).unwrap(),
            settings: PushSettings::default(),
        });
        let soft = CancellationToken::new();
        let sending = tokio::spawn(push.send(soft.clone(), CancellationToken::new()));
        Self { _dir: dir, store, clock, soft, sending, receiving, bodies }
    }

    fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn counts(&self) -> EndpointCounts {
        self.store.push_endpoints().await.unwrap().remove(0)
    }

    /// The first push that waits, whenever it is due.
    async fn first(&self) -> PushId {
        self.store.due_pushes(&endpoint(), Timestamp::MAX, 1).await.unwrap()[0].id
    }

    /// Waits, while the clock stands still, until a push is as wanted.
    async fn until(&self, id: PushId, wanted: impl Fn(&PushView) -> bool) -> PushView {
        let look = async {
            loop {
                let push = self.store.push(id).await.unwrap().unwrap();
                if wanted(&push) {
                    return push;
                }
                tokio::task::yield_now().await;
            }
        };
        let Ok(push) = tokio::time::timeout(LIMIT, look).await else {
            panic!("at {}: {:?}, asked {:?}", self.clock.now(), self.store.push(id).await, self.bodies());
        };
        push
    }

    /// Winds the clock, step by step, until the outbox is as wanted.
    async fn wind(&self, step: Duration, wanted: impl Fn(&EndpointCounts, &[String]) -> bool) {
        let look = async {
            while !wanted(&self.counts().await, &self.bodies()) {
                self.clock.advance(step);
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, look).await.unwrap();
    }

    async fn stop(self) {
        self.soft.cancel();
        self.sending.await.unwrap();
        self.receiving.abort();
        self.store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_is_tried_for_three_days_as_the_table_says_and_then_a_dead_letter() {
    let house = House::with(&[("a", "1;")], |_, _| REFUSED).await;
    let id = house.first().await;
    let table = PushSettings::default().retry;
    for (index, delay) in table.iter().enumerate() {
        let attempts = u32::try_from(index).unwrap() + 1;
        let push = house.until(id, |push| push.attempts == attempts).await;
        let wait = Duration::try_from(push.due_at.unwrap().duration_since(house.clock.now())).unwrap();
        assert!((delay.0.mul_f64(0.79)..=delay.0.mul_f64(1.21)).contains(&wait), "{attempts}: {wait:?}");
        // Not before: the receiver hears of it only when it is due.
        house.clock.advance(wait.saturating_sub(Duration::from_millis(1)));
        assert_eq!(house.bodies().len(), index + 1);
        house.clock.advance(Duration::from_millis(1));
    }
    let dead = house.until(id, |push| push.state == PushState::Dead).await;
    assert_eq!((dead.attempts, dead.failure.as_deref()), (10, Some("500")));
    assert_eq!(house.bodies(), ["1;"; 10]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_asks_for_time_gets_it_up_to_a_bound() {
    for (answer, seconds) in [
        ("503 No\r\nRetry-After: 90\r\n", 90),
        ("429 No\r\nRetry-After: 999999\r\n", 3_600),
        ("500 No\r\nRetry-After: 90\r\n", 90),
        ("429 No\r\nRetry-After: Thu, 01 Jan 2026 00:02:00 GMT\r\n", 120),
    ] {
        let house = House::with(&[("a", "1;"), ("b", "2;")], move |_, _| answer).await;
        let push = house.until(house.first().await, |push| push.attempts == 1).await;
        let wait = push.due_at.unwrap().duration_since(start_of_time());
        assert_eq!(wait.as_secs(), seconds, "{answer}");
        house.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_about_one_thing_keep_their_order_over_retries_and_others_pass() {
    let pushes = [("a", "1;"), ("a", "2;"), ("b", "3;"), ("a", "4;")];
    let house =
        House::with(&pushes, |number, body| if body == "1;" && number < 2 { REFUSED } else { "204 Yes\r\n" }).await;
    house.wind(Duration::from_millis(100), |counts, _| counts.pending == 0).await;
    let bodies = house.bodies();
    assert_eq!(bodies.iter().filter(|body| *body != "3;").collect::<Vec<_>>(), ["1;", "1;", "2;", "4;"]);
    let (other, second) = ("3;".to_owned(), "2;".to_owned());
    let place = |body| bodies.iter().position(|seen| seen == body).unwrap();
    assert!(place(&other) < place(&second), "{bodies:?}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_fails_again_and_again_is_tried_with_one_push_and_what_waits_spends_nothing() {
    let names: Vec<(String, String)> = (0..50).map(|n| (format!("s{n}"), format!("{n};"))).collect();
    let pushes: Vec<(&str, &str)> = names.iter().map(|(subject, body)| (subject.as_str(), body.as_str())).collect();
    let house = House::with(&pushes, |number, _| if number < 12 { REFUSED } else { "200 Yes\r\n" }).await;
    house.wind(Duration::from_millis(10), |_, bodies| bodies.len() >= 8).await;
    // Four at once at first; then one for each pause of 1 s, 2 s, 4 s …
    let passed = house.clock.now().duration_since(start_of_time());
    assert!(passed.as_secs() >= 3, "eight attempts in {passed:#}");
    house.wind(Duration::from_secs(1), |counts, _| counts.pending == 0).await;
    assert_eq!(house.counts().await.dead, 0);
    assert_eq!(house.bodies().len(), 62, "each was refused once, or not at all");
    house.stop().await;
}
