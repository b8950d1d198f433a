//! Where a read finds its value, and what it leaves behind.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use zmsg_cache::Origin;
use zmsg_core::{Error, ErrorKind, Key, Result};

use crate::support::{Cluster, Database, Paused, bytes, key, policy, reading, some};

#[tokio::test]
async fn a_read_goes_to_l1_then_l2_then_the_origin() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    let (one, two) = (cluster.node(), cluster.node());
    let database = Database::with(&[(&key, "row")]);
    for (node, loads) in [(&one, 1), (&two, 1), (&one, 1), (&two, 1)] {
        assert_eq!(node.get_or_load(&key, &database.origin()).await.unwrap(), some("row"));
        assert_eq!(database.loads(), loads);
    }
    let (one, two) = (one.stats(), two.stats());
    assert_eq!((one.l1_hits, one.l2_hits, one.loads), (1, 0, 1));
    assert_eq!((two.l1_hits, two.l2_hits, two.loads), (1, 1, 0));
    assert_eq!(one.entries, 1);
    assert!(one.bytes > 3);
}

#[tokio::test]
async fn a_hit_is_counted_once_and_a_miss_never() {
    let (cluster, key) = (Cluster::alone(), key(1));
    let node = cluster.node();
    let database = Database::with(&[(&key, "row")]);
    assert_eq!(node.peek(key.as_str()), None);
    node.get_or_load(&key, &database.origin()).await.unwrap();
    assert_eq!(node.stats().l1_hits, 0);
    assert_eq!(node.peek(key.as_str()), Some(some("row")));
    assert_eq!(node.stats().l1_hits, 1);
}

/// CA19.
#[tokio::test]
async fn an_absent_row_is_remembered_for_the_negative_ttl() {
    let (cluster, key) = (Cluster::sharing(), key("none"));
    let (one, two) = (cluster.node(), cluster.node());
    let database = Database::with(&[]);
    for node in [&one, &two, &one, &two] {
        assert_eq!(node.get_or_load(&key, &database.origin()).await.unwrap(), None);
    }
    assert_eq!(database.loads(), 1);
    assert_eq!((one.stats().negative_hits, two.stats().l2_hits), (1, 1));
    database.commit(&key, some("by another program"));
    cluster.pass(policy().negative_ttl);
    let read = one.get_or_load(&key, &database.origin()).await.unwrap();
    assert_eq!(read, some("by another program"));
}

/// CA20.
#[tokio::test]
async fn what_a_get_hands_out_cannot_change_what_is_cached() {
    let (cluster, key) = (Cluster::alone(), key(1));
    let node = cluster.node();
    let database = Database::with(&[(&key, "as it was")]);
    for _ in 0..2 {
        let read = node.get_or_load(&key, &database.origin()).await.unwrap().unwrap();
        bytes::BytesMut::from(read)[0] = b'X';
    }
    assert_eq!(node.peek(key.as_str()), Some(some("as it was")));
}

#[tokio::test]
async fn l1_keeps_no_slice_of_a_larger_buffer() {
    let (cluster, key) = (Cluster::alone(), key(1));
    let node = cluster.node();
    let buffer = Bytes::from(vec![7; 1 << 20]);
    node.set(&key, buffer.slice(100..110), None).await.unwrap();
    let kept = node.peek(key.as_str()).unwrap().unwrap();
    assert_eq!(kept, buffer.slice(100..110));
    assert!(!buffer.as_ptr_range().contains(&kept.as_ptr()));
}

