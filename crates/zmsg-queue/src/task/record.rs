//! What a queue takes in and hands out.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use zmsg_core::{Error, ErrorKind, Result, TaskId, UnixMillis};

use super::lane::{Lane, LanePlace, OnDead};

/// A task to enqueue.
#[derive(Clone, PartialEq, Eq)]
pub struct NewTask {
    /// Made before any I/O, and used again by every retry and fallback; not nil.
    pub id: TaskId,
    /// The queue's name; 1 to 255 bytes without NUL.
    pub queue: String,
    /// What the payload is; 1 to 255 bytes without NUL.
    pub kind: String,
    /// Opaque to the queue.
    pub payload: Bytes,
    /// Not handed out before this moment. 0: the one at which it is accepted.
    pub due: UnixMillis,
    /// How often it may be tried before it is buried; at least 1.
    pub attempts_max: u32,
    /// How long one attempt may take; `None`: what its worker allows.
    pub timeout: Option<Duration>,
    /// The moment after which it is no longer wanted: it is a dead letter then.
    pub deadline: Option<UnixMillis>,
    /// The lane in which it keeps its place.
    pub lane: Option<Lane>,
    /// The group of tasks of its queue that are made one task. Only in Redis and in memory.
    pub group: Option<String>,
    /// For how long another task of its queue, kind and payload is refused, from when it is due; or until it
    /// is completed. Only in Redis.
    pub unique_for: Option<Duration>,
    /// How long it is kept when it is completed, for those who ask what came of it. Only in Redis.
    pub retention: Option<Duration>,
}

impl NewTask {
    /// The queue that tasks go to unless told otherwise.
    pub const QUEUE_DEFAULT: &str = "default";
    /// The longest name of a queue or a kind, in bytes.
    pub const NAME_BYTES_MAX: usize = 255;

    /// A task for the default queue, due at once, with three attempts.
    pub fn new(id: TaskId, kind: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            id,
            queue: Self::QUEUE_DEFAULT.into(),
            kind: kind.into(),
            payload: payload.into(),
            due: AT_ONCE,
            attempts_max: 3,
            timeout: None,
            deadline: None,
            lane: None,
            group: None,
            unique_for: None,
            retention: None,
        }
    }

    /// Sets the moment before which it is not handed out.
    #[must_use]
    pub fn due(self, due: UnixMillis) -> Self {
        Self { due, ..self }
    }

    /// Names the queue.
    #[must_use]
    pub fn queue(self, queue: impl Into<String>) -> Self {
        Self { queue: queue.into(), ..self }
    }

    /// Sets how often it may be tried.
    #[must_use]
    pub fn attempts_max(self, attempts_max: u32) -> Self {
        Self { attempts_max, ..self }
    }

    /// Sets how long one attempt may take.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Sets the moment after which it is no longer wanted.
    #[must_use]
    pub fn deadline(self, deadline: UnixMillis) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Puts it at the end of a lane, which a dead letter of it blocks.
    #[must_use]
    pub fn ordered_by(self, key: impl Into<String>) -> Self {
        let (key, on_dead) = (key.into(), OnDead::default());
        Self { lane: Some(Lane { key, on_dead }), ..self }
    }

    /// Says what becomes of its lane when it is a dead letter; nothing without a lane.
    #[must_use]
    pub fn on_dead(mut self, on_dead: OnDead) -> Self {
        if let Some(lane) = &mut self.lane {
            lane.on_dead = on_dead;
        }
        self
    }

    /// Puts it into a group when it is due: an [aggregator](crate::GroupAggregator) makes one task of those
    /// that are there together.
    #[must_use]
    pub fn group(self, name: impl Into<String>) -> Self {
        Self { group: Some(name.into()), ..self }
    }

    /// Refuses others of its queue, kind and payload for so long.
    #[must_use]
    pub fn unique_for(self, pause: Duration) -> Self {
        Self { unique_for: Some(pause), ..self }
    }

    /// Keeps it for so long when it is completed.
    #[must_use]
    pub fn retention(self, retention: Duration) -> Self {
        Self { retention: Some(retention), ..self }
    }

    /// Refuses what a queue in a database does not keep.
    pub(crate) fn check_for(&self, queue: &'static str) -> Result<()> {
        self.check_for_memory(queue)?;
        if self.group.is_none() {
            return Ok(());
        }
        let why = "this queue keeps no groups of tasks: use one in Redis or in memory";
        let error = Error::new(ErrorKind::Unsupported, why).with_context("id", self.id);
        Err(error.with_context("queue", queue).with_context("field", "group"))
    }

    /// Refuses what only a queue in Redis keeps.
    pub(crate) fn check_for_memory(&self, queue: &'static str) -> Result<()> {
        self.check()?;
        let field = match (self.unique_for, self.retention) {
            (Some(_), _) => "unique_for",
            (None, Some(_)) => "retention",
            (None, None) => return Ok(()),
        };
        let why =
            "this queue keeps neither locks against doubles nor completed tasks: use one in Redis";
        let error = Error::new(ErrorKind::Unsupported, why).with_context("id", self.id);
        Err(error.with_context("queue", queue).with_context("field", field))
    }

    /// Refuses what no backend could keep, before any of them sees it.
    pub(crate) fn check(&self) -> Result<()> {
        check_name("queue", &self.queue)?;
        check_name("kind", &self.kind)?;
        if let Some(lane) = &self.lane {
            check_name("lane", &lane.key)?;
        }
        if let Some(group) = &self.group {
            check_name("group", group)?;
        }
        let problem = if self.id.0.is_nil() {
            "the id of a task must not be nil"
        } else if self.lane.is_some() && self.group.is_some() {
            "a task has a lane or a group: give the lane to the aggregate that is made of the group"
        } else if self.attempts_max == 0 {
            "a task needs at least one attempt"
        } else if i64::try_from(self.due).is_err() {
            "the due time of a task is beyond what a database can keep"
        } else if self.timeout.is_some_and(|timeout| timeout < Duration::from_millis(1)) {
            "an attempt needs at least a millisecond: leave the time-out out for none of its own"
        } else if [self.unique_for, self.retention].contains(&Some(Duration::ZERO)) {
            "a lock or a retention of no length is none: leave it out"
        } else if self.deadline.is_some_and(|deadline| deadline < self.due) {
            "the deadline of a task must not be before it is due"
        } else {
            return Ok(());
        };
        Err(Error::invalid_input(problem).with_context("id", self.id))
    }
}

