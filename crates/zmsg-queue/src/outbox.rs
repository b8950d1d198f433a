//! The statement that enqueues a task, to be run in a transaction of the user's own.
//!
//! A write and the task that follows from it are then one commit, whatever library makes it: both
//! are there or neither.
//!
//! - The task is as durable as that commit, and workers see it only after it.
//! - The id is made before the transaction and used again when the transaction is run again:
//!   one row, the id, comes back if the task was accepted, and none if the queue had a task of
//!   this id (waiting, leased or dead). A task that was completed is forgotten, and its id would
//!   be accepted once more; the inbox then keeps its effect from happening twice.
//! - Workers that wait, and whose [`WakeUps`](crate::WakeUps) run, hear of it with the commit. On
//!   PostgreSQL transactions that notify commit one after the other, so that many at a time come
//!   to a tenth of what they reach without (400 instead of 4,700 a second, where a commit takes
//!   2 ms): [`enqueue_quietly`] is for those, and the task is found by the next poll. On SQLite
//!   it always is.
//! - `tasks_max` counts these tasks and does not refuse them: whether a transaction of the user's
//!   may commit is the user's decision.
//!
//! ```
//! use zmsg_core::{Clock, SystemClock, TaskId};
//! use zmsg_queue::{NewTask, outbox};
//! use zmsg_sqlbuilder::Dialect;
//!
//! let clock = SystemClock;
//! let task = NewTask::new(TaskId::generate(), "mail", "payload").due(clock.wall() + 2_000);
//! let enqueue = outbox::enqueue(&task, &clock, Dialect::Postgres)?;
//! let (text, binds) = outbox::render(&enqueue, Dialect::Postgres)?;
//! assert!(text.contains("VALUES ($1::uuid, $2::text, $3::text, $4::bytea,"));
//! assert_eq!(binds.len(), 6);
//! // client.query(&text, &[&uuid, &queue, &kind, &payload, &delay_ms, &attempts_max])
//! # Ok::<(), zmsg_core::Error>(())
//! ```
//!
//! On SQLite the statement needs version 3.42 or later, by which zmsg's own is.
//!
//! The binds are, in this order: the id (`uuid`; 16 bytes on SQLite), the queue, the kind (`text`),
//! the payload (`bytea`), the milliseconds until it is due and the attempts it has (`bigint`).
//!
//! A task with a time-out, a deadline or a lane has another statement, with four more binds, of which
//! those that it does not need are NULL: the milliseconds that an attempt may take and those until the
//! deadline (`bigint`), the lane (`text`) and whether a dead letter is skipped (`boolean`).
//!
//! Tasks of a lane are in the order of their commits. On PostgreSQL the statement therefore holds the lane
//! until the commit, and others that enqueue in it wait: let it be the last of its transaction, and take
//! several lanes in one order everywhere. It fails (22P02) in a transaction at `REPEATABLE READ` or
//! `SERIALIZABLE`: that would not see who came before, and two tasks of the lane would run at a time.

use std::time::Duration;

use zmsg_core::{Clock, Result, Statement, Value};
use zmsg_sqlbuilder::Dialect;

use crate::task::FAR;
use crate::{Lane, NewTask, OnDead};

/// The statement that enqueues `task`, in portable form. Its due time travels as a pause from now
/// by `clock`, and the pause begins with the statement.
///
/// # Errors
/// `InvalidInput` for a task that no queue would take; `Unsupported` for one that only a queue in Redis
/// would.
pub fn enqueue(task: &NewTask, clock: &dyn Clock, dialect: Dialect) -> Result<Statement> {
    let texts = match dialect {
        Dialect::Postgres => [TOLD_POSTGRES, MORE_TOLD_POSTGRES],
        Dialect::Sqlite => [SQLITE, MORE_SQLITE],
    };
    statement(texts, task, clock)
}

/// As [`enqueue`], without waking workers that wait: the task is found by their next poll.
///
/// # Errors
/// As for [`enqueue`].
pub fn enqueue_quietly(task: &NewTask, clock: &dyn Clock, dialect: Dialect) -> Result<Statement> {
    let texts = match dialect {
        Dialect::Postgres => [QUIET_POSTGRES, MORE_QUIET_POSTGRES],
        Dialect::Sqlite => [SQLITE, MORE_SQLITE],
    };
    statement(texts, task, clock)
}

/// The text as the database's own drivers want it (`$1` on PostgreSQL), and the binds.
///
/// # Errors
/// `InvalidInput` if the placeholders and the binds of a statement differ in number.
pub fn render(statement: &Statement, dialect: Dialect) -> Result<(String, Vec<Value>)> {
    let text = zmsg_sqlbuilder::render(&statement.text, statement.binds.len(), dialect)?;
    Ok((text.to_string(), statement.binds.clone()))
}

