//! The memory queue keeps the contract.

use std::sync::Arc;

use async_trait::async_trait;
use zmsg_core::ManualClock;
use zmsg_queue::conformance::{Grouped, GroupsHarness, Harness, InspectHarness, Inspected, Limits};
use zmsg_queue::{MemoryQueueOptions, MemoryTaskQueue, TaskQueue};

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