/// Refuses what is no name of a queue.
pub(super) fn check_queue_name(queue: &str) -> Result<()> {
    check_name("queue", queue)
}

pub(super) fn check_name(what: &'static str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > NewTask::NAME_BYTES_MAX || name.contains('\0') {
        let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
        return Err(
            Error::invalid_input("a name has 1 to 255 bytes and no NUL").with_context(what, shown)
        );
    }
    Ok(())
}

/// What came of an enqueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Enqueued {
    /// The task is in the queue, by this call.
    Accepted,
    /// A task of this id was in the queue, or among its dead letters, already.
    Duplicate,
    /// Another task of its queue, kind and payload is unique for some time yet.
    Locked,
}

/// A task that one worker holds until its lease runs out.
#[derive(Clone, PartialEq, Eq)]
pub struct LeasedTask {
    /// The id it was enqueued with.
    pub id: TaskId,
    /// The queue it came from.
    pub queue: String,
    /// What the payload is.
    pub kind: String,
    /// As it was enqueued.
    pub payload: Bytes,
    /// Which attempt this is, from 1; it only grows, and is the fencing token.
    pub attempt: u32,
    /// How many attempts may be spent.
    pub attempts_max: u32,
    /// How many of the earlier attempts do not count: given back, or before a dead letter was
    /// brought back.
    pub attempts_spared: u32,
    /// The end of the lease as it was given; an extension does not change it here.
    pub lease_until: UnixMillis,
    /// When it was enqueued.
    pub created: UnixMillis,
    /// How long this attempt may take; `None`: what its worker allows.
    pub timeout: Option<Duration>,
    /// The moment after which it is no longer wanted.
    pub deadline: Option<UnixMillis>,
    /// The place in its lane.
    pub lane: Option<LanePlace>,
    /// How long it is kept when it is completed.
    pub retention: Option<Duration>,
}

