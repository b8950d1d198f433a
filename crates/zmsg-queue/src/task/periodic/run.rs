//! The loop that fires entries when their moments come.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use zmsg_core::{Backoff, Clock, Error, ErrorKind, Result, UnixMillis};

use super::agenda::{Agenda, Line};
use super::entry::PeriodicTask;
use super::firing::Firing;
use super::watch::{Next, Watch};
use crate::task::queue::TaskQueue;
use crate::task::record::{Enqueued, check_name};
use crate::task::worker::will_not_go_away;

/// Enqueues the tasks of some entries whenever their moments come. Run it on every node: each firing is
/// enqueued once.
///
/// - What an entry has fired is remembered in the queue, in the transaction or script that enqueues its task. So
///   neither another node, nor one that was restarted, nor a clock that went back fires a moment again.
/// - A moment fires as soon as one node that looks reaches the queue, unless the next one of its entry comes
///   before that: then only that one fires. A failed attempt is repeated after a backoff, at most
///   five seconds.
/// - A moment that comes while no node runs fires if one starts within a minute; else it is
///   [missed](super::Missed). So is one that the clock of a node leaps over by more than a minute, as far as this node is
///   concerned. A leap is noticed within five seconds.
/// - A node whose clock is ahead of the queue's waits until the moment has come there (to a second), and fires
///   less often what comes more often than that; one whose clock is behind comes late, and finds that others have
///   fired.
/// - A task that no queue takes, or whose maker panics, costs its firing, and an error in the log.
///
/// ```
/// # use std::sync::Arc;
/// # use std::time::Duration;
/// # use zmsg_core::{SystemClock, TaskId};
/// use zmsg_queue::{MemoryQueueOptions, MemoryTaskQueue, Missed, NewTask, PeriodicTask, PeriodicTasks, Schedule};
///
/// # fn main() -> zmsg_core::Result<()> {
/// let clock = Arc::new(SystemClock);
/// let queue = Arc::new(MemoryTaskQueue::new(clock.clone(), MemoryQueueOptions::default()));
/// let report = PeriodicTask::new("hourly-report", Schedule::every(Duration::from_secs(3600))?, |moment| {
///     NewTask::new(TaskId::generate(), "report", moment.to_string())
/// });
/// let periodic = PeriodicTasks::new(queue, clock).with(report.missed(Missed::Once))?;
/// let agenda = periodic.agenda();
/// // tracker.spawn(periodic.run(shutdown));
/// assert_eq!(agenda.entries()[0].schedule, "@every 1h");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PeriodicTasks {
    queue: Arc<dyn TaskQueue>,
    clock: Arc<dyn Clock>,
    agenda: Agenda,
    backoff: Backoff,
}

/// How often the clock is looked at: it may leap while nobody looks.
const LOOK: Duration = Duration::from_secs(5);

