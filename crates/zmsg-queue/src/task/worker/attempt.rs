//! One attempt: the handler, its deadline, its lease, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinError;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use zmsg_core::{Backoff, Clock, Error, ErrorKind, Result, UnixMillis};

use super::attempts::{Attempts, RunningAttempt};
use super::counters::{WorkerCounters, count};
use super::handler::{Ending, TaskHandler};
use super::options::WorkerOptions;
use super::verdict::{Verdict, will_not_go_away};
use crate::sabotage;
use crate::task::queue::TaskQueue;
use crate::task::record::{LeasedTask, TaskState, lease_end};

/// What the attempts of one worker share.
#[derive(Debug)]
pub(super) struct Crew {
    pub(super) queue: Arc<dyn TaskQueue>,
    pub(super) handler: Arc<dyn TaskHandler>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tracker: TaskTracker,
    pub(super) options: WorkerOptions,
    pub(super) counters: Arc<WorkerCounters>,
    pub(super) attempts: Arc<Attempts>,
    /// A task of a lane has ended: the next one may be due.
    pub(super) onward: Notify,
    /// The worker's patience has ended: everything is given back.
    pub(super) give_up: CancellationToken,
    /// The worker leaves: the queue is asked no more.
    pub(super) leave: CancellationToken,
}

/// How the handler's part of an attempt ended.
enum Ended {
    Handled(Result<Ending>),
    LeaseLost,
    GivenUp,
    Cancelled,
}

/// What the queue says of the end of an attempt.
enum Settled {
    Yes,
    /// The task was no longer ours.
    No,
    /// An earlier try had no answer, and this is where the task stands now.
    Found(Option<TaskState>),
    /// The queue did not answer; the lease runs out.
    Unanswered,
}

/// Pauses while the queue does not take the end of an attempt.
const SETTLE: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));

impl Crew {
    pub(super) fn new(
        queue: Arc<dyn TaskQueue>,
        handler: Arc<dyn TaskHandler>,
        clock: Arc<dyn Clock>,
        tracker: TaskTracker,
        options: WorkerOptions,
    ) -> Self {
        let (counters, attempts, onward) = (Arc::default(), Arc::default(), Notify::new());
        let (give_up, leave) = (CancellationToken::new(), CancellationToken::new());
        Self { queue, handler, clock, tracker, options, counters, attempts, onward, give_up, leave }
    }

    /// Runs the handler and settles the task.
    pub(super) async fn attempt(self: Arc<Self>, task: LeasedTask) {
        let task = Arc::new(task);
        if sabotage::completes_first() {
            let _ = self.queue.complete(&task).await;
        }
        zmsg_core::fail_point!("zmsg-queue::attempt::begin");
        let limit = self.options.limit_of(&task);
        let verdict = if task.attempts_spent() > task.attempts_max {
            Verdict::never_ended(&task)
        } else if limit.is_zero() {
            Verdict::expired(&task)
        } else {
            match self.run(&task, limit).await {
                Ended::Handled(result) => Verdict::of(&task, result),
                Ended::LeaseLost => {
                    count(&self.counters.processed);
                    return self.lost(&task);
                }
                Ended::GivenUp => return self.give_back(&task).await,
                Ended::Cancelled => {
                    count(&self.counters.cancelled);
                    let why = "somebody cancelled the attempt";
                    Verdict::of(&task, Err(Error::new(ErrorKind::Unexpected, why)))
                }
            }
        };
        zmsg_core::fail_point!("zmsg-queue::attempt::handled");
        self.settle(&task, verdict).await;
        if task.lane.is_some() {
            self.onward.notify_one();
        }
        zmsg_core::fail_point!("zmsg-queue::attempt::settled");
    }

    /// Runs the handler as a task of its own until it ends or must be dropped, and says so only
    /// when it is gone: two attempts of one worker at one task never overlap.
    async fn run(self: &Arc<Self>, task: &Arc<LeasedTask>, limit: Duration) -> Ended {
        let (handler, argument) = (Arc::clone(&self.handler), Arc::clone(task));
        let completion = self.queue.completion_steps(task);
        let work = self.tracker.spawn(async move {
            match completion {
                Some(completion) => handler.handle_within(&argument, completion).await,
                None => handler.handle(&argument).await.map(|()| Ending::Open),
            }
        });
        let mut work = AbortOnDropHandle::new(work);
        let begun = self.clock.wall();
        let until = lease_end(begun, limit);
        let place = self.attempts.begin(RunningAttempt { task: Arc::clone(task), begun, until });
        let dropped = tokio::select! {
            biased;
            joined = &mut work => return Ended::Handled(self.handled(joined)),
            () = self.give_up.cancelled() => Ended::GivenUp,
            () = place.stop.cancelled() => Ended::Cancelled,
            () = sleep(limit) => Ended::Handled(Err(too_slow(limit))),
            () = self.keep_lease(task) => Ended::LeaseLost,
        };
        work.abort();
        match (&mut work).await {
            // It ended in the very moment; unless the task has gone, that is what happened.
            joined if !was_aborted(&joined) && !matches!(dropped, Ended::LeaseLost) => {
                Ended::Handled(self.handled(joined))
            }
            _ => {
                if matches!(dropped, Ended::Handled(_)) {
                    count(&self.counters.timed_out);
                }
                dropped
            }
        }
    }

