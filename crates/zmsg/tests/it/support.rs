//! An engine on a directory of its own, and a store that can be held, counted and made to fail.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use zmsg::aggregate::sqlite_functions;
use zmsg::core::Statement;
use zmsg::sqlbuilder::Dialect;
use zmsg::store::{Outcome, SqlStore, SqliteOptions, SqliteStore, Step, StepError};
use zmsg::{Config, Error, ErrorKind, Result, Row, Zmsg, sql};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// An engine, its directory, and the store it runs on.
pub(crate) struct Engine {
    pub(crate) zmsg: Zmsg,
    pub(crate) store: Arc<Watched>,
    pub(crate) dir: TempDir,
}

/// A configuration for tests: the periodic route flushes only when it is told to.
pub(crate) fn config(dir: &Path) -> Config {
    let mut config = Config::embedded(dir);
    config.periodic.interval = Duration::from_secs(3600);
    config.periodic.age_max = Duration::from_secs(3600);
    config.queue.delay = Duration::ZERO;
    // The tests bring their own store, and share it with nobody.
    config.filter.single_node = true;
    config
}

impl Engine {
    pub(crate) async fn open() -> Self {
        Self::with(|_| {}).await
    }

    /// An engine with a table `feeds` that serves the keys `feed_…`.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        change(&mut config);
        Self::on(dir, config).await
    }

    pub(crate) async fn on(dir: TempDir, config: Config) -> Self {
        let store = Watched::open(&dir.path().join("zmsg.db")).await;
        let zmsg = Zmsg::builder(config).store(store.clone()).open().await.unwrap();
        let create = "CREATE TABLE IF NOT EXISTS feeds (id TEXT PRIMARY KEY, data TEXT, likes INTEGER, tags TEXT, meta TEXT)";
        zmsg.sql_exec(sql(create, ())).await.unwrap();
        zmsg.source("feed", "SELECT data FROM feeds WHERE id = ?").unwrap();
        Self { zmsg, store, dir }
    }

    /// Closes the engine and opens another on the same directory.
    pub(crate) async fn reopen(self) -> Self {
        let report = self.zmsg.close(DEADLINE).await.unwrap();
        assert!(report.is_clean(), "{report:?}");
        let config = config(self.dir.path());
        Self::on(self.dir, config).await
    }

    /// A row of `feeds`, by the store route.
    pub(crate) async fn insert(&self, id: &str, data: &str) {
        let _ = self.zmsg.cache_and_store(id, data, insert(id, data)).await.unwrap();
    }

    /// What the table holds, past every cache.
    pub(crate) async fn data(&self, id: &str) -> Option<String> {
        let rows = self.rows("SELECT data FROM feeds WHERE id = ?", id).await;
        rows.first().map(|row| row.text(0).unwrap().to_owned())
    }

    pub(crate) async fn likes(&self, id: &str) -> i64 {
        let rows = self.rows("SELECT likes FROM feeds WHERE id = ?", id).await;
        rows[0].int(0).unwrap()
    }

    pub(crate) async fn count(&self, query: &str) -> i64 {
        let rows = self.store.inner.fetch(&Statement::query(query, vec![])).await.unwrap();
        rows[0].int(0).unwrap()
    }

    async fn rows(&self, query: &str, id: &str) -> Vec<Row> {
        self.store.inner.fetch(&Statement::query(query, vec![id.into()])).await.unwrap()
    }

    /// What `get` gives, as text.
    pub(crate) async fn get(&self, key: &str) -> Option<String> {
        let bytes = self.zmsg.get(key).await.unwrap()?;
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    }
}

pub(crate) fn insert(id: &str, data: &str) -> zmsg::Sql {
    sql("INSERT INTO feeds (id, data, likes) VALUES (?, ?, 0)", (id, data))
        .on_conflict("id")
        .do_update("data")
}

/// Waits until `ready` holds; a test that waits in vain fails with what it waited for.
pub(crate) async fn eventually<F, Fut>(what: &str, mut ready: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !ready().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain: {what}");
}

