//! How a worker works.

use std::time::Duration;

use tokio::sync::Semaphore;
use zmsg_core::Backoff;

use crate::task::record::{LeasedTask, NewTask};

/// The options of a [`Worker`](super::Worker).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerOptions {
    /// The queues whose tasks it runs.
    pub queues: Vec<ServedQueue>,
    /// Whether a queue of a higher weight is always looked at first: the others get what it leaves, which
    /// may be nothing. Otherwise each queue gets its share of the slots, by weight.
    pub strict: bool,
    /// How many tasks it runs at a time; 0 is taken for 1.
    pub concurrency: usize,
    /// How long a lease lasts; extended every third of it while a task runs. Also how long a
    /// task of a killed process waits for its next attempt.
    pub lease: Duration,
    /// How long one attempt may take, where its task does not say.
    pub task_timeout: Duration,
    /// The pauses before a failed task is tried again.
    pub backoff: Backoff,
    /// The longest pause between two looks at the queue: how late a task of another process may
    /// be found.
    pub poll_max: Duration,
    /// How long a stopping worker waits for the tasks that run.
    pub drain: Duration,
}

/// A queue that a worker serves, and how much of the worker it may have.
///
/// The limits are those of this worker. That a queue has no more than so many attempts anywhere is the
/// sum of those of its workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedQueue {
    /// Its name.
    pub name: String,
    /// Its weight among the queues of the worker; 0 is taken for 1.
    pub weight: u32,
    /// How many of its tasks may run at a time; `None`: as many as the worker runs. 0 is taken for 1.
    pub concurrency: Option<usize>,
    /// How often its tasks may be begun.
    pub rate: Option<Rate>,
}

/// So many in so long: no window of this length sees more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; 0 is taken for 1.
    pub tasks: u32,
    /// In how long.
    pub per: Duration,
}

impl ServedQueue {
    /// A queue of weight 1 without limits of its own.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), weight: 1, concurrency: None, rate: None }
    }

    /// Sets its weight.
    #[must_use]
    pub fn weight(self, weight: u32) -> Self {
        Self { weight, ..self }
    }

    /// Limits how many of its tasks run at a time.
    #[must_use]
    pub fn concurrency(self, tasks: usize) -> Self {
        Self { concurrency: Some(tasks), ..self }
    }

    /// Limits how often its tasks are begun.
    #[must_use]
    pub fn rate(self, tasks: u32, per: Duration) -> Self {
        Self { rate: Some(Rate { tasks, per }), ..self }
    }
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            queues: vec![ServedQueue::new(NewTask::QUEUE_DEFAULT)],
            strict: false,
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

    /// How long an attempt may take; nothing, if its deadline has passed.
    pub(super) fn limit_of(&self, task: &LeasedTask) -> Duration {
        let limit = task.timeout.unwrap_or(self.task_timeout);
        let Some(deadline) = task.deadline else { return limit };
        // By the queue's clock, whose moment of the lease is known by the end of the lease.
        let lease = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX);
        let leased_at = task.lease_until.saturating_sub(lease);
        limit.min(Duration::from_millis(deadline.saturating_sub(leased_at)))
    }
}
