//! Promises about what people may do to one task.

use futures_util::future::poll_immediate;
use zmsg_core::{Clock, Error, ErrorKind, TaskId};

use super::{InspectHarness, Inspected, listed};
use crate::conformance::harness::{
    LEASE, LEASE_MS, Limits, due_at, due_now, ids, lease_all, lease_one,
};
use crate::{Act, Enqueued, LeasedTask, NewTask, OnDead, Stage, TaskInfo};

fn slow() -> Error {
    Error::new(ErrorKind::Timeout, "slow")
}

async fn info(queue: &dyn Inspected, id: TaskId) -> TaskInfo {
    queue.task(None, id).await.expect("task").expect("it is there")
}

/// A queue of three tasks that wait: one due, one scheduled, and one that failed.
async fn waiting(harness: &impl InspectHarness, limits: Limits) -> (Waiting, [TaskId; 3]) {
    let queue = harness.open_inspected(limits).await;
    let later = harness.clock().wall() + 60_000;
    let failed = due_now(harness);
    queue.enqueue(failed.clone()).await.expect("enqueue");
    let held = lease_one(&*queue).await.expect("due");
    assert!(queue.retry(&held, later, &slow(), true).await.expect("retry"));
    let (due, scheduled) = (due_now(harness), due_at(later));
    queue.enqueue_all(vec![due.clone(), scheduled.clone()]).await.expect("enqueue");
    let of = [due.id, scheduled.id, failed.id];
    let stages = [Stage::Pending, Stage::Scheduled, Stage::Retry];
    for (id, stage) in of.into_iter().zip(stages) {
        assert_eq!(listed(&*queue, stage).await, [id]);
    }
    (Waiting(queue), of)
}

struct Waiting(std::sync::Arc<dyn Inspected>);

/// What waits for its time is due now, and workers are woken; what is due is as it was.
pub async fn a_task_that_waits_can_be_run_now(harness: &impl InspectHarness) {
    let (Waiting(queue), [due, scheduled, failed]) = waiting(harness, Limits::WIDE).await;
    let changed = queue.changed();
    assert_eq!(queue.run_now(None, due).await.expect("run"), Act::Already);
    assert_eq!(queue.run_now(None, TaskId::generate()).await.expect("run"), Act::Unknown);
    assert!(poll_immediate(changed).await.is_none(), "nothing was done");
    for id in [scheduled, failed] {
        let changed = queue.changed();
        assert_eq!(queue.run_now(None, id).await.expect("run"), Act::Done);
        assert!(poll_immediate(changed).await.is_some(), "a worker that waits is woken");
        assert_eq!(queue.run_now(None, id).await.expect("run twice"), Act::Already);
        let info = info(&*queue, id).await;
        assert_eq!((info.stage, info.due), (Stage::Pending, harness.clock().wall()));
    }
    let leased = lease_all(&*queue).await;
    assert_eq!(leased.len(), 3);
    let again = leased.iter().find(|task| task.id == failed).expect("it is due");
    assert_eq!((again.attempt, again.attempts_spent()), (2, 2), "its failure counts");
    harness.clock().advance(10 * LEASE_MS);
    for task in &leased {
        assert!(queue.complete(task).await.expect("complete"));
    }
    assert!(lease_all(&*queue).await.is_empty(), "nothing of it is left behind");
}

/// A dead letter comes back with all its attempts, if there is room.
pub async fn a_dead_letter_can_be_run_now(harness: &impl InspectHarness) {
    let queue = harness.open_inspected(Limits { tasks_max: 1, dead_max: 9 }).await;
    queue.enqueue(due_now(harness)).await.expect("enqueue");
    let held = lease_one(&*queue).await.expect("due");
    assert!(queue.bury(&held, &slow()).await.expect("bury"));
    let other = due_now(harness);
    queue.enqueue(other.clone()).await.expect("room for one");
    let error = queue.run_now(None, held.id).await.expect_err("full");
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    assert_eq!(queue.delete(None, other.id).await.expect("delete"), Act::Done);
    assert_eq!(queue.run_now(None, held.id).await.expect("run"), Act::Done);
    assert!(listed(&*queue, Stage::Dead).await.is_empty());
    let again = lease_one(&*queue).await.expect("due at once");
    assert_eq!((again.id, again.attempt, again.attempts_spent()), (held.id, 2, 1));
}

