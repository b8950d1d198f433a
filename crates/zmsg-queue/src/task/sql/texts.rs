//! The statements of the queue: their texts, which differ by dialect, and their binds, which do
//! not.

use zmsg_core::{Statement, TaskId, UnixMillis, Value};

use crate::task::record::{LeasedTask, NewTask};

/// The texts of one dialect. The binds of each are in the method of its name.
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) insert: &'static str,
    pub(super) check_live: &'static str,
    pub(super) lease: &'static str,
    pub(super) extend: &'static str,
    pub(super) complete: &'static str,
    pub(super) retry: &'static str,
    pub(super) bury: &'static str,
    pub(super) trim_dead: &'static str,
    pub(super) next_due: &'static str,
    pub(super) dead_letters: &'static str,
    pub(super) dead_letters_of: &'static str,
    pub(super) retry_dead: &'static str,
    pub(super) drop_dead: &'static str,
    pub(super) state: &'static str,
    pub(super) stats: &'static str,
}

impl Texts {
    /// Adds a task unless its id is there; changes one row or none.
    pub(super) fn insert(&self, task: NewTask, now: UnixMillis) -> Statement {
        let NewTask { id, queue, kind, payload, due, attempts_max } = task;
        let task = [uuid(id), queue.into(), kind.into(), payload.into(), millis(due)];
        let binds = task.into_iter().chain([attempts_max.into(), millis(now)]).collect();
        Statement::new(self.insert, binds)
    }

    /// Changes one row if at most `tasks_max` tasks are live, else none.
    pub(super) fn check_live(&self, tasks_max: u32) -> Statement {
        Statement::new(self.check_live, vec![tasks_max.into()])
    }

    /// Leases and returns what [`rows::leased`](super::rows::leased) reads.
    pub(super) fn lease(
        &self,
        queue: &str,
        max: usize,
        now: UnixMillis,
        until: UnixMillis,
    ) -> Statement {
        let max = count(max);
        let pending = [queue.into(), millis(now), max.clone()];
        let expired = [queue.into(), millis(now), max.clone()];
        let binds = [millis(until)].into_iter().chain(pending).chain(expired).chain([max]);
        Statement::query(self.lease, binds.collect())
    }

    pub(super) fn extend(&self, task: &LeasedTask, until: UnixMillis) -> Statement {
        self.fenced(self.extend, task, vec![millis(until)])
    }

    pub(super) fn complete(&self, task: &LeasedTask) -> Statement {
        self.fenced(self.complete, task, vec![])
    }

    pub(super) fn retry(
        &self,
        task: &LeasedTask,
        due: UnixMillis,
        cause: String,
        counts: bool,
    ) -> Statement {
        let spared = Value::Int(i64::from(!counts));
        self.fenced(self.retry, task, vec![millis(due), cause.into(), spared])
    }

    pub(super) fn bury(&self, task: &LeasedTask, cause: String, now: UnixMillis) -> Statement {
        self.fenced(self.bury, task, vec![cause.into(), millis(now)])
    }

    /// Drops the dead letters with the lowest ids until `dead_max` are left; returns the ids.
    pub(super) fn trim_dead(&self, dead_max: u32) -> Statement {
        Statement::query(self.trim_dead, vec![dead_max.into()])
    }

    pub(super) fn next_due(&self, queue: &str) -> Statement {
        Statement::query(self.next_due, vec![queue.into(), queue.into()])
    }

    pub(super) fn dead_letters(
        &self,
        queue: Option<&str>,
        after: Option<TaskId>,
        limit: usize,
    ) -> Statement {
        // No task has the nil id, so all ids are above it.
        let after = Value::Uuid(after.map_or(uuid::Uuid::nil(), |id| id.0));
        match queue {
            None => Statement::query(self.dead_letters, vec![after, count(limit)]),
            Some(queue) => {
                Statement::query(self.dead_letters_of, vec![after, queue.into(), count(limit)])
            }
        }
    }

    pub(super) fn retry_dead(&self, id: TaskId, now: UnixMillis) -> Statement {
        Statement::new(self.retry_dead, vec![millis(now), uuid(id)])
    }

    pub(super) fn drop_dead(&self, id: TaskId) -> Statement {
        Statement::new(self.drop_dead, vec![uuid(id)])
    }

    pub(super) fn state(&self, id: TaskId) -> Statement {
        Statement::query(self.state, vec![uuid(id)])
    }

    pub(super) fn stats(&self, queue: &str, now: UnixMillis) -> Statement {
        let (queue, now) = (Value::from(queue), millis(now));
        let of_now = [queue.clone(), now];
        let of_queue = [queue.clone(), queue.clone(), queue.clone(), queue.clone(), queue];
        let binds = of_now.clone().into_iter().chain(of_now).chain(of_queue);
        Statement::query(self.stats, binds.collect())
    }

    /// A change that happens only while `task` is leased under its attempt.
    fn fenced(&self, text: &'static str, task: &LeasedTask, mut binds: Vec<Value>) -> Statement {
        binds.extend([uuid(task.id), task.attempt.into()]);
        Statement::new(text, binds)
    }
}

fn uuid(id: TaskId) -> Value {
    Value::Uuid(id.0)
}

/// A moment as the database keeps it; beyond its range (292 million years) it means "never".
fn millis(moment: UnixMillis) -> Value {
    Value::Int(i64::try_from(moment).unwrap_or(i64::MAX))
}

fn count(count: usize) -> Value {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}
