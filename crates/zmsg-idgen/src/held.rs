//! The slots that a file lease holds, by node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, Result, UnixMillis};

use crate::Lease;
use crate::slot::Slot;

/// Slots locked by this process. Dropping it unlocks them, as the end of the process does.
#[derive(Debug, Default)]
pub(crate) struct HeldSlots(Mutex<HashMap<u32, Held>>);

#[derive(Debug, Clone)]
struct Held {
    owner: Uuid,
    slot: Arc<Slot>,
}

impl HeldSlots {
    pub(crate) fn keep(&self, slot: Slot, lease: &Lease) {
        let held = Held { owner: lease.owner, slot: Arc::new(slot) };
        self.slots().insert(lease.node, held);
    }

    pub(crate) async fn extend(&self, lease: &Lease, ceiling_ms: UnixMillis) -> Result<Lease> {
        let (slot, asked) = (self.of(lease)?, lease.clone());
        let result = on_blocking_thread(move || slot.raise(&asked, ceiling_ms)).await;
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Conflict) {
            self.forget(lease);
        }
        result
    }

    pub(crate) async fn release(&self, lease: Lease, last_issued_ms: UnixMillis) -> Result<()> {
        let (slot, asked) = (self.of(&lease)?, lease.clone());
        let result = on_blocking_thread(move || slot.release(&asked, last_issued_ms)).await;
        let ended =
            result.as_ref().map_or_else(|error| error.kind() == ErrorKind::Conflict, |()| true);
        if ended {
            self.forget(&lease);
        }
        result
    }

    /// The slot, if this lease is the one that it is held under.
    fn of(&self, lease: &Lease) -> Result<Arc<Slot>> {
        let slots = self.slots();
        let held = slots.get(&lease.node).filter(|held| held.owner == lease.owner);
        held.map(|held| Arc::clone(&held.slot)).ok_or_else(|| {
            Error::new(ErrorKind::Conflict, "the lease of the node is no longer ours")
                .with_context("node", lease.node)
                .with_context("epoch", lease.epoch)
        })
    }

    fn forget(&self, lease: &Lease) {
        let mut slots = self.slots();
        if slots.get(&lease.node).is_some_and(|held| held.owner == lease.owner) {
            slots.remove(&lease.node);
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<u32, Held>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs what blocks on the disk where it may.
pub(crate) async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        Error::new(ErrorKind::Unexpected, "work on a node's files was broken off")
            .with_source(error)
    })?
}
