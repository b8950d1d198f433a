//! The delayed route: through the task queue.
//!
//! | returns when | lost if the process is killed | this node sees it | in the tables |
//! |---|---|---|---|
//! | the queue has it, as durable as the queue is | SQL queue: nothing; memory queue: what waits | at return, if it brought a value | after its delay, exactly once |

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use zmsg_core::{Error, Key, Receipt, Result, Task, TaskId};
use zmsg_queue::{Enqueued, NewTask};
use zmsg_store::Step;

use super::{Writer, lost, refuse_returning};
use crate::codec::{self, Kind, Payload};
use crate::worker::apply_once;

/// How long an accepted write waits for a worker that is applying it already. A worker that
/// fails retries later, and its value is then seen later.
const APPLIED_WITHIN: Duration = Duration::from_secs(1);

/// A delayed write, ready to be enqueued.
pub(crate) struct Delayed {
    pub(crate) key: Key,
    /// What the caches show on accept: a value, or with `None` that the row is gone.
    pub(crate) value: Option<Bytes>,
    pub(crate) task: Task,
    pub(crate) ttl: Option<Duration>,
    pub(crate) delay: Option<Duration>,
    pub(crate) deletes: bool,
}

impl Writer {
    /// Enqueues the write and shows its value.
    pub(crate) async fn delay(self: &Arc<Self>, write: Delayed) -> Result<Receipt> {
        refuse_returning(&write.task)?;
        let id = TaskId::generate();
        let steps = self.applier.steps(&write.task)?;
        let task = self.queued(id, &write, &steps)?;
        let writer = Arc::clone(self);
        let work = async move { writer.enqueue(id, write, task, steps).await };
        self.tracker.spawn(work).await.map_err(lost)?
    }

    fn queued(&self, id: TaskId, write: &Delayed, steps: &[Step]) -> Result<NewTask> {
        let kind = match (&write.task, write.deletes) {
            (_, true) => Kind::Delete,
            (Task::Op(_), _) => Kind::Update,
            (Task::Statement(_), _) => Kind::Save,
        };
        let steps = steps.iter().cloned().map(Into::into).collect();
        let payload = codec::encode(&Payload::Write { key: write.key.to_string(), steps })?;
        let delay = write.delay.unwrap_or(self.options.delay);
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        Ok(NewTask {
            id,
            queue: codec::QUEUE.to_owned(),
            kind: kind.name().to_owned(),
            payload,
            due: self.clock.wall().saturating_add(delay),
            attempts_max: self.options.attempts_max,
        })
    }

    async fn enqueue(
        &self,
        id: TaskId,
        write: Delayed,
        task: NewTask,
        steps: Vec<Step>,
    ) -> Result<Receipt> {
        let level = self.queue.level();
        let settlement = self.pending.register(id, level);
        match self.queue.enqueue(task).await {
            Ok(Enqueued::Accepted | Enqueued::Duplicate) => {
                let receipt = Receipt::accepted(id, level, settlement);
                self.show_accepted(id, write, &receipt).await;
                Ok(receipt)
            }
            Err(error) => self.not_enqueued(id, write, steps, error).await,
        }
    }

    /// Shows the value of a task that the queue has. If a worker was faster, the value is not
    /// shown but waited for: once applied, the next read loads it.
    async fn show_accepted(&self, id: TaskId, write: Delayed, receipt: &Receipt) {
        let still = || self.pending.is_untouched(id);
        if let Err(error) = self.cache.show(&write.key, write.value, write.ttl, still).await {
            // The queue has it; only the view of the caches is late.
            tracing::warn!(key = %write.key, %error, "an accepted value is not shown");
        }
        if !still() {
            let _ = tokio::time::timeout(APPLIED_WITHIN, receipt.applied()).await;
        }
    }

    /// The queue did not answer, or refused: the write goes by the store route under the same
    /// id, if that is configured. Should the queue have taken it after all, its inbox row decides.
    async fn not_enqueued(
        &self,
        id: TaskId,
        write: Delayed,
        steps: Vec<Step>,
        error: Error,
    ) -> Result<Receipt> {
        let error = error.with_context("task", id);
        if !self.options.fallback_to_store {
            self.pending.settle(id, Err(error.clone()));
            return Err(error);
        }
        tracing::warn!(%error, "the task queue did not take a write; it goes to the store now");
        let now = self.clock.wall();
        let applied = apply_once(&self.applier, id, &write.key, steps, now).await;
        self.pending.settle(id, applied.clone());
        applied.map(|()| Receipt::committed(id))
    }
}
