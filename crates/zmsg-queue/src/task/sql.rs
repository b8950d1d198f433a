//! A task queue in a table of the database.

mod options;
mod intake;
mod room;
mod unanswered;
mod dead;
mod pauses;
mod firings;
mod inspect;
mod looks;
mod wakeups;
mod rows;
mod postgres;
mod sqlite; // the texts, a file per dialect
mod texts;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use uuid::Uuid;
use zmsg_core::{
    Clock, Error, ErrorKind, Level, Result, Row, Statement, TaskId, UnixMillis, Value,
};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::{Expect, SqlStore, Step, StepError};

pub use self::options::{QueueClock, SqlQueueOptions};
pub use self::wakeups::WakeUps;

use self::room::Room;
use self::rows::NextDue;
use self::texts::{Now, Texts};
use self::unanswered::{Asked, Unanswered};
use super::changes::Changes;
use super::periodic::Firing;
use super::queue::TaskQueue;
use super::record::{
    DeadTask, Enqueued, LeasedTask, NewTask, QueueStats, TaskState, cause_text, check_queue_name,
    lease_end,
};

/// A task queue in the table `zmsg_tasks`, as durable as the database is configured.
///
/// Each change is one transaction. Several processes may share the table: what one has leased,
/// the others are not given. `changed` speaks of this object only, unless somebody runs its
/// [`WakeUps`]; what others enqueued is then heard of at once, and else found by polling.
///
/// A `lease` whose answer was lost, or whose future was dropped, is remembered: the next call for
/// its queue takes over what it leased, without spending an attempt.
///
/// The bounds: on SQLite triggers keep the numbers of tasks, and the bounds hold exactly. On
/// PostgreSQL a counter would make every enqueue wait for the one before, so that the tasks are
/// counted now and then. One process alone keeps `tasks_max` up to a thousandth of it, and several
/// that fill the table at the same time may each add an eighth of the room they found; a bound
/// below 1024 is counted each time. Dead letters may exceed `dead_max` by a thousandth for each
/// process.
///
/// The clock: on SQLite that of the machine. On PostgreSQL, unless
/// [`QueueClock::Given`] says otherwise, the server's: due times are sent as pauses, leases end
/// and tasks fall due by the one clock that all nodes share, and a node whose clock is wrong
/// neither takes the tasks of others nor is early or late. The moments that the queue shows
/// (`lease_until`, `created`, `died`, the due time of a state) are by that clock too; `next_due`
/// is by the clock of the caller, who is to wait for it.
#[derive(Debug)]
pub struct SqlTaskQueue {
    store: Arc<dyn SqlStore>,
    clock: Arc<dyn Clock>,
    options: SqlQueueOptions,
    texts: &'static Texts,
    /// Where no trigger keeps the numbers.
    room: Option<Room>,
    counting: tokio::sync::Mutex<()>,
    unanswered: Unanswered,
    buried: AtomicU64,
    changes: Changes,
    /// Which of the processes this object is, to those who hear of its changes.
    name: Uuid,
    /// Something changed that other processes have not been told of.
    untold: Notify,
    dead_dropped: AtomicU64,
    closed: AtomicBool,
}

const FULL: &str = "the task queue is full";
const NOT_OURS: &str = "the task is no longer ours";

/// True if a batch with [`completion_steps`](TaskQueue::completion_steps) was rolled back because
/// the task has gone to another worker, whose effect it will be.
pub fn is_lease_lost(failed: &StepError) -> bool {
    failed.step.is_some()
        && failed.error.kind() == ErrorKind::Conflict
        && failed.error.message() == NOT_OURS
}

impl SqlTaskQueue {
    /// A queue on the tables that zmsg's migrations made in `store`.
    ///
    /// # Errors
    /// `Unsupported` on a database for which this version has no queue: none at present.
    pub fn new(
        store: Arc<dyn SqlStore>,
        clock: Arc<dyn Clock>,
        options: SqlQueueOptions,
    ) -> Result<Self> {
        let texts = match store.dialect() {
            Dialect::Sqlite => &sqlite::TEXTS,
            Dialect::Postgres => &postgres::TEXTS,
        };
        Ok(Self {
            store,
            clock,
            options,
            texts,
            room: texts.count_live.map(|_| Room::new(options.tasks_max)),
            counting: tokio::sync::Mutex::default(),
            unanswered: Unanswered::default(),
            buried: AtomicU64::new(0),
            changes: Changes::default(),
            name: Uuid::new_v4(),
            untold: Notify::new(),
            dead_dropped: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        })
    }

