//! The inbox: an effect happens exactly once, on both databases.

use tokio::task::JoinSet;
use zmsg_core::{ErrorKind, Statement, TaskId};
use zmsg_queue::{TaskQueue, inbox_purge};
use zmsg_store::Step;

use crate::db::Db;
use crate::effect::Effect;
use crate::sql::{LEASE, task};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_happens_once_although_the_process_stopped_before_completing() {
    for db in Db::each().await {
        let store = db.store().await;
        let queue = db.queue_on(store.clone());
        let effect = Effect::new(store.clone()).await;
        let task = task();
        queue.enqueue(task.clone()).await.unwrap();
        let first = queue.lease("default", 1, LEASE).await.unwrap().remove(0);
        effect.apply(first.id).await.unwrap();
        store.close().await.unwrap(); // between commit and complete

        let store = db.store().await;
        let queue = db.queue_on(store.clone());
        let effect = Effect { store };
        db.clock().advance(30_000);
        let second = queue.lease("default", 1, LEASE).await.unwrap().remove(0);
        assert_eq!((second.id, second.attempt), (task.id, 2));
        effect.apply(second.id).await.unwrap();
        assert!(queue.complete(&second).await.unwrap());
        assert_eq!(effect.times().await, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_happens_once_although_workers_run_it_at_the_same_time() {
    for db in Db::each().await {
        let effect = Effect::new(db.store().await).await;
        let id = TaskId::generate();
        let mut workers = JoinSet::new();
        for _ in 0..16 {
            let effect = effect.clone();
            workers.spawn(async move { effect.apply(id).await });
        }
        assert!(workers.join_all().await.iter().all(Result::is_ok));
        assert_eq!(effect.times().await, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_effect_leaves_no_inbox_row_and_can_be_tried_again() {
    for db in Db::each().await {
        let effect = Effect::new(db.store().await).await;
        let id = TaskId::generate();
        let bad = Statement::new("INSERT INTO no_such_table VALUES (1)", vec![]);
        let error = effect.apply_then(id, vec![Step::any(bad)]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert_eq!(effect.number("SELECT count(*) FROM zmsg_inbox").await, 0);
        effect.apply(id).await.unwrap();
        assert_eq!(effect.times().await, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_forgets_only_what_is_old_and_at_most_its_limit() {
    for db in Db::each().await {
        let effect = Effect::new(db.store().await).await;
        for _ in 0..5 {
            effect.apply(TaskId::generate()).await.unwrap(); // done at 1000
        }
        let dialect = effect.store.dialect();
        for (before, left) in [(1_000, 5), (1_001, 2), (1_001, 0)] {
            effect.store.execute(&inbox_purge(before, dialect, 3)).await.unwrap();
            assert_eq!(effect.number("SELECT count(*) FROM zmsg_inbox").await, left);
        }
    }
}
