//! Promises about lanes, and about what else a task says of itself.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use zmsg_core::{Clock, Error, TaskId, UnixMillis};

use super::harness::{
    Harness, LEASE, LEASE_MS, Limits, due_at, due_now, ids, lease_all, lease_one,
};
use crate::{Enqueued, LeasedTask, NewTask, OnDead, TaskQueue, TaskState};

/// A queue with tasks of one lane, due at these moments from now; and their ids.
async fn lane(
    harness: &impl Harness,
    on_dead: OnDead,
    dues: &[UnixMillis],
) -> (Arc<dyn TaskQueue>, Vec<TaskId>) {
    let queue = harness.open(Limits::WIDE).await;
    let now = harness.clock().wall();
    let mut ids = Vec::new();
    for due in dues {
        let task = due_at(now + due).ordered_by("a").on_dead(on_dead);
        ids.push(task.id);
        queue.enqueue(task).await.expect("enqueue");
    }
    (queue, ids)
}

async fn only(queue: &dyn TaskQueue, id: TaskId) -> LeasedTask {
    let leased = lease_one(queue).await.expect("the first of the lane is due");
    assert_eq!(leased.id, id);
    assert_eq!(leased.lane.as_ref().map(|lane| lane.key.as_str()), Some("a"));
    leased
}

/// The tasks of a lane are handed out one at a time, in the order in which they were accepted, whatever
/// is due; those without a lane, and other lanes, do not wait for them.
pub async fn a_lane_is_handed_out_one_by_one_in_order(harness: &impl Harness) {
    let (queue, ids) = lane(harness, OnDead::Block, &[20, 10, 0]).await;
    let other = due_at(harness.clock().wall()).ordered_by("b");
    let (other_id, free) = (other.id, due_now(harness));
    let free_id = free.id;
    let answers = queue.enqueue_all(vec![other, free]).await.expect("enqueue");
    assert_eq!(answers, [Enqueued::Accepted; 2]);

    let leased = lease_all(&*queue).await;
    let others: BTreeSet<_> = leased.iter().map(|task| task.id).collect();
    assert_eq!(others, BTreeSet::from([other_id, free_id]), "the first of the lane is not due");
    let next_due = queue.next_due("default").await.expect("next due");
    assert_eq!(next_due, Some(harness.clock().wall() + 20), "the due time of the first");
    for id in ids {
        harness.clock().advance(20);
        let task = only(&*queue, id).await;
        assert!(lease_all(&*queue).await.is_empty(), "one at a time");
        assert!(queue.complete(&task).await.expect("complete"));
    }
    assert!(lease_all(&*queue).await.is_empty());
}

/// Several of a lane that are accepted together keep their order, and a task that was there has its place.
pub async fn tasks_accepted_together_keep_their_order_in_a_lane(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    let tasks: Vec<_> = (0..5).map(|_| due_now(harness).ordered_by("a")).collect();
    let mut ids: Vec<_> = tasks.iter().map(|task| task.id).collect();
    // Against the order of their ids, by which rows may be written.
    let tasks: Vec<_> = tasks.into_iter().rev().collect();
    ids.reverse();
    queue.enqueue_all(tasks.clone()).await.expect("enqueue");
    let again = queue.enqueue_all(tasks).await.expect("enqueue");
    assert_eq!(again, [Enqueued::Duplicate; 5]);
    for id in ids {
        let task = only(&*queue, id).await;
        assert!(queue.complete(&task).await.expect("complete"));
    }
}