    /// Extends the lease for as long as it is polled; returns if the lease was lost.
    async fn keep_lease(&self, task: &LeasedTask) {
        loop {
            // A third: two more tries before the lease runs out, should one fail.
            sleep(self.options.lease / 3).await;
            match self.queue.extend(task, self.options.lease).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::warn!(id = %task.id, %error, "could not extend a lease"),
            }
        }
    }

    fn handled(&self, joined: Result<Result<Ending>, JoinError>) -> Result<Ending> {
        joined.unwrap_or_else(|error| {
            if error.is_panic() {
                count(&self.counters.panicked);
            }
            Err(Error::new(ErrorKind::Unexpected, "the handler panicked").with_source(error))
        })
    }

    async fn settle(&self, task: &LeasedTask, verdict: Verdict) {
        let settled = match &verdict {
            Verdict::Complete => self.insist(task, || self.queue.complete(task)).await,
            Verdict::Completed => Settled::Yes,
            Verdict::Retry { cause, failures, counts } => {
                self.failed(task, cause);
                let due = self.due_after(self.options.backoff.delay(*failures));
                let settled =
                    self.insist(task, || self.queue.retry(task, due, cause, *counts)).await;
                self.found_after(task, cause, settled).await
            }
            Verdict::Bury { cause } => {
                self.failed(task, cause);
                self.insist(task, || self.queue.bury(task, cause)).await
            }
        };
        count(&self.counters.processed);
        match (settled, verdict) {
            (Settled::Unanswered, _) => count(&self.counters.unsettled),
            (Settled::Yes, Verdict::Retry { .. }) => count(&self.counters.retried),
            (Settled::Yes | Settled::Found(None), Verdict::Complete | Verdict::Completed) => {
                count(&self.counters.succeeded);
                self.handler.completed(task).await;
            }
            (
                Settled::Yes | Settled::Found(Some(TaskState::Dead { .. })),
                Verdict::Bury { cause },
            ) => {
                count(&self.counters.buried);
                self.handler.buried(task, &cause).await;
            }
            (Settled::Found(None), Verdict::Retry { cause, .. }) if cause.is_outcome_unknown() => {
                count(&self.counters.succeeded);
                self.handler.completed(task).await;
            }
            (Settled::No | Settled::Found(_), _) => self.lost(task),
        }
    }

    /// A commit without an answer may have been the end of the task too: where it then stands.
    async fn found_after(&self, task: &LeasedTask, cause: &Error, settled: Settled) -> Settled {
        if !matches!(settled, Settled::No) || !cause.is_outcome_unknown() {
            return settled;
        }
        self.queue.state(task.id).await.map_or(settled, Settled::Found)
    }

    /// Asks the queue for a change until it answers or the worker leaves.
    async fn insist<F>(&self, task: &LeasedTask, change: impl Fn() -> F) -> Settled
    where
        F: Future<Output = Result<bool>>,
    {
        let mut failures = 0;
        loop {
            let error = match change().await {
                Ok(true) => return Settled::Yes,
                Ok(false) if failures == 0 => return Settled::No,
                // An earlier try may have done it, without an answer: only the queue knows.
                Ok(false) => match self.queue.state(task.id).await {
                    Ok(state) => return Settled::Found(state),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            failures += 1;
            tracing::warn!(id = %task.id, %error, failures, "could not settle a task");
            if will_not_go_away(&error) {
                return Settled::Unanswered;
            }
            tokio::select! {
                () = self.leave.cancelled() => return Settled::Unanswered,
                () = sleep(SETTLE.delay(failures)) => {}
            }
        }
    }

    /// Gives a task back that was not handled, or not to the end, without spending an attempt.
    pub(super) async fn give_back(&self, task: &LeasedTask) {
        let (cause, now) = (Error::closed("worker"), self.clock.wall());
        let settled = self.insist(task, || self.queue.retry(task, now, &cause, false)).await;
        count(&self.counters.processed);
        match settled {
            Settled::Yes => count(&self.counters.given_back),
            Settled::Unanswered => count(&self.counters.unsettled),
            Settled::No | Settled::Found(_) => self.lost(task),
        }
    }

    fn failed(&self, task: &LeasedTask, cause: &Error) {
        count(&self.counters.failed);
        let LeasedTask { id, kind, attempt, .. } = task;
        tracing::warn!(%id, kind, attempt, %cause, "an attempt failed");
    }

    fn lost(&self, task: &LeasedTask) {
        count(&self.counters.lease_lost);
        let LeasedTask { id, kind, attempt, .. } = task;
        tracing::warn!(%id, kind, attempt, "the task had gone to another worker");
    }

    /// The moment after a pause: never now, and never earlier for being cut to milliseconds.
    fn due_after(&self, pause: Duration) -> UnixMillis {
        lease_end(
            self.clock.wall(),
            pause.max(Duration::from_millis(1)) + Duration::from_micros(999),
        )
    }
}

fn was_aborted<T>(joined: &Result<T, JoinError>) -> bool {
    joined.as_ref().is_err_and(JoinError::is_cancelled)
}

fn too_slow(limit: Duration) -> Error {
    Error::new(ErrorKind::Timeout, "the handler took too long")
        .temporary()
        .with_context("limit", format!("{limit:?}"))
}
