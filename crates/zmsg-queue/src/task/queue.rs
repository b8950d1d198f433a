//! The contract of a task queue.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use zmsg_core::{Error, Level, Result, TaskId, UnixMillis};
use zmsg_store::Step;

use super::many::enqueue_each;
use super::periodic::Firing;
use super::record::{DeadTask, Enqueued, LeasedTask, NewTask, QueueStats, TaskState};

/// A queue of tasks, each due at a moment, each leased to one worker at a time.
///
/// - A task is accepted once per id for as long as the queue knows it (waiting, leased or dead).
///   So an enqueue without an answer may be repeated with the same id. A task that was completed
///   is forgotten: that its *effect* happens once is the inbox's promise, not the queue's.
/// - A task is not handed out before it is due, to the millisecond of the queue's clock, and then
///   in the order of due time, then id.
/// - Of the tasks of a lane only the first, in the order in which they were accepted, is handed out;
///   the next one when it is completed or dropped, or is a dead letter that is to be skipped.
/// - A task with a group is not handed out: when it is due it joins the group, and an aggregate takes the
///   place of those that are there ([`TaskGroups`](crate::TaskGroups)). One that somebody runs by hand, or
///   brings back from the dead letters, is a task like any other.
/// - While a lease holds, nobody else is given the task. When it has run out, the task is handed
///   out again with the next attempt number.
/// - The attempt number is the fencing token: it only grows, and `extend`, `complete`, `retry`
///   and `bury` do nothing and answer `false` unless the attempt they name holds the task. A
///   lease that ran out and was not handed on still holds it.
/// - What was given back uncounted spends none of the task's `attempts_max`.
/// - A buried task is kept with its cause until somebody retries or drops it. Dead letters are
///   bounded: beyond the bound those with the lowest ids, in Redis the oldest, are dropped, logged and
///   counted.
/// - A paused queue accepts tasks and hands out none, whoever asks, until it is resumed. What workers have
///   by then they extend and settle as ever. A `lease` that was under way may still bring something.
/// - Of an entry of [periodic tasks](crate::PeriodicTasks) each firing is accepted once, whoever offers it and
///   how often, and after it only later ones. What is remembered of it is one change with the enqueue: both
///   are there or neither.
/// - Payloads come back byte for byte.
/// - Queues of different names share the bounds and nothing else; in Redis not even those, and an id is
///   that of a task in its queue.
/// - A closed queue refuses every call with `Closed`.
///
/// The queue's clock is the wall clock it was given or, where several nodes share a server, the
/// server's; a due time that comes in by another clock is understood as a pause from now. It
/// decides when a task is tried, never whether its effect counts: a jump makes tasks early or late,
/// or hands a running one to a second worker, which the fencing token and the inbox are there for.
#[async_trait]
pub trait TaskQueue: fmt::Debug + Send + Sync + 'static {
    /// How durable a task is once `enqueue` has returned, and so is every later change of it.
    fn level(&self) -> Level;

    /// Accepts a task, or says that one of this id is there already.
    ///
    /// # Errors
    /// `Overloaded` at the bound, at once; `InvalidInput` for a task that no queue would take;
    /// an error with outcome unknown may be answered by the same call with the same id.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the task accepted or not; ask again with the same id.
    async fn enqueue(&self, task: NewTask) -> Result<Enqueued>;

    /// Accepts all of the tasks or, with an error, none; duplicates count as accepted before.
    /// The answers are in the order of the tasks.
    ///
    /// # Errors
    /// As for [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    /// As for [`enqueue`](Self::enqueue): all or none.
    async fn enqueue_all(&self, tasks: Vec<NewTask>) -> Result<Vec<Enqueued>>;

    /// Accepts the task of a firing, unless this entry has fired at its moment or a later one.
    ///
    /// # Errors
    /// As for [`enqueue`](Self::enqueue). A temporary `Conflict` more than a
    /// [second](Firing::EARLY_MAX_MS) before the moment, by the queue's clock: a node whose clock is ahead must
    /// not take the firings of others from them. `Overloaded` for a new entry where the queue knows
    /// [so many](Firing::ENTRIES_MAX) already. After any error nothing is remembered of the firing.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the firing accepted or not; offer it again.
    async fn enqueue_firing(&self, firing: Firing) -> Result<Enqueued>;

    /// The moment of the latest firing of an entry that was accepted. `None`: there was none, or none for
    /// [so long](Firing::KEPT_MS) that it was forgotten.
    ///
    /// # Errors
    /// Those of the backend.
    async fn last_firing(&self, queue: &str, entry: &str) -> Result<Option<UnixMillis>>;

    /// Accepts each of the tasks by itself, all of them in as few round trips as can be: one that is refused
    /// keeps no other out. The answers are in the order of the tasks, and each is that which
    /// [`enqueue`](Self::enqueue) would give.
    ///
    /// The tasks may be for several queues; those of one are taken in their order. At the bound the first are
    /// taken, as far as there is room, and those behind are not looked at one by one: a duplicate among them
    /// may be `Overloaded` too. Behind a failure of the queue none is tried. A task of a lane that is refused
    /// keeps no later one of its lane out: [`enqueue_all`](Self::enqueue_all) is for those.
    ///
    /// # Cancel safety
    /// Dropping the future leaves each of the tasks accepted or not; ask again with the same ids.
    async fn enqueue_many(&self, tasks: Vec<NewTask>) -> Vec<Result<Enqueued>> {
        enqueue_each(self, tasks).await
    }

    /// Leases up to `max` tasks that are due, oldest due first, until `for_` from now; among
    /// them those whose earlier lease ran out.
    ///
    /// A task whose lease ran out on its last attempt is handed out all the same, with more
    /// attempts spent than it had: whoever leases it is to bury it.
    ///
    /// # Errors
    /// Those of the backend.
    ///
    /// # Cancel safety
    /// Dropping the future may leave tasks leased to nobody until their leases run out, or until
    /// the next call, where the queue can find them again.
    async fn lease(&self, queue: &str, max: usize, for_: Duration) -> Result<Vec<LeasedTask>>;

    /// Lets the lease end `for_` from now. `false`: the task is no longer ours.
    ///
    /// # Errors
    /// Those of the backend.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the lease extended or not.
    async fn extend(&self, task: &LeasedTask, for_: Duration) -> Result<bool>;

    /// Forgets the task: it is done. `false`: it is no longer ours.
    ///
    /// # Errors
    /// Those of the backend.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the task completed or not.
    async fn complete(&self, task: &LeasedTask) -> Result<bool>;

    /// The completion as the last steps of a transaction of the caller's, if the queue lives in a
    /// database: with them the effect of a task and its end are one commit. They roll it back,
    /// as [`is_lease_lost`](crate::is_lease_lost) recognizes, if the task is no longer ours. The
    /// [inbox step](crate::inbox_step) belongs in that transaction as before: another copy of the
    /// task may have been enqueued after this one was completed.
    ///
    /// They are for the database of the queue and for no other.
    fn completion_steps(&self, task: &LeasedTask) -> Option<Vec<Step>> {
        let _ = task;
        None
    }

    /// Gives the task back, to be tried again at `due`. With `counts` the attempt is spent;
    /// without, it is not (the worker stops, the database is away). `false`: no longer ours.
    ///
    /// # Errors
    /// Those of the backend.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the task given back or not.
    async fn retry(
        &self,
        task: &LeasedTask,
        due: UnixMillis,
        cause: &Error,
        counts: bool,
    ) -> Result<bool>;

    /// Moves the task to the dead letters. `false`: it is no longer ours.
    ///
    /// # Errors
    /// Those of the backend.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the task buried or not.
    async fn bury(&self, task: &LeasedTask, cause: &Error) -> Result<bool>;

    /// The earliest moment at which `lease` may have something to give: the next due time or
    /// the next end of a lease; it may have passed. `None` if the queue is empty or paused.
    ///
    /// # Errors
    /// Those of the backend.
    async fn next_due(&self, queue: &str) -> Result<Option<UnixMillis>>;

    /// Resolves when something was enqueued, given back or resumed, in any queue and through this
    /// object, after this call was made (not: after the future was first polled). A hint: it
    /// may come for nothing, and need not speak of other processes. Closing resolves it as well.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    fn changed(&self) -> BoxFuture<'_, ()>;

    /// Lets a queue rest until [`resume`](Self::resume), on every node and, where the tasks outlive the
    /// process, beyond its end. `false`: it did so already.
    ///
    /// # Errors
    /// `InvalidInput` for what is no name of a queue; those of the backend.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue paused or not.
    async fn pause(&self, queue: &str) -> Result<bool>;

    /// Lets a queue go on, and wakes those who wait for a change. `false`: it was not paused.
    ///
    /// # Errors
    /// Those of the backend.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue paused or not.
    async fn resume(&self, queue: &str) -> Result<bool>;

    /// Whether a queue rests.
    ///
    /// # Errors
    /// Those of the backend.
    async fn is_paused(&self, queue: &str) -> Result<bool>;

    /// Dead letters in the order of their ids, those above `after`, at most `limit`; of one
    /// queue or of all.
    ///
    /// # Errors
    /// Those of the backend.
    async fn dead_letters(
        &self,
        queue: Option<&str>,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<DeadTask>>;

    /// Brings a dead letter back, due now, with all its attempts again. `false`: there is none.
    ///
    /// # Errors
    /// `Overloaded` if the queue is full; those of the backend.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it brought back or not.
    async fn retry_dead(&self, id: TaskId) -> Result<bool>;

    /// Forgets a dead letter. `false`: there is none.
    ///
    /// # Errors
    /// Those of the backend.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it dropped or not.
    async fn drop_dead(&self, id: TaskId) -> Result<bool>;

    /// Where a task stands. `None`: it was completed or dropped, or never accepted.
    ///
    /// # Errors
    /// Those of the backend.
    async fn state(&self, id: TaskId) -> Result<Option<TaskState>>;

    /// Counts of one queue. Walks its tasks on a SQL backend: for people and gauges.
    ///
    /// # Errors
    /// Those of the backend.
    async fn stats(&self, queue: &str) -> Result<QueueStats>;

    /// Refuses every later call and wakes those who wait for a change. What a SQL queue holds
    /// stays in its table; what a memory queue holds is lost.
    ///
    /// # Errors
    /// Those of the backend.
    async fn close(&self) -> Result<()>;
}
