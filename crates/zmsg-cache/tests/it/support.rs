//! A database of one table, origins that a test holds open, and an L2 that a test breaks.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Mutex as Gate, MutexGuard, Semaphore, oneshot};
use tokio_util::task::TaskTracker;
use zmsg_cache::{
    CachePolicy, HoldToken, Lookup, MemoryRemote, NoRemote, Origin, QuickCache, RemoteCache,
    Stretch, TieredCache,
};
use zmsg_core::{Clock, Error, ErrorKind, Key, Level, ManualClock, Result};

pub(crate) fn key(name: impl fmt::Display) -> Key {
    Key::new(format!("feed_{name}")).unwrap()
}

pub(crate) fn bytes(text: impl Into<String>) -> Bytes {
    Bytes::from(text.into())
}

/// What a get answers for this text.
pub(crate) fn some(text: &str) -> Option<Bytes> {
    Some(bytes(text))
}

/// A policy without chance.
pub(crate) fn policy() -> CachePolicy {
    CachePolicy { jitter: 0.0, ..CachePolicy::default() }
}

/// Several nodes with a clock that the test moves, and one L2 or none.
pub(crate) struct Cluster {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) remote: Arc<dyn RemoteCache>,
    pub(crate) tracker: TaskTracker,
}

impl Cluster {
    pub(crate) fn alone() -> Self {
        Self { remote: Arc::new(NoRemote), ..Self::sharing() }
    }

    pub(crate) fn sharing() -> Self {
        let clock = Arc::new(ManualClock::new(0));
        let remote = Arc::new(MemoryRemote::new(clock.clone()));
        Self { clock, remote, tracker: TaskTracker::new() }
    }

    /// Shares an L2 that can be broken.
    pub(crate) fn flaky() -> (Self, Arc<FlakyRemote>) {
        let cluster = Self::sharing();
        let flaky = Arc::new(FlakyRemote::new(cluster.remote.clone()));
        (Self { remote: flaky.clone(), ..cluster }, flaky)
    }

    pub(crate) fn node(&self) -> TieredCache {
        self.node_with(policy())
    }

    pub(crate) fn node_with(&self, policy: CachePolicy) -> TieredCache {
        let local = Arc::new(QuickCache::new(8 << 20, 10_000));
        let clock: Arc<dyn Clock> = self.clock.clone();
        TieredCache::new(local, self.remote.clone(), policy, clock, self.tracker.clone())
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.clock.advance(u64::try_from(time.as_millis()).unwrap());
    }

    /// Waits until every task that the caches started has ended.
    pub(crate) async fn quiet(&self) {
        self.tracker.close();
        self.tracker.wait().await;
        self.tracker.reopen();
    }
}

/// Committed rows, by key.
#[derive(Debug, Default)]
pub(crate) struct Database {
    rows: Mutex<HashMap<Key, Bytes>>,
    loads: AtomicUsize,
}

impl Database {
    pub(crate) fn with(rows: &[(&Key, &str)]) -> Arc<Self> {
        let database = Arc::new(Self::default());
        rows.iter().for_each(|(key, text)| database.commit(key, some(text)));
        database
    }

    pub(crate) fn commit(&self, key: &Key, value: Option<Bytes>) {
        let mut rows = self.rows.lock().unwrap();
        match value {
            Some(value) => rows.insert(key.clone(), value),
            None => rows.remove(key),
        };
    }

    pub(crate) fn row(&self, key: &Key) -> Option<Bytes> {
        self.rows.lock().unwrap().get(key).cloned()
    }

    pub(crate) fn loads(&self) -> usize {
        self.loads.load(SeqCst)
    }

    pub(crate) fn origin(self: &Arc<Self>) -> Arc<dyn Origin> {
        self.clone()
    }

    fn load_now(&self, key: &Key) -> Option<Bytes> {
        self.loads.fetch_add(1, SeqCst);
        self.row(key)
    }
}

#[async_trait]
impl Origin for Database {
    async fn load(&self, key: &Key) -> Result<Option<Bytes>> {
        Ok(self.load_now(key))
    }
}

/// An origin that reads the database and then waits to be let go with what it read.
#[derive(Debug)]
pub(crate) struct Paused {
    database: Arc<Database>,
    has_read: Semaphore,
    may_go: Semaphore,
}

