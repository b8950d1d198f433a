//! Looking at queues and acting on single tasks: what people and tools do.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use zmsg_core::{Error, ErrorKind, Result, TaskId, UnixMillis};

/// What a queue tells people of its tasks, and what they may do to one.
///
/// - It takes no task from a worker: an act on a task whose lease holds is refused with `Conflict`, and
///   changes nothing. When the lease has run out, the act goes through, and the late worker is fenced.
/// - Payloads are not shown unless they are asked for, one at a time.
/// - What is listed is bounded by `limit`, and by [`PAGE_MAX`].
/// - Ids are those of tasks in their queues. Where several queues may have a task of one id, as in Redis,
///   `queue` says which one is meant; without it they must not.
/// - Moments are by the clock of the queue.
///
/// It is made for people: on a SQL backend it walks the tasks of a queue to count them.
#[async_trait]
pub trait TaskInspector: fmt::Debug + Send + Sync + 'static {
    /// The names of all queues that have tasks, dead letters included, or rest, in their order; the first
    /// [`QUEUES_MAX`] of them. In Redis also those that had tasks once.
    ///
    /// # Errors
    /// Those of the backend.
    async fn queues(&self) -> Result<Vec<String>>;

    /// One queue at this moment. A queue that nobody knows is an empty one.
    ///
    /// # Errors
    /// Those of the backend.
    async fn summary(&self, queue: &str) -> Result<QueueSummary>;

    /// The tasks of a queue at one stage, at most `limit` and at most [`PAGE_MAX`], those behind `after`:
    /// the place of the last one of the page before. Tasks that move meanwhile may be missed or come twice.
    ///
    /// Those that wait come in the order in which they are due, active ones as their leases end, dead
    /// letters by id; what asynq keeps by the second stands within it by its name. In Redis those that wait in
    /// groups come group by group, and none come behind a place whose task has left its group.
    ///
    /// # Errors
    /// Those of the backend.
    async fn tasks(
        &self,
        queue: &str,
        stage: Stage,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<TaskInfo>>;

    /// All that is known of one task, except its payload.
    ///
    /// # Errors
    /// `Conflict` if several queues have a task of this id and none is named; those of the backend.
    async fn task(&self, queue: Option<&str>, id: TaskId) -> Result<Option<TaskInfo>>;

    /// The payload of one task.
    ///
    /// # Errors
    /// As for [`task`](Self::task).
    async fn payload(&self, queue: Option<&str>, id: TaskId) -> Result<Option<Bytes>>;

    /// Lets a task be due now: one that waits for its time, a dead letter, which has all its attempts
    /// again, or one that its worker left. `Already`: it is due.
    ///
    /// # Errors
    /// `Conflict` while a worker holds it, and as for [`task`](Self::task); `Overloaded` for a dead letter
    /// if the queue is full; those of the backend.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it due or as it was.
    async fn run_now(&self, queue: Option<&str>, id: TaskId) -> Result<Act>;

    /// Moves a task to the dead letters, with its last error as the cause or, if it has none, the fact that
    /// somebody did so. `Already`: it is one.
    ///
    /// # Errors
    /// `Conflict` while a worker holds it, and as for [`task`](Self::task); those of the backend.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it archived or as it was.
    async fn archive(&self, queue: Option<&str>, id: TaskId) -> Result<Act>;

    /// Forgets a task, whatever it waits for, or a dead letter.
    ///
    /// # Errors
    /// `Conflict` while a worker holds it, and as for [`task`](Self::task); those of the backend.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it forgotten or as it was.
    async fn delete(&self, queue: Option<&str>, id: TaskId) -> Result<Act>;
}

/// Tasks of one page at most.
pub const PAGE_MAX: usize = 1_000;

/// Names of queues that are listed at most.
pub const QUEUES_MAX: usize = 10_000;

/// Where a task stands on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// It is due, and waits for a worker. In Redis, as asynq has it: what was put off stays `Scheduled` or
    /// `Retry` until a worker takes it.
    Pending,
    /// It waits for its time, and no attempt of it counts as failed.
    Scheduled,
    /// It waits in a group for the others, or an aggregator has it.
    Aggregating,
    /// It failed, and waits for its next attempt.
    Retry,
    /// A worker has it, or had it and its lease ran out.
    Active,
    /// It is among the dead letters.
    Dead,
    /// It is done and kept for its result: in Redis, by asynq.
    Completed,
}

