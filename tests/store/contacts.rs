//! Contacts: what is said stands, what is said again changes nothing, and what is erased is gone.

use postern::domain::address::EmailAddress;
use postern::domain::audit::Actor;
use postern::domain::contact::{Contact, CustomerId, Erased, Erasing, Extent, GivenConsent, NewContact, Origin, Set};
use postern::domain::ids::EventId;
use postern::domain::pass_event::{
    Change, EventKind, NewPassEvent, PassEvent, RegistrationCounts, Source, Wallet, Way,
};
use postern::store::sqlite::Role;
use postern::store::{ContactFilter, CustomerWallet, Erasure, Pushed, RecordRules, Store};
use rusqlite::Connection;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::*;
use crate::sqlite::open;

fn customer(id: &str) -> CustomerId {
    id.parse().unwrap()
}

fn said(id: &str, email: &str, now: i64) -> NewContact {
    let consent = GivenConsent { granted: true, at: None, source: Some("till".to_owned()) };
    NewContact {
        customer: customer(id),
        email: email.parse().unwrap(),
        name: Some("Ann".to_owned()),
        culture: Some("fr-CA".parse().unwrap()),
        timezone: Some("Europe/Paris".parse().unwrap()),
        consent: [("newsletter".to_owned(), consent)].into(),
        fields: [("tier".to_owned(), json!("gold")), ("points".to_owned(), json!(7)), ("vip".to_owned(), json!(true))]
            .into(),
        origin: Origin::Api,
        at: at(now),
    }
}

async fn set(store: &dyn Store, contact: NewContact) -> Set {
    store.set_contacts(&tenant("demo"), Actor::Gateway, vec![contact]).await.unwrap().remove(0)
}

async fn known(store: &dyn Store, id: &str) -> Option<Contact> {
    store.contact(&tenant("demo"), &customer(id)).await.unwrap()
}

async fn erase(store: &dyn Store, id: &str, extent: Extent) -> Erasing {
    let erasure = Erasure { customer: customer(id), extent, at: at(50), by: Actor::Gateway.into() };
    store.erase_contact(&tenant("demo"), erasure).await.unwrap()
}

const fn gone(contacts: usize, passes: usize, pass_events: usize) -> Erasing {
    Erasing::Done(Erased { contacts, messages: 0, passes, pass_events })
}

async fn listed(store: &dyn Store, filter: ContactFilter) -> Vec<String> {
    let contacts = store.contacts(&tenant("demo"), filter).await.unwrap();
    contacts.iter().map(|contact| contact.customer.as_str().to_owned()).collect()
}

