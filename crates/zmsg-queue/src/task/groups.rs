//! Groups: tasks that are made one task when enough of them are there, or when no more come.

mod rules;
mod worker;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, Result, TaskId, UnixMillis};

pub use self::rules::GroupRules;
pub use self::worker::{GroupAggregator, GroupReport, GroupWorker, GroupWorkerOptions};
use super::queue::TaskQueue;
use super::record::NewTask;

/// What a queue offers to those who aggregate its groups; a [`GroupWorker`] does it by itself.
///
/// - Tasks join their group when they are due, and are in it in the order in which they joined, then of
///   their ids. In Redis they join by the second, rounded up, so that groups are closed late rather than
///   early.
/// - A closed set has its members to itself: no other closing takes them, nobody acts on them, and tasks that
///   come later go to the group.
/// - A settlement is one change: the aggregate is in the queue and the members are gone, or neither. It does
///   nothing and answers `false` when the set is no longer closed, so whatever stops an aggregator in between,
///   of each member there is one aggregate.
/// - The members of a set that nobody settles until its deadline go back to the group.
/// - A member counts among the tasks of its queue, the set included. In Redis those that clients of asynq
///   have put into a group do not.
/// - The lock of a member that is [unique](NewTask::unique_for) stays for its time, as asynq keeps it.
/// - Groups are closed in a paused queue too: nothing is handed out by that.
#[async_trait]
pub trait TaskGroups: TaskQueue {
    /// The groups in which tasks wait, by name; the first [`GROUPS_MAX`](GroupInfo::GROUPS_MAX). For people.
    ///
    /// # Errors
    /// Those of the backend.
    async fn groups(&self, queue: &str) -> Result<Vec<GroupInfo>>;

    /// Which groups are to be closed now by these rules, and how long it is until the next one is. Walks all
    /// groups of the queue.
    ///
    /// # Errors
    /// Those of the backend.
    async fn ripe_groups(&self, queue: &str, rules: &GroupRules) -> Result<RipeGroups>;

    /// Takes the first members out of a group, if it is to be closed by these rules, until `lease` from now.
    ///
    /// What cannot be read is among the dead letters then.
    ///
    /// # Errors
    /// Those of the backend.
    ///
    /// # Cancel safety
    /// Dropping the future may leave a set that nobody has, until its deadline.
    async fn close_group(
        &self,
        queue: &str,
        group: &str,
        rules: &GroupRules,
        lease: Duration,
    ) -> Result<Option<ClosedGroup>>;

    /// Puts `aggregate` in the place of the members, into the queue of the group whatever it says itself.
    /// `false`: the set is no longer ours, and nothing was done.
    ///
    /// The same call again says `true` again for as long as the queue knows the aggregate.
    ///
    /// # Errors
    /// `Conflict` if the queue has another task of its id, or one that is unique holds its lock; the set stays
    /// closed. `Overloaded` where payloads are bounded. An error with outcome unknown may be answered by the
    /// same call with the same aggregate.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the set settled or closed.
    async fn settle_group(&self, closed: &ClosedGroup, aggregate: NewTask) -> Result<bool>;

    /// Puts the members back into their group, in their old places. `false`: the set is no longer ours.
    ///
    /// # Errors
    /// Those of the backend.
    ///
    /// # Cancel safety
    /// Dropping the future leaves them in the group, or closed until the deadline of the set.
    async fn reopen_group(&self, closed: &ClosedGroup) -> Result<bool>;

    /// Puts the members of sets whose deadlines have passed back into their groups; how many sets it were.
    ///
    /// # Errors
    /// Those of the backend.
    ///
    /// # Cancel safety
    /// As for [`reopen_group`](Self::reopen_group).
    async fn reopen_overdue(&self, queue: &str) -> Result<u64>;
}

/// A group at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupInfo {
    /// Its name.
    pub group: String,
    /// Tasks that wait in it; those of closed sets do not.
    pub tasks: u64,
    /// How long ago its first task joined.
    pub oldest_age: Duration,
    /// How long ago its last task joined.
    pub youngest_age: Duration,
}

impl GroupInfo {
    /// Groups that are listed at most.
    pub const GROUPS_MAX: usize = 10_000;
}

/// Which groups are to be closed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RipeGroups {
    /// Their names, at most [`RIPE_MAX`](Self::RIPE_MAX).
    pub names: Vec<String>,
    /// How long it is until another one is, if no task joins it; `None`: there is no other.
    pub next: Option<Duration>,
}

impl RipeGroups {
    /// Names that are given at a time.
    pub const RIPE_MAX: usize = 10_000;

    /// Takes note of a group.
    pub(super) fn note(&mut self, group: &str, wait: Duration) {
        if !wait.is_zero() {
            self.next = Some(self.next.map_or(wait, |next| next.min(wait)));
        } else if self.names.len() < Self::RIPE_MAX {
            self.names.push(group.to_owned());
        }
    }
}

/// Members of a group that somebody is about to aggregate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedGroup {
    /// The queue of the group.
    pub queue: String,
    /// Its name.
    pub group: String,
    /// The name of this set, and its fence: no other has it.
    pub set: Uuid,
    /// In the order in which they joined.
    pub members: Vec<GroupMember>,
}

/// A task of a group.
#[derive(Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// The id it was enqueued with.
    pub id: TaskId,
    /// What asynq calls it, if that is not its id.
    pub name: Option<String>,
    /// What the payload is.
    pub kind: String,
    /// As it was enqueued.
    pub payload: Bytes,
    /// When it joined its group.
    pub joined: UnixMillis,
}

// Payloads must not reach logs.
impl fmt::Debug for GroupMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupMember")
            .field("id", &self.id.0)
            .field("kind", &self.kind)
            .field("payload_bytes", &self.payload.len())
            .field("joined", &self.joined)
            .finish_non_exhaustive()
    }
}

/// Refuses an aggregate that no queue would take; it goes to the queue of its group.
pub(super) fn checked(closed: &ClosedGroup, aggregate: NewTask) -> Result<NewTask> {
    let aggregate = aggregate.queue(closed.queue.clone());
    aggregate.check()?;
    if closed.members.iter().any(|member| member.id == aggregate.id) {
        let why = "an aggregate needs an id of its own, not that of a member";
        return Err(Error::invalid_input(why).with_context("id", aggregate.id));
    }
    Ok(aggregate)
}

/// The refusal of an aggregate that cannot be accepted.
pub(super) fn refused(closed: &ClosedGroup, aggregate: TaskId, why: &'static str) -> Error {
    Error::new(ErrorKind::Conflict, why)
        .with_context("group", &closed.group)
        .with_context("aggregate", aggregate)
}

/// Why an aggregate is refused whose id is taken.
pub(super) const ID_TAKEN: &str = "the queue has another task of the id of the aggregate";
