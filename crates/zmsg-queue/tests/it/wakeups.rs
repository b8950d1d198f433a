//! Processes that share a table on PostgreSQL wake each other; the poll is a minute off.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{Clock, Error, ErrorKind, Result, Statement, SystemClock};
use zmsg_queue::{SqlTaskQueue, TaskQueue, Worker, WorkerOptions, WorkerReport, outbox};
use zmsg_store::SqlStore;

use crate::db::{Db, node};
use crate::handler::Scripted;
use crate::sql::{LEASE, task};

/// Far below the poll interval, whose upper half the pauses are drawn from.
const BOUND: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// A node with a worker, whose wake-ups run.
struct Node {
    queue: Arc<SqlTaskQueue>,
    handler: Arc<Scripted>,
    shutdown: CancellationToken,
    worker: JoinHandle<Result<WorkerReport>>,
    wake_ups: JoinHandle<Result<()>>,
}

impl Node {
    fn start(store: Arc<dyn SqlStore>) -> Self {
        let (queue, tracker) = (node(store), TaskTracker::new());
        let handler = Scripted::new(Arc::new(SystemClock), |_| async { Ok(()) });
        let options = WorkerOptions { poll_max: POLL, ..WorkerOptions::default() };
        let clock = Arc::new(SystemClock);
        let worker = Worker::new(queue.clone(), handler.clone(), clock, tracker.clone(), options);
        let shutdown = CancellationToken::new();
        let wake_ups = tracker.spawn(queue.wake_ups().run(shutdown.clone()));
        let worker = tracker.spawn(worker.run(shutdown.clone()));
        Self { queue, handler, shutdown, worker, wake_ups }
    }

    /// Waits until so many tasks have been completed here.
    async fn ended(&self, tasks: usize) {
        let ended = timeout(BOUND, self.handler.ended(tasks)).await;
        ended.unwrap_or_else(|_| panic!("{tasks} tasks were not found in time"));
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.worker.await.unwrap().unwrap();
        self.wake_ups.await.unwrap().unwrap();
    }
}

/// The connections that listen, when there are so many.
async fn listeners(store: &Arc<dyn SqlStore>, wanted: usize) -> Vec<i64> {
    let query = "SELECT pid FROM pg_stat_activity \
        WHERE datname = current_database() AND query LIKE 'LISTEN%' AND state = 'idle'";
    for _ in 0..1_000 {
        let rows = store.fetch(&Statement::query(query, vec![])).await.unwrap();
        if rows.len() == wanted {
            return rows.iter().map(|row| row.int(0).unwrap()).collect();
        }
        sleep(LOOK).await;
    }
    panic!("not {wanted} listeners");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_waits_hears_of_the_tasks_of_others() {
    let Some(db) = Db::postgres().await else { return };
    let store = db.store().await;
    let worker = Node::start(db.empty_store().await);
    let other = node(store.clone());
    let shutdown = CancellationToken::new();
    let telling = TaskTracker::new().spawn(other.wake_ups().run(shutdown.clone()));
    listeners(&store, 2).await;
    other.enqueue(task()).await.unwrap();
    worker.ended(1).await;
    // One that is due later sets the alarm of a worker that knew of none.
    other.enqueue(task().due(SystemClock.wall() + 400)).await.unwrap();
    worker.ended(2).await;
    for count in 3..10 {
        other.enqueue(task()).await.unwrap();
        worker.ended(count).await;
    }
    // Given back, due now: for whoever is there.
    let elsewhere = task().queue("elsewhere");
    other.enqueue(elsewhere).await.unwrap();
    let told = worker.queue.changed();
    let held = other.lease("elsewhere", 1, LEASE).await.unwrap().remove(0);
    let cause = Error::new(ErrorKind::Unavailable, "away");
    assert!(other.retry(&held, 0, &cause, false).await.unwrap());
    timeout(BOUND, told).await.expect("told of what was given back");
    shutdown.cancel();
    telling.await.unwrap().unwrap();
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_of_a_users_transaction_wakes_the_workers() {
    let Some(db) = Db::postgres().await else { return };
    let store = db.store().await;
    let worker = Node::start(db.empty_store().await);
    listeners(&store, 1).await;
    let enqueue = outbox::enqueue(&task(), &SystemClock, store.dialect()).unwrap();
    store.execute(&enqueue).await.unwrap();
    worker.ended(1).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_whose_connection_was_cut_comes_back_and_missed_nothing() {
    let Some(db) = Db::postgres().await else { return };
    let store = db.store().await;
    let worker = Node::start(db.empty_store().await);
    for round in 1..=3 {
        let [listener] = listeners(&store, 1).await[..] else { panic!("one listener") };
        let cut = format!("SELECT pg_terminate_backend({listener})");
        store.execute(&Statement::query(cut, vec![])).await.unwrap();
        // Enqueued while nobody listens, or just before or after: found all the same.
        let enqueue = outbox::enqueue(&task(), &SystemClock, store.dialect()).unwrap();
        store.execute(&enqueue).await.unwrap();
        worker.ended(round).await;
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_notifications_tasks_are_found_by_polling() {
    let Some(db) = Db::postgres().await else { return };
    let store = db.store().await;
    let sqlite = Db::sqlite();
    let quiet = node(sqlite.store().await);
    quiet.wake_ups().run(CancellationToken::new()).await.expect("returns at once");
    let queue = node(store.clone());
    let handler = Scripted::new(Arc::new(SystemClock), |_| async { Ok(()) });
    let options = WorkerOptions { poll_max: Duration::from_millis(50), ..Default::default() };
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let clock = Arc::new(SystemClock);
    let worker = Worker::new(queue, handler.clone(), clock, tracker.clone(), options);
    let running = tracker.spawn(worker.run(shutdown.clone()));
    let enqueue = outbox::enqueue_quietly(&task(), &SystemClock, store.dialect()).unwrap();
    store.execute(&enqueue).await.unwrap();
    timeout(BOUND, handler.ended(1)).await.expect("found by polling");
    shutdown.cancel();
    running.await.unwrap().unwrap();
}