#[tokio::test]
async fn a_value_too_large_for_l1_is_served_counted_and_not_kept() {
    let (cluster, key) = (Cluster::alone(), key("large"));
    let node = cluster.node();
    let large = "x".repeat(9 << 20);
    let database = Database::with(&[(&key, &large)]);
    for read in 1..=2 {
        let found = node.get_or_load(&key, &database.origin()).await.unwrap();
        assert_eq!(found.unwrap().len(), large.len());
        assert_eq!((database.loads(), node.stats().oversize_refused), (read, read as u64));
    }
    let error = node.set(&key, bytes(large), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn clearing_forgets_what_is_kept_and_what_is_under_way() {
    let (cluster, kept, flying) = (Cluster::alone(), key("kept"), key("flying"));
    let node = cluster.node();
    let database = Database::with(&[(&kept, "old"), (&flying, "old")]);
    node.get_or_load(&kept, &database.origin()).await.unwrap();
    let paused = Paused::new(&database);
    let read = reading(&cluster, &node, &flying, paused.origin());
    paused.read().await;
    node.clear_local();
    assert_eq!(node.peek(kept.as_str()), None);

    database.commit(&flying, some("new"));
    let fresh = node.get_or_load(&flying, &database.origin()).await.unwrap();
    assert_eq!(fresh, some("new"), "it joined a flight from before the clear");
    paused.go();
    assert_eq!(read.await.unwrap().unwrap(), some("old"));
    assert_eq!(node.peek(flying.as_str()), Some(some("new")));
}

/// An origin with a filter.
#[derive(Debug)]
struct Filtered {
    database: Arc<Database>,
    confirms: Result<bool>,
}

impl Filtered {
    fn origin(database: &Arc<Database>, confirms: Result<bool>) -> Arc<dyn Origin> {
        Arc::new(Self { database: database.clone(), confirms })
    }
}

#[async_trait]
impl Origin for Filtered {
    fn rules_out(&self, _: &Key) -> bool {
        true
    }

    async fn confirm_absent(&self, _: &Key) -> Result<bool> {
        self.confirms.clone()
    }

    async fn load(&self, key: &Key) -> Result<Option<Bytes>> {
        self.database.load(key).await
    }
}

#[tokio::test]
async fn a_key_that_the_filter_rules_out_is_not_loaded() {
    let (cluster, key) = (Cluster::sharing(), key("none"));
    let node = cluster.node();
    let database = Database::with(&[]);
    let filtered = Filtered::origin(&database, Ok(true));
    assert_eq!(node.get_or_load(&key, &filtered).await.unwrap(), None);
    assert_eq!(node.get_or_load(&key, &filtered).await.unwrap(), None);
    assert_eq!(database.loads(), 0);
    assert_eq!((node.stats().absent_by_filter, node.stats().negative_hits), (1, 1));
}

#[tokio::test]
async fn a_key_that_lives_only_in_l2_is_found_although_the_filter_rules_it_out() {
    let (cluster, key) = (Cluster::sharing(), key("cached"));
    cluster.node().set(&key, bytes("in the cache only"), None).await.unwrap();
    let filtered = Filtered::origin(&Database::with(&[]), Ok(true));
    let read = cluster.node().get_or_load(&key, &filtered).await.unwrap();
    assert_eq!(read, some("in the cache only"));
}

#[tokio::test]
async fn a_key_that_lives_only_in_l2_is_found_again_when_l2_is_back() {
    let ((cluster, remote), key) = (Cluster::flaky(), key("cached"));
    let (node, filtered) = (cluster.node(), Filtered::origin(&Database::with(&[]), Ok(true)));
    cluster.node().set(&key, bytes("in the cache only"), None).await.unwrap();
    remote.set_broken(true);
    assert_eq!(node.get_or_load(&key, &filtered).await.unwrap(), None);
    remote.set_broken(false);
    assert_eq!(node.get_or_load(&key, &filtered).await.unwrap(), some("in the cache only"));
}

#[tokio::test]
async fn a_local_no_that_is_not_confirmed_means_maybe() {
    let cluster = Cluster::sharing();
    let away = Err(Error::new(ErrorKind::Unavailable, "the shared filter is away"));
    for (name, confirms) in [("refuted", Ok(false)), ("unknown", away)] {
        let (node, key) = (cluster.node(), key(name));
        let database = Database::with(&[(&key, "row")]);
        let filtered = Filtered::origin(&database, confirms);
        assert_eq!(node.get_or_load(&key, &filtered).await.unwrap(), some("row"), "{name}");
        let batch = node.get_many(&[(key, filtered)]).await;
        assert_eq!(batch.into_iter().next().unwrap().unwrap(), some("row"), "{name}");
    }
}
