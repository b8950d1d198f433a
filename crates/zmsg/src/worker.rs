//! What the task queue's workers do with a task: decode it and apply it once.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;
use zmsg_core::{Clock, Error, ErrorKind, ErrorStatus, Key, Result, TaskId};
use zmsg_queue::{Ending, LeasedTask, TaskHandler, inbox_step, is_already_applied, is_lease_lost};
use zmsg_store::{Step, StepError};

use crate::apply::Applier;
use crate::codec::Payload;
use crate::pending::Pending;
use crate::sabotage;
use crate::seal::Envelope;
use crate::write::lost;

/// Carries out the tasks of the delayed route and the repairs of caches.
#[derive(Debug)]
pub(crate) struct Handler {
    pub(crate) applier: Arc<Applier>,
    pub(crate) pending: Arc<Pending>,
    /// How the tasks of its queue are kept.
    pub(crate) envelope: Envelope,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tracker: TaskTracker,
}

#[async_trait]
impl TaskHandler for Handler {
    async fn handle(&self, task: &LeasedTask) -> Result<()> {
        self.handle_within(task, Vec::new()).await.map(|_| ())
    }

    /// The effect, its inbox row and the end of the task are one commit.
    ///
    /// With an L2 the task outlives its effect until the caches have forgotten its keys: a process
    /// that is killed between leaves that to the next attempt.
    async fn handle_within(&self, task: &LeasedTask, completion: Vec<Step>) -> Result<Ending> {
        let completion = if self.applier.has_remote() { Vec::new() } else { completion };
        match self.open(task)? {
            Payload::Repair { key } => self.repair(vec![key]).await,
            Payload::RepairMany { keys } => self.repair(keys).await,
            Payload::Write { keys, steps } => {
                self.pending.begin_applying(task.id);
                let steps = steps.into_iter().map(Step::from).collect();
                let keys = keys.into_iter().map(Key::new).collect::<Result<Vec<_>>>()?;
                let (applier, id, now) = (Arc::clone(&self.applier), task.id, self.clock.wall());
                // A task of its own: an attempt that runs out of time goes on to its end, with
                // its keys known to the filter until then and out of the caches after it.
                let work =
                    async move { apply_once(&applier, id, &keys, steps, now, completion).await };
                self.tracker.spawn(work).await.map_err(lost)?.map(|applied| applied.ending)
            }
        }
    }

    async fn completed(&self, task: &LeasedTask) {
        self.pending.settle(task.id, Ok(()));
    }

    /// A dead-lettered write was shown on accept; it must not be shown any longer.
    async fn buried(&self, task: &LeasedTask, cause: &Error) {
        let opened = self.open(task);
        let keys = match &opened {
            Ok(Payload::Write { keys, .. }) => keys.iter().flat_map(Key::new).collect(),
            Ok(_) => Vec::new(),
            // Whoever wrote it does not choose what leaves the caches. What was shown here does.
            Err(_) => Vec::from_iter(self.pending.key(task.id)),
        };
        if !keys.is_empty() {
            self.applier.invalidate(&keys).await;
        }
        let dead = cause.clone().with_context("dead letter", format!("delayed:{}", task.id));
        // An attempt that ran out of time may still commit, and so may the true task beside one that
        // somebody has made up.
        let unknown = cause.kind() == ErrorKind::Timeout || opened.is_err();
        let dead = if unknown { dead.outcome_unknown() } else { dead };
        self.pending.settle(task.id, Err(dead));
    }
}

impl Handler {
    fn open(&self, task: &LeasedTask) -> Result<Payload> {
        self.envelope.open(task, self.clock.wall())
    }

    async fn repair(&self, keys: Vec<String>) -> Result<Ending> {
        let keys = keys.into_iter().map(Key::new).collect::<Result<Vec<_>>>()?;
        self.applier.try_invalidate(&keys).await.map(|()| Ending::Open)
    }
}

/// What became of a delayed write.
#[derive(Debug)]
pub(crate) struct Once {
    ending: Ending,
    /// L2 could not be told.
    pub(crate) degraded: bool,
}

/// Applies a delayed write exactly once: its inbox row is part of its transaction, so a second
/// attempt, by a retry, another worker or the fallback, finds the row and changes nothing.
/// `completion`, if there is any, ends its task in the same transaction.
pub(crate) async fn apply_once(
    applier: &Applier,
    id: TaskId,
    keys: &[Key],
    steps: Vec<Step>,
    now: u64,
    completion: Vec<Step>,
) -> Result<Once> {
    let ending = if completion.is_empty() { Ending::Open } else { Ending::Completed };
    let inbox = inbox_step(id, now, applier.dialect());
    let mut all = if sabotage::ignores_the_inbox() { Vec::new() } else { vec![inbox] };
    all.extend(steps);
    all.extend(completion);
    match applier.apply_deferred(keys, all).await {
        Ok(applied) => Ok(Once { ending, degraded: applied.degraded }),
        Err(failed) if is_already_applied(&failed) => {
            Ok(Once { ending: Ending::Open, degraded: false })
        }
        // Another worker has the task now, and its effect will be that one's.
        Err(failed) if is_lease_lost(&failed) => Err(failed.error.temporary()),
        // Rows that are not there will not be there next time either.
        Err(failed) if found_no_rows(&failed) => {
            Err(Error::new(ErrorKind::InvalidData, "a delayed write did not find its rows")
                .with_context("keys", format!("{keys:?}"))
                .with_source(failed.error))
        }
        Err(failed) => Err(failed.into()),
    }
}

/// True for an expectation that was not met; a conflict of locks is another matter.
fn found_no_rows(failed: &StepError) -> bool {
    failed.step.is_some()
        && failed.error.kind() == ErrorKind::Conflict
        && failed.error.status() == ErrorStatus::Permanent
}
