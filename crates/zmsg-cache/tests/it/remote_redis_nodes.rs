//! Nodes that share a Redis: what each may see of what the others wrote, also when that Redis is
//! killed between the steps of a write.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::task::TaskTracker;
use zmsg_cache::{CachePolicy, QuickCache, RedisCache, RemoteCache, TieredCache};
use zmsg_core::{Key, SystemClock};
use zmsg_redis::Redis;
use zmsg_testbed::private::{PrivateRedis, RedisOptions};

use crate::remote_redis::{open, until};
use crate::support::{Database, Paused, key, policy, some};

/// Nodes with a connection of their own each.
struct Nodes {
    server: Arc<PrivateRedis>,
    clients: Mutex<Vec<Redis>>,
    tracker: TaskTracker,
}

impl Nodes {
    fn start() -> Option<Self> {
        let server = PrivateRedis::start(RedisOptions::new())?;
        Some(Self {
            server: Arc::new(server),
            clients: Mutex::default(),
            tracker: TaskTracker::new(),
        })
    }

    async fn node(&self) -> TieredCache {
        let redis = open(&self.server.url(), None);
        until(async || redis.health().is_up()).await;
        self.clients.lock().unwrap().push(redis.clone());
        let remote: Arc<dyn RemoteCache> = Arc::new(RedisCache::new(redis));
        // A hold that a busy machine does not outlive.
        let policy = CachePolicy { hold: Duration::from_secs(20), ..policy() };
        let local = Arc::new(QuickCache::new(8 << 20, 10_000));
        TieredCache::new(local, remote, policy, Arc::new(SystemClock), self.tracker.clone())
    }

    /// Redis loses all that it knows; returns when it serves all nodes again.
    async fn restart(&self) {
        self.server.kill();
        let server = Arc::clone(&self.server);
        // The nodes go on meanwhile.
        let restarted = tokio::task::spawn_blocking(move || server.restart());
        restarted.await.unwrap();
        let clients = self.clients.lock().unwrap().clone();
        until(async || clients.iter().all(|redis| redis.health().is_up())).await;
    }
}

async fn read(node: &TieredCache, key: &Key, database: &Arc<Database>) -> Option<String> {
    let value = node.get_or_load(key, &database.origin()).await.unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

#[tokio::test]
async fn a_load_that_a_write_of_another_node_overtook_fills_nothing() {
    let Some(nodes) = Nodes::start() else { return };
    let (writer, reader, third) = (nodes.node().await, nodes.node().await, nodes.node().await);
    let key = key(1);
    let database = Database::with(&[(&key, "old")]);
    let slow = Paused::new(&database);
    let reading = {
        let (reader, key, origin) = (reader.clone(), key.clone(), slow.origin());
        nodes.tracker.spawn(async move { reader.get_or_load(&key, &origin).await })
    };
    slow.read().await;
    let hold = writer.begin_write(&key).await;
    database.commit(&key, some("new"));
    assert!(writer.publish(hold, some("new"), None).await.unwrap());
    slow.go();
    reading.await.unwrap().unwrap();
    let loads = database.loads();
    assert_eq!(read(&third, &key, &database).await.as_deref(), Some("new"));
    assert_eq!(read(&writer, &key, &database).await.as_deref(), Some("new"));
    assert_eq!(database.loads(), loads, "redis had it");
}

#[tokio::test]
async fn two_nodes_that_commit_a_b_and_publish_b_a_leave_nothing_stale() {
    let Some(nodes) = Nodes::start() else { return };
    let (a, b, third) = (nodes.node().await, nodes.node().await, nodes.node().await);
    let key = key(1);
    let database = Database::with(&[(&key, "old")]);
    let (hold_a, hold_b) = (a.begin_write(&key).await, b.begin_write(&key).await);
    database.commit(&key, some("a"));
    database.commit(&key, some("b"));
    assert!(!b.publish(hold_b, some("b"), None).await.unwrap());
    assert!(!a.publish(hold_a, some("a"), None).await.unwrap());
    for node in [&a, &b, &third] {
        assert_eq!(read(node, &key, &database).await.as_deref(), Some("b"));
    }
}

#[tokio::test]
async fn a_redis_that_loses_the_hold_before_the_publication_shows_nothing_stale() {
    let Some(nodes) = Nodes::start() else { return };
    let (writer, reader) = (nodes.node().await, nodes.node().await);
    let key = key(1);
    let database = Database::with(&[(&key, "old")]);
    let hold = writer.begin_write(&key).await;
    assert!(hold.remote_error().is_none());
    nodes.restart().await;
    // The hold is gone: the old row is filled in, before it is replaced.
    assert_eq!(read(&reader, &key, &database).await.as_deref(), Some("old"));
    let loads = database.loads();
    assert_eq!(read(&nodes.node().await, &key, &database).await.as_deref(), Some("old"));
    assert_eq!(database.loads(), loads, "redis has it");
    database.commit(&key, some("new"));
    let published = writer.publish(hold, some("new"), None).await;
    assert!(matches!(published, Ok(false)), "{published:?}");
    assert_eq!(read(&writer, &key, &database).await.as_deref(), Some("new"));
    assert_eq!(read(&nodes.node().await, &key, &database).await.as_deref(), Some("new"));
}

#[tokio::test]
async fn while_redis_is_away_reads_load_and_what_was_written_is_repaired_after() {
    let Some(nodes) = Nodes::start() else { return };
    let (writer, reader) = (nodes.node().await, nodes.node().await);
    let key = key(1);
    let database = Database::with(&[(&key, "old")]);
    assert_eq!(read(&reader, &key, &database).await.as_deref(), Some("old"));
    nodes.server.kill();
    let hold = writer.begin_write(&key).await;
    assert!(hold.remote_error().is_some());
    database.commit(&key, some("new"));
    writer.publish(hold, some("new"), None).await.unwrap_err();
    assert_eq!(read(&writer, &key, &database).await.as_deref(), Some("new"));
    reader.clear_local();
    assert_eq!(read(&reader, &key, &database).await.as_deref(), Some("new"));
    assert!(reader.stats().l2_errors > 0 && writer.stats().l2_errors > 0);
    nodes.restart().await;
    until(async || writer.invalidate(&key).await.is_ok()).await;
    for node in [&writer, &reader, &nodes.node().await] {
        assert_eq!(read(node, &key, &database).await.as_deref(), Some("new"));
    }
}
