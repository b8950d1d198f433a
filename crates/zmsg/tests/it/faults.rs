//! Parts that fail: a remote cache that is away, a background task that died.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use zmsg::cache::{HoldToken, Lookup, MemoryRemote, RemoteCache, Stretch};
use zmsg::core::SystemClock;
use zmsg::{Error, ErrorKind, Key, Level, Result, Zmsg, sql};

use crate::support::{DEADLINE, Engine, config, eventually, insert};

/// A remote cache whose network can be cut.
#[derive(Debug)]
struct Cut {
    inner: MemoryRemote,
    away: AtomicBool,
}

impl Cut {
    fn new() -> Arc<Self> {
        let inner = MemoryRemote::new(Arc::new(SystemClock));
        Arc::new(Self { inner, away: AtomicBool::new(false) })
    }

    fn reach(&self) -> Result<&MemoryRemote> {
        if self.away.load(SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the network is cut").temporary());
        }
        Ok(&self.inner)
    }
}

#[async_trait]
impl RemoteCache for Cut {
    fn level(&self) -> Level {
        self.inner.level()
    }
    async fn get(&self, key: &Key) -> Result<Lookup> {
        self.reach()?.get(key).await
    }
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Lookup>> {
        self.reach()?.get_many(keys).await
    }
    async fn fill(
        &self,
        key: &Key,
        value: Option<&Bytes>,
        ttl: Duration,
        since: Stretch,
    ) -> Result<bool> {
        self.reach()?.fill(key, value, ttl, since).await
    }
    async fn hold(&self, key: &Key, token: HoldToken, ttl: Duration) -> Result<()> {
        self.reach()?.hold(key, token, ttl).await
    }
    async fn publish(
        &self,
        key: &Key,
        token: HoldToken,
        value: Option<&Bytes>,
        ttl: Duration,
    ) -> Result<bool> {
        self.reach()?.publish(key, token, value, ttl).await
    }
    async fn set(&self, key: &Key, value: &Bytes, ttl: Duration) -> Result<()> {
        self.reach()?.set(key, value, ttl).await
    }
    async fn invalidate(&self, key: &Key, hold: Duration) -> Result<()> {
        self.reach()?.invalidate(key, hold).await
    }
}

#[tokio::test]
async fn a_write_succeeds_without_the_remote_cache_and_its_invalidation_is_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let remote = Cut::new();
    let mut config = config(dir.path());
    config.queue.retry_base = Duration::from_millis(5);
    config.queue.retry_cap = Duration::from_millis(20);
    let zmsg = Zmsg::builder(config).remote(remote.clone()).open().await.unwrap();
    let _ = zmsg.put("greeting", "old").await.unwrap();
    let key = Key::new("greeting").unwrap();
    assert!(remote.inner.get(&key).await.unwrap().entry.is_some(), "L2 has the old value");

    remote.away.store(true, SeqCst);
    let _ = zmsg.put("greeting", "new").await.unwrap();
    assert_eq!(zmsg.get("greeting").await.unwrap().as_deref(), Some(&b"new"[..]));
    remote.away.store(false, SeqCst);
    eventually("the repair took the old value out of L2", || async {
        remote.inner.get(&key).await.unwrap().entry.is_none()
    })
    .await;
    assert_eq!(zmsg.get("greeting").await.unwrap().as_deref(), Some(&b"new"[..]));
    assert!(zmsg.close(DEADLINE).await.unwrap().is_clean());
}

#[tokio::test]
async fn reads_go_to_the_source_while_the_remote_cache_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let remote = Cut::new();
    let zmsg = Zmsg::builder(config(dir.path())).remote(remote.clone()).open().await.unwrap();
    let _ = zmsg.put("greeting", "hello").await.unwrap();
    let _ = zmsg.del("greeting").await.unwrap();
    remote.away.store(true, SeqCst);
    assert_eq!(zmsg.get("greeting").await.unwrap().as_deref(), Some(&b"hello"[..]));
    assert!(zmsg.stats().await.cache.l2_errors > 0, "and the statistics say so");
}

#[tokio::test]
async fn a_failed_background_task_makes_writes_fail_instead_of_piling_up() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    engine.zmsg.sql_exec(sql("DROP TABLE zmsg_tasks", ())).await.unwrap();
    eventually("the worker has noticed", || async {
        let write = engine.zmsg.cache_and_store("feed_1", "x", insert("feed_1", "x")).await;
        write.is_err_and(|error| error.to_string().contains("background task"))
    })
    .await;
    let delayed = engine.zmsg.cache_and_delay_store("feed_1", "x", insert("feed_1", "x")).await;
    assert_eq!(delayed.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(engine.get("feed_1").await.is_some(), "reads go on");
}
