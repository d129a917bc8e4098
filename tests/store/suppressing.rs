//! Suppressions: who is not to be mailed is not, at the door and at the last moment, and who says so by a link is heard.

use postern::domain::address::EmailAddress;
use postern::domain::audit::Actor;
use postern::domain::contact::{Erased, Erasing, Extent};
use postern::domain::ids::{EnrollmentId, JourneyName, MessageId};
use postern::domain::journey::enrollment::SentBy;
use postern::domain::message::{NewMessage, Outcome, Reason, Settled, Status, Verdict};
use postern::domain::suppression::link::UnsubscribeToken;
use postern::domain::suppression::{Change, LinkView, NewSuppression, Source, Suppression, SuppressionScope, Wish};
use postern::store::sqlite::Role;
use postern::store::{Erasure, Lift, Store, Suppressed, SuppressionFilter};
use rusqlite::Connection;
use serde_json::Value;

use crate::harness::*;
use crate::sqlite::open;

const ANN: &str = "Ann@customer.example";

fn address(text: &str) -> EmailAddress {
    text.parse().unwrap()
}

fn scope(text: &str) -> SuppressionScope {
    text.parse().unwrap()
}

fn journey(name: &str) -> JourneyName {
    name.parse().unwrap()
}

/// A mail that the journey `name` sends.
fn journey_mail(recipient: &str, name: &str) -> NewMessage {
    let enrollment = EnrollmentId::from_uuid(uuid::Uuid::now_v7());
    NewMessage { sent_by: Some(SentBy { journey: journey(name), enrollment }), ..mail(recipient) }
}

fn said(recipient: &str, what: &str) -> NewSuppression {
    let because = Some("asked at the till".parse().unwrap());
    let (recipient, scope, source) = (address(recipient), scope(what), Source::Operator);
    NewSuppression { recipient, scope, source, because, expires_at: None, at: at(1) }
}

async fn suppress(store: &dyn Store, recipient: &str, what: &str) -> Change {
    let actor = Actor::Command("suppressions");
    store.suppress(&tenant("demo"), actor, vec![said(recipient, what)]).await.unwrap().remove(0).change
}

async fn suppress_until(store: &dyn Store, recipient: &str, what: &str, end: i64) -> Suppressed {
    let new = NewSuppression { expires_at: Some(at(end)), ..said(recipient, what) };
    store.suppress(&tenant("demo"), Actor::Gateway, vec![new]).await.unwrap().remove(0)
}

async fn lift(store: &dyn Store, recipient: &str, what: Option<&str>) -> Vec<String> {
    let lift = Lift { recipient: address(recipient), scope: what.map(scope), because: None, at: at(2) };
    let lifted = store.lift(&tenant("demo"), Actor::Command("suppressions"), vec![lift]).await.unwrap();
    lifted.iter().map(|lifted| lifted.scope.to_string()).collect()
}

async fn listed(store: &dyn Store, filter: SuppressionFilter) -> Vec<Suppression> {
    let listed = store.suppressions(&tenant("demo"), filter).await.unwrap();
    listed.into_iter().map(|listed| listed.suppression).collect()
}

fn of(recipient: &str) -> SuppressionFilter {
    SuppressionFilter { recipient: Some(address(recipient)), limit: 9, ..SuppressionFilter::default() }
}

async fn scopes_of(store: &dyn Store, recipient: &str) -> Vec<String> {
    listed(store, of(recipient)).await.iter().map(|one| one.scope.to_string()).collect()
}

/// How a mail enters: what it is, and why.
async fn enters(store: &dyn Store, message: NewMessage) -> (Status, Option<Reason>) {
    let receipt = accept(store, message).await;
    let view = view(store, receipt.id).await;
    assert_eq!(view.status, receipt.status);
    (view.status, view.reason)
}

fn token_of(store: &dyn Store, name: Option<&str>, recipient: &str) -> UnsubscribeToken {
    store.unsubscribe_token(&tenant("demo"), name.map(journey).as_ref(), &address(recipient))
}

