//! Receipts of delayed writes that have not taken effect yet.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zmsg_core::{Key, Level, Result, Settlement, Settler, TaskId, UnixMillis};

/// The settlers of delayed writes, by task. Bounded by the queue's own bound: a task that the
/// queue refuses is taken out again.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<HashMap<TaskId, Waiting>>);

#[derive(Debug)]
struct Waiting {
    settler: Settler,
    /// The key whose value was shown on accept.
    key: Key,
    /// When the queue has it: its due time.
    due: Option<UnixMillis>,
    /// An attempt to apply it has begun, so its value may be in the table already.
    applying: bool,
}

impl Pending {
    /// Registers a task before it is enqueued, so that no worker can be faster than its receipt.
    pub(crate) fn register(&self, id: TaskId, key: &Key, level: Level) -> Settlement {
        let settler = Settlement::pending(level);
        let settlement = settler.settlement();
        let waiting = Waiting { settler, key: key.clone(), due: None, applying: false };
        self.lock().insert(id, waiting);
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

    /// The key whose value was shown when the task was accepted.
    pub(crate) fn key(&self, id: TaskId) -> Option<Key> {
        self.lock().get(&id).map(|waiting| waiting.key.clone())
    }

    /// Notes that the queue has the task.
    pub(crate) fn enqueued(&self, id: TaskId, due: UnixMillis) {
        if let Some(waiting) = self.lock().get_mut(&id) {
            waiting.due = Some(due);
        }
    }

    /// At most `limit` tasks that the queue had and that were due before `before`, in the order
    /// of their ids, from the one after `after`.
    pub(crate) fn overdue(
        &self,
        before: UnixMillis,
        after: Option<TaskId>,
        limit: usize,
    ) -> Vec<TaskId> {
        let waiting = self.lock();
        let overdue =
            waiting.iter().filter(|(_, waiting)| waiting.due.is_some_and(|due| due < before));
        let mut ids: Vec<TaskId> =
            overdue.map(|(id, _)| *id).filter(|id| Some(*id) > after).collect();
        ids.sort_unstable();
        ids.truncate(limit);
        ids
    }

    /// Tells all who wait that the engine stopped first.
    pub(crate) fn abandon(&self) {
        let abandoned = std::mem::take(&mut *self.lock());
        drop(abandoned);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new("feed_1").unwrap()
    }

    #[test]
    fn a_task_that_the_queue_does_not_have_yet_is_never_overdue() {
        let pending = Pending::default();
        let (slow, queued) = (TaskId::generate(), TaskId::generate());
        let _settlements = [slow, queued].map(|id| pending.register(id, &key(), Level::Database));
        pending.enqueued(queued, 1_000);
        assert_eq!(pending.overdue(5_000, None, 10), [queued], "its enqueue is still under way");
        assert!(pending.overdue(1_000, None, 10).is_empty(), "due is not overdue");
        assert!(pending.overdue(5_000, Some(queued), 10).is_empty());
    }

    #[test]
    fn overdue_tasks_come_round_in_pages() {
        let pending = Pending::default();
        let ids: Vec<TaskId> = (0..5).map(|_| TaskId::generate()).collect();
        let _settlements: Vec<_> =
            ids.iter().map(|id| pending.register(*id, &key(), Level::Database)).collect();
        ids.iter().for_each(|id| pending.enqueued(*id, 0));
        let first = pending.overdue(1, None, 3);
        let second = pending.overdue(1, first.last().copied(), 3);
        let mut all = [first, second].concat();
        all.sort_unstable();
        let mut expected = ids;
        expected.sort_unstable();
        assert_eq!(all, expected);
    }
}
