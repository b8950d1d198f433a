//! Which task of each lane is its first.

use std::collections::{BTreeMap, HashMap};

use zmsg_core::TaskId;

/// The lanes of all queues. A lane is here while a task has a place in it.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    of: HashMap<LaneName, BTreeMap<i64, TaskId>>,
    last: i64,
}

/// A queue and the key of a lane in it.
pub(super) type LaneName = (String, String);

impl Lanes {
    /// Gives a task the last place of a lane.
    pub(super) fn join(&mut self, lane: LaneName, id: TaskId) -> i64 {
        self.last += 1;
        self.of.entry(lane).or_default().insert(self.last, id);
        self.last
    }

    /// Takes a task out of a lane; the one that is the first now, if that is another.
    pub(super) fn leave(&mut self, lane: &LaneName, number: i64) -> Option<TaskId> {
        let tasks = self.of.get_mut(lane)?;
        let was_first = tasks.first_key_value().is_some_and(|(first, _)| *first == number);
        tasks.remove(&number);
        let next = tasks.first_key_value().map(|(_, id)| *id);
        // Keys of lanes come from callers: an empty one must not stay.
        if next.is_none() {
            self.of.remove(lane);
        }
        next.filter(|_| was_first)
    }

    pub(super) fn is_first(&self, lane: &LaneName, number: i64) -> bool {
        let first = self.of.get(lane).and_then(BTreeMap::first_key_value);
        first.is_none_or(|(first, _)| *first == number)
    }
}
