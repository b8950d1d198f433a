//! The defects of the systems that zmsg learned from, by the names they have in the track record.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{
    Backoff, Clock, Error, ErrorKind, Result, Statement, SystemClock, TaskId, Timestamp, Value,
};
use zmsg_queue::{Enqueued, NewTask, TaskQueue, TaskState, Worker, WorkerOptions};

use crate::db::{Db, node};
use crate::effect::Effect;
use crate::flaky::Flaky;
use crate::handler::{Event, Scripted};
use crate::rig::{Rig, slow};
use crate::sql::LEASE;

/// Numbers went through JSON: ids beyond 2^53 changed, bytes became text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d_z1_binds_come_back_as_they_were() {
    for db in Db::each().await {
        let binds = vec![
            Value::Int(i64::MAX),
            Value::Int(9_007_199_254_740_993),
            Value::Float(-0.0),
            Value::Bytes(vec![0, 255, 128].into()),
            Value::Text("8".into()),
            Value::Timestamp(Timestamp(1_750_000_000_000_001)),
            Value::Null,
        ];
        let statement = Statement::new("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?)", binds);
        let payload = postcard::to_allocvec(&statement).unwrap();
        let queue = db.queue_on(db.store().await);
        queue.enqueue(NewTask::new(TaskId::generate(), "save", payload)).await.unwrap();
        let leased = queue.lease("default", 1, LEASE).await.unwrap().remove(0);
        assert_eq!(postcard::from_bytes::<Statement>(&leased.payload).unwrap(), statement);
    }
}

/// A crash between the SQL and the removal of its task ran the SQL twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d_z2_an_effect_happens_once_although_the_handler_runs_twice() {
    for db in Db::each().await {
        let store = db.store().await;
        let effect = Effect::new(store.clone()).await;
        let queue = node(store);
        let applied = effect.clone();
        let handler = Scripted::new(Arc::new(SystemClock), move |task| {
            let effect = applied.clone();
            async move {
                effect.apply(task.id).await?;
                assert!(task.attempt > 1, "a crash after the commit, as the test wants");
                Ok(())
            }
        });
        let task = NewTask::new(TaskId::generate(), "save", "payload");
        queue.enqueue(task.clone()).await.unwrap();
        run_until_ended(queue, handler.clone()).await;
        assert_eq!(handler.starts().len(), 2);
        assert_eq!(handler.endings(), [Event::Completed(task.id)]);
        assert_eq!(effect.times().await, 1);
    }
}

/// The configured number of attempts was never used, and the first retry had no delay.
#[tokio::test(start_paused = true)]
async fn d_z4_retries_are_as_many_as_configured_and_the_first_waits_too() {
    let rig = Rig::new();
    let handler = Scripted::new(rig.clock.clone(), |_| async { Err(slow()) });
    rig.queue.enqueue(rig.task(0).attempts_max(5)).await.unwrap();
    let worker = rig.start(handler.clone());
    handler.ended(1).await;
    let starts = handler.starts();
    assert_eq!(starts.len(), 5);
    for (failures, gap) in starts.windows(2).map(|pair| pair[1] - pair[0]).enumerate() {
        let whole = 100 << failures; // the base of the rig's backoff, doubled each time
        assert!(gap >= whole / 2 && gap <= whole + 3, "after {failures}: {gap} ms");
    }
    worker.stop().await;
}

/// Delays were whole seconds, looked at every five.
#[tokio::test(start_paused = true)]
async fn d_z5_a_delay_of_100_ms_is_100_ms() {
    let rig = Rig::new();
    let handler = Scripted::new(rig.clock.clone(), |_| async { Ok(()) });
    let worker = rig.start(handler.clone());
    for (count, delay) in [100, 1, 37, 999].into_iter().enumerate() {
        let asked = rig.clock.wall();
        rig.enqueue(delay).await;
        handler.ended(count + 1).await;
        let waited = handler.starts()[count] - asked;
        assert!((delay..=delay + 2).contains(&waited), "{delay} ms became {waited} ms");
    }
    worker.stop().await;
}

/// An enqueue without an answer was followed by the SQL itself, and the queue ran it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d_z7_a_fallback_after_an_unanswered_enqueue_does_not_double_the_effect() {
    for db in Db::each().await {
        let store = db.store().await;
        let effect = Effect::new(store.clone()).await;
        let queue = Flaky::new(node(store));
        queue.enqueue_unanswered.store(1, SeqCst);
        let task = NewTask::new(TaskId::generate(), "save", "payload");
        assert!(queue.enqueue(task.clone()).await.unwrap_err().is_outcome_unknown());
        assert_eq!(queue.enqueue(task.clone()).await.unwrap(), Enqueued::Duplicate);
        effect.apply(task.id).await.unwrap(); // the fallback, with the same id

        let applied = effect.clone();
        let handler = Scripted::new(Arc::new(SystemClock), move |task| {
            let effect = applied.clone();
            async move { effect.apply(task.id).await }
        });
        run_until_ended(queue, handler.clone()).await;
        assert_eq!(handler.endings(), [Event::Completed(task.id)]);
        assert_eq!(effect.times().await, 1);
    }
}

/// A worker that could not start said so in the log only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d_z8b_a_worker_without_its_table_ends_with_the_error() {
    for db in Db::each().await {
        let queue = node(db.empty_store().await);
        let handler = Scripted::new(Arc::new(SystemClock), |_| async { Ok(()) });
        let worker = worker(queue, handler, TaskTracker::new());
        let error = worker.run(CancellationToken::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

/// A payload that nobody can read was tried 25 times.
#[tokio::test(start_paused = true)]
async fn d_z8c_a_payload_that_cannot_be_read_is_buried_at_once() {
    let rig = Rig::new();
    let handler = Scripted::new(rig.clock.clone(), |task| async move { decode(&task.payload) });
    let id = rig.enqueue(0).await;
    let worker = rig.start(handler.clone());
    handler.ended(1).await;
    assert_eq!(handler.starts().len(), 1);
    assert!(matches!(rig.state(id).await, Some(TaskState::Dead { .. })));
    assert!(matches!(&handler.endings()[..], [Event::Buried(buried, _)] if *buried == id));
    assert_eq!(worker.stop().await.stats.buried, 1);
}

fn decode(payload: &[u8]) -> Result<()> {
    let error = postcard::from_bytes::<Statement>(payload).expect_err("not a statement");
    Err(Error::new(ErrorKind::Corrupted, "the payload cannot be read").with_source(error))
}

/// Runs a worker until its handler has completed or buried a task.
async fn run_until_ended(queue: Arc<dyn TaskQueue>, handler: Arc<Scripted>) {
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let worker = worker(queue, handler.clone(), tracker.clone());
    let run = tracker.spawn(worker.run(shutdown.clone()));
    handler.ended(1).await;
    shutdown.cancel();
    run.await.expect("no panic").expect("a report");
}

fn worker(queue: Arc<dyn TaskQueue>, handler: Arc<Scripted>, tracker: TaskTracker) -> Worker {
    let backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(5));
    let options = WorkerOptions { backoff, ..WorkerOptions::default() };
    Worker::new(queue, handler, Arc::new(SystemClock), tracker, options)
}
