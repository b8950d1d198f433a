//! Promises about leases.

use std::collections::BTreeSet;
use std::sync::Arc;

use zmsg_core::{Clock, Error};

use super::harness::{Harness, LEASE, LEASE_MS, Limits, due_now, lease_all, lease_one, one_leased};
use crate::TaskState;

/// When a lease has run out, the task is handed out again with the next attempt number, and not
/// a millisecond before.
pub async fn a_lease_that_ran_out_is_handed_over_with_the_next_attempt(harness: &impl Harness) {
    let (queue, first) = one_leased(harness).await;
    assert_eq!((first.attempt, first.attempts_spent()), (1, 1));
    assert_eq!(first.lease_until, harness.clock().wall() + LEASE_MS);
    harness.clock().advance(LEASE_MS - 1);
    assert!(lease_all(&*queue).await.is_empty(), "the lease holds");
    harness.clock().advance(1);
    let second = lease_one(&*queue).await.expect("the lease ran out");
    assert_eq!((second.id, second.attempt, second.attempts_spent()), (first.id, 2, 2));
    harness.clock().advance(LEASE_MS);
    assert!(lease_one(&*queue).await.is_some_and(|third| third.is_last_attempt()));
    harness.clock().advance(LEASE_MS);
    let beyond = lease_one(&*queue).await.expect("whoever gets it buries it");
    assert!(beyond.attempts_spent() > beyond.attempts_max);
}

/// A worker whose task was handed to another can neither extend, complete, retry nor bury it.
pub async fn a_late_worker_is_fenced(harness: &impl Harness) {
    let (queue, late) = one_leased(harness).await;
    harness.clock().advance(LEASE_MS);
    let holder = lease_one(&*queue).await.expect("handed over");
    let cause = Error::invalid_input("late");
    let due = harness.clock().wall();
    assert!(!queue.extend(&late, LEASE).await.expect("extend"));
    assert!(!queue.complete(&late).await.expect("complete"));
    assert!(!queue.retry(&late, due, &cause, true).await.expect("retry"));
    assert!(!queue.retry(&late, due, &cause, false).await.expect("give back"));
    assert!(!queue.bury(&late, &cause).await.expect("bury"));
    assert_eq!(queue.state(late.id).await.expect("state"), Some(TaskState::Leased));

    // Given back, it belongs to nobody: the former holder is fenced like everybody else.
    assert!(queue.retry(&holder, due, &cause, false).await.expect("give back"));
    assert!(!queue.complete(&holder).await.expect("complete"));
    let next = lease_one(&*queue).await.expect("due again");
    assert!(!queue.complete(&holder).await.expect("complete"), "the token never comes back");
    assert!(queue.complete(&next).await.expect("complete"));
    assert!(!queue.complete(&next).await.expect("complete twice"));
}

/// A lease that ran out, of a task that nobody has taken since, still holds it.
pub async fn a_lease_that_ran_out_unnoticed_still_holds(harness: &impl Harness) {
    let (queue, task) = one_leased(harness).await;
    harness.clock().advance(10 * LEASE_MS);
    assert!(queue.extend(&task, LEASE).await.expect("extend"));
    assert!(lease_all(&*queue).await.is_empty());
    harness.clock().advance(10 * LEASE_MS);
    assert!(queue.complete(&task).await.expect("complete"));
}

/// An extension counts from the moment it is made.
pub async fn an_extended_lease_is_not_handed_over(harness: &impl Harness) {
    let (queue, task) = one_leased(harness).await;
    for _ in 0..3 {
        harness.clock().advance(LEASE_MS - 1);
        assert!(queue.extend(&task, LEASE).await.expect("extend"));
        assert!(lease_all(&*queue).await.is_empty());
    }
    harness.clock().advance(LEASE_MS);
    assert_eq!(lease_one(&*queue).await.map(|task| task.attempt), Some(2));
}

/// Leases that are asked for at the same time never give one task twice.
pub async fn concurrent_leasers_never_share_a_task(harness: &impl Harness) {
    const TASKS: usize = 200;
    let queue = harness.open(Limits::WIDE).await;
    let tasks = (0..TASKS).map(|_| due_now(harness)).collect();
    queue.enqueue_all(tasks).await.expect("enqueue");
    let mut leasers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let queue = Arc::clone(&queue);
        leasers.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let leased = queue.lease("default", 7, LEASE).await.expect("lease");
                if leased.is_empty() {
                    return mine;
                }
                mine.extend(leased.into_iter().map(|task| task.id));
            }
        });
    }
    let all: Vec<_> = leasers.join_all().await.into_iter().flatten().collect();
    let distinct: BTreeSet<_> = all.iter().copied().collect();
    assert_eq!((all.len(), distinct.len()), (TASKS, TASKS));
}
