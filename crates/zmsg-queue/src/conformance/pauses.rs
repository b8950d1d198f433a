//! Promises about queues that rest.

use futures_util::future::poll_immediate;
use zmsg_core::{Clock, Error, ErrorKind};

use super::harness::{
    Harness, LEASE, LEASE_MS, Limits, due_at, due_now, ids, lease_all, lease_one, one_leased,
};
use crate::{Enqueued, NewTask, TaskState};

const DEFAULT: &str = NewTask::QUEUE_DEFAULT;

/// A paused queue takes tasks in and gives none out: no new one, none whose lease ran out.
pub async fn a_paused_queue_accepts_and_hands_out_nothing(harness: &impl Harness) {
    let (queue, held) = one_leased(harness).await;
    assert!(queue.pause(DEFAULT).await.expect("pause"));
    assert!(queue.is_paused(DEFAULT).await.expect("is paused"));
    let (task, later) = (due_now(harness), due_at(harness.clock().wall() + 5));
    for task in [&task, &later] {
        assert_eq!(queue.enqueue(task.clone()).await.expect("enqueue"), Enqueued::Accepted);
    }
    harness.clock().advance(LEASE_MS);
    assert!(lease_all(&*queue).await.is_empty());
    assert_eq!(queue.state(held.id).await.expect("state"), Some(TaskState::Leased));
    let pending = TaskState::Pending { due: task.due };
    assert_eq!(queue.state(task.id).await.expect("state"), Some(pending));
}

/// When it is resumed, a queue hands out all it has in its order, and those who wait are woken.
pub async fn a_resumed_queue_hands_out_what_it_has(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    assert!(queue.pause(DEFAULT).await.expect("pause"));
    let now = harness.clock().wall();
    let tasks = [due_at(now - 2), due_at(now - 1), due_at(now + 100)];
    queue.enqueue_all(tasks.to_vec()).await.expect("enqueue");
    let changed = queue.changed();
    assert!(queue.resume(DEFAULT).await.expect("resume"));
    assert!(poll_immediate(changed).await.is_some(), "a worker that waits is woken");
    assert!(!queue.is_paused(DEFAULT).await.expect("is paused"));
    assert_eq!(ids(&lease_all(&*queue).await), [tasks[0].id, tasks[1].id]);
    harness.clock().advance(100);
    assert_eq!(lease_one(&*queue).await.map(|task| task.id), Some(tasks[2].id));
}

/// The second pause and the second resumption change nothing, and say so; what is no name of a queue is
/// refused.
pub async fn a_queue_is_paused_and_resumed_once(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    assert!(!queue.is_paused(DEFAULT).await.expect("is paused"));
    let changed = queue.changed();
    assert!(!queue.resume(DEFAULT).await.expect("it was not paused"));
    assert!(poll_immediate(changed).await.is_none(), "that is no change");
    for _ in 0..2 {
        assert!(queue.pause(DEFAULT).await.expect("pause"));
        assert!(!queue.pause(DEFAULT).await.expect("pause twice"));
        assert!(queue.is_paused(DEFAULT).await.expect("is paused"));
        assert!(queue.resume(DEFAULT).await.expect("resume"));
        assert!(!queue.resume(DEFAULT).await.expect("resume twice"));
        assert!(!queue.is_paused(DEFAULT).await.expect("is paused"));
    }
    for name in [String::new(), "x".repeat(256), "a\0b".to_owned()] {
        let error = queue.pause(&name).await.expect_err("no name");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

/// A pause is of the queue that it names, and of no other.
pub async fn a_pause_is_of_one_queue(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    assert!(queue.pause(DEFAULT).await.expect("pause"));
    let other = due_now(harness).queue("other");
    queue.enqueue(other.clone()).await.expect("enqueue");
    queue.enqueue(due_now(harness)).await.expect("enqueue");
    assert!(!queue.is_paused("other").await.expect("is paused"));
    assert_eq!(queue.next_due("other").await.expect("next due"), Some(other.due));
    assert_eq!(ids(&queue.lease("other", 9, LEASE).await.expect("lease")), [other.id]);
    assert!(queue.pause("other").await.expect("pause"));
    assert!(queue.resume(DEFAULT).await.expect("resume"));
    assert!(queue.is_paused("other").await.expect("is paused"));
    assert!(lease_one(&*queue).await.is_some());
}

/// What a worker had when its queue was paused it extends, completes, gives back and buries as ever.
pub async fn attempts_settle_while_their_queue_is_paused(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    queue.enqueue_all([(); 3].map(|()| due_now(harness)).to_vec()).await.expect("enqueue");
    let held = lease_all(&*queue).await;
    assert!(queue.pause(DEFAULT).await.expect("pause"));
    let (now, cause) = (harness.clock().wall(), Error::invalid_input("no"));
    for task in &held {
        assert!(queue.extend(task, LEASE).await.expect("extend"));
    }
    assert!(queue.complete(&held[0]).await.expect("complete"));
    assert!(queue.retry(&held[1], now, &cause, true).await.expect("retry"));
    assert!(queue.bury(&held[2], &cause).await.expect("bury"));
    assert!(queue.retry_dead(held[2].id).await.expect("retry dead"));
    assert!(lease_all(&*queue).await.is_empty(), "given back to a queue that rests");
    let stats = queue.stats(DEFAULT).await.expect("stats");
    assert_eq!((stats.pending, stats.leased, stats.dead), (2, 0, 0));
    assert!(queue.resume(DEFAULT).await.expect("resume"));
    assert_eq!(lease_all(&*queue).await.len(), 2);
}

/// While a queue rests there is no moment at which looking would help, so that workers wait for a
/// change and do not ask for due tasks again and again.
pub async fn a_paused_queue_names_no_moment_to_wait_for(harness: &impl Harness) {
    let (queue, held) = one_leased(harness).await;
    queue.enqueue(due_now(harness)).await.expect("enqueue");
    let next = || async { queue.next_due(DEFAULT).await.expect("next due") };
    assert!(next().await.is_some());
    assert!(queue.pause(DEFAULT).await.expect("pause"));
    assert_eq!(next().await, None, "a due task");
    harness.clock().advance(LEASE_MS);
    assert_eq!(next().await, None, "a lease that ran out");
    assert!(queue.complete(&held).await.expect("complete"));
    assert!(queue.resume(DEFAULT).await.expect("resume"));
    assert_eq!(next().await, Some(held.created));
}
