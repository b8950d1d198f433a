//! The loop that leases due tasks and runs them.

mod attempt;
mod attempts;
mod counters;
mod handler;
mod options;
mod served;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{Clock, Result};

pub use self::attempts::{Attempts, RunningAttempt};
pub use self::counters::{WorkerCounters, WorkerStats};
pub use self::handler::{Ending, TaskHandler};
pub use self::options::{Rate, ServedQueue, WorkerOptions};

use self::attempt::Crew;
use self::served::{Served, order};
pub(super) use self::verdict::will_not_go_away;
use super::queue::TaskQueue;
use super::record::LeasedTask;

/// Runs the tasks of some queues, several at a time.
///
/// - Of several queues each has its share by weight: whenever slots are free, the order in which the queues
///   are looked at is drawn by weight. With `strict` it is that of the weights.
/// - It looks when the queue says that something changed, when the next task is due (to the
///   millisecond), and at least every `poll_max`, drawn anew each time from its upper half.
/// - Where the queue offers it, the end of a task is part of the transaction of its effect.
/// - A handler runs as a task of the tracker: its panic is one failed attempt, and the worker
///   lives on.
/// - A handler that takes longer than `task_timeout`, or than its task says, is dropped; its attempt failed.
///   So is one that somebody [cancels](Attempts::cancel). One that never yields cannot be dropped, and keeps
///   its slot until it does.
/// - While a handler runs, its lease is extended every third of it. If the lease was lost all
///   the same, the handler is dropped and the worker neither completes nor buries the task.
/// - Errors: data and input that can never work bury the task at once; an unavailable backend
///   gives it back without spending an attempt; anything else spends one and waits a backoff,
///   until none is left and the task is buried as exhausted. An unknown outcome is tried again,
///   and the inbox decides.
/// - A queue that does not answer when a task ends is asked again until it does or the worker
///   stops; what could not be settled comes back when its lease runs out.
#[derive(Debug)]
pub struct Worker {
    crew: Arc<Crew>,
    slots: Arc<Semaphore>,
    served: Vec<Served>,
    /// A slot of a queue that has no more of them was given back.
    freed: Arc<Notify>,
}

/// What a worker did, said when it has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerReport {
    /// The counts over its whole life.
    pub stats: WorkerStats,
    /// Attempts that still hold their task: their handlers did not yield or the queue did not
    /// answer in time. Their tasks come back when the leases run out.
    pub abandoned: usize,
}

/// How long a stopping worker waits for the queue to answer: to a lease that was asked for before,
/// and to what is given back.
const ANSWER_MAX: Duration = Duration::from_secs(5);

