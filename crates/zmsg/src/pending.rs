//! Receipts of delayed writes that have not taken effect yet.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zmsg_core::{Level, Result, Settlement, Settler, TaskId};

/// The settlers of delayed writes, by task. Bounded by the queue's own bound: a task that the
/// queue refuses is taken out again.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<HashMap<TaskId, Waiting>>);

#[derive(Debug)]
struct Waiting {
    settler: Settler,
    /// An attempt to apply it has begun, so its value may be in the table already.
    applying: bool,
}

impl Pending {
    /// Registers a task before it is enqueued, so that no worker can be faster than its receipt.
    pub(crate) fn register(&self, id: TaskId, level: Level) -> Settlement {
        let settler = Settlement::pending(level);
        let settlement = settler.settlement();
        self.lock().insert(id, Waiting { settler, applying: false });
        settlement
    }

    /// Tells those who wait how the task ended.
    pub(crate) fn settle(&self, id: TaskId, outcome: Result<()>) {
        let waiting = self.lock().remove(&id);
        if let Some(waiting) = waiting {
            waiting.settler.settle(outcome);
        }
    }

    /// Notes that an attempt to apply the task begins.
    pub(crate) fn begin_applying(&self, id: TaskId) {
        if let Some(waiting) = self.lock().get_mut(&id) {
            waiting.applying = true;
        }
    }

    /// True while the task waits and no attempt to apply it has begun.
    pub(crate) fn is_untouched(&self, id: TaskId) -> bool {
        self.lock().get(&id).is_some_and(|waiting| !waiting.applying)
    }

    /// The tasks that somebody may wait for.
    pub(crate) fn ids(&self) -> Vec<TaskId> {
        self.lock().keys().copied().collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    // A map is whole after every operation, so a poisoned lock is safe to use.
    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
