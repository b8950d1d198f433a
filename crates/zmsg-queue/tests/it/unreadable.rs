//! A row that zmsg never wrote stops nothing: it becomes a dead letter with its cause.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{Statement, SystemClock};
use zmsg_queue::{TaskQueue, TaskState, Worker, WorkerOptions};

use crate::db::{Db, node, run};
use crate::handler::{Event, Scripted};
use crate::sql::{LEASE, task};

const BOUND: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_read_becomes_a_dead_letter_and_the_rest_is_leased() {
    for db in Db::each().await {
        let store = db.store().await;
        let queue = db.queue_on(store.clone());
        for damage in [
            "attempt = -5",
            "attempt = 9223372036854775807",
            "attempts_max = 4294967296",
            "created_ms = -1",
            "due_ms = -1",
        ] {
            let (bad, good) = (task(), task());
            queue.enqueue_all(vec![bad.clone(), good.clone()]).await.unwrap();
            let text = format!("UPDATE zmsg_tasks SET {damage} WHERE id = ?");
            store.execute(&Statement::new(text, vec![bad.id.0.into()])).await.unwrap();
            assert!(queue.next_due("default").await.unwrap().is_some(), "{damage}");

            let leased = queue.lease("default", 9, LEASE).await.unwrap();
            assert_eq!(
                leased.iter().map(|task| task.id).collect::<Vec<_>>(),
                [good.id],
                "{damage}"
            );
            assert!(queue.complete(&leased[0]).await.unwrap());
            let Some(TaskState::Dead { cause }) = queue.state(bad.id).await.unwrap() else {
                panic!("{damage}: not among the dead letters");
            };
            assert!(cause.contains("what zmsg never wrote"), "{damage}: {cause}");
            let dead = queue.dead_letters(None, None, 9).await.unwrap();
            assert_eq!((dead[0].id, &dead[0].payload), (bad.id, &bad.payload), "{damage}");
            assert!(queue.drop_dead(bad.id).await.unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_goes_on_after_a_row_that_cannot_be_read() {
    for db in Db::each().await {
        let store = db.store().await;
        let queue = node(store.clone());
        let (bad, good) = (task(), task());
        queue.enqueue_all(vec![bad.clone(), good.clone()]).await.unwrap();
        let damage = Statement::new(
            "UPDATE zmsg_tasks SET attempts_spared = -1 WHERE id = ?",
            vec![bad.id.0.into()],
        );
        store.execute(&damage).await.unwrap();

        let handler = Scripted::new(Arc::new(SystemClock), |_| async { Ok(()) });
        let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let (clock, options) = (Arc::new(SystemClock), WorkerOptions::default());
        let worker = Worker::new(queue.clone(), handler.clone(), clock, tracker.clone(), options);
        let run = tracker.spawn(worker.run(shutdown.clone()));
        timeout(BOUND, handler.ended(1)).await.expect("the worker goes on");
        let later = task();
        queue.enqueue(later.clone()).await.unwrap();
        timeout(BOUND, handler.ended(2)).await.expect("the worker goes on");
        assert_eq!(handler.endings(), [Event::Completed(good.id), Event::Completed(later.id)]);
        assert!(matches!(queue.state(bad.id).await.unwrap(), Some(TaskState::Dead { .. })));
        shutdown.cancel();
        run.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_sqlite_alone_would_keep_is_set_aside_too() {
    let db = Db::sqlite();
    let store = db.store().await;
    let queue = db.queue_on(store.clone());
    queue.enqueue(task()).await.unwrap();
    run(&store, &["UPDATE zmsg_tasks SET kind = CAST(x'ff' AS TEXT)"]).await;
    assert!(queue.lease("default", 9, LEASE).await.unwrap().is_empty());
    let dead = queue.dead_letters(None, None, 9).await.unwrap();
    assert_eq!((dead.len(), dead[0].kind.as_str()), (1, "\u{fffd}"));
    assert!(queue.drop_dead(dead[0].id).await.unwrap());

    // A row whose id is none gets one, to be dropped by.
    queue.enqueue(task()).await.unwrap();
    run(&store, &["UPDATE zmsg_tasks SET id = x'0102'"]).await;
    assert!(queue.lease("default", 9, LEASE).await.unwrap().is_empty());
    let dead = queue.dead_letters(None, None, 9).await.unwrap();
    assert!(dead[0].cause.contains("0102"), "{}", dead[0].cause);
    assert!(queue.drop_dead(dead[0].id).await.unwrap());
    assert_eq!(queue.stats("default").await.unwrap().dead, 0);
}
