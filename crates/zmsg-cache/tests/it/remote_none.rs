//! `NoRemote` signs what can be promised about nothing. It does not sign that something comes
//! back (it keeps nothing), nor that a fill or a publication bounces (there is nothing to bounce
//! off: the fence of L1 decides alone).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use zmsg_cache::conformance::RemoteHarness;
use zmsg_cache::{HoldToken, Lookup, NoRemote, RemoteCache, Stretch};
use zmsg_core::Key;

#[derive(Debug)]
struct Nothing;

#[async_trait]
impl RemoteHarness for Nothing {
    async fn cache(&self) -> Arc<dyn RemoteCache> {
        Arc::new(NoRemote)
    }

    async fn pass(&self, _: Duration) {}
}

zmsg_cache::remote_conformance!(Nothing, [a_hold_reads_as_a_miss, nothing_outlives_its_ttl]);

#[tokio::test]
async fn every_lookup_misses_and_every_store_succeeds() {
    let (key, value) = (Key::new("feed_1").unwrap(), Bytes::from_static(b"x"));
    let (ttl, token) = (Duration::from_secs(1), HoldToken::generate());
    assert!(!NoRemote.retains());
    NoRemote.set(&key, &value, ttl).await.unwrap();
    assert!(NoRemote.fill(&key, Some(&value), ttl, Stretch::ONLY).await.unwrap());
    NoRemote.hold(&key, token, ttl).await.unwrap();
    assert!(NoRemote.publish(&key, token, Some(&value), ttl).await.unwrap());
    NoRemote.invalidate(&key, ttl).await.unwrap();
    assert_eq!(NoRemote.get(&key).await.unwrap().entry, None);
    let found = NoRemote.get_many(&[key.clone(), key]).await.unwrap();
    assert_eq!(found, [Lookup::only(None), Lookup::only(None)]);
}
