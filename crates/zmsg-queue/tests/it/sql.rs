//! The SQL queue keeps the contract, on a real SQLite file and on PostgreSQL.

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

pub(crate) const LEASE: std::time::Duration = std::time::Duration::from_secs(30);

pub(crate) fn task() -> NewTask {
    NewTask::new(TaskId::generate(), "save", "payload")
}