async fn follow(store: &dyn Store, token: UnsubscribeToken, wish: Wish) -> Option<LinkView> {
    store.follow_link(token, wish, at(5)).await.unwrap()
}

const SENT: (Status, Option<Reason>) = (Status::Queued, None);
const SUPPRESSED: (Status, Option<Reason>) = (Status::Suppressed, Some(Reason::Suppressed));
const UNSUBSCRIBED: (Status, Option<Reason>) = (Status::Suppressed, Some(Reason::Unsubscribed));

on_every_database! {
    async fn a_mail_is_judged_by_what_was_said_of_its_recipient_and_what_it_is(home) {
        let store = &*home.store;
        let none = || mail("ann@CUSTOMER.example");
        let (welcome, tips) = (|| journey_mail(ANN, "welcome"), || journey_mail(ANN, "tips"));
        for (what, of_none, of_welcome, of_tips) in [
            ("journey:welcome", SENT, SUPPRESSED, SENT),
            ("journeys", SENT, SUPPRESSED, SUPPRESSED),
            ("everything", SUPPRESSED, SUPPRESSED, SUPPRESSED),
        ] {
            assert_eq!(suppress(store, ANN, what).await, Change::Added);
            assert_eq!(enters(store, none()).await, of_none, "{what}");
            assert_eq!(enters(store, welcome()).await, of_welcome, "{what}");
            assert_eq!(enters(store, tips()).await, of_tips, "{what}");
            assert_eq!(enters(store, mail("bob@customer.example")).await, SENT, "another's");
            let others = NewMessage { tenant: tenant("other"), ..welcome() };
            assert_eq!(accept(store, others).await.status, Status::Queued, "another tenant's");
            assert_eq!(lift(store, ANN, None).await, [what]);
        }
        assert_eq!(enters(store, welcome()).await, SENT);
    }

    async fn a_suppressed_mail_takes_no_fact_and_counts_against_nobody(home) {
        use postern::domain::fact::Fact;
        use postern::domain::message::Acceptance;
        let store = &*home.store;
        suppress(store, ANN, "everything").await;
        let limited = || NewMessage { recipient_limit: Some("1/h".parse().unwrap()), ..mail(ANN) };
        let fact = || NewMessage {
            fact: Some(Fact { name: "welcome/P1".to_owned(), expires_at: None }),
            idempotency: Some(idempotency("k", 1)),
            ..limited()
        };
        let first = accept(store, fact()).await;
        assert_eq!(first.status, Status::Suppressed);
        assert_eq!(store.accept(fact()).await.unwrap(), Acceptance::Replayed(first.clone()), "the key remembers");
        assert_eq!(enters(store, limited()).await, SUPPRESSED, "refused it would only come again");
        lift(store, ANN, None).await;
        let again = accept(store, NewMessage { idempotency: None, recipient_limit: None, ..fact() }).await;
        assert_eq!(again.status, Status::Queued, "the fact was free");
        assert!(store.outgoing(first.id).await.unwrap().is_none(), "nothing of it waits to be sent");
    }

    async fn a_waiting_mail_ends_at_its_commit_point_when_its_recipient_is_suppressed_by_then(home) {
        let store = &*home.store;
        let sent = |message| async { accept(store, message).await.id };
        let (plain, welcome, tips) =
            (sent(mail(ANN)).await, sent(journey_mail(ANN, "welcome")).await, sent(journey_mail(ANN, "tips")).await);
        let retried = sent(journey_mail(ANN, "welcome")).await;
        assert_eq!(commit(store, retried, 9, 1).await, Verdict::Go);
        assert_eq!(settle(store, retried, 9, 2, deferred(3)).await, Settled::Applied);
        follow(store, token_of(store, Some("welcome"), ANN), Wish::AsLinked).await.unwrap();
        for (id, wanted) in [(plain, Verdict::Go), (welcome, Verdict::Stop), (tips, Verdict::Go), (retried, Verdict::Stop)] {
            assert_eq!(commit(store, id, 1, 6).await, wanted);
        }
        for (id, attempts) in [(welcome, 0), (retried, 1)] {
            let ended = view(store, id).await;
            assert_eq!((ended.status, ended.reason), UNSUBSCRIBED);
            assert_eq!((ended.attempts, ended.ended_at, ended.may_have_been_sent), (attempts, Some(at(6)), false));
            let last = leaves(store, id).await.pop().unwrap();
            assert_eq!((&last["kind"], &last["reason"]), (&"suppressed".into(), &"unsubscribed".into()), "{last}");
            assert_eq!(commit(store, id, 2, 7).await, Verdict::Stop);
        }
        // What may have gone out already is told as it is.
        assert_eq!(settle(store, plain, 1, 7, relayed()).await, Settled::Applied);
    }

    async fn a_mail_that_was_held_is_judged_when_it_goes_on(home) {
        let store = &*home.store;
        let id = accept(store, mail(ANN)).await.id;
        assert_eq!(settle(store, id, 0, 1, Outcome::Held { reason: Reason::Fault }).await, Settled::Applied);
        suppress(store, ANN, "everything").await;
        assert_eq!(store.stored(&tenant("demo"), id).await.unwrap().unwrap().suppressed, Some(Reason::Suppressed));
        lift(store, ANN, None).await;
        assert_eq!(store.stored(&tenant("demo"), id).await.unwrap().unwrap().suppressed, None);
    }

    async fn what_stands_is_not_said_twice_and_lasts(home) {
        let many = vec![said(ANN, "journeys"), said("bob@customer.example", "everything"), said("ann@customer.EXAMPLE", "journeys")];
        let changes = home.store.suppress(&tenant("demo"), Actor::Gateway, many).await.unwrap();
        let changes: Vec<Change> = changes.iter().map(|one| one.change).collect();
        assert_eq!(changes, [Change::Added, Change::Added, Change::Known]);
        home.crash().await;
        let store = &*home.store;
        assert_eq!(suppress(store, ANN, "journeys").await, Change::Known);
        assert_eq!(listed(store, of("ann@customer.example")).await, [Suppression {
            recipient: Some(ANN.to_owned()),
            scope: scope("journeys"),
            source: Source::Operator,
            because: Some("asked at the till".to_owned()),
            expires_at: None, added_at: at(1),
            added_by: "gateway".to_owned(),
        }]);
        assert_eq!(lift(store, ANN, Some("everything")).await, Vec::<String>::new());
        assert_eq!(lift(store, ANN, Some("journeys")).await, ["journeys"]);
        assert_eq!(lift(store, ANN, None).await, Vec::<String>::new());
    }

    async fn suppressions_are_listed_in_pages_that_miss_nobody(home) {
        let store = &*home.store;
        let what = |n: usize| if n.is_multiple_of(3) { "journeys" } else { "everything" };
        let many = (0..25).map(|n| said(&format!("c{n}@customer.example"), what(n))).collect();
        store.suppress(&tenant("demo"), Actor::Gateway, many).await.unwrap();
        for (wanted, count) in [(None, 25), (Some("journeys"), 9), (Some("journey:welcome"), 0)] {
            let (mut seen, mut before) = (Vec::new(), None);
            loop {
                let filter = SuppressionFilter { scope: wanted.map(scope), before, limit: 4, ..SuppressionFilter::default() };
                let page = store.suppressions(&tenant("demo"), filter).await.unwrap();
                seen.extend(page.iter().map(|one| one.suppression.recipient.clone().unwrap()));
                match page.last() {
                    Some(last) if page.len() == 4 => before = Some(last.number),
                    _ => break,
                }
            }
            let newest_first = (0..25).rev().filter(|n| wanted.is_none_or(|wanted| wanted == what(*n)));
            let newest_first: Vec<String> = newest_first.map(|n| format!("c{n}@customer.example")).collect();
            assert_eq!((seen.len(), &seen), (count, &newest_first));
        }
        let any = SuppressionFilter { limit: 9, ..SuppressionFilter::default() };
        assert!(store.suppressions(&tenant("other"), any).await.unwrap().is_empty());
    }

    async fn a_link_works_from_the_first_mail_that_carries_it_and_no_other_does(home) {
        let store = &*home.store;
        let welcome = token_of(store, Some("welcome"), ANN);
        assert_eq!(welcome, token_of(store, Some("welcome"), "ann@customer.example"), "a mailbox is one, however written");
        let others = [
            token_of(store, Some("tips"), ANN), token_of(store, None, ANN), token_of(store, Some("welcome"), "bob@customer.example"),
            store.unsubscribe_token(&tenant("other"), Some(&journey("welcome")), &address(ANN)),
        ];
        assert!(others.iter().all(|other| *other != welcome));
        assert_eq!(store.link(welcome).await.unwrap(), None);
        assert_eq!(follow(store, welcome, Wish::AsLinked).await, None);
        assert!(scopes_of(store, ANN).await.is_empty(), "nobody's link changes nothing");

        accept(store, journey_mail("Ann <ann@customer.example>", "welcome")).await;
        let asks = LinkView { tenant: tenant("demo"), scope: scope("journey:welcome"), stopped: None, said_here: false };
        assert_eq!(store.link(welcome).await.unwrap(), Some(asks.clone()));
        for other in others.into_iter().chain([UnsubscribeToken::NOBODYS]) {
            assert_eq!(store.link(other).await.unwrap(), None);
        }
        home.crash().await;
        let store = &*home.store;
        assert_eq!(store.link(welcome).await.unwrap(), Some(asks));
        assert_eq!(token_of(store, Some("welcome"), ANN), welcome, "the same at any time");
    }

    async fn who_follows_a_link_gets_what_they_want_as_often_as_they_ask(home) {
        let store = &*home.store;
        accept(store, journey_mail(ANN, "welcome")).await;
        let token = token_of(store, Some("welcome"), ANN);
        for _ in 0..2 {
            let view = follow(store, token, Wish::AsLinked).await.unwrap();
            assert_eq!((view.stopped, view.said_here), (Some(scope("journey:welcome")), true));
        }
        assert_eq!(enters(store, journey_mail(ANN, "welcome")).await, UNSUBSCRIBED);
        assert_eq!(enters(store, journey_mail(ANN, "tips")).await, SENT);
        assert_eq!(enters(store, mail(ANN)).await, SENT, "it is no journey's");
        let wider = follow(store, token, Wish::AllJourneys).await.unwrap();
        assert_eq!((wider.stopped, wider.said_here), (Some(scope("journeys")), true));
        assert_eq!(enters(store, journey_mail(ANN, "tips")).await, UNSUBSCRIBED);
        let shown = &listed(store, of(ANN)).await[0];
        assert_eq!((shown.recipient.as_deref(), shown.source, shown.added_by.as_str()), (Some(ANN), Source::Unsubscribed, "recipient"));

        // What somebody else said is not theirs to take back.
        suppress(store, ANN, "everything").await;
        let back = follow(store, token, Wish::TakeBack).await.unwrap();
        assert_eq!((back.stopped, back.said_here), (Some(scope("everything")), false));
        lift(store, ANN, None).await;
        assert_eq!(follow(store, token, Wish::TakeBack).await.unwrap().stopped, None);
        assert_eq!(enters(store, journey_mail(ANN, "welcome")).await, SENT);
    }

    async fn one_that_was_said_for_a_while_ends_by_itself_and_what_is_said_for_good_outlasts_it(home) {
        let store = &*home.store;
        let until = async |recipient: &str, seconds: Option<i64>| {
            let new = NewSuppression { expires_at: seconds.map(at), ..said(recipient, "everything") };
            store.suppress(&tenant("demo"), Actor::Gateway, vec![new]).await.unwrap().remove(0)
        };
        assert_eq!(until(ANN, Some(100)).await.change, Change::Added);
        assert_eq!(until(ANN, Some(50)).await.change, Change::Known, "shorter changes nothing");
        assert_eq!(until(ANN, Some(200)).await.suppression.expires_at, Some(at(200)), "longer does");
        assert_eq!(until("bob@customer.example", Some(100)).await.change, Change::Added);
        assert_eq!(until("bob@customer.example", None).await.change, Change::Added);
        assert_eq!(until("bob@customer.example", Some(900)).await.change, Change::Known);
        until("carl@customer.example", Some(200)).await;
        let erasure = Erasure {
            customer: "carl@customer.example".parse().unwrap(), extent: Extent::Person, at: at(9), by: Actor::Gateway.into(),
        };
        queued(store, "carl@customer.example").await;
        assert!(matches!(store.erase_contact(&tenant("demo"), erasure).await.unwrap(), Erasing::Done(_)));

        assert_eq!(store.sweep(at(199), 9).await.unwrap().forgotten, 0);
        assert_eq!(enters(store, mail(ANN)).await, SUPPRESSED);
        assert_eq!(store.sweep(at(200), 1).await.unwrap().forgotten, 1, "as many as were asked for");
        assert_eq!(store.sweep(at(200), 9).await.unwrap().forgotten, 1);
        assert_eq!(enters(store, mail(ANN)).await, SENT);
        assert_eq!(enters(store, mail("bob@customer.example")).await, SUPPRESSED);
        let leaves = store.leaves_from(0, 100).await.unwrap();
        let leaves = leaves.iter().map(|leaf| serde_json::from_slice::<Value>(&leaf.bytes).unwrap());
        let told: Vec<Value> = leaves.filter(|leaf| leaf["kind"] == "suppression-removed").collect();
        assert!(told.len() == 2 && told.iter().all(|leaf| leaf["reason"] == "expired"), "{told:?}");
        assert_eq!(told.iter().filter(|leaf| leaf["recipient"].is_null()).count(), 1, "who was erased is named no more");
    }

    async fn one_that_is_over_stops_nothing_from_that_moment_on_before_it_is_swept(home) {
        let store = &*home.store;
        let due_at = async |seconds| accept(store, NewMessage { due_at: at(seconds), ..mail(ANN) }).await.id;
        let (within, after) = (due_at(0).await, due_at(100).await);
        suppress_until(store, ANN, "everything", 100).await;
        let accepted_at = |seconds| NewMessage { accepted_at: at(seconds), ..mail(ANN) };
        assert_eq!(enters(store, accepted_at(99)).await, SUPPRESSED);
        assert_eq!(enters(store, accepted_at(100)).await, SENT);
        // A mail that waits is told beforehand how it will be when it is due.
        let told = async |id| store.stored(&tenant("demo"), id).await.unwrap().unwrap().suppressed;
        assert_eq!((told(within).await, told(after).await), (Some(Reason::Suppressed), None));
        assert_eq!(commit(store, within, 1, 99).await, Verdict::Stop);
        assert_eq!(view(store, within).await.reason, Some(Reason::Suppressed));
        assert_eq!(commit(store, after, 2, 100).await, Verdict::Go);
        assert_eq!(settle(store, after, 2, 101, relayed()).await, Settled::Applied);
    }

    async fn one_that_is_over_is_not_listed_nor_lifted_nor_known(home) {
        let store = &*home.store;
        suppress_until(store, ANN, "everything", 100).await;
        let anybodys = SuppressionFilter { limit: 9, ..SuppressionFilter::default() };
        let of_scope = SuppressionFilter { scope: Some(scope("everything")), ..anybodys.clone() };
        for filter in [anybodys, of_scope, of(ANN)] {
            for (seconds, count) in [(99, 1), (100, 0)] {
                let filter = SuppressionFilter { at: Some(at(seconds)), ..filter.clone() };
                assert_eq!(listed(store, filter).await.len(), count);
            }
        }
        let lift = Lift { recipient: address(ANN), scope: None, because: None, at: at(100) };
        assert_eq!(store.lift(&tenant("demo"), Actor::Gateway, vec![lift]).await.unwrap(), []);
        assert_eq!(suppress_until(store, ANN, "everything", 300).await.change, Change::Added);
    }

    async fn who_unsubscribes_while_suppressed_for_a_while_stays_so(home) {
        let store = &*home.store;
        accept(store, journey_mail(ANN, "welcome")).await;
        let token = token_of(store, Some("welcome"), ANN);
        for what in ["journey:welcome", "everything"] {
            suppress_until(store, ANN, what, 100).await;
        }
        let asks = store.link(token).await.unwrap().unwrap();
        assert_eq!((asks.stopped, asks.said_here), (None, false), "there is still something to say");
        let done = follow(store, token, Wish::AsLinked).await.unwrap();
        assert_eq!((done.stopped, done.said_here), (Some(scope("journey:welcome")), true));
        let theirs = &listed(store, SuppressionFilter { scope: Some(scope("journey:welcome")), ..of(ANN) }).await[0];
        assert_eq!((theirs.source, theirs.expires_at, theirs.added_at), (Source::Unsubscribed, None, at(5)));
        assert_eq!((theirs.added_by.as_str(), &theirs.because), ("recipient", &None));
        // What an operator says for a while does not take its place.
        let known = suppress_until(store, ANN, "journey:welcome", 900).await;
        assert_eq!((known.change, &known.suppression), (Change::Known, theirs));

        assert_eq!(store.sweep(at(1_000), 9).await.unwrap().forgotten, 1);
        let late = NewMessage { accepted_at: at(1_000), ..journey_mail(ANN, "welcome") };
        assert_eq!(enters(store, late).await, UNSUBSCRIBED);
        let leaves = store.leaves_from(0, 100).await.unwrap();
        let leaves = leaves.iter().map(|leaf| serde_json::from_slice::<Value>(&leaf.bytes).unwrap());
        let told: Vec<(Value, Value)> = leaves
            .filter(|leaf| leaf["scope"] == "journey:welcome")
            .map(|mut leaf| (leaf["kind"].take(), leaf["expiresAt"].take()))
            .collect();
        assert_eq!(told[0].0, "suppression-added");
        assert_eq!(told[0].1.as_str().map(|told| told.parse().unwrap()), Some(at(100)));
        assert_eq!(told[1..], [("unsubscribed".into(), Value::Null)]);
    }

    async fn an_erased_person_stays_suppressed_and_their_link_works(home) {
        let store = &*home.store;
        let erase = async |id: &str| {
            let (customer, extent) = (id.parse().unwrap(), Extent::Person);
            let erasure = Erasure { customer, extent, at: at(9), by: Actor::Gateway.into() };
            store.erase_contact(&tenant("demo"), erasure).await.unwrap()
        };
        accept(store, journey_mail(ANN, "welcome")).await;
        suppress(store, ANN, "journey:tips").await;
        suppress(store, "bob@customer.example", "journey:tips").await;
        let gone = Erased { messages: 1, ..Erased::default() };
        assert_eq!(erase("ann@customer.example").await, Erasing::Done(gone));
        assert_eq!(erase("ann@customer.example").await, Erasing::Nobody);
        let shown = listed(store, SuppressionFilter { limit: 9, ..SuppressionFilter::default() }).await;
        let shown: Vec<_> = shown.into_iter().map(|one| one.recipient).collect();
        assert_eq!(shown, [Some("bob@customer.example".to_owned()), None]);
        assert_eq!(scopes_of(store, ANN).await, ["journey:tips"], "by the address it is found");
        assert_eq!(enters(store, journey_mail(ANN, "tips")).await, SUPPRESSED);

        let token = token_of(store, Some("welcome"), ANN);
        assert!(follow(store, token, Wish::AsLinked).await.unwrap().said_here);
        assert_eq!(listed(store, of(ANN)).await[0].recipient, None, "nobody writes the address down again");
        assert_eq!(enters(store, journey_mail(ANN, "welcome")).await, UNSUBSCRIBED);
    }
}