impl Paused {
    pub(crate) fn new(database: &Arc<Database>) -> Arc<Self> {
        let (has_read, may_go) = (Semaphore::new(0), Semaphore::new(0));
        Arc::new(Self { database: database.clone(), has_read, may_go })
    }

    pub(crate) fn origin(self: &Arc<Self>) -> Arc<dyn Origin> {
        self.clone()
    }

    /// Returns when one more load has read the database.
    pub(crate) async fn read(&self) {
        self.has_read.acquire().await.unwrap().forget();
    }

    /// Lets one load go.
    pub(crate) fn go(&self) {
        self.may_go.add_permits(1);
    }
}

#[async_trait]
impl Origin for Paused {
    async fn load(&self, key: &Key) -> Result<Option<Bytes>> {
        let value = self.database.load_now(key);
        self.has_read.add_permits(1);
        self.may_go.acquire().await.unwrap().forget();
        Ok(value)
    }
}

/// Starts a read on a task of its own.
pub(crate) fn reading(
    cluster: &Cluster,
    node: &TieredCache,
    key: &Key,
    origin: Arc<dyn Origin>,
) -> oneshot::Receiver<Result<Option<Bytes>>> {
    let (answer, answered) = oneshot::channel();
    let (node, key) = (node.clone(), key.clone());
    cluster.tracker.spawn(async move {
        let _ = answer.send(node.get_or_load(&key, &origin).await);
    });
    answered
}

/// An L2 that fails while it is broken: writes perhaps after they took effect.
#[derive(Debug)]
pub(crate) struct FlakyRemote {
    inner: Arc<dyn RemoteCache>,
    broken: AtomicBool,
    /// Whether a failing write takes effect.
    applies: AtomicBool,
    /// Who has it lets no read pass.
    gate: Gate<()>,
}

impl FlakyRemote {
    fn new(inner: Arc<dyn RemoteCache>) -> Self {
        let [broken, applies] = [false, false].map(AtomicBool::new);
        Self { inner, broken, applies, gate: Gate::new(()) }
    }

    /// Reads wait until what it gives is dropped.
    pub(crate) fn stop_reads(&self) -> MutexGuard<'_, ()> {
        self.gate.try_lock().expect("no read is under way")
    }

    pub(crate) fn set_broken(&self, broken: bool) {
        self.broken.store(broken, SeqCst);
    }

    pub(crate) fn set_applies(&self, applies: bool) {
        self.applies.store(applies, SeqCst);
    }

    async fn write<T>(&self, effect: impl Future<Output = Result<T>> + Send) -> Result<T> {
        if !self.broken.load(SeqCst) {
            return effect.await;
        }
        if self.applies.load(SeqCst) {
            effect.await?;
        }
        Err(away())
    }

    async fn read<T>(&self, answer: impl Future<Output = Result<T>> + Send) -> Result<T> {
        drop(self.gate.lock().await);
        if self.broken.load(SeqCst) { Err(away()) } else { answer.await }
    }
}

fn away() -> Error {
    Error::new(ErrorKind::Unavailable, "the remote cache is away").temporary()
}

#[async_trait]
impl RemoteCache for FlakyRemote {
    fn level(&self) -> Level {
        self.inner.level()
    }

    async fn get(&self, key: &Key) -> Result<Lookup> {
        self.read(self.inner.get(key)).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Lookup>> {
        self.read(self.inner.get_many(keys)).await
    }

    async fn fill(
        &self,
        key: &Key,
        value: Option<&Bytes>,
        ttl: Duration,
        since: Stretch,
    ) -> Result<bool> {
        self.write(self.inner.fill(key, value, ttl, since)).await
    }

    async fn hold(&self, key: &Key, token: HoldToken, ttl: Duration) -> Result<()> {
        self.write(self.inner.hold(key, token, ttl)).await
    }

    async fn publish(
        &self,
        key: &Key,
        token: HoldToken,
        value: Option<&Bytes>,
        ttl: Duration,
    ) -> Result<bool> {
        self.write(self.inner.publish(key, token, value, ttl)).await
    }

    async fn set(&self, key: &Key, value: &Bytes, ttl: Duration) -> Result<()> {
        self.write(self.inner.set(key, value, ttl)).await
    }

    async fn invalidate(&self, key: &Key, hold: Duration) -> Result<()> {
        self.write(self.inner.invalidate(key, hold)).await
    }
}
