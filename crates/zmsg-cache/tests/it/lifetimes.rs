//! How long things are cached.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use zmsg_cache::{CachePolicy, Origin};
use zmsg_core::{Key, Result};

use crate::support::{Cluster, Database, Paused, bytes, key, policy, reading, some};

const SECOND: Duration = Duration::from_secs(1);

/// CA1.
#[tokio::test]
async fn an_l1_entry_does_not_outlive_the_l2_entry_that_filled_it() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    let (node, other) = (cluster.node(), cluster.node());
    let database = Database::with(&[]);
    node.set(&key, bytes("old"), Some(20 * SECOND)).await.unwrap();
    cluster.pass(15 * SECOND);
    assert_eq!(other.get_or_load(&key, &database.origin()).await.unwrap(), some("old"));
    cluster.pass(5 * SECOND - Duration::from_millis(1));
    assert_eq!(other.peek(key.as_str()), Some(some("old")));
    cluster.pass(Duration::from_millis(1));
    assert_eq!(other.peek(key.as_str()), None);
    assert_eq!(other.get_or_load(&key, &database.origin()).await.unwrap(), None);
}

/// CA25: whatever way a value came in, it goes.
#[tokio::test]
async fn no_way_in_makes_an_entry_that_never_expires() {
    let (cluster, [set, written, loaded, deleted]) =
        (Cluster::sharing(), ["set", "written", "loaded", "deleted"].map(key));
    let node = cluster.node();
    let database = Database::with(&[(&loaded, "x")]);
    node.set(&set, bytes("x"), None).await.unwrap();
    let hold = node.begin_write(&written).await;
    assert!(node.publish(hold, some("x"), None).await.unwrap());
    let hold = node.begin_write(&deleted).await;
    assert!(node.publish(hold, None, None).await.unwrap());
    node.get_or_load(&loaded, &database.origin()).await.unwrap();
    cluster.pass(policy().ttl);
    for key in [set, written, loaded, deleted] {
        assert_eq!(node.peek(key.as_str()), None, "{key:?}");
        assert_eq!(cluster.remote.get(&key).await.unwrap().entry, None, "{key:?}");
    }
}

/// An origin with a TTL of its own.
#[derive(Debug)]
struct Lasting(Arc<Database>, Duration);

#[async_trait]
impl Origin for Lasting {
    async fn load(&self, key: &Key) -> Result<Option<Bytes>> {
        self.0.load(key).await
    }

    fn ttl(&self) -> Option<Duration> {
        Some(self.1)
    }
}

#[tokio::test]
async fn the_ttl_is_the_calls_else_the_sources_else_the_default() {
    let (cluster, [call, source, default]) =
        (Cluster::sharing(), ["call", "source", "default"].map(key));
    let node = cluster.node();
    let database = Database::with(&[(&source, "x"), (&default, "x")]);
    let lasting: Arc<dyn Origin> = Arc::new(Lasting(database.clone(), 20 * SECOND));
    node.set(&call, bytes("x"), Some(10 * SECOND)).await.unwrap();
    node.get_or_load(&source, &lasting).await.unwrap();
    node.get_or_load(&default, &database.origin()).await.unwrap();
    for (key, ttl) in [(call, 10 * SECOND), (source, 20 * SECOND), (default, policy().ttl)] {
        assert_eq!(cluster.remote.get(&key).await.unwrap().entry.unwrap().ttl_left, ttl, "{key:?}");
    }
}

#[tokio::test]
async fn the_sources_ttl_ends_entries_in_l1_too() {
    let (cluster, key) = (Cluster::alone(), key(1));
    let node = cluster.node();
    let database = Database::with(&[(&key, "x")]);
    let lasting: Arc<dyn Origin> = Arc::new(Lasting(database.clone(), 2 * SECOND));
    node.get_or_load(&key, &lasting).await.unwrap();
    cluster.pass(2 * SECOND - Duration::from_millis(1));
    assert_eq!(node.peek(key.as_str()), Some(some("x")));
    cluster.pass(Duration::from_millis(1));
    assert_eq!(node.peek(key.as_str()), None);
}

#[tokio::test]
async fn l1_counts_from_before_the_load_so_a_slow_one_adds_no_lag() {
    let (cluster, key) = (Cluster::alone(), key(1));
    let node = cluster.node();
    let database = Database::with(&[(&key, "row")]);
    let paused = Paused::new(&database);
    let read = reading(&cluster, &node, &key, paused.origin());
    paused.read().await;
    cluster.pass(20 * SECOND);
    paused.go();
    read.await.unwrap().unwrap();
    cluster.pass(policy().local_ttl - 21 * SECOND);
    assert_eq!(node.peek(key.as_str()), Some(some("row")));
    cluster.pass(SECOND);
    assert_eq!(node.peek(key.as_str()), None);
}

/// Without an L2 a value that is in the cache only would be lost with its L1 entry.
#[tokio::test]
async fn a_set_value_lives_its_whole_ttl_where_there_is_no_l2() {
    let (cluster, key) = (Cluster::alone(), key(1));
    let node = cluster.node();
    let hour = 3600 * SECOND;
    node.set(&key, bytes("x"), Some(hour)).await.unwrap();
    cluster.pass(hour - SECOND);
    assert_eq!(node.peek(key.as_str()), Some(some("x")));
    cluster.pass(SECOND);
    assert_eq!(node.peek(key.as_str()), None);
}

#[tokio::test]
async fn what_is_cached_together_does_not_expire_together() {
    let cluster = Cluster::sharing();
    let node = cluster.node_with(CachePolicy { jitter: 0.2, ..policy() });
    let mut rests = Vec::new();
    for n in 0..100 {
        node.set(&key(n), bytes("x"), Some(1000 * SECOND)).await.unwrap();
        rests.push(cluster.remote.get(&key(n)).await.unwrap().entry.unwrap().ttl_left);
    }
    assert!(rests.iter().all(|rest| (800..=1200).contains(&rest.as_secs())), "{rests:?}");
    rests.sort_unstable();
    rests.dedup();
    assert!(rests.len() > 90, "{rests:?}");
}

#[tokio::test]
async fn a_ttl_of_for_ever_is_no_overflow() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    let node = cluster.node_with(CachePolicy::default());
    node.set(&key, bytes("x"), Some(Duration::MAX)).await.unwrap();
    assert_eq!(node.peek(key.as_str()), Some(some("x")));
}
