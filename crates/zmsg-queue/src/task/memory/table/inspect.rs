//! What a table tells people, and what they may do to one task.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use zmsg_core::{Result, TaskId, UnixMillis};

use super::groups::Place as Standing;
use super::{Dead, Entry, Index, Table};
use crate::task::inspect::{
    Act, BY_HAND, Place, QUEUES_MAX, QueueSummary, Stage, TaskInfo, closed_in, held,
};

impl Table {
    pub(in super::super) fn queues(&self) -> Vec<String> {
        let dead = self.dead.values().map(|dead| &dead.entry.task.queue);
        let names: BTreeSet<_> = self.queues.keys().chain(&self.paused).chain(dead).collect();
        names.into_iter().take(QUEUES_MAX).cloned().collect()
    }

    pub(in super::super) fn summary(&self, queue: &str, now: UnixMillis) -> QueueSummary {
        let index = self.queues.get(queue);
        let at = |stage| self.at(queue, stage, now).len() as u64;
        let first = index.and_then(|it| it.pending.first()).and_then(|(_, id)| self.live.get(id));
        let since = |moment: UnixMillis| now.checked_sub(moment).map(Duration::from_millis);
        QueueSummary {
            queue: queue.to_owned(),
            paused: self.is_paused(queue),
            pending: at(Stage::Pending),
            scheduled: at(Stage::Scheduled),
            aggregating: at(Stage::Aggregating),
            retry: at(Stage::Retry),
            active: at(Stage::Active),
            dead: self.dead.values().filter(|dead| dead.entry.task.queue == queue).count() as u64,
            oldest_age: first.and_then(|entry| since(entry.created)),
            latency: index.and_then(Index::first_moment).and_then(since),
            ..QueueSummary::default()
        }
    }

    /// The live tasks of a queue at a stage, those behind others of their lanes too, by their places.
    fn at(
        &self,
        queue: &str,
        stage: Stage,
        now: UnixMillis,
    ) -> BTreeMap<(UnixMillis, TaskId), &Entry> {
        let there = self.live.values().filter(|entry| entry.task.queue == queue);
        let there = there.filter(|entry| entry.stage(now) == stage);
        there
            .map(|entry| ((entry.lease_until.unwrap_or(entry.moment()), entry.task.id), entry))
            .collect()
    }

    pub(in super::super) fn list(
        &self,
        queue: &str,
        stage: Stage,
        after: Option<Place>,
        limit: usize,
        now: UnixMillis,
    ) -> Vec<TaskInfo> {
        if stage == Stage::Dead {
            let from = after.map_or(Bound::Unbounded, |place| Bound::Excluded(place.id));
            let behind = self.dead.range((from, Bound::Unbounded)).map(|(_, dead)| dead);
            let of_queue = behind.filter(|dead| dead.entry.task.queue == queue);
            return of_queue.take(limit).map(Dead::info).collect();
        }
        let from = after.map_or(Bound::Unbounded, |it| Bound::Excluded((it.moment, it.id)));
        let there = self.at(queue, stage, now);
        let behind = there.range((from, Bound::Unbounded));
        behind.take(limit).map(|(_, entry)| entry.info(now)).collect()
    }

    pub(in super::super) fn info(
        &self,
        queue: Option<&str>,
        id: TaskId,
        now: UnixMillis,
    ) -> Option<TaskInfo> {
        let live = self.live.get(&id).map(|entry| entry.info(now));
        let found = live.or_else(|| self.dead.get(&id).map(Dead::info));
        found.filter(|info| queue.is_none_or(|queue| info.queue == queue))
    }

    pub(in super::super) fn payload(&self, queue: Option<&str>, id: TaskId) -> Option<Bytes> {
        let dead = || self.dead.get(&id).map(|dead| &dead.entry);
        let task = &self.live.get(&id).or_else(dead)?.task;
        queue.is_none_or(|queue| task.queue == queue).then(|| task.payload.clone())
    }

