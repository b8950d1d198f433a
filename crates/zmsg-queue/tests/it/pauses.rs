//! Queues that rest: what becomes of workers, other nodes and restarts.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{Clock, Statement, SystemClock};
use zmsg_queue::{TaskQueue, Worker, WorkerOptions};

use crate::db::{Db, node};
use crate::handler::{Event, Scripted};
use crate::rig::Rig;
use crate::sql::{LEASE, task};

const HOUR: Duration = Duration::from_secs(3_600);
const LOOK: Duration = Duration::from_millis(20);

#[tokio::test(start_paused = true)]
async fn a_worker_of_a_paused_queue_does_not_spin_and_goes_on_at_once() {
    let mut rig = Rig::new();
    rig.options.poll_max = HOUR;
    let handler = Scripted::new(rig.clock.clone(), |_| async { Ok(()) });
    assert!(rig.queue.pause("default").await.unwrap());
    let (first, second) = (rig.enqueue(0).await, rig.enqueue(70).await);
    let worker = rig.start(handler.clone());
    sleep(HOUR / 4).await;
    assert_eq!(rig.queue.leases.load(SeqCst), 1, "one look, and the poll is half an hour off");
    assert!(handler.starts().is_empty());
    let now = rig.clock.wall();
    assert!(rig.queue.resume("default").await.unwrap());
    handler.ended(2).await;
    assert_eq!(handler.endings(), [Event::Completed(first), Event::Completed(second)]);
    assert!(handler.starts().iter().all(|start| start - now <= 1), "not by polling");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_has_when_its_queue_is_paused_is_done_and_nothing_else() {
    let rig = Rig::new();
    let handler = Scripted::new(rig.clock.clone(), |_| async {
        sleep(Duration::from_secs(5)).await;
        Ok(())
    });
    let first = rig.enqueue(0).await;
    let worker = rig.start(handler.clone());
    handler.started(1).await;
    assert!(rig.queue.pause("default").await.unwrap());
    let second = rig.enqueue(0).await;
    handler.ended(1).await;
    sleep(HOUR).await;
    assert_eq!(handler.endings(), [Event::Completed(first)]);
    assert!(rig.queue.resume("default").await.unwrap());
    handler.ended(2).await;
    assert_eq!(rig.state(second).await, None);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_is_of_all_nodes_and_outlives_the_process_that_made_it() {
    for db in Db::each().await {
        let store = db.store().await;
        let queue = db.queue_on(store.clone());
        queue.enqueue(task()).await.unwrap();
        assert!(queue.pause("default").await.unwrap());
        assert!(db.queue_on(store.clone()).lease("default", 9, LEASE).await.unwrap().is_empty());
        store.close().await.unwrap();

        let queue = db.queue_on(db.store().await);
        assert!(queue.is_paused("default").await.unwrap());
        assert!(!queue.pause("default").await.unwrap(), "it rests already");
        assert!(queue.lease("default", 9, LEASE).await.unwrap().is_empty());
        assert!(queue.resume("default").await.unwrap());
        assert_eq!(queue.lease("default", 9, LEASE).await.unwrap().len(), 1);
    }
}

/// Also not what the queue finds again because its answer never came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dropped_lease_took_is_not_given_while_the_queue_is_paused() {
    for db in Db::each().await {
        let queue = node(db.store().await);
        queue.enqueue_all((0..5).map(|_| task()).collect()).await.unwrap();
        let dropped = queue.lease("default", 5, LEASE);
        assert!(dropped.now_or_never().is_none(), "it waits for the database");
        let taken = async {
            while queue.stats("default").await.unwrap().leased < 5 {
                sleep(LOOK).await;
            }
        };
        timeout(LEASE / 2, taken).await.expect("the database has done it all the same");
        assert!(queue.pause("default").await.unwrap());
        assert!(queue.lease("default", 5, LEASE).await.unwrap().is_empty());
        assert!(queue.resume("default").await.unwrap());
        let leased = queue.lease("default", 5, LEASE).await.unwrap();
        assert_eq!(leased.iter().map(|task| task.attempt).collect::<Vec<_>>(), [1; 5]);
    }
}

/// The one that resumes runs no wake-ups, as a command does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resumed_queue_wakes_the_workers_of_other_nodes() {
    let Some(db) = Db::postgres().await else { return };
    let store = db.store().await;
    let (theirs, command) = (node(db.empty_store().await), node(store.clone()));
    assert!(command.pause("default").await.unwrap());
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let handler = Scripted::new(Arc::new(SystemClock), |_| async { Ok(()) });
    let options = WorkerOptions { poll_max: HOUR, ..WorkerOptions::default() };
    let clock = Arc::new(SystemClock);
    let worker = Worker::new(theirs.clone(), handler.clone(), clock, tracker.clone(), options);
    let listening = tracker.spawn(theirs.wake_ups().run(shutdown.clone()));
    let running = tracker.spawn(worker.run(shutdown.clone()));
    listens(&*store).await;
    command.enqueue(task()).await.unwrap();
    assert!(command.resume("default").await.unwrap());
    timeout(Duration::from_secs(15), handler.ended(1)).await.expect("not by polling");
    shutdown.cancel();
    running.await.unwrap().unwrap();
    listening.await.unwrap().unwrap();
}

async fn listens(store: &dyn zmsg_store::SqlStore) {
    let query = "SELECT 1 FROM pg_stat_activity \
        WHERE datname = current_database() AND query LIKE 'LISTEN%' AND state = 'idle'";
    for _ in 0..1_000 {
        if !store.fetch(&Statement::query(query, vec![])).await.unwrap().is_empty() {
            return;
        }
        sleep(LOOK).await;
    }
    panic!("nobody listens");
}

#[tokio::test]
async fn a_lease_probes_the_pauses_once_by_their_key() {
    let Some(db) = Db::postgres().await else { return };
    let store = db.store().await;
    let fill =
        "INSERT INTO zmsg_paused_queues SELECT 'q' || n, 0 FROM generate_series(1, 5000) AS n";
    crate::db::run(&store, &[fill, "ANALYZE zmsg_paused_queues"]).await;
    let plan = "EXPLAIN WITH rests AS MATERIALIZED (SELECT 1 FROM zmsg_paused_queues WHERE queue = 'q') \
        SELECT id FROM zmsg_tasks WHERE NOT EXISTS (SELECT 1 FROM rests) AND state = 'pending' \
        AND queue = 'q' AND due_ms <= 9999 ORDER BY due_ms, id LIMIT 30 FOR UPDATE SKIP LOCKED";
    let rows = store.fetch(&Statement::query(plan, vec![])).await.unwrap();
    let steps: Vec<_> = rows.iter().map(|row| row.text(0).unwrap().to_owned()).collect();
    let has = |part: &str| steps.iter().any(|step| step.contains(part));
    assert!(has("using zmsg_paused_queues_pkey") && has("One-Time Filter"), "{steps:?}");
}
