//! Promises about firings of periodic tasks.

use std::sync::Arc;

use tokio_util::task::TaskTracker;
use zmsg_core::{Clock, ErrorKind, TaskId, UnixMillis};

use super::harness::{Harness, LEASE, Limits, ids, lease_all, lease_one};
use crate::{Enqueued, Firing, NewTask, OnDead, TaskQueue, TaskState};

const QUEUE: &str = NewTask::QUEUE_DEFAULT;

fn firing(entry: &str, moment: UnixMillis) -> Firing {
    Firing::new(entry, moment, NewTask::new(TaskId::generate(), "report", "payload"))
}

async fn fire(queue: &dyn TaskQueue, entry: &str, moment: UnixMillis) -> Enqueued {
    queue.enqueue_firing(firing(entry, moment)).await.expect("enqueue_firing")
}

async fn last(queue: &dyn TaskQueue, entry: &str) -> Option<UnixMillis> {
    queue.last_firing(QUEUE, entry).await.expect("last_firing")
}

/// A firing is accepted once: while its task waits, while it is leased, and when it is done.
pub async fn a_firing_is_accepted_once(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    let now = harness.clock().wall();
    assert_eq!(last(&*queue, "a").await, None);
    assert_eq!(fire(&*queue, "a", now).await, Enqueued::Accepted);
    assert_eq!(fire(&*queue, "a", now).await, Enqueued::Duplicate, "waiting");
    let leased = lease_one(&*queue).await.expect("its task");
    assert_eq!(fire(&*queue, "a", now).await, Enqueued::Duplicate, "leased");
    assert!(queue.complete(&leased).await.expect("complete"));
    assert_eq!(fire(&*queue, "a", now).await, Enqueued::Duplicate, "done");
    assert!(lease_all(&*queue).await.is_empty());
    assert_eq!(last(&*queue, "a").await, Some(now));
}

/// When an entry has fired, only later moments of it do.
pub async fn an_entry_fires_in_the_order_of_its_moments(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    let now = harness.clock().wall();
    let mut accepted = Vec::new();
    for ago in [900, 1_000, 500, 700, 500, 0] {
        let moment = now - ago;
        if fire(&*queue, "a", moment).await == Enqueued::Accepted {
            accepted.push(moment);
        }
    }
    assert_eq!(accepted, [now - 900, now - 500, now]);
    assert_eq!(last(&*queue, "a").await, Some(now));
    let expected = accepted.iter().map(|moment| Firing::id_of(QUEUE, "a", *moment));
    let expected: Vec<TaskId> = expected.collect();
    assert_eq!(ids(&lease_all(&*queue).await), expected, "and no task of those refused");
}

/// Entries of different names, and of one name in different queues, know nothing of each other.
pub async fn entries_fire_apart(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    let now = harness.clock().wall();
    assert_eq!(fire(&*queue, "a", now).await, Enqueued::Accepted);
    assert_eq!(fire(&*queue, "b", now - 1).await, Enqueued::Accepted);
    let task = NewTask::new(TaskId::generate(), "report", "payload").queue("other");
    let elsewhere = queue.enqueue_firing(Firing::new("a", now - 2, task)).await;
    assert_eq!(elsewhere.expect("enqueue_firing"), Enqueued::Accepted);
    assert_eq!((last(&*queue, "a").await, last(&*queue, "b").await), (Some(now), Some(now - 1)));
    let other = queue.last_firing("other", "a").await.expect("last_firing");
    assert_eq!(other, Some(now - 2));
    assert_eq!(queue.last_firing("other", "b").await.expect("last_firing"), None);
}

/// What its task says of itself is kept; its id and its due time are those of the firing.
pub async fn a_firing_makes_a_task_like_any_other(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    let now = harness.clock().wall();
    let task = |entry: &str, payload: &'static str| {
        let task = NewTask::new(TaskId::generate(), "report", payload).attempts_max(7);
        let task = task.timeout(LEASE).ordered_by("lane").on_dead(OnDead::Skip);
        Firing::new(entry, now + 200, task)
    };
    for (entry, payload) in [("a", "first"), ("b", "second")] {
        let answer = queue.enqueue_firing(task(entry, payload)).await;
        assert_eq!(answer.expect("enqueue_firing"), Enqueued::Accepted);
    }
    let id = Firing::id_of(QUEUE, "a", now + 200);
    let pending = TaskState::Pending { due: now + 200 };
    assert_eq!(queue.state(id).await.expect("state"), Some(pending));
    assert!(lease_all(&*queue).await.is_empty(), "it is not due yet");
    harness.clock().advance(200);
    let leased = lease_one(&*queue).await.expect("the first of its lane");
    assert_eq!(
        (leased.id, leased.kind.as_str(), &leased.payload[..]),
        (id, "report", &b"first"[..])
    );
    assert_eq!((leased.attempts_max, leased.timeout), (7, Some(LEASE)));
    assert_eq!(leased.lane.as_ref().map(|lane| lane.key.as_str()), Some("lane"));
    assert!(queue.complete(&leased).await.expect("complete"));
    let second = lease_one(&*queue).await.expect("the second");
    assert_eq!(second.id, Firing::id_of(QUEUE, "b", now + 200));
}

