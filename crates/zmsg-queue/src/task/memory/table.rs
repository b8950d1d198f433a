//! The state of a memory queue, and its changes; no clock, no lock, no waiting.

mod groups;
mod inspect;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::time::Duration;

use uuid::Uuid;
use zmsg_core::{Error, Result, TaskId, UnixMillis};

use self::groups::{GroupName, Groups, Place};
use super::MemoryQueueOptions;
use super::firings::Firings;
use super::lanes::{LaneName, Lanes};
use crate::task::lane::{LanePlace, OnDead};
use crate::task::record::{
    AT_ONCE, DeadTask, Enqueued, LeasedTask, NewTask, QueueStats, TaskState,
};

/// Every task is in `live` and, unless others of its lane are before it or it has joined a group, in one of its
/// queue's three indexes; or in `dead`.
#[derive(Debug)]
pub(super) struct Table {
    options: MemoryQueueOptions,
    live: HashMap<TaskId, Entry>,
    queues: HashMap<String, Index>,
    lanes: Lanes,
    groups: Groups,
    dead: BTreeMap<TaskId, Dead>,
    pub(super) paused: HashSet<String>,
    pub(super) firings: Firings,
    payload_bytes: usize,
    dead_dropped: u64,
    pub(super) closed: bool,
}

#[derive(Debug)]
struct Entry {
    task: NewTask,
    created: UnixMillis,
    attempt: u32,
    attempts_spared: u32,
    lease_until: Option<UnixMillis>,
    last_error: Option<String>,
    /// Its place in its lane, as long as the lane waits for it.
    place: Option<i64>,
    /// Where it stands in its group, once it has joined.
    joined: Option<Place>,
    /// The set of a group that it is the aggregate of.
    made_of: Option<Uuid>,
}

#[derive(Debug)]
struct Dead {
    entry: Entry,
    cause: String,
    died: UnixMillis,
}

/// The tasks of one queue by the moment from which they may be handed out.
#[derive(Debug, Default)]
struct Index {
    pending: BTreeSet<(UnixMillis, TaskId)>,
    leased: BTreeSet<(UnixMillis, TaskId)>,
    /// Those that others of their lanes are before.
    behind: usize,
    /// Those that will join their groups.
    coming: BTreeSet<(UnixMillis, TaskId)>,
    /// Those that have.
    joined: usize,
}

impl Table {
    pub(super) fn new(options: MemoryQueueOptions) -> Self {
        Self {
            options,
            live: HashMap::new(),
            queues: HashMap::new(),
            lanes: Lanes::default(),
            groups: Groups::default(),
            dead: BTreeMap::new(),
            paused: HashSet::new(),
            firings: Firings::default(),
            payload_bytes: 0,
            dead_dropped: 0,
            closed: false,
        }
    }

    pub(super) fn enqueue_all(
        &mut self,
        tasks: Vec<NewTask>,
        now: UnixMillis,
    ) -> Result<Vec<Enqueued>> {
        // The bounds first, so that a refusal needs no undo.
        let (mut fresh, mut bytes) = (BTreeSet::new(), 0);
        for task in &tasks {
            if !self.knows(task.id) && fresh.insert(task.id) {
                bytes += task.payload.len();
            }
        }
        if self.live.len() + fresh.len() > self.options.tasks_max && !fresh.is_empty() {
            return Err(overloaded("tasks_max", self.options.tasks_max));
        }
        if self.payload_bytes + bytes > self.options.payload_bytes_max && bytes > 0 {
            return Err(overloaded("payload_bytes_max", self.options.payload_bytes_max));
        }
        let accept = |mut task: NewTask| {
            if !fresh.remove(&task.id) {
                return Enqueued::Duplicate;
            }
            self.payload_bytes += task.payload.len();
            if task.due == AT_ONCE {
                task.due = now;
            }
            let (attempt, attempts_spared) = (0, 0);
            let place = lane_of(&task).map(|lane| self.lanes.join(lane, task.id));
            let (lease_until, last_error, created) = (None, None, now);
            let joins = task.group.is_some() && task.due <= now;
            let (joined, made_of) = (joins.then_some(Place::Waiting(now)), None);
            self.put(Entry {
                task,
                created,
                attempt,
                attempts_spared,
                lease_until,
                last_error,
                place,
                joined,
                made_of,
            });
            Enqueued::Accepted
        };
        Ok(tasks.into_iter().map(accept).collect())
    }