impl LeasedTask {
    /// Attempts spent, with this one.
    pub fn attempts_spent(&self) -> u32 {
        self.attempt.saturating_sub(self.attempts_spared)
    }

    /// True if no attempt is left after this one.
    pub fn is_last_attempt(&self) -> bool {
        self.attempts_spent() >= self.attempts_max
    }
}

/// A task that was given up.
#[derive(Clone, PartialEq, Eq)]
pub struct DeadTask {
    /// The id it was enqueued with.
    pub id: TaskId,
    /// The queue it came from.
    pub queue: String,
    /// What the payload is.
    pub kind: String,
    /// As it was enqueued.
    pub payload: Bytes,
    /// How often it was handed out, counted or not.
    pub attempts: u32,
    /// The last error, as text.
    pub cause: String,
    /// When it was enqueued.
    pub created: UnixMillis,
    /// When it was buried.
    pub died: UnixMillis,
}

/// Where a task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskState {
    /// It waits, at least until it is due.
    Pending {
        /// The moment from which it may be handed out.
        due: UnixMillis,
    },
    /// A worker has it, or had it and its lease ran out.
    Leased,
    /// It is among the dead letters.
    Dead {
        /// The last error, as text.
        cause: String,
    },
}

/// Counts of one queue at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Tasks that wait, due or not.
    pub pending: u64,
    /// Tasks that `lease` would hand out now, unless the queue is paused: due ones, and those whose lease
    /// ran out.
    pub due: u64,
    /// Tasks that a worker holds, those with a lease that ran out among them.
    pub leased: u64,
    /// Dead letters.
    pub dead: u64,
    /// How long the longest-waiting due task has been due; `None` if nothing is due.
    pub oldest_due_age: Option<Duration>,
    /// Dead letters of all queues that this object dropped because there were too many.
    pub dead_dropped: u64,
}

/// The end of a lease that begins at `now`.
pub(super) fn lease_end(now: UnixMillis, for_: Duration) -> UnixMillis {
    now.saturating_add(u64::try_from(for_.as_millis()).unwrap_or(u64::MAX))
}

/// The due time of a task that has none: when it is accepted. Taken as a moment it would be before all
/// others, and such a task the longest overdue.
pub(super) const AT_ONCE: UnixMillis = 0;

/// Beyond so many milliseconds, 285,000 years, a moment means "never"; added to the present it
/// stays within what a database can keep.
pub(crate) const FAR: i64 = 1 << 53;

/// How many milliseconds a moment is off, below 0 if it has passed; 0 for [`AT_ONCE`].
pub(crate) fn pause_until(moment: UnixMillis, now: UnixMillis) -> i64 {
    if moment == AT_ONCE {
        return 0;
    }
    let pause = i128::from(moment) - i128::from(now);
    i64::try_from(pause.clamp((-FAR).into(), FAR.into())).unwrap_or(FAR)
}

/// The text of a cause that is kept beside a task: bounded, because errors carry context.
pub(super) fn cause_text(cause: &Error) -> String {
    const BYTES_MAX: usize = 4096;
    let mut text = cause.to_string();
    if text.len() > BYTES_MAX {
        let mut end = BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

// Payloads must not reach logs, so Debug shows their size.

impl fmt::Debug for NewTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewTask")
            .field("id", &self.id.0)
            .field("queue", &self.queue)
            .field("kind", &self.kind)
            .field("payload_bytes", &self.payload.len())
            .field("due", &self.due)
            .field("attempts_max", &self.attempts_max)
            .finish()
    }
}

impl fmt::Debug for LeasedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeasedTask")
            .field("id", &self.id.0)
            .field("queue", &self.queue)
            .field("kind", &self.kind)
            .field("payload_bytes", &self.payload.len())
            .field("attempt", &self.attempt)
            .field("attempts_max", &self.attempts_max)
            .field("attempts_spared", &self.attempts_spared)
            .field("lease_until", &self.lease_until)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DeadTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadTask")
            .field("id", &self.id.0)
            .field("queue", &self.queue)
            .field("kind", &self.kind)
            .field("payload_bytes", &self.payload.len())
            .field("attempts", &self.attempts)
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}