/// More than a second before its moment a firing is refused, and may be offered again.
pub async fn a_firing_waits_for_its_moment_by_the_clock_of_the_queue(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    let moment = harness.clock().wall() + Firing::EARLY_MAX_MS + 1;
    let error = queue.enqueue_firing(firing("a", moment)).await.expect_err("too early");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.is_temporary(), "{error}");
    assert_eq!(last(&*queue, "a").await, None);
    harness.clock().advance(1);
    assert_eq!(fire(&*queue, "a", moment).await, Enqueued::Accepted);
    assert!(lease_all(&*queue).await.is_empty(), "its task is due at the moment");
}

/// A firing for which there is no room leaves nothing behind, and is accepted when there is.
pub async fn a_firing_without_room_is_not_remembered(harness: &impl Harness) {
    let queue = harness.open(Limits { tasks_max: 1, dead_max: 9 }).await;
    let now = harness.clock().wall();
    assert_eq!(fire(&*queue, "a", now - 2).await, Enqueued::Accepted);
    for (entry, moment) in [("a", now - 1), ("b", now)] {
        let error = queue.enqueue_firing(firing(entry, moment)).await.expect_err("full");
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        assert!(error.is_temporary(), "{error}");
    }
    assert_eq!(fire(&*queue, "a", now - 2).await, Enqueued::Duplicate, "also while it is full");
    assert_eq!((last(&*queue, "a").await, last(&*queue, "b").await), (Some(now - 2), None));
    let leased = lease_one(&*queue).await.expect("the first");
    assert!(queue.complete(&leased).await.expect("complete"));
    assert_eq!(fire(&*queue, "a", now - 1).await, Enqueued::Accepted);
}

/// Names that no entry has, and tasks that no queue takes, are refused and not remembered.
pub async fn what_cannot_fire_is_refused(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    let now = harness.clock().wall();
    let (long, good) = ("x".repeat(256), firing("a", now).task().clone());
    for (entry, moment, task) in [
        ("", now, good.clone()),
        ("a\0b", now, good.clone()),
        (long.as_str(), now, good.clone()),
        ("a", u64::MAX, good.clone()),
        ("a", now, good.clone().attempts_max(0)),
        ("a", now, good.queue("")),
    ] {
        let firing = Firing::new(entry, moment, task);
        let error = queue.enqueue_firing(firing.clone()).await.expect_err("invalid");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{firing:?}: {error}");
    }
    assert_eq!(last(&*queue, "a").await, None);
    let name = "'; DROP TABLE zmsg_periodic; --\"?$1 列 {}";
    assert_eq!(fire(&*queue, name, now).await, Enqueued::Accepted, "a strange name is a name");
    assert_eq!(last(&*queue, name).await, Some(now));
}

/// Of nodes that offer the same firings at the same time one enqueues each.
pub async fn concurrent_nodes_fire_each_moment_once(harness: &impl Harness) {
    const NODES: usize = 4;
    const MOMENTS: u64 = 25;
    let queue = harness.open(Limits::WIDE).await;
    let now = harness.clock().wall();
    let tracker = TaskTracker::new();
    let nodes = [(); NODES].map(|()| {
        let queue = Arc::clone(&queue);
        tracker.spawn(async move {
            let mut accepted = Vec::new();
            for moment in now - MOMENTS..now {
                if fire(&*queue, "a", moment).await == Enqueued::Accepted {
                    accepted.push(moment);
                }
            }
            accepted
        })
    });
    let mut accepted = Vec::new();
    for node in nodes {
        accepted.extend(node.await.expect("a node"));
    }
    accepted.sort_unstable();
    // Nodes overtake each other: a moment may be passed over by then, and none is fired twice.
    assert!(accepted.is_sorted_by(|one, next| one < next), "{accepted:?}");
    assert_eq!(accepted.last(), Some(&(now - 1)));
    assert_eq!(lease_all(&*queue).await.len(), accepted.len());
}

/// What an entry has fired is forgotten 400 days later, when another one fires for the first time.
pub async fn entries_that_fire_no_more_are_forgotten(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    let then = harness.clock().wall();
    assert_eq!(fire(&*queue, "old", then).await, Enqueued::Accepted);
    harness.clock().advance(Firing::KEPT_MS);
    assert_eq!(fire(&*queue, "new", then + Firing::KEPT_MS).await, Enqueued::Accepted);
    assert_eq!(last(&*queue, "old").await, Some(then), "400 days are not over");
    harness.clock().advance(1);
    assert_eq!(fire(&*queue, "newer", then + Firing::KEPT_MS + 1).await, Enqueued::Accepted);
    assert_eq!(last(&*queue, "old").await, None);
    assert_eq!(last(&*queue, "new").await, Some(then + Firing::KEPT_MS));
}

/// A closed queue takes no firing.
pub async fn a_closed_queue_refuses_firings(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    queue.close().await.expect("close");
    let now = harness.clock().wall();
    let fired = queue.enqueue_firing(firing("a", now)).await.map(drop);
    let asked = queue.last_firing(QUEUE, "a").await.map(drop);
    for answer in [fired, asked] {
        assert_eq!(answer.expect_err("closed").kind(), ErrorKind::Closed);
    }
}
