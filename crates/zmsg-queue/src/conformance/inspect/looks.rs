//! Promises about what an inspector shows.

use std::time::Duration;

use zmsg_core::{Clock, Error, ErrorKind, TaskId};

use super::{InspectHarness, Inspected, listed};
use crate::conformance::harness::{LEASE, LEASE_MS, Limits, due_at, due_now, lease_one};
use crate::{NewTask, QueueSummary, Stage, TaskInfo, TaskQueue};

fn slow() -> Error {
    Error::new(ErrorKind::Timeout, "slow")
}

/// Queues that have tasks, dead letters or a pause are named, in order.
pub async fn queues_are_named_that_have_tasks_or_rest(harness: &impl InspectHarness) {
    let queue = harness.open_inspected(Limits::WIDE).await;
    assert!(queue.queues().await.expect("queues").is_empty());
    for name in ["b", "a"] {
        queue.enqueue(due_now(harness).queue(name)).await.expect("enqueue");
    }
    let dead = queue.lease("b", 1, LEASE).await.expect("lease").remove(0);
    assert!(queue.bury(&dead, &slow()).await.expect("bury"));
    assert!(queue.pause("c").await.expect("pause"));
    assert_eq!(queue.queues().await.expect("queues"), ["a", "b", "c"]);
}

/// A queue with tasks at every stage: two due, three scheduled, one to be retried, two held, one dead.
async fn of_every_stage(harness: &impl InspectHarness, queue: &dyn Inspected) {
    let now = harness.clock().wall();
    queue.enqueue_all([(); 4].map(|()| due_at(now - 9)).to_vec()).await.expect("enqueue");
    let held = queue.lease("default", 4, LEASE).await.expect("lease");
    assert!(queue.retry(&held[0], now + 9_000, &slow(), true).await.expect("retry"));
    assert!(queue.bury(&held[1], &slow()).await.expect("bury"));
    let waiting = [now - 7, now, now + 1_000, now + 2_000];
    queue.enqueue_all(waiting.map(due_at).to_vec()).await.expect("enqueue");
    // Given back uncounted it has not failed.
    queue.enqueue(due_at(now - 99)).await.expect("enqueue");
    let spared = lease_one_of(queue).await;
    assert!(queue.retry(&spared, now + 5_000, &slow(), false).await.expect("give back"));
}

async fn lease_one_of(queue: &dyn TaskQueue) -> crate::LeasedTask {
    queue.lease("default", 1, LEASE).await.expect("lease").remove(0)
}

/// Tasks are counted by where they stand; a queue that nobody knows is empty.
pub async fn a_summary_counts_each_stage(harness: &impl InspectHarness) {
    let queue = harness.open_inspected(Limits::WIDE).await;
    let nobody = queue.summary("nobody").await.expect("summary");
    let none = QueueSummary {
        queue: "nobody".to_owned(),
        processed_today: nobody.processed_today,
        failed_today: nobody.failed_today,
        ..QueueSummary::default()
    };
    assert_eq!(nobody, none);
    of_every_stage(harness, &*queue).await;
    let summary = queue.summary("default").await.expect("summary");
    let counts = Stage::ALL.map(|stage| summary.at(stage));
    assert_eq!(counts, [2, 3, 0, 1, 2, 1, 0], "{summary:?}");
    for stage in Stage::ALL {
        assert_eq!(listed(&*queue, stage).await.len() as u64, summary.at(stage), "{stage}");
    }
    assert!(!summary.paused);
    assert!(queue.pause("default").await.expect("pause"));
    let paused = queue.summary("default").await.expect("summary");
    assert_eq!(paused, QueueSummary { paused: true, ..summary });
}

/// How long ago the first in line was enqueued, and for how long the longest-waiting due task has waited;
/// a lease that ran out counts from its end.
pub async fn a_summary_tells_how_long_tasks_wait(harness: &impl InspectHarness) {
    let queue = harness.open_inspected(Limits::WIDE).await;
    let waits = || async {
        let summary = queue.summary("default").await.expect("summary");
        (summary.oldest_age, summary.latency)
    };
    let ms = |ms| Some(Duration::from_millis(ms));
    assert_eq!(waits().await, (None, None));
    let now = harness.clock().wall();
    queue.enqueue(due_at(now + 1_000)).await.expect("enqueue");
    harness.clock().advance(400);
    assert_eq!(waits().await, (ms(400), None), "not due");
    harness.clock().advance(1_100);
    assert_eq!(waits().await, (ms(1_500), ms(500)));
    assert!(queue.pause("default").await.expect("pause"));
    assert_eq!(waits().await, (ms(1_500), ms(500)), "it waits all the same");
    assert!(queue.resume("default").await.expect("resume"));
    assert!(lease_one(&*queue).await.is_some());
    assert_eq!(waits().await, (None, None), "in work");
    harness.clock().advance(LEASE_MS + 70);
    assert_eq!(waits().await, (None, ms(70)), "left");
}

