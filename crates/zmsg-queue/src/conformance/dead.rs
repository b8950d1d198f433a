//! Promises about dead letters.

use zmsg_core::{Error, TaskId};

use super::harness::{Harness, Limits, due_now, ids, lease_all, lease_one, one_leased};
use crate::{TaskQueue, TaskState};

/// A buried task is listed with its cause and not handed out, until it is retried: then it is
/// due at once with all its attempts, and no late holder can touch it.
pub async fn a_buried_task_is_kept_until_retried(harness: &impl Harness) {
    let (queue, task) = one_leased(harness).await;
    let cause = Error::invalid_input("a bad statement").with_context("table", "feeds");
    harness.clock().advance(5);
    assert!(queue.bury(&task, &cause).await.expect("bury"));
    assert!(!queue.bury(&task, &cause).await.expect("bury twice"));
    harness.clock().advance(100_000);
    assert!(lease_all(&*queue).await.is_empty());

    let dead = queue.dead_letters(None, None, 10).await.expect("dead letters").remove(0);
    assert_eq!((dead.id, &dead.payload, dead.attempts), (task.id, &task.payload, 1));
    assert_eq!(dead.cause, cause.to_string());
    assert_eq!((dead.created, dead.died), (task.created, task.created + 5));

    assert!(queue.retry_dead(task.id).await.expect("retry"));
    assert!(!queue.retry_dead(task.id).await.expect("retry twice"));
    assert!(!queue.complete(&task).await.expect("the old holder"));
    let again = lease_one(&*queue).await.expect("due at once");
    assert_eq!((again.attempt, again.attempts_spent()), (2, 1));
    assert!(queue.dead_letters(None, None, 10).await.expect("none").is_empty());
}

/// A dropped dead letter is forgotten; only dead letters can be dropped.
pub async fn a_dead_letter_can_be_dropped(harness: &impl Harness) {
    let (queue, task) = one_leased(harness).await;
    assert!(!queue.drop_dead(task.id).await.expect("it lives"));
    bury(&*queue, &task).await;
    assert!(queue.drop_dead(task.id).await.expect("drop"));
    assert!(!queue.drop_dead(task.id).await.expect("drop twice"));
    assert!(!queue.retry_dead(task.id).await.expect("retry"));
    assert_eq!(queue.state(task.id).await.expect("state"), None);
}

/// Dead letters are listed by id, in pages, of one queue or of all.
pub async fn dead_letters_are_listed_in_pages(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    let mut expected = Vec::new();
    for name in ["default", "other", "default", "default", "other"] {
        expected.push((bury_new(harness, &*queue, name).await, name));
    }
    expected.sort_unstable();
    for of in [None, Some("default"), Some("other"), Some("none")] {
        let wanted = expected.iter().filter(|(_, name)| of.is_none_or(|of| of == *name));
        let wanted: Vec<TaskId> = wanted.map(|(id, _)| *id).collect();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = queue.dead_letters(of, after, 2).await.expect("page");
            assert!(page.len() <= 2);
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            seen.extend(page.into_iter().map(|dead| dead.id));
        }
        assert_eq!(seen, wanted, "{of:?}");
    }
}

/// Beyond the bound the dead letters with the lowest ids are dropped and counted.
pub async fn dead_letters_are_bounded(harness: &impl Harness) {
    let queue = harness.open(Limits { tasks_max: 100, dead_max: 3 }).await;
    let mut buried = Vec::new();
    for _ in 0..5 {
        buried.push(bury_new(harness, &*queue, "default").await);
    }
    buried.sort_unstable();
    let dead = queue.dead_letters(None, None, 10).await.expect("dead letters");
    assert_eq!(dead.iter().map(|dead| dead.id).collect::<Vec<_>>(), buried[2..]);
    let stats = queue.stats("default").await.expect("stats");
    assert_eq!((stats.dead, stats.dead_dropped), (3, 2));
    assert_eq!(queue.state(buried[0]).await.expect("state"), None);
}

async fn bury_new(harness: &impl Harness, queue: &dyn TaskQueue, name: &str) -> TaskId {
    let task = due_now(harness).queue(name);
    let id = task.id;
    queue.enqueue(task).await.expect("enqueue");
    let leased = queue.lease(name, 1, super::harness::LEASE).await.expect("lease");
    assert_eq!(ids(&leased), [id]);
    bury(queue, &leased[0]).await;
    id
}

async fn bury(queue: &dyn TaskQueue, task: &crate::LeasedTask) {
    let cause = Error::invalid_input("no");
    assert!(queue.bury(task, &cause).await.expect("bury"));
    let state = queue.state(task.id).await.expect("state");
    assert!(
        matches!(&state, None | Some(TaskState::Dead { .. })),
        "dead, or dropped for being one too many: {state:?}"
    );
}