    pub(super) fn lease(
        &mut self,
        queue: &str,
        max: usize,
        now: UnixMillis,
        until: UnixMillis,
    ) -> Vec<LeasedTask> {
        self.gather(queue, now);
        let Some(index) = self.working(queue) else { return Vec::new() };
        // The index of leases is by their ends, so all that ran out take part in the sort.
        let ready = ready(&index.pending, now).take(max).chain(ready(&index.leased, now));
        let mut ready: Vec<(UnixMillis, TaskId)> =
            ready.filter_map(|id| self.live.get(&id).map(|entry| (entry.task.due, id))).collect();
        ready.sort_unstable();
        ready.truncate(max);
        ready.into_iter().filter_map(|(_, id)| self.hand_out(id, until)).collect()
    }

    fn hand_out(&mut self, id: TaskId, until: UnixMillis) -> Option<LeasedTask> {
        let mut entry = self.take(id)?;
        entry.attempt = entry.attempt.saturating_add(1);
        entry.lease_until = Some(until);
        let place = |(place, lane): (i64, LaneName)| LanePlace::new(lane.1, place, entry.attempt);
        let leased = LeasedTask {
            id,
            queue: entry.task.queue.clone(),
            kind: entry.task.kind.clone(),
            payload: entry.task.payload.clone(),
            attempt: entry.attempt,
            attempts_max: entry.task.attempts_max,
            attempts_spared: entry.attempts_spared,
            lease_until: until,
            created: entry.created,
            timeout: entry.task.timeout,
            deadline: entry.task.deadline,
            lane: entry.place.zip(lane_of(&entry.task)).map(place),
            retention: None,
        };
        self.put(entry);
        Some(leased)
    }

    pub(super) fn extend(&mut self, task: &LeasedTask, until: UnixMillis) -> bool {
        let Some(mut entry) = self.take_held(task) else { return false };
        entry.lease_until = Some(until);
        self.put(entry);
        true
    }

    pub(super) fn complete(&mut self, task: &LeasedTask) -> bool {
        let Some(entry) = self.take_held(task) else { return false };
        self.forget(entry);
        true
    }

    pub(super) fn retry(
        &mut self,
        task: &LeasedTask,
        due: UnixMillis,
        cause: String,
        counts: bool,
    ) -> bool {
        let Some(mut entry) = self.take_held(task) else { return false };
        entry.last_error = Some(cause);
        entry.task.due = due;
        entry.lease_until = None;
        entry.attempts_spared += u32::from(!counts);
        self.put(entry);
        true
    }

    pub(super) fn bury(&mut self, task: &LeasedTask, cause: String, now: UnixMillis) -> bool {
        let Some(entry) = self.take_held(task) else { return false };
        self.keep_dead(entry, cause, now);
        true
    }

    fn keep_dead(&mut self, mut entry: Entry, cause: String, now: UnixMillis) {
        entry.joined = None;
        if entry.task.lane.as_ref().is_some_and(|lane| lane.on_dead == OnDead::Skip) {
            self.leave_lane(&mut entry);
        }
        self.dead.insert(entry.task.id, Dead { entry, cause, died: now });
        while self.dead.len() > self.options.dead_max {
            let Some((id, dropped)) = self.dead.pop_first() else { break };
            tracing::warn!(%id, cause = dropped.cause, "dropped a dead letter: too many");
            self.forget(dropped.entry);
            self.dead_dropped += 1;
        }
    }

