//! A database of a test's own, on either backend, with zmsg's tables in it.

use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;
use tokio_util::task::TaskTracker;
use zmsg_core::{Clock, ManualClock, Statement, SystemClock};
use zmsg_queue::conformance::{Harness, InspectHarness, Inspected, Limits};
use zmsg_queue::{QueueClock, SqlQueueOptions, SqlTaskQueue, TaskQueue};
use zmsg_store::{
    Migrations, Migrator, PostgresOptions, PostgresStore, SqlStore, SqliteOptions, SqliteStore,
};
use zmsg_testbed::Database;

pub(crate) struct Db {
    place: Place,
    clock: Arc<ManualClock>,
}

enum Place {
    Sqlite(TempDir),
    Postgres(Database),
}

impl Db {
    pub(crate) fn sqlite() -> Self {
        Self::at(Place::Sqlite(TempDir::new().expect("a directory")))
    }

    /// One on SQLite, and one on PostgreSQL where there is a server.
    pub(crate) async fn each() -> Vec<Self> {
        [Some(Self::sqlite()), Self::postgres().await].into_iter().flatten().collect()
    }

    /// A database on the server of the tests; `None` where there is no server.
    pub(crate) async fn postgres() -> Option<Self> {
        let server = zmsg_testbed::postgres()?;
        Some(Self::at(Place::Postgres(server.database().await)))
    }

    fn at(place: Place) -> Self {
        Self { place, clock: Arc::new(ManualClock::new(1_000_000)) }
    }

    /// A store on the database, with zmsg's tables.
    pub(crate) async fn store(&self) -> Arc<dyn SqlStore> {
        let store = self.empty_store().await;
        migrate(&store).await;
        store
    }

    /// A store on the database as it is.
    pub(crate) async fn empty_store(&self) -> Arc<dyn SqlStore> {
        match &self.place {
            Place::Sqlite(dir) => {
                let options = SqliteOptions::new(dir.path().join("zmsg.db"));
                Arc::new(SqliteStore::open(options).await.expect("open"))
            }
            Place::Postgres(database) => postgres_at(database.url()).await,
        }
    }

    /// The database on the server, for those who look at it by themselves.
    pub(crate) fn database(&self) -> &Database {
        match &self.place {
            Place::Postgres(database) => database,
            Place::Sqlite(_) => panic!("not on a server"),
        }
    }

    /// Where another process finds it.
    pub(crate) fn place(&self) -> String {
        match &self.place {
            Place::Sqlite(dir) => dir.path().join("zmsg.db").display().to_string(),
            Place::Postgres(database) => database.url().to_owned(),
        }
    }

    /// A queue with this database's manual clock.
    pub(crate) fn queue_on(&self, store: Arc<dyn SqlStore>) -> Arc<SqlTaskQueue> {
        self.bounded_queue_on(store, SqlQueueOptions::default())
    }

    /// As `queue_on`, with bounds.
    pub(crate) fn bounded_queue_on(
        &self,
        store: Arc<dyn SqlStore>,
        options: SqlQueueOptions,
    ) -> Arc<SqlTaskQueue> {
        let options = SqlQueueOptions { clock: QueueClock::Given, ..options };
        Arc::new(SqlTaskQueue::new(store, self.clock.clone(), options).expect("a queue"))
    }

    pub(crate) fn clock(&self) -> Arc<ManualClock> {
        self.clock.clone()
    }
}

/// A store on a database of another process.
pub(crate) async fn store_at(place: &str) -> Arc<dyn SqlStore> {
    if place.starts_with("postgres") {
        return postgres_at(place).await;
    }
    Arc::new(SqliteStore::open(SqliteOptions::new(place)).await.expect("open"))
}

pub(crate) async fn postgres_at(url: &str) -> Arc<dyn SqlStore> {
    let options = PostgresOptions::new(url);
    Arc::new(PostgresStore::open(options, TaskTracker::new()).await.expect("open"))
}

pub(crate) async fn migrate(store: &Arc<dyn SqlStore>) {
    let migrations = Migrations::zmsg(store.dialect());
    Migrator::new(store.clone(), migrations).up().await.expect("migrate");
}

/// A queue in real time, as a node of its own has it.
pub(crate) fn node(store: Arc<dyn SqlStore>) -> Arc<SqlTaskQueue> {
    node_with(store, Arc::new(SystemClock))
}

/// A node whose clock shows what it likes.
pub(crate) fn node_with(store: Arc<dyn SqlStore>, clock: Arc<dyn Clock>) -> Arc<SqlTaskQueue> {
    let options = SqlQueueOptions::default();
    Arc::new(SqlTaskQueue::new(store, clock, options).expect("a queue"))
}

/// Runs statements without binds.
pub(crate) async fn run(store: &Arc<dyn SqlStore>, texts: &[&str]) {
    for text in texts {
        store.execute(&Statement::new(*text, vec![])).await.expect(text);
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let is_sqlite = matches!(self.place, Place::Sqlite(_));
            eprintln!("on a database of {}", if is_sqlite { "SQLite" } else { "PostgreSQL" });
        }
    }
}

#[async_trait]
impl Harness for Db {
    async fn open(&self, limits: Limits) -> Arc<dyn TaskQueue> {
        self.bounded_queue_on(self.store().await, bounds(limits))
    }

    fn clock(&self) -> Arc<ManualClock> {
        self.clock.clone()
    }
}

#[async_trait]
impl InspectHarness for Db {
    async fn open_inspected(&self, limits: Limits) -> Arc<dyn Inspected> {
        self.bounded_queue_on(self.store().await, bounds(limits))
    }
}

fn bounds(limits: Limits) -> SqlQueueOptions {
    let (tasks_max, dead_max) = (limits.tasks_max.into(), limits.dead_max.into());
    SqlQueueOptions { tasks_max, dead_max, ..SqlQueueOptions::default() }
}