/// The first text is for a task that says no more of itself than tasks always could: it does not change.
fn statement(
    [plain, more]: [&'static str; 2],
    task: &NewTask,
    clock: &dyn Clock,
) -> Result<Statement> {
    task.check_for("outbox")?;
    let NewTask { id, queue, kind, payload, due, attempts_max, timeout, deadline, lane, .. } =
        task.clone();
    let pause = |moment| Value::Int(crate::task::pause_until(moment, clock.wall()));
    let mut binds = vec![Value::Uuid(id.0), queue.into(), kind.into(), payload.into()];
    binds.extend([pause(due), attempts_max.into()]);
    if timeout.is_none() && deadline.is_none() && lane.is_none() {
        return Ok(Statement::query(plain, binds));
    }
    let (lane, skips) = match lane {
        None => (Value::Null, Value::Null),
        Some(Lane { key, on_dead }) => (key.into(), Value::Bool(on_dead == OnDead::Skip)),
    };
    let (timeout, deadline) = (timeout.map(millis), deadline.map(pause));
    binds.extend([timeout.unwrap_or(Value::Null), deadline.unwrap_or(Value::Null), lane, skips]);
    Ok(Statement::query(more, binds))
}

fn millis(pause: Duration) -> Value {
    Value::Int(i64::try_from(pause.as_millis()).unwrap_or(FAR).min(FAR))
}

macro_rules! insert_postgres {
    () => {
        "\
INSERT INTO zmsg_tasks
  (id, queue, kind, payload, state, due_ms, attempt, attempts_max, attempts_spared,
   lease_until_ms, created_ms)
SELECT task.id, task.queue, task.kind, task.payload, 'pending',
  greatest(0, task.now + task.delay), 0, task.attempts_max, 0, 0, task.now
FROM (
  VALUES (?::uuid, ?::text, ?::text, ?::bytea, ?::bigint, ?::bigint,
    floor(extract(epoch FROM statement_timestamp()) * 1000)::bigint)
) AS task (id, queue, kind, payload, delay, attempts_max, now)
ON CONFLICT (id) DO NOTHING
RETURNING id"
    };
}

const QUIET_POSTGRES: &str = insert_postgres!();

const TOLD_POSTGRES: &str = concat!(
    "WITH added AS (\n",
    insert_postgres!(),
    ")\nSELECT id FROM added WHERE pg_notify('zmsg_tasks', '') IS NOT NULL"
);

// Triggers put it in its lane, and on PostgreSQL hold that until the commit. They look for those before it
// as far as the transaction sees. The error text is not a constant, or it would be read when the statement
// is planned.
macro_rules! insert_more_postgres {
    () => {
        "\
INSERT INTO zmsg_tasks
  (id, queue, kind, payload, state, due_ms, attempt, attempts_max, attempts_spared,
   lease_until_ms, created_ms, timeout_ms, deadline_ms, lane, lane_skips)
SELECT task.id, task.queue, task.kind, task.payload, 'pending',
  greatest(0, task.now + task.delay), 0, task.attempts_max, 0,
  CASE WHEN task.lane IS NOT NULL
      AND current_setting('transaction_isolation') IN ('repeatable read', 'serializable')
    THEN ('a task in a lane needs READ COMMITTED, not ' || current_setting('transaction_isolation'))::bigint
    ELSE 0 END,
  task.now, task.timeout_ms, task.now + task.deadline, task.lane, task.lane_skips
FROM (
  VALUES (?::uuid, ?::text, ?::text, ?::bytea, ?::bigint, ?::bigint, ?::bigint, ?::bigint,
    ?::text, ?::boolean, floor(extract(epoch FROM statement_timestamp()) * 1000)::bigint)
) AS task (id, queue, kind, payload, delay, attempts_max, timeout_ms, deadline, lane, lane_skips, now)
ON CONFLICT (id) DO NOTHING
RETURNING id"
    };
}

const MORE_QUIET_POSTGRES: &str = insert_more_postgres!();

const MORE_TOLD_POSTGRES: &str = concat!(
    "WITH added AS (\n",
    insert_more_postgres!(),
    ")\nSELECT id FROM added WHERE pg_notify('zmsg_tasks', '') IS NOT NULL"
);

const SQLITE: &str = "\
INSERT INTO zmsg_tasks
  (id, queue, kind, payload, state, due_ms, attempt, attempts_max, attempts_spared,
   lease_until_ms, created_ms)
SELECT id, queue, kind, payload, 'pending', max(0, now + delay), 0, attempts_max, 0, 0, now
FROM (
  SELECT ? AS id, ? AS queue, ? AS kind, ? AS payload, ? AS delay, ? AS attempts_max,
    CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now)
WHERE true
ON CONFLICT (id) DO NOTHING
RETURNING id";

const MORE_SQLITE: &str = "\
INSERT INTO zmsg_tasks
  (id, queue, kind, payload, state, due_ms, attempt, attempts_max, attempts_spared,
   lease_until_ms, created_ms, timeout_ms, deadline_ms, lane, lane_skips)
SELECT id, queue, kind, payload, 'pending', max(0, now + delay), 0, attempts_max, 0, 0, now,
  timeout_ms, now + deadline, lane, lane_skips
FROM (
  SELECT ? AS id, ? AS queue, ? AS kind, ? AS payload, ? AS delay, ? AS attempts_max,
    ? AS timeout_ms, ? AS deadline, ? AS lane, ? AS lane_skips,
    CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now)
WHERE true
ON CONFLICT (id) DO NOTHING
RETURNING id";
