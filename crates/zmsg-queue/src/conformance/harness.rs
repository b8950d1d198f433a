//! What the suite needs from a backend, and how it makes tasks.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use zmsg_core::{Clock, ManualClock, TaskId, UnixMillis};

use crate::{LeasedTask, NewTask, TaskQueue};

/// A backend under test.
#[async_trait]
pub trait Harness: Send + Sync {
    /// An empty queue with these bounds that reads `clock`. Called once per harness.
    async fn open(&self, limits: Limits) -> Arc<dyn TaskQueue>;

    /// The clock that the queue reads.
    fn clock(&self) -> Arc<ManualClock>;
}

/// The bounds of a queue under test.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Tasks that wait or are leased.
    pub tasks_max: u16,
    /// Dead letters.
    pub dead_max: u16,
}

impl Limits {
    pub(super) const WIDE: Self = Self { tasks_max: 1000, dead_max: 1000 };
}

pub(super) const LEASE: Duration = Duration::from_secs(30);
pub(super) const LEASE_MS: u64 = 30_000;

pub(super) fn due_at(due: UnixMillis) -> NewTask {
    NewTask::new(TaskId::generate(), "save", "payload").due(due).attempts_max(3)
}

pub(super) fn due_now(harness: &impl Harness) -> NewTask {
    due_at(harness.clock().wall())
}

/// A wide queue with one task in it that is leased; the queue and the lease.
pub(super) async fn one_leased(harness: &impl Harness) -> (Arc<dyn TaskQueue>, LeasedTask) {
    let queue = harness.open(Limits::WIDE).await;
    queue.enqueue(due_now(harness)).await.expect("enqueue");
    let task = lease_one(&*queue).await.expect("the task is due");
    (queue, task)
}

pub(super) async fn lease_one(queue: &dyn TaskQueue) -> Option<LeasedTask> {
    let mut leased = lease_all(queue).await;
    assert!(leased.len() <= 1, "{leased:?}");
    leased.pop()
}

pub(super) async fn lease_all(queue: &dyn TaskQueue) -> Vec<LeasedTask> {
    queue.lease(NewTask::QUEUE_DEFAULT, 100, LEASE).await.expect("lease")
}

pub(super) fn ids(tasks: &[LeasedTask]) -> Vec<TaskId> {
    tasks.iter().map(|task| task.id).collect()
}
