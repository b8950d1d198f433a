//! A queue in Redis as people look at it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use zmsg_core::{Error, ErrorKind, Result, TaskId};
use zmsg_redis::RedisKey;
use zmsg_redis::redis::{cmd, pipe};

use super::RedisTaskQueue;
use super::infos::Seen;
use super::keys::Keys;
use super::names::id_of;
use crate::task::inspect::{
    Act, Place, QUEUES_MAX, QueueSummary, Stage, TaskInfo, TaskInspector, page,
};

/// A queue's counts: those at each stage, the pause, the day's numbers, and who may be first in line.
type Counts = (
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    bool,
    Option<u64>,
    Option<u64>,
    Vec<String>,
    Vec<String>,
    Option<String>,
);

#[async_trait]
impl TaskInspector for RedisTaskQueue {
    async fn queues(&self) -> Result<Vec<String>> {
        self.open()?;
        let names = self.named_queues().await.map_err(|error| error.during("queue.queues"))?;
        Ok(names.into_iter().take(QUEUES_MAX).collect())
    }

    async fn summary(&self, queue: &str) -> Result<QueueSummary> {
        self.open()?;
        self.sum_up(queue).await.map_err(|error| error.during("queue.summary"))
    }

    async fn tasks(
        &self,
        queue: &str,
        stage: Stage,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<TaskInfo>> {
        self.open()?;
        let listed = self.list(queue, stage, after, page(limit)).await;
        listed.map_err(|error| error.during("queue.tasks"))
    }

    async fn task(&self, queue: Option<&str>, id: TaskId) -> Result<Option<TaskInfo>> {
        self.open()?;
        let seen = self.see(queue, id).await.map_err(|error| error.during("queue.task"))?;
        Ok(seen.map(|(_, seen)| seen.info))
    }

    async fn payload(&self, queue: Option<&str>, id: TaskId) -> Result<Option<Bytes>> {
        self.open()?;
        let seen = self.see(queue, id).await.map_err(|error| error.during("queue.payload"))?;
        Ok(seen.map(|(_, seen)| seen.message.payload))
    }

    async fn run_now(&self, queue: Option<&str>, id: TaskId) -> Result<Act> {
        self.open()?;
        let act = self.run_one(queue, id).await.map_err(|it| it.during("queue.run_now"))?;
        self.told(act == Act::Done);
        Ok(act)
    }

    async fn archive(&self, queue: Option<&str>, id: TaskId) -> Result<Act> {
        self.open()?;
        let act = self.archive_one(queue, id).await.map_err(|it| it.during("queue.archive"))?;
        // The next of its lane may be due.
        self.told(act == Act::Done);
        Ok(act)
    }

    async fn delete(&self, queue: Option<&str>, id: TaskId) -> Result<Act> {
        self.open()?;
        let act = self.delete_one(queue, id).await.map_err(|it| it.during("queue.delete"))?;
        self.told(act == Act::Done);
        Ok(act)
    }
}

impl RedisTaskQueue {
    async fn sum_up(&self, queue: &str) -> Result<QueueSummary> {
        let keys = Keys::of(queue);
        let wall = self.clock.wall();
        let ([_, processed], [_, failed]) = (keys.processed(wall), keys.failed(wall));
        let mut ask = pipe();
        ask.llen(keys.pending()).zcard(keys.scheduled()).zcard(keys.retry());
        ask.llen(keys.active()).zcard(keys.archived()).zcard(keys.completed());
        ask.exists(keys.paused()).get(processed).get(failed);
        // Tasks of others may be known to asynq alone.
        ask.zrange(keys.due(), 0, 0).zrange(keys.scheduled(), 0, 0).lindex(keys.pending(), -1);
        let counts: Counts = self.redis.pipeline(&ask).await?;
        let (pending, scheduled, retry, active, dead, completed, ..) = counts;
        let (.., paused, processed, failed, mut first_due, mut first_timed, oldest) = counts;
        let aggregating = self.count_grouped(&keys).await?;
        let counted = self.count(&keys).await?;
        let created = match first_due.pop().or(oldest).or_else(|| first_timed.pop()) {
            Some(text) => self.created(&keys, &text).await?,
            None => None,
        };
        let since = |at: u64| counted.now.checked_sub(at).map(Duration::from_millis);
        Ok(QueueSummary {
            queue: queue.to_owned(),
            paused,
            pending,
            scheduled,
            aggregating,
            retry,
            active,
            dead,
            completed,
            oldest_age: created.and_then(since),
            latency: counted.first.and_then(since),
            processed_today: Some(processed.unwrap_or(0)),
            failed_today: Some(failed.unwrap_or(0)),
        })
    }

    /// When a task was enqueued: asynq notes it for those that were due at once.
    async fn created(&self, keys: &Keys, text: &str) -> Result<Option<u64>> {
        let mut ask = cmd("HMGET");
        ask.arg(keys.task(text)).arg(&["zmsg_created", "pending_since"]);
        let (created, since): (Option<u64>, Option<u64>) = self.redis.query(&ask).await?;
        Ok(created.or(since.map(|nanoseconds| nanoseconds / 1_000_000)))
    }

