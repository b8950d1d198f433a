//! What nodes that share a queue tell each other through Redis.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zmsg_core::{Backoff, Clock, Error, Level, Result, TaskId, UnixMillis};
use zmsg_redis::redis::cmd;
use zmsg_redis::{Redis, RedisKey};
use zmsg_store::Step;

use super::changes::Changes;
use super::periodic::Firing;
use super::queue::TaskQueue;
use super::record::{DeadTask, Enqueued, LeasedTask, NewTask, QueueStats, TaskState};

/// A queue of another kind whose nodes tell each other of its changes through Redis.
///
/// The tasks are where the queue keeps them; Redis has none. Its word is a hint: without it, or where it
/// is lost, tasks of other nodes are found by polling.
#[derive(Debug)]
pub struct ToldQueue {
    inner: Arc<dyn TaskQueue>,
    clock: Arc<dyn Clock>,
    hints: Arc<Hints>,
}

#[derive(Debug)]
struct Hints {
    redis: Redis,
    channel: RedisKey,
    /// Which of the nodes this is, to those who hear of its changes.
    name: String,
    /// What others have told.
    changes: Changes,
    /// Something changed that others have not been told of.
    untold: Notify,
}

impl ToldQueue {
    /// The queue `inner`, known to all who share it as `channel` in the namespace of `redis`. Somebody is
    /// to run its [`wake_ups`](Self::wake_ups).
    pub fn new(
        inner: Arc<dyn TaskQueue>,
        clock: Arc<dyn Clock>,
        redis: Redis,
        channel: &str,
    ) -> Self {
        let hints = Hints {
            channel: redis.key("wake", channel),
            redis,
            name: Uuid::new_v4().to_string(),
            changes: Changes::default(),
            untold: Notify::new(),
        };
        Self { inner, clock, hints: Arc::new(hints) }
    }

    /// The loop to be run beside the workers of this queue.
    pub fn wake_ups(&self) -> RedisWakeUps {
        RedisWakeUps { hints: Arc::clone(&self.hints) }
    }

    /// Wakes the workers of all nodes: something was enqueued past this object, such as by an
    /// [outbox](crate::outbox) statement whose transaction has committed.
    pub fn tell(&self) {
        self.hints.changes.tell();
        self.hints.untold.notify_one();
    }

    /// Answers, and tells other nodes if the answer is that something changed. This one hears of it
    /// from the queue itself.
    fn told(&self, changed: bool) -> bool {
        if changed {
            self.hints.untold.notify_one();
        }
        changed
    }
}

#[async_trait]
impl TaskQueue for ToldQueue {
    fn level(&self) -> Level {
        self.inner.level()
    }

    async fn enqueue(&self, task: NewTask) -> Result<Enqueued> {
        let answer = self.inner.enqueue(task).await?;
        self.told(answer == Enqueued::Accepted);
        Ok(answer)
    }

    async fn enqueue_all(&self, tasks: Vec<NewTask>) -> Result<Vec<Enqueued>> {
        let answers = self.inner.enqueue_all(tasks).await?;
        self.told(answers.contains(&Enqueued::Accepted));
        Ok(answers)
    }

    async fn enqueue_firing(&self, firing: Firing) -> Result<Enqueued> {
        let answer = self.inner.enqueue_firing(firing).await?;
        self.told(answer == Enqueued::Accepted);
        Ok(answer)
    }

    async fn last_firing(&self, queue: &str, entry: &str) -> Result<Option<UnixMillis>> {
        self.inner.last_firing(queue, entry).await
    }

    async fn enqueue_many(&self, tasks: Vec<NewTask>) -> Vec<Result<Enqueued>> {
        let answers = self.inner.enqueue_many(tasks).await;
        self.told(answers.iter().any(|answer| matches!(answer, Ok(Enqueued::Accepted))));
        answers
    }

    async fn lease(&self, queue: &str, max: usize, for_: Duration) -> Result<Vec<LeasedTask>> {
        self.inner.lease(queue, max, for_).await
    }

    async fn extend(&self, task: &LeasedTask, for_: Duration) -> Result<bool> {
        self.inner.extend(task, for_).await
    }

    async fn complete(&self, task: &LeasedTask) -> Result<bool> {
        self.inner.complete(task).await
    }

    fn completion_steps(&self, task: &LeasedTask) -> Option<Vec<Step>> {
        self.inner.completion_steps(task)
    }

