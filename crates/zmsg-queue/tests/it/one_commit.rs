//! The effect of a task and its end in one transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{Error, ErrorKind, Result, SystemClock};
use zmsg_queue::{
    Ending, LeasedTask, TaskHandler, TaskQueue, Worker, WorkerOptions, is_lease_lost,
};
use zmsg_store::Step;

use crate::db::{Db, node};
use crate::effect::Effect;
use crate::sql::{LEASE, task};

/// Ends its tasks with their effects, and loses the answer if a test says so.
#[derive(Debug)]
struct InOne {
    effect: Effect,
    is_unanswered: bool,
    completed: AtomicUsize,
    told: tokio::sync::Notify,
}

#[async_trait]
impl TaskHandler for InOne {
    async fn handle(&self, _task: &LeasedTask) -> Result<()> {
        panic!("this queue offers more");
    }

    async fn handle_within(&self, task: &LeasedTask, completion: Vec<Step>) -> Result<Ending> {
        self.effect.apply_then(task.id, completion).await?;
        if self.is_unanswered {
            return Err(Error::new(ErrorKind::Unavailable, "no answer").outcome_unknown());
        }
        Ok(Ending::Completed)
    }

    async fn completed(&self, _task: &LeasedTask) {
        self.completed.fetch_add(1, SeqCst);
        self.told.notify_one();
    }
}

async fn run_one(db: &Db, is_unanswered: bool) {
    let store = db.store().await;
    let (queue, effect) = (node(store.clone()), Effect::new(store).await);
    let (completed, told) = (AtomicUsize::new(0), tokio::sync::Notify::new());
    let handler = Arc::new(InOne { effect: effect.clone(), is_unanswered, completed, told });
    let task = task();
    queue.enqueue(task.clone()).await.unwrap();
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let (clock, options) = (Arc::new(SystemClock), WorkerOptions::default());
    let worker = Worker::new(queue.clone(), handler.clone(), clock, tracker.clone(), options);
    let run = tracker.spawn(worker.run(shutdown.clone()));
    timeout(Duration::from_secs(30), handler.told.notified()).await.expect("completed");
    shutdown.cancel();
    let stats = run.await.unwrap().unwrap().stats;
    assert_eq!((stats.succeeded, stats.lease_lost, stats.retried), (1, 0, 0));
    assert_eq!((handler.completed.load(SeqCst), effect.times().await), (1, 1));
    assert_eq!(queue.state(task.id).await.unwrap(), None);
    assert_eq!(effect.number("SELECT count(*) FROM zmsg_inbox").await, 1, "the inbox is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_effect_of_a_task_and_its_end_are_one_commit() {
    for db in Db::each().await {
        run_one(&db, false).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_that_ended_the_task_is_a_success() {
    for db in Db::each().await {
        run_one(&db, true).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_whose_lease_was_lost_is_rolled_back() {
    for db in Db::each().await {
        let store = db.store().await;
        let (queue, effect) = (db.queue_on(store.clone()), Effect::new(store.clone()).await);
        queue.enqueue(task()).await.unwrap();
        let late = queue.lease("default", 1, LEASE).await.unwrap().remove(0);
        db.clock().advance(30_000);
        let holder = queue.lease("default", 1, LEASE).await.unwrap().remove(0);

        let steps = queue.completion_steps(&late).expect("the queue lives in a database");
        let failed = store.execute_all(steps).await.unwrap_err();
        assert!(is_lease_lost(&failed), "{failed}");
        let steps = queue.completion_steps(&late).expect("as before");
        effect.apply_then(late.id, steps).await.unwrap_err();
        assert_eq!(effect.times().await, 0);

        let steps = queue.completion_steps(&holder).expect("as before");
        effect.apply_then(holder.id, steps).await.unwrap();
        assert_eq!((effect.times().await, queue.state(holder.id).await.unwrap()), (1, None));
    }
}