/// What waits becomes a dead letter, with its last error or the fact that it was archived as the cause.
pub async fn a_task_that_waits_can_be_archived(harness: &impl InspectHarness) {
    let (Waiting(queue), all) = waiting(harness, Limits::WIDE).await;
    for id in all {
        assert_eq!(queue.archive(None, id).await.expect("archive"), Act::Done);
        assert_eq!(queue.archive(None, id).await.expect("archive twice"), Act::Already);
        let died = info(&*queue, id).await.died;
        assert_eq!(died, Some(harness.clock().wall()));
    }
    assert_eq!(queue.archive(None, TaskId::generate()).await.expect("archive"), Act::Unknown);
    harness.clock().advance(100_000);
    assert!(lease_all(&*queue).await.is_empty());
    let dead = queue.dead_letters(None, None, 9).await.expect("dead letters");
    assert_eq!(dead.len(), 3);
    for letter in dead {
        let cause = if letter.id == all[2] { "slow" } else { "archived by hand" };
        assert_eq!(letter.cause, cause);
        assert!(queue.retry_dead(letter.id).await.expect("retry"));
    }
    assert_eq!(lease_all(&*queue).await.len(), 3);
}

/// The bound of dead letters holds for those that somebody archived.
pub async fn archived_tasks_are_bounded_like_dead_letters(harness: &impl InspectHarness) {
    let queue = harness.open_inspected(Limits { tasks_max: 100, dead_max: 3 }).await;
    for _ in 0..5 {
        let task = due_now(harness);
        queue.enqueue(task.clone()).await.expect("enqueue");
        assert_eq!(queue.archive(None, task.id).await.expect("archive"), Act::Done);
        // One second each: by the second they are ordered in Redis.
        harness.clock().advance(1_000);
    }
    let stats = queue.stats("default").await.expect("stats");
    assert_eq!((stats.dead, stats.dead_dropped), (3, 2));
}

/// A deleted task is forgotten, dead letters too, and its id is free again.
pub async fn a_task_that_waits_can_be_deleted(harness: &impl InspectHarness) {
    let (Waiting(queue), all) = waiting(harness, Limits::WIDE).await;
    let dead = due_now(harness);
    queue.enqueue(dead.clone()).await.expect("enqueue");
    assert_eq!(queue.archive(None, dead.id).await.expect("archive"), Act::Done);
    for id in all.into_iter().chain([dead.id]) {
        assert_eq!(queue.delete(None, id).await.expect("delete"), Act::Done);
        assert_eq!(queue.delete(None, id).await.expect("delete twice"), Act::Unknown);
        assert_eq!(queue.state(id).await.expect("state"), None);
    }
    let summary = queue.summary("default").await.expect("summary");
    assert_eq!(Stage::ALL.map(|stage| summary.at(stage)), [0; 7]);
    harness.clock().advance(100_000);
    assert!(lease_all(&*queue).await.is_empty());
    assert_eq!(queue.next_due("default").await.expect("next due"), None);
    let again = NewTask::new(all[0], "save", "again").due(harness.clock().wall());
    assert_eq!(queue.enqueue(again).await.expect("enqueue"), Enqueued::Accepted);
    assert_eq!(ids(&lease_all(&*queue).await), [all[0]]);
}

async fn refused(queue: &dyn Inspected, task: &LeasedTask) {
    let refusals = [
        queue.run_now(None, task.id).await,
        queue.archive(None, task.id).await,
        queue.delete(None, task.id).await,
    ];
    for refusal in refusals {
        let error = refusal.expect_err("a worker holds it");
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(error.to_string().contains("lease"), "{error}");
    }
}

/// No act takes a task from a worker: it says so and changes nothing.
pub async fn what_a_worker_holds_is_not_acted_upon(harness: &impl InspectHarness) {
    let queue = harness.open_inspected(Limits::WIDE).await;
    queue.enqueue(due_now(harness)).await.expect("enqueue");
    let held = lease_one(&*queue).await.expect("due");
    refused(&*queue, &held).await;
    harness.clock().advance(LEASE_MS - 1);
    refused(&*queue, &held).await;
    assert!(queue.extend(&held, LEASE).await.expect("extend"));
    harness.clock().advance(LEASE_MS - 1);
    refused(&*queue, &held).await;
    assert!(queue.complete(&held).await.expect("complete"));
    assert_eq!(queue.delete(None, held.id).await.expect("delete"), Act::Unknown);
}

/// When its lease has run out a task is acted upon like any other, and the late worker is fenced.
pub async fn what_a_worker_left_is_acted_upon(harness: &impl InspectHarness) {
    let queue = harness.open_inspected(Limits::WIDE).await;
    queue.enqueue_all([(); 3].map(|()| due_now(harness)).to_vec()).await.expect("enqueue");
    let left = lease_all(&*queue).await;
    harness.clock().advance(LEASE_MS);
    assert!(!info(&*queue, left[0].id).await.is_held());
    assert_eq!(queue.run_now(None, left[0].id).await.expect("run"), Act::Done);
    assert_eq!(queue.archive(None, left[1].id).await.expect("archive"), Act::Done);
    assert_eq!(queue.delete(None, left[2].id).await.expect("delete"), Act::Done);
    let now = harness.clock().wall();
    for late in &left {
        assert!(!queue.extend(late, LEASE).await.expect("extend"));
        assert!(!queue.complete(late).await.expect("complete"));
        assert!(!queue.retry(late, now, &slow(), true).await.expect("retry"));
        assert!(!queue.bury(late, &slow()).await.expect("bury"));
    }
    let again = lease_one(&*queue).await.expect("the one that is run");
    assert_eq!((again.id, again.attempt, again.attempts_spent()), (left[0].id, 2, 2));
    assert!(!queue.complete(&left[0]).await.expect("complete"), "the token never comes back");
    assert!(queue.complete(&again).await.expect("complete"));
    let stats = queue.stats("default").await.expect("stats");
    assert_eq!((stats.pending, stats.leased, stats.dead), (0, 0, 1));
}