/// A task that is to be tried again, or whose lease ran out, holds up its lane.
pub async fn a_lane_waits_for_a_task_that_failed(harness: &impl Harness) {
    let (queue, ids) = lane(harness, OnDead::Block, &[0, 0]).await;
    let task = only(&*queue, ids[0]).await;
    let due = harness.clock().wall() + 500;
    let cause = Error::invalid_input("later");
    assert!(queue.retry(&task, due, &cause, true).await.expect("retry"));
    assert!(lease_all(&*queue).await.is_empty());
    assert_eq!(queue.next_due("default").await.expect("next due"), Some(due));
    assert_eq!(queue.stats("default").await.expect("stats").due, 0);
    harness.clock().advance(500);
    let second = only(&*queue, ids[0]).await;
    harness.clock().advance(LEASE_MS);
    let third = only(&*queue, ids[0]).await;
    assert!(!queue.complete(&second).await.expect("fenced"));
    let now = harness.clock().wall();
    assert!(queue.retry(&third, now, &cause, false).await.expect("give back"));
    let fourth = only(&*queue, ids[0]).await;
    assert_eq!((fourth.attempt, fourth.attempts_spent()), (4, 3));
    assert!(queue.complete(&fourth).await.expect("complete"));
    only(&*queue, ids[1]).await;
}

/// A dead letter blocks its lane until it is retried, and then has its old place; or until it is dropped.
pub async fn a_dead_letter_blocks_its_lane(harness: &impl Harness) {
    let (queue, ids) = lane(harness, OnDead::Block, &[0, 0, 0]).await;
    let cause = Error::invalid_input("poisoned");
    let task = only(&*queue, ids[0]).await;
    assert!(queue.bury(&task, &cause).await.expect("bury"));
    assert!(lease_all(&*queue).await.is_empty());
    assert_eq!(queue.next_due("default").await.expect("next due"), None, "nothing to wait for");
    assert!(queue.retry_dead(ids[0]).await.expect("retry"));
    let again = only(&*queue, ids[0]).await;
    assert!(queue.complete(&again).await.expect("complete"));
    let task = only(&*queue, ids[1]).await;
    assert!(queue.bury(&task, &cause).await.expect("bury"));
    assert!(lease_all(&*queue).await.is_empty());
    assert!(queue.drop_dead(ids[1]).await.expect("drop"));
    only(&*queue, ids[2]).await;
}

/// Where it is to be skipped, the lane goes on; the dead letter comes last if it is retried.
pub async fn a_dead_letter_that_is_skipped_comes_last(harness: &impl Harness) {
    let (queue, ids) = lane(harness, OnDead::Skip, &[0, 0, 0]).await;
    let task = only(&*queue, ids[0]).await;
    assert!(queue.bury(&task, &Error::invalid_input("poisoned")).await.expect("bury"));
    let second = only(&*queue, ids[1]).await;
    assert!(queue.retry_dead(ids[0]).await.expect("retry"));
    assert!(lease_all(&*queue).await.is_empty(), "one at a time");
    assert!(queue.complete(&second).await.expect("complete"));
    for id in [ids[2], ids[0]] {
        let task = only(&*queue, id).await;
        assert!(queue.complete(&task).await.expect("complete"));
    }
    assert!(lease_all(&*queue).await.is_empty());
}

/// The tokens of a lane only grow, over its tasks, their attempts, and what was retried.
pub async fn the_tokens_of_a_lane_only_grow(harness: &impl Harness) {
    let (queue, ids) = lane(harness, OnDead::Skip, &[0, 0]).await;
    let cause = Error::invalid_input("later");
    let mut tokens = Vec::new();
    let mut token = |task: &LeasedTask| {
        let lane = task.lane.clone().expect("a lane");
        assert_eq!(lane.key, "a");
        tokens.push(lane.token);
    };
    let first = only(&*queue, ids[0]).await;
    token(&first);
    let now = harness.clock().wall();
    assert!(queue.retry(&first, now, &cause, true).await.expect("retry"));
    let first = only(&*queue, ids[0]).await;
    token(&first);
    assert!(queue.bury(&first, &cause).await.expect("bury"));
    let second = only(&*queue, ids[1]).await;
    token(&second);
    assert!(queue.retry_dead(ids[0]).await.expect("retry"));
    assert!(queue.complete(&second).await.expect("complete"));
    let third = only(&*queue, ids[0]).await;
    token(&third);
    assert!(queue.complete(&third).await.expect("complete"));
    // Nothing of the lane is left: it begins again, above what was.
    let task = due_now(harness).ordered_by("a");
    let id = task.id;
    queue.enqueue(task).await.expect("enqueue");
    token(&only(&*queue, id).await);
    assert!(tokens.is_sorted_by(|one, next| one < next), "{tokens:?}");
}

