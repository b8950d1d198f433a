//! Invalidations that could not reach L2, kept as tasks until they do.

use std::sync::Arc;

use zmsg_core::{Clock, Error, Key, TaskId};
use zmsg_queue::{NewTask, TaskQueue};

use crate::codec::{self, Kind, Payload};

/// Hands failed invalidations to the task queue.
///
/// A repair only ever removes: replaying an old value later would be a stale write.
#[derive(Debug, Clone)]
pub(crate) struct Repairs {
    queue: Arc<dyn TaskQueue>,
    clock: Arc<dyn Clock>,
}

/// A repair is tried far longer than an entry lives; then its TTL has done the work.
const ATTEMPTS_MAX: u32 = 100;

impl Repairs {
    pub(crate) fn new(queue: Arc<dyn TaskQueue>, clock: Arc<dyn Clock>) -> Self {
        Self { queue, clock }
    }

    /// Queues the invalidation of `key`. The write itself has succeeded, so nothing here may fail
    /// it: if the queue cannot take the repair either, the entry's TTL bounds the staleness.
    pub(crate) async fn enqueue(&self, key: &Key, cause: &Error) {
        tracing::warn!(%key, %cause, "an invalidation did not reach the remote cache");
        let payload = Payload::Repair { key: key.to_string() };
        let task = codec::encode(&payload).map(|payload| NewTask {
            id: TaskId::generate(),
            queue: codec::QUEUE.to_owned(),
            kind: Kind::CacheRepair.name().to_owned(),
            payload,
            due: self.clock.wall(),
            attempts_max: ATTEMPTS_MAX,
        });
        let queued = match task {
            Ok(task) => self.queue.enqueue(task).await.map(|_| ()),
            Err(error) => Err(error),
        };
        if let Err(error) = queued {
            tracing::error!(%key, %error, "the repair could not be queued; the TTL bounds it");
        }
    }
}