/// An act that names another queue finds no such task.
pub async fn an_act_is_of_the_queue_that_it_names(harness: &impl InspectHarness) {
    let queue = harness.open_inspected(Limits::WIDE).await;
    let task = due_at(harness.clock().wall() + 60_000).queue("mine");
    queue.enqueue(task.clone()).await.expect("enqueue");
    queue.enqueue(due_now(harness)).await.expect("enqueue");
    let other = Some("default");
    assert_eq!(queue.run_now(other, task.id).await.expect("run"), Act::Unknown);
    assert_eq!(queue.archive(other, task.id).await.expect("archive"), Act::Unknown);
    assert_eq!(queue.delete(other, task.id).await.expect("delete"), Act::Unknown);
    let mine = Some("mine");
    assert_eq!(queue.run_now(mine, task.id).await.expect("run"), Act::Done);
    assert_eq!(queue.archive(mine, task.id).await.expect("archive"), Act::Done);
    assert_eq!(queue.delete(mine, task.id).await.expect("delete"), Act::Done);
    assert_eq!(queue.stats("default").await.expect("stats").pending, 1);
}

/// After `close` every call fails with `Closed`.
pub async fn a_closed_inspector_refuses_every_call(harness: &impl InspectHarness) {
    let queue = harness.open_inspected(Limits::WIDE).await;
    let task = due_now(harness);
    queue.enqueue(task.clone()).await.expect("enqueue");
    queue.close().await.expect("close");
    let refusals = [
        queue.queues().await.err(),
        queue.summary("default").await.err(),
        queue.tasks("default", Stage::Pending, None, 1).await.err(),
        queue.task(None, task.id).await.err(),
        queue.payload(None, task.id).await.err(),
        queue.run_now(None, task.id).await.err(),
        queue.archive(None, task.id).await.err(),
        queue.delete(None, task.id).await.err(),
    ];
    for (call, refusal) in refusals.into_iter().enumerate() {
        assert_eq!(refusal.map(|error| error.kind()), Some(ErrorKind::Closed), "call {call}");
    }
}

/// Acts keep the order of a lane: what is behind others stays there, and the next comes forward when the
/// first is gone.
pub async fn acts_keep_the_order_of_a_lane(harness: &impl InspectHarness) {
    let queue = harness.open_inspected(Limits::WIDE).await;
    let later = harness.clock().wall() + 60_000;
    let tasks: Vec<NewTask> = (0..5)
        .map(|at| {
            let on_dead = if at == 2 { OnDead::Skip } else { OnDead::Block };
            due_at(later).ordered_by("a").on_dead(on_dead)
        })
        .collect();
    let of: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
    queue.enqueue_all(tasks).await.expect("enqueue");
    let stage = Stage::Scheduled;
    let mut listed = listed(&*queue, stage).await;
    listed.sort_unstable();
    let mut sorted = of.clone();
    sorted.sort_unstable();
    assert_eq!(listed, sorted, "those behind the first are listed too");
    assert_eq!(queue.summary("default").await.expect("summary").at(stage), 5);

    assert_eq!(queue.run_now(None, of[1]).await.expect("run"), Act::Done);
    assert!(lease_all(&*queue).await.is_empty(), "the first is not due");
    assert_eq!(info(&*queue, of[1]).await.due, harness.clock().wall());
    assert_eq!(queue.delete(None, of[0]).await.expect("delete"), Act::Done);
    let second = lease_one(&*queue).await.expect("it is the first now, and due");
    assert_eq!(second.id, of[1]);
    assert!(queue.complete(&second).await.expect("complete"));

    // Of those that are archived one is skipped, and one blocks.
    for at in [2, 3] {
        assert_eq!(queue.archive(None, of[at]).await.expect("archive"), Act::Done);
    }
    harness.clock().advance(60_000);
    assert!(lease_all(&*queue).await.is_empty());
    assert_eq!(queue.run_now(None, of[2]).await.expect("run"), Act::Done);
    assert!(lease_all(&*queue).await.is_empty());
    assert_eq!(queue.run_now(None, of[3]).await.expect("run"), Act::Done);
    for at in [3, 4, 2] {
        let task = lease_one(&*queue).await.expect("the next");
        assert_eq!(task.id, of[at]);
        assert!(queue.complete(&task).await.expect("complete"));
    }
    assert!(lease_all(&*queue).await.is_empty());
}
