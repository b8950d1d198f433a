//! Two nodes on one queue that lives outside of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{Statement, SystemClock, TaskId};
use zmsg_queue::{Enqueued, Firing, NewTask, PeriodicTasks, TaskQueue};

use super::{LEASE, telling};
use crate::db::{Db, node};
use crate::sql::task;

const ENTRIES: [&str; 4] = ["a", "b", "c", "d"];

/// Lets nodes fire some entries every second; each moment of each comes once, although tasks that are done are
/// forgotten.
pub(crate) async fn fire_each_moment_once(nodes: [Arc<dyn TaskQueue>; 2]) {
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    for queue in &nodes {
        let periodic = PeriodicTasks::new(queue.clone(), Arc::new(SystemClock));
        let entries = ENTRIES.map(|name| telling(name, Duration::from_secs(1)));
        let periodic = entries.into_iter().try_fold(periodic, PeriodicTasks::with).unwrap();
        tracker.spawn(periodic.run(shutdown.clone()));
    }
    let mut seen = BTreeSet::new();
    let fired = async {
        while seen.len() < 4 * ENTRIES.len() {
            for task in nodes[0].lease("default", 99, LEASE).await.unwrap() {
                assert!(seen.insert(task.id), "{task:?} came twice");
                assert_eq!(task.attempt, 1);
                super::moments(std::slice::from_ref(&task));
                assert!(nodes[0].complete(&task).await.unwrap());
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(LEASE, fired).await.expect("they fire every second");
    shutdown.cancel();
    tracker.close();
    tracker.wait().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_on_one_database_fire_each_moment_once() {
    for db in Db::each().await {
        let store = db.store().await;
        fire_each_moment_once([(); 2].map(|()| node(store.clone()) as Arc<dyn TaskQueue>)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fired_is_remembered_over_a_restart() {
    for db in Db::each().await {
        let store = db.store().await;
        let firing = || Firing::new("a", 999_000, task());
        let queue = db.queue_on(store.clone());
        assert_eq!(queue.enqueue_firing(firing()).await.unwrap(), Enqueued::Accepted);
        let leased = queue.lease("default", 9, LEASE).await.unwrap().remove(0);
        assert!(queue.complete(&leased).await.unwrap());
        store.close().await.unwrap();

        let queue = db.queue_on(db.store().await);
        assert_eq!(queue.last_firing("default", "a").await.unwrap(), Some(999_000));
        assert_eq!(queue.enqueue_firing(firing()).await.unwrap(), Enqueued::Duplicate);
        assert!(queue.lease("default", 9, LEASE).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_remembers_so_many_entries() {
    for db in Db::each().await {
        let store = db.store().await;
        let queue = db.queue_on(store.clone());
        let fill = Statement::new(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 10000) \
             INSERT INTO zmsg_periodic SELECT 'default', 'entry ' || n, 5 FROM n",
            vec![],
        );
        store.execute(&fill).await.unwrap();
        super::nodes::is_full(&*queue).await;
        // As two nodes leave it that remember the last two at one time.
        let one_more = "INSERT INTO zmsg_periodic VALUES ('default', 'one more', 5)";
        crate::db::run(&store, &[one_more]).await;
        let known = queue.enqueue_firing(Firing::new("entry 2", 9, task())).await;
        assert_eq!(known.unwrap(), Enqueued::Accepted);
        crate::db::run(&store, &["DELETE FROM zmsg_periodic WHERE entry = 'one more'"]).await;
        let one_less = "DELETE FROM zmsg_periodic WHERE entry = 'entry 7'";
        crate::db::run(&store, &[one_less]).await;
        let fired = queue.enqueue_firing(Firing::new("new", 9, task())).await;
        assert_eq!(fired.unwrap(), Enqueued::Accepted);
    }
}

/// A queue that remembers `entry 1` and 9,999 others takes that one, and no new one.
pub(crate) async fn is_full(queue: &dyn TaskQueue) {
    let task = || NewTask::new(TaskId::generate(), "save", "payload");
    let error = queue.enqueue_firing(Firing::new("new", 9, task())).await.unwrap_err();
    assert_eq!(error.kind(), zmsg_core::ErrorKind::Overloaded, "{error}");
    assert!(error.to_string().contains("periodic_entries_max"), "{error}");
    assert_eq!(queue.last_firing("default", "new").await.unwrap(), None);
    let known = queue.enqueue_firing(Firing::new("entry 1", 9, task())).await;
    assert_eq!(known.unwrap(), Enqueued::Accepted);
    let elsewhere = Firing::new("new", 9, task().queue("other"));
    assert_eq!(queue.enqueue_firing(elsewhere).await.unwrap(), Enqueued::Accepted);
}

#[tokio::test]
async fn a_queue_in_memory_remembers_so_many_entries() {
    let world = super::World::new();
    for n in 1..=Firing::ENTRIES_MAX {
        world.queue.enqueue_firing(Firing::new(format!("entry {n}"), 5, task())).await.unwrap();
    }
    is_full(&*world.queue).await;
}
