//! Tasks of a table that wait for the others of their groups.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use uuid::Uuid;
use zmsg_core::{Result, TaskId, UnixMillis};

use super::{Entry, Table, overloaded, ready};
use crate::task::groups::{
    ClosedGroup, GroupInfo, GroupMember, GroupRules, ID_TAKEN, RipeGroups, refused,
};
use crate::task::record::NewTask;

/// Where a task stands that has joined its group, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Waiting(UnixMillis),
    /// In this set, which somebody aggregates.
    Closed(UnixMillis, Uuid),
}

/// A queue and the name of a group in it.
pub(super) type GroupName = (String, String);

/// The members of all groups. A group is here while a task waits in it.
#[derive(Debug, Default)]
pub(super) struct Groups {
    waiting: BTreeMap<GroupName, BTreeSet<(UnixMillis, TaskId)>>,
    closed: HashMap<Uuid, Closed>,
}

/// A set that somebody aggregates.
#[derive(Debug)]
struct Closed {
    queue: String,
    until: UnixMillis,
    members: Vec<TaskId>,
}

impl Groups {
    pub(super) fn put(&mut self, group: Option<GroupName>, place: Place, id: TaskId) {
        if let (Some(group), Place::Waiting(joined)) = (group, place) {
            self.waiting.entry(group).or_default().insert((joined, id));
        }
    }

    pub(super) fn take(&mut self, group: Option<GroupName>, place: Place, id: TaskId) {
        let (Some(group), Place::Waiting(joined)) = (group, place) else { return };
        let Some(members) = self.waiting.get_mut(&group) else { return };
        members.remove(&(joined, id));
        // Names of groups come from callers: an empty one must not stay.
        if members.is_empty() {
            self.waiting.remove(&group);
        }
    }

    /// The groups of a queue in the order of their names.
    fn of_queue(&self, queue: &str, now: UnixMillis) -> impl Iterator<Item = GroupInfo> {
        let from = (queue.to_owned(), String::new());
        let of_queue = self.waiting.range(from..).take_while(move |((of, _), _)| of == queue);
        of_queue.filter_map(move |((_, group), members)| info(group, members, now))
    }
}

fn info(
    group: &str,
    members: &BTreeSet<(UnixMillis, TaskId)>,
    now: UnixMillis,
) -> Option<GroupInfo> {
    let age =
        |(joined, _): &(UnixMillis, TaskId)| Duration::from_millis(now.saturating_sub(*joined));
    Some(GroupInfo {
        group: group.to_owned(),
        tasks: members.len() as u64,
        oldest_age: age(members.first()?),
        youngest_age: age(members.last()?),
    })
}

impl Table {
    /// Lets those join their groups that are due.
    pub(in super::super) fn gather(&mut self, queue: &str, now: UnixMillis) {
        let Some(index) = self.queues.get(queue) else { return };
        let due: Vec<TaskId> = ready(&index.coming, now).collect();
        for id in due {
            if let Some(mut entry) = self.take(id) {
                entry.joined = Some(Place::Waiting(now));
                self.put(entry);
            }
        }
    }

    pub(in super::super) fn groups(&mut self, queue: &str, now: UnixMillis) -> Vec<GroupInfo> {
        self.gather(queue, now);
        self.groups.of_queue(queue, now).take(GroupInfo::GROUPS_MAX).collect()
    }

    pub(in super::super) fn ripe_groups(
        &mut self,
        queue: &str,
        rules: &GroupRules,
        now: UnixMillis,
    ) -> RipeGroups {
        self.gather(queue, now);
        let mut ripe = RipeGroups::default();
        for info in self.groups.of_queue(queue, now) {
            let size = usize::try_from(info.tasks).unwrap_or(usize::MAX);
            ripe.note(&info.group, rules.wait(size, info.oldest_age, info.youngest_age));
        }
        ripe
    }

    pub(in super::super) fn close_group(
        &mut self,
        queue: &str,
        group: &str,
        rules: &GroupRules,
        now: UnixMillis,
        until: UnixMillis,
    ) -> Option<ClosedGroup> {
        self.gather(queue, now);
        let name = (queue.to_owned(), group.to_owned());
        let members = self.groups.waiting.get(&name)?;
        let GroupInfo { oldest_age, youngest_age, .. } = info(group, members, now)?;
        if !rules.wait(members.len(), oldest_age, youngest_age).is_zero() {
            return None;
        }
        let first: Vec<_> = members.iter().take(rules.size()).copied().collect();
        let set = Uuid::new_v4();
        for (joined, id) in &first {
            self.stand(*id, Place::Closed(*joined, set));
        }
        let ids = first.iter().map(|(_, id)| *id).collect();
        self.groups.closed.insert(set, Closed { queue: queue.to_owned(), until, members: ids });
        let members = first
            .into_iter()
            .filter_map(|(joined, id)| self.live.get(&id).map(|entry| entry.member(joined)));
        let (queue, group, members) = (name.0, name.1, members.collect());
        Some(ClosedGroup { queue, group, set, members })
    }

    pub(in super::super) fn settle_group(
        &mut self,
        closed: &ClosedGroup,
        aggregate: NewTask,
        now: UnixMillis,
    ) -> Result<bool> {
        let id = aggregate.id;
        let Some(set) = self.groups.closed.get(&closed.set) else {
            let known = self.live.get(&id).or_else(|| self.dead.get(&id).map(|it| &it.entry));
            return Ok(known.is_some_and(|it| it.made_of == Some(closed.set)));
        };
        if self.knows(id) {
            return Err(refused(closed, id, ID_TAKEN));
        }
        let freed = set.members.iter().filter_map(|id| self.live.get(id));
        let freed: usize = freed.map(|entry| entry.task.payload.len()).sum();
        let bytes = self.payload_bytes - freed + aggregate.payload.len();
        if bytes > self.options.payload_bytes_max && aggregate.payload.len() > freed {
            return Err(overloaded("payload_bytes_max", self.options.payload_bytes_max));
        }
        let Some(set) = self.groups.closed.remove(&closed.set) else { return Ok(false) };
        for id in set.members {
            if let Some(entry) = self.take(id) {
                self.forget(entry);
            }
        }
        // There is room: it is one for at least one.
        self.enqueue_all(vec![aggregate], now)?;
        if let Some(entry) = self.live.get_mut(&id) {
            entry.made_of = Some(closed.set);
        }
        Ok(true)
    }

    pub(in super::super) fn reopen_group(&mut self, set: Uuid) -> bool {
        let Some(closed) = self.groups.closed.remove(&set) else { return false };
        for id in closed.members {
            let joined = self.live.get(&id).and_then(|entry| entry.joined);
            if let Some(Place::Closed(joined, _)) = joined {
                self.stand(id, Place::Waiting(joined));
            }
        }
        true
    }

    pub(in super::super) fn reopen_overdue(&mut self, queue: &str, now: UnixMillis) -> usize {
        let closed = self.groups.closed.iter();
        let overdue = closed.filter(|(_, set)| set.queue == queue && set.until <= now);
        let overdue: Vec<Uuid> = overdue.map(|(set, _)| *set).collect();
        overdue.into_iter().filter(|set| self.reopen_group(*set)).count()
    }

    fn stand(&mut self, id: TaskId, place: Place) {
        if let Some(mut entry) = self.take(id) {
            entry.joined = Some(place);
            self.put(entry);
        }
    }
}

impl Entry {
    fn member(&self, joined: UnixMillis) -> GroupMember {
        GroupMember {
            id: self.task.id,
            name: None,
            kind: self.task.kind.clone(),
            payload: self.task.payload.clone(),
            joined,
        }
    }
}
