//! Invalidations that could not reach L2, kept as tasks until they do.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Mutex as Turn;
use zmsg_core::{Clock, Error, Key, Result, TaskId};
use zmsg_queue::{NewTask, TaskQueue};

use crate::codec::{self, Kind, Payload, REPAIR_QUEUE};

/// Hands failed invalidations to the task queue.
///
/// While L2 is away every write has one: those that fail at the same time share a task, so that
/// an outage costs a commit now and then and not one for each write. A repair only ever removes:
/// replaying an old value later would be a stale write.
#[derive(Debug)]
pub(crate) struct Repairs {
    queue: Arc<dyn TaskQueue>,
    clock: Arc<dyn Clock>,
    waiting: Mutex<BTreeSet<Key>>,
    turn: Turn<()>,
    queued: AtomicU64,
}

/// A repair is tried far longer than an entry lives; then its TTL has done the work.
const ATTEMPTS_MAX: u32 = 10_000;

/// Keys of one task.
const KEYS_MAX: usize = 1_000;

impl Repairs {
    pub(crate) fn new(queue: Arc<dyn TaskQueue>, clock: Arc<dyn Clock>) -> Self {
        let (waiting, turn, queued) = (Mutex::default(), Turn::default(), AtomicU64::new(0));
        Self { queue, clock, waiting, turn, queued }
    }

    /// Keys whose invalidation was queued so far.
    pub(crate) fn queued(&self) -> u64 {
        self.queued.load(Relaxed)
    }

    /// Queues the invalidation of `keys`, and returns when the queue has it. The write itself has
    /// succeeded, so nothing here may fail it: if the queue cannot take the repair either, the
    /// entry's TTL bounds the staleness.
    pub(crate) async fn enqueue(&self, keys: &[Key], cause: &Error) {
        tracing::debug!(keys = keys.len(), %cause, "invalidations did not reach the remote cache");
        self.waiting().extend(keys.iter().cloned());
        let _turn = self.turn.lock().await;
        // Whoever had the turn before may have taken ours along, and has queued them then.
        let keys: Vec<Key> = std::mem::take(&mut *self.waiting()).into_iter().collect();
        for keys in keys.chunks(KEYS_MAX) {
            match self.queue_task(keys).await {
                Ok(()) => {
                    self.queued.fetch_add(keys.len() as u64, Relaxed);
                }
                Err(error) => tracing::error!(
                    keys = keys.len(),
                    %error,
                    "a repair of the remote cache could not be queued; the TTL bounds it"
                ),
            }
        }
    }

    async fn queue_task(&self, keys: &[Key]) -> Result<()> {
        let payload = Payload::RepairMany { keys: keys.iter().map(Key::to_string).collect() };
        let task = NewTask {
            id: TaskId::generate(),
            queue: REPAIR_QUEUE.to_owned(),
            kind: Kind::CacheRepair.name().to_owned(),
            payload: codec::encode(&payload)?,
            due: self.clock.wall(),
            attempts_max: ATTEMPTS_MAX,
        };
        self.queue.enqueue(task).await.map(|_| ())
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeSet<Key>> {
        // The set is whole after a panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
