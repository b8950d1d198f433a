//! A delayed write as a statement for a transaction of the caller's own.

use std::sync::Arc;

use zmsg_core::{Clock, Error, ErrorKind, Level, Result, TaskId, UnixMillis, Value};
use zmsg_queue::{NewTask, OnDead};
use zmsg_sqlbuilder::Dialect;

use super::{Delayed, Writer, refuse_returning};
use crate::assemble::NamedQueue;

/// A delayed write as a statement, to be run in a transaction of your own: the write happens if
/// that commits, and only then. It is as durable as that commit.
///
/// Run it through any driver: the text has the database's own placeholders (`$1` on PostgreSQL, `?`
/// on SQLite), and the binds are, in this order, the task's id (`uuid`; 16 bytes on SQLite), its
/// queue and kind (`text`), its payload (`bytea`), the milliseconds until it is due, and the
/// attempts it has (`bigint`). One row comes back. Nothing is shown in the caches before the write
/// is applied.
///
/// With a [lane](Self::ordered_by) four more follow: two that are NULL (`bigint`), the lane (`text`), and
/// whether it goes on behind a dead letter (`boolean`).
#[derive(Debug, Clone)]
pub struct Outbox {
    /// The task's id. Keep it when the transaction is run again, and the write happens once.
    pub id: TaskId,
    /// The statement.
    pub text: String,
    /// Its values.
    pub binds: Vec<Value>,
    draft: Draft,
}

/// What the statement is made of.
#[derive(Debug, Clone)]
struct Draft {
    task: NewTask,
    /// When it was made: the task is due so much later, and counts from when the statement runs.
    made: UnixMillis,
    dialect: Dialect,
    quietly: bool,
    clock: Arc<dyn Clock>,
}

impl Outbox {
    /// Puts the write at the end of a lane, as [`Write::ordered_by`](crate::Write::ordered_by) does: writes of
    /// one lane are applied in the order of the commits.
    ///
    /// On PostgreSQL the statement holds the lane until the commit: whoever enqueues in it waits, so let it
    /// be the last of its transaction. Several lanes in one transaction are best taken in one order, the same
    /// everywhere. It fails in a transaction that is not at `READ COMMITTED`, which would not see who came
    /// before.
    ///
    /// # Errors
    /// `InvalidInput` for a key that has not 1 to 255 bytes, or a NUL.
    pub fn ordered_by(mut self, key: impl Into<String>) -> Result<Self> {
        self.draft.task = self.draft.task.ordered_by(key);
        self.draft.render(self.id)
    }

    /// What becomes of its lane when the write is a dead letter.
    ///
    /// # Errors
    /// `InvalidInput` without [`ordered_by`](Self::ordered_by).
    pub fn on_dead(mut self, on_dead: OnDead) -> Result<Self> {
        if self.draft.task.lane.is_none() {
            return Err(no_lane());
        }
        self.draft.task = self.draft.task.on_dead(on_dead);
        self.draft.render(self.id)
    }
}

/// Nothing is told of a lane that is none.
pub(super) fn no_lane() -> Error {
    let why = "a write without a lane holds up no other: name its lane with ordered_by first";
    Error::invalid_input(why).with_context("field", "on_dead")
}

impl Draft {
    fn render(self, id: TaskId) -> Result<Outbox> {
        let enqueue = match self.quietly {
            true => zmsg_queue::outbox::enqueue_quietly,
            false => zmsg_queue::outbox::enqueue,
        };
        // As long a pause as when it was asked for.
        let passed = self.clock.wall().saturating_sub(self.made);
        let task = self.task.clone().due(self.task.due.saturating_add(passed));
        let statement = enqueue(&task, &*self.clock, self.dialect)?;
        let (text, binds) = zmsg_queue::outbox::render(&statement, self.dialect)?;
        Ok(Outbox { id, text, binds, draft: self })
    }
}

impl Writer {
    /// The statement that enqueues the write, for a transaction of the caller's own.
    ///
    /// # Errors
    /// `Unsupported` if no task of this engine is in the database.
    pub(crate) fn outbox(&self, write: Delayed) -> Result<Outbox> {
        let queue = self.queue_in_database()?;
        refuse_returning(&write.task)?;
        let (id, made) = (TaskId::generate(), self.clock.wall());
        let keys = self.keys_of(Some(write.key.clone()), &write.task)?;
        let steps = self.applier.steps(&write.task)?;
        let task = self.queued(queue, id, &write, &keys, &steps)?;
        let draft = Draft {
            task,
            made,
            dialect: self.applier.dialect(),
            // Transactions that notify commit one after the other; where Redis wakes, none has to.
            quietly: self.wake.is_some(),
            clock: Arc::clone(&self.clock),
        };
        draft.render(id)
    }

    fn queue_in_database(&self) -> Result<&NamedQueue> {
        let in_database = |named: &&NamedQueue| named.queue.level() == Level::Database;
        self.queues().find(in_database).ok_or_else(|| {
            let message = "an outbox needs a task queue in the database: queue.backend = sql";
            Error::new(ErrorKind::Unsupported, message)
        })
    }
}