fn leaves_of(connection: &Connection) -> Vec<Value> {
    let mut statement = connection.prepare("SELECT leaf FROM audit_leaf ORDER BY seq").unwrap();
    let leaves = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    leaves.map(|leaf| serde_json::from_slice(&leaf.unwrap()).unwrap()).collect()
}

#[tokio::test]
async fn each_change_is_a_leaf_that_names_nobody_but_by_their_own_hash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path, Role::Gateway).unwrap();
    let id: MessageId = accept(&store, journey_mail(ANN, "welcome")).await.id;
    let token = token_of(&store, Some("welcome"), ANN);
    for wish in [Wish::AsLinked, Wish::AsLinked, Wish::AllJourneys, Wish::TakeBack, Wish::TakeBack] {
        follow(&store, token, wish).await.unwrap();
    }
    for _ in 0..2 {
        suppress(&store, ANN, "everything").await;
    }
    for _ in 0..2 {
        lift(&store, ANN, None).await;
    }
    store.close().await;
    let leaves = leaves_of(&Connection::open(&path).unwrap());
    let told = |leaf: &Value| format!("{} {} {}", leaf["kind"], leaf["scope"], leaf["actor"]).replace('"', "");
    assert_eq!(
        leaves[1..].iter().map(told).collect::<Vec<_>>(),
        [
            "unsubscribed journey:welcome recipient",
            "unsubscribed journeys recipient",
            "suppression-removed journey:welcome recipient",
            "suppression-removed journeys recipient",
            "suppression-added everything command:suppressions",
            "suppression-removed everything command:suppressions",
        ]
    );
    assert!(leaves.iter().all(|leaf| leaf["recipient"] == leaves[0]["recipient"]), "{leaves:?}");
    assert_eq!(leaves[1]["messageId"], id.to_string(), "the mail's own events tell of it");
    assert_eq!(leaves[5]["because"], "asked at the till");
    let whole = serde_json::json!(leaves).to_string().to_lowercase();
    assert!(!whole.contains("customer.example") && !whole.contains(&token.to_string().to_lowercase()));
}

