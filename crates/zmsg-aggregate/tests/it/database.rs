//! A fresh database with a table of feeds, and an aggregator on it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio_util::task::TaskTracker;
use zmsg_aggregate::{
    Aggregator, DeadLetters, FlushGuard, FlushObserver, FlushPolicy, sqlite_functions,
};
use zmsg_core::{
    Error, IntoTask, Key, Level, ManualClock, Receipt, Result, Settlement, Statement, TaskId, Value,
};
use zmsg_sqlbuilder::{Dialect, OpBuilder, counter};
use zmsg_store::{Migrations, Migrator, SqlStore, SqliteOptions, SqliteStore, Synchronous};

use crate::flaky::Flaky;

/// A fresh database file with an aggregator.
pub(crate) struct Database {
    pub(crate) store: Arc<Flaky>,
    pub(crate) aggregator: Aggregator,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) observer: Arc<Observed>,
    pub(crate) tracker: TaskTracker,
    _dir: tempfile::TempDir,
}

/// Remembers what was flushed; panics when told to.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) keys: Mutex<Vec<String>>,
    pub(crate) panics: AtomicBool,
    /// Guards of flushes that are on their way.
    pub(crate) guards: Arc<AtomicUsize>,
}

/// Counts itself for as long as it is kept.
#[derive(Debug)]
struct Guard(Arc<AtomicUsize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[async_trait]
impl FlushObserver for Observed {
    async fn flushing(&self, keys: &[Key]) -> Result<FlushGuard> {
        assert!(!keys.iter().any(|key| key.as_str() == "feed_panic"), "a test asked for it");
        self.guards.fetch_add(1, SeqCst);
        Ok(Box::new(Guard(Arc::clone(&self.guards))))
    }

    async fn flushed(&self, keys: &[Key]) {
        assert!(!self.panics.load(SeqCst), "the observer panics because a test asked for it");
        self.keys.lock().unwrap().extend(keys.iter().map(Key::to_string));
    }
}

/// A file with zmsg's tables and `feeds`, and the store on it.
pub(crate) async fn feeds_store(dir: &std::path::Path) -> Arc<dyn SqlStore> {
    let options = SqliteOptions {
        functions: sqlite_functions(),
        synchronous: Synchronous::Normal,
        ..SqliteOptions::new(dir.join("feeds.db"))
    };
    let store: Arc<dyn SqlStore> = Arc::new(SqliteStore::open(options).await.unwrap());
    Migrator::new(Arc::clone(&store), Migrations::zmsg(Dialect::Sqlite)).up().await.unwrap();
    let feeds = "CREATE TABLE feeds (id TEXT PRIMARY KEY, likes INTEGER, views INTEGER, \
                 score REAL, tags TEXT, meta TEXT, body TEXT) STRICT";
    store.execute(&Statement::new(feeds, vec![])).await.unwrap();
    store
}

impl Database {
    pub(crate) async fn open() -> Self {
        Self::open_with(FlushPolicy::default()).await
    }

    /// With five feeds, `a` to `e`.
    pub(crate) async fn open_with(policy: FlushPolicy) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Flaky::new(feeds_store(dir.path()).await));
        let clock = Arc::new(ManualClock::new(1_000_000));
        let (observer, tracker) = (Arc::<Observed>::default(), TaskTracker::new());
        let aggregator = Aggregator::open(
            store.clone(),
            policy,
            clock.clone(),
            observer.clone(),
            tracker.clone(),
        );
        let aggregator = aggregator.await.unwrap();
        let database = Self { store, aggregator, clock, observer, tracker, _dir: dir };
        for id in ["a", "b", "c", "d", "e"] {
            database.run("INSERT INTO feeds (id) VALUES (?)", vec![id.into()]).await;
        }
        database
    }

    pub(crate) async fn run(&self, text: &str, binds: Vec<Value>) {
        self.store.execute(&Statement::new(text, binds)).await.unwrap();
    }

    /// One value; NULL if there is no row.
    pub(crate) async fn value(&self, text: &str) -> Value {
        let rows = self.store.fetch(&Statement::query(text, vec![])).await.unwrap();
        rows.first().map_or(Value::Null, |row| row.at(0).unwrap().clone())
    }

    pub(crate) async fn int(&self, text: &str) -> Option<i64> {
        self.value(text).await.as_int()
    }

    pub(crate) async fn likes(&self, id: &str) -> Option<i64> {
        self.int(&format!("SELECT likes FROM feeds WHERE id = '{id}'")).await
    }

    /// Submits without a cache key.
    pub(crate) fn submit(&self, task: impl IntoTask) -> Receipt {
        self.try_submit(task).unwrap()
    }

    pub(crate) fn try_submit(&self, task: impl IntoTask) -> Result<Receipt> {
        self.aggregator.submit(None, task.into_task()?).map(receipt)
    }

    pub(crate) fn submit_for(&self, key: &str, task: impl IntoTask) -> Receipt {
        let key = Key::new(key).unwrap();
        receipt(self.aggregator.submit(Some(&key), task.into_task().unwrap()).unwrap())
    }

    pub(crate) fn letters(&self) -> DeadLetters {
        DeadLetters::new(self.store.clone())
    }
}

pub(crate) fn receipt(settlement: Settlement) -> Receipt {
    Receipt::accepted(TaskId::generate(), Level::Memory, settlement)
}

/// One like.
pub(crate) fn like(id: &str) -> OpBuilder {
    counter("feeds", "likes").inc(1).where_eq("id", id)
}

/// The error that a write was settled with.
pub(crate) async fn refusal(receipt: &Receipt) -> Error {
    receipt.applied().await.unwrap_err()
}
