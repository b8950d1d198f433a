//! Invalidations that could not reach L2, kept as tasks until they do.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{Clock, Error, Key, Result, TaskId};
use zmsg_queue::{NewTask, Worker};

use crate::assemble::{NamedQueue, Servers};
use crate::codec::{self, Kind, Payload};

/// Hands failed invalidations to the task queue.
///
/// While L2 is away every write has one. They are gathered for a moment, each key once, so that an
/// outage costs a task now and then and not one for each write. A repair only ever removes:
/// replaying an old value later would be a stale write. Its queue is not in Redis: what is to be repaired
/// there could not be noted while it is away.
#[derive(Debug, Clone)]
pub(crate) struct Repairs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: NamedQueue,
    clock: Arc<dyn Clock>,
    tracker: TaskTracker,
    /// Keys that no task has yet; a task that gathers them runs if there are any.
    waiting: Mutex<BTreeSet<Key>>,
    noted: AtomicU64,
}

/// A repair is tried far longer than an entry lives; then its TTL has done the work.
const ATTEMPTS_MAX: u32 = 10_000;

/// Keys of one task.
const KEYS_MAX: usize = 1_000;

/// Keys that may wait for their task; beyond, the TTL of their entries has to do.
const WAITING_MAX: usize = 1_000_000;

/// How long keys are gathered. A process that is killed meanwhile leaves them to their TTL.
const GATHER: Duration = Duration::from_millis(250);

impl Repairs {
    pub(crate) fn new(queue: NamedQueue, clock: Arc<dyn Clock>, tracker: TaskTracker) -> Self {
        let (waiting, noted) = (Mutex::default(), AtomicU64::new(0));
        Self(Arc::new(Inner { queue, clock, tracker, waiting, noted }))
    }

    /// Invalidations that did not reach L2 so far.
    pub(crate) fn noted(&self) -> u64 {
        self.0.noted.load(Relaxed)
    }

    /// Sees to it that `keys` are invalidated later. The write itself has succeeded, so nothing
    /// here may fail it.
    pub(crate) fn note(&self, keys: &[Key], cause: &Error) {
        tracing::debug!(keys = keys.len(), %cause, "invalidations did not reach the remote cache");
        self.0.noted.fetch_add(keys.len() as u64, Relaxed);
        let mut waiting = self.0.waiting();
        let first = waiting.is_empty();
        if waiting.len() + keys.len() > WAITING_MAX {
            tracing::error!(
                keys = keys.len(),
                "too many keys wait for repair; the TTL bounds them"
            );
            return;
        }
        waiting.extend(keys.iter().cloned());
        if first && !waiting.is_empty() {
            let inner = Arc::clone(&self.0);
            self.0.tracker.spawn(async move { inner.gather().await });
        }
    }
}

impl Inner {
    async fn gather(&self) {
        tokio::time::sleep(GATHER).await;
        let keys: Vec<Key> = std::mem::take(&mut *self.waiting()).into_iter().collect();
        for keys in keys.chunks(KEYS_MAX) {
            if let Err(error) = self.queue_task(keys).await {
                tracing::error!(
                    keys = keys.len(),
                    %error,
                    "a repair of the remote cache could not be queued; the TTL bounds it"
                );
            }
        }
    }

    async fn queue_task(&self, keys: &[Key]) -> Result<()> {
        let payload = Payload::RepairMany { keys: keys.iter().map(Key::to_string).collect() };
        let now = self.clock.wall();
        let task =
            NewTask::new(TaskId::generate(), Kind::CacheRepair.name(), codec::encode(&payload)?)
                .queue(&*self.queue.name)
                .due(now)
                .attempts_max(ATTEMPTS_MAX);
        self.queue.queue.enqueue(self.queue.envelope.close(task, now)).await.map(|_| ())
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeSet<Key>> {
        // The set is whole after a panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How soon the return of L2 is noticed.
const LOOK: Duration = Duration::from_millis(200);

/// Runs the worker of repairs while L2 can be reached, and leaves its tasks alone while it cannot:
/// they would only fail again and again.
pub(crate) async fn run_while_reachable(
    worker: impl Fn() -> Worker,
    servers: Servers,
    shutdown: CancellationToken,
) -> Result<()> {
    while !shutdown.is_cancelled() {
        let turn = shutdown.child_token();
        let look = async {
            while servers.remote_is_up() {
                tokio::time::sleep(LOOK).await;
            }
            turn.cancel();
        };
        if servers.remote_is_up() {
            let running = worker().run(turn.clone());
            let (ended, ()) = tokio::join!(running, async {
                tokio::select! {
                    () = turn.cancelled() => {}
                    () = look => {}
                }
            });
            ended?;
        } else {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
    Ok(())
}
