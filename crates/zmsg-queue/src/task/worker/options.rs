//! How a worker works.

use std::time::Duration;

use tokio::sync::Semaphore;
use zmsg_core::Backoff;

use crate::task::record::NewTask;

/// The options of a [`Worker`](super::Worker).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerOptions {
    /// The queue whose tasks it runs.
    pub queue: String,
    /// How many tasks it runs at a time; 0 is taken for 1.
    pub concurrency: usize,
    /// How long a lease lasts; extended every third of it while a task runs. Also how long a
    /// task of a killed process waits for its next attempt.
    pub lease: Duration,
    /// How long one attempt may take.
    pub task_timeout: Duration,
    /// The pauses before a failed task is tried again.
    pub backoff: Backoff,
    /// The longest pause between two looks at the queue: how late a task of another process may
    /// be found.
    pub poll_max: Duration,
    /// How long a stopping worker waits for the tasks that run.
    pub drain: Duration,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            queue: NewTask::QUEUE_DEFAULT.to_owned(),
            concurrency: 10,
            lease: Duration::from_secs(30),
            task_timeout: Duration::from_secs(20),
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(300)),
            poll_max: Duration::from_secs(1),
            drain: Duration::from_secs(8),
        }
    }
}

impl WorkerOptions {
    pub(super) fn slots(&self) -> usize {
        // Half of what a u32 counts: all slots are acquired at once when the worker drains.
        const SLOTS_MAX: usize = u16::MAX as usize;
        self.concurrency.clamp(1, SLOTS_MAX.min(Semaphore::MAX_PERMITS))
    }

    /// The pause before the next look, if nothing is due and nobody says that something changed.
    pub(super) fn poll(&self) -> Duration {
        // Workers that were woken together do not poll together.
        Backoff::new(self.poll_max, self.poll_max).delay(1)
    }
}