/// Each stage is listed in its order, in pages that begin behind the last task of the one before.
pub async fn tasks_are_listed_by_stage_in_pages(harness: &impl InspectHarness) {
    let queue = harness.open_inspected(Limits::WIDE).await;
    let ids = |tasks: &[NewTask]| tasks.iter().map(|task| task.id).collect::<Vec<_>>();
    // Leases that end one after the other, and dead letters.
    let (mut active, mut dead) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        queue.enqueue_all(vec![due_now(harness), due_now(harness)]).await.expect("enqueue");
        let pair = queue.lease("default", 2, LEASE).await.expect("lease");
        assert!(queue.bury(&pair[1], &slow()).await.expect("bury"));
        active.push(pair[0].id);
        dead.push(pair[1].id);
        harness.clock().advance(1_000);
    }
    dead.sort_unstable();
    let now = harness.clock().wall();
    let retry = [1, 2, 3, 4, 5].map(|n| due_at(now - 10 + n));
    queue.enqueue_all(retry.to_vec()).await.expect("enqueue");
    for n in 1..=5 {
        let task = lease_one_of(&*queue).await;
        assert!(queue.retry(&task, now + n * 3_000, &slow(), true).await.expect("retry"));
    }
    let pending = [1, 2, 3, 4, 5].map(|n| due_at(now - 10 + n));
    queue.enqueue_all(pending.to_vec()).await.expect("enqueue");
    let scheduled = [1, 2, 3, 4, 5].map(|n| due_at(now + n * 2_000));
    queue.enqueue_all(scheduled.to_vec()).await.expect("enqueue");
    let expected = [
        (Stage::Pending, ids(&pending)),
        (Stage::Scheduled, ids(&scheduled)),
        (Stage::Retry, ids(&retry)),
        (Stage::Active, active),
        (Stage::Dead, dead),
        (Stage::Completed, Vec::new()),
    ];
    for (stage, expected) in expected {
        assert_eq!(pages(&*queue, stage).await, expected, "{stage}");
        assert!(queue.tasks("other", stage, None, 9).await.expect("tasks").is_empty());
        assert!(queue.tasks("default", stage, None, 0).await.expect("tasks").is_empty());
    }
}

async fn pages(queue: &dyn Inspected, stage: Stage) -> Vec<TaskId> {
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = queue.tasks("default", stage, after, 2).await.expect("page");
        assert!(page.len() <= 2 && page.iter().all(|task| task.stage == stage), "{page:?}");
        let Some(last) = page.last() else { return seen };
        after = Some(last.place());
        seen.extend(page.iter().map(|task| task.id));
        assert!(seen.len() <= 50, "the pages do not end: {seen:?}");
    }
}

/// Stage, attempts, moments and the last error of a task, from its enqueue to its grave.
pub async fn all_that_is_known_of_a_task_is_told(harness: &impl InspectHarness) {
    let queue = harness.open_inspected(Limits::WIDE).await;
    let task = due_now(harness).queue("other");
    let (id, now) = (task.id, harness.clock().wall());
    let info = || async { queue.task(None, id).await.expect("task") };
    assert_eq!(info().await, None);
    queue.enqueue(task.clone()).await.expect("enqueue");
    let pending = TaskInfo {
        id,
        name: None,
        queue: "other".to_owned(),
        kind: "save".to_owned(),
        payload_bytes: task.payload.len() as u64,
        stage: Stage::Pending,
        attempts: 0,
        attempts_spent: 0,
        attempts_max: 3,
        group: None,
        due: now,
        lease_until: None,
        lease_left: None,
        last_error: None,
        created: Some(now),
        died: None,
    };
    assert_eq!(info().await, Some(pending.clone()));
    let leased = queue.lease("other", 1, LEASE).await.expect("lease").remove(0);
    let active = TaskInfo {
        stage: Stage::Active,
        attempts: 1,
        attempts_spent: 1,
        lease_until: Some(now + LEASE_MS),
        lease_left: Some(LEASE),
        ..pending
    };
    assert_eq!(info().await, Some(active.clone()));
    let due = now + 7_000;
    assert!(queue.retry(&leased, due, &slow(), true).await.expect("retry"));
    let retry = TaskInfo {
        stage: Stage::Retry,
        due,
        lease_until: None,
        lease_left: None,
        last_error: Some("slow".to_owned()),
        ..active
    };
    assert_eq!(info().await, Some(retry.clone()));
    harness.clock().advance(8_000);
    let leased = queue.lease("other", 1, LEASE).await.expect("lease").remove(0);
    assert!(queue.bury(&leased, &Error::invalid_input("no")).await.expect("bury"));
    let dead = info().await.expect("it is kept");
    assert_eq!((dead.stage, dead.attempts, dead.died), (Stage::Dead, 2, Some(now + 8_000)));
    assert_eq!((dead.last_error.as_deref(), dead.created), (Some("no"), retry.created));
    assert_eq!(queue.task(Some("other"), id).await.expect("task"), Some(dead));
    assert_eq!(queue.task(Some("default"), id).await.expect("task"), None);
}

/// A payload comes byte for byte, and no listing prints it.
pub async fn payloads_are_shown_when_they_are_asked_for(harness: &impl InspectHarness) {
    let queue = harness.open_inspected(Limits::WIDE).await;
    let task = NewTask { payload: "s3cret \0\u{1f600}".into(), ..due_now(harness) };
    queue.enqueue(task.clone()).await.expect("enqueue");
    let tasks = queue.tasks("default", Stage::Pending, None, 9).await.expect("tasks");
    assert!(!format!("{tasks:?}").contains("s3cret"), "{tasks:?}");
    assert_eq!(queue.payload(None, task.id).await.expect("payload"), Some(task.payload.clone()));
    let leased = lease_one(&*queue).await.expect("due");
    assert!(queue.bury(&leased, &slow()).await.expect("bury"));
    assert_eq!(queue.payload(None, task.id).await.expect("payload"), Some(task.payload));
    assert_eq!(queue.payload(Some("other"), task.id).await.expect("payload"), None);
    assert_eq!(queue.payload(None, TaskId::generate()).await.expect("payload"), None);
}