impl Stage {
    /// All stages, as a task comes along.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Scheduled,
        Self::Aggregating,
        Self::Retry,
        Self::Active,
        Self::Dead,
        Self::Completed,
    ];

    /// Its name, in lowercase.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Scheduled => "scheduled",
            Self::Aggregating => "aggregating",
            Self::Retry => "retry",
            Self::Active => "active",
            Self::Dead => "dead",
            Self::Completed => "completed",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One queue at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueSummary {
    /// Its name.
    pub queue: String,
    /// Whether it rests.
    pub paused: bool,
    /// Tasks at [`Stage::Pending`].
    pub pending: u64,
    /// Tasks at [`Stage::Scheduled`].
    pub scheduled: u64,
    /// Tasks at [`Stage::Aggregating`].
    pub aggregating: u64,
    /// Tasks at [`Stage::Retry`].
    pub retry: u64,
    /// Tasks at [`Stage::Active`].
    pub active: u64,
    /// Tasks at [`Stage::Dead`].
    pub dead: u64,
    /// Tasks at [`Stage::Completed`].
    pub completed: u64,
    /// How long ago the first in line of those that wait was enqueued; `None` if none waits, or if asynq
    /// enqueued it and nobody noted when.
    pub oldest_age: Option<Duration>,
    /// For how long the task that has waited longest could have been taken: since it was due, or since its
    /// lease ran out. `None` if nothing is due.
    pub latency: Option<Duration>,
    /// Attempts that ended today, by UTC, where that is counted.
    pub processed_today: Option<u64>,
    /// Those of them that failed.
    pub failed_today: Option<u64>,
}

impl QueueSummary {
    /// How many tasks stand there.
    pub fn at(&self, stage: Stage) -> u64 {
        match stage {
            Stage::Pending => self.pending,
            Stage::Scheduled => self.scheduled,
            Stage::Aggregating => self.aggregating,
            Stage::Retry => self.retry,
            Stage::Active => self.active,
            Stage::Dead => self.dead,
            Stage::Completed => self.completed,
        }
    }
}

/// All that is known of one task, except its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskInfo {
    /// Its id here.
    pub id: TaskId,
    /// What asynq calls it, if that is not its id.
    pub name: Option<String>,
    /// The queue it is in.
    pub queue: String,
    /// What the payload is.
    pub kind: String,
    /// How many bytes the payload has.
    pub payload_bytes: u64,
    /// Where it stands.
    pub stage: Stage,
    /// How often it was handed out, counted or not.
    pub attempts: u32,
    /// How many of these count.
    pub attempts_spent: u32,
    /// How many may be spent.
    pub attempts_max: u32,
    /// The group in which it waits, or which it will join when it is due.
    pub group: Option<String>,
    /// From when on it may be handed out, or could have been; when it joined its group.
    pub due: UnixMillis,
    /// The end of its lease, while a worker has it.
    pub lease_until: Option<UnixMillis>,
    /// How long its lease still holds; zero if it has run out. A lease of a worker in Go counts for 30 s
    /// more than it says.
    pub lease_left: Option<Duration>,
    /// The last error, as text.
    pub last_error: Option<String>,
    /// When it was enqueued, where that is known.
    pub created: Option<UnixMillis>,
    /// When it became a dead letter.
    pub died: Option<UnixMillis>,
}

impl TaskInfo {
    /// Whether a worker has it and its lease holds: acts on it are refused.
    pub fn is_held(&self) -> bool {
        self.stage == Stage::Active && self.lease_left.is_none_or(|left| !left.is_zero())
    }

    /// Where the page behind this task begins.
    pub fn place(&self) -> Place {
        let moment = match self.stage {
            Stage::Active => self.lease_until.unwrap_or_default(),
            Stage::Dead | Stage::Completed => 0,
            Stage::Pending | Stage::Scheduled | Stage::Aggregating | Stage::Retry => self.due,
        };
        Place { moment, id: self.id }
    }
}

/// Where a task stands among those at its stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The moment by which they are ordered; 0 if they are by id alone.
    pub moment: UnixMillis,
    /// What orders those of one moment.
    pub id: TaskId,
}

/// What came of an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// It was done.
    Done,
    /// There was nothing to do: the task stands so already.
    Already,
    /// There is no such task.
    Unknown,
}

/// The cause of a dead letter that never failed.
pub(super) const BY_HAND: &str = "archived by hand";

/// Workers may change a task between the look and the act: so often it is looked again.
pub(super) const TRIES: usize = 4;

/// The refusal of an act on a task that never stood still.
pub(super) fn changing(id: TaskId) -> Error {
    Error::new(ErrorKind::Conflict, "the task kept changing: try again")
        .temporary()
        .with_context("id", id)
}

/// A page of at most so many tasks.
pub(super) fn page(limit: usize) -> usize {
    limit.min(PAGE_MAX)
}

/// The refusal of an act on a task that a worker holds.
pub(super) fn held(task: &TaskInfo) -> Error {
    let why = "a worker holds the task: wait until it has ended or its lease has run out; a paused queue \
               gives it to no other worker meanwhile";
    let left = task.lease_left.unwrap_or_default();
    Error::new(ErrorKind::Conflict, why)
        .with_context("id", task.id)
        .with_context("lease_left_ms", left.as_millis())
}

/// The refusal of an act on a task that an aggregator has.
pub(super) fn closed_in(id: TaskId, group: &str) -> Error {
    let why = "an aggregator has the task and the others of its group: wait until it has ended, or until \
               they are back in the group";
    Error::new(ErrorKind::Conflict, why).with_context("id", id).with_context("group", group)
}
