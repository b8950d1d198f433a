//! The worker: what becomes of tasks whose handlers succeed, fail, hang and panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{Clock, Error, ErrorKind, Result, SystemClock};
use zmsg_queue::{
    LeasedTask, TaskHandler, TaskQueue, TaskState, Worker, WorkerOptions, WorkerStats,
};

use crate::db::{Db, node};
use crate::handler::{Event, Scripted};
use crate::rig::{Rig, slow};
use crate::sql::task;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn tasks_are_handled_completed_and_gone() {
    let rig = Rig::new();
    let handler = Scripted::new(rig.clock.clone(), |_| async { Ok(()) });
    let (first, second) = (rig.enqueue(0).await, rig.enqueue(1).await);
    let worker = rig.start(handler.clone());
    handler.ended(2).await;
    assert_eq!(handler.endings(), [Event::Completed(first), Event::Completed(second)]);
    assert_eq!(rig.state(first).await, None);
    let stats = worker.stop().await.stats;
    let expected = WorkerStats { processed: 2, succeeded: 2, ..WorkerStats::default() };
    assert_eq!(stats, expected);
}

#[tokio::test(start_paused = true)]
async fn an_enqueue_wakes_the_worker_without_polling() {
    let mut rig = Rig::new();
    rig.options.poll_max = HOUR;
    let handler = Scripted::new(rig.clock.clone(), |_| async { Ok(()) });
    let worker = rig.start(handler.clone());
    sleep(Duration::from_secs(60)).await;
    let now = rig.clock.wall();
    rig.enqueue(0).await;
    handler.ended(1).await;
    assert!(handler.starts()[0] - now <= 1, "not by polling");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_of_another_process_is_found_by_polling() {
    for db in Db::each().await {
        let store = db.store().await;
        let (ours, theirs) = (node(store.clone()), node(store));
        let handler = Scripted::new(Arc::new(SystemClock), |_| async { Ok(()) });
        let poll_max = Duration::from_millis(20);
        let options = WorkerOptions { poll_max, ..WorkerOptions::default() };
        let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let clock = Arc::new(SystemClock);
        let worker = Worker::new(ours, handler.clone(), clock, tracker.clone(), options);
        let run = tracker.spawn(worker.run(shutdown.clone()));
        for count in 1..=3 {
            theirs.enqueue(task()).await.unwrap();
            handler.ended(count).await;
        }
        shutdown.cancel();
        run.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_tasks_run_at_a_time_than_allowed() {
    let mut rig = Rig::new();
    rig.options.concurrency = 4;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (running, peak) = (now.clone(), most.clone());
    let handler = Scripted::new(rig.clock.clone(), move |_| {
        let (running, peak) = (running.clone(), peak.clone());
        async move {
            peak.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
            sleep(Duration::from_secs(1)).await;
            running.fetch_sub(1, SeqCst);
            Ok(())
        }
    });
    for _ in 0..50 {
        rig.enqueue(0).await;
    }
    let worker = rig.start(handler.clone());
    handler.ended(50).await;
    assert_eq!(most.load(SeqCst), 4);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_keeps_failing_is_buried_as_exhausted() {
    let rig = Rig::new();
    let handler = Scripted::new(rig.clock.clone(), |_| async { Err(slow()) });
    let task = rig.task(0).attempts_max(4);
    let id = task.id;
    rig.queue.enqueue(task).await.unwrap();
    let worker = rig.start(handler.clone());
    handler.ended(1).await;
    assert_eq!(handler.starts().len(), 4);
    assert_eq!(handler.endings(), [Event::Buried(id, slow().to_string())]);
    assert!(matches!(rig.state(id).await, Some(TaskState::Dead { .. })));
    let stats = worker.stop().await.stats;
    assert_eq!((stats.failed, stats.retried, stats.buried), (4, 3, 1));
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_backend_spends_no_attempt() {
    let rig = Rig::new();
    let handler = Scripted::new(rig.clock.clone(), |task| async move {
        if task.attempt > 30 {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, "the database is away").temporary())
    });
    let task = rig.task(0).attempts_max(2);
    let id = task.id;
    rig.queue.enqueue(task).await.unwrap();
    let worker = rig.start(handler.clone());
    handler.ended(1).await;
    assert_eq!(handler.endings(), [Event::Completed(id)]);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_too_long_is_dropped_before_the_next_attempt() {
    let rig = Rig::new();
    let alive = Arc::new(AtomicUsize::new(0));
    let running = alive.clone();
    let handler = Scripted::new(rig.clock.clone(), move |task| {
        let running = running.clone();
        async move {
            assert_eq!(running.fetch_add(1, SeqCst), 0, "two attempts at a time");
            let _guard = OnDrop(running);
            if task.attempt == 1 {
                sleep(HOUR).await;
            }
            Ok(())
        }
    });
    rig.enqueue(0).await;
    let worker = rig.start(handler.clone());
    handler.ended(1).await;
    let starts = handler.starts();
    let waited = Duration::from_millis(starts[1] - starts[0]);
    assert!(waited >= rig.options.task_timeout && waited < HOUR, "{waited:?}");
    assert_eq!(alive.load(SeqCst), 0);
    let stats = worker.stop().await.stats;
    assert_eq!((stats.timed_out, stats.failed, stats.succeeded), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failed_attempt_and_the_worker_lives_on() {
    let mut rig = Rig::new();
    rig.options.concurrency = 1;
    let handler = Scripted::new(rig.clock.clone(), |task| async move {
        assert!(task.attempt > 1, "a panic that the test wants");
        Ok(())
    });
    let ids = [rig.enqueue(0).await, rig.enqueue(0).await];
    let worker = rig.start(handler.clone());
    handler.ended(2).await;
    for id in ids {
        assert!(handler.endings().contains(&Event::Completed(id)));
    }
    let stats = worker.stop().await.stats;
    assert_eq!((stats.panicked, stats.failed, stats.succeeded), (2, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_what_follows_a_task_costs_no_slot() {
    #[derive(Debug)]
    struct Brittle(Arc<Scripted>);

    #[async_trait]
    impl TaskHandler for Brittle {
        async fn handle(&self, task: &LeasedTask) -> Result<()> {
            self.0.handle(task).await
        }
        async fn completed(&self, task: &LeasedTask) {
            self.0.completed(task).await;
            panic!("as the test wants");
        }
    }

    let mut rig = Rig::new();
    rig.options.concurrency = 1;
    let handler = Scripted::new(rig.clock.clone(), |_| async { Ok(()) });
    for _ in 0..3 {
        rig.enqueue(0).await;
    }
    let worker = rig.start(Arc::new(Brittle(handler.clone())));
    handler.ended(3).await;
    assert_eq!(worker.counters.read().succeeded, 3, "readable while it runs");
    assert_eq!(worker.stop().await.abandoned, 0);
}

#[tokio::test(start_paused = true)]
async fn a_running_task_keeps_its_lease_although_an_extension_fails() {
    let mut rig = Rig::new();
    rig.options.lease = Duration::from_secs(3);
    rig.queue.extend_fails.store(1, SeqCst);
    let handler = Scripted::new(rig.clock.clone(), |_| async {
        sleep(Duration::from_secs(15)).await;
        Ok(())
    });
    rig.enqueue(0).await;
    let worker = rig.start(handler.clone());
    for _ in 0..14 {
        sleep(Duration::from_secs(1)).await;
        assert!(rig.queue.lease("default", 9, HOUR).await.unwrap().is_empty());
    }
    handler.ended(1).await;
    let stats = worker.stop().await.stats;
    assert_eq!((stats.succeeded, stats.lease_lost), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_lost_its_lease_drops_the_handler_and_settles_nothing() {
    let mut rig = Rig::new();
    rig.options.lease = Duration::from_secs(3);
    rig.queue.extend_fails.store(2, SeqCst);
    let dropped = Arc::new(AtomicBool::new(false));
    let (flag, handler_clock) = (dropped.clone(), rig.clock.clone());
    let handler = Scripted::new(handler_clock, move |_| {
        let guard = Flag(flag.clone());
        async move {
            let _guard = guard;
            sleep(HOUR).await;
            Ok(())
        }
    });
    let id = rig.enqueue(0).await;
    rig.options.concurrency = 1;
    let worker = rig.start(handler.clone());
    handler.started(1).await;
    sleep(Duration::from_secs(3)).await;
    let thief = rig.queue.lease("default", 1, HOUR).await.unwrap().remove(0);
    assert_eq!((thief.id, thief.attempt), (id, 2));
    sleep(Duration::from_secs(1)).await;
    assert!(dropped.load(SeqCst), "the handler was dropped");
    assert_eq!(rig.state(id).await, Some(TaskState::Leased));
    assert!(rig.queue.complete(&thief).await.unwrap(), "the new holder is undisturbed");
    let stats = worker.stop().await.stats;
    assert_eq!((stats.lease_lost, stats.processed, stats.timed_out), (1, 1, 0));
    assert_eq!(handler.endings(), []);
}

struct OnDrop(Arc<AtomicUsize>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