    async fn list(
        &self,
        queue: &str,
        stage: Stage,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<TaskInfo>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let keys = Keys::of(queue);
        if stage == Stage::Aggregating {
            return self.list_grouped(queue, &keys, after, limit).await;
        }
        let mut start = match (stage, after) {
            (_, None) | (Stage::Dead, _) => 0,
            (_, Some(place)) => self.behind(&keys, stage, place).await?,
        };
        loop {
            let texts = match stage {
                Stage::Dead => self.dead_behind(&keys, after, limit).await?,
                _ => self.range(&keys, stage, start, limit).await?,
            };
            let is_last = texts.len() < limit || stage == Stage::Dead;
            start += texts.len();
            let mut seen = self.look_at(queue, &keys, &texts).await?;
            // Others may have moved since.
            seen.retain(|seen| seen.info.stage == stage);
            if is_last || !seen.is_empty() {
                return Ok(seen.into_iter().map(|seen| seen.info).collect());
            }
        }
    }

    /// The texts of some tasks at a stage, from the place `start` on.
    async fn range(
        &self,
        keys: &Keys,
        stage: Stage,
        start: usize,
        limit: usize,
    ) -> Result<Vec<String>> {
        let Some(set) = set_of(keys, stage) else {
            // The oldest are last.
            let (from, to) = (-((start + limit).cast_signed()), -(start.cast_signed()) - 1);
            let mut ask = cmd("LRANGE");
            ask.arg(keys.pending()).arg(from).arg(to);
            let mut texts: Vec<String> = self.redis.query(&ask).await?;
            texts.reverse();
            return Ok(texts);
        };
        let mut ask = cmd("ZRANGE");
        ask.arg(set).arg(start).arg(start + limit - 1);
        self.redis.query(&ask).await
    }

    /// How many stand up to and with a place; without the task of that place, those before its second.
    async fn behind(&self, keys: &Keys, stage: Stage, place: Place) -> Result<usize> {
        let text = self.text_of(keys, place.id).await?;
        let Some(set) = set_of(keys, stage) else {
            let mut ask = cmd("LPOS");
            ask.arg(keys.pending()).arg(&text).arg("RANK").arg(-1);
            let mut length = cmd("LLEN");
            let (at, length): (Option<usize>, usize) = (
                self.redis.query(&ask).await?,
                self.redis.query(length.arg(keys.pending())).await?,
            );
            return Ok(at.map_or(0, |at| length.saturating_sub(at)));
        };
        let mut rank = cmd("ZRANK");
        let rank: Option<usize> = self.redis.query(rank.arg(&set).arg(&text)).await?;
        if let Some(rank) = rank {
            return Ok(rank + 1);
        }
        let mut before = cmd("ZCOUNT");
        before.arg(&set).arg("-inf").arg(format!("({}", place.moment.div_ceil(1_000)));
        self.redis.query(&before).await
    }

    async fn dead_behind(
        &self,
        keys: &Keys,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<String>> {
        let all = self.archived(keys).await?.into_iter();
        let mut behind: Vec<_> = all
            .map(|(text, _)| (id_of(&text), text))
            .filter(|(id, _)| after.is_none_or(|after| *id > after.id))
            .collect();
        behind.sort_unstable();
        behind.truncate(limit);
        Ok(behind.into_iter().map(|(_, text)| text).collect())
    }

    /// The one task of an id, in this queue or in whichever has it.
    pub(super) async fn see(
        &self,
        queue: Option<&str>,
        id: TaskId,
    ) -> Result<Option<(Keys, Seen)>> {
        let queues = match queue {
            Some(queue) => vec![queue.to_owned()],
            None => self.named_queues().await?,
        };
        let mut found: Option<(Keys, Seen)> = None;
        for queue in queues {
            let keys = Keys::of(&queue);
            let text = self.text_of(&keys, id).await?;
            let Some(seen) = self.look_at(&queue, &keys, &[text]).await?.pop() else {
                self.forget_name(&keys, id).await?;
                continue;
            };
            if let Some((_, other)) = found {
                let why = "several queues have a task of this id: name the queue";
                return Err(Error::new(ErrorKind::Conflict, why)
                    .with_context("id", id)
                    .with_context("queue", other.info.queue)
                    .with_context("other", queue));
            }
            found = Some((keys, seen));
        }
        Ok(found)
    }
}

/// The set of a stage, by seconds; what is pending stands in a list.
fn set_of(keys: &Keys, stage: Stage) -> Option<RedisKey> {
    match stage {
        Stage::Pending => None,
        Stage::Scheduled => Some(keys.scheduled()),
        Stage::Retry => Some(keys.retry()),
        Stage::Active => Some(keys.lease()),
        Stage::Dead => Some(keys.archived()),
        Stage::Completed => Some(keys.completed()),
        // They stand in the sets of their groups.
        Stage::Aggregating => None,
    }
}
