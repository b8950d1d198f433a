//! The statements of the queue: their texts, which differ by dialect, and their binds, which do
//! not.

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;
use zmsg_core::{Statement, TaskId, UnixMillis, Value};

use crate::task::lane::{Lane, OnDead};
use crate::task::record::{FAR, LeasedTask, NewTask, pause_until};

/// The texts of one dialect. The binds of each are in the method of its name.
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) insert: &'static str,
    /// One statement for many tasks, where there are arrays.
    pub(super) insert_all: Option<&'static str>,
    /// Where transactions overlap: holds lanes until the commit.
    pub(super) lock_lanes: Option<&'static str>,
    pub(super) check_live: &'static str,
    /// Where no trigger counts.
    pub(super) count_live: Option<&'static str>,
    pub(super) lease: &'static str,
    pub(super) lease_again: &'static str,
    pub(super) end_leases: &'static str,
    pub(super) set_aside: &'static str,
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

/// The moment of a call: by the wall clock of this process, and for the statement, where NULL
/// stands for the clock of the database.
#[derive(Debug, Clone)]
pub(super) struct Now {
    pub(super) wall: UnixMillis,
    pub(super) bind: Value,
}

impl Now {
    /// How far off a moment is: what travels, because clocks differ and pauses do not.
    pub(super) fn until(&self, moment: UnixMillis) -> Value {
        Value::Int(pause_until(moment, self.wall))
    }
}

impl Texts {
    /// Adds a task unless its id is there; changes one row or none.
    pub(super) fn insert(&self, task: NewTask, now: &Now) -> Statement {
        let binds = nows(now).into_iter().chain(columns(task, now));
        Statement::new(self.insert, binds.collect())
    }

    /// Adds those tasks whose ids are not there and returns their ids.
    pub(super) fn insert_all(text: &'static str, tasks: Vec<NewTask>, now: &Now) -> Statement {
        let mut arrays: [Vec<Value>; 10] = Default::default();
        for task in tasks {
            arrays.iter_mut().zip(columns(task, now)).for_each(|(array, value)| array.push(value));
        }
        let binds = nows(now).into_iter().chain(arrays.map(Value::from));
        Statement::query(text, binds.collect())
    }

    /// Holds the lanes of these tasks until the commit, in one order: a trigger would take them in that of
    /// the tasks, and two calls wait for each other.
    pub(super) fn lock_lanes(&self, tasks: &[NewTask]) -> Option<Statement> {
        let lane = |task: &NewTask| {
            task.lane.as_ref().map(|lane| format!("{}\u{1f}{}", task.queue, lane.key))
        };
        let lanes: BTreeSet<String> = tasks.iter().filter_map(lane).collect();
        let text = self.lock_lanes.filter(|_| lanes.len() > 1)?;
        let names: Vec<Value> = lanes.into_iter().map(Value::from).collect();
        Some(Statement::query(text, vec![names.into()]))
    }

    /// Gives one row if at most `tasks_max` tasks are live, else none.
    pub(super) fn check_live(&self, tasks_max: u32) -> Statement {
        let binds = match self.count_live {
            None => vec![tasks_max.into()],
            Some(_) => vec![tasks_max.into(), one_more(tasks_max)],
        };
        Statement::query(self.check_live, binds)
    }

    /// Counts the live tasks, up to one more than `tasks_max`.
    pub(super) fn count_live(text: &'static str, tasks_max: u32) -> Statement {
        Statement::query(text, vec![one_more(tasks_max)])
    }

    /// Leases and returns what [`rows::leased`](super::rows::leased) reads.
    pub(super) fn lease(
        &self,
        queue: &str,
        max: usize,
        now: &Now,
        for_: Duration,
        token: Uuid,
    ) -> Statement {
        let (now, max) = (&now.bind, count(max));
        let of_queue = || [queue.into(), now.clone(), max.clone()];
        let update = [now.clone(), pause(for_), Value::Uuid(token), max.clone()];
        let binds = [queue.into()].into_iter().chain(of_queue()).chain(of_queue()).chain(update);
        Statement::query(self.lease, binds.collect())
    }

    /// Takes over what a call with the token `lost` has leased, and returns what `lease` does. It
    /// is the same attempt, for nobody has seen it.
    pub(super) fn lease_again(
        &self,
        queue: &str,
        max: usize,
        now: &Now,
        for_: Duration,
        lost: Uuid,
        token: Uuid,
    ) -> Statement {
        let lost = Value::Uuid(lost);
        let found = [queue.into(), lost.clone(), count(max), lost, queue.into()];
        let update = [now.bind.clone(), pause(for_), Value::Uuid(token)];
        Statement::query(self.lease_again, update.into_iter().chain(found).collect())
    }

