//! Look-ups against a real listener that answers what a test says.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use secrecy::SecretString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::domain::contact::NewContact;
use crate::domain::contact_lookup::{LookupUrl, Pointers};
use crate::domain::lane::{LaneRules, PerLane, UnknownPolicy};
use crate::domain::quantity::{HumanDuration, Share};
use crate::domain::secret::Secret;
use crate::domain::tenant::Tenant;
use crate::outgoing::settings::OutgoingSettings;
use crate::store::sqlite::{OpenOptions, Role, SqliteStore};

const NOT_THERE: &str = "404 Not Found\r\n\r\n";
const BROKEN: &str = "500 Oops\r\n\r\n";
/// Nothing is answered until the caller hangs up.
const SILENCE: &str = "";

/// What the CRM says of somebody.
fn person(email: &str) -> String {
    let body =
        format!(r#"{{"data":[{{"mail":"{email}"}}],"name":"Ann","lang":"fr_CA","zone":"Europe/Paris","vip":true}}"#);
    format!("200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A CRM: each question gets the next answer; what was asked is kept.
struct Crm {
    at: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    answers: Mutex<VecDeque<String>>,
    asked: Mutex<Vec<String>>,
    came: Notify,
    /// When set, no question is answered before this is notified for it.
    gate: Option<Notify>,
}

impl Drop for Crm {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Crm {
    async fn start() -> Self {
        Self::with(State::default()).await
    }

    #[expect(clippy::disallowed_methods, reason = "a listener of the test's own")]
    async fn with(state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, state) = (listener.local_addr().unwrap(), Arc::new(state));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    state.asked.lock().unwrap().push(String::from_utf8(head).unwrap());
                    state.came.notify_one();
                    if let Some(gate) = &state.gate {
                        gate.notified().await;
                    }
                    let answer = state.answers.lock().unwrap().pop_front().unwrap();
                    if answer == SILENCE {
                        _ = stream.read_u8().await;
                        return;
                    }
                    let answer = answer.replacen("\r\n", "\r\nConnection: close\r\n", 1);
                    // The caller may have hung up already.
                    _ = stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await;
                });
            }
        });
        Self { at, state, task }
    }

    fn answers(&self, answers: &[&str]) {
        self.state.answers.lock().unwrap().extend(answers.iter().map(ToString::to_string));
    }

    /// What was asked since the last look.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.asked.lock().unwrap())
    }

    fn lookup(&self) -> ContactLookup {
        ContactLookup {
            url: LookupUrl::parse(&format!("http://{}/c/{{customerId}}", self.at)).unwrap(),
            header: Some(("X-Key".to_owned(), Secret::from(SecretString::from("s3cret")))),
            pointers: Pointers {
                email: "/data/0/mail".to_owned(),
                name: Some("/name".to_owned()),
                culture: Some("/lang".to_owned()),
                timezone: Some("/zone".to_owned()),
            },
            timeout: Duration::from_secs(10),
            retries: 0,
            cache_for: Duration::from_secs(100),
            not_found_for: Duration::from_secs(10),
            breaker_failures: 2,
            breaker_open: Duration::from_secs(30),
            concurrent: 8,
            remembered_max: 100,
            answer_max: 1_000,
        }
    }
}

/// A store and the contacts in it.
struct Home {
    contacts: Contacts,
    store: Arc<dyn Store>,
    clock: ManualClock,
    _rules: watch::Sender<Arc<Rules>>,
    _folder: tempfile::TempDir,
}

impl Home {
    fn new(lookup: ContactLookup) -> Self {
        Self::with(lookup, None)
    }

