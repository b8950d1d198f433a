//! What the task queue's workers do with a task: decode it and apply it once.

use std::sync::Arc;

use async_trait::async_trait;
use zmsg_core::{Clock, Error, ErrorKind, Key, Result, TaskId};
use zmsg_queue::{LeasedTask, TaskHandler, inbox_step, is_already_applied};
use zmsg_store::Step;

use crate::apply::Applier;
use crate::codec::{self, Payload};
use crate::pending::Pending;

/// Carries out the tasks of the delayed route and the repairs of caches.
#[derive(Debug)]
pub(crate) struct Handler {
    applier: Arc<Applier>,
    pending: Arc<Pending>,
    clock: Arc<dyn Clock>,
}

impl Handler {
    pub(crate) fn new(applier: Arc<Applier>, pending: Arc<Pending>, clock: Arc<dyn Clock>) -> Self {
        Self { applier, pending, clock }
    }
}

#[async_trait]
impl TaskHandler for Handler {
    async fn handle(&self, task: &LeasedTask) -> Result<()> {
        match codec::decode(&task.payload)? {
            Payload::Repair { key } => self.applier.try_invalidate(&Key::new(key)?).await,
            Payload::Write { key, steps } => {
                self.pending.begin_applying(task.id);
                let steps = steps.into_iter().map(Step::from).collect();
                let now = self.clock.wall();
                apply_once(&self.applier, task.id, &Key::new(key)?, steps, now).await
            }
        }
    }

    async fn completed(&self, task: &LeasedTask) {
        self.pending.settle(task.id, Ok(()));
    }

    /// A dead-lettered write was shown on accept; it must not be shown any longer.
    async fn buried(&self, task: &LeasedTask, cause: &Error) {
        if let Ok(Payload::Write { key, .. }) = codec::decode(&task.payload)
            && let Ok(key) = Key::new(key)
        {
            self.applier.invalidate(&key).await;
        }
        let dead = cause.clone().with_context("dead letter", task.id);
        self.pending.settle(task.id, Err(dead));
    }
}

/// Applies a delayed write exactly once: its inbox row is part of its transaction, so a second
/// attempt, by a retry, another worker or the fallback, finds the row and changes nothing.
pub(crate) async fn apply_once(
    applier: &Applier,
    id: TaskId,
    key: &Key,
    steps: Vec<Step>,
    now: u64,
) -> Result<()> {
    let mut all = vec![inbox_step(id, now, applier.dialect())];
    all.extend(steps);
    match applier.apply_deferred(std::slice::from_ref(key), all).await {
        Ok(_) => Ok(()),
        Err(failed) if is_already_applied(&failed) => Ok(()),
        // Rows that are not there will not be there next time either.
        Err(failed) if failed.error.kind() == ErrorKind::Conflict && failed.step.is_some() => {
            Err(Error::new(ErrorKind::InvalidData, "a delayed write did not find its rows")
                .with_context("key", key)
                .with_source(failed.error))
        }
        Err(failed) => Err(failed.into()),
    }
}
