//! The SQL queue keeps the contract, on a real SQLite file and on PostgreSQL.

use tokio_util::task::TaskTracker;
use zmsg_core::{ErrorKind, Statement, TaskId};
use zmsg_queue::{NewTask, SqlQueueOptions, TaskQueue};

use crate::db::{Db, run};

mod conformance_on_sqlite {
    zmsg_queue::task_queue_conformance!(crate::db::Db::sqlite());
    zmsg_queue::task_inspector_conformance!(crate::db::Db::sqlite());
}

mod conformance_on_postgres {
    zmsg_queue::task_queue_conformance!(match crate::db::Db::postgres().await {
        Some(db) => db,
        None => return,
    });
    zmsg_queue::task_inspector_conformance!(match crate::db::Db::postgres().await {
        Some(db) => db,
        None => return,
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reopened_queue_redelivers_what_was_not_completed() {
    for db in Db::each().await {
        let store = db.store().await;
        let queue = db.queue_on(store.clone());
        let [waiting, taken, done] = [(); 3].map(|()| task());
        for task in [&done, &taken, &waiting] {
            queue.enqueue(task.clone()).await.unwrap();
        }
        let leased = queue.lease("default", 2, LEASE).await.unwrap();
        // Ids grow with time, and all are due at once: the first two by id were leased.
        let [held, completed] = [&leased[1], &leased[0]];
        assert!(queue.complete(completed).await.unwrap());
        store.close().await.unwrap();

        let queue = db.queue_on(db.store().await);
        let rest = queue.lease("default", 9, LEASE).await.unwrap();
        assert_eq!(rest.len(), 1, "the lease outlives the process that held it");
        db.clock().advance(30_000);
        let redelivered = queue.lease("default", 9, LEASE).await.unwrap();
        let again = redelivered.iter().find(|task| task.id == held.id).expect("redelivered");
        assert_eq!((again.attempt, &again.payload), (2, &held.payload));
        assert_eq!(queue.state(completed.id).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_queues_on_one_table_share_its_bound_and_never_a_task() {
    for db in Db::each().await {
        let store = db.store().await;
        let options = SqlQueueOptions { tasks_max: 50, ..SqlQueueOptions::default() };
        let queues = [(); 2].map(|()| db.bounded_queue_on(store.clone(), options));
        let mut accepted = 0;
        for number in 0..60 {
            match queues[number % 2].enqueue(task()).await {
                Ok(_) => accepted += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Overloaded),
            }
        }
        assert_eq!(accepted, 50);
        let (first, second) = tokio::join!(
            queues[0].lease("default", 30, LEASE),
            queues[1].lease("default", 30, LEASE),
        );
        let mut ids: Vec<_> = first.unwrap().iter().chain(&second.unwrap()).map(|t| t.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 50);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_follows_rows_that_somebody_changes_by_hand() {
    for db in Db::each().await {
        let store = db.store().await;
        let options = SqlQueueOptions { tasks_max: 2, ..SqlQueueOptions::default() };
        let queue = db.bounded_queue_on(store.clone(), options);
        queue.enqueue_all(vec![task(), task()]).await.unwrap();
        queue.enqueue(task()).await.unwrap_err();
        store.execute(&Statement::new("DELETE FROM zmsg_tasks", vec![])).await.unwrap();
        queue.enqueue_all(vec![task(), task()]).await.unwrap();
        queue.enqueue(task()).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_lease_walks_the_partial_indexes_of_sqlite() {
    let db = Db::sqlite();
    let store = db.store().await;
    let plan = "EXPLAIN QUERY PLAN SELECT id, due_ms FROM zmsg_tasks \
        WHERE state = 'pending' AND queue = 'q' AND due_ms <= 5 ORDER BY due_ms, id LIMIT 3";
    let rows = store.fetch(&Statement::query(plan, vec![])).await.unwrap();
    let steps: Vec<_> = rows.iter().map(|row| row.text(3).unwrap().to_owned()).collect();
    assert!(steps.iter().any(|step| step.contains("INDEX zmsg_tasks_pending")), "{steps:?}");
    assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE")), "{steps:?}");
}

#[tokio::test]
async fn a_lease_walks_the_partial_indexes_of_postgres() {
    let Some(db) = Db::postgres().await else { return };
    let store = db.store().await;
    let fill = "INSERT INTO zmsg_tasks SELECT gen_random_uuid(), 'q', 'save', '', 'pending', \
        n, 0, 3, 0, 0, NULL, 0, NULL FROM generate_series(1, 20000) AS n";
    run(&store, &[fill, "ANALYZE zmsg_tasks"]).await;
    let plan = "EXPLAIN SELECT id, due_ms FROM zmsg_tasks \
        WHERE state = 'pending' AND queue = 'q' AND due_ms <= 9999 \
        ORDER BY due_ms, id LIMIT 30 FOR UPDATE SKIP LOCKED";
    let rows = store.fetch(&Statement::query(plan, vec![])).await.unwrap();
    let steps: Vec<_> = rows.iter().map(|row| row.text(0).unwrap().to_owned()).collect();
    let walks = |step: &String| step.contains("Index Scan using zmsg_tasks_pending");
    assert!(steps.iter().any(walks), "{steps:?}");
    assert!(!steps.iter().any(|step| step.contains("Sort")), "{steps:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_on_postgres_is_held_by_whoever_enqueues_until_the_commit() {
    let Some(db) = Db::postgres().await else { return };
    let queue = db.queue_on(db.store().await);
    let (mut other, watcher) = (client(&db).await, client(&db).await);
    let held = other.transaction().await.unwrap();
    held.batch_execute(
        "INSERT INTO zmsg_tasks (id, queue, kind, payload, state, due_ms, attempt, attempts_max,
           attempts_spared, lease_until_ms, created_ms, lane, lane_skips)
         VALUES (gen_random_uuid(), 'default', 'save', '', 'pending', 0, 0, 3, 0, 0, 0, 'a', false)",
    )
    .await
    .unwrap();
    let second = task().ordered_by("a");
    let enqueue = TaskTracker::new().spawn({
        let (queue, second) = (queue.clone(), second.clone());
        async move { queue.enqueue(second).await }
    });
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while watcher.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(!enqueue.is_finished(), "it does not wait for who came before");
        tokio::task::yield_now().await;
    }
    // Neither another lane nor a task without one waits.
    queue.enqueue(task().ordered_by("b")).await.unwrap();
    queue.enqueue(task()).await.unwrap();
    held.commit().await.unwrap();
    enqueue.await.unwrap().unwrap();
    let leased = queue.lease("default", 9, LEASE).await.unwrap();
    assert_eq!(leased.len(), 3);
    assert!(leased.iter().all(|task| task.id != second.id), "the first to commit is the first");
}

async fn client(db: &Db) -> tokio_postgres::Client {
    let (client, connection) =
        tokio_postgres::connect(db.database().url(), tokio_postgres::NoTls).await.unwrap();
    TaskTracker::new().spawn(connection);
    client
}

#[tokio::test]
async fn rows_that_somebody_deletes_by_hand_leave_their_lanes() {
    for db in Db::each().await {
        let store = db.store().await;
        let queue = db.queue_on(store.clone());
        let tasks: Vec<_> = (0..3).map(|_| task().ordered_by("a")).collect();
        queue.enqueue_all(tasks.clone()).await.unwrap();
        for expected in [&tasks[0], &tasks[1], &tasks[2]] {
            let leased = queue.lease("default", 9, LEASE).await.unwrap();
            let ids: Vec<_> = leased.iter().map(|task| task.id).collect();
            assert_eq!(ids, [expected.id]);
            run(&store, &["DELETE FROM zmsg_tasks WHERE state = 'leased'"]).await;
        }
    }
}

pub(crate) const LEASE: std::time::Duration = std::time::Duration::from_secs(30);

pub(crate) fn task() -> NewTask {
    NewTask::new(TaskId::generate(), "save", "payload")
}
