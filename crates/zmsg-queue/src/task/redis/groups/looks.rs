//! Groups in Redis as people and aggregators look at them.

use std::collections::BTreeSet;
use std::time::Duration;

use zmsg_core::{Result, UnixMillis};
use zmsg_redis::RedisKey;
use zmsg_redis::redis::{cmd, pipe};

use crate::task::groups::{GroupInfo, GroupRules, RipeGroups};
use crate::task::inspect::{Place, Stage, TaskInfo, closed_in};
use crate::task::redis::RedisTaskQueue;
use crate::task::redis::infos::Seen;
use crate::task::redis::keys::Keys;

/// Groups that one round trip asks about.
const AT_ONCE: usize = 500;

/// So many pages of tasks that are due are looked through at a time; a lease finds those behind them.
const PAGES: usize = 10;

/// How many are in a group, its first and its last, each with the second in which it joined.
type Ends = (u64, Vec<(String, u64)>, Vec<(String, u64)>);

impl RedisTaskQueue {
    pub(super) async fn list_groups(&self, queue: &str) -> Result<Vec<GroupInfo>> {
        let keys = Keys::of(queue);
        let names: Vec<String> =
            self.group_names(&keys).await?.into_iter().take(GroupInfo::GROUPS_MAX).collect();
        let now = self.count(&keys).await?.now;
        let mut groups = Vec::with_capacity(names.len());
        for names in names.chunks(AT_ONCE) {
            let ends = self.ends(&keys, names).await?;
            groups.extend(names.iter().zip(ends).filter_map(|(name, ends)| info(name, ends, now)));
        }
        Ok(groups)
    }

    pub(super) async fn find_ripe(&self, queue: &str, rules: &GroupRules) -> Result<RipeGroups> {
        let keys = Keys::of(queue);
        self.gather(&keys).await?;
        let mut ripe = RipeGroups::default();
        let names: Vec<String> = self.group_names(&keys).await?.into_iter().collect();
        if names.is_empty() {
            return Ok(ripe);
        }
        let now = self.count(&keys).await?.now;
        for names in names.chunks(AT_ONCE) {
            for (name, ends) in names.iter().zip(self.ends(&keys, names).await?) {
                // Who closes an empty one takes its name away.
                let wait = info(name, ends, now).map_or(Duration::ZERO, |it| {
                    let size = usize::try_from(it.tasks).unwrap_or(usize::MAX);
                    rules.wait(size, it.oldest_age, it.youngest_age)
                });
                ripe.note(name, wait);
            }
        }
        Ok(ripe)
    }

    /// Lets tasks join their groups that are due, also where nobody leases: the queue is paused, or has no
    /// worker of its own.
    async fn gather(&self, keys: &Keys) -> Result<()> {
        let now_s = self.count(keys).await?.now / 1_000;
        for set in [keys.scheduled(), keys.retry()] {
            let mut others = 0;
            for _ in 0..PAGES {
                let mut ask = cmd("ZRANGE");
                ask.arg(&set).arg("-inf").arg(now_s).arg("BYSCORE");
                ask.arg("LIMIT").arg(others).arg(AT_ONCE);
                let page: Vec<String> = self.redis.query(&ask).await?;
                if page.is_empty() {
                    break;
                }
                let mut ask = pipe();
                page.iter().for_each(|text| _ = ask.hget(keys.task(text), "group"));
                let groups: Vec<Option<String>> = self.redis.pipeline(&ask).await?;
                let found = page.len();
                let joining: Vec<_> = page
                    .into_iter()
                    .zip(groups)
                    .filter_map(|(text, group)| Some((text, group.filter(|it| !it.is_empty())?)))
                    .collect();
                others += found - joining.len();
                self.join_groups(keys, &joining).await?;
            }
        }
        Ok(())
    }

    /// The names of all groups, read by pages.
    async fn group_names(&self, keys: &Keys) -> Result<BTreeSet<String>> {
        let (mut names, mut cursor) = (BTreeSet::new(), 0_u64);
        loop {
            let mut ask = cmd("SSCAN");
            ask.arg(keys.groups()).arg(cursor).arg("COUNT").arg(AT_ONCE);
            let (next, page): (u64, Vec<String>) = self.redis.query(&ask).await?;
            names.extend(page);
            if next == 0 {
                return Ok(names);
            }
            cursor = next;
        }
    }

    async fn ends(&self, keys: &Keys, names: &[String]) -> Result<Vec<Ends>> {
        let mut ask = pipe();
        for name in names {
            let group = keys.group(name);
            ask.zcard(&group).zrange_withscores(&group, 0, 0).zrange_withscores(&group, -1, -1);
        }
        self.redis.pipeline(&ask).await
    }

    /// The keys of all closed sets.
    async fn closed_sets(&self, keys: &Keys) -> Result<Vec<String>> {
        let mut found = Vec::new();
        loop {
            let mut ask = cmd("ZRANGE");
            ask.arg(keys.sets()).arg(found.len()).arg(found.len() + AT_ONCE - 1);
            let page: Vec<String> = self.redis.query(&ask).await?;
            let is_last = page.len() < AT_ONCE;
            found.extend(page);
            if is_last {
                return Ok(found);
            }
        }
    }