    /// Lets all leases end now; how many there were. For whoever knows that their holders are gone, such
    /// as a process that has the database to itself: what a killed one had in hand is handed out at
    /// once. With a holder alive two workers would have one task, until one of them learns that it lost it.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Dropping the future ends all leases or none.
    pub async fn end_leases(&self) -> Result<u64> {
        let end = Statement::new(self.texts.end_leases, Vec::new());
        let ended = self.open()?.execute(&end).await;
        ended.map(|ended| ended.changed).map_err(|error| error.during("queue.end_leases"))
    }

    fn open(&self) -> Result<&dyn SqlStore> {
        if self.closed.load(Relaxed) {
            return Err(Error::closed("task queue"));
        }
        Ok(&*self.store)
    }

    fn now(&self) -> Now {
        let wall = self.clock.wall();
        let bind = match (self.options.clock, self.store.dialect()) {
            (QueueClock::Database, Dialect::Postgres) => Value::Null,
            _ => Value::Int(i64::try_from(wall).unwrap_or(i64::MAX)),
        };
        Now { wall, bind }
    }

    /// Tells those who wait, in this process and, if somebody runs the wake-ups, in others.
    fn tell(&self) {
        self.changes.tell();
        self.untold.notify_one();
    }

    /// Runs a change of one task; whether it took place.
    async fn change(&self, statement: Statement) -> Result<bool> {
        Ok(self.open()?.execute(&statement).await?.changed > 0)
    }

    /// Runs a statement that leases, and reads what it gives.
    async fn leased(&self, mut asked: Asked<'_>, lease: Statement) -> Result<Vec<LeasedTask>> {
        let leased = self.open()?.execute(&lease).await;
        asked.answered(&leased);
        zmsg_core::fail_point!("zmsg-queue::lease::leased");
        let leased = leased.map_err(|error| error.during("queue.lease"))?;
        let mut tasks = Vec::with_capacity(leased.rows.len());
        for row in &leased.rows {
            match rows::leased(row) {
                Ok(task) => tasks.push(task),
                Err(cause) => self.set_aside(row, &cause).await,
            }
        }
        // RETURNING promises no order.
        tasks.sort_unstable_by_key(|(due, task)| (*due, task.id));
        Ok(tasks.into_iter().map(|(_, task)| task).collect())
    }

    async fn fetch_one(&self, query: Statement) -> Result<Option<Row>> {
        Ok(self.open()?.fetch(&query).await?.pop())
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
        tasks.iter().try_for_each(|task| task.check_for("sql"))?;
        self.open()?;
        zmsg_core::fail_point!("zmsg-queue::enqueue::before");
        let answers = self.take_in(tasks).await.map_err(|error| error.during("queue.enqueue"))?;
        zmsg_core::fail_point!("zmsg-queue::enqueue::enqueued");
        if answers.contains(&Enqueued::Accepted) {
            self.tell();
        }
        Ok(answers)
    }

    async fn enqueue_firing(&self, firing: Firing) -> Result<Enqueued> {
        firing.check()?;
        firing.task().check_for("sql")?;
        self.open()?;
        let fired = self.fire(firing).await;
        let answer = fired.map_err(|error| error.during("queue.enqueue_firing"))?;
        if answer == Enqueued::Accepted {
            self.tell();
        }
        Ok(answer)
    }

    async fn last_firing(&self, queue: &str, entry: &str) -> Result<Option<UnixMillis>> {
        let found = self.find_firing(queue, entry).await;
        found.map_err(|error| error.during("queue.last_firing"))
    }

