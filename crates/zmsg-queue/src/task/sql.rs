//! A task queue in a table of the database.

mod rows;
mod sqlite; // the texts, a file per dialect
mod texts;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use zmsg_core::{Clock, Error, ErrorKind, Level, Result, Row, Statement, TaskId, UnixMillis};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::{Expect, SqlStore, Step, StepError};

use self::texts::Texts;
use super::changes::Changes;
use super::queue::TaskQueue;
use super::record::{
    DeadTask, Enqueued, LeasedTask, NewTask, QueueStats, TaskState, cause_text, lease_end,
};

/// A task queue in the table `zmsg_tasks`, as durable as the database is configured.
///
/// Each change is one transaction. Several processes may share the table: what one has leased,
/// the others are not given. `changed` speaks of this object only; others are found by polling.
///
/// The bounds need no counting: triggers keep the numbers of live and dead tasks in the one row
/// of `zmsg_task_counts`, and the last step of an enqueue's transaction rolls it back if the
/// number has gone over `tasks_max`. So the bound holds exactly, for all processes together.
#[derive(Debug)]
pub struct SqlTaskQueue {
    store: Arc<dyn SqlStore>,
    clock: Arc<dyn Clock>,
    options: SqlQueueOptions,
    texts: &'static Texts,
    changes: Changes,
    dead_dropped: AtomicU64,
    closed: AtomicBool,
}

/// The bounds of a [`SqlTaskQueue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlQueueOptions {
    /// Tasks that wait or are leased, over all queues; beyond it `Overloaded`.
    pub tasks_max: u32,
    /// Dead letters over all queues; beyond it the lowest ids are dropped.
    pub dead_max: u32,
}

impl Default for SqlQueueOptions {
    fn default() -> Self {
        Self { tasks_max: 1_000_000, dead_max: 100_000 }
    }
}

const FULL: &str = "the task queue is full";

impl SqlTaskQueue {
    /// A queue on the tables that zmsg's migrations made in `store`.
    ///
    /// # Errors
    /// `Unsupported` on a database for which this version has no queue: use the memory queue.
    pub fn new(
        store: Arc<dyn SqlStore>,
        clock: Arc<dyn Clock>,
        options: SqlQueueOptions,
    ) -> Result<Self> {
        let texts = match store.dialect() {
            Dialect::Sqlite => &sqlite::TEXTS,
            Dialect::Postgres => {
                let message = "the task queue cannot use this database";
                return Err(Error::new(ErrorKind::Unsupported, message)
                    .with_context("dialect", format!("{:?}", store.dialect())));
            }
        };
        let (changes, dead_dropped) = (Changes::default(), AtomicU64::new(0));
        let closed = AtomicBool::new(false);
        Ok(Self { store, clock, options, texts, changes, dead_dropped, closed })
    }

    fn open(&self) -> Result<&dyn SqlStore> {
        if self.closed.load(Relaxed) {
            return Err(Error::closed("task queue"));
        }
        Ok(&*self.store)
    }

    /// The last step of a transaction that adds live tasks.
    fn within_bounds(&self) -> Step {
        Step::must(self.texts.check_live(self.options.tasks_max), Expect::Exactly(1), FULL)
    }

    fn refusal(&self, failed: StepError) -> Error {
        if failed.error.kind() == ErrorKind::Conflict && failed.error.message() == FULL {
            return Error::overloaded("tasks_max").with_context("max", self.options.tasks_max);
        }
        failed.into()
    }

    /// Runs a change of one task; whether it took place.
    async fn change(&self, statement: Statement) -> Result<bool> {
        Ok(self.open()?.execute(&statement).await?.changed > 0)
    }

    async fn fetch_one(&self, query: Statement) -> Result<Option<Row>> {
        Ok(self.open()?.fetch(&query).await?.pop())
    }

    fn note_dropped(&self, dropped: &[Row]) -> Result<()> {
        for row in dropped {
            tracing::warn!(id = %rows::id(row, 0)?, "dropped a dead letter: too many");
        }
        self.dead_dropped.fetch_add(dropped.len() as u64, Relaxed);
        Ok(())
    }
}

#[async_trait]
impl TaskQueue for SqlTaskQueue {
    fn level(&self) -> Level {
        Level::Database
    }

    async fn enqueue(&self, task: NewTask) -> Result<Enqueued> {
        let answers = self.enqueue_all(vec![task]).await?;
        let accepted = answers.contains(&Enqueued::Accepted);
        Ok(if accepted { Enqueued::Accepted } else { Enqueued::Duplicate })
    }

