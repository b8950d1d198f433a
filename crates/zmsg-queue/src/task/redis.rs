//! A task queue in Redis, on the layout of Go's asynq.
//!
//! Keys, message and states are asynq's, so that its tools show these queues and its workers take these
//! tasks; decision 0017 tells what zmsg has besides, which they pass over. Each change is one script.

mod keys;
mod message;
mod names;
mod options;
mod scripts;
mod calls;
mod lost;
mod ends;
mod many;
mod dead;
mod groups;
mod kept;
mod lanes;
mod pauses;
mod firings;
mod presence;
mod schedulers;
mod inspect;
mod infos;
mod acts;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use zmsg_core::{Clock, Error, ErrorKind, Level, Result, TaskId, UnixMillis};
use zmsg_redis::Redis;

pub use options::RedisQueueOptions;
pub use presence::RedisPresence;
pub use schedulers::RedisSchedulerPresence;

use self::ends::Ends;
use self::keys::Keys;
use self::lost::LostCalls;
use super::changes::Changes;
use super::periodic::Firing;
use super::queue::TaskQueue;
use super::record::{
    DeadTask, Enqueued, LeasedTask, NewTask, QueueStats, TaskState, cause_text, check_queue_name,
    lease_end,
};
use super::sql::QueueClock;

/// A task queue in Redis that nodes share, also with programs in Go that use asynq.
///
/// - What was enqueued is as durable as Redis is configured to be.
/// - Tasks are leased to the millisecond. asynq's own sets count in seconds, rounded up: its workers are
///   late rather than early.
/// - What a lease without an answer took is handed out by the next one of this object, as the same
///   attempt; so is what one took whose future was dropped.
/// - Groups are aggregated by whoever looks first, here ([`TaskGroups`](crate::TaskGroups)) or in Go.
/// - A completion, a retry and a burial are fenced by the attempt. Workers written in Go are not: one that
///   lost its lease may still end a task that another has.
/// - The bounds are those of each queue. The tasks of one `enqueue_all` go to one queue, and an id is that
///   of a task in its queue.
/// - A task of asynq whose id is no UUID has one here that is made of it.
#[derive(Debug)]
pub struct RedisTaskQueue {
    redis: Redis,
    clock: Arc<dyn Clock>,
    options: RedisQueueOptions,
    /// Queues whose names this process has put where tools list them.
    named: Mutex<HashSet<String>>,
    changes: Changes,
    lost: LostCalls,
    ends: Ends,
    dead_dropped: AtomicU64,
    closed: AtomicBool,
}

