//! Mails that end when their customer's wallets stand in a certain way, and signed events that nobody knows.

use std::collections::BTreeMap;

use postern::domain::audit::Actor;
use postern::domain::ids::EventId;
use postern::domain::message::{NewMessage, Reason, Settled, Status, Verdict};
use postern::domain::pass_event::{EventKind, NewPassEvent, PassEvent, RegistrationCounts, Source, Wallet, Way};
use postern::domain::unless::Unless;
use postern::store::{Bodies, NewUnknown, Pushed, RecordRules, Store, UnknownEvent, UnknownKept, UnknownLimits};
use uuid::Uuid;

use crate::harness::*;

fn reminder(recipient: &str, words: &str, customer: Option<&str>) -> NewMessage {
    let unless = Unless::read(words, customer.map(str::to_owned));
    assert!(unless.is_some(), "{words}");
    NewMessage { unless, ..mail(recipient) }
}

/// Records one event of a pass with these identifiers.
async fn record_for(store: &dyn Store, of: &str, pass: &str, kind: EventKind, wallet: Wallet, names: &[(&str, &str)]) {
    let rules = RecordRules {
        journeys: Vec::new(),
        identifiers: ["customerId", "email"].map(str::to_owned).to_vec(),
        reinstall_settle: MINUTE,
        history_max: 500,
        passes_max: 100,
        time_ahead_max: MINUTE,
        pushed: Pushed::No,
    };
    let identifiers: BTreeMap<_, _> =
        names.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let event = PassEvent {
        kind,
        wallet,
        pass: Some(pass.to_owned()),
        pass_type: None,
        identifiers,
        counts: RegistrationCounts::default(),
        source: Source::default(),
        occurred_at: None,
        since: None,
        key: None,
        way: Way::Hook,
    };
    let new = NewPassEvent { id: EventId::from_uuid(Uuid::now_v7()), received_at: at(1), event };
    store.record(&tenant(of), Actor::Webhook, vec![new], rules).await.unwrap();
}

async fn install(store: &dyn Store, pass: &str, wallet: Wallet, names: &[(&str, &str)]) {
    record_for(store, "demo", pass, EventKind::Installed, wallet, names).await;
}

/// What becomes of a reminder at its commit point.
async fn verdict(store: &dyn Store, message: NewMessage) -> (Verdict, Status, Option<Reason>) {
    let id = accept(store, message).await.id;
    let verdict = commit(store, id, 1, 2).await;
    let view = view(store, id).await;
    (verdict, view.status, view.reason)
}

const ENDED: (Verdict, Status, Option<Reason>) = (Verdict::Stop, Status::Cancelled, Some(Reason::WalletStatus));
const GOES: (Verdict, Status, Option<Reason>) = (Verdict::Go, Status::Queued, None);

