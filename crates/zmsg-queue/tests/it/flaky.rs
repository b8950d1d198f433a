//! A queue whose answers get lost when a test says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use zmsg_core::{Error, ErrorKind, Level, Result, TaskId, UnixMillis};
use zmsg_queue::{
    DeadTask, Enqueued, Firing, LeasedTask, NewTask, QueueStats, TaskQueue, TaskState,
};

/// Each number says how many of the next calls fail.
#[derive(Debug)]
pub(crate) struct Flaky {
    inner: Arc<dyn TaskQueue>,
    /// The call has its effect, and the answer is lost.
    pub(crate) enqueue_unanswered: AtomicU32,
    pub(crate) complete_unanswered: AtomicU32,
    pub(crate) bury_unanswered: AtomicU32,
    /// The call has no effect.
    pub(crate) lease_fails: AtomicU32,
    pub(crate) extend_fails: AtomicU32,
    pub(crate) retry_fails: AtomicU32,
    pub(crate) firing_fails: AtomicU32,
    /// The firing is accepted, and the answer is lost.
    pub(crate) firing_unanswered: AtomicU32,
    /// How often somebody asked for tasks.
    pub(crate) leases: AtomicU32,
    /// No lease is ever answered.
    pub(crate) lease_hangs: AtomicBool,
}

impl Flaky {
    pub(crate) fn new(inner: Arc<dyn TaskQueue>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            enqueue_unanswered: AtomicU32::new(0),
            complete_unanswered: AtomicU32::new(0),
            bury_unanswered: AtomicU32::new(0),
            lease_fails: AtomicU32::new(0),
            extend_fails: AtomicU32::new(0),
            retry_fails: AtomicU32::new(0),
            firing_fails: AtomicU32::new(0),
            firing_unanswered: AtomicU32::new(0),
            leases: AtomicU32::new(0),
            lease_hangs: AtomicBool::new(false),
        })
    }
}

/// Whether this call is one that fails.
fn fails(left: &AtomicU32) -> bool {
    left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
}

fn away() -> Error {
    Error::new(ErrorKind::Unavailable, "the queue is away").temporary()
}

fn unanswered<T>(left: &AtomicU32, answer: Result<T>) -> Result<T> {
    if fails(left) { Err(away().outcome_unknown()) } else { answer }
}

#[async_trait]
impl TaskQueue for Flaky {
    fn level(&self) -> Level {
        self.inner.level()
    }
    async fn enqueue(&self, task: NewTask) -> Result<Enqueued> {
        unanswered(&self.enqueue_unanswered, self.inner.enqueue(task).await)
    }
    async fn enqueue_all(&self, tasks: Vec<NewTask>) -> Result<Vec<Enqueued>> {
        unanswered(&self.enqueue_unanswered, self.inner.enqueue_all(tasks).await)
    }
    async fn enqueue_firing(&self, firing: Firing) -> Result<Enqueued> {
        if fails(&self.firing_fails) {
            return Err(away());
        }
        unanswered(&self.firing_unanswered, self.inner.enqueue_firing(firing).await)
    }
    async fn last_firing(&self, queue: &str, entry: &str) -> Result<Option<UnixMillis>> {
        if self.firing_fails.load(SeqCst) > 0 {
            return Err(away());
        }
        self.inner.last_firing(queue, entry).await
    }
    async fn lease(&self, queue: &str, max: usize, for_: Duration) -> Result<Vec<LeasedTask>> {
        self.leases.fetch_add(1, SeqCst);
        if self.lease_hangs.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        if fails(&self.lease_fails) {
            return Err(away());
        }
        self.inner.lease(queue, max, for_).await
    }
    async fn extend(&self, task: &LeasedTask, for_: Duration) -> Result<bool> {
        if fails(&self.extend_fails) {
            return Err(away());
        }
        self.inner.extend(task, for_).await
    }
    async fn complete(&self, task: &LeasedTask) -> Result<bool> {
        unanswered(&self.complete_unanswered, self.inner.complete(task).await)
    }
    async fn retry(
        &self,
        task: &LeasedTask,
        due: UnixMillis,
        cause: &Error,
        counts: bool,
    ) -> Result<bool> {
        if fails(&self.retry_fails) {
            return Err(away());
        }
        self.inner.retry(task, due, cause, counts).await
    }
    async fn bury(&self, task: &LeasedTask, cause: &Error) -> Result<bool> {
        unanswered(&self.bury_unanswered, self.inner.bury(task, cause).await)
    }
    async fn next_due(&self, queue: &str) -> Result<Option<UnixMillis>> {
        self.inner.next_due(queue).await
    }
    fn changed(&self) -> BoxFuture<'_, ()> {
        self.inner.changed()
    }
    async fn pause(&self, queue: &str) -> Result<bool> {
        self.inner.pause(queue).await
    }
    async fn resume(&self, queue: &str) -> Result<bool> {
        self.inner.resume(queue).await
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
        self.inner.retry_dead(id).await
    }
    async fn drop_dead(&self, id: TaskId) -> Result<bool> {
        self.inner.drop_dead(id).await
    }
    async fn state(&self, id: TaskId) -> Result<Option<TaskState>> {
        self.inner.state(id).await
    }
    async fn stats(&self, queue: &str) -> Result<QueueStats> {
        self.inner.stats(queue).await
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