    pub(super) fn next_due(&self, queue: &str) -> Option<UnixMillis> {
        self.working(queue).and_then(Index::first_moment)
    }

    pub(super) fn dead_letters(
        &self,
        queue: Option<&str>,
        after: Option<TaskId>,
        limit: usize,
    ) -> Vec<DeadTask> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.dead
            .range((from, Bound::Unbounded))
            .filter(|(_, dead)| queue.is_none_or(|queue| dead.entry.task.queue == queue))
            .take(limit)
            .map(|(_, dead)| dead.show())
            .collect()
    }

    pub(super) fn retry_dead(&mut self, id: TaskId, now: UnixMillis) -> Result<bool> {
        if !self.dead.contains_key(&id) {
            return Ok(false);
        }
        if self.live.len() >= self.options.tasks_max {
            return Err(overloaded("tasks_max", self.options.tasks_max));
        }
        let Some(Dead { mut entry, cause, .. }) = self.dead.remove(&id) else { return Ok(false) };
        entry.last_error = Some(cause);
        entry.task.due = now;
        entry.task.group = None;
        entry.lease_until = None;
        entry.attempts_spared = entry.attempt;
        if entry.place.is_none() {
            entry.place = lane_of(&entry.task).map(|lane| self.lanes.join(lane, entry.task.id));
        }
        self.put(entry);
        Ok(true)
    }

    pub(super) fn drop_dead(&mut self, id: TaskId) -> bool {
        let Some(dead) = self.dead.remove(&id) else { return false };
        self.forget(dead.entry);
        true
    }

    pub(super) fn state(&self, id: TaskId) -> Option<TaskState> {
        if let Some(dead) = self.dead.get(&id) {
            return Some(TaskState::Dead { cause: dead.cause.clone() });
        }
        let entry = self.live.get(&id)?;
        Some(match entry.lease_until {
            Some(_) => TaskState::Leased,
            None => TaskState::Pending { due: entry.task.due },
        })
    }

    pub(super) fn stats(&self, queue: &str, now: UnixMillis) -> QueueStats {
        let empty = Index::default();
        let index = self.queues.get(queue).unwrap_or(&empty);
        let due = ready(&index.pending, now).count() + ready(&index.leased, now).count();
        let oldest = index.first_moment().and_then(|moment| now.checked_sub(moment));
        let dead = self.dead.values().filter(|dead| dead.entry.task.queue == queue).count();
        QueueStats {
            pending: index.waiting() as u64,
            due: due as u64,
            leased: index.leased.len() as u64,
            dead: dead as u64,
            oldest_due_age: oldest.map(Duration::from_millis),
            dead_dropped: self.dead_dropped,
        }
    }

    /// Forgets everything; how many tasks were waiting or leased.
    pub(super) fn close(&mut self) -> usize {
        let lost = self.live.len();
        *self = Self { closed: true, ..Self::new(self.options) };
        lost
    }

    /// The tasks of a queue from which something may be handed out.
    fn working(&self, queue: &str) -> Option<&Index> {
        self.queues.get(queue).filter(|_| !self.is_paused(queue))
    }

    fn knows(&self, id: TaskId) -> bool {
        self.live.contains_key(&id) || self.dead.contains_key(&id)
    }

    fn put(&mut self, entry: Entry) {
        let (id, is_behind) = (entry.task.id, self.is_behind(&entry));
        let index = self.queues.entry(entry.task.queue.clone()).or_default();
        match entry.lease_until {
            Some(until) => _ = index.leased.insert((until, id)),
            None if is_behind => index.behind += 1,
            None => match (entry.joined, group_of(&entry.task)) {
                (None, None) => _ = index.pending.insert((entry.task.due, id)),
                (None, Some(_)) => _ = index.coming.insert((entry.task.due, id)),
                (Some(place), group) => {
                    index.joined += 1;
                    self.groups.put(group, place, id);
                }
            },
        }
        self.live.insert(id, entry);
    }

    fn is_behind(&self, entry: &Entry) -> bool {
        let (Some(place), Some(lane)) = (entry.place, lane_of(&entry.task)) else { return false };
        !self.lanes.is_first(&lane, place)
    }

    /// Lets the next of its lane come forward.
    fn leave_lane(&mut self, entry: &mut Entry) {
        let Some((place, lane)) = entry.place.take().zip(lane_of(&entry.task)) else { return };
        let Some(next) = self.lanes.leave(&lane, place) else { return };
        let Some(next) = self.live.get(&next).filter(|next| next.lease_until.is_none()) else {
            return;
        };
        if let Some(index) = self.queues.get_mut(&next.task.queue) {
            index.behind -= 1;
            index.pending.insert((next.task.due, next.task.id));
        }
    }

    /// What a task that is gone leaves behind.
    fn forget(&mut self, mut entry: Entry) {
        self.payload_bytes -= entry.task.payload.len();
        self.leave_lane(&mut entry);
    }

    fn take_held(&mut self, task: &LeasedTask) -> Option<Entry> {
        let held = self.live.get(&task.id)?;
        let ours = held.attempt == task.attempt && held.lease_until.is_some();
        if ours { self.take(task.id) } else { None }
    }

    fn take(&mut self, id: TaskId) -> Option<Entry> {
        let entry = self.live.remove(&id)?;
        let is_behind = self.is_behind(&entry);
        if let Some(index) = self.queues.get_mut(&entry.task.queue) {
            match entry.lease_until {
                Some(until) => _ = index.leased.remove(&(until, id)),
                None if is_behind => index.behind -= 1,
                None => match (entry.joined, group_of(&entry.task)) {
                    (None, None) => _ = index.pending.remove(&(entry.task.due, id)),
                    (None, Some(_)) => _ = index.coming.remove(&(entry.task.due, id)),
                    (Some(place), group) => {
                        index.joined -= 1;
                        self.groups.take(group, place, id);
                    }
                },
            }
            // Names of queues come from callers: an empty index must not stay.
            if index.waiting() == 0 && index.leased.is_empty() {
                self.queues.remove(&entry.task.queue);
            }
        }
        Some(entry)
    }
}

