//! A task queue in this process's memory.

mod firings;
mod groups;
mod inspect;
mod lanes;
mod pauses;
mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use zmsg_core::{Clock, Error, Level, Result, TaskId, UnixMillis};

use self::table::Table;
use super::changes::Changes;
use super::periodic::Firing;
use super::queue::TaskQueue;
use super::record::{
    DeadTask, Enqueued, LeasedTask, NewTask, QueueStats, TaskState, cause_text, check_queue_name,
    lease_end,
};

/// A task queue in memory: fast, bounded, and gone with the process, tasks, leases and dead
/// letters alike.
///
/// The reference for the contract of [`TaskQueue`], and a backend for work that may be lost.
#[derive(Debug)]
pub struct MemoryTaskQueue {
    clock: Arc<dyn Clock>,
    table: Mutex<Table>,
    changes: Changes,
}

/// The bounds of a [`MemoryTaskQueue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryQueueOptions {
    /// Tasks that wait or are leased, over all queues; beyond it `Overloaded`.
    pub tasks_max: usize,
    /// Dead letters over all queues; beyond it the lowest ids are dropped.
    pub dead_max: usize,
    /// Bytes of all payloads, dead letters included; beyond it `Overloaded`.
    pub payload_bytes_max: usize,
}

impl Default for MemoryQueueOptions {
    fn default() -> Self {
        Self { tasks_max: 100_000, dead_max: 10_000, payload_bytes_max: 256 << 20 }
    }
}

impl MemoryTaskQueue {
    /// An empty queue.
    pub fn new(clock: Arc<dyn Clock>, options: MemoryQueueOptions) -> Self {
        Self { clock, table: Mutex::new(Table::new(options)), changes: Changes::default() }
    }

    /// The table, unless the queue was closed.
    fn open(&self) -> Result<MutexGuard<'_, Table>> {
        let table = self.lock();
        if table.closed { Err(Error::closed("task queue")) } else { Ok(table) }
    }

    // No method of the table panics between two steps of one change, so a poisoned lock still
    // guards a valid table.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers, and tells those who wait if the answer is that something changed.
    fn told(&self, changed: bool) -> bool {
        if changed {
            self.changes.tell();
        }
        changed
    }
}

#[async_trait]
impl TaskQueue for MemoryTaskQueue {
    fn level(&self) -> Level {
        Level::Memory
    }

    async fn enqueue(&self, task: NewTask) -> Result<Enqueued> {
        task.check_for_memory("memory")?;
        let answers = self.open()?.enqueue_all(vec![task], self.clock.wall())?;
        let accepted = answers.contains(&Enqueued::Accepted);
        self.told(accepted);
        Ok(if accepted { Enqueued::Accepted } else { Enqueued::Duplicate })
    }

    async fn enqueue_all(&self, tasks: Vec<NewTask>) -> Result<Vec<Enqueued>> {
        tasks.iter().try_for_each(|task| task.check_for_memory("memory"))?;
        let answers = self.open()?.enqueue_all(tasks, self.clock.wall())?;
        self.told(answers.contains(&Enqueued::Accepted));
        Ok(answers)
    }

    async fn enqueue_firing(&self, firing: Firing) -> Result<Enqueued> {
        firing.check()?;
        firing.task().check_for_memory("memory")?;
        let answer = self.open()?.fire(firing, self.clock.wall())?;
        self.told(answer == Enqueued::Accepted);
        Ok(answer)
    }

    async fn last_firing(&self, queue: &str, entry: &str) -> Result<Option<UnixMillis>> {
        Ok(self.open()?.firings.last(queue, entry))
    }

    async fn lease(&self, queue: &str, max: usize, for_: Duration) -> Result<Vec<LeasedTask>> {
        let now = self.clock.wall();
        Ok(self.open()?.lease(queue, max, now, lease_end(now, for_)))
    }

    async fn extend(&self, task: &LeasedTask, for_: Duration) -> Result<bool> {
        let until = lease_end(self.clock.wall(), for_);
        Ok(self.open()?.extend(task, until))
    }

    async fn complete(&self, task: &LeasedTask) -> Result<bool> {
        Ok(self.open()?.complete(task))
    }

    async fn retry(
        &self,
        task: &LeasedTask,
        due: UnixMillis,
        cause: &Error,
        counts: bool,
    ) -> Result<bool> {
        let given_back = self.open()?.retry(task, due, cause_text(cause), counts);
        Ok(self.told(given_back))
    }

    async fn bury(&self, task: &LeasedTask, cause: &Error) -> Result<bool> {
        Ok(self.open()?.bury(task, cause_text(cause), self.clock.wall()))
    }

    async fn next_due(&self, queue: &str) -> Result<Option<UnixMillis>> {
        Ok(self.open()?.next_due(queue))
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        self.changes.next()
    }

    async fn pause(&self, queue: &str) -> Result<bool> {
        check_queue_name(queue)?;
        Ok(self.open()?.pause(queue))
    }

    async fn resume(&self, queue: &str) -> Result<bool> {
        let went_on = self.open()?.resume(queue);
        Ok(self.told(went_on))
    }

    async fn is_paused(&self, queue: &str) -> Result<bool> {
        Ok(self.open()?.is_paused(queue))
    }

    async fn dead_letters(
        &self,
        queue: Option<&str>,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<DeadTask>> {
        Ok(self.open()?.dead_letters(queue, after, limit))
    }

    async fn retry_dead(&self, id: TaskId) -> Result<bool> {
        let brought_back = self.open()?.retry_dead(id, self.clock.wall())?;
        Ok(self.told(brought_back))
    }

    async fn drop_dead(&self, id: TaskId) -> Result<bool> {
        let dropped = self.open()?.drop_dead(id);
        Ok(self.told(dropped))
    }

    async fn state(&self, id: TaskId) -> Result<Option<TaskState>> {
        Ok(self.open()?.state(id))
    }

    async fn stats(&self, queue: &str) -> Result<QueueStats> {
        Ok(self.open()?.stats(queue, self.clock.wall()))
    }

    async fn close(&self) -> Result<()> {
        let lost = self.lock().close();
        if lost > 0 {
            tracing::warn!(tasks = lost, "a memory task queue was closed with tasks in it");
        }
        self.changes.tell();
        Ok(())
    }
}