    async fn enqueue_all(&self, tasks: Vec<NewTask>) -> Result<Vec<Enqueued>> {
        tasks.iter().try_for_each(NewTask::check)?;
        let store = self.open()?;
        let (now, expected) = (self.clock.wall(), tasks.len());
        let insert = |task| Step::any(self.texts.insert(task, now));
        let mut steps: Vec<Step> = tasks.into_iter().map(insert).collect();
        steps.push(self.within_bounds());
        let refused = |failed| self.refusal(failed).during("queue.enqueue");
        let outcomes = store.execute_all(steps).await.map_err(refused)?;
        let answer = |changed| if changed > 0 { Enqueued::Accepted } else { Enqueued::Duplicate };
        let answers: Vec<Enqueued> =
            outcomes.iter().take(expected).map(|outcome| answer(outcome.changed)).collect();
        if answers.contains(&Enqueued::Accepted) {
            self.changes.tell();
        }
        Ok(answers)
    }

    async fn lease(&self, queue: &str, max: usize, for_: Duration) -> Result<Vec<LeasedTask>> {
        let store = self.open()?;
        if max == 0 {
            return Ok(Vec::new());
        }
        let now = self.clock.wall();
        let lease = self.texts.lease(queue, max, now, lease_end(now, for_));
        let leased = store.execute(&lease).await.map_err(|error| error.during("queue.lease"))?;
        // RETURNING promises no order.
        let mut tasks = leased.rows.iter().map(rows::leased).collect::<Result<Vec<_>>>()?;
        tasks.sort_unstable_by_key(|(due, task)| (*due, task.id));
        Ok(tasks.into_iter().map(|(_, task)| task).collect())
    }

    async fn extend(&self, task: &LeasedTask, for_: Duration) -> Result<bool> {
        self.change(self.texts.extend(task, lease_end(self.clock.wall(), for_))).await
    }

    async fn complete(&self, task: &LeasedTask) -> Result<bool> {
        self.change(self.texts.complete(task)).await
    }

    async fn retry(
        &self,
        task: &LeasedTask,
        due: UnixMillis,
        cause: &Error,
        counts: bool,
    ) -> Result<bool> {
        let retry = self.texts.retry(task, due, cause_text(cause), counts);
        let given_back = self.change(retry).await?;
        if given_back {
            self.changes.tell();
        }
        Ok(given_back)
    }

    async fn bury(&self, task: &LeasedTask, cause: &Error) -> Result<bool> {
        let bury = self.texts.bury(task, cause_text(cause), self.clock.wall());
        let trim = self.texts.trim_dead(self.options.dead_max);
        let steps = vec![Step::any(bury), Step::any(trim)];
        let outcomes = self.open()?.execute_all(steps).await?;
        let [buried, trimmed] = outcomes.as_slice() else {
            return Err(Error::new(
                ErrorKind::Unexpected,
                "the store gave another number of answers",
            ));
        };
        self.note_dropped(&trimmed.rows)?;
        Ok(buried.changed > 0)
    }

    async fn next_due(&self, queue: &str) -> Result<Option<UnixMillis>> {
        match self.fetch_one(self.texts.next_due(queue)).await? {
            Some(row) => rows::maybe_millis(&row, 0),
            None => Ok(None),
        }
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        self.changes.next()
    }

    async fn dead_letters(
        &self,
        queue: Option<&str>,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<DeadTask>> {
        let found = self.open()?.fetch(&self.texts.dead_letters(queue, after, limit)).await?;
        found.iter().map(rows::dead).collect()
    }

    async fn retry_dead(&self, id: TaskId) -> Result<bool> {
        let back = Step::any(self.texts.retry_dead(id, self.clock.wall()));
        let steps = vec![back, self.within_bounds()];
        let refused = |failed| self.refusal(failed).during("queue.retry_dead");
        let outcomes = self.open()?.execute_all(steps).await.map_err(refused)?;
        let brought_back = outcomes.first().is_some_and(|outcome| outcome.changed > 0);
        if brought_back {
            self.changes.tell();
        }
        Ok(brought_back)
    }

    async fn drop_dead(&self, id: TaskId) -> Result<bool> {
        self.change(self.texts.drop_dead(id)).await
    }

    async fn state(&self, id: TaskId) -> Result<Option<TaskState>> {
        self.fetch_one(self.texts.state(id)).await?.as_ref().map(rows::state).transpose()
    }

    async fn stats(&self, queue: &str) -> Result<QueueStats> {
        let now = self.clock.wall();
        let row = self.fetch_one(self.texts.stats(queue, now)).await?;
        let stats = row.as_ref().map(|row| rows::stats(row, now)).transpose()?.unwrap_or_default();
        Ok(QueueStats { dead_dropped: self.dead_dropped.load(Relaxed), ..stats })
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Relaxed);
        self.changes.tell();
        Ok(())
    }
}
