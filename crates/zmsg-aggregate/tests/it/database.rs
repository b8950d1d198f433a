//! A fresh database with a table of feeds, and an aggregator on it: on SQLite or on PostgreSQL, as
//! the suite that this file is part of says.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio_util::task::TaskTracker;
use zmsg_aggregate::{
    Aggregator, DeadLetters, FlushObserver, FlushPolicy, Flushing, Submitted, sqlite_functions,
};
use zmsg_core::{
    Error, IntoTask, Key, Level, ManualClock, Receipt, Result, Statement, TaskId, Value,
};
use zmsg_sqlbuilder::{OpBuilder, counter};
use zmsg_store::{
    Migrations, Migrator, PostgresOptions, PostgresStore, SqlStore, SqliteOptions, SqliteStore,
    Synchronous,
};

use crate::flaky::Flaky;

/// Where a database is.
#[derive(Default)]
struct Place {
    _dir: Option<tempfile::TempDir>,
    _server: Option<zmsg_testbed::Database>,
}

/// A fresh database with five feeds, `a` to `e`, and an aggregator; leaves the test out if there
/// is no server for it.
macro_rules! open {
    () => {
        open!(zmsg_aggregate::FlushPolicy::default())
    };
    ($policy:expr) => {
        match $crate::database::Database::open_with($policy).await {
            Some(database) => database,
            None => return,
        }
    };
}
pub(crate) use open;

/// A fresh database with an aggregator.
pub(crate) struct Database {
    pub(crate) store: Arc<Flaky>,
    pub(crate) aggregator: Aggregator,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) observer: Arc<Observed>,
    pub(crate) tracker: TaskTracker,
    /// Dropped with it.
    _place: Place,
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

impl zmsg_aggregate::Hold for Guard {}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[async_trait]
impl FlushObserver for Observed {
    async fn flushing(&self, keys: &[Key]) -> Result<Flushing> {
        assert!(!keys.iter().any(|key| key.as_str() == "feed_panic"), "a test asked for it");
        self.guards.fetch_add(1, SeqCst);
        let guard = Box::new(Guard(Arc::clone(&self.guards)));
        Ok(Flushing { guard, checks: Vec::new() })
    }

    async fn flushed(&self, keys: &[Key]) {
        assert!(!self.panics.load(SeqCst), "the observer panics because a test asked for it");
        self.keys.lock().unwrap().extend(keys.iter().map(Key::to_string));
    }
}

/// A file with zmsg's tables and `feeds`, and the store on it.
async fn sqlite(dir: &std::path::Path) -> Arc<dyn SqlStore> {
    let options = SqliteOptions {
        functions: sqlite_functions(),
        synchronous: Synchronous::Normal,
        ..SqliteOptions::new(dir.join("feeds.db"))
    };
    Arc::new(SqliteStore::open(options).await.unwrap())
}

/// A store on a database of a server.
pub(crate) async fn postgres(url: &str, tracker: &TaskTracker) -> Arc<dyn SqlStore> {
    let options = PostgresOptions::new(url);
    Arc::new(PostgresStore::open(options, tracker.clone()).await.unwrap())
}

/// Makes zmsg's tables and `feeds`, with five of them.
pub(crate) async fn create_feeds(store: &Arc<dyn SqlStore>) {
    let migrations = Migrations::zmsg(store.dialect());
    Migrator::new(Arc::clone(store), migrations).up().await.unwrap();
    let feeds = "CREATE TABLE feeds (id TEXT PRIMARY KEY, likes INTEGER, views INTEGER, \
                 score REAL, tags TEXT, meta TEXT, body TEXT) STRICT";
    let fill = "INSERT INTO feeds (id) VALUES ('a'), ('b'), ('c'), ('d'), ('e')";
    for text in [feeds, fill] {
        store.execute(&Statement::new(portable(text), vec![])).await.unwrap();
    }
}

/// A definition as this suite's database wants it.
fn portable(text: &str) -> String {
    if !crate::ON_A_SERVER || !text.starts_with("CREATE TABLE") {
        return text.to_owned();
    }
    text.replace(" STRICT", "").replace("INTEGER", "bigint").replace("REAL", "double precision")
}

impl Database {
    /// `None` if there is no server and none is required.
    pub(crate) async fn open_with(policy: FlushPolicy) -> Option<Self> {
        let tracker = TaskTracker::new();
        let (place, store) = if crate::ON_A_SERVER {
            let database = zmsg_testbed::postgres()?.database().await;
            let store = postgres(database.url(), &tracker).await;
            (Place { _server: Some(database), ..Place::default() }, store)
        } else {
            let dir = tempfile::tempdir().unwrap();
            let store = sqlite(dir.path()).await;
            (Place { _dir: Some(dir), ..Place::default() }, store)
        };
        create_feeds(&store).await;
        Some(Self::over(store, place, policy, tracker).await)
    }

    async fn over(
        store: Arc<dyn SqlStore>,
        place: Place,
        policy: FlushPolicy,
        tracker: TaskTracker,
    ) -> Self {
        let store = Arc::new(Flaky::new(store));
        let clock = Arc::new(ManualClock::new(1_000_000));
        let observer = Arc::<Observed>::default();
        let aggregator = Aggregator::open(
            store.clone(),
            policy,
            clock.clone(),
            observer.clone(),
            tracker.clone(),
        );
        let aggregator = aggregator.await.unwrap();
        Self { store, aggregator, clock, observer, tracker, _place: place }
    }

    pub(crate) async fn run(&self, text: &str, binds: Vec<Value>) {
        self.store.execute(&Statement::new(portable(text), binds)).await.unwrap();
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

pub(crate) fn receipt(submitted: Submitted) -> Receipt {
    Receipt::accepted(TaskId::generate(), Level::Memory, submitted.settlement)
}

/// One like.
pub(crate) fn like(id: &str) -> OpBuilder {
    counter("feeds", "likes").inc(1).where_eq("id", id)
}

/// The error that a write was settled with.
pub(crate) async fn refusal(receipt: &Receipt) -> Error {
    receipt.applied().await.unwrap_err()
}
