//! The worker: how it stops, and what it does when the queue fails it.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tokio::time::sleep;
use zmsg_core::{Backoff, Clock, Error, ErrorKind};
use zmsg_queue::{TaskQueue, TaskState};

use crate::handler::{Event, Scripted};
use crate::rig::{Rig, slow};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_stopping_worker_waits_for_the_running_and_gives_back_the_rest() {
    let mut rig = Rig::new();
    rig.options.drain = Duration::from_secs(5);
    rig.options.task_timeout = HOUR;
    let handler = Scripted::new(rig.clock.clone(), |task| async move {
        sleep(if task.kind == "quick" { Duration::from_secs(4) } else { HOUR }).await;
        Ok(())
    });
    let slow_one = rig.enqueue(0).await;
    let mut quick = rig.task(0);
    quick.kind = "quick".into();
    rig.queue.enqueue(quick.clone()).await.unwrap();
    let worker = rig.start(handler.clone());
    handler.started(2).await;
    rig.shutdown.cancel();
    let unstarted = rig.enqueue(0).await;
    let report = worker.stop().await;

    assert_eq!(handler.endings(), [Event::Completed(quick.id)]);
    assert_eq!((report.stats.succeeded, report.stats.given_back), (1, 1));
    assert_eq!((report.abandoned, report.stats.failed), (0, 0));
    let again = rig.queue.lease("default", 9, HOUR).await.unwrap();
    let mut ids: Vec<_> = again.iter().map(|task| (task.id, task.attempts_spent())).collect();
    ids.sort_unstable();
    assert_eq!(ids, [(slow_one, 1), (unstarted, 1)], "due at once, no attempt spent");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_given_back_is_reported_and_comes_back_by_its_lease() {
    let mut rig = Rig::new();
    rig.options.drain = Duration::ZERO;
    rig.queue.retry_fails.store(u32::MAX, SeqCst);
    let handler = Scripted::new(rig.clock.clone(), |_| async {
        sleep(HOUR).await;
        Ok(())
    });
    let id = rig.enqueue(0).await;
    let worker = rig.start(handler.clone());
    handler.started(1).await;
    let report = worker.stop().await;
    assert_eq!((report.abandoned, report.stats.given_back), (1, 0));
    assert_eq!(rig.state(id).await, Some(TaskState::Leased));
    sleep(rig.options.lease).await;
    assert_eq!(rig.queue.lease("default", 9, HOUR).await.unwrap()[0].id, id);
}

#[tokio::test(start_paused = true)]
async fn a_completion_whose_answer_was_lost_is_found_to_have_happened() {
    let rig = Rig::new();
    rig.queue.complete_unanswered.store(1, SeqCst);
    let handler = Scripted::new(rig.clock.clone(), |_| async { Ok(()) });
    let id = rig.enqueue(0).await;
    let worker = rig.start(handler.clone());
    handler.ended(1).await;
    assert_eq!(handler.events()[1..], [Event::Completed(id)]);
    let stats = worker.stop().await.stats;
    assert_eq!((stats.succeeded, stats.lease_lost), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_burial_whose_answer_was_lost_is_found_to_have_happened() {
    let rig = Rig::new();
    rig.queue.bury_unanswered.store(1, SeqCst);
    let handler =
        Scripted::new(rig.clock.clone(), |_| async { Err(Error::invalid_input("nonsense")) });
    let id = rig.enqueue(0).await;
    let worker = rig.start(handler.clone());
    handler.ended(1).await;
    assert_eq!(handler.endings(), [Event::Buried(id, "nonsense".into())]);
    assert_eq!(worker.stop().await.stats.buried, 1);
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_queue_is_waited_out() {
    let rig = Rig::new();
    rig.queue.lease_fails.store(20, SeqCst);
    rig.queue.retry_fails.store(20, SeqCst);
    let handler = Scripted::new(rig.clock.clone(), |task| async move {
        if task.attempt == 1 { Err(slow()) } else { Ok(()) }
    });
    let id = rig.enqueue(0).await;
    let worker = rig.start(handler.clone());
    handler.ended(1).await;
    assert_eq!(handler.endings(), [Event::Completed(id)]);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_was_away_for_long_is_asked_as_often_as_one_that_is_idle() {
    let mut rig = Rig::new();
    rig.options.backoff = Backoff::new(Duration::from_millis(500), HOUR);
    rig.queue.lease_fails.store(60, SeqCst);
    let handler = Scripted::new(rig.clock.clone(), |_| async { Ok(()) });
    rig.enqueue(0).await;
    let began = rig.clock.wall();
    let worker = rig.start(handler.clone());
    handler.ended(1).await;
    let waited = Duration::from_millis(rig.clock.wall() - began);
    assert!(waited <= 60 * rig.options.poll_max, "{waited:?}");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_hangs_does_not_keep_the_worker_from_stopping() {
    let rig = Rig::new();
    rig.queue.lease_hangs.store(true, SeqCst);
    let handler = Scripted::new(rig.clock.clone(), |_| async { Ok(()) });
    let worker = rig.start(handler);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(worker.stop().await.stats.processed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_queue_was_closed_ends_with_the_error() {
    let rig = Rig::new();
    let handler = Scripted::new(rig.clock.clone(), |_| async { Ok(()) });
    let worker = rig.start(handler);
    sleep(Duration::from_secs(5)).await;
    rig.queue.close().await.unwrap();
    assert_eq!(worker.ended().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_last_attempt_never_ended_is_buried_unhandled() {
    let rig = Rig::new();
    let handler = Scripted::new(rig.clock.clone(), |_| async { Ok(()) });
    let task = rig.task(0).attempts_max(2);
    let id = task.id;
    rig.queue.enqueue(task).await.unwrap();
    for attempt in 1..=2 {
        let leased = rig.queue.lease("default", 1, Duration::from_secs(1)).await.unwrap();
        assert_eq!(leased[0].attempt, attempt, "a process that stops here");
        sleep(Duration::from_secs(1)).await;
    }
    let worker = rig.start(handler.clone());
    handler.ended(1).await;
    assert!(handler.starts().is_empty());
    assert!(matches!(handler.endings()[..], [Event::Buried(buried, _)] if buried == id));
    worker.stop().await;
}
