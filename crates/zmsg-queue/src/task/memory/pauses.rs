//! Queues of a memory table that rest.

use super::table::Table;

impl Table {
    /// `false`: it rests already.
    pub(super) fn pause(&mut self, queue: &str) -> bool {
        self.paused.insert(queue.to_owned())
    }

    /// `false`: it did not rest.
    pub(super) fn resume(&mut self, queue: &str) -> bool {
        self.paused.remove(queue)
    }

    pub(super) fn is_paused(&self, queue: &str) -> bool {
        self.paused.contains(queue)
    }
}