    async fn lease(&self, queue: &str, max: usize, for_: Duration) -> Result<Vec<LeasedTask>> {
        self.open()?;
        if max == 0 {
            return Ok(Vec::new());
        }
        let ask = || self.unanswered.ask(&*self.clock, queue, for_);
        for lost in self.unanswered.of(queue, self.clock.coarse()) {
            let asked = ask();
            let again = self.texts.lease_again(queue, max, &self.now(), for_, lost, asked.token);
            let found = self.leased(asked, again).await?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let asked = ask();
        let lease = self.texts.lease(queue, max, &self.now(), for_, asked.token);
        self.leased(asked, lease).await
    }

    async fn extend(&self, task: &LeasedTask, for_: Duration) -> Result<bool> {
        self.change(self.texts.extend(task, &self.now(), for_)).await
    }

    async fn complete(&self, task: &LeasedTask) -> Result<bool> {
        self.change(self.texts.complete(task)).await
    }

    fn completion_steps(&self, task: &LeasedTask) -> Option<Vec<Step>> {
        Some(vec![Step::must(self.texts.complete(task), Expect::Exactly(1), NOT_OURS)])
    }

    async fn retry(
        &self,
        task: &LeasedTask,
        due: UnixMillis,
        cause: &Error,
        counts: bool,
    ) -> Result<bool> {
        let now = self.now();
        let retry = self.texts.retry(task, due, cause_text(cause), counts, &now);
        let given_back = self.change(retry).await?;
        if given_back && due <= now.wall {
            self.tell();
        } else if given_back {
            // This process will look when it is due, and others at their next poll.
            self.changes.tell();
        }
        Ok(given_back)
    }

    async fn bury(&self, task: &LeasedTask, cause: &Error) -> Result<bool> {
        let store = self.open()?;
        let mut steps = vec![Step::any(self.texts.bury(task, cause_text(cause), &self.now()))];
        if self.is_time_to_trim() {
            steps.push(Step::any(self.texts.trim_dead(self.options.dead_max)));
        }
        zmsg_core::fail_point!("zmsg-queue::bury::before");
        let outcomes = store.execute_all(steps).await?;
        zmsg_core::fail_point!("zmsg-queue::bury::buried");
        if let Some(trimmed) = outcomes.get(1) {
            self.note_dropped(&trimmed.rows)?;
        }
        Ok(outcomes.first().is_some_and(|buried| buried.changed > 0))
    }

    async fn next_due(&self, queue: &str) -> Result<Option<UnixMillis>> {
        let now = self.now();
        let Some(row) = self.fetch_one(self.texts.next_due(queue, &now)).await? else {
            return Ok(None);
        };
        // By the caller's clock: a caller waits by that.
        Ok(rows::next_due(&row)?.map(|next| match next {
            NextDue::In(pause) => lease_end(now.wall, Duration::from_millis(pause)),
            NextDue::Since(pause) => now.wall.saturating_sub(pause),
        }))
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        self.changes.next()
    }

    async fn pause(&self, queue: &str) -> Result<bool> {
        check_queue_name(queue)?;
        self.begin_pause(queue).await.map_err(|error| error.during("queue.pause"))
    }

    async fn resume(&self, queue: &str) -> Result<bool> {
        self.end_pause(queue).await.map_err(|error| error.during("queue.resume"))
    }

    async fn is_paused(&self, queue: &str) -> Result<bool> {
        self.finds_pause(queue).await.map_err(|error| error.during("queue.is_paused"))
    }

    async fn dead_letters(
        &self,
        queue: Option<&str>,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<DeadTask>> {
        let found = self.open()?.fetch(&self.texts.dead_letters(queue, after, limit)).await?;
        let readable = |row| match rows::dead(row) {
            Ok(dead) => Some(dead),
            Err(error) => {
                tracing::error!(%error, "a dead letter has no id that can be read");
                None
            }
        };
        Ok(found.iter().filter_map(readable).collect())
    }

    async fn retry_dead(&self, id: TaskId) -> Result<bool> {
        let back = Step::any(self.texts.retry_dead(id, &self.now()));
        let steps = vec![back, self.within_bounds()];
        let refused = |failed| self.refusal(failed).during("queue.retry_dead");
        let outcomes = self.open()?.execute_all(steps).await.map_err(refused)?;
        let brought_back = outcomes.first().is_some_and(|outcome| outcome.changed > 0);
        if brought_back {
            self.tell();
        }
        Ok(brought_back)
    }

    async fn drop_dead(&self, id: TaskId) -> Result<bool> {
        let dropped = self.change(self.texts.drop_dead(id)).await?;
        if dropped {
            // A lane may have stood still for it.
            self.tell();
        }
        Ok(dropped)
    }

    async fn state(&self, id: TaskId) -> Result<Option<TaskState>> {
        self.fetch_one(self.texts.state(id)).await?.as_ref().map(rows::state).transpose()
    }

    async fn stats(&self, queue: &str) -> Result<QueueStats> {
        let row = self.fetch_one(self.texts.stats(queue, &self.now())).await?;
        let stats = row.as_ref().map(rows::stats).transpose()?.unwrap_or_default();
        Ok(QueueStats { dead_dropped: self.dead_dropped.load(Relaxed), ..stats })
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Relaxed);
        self.changes.tell();
        Ok(())
    }
}