    /// With the real clock, for what pauses between two tries.
    fn with(lookup: ContactLookup, real: Option<SystemClock>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(OpenOptions { path, role: Role::Gateway }).unwrap());
        let clock = ManualClock::at("2026-03-01T00:00:00Z".parse().unwrap());
        let own: Arc<dyn Clock> = match real {
            Some(real) => Arc::new(real),
            None => Arc::new(clock.clone()),
        };
        let rules = watch::Sender::new(Arc::new(rules(lookup)));
        let client = Client::new(&OutgoingSettings::default()).unwrap();
        let contacts = Contacts::new(Arc::clone(&store), own, rules.subscribe(), client);
        Self { contacts, store, clock, _rules: rules, _folder: folder }
    }

    async fn find(&self, customer: &str) -> Found {
        self.contacts.find(&tenant(), &customer.parse().unwrap()).await.unwrap()
    }

    /// The address that is found.
    async fn address(&self, customer: &str) -> Option<String> {
        match self.find(customer).await {
            Found::Contact(contact) => Some(contact.email.as_str().to_owned()),
            Found::Nobody | Found::Unavailable => None,
        }
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

fn tenant() -> TenantId {
    "demo".parse().unwrap()
}

fn rules(lookup: ContactLookup) -> Rules {
    let demo = Tenant { contact_lookup: Some(lookup), ..Tenant::plain(tenant().as_str()) };
    let lanes = PerLane::from_fn(|_| LaneRules {
        deliver_within: HumanDuration::from_secs(1),
        retry: None,
        reserved: Share::NONE,
        on_unknown: UnknownPolicy::Hold,
    });
    Rules {
        tenants: [(tenant(), demo)].into(),
        lanes,
        retry: Vec::new(),
        journeys: BTreeMap::new(),
        reads_relay_logs: false,
    }
}

#[tokio::test]
async fn one_who_is_not_known_is_asked_for_and_kept_until_that_is_old() {
    let crm = Crm::start().await;
    let home = Home::new(crm.lookup());
    crm.answers(&[&person("ann@customer.example"), &person("anna@customer.example")]);
    let Found::Contact(contact) = home.find("a/b c").await else { panic!("not found") };
    assert_eq!((contact.email.as_str(), contact.origin), ("ann@customer.example", Origin::Lookup));
    assert_eq!((contact.name.as_deref(), contact.culture.unwrap().as_str()), (Some("Ann"), "fr-CA"));
    assert_eq!(contact.timezone.unwrap().as_str(), "Europe/Paris");
    let asked = crm.asked();
    let head = asked[0].to_lowercase();
    assert!(head.starts_with("get /c/a%2fb%20c http/1.1\r\n") && head.contains("\r\nx-key: s3cret\r\n"), "{head}");

    home.pass(99);
    assert_eq!(home.address("a/b c").await.as_deref(), Some("ann@customer.example"));
    assert_eq!(crm.asked().len(), 0);
    home.pass(1);
    assert_eq!(home.address("a/b c").await.as_deref(), Some("anna@customer.example"));
    home.pass(99);
    assert_eq!(home.address("a/b c").await.as_deref(), Some("anna@customer.example"));
    assert_eq!(crm.asked().len(), 1, "what was confirmed is fresh again");
}

#[tokio::test]
async fn what_the_brand_said_itself_is_never_asked_about() {
    let crm = Crm::start().await;
    let home = Home::new(crm.lookup());
    let said = NewContact {
        customer: "C1".parse().unwrap(),
        email: "own@customer.example".parse().unwrap(),
        name: None,
        culture: None,
        timezone: None,
        consent: BTreeMap::new(),
        fields: BTreeMap::new(),
        origin: Origin::Import,
        at: home.clock.now(),
    };
    home.store.set_contacts(&tenant(), Actor::Gateway, vec![said]).await.unwrap();
    home.pass(1_000_000);
    assert_eq!(home.address("C1").await.as_deref(), Some("own@customer.example"));
    assert_eq!(crm.asked().len(), 0);
}

#[tokio::test]
async fn whom_the_crm_does_not_know_is_remembered_for_a_while_and_a_copy_goes_with_its_original() {
    let crm = Crm::start().await;
    let home = Home::new(ContactLookup { remembered_max: 1, ..crm.lookup() });
    crm.answers(&[NOT_THERE, NOT_THERE, "410 Gone\r\n\r\n", &person("ann@customer.example"), NOT_THERE]);
    assert_eq!(home.find("C1").await, Found::Nobody);
    assert_eq!(home.find("C1").await, Found::Nobody);
    assert_eq!(crm.asked().len(), 1);
    // There is room for one: of the second nothing is remembered.
    assert_eq!(home.find("C2").await, Found::Nobody);
    assert_eq!(home.find("C2").await, Found::Nobody);
    assert_eq!(crm.asked().len(), 2);
    home.pass(10);
    assert_eq!(home.address("C1").await.as_deref(), Some("ann@customer.example"));
    home.pass(100);
    assert_eq!(home.find("C1").await, Found::Nobody);
    assert_eq!(home.store.contact(&tenant(), &"C1".parse().unwrap()).await.unwrap(), None);
    assert_eq!(home.find("..").await, Found::Nobody);
    assert_eq!(crm.asked().len(), 2, "a name that no path can hold is not asked for");
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_may_not_is_not() {
    let crm = Crm::start().await;
    let lookup = ContactLookup { retries: 2, timeout: Duration::from_secs(1), breaker_failures: 100, ..crm.lookup() };
    let home = Home::with(lookup, Some(SystemClock));
    let answer = |text: &str| format!("200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    let ann = person("ann@customer.example");
    let slow = "200 OK\r\nContent-Length: 99\r\n\r\n{".to_owned();
    for (number, (answers, tries, is_found)) in [
        (vec![BROKEN.to_owned(), ann.clone()], 2, true),
        (vec![SILENCE.to_owned(), "429 Slow\r\n\r\n".to_owned(), ann.clone()], 3, true),
        (vec![BROKEN.to_owned(); 3], 3, false),
        (vec![slow, "503 No\r\n\r\n".to_owned(), ann.clone()], 3, true),
        (vec!["401 No\r\n\r\n".to_owned()], 1, false),
        (vec!["302 Go\r\nLocation: /elsewhere\r\n\r\n".to_owned()], 1, false),
        (vec![answer("<html>")], 1, false),
        (vec![answer(r#"{"data":[{"mail":"ann"}]}"#)], 1, false),
        (vec![answer(r#"{"data":[{"mail":17}]}"#)], 1, false),
        (vec![answer(&format!(r#"{{"data":[{{"mail":"a@b.example"}}],"x":"{}"}}"#, "x".repeat(1_000)))], 1, false),
    ]
    .into_iter()
    .enumerate()
    {
        let told = format!("{answers:?}");
        crm.answers(&answers.iter().map(String::as_str).collect::<Vec<_>>());
        let found = home.find(&format!("C{number}")).await;
        assert_eq!(matches!(found, Found::Contact(_)), is_found, "{told}");
        assert!(is_found || found == Found::Unavailable, "{told}: {found:?}");
        assert_eq!(crm.asked().len(), tries, "{told}");
    }
}

#[tokio::test]
async fn one_without_an_address_is_nobody_and_one_whose_answer_is_of_no_use_is_no_reason_to_leave_the_others_alone() {
    let crm = Crm::start().await;
    let home = Home::new(crm.lookup());
    let answer = |text: &str| format!("200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    for (number, text) in
        [r#"{"data":[{"mail":null}]}"#, r#"{"data":[{"mail":" "}]}"#, r#"{"data":[]}"#].iter().enumerate()
    {
        crm.answers(&[&answer(text)]);
        for _ in 0..2 {
            assert_eq!(home.find(&format!("C{number}")).await, Found::Nobody, "{text}");
        }
        assert_eq!(crm.asked().len(), 1, "remembered: {text}");
    }
    let large = format!(r#"{{"data":[{{"mail":"a@b.example"}}],"x":"{}"}}"#, "x".repeat(1_000));
    for (number, text) in
        ["<html>", r#"{"data":[{"mail":"zq"}]}"#, r#"{"data":[{"mail":{}}]}"#, &large].iter().enumerate()
    {
        crm.answers(&[&answer(text)]);
        assert_eq!(home.find(&format!("D{number}")).await, Found::Unavailable, "{text}");
    }
    crm.answers(&[&person("ann@customer.example")]);
    assert_eq!(home.address("E1").await.as_deref(), Some("ann@customer.example"), "the breaker is closed");
    crm.asked();
    assert_eq!(home.find(&"\u{20ac}".repeat(250)).await, Found::Unavailable, "too long to be asked for");
    assert_eq!(crm.asked().len(), 0);
}

#[tokio::test]
async fn a_crm_that_does_not_answer_is_left_alone_and_then_tried_by_one() {
    let crm = Crm::start().await;
    let home = Home::new(crm.lookup());
    crm.answers(&[&person("ann@customer.example"), BROKEN, BROKEN]);
    assert!(home.address("known").await.is_some());
    home.pass(100);
    // What is old is better than nothing.
    assert_eq!(home.address("known").await.as_deref(), Some("ann@customer.example"));
    assert_eq!(home.find("C1").await, Found::Unavailable);
    assert_eq!(crm.asked().len(), 3);
    home.pass(29);
    assert_eq!(home.find("C1").await, Found::Unavailable);
    assert_eq!(home.address("known").await.as_deref(), Some("ann@customer.example"));
    assert_eq!(crm.asked().len(), 0, "the breaker is open");

    home.pass(1);
    crm.answers(&[BROKEN]);
    assert_eq!(home.find("C1").await, Found::Unavailable);
    assert_eq!(home.find("C2").await, Found::Unavailable);
    assert_eq!(crm.asked().len(), 1, "one tries it");
    home.pass(30);
    crm.answers(&[NOT_THERE, &person("bob@customer.example")]);
    assert_eq!(home.find("C1").await, Found::Nobody);
    assert_eq!(home.address("C2").await.as_deref(), Some("bob@customer.example"));
    assert_eq!(crm.asked().len(), 2, "closed again");
}

#[tokio::test]
async fn no_more_questions_are_under_way_at_once_than_there_are_places() {
    let crm = Crm::with(State { gate: Some(Notify::new()), ..State::default() }).await;
    let home = Home::new(ContactLookup { concurrent: 1, ..crm.lookup() });
    crm.answers(&[NOT_THERE, NOT_THERE, NOT_THERE]);
    let gate = crm.state.gate.as_ref().unwrap();
    let let_through = async {
        for _ in 0..3 {
            crm.state.came.notified().await;
            // Whoever else could ask now would have done so meanwhile.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert_eq!(crm.asked().len(), 1);
            gate.notify_one();
        }
    };
    tokio::join!(home.find("C1"), home.find("C2"), home.find("C3"), let_through);
}

#[tokio::test]
async fn while_one_tries_a_crm_that_did_not_answer_all_others_wait() {
    let crm = Crm::with(State { gate: Some(Notify::new()), ..State::default() }).await;
    let home = Home::new(ContactLookup { breaker_failures: 1, ..crm.lookup() });
    let gate = crm.state.gate.as_ref().unwrap();
    crm.answers(&[BROKEN, NOT_THERE]);
    gate.notify_one();
    assert_eq!(home.find("C0").await, Found::Unavailable);
    crm.state.came.notified().await;
    home.pass(30);
    let meanwhile = async {
        crm.state.came.notified().await;
        let other = home.find("C2").await;
        gate.notify_one();
        other
    };
    let (first, other) = tokio::join!(home.find("C1"), meanwhile);
    assert_eq!((first, other), (Found::Nobody, Found::Unavailable));
    assert_eq!(crm.asked().len(), 2, "before and after the breaker opened");
}
