//! What a worker runs.

use std::fmt;

use async_trait::async_trait;
use zmsg_core::{Error, Result};

use crate::task::record::LeasedTask;

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

    /// The task is among the dead letters, by this worker.
    async fn buried(&self, task: &LeasedTask, cause: &Error) {
        let _ = (task, cause);
    }

    /// The task was handled and is gone from the queue, by this worker.
    async fn completed(&self, task: &LeasedTask) {
        let _ = task;
    }
}