/// What waits behind others of its lane waits, and is not due.
pub async fn stats_count_what_waits_in_a_lane(harness: &impl Harness) {
    let (queue, ids) = lane(harness, OnDead::Block, &[0, 0, 0]).await;
    let stats = queue.stats("default").await.expect("stats");
    assert_eq!((stats.pending, stats.due, stats.leased), (3, 1, 0), "{stats:?}");
    let task = only(&*queue, ids[0]).await;
    let stats = queue.stats("default").await.expect("stats");
    assert_eq!((stats.pending, stats.due, stats.leased), (2, 0, 1), "{stats:?}");
    let state = queue.state(ids[2]).await.expect("state");
    assert!(matches!(state, Some(TaskState::Pending { .. })), "{state:?}");
    let next = queue.next_due("default").await.expect("next due");
    assert_eq!(next, Some(task.lease_until), "what is behind is nothing to wait for");
}

/// However many lease and enqueue at the same time, a lane has one holder, and what one of them enqueued
/// keeps its order.
pub async fn concurrent_leasers_keep_a_lane_in_order(harness: &impl Harness) {
    const ENQUEUERS: usize = 4;
    const TASKS: usize = 20;
    let queue = harness.open(Limits::WIDE).await;
    let now = harness.clock().wall();
    let mut enqueuers = tokio::task::JoinSet::new();
    for _ in 0..ENQUEUERS {
        let queue = Arc::clone(&queue);
        enqueuers.spawn(async move {
            let mut ids = Vec::new();
            for _ in 0..TASKS {
                let task = NewTask::new(TaskId::generate(), "save", "x").due(now).ordered_by("a");
                ids.push(task.id);
                queue.enqueue(task).await.expect("enqueue");
            }
            ids
        });
    }
    let (held, done) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<TaskId>>>::default());
    let mut leasers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (queue, held, done) = (Arc::clone(&queue), Arc::clone(&held), Arc::clone(&done));
        leasers.spawn(async move {
            while done.lock().expect("whole").len() < ENQUEUERS * TASKS {
                for task in queue.lease("default", 7, LEASE).await.expect("lease") {
                    assert!(!held.swap(true, SeqCst), "two hold one lane");
                    tokio::task::yield_now().await;
                    done.lock().expect("whole").push(task.id);
                    held.store(false, SeqCst);
                    assert!(queue.complete(&task).await.expect("complete"));
                }
                tokio::task::yield_now().await;
            }
        });
    }
    let (all, _) = tokio::join!(enqueuers.join_all(), leasers.join_all());
    let done = done.lock().expect("whole");
    for ids in all {
        let seen: Vec<TaskId> = done.iter().copied().filter(|id| ids.contains(id)).collect();
        assert_eq!(seen, ids);
    }
}

/// What a task says of itself comes back with each attempt; a deadline by the queue's clock.
pub async fn a_task_keeps_its_time_out_and_deadline(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    let (timeout, deadline) = (Duration::from_millis(1_234), harness.clock().wall() + 99_999);
    let task = due_now(harness).timeout(timeout).deadline(deadline);
    let plain = due_now(harness);
    let expected = [task.id, plain.id];
    queue.enqueue_all(vec![task, plain]).await.expect("enqueue");
    for _ in 0..2 {
        let leased = lease_all(&*queue).await;
        let mut seen = ids(&leased);
        seen.sort_unstable();
        assert_eq!(seen, expected);
        for task in &leased {
            let is_plain = task.id == expected[1];
            let said = (task.timeout, task.deadline);
            assert_eq!(said, if is_plain { (None, None) } else { (Some(timeout), Some(deadline)) });
            assert_eq!(task.lane, None);
        }
        harness.clock().advance(LEASE_MS);
    }
}
