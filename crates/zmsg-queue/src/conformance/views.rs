//! Promises about what a queue says of itself.

use futures_util::future::poll_immediate;
use std::time::Duration;

use zmsg_core::{Clock, Error, ErrorKind, TaskId};

use super::harness::{Harness, LEASE, LEASE_MS, Limits, due_at, due_now, lease_one, one_leased};
use crate::{QueueStats, TaskState};

/// A task is pending, leased, dead, or unknown.
pub async fn the_state_of_a_task_is_told(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    let task = due_now(harness);
    let state = || async { queue.state(task.id).await.expect("state") };
    assert_eq!(state().await, None);
    queue.enqueue(task.clone()).await.expect("enqueue");
    assert_eq!(state().await, Some(TaskState::Pending { due: task.due }));
    let leased = lease_one(&*queue).await.expect("due");
    assert_eq!(state().await, Some(TaskState::Leased));
    let cause = Error::invalid_input("no");
    assert!(queue.bury(&leased, &cause).await.expect("bury"));
    assert_eq!(state().await, Some(TaskState::Dead { cause: "no".into() }));
    assert!(queue.drop_dead(task.id).await.expect("drop"));
    assert_eq!(state().await, None);
    assert_eq!(queue.state(TaskId::generate()).await.expect("state"), None);
}

/// The next due time and the next end of a lease, whichever is first.
pub async fn next_due_names_the_earliest_moment(harness: &impl Harness) {
    let (queue, leased) = one_leased(harness).await;
    let next = || async { queue.next_due("default").await.expect("next due") };
    assert_eq!(next().await, Some(leased.lease_until));
    let soon = harness.clock().wall() + LEASE_MS - 1;
    queue.enqueue(due_at(soon)).await.expect("enqueue");
    queue.enqueue(due_at(soon + 50)).await.expect("enqueue");
    assert_eq!(next().await, Some(soon));
    assert_eq!(queue.next_due("other").await.expect("next due"), None);
    harness.clock().advance(LEASE_MS);
    let task = queue.lease("default", 1, LEASE).await.expect("lease").remove(0);
    assert!(queue.complete(&task).await.expect("complete"));
    assert!(next().await.is_some());
}

/// `changed` resolves for an enqueue, a give-back and a retried dead letter that came after the
/// call, whether or not the future had been polled by then, and not otherwise.
pub async fn changed_tells_of_what_came_since_the_call(harness: &impl Harness) {
    let (queue, task) = one_leased(harness).await;
    let after_the_enqueue = queue.changed();
    assert!(poll_once(after_the_enqueue).await.is_none(), "that came before the call");

    let changed = queue.changed();
    let new = due_at(harness.clock().wall() + 9_999_999);
    queue.enqueue(new.clone()).await.expect("enqueue");
    assert!(poll_once(changed).await.is_some(), "enqueue");

    let changed = queue.changed();
    queue.enqueue(new).await.expect("duplicate");
    assert!(poll_once(changed).await.is_none(), "a duplicate is no change");

    let changed = queue.changed();
    let cause = Error::new(ErrorKind::Timeout, "slow");
    let now = harness.clock().wall();
    assert!(queue.retry(&task, now, &cause, true).await.expect("retry"));
    assert!(poll_once(changed).await.is_some(), "retry");

    let again = lease_one(&*queue).await.expect("due");
    assert!(queue.bury(&again, &cause).await.expect("bury"));
    let changed = queue.changed();
    assert!(queue.retry_dead(again.id).await.expect("retry dead"));
    assert!(poll_once(changed).await.is_some(), "retry_dead");
}

/// Waiting, due, leased and dead tasks are counted, and how long the oldest has been due.
pub async fn stats_count_what_there_is(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    let stats = || async { queue.stats("default").await.expect("stats") };
    assert_eq!(stats().await, QueueStats::default());
    let now = harness.clock().wall();
    queue.enqueue(due_at(now - 7)).await.expect("enqueue");
    let leased = lease_one(&*queue).await.expect("due");
    for due in [now - 40, now - 60, now, now + 1, now + LEASE_MS] {
        queue.enqueue(due_at(due)).await.expect("enqueue");
    }
    let age = Some(Duration::from_millis(60));
    let expected =
        QueueStats { pending: 5, due: 3, leased: 1, oldest_due_age: age, ..stats().await };
    assert_eq!(stats().await, expected);
    assert_eq!((expected.dead, expected.dead_dropped), (0, 0));
    harness.clock().advance(LEASE_MS);
    assert_eq!(stats().await.due, 6, "a lease that ran out is due");
    assert!(queue.bury(&leased, &Error::invalid_input("no")).await.expect("bury"));
    let after = stats().await;
    assert_eq!((after.leased, after.dead, after.due), (0, 1, 5));
}

/// After `close` every call fails with `Closed`, and those who wait for a change are woken.
pub async fn a_closed_queue_refuses_every_call(harness: &impl Harness) {
    let (queue, task) = one_leased(harness).await;
    let changed = queue.changed();
    queue.close().await.expect("close");
    queue.close().await.expect("close twice");
    assert!(poll_once(changed).await.is_some());
    let cause = Error::invalid_input("no");
    let refusals = [
        queue.enqueue(due_now(harness)).await.err(),
        queue.enqueue_all(vec![]).await.err(),
        queue.lease("default", 1, LEASE).await.err(),
        queue.extend(&task, LEASE).await.err(),
        queue.complete(&task).await.err(),
        queue.retry(&task, 0, &cause, true).await.err(),
        queue.bury(&task, &cause).await.err(),
        queue.next_due("default").await.err(),
        queue.pause("default").await.err(),
        queue.resume("default").await.err(),
        queue.is_paused("default").await.err(),
        queue.dead_letters(None, None, 1).await.err(),
        queue.retry_dead(task.id).await.err(),
        queue.drop_dead(task.id).await.err(),
        queue.state(task.id).await.err(),
        queue.stats("default").await.err(),
    ];
    for (call, refusal) in refusals.into_iter().enumerate() {
        assert_eq!(refusal.map(|error| error.kind()), Some(ErrorKind::Closed), "call {call}");
    }
}

async fn poll_once<T>(future: impl Future<Output = T> + Unpin) -> Option<T> {
    poll_immediate(future).await
}