    /// Makes a leased row a dead letter whose id is `new_id`.
    pub(super) fn set_aside(
        &self,
        id: Value,
        new_id: TaskId,
        cause: String,
        now: &Now,
    ) -> Statement {
        Statement::new(self.set_aside, vec![uuid(new_id), cause.into(), now.bind.clone(), id])
    }

    pub(super) fn extend(&self, task: &LeasedTask, now: &Now, for_: Duration) -> Statement {
        self.fenced(self.extend, task, vec![now.bind.clone(), pause(for_)])
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
        now: &Now,
    ) -> Statement {
        let spared = Value::Int(i64::from(!counts));
        let binds = vec![now.bind.clone(), now.until(due), cause.into(), spared];
        self.fenced(self.retry, task, binds)
    }

    pub(super) fn bury(&self, task: &LeasedTask, cause: String, now: &Now) -> Statement {
        self.fenced(self.bury, task, vec![cause.into(), now.bind.clone()])
    }

    /// Drops the dead letters with the lowest ids until `dead_max` are left; returns the ids.
    pub(super) fn trim_dead(&self, dead_max: u32) -> Statement {
        Statement::query(self.trim_dead, vec![dead_max.into()])
    }

    /// The earliest moment, and the moment of the statement.
    pub(super) fn next_due(&self, queue: &str, now: &Now) -> Statement {
        Statement::query(
            self.next_due,
            vec![now.bind.clone(), queue.into(), queue.into(), queue.into()],
        )
    }

    pub(super) fn dead_letters(
        &self,
        queue: Option<&str>,
        after: Option<TaskId>,
        limit: usize,
    ) -> Statement {
        // No task has the nil id, so all ids are above it.
        let after = Value::Uuid(after.map_or(Uuid::nil(), |id| id.0));
        match queue {
            None => Statement::query(self.dead_letters, vec![after, count(limit)]),
            Some(queue) => {
                Statement::query(self.dead_letters_of, vec![after, queue.into(), count(limit)])
            }
        }
    }

    pub(super) fn retry_dead(&self, id: TaskId, now: &Now) -> Statement {
        Statement::new(self.retry_dead, vec![now.bind.clone(), uuid(id)])
    }

    pub(super) fn drop_dead(&self, id: TaskId) -> Statement {
        Statement::new(self.drop_dead, vec![uuid(id)])
    }

    pub(super) fn state(&self, id: TaskId) -> Statement {
        Statement::query(self.state, vec![uuid(id)])
    }

    pub(super) fn stats(&self, queue: &str, now: &Now) -> Statement {
        let of_now = || [queue.into(), now.bind.clone()];
        let binds = of_now().into_iter().chain(of_now()).chain([(); 5].map(|()| queue.into()));
        Statement::query(self.stats, binds.chain([now.bind.clone()]).collect())
    }

    /// A change that happens only while `task` is leased under its attempt.
    fn fenced(&self, text: &'static str, task: &LeasedTask, mut binds: Vec<Value>) -> Statement {
        binds.extend([uuid(task.id), task.attempt.into()]);
        Statement::new(text, binds)
    }
}

/// What stands for the moment when a task is due, for that when it is accepted, and for its deadline.
fn nows(now: &Now) -> [Value; 3] {
    [(); 3].map(|()| now.bind.clone())
}

/// A task as the statements that add it take it.
fn columns(task: NewTask, now: &Now) -> [Value; 10] {
    let (delay, deadline) = (now.until(task.due), task.deadline.map(|moment| now.until(moment)));
    let NewTask { id, queue, kind, payload, attempts_max, timeout, lane, .. } = task;
    let (lane, skips) = match lane {
        None => (Value::Null, Value::Null),
        Some(Lane { key, on_dead }) => (key.into(), Value::Bool(on_dead == OnDead::Skip)),
    };
    let (timeout, deadline) = (timeout.map_or(Value::Null, pause), deadline.unwrap_or(Value::Null));
    [
        uuid(id),
        queue.into(),
        kind.into(),
        payload.into(),
        delay,
        attempts_max.into(),
        timeout,
        deadline,
        lane,
        skips,
    ]
}

fn uuid(id: TaskId) -> Value {
    Value::Uuid(id.0)
}

/// A duration in whole milliseconds.
fn pause(pause: Duration) -> Value {
    Value::Int(i64::try_from(pause.as_millis()).unwrap_or(FAR).min(FAR))
}

fn one_more(max: u32) -> Value {
    Value::Int(i64::from(max) + 1)
}

fn count(count: usize) -> Value {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}
