//! A fresh store for each test, mails to put into it, and short ways to ask what became of them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use postern::domain::audit::Actor;
use postern::domain::ids::{KeyId, LeaseToken, MessageId, RelayName, TenantId};
use postern::domain::lane::{Lane, PerLane};
use postern::domain::message::{
    Acceptance, Candidate, Entry, Idempotency, MessageView, NewMessage, Outcome, Reason, Receipt, Settled, Settlement,
    Verdict,
};
use postern::domain::reply::Reply;
use postern::store::sqlite::{OpenOptions, Role, SqliteStore};
use postern::store::{ClaimRequest, CommitPoint, Store};
use uuid::Uuid;

/// One kind of database.
pub(crate) struct Database {
    /// Opens the store that belongs to this folder.
    pub(crate) open: fn(&Path) -> Arc<dyn Store>,
}

/// Every database that Postern can stand on.
pub(crate) const DATABASES: &[Database] = &[Database { open: open_sqlite }];

fn open_sqlite(folder: &Path) -> Arc<dyn Store> {
    let path = folder.join("store.db");
    Arc::new(SqliteStore::open(OpenOptions { path, role: Role::Gateway }).unwrap())
}

/// A store and the folder it lives in.
pub(crate) struct Home {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) folder: tempfile::TempDir,
    database: &'static Database,
}

impl Home {
    pub(crate) fn new(database: &'static Database) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { store: (database.open)(folder.path()), folder, database }
    }

    /// Ends the store with whatever it had begun, as a dying process does, and opens it again.
    pub(crate) async fn crash(&mut self) {
        self.store.close().await;
        self.store = (self.database.open)(self.folder.path());
    }
}

/// The beginning of time in these tests, plus so many seconds.
pub(crate) fn at(seconds: i64) -> Timestamp {
    "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_secs(seconds)
}

pub(crate) fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

pub(crate) fn relay(name: &str) -> RelayName {
    name.parse().unwrap()
}

pub(crate) fn token(number: u8) -> LeaseToken {
    LeaseToken::from_random([number; 16])
}

pub(crate) fn new_id() -> MessageId {
    MessageId::from_uuid(Uuid::now_v7())
}

/// A mail of the tenant `demo`, accepted and due at 0 s, to be delivered within 1,000 s.
pub(crate) fn mail(recipient: &str) -> NewMessage {
    let id = new_id();
    NewMessage {
        sent_by: None,
        id,
        tenant: tenant("demo"),
        actor: Actor::Key(KeyId::from_uuid(Uuid::from_u128(7))),
        lane: Lane::Standard,
        recipient: recipient.parse().unwrap(),
        envelope_sender: "wallet@demo.example".parse().unwrap(),
        template: Some("welcome".to_owned()),
        subject: "Your card, Ann".to_owned(),
        tags: vec!["summer".to_owned()],
        metadata: [("order".to_owned(), "17".to_owned())].into(),
        message_id: format!("<{}@demo.example>", id.hex()),
        accepted_at: at(0),
        due_at: at(0),
        deliver_by: at(1_000),
        mime: format!("Subject: hello\r\n\r\nHello {recipient}\r\n").into_bytes(),
        mime_sha256: [9; 32],
        entry: Entry::Queued,
        idempotency: None,
        fact: None,
        unless: None,
        recipient_limit: None,
    }
}

/// The key of a submission whose fingerprint is `fingerprint`; forgotten at 500 s.
pub(crate) fn idempotency(key: &str, fingerprint: u8) -> Idempotency {
    Idempotency { key: key.to_owned(), fingerprint: [fingerprint; 32], expires_at: at(500) }
}

pub(crate) async fn accept(store: &dyn Store, message: NewMessage) -> Receipt {
    match store.accept(message).await.unwrap() {
        Acceptance::Accepted(receipt) => receipt,
        other => panic!("not accepted: {other:?}"),
    }
}

/// Accepts a mail to `recipient`; its identifier.
pub(crate) async fn queued(store: &dyn Store, recipient: &str) -> MessageId {
    accept(store, mail(recipient)).await.id
}

pub(crate) fn claim(now: i64, domains: &[(&str, usize)]) -> ClaimRequest {
    ClaimRequest {
        lane: Lane::Standard,
        tenant: tenant("demo"),
        now: at(now),
        domains: domains.iter().map(|(domain, limit)| ((*domain).to_owned(), *limit)).collect(),
    }
}

pub(crate) fn ids(candidates: &[Candidate]) -> Vec<MessageId> {
    candidates.iter().map(|candidate| candidate.id).collect()
}

pub(crate) async fn commit(store: &dyn Store, id: MessageId, number: u8, now: i64) -> Verdict {
    let commit = CommitPoint { id, token: token(number), relay: relay("primary"), at: at(now) };
    store.commit_point(commit).await.unwrap()
}

/// Settles the attempt with this token; 0 stands for none.
pub(crate) async fn settle(store: &dyn Store, id: MessageId, number: u8, now: i64, outcome: Outcome) -> Settled {
    let token = (number > 0).then(|| token(number));
    let settlement = Settlement { id, token, relay: Some(relay("primary")), at: at(now), outcome };
    store.settle(settlement).await.unwrap()
}

pub(crate) fn relayed() -> Outcome {
    Outcome::Relayed { reply: Reply::new(250, "2.0.0 Ok: queued as 4F2A for ann@example.com".to_owned()) }
}

pub(crate) fn deferred(next_at: i64) -> Outcome {
    let reply = Some(Reply::new(450, "4.2.1 busy".to_owned()));
    Outcome::Deferred { reason: Reason::RelayRefused, reply, next_at: at(next_at) }
}

pub(crate) fn unknown(decide_at: i64) -> Outcome {
    Outcome::Unknown { reason: Reason::ReplyLost, decide_at: at(decide_at) }
}

/// A message whose one attempt ended unknown, to be decided at `decide_at`.
pub(crate) async fn with_unknown(store: &dyn Store, message: NewMessage, decide_at: i64) -> MessageId {
    let id = accept(store, message).await.id;
    assert_eq!(commit(store, id, 1, 1).await, Verdict::Go);
    assert_eq!(settle(store, id, 1, 2, unknown(decide_at)).await, Settled::Applied);
    id
}

pub(crate) async fn view(store: &dyn Store, id: MessageId) -> MessageView {
    store.message(&tenant("demo"), id).await.unwrap().unwrap()
}

pub(crate) async fn leaves(store: &dyn Store, id: MessageId) -> Vec<serde_json::Value> {
    let leaves = store.leaves(&tenant("demo"), id).await.unwrap().unwrap();
    leaves.iter().map(|leaf| serde_json::from_slice(&leaf.bytes).unwrap()).collect()
}

/// The kinds of a message's leaves, oldest first.
pub(crate) async fn kinds(store: &dyn Store, id: MessageId) -> Vec<String> {
    leaves(store, id).await.iter().map(|leaf| leaf["kind"].as_str().unwrap().to_owned()).collect()
}

pub(crate) fn per_lane<T: Copy>(value: T) -> PerLane<T> {
    PerLane::from_fn(|_| value)
}

pub(crate) const MINUTE: Duration = Duration::from_mins(1);
