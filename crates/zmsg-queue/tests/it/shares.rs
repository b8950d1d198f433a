//! Several queues of one worker: shares, limits, and what a task says of its own time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::task::TaskTracker;
use zmsg_core::{Clock, TaskId};
use zmsg_queue::{NewTask, OnDead, ServedQueue, TaskQueue, TaskState, Worker};

use crate::handler::{Event, Scripted};
use crate::rig::{Rig, slow};

const SECOND: Duration = Duration::from_secs(1);

async fn fill(rig: &Rig, queue: &str, count: usize) -> Vec<TaskId> {
    let tasks: Vec<NewTask> = (0..count).map(|_| rig.task(0).queue(queue)).collect();
    let ids = tasks.iter().map(|task| task.id).collect();
    rig.queue.enqueue_all(tasks).await.expect("enqueue");
    ids
}

fn ids(events: Vec<Event>) -> Vec<TaskId> {
    let id = |event| match event {
        Event::Started { id, .. } | Event::Completed(id) | Event::Buried(id, ..) => id,
    };
    events.into_iter().map(id).collect()
}

#[tokio::test(start_paused = true)]
async fn queues_have_their_shares_by_weight() {
    let mut rig = Rig::new();
    rig.options.queues = vec![ServedQueue::new("a").weight(4), ServedQueue::new("b")];
    rig.options.concurrency = 1;
    let (a, _b) = (fill(&rig, "a", 2_000).await, fill(&rig, "b", 2_000).await);
    let handler = Scripted::new(rig.clock.clone(), |_| async {
        sleep(Duration::from_millis(1)).await;
        Ok(())
    });
    let worker = rig.start(handler.clone());
    handler.ended(1_000).await;
    let ended = ids(handler.endings());
    let of_a = ended.iter().take(1_000).filter(|id| a.contains(id)).count();
    // 800 expected, with a standard deviation of 13.
    assert!(of_a.abs_diff(800) < 80, "{of_a} of 1,000");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn with_strict_priorities_a_lower_queue_gets_what_is_left() {
    let mut rig = Rig::new();
    rig.options.queues = vec![ServedQueue::new("low"), ServedQueue::new("high").weight(2)];
    rig.options.strict = true;
    rig.options.concurrency = 1;
    let (low, high) = (fill(&rig, "low", 3).await, fill(&rig, "high", 5).await);
    let handler = Scripted::new(rig.clock.clone(), |_| async { Ok(()) });
    let worker = rig.start(handler.clone());
    handler.ended(8).await;
    let expected: Vec<_> = high.into_iter().chain(low).map(Event::Completed).collect();
    assert_eq!(handler.endings(), expected);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_queue_with_a_limit_leaves_the_other_slots_to_the_others() {
    let mut rig = Rig::new();
    rig.options.queues = vec![ServedQueue::new("a").concurrency(2), ServedQueue::new("b")];
    rig.options.concurrency = 6;
    let a = fill(&rig, "a", 40).await;
    let (now, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (running, most) = (now.clone(), peak.clone());
    let of_a = move |id: TaskId| a.contains(&id);
    let handler = Scripted::new(rig.clock.clone(), move |task| {
        let (running, most, counts) = (running.clone(), most.clone(), of_a(task.id));
        async move {
            if counts {
                most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
            }
            sleep(Duration::from_millis(10)).await;
            running.fetch_sub(usize::from(counts), SeqCst);
            Ok(())
        }
    });
    let start = rig.clock.wall();
    let worker = rig.start(handler.clone());
    fill(&rig, "b", 40).await;
    handler.ended(80).await;
    assert_eq!(peak.load(SeqCst), 2, "as many as it may have, and no more");
    // 40 tasks of 10 ms, two at a time: a slot that came free is used at once, not at the next poll.
    let took = rig.clock.wall() - start;
    assert!(took <= 400, "{took} ms");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_in_every_window_and_used_up() {
    let mut rig = Rig::new();
    rig.options.queues = vec![ServedQueue::new("a").rate(5, SECOND)];
    fill(&rig, "a", 20).await;
    let handler = Scripted::new(rig.clock.clone(), |_| async { Ok(()) });
    let worker = rig.start(handler.clone());
    handler.ended(20).await;
    let starts = handler.starts();
    assert!(starts.windows(6).all(|six| six[5] - six[0] >= 1_000), "{starts:?}");
    assert!(starts[19] - starts[0] <= 3_010, "{starts:?}");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_says_how_long_it_may_take_is_given_that() {
    let mut rig = Rig::new();
    rig.options.task_timeout = SECOND;
    let handler = Scripted::new(rig.clock.clone(), |_| async {
        sleep(Duration::from_millis(1_500)).await;
        Ok(())
    });
    let short = rig.task(0).attempts_max(1);
    let long = rig.task(0).attempts_max(1).timeout(2 * SECOND);
    let ids = (short.id, long.id);
    rig.queue.enqueue_all(vec![short, long]).await.expect("enqueue");
    let worker = rig.start(handler.clone());
    handler.ended(2).await;
    let stats = worker.stop().await.stats;
    assert_eq!((stats.timed_out, stats.buried, stats.succeeded), (1, 1, 1), "{stats:?}");
    assert!(matches!(rig.state(ids.0).await, Some(TaskState::Dead { .. })));
    assert_eq!(rig.state(ids.1).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_deadline_has_passed_is_a_dead_letter_and_is_not_run() {
    let rig = Rig::new();
    let handler = Scripted::new(rig.clock.clone(), |_| async {
        sleep(Duration::from_millis(100)).await;
        Err(slow())
    });
    // One is late before it begins, one after its first attempts.
    let late = rig.task(0).deadline(rig.clock.wall() + 10);
    let tried = rig.task(20).deadline(rig.clock.wall() + 300).attempts_max(50);
    let ids = (late.id, tried.id);
    rig.queue.enqueue_all(vec![late, tried]).await.expect("enqueue");
    sleep(Duration::from_millis(20)).await;
    let worker = rig.start(handler.clone());
    handler.ended(2).await;
    assert!(handler.starts().len() <= 3, "{:?}", handler.starts());
    let Some(TaskState::Dead { cause }) = rig.state(ids.0).await else { panic!("dead") };
    assert!(cause.contains("deadline"), "{cause}");
    assert!(matches!(rig.state(ids.1).await, Some(TaskState::Dead { .. })));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lane_is_worked_in_order_without_polling_whatever_fails() {
    let mut rig = Rig::new();
    rig.options.poll_max = Duration::from_secs(3_600);
    let start = rig.clock.wall();
    let tasks: Vec<NewTask> = (0..10)
        .map(|_| rig.task(0).ordered_by("a").on_dead(OnDead::Skip).attempts_max(2))
        .collect();
    let expected: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
    rig.queue.enqueue_all(tasks).await.expect("enqueue");
    let (poisoned, flaky) = (expected[3], expected[6]);
    let handler = Scripted::new(rig.clock.clone(), move |task| {
        let fails = task.id == poisoned || (task.id == flaky && task.attempt == 1);
        async move { if fails { Err(slow()) } else { Ok(()) } }
    });
    let worker = rig.start(handler.clone());
    handler.ended(10).await;
    assert_eq!(ids(handler.endings()), expected);
    assert!(rig.clock.wall() - start < 1_000, "as soon as the one before is done");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_running_attempt_can_be_looked_at_and_cancelled_and_has_failed_then() {
    let rig = Rig::new();
    let handler = Scripted::new(rig.clock.clone(), |task| async move {
        match task.attempt {
            1 => std::future::pending().await,
            _ => Ok(()),
        }
    });
    let id = rig.enqueue(0).await;
    let (tracker, options) = (TaskTracker::new(), rig.options.clone());
    let worker = Worker::new(
        rig.queue.clone(),
        handler.clone(),
        rig.clock.clone(),
        tracker.clone(),
        options,
    );
    let (attempts, counters) = (worker.attempts(), worker.counters());
    let running = tracker.spawn(worker.run(rig.shutdown.clone()));
    handler.started(1).await;
    let seen = attempts.running();
    assert_eq!(seen.iter().map(|it| it.task.id).collect::<Vec<_>>(), [id]);
    assert_eq!(seen[0].until - seen[0].begun, 20_000);
    assert_eq!(attempts.cancel(TaskId::generate()), 0);
    assert_eq!(attempts.cancel(id), 1);
    handler.ended(1).await;
    let stats = counters.read();
    assert_eq!((stats.cancelled, stats.failed, stats.retried, stats.succeeded), (1, 1, 1, 1));
    assert_eq!(stats.timed_out, 0);
    assert!(attempts.running().is_empty());
    rig.shutdown.cancel();
    running.await.expect("no panic").expect("a report");
}