    async fn retry(
        &self,
        task: &LeasedTask,
        due: UnixMillis,
        cause: &Error,
        counts: bool,
    ) -> Result<bool> {
        let given_back = self.inner.retry(task, due, cause, counts).await?;
        // What is due later this node will look for, and others at their next poll.
        self.told(given_back && due <= self.clock.wall());
        Ok(given_back)
    }

    async fn bury(&self, task: &LeasedTask, cause: &Error) -> Result<bool> {
        self.inner.bury(task, cause).await
    }

    async fn next_due(&self, queue: &str) -> Result<Option<UnixMillis>> {
        self.inner.next_due(queue).await
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        // Both are asked before anything is polled: no change falls between.
        let (here, elsewhere) = (self.inner.changed(), self.hints.changes.next());
        Box::pin(async {
            tokio::select! {
                () = here => {}
                () = elsewhere => {}
            }
        })
    }

    async fn pause(&self, queue: &str) -> Result<bool> {
        self.inner.pause(queue).await
    }

    async fn resume(&self, queue: &str) -> Result<bool> {
        Ok(self.told(self.inner.resume(queue).await?))
    }

    async fn is_paused(&self, queue: &str) -> Result<bool> {
        self.inner.is_paused(queue).await
    }

    async fn dead_letters(
        &self,
        queue: Option<&str>,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<DeadTask>> {
        self.inner.dead_letters(queue, after, limit).await
    }

    async fn retry_dead(&self, id: TaskId) -> Result<bool> {
        Ok(self.told(self.inner.retry_dead(id).await?))
    }

    async fn drop_dead(&self, id: TaskId) -> Result<bool> {
        Ok(self.told(self.inner.drop_dead(id).await?))
    }

    async fn state(&self, id: TaskId) -> Result<Option<TaskState>> {
        self.inner.state(id).await
    }

    async fn stats(&self, queue: &str) -> Result<QueueStats> {
        self.inner.stats(queue).await
    }

    /// Closes the queue itself; the connections to Redis belong to whoever made them.
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

/// The loop that tells other nodes of the changes of a queue, and the queue of theirs.
pub struct RedisWakeUps {
    hints: Arc<Hints>,
}

/// Pauses while Redis cannot be listened to.
const LISTEN_AGAIN: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

impl RedisWakeUps {
    /// How long changes are gathered after a message, until the next.
    pub const PAUSE: Duration = Duration::from_millis(10);

    /// Tells and listens until `shutdown`. A Redis that is away is waited for.
    ///
    /// # Errors
    /// None so far.
    ///
    /// # Cancel safety
    /// Dropping the future ends the telling and the listening; polling goes on.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let stopped = async { tokio::join!(self.hear_always(), self.tell_always()) };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            _ = stopped => {}
        }
        // What a stopping worker has given back is for the others to take.
        let last = async {
            tokio::select! {
                biased;
                () = self.hints.untold.notified() => self.tell().await,
                () = std::future::ready(()) => {}
            }
        };
        let _ = timeout(Duration::from_secs(1), last).await;
        Ok(())
    }

    async fn hear_always(&self) {
        let Hints { redis, channel, name, changes, .. } = &*self.hints;
        let mut failures = 0;
        loop {
            match redis.subscribe(channel).await {
                Ok(mut heard) => {
                    failures = 0;
                    // What was told before nobody heard.
                    changes.tell();
                    while let Some(from) = heard.next().await {
                        if from != name.as_bytes() {
                            changes.tell();
                        }
                    }
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(%error, "the tasks of other nodes are found by polling");
                    }
                    failures += 1;
                    sleep(LISTEN_AGAIN.delay(failures)).await;
                }
            }
        }
    }

    async fn tell_always(&self) {
        loop {
            self.hints.untold.notified().await;
            self.tell().await;
            sleep(Self::PAUSE).await;
        }
    }

    async fn tell(&self) {
        let Hints { redis, channel, name, .. } = &*self.hints;
        let mut publish = cmd("PUBLISH");
        publish.arg(channel).arg(name);
        if let Err(error) = redis.query::<u64>(&publish).await {
            tracing::debug!(%error, "could not tell others of a task: they find it by polling");
        }
    }
}

impl fmt::Debug for RedisWakeUps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisWakeUps").field("channel", &self.hints.channel).finish_non_exhaustive()
    }
}
