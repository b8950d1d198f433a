//! The delayed route: through the task queue.
//!
//! | returns when | lost if the process is killed | this node sees it | in the tables |
//! |---|---|---|---|
//! | the queue has it, as durable as the queue is | SQL queue: nothing; Redis queue: what Redis loses; memory queue: what waits | at return, if it brought a value | after its delay, exactly once |
//!
//! Writes of one lane are applied in the order in which the queue took them. Nothing of a lane goes past its
//! queue: a write that the queue did not take fails, whatever the fallback.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use zmsg_core::{Backoff, Error, ErrorKind, ErrorStatus, Key, Receipt, Result, Task, TaskId};
use zmsg_queue::{Enqueued, Lane, NewTask};
use zmsg_store::Step;

use super::{Writer, lost, refuse_returning};
use crate::assemble::NamedQueue;
use crate::codec::{self, Kind, Payload};
use crate::sabotage;
use crate::worker::apply_once;

/// How long an accepted write waits for a worker that is applying it already. A worker that
/// fails retries later, and its value is then seen later.
const APPLIED_WITHIN: Duration = Duration::from_secs(1);

/// The longest delay, and why no longer one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DelayMax {
    most: Duration,
    why: &'static str,
}

impl DelayMax {
    /// A due time beyond it is a mistake.
    pub(crate) const TEN_YEARS: Self = Self {
        most: Duration::from_secs(10 * 365 * 86_400),
        why: "a write can be delayed by at most ten years",
    };

    /// For a queue of which the inbox does not know what it holds: a task is to end while the inbox
    /// remembers what became of it.
    pub(crate) fn remembered(most: Duration) -> Self {
        let why = "a write in this queue has to be due, and tried to its end, within \
                   queue.inbox_retention";
        Self { most, why }
    }

    fn check(self, delay: Duration, key: &Key) -> Result<()> {
        if delay <= self.most {
            return Ok(());
        }
        Err(Error::invalid_input(self.why)
            .with_context("key", key)
            .with_context("delay", format!("{delay:?}"))
            .with_context("delay_max", format!("{:?}", self.most)))
    }
}

/// How often a task is offered again after its answer was lost, and with what pauses.
const OFFERS_MAX: u32 = 3;
const OFFER_AGAIN: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(200));

/// A delayed write, ready to be enqueued.
pub(crate) struct Delayed {
    pub(crate) key: Key,
    /// What the caches show on accept: a value, or with `None` that the row is gone.
    pub(crate) value: Option<Bytes>,
    pub(crate) task: Task,
    pub(crate) ttl: Option<Duration>,
    pub(crate) delay: Option<Duration>,
    pub(crate) deletes: bool,
    /// The lane in which it keeps its place.
    pub(crate) lane: Option<Lane>,
}

impl Writer {
    /// Enqueues the write and shows its value.
    pub(crate) async fn delay(self: &Arc<Self>, write: Delayed) -> Result<Receipt> {
        refuse_returning(&write.task)?;
        // Before the due time is reckoned: it is compared with the delay.
        let began = Instant::now();
        let id = TaskId::generate();
        let keys = self.keys_of(Some(write.key.clone()), &write.task)?;
        let steps = self.applier.steps(&write.task)?;
        let task = self.queued(&self.delayed, id, &write, &keys, &steps)?;
        let (writer, direct) = (Arc::clone(self), Direct { keys, steps });
        let work = async move { writer.enqueue(id, write, task, direct, began).await };
        if sabotage::acknowledges_before_the_queue() {
            self.tracker.spawn(work);
            return Ok(Receipt::committed(id));
        }
        self.tracker.spawn(work).await.map_err(lost)?
    }

    /// The queues that delayed writes of this engine may stand in.
    pub(crate) fn queues(&self) -> impl Iterator<Item = &NamedQueue> {
        std::iter::once(&self.delayed).chain(&self.in_database)
    }

