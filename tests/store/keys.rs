//! API keys: kept as MACs, listed in order, revoked once.

use postern::domain::audit::{Actor, By};
use postern::domain::ids::KeyId;
use postern::domain::key::{ApiKey, Scope};
use postern::domain::quantity::Limit;
use uuid::Uuid;

use crate::harness::*;

fn key(number: u8, created_at: i64) -> ApiKey {
    ApiKey {
        id: KeyId::from_uuid(Uuid::from_u128(u128::from(number))),
        tenant: tenant("demo"),
        name: format!("key number {number}"),
        scopes: vec![Scope::Send, Scope::Read],
        limit: None,
        mac: [number; 32],
        created_at: at(created_at),
        revoked_at: None,
    }
}

on_every_database! {
    async fn keys_are_listed_oldest_first_as_they_were_made(home) {
        let store = &*home.store;
        store.create_key(key(1, 20), Actor::Command("keys").into()).await.unwrap();
        store.create_key(key(2, 10), Actor::Command("keys").into()).await.unwrap();
        let keys = store.keys().await.unwrap();
        assert_eq!(keys.iter().map(|key| key.mac[0]).collect::<Vec<_>>(), [2, 1]);
        assert_eq!((keys[1].name.as_str(), keys[1].created_at), ("key number 1", at(20)));
        assert_eq!(keys[1].scopes, [Scope::Send, Scope::Read]);
        assert!(store.create_key(key(1, 30), Actor::Command("keys").into()).await.is_err(), "made already");
    }

    async fn the_limit_of_a_key_is_kept(home) {
        let store = &*home.store;
        let limits = [None, Some("50/s,burst=70".parse().unwrap()), Some(Limit::Unlimited)];
        for (number, limit) in (1..).zip(limits) {
            store.create_key(ApiKey { limit, ..key(number, number.into()) }, Actor::Command("keys").into()).await.unwrap();
        }
        let kept: Vec<_> = store.keys().await.unwrap().iter().map(|key| key.limit).collect();
        assert_eq!(kept, limits);
    }

    async fn a_key_is_revoked_once_and_for_ever(home) {
        let store = &*home.store;
        let made = key(1, 0);
        store.create_key(made.clone(), Actor::Command("keys").into()).await.unwrap();
        assert!(!store.revoke_key(key(2, 0).id, at(5), Actor::Gateway.into()).await.unwrap());
        let by = By { actor: Actor::Command("keys"), because: Some("it was in a ticket".parse().unwrap()) };
        assert!(store.revoke_key(made.id, at(6), by).await.unwrap());
        assert!(store.revoke_key(made.id, at(7), Actor::Gateway.into()).await.unwrap());
        assert_eq!(store.keys().await.unwrap()[0].revoked_at, Some(at(6)));
        let leaf: serde_json::Value = serde_json::from_slice(&store.leaves_from(1, 1).await.unwrap()[0].bytes).unwrap();
        assert_eq!((&leaf["kind"], &leaf["because"]), (&"key-revoked".into(), &"it was in a ticket".into()));
        // Two leaves were written before this one, and none by the second revocation.
        let id = queued(store, "ann@example.com").await;
        assert_eq!(store.leaves(&tenant("demo"), id).await.unwrap().unwrap()[0].seq, 2);
    }

    async fn the_pepper_is_random_and_stays(home) {
        let pepper = home.store.key_pepper().await.unwrap();
        assert_eq!(home.store.key_pepper().await.unwrap(), pepper);
        assert_ne!(pepper, [0; 32]);
        let other = Home::new(&DATABASES[0]);
        assert_ne!(other.store.key_pepper().await.unwrap(), pepper);
    }
}