/// What the next transactions do instead of succeeding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not executed; the database is away.
    Unavailable,
    /// Executed, and the answer to the commit is lost.
    AnswerLost,
}

/// A real store that counts, and that can be held or made to fail in ways that a healthy SQLite
/// does not show.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) inner: SqliteStore,
    /// Queries of the table `feeds`.
    pub(crate) fetches: AtomicU64,
    pub(crate) transactions: AtomicU64,
    /// Transactions of `feeds` that were sent, those that are held included.
    pub(crate) sent: AtomicU64,
    faults: Mutex<Vec<(&'static str, Fault)>>,
    reads: Semaphore,
    writes: Semaphore,
}

const OPEN: usize = 1 << 20;

impl Watched {
    pub(crate) async fn open(path: &Path) -> Arc<Self> {
        let options = SqliteOptions { functions: sqlite_functions(), ..SqliteOptions::new(path) };
        Arc::new(Self {
            inner: SqliteStore::open(options).await.unwrap(),
            fetches: AtomicU64::new(0),
            transactions: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            faults: Mutex::default(),
            reads: Semaphore::new(OPEN),
            writes: Semaphore::new(OPEN),
        })
    }

    /// The next transaction that touches `feeds` fails.
    pub(crate) fn fail_next(&self, fault: Fault) {
        self.fail_next_of("feeds", fault);
    }

    /// The next transaction that touches `table` fails.
    pub(crate) fn fail_next_of(&self, table: &'static str, fault: Fault) {
        self.faults.lock().unwrap().push((table, fault));
    }

    pub(crate) fn faults_left(&self) -> usize {
        self.faults.lock().unwrap().len()
    }

    fn fault_of(&self, steps: &[Step]) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let meant = |(table, _): &(&str, Fault)| {
            steps.iter().any(|step| step.statement.text.contains(table))
        };
        let index = faults.iter().position(meant)?;
        Some(faults.remove(index).1)
    }

    /// Reads of feeds answer only after `release_reads`: they have read, and wait to return.
    pub(crate) async fn hold_reads(&self) {
        self.reads.acquire_many(OPEN as u32).await.unwrap().forget();
    }

    pub(crate) fn release_reads(&self) {
        self.reads.add_permits(OPEN);
    }

    /// Transactions wait before they begin.
    pub(crate) async fn hold_writes(&self) {
        self.writes.acquire_many(OPEN as u32).await.unwrap().forget();
    }

    pub(crate) fn release_writes(&self) {
        self.writes.add_permits(OPEN);
    }
}

#[async_trait]
impl SqlStore for Watched {
    fn dialect(&self) -> Dialect {
        self.inner.dialect()
    }

    async fn fetch(&self, query: &Statement) -> Result<Vec<Row>> {
        let rows = self.inner.fetch(query).await;
        if query.text.contains("FROM feeds") {
            self.fetches.fetch_add(1, SeqCst);
            drop(self.reads.acquire().await.unwrap());
        }
        rows
    }

    async fn execute(&self, statement: &Statement) -> Result<Outcome> {
        self.inner.execute(statement).await
    }

    async fn execute_all(&self, steps: Vec<Step>) -> Result<Vec<Outcome>, StepError> {
        if steps.iter().any(|step| step.statement.text.contains("feeds")) {
            self.sent.fetch_add(1, SeqCst);
        }
        drop(self.writes.acquire().await.unwrap());
        self.transactions.fetch_add(1, SeqCst);
        let error = Error::new(ErrorKind::Unavailable, "a fault that the test asked for");
        let failed = |error| Err(StepError { step: None, error });
        match self.fault_of(&steps) {
            None => self.inner.execute_all(steps).await,
            Some(Fault::Unavailable) => failed(error.temporary()),
            Some(Fault::AnswerLost) => {
                self.inner.execute_all(steps).await?;
                failed(error.outcome_unknown())
            }
        }
    }

    fn stats(&self) -> zmsg::store::StoreStats {
        self.inner.stats()
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
