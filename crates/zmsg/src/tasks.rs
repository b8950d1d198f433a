//! Every background task of the engine: spawned here, named, and stopped in stages.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{Error, ErrorKind, Result};

use crate::lock::FileLock;

/// When a task is stopped: the order of `close`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Takes work from the queue.
    Workers,
    /// Flushes what the periodic route holds.
    Flusher,
    /// Keeps filter, inbox and receipts in order.
    Upkeep,
    /// Keeps the node lease.
    Lease,
}

const STAGES: usize = 4;

/// The engine's tasks.
#[derive(Debug)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stages: [CancellationToken; STAGES],
    running: Mutex<Vec<Running>>,
    failure: Arc<Mutex<Option<Error>>>,
    locks: Arc<Vec<FileLock>>,
}

#[derive(Debug)]
struct Running {
    stage: Stage,
    name: &'static str,
    /// The loop itself.
    work: AbortHandle,
    /// Ends when the loop has ended and its result was looked at.
    task: JoinHandle<()>,
}

impl Tasks {
    pub(crate) fn new(tracker: TaskTracker, locks: Arc<Vec<FileLock>>) -> Self {
        Self {
            tracker,
            locks,
            stages: std::array::from_fn(|_| CancellationToken::new()),
            running: Mutex::default(),
            failure: Arc::default(),
        }
    }

    /// The tracker that database work runs on, so that a dropped caller aborts nothing.
    pub(crate) fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }

    /// The token that stops a stage.
    pub(crate) fn token(&self, stage: Stage) -> CancellationToken {
        self.stages[stage as usize].clone()
    }

    /// Spawns a loop. If it ends in an error, or ends without being asked to, the engine is
    /// unhealthy from then on: writes that depend on loops are refused rather than piled up.
    pub(crate) fn spawn(
        &self,
        stage: Stage,
        name: &'static str,
        run: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        let failure = Arc::clone(&self.failure);
        let token = self.token(stage);
        let inner = self.tracker.spawn(run);
        let work = inner.abort_handle();
        let locks = Arc::clone(&self.locks);
        let task = self.tracker.spawn(async move {
            let result = inner.await;
            // Held until now: another engine must not open what this loop still wrote to.
            drop(locks);
            let ended = match result {
                Ok(Ok(())) if token.is_cancelled() => return,
                Err(join) if join.is_cancelled() => return,
                Ok(Ok(())) => Error::new(ErrorKind::Unexpected, "it ended by itself"),
                Ok(Err(error)) => error,
                Err(join) => Error::new(ErrorKind::Unexpected, "it panicked").with_source(join),
            };
            tracing::error!(task = name, error = %ended, "a background task failed");
            let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(ended.with_context("task", name));
        });
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.push(Running { stage, name, work, task });
    }

    /// The first failure of a background task, as the error of a write that depends on it.
    pub(crate) fn healthy(&self) -> Result<()> {
        match &*self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(cause) => Err(Error::new(
                ErrorKind::Unavailable,
                "a background task has failed: close the engine, mend the cause and open it anew",
            )
            .with_source(cause.clone())),
        }
    }

    /// Stops one stage and waits for its tasks; gives the names of those that did not make it.
    pub(crate) async fn stop(&self, stage: Stage, deadline: Instant) -> Vec<&'static str> {
        self.stages[stage as usize].cancel();
        let mut late = Vec::new();
        for Running { name, work, mut task, .. } in self.take(stage) {
            // A stage always gets a moment, even when an earlier one used the deadline up.
            let until = deadline.max(Instant::now() + Duration::from_millis(100));
            if timeout_at(until, &mut task).await.is_err() {
                work.abort();
                late.push(name);
            }
        }
        late
    }

    fn take(&self, stage: Stage) -> Vec<Running> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let (of_stage, others) = running.drain(..).partition(|task| task.stage == stage);
        *running = others;
        of_stage
    }
}

/// Without `close` the loops still end: nothing of a dropped engine goes on in the background.
impl Drop for Tasks {
    fn drop(&mut self) {
        for stage in &self.stages {
            stage.cancel();
        }
    }
}
