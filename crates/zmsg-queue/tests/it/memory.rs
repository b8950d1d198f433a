//! The memory queue keeps the contract.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use async_trait::async_trait;
use zmsg_core::{ManualClock, TaskId};
use zmsg_queue::conformance::{Grouped, GroupsHarness, Harness, InspectHarness, Inspected, Limits};
use zmsg_queue::{MemoryQueueOptions, MemoryTaskQueue, NewTask, TaskQueue};

use crate::flaky::Flaky;

zmsg_queue::task_queue_conformance!(Memory { clock: Arc::new(ManualClock::new(1_000_000)) });

struct Memory {
    clock: Arc<ManualClock>,
}

zmsg_queue::task_inspector_conformance!(Memory { clock: Arc::new(ManualClock::new(1_000_000)) });
zmsg_queue::task_groups_conformance!(Memory { clock: Arc::new(ManualClock::new(1_000_000)) });

#[async_trait]
impl Harness for Memory {
    async fn open(&self, limits: Limits) -> Arc<dyn TaskQueue> {
        self.queue(limits)
    }

    fn clock(&self) -> Arc<ManualClock> {
        self.clock.clone()
    }
}

#[async_trait]
impl InspectHarness for Memory {
    async fn open_inspected(&self, limits: Limits) -> Arc<dyn Inspected> {
        self.queue(limits)
    }
}

#[async_trait]
impl GroupsHarness for Memory {
    async fn open_grouped(&self, limits: Limits) -> Arc<dyn Grouped> {
        self.queue(limits)
    }
}

impl Memory {
    fn queue(&self, limits: Limits) -> Arc<MemoryTaskQueue> {
        let options = MemoryQueueOptions {
            tasks_max: limits.tasks_max.into(),
            dead_max: limits.dead_max.into(),
            ..Default::default()
        };
        Arc::new(MemoryTaskQueue::new(self.clock.clone(), options))
    }
}

/// The first thousand are taken, and nobody knows.
#[tokio::test]
async fn enqueue_many_tries_nothing_behind_a_call_without_an_answer() {
    let inner = MemoryTaskQueue::new(Arc::new(ManualClock::new(5)), MemoryQueueOptions::default());
    let queue = Flaky::new(Arc::new(inner));
    queue.enqueue_unanswered.store(1, SeqCst);
    let task = |_| NewTask::new(TaskId::generate(), "save", "").ordered_by("a");
    let answers = queue.enqueue_many((0..2_500).map(task).collect()).await;
    assert_eq!(answers.len(), 2_500);
    assert!(answers.iter().all(|it| it.as_ref().is_err_and(|error| error.is_outcome_unknown())));
    assert_eq!(queue.stats("default").await.unwrap().pending, 1_000);
}