    /// Where members stand, by the names of their groups: the groups, each before its sets.
    async fn places(&self, keys: &Keys) -> Result<Vec<(String, RedisKey)>> {
        let names = self.group_names(keys).await?;
        let mut places: BTreeSet<(String, Option<String>)> =
            names.into_iter().map(|name| (name, None)).collect();
        for set in self.closed_sets(keys).await? {
            if let Some(group) = keys.group_of_set(&set).map(str::to_owned) {
                places.insert((group, Some(set)));
            }
        }
        let key = |group: &str, set: Option<String>| {
            set.map_or_else(|| keys.group(group), RedisKey::verbatim)
        };
        Ok(places.into_iter().map(|(group, set)| (group.clone(), key(&group, set))).collect())
    }

    /// How many tasks wait in groups and closed sets, those of asynq's clients too.
    pub(in crate::task::redis) async fn count_grouped(&self, keys: &Keys) -> Result<u64> {
        let mut count = 0;
        for places in self.places(keys).await?.chunks(AT_ONCE) {
            let mut ask = pipe();
            places.iter().for_each(|(_, key)| _ = ask.zcard(key));
            let counts: Vec<u64> = self.redis.pipeline(&ask).await?;
            count += counts.iter().sum::<u64>();
        }
        Ok(count)
    }

    /// Those that wait in groups, group by group.
    pub(in crate::task::redis) async fn list_grouped(
        &self,
        queue: &str,
        keys: &Keys,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<TaskInfo>> {
        let mut places = self.places(keys).await?;
        let mut start = 0;
        if let Some(after) = after {
            let Some((at, rank)) = self.place_behind(keys, &places, after).await? else {
                return Ok(Vec::new());
            };
            (places, start) = (places.split_off(at), rank);
        }
        let mut found = Vec::new();
        for (_, key) in places {
            while found.len() < limit {
                let wanted = limit - found.len();
                let mut ask = cmd("ZRANGE");
                ask.arg(&key).arg(start).arg(start + wanted - 1).arg("WITHSCORES");
                let joined: Vec<(String, u64)> = self.redis.query(&ask).await?;
                found.extend(self.look_at_joined(queue, keys, &joined).await?);
                start += joined.len();
                if joined.len() < wanted {
                    break;
                }
            }
            start = 0;
        }
        Ok(found)
    }

    /// Those of some tasks that wait in groups, each with the second in which it joined.
    async fn look_at_joined(
        &self,
        queue: &str,
        keys: &Keys,
        joined: &[(String, u64)],
    ) -> Result<Vec<TaskInfo>> {
        let texts: Vec<String> = joined.iter().map(|(text, _)| text.clone()).collect();
        let mut infos = Vec::with_capacity(texts.len());
        for seen in self.look_at(queue, keys, &texts).await? {
            let Seen { mut info, text, .. } = seen;
            // Others may have moved since.
            if info.stage != Stage::Aggregating {
                continue;
            }
            if info.due == 0 {
                // One of asynq's.
                let of_asynq = joined.iter().find(|(other, _)| *other == text);
                info.due = of_asynq.map_or(0, |(_, joined_s)| joined_s.saturating_mul(1_000));
            }
            infos.push(info);
        }
        Ok(infos)
    }

    /// Which of these places a task stands in, and the rank behind it there.
    async fn place_behind(
        &self,
        keys: &Keys,
        places: &[(String, RedisKey)],
        after: Place,
    ) -> Result<Option<(usize, usize)>> {
        let text = self.text_of(keys, after.id).await?;
        let mut ask = cmd("HGET");
        let group: Option<String> =
            self.redis.query(ask.arg(keys.task(&text)).arg("group")).await?;
        let of_group = places.iter().enumerate().filter(|(_, (of, _))| group.as_ref() == Some(of));
        for (at, (_, key)) in of_group {
            let mut ask = cmd("ZRANK");
            let rank: Option<usize> = self.redis.query(ask.arg(key).arg(&text)).await?;
            if let Some(rank) = rank {
                return Ok(Some((at, rank + 1)));
            }
        }
        Ok(None)
    }

    /// Refuses to act on what an aggregator has.
    pub(in crate::task::redis) async fn check_in_group(
        &self,
        keys: &Keys,
        seen: &Seen,
    ) -> Result<()> {
        let Some(group) = seen.waiting_in() else { return Ok(()) };
        let mut ask = cmd("ZSCORE");
        ask.arg(keys.group(group)).arg(&seen.text);
        match self.redis.query::<Option<f64>>(&ask).await? {
            Some(_) => Ok(()),
            None => Err(closed_in(seen.info.id, group)),
        }
    }
}

fn info(name: &str, ends: Ends, now: UnixMillis) -> Option<GroupInfo> {
    let (tasks, first, last) = ends;
    let age =
        |joined_s: u64| Duration::from_millis(now.saturating_sub(joined_s.saturating_mul(1_000)));
    Some(GroupInfo {
        group: name.to_owned(),
        tasks,
        oldest_age: age(first.first()?.1),
        youngest_age: age(last.first()?.1),
    })
}