impl Worker {
    /// A worker that will run the tasks of `options.queues` with `handler`, on `tracker`.
    pub fn new(
        queue: Arc<dyn TaskQueue>,
        handler: Arc<dyn TaskHandler>,
        clock: Arc<dyn Clock>,
        tracker: TaskTracker,
        options: WorkerOptions,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(options.slots()));
        let (served, freed) = (Served::each(&options), Arc::default());
        Self {
            crew: Arc::new(Crew::new(queue, handler, clock, tracker, options)),
            slots,
            served,
            freed,
        }
    }

    /// The counters, to be read at any time, also after the worker has gone.
    pub fn counters(&self) -> Arc<WorkerCounters> {
        Arc::clone(&self.crew.counters)
    }

    /// What it runs, to be looked at and stopped at any time.
    pub fn attempts(&self) -> Arc<Attempts> {
        Arc::clone(&self.crew.attempts)
    }

    /// How it works.
    pub fn options(&self) -> &WorkerOptions {
        &self.crew.options
    }

    /// Leases and runs tasks until `shutdown`. Then it leases no more, waits up to
    /// `options.drain` for those that run, and gives back the rest without spending an attempt.
    ///
    /// # Errors
    /// An error of the queue that will not go away (it was closed, its table is missing), after
    /// the same drain. Temporary ones are waited out.
    ///
    /// # Cancel safety
    /// Dropping the future stops the leasing only: attempts that run go on, on the tracker.
    pub async fn run(self, shutdown: CancellationToken) -> Result<WorkerReport> {
        let ended = self.lease_until(&shutdown).await;
        let report = self.drain().await;
        ended.map(|()| report)
    }

    async fn lease_until(&self, shutdown: &CancellationToken) -> Result<()> {
        let mut failures = 0;
        while !shutdown.is_cancelled() {
            // Asked before looking, so that no change falls between the look and the wait.
            let changed = self.crew.queue.changed();
            let looked = tokio::select! {
                looked = self.look(shutdown) => looked,
                // A queue that hangs must not keep the worker from stopping.
                () = overdue(shutdown) => break,
            };
            let pause = match looked {
                Ok(next) => {
                    failures = 0;
                    next
                }
                Err(error) if will_not_go_away(&error) => return Err(error),
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, failures, "could not lease tasks");
                    let options = &self.crew.options;
                    // However long it was away, its return is noticed soon.
                    Next::Retry(options.backoff.delay(failures).min(options.poll()))
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = self.wait(pause, changed) => {}
            }
        }
        Ok(())
    }

    /// Starts what is due, as far as there are free slots. What to wait for next.
    async fn look(&self, shutdown: &CancellationToken) -> Result<Next> {
        let options = &self.crew.options;
        let mut pause = options.poll();
        let mut is_full = false;
        for at in order(&self.served, options.strict) {
            let queue = &self.served[at];
            let free = self.slots.available_permits();
            if free == 0 {
                return Ok(Next::Slot);
            }
            let found = self.look_at(queue, free, shutdown).await?;
            is_full |= found.is_none();
            // One that may have no more than it has now is due when its rate allows it.
            let until_due = found.unwrap_or_else(|| queue.until_room(Instant::now()));
            pause = until_due.unwrap_or(pause).min(pause);
        }
        let is_slot_free = self.slots.available_permits() > 0;
        Ok(if is_slot_free { Next::Due { pause, is_full } } else { Next::Slot })
    }

    /// Starts what is due in one queue. How long until there is more, if there will be; `None` if it was
    /// given all that it may have now, and there may be more.
    async fn look_at(
        &self,
        served: &Served,
        free: usize,
        shutdown: &CancellationToken,
    ) -> Result<Option<Option<Duration>>> {
        let Crew { queue, options, clock, .. } = &*self.crew;
        let room = served.room(Instant::now()).min(free);
        if room == 0 {
            return Ok(None);
        }
        // Not raced with the shutdown: a lease that was dropped half way would keep its tasks
        // from everybody until it runs out.
        let leased = queue.lease(&served.name, room, options.lease).await?;
        let is_full = leased.len() >= room;
        for task in leased {
            let Some(slot) = self.slot_of(served) else { break };
            self.start(task, slot, shutdown.is_cancelled());
        }
        if is_full {
            return Ok(None);
        }
        let due = queue.next_due(&served.name).await?;
        let now = clock.wall();
        Ok(Some(due.map(|due| Duration::from_millis(due.saturating_sub(now)))))
    }

    fn slot_of(&self, served: &Served) -> Option<Slot> {
        let of_all = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        let of_queue = served.begin(Instant::now())?;
        Some(Slot { held: Some((of_all, of_queue)), freed: Arc::clone(&self.freed) })
    }

    fn start(&self, task: LeasedTask, slot: Slot, stopping: bool) {
        let crew = Arc::clone(&self.crew);
        // The slot is given back by its drop, whatever becomes of the attempt.
        self.crew.tracker.spawn(async move {
            let _slot = slot;
            if stopping { crew.give_back(&task).await } else { crew.attempt(task).await }
        });
    }

    async fn wait(&self, next: Next, changed: impl Future<Output = ()>) {
        match next {
            Next::Slot => self.some_slots().await,
            Next::Retry(pause) => sleep(pause).await,
            // A due task that this look did not get is held by another process: no spinning.
            Next::Due { pause, is_full } => tokio::select! {
                () = changed => {}
                () = self.freed.notified(), if is_full => {}
                () = self.crew.onward.notified() => {}
                () = sleep(pause.max(Duration::from_millis(1))) => {}
            },
        }
    }

    /// Waits for a free slot, and for those that are given back in the same breath: a lease of several
    /// tasks costs the queue hardly more than one of a single task.
    async fn some_slots(&self) {
        drop(self.slots.acquire().await);
        let mut free = 0;
        while self.slots.available_permits() > free {
            free = self.slots.available_permits();
            yield_now().await;
        }
    }

    async fn drain(self) -> WorkerReport {
        let options = &self.crew.options;
        let all = u32::try_from(options.slots()).unwrap_or(u32::MAX);
        if timeout(options.drain, self.slots.acquire_many(all)).await.is_err() {
            self.crew.give_up.cancel();
            // What is not back by then is counted below.
            let _ = timeout(ANSWER_MAX, self.slots.acquire_many(all)).await;
        }
        self.crew.leave.cancel();
        let abandoned = options.slots() - self.slots.available_permits();
        if abandoned > 0 {
            tracing::warn!(abandoned, "stopped while attempts still hold their tasks");
        }
        WorkerReport { stats: self.crew.counters.read(), abandoned }
    }
}

/// Resolves when the queue has kept a stopping worker waiting for too long.
async fn overdue(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    sleep(ANSWER_MAX).await;
}

/// A place to run a task in, among all and among those of its queue.
struct Slot {
    held: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
    freed: Arc<Notify>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Told when it is free, not before.
        self.held.take();
        self.freed.notify_one();
    }
}

/// What the loop waits for, besides the shutdown.
enum Next {
    /// All slots are taken.
    Slot,
    /// Something is due by then, or it is time to look anyway; with `is_full` a queue has all that it may
    /// have, and a slot of it may come free.
    Due { pause: Duration, is_full: bool },
    /// The queue failed; to be asked again after this pause.
    Retry(Duration),
}
