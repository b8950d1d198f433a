//! A fresh database on a server, and aggregators on it: one process each.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_aggregate::{Aggregator, FlushObserver, FlushPolicy, Unobserved};
use zmsg_core::{Backoff, IntoTask, Result, Statement, SystemClock};
use zmsg_store::{PostgresOptions, PostgresStore, SqlStore};

use crate::database::create_feeds;

/// A fresh database with zmsg's tables, `feeds`, and `counts` with the rows 1 to 100.
pub(crate) struct Server {
    /// A way to the database that no fault is in.
    pub(crate) store: Arc<dyn SqlStore>,
    pub(crate) database: zmsg_testbed::Database,
    pub(crate) tracker: TaskTracker,
}

/// One process: an aggregator, and the loop that flushes.
pub(crate) struct Node {
    pub(crate) aggregator: Aggregator,
    shutdown: CancellationToken,
    flusher: JoinHandle<Result<()>>,
}

impl Server {
    /// `None` if there is no server and none is required.
    pub(crate) async fn open() -> Option<Self> {
        Some(Self::on(&zmsg_testbed::postgres()?).await)
    }

    /// A fresh database on this server.
    pub(crate) async fn on(server: &zmsg_testbed::Postgres) -> Self {
        let database = server.database().await;
        let tracker = TaskTracker::new();
        let store = connect(PostgresOptions::new(database.url()), &tracker).await;
        create_feeds(&store).await;
        let server = Self { store, database, tracker };
        server.run("CREATE TABLE counts (id bigint PRIMARY KEY, n bigint)").await;
        server.run("INSERT INTO counts SELECT i, 0 FROM generate_series(1, 100) AS i").await;
        server
    }

    pub(crate) async fn run(&self, text: &str) {
        self.store.execute(&Statement::new(text, vec![])).await.unwrap();
    }

    pub(crate) async fn int(&self, text: &str) -> i64 {
        let rows = self.store.fetch(&Statement::query(text, vec![])).await.unwrap();
        rows[0].int(0).unwrap()
    }

    /// All increments of `counts`.
    pub(crate) async fn total(&self) -> i64 {
        self.int("SELECT sum(n)::bigint FROM counts").await
    }

    /// A process that comes by this URL.
    pub(crate) async fn node(&self, url: &str) -> Node {
        self.node_with(PostgresOptions::new(url), Arc::new(Unobserved)).await
    }

    pub(crate) async fn node_with(
        &self,
        options: PostgresOptions,
        observer: Arc<dyn FlushObserver>,
    ) -> Node {
        let store = connect(options, &self.tracker).await;
        let retry = Backoff::new(Duration::from_millis(5), Duration::from_millis(50));
        let policy = FlushPolicy {
            interval: Duration::from_millis(5),
            retry,
            patience: Duration::from_millis(200),
            ..FlushPolicy::default()
        };
        let clock = Arc::new(SystemClock);
        let aggregator = Aggregator::open(store, policy, clock, observer, self.tracker.clone());
        let aggregator = aggregator.await.unwrap();
        let shutdown = CancellationToken::new();
        let flusher = self.tracker.spawn(aggregator.flusher().run(shutdown.clone()));
        Node { aggregator, shutdown, flusher }
    }
}

async fn connect(options: PostgresOptions, tracker: &TaskTracker) -> Arc<dyn SqlStore> {
    Arc::new(PostgresStore::open(options, tracker.clone()).await.unwrap())
}

impl Node {
    pub(crate) fn submit(&self, task: impl IntoTask) {
        let _ = self.aggregator.submit(None, task.into_task().unwrap()).unwrap();
    }

    /// Stops the loop and flushes the rest, however often that fails.
    pub(crate) async fn finish(self) {
        self.shutdown.cancel();
        let _ = self.flusher.await.unwrap();
        let report = self.aggregator.close(Duration::from_secs(60)).await.unwrap();
        assert!(report.is_complete(), "{report:?}");
    }
}
