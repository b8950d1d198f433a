//! What a worker runs.

use std::fmt;

use async_trait::async_trait;
use zmsg_core::{Error, Result};
use zmsg_store::Step;

use crate::task::record::LeasedTask;

/// How a handler leaves a task that it has handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// In the queue: the worker is to complete it.
    Open,
    /// Completed, in the transaction of its effect.
    Completed,
}

/// The code behind a queue's tasks.
#[async_trait]
pub trait TaskHandler: fmt::Debug + Send + Sync + 'static {
    /// Does what the task says. Called at least once per task, maybe more often, at times by two
    /// workers at once: effects belong in one transaction with the
    /// [inbox step](crate::inbox_step).
    ///
    /// # Errors
    /// Anything; its kind and status decide what becomes of the task, as [`Worker`] says.
    ///
    /// # Cancel safety
    /// The future is dropped when it takes too long, when the lease was lost, and when a
    /// stopping worker's patience ends; the task is then tried again.
    ///
    /// [`Worker`]: super::Worker
    async fn handle(&self, task: &LeasedTask) -> Result<()>;

    /// As [`handle`](Self::handle), for a queue that can be told of the end in the transaction of
    /// the effect: `completion` are the last steps of it. A handler that has committed them
    /// answers `Completed`, one that has not (by default none has) `Open`.
    ///
    /// # Errors
    /// As for [`handle`](Self::handle). With an unknown outcome the worker asks the queue whether
    /// the task is gone, and then it was completed. A transaction that
    /// [lost its lease](crate::is_lease_lost) may be any error that does not bury a task.
    ///
    /// # Cancel safety
    /// As for [`handle`](Self::handle).
    async fn handle_within(&self, task: &LeasedTask, completion: Vec<Step>) -> Result<Ending> {
        drop(completion);
        self.handle(task).await.map(|()| Ending::Open)
    }

    /// The task is among the dead letters, by this worker.
    async fn buried(&self, task: &LeasedTask, cause: &Error) {
        let _ = (task, cause);
    }

    /// The task was handled and is gone from the queue, by this worker.
    async fn completed(&self, task: &LeasedTask) {
        let _ = task;
    }
}