impl Index {
    /// How many wait for whatever it is.
    fn waiting(&self) -> usize {
        self.pending.len() + self.behind + self.coming.len() + self.joined
    }

    fn first_moment(&self) -> Option<UnixMillis> {
        let firsts = [self.pending.first(), self.coming.first(), self.leased.first()];
        firsts.into_iter().flatten().map(|(moment, _)| *moment).min()
    }
}

impl Dead {
    fn show(&self) -> DeadTask {
        let task = &self.entry.task;
        DeadTask {
            id: task.id,
            queue: task.queue.clone(),
            kind: task.kind.clone(),
            payload: task.payload.clone(),
            attempts: self.entry.attempt,
            cause: self.cause.clone(),
            created: self.entry.created,
            died: self.died,
        }
    }
}

fn group_of(task: &NewTask) -> Option<GroupName> {
    task.group.as_ref().map(|group| (task.queue.clone(), group.clone()))
}

fn lane_of(task: &NewTask) -> Option<LaneName> {
    task.lane.as_ref().map(|lane| (task.queue.clone(), lane.key.clone()))
}

/// The ids whose moment has come, earliest first.
fn ready(
    index: &BTreeSet<(UnixMillis, TaskId)>,
    now: UnixMillis,
) -> impl Iterator<Item = TaskId> + '_ {
    index.iter().take_while(move |(moment, _)| *moment <= now).map(|(_, id)| *id)
}

fn overloaded(bound: &'static str, max: usize) -> Error {
    Error::overloaded(bound).with_context("max", max).during("queue.enqueue")
}