on_every_database! {
    async fn a_mail_ends_at_its_commit_point_when_its_customer_has_the_pass_by_then(home) {
        let store = &*home.store;
        let id = accept(store, reminder("ann@example.com", "apple google both", Some("C-1"))).await.id;
        let claimed = store.claim(claim(0, &[("example.com", 9)])).await.unwrap();
        assert_eq!(ids(&claimed), [id], "it is on its way");
        install(store, "P1", Wallet::Apple, &[("customerId", "C-1")]).await;
        assert_eq!(commit(store, id, 1, 2).await, Verdict::Stop);
        let view = view(store, id).await;
        assert_eq!((view.status, view.reason), (Status::Cancelled, Some(Reason::WalletStatus)));
        assert_eq!((view.may_have_been_sent, view.attempts, view.ended_at), (false, 0, Some(at(2))));
        let leaves = leaves(store, id).await;
        let last = leaves.last().unwrap();
        assert_eq!(
            (&last["kind"], &last["reason"], &last["walletStatus"], &last["actor"]),
            (&"cancelled".into(), &"wallet-status".into(), &"apple".into(), &"gateway".into())
        );
        assert!(!serde_json::to_string(last).unwrap().contains("C-1"));
        store.give_back(&[id]);
        assert!(store.claim(claim(3, &[("example.com", 9)])).await.unwrap().is_empty());
        assert_eq!(commit(store, id, 2, 3).await, Verdict::Stop);
        assert_eq!(settle(store, id, 1, 3, relayed()).await, Settled::Stale);
        assert_eq!(store.sweep(at(2_000), 9).await.unwrap().expired, 0);
    }

    async fn only_the_states_that_are_listed_end_a_mail_and_the_unknown_have_none(home) {
        let store = &*home.store;
        install(store, "P1", Wallet::Apple, &[("customerId", "C-1")]).await;
        for (words, customer, expected) in [
            ("apple google both", Some("C-1"), ENDED),
            ("apple", Some("C-1"), ENDED),
            ("google both", Some("C-1"), GOES),
            ("none", Some("C-1"), GOES),
            ("apple google both", Some("C-2"), GOES),
            ("none", Some("C-2"), ENDED),
            ("apple google both", None, GOES),
            ("apple google both", Some("P1"), GOES),
        ] {
            assert_eq!(verdict(store, reminder("ann@example.com", words, customer)).await, expected, "{words} {customer:?}");
        }
        assert_eq!(verdict(store, mail("ann@example.com")).await, GOES);
        record_for(store, "demo", "P1", EventKind::Uninstalled, Wallet::Apple, &[]).await;
        assert_eq!(verdict(store, reminder("ann@example.com", "apple google both", Some("C-1"))).await, GOES);
        record_for(store, "other", "P9", EventKind::Installed, Wallet::Apple, &[("customerId", "C-1")]).await;
        assert_eq!(verdict(store, reminder("ann@example.com", "apple", Some("C-1"))).await, GOES, "another tenant's");
    }

    async fn without_a_customer_the_recipients_address_finds_one_however_they_are_known(home) {
        let store = &*home.store;
        let of = |recipient: &str| reminder(recipient, "apple google both", None);
        let both = |recipient: &str| reminder(recipient, "both", None);
        install(store, "P1", Wallet::Apple, &[("email", "ann@example.com")]).await;
        assert_eq!(verdict(store, of("Ann <ANN@Example.com>")).await, ENDED, "known by it");
        install(store, "P2", Wallet::Google, &[("customerId", "C-2"), ("email", "bob@example.com")]).await;
        assert_eq!(verdict(store, of("bob@example.com")).await, ENDED, "known by something else");
        assert_eq!(verdict(store, both("ann@example.com")).await, GOES);
        install(store, "P3", Wallet::Google, &[("customerId", "C-3"), ("mail", "ann@example.com")]).await;
        assert_eq!(verdict(store, both("ann@example.com")).await, ENDED, "all who have it, together");
        // A pass whose owner has another address now.
        install(store, "P2", Wallet::Apple, &[("email", "rob@example.com")]).await;
        assert_eq!(verdict(store, of("bob@example.com")).await, GOES);
        assert_eq!(verdict(store, of("rob@example.com")).await, ENDED);
    }

    async fn a_mail_that_may_have_been_sent_says_so_when_its_condition_ends_it(home) {
        let store = &*home.store;
        let id = with_unknown(store, reminder("ann@example.com", "apple", Some("C-1")), 10).await;
        let policy = per_lane(postern::domain::lane::UnknownPolicy::ResendOnce);
        assert_eq!(store.decide_unknown(at(10), policy, 9).await.unwrap().resent, 1);
        install(store, "P1", Wallet::Apple, &[("customerId", "C-1")]).await;
        assert_eq!(commit(store, id, 2, 11).await, Verdict::Stop);
        let view = view(store, id).await;
        assert_eq!((view.status, view.may_have_been_sent), (Status::Cancelled, true));
    }

    async fn why_names_the_condition_and_how_it_stands(home) {
        let store = &*home.store;
        let id = accept(store, reminder("ann@example.com", "apple both", Some("C-1"))).await.id;
        let condition = async |id| store.stored(&tenant("demo"), id).await.unwrap().unwrap().condition;
        assert_eq!(condition(id).await.unwrap().status.as_str(), "none");
        install(store, "P1", Wallet::Apple, &[("customerId", "C-1")]).await;
        let stands = condition(id).await.unwrap();
        assert_eq!((stands.unless.words().as_str(), stands.status.as_str()), ("apple both", "apple"));
        commit(store, id, 1, 2).await;
        assert_eq!(condition(id).await, None);
        assert_eq!(condition(queued(store, "ann@example.com").await).await, None);
    }

    async fn events_nobody_knows_are_kept_once_and_the_oldest_make_room(home) {
        let store = &*home.store;
        let limits = UnknownLimits { events_max: 3, bytes_max: 100 };
        let new = |name: &str, bytes: usize| {
            let digest = std::array::from_fn(|n| name.as_bytes().get(n).copied().unwrap_or_default());
            let event = UnknownEvent { name: Some(name.to_owned()), keys: vec!["k".to_owned()], digest, body: "x".repeat(bytes) };
            NewUnknown { id: EventId::from_uuid(Uuid::now_v7()), received_at: at(1), event }
        };
        let keep = async |of: &str, events: Vec<NewUnknown>| store.keep_unknown(&tenant(of), events, limits).await.unwrap();
        let names = async |of: &str| {
            let all = store.unknown_events(&tenant(of), Bodies::Hidden).await.unwrap();
            all.into_iter().map(|view| view.name.unwrap()).collect::<Vec<_>>()
        };
        let first = new("a", 10);
        let id = first.id;
        assert_eq!(keep("demo", vec![first, new("a", 10), new("b", 10)]).await[..2], [UnknownKept::New(id), UnknownKept::Known(id)]);
        assert_eq!(keep("other", vec![new("a", 10)]).await.len(), 1, "a tenant's repeats are its own");
        assert_eq!(keep("demo", vec![new("c", 10), new("d", 10)]).await.len(), 2);
        assert_eq!(names("demo").await, ["d", "c", "b"]);
        assert_eq!(names("other").await, ["a"]);
        keep("demo", vec![new("e", 85)]).await;
        assert_eq!(names("demo").await, ["e", "d"], "100 bytes are enough for both");
        keep("demo", vec![new("f", 101)]).await;
        let shown = store.unknown_events(&tenant("demo"), Bodies::Shown).await.unwrap();
        let bodies: Vec<_> = shown.iter().map(|view| (view.bytes, view.body.as_ref().map(String::len))).collect();
        assert_eq!(bodies, [(101, None), (85, Some(85)), (10, Some(10))], "too long alone: kept without its body");
        assert!(store.unknown_events(&tenant("demo"), Bodies::Hidden).await.unwrap().iter().all(|view| view.body.is_none()));
        home.crash().await;
        let all = home.store.unknown_events(&tenant("demo"), Bodies::Hidden).await.unwrap();
        assert_eq!(all.len(), 3);
    }
}