    pub(in super::super) fn run_now(
        &mut self,
        queue: Option<&str>,
        id: TaskId,
        now: UnixMillis,
    ) -> Result<Act> {
        let Some(stage) = self.free_stage(queue, id, now)? else { return Ok(Act::Unknown) };
        match stage {
            Stage::Pending => return Ok(Act::Already),
            Stage::Dead => {
                self.retry_dead(id, now)?;
            }
            _ => {
                if let Some(mut entry) = self.take(id) {
                    entry.task.due = now;
                    entry.lease_until = None;
                    // By hand, it runs without the others of its group.
                    (entry.task.group, entry.joined) = (None, None);
                    self.put(entry);
                }
            }
        }
        Ok(Act::Done)
    }

    pub(in super::super) fn archive(
        &mut self,
        queue: Option<&str>,
        id: TaskId,
        now: UnixMillis,
    ) -> Result<Act> {
        match self.free_stage(queue, id, now)? {
            None => return Ok(Act::Unknown),
            Some(Stage::Dead) => return Ok(Act::Already),
            Some(_) => {}
        }
        if let Some(entry) = self.take(id) {
            let cause = entry.last_error.clone().unwrap_or_else(|| BY_HAND.to_owned());
            self.keep_dead(entry, cause, now);
        }
        Ok(Act::Done)
    }

    pub(in super::super) fn delete(
        &mut self,
        queue: Option<&str>,
        id: TaskId,
        now: UnixMillis,
    ) -> Result<Act> {
        if self.free_stage(queue, id, now)?.is_none() {
            return Ok(Act::Unknown);
        }
        if let Some(entry) = self.take(id) {
            self.forget(entry);
        } else {
            self.drop_dead(id);
        }
        Ok(Act::Done)
    }

    /// Where a task stands that no worker holds.
    fn free_stage(
        &self,
        queue: Option<&str>,
        id: TaskId,
        now: UnixMillis,
    ) -> Result<Option<Stage>> {
        let Some(info) = self.info(queue, id, now) else { return Ok(None) };
        if info.is_held() {
            return Err(held(&info));
        }
        let joined = self.live.get(&id).and_then(|entry| entry.joined);
        if let Some(Standing::Closed(..)) = joined {
            return Err(closed_in(id, info.group.as_deref().unwrap_or_default()));
        }
        Ok(Some(info.stage))
    }
}

impl Entry {
    /// When it is due, or when it joined its group.
    fn moment(&self) -> UnixMillis {
        match self.joined {
            Some(Standing::Waiting(joined) | Standing::Closed(joined, _)) => joined,
            None => self.task.due,
        }
    }

    fn stage(&self, now: UnixMillis) -> Stage {
        if self.lease_until.is_some() {
            Stage::Active
        } else if self.joined.is_some() {
            Stage::Aggregating
        } else if self.task.due <= now && self.task.group.is_none() {
            Stage::Pending
        } else if self.attempt > self.attempts_spared {
            Stage::Retry
        } else {
            Stage::Scheduled
        }
    }

    fn info(&self, now: UnixMillis) -> TaskInfo {
        let left = self.lease_until.map(|until| until.saturating_sub(now));
        TaskInfo {
            id: self.task.id,
            name: None,
            queue: self.task.queue.clone(),
            kind: self.task.kind.clone(),
            payload_bytes: self.task.payload.len() as u64,
            stage: self.stage(now),
            attempts: self.attempt,
            attempts_spent: self.attempt.saturating_sub(self.attempts_spared),
            attempts_max: self.task.attempts_max,
            group: self.task.group.clone(),
            due: self.moment(),
            lease_until: self.lease_until,
            lease_left: left.map(Duration::from_millis),
            last_error: self.last_error.clone(),
            created: Some(self.created),
            died: None,
        }
    }
}

impl Dead {
    fn info(&self) -> TaskInfo {
        TaskInfo {
            stage: Stage::Dead,
            lease_until: None,
            lease_left: None,
            last_error: Some(self.cause.clone()),
            died: Some(self.died),
            ..self.entry.info(0)
        }
    }
}
