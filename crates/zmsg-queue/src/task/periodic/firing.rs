//! One moment of one entry, and the task that it makes.

use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, Result, TaskId, UnixMillis};

use crate::task::record::{FAR, NewTask, check_name};

/// The space of the ids that tasks of firings have.
const SPACE: Uuid = Uuid::from_u128(0x7a6d_7367_0000_5000_8000_6669_7269_6e67);

/// One firing of an entry of periodic tasks: its moment and its task.
///
/// An entry is known by its name and the queue of its tasks. The id of the task is made of the two and the
/// moment, so that the inbox knows a firing as it knows any task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    entry: String,
    moment: UnixMillis,
    task: NewTask,
}

impl Firing {
    /// How long before its moment, by the queue's clock, a firing is accepted, in milliseconds.
    pub const EARLY_MAX_MS: u64 = 1_000;
    /// For how long a queue remembers at least which firing of an entry was the last, in milliseconds: 400
    /// days, so that it knows those of entries that fire once a year.
    pub const KEPT_MS: u64 = 400 * 24 * 3_600_000;
    /// How many entries one queue remembers.
    pub const ENTRIES_MAX: u32 = 10_000;

    /// The firing of `entry` at `moment` with this task, which has its id from now on and is due at the moment
    /// or, if it says so, later.
    pub fn new(entry: impl Into<String>, moment: UnixMillis, task: NewTask) -> Self {
        let entry = entry.into();
        let (id, due) = (Self::id_of(&task.queue, &entry, moment), task.due.max(moment));
        Self { entry, moment, task: NewTask { id, due, ..task } }
    }

    /// The id of the task of this firing: the same on every node and at every time.
    pub fn id_of(queue: &str, entry: &str, moment: UnixMillis) -> TaskId {
        // No name holds NUL.
        TaskId(Uuid::new_v5(&SPACE, format!("{queue}\0{entry}\0{moment}").as_bytes()))
    }

    /// The name of its entry; 1 to 255 bytes without NUL.
    pub fn entry(&self) -> &str {
        &self.entry
    }

    /// The queue of its task.
    pub fn queue(&self) -> &str {
        &self.task.queue
    }

    /// When it fires.
    pub fn moment(&self) -> UnixMillis {
        self.moment
    }

    /// Its task.
    pub fn task(&self) -> &NewTask {
        &self.task
    }

    pub(in crate::task) fn into_task(self) -> NewTask {
        self.task
    }

    /// Refuses what no backend could keep.
    pub(in crate::task) fn check(&self) -> Result<()> {
        check_name("entry", &self.entry)?;
        if self.moment > FAR.cast_unsigned() {
            let error = Error::invalid_input("the moment of a firing is beyond what a queue keeps");
            return Err(error.with_context("moment", self.moment));
        }
        self.task.check()
    }

    /// It is for a later time, by the clock that decides.
    pub(in crate::task) fn early(moment: UnixMillis) -> Error {
        let why = "the moment of the firing has not come by the clock of the queue: set that of this node right";
        Error::new(ErrorKind::Conflict, why).temporary().with_context("moment", moment)
    }

    /// Nothing is known of this entry, and of too many others.
    pub(in crate::task) fn too_many() -> Error {
        Error::overloaded("periodic_entries_max").with_context("max", Self::ENTRIES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(queue: &str) -> NewTask {
        NewTask::new(TaskId::generate(), "report", "").queue(queue)
    }

    #[test]
    fn the_id_is_made_of_the_queue_the_entry_and_the_moment() {
        let firing = |queue, entry, moment| Firing::new(entry, moment, task(queue)).task.id;
        assert_eq!(firing("a", "b", 1), firing("a", "b", 1));
        let different = [("a", "b", 1), ("a", "b", 2), ("a", "c", 1), ("b", "b", 1), ("ab", "", 1)];
        let mut ids = different.map(|(queue, entry, moment)| firing(queue, entry, moment));
        ids.sort_unstable();
        assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
        // Kept as it is: two versions of a program may run the same schedule.
        let id = Firing::id_of("default", "nightly", 1_700_000_000_000);
        assert_eq!(id.0.to_string(), "634fb936-6db8-51b5-b07c-91d98d2e4ac8");
    }

    #[test]
    fn its_task_is_due_at_the_moment_or_later() {
        assert_eq!(Firing::new("a", 50, task("q")).task.due, 50);
        assert_eq!(Firing::new("a", 50, task("q").due(70)).task.due, 70);
    }
}
