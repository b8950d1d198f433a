//! The SQL queue keeps the contract, on a real SQLite file.

use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;
use zmsg_core::{ErrorKind, ManualClock, Statement, TaskId};
use zmsg_queue::conformance::{Harness, Limits};
use zmsg_queue::{NewTask, SqlQueueOptions, SqlTaskQueue, TaskQueue};
use zmsg_store::{Migrations, Migrator, SqlStore, SqliteOptions, SqliteStore};

zmsg_queue::task_queue_conformance!(Sqlite::new());

/// A database file with zmsg's tables, and what may be opened on it.
pub(crate) struct Sqlite {
    dir: TempDir,
    clock: Arc<ManualClock>,
}

impl Sqlite {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        Self { dir, clock: Arc::new(ManualClock::new(1_000_000)) }
    }

    /// The store on the file, with zmsg's tables.
    pub(crate) async fn store(&self) -> Arc<dyn SqlStore> {
        let options = SqliteOptions::new(self.dir.path().join("zmsg.db"));
        let store = Arc::new(SqliteStore::open(options).await.expect("open"));
        let migrations = Migrations::zmsg(store.dialect());
        Migrator::new(store.clone(), migrations).up().await.expect("migrate");
        store
    }

    pub(crate) fn queue_on(&self, store: Arc<dyn SqlStore>) -> Arc<SqlTaskQueue> {
        let options = SqlQueueOptions::default();
        Arc::new(SqlTaskQueue::new(store, self.clock.clone(), options).expect("a queue"))
    }

    pub(crate) fn clock(&self) -> Arc<ManualClock> {
        self.clock.clone()
    }
}

#[async_trait]
impl Harness for Sqlite {
    async fn open(&self, limits: Limits) -> Arc<dyn TaskQueue> {
        let Limits { tasks_max, dead_max } = limits;
        let options = SqlQueueOptions { tasks_max: tasks_max.into(), dead_max: dead_max.into() };
        let store = self.store().await;
        Arc::new(SqlTaskQueue::new(store, self.clock.clone(), options).expect("a queue"))
    }

    fn clock(&self) -> Arc<ManualClock> {
        self.clock.clone()
    }
}

#[tokio::test]
async fn a_reopened_queue_redelivers_what_was_not_completed() {
    let sqlite = Sqlite::new();
    let store = sqlite.store().await;
    let queue = sqlite.queue_on(store.clone());
    let [waiting, taken, done] = [(); 3].map(|()| task());
    for task in [&done, &taken, &waiting] {
        queue.enqueue(task.clone()).await.unwrap();
    }
    let leased = queue.lease("default", 2, LEASE).await.unwrap();
    // Ids grow with time, and all are due at once: the first two by id were leased.
    let [held, completed] = [&leased[1], &leased[0]];
    assert!(queue.complete(completed).await.unwrap());
    store.close().await.unwrap();

    let queue = sqlite.queue_on(sqlite.store().await);
    let rest = queue.lease("default", 9, LEASE).await.unwrap();
    assert_eq!(rest.len(), 1, "the lease outlives the process that held it");
    sqlite.clock().advance(30_000);
    let redelivered = queue.lease("default", 9, LEASE).await.unwrap();
    let again = redelivered.iter().find(|task| task.id == held.id).expect("redelivered");
    assert_eq!((again.attempt, &again.payload), (2, &held.payload));
    assert_eq!(queue.state(completed.id).await.unwrap(), None);
}

#[tokio::test]
async fn two_queues_on_one_table_share_its_bound_and_never_a_task() {
    let sqlite = Sqlite::new();
    let store = sqlite.store().await;
    let options = SqlQueueOptions { tasks_max: 50, ..SqlQueueOptions::default() };
    let open = || SqlTaskQueue::new(store.clone(), sqlite.clock(), options).map(Arc::new);
    let queues = [open().unwrap(), open().unwrap()];
    let mut accepted = 0;
    for number in 0..60 {
        match queues[number % 2].enqueue(task()).await {
            Ok(_) => accepted += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Overloaded),
        }
    }
    assert_eq!(accepted, 50);
    let (first, second) =
        tokio::join!(queues[0].lease("default", 30, LEASE), queues[1].lease("default", 30, LEASE),);
    let mut ids: Vec<_> = first.unwrap().iter().chain(&second.unwrap()).map(|t| t.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 50);
}

#[tokio::test]
async fn the_counts_follow_rows_that_somebody_changes_by_hand() {
    let sqlite = Sqlite::new();
    let store = sqlite.store().await;
    let options = SqlQueueOptions { tasks_max: 2, ..SqlQueueOptions::default() };
    let queue = SqlTaskQueue::new(store.clone(), sqlite.clock(), options).unwrap();
    queue.enqueue_all(vec![task(), task()]).await.unwrap();
    queue.enqueue(task()).await.unwrap_err();
    store.execute(&Statement::new("DELETE FROM zmsg_tasks", vec![])).await.unwrap();
    queue.enqueue_all(vec![task(), task()]).await.unwrap();
    queue.enqueue(task()).await.unwrap_err();
}

#[tokio::test]
async fn a_lease_walks_the_partial_indexes() {
    let sqlite = Sqlite::new();
    let store = sqlite.store().await;
    let plan = "EXPLAIN QUERY PLAN SELECT id, due_ms FROM zmsg_tasks \
        WHERE state = 'pending' AND queue = 'q' AND due_ms <= 5 ORDER BY due_ms, id LIMIT 3";
    let rows = store.fetch(&Statement::query(plan, vec![])).await.unwrap();
    let steps: Vec<_> = rows.iter().map(|row| row.text(3).unwrap().to_owned()).collect();
    assert!(steps.iter().any(|step| step.contains("INDEX zmsg_tasks_pending")), "{steps:?}");
    assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE")), "{steps:?}");
}

pub(crate) const LEASE: std::time::Duration = std::time::Duration::from_secs(30);

pub(crate) fn task() -> NewTask {
    NewTask::new(TaskId::generate(), "save", "payload")
}