impl PeriodicTasks {
    /// None so far, for this queue.
    pub fn new(queue: Arc<dyn TaskQueue>, clock: Arc<dyn Clock>) -> Self {
        let backoff = Backoff::new(Duration::from_millis(100), LOOK);
        Self { queue, clock, agenda: Agenda::new(), backoff }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// `InvalidInput` for what is no name, or for one that another entry has.
    pub fn with(mut self, task: PeriodicTask) -> Result<Self> {
        check_name("entry", task.name())?;
        if self.agenda.lines().iter().any(|line| line.task.name() == task.name()) {
            let why = "another entry has this name: each needs one of its own";
            return Err(Error::invalid_input(why).with_context("entry", task.name()));
        }
        self.agenda.push(task);
        Ok(self)
    }

    /// What they are up to, to be looked at at any time. Ask for it when all entries are there.
    pub fn agenda(&self) -> Agenda {
        self.agenda.clone()
    }

    /// Fires entries until `shutdown`.
    ///
    /// # Errors
    /// One of the queue that will not go away: it was closed; or, when an entry begins, its table is missing or
    /// a right is wanting.
    ///
    /// # Cancel safety
    /// Dropping the future may leave a firing enqueued or not. Where it is not, another node fires it, or this
    /// one if it starts again within a minute.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let all = self.agenda.lines().iter().map(|line| self.keep(line));
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            ended = try_join_all(all) => ended?,
        };
        // There was none that ever fires.
        shutdown.cancelled().await;
        Ok(())
    }

    /// Fires one entry, for as long as it has moments to come.
    async fn keep(&self, line: &Line) -> Result<()> {
        let mut watch = self.begin(line).await?;
        loop {
            if !watch.look(self.clock.wall()) {
                watch = self.begin_again(line).await?;
            }
            let next = watch.next(&line.task);
            tracing::trace!(entry = line.task.name(), ?next, "looked at a periodic task");
            match next {
                Next::Never => return Ok(()),
                Next::At(moment) => {
                    line.note(|entry| entry.next = Some(moment));
                    let left = moment.saturating_sub(self.clock.wall());
                    // No spinning, whatever the clock does.
                    sleep(Duration::from_millis(left.max(1)).min(LOOK)).await;
                    if watch.is_ahead() {
                        watch = self.begin(line).await?;
                    }
                }
                Next::Missed { last } => {
                    tracing::warn!(entry = line.task.name(), last, "a periodic task was missed");
                    watch.decide(last);
                }
                Next::Fire { moment, missed } => {
                    if missed {
                        let name = line.task.name();
                        tracing::warn!(
                            entry = name,
                            moment,
                            "of several moments only the last fires"
                        );
                    }
                    if self.fire(line, moment, &mut watch).await? {
                        watch.decide(moment);
                    } else {
                        watch = self.begin_again(line).await?;
                    }
                }
            }
        }
    }

    /// Asks what an entry has fired, until the queue answers. What comes meanwhile fires then.
    async fn begin(&self, line: &Line) -> Result<Watch> {
        let mut watch = Watch::new(self.clock.wall());
        let queue = match line.task.firing(self.clock.wall()) {
            Ok(firing) => firing.queue().to_owned(),
            Err(error) => {
                tracing::error!(%error, entry = line.task.name(), "a periodic task has no queue yet");
                return Ok(watch);
            }
        };
        let mut failures = 0;
        loop {
            match self.queue.last_firing(&queue, line.task.name()).await {
                Ok(last) => {
                    line.note(|entry| entry.last = last);
                    last.into_iter().for_each(|last| watch.has_fired(last));
                    return Ok(watch);
                }
                // No task is in the question: what is refused is refused to all.
                Err(error) if will_not_go_away(&error) => return Err(error),
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, failures, "could not ask when a periodic task fired");
                    sleep(self.backoff.delay(failures)).await;
                    watch.look(self.clock.wall());
                }
            }
        }
    }

    /// The clock went back: what an entry has fired is no longer known by it.
    async fn begin_again(&self, line: &Line) -> Result<Watch> {
        tracing::warn!(
            entry = line.task.name(),
            "the clock went back: what has fired is asked for"
        );
        self.begin(line).await
    }

    /// Offers a firing to the queue until it is taken, by whomever, or the next moment comes. `false`: the clock
    /// went back meanwhile, and the moment may be one of a time that was wrong.
    async fn fire(&self, line: &Line, moment: UnixMillis, watch: &mut Watch) -> Result<bool> {
        let name = line.task.name();
        let firing = match line.task.firing(moment) {
            Ok(firing) => firing,
            Err(error) => {
                tracing::error!(%error, entry = name, moment, "a periodic task could not be made");
                line.note(|entry| entry.lost += 1);
                return Ok(true);
            }
        };
        let next = line.task.schedule().next_after(moment);
        let lost_from = next.unwrap_or(UnixMillis::MAX);
        let mut failures = 0;
        loop {
            let error = match self.queue.enqueue_firing(firing.clone()).await {
                Ok(answer) => {
                    // First: whoever hears of the firing sees what comes next.
                    line.note(|entry| entry.next = next);
                    self.note(line, &firing, answer);
                    return Ok(true);
                }
                Err(error) => error,
            };
            let now = self.clock.wall();
            if !watch.look(now) {
                return Ok(false);
            }
            // By the clock of the queue, which decides, the next one has not come either.
            let is_early = error.kind() == ErrorKind::Conflict && error.is_temporary();
            if is_of_the_task(&error) || (now >= lost_from && !is_early) {
                tracing::error!(%error, entry = name, moment, "the firing of a periodic task is lost");
                line.note(|entry| entry.lost += 1);
                return Ok(true);
            }
            if is_final(&error) {
                return Err(error);
            }
            failures += 1;
            tracing::warn!(%error, entry = name, moment, failures, "could not fire a periodic task");
            let left = lost_from.checked_sub(now).filter(|left| *left > 0);
            let left = left.map_or(Duration::MAX, Duration::from_millis);
            sleep(self.backoff.delay(failures).min(left)).await;
        }
    }

    fn note(&self, line: &Line, firing: &Firing, answer: Enqueued) {
        let (entry, moment) = (firing.entry(), firing.moment());
        match answer {
            Enqueued::Accepted => self.agenda.fired(line, firing, self.clock.wall()),
            Enqueued::Duplicate => line.note(|entry| {
                entry.fired_elsewhere += 1;
                entry.last = entry.last.max(Some(moment));
            }),
            // The lock is what the task asked for: this firing is done without.
            Enqueued::Locked => line.note(|entry| entry.last = entry.last.max(Some(moment))),
        }
        tracing::debug!(entry, moment, ?answer, "a periodic task fired");
    }
}

/// True if the queue refuses this task, and would take others.
fn is_of_the_task(error: &Error) -> bool {
    will_not_go_away(error)
        && matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported)
}

/// True if the queue will take nothing any more.
fn is_final(error: &Error) -> bool {
    will_not_go_away(error) && !is_of_the_task(error)
}