    pub(super) fn queued(
        &self,
        queue: &NamedQueue,
        id: TaskId,
        write: &Delayed,
        keys: &[Key],
        steps: &[Step],
    ) -> Result<NewTask> {
        let kind = match (&write.task, write.deletes) {
            (_, true) => Kind::Delete,
            (Task::Op(_), _) => Kind::Update,
            (Task::Statement(_), _) => Kind::Save,
        };
        let steps = steps.iter().cloned().map(Into::into).collect();
        let keys = keys.iter().map(Key::to_string).collect();
        let payload = codec::encode(&Payload::Write { keys, steps })?;
        let delay = write.delay.unwrap_or(self.options.delay);
        self.options.delay_max.check(delay, &write.key)?;
        let (now, delay) =
            (self.clock.wall(), u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        let task = NewTask::new(id, kind.name(), payload)
            .queue(&*queue.name)
            .due(now.saturating_add(delay))
            .attempts_max(self.options.attempts_max);
        let task = NewTask { lane: write.lane.clone(), ..task };
        Ok(queue.envelope.close(task, now))
    }

    async fn enqueue(
        &self,
        id: TaskId,
        write: Delayed,
        task: NewTask,
        direct: Direct,
        began: Instant,
    ) -> Result<Receipt> {
        let level = self.delayed.queue.level();
        let (due, settlement) = (task.due, self.pending.register(id, &write.key, level));
        match self.offer(task).await {
            Ok(()) => {
                zmsg_core::fail_point!("zmsg::delay::enqueued");
                self.pending.enqueued(id, due);
                let receipt = Receipt::accepted(id, level, settlement);
                let shown = self.show_accepted(id, write, &receipt, began).await;
                zmsg_core::fail_point!("zmsg::delay::shown");
                Ok(receipt.with_degraded(shown.is_err()))
            }
            Err(error) if write.lane.is_some() => Err(self.not_in_lane(id, error)),
            Err(error) => self.not_enqueued(id, direct, error).await,
        }
    }

    /// Offers a task to the queue; where the answer is lost, again under the same id, which the
    /// queue takes once.
    async fn offer(&self, task: NewTask) -> Result<()> {
        let mut failures = 0;
        loop {
            match self.delayed.queue.enqueue(task.clone()).await {
                Ok(Enqueued::Accepted | Enqueued::Duplicate) => return Ok(()),
                Ok(Enqueued::Locked) => {
                    let why = "a delayed write asks for no lock, and the queue found one";
                    return Err(Error::new(ErrorKind::Unexpected, why));
                }
                Err(error) if error.is_outcome_unknown() && failures < OFFERS_MAX => {
                    failures += 1;
                    tokio::time::sleep(OFFER_AGAIN.delay(failures)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Shows the value of a task that the queue has. If a worker was faster, the value is not
    /// shown but waited for: once applied, the next read loads it.
    ///
    /// A worker of another node cannot be asked. But it begins when the task is due, not before,
    /// and what meets its commit in L2 is not shown; so the value is shown only before that.
    async fn show_accepted(
        &self,
        id: TaskId,
        write: Delayed,
        receipt: &Receipt,
        began: Instant,
    ) -> Result<()> {
        // Shown at least until it is due: the worker takes it away.
        let ttl = write.ttl.unwrap_or(self.cache.policy().ttl);
        let delay = write.delay.unwrap_or(self.options.delay);
        let ttl = ttl.max(delay.saturating_mul(2));
        let alone = !self.options.shared;
        let still = || self.pending.is_untouched(id) && (alone || began.elapsed() < delay);
        let shown = self.cache.show(&write.key, write.value, Some(ttl), still).await;
        if let Err(error) = &shown {
            // The queue has it; only the view of the caches is late.
            tracing::debug!(key = %write.key, %error, "an accepted value is not shown");
        }
        if !still() {
            let _ = tokio::time::timeout(APPLIED_WITHIN, receipt.applied()).await;
        }
        shown
    }

    /// The queue did not take a task of a lane. Written now, it would overtake those that wait.
    fn not_in_lane(&self, id: TaskId, error: Error) -> Error {
        let mut error = error.with_context("task", id);
        if self.options.fallback_to_store && error.status() != ErrorStatus::Permanent {
            let why = "not for a write with ordered_by: it would overtake its lane";
            error = error.with_context("queue.fallback_to_store", why);
        }
        self.pending.settle(id, Err(error.clone()));
        error
    }

    /// The queue did not take the task: the write goes by the store route under the same id, if
    /// that is configured and waiting may have helped. Should the queue have taken it after all,
    /// its inbox row decides.
    async fn not_enqueued(&self, id: TaskId, direct: Direct, error: Error) -> Result<Receipt> {
        let error = error.with_context("task", id);
        let permanent = error.status() == ErrorStatus::Permanent;
        if !self.options.fallback_to_store || permanent {
            self.pending.settle(id, Err(error.clone()));
            return Err(error);
        }
        tracing::warn!(%error, "the task queue did not take a write; it goes to the store now");
        let now = self.clock.wall();
        let Direct { keys, steps } = direct;
        let applied = apply_once(&self.applier, id, &keys, steps, now, Vec::new()).await;
        // If the queue may have it, the write may still happen.
        let unknown = error.is_outcome_unknown();
        let applied =
            applied.map_err(|failed| if unknown { failed.outcome_unknown() } else { failed });
        self.pending.settle(id, applied.as_ref().map(|_| ()).map_err(Clone::clone));
        applied.map(|once| Receipt::committed(id).with_degraded(once.degraded))
    }
}

/// The write as the store route would make it.
struct Direct {
    keys: Vec<Key>,
    steps: Vec<Step>,
}