impl RedisTaskQueue {
    /// A queue in this Redis. Nothing is asked of it yet.
    pub fn new(redis: Redis, clock: Arc<dyn Clock>, options: RedisQueueOptions) -> Self {
        Self {
            redis,
            clock,
            options,
            named: Mutex::default(),
            changes: Changes::default(),
            lost: LostCalls::default(),
            ends: Ends::default(),
            dead_dropped: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    fn open(&self) -> Result<()> {
        if self.closed.load(Relaxed) { Err(Error::closed("task queue")) } else { Ok(()) }
    }

    /// The moment for a script: nothing stands for the clock of the server.
    fn now(&self) -> String {
        match self.options.clock {
            QueueClock::Database => String::new(),
            QueueClock::Given => self.clock.wall().to_string(),
        }
    }

    fn named(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers, and tells those who wait if the answer is that something changed.
    fn told(&self, changed: bool) -> bool {
        if changed {
            self.changes.tell();
        }
        changed
    }
}

#[async_trait]
impl TaskQueue for RedisTaskQueue {
    fn level(&self) -> Level {
        Level::Redis
    }

    async fn enqueue(&self, task: NewTask) -> Result<Enqueued> {
        let answers = self.enqueue_all(vec![task]).await?;
        answers.first().copied().ok_or_else(|| {
            Error::new(ErrorKind::Unexpected, "Redis did not say what came of a task")
        })
    }

    async fn enqueue_all(&self, tasks: Vec<NewTask>) -> Result<Vec<Enqueued>> {
        self.open()?;
        tasks.iter().try_for_each(NewTask::check)?;
        let answers =
            self.take_in(tasks, None).await.map_err(|error| error.during("queue.enqueue"))?;
        self.told(answers.contains(&Enqueued::Accepted));
        Ok(answers)
    }

    async fn enqueue_firing(&self, firing: Firing) -> Result<Enqueued> {
        self.open()?;
        firing.check()?;
        let answer = self.fire(firing).await;
        let answer = answer.map_err(|error| error.during("queue.enqueue_firing"))?;
        self.told(answer == Enqueued::Accepted);
        Ok(answer)
    }

    async fn last_firing(&self, queue: &str, entry: &str) -> Result<Option<UnixMillis>> {
        self.open()?;
        let found = self.find_firing(queue, entry).await;
        found.map_err(|error| error.during("queue.last_firing"))
    }

    async fn enqueue_many(&self, tasks: Vec<NewTask>) -> Vec<Result<Enqueued>> {
        self.enqueue_each_in_its_queue(tasks).await
    }

    async fn lease(&self, queue: &str, max: usize, for_: Duration) -> Result<Vec<LeasedTask>> {
        self.open()?;
        if max == 0 {
            return Ok(Vec::new());
        }
        self.hand_out(queue, max, for_).await.map_err(|error| error.during("queue.lease"))
    }

    async fn extend(&self, task: &LeasedTask, for_: Duration) -> Result<bool> {
        self.open()?;
        self.put_off(task, for_).await.map_err(|error| error.during("queue.extend"))
    }

    async fn complete(&self, task: &LeasedTask) -> Result<bool> {
        self.open()?;
        self.forget(task).await.map_err(|error| error.during("queue.complete"))
    }

    async fn retry(
        &self,
        task: &LeasedTask,
        due: UnixMillis,
        cause: &Error,
        counts: bool,
    ) -> Result<bool> {
        self.open()?;
        let given_back = self.give_back(task, due, cause_text(cause), counts).await;
        Ok(self.told(given_back.map_err(|error| error.during("queue.retry"))?))
    }

    async fn bury(&self, task: &LeasedTask, cause: &Error) -> Result<bool> {
        self.open()?;
        self.archive(task, cause_text(cause)).await.map_err(|error| error.during("queue.bury"))
    }

    async fn next_due(&self, queue: &str) -> Result<Option<UnixMillis>> {
        self.open()?;
        let counted = self.count(&Keys::of(queue)).await?;
        if counted.paused {
            return Ok(None);
        }
        // By the caller's clock: a caller waits by that.
        let wall = self.clock.wall();
        Ok(counted.first.map(|first| match first.checked_sub(counted.now) {
            Some(pause) => lease_end(wall, Duration::from_millis(pause)),
            None => wall.saturating_sub(counted.now - first),
        }))
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        self.changes.next()
    }

    async fn pause(&self, queue: &str) -> Result<bool> {
        self.open()?;
        check_queue_name(queue)?;
        self.begin_pause(queue).await.map_err(|error| error.during("queue.pause"))
    }

    async fn resume(&self, queue: &str) -> Result<bool> {
        self.open()?;
        let went_on = self.end_pause(queue).await;
        Ok(self.told(went_on.map_err(|error| error.during("queue.resume"))?))
    }

    async fn is_paused(&self, queue: &str) -> Result<bool> {
        self.open()?;
        self.finds_pause(queue).await.map_err(|error| error.during("queue.is_paused"))
    }

    async fn dead_letters(
        &self,
        queue: Option<&str>,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<DeadTask>> {
        self.open()?;
        self.list_dead(queue, after, limit).await.map_err(|it| it.during("queue.dead_letters"))
    }

    async fn retry_dead(&self, id: TaskId) -> Result<bool> {
        self.open()?;
        let brought_back = self.bring_back(id).await;
        Ok(self.told(brought_back.map_err(|error| error.during("queue.retry_dead"))?))
    }

    async fn drop_dead(&self, id: TaskId) -> Result<bool> {
        self.open()?;
        let dropped = self.drop_one(id).await;
        Ok(self.told(dropped.map_err(|error| error.during("queue.drop_dead"))?))
    }

    async fn state(&self, id: TaskId) -> Result<Option<TaskState>> {
        self.open()?;
        self.state_of(id).await.map_err(|error| error.during("queue.state"))
    }

    async fn stats(&self, queue: &str) -> Result<QueueStats> {
        self.open()?;
        let keys = Keys::of(queue);
        let (counted, grouped) = (self.count(&keys).await?, self.count_grouped(&keys).await?);
        let age = counted.first.and_then(|first| counted.now.checked_sub(first));
        Ok(QueueStats {
            pending: counted.pending + grouped,
            due: counted.due,
            leased: counted.leased,
            dead: counted.dead,
            oldest_due_age: age.map(Duration::from_millis),
            dead_dropped: self.dead_dropped.load(Relaxed),
        })
    }

    /// What is in Redis stays there, and so do its connections, which belong to whoever made them.
    async fn close(&self) -> Result<()> {
        self.closed.store(true, Relaxed);
        self.changes.tell();
        Ok(())
    }
}