on_every_database! {
    async fn what_is_said_of_a_customer_is_read_back_and_lasts(home) {
        assert_eq!(set(&*home.store, said("a/b c?", "Ann@Customer.example", 1)).await, Set::Created);
        home.crash().await;
        let store = &*home.store;
        let contact = known(store, "a/b c?").await.unwrap();
        assert_eq!(contact.email, "Ann@customer.example".parse::<EmailAddress>().unwrap());
        assert_eq!(contact.name.as_deref(), Some("Ann"));
        assert_eq!((contact.culture.unwrap().as_str(), contact.timezone.unwrap().as_str()), ("fr-CA", "Europe/Paris"));
        assert_eq!(contact.fields["points"], json!(7));
        let consent = &contact.consent["newsletter"];
        assert_eq!((consent.granted, consent.at, consent.source.as_deref()), (true, at(1), Some("till")));
        assert_eq!((contact.origin, contact.created_at, contact.changed_at), (Origin::Api, at(1), at(1)));
        assert_eq!(known(store, "a/b").await, None);
        assert_eq!(store.contact(&tenant("other"), &customer("a/b c?")).await.unwrap(), None);
    }

    async fn what_is_said_again_changes_nothing_but_when_it_was_said(home) {
        let store = &*home.store;
        set(store, said("C1", "ann@customer.example", 1)).await;
        assert_eq!(set(store, said("C1", "ann@customer.example", 2)).await, Set::Unchanged);
        let contact = known(store, "C1").await.unwrap();
        assert_eq!((contact.changed_at, contact.confirmed_at), (at(1), at(2)));

        let other = NewContact { name: None, ..said("C1", "anna@customer.example", 3) };
        assert_eq!(set(store, other).await, Set::Changed);
        let contact = known(store, "C1").await.unwrap();
        assert_eq!((contact.name, contact.created_at, contact.changed_at), (None, at(1), at(3)));
        assert_eq!(contact.consent["newsletter"].at, at(1), "they still agree since then");
        let with = |address: &str| ContactFilter {
            address: Some(address.to_owned()), limit: 9, ..ContactFilter::default()
        };
        assert_eq!(listed(store, with("ann@customer.example")).await, Vec::<String>::new());
        assert_eq!(listed(store, with("anna@customer.example")).await, ["C1"]);
    }

    async fn what_a_look_up_found_gives_way_to_the_brand_s_own_word_and_never_the_other_way(home) {
        let store = &*home.store;
        let found = |email: &str, now| NewContact { origin: Origin::Lookup, ..said("C1", email, now) };
        assert_eq!(set(store, found("old@customer.example", 1)).await, Set::Created);
        assert_eq!(set(store, found("new@customer.example", 2)).await, Set::Changed);
        assert_eq!(set(store, said("C1", "own@customer.example", 3)).await, Set::Changed);
        assert_eq!(set(store, found("late@customer.example", 4)).await, Set::Kept);
        assert_eq!(known(store, "C1").await.unwrap().email.as_str(), "own@customer.example");
        assert_eq!(erase(store, "C1", Extent::Copy).await, Erasing::Nobody, "it is a copy no more");
        assert!(known(store, "C1").await.is_some());
        set(store, NewContact { customer: customer("C2"), ..found("two@customer.example", 5) }).await;
        assert_eq!(erase(store, "C2", Extent::Copy).await, gone(1, 0, 0));
        assert_eq!(known(store, "C2").await, None);
    }

    async fn contacts_are_listed_in_pages_that_miss_nobody(home) {
        let store = &*home.store;
        let many: Vec<NewContact> =
            (0..25).map(|n| said(&format!("C{n:02}"), &format!("c{n}@customer.example"), n)).collect();
        store.set_contacts(&tenant("demo"), Actor::Gateway, many).await.unwrap();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = listed(store, ContactFilter { address: None, after, limit: 10 }).await;
            seen.extend(page.clone());
            match page.last() {
                Some(last) if page.len() == 10 => after = Some(customer(last)),
                _ => break,
            }
        }
        assert_eq!(seen, (0..25).map(|n| format!("C{n:02}")).collect::<Vec<_>>());
        assert!(store.contacts(&tenant("other"), ContactFilter { limit: 9, ..ContactFilter::default() }).await.unwrap().is_empty());
    }

    async fn who_is_erased_is_gone_and_who_is_not_known_cannot_be(home) {
        let store = &*home.store;
        set(store, said("C1", "ann@customer.example", 1)).await;
        set(store, said("C2", "ann@customer.example", 1)).await;
        set(store, said("C3", "bob@customer.example", 1)).await;
        assert_eq!(erase(store, "C1", Extent::Person).await, gone(2, 0, 0), "an address is a person");
        assert_eq!((known(store, "C1").await, known(store, "C2").await), (None, None));
        assert!(known(store, "C3").await.is_some());
        assert_eq!(erase(store, "C1", Extent::Person).await, Erasing::Nobody);
        assert_eq!(erase(store, "bob@customer.example", Extent::Person).await, gone(1, 0, 0), "by an address");
        assert_eq!(known(store, "C3").await, None);
    }

    async fn an_address_of_very_many_customers_takes_none_of_them_along(home) {
        let store = &*home.store;
        for n in 0..30 {
            set(store, said(&format!("C{n}"), "shop@customer.example", 1)).await;
        }
        assert_eq!(erase(store, "C1", Extent::Person).await, Erasing::Shared);
        assert_eq!(erase(store, "shop@customer.example", Extent::Person).await, Erasing::Shared);
        assert!(known(store, "C1").await.is_some());
    }

    async fn an_address_goes_from_passes_of_customers_who_are_known_otherwise(home) {
        let store = &*home.store;
        installed(store, 1, "P1", &[("customerId", "C1"), ("email", "ann@customer.example")]).await;
        installed(store, 2, "P2", &[("customerId", "C2"), ("email", "ann@customer.example")]).await;
        assert_eq!(erase(store, "ann@customer.example", Extent::Person).await, gone(0, 2, 2));
        assert!(wallet(store, "C1").await.is_none() && wallet(store, "C2").await.is_none());
    }

    async fn with_a_person_go_their_passes_and_what_was_told_of_them(home) {
        let store = &*home.store;
        set(store, said("C1", "Ann@customer.example", 1)).await;
        // Known by the pass first, then by the identifier; another pass by the address alone; and somebody else's.
        installed(store, 1, "P1", &[]).await;
        installed(store, 2, "P1", &[("customerId", "C1"), ("email", "ann@second.example")]).await;
        assert_eq!(wallet(store, "ann@second.example").await.unwrap().customer.value, "C1");
        installed(store, 3, "P2", &[("email", "ann@customer.example")]).await;
        installed(store, 4, "P3", &[("customerId", "C2")]).await;
        assert_eq!(erase(store, "C1", Extent::Person).await, gone(1, 2, 3));
        for gone in ["C1", "P1", "P2", "ann@customer.example", "ann@second.example"] {
            assert!(wallet(store, gone).await.is_none(), "{gone}");
        }
        let connection = Connection::open(home.folder.path().join("store.db")).unwrap();
        let aliases = connection.query_row("SELECT count(*) FROM pass_alias", [], |row| row.get::<_, i64>(0));
        assert_eq!(aliases, Ok(0), "no row names them still");
        assert!(wallet(store, "C2").await.is_some());
        let changed = store.wallets_changed(&tenant("demo"), None, 9).await.unwrap();
        assert_eq!(changed.len(), 1, "{changed:?}");

        assert_eq!(erase(store, "C2", Extent::Person).await, gone(0, 1, 1), "without a contact");
        // What is told later is told of somebody new.
        assert_eq!(installed(store, 5, "P1", &[("customerId", "C1")]).await, Change::FirstInstall);
    }
}

