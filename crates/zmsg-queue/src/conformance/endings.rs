//! Promises about how an attempt ends.

use zmsg_core::{Clock, Error, ErrorKind};

use super::harness::{Harness, LEASE_MS, lease_all, lease_one, one_leased};
use crate::{Enqueued, NewTask, TaskState};

/// A completed task is gone; its id is free again.
pub async fn a_completed_task_is_forgotten(harness: &impl Harness) {
    let (queue, task) = one_leased(harness).await;
    assert!(queue.complete(&task).await.expect("complete"));
    assert_eq!(queue.state(task.id).await.expect("state"), None);
    harness.clock().advance(10 * LEASE_MS);
    assert!(lease_all(&*queue).await.is_empty());
    let again = NewTask::new(task.id, "save", "payload");
    assert_eq!(queue.enqueue(again).await.expect("enqueue"), Enqueued::Accepted);
}

/// A retried task is handed out again at its new due time, with the next attempt.
pub async fn a_retried_task_waits_for_its_new_due(harness: &impl Harness) {
    let (queue, first) = one_leased(harness).await;
    let due = harness.clock().wall() + 250;
    let cause = Error::new(ErrorKind::Timeout, "slow");
    assert!(queue.retry(&first, due, &cause, true).await.expect("retry"));
    let state = queue.state(first.id).await.expect("state");
    assert_eq!(state, Some(TaskState::Pending { due }));
    harness.clock().advance(249);
    assert!(lease_all(&*queue).await.is_empty(), "one millisecond early");
    harness.clock().advance(1);
    let second = lease_one(&*queue).await.expect("due again");
    assert_eq!((second.attempt, second.attempts_spent()), (2, 2));
    assert_eq!(second.payload, first.payload);
}

/// Giving back uncounted spends no attempt, however often, and the token grows all the same.
pub async fn what_was_given_back_uncounted_spends_no_attempt(harness: &impl Harness) {
    let (queue, mut task) = one_leased(harness).await;
    let cause = Error::new(ErrorKind::Unavailable, "away");
    for attempt in 2..20 {
        let now = harness.clock().wall();
        assert!(queue.retry(&task, now, &cause, false).await.expect("give back"));
        task = lease_one(&*queue).await.expect("due at once");
        assert_eq!((task.attempt, task.attempts_spent()), (attempt, 1));
        assert!(!task.is_last_attempt());
    }
}
