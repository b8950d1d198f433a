//! A memory queue as people look at it.

use async_trait::async_trait;
use bytes::Bytes;
use zmsg_core::{Result, TaskId};

use super::MemoryTaskQueue;
use crate::task::inspect::{Act, Place, QueueSummary, Stage, TaskInfo, TaskInspector, page};

#[async_trait]
impl TaskInspector for MemoryTaskQueue {
    async fn queues(&self) -> Result<Vec<String>> {
        Ok(self.open()?.queues())
    }

    async fn summary(&self, queue: &str) -> Result<QueueSummary> {
        Ok(self.open()?.summary(queue, self.clock.wall()))
    }

    async fn tasks(
        &self,
        queue: &str,
        stage: Stage,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<TaskInfo>> {
        Ok(self.open()?.list(queue, stage, after, page(limit), self.clock.wall()))
    }

    async fn task(&self, queue: Option<&str>, id: TaskId) -> Result<Option<TaskInfo>> {
        Ok(self.open()?.info(queue, id, self.clock.wall()))
    }

    async fn payload(&self, queue: Option<&str>, id: TaskId) -> Result<Option<Bytes>> {
        Ok(self.open()?.payload(queue, id))
    }

    async fn run_now(&self, queue: Option<&str>, id: TaskId) -> Result<Act> {
        let act = self.open()?.run_now(queue, id, self.clock.wall())?;
        self.told(act == Act::Done);
        Ok(act)
    }

    async fn archive(&self, queue: Option<&str>, id: TaskId) -> Result<Act> {
        let act = self.open()?.archive(queue, id, self.clock.wall())?;
        // The next of its lane may be due.
        self.told(act == Act::Done);
        Ok(act)
    }

    async fn delete(&self, queue: Option<&str>, id: TaskId) -> Result<Act> {
        let act = self.open()?.delete(queue, id, self.clock.wall())?;
        self.told(act == Act::Done);
        Ok(act)
    }
}