#[tokio::test]
async fn one_that_cannot_be_read_keeps_no_other_from_being_swept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path, Role::Gateway).unwrap();
    for recipient in [ANN, "bob@customer.example"] {
        suppress_until(&store, recipient, "everything", 100).await;
    }
    let beside = Connection::open(&path).unwrap();
    assert_eq!(beside.execute("UPDATE suppression SET source = 'zq' WHERE number = 1", []).unwrap(), 1);
    drop(beside);
    for _ in 0..2 {
        store.sweep(at(100), 1).await.unwrap();
    }
    let anybodys = SuppressionFilter { limit: 9, ..SuppressionFilter::default() };
    assert_eq!(listed(&store, anybodys).await, [], "the one is swept, the other is not shown");
    assert_eq!(store.sweep(at(101), 9).await.unwrap().forgotten, 0, "nor looked at again");
}

#[tokio::test]
async fn what_a_command_says_beside_the_gateway_holds_for_the_next_mail() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let (gateway, command) = (open(&path, Role::Gateway).unwrap(), open(&path, Role::Command).unwrap());
    assert_eq!(enters(&gateway, mail(ANN)).await, SENT);
    suppress(&command, ANN, "everything").await;
    assert_eq!(enters(&gateway, mail(ANN)).await, SUPPRESSED);
    lift(&command, ANN, None).await;
    assert_eq!(enters(&gateway, mail(ANN)).await, SENT);
}