/// A pass's install in Apple Wallet.
async fn installed(store: &dyn Store, number: u8, pass: &str, identifiers: &[(&str, &str)]) -> Change {
    let event = PassEvent {
        kind: EventKind::Installed,
        wallet: Wallet::Apple,
        pass: Some(pass.to_owned()),
        pass_type: None,
        identifiers: identifiers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        counts: RegistrationCounts::default(),
        source: Source::default(),
        occurred_at: Some(at(i64::from(number))),
        since: None,
        key: None,
        way: Way::Hook,
    };
    let new = NewPassEvent { id: EventId::from_uuid(Uuid::now_v7()), received_at: at(i64::from(number)), event };
    let rules = RecordRules {
        journeys: Vec::new(),
        identifiers: ["customerId", "email"].map(str::to_owned).into(),
        reinstall_settle: MINUTE,
        history_max: 100,
        passes_max: 100,
        time_ahead_max: MINUTE,
        pushed: Pushed::No,
    };
    store.record(&tenant("demo"), Actor::Gateway, vec![new], rules).await.unwrap()[0].change
}

async fn wallet(store: &dyn Store, value: &str) -> Option<CustomerWallet> {
    let found = store.customer_wallet(&tenant("demo"), value.to_owned()).await.unwrap();
    found.map(|(wallet, _)| wallet)
}

fn leaves_of(connection: &Connection) -> Vec<Value> {
    let mut statement = connection.prepare("SELECT leaf FROM audit_leaf ORDER BY seq").unwrap();
    let leaves = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    leaves.map(|leaf| serde_json::from_slice(&leaf.unwrap()).unwrap()).collect()
}

#[tokio::test]
async fn each_change_of_a_contact_is_a_leaf_that_names_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path, Role::Gateway).unwrap();
    for email in ["ann@customer.example", "ann@customer.example", "anna@customer.example"] {
        set(&store, said("zqC1", email, 1)).await;
    }
    erase(&store, "zqC1", Extent::Person).await;
    erase(&store, "zqC1", Extent::Person).await;
    store.close().await;
    let leaves = leaves_of(&Connection::open(&path).unwrap());
    let kinds: Vec<&Value> = leaves.iter().map(|leaf| &leaf["kind"]).collect();
    assert_eq!(kinds, ["contact-set", "contact-set", "erased"]);
    let whole = json!(leaves).to_string().to_lowercase();
    for word in ["ann", "zqc1", "customer.example", "gold", "newsletter", "till"] {
        assert!(!whole.contains(word), "{word} is in {whole}");
    }
    assert_eq!((&leaves[0]["consents"], &leaves[0]["origin"]), (&json!(1), &json!("api")));
    assert_ne!(leaves[0]["customer"], leaves[1]["customer"], "each under the key of its person");
    assert_eq!(leaves[2]["recipients"], json!([leaves[1]["recipient"]]));
}
